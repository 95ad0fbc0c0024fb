//! What a night of learning needs of the gateway, which alone may read what people said: its data set, and how well an
//! adapter does on it. And what an admin is told of the nights.

use serde::{Deserialize, Serialize};

use crate::merge::MergeNow;
pub use crate::quality::{Judgments, Quality, Sums};
use crate::training::Progress;

/// Descriptors attached to [`crate::birth::ToGateway::DataSet`], in this order: the data set (read and write, empty),
/// the gate's examples (read and write, empty).
pub const DATA_SET_FILES: usize = 2;
/// Largest data set, and largest file of the gate's examples, bytes.
pub const MAX_DATA_SET: u64 = 64 * 1024 * 1024;
/// Nights of which the outcome is remembered and shown.
pub const NIGHTS: usize = 30;

/// What the gateway is to choose and write down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataSetOrder {
    /// When the last accepted night chose its examples, RFC 3339: what was judged after that is new. Without,
    /// everything is.
    pub since: Option<String>,
    /// SHA-256 of the primary's model, lower-case hex: an engine that runs another one is not asked.
    pub base: String,
    /// Most tokens of an example: those of a row of the trainer. A longer one is shortened to it.
    pub length: u32,
    /// How is chosen.
    pub choice: ChoiceSettings,
}

/// The admin's settings of the choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChoiceSettings {
    /// Fewest new examples of a night.
    pub least: u32,
    /// Part of the new examples' number that is learnt again of older ones: 0 to 1.
    pub replay: f64,
    /// Whether e-mail addresses are taken out like secrets.
    pub emails: bool,
}

impl Default for ChoiceSettings {
    fn default() -> Self {
        Self {
            least: 10,
            replay: 0.5,
            emails: false,
        }
    }
}

/// Answer to [`crate::birth::ToGateway::DataSet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataSetAnswer {
    /// Number of the order.
    pub seq: u64,
    /// What came of it.
    pub outcome: DataSetOutcome,
}

/// What came of the choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum DataSetOutcome {
    /// Both files are whole.
    Made {
        /// When the choice began, RFC 3339: the next night's [`DataSetOrder::since`] if this one is accepted.
        at: String,
        /// How many examples there are.
        examples: Examples,
        /// How the examples were chosen, for the log: `low=3 doubled=2 …`. No text of anybody's.
        tally: String,
    },
    /// There is nothing to do. Fits after "the night is skipped: ".
    Skipped {
        /// Why.
        reason: String,
    },
    /// It could not be done. Fits after "failed to".
    Failed {
        /// Why.
        reason: String,
    },
}

/// How many examples a night has, and what their length cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Examples {
    /// To be learnt.
    pub train: u64,
    /// Held out.
    pub held_out: u64,
    /// Of earlier nights, to be learnt again.
    pub replay: u64,
    /// Those of them that are longer than a row: their conversation lost its beginning, or their answer its end.
    pub shortened: u64,
    /// Those of the shortened whose answer lost its end: it is as long as a row by itself.
    pub cut: u64,
    /// Left out: longer than an example may be at all, or no row has room for any of the answer.
    pub long: u64,
    /// Left out: the model's template does not take the conversation.
    pub refused: u64,
}

/// Whether an adapter helps, measured by the engine that serves, without standing in anybody's way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasureOrder {
    /// SHA-256 of the primary's model, as in [`DataSetOrder::base`].
    pub base: String,
    /// SHA-256 of the adapter to measure, which the engine has loaded; without, no adapter.
    pub adapter: Option<String>,
    /// Seconds it may take.
    pub within_s: u32,
}

/// Answer to [`crate::birth::ToGateway::Measure`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasureAnswer {
    /// Number of the order.
    pub seq: u64,
    /// What was measured, or why nothing; that fits after "failed to".
    pub outcome: Result<Measured, String>,
}

/// How well the engine does with an adapter, or without.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// On the examples that were held out.
    pub held_out: Likelihood,
    /// On general texts that ship with the gateway.
    pub general: Likelihood,
    /// Questions that ship with the gateway.
    pub asked: u32,
    /// Those of them that were answered right, greedily.
    pub right: u32,
    /// Seconds it took.
    pub seconds: f64,
}

/// How likely texts are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    /// Sum of the negative log-likelihoods of all tokens, nats.
    pub nll: f64,
    /// How many tokens.
    pub tokens: u64,
    /// How many texts.
    pub texts: u64,
}

impl Likelihood {
    /// Mean negative log-likelihood of a token, nats; none of none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a count of tokens is far below 2^53")]
    pub fn mean(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.nll / self.tokens as f64)
    }
}

/// What a night is at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum NightStage {
    /// Nothing runs.
    #[default]
    Idle,
    /// The gateway chooses what is learnt.
    Choosing,
    /// The trainer is started, or trains.
    Training {
        /// How far it is; none before its first step.
        progress: Option<Progress>,
        /// Whether it stands still because requests are answered, or memory is short.
        paused: bool,
    },
    /// The engine is measured with and without the new adapter.
    Measuring,
    /// The adapter is signed, stored and put to use.
    Applying,
}

impl NightStage {
    /// The name of every stage, as in JSON.
    pub const NAMES: [&str; 5] = ["idle", "choosing", "training", "measuring", "applying"];

    /// Its name, one of [`Self::NAMES`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        let at = match self {
            Self::Idle => 0,
            Self::Choosing => 1,
            Self::Training { .. } => 2,
            Self::Measuring => 3,
            Self::Applying => 4,
        };
        Self::NAMES[at]
    }
}

