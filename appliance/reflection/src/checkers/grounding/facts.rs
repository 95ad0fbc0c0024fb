//! What a request says, and what of an answer is not in it.

use std::collections::HashSet;

use crate::checkers::Subject;
use crate::checkers::arithmetic::answer::stated;
use crate::checkers::arithmetic::dates::{month, weekday};
use crate::checkers::numerals::spelled;
use crate::checkers::text::{READ, fences, fold, head, words};
use crate::critique::Language;

/// A place in an answer that the request says nothing of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Loose {
    pub start: usize,
    pub end: usize,
}

/// Everything that a request says.
pub(super) struct Facts {
    /// Its words, folded.
    words: HashSet<String>,
    /// The beginnings of its words, to recognise other forms of them.
    stems: HashSet<String>,
    /// Names are compared only between texts in one language.
    language: Language,
    /// Its numbers, as digits without separators.
    numbers: HashSet<String>,
    values: Vec<i128>,
    /// Its words in a row.
    running: String,
}

/// Letters by which another form of a word is recognised.
const STEM: usize = 3;
/// Most numbers whose sums and differences are taken for read off the text.
const VALUES: usize = 24;
/// Up to here a number may count what the text lists.
const COUNT: i128 = 12;
/// Fewest words of a quotation.
const QUOTED: usize = 3;

fn stem(word: &str) -> String {
    word.chars().take(STEM).collect()
}

/// Digits without their separators; what is left of `1,200.50` is compared as a whole.
fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

impl Facts {
    pub fn of(subject: &Subject<'_>) -> Self {
        let mut facts = Self {
            words: HashSet::new(),
            stems: HashSet::new(),
            language: Language::English,
            numbers: HashSet::new(),
            values: Vec::new(),
            running: String::new(),
        };
        let mut all = String::new();
        for turn in subject.request {
            all.push_str(head(&turn.text, READ));
            all.push('\n');
        }
        let all = head(&all, READ);
        facts.language = Language::of(all);
        for word in words(all).filter(|word| word.text.len() <= 64) {
            let folded = fold(word.text);
            facts.running.push_str(&folded);
            facts.running.push(' ');
            facts.stems.insert(stem(&folded));
            facts.words.insert(folded);
        }
        for number in stated(all) {
            facts.numbers.insert(digits(&all[number.start..number.end]));
        }
        for word in words(all) {
            let figures = digits(word.text);
            if !figures.is_empty() && figures.len() <= 24 {
                if let Ok(value) = figures.parse() {
                    facts.values.push(value);
                }
                facts.numbers.insert(figures);
            }
        }
        for number in spelled(words(all), facts.language == Language::Spanish) {
            facts.values.push(number.value);
            facts.numbers.insert(number.value.to_string());
        }
        facts.values.sort_unstable();
        facts.values.dedup();
        facts
    }

    /// Whether a folded word of an answer is one of the request's, or another form of one.
    pub fn knows(&self, folded: &str) -> bool {
        self.words.contains(folded) || (folded.chars().count() > STEM && self.stems.contains(&stem(folded)))
    }

    /// Whether a number stands in the request or follows from two that do.
    pub fn knows_number(&self, written: &str) -> bool {
        let figures = digits(written);
        let short = figures.trim_start_matches('0');
        if self.numbers.contains(&figures) || self.numbers.contains(short) {
            return true;
        }
        let Ok(value) = figures.parse::<i128>() else {
            return true;
        };
        if value <= COUNT || self.values.len() > VALUES {
            return true;
        }
        self.values.iter().any(|&a| {
            self.values.iter().any(|&b| {
                a.checked_add(b) == Some(value)
                    || a.checked_sub(b) == Some(value)
                    || a.checked_mul(b) == Some(value)
                    || (b != 0 && a % b == 0 && a / b == value)
            })
        })
    }

    /// Whether an answer says anything that the text says and the question does not.
    pub fn says_of_text(&self, text: &str, question: &HashSet<String>) -> bool {
        words(text).filter(|word| word.text.len() > 3).any(|word| {
            let folded = fold(word.text);
            self.words.contains(&folded) && !question.contains(&folded) && !COMMON.contains(&folded.as_str())
        })
    }

