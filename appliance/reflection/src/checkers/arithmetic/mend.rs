//! How wrong equations and weekdays are mended.

use super::answer::{Stated, stated};
use super::errors::{Error, is_right};
use crate::checkers::text::{READ, any_of, folded_words, head};
use crate::checkers::{Repair, Subject};

/// Words that compute with the number before them.
#[rustfmt::skip]
const OPERATORS: &[&str] = &[
    "plus", "minus", "times", "divided", "multiplied", "mas", "menos", "por", "entre", "dividido", "multiplicado", "x", "percent",
];

/// How each of these errors is mended: all at once where nothing depends on them, else from the first on.
pub(super) fn repairs(subject: &Subject<'_>, text: &str, found: &[Error]) -> Vec<Option<Repair>> {
    let Some(first) = found.first() else {
        return Vec::new();
    };
    let numbers = stated(text);
    let asked = stated(head(subject.asked(), READ));
    let mut edits: Vec<(usize, usize, &str)> = Vec::new();
    let mut depends = false;
    for error in found {
        edits.push((error.start, error.end, &error.right));
        let Some(said) = error.said else {
            continue;
        };
        let later = numbers
            .iter()
            .filter(|number| number.start >= error.end && number.is(said));
        let given = numbers
            .iter()
            .take_while(|number| number.start < error.start)
            .any(|number| number.is(said))
            || asked.iter().any(|number| number.is(said));
        for number in later {
            // The same number again: a result that is said once more, or one that something is computed from.
            let free =
                is_free(text, number) && !given && !found.iter().any(|other| other.start == number.start);
            if free {
                edits.push((number.start, number.end, &error.right));
            } else {
                depends = true;
            }
        }
        depends |= text[error.end..]
            .trim_start_matches([' ', ',', '*'])
            .starts_with(['+', '-', '×', '*', '/', '÷']);
    }
    let mended = (!depends && subject.text.len() <= READ)
        .then(|| edit(text, edits))
        .flatten();
    let repair = match mended.filter(|mended| is_right(subject, mended)) {
        Some(mended) => Repair::Rewrite(mended),
        None => Repair::Resume {
            keep: first.start,
            insert: first.right.clone(),
            constraint: None,
        },
    };
    found.iter().map(|_| Some(repair.clone())).collect()
}

/// Whether nothing is computed from this number.
fn is_free(text: &str, number: &Stated) -> bool {
    let operators = ['+', '-', '−', '×', '*', '/', '÷', '=', '^', '%'];
    let after = text[number.end..].trim_start_matches([' ', '*', '_']);
    let before = text[..number.start].trim_end_matches([' ', '*', '_', '$']);
    !after.starts_with(operators)
        && !before.ends_with(['+', '-', '−', '×', '/', '÷', '^'])
        && !any_of(&folded_words(head(after, 32), 1), OPERATORS)
}

/// `text` with these places replaced; `None` when they overlap.
pub(super) fn edit(text: &str, mut edits: Vec<(usize, usize, &str)>) -> Option<String> {
    edits.sort_unstable();
    edits.dedup();
    let mut edited = String::with_capacity(text.len());
    let mut from = 0;
    for (start, end, right) in edits {
        edited.push_str(text.get(from..start)?);
        edited.push_str(right);
        from = end;
    }
    edited.push_str(text.get(from..)?);
    Some(edited)
}
