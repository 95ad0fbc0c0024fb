//! Programs that are measured: what they answer, and the most memory they had.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sarai_tests::process;
use sarai_tests::tree;
use serde_json::Value;

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A program that has ended well.
pub struct Ended {
    /// What it wrote to standard output.
    pub output: String,
    /// The most memory it had in its own pages and files' (`VmHWM`), bytes.
    pub peak: u64,
    /// The most memory of its own (`RssAnon`), bytes, as seen in looks every 10 ms.
    pub own: u64,
}

/// Runs a command to its end, which must be good.
pub fn measured(command: &mut Command) -> Result<Ended> {
    let child = command.stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("start {}", command.get_program().display()))?;
    let pid = i32::try_from(child.id())?;
    let (mut peak, mut own) = (0, 0);
    // What is written fits a pipe.
    while child.try_wait()?.is_none() {
        // Once it has ended there is nothing to be read any more.
        peak = process::peak(pid).unwrap_or(0).max(peak);
        own = process::anonymous(pid).unwrap_or(0).max(own);
        thread::sleep(LOOK);
    }
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "run {}: {}",
        command.get_program().display(),
        output.status
    );
    Ok(Ended {
        output: String::from_utf8(output.stdout)?,
        peak,
        own,
    })
}

/// The trainer on files of a folder: `data.jsonl` and `config.toml` in, `adapter.gguf` and its report out.
pub fn trainer(base: &Path, folder: &Path) -> Result<Command> {
    let mut command = Command::new(tree::program("sarai-trainer")?);
    command.arg("--base").arg(base);
    for (flag, name) in [
        ("--data", "data.jsonl"),
        ("--config", "config.toml"),
        ("--output", "adapter.gguf"),
        ("--json", "result.json"),
    ] {
        command.arg(flag).arg(folder.join(name));
    }
    Ok(command)
}

/// The trainer's report in a folder.
pub fn report(folder: &Path) -> Result<Value> {
    let text = std::fs::read(folder.join("result.json")).context("read the trainer's report")?;
    serde_json::from_slice(&text).context("understand the trainer's report")
}

/// A number of a report.
pub fn number(report: &Value, path: &str) -> Result<f64> {
    report
        .pointer(path)
        .and_then(Value::as_f64)
        .with_context(|| format!("find {path} in {report}"))
}

/// SHA-256 of a file, lower-case hex.
pub fn sha256(path: &Path) -> Result<String> {
    let output = process::output_of(Command::new("sha256sum").arg(path))?;
    let digest = output.split_whitespace().next();
    Ok(digest.context("understand sha256sum")?.to_owned())
}

/// Writes a data set of `rows` rows of `length` tokens each, all of which but the first are to be predicted.
pub fn random_rows(base: &Path, vocabulary: u64, rows: u64, length: u64, folder: &Path) -> Result<()> {
    let head = serde_json::json!({"format": 1, "base": sha256(base)?, "vocabulary": vocabulary});
    let mut text = head.to_string();
    for row in 0..rows {
        // Any order will do: what a token is changes nothing of what it takes.
        let token = |at: u64| (row * length + at).wrapping_mul(0x9e37_79b9_7f4a_7c15) % vocabulary;
        let tokens: Vec<u64> = (0..length).map(token).collect();
        let line = serde_json::json!({
            "id": format!("{row:x}"), "split": "train", "tokens": tokens, "targets": [[1, length]],
        });
        text += &format!("\n{line}");
    }
    std::fs::write(folder.join("data.jsonl"), text + "\n").context("write the data set")
}
