//! Which judgments a night learns from. No files and no clock: what goes in decides what comes out.
//!
//! 1. A judgment counts whose score is above 0.7, or that has a correction, which is then what is to be learnt. It must
//!    have a question (the last message of the user) and fit the bounds.
//! 2. Conversations that are equal but for case, marks and spaces are one; the newest judgment of it stays.
//! 3. The question, normalised like that, decides by its hash whether it is learnt or held out: the same on every night,
//!    whoever asks it and whatever was said before it.
//! 4. No key has more than half of what is chosen, or more than 20 where that is more: of a key with more, those stay
//!    whose hashes are lowest. A key that is alone in the whole log is not capped: there is nobody it could drown.
//! 5. Fewer than 10 new examples, nothing to learn, or nothing held out: the night is skipped.
//! 6. Of what nights before this one learnt, half as many as there are new ones are learnt again; which, is another draw
//!    each night. What was held out then is held out still.
//! 7. Secrets are taken out ([`crate::scrub`]); what says nothing after that is left out.
//!
//! The judgments are gone through twice: first each leaves a few numbers, then the texts of the chosen ones are kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::record::{Feedback, Message, Role, short_digest};
use crate::scrub::Scrubber;

/// Parts of 1000 of the questions that are held out.
const HELD_OUT: u64 = 200;

/// How is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// When the last accepted night began: what was judged after that is new. `None`: everything is.
    pub since: Option<Timestamp>,
    /// An answer is learnt whose score is above this.
    pub score: f64,
    /// Fewest new examples.
    pub least: usize,
    /// What a key may have in any case.
    pub per_key: usize,
    /// Part of the new examples' number that is learnt again of older ones: 0 to 1.
    pub replay: f64,
    /// Most examples of each split.
    pub most: usize,
    /// Most bytes of an example's texts.
    pub example_bytes: usize,
    /// Most bytes of all examples' texts.
    pub bytes: usize,
    /// Whether e-mail addresses are taken out like secrets.
    pub emails: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            since: None,
            score: 0.7,
            least: 10,
            per_key: 20,
            replay: 0.5,
            most: 4096,
            example_bytes: 64 * 1024,
            bytes: 32 * 1024 * 1024,
            emails: false,
        }
    }
}

/// What an example is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// To be learnt.
    Train,
    /// To see whether learning helps.
    HeldOut,
    /// To be learnt again.
    Replay,
}

/// A conversation and what is to be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// 32 hexadecimal digits: the same for the same conversation and target.
    pub id: String,
    /// What it is for.
    pub split: Split,
    /// The conversation.
    pub messages: Vec<Message>,
    /// What is to be answered.
    pub target: String,
}

/// How many judgments went which way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Judgments that were looked at.
    pub seen: u64,
    /// With too low a score and no correction.
    pub low: u64,
    /// Without a question, or without anything to answer.
    pub empty: u64,
    /// Longer than an example may be.
    pub long: u64,
    /// Equal to a newer one.
    pub doubled: u64,
    /// Above what a key may have.
    pub capped: u64,
    /// Above what a split or all together may have.
    pub surplus: u64,
    /// Nothing but secrets.
    pub secret: u64,
    /// Older ones that were not drawn.
    pub rested: u64,
    /// How often each rule took something out.
    pub scrubbed: BTreeMap<&'static str, u64>,
    /// Chosen to be learnt.
    pub train: u64,
    /// Chosen to be held out.
    pub held_out: u64,
    /// Chosen to be learnt again.
    pub replay: u64,
}

/// What a night learns from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The examples, oldest first.
    pub examples: Vec<Example>,
    /// How it came to them.
    pub tally: Tally,
}

/// Why a night is skipped. Fits after "the night is skipped: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    /// Too few new examples.
    #[error("{found} new examples, at least {least} are needed")]
    TooFew {
        /// How many there are.
        found: usize,
        /// How many there must be.
        least: usize,
    },
    /// All new examples are held out.
    #[error("nothing to learn: all {0} new examples are held out")]
    NothingToLearn(usize),
    /// None is held out, so that nobody could say whether learning helps.
    #[error("nothing is held out of {0} new examples")]
    NothingHeldOut(usize),
}

/// What is chosen, or why nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// There is something to learn.
    Chosen(Selected),
    /// There is no night.
    Skipped(Skip, Tally),
}

/// Is shown one judgment after the other.
pub type Each<'e> = &'e mut dyn FnMut(Feedback);

/// A judgment without its texts.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    /// Which it is of those that are shown.
    number: u64,
    key: u32,
    conversation: [u8; 16],
    held_out: bool,
    new: bool,
    time: Timestamp,
    bytes: usize,
}

