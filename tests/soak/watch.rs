//! What is looked at once a second during a soak.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sarai_tests::appliance::Appliance;
use sarai_tests::measure::memory::proportional;
use sarai_tests::measure::{median, mib};
use sarai_tests::process;

use crate::clients::Tally;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two lines of progress.
const TELL: u64 = 60;

/// One look.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Seconds since the beginning.
    pub at: f64,
    /// Resident memory of the supervisor, MiB.
    pub supervisor: f64,
    /// Proportional memory of all processes, MiB.
    pub all: f64,
    /// Descriptors of the supervisor.
    pub descriptors: f64,
    /// Ids and start times of children that nobody has collected.
    pub zombies: Vec<(i32, u64)>,
    /// What lies below the data folder, MiB.
    pub disk: f64,
}

/// Looks until `end`.
pub fn during(appliance: &Appliance, end: Instant, tally: &Tally) -> Result<Vec<Sample>> {
    let begin = Instant::now();
    let pid = appliance.pid()?;
    let mut samples: Vec<Sample> = Vec::new();
    let mut told = 0;
    while Instant::now() < end {
        thread::sleep(INTERVAL);
        let all = appliance
            .processes()
            .iter()
            .filter_map(|p| proportional(p.pid))
            .sum();
        let descriptors =
            fs::read_dir(format!("/proc/{pid}/fd")).context("count the supervisor's descriptors")?;
        samples.push(Sample {
            at: begin.elapsed().as_secs_f64(),
            supervisor: mib(process::resident(pid).context("read the supervisor's memory: is it gone?")?),
            all: mib(all),
            descriptors: f64::from(u32::try_from(descriptors.count())?),
            zombies: appliance.zombies()?.iter().map(|z| (z.pid, z.started)).collect(),
            disk: mib(size(&appliance.path("data"))),
        });
        if begin.elapsed().as_secs() / TELL > told {
            told = begin.elapsed().as_secs() / TELL;
            eprintln!(
                "    {told} min: {} answered, {} refused, {} lost, {:.0} MiB",
                tally.answered(),
                tally.refused(),
                tally.lost().len(),
                mib(all)
            );
        }
    }
    Ok(samples)
}

/// Bytes of all files below a folder, as the disk counts them; what goes away meanwhile is not there.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => size(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

/// What a figure grew by from the second quarter of the soak to its last: difference of the medians.
pub fn growth(samples: &[Sample], figure: fn(&Sample) -> f64) -> f64 {
    let quarter = samples.len() / 4;
    let middle = |part: &[Sample]| median(&part.iter().map(figure).collect::<Vec<_>>());
    middle(&samples[samples.len() - quarter..]) - middle(&samples[quarter..2 * quarter])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_seen_over_what_goes_up_and_down() {
        let samples: Vec<Sample> = (0..80_u32)
            .map(|at| Sample {
                all: f64::from(at) * 0.5 + f64::from(at % 2) * 10.0,
                supervisor: f64::from(at % 7),
                ..Sample::default()
            })
            .collect();
        assert!((growth(&samples, |s| s.all) - 20.0).abs() < 1.5);
        assert!(growth(&samples, |s| s.supervisor).abs() < 1.1);
    }
}
