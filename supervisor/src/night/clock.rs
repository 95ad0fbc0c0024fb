//! When a night is due.
//!
//! A night belongs to a local date, and is due at one instant: the night's hour of that date. An hour that the clocks
//! skip is due when it would have been over, one that comes twice is due the first time. Which date was the last one to
//! have its night is remembered on disk, so that neither a clock that goes back nor a start gives one date two nights.
//! All of this is [`look`], which is pure; whoever asks does so every few seconds, whatever the clock does in between.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// How long after its hour a night still begins by the clock, whatever the machine does; after that it was missed.
const PUNCTUAL: SignedDuration = SignedDuration::from_mins(10);

/// What a look at the clock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing is due.
    Nothing,
    /// Nothing is due, and this date counts as the last one that had its night: it is the first look ever, or the clock
    /// was set back by days.
    Count(Date),
    /// This date's night is due.
    Due(Date),
    /// This date's night was missed: the machine was off, or the clock wrong.
    Missed(Date),
}

/// The instant at which a date's night is due; none for a date beyond all calendars.
fn instant(date: Date, hour: u8, zone: &TimeZone) -> Option<Timestamp> {
    let time = date.at(i8::try_from(hour).ok()?, 0, 0, 0);
    // Of an hour that is skipped the later instant is taken, of one that comes twice the earlier.
    Some(time.to_zoned(zone.clone()).ok()?.timestamp())
}

/// The last date whose night is due at `now`, and that instant.
fn latest(now: Timestamp, hour: u8, zone: &TimeZone) -> Option<(Date, Timestamp)> {
    let today = zone.to_datetime(now).date();
    let at = instant(today, hour, zone)?;
    if at <= now {
        return Some((today, at));
    }
    let yesterday = today.yesterday().ok()?;
    Some((yesterday, instant(yesterday, hour, zone)?))
}

/// Whether a night is due, where `last` is the date that had its own last. No true time is before `oldest`: a machine
/// whose clock says so knows no time.
#[must_use]
pub fn look(now: Timestamp, oldest: Timestamp, zone: &TimeZone, hour: u8, last: Option<Date>) -> Look {
    if now < oldest {
        return Look::Nothing;
    }
    let Some((date, at)) = latest(now, hour, zone) else {
        return Look::Nothing;
    };
    match last {
        None => Look::Count(date),
        Some(last) if date > last && now.duration_since(at) <= PUNCTUAL => Look::Due(date),
        Some(last) if date > last => Look::Missed(date),
        // A clock that was years ahead once must not keep the nights away for years.
        Some(last) if date.tomorrow().is_ok_and(|next| next < last) => Look::Count(date),
        Some(_) => Look::Nothing,
    }
}

