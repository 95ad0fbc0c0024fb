//! Feedback: what people say of answers, kept so that the nights can learn from it.
//!
//! ```text
//! recent-00000001.jsonl     {"completion":{…}}   an answer that may still be judged
//! feedback-00000001.jsonl   {"feedback":{…}}     a judgment, with the request and the answer it is about
//!                           {"forget":{…}}       from here on everything before that matches is gone
//!                           {"forgotten":{…}}    and no longer in the files either
//!                           {"repaired":{…}}, {"pruned":{…}}
//! ```
//!
//! | module | duty |
//! | --- | --- |
//! | [`record`] | what a line says, and its bounds |
//! | [`lines`], [`journal`] | lines of hostile files; numbered files that are appended to, rotated, repaired, rewritten |
//! | [`recent`], [`log`] | the answers that may be judged; the judgments |
//! | [`forget`] | what is to be forgotten, and what that covers |
//! | [`store`], [`keeper`] | both together; a thread of their own |
//! | [`read`] | the judgments that count, out of files that somebody else may still write to |
//! | [`select`], [`scrub`] | which of them a night learns from; what of them no model may see |
//!
//! It may read and write files of the folder it is given. It knows no network and no engine. The texts are people's own:
//! they are never in an error and never in a log.

pub mod forget;
pub mod journal;
pub mod keeper;
pub mod lines;
pub mod log;
pub mod read;
pub mod recent;
pub mod record;
pub mod scrub;
pub mod select;
pub mod store;

pub use forget::What;
pub use keeper::{Keeper, Refused};
pub use read::{Counts, Reader};
pub use record::{Completion, Entry, Feedback, Invalid, Judgment, Message, Role, Verdict};
pub use select::{Choice, Example, Rules, Selected, Skip, Split, select};
pub use store::{Given, JudgeError, Of, Settings, Store, StoreError};

use sarai_audit::folder::Series;

/// The files of the judgments.
pub const FEEDBACK: Series = Series("feedback");
/// The files of the answers that may be judged.
pub const RECENT: Series = Series("recent");
