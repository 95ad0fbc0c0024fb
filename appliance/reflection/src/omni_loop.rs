//! The loop: draft, judge, revise, return the best.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::attempt::{Attempt, attempt, milliseconds};
use crate::checkers::{Checker, Finding, Subject};
use crate::confidence::signals::carries;
use crate::confidence::{Confidence, Evidence, Signals, probability};
use crate::critique::{Language, critique};
use crate::events::{Event, Sink};
use crate::generate::{
    Answer, Constraint, Failure, FailureKind, Generate, Phase, Piece, Speaker, Task, Turn,
};
use crate::judge::{Judgement, findings};
use crate::mend::{Mended, mend};
use crate::outcome::{Ended, Outcome, Step, Stopped};
use crate::plan::{How, Rewriting, rewriting};
use crate::prompts::PromptSet;

/// Most iterations one request ever gets: a draft and two reflections. [`Iterations`] holds nothing larger, so no
/// configuration can exceed it.
pub const ITERATION_LIMIT: u8 = 3;

/// How many iterations a request may get: 1 to [`ITERATION_LIMIT`].
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

/// How many reflections in words are worth their time. What checkers can mend or enforce is always worth it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worth {
    /// On an answer without findings.
    pub when_clean: u8,
    /// When something was found that only the model can mend.
    pub when_found: u8,
}

/// What one request's loop may do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How many iterations.
    pub iterations: Iterations,
    /// A clean answer with at least this confidence is returned at once.
    pub early_exit: f64,
    /// How many reflections are worth their time.
    pub worth: Worth,
    /// Whether critiques are tried also with a model with which they were measured to be worth nothing.
    pub insist: bool,
    /// Time of one generation.
    pub iteration_timeout: Duration,
    /// Time of the whole loop.
    pub deadline: Duration,
    /// Whether every token of the returned answer must have been sampled, because the client wants its
    /// log-probability: then nothing is edited or kept, answers are written whole.
    pub sampled: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            iterations: Iterations::at_most(ITERATION_LIMIT),
            early_exit: 0.85,
            worth: Worth {
                when_clean: 2,
                when_found: 2,
            },
            insist: false,
            iteration_timeout: Duration::from_secs(30),
            deadline: Duration::from_secs(90),
            sampled: false,
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
    /// The kind of request, as the router names it.
    pub kind: &'a str,
    /// What every answer to this request must match.
    pub constraint: Option<&'a Constraint>,
    /// What this request may do.
    pub settings: Settings,
}

/// An answer that was judged.
struct Candidate {
    answer: Answer,
    /// The log-probability of each of its tokens under the original request, and whether the token carries the
    /// answer.
    logprobs: Vec<(f64, bool)>,
    judgement: Judgement,
    confidence: f64,
    iteration: u8,
}

/// What a reflection came to.
enum Reflected {
    /// An answer, judged.
    Answer(Box<Candidate>, Step),
    /// None in time.
    Late(Step),
    /// None.
    Failed(Failure, Step),
}

