//! Requests that are one closed computation, and its result.

use jiff::civil::Weekday;

use super::equations::{is_plain, is_unusual};
use super::expression::evaluate;
use super::lex::{Kind, Token, lex};
use super::number::{Look, Rational, Style};
use super::{calendar, dates, measures, named};
use crate::checkers::text::{Word, any_of, fold, folded_words, words};
use crate::critique::Language;

/// Longest request that is looked at, bytes: a computation with an instruction or two.
const LONGEST: usize = 400;

/// What the answer has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// A number, and how to write it.
    Number(Rational, Look),
    /// A weekday.
    Day(Weekday),
}

/// A closed computation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// What is right.
    pub expected: Expected,
    /// A short right sentence.
    pub sentence: String,
    /// Whether only the result is wanted.
    pub bare: bool,
    /// The weekdays that the request names.
    pub days: Vec<Weekday>,
}

/// What one sentence of a request computes.
pub(crate) struct Computed {
    pub expected: Expected,
    pub sentence: String,
}

/// The computation that `asked` is, if it is one and nothing else.
pub(crate) fn closed_question(asked: &str, language: Language) -> Option<Question> {
    if asked.len() > LONGEST || is_unusual(asked) {
        return None;
    }
    // "Today is Monday. What day …" is one question in two sentences.
    let mut computed = calendar::compute(asked, language);
    if computed.is_none() {
        for (sentence, asks) in sentences(asked) {
            match compute(sentence, language) {
                Some(found) if computed.is_none() => computed = Some(found),
                // Two computations, or another question beside it.
                Some(_) => return None,
                None if asks || !is_instruction(sentence) => return None,
                None => {}
            }
        }
    }
    let Computed { expected, sentence } = computed?;
    let all = folded_words(asked, 128);
    let otherwise = [
        "words",
        "letters",
        "word",
        "palabras",
        "letras",
        "roman",
        "romano",
        "romanos",
        "fraction",
        "fractions",
        "fraccion",
        "fracciones",
        "scientific",
        "cientifica",
        "simplest",
        "inclusive",
        "including",
        "incluidos",
        "incluyendo",
        "ambos",
        "remainder",
        "resto",
        "estimate",
        "estima",
        "json",
        "table",
        "tabla",
        "story",
        "historia",
        "poem",
        "poema",
    ];
    if any_of(&all, &otherwise) {
        return None;
    }
    let only = [
        "only",
        "just",
        "solo",
        "solamente",
        "unicamente",
        "nothing",
        "single",
        "nada",
    ];
    Some(Question {
        expected,
        sentence,
        bare: any_of(&all, &only),
        days: all.iter().filter_map(|word| dates::weekday(word)).collect(),
    })
}

/// The sentences of a request, and whether each ends with a question mark.
fn sentences(text: &str) -> Vec<(&str, bool)> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, c)) = chars.next() {
        let after = chars.peek().map_or(' ', |&(_, c)| c);
        let ends = match c {
            '?' | '\n' | '¿' | ';' => true,
            '.' | ':' => after.is_whitespace() || !(before.is_ascii_digit() || after.is_ascii_digit()),
            '!' => after != '=',
            _ => false,
        };
        if ends {
            found.push((&text[start..at], c == '?'));
            start = at + c.len_utf8();
        }
        before = c;
    }
    found.push((&text[start..], false));
    found.retain(|(sentence, _)| sentence.contains(|c: char| c.is_alphanumeric()));
    found
}

/// Whether a sentence only says how to answer.
fn is_instruction(sentence: &str) -> bool {
    !sentence.contains(|c: char| c.is_ascii_digit()) && words(sentence).count() <= 20
}

fn compute(sentence: &str, language: Language) -> Option<Computed> {
    calendar::compute(sentence, language)
        .or_else(|| measures::compute(sentence, language))
        .or_else(|| sum(sentence, language))
}

/// The styles in which to read the numbers of a request, the likely one first.
pub(crate) const fn styles(language: Language) -> [Style; 2] {
    match language {
        Language::English => [Style::Point, Style::Comma],
        Language::Spanish => [Style::Comma, Style::Point],
    }
}

/// Words before a computation.
#[rustfmt::skip]
const LEAD: &[&str] = &[
    "please", "por", "favor", "hey", "hi", "hello", "hola", "can", "could", "would", "you", "me", "tell", "what", "whats", "s",
    "is", "how", "much", "are", "the", "result", "of", "value", "calculate", "compute", "solve", "evaluate", "work", "out",
    "find", "give", "answer", "cuanto", "cuantos", "cual", "es", "son", "da", "dan", "vale", "el", "la", "resultado", "valor", "de", "que",
    "calcula", "calcular", "calculame", "resuelve", "halla", "evalua", "dime", "puedes", "podrias", "i", "need", "to", "know", "want",
    "exact", "exacto", "operation", "operacion", "following", "siguiente", "this", "esta", "expression", "expresion", "equation",
    "simplify", "simplifica", "question", "pregunta", "problem", "problema", "do", "math", "quick", "ok", "okay", "now", "ahora", "y",
    "and", "decirme", "saber", "quiero", "necesito", "cuenta", "haz", "don", "t", "know", "quickly", "obtain", "determine", "determina", "get", "if", "when",
];
/// Words after it.
pub(crate) const TAIL: &[&str] = &[
    "please",
    "por",
    "favor",
    "what",
    "cuanto",
    "equal",
    "equals",
    "to",
    "is",
    "es",
    "son",
    "igual",
    "a",
    "for",
    "me",
    "then",
    "da",
    "que",
    "in",
    "total",
    "en",
    "gracias",
    "thanks",
    "exactly",
    "step",
    "steps",
    "by",
    "show",
    "your",
    "work",
    "working",
    "explain",
    "and",
    "the",
    "only",
    "just",
    "number",
    "answer",
    "quickly",
    "carefully",
    "paso",
    "pasos",
    "explica",
    "muestra",
    "y",
    "solo",
    "el",
    "numero",
    "with",
    "con",
];
/// Leads that also begin a question about a thing: "What is 24/7?"
const VAGUE: &[&str] = &[
    "what", "is", "whats", "s", "que", "es", "tell", "me", "dime", "the", "el", "la", "are", "son",
];

