//! `sarai audit`: proves the audit log, and shows it.
//!
//! The supervisor checks the signatures of what it signed itself and hands the log's files over unread; they are read
//! here, because what is in them came from the LAN, and PID 1 parses nothing of that.

use std::fs::File;

use sarai_audit::verify::{VerifyError, newest};
use sarai_audit::{Event, Hash, Head, Limits, Loop, Proof, Record, Signed, Source, verify};
use sarai_wire::control::{Reply, Request, SignedHead};

use crate::args::AuditCommand;
use crate::control::{self, Client};
use crate::failure::Failure;
use crate::text::{clean, table};
use crate::{print, print_json, text};

/// Does what was asked.
pub fn run(client: Client, command: &AuditCommand) -> Result<(), Failure> {
    match *command {
        AuditCommand::Verify { json } => prove(client, json),
        AuditCommand::Show { lines, json } => show(client, lines as usize, json),
    }
}

/// The log as the supervisor hands it over.
struct Gathered {
    sources: Vec<Source>,
    signed: Vec<SignedHead>,
    wrong: Vec<String>,
}

fn gather(mut client: Client) -> Result<Gathered, Failure> {
    let (reply, attached) = client.request_files(&Request::Audit)?;
    let Reply::Audit { files, signed, wrong } = reply else {
        return Err(control::unexpected(&reply));
    };
    if files.len() != attached.len() {
        return Err(Failure::failed(format!(
            "take the audit log: {} files are named and {} came",
            files.len(),
            attached.len()
        )));
    }
    let sources = files
        .into_iter()
        .zip(attached)
        .map(|(number, fd)| Source {
            number,
            reader: Box::new(File::from(fd)),
        })
        .collect();
    Ok(Gathered {
        sources,
        signed,
        wrong,
    })
}

fn prove(client: Client, json: bool) -> Result<(), Failure> {
    let gathered = gather(client)?;
    if let Some(wrong) = gathered.wrong.first() {
        return Err(Failure::refused(format!(
            "the audit log is not proven: checkpoint {wrong}"
        )));
    }
    let signed = gathered
        .signed
        .into_iter()
        .map(head)
        .collect::<Result<Vec<_>, _>>()?;
    match verify(gathered.sources, &signed, Limits::default().files) {
        Ok(proof) if json => print_json(&proof),
        Ok(proof) => print(&render(&proof)),
        Err(VerifyError::Broken(broken)) => {
            if json {
                print_json(&serde_json::json!({ "broken": broken }))?;
            }
            Err(Failure::refused(format!("the audit log is broken: {broken}")))
        }
        Err(e) => Err(Failure::failed(e)),
    }
}

fn head(signed: SignedHead) -> Result<Signed, Failure> {
    let sha256 = Hash::parse(&signed.sha256)
        .ok_or_else(|| Failure::failed("understand the supervisor: a signed hash is none"))?;
    Ok(Signed {
        head: Head {
            file: signed.file,
            line: signed.line,
            sha256,
        },
        time: signed.time,
    })
}

/// The proof for a person: what holds first, then what is worth knowing.
fn render(proof: &Proof) -> String {
    let mut out = format!(
        "whole: {} records of {} Omni-Loops in {} files",
        proof.records, proof.loops, proof.files
    );
    if let (Some(from), Some(until)) = (&proof.from, &proof.until) {
        out.push_str(&format!(", {} to {}", clean(from, false), clean(until, false)));
    }
    out.push_str(&format!(
        "\nsigned: {} checkpoints hold; {} records since the last\n",
        proof.signed, proof.unsigned
    ));
    let mut note = |count: u64, text: &str| {
        if count > 0 {
            out.push_str(&format!("note: {count} {text}\n"));
        }
    };
    note(proof.lost, "records could not be written, as the log itself says");
    note(
        proof.unclean,
        "starts came without an orderly end before: what was about to be written then is missing",
    );
    note(proof.repaired, "torn ends were cut off after a power cut");
    if let Some(pruned) = proof.pruned {
        out.push_str(&format!(
            "note: files up to {pruned} were removed for being too many\n"
        ));
    }
    if proof.torn {
        out.push_str("note: the last line is not whole yet\n");
    }
    out
}

