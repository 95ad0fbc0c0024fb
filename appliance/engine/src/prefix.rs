//! Which slot a request gets, and how much of its KV cache still holds.
//!
//! A cached prefix belongs to (model, adapter, images, tokens). All four are compared: the same tokens under
//! another adapter or around another picture are another text.

use crate::llama::Token;

/// What else than tokens a KV cache depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvKey {
    /// SHA-256 of the model file; the same for the whole life of a process.
    pub model: String,
    /// SHA-256 of the adapter that was applied, if one was.
    pub adapter: Option<String>,
    /// SHA-256 of each image in the prompt, in order.
    pub images: Vec<String>,
}

impl KvKey {
    /// The key of a text prompt without an adapter.
    pub fn text(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            adapter: None,
            images: Vec::new(),
        }
    }
}

/// What the KV cache of a slot holds.
#[derive(Debug, Clone)]
pub struct Cached {
    /// Under which circumstances it was computed.
    pub key: KvKey,
    /// The tokens, from position 0.
    pub tokens: Vec<Token>,
    /// States of a model that cannot forget a part, at positions to which it may have to go back; ascending.
    pub saved: Vec<Saved>,
}

/// A state to go back to.
#[derive(Debug, Clone)]
pub struct Saved {
    /// How many tokens it knows.
    pub at: usize,
    /// The state.
    pub state: Vec<u8>,
}

/// Most saved states of a slot: the loop goes back to the ends of the last few prompts.
const MOST_SAVED: usize = 4;
/// Most bytes of a slot's saved states. A hybrid model's take a few hundred kB, a recurrent one's a few MB.
const MOST_SAVED_BYTES: usize = 64 * 1024 * 1024;

impl Cached {
    /// How many tokens of `prompt` need not be computed again. At least the last one always is: its logits are
    /// not kept.
    pub fn reusable(&self, key: &KvKey, prompt: &[Token]) -> usize {
        if self.key != *key {
            return 0;
        }
        let common = self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        common.min(prompt.len().saturating_sub(1))
    }

    /// Keeps the state at the present end. The newest one is kept, and the others as far as there is room.
    pub fn save(&mut self, state: Vec<u8>) {
        let at = self.tokens.len();
        self.saved.retain(|saved| saved.at < at);
        self.saved.push(Saved { at, state });
        let size = |saved: &[Saved]| saved.iter().map(|saved| saved.state.len()).sum::<usize>();
        while self.saved.len() > 1 && (self.saved.len() > MOST_SAVED || size(&self.saved) > MOST_SAVED_BYTES)
        {
            // Not the first: every turn of a conversation goes on from there.
            self.saved.remove(usize::from(self.saved.len() > 2));
        }
    }

    /// How many of the tokens that follow `prompt` here spell the beginning of `text`, and with how many bytes.
    /// An answer is found again this way whatever tokens it was sampled in. `piece` gives a token's bytes.
    pub fn spells(
        &self,
        key: &KvKey,
        prompt: &[Token],
        text: &str,
        mut piece: impl FnMut(Token, &mut Vec<u8>),
    ) -> (usize, usize) {
        let mut found = (0, 0);
        if self.key != *key || !self.tokens.starts_with(prompt) {
            return found;
        }
        let (mut bytes, mut at) = (Vec::new(), 0);
        for (index, token) in self.tokens[prompt.len()..].iter().enumerate() {
            bytes.clear();
            piece(*token, &mut bytes);
            // A control token has no bytes: no text spells it.
            if bytes.is_empty() || !text.as_bytes()[at..].starts_with(&bytes) {
                break;
            }
            at += bytes.len();
            // What is left must be text that can be tokenised.
            if text.is_char_boundary(at) {
                found = (index + 1, at);
            }
        }
        found
    }
}

/// An idle slot as the choice sees it.
#[derive(Debug)]
pub struct Idle {
    /// Its number.
    pub slot: usize,
    /// How many tokens of the prompt it holds.
    pub common: usize,
    /// How many it holds in all.
    pub held: usize,
    /// When it was used last, on a counter; 0 is never.
    pub used: u64,
}

/// The slot for a prompt: the one with the longest common prefix, provided the prompt keeps more than half of
/// what the slot holds; otherwise the one unused for longest. Without the proviso, a few tokens that every
/// conversation begins with would make all of them fight over one slot while others stay empty.
///
/// `asked` is the length of the conversation alone: a slot that holds all of it is the conversation's own, however
/// long the answer was that lies behind it.
pub fn choose(idle: impl IntoIterator<Item = Idle>, asked: usize) -> Option<usize> {
    idle.into_iter()
        .map(|idle| {
            // The last token is always computed again, so that one may be missing.
            let continues = idle.common * 2 > idle.held || (asked > 1 && idle.common + 1 >= asked);
            let rank = if continues { idle.common } else { 0 };
            (rank, std::cmp::Reverse(idle.used), idle.slot)
        })
        .max_by_key(|(rank, used, slot)| (*rank, *used, std::cmp::Reverse(*slot)))
        .map(|(_, _, slot)| slot)
}

