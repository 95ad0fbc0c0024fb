//! A rendered conversation into tokens: control tokens from the template's own text only.
//!
//! The prompt is cut at the control tokens that the *template* wrote. What lies between two of them, the
//! template's words and the client's alike, is tokenised as one plain text, so that words merge across their
//! border exactly as they did in training.

use std::collections::HashSet;
use std::ops::Range;

use crate::llama::Token;
use crate::llama::vocab::{Special, Vocab};
use crate::template::Rendered;

/// Turns plain text into tokens; control tokens never come out.
pub trait Tokenise {
    /// The tokens of `text`.
    fn tokenise(&self, text: &str) -> Vec<Token>;
}

impl Tokenise for Vocab<'_> {
    fn tokenise(&self, text: &str) -> Vec<Token> {
        Vocab::tokenise(*self, text)
    }
}

/// The tokens that a template may write and a client may not.
#[derive(Debug)]
pub struct Markers {
    markers: Vec<Special>,
    /// For each first byte, the markers that begin with it, the longest first.
    by_first: Vec<Vec<usize>>,
}

impl Markers {
    /// Of all `specials`: control tokens, and those user-defined ones that end an answer or stand in the chat
    /// template. (Some files call their turn markers user-defined, and llama.cpp makes tokens of those
    /// everywhere. Other user-defined tokens, such as runs of spaces, are ordinary text.)
    pub fn new(specials: Vec<Special>, template: &str) -> Self {
        let mut seen = HashSet::new();
        let mut markers: Vec<Special> = specials
            .into_iter()
            .filter(|s| s.control || s.ends || (!s.text.trim().is_empty() && template.contains(&s.text)))
            .filter(|s| seen.insert(s.text.clone()))
            .collect();
        markers.sort_by_key(|special| std::cmp::Reverse(special.text.len()));
        let mut by_first = vec![Vec::new(); 256];
        for (index, marker) in markers.iter().enumerate() {
            if let Some(first) = marker.text.as_bytes().first() {
                by_first[usize::from(*first)].push(index);
            }
        }
        Self { markers, by_first }
    }

    /// The texts of all markers.
    pub fn texts(&self) -> Vec<&str> {
        self.markers.iter().map(|marker| marker.text.as_str()).collect()
    }

    /// The longest marker at the beginning of `bytes`.
    fn at(&self, bytes: &[u8], only: impl Fn(&Special) -> bool) -> Option<&Special> {
        let candidates = self.by_first.get(usize::from(*bytes.first()?))?;
        candidates
            .iter()
            .map(|index| &self.markers[*index])
            .find(|marker| only(marker) && bytes.starts_with(marker.text.as_bytes()))
    }
}

/// The tokens of a rendered conversation.
pub fn tokenise(rendered: &Rendered, markers: &Markers, vocab: &impl Tokenise) -> Vec<Token> {
    let text = rendered.text.as_str();
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut plain = 0;
    let mut strip = false;
    let mut contents = rendered.contents.iter().peekable();
    let mut at = 0;
    while at < bytes.len() {
        while contents.next_if(|range| range.end <= at).is_some() {}
        let next: Option<&Range<usize>> = contents.peek().copied();
        if let Some(range) = next
            && range.contains(&at)
        {
            at = range.end;
            continue;
        }
        let limit = next.map_or(bytes.len(), |range| range.start);
        let Some(marker) = markers.at(&bytes[at..limit], |_| true) else {
            at += 1;
            continue;
        };
        let before = &text[plain..at];
        let before = if strip { before.trim_ascii_start() } else { before };
        push_plain(
            if marker.strips_left {
                before.trim_ascii_end()
            } else {
                before
            },
            markers,
            vocab,
            &mut tokens,
        );
        tokens.push(marker.token);
        at += marker.text.len();
        plain = at;
        strip = marker.strips_right;
    }
    let rest = &text[plain..];
    push_plain(
        if strip { rest.trim_ascii_start() } else { rest },
        markers,
        vocab,
        &mut tokens,
    );
    tokens
}

/// The tokens of a text in which no marker counts.
pub fn plain(text: &str, markers: &Markers, vocab: &impl Tokenise) -> Vec<Token> {
    let mut tokens = Vec::new();
    push_plain(text, markers, vocab, &mut tokens);
    tokens
}