/// How a night ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum NightResult {
    /// Its adapter is in use since.
    Applied {
        /// Name of the adapter in the store.
        adapter: String,
    },
    /// Its adapter does not help enough, or harms: it is kept for a look.
    Rejected {
        /// Name of the adapter in the store.
        adapter: String,
        /// Why.
        reason: String,
    },
    /// There was nothing to do.
    Skipped {
        /// Why.
        reason: String,
    },
    /// It could not be done. Fits after "failed to".
    Failed {
        /// Why.
        reason: String,
        /// Whether a checkpoint is kept from which the next one goes on.
        resumes: bool,
    },
}

/// How a night ended, without what it says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NightEnd {
    /// [`NightResult::Applied`].
    Applied,
    /// [`NightResult::Rejected`].
    Rejected,
    /// [`NightResult::Skipped`].
    Skipped,
    /// [`NightResult::Failed`].
    Failed,
}

impl NightEnd {
    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Rejected => "rejected",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

impl NightResult {
    /// How it ended.
    #[must_use]
    pub fn end(&self) -> NightEnd {
        match self {
            Self::Applied { .. } => NightEnd::Applied,
            Self::Rejected { .. } => NightEnd::Rejected,
            Self::Skipped { .. } => NightEnd::Skipped,
            Self::Failed { .. } => NightEnd::Failed,
        }
    }
}

/// What a gate decided by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GateFigures {
    /// With what was in use before.
    pub before: Measured,
    /// With the new adapter.
    pub after: Measured,
}

/// A night that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Night {
    /// When it began, RFC 3339.
    pub began: String,
    /// Seconds it took.
    pub seconds: u64,
    /// How it ended.
    #[serde(flatten)]
    pub result: NightResult,
    /// What it learnt from, where it came to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<Examples>,
    /// What the gate measured, where it came to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<GateFigures>,
    /// What came of it later: taken back, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub later: Option<String>,
}

/// How many nights ended how, since the appliance remembers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NightCounts {
    /// Their adapter was put to use.
    pub applied: u64,
    /// Their adapter did not help enough.
    pub rejected: u64,
    /// There was nothing to do.
    pub skipped: u64,
    /// They could not be done.
    pub failed: u64,
    /// Adapters of nights that were taken back because the day after was worse.
    pub taken_back: u64,
}

/// What the gateway is told of the nights, for its metrics: numbers and names of kinds, no word of anybody's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NightNotice {
    /// What is done now.
    pub now: NightStage,
    /// How the last night ended, and when, seconds since 1970.
    pub last: Option<(NightEnd, i64)>,
    /// When the last night ended whose adapter was put to use, seconds since 1970.
    pub accepted: Option<i64>,
    /// How many ended how.
    pub counts: NightCounts,
}

/// What an admin is told of the nights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingStatus {
    /// Whether nights begin by themselves.
    pub enabled: bool,
    /// When the next one begins, local time, RFC 3339; none when they are off.
    pub next: Option<String>,
    /// What is done now.
    pub now: NightStage,
    /// The last nights, the newest first, at most [`NIGHTS`].
    pub nights: Vec<Night>,
    /// How many ended how.
    #[serde(default)]
    pub counts: NightCounts,
    /// The merge that runs; no night begins beside one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeNow>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_needs_tokens() {
        let likelihood = Likelihood {
            nll: 6.0,
            tokens: 4,
            texts: 1,
        };
        assert_eq!(likelihood.mean(), Some(1.5));
        assert_eq!(Likelihood::default().mean(), None);
    }

    #[test]
    fn a_night_reads_as_it_was_written() {
        let night = Night {
            began: "2026-01-02T02:00:00Z".into(),
            seconds: 90,
            result: NightResult::Skipped { reason: "few".into() },
            examples: Some(Examples {
                long: 1,
                ..Examples::default()
            }),
            figures: None,
            later: None,
        };
        let text = serde_json::to_string(&night).unwrap();
        assert!(text.contains(r#""result":"skipped""#), "{text}");
        assert_eq!(serde_json::from_str::<Night>(&text).unwrap(), night);
    }

    #[test]
    fn names_are_those_in_json() {
        let named = |value: serde_json::Value, field: &str| value[field].as_str().unwrap().to_owned();
        let stages = [
            NightStage::Idle,
            NightStage::Choosing,
            NightStage::Training {
                progress: None,
                paused: false,
            },
            NightStage::Measuring,
            NightStage::Applying,
        ];
        for (stage, name) in stages.iter().zip(NightStage::NAMES) {
            assert_eq!(stage.name(), name);
            assert_eq!(named(serde_json::to_value(stage).unwrap(), "stage"), name);
        }
        let (adapter, reason) = (String::new, String::new);
        for result in [
            NightResult::Applied { adapter: adapter() },
            NightResult::Rejected {
                adapter: adapter(),
                reason: reason(),
            },
            NightResult::Skipped { reason: reason() },
            NightResult::Failed {
                reason: reason(),
                resumes: true,
            },
        ] {
            let name = result.end().name();
            assert_eq!(serde_json::to_value(result.end()).unwrap(), name);
            assert_eq!(named(serde_json::to_value(&result).unwrap(), "result"), name);
        }
    }

    #[test]
    fn its_files_fit_one_packet() {
        const { assert!(DATA_SET_FILES <= crate::birth::MAX_FDS) }
    }
}
