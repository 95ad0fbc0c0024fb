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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(from_f16(0x7e00).is_nan() && from_f16(0xfc01).is_nan());
        assert!(from_f16(0x8000) == 0.0 && from_f16(0x8000).is_sign_negative());
    }
}
