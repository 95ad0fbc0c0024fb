//! What a short question about a text seeks, and what stands there that can answer it.

use std::collections::HashSet;

use super::facts::{Facts, Loose};
use super::is_any;
use crate::checkers::arithmetic::answer::stated;
use crate::checkers::arithmetic::dates::{dates, days_of_months, month, weekday};
use crate::checkers::given::Given;
use crate::checkers::numerals::spelled;
use crate::checkers::text::{Word, fold, folded_words, head, phrase, words};
use crate::critique::Language;

/// The kinds of what is sought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Person,
    Year,
    Date,
    /// A number of the things that a word names.
    Amount,
}

/// What a question seeks.
pub(super) struct Sought {
    kind: Type,
    /// What the text offers, in its order, each once.
    pub candidates: Vec<String>,
    /// The folded words of the question.
    pub question: HashSet<String>,
}

/// Longest question that seeks one thing, words.
const QUESTION: usize = 48;
/// Longest text in which it is sought, bytes.
const TEXT: usize = 16 * 1024;

/// What the question about `given` seeks, if it is one thing of a kind that can be told.
pub(super) fn sought(given: &Given<'_>) -> Option<Sought> {
    let words = folded_words(head(&given.rest, 4096), 256);
    if words.len() > QUESTION || given.text.len() > TEXT {
        return None;
    }
    let year = phrase(&words, "what year") || phrase(&words, "which year") || phrase(&words, "que ano");
    let person = is_any(&words, &["who", "quien", "quienes"]);
    let when = (is_any(&words, &["when", "cuando"]) && given.rest.contains('?'))
        || phrase(&words, "what time")
        || phrase(&words, "que hora");
    let hour = phrase(&words, "what time") || phrase(&words, "que hora");
    let counted = stated(&given.rest).is_empty() && !is_problem(given.text);
    let amount = amount_of(&words).filter(|_| counted);
    let price = counted && (phrase(&words, "how much") || is_any(&words, &["cuanto"]));
    let question: HashSet<String> = words.iter().cloned().collect();
    let (kind, mut candidates) = match (person, year, when, amount) {
        (false, false, false, None) if price => (Type::Amount, prices(given.text)),
        (true, false, false, None) => (Type::Person, persons(given.text, &question)),
        (false, true, _, None) => (Type::Year, years(given.text, &question)),
        (false, false, true, None) if hour => (Type::Date, times(given.text)),
        (false, false, true, None) => (Type::Date, moments(given.text)),
        (false, false, false, Some(of)) => (Type::Amount, amounts(given.text, &of)),
        _ => return None,
    };
    let mut seen = HashSet::new();
    candidates.retain(|candidate| seen.insert(fold(candidate)));
    Some(Sought {
        kind,
        candidates,
        question,
    })
}

impl Sought {
    /// Whether other words of the text may be the answer as well.
    pub fn is_open(&self) -> bool {
        matches!(self.kind, Type::Person | Type::Date)
    }

    /// Whether `text` says `candidate`, or part of it.
    pub fn is_said(&self, text: &str, candidate: &str) -> bool {
        match self.kind {
            Type::Person => {
                let said: HashSet<String> = words(text).map(|word| fold(word.text)).collect();
                words(candidate)
                    .map(|word| fold(word.text))
                    .any(|word| word.len() > 2 && said.contains(&word))
            }
            Type::Year => words(text).any(|word| word.text == candidate),
            Type::Amount => numbers(candidate)
                .first()
                .is_some_and(|value| numbers(text).contains(value)),
            Type::Date => {
                // Any number or month of it is taken for it: dates are written in many ways.
                let said: HashSet<String> = words(text).map(|word| fold(word.text)).collect();
                words(candidate).map(|word| fold(word.text)).any(|word| {
                    let tells = word.starts_with(|c: char| c.is_ascii_digit())
                        || month(&word).is_some()
                        || weekday(&word).is_some();
                    tells
                        && said.iter().any(|said| {
                            said.trim_end_matches(|c: char| c.is_ascii_alphabetic()) == word || *said == word
                        })
                })
            }
        }
    }

