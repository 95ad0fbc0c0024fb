//! The thread that writes log lines to the rotated file and to the console. It alone may block on a slow or full
//! disk; the supervisor's loop hands lines over and goes on.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use sarai_wire::control::LogLine;

use super::OWN;

/// Lines that may wait for the disk.
const QUEUE: usize = 1024;
/// Size at which the file is rotated, bytes.
const ROTATE_AT: u64 = 1024 * 1024;
/// Rotated files kept beside the current one.
const KEEP: u32 = 3;

/// Where lines are shown while there is no prompt.
pub enum Echo {
    /// Nowhere.
    None,
    /// Every line, for development.
    Everything(File),
    /// The supervisor's own lines, with the time since the start.
    Own(File, Instant),
}

enum Order {
    Line(LogLine),
    Flush(SyncSender<()>),
    Close(SyncSender<()>),
}

/// Hands lines to the thread.
pub struct Writer {
    orders: SyncSender<Order>,
    dropped: Arc<AtomicU64>,
    quiet: Arc<AtomicBool>,
}

impl Writer {
    /// Starts the thread; lines go to `folder/sarai.log` (when given) and to `echo`.
    pub fn start(folder: Option<PathBuf>, echo: Echo) -> std::io::Result<Self> {
        let (orders, incoming) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let quiet = Arc::new(AtomicBool::new(false));
        let (lost, hushed) = (Arc::clone(&dropped), Arc::clone(&quiet));
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || work(&incoming, folder.as_deref(), echo, &lost, &hushed))?;
        Ok(Self {
            orders,
            dropped,
            quiet,
        })
    }

    pub(super) fn line(&self, line: &LogLine) {
        if let Err(TrySendError::Full(_)) = self.orders.try_send(Order::Line(line.clone())) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn quiet(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    pub(super) fn flush(&self, limit: Duration) {
        self.ask(Order::Flush, limit);
    }

    /// Lets go of the file for good, so that its file system can be unmounted.
    pub(super) fn close(&self, limit: Duration) {
        self.ask(Order::Close, limit);
    }

    fn ask(&self, order: fn(SyncSender<()>) -> Order, limit: Duration) {
        let (done, wait) = sync_channel(1);
        if self.orders.try_send(order(done)).is_ok() {
            let _ = wait.recv_timeout(limit);
        }
    }
}

fn work(
    incoming: &Receiver<Order>,
    folder: Option<&Path>,
    mut echo: Echo,
    lost: &AtomicU64,
    quiet: &AtomicBool,
) {
    let mut file = folder.map(Rotated::new);
    while let Ok(order) = incoming.recv() {
        match order {
            Order::Line(line) => {
                let dropped = lost.swap(0, Ordering::Relaxed);
                let mut text = String::new();
                if dropped > 0 {
                    text = format!(
                        "{} {OWN} ({dropped} lines were not written: the disk was too slow)\n",
                        line.time
                    );
                }
                text.push_str(&format!("{} {} {}\n", line.time, line.service, line.text));
                if let Some(file) = &mut file {
                    file.write(text.as_bytes());
                }
                if !quiet.load(Ordering::Relaxed) {
                    show(&mut echo, &line);
                }
            }
            Order::Flush(done) => {
                let _ = done.send(());
            }
            Order::Close(done) => {
                file = None;
                let _ = done.send(());
            }
        }
    }
}

/// A console that cannot be written to is no reason to stop logging.
fn show(echo: &mut Echo, line: &LogLine) {
    match echo {
        Echo::None => {}
        Echo::Everything(to) => {
            let _ = to.write_all(format!("{} {}: {}\n", line.time, line.service, line.text).as_bytes());
        }
        Echo::Own(to, since) => {
            if line.service == OWN {
                let text = format!("[{:6.1}s] {}\r\n", since.elapsed().as_secs_f64(), line.text);
                let _ = to.write_all(text.as_bytes());
            }
        }
    }
}

/// `sarai.log`, `sarai.log.1` … `sarai.log.3`.
struct Rotated {
    path: PathBuf,
    file: Option<(File, u64)>,
    retry: Option<Instant>,
}

impl Rotated {
    fn new(folder: &Path) -> Self {
        Self {
            path: folder.join("sarai.log"),
            file: None,
            retry: None,
        }
    }

    /// A full or broken disk is tried again after ten seconds; lines until then are only in memory.
    fn write(&mut self, bytes: &[u8]) {
        if self.retry.is_some_and(|at| Instant::now() < at) {
            return;
        }
        if let Err(_e) = self.try_write(bytes) {
            self.file = None;
            self.retry = Some(Instant::now() + Duration::from_secs(10));
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        if self
            .file
            .as_ref()
            .is_some_and(|(_, size)| size + bytes.len() as u64 > ROTATE_AT)
        {
            self.file = None;
            for n in (1..=KEEP).rev() {
                let from = if n == 1 {
                    self.path.clone()
                } else {
                    self.numbered(n - 1)
                };
                // A gap in the row of old files is normal.
                let _ = std::fs::rename(from, self.numbered(n));
            }
        }
        if self.file.is_none() {
            let file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o640)
                .open(&self.path)?;
            let size = file.metadata()?.len();
            self.file = Some((file, size));
        }
        if let Some((file, size)) = &mut self.file {
            file.write_all(bytes)?;
            *size += bytes.len() as u64;
        }
        Ok(())
    }

    fn numbered(&self, n: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{n}"));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_rotated_and_old_ones_go_away() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = Rotated::new(dir.path());
        for n in 0..60u32 {
            file.write(format!("{n:03}{}\n", "x".repeat(100_000)).as_bytes());
        }
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["sarai.log", "sarai.log.1", "sarai.log.2", "sarai.log.3"]);
        for name in names {
            assert!(std::fs::metadata(dir.path().join(name)).unwrap().len() <= ROTATE_AT);
        }
        assert!(
            std::fs::read_to_string(dir.path().join("sarai.log"))
                .unwrap()
                .contains("059x")
        );
    }

    #[test]
    fn a_folder_that_cannot_be_written_does_not_stop_the_thread() {
        let writer = Writer::start(Some("/nonexistent/folder".into()), Echo::None).unwrap();
        let line = LogLine {
            time: "t".into(),
            service: OWN.into(),
            text: "x".into(),
        };
        writer.line(&line);
        writer.line(&line);
        let begun = Instant::now();
        writer.flush(Duration::from_secs(5));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
