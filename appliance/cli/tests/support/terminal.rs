//! `sarai` on a terminal of its own, as on the serial console.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The far end of the terminal.
pub struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    unread: String,
    child: Child,
}

/// Starts the prompt with a pseudo-terminal as its controlling terminal.
pub fn open(socket: &Path) -> Terminal {
    use std::os::unix::process::CommandExt;
    let pair = nix::pty::openpty(None, None).unwrap();
    let mut command = super::command(&[]);
    command
        .env("SARAI_SOCKET", socket)
        .stdin(pair.slave.try_clone().unwrap())
        .stdout(pair.slave.try_clone().unwrap())
        .stderr(pair.slave);
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
    let keyboard = File::from(pair.master);
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
    pub fn send(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until the screen shows `text` after what was waited for before.
    pub fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(at) = self.unread.find(text) {
                self.unread.drain(..at + text.len());
                return;
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
