//! The trainer: descriptors of a base model and a data set to read, one of an adapter to write, threads.

use crate::{Call, calls};

/// Until it takes its descriptors.
pub(crate) const START: &[Call] = calls! {
    SYS_getdents64: "sizes of the processor's caches, where their files can be seen",
};

/// Once it has its descriptors.
pub(crate) const SERVE: &[&[Call]] = &[calls! {
    SYS_pread64: "parts of the model and the data set",
    SYS_pwrite64: "parts of the adapter",
    SYS_fadvise64: "the model is read from beginning to end",
    SYS_ftruncate: "length of the adapter",
    SYS_fsync: "the adapter is whole",
    SYS_fdatasync: "the same",
}];
