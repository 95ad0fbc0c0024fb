//! Where the memory ladder stands, as the supervisor says, and which requests it touched.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sarai_wire::memory::{Rung, RungNotice};
use serde::Serialize;

use crate::errors::ApiError;

/// Most moves kept: far more than there are during any request.
const KEPT: usize = 64;
/// Longest reason kept, characters.
const MAX_REASON: usize = 200;
/// Seconds after which a refused client may try again, where the supervisor does not say.
const RETRY_AFTER: u32 = 10;

/// The ladder.
pub struct Ladder {
    /// Moves and when they came, the present one last; never empty.
    moves: Mutex<VecDeque<(Instant, Arc<RungNotice>)>>,
}

/// The `memory` member of a response's `omni_loop`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Touched {
    rung: &'static str,
    reason: String,
    context: Option<u32>,
}

impl Ladder {
    /// At its first rung.
    pub fn new() -> Self {
        Self {
            moves: Mutex::new(VecDeque::from([(Instant::now(), Arc::default())])),
        }
    }

    /// Takes what the supervisor says. Whether that is another rung than before.
    pub fn moved(&self, mut notice: RungNotice) -> bool {
        notice.reason = notice.reason.chars().take(MAX_REASON).collect();
        let mut moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        let before = moves.back().map(|(_, notice)| notice.rung);
        let moved = before != Some(notice.rung);
        moves.push_back((Instant::now(), Arc::new(notice)));
        if moves.len() > KEPT {
            moves.pop_front();
        }
        moved
    }

    /// Where it stands.
    pub fn now(&self) -> Arc<RungNotice> {
        let moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        moves
            .back()
            .map(|(_, notice)| Arc::clone(notice))
            .unwrap_or_default()
    }

    /// Whether the primary engine is stopped on purpose.
    pub fn without_primary(&self) -> bool {
        self.now().rung >= Rung::Fallback
    }

    /// Why no new request is taken, if none is.
    pub fn refusal(&self) -> Option<ApiError> {
        let now = self.now();
        (now.rung >= Rung::Refusing).then(|| {
            let why = Some(now.reason.as_str()).filter(|reason| !reason.is_empty());
            let why = why.map(|reason| format!(" ({reason})")).unwrap_or_default();
            ApiError::unavailable(
                "memory_pressure",
                format!(
                    "Memory is short{why}: no new requests are taken for the moment; those that run go on."
                ),
                now.retry_after_s.unwrap_or(RETRY_AFTER),
            )
        })
    }

    /// The lowest rung that it stood on since `began`; `None` when that was the first.
    pub fn touched(&self, began: Instant) -> Option<Touched> {
        let moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        // The last move before, and all since.
        let first = moves.iter().rposition(|(at, _)| *at <= began).unwrap_or(0);
        let (_, lowest) = moves.iter().skip(first).max_by_key(|(_, notice)| notice.rung)?;
        (lowest.rung > Rung::Normal).then(|| Touched {
            rung: lowest.rung.name(),
            reason: lowest.reason.clone(),
            context: lowest.context,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(rung: Rung) -> RungNotice {
        RungNotice {
            rung,
            reason: "the budget is nearly full".into(),
            context: (rung >= Rung::HalfContext).then_some(1024),
            retry_after_s: None,
        }
    }

    #[test]
    fn a_request_is_touched_by_the_lowest_rung_of_its_time() {
        let ladder = Ladder::new();
        let begin = Instant::now();
        assert_eq!(ladder.touched(begin), None);
        assert!(ladder.moved(notice(Rung::Caches)));
        let later = Instant::now();
        assert!(ladder.moved(notice(Rung::HalfContext)));
        assert!(ladder.moved(notice(Rung::Caches)));
        assert!(!ladder.moved(notice(Rung::Caches)));
        let touched = ladder.touched(begin).unwrap();
        assert_eq!((touched.rung, touched.context), ("half_context", Some(1024)));
        assert_eq!(ladder.touched(later), Some(touched));
        let now = Instant::now();
        assert_eq!(ladder.touched(now).unwrap().rung, "caches");
        ladder.moved(RungNotice::default());
        assert_eq!(ladder.touched(Instant::now()), None);
        assert_eq!(ladder.touched(now).unwrap().rung, "caches");
    }

    #[test]
    fn only_the_last_rung_refuses_and_says_when_to_come_back() {
        let ladder = Ladder::new();
        for rung in Rung::ALL {
            ladder.moved(notice(rung));
            assert_eq!(ladder.refusal().is_some(), rung == Rung::Refusing, "{rung:?}");
            assert_eq!(ladder.without_primary(), rung >= Rung::Fallback);
        }
        let refusal = ladder.refusal().unwrap();
        assert_eq!((refusal.code, refusal.retry_after), ("memory_pressure", Some(10)));
        assert!(refusal.message.contains("the budget is nearly full"));
        ladder.moved(RungNotice {
            retry_after_s: Some(30),
            ..notice(Rung::Refusing)
        });
        assert_eq!(ladder.refusal().unwrap().retry_after, Some(30));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let ladder = Ladder::new();
        let begin = Instant::now();
        for _ in 0..1000 {
            ladder.moved(RungNotice {
                reason: "é".repeat(10_000),
                ..notice(Rung::Caches)
            });
        }
        assert!(ladder.moves.lock().unwrap().len() <= KEPT);
        assert_eq!(ladder.touched(begin).unwrap().reason.chars().count(), MAX_REASON);
    }
}
