//! `sarai` on a terminal of its own, as on the serial console.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

/// Longest time for anything to be shown.
const PATIENCE: Duration = Duration::from_secs(60);

/// The far end of the terminal.
pub struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    unread: String,
    child: Child,
}

/// Starts `sarai` with a pseudo-terminal as its controlling terminal; gives the terminal's far end.
pub fn spawn(socket: &Path, args: &[&str]) -> (File, Child) {
    use std::os::unix::process::CommandExt;
    // Children that other tests start meanwhile must not hold this end open.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let far = nix::pty::posix_openpt(flags).unwrap();
    nix::pty::grantpt(&far).unwrap();
    nix::pty::unlockpt(&far).unwrap();
    let far = File::from(OwnedFd::from(far));
    let near = near(&far);
    let mut command = super::command(args);
    command
        .env("SARAI_SOCKET", socket)
        .stdin(near.try_clone().unwrap())
        .stdout(near.try_clone().unwrap())
        .stderr(near);
    // SAFETY: between fork and exec only these two system calls are made; neither allocates nor locks.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            nix::libc::ioctl(0, nix::libc::TIOCSCTTY, 0);
            Ok(())
        });
    }
    let child = command.spawn().unwrap();
    drop(command); // closes this process's copies of the terminal
    (far, child)
}

/// The end of the terminal that programs have.
fn near(far: &File) -> File {
    let mut number: nix::libc::c_uint = 0;
    // SAFETY: the request writes one unsigned number to where it is told, which is one.
    let done = unsafe { nix::libc::ioctl(far.as_raw_fd(), nix::libc::TIOCGPTN, &raw mut number) };
    assert_eq!(done, 0, "it has no number");
    let mut options = File::options();
    options.read(true).write(true).custom_flags(nix::libc::O_NOCTTY);
    options.open(format!("/dev/pts/{number}")).unwrap()
}

/// Starts the prompt.
pub fn open(socket: &Path) -> Terminal {
    open_with(socket, &[])
}

/// Starts `sarai` with these arguments.
pub fn open_with(socket: &Path, args: &[&str]) -> Terminal {
    let (keyboard, child) = spawn(socket, args);
    let mut reader = keyboard.try_clone().unwrap();
    let (sender, screen) = channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 1024];
        while let Ok(n) = reader.read(&mut bytes) {
            if n == 0 || sender.send(bytes[..n].to_vec()).is_err() {
                break;
            }
        }
    });
    Terminal {
        keyboard,
        screen,
        unread: String::new(),
        child,
    }
}

impl Terminal {
    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        self.keyboard.write_all(text.as_ref()).unwrap();
    }

    /// What is given up to a text that comes behind what was waited for before.
    pub fn wait_until(&mut self, text: &str) -> String {
        let before = self.unread_with(text);
        let at = before.find(text).unwrap();
        self.unread = before[at + text.len()..].to_owned();
        before[..at].to_owned()
    }

    /// The end of it that programs have.
    pub fn near(&self) -> File {
        near(&self.keyboard)
    }

    /// Waits until the screen shows `text` after what was waited for before.
    pub fn wait_for(&mut self, text: &str) {
        self.wait_until(text);
    }

    fn unread_with(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if self.unread.contains(text) {
                return std::mem::take(&mut self.unread);
            }
            let left = end.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.screen.recv_timeout(left) else {
                panic!("{text:?} did not come; the screen shows {:?}", self.unread);
            };
            self.unread.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    /// Presses a key, again after a while, until the screen shows `text`: one that comes between the prompt and the
    /// wait for input is lost, as it is for a person.
    pub fn press_until(&mut self, key: &str, text: &str) {
        for _ in 0..20 {
            self.send(key);
            while let Ok(bytes) = self.screen.recv_timeout(Duration::from_secs(1)) {
                self.unread.push_str(&String::from_utf8_lossy(&bytes));
                if self.unread.contains(text) {
                    return self.wait_for(text);
                }
            }
        }
        panic!("{text:?} did not come; the screen shows {:?}", self.unread);
    }

    /// Forgets what was shown so far, once nothing has come for a while: the line as it was typed among it.
    pub fn forget(&mut self) {
        while self.screen.recv_timeout(Duration::from_millis(300)).is_ok() {}
        self.unread.clear();
    }

    pub fn end(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
