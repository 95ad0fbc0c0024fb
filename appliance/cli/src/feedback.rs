//! `sarai feedback`: shows what clients say of answers, forgets it, and says it as a client.
//!
//! The supervisor hands the files over unread; they are read here, because what is in them came from the LAN, and PID 1
//! parses nothing of that. What is to be forgotten goes through it to the gateway, whose files they are.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sarai_feedback::{Feedback, Reader, Role};
use sarai_wire::control::{Reply, Request};
use sarai_wire::feedback::Forget;
use serde_json::{Value, json};

use crate::args::{FeedbackCommand, ForgetOptions, SendOptions};
use crate::control::{self, Client};
use crate::failure::Failure;
use crate::target::{Target, not_understood, read_body};
use crate::text::{clean, table};
use crate::{discover, print, text};

/// Most characters of a question that the table shows.
const SHOWN: usize = 60;
/// Most rows that the table shows.
const ROWS: u64 = 1000;

/// Does what was asked.
pub fn run(socket: Option<&Path>, command: &FeedbackCommand) -> Result<(), Failure> {
    let connect = || discover::connect(socket);
    match command {
        FeedbackCommand::List { lines, json } => list(connect()?, u64::from(*lines), *json),
        FeedbackCommand::Export { file } => export(connect()?, file.as_deref()),
        FeedbackCommand::Forget(options) => forget(connect()?, options),
        FeedbackCommand::Send(options) => send(options, socket),
    }
}

/// What there is, as the supervisor hands it over.
fn reader(mut client: Client) -> Result<Reader, Failure> {
    let (reply, attached) = client.request_files(&Request::Feedback)?;
    let Reply::Feedback { files } = reply else {
        return Err(control::unexpected(&reply));
    };
    if files.len() != attached.len() {
        return Err(Failure::failed(format!(
            "take the feedback: {} files are named and {} came",
            files.len(),
            attached.len()
        )));
    }
    Reader::of(attached.into_iter().map(File::from).collect()).map_err(|e| unreadable(&e))
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::failed(format!("read the feedback: {error}"))
}

/// Shows the newest `count` to `each`, oldest first.
fn newest(
    reader: &Reader,
    count: u64,
    each: &mut dyn FnMut(&Feedback) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut before = reader.counts().records.saturating_sub(count);
    let mut failure = None;
    reader
        .each(&mut |feedback| {
            if before > 0 {
                before -= 1;
                return ControlFlow::Continue(());
            }
            match each(&feedback) {
                Ok(()) => ControlFlow::Continue(()),
                Err(e) => {
                    failure = Some(e);
                    ControlFlow::Break(())
                }
            }
        })
        .map_err(|e| unreadable(&e))?;
    failure.map_or(Ok(()), Err)
}

fn list(client: Client, count: u64, json: bool) -> Result<(), Failure> {
    let reader = reader(client)?;
    if json {
        newest(&reader, count, &mut |feedback| print(&(line(feedback)? + "\n")))?;
    } else if reader.counts().records == 0 {
        print("no feedback yet\n")?;
    } else {
        let mut rows = Vec::new();
        newest(&reader, count.min(ROWS), &mut |feedback| {
            rows.push(row(feedback));
            Ok(())
        })?;
        let head = ["TIME", "KEY", "ANSWER", "SCORE", "SURE", "CORRECTED", "QUESTION"];
        print(&table(&head, rows, text::Paint::stdout()))?;
    }
    tell_damage(&reader);
    Ok(())
}

fn line(feedback: &Feedback) -> Result<String, Failure> {
    serde_json::to_string(feedback).map_err(|e| Failure::failed(format!("turn a record into JSON: {e}")))
}

