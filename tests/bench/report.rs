//! The table of figures: ours, the peer's, what lies between, and whether a promise holds.

use std::fmt;

use anyhow::Result;
use serde_json::json;

use crate::api::Timing;

/// What is promised of a row's last column.
#[derive(Clone, Copy)]
pub enum Promise {
    /// The ratio ours / peer.
    AtLeast(f64),
    /// The difference ours − peer.
    AtMost(f64),
}

/// One figure.
pub struct Row {
    name: &'static str,
    peer: &'static str,
    ours: f64,
    theirs: f64,
    /// Ratio, or difference where the promise is one.
    compared: f64,
    spread: (f64, f64),
    promise: Option<Promise>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

fn spread(values: &[f64]) -> (f64, f64) {
    (
        values.iter().copied().fold(f64::INFINITY, f64::min),
        values.iter().copied().fold(0.0, f64::max),
    )
}

impl Row {
    fn of(
        name: &'static str,
        peer: &'static str,
        pairs: &[(Timing, Timing)],
        figure: impl Fn(&Timing) -> f64,
        compare: impl Fn(f64, f64) -> f64,
        promise: Option<Promise>,
    ) -> Self {
        let ours: Vec<f64> = pairs.iter().map(|(a, _)| figure(a)).collect();
        let theirs = pairs.iter().map(|(_, b)| figure(b)).collect();
        let compared = pairs.iter().map(|(a, b)| compare(figure(a), figure(b))).collect();
        let spread = spread(&ours);
        Self {
            name,
            peer,
            ours: median(ours),
            theirs: median(theirs),
            compared: median(compared),
            spread,
            promise,
        }
    }

    /// Median of the pairwise ratios.
    pub fn ratio(
        name: &'static str,
        peer: &'static str,
        pairs: &[(Timing, Timing)],
        figure: impl Fn(&Timing) -> f64,
        promise: Option<Promise>,
    ) -> Self {
        Self::of(name, peer, pairs, figure, |a, b| a / b, promise)
    }

    /// Median of the pairwise differences.
    pub fn difference(
        name: &'static str,
        peer: &'static str,
        pairs: &[(Timing, Timing)],
        figure: impl Fn(&Timing) -> f64,
        promise: Promise,
    ) -> Self {
        Self::of(name, peer, pairs, figure, |a, b| a - b, Some(promise))
    }

    /// Our values beside a single figure of the peer.
    pub fn single(name: &'static str, peer: &'static str, ours: Vec<f64>, theirs: f64) -> Self {
        let spread = spread(&ours);
        let ours = median(ours);
        Self {
            name,
            peer,
            ours,
            theirs,
            compared: ours / theirs,
            spread,
            promise: None,
        }
    }

    /// Memory: one reading each, nothing promised here.
    pub fn memory(name: &'static str, peer: &'static str, ours: f64, theirs: f64) -> Self {
        Self {
            name,
            peer,
            ours,
            theirs,
            compared: ours / theirs,
            spread: (ours, ours),
            promise: None,
        }
    }

    fn holds(&self) -> Option<bool> {
        self.promise.map(|promise| match promise {
            Promise::AtLeast(bound) => self.compared >= bound,
            Promise::AtMost(bound) => self.compared <= bound,
        })
    }

    fn verdict(&self) -> String {
        let promised = match self.promise {
            None => return String::new(),
            Some(Promise::AtLeast(bound)) => format!(">= {bound:.2}x"),
            Some(Promise::AtMost(bound)) => format!("<= +{bound:.1}"),
        };
        format!(
            "{promised} {}",
            if self.holds() == Some(true) {
                "held"
            } else {
                "MISSED"
            }
        )
    }
}

/// All figures of a run.
pub struct Table {
    threads: u32,
    rows: Vec<Row>,
}

impl Table {
    /// An empty table; `threads` is what both sides were given.
    pub fn new(threads: u32) -> Self {
        Self {
            threads,
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Whether every promise holds.
    pub fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.holds() != Some(false))
    }

    /// The same figures for programs.
    pub fn json(&self) -> Result<Vec<u8>> {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|r| {
                json!({"name": r.name, "peer": r.peer, "ours": r.ours, "theirs": r.theirs,
                    "compared": r.compared, "min": r.spread.0, "max": r.spread.1, "holds": r.holds()})
            })
            .collect();
        Ok(serde_json::to_vec_pretty(
            &json!({"threads": self.threads, "rows": rows}),
        )?)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} threads on each side; medians, our minimum and maximum in brackets",
            self.threads
        )?;
        writeln!(
            f,
            "{:<38} {:>28} {:>10} {:<18} {:>8}",
            "figure", "appliance", "peer", "", "ours/peer"
        )?;
        for row in &self.rows {
            let ours = format!("{:.1} [{:.1}–{:.1}]", row.ours, row.spread.0, row.spread.1);
            let compared = match row.promise {
                Some(Promise::AtMost(_)) => format!("{:+.1}", row.compared),
                _ => format!("{:.2}x", row.compared),
            };
            writeln!(
                f,
                "{:<38} {ours:>28} {:>10.1} {:<18} {compared:>8}  {}",
                row.name,
                row.theirs,
                row.peer,
                row.verdict()
            )?;
        }
        Ok(())
    }
}
