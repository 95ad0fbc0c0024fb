use std::fs::File;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::record::{Finding, Loop, Prompts, Step};
use crate::{Limits, Log};

fn entry(n: u64) -> Event {
    Event::Loop(Box::new(Loop {
        id: format!("req-{n}"),
        client: "first".into(),
        prompt: Some(Hash::of(b"prompt")),
        steps: vec![Step {
            phase: "draft".into(),
            ended: "complete".into(),
            sha256: Hash::of(b"draft"),
            score: Some(0.5),
            findings: vec![Finding {
                checker: "empty".into(),
                sha256: Hash::of(b"sentence"),
            }],
        }],
        answer: Some(Hash::of(b"answer")),
        chosen: Some(1),
        stopped: Some("limit".into()),
        confidence: Some(0.75),
        model: Some("m".into()),
        digest: Some("d".into()),
        adapter: Some("a".into()),
        prompts: Prompts {
            id: "omni-loop".into(),
            version: "1".into(),
            sha256: "s".into(),
        },
        fallback: Some("silent".into()),
        failed: Some("no".into()),
        content: None,
    }))
}

/// A log of `per_file` records in each of `files` files, pruned to `kept`, and the head after each record.
fn made(folder: &Path, files: u64, per_file: u64, kept: usize) -> Vec<Head> {
    let limits = Limits {
        file: u64::MAX,
        files: kept,
    };
    let (mut log, torn) = Log::open(folder, limits).unwrap();
    assert!(torn.is_none());
    let mut heads = Vec::new();
    for file in 1..=files {
        for n in 0..per_file {
            log.add("2026-01-01T00:00:00Z".into(), 0, entry(n)).unwrap();
            log.commit().unwrap();
            heads.extend(log.head());
        }
        if let Some(event) = log.surplus().unwrap() {
            let Event::Pruned { file, .. } = event else {
                panic!()
            };
            log.add("2026-01-01T00:00:00Z".into(), 0, event).unwrap();
            log.commit().unwrap();
            log.remove(file).unwrap();
        }
        if file < files {
            log.rotate().unwrap();
        }
    }
    heads
}

fn sources(folder: &Path) -> Vec<Source> {
    let open = |number| Source {
        number,
        reader: Box::new(File::open(folder.join(crate::folder::name(number))).unwrap()),
    };
    crate::folder::list(folder)
        .unwrap()
        .into_iter()
        .map(open)
        .collect()
}

fn signed(heads: &[Head]) -> Vec<Signed> {
    let sign = |head: &Head| Signed {
        head: *head,
        time: "then".into(),
    };
    heads.iter().map(sign).collect()
}

fn proven(folder: &Path, heads: &[Head]) -> Result<Proof, Broken> {
    match verify(sources(folder), &signed(heads), 3) {
        Ok(proof) => Ok(proof),
        Err(VerifyError::Broken(broken)) => Err(broken),
        Err(e) => panic!("{e}"),
    }
}

/// Where the chain breaks once `change` had its way with the lines of file 1.
fn broken_by(change: impl FnOnce(&mut Vec<String>), heads: &[usize]) -> (u64, String) {
    let dir = tempfile::tempdir().unwrap();
    let all = made(dir.path(), 1, 6, 3);
    let path = dir.path().join("audit-00000001.jsonl");
    let mut lines: Vec<String> = std::fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    change(&mut lines);
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    let heads: Vec<Head> = heads.iter().map(|n| all[*n]).collect();
    let broken = proven(dir.path(), &heads).unwrap_err();
    assert_eq!(broken.file, "audit-00000001.jsonl");
    (broken.line, broken.what)
}

#[test]
fn a_whole_chain_is_proven_over_files_and_what_is_not_signed_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let heads = made(dir.path(), 2, 4, 3);
    let proof = proven(dir.path(), &heads[2..6]).unwrap();
    assert_eq!((proof.files, proof.records, proof.loops), (2, 8, 8));
    assert_eq!((proof.signed, proof.unsigned), (4, 2));
    assert_eq!((proof.pruned, proof.torn, proof.lost), (None, false, 0));
    assert_eq!(proven(dir.path(), &[]).unwrap().unsigned, 8);
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(proven(empty.path(), &[]).unwrap(), Proof::default());
}

