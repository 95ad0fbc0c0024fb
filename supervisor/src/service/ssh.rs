//! The SSH server: dropbear as the admin's own user, from its first line. Nobody else can be logged in by it, root least
//! of all; what it runs is the prompt, which is that user's shell.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::plain;
use crate::app::{App, Shared};
use crate::identity::authorized::{Authorized, HOME};
use crate::problems::lock;
use crate::sandbox::policy;
use crate::spawn::{self, Spec};
use crate::tasks;

/// Its name.
pub const SSH: &str = "ssh";
/// The server.
pub const SERVER: &str = "/usr/sbin/dropbear";
/// Its key below the run folder, readable by the server's user.
const HOST_KEY: &str = "ssh_host_key";
/// Port of SSH.
const PORT: &str = "22";
/// Most bytes of memory that are kept for a session's window.
const WINDOW: &str = "65536";
/// Seconds after which a silent client is asked whether it lives, and after which an idle session ends.
const KEEPALIVE: &str = "60";
const IDLE: &str = "3600";
/// Time between two looks whether somebody may come in, and whether the machine has its own key.
const LOOK: Duration = Duration::from_secs(2);

/// Hands the keys out, and starts the server once there is somebody to let in.
pub async fn run(app: App) {
    loop {
        match hand_out(&app) {
            Ok(n) if n > 0 && lock(&app.identity).is_some() => {
                app.problems.clear(SSH);
                app.logs.say(&format!("ssh: {n} keys may come in"));
                break;
            }
            Ok(_) => {}
            Err(e) => app
                .problems
                .set(SSH, format!("nobody can come in by SSH: failed to {e}")),
        }
        tokio::time::sleep(LOOK).await;
    }
    start(&app);
    // Keys that come and go from now on are handed out by the order that changes them.
    std::future::pending::<()>().await;
}

/// Writes the keys where the server reads them; gives how many there are.
fn hand_out(app: &Shared) -> Result<usize, String> {
    Authorized(&app.layout).hand_out().map_err(|e| e.to_string())
}

fn start(app: &App) {
    app.board.enter(SSH, spawn::ADMIN.name, &app.cores.house);
    let orders = Arc::new(Mutex::new(app.orders.register(SSH)));
    let shared = App::clone(app);
    let make = Arc::new(move || spec(&shared));
    let keeper = App::clone(app);
    tasks::guard(SSH, app.problems.clone(), move || {
        plain::keep(
            App::clone(&keeper),
            SSH.to_owned(),
            Arc::clone(&orders),
            Arc::clone(&make) as _,
        )
    });
}

fn spec(app: &Shared) -> io::Result<Spec<'static>> {
    let key = app.layout.run.join(HOST_KEY);
    let identity = lock(&app.identity).clone();
    let identity = identity.ok_or_else(|| io::Error::other("the machine has no keys yet"))?;
    sarai_trust::atomic::write(&key, identity.host.to_bytes(), 0o400).map_err(io::Error::other)?;
    chown(&key, Some(spawn::ADMIN.id), Some(spawn::ADMIN.id))?;
    let home = app.layout.run.join(HOME);
    for folder in [&home, &home.join(".ssh")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    let words = [
        "-F", "-E", "-w", "-p", PORT, "-W", WINDOW, "-K", KEEPALIVE, "-I", IDLE, "-T", "3",
    ];
    let mut args: Vec<std::ffi::OsString> = words.iter().map(Into::into).collect();
    args.extend(closed(&fs::read(SERVER)?).into_iter().map(Into::into));
    args.push("-r".into());
    args.push(key.into());
    Ok(Spec {
        args,
        env: vec![
            ("HOME".into(), home.into()),
            ("PATH".into(), "/usr/bin:/bin".into()),
        ],
        user: Some(spawn::ADMIN),
        cpus: app.cores.house.clone(),
        cgroup: app.tree.as_ref().map(|tree| tree.procs("house")).transpose()?,
        descriptors: 256,
        sandbox: Some(policy::ssh(&app.layout)),
        site: app.layout.run.clone(),
        ..Spec::new(SERVER)
    })
}

/// What is switched off where the server was built with it. One that was built without knows no option for it and would
/// not start: which options it knows its own help says, which is in the program.
const CLOSED: [(&str, &str); 3] = [
    ("-s", "Disable password logins"),
    ("-j", "Disable local port forwarding"),
    ("-k", "Disable remote port forwarding"),
];

fn closed(program: &[u8]) -> Vec<&'static str> {
    let knows = |option: &str, text: &str| {
        let line = [option.as_bytes(), b"\t\t", text.as_bytes(), b"\n"].concat();
        program.windows(line.len()).any(|part| part == line)
    };
    CLOSED
        .iter()
        .filter(|(option, text)| knows(option, text))
        .map(|(option, _)| *option)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_options_that_the_server_knows_are_given() {
        let help = b"\0-w\t\tDisallow root logins\n-s\t\tDisable password logins\n-g\t\tDisable password logins for root\n\0";
        assert_eq!(closed(help), ["-s"]);
        assert!(closed(b"-g\t\tDisable password logins for root\n").is_empty());
        let all: String = CLOSED
            .iter()
            .map(|(option, text)| format!("{option}\t\t{text}\n"))
            .collect();
        assert_eq!(closed(all.as_bytes()), ["-s", "-j", "-k"]);
    }
}
