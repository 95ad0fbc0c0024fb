//! The rotated log file, and the lines that wait while it cannot be written: during boot, before its disk is there,
//! and whenever that disk is full or broken.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sarai_wire::control::LogLine;

use super::{OWN, Rotated};

/// The file's name.
const NAME: &str = "sarai.log";
/// Rotated files kept beside the current one.
const KEEP: u32 = 3;
/// Most lines that wait; the oldest go first.
const MAX_LINES: usize = 4096;
/// Most bytes of text that wait.
const MAX_BYTES: usize = 256 * 1024;
/// Pause before a disk that failed is tried again.
const PAUSE: Duration = Duration::from_secs(10);

/// A line, and how many before it were lost.
struct Waiting {
    line: LogLine,
    lost: u64,
}

/// Where lines go to last.
pub(super) struct Disk {
    /// Set once its file system is there; until then every line waits.
    folder: Arc<OnceLock<PathBuf>>,
    file: Option<Rotated>,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    retry: Option<Instant>,
}

impl Disk {
    pub(super) fn new(folder: Arc<OnceLock<PathBuf>>) -> Self {
        Self {
            folder,
            file: None,
            waiting: VecDeque::new(),
            bytes: 0,
            retry: None,
        }
    }

    /// Takes a line, before which `lost` others did not get here.
    pub(super) fn add(&mut self, line: LogLine, lost: u64) {
        self.bytes += line.text.len();
        self.waiting.push_back(Waiting { line, lost });
        while self.waiting.len() > MAX_LINES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.waiting.pop_front() else {
                break;
            };
            self.bytes -= oldest.line.text.len();
            if let Some(next) = self.waiting.front_mut() {
                next.lost += oldest.lost + 1;
            }
        }
    }

    /// Writes what waits, unless the disk failed a moment ago.
    pub(super) fn write(&mut self) {
        if self.retry.is_none_or(|at| Instant::now() >= at) {
            self.write_now();
        }
    }

    /// Writes what waits, as far as the disk takes it.
    pub(super) fn write_now(&mut self) {
        let Some(folder) = self.folder.get() else {
            return;
        };
        let file = self.file.get_or_insert_with(|| Rotated::new(folder, NAME, KEEP));
        self.retry = None;
        while let Some(oldest) = self.waiting.front_mut() {
            let LogLine { time, service, text } = &oldest.line;
            let mut bytes = String::new();
            if oldest.lost > 0 {
                let lost = oldest.lost;
                bytes = format!(
                    "{time} {OWN} ({lost} lines before this one were lost: the disk did not take them)\n"
                );
            }
            bytes.push_str(&format!("{time} {service} {text}\n"));
            if file.write(bytes.as_bytes()).is_err() {
                self.retry = Some(Instant::now() + PAUSE);
                return;
            }
            self.bytes -= text.len();
            self.waiting.pop_front();
        }
    }

    /// Time until the disk should be tried again, if something waits for that.
    pub(super) fn pause(&self) -> Option<Duration> {
        let at = self.retry.filter(|_| !self.waiting.is_empty())?;
        Some(at.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::rotated::ROTATE_AT;
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    fn line(text: &str) -> LogLine {
        LogLine {
            time: "T".into(),
            service: OWN.into(),
            text: text.into(),
        }
    }

    /// A disk whose folder is there.
    fn disk(folder: &Path) -> Disk {
        Disk::new(Arc::new(OnceLock::from(folder.to_path_buf())))
    }

    fn read(folder: &Path) -> String {
        fs::read_to_string(folder.join("sarai.log")).unwrap()
    }

    #[test]
    fn the_file_is_rotated_and_old_ones_go_away() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = disk(dir.path());
        for n in 0..60u32 {
            disk.add(line(&format!("{n:03}{}", "x".repeat(100_000))), 0);
            disk.write();
        }
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["sarai.log", "sarai.log.1", "sarai.log.2", "sarai.log.3"]);
        for name in names {
            assert!(fs::metadata(dir.path().join(name)).unwrap().len() <= ROTATE_AT);
        }
        assert!(read(dir.path()).contains("059x"));
    }

    #[test]
    fn what_was_said_before_the_disk_was_there_is_written_first() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(OnceLock::new());
        let mut disk = Disk::new(Arc::clone(&folder));
        for text in ["one", "two"] {
            disk.add(line(text), 0);
            disk.write();
        }
        assert_eq!(disk.pause(), None, "nothing to wait for but the folder");
        folder.set(dir.path().to_path_buf()).unwrap();
        disk.add(line("three"), 0);
        disk.write();
        assert_eq!(
            read(dir.path()),
            "T supervisor one\nT supervisor two\nT supervisor three\n"
        );
    }

    #[test]
    fn a_full_disk_keeps_lines_waiting_until_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sarai.log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut disk = disk(dir.path());
        for text in ["one", "two"] {
            disk.add(line(text), 0);
            disk.write();
        }
        assert!(disk.pause().is_some_and(|pause| pause <= PAUSE));
        fs::remove_file(&path).unwrap();
        // Not before its time, unless it is the last chance.
        disk.write();
        assert!(!path.exists());
        disk.write_now();
        assert_eq!(read(dir.path()), "T supervisor one\nT supervisor two\n");
        assert_eq!(disk.pause(), None);
        assert_eq!(disk.bytes, 0);
    }

    #[test]
    fn a_disk_that_breaks_at_any_byte_leaves_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = disk(dir.path());
        disk.add(line("before"), 0);
        disk.write();
        // As after a power cut, or a write that was cut and could not be taken back.
        disk.file = None;
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(dir.path().join("sarai.log"))
            .unwrap();
        file.write_all(b"T supervisor hal").unwrap();
        disk.add(line("after"), 0);
        disk.write();
        assert_eq!(
            read(dir.path()),
            "T supervisor before\nT supervisor hal\nT supervisor after\n"
        );
    }

    /// A file system of a few pages, filled to its last byte, as root alone can mount it; nobody outside of this
    /// thread sees it.
    #[test]
    fn a_line_that_half_fits_is_not_written_in_half() {
        use nix::mount::{MsFlags, mount};
        use nix::sched::{CloneFlags, unshare};
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().to_path_buf();
        let none: Option<&str> = None;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        std::thread::spawn(move || {
            let mounted = unshare(CloneFlags::CLONE_NEWNS)
                .and_then(|()| mount(none, "/", none, private, none))
                .and_then(|()| mount(none, &at, Some("tmpfs"), MsFlags::empty(), Some("size=8k")));
            if let Err(e) = mounted {
                println!("not tested here: mounting needs root ({e})");
                return;
            }
            fs::write(at.join("filler"), [0; 4096]).unwrap();
            let mut disk = disk(&at);
            let long = "x".repeat(1500);
            for n in 1..=4 {
                disk.add(line(&format!("{n} {long}")), 0);
                disk.write();
            }
            let written = format!("T supervisor 1 {long}\nT supervisor 2 {long}\n");
            assert_eq!(read(&at), written, "two lines fit into a page");
            fs::remove_file(at.join("filler")).unwrap();
            disk.write_now();
            let all = format!("{written}T supervisor 3 {long}\nT supervisor 4 {long}\n");
            assert_eq!(read(&at), all);
        })
        .join()
        .unwrap();
    }

    proptest! {
        /// Whatever comes while the disk is away: memory stays bounded, and every line is either in the file, in its
        /// order, or counted where it is missing.
        #[test]
        fn no_line_is_lost_uncounted(
            sizes in proptest::collection::vec((0usize..2000, 0u64..3), 1..600),
            repeat in 1usize..20,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let folder = Arc::new(OnceLock::new());
            let mut disk = Disk::new(Arc::clone(&folder));
            let mut said = 0u64;
            for (n, (size, lost)) in sizes.iter().cycle().take(sizes.len() * repeat).enumerate() {
                disk.add(line(&format!("{n} {}", "x".repeat(*size))), *lost);
                disk.write();
                said += 1 + lost;
                prop_assert!(disk.bytes <= MAX_BYTES && disk.waiting.len() <= MAX_LINES);
            }
            folder.set(dir.path().to_path_buf()).unwrap();
            disk.write();
            let (mut counted, mut last) = (0u64, None);
            for text in read(dir.path()).lines() {
                let text = text.strip_prefix("T supervisor ").unwrap();
                let number = text.trim_start_matches('(').split(' ').next().unwrap().parse::<u64>().unwrap();
                if text.starts_with('(') {
                    counted += number;
                } else {
                    counted += 1;
                    prop_assert!(last.is_none_or(|last| last < number));
                    last = Some(number);
                }
            }
            prop_assert_eq!(counted, said);
        }
    }
}
