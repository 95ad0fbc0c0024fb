//! What is to be forgotten, and what that covers.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::record::{self, Entry, Invalid};

/// What is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// One answer, by its completion's id, and what was said of it.
    Completion(String),
    /// Everything that came with a key, by its name.
    Key(String),
    /// Everything.
    Everything,
}

impl What {
    /// Holds it to its bounds.
    ///
    /// # Errors
    /// When an id or a name is none.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Completion(id) => record::name("completion_id", id),
            Self::Key(key) => record::name("key", key),
            Self::Everything => Ok(()),
        }
    }
}

/// What was asked to be forgotten, each with the number of its line: it covers what is before it.
#[derive(Debug, Default)]
pub struct Tombstones {
    everything: Option<u64>,
    keys: HashMap<String, u64>,
    completions: HashMap<String, u64>,
}

impl Tombstones {
    /// Notes that line `number` asks to forget this.
    pub fn note(&mut self, number: u64, what: &What) {
        match what {
            What::Completion(id) => drop(self.completions.insert(id.clone(), number)),
            What::Key(key) => drop(self.keys.insert(key.clone(), number)),
            What::Everything => self.everything = Some(number),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.everything.is_none() && self.keys.is_empty() && self.completions.is_empty()
    }

    /// Whether line `number`, about this completion of this key, is to be forgotten.
    #[must_use]
    pub fn cover(&self, number: u64, completion: &str, key: &str) -> bool {
        [
            self.everything.as_ref(),
            self.keys.get(key),
            self.completions.get(completion),
        ]
        .into_iter()
        .flatten()
        .any(|asked| number < *asked)
    }

    /// Whether line `number` may stay in a file: not what is to be forgotten, and not what cannot be read, since
    /// nobody knows whose it is.
    #[must_use]
    pub fn spare(&self, number: u64, line: Option<&[u8]>) -> bool {
        let Some(Ok(entry)) = line.map(Entry::parse) else {
            return false;
        };
        match entry {
            Entry::Completion(completion) => !self.cover(number, &completion.id, &completion.key),
            Entry::Feedback(feedback) => {
                let completion = &feedback.completion;
                !self.cover(number, &completion.id, &completion.key)
            }
            _ => true,
        }
    }
}

/// What was asked to be forgotten and may still be in the files, as it is found line by line.
#[derive(Debug, Default)]
pub struct Unfinished(Vec<(u64, Timestamp, What)>);

impl Unfinished {
    /// Takes in line `number`.
    pub fn note(&mut self, number: u64, entry: &Entry) {
        match entry {
            Entry::Forget { time, what } => self.0.push((number, *time, what.clone())),
            Entry::Forgotten { time, .. } => self.0.retain(|(_, asked, _)| asked != time),
            _ => {}
        }
    }

    /// One alone, asked for by line `number` at `time`.
    #[must_use]
    pub fn one(number: u64, time: Timestamp, what: What) -> Self {
        Self(vec![(number, time, what)])
    }

    /// What it is.
    pub fn whats(&self) -> impl Iterator<Item = &What> {
        self.0.iter().map(|(_, _, what)| what)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When each was asked for, and all together.
    #[must_use]
    pub fn all(&self) -> (Vec<Timestamp>, Tombstones) {
        let mut tombstones = Tombstones::default();
        for (number, _, what) in &self.0 {
            tombstones.note(*number, what);
        }
        (self.0.iter().map(|(_, asked, _)| *asked).collect(), tombstones)
    }
}
