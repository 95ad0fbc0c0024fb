//! The parts of what decoding can enforce: letters, words, sentences, items as the request allows them.
//!
//! They say as much of the request as fits together: the case, the marks and letters that are banned, the beginning
//! and the end, words per sentence. Each is small, and each ends: the model stops where the expression does.

use super::tokens::tokens;
use super::verify::as_usize;
use super::{Mark, Stipulation, Unit};
use crate::checkers::text::{head, literal};

/// Largest repetition in an expression.
pub(super) const MOST: usize = 200;
/// Longest text that stays, bytes, for which what follows is still enforced.
pub(super) const LONGEST_KEPT: usize = 4096;

/// What the request allows, as character classes and numbers.
pub(super) struct Shape<'a> {
    pub(super) all: &'a [Stipulation],
    pub(super) lower: bool,
    pub(super) upper: bool,
    pub(super) commas: bool,
    /// Marks that may end a sentence, as a class; empty if none may.
    pub(super) ends: &'static str,
    letters: Vec<char>,
    /// Whether other letters than those of western European languages, and pictures, are allowed.
    wide: bool,
}

/// Letters of English, Spanish and their neighbours. A model that would rather end than begin another sentence else
/// takes the first capital of any script that its next token can still become.
const LATIN: &str = r"[\x{0}-\x{17F}]";
/// Those a sentence begins with.
const LATIN_FIRST: &str = r"[\x{0}-\x{FF}]";
/// Characters of a text in these languages: letters, digits, marks, dashes, quotation marks, the euro.
const LATIN_TEXT: &str = r"[ -\x{17F}\x{2010}-\x{2026}\x{20AC}]";
/// Words that ask for more than that, folded.
const WIDE: &[&str] = &[
    "emoji",
    "emojis",
    "emoticon",
    "emoticons",
    "emoticono",
    "emoticonos",
    "unicode",
    "russian",
    "ruso",
    "ukrainian",
    "ucraniano",
    "chinese",
    "mandarin",
    "chino",
    "japanese",
    "japones",
    "kanji",
    "hiragana",
    "korean",
    "coreano",
    "arabic",
    "arabe",
    "persian",
    "persa",
    "hebrew",
    "hebreo",
    "greek",
    "griego",
    "hindi",
    "bengali",
    "thai",
    "tailandes",
    "vietnamese",
    "vietnamita",
    "cyrillic",
    "cirilico",
    "sanskrit",
    "sanscrito",
];
/// How much of a request is read for them, bytes.
const READ: usize = 16 * 1024;

/// Whether a request needs more than the letters of western European languages.
pub(super) fn needs_more(asked: &str) -> bool {
    let asked = head(asked, READ);
    asked.chars().any(|c| c.is_alphabetic() && c > '\u{24F}')
        || tokens(asked)
            .iter()
            .any(|token| WIDE.contains(&token.folded.as_str()))
}

impl<'a> Shape<'a> {
    /// The shape of an answer of which `all` is wanted, `wide` where it [`needs_more`] than western letters.
    pub(super) fn new(all: &'a [Stipulation], wide: bool) -> Self {
        let has = |stipulation: Stipulation| all.contains(&stipulation);
        let without = |mark| has(Stipulation::Without(mark));
        let ends = if without(Mark::Punctuation) {
            ""
        } else {
            match (without(Mark::Exclamation), without(Mark::Questions)) {
                (true, true) => "[.]",
                (true, false) => "[.?]",
                (false, true) => "[.!]",
                (false, false) => "[.!?]",
            }
        };
        let letters = all.iter().filter_map(|s| match s {
            Stipulation::AvoidsLetter(letter) => Some(*letter),
            _ => None,
        });
        Self {
            all,
            lower: has(Stipulation::LowerCase),
            upper: has(Stipulation::UpperCase),
            commas: !without(Mark::Commas) && !without(Mark::Punctuation),
            ends,
            letters: letters.collect(),
            wide,
        }
    }

    /// The fewest and the most of a unit.
    pub(super) fn bounds(&self, unit: Unit) -> (Option<usize>, Option<usize>) {
        let counts = self.all.iter().filter_map(|s| match s {
            Stipulation::Count { unit: u, least, most } if *u == unit => {
                Some((least.map(as_usize), most.map(as_usize)))
            }
            _ => None,
        });
        counts.fold((None, None), |(a, b), (c, d)| (a.or(c), b.or(d)))
    }

    /// Without the letters that are banned.
    fn less(&self, class: &str) -> String {
        if self.letters.is_empty() {
            return class.to_owned();
        }
        let mut banned = String::new();
        for letter in &self.letters {
            banned.push(*letter);
            banned.extend(letter.to_uppercase());
            let accented = match letter {
                'a' => "áàâäÁÀÂÄ",
                'e' => "éèêëÉÈÊË",
                'i' => "íìîïÍÌÎÏ",
                'o' => "óòôöÓÒÔÖ",
                'u' => "úùûüÚÙÛÜ",
                _ => "",
            };
            banned.push_str(accented);
        }
        format!("[{class}&&[^{banned}]]")
    }

