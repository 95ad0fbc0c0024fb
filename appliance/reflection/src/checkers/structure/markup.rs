//! HTML and bold text that is not closed.

use super::says;
use crate::checkers::text::fences;

/// Elements that have no end.
#[rustfmt::skip]
const VOID: &[&str] = &[
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
];
/// Elements whose end may be left out.
#[rustfmt::skip]
const OPTIONAL: &[&str] = &[
    "li", "p", "td", "tr", "th", "dt", "dd", "option", "thead", "tbody", "tfoot", "html", "head", "body", "colgroup", "optgroup", "rp", "rt",
];
/// Elements whose contents are no markup.
const RAW: &[&str] = &["script", "style", "textarea", "title"];
/// The elements that are known; what has another name may be anything.
#[rustfmt::skip]
const KNOWN: &[&str] = &[
    "html", "head", "body", "title", "div", "span", "p", "a", "ul", "ol", "li", "table", "tr", "td", "th", "thead", "tbody", "h1", "h2", "h3", "h4", "h5", "h6",
    "b", "i", "u", "em", "strong", "form", "button", "label", "select", "option", "script", "style", "header", "footer", "main", "section", "article", "nav",
    "pre", "code", "blockquote", "br", "hr", "img", "input", "meta", "link", "textarea", "dl", "dt", "dd",
];

/// Elements that are not closed.
pub(super) struct Unclosed {
    /// Their names, outermost first.
    pub names: Vec<String>,
    /// The text with their ends.
    pub closed: String,
}

/// The elements that a text which is HTML opens and does not close at its end.
pub(super) fn unclosed(text: &str) -> Option<Unclosed> {
    let blocks = fences(text);
    let (start, end) = match blocks.as_slice() {
        [] => (0, text.len()),
        [block] if block.closed && matches!(block.tag, "html" | "xml" | "") => {
            (block.inside, block.inside_end)
        }
        _ => return None,
    };
    let inside = text[start..end].trim_end();
    // Only what is markup from its first character on is taken for it.
    if !inside.trim_start().starts_with('<') {
        return None;
    }
    let open = open_elements(inside)?;
    let names: Vec<String> = open
        .into_iter()
        .filter(|name| !OPTIONAL.contains(&name.as_str()))
        .collect();
    if names.is_empty() || names.len() > 64 || names.iter().any(|name| !KNOWN.contains(&name.as_str())) {
        return None;
    }
    let mut closed = text[..start + inside.len()].to_owned();
    for name in names.iter().rev() {
        closed.push_str("</");
        closed.push_str(name);
        closed.push('>');
    }
    closed.push_str(&text[start + inside.len()..]);
    Some(Unclosed { names, closed })
}

/// The elements that are open at the end of `html`; `None` when it is no clear HTML.
fn open_elements(html: &str) -> Option<Vec<String>> {
    let mut open: Vec<String> = Vec::new();
    let mut at = 0;
    let mut seen = 0;
    while let Some(start) = html[at..].find('<').map(|from| at + from) {
        let rest = &html[start + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            at = html.len() - comment.len() + comment.find("-->")? + 3;
            continue;
        }
        let end = start + 1 + tag_end(rest)?;
        let tag = &html[start + 1..end];
        at = end + 1;
        if tag.starts_with(['!', '?']) {
            continue;
        }
        let (closing, name) = match tag.strip_prefix('/') {
            Some(name) => (true, name),
            None => (false, tag),
        };
        let length = name
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .unwrap_or(name.len());
        if length == 0 || length > 32 {
            return None;
        }
        let name = name[..length].to_ascii_lowercase();
        seen += 1;
        if closing {
            // Ends that may be left out were left out.
            while open
                .last()
                .is_some_and(|last| *last != name && OPTIONAL.contains(&last.as_str()))
            {
                open.pop();
            }
            if open.pop().as_deref() != Some(&name) && !OPTIONAL.contains(&name.as_str()) {
                // Crossed or never opened: which of them is wrong cannot be told.
                return None;
            }
        } else if !VOID.contains(&name.as_str()) && !tag.ends_with('/') {
            if RAW.contains(&name.as_str()) {
                let close = format!("</{name}");
                match html[at..].find(&close) {
                    Some(found) => at += found + html[at + found..].find('>')? + 1,
                    None => return None,
                }
                continue;
            }
            if open.len() >= 10_000 {
                return None;
            }
            open.push(name);
        }
    }
    (seen >= 2).then_some(open)
}

/// Where a tag ends, quoted attributes skipped.
fn tag_end(rest: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in rest.char_indices() {
        match (quote, c) {
            (None, '>') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (None, '<') => return None,
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

/// The bold text that a paragraph opens and does not close, and the text with its end; only where that is beyond doubt.
pub(super) fn open_bold(text: &str) -> Option<(usize, String)> {
    if !text.contains("**") || text.contains("***") || text.contains('`') || text.contains("\\*") {
        return None;
    }
    let mut start = 0;
    let mut found = None;
    for paragraph in text.split_inclusive("\n\n") {
        let marks: Vec<usize> = paragraph.match_indices("**").map(|(at, _)| at).collect();
        if marks.len() % 2 == 1 {
            if found.is_some() {
                return None;
            }
            let last = marks[marks.len() - 1];
            let opens = paragraph[..last]
                .chars()
                .next_back()
                .is_none_or(char::is_whitespace)
                && paragraph[last + 2..].starts_with(char::is_alphanumeric);
            // The others must be pairs.
            let paired = marks[..marks.len() - 1].chunks(2).all(|pair| {
                says(&paragraph[pair[0]..pair[1]]) && !paragraph[pair[0]..pair[1]].contains('\n')
            });
            if !opens || !paired {
                return None;
            }
            let line = paragraph[last..]
                .find('\n')
                .map_or(paragraph.len(), |at| last + at);
            let end = last + paragraph[last..line].trim_end().len();
            found = Some((start + last, start + end));
        }
        start += paragraph.len();
    }
    let (open, end) = found?;
    Some((open, format!("{}**{}", &text[..end], &text[end..])))
}
