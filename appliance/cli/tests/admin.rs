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
    // The line as it was typed.
    terminal.forget();
    terminal.press_until("\x03", "sarai> ");
    terminal.send("restart gateway\n");
    terminal.wait_for("is being restarted");
    terminal.wait_for("sarai> ");
    terminal.send("\x04");
    assert!(terminal.end().success());
}

#[test]
fn a_client_is_paired_with_everything_it_needs() {
    let fingerprint = ["AB"; 32].join(":");
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    let pem = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n";
    std::fs::write(&ca, pem).unwrap();
    let supervisor = Supervisor::start(move |request| {
        vec![match request {
            Request::Status => {
                let mut state = status();
                state.urls = vec!["https://127.0.0.1:8443".into(), "https://10.0.0.7:8443".into()];
                state.announced = Some("box.local".into());
                state.ca_fingerprint = Some(fingerprint.clone());
                state.ca_path = Some(ca.display().to_string());
                Reply::Status(Box::new(state))
            }
            Request::KeysList => Reply::Keys {
                keys: vec![KeyInfo {
                    name: "client-1".into(),
                    created: "2026-01-01T00:00:00Z".into(),
                }],
            },
            Request::KeysAdd { name } => Reply::Key {
                name: name.clone(),
                secret: "sk-sarai-1".into(),
            },
            _ => Reply::Ok,
        }]
    });
    let text = supervisor.sarai(&["pair"]);
    assert!(text.status.success(), "{}", err(&text));
    for wanted in [
        "client       client-2",
        "address      https://10.0.0.7:8443",
        "             https://box.local:8443",
        "key          sk-sarai-1  (shown this once)",
        "certificate  AB:AB:",
        "openssl s_client -connect 10.0.0.7:8443 ",
    ] {
        assert!(
            out(&text).contains(wanted),
            "{wanted:?} is missing in:\n{}",
            out(&text)
        );
    }
    let json = supervisor.sarai(&["pair", "phone", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out(&json)).unwrap();
    assert_eq!(
        (&json["name"], &json["key"]),
        (&"phone".into(), &"sk-sarai-1".into())
    );
    assert_eq!(
        (&json["url"], &json["ca"]),
        (&"https://10.0.0.7:8443".into(), &pem.into())
    );
    // What the picture says is what the JSON says.
    let code = support::qr::read(&out(&text));
    assert_eq!(json["uri"], code.as_str());
    assert!(
        code.starts_with("sarai://pair?v=1&url=https://10.0.0.7:8443&host=box.local&ca=q6ur"),
        "{code}"
    );
    assert!(code.ends_with("&key=sk-sarai-1"), "{code}");
}

#[test]
fn without_an_address_no_key_is_made() {
    let supervisor = Supervisor::start(|request| {
        vec![match request {
            Request::Status => {
                let mut state = status();
                state.urls.clear();
                Reply::Status(Box::new(state))
            }
            _ => Reply::Ok,
        }]
    });
    let output = supervisor.sarai(&["pair"]);
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
    assert_eq!(supervisor.requests(), [Request::Status]);
}

#[test]
fn the_way_up_is_shown_and_a_missed_promise_is_told_by_the_exit_code() {
    use sarai_wire::control::{BootStage, BootStatus};
    for (took, code) in [(250.0, 0), (1500.0, 1)] {
        let supervisor = Supervisor::start(move |_| {
            let mut state = status();
            state.boot = BootStatus {
                stages: vec![BootStage {
                    name: "kernel".into(),
                    from_ms: Some(0.0),
                    to_ms: Some(700.0),
                }],
                gateway_ms: Some(took),
                ready_ms: None,
            };
            vec![Reply::Status(Box::new(state))]
        });
        let output = supervisor.sarai(&["boot-time"]);
        assert_eq!(output.status.code(), Some(code));
        assert!(
            out(&output).contains(&format!("gateway listening {took:.0} ms")),
            "{}",
            out(&output)
        );
        let json: BootStatus =
            serde_json::from_str(&out(&supervisor.sarai(&["boot-time", "--json"]))).unwrap();
        assert_eq!(json.gateway_ms, Some(took));
    }
}

#[test]
fn the_prompt_completes_commands_and_brings_back_what_was_typed() {
    let supervisor = Supervisor::start(ok);
    let mut terminal = support::terminal::open(&supervisor.socket());
    terminal.wait_for("sarai> ");
    // Tab completes what is clear, twice shows what there is.
    terminal.send("rest\tgat\t\n");
    terminal.wait_for("gateway is being restarted");
    terminal.wait_for("sarai> ");
    terminal.send("keys \t\t");
    for command in ["add", "list", "remove"] {
        terminal.wait_for(command);
    }
    // The line is drawn once more below what there is.
    terminal.forget();
    terminal.press_until("\x03", "sarai> ");
    // Up brings back the last line that was run.
    terminal.press_until("\x1b[A\n", "gateway is being restarted");
    terminal.wait_for("sarai> ");
    terminal.send("help\n");
    terminal.wait_for("boot-time");
    terminal.wait_for("sarai> ");
    terminal.send("\x04");
    assert!(terminal.end().success());
    // A slow answer to the key may have had it pressed again.
    let restarts = supervisor.requests();
    assert!(restarts.len() >= 2, "{restarts:?}");
}

#[test]
fn as_a_login_shell_it_runs_the_line_it_is_given_and_nothing_else() {
    let supervisor = Supervisor::start(|_| vec![Reply::Status(Box::new(status()))]);
    for line in ["status --json", "sarai status --json"] {
        let output = supervisor.sarai(&["-c", line]);
        assert!(output.status.success(), "{}", err(&output));
        let json: sarai_wire::control::Status = serde_json::from_str(&out(&output)).unwrap();
        assert_eq!(json, status());
    }
    for line in [
        "sh",
        "/bin/sh -c id",
        "status; id",
        "status | cat",
        "$(id)",
        "/usr/lib/sftp-server",
    ] {
        let output = supervisor.sarai(&["-c", line]);
        assert_eq!(output.status.code(), Some(2), "{line}: {}", out(&output));
        assert!(!out(&output).contains("uid="), "{line}");
    }
    let help = supervisor.sarai(&["-c", "help"]);
    assert!(
        help.status.success() && out(&help).contains("ssh-keys"),
        "{}",
        out(&help)
    );
}

#[test]
fn keys_for_ssh_are_added_listed_and_removed() {
    let key = sarai_wire::control::SshKeyInfo {
        kind: "ssh-ed25519".into(),
        fingerprint: "SHA256:abc".into(),
        comment: "me@home".into(),
        source: "added".into(),
    };
    let shown = key.clone();
    let supervisor = Supervisor::start(move |_| {
        vec![Reply::SshKeys {
            keys: vec![shown.clone()],
        }]
    });
    let added = supervisor.sarai(&["ssh-keys", "add", "ssh-ed25519", "AAAA", "me@home"]);
    assert!(
        out(&added).contains("SHA256:abc"),
        "{}{}",
        out(&added),
        err(&added)
    );
    let list = supervisor.sarai(&["ssh-keys", "list", "--json"]);
    let list: Vec<sarai_wire::control::SshKeyInfo> = serde_json::from_str(&out(&list)).unwrap();
    assert_eq!(list, [key]);
    assert!(
        supervisor
            .sarai(&["ssh-keys", "remove", "SHA256:abc"])
            .status
            .success()
    );
    assert_eq!(
        supervisor.requests(),
        [
            Request::SshKeysAdd {
                key: "ssh-ed25519 AAAA me@home".into()
            },
            Request::SshKeysList,
            Request::SshKeysRemove {
                fingerprint: "SHA256:abc".into()
            }
        ]
    );
}
