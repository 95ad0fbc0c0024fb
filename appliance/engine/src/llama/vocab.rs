//! A model's vocabulary: text to tokens and back.

use std::ffi::CStr;

use llama_cpp_sys_2 as sys;

use super::Token;

/// The vocabulary of a [`super::model::Model`]. Read-only; threads share it.
#[derive(Clone, Copy)]
pub struct Vocab<'model> {
    vocab: &'model sys::llama_vocab,
}

// SAFETY: a vocabulary is never changed after the model is loaded.
unsafe impl Send for Vocab<'_> {}
// SAFETY: as above.
unsafe impl Sync for Vocab<'_> {}

/// A token whose text stands for itself in a rendered template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Special {
    /// Its id.
    pub token: Token,
    /// Its text.
    pub text: String,
    /// Only recognised where special tokens are parsed; ordinary text never becomes it.
    pub control: bool,
    /// Ends the answer.
    pub ends: bool,
    /// Swallows white space before it.
    pub strips_left: bool,
    /// Swallows white space after it.
    pub strips_right: bool,
}

impl<'model> Vocab<'model> {
    pub(super) fn new(vocab: &'model sys::llama_vocab) -> Self {
        Self { vocab }
    }

    fn ptr(self) -> *const sys::llama_vocab {
        std::ptr::from_ref(self.vocab)
    }

    /// Number of tokens.
    pub fn len(self) -> usize {
        // SAFETY: the vocabulary is valid.
        usize::try_from(unsafe { sys::llama_vocab_n_tokens(self.ptr()) }).unwrap_or(0)
    }

    /// Whether there are no tokens, as in a file without a tokenizer.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    fn valid(self, token: Token) -> bool {
        usize::try_from(token).is_ok_and(|token| token < self.len())
    }

    /// Whether `token` ends the model's turn.
    pub fn ends(self, token: Token) -> bool {
        // SAFETY: the vocabulary is valid; the id is checked because the callee asserts it.
        self.valid(token) && unsafe { sys::llama_vocab_is_eog(self.ptr(), token) }
    }

    /// The token that begins a text, if the model has one.
    pub fn bos(self) -> Option<Token> {
        // SAFETY: the vocabulary is valid.
        Some(unsafe { sys::llama_vocab_bos(self.ptr()) }).filter(|token| self.valid(*token))
    }

    /// The token that ends a text, if the model has one.
    pub fn eos(self) -> Option<Token> {
        // SAFETY: the vocabulary is valid.
        Some(unsafe { sys::llama_vocab_eos(self.ptr()) }).filter(|token| self.valid(*token))
    }

    /// Whether the model wants every text to begin with [`Vocab::bos`].
    pub fn adds_bos(self) -> bool {
        // SAFETY: the vocabulary is valid.
        unsafe { sys::llama_vocab_get_add_bos(self.ptr()) }
    }

    /// The token's text as it stands in the file; empty for an unknown id.
    pub fn raw_text(self, token: Token) -> String {
        if !self.valid(token) {
            return String::new();
        }
        // SAFETY: the vocabulary is valid and holds the id; the answer is a C string inside it.
        let text = unsafe { sys::llama_vocab_get_text(self.ptr(), token) };
        if text.is_null() {
            return String::new();
        }
        // SAFETY: see above.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }

    /// Every token whose text stands for itself: control, unknown and user-defined ones.
    pub fn specials(self) -> Vec<Special> {
        let marks = sys::LLAMA_TOKEN_ATTR_CONTROL
            | sys::LLAMA_TOKEN_ATTR_UNKNOWN
            | sys::LLAMA_TOKEN_ATTR_USER_DEFINED;
        let plain = sys::LLAMA_TOKEN_ATTR_CONTROL | sys::LLAMA_TOKEN_ATTR_UNKNOWN;
        let count = Token::try_from(self.len()).unwrap_or(Token::MAX);
        (0..count)
            .filter_map(|token| {
                // SAFETY: the vocabulary is valid and holds the id.
                let attributes = unsafe { sys::llama_vocab_get_attr(self.ptr(), token) };
                let text = self.raw_text(token);
                if attributes & marks == 0 || text.is_empty() {
                    return None;
                }
                Some(Special {
                    token,
                    text,
                    control: attributes & plain != 0,
                    ends: self.ends(token),
                    strips_left: attributes & sys::LLAMA_TOKEN_ATTR_LSTRIP != 0,
                    strips_right: attributes & sys::LLAMA_TOKEN_ATTR_RSTRIP != 0,
                })
            })
            .collect()
    }

    /// Tokens of a plain text: nothing is added, and no control token comes out, whatever the text says.
    pub fn tokenise(self, text: &str) -> Vec<Token> {
        let Ok(length) = i32::try_from(text.len()) else {
            return Vec::new();
        };
        let mut tokens = vec![0; text.len() + 16];
        loop {
            let room = i32::try_from(tokens.len()).unwrap_or(i32::MAX);
            // SAFETY: both buffers are valid for the lengths that are passed.
            let count = unsafe {
                sys::llama_tokenize(
                    self.ptr(),
                    text.as_ptr().cast(),
                    length,
                    tokens.as_mut_ptr(),
                    room,
                    false,
                    false,
                )
            };
            match usize::try_from(count) {
                Ok(count) => {
                    tokens.truncate(count);
                    return tokens;
                }
                // The buffer is too small; the needed size is told as a negative number.
                Err(_) if count != i32::MIN => tokens.resize(count.unsigned_abs() as usize, 0),
                Err(_) => return Vec::new(),
            }
        }
    }

    /// Bytes of a token, appended to `to`: nothing for control tokens unless `special`.
    pub fn piece(self, token: Token, special: bool, to: &mut Vec<u8>) {
        if !self.valid(token) {
            return;
        }
        let begin = to.len();
        let mut room = 64_usize;
        loop {
            to.resize(begin + room, 0);
            // SAFETY: the buffer is valid for `room` bytes from `begin`; the id was checked.
            let count = unsafe {
                sys::llama_token_to_piece(
                    self.ptr(),
                    token,
                    to.as_mut_ptr().add(begin).cast(),
                    i32::try_from(room).unwrap_or(i32::MAX),
                    0,
                    special,
                )
            };
            match usize::try_from(count) {
                Ok(count) => {
                    to.truncate(begin + count);
                    return;
                }
                // Too small; the needed size is told as a negative number.
                Err(_) => room = (count.unsigned_abs() as usize).max(room + 1),
            }
        }
    }

    /// Length of the longest token, bytes; at least 1. A text of `n` bytes has at least `n` / this tokens.
    pub fn longest_piece(self) -> usize {
        let count = Token::try_from(self.len()).unwrap_or(Token::MAX);
        let mut bytes = Vec::new();
        let mut longest = 1;
        for token in 0..count {
            bytes.clear();
            self.piece(token, true, &mut bytes);
            longest = longest.max(bytes.len());
        }
        longest
    }
}
