//! What a night learns from: chosen of the feedback by the rules of [`sarai_feedback::select`], made tokens by the engine
//! that serves, and written down. All of it on a thread of its own, which ends soon when the night does.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sarai_feedback::select::Tally;
use sarai_feedback::{Choice, Example, Reader, Rules, Selected, Split};
use sarai_reflection::{Failure, FailureKind};
use sarai_wire::adapter::is_digest;
use sarai_wire::bounds;
use sarai_wire::engine::{Encode, Encoded, Message, Role};
use sarai_wire::night::{ChoiceSettings, DATA_SET_FILES, DataSetOrder, DataSetOutcome, Examples};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::data_files::DataFiles;
use super::fit::{self, Fitted, Lost};
use super::suite;
use super::{WOKEN, Woken};
use crate::engine::{Encoder, Trouble};
use crate::house::House;

/// How long the engine may take to say what it runs, or the tokens of one example.
const ANSWER: Duration = Duration::from_secs(10);

/// Why there is no data set.
#[derive(Debug, PartialEq, Eq)]
enum No {
    /// There is nothing to do.
    Skip(String),
    /// It could not be done.
    Fail(String),
}

impl No {
    fn fail(what: &str, why: impl std::fmt::Display) -> Self {
        Self::Fail(format!("{what}: {why}"))
    }
}

impl From<Trouble> for No {
    fn from(trouble: Trouble) -> Self {
        Self::fail("make tokens of the examples", trouble)
    }
}

/// Chooses what is learnt and writes it into `files`: the data set, and the gate's examples.
pub async fn make(
    house: Arc<House>,
    order: DataSetOrder,
    files: [File; DATA_SET_FILES],
    woken: Woken,
) -> DataSetOutcome {
    let (to, outcome) = oneshot::channel();
    let engines = Handle::current();
    let work = move || {
        let making = Making {
            house: &house,
            order: &order,
            woken: &woken,
            engines: &engines,
        };
        let outcome = making.make(files).unwrap_or_else(|no| match no {
            No::Skip(reason) => DataSetOutcome::Skipped { reason },
            No::Fail(reason) => DataSetOutcome::Failed { reason },
        });
        // Nobody listens any more at the very end.
        let _ = to.send(outcome);
    };
    let started = std::thread::Builder::new().name("night".to_owned()).spawn(work);
    let reason = match started {
        Ok(_thread) => match outcome.await {
            Ok(outcome) => return outcome,
            Err(_) => "make the data set: its thread ended early".to_owned(),
        },
        Err(error) => format!("make the data set: no thread starts: {error}"),
    };
    DataSetOutcome::Failed { reason }
}

/// How many examples came to what.
#[derive(Debug, Default)]
struct Written {
    examples: Examples,
    /// The same text as another one's after secrets were taken out, or after it was shortened.
    doubled: u64,
    /// No room in the files.
    surplus: u64,
}

impl Written {
    fn count(&mut self, split: Split, lost: Lost) {
        let examples = &mut self.examples;
        match split {
            Split::Train => examples.train += 1,
            Split::HeldOut => examples.held_out += 1,
            Split::Replay => examples.replay += 1,
        }
        examples.shortened += u64::from(lost != Lost::Nothing);
        examples.cut += u64::from(lost == Lost::End);
    }

    /// Whether enough is left of what was chosen.
    fn check(&self, least: u64) -> Result<(), No> {
        let Examples {
            train,
            held_out,
            long,
            refused,
            ..
        } = self.examples;
        let gone =
            format!("{long} of the chosen ones are too long, {refused} refused by the model's template");
        let left = train + held_out;
        if train == 0 {
            Err(No::Skip(format!("nothing to learn is left: {gone}")))
        } else if held_out == 0 {
            Err(No::Skip(format!("nothing is left that is held out: {gone}")))
        } else if left < least {
            Err(No::Skip(format!(
                "{left} examples are left, at least {least} are needed: {gone}"
            )))
        } else {
            Ok(())
        }
    }
}

/// What the thread works with.
struct Making<'a> {
    house: &'a House,
    order: &'a DataSetOrder,
    woken: &'a Woken,
    /// Where the engine is talked to.
    engines: &'a Handle,
}

