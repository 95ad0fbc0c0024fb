//! `sarai-soak`: the appliance under mixed load, with disconnects, bad requests, restarts and memory pressure, for as
//! long as wanted; at the end it must be as it was. `scripts/soak` calls it, and a native test for a minute.

mod clients;
mod disturb;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sarai_tests::appliance::Appliance;
use sarai_tests::measure::arguments::Arguments;
use sarai_tests::measure::figures::{Figure, Figures, Promise};
use sarai_tests::measure::memory::{Group, Meter};
use sarai_tests::measure::mib;
use sarai_tests::model;
use sarai_wire::control::ServiceState;

use clients::Tally;
use watch::{Sample, growth};

/// Memory budget of the soak: what its tiny models need and little more, so that pressure presses.
const BUDGET: u64 = 768 << 20;
/// How long the appliance may take to be whole again after the load.
const RECOVERY: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    if let Some(end) = disturb::began_as_hog() {
        return end;
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("sarai-soak: a promised number was missed");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("sarai-soak: failed to {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let mut given = Arguments::of_program()?;
    let seconds: u64 = given.need("--seconds")?;
    let json: Option<PathBuf> = given.take("--json")?;
    given.end()?;
    ensure!(
        seconds >= 30,
        "read --seconds: growth is seen after 30 s at the earliest"
    );
    let duration = Duration::from_secs(seconds);

    let models = [model::tiny("primary")?, model::tiny("fallback")?];
    let mut appliance = Appliance::prepare(&models, &format!("[memory]\nbudget = {BUDGET}"))?;
    let group = Group::make("sarai-soak", BUDGET).map(Arc::new);
    if let Err(error) = &group {
        eprintln!("no pressure and no count of OOM kills: failed to {error:#}");
    }
    let group = group.ok();
    appliance.launch.group = group.as_ref().map(|group| group.procs());
    appliance.start()?;
    appliance.wait_ready(RECOVERY)?;
    let client = appliance.keyed()?;
    let meter = group.as_ref().map_or_else(
        || Meter::Processes(appliance.path("bin")),
        |group| Meter::Group(Arc::clone(group)),
    );

    let over = AtomicBool::new(false);
    let tally = Tally::default();
    let begin = Instant::now();
    let (samples, disturbed) = thread::scope(|scope| -> Result<(Vec<Sample>, disturb::Done)> {
        clients::start(scope, &client, &over, &tally);
        let disturbing = scope.spawn(|| disturb::until(&appliance, group.as_deref(), &over, &tally));
        let samples = watch::during(&appliance, begin + duration, &tally);
        over.store(true, Ordering::Relaxed);
        let disturbed = disturbing
            .join()
            .map_err(|_| anyhow::anyhow!("disturb: the thread panicked"))?;
        Ok((samples?, disturbed?))
    })?;
    let quiet = Instant::now();
    let whole = appliance.wait_status("every service to be ready again", RECOVERY, |status| {
        status.ready && status.services.iter().all(|s| s.state == ServiceState::Ready)
    });
    let recovery = quiet.elapsed().as_secs_f64();
    let whole = whole.and_then(|_| client.chat(&clients::short())?.ok());
    if let Err(error) = &whole {
        eprintln!("the appliance is not whole: {error:#}");
    }
    let oom_kills = group.as_ref().map(|group| group.oom_kills()).transpose()?;
    let peak = group.as_ref().and_then(|group| group.peak());

    let mut figures = Figures::default();
    figures.say(format!(
        "{seconds} s; {} answered, {} refused with a reason, {} left by their client, {} bad ones refused; {} engine \
         kills, {} restarts, {} presses of memory",
        tally.answered(),
        tally.refused(),
        tally.left(),
        tally.bad(),
        disturbed.kills,
        disturbed.restarts,
        disturbed.presses
    ));
    figures.say(format!("memory: {}", meter.source()));
    figures.say(format!(
        "{} sent once more: a restarting gateway had closed their connection before it read them",
        tally.retried()
    ));
    for lost in tally.lost() {
        figures.say(format!("lost: {lost}"));
    }
    judge(&mut figures, &samples, &tally, peak, oom_kills);
    figures.push(
        Figure::new(
            "whole again after the load",
            if whole.is_ok() { recovery } else { f64::NAN },
            "s",
        )
        .promised(Promise::AtMost(RECOVERY.as_secs_f64())),
    );
    appliance
        .stop(Duration::from_secs(60))
        .context("stop the appliance")?;
    figures.publish(json.as_deref())
}

fn judge(
    figures: &mut Figures,
    samples: &[Sample],
    tally: &Tally,
    peak: Option<u64>,
    oom_kills: Option<u64>,
) {
    let at_most =
        |name: &str, value: f64, unit, bound| Figure::new(name, value, unit).promised(Promise::AtMost(bound));
    let answered = tally.answered() + tally.refused();
    figures.push(at_most("requests lost", count(tally.lost().len()), "", 0.0));
    figures.push(
        Figure::new("requests answered or refused", count(answered), "").promised(Promise::AtLeast(20.0)),
    );
    if let Some(kills) = oom_kills {
        figures.push(at_most(
            "kernel OOM kills",
            count(usize::try_from(kills).unwrap_or(usize::MAX)),
            "",
            0.0,
        ));
    }
    if let Some(peak) = peak {
        figures.push(at_most("memory peak", mib(peak), "MiB", mib(BUDGET)));
    }
    // From the second quarter to the last: slopes over an hour, and what a short soak may find by chance.
    let hours = samples.last().map_or(0.0, |last| last.at / 3600.0);
    let note = "from the second quarter to the last";
    let mut grown = |name: &str, figure: fn(&Sample) -> f64, unit, chance: f64, slope: f64| {
        let value = growth(samples, figure);
        figures.push(at_most(name, value, unit, chance + slope * hours).noted(note));
    };
    grown(
        "growth of the supervisor's memory",
        |s| s.supervisor,
        "MiB",
        2.0,
        0.5,
    );
    grown("growth of all processes' memory", |s| s.all, "MiB", 32.0, 4.0);
    grown(
        "growth of the supervisor's descriptors",
        |s| s.descriptors,
        "",
        4.0,
        0.0,
    );
    let zombies = samples
        .windows(2)
        .filter(|pair| pair[1].zombies.iter().any(|z| pair[0].zombies.contains(z)));
    figures.push(at_most(
        "zombies older than a second",
        count(zombies.count()),
        "",
        0.0,
    ));
    let disk = samples
        .last()
        .zip(samples.first())
        .map_or(0.0, |(last, first)| last.disk - first.disk);
    // A record of the audit log and a few lines of log each; both are rotated.
    let requests = count((answered + tally.left() + tally.bad()).max(1));
    figures.push(at_most("disk a request", disk * 1024.0 / requests, "KiB", 4.0));
}

#[expect(
    clippy::cast_precision_loss,
    reason = "requests of a soak are far fewer than 2^52"
)]
fn count(number: usize) -> f64 {
    number as f64
}
