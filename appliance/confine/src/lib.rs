//! Which system calls each program of the appliance may make, with the reason for each beside it, and the code that
//! has the kernel hold it to them.
//!
//! There are two lists a program. [`Stage::Start`] is put on by the supervisor before `exec`: what the loader and the
//! program's own beginning need. [`Stage::Serve`] is put on by the program itself, on all of its threads, before it
//! reads a byte that somebody else wrote: from then on it opens nothing, starts nothing and makes no memory executable.
//! Filters only ever add up: the second list can take away and never give.
//!
//! Whatever is on neither list ends the process at once, by the kernel: nothing inside can suppress, delay or answer
//! that, and it needs no supervisor that is alive. The kernel's audit record says which call it was; [`name`] turns its
//! number into a word.
//!
//! This crate installs filters on the process it runs in. It opens nothing, starts nothing and speaks to nobody.

mod announce;
mod common;
mod engine;
mod filter;
mod gateway;
mod names;
mod trainer;

pub use filter::{Filters, SealError, seal};
pub use names::name;

/// A program with lists of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `sarai-engine`: parses models with a C++ library.
    Engine,
    /// `sarai-gateway`: speaks with the LAN.
    Gateway,
    /// `sarai-trainer`: reads feedback and models, writes adapters.
    Trainer,
    /// `sarai-announce`: multicast DNS.
    Announcer,
}

/// Which of a program's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// From before `exec`.
    Start,
    /// From before the first byte of somebody else.
    Serve,
}

/// A condition on one argument: of its bits under `mask` exactly those of `value` are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) argument: u8,
    pub(crate) mask: u64,
    pub(crate) value: u64,
}

/// One allowed call. Listed twice, it is allowed under either condition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) number: nix::libc::c_long,
    pub(crate) tests: &'static [Test],
    /// Why it is allowed.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for the reader, and for a test that it is there")
    )]
    pub(crate) why: &'static str,
}

/// `call: "why"`, or `call[argument & mask == value, …]: "why"`.
macro_rules! calls {
    ($($name:ident $([$($argument:literal & $mask:expr => $value:expr),+])? : $why:literal),* $(,)?) => {
        &[$($crate::Call {
            number: nix::libc::$name,
            tests: &[$($($crate::Test { argument: $argument, mask: ($mask) as u64, value: ($value) as u64 }),+)?],
            why: $why,
        }),*]
    };
}
pub(crate) use calls;

/// Every bit of an argument the kernel reads as a C `int`.
pub(crate) const INT: u64 = 0xffff_ffff;

/// The lists that make up what `program` may do at `stage`.
pub(crate) fn lists(program: Program, stage: Stage) -> Vec<&'static [Call]> {
    let serve = match program {
        Program::Engine => engine::SERVE,
        Program::Gateway => gateway::SERVE,
        Program::Trainer => trainer::SERVE,
        Program::Announcer => announce::SERVE,
    };
    let mut all = vec![common::UNSEEN, common::RUN, common::RUN_OWN];
    all.extend(serve);
    if stage == Stage::Start {
        all.extend([common::START, common::START_OWN]);
        if program == Program::Trainer {
            all.push(trainer::START);
        }
    }
    all
}
