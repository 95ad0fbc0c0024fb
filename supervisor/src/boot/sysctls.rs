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

/// Writes every setting the kernel has.
pub fn apply(base: &Path) -> String {
    let missing: Vec<&str> = SETTINGS
        .iter()
        .filter(|(name, value)| write(&base.join(name), value).is_err())
        .map(|(name, _)| *name)
        .collect();
    let set = SETTINGS.len() - missing.len();
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
    fn settings_the_kernel_lacks_are_listed() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(base.path().join("kernel")).unwrap();
        std::fs::write(base.path().join("kernel/panic"), "0").unwrap();
        let said = apply(base.path());
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
