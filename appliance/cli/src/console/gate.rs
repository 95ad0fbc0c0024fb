//! Keeps a terminal until its lock is open.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{
    FlushArg, InputFlags, LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, tcflush, tcgetattr,
    tcsetattr,
};

use super::lock::{Lock, draw};
use super::say;

/// Asks for the code that it shows. False: the terminal is gone.
pub fn pass(terminal: &mut File) -> io::Result<bool> {
    listen(&*terminal)?;
    let begun = Instant::now();
    let mut lock = Lock::new(draw, begun.elapsed())?;
    loop {
        let mut out = String::new();
        lock.show(begun.elapsed(), &mut out);
        say(&out);
        let left = lock.due().map(|due| due.saturating_sub(begun.elapsed()));
        let mut asked = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        match poll(&mut asked, left.map_or(PollTimeout::NONE, timeout)) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(e) => return Err(e.into()),
        }
        // One byte: what follows the code belongs to the prompt.
        let mut byte = [0];
        match terminal.read(&mut byte) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            // What a terminal says that was hung up.
            Err(e) if e.raw_os_error() == Some(Errno::EIO as i32) => return Ok(false),
            Err(e) => return Err(e),
        }
        let mut out = String::new();
        let open = lock.take(begun.elapsed(), byte[0], &mut out)?;
        say(&out);
        if open {
            obey(&*terminal)?;
            return Ok(true);
        }
    }
}

/// Not less than `left`, which a lock keeps below a minute.
fn timeout(left: Duration) -> PollTimeout {
    let milliseconds = left.as_millis().saturating_add(1);
    u16::try_from(milliseconds).unwrap_or(u16::MAX).into()
}

/// Has every byte come as it is typed, unseen: no key ends, stops or suspends anything. What was typed before the code
/// was there to be seen is forgotten.
fn listen(terminal: impl AsFd) -> io::Result<()> {
    let mut modes = tcgetattr(&terminal)?;
    modes.input_flags.remove(
        InputFlags::ICRNL | InputFlags::INLCR | InputFlags::IGNCR | InputFlags::ISTRIP | InputFlags::IXON,
    );
    modes.output_flags.insert(OutputFlags::OPOST | OutputFlags::ONLCR);
    modes.local_flags.remove(
        LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ISIG | LocalFlags::IEXTEN,
    );
    modes.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
    modes.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
    // At once: a line without anybody at the other end may never take what was written.
    tcsetattr(&terminal, SetArg::TCSANOW, &modes)?;
    Ok(tcflush(&terminal, FlushArg::TCIFLUSH)?)
}

/// Has a terminal behave as commands expect one to. Not as it was: a prompt that was killed may have left it anyhow.
pub fn obey(terminal: impl AsFd) -> io::Result<()> {
    let mut modes = tcgetattr(&terminal)?;
    modes
        .input_flags
        .remove(InputFlags::INLCR | InputFlags::IGNCR | InputFlags::ISTRIP);
    modes.input_flags.insert(InputFlags::ICRNL | InputFlags::IXON);
    modes.output_flags.insert(OutputFlags::OPOST | OutputFlags::ONLCR);
    modes.local_flags.insert(
        LocalFlags::ICANON
            | LocalFlags::ECHO
            | LocalFlags::ECHOE
            | LocalFlags::ECHOK
            | LocalFlags::ECHOCTL
            | LocalFlags::ECHOKE
            | LocalFlags::ISIG
            | LocalFlags::IEXTEN,
    );
    Ok(tcsetattr(&terminal, SetArg::TCSANOW, &modes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_waits_shorter_than_what_is_left() {
        for left in [0, 1, 999, 1000, 32_000] {
            let waits = timeout(Duration::from_millis(left)).as_millis().unwrap();
            assert!(
                u64::from(waits) > left && u64::from(waits) <= left + 1,
                "{left}: {waits}"
            );
        }
        assert_eq!(timeout(Duration::from_secs(3600)).as_millis(), Some(65_535));
    }

    #[test]
    fn no_key_means_anything_while_it_is_locked_and_every_one_does_after() {
        let pair = nix::pty::openpty(None, None).unwrap();
        listen(&pair.slave).unwrap();
        let modes = tcgetattr(&pair.slave).unwrap();
        assert!(
            !modes
                .local_flags
                .intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN)
        );
        assert!(!modes.input_flags.intersects(InputFlags::IXON | InputFlags::ICRNL));
        obey(&pair.slave).unwrap();
        let modes = tcgetattr(&pair.slave).unwrap();
        assert!(
            modes
                .local_flags
                .contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
        );
        assert!(modes.input_flags.contains(InputFlags::IXON | InputFlags::ICRNL));
    }
}
