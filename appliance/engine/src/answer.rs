//! Sampled tokens into wire events.
//!
//! The wire promises one event a token and no event without one. While text is held back, the newest token's
//! event waits with it, so that whatever the end releases has a token to travel with.

use sarai_wire::engine::{Alternative, Event, Token as Sampled};

use crate::text::{Pushed, TextStream};

/// An answer as it grows.
#[derive(Debug)]
pub struct Answer {
    text: TextStream,
    waiting: Option<Sampled>,
    tokens: u32,
}

impl Answer {
    /// An empty answer that ends at the first of `stops`.
    pub fn new(stops: Vec<String>) -> Self {
        Self {
            text: TextStream::new(stops),
            waiting: None,
            tokens: 0,
        }
    }

    /// Tokens so far.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Adds a token. Returns whether a stop text ended the answer.
    pub fn push(
        &mut self,
        bytes: Vec<u8>,
        logprob: f32,
        top: Vec<Alternative>,
        mut emit: impl FnMut(Event),
    ) -> bool {
        self.tokens += 1;
        if let Some(before) = self.waiting.take() {
            emit(Event::Token(before));
        }
        let (text, stopped) = match self.text.push(&bytes) {
            Pushed::Text(text) => (text, false),
            Pushed::Stop(text) => (text, true),
        };
        let token = Sampled {
            text,
            bytes,
            logprob,
            top,
        };
        if self.text.holds() {
            self.waiting = Some(token);
        } else {
            emit(Event::Token(token));
        }
        stopped
    }

    /// Ends the answer: whatever was held back goes out with the last token.
    pub fn finish(&mut self, mut emit: impl FnMut(Event)) {
        let rest = self.text.finish();
        if let Some(mut token) = self.waiting.take() {
            token.text.push_str(&rest);
            emit(Event::Token(token));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut answer = Answer::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let mut texts = Vec::new();
        let mut emit = |event| {
            if let Event::Token(token) = event {
                texts.push(token.text);
            }
        };
        let mut stopped = false;
        for piece in pieces {
            stopped = answer.push(piece.as_bytes().to_vec(), -0.5, Vec::new(), &mut emit);
            if stopped {
                break;
            }
        }
        answer.finish(&mut emit);
        (texts, stopped)
    }

    #[test]
    fn there_is_one_event_for_each_token() {
        assert_eq!(feed(&[], &["a", "b"]).0, ["a", "b"]);
        assert_eq!(feed(&["XYZ"], &["aX", "Y", "b"]).0, ["a", "", "XYb"]);
    }

    #[test]
    fn what_is_held_at_the_end_travels_with_the_last_token() {
        assert_eq!(feed(&["XYZ"], &["a", "X", "Y"]).0, ["a", "", "XY"]);
    }

    #[test]
    fn a_stop_text_never_shows() {
        assert_eq!(
            feed(&["XY"], &["aX", "Yb"]),
            (vec!["a".into(), String::new()], true)
        );
    }
}
