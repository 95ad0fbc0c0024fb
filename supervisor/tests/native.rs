//! The real program as an ordinary process, without models: first boot, control socket, keys, end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sarai_wire::control::{Reply, Request, ServiceState, Status};

struct Supervisor {
    child: Child,
    dir: PathBuf,
}

impl Supervisor {
    fn start(dir: &Path) -> Self {
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sarai-supervisor"))
            .arg("--native")
            .arg(dir)
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            dir: dir.to_owned(),
        }
    }

    fn connect(&self) -> UnixStream {
        let begun = Instant::now();
        loop {
            match UnixStream::connect(self.dir.join("run/control.sock")) {
                Ok(stream) => return stream,
                Err(e) => assert!(
                    begun.elapsed() < Duration::from_secs(20),
                    "no control socket: {e}"
                ),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn raw(&self, line: &[u8]) -> String {
        let begun = Instant::now();
        loop {
            let mut stream = self.connect();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut answer = String::new();
            match stream
                .write_all(line)
                .and_then(|()| stream.read_to_string(&mut answer))
            {
                Ok(_) => return answer,
                // A child that a killed supervisor had not finished starting holds that one's socket until it ends too.
                Err(e)
                    if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
                        && begun.elapsed() < Duration::from_secs(20) => {}
                Err(e) => panic!("no answer: {e}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn ask(&self, request: &Request) -> Reply {
        let answer = self.raw(format!("{}\n", serde_json::to_string(request).unwrap()).as_bytes());
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{answer:?}: {e}"))
    }

    fn status(&self) -> Status {
        match self.ask(&Request::Status) {
            Reply::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    fn status_when(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let begun = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "waited for {what}: {status:#?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn end(&mut self) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Short, because sockets lie below it.
fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("sv").tempdir().unwrap()
}

#[test]
fn without_models_it_comes_up_says_why_and_ends_in_order() {
    let dir = folder();
    let mut supervisor = Supervisor::start(dir.path());
    let status = supervisor.status_when("keys", |s| s.ca_fingerprint.is_some());
    assert_eq!((status.mode.as_str(), status.ready), ("native", false));
    assert!(
        status.problems.iter().any(|p| p.contains("manifest")),
        "{:?}",
        status.problems
    );
    let status = supervisor.status_when("the refusal", |s| {
        s.services
            .iter()
            .any(|e| e.name == "engine-primary" && e.state == ServiceState::Stopped)
    });
    assert!(
        status.problems.iter().any(|p| p.contains("engine-primary")),
        "{:?}",
        status.problems
    );
    let mode = |name: &str| {
        std::fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("run/control.sock"), 0o600);
    assert_eq!(mode("data/keys"), 0o700);
    assert!(dir.path().join("run/ca.crt").exists());
    supervisor.signal(Signal::SIGTERM);
    assert_eq!(supervisor.end(), 0);
    assert!(!dir.path().join("run/control.sock").exists());
}

#[test]
fn keys_are_made_listed_and_removed_over_the_socket() {
    let dir = folder();
    let supervisor = Supervisor::start(dir.path());
    supervisor.status_when("keys", |s| s.ca_fingerprint.is_some());
    let Reply::Key { name, secret } = supervisor.ask(&Request::KeysAdd { name: "phone".into() }) else {
        panic!()
    };
    assert!(name == "phone" && secret.starts_with("sk-sarai-"));
    let Reply::Error { message } = supervisor.ask(&Request::KeysAdd { name: "phone".into() }) else {
        panic!()
    };
    assert!(message.contains("phone"), "{message}");
    let Reply::Keys { keys } = supervisor.ask(&Request::KeysList) else {
        panic!()
    };
    assert_eq!(keys.len(), 1);
    assert!(matches!(
        supervisor.ask(&Request::KeysRemove { name: "phone".into() }),
        Reply::Ok
    ));
    let Reply::Keys { keys } = supervisor.ask(&Request::KeysList) else {
        panic!()
    };
    assert!(keys.is_empty());
    let all = std::fs::read_to_string(dir.path().join("data/log/sarai.log")).unwrap();
    assert!(!all.contains(&secret), "the secret is in the log");
}

#[test]
fn many_keys_added_at_once_are_all_there() {
    let dir = folder();
    let supervisor = Supervisor::start(dir.path());
    supervisor.status_when("keys", |s| s.ca_fingerprint.is_some());
    std::thread::scope(|scope| {
        for n in 0..20 {
            let supervisor = &supervisor;
            scope.spawn(move || {
                let reply = supervisor.ask(&Request::KeysAdd {
                    name: format!("key-{n}"),
                });
                assert!(matches!(reply, Reply::Key { .. }), "{reply:?}");
            });
        }
    });
    let Reply::Keys { keys } = supervisor.ask(&Request::KeysList) else {
        panic!()
    };
    assert_eq!(keys.len(), 20);
}

#[test]
fn wrong_requests_are_answered_and_logs_can_be_followed() {
    let dir = folder();
    let supervisor = Supervisor::start(dir.path());
    for wrong in [
        "\n",
        "{}\n",
        "[[[[\n",
        "{\"type\":\"status\",\"more\":1}\n",
        "\u{0}\n",
    ] {
        let answer = supervisor.raw(wrong.as_bytes());
        assert!(answer.contains("\"error\""), "{wrong:?}: {answer}");
    }
    let Reply::Error { message } = supervisor.ask(&Request::Restart { service: "x".into() }) else {
        panic!()
    };
    assert!(
        message.contains("gateway") && message.contains("engine-primary"),
        "{message}"
    );
    for lines in [0, 10_001] {
        let request = Request::Logs {
            service: None,
            lines,
            follow: false,
        };
        assert!(matches!(supervisor.ask(&request), Reply::Error { .. }));
    }
    let mut follow = supervisor.connect();
    follow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = Request::Logs {
        service: Some("supervisor".into()),
        lines: 1,
        follow: true,
    };
    follow
        .write_all(format!("{}\n", serde_json::to_string(&request).unwrap()).as_bytes())
        .unwrap();
    let mut lines = BufReader::new(follow).lines();
    lines.next().unwrap().unwrap();
    supervisor.ask(&Request::Restart {
        service: "engine-primary".into(),
    });
    let text = lines.next().unwrap().unwrap();
    assert!(text.contains("\"service\":\"supervisor\""), "{text}");
}

#[test]
fn a_folder_has_one_supervisor_and_a_crash_leaves_it_usable() {
    let dir = folder();
    let mut first = Supervisor::start(dir.path());
    first.status_when("keys", |s| s.ca_fingerprint.is_some());
    let second = Command::new(env!("CARGO_BIN_EXE_sarai-supervisor"))
        .arg("--native")
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another supervisor"));
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert!(dir.path().join("run/control.sock").exists());
    let third = Supervisor::start(dir.path());
    third.status_when("keys", |s| s.ca_fingerprint.is_some());
}

/// SIGKILL after a growing part of the first boot; whatever is on disk then, the next start completes it.
#[test]
fn a_first_boot_killed_at_any_moment_is_completed_by_the_next() {
    let dir = folder();
    let begun = Instant::now();
    let supervisor = Supervisor::start(dir.path());
    supervisor.status_when("keys", |s| s.ca_fingerprint.is_some());
    drop(supervisor);
    let whole = begun.elapsed();
    for cut in 0..20 {
        let dir = folder();
        let supervisor = Supervisor::start(dir.path());
        std::thread::sleep(whole * cut / 20);
        drop(supervisor);
        let mut again = Supervisor::start(dir.path());
        let status = again.status_when("keys", |s| s.ca_fingerprint.is_some());
        assert!(
            !status.problems.iter().any(|p| p.contains("damaged")),
            "cut {cut}: {:?}",
            status.problems
        );
        let kept = status.ca_fingerprint;
        again.signal(Signal::SIGTERM);
        assert_eq!(again.end(), 0);
        let third = Supervisor::start(dir.path());
        assert_eq!(
            third
                .status_when("keys", |s| s.ca_fingerprint.is_some())
                .ca_fingerprint,
            kept,
            "cut {cut}"
        );
    }
}

#[test]
fn a_folder_whose_sockets_would_be_too_long_is_refused_at_once() {
    let dir = folder();
    let deep = dir.path().join("x".repeat(120));
    let output = Command::new(env!("CARGO_BIN_EXE_sarai-supervisor"))
        .arg("--native")
        .arg(&deep)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("shorter"));
    assert!(!deep.exists());
}

#[test]
fn it_says_its_version_and_refuses_to_run_without_a_folder() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_sarai-supervisor"))
            .args(arguments)
            .output()
            .unwrap()
    };
    let version = run(&["--version"]);
    assert!(version.status.success());
    assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(
        run(&["--listen", "nonsense", "--native", "/tmp"]).status.code(),
        Some(2)
    );
}
