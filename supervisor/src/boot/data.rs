//! The data partition: found by its label, whatever disk it is on. Without it the machine runs from memory and says
//! so.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount as mount_fs, umount2};

/// Label of the data partition's ext4.
pub const LABEL: &str = "SARAI-DATA";
/// Time disks have to appear.
const PATIENCE: Duration = Duration::from_secs(15);
/// Where an ext superblock begins, bytes.
const SUPERBLOCK: u64 = 1024;

/// Mounts the data partition at `target`, or memory instead.
pub fn mount(target: &Path) -> Result<String, String> {
    fs::create_dir_all(target).map_err(|e| format!("cannot make {}: {e}", target.display()))?;
    let begun = Instant::now();
    let reason = loop {
        if let Some(device) = find(Path::new("/sys/class/block"), Path::new("/dev")) {
            match mount_device(&device, target) {
                Ok(()) => return Ok(format!("{} mounted", device.display())),
                Err(e) => break format!("{} is damaged: {e}", device.display()),
            }
        }
        if begun.elapsed() > PATIENCE {
            break format!("no partition is labelled {LABEL}");
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let instead = mount_fs(
        Some("tmpfs"),
        target,
        Some("tmpfs"),
        flags,
        Some("mode=0755,size=128m"),
    );
    let outcome = match instead {
        Ok(()) => "keys and state are in memory and lost at power-off, and there are no models".to_owned(),
        Err(e) => format!("memory could not be mounted instead: {e}"),
    };
    Err(format!("{reason}; {outcome}"))
}

fn mount_device(device: &Path, target: &Path) -> Result<(), String> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    mount_fs(
        Some(device),
        target,
        Some("ext4"),
        flags,
        Some("errors=remount-ro"),
    )
    .map_err(|e| e.to_string())?;
    // A file system with errors mounts read-only: better found out now than at the first key.
    let probe = target.join(".probe");
    let tried = fs::write(&probe, b"x").and_then(|()| fs::remove_file(&probe));
    match tried {
        Ok(()) => Ok(()),
        // Full is not damaged: what is there can be used.
        Err(e) if e.kind() == io::ErrorKind::StorageFull => Ok(()),
        Err(e) => {
            let _ = umount2(target, MntFlags::MNT_DETACH);
            Err(format!("it cannot be written ({e})"))
        }
    }
}

/// The block device that carries the label.
fn find(class: &Path, dev: &Path) -> Option<PathBuf> {
    let mut names: Vec<String> = fs::read_dir(class)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
        .into_iter()
        .map(|name| dev.join(name))
        .find(|path| label(path).is_ok_and(|label| label == LABEL))
}

/// Label of an ext2/3/4 file system.
fn label(device: &Path) -> io::Result<String> {
    let mut block = [0; 256];
    File::open(device)?.read_exact_at(&mut block, SUPERBLOCK)?;
    if block[0x38..0x3a] != [0x53, 0xef] {
        return Err(io::Error::other("no ext file system"));
    }
    let label = &block[0x78..0x88];
    let end = label.iter().position(|byte| *byte == 0).unwrap_or(label.len());
    Ok(String::from_utf8_lossy(&label[..end]).into_owned())
}

/// At shutdown: unmounts, or at least makes read-only.
pub fn unmount(target: &Path) -> Result<(), String> {
    if umount2(target, MntFlags::empty()).is_ok() {
        return Ok(());
    }
    let none: Option<&Path> = None;
    mount_fs(none, target, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(label: &str) -> Vec<u8> {
        let mut bytes = vec![0; 8192];
        bytes[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
        bytes[1024 + 0x78..1024 + 0x78 + label.len()].copy_from_slice(label.as_bytes());
        bytes
    }

    #[test]
    fn the_partition_is_found_by_its_label_among_others() {
        let dir = tempfile::tempdir().unwrap();
        let (class, dev) = (dir.path().join("class"), dir.path().join("dev"));
        fs::create_dir(&class).unwrap();
        fs::create_dir(&dev).unwrap();
        for (name, bytes) in [
            ("sda1", image("OTHER")),
            ("sda2", vec![0; 100]),
            ("sdb1", vec![0xff; 8192]),
            ("vda", image(LABEL)),
        ] {
            fs::write(class.join(name), "").unwrap();
            fs::write(dev.join(name), bytes).unwrap();
        }
        fs::write(class.join("gone"), "").unwrap();
        assert_eq!(find(&class, &dev), Some(dev.join("vda")));
        fs::remove_file(dev.join("vda")).unwrap();
        assert_eq!(find(&class, &dev), None);
    }
}
