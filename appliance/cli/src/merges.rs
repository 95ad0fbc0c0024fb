//! `sarai adapters merge` and `merged`: an adapter made part of its base, to be taken away.

use std::io::{IsTerminal, Write};

use sarai_wire::control::{Reply, Request};
use sarai_wire::merge::{MergeEnd, MergeNow, MergeResult, MergeStage, MergeStatus, MergedModel};

use crate::args::MergedCommand;
use crate::control::{self, Client};
use crate::failure::{Failure, Kind};
use crate::text::{Paint, clean, size, table};
use crate::training::{LOOK, PATIENCE, say};
use crate::{adapters, print, print_json};

/// Has an adapter merged.
pub fn merge(
    mut client: Client,
    name: Option<String>,
    id: Option<String>,
    wait: bool,
    json: bool,
) -> Result<(), Failure> {
    let begun = ask(&mut client, &Request::AdaptersMerge { name, id })?;
    if !wait {
        return if json {
            print_json(&begun)
        } else {
            let text = match &begun.now {
                Some(now) => format!("{} is being merged; see: sarai adapters merged\n", of(now)),
                None => render(&begun, Paint::stdout()),
            };
            print(&text)
        };
    }
    let status = until_its_end(client, begun)?;
    let Some(ended) = &status.last else {
        return Err(Failure::failed(
            "hear how the merge ended; see: sarai logs supervisor",
        ));
    };
    if json {
        print_json(&status)?;
    } else {
        print(&format!("{}\n", sentence(ended, Paint::stdout())))?;
    }
    match ended.result {
        MergeResult::Failed { .. } => Err(Failure::refused("the merge failed")),
        MergeResult::Merged { .. } => Ok(()),
    }
}

/// What is kept, or what is to be done with one.
pub fn merged(mut client: Client, json: bool, command: Option<MergedCommand>) -> Result<(), Failure> {
    match command {
        None => {
            let status = list(&mut client)?;
            if json {
                print_json(&status)
            } else {
                print(&render(&status, Paint::stdout()))
            }
        }
        Some(MergedCommand::Export { merged }) => {
            adapters::export(client, &Request::MergedExport { id: merged }, "merged export")
        }
        Some(MergedCommand::Remove { merged }) => {
            ask(&mut client, &Request::MergedRemove { id: merged.clone() })?;
            print(&format!("{} removed\n", clean(&merged, false)))
        }
    }
}

/// What is known of merges.
pub fn list(client: &mut Client) -> Result<MergeStatus, Failure> {
    ask(client, &Request::MergedList)
}

fn ask(client: &mut Client, request: &Request) -> Result<MergeStatus, Failure> {
    match client.request(request)? {
        Reply::Merges(status) => Ok(*status),
        other => Err(control::unexpected(&other)),
    }
}

