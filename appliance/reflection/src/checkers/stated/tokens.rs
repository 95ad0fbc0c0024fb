//! A request as tokens: words without case and accents, quoted texts as one token each, given texts left out.

use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Letters and digits.
    Word,
    /// A text in quotes; the span is what is between them.
    Quote,
    /// A single mark.
    Mark,
    /// The end of a sentence, of a line or of a given text.
    Break,
}

/// One token of a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// In lower case and without accents; empty for a quote and a break.
    pub(super) folded: String,
    /// Where it stands in the request.
    pub(super) span: Range<usize>,
}

impl Token {
    pub(super) fn is(&self, text: &str) -> bool {
        self.folded == text
    }
}

/// Longest word that is looked at; a longer one is in no rule.
const LONGEST_WORD: usize = 40;
/// Longest text in quotes, bytes.
const LONGEST_QUOTE: usize = 200;

/// Labels after which a line is a text that was given.
const LABELS: &[&str] = &[
    "text",
    "texto",
    "passage",
    "pasaje",
    "article",
    "articulo",
    "context",
    "contexto",
    "email",
    "correo",
    "sentence",
    "oracion",
    "frase",
    "paragraph",
    "parrafo",
    "review",
    "resena",
    "input",
    "entrada",
    "document",
    "documento",
    "story",
    "cuento",
    "poem",
    "poema",
    "excerpt",
    "extracto",
    "abstract",
    "transcript",
    "original",
    "message",
    "mensaje",
];
/// Beginnings of verbs that work on a text they are given: after a colon it follows.
const WORKS_ON: &[&str] = &[
    "translat",
    "summari",
    "correct",
    "rewrit",
    "rephras",
    "paraphras",
    "proofread",
    "classif",
    "analy",
    "edit",
    "improve",
    "fix",
    "convert",
    "shorten",
    "simplif",
    "count",
    "traduc",
    "traduz",
    "resum",
    "corrig",
    "correg",
    "reescrib",
    "parafrase",
    "clasific",
    "mejora",
    "conviert",
    "acorta",
    "simplific",
    "cuent",
    "analiz",
];
/// What a colon may follow without a given text after it.
const RULES: &[&str] = &[
    "rules",
    "constraints",
    "requirements",
    "conditions",
    "instructions",
    "guidelines",
    "format",
    "options",
    "of",
    "reglas",
    "condiciones",
    "requisitos",
    "instrucciones",
    "formato",
    "opciones",
    "words",
    "palabras",
];

/// Lower case, without the accents of the languages that are read here.
pub(super) fn fold(text: &str) -> String {
    text.chars()
        .flat_map(char::to_lowercase)
        .map(|c| match c {
            'á' | 'à' | 'â' | 'ä' => 'a',
            'é' | 'è' | 'ê' | 'ë' => 'e',
            'í' | 'ì' | 'î' | 'ï' => 'i',
            'ó' | 'ò' | 'ô' | 'ö' => 'o',
            'ú' | 'ù' | 'û' | 'ü' => 'u',
            'ñ' => 'n',
            'ç' => 'c',
            '’' => '\'',
            c => c,
        })
        .collect()
}

