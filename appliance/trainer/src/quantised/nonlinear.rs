//! `IQ4_NL`: blocks of 32 whose numbers of four bits stand for the values of a table.

use super::{each_block, half, part};

/// What the sixteen numbers stand for.
pub const VALUES: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

pub fn iq4_nl(bytes: &[u8], values: &mut [f32]) {
    each_block(bytes, values, |block: &[u8; 18], values: &mut [f32; 32]| {
        let scale = half(block, 0);
        let table = VALUES.map(|value| value * scale);
        let (low, high) = values.split_at_mut(16);
        for (j, &byte) in part::<16, 18>(block, 2).iter().enumerate() {
            low[j] = table[usize::from(byte & 0xf)];
            high[j] = table[usize::from(byte >> 4)];
        }
    });
}
