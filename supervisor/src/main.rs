//! `sarai-supervisor`: see the library for what it is and what it never does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// PID 1 of the SARAi appliance. Without PID 1 it needs a folder to run in.
#[derive(Parser)]
#[command(name = "sarai-supervisor", version)]
struct Arguments {
    /// Run as an ordinary process with everything below this folder.
    #[arg(long, value_name = "DIR", required_unless_present = "check_setup")]
    native: Option<PathBuf>,
    /// Only say what is wrong with this sarai.toml, line by line; ends with 1 if anything is.
    #[arg(long, value_name = "FILE", conflicts_with = "native")]
    check_setup: Option<PathBuf>,
    /// Where the gateway listens; otherwise sarai.toml decides (default 0.0.0.0:8443).
    #[arg(long, value_name = "ADDR:PORT", requires = "native")]
    listen: Option<SocketAddr>,
    /// Keep the memory budget by groups of its own below this folder of a cgroup v2 file system.
    #[arg(long, value_name = "CGROUP", requires = "native")]
    cgroup: Option<PathBuf>,
}

/// One heap for every thread. glibc makes one for each thread that finds the others busy, and none of them is given
/// back: PID 1 grew by as much as a verification needs, once for each thread that had made one.
fn keep_one_heap() {
    // SAFETY: sets a number of the allocator, before there is a second thread.
    let set = unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
    // It fails for parameters that the C library does not know; then there are as many heaps as before.
    debug_assert_eq!(set, 1);
}

fn main() -> ExitCode {
    keep_one_heap();
    // The kernel hands words of its command line to PID 1: they are not for us, and must not end us.
    if std::process::id() == 1 && sarai_supervisor::boot::early::linked() {
        sarai_supervisor::run::pid1();
    }
    let arguments = Arguments::parse();
    if let Some(file) = arguments.check_setup {
        return sarai_supervisor::run::check_setup(&file);
    }
    let Some(dir) = arguments.native else {
        eprintln!("sarai-supervisor: --native DIR is needed");
        return ExitCode::from(2);
    };
    match sarai_supervisor::run::native(&dir, arguments.listen, arguments.cgroup.as_deref()) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("sarai-supervisor: {e:#}");
            ExitCode::FAILURE
        }
    }
}
