//! Whether a question is asked of the text that stands beside it.

use crate::checkers::text::{folded_words, head, phrase};

/// What a text is called where a question speaks of it, folded.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "text", "passage", "paragraph", "excerpt", "article", "document", "context", "extract", "texto", "pasaje", "parrafo", "fragmento", "articulo",
    "documento", "contexto", "extracto",
];
/// What stands before such a name.
#[rustfmt::skip]
const POINTERS: &[&str] = &[
    "the", "this", "that", "following", "given", "above", "below", "provided", "el", "este", "ese", "siguiente", "del", "al", "dado",
];
/// Words of a question that tell nothing of what it is about.
#[rustfmt::skip]
const EMPTY: &[&str] = &[
    "a", "an", "the", "who", "whom", "when", "what", "which", "how", "many", "much", "year", "years", "time", "date", "day", "in", "on", "at", "of",
    "for", "to", "from", "by", "is", "are", "was", "were", "be", "been", "do", "does", "did", "has", "have", "had", "will", "it", "its", "he", "she",
    "they", "his", "her", "their", "this", "that", "there", "and", "or", "with", "get", "gets", "got", "please", "answer", "say", "tell", "me",
    "should", "el", "la", "los", "las", "un", "una", "lo", "le", "se", "quien", "quienes", "cuando", "que", "cual", "cuanto", "cuanta", "cuantos",
    "cuantas", "ano", "anos", "hora", "fecha", "dia", "en", "de", "del", "a", "al", "por", "para", "con", "es", "son", "fue", "fueron", "era", "ha",
    "han", "hay", "tiene", "tienen", "su", "sus", "y", "o", "cost", "costs", "price", "cuesta", "vale", "much", "only", "solo", "was", "being",
];
/// Words of a question for advice or about what is so everywhere.
#[rustfmt::skip]
const GENERAL: &[&str] = &[
    "i", "we", "you", "my", "our", "usually", "typically", "normally", "generally", "average", "would", "could", "can", "best", "debo", "deberia",
    "debemos", "deberiamos", "puedo", "podemos", "normalmente", "suele", "suelen", "hago", "recomiendas", "world", "mundo",
];
/// Forms of a verb that do not begin alike.
#[rustfmt::skip]
const FORMS: &[(&str, &str)] = &[
    ("wrote", "written"), ("buy", "bought"), ("leave", "left"), ("go", "went"), ("begin", "began"), ("sell", "sold"), ("give", "gave"),
    ("make", "made"), ("find", "found"), ("win", "won"), ("meet", "met"), ("teach", "taught"), ("die", "died"), ("come", "came"),
];

/// Whether a question, in folded words, speaks of a text.
pub(super) fn names_text(question: &[String]) -> bool {
    let named = question
        .windows(2)
        .any(|pair| POINTERS.contains(&pair[0].as_str()) && NAMES.contains(&pair[1].as_str()));
    named || phrase(question, "according to") || question.iter().any(|word| word == "segun")
}

/// Whether all that a question is about stands in `text`.
pub(super) fn asks_of(text: &str, question: &[String]) -> bool {
    if question.iter().any(|word| GENERAL.contains(&word.as_str())) {
        return false;
    }
    let said = folded_words(head(text, 16 * 1024), 4096);
    let mut content = question
        .iter()
        .filter(|word| !EMPTY.contains(&word.as_str()) && word.len() > 1)
        .peekable();
    content.peek().is_some() && content.all(|word| said.iter().any(|said| is_form(word, said)))
}

/// Whether two folded words are forms of one: they begin alike.
fn is_form(one: &str, other: &str) -> bool {
    let forms = |&(a, b): &(&str, &str)| (one == a && other == b) || (one == b && other == a);
    if one == other || FORMS.iter().any(forms) {
        return true;
    }
    let alike = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let (short, long) = (one.len().min(other.len()), one.len().max(other.len()));
    alike >= 3 && (alike == short || (alike >= 4 && alike + 1 >= short)) && long - alike <= 4 || alike >= 5
}
