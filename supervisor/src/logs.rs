//! What every process of the appliance said: the newest lines of each in memory, all of them in a rotated file,
//! and during boot on the console. A service that talks too much loses lines, never the supervisor's time.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use sarai_wire::control::LogLine;
use tokio::io::AsyncReadExt;
use tokio::sync::broadcast;

use crate::problems::lock;

mod disk;
mod rotated;
mod writer;
pub(crate) use rotated::Rotated;
pub use writer::{Echo, Writer};

/// Name of the supervisor's own lines.
pub const OWN: &str = "supervisor";
/// Longest line kept, bytes; the rest is cut and marked.
pub const MAX_LINE: usize = 2048;
/// Most lines kept of one service.
const MAX_LINES: usize = 10_000;
/// Most bytes of text kept of one service.
const MAX_BYTES: usize = 256 * 1024;
/// Most services with a ring of their own.
const MAX_SERVICES: usize = 32;
/// Most lines a second taken from one service.
const MAX_RATE: u32 = 2_000;

#[derive(Default)]
struct Ring {
    lines: VecDeque<(u64, LogLine)>,
    bytes: usize,
}

impl Ring {
    fn push(&mut self, number: u64, line: LogLine) {
        self.bytes += line.text.len();
        self.lines.push_back((number, line));
        while self.lines.len() > MAX_LINES || self.bytes > MAX_BYTES {
            let Some((_, old)) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= old.text.len();
        }
    }
}

struct Inner {
    rings: Mutex<(u64, BTreeMap<String, Ring>)>,
    news: broadcast::Sender<LogLine>,
    writer: Option<Writer>,
    zone: OnceLock<TimeZone>,
}

/// Handle to the logs; cheap to clone.
#[derive(Clone)]
pub struct Logs(Arc<Inner>);

impl Logs {
    /// Logs that are also written by `writer`.
    #[must_use]
    pub fn new(writer: Option<Writer>) -> Self {
        Self(Arc::new(Inner {
            rings: Mutex::default(),
            news: broadcast::channel(1024).0,
            writer,
            zone: OnceLock::new(),
        }))
    }

    /// Logs kept in memory alone.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(None)
    }

    /// One line of the supervisor's own.
    pub fn say(&self, text: &str) {
        self.add(OWN, text);
    }

    /// Says the time of this zone from now on, with its distance from UTC; UTC before. Once.
    pub fn zone(&self, zone: TimeZone) {
        let _ = self.0.zone.set(zone);
    }

    /// One line of `service`.
    pub fn add(&self, service: &str, text: &str) {
        let line = LogLine {
            time: stamp(jiff::Timestamp::now(), self.0.zone.get()),
            service: service.to_owned(),
            text: clean(text),
        };
        if let Some(writer) = &self.0.writer {
            writer.line(&line);
        }
        {
            let mut rings = lock(&self.0.rings);
            rings.0 += 1;
            let number = rings.0;
            if rings.1.len() < MAX_SERVICES || rings.1.contains_key(service) {
                rings
                    .1
                    .entry(service.to_owned())
                    .or_default()
                    .push(number, line.clone());
            }
        }
        // An error only says that nobody follows.
        let _ = self.0.news.send(line);
    }

    /// The newest `count` lines, of one service or of all, oldest first.
    #[must_use]
    pub fn newest(&self, service: Option<&str>, count: usize) -> Vec<LogLine> {
        let rings = lock(&self.0.rings);
        let mut lines: Vec<&(u64, LogLine)> = rings
            .1
            .iter()
            .filter(|(name, _)| service.is_none_or(|wanted| wanted == name.as_str()))
            .flat_map(|(_, ring)| &ring.lines)
            .collect();
        lines.sort_unstable_by_key(|(number, _)| *number);
        let skip = lines.len().saturating_sub(count);
        lines
            .into_iter()
            .skip(skip)
            .map(|(_, line)| line.clone())
            .collect()
    }

    /// Lines from now on.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<LogLine> {
        self.0.news.subscribe()
    }

    /// The folder of the log file is there: what was said until now is written to it, and everything from now on.
    pub fn open(&self, folder: PathBuf) {
        if let Some(writer) = &self.0.writer {
            writer.folder(folder);
        }
    }

    /// Stops showing lines on the console (a prompt is there now).
    pub fn quiet(&self) {
        if let Some(writer) = &self.0.writer {
            writer.quiet();
        }
    }

    /// Waits, at most `limit`, until everything said so far is written.
    pub fn flush(&self, limit: Duration) {
        if let Some(writer) = &self.0.writer {
            writer.flush(limit);
        }
    }

    /// Waits at most `limit` until the file is written and let go of; later lines are only in memory.
    pub fn close(&self, limit: Duration) {
        if let Some(writer) = &self.0.writer {
            writer.close(limit);
        }
    }

    /// Reads a child's output until it ends.
    pub async fn pump(self, service: String, pipe: OwnedFd) {
        let mut pipe = match tokio::net::unix::pipe::Receiver::from_owned_fd(pipe) {
            Ok(pipe) => pipe,
            Err(e) => {
                self.say(&format!("cannot read the output of {service}: {e}"));
                return;
            }
        };
        let mut splitter = Splitter::default();
        let mut chunk = vec![0; 4096];
        let (mut second, mut taken, mut lost) = (Instant::now(), 0u32, 0u64);
        loop {
            let got = match pipe.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(got) => got,
            };
            if second.elapsed() >= Duration::from_secs(1) {
                if lost > 0 {
                    self.add(
                        &service,
                        &format!("({lost} lines dropped: more than {MAX_RATE} a second)"),
                    );
                }
                (second, taken, lost) = (Instant::now(), 0, 0);
            }
            splitter.feed(&chunk[..got], |line| {
                taken += 1;
                if taken > MAX_RATE {
                    lost += 1;
                } else {
                    self.add(&service, &String::from_utf8_lossy(line));
                }
            });
            tokio::task::yield_now().await;
        }
        splitter.end(|line| self.add(&service, &String::from_utf8_lossy(line)));
    }
}

