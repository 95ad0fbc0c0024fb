//! The loop: draft, judge, revise, return the best.

use std::time::Duration;

use tokio::time::Instant;

use crate::checkers::Checker;
use crate::confidence::Confidence;
use crate::critique::{Language, critique};
use crate::events::{Event, Sink};
use crate::generate::{
    Answer, Begun, Failure, FailureKind, Finish, Generate, Out, Phase, Piece, Refused, Speaker, Task, Turn,
    Work,
};
use crate::judge::{Judgement, judge};
use crate::outcome::{Ended, Outcome, Step, Stopped};
use crate::prompts::PromptSet;

/// Most generations one request ever gets: a draft and two reflections. [`Iterations`] holds nothing larger, so no
/// configuration can exceed it.
pub const ITERATION_LIMIT: u8 = 3;

/// Most tokens one generation may bring: far above any context, far below what could hurt the memory.
const MOST_PIECES: usize = 1 << 18;
/// Most bytes of text one generation may bring, for the same reason.
const MOST_TEXT: usize = 4 << 20;

/// How many generations a request may get: 1 to [`ITERATION_LIMIT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Iterations(u8);

impl Iterations {
    /// The draft alone.
    pub const DRAFT_ONLY: Self = Self(1);

    /// At most `most`, and never fewer than 1 or more than [`ITERATION_LIMIT`].
    pub const fn at_most(most: u8) -> Self {
        Self(if most < 1 {
            1
        } else if most > ITERATION_LIMIT {
            ITERATION_LIMIT
        } else {
            most
        })
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// What one request's loop may do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How many generations.
    pub iterations: Iterations,
    /// A clean answer with at least this score is returned at once.
    pub early_exit: f64,
    /// Time of one generation.
    pub iteration_timeout: Duration,
    /// Time of the whole loop.
    pub deadline: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            iterations: Iterations::at_most(ITERATION_LIMIT),
            early_exit: 0.85,
            iteration_timeout: Duration::from_secs(30),
            deadline: Duration::from_secs(90),
        }
    }
}

/// The loop with what it judges by.
#[derive(Clone, Copy)]
pub struct OmniLoop<'a> {
    /// What finds errors.
    pub checkers: &'a [Box<dyn Checker>],
    /// What says how sure an answer is.
    pub confidence: &'a dyn Confidence,
    /// The words that ask for a revision.
    pub prompts: &'a PromptSet,
    /// What this request may do.
    pub settings: Settings,
}

/// The best answer so far.
struct Best {
    answer: Answer,
    judgement: Judgement,
    iteration: u8,
}