/// Chooses by `rules` from the judgments that `show` shows, oldest first; it is asked twice and must show the same.
///
/// # Errors
/// Those of `show`.
pub fn select<E>(rules: &Rules, show: &mut dyn FnMut(Each<'_>) -> Result<(), E>) -> Result<Choice, E> {
    let mut tally = Tally::default();
    let mut sieve = Sieve::new(rules);
    show(&mut |feedback| sieve.take(&feedback, &mut tally))?;
    let chosen = match sieve.choose(&mut tally) {
        Ok(chosen) => chosen,
        Err(skip) => return Ok(Choice::Skipped(skip, tally)),
    };
    let scrubber = Scrubber::new(rules.emails);
    let (mut number, mut examples) = (0, Vec::with_capacity(chosen.len()));
    show(&mut |feedback| {
        if let Some(split) = chosen.get(&number) {
            match example(*split, feedback, &scrubber, &mut tally.scrubbed) {
                Some(example) => examples.push(example),
                None => tally.secret += 1,
            }
        }
        number += 1;
    })?;
    let count = |split| {
        let of = |example: &&Example| example.split == split;
        examples.iter().filter(of).count()
    };
    let (train, held_out, replay) = (count(Split::Train), count(Split::HeldOut), count(Split::Replay));
    (tally.train, tally.held_out, tally.replay) = (train as u64, held_out as u64, replay as u64);
    // Again, for what was nothing but secrets.
    Ok(match (train, held_out) {
        (0, all) => Choice::Skipped(Skip::NothingToLearn(all), tally),
        (all, 0) => Choice::Skipped(Skip::NothingHeldOut(all), tally),
        _ => Choice::Chosen(Selected { examples, tally }),
    })
}

/// Goes through the judgments the first time.
struct Sieve<'r> {
    rules: &'r Rules,
    number: u64,
    keys: HashMap<String, u32>,
    /// By conversation.
    newest: HashMap<[u8; 16], Candidate>,
}

impl<'r> Sieve<'r> {
    fn new(rules: &'r Rules) -> Self {
        Self {
            rules,
            number: 0,
            keys: HashMap::new(),
            newest: HashMap::new(),
        }
    }

    fn take(&mut self, feedback: &Feedback, tally: &mut Tally) {
        let number = self.number;
        self.number += 1;
        tally.seen += 1;
        let next = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        let key = *self.keys.entry(feedback.completion.key.clone()).or_insert(next);
        if feedback.judgment.score <= self.rules.score && feedback.judgment.correction.is_none() {
            tally.low += 1;
            return;
        }
        let messages = &feedback.completion.messages;
        let asked = messages.iter().rfind(|message| message.role == Role::User);
        let target = target_of(feedback);
        let Some(question) = asked.filter(|m| !m.content.trim().is_empty() && !target.trim().is_empty())
        else {
            tally.empty += 1;
            return;
        };
        let bytes = target.len() + messages.iter().map(|m| m.content.len()).sum::<usize>();
        if bytes > self.rules.example_bytes {
            tally.long += 1;
            return;
        }
        let candidate = Candidate {
            number,
            key,
            conversation: conversation(messages),
            held_out: is_held_out(&question.content),
            new: self.rules.since.is_none_or(|since| feedback.time > since),
            time: feedback.time,
            bytes,
        };
        let newest = self.newest.entry(candidate.conversation).or_insert(candidate);
        if newest.number != number {
            tally.doubled += 1;
            if candidate.time >= newest.time {
                *newest = candidate;
            }
        }
    }

    /// Which are chosen, by their numbers.
    fn choose(self, tally: &mut Tally) -> Result<HashMap<u64, Split>, Skip> {
        let rules = self.rules;
        let alone = self.keys.len() == 1;
        let cap = |list: &mut Vec<Candidate>, tally: &mut Tally| {
            if !alone {
                tally.capped += cap(list, rules.per_key);
            }
        };
        let (mut new, mut old): (Vec<_>, Vec<_>) = self.newest.into_values().partition(|c| c.new);
        cap(&mut new, tally);
        tally.surplus += cut(&mut new, 2 * rules.most, rules.bytes);
        // What was cut may have been the others'.
        cap(&mut new, tally);
        if new.len() < rules.least {
            return Err(Skip::TooFew {
                found: new.len(),
                least: rules.least,
            });
        }
        let fresh = new.len();
        let (mut held_out, mut train): (Vec<_>, Vec<_>) = new.into_iter().partition(|c| c.held_out);
        if train.is_empty() {
            return Err(Skip::NothingToLearn(fresh));
        }
        // Drawn anew each night: the night is part of what orders them.
        let night = rules.since.map_or(0, Timestamp::as_nanosecond).to_le_bytes();
        old.sort_by_cached_key(|c| short_digest(&[&night, &c.conversation]));
        let (mut held_before, mut replay): (Vec<_>, Vec<_>) = old.into_iter().partition(|c| c.held_out);
        cap(&mut replay, tally);
        cap(&mut held_before, tally);
        let bytes = |list: &[Candidate]| list.iter().map(|c| c.bytes).sum::<usize>();
        tally.surplus += cut(&mut train, rules.most, rules.bytes);
        let left = rules.bytes.saturating_sub(bytes(&train));
        held_out.append(&mut held_before);
        tally.surplus += cut_in_order(&mut held_out, rules.most, left);
        let left = left.saturating_sub(bytes(&held_out));
        if held_out.is_empty() {
            return Err(Skip::NothingHeldOut(fresh));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a part of a small count"
        )]
        let again = (train.len() as f64 * rules.replay.clamp(0.0, 1.0)).ceil() as usize;
        tally.rested += cut_in_order(&mut replay, again, left);
        let of = |list: Vec<Candidate>, split| list.into_iter().map(move |c| (c.number, split));
        Ok(of(train, Split::Train)
            .chain(of(held_out, Split::HeldOut))
            .chain(of(replay, Split::Replay))
            .collect())
    }
}

