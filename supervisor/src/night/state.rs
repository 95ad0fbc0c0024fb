//! What is remembered of the nights: a small file that is written whole. One that cannot be read costs what it held and
//! nothing else.

use std::path::Path;

use jiff::civil::Date;
use sarai_trust::atomic;
use sarai_wire::night::{Examples, GateFigures, NIGHTS, Night, NightCounts, NightEnd, NightResult, Sums};
use serde::{Deserialize, Serialize};

/// Largest file, bytes.
const MAX_FILE: u64 = 512 * 1024;
/// Most days, and most adapters of one, whose answers are remembered.
const MAX_DAYS: usize = 48;
/// Longest reason that is kept, bytes.
const MAX_REASON: usize = 600;

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    format: u32,
    /// Whether nights begin by themselves, where an admin said so; else the settings count.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// The last date that had its night.
    #[serde(default)]
    pub last: Option<Date>,
    /// When the last accepted night chose its examples, RFC 3339.
    #[serde(default)]
    pub since: Option<String>,
    /// When the last accepted night ended, seconds since 1970.
    #[serde(default)]
    pub accepted: Option<i64>,
    /// Sequence of the last adapter.
    #[serde(default)]
    pub sequence: u64,
    /// When the night that runs began, RFC 3339: found at a start, it was cut off.
    #[serde(default)]
    pub running: Option<String>,
    /// How the night that runs ended, remembered together with what follows from it: found at a start, it was cut off
    /// behind that.
    #[serde(default)]
    pub decided: Option<Ended>,
    /// A training that can go on.
    #[serde(default)]
    pub unfinished: Option<Unfinished>,
    /// Fingerprint of what the last rejected adapter was made from, and when that night began.
    #[serde(default)]
    pub rejected: Option<(String, String)>,
    /// The adapter whose first day is compared with the day before.
    #[serde(default)]
    pub watched: Option<Watched>,
    /// Answers by day and adapter, the oldest first.
    #[serde(default)]
    pub days: Vec<Day>,
    /// The last nights, the newest first.
    #[serde(default)]
    pub nights: Vec<Night>,
    /// How many ended how.
    #[serde(default)]
    pub counts: NightCounts,
}

/// A training whose data set is there and that has no adapter yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfinished {
    /// SHA-256 of the base.
    pub base: String,
    /// SHA-256 of the data set.
    pub data: String,
    /// SHA-256 of the adapter that was in use when it began.
    #[serde(default)]
    pub before: Option<String>,
    /// Tokens of a row that its examples were shortened to.
    #[serde(default)]
    pub length: u32,
    /// When its examples were chosen, RFC 3339.
    pub at: String,
    /// How many there are.
    #[serde(default)]
    pub examples: Examples,
    /// How many nights have worked on it.
    pub nights: u32,
}

/// A night that came to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// How.
    pub result: NightResult,
    /// What it learnt from.
    #[serde(default)]
    pub examples: Option<Examples>,
    /// What was measured.
    #[serde(default)]
    pub figures: Option<GateFigures>,
}

/// An adapter that is watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watched {
    /// Its name in the store.
    pub name: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// When it was put to use, seconds since 1970.
    pub from: i64,
    /// When its night began, as in [`Night::began`].
    pub began: String,
    /// Answers of the day before.
    pub before: Sums,
    /// Its own.
    #[serde(default)]
    pub after: Sums,
    /// Its own at the last comparison.
    #[serde(default)]
    pub looked: Sums,
}

/// Answers of a day with one adapter, or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Day {
    /// Local date.
    pub date: Date,
    /// SHA-256 of the adapter.
    #[serde(default)]
    pub adapter: Option<String>,
    /// What came of them.
    pub sums: Sums,
}

impl Default for State {
    fn default() -> Self {
        Self {
            format: 1,
            enabled: None,
            last: None,
            since: None,
            accepted: None,
            sequence: 0,
            running: None,
            decided: None,
            unfinished: None,
            rejected: None,
            watched: None,
            days: Vec::new(),
            nights: Vec::new(),
            counts: NightCounts::default(),
        }
    }
}

impl State {
    /// Reads the file; one that is not there says that there was no night yet. A damaged one is put aside, and the
    /// sentence says so.
    #[must_use]
    pub fn load(path: &Path) -> (Self, Option<String>) {
        let reason = match sarai_trust::read_bounded(path, MAX_FILE) {
            Ok(Some(bytes)) => match serde_json::from_slice::<Self>(&bytes) {
                Ok(state) if state.format == 1 => return (state, None),
                Ok(state) => format!("format {} is unknown", state.format),
                Err(e) => e.to_string(),
            },
            Ok(None) => format!("it exceeds {MAX_FILE} bytes"),
            Err(sarai_trust::TrustError::MissingFile { .. }) => return (Self::default(), None),
            Err(e) => format!("failed to {e}"),
        };
        // For a look; what is not there any more is damaged no second time.
        let _ = std::fs::rename(path, path.with_extension("damaged"));
        let said = format!(
            "what was remembered of the nights is lost, they begin anew: {} is damaged: {reason}",
            path.display()
        );
        (Self::default(), Some(said))
    }

