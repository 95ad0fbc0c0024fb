//! What follows a rule: words, options, the text of a beginning or an end.

use super::Stipulation;
use super::lexicon::role;
use super::page::Page;
use super::pattern::Reading;
use super::tokens::{Kind, Token};

/// Most words or options of one list.
const MOST: usize = 8;
/// Longest text that an answer can be asked to begin or end with, bytes.
const LONGEST: usize = 160;

impl Page<'_> {
    /// The token as it was written.
    fn written(&self, token: &Token) -> &str {
        self.text.get(token.span.clone()).unwrap_or("").trim()
    }

    fn word(&self, at: usize) -> Option<&Token> {
        self.inside(at).filter(|token| {
            token.kind == Kind::Word && !token.folded.is_empty() && !self.is(at, role::NOT_A_WORD)
        })
    }

    fn quote(&self, at: usize) -> Option<&Token> {
        self.inside(at).filter(|token| token.kind == Kind::Quote)
    }
}

/// The words of a list such as `"a", "b" and "c"` or `a, b and c`, and one past its end.
fn words(page: &Page<'_>, at: usize, quoted: bool) -> (Vec<String>, usize) {
    // The words of a list may stand after a colon, which ends a sentence elsewhere.
    let colon = page.tokens.get(at).is_some_and(|token| token.is(":"));
    if colon {
        let rest = page.after(at + 1);
        return words(&rest, at + 1, quoted);
    }
    // "Use words like …" names none: a bare list follows "the words" or "the word".
    let named = at > 0 && page.tokens[at - 1].folded.ends_with('s');
    let article = (at.saturating_sub(4)..at).any(|i| {
        matches!(
            page.tokens[i].folded.as_str(),
            "the" | "las" | "los" | "following" | "siguientes" | "these" | "estas" | ":"
        )
    });
    let mut quoted = quoted || (named && !article);
    let mut at = at;
    while page
        .inside(at)
        .is_some_and(|token| token.is("the") || token.is("la") || token.is("las"))
    {
        at += 1;
    }
    let mut out = Vec::new();
    let mut end = at;
    while out.len() < MOST {
        let item = page.quote(at).or_else(|| page.word(at).filter(|_| !quoted));
        let Some(item) = item else { break };
        let loose = item.kind == Kind::Word;
        // After a comma a bare word belongs to the list only if the list goes on.
        let continues = page
            .inside(at + 1)
            .is_none_or(|next| next.is(",") || page.is(at + 1, role::LETTER_AND));
        let after_comma = at > 0 && page.tokens[at - 1].is(",");
        if loose && !out.is_empty() && after_comma && !continues {
            break;
        }
        // What begins in quotes goes on in quotes.
        quoted |= !loose;
        out.push(page.written(item).to_owned());
        at += 1;
        end = at;
        let comma = page.inside(at).is_some_and(|token| token.is(","));
        at += usize::from(comma);
        let and = page.is(at, role::LETTER_AND) && page.inside(at).is_some();
        at += usize::from(and);
        if !comma && !and {
            break;
        }
        // "The word sun and write it …": what follows is another command.
        if loose && and && page.is(at, role::COMMAND) {
            break;
        }
    }
    out.retain(|word| word.contains(char::is_alphanumeric));
    (out, end)
}

/// "At least three times" after a list.
fn times(page: &Page<'_>, at: usize) -> u32 {
    for skip in 0..4 {
        if page.inside(at + skip).is_some_and(|token| token.is("twice")) {
            return 2;
        }
        if let Some((number, next)) = page.number(at + skip)
            && page.is(next, role::TIMES)
        {
            return number.min(20);
        }
    }
    1
}

pub(super) fn contained(page: &Page<'_>, at: usize, quoted: bool) -> (Vec<Stipulation>, usize) {
    let (words, end) = words(page, at, quoted);
    let times = times(page, end);
    let contains = |text| Stipulation::Contains { text, times };
    (words.into_iter().map(contains).collect(), end)
}

