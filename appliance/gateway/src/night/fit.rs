//! An example within a row of the trainer. What an answer is learnt from may be shorter than what it was given to; the
//! answer itself must be there, or nothing is learnt.
//!
//! What is too long loses, in this order and no more than it must: the oldest turns, the instructions before all turns,
//! the beginning of the last question, and, where the answer alone is longer than a row, the answer's end. Each is a
//! conversation again, so the model's template is applied to what is left as to any other, and whoever reads the text
//! (the gate) reads what was learnt.

use std::ops::RangeInclusive;

use sarai_feedback::{Example, Message, Role};
use sarai_wire::engine::{self, Encode, Encoded};

/// For so many tokens of a row a byte of a question's end stays whatever the answer's length: an answer to nothing
/// teaches nothing.
const QUESTION: u32 = 8;
/// How far back from where an answer must be cut a word's end is looked for, bytes.
const WORD: usize = 64;

/// What an example lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Nothing.
    Nothing,
    /// The beginning of its conversation.
    Beginning,
    /// That, and the end of its answer.
    End,
}

/// An example that a row holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Fitted {
    /// Its text.
    pub example: Example,
    /// Its tokens.
    pub encoded: Encoded,
    /// What it lost.
    pub lost: Lost,
}

/// An example, perhaps in part.
#[derive(Clone, Copy)]
struct Part<'a> {
    of: &'a Example,
    /// Whether the instructions before all turns are there.
    instructed: bool,
    /// The first message besides.
    first: usize,
    /// Bytes that it lacks at its beginning.
    skipped: usize,
    /// Bytes of the answer, where its end is missing.
    end: Option<usize>,
}

impl Part<'_> {
    fn messages(&self) -> Vec<Message> {
        let all = &self.of.messages;
        let kept = instructions(all).min(self.first);
        let mut messages = all[if self.instructed { 0..kept } else { 0..0 }].to_vec();
        messages.extend_from_slice(&all[self.first..]);
        if let Some(message) = messages.get_mut(if self.instructed { kept } else { 0 }) {
            message.content.drain(..self.skipped);
        }
        messages
    }

    fn target(&self) -> &str {
        &self.of.target[..self.end.unwrap_or(self.of.target.len())]
    }

    fn question(&self, most: u32) -> Encode {
        let message = |message: Message| engine::Message {
            role: match message.role {
                Role::System => engine::Role::System,
                Role::User => engine::Role::User,
                Role::Assistant => engine::Role::Assistant,
            },
            content: message.content,
        };
        Encode {
            messages: self.messages().into_iter().map(message).collect(),
            text: self.target().to_owned(),
            most,
            ends: self.end.is_none(),
        }
    }

    fn fitted(&self, encoded: Encoded) -> Fitted {
        let whole = self.first == 0 || (self.instructed && self.first == instructions(&self.of.messages));
        Fitted {
            lost: match self.end {
                Some(_) => Lost::End,
                None if whole && self.skipped == 0 => Lost::Nothing,
                None => Lost::Beginning,
            },
            example: Example {
                messages: self.messages(),
                target: self.target().to_owned(),
                ..self.of.clone()
            },
            encoded,
        }
    }
}

/// How many messages before all turns instruct.
fn instructions(messages: &[Message]) -> usize {
    let turn = messages.iter().position(|message| message.role != Role::System);
    turn.unwrap_or(0)
}

/// As much of `example` as has at most `most` tokens; `None` where none of its answer does. `ask` says what tokens
/// something has, or nothing where those are too many.
///
/// # Errors
/// Those of `ask`.
pub fn fit<E>(
    example: &Example,
    most: u32,
    ask: &mut impl FnMut(Encode) -> Result<Option<Encoded>, E>,
) -> Result<Option<Fitted>, E> {
    let messages = &example.messages;
    let whole = Part {
        of: example,
        instructed: true,
        first: instructions(messages),
        skipped: 0,
        end: None,
    };
    let mut try_of = |part: Part<'_>| {
        let encoded = ask(part.question(most))?;
        Ok(encoded.map(|encoded| part.fitted(encoded)))
    };
    if let Some(fitted) = try_of(whole)? {
        return Ok(Some(fitted));
    }
    // A conversation goes on from a question, never from an answer.
    let questions = messages.iter().enumerate();
    let questions = questions.filter(|(at, message)| *at > whole.first && message.role == Role::User);
    let starts: Vec<usize> = questions.map(|(at, _)| at).collect();
    let later = |turns: usize| Part {
        first: starts[starts.len() - turns],
        ..whole
    };
    if let Some(fitted) = longest(1..=starts.len(), |turns| try_of(later(turns)))? {
        return Ok(Some(fitted));
    }
    let last = Part {
        instructed: false,
        first: starts.last().copied().unwrap_or(whole.first),
        ..whole
    };
    if let Some(fitted) = try_of(last)? {
        return Ok(Some(fitted));
    }
    let Some(question) = messages.get(last.first).map(|message| &message.content) else {
        return Ok(None);
    };
    let ending = |bytes: usize| Part {
        skipped: question.ceil_char_boundary(question.len() - bytes),
        ..last
    };
    let least = least_question(question, most);
    if let Some(fitted) = longest(least..=question.len(), |bytes| try_of(ending(bytes)))? {
        return Ok(Some(fitted));
    }
    let target = &example.target;
    let until = |end: usize| Part {
        end: Some(end),
        ..ending(least)
    };
    let cut = longest(1..=target.len(), |bytes| {
        try_of(until(target.ceil_char_boundary(bytes)))
    })?;
    let Some(cut) = cut else {
        return Ok(None);
    };
    // Half a word is nothing to be learnt.
    match word_end(target, cut.example.target.len()) {
        Some(end) => Ok(try_of(until(end))?.or(Some(cut))),
        None => Ok(Some(cut)),
    }
}

/// Bytes of a question's end that stay in a row of so many tokens.
fn least_question(question: &str, row: u32) -> usize {
    ((row / QUESTION).max(1) as usize).min(question.len())
}

/// What `of` has for the largest of `sizes` for which it has anything; it has for each that is smaller, too.
fn longest<T, E>(
    sizes: RangeInclusive<usize>,
    mut of: impl FnMut(usize) -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let (mut least, mut most) = sizes.into_inner();
    let mut best = None;
    while least <= most {
        // The smallest first: often not even that fits.
        let middle = if best.is_none() {
            least
        } else {
            least + (most - least) / 2
        };
        match of(middle)? {
            Some(found) => (best, least) = (Some(found), middle + 1),
            None if best.is_none() => break,
            None => most = middle - 1,
        }
    }
    Ok(best)
}

/// Where the last word ends before `cut`, unless one ends there, or none does near.
fn word_end(text: &str, cut: usize) -> Option<usize> {
    if cut == text.len() || text[cut..].starts_with(char::is_whitespace) {
        return None;
    }
    let (end, _) = text[..cut].rmatch_indices(char::is_whitespace).next()?;
    let end = text[..end].trim_end().len();
    (end > 0 && cut - end <= WORD).then_some(end)
}

#[cfg(test)]
#[path = "fit_tests.rs"]
mod tests;
