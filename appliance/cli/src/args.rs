//! The command line.

mod learning;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use learning::{AdaptersCommand, MergedCommand, TrainingCommand};

/// The SARAi appliance: what it does, who may use it, and a question to it.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not running or not ready.
#[derive(Debug, Parser)]
#[command(
    name = "sarai",
    version,
    propagate_version = false,
    disable_help_subcommand = false
)]
pub struct Args {
    /// Control socket of the supervisor [default: /run/sarai/control.sock, or the newest native run in .sarai/run
    /// of this folder or one above]
    #[arg(long, global = true, value_name = "PATH", env = "SARAI_SOCKET")]
    pub socket: Option<PathBuf>,

    /// What to do; without one, a prompt on a terminal.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the admin asks for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Health, services, models, addresses; problems first (exit code 3 while not ready)
    Status {
        /// The whole state as JSON
        #[arg(long)]
        json: bool,
    },
    /// The profile's models: how each was verified, by whom it was signed, or why it is refused
    #[command(args_conflicts_with_subcommands = true)]
    Models {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// What to do with one.
        #[command(subcommand)]
        command: Option<ModelsCommand>,
    },
    /// Client keys
    Keys {
        /// What to do with them.
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Everything a new client needs, with a key made for it: address, certificate, key, also as a QR code
    Pair {
        /// Name of the key [default: client-1, client-2, …]
        name: Option<String>,
        /// As JSON, the certificate itself included
        #[arg(long)]
        json: bool,
    },
    /// Keys that may come in by SSH as `admin`
    SshKeys {
        /// What to do with them.
        #[command(subcommand)]
        command: SshKeysCommand,
    },
    /// Log lines of the supervisor and its services
    Logs {
        /// Only this service's (`supervisor`, `engine-primary`, `engine-fallback`, `gateway`)
        service: Option<String>,
        /// How many of the newest
        #[arg(short = 'n', long, value_name = "N", default_value_t = 50,
              value_parser = clap::value_parser!(u32).range(1..=10_000))]
        lines: u32,
        /// Go on with new lines until Ctrl-C
        #[arg(short, long)]
        follow: bool,
    },
    /// The audit log: what every Omni-Loop did
    Audit {
        /// What to do with it.
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// What clients say of answers: what the nights learn from
    Feedback {
        /// What to do with it.
        #[command(subcommand)]
        command: FeedbackCommand,
    },
    /// What the appliance has learnt: LoRA adapters over its models
    Adapters {
        /// What to do with them.
        #[command(subcommand)]
        command: AdaptersCommand,
    },
    /// The nights that teach: begun by the clock or by hand, and how they went
    Training {
        /// What to do about them.
        #[command(subcommand)]
        command: TrainingCommand,
    },
    /// What the way from power-on to an answer took, stage by stage (exit code 1 when the gateway took longer than
    /// promised)
    BootTime {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop a service and start it again; also leaves the crash-loop state
    Restart {
        /// `engine-primary`, `engine-fallback`, `gateway`
        service: String,
    },
    /// Ordered shutdown, then power off
    Poweroff,
    /// Ordered shutdown, then start again
    Reboot,
    /// The certificate clients trust, in PEM form
    Ca,
    /// Versions of this command and of the appliance
    Version,
    /// Wait until the appliance serves, saying what it waits for
    Wait {
        /// Give up after so many seconds
        #[arg(long, value_name = "S", default_value_t = 300,
              value_parser = clap::value_parser!(u64).range(0..=86_400))]
        timeout: u64,
    },
    /// Ask a question over HTTPS, as any client on the network would
    Ask(AskOptions),
    /// The prompt, also where standard input is no terminal
    #[command(hide = true)]
    Console(ConsoleOptions),
}

/// How a prompt is kept.
#[derive(Debug, Default, clap::Args)]
pub struct ConsoleOptions {
    /// Only for who types a code that is shown on its terminal
    #[arg(long)]
    pub locked: bool,
    /// Ends after so many seconds in which nothing was typed; 0: never
    #[arg(long, value_name = "S", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=u64::from(*sarai_wire::bounds::IDLE_MINUTES.end()) * 60))]
    pub idle: u64,
}

/// What to do with a model.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Lift the quarantine of a model, which is not loaded because its engine tried what it may not, or because its
    /// file could not be read
    Release {
        /// At least 8 of the first digits of its SHA-256; see: sarai models
        digest: String,
    },
}

/// What to do with the client keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key; its secret is shown once
    Add {
        /// 1 to 64 characters of A-Z a-z 0-9 . _ -
        name: String,
        /// As JSON: name and secret
        #[arg(long)]
        json: bool,
    },
    /// Names of the keys
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a key; requests with it fail from now on
    Remove {
        /// Its name
        name: String,
    },
}

/// What to do with the keys that may come in by SSH.
#[derive(Debug, Subcommand)]
pub enum SshKeysCommand {
    /// Let a public key come in
    Add {
        /// The line of its file, as in id_ed25519.pub; quotes are not needed
        #[arg(required = true, num_args = 1.., trailing_var_arg = true)]
        key: Vec<String>,
    },
    /// Fingerprints, comments, and where each is from
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a key that was added; sessions that are open stay open
    Remove {
        /// Its fingerprint, SHA256:…
        fingerprint: String,
    },
}

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Prove the chain and its signatures, or name the first record that breaks it (exit code 1)
    Verify {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The newest records
    Show {
        /// How many of the newest
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20,
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        lines: u32,
        /// As JSON, one record a line
        #[arg(long)]
        json: bool,
    },
}