pub(super) fn avoided(page: &Page<'_>, at: usize, quoted: bool) -> (Vec<Stipulation>, usize) {
    let (words, end) = words(page, at, quoted);
    (words.into_iter().map(Stipulation::Avoids).collect(), end)
}

/// The word of "the word … must appear", and how often.
pub(super) fn appearing(page: &Page<'_>, at: usize, end: usize) -> Option<Stipulation> {
    let names = |i: &usize| {
        page.is(*i, role::WORD)
            || matches!(
                page.tokens[*i].folded.as_str(),
                "keyword" | "phrase" | "term" | "frase"
            )
    };
    let item = (at..end).find(names)? + 1;
    let text = page
        .written(page.quote(item).or_else(|| page.word(item))?)
        .to_owned();
    if !text.contains(char::is_alphanumeric) {
        return None;
    }
    if (item..end).any(|i| page.is(i, role::NOT)) {
        return Some(Stipulation::Avoids(text));
    }
    // "At most" or "in the second paragraph" is something else.
    let fewer = |token: &Token| {
        let fewer = [
            "less", "fewer", "most", "maximum", "once", "only", "menos", "maximo", "mucho", "mas",
        ];
        fewer.contains(&token.folded.as_str())
    };
    let least = (end..end + 2).any(|i| {
        page.inside(i)
            .is_some_and(|token| token.is("al") || token.is("lo"))
    });
    let bounded = (end..end + 5).any(|i| page.inside(i).is_some_and(fewer) || page.is(i, role::PART));
    (!bounded || least).then(|| Stipulation::Contains {
        text,
        times: times(page, end),
    })
}

/// A single letter.
pub(super) fn letter(page: &Page<'_>, at: usize) -> Option<char> {
    let token = page.inside(at)?;
    let mut chars = page.written(token).chars();
    let letter = chars.next().filter(|c| c.is_alphabetic())?;
    let mut lower = letter.to_lowercase();
    (chars.next().is_none() && lower.len() == 1)
        .then(|| lower.next())
        .flatten()
}

/// The text an answer shall begin or end with: in quotes, or one word after "the word".
pub(super) fn edge(page: &Page<'_>, at: usize) -> Option<String> {
    if page.tokens.get(at).is_some_and(|token| token.is(":")) {
        let rest = page.after(at + 1);
        return edge(&rest, at + 1).or_else(|| rest_of_line(page, at));
    }
    let text = match page.quote(at) {
        Some(token) => page.written(token),
        None => {
            let after = at.checked_sub(1)?;
            let named = page.is(after, role::WORD) && page.tokens[after].folded.len() <= 7;
            page.written(page.word(at).filter(|_| named)?)
        }
    };
    let long = text.chars().count() >= 2 && text.len() <= LONGEST;
    (long && text.chars().any(char::is_alphabetic)).then(|| text.to_owned())
}

/// What stands on the line after "with this exact phrase:".
fn rest_of_line(page: &Page<'_>, colon: usize) -> Option<String> {
    let named = page.tokens.get(colon.checked_sub(1)?)?;
    if !matches!(
        named.folded.as_str(),
        "phrase" | "sentence" | "words" | "line" | "frase" | "exacta" | "oracion"
    ) {
        return None;
    }
    let text = page.text.get(page.tokens[colon].span.end..)?.trim_start();
    let line = text.lines().next()?.trim();
    (line.split_whitespace().count() >= 2 && line.len() <= LONGEST).then(|| line.to_owned())
}

/// Which postscript: the one that the sentence names, or the usual one.
pub(super) fn marker(page: &Page<'_>) -> String {
    let sentence = (page.start..page.end()).filter_map(|i| page.inside(i));
    for token in sentence.clone() {
        match token.folded.as_str() {
            "p.p.s" => return "P.P.S".to_owned(),
            "p.s" => return "P.S.".to_owned(),
            "p.d" => return "P.D.".to_owned(),
            _ => {}
        }
    }
    // "Starting with Note" names another.
    let named = (page.start..page.end()).find(|&i| {
        let says = |at: usize, words: &[&str]| {
            page.inside(at)
                .is_some_and(|token| words.contains(&token.folded.as_str()))
        };
        says(
            i,
            &[
                "starting",
                "starts",
                "start",
                "beginning",
                "begins",
                "empiece",
                "comience",
                "empezando",
                "comenzando",
            ],
        ) && says(i + 1, &["with", "con", "por"])
    });
    if let Some(i) = named
        && let Some(token) = page.quote(i + 2).or_else(|| page.word(i + 2))
    {
        return page.written(token).to_owned();
    }
    let spanish = sentence
        .clone()
        .any(|token| matches!(token.folded.as_str(), "posdata" | "postdata" | "pd"));
    if spanish { "P.D." } else { "P.S." }.to_owned()
}

