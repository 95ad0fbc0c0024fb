//! `sarai-pinning`: how much the speed of decoding varies from run to run beside a busy neighbour, with the engine on
//! cores that nobody else uses and with everyone free to run anywhere, in turn in one run. `scripts/pinning` calls it.

mod neighbour;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use sarai_tests::appliance::Appliance;
use sarai_tests::client::Client;
use sarai_tests::measure::arguments::Arguments;
use sarai_tests::measure::figures::{Figure, Figures, Promise};
use sarai_tests::measure::{machine, median, quantile};
use sarai_tests::model::Artifact;
use serde_json::json;

use neighbour::Neighbour;

/// Tokens of a run.
const TOKENS: u32 = 192;
/// Busy threads of the neighbour for each CPU of the machine.
const CROWD: usize = 2;

fn main() -> ExitCode {
    if let Some(end) = neighbour::began_as_one() {
        return end;
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("sarai-pinning: a promised number was missed");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("sarai-pinning: failed to {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let mut given = Arguments::of_program()?;
    let model: PathBuf = given.need("--model")?;
    let runs: usize = given.need("--runs")?;
    let json: Option<PathBuf> = given.take("--json")?;
    given.end()?;
    ensure!(runs >= 4, "read --runs: a spread wants at least 4");
    let all = machine::cpus()?;
    ensure!(all.len() >= 2, "find two CPUs: one cannot be kept from anybody");
    // Half for the engine; the rest of the house and the neighbour have the other half.
    let (house, engine) = all.split_at(all.len() / 2);

    // Two appliances, of which one works at a time; an idle engine uses no processor time.
    let kept = Set::up(&model, engine, house)?;
    let free = Set::up(&model, &all, &all)?;
    let crowd = all.len() * CROWD;
    let (mut alone, mut shared, mut quiet) = (Vec::new(), Vec::new(), Vec::new());
    // Caches, and the frequency a processor settles at.
    for set in [&kept, &free] {
        speed(&set.client, usize::MAX)?;
    }
    for run in 0..runs {
        eprintln!("run {} of {runs}", run + 1);
        quiet.push(speed(&kept.client, run)?);
        // The same neighbour, in turn confined and free; which of them first changes from run to run.
        for pinned in [run.is_multiple_of(2), !run.is_multiple_of(2)] {
            let (set, place) = if pinned { (&kept, house) } else { (&free, &all[..]) };
            let neighbour = Neighbour::start(crowd, run, place)?;
            let speed = speed(&set.client, run)?;
            drop(neighbour);
            if pinned { &mut alone } else { &mut shared }.push(speed);
        }
    }
    let mut figures = Figures::default();
    figures.say(format!(
        "{}: engine on {} of {} CPUs, or free on all; a neighbour process with {crowd} threads that compute and rest by \
         turns, on the other CPUs or free on all; {runs} runs of {TOKENS} tokens",
        machine::processor(),
        engine.len(),
        all.len()
    ));
    figures.push(
        Figure::new("spread, cores nobody else uses", spread(&alone), "%")
            .promised(Promise::AtMost(5.0))
            .noted("(fastest - slowest) / median"),
    );
    figures.push(
        Figure::new("spread, everyone runs anywhere", spread(&shared), "%").promised(Promise::AtLeast(30.0)),
    );
    figures
        .push(Figure::new("spread, no neighbour", spread(&quiet), "%").noted("what the machine itself does"));
    for (name, speeds) in [
        ("decode, cores nobody else uses", &alone),
        ("decode, everyone runs anywhere", &shared),
        ("decode, no neighbour", &quiet),
    ] {
        figures.push(Figure::new(name, median(speeds), "tok/s").noted(format!(
            "{:.1} to {:.1}",
            quantile(speeds, 0.0),
            quantile(speeds, 1.0)
        )));
    }
    figures.publish(json.as_deref())
}

/// An appliance whose engine has one thread a CPU.
struct Set {
    client: Client,
    _appliance: Appliance,
}

impl Set {
    /// With its engine's threads on `engine`, each on any of them where the whole machine is meant, and the rest of it
    /// on `house`.
    fn up(model: &Path, engine: &[usize], house: &[usize]) -> Result<Self> {
        let mut appliance = Appliance::prepare(&[Artifact::new("primary", "decoder", model, 2048)?], "")?;
        appliance.launch.cpus = Some(engine.to_vec());
        appliance.start()?;
        appliance.wait_ready(Duration::from_secs(120))?;
        let client = appliance.keyed()?.within(Duration::from_secs(300))?;
        let pid = appliance.service_pid("engine-primary")?;
        for process in appliance.processes() {
            confine(process.pid, if process.pid == pid { engine } else { house })?;
        }
        Ok(Self {
            client,
            _appliance: appliance,
        })
    }
}

fn spread(speeds: &[f64]) -> f64 {
    (quantile(speeds, 1.0) - quantile(speeds, 0.0)) / median(speeds) * 100.0
}

/// Keeps every thread of a process on these CPUs.
fn confine(pid: i32, cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu)?;
    }
    let threads =
        std::fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("find process {pid}"))?;
    for thread in threads.flatten() {
        let id: i32 = thread.file_name().to_string_lossy().parse()?;
        match sched_setaffinity(Pid::from_raw(id), &set) {
            // It ended meanwhile.
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("put process {pid} on {cpus:?}")),
        }
    }
    Ok(())
}

/// Tokens a second of one answer, as its client sees it. What the gateway took down between the first and the last
/// token may be nothing where the gateway is the one that was kept waiting.
fn speed(client: &Client, run: usize) -> Result<f64> {
    let ask = json!({
        "model": "sarai", "max_tokens": TOKENS, "temperature": 0.0, "reasoning_effort": "none",
        "messages": [{"role": "user", "content": format!("Story {run}: write a long story about a sailor and a map.")}],
    });
    let begun = Instant::now();
    let answer = client.chat(&ask)?.ok()?;
    let took = begun.elapsed().as_secs_f64();
    let step = &answer["omni_loop"]["timings"]["iterations"][0];
    let tokens = step["tokens"]
        .as_f64()
        .with_context(|| format!("find tokens in {answer}"))?;
    ensure!(
        tokens > 16.0,
        "get an answer of some length: it has {tokens} tokens"
    );
    Ok(tokens / took)
}