    /// What `text` says and the request does not: numbers, names, quotations. In order.
    pub fn loose(&self, text: &str) -> Vec<Loose> {
        let code = fences(text);
        if !code.is_empty() {
            return Vec::new();
        }
        let mut found = self.loose_numbers(text);
        if Language::of(text) == self.language {
            found.extend(self.loose_names(text));
        }
        found.extend(self.loose_quotations(text));
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Numbers in digits that stand nowhere.
    pub fn loose_numbers(&self, text: &str) -> Vec<Loose> {
        stated(text)
            .into_iter()
            .filter(|number| number.look.is_some())
            .filter(|number| {
                let line = text[..number.start].rfind('\n').map_or(0, |at| at + 1);
                let begins = text[line..number.start].trim().is_empty();
                // "1." and "2)" number a list, "5th" and "km2" are no numbers.
                let item = begins && text[number.end..].starts_with(['.', ')', ':']);
                let part = text[..number.start].ends_with(|c: char| c.is_alphabetic());
                !item && !part
            })
            .map(|number| Loose {
                start: number.start,
                end: number.end,
            })
            .filter(|loose| !self.knows_number(&text[loose.start..loose.end]))
            .collect()
    }

    /// Capitalised words in the middle of sentences that stand nowhere.
    pub fn loose_names(&self, text: &str) -> Vec<Loose> {
        let mut found: Vec<Loose> = Vec::new();
        for line in text.split_inclusive('\n') {
            let from = line.as_ptr() as usize - text.as_ptr() as usize;
            let all = words(line)
                .filter(|word| word.text.contains(char::is_alphabetic))
                .count();
            let capitals = words(line)
                .filter(|word| word.text.starts_with(char::is_uppercase))
                .count();
            // Headings, and lines in capitals.
            let titled = !line.trim_end().ends_with(['.', '!', '?']);
            if line.trim_start().starts_with('#')
                || line.trim_end().ends_with(':')
                || (titled && capitals * 2 > all && all > 3)
            {
                continue;
            }
            let mut end = 0;
            for word in words(line) {
                let between = &line[end..word.start];
                let first = end == 0
                    || !between
                        .chars()
                        .all(|c| matches!(c, ' ' | ',' | '\'' | '’' | '-' | '/' | '&'));
                end = word.end();
                let proper = word.text.starts_with(char::is_uppercase)
                    && word.text.chars().skip(1).all(char::is_lowercase)
                    && (3..=32).contains(&word.text.chars().count())
                    && word.text.chars().all(char::is_alphabetic);
                if first || !proper {
                    continue;
                }
                let folded = fold(word.text);
                let ordinary = month(&folded).is_some()
                    || weekday(&folded).is_some()
                    || COMMON.contains(&folded.as_str())
                    || DEMONYMS.contains(&folded.as_str());
                if ordinary || self.knows(&folded) {
                    continue;
                }
                let (start, end) = (from + word.start, from + word.end());
                match found.last_mut() {
                    Some(last) if &text[last.end..start] == " " => last.end = end,
                    _ => found.push(Loose { start, end }),
                }
            }
        }
        found
    }

    /// Quotations that are none.
    fn loose_quotations(&self, text: &str) -> Vec<Loose> {
        let mut found = Vec::new();
        for (open, close) in [('“', '”'), ('«', '»'), ('"', '"')] {
            let mut from = 0;
            while let Some(start) = text[from..].find(open).map(|at| from + at + open.len_utf8()) {
                let Some(end) = text[start..].find(close).map(|at| start + at) else {
                    break;
                };
                let quoted: Vec<String> = words(&text[start..end]).map(|word| fold(word.text)).collect();
                let running = quoted.join(" ");
                let elided = text[start..end].contains(['…', '[']) || text[start..end].contains("...");
                let known = quoted.iter().filter(|word| self.words.contains(*word)).count();
                // A quotation with many words of the text that does not run as it does, or with none.
                if quoted.len() >= QUOTED
                    && quoted.len() <= 64
                    && !elided
                    && known * 2 < quoted.len()
                    && !self.running.contains(&running)
                {
                    found.push(Loose { start, end });
                }
                from = end + close.len_utf8();
            }
        }
        found
    }
}

/// Words that begin with a capital wherever they stand, or that any answer may have.
#[rustfmt::skip]
const COMMON: &[&str] = &[
    "the", "this", "that", "these", "they", "she", "her", "his", "its", "and", "but", "for", "with", "from", "text", "passage", "author", "answer",
    "question", "according", "paragraph", "based", "was", "were", "which", "there", "name", "year", "people", "person", "god", "internet", "mr", "mrs", "dr",
    "texto", "pasaje", "autor", "respuesta", "segun", "parrafo", "fue", "eran", "ella", "este", "esta", "que", "los", "las", "una", "uno", "por", "para",
    "con", "del", "nombre", "persona", "personas", "senor", "senora", "dios", "summary", "resumen", "also", "yes", "total",
];
/// Where someone is from can be told from where it is.
#[rustfmt::skip]
const DEMONYMS: &[&str] = &[
    "english", "french", "german", "spanish", "dutch", "british", "american", "european", "greek", "swiss", "welsh", "irish", "chinese", "japanese",
    "italian", "russian", "turkish", "polish", "danish", "swedish", "norwegian", "finnish", "mexican", "canadian", "african", "asian", "christian",
    "america", "europe", "europa", "africa", "asia", "earth", "tierra",
];
