//! What a loop ends with, and the `omni_loop` object a client sees.

use serde::Serialize;

use crate::checkers::Finding;
use crate::confidence::{Signals, sound};
use crate::generate::{Adapter, Answer, Phase, Work};
use crate::plan::How;

/// Why no further reflection followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// The last answer was clean and sure.
    Confident,
    /// Nothing was found, or nothing that can be mended, and a reflection would not be worth its time.
    NotWorth,
    /// The request allowed no more iterations.
    Limit,
    /// The last revision said the same as the answer before it.
    Unchanged,
    /// The last iteration took longer than an iteration may.
    IterationTimeout,
    /// The whole loop's time was used up.
    Deadline,
    /// The last revision failed; the best answer before it was returned.
    Failed,
}

/// How one iteration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// With a whole answer.
    Complete,
    /// Its time ran out.
    TimedOut,
    /// It failed.
    Failed,
}

/// One iteration of the loop.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Draft or revision.
    pub phase: Phase,
    /// How it was made.
    pub how: How,
    /// How it ended.
    pub ended: Ended,
    /// The critique it answers; `None` for the draft.
    pub critique: Option<String>,
    /// What was written, as far as it came.
    pub text: String,
    /// Who wrote it; `None` if it never began.
    pub model: Option<String>,
    /// Tokens written.
    pub tokens: u32,
    /// What it scored, in [0, 1]; `None` if it was not judged.
    pub score: Option<f64>,
    /// The probability that it is right; `None` if it was not judged.
    pub confidence: Option<f64>,
    /// What was found in it.
    pub findings: Vec<Finding>,
    /// The engine's figures; zero where the iteration was cut.
    pub work: Work,
    /// Milliseconds from asking to its end.
    pub total_ms: f64,
}

impl Step {
    /// A step that has just begun.
    pub(crate) fn begun(phase: Phase, how: How, critique: Option<String>) -> Self {
        Self {
            phase,
            how,
            ended: Ended::Complete,
            critique,
            text: String::new(),
            model: None,
            tokens: 0,
            score: None,
            confidence: None,
            findings: Vec::new(),
            work: Work::default(),
            total_ms: 0.0,
        }
    }
}

/// What a loop ends with.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The kind of request, as the router names it.
    pub kind: String,
    /// The best-scored answer.
    pub answer: Answer,
    /// Which iteration it came from: 1 is the draft.
    pub chosen: u8,
    /// The probability that it is right.
    pub confidence: f64,
    /// Its score, in [0, 1]: what answers are compared by.
    pub score: f64,
    /// What the model's own probabilities say of it.
    pub signals: Signals,
    /// What is still wrong with it.
    pub remaining: Vec<Finding>,
    /// Every iteration that began, in order: 1 to [`crate::ITERATION_LIMIT`].
    pub steps: Vec<Step>,
    /// Why it ended.
    pub stopped: Stopped,
    /// Whether the request allowed a reflection at all.
    pub may_reflect: bool,
    /// Why the fallback engine answered in any iteration; `None` if it did not.
    pub fallback: Option<String>,
    /// Milliseconds from the start of the loop to its end.
    pub total_ms: f64,
}

impl Outcome {
    /// How many iterations ran.
    pub fn iterations(&self) -> u8 {
        u8::try_from(self.steps.len()).unwrap_or(u8::MAX)
    }

    /// Whether the returned answer is a revision, which then scored above the draft.
    pub fn corrected(&self) -> bool {
        self.chosen > 1
    }

    /// Whether an error was detected in the draft, and if so, whether the returned answer is free of every kind of
    /// error that was detected in it.
    pub fn draft_error_mended(&self) -> Option<bool> {
        let draft = self.steps.first().filter(|step| !step.findings.is_empty())?;
        let left = |found: &Finding| self.remaining.iter().any(|other| other.checker == found.checker);
        Some(!draft.findings.iter().any(left))
    }

    /// Tokens generated in all iterations.
    pub fn tokens(&self) -> u32 {
        self.steps.iter().map(|step| step.tokens).sum()
    }

