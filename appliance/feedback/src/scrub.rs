//! What no model may see: secrets in texts, found by named rules and replaced by `[NAME]`, in English and Spanish.
//!
//! The rules find what looks like a secret. What does not look like one stays: nobody should write a password into a chat
//! and count on this.

use std::borrow::Cow;
use std::collections::BTreeMap;

use regex::{Captures, Regex};

/// A rule as it is written. Where the expression has a group named `secret`, that alone is replaced.
struct Pattern {
    name: &'static str,
    expression: &'static str,
    /// What else must hold for the text that would be replaced.
    holds: fn(&str) -> bool,
}

/// In the order in which they are applied: what is surely a secret first.
const PATTERNS: &[Pattern] = &[
    Pattern {
        name: "pem",
        // One that does not end takes what may still belong to it.
        expression: r"-----BEGIN [A-Z0-9 ]{1,60}-----(?:[\s\S]*?-----END [A-Z0-9 ]{1,60}-----|[A-Za-z0-9+/=\s:,\\-]*)",
        holds: always,
    },
    Pattern {
        name: "json_web_token",
        expression: r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
        holds: always,
    },
    Pattern {
        name: "api_key",
        // By the beginnings that their makers gave them: OpenAI's and this appliance's own, GitHub, GitLab, Slack, AWS,
        // Google, Hugging Face, Stripe, npm, PyPI.
        expression: r"\b(?:sk-[A-Za-z0-9_-]{16,}|gh[opusr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|xox[abeoprs]-[A-Za-z0-9-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16}\b|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{20,}|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,})",
        holds: always,
    },
    Pattern {
        name: "authorization",
        expression: r"(?i)\b(?:bearer|basic)\s+(?P<secret>[A-Za-z0-9._~+/=-]{16,})",
        holds: mixed,
    },
    Pattern {
        name: "url_password",
        expression: r#"(?i)\b[a-z][a-z0-9+.-]{1,20}://[^\s/?#@:"'<>]{0,200}:(?P<secret>[^\s/?#@"'<>]{1,200})@"#,
        holds: always,
    },
    Pattern {
        name: "password",
        // "password: x", "the password is x", "contraseña = x", "mi clave es x"; not what only speaks of passwords.
        expression: r#"(?i)\b(?:pass(?:word|phrase|wd|code)|pwd|contraseñas?|contrasena|clave(?:\s+(?:secreta|de\s+acceso|privada))?|secret(?:[ _-]?key)?|secreto|api[ _-]?key|access[ _-]?(?:key|token)|token|pin)(?:["'`]?\s*[:=]\s*|\s+(?:is|was|es|era)\s*:?\s+)["'`]?(?P<secret>[^\s"'`,;]{3,200})"#,
        holds: no_word,
    },
    Pattern {
        name: "card_number",
        expression: r"\b[0-9](?:[ -]?[0-9]){12,18}\b",
        holds: card,
    },
    Pattern {
        name: "iban",
        expression: r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}\b",
        holds: iban,
    },
    Pattern {
        name: "long_token",
        // What has no name and looks like chance: 256 bits in hexadecimal, or a long mix of letters of both cases with
        // digits.
        expression: r"[A-Za-z0-9_+/-]{32,}={0,2}",
        holds: chance,
    },
];

/// The one that is used only where it is wanted.
const EMAIL: Pattern = Pattern {
    name: "email",
    expression: r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}\b",
    holds: always,
};

struct Rule {
    name: &'static str,
    expression: Regex,
    holds: fn(&str) -> bool,
}

/// The rules, ready to be used.
pub struct Scrubber {
    rules: Vec<Rule>,
}

impl Scrubber {
    /// All rules; those about e-mail addresses only if wanted.
    #[must_use]
    pub fn new(emails: bool) -> Self {
        let all = PATTERNS.iter().chain(emails.then_some(&EMAIL));
        let rules = all
            .filter_map(|pattern| {
                // Each is known to compile: a test compiles them all.
                let expression = Regex::new(pattern.expression).ok()?;
                Some(Rule {
                    name: pattern.name,
                    expression,
                    holds: pattern.holds,
                })
            })
            .collect();
        Self { rules }
    }

    /// The text without what the rules find; how often each found something is added to `found`.
    #[must_use]
    pub fn scrub(&self, text: &str, found: &mut BTreeMap<&'static str, u64>) -> String {
        let mut text = Cow::Borrowed(text);
        for rule in &self.rules {
            let after = rule.expression.replace_all(&text, |captures: &Captures<'_>| {
                let Some(whole) = captures.get(0) else {
                    return String::new();
                };
                let secret = captures.name("secret").unwrap_or(whole);
                if !(rule.holds)(secret.as_str()) {
                    return whole.as_str().to_owned();
                }
                *found.entry(rule.name).or_default() += 1;
                let (from, to) = (secret.start() - whole.start(), secret.end() - whole.start());
                let whole = whole.as_str();
                format!("{}[{}]{}", &whole[..from], rule.name.to_uppercase(), &whole[to..])
            });
            if let Cow::Owned(after) = after {
                text = Cow::Owned(after);
            }
        }
        text.into_owned()
    }

    /// Whether anything is left of a scrubbed text besides what stands for secrets.
    #[must_use]
    pub fn says_something(&self, text: &str) -> bool {
        let mut rest = text.to_owned();
        for rule in &self.rules {
            rest = rest.replace(&format!("[{}]", rule.name.to_uppercase()), " ");
        }
        rest.chars().any(char::is_alphanumeric)
    }

    /// The rules' names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.rules.iter().map(|rule| rule.name)
    }
}

fn always(_: &str) -> bool {
    true
}

/// Digits and letters together, as in no word.
fn mixed(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_digit()) && text.bytes().any(|b| b.is_ascii_alphabetic())
}

/// Not a word that goes on with the sentence: "the password is wrong", "el token es válido".
fn no_word(text: &str) -> bool {
    let text = text.trim_end_matches(['.', '!', '?', ')', ']', ':']);
    // What an earlier rule put there.
    !text.starts_with('[') && text.len() >= 3 && !text.chars().all(|c| c.is_lowercase())
}

fn card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit * 2) {
            (0, _) => *digit,
            (_, twice) if twice > 9 => twice - 9,
            (_, twice) => twice,
        })
        .sum();
    (13..=19).contains(&digits.len()) && sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != 0)
}

/// ISO 13616: the country's part behind, letters as two digits, the remainder by 97 is 1.
fn iban(text: &str) -> bool {
    let text: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
    if !(15..=34).contains(&text.len()) {
        return false;
    }
    let (head, tail) = text.split_at(4);
    let rest = tail.iter().chain(head).fold(0_u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte.saturating_sub(b'A')) + 10) % 97,
    });
    rest == 1
}

fn chance(text: &str) -> bool {
    let count = |of: fn(&u8) -> bool| text.bytes().filter(of).count();
    let digits = count(u8::is_ascii_digit);
    let hex = text.bytes().all(|b| b.is_ascii_hexdigit());
    if hex {
        return digits >= 6 && digits < text.len();
    }
    digits >= 4 && count(u8::is_ascii_uppercase) >= 4 && count(u8::is_ascii_lowercase) >= 4
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;
