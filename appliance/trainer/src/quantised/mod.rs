//! ggml's ways of storing matrices, and their values as f32.
//!
//! A row is a run of blocks; a block holds a fixed number of elements in a fixed number of bytes, with its own
//! scales. The layouts are those of ggml (`ggml-common.h`). Values are computed in runs of whole blocks, in code the
//! compiler vectorises, with the best instructions of the machine at hand.

mod floats;
mod k;
mod legacy;
mod nonlinear;
mod pack;

pub(crate) use floats::to_f16;
pub(crate) use pack::Grids;

/// How the elements of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// 4 bits, one scale for 32.
    Q4_0,
    /// 4 bits, one scale and one minimum for 32.
    Q4_1,
    /// 5 bits, one scale for 32.
    Q5_0,
    /// 5 bits, one scale and one minimum for 32.
    Q5_1,
    /// 8 bits, one scale for 32.
    Q8_0,
    /// 4 bits, in blocks of 256 with scales and minima of 6 bits for 32 each.
    Q4K,
    /// 5 bits, in blocks of 256 with scales and minima of 6 bits for 32 each.
    Q5K,
    /// 6 bits, in blocks of 256 with scales of 8 bits for 16 each.
    Q6K,
    /// 4 bits that stand for values of a table, one scale for 32.
    Iq4Nl,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
    ];

    /// ggml's code of the kind (`enum ggml_type`).
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Iq4Nl => 20,
            Self::Bf16 => 30,
        }
    }

    /// The kind of a code of ggml's, if it is known here.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Elements of a block.
    #[must_use]
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Iq4Nl => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 | Self::Iq4Nl => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row of `columns` elements, which must be whole blocks.
    #[must_use]
    pub fn row_bytes(self, columns: usize) -> usize {
        columns / self.block_len() * self.block_bytes()
    }

    /// Writes the values of the blocks in `bytes` to `values`.
    ///
    /// # Panics
    ///
    /// When `bytes` are not the whole blocks of just as many elements as `values` has.
    pub fn dequantise(self, bytes: &[u8], values: &mut [f32]) {
        assert!(
            values.len().is_multiple_of(self.block_len()) && bytes.len() == self.row_bytes(values.len()),
            "{} bytes are not the blocks of {} elements of kind {self:?}",
            bytes.len(),
            values.len(),
        );
        let run = match self {
            Self::F32 => floats::f32,
            Self::F16 => floats::f16,
            Self::Bf16 => floats::bf16,
            Self::Q4_0 => legacy::q4_0,
            Self::Q4_1 => legacy::q4_1,
            Self::Q5_0 => legacy::q5_0,
            Self::Q5_1 => legacy::q5_1,
            Self::Q8_0 => legacy::q8_0,
            Self::Q4K => k::q4,
            Self::Q5K => k::q5,
            Self::Q6K => k::q6,
            Self::Iq4Nl => nonlinear::iq4_nl,
        };
        run(bytes, values);
    }
}

/// Writes values in a kind of floating-point numbers, each the nearest there is. Whether it is such a kind.
pub(crate) fn write_floats(kind: Kind, values: &[f32], bytes: &mut [u8]) -> bool {
    match kind {
        Kind::F32 => bytemuck::cast_slice::<f32, u8>(values)
            .iter()
            .zip(bytes)
            .for_each(|(from, to)| *to = *from),
        Kind::F16 | Kind::Bf16 => {
            let half = if kind == Kind::F16 {
                floats::to_f16
            } else {
                floats::to_bf16
            };
            for (bytes, &value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                *bytes = half(value).to_le_bytes();
            }
        }
        _ => return false,
    }
    true
}

/// Calls `block` with the bytes and the values of each block, compiled for the best instructions of the machine.
#[inline(always)]
fn each_block<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    values: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (bytes, values) = (bytes.as_chunks().0, values.as_chunks_mut().0);
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for (bytes, values) in bytes.iter().zip(values) {
                block(bytes, values);
            }
        },
    );
}

/// The part of a block that begins at `at`.
#[inline(always)]
fn part<const N: usize, const BYTES: usize>(block: &[u8; BYTES], at: usize) -> &[u8; N] {
    // Every call names a part within the block's fixed size; a wrong one fails in any test of that kind.
    block[at..]
        .first_chunk()
        .unwrap_or_else(|| unreachable!("a part of a block is within it"))
}

/// The half-precision number at `at` in a block.
#[inline(always)]
fn half<const BYTES: usize>(block: &[u8; BYTES], at: usize) -> f32 {
    floats::from_f16(u16::from_le_bytes(*part(block, at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes, and the values that the Python package `gguf` gives for them (see `tests/fixtures/quantised/make.py`).
    fn fixture(kind: Kind) -> (&'static [u8], &'static [u8]) {
        macro_rules! files {
            ($name:literal) => {
                (
                    include_bytes!(concat!("../../tests/fixtures/quantised/", $name, ".bytes")).as_slice(),
                    include_bytes!(concat!("../../tests/fixtures/quantised/", $name, ".f32")).as_slice(),
                )
            };
        }
        match kind {
            Kind::F32 => files!("F32"),
            Kind::F16 => files!("F16"),
            Kind::Bf16 => files!("BF16"),
            Kind::Q4_0 => files!("Q4_0"),
            Kind::Q4_1 => files!("Q4_1"),
            Kind::Q5_0 => files!("Q5_0"),
            Kind::Q5_1 => files!("Q5_1"),
            Kind::Q8_0 => files!("Q8_0"),
            Kind::Q4K => files!("Q4_K"),
            Kind::Q5K => files!("Q5_K"),
            Kind::Q6K => files!("Q6_K"),
            Kind::Iq4Nl => files!("IQ4_NL"),
        }
    }

    #[test]
    fn values_are_those_of_an_independent_implementation() {
        for kind in Kind::ALL {
            let (bytes, expected) = fixture(kind);
            let expected: Vec<f32> = expected
                .as_chunks()
                .0
                .iter()
                .map(|&b| f32::from_le_bytes(b))
                .collect();
            assert!(expected.len() >= 2 * kind.block_len(), "{kind:?}");
            let mut values = vec![f32::NAN; expected.len()];
            kind.dequantise(bytes, &mut values);
            // Products may be rounded once or twice (fused multiply and add): up to a few units in the last place.
            for (at, (value, expected)) in values.iter().zip(&expected).enumerate() {
                let largest = expected.abs().max(1e-3);
                assert!(
                    (value - expected).abs() <= 4e-6 * largest,
                    "{kind:?} {at}: {value} {expected}"
                );
            }
        }
    }

    #[test]
    fn codes_are_told_apart() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(Kind::from_code(11), None);
    }

    #[test]
    #[should_panic(expected = "are not the blocks of")]
    fn other_lengths_are_refused() {
        Kind::Q4_0.dequantise(&[0; 18], &mut [0.0; 31]);
    }
}
