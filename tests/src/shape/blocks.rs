//! Random numbers in ggml's block formats, made as blocks and not by quantising floats: random payload below scales
//! that give the numbers the wished spread. A gigabyte takes about a second.

/// How the numbers of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, reason = "ggml's names")]
pub enum Kind {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8 bits and a scale for 32.
    Q8_0,
    /// 4 bits and a scale for 32.
    Q4_0,
    /// 4 bits through a table of 16 values and a scale for 32.
    IQ4_NL,
    /// 4 bits, scales and minima in blocks of 256.
    Q4K,
    /// 5 bits, scales and minima in blocks of 256.
    Q5K,
    /// 6 bits and scales in blocks of 256.
    Q6K,
}

impl Kind {
    /// ggml's number for it.
    #[must_use]
    pub fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::IQ4_NL => 20,
        }
    }

    /// Numbers in a block.
    #[must_use]
    pub fn block(self) -> usize {
        match self {
            Self::F32 | Self::F16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::IQ4_NL => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 | Self::IQ4_NL => 18,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Standard deviation of the numbers of a block with scale one and random payload. With minima (`Q4_K`, `Q5_K`)
    /// and a fixed sub-scale, see [`SUB_4`] and [`SUB_5`], the numbers lie around zero.
    fn unit(self) -> f32 {
        match self {
            // Uniform in -1 to 1.
            Self::F32 | Self::F16 => 0.577,
            // Uniform in -128 to 127, -8 to 7, and over the table.
            Self::Q8_0 => 73.9,
            Self::Q4_0 => 4.61,
            Self::IQ4_NL => 66.0,
            // Uniform in 0 to 15 times 8; 0 to 31 times 4; -32 to 31 times 4.
            Self::Q4K => 4.61 * 8.0,
            Self::Q5K => 9.23 * 4.0,
            Self::Q6K => 18.5 * 4.0,
        }
    }
}

/// Packed sub-scales of `Q4_K`: each scale 8, each minimum 60, which is 7.5 × 8, the middle of 0 to 15.
const SUB_4: [u8; 12] = [8, 8, 8, 8, 252, 252, 252, 252, 200, 200, 200, 200];
/// Packed sub-scales of `Q5_K`: each scale 4, each minimum 62, which is 15.5 × 4, the middle of 0 to 31.
const SUB_5: [u8; 12] = [4, 4, 4, 4, 254, 254, 254, 254, 228, 228, 228, 228];

/// Blocks with random numbers of one mean and spread.
pub struct Blocks {
    kind: Kind,
    mean: f32,
    /// Standard deviation over [`Kind::unit`].
    scale: f32,
    /// Scales a block may have, around [`Self::scale`]: real weights are not all alike.
    scales: [u16; 256],
    random: Random,
}

impl Blocks {
    /// Numbers of this mean (zero unless they are floats) and standard deviation; the same seed makes the same.
    pub fn new(kind: Kind, mean: f32, spread: f32, seed: u64) -> Self {
        let scale = spread / kind.unit();
        let scales = std::array::from_fn(|at| {
            let at = u8::try_from(at).unwrap_or(u8::MAX);
            half(scale * (0.75 + f32::from(at) / 510.0))
        });
        Self {
            kind,
            mean,
            scale,
            scales,
            random: Random(seed),
        }
    }

    /// Fills `buffer`, whose length is a multiple of a block's, with the next blocks.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        self.random.fill(buffer);
        for block in buffer.chunks_exact_mut(self.kind.block_bytes()) {
            self.finish(block);
        }
    }

    /// Makes a block of random bytes one of the wished kind: what decides its scale is drawn from bytes that the scale
    /// replaces.
    fn finish(&self, block: &mut [u8]) {
        // A sign for each block: the payload of most kinds is not quite centred, and the blocks' means cancel.
        let draw = |bytes: &[u8]| self.scales[usize::from(bytes[0])] | u16::from(bytes[1] & 0x80) << 8;
        match self.kind {
            Kind::F32 => {
                let value = self.mean + self.uniform(block);
                block.copy_from_slice(&value.to_le_bytes());
            }
            Kind::F16 => {
                let value = self.mean + self.uniform(block);
                block.copy_from_slice(&half(value).to_le_bytes());
            }
            Kind::Q8_0 | Kind::Q4_0 | Kind::IQ4_NL => {
                let scale = draw(block);
                block[..2].copy_from_slice(&scale.to_le_bytes());
            }
            Kind::Q4K | Kind::Q5K => {
                let scale = draw(block).to_le_bytes();
                block[..2].copy_from_slice(&scale);
                block[2..4].copy_from_slice(&scale);
                block[4..16].copy_from_slice(if self.kind == Kind::Q4K { &SUB_4 } else { &SUB_5 });
            }
            Kind::Q6K => {
                for sub in &mut block[192..208] {
                    *sub = if *sub & 1 == 0 { 4 } else { 252 };
                }
                let scale = draw(&block[208..]);
                block[208..].copy_from_slice(&scale.to_le_bytes());
            }
        }
    }

    /// A float of the wished spread from two random bytes.
    fn uniform(&self, bytes: &[u8]) -> f32 {
        f32::from(i16::from_le_bytes([bytes[0], bytes[1]])) / 32768.0 * self.scale
    }
}

