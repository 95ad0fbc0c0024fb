//! How a command ends when it does not succeed: a sentence for the person, an exit code for the script.

/// Which of the three ways a command failed; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was asked for and could not be done: 1.
    Failed,
    /// The command line is wrong: 2 (as clap's own errors).
    Usage,
    /// The appliance is not there or not ready: 3. Worth trying again later.
    NotReady,
}

impl Kind {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotReady => 3,
        }
    }
}

/// A failure with its text, which is a whole sentence without the full stop.
#[derive(Debug)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// What happened and what to do.
    pub message: String,
}

impl Failure {
    /// It could not be done; `what` fits after "failed to".
    pub fn failed(what: impl std::fmt::Display) -> Self {
        Self {
            kind: Kind::Failed,
            message: format!("failed to {what}"),
        }
    }

    /// The other side said no, in its own words.
    pub fn refused(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Failed,
            message: message.into(),
        }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Usage,
            message: message.into(),
        }
    }

    /// The appliance is not there or not ready.
    pub fn not_ready(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::NotReady,
            message: message.into(),
        }
    }
}