/// The tokens of `text`. Code blocks, block quotes and texts that were given are left out; a break stands for them.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut reader = Reader {
        text,
        at: 0,
        out: Vec::new(),
        sentence: 0,
    };
    reader.read();
    reader.out
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    out: Vec<Token>,
    /// Where the tokens of the current sentence begin.
    sentence: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn push(&mut self, kind: Kind, folded: String, length: usize) {
        let span = self.at..self.at + length;
        self.at += length;
        self.out.push(Token { kind, folded, span });
        if kind == Kind::Break {
            self.sentence = self.out.len();
        }
    }

    fn line_start(&self) -> bool {
        self.text[..self.at]
            .bytes()
            .rev()
            .find(|b| !matches!(b, b' ' | b'\t'))
            .is_none_or(|b| b == b'\n')
    }

    fn read(&mut self) {
        while let Some(c) = self.rest().chars().next() {
            let length = c.len_utf8();
            if self.rest().starts_with("```") {
                let end = self.rest()[3..].find("```").map_or(self.rest().len(), |i| i + 6);
                self.push(Kind::Break, String::new(), end);
            } else if c == '>' && self.line_start() {
                let end = self.rest().find('\n').unwrap_or(self.rest().len());
                self.push(Kind::Break, String::new(), end);
            } else if let Some((open, close, closing)) = self.quoted(c) {
                let span = self.at + open..self.at + close;
                let end = self.at + close + closing;
                self.out.push(Token {
                    kind: Kind::Quote,
                    folded: String::new(),
                    span,
                });
                let inner = &self.text[self.at + open..self.at + close];
                let stops = inner.ends_with(['.', '!', '?']);
                self.at = end;
                // A quotation that ends with a full stop ends the sentence, if a new one begins after it.
                let next = self.rest().trim_start_matches(' ');
                if stops && next.len() < self.rest().len() && next.starts_with(char::is_uppercase) {
                    self.push(Kind::Break, String::new(), 0);
                }
            } else if c == '\n' {
                self.push(Kind::Break, String::new(), length);
            } else if c.is_whitespace() || c.is_control() {
                self.at += length;
            } else if c.is_alphanumeric() {
                self.word();
            } else {
                self.mark(c);
            }
        }
    }

    /// If a quotation begins here: the length of its opening, where it closes, and the length of what closes it.
    fn quoted(&self, c: char) -> Option<(usize, usize, usize)> {
        let close = match c {
            '"' => '"',
            '“' | '„' => '”',
            // Some open with what closes.
            '”' if !self.text[..self.at].ends_with(char::is_alphanumeric) => '"',
            '«' => '»',
            '‘' => '’',
            '`' => '`',
            // An apostrophe within a word opens nothing.
            '\'' if !self.text[..self.at].ends_with(char::is_alphanumeric) => '\'',
            '<' if self.rest().starts_with("<<") => '>',
            _ => return None,
        };
        let open = if c == '<' { 2 } else { c.len_utf8() };
        let mut bound = self.rest().len().min(LONGEST_QUOTE);
        while !self.rest().is_char_boundary(bound) {
            bound -= 1;
        }
        let inner = self.rest().get(open..bound)?;
        let ends = inner.char_indices().find(|&(i, d)| {
            d == '\n'
                || (d == close
                    && (!matches!(close, '\'' | '’')
                        || !inner[i + d.len_utf8()..].starts_with(char::is_alphanumeric)))
        });
        match ends {
            Some((i, d)) if d == close && i > 0 => {
                let double = c == '<' && inner[i..].starts_with(">>");
                let closing = if double { 2 } else { d.len_utf8() };
                Some((open, open + i, closing))
            }
            _ => None,
        }
    }

    fn word(&mut self) {
        let rest = self.rest();
        // P.S. and its kin are one word.
        let initials: usize = rest
            .as_bytes()
            .chunks(2)
            .take_while(|pair| pair.len() == 2 && pair[0].is_ascii_alphabetic() && pair[1] == b'.')
            .count();
        if initials >= 1
            && rest.as_bytes()[0].is_ascii_alphabetic()
            && rest
                .as_bytes()
                .get(2 * initials)
                .is_some_and(u8::is_ascii_alphabetic)
            && !rest
                .as_bytes()
                .get(2 * initials + 1)
                .is_some_and(u8::is_ascii_alphanumeric)
        {
            let length = 2 * initials + 1;
            let folded = fold(&rest[..length]);
            self.push(Kind::Word, folded, length);
            return;
        }
        if initials >= 2 {
            let folded = fold(&rest[..2 * initials - 1]);
            self.push(Kind::Word, folded, 2 * initials);
            return;
        }
        let digits = rest.starts_with(|c: char| c.is_ascii_digit());
        let mut length = 0;
        for (i, c) in rest.char_indices() {
            let inside = if digits {
                c.is_ascii_digit() || (matches!(c, ',' | '.') && thousands(&rest[i + 1..]))
            } else {
                c.is_alphanumeric()
                    || (matches!(c, '\'' | '’') && rest[i + c.len_utf8()..].starts_with(char::is_alphabetic))
            };
            if !inside {
                break;
            }
            length = i + c.len_utf8();
        }
        let word = &rest[..length];
        let folded = if length > LONGEST_WORD {
            String::new()
        } else if digits {
            word.replace([',', '.'], "")
        } else {
            fold(word)
        };
        self.push(Kind::Word, folded, length);
    }

    fn mark(&mut self, c: char) {
        let length = c.len_utf8();
        let between = |text: Option<char>| text.is_some_and(|c| c.is_ascii_digit());
        if c == '–'
            && between(self.text[..self.at].chars().next_back())
            && between(self.rest().chars().nth(1))
        {
            self.push(Kind::Mark, "-".to_owned(), length);
            return;
        }
        let before = self.at;
        let numbered = c == '.'
            && self.out.len() == self.sentence + 1
            && self.out[self.sentence].folded.bytes().all(|b| b.is_ascii_digit());
        if numbered {
            // The number of an item: what counts is what follows.
            self.out.pop();
            self.at += length;
            return;
        }
        if matches!(c, '-' | '*' | '•' | '#' | '+') && self.out.len() == self.sentence {
            self.at += length;
            return;
        }
        let ends = matches!(c, '.' | '!' | '?' | ';' | ':' | '…' | '(' | ')' | '—' | '–');
        let given = c == ':' && self.given_follows();
        let kind = if ends || matches!(c, '¿' | '¡') {
            Kind::Break
        } else {
            Kind::Mark
        };
        self.push(kind, c.to_string(), length);
        if given {
            let rest = &self.text[self.at..];
            let length = rest.find("\n\n").unwrap_or(rest.len());
            self.push(Kind::Break, String::new(), length);
        }
        debug_assert!(self.at > before, "every step goes on");
    }

    /// Whether what comes after the colon that is read now is a text to work on.
    fn given_follows(&self) -> bool {
        let sentence = &self.out[self.sentence..];
        let Some(last) = sentence.last() else { return false };
        // What is in quotes is left out anyway, and more may follow it.
        if self.rest()[1..]
            .trim_start()
            .starts_with(['"', '“', '«', '\'', '‘', '`'])
        {
            return false;
        }
        if sentence.len() <= 2 && LABELS.contains(&last.folded.as_str()) {
            return true;
        }
        let works = |token: &Token| WORKS_ON.iter().any(|verb| token.folded.starts_with(verb));
        sentence.iter().take(6).any(works) && !RULES.contains(&last.folded.as_str())
    }
}

/// Whether three digits and no more follow, as in 1,000.
fn thousands(rest: &str) -> bool {
    let bytes = rest.as_bytes();
    bytes.len() >= 3
        && bytes[..3].iter().all(u8::is_ascii_digit)
        && !bytes.get(3).is_some_and(u8::is_ascii_digit)
}
