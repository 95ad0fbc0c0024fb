//! `sarai training`: the nights that teach. Begun by hand, turned on and off, and how they went.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use sarai_wire::control::{Reply, Request};
use sarai_wire::night::{Examples, Night, NightResult, NightStage, TrainingStatus};
use sarai_wire::training::Progress;

use crate::args::TrainingCommand;
use crate::control::{self, Client};
use crate::failure::{Failure, Kind};
use crate::text::{Paint, clean, painted_table};
use crate::{merges, print, print_json};

/// Time between two looks at a night or a merge that runs.
pub const LOOK: Duration = Duration::from_millis(500);
/// Failures to reach the supervisor in a row after which nobody waits any longer.
pub const PATIENCE: u32 = 20;

/// Does what was asked.
pub fn run(mut client: Client, command: &TrainingCommand) -> Result<(), Failure> {
    match command {
        TrainingCommand::Status { json } => {
            let status = ask(&mut client, &Request::TrainingStatus)?;
            if *json {
                print_json(&status)
            } else {
                print(&render(&status, Paint::stdout()))
            }
        }
        TrainingCommand::Run { wait } => {
            let begun = ask(&mut client, &Request::TrainingRun)?;
            if *wait {
                until_its_end(client, &begun)
            } else {
                print("a night begins; see: sarai training status\n")
            }
        }
        TrainingCommand::On => {
            let status = ask(&mut client, &Request::TrainingOn)?;
            let next = status.next.as_deref().unwrap_or("not known");
            print(&format!(
                "nights are on; the next one begins {}\n",
                clean(next, false)
            ))
        }
        TrainingCommand::Off => {
            let status = ask(&mut client, &Request::TrainingOff)?;
            let ending = if status.now == NightStage::Idle {
                ""
            } else {
                "; the one that runs is ending"
            };
            print(&format!("nights are off{ending}\n"))
        }
    }
}

fn ask(client: &mut Client, request: &Request) -> Result<TrainingStatus, Failure> {
    match client.request(request)? {
        Reply::Training(status) => Ok(*status),
        other => Err(control::unexpected(&other)),
    }
}

/// Waits for the night that runs, saying what it is at, and prints how it ended.
fn until_its_end(mut client: Client, begun: &TrainingStatus) -> Result<(), Failure> {
    let before = begun.nights.first().map(|night| night.began.clone());
    let terminal = std::io::stderr().is_terminal();
    let mut shown = String::new();
    let mut lost = 0;
    let ended = loop {
        match ask(&mut client, &Request::TrainingStatus) {
            Ok(status) if status.now == NightStage::Idle => {
                if terminal {
                    let _ = write!(std::io::stderr(), "\r\x1b[K");
                }
                // Several in a row, or none where its memory was lost with the disk.
                break status
                    .nights
                    .into_iter()
                    .next()
                    .filter(|night| Some(&night.began) != before.as_ref());
            }
            Ok(status) => {
                lost = 0;
                say(&stage(&status.now), &mut shown, terminal);
            }
            Err(failure) if failure.kind == Kind::NotReady && lost < PATIENCE => lost += 1,
            Err(failure) => return Err(failure),
        }
        std::thread::sleep(LOOK);
    };
    let Some(ended) = ended else {
        return Err(Failure::failed(
            "hear how the night ended; see: sarai logs supervisor",
        ));
    };
    print(&format!("{}\n", sentence(&ended, Paint::stdout())))?;
    match ended.result {
        NightResult::Failed { .. } => Err(Failure::refused("the night failed")),
        _ => Ok(()),
    }
}

/// On a terminal the line changes; elsewhere each stage is a line, without its figures.
pub fn say(text: &str, shown: &mut String, terminal: bool) {
    let mut err = std::io::stderr();
    if terminal {
        let _ = write!(err, "\r\x1b[K{text}");
        let _ = err.flush();
        return;
    }
    let word = text.split(':').next().unwrap_or(text);
    if word != shown {
        word.clone_into(shown);
        let _ = writeln!(err, "{word}");
    }
}

fn stage(stage: &NightStage) -> String {
    match stage {
        NightStage::Idle => "nothing runs".to_owned(),
        NightStage::Choosing => "chooses what is learnt".to_owned(),
        NightStage::Training {
            progress: None,
            paused,
        } => format!("trains{}", pause(*paused)),
        NightStage::Training {
            progress: Some(progress),
            paused,
        } => format!("trains{}: {}", pause(*paused), figures(progress)),
        NightStage::Measuring => "measures the new adapter".to_owned(),
        NightStage::Applying => "puts the new adapter to use, or away".to_owned(),
    }
}

fn pause(paused: bool) -> &'static str {
    if paused {
        " (paused for requests or memory)"
    } else {
        ""
    }
}