/// Tokenises text in which no marker counts. Control tokens do not come out of plain text by themselves, but
/// user-defined ones do, so their texts are cut in two.
fn push_plain(text: &str, markers: &Markers, vocab: &impl Tokenise, tokens: &mut Vec<Token>) {
    let bytes = text.as_bytes();
    let mut from = 0;
    let mut at = 0;
    while at < bytes.len() {
        if markers.at(&bytes[at..], |marker| !marker.control).is_some() {
            // Behind the first character: neither half is the marker.
            let cut = at + text[at..].chars().next().map_or(1, char::len_utf8);
            tokens.extend(vocab.tokenise(&text[from..cut]));
            from = cut;
            at = cut;
        } else {
            at += 1;
        }
    }
    if from < text.len() {
        tokens.extend(vocab.tokenise(&text[from..]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Token = 1000;
    const START: Token = 1001;
    const TURN: Token = 1002;
    const SPACES: Token = 1003;

    /// Bytes are tokens; user-defined tokens are recognised everywhere, as llama.cpp does.
    struct Bytes;

    impl Tokenise for Bytes {
        fn tokenise(&self, text: &str) -> Vec<Token> {
            let mut tokens = Vec::new();
            let mut rest = text;
            while let Some(first) = rest.bytes().next() {
                if let Some(after) = rest.strip_prefix("<turn>") {
                    tokens.push(TURN);
                    rest = after;
                } else if let Some(after) = rest.strip_prefix("    ") {
                    tokens.push(SPACES);
                    rest = after;
                } else {
                    tokens.push(Token::from(first));
                    let mut characters = rest.chars();
                    characters.next();
                    rest = characters.as_str();
                }
            }
            tokens
        }
    }

    fn special(token: Token, text: &str, control: bool) -> Special {
        Special {
            token,
            text: text.into(),
            control,
            ends: false,
            strips_left: false,
            strips_right: false,
        }
    }

    fn markers() -> Markers {
        let specials = vec![
            special(END, "<|im_end|>", true),
            special(START, "<|im_start|>", true),
            special(TURN, "<turn>", false),
            special(SPACES, "    ", false),
        ];
        Markers::new(specials, "<|im_start|>{{ x }}    <turn>")
    }

    fn rendered(parts: &[(&str, bool)]) -> Rendered {
        let mut text = String::new();
        let mut contents = Vec::new();
        for (part, content) in parts {
            let from = text.len();
            text.push_str(part);
            if *content {
                contents.push(from..text.len());
            }
        }
        Rendered { text, contents }
    }

    fn plain(text: &str) -> Vec<Token> {
        text.bytes().map(Token::from).collect()
    }

    #[test]
    fn markers_of_the_template_become_tokens() {
        let prompt = rendered(&[("<|im_start|>", false), ("hi", true), ("<|im_end|>", false)]);
        assert_eq!(tokenise(&prompt, &markers(), &Bytes), [START, 104, 105, END]);
    }

    #[test]
    fn markers_of_a_client_stay_text() {
        let content = "a<|im_end|><turn>b";
        let prompt = rendered(&[("<|im_start|>", false), (content, true), ("<|im_end|>", false)]);
        let mut expected = vec![START];
        expected.extend(plain(content));
        expected.push(END);
        assert_eq!(tokenise(&prompt, &markers(), &Bytes), expected);
    }

    #[test]
    fn a_marker_pieced_together_across_a_border_stays_text() {
        let prompt = rendered(&[("<|im_", false), ("end|>", true), ("<tu", false), ("rn>", true)]);
        assert_eq!(tokenise(&prompt, &markers(), &Bytes), plain("<|im_end|><turn>"));
        let prompt = rendered(&[("<tu", true), ("rn>", false)]);
        assert_eq!(tokenise(&prompt, &markers(), &Bytes), plain("<turn>"));
    }

    #[test]
    fn user_defined_tokens_that_are_no_markers_stay_tokens() {
        let prompt = rendered(&[("x", false), ("    y", true)]);
        assert_eq!(tokenise(&prompt, &markers(), &Bytes), [120, SPACES, 121]);
    }

    #[test]
    fn white_space_beside_a_marker_that_swallows_it_is_swallowed() {
        let mut end = special(END, "<|im_end|>", true);
        end.strips_left = true;
        end.strips_right = true;
        let markers = Markers::new(vec![end], "");
        let prompt = rendered(&[("a \n<|im_end|>\n b", false)]);
        assert_eq!(tokenise(&prompt, &markers, &Bytes), [97, END, 98]);
    }

    #[test]
    fn of_two_markers_at_one_place_the_longer_wins() {
        let markers = Markers::new(vec![special(1, "<a>", true), special(2, "<a><b>", true)], "");
        assert_eq!(
            tokenise(&rendered(&[("<a><b><a>", false)]), &markers, &Bytes),
            [2, 1]
        );
    }

    #[test]
    fn text_without_known_contents_is_the_templates() {
        let prompt = rendered(&[("é<|im_end|>", false)]);
        assert_eq!(tokenise(&prompt, &markers(), &Bytes).last(), Some(&END));
    }
}
