//! Lines for the supervisor's log, on standard error: `LEVEL text`.
//!
//! `SARAI_ENGINE_LOG` (`error`, `warn`, `info`, `debug`) says how much of llama.cpp's own chatter comes along;
//! warnings and errors by default. The engine's own lines are few and always written.

use std::io::Write;

/// Writes one line. A log that cannot be written is no reason to stop answering, so errors are dropped.
pub fn line(level: &str, text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{level} {text}");
}

/// Writes an `INFO` line, formatted like [`format!`].
#[macro_export]
macro_rules! info { ($($part:tt)*) => { $crate::log::line("INFO", &format!($($part)*)) }; }
/// Writes a `WARN` line, formatted like [`format!`].
#[macro_export]
macro_rules! warning { ($($part:tt)*) => { $crate::log::line("WARN", &format!($($part)*)) }; }
/// Writes an `ERROR` line, formatted like [`format!`].
#[macro_export]
macro_rules! error { ($($part:tt)*) => { $crate::log::line("ERROR", &format!($($part)*)) }; }