/// Waits for the merge that was begun, saying what it is at, and gives what is known then. Of a supervisor that began
/// anew meanwhile, nothing is.
fn until_its_end(mut client: Client, begun: MergeStatus) -> Result<MergeStatus, Failure> {
    let Some(began) = begun.now.as_ref().map(|now| now.began.clone()) else {
        return Ok(begun);
    };
    let terminal = std::io::stderr().is_terminal();
    let (mut shown, mut lost) = (String::new(), 0);
    let mut status = begun;
    loop {
        match &status.now {
            Some(now) if now.began == began => say(&stage(now), &mut shown, terminal),
            _ => break,
        }
        std::thread::sleep(LOOK);
        match list(&mut client) {
            Ok(now) => (status, lost) = (now, 0),
            Err(failure) if failure.kind == Kind::NotReady && lost < PATIENCE => lost += 1,
            Err(failure) => return Err(failure),
        }
    }
    if terminal {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    status.last = status.last.filter(|last| last.began == began);
    Ok(status)
}

fn of(now: &MergeNow) -> String {
    let name = now.id.as_ref().unwrap_or(&now.adapter);
    clean(name, false)
}

/// What a merge is at.
pub fn stage(now: &MergeNow) -> String {
    match now.stage {
        MergeStage::Verifying => "verifies what is to be merged".to_owned(),
        MergeStage::Merging { progress, paused } => {
            let pause = if paused {
                " (paused for requests or memory)"
            } else {
                ""
            };
            let part = progress.written.saturating_mul(100) / progress.all.max(1);
            let whole = match progress.all {
                0 => String::new(),
                all => format!(" of {}", size(all)),
            };
            format!("merges{pause}: {}, {part} %{whole}", of(now))
        }
        MergeStage::Attesting => format!("attests the merged model: {}", of(now)),
    }
}

fn sentence(end: &MergeEnd, paint: Paint) -> String {
    match &end.result {
        MergeResult::Merged { id, outcome } => format!(
            "{} after {} s: {}, {}, {} weights updated, {:.1} % of the update lost by rounding",
            paint.good("merged"),
            end.seconds,
            clean(id, false),
            size(outcome.size),
            outcome.tensors,
            100.0 * outcome.lost
        ),
        MergeResult::Failed { reason } => format!(
            "{} after {} s: failed to {}",
            paint.bad("failed"),
            end.seconds,
            clean(reason, false)
        ),
    }
}

fn render(status: &MergeStatus, paint: Paint) -> String {
    let mut out = String::new();
    if let Some(now) = &status.now {
        out.push_str(&format!("now   {}\n", paint.busy(&clean(&stage(now), false))));
    }
    if let Some(last) = &status.last {
        out.push_str(&format!("last  {}\n", sentence(last, paint)));
    }
    if status.models.is_empty() {
        out.push_str("no merged models\n");
        return out;
    }
    let row = |model: &MergedModel| {
        vec![
            model.id.clone(),
            model.version.clone(),
            size(model.size),
            model.digest.get(..12).unwrap_or(&model.digest).to_owned(),
            model.signer.clone(),
        ]
    };
    let heading = ["MODEL", "VERSION", "SIZE", "DIGEST", "SIGNED BY"];
    out.push_str(&table(&heading, status.models.iter().map(row).collect(), paint));
    out.push_str("none is loaded here; take one away with: sarai adapters merged export MODEL >MODEL.tar\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use sarai_wire::merge::{MergeOutcome, Merging};

    fn now(stage: MergeStage) -> MergeNow {
        MergeNow {
            id: Some("m-\u{1b}a".into()),
            adapter: "a".into(),
            began: "2026-01-02T02:00:00Z".into(),
            stage,
        }
    }

    #[test]
    fn what_runs_what_was_and_what_is_kept_is_told() {
        let merging = |written, all, paused| {
            stage(&now(MergeStage::Merging {
                progress: Merging { written, all },
                paused,
            }))
        };
        assert_eq!(
            merging(25 << 20, 100 << 20, true),
            "merges (paused for requests or memory): m-\u{fffd}a, 25 % of 100 MiB"
        );
        assert_eq!(merging(0, 0, false), "merges: m-\u{fffd}a, 0 %");
        assert_eq!(merging(u64::MAX, 1, false).matches('%').count(), 1);
        let mut status = MergeStatus {
            now: Some(now(MergeStage::Attesting)),
            last: Some(MergeEnd {
                adapter: "a".into(),
                began: String::new(),
                seconds: 4,
                result: MergeResult::Failed {
                    reason: "merge: \u{1b}it broke".into(),
                },
            }),
            models: vec![MergedModel {
                id: "m-b".into(),
                version: "1+2".into(),
                size: 2_000_000_000,
                digest: "ab".repeat(32),
                signer: "F00D".into(),
            }],
        };
        let text = render(&status, Paint::off());
        for wanted in [
            "now   attests the merged model: m-\u{fffd}a",
            "last  failed after 4 s: failed to merge: \u{fffd}it broke",
            "m-b",
            "1+2",
            "abababababab ",
            "F00D",
            "sarai adapters merged export",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is missing in:\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
        status.models.clear();
        status.now = None;
        status.last = Some(MergeEnd {
            adapter: "a".into(),
            began: String::new(),
            seconds: 4,
            result: MergeResult::Merged {
                id: "m-a".into(),
                outcome: MergeOutcome {
                    tensors: 24,
                    lost: 0.0042,
                    size: 1 << 20,
                    sha256: String::new(),
                },
            },
        });
        assert_eq!(
            render(&status, Paint::off()),
            "last  merged after 4 s: m-a, 1 MiB, 24 weights updated, 0.4 % of the update lost by rounding\n\
             no merged models\n"
        );
    }
}