/// When the next night begins by the clock, RFC 3339 with the zone's offset.
#[must_use]
pub fn next(now: Timestamp, zone: &TimeZone, hour: u8, last: Option<Date>) -> Option<String> {
    let (date, _) = latest(now, hour, zone)?;
    let date = last.filter(|last| *last > date).unwrap_or(date);
    let at = instant(date.tomorrow().ok()?, hour, zone)?;
    Some(at.display_with_offset(zone.to_offset(at)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn seen(now: &str, zone_name: &str, last: Option<&str>) -> Look {
        look(
            at(now),
            at("2025-01-01T00:00:00Z"),
            &zone(zone_name),
            2,
            last.map(date),
        )
    }

    #[test]
    fn a_night_is_due_at_its_hour_once_and_missed_later() {
        let last = Some("2026-06-01");
        assert_eq!(seen("2026-06-01T23:59:59Z", "Europe/Berlin", last), Look::Nothing);
        let due = Look::Due(date("2026-06-02"));
        assert_eq!(seen("2026-06-02T00:00:00Z", "Europe/Berlin", last), due);
        assert_eq!(seen("2026-06-02T00:10:00Z", "Europe/Berlin", last), due);
        let missed = Look::Missed(date("2026-06-02"));
        assert_eq!(seen("2026-06-02T00:10:01Z", "Europe/Berlin", last), missed);
        assert_eq!(seen("2026-06-02T23:00:00Z", "Europe/Berlin", last), missed);
        let done = Some("2026-06-02");
        assert_eq!(seen("2026-06-02T00:05:00Z", "Europe/Berlin", done), Look::Nothing);
        // Off for a week: one night is missed, not seven.
        assert_eq!(
            seen("2026-06-09T12:00:00Z", "Europe/Berlin", last),
            Look::Missed(date("2026-06-09"))
        );
    }

    #[test]
    fn an_hour_that_is_skipped_is_due_when_it_is_over_and_one_that_comes_twice_the_first_time() {
        // Berlin: on 2026-03-29 02:00 is followed by 03:00, on 2026-10-25 03:00 by 02:00.
        let spring = Some("2026-03-28");
        assert_eq!(
            seen("2026-03-29T00:59:59Z", "Europe/Berlin", spring),
            Look::Nothing
        );
        let due = Look::Due(date("2026-03-29"));
        assert_eq!(seen("2026-03-29T01:00:00Z", "Europe/Berlin", spring), due);
        let autumn = Some("2026-10-24");
        let due = Look::Due(date("2026-10-25"));
        assert_eq!(
            seen("2026-10-24T23:59:59Z", "Europe/Berlin", autumn),
            Look::Nothing
        );
        assert_eq!(seen("2026-10-25T00:00:00Z", "Europe/Berlin", autumn), due);
        // The second 02:00 of that date.
        let done = Some("2026-10-25");
        assert_eq!(seen("2026-10-25T01:00:00Z", "Europe/Berlin", done), Look::Nothing);
    }

    #[test]
    fn a_clock_that_knows_no_time_or_is_set_back_begins_no_night() {
        assert_eq!(seen("1970-01-01T02:00:00Z", "UTC", None), Look::Nothing);
        assert_eq!(
            seen("1970-01-01T02:00:00Z", "UTC", Some("2026-06-01")),
            Look::Nothing
        );
        // The first look ever.
        assert_eq!(
            seen("2026-06-02T12:00:00Z", "UTC", None),
            Look::Count(date("2026-06-02"))
        );
        // Back by hours: neither again nor anew.
        assert_eq!(
            seen("2026-06-02T01:00:00Z", "UTC", Some("2026-06-02")),
            Look::Nothing
        );
        assert_eq!(
            seen("2026-06-02T02:00:00Z", "UTC", Some("2026-06-02")),
            Look::Nothing
        );
        // It was decades ahead once: the next night is tomorrow's.
        let counted = Look::Count(date("2026-06-02"));
        assert_eq!(seen("2026-06-02T02:00:00Z", "UTC", Some("2099-01-01")), counted);
    }

    #[test]
    fn the_next_one_is_named_in_local_time() {
        let named = |now: &str, last: &str| next(at(now), &zone("Europe/Berlin"), 2, Some(date(last)));
        assert_eq!(
            named("2026-06-02T12:00:00Z", "2026-06-02").as_deref(),
            Some("2026-06-03T02:00:00+02:00")
        );
        assert_eq!(
            named("2026-03-28T12:00:00Z", "2026-03-28").as_deref(),
            Some("2026-03-29T03:00:00+02:00")
        );
        // Set back by hours, today's has had its night.
        assert_eq!(
            named("2026-06-01T23:00:00Z", "2026-06-02").as_deref(),
            Some("2026-06-03T02:00:00+02:00")
        );
    }

    proptest! {
        /// Whatever a clock does that goes back by less than a day at a time, no date has two nights, in any zone.
        #[test]
        fn no_date_has_two_nights(
            steps in proptest::collection::vec(-23 * 3600i64..40 * 3600, 1..200),
            name in proptest::sample::select(vec!["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Australia/Lord_Howe"]),
            hour in 0u8..24,
        ) {
            let zone = zone(name);
            let (mut now, mut last) = (at("2026-03-01T00:00:00Z"), None);
            let (mut seen, mut furthest) = (std::collections::BTreeSet::new(), now);
            for step in steps {
                // Less than a day behind the furthest it ever was.
                now = (now + SignedDuration::from_secs(step)).max(furthest - SignedDuration::from_hours(23));
                furthest = furthest.max(now);
                match look(now, at("2025-01-01T00:00:00Z"), &zone, hour, last) {
                    Look::Due(date) | Look::Missed(date) => {
                        prop_assert!(seen.insert(date), "{date} twice");
                        last = Some(date);
                    }
                    Look::Count(date) => {
                        prop_assert!(last.is_none());
                        last = Some(date);
                    }
                    Look::Nothing => {}
                }
            }
        }

        /// Looked at each minute, every date has its night within ten minutes of its hour.
        #[test]
        fn every_date_has_its_night(start in 0i64..360, hour in 0u8..24) {
            let zone = zone("Europe/Berlin");
            let begin = at("2026-01-01T12:00:00Z") + SignedDuration::from_hours(24 * start);
            let mut last = Some(zone.to_datetime(begin).date());
            if let Look::Count(date) = look(begin, begin, &zone, hour, None) {
                last = Some(date);
            }
            let mut nights = 0;
            for minute in 0..4 * 24 * 60 {
                let now = begin + SignedDuration::from_mins(minute);
                match look(now, begin, &zone, hour, last) {
                    Look::Due(date) => {
                        prop_assert_eq!(last.and_then(|last: Date| last.tomorrow().ok()), Some(date));
                        (nights, last) = (nights + 1, Some(date));
                    }
                    Look::Nothing => {}
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            prop_assert!(nights >= 3);
        }
    }
}
