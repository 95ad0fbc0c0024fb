//! Requests whose computation a word names: "the sum of 3 and 4", "divide 20 by 8", "la mitad de 9".

use super::lex::{Kind, Token};
use super::number::{Rational, read};
use super::question::{Computed, Expected, TAIL, number, styles};
use crate::checkers::text::fold;
use crate::critique::Language;

/// Words that may stand between the numbers of a computation that a word names.
const JOINS: &[&str] = &[
    "of", "de", "the", "el", "la", "los", "and", "y", "by", "to", "from", "between", "entre", "por", "with",
    "con", "a", "numbers", "numeros", "number", "numero", "del", "cuadrada", "square", "root", "result",
    "together",
];

/// Computations that a word names: "the sum of 3 and 4", "divide 20 by 4", "la mitad de 9".
pub(crate) fn compute(text: &str, tokens: &[Token], language: Language) -> Option<Computed> {
    let name = tokens
        .first()
        .filter(|token| matches!(token.kind, Kind::Word | Kind::Percent | Kind::PercentOf))?;
    let word = |token: &Token| fold(&text[token.start..token.end]);
    let mut name_word = word(name);
    if matches!(name_word.as_str(), "square" | "raiz") {
        let next = tokens.get(1).map(word).unwrap_or_default();
        if matches!(next.as_str(), "root" | "cuadrada") {
            name_word = "root".into();
        }
    }
    if name_word.starts_with("percent") {
        name_word = "percent".into();
    }
    let percent = matches!(name_word.as_str(), "percent" | "porcentaje");
    let last = tokens.iter().rposition(|token| token.kind == Kind::Number)?;
    if tokens[last + 1..].iter().any(|token| {
        !matches!(token.kind, Kind::Break | Kind::Equals { .. }) && !TAIL.contains(&word(token).as_str())
    }) {
        return None;
    }
    let mut numbers = Vec::new();
    let mut style = None;
    for style_tried in styles(language) {
        let read: Option<Vec<_>> = tokens
            .iter()
            .filter(|token| token.kind == Kind::Number)
            .map(|token| read(&text[token.start..token.end], style_tried))
            .collect();
        if let Some(read) = read {
            numbers = read;
            style = Some(style_tried);
            break;
        }
    }
    let known = |token: &Token| match token.kind {
        Kind::Number => true,
        Kind::Break => &text[token.start..token.end] == ",",
        Kind::Equals { sign: false, .. } | Kind::PercentOf | Kind::Percent => percent,
        // "6 por 7", "20 entre 4"
        Kind::Times | Kind::Divide => text[token.start..token.end].contains(char::is_alphabetic),
        Kind::Word => JOINS.contains(&word(token).as_str()),
        Kind::Plus => text[token.start..token.end].contains(char::is_alphabetic),
        _ => false,
    };
    if !tokens[1..=last].iter().all(known) {
        return None;
    }
    let values: Vec<Rational> = numbers.iter().map(|number| number.value).collect();
    let fold_all = |f: fn(Rational, Rational) -> Option<Rational>| {
        let (first, rest) = values.split_first()?;
        (!rest.is_empty()).then(|| rest.iter().try_fold(*first, |a, b| f(a, *b)))?
    };
    let two = || <[Rational; 2]>::try_from(values.clone()).ok();
    let one = || <[Rational; 1]>::try_from(values.clone()).ok().map(|[one]| one);
    let value = match name_word.as_str() {
        "sum" | "suma" | "add" | "addition" | "sumar" => fold_all(Rational::add),
        "product" | "producto" | "multiply" | "multiplica" | "multiplicar" => fold_all(Rational::mul),
        "difference" | "diferencia" => two().and_then(|[a, b]| a.sub(b)).map(Rational::abs),
        "subtract" | "resta" => two().and_then(|[a, b]| b.sub(a)),
        "quotient" | "cociente" | "divide" | "dividir" => two().and_then(|[a, b]| a.div(b)),
        "root" => one().and_then(Rational::root),
        "half" | "mitad" => one().and_then(|a| a.div(Rational::whole(2))),
        "double" | "twice" | "doble" => one().and_then(|a| a.mul(Rational::whole(2))),
        "triple" => one().and_then(|a| a.mul(Rational::whole(3))),
        "square" | "cuadrado" => one().and_then(|a| a.pow(Rational::whole(2))),
        "cube" | "cubo" => one().and_then(|a| a.pow(Rational::whole(3))),
        "percent" | "porcentaje" => two()
            .and_then(|[a, b]| b.div(a))
            .and_then(|part| part.mul(Rational::whole(100))),
        _ => None,
    }?;
    let mut look = numbers.first()?.look;
    look.style = style?;
    look.decimals = numbers.iter().map(|number| number.look.decimals).max()?;
    // An order is no beginning of a sentence, a name is one.
    let calculation = &text[name.start..tokens[last].end];
    let ordered = matches!(
        name_word.as_str(),
        "add"
            | "sumar"
            | "multiply"
            | "multiplica"
            | "multiplicar"
            | "subtract"
            | "resta"
            | "divide"
            | "dividir"
    ) || (name_word == "suma" && tokens.get(1).is_none_or(|token| word(token) != "de"));
    if ordered {
        let (the, is) = match language {
            Language::English => ("The result", "is"),
            Language::Spanish => ("El resultado", "es"),
        };
        let shown = value.show(look)?;
        return Some(Computed {
            expected: Expected::Number(value, look),
            sentence: format!("{the} {is} {shown}."),
        });
    }
    if let (true, [whole, part]) = (percent, values.as_slice()) {
        let (whole, part, shown) = (whole.show(look)?, part.show(look)?, value.show(look)?);
        return Some(Computed {
            expected: Expected::Number(value, look),
            sentence: match language {
                Language::English => format!("{part} is {shown}% of {whole}."),
                Language::Spanish => format!("{part} es el {shown} % de {whole}."),
            },
        });
    }
    let article = match (language, name_word.as_str()) {
        (Language::English, "half" | "double" | "twice" | "triple") => "",
        (Language::English, _) => "the ",
        (Language::Spanish, "suma" | "diferencia" | "mitad" | "root") => "la ",
        (Language::Spanish, _) => "el ",
    };
    number(&format!("{article}{calculation}"), value, look, language)
}