/// The part of a context that a rewind needs.
pub trait Memory {
    /// Forgets a slot's tokens from `position` on; `false`, with nothing changed, when the model cannot.
    fn forget_from(&mut self, slot: usize, position: usize) -> bool;
    /// Brings back a saved state of the slot; after `false` nobody knows what it holds.
    fn restore(&mut self, slot: usize, state: &[u8]) -> bool;
    /// Forgets all of a slot's tokens.
    fn forget(&mut self, slot: usize);
}

/// Makes slot and KV cache hold at most the first `keep` tokens. Models with a recurrent state cannot forget a part;
/// they go back to the last state that was saved before it, or start over. Returns how many tokens are kept.
pub fn rewind(memory: &mut impl Memory, slot: usize, cached: &mut Cached, keep: usize) -> usize {
    let keep = keep.min(cached.tokens.len());
    let kept = if keep == cached.tokens.len() || (keep > 0 && memory.forget_from(slot, keep)) {
        keep
    } else if let Some(saved) = cached.saved.iter().rfind(|saved| saved.at <= keep)
        && memory.restore(slot, &saved.state)
        && memory.forget_from(slot, saved.at)
    {
        saved.at
    } else {
        memory.forget(slot);
        0
    };
    cached.tokens.truncate(kept);
    cached.saved.retain(|saved| saved.at <= kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A KV cache that can or cannot forget a part.
    struct Fake {
        tokens: usize,
        partial: bool,
        /// The recurrent part's own position, restored apart from the rest.
        state: usize,
    }

    impl Memory for Fake {
        fn forget_from(&mut self, _slot: usize, position: usize) -> bool {
            let can = self.partial || self.state == position;
            if can {
                self.tokens = self.tokens.min(position);
            }
            can
        }

        fn restore(&mut self, _slot: usize, state: &[u8]) -> bool {
            self.state = state.len();
            !state.is_empty()
        }

        fn forget(&mut self, _slot: usize) {
            self.tokens = 0;
        }
    }

    #[test]
    fn slot_and_cache_agree_after_a_rewind_whatever_the_model_can() {
        for (partial, keep, expected) in [
            (true, 2, 2),
            (false, 2, 0),
            (true, 4, 4),
            (false, 4, 4),
            (true, 0, 0),
            (false, 0, 0),
            (false, 9, 4),
        ] {
            let mut memory = Fake {
                tokens: 4,
                partial,
                state: 4,
            };
            let mut slot = cached(&[1, 2, 3, 4]);
            assert_eq!(rewind(&mut memory, 0, &mut slot, keep), expected);
            assert_eq!((slot.tokens.len(), memory.tokens), (expected, expected));
        }
    }

    #[test]
    fn a_model_that_cannot_forget_goes_back_to_a_saved_state() {
        for (keep, expected) in [(9, 6), (6, 6), (5, 4), (4, 4), (3, 2), (2, 2), (1, 0)] {
            let mut slot = cached(&[]);
            for at in [2, 4] {
                slot.tokens.resize(at, 7);
                // The made-up state is as long as its position.
                slot.save(vec![0; at]);
            }
            slot.tokens.resize(6, 7);
            let mut memory = Fake {
                tokens: 6,
                partial: false,
                state: 6,
            };
            assert_eq!(rewind(&mut memory, 0, &mut slot, keep), expected);
            assert_eq!((slot.tokens.len(), memory.tokens), (expected, expected));
            assert!(slot.saved.iter().all(|saved| saved.at <= expected));
        }
    }

    #[test]
    fn saved_states_are_bounded_and_the_first_and_the_newest_stay() {
        let mut slot = cached(&[]);
        for at in 1..20 {
            slot.tokens.resize(at, 7);
            slot.save(vec![0; 10]);
        }
        let at: Vec<usize> = slot.saved.iter().map(|saved| saved.at).collect();
        assert_eq!(at, [1, 17, 18, 19]);
        slot.tokens.resize(30, 7);
        slot.save(vec![0; MOST_SAVED_BYTES + 1]);
        assert_eq!(slot.saved.len(), 1);
        assert_eq!(slot.saved[0].at, 30);
    }

    fn cached(tokens: &[Token]) -> Cached {
        Cached {
            key: KvKey::text("m"),
            saved: Vec::new(),
            tokens: tokens.to_vec(),
        }
    }

    fn pick(slots: &[(Cached, u64)], prompt: &[Token]) -> Option<(usize, usize)> {
        let common = |cached: &Cached| cached.reusable(&KvKey::text("m"), prompt);
        let idle = slots.iter().enumerate().map(|(slot, (cached, used))| Idle {
            slot,
            common: common(cached),
            held: cached.tokens.len(),
            used: *used,
        });
        choose(idle, prompt.len()).map(|slot| (slot, common(&slots[slot].0)))
    }

    #[test]
    fn an_answer_is_found_by_its_bytes_whatever_its_tokens() {
        let words = ["", "ab", "c", "é", "x"];
        let piece = |token: Token, to: &mut Vec<u8>| match token {
            // The two halves of a character.
            10 => to.push("é".as_bytes()[0]),
            11 => to.push("é".as_bytes()[1]),
            other => to.extend_from_slice(words[usize::try_from(other).unwrap()].as_bytes()),
        };
        let spells = |tokens: &[Token], text| {
            let held = cached(tokens);
            held.spells(&KvKey::text("m"), &[4, 4], text, piece)
        };
        assert_eq!(spells(&[4, 4, 1, 2, 1], "abc"), (2, 3));
        assert_eq!(spells(&[4, 4, 1, 2], "abcab"), (2, 3));
        assert_eq!(spells(&[4, 4, 1, 2], "abX"), (1, 2));
        assert_eq!(spells(&[4, 4, 1], "a"), (0, 0));
        assert_eq!(spells(&[4, 1, 1], "ab"), (0, 0));
        assert_eq!(spells(&[4, 4, 0, 1], "ab"), (0, 0));
        assert_eq!(spells(&[4, 4, 1, 10, 11], "abé"), (3, 4));
        assert_eq!(spells(&[4, 4, 1, 10], "abé"), (1, 2));
        let other = cached(&[4, 4, 1]);
        assert_eq!(other.spells(&KvKey::text("n"), &[4, 4], "ab", piece), (0, 0));
    }

    #[test]
    fn at_least_the_last_token_is_computed_again() {
        assert_eq!(cached(&[1, 2, 3]).reusable(&KvKey::text("m"), &[1, 2, 3]), 2);
        assert_eq!(cached(&[1, 2, 3]).reusable(&KvKey::text("m"), &[1, 2, 3, 4]), 3);
        assert_eq!(cached(&[1, 2, 3]).reusable(&KvKey::text("m"), &[1, 9]), 1);
        assert_eq!(cached(&[]).reusable(&KvKey::text("m"), &[1]), 0);
    }

    #[test]
    fn another_model_adapter_or_image_shares_nothing() {
        let held = cached(&[1, 2, 3]);
        let key = KvKey::text("m");
        let prompt = [1, 2, 3, 4];
        assert_eq!(held.reusable(&key, &prompt), 3);
        assert_eq!(held.reusable(&KvKey::text("other"), &prompt), 0);
        assert_eq!(
            held.reusable(
                &KvKey {
                    adapter: Some("a".into()),
                    ..key.clone()
                },
                &prompt
            ),
            0
        );
        assert_eq!(
            held.reusable(
                &KvKey {
                    images: vec!["i".into()],
                    ..key
                },
                &prompt
            ),
            0
        );
    }

    #[test]
    fn the_longest_prefix_wins() {
        let slots = [(cached(&[1, 2]), 5), (cached(&[1, 2, 3, 4]), 1), (cached(&[]), 0)];
        assert_eq!(pick(&slots, &[1, 2, 3, 4, 5]), Some((1, 4)));
    }

    #[test]
    fn without_a_prefix_the_slot_unused_for_longest_is_taken() {
        let slots = [(cached(&[7, 8]), 5), (cached(&[9]), 3)];
        assert_eq!(pick(&slots, &[1, 2]), Some((1, 0)));
        assert_eq!(pick(&[], &[1, 2]), None);
    }

    #[test]
    fn a_common_beginning_does_not_throw_out_another_conversation() {
        let long: Vec<Token> = (0..100).collect();
        let slots = [(cached(&long), 5), (cached(&[]), 0)];
        let mut prompt: Vec<Token> = (0..10).collect();
        prompt.extend(500..520);
        assert_eq!(pick(&slots, &prompt), Some((1, 0)));
        // With one slot alone, the beginning is still used.
        assert_eq!(pick(&slots[..1], &prompt), Some((0, 10)));
    }
}
