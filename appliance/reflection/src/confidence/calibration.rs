//! Signals as a probability: one logistic model for each model file.
//!
//! The probability is `1 / (1 + e^-(w · x))` with the features `x` of [`features`]. The weights of a model file are
//! kept under its digest: another file, even a requantisation, has other log-probabilities. A model nobody
//! calibrated is judged by stated default weights.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::critique::Language;

use super::{Confidence, Evidence, Signals, probability, sound};

/// Names of the features, in the order of [`features`].
pub const NAMES: [&str; FEATURES] = [
    "one",
    "mean",
    "lowest",
    "span",
    "first",
    "length",
    "unsound",
    "revised",
    "arithmetic",
    "extraction",
    "closed",
    "constrained",
    "format",
    "spanish",
    "spanish_arithmetic",
    "spanish_extraction",
    "spanish_closed",
    "spanish_constrained",
];
/// How many there are.
pub const FEATURES: usize = 18;
/// The file of the calibrations that come with the program, made by `scripts/calibrate`.
const SHIPPED: &str = include_str!("../../calibration.toml");
/// Largest file, bytes.
pub const MAX_FILE: usize = 256 * 1024;

/// The features of an answer: a constant, the signals, the share that findings take away, whether it is a revision,
/// which kind of request it answers, and whether that is in Spanish. A small model that is at home in English is less
/// so elsewhere, and how much that matters depends on what the kind leaves to the model.
pub fn features(
    signals: &Signals,
    unsound: f64,
    revised: bool,
    kind: &str,
    language: Language,
) -> [f64; FEATURES] {
    let one_if = |is: bool| f64::from(u8::from(is));
    let is = |name: &str| one_if(kind == name);
    let spanish = one_if(language == Language::Spanish);
    [
        1.0,
        signals.mean,
        signals.lowest,
        signals.span,
        signals.first,
        f64::from(signals.tokens).ln_1p(),
        probability(unsound),
        one_if(revised),
        is("arithmetic"),
        is("extraction"),
        is("closed"),
        is("constrained"),
        is("format"),
        spanish,
        spanish * is("arithmetic"),
        spanish * is("extraction"),
        spanish * is("closed"),
        spanish * is("constrained"),
    ]
}

/// Fewest critiques that say what critiques are worth.
const CRITIQUES: u32 = 12;
/// Of so many critiques at least one must make a wrong answer right and not a right one wrong: a critique takes about
/// as long as two answers.
const ONE_IN: u32 = 10;

/// What critiques in words came to with one model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Critiques {
    /// How many there were.
    pub tried: u32,
    /// After how many of them a wrong draft had become a right answer that the critique had written.
    pub righted: u32,
    /// After how many of them a right draft had become a wrong answer that the critique had written.
    pub wronged: u32,
}

impl Critiques {
    /// Whether they are worth their time; with few of them nobody knows, and they are.
    pub fn help(self) -> bool {
        self.tried < CRITIQUES
            || self.righted.saturating_sub(self.wronged).saturating_mul(ONE_IN) >= self.tried
    }
}

/// The weights of one model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// A weight for each of [`NAMES`], in that order.
    pub weights: [f64; FEATURES],
    /// How many judged answers they were fitted on; 0 for the default.
    pub answers: u32,
    /// Expected calibration error on answers they were not fitted on, if measured.
    #[serde(default)]
    pub error: Option<f64>,
    /// Area under the ROC curve on the same answers, if measured.
    #[serde(default)]
    pub auroc: Option<f64>,
    /// What critiques came to, if measured.
    #[serde(default)]
    pub critiques: Option<Critiques>,
}

impl Default for Calibration {
    /// For a model nobody calibrated: as if its mean and lowest log-probabilities were what decides, and an answer
    /// with a mean probability of 85 % were right nearly six times in seven.
    fn default() -> Self {
        let mut weights = [0.0; FEATURES];
        weights[0] = 2.2;
        weights[1] = 2.0;
        weights[2] = 0.3;
        weights[6] = -3.0;
        Self {
            weights,
            answers: 0,
            error: None,
            auroc: None,
            critiques: None,
        }
    }
}

impl Calibration {
    /// The probability that an answer with these features is right.
    pub fn probability(&self, features: &[f64; FEATURES]) -> f64 {
        let sum: f64 = self
            .weights
            .iter()
            .zip(features)
            .map(|(weight, x)| weight * x)
            .sum();
        probability(1.0 / (1.0 + (-sum).exp()))
    }
}

/// Why a file of calibrations is not used. Fits after "failed to".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalibrationError {
    /// Larger than [`MAX_FILE`].
    #[error("read the calibration: {0} bytes exceed {MAX_FILE}")]
    TooLarge(usize),
    /// Not what was expected.
    #[error("read the calibration: {0}")]
    NotCalibrations(String),
    /// Weights of another set of features.
    #[error(
        "read the calibration: it is for other features than this program's; run scripts/calibrate again"
    )]
    OtherFeatures,
    /// A weight that is no number.
    #[error("read the calibration: a weight of {0} is not finite")]
    NotFinite(String),
}

