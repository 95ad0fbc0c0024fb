//! Exact numbers, and how people write them.

/// Most digits of a number that is read: the exact arithmetic beyond gives up soon anyway.
const DIGITS: usize = 24;
/// Most decimals of a number that is written.
const DECIMALS: u32 = 6;

/// An exact number: a reduced fraction with a positive denominator. Operations give up (`None`) on overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rational {
    num: i128,
    den: i128,
}

impl Rational {
    /// `num / den`.
    pub fn new(num: i128, den: i128) -> Option<Self> {
        if den == 0 || num == i128::MIN || den == i128::MIN {
            return None;
        }
        let (mut a, mut b) = (num.abs(), den.abs());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let sign = den.signum();
        Some(Self {
            num: num / a * sign,
            den: den / a * sign,
        })
    }

    /// A whole number.
    pub const fn whole(num: i128) -> Self {
        Self { num, den: 1 }
    }

    pub fn add(self, other: Self) -> Option<Self> {
        let left = self.num.checked_mul(other.den)?;
        let right = other.num.checked_mul(self.den)?;
        Self::new(left.checked_add(right)?, self.den.checked_mul(other.den)?)
    }

    pub fn sub(self, other: Self) -> Option<Self> {
        self.add(other.negated())
    }

    pub fn mul(self, other: Self) -> Option<Self> {
        Self::new(self.num.checked_mul(other.num)?, self.den.checked_mul(other.den)?)
    }

    pub fn div(self, other: Self) -> Option<Self> {
        Self::new(self.num.checked_mul(other.den)?, self.den.checked_mul(other.num)?)
    }

    /// To a whole power between -64 and 64.
    pub fn pow(self, exponent: Self) -> Option<Self> {
        let exponent = exponent.as_whole().filter(|e| e.abs() <= 64)?;
        let times = u32::try_from(exponent.abs()).ok()?;
        let num = self.num.checked_pow(times)?;
        let den = self.den.checked_pow(times)?;
        if exponent < 0 {
            Self::new(den, num)
        } else {
            Self::new(num, den)
        }
    }

    /// The exact square root, where there is one.
    pub fn root(self) -> Option<Self> {
        let exact = |n: i128| {
            let root = n.checked_isqrt()?;
            (root * root == n).then_some(root)
        };
        Self::new(exact(self.num)?, exact(self.den)?)
    }

    pub const fn negated(self) -> Self {
        Self {
            num: -self.num,
            den: self.den,
        }
    }

    pub const fn abs(self) -> Self {
        Self {
            num: self.num.abs(),
            den: self.den,
        }
    }

    /// The number, if it is whole.
    pub const fn as_whole(self) -> Option<i128> {
        if self.den == 1 { Some(self.num) } else { None }
    }

    /// Whether it is less than `other`; `None` when that cannot be said exactly.
    pub fn is_less(self, other: Self) -> Option<bool> {
        Some(self.num.checked_mul(other.den)? < other.num.checked_mul(self.den)?)
    }

    /// Whether `shown`, written with so many decimals, stands for this number: equal, or as near as its decimals
    /// allow. What cannot be compared exactly counts as right.
    pub fn is_shown_as(self, shown: Self, decimals: u32) -> bool {
        if self == shown {
            return true;
        }
        self.rounds_to(shown, decimals).unwrap_or(true)
    }

    fn rounds_to(self, shown: Self, decimals: u32) -> Option<bool> {
        let unit = Self::whole(10_i128.checked_pow(decimals)?);
        if self.mul(unit)?.as_whole().is_some() {
            return Some(false);
        }
        let off = self.sub(shown)?.abs().mul(unit)?;
        // Cut decimals are as common as rounded ones; a cut whole number is an error.
        Some(if decimals == 0 {
            !Self { num: 1, den: 2 }.is_less(off)?
        } else {
            off.is_less(Self::whole(1))?
        })
    }

    /// Whether `shown` is within a twentieth of it.
    pub fn is_about(self, shown: Self) -> bool {
        let near = || {
            let off = self.sub(shown)?.abs().mul(Self::whole(20))?;
            Some(!self.abs().is_less(off)?)
        };
        near().unwrap_or(true)
    }

    /// Written out in this way: exactly where six decimals are enough, else rounded.
    pub fn show(self, look: Look) -> Option<String> {
        let exact = (0..=DECIMALS).find(|&d| {
            10_i128
                .checked_pow(d)
                .and_then(|unit| self.num.checked_mul(unit))
                .is_some_and(|n| n % self.den == 0)
        });
        let decimals = exact.unwrap_or(look.decimals.clamp(2, DECIMALS));
        let unit = 10_i128.checked_pow(decimals)?;
        let twice = self.num.abs().checked_mul(unit)?.checked_mul(2)?;
        let scaled = twice.checked_add(self.den)? / self.den.checked_mul(2)?;
        let mut text = String::new();
        if self.num < 0 {
            text.push('-');
        }
        let whole = (scaled / unit).to_string();
        for (at, digit) in whole.chars().enumerate() {
            if at > 0 && look.grouped && (whole.len() - at).is_multiple_of(3) {
                text.push(look.style.group());
            }
            text.push(digit);
        }
        if decimals > 0 {
            let rest = (scaled % unit).to_string();
            text.push(look.style.point());
            text.extend(std::iter::repeat_n(
                '0',
                (decimals as usize).saturating_sub(rest.len()),
            ));
            text.push_str(&rest);
        }
        Some(text)
    }
}

