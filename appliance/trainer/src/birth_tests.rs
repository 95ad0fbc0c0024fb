//! A trainer on a thread, its supervisor in the test: with a model that is not one, so that it takes no time.

use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::thread::JoinHandle;

use sarai_wire::training::{Ended, Outcome, Prepared, TrainingConfig};

use super::*;
use crate::learner::{Anchor, Learner, Loss, Sequence};
use crate::training::session::{Adapter, row_length};
use crate::training::testing::{Bigram, examples};

const BASE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

impl Adapter for Bigram {
    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn write(&self, parameters: &[f32], to: &mut dyn Write) -> Result<(), crate::Error> {
        let bytes: Vec<u8> = parameters.iter().flat_map(|p| p.to_le_bytes()).collect();
        to.write_all(&bytes).map_err(|source| crate::Error::Io {
            what: "write the adapter",
            source,
        })
    }

    fn read(&self, bytes: &[u8]) -> Result<Vec<f32>, crate::Error> {
        let floats = bytes.as_chunks::<4>().0;
        if bytes.len() != 4 * self.parameters() {
            return Err(crate::Error::AdapterFile("it is cut".into()));
        }
        Ok(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

/// A learner to whose losses something happens in every step.
struct Odd(Bigram, fn(&mut Loss));

impl Learner for Odd {
    fn parameters(&self) -> usize {
        self.0.parameters()
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        self.0.initial(seed)
    }

    fn loss(&mut self, parameters: &[f32], sequence: &Sequence) -> Result<Loss, crate::Error> {
        self.0.loss(parameters, sequence)
    }

    fn loss_and_gradient(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        gradient: &mut [f32],
    ) -> Result<Loss, crate::Error> {
        let mut loss = self.0.loss_and_gradient(parameters, sequence, gradient)?;
        (self.1)(&mut loss);
        Ok(loss)
    }

    fn anchor(&mut self, sequence: &Sequence) -> Result<Anchor, crate::Error> {
        self.0.anchor(sequence)
    }

    fn drift_and_gradient(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        anchor: &Anchor,
        weight: f32,
        gradient: &mut [f32],
    ) -> Result<f64, crate::Error> {
        self.0
            .drift_and_gradient(parameters, sequence, anchor, weight, gradient)
    }
}

impl Adapter for Odd {
    fn vocabulary(&self) -> usize {
        self.0.vocabulary
    }

    fn write(&self, parameters: &[f32], to: &mut dyn Write) -> Result<(), crate::Error> {
        self.0.write(parameters, to)
    }

    fn read(&self, bytes: &[u8]) -> Result<Vec<f32>, crate::Error> {
        self.0.read(bytes)
    }
}

fn quick(_: &File, config: &TrainingConfig) -> Result<Box<dyn Adapter>, crate::Error> {
    Ok(Box::new(Bigram::new(13, config.rank as usize)))
}

/// Computes for ever, so that it is interrupted wherever a test does it.
fn slow(_: &File, config: &TrainingConfig) -> Result<Box<dyn Adapter>, crate::Error> {
    let slowly = |_: &mut Loss| std::thread::sleep(Duration::from_millis(5));
    Ok(Box::new(Odd(Bigram::new(13, config.rank as usize), slowly)))
}

/// Its numbers break in every step.
fn ill(_: &File, config: &TrainingConfig) -> Result<Box<dyn Adapter>, crate::Error> {
    let broken = |loss: &mut Loss| loss.nll = f64::NAN;
    Ok(Box::new(Odd(Bigram::new(13, config.rank as usize), broken)))
}

fn broken(_: &File, _: &TrainingConfig) -> Result<Box<dyn Adapter>, crate::Error> {
    panic!("a bug")
}

fn data() -> Vec<u8> {
    let mut text = format!("{{\"format\":1,\"base\":\"{BASE}\",\"vocabulary\":13}}\n");
    for (number, example) in examples(30, 13, 1).into_iter().enumerate() {
        let split = if number < 20 { "train" } else { "held_out" };
        let line = serde_json::json!({
            "id": format!("{number:x}"), "split": split, "tokens": example.tokens,
            "targets": example.targets.iter().map(|span| (span.start, span.end)).collect::<Vec<_>>(),
        });
        text += &format!("{line}\n");
    }
    text.into_bytes()
}

/// The supervisor's side.
struct Supervisor {
    socket: OwnedFd,
    files: [File; FILES],
    trainer: JoinHandle<Result<bool>>,
}

impl Supervisor {
    fn new(open: Open) -> Self {
        let mut files = std::array::from_fn(|_| tempfile::tempfile().unwrap());
        files[1].write_all(&data()).unwrap();
        Self::with(files, open)
    }

    fn with(files: [File; FILES], open: Open) -> Self {
        let (socket, theirs) = birth::pair().unwrap();
        let trainer = std::thread::spawn(move || run(theirs, open, Control::default()));
        Self {
            socket,
            files,
            trainer,
        }
    }

    fn tell(&self, message: &ToTrainer) {
        birth::send(self.socket.as_fd(), message, &[]).unwrap();
    }

    fn start(&self, config: TrainingConfig) {
        self.start_from(config, None);
    }

    /// Starts it from an adapter of these bytes, said to have this digest.
    fn start_from(&self, config: TrainingConfig, initial: Option<(&[u8], &str)>) {
        let start = ToTrainer::Start(Box::new(TrainerStart {
            base: BASE.into(),
            config,
            initial: initial.map(|(_, digest)| digest.to_owned()),
        }));
        let adapter = initial.map(|(bytes, _)| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file
        });
        let raw: Vec<RawFd> = self
            .files
            .iter()
            .chain(&adapter)
            .map(AsRawFd::as_raw_fd)
            .collect();
        birth::send(self.socket.as_fd(), &start, &raw).unwrap();
    }

    /// What it wrote.
    fn written(&self) -> Vec<u8> {
        let (mut output, mut written) = (&self.files[2], Vec::new());
        output.rewind().unwrap();
        output.read_to_end(&mut written).unwrap();
        written
    }

    fn hear(&self) -> FromTrainer {
        birth::recv(self.socket.as_fd()).unwrap().0
    }

    /// What comes next besides progress.
    fn news(&self) -> FromTrainer {
        loop {
            match self.hear() {
                FromTrainer::Progress(_) => {}
                news => return news,
            }
        }
    }

    fn ready(&self) -> Prepared {
        match self.news() {
            FromTrainer::Ready(prepared) => prepared,
            other => panic!("{other:?}"),
        }
    }

    fn done(&self) -> Outcome {
        match self.news() {
            FromTrainer::Done(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// Rows so far, and whether it stands still.
    fn ping(&self) -> (u64, bool) {
        self.tell(&ToTrainer::Ping { seq: 7 });
        match self.news() {
            FromTrainer::Pong { seq: 7, rows, paused } => (rows, paused),
            other => panic!("{other:?}"),
        }
    }

    fn refused(self) -> String {
        let reason = match self.news() {
            FromTrainer::Failed { reason } => reason,
            other => panic!("{other:?}"),
        };
        assert!(!self.trainer.join().unwrap().unwrap_or(false));
        reason
    }
}

fn config() -> TrainingConfig {
    TrainingConfig {
        rank: 3,
        learning_rate: 0.05,
        sequence_length: 32,
        checkpoint_seconds: 0,
        ..TrainingConfig::default()
    }
}

#[test]
fn from_its_start_to_an_adapter() {
    let supervisor = Supervisor::new(quick);
    supervisor.start(config());
    let prepared = supervisor.ready();
    assert_eq!(
        (prepared.examples, prepared.held_out, prepared.resumed),
        (20, 10, 0)
    );
    let outcome = supervisor.done();
    let written = supervisor.written();
    assert!(supervisor.trainer.join().unwrap().unwrap());
    assert_eq!((outcome.ended, outcome.steps), (Ended::Finished, prepared.steps));
    assert!(outcome.held_out.unwrap() < outcome.held_out_before.unwrap());
    assert_eq!(outcome.size, written.len() as u64);
    assert_eq!(outcome.size, prepared.parameters * 4);
    assert_eq!(outcome.sha256, sha256(&written));
}

#[test]
fn numbers_that_break_again_and_again_are_said_and_leave_no_adapter() {
    let supervisor = Supervisor::new(ill);
    supervisor.start(config());
    supervisor.ready();
    let mut notes = 0;
    let reason = loop {
        match supervisor.news() {
            FromTrainer::Note { text } => {
                assert!(text.starts_with("the loss at step 0 is not finite"), "{text}");
                notes += 1;
            }
            FromTrainer::Failed { reason } => break reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(notes, 3);
    assert!(
        reason.starts_with("train: the loss at step 0 is not finite, after 3 returns"),
        "{reason}"
    );
    assert!(supervisor.written().is_empty());
    assert!(!supervisor.trainer.join().unwrap().unwrap());
}

fn sha256(bytes: &[u8]) -> String {
    crate::training::hex(&<sha2::Sha256 as sha2::Digest>::digest(bytes).into())
}

/// What a trainer that is started so says first, and what it has written at its end.
fn trained_from(initial: Option<(&[u8], &str)>) -> (Vec<String>, Prepared, Vec<u8>) {
    let supervisor = Supervisor::new(quick);
    supervisor.start_from(config(), initial);
    let mut notes = Vec::new();
    let prepared = loop {
        match supervisor.news() {
            FromTrainer::Note { text } => notes.push(text),
            FromTrainer::Ready(prepared) => break prepared,
            other => panic!("{other:?}"),
        }
    };
    supervisor.done();
    let written = supervisor.written();
    assert!(supervisor.trainer.join().unwrap().unwrap());
    (notes, prepared, written)
}

#[test]
fn what_was_learned_is_gone_on_from_bit_for_bit() {
    use crate::training::{control::Control, data, packing::Pieces, run, state::State};
    let (_, first, before) = trained_from(None);
    let (notes, second, after) = trained_from(Some((&before, &sha256(&before))));
    assert_eq!((first.continued, second.continued, notes.len()), (false, true, 0));
    // The same by hand: a training whose numbers at its beginning are those of the adapter.
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&data()).unwrap();
    let data = data::read(&file, BASE, 13).unwrap();
    let train = Pieces::new(&data.train, row_length(&config(), &data.train));
    let held_out = Pieces::new(&data.held_out, 32);
    let mut learner = Bigram::new(13, 3);
    let state = State::new(learner.read(&before).unwrap());
    let (control, begin) = (Control::default(), Instant::now());
    let end = run::run(
        run::Run {
            learner: &mut learner,
            config: &config(),
            train: &train,
            held_out: &held_out,
            anchors: &[],
            control: &control,
            elapsed: &|| begin.elapsed(),
            tell: &mut |_| {},
            save: None,
        },
        state,
    );
    let run::End::Trained(trained) = end.unwrap() else {
        panic!("it was stopped")
    };
    let mut expected = Vec::new();
    learner.write(&trained.parameters, &mut expected).unwrap();
    assert_eq!(after, expected);
    assert_ne!(after, before);
}

#[test]
fn an_adapter_that_does_not_fit_is_said_and_it_begins_from_none() {
    let (_, _, plain) = trained_from(None);
    let good = sha256(&plain);
    let cut = &plain[..plain.len() - 4];
    let long = vec![0; plain.len() + (1 << 20) + 1];
    for (bytes, digest, why) in [
        (plain.as_slice(), "0".repeat(64), "not 0000"),
        (&plain, String::new(), "its SHA-256 is"),
        (cut, sha256(cut), "it is cut"),
        (&long, sha256(&long), "more than the"),
        (&[], sha256(&[]), "it is cut"),
        (cut, good, "its SHA-256 is"),
    ] {
        let (notes, prepared, written) = trained_from(Some((bytes, &digest)));
        assert!(notes.len() == 1 && notes[0].contains(why), "{why}: {notes:?}");
        assert!(!prepared.continued);
        assert_eq!(written, plain);
    }
}

#[test]
fn a_checkpoint_belongs_to_the_adapter_it_began_from() {
    let (_, _, adapter) = trained_from(None);
    let long = TrainingConfig {
        epochs: 1000,
        patience: 0,
        ..config()
    };
    let digest = sha256(&adapter);
    let from = Some((adapter.as_slice(), digest.as_str()));
    let first = Supervisor::new(slow);
    first.start_from(long.clone(), from);
    assert!(first.ready().continued);
    while first.ping().0 < 20 {}
    first.tell(&ToTrainer::Stop);
    let FromTrainer::Stopped { step, saved: true } = first.news() else {
        panic!("it was not stopped in order")
    };
    first.trainer.join().unwrap().unwrap();
    let second = Supervisor::with(first.files, slow);
    second.start_from(long.clone(), from);
    assert!(matches!(second.news(), FromTrainer::Note { text } if text.contains("it is older")));
    let prepared = second.ready();
    assert_eq!((prepared.resumed, prepared.continued), (step, true));
    drop(second.socket);
    second.trainer.join().unwrap().unwrap();
    neither_is_gone_on_from(second.files, long);
}

/// Both checkpoints of these files belong to another setting than `config`: it begins anew, and says so.
fn neither_is_gone_on_from(files: [File; FILES], config: TrainingConfig) {
    let heir = Supervisor::with(files, slow);
    heir.start(config);
    for _ in 0..2 {
        assert!(
            matches!(heir.news(), FromTrainer::Note { text } if text.contains("it belongs to another setting"))
        );
    }
    assert_eq!(heir.ready().resumed, 0);
    drop(heir.socket);
    heir.trainer.join().unwrap().unwrap();
}

#[test]
fn it_stands_still_goes_on_and_stops_as_it_is_told_and_its_heir_goes_on() {
    let long = TrainingConfig {
        epochs: 1000,
        patience: 0,
        ..config()
    };
    let first = Supervisor::new(slow);
    first.start(long.clone());
    first.ready();
    while first.ping().0 < 20 {}
    first.tell(&ToTrainer::Pause);
    // The row at hand may still be counted.
    while !first.ping().1 {}
    std::thread::sleep(Duration::from_millis(100));
    let stood = first.ping().0;
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(first.ping(), (stood, true));
    first.tell(&ToTrainer::Resume);
    while first.ping().0 <= stood {}
    first.tell(&ToTrainer::Stop);
    let FromTrainer::Stopped { step, saved: true } = first.news() else {
        panic!("it was not stopped in order")
    };
    assert!(first.trainer.join().unwrap().unwrap());
    assert!(step > 0);

    let second = Supervisor::with(first.files, slow);
    second.start(long.clone());
    // The other checkpoint is older.
    assert!(matches!(second.news(), FromTrainer::Note { text } if text.contains("it is older")));
    assert_eq!(second.ready().resumed, step);
    // The supervisor's end is a stop.
    drop(second.socket);
    assert!(second.trainer.join().unwrap().unwrap());

    neither_is_gone_on_from(second.files, TrainingConfig { seed: 1, ..long });
}

#[test]
fn what_cannot_be_trained_is_a_reason() {
    let with = |change: fn(&mut TrainingConfig)| {
        let mut config = config();
        change(&mut config);
        let supervisor = Supervisor::new(quick);
        supervisor.start(config);
        supervisor.refused()
    };
    assert!(with(|c| c.rank = 0).contains("rank is 0, must be 1 to 64"));
    let supervisor = Supervisor::new(quick);
    supervisor.files[1].set_len(150).unwrap();
    supervisor.start(config());
    assert!(supervisor.refused().contains("read the data set: line 2: EOF"));
    let supervisor = Supervisor::new(broken);
    supervisor.start(config());
    assert_eq!(supervisor.refused(), "go on: a thread panicked");
    let supervisor = Supervisor::new(quick);
    supervisor.tell(&ToTrainer::Pause);
    assert!(supervisor.refused().contains("before it said start"));
    let supervisor = Supervisor::new(quick);
    let start = |initial: Option<&str>| {
        ToTrainer::Start(Box::new(TrainerStart {
            base: BASE.into(),
            config: config(),
            initial: initial.map(str::to_owned),
        }))
    };
    supervisor.tell(&start(None));
    assert!(
        supervisor
            .refused()
            .contains("0 descriptors came, 5 were expected")
    );
    for (files, initial, why) in [
        (5, Some(BASE), "5 descriptors came, 6 were expected"),
        (6, None, "6 descriptors came, 5 were expected"),
    ] {
        let supervisor = Supervisor::new(quick);
        let raw: Vec<RawFd> = supervisor
            .files
            .iter()
            .cycle()
            .map(AsRawFd::as_raw_fd)
            .take(files)
            .collect();
        birth::send(supervisor.socket.as_fd(), &start(initial), &raw).unwrap();
        assert!(supervisor.refused().contains(why), "{why}");
    }
}

#[test]
fn nothing_to_start_is_no_failure() {
    let supervisor = Supervisor::new(quick);
    supervisor.tell(&ToTrainer::Stop);
    assert!(supervisor.trainer.join().unwrap().unwrap());
    let supervisor = Supervisor::new(quick);
    drop(supervisor.socket);
    assert!(supervisor.trainer.join().unwrap().unwrap());
}