/// One request's loop while it runs.
struct Run<'a, G, S> {
    omni: &'a OmniLoop<'a>,
    request: &'a [Turn],
    language: Language,
    generator: &'a G,
    sink: &'a mut S,
    deadline: Instant,
    /// The request, and every critique so far with the answer it is about: what an engine already evaluated stays
    /// evaluated.
    conversation: Vec<Turn>,
    /// The answer the next critique is about, where it is not the best one.
    criticised: Option<(String, Judgement)>,
    /// Repairs that were carried out, successfully or not.
    tried: Vec<Rewriting>,
    /// Whether the draft was mended by hand as far as it goes; revisions are before they are judged.
    edited: bool,
    critiques: u8,
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
        let mut run = Run {
            omni: self,
            request,
            language: Language::of_request(request),
            generator,
            sink,
            deadline: started + self.settings.deadline,
            conversation: request.to_vec(),
            criticised: None,
            tried: Vec::new(),
            edited: false,
            critiques: 0,
        };
        let (mut best, step) = run.draft().await?;
        let mut stopped = (step.ended == Ended::TimedOut).then(|| run.ran_out());
        let mut fallback = best.answer.source.fallback.clone();
        let mut steps = Vec::with_capacity(usize::from(ITERATION_LIMIT));
        steps.push(step);

        for iteration in 2..=self.settings.iterations.get() {
            stopped = stopped.or_else(|| self.enough(&best));
            if stopped.is_some() {
                break;
            }
            if Instant::now() >= run.deadline {
                stopped = Some(Stopped::Deadline);
                break;
            }
            let Some(reflected) = run.reflect(&best, iteration).await? else {
                stopped = Some(Stopped::NotWorth);
                break;
            };
            match reflected {
                Reflected::Answer(candidate, step) => {
                    fallback = fallback.or_else(|| candidate.answer.source.fallback.clone());
                    let how = step.how;
                    steps.push(step);
                    let copied = run
                        .criticised
                        .as_ref()
                        .map_or(&best.answer.text, |(text, _)| text);
                    if how == How::Critiqued && same(&candidate.answer.text, copied) {
                        // A further critique of the same words would bring the same words. The copy never replaces
                        // what it copies.
                        stopped = Some(Stopped::Unchanged);
                        continue;
                    }
                    if how == How::Critiqued {
                        run.criticised = Some((candidate.answer.text.clone(), candidate.judgement.clone()));
                    }
                    if candidate.judgement.replaces(&best.judgement) {
                        best = *candidate;
                    }
                }
                Reflected::Late(step) => {
                    steps.push(step);
                    stopped = Some(run.ran_out());
                }
                Reflected::Failed(failure, _) if failure.kind == FailureKind::Cancelled => {
                    return Err(failure);
                }
                Reflected::Failed(failure, step) => {
                    let enforced = step.how != How::Critiqued;
                    steps.push(step);
                    // What could not be enforced may still be said in words.
                    if !(enforced && failure.kind == FailureKind::Invalid) {
                        stopped = Some(Stopped::Failed);
                    }
                }
            }
        }
        let stopped = stopped.or_else(|| self.enough(&best)).unwrap_or(Stopped::Limit);
        Ok(Outcome {
            kind: self.kind.to_owned(),
            chosen: best.iteration,
            confidence: best.confidence,
            score: best.judgement.score,
            signals: best.judgement.signals,
            remaining: best.judgement.findings,
            answer: best.answer,
            steps,
            stopped,
            may_reflect: self.settings.iterations > Iterations::DRAFT_ONLY,
            fallback,
            total_ms: milliseconds(started.elapsed()),
        })
    }

    /// Whether an answer needs no reflection, and why.
    fn enough(&self, best: &Candidate) -> Option<Stopped> {
        if !best.judgement.is_clean() {
            None
        } else if best.confidence >= self.settings.early_exit {
            Some(Stopped::Confident)
        } else if self.settings.worth.when_clean == 0 {
            Some(Stopped::NotWorth)
        } else {
            None
        }
    }
}