fn show(client: Client, lines: usize, json: bool) -> Result<(), Failure> {
    let records = newest(gather(client)?.sources, lines).map_err(Failure::failed)?;
    if json {
        return records.iter().try_for_each(|record| {
            let line = serde_json::to_string(record)
                .map_err(|e| Failure::failed(format!("turn a record into JSON: {e}")))?;
            print(&(line + "\n"))
        });
    }
    if records.is_empty() {
        return print("no records yet\n");
    }
    let head = [
        "TIME",
        "CLIENT",
        "REQUEST",
        "MODEL",
        "TAKEN",
        "SURE",
        "WHAT HAPPENED",
    ];
    let rows = records.iter().map(row).collect();
    print(&table(&head, rows, text::Paint::stdout()))
}

/// A record as a row of the table, whose texts `table` cleans.
fn row(record: &Record) -> Vec<String> {
    let lost = match record.lost {
        0 => String::new(),
        lost => format!("; {lost} records lost before"),
    };
    let time = record.time.clone();
    let told = |what: String| {
        let empty = String::new;
        vec![
            time.clone(),
            empty(),
            empty(),
            empty(),
            empty(),
            empty(),
            what + &lost,
        ]
    };
    match &record.event {
        Event::Loop(entry) => vec![
            time.clone(),
            entry.client.clone(),
            entry.id.clone(),
            entry.model.clone().unwrap_or_default(),
            entry.chosen.map_or(String::new(), |chosen| {
                format!("{chosen} of {}", entry.steps.len())
            }),
            entry
                .confidence
                .map_or(String::new(), |sure| format!("{sure:.2}")),
            happened(entry) + &lost,
        ],
        Event::Start { version } => told(format!("the gateway {version} started")),
        Event::Stop => told("the gateway ended in order".to_owned()),
        Event::Lost => told("there is room again".to_owned()),
        Event::Repaired { file, bytes, .. } => told(format!("{bytes} torn bytes were cut off file {file}")),
        Event::Pruned { file, .. } => told(format!("file {file} was removed for being too many")),
    }
}

fn happened(entry: &Loop) -> String {
    let mut parts = Vec::new();
    if let Some(failed) = &entry.failed {
        parts.push(format!("no answer: {failed}"));
    }
    parts.extend(entry.stopped.clone());
    let found: usize = entry.steps.iter().map(|step| step.findings.len()).sum();
    if found > 0 {
        parts.push(format!("{found} findings"));
    }
    parts.extend(entry.fallback.as_ref().map(|why| format!("fallback: {why}")));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_says_what_holds_and_what_is_worth_knowing() {
        let whole = Proof {
            files: 1,
            records: 3,
            loops: 1,
            signed: 2,
            ..Proof::default()
        };
        assert_eq!(
            render(&whole),
            "whole: 3 records of 1 Omni-Loops in 1 files\nsigned: 2 checkpoints hold; 0 records since the last\n"
        );
        let noted = Proof {
            lost: 4,
            unclean: 1,
            pruned: Some(7),
            torn: true,
            ..whole
        };
        let text = render(&noted);
        for part in ["note: 4 records", "note: 1 starts", "up to 7", "not whole yet"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_row_tells_a_loop_without_what_was_said() {
        let record = Record {
            prev: Hash::ZERO,
            time: "2026-01-01T00:00:00Z".into(),
            lost: 2,
            event: Event::Loop(Box::new(Loop {
                id: "req-1".into(),
                client: "first".into(),
                chosen: Some(1),
                confidence: Some(0.5),
                stopped: Some("limit".into()),
                fallback: Some("silent".into()),
                ..Loop::default()
            })),
        };
        let row = row(&record);
        assert_eq!(row[6], "limit, fallback: silent; 2 records lost before");
        assert_eq!((row[4].as_str(), row[5].as_str()), ("1 of 0", "0.50"));
    }
}
