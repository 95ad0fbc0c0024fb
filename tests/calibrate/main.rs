//! `sarai-calibrate`: fits how sure answers of one model are, on judged answers of the golden set.
//!
//! Reads the records of `scripts/golden --out`, fits on the half `fit`, measures on the half `held_out`, and writes
//! the weights into a file of calibrations under the model's digest. Run by `scripts/calibrate`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use sarai_reflection::Language;
use sarai_reflection::confidence::calibration::{Calibrations, Critiques, NAMES, features};
use sarai_reflection::confidence::fit::{Judged, auroc, calibration_error, fit};
use sarai_reflection::confidence::signals::Signals;
use sarai_tests::measure::arguments::Arguments;
use serde::Deserialize;
use serde_json::json;

/// Strength of the penalty: a few hundred answers for eighteen weights need some. Cross-validation on the half that is
/// fitted does not tell 0.3 from 1.
const RIDGE: f64 = 0.3;
/// Promised area under the ROC curve.
const LEAST_AUROC: f64 = 0.75;
/// Promised expected calibration error.
const MOST_ERROR: f64 = 0.08;

/// One record of the golden set; what is not needed here is passed over.
#[derive(Deserialize)]
struct Record {
    half: String,
    language: String,
    draft: Option<Side>,
    #[serde(rename = "loop")]
    looped: Option<Side>,
}

impl Record {
    /// Adds what the critiques of this request came to. The answer is one's work when the last step was a critique
    /// and was taken.
    fn count(&self, critiques: &mut Critiques) {
        let (Some(before), Some(after)) = (&self.draft, &self.looped) else {
            return;
        };
        let Some(omni) = after.omni_loop.as_ref().filter(|omni| !omni.fallback) else {
            return;
        };
        let steps = &omni.timings.iterations;
        critiques.tried +=
            u32::try_from(steps.iter().filter(|step| step.how == "critiqued").count()).unwrap_or(u32::MAX);
        let written = steps
            .last()
            .is_some_and(|step| step.how == "critiqued" && omni.corrected && step.score == Some(omni.score));
        if written {
            match (before.right, after.right) {
                (Some(false), Some(true)) => critiques.righted += 1,
                (Some(true), Some(false)) => critiques.wronged += 1,
                _ => {}
            }
        }
    }
}

#[derive(Deserialize)]
struct Side {
    right: Option<bool>,
    omni_loop: Option<Omni>,
}

#[derive(Deserialize)]
struct Omni {
    kind: String,
    corrected: bool,
    soundness: f64,
    signals: Signals,
    fallback: bool,
    score: f64,
    timings: Timings,
}

#[derive(Deserialize)]
struct Timings {
    iterations: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    how: String,
    score: Option<f64>,
}

impl Side {
    /// `None` for a request that failed, or that another model answered.
    fn judged(&self, language: Language) -> Option<Judged> {
        let omni = self.omni_loop.as_ref().filter(|omni| !omni.fallback)?;
        Some(Judged {
            features: features(
                &omni.signals,
                1.0 - omni.soundness,
                omni.corrected,
                &omni.kind,
                language,
            ),
            right: self.right?,
        })
    }
}

struct Options {
    records: PathBuf,
    digest: String,
    out: PathBuf,
    json: Option<PathBuf>,
}

fn options() -> Result<Options> {
    let mut given = Arguments::of_program()?;
    let digest: String = given.need("--digest")?;
    if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        bail!("{digest} is no SHA-256 in hex");
    }
    let options = Options {
        records: given.need("--records")?,
        digest,
        out: given.need("--out")?,
        json: given.take("--json")?,
    };
    given.end()?;
    Ok(options)
}

