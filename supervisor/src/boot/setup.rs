//! The setup file on the boot partition, for a machine that nobody has logged in to yet: mounted read-only, read
//! within a bound, unmounted. What is in it is settings like those of the image, and goes over them.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::disk::Boot;
use crate::config::{Config, MAX_FILE, read_bounded};
use crate::identity::authorized;

/// Its name.
pub const FILE: &str = "sarai.toml";
/// Where the boot partition is mounted meanwhile.
const MOUNTED: &str = "/run/sarai-boot";

/// Reads it; `None` if there is none.
pub fn read(boot: &Boot) -> Result<Option<String>, String> {
    let esp = boot
        .table
        .esp()
        .ok_or("the disk has no boot partition any more")?;
    let device = boot.disk.node(esp.number)?;
    read_from(&device).map_err(|e| {
        format!(
            "{FILE} on {} cannot be read ({e}); it is as if there were none",
            device.display()
        )
    })
}

fn read_from(device: &Path) -> Result<Option<String>, String> {
    let at = PathBuf::from(MOUNTED);
    fs::create_dir_all(&at).map_err(|e| e.to_string())?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(device), &at, Some("vfat"), flags, None::<&str>)
        .map_err(|e| format!("it cannot be mounted: {e}"))?;
    let text = read_bounded(&at.join(FILE), MAX_FILE).map_err(|e| e.to_string());
    umount2(&at, MntFlags::MNT_DETACH).map_err(|e| format!("it cannot be unmounted: {e}"))?;
    let _ = fs::remove_dir(&at);
    text
}

/// Writes who may come in by SSH where a server will read it. Nobody: no file.
pub fn hand_out(config: &Config, run: &Path) -> Result<String, String> {
    if config.ssh_keys.is_empty() {
        return Ok("nobody may come in by SSH".to_owned());
    }
    fs::create_dir_all(run).map_err(|e| e.to_string())?;
    let text = config.ssh_keys.join("\n") + "\n";
    sarai_trust::atomic::write(&run.join(authorized::FILE), text.as_bytes(), 0o644)
        .map_err(|e| format!("nobody may come in by SSH: failed to {e}"))?;
    Ok(format!("{} may come in by SSH", config.ssh_keys.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Mode;

    #[test]
    fn keys_are_handed_out_a_line_each_and_without_any_there_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let mut config = Config::defaults(Mode::Pid1);
        hand_out(&config, &run).unwrap();
        assert!(!run.exists());
        config.ssh_keys = vec!["ssh-ed25519 AAAA a".into(), "ssh-ed25519 AAAB b".into()];
        hand_out(&config, &run).unwrap();
        let text = fs::read_to_string(run.join(authorized::FILE)).unwrap();
        assert_eq!(text, "ssh-ed25519 AAAA a\nssh-ed25519 AAAB b\n");
    }
}