    /// What a class and the script have in common, without the letters that are banned.
    fn scripted(&self, class: &str, script: &str) -> String {
        if self.wide {
            self.less(class)
        } else {
            self.less(&format!("[{class}&&{script}]"))
        }
    }

    /// A letter or digit within a word.
    pub(super) fn letter(&self) -> String {
        self.scripted(&format!(r"[{}\p{{Nd}}]", self.any_letter()), LATIN)
    }

    /// The first letter of a sentence.
    pub(super) fn first(&self) -> String {
        let class = if self.lower { r"[\p{Ll}]" } else { r"[\p{Lu}]" };
        self.scripted(class, LATIN_FIRST)
    }

    /// Any character within a sentence.
    pub(super) fn inner(&self) -> String {
        let mut class = String::from(r#"[^.!?…\r\n\t*#|"\[\]"#);
        if !self.commas {
            class.push(',');
        }
        if self.ends.is_empty() {
            class.push_str(r"\p{P}");
        } else if self.all.contains(&Stipulation::Without(Mark::Semicolons)) {
            class.push(';');
        }
        if self.lower {
            class.push_str(r"\p{Lu}");
        }
        if self.upper {
            class.push_str(r"\p{Ll}");
        }
        class.push(']');
        self.scripted(&class, LATIN_TEXT)
    }

    pub(super) fn sentence(&self) -> String {
        format!("{}{}{{8,150}}{}", self.first(), self.inner(), self.ends)
    }

    /// A sentence in which `words` stand, in this order.
    pub(super) fn sentence_with(&self, words: &[&str]) -> String {
        let inner = self.inner();
        let mut out = format!("{}{inner}{{1,80}}", self.first());
        for (i, word) in words.iter().enumerate() {
            let word = literal(&self.cased(word));
            let between = if i == 0 {
                " ".to_owned()
            } else {
                format!("{inner}{{0,60}} ")
            };
            out = format!("{out}{between}{word}");
        }
        format!("{out}(?: {inner}{{1,80}})?{}", self.ends)
    }

    pub(super) fn cased(&self, text: &str) -> String {
        if self.lower {
            text.to_lowercase()
        } else if self.upper {
            text.to_uppercase()
        } else {
            text.to_owned()
        }
    }

    pub(super) fn paragraph(&self) -> String {
        let sentence = self.sentence();
        format!("{sentence}(?: {sentence}){{1,3}}")
    }

    pub(super) fn item(&self) -> String {
        format!("{}{}{{2,110}}", self.letter(), self.inner())
    }

    fn any_letter(&self) -> &'static str {
        if self.lower {
            r"\p{Ll}"
        } else if self.upper {
            r"\p{Lu}"
        } else {
            r"\p{L}"
        }
    }

    pub(super) fn line(&self) -> String {
        let end = if self.ends.is_empty() {
            ""
        } else if self.commas {
            "[.,]?"
        } else {
            "[.]?"
        };
        format!("{}{}{{6,70}}{end}", self.first(), self.inner())
    }

    pub(super) fn section(&self) -> String {
        format!(
            "## {}\n\n{}",
            self.item().replace("{2,110}", "{2,40}"),
            self.paragraph()
        )
    }

    /// Between `least` and `most` words, with a full stop after them.
    pub(super) fn words(&self, least: usize, most: usize, one_sentence: bool) -> Option<String> {
        if most == 0 || least > most || most > MOST {
            return None;
        }
        let letter = self.letter();
        let first = if self.lower || self.upper {
            format!("{letter}+")
        } else {
            format!("{}{letter}*", self.first())
        };
        let between = match (
            self.ends.is_empty() || most < 4,
            one_sentence || most < 16,
            self.commas,
        ) {
            (true, ..) | (_, true, false) => " ",
            (_, true, true) => ",? ",
            (_, false, true) => "[,.]? ",
            (_, false, false) => "[.]? ",
        };
        let end = if self.ends.is_empty() { "" } else { r"\." };
        let (from, to) = (least.max(1) - 1, most - 1);
        Some(match (to, from == to) {
            (0, _) => first,
            (_, true) => format!("{first}(?:{between}{letter}+){{{to}}}{end}"),
            _ => format!("{first}(?:{between}{letter}+){{{from},{to}}}{end}"),
        })
    }
}

/// Between `least` and `most` times `part`.
pub(super) fn repeated(part: &str, between: &str, least: usize, most: usize) -> String {
    match (least - 1, most - 1) {
        (_, 0) => part.to_owned(),
        (a, b) if a == b => format!("{part}(?:{between}{part}){{{a}}}"),
        (a, b) => format!("{part}(?:{between}{part}){{{a},{b}}}"),
    }
}
