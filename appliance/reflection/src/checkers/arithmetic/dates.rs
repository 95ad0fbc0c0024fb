//! Dates and weekdays, as they are written in English and Spanish.

use jiff::civil::{Date, Weekday};

use crate::checkers::text::{Word, fold, head, words};
use crate::critique::Language;

/// Weekdays from Monday on, folded.
const ENGLISH_DAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];
const SPANISH_DAYS: [&str; 7] = [
    "lunes",
    "martes",
    "miercoles",
    "jueves",
    "viernes",
    "sabado",
    "domingo",
];
/// The same as they are written.
const ENGLISH_NAMES: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const SPANISH_NAMES: [&str; 7] = [
    "lunes",
    "martes",
    "miércoles",
    "jueves",
    "viernes",
    "sábado",
    "domingo",
];
const ENGLISH_MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const SPANISH_MONTHS: [&str; 12] = [
    "enero",
    "febrero",
    "marzo",
    "abril",
    "mayo",
    "junio",
    "julio",
    "agosto",
    "septiembre",
    "octubre",
    "noviembre",
    "diciembre",
];
/// Years that are read.
const YEARS: std::ops::RangeInclusive<i16> = 1800..=2399;
/// From here on all the world's dates are those of today's calendar.
const ONE_CALENDAR: i16 = 1930;

/// The weekday a folded word names.
pub(crate) fn weekday(word: &str) -> Option<Weekday> {
    let at = ENGLISH_DAYS
        .iter()
        .position(|day| *day == word)
        .or_else(|| SPANISH_DAYS.iter().position(|day| *day == word))?;
    Weekday::from_monday_zero_offset(i8::try_from(at).ok()?).ok()
}

/// Its name.
pub(crate) fn day_name(day: Weekday, language: Language) -> &'static str {
    let at = usize::try_from(day.to_monday_zero_offset()).unwrap_or_default() % 7;
    match language {
        Language::English => ENGLISH_NAMES[at],
        Language::Spanish => SPANISH_NAMES[at],
    }
}

/// The month a folded word names, 1 to 12.
pub(crate) fn month(word: &str) -> Option<i8> {
    let short = |months: &[&str; 12]| {
        months
            .iter()
            .position(|month| *month == word || (word.len() == 3 && word != "may" && month.starts_with(word)))
    };
    let at = match word {
        "setiembre" => Some(8),
        "sept" => Some(8),
        _ => short(&ENGLISH_MONTHS).or_else(|| SPANISH_MONTHS.iter().position(|month| *month == word)),
    };
    i8::try_from(at? + 1).ok()
}

/// A date and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mention {
    pub start: usize,
    pub end: usize,
    pub date: Date,
}

/// The full dates of `text`, with words of it for the whole rest.
pub(crate) fn dates(text: &str) -> Vec<Mention> {
    let words: Vec<Word<'_>> = words(text).collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        match date_at(text, &words[at..]) {
            Some((mention, used)) => {
                found.push(mention);
                at += used;
            }
            None => at += 1,
        }
    }
    found
}

/// The places of days and months, with or without a year: "30 June", "5 de marzo", "March 5th, 2024". `None` when a
/// month stands there without its day.
pub(crate) fn days_of_months(text: &str) -> Option<Vec<(usize, usize)>> {
    let words: Vec<Word<'_>> = words(text).collect();
    let day = |i: usize| {
        words
            .get(i)
            .filter(|word| word.text.len() <= 4 && day_number(&fold(word.text)).is_some())
    };
    let mut found = Vec::new();
    for (i, word) in words.iter().enumerate() {
        let folded = fold(head(word.text, 16));
        if month(&folded).is_none() || folded == "may" && !word.text.starts_with('M') {
            continue;
        }
        let linked = i >= 2 && matches!(words[i - 1].text, "of" | "de");
        let before = if linked {
            day(i - 2)
        } else {
            i.checked_sub(1).and_then(day)
        };
        let place = match (before, day(i + 1)) {
            (Some(before), _) => (before.start, word.end()),
            (None, Some(after)) => (word.start, after.end()),
            (None, None) => return None,
        };
        found.push(place);
    }
    Some(found)
}