/// Calibrations by the digest of the model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibrations {
    /// The features the weights belong to.
    features: Vec<String>,
    /// SHA-256 of the model file, lower-case hex, to its weights.
    #[serde(default, rename = "model")]
    models: BTreeMap<String, Calibration>,
    #[serde(skip)]
    default: Calibration,
}

impl Calibrations {
    /// None but the default.
    pub fn none() -> Self {
        Self {
            features: NAMES.map(str::to_owned).to_vec(),
            models: BTreeMap::new(),
            default: Calibration::default(),
        }
    }

    /// Those that come with the program.
    pub fn shipped() -> Self {
        // A test parses what is shipped; should it be wrong all the same, the default serves.
        Self::parse(SHIPPED).unwrap_or_else(|_| Self::none())
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// When it is not such a file, or is for other features.
    pub fn parse(text: &str) -> Result<Self, CalibrationError> {
        if text.len() > MAX_FILE {
            return Err(CalibrationError::TooLarge(text.len()));
        }
        let read: Self =
            toml::from_str(text).map_err(|e| CalibrationError::NotCalibrations(e.message().to_owned()))?;
        if read.features != NAMES {
            return Err(CalibrationError::OtherFeatures);
        }
        match read
            .models
            .iter()
            .find(|(_, model)| model.weights.iter().any(|weight| !weight.is_finite()))
        {
            Some((digest, _)) => Err(CalibrationError::NotFinite(digest.clone())),
            None => Ok(read),
        }
    }

    /// The text of a file.
    pub fn to_text(&self) -> String {
        // Strings and finite numbers alone, which TOML can always say.
        toml::to_string(self).unwrap_or_default()
    }

    /// Adds those of `other`, which win over those that are there.
    pub fn extend(&mut self, other: Self) {
        self.models.extend(other.models);
    }

    /// Adds or replaces one model's.
    pub fn set(&mut self, digest: &str, calibration: Calibration) {
        self.models.insert(digest.to_owned(), calibration);
    }

    /// One model's, or the default.
    pub fn of(&self, digest: &str) -> &Calibration {
        self.models.get(digest).unwrap_or(&self.default)
    }
}

impl Confidence for Calibrations {
    fn confidence(&self, evidence: &Evidence<'_>) -> f64 {
        let unsound = 1.0 - sound(evidence.findings);
        let features = features(
            evidence.signals,
            unsound,
            evidence.revised,
            evidence.kind,
            evidence.language,
        );
        self.of(evidence.digest).probability(&features)
    }

    fn critiques_help(&self, digest: &str) -> bool {
        self.of(digest).critiques.is_none_or(Critiques::help)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_can_be_read() {
        Calibrations::parse(SHIPPED).unwrap();
    }

    #[test]
    fn a_model_has_its_own_weights_and_a_stranger_the_default() {
        let mut all = Calibrations::none();
        let mut sure = Calibration::default();
        sure.weights[0] = 100.0;
        all.set("aa", sure);
        let read = Calibrations::parse(&all.to_text()).unwrap();
        let signals = Signals::of_logprobs([(-3.0, false)]);
        let evidence = |digest| Evidence {
            signals: &signals,
            findings: &[],
            kind: "closed",
            language: Language::English,
            revised: false,
            digest,
        };
        assert!(read.confidence(&evidence("aa")) > 0.99);
        assert!(read.confidence(&evidence("bb")) < 0.5);
    }

    #[test]
    fn critiques_help_until_they_were_measured_not_to() {
        let measured = |tried, righted, wronged| Critiques {
            tried,
            righted,
            wronged,
        };
        assert!(measured(11, 0, 0).help() && measured(20, 2, 0).help());
        assert!(!measured(20, 1, 0).help() && !measured(20, 5, 4).help() && !measured(12, 0, 3).help());
        let mut all = Calibrations::none();
        let critiques = Some(measured(37, 1, 0));
        all.set(
            "aa",
            Calibration {
                critiques,
                ..Calibration::default()
            },
        );
        let read = Calibrations::parse(&all.to_text()).unwrap();
        assert!(!read.critiques_help("aa") && read.critiques_help("bb"));
    }

    #[test]
    fn the_default_is_sure_of_sure_answers_alone() {
        let at = |logprob: f64| {
            let signals = Signals::of_logprobs([(logprob, false); 8]);
            Calibration::default().probability(&features(&signals, 0.0, false, "open", Language::English))
        };
        assert!(at(-0.01) > 0.85 && at(-1.0) < 0.6, "{} {}", at(-0.01), at(-1.0));
    }

    #[test]
    fn another_programs_weights_are_refused() {
        let text = Calibrations::none().to_text().replace("lowest", "highest");
        assert_eq!(Calibrations::parse(&text), Err(CalibrationError::OtherFeatures));
        assert!(Calibrations::parse("weights = 1").is_err());
        let mut broken = Calibrations::none();
        let mut weights = Calibration::default();
        weights.weights[3] = f64::NAN;
        broken.set("aa", weights);
        assert!(matches!(
            Calibrations::parse(&broken.to_text()),
            Err(CalibrationError::NotFinite(_))
        ));
    }
}