/// The nearest half-precision float toward zero; what is too small for a normal one becomes zero, what is too large
/// the largest.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let exponent = i32::from((bits >> 23 & 0xff) as u16) - 127;
    let magnitude = match exponent {
        i32::MIN..=-15 => 0,
        // Exponent re-biased from 127 to 15, mantissa cut from 23 bits to 10.
        -14..=15 => (((bits >> 13 & 0x3_ffff) - ((127 - 15) << 10)) & 0x7fff) as u16,
        _ => 0x7bff,
    };
    sign | magnitude
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        let mut words = buffer.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&self.next().to_le_bytes());
        }
        let rest = words.into_remainder();
        let last = self.next().to_le_bytes();
        let length = rest.len();
        rest.copy_from_slice(&last[..length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number a half-precision float stands for.
    fn single(half: u16) -> f32 {
        let magnitude = match half & 0x7fff {
            0..=0x3ff => 0,
            normal => u32::from(normal) << 13,
        };
        let value = if magnitude == 0 {
            0.0
        } else {
            f32::from_bits(magnitude + ((127 - 15) << 23))
        };
        if half & 0x8000 == 0 { value } else { -value }
    }

    /// Numbers of a block by ggml's formulas, in whatever order.
    fn numbers(kind: Kind, block: &[u8]) -> Vec<f32> {
        const TABLE: [i8; 16] = [
            -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
        ];
        let at = |from: usize| single(u16::from_le_bytes([block[from], block[from + 1]]));
        let nibbles = |bytes: &[u8]| -> Vec<f32> {
            let low = bytes.iter().map(|byte| f32::from(byte & 15));
            low.chain(bytes.iter().map(|byte| f32::from(byte >> 4))).collect()
        };
        match kind {
            Kind::F32 => vec![f32::from_le_bytes(block.try_into().unwrap())],
            Kind::F16 => vec![at(0)],
            Kind::Q8_0 => block[2..]
                .iter()
                .map(|b| f32::from(b.cast_signed()) * at(0))
                .collect(),
            Kind::Q4_0 => nibbles(&block[2..]).iter().map(|n| (n - 8.0) * at(0)).collect(),
            Kind::IQ4_NL => block[2..]
                .iter()
                .flat_map(|b| [b & 15, b >> 4])
                .map(|n| f32::from(TABLE[usize::from(n)]) * at(0))
                .collect(),
            Kind::Q4K => {
                let (scale, minimum) = sub(&block[4..16]);
                let values = nibbles(&block[16..]);
                values
                    .iter()
                    .map(|n| n * at(0) * scale - at(2) * minimum)
                    .collect()
            }
            Kind::Q5K => {
                let (scale, minimum) = sub(&block[4..16]);
                let mut values = nibbles(&block[48..]);
                for (place, value) in values.iter_mut().enumerate() {
                    *value += f32::from(block[16 + place % 32] >> (place / 32) & 1) * 16.0;
                }
                values
                    .iter()
                    .map(|n| n * at(0) * scale - at(2) * minimum)
                    .collect()
            }
            Kind::Q6K => nibbles(&block[..128])
                .iter()
                .enumerate()
                .map(|(place, low)| {
                    let high = block[128 + place % 64] >> (place / 64 * 2) & 3;
                    let sub = f32::from(block[192 + place / 16].cast_signed());
                    (low + f32::from(high) * 16.0 - 32.0) * sub * at(208)
                })
                .collect(),
        }
    }

    /// The first scale and minimum, unpacked as ggml does, after seeing that all eight are alike.
    fn sub(packed: &[u8]) -> (f32, f32) {
        let unpack = |at: usize| {
            if at < 4 {
                (packed[at] & 63, packed[at + 4] & 63)
            } else {
                (
                    packed[at + 4] & 15 | packed[at - 4] >> 6 << 4,
                    packed[at + 4] >> 4 | packed[at] >> 6 << 4,
                )
            }
        };
        assert!((0..8).all(|at| unpack(at) == unpack(0)));
        (f32::from(unpack(0).0), f32::from(unpack(0).1))
    }

    #[test]
    fn numbers_have_the_wished_spread_around_the_wished_mean() {
        for kind in [
            Kind::F32,
            Kind::F16,
            Kind::Q8_0,
            Kind::Q4_0,
            Kind::IQ4_NL,
            Kind::Q4K,
            Kind::Q5K,
            Kind::Q6K,
        ] {
            let spread = 0.02;
            let mut buffer = vec![0; 65536 / kind.block() * kind.block_bytes()];
            Blocks::new(kind, 0.0, spread, 7).fill(&mut buffer);
            let all: Vec<f32> = buffer
                .chunks_exact(kind.block_bytes())
                .flat_map(|block| numbers(kind, block))
                .collect();
            assert_eq!(all.len(), 65536);
            let mean = all.iter().sum::<f32>() / 65536.0;
            let deviation = (all.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 65536.0).sqrt();
            assert!(mean.abs() < spread / 20.0, "{kind:?}: mean {mean}");
            assert!((deviation / spread - 1.0).abs() < 0.05, "{kind:?}: {deviation}");
        }
    }

    #[test]
    fn a_seed_repeats_its_numbers_and_another_makes_others() {
        let bytes = |seed| {
            let mut buffer = [0; 18 * 5];
            Blocks::new(Kind::Q4_0, 0.0, 0.1, seed).fill(&mut buffer);
            buffer
        };
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
    }

    #[test]
    fn half_precision_holds_what_it_can() {
        for value in [0.0, 1.0, -2.5, 6.1035156e-5, 65504.0] {
            assert_eq!(single(half(value)), value);
        }
        assert_eq!(half(1e-9), 0);
        assert_eq!(single(half(-1e9)), -65504.0);
    }
}
