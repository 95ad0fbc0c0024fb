//! Memory of a set of processes, from `/proc/PID/status`.

use anyhow::{Context, Result};

/// MiB.
pub struct Memory {
    /// `RssAnon`: what only this process can free.
    pub anonymous: f64,
    /// `VmRSS`: with the mapped model file.
    pub resident: f64,
}

/// Sums the processes. The mapped model counts in each process that maps it.
pub fn total(pids: &[i32]) -> Result<Memory> {
    let mut sum = Memory {
        anonymous: 0.0,
        resident: 0.0,
    };
    for pid in pids {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status"))
            .with_context(|| format!("read the memory of process {pid}"))?;
        let mib = |field: &str| -> Result<f64> {
            let line = text.lines().find(|l| l.starts_with(field));
            let kib = line
                .and_then(|l| l.split_whitespace().nth(1))
                .and_then(|n| n.parse::<f64>().ok());
            Ok(kib.with_context(|| format!("find {field} of process {pid}"))? / 1024.0)
        };
        sum.anonymous += mib("RssAnon:")?;
        sum.resident += mib("VmRSS:")?;
    }
    Ok(sum)
}
