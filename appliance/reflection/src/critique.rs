//! The critique that asks for a revision, in the language of the request.

use crate::checkers::Finding;
use crate::generate::{Speaker, Turn};
use crate::prompts::Words;

/// Languages the appliance criticises in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// The default.
    English,
    /// Spanish.
    Spanish,
}

/// Words that are frequent in one of the two languages and no words of the other.
#[rustfmt::skip]
const SPANISH: &[&str] = &[
    "el", "la", "los", "las", "de", "del", "que", "y", "en", "un", "una", "es", "por", "para", "con",
    "como", "cómo", "qué", "cuál", "cuánto", "dónde", "quién", "se", "su", "al", "lo", "más", "pero",
    "hola", "convierte", "calcula", "entre", "suma", "resta", "multiplica", "cuánta", "según", "texto", "responde", "contesta", "cuántas", "quien", "cuando",
    "donde", "horas", "minutos", "días", "escribe", "dime", "cuántos", "explica", "resume", "gracias",
    "está", "son", "haz", "traduce",
];
const ENGLISH: &[&str] = &[
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "with", "as", "are", "what", "how", "which",
    "who", "where", "why", "you", "your", "be", "this", "from", "by", "hello", "write", "tell", "give",
    "explain", "thanks", "please", "an", "at", "on", "does", "do", "can", "i",
];
/// How many words of a text decide; more change nothing and cost time.
const WORDS: usize = 200;

impl Language {
    /// The language of `text`: Spanish when Spanish words and letters outweigh English words.
    pub fn of(text: &str) -> Self {
        let mut balance = 0_i32;
        let words = text
            .split(|c: char| !c.is_alphabetic())
            .filter(|word| !word.is_empty());
        for word in words.take(WORDS) {
            // A longer word is in neither list, and need not be copied to be compared.
            if word.len() > 12 {
                continue;
            }
            let word = word.to_lowercase();
            balance += i32::from(SPANISH.contains(&word.as_str()));
            balance -= i32::from(ENGLISH.contains(&word.as_str()));
        }
        if text
            .chars()
            .take(WORDS * 8)
            .any(|c| matches!(c, '¿' | '¡' | 'ñ' | 'Ñ'))
        {
            balance += 2;
        }
        if balance > 0 { Self::Spanish } else { Self::English }
    }

    /// The language of the last thing the user said.
    pub fn of_request(request: &[Turn]) -> Self {
        let last = request.iter().rev().find(|turn| turn.speaker == Speaker::User);
        last.map_or(Self::English, |turn| Self::of(&turn.text))
    }
}

/// Most findings a critique names: a small model given more mends none.
pub const NAMED_FINDINGS: usize = 4;

/// The critique of an answer with these findings; with none, a request to check it.
pub fn critique(words: &Words, findings: &[Finding]) -> String {
    if findings.is_empty() {
        return words.without_findings.clone();
    }
    let mut text = words.with_findings_before.clone();
    for finding in findings.iter().take(NAMED_FINDINGS) {
        text.push_str("- ");
        text.push_str(&finding.sentence);
        text.push('\n');
    }
    text.push_str(&words.with_findings_after);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::Place;
    use crate::prompts::PromptSet;

    #[test]
    fn the_language_follows_the_request() {
        for text in [
            "¿Cuál es la capital de Francia?",
            "Escribe un poema sobre el mar.",
            "hola",
            "Dime por qué",
        ] {
            assert_eq!(Language::of(text), Language::Spanish, "{text}");
        }
        for text in [
            "What is the capital of France?",
            "Write a poem about the sea in La Paz.",
            "",
            "42",
            "東京は?",
        ] {
            assert_eq!(Language::of(text), Language::English, "{text}");
        }
    }

    #[test]
    fn only_the_last_user_turn_decides() {
        let request = [
            Turn::new(Speaker::System, "Eres un ayudante que responde en español."),
            Turn::new(Speaker::User, "¿Qué es la luna?"),
            Turn::new(Speaker::Assistant, "La luna es un satélite de la Tierra."),
            Turn::new(Speaker::User, "And what is the sun?"),
        ];
        assert_eq!(Language::of_request(&request), Language::English);
        assert_eq!(Language::of_request(&request[..3]), Language::Spanish);
        assert_eq!(Language::of_request(&[]), Language::English);
    }

    #[test]
    fn findings_are_named_and_bounded() {
        let finding = |n: usize| Finding {
            checker: "test",
            place: Place::Whole,
            sentence: format!("Problem number {n}."),
            weight: 0.1,
            repair: None,
        };
        let findings: Vec<Finding> = (0..9).map(finding).collect();
        let set = PromptSet::built_in();
        let text = critique(&set.en, &findings);
        assert!(text.contains("Problem number 3.") && !text.contains("Problem number 4."));
        assert!(
            text.starts_with(&set.en.with_findings_before) && text.ends_with(&set.en.with_findings_after)
        );
        assert_ne!(critique(&set.es, &findings), text);
        assert_ne!(critique(&set.en, &[]), critique(&set.es, &[]));
    }
}
