//! What the words and rules of a language are made of.

use std::collections::HashMap;

use super::pattern::Rules;
use super::{ListKind, Mark, Tongue, Unit};

/// What a rule means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// No more than the number.
    AtMost,
    /// Fewer.
    Below,
    /// No fewer.
    AtLeast,
    /// More; with a negation before it, no more.
    Above,
    /// The number.
    Exactly,
    /// Between two numbers.
    Range,
    /// "In three sentences".
    Bare,
    /// "With three sentences".
    BareWith,
    /// "Write three sentences".
    BareVerb,
    /// "A three-sentence summary".
    Adjective,
    /// "A single sentence".
    One,
    /// "One-word answer".
    OneWord,
    Placeholders,
    /// A list of words follows.
    Contains,
    /// The same, only in quotes.
    ContainsQuoted,
    /// The same, of a text that was named before.
    ContainsIn,
    /// The same, of a sentence that asks for a text.
    ContainsUsing,
    /// "The word … must appear".
    Appears,
    Avoids,
    AvoidsQuoted,
    /// A letter follows.
    Letter,
    Starts,
    StartsIn,
    Ends,
    EndsIn,
    Upper,
    Lower,
    Without(Mark),
    Quoted,
    Language,
    Json,
    Table,
    List(ListKind),
    Title,
    Postscript,
    /// These two.
    YesNo(&'static [&'static str]),
    /// Options follow.
    Options,
    /// The same, only in quotes.
    OptionsQuoted,
    Repeat,
}

/// What words mean to the rules; a word may mean several.
pub(super) mod role {
    macro_rules! roles {
        ($($name:ident)*) => { roles!(@ 0; $($name)*); };
        (@ $n:expr; $name:ident $($rest:ident)*) => {
            pub(in super::super) const $name: u64 = 1 << ($n);
            roles!(@ $n + 1; $($rest)*);
        };
        (@ $n:expr;) => {};
    }
    roles! {
        WRITES COMMAND TEXT ANSWER CODE MAKES HAS FIRST SURE ABOUT EACH SUBORDINATE REPORTED PART WORD NOT ADVERB AND
        MUST MUST_TO TO ME WANT A THE ASKS WH HOW_TO VERB WITH NARROWS DEFINITE ONE LETTER_AND NOT_A_WORD TIMES
        EXPLAINS
    }
}

/// The words and rules of a language.
pub(super) struct Lexicon {
    pub(super) rules: Rules<Meaning>,
    roles: HashMap<&'static str, u64>,
    by_form: fn(&str) -> u64,
    pub(super) units: &'static [(&'static str, Unit)],
    languages: &'static [(&'static str, Tongue)],
    pub(super) adjectives: Vec<&'static str>,
    pub(super) number: fn(&[&str]) -> Option<(u32, usize)>,
}

/// A language as it is written down: words and patterns in texts, one space or line apart.
pub(super) struct Tables {
    pub(super) rules: &'static [&'static [(Meaning, &'static str)]],
    pub(super) classes: &'static [(&'static str, &'static str)],
    pub(super) roles: &'static [(u64, &'static str)],
    pub(super) units: &'static [(&'static str, Unit)],
    pub(super) languages: &'static [(&'static str, Tongue)],
    pub(super) adjectives: &'static str,
    pub(super) number: fn(&[&str]) -> Option<(u32, usize)>,
    pub(super) by_form: fn(&str) -> u64,
}

impl Lexicon {
    pub(super) fn new(tables: &Tables) -> Self {
        let mut roles: HashMap<&'static str, u64> = HashMap::new();
        for (role, words) in tables.roles {
            for word in words.split_whitespace() {
                *roles.entry(word).or_default() |= role;
            }
        }
        let classes: Vec<(&str, Vec<&'static str>)> = tables
            .classes
            .iter()
            .map(|(name, words)| (*name, words.split_whitespace().collect()))
            .collect();
        let lines = tables
            .rules
            .iter()
            .copied()
            .flatten()
            .flat_map(|(meaning, patterns)| patterns.lines().map(|line| (line.trim(), *meaning)));
        Self {
            rules: Rules::new(lines, &classes),
            roles,
            by_form: tables.by_form,
            units: tables.units,
            languages: tables.languages,
            adjectives: tables.adjectives.split_whitespace().collect(),
            number: tables.number,
        }
    }

    pub(super) fn tongue(&self, word: &str) -> Option<Tongue> {
        self.languages
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, tongue)| *tongue)
    }

    /// What `word` means to the rules.
    pub(super) fn roles(&self, word: &str) -> u64 {
        self.roles.get(word).copied().unwrap_or(0) | (self.by_form)(word)
    }
}
