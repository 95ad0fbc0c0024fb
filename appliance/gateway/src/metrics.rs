//! What is measured, in Prometheus' text form. Nothing here is a constant: a figure that was never measured is
//! absent.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};
use sarai_reflection::Outcome;
use sarai_wire::engine::Info;
use sarai_wire::memory::Rung;

use crate::night::figures::Figures;

/// Every metric of the gateway.
pub struct Metrics {
    registry: Registry,
    latency: Histogram,
    iterations: Histogram,
    autocorrection: Gauge,
    autocorrection_measured: Once,
    drafts_with_error: IntCounter,
    drafts_mended: IntCounter,
    reflections: IntCounterVec,
    findings: IntCounterVec,
    resident: Gauge,
    resident_measured: Once,
    rung: Gauge,
    rung_told: Once,
    moves: IntCounterVec,
    truncated: IntCounter,
    http: IntCounterVec,
    fallback: IntCounterVec,
    queue: Histogram,
    first_token: Histogram,
    tokens: IntCounterVec,
    /// Chat requests in the house.
    pub chats: IntGauge,
    /// Connections turned away, by reason.
    pub refused: IntCounterVec,
    /// With how many of them the counter knows.
    audit_records: (IntCounter, AtomicU64),
    audit_lost: (IntCounter, AtomicU64),
    feedback: IntCounterVec,
    feedback_lost: (IntCounter, AtomicU64),
    connections: IntGauge,
    evicted: IntGauge,
    engine_up: GaugeVec,
    engine_queued: GaugeVec,
    engine_running: GaugeVec,
    /// What the nights bring.
    pub night: Figures,
    answered: AtomicU64,
    fallbacks: AtomicU64,
}

