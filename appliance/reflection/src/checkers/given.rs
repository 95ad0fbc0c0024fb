//! The text that a request hands over to be read: after "Text:", in quotes, in a block, or as a long paragraph.

use super::text::{READ, any_of, fences, fold, folded_words, head, sentence_ends, words};

/// A given text and what is asked about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given<'a> {
    /// The text.
    pub text: &'a str,
    /// The rest of the request.
    pub rest: String,
    /// Whether nothing marks it as a text: neither a name with a colon nor quotes nor a block.
    pub unmarked: bool,
}

/// Fewest words of a text that is given.
const WORDS: usize = 4;
/// Fewest words of one that is only spoken of.
const ANNOUNCED: usize = 16;
/// Fewest words of one that nothing announces.
const UNANNOUNCED: usize = 40;
/// What a text is called, folded.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "text", "passage", "context", "article", "paragraph", "document", "excerpt", "email", "note", "notes", "review", "transcript", "extract",
    "report", "letter", "texto", "pasaje", "contexto", "articulo", "parrafo", "documento", "fragmento", "correo", "nota", "notas",
    "resena", "transcripcion", "informe", "carta", "extracto",
];
/// What stands before the colon of a question that follows a text.
#[rustfmt::skip]
const QUESTIONS: &[&str] = &["question", "q", "questions", "task", "answer", "a", "instruction", "instructions", "pregunta", "p", "preguntas", "tarea", "respuesta", "instrucciones"];

/// How a line begins that tells what to do with a text.
#[rustfmt::skip]
const ORDERS: &[&str] = &[
    "summarise", "summarize", "list", "extract", "find", "give", "tell", "write", "answer", "explain", "name", "identify", "state", "say",
    "resume", "haz", "extrae", "di", "dime", "escribe", "enumera", "contesta", "responde", "explica", "nombra", "identifica", "indica", "resumelo",
];

/// The text that `asked` hands over, if it does.
pub(crate) fn given(asked: &str) -> Option<Given<'_>> {
    let asked = head(asked, READ);
    let marked = in_block(asked)
        .or_else(|| labelled(asked))
        .or_else(|| quoted(asked));
    let unmarked = marked.is_none();
    let (start, end) = marked.or_else(|| above(asked)).or_else(|| announced(asked))?;
    let text = asked[start..end].trim();
    let rest = format!("{} {}", &asked[..start], &asked[end..]);
    (words(text).take(WORDS).count() == WORDS).then_some(Given { text, rest, unmarked })
}

/// A text in triple quotes, or in a block that is no code.
fn in_block(asked: &str) -> Option<(usize, usize)> {
    if let Some(open) = asked.find("\"\"\"") {
        let start = open + 3;
        let end = start + asked[start..].find("\"\"\"")?;
        return Some((start, end));
    }
    let fences = fences(asked);
    let [fence] = fences.as_slice() else {
        return None;
    };
    let inside = &asked[fence.inside..fence.inside_end];
    let plain = matches!(fence.tag, "" | "text" | "txt" | "markdown" | "md")
        && !inside.contains(['{', '}', ';'])
        && !inside.contains("()")
        && sentence_ends(inside).len() >= 2;
    plain.then_some((fence.inside, fence.inside_end))
}

/// A text after its name and a colon.
fn labelled(asked: &str) -> Option<(usize, usize)> {
    let mut start = None;
    let mut clause = 0;
    for (at, c) in asked.char_indices() {
        match c {
            '.' | '?' | '!' | '\n' => clause = at + 1,
            ':' => {
                let after = at + 1;
                let named = any_of(&folded_words(&asked[clause..at], 24), NAMES);
                if named && asked[after..].starts_with(char::is_whitespace) {
                    start = Some(after);
                    break;
                }
                clause = after;
            }
            _ => {}
        }
    }
    let start = start?;
    Some((start, start + text_end(&asked[start..])))
}

/// Where a text ends and the question after it begins.
fn text_end(rest: &str) -> usize {
    // "Question:", at the beginning of a line or of a sentence.
    let mut before = 0;
    for (at, _) in rest.match_indices(':') {
        let label = rest[before..at]
            .rsplit(['\n', '.', '!', '?', '"', '»', '”'])
            .next()
            .unwrap_or_default();
        let words = folded_words(label, 3);
        if let [one] = words.as_slice()
            && QUESTIONS.contains(&one.as_str())
        {
            return at - label.trim_start().len();
        }
        before = at + 1;
    }
    // A last paragraph that asks or tells.
    if let Some(at) = rest.trim_end().rfind("\n\n") {
        let last = &rest[at..];
        if words(last).take(41).count() <= 40 && words(&rest[..at]).take(WORDS).count() == WORDS {
            return at;
        }
    }
    // A last line that says what to do with it.
    if let Some(at) = rest.trim_end().rfind('\n') {
        let last = folded_words(&rest[at..], 16);
        let orders = last.first().is_some_and(|word| ORDERS.contains(&word.as_str())) && last.len() <= 15;
        if orders && words(&rest[..at]).take(WORDS).count() == WORDS {
            return at;
        }
    }
    // Last sentences that ask.
    let trimmed = rest.trim_end();
    let mut end = trimmed.len();
    if trimmed.ends_with('?') {
        let ends = sentence_ends(trimmed);
        for pair in ends.windows(2).rev() {
            if !trimmed[pair[0]..pair[1]].ends_with('?') {
                break;
            }
            end = pair[0];
        }
        if let Some(line) = trimmed[..end.min(trimmed.len())]
            .rfind('\n')
            .filter(|_| end == trimmed.len())
        {
            end = line;
        }
    }
    end
}

