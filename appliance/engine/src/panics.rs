//! Panics are a line of the log and nothing more: a backtrace opens the program and a file of `/proc` to name what it
//! passed, and an engine that opens a file is ended.

use std::panic;

/// Name of the thread that compiles what a client asks for. What goes wrong there is the client's answer and no news;
/// its text may hold what the client wrote.
pub const COMPILING: &str = "grammar";

/// Has every panic from now on reported without a backtrace.
pub fn report_plainly() {
    // The constraint library puts up a hook of its own at its first use, which takes a backtrace whatever the
    // environment says. It does so once: now, so that the one below is the last.
    let _ = llguidance::panic_utils::catch_unwind(|| Ok(()));
    panic::set_hook(Box::new(|info| {
        if std::thread::current().name() != Some(COMPILING) {
            crate::log::line("ERROR", &info.to_string());
        }
    }));
}