impl Making<'_> {
    fn make(&self, files: [File; DATA_SET_FILES]) -> Result<DataSetOutcome, No> {
        let rules = rules(self.order)?;
        let mut files = DataFiles::new(files).map_err(|e| No::fail("use the files of the data set", e))?;
        let mut engine = self.engine()?;
        let forgets = self.house.feedback.forgets();
        let at = Timestamp::now();
        let (Selected { examples, tally }, damaged) = self.choose(&rules)?;
        let written = self.write(&examples, &mut engine, &mut files)?;
        written.check(rules.least as u64)?;
        self.anchor(&mut engine, &mut files)?;
        files.finish().map_err(|e| No::fail("write the data set", e))?;
        // What was to be forgotten meanwhile may be in it.
        if self.house.feedback.forgets() != forgets {
            return Err(No::Fail(
                "finish the data set: feedback was to be forgotten meanwhile".to_owned(),
            ));
        }
        Ok(DataSetOutcome::Made {
            at: at.to_string(),
            examples: Examples {
                long: written.examples.long + tally.long,
                ..written.examples
            },
            tally: told(&tally, &written, damaged),
        })
    }

    /// A connection to the primary engine, which must run the order's base.
    fn engine(&self) -> Result<(Encoder, u32), No> {
        let greeting = self.house.primary.encoder(ANSWER);
        let (encoder, info) = self.wait(greeting)??;
        if info.digest != self.order.base {
            return Err(No::Fail(
                "ask the primary engine: it runs another model than the one that is to learn".to_owned(),
            ));
        }
        // A context that is smaller for the moment makes no example shorter: nothing is computed now.
        Ok((encoder, info.configured.min(self.order.length)))
    }

    /// The chosen examples, and how many lines cannot be read.
    fn choose(&self, rules: &Rules) -> Result<(Selected, u64), No> {
        let Some(folder) = self.house.feedback.folder() else {
            return Err(No::Skip("no feedback is kept".to_owned()));
        };
        let unreadable = |error: io::Error| No::fail("read the feedback", error);
        let reader = Reader::open_while(folder, &|| !self.woken.now()).map_err(|error| {
            if self.woken.now() {
                No::Fail(WOKEN.to_owned())
            } else {
                unreadable(error)
            }
        })?;
        let choice = sarai_feedback::select(rules, &mut |each| {
            let mut show = |feedback| {
                if self.woken.now() {
                    return ControlFlow::Break(());
                }
                each(feedback);
                ControlFlow::Continue(())
            };
            reader.each(&mut show).map_err(unreadable)?;
            self.go_on()
        })?;
        match choice {
            Choice::Chosen(selected) => Ok((selected, reader.counts().damaged)),
            Choice::Skipped(skip, _) => Err(No::Skip(skip.to_string())),
        }
    }

    /// Makes tokens of the examples and writes them down, as much of each as a row holds.
    fn write(
        &self,
        examples: &[Example],
        (engine, most): &mut (Encoder, u32),
        files: &mut DataFiles,
    ) -> Result<Written, No> {
        let mut written = Written::default();
        let held_out = |example: &&Example| example.split == Split::HeldOut;
        let others = examples.iter().filter(|example| !held_out(example));
        // Without their secrets, or shortened, two may be the same. It is not learnt what is judged by: that comes first.
        let (mut seen, mut said) = (HashSet::new(), HashSet::new());
        for example in examples.iter().filter(held_out).chain(others) {
            if !seen.insert(example.id.as_str()) {
                written.doubled += 1;
                continue;
            }
            let mut ask = |encode: Encode| match self.wait(engine.encode(encode)) {
                Ok(Ok(encoded)) => Ok(Some(encoded)),
                Ok(Err(Trouble::Request(failure))) if failure.kind == FailureKind::ContextLength => Ok(None),
                Ok(Err(Trouble::Request(failure))) if failure.kind == FailureKind::Invalid => Err(None),
                Ok(Err(trouble)) => Err(Some(No::from(trouble))),
                Err(no) => Err(Some(no)),
            };
            let Fitted {
                example,
                encoded,
                lost,
            } = match fit::fit(example, *most, &mut ask) {
                Ok(Some(fitted)) => fitted,
                Ok(None) => {
                    written.examples.long += 1;
                    continue;
                }
                Err(None) => {
                    written.examples.refused += 1;
                    continue;
                }
                Err(Some(no)) => return Err(no),
            };
            check(&encoded, *most, files.vocabulary())?;
            if !said.insert(digest(&encoded)) {
                written.doubled += 1;
                continue;
            }
            let fits = files.add(&self.order.base, &example, &encoded);
            if fits.map_err(|e| No::fail("write the data set", e))? {
                written.count(example.split, lost);
            } else {
                written.surplus += 1;
            }
        }
        Ok(written)
    }

    /// Writes down the general texts, where the training is held to what the model says without it.
    fn anchor(&self, (engine, most): &mut (Encoder, u32), files: &mut DataFiles) -> Result<(), No> {
        let suite = suite::suite().map_err(|e| No::fail("read the general texts of the night", e))?;
        let mut room = bounds::training::ANCHORED;
        for text in &suite.anchors {
            let encode = Encode {
                messages: vec![Message {
                    role: Role::User,
                    content: text.ask.clone(),
                }],
                text: text.answer.clone(),
                most: (*most).min(room),
                ends: true,
            };
            let encoded = match self.wait(engine.encode(encode))? {
                Ok(encoded) => encoded,
                // One that no row holds, or that the model's template refuses, can be done without.
                Err(Trouble::Request(Failure {
                    kind: FailureKind::ContextLength | FailureKind::Invalid,
                    ..
                })) => continue,
                Err(trouble) => return Err(trouble.into()),
            };
            check(&encoded, *most, files.vocabulary())?;
            room = room.saturating_sub(u32::try_from(encoded.tokens.len()).unwrap_or(u32::MAX));
            let id = format!("{:x}", Sha256::digest(&text.id));
            let fits = files.anchor(&self.order.base, &id, &encoded);
            if !fits.map_err(|e| No::fail("write the data set", e))? {
                break;
            }
        }
        Ok(())
    }

    fn go_on(&self) -> Result<(), No> {
        if self.woken.now() {
            Err(No::Fail(WOKEN.to_owned()))
        } else {
            Ok(())
        }
    }

    /// What `work` comes to, unless the night ends before that.
    fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, No> {
        let done = self.engines.block_on(self.woken.or(work));
        done.ok_or_else(|| No::Fail(WOKEN.to_owned()))
    }
}

