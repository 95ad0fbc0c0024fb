//! The admin's commands against a supervisor that speaks the real wire.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};

use sarai_wire::control::{KeyInfo, LogLine, Reply, Request, ServiceState};
use support::{Supervisor, command, err, out, run, status};

fn ok(_: &Request) -> Vec<Reply> {
    vec![Reply::Ok]
}

#[test]
fn status_for_people_and_as_json() {
    let supervisor = Supervisor::start(|_| vec![Reply::Status(Box::new(status()))]);
    let output = supervisor.sarai(&["status"]);
    assert!(output.status.success(), "{}", err(&output));
    for wanted in [
        "box 9.8.7",
        "4242",
        "2-3",
        "signal SIGSEGV",
        "verified (fs-verity)",
        "https://127.0.0.1:1",
    ] {
        assert!(
            out(&output).contains(wanted),
            "{wanted:?} is missing in:\n{}",
            out(&output)
        );
    }
    assert!(!out(&output).contains('\x1b'), "colours into a pipe");
    let json: sarai_wire::control::Status =
        serde_json::from_str(&out(&supervisor.sarai(&["status", "--json"]))).unwrap();
    assert_eq!(json, status());
    let models: Vec<sarai_wire::control::ModelStatus> =
        serde_json::from_str(&out(&supervisor.sarai(&["models", "--json"]))).unwrap();
    assert_eq!(models, status().models);
    assert!(out(&supervisor.sarai(&["version"])).contains("appliance 9.8.7"));
}

#[test]
fn a_machine_that_is_not_ready_is_shown_and_told_by_the_exit_code() {
    let supervisor = Supervisor::start(|_| {
        let mut state = status();
        state.ready = false;
        vec![Reply::Status(Box::new(state))]
    });
    for args in [&["status"][..], &["status", "--json"]] {
        let output = supervisor.sarai(args);
        assert_eq!(output.status.code(), Some(3));
        assert!(out(&output).contains("4242"), "{}", out(&output));
    }
}

#[test]
fn the_native_run_of_the_folder_or_one_above_is_found() {
    let supervisor = Supervisor::start(ok);
    let inner = supervisor.folder().join("a/b");
    std::fs::create_dir_all(&inner).unwrap();
    let output = run(command(&["restart", "gateway"]).current_dir(&inner), "");
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(
        supervisor.requests(),
        [Request::Restart {
            service: "gateway".into()
        }]
    );
}