impl OmniLoop<'_> {
    /// Answers `request`: a draft, and as many reflections as are allowed and worth it.
    ///
    /// # Errors
    /// The draft's [`Failure`] if there is nothing to return, and [`FailureKind::Cancelled`] whenever `sink`
    /// refuses an event. A revision that fails or takes too long is no error: the best answer so far is returned.
    pub async fn run<G: Generate, S: Sink>(
        &self,
        request: &[Turn],
        generator: &G,
        sink: &mut S,
    ) -> Result<Outcome, Failure> {
        let started = Instant::now();
        let deadline = started + self.settings.deadline;
        let language = Language::of_request(request);
        let mut conversation = request.to_vec();
        let mut steps = Vec::with_capacity(usize::from(ITERATION_LIMIT));

        let draft = self
            .iterate(None, 1, &mut conversation, generator, sink, deadline)
            .await;
        let (answer, mut step) = draft.into_first()?;
        let cut = step.ended == Ended::TimedOut;
        let judgement = self.judge(request, language, Phase::Draft, &answer);
        step.judged(&judgement);
        steps.push(step);
        let mut fallback = answer.source.fallback.clone();
        let mut last = judgement.findings.clone();
        let mut stopped = self.enough(&judgement).then_some(Stopped::Confident);
        if cut {
            stopped = Some(self.ran_out(deadline));
        }
        let mut last_text = answer.text.clone();
        let mut best = Best {
            answer,
            judgement,
            iteration: 1,
        };

        for iteration in 2..=self.settings.iterations.get() {
            if stopped.is_some() {
                break;
            }
            if Instant::now() >= deadline {
                stopped = Some(Stopped::Deadline);
                break;
            }
            // The conversation grows: what an engine already evaluated stays evaluated. An empty turn would be
            // refused by some chat templates.
            let said = if last_text.trim().is_empty() {
                "…"
            } else {
                &last_text
            };
            conversation.push(Turn::new(Speaker::Assistant, said));
            let words = critique(self.prompts.words(language), &last);
            conversation.push(Turn::new(Speaker::User, words.clone()));
            let attempt = self
                .iterate(
                    Some(words),
                    iteration,
                    &mut conversation,
                    generator,
                    sink,
                    deadline,
                )
                .await;
            let answer = match attempt {
                Attempt::Complete(answer, mut step) => {
                    fallback = fallback.or_else(|| answer.source.fallback.clone());
                    let judgement = self.judge(request, language, Phase::Revision, &answer);
                    step.judged(&judgement);
                    steps.push(step);
                    (answer, judgement)
                }
                Attempt::TimedOut(_, step) => {
                    steps.push(step);
                    stopped = Some(self.ran_out(deadline));
                    continue;
                }
                Attempt::Failed(failure, _) if failure.kind == FailureKind::Cancelled => return Err(failure),
                Attempt::Failed(_, step) => {
                    steps.push(step);
                    stopped = Some(Stopped::Failed);
                    continue;
                }
            };
            let (answer, judgement) = answer;
            if same(&answer.text, &last_text) {
                // A further critique of the same words would bring the same words. The copy never replaces what
                // it copies.
                stopped = Some(Stopped::Unchanged);
                continue;
            }
            if self.enough(&judgement) {
                stopped = Some(Stopped::Confident);
            }
            last = judgement.findings.clone();
            last_text.clone_from(&answer.text);
            if judgement.score > best.judgement.score {
                best = Best {
                    answer,
                    judgement,
                    iteration,
                };
            }
        }

        Ok(Outcome {
            chosen: best.iteration,
            confidence: best.judgement.score,
            remaining: best.judgement.findings,
            answer: best.answer,
            steps,
            stopped: stopped.unwrap_or(Stopped::Limit),
            may_reflect: self.settings.iterations > Iterations::DRAFT_ONLY,
            fallback,
            total_ms: milliseconds(started.elapsed()),
        })
    }

    fn judge(&self, request: &[Turn], language: Language, phase: Phase, answer: &Answer) -> Judgement {
        judge(self.checkers, self.confidence, request, language, phase, answer)
    }

    fn enough(&self, judgement: &Judgement) -> bool {
        judgement.is_clean() && judgement.score >= self.settings.early_exit
    }

    /// Which of the two limits a cut iteration met.
    fn ran_out(&self, deadline: Instant) -> Stopped {
        if Instant::now() >= deadline {
            Stopped::Deadline
        } else {
            Stopped::IterationTimeout
        }
    }

    /// One generation within its time. The critique is told first, within the same time.
    async fn iterate<G: Generate, S: Sink>(
        &self,
        critique: Option<String>,
        iteration: u8,
        conversation: &mut Vec<Turn>,
        generator: &G,
        sink: &mut S,
        deadline: Instant,
    ) -> Attempt {
        let started = Instant::now();
        let phase = if critique.is_some() {
            Phase::Revision
        } else {
            Phase::Draft
        };
        let until = deadline.min(started + self.settings.iteration_timeout);
        let mut collector = Collector {
            phase,
            sink,
            begun: None,
            pieces: Vec::new(),
            text: String::new(),
        };
        let generation = async {
            if let Some(words) = &critique {
                collector.sink.event(Event::Critique(words)).await?;
            }
            generator
                .generate(
                    Task {
                        phase,
                        iteration,
                        conversation,
                        prefix: "",
                        constraint: None,
                        guess: "",
                    },
                    &mut collector,
                )
                .await
        };
        let result = tokio::time::timeout_at(until, generation).await;

        let Collector {
            begun, pieces, text, ..
        } = collector;
        let mut step = Step {
            phase,
            ended: Ended::Complete,
            critique,
            text: text.clone(),
            model: begun.as_ref().map(|begun| begun.source.model.clone()),
            tokens: u32::try_from(pieces.len()).unwrap_or(u32::MAX),
            score: None,
            findings: Vec::new(),
            work: Work::default(),
            total_ms: milliseconds(started.elapsed()),
        };
        let Begun {
            source,
            prompt_tokens,
            cached_tokens,
        } = begun.unwrap_or_default();
        match result {
            Ok(Ok(finished)) => {
                step.work = finished.work;
                step.tokens = finished.work.completion_tokens.max(step.tokens);
                let answer = Answer {
                    text,
                    pieces,
                    finish: finished.finish,
                    work: finished.work,
                    source,
                };
                Attempt::Complete(answer, step)
            }
            Ok(Err(failure)) => {
                step.ended = Ended::Failed;
                Attempt::Failed(failure, step)
            }
            Err(_elapsed) => {
                step.ended = Ended::TimedOut;
                let work = Work {
                    prompt_tokens,
                    cached_tokens,
                    completion_tokens: step.tokens,
                    ..Work::default()
                };
                step.work = work;
                let answer = Answer {
                    text,
                    pieces,
                    finish: Finish::Length,
                    work,
                    source,
                };
                Attempt::TimedOut(answer, step)
            }
        }
    }
}