/// Whether more than the option itself is asked for.
pub(super) fn explained(page: &Page<'_>, end: usize) -> bool {
    let comma = page.inside(end).is_some_and(|token| token.is(","));
    let at = end + usize::from(comma);
    page.inside(at).is_some() && page.is(at, role::EXPLAINS)
}

/// The options of `A, B or C`, also after a colon.
pub(super) fn options(page: &Page<'_>, at: usize, quoted: bool) -> Option<Vec<String>> {
    let colon = |i: usize| page.tokens.get(i).is_some_and(|token| token.is(":"));
    let listed = colon(at) || (at > 0 && colon(at - 1));
    let mut at = at + usize::from(colon(at));
    let mut out: Vec<String> = Vec::new();
    let mut alternative = listed;
    while out.len() < MOST {
        let token = page.tokens.get(at)?;
        let text = match token.kind {
            Kind::Quote => {
                at += 1;
                page.written(token).to_owned()
            }
            Kind::Word if !quoted => {
                let first = at;
                let longest = if listed { 4 } else { 1 };
                while at < first + longest
                    && page.tokens.get(at).is_some_and(|token| token.kind == Kind::Word)
                    && !page.is(at, role::LETTER_AND)
                {
                    at += 1;
                }
                let last = page.tokens.get(at.checked_sub(1)?)?;
                if at == first || (!listed && page.is(first, role::NOT_A_WORD)) {
                    return None;
                }
                page.text.get(token.span.start..last.span.end)?.to_owned()
            }
            _ => break,
        };
        out.push(text);
        let comma = page.tokens.get(at).is_some_and(|token| token.is(","));
        at += usize::from(comma);
        let or = page.tokens.get(at).is_some_and(|token| {
            matches!(token.folded.as_str(), "or" | "o" | "u") || (listed && page.is(at, role::LETTER_AND))
        });
        alternative |= or;
        at += usize::from(or);
        if !comma && !or {
            break;
        }
    }
    let ended = page.tokens.get(at).is_none_or(|token| token.kind == Kind::Break);
    let explained = page.is(at, role::EXPLAINS);
    let distinct = out.iter().all(|a| {
        out.iter()
            .filter(|b| a.to_lowercase() == b.to_lowercase())
            .count()
            == 1
    });
    (out.len() >= 2 && alternative && distinct && !explained && (ended || quoted)).then_some(out)
}

/// The part of the request that shall be repeated: what stands before the sentence that asks for it, or after it.
pub(super) fn repeated(page: &Page<'_>) -> Option<String> {
    let first = page.tokens.get(page.start)?.span.start;
    let last = page.tokens.get(page.end().checked_sub(1)?)?.span.end;
    let before = page.text.get(..first)?.trim();
    let rest = page.text.get(last..)?;
    let below = (page.start..page.end()).any(|i| {
        page.inside(i)
            .is_some_and(|token| matches!(token.folded.as_str(), "below" | "following" | "siguiente"))
    });
    if below && let Some((_, text)) = rest.split_once("\n\n") {
        let text = text.trim();
        return (text.split_whitespace().count() >= 3 && text.len() <= 1000).then(|| text.to_owned());
    }
    let after = rest.trim().trim_start_matches(['.', ':', ';', '!', ')']).trim();
    let long = |text: &&str| text.split_whitespace().count() >= 3 && text.len() <= 1000;
    let text = [before, after].into_iter().find(long)?;
    Some(text.trim_matches('"').to_owned())
}
