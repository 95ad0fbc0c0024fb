//! Two engines behind one face: the preferred one, and the one that answers when it cannot.

use std::sync::OnceLock;
use std::time::Duration;

use sarai_reflection::{
    Constraint, Failure, FailureKind, Finished, Generate, Out, Phase, Refused, Scored, Speaker, Task, Turn,
};
use sarai_wire::engine::{Message, Role, Sampling, Score};

use crate::engine::{Engine, Patience, Pin};
use crate::ladder::Ladder;
use crate::metrics::Metrics;

/// How long a dead engine goes unnoticed while another could take over: silence before it is asked whether it
/// lives, plus the time that answer may take. Together they stay below 2 s.
const PROBE: (Duration, Duration) = (Duration::from_millis(800), Duration::from_millis(1000));

/// Why the fallback has a request whose primary is stopped to save memory; also what an engine means that could not
/// go on in a smaller context.
const STOPPED: &str = "memory";

/// What every generation of one request has in common.
#[derive(Debug, Clone)]
pub struct Template {
    /// Request id, for logs.
    pub id: String,
    /// Name of the client's key.
    pub client: String,
    /// At most this many new tokens.
    pub max_tokens: Option<u32>,
    /// Sampling of the next token; drafts and revisions use the same.
    pub sampling: Sampling,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Alternatives per token.
    pub top_logprobs: u8,
}

impl Template {
    fn request(&self, task: Task<'_>, pin: &Pin) -> sarai_wire::engine::Generate {
        sarai_wire::engine::Generate {
            id: match task.phase {
                Phase::Draft => self.id.clone(),
                Phase::Revision => format!("{}.{}", self.id, task.iteration),
            },
            client: self.client.clone(),
            messages: messages(task.conversation),
            max_tokens: self.max_tokens,
            sampling: self.sampling,
            stop: self.stop.clone(),
            top_logprobs: self.top_logprobs,
            prefix: task.prefix.to_owned(),
            constraint: task.constraint.map(constraint),
            guess: task.guess.to_owned(),
            apply: pin.apply(),
        }
    }
}

/// A conversation as engines take it.
pub fn messages(conversation: &[Turn]) -> Vec<Message> {
    let message = |turn: &Turn| Message {
        role: match turn.speaker {
            Speaker::System => Role::System,
            Speaker::User => Role::User,
            Speaker::Assistant => Role::Assistant,
        },
        content: turn.text.clone(),
    };
    conversation.iter().map(message).collect()
}

fn constraint(wanted: &Constraint) -> sarai_wire::engine::Constraint {
    use sarai_wire::engine::Constraint as Wire;
    match wanted.clone() {
        Constraint::JsonObject => Wire::JsonObject,
        Constraint::JsonSchema(schema) => Wire::JsonSchema { schema },
        Constraint::Regex(pattern) => Wire::Regex { pattern },
        Constraint::Lark(grammar) => Wire::Lark { grammar },
    }
}

/// Generates on `primary`; when that fails by its own fault, the same iteration starts again on `fallback`, which
/// then keeps the request, so that no request waits twice for the same dead engine.
pub struct Failover<'a> {
    /// The preferred engine.
    pub primary: &'a Engine,
    /// The one that takes over.
    pub fallback: Option<&'a Engine>,
    /// Longest silence of an engine.
    pub silence: Duration,
    /// What every generation has in common.
    pub template: Template,
    /// Counts the switches.
    pub metrics: &'a Metrics,
    /// Says whether the primary is stopped on purpose.
    pub ladder: &'a Ladder,
    /// Why the fallback has the request.
    pub switched: OnceLock<&'static str>,
    /// The adapters that have the request: of the preferred engine, and of the other.
    pub pins: [Pin; 2],
}

impl<'a> Failover<'a> {
    /// The engines in the order in which they are asked for what comes next.
    pub fn order(&self) -> impl Iterator<Item = &'a Engine> + use<'a> {
        self.leave_stopped();
        let (first, second) = match (self.switched.get(), self.fallback) {
            (Some(_), Some(fallback)) => (fallback, None),
            (_, fallback) => (self.primary, fallback),
        };
        std::iter::once(first).chain(second)
    }

