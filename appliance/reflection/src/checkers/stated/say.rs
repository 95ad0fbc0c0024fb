//! What is wrong with an answer, as a sentence with its numbers, in the language of the request.

use super::count::count;
use super::verify::{occurrences, placeholders};
use super::{ListKind, Mark, Stipulation, Tongue, Unit};
use crate::critique::Language;

/// A sentence the model can act on.
pub(super) fn sentence(stipulation: &Stipulation, text: &str, language: Language) -> String {
    match language {
        Language::English => english(stipulation, text),
        Language::Spanish => spanish(stipulation, text),
    }
}

/// The way of counting that is nearest to what was asked: it is still wrong, and says the least.
fn nearest(unit: Unit, most: Option<u32>, text: &str) -> usize {
    let (low, high) = count(unit, text);
    if most.is_some_and(|most| low > usize::try_from(most).unwrap_or(usize::MAX)) {
        low
    } else {
        high
    }
}

fn english(stipulation: &Stipulation, text: &str) -> String {
    match stipulation {
        Stipulation::Count { unit, least, most } => {
            let found = nearest(*unit, *most, text);
            let (one, many) = match unit {
                Unit::Words => ("word", "words"),
                Unit::Sentences => ("sentence", "sentences"),
                Unit::Paragraphs => ("paragraph", "paragraphs"),
                Unit::Lines => ("line", "lines"),
                Unit::Bullets => ("bullet point", "bullet points"),
                Unit::Sections => ("section", "sections"),
                Unit::Characters => ("character", "characters"),
            };
            let named = if found == 1 { one } else { many };
            let verb = |n: u32| if n == 1 { "was" } else { "were" };
            let asked = match (least, most) {
                (Some(a), Some(b)) if a == b => format!("exactly {a} {} asked for", verb(*a)),
                (Some(a), Some(b)) => format!("between {a} and {b} were asked for"),
                (Some(a), None) => format!("at least {a} {} asked for", verb(*a)),
                (None, Some(b)) => format!("at most {b} {} asked for", verb(*b)),
                (None, None) => "another number was asked for".to_owned(),
            };
            format!("The answer has {found} {named}; {asked}.")
        }
        Stipulation::Contains { text: word, times: 1 } => format!("The answer must contain \"{word}\"."),
        Stipulation::Contains { text: word, times } => {
            let found = occurrences(text, word).len();
            format!("The answer must contain \"{word}\" at least {times} times; it does {found} times.")
        }
        Stipulation::Avoids(word) => format!("The answer must not contain \"{word}\"."),
        Stipulation::AvoidsLetter(letter) => format!("The answer must not contain the letter \"{letter}\"."),
        Stipulation::StartsWith(start) => format!("The answer must start with \"{start}\"."),
        Stipulation::EndsWith(end) => format!("The answer must end with \"{end}\"."),
        Stipulation::UpperCase => "The whole answer must be in capital letters.".to_owned(),
        Stipulation::LowerCase => "The whole answer must be in lower-case letters.".to_owned(),
        Stipulation::Without(mark) => {
            let mark = match mark {
                Mark::Commas => "commas",
                Mark::Exclamation => "exclamation marks",
                Mark::Questions => "question marks",
                Mark::Semicolons => "semicolons",
                Mark::Punctuation => "punctuation",
            };
            format!("The answer must not contain any {mark}.")
        }
        Stipulation::Quoted => "The whole answer must be wrapped in double quotation marks.".to_owned(),
        Stipulation::Language(tongue) => format!("The answer must be in {tongue:?}."),
        Stipulation::Json => "The answer must be valid JSON and nothing else.".to_owned(),
        Stipulation::Table => "The answer must be a table.".to_owned(),
        Stipulation::List(ListKind::Any) => "The answer must be a list.".to_owned(),
        Stipulation::List(ListKind::Bulleted) => "The answer must be a list with bullet points.".to_owned(),
        Stipulation::List(ListKind::Numbered) => "The answer must be a numbered list.".to_owned(),
        Stipulation::Title { angular: false } => "The answer must have a title.".to_owned(),
        Stipulation::Title { angular: true } => {
            "The answer must have a title in double angular brackets, such as <<title>>.".to_owned()
        }
        Stipulation::Postscript(marker) => {
            format!("The answer must end with a postscript that starts with {marker}")
        }
        Stipulation::Placeholders(least) => {
            let found = placeholders(text);
            format!(
                "The answer has {found} placeholders in square brackets; at least {least} were asked for."
            )
        }
        Stipulation::Choice(options) => {
            format!(
                "The answer must be one of these and nothing else: {}.",
                options.join(", ")
            )
        }
        Stipulation::Repeat(_) => "The answer must first repeat the request word for word.".to_owned(),
    }
}

