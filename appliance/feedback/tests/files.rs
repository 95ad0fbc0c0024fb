//! Real files: many of them, and a writer that is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use sarai_feedback::{
    Choice, Completion, Entry, FEEDBACK, Feedback, Judgment, Message, Reader, Role, Rules, Settings, Store,
    select,
};

fn completion(n: u64, key: &str) -> Completion {
    Completion {
        id: format!("chatcmpl-{n:024x}"),
        key: key.into(),
        time: Timestamp::now(),
        model: "m".into(),
        digest: "0123456789abcdef".repeat(4),
        adapter: None,
        confidence: 0.5,
        messages: vec![Message {
            role: Role::User,
            content: format!("Question {n}?"),
        }],
        answer: format!("Answer {n}. {}", "and more of it ".repeat(20)),
    }
}

fn settings(folder: &Path) -> Settings {
    Settings {
        folder: folder.to_owned(),
        keep_days: 90,
        max_bytes: 256 << 20,
        reserve: 0,
    }
}

/// Peak of this process's resident memory so far, bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_hundred_thousand_records_are_chosen_from_without_being_held() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = 0;
    for file in 0..25_u64 {
        let path = dir.path().join(FEEDBACK.name(file + 1));
        let mut out = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
        for n in file * 4000..(file + 1) * 4000 {
            let feedback = Feedback {
                id: format!("fb-{n}"),
                time: Timestamp::new(i64::try_from(n).unwrap(), 0).unwrap(),
                judgment: Judgment::new(0.9, None, None).unwrap(),
                completion: Completion {
                    answer: format!("Answer {n}. {}", "x".repeat(2000)),
                    ..completion(n, ["a", "b", "c"][usize::try_from(n % 3).unwrap()])
                },
            };
            let line = Entry::Feedback(Box::new(feedback)).line().unwrap();
            bytes += line.len() as u64;
            out.write_all(&line).unwrap();
            out.write_all(b"\n").unwrap();
        }
        out.flush().unwrap();
    }
    assert!(bytes > 200 << 20, "{bytes}");
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.counts().records, 100_000);
    let choice = select(&Rules::default(), &mut |each| {
        reader.each(&mut |feedback| {
            each(feedback);
            ControlFlow::Continue(())
        })
    });
    let Choice::Chosen(selected) = choice.unwrap() else {
        panic!("nothing is chosen");
    };
    assert!(
        selected.tally.train > 2000 && selected.tally.held_out > 500,
        "{:?}",
        selected.tally
    );
    assert!(peak() < bytes / 2, "{} of {bytes} bytes", peak());
}

const CHILD: &str = "SARAI_TEST_FEEDBACK_FOLDER";

/// Not a test of its own: writes judgments until it is killed, and says each number once it was told that it is kept.
#[test]
fn writer() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let (mut store, _) = Store::open(&settings(Path::new(&folder)), Timestamp::now()).unwrap();
    let first = 1_000_000 * u64::from(std::process::id());
    let mut out = std::io::stdout();
    for n in first.. {
        let completion = completion(n, "a");
        let id = completion.id.clone();
        store.remember(completion).unwrap();
        let judgment = Judgment::new(0.5, None, None).unwrap();
        store
            .judge("a", &id, judgment, &format!("fb-{n}"), Timestamp::now())
            .unwrap();
        writeln!(out, "kept {id}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn whatever_was_said_to_be_kept_is_there_however_often_the_writer_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut kept: Vec<String> = Vec::new();
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["writer", "--exact", "--nocapture", "--test-threads", "1"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.map(Result::unwrap).filter_map(|line| {
            let at = line.find("kept chatcmpl-")?;
            Some(line[at + 5..].to_owned())
        });
        kept.extend(said.take(20 + 7 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        // As a power cut may leave it besides: a line that is not whole.
        let newest = FEEDBACK.list(dir.path()).unwrap().pop().unwrap();
        let path = dir.path().join(FEEDBACK.name(newest));
        let mut file = std::fs::File::options().append(true).open(path).unwrap();
        file.write_all(b"{\"feedback\":{\"id\"").unwrap();
    }
    let (mut store, opened) = Store::open(&settings(dir.path()), Timestamp::now()).unwrap();
    assert!(opened.log.torn.is_some());
    let reader = Reader::open(dir.path()).unwrap();
    let mut found = std::collections::HashSet::new();
    reader
        .each(&mut |feedback| {
            found.insert(feedback.completion.id);
            ControlFlow::Continue(())
        })
        .unwrap();
    for id in &kept {
        assert!(found.contains(id), "{id} is lost");
        // Asked once more, it is the same.
        let judgment = Judgment::new(0.5, None, None).unwrap();
        assert!(
            store
                .judge("a", id, judgment, "fb-x", Timestamp::now())
                .unwrap()
                .repeated
        );
    }
    assert_eq!(reader.counts().damaged, 0);
    assert!(kept.len() > 300, "{}", kept.len());
}
