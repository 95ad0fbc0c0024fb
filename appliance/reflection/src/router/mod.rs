//! What kind of request this is, and how many reflections it is worth. Rules, in English and Spanish; no model.

mod rules;
mod words;

use crate::checkers::constraints_of;
use crate::checkers::text::{folded_words, head};
use crate::generate::{Speaker, Turn};
use crate::omni_loop::Worth;

/// How much of a request is read, bytes.
const READ: usize = 16 * 1024;

/// The kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A question with one short right answer.
    Closed,
    /// A calculation, or a problem that needs one.
    Arithmetic,
    /// About a text that the request contains.
    Extraction,
    /// Writing with stated constraints.
    Constrained,
    /// Programs.
    Code,
    /// Stories, poems, jokes.
    Creative,
    /// Explanations, comparisons, advice.
    Open,
    /// Small talk.
    Chat,
    /// From one language to another.
    Translation,
    /// A given sentence in another form.
    Rewrite,
}

impl Kind {
    /// Its name, in metrics and for calibration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Arithmetic => "arithmetic",
            Self::Extraction => "extraction",
            Self::Constrained => "constrained",
            Self::Code => "code",
            Self::Creative => "creative",
            Self::Open => "open",
            Self::Chat => "chat",
            Self::Translation => "translation",
            Self::Rewrite => "rewrite",
        }
    }
}

/// What a request consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Modality {
    /// Words alone: all that reaches this router today.
    Text,
    /// With an image.
    Image,
    /// With sound.
    Audio,
}

/// Where a request belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// What it consists of.
    pub modality: Modality,
    /// What it asks for.
    pub kind: Kind,
    /// Whether it takes more than a sentence or a step.
    pub hard: bool,
    /// How many reflections it is worth.
    pub worth: Worth,
}

impl Route {
    fn new(kind: Kind, hard: bool) -> Self {
        Self {
            modality: Modality::Text,
            kind,
            hard,
            worth: WORTH,
        }
    }
}

/// A critique without findings makes a small model's right answers worse: it is worth nothing. With findings, a
/// second critique says what the first said. The kinds differ in what checkers find and mend, not in this.
const WORTH: Worth = Worth {
    when_clean: 0,
    when_found: 1,
};

/// The route of the last thing the user said.
pub fn route(request: &[Turn]) -> Route {
    let Some(turn) = request.iter().rev().find(|turn| turn.speaker == Speaker::User) else {
        return Route::new(Kind::Chat, false);
    };
    let text = head(&turn.text, READ);
    let asked = rules::Asked {
        text,
        words: folded_words(text, 2048),
        stated: constraints_of(std::slice::from_ref(turn)).len(),
    };
    let (kind, hard) = asked.route();
    Route::new(kind, hard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn routed(text: &str) -> Route {
        route(&[Turn::new(Speaker::User, text)])
    }

    #[test]
    fn nothing_is_worth_a_critique_without_findings() {
        for text in [
            "Write a poem.",
            "What is 2 + 2?",
            "Hello",
            "Write a Python function.",
            "",
        ] {
            assert_eq!(routed(text).worth.when_clean, 0, "{text}");
            assert!(routed(text).worth.when_found <= 2);
        }
    }

    #[test]
    fn only_the_last_user_turn_decides() {
        let request = [
            Turn::new(Speaker::User, "Write a poem about the sea."),
            Turn::new(Speaker::Assistant, "Waves."),
            Turn::new(Speaker::User, "What is 2 + 2?"),
        ];
        assert_eq!(route(&request).kind, Kind::Arithmetic);
        assert_eq!(route(&[]).kind, Kind::Chat);
    }

    #[test]
    fn ten_megabytes_are_routed() {
        for text in [
            "x".repeat(10 << 20),
            "1 ".repeat(5 << 20),
            "Text: a b. ".repeat(1 << 20),
            "\u{5d0}\u{301}".repeat(2 << 20),
        ] {
            let _ = routed(&text);
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_route(text in any::<String>()) {
            let _ = routed(&text);
        }
    }
}
