//! What the kernel says of its CPUs, read from a `sysfs` root. A file that is missing (a container, a virtual machine,
//! another architecture) has a stand-in, and a note says which.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;

/// Highest CPU number that is believed, to bound lists like `0-4294967295`.
const MAX_CPU: u32 = 8191;
/// More than any file read here holds, bytes.
const MAX_FILE: u64 = 64 * 1024;
/// A core whose top speed is below this part of the fastest is an efficiency core, in hundredths. Favoured cores of
/// one kind differ by 5 %; the closest two kinds sold so far differ by 19 %.
const EFFICIENT_BELOW: u64 = 85;

/// The kind of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// As fast as the fastest.
    Performance,
    /// A smaller one.
    Efficiency,
}

/// One logical CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub id: u32,
    /// Its physical core, named by the lowest CPU of it.
    pub core: u32,
    /// Kind of that core.
    pub kind: Kind,
    /// Its NUMA node.
    pub node: u32,
    /// Its last-level cache, named by the lowest CPU that shares it, where the kernel says so.
    pub cache: Option<u32>,
}

/// The CPUs that may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// By number.
    pub cpus: Vec<Cpu>,
    /// What the kernel does not say, and what is taken for it.
    pub notes: Vec<String>,
}

/// Reads what `sysfs` (`/sys`) says about `usable`.
#[must_use]
pub fn read(sysfs: &Path, usable: &[u32]) -> Topology {
    let usable: BTreeSet<u32> = usable.iter().copied().collect();
    let folder = sysfs.join("devices/system/cpu");
    let mut notes = Vec::new();
    let kinds = kinds(sysfs, &usable);
    if kinds.is_none() && usable.len() > 1 {
        notes.push("the kernel does not say which cores are faster: all count as equal".to_owned());
    }
    let (mut no_cores, mut no_cache) = (false, false);
    let nodes = nodes(sysfs);
    let cpus = usable
        .iter()
        .map(|&id| {
            let cpu = folder.join(format!("cpu{id}"));
            let core = ["core_cpus_list", "thread_siblings_list"]
                .iter()
                .find_map(|name| list(&cpu.join("topology").join(name)))
                .and_then(|shared| lowest_with(&shared, id));
            no_cores |= core.is_none();
            let cache = last_level(&cpu.join("cache")).and_then(|shared| lowest_with(&shared, id));
            no_cache |= cache.is_none();
            let node = nodes
                .iter()
                .find_map(|(node, cpus)| cpus.contains(&id).then_some(*node));
            Cpu {
                id,
                core: core.unwrap_or(id),
                kind: match &kinds {
                    Some(fast) if !fast.contains(&id) => Kind::Efficiency,
                    _ => Kind::Performance,
                },
                node: node.unwrap_or(0),
                cache,
            }
        })
        .collect();
    if no_cores {
        notes.push("the kernel does not say which CPUs share a core: each counts as one".to_owned());
    }
    if no_cache {
        notes.push("the kernel does not say which CPUs share a cache: all count as sharing one".to_owned());
    }
    Topology { cpus, notes }
}

/// The performance cores' CPUs; none when nothing tells one kind from the other.
fn kinds(sysfs: &Path, usable: &BTreeSet<u32>) -> Option<BTreeSet<u32>> {
    // A hybrid processor's own word, and the only one about cores that differ in more than their speed.
    if let (Some(fast), Some(slow)) = (
        list(&sysfs.join("devices/cpu_core/cpus")),
        list(&sysfs.join("devices/cpu_atom/cpus")),
    ) && !fast.is_empty()
        && !slow.is_empty()
    {
        return Some(fast);
    }
    ["cpu_capacity", "cpufreq/cpuinfo_max_freq"]
        .iter()
        .find_map(|name| {
            let file = |id: u32| sysfs.join(format!("devices/system/cpu/cpu{id}/{name}"));
            // One that cannot be compared spoils the comparison.
            let speeds: Option<Vec<(u32, u64)>> =
                usable.iter().map(|&id| Some((id, number(&file(id))?))).collect();
            let speeds = speeds?;
            let most = speeds
                .iter()
                .map(|(_, speed)| *speed)
                .max()
                .filter(|most| *most > 0)?;
            let fast = speeds
                .iter()
                .filter(|(_, speed)| speed.saturating_mul(100) >= most.saturating_mul(EFFICIENT_BELOW));
            Some(fast.map(|(id, _)| *id).collect())
        })
}

/// NUMA nodes and their CPUs; none where the kernel knows of no nodes.
fn nodes(sysfs: &Path) -> Vec<(u32, BTreeSet<u32>)> {
    let Ok(entries) = fs::read_dir(sysfs.join("devices/system/node")) else {
        return Vec::new();
    };
    let mut nodes: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let node = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
            Some((node, list(&entry.path().join("cpulist"))?))
        })
        .collect();
    nodes.sort_unstable_by_key(|(node, _)| *node);
    nodes
}

/// The CPUs that share the cache farthest from a CPU.
fn last_level(caches: &Path) -> Option<BTreeSet<u32>> {
    let levels = fs::read_dir(caches).ok()?.flatten().filter_map(|entry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix("index")?.parse::<u32>().ok()?;
        let folder = entry.path();
        (text(&folder.join("type"))? != "Instruction").then_some(())?;
        Some((
            number(&folder.join("level"))?,
            list(&folder.join("shared_cpu_list"))?,
        ))
    });
    levels.max_by_key(|(level, _)| *level).map(|(_, shared)| shared)
}

/// The name of a set that `id` must be in.
fn lowest_with(shared: &BTreeSet<u32>, id: u32) -> Option<u32> {
    shared.contains(&id).then(|| shared.first().copied())?
}

fn text(file: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(file)
        .ok()?
        .take(MAX_FILE)
        .read_to_string(&mut text)
        .ok()?;
    text.truncate(text.trim_end().len());
    Some(text)
}

fn number(file: &Path) -> Option<u64> {
    text(file)?.parse().ok()
}

fn list(file: &Path) -> Option<BTreeSet<u32>> {
    parse(&text(file)?)
}

/// `0-2,5` as a set; the empty text is the empty set.
fn parse(text: &str) -> Option<BTreeSet<u32>> {
    let mut cpus = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u32, u32) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        if from > to || to > MAX_CPU {
            return None;
        }
        cpus.extend(from..=to);
    }
    Some(cpus)
}

/// CPUs as the kernel writes a list of them: `0-2,5`.
#[must_use]
pub fn to_list(cpus: &[u32]) -> String {
    let cpus: BTreeSet<u32> = cpus.iter().copied().collect();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for cpu in cpus {
        match ranges.last_mut() {
            Some((_, to)) if to.checked_add(1) == Some(cpu) => *to = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let words: Vec<String> = ranges
        .into_iter()
        .map(|(from, to)| {
            if from == to {
                from.to_string()
            } else {
                format!("{from}-{to}")
            }
        })
        .collect();
    words.join(",")
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;
