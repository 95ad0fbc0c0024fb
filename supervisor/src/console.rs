//! The serial line and the screen: progress while the machine boots, then what it is called and where it is, then
//! the admin's prompt, which is locked unless the settings say otherwise.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc;
use sarai_wire::control::{ModelStatus, ServiceState, ServiceStatus, Status};
use tokio::sync::Mutex;

use crate::app::App;
use crate::config::{Console, Login};
use crate::layout::{Layout, Mode};
use crate::problems::lock;
use crate::service::{GATEWAY, plain};
use crate::spawn::{self, Output, Spec};
use crate::{network, status, tasks};

/// The admin's command; without arguments it is a prompt.
const PROMPT: &str = "/usr/bin/sarai";
/// What the names of the engines' services begin with; the model's role follows.
const ENGINES: &str = "engine-";
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
    for name in app.config.console.terminals.clone() {
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
    status::ready(app) || is_final(&app.board.list(), &lock(&app.models))
}

/// Whether nothing is about to change by itself: the gateway has come up, or will not; each engine is stopped, keeps
/// ending, or waits for a model that was looked for and may not be loaded.
fn is_final(services: &[ServiceStatus], models: &[ModelStatus]) -> bool {
    let over = |state| matches!(state, ServiceState::Stopped | ServiceState::CrashLoop);
    let waits_in_vain = |service: &ServiceStatus| {
        service.state == ServiceState::Waiting
            && models.iter().any(|model| {
                service.name.strip_prefix(ENGINES) == Some(model.role.as_str()) && model.refused.is_some()
            })
    };
    let mut engines = services.iter().filter(|s| s.name.starts_with(ENGINES)).peekable();
    let gateway = services.iter().find(|s| s.name == GATEWAY);
    gateway.is_none_or(|s| s.state == ServiceState::Ready || over(s.state))
        && engines.peek().is_some()
        && engines.all(|s| over(s.state) || waits_in_vain(s))
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

/// What the prompt is told. A code is drawn, shown and asked for by the prompt itself, each time it starts: nobody else
/// knows it, and one that was left, or ends because nothing was typed, is started anew.
fn words(console: &Console) -> Vec<OsString> {
    match console.login {
        Login::Open => Vec::new(),
        Login::Code => {
            let idle = u64::from(console.idle_minutes) * 60;
            let words = ["console", "--locked", "--idle", &idle.to_string()];
            words.map(OsString::from).to_vec()
        }
    }
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
    let words = words(&app.config.console);
    let make = Arc::new(move || -> io::Result<Spec<'static>> {
        let terminal = open(&path)?;
        let program = if debug {
            Spec {
                args: vec!["sh".into()],
                confined: false,
                ..Spec::new(BUSYBOX)
            }
        } else {
            Spec {
                args: words.clone(),
                ..Spec::new(PROMPT)
            }
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
    fn a_prompt_is_locked_unless_the_settings_open_it() {
        let mut console = Console::default();
        assert_eq!(words(&console), ["console", "--locked", "--idle", "900"]);
        console.idle_minutes = 0;
        assert_eq!(words(&console), ["console", "--locked", "--idle", "0"]);
        console.login = Login::Open;
        assert!(words(&console).is_empty());
    }

    fn service(name: &str, state: ServiceState) -> ServiceStatus {
        ServiceStatus {
            name: name.to_owned(),
            state,
            pid: None,
            restarts: 0,
            last_exit: None,
            cpus: Vec::new(),
            rss: None,
            last_pong_ms: None,
            user: String::new(),
            sandbox: Vec::new(),
        }
    }

    fn model(role: &str, refused: Option<&str>) -> ModelStatus {
        ModelStatus {
            role: role.to_owned(),
            file: "m.gguf".to_owned(),
            model: None,
            version: None,
            digest: None,
            signer: None,
            verified_by: None,
            refused: refused.map(str::to_owned),
            adapter: None,
        }
    }

    #[test]
    fn a_machine_without_its_models_has_an_outcome_once_they_were_looked_for() {
        use ServiceState::{CrashLoop, Ready, Starting, Stopped, Waiting};
        let missing = [
            model("primary", Some("missing-file")),
            model("fallback", Some("missing-file")),
        ];
        let states = |gateway, primary, fallback| {
            [
                service("gateway", gateway),
                service("engine-primary", primary),
                service("engine-fallback", fallback),
            ]
        };
        assert!(is_final(&states(Ready, Waiting, Waiting), &missing));
        assert!(is_final(&states(CrashLoop, Stopped, Waiting), &missing));
        // The gateway comes up; one engine was not looked at yet, or is about to serve.
        assert!(!is_final(&states(Starting, Waiting, Waiting), &missing));
        let one = [model("primary", None), missing[1].clone()];
        assert!(!is_final(&states(Ready, Waiting, Waiting), &one));
        assert!(!is_final(&states(Ready, Stopped, Starting), &missing));
        assert!(!is_final(&[], &missing));
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
