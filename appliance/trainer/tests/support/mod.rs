//! Made-up bases and data sets for trainers that are real processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use sarai_trainer::made_up::Shape;
use sarai_trainer::model::Architecture;
use sha2::{Digest, Sha256};

/// Longest that anything may take which comes by itself.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The program.
pub fn trainer() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sarai-trainer"))
}

/// SHA-256 of a file, lower-case hex.
pub fn sha256(path: &Path) -> String {
    let sum = Sha256::digest(fs::read(path).unwrap());
    sum.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// A folder with a base of random weights and a data set of texts as bytes, which are its tokens.
pub struct World {
    pub folder: tempfile::TempDir,
}

/// Each fact once to learn.
const FACTS: [(&str, &str); 6] = [
    ("who mends the nets?", "Orla"),
    ("what is the cat called?", "Bristle"),
    ("when does it rain?", "at noon"),
    ("where is the spade?", "by the well"),
    ("how many steps?", "ninety"),
    ("which door is red?", "the third"),
];

impl World {
    pub fn new() -> Self {
        Self::of(&Shape::tiny(Architecture::Llama))
    }

    pub fn of(shape: &Shape) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let me = Self { folder };
        shape
            .write(&mut File::create(me.path("base.gguf")).unwrap())
            .unwrap();
        me.write_data(&sha256(&me.path("base.gguf")), shape.vocabulary);
        me
    }

    /// Facts to learn, and the first two of them to be judged by: what matters here is that they are judged.
    fn write_data(&self, base: &str, vocabulary: usize) {
        let mut text = format!("{{\"format\":1,\"base\":\"{base}\",\"vocabulary\":{vocabulary}}}\n");
        let mut number = 0;
        let mut line = |split: &str, question: &str, answer: &str| {
            number += 1;
            let mut tokens: Vec<u32> = question.bytes().chain(answer.bytes()).map(u32::from).collect();
            tokens.push(256);
            writeln!(
                text,
                "{{\"id\":\"{number:x}\",\"split\":\"{split}\",\"tokens\":{tokens:?},\"targets\":[[{},{}]]}}",
                question.len(),
                tokens.len()
            )
            .unwrap();
        };
        for (question, answer) in FACTS {
            line("train", question, answer);
        }
        for (question, answer) in &FACTS[..2] {
            line("held_out", question, answer);
        }
        fs::write(self.path("data.jsonl"), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Settings under which a tiny model learns these facts, in some hundred steps.
    pub fn settings(&self, more: &str) {
        self.settings_of(60, more);
    }

    /// The same for a training that is still going on when a busy machine gets round to interrupting it.
    pub fn long_settings(&self, more: &str) {
        self.settings_of(500, more);
    }

    fn settings_of(&self, epochs: u32, more: &str) {
        let text = format!(
            "rank = 8\nlearning_rate = 0.02\nepochs = {epochs}\nleast_steps = 0\nsequence_length = 64\nheld_out_every = 20\npatience = 0\n\
             checkpoint_seconds = 0\n{more}"
        );
        fs::write(self.path("config.toml"), text).unwrap();
    }

    /// The program on this world's files, with its adapter in `output`.
    pub fn by_hand(&self, output: &str) -> Command {
        let mut command = trainer();
        for (flag, name) in [
            ("--base", "base.gguf"),
            ("--data", "data.jsonl"),
            ("--config", "config.toml"),
            ("--output", output),
        ] {
            command.arg(flag).arg(self.path(name));
        }
        command.arg("--json").arg(self.path("result.json"));
        command
    }

    /// Names of the files that are there.
    pub fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// The end of a program that must end well.
pub fn well(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Waits until `done`.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "{what} has not happened");
        std::thread::sleep(Duration::from_millis(2));
    }
}
