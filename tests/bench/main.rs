//! `sarai-bench`: the appliance beside llama.cpp's own `llama-server` and `llama-bench`, in one run, on one file.
//!
//! Every API figure is taken by the same client code from both servers: the appliance over TLS through gateway,
//! loop and engine, the peer over plain HTTP. The two are asked in turn (A B B A …), so that a drift of the
//! machine's speed falls on both; the ratio is the median of the pairs. `scripts/bench` builds the peers,
//! starts both servers and calls this program. With `--peer sandbox` it starts both sides itself: see [`sandbox`].

mod api;
mod report;
mod rss;
mod sandbox;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use sarai_tests::measure::arguments::Arguments;

use api::{Server, Timing};
use report::{Promise, Row, Table};

/// Arguments, all given by `scripts/bench`.
struct Args {
    appliance: Server,
    peer: Server,
    llama_bench: PathBuf,
    model: PathBuf,
    threads: u32,
    rounds: usize,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("sarai-bench: a promised number was missed");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("sarai-bench: failed to {error:#}");
            ExitCode::from(2)
        }
    }
}

fn arguments(mut given: Arguments) -> Result<Args> {
    let pids = |text: String| -> Result<Vec<i32>> {
        text.split(',')
            .map(|p| p.parse().with_context(|| format!("read pid {p:?}")))
            .collect()
    };
    let appliance = Server::secured(
        "appliance",
        &given.need::<String>("--appliance-url")?,
        &given.need::<PathBuf>("--appliance-ca")?,
        &given.need::<String>("--appliance-key")?,
        pids(given.need("--appliance-pids")?)?,
    )?;
    let peer = Server::plain(
        "llama-server",
        &given.need::<String>("--peer-url")?,
        pids(given.need("--peer-pids")?)?,
    );
    let args = Args {
        appliance,
        peer,
        llama_bench: given.need("--llama-bench")?,
        model: given.need("--model")?,
        threads: given.need("--threads")?,
        rounds: given.need("--rounds")?,
        json: given.take("--json")?,
    };
    given.end()?;
    if args.rounds < 3 {
        bail!("read --rounds: a median wants at least 3");
    }
    Ok(args)
}

fn run() -> Result<bool> {
    let mut given = Arguments::of_program()?;
    match given.take::<String>("--peer")?.as_deref() {
        None => beside_llama_server(&arguments(given)?),
        Some("sandbox") => sandbox::run(given),
        Some(other) => bail!("read --peer: {other:?} is none"),
    }
}

fn beside_llama_server(args: &Args) -> Result<bool> {
    // Each round has its own text, so that no prompt is answered from a prefix cache of the round before.
    eprintln!("warming up both servers …");
    for server in [&args.appliance, &args.peer] {
        server.ask(&short_prompt(usize::MAX), 8)?;
    }
    let mut short = Vec::new();
    let mut long = Vec::new();
    for round in 0..args.rounds {
        eprintln!("round {} of {}", round + 1, args.rounds);
        short.push(pair(args, round, &short_prompt(round), 128)?);
        long.push(pair(args, round, &long_prompt(round), 1)?);
    }
    let native = llama_bench(args)?;

    let mut table = Table::new(args.threads);
    let decode = |t: &Timing| t.decode_tokens_per_second();
    let prefill = |t: &Timing| t.prefill_tokens_per_second();
    let first = |t: &Timing| t.first_token_ms;
    let server = args.peer.name;
    table.push(Row::ratio(
        "decode through the API, tok/s",
        server,
        &short,
        decode,
        Some(Promise::AtLeast(1.0)),
    ));
    table.push(Row::ratio(
        "prefill through the API, tok/s",
        server,
        &long,
        prefill,
        Some(Promise::AtLeast(1.0)),
    ));
    table.push(Row::difference(
        "first token, 50-token prompt, ms",
        server,
        &short,
        first,
        Promise::AtMost(5.0),
    ));
    let ours = |rows: &[(Timing, Timing)], f: &dyn Fn(&Timing) -> f64| -> Vec<f64> {
        rows.iter().map(|(a, _)| f(a)).collect()
    };
    table.push(Row::single(
        "decode, tok/s",
        "llama-bench tg128",
        ours(&short, &decode),
        native.decode,
    ));
    table.push(Row::single(
        "prefill, tok/s",
        "llama-bench pp512",
        ours(&long, &prefill),
        native.prefill,
    ));
    let (a, b) = (rss::total(&args.appliance.pids)?, rss::total(&args.peer.pids)?);
    table.push(Row::memory(
        "anonymous memory, MiB",
        server,
        a.anonymous,
        b.anonymous,
    ));
    table.push(Row::memory(
        "resident memory, all processes, MiB",
        server,
        a.resident,
        b.resident,
    ));

    print!("{table}");
    if let Some(path) = &args.json {
        std::fs::write(path, table.json()?).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(table.holds())
}

/// Asks both servers the same, the first to be asked changing from round to round: (ours, theirs).
fn pair(args: &Args, round: usize, prompt: &str, tokens: u32) -> Result<(Timing, Timing)> {
    if round.is_multiple_of(2) {
        let ours = args.appliance.ask(prompt, tokens)?;
        Ok((ours, args.peer.ask(prompt, tokens)?))
    } else {
        let theirs = args.peer.ask(prompt, tokens)?;
        Ok((args.appliance.ask(prompt, tokens)?, theirs))
    }
}

fn short_prompt(round: usize) -> String {
    format!(
        "Story number {round}. Write a long story about a sailor who finds an old map in a bottle, sets out with a \
         small crew, meets a storm, and learns what the map was really for."
    )
}

/// About a thousand tokens, different from the first word on.
fn long_prompt(round: usize) -> String {
    let mut text = format!("Report {round}.");
    for line in 0..60 {
        text.push_str(&format!(
            " In week {line} of year {round} the station measured wind, rain and the height of the river,"
        ));
    }
    text.push_str(" and sent the figures on. Which figures were they?");
    text
}

struct Native {
    prefill: f64,
    decode: f64,
}

fn llama_bench(args: &Args) -> Result<Native> {
    eprintln!("llama-bench …");
    let output = Command::new(&args.llama_bench)
        .args([
            "-p",
            "512",
            "-n",
            "128",
            "-r",
            "5",
            "-o",
            "json",
            "-t",
            &args.threads.to_string(),
            "-m",
        ])
        .arg(&args.model)
        .output()
        .with_context(|| format!("run {}", args.llama_bench.display()))?;
    if !output.status.success() {
        bail!("run llama-bench: {}", String::from_utf8_lossy(&output.stderr));
    }
    let rows: Vec<serde_json::Value> =
        serde_json::from_slice(&output.stdout).context("read llama-bench's JSON")?;
    let speed = |key: &str| {
        rows.iter()
            .find(|row| row[key].as_u64().unwrap_or(0) > 0)
            .and_then(|row| row["avg_ts"].as_f64())
            .with_context(|| format!("find {key} in llama-bench's JSON"))
    };
    Ok(Native {
        prefill: speed("n_prompt")?,
        decode: speed("n_gen")?,
    })
}
