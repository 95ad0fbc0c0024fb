//! What decoding can enforce: regular expressions for a whole answer.
//!
//! They say as much of the request as fits together: the case, the marks and letters that are banned, the beginning
//! and the end, words per sentence. Each is small, and each ends: the model stops where the expression does.

use super::count::count;
use super::shape::{MOST, Shape, repeated};
use super::{ListKind, Stipulation, Unit};
use crate::checkers::text::literal;
use crate::generate::Constraint;

impl<'a> Shape<'a> {
    fn contained(&self) -> Vec<&'a str> {
        let words = self.all.iter().filter_map(|s| match s {
            Stipulation::Contains { text, .. } => Some(text.as_str()),
            _ => None,
        });
        words.take(6).collect()
    }

    /// Between two numbers of sentences, the words that must be there in the first ones.
    fn sentences(&self, least: usize, most: usize) -> Option<String> {
        let words = self.contained();
        if most == 0 || most > MOST || least > most {
            return None;
        }
        let mut named: Vec<String> = Vec::new();
        if words.len() <= most {
            named.extend(words.iter().map(|word| self.sentence_with(&[word])));
        } else {
            named.push(self.sentence_with(&words));
        }
        let left = (
            least.saturating_sub(named.len()),
            most.saturating_sub(named.len()),
        );
        let mut out = named.join(" ");
        if out.is_empty() {
            return Some(repeated(&self.sentence(), " ", least.max(1), most));
        }
        if left.1 > 0 {
            out = format!("{out}(?: {}){{{},{}}}", self.sentence(), left.0, left.1);
        }
        Some(out)
    }

    /// What the whole answer must match; `None` where the request cannot be said so.
    pub(super) fn whole(&self) -> Option<Constraint> {
        let ends: Vec<&Stipulation> = self
            .all
            .iter()
            .filter(|s| matches!(s, Stipulation::StartsWith(_) | Stipulation::EndsWith(_)))
            .collect();
        for stipulation in self.all {
            match stipulation {
                Stipulation::Choice(options) => {
                    let options: Vec<String> = options
                        .iter()
                        .map(|option| literal(&self.option(option)))
                        .collect();
                    return Some(Constraint::Regex(format!("(?:{})", options.join("|"))));
                }
                Stipulation::Json => return Some(Constraint::JsonObject),
                _ => {}
            }
        }
        let body = if ends.is_empty() {
            self.body()?
        } else {
            self.between()?
        };
        let body = self.under_title(body);
        let body = if self.all.contains(&Stipulation::Quoted) {
            format!("\"{body}\"")
        } else {
            body
        };
        Some(self.avoiding(body))
    }

    fn option(&self, option: &str) -> String {
        let mut chars = option.chars();
        let capital = chars
            .next()
            .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect());
        self.cased(&capital)
    }

    /// The answer by what is counted in it.
    fn body(&self) -> Option<String> {
        if self.all.contains(&Stipulation::Table) {
            let cell = r"[^|\r\n]{1,40}";
            let row = format!(r"\| {cell} \| {cell} \|");
            return Some(format!("{row}\n\\| --- \\| --- \\|(?:\n{row}){{2,8}}"));
        }
        let sentences = self.bounds(Unit::Sentences);
        let words = self.bounds(Unit::Words);
        if let (least, Some(most)) = words {
            return self.worded(least, most, sentences);
        }
        let listed = self.all.iter().any(|s| matches!(s, Stipulation::List(_)));
        let numbered = self.all.contains(&Stipulation::List(ListKind::Numbered));
        let bullets = self.bounds(Unit::Bullets);
        if listed || bullets != (None, None) {
            let (least, most) = range(bullets, 3);
            return if numbered {
                self.numbered(least, most)
            } else {
                self.parts(least, most, "\n", |s| format!("- {}", s.item()))
            };
        }
        for (unit, between) in [
            (Unit::Sections, "\n\n"),
            (Unit::Paragraphs, "\n\n"),
            (Unit::Lines, "\n"),
        ] {
            let bounds = self.bounds(unit);
            if bounds == (None, None) {
                continue;
            }
            let (least, most) = range(bounds, 2);
            return self.parts(least, most, between, |shape| match unit {
                Unit::Sections => shape.section(),
                Unit::Paragraphs => shape.paragraph(),
                _ => shape.line(),
            });
        }
        let (least, most) = range(sentences, 3);
        self.sentences(if sentences == (None, None) { 1 } else { least }, most)
    }

    fn parts(
        &self,
        least: usize,
        most: usize,
        between: &str,
        part: impl Fn(&Self) -> String,
    ) -> Option<String> {
        (most > 0 && most <= MOST && least <= most)
            .then(|| repeated(&part(self), between, least.max(1), most))
    }

    fn numbered(&self, least: usize, most: usize) -> Option<String> {
        if most == 0 || most > 30 || least > most {
            return None;
        }
        let item = self.item();
        let mut out = String::new();
        for n in 1..=most {
            let before = if n == 1 { "" } else { "\n" };
            let open = if n > least.max(1) { "(?:" } else { "" };
            out.push_str(&format!("{open}{before}{n}\\. {item}"));
        }
        out.push_str(&")?".repeat(most - least.max(1).min(most)));
        Some(out)
    }

    /// A number of words, in a number of sentences if one is asked too.
    fn worded(
        &self,
        least: Option<usize>,
        most: usize,
        sentences: (Option<usize>, Option<usize>),
    ) -> Option<String> {
        let least = least.unwrap_or_else(|| most.min(3));
        let number = match sentences {
            (Some(number), _) | (None, Some(number)) if number > 0 => number,
            _ => return self.words(least, most, false),
        };
        if number == 1 || most / number < 3 {
            return self.words(least, most, true);
        }
        let mut out = Vec::new();
        for i in 0..number.min(MOST) {
            // The words are dealt out evenly, the rest of the division to the last.
            let last = i + 1 == number;
            let rest = |n: usize| n / number + if last { n % number } else { 0 };
            out.push(self.words(rest(least).max(1), rest(most), true)?);
        }
        Some(out.join(" "))
    }

    /// The answer where its beginning or its end is given.
    fn between(&self) -> Option<String> {
        let edge = |starts: bool| {
            self.all.iter().find_map(|s| match s {
                Stipulation::StartsWith(text) if starts => Some(self.cased(text)),
                Stipulation::EndsWith(text) if !starts => Some(self.cased(text)),
                _ => None,
            })
        };
        let (start, end) = (edge(true), edge(false));
        let given: usize = start
            .iter()
            .chain(&end)
            .map(|text| count(Unit::Words, text).1)
            .sum();
        let sentences = self.bounds(Unit::Sentences);
        let inner = if let (least, Some(most)) = self.bounds(Unit::Words) {
            let most = most.checked_sub(given).filter(|most| *most > 0)?;
            let least = least.map_or(1, |least| least.saturating_sub(given).max(1));
            let words = self.words(least, most, true)?;
            // Within a sentence the first word has no capital of its own.
            words.replacen(&self.first(), &self.letter(), 1)
        } else if sentences.1 == Some(1) {
            let stop = if end.is_some() { "" } else { self.ends };
            format!("{}{{8,150}}{stop}", self.inner())
        } else if sentences.0.is_none() && sentences.1.is_none() {
            let stops = |text: &String| text.ends_with(['.', '!', '?']);
            let goes_on = start.as_ref().is_some_and(|start| !stops(start));
            let first = if goes_on {
                format!("{}{{8,150}}{}", self.inner(), self.ends)
            } else {
                self.sentence()
            };
            format!("{first}(?: {}){{0,3}}", self.sentence())
        } else {
            return None;
        };
        let start = start.map_or_else(String::new, |text| format!("{}[,:]? ", literal(&text)));
        let start = if self.commas {
            start
        } else {
            start.replace("[,:]?", "")
        };
        let end = end.map_or_else(String::new, |text| format!(" {}", literal(&text)));
        Some(format!("{start}{inner}{end}"))
    }

    fn under_title(&self, body: String) -> String {
        let title = self.item().replace("{2,110}", "{2,40}");
        let angular = |angular| self.all.contains(&Stipulation::Title { angular });
        if angular(true) {
            format!("<<{title}>>\n\n{body}")
        } else if angular(false) {
            format!("# {title}\n\n{body}")
        } else {
            body
        }
    }

    /// The expression, and none of the words that are banned.
    fn avoiding(&self, body: String) -> Constraint {
        let mut banned: Vec<String> = Vec::new();
        for stipulation in self.all {
            if let Stipulation::Avoids(word) = stipulation {
                banned.push(literal(word));
            }
        }
        if banned.is_empty() {
            return Constraint::Regex(body);
        }
        let slashed = |text: &str| text.replace('/', r"\/");
        let words = slashed(&banned.join("|"));
        let body = slashed(&body).replace('\n', r"\n");
        Constraint::Lark(format!(
            "start: TEXT\nTEXT: /{body}/ & ~/(?s:(.*[^\\p{{L}}])?)(?i:{words})(?s:([^\\p{{L}}].*)?)/\n"
        ))
    }
}

/// The fewest and the most, where one of them may be missing.
fn range(bounds: (Option<usize>, Option<usize>), usual: usize) -> (usize, usize) {
    match bounds {
        (Some(least), Some(most)) => (least, most),
        (Some(least), None) => (least, least.saturating_add(2)),
        (None, Some(most)) => (1, most),
        (None, None) => (usual.min(3), usual + 3),
    }
}
