//! One sentence of a request: whether it speaks of the answer, and which of its parts do.

use super::Unit;
use super::lexicon::{Lexicon, Meaning, role};
use super::pattern::{Match, Reading};
use super::tokens::{Kind, Token};

/// How a sentence speaks of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// It commands.
    Directive,
    /// It asks something that an answer of a stated size can follow.
    Question,
    /// It asks otherwise.
    Asks,
    /// It may be a bare condition, such as "no commas".
    Fragment,
}

/// One sentence of a request, read in one language.
pub(super) struct Page<'a> {
    pub(super) text: &'a str,
    pub(super) tokens: &'a [Token],
    pub(super) lexicon: &'a Lexicon,
    pub(super) roles: &'a [u64],
    /// Where the sentence begins.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) mode: Mode,
}

impl Reading for Page<'_> {
    fn tokens(&self) -> &[Token] {
        self.tokens
    }

    fn end(&self) -> usize {
        self.end
    }

    fn number(&self, at: usize) -> Option<(u32, usize)> {
        let token = self.tokens.get(at).filter(|token| token.kind == Kind::Word)?;
        if token.folded.starts_with(|c: char| c.is_ascii_digit()) {
            // More than that is no length of an answer.
            let number = token.folded.parse().ok().filter(|n| (1..=20_000).contains(n))?;
            return Some((number, at + 1));
        }
        let words: [&str; 3] = [0, 1, 2].map(|i| {
            let inside = at + i < self.end;
            self.tokens
                .get(at + i)
                .filter(|_| inside)
                .map_or("", |token| token.folded.as_str())
        });
        let (number, used) = (self.lexicon.number)(&words).filter(|(n, _)| *n > 0)?;
        Some((number, at + used))
    }

    fn unit(&self, at: usize) -> Option<(Unit, usize)> {
        let word = |i: usize| {
            let inside = i < self.end;
            self.tokens
                .get(i)
                .filter(|_| inside)
                .map_or("", |token| token.folded.as_str())
        };
        let mut i = at;
        let mut listed = false;
        while i < at + 2 && self.lexicon.adjectives.contains(&word(i)) {
            listed |= matches!(word(i), "bulleted" | "numbered");
            i += 1;
        }
        if listed && matches!(word(i), "points" | "items" | "steps" | "reasons") {
            return Some((Unit::Bullets, i + 1));
        }
        let of_list = word(i + 1) == "de" && word(i + 2) == "lista";
        if of_list && matches!(word(i), "puntos" | "elementos" | "items") {
            return Some((Unit::Bullets, i + 3));
        }
        let unit = self.lexicon.units.iter().find(|(name, _)| *name == word(i))?.1;
        i += 1;
        if unit == Unit::Bullets {
            let skipped = i + usize::from(word(i) == "-");
            if matches!(word(skipped), "point" | "points" | "items") {
                i = skipped + 1;
            }
        }
        if self.lexicon.adjectives.contains(&word(i)) && !word(i).is_empty() {
            i += 1;
        }
        Some((unit, i))
    }

    fn tongue(&self, at: usize) -> bool {
        self.tokens
            .get(at)
            .is_some_and(|token| self.lexicon.tongue(&token.folded).is_some())
    }

    fn may_begin(&self, at: usize) -> bool {
        self.begins(at) || (at > self.start && self.is(at - 1, role::AND | role::MUST))
    }
}