    /// Gives the request to the fallback where the primary is stopped to save memory: it is not even asked.
    fn leave_stopped(&self) {
        if self.fallback.is_some() && self.switched.get().is_none() && self.ladder.without_primary() {
            self.metrics.fell_back(STOPPED);
            let _ = self.switched.set(STOPPED);
        }
    }
}

impl Generate for Failover<'_> {
    async fn generate<O: Out>(&self, task: Task<'_>, out: &mut O) -> Result<Finished, Failure> {
        self.leave_stopped();
        let mut first = None;
        if self.switched.get().is_none() {
            let patience = match self.fallback {
                Some(_) => Patience {
                    hello: PROBE.1.min(self.silence),
                    silence: self.silence,
                    probe: Some(PROBE),
                },
                // With nobody to take over, an engine that restarts is worth waiting for.
                None => Patience {
                    hello: self.silence,
                    silence: self.silence,
                    probe: None,
                },
            };
            let trouble = match self
                .primary
                .generate(
                    self.template.request(task, &self.pins[0]),
                    patience,
                    None,
                    &self.pins[0],
                    out,
                )
                .await
            {
                Ok(finished) => return Ok(finished),
                Err(trouble) => trouble,
            };
            let Some(reason) = trouble.reason() else {
                return Err(trouble.into_failure());
            };
            tracing::warn!(
                id = self.template.id,
                engine = self.primary.name,
                "failed to {trouble}"
            );
            if self.fallback.is_none() {
                return Err(trouble.into_failure());
            }
            match out.restart(reason).await {
                Ok(()) => {}
                Err(Refused::TooLate) => {
                    let message = format!(
                        "The engine failed in the middle of the answer ({reason}). What was sent is \
                         incomplete; send the request again."
                    );
                    return Err(Failure {
                        kind: FailureKind::Unavailable,
                        message,
                    });
                }
                Err(refused) => return Err(refused.into()),
            }
            self.metrics.fell_back(reason);
            // Only this place sets it, and iterations run one after the other.
            let _ = self.switched.set(reason);
            first = Some(reason);
        }
        let (Some(fallback), Some(reason)) = (self.fallback, self.switched.get()) else {
            let message = "No engine is there to answer.".to_owned();
            return Err(Failure {
                kind: FailureKind::Unavailable,
                message,
            });
        };
        let patience = Patience {
            hello: self.silence,
            silence: self.silence,
            probe: None,
        };
        let pin = &self.pins[1];
        let request = self.template.request(task, pin);
        match fallback.generate(request, patience, Some(reason), pin, out).await {
            Ok(finished) => Ok(finished),
            Err(trouble) => {
                let Some(second) = trouble.reason() else {
                    return Err(trouble.into_failure());
                };
                tracing::warn!(
                    id = self.template.id,
                    engine = fallback.name,
                    "failed to {trouble}"
                );
                let message = match first {
                    Some(first) => format!(
                        "Neither engine could answer (primary: {first}; fallback: {second}). Try again in a \
                         moment."
                    ),
                    None => format!("The fallback engine could not go on ({second}). Try again in a moment."),
                };
                Err(Failure {
                    kind: FailureKind::Unavailable,
                    message,
                })
            }
        }
    }

    /// Asked of the engine that has the request. A failure here costs a revision and is no reason to switch.
    async fn score(&self, conversation: &[Turn], text: &str) -> Result<Vec<Scored>, Failure> {
        let (engine, pin) = match (self.switched.get(), self.fallback) {
            (Some(_), Some(fallback)) => (fallback, &self.pins[1]),
            _ => (self.primary, &self.pins[0]),
        };
        let patience = Patience {
            hello: PROBE.1.min(self.silence),
            silence: self.silence,
            probe: None,
        };
        let score = Score {
            id: format!("{}.score", self.template.id),
            client: self.template.client.clone(),
            messages: messages(conversation),
            text: text.to_owned(),
            apply: pin.apply(),
        };
        engine.score(score, patience).await.map_err(|trouble| {
            tracing::debug!(id = self.template.id, engine = engine.name, "failed to {trouble}");
            trouble.into_failure()
        })
    }
}
