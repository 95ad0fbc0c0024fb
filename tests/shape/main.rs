//! `sarai-shape-model`: writes a model of the product's true shape with random weights. `scripts/shape-model` calls it.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sarai_tests::shape::{self, Extent, Mix, Model};

struct Args {
    model: Model,
    mix: Mix,
    out: Option<PathBuf>,
    seed: u64,
    extent: Extent,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sarai-shape-model: failed to {error:#}");
            ExitCode::from(1)
        }
    }
}

fn arguments() -> Result<Args> {
    let mut words = std::env::args().skip(1);
    let names = || Model::ALL.map(Model::name).join(", ");
    let name = words
        .next()
        .with_context(|| format!("read the arguments: name a model: {}", names()))?;
    let model =
        Model::parse(&name).with_context(|| format!("know a model {name:?}: there are {}", names()))?;
    let mut args = Args {
        model,
        mix: model.usual_mix(),
        out: None,
        seed: 1,
        extent: Extent::Full,
    };
    while let Some(option) = words.next() {
        if option == "--small" {
            args.extent = Extent::Small;
            continue;
        }
        let value = words
            .next()
            .with_context(|| format!("read the arguments: {option} has no value"))?;
        match option.as_str() {
            "--quant" => {
                args.mix = Mix::parse(&value)
                    .filter(|mix| model.takes(*mix))
                    .with_context(|| {
                        format!("make {} as {value:?}: there are {}", model.name(), mixes(model))
                    })?;
            }
            "--out" => args.out = Some(value.into()),
            "--seed" => {
                args.seed = value
                    .parse()
                    .with_context(|| format!("read the seed {value:?}"))?
            }
            _ => bail!("know the option {option}"),
        }
    }
    Ok(args)
}

fn mixes(model: Model) -> String {
    let taken = Mix::ALL.into_iter().filter(|mix| model.takes(*mix));
    taken.map(Mix::name).collect::<Vec<_>>().join(", ")
}

fn run() -> Result<()> {
    let args = arguments()?;
    let shape = args.model.shape(args.mix, args.extent);
    let to = args.out.unwrap_or_else(|| shape.file.clone().into());
    let begin = Instant::now();
    let mut shown = 0;
    let terminal = std::io::stderr().is_terminal();
    let size = shape::write(&shape, args.seed, &to, &mut |done, total| {
        // On a terminal each hundredth, in a log each quarter.
        let step = if terminal { 1 } else { 25 };
        let percent = done * 100 / total / step * step;
        if percent > shown {
            shown = percent;
            eprint!(
                "{}{percent} %{}",
                if terminal { "\r" } else { "" },
                if terminal { "" } else { "\n" }
            );
            let _ = std::io::stderr().flush();
        }
    })?;
    if terminal {
        eprintln!();
    }
    println!("{}", to.display());
    println!(
        "{size} bytes of noise, {} parameters, {} tensors, {}, {:.1} s",
        shape.parameters(),
        shape.tensors.len(),
        args.mix,
        begin.elapsed().as_secs_f64()
    );
    if args.extent == Extent::Full && args.mix == args.model.usual_mix() {
        println!(
            "the published file has about {} bytes",
            args.model.published_size()
        );
    }
    Ok(())
}