impl Metrics {
    /// Registers every metric that can be zero; the others follow when they are first measured.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        macro_rules! register {
            ($metric:expr) => {{
                let metric = $metric?;
                registry.register(Box::new(metric.clone()))?;
                metric
            }};
        }
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
        };
        let latency = register!(histogram(
            "sarai_omni_loop_latency_seconds",
            "Time of a whole Omni-Loop, from the first iteration asked to the answer chosen.",
            &[0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
        ));
        let iterations = register!(histogram(
            "sarai_omni_loop_iterations",
            "Iterations an Omni-Loop ran.",
            &[1.0, 2.0, 3.0]
        ));
        let drafts_with_error = register!(IntCounter::new(
            "sarai_drafts_with_error_total",
            "Drafts a checker found an error in, of requests that allow a reflection."
        ));
        let drafts_mended = register!(IntCounter::new(
            "sarai_drafts_mended_total",
            "Of those, the ones whose returned answer is free of every kind of error found in the draft."
        ));
        let reflections = register!(IntCounterVec::new(
            Opts::new(
                "sarai_reflections_total",
                "Reflections by how they were made, and whether the answer they brought was returned."
            ),
            &["how", "taken"]
        ));
        let findings = register!(IntCounterVec::new(
            Opts::new("sarai_findings_total", "Errors found in drafts, by checker."),
            &["checker"]
        ));
        let http = register!(IntCounterVec::new(
            Opts::new(
                "sarai_http_requests_total",
                "Requests by route and status; 499: the client left."
            ),
            &["route", "status"]
        ));
        let fallback = register!(IntCounterVec::new(
            Opts::new(
                "sarai_fallback_total",
                "Generations the fallback engine took over, by reason."
            ),
            &["reason"]
        ));
        let moves = register!(IntCounterVec::new(
            Opts::new(
                "sarai_memory_moves_total",
                "Moves of the memory ladder, by the rung it came to."
            ),
            &["to"]
        ));
        let truncated = register!(IntCounter::new(
            "sarai_truncated_total",
            "Chat requests whose oldest turns were left out, as their clients allowed."
        ));
        let queue = register!(histogram(
            "sarai_queue_seconds",
            "Time a generation waited in an engine's queue.",
            &[0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
        ));
        let first_token = register!(histogram(
            "sarai_first_token_seconds",
            "Time from a chat request read to its first token, draft tokens included.",
            &[0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
        ));
        let tokens = register!(IntCounterVec::new(
            Opts::new(
                "sarai_tokens_total",
                "Tokens by kind: prompt, cached (of those, not evaluated again), answer, reasoning."
            ),
            &["kind"]
        ));
        let chats = register!(IntGauge::new(
            "sarai_requests_in_flight",
            "Chat requests in the house."
        ));
        let refused = register!(IntCounterVec::new(
            Opts::new(
                "sarai_connections_refused_total",
                "Connections turned away, by reason."
            ),
            &["reason"]
        ));
        let audit_records = register!(IntCounter::new(
            "sarai_audit_records_total",
            "Records of the audit log on disk."
        ));
        let audit_lost = register!(IntCounter::new(
            "sarai_audit_lost_total",
            "Records of the audit log that could not be written."
        ));
        let feedback = register!(IntCounterVec::new(
            Opts::new(
                "sarai_feedback_total",
                "Feedback by what became of it: new, changed, repeated, refused, limited, failed."
            ),
            &["kind"]
        ));
        let feedback_lost = register!(IntCounter::new(
            "sarai_feedback_lost_total",
            "Answers that could not be kept to be judged."
        ));
        let connections = register!(IntGauge::new("sarai_connections", "Connections open."));
        let evicted = register!(IntGauge::new(
            "sarai_connections_evicted",
            "Idle connections closed to make room, since the start."
        ));
        let engine = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["engine"]);
        let engine_up = register!(engine("sarai_engine_up", "Whether the engine answers."));
        let engine_queued = register!(engine("sarai_queue_requests", "Requests waiting in the engine."));
        let engine_running = register!(engine("sarai_engine_running", "Requests the engine works on."));
        Ok(Self {
            autocorrection: Gauge::new(
                "sarai_autocorrection_rate",
                "sarai_drafts_mended_total / sarai_drafts_with_error_total since the start.",
            )?,
            autocorrection_measured: Once::new(),
            resident: Gauge::new(
                "process_resident_memory_bytes",
                "Resident memory of the gateway, bytes.",
            )?,
            resident_measured: Once::new(),
            rung: Gauge::new(
                "sarai_memory_rung",
                "Where the memory ladder stands: 0 normal, 1 caches, 2 half context, 3 quarter context, 4 text \
                 only, 5 fallback, 6 refusing.",
            )?,
            rung_told: Once::new(),
            night: Figures::new(&registry)?,
            moves,
            truncated,
            registry,
            latency,
            iterations,
            drafts_with_error,
            drafts_mended,
            reflections,
            findings,
            http,
            fallback,
            queue,
            first_token,
            tokens,
            chats,
            refused,
            audit_records: (audit_records, AtomicU64::new(0)),
            audit_lost: (audit_lost, AtomicU64::new(0)),
            feedback,
            feedback_lost: (feedback_lost, AtomicU64::new(0)),
            connections,
            evicted,
            engine_up,
            engine_queued,
            engine_running,
            answered: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
        })
    }

    /// A request ended with this status.
    pub fn request(&self, route: &str, status: u16) {
        self.http.with_label_values(&[route, &status.to_string()]).inc();
    }

    /// The fallback engine takes over for this reason.
    pub fn fell_back(&self, reason: &str) {
        self.fallback.with_label_values(&[reason]).inc();
    }

    /// The supervisor says where the memory ladder stands; with `moved`, it stood elsewhere before.
    pub fn rung(&self, rung: Rung, moved: bool) {
        let place = Rung::ALL.iter().take_while(|other| **other < rung).count();
        self.rung.set(f64::from(u32::try_from(place).unwrap_or(u32::MAX)));
        self.rung_told.call_once(|| self.register_late(&self.rung));
        if moved {
            self.moves.with_label_values(&[rung.name()]).inc();
        }
    }

    /// The oldest turns of a request were left out.
    pub fn truncated(&self) {
        self.truncated.inc();
    }

    /// The first token of a request came after this many seconds.
    pub fn first_token(&self, seconds: f64) {
        self.first_token.observe(seconds);
    }

    /// A loop ended with an answer.
    pub fn outcome(&self, outcome: &Outcome) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if outcome.fallback.is_some() {
            self.fallbacks.fetch_add(1, Ordering::Relaxed);
        }
        self.latency.observe(outcome.total_ms / 1000.0);
        self.iterations.observe(f64::from(outcome.iterations()));
        let answer = outcome.answer.work.completion_tokens;
        let count = |kind: &str, tokens: u32| self.tokens.with_label_values(&[kind]).inc_by(tokens.into());
        count("answer", answer);
        count("reasoning", outcome.tokens().saturating_sub(answer));
        for step in &outcome.steps {
            self.queue.observe(step.work.queue_ms / 1000.0);
            count("prompt", step.work.prompt_tokens);
            count("cached", step.work.cached_tokens);
        }
        for (iteration, step) in (1_u8..).zip(&outcome.steps) {
            if iteration == 1 {
                for finding in &step.findings {
                    self.findings.with_label_values(&[finding.checker]).inc();
                }
            } else {
                let taken = if iteration == outcome.chosen { "yes" } else { "no" };
                self.reflections
                    .with_label_values(&[step.how.name(), taken])
                    .inc();
            }
        }
        // Where the client forbids a reflection, an error in the draft is no failure of the loop.
        if let (true, Some(mended)) = (outcome.may_reflect, outcome.draft_error_mended()) {
            self.drafts_with_error.inc();
            self.drafts_mended.inc_by(mended.into());
            #[expect(
                clippy::cast_precision_loss,
                reason = "counts of requests stay far below 2^52"
            )]
            self.autocorrection
                .set(self.drafts_mended.get() as f64 / self.drafts_with_error.get() as f64);
            self.autocorrection_measured
                .call_once(|| self.register_late(&self.autocorrection));
        }
    }

    fn register_late(&self, gauge: &Gauge) {
        if let Err(error) = self.registry.register(Box::new(gauge.clone())) {
            tracing::error!("failed to register a metric: {error}");
        }
    }

    /// Chat requests answered since the start, and how many of them by the fallback engine.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.answered.load(Ordering::Relaxed),
            self.fallbacks.load(Ordering::Relaxed),
        )
    }

    /// What an engine just said, or did not.
    pub fn engine(&self, name: &str, info: Option<&Info>) {
        self.engine_up
            .with_label_values(&[name])
            .set(f64::from(u8::from(info.is_some())));
        for (gauge, value) in [
            (&self.engine_queued, info.map(|i| i.queued)),
            (&self.engine_running, info.map(|i| i.running)),
        ] {
            match value {
                Some(value) => gauge.with_label_values(&[name]).set(value.into()),
                // An engine that is away has no queue, which is not the same as an empty one.
                None => drop(gauge.remove_label_values(&[name])),
            }
        }
    }

    /// How many records the audit log has written and lost since the start.
    pub fn audit(&self, records: u64, lost: u64) {
        follow(&self.audit_records, records);
        follow(&self.audit_lost, lost);
    }

    /// Feedback came, and this became of it.
    pub fn feedback(&self, kind: &str) {
        self.feedback.with_label_values(&[kind]).inc();
    }

    /// How many answers could not be kept to be judged since the start.
    pub fn feedback_lost(&self, lost: u64) {
        follow(&self.feedback_lost, lost);
    }

    /// Everything in Prometheus' text form.
    pub fn text(&self, connections: usize, evicted: u64) -> Result<Vec<u8>, prometheus::Error> {
        self.connections
            .set(i64::try_from(connections).unwrap_or(i64::MAX));
        self.evicted.set(i64::try_from(evicted).unwrap_or(i64::MAX));
        if let Some(bytes) = resident() {
            self.resident.set(bytes);
            self.resident_measured
                .call_once(|| self.register_late(&self.resident));
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Resident memory of this process in bytes, if the kernel tells.
fn resident() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u32 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(f64::from(pages) * f64::from(u32::try_from(page).ok()?))
}

/// Brings a counter to what somebody else counts. Two who ask at once must not count the same twice.
fn follow((counter, seen): &(IntCounter, AtomicU64), now: u64) {
    counter.inc_by(now.saturating_sub(seen.fetch_max(now, Ordering::Relaxed)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use sarai_reflection::outcome::{Ended, Stopped};
    use sarai_reflection::{Answer, Finding, Finish, Phase, Place, Source, Step, Work};

    fn outcome(draft_error: bool, remains: bool) -> Outcome {
        let finding = Finding {
            checker: "empty",
            place: Place::Whole,
            sentence: "Empty.".into(),
            weight: 1.0,
            repair: None,
        };
        let step = |findings: &[Finding]| Step {
            phase: Phase::Draft,
            how: sarai_reflection::How::Draft,
            confidence: None,
            ended: Ended::Complete,
            critique: None,
            text: String::new(),
            model: None,
            tokens: 4,
            score: Some(0.5),
            findings: findings.to_vec(),
            work: Work {
                completion_tokens: 4,
                ..Work::default()
            },
            total_ms: 1.0,
        };
        let found = std::slice::from_ref(&finding);
        Outcome {
            kind: "open".into(),
            score: 0.5,
            signals: sarai_reflection::Signals::default(),
            answer: Answer {
                text: String::new(),
                pieces: Vec::new(),
                finish: Finish::Stop,
                work: Work {
                    completion_tokens: 4,
                    ..Work::default()
                },
                source: Source::default(),
            },
            chosen: 1,
            confidence: 0.5,
            remaining: if remains {
                vec![finding.clone()]
            } else {
                Vec::new()
            },
            steps: vec![step(if draft_error { found } else { &[] }), step(&[])],
            stopped: Stopped::Limit,
            may_reflect: true,
            fallback: None,
            total_ms: 700.0,
        }
    }

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.text(3, 1).unwrap()).unwrap()
    }

    #[test]
    fn the_rate_is_absent_until_it_is_measured_and_then_a_quotient() {
        let metrics = Metrics::new().unwrap();
        metrics.outcome(&outcome(false, false));
        assert!(!text(&metrics).contains("sarai_autocorrection_rate"));
        metrics.outcome(&outcome(true, true));
        assert!(text(&metrics).contains("\nsarai_autocorrection_rate 0\n"));
        metrics.outcome(&outcome(true, false));
        assert!(text(&metrics).contains("\nsarai_autocorrection_rate 0.5\n"));
    }

    #[test]
    fn the_rung_is_absent_until_it_is_told_and_moves_are_counted() {
        let metrics = Metrics::new().unwrap();
        assert!(!text(&metrics).contains("sarai_memory_rung"));
        metrics.rung(Rung::Normal, false);
        metrics.rung(Rung::HalfContext, true);
        metrics.rung(Rung::HalfContext, false);
        let text = text(&metrics);
        assert!(text.contains("\nsarai_memory_rung 2\n"));
        assert!(text.contains("\nsarai_memory_moves_total{to=\"half_context\"} 1\n"));
        assert!(!text.contains("to=\"normal\""));
    }

    #[test]
    fn the_loop_is_measured_in_the_promised_buckets() {
        let metrics = Metrics::new().unwrap();
        metrics.outcome(&outcome(false, false));
        let text = text(&metrics);
        for line in [
            "sarai_omni_loop_latency_seconds_bucket{le=\"0.5\"} 0",
            "sarai_omni_loop_latency_seconds_bucket{le=\"1\"} 1",
            "sarai_omni_loop_latency_seconds_bucket{le=\"20\"} 1",
            "sarai_omni_loop_iterations_bucket{le=\"1\"} 0",
            "sarai_omni_loop_iterations_bucket{le=\"2\"} 1",
            "sarai_tokens_total{kind=\"answer\"} 4",
            "sarai_tokens_total{kind=\"reasoning\"} 4",
            "sarai_connections 3",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn resident_memory_is_the_processs_own() {
        let metrics = Metrics::new().unwrap();
        let text = text(&metrics);
        let line = text
            .lines()
            .find(|l| l.starts_with("process_resident_memory_bytes "))
            .unwrap();
        let bytes: f64 = line.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(bytes > 1e6, "{bytes}");
    }

    #[test]
    fn an_engine_that_is_away_has_no_queue() {
        let metrics = Metrics::new().unwrap();
        let info = Info {
            configured: 2048,
            model: "m".into(),
            digest: "d".into(),
            adapter: None,
            context: 1,
            slots: 1,
            cpu_variant: "x".into(),
            queued: 2,
            running: 1,
            batch_costs: Vec::new(),
        };
        metrics.engine("primary", Some(&info));
        assert!(text(&metrics).contains("sarai_queue_requests{engine=\"primary\"} 2"));
        metrics.engine("primary", None);
        assert!(text(&metrics).contains("sarai_engine_up{engine=\"primary\"} 0"));
        assert!(!text(&metrics).contains("sarai_queue_requests{engine=\"primary\"}"));
    }
}
