//! Equations in a text, recomputed.

use super::expression::{TOKENS, Value, evaluate};
use super::lex::{Kind, Token, lex};
use super::number::{Rational, Style};
use crate::checkers::text::{any_of, fold, folded_words, head, phrase, words};

/// A number that an equation states wrongly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Where it stands.
    pub start: usize,
    /// One past its end.
    pub end: usize,
    /// Where its equation begins.
    pub from: usize,
    /// What it should be, written like it; `None` where that cannot be written.
    pub right: String,
    /// Its own value.
    pub said: Rational,
    /// The calculation, as it was written.
    pub calculation: (usize, usize),
}

/// Words by which a text or a request shows that its sums are not ordinary ones.
#[rustfmt::skip]
const UNUSUAL: &[&str] = &[
    "binary", "binario", "binarios", "hexadecimal", "octal", "modulo", "mod", "modular", "riddle", "acertijo",
    "adivinanza", "joke", "chiste", "broma", "boolean", "booleano", "javascript", "python", "string", "orwell",
    "novel", "novela", "wrong", "incorrect", "false", "falso", "falsa", "incorrecto", "incorrecta", "mistake",
    "mistakes", "error", "errors", "errores", "equivocado", "matrix", "matriz", "matrices", "clock", "reloj",
    "pm", "java", "xor", "bitwise", "beats", "beat", "compas", "compases", "truncates", "truncated", "truncation",
];
/// Two words by which they show it.
#[rustfmt::skip]
const UNUSUAL_PHRASES: &[&str] = &[
    "time signature", "integer division", "integer arithmetic", "two integers", "both integers", "division entera",
];
/// Words after a number that count nothing, folded.
#[rustfmt::skip]
const LINKS: &[&str] = &[
    "and", "so", "then", "which", "because", "but", "therefore", "thus", "since", "hence", "y", "asi", "entonces", "porque", "pero", "luego", "que",
    "is", "not", "while", "es",
];
/// Words before a sum by which a text shows that it does not claim it.
#[rustfmt::skip]
const UNCLAIMED: &[&str] = &[
    "not", "isn't", "if", "suppose", "imagine", "instead", "never", "si", "no", "supongamos", "imagina", "whether",
    "neither", "nor",
];
/// Words between which and a calculation nothing else stands: what they take is more than its first number.
#[rustfmt::skip]
const PARTIAL: &[&str] = &[
    "of", "de", "del", "sqrt", "sin", "cos", "tan", "log", "ln", "raiz", "root", "by", "entre",
];
/// What may stand before "of" all the same.
#[rustfmt::skip]
const WHOLE: &[&str] = &[
    "sum", "result", "value", "product", "difference", "quotient", "calculation", "expression", "suma", "resultado",
    "valor", "producto", "resta", "cociente", "calculo", "expresion", "total",
];
/// Words that change what a number means: a calculation with one of them is not recomputed.
#[rustfmt::skip]
const SCALES: &[&str] = &[
    "million", "millions", "billion", "billions", "thousand", "thousands", "hundred", "hundreds", "dozen", "dozens",
    "pair", "pairs", "millon", "millones", "mil", "cientos", "docena", "docenas", "par", "pares", "half", "medio",
    "media", "quarter", "cuarto", "cuartos", "percent", "trillion", "score",
];

/// Whether sums of such a text are left alone.
pub(crate) fn is_unusual(text: &str) -> bool {
    let words = folded_words(text, 4096);
    // "10 AM" and "10 a.m.", and not "I am" or "5 km a m".
    let digit = |word: &String| word.starts_with(|c: char| c.is_ascii_digit());
    let halves =
        |three: &[String]| digit(&three[0]) && matches!(three[1].as_str(), "a" | "p") && three[2] == "m";
    let morning = |pair: &[String]| pair[1] == "am" && digit(&pair[0]);
    // The language, and no degrees.
    let in_c = (phrase(&words, "in c") || phrase(&words, "en c"))
        && !any_of(
            &words,
            &[
                "f",
                "fahrenheit",
                "k",
                "kelvin",
                "degrees",
                "grados",
                "convert",
                "convierte",
            ],
        );
    let joined = |word: &str| {
        word.strip_suffix("am")
            .or_else(|| word.strip_suffix("pm"))
            .is_some_and(|hour| !hour.is_empty() && hour.bytes().all(|b| b.is_ascii_digit()))
    };
    any_of(&words, UNUSUAL)
        || words.iter().any(|word| joined(word))
        || words.windows(2).any(morning)
        || words.windows(3).any(halves)
        || in_c
        || UNUSUAL_PHRASES.iter().any(|unusual| phrase(&words, unusual))
        || text.contains("C++")
        || text.contains("c++")
}