/// The result of the sum that a sentence asks for.
fn sum(sentence: &str, language: Language) -> Option<Computed> {
    let mut lead = Vec::new();
    let mut start = 0;
    for word in words(sentence) {
        if sentence[start..word.start].contains(['(', '-', '−', '√', '+']) {
            break;
        }
        let folded = fold(word.text);
        if !LEAD.contains(&folded.as_str()) {
            start = word.start;
            break;
        }
        start = word.end();
        lead.push(folded);
    }
    // A sign before the number belongs to it.
    let before = &sentence[..start];
    start = before.trim_end_matches(['(', '-', '−', '+', '√', '$', '€']).len();
    let rest = sentence[start..].trim_start_matches([' ', ',', ':', '\'', '*', '`']);
    let tokens = lex(rest);
    if let Some(named) = named::compute(rest, &tokens, language) {
        return Some(named);
    }
    let last = tokens.iter().rposition(|token| {
        matches!(
            token.kind,
            Kind::Number | Kind::Close | Kind::Percent | Kind::Square | Kind::Cube
        )
    })?;
    let (sum, tail) = tokens.split_at(last + 1);
    if !tail.first().is_none_or(|token| token.kind == Kind::Break)
        && !words(&rest[sum[last].end..]).all(|word| TAIL.contains(&fold(word.text).as_str()))
    {
        return None;
    }
    let equals = tail.iter().any(|token| matches!(token.kind, Kind::Equals { .. }));
    let whole = start == 0 && !sentence.contains(char::is_alphabetic);
    if (lead.is_empty() && !equals && !whole) || !is_plain(rest, sum) {
        return None;
    }
    let mut values = styles(language)
        .into_iter()
        .filter_map(|style| evaluate(rest, sum, style));
    let value = values.next()?;
    // In Spanish 1,250 is one thing in Madrid and another in Mexico.
    let unclear = language == Language::Spanish && rest.contains(',');
    if value.operators == 0 || (unclear && values.next().is_some_and(|other| other.value != value.value)) {
        return None;
    }
    let tight = sum.windows(2).all(|pair| pair[0].end == pair[1].start);
    let vague = lead.iter().all(|word| VAGUE.contains(&word.as_str())) && !equals;
    let risky = [Kind::Divide, Kind::Minus, Kind::Times]
        .iter()
        .any(|kind| sum.iter().any(|token| token.kind == *kind))
        && !sum
            .iter()
            .any(|token| rest[token.start..token.end].contains(['*', '×']));
    if tight && vague && risky && value.operators == 1 {
        return None;
    }
    let calculation = rest[sum[0].start..sum[last].end].trim();
    number(calculation, value.value, value.look, language)
}

/// The computed number with its sentence.
pub(crate) fn number(calculation: &str, value: Rational, look: Look, language: Language) -> Option<Computed> {
    let shown = value.show(look)?;
    let sentence = if calculation.contains(|c: char| c.is_alphabetic()) {
        let is = match language {
            Language::English => "is",
            Language::Spanish => "es",
        };
        let mut sentence = format!("{calculation} {is} {shown}.");
        if let Some(first) = sentence.get(..1) {
            sentence = first.to_uppercase() + &sentence[1..];
        }
        sentence
    } else {
        format!("{calculation} = {shown}")
    };
    Some(Computed {
        expected: Expected::Number(value, look),
        sentence,
    })
}

/// The folded words of a sentence with their places, and its numbers kept whole.
pub(crate) fn pieces(sentence: &str) -> Vec<(String, Token)> {
    lex(sentence)
        .into_iter()
        .filter(|token| !matches!(token.kind, Kind::Break))
        .map(|token| (fold(&sentence[token.start..token.end]), token))
        .collect()
}

/// Whether every word of a sentence is one of these, numbers and the words in `except` aside.
pub(crate) fn only_words(sentence: &str, allowed: &[&str], except: impl Fn(&Word<'_>, &str) -> bool) -> bool {
    words(sentence).all(|word| {
        if word.text.len() > 24 {
            return false;
        }
        let folded = fold(word.text);
        allowed.contains(&folded.as_str()) || except(&word, &folded)
    })
}
