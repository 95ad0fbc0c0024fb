//! What the appliance learns: adapters, and the nights that make them.

use clap::Subcommand;

/// What to do with the adapters.
#[derive(Debug, Subcommand)]
pub enum AdaptersCommand {
    /// Every adapter: which is in use, which comes back on a rollback, which were rejected and by which figures
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Put one to use; answers that are being written end as they began
    Use {
        /// Its name; see: sarai adapters list
        adapter: String,
    },
    /// Go back to what was in use before
    Rollback {
        /// In which engine: `primary` or `fallback`
        #[arg(default_value = "primary")]
        engine: String,
    },
    /// Use none: the model as it was shipped
    None {
        /// In which engine: `primary` or `fallback`
        #[arg(default_value = "primary")]
        engine: String,
    },
    /// Write an adapter with its attestation to standard output, as a tar archive
    Export {
        /// Its name
        adapter: String,
    },
    /// Make an adapter part of its base: a model of its own in the base's quantisation, signed by this machine, to be
    /// taken away
    Merge {
        /// Its name [default: the one in use over the primary's model]
        adapter: Option<String>,
        /// Id of the merged model [default: the base's and the adapter's]
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        /// Wait for its end, and say how it ended (exit code 1 when it failed)
        #[arg(long)]
        wait: bool,
        /// What runs, or with --wait how it ended, and what is kept, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Merged models that are kept, the merge that runs, and how the last one ended
    #[command(args_conflicts_with_subcommands = true)]
    Merged {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// What to do with one.
        #[command(subcommand)]
        command: Option<MergedCommand>,
    },
}

/// What to do with a merged model.
#[derive(Debug, Subcommand)]
pub enum MergedCommand {
    /// Write it with its attestation and this machine's certificate to standard output, as a tar archive
    Export {
        /// Its id; see: sarai adapters merged
        merged: String,
    },
    /// Remove it for good
    Remove {
        /// Its id
        merged: String,
    },
}

/// What to do about the nights.
#[derive(Debug, Subcommand)]
pub enum TrainingCommand {
    /// What runs, when the next one begins, how the last ones ended and by which figures
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Begin a night now, whatever the hour
    Run {
        /// Wait for its end, and say how it ended (exit code 1 when it failed)
        #[arg(long)]
        wait: bool,
    },
    /// Nights begin by themselves, at `night.hour`
    On,
    /// No night begins by itself; one that runs is ended, and goes on when there is another
    Off,
}
