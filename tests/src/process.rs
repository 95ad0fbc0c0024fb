//! What the kernel says about processes, read from `/proc`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Runs a program that must succeed and gives its standard output; the error holds all it said.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// One process as `/proc/PID/stat` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Parent's process id.
    pub parent: i32,
    /// `R`, `S`, `D`, `T`, `Z`, …
    pub state: char,
    /// Start time in clock ticks since boot: with the id it names one process for ever.
    pub started: u64,
}

/// Reads one process; an error when there is none.
pub fn process(pid: i32) -> Result<Process> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("read process {pid}"))?;
    parse_stat(pid, &text).with_context(|| format!("understand {text:?}"))
}

fn parse_stat(pid: i32, text: &str) -> Option<Process> {
    // The name stands in brackets and may itself hold brackets and spaces.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Process {
        pid,
        parent,
        state,
        started,
    })
}

/// All processes there are.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| process(pid).ok())
        .collect()
}

/// Processes below `pid`, at any depth, without itself.
pub fn descendants(pid: i32) -> Vec<Process> {
    let all = all();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|p| p.parent == parent) {
            parents.push(child.pid);
            found.push(child.clone());
        }
    }
    found
}

/// Processes whose executable lies below `folder`, zombies excluded (they have no executable any more).
pub fn running_from(folder: &Path) -> Vec<Process> {
    all()
        .into_iter()
        .filter(|p| fs::read_link(format!("/proc/{}/exe", p.pid)).is_ok_and(|exe| exe.starts_with(folder)))
        .collect()
}

/// Whether this very process still lives (a zombie does not).
#[must_use]
pub fn lives(wanted: &Process) -> bool {
    process(wanted.pid).is_ok_and(|p| p.started == wanted.started && p.state != 'Z')
}

/// One line of `/proc/PID/status`, for example `VmRSS` or `Uid`.
pub fn status_field(pid: i32, name: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
        .with_context(|| format!("process {pid} has no {name}"))
}

/// Resident memory, bytes.
pub fn resident(pid: i32) -> Result<u64> {
    bytes(pid, "VmRSS")
}

/// Resident memory at its most, bytes.
pub fn peak(pid: i32) -> Result<u64> {
    bytes(pid, "VmHWM")
}

/// Resident memory that is no file's, bytes.
pub fn anonymous(pid: i32) -> Result<u64> {
    bytes(pid, "RssAnon")
}

fn bytes(pid: i32, name: &str) -> Result<u64> {
    let text = status_field(pid, name)?;
    let kib: u64 = text
        .trim_end_matches("kB")
        .trim()
        .parse()
        .with_context(|| text.clone())?;
    Ok(kib * 1024)
}

/// Makes a process fault by itself, as a wild jump would: a signal that is only sent means nothing to the first
/// process of a process namespace.
pub fn fault(pid: i32) -> Result<()> {
    // SAFETY: traces another process for a moment; the offset is that of the instruction pointer in `struct user`.
    unsafe {
        let nothing = std::ptr::null_mut::<nix::libc::c_void>();
        let done = |result: nix::libc::c_long| {
            ensure!(result >= 0, "{}", std::io::Error::last_os_error());
            Ok(())
        };
        done(nix::libc::ptrace(nix::libc::PTRACE_ATTACH, pid, nothing, nothing)).context("attach")?;
        nix::libc::waitpid(pid, std::ptr::null_mut(), nix::libc::__WALL);
        let offset = std::mem::offset_of!(nix::libc::user_regs_struct, rip);
        done(nix::libc::ptrace(
            nix::libc::PTRACE_POKEUSER,
            pid,
            offset,
            nothing,
        ))
        .context("set the pointer")?;
        done(nix::libc::ptrace(nix::libc::PTRACE_DETACH, pid, nothing, nothing)).context("detach")
    }
}

/// Sends a signal.
pub fn signal(pid: i32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid), signal).with_context(|| format!("send {signal} to {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let text = "7 (a) S (b)) Z 42 7 7 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 987 1 2";
        assert_eq!(
            parse_stat(7, text),
            Some(Process {
                pid: 7,
                parent: 42,
                state: 'Z',
                started: 987
            })
        );
    }

    #[test]
    fn this_process_is_found_below_its_parent() {
        let me = process(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(lives(&me));
        assert!(descendants(me.parent).contains(&me) || !lives(&me));
        assert!(resident(me.pid).unwrap() > 100_000);
    }
}
