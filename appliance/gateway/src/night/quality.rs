//! How answers go, adapter by adapter: sums that the supervisor compares from day to day. Numbers only.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sarai_feedback::Verdict;
use sarai_wire::birth::FromGateway;
use sarai_wire::night::{Judgments, Quality, Sums};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use crate::house::House;

/// Adapters that are told apart, the latest.
pub const MOST_ADAPTERS: usize = 16;
/// Least time between two reports.
const EVERY: Duration = Duration::from_secs(10);

/// The sums since the gateway's start. Only what the preferred model said counts: the fallback's answers say nothing of
/// an adapter.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The latest that moved is the last.
    sums: Mutex<VecDeque<Quality>>,
    moved: Notify,
}

impl Ledger {
    /// An answer was finished with this adapter, or none.
    pub fn answered(&self, adapter: Option<&str>, confidence: f64) {
        let confidence = sound(confidence);
        self.change(adapter, |sums| {
            sums.answers += 1;
            sums.confidence += confidence;
            sums.confidence_squared += confidence * confidence;
        });
    }

    /// An answer with this adapter, or none, was judged; of judgments of one answer the newest counts.
    pub fn judged(&self, adapter: Option<&str>, said: Verdict, replaced: Option<Verdict>) {
        let said = one(said);
        self.change(adapter, |sums| {
            sums.judged += said.judged;
            sums.score += said.score;
            sums.score_squared += said.score_squared;
            sums.corrected += said.corrected;
            if let Some(replaced) = replaced {
                sums.replaced = sums.replaced.and(one(replaced));
            }
        });
    }

    fn change(&self, adapter: Option<&str>, change: impl FnOnce(&mut Sums)) {
        let mut all = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|known| known.adapter.as_deref() == adapter);
        let mut latest = at.and_then(|at| all.remove(at)).unwrap_or_else(|| Quality {
            adapter: adapter.map(str::to_owned),
            sums: Sums::default(),
        });
        change(&mut latest.sums);
        all.push_back(latest);
        if all.len() > MOST_ADAPTERS {
            all.pop_front();
        }
        drop(all);
        self.moved.notify_one();
    }

    /// The sums, the latest that moved last.
    pub fn sums(&self) -> Vec<Quality> {
        let all = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().cloned().collect()
    }
}

/// The sums of one judgment.
fn one(Verdict { score, corrected }: Verdict) -> Judgments {
    let score = sound(score);
    Judgments {
        judged: 1,
        score,
        score_squared: score * score,
        corrected: corrected.into(),
    }
}

/// A number from 0 to 1; what is none is the worst.
fn sound(number: f64) -> f64 {
    if number.is_nan() {
        0.0
    } else {
        number.clamp(0.0, 1.0)
    }
}

/// Tells `told` of the sums whenever they moved: at once, but never within [`EVERY`] of the last time.
pub async fn tell(house: Arc<House>, told: UnboundedSender<FromGateway>) {
    tell_of(&house.quality, &told).await;
}

async fn tell_of(ledger: &Ledger, told: &UnboundedSender<FromGateway>) {
    loop {
        ledger.moved.notified().await;
        let at = Instant::now();
        let adapters = ledger.sums();
        if told.send(FromGateway::Quality { adapters }).is_err() {
            return;
        }
        tokio::time::sleep_until(at + EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_kept_by_adapter_and_what_is_no_share_is_bounded() {
        let ledger = Ledger::default();
        ledger.answered(None, 0.5);
        ledger.answered(Some("a"), 0.25);
        ledger.answered(Some("a"), 7.0);
        let verdict = |score, corrected| Verdict { score, corrected };
        ledger.judged(Some("a"), verdict(f64::NAN, true), None);
        ledger.judged(Some("a"), verdict(0.5, false), None);
        // The first of them is judged anew.
        ledger.judged(Some("a"), verdict(0.75, false), Some(verdict(f64::NAN, true)));
        let sums = ledger.sums();
        assert_eq!(
            sums[0],
            Quality {
                adapter: None,
                sums: Sums {
                    answers: 1,
                    confidence: 0.5,
                    confidence_squared: 0.25,
                    ..Sums::default()
                },
            }
        );
        assert_eq!(
            sums[1],
            Quality {
                adapter: Some("a".into()),
                sums: Sums {
                    answers: 2,
                    confidence: 1.25,
                    confidence_squared: 1.0625,
                    judged: 3,
                    score: 1.25,
                    score_squared: 0.8125,
                    corrected: 1,
                    replaced: Judgments {
                        judged: 1,
                        corrected: 1,
                        ..Judgments::default()
                    },
                },
            }
        );
        let newest = sums[1].sums.newest();
        assert_eq!((newest.judged, newest.score, newest.corrected), (2, 1.25, 0));
    }

    #[test]
    fn the_adapters_that_moved_last_stay() {
        let ledger = Ledger::default();
        for n in 0..MOST_ADAPTERS {
            ledger.answered(Some(&n.to_string()), 1.0);
        }
        let verdict = Verdict {
            score: 1.0,
            corrected: false,
        };
        ledger.judged(Some("0"), verdict, None);
        ledger.answered(None, 1.0);
        let names: Vec<_> = ledger.sums().into_iter().map(|sums| sums.adapter).collect();
        assert_eq!(names.len(), MOST_ADAPTERS);
        assert!(names.contains(&Some("0".into())) && names.contains(&None));
        assert!(!names.contains(&Some("1".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_told_at_once_then_now_and_then_and_only_when_it_moved() {
        let ledger = Arc::new(Ledger::default());
        let (to, mut told) = tokio::sync::mpsc::unbounded_channel();
        let of_task = Arc::clone(&ledger);
        let task = tokio::spawn(async move { tell_of(&of_task, &to).await });
        let begun = Instant::now();
        let answers = |message| match message {
            Some(FromGateway::Quality { adapters }) => adapters[0].sums.answers,
            other => panic!("{other:?}"),
        };
        ledger.answered(None, 1.0);
        assert_eq!(answers(told.recv().await), 1);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for _ in 0..5 {
            ledger.answered(None, 1.0);
            tokio::time::sleep(EVERY / 12).await;
        }
        assert!(told.try_recv().is_err());
        assert_eq!(answers(told.recv().await), 6);
        assert_eq!(begun.elapsed(), EVERY);
        tokio::time::sleep(EVERY * 10).await;
        assert!(told.try_recv().is_err());
        drop(told);
        ledger.answered(None, 1.0);
        task.await.unwrap();
    }
}