/// The wrong equations of `text`, in order; `prefer` is tried first where a number can be read in two ways.
pub(crate) fn wrong_equations(text: &str, prefer: Style) -> Vec<Wrong> {
    let tokens = lex(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !begins(tokens[at].kind) {
            at += 1;
            continue;
        }
        let end = run_end(&tokens, at);
        if end - at <= TOKENS * 2
            && let Some(wrong) = check_run(text, &tokens, at, end, prefer)
        {
            found.push(wrong);
        }
        at = end.max(at + 1);
    }
    found
}

const fn begins(kind: Kind) -> bool {
    matches!(kind, Kind::Number | Kind::Open)
}

/// One past the last token of the calculation that begins at `at`.
fn run_end(tokens: &[Token], at: usize) -> usize {
    let mut end = at;
    while let Some(token) = tokens.get(end) {
        let belongs = match token.kind {
            Kind::Word => {
                // A unit: after a number and before a sign.
                let after = tokens.get(end + 1).map(|next| next.kind);
                let before = end > at && matches!(tokens[end - 1].kind, Kind::Number);
                before
                    && after.is_some_and(|kind| {
                        kind.is_operator() || matches!(kind, Kind::Equals { .. } | Kind::Close)
                    })
            }
            Kind::Break | Kind::Other => false,
            _ => true,
        };
        if !belongs {
            break;
        }
        end += 1;
    }
    end
}

/// What is wrong in the run `at..end`, if it is an equation.
fn check_run(text: &str, tokens: &[Token], at: usize, end: usize, prefer: Style) -> Option<Wrong> {
    let run = &tokens[at..end];
    if !run.iter().any(|token| matches!(token.kind, Kind::Equals { .. })) {
        return None;
    }
    if !stands_alone(text, tokens, at, end) || !is_plain(text, run) || !is_counted(text, tokens, at, end) {
        return None;
    }
    // "Incorrect under every reading" alone is incorrect.
    let mut styles = [prefer, prefer];
    styles[1] = if prefer == Style::Point {
        Style::Comma
    } else {
        Style::Point
    };
    let mut first = None;
    for style in styles {
        match check(text, run, style) {
            Reading::Right => return None,
            Reading::Unreadable => {}
            Reading::Wrong(wrong) => first = first.or(Some(wrong)),
        }
    }
    first
}

/// Whether the run is all there is of its calculation, and is claimed.
fn stands_alone(text: &str, tokens: &[Token], at: usize, end: usize) -> bool {
    let before = at.checked_sub(1).map(|i| tokens[i]);
    if let Some(before) = before {
        let tight = before.end == tokens[at].start;
        match before.kind {
            Kind::Other if tight => return false,
            Kind::Other | Kind::Break => {}
            // "x = 3 + 4": what follows the sign stands alone.
            Kind::Equals { .. } => {}
            Kind::Word => {
                let word = |i: usize| fold(&text[tokens[i].start..tokens[i].end]);
                let partial = PARTIAL.contains(&word(at - 1).as_str());
                let whole =
                    at >= 2 && tokens[at - 2].kind == Kind::Word && WHOLE.contains(&word(at - 2).as_str());
                if (partial && !whole) || tight {
                    return false;
                }
            }
            Kind::Minus => {
                // A sign of its own or a subtraction from something that is no number.
                return false;
            }
            _ => return false,
        }
    }
    if goes_on(&text[tokens[end - 1].end..]) {
        return false;
    }
    // Looks back to the beginning of the sentence, at most a line's worth.
    let from = tokens[at].start;
    let mut back = from.saturating_sub(96);
    while !text.is_char_boundary(back) {
        back += 1;
    }
    let before = &text[back..from];
    let sentence = before
        .rfind(['.', '!', '?', '\n', ';', ':'])
        .map_or(before, |i| &before[i + 1..]);
    !fold(sentence)
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .any(|word| UNCLAIMED.contains(&word))
}