/// RFC 3339 with milliseconds.
fn stamp(now: jiff::Timestamp, zone: Option<&TimeZone>) -> String {
    match zone {
        Some(zone) if *zone != TimeZone::UTC => now
            .to_zoned(zone.clone())
            .strftime("%Y-%m-%dT%H:%M:%S%.3f%:z")
            .to_string(),
        _ => now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
    }
}

/// Cuts a byte stream into lines of bounded length.
#[derive(Default)]
struct Splitter {
    rest: Vec<u8>,
}

impl Splitter {
    fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for byte in bytes {
            if *byte == b'\n' {
                line(&self.rest);
                self.rest.clear();
            } else if self.rest.len() <= MAX_LINE {
                // One byte above the bound is kept so that `clean` sees that the line was longer.
                self.rest.push(*byte);
            }
        }
    }

    fn end(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            line(&self.rest);
            self.rest.clear();
        }
    }
}

/// Control characters, which could drive an admin's terminal, are replaced; the length is bounded.
fn clean(text: &str) -> String {
    let text = text.trim_end_matches(['\r', '\n']);
    let mut cleaned = String::with_capacity(text.len().min(MAX_LINE));
    for c in text.chars() {
        if cleaned.len() + c.len_utf8() > MAX_LINE {
            cleaned.push('…');
            break;
        }
        // C0, DEL, C1 and the bidirectional overrides that reorder what is shown.
        let hostile = c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        cleaned.push(match c {
            '\t' => ' ',
            _ if hostile => '\u{fffd}',
            _ => c,
        });
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    #[test]
    fn lines_of_all_services_come_back_in_the_order_they_were_said() {
        let logs = Logs::in_memory();
        for (service, text) in [("a", "1"), ("b", "2"), ("a", "3")] {
            logs.add(service, text);
        }
        let texts = |lines: Vec<LogLine>| lines.into_iter().map(|l| l.text).collect::<Vec<_>>();
        assert_eq!(texts(logs.newest(None, 10)), ["1", "2", "3"]);
        assert_eq!(texts(logs.newest(None, 2)), ["2", "3"]);
        assert_eq!(texts(logs.newest(Some("a"), 10)), ["1", "3"]);
        assert!(logs.newest(Some("c"), 10).is_empty());
    }

    #[test]
    fn one_service_cannot_fill_the_memory() {
        let logs = Logs::in_memory();
        for n in 0..1000 {
            logs.add("loud", &format!("{n} {}", "x".repeat(1500)));
        }
        for n in 0..100 {
            logs.add(&format!("service-{n}"), "hello");
        }
        let lines = logs.newest(Some("loud"), 10_000);
        assert!(lines.iter().map(|l| l.text.len()).sum::<usize>() <= MAX_BYTES);
        assert!(lines.last().unwrap().text.starts_with("999 "));
        assert_eq!(lock(&logs.0.rings).1.len(), MAX_SERVICES);
    }

    #[test]
    fn lines_say_the_time_of_the_machines_zone() {
        let at: jiff::Timestamp = "2026-07-01T10:00:00.25Z".parse().unwrap();
        let zone = |name: &str| TimeZone::get(name).unwrap();
        assert_eq!(stamp(at, None), "2026-07-01T10:00:00.250Z");
        assert_eq!(stamp(at, Some(&TimeZone::UTC)), "2026-07-01T10:00:00.250Z");
        assert_eq!(
            stamp(at, Some(&zone("Europe/Madrid"))),
            "2026-07-01T12:00:00.250+02:00"
        );
        assert_eq!(
            stamp(at, Some(&zone("America/St_Johns"))),
            "2026-07-01T07:30:00.250-02:30"
        );
    }

    #[tokio::test]
    async fn a_childs_output_is_cut_into_clean_lines() {
        let logs = Logs::in_memory();
        let (read, write) = nix::unistd::pipe().unwrap();
        let mut write = std::fs::File::from(write);
        write.write_all(b"one\r\n\x1b[2Jtwo\n").unwrap();
        write.write_all(&[b'x'; 3000]).unwrap();
        write.write_all(b"\nend without newline \xff").unwrap();
        drop(write);
        logs.clone().pump("child".into(), read).await;
        let lines: Vec<String> = logs.newest(None, 100).into_iter().map(|l| l.text).collect();
        assert_eq!(lines[0], "one");
        assert_eq!(lines[1], "\u{fffd}[2Jtwo");
        assert!(lines[2].len() <= MAX_LINE + 3 && lines[2].ends_with('…'));
        assert_eq!(lines[3], "end without newline \u{fffd}");
    }

    proptest! {
        #[test]
        fn no_control_character_survives(text in any::<String>()) {
            let cleaned = clean(&text);
            prop_assert!(!cleaned.chars().any(char::is_control));
            prop_assert!(cleaned.len() <= MAX_LINE + '…'.len_utf8());
        }
    }
}