/// A day's number: 5, 5th, 29.
fn day_number(word: &str) -> Option<i8> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = &word[digits.len()..];
    if digits.len() > 2 || !matches!(suffix, "" | "st" | "nd" | "rd" | "th") {
        return None;
    }
    digits.parse().ok().filter(|day| (1..=31).contains(day))
}

fn year_number(word: &str) -> Option<i16> {
    (word.len() == 4)
        .then(|| word.parse().ok())
        .flatten()
        .filter(|year| YEARS.contains(year))
}

/// The date that begins with the first of `words`, and how many words it is.
fn date_at(text: &str, words: &[Word<'_>]) -> Option<(Mention, usize)> {
    let word = |i: usize| words.get(i).map(|word| word.text);
    let folded = |i: usize| {
        words
            .get(i)
            .filter(|word| word.text.len() <= 16)
            .map(|word| fold(word.text))
            .unwrap_or_default()
    };
    // What may stand between the words of a date.
    let joined = |i: usize, with: &[char]| {
        let (Some(a), Some(b)) = (words.get(i), words.get(i + 1)) else {
            return false;
        };
        let between = &text[a.end()..b.start];
        between.len() <= 3 && between.chars().all(|c| with.contains(&c))
    };
    let loose = &[' ', ',', '.', '\u{a0}'];
    let first = word(0)?;
    let (year, month_number, day, used);
    if let (Some(y), true, true) = (year_number(first), joined(0, &['-', '/']), joined(1, &['-', '/'])) {
        // 2024-02-29
        let two = |i: usize| {
            word(i)
                .filter(|w| w.len() <= 2)
                .and_then(|w| w.parse::<i8>().ok())
        };
        (year, month_number, day, used) = (y, two(1)?, two(2)?, 3);
    } else if let Some(m) = month(&folded(0)) {
        // March 5(th)(,) 2024
        let d = day_number(&folded(1))?;
        if !joined(0, loose) || !joined(1, loose) {
            return None;
        }
        (year, month_number, day, used) = (year_number(word(2)?)?, m, d, 3);
    } else {
        // 5(th) (of) March(,) 2024; 5 de marzo de(l) 2024
        let d = day_number(&folded(0))?;
        let mut i = 1;
        if matches!(folded(i).as_str(), "of" | "de") {
            i += 1;
        }
        let m = month(&folded(i))?;
        i += 1;
        if matches!(folded(i).as_str(), "de" | "del" | "of") {
            i += 1;
        }
        if !(0..i).all(|k| joined(k, loose)) {
            return None;
        }
        (year, month_number, day, used) = (year_number(word(i)?)?, m, d, i + 1);
    }
    // A date is no part of a longer number or of another date.
    let (start, end) = (words[0].start, words[used - 1].end());
    if text[..start].ends_with(['-', '/', '.', ','])
        && text[..start - 1].ends_with(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    let date = Date::new(year, month_number, day).ok()?;
    Some((Mention { start, end, date }, used))
}

/// A weekday that a text gives to a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Where the weekday stands.
    pub start: usize,
    pub end: usize,
    pub said: Weekday,
    pub right: Weekday,
    pub date: Mention,
}

/// Words that may stand between a weekday and its date, or a date and its weekday.
const BEFORE: &[&str] = &["the", "el", "on", "dia"];
const AFTER: &[&str] = &[
    "is", "was", "a", "on", "will", "be", "falls", "fell", "es", "fue", "era", "sera", "cae", "cayo", "en",
    "un", "dia", "the",
];

/// The weekdays that `text` gives to dates, right or wrong.
pub(crate) fn claims(text: &str) -> Vec<Claim> {
    let dates = dates(text);
    let mut found = Vec::new();
    for (i, date) in dates.iter().enumerate() {
        let from = i.checked_sub(1).map_or(0, |i| dates[i].end);
        let until = dates.get(i + 1).map_or(text.len(), |next| next.start);
        let claim = day_before(text, from, date.start).or_else(|| day_after(text, date.end, until));
        if let Some((start, end, said)) = claim.filter(|_| date.date.year() >= ONE_CALENDAR) {
            found.push(Claim {
                start,
                end,
                said,
                right: date.date.weekday(),
                date: *date,
            });
        }
    }
    found
}

fn day_before(text: &str, from: usize, until: usize) -> Option<(usize, usize, Weekday)> {
    // A weekday and an article need no more.
    let mut start = until.saturating_sub(40).max(from);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let near: Vec<Word<'_>> = words(&text[start..until]).collect();
    let mut end = until;
    for word in near.iter().rev() {
        let (at, after) = (start + word.start, start + word.end());
        if !text[after..end].chars().all(|c| matches!(c, ' ' | ',' | '(')) {
            return None;
        }
        let folded = fold(word.text);
        if let Some(day) = weekday(&folded) {
            return Some((at, after, day));
        }
        if !BEFORE.contains(&folded.as_str()) {
            return None;
        }
        end = at;
    }
    None
}

fn day_after(text: &str, from: usize, until: usize) -> Option<(usize, usize, Weekday)> {
    let near = head(&text[from..until], 48);
    let mut end = 0;
    for word in words(near) {
        let between = &near[end..word.start];
        if !between.chars().all(|c| matches!(c, ' ' | '(' | '*' | '_')) && between != ", " {
            return None;
        }
        let folded = fold(word.text);
        if let Some(day) = weekday(&folded) {
            // "March 5, 2024, Monday morning": a list of days says nothing of the date.
            let listed = between == ", " && near[word.end()..].starts_with([',', ' ']);
            return (!listed).then_some((from + word.start, from + word.end(), day));
        }
        if !AFTER.contains(&folded.as_str()) {
            return None;
        }
        end = word.end();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<String> {
        dates(text)
            .iter()
            .map(|m| format!("{} {}", m.date, &text[m.start..m.end]))
            .collect()
    }

    #[test]
    fn dates_are_read_in_both_languages() {
        for (text, expected) in [
            ("on 5 March 2024.", "2024-03-05 5 March 2024"),
            ("March 5th, 2024", "2024-03-05 March 5th, 2024"),
            ("the 1st of Dec 1999", "1999-12-01 1st of Dec 1999"),
            ("el 29 de febrero de 2024,", "2024-02-29 29 de febrero de 2024"),
            ("1 de enero del 2000", "2000-01-01 1 de enero del 2000"),
            ("at 2024-02-29T10", ""),
            ("2024-02-29", "2024-02-29 2024-02-29"),
            ("30 February 2024", ""),
            ("March 5", ""),
            ("in 2024", ""),
            ("on 3/5/2024", ""),
        ] {
            assert_eq!(all(text).join("; "), expected, "{text}");
        }
    }

    #[test]
    fn weekdays_are_given_to_dates() {
        for (text, said) in [
            ("Monday, 5 March 2024", "Monday"),
            ("It was on Monday the 5th of March 2024", "Monday"),
            ("March 5, 2024 was a Monday.", "Monday"),
            ("2024-03-05 (Monday)", "Monday"),
            ("el lunes 5 de marzo de 2024", "lunes"),
            ("El 5 de marzo de 2024 fue lunes.", "lunes"),
            ("We met Monday. On 5 March 2024 it rained.", ""),
            ("March 5, 2024, Monday and Tuesday", ""),
            ("March 5, 2024 was not a Monday", ""),
        ] {
            let got: Vec<&str> = claims(text).iter().map(|c| &text[c.start..c.end]).collect();
            assert_eq!(got.join(" "), said, "{text}");
        }
    }
}
