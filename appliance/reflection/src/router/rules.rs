//! The rules of the router.

use super::Kind;
use super::words::*;
use crate::checkers::arithmetic::is_computation;
use crate::checkers::given::given;
use crate::checkers::numerals::spelled;
use crate::checkers::text::{any_of, fences, folded_words, phrase, words};
use crate::critique::Language;

/// A request.
pub(super) struct Asked<'a> {
    /// What was said.
    pub text: &'a str,
    /// Its words, folded.
    pub words: Vec<String>,
    /// How many constraints the checker of stated constraints reads from it.
    pub stated: usize,
}

impl Asked<'_> {
    /// Its kind, and whether it is hard.
    pub fn route(&self) -> (Kind, bool) {
        if self.words.is_empty() {
            return (Kind::Chat, false);
        }
        if is_computation(self.text, Language::of(self.text)) {
            return (Kind::Arithmetic, false);
        }
        if self.is_translation() {
            return (Kind::Translation, self.words.len() > 60);
        }
        if self.is_code() {
            return (Kind::Code, true);
        }
        let rewrite = self.is_rewrite();
        if !rewrite && let Some(given) = given(self.text) {
            let rest = folded_words(&given.rest, 512);
            let whole = rest
                .iter()
                .any(|word| word.starts_with("summar") || word.starts_with("resum"))
                || phrase(&rest, "main idea")
                || phrase(&rest, "idea principal");
            return (Kind::Extraction, whole || given.text.len() > 2000);
        }
        if rewrite {
            return (Kind::Rewrite, self.words.len() > 80);
        }
        let constraints = self.constraints().max(self.stated);
        if constraints > 0 {
            let long =
                self.has(LONG_FORMS) || self.numbers().iter().any(|number| (40..2000).contains(number));
            return (Kind::Constrained, constraints >= 3 || long);
        }
        if self.is_problem() {
            return (Kind::Arithmetic, true);
        }
        if self.is_creative() {
            return (Kind::Creative, true);
        }
        if self.is_chat() {
            return (Kind::Chat, false);
        }
        if self.is_open() {
            return (Kind::Open, true);
        }
        if self.is_closed() {
            return (Kind::Closed, false);
        }
        if self.words.len() <= 3 && !self.text.contains('?') {
            return (Kind::Chat, false);
        }
        (Kind::Open, true)
    }

    fn has(&self, wanted: &[&str]) -> bool {
        any_of(&self.words, wanted)
    }

    fn says(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|wanted| phrase(&self.words, wanted))
    }

    /// Whether it begins with one of these, courtesies aside.
    fn begins(&self, phrases: &[&str]) -> bool {
        let polite = COURTESIES;
        let skipped = self
            .words
            .iter()
            .take(5)
            .take_while(|word| polite.contains(&word.as_str()))
            .count();
        (0..=skipped).any(|from| {
            let words = &self.words[from..];
            phrases.iter().any(|wanted| {
                let wanted: Vec<&str> = wanted.split(' ').collect();
                words.len() >= wanted.len() && words[..wanted.len()].iter().eq(wanted)
            })
        })
    }

    fn numbers(&self) -> Vec<i128> {
        let digits = words(self.text).filter_map(|word| word.text.parse().ok());
        let spelled = spelled(words(self.text), Language::of(self.text) == Language::Spanish);
        digits.chain(spelled.iter().map(|number| number.value)).collect()
    }

    fn is_translation(&self) -> bool {
        let verb = self.words.iter().take(8).any(|word| {
            word.starts_with("translat") || word.starts_with("traduc") || word.starts_with("traduz")
        });
        verb || self.says(&[
            "how do you say",
            "how do i say",
            "como se dice",
            "como digo",
            "como se escribe",
        ]) && self.has(LANGUAGES)
            || self.says(&["word for", "palabra para"]) && self.has(LANGUAGES)
            || self.begins(SAID_IN)
                && self
                    .words
                    .iter()
                    .zip(self.words.iter().skip(1))
                    .any(|(to, language)| {
                        matches!(to.as_str(), "in" | "into" | "to" | "al" | "en")
                            && LANGUAGES.contains(&language.as_str())
                    })
    }

    fn is_code(&self) -> bool {
        if fences(self.text)
            .iter()
            .any(|fence| !matches!(fence.tag, "" | "text" | "txt"))
        {
            return true;
        }
        let signs = CODE_SIGNS;
        let signed = signs.iter().any(|sign| self.text.contains(sign));
        let named = self.has(PROGRAMMING) || self.text.contains("C++") || self.text.contains("C#");
        let about = self.has(ABOUT_CODE);
        (named && about && !self.is_constrained_data())
            || (signed && self.has(NEAR_CODE))
            || self.says(CODE_PHRASES)
            || (self.has(PROGRAMS) && self.begins(PROGRAM_ORDERS))
    }

    /// JSON alone is a form of answer.
    fn is_constrained_data(&self) -> bool {
        self.has(&["json"]) && !self.has(DATA_USED)
    }

    fn is_rewrite(&self) -> bool {
        let verb = self.begins(REWRITES);
        verb && (self.text.contains(':') || self.text.contains(['"', '“', '«', '\'', '\n']))
    }

    /// How many constraints on the form of the answer are stated.
    fn constraints(&self) -> usize {
        let mut count = 0;
        let mut before_is_number = false;
        let mut far = 9;
        for word in &self.words {
            let number = word.bytes().all(|b| b.is_ascii_digit()) || NUMBERS.contains(&word.as_str());
            if number {
                far = 0;
                before_is_number = true;
                continue;
            }
            far += 1;
            if before_is_number && far <= 2 && COUNTED.contains(&word.as_str()) {
                count += 1;
                before_is_number = false;
            }
        }
        let forms = FORMS.iter().filter(|form| phrase(&self.words, form)).count();
        let listed = self.begins(LIST_ORDERS)
            && self.words.iter().take(4).any(|word| {
                (NUMBERS.contains(&word.as_str()) && !matches!(word.as_str(), "un" | "una" | "one"))
                    || word.bytes().all(|b| b.is_ascii_digit())
            })
            && self.words.len() <= 12
            && !self.text.contains('?');
        count + forms + usize::from(listed && count + forms == 0)
    }

    fn is_problem(&self) -> bool {
        let numbers = self.numbers().len();
        let asks = self.says(AMOUNTS) || self.has(&["cuantos", "cuantas", "cuanto", "cuanta"]);
        let solves = self.begins(SOLVES) || self.says(&["solve for", "la ecuacion", "the equation"]);
        let parts = self.has(PARTS);
        (asks && (numbers >= 2 || numbers >= 1 && parts)) || (solves && numbers >= 1)
    }

    fn is_creative(&self) -> bool {
        self.has(CREATIVE) || self.says(CREATIVE_PHRASES)
    }

    fn is_chat(&self) -> bool {
        let few = self.words.len() <= 8;
        (few && self
            .words
            .first()
            .is_some_and(|word| GREETINGS.contains(&word.as_str())))
            || (few && self.says(SMALL_TALK) && self.words.len() <= 6)
            || (few
                && self.begins(&["i m", "i am", "i feel", "estoy", "me siento"])
                && !self.text.contains('?'))
    }

    fn is_open(&self) -> bool {
        self.begins(OPEN_BEGINNINGS) || self.has(OPEN_WORDS) || self.is_definition()
    }

    /// "What is machine learning?": a question for an explanation, other than "What is the capital of France?"
    fn is_definition(&self) -> bool {
        let rest = match self.words.as_slice() {
            [what, is, rest @ ..]
                if matches!(what.as_str(), "what" | "que")
                    && matches!(is.as_str(), "is" | "are" | "es" | "son") =>
            {
                rest
            }
            _ => return false,
        };
        let article = rest
            .first()
            .is_some_and(|word| matches!(word.as_str(), "the" | "la" | "lo"));
        !article && rest.len() <= 4 && !rest.is_empty()
    }

    fn is_closed(&self) -> bool {
        let short = self.words.len() <= 24;
        short && (self.begins(CLOSED_BEGINNINGS) || self.text.contains('?'))
    }
}
