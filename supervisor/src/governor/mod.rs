//! Keeps the appliance inside its memory budget by giving up quality in steps, and takes it back when there is room.
//!
//! [`ladder`] decides, and is pure; [`sample`] says what a look at the memory means, [`terms`] what each rung is on
//! this machine. [`sensor`] looks ([`files`], [`psi`]), [`actuator`] carries out, [`book`] is what everybody else may
//! know. Should all of this fail, the kernel still holds the budget by `memory.max`.

use std::pin::Pin;
use std::time::Instant;

use jiff::Timestamp;
use sarai_wire::control::MoveStatus;
use sarai_wire::memory::Rung;

use crate::app::App;
use crate::logs::Logs;
use actuator::{Act, Outcome, Plan};
use book::Book;
use ladder::{Ladder, Move, Why};
use sample::Bytes;
use sensor::Sense;
use terms::Terms;
use trace::{Entry, Trace};

pub mod actuator;
pub mod book;
pub mod files;
pub mod ladder;
pub mod psi;
pub mod sample;
pub mod sensor;
pub mod terms;
pub mod trace;

#[cfg(test)]
mod tests;

/// Governs until the supervisor ends.
pub async fn run(app: App) {
    let sensor = sensor::House::new(&app);
    let actuator = actuator::House::new(&app);
    govern(&app.ladder, &app.logs, sensor, actuator, trace(&app)).await;
}

/// Where the admin wants one.
fn trace(app: &App) -> Trace {
    if !app.config.memory_trace {
        return Trace::off();
    }
    Trace::into(&app.layout.log()).unwrap_or_else(|e| {
        app.logs.say(&format!("memory: no trace is written: {e}"));
        Trace::off()
    })
}

/// A move under way.
struct Under<'a> {
    made: MoveStatus,
    terms: Terms,
    begun: Instant,
    work: Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>,
}

/// Samples, decides, and has moves carried out; goes on where the book says that the ladder stands.
pub async fn govern<S: Sense, A: Act>(
    book: &Book,
    logs: &Logs,
    mut sensor: S,
    actuator: A,
    mut trace: Trace,
) {
    trace.add(Entry::Begun {
        at: sensor.now(),
        time: Timestamp::now().to_string(),
        rung: book.rung(),
    });
    let mut ladder = Ladder::at(book.rung(), sensor.now());
    let mut under_way: Option<Under<'_>> = None;
    if book.rung() != Rung::Normal {
        // This task has begun anew: nobody knows how far the last move came.
        let plan = Plan {
            from: book.rung(),
            to: book.rung(),
            may_stop: book.stopped(),
        };
        actuator.carry(plan).await;
    }
    loop {
        let sample = tokio::select! {
            biased;
            outcome = ended(&mut under_way) => {
                let now = sensor.now();
                trace.add(Entry::End { at: now, replaced: false, measured: outcome.measured });
                if let Some(under) = under_way.take() {
                    finish(book, logs, under, outcome);
                }
                ladder.done(now);
                continue;
            }
            sample = sensor.next() => sample,
        };
        if book.ended() {
            return;
        }
        book.sensed(&sensor.how());
        let terms = book.look(sample, actuator.fallback_serves());
        let now = sensor.now();
        trace.look(now, &sample, &terms);
        let Some(decided) = ladder.decide(now, &sample, &terms) else {
            continue;
        };
        if let Some(under) = under_way.take() {
            let cut = Outcome {
                measured: None,
                trouble: vec![format!("the move to {} took its place", decided.to.name())],
            };
            trace.add(Entry::End {
                at: now,
                replaced: true,
                measured: None,
            });
            finish(book, logs, under, cut);
        }
        trace.add(Entry::of(&decided));
        under_way = Some(begin(book, logs, &actuator, &decided, terms));
    }
}

/// The end of the move under way; never without one.
async fn ended(under_way: &mut Option<Under<'_>>) -> Outcome {
    match under_way {
        Some(under) => under.work.as_mut().await,
        None => std::future::pending().await,
    }
}

fn begin<'a, A: Act>(book: &Book, logs: &Logs, actuator: &'a A, decided: &Move, terms: Terms) -> Under<'a> {
    let Move {
        from,
        to,
        why,
        predicted,
    } = *decided;
    let reason = why.to_string();
    let doing = match why {
        Why::Pressure(_) => "free",
        Why::Calm(..) => "take",
    };
    logs.say(&format!(
        "memory: {} -> {}: {reason}; expected to {doing} {}",
        from.name(),
        to.name(),
        Bytes(predicted)
    ));
    book.stand(to, &reason);
    let stop = terms[Rung::Fallback as usize];
    let plan = Plan {
        from,
        to,
        may_stop: stop.exists || stop.skipped,
    };
    Under {
        made: MoveStatus {
            time: Timestamp::now().to_string(),
            from,
            to,
            reason,
            predicted,
            measured: None,
            took_ms: 0,
            trouble: Vec::new(),
        },
        terms,
        begun: Instant::now(),
        work: Box::pin(actuator.carry(plan)),
    }
}

fn finish(book: &Book, logs: &Logs, under: Under<'_>, outcome: Outcome) {
    let Under {
        mut made,
        terms,
        begun,
        ..
    } = under;
    let took = begun.elapsed();
    made.took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    made.measured = outcome.measured;
    made.trouble = outcome.trouble;
    let doing = if made.to > made.from { "freed" } else { "took" };
    let measured = made
        .measured
        .map_or("an unknown amount".to_owned(), |bytes| Bytes(bytes).to_string());
    logs.say(&format!(
        "memory: at {}: {doing} {measured} in {:.1} s{}",
        made.to.name(),
        took.as_secs_f64(),
        made.trouble
            .iter()
            .map(|why| format!("; {why}"))
            .collect::<String>()
    ));
    book.moved(made, &terms);
}
