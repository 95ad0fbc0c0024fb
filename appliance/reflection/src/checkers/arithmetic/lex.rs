//! A text as the tokens that calculations are written in, in signs or in English or Spanish words.

use crate::checkers::text::{fences, fold, in_word};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Digits, with separators.
    Number,
    Plus,
    Minus,
    Times,
    Divide,
    Power,
    /// ², or "squared".
    Square,
    /// ³, or "cubed".
    Cube,
    Open,
    Close,
    Percent,
    /// "% of"
    PercentOf,
    /// `=` or a word for it.
    Equals {
        /// A sign and no word.
        sign: bool,
        /// ≈, "is about".
        about: bool,
    },
    /// Any other word.
    Word,
    /// The end of a line, a sentence or a clause.
    Break,
    /// Anything that a calculation must not touch.
    Other,
}

impl Kind {
    /// Whether it joins two numbers.
    pub const fn is_operator(self) -> bool {
        matches!(
            self,
            Self::Plus | Self::Minus | Self::Times | Self::Divide | Self::Power | Self::PercentOf
        )
    }
}

/// A token and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// Units that may be written without a space after their number.
#[rustfmt::skip]
const TIGHT_UNITS: &[&str] = &[
    "km", "m", "cm", "mm", "kg", "g", "mg", "l", "ml", "h", "s", "min", "ms", "in", "ft", "mi", "lb", "oz", "c",
    "f",
];
/// Words that may stand between a word for "equals" and the number.
#[rustfmt::skip]
const FILLERS: &[&str] = &[
    "equal", "equals", "to", "igual", "a", "exactly", "exactamente", "simply",
];
#[rustfmt::skip]
const ABOUT: &[&str] = &[
    "about", "approximately", "approx", "roughly", "around", "nearly", "almost", "aproximadamente", "casi",
    "unos", "unas", "cerca",
];

