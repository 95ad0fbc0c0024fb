//! What every Omni-Loop did, for the audit log. A request hands over copies of its texts; hashing, writing and flushing
//! happen on the log's own thread. Texts themselves are kept only where the admin wants it.

use sarai_audit::{
    Content, Event, Finding, Hash, Limits, Loop, Message, Prompts, Report, Stats, Step, Writer,
};
use sarai_reflection::{Failure, Outcome, PromptSet, Speaker, Turn};
use sarai_wire::birth::{AuditHead, AuditReport, AuditStart};
use tokio::sync::mpsc::UnboundedSender;

/// Most bytes of one text that are kept, and of all messages of a conversation.
const KEPT: usize = 64 * 1024;
/// Most findings of one iteration that are recorded.
const FINDINGS: usize = 64;

/// The way to the log.
pub struct Audit {
    /// `None` where no log is wanted.
    writer: Option<Writer>,
    content: bool,
}

/// One loop that ended.
#[derive(Clone, Copy)]
pub struct AuditEntry<'a> {
    /// Id of the request.
    pub request_id: &'a str,
    /// Name of the client's key.
    pub client: &'a str,
    /// The conversation.
    pub turns: &'a [Turn],
    /// The words that asked for revisions.
    pub prompts: &'a PromptSet,
    /// How it ended.
    pub ended: Ended<'a>,
}

/// How a loop ended.
#[derive(Clone, Copy)]
pub enum Ended<'a> {
    /// With an answer.
    Answered(&'a Outcome),
    /// Without one.
    Failed(&'a Failure),
    /// In the middle: the client left, or the gateway ended.
    Left,
}

impl Audit {
    /// Starts the log's thread; `reports` is told what the supervisor is to know.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(start: Option<AuditStart>, reports: UnboundedSender<AuditReport>) -> std::io::Result<Self> {
        let Some(start) = start else {
            return Ok(Self {
                writer: None,
                content: false,
            });
        };
        let report = move |report: Report| {
            if let Some(trouble) = &report.trouble {
                tracing::warn!(lost = report.lost, "failed to {trouble}");
            }
            // Nobody listens any more at the very end.
            let _ = reports.send(to_wire(report));
        };
        let version = env!("CARGO_PKG_VERSION");
        Ok(Self {
            writer: Some(Writer::start(start.folder, Limits::default(), version, report)?),
            content: start.content,
        })
    }

    /// Hands an entry over. Never waits: what the log cannot take is counted as lost.
    pub fn record(&self, entry: &AuditEntry<'_>) {
        let Some(writer) = &self.writer else { return };
        let texts = Texts::of(entry);
        let size = texts.size();
        let content = self.content;
        writer.submit(size, move || Event::Loop(Box::new(texts.into_loop(content))));
    }

    /// Counts since the start.
    pub fn stats(&self) -> Option<&Stats> {
        self.writer.as_ref().map(Writer::stats)
    }

    /// Takes no more entries; true once those it has are written and reported.
    pub fn end(&self) -> bool {
        self.writer.as_ref().is_none_or(|writer| {
            writer.end();
            writer.ended()
        })
    }
}

/// An entry that is recorded as left in the middle unless it is said how it ended.
pub struct Pending<'a> {
    audit: &'a Audit,
    entry: AuditEntry<'a>,
    recorded: bool,
}

impl<'a> Pending<'a> {
    /// An entry about a loop that begins.
    pub fn new(audit: &'a Audit, entry: AuditEntry<'a>) -> Self {
        Self {
            audit,
            entry,
            recorded: false,
        }
    }

    /// It ended so.
    pub fn ended(mut self, result: Result<&Outcome, &Failure>) {
        let entry = AuditEntry {
            ended: result.map_or_else(Ended::Failed, Ended::Answered),
            ..self.entry
        };
        self.audit.record(&entry);
        self.recorded = true;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.recorded {
            self.audit.record(&self.entry);
        }
    }
}

fn to_wire(report: Report) -> AuditReport {
    AuditReport {
        head: report.head.map(|head| AuditHead {
            file: head.file,
            line: head.line,
            sha256: head.sha256.to_string(),
        }),
        trouble: report.trouble,
        lost: report.lost,
    }
}

/// Copies of what a record is made from.
struct Texts {
    /// Everything that is no text.
    entry: Loop,
    messages: Vec<Message>,
    steps: Vec<StepTexts>,
    answer: Option<String>,
}

struct StepTexts {
    step: Step,
    text: String,
    findings: Vec<(&'static str, String)>,
}

impl Texts {
    fn of(entry: &AuditEntry<'_>) -> Self {
        let role = |speaker| match speaker {
            Speaker::System => "system",
            Speaker::User => "user",
            Speaker::Assistant => "assistant",
        };
        let message = |turn: &Turn| Message {
            role: role(turn.speaker).to_owned(),
            content: turn.text.clone(),
        };
        let mut texts = Self {
            entry: Loop {
                id: entry.request_id.to_owned(),
                client: entry.client.to_owned(),
                prompts: Prompts {
                    id: entry.prompts.id.clone(),
                    version: entry.prompts.version.clone(),
                    sha256: entry.prompts.sha256.clone(),
                },
                ..Loop::default()
            },
            messages: entry.turns.iter().map(message).collect(),
            steps: Vec::new(),
            answer: None,
        };
        match entry.ended {
            Ended::Answered(outcome) => texts.answered(outcome),
            Ended::Failed(failure) => texts.entry.failed = Some(snake(&failure.kind)),
            Ended::Left => texts.entry.failed = Some("left".to_owned()),
        }
        texts
    }