/// Whether the numbers of a run and its result count the same things, as far as they say what they count.
fn is_counted(text: &str, tokens: &[Token], at: usize, end: usize) -> bool {
    let run = &tokens[at..end];
    let word = |token: &Token| fold(head(&text[token.start..token.end], 40));
    let counted: Vec<String> = run
        .iter()
        .filter(|token| token.kind == Kind::Word)
        .map(word)
        .collect();
    let result = tokens
        .get(end)
        .filter(|token| token.kind == Kind::Word)
        .map(word)
        .filter(|word| !LINKS.contains(&word.as_str()));
    if !counted.is_empty() {
        return result.is_some_and(|result| counted.iter().all(|one| is_same(one, &result)));
    }
    // "Weeks 1 – 4 are 30 minutes", "3/4 = 3 beats": a span or a name, and what it has.
    let mut operators = run.iter().filter(|token| token.kind.is_operator());
    let alone = operators
        .next()
        .is_some_and(|token| matches!(token.kind, Kind::Minus | Kind::Divide));
    !(result.is_some() && alone && operators.next().is_none())
}

/// Whether two folded words name the same unit or thing, one or many.
fn is_same(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() < other.len() {
        (one, other)
    } else {
        (other, one)
    };
    let plural = long
        .strip_prefix(short)
        .is_some_and(|end| matches!(end, "" | "s" | "es"));
    plural || (super::units::is_unit(one) && super::units::is_unit(other) && super::units::same(one, other))
}

/// Whether an equation of two numbers is another's notation: a span of years, or a power sign that is another.
fn is_other_notation(text: &str, calculation: &[Token], value: Rational, said: Rational) -> bool {
    let [first, sign, second] = calculation else {
        return false;
    };
    let whole = |token: &Token| text[token.start..token.end].parse::<u32>().ok();
    let (Some(first), Some(second)) = (whole(first), whole(second)) else {
        return false;
    };
    match sign.kind {
        Kind::Minus => {
            let year = |n: u32| (1000..2200).contains(&n);
            year(first) && year(second) && first < second && said == value.negated()
        }
        Kind::Power => said == Rational::whole(i128::from(first ^ second)),
        _ => false,
    }
}

/// Whether what follows an equation goes on with it, or asks whether it holds.
fn goes_on(rest: &str) -> bool {
    let rest = rest.trim_start_matches([' ', '*', '_', ')']);
    let mut chars = rest.chars();
    let (first, second) = (chars.next(), chars.next());
    match first {
        Some('?' | '^' | '=' | '+' | '/' | '×' | '÷' | '√' | '≠' | '%' | '[') => return true,
        Some('!') if second == Some('=') => return true,
        // A dash between words is none of its signs.
        Some('-' | '–') if !second.is_some_and(char::is_whitespace) => return true,
        _ => {}
    }
    let words = folded_words(head(rest, 64), 5);
    // "(mod 12)", "R2", "remainder 2", "with 2 left over"
    let remains = |word: &str| {
        word.strip_prefix('r')
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
    };
    words.first().is_some_and(|word| word == "mod" || remains(word))
        || any_of(
            &words,
            &[
                "remainder",
                "remaining",
                "left",
                "leftover",
                "resto",
                "residuo",
                "sobra",
                "sobran",
                "modulo",
            ],
        )
}

/// Whether the units and signs of a run are those of plain numbers.
pub(crate) fn is_plain(text: &str, run: &[Token]) -> bool {
    let mut units: Vec<String> = Vec::new();
    let scaled = |word: &str| SCALES.contains(&word);
    for (i, token) in run.iter().enumerate() {
        let near = |k: usize| run.get(k).map(|t| t.kind);
        match token.kind {
            Kind::Word => {
                let word = fold(&text[token.start..token.end]);
                if scaled(&word) {
                    return false;
                }
                if super::units::is_unit(&word) {
                    units.push(word);
                }
            }
            // 2020-2024 and 10–20 are spans.
            Kind::Minus
                if i > 0 && near(i - 1) == Some(Kind::Number) && near(i + 1) == Some(Kind::Number) =>
            {
                let tight = run[i - 1].end == token.start && token.end == run[i + 1].start;
                if tight && (run.len() < 4 || word_equals(run)) {
                    return false;
                }
                if tight && run[i - 1].end - run[i - 1].start >= 4 {
                    return false;
                }
            }
            // 24/7 is a word, and so is 9/11.
            Kind::Divide if i > 0 && run[i - 1].end == token.start && word_equals(run) => return false,
            _ => {}
        }
    }
    // The unit after the last number counts too.
    if let Some(last) = run.last() {
        let rest = &text[last.end..];
        let after = words(head(rest, 40)).next();
        if let Some(word) = after.filter(|word| word.start <= 1) {
            let word = fold(word.text);
            if scaled(&word) {
                return false;
            }
            if super::units::is_unit(&word) {
                units.push(word);
            }
        }
    }
    // Numbers with and without a unit mix only where they are multiplied: 3 km × 4 = 12 km.
    units.dedup();
    units.iter().all(|unit| super::units::same(unit, &units[0]))
}