/// How one generation ended.
enum Attempt {
    Complete(Answer, Step),
    /// With what had come until then.
    TimedOut(Answer, Step),
    Failed(Failure, Step),
}

impl Attempt {
    /// The draft: it is all there is, so even a cut one is returned, as long as it says anything.
    fn into_first(self) -> Result<(Answer, Step), Failure> {
        match self {
            Self::Complete(answer, step) => Ok((answer, step)),
            Self::TimedOut(answer, step) if !answer.text.is_empty() => Ok((answer, step)),
            Self::TimedOut(..) => Err(Failure {
                kind: FailureKind::Timeout,
                message: "No answer began within the time a request may take; try again later, or with a \
                          shorter prompt."
                    .to_owned(),
            }),
            Self::Failed(failure, _) => Err(failure),
        }
    }
}

impl Step {
    fn judged(&mut self, judgement: &Judgement) {
        self.score = Some(judgement.score);
        self.findings.clone_from(&judgement.findings);
    }
}

/// Whether two answers say the same but for white space.
fn same(a: &str, b: &str) -> bool {
    a.split_whitespace().eq(b.split_whitespace())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Keeps a generation's tokens and passes them on.
struct Collector<'a, S> {
    phase: Phase,
    sink: &'a mut S,
    begun: Option<Begun>,
    pieces: Vec<Piece>,
    text: String,
}

impl<S: Sink> Out for Collector<'_, S> {
    async fn began(&mut self, begun: Begun) -> Result<(), Refused> {
        let begun = self.begun.insert(begun);
        self.sink
            .event(Event::Begun {
                phase: self.phase,
                begun,
            })
            .await
    }

    async fn piece(&mut self, piece: Piece) -> Result<(), Refused> {
        if self.pieces.len() >= MOST_PIECES || self.text.len() + piece.text.len() > MOST_TEXT {
            return Err(Refused::TooLong);
        }
        let event = match self.phase {
            Phase::Draft => Event::Draft(&piece),
            Phase::Revision => Event::Revision(&piece),
        };
        self.sink.event(event).await?;
        self.text.push_str(&piece.text);
        self.pieces.push(piece);
        Ok(())
    }

    async fn restart(&mut self, reason: &str) -> Result<(), Refused> {
        self.sink
            .event(Event::Restarted {
                phase: self.phase,
                reason,
            })
            .await?;
        self.begun = None;
        self.pieces.clear();
        self.text.clear();
        Ok(())
    }
}

#[cfg(test)]
#[path = "omni_loop_tests.rs"]
mod tests;