    /// Drafts, critiques and revisions that are not the returned answer, in order: what a client may show as
    /// reasoning. `None` when the draft was returned and nothing else was written.
    pub fn reasoning(&self) -> Option<String> {
        let mut parts = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            parts.extend(step.critique.as_deref());
            if index + 1 != usize::from(self.chosen) && !step.text.is_empty() {
                parts.push(&step.text);
            }
        }
        (!parts.is_empty()).then(|| parts.join("\n\n"))
    }

    /// The `omni_loop` object of a response.
    pub fn report(&self) -> Report<'_> {
        Report {
            iterations: self.iterations(),
            corrected: self.corrected(),
            confidence: rounded(self.confidence),
            score: rounded(self.score),
            soundness: sound(&self.remaining),
            kind: &self.kind,
            signals: self.signals,
            model: &self.answer.source.model,
            adapter: self.answer.source.adapter.as_ref().map(Adapted::of),
            fallback: self.fallback.is_some(),
            fallback_reason: self.fallback.as_deref(),
            stopped: self.stopped,
            remaining: &self.remaining,
            timings: Timings {
                total_ms: rounded(self.total_ms),
                iterations: self.steps.iter().map(StepTimings::of).collect(),
            },
        }
    }
}

/// Three decimals are more than any of these figures means.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The `omni_loop` object of a response.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report<'a> {
    /// How many iterations ran: 1 to [`crate::ITERATION_LIMIT`].
    pub iterations: u8,
    /// Whether the answer is a revision that scored above the draft.
    pub corrected: bool,
    /// The probability that the answer is right.
    pub confidence: f64,
    /// The answer's score, in [0, 1]: what drafts and revisions are compared by.
    pub score: f64,
    /// The share of the answer's worth that what is still wrong with it leaves, in [0, 1].
    pub soundness: f64,
    /// The kind of request.
    pub kind: &'a str,
    /// What the model's own probabilities say of the answer, in nats.
    pub signals: Signals,
    /// The model that gave the answer.
    pub model: &'a str,
    /// The adapter applied to it.
    pub adapter: Option<Adapted<'a>>,
    /// Whether the fallback engine had to answer in any iteration.
    pub fallback: bool,
    /// Why it had to.
    pub fallback_reason: Option<&'a str>,
    /// Why the loop ended.
    pub stopped: Stopped,
    /// What is still wrong with the answer.
    pub remaining: &'a [Finding],
    /// Where the time went.
    pub timings: Timings<'a>,
}

/// An adapter as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Adapted<'a> {
    /// The first twelve digits of its digest.
    pub digest: &'a str,
    /// Its version.
    pub version: &'a str,
}

impl<'a> Adapted<'a> {
    fn of(adapter: &'a Adapter) -> Self {
        Self {
            digest: adapter.digest.get(..12).unwrap_or(&adapter.digest),
            version: &adapter.version,
        }
    }
}

/// Where the time went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timings<'a> {
    /// Milliseconds from the start of the loop to its end.
    pub total_ms: f64,
    /// Each iteration, in order.
    pub iterations: Vec<StepTimings<'a>>,
}

/// One iteration's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepTimings<'a> {
    /// Draft or revision.
    pub phase: Phase,
    /// How it was made.
    pub how: How,
    /// How it ended.
    pub ended: Ended,
    /// What was found in it.
    pub findings: &'a [Finding],
    /// Who wrote it.
    pub model: Option<&'a str>,
    /// The probability that it is right.
    pub confidence: Option<f64>,
    /// What it scored, in [0, 1].
    pub score: Option<f64>,
    /// Tokens written.
    pub tokens: u32,
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// How many of those were already evaluated.
    pub cached_tokens: u32,
    /// Milliseconds in the engine's queue.
    pub queue_ms: f64,
    /// Milliseconds from leaving the queue to the first token.
    pub prefill_ms: f64,
    /// Milliseconds from the first token to the last.
    pub decode_ms: f64,
    /// Milliseconds from asking to its end.
    pub total_ms: f64,
}

impl<'a> StepTimings<'a> {
    fn of(step: &'a Step) -> Self {
        Self {
            phase: step.phase,
            how: step.how,
            ended: step.ended,
            findings: &step.findings,
            model: step.model.as_deref(),
            confidence: step.confidence.map(rounded),
            score: step.score.map(rounded),
            tokens: step.tokens,
            prompt_tokens: step.work.prompt_tokens,
            cached_tokens: step.work.cached_tokens,
            queue_ms: rounded(step.work.queue_ms),
            prefill_ms: rounded(step.work.prefill_ms),
            decode_ms: rounded(step.work.decode_ms),
            total_ms: rounded(step.total_ms),
        }
    }
}