#[test]
fn keys_are_made_listed_and_removed() {
    let supervisor = Supervisor::start(|request| match request {
        Request::KeysAdd { name } if name == "bad name" => {
            vec![Reply::Error {
                message: "a name is …".into(),
            }]
        }
        Request::KeysAdd { name } => vec![Reply::Key {
            name: name.clone(),
            secret: "s3cret".into(),
        }],
        Request::KeysList => {
            vec![Reply::Keys {
                keys: vec![KeyInfo {
                    name: "laptop".into(),
                    created: "2026".into(),
                }],
            }]
        }
        _ => vec![Reply::Ok],
    });
    let made: serde_json::Value =
        serde_json::from_str(&out(&supervisor.sarai(&["keys", "add", "laptop", "--json"]))).unwrap();
    assert_eq!(made, serde_json::json!({ "name": "laptop", "secret": "s3cret" }));
    assert!(out(&supervisor.sarai(&["keys", "add", "laptop"])).contains("    s3cret\n"));
    assert!(out(&supervisor.sarai(&["keys", "list"])).contains("laptop  2026"));
    assert!(supervisor.sarai(&["keys", "remove", "laptop"]).status.success());
    let refused = supervisor.sarai(&["keys", "add", "bad name"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(err(&refused), "sarai: a name is …\n");
    assert_eq!(
        supervisor.requests()[3],
        Request::KeysRemove {
            name: "laptop".into()
        }
    );
}

#[test]
fn log_lines_come_as_the_supervisor_sends_them_and_cannot_steer_the_terminal() {
    let supervisor = Supervisor::start(|_| {
        let line = |text: &str| {
            Reply::Log(LogLine {
                time: "T".into(),
                service: "gateway".into(),
                text: text.into(),
            })
        };
        vec![line("one"), line("\x1b[2Jtwo")]
    });
    let output = supervisor.sarai(&["logs", "gateway", "-n", "7", "-f"]);
    assert!(output.status.success());
    assert_eq!(
        out(&output),
        "T gateway         one\nT gateway         \u{fffd}[2Jtwo\n"
    );
    let wanted = Request::Logs {
        service: Some("gateway".into()),
        lines: 7,
        follow: true,
    };
    assert_eq!(supervisor.requests(), [wanted]);
}

#[test]
fn power_commands_ask_for_what_they_say() {
    let supervisor = Supervisor::start(ok);
    assert!(supervisor.sarai(&["poweroff"]).status.success());
    assert!(supervisor.sarai(&["reboot"]).status.success());
    assert_eq!(supervisor.requests(), [Request::Poweroff, Request::Reboot]);
}

#[test]
fn the_certificate_is_printed_from_where_the_supervisor_says() {
    let supervisor = Supervisor::start(|_| vec![Reply::Status(Box::new(status()))]);
    assert_eq!(
        supervisor.sarai(&["ca"]).status.code(),
        Some(1),
        "there is no certificate yet"
    );
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(supervisor.socket().with_file_name("ca.crt"), pem).unwrap();
    assert_eq!(out(&supervisor.sarai(&["ca"])), pem);
}

#[test]
fn what_is_not_running_is_told_apart_from_what_fails() {
    let nowhere = run(
        &mut command(&["--socket", "/nonexistent/control.sock", "status"]),
        "",
    );
    assert_eq!(nowhere.status.code(), Some(3));
    assert!(err(&nowhere).contains("does not exist"), "{}", err(&nowhere));
    assert_eq!(run(&mut command(&["frobnicate"]), "").status.code(), Some(2));
    assert_eq!(run(&mut command(&[]), "").status.code(), Some(2));
    let nonsense = Supervisor::raw(|_| b"hello\n".to_vec());
    assert_eq!(nonsense.sarai(&["status"]).status.code(), Some(1));
    let silent = Supervisor::raw(|_| Vec::new());
    assert_eq!(silent.sarai(&["status"]).status.code(), Some(3));
    let huge = Supervisor::raw(|_| vec![b'x'; 3 * 1024 * 1024]);
    assert!(err(&huge.sarai(&["status"])).contains("exceeds"));
    let other = Supervisor::start(ok);
    assert!(err(&other.sarai(&["status"])).contains("another question"));
}

#[test]
fn wait_says_what_it_waits_for_and_ends_when_ready() {
    let looks = AtomicU32::new(0);
    let supervisor = Supervisor::start(move |_| {
        let mut state = status();
        if looks.fetch_add(1, Ordering::SeqCst) < 3 {
            state.ready = false;
            state.services[0].state = ServiceState::Starting;
        }
        vec![Reply::Status(Box::new(state))]
    });
    let output = supervisor.sarai(&["wait", "--timeout", "20"]);
    assert!(output.status.success(), "{}", err(&output));
    assert!(
        err(&output).contains("waiting for engine-primary (starting"),
        "{}",
        err(&output)
    );
    assert!(err(&output).contains("ready after"), "{}", err(&output));
}

#[test]
fn wait_gives_up_in_time_and_early_when_there_is_no_hope() {
    let nobody = run(
        &mut command(&["--socket", "/nonexistent/control.sock", "wait", "--timeout", "0"]),
        "",
    );
    assert_eq!(nobody.status.code(), Some(3));
    assert!(
        err(&nobody).contains("still waiting for the supervisor"),
        "{}",
        err(&nobody)
    );
    let supervisor = Supervisor::start(|_| {
        let mut state = status();
        state.ready = false;
        state.services[0].state = ServiceState::Stopped;
        state.models[0].refused = Some("BadSignature: no".into());
        vec![Reply::Status(Box::new(state))]
    });
    let start = std::time::Instant::now();
    let output = supervisor.sarai(&["wait", "--timeout", "60"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("m.gguf: BadSignature: no"),
        "{}",
        err(&output)
    );
    assert!(start.elapsed().as_secs() < 30);
}

#[test]
fn the_console_survives_every_line_and_ends_with_its_input() {
    let supervisor = Supervisor::start(|request| match request {
        Request::Status => vec![Reply::Status(Box::new(status()))],
        _ => vec![Reply::Ok],
    });
    let input = format!(
        "frobnicate\n'open\n{}\n\n   \nconsole\nhelp\nrestart 'engine-primary'\nsarai restart \"gate\\\"way\"\nversion",
        "x".repeat(10_000)
    );
    let output = run(
        &mut command(&["--socket", supervisor.socket().to_str().unwrap(), "console"]),
        &input,
    );
    assert!(output.status.success(), "{}", err(&output));
    let text = out(&output);
    assert_eq!(text.matches("sarai> ").count(), 11, "{text}");
    for wanted in [
        "a quotation is not closed",
        "at most 4096 bytes",
        "this is the console",
        "sarai 0.",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is missing in:\n{text}");
    }
    assert!(text.contains("Usage:"), "help shows the commands:\n{text}");
    assert!(err(&output).contains("frobnicate"), "{}", err(&output));
    let restarted: Vec<_> = supervisor
        .requests()
        .into_iter()
        .filter(|r| matches!(r, Request::Restart { .. }))
        .collect();
    assert_eq!(
        restarted,
        [
            Request::Restart {
                service: "engine-primary".into()
            },
            Request::Restart {
                service: "gate\"way".into()
            }
        ]
    );
    let quit = run(&mut command(&["console"]), "quit\nversion\n");
    assert!(quit.status.success());
    assert_eq!(out(&quit), "sarai> ");
}

#[test]
fn ctrl_c_on_a_terminal_ends_the_command_and_not_the_prompt() {
    let supervisor = Supervisor::raw(|request| {
        if matches!(request, Request::Logs { .. }) {
            // Follow for ever: the client must be able to leave.
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        b"{\"type\":\"ok\"}\n".to_vec()
    });
    let mut terminal = support::terminal::open(&supervisor.socket());
    terminal.wait_for("sarai> ");
    terminal.press_until("\x03", "sarai> ");
    terminal.send("logs -f\n");
    for _ in 0..500 {
        if !supervisor.requests().is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    terminal.press_until("\x03", "sarai> ");
    terminal.send("restart gateway\n");
    terminal.wait_for("is being restarted");
    terminal.wait_for("sarai> ");
    terminal.send("\x04");
    assert!(terminal.end().success());
}
