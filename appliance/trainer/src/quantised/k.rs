//! `Q4_K`, `Q5_K`, `Q6_K`: blocks of 256 with scales that are themselves quantised.

use super::{each_block, half, part};

pub fn q4(bytes: &[u8], values: &mut [f32]) {
    each_block(bytes, values, |block: &[u8; 144], values: &mut [f32; 256]| {
        let scales = Scales::of(block);
        let numbers = part::<128, 144>(block, 16);
        for (pair, values) in values.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            let (low, high) = values.split_at_mut(32);
            let bytes = &numbers[32 * pair..][..32];
            let ((d0, m0), (d1, m1)) = (scales.get(2 * pair), scales.get(2 * pair + 1));
            for j in 0..32 {
                low[j] = f32::from(bytes[j] & 0xf) * d0 - m0;
                high[j] = f32::from(bytes[j] >> 4) * d1 - m1;
            }
        }
    });
}

pub fn q5(bytes: &[u8], values: &mut [f32]) {
    each_block(bytes, values, |block: &[u8; 176], values: &mut [f32; 256]| {
        let scales = Scales::of(block);
        let fifth = part::<32, 176>(block, 16);
        let numbers = part::<128, 176>(block, 48);
        for (pair, values) in values.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            let (low, high) = values.split_at_mut(32);
            let bytes = &numbers[32 * pair..][..32];
            let ((d0, m0), (d1, m1)) = (scales.get(2 * pair), scales.get(2 * pair + 1));
            for j in 0..32 {
                let bits = fifth[j] >> (2 * pair);
                low[j] = f32::from(bytes[j] & 0xf | (bits & 1) << 4) * d0 - m0;
                high[j] = f32::from(bytes[j] >> 4 | (bits & 2) << 3) * d1 - m1;
            }
        }
    });
}

pub fn q6(bytes: &[u8], values: &mut [f32]) {
    each_block(bytes, values, |block: &[u8; 210], values: &mut [f32; 256]| {
        let scale = half(block, 208);
        let scales = part::<16, 210>(block, 192).map(|byte| scale * f32::from(byte.cast_signed()));
        for (part128, values) in values.as_chunks_mut::<128>().0.iter_mut().enumerate() {
            let low = &block[64 * part128..][..64];
            let high = &block[128 + 32 * part128..][..32];
            let scales = &scales[8 * part128..][..8];
            for (quarter, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                // The first two quarters are the lower halves of the bytes, the other two the upper halves.
                let (low, nibble) = (&low[32 * (quarter % 2)..][..32], 4 * (quarter / 2));
                for (sixteen, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                    let scale = scales[2 * quarter + sixteen];
                    let (low, high) = (&low[16 * sixteen..][..16], &high[16 * sixteen..][..16]);
                    for j in 0..16 {
                        let number = low[j] >> nibble & 0xf | (high[j] >> (2 * quarter) & 3) << 4;
                        values[j] = (i32::from(number) - 32) as f32 * scale;
                    }
                }
            }
        }
    });
}

/// Scale and minimum of each run of a block of `Q4_K` or `Q5_K`.
pub fn scales(block: &[u8]) -> [(f32, f32); 8] {
    let head: &[u8; 16] = block.first_chunk().unwrap_or(&[0; 16]);
    let scales = Scales::of(head);
    std::array::from_fn(|run| scales.get(run))
}

/// Puts the multiples of the common scale and minimum of each run, of six bits each, into such a block.
pub fn put_scales(multiples: &[(u8, u8)], block: &mut [u8]) {
    let mut packed = [0; 12];
    for (run, &(scale, minimum)) in multiples.iter().enumerate().take(8) {
        if run < 4 {
            packed[run] |= scale & 63;
            packed[run + 4] |= minimum & 63;
        } else {
            packed[run + 4] = scale & 0xf | minimum << 4;
            packed[run - 4] |= scale >> 4 << 6;
            packed[run] |= minimum >> 4 << 6;
        }
    }
    block[4..16].copy_from_slice(&packed);
}

/// Scales and minima of eight runs of 32, of six bits each, packed in twelve bytes after two common factors.
struct Scales<'a> {
    scale: f32,
    minimum: f32,
    packed: &'a [u8; 12],
}

impl<'a> Scales<'a> {
    #[inline(always)]
    fn of<const BYTES: usize>(block: &'a [u8; BYTES]) -> Self {
        Self {
            scale: half(block, 0),
            minimum: half(block, 2),
            packed: part(block, 4),
        }
    }

    /// Scale and minimum of run `j`.
    #[inline(always)]
    fn get(&self, j: usize) -> (f32, f32) {
        let packed = self.packed;
        let (scale, minimum) = if j < 4 {
            (packed[j] & 63, packed[j + 4] & 63)
        } else {
            (
                packed[j + 4] & 0xf | packed[j - 4] >> 6 << 4,
                packed[j + 4] >> 4 | packed[j] >> 6 << 4,
            )
        };
        (self.scale * f32::from(scale), self.minimum * f32::from(minimum))
    }
}
