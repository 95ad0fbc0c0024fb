//! `POST /v1/chat/completions`: a request becomes a loop, a loop becomes a response.
//!
//! | module | duty |
//! | --- | --- |
//! | [`request`] | the body's parameters, each accepted or refused by name |
//! | [`messages`] | the conversation in it |
//! | [`response`] | the objects a client gets |
//! | [`stream`] | the same, as server-sent events |
//! | [`truncate`] | which turns are left out of a conversation that does not fit |

mod messages;
mod request;
mod response;
mod stream;
mod truncate;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use sarai_reflection::{Event, Failure, FailureKind, OmniLoop, Refused, Settings, Sink, Turn, Worth, router};
use sarai_wire::engine::Counted;
use tokio::sync::OwnedSemaphorePermit;

use crate::audit::{AuditEntry, Ended, Pending};
use crate::body;
use crate::engine::{Engine, short_of_memory};
use crate::errors::ApiError;
use crate::failover::{Failover, Template, messages};
use crate::house::{House, Phase, new_id, now};
use crate::json;
use crate::routes::{ALIAS, Client, RequestId, expect_json, model_not_found};
use request::Chat;
use response::{Answered, Head};
use truncate::{Fit, Truncated};

/// How often a conversation is made to fit: the context may become smaller before it is read.
const FITS: u32 = 3;
/// How long an engine may take to count a conversation.
const COUNT_TIME: Duration = Duration::from_secs(5);

/// Everything one chat needs to run, wherever it runs.
struct Job {
    house: Arc<House>,
    chat: Chat,
    head: Head,
    client: String,
    request_id: String,
    /// Whether the client named the fallback's model, which then has no other to fall back to.
    fallback_only: bool,
    began: Instant,
    /// The place in the house, free again when the job is dropped.
    _slot: Slot,
}

/// A place for a chat request.
struct Slot {
    house: Arc<House>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.house.metrics.chats.dec();
    }
}

/// The route.
pub async fn completions(
    State(house): State<Arc<House>>,
    Extension(Client(client)): Extension<Client>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    request: Request<Body>,
) -> Response<Body> {
    match prepare(house, client, request_id, request).await {
        Ok(job) if job.chat.stream => stream::respond(job).await,
        Ok(job) => whole(job).await,
        Err(error) => error.into_response(),
    }
}

async fn prepare(
    house: Arc<House>,
    client: String,
    request_id: String,
    request: Request<Body>,
) -> Result<Job, ApiError> {
    let full = || {
        let most = house.limits.requests;
        ApiError::unavailable(
            "busy",
            format!("{most} requests are in the house, which is all it takes."),
            2,
        )
    };
    let (parts, body) = request.into_parts();
    if let Some(refusal) = house.ladder.refusal() {
        body::linger(body);
        return Err(refusal);
    }
    if let Err(error) = expect_json(&parts.headers) {
        body::linger(body);
        return Err(error);
    }
    let chat = {
        let Ok(_upload) = house.uploads.try_acquire() else {
            body::linger(body);
            return Err(full());
        };
        let bytes = body::read(body, house.limits.body, house.limits.body_time).await?;
        Chat::parse(json::object(&bytes)?)?
    };
    let began = Instant::now();
    if *house.phase.borrow() != Phase::Open {
        return Err(stopping());
    }
    let permit = Arc::clone(&house.slots).try_acquire_owned().map_err(|_| full())?;
    house.metrics.chats.inc();
    let slot = Slot {
        house: Arc::clone(&house),
        _permit: permit,
    };
    let engine = choose(&house, &chat.model).await?;
    let fallback_only = engine.name == "fallback";
    let known = engine.last_info();
    let head = Head {
        id: new_id("chatcmpl-"),
        created: now(),
        model: known
            .as_ref()
            .map_or_else(|| ALIAS.to_owned(), |info| info.model.clone()),
    };
    Ok(Job {
        house,
        chat,
        head,
        client,
        request_id,
        fallback_only,
        began,
        _slot: slot,
    })
}

