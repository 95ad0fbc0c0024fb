//! What the nights bring to the metrics.

use prometheus::{Gauge, GaugeVec, Opts, Registry};
use sarai_wire::night::{Measured, Quality};

/// Digits of an adapter's digest that tell it apart.
const SHORT: usize = 12;

/// The gauges. Those of a measurement are absent until there was one.
pub struct Figures {
    seconds: GaugeVec,
    questions: GaugeVec,
    nll: GaugeVec,
    texts: GaugeVec,
    measurements: Gauge,
    answers: GaugeVec,
    confidence: GaugeVec,
    judged: GaugeVec,
    score: GaugeVec,
    corrected: GaugeVec,
}

impl Figures {
    /// Registers all.
    ///
    /// # Errors
    /// When one cannot be registered.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let measurements = Gauge::new(
            "sarai_night_measurements",
            "Measurements of the engine for the night's gate since the start.",
        )?;
        registry.register(Box::new(measurements.clone()))?;
        let quality = |name: &str, help: &str| gauges(name, help, &["adapter"]);
        Ok(Self {
            measurements,
            seconds: gauges(
                "sarai_night_measured_seconds",
                "Time the last measurement took.",
                &[],
            )?,
            questions: gauges(
                "sarai_night_questions",
                "Questions of the last measurement: asked, right.",
                &["kind"],
            )?,
            nll: gauges(
                "sarai_night_nll",
                "Mean negative log-likelihood of a token in the last measurement, nats: held_out, general.",
                &["texts"],
            )?,
            texts: gauges(
                "sarai_night_texts",
                "Texts of the last measurement: held_out, general.",
                &["texts"],
            )?,
            answers: quality(
                "sarai_quality_answers",
                "Finished answers since the start, by the adapter's digest.",
            )?,
            confidence: quality(
                "sarai_quality_confidence_sum",
                "Sum of their confidences, by the adapter's digest.",
            )?,
            judged: quality(
                "sarai_quality_judged",
                "Answers judged since the start, by the adapter's digest.",
            )?,
            score: quality(
                "sarai_quality_score_sum",
                "Sum of their first scores, by the adapter's digest.",
            )?,
            corrected: quality(
                "sarai_quality_corrected",
                "Those of them judged with a correction, by the adapter's digest.",
            )?,
        })
    }

    /// The engine was measured.
    pub fn measured(&self, measured: &Measured) {
        self.measurements.inc();
        self.seconds.with_label_values::<&str>(&[]).set(measured.seconds);
        for (kind, count) in [("asked", measured.asked), ("right", measured.right)] {
            self.questions.with_label_values(&[kind]).set(count.into());
        }
        for (name, texts) in [("held_out", measured.held_out), ("general", measured.general)] {
            self.texts.with_label_values(&[name]).set(count(texts.texts));
            match texts.mean() {
                Some(mean) => self.nll.with_label_values(&[name]).set(mean),
                None => drop(self.nll.remove_label_values(&[name])),
            }
        }
    }

    /// How answers go now. Adapters that are told apart no more are gone from the metrics too.
    pub fn quality(&self, adapters: &[Quality]) {
        let all = [
            &self.answers,
            &self.confidence,
            &self.judged,
            &self.score,
            &self.corrected,
        ];
        all.iter().for_each(|gauges| gauges.reset());
        for Quality { adapter, sums } in adapters {
            let adapter = adapter.as_deref().unwrap_or("none");
            let adapter = adapter.get(..SHORT).unwrap_or(adapter);
            let values = [
                count(sums.answers),
                sums.confidence,
                count(sums.judged),
                sums.score,
                count(sums.corrected),
            ];
            for (gauges, value) in all.iter().zip(values) {
                gauges.with_label_values(&[adapter]).set(value);
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn count(count: u64) -> f64 {
    count as f64
}