    /// What `text` says in the place of what is sought.
    pub fn wrong(&self, text: &str, facts: &Facts) -> Vec<Loose> {
        match self.kind {
            Type::Person => facts.loose_names(text),
            Type::Year => years_at(text)
                .into_iter()
                .filter(|loose| !self.question.contains(&text[loose.start..loose.end]))
                .collect(),
            Type::Date => {
                let mut wrong = facts.loose_numbers(text);
                let named = words(text).filter(|word| {
                    let folded = fold(head(word.text, 16));
                    (month(&folded).is_some() || weekday(&folded).is_some())
                        && word.text.len() > 3
                        && !facts.knows(&folded)
                });
                wrong.extend(named.map(|word| Loose {
                    start: word.start,
                    end: word.end(),
                }));
                wrong
            }
            Type::Amount => stated(text)
                .into_iter()
                .map(|number| Loose {
                    start: number.start,
                    end: number.end,
                })
                .filter(|loose| !self.question.contains(&fold(&text[loose.start..loose.end])))
                .collect(),
        }
    }
}

/// The values of the numbers of `text`, in digits and words.
fn numbers(text: &str) -> Vec<i128> {
    let figures = stated(text)
        .into_iter()
        .filter(|number| number.look.is_some())
        .filter_map(|number| {
            text[number.start..number.end]
                .chars()
                .filter(char::is_ascii_digit)
                .collect::<String>()
                .parse()
                .ok()
        });
    let in_words = spelled(words(text), Language::of(text) == Language::Spanish);
    figures
        .chain(in_words.into_iter().map(|number| number.value))
        .collect()
}

/// The stem of the things that "how many" asks for.
fn amount_of(question: &[String]) -> Option<String> {
    let at = question
        .iter()
        .position(|word| matches!(word.as_str(), "cuantos" | "cuantas"))
        .or_else(|| {
            question
                .windows(2)
                .position(|pair| pair[0] == "how" && pair[1] == "many")
                .map(|at| at + 1)
        })?;
    // Asked twice, it is two questions.
    let again = question[at + 1..]
        .iter()
        .any(|word| matches!(word.as_str(), "cuantos" | "cuantas" | "many"));
    let thing = question.get(at + 1).filter(|_| !again)?;
    let stem: String = thing.chars().take(5).collect();
    (stem.chars().count() >= 3).then_some(stem)
}

/// The numbers that stand right before such things, as they are written.
fn amounts(text: &str, of: &str) -> Vec<String> {
    let all: Vec<Word<'_>> = words(text).collect();
    let things: Vec<usize> = all
        .iter()
        .filter(|word| fold(word.text).starts_with(of))
        .map(|word| word.start)
        .collect();
    stated(text)
        .into_iter()
        .filter(|number| {
            things.iter().any(|&thing| {
                thing >= number.end && {
                    let between = &text[number.end..thing];
                    between.len() <= 40
                        && words(between).count() <= 2
                        && between
                            .chars()
                            .all(|c| c.is_alphabetic() || matches!(c, ' ' | '-'))
                }
            })
        })
        .map(|number| text[number.start..number.end].to_owned())
        .collect()
}

fn years_at(text: &str) -> Vec<Loose> {
    words(text)
        .filter(|word| {
            word.text.len() == 4
                && word
                    .text
                    .parse::<u16>()
                    .is_ok_and(|year| (1000..2200).contains(&year))
        })
        .map(|word| Loose {
            start: word.start,
            end: word.end(),
        })
        .collect()
}

fn years(text: &str, question: &HashSet<String>) -> Vec<String> {
    years_at(text)
        .into_iter()
        .map(|year| text[year.start..year.end].to_owned())
        .filter(|year| !question.contains(year))
        .collect()
}

