//! The engine: a model it was handed, sockets it was born with, threads, and memory that is never executable.

use crate::{Call, calls};

/// Once the CPU module is loaded and before a byte of the model is read.
pub(crate) const SERVE: &[&[Call]] = &[calls! {
    SYS_pread64: "parts of the model",
    SYS_fadvise64: "the model is read from beginning to end",
}];