fn run() -> Result<bool> {
    let options = options()?;
    let text = std::fs::read_to_string(&options.records)
        .with_context(|| format!("read {}", options.records.display()))?;
    let (mut fitted, mut held_out) = (Vec::new(), Vec::new());
    let mut critiques = Critiques::default();
    for (number, line) in text.lines().enumerate() {
        let record: Record =
            serde_json::from_str(line).with_context(|| format!("understand record {}", number + 1))?;
        let language = match record.language.as_str() {
            "es" => Language::Spanish,
            _ => Language::English,
        };
        let looped = record.looped.as_ref().and_then(|side| side.judged(language));
        if record.half == "fit" {
            record.count(&mut critiques);
            fitted.extend(looped);
        } else {
            held_out.extend(looped);
        }
    }
    let mut calibration = fit(&fitted, RIDGE).with_context(|| {
        format!(
            "fit {} answers: right and wrong ones are both needed",
            fitted.len()
        )
    })?;
    let quality = |answers: &[Judged]| {
        let pairs: Vec<(f64, bool)> = answers
            .iter()
            .map(|answer| (calibration.probability(&answer.features), answer.right))
            .collect();
        (auroc(&pairs), calibration_error(&pairs))
    };
    let (seen, (area, error)) = (quality(&fitted), quality(&held_out));
    (calibration.auroc, calibration.error) = (area, error);

    let shown = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), |v| format!("{v:.3}"));
    println!("{:<12} {:>8} {:>8} {:>8}", "half", "answers", "AUROC", "ECE");
    println!(
        "{:<12} {:>8} {:>8} {:>8}",
        "fit",
        fitted.len(),
        shown(seen.0),
        shown(seen.1)
    );
    println!(
        "{:<12} {:>8} {:>8} {:>8}",
        "held out",
        held_out.len(),
        shown(area),
        shown(error)
    );
    println!(
        "critiques in words (half fit): {} tried, {} made a wrong answer right, {} a right one wrong",
        critiques.tried, critiques.righted, critiques.wronged
    );
    for (name, weight) in NAMES.iter().zip(calibration.weights) {
        println!("  {name:<12} {weight:>8.3}");
    }
    if let Some(path) = &options.json {
        let figures = json!({
            "answers": {"fit": fitted.len(), "held_out": held_out.len()},
            "auroc": {"fit": seen.0, "held_out": area},
            "calibration_error": {"fit": seen.1, "held_out": error},
            "critiques": critiques,
            "weights": NAMES.iter().zip(calibration.weights).collect::<std::collections::BTreeMap<_, _>>(),
        });
        std::fs::write(path, format!("{figures:#}\n"))
            .with_context(|| format!("write {}", path.display()))?;
    }
    let mut all = match std::fs::read_to_string(&options.out) {
        // A file of other features is replaced: its weights mean nothing any more.
        Ok(text) => Calibrations::parse(&text).unwrap_or_else(|_| Calibrations::none()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Calibrations::none(),
        Err(e) => return Err(e).with_context(|| format!("read {}", options.out.display())),
    };
    // Where they were left out because they are worth nothing, what was measured before still holds.
    calibration.critiques = if critiques.tried > 0 {
        Some(critiques)
    } else {
        all.of(&options.digest).critiques
    };
    all.set(&options.digest, calibration);
    let head =
        "# How likely answers are right, by the digest of the model file: made by scripts/calibrate.\n";
    let aside = options.out.with_extension("toml.new");
    std::fs::write(&aside, format!("{head}{}", all.to_text()))
        .and_then(|()| std::fs::rename(&aside, &options.out))
        .with_context(|| format!("write {}", options.out.display()))?;

    let mut kept = true;
    if area.is_none_or(|area| area < LEAST_AUROC) {
        eprintln!(
            "missed: AUROC on the held-out half is {}, promised {LEAST_AUROC}",
            shown(area)
        );
        kept = false;
    }
    if error.is_none_or(|error| error > MOST_ERROR) {
        eprintln!(
            "missed: calibration error on the held-out half is {}, promised {MOST_ERROR}",
            shown(error)
        );
        kept = false;
    }
    Ok(kept)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sarai-calibrate: failed to {error:#}");
            ExitCode::from(2)
        }
    }
}