    /// Writes a file, whole.
    ///
    /// # Errors
    /// When it cannot be written; fits after "failed to".
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_vec(self).map_err(|e| format!("write down the nights: {e}"))?;
        atomic::write(path, &text, 0o600).map_err(|e| e.to_string())
    }

    /// The night that runs has come to its end, whatever becomes of its files: nothing goes on with its training.
    pub fn decide(&mut self, ended: Ended) {
        self.unfinished = None;
        self.decided = Some(ended);
    }

    /// A night that was running when this was written was cut off: it failed, unless it had come to its end.
    pub fn found(&mut self) -> bool {
        let Some(began) = self.running.take() else {
            return false;
        };
        let unfinished = self.unfinished.as_ref();
        let ended = self.decided.take().unwrap_or_else(|| Ended {
            result: NightResult::Failed {
                reason: "go on: the machine, or the supervisor, ended in the middle of it".to_owned(),
                resumes: unfinished.is_some(),
            },
            examples: unfinished.map(|unfinished| unfinished.examples),
            figures: None,
        });
        self.ended(Night {
            began,
            seconds: 0,
            result: ended.result,
            examples: ended.examples,
            figures: ended.figures,
            later: None,
        });
        true
    }

    /// Remembers a night that has ended.
    pub fn ended(&mut self, mut night: Night) {
        if night.result.end() == NightEnd::Applied {
            self.accepted = super::notice::ended(&night);
        }
        let count = match &mut night.result {
            NightResult::Applied { .. } => &mut self.counts.applied,
            NightResult::Rejected { reason, .. } => {
                cut(reason);
                &mut self.counts.rejected
            }
            NightResult::Skipped { reason } => {
                cut(reason);
                &mut self.counts.skipped
            }
            NightResult::Failed { reason, .. } => {
                cut(reason);
                &mut self.counts.failed
            }
        };
        *count = count.saturating_add(1);
        (self.running, self.decided) = (None, None);
        self.nights.insert(0, night);
        self.nights.truncate(NIGHTS);
    }

    /// Says of a night what came of it later.
    pub fn later(&mut self, began: &str, what: &str) {
        if let Some(night) = self.nights.iter_mut().find(|night| night.began == began) {
            let mut what = what.to_owned();
            cut(&mut what);
            night.later = Some(what);
        }
    }

    /// Counts answers.
    pub fn count(&mut self, date: Date, adapter: Option<&str>, new: Sums) {
        let own = |day: &&mut Day| day.date == date && day.adapter.as_deref() == adapter;
        if let Some(day) = self.days.iter_mut().find(own) {
            day.sums = day.sums.and(new);
            return;
        }
        self.days.push(Day {
            date,
            adapter: adapter.map(str::to_owned),
            sums: new,
        });
        let too_many = self.days.len().saturating_sub(MAX_DAYS);
        self.days.drain(..too_many);
    }

    /// Answers with this adapter, or none, of its last days: yesterday's and today's, and those of up to a week where
    /// they are few.
    #[must_use]
    pub fn lately(&self, today: Date, adapter: Option<&str>, enough: u64) -> Sums {
        let mut sums = Sums::default();
        let days = self.days.iter().rev();
        for day in days.filter(|day| day.adapter.as_deref() == adapter && day.date <= today) {
            let age = (today - day.date).get_days();
            if age > 7 || (age > 1 && sums.answers >= enough) {
                break;
            }
            sums = sums.and(day.sums);
        }
        sums
    }
}