fn figures(progress: &Progress) -> String {
    let loss =
        |name: &str, loss: Option<f64>| loss.map_or_else(String::new, |loss| format!(", {name} {loss:.3}"));
    format!(
        "step {} of {}{}{}, {:.0} tokens/s, {} left",
        progress.step,
        progress.steps,
        loss("loss", progress.loss),
        loss("held-out loss", progress.held_out),
        progress.tokens_per_second,
        time(progress.eta_seconds)
    )
}

fn time(seconds: f64) -> String {
    // Bounded: whoever counts more than days has other worries.
    let minutes = (seconds.clamp(0.0, 1e7) / 60.0).ceil();
    if minutes < 120.0 {
        format!("{minutes:.0} min")
    } else {
        format!("{:.1} h", minutes / 60.0)
    }
}

/// How a night ended, and by what.
fn result(night: &Night) -> (&'static str, String) {
    let (word, what) = match &night.result {
        NightResult::Applied { adapter } => ("applied", format!("{adapter} is in use")),
        NightResult::Rejected { adapter, reason } => ("rejected", format!("{adapter}: {reason}")),
        NightResult::Skipped { reason } => ("skipped", reason.clone()),
        NightResult::Failed { reason, resumes } => {
            let next = if *resumes { "; the next one goes on" } else { "" };
            ("failed", format!("failed to {reason}{next}"))
        }
    };
    let what = match &night.later {
        Some(later) => format!("{what}; {later}"),
        None => what,
    };
    (word, what)
}

/// What a night learnt from: how many examples, and how many of them are not whole or not there.
fn learnt(night: &Night) -> String {
    let Some(examples) = &night.examples else {
        return String::new();
    };
    let Examples {
        train,
        held_out,
        replay,
        shortened,
        cut,
        long,
        refused,
    } = *examples;
    let mut text = format!("{train} + {replay}, {held_out} held out");
    for (count, what) in [
        (shortened, "shortened"),
        (cut, "of them with their answer"),
        (long, "too long"),
        (refused, "refused by the template"),
    ] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    text
}

/// What the gate measured: held-out loss, general loss, right answers.
fn gate(night: &Night) -> String {
    let Some(figures) = &night.figures else {
        return String::new();
    };
    let (before, after) = (&figures.before, &figures.after);
    let mean = |mean: Option<f64>| mean.map_or_else(|| "?".to_owned(), |mean| format!("{mean:.3}"));
    format!(
        "{} to {}, {} to {}, {} to {} of {}",
        mean(before.held_out.mean()),
        mean(after.held_out.mean()),
        mean(before.general.mean()),
        mean(after.general.mean()),
        before.right,
        after.right,
        after.asked
    )
}

fn sentence(night: &Night, paint: Paint) -> String {
    let (word, what) = result(night);
    let word = coloured(word, paint);
    let gate = match gate(night) {
        gate if gate.is_empty() => gate,
        gate => format!(" (held-out loss, general loss, right answers: {gate})"),
    };
    format!("{word} after {} s: {}{gate}", night.seconds, clean(&what, false))
}

fn coloured(word: &str, paint: Paint) -> String {
    match word.trim_end() {
        "applied" => paint.good(word),
        "failed" => paint.bad(word),
        "rejected" => paint.busy(word),
        _ => word.to_owned(),
    }
}

/// Whether they are on, and when the next one begins.
fn on(status: &TrainingStatus) -> String {
    match (&status.next, status.enabled) {
        (Some(next), true) => format!("on, the next one begins {}", clean(next, false)),
        (None, true) => "on".to_owned(),
        (_, false) => "off; turn them on with: sarai training on".to_owned(),
    }
}

/// The nights in one line: what runs, or how the last one ended, or when the next one begins.
pub fn line(status: &TrainingStatus, paint: Paint) -> String {
    if status.now != NightStage::Idle {
        return paint.busy(&clean(&stage(&status.now), false));
    }
    if let Some(merge) = &status.merge {
        return paint.busy(&clean(&merges::stage(merge), false));
    }
    let last = status.nights.first().map_or_else(String::new, |night| {
        let (word, what) = result(night);
        format!(
            "; the last one: {}, {}",
            coloured(word, paint),
            clean(&what, false)
        )
    });
    format!("{}{last}", on(status))
}

