//! One generation within its time: its tokens are kept and passed on, and whatever happens it leaves a step.

use std::time::Duration;

use tokio::time::Instant;

use crate::events::{Event, Sink};
use crate::generate::{
    Answer, Begun, Failure, FailureKind, Finish, Generate, Out, Phase, Piece, Refused, Task, Work,
};
use crate::outcome::{Ended, Step};
use crate::plan::How;

/// Most tokens one generation may bring: far above any context, far below what could hurt the memory.
const MOST_PIECES: usize = 1 << 18;
/// Most bytes of text one generation may bring, for the same reason.
const MOST_TEXT: usize = 4 << 20;

/// How one generation ended.
pub(crate) enum Attempt {
    /// With a whole answer.
    Complete(Answer, Step),
    /// With what had come until then.
    TimedOut(Answer, Step),
    /// It failed.
    Failed(Failure, Step),
}

impl Attempt {
    /// The draft: it is all there is, so even a cut one is returned, as long as it says anything.
    pub(crate) fn into_first(self) -> Result<(Answer, Step), Failure> {
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

/// Runs `task` until `until`. The critique, if any, is told first, within the same time. The answer's text begins
/// with the task's prefix; its pieces are the generated ones alone.
pub(crate) async fn attempt<G: Generate, S: Sink>(
    how: How,
    critique: Option<String>,
    task: Task<'_>,
    generator: &G,
    sink: &mut S,
    until: Instant,
) -> Attempt {
    let started = Instant::now();
    let mut collector = Collector {
        phase: task.phase,
        prefix: task.prefix,
        sink,
        begun: None,
        pieces: Vec::new(),
        text: task.prefix.to_owned(),
    };
    let generation = async {
        if let Some(words) = &critique {
            collector.sink.event(Event::Critique(words)).await?;
        }
        generator.generate(task, &mut collector).await
    };
    let result = tokio::time::timeout_at(until, generation).await;

    let Collector {
        begun, pieces, text, ..
    } = collector;
    let mut step = Step::begun(task.phase, how, critique);
    step.text.clone_from(&text);
    step.model = begun.as_ref().map(|begun| begun.source.model.clone());
    step.tokens = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
    step.total_ms = milliseconds(started.elapsed());
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

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Keeps a generation's tokens and passes them on.
struct Collector<'a, S> {
    phase: Phase,
    prefix: &'a str,
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
            .await?;
        if self.prefix.is_empty() {
            return Ok(());
        }
        // Whoever watches reads the whole revision, also what was kept of the draft.
        let kept = Piece::given(self.prefix);
        self.sink.event(Event::Revision(&kept)).await
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
        self.text.push_str(self.prefix);
        Ok(())
    }
}
