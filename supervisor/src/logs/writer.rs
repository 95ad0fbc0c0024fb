//! The thread that writes log lines to the rotated file and to the console. It alone may block on a slow or full
//! disk; the supervisor's loop hands lines over and goes on.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sarai_wire::control::LogLine;

use super::OWN;
use super::disk::Disk;

/// Lines that may wait for this thread.
const QUEUE: usize = 1024;

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
    folder: Arc<OnceLock<PathBuf>>,
    dropped: Arc<AtomicU64>,
    quiet: Arc<AtomicBool>,
}

impl Writer {
    /// Starts the thread. Lines go to `echo`, and wait for [`Writer::folder`] to be written.
    pub fn start(echo: Echo) -> std::io::Result<Self> {
        let (orders, incoming) = sync_channel(QUEUE);
        let folder = Arc::new(OnceLock::new());
        let dropped = Arc::new(AtomicU64::new(0));
        let quiet = Arc::new(AtomicBool::new(false));
        let (disk, lost, hushed) = (
            Disk::new(Arc::clone(&folder)),
            Arc::clone(&dropped),
            Arc::clone(&quiet),
        );
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || work(&incoming, disk, echo, &lost, &hushed))?;
        Ok(Self {
            orders,
            folder,
            dropped,
            quiet,
        })
    }

    /// The folder is there: lines go to `sarai.log` in it, those said until now first. The first call counts.
    pub(super) fn folder(&self, folder: PathBuf) {
        let _ = self.folder.set(folder);
        // Wakes the thread. One that is too busy to be woken is awake.
        let (done, _) = sync_channel(1);
        let _ = self.orders.try_send(Order::Flush(done));
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

fn work(incoming: &Receiver<Order>, disk: Disk, mut echo: Echo, lost: &AtomicU64, quiet: &AtomicBool) {
    let mut disk = Some(disk);
    loop {
        let order = match disk.as_ref().and_then(Disk::pause) {
            Some(pause) => incoming.recv_timeout(pause),
            None => incoming.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match order {
            Ok(Order::Line(line)) => {
                if !quiet.load(Ordering::Relaxed) {
                    show(&mut echo, &line);
                }
                if let Some(disk) = &mut disk {
                    disk.add(line, lost.swap(0, Ordering::Relaxed));
                    disk.write();
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Some(disk) = &mut disk {
                    disk.write();
                }
            }
            Ok(Order::Flush(done)) => {
                if let Some(disk) = &mut disk {
                    disk.write_now();
                }
                let _ = done.send(());
            }
            Ok(Order::Close(done)) => {
                if let Some(mut disk) = disk.take() {
                    disk.write_now();
                }
                let _ = done.send(());
            }
            Err(RecvTimeoutError::Disconnected) => return,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn say(writer: &Writer, text: &str) {
        writer.line(&LogLine {
            time: "T".into(),
            service: OWN.into(),
            text: text.into(),
        });
    }

    #[test]
    fn a_folder_that_cannot_be_written_does_not_stop_the_thread() {
        let writer = Writer::start(Echo::None).unwrap();
        writer.folder("/nonexistent/folder".into());
        say(&writer, "one");
        say(&writer, "two");
        let begun = Instant::now();
        writer.flush(Duration::from_secs(60));
        assert!(begun.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn the_folder_may_come_late_and_everything_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::start(Echo::None).unwrap();
        say(&writer, "one");
        writer.flush(Duration::from_secs(60));
        // No line has to follow for this to be written.
        writer.folder(dir.path().to_path_buf());
        writer.flush(Duration::from_secs(60));
        let log = dir.path().join("sarai.log");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "T supervisor one\n");
        say(&writer, "two");
        writer.close(Duration::from_secs(60));
        say(&writer, "three");
        writer.flush(Duration::from_secs(60));
        assert_eq!(
            std::fs::read_to_string(&log).unwrap(),
            "T supervisor one\nT supervisor two\n",
            "after the end the file is let go of"
        );
    }
}