/// The engine whose model the client named; the alias is the preferred one, whatever it runs.
async fn choose<'a>(house: &'a House, model: &str) -> Result<&'a Engine, ApiError> {
    if model == ALIAS {
        return Ok(&house.primary);
    }
    let named = || {
        house
            .engines()
            .find(|engine| engine.last_info().is_some_and(|info| info.model == model))
    };
    if let Some(engine) = named() {
        return Ok(engine);
    }
    // Perhaps it was not asked yet, or runs another model by now.
    house.infos().await;
    if let Some(engine) = named() {
        return Ok(engine);
    }
    if house.engines().all(|engine| engine.last_info().is_none()) {
        let message = "No engine is ready yet, so it is not known which models are served.";
        return Err(ApiError::unavailable("engine_unavailable", message, 2));
    }
    Err(model_not_found(model))
}

fn stopping() -> ApiError {
    ApiError::unavailable("stopping", "The appliance is stopping or restarting.", 5)
}

impl Job {
    /// The kind of request, and how many reflections it is worth.
    fn route(&self) -> (&'static str, Worth) {
        let route = router::route(&self.chat.turns);
        // What the client prescribed by a format is a kind of its own: its answers are right or wrong in another way.
        let kind = match self.chat.constraint {
            Some(_) => "format",
            None => route.kind.name(),
        };
        (kind, route.worth)
    }

    /// Runs the loop to its end, or until the house closes. Dropping the future cancels the generation.
    async fn run(&self, sink: &mut impl Sink) -> Result<Answered, ApiError> {
        let house = &*self.house;
        let template = Template {
            id: self.request_id.clone(),
            client: self.client.clone(),
            max_tokens: self.chat.max_tokens,
            sampling: self.chat.sampling,
            stop: self.chat.stop.clone(),
            top_logprobs: self.chat.top_logprobs,
        };
        let (primary, fallback) = match (self.fallback_only, &house.fallback) {
            (true, Some(only)) => (only, None),
            (_, fallback) => (&house.primary, fallback.as_ref()),
        };
        let generator = Failover {
            primary,
            fallback,
            silence: house.limits.silence,
            template,
            metrics: &house.metrics,
            ladder: &house.ladder,
            switched: OnceLock::new(),
            pins: Default::default(),
        };
        let (kind, worth) = self.route();
        let omni = OmniLoop {
            checkers: &house.checkers,
            confidence: &house.calibrations,
            kind,
            constraint: self.chat.constraint.as_ref(),
            prompts: &house.prompts,
            settings: Settings {
                sampled: self.chat.logprobs,
                ..self.chat.effort.settings(&house.limits, worth)
            },
        };
        let mut timed = Timed {
            sink,
            house,
            began: self.began,
            seen: false,
        };
        // Recorded as left in the middle when this future is dropped.
        let audit = Pending::new(
            &house.audit,
            AuditEntry {
                request_id: &self.request_id,
                client: &self.client,
                turns: &self.chat.turns,
                prompts: &house.prompts,
                ended: Ended::Left,
            },
        );
        let looping = async {
            let mut tries = FITS;
            loop {
                tries -= 1;
                let (cut, truncated) = self.fit(&generator).await?;
                let turns = cut.as_deref().unwrap_or(&self.chat.turns);
                match omni.run(turns, &generator, &mut timed).await {
                    // The context became smaller meanwhile, or another engine with a smaller one had to answer.
                    Err(Failure {
                        kind: FailureKind::ContextLength,
                        ..
                    }) if self.chat.truncate && tries > 0 => {}
                    result => return result.map(|outcome| (outcome, truncated)),
                }
            }
        };
        let result = tokio::select! {
            result = looping => result,
            () = house.reached(Phase::Closing) => return Err(stopping()),
        };
        audit.ended(result.as_ref().map(|(outcome, _)| outcome));
        match result {
            Ok((outcome, truncated)) => {
                house.metrics.outcome(&outcome);
                let source = &outcome.answer.source;
                if house.primary.runs(&source.digest) {
                    let adapter = source.adapter.as_ref().map(|adapter| &*adapter.digest);
                    house.quality.answered(adapter, outcome.confidence);
                }
                if self.chat.store {
                    house
                        .feedback
                        .remember(&self.head.id, &self.client, &self.chat.turns, &outcome);
                }
                if truncated.is_some() {
                    house.metrics.truncated();
                }
                tracing::info!(
                    id = self.request_id,
                    client = self.client,
                    model = outcome.answer.source.model,
                    iterations = outcome.iterations(),
                    corrected = outcome.corrected(),
                    fallback = outcome.fallback,
                    ms = outcome.total_ms.round(),
                    "answered"
                );
                Ok(Answered {
                    outcome,
                    memory: house.ladder.touched(self.began),
                    truncated,
                })
            }
            Err(failure) => {
                log_failure(&self.request_id, &failure);
                Err(failure.into())
            }
        }
    }
}

