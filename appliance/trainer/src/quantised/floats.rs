//! F32, F16, BF16.

use super::each_block;

pub fn f32(bytes: &[u8], values: &mut [f32]) {
    each_block(bytes, values, |bytes: &[u8; 4], value: &mut [f32; 1]| {
        value[0] = f32::from_le_bytes(*bytes)
    });
}

pub fn f16(bytes: &[u8], values: &mut [f32]) {
    each_block(bytes, values, |bytes: &[u8; 2], value: &mut [f32; 1]| {
        value[0] = from_f16(u16::from_le_bytes(*bytes));
    });
}

pub fn bf16(bytes: &[u8], values: &mut [f32]) {
    each_block(bytes, values, |bytes: &[u8; 2], value: &mut [f32; 1]| {
        value[0] = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    });
}

/// The value of a half-precision number, without a branch.
#[inline(always)]
pub fn from_f16(half: u16) -> f32 {
    /// Moves the exponent from half's bias (15) to single's (127). Exact for subnormal numbers too.
    const REBIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7fff) << 13;
    let finite = (f32::from_bits(magnitude) * REBIAS).to_bits();
    // Infinity and not-a-number have the highest exponent.
    let special = if magnitude >= 0x7c00 << 13 { 0x7f80_0000 } else { 0 };
    f32::from_bits(finite | special | sign)
}

/// The half-precision number nearest to `value`, of two the even one; the largest for what is larger.
pub fn to_f16(value: f32) -> u16 {
    const LARGEST: u16 = 0x7bff;
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return 0x7e00;
    }
    let half = if magnitude < 113 << 23 {
        // Below 2^-14 a multiple of 2^-24: adding 2^23 rounds to one.
        (f32::from_bits(magnitude) * 16_777_216.0 + 8_388_608.0).to_bits() & 0x7f_ffff
    } else {
        let rebased = magnitude - (112 << 23);
        (rebased + 0xfff + (rebased >> 13 & 1)) >> 13
    };
    sign | u16::try_from(half).unwrap_or(LARGEST).min(LARGEST)
}

/// The upper half of the single-precision number nearest to `value` that has no lower one.
pub fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return 0x7fc0;
    }
    // What would round to infinity stays the largest finite number.
    let rounded = (bits & 0x7fff_ffff)
        .saturating_add(0x7fff + (bits >> 16 & 1))
        .min(0x7f7f_ffff);
    ((rounded | bits & 0x8000_0000) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_halves_are_the_nearest() {
        let value = |half: u16| f32::from_bits(u32::from(half) << 16);
        for half in [0x0000, 0x0001, 0x3f80, 0x3f81, 0xbf80, 0xc2a5, 0x7f7e] {
            let (here, next) = (value(half), value(half + 1));
            assert_eq!(to_bf16(here), half);
            assert_eq!(to_bf16(here + (next - here) * 0.5), half + half % 2, "{half:#x}");
            assert_eq!(to_bf16(here + (next - here) * 0.75), half + 1);
        }
        assert_eq!(
            [f32::MAX, f32::MIN, f32::INFINITY].map(to_bf16),
            [0x7f7f, 0xff7f, 0x7f7f]
        );
        assert!(value(to_bf16(f32::NAN)).is_nan());
    }

    #[test]
    fn half_precision_in_every_range() {
        let cases = [
            (0x0000, 0.0),
            (0x0001, 2f32.powi(-24)),
            (0x03ff, 1023.0 * 2f32.powi(-24)),
            (0x0400, 2f32.powi(-14)),
            (0x3c00, 1.0),
            (0x3555, 0.333_251_95),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(from_f16(bits), value, "{bits:#x}");
        }
        for bits in (0..0x7c00).chain(0x8000..0xfc00) {
            assert_eq!(to_f16(from_f16(bits)), bits);
            if bits & 0x7fff == 0x7bff {
                continue;
            }
            // Halfway to the next: the even one, whichever way that is.
            let (here, next) = (from_f16(bits), from_f16(bits + 1));
            let middle = here + (next - here) / 2.0;
            assert_eq!(to_f16(middle), bits + bits % 2, "{bits:#x}");
            assert_eq!(to_f16(here + (next - here) * 0.49), bits);
            assert_eq!(to_f16(here + (next - here) * 0.51), bits + 1);
        }
        assert_eq!([1e6, -1e6, f32::INFINITY].map(to_f16), [0x7bff, 0xfbff, 0x7bff]);
        assert!(from_f16(to_f16(f32::NAN)).is_nan());
        assert!(from_f16(0x7e00).is_nan() && from_f16(0xfc01).is_nan());
        assert!(from_f16(0x8000) == 0.0 && from_f16(0x8000).is_sign_negative());
    }
}