/// A long quotation.
fn quoted(asked: &str) -> Option<(usize, usize)> {
    for (open, close) in [('“', '”'), ('«', '»'), ('"', '"')] {
        let mut from = 0;
        while let Some(start) = asked[from..].find(open).map(|at| from + at + open.len_utf8()) {
            let Some(end) = asked[start..].find(close).map(|at| start + at) else {
                break;
            };
            let inside = &asked[start..end];
            if words(inside).take(12).count() == 12 && !sentence_ends(inside).is_empty() {
                return Some((start, end));
            }
            from = end + close.len_utf8();
        }
    }
    None
}

/// What stands above or below a question, an empty line between.
fn above(asked: &str) -> Option<(usize, usize)> {
    let trimmed = asked.trim_end();
    let at = trimmed.rfind("\n\n")?;
    let first = trimmed.find("\n\n")?;
    let question = trimmed[..first].trim();
    let below = trimmed[first..].ends_with(['.', '!', '"', '”', '»']) && !trimmed[first..].contains('?');
    if below && question.ends_with('?') && words(question).take(31).count() <= 30 {
        return Some((first, trimmed.len()));
    }
    let (text, question) = (trimmed[..at].trim_end(), &trimmed[at..]);
    let asks = question.ends_with('?') && words(question).take(31).count() <= 30;
    (asks && text.ends_with(['.', '!', '"', '”', '»'])).then_some((0, at))
}

/// A long paragraph that the rest of the request speaks of, or asks about.
fn announced(asked: &str) -> Option<(usize, usize)> {
    let ends = sentence_ends(asked);
    if ends.len() < 3 {
        return None;
    }
    // The sentences that speak of the text or ask are at its beginning or at its end.
    let of_text = |sentence: &str| {
        let words = folded_words(sentence, 64);
        sentence.trim_end().ends_with('?') || any_of(&words, NAMES)
    };
    let mut starts = vec![0];
    starts.extend(&ends[..ends.len() - 1]);
    let sentences: Vec<(usize, usize)> = starts.into_iter().zip(ends.iter().copied()).collect();
    let first = sentences
        .iter()
        .position(|&(start, end)| !of_text(&asked[start..end]))?;
    let last = sentences
        .iter()
        .rposition(|&(start, end)| !of_text(&asked[start..end]))?;
    let (start, end) = (sentences[first].0, sentences[last].1);
    let rest = format!("{} {}", &asked[..start], &asked[end..]);
    if fold(head(&rest, 4096)).trim().is_empty() {
        return None;
    }
    let named = any_of(&folded_words(head(&rest, 4096), 512), NAMES);
    let enough = if named { ANNOUNCED } else { UNANNOUNCED };
    (words(&asked[start..end]).take(enough).count() == enough).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "The museum opened in 1987. Its founder, Marta Lindqvist, gave it 240 paintings.";

    fn text(asked: &str) -> Option<&str> {
        given(asked).map(|given| given.text)
    }

    #[test]
    fn texts_are_found_where_they_are_given() {
        for asked in [
            format!("Text: {TEXT}\nQuestion: When did it open?"),
            format!("Read the passage and answer. Passage: {TEXT} Who founded it?"),
            format!("Context: {TEXT}\n\nWho founded it?"),
            format!("\"\"\"{TEXT}\"\"\"\nWho founded it?"),
            format!("Here it is:\n```\n{TEXT}\n```\nWho founded it?"),
            format!("Summarise the following text in one sentence: {TEXT}"),
            format!("«{TEXT}»\n¿Quién lo fundó?"),
            format!("{TEXT}\n\nWho founded it?"),
            format!("Who founded it?\n\n{TEXT}"),
            format!("Texto: {TEXT} Pregunta: ¿Quién lo fundó?"),
        ] {
            assert_eq!(text(&asked), Some(TEXT), "{asked}");
        }
    }

    #[test]
    fn questions_give_no_text() {
        for asked in [
            "What is the capital of France?",
            "Write a text message to my boss: I am ill.",
            "Tom has 3 apples. He buys 4 more. How many apples has Tom?",
            "Say \"good morning\" in French.",
            "",
        ] {
            assert_eq!(text(asked), None, "{asked}");
        }
    }
}