/// A record as a row of the table, whose texts `table` cleans.
fn row(feedback: &Feedback) -> Vec<String> {
    let completion = &feedback.completion;
    let asked = completion
        .messages
        .iter()
        .rfind(|message| message.role == Role::User);
    let question = asked.map_or("", |message| &message.content);
    let words: Vec<&str> = question.split_whitespace().take(SHOWN).collect();
    let mut shown: String = words.join(" ").chars().take(SHOWN).collect();
    if shown.len() < words.join(" ").len() {
        shown.push('…');
    }
    vec![
        feedback.time.to_string(),
        completion.key.clone(),
        completion.id.clone(),
        format!("{:.2}", feedback.judgment.score),
        format!("{:.2}", completion.confidence),
        if feedback.judgment.correction.is_some() {
            "yes"
        } else {
            ""
        }
        .to_owned(),
        shown,
    ]
}

fn tell_damage(reader: &Reader) {
    let damaged = reader.counts().damaged;
    if damaged > 0 {
        let _ = writeln!(
            std::io::stderr(),
            "note: {damaged} damaged lines were passed over"
        );
    }
}

fn export(client: Client, file: Option<&Path>) -> Result<(), Failure> {
    let reader = reader(client)?;
    let count = reader.counts().records;
    match file {
        None => newest(&reader, count, &mut |feedback| print(&(line(feedback)? + "\n")))?,
        Some(path) => {
            write(&reader, path).map_err(|e| Failure::failed(format!("write {}: {e}", path.display())))??;
        }
    }
    let _ = writeln!(std::io::stderr(), "{count} records");
    tell_damage(&reader);
    Ok(())
}

/// Writes all of it aside and moves it into place, readable by nobody else: it is what people said.
fn write(reader: &Reader, path: &Path) -> std::io::Result<Result<(), Failure>> {
    if path.symlink_metadata().is_ok() {
        return Err(std::io::ErrorKind::AlreadyExists.into());
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    let mut out = BufWriter::new(
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)?,
    );
    let mut trouble = Ok(());
    let written = newest(reader, u64::MAX, &mut |feedback| {
        let line = line(feedback)?;
        trouble = writeln!(out, "{line}");
        if trouble.is_ok() {
            return Ok(());
        }
        Err(Failure::failed("write the export"))
    });
    let done = trouble
        .and_then(|()| out.into_inner().map_err(std::io::IntoInnerError::into_error))
        .and_then(|file| file.sync_all())
        .and_then(|()| match &written {
            Ok(()) => std::fs::rename(&aside, path),
            Err(_) => std::fs::remove_file(&aside),
        });
    if let Err(e) = done {
        // What is left of it is of no use; that it cannot be removed either changes nothing.
        let _ = std::fs::remove_file(&aside);
        return Err(e);
    }
    Ok(written)
}

fn forget(mut client: Client, options: &ForgetOptions) -> Result<(), Failure> {
    let what = match (&options.completion, &options.key) {
        (Some(id), _) => Forget::Completion { id: id.clone() },
        (None, Some(name)) => Forget::Key { name: name.clone() },
        (None, None) => Forget::Everything,
    };
    match client.request(&Request::FeedbackForget { what })? {
        Reply::Forgotten { records } => print(&format!(
            "forgotten: {records} judgments, and the answers that could still have been judged\n"
        )),
        other => Err(control::unexpected(&other)),
    }
}

fn send(options: &SendOptions, socket: Option<&Path>) -> Result<(), Failure> {
    let target = Target::find(&options.server, socket)?;
    let mut body = json!({ "completion_id": options.completion, "score": options.score });
    if let Some(correction) = &options.correction {
        body["correction"] = json!(correction);
    }
    if let Some(comment) = &options.comment {
        body["comment"] = json!(comment);
    }
    let timeout = Duration::from_secs(options.server.timeout);
    let text = read_body(target.post("/v1/feedback", &body, "the feedback", timeout)?)?;
    let kept: Value = serde_json::from_str(&text).map_err(|e| not_understood(&e))?;
    let id = kept["id"].as_str().unwrap_or_default();
    print(&format!("kept as {}\n", clean(id, false)))
}
