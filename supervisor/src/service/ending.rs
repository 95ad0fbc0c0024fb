//! What the end of a child says about what it worked on.

use nix::libc;

use super::program::End;
use super::running::Running;
use crate::app::App;
use crate::reaper::Exit;

/// What its end says. No filter but a sandbox's own raises SIGSYS, and a fault that a file raises is not to be had
/// by a signal from outside: the first process of a namespace ignores those.
pub(super) async fn of(app: &App, name: &str, running: &mut Running, exit: Option<Exit>) -> End {
    match exit {
        Some(Exit::Signal(libc::SIGSYS)) => {
            let call = match running.witness.take() {
                Some(witness) => witness.name_of(running.child.pid.as_raw()).await,
                None => None,
            };
            let call = call
                .unwrap_or_else(|| "not named, the kernel's records cannot be read or do not say".to_owned());
            app.problems.set(
                &format!("denied {name}"),
                format!(
                    "{name} tried what it may not and was ended: system call {call}; see: sarai logs {name}"
                ),
            );
            End::Denied(call)
        }
        Some(Exit::Signal(libc::SIGBUS)) => End::Unreadable,
        // While it was loaded: read, and not mapped yet.
        _ if running.unreadable => End::Unreadable,
        _ => End::Other,
    }
}
