//! Walks a TOML document setting by setting, so that each wrong value is named with its line instead of spoiling
//! the whole file.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A parsed document and its text.
pub struct Document<'t> {
    text: &'t str,
    table: Spanned<DeTable<'t>>,
}

impl<'t> Document<'t> {
    /// Parses, or says on which line it is no TOML.
    pub fn parse(text: &'t str) -> Result<Self, String> {
        DeTable::parse(text)
            .map(|table| Self { text, table })
            .map_err(|e| {
                let line = e.span().map_or(1, |span| line_of(text, &span));
                format!(
                    "sarai.toml line {line}: not TOML ({}); every setting is at its default",
                    e.message().replace('\n', " ")
                )
            })
    }

    /// The top of the document.
    pub fn top(&self) -> Section<'_, 't> {
        Section {
            text: self.text,
            prefix: String::new(),
            table: self.table.get_ref(),
            seen: BTreeSet::new(),
            problems: Vec::new(),
        }
    }
}

/// One table of the document.
pub struct Section<'d, 't> {
    text: &'t str,
    prefix: String,
    table: &'d DeTable<'t>,
    seen: BTreeSet<String>,
    problems: Vec<String>,
}

impl<'d, 't> Section<'d, 't> {
    fn take(&mut self, key: &str) -> Option<(&'d DeValue<'t>, Range<usize>)> {
        self.seen.insert(key.to_owned());
        self.table.get(key).map(|value| (value.get_ref(), value.span()))
    }

    fn complain(&mut self, key: &str, span: &Range<usize>, must: &str, default: impl Display) {
        let line = line_of(self.text, span);
        let shown: String = self
            .text
            .get(span.clone())
            .unwrap_or("")
            .chars()
            .take(40)
            .collect::<String>()
            .replace('\n', " ");
        self.problems.push(format!(
            "sarai.toml line {line}: {}{key} is {shown}, must be {must}; using {default}",
            self.prefix
        ));
    }

    /// A text for which `good` holds.
    pub fn text(&mut self, key: &str, good: impl Fn(&str) -> bool, must: &str, set: impl FnOnce(&str)) {
        let Some((value, span)) = self.take(key) else {
            return;
        };
        match value.as_str() {
            Some(text) if good(text) => set(text),
            _ => self.complain(key, &span, must, "the default"),
        }
    }

    /// A list of at most `most` texts for which `good` holds.
    pub fn texts(
        &mut self,
        key: &str,
        most: usize,
        good: impl Fn(&str) -> bool,
        must: &str,
        to: &mut Vec<String>,
    ) {
        let Some((value, span)) = self.take(key) else {
            return;
        };
        let list: Option<Vec<String>> = value.as_array().filter(|a| a.len() <= most).and_then(|array| {
            array
                .iter()
                .map(|item| {
                    item.get_ref()
                        .as_str()
                        .filter(|text| good(text))
                        .map(str::to_owned)
                })
                .collect()
        });
        match list {
            Some(list) => *to = list,
            None => self.complain(key, &span, &format!("at most {most} {must}"), to.join(", ")),
        }
    }

    /// A list of at most `most` texts of which each stands alone: one for which `good` does not hold is named with
    /// its line and left out, and so is what exceeds the number.
    pub fn each(
        &mut self,
        key: &str,
        most: usize,
        good: impl Fn(&str) -> bool,
        must: &str,
        to: &mut Vec<String>,
    ) {
        let Some((value, span)) = self.take(key) else {
            return;
        };
        let Some(items) = value.as_array() else {
            self.complain(
                key,
                &span,
                &format!("a list of at most {most}, each {must}"),
                "the default",
            );
            return;
        };
        to.clear();
        for item in items {
            match item.get_ref().as_str().filter(|text| good(text)) {
                Some(text) if to.len() < most => to.push(text.to_owned()),
                Some(_) => {
                    self.complain(
                        key,
                        &item.span(),
                        &format!("one of at most {most}"),
                        "the first of them",
                    );
                    return;
                }
                None => self.complain(key, &item.span(), must, "the others"),
            }
        }
    }

    /// A whole number within `bounds`.
    pub fn whole<N>(&mut self, key: &str, bounds: RangeInclusive<N>, to: &mut N)
    where
        N: TryFrom<i128> + PartialOrd + Display + Copy,
    {
        let Some((value, span)) = self.take(key) else {
            return;
        };
        let number = value
            .as_integer()
            .and_then(|n| i128::from_str_radix(n.as_str(), n.radix()).ok())
            .and_then(|n| N::try_from(n).ok())
            .filter(|n| bounds.contains(n));
        match number {
            Some(number) => *to = number,
            None => {
                let must = format!("{} to {}", bounds.start(), bounds.end());
                self.complain(key, &span, &must, *to);
            }
        }
    }

    /// A number within `bounds`, with or without a fraction.
    pub fn number<N>(&mut self, key: &str, bounds: RangeInclusive<N>, to: &mut N)
    where
        N: std::str::FromStr + PartialOrd + Display + Copy,
    {
        let Some((value, span)) = self.take(key) else {
            return;
        };
        let text = value
            .as_float()
            .map(|f| f.as_str())
            .or_else(|| value.as_integer().map(|n| n.as_str()));
        match text
            .and_then(|t| t.parse::<N>().ok())
            .filter(|f| bounds.contains(f))
        {
            Some(number) => *to = number,
            None => {
                let must = format!("{} to {}", bounds.start(), bounds.end());
                self.complain(key, &span, &must, *to);
            }
        }
    }

    /// True or false.
    pub fn flag(&mut self, key: &str, to: &mut bool) {
        let Some((value, span)) = self.take(key) else {
            return;
        };
        match value.as_bool() {
            Some(flag) => *to = flag,
            None => self.complain(key, &span, "true or false", *to),
        }
    }

    /// A table below this one.
    pub fn section(&mut self, key: &str, read: impl FnOnce(&mut Section<'d, 't>)) {
        let Some((value, span)) = self.take(key) else {
            return;
        };
        let Some(table) = value.as_table() else {
            self.complain(key, &span, "a table", "its defaults");
            return;
        };
        let mut inner = Section {
            text: self.text,
            prefix: format!("{}{key}.", self.prefix),
            table,
            seen: BTreeSet::new(),
            problems: Vec::new(),
        };
        read(&mut inner);
        self.problems.extend(inner.finish());
    }

    /// Every complaint, those about unknown settings included.
    pub fn finish(self) -> Vec<String> {
        let mut problems = self.problems;
        for (key, _) in self.table {
            if !self.seen.contains(key.get_ref().as_ref()) {
                let line = line_of(self.text, &key.span());
                let name: String = key.get_ref().chars().take(40).collect();
                problems.push(format!(
                    "sarai.toml line {line}: unknown setting {}{name}; ignored",
                    self.prefix
                ));
            }
        }
        problems
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    let end = span.start.min(text.len());
    1 + text.as_bytes()[..end]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}