/// The rules of the choice. What is ordered is held to its bounds once more.
fn rules(order: &DataSetOrder) -> Result<Rules, No> {
    let DataSetOrder {
        since,
        base,
        length,
        choice,
    } = order;
    let ChoiceSettings {
        least,
        replay,
        emails,
    } = *choice;
    if !is_digest(base) {
        return Err(No::Fail(
            "read the order: its base is no digest of 64 lower-case hex digits".to_owned(),
        ));
    }
    if !bounds::training::SEQUENCE_LENGTH.contains(length) {
        return Err(No::Fail(
            "read the order: the length of its examples is out of its bounds".to_owned(),
        ));
    }
    if !bounds::night::LEAST.contains(&least) || !bounds::night::REPLAY.contains(&replay) {
        return Err(No::Fail(
            "read the order: a setting of the choice is out of its bounds".to_owned(),
        ));
    }
    let since = since.as_deref().map(str::parse::<Timestamp>).transpose();
    let since = since.map_err(|e| No::fail("read when the last night was accepted", e))?;
    Ok(Rules {
        since,
        least: least as usize,
        replay,
        emails,
        ..Rules::default()
    })
}

/// What tells examples apart by what is learnt of them.
fn digest(encoded: &Encoded) -> [u8; 32] {
    let mut sum = Sha256::new();
    sum.update(encoded.answer.to_le_bytes());
    for token in &encoded.tokens {
        sum.update(token.to_le_bytes());
    }
    sum.finalize().into()
}

/// Whether the trainer can do with what the engine says: `vocabulary` is what it said before.
fn check(encoded: &Encoded, most: u32, vocabulary: Option<u32>) -> Result<(), No> {
    let length = encoded.tokens.len();
    let sound = length <= most as usize
        && (1..length).contains(&(encoded.answer as usize))
        && encoded.tokens.iter().all(|token| *token < encoded.vocabulary)
        && vocabulary.is_none_or(|before| before == encoded.vocabulary);
    if sound {
        Ok(())
    } else {
        Err(No::Fail(
            "understand the engine: its tokens contradict each other".to_owned(),
        ))
    }
}

/// How it came to the data set, in numbers.
fn told(tally: &Tally, written: &Written, damaged: u64) -> String {
    let numbers = [
        ("seen", tally.seen),
        ("damaged", damaged),
        ("low", tally.low),
        ("empty", tally.empty),
        ("long", tally.long + written.examples.long),
        ("shortened", written.examples.shortened),
        ("cut", written.examples.cut),
        ("doubled", tally.doubled + written.doubled),
        ("capped", tally.capped),
        ("surplus", tally.surplus + written.surplus),
        ("secret", tally.secret),
        ("scrubbed", tally.scrubbed.values().sum()),
        ("rested", tally.rested),
        ("refused", written.examples.refused),
    ];
    let mut text = String::new();
    for (name, number) in numbers {
        let space = if text.is_empty() { "" } else { " " };
        // A string takes everything.
        let _ = write!(text, "{space}{name}={number}");
    }
    text
}

#[cfg(test)]
#[path = "data_set_tests.rs"]
mod tests;
