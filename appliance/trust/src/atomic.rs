//! Small files that survive a power cut at any byte: write aside, fsync, rename, fsync the folder.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::TrustError;

/// Replaces the file at `path` by `bytes` with the permissions `mode`. After a power cut the path holds either
/// the old content or the new one, whole; once this returns, it holds the new one.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TrustError> {
    let (folder, name) = match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if folder.as_os_str().is_empty() => (Path::new("."), name),
        (Some(folder), Some(name)) => (folder, name),
        _ => {
            return Err(TrustError::InvalidName {
                name: path.display().to_string(),
            });
        }
    };
    // The number tells two writers of this process apart, the process id two processes. After a crash the same
    // names come again (PID 1 is always 1), so leftovers are overwritten and do not pile up.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut aside_name = std::ffi::OsString::from(".");
    aside_name.push(name);
    aside_name.push(format!(
        ".{}-{}.new",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    ));
    let aside = Aside(folder.join(aside_name));

    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&aside.0)
        .map_err(TrustError::io("create", &aside.0))?;
    // The process's umask has no say in it.
    file.set_permissions(std::fs::Permissions::from_mode(mode))
        .map_err(TrustError::io("set the mode of", &aside.0))?;
    file.write_all(bytes).map_err(TrustError::io("write", &aside.0))?;
    file.sync_all().map_err(TrustError::io("flush", &aside.0))?;
    drop(file);
    std::fs::rename(&aside.0, path).map_err(TrustError::io("rename a new file to", path))?;
    sync_folder(folder)
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> Result<(), TrustError> {
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(TrustError::io("flush", folder))
}

/// The file aside, removed again if the write does not get to its end.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        // After the rename there is nothing left to remove; that is the ordinary case, not an error.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_and_mode_are_replaced_and_nothing_is_left_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.toml");
        write(&path, b"one", 0o644).unwrap();
        write(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_content_and_nothing_aside() {
        let folder = tempfile::tempdir().unwrap();
        // A folder with something in it cannot be replaced by a file.
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("inside"), "x").unwrap();
        assert_eq!(write(&path, b"new", 0o600).unwrap_err().name(), "io");
        assert!(path.join("inside").exists());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = write(Path::new("/nonexistent-folder/x"), b"", 0o600).unwrap_err();
        assert_eq!(error.name(), "missing-file");
        assert_eq!(
            write(Path::new("/"), b"", 0o600).unwrap_err().name(),
            "invalid-file-name"
        );
    }

    #[test]
    fn many_writers_at_once_leave_one_whole_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        std::thread::scope(|scope| {
            for n in 0..8_u8 {
                let path = &path;
                scope.spawn(move || write(path, &vec![n; 10_000], 0o600).unwrap());
            }
        });
        let content = std::fs::read(&path).unwrap();
        assert!(content.len() == 10_000 && content.iter().all(|b| *b == content[0]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
