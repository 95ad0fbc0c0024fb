//! The Omni-Loop: a draft, then at most two reflections, which may only improve it.
//!
//! ```text
//! draft ─▶ findings + confidence ─▶ clean and sure? ── yes ─▶ answer
//!             ▲                          │ no
//!             └── revision ◀── critique appended in the same conversation
//! ```
//!
//! | module | duty |
//! | --- | --- |
//! | [`generate`] | what the loop asks of a model: the [`Generate`] trait and its messages |
//! | [`checkers`] | find errors in an answer without knowing any model: the [`Checker`] trait |
//! | [`confidence`] | how sure an answer is: the [`Confidence`] trait |
//! | [`judge`] | findings and confidence become one score |
//! | [`critique`] | what asks for a revision, in English or Spanish |
//! | [`prompts`] | the words of that, from a verified file or built in: [`PromptSet`] |
//! | [`router`] | what kind of request this is, and how many reflections it is worth |
//! | [`events`] | what is told while the loop runs |
//! | [`omni_loop`] | the loop itself: [`OmniLoop::run`] |
//! | [`outcome`] | what it ends with, and the `omni_loop` object of a response |
//!
//! This crate is pure logic. It may use tokio's clock, for time limits, and what it is handed. It never does any
//! I/O, never spawns a task, never logs and never knows an engine, HTTP or a file.
//!
//! What always holds, whatever the generator does: the loop runs at most [`ITERATION_LIMIT`] generations, ends
//! by its deadline, and the answer it returns never scored below the draft.

mod attempt;
pub mod checkers;
pub mod confidence;
pub mod critique;
pub mod events;
pub mod generate;
pub mod judge;
pub mod mend;
pub mod omni_loop;
pub mod outcome;
pub mod plan;
pub mod prompts;
pub mod router;

pub use checkers::{Checker, Finding, Place, Repair, Subject};
pub use confidence::{Calibrations, Confidence, MeanProbability, Signals};
pub use critique::Language;
pub use events::{Event, Sink};
pub use generate::{
    Adapter, Alternative, Answer, Begun, Constraint, Failure, FailureKind, Finish, Finished, Generate, Out,
    Phase, Piece, Refused, Scored, Source, Speaker, Task, Turn, Work,
};
pub use judge::Judgement;
pub use omni_loop::{ITERATION_LIMIT, Iterations, OmniLoop, Settings, Worth};
pub use outcome::{Outcome, Report, Step, Stopped};
pub use plan::How;
pub use prompts::{PromptSet, PromptsError, Words};
pub use router::{Kind, Modality, Route, route};
