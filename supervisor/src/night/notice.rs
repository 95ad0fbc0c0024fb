//! What the gateway is told of the nights, for its metrics.

use std::time::Duration;

use jiff::Timestamp;
use sarai_wire::night::{Night, NightNotice, NightStage};

use super::state::State;
use crate::app::{App, Shared};
use crate::problems::lock;
use crate::service::{GATEWAY, Order};

/// Least time between two notices.
const EVERY: Duration = Duration::from_secs(1);

/// How the nights stand.
#[must_use]
pub fn notice(app: &Shared) -> NightNotice {
    let inner = lock(&app.night.inner);
    of(&inner.state, inner.stage.clone())
}

fn of(state: &State, now: NightStage) -> NightNotice {
    NightNotice {
        now,
        last: state
            .nights
            .first()
            .and_then(|night| Some((night.result.end(), ended(night)?))),
        accepted: state.accepted,
        counts: state.counts,
    }
}

/// When a night ended, seconds since 1970.
pub fn ended(night: &Night) -> Option<i64> {
    let began: Timestamp = night.began.parse().ok()?;
    began.as_second().checked_add(i64::try_from(night.seconds).ok()?)
}

/// Tells the gateway whenever they moved, at most once a second, until the supervisor ends.
pub async fn tell(app: App) {
    loop {
        app.night.moved.notified().await;
        // One that does not run is told once it serves.
        let _ = app.orders.send(GATEWAY, Order::Notice);
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sarai_wire::night::{NightEnd, NightResult};

    fn night(began: &str, result: NightResult) -> Night {
        Night {
            began: began.into(),
            seconds: 90,
            result,
            examples: None,
            figures: None,
            later: None,
        }
    }

    #[test]
    fn the_last_night_and_the_last_accepted_one_are_told_with_their_times() {
        let mut state = State::default();
        assert_eq!(of(&state, NightStage::Idle), NightNotice::default());
        let adapter = "night-1".to_owned();
        state.ended(night("2026-01-01T02:00:00Z", NightResult::Applied { adapter }));
        let accepted = of(&state, NightStage::Choosing);
        let first = 1_767_232_800 + 90;
        assert_eq!(accepted.now, NightStage::Choosing);
        assert_eq!(accepted.last, Some((NightEnd::Applied, first)));
        assert_eq!(accepted.accepted, Some(first));
        // However many follow.
        for _ in 0..40 {
            let reason = "few".to_owned();
            state.ended(night("2026-01-02T02:00:00Z", NightResult::Skipped { reason }));
        }
        let told = of(&state, NightStage::Idle);
        assert_eq!(told.last, Some((NightEnd::Skipped, first + 86_400)));
        assert_eq!((told.accepted, told.counts.skipped), (Some(first), 40));
    }
}
