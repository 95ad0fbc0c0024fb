//! A small language of token patterns, in which the rules of each language are written.
//!
//! | element | matches |
//! | --- | --- |
//! | `word`, `a\|b` | one of these words or marks |
//! | `?a\|b` | the same, or nothing |
//! | `@class`, `?@class` | a word of a class of the language |
//! | `&lang` | the name of a language, kept |
//! | `#` | a number, kept |
//! | `%` | a unit that is counted, kept |
//! | `&quote` | a text in quotes, kept |
//! | `*3` | up to three words |
//! | `^` | nothing, where a command may begin |
//! | `$` | nothing, at the end of the sentence or before a mark |

use std::collections::HashMap;

use super::Unit;
use super::tokens::{Kind, Token};

/// One element of a pattern.
#[derive(Debug, Clone)]
enum Element {
    Words(Vec<&'static str>, bool),
    Tongue,
    Number,
    Unit,
    Quote,
    Gap(usize),
    Start,
    End,
}

/// What a pattern kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Match {
    /// One past the last token.
    pub(super) end: usize,
    /// The numbers, and the token each began at.
    pub(super) numbers: Vec<(u32, usize)>,
    pub(super) unit: Option<Unit>,
    /// The token of the name of a language.
    pub(super) tongue: Option<usize>,
    /// The token of a text in quotes.
    pub(super) quote: Option<usize>,
}

/// What the patterns ask about the tokens.
pub(super) trait Reading {
    fn tokens(&self) -> &[Token];
    /// One past the last token of the sentence.
    fn end(&self) -> usize;
    fn number(&self, at: usize) -> Option<(u32, usize)>;
    fn unit(&self, at: usize) -> Option<(Unit, usize)>;
    fn tongue(&self, at: usize) -> bool;
    fn may_begin(&self, at: usize) -> bool;
}

/// Patterns with what each means, found by their first word.
pub(super) struct Rules<M> {
    rules: Vec<(Vec<Element>, M)>,
    by_head: HashMap<&'static str, Vec<usize>>,
    headless: Vec<usize>,
}

impl<M: Copy> Rules<M> {
    /// Compiles `lines`. A class that does not exist matches nothing; a test reads every rule.
    pub(super) fn new(
        lines: impl Iterator<Item = (&'static str, M)>,
        classes: &[(&str, Vec<&'static str>)],
    ) -> Self {
        let mut rules = Vec::new();
        let mut by_head: HashMap<&'static str, Vec<usize>> = HashMap::new();
        let mut headless = Vec::new();
        for (line, meaning) in lines {
            let elements: Vec<Element> = line.split(' ').map(|word| element(word, classes)).collect();
            let index = rules.len();
            let mut anywhere = true;
            for element in &elements {
                match element {
                    Element::Words(words, optional) => {
                        for &word in words {
                            by_head.entry(word).or_default().push(index);
                        }
                        if !optional {
                            anywhere = false;
                            break;
                        }
                    }
                    Element::Start => {}
                    _ => break,
                }
            }
            if anywhere {
                headless.push(index);
            }
            rules.push((elements, meaning));
        }
        Self {
            rules,
            by_head,
            headless,
        }
    }

    /// Every rule that matches from `at`, the longest first.
    pub(super) fn all(&self, reading: &impl Reading, at: usize) -> Vec<(Match, M)> {
        let Some(token) = reading.tokens().get(at) else {
            return Vec::new();
        };
        let headed = self
            .by_head
            .get(token.folded.as_str())
            .map_or(&[][..], Vec::as_slice);
        let mut out: Vec<(Match, M)> = Vec::new();
        for &index in headed.iter().chain(&self.headless) {
            let (elements, meaning) = &self.rules[index];
            let mut found = Match::default();
            if matches(elements, reading, at, &mut found) {
                out.push((found, *meaning));
            }
        }
        out.sort_by_key(|(found, _)| std::cmp::Reverse(found.end));
        out
    }
}

fn element(word: &'static str, classes: &[(&str, Vec<&'static str>)]) -> Element {
    let (optional, word) = match word.strip_prefix('?') {
        Some(rest) if !rest.is_empty() => (true, rest),
        _ => (false, word),
    };
    match word {
        "#" => Element::Number,
        "%" => Element::Unit,
        "&quote" => Element::Quote,
        "^" => Element::Start,
        "$" => Element::End,
        "&lang" => Element::Tongue,
        _ => {
            if let Some(most) = word.strip_prefix('*').and_then(|n| n.parse().ok()) {
                return Element::Gap(most);
            }
            let mut words = Vec::new();
            for part in word.split('|') {
                match part.strip_prefix('@') {
                    Some(name) => {
                        let class = classes.iter().find(|(class, _)| *class == name);
                        words.extend(class.into_iter().flat_map(|(_, words)| words));
                    }
                    None => words.push(part),
                }
            }
            Element::Words(words, optional)
        }
    }
}

/// Whether `elements` match from `at`. Goes back over what is optional only; patterns are short.
fn matches(elements: &[Element], reading: &impl Reading, at: usize, found: &mut Match) -> bool {
    let Some((first, rest)) = elements.split_first() else {
        found.end = at;
        return true;
    };
    let inside = at < reading.end();
    let token = reading.tokens().get(at).filter(|_| inside);
    match first {
        Element::Words(words, optional) => {
            let here = token.is_some_and(|token| words.contains(&token.folded.as_str()));
            (here && matches(rest, reading, at + 1, found))
                || (*optional && matches(rest, reading, at, found))
        }
        Element::Tongue => {
            if !inside || !reading.tongue(at) {
                return false;
            }
            found.tongue = Some(at);
            matches(rest, reading, at + 1, found)
        }
        Element::Number => {
            let Some((number, next)) = reading.number(at).filter(|_| inside) else {
                return false;
            };
            found.numbers.push((number, at));
            let whole = matches(rest, reading, next, found);
            if !whole {
                found.numbers.pop();
            }
            whole
        }
        Element::Unit => {
            let Some((unit, next)) = reading.unit(at).filter(|_| inside) else {
                return false;
            };
            found.unit = Some(unit);
            matches(rest, reading, next, found)
        }
        Element::Quote => {
            if token.is_none_or(|token| token.kind != Kind::Quote) {
                return false;
            }
            found.quote = Some(at);
            matches(rest, reading, at + 1, found)
        }
        Element::Gap(most) => {
            for skipped in 0..=*most {
                if matches(rest, reading, at + skipped, found) {
                    return true;
                }
                let next = reading.tokens().get(at + skipped);
                if at + skipped >= reading.end() || next.is_none_or(|token| token.kind != Kind::Word) {
                    return false;
                }
            }
            false
        }
        Element::Start => reading.may_begin(at) && matches(rest, reading, at, found),
        Element::End => {
            (!inside || token.is_none_or(|token| token.kind != Kind::Word && token.kind != Kind::Quote))
                && matches(rest, reading, at, found)
        }
    }
}