/// The moments that a text names: dates, else weekdays, else times of the day, else years.
fn moments(text: &str) -> Vec<String> {
    let whole = dates(text);
    let at = |places: Vec<(usize, usize)>| {
        places
            .into_iter()
            .map(|(start, end)| text[start..end].to_owned())
            .collect()
    };
    let Some(days) = days_of_months(text) else {
        return Vec::new();
    };
    if !days.is_empty() {
        // Where one date has its year the others lack, they are not alike.
        return if whole.is_empty() {
            at(days)
        } else if whole.len() == days.len() {
            at(whole.iter().map(|date| (date.start, date.end)).collect())
        } else {
            Vec::new()
        };
    }
    let weekdays: Vec<String> = words(text)
        .filter(|word| weekday(&fold(head(word.text, 16))).is_some())
        .map(|word| word.text.to_owned())
        .collect();
    if !weekdays.is_empty() {
        return weekdays;
    }
    let times = times(text);
    if times.is_empty() {
        years(text, &HashSet::new())
    } else {
        times
    }
}

/// Times of the day, as 16:30.
fn times(text: &str) -> Vec<String> {
    let all: Vec<Word<'_>> = words(text).collect();
    let number =
        |word: &Word<'_>, most: u8| word.text.len() <= 2 && word.text.parse::<u8>().is_ok_and(|n| n < most);
    all.windows(2)
        .filter(|pair| number(&pair[0], 24) && pair[1].text.len() == 2 && number(&pair[1], 60))
        .filter(|pair| &text[pair[0].end()..pair[1].start] == ":")
        .map(|pair| text[pair[0].start..pair[1].end()].to_owned())
        .collect()
}

/// Words after a number that make it money.
const MONEY: &[&str] = &[
    "euro", "euros", "dollar", "dollars", "pound", "pounds", "peso", "pesos", "dolar", "dolares", "usd",
    "eur",
];

/// The sums of money of a text.
fn prices(text: &str) -> Vec<String> {
    stated(text)
        .into_iter()
        .filter_map(|number| {
            let sign = text[..number.start]
                .chars()
                .next_back()
                .filter(|c| matches!(c, '$' | '€' | '£'));
            let after = head(&text[number.end..], 16);
            let unit = words(after)
                .next()
                .filter(|word| word.start <= 1 && MONEY.contains(&fold(word.text).as_str()));
            let start = number.start - sign.map_or(0, char::len_utf8);
            match (sign, unit) {
                (_, Some(unit)) => Some(text[start..number.end + unit.end()].to_owned()),
                (Some(_), None) => Some(text[start..number.end].to_owned()),
                (None, None) => {
                    let euro = after.trim_start_matches(' ').starts_with('€');
                    euro.then(|| format!("{} €", &text[number.start..number.end]))
                }
            }
        })
        .collect()
}

/// Words by which a text tells of changes and shares: what is asked is then computed, and does not stand there.
#[rustfmt::skip]
const CHANGES: &[&str] = &[
    "buys", "bought", "gives", "gave", "away", "eats", "ate", "sells", "sold", "loses", "lost", "more", "each", "spends", "spent", "every", "per",
    "half", "twice", "adds", "added", "takes", "took", "remaining", "rest", "another", "fewer", "less", "than", "double", "compra", "compro", "da", "dio",
    "regala", "regalo", "come", "comio", "vende", "vendio", "pierde", "perdio", "mas", "menos", "cada", "gasta", "gasto", "mitad", "doble", "resto", "otro", "otra",
    "otros", "otras", "reparte", "repartio", "quita", "anade",
];

