//! Figures with what is promised of them: a table for people, JSON for programs, one verdict.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What is promised of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Promise {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

/// One figure.
#[derive(Debug, Clone)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    promise: Option<Promise>,
    note: String,
}

impl Figure {
    /// A figure of which nothing is promised.
    #[must_use]
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            promise: None,
            note: String::new(),
        }
    }

    /// The same with a promise.
    #[must_use]
    pub fn promised(self, promise: Promise) -> Self {
        Self {
            promise: Some(promise),
            ..self
        }
    }

    /// The same with a remark.
    #[must_use]
    pub fn noted(self, note: impl Into<String>) -> Self {
        Self {
            note: note.into(),
            ..self
        }
    }

    /// Whether the promise holds, if there is one. What could not be measured holds nothing.
    #[must_use]
    pub fn holds(&self) -> Option<bool> {
        self.promise.map(|promise| match promise {
            Promise::AtLeast(bound) => self.value >= bound,
            Promise::AtMost(bound) => self.value <= bound,
        })
    }
}

/// All figures of a run.
#[derive(Debug, Default)]
pub struct Figures {
    head: Vec<String>,
    rows: Vec<Figure>,
}

impl Figures {
    /// Adds a line above the table.
    pub fn say(&mut self, line: impl Into<String>) {
        self.head.push(line.into());
    }

    /// Adds a figure.
    pub fn push(&mut self, figure: Figure) {
        self.rows.push(figure);
    }

    /// Whether every promise holds.
    #[must_use]
    pub fn hold(&self) -> bool {
        self.rows.iter().all(|row| row.holds() != Some(false))
    }

    /// The names of what was missed.
    #[must_use]
    pub fn missed(&self) -> Vec<&str> {
        let missed = self.rows.iter().filter(|row| row.holds() == Some(false));
        missed.map(|row| row.name.as_str()).collect()
    }

    /// The same for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let bound = |wanted: fn(Promise) -> Option<f64>| row.promise.and_then(wanted);
                json!({
                    "name": row.name, "value": row.value, "unit": row.unit, "note": row.note, "holds": row.holds(),
                    "at_least": bound(|p| if let Promise::AtLeast(b) = p { Some(b) } else { None }),
                    "at_most": bound(|p| if let Promise::AtMost(b) = p { Some(b) } else { None }),
                })
            })
            .collect();
        json!({"about": self.head, "figures": rows, "holds": self.hold()})
    }

    /// Prints the table and writes the JSON where that is wanted. Gives whether every promise holds.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn publish(&self, json: Option<&Path>) -> Result<bool> {
        print!("{self}");
        if let Some(path) = json {
            let mut text = serde_json::to_vec_pretty(&self.json())?;
            text.push(b'\n');
            std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(self.hold())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.head {
            writeln!(f, "{line}")?;
        }
        let width = self
            .rows
            .iter()
            .map(|row| row.name.chars().count())
            .max()
            .unwrap_or(0);
        for row in &self.rows {
            let digits = if row.value.abs() < 10.0 && row.value.fract() != 0.0 {
                2
            } else {
                1
            };
            let digits = if row.value.fract() == 0.0 { 0 } else { digits };
            let value = format!("{:.digits$} {}", row.value, row.unit);
            let promise = match row.promise {
                None => String::new(),
                Some(Promise::AtLeast(bound)) => format!(">= {}", short(bound)),
                Some(Promise::AtMost(bound)) => format!("<= {}", short(bound)),
            };
            let verdict = match row.holds() {
                None => "",
                Some(true) => "held",
                Some(false) => "MISSED",
            };
            let name = &row.name;
            let line = format!(
                "{name:<width$}  {value:>14}  {promise:<10} {verdict:<6}  {}",
                row.note
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A bound in at most two decimals.
fn short(bound: f64) -> String {
    format!("{bound:.2}")
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_promise_is_said_in_text_and_json_and_ends_the_run_badly() {
        let mut figures = Figures::default();
        figures.push(Figure::new("fine", 1.0, "s").promised(Promise::AtMost(1.0)));
        assert!(figures.hold());
        figures.push(Figure::new("not measured", f64::NAN, "s").promised(Promise::AtMost(1.0)));
        figures.push(Figure::new("free", 9.0, "s"));
        assert!(!figures.hold());
        assert_eq!(figures.missed(), ["not measured"]);
        let text = figures.to_string();
        assert!(text.contains("held") && text.contains("MISSED"), "{text}");
        assert_eq!(figures.json()["figures"][1]["holds"], false);
        assert_eq!([short(9.9), short(0.0), short(32.067)], ["9.9", "0", "32.07"]);
    }
}
