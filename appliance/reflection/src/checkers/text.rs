//! What several checkers need of a text: its words, without their accents, and where its code is.

/// How much of an answer the closer checks read, bytes; no answer a person reads is longer.
pub(crate) const READ: usize = 256 * 1024;

/// The beginning of `text`, at most `bytes` long, whole characters only.
pub(crate) fn head(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// `text` in lower case, accents away.
pub(crate) fn fold(text: &str) -> String {
    text.chars()
        .flat_map(char::to_lowercase)
        .filter_map(plain)
        .collect()
}

/// A lower-case letter without its accent; `None` for a mark that only changes the letter before it.
fn plain(c: char) -> Option<char> {
    Some(match c {
        '\u{300}'..='\u{36f}' => return None,
        'á' | 'à' | 'â' | 'ä' | 'ã' | 'å' | 'ā' => 'a',
        'é' | 'è' | 'ê' | 'ë' | 'ē' => 'e',
        'í' | 'ì' | 'î' | 'ï' | 'ī' => 'i',
        'ó' | 'ò' | 'ô' | 'ö' | 'õ' | 'ō' => 'o',
        'ú' | 'ù' | 'û' | 'ü' | 'ū' => 'u',
        'ñ' => 'n',
        'ç' => 'c',
        '’' => '\'',
        other => other,
    })
}

/// `text` as an expression that matches it alone.
pub(crate) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if matches!(
            c,
            '\\' | '.'
                | '+'
                | '*'
                | '?'
                | '('
                | ')'
                | '|'
                | '['
                | ']'
                | '{'
                | '}'
                | '^'
                | '$'
                | '#'
                | '&'
                | '-'
                | '~'
                | '/'
        ) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A word and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    /// Its first byte.
    pub start: usize,
    /// Its letters and digits.
    pub text: &'a str,
}

impl Word<'_> {
    /// One past its last byte.
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// Whether a character can stand in a word.
pub(crate) fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '\u{300}'..='\u{36f}')
}

/// The words of `text`: runs of letters and digits.
pub(crate) fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + text[from..].find(in_word)?;
        let end = text[start..]
            .find(|c| !in_word(c))
            .map_or(text.len(), |at| start + at);
        from = end;
        Some(Word {
            start,
            text: &text[start..end],
        })
    })
}

/// The words of `text` folded, with no more than the first `most`.
pub(crate) fn folded_words(text: &str, most: usize) -> Vec<String> {
    words(text).take(most).map(|word| fold(word.text)).collect()
}

/// Whether any of the folded words is one of `wanted`.
pub(crate) fn any_of(words: &[String], wanted: &[&str]) -> bool {
    words.iter().any(|word| wanted.contains(&word.as_str()))
}

/// Whether the folded words contain these one after the other.
pub(crate) fn phrase(words: &[String], wanted: &str) -> bool {
    let wanted: Vec<&str> = wanted.split(' ').collect();
    words.windows(wanted.len()).any(|window| window == wanted)
}

/// A fenced block of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fence<'a> {
    /// Where its opening line begins.
    pub start: usize,
    /// Where its contents begin.
    pub inside: usize,
    /// Where its contents end.
    pub inside_end: usize,
    /// One past its closing line; the text's end where it is not closed.
    pub end: usize,
    /// The characters that fence it.
    pub mark: &'a str,
    /// What stands after them: usually a language.
    pub tag: &'a str,
    /// Whether it is closed.
    pub closed: bool,
}

/// The fenced blocks of `text`, in order.
pub(crate) fn fences(text: &str) -> Vec<Fence<'_>> {
    let mut found: Vec<Fence<'_>> = Vec::new();
    let mut open = false;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        if let Some((mark, tag)) = fence_mark(line) {
            match found.last_mut() {
                Some(fence) if open => {
                    let closes = tag.is_empty()
                        && mark.len() >= fence.mark.len()
                        && mark.as_bytes().first() == fence.mark.as_bytes().first();
                    if closes {
                        fence.inside_end = start;
                        fence.end = end;
                        fence.closed = true;
                        open = false;
                    }
                }
                _ => {
                    found.push(Fence {
                        start,
                        inside: end,
                        inside_end: text.len(),
                        end: text.len(),
                        mark,
                        tag,
                        closed: false,
                    });
                    open = true;
                }
            }
        }
        start = end;
    }
    found
}

