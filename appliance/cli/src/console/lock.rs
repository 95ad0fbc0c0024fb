//! The lock of a prompt: a code that is shown on its terminal, and asked for there.
//!
//! It has no clock and no terminal: it is told which byte came when, and says what is to be shown. What it keeps out is
//! whatever types without seeing: a stuck key, a scanner, a modem, noise, a cable whose other end answers or leads back.
//! So nothing that it shows may be the code when it comes back: no line is the code alone, and of what is typed only
//! stars are shown, which are no digits.

use std::io;
use std::time::Duration;

/// Digits of a code: few enough to be typed on a keypad, and one try in a million opens by chance.
const DIGITS: usize = 6;
/// How many codes there are.
const ALL: u32 = 1_000_000;
/// Most bytes of a line that are kept. One that is longer is wrong, whatever it is.
const MAX_LINE: usize = 32;
/// Wrong tries after which there is another code.
const TRIES: u32 = 3;
/// Wait after the first wrong try; each further one doubles it, so many times at most: 1 s to 32 s.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const DOUBLINGS: u32 = 5;
/// Shortest time between two showings of a code: a key that is stuck on Enter does not fill the terminal.
const PAUSE: Duration = Duration::from_secs(1);

const INTERRUPT: u8 = 0x03; // Ctrl-C
const END: u8 = 0x04; // Ctrl-D
const BACKSPACE: u8 = 0x08;
const KILL: u8 = 0x15; // Ctrl-U
const DELETE: u8 = 0x7f;

/// A code from the system's own randomness, each as likely as any other.
pub fn draw() -> io::Result<String> {
    // Above the last whole multiple the first codes would come more often.
    const EVEN: u32 = u32::MAX - u32::MAX % ALL;
    loop {
        let number = getrandom::u32().map_err(|e| io::Error::other(e.to_string()))?;
        if number < EVEN {
            return Ok(format!("{:0DIGITS$}", number % ALL));
        }
    }
}

/// A prompt's lock. Times are since any moment, the same one for all of them.
pub struct Lock<D> {
    draw: D,
    code: String,
    line: Vec<u8>,
    too_long: bool,
    /// The last byte was a carriage return: a line feed behind it ends no second line.
    returned: bool,
    /// Wrong tries so far.
    wrong: u32,
    /// When the code was shown last.
    shown: Duration,
    /// When it is to be shown.
    due: Option<Duration>,
    /// Nothing that is typed counts before that.
    deaf: bool,
}

impl<D: FnMut() -> io::Result<String>> Lock<D> {
    /// A lock with a code of its own, which is to be shown at once.
    pub fn new(mut draw: D, now: Duration) -> io::Result<Self> {
        Ok(Self {
            code: draw()?,
            draw,
            line: Vec::new(),
            too_long: false,
            returned: false,
            wrong: 0,
            shown: now,
            due: Some(now),
            deaf: true,
        })
    }

    /// When [`Lock::show`] has something to show.
    pub fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Shows the code if that is due. What stands half typed stays.
    pub fn show(&mut self, now: Duration, out: &mut String) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        (self.due, self.deaf, self.shown) = (None, false, now);
        out.push_str("\nThis prompt is locked. To open it, type ");
        out.push_str(&self.code);
        out.push_str(" and press Enter.\ncode: ");
        out.extend(self.line.iter().filter(|byte| byte.is_ascii_digit()).map(|_| '*'));
    }

    /// Takes a byte that was typed. True: it was the end of the right line, and the lock is used up.
    pub fn take(&mut self, now: Duration, byte: u8, out: &mut String) -> io::Result<bool> {
        if self.deaf {
            return Ok(false);
        }
        let returned = std::mem::replace(&mut self.returned, byte == b'\r');
        match byte {
            b'\n' if returned => {}
            b'\r' | b'\n' => return self.try_line(now, out),
            INTERRUPT | END | KILL => {
                self.forget();
                self.ask_again(now);
            }
            BACKSPACE | DELETE => {
                if self.line.pop().is_some_and(|gone| gone.is_ascii_digit()) {
                    out.push_str("\x08 \x08");
                }
            }
            _ if self.line.len() == MAX_LINE => self.too_long = true,
            _ => {
                self.line.push(byte);
                if byte.is_ascii_digit() {
                    out.push('*');
                }
            }
        }
        Ok(false)
    }

    fn try_line(&mut self, now: Duration, out: &mut String) -> io::Result<bool> {
        if self.line.is_empty() && !self.too_long {
            self.ask_again(now);
            return Ok(false);
        }
        let right = !self.too_long && self.line == self.code.as_bytes();
        self.forget();
        // Nothing is heard from here on, the line feed behind a carriage return neither.
        (self.deaf, self.returned) = (true, false);
        if right {
            // It opens once.
            self.code.clear();
            self.due = None;
            out.push('\n');
            return Ok(true);
        }
        let wait = FIRST_WAIT * 2u32.pow(self.wrong.min(DOUBLINGS));
        self.wrong = self.wrong.saturating_add(1);
        self.due = Some(now.saturating_add(wait));
        let mut what = "";
        if self.wrong.is_multiple_of(TRIES) {
            let old = std::mem::take(&mut self.code);
            while self.code.is_empty() || self.code == old {
                self.code = (self.draw)()?;
            }
            what = " for another code";
        }
        out.push_str(&format!("\nWrong. Wait {} s{what}.\n", wait.as_secs()));
        Ok(false)
    }

    fn forget(&mut self) {
        self.line.clear();
        self.too_long = false;
    }

    /// Has the code shown, after a pause where it was shown only just now.
    fn ask_again(&mut self, now: Duration) {
        self.due = Some(now.max(self.shown.saturating_add(PAUSE)));
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
