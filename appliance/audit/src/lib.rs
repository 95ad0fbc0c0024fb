//! The audit log: what every Omni-Loop did, in files of JSON lines, each line holding the hash of the line before it.
//!
//! ```text
//! audit-00000001.jsonl   {"prev":"000…","kind":"start",…}
//!                        {"prev":SHA-256 of the line above,"kind":"loop",…}
//! audit-00000002.jsonl   {"prev":SHA-256 of the last line of the file before,…}
//! ```
//!
//! | module | duty |
//! | --- | --- |
//! | [`record`] | what a line says |
//! | [`folder`] | the files' names |
//! | [`log`] | appends, rotates, prunes, repairs what a power cut tore |
//! | [`writer`] | a thread of its own that does so, never slower for a request than the hand-over |
//! | [`verify`] | proves a chain, or names the first record that breaks it |
//!
//! It may read and write files of the folder it is given. It knows no network, no engine and no key: what is signed
//! is the head of the chain, by whoever holds a key. The reading side takes every byte for hostile.

pub mod folder;
pub mod log;
pub mod record;
pub mod verify;
pub mod writer;

pub use log::{Head, Limits, Log, LogError};
pub use record::{Content, Event, Finding, Hash, Loop, Message, Prompts, Record, Step};
pub use verify::{Broken, Proof, Signed, Source, verify};
pub use writer::{Report, Stats, Writer};

/// Longest line, bytes, without its end.
pub const MAX_LINE: usize = 4 * 1024 * 1024;
