//! What an admin should look at: one sentence a topic, replaced or cleared by whoever owns the topic.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::logs::Logs;

/// Locks even after a panic elsewhere: the data behind these locks is replaced whole, never half-written.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The list behind `status`'s `problems`.
#[derive(Clone)]
pub struct Problems {
    topics: Arc<Mutex<BTreeMap<String, String>>>,
    logs: Logs,
}

impl Problems {
    /// An empty list; changes are also logged.
    #[must_use]
    pub fn new(logs: Logs) -> Self {
        Self {
            topics: Arc::default(),
            logs,
        }
    }

    /// States or restates the problem of `topic`; logged when it is new or changed.
    pub fn set(&self, topic: &str, text: impl Into<String>) {
        let text = text.into();
        let mut topics = lock(&self.topics);
        if topics.get(topic) != Some(&text) {
            self.logs.say(&format!("problem: {text}"));
            topics.insert(topic.to_owned(), text);
        }
    }

    /// The problem of `topic` is gone.
    pub fn clear(&self, topic: &str) {
        if let Some(text) = lock(&self.topics).remove(topic) {
            self.logs.say(&format!("solved: {text}"));
        }
    }

    /// All sentences.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        lock(&self.topics).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_holds_one_sentence_until_it_is_cleared() {
        let problems = Problems::new(Logs::in_memory());
        problems.set("data", "full");
        problems.set("data", "still full");
        problems.set("clock", "wrong");
        assert_eq!(problems.list(), ["wrong", "still full"]);
        problems.clear("data");
        problems.clear("data");
        assert_eq!(problems.list(), ["wrong"]);
    }
}
