//! Bytes of tokens into text: characters whole, stop texts held back and taken out.

/// Text of an answer as it grows.
#[derive(Debug)]
pub struct TextStream {
    stops: Vec<String>,
    /// Bytes of a character whose end has not come yet: at most three.
    bytes: Vec<u8>,
    /// Text that may be the beginning of a stop text.
    held: String,
}

/// What a token's bytes made of the text.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed {
    /// This much may go out.
    Text(String),
    /// A stop text was met; this much came before it, and nothing comes after.
    Stop(String),
}

impl TextStream {
    /// A stream that ends at the first of `stops`. Empty stop texts are ignored.
    pub fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self {
            stops,
            bytes: Vec::new(),
            held: String::new(),
        }
    }

    /// Adds the bytes of a token.
    pub fn push(&mut self, bytes: &[u8]) -> Pushed {
        self.bytes.extend_from_slice(bytes);
        self.take_characters();
        if let Some(at) = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min()
        {
            let mut text = std::mem::take(&mut self.held);
            text.truncate(at);
            self.bytes.clear();
            return Pushed::Stop(text);
        }
        let keep = self
            .stops
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Pushed::Text(std::mem::replace(&mut self.held, rest))
    }

    /// Whether something is held back.
    pub fn holds(&self) -> bool {
        !self.bytes.is_empty() || !self.held.is_empty()
    }

    /// Ends the stream: what was held back, with a replacement character for a character that never ended.
    pub fn finish(&mut self) -> String {
        let mut text = std::mem::take(&mut self.held);
        text.push_str(&String::from_utf8_lossy(&std::mem::take(&mut self.bytes)));
        text
    }

    /// Moves whole characters from `bytes` to `held`; what can never become one is replaced.
    fn take_characters(&mut self) {
        let mut rest = self.bytes.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.held.push_str(text);
                    self.bytes.clear();
                    return;
                }
                Err(error) => {
                    let (whole, after) = rest.split_at(error.valid_up_to());
                    self.held.push_str(&String::from_utf8_lossy(whole));
                    match error.error_len() {
                        Some(wrong) => {
                            self.held.push(char::REPLACEMENT_CHARACTER);
                            rest = &after[wrong..];
                        }
                        None => {
                            self.bytes = after.to_vec();
                            return;
                        }
                    }
                }
            }
        }
    }
}

/// Length of the longest end of `text` that is a beginning, but not the whole, of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let most = text.len().min(stop.len() - 1);
    (1..=most)
        .rev()
        .find(|length| {
            stop.is_char_boundary(*length) && text.as_bytes().ends_with(&stop.as_bytes()[..*length])
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], pieces: &[&[u8]]) -> (String, bool) {
        let mut stream = TextStream::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let mut text = String::new();
        for piece in pieces {
            match stream.push(piece) {
                Pushed::Text(part) => text.push_str(&part),
                Pushed::Stop(part) => {
                    text.push_str(&part);
                    assert!(!stream.holds());
                    return (text, true);
                }
            }
        }
        text.push_str(&stream.finish());
        (text, false)
    }

    #[test]
    fn a_character_is_held_until_it_is_whole() {
        let mut stream = TextStream::new(Vec::new());
        assert_eq!(stream.push(&[0xf0, 0x9f]), Pushed::Text(String::new()));
        assert!(stream.holds());
        assert_eq!(
            stream.push(&[0x98, 0x80, b'!']),
            Pushed::Text("\u{1f600}!".into())
        );
        assert!(!stream.holds());
    }

    #[test]
    fn bytes_that_are_no_character_are_replaced_and_nothing_is_lost_after_them() {
        assert_eq!(run(&[], &[b"a\xff", b"b"]).0, "a\u{fffd}b");
        assert_eq!(run(&[], &[b"a\xe2\x82"]).0, "a\u{fffd}");
    }

    #[test]
    fn a_stop_text_across_tokens_is_taken_out() {
        assert_eq!(run(&["END"], &[b"one E", b"N", b"D two"]), ("one ".into(), true));
        assert_eq!(run(&["END"], &[b"one E", b"N", b"X"]), ("one ENX".into(), false));
        assert_eq!(run(&["END"], &[b"one EN"]), ("one EN".into(), false));
    }

    #[test]
    fn the_earliest_stop_wins_and_a_restart_inside_is_found() {
        assert_eq!(run(&["cd", "b"], &[b"abcd"]), ("a".into(), true));
        assert_eq!(run(&["aab"], &[b"aa", b"ab"]), ("a".into(), true));
        assert_eq!(run(&["\n\n"], &[b"x\n", b"\ny"]), ("x".into(), true));
    }

    #[test]
    fn a_stop_text_split_inside_a_character_is_found() {
        let stop = "\u{20ac}!";
        assert_eq!(run(&[stop], &[b"5 \xe2\x82", b"\xac", b"!"]), ("5 ".into(), true));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_text(
            text in "[ab\u{e9}\u{1f600}]{0,24}", stop in "[ab\u{e9}]{1,3}",
            cuts in proptest::collection::vec(0_usize..64, 0..8),
        ) {
            let expected = text.find(&stop).map_or(text.as_str(), |at| &text[..at]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts { pieces.push(&text.as_bytes()[from..cut]); from = cut; }
            pieces.push(&text.as_bytes()[from..]);
            let (got, _) = run(&[&stop], &pieces);
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_match_the_lossy_text(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 0..12),
        ) {
            let all: Vec<u8> = pieces.concat();
            let refs: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(run(&[], &refs).0, String::from_utf8_lossy(&all).into_owned());
        }
    }
}
