//! Text for people: colours only on a terminal, aligned columns, sizes and times, and nothing that could steer the
//! terminal.

use std::io::IsTerminal;

/// Longest field a table shows, characters; the rest is cut with an ellipsis.
const MAX_FIELD: usize = 400;

/// Removes what could steer a terminal: control characters become `\u{fffd}`. With `lines`, newlines and tabs stay.
pub fn clean(text: &str, lines: bool) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' if lines => c,
            // Besides control characters: the ones that reorder what a reader sees.
            c if c.is_control() => '\u{fffd}',
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// For standard output.
    pub fn stdout() -> Self {
        Self {
            on: wanted(std::io::stdout().is_terminal()),
        }
    }

    /// Whether there are any.
    pub fn is_on(self) -> bool {
        self.on
    }

    /// For standard error.
    pub fn stderr() -> Self {
        Self {
            on: wanted(std::io::stderr().is_terminal()),
        }
    }

    /// Never any.
    #[cfg(test)]
    pub fn off() -> Self {
        Self { on: false }
    }

    /// Always.
    #[cfg(test)]
    pub fn on() -> Self {
        Self { on: true }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Less important.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// All is well.
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// On its way.
    pub fn busy(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// Needs the admin.
    pub fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }
}

fn wanted(terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Lays out rows under a heading; columns are as wide as their widest field, the last one is not padded. Fields are
/// cleaned here.
pub fn table(heading: &[&str], rows: Vec<Vec<String>>, paint: Paint) -> String {
    painted_table(heading, rows, paint, |_, _, text| text)
}

/// As [`table`]; `colour(row, column, padded text)` may colour each field.
pub fn painted_table(
    heading: &[&str],
    rows: Vec<Vec<String>>,
    paint: Paint,
    colour: impl Fn(usize, usize, String) -> String,
) -> String {
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| row.iter().map(|field| field_of(field)).collect())
        .collect();
    let width = |column: usize| {
        let fields = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|field| field.chars().count());
        fields.chain([heading[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |fields: &[String], row: Option<usize>| {
        let mut line = String::new();
        for (column, field) in fields.iter().enumerate() {
            let last = column + 1 == fields.len();
            let gap = widths
                .get(column)
                .copied()
                .unwrap_or(0)
                .saturating_sub(field.chars().count());
            let painted = match row {
                Some(row) => colour(row, column, field.clone()),
                None => paint.dim(field),
            };
            line.push_str(&painted);
            if !last {
                line.push_str(&" ".repeat(gap + 2));
            }
        }
        line.push('\n');
        line
    };
    let names: Vec<String> = heading.iter().map(|&name| name.to_owned()).collect();
    let mut out = line(&names, None);
    for (index, row) in rows.iter().enumerate() {
        out.push_str(&line(row, Some(index)));
    }
    out
}

fn field_of(text: &str) -> String {
    let text = clean(text, false);
    if text.is_empty() {
        return "-".to_owned();
    }
    if text.chars().count() <= MAX_FIELD {
        return text;
    }
    text.chars().take(MAX_FIELD - 1).chain(['…']).collect()
}

/// Bytes in the unit that fits.
pub fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
    let value = bytes as f64;
    match bytes {
        0..=1023 => format!("{bytes} B"),
        1024..=1_048_575 => format!("{:.0} KiB", value / 1024.0),
        1_048_576..=1_073_741_823 => format!("{:.0} MiB", value / 1_048_576.0),
        _ => format!("{:.1} GiB", value / 1_073_741_824.0),
    }
}

/// Seconds as a person says them.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// CPU numbers as ranges: `0-1,3`.
pub fn cpus(list: &[u32]) -> String {
    let mut sorted = list.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for cpu in sorted {
        match parts.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(cpu) => *end = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let show = |&(from, to): &(u32, u32)| {
        if from == to {
            format!("{from}")
        } else {
            format!("{from}-{to}")
        }
    };
    parts.iter().map(show).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_passes() {
        assert_eq!(
            clean("a\x1b[2Jb\r\u{9b}c\u{202e}", false),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}"
        );
        assert_eq!(clean("a\nb\tc", true), "a\nb\tc");
        assert_eq!(clean("a\nb", false), "a\u{fffd}b");
    }

    #[test]
    fn columns_line_up_and_empty_fields_show() {
        let rows = vec![
            vec!["long name".into(), String::new()],
            vec!["x".into(), "y".into()],
        ];
        assert_eq!(
            table(&["A", "B"], rows, Paint::off()),
            "A          B\nlong name  -\nx          y\n"
        );
    }

    #[test]
    fn colours_do_not_disturb_the_alignment() {
        let rows = || vec![vec!["ab".to_owned(), "c".to_owned()]];
        let plain = table(&["A", "B"], rows(), Paint::off());
        let coloured = painted_table(&["A", "B"], rows(), Paint::on(), |_, _, t| Paint::on().good(&t));
        let stripped = coloured
            .replace("\x1b[2m", "")
            .replace("\x1b[32m", "")
            .replace("\x1b[0m", "");
        assert_eq!(plain, stripped);
    }

    #[test]
    fn a_huge_field_is_cut() {
        let out = table(&["A"], vec![vec!["x".repeat(100_000)]], Paint::off());
        assert!(out.chars().count() < MAX_FIELD + 10);
        assert!(out.contains('…'));
    }

    #[test]
    fn sizes_times_and_cpu_ranges() {
        assert_eq!(
            (size(512), size(2048), size(5 << 20), size(3 << 30)),
            ("512 B".into(), "2 KiB".into(), "5 MiB".into(), "3.0 GiB".into())
        );
        assert_eq!(
            (duration(5), duration(180), duration(7260), duration(200_000)),
            ("5 s".into(), "3 min".into(), "2 h 1 min".into(), "2 d 7 h".into())
        );
        assert_eq!(cpus(&[3, 0, 1, 5, 4, 4]), "0-1,3-5");
        assert_eq!(cpus(&[u32::MAX, 0]), format!("0,{}", u32::MAX));
        assert_eq!(cpus(&[]), "");
    }
}