impl Page<'_> {
    pub(super) fn is(&self, at: usize, roles: u64) -> bool {
        self.roles.get(at).is_some_and(|has| has & roles != 0)
    }

    pub(super) fn inside(&self, at: usize) -> Option<&Token> {
        self.tokens.get(at).filter(|_| at < self.end)
    }

    /// The sentence that begins at `start`, as a page of the same kind.
    pub(super) fn after(&self, start: usize) -> Page<'_> {
        let ends = |token: &Token| token.kind == Kind::Break;
        let rest = self.tokens.get(start..).unwrap_or(&[]);
        let end = start + rest.iter().position(ends).unwrap_or(rest.len());
        Page { start, end, ..*self }
    }

    pub(super) fn is_mark(&self, at: usize) -> bool {
        self.tokens
            .get(at)
            .is_some_and(|token| token.kind == Kind::Mark && !token.is("-"))
    }

    /// Where the part of the sentence between marks begins that `at` is in.
    pub(super) fn clause(&self, at: usize) -> usize {
        (self.start..at)
            .rev()
            .find(|&i| self.is_mark(i))
            .map_or(self.start, |i| i + 1)
    }

    /// Whether a command may begin at `at`.
    fn begins(&self, at: usize) -> bool {
        let clause = self.clause(at);
        if (clause..at).all(|i| self.is(i, role::ADVERB | role::NOT | role::MUST)) {
            return true;
        }
        at >= self.start + 2 && self.is(at - 1, role::TO) && self.is(at - 2, role::MUST_TO)
    }

    /// How the sentence speaks; `before` says whether an earlier sentence commanded something.
    pub(super) fn find_mode(&self, question: bool, before: bool) -> Mode {
        let first = self.inside(self.start).map_or("", |token| token.folded.as_str());
        let polite = (matches!(first, "can" | "could" | "would" | "will")
            && self.inside(self.start + 1).is_some_and(|token| token.is("you")))
            || (self.is(self.start, role::MUST) && self.is(self.start + 1, role::COMMAND));
        let asks = question && !polite && self.is(self.start, role::ASKS | role::WH);
        let commands = |i: usize| self.is(i, role::COMMAND) && self.begins(i);
        if !asks && (self.start..self.end).any(commands) {
            return Mode::Directive;
        }
        let wants = (self.start..self.end.min(self.start + 4)).any(|i| {
            self.is(i, role::WANT)
                && self.is(i + 1, role::A)
                && (self.start..=i).any(|j| self.is(j, role::ME))
        });
        if !question && wants {
            return Mode::Directive;
        }
        let subject = |i: usize| {
            let answer = self.is(i, role::ANSWER) || (before && self.is(i, role::TEXT));
            let it = before && (self.inside(i).is_some_and(|token| token.is("it")));
            let clause = self.clause(i);
            (answer || it)
                && ((clause..i).all(|j| self.is(j, role::THE | role::ADVERB | role::AND))
                    || (answer
                        && i > self.start
                        && matches!(self.tokens[i - 1].folded.as_str(), "your" | "tu")))
                && (i + 1..=i + 2).any(|j| j < self.end && self.is(j, role::MUST | role::MUST_TO))
        };
        let tacit = before && self.is(self.start, role::MUST) && !question;
        // "Aim it at children and wrap your entire response …"
        let yours = |i: usize| {
            self.inside(i)
                .is_some_and(|token| matches!(token.folded.as_str(), "your" | "tu"))
                && (i + 1..i + 3).any(|j| self.is(j, role::ANSWER))
        };
        let commands_on = |i: usize| i > self.start && self.is(i, role::COMMAND) && self.is(i - 1, role::AND);
        if !question && (self.start..self.end).any(yours) && (self.start..self.end).any(commands_on) {
            return Mode::Directive;
        }
        if !question && (tacit || (self.start..self.end).any(subject)) {
            return Mode::Directive;
        }
        if question {
            let plain = self.is(self.start, role::WH) && !self.is(self.start + 1, role::HOW_TO);
            return if plain || !self.is(self.start, role::ASKS | role::WH) {
                Mode::Question
            } else {
                Mode::Asks
            };
        }
        Mode::Fragment
    }

    /// Whether what stands at `at` is part of something that is only told of.
    fn told_of(&self, at: usize) -> bool {
        let clause = self.clause(at);
        for j in clause..at {
            if self.is(j, role::REPORTED) {
                return true;
            }
            let limits = |token: &Token| matches!(token.folded.as_str(), "maximo" | "mucho" | "minimo");
            if !self.is(j, role::SUBORDINATE) || self.tokens.get(j + 1).is_some_and(limits) {
                continue;
            }
            // "That has at least …", "make sure that your answer …", "I want that …"
            let direct = (j + 1..at).all(|i| self.is(i, role::HAS));
            let sure = (j.saturating_sub(1)..at.min(j + 4)).any(|i| i != j && self.is(i, role::SURE));
            // "Explain what a volcano is in …"
            let inquires = (j == clause || self.is(j - 1, role::COMMAND) || self.names_me(j - 1))
                && !self.is(j + 1, role::HOW_TO)
                && (self.is(at, role::WITH) || self.is(at - 1, role::WITH));
            if !direct && !sure && !inquires {
                return true;
            }
        }
        false
    }

    fn names_me(&self, at: usize) -> bool {
        self.tokens
            .get(at)
            .is_some_and(|token| matches!(token.folded.as_str(), "me" | "us"))
    }

    /// Whether a rule that matched from `at` to `end` may speak in this sentence.
    pub(super) fn may_speak(&self, at: usize, found: &Match, meaning: Meaning) -> bool {
        let whole = found.end >= self.end || self.is_mark(found.end);
        let alone = (self.clause(at)..at).all(|i| self.is(i, role::ADVERB | role::WITH | role::AND));
        if matches!(meaning, Meaning::YesNo(_)) && self.mode != Mode::Directive {
            return alone && whole;
        }
        match self.mode {
            // "… who meet and end your answer with …": what says whose answer it is means this one.
            Mode::Directive => {
                let yours = |i: usize| matches!(self.tokens[i].folded.as_str(), "your" | "tu" | "su");
                !self.told_of(at) || (at..found.end.min(self.end)).any(yours)
            }
            Mode::Fragment => {
                let light = |i: usize| self.is(i, role::ADVERB | role::WITH | role::AND) || self.is_mark(i);
                let from_start = (self.start..at).all(light);
                let leads = |token: &Token| {
                    matches!(
                        token.folded.as_str(),
                        "at" | "exactly" | "al" | "por" | "in" | "en"
                    )
                };
                let times = meaning == Meaning::Appears
                    && (self.inside(found.end).is_some_and(leads) || self.number(found.end).is_some());
                from_start && (whole || times || self.is(found.end, role::ADVERB))
            }
            Mode::Question => {
                let led = self.is(at, role::WITH) || (at > self.start && self.is(at - 1, role::WITH));
                let first = at.saturating_sub(1) <= self.start;
                let bounded = matches!(
                    meaning,
                    Meaning::AtMost | Meaning::Below | Meaning::AtLeast | Meaning::Range | Meaning::Exactly
                );
                let apart = at > self.start && (self.is_mark(at - 1) || (at > 1 && self.is_mark(at - 2)));
                let sized = bounded || matches!(meaning, Meaning::Bare | Meaning::One);
                sized && led && ((first && whole) || (found.end >= self.end && (apart || bounded)))
            }
            Mode::Asks => false,
        }
    }
}