#[test]
fn every_field_of_a_record_is_guarded_and_the_record_is_named() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), 1, 6, 3);
    let text = std::fs::read_to_string(dir.path().join("audit-00000001.jsonl")).unwrap();
    let third: serde_json::Value = serde_json::from_str(text.lines().nth(2).unwrap()).unwrap();
    let mut places = Vec::new();
    leaves(&third, String::new(), &mut places);
    assert!(places.len() > 20, "{places:?}");
    for place in places {
        let (line, what) = broken_by(
            |lines| {
                let mut value: serde_json::Value = serde_json::from_str(&lines[2]).unwrap();
                let leaf = value.pointer_mut(&place).unwrap();
                *leaf = match leaf {
                    serde_json::Value::Number(_) => serde_json::json!(3),
                    serde_json::Value::String(text) if text.len() == 64 => {
                        Hash::of(text.as_bytes()).to_string().into()
                    }
                    _ => "x".into(),
                };
                lines[2] = value.to_string();
            },
            &[],
        );
        assert_eq!(line, 3, "{place}: {what}");
    }
}

/// Pointers to every value that is neither list nor object.
fn leaves(value: &serde_json::Value, at: String, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                leaves(value, format!("{at}/{name}"), found);
            }
        }
        serde_json::Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                leaves(value, format!("{at}/{index}"), found);
            }
        }
        _ => found.push(at),
    }
}

#[test]
fn removed_swapped_doubled_and_foreign_records_are_found() {
    let (line, what) = broken_by(|lines| drop(lines.remove(2)), &[]);
    assert_eq!(line, 2);
    assert!(what.contains("records after it are missing"), "{what}");
    let (line, what) = broken_by(|lines| lines.swap(2, 3), &[]);
    assert_eq!(line, 3);
    assert!(what.contains("moved"), "{what}");
    let (line, what) = broken_by(|lines| lines.insert(3, lines[2].clone()), &[]);
    assert_eq!(line, 4);
    assert!(what.contains("twice"), "{what}");
    let (line, what) = broken_by(|lines| lines.insert(3, "{}".into()), &[]);
    assert_eq!(line, 4);
    assert!(what.contains("no record"), "{what}");
    let (line, what) = broken_by(|lines| drop(lines.remove(0)), &[]);
    assert_eq!(line, 1);
    assert!(what.contains("records before it are missing"), "{what}");
}

#[test]
fn what_was_signed_cannot_be_cut_off_or_written_anew() {
    // The last record changed: only the signature knows.
    let (line, what) = broken_by(|lines| lines[5] = lines[5].replace("0.75", "0.99"), &[5]);
    assert_eq!(line, 6);
    assert!(what.contains("signed at then"), "{what}");
    let (line, what) = broken_by(|lines| lines.truncate(3), &[1, 4]);
    assert_eq!(line, 5);
    assert!(what.contains("the log ends before it"), "{what}");
    // A whole new chain of the same shape.
    let (line, _) = broken_by(
        |lines| {
            let mut last = Hash::ZERO;
            for line in lines.iter_mut() {
                let mut record: Record = serde_json::from_str(line).unwrap();
                record.prev = last;
                record.time = "2027-01-01T00:00:00Z".into();
                *line = serde_json::to_string(&record).unwrap();
                last = Hash::of(line.as_bytes());
            }
        },
        &[3],
    );
    assert_eq!(line, 4);
}

#[test]
fn a_torn_end_is_no_break_unless_it_was_signed() {
    let dir = tempfile::tempdir().unwrap();
    let heads = made(dir.path(), 1, 4, 3);
    let path = dir.path().join("audit-00000001.jsonl");
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 7]).unwrap();
    let proof = proven(dir.path(), &heads[..3]).unwrap();
    assert!(proof.torn && proof.records == 3);
    let broken = proven(dir.path(), &heads).unwrap_err();
    assert_eq!(broken.line, 4);
}

