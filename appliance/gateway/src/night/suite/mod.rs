//! What ships with the gateway for its nights: questions whose answers a fixed rule judges and general texts, to be measured
//! with every adapter, and other general texts, to hold a training to what the model says without it. Written for this purpose; no answer of the golden set is decided by it.

use std::sync::LazyLock;

use serde::Deserialize;

/// Most new tokens of an answer.
pub const ANSWER_TOKENS: u32 = 48;

/// A question and how its answer is judged: by exactly one of `exact`, `contains`, `number` and `one_of`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Its name.
    pub id: String,
    /// What is asked.
    pub ask: String,
    /// The answer is one of these.
    #[serde(default)]
    exact: Vec<String>,
    /// The answer has one of these in it, as whole words…
    #[serde(default)]
    contains: Vec<String>,
    /// …and none of these.
    #[serde(default)]
    without: Vec<String>,
    /// The last number of the answer.
    number: Option<i64>,
    /// The answer has the first of these in it and none of the others.
    #[serde(default)]
    one_of: Vec<String>,
}

/// A text and what it answers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Its name.
    pub id: String,
    /// What is asked.
    pub ask: String,
    /// The text.
    pub answer: String,
}

/// Everything that ships.
pub struct Suite {
    /// The questions.
    pub questions: Vec<Question>,
    /// The general texts.
    pub texts: Vec<Text>,
    /// Where a training is held to what the base says: none of them is measured.
    pub anchors: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Questions {
    question: Vec<Question>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Texts {
    text: Vec<Text>,
}

fn read() -> Result<Suite, toml::de::Error> {
    let questions: Questions = toml::from_str(include_str!("questions.toml"))?;
    let texts: Texts = toml::from_str(include_str!("texts.toml"))?;
    let anchors: Texts = toml::from_str(include_str!("anchors.toml"))?;
    Ok(Suite {
        questions: questions.question,
        texts: texts.text,
        anchors: anchors.text,
    })
}

/// Everything that ships, read once. A test reads it too, so that it cannot fail on an appliance.
///
/// # Errors
/// When it cannot be read.
pub fn suite() -> Result<&'static Suite, &'static toml::de::Error> {
    static SUITE: LazyLock<Result<Suite, toml::de::Error>> = LazyLock::new(read);
    SUITE.as_ref()
}

impl Question {
    /// Whether an answer is right.
    pub fn is_right(&self, answer: &str) -> bool {
        let plain = plain(answer);
        let has = |phrase: &String| has(&plain, phrase);
        if !self.exact.is_empty() {
            return self.exact.iter().any(|exact| self::plain(exact) == plain);
        }
        if let Some(number) = self.number {
            return last_number(answer) == Some(number);
        }
        if let [right, others @ ..] = &*self.one_of {
            return has(right) && !others.iter().any(has);
        }
        self.contains.iter().any(has) && !self.without.iter().any(has)
    }
}

/// Words in lower case without accents, a space before, between and after them.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len() + 2);
    plain.push(' ');
    for c in text.chars().flat_map(char::to_lowercase) {
        let c = match c {
            'á' | 'à' | 'â' | 'ä' => 'a',
            'é' | 'è' | 'ê' | 'ë' => 'e',
            'í' | 'ì' | 'î' | 'ï' => 'i',
            'ó' | 'ò' | 'ô' | 'ö' => 'o',
            'ú' | 'ù' | 'û' | 'ü' => 'u',
            c => c,
        };
        if c.is_alphanumeric() {
            plain.push(c);
        } else if !plain.ends_with(' ') {
            plain.push(' ');
        }
    }
    if !plain.ends_with(' ') {
        plain.push(' ');
    }
    plain
}

/// Whether `phrase` stands in what [`plain`] made, whole.
fn has(text: &str, phrase: &str) -> bool {
    text.contains(&plain(phrase))
}

/// The last whole number that is written in digits. One with a fraction is none.
fn last_number(text: &str) -> Option<i64> {
    let inner = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',');
    let words = text.split(|c: char| !inner(c));
    let mut numbers = words.map(|word| word.trim_matches(['.', ',']));
    let last = numbers.rfind(|word| !word.is_empty())?;
    match last.split_once(['.', ',']) {
        None => last.parse().ok(),
        Some((whole, fraction)) if fraction.bytes().all(|b| b == b'0') && fraction.len() < 3 => {
            whole.parse().ok()
        }
        // A separator of thousands.
        Some((whole, rest)) if rest.len() == 3 && whole.len() < 4 => format!("{whole}{rest}").parse().ok(),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn question(id: &str) -> &'static Question {
        let all = &suite().unwrap().questions;
        all.iter().find(|question| question.id == id).unwrap()
    }