impl Job {
    /// What is left of the conversation, where turns may be left out and have to be.
    async fn fit(&self, generator: &Failover<'_>) -> Result<(Option<Vec<Turn>>, Option<Truncated>), Failure> {
        if !self.chat.truncate {
            return Ok((None, None));
        }
        for engine in generator.order() {
            let count = |turns: Vec<Turn>| async move { engine.count(messages(&turns), COUNT_TIME).await };
            match truncate::fit(&self.chat.turns, self.chat.max_tokens, count).await {
                Ok(Fit::Whole) => return Ok((None, None)),
                Ok(Fit::Cut(turns, truncated)) => return Ok((Some(turns), Some(truncated))),
                Ok(Fit::TooLong(Counted { tokens, context })) => {
                    let message = format!(
                        "prompt has {tokens} tokens without the turns that may be left out, context holds {context}: \
                         system messages and the last question always stay{}",
                        engine
                            .last_info()
                            .map_or_else(String::new, |info| short_of_memory(&info))
                    );
                    return Err(Failure {
                        kind: FailureKind::ContextLength,
                        message,
                    });
                }
                Err(trouble) => tracing::debug!(
                    id = self.request_id,
                    engine = engine.name,
                    "failed to count: failed to {trouble}"
                ),
            }
        }
        // Nobody counts; whoever is asked for the answer says what is wrong.
        Ok((None, None))
    }
}

fn log_failure(id: &str, failure: &Failure) {
    match failure.kind {
        FailureKind::Invalid | FailureKind::ContextLength | FailureKind::Cancelled => {
            tracing::debug!(id, kind = ?failure.kind, "not answered");
        }
        FailureKind::Busy | FailureKind::Unavailable | FailureKind::Timeout => {
            tracing::warn!(id, kind = ?failure.kind, "not answered: {failure}");
        }
    }
}

/// Passes events on and measures when the first token came.
struct Timed<'a, S> {
    sink: &'a mut S,
    house: &'a House,
    began: Instant,
    seen: bool,
}

impl<S: Sink> Sink for Timed<'_, S> {
    async fn event(&mut self, event: Event<'_>) -> Result<(), Refused> {
        if !self.seen && matches!(event, Event::Draft(_)) {
            self.seen = true;
            self.house.metrics.first_token(self.began.elapsed().as_secs_f64());
        }
        self.sink.event(event).await
    }
}

/// A response in one piece.
async fn whole(job: Job) -> Response<Body> {
    match job.run(&mut sarai_reflection::events::Unwatched).await {
        Ok(answered) => Json(response::completion(&job.head, &job.chat, &answered)).into_response(),
        Err(error) => error.into_response(),
    }
}

/// What the loop's settings promise must be what the settings of the wire say by default.
#[cfg(test)]
mod tests {
    use super::request::Effort;
    use crate::limits::Limits;
    use sarai_reflection::{Iterations, Settings, Worth};
    use sarai_wire::birth::GatewaySettings;

    const WORTH: Worth = Worth {
        when_clean: 0,
        when_found: 1,
    };

    #[test]
    fn the_effort_chooses_the_iterations() {
        let limits = Limits::try_from(&GatewaySettings::default()).unwrap();
        assert_eq!(
            Effort::Medium.settings(&limits, WORTH).iteration_timeout,
            Settings::default().iteration_timeout
        );
        let of = |effort: Effort| {
            let settings = effort.settings(&limits, WORTH);
            (settings.iterations, (settings.early_exit * 100.0).round())
        };
        assert_eq!(of(Effort::None), (Iterations::DRAFT_ONLY, 85.0));
        assert_eq!(of(Effort::Low), (Iterations::at_most(2), 85.0));
        assert_eq!(of(Effort::Medium), (Iterations::at_most(3), 85.0));
        assert_eq!(of(Effort::High), (Iterations::at_most(3), 95.0));
    }
}
