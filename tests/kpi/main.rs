//! `sarai-kpi`: what the product promises of memory, time and utilisation, measured on models of its true shape through
//! the whole appliance, run natively. `scripts/kpi` makes the models and calls it.

mod curve;
mod queries;
mod rung;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sarai_tests::appliance::Appliance;
use sarai_tests::measure::arguments::Arguments;
use sarai_tests::measure::figures::{Figure, Figures, Promise};
use sarai_tests::measure::machine::{self, Bandwidth};
use sarai_tests::measure::{gib, quantile};
use sarai_tests::model::Artifact;

use curve::Curve;
use queries::{ANSWER, Sample};
use rung::{Measured, Rung, count};

/// Cores of the machine the product is for, engine's threads on it.
const TARGET_CORES: usize = 4;
/// Promised for that machine, seconds.
const LATENCY: f64 = 7.9;
/// Promised share of the engine's time.
const UTILISATION: f64 = 78.0;
/// Queries that are asked with one thread too.
const CURVE_QUERIES: usize = 5;

struct Args {
    omni: PathBuf,
    lfm2: PathBuf,
    queries: usize,
    rungs: bool,
    budget: u64,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("sarai-kpi: a promised number was missed");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("sarai-kpi: failed to {error:#}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Result<Args> {
    let mut given = Arguments::of_program()?;
    let args = Args {
        omni: given.need("--omni")?,
        lfm2: given.need("--lfm2")?,
        queries: given.need("--queries")?,
        rungs: given.take::<String>("--rungs")?.as_deref() != Some("first"),
        // 9.9 GiB.
        budget: given.take("--budget")?.unwrap_or(10_630_044_057),
        json: given.take("--json")?,
    };
    given.end()?;
    ensure!(
        args.queries >= CURVE_QUERIES,
        "read --queries: at least {CURVE_QUERIES} are asked"
    );
    Ok(args)
}

fn run() -> Result<bool> {
    let args = arguments()?;
    let all = machine::cpus()?;
    // A larger machine stands in for the target directly.
    let cpus = &all[..all.len().min(TARGET_CORES)];
    eprintln!("memory's speed …");
    let speeds: Vec<(usize, Bandwidth)> = [1, cpus.len()]
        .into_iter()
        .map(|threads| Ok((threads, machine::bandwidth(&cpus[..threads])?)))
        .collect::<Result<_>>()?;

    let both = [
        Artifact::new("primary", "omni-noise", &args.omni, 2048)?,
        Artifact::new("fallback", "lfm2-noise", &args.lfm2, 2048)?,
    ];
    // What serves at the last rung, as the only model of a machine: without the other one there is nothing to stop.
    let alone = [Artifact {
        role: "primary".into(),
        ..both[1].clone()
    }];
    let mut appliance = Appliance::prepare(&both, "").context("prepare an appliance")?;
    let few = (args.queries / 10).max(3);
    let mut plan = vec![Rung {
        name: "0: context 2048".into(),
        context: 2048,
        models: &both,
        cpus,
        queries: args.queries,
        load: (args.queries / 4).max(6),
    }];
    if args.rungs {
        for (name, context, models) in [
            ("2: context 1024", 1024, &both[..]),
            ("2: context 512", 512, &both[..]),
            ("4: fallback alone", 2048, &alone[..]),
        ] {
            plan.push(Rung {
                name: name.into(),
                context,
                models,
                cpus,
                queries: few,
                load: 0,
            });
        }
    }
    let mut measured = Vec::new();
    for rung in &plan {
        eprintln!("rung {} …", rung.name);
        let result = rung::measure(&mut appliance, rung, args.budget);
        // Shown at once, and one that fails takes nothing from the others.
        match &result {
            Ok(measured) => {
                let mut figures = Figures::default();
                rows(&mut figures, &rung.name, measured);
                eprint!("{figures}");
            }
            Err(error) => {
                eprintln!("failed to measure rung {}: {error:#}", rung.name);
                // Whatever is left of it.
                drop(appliance.stop(Duration::from_secs(60)));
            }
        }
        measured.push(result);
    }
    let first = match measured.first() {
        Some(Ok(first)) => first,
        _ => bail!("measure the first rung: see above"),
    };
    let single = if cpus.len() > 1 && cpus.len() < TARGET_CORES {
        eprintln!("one thread …");
        let rung = Rung {
            name: "one thread".into(),
            cpus: &cpus[..1],
            queries: CURVE_QUERIES,
            load: 0,
            ..Rung {
                name: String::new(),
                ..plan_of(&both, cpus)
            }
        };
        Some(rung::measure(&mut appliance, &rung, args.budget))
    } else {
        None
    };

    let mut figures = Figures::default();
    let single = match single {
        Some(Err(error)) => {
            figures.push(unmeasured("one thread", &error));
            None
        }
        Some(Ok(single)) => Some(single),
        None => None,
    };
    let model_bytes = std::fs::metadata(&args.omni)
        .context("read the model's size")?
        .len();
    head(&mut figures, &args, cpus.len(), &speeds, first);
    first_rung(&mut figures, first, args.budget);
    latency(
        &mut figures,
        first,
        single.as_ref(),
        cpus.len(),
        model_bytes,
        &speeds,
    );
    for (rung, measured) in plan.iter().zip(&measured) {
        match measured {
            Ok(measured) => rows(&mut figures, &rung.name, measured),
            Err(error) => figures.push(unmeasured(&format!("rung {}", rung.name), error)),
        }
    }
    figures.publish(args.json.as_deref())
}

/// Something that should have been measured: a promise that is not kept.
fn unmeasured(name: &str, error: &anyhow::Error) -> Figure {
    Figure::new(format!("{name}: measured"), 0.0, "")
        .promised(Promise::AtLeast(1.0))
        .noted(format!("{error:#}").lines().next().unwrap_or_default())
}

fn plan_of<'a>(models: &'a [Artifact], cpus: &'a [usize]) -> Rung<'a> {
    Rung {
        name: String::new(),
        context: 2048,
        models,
        cpus,
        queries: 0,
        load: 0,
    }
}

fn head(figures: &mut Figures, args: &Args, cores: usize, speeds: &[(usize, Bandwidth)], first: &Measured) {
    figures.say(format!("{}, {cores} cores used", machine::processor()));
    for (threads, speed) in speeds {
        figures.say(format!(
            "memory, {threads} threads: triad {:.1} GB/s, read {:.1} GB/s",
            speed.triad, speed.read
        ));
    }
    for path in [&args.omni, &args.lfm2] {
        figures.say(format!(
            "model: {}",
            path.file_name().unwrap_or_default().to_string_lossy()
        ));
    }
    figures.say(format!("memory figures: {}", first.source));
    figures.say(format!(
        "queries: text alone, {ANSWER} answer tokens, one iteration; images are not asked, the product does not take \
         them yet, and no projector is loaded"
    ));
    let prompts: Vec<f64> = first.samples.iter().map(|s| s.prompt).collect();
    figures.say(format!(
        "prompts: {:.0} to {:.0} tokens, half below {:.0}",
        quantile(&prompts, 0.0),
        quantile(&prompts, 1.0),
        quantile(&prompts, 0.5)
    ));
}

fn first_rung(figures: &mut Figures, first: &Measured, budget: u64) {
    figures.push(Figure::new("RAM P99", quantile(&first.memory, 0.99), "GiB").promised(Promise::AtMost(9.9)));
    figures.push(Figure::new("RAM peak", first.peak, "GiB").promised(Promise::AtMost(gib(budget))));
    if let Some(kills) = first.oom_kills {
        #[expect(clippy::cast_precision_loss, reason = "kills are few")]
        let kills = kills as f64;
        figures.push(Figure::new("kernel OOM kills", kills, "").promised(Promise::AtMost(0.0)));
    }
    if let Some(load) = &first.load {
        figures.push(
            Figure::new("utilisation at load", load.utilisation() * 100.0, "%")
                .promised(Promise::AtLeast(UTILISATION))
                .noted("wall clock but for waiting and for reading again what had been read"),
        );
        figures.push(
            Figure::new("  of it, answers being decoded", load.decoding * 100.0, "%")
                .noted("the rest reads prompts for the first time"),
        );
        figures.push(
            Figure::new("  engine's processor time", load.processor * 100.0, "%")
                .noted("of its CPUs, at load"),
        );
    }
}

/// Latency here, and on the target: measured where this machine has its cores, else by the curve.
fn latency(
    figures: &mut Figures,
    first: &Measured,
    single: Option<&Measured>,
    cores: usize,
    model_bytes: u64,
    speeds: &[(usize, Bandwidth)],
) {
    let promised = |figure: Figure| figure.promised(Promise::AtMost(LATENCY));
    if cores >= TARGET_CORES {
        let p50 = first.of(0.5, |s| s.total) / 1000.0;
        return figures.push(promised(Figure::new("latency P50 at 4 cores", p50, "s")).noted("measured"));
    }
    let Some(single) = single else {
        return figures.push(
            promised(Figure::new("latency P50 at 4 cores", f64::NAN, "s"))
                .noted("one core has no curve: not judged"),
        );
    };
    let same = &first.samples[..single.samples.len()];
    let sum = |samples: &[Sample], figure: fn(&Sample) -> f64| samples.iter().map(figure).sum::<f64>();
    let (threads, target) = (count(cores), count(TARGET_CORES));
    let ratio = |figure: fn(&Sample) -> f64| {
        let (one, several) = (sum(&single.samples, figure), sum(same, figure));
        Curve::through(one, threads, several).at(target) / several
    };
    let (curve, prefill) = (ratio(|s| s.decode), ratio(|s| s.prefill));
    // Each token reads the weights once: more threads do not make memory faster. The target's memory is not known; it
    // is taken to be as fast as this machine's.
    let memory = speeds.last().map_or(f64::NAN, |(_, speed)| speed.read);
    let here = first.of(0.5, Sample::per_token);
    #[expect(clippy::cast_precision_loss, reason = "sizes of files stay below 2^52")]
    let floor = (model_bytes as f64 / 1e6 / memory / here).min(1.0);
    let decode = curve.max(floor);
    let there = |s: &Sample| s.total - s.prefill * (1.0 - prefill) - s.decode * (1.0 - decode);
    figures.push(
        promised(Figure::new(
            "latency P50 at 4 cores",
            first.of(0.5, there) / 1000.0,
            "s",
        ))
        .noted(format!(
            "ESTIMATE: the curve of 1 and {cores} threads, and memory no faster than here ({memory:.0} GB/s)"
        )),
    );
    for (name, measured) in [("1 thread", single), ("here", first)] {
        figures.push(Figure::new(
            format!("decode, {name}"),
            measured.of(0.5, Sample::per_token),
            "ms/token",
        ));
        figures.push(Figure::new(
            format!("reading a prompt, {name}"),
            measured.of_fresh(Sample::per_prompt_token),
            "ms/token",
        ));
    }
    figures.push(Figure::new(
        "decode, 4 threads by the curve alone",
        here * curve,
        "ms/token",
    ));
    figures.push(
        Figure::new("decode, 4 threads as estimated", here * decode, "ms/token")
            .noted("bounded by memory's speed"),
    );
}

fn rows(figures: &mut Figures, name: &str, measured: &Measured) {
    let mut add =
        |what: &str, value: f64, unit| figures.push(Figure::new(format!("rung {name}: {what}"), value, unit));
    add("queries", count(measured.samples.len()), "");
    add("start to ready", measured.start, "s");
    for (what, q) in [("RAM P50", 0.5), ("RAM P99", 0.99)] {
        add(what, quantile(&measured.memory, q), "GiB");
    }
    add("RAM peak", measured.peak, "GiB");
    for (what, q) in [("latency P50", 0.5), ("latency P95", 0.95), ("latency P99", 0.99)] {
        add(what, measured.of(q, |s| s.total) / 1000.0, "s");
    }
    add("first token P50", measured.of(0.5, |s| s.first) / 1000.0, "s");
    add("decode P50", measured.of(0.5, Sample::per_token), "ms/token");
}
