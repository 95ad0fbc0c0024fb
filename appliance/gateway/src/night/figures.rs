//! What the nights bring to the metrics.

use prometheus::{Gauge, GaugeVec, Opts, Registry};
use sarai_wire::night::{Measured, NightNotice, NightStage, Quality};
use sarai_wire::training::Progress;

/// Digits of an adapter's digest that tell it apart.
const SHORT: usize = 12;

/// The gauges. Those of a measurement are absent until there was one, those of a training unless one runs.
pub struct Figures {
    stage: GaugeVec,
    ended: GaugeVec,
    last: GaugeVec,
    accepted: GaugeVec,
    /// Of a training, each by the name of what it counts.
    paused: GaugeVec,
    step: GaugeVec,
    steps: GaugeVec,
    loss: GaugeVec,
    speed: GaugeVec,
    eta: GaugeVec,
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
            stage: gauges(
                "sarai_night_stage",
                "What a night is at: 1 for that stage, 0 for the others.",
                &["stage"],
            )?,
            ended: gauges(
                "sarai_nights",
                "Nights since the appliance remembers, by how they ended; taken_back counts those of applied whose \
                 adapter was taken back.",
                &["result"],
            )?,
            last: gauges(
                "sarai_night_last_timestamp_seconds",
                "When the last night ended, seconds since 1970, by how it did.",
                &["result"],
            )?,
            accepted: gauges(
                "sarai_night_accepted_timestamp_seconds",
                "When the last night ended whose adapter was put to use, seconds since 1970.",
                &[],
            )?,
            paused: gauges(
                "sarai_training_paused",
                "Whether the training stands still for requests or memory.",
                &[],
            )?,
            step: gauges("sarai_training_step", "Steps of the training done.", &[])?,
            steps: gauges("sarai_training_steps", "Steps of the whole training.", &[])?,
            loss: gauges(
                "sarai_training_loss",
                "Mean loss of a predicted token, nats: trained in the last step, held_out as last measured.",
                &["texts"],
            )?,
            speed: gauges(
                "sarai_training_tokens_per_second",
                "Tokens trained on in a second, pauses left out.",
                &[],
            )?,
            eta: gauges(
                "sarai_training_eta_seconds",
                "Time to the end of the training, when it goes on like this.",
                &[],
            )?,
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
                "Sum of their newest scores, by the adapter's digest.",
            )?,
            corrected: quality(
                "sarai_quality_corrected",
                "Those of them judged with a correction, by the adapter's digest.",
            )?,
        })
    }

    /// The supervisor says how the nights stand.
    pub fn told(&self, notice: &NightNotice) {
        let NightNotice {
            now,
            last,
            accepted,
            counts,
        } = notice;
        for name in NightStage::NAMES {
            let here = name == now.name();
            self.stage
                .with_label_values(&[name])
                .set(f64::from(u8::from(here)));
        }
        self.last.reset();
        if let Some((end, at)) = last {
            self.last.with_label_values(&[end.name()]).set(time(*at));
        }
        set(&self.accepted, accepted.map(time));
        for (name, nights) in [
            ("applied", counts.applied),
            ("rejected", counts.rejected),
            ("skipped", counts.skipped),
            ("failed", counts.failed),
            ("taken_back", counts.taken_back),
        ] {
            self.ended.with_label_values(&[name]).set(count(nights));
        }
        let (progress, paused) = match now {
            NightStage::Training { progress, paused } => (progress.as_ref(), Some(*paused)),
            _ => (None, None),
        };
        set(&self.paused, paused.map(|paused| f64::from(u8::from(paused))));
        self.progress(progress);
    }

    fn progress(&self, progress: Option<&Progress>) {
        set(&self.step, progress.map(|progress| count(progress.step)));
        set(&self.steps, progress.map(|progress| count(progress.steps)));
        set(&self.speed, progress.map(|progress| progress.tokens_per_second));
        set(&self.eta, progress.map(|progress| progress.eta_seconds));
        let losses = progress.map_or((None, None), |progress| (progress.loss, progress.held_out));
        for (texts, loss) in [("trained", losses.0), ("held_out", losses.1)] {
            match loss {
                Some(loss) => self.loss.with_label_values(&[texts]).set(loss),
                None => drop(self.loss.remove_label_values(&[texts])),
            }
        }
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
            let newest = sums.newest();
            let values = [
                count(sums.answers),
                sums.confidence,
                count(newest.judged),
                newest.score,
                count(newest.corrected),
            ];
            for (gauges, value) in all.iter().zip(values) {
                gauges.with_label_values(&[adapter]).set(value);
            }
        }
    }
}

/// A gauge without labels, which is absent without a value.
fn set(gauge: &GaugeVec, value: Option<f64>) {
    match value {
        Some(value) => gauge.with_label_values::<&str>(&[]).set(value),
        None => gauge.reset(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a date stay far below 2^52")]
fn time(seconds: i64) -> f64 {
    seconds as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn count(count: u64) -> f64 {
    count as f64
}
