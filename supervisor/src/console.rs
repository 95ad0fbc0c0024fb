//! The serial line and the screen: progress while the machine boots, then what it is called and where it is, then
//! the admin's prompt.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc;
use sarai_wire::control::{ServiceState, Status};
use tokio::sync::Mutex;

use crate::app::App;
use crate::layout::{Layout, Mode};
use crate::service::plain;
use crate::spawn::{self, Output, Spec};
use crate::{network, status, tasks};

/// The admin's command; without arguments it is a prompt.
const PROMPT: &str = "/usr/bin/sarai";
/// What has a shell, in an image that was built with one.
const BUSYBOX: &str = "/bin/busybox";
/// Longest time the console shows progress before it turns into a prompt.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time it waits for an address after that.
const ADDRESS: Duration = Duration::from_secs(10);
/// What an admin has to know of such an image.
const DEBUG_SHELL: &str = "this image was built with --debug-shell: whoever is at a terminal of this machine is root; \
                           for use, flash one without it";

/// Shows the outcome of boot, then keeps a prompt on every terminal.
pub async fn run(app: App) {
    let begun = Instant::now();
    while !settled(&app) && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // A machine may serve before it has been given an address; the admin wants to read it here.
    let settled = Instant::now();
    while network::urls(&app).is_empty() && settled.elapsed() < ADDRESS {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // The lines above are still on their way to the console.
    let flush = app.logs.clone();
    let _ = tokio::task::spawn_blocking(move || flush.flush(Duration::from_secs(2))).await;
    app.logs.quiet();
    let debug = debug_shell(&app.layout);
    if debug {
        app.problems.set("debug shell", DEBUG_SHELL);
    }
    for name in app.config.terminals.clone() {
        let path = PathBuf::from("/dev").join(&name);
        let Ok(mut terminal) = open(&path) else { continue };
        let text = block(&status::take(&app));
        let shown = tokio::task::spawn_blocking(move || terminal.write_all(text.as_bytes()));
        // A serial line without anyone at the other end may never take the text.
        let _ = tokio::time::timeout(Duration::from_secs(5), shown).await;
        start_prompt(&app, &name, path, debug);
    }
}

/// Whether the image was built with a root shell on its terminals. Only an image can say so: what it holds is what was
/// signed, and nothing on the disk adds to it.
fn debug_shell(layout: &Layout) -> bool {
    layout.mode == Mode::Pid1 && layout.programs.join("debug-shell").is_file()
}

/// Whether there is an outcome: it serves, or what does not is not about to.
fn settled(app: &App) -> bool {
    if status::ready(app) {
        return true;
    }
    let services = app.board.list();
    let final_state = |s: ServiceState| matches!(s, ServiceState::Stopped | ServiceState::CrashLoop);
    let engines: Vec<_> = services
        .iter()
        .filter(|s| s.name.starts_with("engine-"))
        .collect();
    !engines.is_empty() && engines.iter().all(|s| final_state(s.state))
}

/// What stands above the prompt.
fn block(status: &Status) -> String {
    let mut lines = vec![
        String::new(),
        format!("SARAi {} on {}", status.version, status.hostname),
    ];
    if status.urls.is_empty() {
        lines.push("  no network address yet".to_owned());
    }
    lines.extend(status.urls.iter().map(|url| format!("  {url}")));
    lines.extend(status.announced.iter().map(|name| format!("  {name}")));
    if let Some(fingerprint) = &status.ca_fingerprint {
        lines.push(format!("  CA SHA-256 {fingerprint}"));
    }
    if let Some(fingerprint) = &status.ssh_fingerprint {
        lines.push(format!("  SSH {fingerprint}"));
    }
    lines.push(format!("  {}", if status.ready { "ready" } else { "not ready" }));
    lines.extend(status.problems.iter().map(|problem| format!("  ! {problem}")));
    lines.push(String::new());
    lines.join("\r\n") + "\r\n"
}

/// Opens a terminal without becoming its session. A name without hardware behind it is an error.
fn open(path: &PathBuf) -> io::Result<File> {
    let flags = libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)?;
    nix::sys::termios::tcgetattr(&file)?;
    // Opened without waiting for a carrier, used with waiting.
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()))?;
    Ok(file)
}

/// Keeps the prompt on a terminal, or in an image for debugging a root shell, from which `sarai` can be called.
fn start_prompt(app: &App, name: &str, path: PathBuf, debug: bool) {
    let service = format!("console-{name}");
    let user = (!debug).then_some(spawn::ADMIN);
    app.board
        .enter(&service, user.map_or("root", |user| user.name), &app.cores.house);
    let orders = Arc::new(Mutex::new(app.orders.register(&service)));
    let kind = if name.starts_with("ttyS") || name.starts_with("hvc") {
        "vt102"
    } else {
        "linux"
    };
    let (house, tree) = (app.cores.house.clone(), app.tree.clone());
    let make = Arc::new(move || -> io::Result<Spec<'static>> {
        let terminal = open(&path)?;
        let program = if debug {
            Spec {
                args: vec!["sh".into()],
                confined: false,
                ..Spec::new(BUSYBOX)
            }
        } else {
            Spec::new(PROMPT)
        };
        Ok(Spec {
            env: vec![
                ("TERM".into(), kind.into()),
                ("HOME".into(), "/".into()),
                ("PATH".into(), "/usr/bin:/bin:/usr/sbin:/sbin".into()),
                ("LANG".into(), "C.UTF-8".into()),
                // The shell's; the prompt has its own.
                ("PS1".into(), "root@sarai# ".into()),
            ],
            user,
            cpus: house.clone(),
            cgroup: tree.as_ref().map(|tree| tree.procs("house")).transpose()?,
            output: Output::Terminal(terminal),
            ..program
        })
    });
    let (keep_app, keep_name) = (App::clone(app), service.clone());
    tasks::guard(&service, app.problems.clone(), move || {
        plain::keep(
            App::clone(&keep_app),
            keep_name.clone(),
            Arc::clone(&orders),
            Arc::clone(&make) as _,
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_terminal_gets_no_prompt() {
        assert!(open(&PathBuf::from("/dev/null")).is_err());
        assert!(open(&PathBuf::from("/dev/nonexistent")).is_err());
    }

    #[test]
    fn only_an_image_that_says_so_has_a_root_shell() {
        let folder = tempfile::tempdir().unwrap();
        let layout = |mode| Layout {
            mode,
            programs: folder.path().to_path_buf(),
            ..Layout::image()
        };
        assert!(!debug_shell(&layout(Mode::Pid1)));
        std::fs::write(folder.path().join("debug-shell"), "").unwrap();
        assert!(debug_shell(&layout(Mode::Pid1)));
        assert!(
            !debug_shell(&layout(Mode::Native)),
            "a folder of this machine said so"
        );
    }
}