/// The fence a line opens or closes, and what stands after it.
fn fence_mark(line: &str) -> Option<(&str, &str)> {
    let trimmed = line.trim_start_matches(' ');
    if line.len() - trimmed.len() > 3 {
        return None;
    }
    let first = trimmed.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = trimmed.len() - trimmed.trim_start_matches(first).len();
    let (mark, tag) = trimmed.split_at(length);
    // A backtick after the opening fence makes the line ordinary text with a code span in it.
    (length >= 3 && !(first == '`' && tag.contains('`'))).then(|| (mark, tag.trim()))
}

/// Ends of sentences: one past each `.`, `!`, `?` or `…` that ends one, closing quotes and brackets included.
pub(crate) fn sentence_ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut chars = text.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, c)) = chars.next() {
        if matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？') {
            let mut end = at + c.len_utf8();
            while let Some(&(next, c)) = chars.peek() {
                if !matches!(
                    c,
                    '.' | '!' | '?' | '…' | '"' | '\'' | '”' | '’' | '»' | ')' | ']' | '*' | '_'
                ) {
                    break;
                }
                end = next + c.len_utf8();
                chars.next();
            }
            let spaced = chars.peek().is_none_or(|&(_, next)| next.is_whitespace()) || !c.is_ascii();
            // "1." at a line's start numbers an item, and "J." is a name's beginning.
            let number = before.is_ascii_digit() && starts_item(text, at);
            let initial = c == '.' && before.is_uppercase() && is_single(text, at);
            if spaced && !number && !initial {
                ends.push(end);
            }
        }
        before = c;
    }
    ends
}

/// Whether the digits that end at `at` are the first of their line.
fn starts_item(text: &str, at: usize) -> bool {
    let line = text[..at].trim_end_matches(|c: char| c.is_ascii_digit());
    line.is_empty() || line.ends_with('\n') || line.trim_end_matches(' ').ends_with('\n')
}

/// Whether the letter that ends at `at` is a word of its own.
fn is_single(text: &str, at: usize) -> bool {
    let mut back = text[..at].chars().rev();
    back.next();
    back.next().is_none_or(|c| !in_word(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_know_where_they_are() {
        let text = "Él, 3 gatos: ¡sí!";
        let got: Vec<(usize, &str)> = words(text).map(|w| (w.start, w.text)).collect();
        assert_eq!(got, [(0, "Él"), (5, "3"), (7, "gatos"), (16, "sí")]);
        assert_eq!(folded_words("ÁÉÑ e\u{301}x", 9), ["aen", "ex"]);
        assert_eq!(head("añb", 2), "a");
    }

    #[test]
    fn fences_are_seen_closed_or_not() {
        let text = "a\n```rust\nx\n```\nb\n~~~\n```\n";
        let got = fences(text);
        assert_eq!(got.len(), 2);
        assert_eq!(
            (got[0].tag, &text[got[0].inside..got[0].inside_end], got[0].closed),
            ("rust", "x\n", true)
        );
        assert_eq!((got[1].mark, got[1].closed), ("~~~", false));
        assert!(fences("`a` ```b``` c").is_empty());
    }

    #[test]
    fn sentences_end_where_they_do() {
        let text = "It is 3.5. \"Yes!\" said J. Smith.\n1. One";
        let got: Vec<&str> = sentence_ends(text).into_iter().map(|end| &text[..end]).collect();
        assert_eq!(
            got,
            [
                "It is 3.5.",
                "It is 3.5. \"Yes!\"",
                "It is 3.5. \"Yes!\" said J. Smith."
            ]
        );
    }
}
