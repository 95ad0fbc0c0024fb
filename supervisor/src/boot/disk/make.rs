//! Making, checking and growing the file system of the data partition. The programs are e2fsprogs'; they run before
//! the reaper does and are waited for here, the only children that are.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::content::{self, Content, Ext, LABEL, MAKING};
use super::device::read_up_to;

/// Makes file systems.
const MKE2FS: &str = "/usr/sbin/mke2fs";
/// Mends them.
const E2FSCK: &str = "/usr/sbin/e2fsck";
/// Longest time for making one: only tables and the journal are written, on a slow stick at 1 MB/s.
const MAKE: Duration = Duration::from_secs(300);
/// Longest time for a check: of a disk of terabytes with many files.
const CHECK: Duration = Duration::from_secs(3600);
/// Where a new file system is mounted to get its label.
const MOUNTED: &str = "/run/sarai-making";
/// Most of a program's words that are repeated.
const WORDS: usize = 300;

/// Makes a data partition of `device`, which holds nothing anybody wants. Only at its end has it the label of one.
pub fn file_system(device: &Path) -> Result<(), String> {
    let arguments = [
        "-q",
        "-F",
        "-t",
        "ext4",
        // fs-verity wants blocks of the size of a page.
        "-b",
        "4096",
        "-O",
        "verity",
        "-L",
        MAKING,
        "-m",
        "1",
        "-J",
        "size=64",
        // Nothing is discarded: not every stick survives it.
        "-E",
        "root_owner=0:0,lazy_itable_init=1,nodiscard",
    ];
    let mut command = Command::new(MKE2FS);
    command.args(arguments).arg(device);
    run(command, MAKE, |code| code == 0)?;
    flush(device)?;
    label(device)?;
    flush(device)?;
    match look(device)? {
        Content::Data(_) => Ok(()),
        other => Err(format!("{} was made and is {other:?}", device.display())),
    }
}

/// Gives the file system its real label by the kernel, mounted, and unmounts it: only then is the label certain to
/// stand in the superblock itself and not in the journal alone.
fn label(device: &Path) -> Result<(), String> {
    let wrong = |what: &str, e: &dyn std::fmt::Display| format!("{} cannot be {what}: {e}", device.display());
    let at = Path::new(MOUNTED);
    fs::create_dir_all(at).map_err(|e| wrong("mounted", &e))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(device), at, Some("ext4"), flags, None::<&str>).map_err(|e| wrong("mounted", &e))?;
    let mut text = [0; 256];
    text[..LABEL.len()].copy_from_slice(LABEL.as_bytes());
    let done = File::open(at).map_err(|e| e.to_string()).and_then(|root| {
        // SAFETY: the descriptor is open and `text` is the array that the call's number declares, terminated.
        unsafe { set_label(root.as_raw_fd(), &raw const text) }.map_err(|e| e.to_string())
    });
    umount2(at, MntFlags::empty()).map_err(|e| wrong("unmounted", &e))?;
    let _ = fs::remove_dir(at);
    done.map(|_| ()).map_err(|e| wrong("labelled", &e))
}

nix::ioctl_write_ptr!(
    /// `FS_IOC_SETFSLABEL`.
    set_label,
    0x94,
    50,
    [u8; 256]
);

nix::ioctl_write_ptr!(
    /// `EXT4_IOC_RESIZE_FS`: the wanted number of blocks.
    resize_fs,
    b'f',
    16,
    u64
);

/// What is on a partition.
pub fn look(device: &Path) -> Result<Content, String> {
    let read = || -> std::io::Result<Content> {
        let file = File::open(device)?;
        let front = read_up_to(&file, 0, content::FRONT)?;
        let second = read_up_to(&file, content::SECOND, content::SUPERBLOCK)?;
        Ok(content::judge(&front, &second))
    };
    read().map_err(|e| format!("{} cannot be read: {e}", device.display()))
}

/// Mends a file system in which errors were met, as far as that can be done without asking. What it did, if it had to.
pub fn mend(device: &Path, ext: &Ext) -> Result<Option<String>, String> {
    if !ext.errors {
        return Ok(None);
    }
    let mut command = Command::new(E2FSCK);
    command.arg("-p").arg(device);
    // 1: mended; 2: and would have to be mounted anew, if it were mounted.
    run(command, CHECK, |code| code & !3 == 0)
        .map(|said| Some(format!("{} had errors and was mended: {said}", device.display())))
}

/// Grows a mounted file system to `bytes`. Returns whether it had to grow.
pub fn grow(mounted: &Path, now: u64, bytes: u64) -> Result<bool, String> {
    let blocks = bytes / 4096;
    if blocks <= now / 4096 {
        return Ok(false);
    }
    let root = File::open(mounted).map_err(|e| e.to_string())?;
    // SAFETY: the descriptor is open; the call reads one number.
    unsafe { resize_fs(root.as_raw_fd(), &raw const blocks) }
        .map(|_| true)
        .map_err(|e| format!("it cannot be grown to {} MiB: {e}", bytes >> 20))
}

fn flush(device: &Path) -> Result<(), String> {
    File::options()
        .write(true)
        .open(device)
        .and_then(|file| file.sync_all())
        .map_err(|e| format!("{} cannot be flushed: {e}", device.display()))
}

/// Runs a program to its end, within `limit`. Its words, cut, or why it did not do what it should.
fn run(mut command: Command, limit: Duration, good: impl Fn(i32) -> bool) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let words = Path::new("/run").join(format!(
        "sarai-{}.log",
        name.rsplit('/').next().unwrap_or("program")
    ));
    let wrong = |e: std::io::Error| format!("{name}: {e}");
    // A file, not a pipe: what nobody reads would stop it.
    let log = File::create(&words).map_err(wrong)?;
    let also = log.try_clone().map_err(wrong)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(also)
        .env("PATH", "/usr/sbin:/usr/bin")
        .spawn()
        .map_err(wrong)?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().map_err(wrong)? {
            Some(status) => break Some(status),
            None if begun.elapsed() > limit => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            None => {
                // A large disk takes its time.
                crate::watchdog::boot_goes_on();
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    };
    let said = fs::read(&words).unwrap_or_default();
    let _ = fs::remove_file(&words);
    let said: String = String::from_utf8_lossy(&said)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let said: String = said.chars().take(WORDS).collect();
    match status {
        Some(status) if status.code().is_some_and(&good) => Ok(said),
        Some(status) => Err(format!("{name} ended with {status}: {said}")),
        None => Err(format!("{name} did not end within {} s", limit.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_hangs_or_is_missing_is_told() {
        let shell = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            command
        };
        let limit = Duration::from_secs(60);
        assert_eq!(
            run(shell("echo a; echo b >&2"), limit, |c| c == 0).unwrap(),
            "a b"
        );
        assert!(
            run(shell("echo why; exit 8"), limit, |c| c & !3 == 0)
                .unwrap_err()
                .contains("why")
        );
        assert!(run(shell("exit 1"), limit, |c| c & !3 == 0).is_ok());
        assert!(run(Command::new("/nonexistent"), limit, |c| c == 0).is_err());
        let late = run(shell("sleep 600"), Duration::from_millis(50), |c| c == 0);
        assert!(late.unwrap_err().contains("did not end"));
    }

    #[test]
    fn the_calls_are_the_kernels() {
        assert_eq!(nix::request_code_write!(0x94, 50, 256), 0x4100_9432);
        assert_eq!(nix::request_code_write!(b'f', 16, 8), 0x4008_6610);
    }
}