fn cut(reason: &mut String) {
    reason.truncate(reason.floor_char_boundary(MAX_REASON.min(reason.len())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use sarai_wire::night::{Likelihood, Measured};

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    fn night(n: usize, result: NightResult) -> Night {
        let measured = Measured {
            held_out: Likelihood {
                nll: 1.25,
                tokens: 3,
                texts: 1,
            },
            general: Likelihood::default(),
            asked: 2,
            right: 1,
            seconds: 0.5,
        };
        Night {
            began: format!("2026-01-01T00:00:{n:02}Z"),
            seconds: 5,
            result,
            examples: Some(Examples::default()),
            figures: Some(GateFigures {
                before: measured,
                after: measured,
            }),
            later: None,
        }
    }

    fn answers(count: u64) -> Sums {
        Sums {
            answers: count,
            ..Sums::default()
        }
    }

    fn full() -> State {
        let mut state = State {
            enabled: Some(false),
            last: Some(date("2026-01-02")),
            since: Some("2026-01-01T02:00:00Z".into()),
            accepted: Some(5),
            sequence: 7,
            running: Some("2026-01-02T02:00:00Z".into()),
            unfinished: Some(Unfinished {
                base: "ab".repeat(32),
                data: "cd".repeat(32),
                before: None,
                length: 512,
                examples: Examples {
                    train: 9,
                    ..Examples::default()
                },
                at: "2026-01-02T02:00:00Z".into(),
                nights: 1,
            }),
            decided: Some(Ended {
                result: NightResult::Applied { adapter: "a".into() },
                examples: Some(Examples::default()),
                figures: None,
            }),
            rejected: Some(("ef".repeat(32), "2026-01-01T02:00:00Z".into())),
            watched: Some(Watched {
                name: "night-1".into(),
                sha256: "ab".repeat(32),
                from: 5,
                began: "2026-01-02T02:00:00Z".into(),
                before: answers(3),
                after: Sums::default(),
                looked: Sums::default(),
            }),
            ..State::default()
        };
        state.count(date("2026-01-02"), Some("aa"), answers(4));
        for (n, result) in [
            NightResult::Applied { adapter: "a".into() },
            NightResult::Rejected {
                adapter: "b".into(),
                reason: "no gain".into(),
            },
            NightResult::Skipped { reason: "few".into() },
            NightResult::Failed {
                reason: "train".into(),
                resumes: true,
            },
        ]
        .into_iter()
        .enumerate()
        {
            state.ended(night(n, result));
        }
        state
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("training.json");
        assert_eq!(State::load(&path), (State::default(), None));
        let state = full();
        assert_eq!(state.running, None);
        assert_eq!(
            (
                state.counts.applied,
                state.counts.rejected,
                state.counts.skipped,
                state.counts.failed
            ),
            (1, 1, 1, 1)
        );
        state.save(&path).unwrap();
        assert_eq!(State::load(&path), (state, None));
    }

    #[test]
    fn a_torn_file_costs_what_it_held_and_is_never_fatal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("training.json");
        full().save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in (0..whole.len()).step_by(7) {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (state, said) = State::load(&path);
            assert_eq!(state, State::default());
            assert!(said.unwrap().contains("damaged"));
            // Put aside: the next start has nothing to complain of.
            assert_eq!(State::load(&path), (State::default(), None));
        }
        for wrong in [
            &b"{\"format\":2}"[..],
            b"\xff\xff",
            b"[]",
            b"{\"format\":1,\"other\":1}",
        ] {
            std::fs::write(&path, wrong).unwrap();
            assert!(State::load(&path).1.is_some());
        }
        std::fs::write(&path, vec![b' '; usize::try_from(MAX_FILE).unwrap() + 1]).unwrap();
        assert!(State::load(&path).1.unwrap().contains("exceeds"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut state = State::default();
        let mut day = date("2026-01-01");
        for n in 0..500 {
            let reason = "é".repeat(5000);
            state.ended(night(n % 60, NightResult::Skipped { reason }));
            state.count(day, Some(&"a".repeat(64)), answers(1));
            day = day.tomorrow().unwrap();
        }
        assert_eq!((state.nights.len(), state.days.len()), (NIGHTS, MAX_DAYS));
        assert_eq!(state.counts.skipped, 500);
        assert!(serde_json::to_vec(&state).unwrap().len() < 128 * 1024);
    }

    #[test]
    fn a_night_learns_what_came_of_it_later() {
        let mut state = full();
        state.later("2026-01-01T00:00:00Z", "taken back");
        state.later("1999-01-01T00:00:00Z", "nothing");
        assert_eq!(state.nights[3].later.as_deref(), Some("taken back"));
        assert!(state.nights[..3].iter().all(|night| night.later.is_none()));
    }

    #[test]
    fn the_day_before_is_of_one_adapter_and_reaches_back_where_it_is_short() {
        let mut state = State::default();
        for (day, adapter, count) in [
            ("2026-01-01", None, 1000),
            ("2026-01-07", None, 500),
            ("2026-01-09", None, 10),
            ("2026-01-09", Some("a"), 77),
            ("2026-01-10", None, 5),
            ("2026-01-10", None, 6),
        ] {
            state.count(date(day), adapter, answers(count));
        }
        let today = date("2026-01-10");
        assert_eq!(state.lately(today, None, 15).answers, 21);
        assert_eq!(state.lately(today, None, 100).answers, 521);
        assert_eq!(state.lately(today, None, 10_000).answers, 521);
        assert_eq!(state.lately(today, Some("a"), 100).answers, 77);
        assert_eq!(state.lately(today, Some("b"), 100), Sums::default());
    }
}
