//! The lock of the prompt on the machine's own terminals.

use anyhow::{Result, ensure};
use sarai_tests::vm::RootShell;

use crate::common::{Booted, COMMAND, PROMPT};

/// What stands beside a code, and so would be where a code got to.
const SENTENCE: &str = "To open it, type";

/// From an open prompt to a locked one and back; what does not open it; and that its codes are nowhere else.
pub fn locks_again(machine: &mut Booted, root: &mut RootShell) -> Result<()> {
    let vm = &mut machine.vm;
    let (first, _) = vm.code_after(0, COMMAND)?;

    // Who leaves it leaves it locked, with another code.
    let from = vm.screen().len();
    vm.type_line("exit")?;
    let (second, at) = vm.code_after(from, COMMAND)?;
    ensure!(first != second, "the code is still {first}");
    // What was a command and what was the code open nothing, nor does the end of the input.
    vm.type_line("poweroff")?;
    let at = vm.wait_for_after(at, "Wrong. Wait 1 s.", COMMAND)?;
    let (again, at) = vm.code_after(at, COMMAND)?;
    ensure!(again == second, "{second} became {again} after one try");
    vm.type_line(&first)?;
    let at = vm.wait_for_after(at, "Wrong. Wait 2 s.", COMMAND)?;
    let (_, at) = vm.code_after(at, COMMAND)?;
    vm.type_line("\u{3}\u{4}")?;
    let (again, at) = vm.code_after(at, COMMAND)?;
    ensure!(again == second, "{second} became {again}");
    // The third costs the code.
    vm.type_line("000")?;
    let at = vm.wait_for_after(at, "Wrong. Wait 4 s for another code.", COMMAND)?;
    let (third, at) = vm.code_after(at, COMMAND)?;
    ensure!(third != second, "the code is still {second}");
    ensure!(
        !vm.screen()[from..].contains(PROMPT),
        "the prompt opened:\n{}",
        vm.tail()
    );
    vm.type_line(&third)?;
    vm.wait_for_after(at, PROMPT, COMMAND)?;

    // On the terminal alone.
    let log = root.run("cat /data/log/sarai.log", COMMAND)?;
    let kernel = root.run("busybox dmesg", COMMAND)?;
    let status = machine.sarai("status --json")?;
    let said = machine.sarai("logs -n 1000")?;
    for (what, text) in [
        ("the log", &log),
        ("the kernel's log", &kernel),
        ("the status", &status),
        ("what logs shows", &said),
    ] {
        ensure!(!text.is_empty() && !text.contains(SENTENCE), "{what}: {text}");
        for code in [&first, &second, &third] {
            // As a number of its own that is no time of the kernel's: by chance one in some ten thousand.
            let shown = text.lines().any(|line| {
                let line = line.split_once("] ").map_or(line, |(_, rest)| rest);
                line.split(|c: char| !c.is_ascii_alphanumeric() && c != '.')
                    .any(|word| word == code.as_str())
            });
            ensure!(!shown, "{what} has {code}: {text}");
        }
    }
    Ok(())
}
