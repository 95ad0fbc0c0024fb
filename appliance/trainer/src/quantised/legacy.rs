//! `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`, `Q8_0`: blocks of 32 with one scale, and the odd ones with one minimum.
//!
//! Of a byte of two numbers, the lower half is element j, the upper half element j + 16.

use super::{each_block, half, part};

pub fn q4_0(bytes: &[u8], values: &mut [f32]) {
    each_block(bytes, values, |block: &[u8; 18], values: &mut [f32; 32]| {
        let scale = half(block, 0);
        nibbles(part(block, 2), 0, values, scale, -8.0 * scale);
    });
}

pub fn q4_1(bytes: &[u8], values: &mut [f32]) {
    each_block(bytes, values, |block: &[u8; 20], values: &mut [f32; 32]| {
        nibbles(part(block, 4), 0, values, half(block, 0), half(block, 2));
    });
}

pub fn q5_0(bytes: &[u8], values: &mut [f32]) {
    each_block(bytes, values, |block: &[u8; 22], values: &mut [f32; 32]| {
        let scale = half(block, 0);
        nibbles(
            part(block, 6),
            u32::from_le_bytes(*part(block, 2)),
            values,
            scale,
            -16.0 * scale,
        );
    });
}

pub fn q5_1(bytes: &[u8], values: &mut [f32]) {
    each_block(bytes, values, |block: &[u8; 24], values: &mut [f32; 32]| {
        let fifth = u32::from_le_bytes(*part(block, 4));
        nibbles(part(block, 8), fifth, values, half(block, 0), half(block, 2));
    });
}

pub fn q8_0(bytes: &[u8], values: &mut [f32]) {
    each_block(bytes, values, |block: &[u8; 34], values: &mut [f32; 32]| {
        let scale = half(block, 0);
        for (value, &byte) in values.iter_mut().zip(part::<32, 34>(block, 2)) {
            *value = f32::from(byte.cast_signed()) * scale;
        }
    });
}

/// Numbers of four bits, the fifth bit of element j being bit j of `fifth`: `number * scale + minimum`.
#[inline(always)]
fn nibbles(bytes: &[u8; 16], fifth: u32, values: &mut [f32; 32], scale: f32, minimum: f32) {
    let (low, high) = values.split_at_mut(16);
    for j in 0..16 {
        let byte = i32::from(bytes[j]);
        let bits = [fifth >> j & 1, fifth >> (j + 16) & 1].map(|bit| (bit << 4).cast_signed());
        low[j] = (byte & 0xf | bits[0]) as f32 * scale + minimum;
        high[j] = (byte >> 4 | bits[1]) as f32 * scale + minimum;
    }
}
