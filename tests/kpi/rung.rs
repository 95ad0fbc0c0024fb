//! One rung: the appliance started anew with its settings, asked, and what that took.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sarai_tests::appliance::Appliance;
use sarai_tests::client::Client;
use sarai_tests::measure::memory::{Group, Meter, Sampler, forget};
use sarai_tests::measure::{gib, median, quantile};
use sarai_tests::model::Artifact;
use sarai_wire::control::ServiceState;

use crate::queries::{Conversation, Sample};

/// Longest a start may take: two gigabytes are read and hashed.
const START: Duration = Duration::from_secs(300);

/// How the appliance is set for a rung.
pub struct Rung<'a> {
    /// Its name in the table.
    pub name: String,
    /// Context of a request, tokens.
    pub context: u32,
    /// Models it has.
    pub models: &'a [Artifact],
    /// The CPUs it may use.
    pub cpus: &'a [usize],
    /// Queries, one after the other.
    pub queries: usize,
    /// Queries by several clients at once.
    pub load: usize,
}

/// What a rung took.
pub struct Measured {
    /// How memory was measured.
    pub source: String,
    /// Seconds from the start to every engine ready.
    pub start: f64,
    /// Memory while it was asked, GiB.
    pub memory: Vec<f64>,
    /// The most memory ever billed, GiB.
    pub peak: f64,
    /// Processes the kernel ended; `None` where it is not known.
    pub oom_kills: Option<u64>,
    /// Queries one after the other.
    pub samples: Vec<Sample>,
    /// Queries under load.
    pub load: Option<Load>,
}

/// Clients at once: more than the engine has slots.
const CLIENTS: usize = 3;

/// The engine's time under load, milliseconds.
pub struct Load {
    /// From the first query sent to the last answered.
    pub wall: f64,
    /// Of that, with at least one query in the engine.
    pub busy: f64,
    /// Of that, reading again what had been read.
    pub again: f64,
    /// Share of the busy time in which answers were decoded.
    pub decoding: f64,
    /// Processor time of the engine over wall clock and its CPUs.
    pub processor: f64,
}

impl Load {
    /// Share of the time in which the engine read something new or wrote.
    pub fn utilisation(&self) -> f64 {
        (self.busy - self.again) / self.wall
    }
}

/// Starts, asks, stops.
pub fn measure(appliance: &mut Appliance, rung: &Rung<'_>, budget: u64) -> Result<Measured> {
    appliance.write_manifest(rung.models)?;
    appliance.write_settings(&format!(
        "[engine]\ncontext = {}\nstartup_s = 300\nsilence_s = 60\n[gateway]\nprimary_silence_ms = 120000\n\
         iteration_timeout_s = 280\ndeadline_s = 280\n[memory]\nbudget = {budget}",
        rung.context
    ))?;
    let group = Group::make("sarai-kpi", budget).map(Arc::new);
    let meter = match &group {
        Ok(group) => Meter::Group(Arc::clone(group)),
        Err(_) => Meter::Processes(appliance.path("bin")),
    };
    appliance.launch.group = group.as_ref().ok().map(|group| group.procs());
    appliance.launch.cpus = Some(rung.cpus.to_vec());
    for model in rung.models {
        // Else whoever wrote the file is billed for its pages.
        forget(&appliance.path("data/models").join(&model.file))?;
    }
    let begin = Instant::now();
    appliance.start()?;
    let wanted = rung.models.len();
    appliance.wait_status("every engine to be ready", START, |status| {
        let ready = |name: &str| {
            let named = status.services.iter().filter(|s| s.name.starts_with(name));
            named.filter(|s| s.state == ServiceState::Ready).count()
        };
        status.ready && ready("engine") == wanted && ready("gateway") == 1
    })?;
    let start = begin.elapsed().as_secs_f64();
    let client = appliance.keyed()?;
    let sampler = Sampler::start(meter.clone());
    let mut samples = Vec::new();
    let mut conversation = Conversation::new(&client, 0, rung.context)?;
    for number in 0..rung.queries {
        samples.push(conversation.ask()?);
        if (number + 1) % 10 == 0 {
            eprintln!("    {} of {} queries", number + 1, rung.queries);
        }
    }
    let load = match rung.load {
        0 => None,
        queries => Some(under_load(appliance, &client, rung, queries)?),
    };
    let memory: Vec<f64> = sampler.finish()?.into_iter().map(gib).collect();
    let seen = quantile(&memory, 1.0);
    let peak = group
        .as_ref()
        .ok()
        .and_then(|group| group.peak())
        .map_or(seen, gib);
    let oom_kills = match &group {
        Ok(group) => Some(group.oom_kills()?),
        Err(_) => None,
    };
    appliance.stop(Duration::from_secs(60))?;
    appliance.launch.group = None;
    Ok(Measured {
        source: meter.source(),
        start,
        memory,
        peak,
        oom_kills,
        samples,
        load,
    })
}