impl<G: Generate, S: Sink> Run<'_, G, S> {
    async fn draft(&mut self) -> Result<(Candidate, Step), Failure> {
        let task = Task {
            phase: Phase::Draft,
            iteration: 1,
            conversation: self.request,
            prefix: "",
            constraint: self.omni.constraint,
            guess: "",
        };
        let until = self.until();
        let drafted = attempt(How::Draft, None, task, self.generator, self.sink, until).await;
        let (answer, mut step) = drafted.into_first()?;
        let logprobs = logprobs_of(&answer.pieces);
        let found = findings(self.omni.checkers, &self.subject(&answer));
        let candidate = self.judge(answer, found, logprobs, 1, &mut step);
        Ok((candidate, step))
    }

    /// The next reflection on `best`, or none if none is worth it. What checkers can mend themselves comes first,
    /// then what can be enforced while the model writes, then words.
    async fn reflect(&mut self, best: &Candidate, iteration: u8) -> Result<Option<Reflected>, Failure> {
        let sampled = self.omni.settings.sampled;
        if !sampled && !std::mem::replace(&mut self.edited, true) {
            let edited = self.edit(best, iteration).await?;
            if edited.is_some() {
                return Ok(edited);
            }
        }
        // An answer whose shape the client prescribed is not written under another.
        if self.omni.constraint.is_none()
            && let Some(next) = rewriting(&best.answer.text, &best.judgement.findings, &self.tried)
            && !(sampled && next.how() == How::Resumed)
        {
            self.tried.push(next.clone());
            return Ok(Some(self.rewrite(best, next, iteration).await));
        }
        let worth = if best.judgement.is_clean() {
            self.omni.settings.worth.when_clean
        } else {
            self.omni.settings.worth.when_found
        };
        let digest = &best.answer.source.digest;
        let helps = self.omni.settings.insist || self.omni.confidence.critiques_help(digest);
        if self.critiques >= worth || !helps {
            return Ok(None);
        }
        self.critiques += 1;
        Ok(Some(self.criticise(best, iteration).await))
    }

    /// Mends what checkers can mend themselves.
    async fn edit(&mut self, best: &Candidate, iteration: u8) -> Result<Option<Reflected>, Failure> {
        let started = Instant::now();
        let subject = self.subject(&best.answer);
        let Some(Mended {
            text,
            findings,
            finish,
        }) = mend(self.omni.checkers, &subject, &best.judgement.findings)
        else {
            return Ok(None);
        };
        let words = self.words(best);
        self.sink.event(Event::Critique(&words)).await?;
        let mut step = Step::begun(Phase::Revision, How::Edited, Some(words));
        step.model = Some(best.answer.source.model.clone());
        let answer = Answer {
            pieces: vec![Piece::given(&text)],
            text,
            finish,
            ..best.answer.clone()
        };
        // What the model thinks of its words is not asked anew: it would like its own errors better.
        let logprobs = best.logprobs.clone();
        step.total_ms = milliseconds(started.elapsed());
        let candidate = self.judge(answer, findings, logprobs, iteration, &mut step);
        Ok(Some(Reflected::Answer(Box::new(candidate), step)))
    }

    /// Lets the model write again, to the same request, what a repair enforces.
    async fn rewrite(&mut self, best: &Candidate, repair: Rewriting, iteration: u8) -> Reflected {
        let kept = &best.answer.text[..repair.keep];
        let prefix = format!("{kept}{}", repair.insert);
        let task = Task {
            phase: Phase::Revision,
            iteration,
            conversation: self.request,
            prefix: &prefix,
            constraint: repair.constraint.as_ref(),
            guess: &best.answer.text[repair.keep..],
        };
        let words = self.words(best);
        let until = self.until();
        let written = attempt(repair.how(), Some(words), task, self.generator, self.sink, until).await;
        let (mut answer, mut step) = match written {
            Attempt::Complete(answer, step) => (answer, step),
            Attempt::TimedOut(_, step) => return Reflected::Late(step),
            Attempt::Failed(failure, step) => return Reflected::Failed(failure, step),
        };
        let mut logprobs = kept_logprobs(best, repair.keep);
        logprobs.extend(logprobs_of(&answer.pieces));
        if !prefix.is_empty() {
            answer.pieces.insert(0, Piece::given(&prefix));
        }
        let found = self.polish(&mut answer);
        let candidate = self.judge(answer, found, logprobs, iteration, &mut step);
        Reflected::Answer(Box::new(candidate), step)
    }

    /// Mends a revision by hand before it is judged; gives what is still wrong with it.
    fn polish(&self, answer: &mut Answer) -> Vec<Finding> {
        let subject = self.subject(answer);
        let found = findings(self.omni.checkers, &subject);
        if self.omni.settings.sampled {
            return found;
        }
        let Some(mended) = mend(self.omni.checkers, &subject, &found) else {
            return found;
        };
        answer.pieces = vec![Piece::given(&mended.text)];
        answer.text = mended.text;
        answer.finish = mended.finish;
        mended.findings
    }

    /// Asks the model, in words, to do better, and judges what it says as an answer to the original request.
    async fn criticise(&mut self, best: &Candidate, iteration: u8) -> Reflected {
        let (text, found) = match &self.criticised {
            Some((text, judgement)) => (text, &judgement.findings),
            None => (&best.answer.text, &best.judgement.findings),
        };
        // An empty turn would be refused by some chat templates.
        let said = if text.trim().is_empty() { "…" } else { text };
        let words = critique(self.omni.prompts.words(self.language), found);
        self.conversation.push(Turn::new(Speaker::Assistant, said));
        self.conversation.push(Turn::new(Speaker::User, words.clone()));
        let task = Task {
            phase: Phase::Revision,
            iteration,
            conversation: &self.conversation,
            prefix: "",
            constraint: self.omni.constraint,
            guess: text,
        };
        let until = self.until();
        let written = attempt(
            How::Critiqued,
            Some(words),
            task,
            self.generator,
            self.sink,
            until,
        )
        .await;
        let (mut answer, mut step) = match written {
            Attempt::Complete(answer, step) => (answer, step),
            Attempt::TimedOut(_, step) => return Reflected::Late(step),
            Attempt::Failed(failure, step) => return Reflected::Failed(failure, step),
        };
        // Its tokens were predicted with the draft in sight, and a model finds words it has just seen more likely.
        let logprobs = match self.score(&answer.text, until).await {
            Ok(scored) => scored,
            Err(failure) if failure.kind == FailureKind::Timeout => return Reflected::Late(step),
            Err(failure) => {
                step.ended = Ended::Failed;
                return Reflected::Failed(failure, step);
            }
        };
        let found = self.polish(&mut answer);
        let candidate = self.judge(answer, found, logprobs, iteration, &mut step);
        Reflected::Answer(Box::new(candidate), step)
    }

    /// What the model thinks of a text as the answer to the original request.
    async fn score(&self, text: &str, until: Instant) -> Result<Vec<(f64, bool)>, Failure> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let scored = timeout_at(until, self.generator.score(self.request, text)).await;
        let scored = scored.map_err(|_elapsed| Failure {
            kind: FailureKind::Timeout,
            message: "The revision could not be judged in time.".to_owned(),
        })??;
        Ok(scored
            .iter()
            .map(|token| (f64::from(token.logprob), carries(&token.bytes)))
            .collect())
    }

    fn judge(
        &self,
        answer: Answer,
        found: Vec<Finding>,
        logprobs: Vec<(f64, bool)>,
        iteration: u8,
        step: &mut Step,
    ) -> Candidate {
        let signals = Signals::of_logprobs(logprobs.iter().copied());
        let judgement = Judgement::new(found, signals);
        let confidence = probability(self.omni.confidence.confidence(&Evidence {
            signals: &judgement.signals,
            findings: &judgement.findings,
            kind: self.omni.kind,
            language: self.language,
            revised: iteration > 1,
            digest: &answer.source.digest,
        }));
        step.text.clone_from(&answer.text);
        step.score = Some(judgement.score);
        step.confidence = Some(confidence);
        step.findings.clone_from(&judgement.findings);
        Candidate {
            answer,
            logprobs,
            judgement,
            confidence,
            iteration,
        }
    }

    fn subject<'t>(&'t self, answer: &'t Answer) -> Subject<'t> {
        Subject {
            request: self.request,
            text: &answer.text,
            finish: answer.finish,
            language: self.language,
        }
    }

    /// What is wrong with an answer, in words.
    fn words(&self, best: &Candidate) -> String {
        critique(self.omni.prompts.words(self.language), &best.judgement.findings)
    }

    /// When a generation that begins now must end.
    fn until(&self) -> Instant {
        self.deadline
            .min(Instant::now() + self.omni.settings.iteration_timeout)
    }

    /// Which of the two limits a cut iteration met.
    fn ran_out(&self) -> Stopped {
        if Instant::now() >= self.deadline {
            Stopped::Deadline
        } else {
            Stopped::IterationTimeout
        }
    }
}

fn logprobs_of(pieces: &[Piece]) -> Vec<(f64, bool)> {
    pieces
        .iter()
        .map(|piece| (f64::from(piece.logprob), carries(&piece.bytes)))
        .collect()
}

/// The log-probabilities of the tokens that lie within the first `keep` bytes. Those of an edited answer no longer
/// say where they belong: then all count.
fn kept_logprobs(best: &Candidate, keep: usize) -> Vec<(f64, bool)> {
    let mut end = 0;
    let within = best
        .answer
        .pieces
        .iter()
        .take_while(|piece| {
            end += piece.text.len();
            end <= keep
        })
        .count();
    let placed = best.answer.pieces.len() == best.logprobs.len();
    best.logprobs[..if placed { within } else { best.logprobs.len() }].to_vec()
}

/// Whether two answers say the same but for white space.
fn same(a: &str, b: &str) -> bool {
    a.split_whitespace().eq(b.split_whitespace())
}

#[cfg(test)]
#[path = "omni_loop_tests.rs"]
mod tests;