    fn answered(&mut self, outcome: &Outcome) {
        let source = &outcome.answer.source;
        self.entry.chosen = Some(outcome.chosen);
        self.entry.stopped = Some(snake(&outcome.stopped));
        self.entry.confidence = Some(rounded(outcome.confidence));
        self.entry.model = Some(source.model.clone());
        self.entry.digest = Some(source.digest.clone());
        let adapter = source.adapter.as_ref();
        self.entry.adapter = adapter.map(|adapter| format!("{} {}", adapter.digest, adapter.version));
        self.entry.fallback.clone_from(&outcome.fallback);
        self.answer = Some(outcome.answer.text.clone());
        self.steps = outcome
            .steps
            .iter()
            .map(|step| StepTexts {
                step: Step {
                    phase: snake(&step.phase),
                    ended: snake(&step.ended),
                    sha256: Hash::ZERO,
                    score: step.score.map(rounded),
                    findings: Vec::new(),
                },
                text: step.text.clone(),
                findings: step
                    .findings
                    .iter()
                    .take(FINDINGS)
                    .map(|found| (found.checker, found.sentence.clone()))
                    .collect(),
            })
            .collect();
    }

    /// Roughly what it holds in memory.
    fn size(&self) -> usize {
        let messages: usize = self.messages.iter().map(|m| m.content.len() + 64).sum();
        let steps: usize = self.steps.iter().map(|s| s.text.len() + 512).sum();
        messages + steps + self.answer.as_ref().map_or(0, String::len) + 1024
    }

    /// The record: hashes, and the texts too if they are wanted.
    fn into_loop(self, content: bool) -> Loop {
        let Self {
            mut entry,
            messages,
            steps,
            answer,
        } = self;
        entry.prompt = serde_json::to_vec(&messages).ok().map(|json| Hash::of(&json));
        entry.answer = answer.as_ref().map(|text| Hash::of(text.as_bytes()));
        let mut texts = Vec::with_capacity(steps.len());
        for mut step in steps {
            step.step.sha256 = Hash::of(step.text.as_bytes());
            step.step.findings = step
                .findings
                .into_iter()
                .map(|(checker, sentence)| Finding {
                    checker: checker.to_owned(),
                    sha256: Hash::of(sentence.as_bytes()),
                })
                .collect();
            entry.steps.push(step.step);
            texts.push(step.text);
        }
        if content {
            entry.content = Some(kept(messages, texts, answer.unwrap_or_default()));
        }
        entry
    }
}

/// The texts, each as far as it is kept.
fn kept(mut messages: Vec<Message>, mut steps: Vec<String>, mut answer: String) -> Content {
    let mut cut = false;
    let mut left = KEPT;
    for message in &mut messages {
        cut |= shorten(&mut message.content, left);
        left -= message.content.len();
    }
    for text in steps.iter_mut().chain([&mut answer]) {
        cut |= shorten(text, KEPT);
    }
    Content {
        messages,
        steps,
        answer,
        cut,
    }
}

/// Whether something had to be left out.
fn shorten(text: &mut String, most: usize) -> bool {
    let end = text.floor_char_boundary(most.min(text.len()));
    let cut = end < text.len();
    text.truncate(end);
    cut
}

/// The name by which a value is known in responses; of those without one, its variant's in lower case.
fn snake(value: &impl std::fmt::Debug) -> String {
    let mut name = String::new();
    for (index, c) in format!("{value:?}").chars().enumerate() {
        if c.is_ascii_uppercase() && index > 0 {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

/// As in responses.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use sarai_reflection::{FailureKind, Phase, Stopped};

    fn record(content: bool, ended: Ended<'_>) -> Loop {
        let turns = [
            Turn::new(Speaker::System, "Be brief."),
            Turn::new(Speaker::User, "¿Capital? 🗼"),
        ];
        let prompts = PromptSet::built_in();
        let entry = AuditEntry {
            request_id: "req-1",
            client: "first",
            turns: &turns,
            prompts: &prompts,
            ended,
        };
        Texts::of(&entry).into_loop(content)
    }

    #[test]
    fn a_failed_loop_says_why_and_what_was_asked_only_as_a_hash() {
        let failure = Failure {
            kind: FailureKind::ContextLength,
            message: "secret".into(),
        };
        let entry = record(false, Ended::Failed(&failure));
        assert_eq!(entry.failed.as_deref(), Some("context_length"));
        let json = r#"[{"role":"system","content":"Be brief."},{"role":"user","content":"¿Capital? 🗼"}]"#;
        assert_eq!(entry.prompt, Some(Hash::of(json.as_bytes())));
        let text = serde_json::to_string(&entry).unwrap();
        assert!(!text.contains("Capital") && !text.contains("secret"), "{text}");
        assert_eq!(record(false, Ended::Left).failed.as_deref(), Some("left"));
    }

    #[test]
    fn content_is_kept_only_when_it_is_wanted_and_within_bounds() {
        assert_eq!(record(false, Ended::Left).content, None);
        let content = record(true, Ended::Left).content.unwrap();
        assert_eq!(content.messages[1].content, "¿Capital? 🗼");
        assert!(!content.cut);
        let long = "é".repeat(KEPT);
        let message = |text: &str| Message {
            role: "user".into(),
            content: text.into(),
        };
        let content = kept(
            vec![message("x"), message(&long), message("y")],
            vec![long.clone()],
            long.clone(),
        );
        let all: usize = content.messages.iter().map(|m| m.content.len()).sum();
        assert!(content.cut && all <= KEPT && content.answer.len() == KEPT);
        assert_eq!(content.messages.len(), 3);
    }

    #[test]
    fn names_are_those_of_responses() {
        assert_eq!(snake(&Stopped::IterationTimeout), "iteration_timeout");
        assert_eq!(snake(&Phase::Draft), "draft");
    }
}
