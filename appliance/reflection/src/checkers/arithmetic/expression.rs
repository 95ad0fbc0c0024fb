//! The value of tokens that form an expression.

use super::lex::{Kind, Token};
use super::number::{Look, Rational, Style, Written, read};

/// Most tokens of an expression; it also bounds how deep parentheses nest.
pub(crate) const TOKENS: usize = 64;

/// What an expression is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    pub value: Rational,
    /// Operators in it.
    pub operators: usize,
    /// How its numbers are written: the most decimals, and whether any has its thousands separated.
    pub look: Look,
    /// A single number: whether it is a percentage.
    pub percent: bool,
    /// A single number or a plain fraction.
    pub single: bool,
}

/// The value of `tokens`, if all of them form one expression.
pub(crate) fn evaluate(text: &str, tokens: &[Token], style: Style) -> Option<Value> {
    if tokens.is_empty() || tokens.len() > TOKENS {
        return None;
    }
    let mut parser = Parser {
        text,
        tokens,
        at: 0,
        operators: 0,
        percent_of: false,
        look: Look {
            style,
            grouped: false,
            decimals: 0,
        },
    };
    let (value, percent) = parser.sum()?;
    // "15% of 80 + 20" is read one way by some and another way by others.
    let clear = !parser.percent_of || parser.operators == 1;
    (parser.at == tokens.len() && clear).then_some(Value {
        value,
        operators: parser.operators,
        look: parser.look,
        percent: percent && parser.operators == 0,
        single: parser.operators == 0,
    })
}

struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
    operators: usize,
    percent_of: bool,
    look: Look,
}

impl Parser<'_> {
    fn peek(&self) -> Option<Kind> {
        self.tokens.get(self.at).map(|token| token.kind)
    }

    fn take(&mut self, kind: Kind) -> bool {
        let is = self.peek() == Some(kind);
        self.at += usize::from(is);
        is
    }

    /// A sum and whether it is a bare percentage.
    fn sum(&mut self) -> Option<(Rational, bool)> {
        let (mut value, percent) = self.product()?;
        loop {
            let minus = match self.peek() {
                Some(Kind::Plus) => false,
                Some(Kind::Minus) => true,
                _ => return Some((value, percent)),
            };
            self.at += 1;
            self.operators += 1;
            let (next, also) = self.product()?;
            // "50 + 10%" means 55 to most, and not 50.1.
            if also != percent {
                return None;
            }
            value = if minus { value.sub(next)? } else { value.add(next)? };
        }
    }

    fn product(&mut self) -> Option<(Rational, bool)> {
        let (mut value, mut percent) = self.power()?;
        loop {
            match self.peek() {
                Some(Kind::Times) => {
                    self.at += 1;
                    value = value.mul(self.power()?.0)?;
                }
                Some(Kind::Divide) => {
                    self.at += 1;
                    value = value.div(self.power()?.0)?;
                }
                Some(Kind::PercentOf) => {
                    self.at += 1;
                    self.percent_of = true;
                    value = value.div(Rational::whole(100))?.mul(self.power()?.0)?;
                }
                _ => return Some((value, percent)),
            }
            self.operators += 1;
            percent = false;
        }
    }

    fn power(&mut self) -> Option<(Rational, bool)> {
        let negative = self.take(Kind::Minus);
        let (mut value, mut percent) = self.atom()?;
        let exponent = match self.peek() {
            Some(Kind::Square) => Rational::whole(2),
            Some(Kind::Cube) => Rational::whole(3),
            Some(Kind::Power) => {
                self.at += 1;
                let negative = self.take(Kind::Minus);
                let exponent = self.atom()?.0;
                self.at -= 1;
                if negative { exponent.negated() } else { exponent }
            }
            _ => return Some((if negative { value.negated() } else { value }, percent)),
        };
        self.at += 1;
        self.operators += 1;
        // -2² and 2^3^2 are read in two ways.
        if negative || percent || matches!(self.peek(), Some(Kind::Power | Kind::Square | Kind::Cube)) {
            return None;
        }
        value = value.pow(exponent)?;
        percent = false;
        Some((value, percent))
    }

    fn atom(&mut self) -> Option<(Rational, bool)> {
        let token = *self.tokens.get(self.at)?;
        self.at += 1;
        match token.kind {
            Kind::Number => {
                let mut digits = &self.text[token.start..token.end];
                let whole;
                if digits.starts_with('.') {
                    whole = format!("0{digits}");
                    digits = &whole;
                }
                let Written { value, look } = read(digits, self.look.style)?;
                self.look.grouped |= look.grouped;
                self.look.decimals = self.look.decimals.max(look.decimals);
                let percent = self.take(Kind::Percent);
                let value = if percent {
                    value.div(Rational::whole(100))?
                } else {
                    value
                };
                self.take(Kind::Word);
                Some((value, percent))
            }
            Kind::Open => {
                let (value, percent) = self.sum()?;
                self.take(Kind::Close).then_some((value, percent))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lex::lex;
    use super::*;

    fn value(text: &str) -> Option<String> {
        let tokens = lex(text);
        let value = evaluate(text, &tokens, Style::Point)?;
        value.value.show(value.look)
    }

    #[test]
    fn expressions_have_their_value() {
        for (text, expected) in [
            ("3 + 4 * 2", "11"),
            ("(3 + 4) × 2", "14"),
            ("2^10", "1024"),
            ("5²", "25"),
            ("1/2 + 1/4", "0.75"),
            ("15% of 80", "12"),
            ("15 % de 80", "12"),
            ("12 times 7", "84"),
            ("6 por 7", "42"),
            ("20 entre 4", "5"),
            ("100 divided by 8", "12.5"),
            ("1,000 - 1", "999"),
            ("-3 + 5", "2"),
            ("2 ** 3", "8"),
            (r"12 \times 7", "84"),
            ("5 squared", "25"),
            ("3 elevado a 2", "9"),
            ("$3.50 * 4", "14"),
            ("3x4", "12"),
            ("3 apples + 4 apples", "7"),
        ] {
            assert_eq!(value(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_unclear_has_none() {
        for text in [
            "3 +",
            "+",
            "2x + 3",
            "50 + 10%",
            "-2^2",
            "2^3^2",
            "1.2.3 + 4",
            "10:30 + 2:00",
            "(3 + 4",
            "3 / 0",
            "5 5",
            "15% of 80 + 20",
            "3rd + 4",
            "9^9^9",
            "99999999999999999999 ^ 60",
        ] {
            assert_eq!(value(text), None, "{text}");
        }
        assert_eq!(value(&"(".repeat(100_000)), None);
    }
}
