//! A byte-pair vocabulary of any size that tokenises any text: all bytes, then fragments of words built up by merges.
//! It is no one's vocabulary; English takes about as many tokens as with a learnt one.

use std::collections::HashSet;

/// GGUF's kinds of tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;

/// Letters, the more frequent ones in English and Spanish first.
const LETTERS: &str = "etaoinshrdlcumwfgypbvkjxqz";

/// A vocabulary as GGUF lists it.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// Texts, bytes written as GPT-2 does.
    pub tokens: Vec<String>,
    /// What each is.
    pub kinds: Vec<i32>,
    /// Pairs in the order in which they are merged.
    pub merges: Vec<String>,
}

impl Vocabulary {
    /// `before` control tokens first, then ordinary ones up to number `ordinary`, control tokens `after`, and unused
    /// ones up to number `size`.
    ///
    /// # Panics
    /// When that is less than the bytes need or more than the fragments make: 256 to 450 000.
    #[must_use]
    pub fn new(before: &[&str], ordinary: usize, after: &[&str], size: usize) -> Self {
        let mut me = Self {
            tokens: Vec::with_capacity(size),
            kinds: Vec::with_capacity(size),
            merges: Vec::new(),
        };
        me.add(before.iter().copied(), CONTROL);
        let bytes: Vec<String> = (0..=255).map(written).collect();
        me.add(bytes.iter().map(String::as_str), NORMAL);
        assert!(me.tokens.len() <= ordinary, "every byte needs a token");
        let mut known: HashSet<String> = bytes.into_iter().collect();
        for (left, right) in pairs() {
            if me.tokens.len() == ordinary {
                break;
            }
            let token = format!("{left}{right}");
            if known.insert(token.clone()) {
                me.merges.push(format!("{left} {right}"));
                me.add([token.as_str()], NORMAL);
            }
        }
        assert_eq!(me.tokens.len(), ordinary, "there are not as many fragments");
        me.add(after.iter().copied(), CONTROL);
        for spare in 0..size.saturating_sub(me.tokens.len()) {
            me.add([format!("[PAD{spare}]").as_str()], UNUSED);
        }
        assert_eq!(me.tokens.len(), size, "control tokens do not fit");
        me
    }

    fn add<'a>(&mut self, tokens: impl IntoIterator<Item = &'a str>, kind: i32) {
        for token in tokens {
            self.tokens.push(token.to_owned());
            self.kinds.push(kind);
        }
    }

    /// Number of a token.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        let at = self.tokens.iter().position(|known| known == token)?;
        u32::try_from(at).ok()
    }
}

/// Merges, in order: accented letters, pairs of letters, beginnings of words, three letters, beginnings of three and
/// of four, four letters.
fn pairs() -> impl Iterator<Item = (String, String)> {
    let letters = || LETTERS.chars().map(String::from);
    let doubles = move || letters().flat_map(move |a| letters().map(move |b| format!("{a}{b}")));
    let space = written(b' ');
    let spaced = move || {
        let space = written(b' ');
        letters().map(move |letter| format!("{space}{letter}"))
    };
    let accents = [0xc2, 0xc3]
        .into_iter()
        .flat_map(|lead| (0x80..=0xbf).map(move |next| (written(lead), written(next))));
    accents
        .chain(letters().map(move |letter| (space.clone(), letter)))
        .chain(letters().flat_map(move |a| letters().map(move |b| (a.clone(), b))))
        .chain(spaced().flat_map(move |a| letters().map(move |b| (a.clone(), b))))
        .chain(doubles().flat_map(move |a| letters().map(move |b| (a.clone(), b))))
        .chain(spaced().flat_map(move |a| doubles().map(move |b| (a.clone(), b))))
        .chain(doubles().flat_map(move |a| doubles().map(move |b| (a.clone(), b))))
}

/// GPT-2 writes each byte as a printable character.
fn written(byte: u8) -> String {
    let own = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let code = if own(byte) {
        u32::from(byte)
    } else {
        let others = (0..byte).filter(|before| !own(*before)).count();
        256 + u32::try_from(others).unwrap_or(0)
    };
    char::from_u32(code).map(String::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_wished_size_every_byte_once_and_nothing_twice() {
        let vocabulary = Vocabulary::new(&["<s>"], 151_643, &["</s>"], 151_936);
        assert_eq!(vocabulary.tokens.len(), 151_936);
        assert_eq!(vocabulary.kinds.len(), 151_936);
        let all: HashSet<&String> = vocabulary.tokens.iter().collect();
        assert_eq!(all.len(), 151_936);
        assert_eq!(vocabulary.merges.len(), 151_643 - 1 - 256);
        assert_eq!(vocabulary.id("</s>"), Some(151_643));
        assert_eq!(vocabulary.id("the"), vocabulary.id("the").filter(|id| *id > 256));
    }

    #[test]
    fn each_merge_joins_two_earlier_tokens() {
        let vocabulary = Vocabulary::new(&[], 60_000, &[], 60_000);
        let mut known: HashSet<&str> = vocabulary.tokens[..256].iter().map(String::as_str).collect();
        for (merge, token) in std::iter::zip(&vocabulary.merges, &vocabulary.tokens[256..]) {
            let (left, right) = merge.split_once(' ').unwrap();
            assert!(known.contains(left) && known.contains(right), "{merge}");
            assert_eq!(format!("{left}{right}"), *token);
            known.insert(token);
        }
    }
}
