//! `sarai`: the admin's command and the shipped client.
//!
//! It speaks to the supervisor over the control socket (`status`, `models`, `keys`, `logs`, `restart`, …) and,
//! for `ask` and `feedback send`, to the gateway over HTTPS like any other client on the network. Without arguments on a terminal it
//! is the console: a prompt that runs the same commands.
//!
//! It may connect to the control socket and to the one URL it was given, and read the certificate it was told to
//! trust. It never holds state, never trusts a certificate store of the machine, and never prints text it received
//! to a terminal without removing control characters.

mod adapters;
mod args;
mod ask;
mod audit;
mod boot_time;
mod console;
mod control;
mod discover;
mod editor;
mod failure;
mod feedback;
mod ladder;
mod merges;
mod pair;
mod qr;
mod sandboxes;
mod shell;
mod sse;
mod status;
mod target;
mod text;
mod training;
mod wait;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use sarai_wire::control::{Reply, Request};

use args::{Args, Command, ConsoleOptions, KeysCommand, ModelsCommand, SshKeysCommand};
use control::Client;
use failure::Failure;

fn main() -> ExitCode {
    // A closed pipe (`sarai logs | head`) must end the program quietly instead of panicking in `println!`.
    control::default_sigpipe();
    let outcome = match shell::command() {
        // As a login shell: what SSH clients ask for is one line.
        Some(line) => shell::parse(&line).and_then(run),
        None => run(Args::parse()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(
                std::io::stderr(),
                "sarai: {}",
                text::clean(&failure.message, true)
            );
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

fn run(args: Args) -> Result<(), Failure> {
    let socket = args.socket;
    let Some(command) = args.command else {
        if std::io::stdin().is_terminal() {
            return console::run(socket.as_deref(), &ConsoleOptions::default());
        }
        let mut stderr = std::io::stderr();
        let _ = writeln!(stderr, "{}", Args::command().render_help());
        return Err(Failure::usage(
            "no command given, and standard input is no terminal",
        ));
    };
    let connect = || discover::connect(socket.as_deref());
    match command {
        Command::Status { json } => {
            let status = connect()?.status()?;
            if json {
                print_json(&status)?;
            } else {
                print(&status::render(&status, text::Paint::stdout()))?;
            }
            // Shown in full, and still an exit code that a script can act on.
            if status.ready {
                Ok(())
            } else {
                Err(Failure::not_ready("not ready"))
            }
        }
        Command::Models {
            command: Some(ModelsCommand::Release { digest }),
            ..
        } => {
            connect()?.done(&Request::ModelsRelease {
                digest: digest.clone(),
            })?;
            print(&format!(
                "{} is released, and loaded again\n",
                text::clean(&digest, false)
            ))
        }
        Command::Models { json, command: None } => {
            let status = connect()?.status()?;
            if json {
                print_json(&status.models)
            } else {
                print(&status::render_models(&status.models, text::Paint::stdout()))
            }
        }
        Command::Keys { command } => keys(connect()?, command),
        Command::SshKeys { command } => ssh_keys(connect()?, command),
        Command::Pair { name, json } => pair::run(connect()?, name, json),
        Command::Logs {
            service,
            lines,
            follow,
        } => logs(connect()?, service, lines, follow),
        Command::Audit { command } => audit::run(connect()?, &command),
        Command::Feedback { command } => feedback::run(socket.as_deref(), &command),
        Command::Adapters { command } => adapters::run(connect()?, command),
        Command::Training { command } => training::run(connect()?, &command),
        Command::BootTime { json } => boot_time::run(&connect()?.status()?.boot, json),
        Command::Restart { service } => {
            connect()?.done(&Request::Restart {
                service: service.clone(),
            })?;
            print(&format!("{} is being restarted\n", text::clean(&service, false)))
        }
        Command::Poweroff => {
            connect()?.done(&Request::Poweroff)?;
            print("shutting down, then power off\n")
        }
        Command::Reboot => {
            connect()?.done(&Request::Reboot)?;
            print("shutting down, then reboot\n")
        }
        Command::Ca => {
            let pem = discover::certificate(&mut connect()?)?;
            print(&pem)
        }
        Command::Version => version(socket.as_deref()),
        Command::Wait { timeout } => wait::run(socket.as_deref(), timeout),
        Command::Ask(options) => ask::run(&options, socket.as_deref()),
        Command::Console(options) => console::run(socket.as_deref(), &options),
    }
}

fn keys(mut client: Client, command: KeysCommand) -> Result<(), Failure> {
    match command {
        KeysCommand::Add { name, json } => {
            let (name, secret) = match client.request(&Request::KeysAdd { name })? {
                Reply::Key { name, secret } => (name, secret),
                other => return Err(control::unexpected(&other)),
            };
            if json {
                return print_json(&serde_json::json!({ "name": name, "secret": secret }));
            }
            let (name, secret) = (text::clean(&name, false), text::clean(&secret, false));
            print(&format!(
                "Key {name:?}. Its secret is shown this once:\n\n    {secret}\n\n\
                 Clients send it as \"Authorization: Bearer …\" (OpenAI SDKs: api_key).\n"
            ))
        }
        KeysCommand::List { json } => {
            let keys = match client.request(&Request::KeysList)? {
                Reply::Keys { keys } => keys,
                other => return Err(control::unexpected(&other)),
            };
            if json {
                return print_json(&keys);
            }
            if keys.is_empty() {
                return print("no keys; make one with: sarai keys add NAME\n");
            }
            let rows = keys.into_iter().map(|key| vec![key.name, key.created]).collect();
            print(&text::table(&["NAME", "CREATED"], rows, text::Paint::stdout()))
        }
        KeysCommand::Remove { name } => {
            client.done(&Request::KeysRemove { name: name.clone() })?;
            print(&format!("key {:?} removed\n", text::clean(&name, false)))
        }
    }
}

fn ssh_keys(mut client: Client, command: SshKeysCommand) -> Result<(), Failure> {
    let request = match &command {
        SshKeysCommand::Add { key } => Request::SshKeysAdd { key: key.join(" ") },
        SshKeysCommand::List { .. } => Request::SshKeysList,
        SshKeysCommand::Remove { fingerprint } => Request::SshKeysRemove {
            fingerprint: fingerprint.clone(),
        },
    };
    let keys = match client.request(&request)? {
        Reply::SshKeys { keys } => keys,
        other => return Err(control::unexpected(&other)),
    };
    match command {
        SshKeysCommand::List { json: true } => print_json(&keys),
        SshKeysCommand::List { json: false } if keys.is_empty() => {
            print("no keys: nobody can come in by SSH; add one with: sarai ssh-keys add KEY\n")
        }
        SshKeysCommand::Remove { fingerprint } => {
            print(&format!("{} removed\n", text::clean(&fingerprint, false)))
        }
        SshKeysCommand::Add { .. } | SshKeysCommand::List { .. } => {
            let rows = keys
                .into_iter()
                .map(|key| vec![key.fingerprint, key.kind, key.source, key.comment])
                .collect();
            let heading = ["FINGERPRINT", "KIND", "FROM", "COMMENT"];
            print(&text::table(&heading, rows, text::Paint::stdout()))
        }
    }
}

fn logs(mut client: Client, service: Option<String>, lines: u32, follow: bool) -> Result<(), Failure> {
    let request = Request::Logs {
        service,
        lines,
        follow,
    };
    let mut out = std::io::stdout().lock();
    let paint = text::Paint::stdout();
    client.lines(&request, follow, |line| {
        let head = format!(
            "{} {:<15}",
            text::clean(&line.time, false),
            text::clean(&line.service, false)
        );
        writeln!(out, "{} {}", paint.dim(&head), text::clean(&line.text, false))
            .and_then(|()| out.flush())
            .map_err(|e| Failure::failed(format!("write the log lines: {e}")))
    })
}

/// Prints this program's version, and the appliance's where one answers.
fn version(socket: Option<&std::path::Path>) -> Result<(), Failure> {
    print(&format!("sarai {}\n", env!("CARGO_PKG_VERSION")))?;
    match discover::connect(socket).and_then(|mut client| client.status()) {
        Ok(status) => print(&format!(
            "appliance {} ({}) on {}\n",
            text::clean(&status.version, false),
            text::clean(&status.mode, false),
            text::clean(&status.hostname, false)
        )),
        // Asked for a socket by name, the caller wants to know; otherwise there is simply none here.
        Err(failure) if socket.is_some() => Err(failure),
        Err(_) => Ok(()),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Failure::failed(format!("write to standard output: {e}")))
}

fn print_json<T: serde::Serialize>(value: &T) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value)
        .map_err(|e| Failure::failed(format!("turn the answer into JSON: {e}")))?;
    print(&(json + "\n"))
}