/// Takes out of `list` what a key has above `most`, or above what all others have together. How many went.
fn cap(list: &mut Vec<Candidate>, most: usize) -> u64 {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for candidate in &*list {
        *counts.entry(candidate.key).or_default() += 1;
    }
    // Only one can have more than all others.
    let Some((key, count)) = counts.into_iter().max_by_key(|(key, count)| (*count, *key)) else {
        return 0;
    };
    let may = most.max(list.len() - count);
    let surplus = count.saturating_sub(may);
    if surplus > 0 {
        let mut theirs: Vec<[u8; 16]> = list
            .iter()
            .filter(|c| c.key == key)
            .map(|c| c.conversation)
            .collect();
        theirs.sort_unstable();
        let gone: BTreeSet<[u8; 16]> = theirs.split_off(may).into_iter().collect();
        list.retain(|c| c.key != key || !gone.contains(&c.conversation));
    }
    surplus as u64
}

/// Keeps `most` of them within `bytes`, those whose hashes are lowest. How many went.
fn cut(list: &mut Vec<Candidate>, most: usize, bytes: usize) -> u64 {
    list.sort_unstable_by_key(|c| c.conversation);
    cut_in_order(list, most, bytes)
}

/// Keeps the first `most` of them within `bytes`. How many went.
fn cut_in_order(list: &mut Vec<Candidate>, most: usize, bytes: usize) -> u64 {
    let before = list.len();
    let mut sum = 0_usize;
    let fit = list.iter().take_while(|c| {
        sum = sum.saturating_add(c.bytes);
        sum <= bytes
    });
    let fit = fit.count().min(most);
    list.truncate(fit);
    (before - fit) as u64
}

fn target_of(feedback: &Feedback) -> &str {
    let answer = &feedback.completion.answer;
    feedback.judgment.correction.as_ref().unwrap_or(answer)
}

fn example(
    split: Split,
    feedback: Feedback,
    scrubber: &Scrubber,
    found: &mut BTreeMap<&'static str, u64>,
) -> Option<Example> {
    let target = scrubber.scrub(target_of(&feedback), found);
    if !scrubber.says_something(&target) {
        return None;
    }
    let messages: Vec<Message> = feedback
        .completion
        .messages
        .into_iter()
        .map(|message| Message {
            role: message.role,
            content: scrubber.scrub(&message.content, found),
        })
        .collect();
    let id = short_digest(&[&conversation(&messages), target.as_bytes()]);
    Some(Example {
        id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
        split,
        messages,
        target,
    })
}

/// Tells conversations apart that differ in more than case, marks and spaces.
fn conversation(messages: &[Message]) -> [u8; 16] {
    let texts: Vec<String> = messages.iter().map(|m| normalised(&m.content)).collect();
    let parts: Vec<&[u8]> = messages
        .iter()
        .zip(&texts)
        .flat_map(|(message, text)| [message.role.name().as_bytes(), text.as_bytes()])
        .collect();
    short_digest(&parts)
}

/// Whether a question is held out, on whatever night.
#[must_use]
pub fn is_held_out(question: &str) -> bool {
    let digest = short_digest(&[normalised(question).as_bytes()]);
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(head) % 1000 < HELD_OUT
}

/// Letters and digits in lower case, everything between them one space. A text without any stays as it is.
#[must_use]
pub fn normalised(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() {
            out.extend(c.to_lowercase());
        } else if !out.is_empty() && !out.ends_with(' ') {
            out.push(' ');
        }
    }
    if out.ends_with(' ') {
        out.pop();
    }
    if out.is_empty() {
        text.trim().to_owned()
    } else {
        out
    }
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
