//! Kernel modules, in the order of a list: no module tools are needed in the image.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;

/// Largest list, bytes.
const MAX_LIST: u64 = 64 * 1024;
/// `MODULE_INIT_COMPRESSED_FILE`: the kernel decompresses.
const COMPRESSED: libc::c_int = 4;

/// One line of the list.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    path: PathBuf,
    parameters: String,
}

/// Loads every module of the list. A module for hardware the machine lacks is no error.
pub fn load(list: &Path) -> Result<String, String> {
    let text = match crate::config::read_bounded(list, MAX_LIST) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok("no list: everything is built in".to_owned()),
        Err(e) => return Err(format!("cannot read {}: {e}", list.display())),
    };
    let base = list.parent().unwrap_or(Path::new("/"));
    let (mut loaded, mut absent, mut failed) = (0, 0, Vec::new());
    for line in parse(&text, base) {
        match insert(&line) {
            Ok(()) | Err(Errno::EEXIST) => loaded += 1,
            Err(Errno::ENODEV) => absent += 1,
            Err(e) => failed.push(format!("{} ({e})", line.path.display())),
        }
    }
    if failed.is_empty() {
        Ok(format!("{loaded} loaded, {absent} without hardware"))
    } else {
        Err(format!(
            "{loaded} loaded, {absent} without hardware, failed: {}",
            failed.join(", ")
        ))
    }
}

/// `path [parameters]` a line; a relative path is below the folder of the list; `#` begins a comment.
fn parse(text: &str, base: &Path) -> Vec<Line> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or("").trim())
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (path, parameters) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            Line {
                path: base.join(path),
                parameters: parameters.trim().to_owned(),
            }
        })
        .collect()
}

fn insert(line: &Line) -> Result<(), Errno> {
    let file = File::open(&line.path).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    let parameters = CString::new(line.parameters.as_str()).map_err(|_| Errno::EINVAL)?;
    let compressed = line
        .path
        .extension()
        .is_some_and(|e| e == "xz" || e == "zst" || e == "gz");
    let flags = if compressed { COMPRESSED } else { 0 };
    // SAFETY: the descriptor is open and the text is terminated; both live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            file.as_raw_fd(),
            parameters.as_ptr(),
            flags,
        )
    };
    if result < 0 { Err(Errno::last()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_path_and_parameters() {
        let lines = parse(
            "# comment\n\nkernel/fs/ext4/ext4.ko.xz\n /m/i6300esb.ko nowayout=0 heartbeat=30 # why\n",
            "/b".as_ref(),
        );
        assert_eq!(
            lines,
            [
                Line {
                    path: "/b/kernel/fs/ext4/ext4.ko.xz".into(),
                    parameters: String::new()
                },
                Line {
                    path: "/m/i6300esb.ko".into(),
                    parameters: "nowayout=0 heartbeat=30".into()
                },
            ]
        );
    }

    #[test]
    fn a_missing_list_is_fine_and_a_missing_module_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("modules.list");
        assert!(load(&list).is_ok());
        std::fs::write(&list, "/nonexistent/virtio.ko\n").unwrap();
        assert!(load(&list).unwrap_err().contains("/nonexistent/virtio.ko"));
    }
}
