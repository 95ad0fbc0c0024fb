//! Kernel settings of the appliance.

use std::path::Path;

/// Setting below `/proc/sys`, value.
const SETTINGS: [(&str, &str); 17] = [
    // A kernel that failed restarts the machine.
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    // Nothing but emergencies on the console: a prompt is there.
    ("kernel/printk", "3 4 1 3"),
    // Addresses and messages of the kernel are root's alone.
    ("kernel/kptr_restrict", "2"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/yama/ptrace_scope", "2"),
    ("kernel/sysrq", "0"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_symlinks", "1"),
    ("fs/suid_dumpable", "0"),
    // SSH listens without ever having been root. Nobody else with a way to the network may make a listener at all.
    ("net/ipv4/ip_unprivileged_port_start", "22"),
    ("net/core/somaxconn", "1024"),
    ("net/ipv4/tcp_syncookies", "1"),
    ("net/ipv4/conf/all/rp_filter", "1"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
];

/// Memory that the kernel keeps free for itself.
const RESERVE: &str = "vm/min_free_kbytes";

/// What the kernel keeps free, KiB, on a machine with `memory` bytes: its own formula, the square root of 16 times the
/// memory in KiB, within its own bounds (`calculate_min_free_kbytes` in `mm/page_alloc.c`). With transparent huge pages
/// it raises that to several times as much, so that more of them can be had at once; here that memory is part of what
/// models run in, and the engine takes its huge pages when it starts.
fn reserve(memory: u64) -> u64 {
    (memory / 1024 * 16).isqrt().clamp(128, 262_144)
}

/// Writes every setting the kernel has. The machine has `memory` bytes.
pub fn apply(base: &Path, memory: u64) -> String {
    let reserve = reserve(memory).to_string();
    let all = SETTINGS.into_iter().chain([(RESERVE, reserve.as_str())]);
    let (set, missing): (Vec<_>, Vec<_>) =
        all.partition(|(name, value)| write(&base.join(name), value).is_ok());
    let set = set.len();
    let missing: Vec<&str> = missing.into_iter().map(|(name, _)| name).collect();
    if missing.is_empty() {
        format!("{set} set")
    } else {
        format!("{set} set, not there: {}", missing.join(" "))
    }
}

fn write(file: &Path, value: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open(file)?;
    std::io::Write::write_all(&mut file, value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_keeps_a_part_of_the_memory_that_falls_with_its_size() {
        // 16 GiB, 2 GiB, and what no machine has.
        assert_eq!(reserve(16 << 30), 16_384);
        assert_eq!(reserve(2 << 30), 5792);
        assert_eq!((reserve(0), reserve(u64::MAX)), (128, 262_144));
    }

    #[test]
    fn settings_the_kernel_lacks_are_listed() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(base.path().join("kernel")).unwrap();
        std::fs::write(base.path().join("kernel/panic"), "0").unwrap();
        let said = apply(base.path(), 1 << 30);
        assert!(
            said.starts_with("1 set, not there:") && said.contains("net/ipv4/tcp_syncookies"),
            "{said}"
        );
        assert_eq!(
            std::fs::read_to_string(base.path().join("kernel/panic")).unwrap(),
            "10"
        );
    }
}
