//! What clients say of answers. An answer is handed over to be remembered and never waited for; a judgment is answered
//! once it is on disk. Texts go into the files of [`sarai_feedback`] and nowhere else.
//!
//! | module | duty |
//! | --- | --- |
//! | [`route`] | `POST /v1/feedback` |
//! | [`pace`] | how often a key may |

pub mod pace;
pub mod route;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use jiff::Timestamp;
use sarai_feedback::keeper::{Judging, Keeper, Refused};
use sarai_feedback::record::rounded;
use sarai_feedback::{Completion, Given, Judgment, Message, Role, Settings, What};
use sarai_reflection::{Outcome, Speaker, Turn};
use sarai_wire::feedback::{FeedbackStart, Forget, Forgotten};
use tokio::sync::oneshot;

use pace::Pace;

/// The way to what is kept.
pub struct Desk {
    /// `None` where the supervisor gave no folder.
    keeper: Option<Keeper>,
    enabled: bool,
    /// Where it is kept, if anywhere.
    folder: Option<PathBuf>,
    /// Moves when something is to be forgotten, and again when that is done.
    forgets: Arc<AtomicU64>,
    pace: Pace,
}

/// An answer that is owed, and given when it is dropped at the latest.
struct Owed<T: FnOnce(Forgotten)> {
    seq: u64,
    told: Option<T>,
}

impl<T: FnOnce(Forgotten)> Owed<T> {
    fn pay(mut self, lines: u64, trouble: Option<String>) {
        if let Some(told) = self.told.take() {
            let seq = self.seq;
            told(Forgotten { seq, lines, trouble });
        }
    }
}

impl<T: FnOnce(Forgotten)> Drop for Owed<T> {
    fn drop(&mut self) {
        if let Some(told) = self.told.take() {
            told(Forgotten {
                seq: self.seq,
                lines: 0,
                trouble: Some(
                    "forget: what keeps the feedback broke off; see: sarai logs gateway".to_owned(),
                ),
            });
        }
    }
}

/// Why a judgment is not kept.
pub enum NotKept {
    /// Answers cannot be judged here.
    Disabled,
    /// Too many of this key; seconds until it may again.
    TooFast(u32),
    /// Another reason.
    Refused(Refused),
}

impl Desk {
    /// Starts the thread that keeps.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(start: Option<FeedbackStart>) -> std::io::Result<Self> {
        let enabled = start.as_ref().is_some_and(|start| start.settings.enabled);
        let folder = start.as_ref().map(|start| start.folder.clone());
        let keeper = start.map(|start| {
            let settings = Settings {
                folder: start.folder,
                keep_days: start.settings.keep_days,
                max_bytes: start.settings.max_bytes,
                reserve: start.reserve,
            };
            Keeper::start(
                settings,
                Box::new(|sentence| tracing::warn!("feedback: {sentence}")),
            )
        });
        Ok(Self {
            keeper: keeper.transpose()?,
            enabled,
            folder,
            forgets: Arc::default(),
            pace: Pace::default(),
        })
    }

    /// Hands over an answer that is complete. What cannot be kept is counted as lost.
    pub fn remember(&self, id: &str, key: &str, turns: &[Turn], outcome: &Outcome) {
        let Some(keeper) = self.keeper.as_ref().filter(|_| self.enabled) else {
            return;
        };
        let message = |turn: &Turn| Message {
            role: match turn.speaker {
                Speaker::System => Role::System,
                Speaker::User => Role::User,
                Speaker::Assistant => Role::Assistant,
            },
            content: turn.text.clone(),
        };
        let source = &outcome.answer.source;
        keeper.remember(Completion {
            id: id.to_owned(),
            key: key.to_owned(),
            time: Timestamp::now(),
            model: source.model.clone(),
            digest: source.digest.clone(),
            adapter: source.adapter.as_ref().map(|adapter| adapter.digest.clone()),
            confidence: rounded(outcome.confidence),
            messages: turns.iter().map(message).collect(),
            answer: outcome.answer.text.clone(),
        });
    }

    /// Keeps a judgment; `id` is that of the feedback, if it is new.
    pub async fn judge(
        &self,
        key: String,
        completion: String,
        judgment: Judgment,
        id: String,
    ) -> Result<Given, NotKept> {
        let Some(keeper) = self.keeper.as_ref().filter(|_| self.enabled) else {
            return Err(NotKept::Disabled);
        };
        self.pace.take(&key, Instant::now()).map_err(NotKept::TooFast)?;
        let judging = Judging {
            key,
            completion,
            judgment,
            id,
        };
        let (to, answer) = oneshot::channel();
        // The client may have left meanwhile.
        keeper.judge(judging, Box::new(move |result| drop(to.send(result))));
        match answer.await {
            Ok(result) => result.map_err(NotKept::Refused),
            Err(_) => Err(NotKept::Refused(Refused::Busy)),
        }
    }

    /// Forgets; `told` hears what came of it, from another thread. Also where answers cannot be judged any more.
    /// Answered all the same where whoever keeps it breaks off.
    pub fn forget(&self, seq: u64, what: Forget, told: impl FnOnce(Forgotten) + Send + 'static) {
        let owed = Owed {
            seq,
            told: Some(told),
        };
        self.forgets.fetch_add(1, Ordering::SeqCst);
        let forgets = Arc::clone(&self.forgets);
        let what = match what {
            Forget::Completion { id } => What::Completion(id),
            Forget::Key { name } => What::Key(name),
            Forget::Everything => What::Everything,
        };
        match &self.keeper {
            Some(keeper) => keeper.forget(
                what,
                Box::new(move |result| {
                    let (lines, trouble) = match result {
                        Ok(lines) => (lines, None),
                        Err(refused) => (0, Some(refused.to_string())),
                    };
                    forgets.fetch_add(1, Ordering::SeqCst);
                    owed.pay(lines, trouble);
                }),
            ),
            None => owed.pay(0, Some("find the feedback: none is kept".to_owned())),
        }
    }

    /// The folder of what is kept; `None` where nothing is.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// A number that moves when something is to be forgotten, and again when it is.
    pub fn forgets(&self) -> u64 {
        self.forgets.load(Ordering::SeqCst)
    }

    /// Answers that could not be kept to be judged, since the start.
    pub fn lost(&self) -> u64 {
        self.keeper.as_ref().map_or(0, |keeper| keeper.stats().lost())
    }

    /// Takes nothing more; true once what it has is done.
    pub fn end(&self) -> bool {
        self.keeper.as_ref().is_none_or(|keeper| {
            keeper.end();
            keeper.ended()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_answered_once_also_where_it_breaks_off() {
        let (to, from) = std::sync::mpsc::channel();
        let owed = |seq| {
            let to = to.clone();
            let told = Some(move |forgotten| to.send(forgotten).unwrap());
            Owed { seq, told }
        };
        owed(1).pay(3, None);
        let broken = owed(2);
        let thread = std::thread::spawn(move || {
            let _broken = broken;
            panic!("a defect")
        });
        assert!(thread.join().is_err());
        drop(to);
        let answers: Vec<Forgotten> = from.iter().collect();
        assert_eq!(
            (answers[0].seq, answers[0].lines, &answers[0].trouble),
            (1, 3, &None)
        );
        assert_eq!((answers.len(), answers[1].seq), (2, 2));
        assert!(answers[1].trouble.as_ref().unwrap().contains("broke off"));
    }
}