    #[test]
    fn what_ships_is_read_and_each_is_there_once_within_its_bounds() {
        let Suite {
            questions,
            texts,
            anchors,
        } = suite().unwrap();
        assert_eq!((questions.len(), texts.len(), anchors.len()), (32, 20, 24));
        let asked = questions.iter().map(|question| (&question.id, &question.ask));
        let written = || texts.iter().chain(anchors);
        let all: Vec<_> = asked.chain(written().map(|text| (&text.id, &text.ask))).collect();
        let ids: HashSet<_> = all.iter().map(|(id, _)| id).collect();
        let asks: HashSet<_> = all.iter().map(|(_, ask)| ask).collect();
        assert_eq!((ids.len(), asks.len()), (76, 76));
        assert!(all.iter().all(|(_, ask)| (8..=250).contains(&ask.len())));
        let answers: HashSet<_> = written().map(|text| &text.answer).collect();
        assert_eq!(answers.len(), 44);
        for text in written() {
            assert!((200..=700).contains(&text.answer.len()), "{}", text.id);
            assert_eq!(text.answer.trim(), text.answer, "{}", text.id);
        }
        for question in questions {
            let rules = [
                !question.exact.is_empty(),
                !question.contains.is_empty(),
                question.number.is_some(),
                question.one_of.len() > 1,
            ];
            let count = rules.iter().filter(|rule| **rule).count();
            assert_eq!(count, 1, "{}", question.id);
            assert!(question.without.is_empty() || !question.contains.is_empty());
        }
        for language in ["-en-", "-es-"] {
            assert!(all.iter().filter(|(id, _)| id.contains(language)).count() >= 20);
        }
    }

    #[test]
    fn every_question_has_a_right_answer_and_takes_no_empty_or_foreign_one() {
        for question in &suite().unwrap().questions {
            let right = question
                .number
                .map(|number| format!("That is {number}."))
                .or_else(|| question.exact.first().cloned())
                .or_else(|| question.one_of.first().cloned())
                .or_else(|| question.contains.first().cloned())
                .unwrap();
            assert!(question.is_right(&right), "{}", question.id);
            for wrong in ["", "I do not know.", "No lo sé.", "???"] {
                assert!(!question.is_right(wrong), "{} {wrong}", question.id);
            }
        }
    }

    #[test]
    fn case_accents_and_marks_do_not_matter_and_words_are_whole() {
        for (id, answer, right) in [
            ("closed-en-1", "The capital is **LISBON**!", true),
            ("closed-en-1", "Lisbonne", false),
            ("closed-es-5", "Está en america del Sur.", true),
            ("closed-en-5", "A spider has 18 legs", false),
            ("extraction-en-1", "31 euros.", true),
            ("extraction-en-1", "It is 31 or 19 euros.", false),
            ("choice-es-1", "Un avion", true),
            ("choice-es-1", "El avión, no la bicicleta", false),
            ("format-en-1", "\"Window.\"", true),
            ("format-en-1", "The window", false),
            ("arithmetic-en-3", "9 times 7 is 63.", true),
            ("arithmetic-en-3", "63 is not 64", false),
        ] {
            assert_eq!(question(id).is_right(answer), right, "{id} {answer}");
        }
    }

    #[test]
    fn the_last_number_counts() {
        for (text, number) in [
            ("8 + 6 = 14.", Some(14)),
            ("14,00", Some(14)),
            ("25.5", None),
            ("1,200 and 3.400", Some(3400)),
            ("none", None),
            ("2 … 99999999999999999999", None),
        ] {
            assert_eq!(last_number(text), number, "{text}");
        }
    }
}
