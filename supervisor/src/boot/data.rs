//! The data partition, mounted. Without it the machine runs from memory and says so.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount as mount_fs, umount2};

use super::disk::content::{Content, Ext, LABEL};
use super::disk::make;

/// Mounts `device` at `target`, or memory instead, where there is none for the reason given.
pub fn mount(target: &Path, device: Result<&Path, String>) -> Result<String, String> {
    fs::create_dir_all(target).map_err(|e| format!("cannot make {}: {e}", target.display()))?;
    let reason = match device {
        Ok(device) => match mount_device(device, target) {
            Ok(said) => return Ok(said),
            Err(e) => format!("{} is damaged: {e}", device.display()),
        },
        Err(reason) => reason,
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

fn mount_device(device: &Path, target: &Path) -> Result<String, String> {
    let mut said = format!("{} mounted", device.display());
    let ext = match make::look(device)? {
        Content::Data(ext) => ext,
        other => return Err(format!("no data partition is on it, but: {other:?}")),
    };
    match make::mend(device, &ext) {
        Ok(None) => {}
        Ok(Some(mended)) => said = format!("{said}; {mended}"),
        // What cannot be mended may still be read.
        Err(e) => said = format!("{said}; it has errors and is not mended: {e}"),
    }
    mount_writable(device, target)?;
    match grow(device, target, &ext) {
        Ok(None) => {}
        Ok(Some(bytes)) => said = format!("{said}; grown to {} MiB", bytes >> 20),
        Err(e) => said = format!("{said}; {e}"),
    }
    Ok(said)
}

/// Lets the file system fill its device, where that became larger. Its new size, if it has one.
fn grow(device: &Path, target: &Path, ext: &Ext) -> Result<Option<u64>, String> {
    let mut file = fs::File::open(device).map_err(|e| e.to_string())?;
    let bytes = io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(|e| e.to_string())?;
    if !make::grow(target, ext.bytes, bytes)? {
        return Ok(None);
    }
    // The kernel leaves a last group out that is too small for its own tables.
    Ok(match make::look(device) {
        Ok(Content::Data(now)) if now.bytes > ext.bytes => Some(now.bytes),
        _ => None,
    })
}

fn mount_writable(device: &Path, target: &Path) -> Result<(), String> {
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

/// The block device that carries the label, those whose names begin with `except` left out.
#[must_use]
pub fn find(class: &Path, dev: &Path, except: Option<&str>) -> Option<PathBuf> {
    let mut names: Vec<String> = fs::read_dir(class)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| except.is_none_or(|except| !name.starts_with(except)))
        .collect();
    names.sort();
    names
        .into_iter()
        .map(|name| dev.join(name))
        .find(|path| label(path).is_ok_and(|label| label == LABEL))
}

/// Label of an ext2/3/4 file system.
fn label(device: &Path) -> io::Result<String> {
    use std::os::unix::fs::FileExt;
    let mut block = [0; 1024];
    fs::File::open(device)?.read_exact_at(&mut block, 1024)?;
    let ext = Ext::parse(&block).ok_or_else(|| io::Error::other("no ext file system"))?;
    Ok(ext.label)
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
        assert_eq!(find(&class, &dev, None), Some(dev.join("vda")));
        assert_eq!(find(&class, &dev, Some("vda")), None);
        fs::remove_file(dev.join("vda")).unwrap();
        assert_eq!(find(&class, &dev, None), None);
    }
}
