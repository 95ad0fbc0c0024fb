//! Numbers written in words, in English and Spanish.

use super::text::{Word, fold};

/// What a word adds to a number.
enum Part {
    /// Below a hundred, and hundreds in one word.
    Small(i128),
    /// "hundred"
    Hundred,
    /// "thousand", "million"
    Scale(i128),
    /// "and", "y"
    And,
}

#[rustfmt::skip]
const SMALL: &[(&str, i128)] = &[
    ("zero", 0), ("one", 1), ("two", 2), ("three", 3), ("four", 4), ("five", 5), ("six", 6), ("seven", 7), ("eight", 8),
    ("nine", 9), ("ten", 10), ("eleven", 11), ("twelve", 12), ("thirteen", 13), ("fourteen", 14), ("fifteen", 15),
    ("sixteen", 16), ("seventeen", 17), ("eighteen", 18), ("nineteen", 19), ("twenty", 20), ("thirty", 30), ("forty", 40),
    ("fifty", 50), ("sixty", 60), ("seventy", 70), ("eighty", 80), ("ninety", 90),
    ("cero", 0), ("un", 1), ("uno", 1), ("una", 1), ("dos", 2), ("tres", 3), ("cuatro", 4), ("cinco", 5), ("seis", 6),
    ("siete", 7), ("ocho", 8), ("nueve", 9), ("diez", 10), ("once", 11), ("doce", 12), ("trece", 13), ("catorce", 14),
    ("quince", 15), ("dieciseis", 16), ("diecisiete", 17), ("dieciocho", 18), ("diecinueve", 19), ("veinte", 20),
    ("veintiuno", 21), ("veintiun", 21), ("veintiuna", 21), ("veintidos", 22), ("veintitres", 23), ("veinticuatro", 24),
    ("veinticinco", 25), ("veintiseis", 26), ("veintisiete", 27), ("veintiocho", 28), ("veintinueve", 29), ("treinta", 30),
    ("cuarenta", 40), ("cincuenta", 50), ("sesenta", 60), ("setenta", 70), ("ochenta", 80), ("noventa", 90), ("cien", 100),
    ("ciento", 100), ("doscientos", 200), ("doscientas", 200), ("trescientos", 300), ("trescientas", 300),
    ("cuatrocientos", 400), ("cuatrocientas", 400), ("quinientos", 500), ("quinientas", 500), ("seiscientos", 600),
    ("seiscientas", 600), ("setecientos", 700), ("setecientas", 700), ("ochocientos", 800), ("ochocientas", 800),
    ("novecientos", 900), ("novecientas", 900),
];

fn part(word: &str) -> Option<Part> {
    Some(match word {
        "hundred" => Part::Hundred,
        "thousand" | "mil" => Part::Scale(1000),
        "million" | "millon" | "millones" => Part::Scale(1_000_000),
        "billion" => Part::Scale(1_000_000_000),
        "and" | "y" => Part::And,
        _ => Part::Small(SMALL.iter().find(|(name, _)| *name == word)?.1),
    })
}

/// A number written in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spelled {
    pub start: usize,
    pub end: usize,
    pub value: i128,
}

/// The numbers among `words`, a text's words in order. "once" is eleven only in Spanish.
pub(crate) fn spelled<'a>(words: impl Iterator<Item = Word<'a>>, spanish: bool) -> Vec<Spelled> {
    let mut found = Vec::new();
    let mut open: Option<Open> = None;
    for word in words {
        let known = (word.text.len() <= 16)
            .then(|| fold(word.text))
            .filter(|w| spanish || w != "once")
            .and_then(|w| part(&w));
        let goes_on = match (&known, &mut open) {
            (Some(Part::And), Some(number)) => !std::mem::replace(&mut number.and, true),
            (Some(next), Some(number)) => number.take(next, word.end()),
            _ => false,
        };
        if !goes_on {
            found.extend(open.take().map(Open::end));
            open = known.and_then(|next| Open::begin(&next, word));
        }
    }
    found.extend(open.map(Open::end));
    found
}

/// A number that is being read.
struct Open {
    start: usize,
    end: usize,
    done: i128,
    part: i128,
    /// The last small number; a smaller one may follow a bigger one.
    last: i128,
    and: bool,
}

impl Open {
    fn begin(part: &Part, word: Word<'_>) -> Option<Self> {
        let (done, value) = match part {
            Part::Small(value) => (0, *value),
            // "mil" alone is a number, "hundred" and "million" are none.
            Part::Scale(1000) if fold(word.text) == "mil" => (1000, 0),
            _ => return None,
        };
        Some(Self {
            start: word.start,
            end: word.end(),
            done,
            part: value,
            last: value,
            and: false,
        })
    }

    fn take(&mut self, part: &Part, end: usize) -> bool {
        match part {
            Part::Small(value) => {
                let fits = *value > 0
                    && ((self.last >= 20 && self.last < 100 && *value < 10)
                        || (self.last >= 100 && *value < 100)
                        || self.last == 0 && self.done > 0);
                if !fits {
                    return false;
                }
                self.part += value;
                self.last = *value;
            }
            Part::Hundred => {
                if self.part == 0 || self.part >= 100 || self.and {
                    return false;
                }
                self.part *= 100;
                self.last = 100;
            }
            Part::Scale(scale) => {
                if self.part == 0 || self.and || (self.done > 0 && self.done < *scale) {
                    return false;
                }
                self.done += self.part * scale;
                self.part = 0;
                self.last = 0;
            }
            Part::And => return false,
        }
        self.and = false;
        self.end = end;
        true
    }

    fn end(self) -> Spelled {
        Spelled {
            start: self.start,
            end: self.end,
            value: self.done + self.part,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::words;
    use super::*;

    #[test]
    fn numbers_in_words_are_read() {
        for (text, expected) in [
            ("forty-two", vec![42]),
            ("two and three", vec![2, 3]),
            ("one hundred and five cats", vec![105]),
            ("three thousand two hundred", vec![3200]),
            ("two million", vec![2_000_000]),
            ("cuarenta y dos", vec![42]),
            ("mil doscientos treinta y cuatro", vec![1234]),
            ("dos mil", vec![2000]),
            ("ciento ochenta", vec![180]),
            ("veintiún gatos", vec![21]),
            ("a hundred", vec![]),
            ("seven eight nine", vec![7, 8, 9]),
        ] {
            let got: Vec<i128> = spelled(words(text), true).iter().map(|n| n.value).collect();
            assert_eq!(got, expected, "{text}");
        }
        assert!(spelled(words("once upon a time"), false).is_empty());
    }
}