/// The nights for people: what is, what comes, what was.
fn render(status: &TrainingStatus, paint: Paint) -> String {
    let on = on(status);
    let counts = &status.counts;
    let now = match (&status.now, &status.merge) {
        (NightStage::Idle, Some(merge)) => merges::stage(merge),
        (now, _) => stage(now),
    };
    let mut out = format!(
        "nights  {on}\nnow     {}\nso far  {} applied, {} rejected, {} skipped, {} failed; {} taken back\n",
        clean(&now, false),
        counts.applied,
        counts.rejected,
        counts.skipped,
        counts.failed,
        counts.taken_back
    );
    if status.nights.is_empty() {
        return out;
    }
    let row = |night: &Night| {
        let (word, what) = result(night);
        vec![
            night.began.clone(),
            format!("{} s", night.seconds),
            word.to_owned(),
            learnt(night),
            gate(night),
            what,
        ]
    };
    let heading = [
        "BEGAN",
        "TOOK",
        "RESULT",
        "EXAMPLES",
        "HELD-OUT, GENERAL, RIGHT",
        "WHY",
    ];
    out.push('\n');
    out.push_str(&painted_table(
        &heading,
        status.nights.iter().map(row).collect(),
        paint,
        |_, column, text| match column {
            2 => coloured(&text, paint),
            _ => text,
        },
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use sarai_wire::night::{GateFigures, Likelihood, Measured, NightCounts};

    fn night(result: NightResult, figures: Option<GateFigures>) -> Night {
        Night {
            began: "2026-01-02T02:00:00Z".into(),
            seconds: 90,
            result,
            examples: None,
            figures,
            later: None,
        }
    }

    fn measured(mean: f64) -> Measured {
        let likelihood = Likelihood {
            nll: mean * 10.0,
            tokens: 10,
            texts: 1,
        };
        Measured {
            held_out: likelihood,
            general: likelihood,
            asked: 20,
            right: 18,
            seconds: 1.0,
        }
    }

    #[test]
    fn the_table_says_how_each_night_ended_and_why() {
        let figures = GateFigures {
            before: measured(2.5),
            after: measured(1.25),
        };
        let mut applied = night(
            NightResult::Applied {
                adapter: "night-1".into(),
            },
            Some(figures),
        );
        applied.later = Some("taken back by itself".into());
        applied.examples = Some(Examples {
            train: 12,
            held_out: 3,
            replay: 4,
            shortened: 5,
            cut: 1,
            long: 2,
            refused: 0,
        });
        let status = TrainingStatus {
            enabled: true,
            next: Some("2026-01-03T02:00:00+01:00".into()),
            now: NightStage::Training {
                progress: Some(Progress {
                    step: 3,
                    steps: 9,
                    epoch: 1,
                    loss: Some(1.5),
                    held_out: None,
                    best: None,
                    drift: None,
                    tokens_per_second: 81.0,
                    eta_seconds: 600.0,
                }),
                paused: true,
            },
            nights: vec![
                night(
                    NightResult::Skipped {
                        reason: "3 new \u{1b}[31mexamples".into(),
                    },
                    None,
                ),
                night(
                    NightResult::Failed {
                        reason: "train: signal SIGKILL".into(),
                        resumes: true,
                    },
                    None,
                ),
                applied,
            ],
            counts: NightCounts {
                applied: 1,
                skipped: 4,
                ..NightCounts::default()
            },
            merge: None,
        };
        let text = render(&status, Paint::off());
        for wanted in [
            "on, the next one begins 2026-01-03T02:00:00+01:00",
            "trains (paused for requests or memory): step 3 of 9, loss 1.500, 81 tokens/s, 10 min left",
            "1 applied, 0 rejected, 4 skipped, 0 failed; 0 taken back",
            "2.500 to 1.250, 2.500 to 1.250, 18 to 18 of 20",
            "12 + 4, 3 held out, 5 shortened, 1 of them with their answer, 2 too long  2.500",
            "night-1 is in use; taken back by itself",
            "failed to train: signal SIGKILL; the next one goes on",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is missing in:\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
        let off = TrainingStatus {
            enabled: false,
            next: None,
            now: NightStage::Idle,
            nights: vec![],
            counts: NightCounts::default(),
            merge: None,
        };
        let text = render(&off, Paint::off());
        assert!(
            text.contains("off; turn them on") && text.contains("nothing runs"),
            "{text}"
        );
        assert!(line(&off, Paint::off()).starts_with("off;"));
        assert!(line(&status, Paint::off()).starts_with("trains (paused"));
        let idle = TrainingStatus {
            now: NightStage::Idle,
            ..status
        };
        assert!(line(&idle, Paint::off()).ends_with("; the last one: skipped, 3 new \u{fffd}[31mexamples"));
    }

    #[test]
    fn times_are_short() {
        assert_eq!(time(0.0), "0 min");
        assert_eq!(time(61.0), "2 min");
        assert_eq!(time(9000.0), "2.5 h");
        assert_eq!(time(f64::INFINITY), "2777.8 h");
    }
}