/// The tokens of `text`. Fenced code is one break.
pub(crate) fn lex(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        text,
        at: 0,
        tokens: Vec::new(),
    };
    for fence in fences(text) {
        lexer.run(fence.start);
        lexer.push(Kind::Break, fence.start, fence.end);
        lexer.at = fence.end;
    }
    lexer.run(text.len());
    lexer.tokens
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn push(&mut self, kind: Kind, start: usize, end: usize) {
        self.tokens.push(Token { kind, start, end });
    }

    fn run(&mut self, until: usize) {
        while self.at < until {
            let Some(c) = self.text[self.at..].chars().next() else {
                return;
            };
            let start = self.at;
            self.at += c.len_utf8();
            if c.is_ascii_digit()
                || (c == '.' && self.next().is_some_and(|c| c.is_ascii_digit()) && !self.follows_word(start))
            {
                self.number(start);
            } else if in_word(c) && !matches!(c, '²' | '³') {
                self.word(start);
            } else {
                self.sign(c, start);
            }
        }
    }

    fn next(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn previous(&self, at: usize) -> Option<char> {
        self.text[..at].chars().next_back()
    }

    fn follows_word(&self, at: usize) -> bool {
        self.previous(at).is_some_and(in_word)
    }

    fn number(&mut self, start: usize) {
        let bytes = self.text.as_bytes();
        let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        let mut end = start;
        while digit(end) || (matches!(bytes.get(end), Some(b'.' | b',')) && digit(end + 1)) {
            end += 1;
        }
        self.at = end;
        let mut kind = Kind::Number;
        match self.next() {
            // 10:30 is a time, and 3:4 a ratio.
            Some(':') if digit(end + 1) => {
                while digit(end) || (bytes.get(end) == Some(&b':') && digit(end + 1)) {
                    end += 1;
                }
                self.at = end;
                kind = Kind::Other;
            }
            // 5km is a number with its unit; 2x, 3rd and 4a are none.
            Some(c) if in_word(c) && !matches!(c, '²' | '³') => {
                let after = self.text[end..]
                    .find(|c| !in_word(c))
                    .map_or(self.text.len(), |at| end + at);
                let unit = fold(&self.text[end..after]);
                let times = unit
                    .strip_prefix('x')
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
                if !times && !TIGHT_UNITS.contains(&unit.as_str()) {
                    self.at = after;
                    kind = Kind::Other;
                }
            }
            _ => {}
        }
        let end = self.at;
        self.push(kind, start, end);
    }

    /// Whether both sides of the sign at `start..self.at` look alike: blank or not.
    fn is_even(&self, start: usize) -> bool {
        let blank = |c: Option<char>| c.is_none_or(char::is_whitespace);
        blank(self.previous(start)) == blank(self.next())
    }

    /// Whether a number, or what can end one, was read last.
    fn after_value(&self) -> bool {
        self.tokens.last().is_some_and(|token| {
            matches!(
                token.kind,
                Kind::Number | Kind::Close | Kind::Percent | Kind::Word | Kind::Square | Kind::Cube
            )
        })
    }

    /// Whether what comes next, blanks aside, can begin a number.
    fn before_value(&self) -> bool {
        self.text[self.at..]
            .trim_start_matches([' ', '$', '€', '£'])
            .starts_with(|c: char| c.is_ascii_digit() || matches!(c, '(' | '-' | '.'))
    }

    fn sign(&mut self, c: char, start: usize) {
        let kind = match c {
            '+' => Kind::Plus,
            '−' => Kind::Minus,
            '-' if self.at_line_start(start) && self.next() == Some(' ') => return,
            '-' if self.next() == Some('>') => Kind::Other,
            '-' => Kind::Minus,
            '–' if self.is_even(start) && self.next() == Some(' ') => Kind::Minus,
            '×' | '·' | '∙' | '✕' | '∗' | '⋅' => Kind::Times,
            '*' => {
                let double = self.next() == Some('*');
                if double {
                    self.at += 1;
                }
                if !(self.after_value() && self.is_even(start) && self.before_value()) {
                    // Emphasis.
                    return;
                }
                if double { Kind::Power } else { Kind::Times }
            }
            '÷' => Kind::Divide,
            '/' => Kind::Divide,
            '^' => Kind::Power,
            '²' => Kind::Square,
            '³' => Kind::Cube,
            '(' if self.previous(start) == Some('\\') => return,
            '(' => Kind::Open,
            ')' => Kind::Close,
            '%' => return self.percent(start),
            '=' => match self.next() {
                Some('=' | '>' | '<' | '~') => {
                    self.at += 1;
                    if self.text[start..self.at].ends_with("==") && self.next() != Some('=') {
                        Kind::Equals {
                            sign: true,
                            about: false,
                        }
                    } else {
                        Kind::Other
                    }
                }
                _ if matches!(
                    self.previous(start),
                    Some('<' | '>' | '!' | '~' | ':' | '+' | '-' | '*' | '/')
                ) =>
                {
                    Kind::Other
                }
                _ => return self.equals(start, true, false),
            },
            '≈' | '≃' | '≅' => Kind::Equals {
                sign: true,
                about: true,
            },
            '\\' => return self.command(start),
            // Money, degrees and emphasis change no value.
            '$' | '€' | '£' | '°' | '_' | '`' => return,
            c if c.is_whitespace() && c != '\n' => return,
            '!' if self.text[self.at..]
                .trim_start_matches(' ')
                .starts_with(['=', '+', '-', '*', '/', '×', '÷']) =>
            {
                Kind::Other
            }
            '\n' | '.' | ',' | ';' | ':' | '!' | '?' | '¿' | '¡' | '"' | '“' | '”' | '«' | '»' | '|' => {
                Kind::Break
            }
            _ => Kind::Other,
        };
        let end = self.at;
        self.push(kind, start, end);
    }

    fn at_line_start(&self, at: usize) -> bool {
        self.text[..at]
            .trim_end_matches([' ', '\t'])
            .chars()
            .next_back()
            .is_none_or(|c| c == '\n')
    }

    /// TeX: `\times` and its like; delimiters are nothing, and any other command is not for us.
    fn command(&mut self, start: usize) {
        let rest = &self.text[self.at..];
        let length = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let kind = match &rest[..length] {
            "times" | "cdot" => Kind::Times,
            "div" => Kind::Divide,
            "approx" => Kind::Equals {
                sign: true,
                about: true,
            },
            "" if rest.starts_with(['(', ')', '[', ']', '$']) => {
                self.at += 1;
                return;
            }
            "" if rest.starts_with('%') => return,
            _ => Kind::Other,
        };
        self.at += length;
        let end = self.at;
        self.push(kind, start, end);
    }

    /// The word at or after `from` on the same line, blanks and emphasis between.
    fn peek(&self, from: usize) -> Option<(usize, String)> {
        let rest = &self.text[from..];
        let skipped = rest.trim_start_matches([' ', '*', '_']);
        let start = from + (rest.len() - skipped.len());
        let length = skipped.find(|c| !in_word(c)).unwrap_or(skipped.len());
        // No word of a calculation is longer; a longer one is not copied.
        (1..=40)
            .contains(&length)
            .then(|| (start + length, fold(&skipped[..length])))
    }

    /// Takes the next word if it is one of these.
    fn take(&mut self, wanted: &[&str]) -> bool {
        match self.peek(self.at) {
            Some((end, word)) if wanted.contains(&word.as_str()) => {
                self.at = end;
                true
            }
            _ => false,
        }
    }

    fn percent(&mut self, start: usize) {
        let kind = if self.take(&["of", "de"]) {
            Kind::PercentOf
        } else {
            Kind::Percent
        };
        let end = self.at;
        self.push(kind, start, end);
    }

    fn equals(&mut self, start: usize, sign: bool, about: bool) {
        let mut left = 4;
        while left > 0 && self.take(FILLERS) {
            left -= 1;
        }
        let about = self.take(ABOUT) || about;
        let end = self.at;
        self.push(Kind::Equals { sign, about }, start, end);
    }

    fn word(&mut self, start: usize) {
        if matches!(self.text.as_bytes()[start], b'x' | b'X') && self.after_value() {
            let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
            if digit(self.previous(start)) && digit(self.next()) {
                self.push(Kind::Times, start, start + 1);
                return;
            }
        }
        let end = self.text[start..]
            .find(|c| !in_word(c))
            .map_or(self.text.len(), |at| start + at);
        self.at = end;
        // No word that matters is longer, and a longer one is not copied.
        let word = if end - start <= 40 {
            fold(&self.text[start..end])
        } else {
            String::new()
        };
        let value = self.after_value();
        let kind = match word.as_str() {
            "plus" | "mas" if value => Kind::Plus,
            "minus" | "menos" if value => Kind::Minus,
            "x" if value && self.before_value() => Kind::Times,
            "times" | "por" if value => match self.peek(self.at) {
                Some((end, next)) if word == "por" && matches!(next.as_str(), "ciento" | "cien") => {
                    self.at = end;
                    return self.percent(start);
                }
                _ => Kind::Times,
            },
            "multiplied" | "multiplicado" if self.take(&["by", "por"]) => Kind::Times,
            "divided" | "dividido" if self.take(&["by", "entre", "por"]) => Kind::Divide,
            "entre" if value => Kind::Divide,
            "percent" => return self.percent(start),
            "per" if value && self.take(&["cent"]) => return self.percent(start),
            "squared" => Kind::Square,
            "cubed" => Kind::Cube,
            "al" if self.take(&["cuadrado"]) => Kind::Square,
            "al" if self.take(&["cubo"]) => Kind::Cube,
            "elevado" if self.take(&["a", "al"]) => {
                self.take(&["la"]);
                Kind::Power
            }
            "is" | "equals" | "equal" | "makes" | "gives" | "are" | "es" | "son" | "igual" | "da" | "dan" => {
                return self.equals(start, false, false);
            }
            _ => Kind::Word,
        };
        let end = self.at;
        self.push(kind, start, end);
    }
}
