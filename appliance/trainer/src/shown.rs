//! Progress for people: a bar on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sarai_wire::training::{Ended, FromTrainer, Outcome, Progress};

/// Time between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// What is shown.
pub struct Shown {
    bar: Option<ProgressBar>,
    terminal: bool,
    line: Option<Instant>,
}

impl Shown {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            bar: None,
            terminal: io::stderr().is_terminal(),
            line: None,
        }
    }

    /// Shows a message.
    pub fn show(&mut self, message: &FromTrainer) {
        match message {
            FromTrainer::Ready(ready) => {
                self.say(&format!(
                    "{} examples, {} held out, {} tokens to learn an epoch, {} parameters, {} steps{}{}",
                    ready.examples,
                    ready.held_out,
                    ready.targets,
                    ready.parameters,
                    ready.steps,
                    if ready.continued { ", from an adapter" } else { "" },
                    match ready.resumed {
                        0 => String::new(),
                        step => format!(", going on from step {step}"),
                    }
                ));
                if ready.cut + ready.dropped > 0 {
                    self.say(&format!(
                        "{} examples were cut, {} left out",
                        ready.cut, ready.dropped
                    ));
                }
                if self.terminal {
                    let bar = ProgressBar::new(ready.steps).with_position(ready.resumed);
                    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
                        bar.set_style(style);
                    }
                    self.bar = Some(bar);
                }
            }
            FromTrainer::Progress(progress) => self.progress(progress),
            FromTrainer::Note { text } => self.say(text),
            FromTrainer::Done(outcome) => {
                self.end();
                self.say(&result(outcome));
            }
            FromTrainer::Pong { .. }
            | FromTrainer::Stopped { .. }
            | FromTrainer::Failed { .. }
            | FromTrainer::Merging(_)
            | FromTrainer::Merged(_) => {}
        }
    }

    fn progress(&mut self, progress: &Progress) {
        let text = described(progress);
        if let Some(bar) = &self.bar {
            bar.set_position(progress.step);
            bar.set_message(text);
        } else if self.line.is_none_or(|at| at.elapsed() >= PAUSE) || progress.step == progress.steps {
            self.line = Some(Instant::now());
            self.say(&format!("step {} of {}, {text}", progress.step, progress.steps));
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => {
                let _ = writeln!(io::stderr(), "{text}");
            }
        }
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn described(progress: &Progress) -> String {
    let mut text = format!("epoch {}", progress.epoch);
    for (name, loss) in [
        ("loss", progress.loss),
        ("held out", progress.held_out),
        ("best", progress.best),
        ("drift", progress.drift),
    ] {
        if let Some(loss) = loss {
            text += &format!(", {name} {loss:.3}");
        }
    }
    text + &format!(
        ", {:.0} tokens/s, {:.0} s left",
        progress.tokens_per_second, progress.eta_seconds
    )
}

fn result(outcome: &Outcome) -> String {
    let why = match outcome.ended {
        Ended::Finished => "all steps done",
        Ended::Patience => "no better for a while",
        Ended::Time => "time used up",
    };
    let held_out = match (outcome.held_out_before, outcome.held_out) {
        (Some(before), Some(after)) => format!(", held out {before:.3} -> {after:.3}"),
        _ => String::new(),
    };
    format!(
        "{why}: step {} of {} kept{held_out}, loss {:.3}, {:.0} tokens/s, {:.0} s\n{}  {} bytes",
        outcome.best_step,
        outcome.steps,
        outcome.loss,
        outcome.tokens_per_second,
        outcome.seconds,
        outcome.sha256,
        outcome.size
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_shown() {
        let mut progress = Progress {
            step: 3,
            steps: 9,
            epoch: 1,
            loss: None,
            held_out: Some(2.0),
            best: None,
            drift: None,
            tokens_per_second: 99.6,
            eta_seconds: 12.2,
        };
        assert_eq!(
            described(&progress),
            "epoch 1, held out 2.000, 100 tokens/s, 12 s left"
        );
        progress.loss = Some(1.5);
        progress.best = Some(1.75);
        let expected = "epoch 1, loss 1.500, held out 2.000, best 1.750, 100 tokens/s, 12 s left";
        assert_eq!(described(&progress), expected);
    }
}