/// Whether the numbers of a text, its years aside, are there to be computed with, or any of them does not say what it
/// counts: "he is 8 years old and she is 11".
fn is_problem(text: &str) -> bool {
    let years = years_at(text);
    let elided = stated(text).iter().any(|number| {
        let after = text[number.end..].trim_start();
        !years.iter().any(|year| year.start == number.start)
            && !after.starts_with(|c: char| c.is_alphabetic() || matches!(c, '€' | '%' | ':'))
            && !text[..number.start].ends_with(['$', '€', '£', ':'])
    });
    if elided {
        return true;
    }
    let numbers = stated(text)
        .into_iter()
        .filter(|number| !years.iter().any(|year| year.start == number.start));
    numbers.count() >= 2 && is_any(&folded_words(text, 4096), CHANGES)
}

/// Words before a name that make it no person's.
const PLACES: &[&str] = &[
    "in", "at", "near", "to", "en", "hacia", "on", "called", "named", "llamado", "llamada",
];
/// Words that make a name no person's.
#[rustfmt::skip]
const THINGS: &[&str] = &[
    "museum", "street", "river", "university", "company", "school", "city", "park", "bridge", "lake", "mount", "hotel", "church", "college", "museo",
    "calle", "rio", "universidad", "empresa", "escuela", "ciudad", "parque", "puente", "lago", "monte", "iglesia", "the", "el", "la", "los", "las", "it",
    "he", "she", "they", "its", "his", "her", "their", "in", "on", "at", "when", "after", "before", "su", "sus", "en", "un", "una", "a", "an", "this",
    "that", "these", "there", "then", "but", "and", "y", "pero", "cuando", "despues", "antes", "desde", "hoy", "today", "every", "cada", "as", "for",
    "with", "con", "por", "para", "one", "some", "many", "since", "from", "by", "there", "harbor", "harbour", "ocean", "sea", "mar", "island", "isla",
    "club", "team", "award", "prize", "premio", "festival", "bakery", "panaderia", "library", "biblioteca", "house", "casa", "avenue", "avenida",
];

/// The persons' names of a text that the question does not name: two capitalised words and more, or one that stands in
/// the middle of a sentence.
fn persons(text: &str, question: &HashSet<String>) -> Vec<String> {
    let all: Vec<Word<'_>> = words(text).collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < all.len() {
        let capital = |i: usize| {
            all.get(i).is_some_and(|word| {
                let folded = fold(word.text);
                word.text.starts_with(char::is_uppercase)
                    && month(&folded).is_none()
                    && weekday(&folded).is_none()
                    && word.text.chars().all(char::is_alphabetic)
            })
        };
        let joined = |i: usize| {
            all.get(i + 1)
                .is_some_and(|next| matches!(&text[all[i].end()..next.start], " " | ". " | "-" | "'" | "’"))
        };
        if !capital(at) {
            at += 1;
            continue;
        }
        let mut first = at;
        let mut last = at;
        while joined(last)
            && capital(last + 1)
            && (&text[all[last].end()..all[last + 1].start] != ". " || all[last].text.chars().count() <= 2)
        {
            last += 1;
        }
        at = last + 1;
        let begins = |i: usize| {
            i == 0
                || text[all[i - 1].end()..all[i].start]
                    .contains(['.', '!', '?', '\n', ':', '"', '“', '¿', '¡'])
        };
        // "The Ana …", "When Ana …": the first word is none of the name.
        while first < last && begins(first) && THINGS.contains(&fold(all[first].text).as_str()) {
            first += 1;
        }
        let name: Vec<String> = (first..=last).map(|i| fold(all[i].text)).collect();
        let before = first
            .checked_sub(1)
            .filter(|_| !begins(first))
            .map(|i| fold(all[i].text));
        let thing = is_any(&name, THINGS) || before.is_some_and(|word| PLACES.contains(&word.as_str()));
        let asked = name.iter().any(|word| question.contains(word));
        let alone = first == last && begins(first);
        if !thing && !asked && !alone && name.iter().all(|word| word.chars().count() > 1 || name.len() > 1) {
            found.push(text[all[first].start..all[last].end()].to_owned());
        }
    }
    found
}