/// Several clients at once, each with conversations of its own.
fn under_load(appliance: &Appliance, client: &Client, rung: &Rung<'_>, queries: usize) -> Result<Load> {
    eprintln!("    {queries} queries by {CLIENTS} clients at once");
    let pid = appliance
        .service_pid("engine-primary")
        .or_else(|_| appliance.service_pid("engine-fallback"))?;
    let before = processor_seconds(pid)?;
    let begin = Instant::now();
    let samples: Vec<Result<Vec<Sample>>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|me| {
                scope.spawn(move || {
                    let mut conversation = Conversation::new(client, 1000 * (me + 1), rung.context)?;
                    let mine = queries / CLIENTS + usize::from(me < queries % CLIENTS);
                    (0..mine).map(|_| conversation.ask()).collect()
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| {
                client
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("ask: a client panicked")))
            })
            .collect()
    });
    let wall = begin.elapsed().as_secs_f64();
    let processor = (processor_seconds(pid)? - before) / (wall * count(rung.cpus.len()));
    let samples: Vec<Sample> = samples.into_iter().collect::<Result<Vec<_>>>()?.concat();
    let since = |sample: &Sample| sample.end.map_or(0.0, |end| (end - begin).as_secs_f64() * 1000.0);
    let interval = |sample: &Sample, length: f64| (since(sample) - length, since(sample));
    let busy = covered(
        samples
            .iter()
            .map(|s| interval(s, s.prefill + s.decode))
            .collect(),
    );
    let decoding = covered(samples.iter().map(|s| interval(s, s.decode)).collect());
    Ok(Load {
        wall: wall * 1000.0,
        busy,
        again: samples.iter().map(Sample::prefill_again).sum(),
        decoding: decoding / busy,
        processor,
    })
}

/// Length of the union of intervals.
fn covered(mut intervals: Vec<(f64, f64)>) -> f64 {
    intervals.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut sum, mut reached) = (0.0, f64::MIN);
    for (begin, end) in intervals {
        sum += (end - begin.max(reached)).max(0.0);
        reached = reached.max(end);
    }
    sum
}

/// Processor time a process has used, seconds.
fn processor_seconds(pid: i32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read the engine's times")?;
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = ticks(11).zip(ticks(12)).context("find the engine's times")?;
    let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
    #[expect(clippy::cast_precision_loss, reason = "ticks a second are a hundred or so")]
    let hertz = hertz as f64;
    Ok((user + system) / hertz)
}

#[expect(clippy::cast_precision_loss, reason = "CPUs and queries are few")]
pub fn count(number: usize) -> f64 {
    number as f64
}

impl Measured {
    /// A figure of each query, its quantile.
    pub fn of(&self, q: f64, figure: impl Fn(&Sample) -> f64) -> f64 {
        quantile(&self.samples.iter().map(figure).collect::<Vec<_>>(), q)
    }

    /// The middle of a figure over the queries whose prompt is mostly new.
    pub fn of_fresh(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        let fresh = self.samples.iter().filter(|s| s.prompt - s.cached >= 64.0);
        median(&fresh.map(figure).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_two_intervals_share_counts_once() {
        assert!((covered(vec![(5.0, 7.0), (0.0, 2.0), (1.0, 3.0), (6.0, 6.5)]) - 5.0).abs() < 1e-9);
        assert_eq!(covered(Vec::new()), 0.0);
    }
}
