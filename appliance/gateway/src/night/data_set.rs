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
use sarai_feedback::{Choice, Example, Reader, Role, Rules, Selected, Split};
use sarai_reflection::FailureKind;
use sarai_wire::adapter::is_digest;
use sarai_wire::bounds;
use sarai_wire::engine::{Encode, Encoded, Message};
use sarai_wire::night::{ChoiceSettings, DATA_SET_FILES, DataSetOrder, DataSetOutcome};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::data_files::DataFiles;
use super::{WOKEN, Woken};
use crate::engine::{Encoder, Trouble};
use crate::house::House;

/// Most tokens of an example: as many as the trainer takes.
const MOST_TOKENS: u32 = 4096;
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
    train: u64,
    held_out: u64,
    replay: u64,
    /// Too many tokens.
    long: u64,
    /// The same text as another one's after secrets were taken out.
    doubled: u64,
    /// The model's template does not take the conversation.
    refused: u64,
    /// No room in the files.
    surplus: u64,
}

impl Written {
    fn count(&mut self, split: Split) {
        match split {
            Split::Train => self.train += 1,
            Split::HeldOut => self.held_out += 1,
            Split::Replay => self.replay += 1,
        }
    }

    /// Whether enough is left of what was chosen.
    fn check(&self, least: u64) -> Result<(), No> {
        let gone = format!(
            "{} of the chosen ones are too long, {} refused by the model's template",
            self.long, self.refused
        );
        let left = self.train + self.held_out;
        if self.train == 0 {
            Err(No::Skip(format!("nothing to learn is left: {gone}")))
        } else if self.held_out == 0 {
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
        files.finish().map_err(|e| No::fail("write the data set", e))?;
        // What was to be forgotten meanwhile may be in it.
        if self.house.feedback.forgets() != forgets {
            return Err(No::Fail(
                "finish the data set: feedback was to be forgotten meanwhile".to_owned(),
            ));
        }
        Ok(DataSetOutcome::Made {
            at: at.to_string(),
            train: written.train,
            held_out: written.held_out,
            replay: written.replay,
            long: written.long,
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
        Ok((encoder, info.context.min(MOST_TOKENS)))
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

    /// Makes tokens of the examples and writes them down.
    fn write(
        &self,
        examples: &[Example],
        (engine, most): &mut (Encoder, u32),
        files: &mut DataFiles,
    ) -> Result<Written, No> {
        let mut written = Written::default();
        let held_out = examples.iter().filter(|e| e.split == Split::HeldOut);
        let held_out: HashSet<&str> = held_out.map(|example| example.id.as_str()).collect();
        let mut seen = HashSet::new();
        for example in examples {
            // Without their secrets two may be the same: it is not learnt what is judged by.
            let judged_by = example.split != Split::HeldOut && held_out.contains(example.id.as_str());
            if judged_by || !seen.insert(example.id.as_str()) {
                written.doubled += 1;
                continue;
            }
            let encoded = match self.wait(engine.encode(question(example, *most)))? {
                Ok(encoded) => encoded,
                Err(Trouble::Request(failure)) if failure.kind == FailureKind::ContextLength => {
                    written.long += 1;
                    continue;
                }
                Err(Trouble::Request(failure)) if failure.kind == FailureKind::Invalid => {
                    written.refused += 1;
                    continue;
                }
                Err(trouble) => return Err(trouble.into()),
            };
            check(&encoded, *most, files.vocabulary())?;
            let fits = files.add(&self.order.base, example, &encoded);
            if fits.map_err(|e| No::fail("write the data set", e))? {
                written.count(example.split);
            } else {
                written.surplus += 1;
            }
        }
        Ok(written)
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
    let DataSetOrder { since, base, choice } = order;
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

fn question(example: &Example, most: u32) -> Encode {
    let message = |message: &sarai_feedback::Message| Message {
        role: match message.role {
            Role::System => sarai_wire::engine::Role::System,
            Role::User => sarai_wire::engine::Role::User,
            Role::Assistant => sarai_wire::engine::Role::Assistant,
        },
        content: message.content.clone(),
    };
    Encode {
        messages: example.messages.iter().map(message).collect(),
        text: example.target.clone(),
        most,
    }
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
        ("long", tally.long + written.long),
        ("doubled", tally.doubled + written.doubled),
        ("capped", tally.capped),
        ("surplus", tally.surplus + written.surplus),
        ("secret", tally.secret),
        ("scrubbed", tally.scrubbed.values().sum()),
        ("rested", tally.rested),
        ("refused", written.refused),
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
mod tests {
    use super::*;

    fn order() -> DataSetOrder {
        DataSetOrder {
            since: Some("2026-01-02T03:04:05Z".into()),
            base: "0a".repeat(32),
            choice: ChoiceSettings::default(),
        }
    }

    #[test]
    fn examples_are_as_long_as_the_trainer_takes_them() {
        assert_eq!(MOST_TOKENS as usize, sarai_trainer::training::data::MAX_TOKENS);
        assert_eq!(
            sarai_wire::night::MAX_DATA_SET,
            sarai_trainer::training::data::MAX_BYTES
        );
    }

    #[test]
    fn an_order_is_held_to_its_bounds() {
        let kept = rules(&order()).unwrap();
        assert_eq!((kept.least, kept.replay, kept.emails), (10, 0.5, false));
        assert_eq!(kept.since, Some("2026-01-02T03:04:05Z".parse().unwrap()));
        let changes: [&dyn Fn(&mut DataSetOrder); 5] = [
            &|order| order.since = Some("yesterday".into()),
            &|order| order.base = "0A".repeat(32),
            &|order| order.choice.least = 0,
            &|order| order.choice.replay = 1.5,
            &|order| order.choice.replay = f64::NAN,
        ];
        for change in changes {
            let mut order = order();
            change(&mut order);
            assert!(matches!(rules(&order), Err(No::Fail(_))), "{order:?}");
        }
    }

    #[test]
    fn what_the_engine_says_must_be_what_the_trainer_takes() {
        let encoded = |tokens: &[u32], answer| Encoded {
            tokens: tokens.to_vec(),
            answer,
            vocabulary: 10,
        };
        check(&encoded(&[1, 2, 9], 2), 3, Some(10)).unwrap();
        for (encoded, most, vocabulary) in [
            (encoded(&[1, 2, 9], 2), 2, None),
            (encoded(&[1, 2, 9], 0), 3, None),
            (encoded(&[1, 2, 9], 3), 3, None),
            (encoded(&[1, 2, 10], 2), 3, None),
            (encoded(&[1, 2, 9], 2), 3, Some(11)),
            (encoded(&[], 0), 3, None),
        ] {
            assert!(check(&encoded, most, vocabulary).is_err(), "{encoded:?}");
        }
    }

    #[test]
    fn too_little_that_is_left_is_no_night() {
        let written = |train, held_out| Written {
            train,
            held_out,
            long: 5,
            ..Written::default()
        };
        written(8, 2).check(10).unwrap();
        for (train, held_out, why) in [
            (0, 20, "nothing to learn is left: 5 of"),
            (20, 0, "held out"),
            (8, 1, "9 examples are left, at least 10 are needed"),
        ] {
            let Err(No::Skip(reason)) = written(train, held_out).check(10) else {
                panic!("{train} {held_out}")
            };
            assert!(reason.contains(why), "{reason}");
        }
    }
}