fn spanish(stipulation: &Stipulation, text: &str) -> String {
    match stipulation {
        Stipulation::Count { unit, least, most } => {
            let found = nearest(*unit, *most, text);
            let (one, many) = match unit {
                Unit::Words => ("palabra", "palabras"),
                Unit::Sentences => ("frase", "frases"),
                Unit::Paragraphs => ("párrafo", "párrafos"),
                Unit::Lines => ("línea", "líneas"),
                Unit::Bullets => ("viñeta", "viñetas"),
                Unit::Sections => ("sección", "secciones"),
                Unit::Characters => ("carácter", "caracteres"),
            };
            let named = if found == 1 { one } else { many };
            let asked = match (least, most) {
                (Some(a), Some(b)) if a == b => format!("exactamente {a}"),
                (Some(a), Some(b)) => format!("entre {a} y {b}"),
                (Some(a), None) => format!("al menos {a}"),
                (None, Some(b)) => format!("como máximo {b}"),
                (None, None) => "otra cantidad".to_owned(),
            };
            format!("La respuesta tiene {found} {named}; se pedía {asked}.")
        }
        Stipulation::Contains { text: word, times: 1 } => format!("La respuesta debe contener «{word}»."),
        Stipulation::Contains { text: word, times } => {
            let found = occurrences(text, word).len();
            format!("La respuesta debe contener «{word}» al menos {times} veces; lo hace {found} veces.")
        }
        Stipulation::Avoids(word) => format!("La respuesta no debe contener «{word}»."),
        Stipulation::AvoidsLetter(letter) => format!("La respuesta no debe contener la letra «{letter}»."),
        Stipulation::StartsWith(start) => format!("La respuesta debe empezar con «{start}»."),
        Stipulation::EndsWith(end) => format!("La respuesta debe terminar con «{end}»."),
        Stipulation::UpperCase => "Toda la respuesta debe estar en mayúsculas.".to_owned(),
        Stipulation::LowerCase => "Toda la respuesta debe estar en minúsculas.".to_owned(),
        Stipulation::Without(mark) => {
            let mark = match mark {
                Mark::Commas => "comas",
                Mark::Exclamation => "signos de exclamación",
                Mark::Questions => "signos de interrogación",
                Mark::Semicolons => "punto y coma",
                Mark::Punctuation => "signos de puntuación",
            };
            format!("La respuesta no debe contener {mark}.")
        }
        Stipulation::Quoted => "Toda la respuesta debe ir entre comillas dobles.".to_owned(),
        Stipulation::Language(tongue) => {
            let name = match tongue {
                Tongue::English => "inglés",
                Tongue::Spanish => "español",
                Tongue::French => "francés",
                Tongue::German => "alemán",
                Tongue::Italian => "italiano",
                Tongue::Portuguese => "portugués",
            };
            format!("La respuesta debe estar en {name}.")
        }
        Stipulation::Json => "La respuesta debe ser JSON válido y nada más.".to_owned(),
        Stipulation::Table => "La respuesta debe ser una tabla.".to_owned(),
        Stipulation::List(ListKind::Any) => "La respuesta debe ser una lista.".to_owned(),
        Stipulation::List(ListKind::Bulleted) => "La respuesta debe ser una lista con viñetas.".to_owned(),
        Stipulation::List(ListKind::Numbered) => "La respuesta debe ser una lista numerada.".to_owned(),
        Stipulation::Title { angular: false } => "La respuesta debe llevar un título.".to_owned(),
        Stipulation::Title { angular: true } => {
            "La respuesta debe llevar un título entre dobles corchetes angulares, como <<título>>.".to_owned()
        }
        Stipulation::Postscript(marker) => {
            format!("La respuesta debe terminar con una posdata que empiece con {marker}")
        }
        Stipulation::Placeholders(least) => {
            let found = placeholders(text);
            format!("La respuesta tiene {found} marcadores entre corchetes; se pedían al menos {least}.")
        }
        Stipulation::Choice(options) => {
            format!(
                "La respuesta debe ser una de estas y nada más: {}.",
                options.join(", ")
            )
        }
        Stipulation::Repeat(_) => {
            "La respuesta debe repetir primero la petición palabra por palabra.".to_owned()
        }
    }
}