/// Which sign separates decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// 1,234.5
    Point,
    /// 1.234,5
    Comma,
}

impl Style {
    /// Both, the more likely one for texts in Spanish last.
    pub const ALL: [Self; 2] = [Self::Point, Self::Comma];

    const fn point(self) -> char {
        match self {
            Self::Point => '.',
            Self::Comma => ',',
        }
    }

    const fn group(self) -> char {
        match self {
            Self::Point => ',',
            Self::Comma => '.',
        }
    }
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub style: Style,
    /// Whether thousands are separated.
    pub grouped: bool,
    /// Decimals a rounded number shows.
    pub decimals: u32,
}

/// A number as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub value: Rational,
    pub look: Look,
}

/// The number that `text` writes in this style, if it is one there.
pub(crate) fn read(text: &str, style: Style) -> Option<Written> {
    if text.len() > DIGITS * 2 {
        return None;
    }
    let (whole, fraction) = match text.split_once(style.point()) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let groups: Vec<&str> = whole.split(style.group()).collect();
    let grouped = groups.len() > 1;
    if grouped {
        let (first, rest) = groups.split_first()?;
        let leading = (1..=3).contains(&first.len()) && !first.starts_with('0');
        if !leading || rest.iter().any(|group| group.len() != 3) {
            return None;
        }
    }
    let fraction = fraction.unwrap_or_default();
    let digits: String = groups
        .iter()
        .flat_map(|group| group.chars())
        .chain(fraction.chars())
        .collect();
    if digits.is_empty() || digits.len() > DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let decimals = u32::try_from(fraction.len()).ok()?;
    Some(Written {
        value: Rational::new(digits.parse().ok()?, 10_i128.checked_pow(decimals)?)?,
        look: Look {
            style,
            grouped,
            decimals,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str, style: Style) -> Option<(i128, i128)> {
        read(text, style).map(|written| (written.value.num, written.value.den))
    }

    #[test]
    fn numbers_are_read_in_both_styles() {
        assert_eq!(value("1,234.5", Style::Point), Some((2469, 2)));
        assert_eq!(value("1.234,5", Style::Comma), Some((2469, 2)));
        assert_eq!(value("1,234", Style::Point), Some((1234, 1)));
        assert_eq!(value("1,234", Style::Comma), Some((617, 500)));
        for (text, style) in [
            ("1,23", Style::Point),
            ("1.2.3", Style::Point),
            ("1,00,000", Style::Point),
            ("", Style::Point),
            (".", Style::Point),
            ("0,500", Style::Point),
        ] {
            assert_eq!(value(text, style), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_written_as_they_were_read() {
        let look = |text| read(text, Style::Point).unwrap().look;
        let show = |num, den, text| Rational::new(num, den).unwrap().show(look(text)).unwrap();
        assert_eq!(show(1_234_567, 1, "9,999"), "1,234,567");
        assert_eq!(show(1_234_567, 1, "9"), "1234567");
        assert_eq!(show(10, 3, "1.234"), "3.333");
        assert_eq!(show(-5, 4, "1"), "-1.25");
        assert_eq!(show(2, 3, "1"), "0.67");
        assert_eq!(show(1, 20, "1"), "0.05");
    }

    #[test]
    fn rounding_is_right_and_near_misses_are_not() {
        let third = Rational::new(10, 3).unwrap();
        let is = |text: &str| {
            let written = read(text, Style::Point).unwrap();
            third.is_shown_as(written.value, written.look.decimals)
        };
        assert!(is("3.33") && is("3.3333") && is("3"));
        assert!(!is("3.35") && !is("4") && !is("3.5"));
        let exact = Rational::whole(12);
        assert!(!exact.is_shown_as(Rational::whole(13), 0));
    }

    proptest! {
        #[test]
        fn arithmetic_never_panics(a in any::<i128>(), b in any::<i128>(), c in any::<i128>(), d in any::<i128>()) {
            if let (Some(x), Some(y)) = (Rational::new(a, b), Rational::new(c, d)) {
                let _ = (x.add(y), x.sub(y), x.mul(y), x.div(y), x.pow(y), x.root(), x.is_less(y));
                let _ = (x.is_shown_as(y, 3), x.is_about(y));
                let _ = x.show(Look { style: Style::Comma, grouped: true, decimals: 40 });
            }
        }

        #[test]
        fn what_is_written_is_read_back(n in -1_000_000_000_i128..1_000_000_000, d in 0_u32..6) {
            let number = Rational::new(n, 10_i128.pow(d)).unwrap();
            for style in Style::ALL {
                let text = number.abs().show(Look { style, grouped: true, decimals: d }).unwrap();
                prop_assert_eq!(read(&text, style).unwrap().value, number.abs());
            }
        }
    }
}
