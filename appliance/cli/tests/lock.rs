//! The lock of the prompt, on terminals of its own.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use nix::sys::termios::{LocalFlags, tcgetattr};
use sarai_wire::control::Reply;
use support::terminal::{self, Terminal};
use support::{Supervisor, command, err, out, run};

const LOCKED: [&str; 2] = ["console", "--locked"];

/// The code that the terminal shows next.
fn code(terminal: &mut Terminal) -> String {
    terminal.wait_for("To open it, type ");
    let code = terminal.wait_until(" and press Enter.");
    assert!(
        code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit()),
        "{code:?} is no code"
    );
    terminal.wait_for("code: ");
    code
}

/// Whether it takes whole lines, shows them, and has keys that are signals.
fn is_ordinary(terminal: &File) -> bool {
    let modes = tcgetattr(terminal).unwrap();
    let wanted = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
    modes.local_flags.contains(wanted)
}

fn opens(terminal: &mut Terminal, code: &str) {
    terminal.send(format!("{code}\r"));
    terminal.wait_for("Type help for the commands");
    terminal.wait_for("sarai> ");
}

#[test]
fn a_locked_prompt_opens_to_its_own_code_alone() {
    let supervisor = Supervisor::start(|_| vec![Reply::Ok]);
    let mut first = terminal::open_with(&supervisor.socket(), &LOCKED);
    let mut second = terminal::open_with(&supervisor.socket(), &LOCKED);
    let (shown, other) = (code(&mut first), code(&mut second));
    assert_ne!(shown, other, "two terminals have one code");
    first.send(format!("{other}\n"));
    first.wait_for("Wrong. Wait 1 s.");
    assert_eq!(code(&mut first), shown);
    first.send("restart gateway\n");
    first.wait_for("Wrong. Wait 2 s.");
    assert_eq!(code(&mut first), shown);
    opens(&mut first, &shown);
    assert!(supervisor.requests().is_empty(), "{:?}", supervisor.requests());
    // Open, it is the prompt that it is elsewhere.
    first.send("rest\tgat\t\n");
    first.wait_for("gateway is being restarted");
    first.wait_for("sarai> ");
    let near = first.near();
    first.send("exit\n");
    assert!(first.end().success());
    assert!(is_ordinary(&near), "it leaves the terminal as it had it");
    // The one beside it is as it was.
    second.send(format!("{shown}\n"));
    second.wait_for("Wrong. Wait 1 s.");
    assert_eq!(code(&mut second), other);
    opens(&mut second, &other);
    second.send("\x04");
    assert!(second.end().success());
    // Each start has a code of its own.
    let mut third = terminal::open_with(&supervisor.socket(), &LOCKED);
    let fresh = code(&mut third);
    assert!(fresh != shown && fresh != other);
}

#[test]
fn keys_junk_long_lines_and_output_in_between_leave_it_locked_and_usable() {
    let supervisor = Supervisor::start(|_| vec![Reply::Ok]);
    let mut terminal = terminal::open_with(&supervisor.socket(), &LOCKED);
    let shown = code(&mut terminal);
    // What would interrupt, end, quit, suspend or hold a terminal elsewhere.
    for key in ["\x03", "\x04", "\x15", "\n", "\r", "12\x03"] {
        terminal.send(key);
        assert_eq!(code(&mut terminal), shown, "{key:?}");
    }
    terminal.send(b"\x1a\x1c\x13\x11\x00\xff\xfe\x1b[A\x1b]0;x\x07\n");
    terminal.wait_for("Wrong. Wait 1 s.");
    assert_eq!(code(&mut terminal), shown);
    terminal.send("0".repeat(100_000) + &shown + "\n");
    terminal.wait_for("Wrong. Wait 2 s.");
    // The third of them would be another code: what is shown is what opens.
    let shown = code(&mut terminal);
    // Stopped output goes on: nobody is there to know that a key did that.
    terminal.send("\x13\r");
    terminal.wait_for("Wrong. Wait 4 s for another code.");
    let another = code(&mut terminal);
    assert_ne!(shown, another);
    // Others write to the terminal while somebody types.
    terminal.send(&another[..3]);
    terminal.wait_for("***");
    terminal
        .near()
        .write_all("\nevent\n".repeat(200).as_bytes())
        .unwrap();
    terminal.send("\x03");
    assert_eq!(code(&mut terminal), another);
    opens(&mut terminal, &another);
    assert!(supervisor.requests().is_empty());
}

#[test]
fn an_idle_prompt_ends_also_with_half_a_line_typed() {
    let supervisor = Supervisor::start(|_| vec![Reply::Ok]);
    let mut terminal = terminal::open_with(&supervisor.socket(), &["console", "--locked", "--idle", "1"]);
    // Locked it has all the time there is.
    std::thread::sleep(Duration::from_millis(1500));
    let (near, shown) = (terminal.near(), code(&mut terminal));
    terminal.send(format!("{shown}\nrestart gate"));
    terminal.wait_for("Type help for the commands");
    terminal.wait_for("Nothing was typed for 1 s.");
    assert!(terminal.end().success());
    assert!(is_ordinary(&near), "it leaves the terminal as the editor had it");
    assert!(supervisor.requests().is_empty(), "{:?}", supervisor.requests());
    // No limit, no end.
    let mut terminal = terminal::open_with(&supervisor.socket(), &LOCKED);
    let shown = code(&mut terminal);
    opens(&mut terminal, &shown);
    std::thread::sleep(Duration::from_millis(1500));
    terminal.send("restart gateway\n");
    terminal.wait_for("is being restarted");
}

#[test]
fn keys_keep_a_prompt_open_also_those_of_a_line_that_does_not_end() {
    let supervisor = Supervisor::start(|_| vec![Reply::Ok]);
    let mut terminal = terminal::open_with(&supervisor.socket(), &["console", "--locked", "--idle", "12"]);
    let shown = code(&mut terminal);
    opens(&mut terminal, &shown);
    // Longer than the limit, and no key later than a sixtieth of it.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(15) {
        terminal.send("x");
        std::thread::sleep(Duration::from_millis(200));
    }
    terminal.send("\x15restart gateway\n");
    terminal.wait_for("is being restarted");
}

#[test]
fn a_terminal_that_hangs_up_ends_its_prompt() {
    let supervisor = Supervisor::start(|_| vec![Reply::Ok]);
    let (mut far, mut child) = terminal::spawn(&supervisor.socket(), &LOCKED);
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("code: ") {
        let mut bytes = [0; 64];
        let n = far.read(&mut bytes).unwrap();
        shown.extend_from_slice(&bytes[..n]);
    }
    assert!(child.try_wait().unwrap().is_none());
    drop(far);
    let end = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "it lives without a terminal");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(
        status.success() || status.signal() == Some(nix::libc::SIGHUP),
        "{status}"
    );
}

#[test]
fn a_lock_is_for_a_terminal_and_not_for_ssh() {
    let supervisor = Supervisor::start(|_| vec![Reply::Ok]);
    let piped = run(&mut command(&LOCKED), "000000\nversion\n");
    assert_eq!(piped.status.code(), Some(2), "{}", out(&piped));
    assert!(err(&piped).contains("needs a terminal"), "{}", err(&piped));
    for line in ["console --locked", "sarai console --idle 5 --locked"] {
        let mut over_ssh = terminal::open_with(&supervisor.socket(), &["-c", line]);
        over_ssh.wait_for("only the machine's own terminals have a lock");
        assert_eq!(over_ssh.end().code(), Some(2));
    }
    for wrong in ["86401", "-1", "x"] {
        let output = run(&mut command(&["console", "--idle", wrong]), "");
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
}