fn word_equals(run: &[Token]) -> bool {
    run.iter()
        .any(|token| matches!(token.kind, Kind::Equals { sign: false, .. }))
}

enum Reading {
    Right,
    Unreadable,
    Wrong(Wrong),
}

/// The equation in one style of writing numbers.
fn check(text: &str, run: &[Token], style: Style) -> Reading {
    let mut sides: Vec<(&[Token], Value, bool)> = Vec::new();
    let mut about = false;
    for side in run.split_inclusive(|token| matches!(token.kind, Kind::Equals { .. })) {
        let (tokens, next_about) = match side.split_last() {
            Some((last, rest)) => match last.kind {
                Kind::Equals { about, .. } => (rest, about),
                _ => (side, false),
            },
            None => return Reading::Unreadable,
        };
        let Some(value) = evaluate(text, tokens, style) else {
            return Reading::Unreadable;
        };
        sides.push((tokens, value, about));
        about = next_about;
    }
    let Some(known) = sides.iter().position(|(_, value, _)| value.operators > 0) else {
        return Reading::Unreadable;
    };
    // A word for "equals" is only read from left to right.
    if sides.len() < 2 || (known > 0 && (word_equals(run) || known > 1)) {
        return Reading::Unreadable;
    }
    let mut value = sides[known].1.value;
    let mut calculation = sides[known].0;
    let order = (0..known).chain(known + 1..sides.len());
    for i in order {
        let (tokens, side, about) = &sides[i];
        let right = if *about {
            value.is_about(side.value)
        } else {
            let decimals = if side.percent {
                side.look.decimals + 2
            } else {
                side.look.decimals
            };
            value.is_shown_as(side.value, if side.single { decimals } else { decimals.max(2) })
        };
        if right {
            // Where a rounded number is worked with, it is what counts from here.
            if i > known && side.single {
                continue;
            }
            if i > known {
                calculation = tokens;
            }
            continue;
        }
        // "5 + 3 = 8 - 2 = 6": wrong as an equation, right as the steps it writes down.
        let first = tokens.first().filter(|token| token.kind == Kind::Number);
        let carried = first
            .and_then(|token| evaluate(text, std::slice::from_ref(token), style))
            .is_some_and(|first| !side.single && value.is_shown_as(first.value, first.look.decimals));
        if carried && i > known {
            value = side.value;
            calculation = tokens;
            continue;
        }
        // "Days 3 - 5 are 2": a span, and no subtraction.
        let negative = value.is_less(Rational::whole(0)).unwrap_or(true);
        let minus = run.iter().any(|token| token.kind == Kind::Minus);
        if (minus && negative && word_equals(run)) || is_other_notation(text, calculation, value, side.value)
        {
            return Reading::Unreadable;
        }
        return wrong(text, run, tokens, side, value, calculation);
    }
    Reading::Right
}

fn wrong(
    text: &str,
    run: &[Token],
    tokens: &[Token],
    side: &Value,
    value: Rational,
    calculation: &[Token],
) -> Reading {
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
        return Reading::Unreadable;
    };
    let (shown, sign) = if side.percent {
        (value.mul(Rational::whole(100)), "%")
    } else {
        (Some(value), "")
    };
    let mut look = side.look;
    look.grouped |= value.as_whole().is_some_and(|n| n.abs() >= 10_000)
        && text[first.start..last.end].contains(match look.style {
            Style::Point => ',',
            Style::Comma => '.',
        });
    let Some(mut right) = shown.and_then(|shown| shown.show(look)) else {
        return Reading::Unreadable;
    };
    right.push_str(sign);
    // The unit after the number stays.
    let end = tokens
        .iter()
        .rev()
        .find(|token| token.kind != Kind::Word)
        .map_or(last.end, |token| token.end);
    Reading::Wrong(Wrong {
        start: first.start,
        end,
        from: run[0].start,
        right,
        said: side.value,
        calculation: (
            calculation.first().map_or(first.start, |token| token.start),
            calculation.last().map_or(end, |token| token.end),
        ),
    })
}