/// What to do with feedback.
#[derive(Debug, Subcommand)]
pub enum FeedbackCommand {
    /// The newest that counts: of each answer the last, without what was forgotten
    List {
        /// How many of the newest
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20,
              value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        lines: u32,
        /// As JSON, one record a line, with request and answer
        #[arg(long)]
        json: bool,
    },
    /// All that counts as JSON, one record a line, with request and answer
    Export {
        /// The file, which must not be there yet [default: standard output]
        file: Option<PathBuf>,
    },
    /// Forget for good: out of the files, and out of whatever the nights learn from now on
    Forget(ForgetOptions),
    /// Say what an answer was worth, as the client that was given it
    Send(SendOptions),
}

/// What to forget.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct ForgetOptions {
    /// One answer and what was said of it, by its id (chatcmpl-…)
    #[arg(value_name = "ID")]
    pub completion: Option<String>,
    /// Everything that came with a key, by its name
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    /// Everything
    #[arg(long)]
    pub everything: bool,
}

/// What an answer was worth.
#[derive(Debug, clap::Args)]
pub struct SendOptions {
    /// Its id (chatcmpl-…), which `sarai ask` shows
    #[arg(value_name = "ID")]
    pub completion: String,
    /// How good it was: 0 to 1
    #[arg(value_name = "SCORE", value_parser = score)]
    pub score: f64,
    /// What should have been answered
    #[arg(long, value_name = "TEXT")]
    pub correction: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// Where, and as whom.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// Where to ask, whom to trust, as whom.
#[derive(Debug, clap::Args)]
pub struct ServerOptions {
    /// The appliance [default: as the control socket says]
    #[arg(long, env = "SARAI_URL")]
    pub url: Option<String>,
    /// File with the certificate to trust, and no other [default: as the control socket says]
    #[arg(long, env = "SARAI_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The client key's secret (better in the environment: a command line is seen by others)
    #[arg(long, env = "SARAI_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Give up after so many seconds
    #[arg(long, value_name = "S", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
}

/// Where and what to ask.
#[derive(Debug, clap::Args)]
pub struct AskOptions {
    /// The question; `-` reads it from standard input
    #[arg(value_name = "TEXT", required = true)]
    pub text: Vec<String>,
    /// Where, and as whom.
    #[command(flatten)]
    pub server: ServerOptions,
    /// How much to reflect: minimal or none (draft only), low, medium, high
    #[arg(long, value_name = "LEVEL")]
    pub effort: Option<String>,
    /// A system message before the question
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// At most so many tokens in the answer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_tokens: Option<u32>,
    /// How freely the answer is drawn: 0 takes the likeliest words, at most 2 [default: the appliance's]
    #[arg(long, value_name = "T", value_parser = temperature)]
    pub temperature: Option<f32>,
    /// Show the answer while it is made [default]
    #[arg(long, overrides_with = "no_stream")]
    pub stream: bool,
    /// Show the answer once it is complete
    #[arg(long)]
    pub no_stream: bool,
    /// Print the whole response as JSON (not streamed)
    #[arg(long, conflicts_with = "stream")]
    pub json: bool,
    /// Show drafts and critiques on standard error even if it is no terminal
    #[arg(long)]
    pub reasoning: bool,
}

/// A score.
fn score(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    // A range also refuses what is no number (NaN).
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err("not between 0 and 1".to_owned())
    }
}

/// A sampling temperature.
fn temperature(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| "not a number".to_owned())?;
    // A range also refuses what is no number (NaN).
    if (0.0..=2.0).contains(&value) {
        Ok(value)
    } else {
        Err("not between 0 and 2".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_number_of_log_lines_is_bounded() {
        assert!(Args::try_parse_from(["sarai", "logs", "-n", "10000"]).is_ok());
        assert!(Args::try_parse_from(["sarai", "logs", "-n", "0"]).is_err());
        assert!(Args::try_parse_from(["sarai", "logs", "-n", "10001"]).is_err());
    }

    #[test]
    fn the_score_is_bounded_and_one_thing_is_forgotten_at_a_time() {
        assert_eq!((score("0"), score("1.0")), (Ok(0.0), Ok(1.0)));
        for wrong in ["-0.1", "1.1", "NaN", "inf", "good", ""] {
            assert!(score(wrong).is_err(), "{wrong:?}");
        }
        for good in [&["c-1"][..], &["--key", "a"], &["--everything"]] {
            assert!(Args::try_parse_from([&["sarai", "feedback", "forget"], good].concat()).is_ok());
        }
        for wrong in [&[][..], &["c-1", "--key", "a"], &["--everything", "c-1"]] {
            assert!(Args::try_parse_from([&["sarai", "feedback", "forget"], wrong].concat()).is_err());
        }
    }

    #[test]
    fn the_temperature_is_bounded() {
        assert_eq!((temperature("0"), temperature("2")), (Ok(0.0), Ok(2.0)));
        for wrong in ["-0.1", "2.1", "NaN", "inf", "warm", ""] {
            assert!(temperature(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_question_needs_a_text_and_the_last_of_stream_and_no_stream_wins() {
        assert!(Args::try_parse_from(["sarai", "ask"]).is_err());
        let Ok(Args {
            command: Some(Command::Ask(ask)),
            ..
        }) = Args::try_parse_from(["sarai", "ask", "--no-stream", "what", "is", "this"])
        else {
            panic!("not parsed");
        };
        assert_eq!(ask.text, ["what", "is", "this"]);
        assert!(ask.no_stream);
    }
}