#[test]
fn a_file_that_is_missing_cut_or_empty_is_named() {
    let change = |number: u64, change: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path(), 3, 4, 3);
        change(&dir.path().join(crate::folder::name(number)));
        let broken = proven(dir.path(), &[]).unwrap_err();
        (broken.file, broken.line)
    };
    let name = |n: u64| crate::folder::name(n);
    assert_eq!(
        change(2, &|path| std::fs::remove_file(path).unwrap()),
        (name(2), 1)
    );
    assert_eq!(
        change(1, &|path| std::fs::remove_file(path).unwrap()),
        (name(2), 1)
    );
    assert_eq!(change(2, &|path| std::fs::write(path, "").unwrap()), (name(2), 1));
    let cut = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        std::fs::write(path, &text[..text.len() - 1]).unwrap();
    };
    assert_eq!(change(1, &cut), (name(1), 4));
    let short = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().take(3).collect();
        std::fs::write(path, lines.join("\n") + "\n").unwrap();
    };
    assert_eq!(change(1, &short), (name(1), 3));
}

#[test]
fn pruning_is_legitimate_where_a_record_says_so_and_enough_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let heads = made(dir.path(), 6, 2, 3);
    let proof = proven(dir.path(), &heads).unwrap();
    assert_eq!((proof.files, proof.pruned), (3, Some(3)));
    // One more removed by hand.
    std::fs::remove_file(dir.path().join(crate::folder::name(4))).unwrap();
    let broken = proven(dir.path(), &[]).unwrap_err();
    assert_eq!((broken.file, broken.line), (crate::folder::name(5), 1));
    // Two files are not enough to have pruned any, whatever a record says.
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), 3, 2, 2);
    assert!(proven(dir.path(), &[]).is_err());
}

#[test]
fn a_log_read_while_files_are_removed_is_not_broken() {
    // The third file was opened, and removed before the sixth was read, which says so.
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    made(before.path(), 5, 2, 3);
    let heads = made(after.path(), 6, 2, 3);
    let third = crate::folder::name(3);
    std::fs::copy(before.path().join(&third), after.path().join(&third)).unwrap();
    let proof = proven(after.path(), &heads).unwrap();
    assert_eq!((proof.files, proof.pruned), (4, Some(2)));
}

#[test]
fn the_newest_records_are_shown_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), 2, 3, 3);
    let ids: Vec<String> = newest(sources(dir.path()), 4)
        .unwrap()
        .into_iter()
        .map(|record| match record.event {
            Event::Loop(entry) => entry.id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, ["req-2", "req-0", "req-1", "req-2"]);
}

#[test]
fn a_line_without_end_takes_bounded_memory() {
    let source = Source {
        number: 1,
        reader: Box::new(std::io::repeat(b'x')),
    };
    let Err(VerifyError::Broken(broken)) = verify(vec![source], &[], 3) else {
        panic!()
    };
    assert!(broken.what.contains("exceeds"), "{}", broken.what);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let source = Source { number: 1, reader: Box::new(std::io::Cursor::new(bytes)) };
        let _ = verify(vec![source], &[], 3);
    }

    #[test]
    fn no_changed_byte_of_a_signed_chain_goes_unnoticed(at in 0.0..1.0_f64, bit in 0..8_u8) {
        let dir = tempfile::tempdir().unwrap();
        let heads = made(dir.path(), 1, 3, 3);
        let path = dir.path().join("audit-00000001.jsonl");
        let mut bytes = std::fs::read(&path).unwrap();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
        let index = (at * bytes.len() as f64) as usize;
        bytes[index] ^= 1 << bit;
        std::fs::write(&path, &bytes).unwrap();
        prop_assert!(proven(dir.path(), &heads[2..]).is_err());
    }
}
