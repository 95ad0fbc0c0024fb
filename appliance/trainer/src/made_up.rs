//! Small base models of random weights: for tests and benches, which need every architecture and every kind of
//! storage without a download. llama.cpp loads them too: they have a vocabulary of bytes.

use std::io;

use crate::gguf::{Field, write_file};
use crate::model::Architecture;
use crate::quantised::{Kind, to_f16};
use crate::random::Random;

/// What a made-up model looks like.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Its architecture.
    pub architecture: Architecture,
    /// Length of a token's vector.
    pub embedding: usize,
    /// Number of layers.
    pub layers: usize,
    /// Heads of the attention.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of the feed-forward part.
    pub feed_forward: usize,
    /// Number of tokens; at least [`BYTES`] for llama.cpp.
    pub vocabulary: usize,
    /// How matrices are stored, in turn.
    pub kinds: Vec<Kind>,
    /// Whether the embeddings are used for the output too.
    pub tied: bool,
    /// Whether there are factors of the rotation's frequencies, as in Llama 3.1.
    pub frequency_factors: bool,
    /// Seed of the weights.
    pub seed: u64,
}

/// Tokens of the vocabulary that stand for something: 256 bytes and an end.
pub const BYTES: usize = 257;

impl Shape {
    /// A tiny model of an architecture, all of whose matrices are stored in f32.
    #[must_use]
    pub fn tiny(architecture: Architecture) -> Self {
        Self {
            architecture,
            embedding: 32,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            feed_forward: 64,
            vocabulary: BYTES,
            kinds: vec![Kind::F32],
            tied: architecture == Architecture::Llama,
            frequency_factors: architecture == Architecture::Llama,
            seed: 1,
        }
    }

    /// Writes the model as a GGUF file.
    ///
    /// # Errors
    ///
    /// The writer's, and [`io::ErrorKind::InvalidInput`] when the rows of a matrix are no whole blocks of its kind.
    pub fn write(&self, to: &mut impl io::Write) -> io::Result<()> {
        write_file(to, &self.keys(), &self.tensors())
    }

    fn keys(&self) -> Vec<(&str, Field)> {
        let name = self.architecture.name();
        // The format's counts are 32 bits wide.
        let count = |value: usize| Field::U32(u32::try_from(value).unwrap_or(u32::MAX));
        let mut keys = vec![
            ("general.architecture", Field::String(name.into())),
            ("general.name", Field::String("made up".into())),
        ];
        macro_rules! key {
            ($suffix:literal, $value:expr) => {
                let key = match self.architecture {
                    Architecture::Llama => concat!("llama.", $suffix),
                    Architecture::Qwen2 => concat!("qwen2.", $suffix),
                    Architecture::Qwen2Vl => concat!("qwen2vl.", $suffix),
                };
                keys.push((key, $value));
            };
        }
        key!("context_length", Field::U32(2048));
        key!("vocab_size", count(self.vocabulary));
        key!("embedding_length", count(self.embedding));
        key!("block_count", count(self.layers));
        key!("feed_forward_length", count(self.feed_forward));
        key!("attention.head_count", count(self.heads));
        key!("attention.head_count_kv", count(self.kv_heads));
        key!("attention.layer_norm_rms_epsilon", Field::F32(1e-5));
        key!("rope.dimension_count", count(self.embedding / self.heads));
        key!("rope.freq_base", Field::F32(1000.0));
        if self.architecture == Architecture::Qwen2Vl {
            let pairs = i32::try_from(self.embedding / self.heads / 2).unwrap_or(i32::MAX);
            key!("rope.dimension_sections", Field::I32s(vec![pairs - 2, 1, 1, 0]));
        }
        keys.extend(self.vocabulary_keys());
        keys
    }

    /// A byte-level vocabulary without merges: a token a byte, one end token, and unused ones.
    fn vocabulary_keys(&self) -> Vec<(&'static str, Field)> {
        let mut tokens: Vec<String> = (0..=255).map(|byte| byte_symbol(byte).to_string()).collect();
        tokens.push("<|end|>".into());
        tokens.extend((BYTES..self.vocabulary).map(|number| format!("<|unused{number}|>")));
        tokens.truncate(self.vocabulary);
        // llama.cpp's kinds of tokens: 1 is normal, 3 is control.
        let kinds = (0..tokens.len())
            .map(|token| if token < 256 { 1 } else { 3 })
            .collect();
        vec![
            ("tokenizer.ggml.model", Field::String("gpt2".into())),
            ("tokenizer.ggml.pre", Field::String("default".into())),
            ("tokenizer.ggml.tokens", Field::Strings(tokens)),
            ("tokenizer.ggml.token_type", Field::I32s(kinds)),
            ("tokenizer.ggml.merges", Field::Strings(vec!["a b".into()])),
            ("tokenizer.ggml.bos_token_id", Field::U32(256)),
            ("tokenizer.ggml.eos_token_id", Field::U32(256)),
            ("tokenizer.ggml.add_bos_token", Field::Bool(false)),
        ]
    }

    fn tensors(&self) -> Vec<(String, Kind, [usize; 2], Vec<u8>)> {
        let mut random = Random::new(self.seed);
        let mut kinds = self.kinds.iter().copied().cycle();
        let mut tensors = Vec::new();
        let head = self.embedding / self.heads;
        let (width, kv) = (self.embedding, head * self.kv_heads);
        let mut matrix = |tensors: &mut Vec<_>, random: &mut Random, name: String, rows, columns| {
            let kind = kinds.next().unwrap_or(Kind::F32);
            // Each product about as large as what goes in.
            let bytes = values(random, kind, rows * columns, 1.0 / (columns as f32).sqrt());
            tensors.push((name, kind, [columns, rows], bytes));
        };
        let vector = |random: &mut Random, name: String, len, mean: f32, deviation| {
            let values = random
                .normals(len, deviation)
                .into_iter()
                .map(|value| value + mean);
            (
                name,
                Kind::F32,
                [len, 1],
                values.flat_map(f32::to_le_bytes).collect(),
            )
        };
        matrix(
            &mut tensors,
            &mut random,
            "token_embd.weight".into(),
            self.vocabulary,
            width,
        );
        if !self.tied {
            matrix(
                &mut tensors,
                &mut random,
                "output.weight".into(),
                self.vocabulary,
                width,
            );
        }
        tensors.push(vector(&mut random, "output_norm.weight".into(), width, 1.5, 0.3));
        if self.frequency_factors {
            tensors.push(vector(
                &mut random,
                "rope_freqs.weight".into(),
                head / 2,
                2.0,
                0.3,
            ));
        }
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            tensors.push(vector(&mut random, name("attn_norm.weight"), width, 1.0, 0.3));
            tensors.push(vector(&mut random, name("ffn_norm.weight"), width, 1.0, 0.3));
            for (part, rows, columns) in [
                ("attn_q", width, width),
                ("attn_k", kv, width),
                ("attn_v", kv, width),
                ("attn_output", width, width),
                ("ffn_gate", self.feed_forward, width),
                ("ffn_up", self.feed_forward, width),
                ("ffn_down", width, self.feed_forward),
            ] {
                matrix(
                    &mut tensors,
                    &mut random,
                    name(&format!("{part}.weight")),
                    rows,
                    columns,
                );
                if self.architecture != Architecture::Llama && ["attn_q", "attn_k", "attn_v"].contains(&part)
                {
                    tensors.push(vector(&mut random, name(&format!("{part}.bias")), rows, 0.0, 0.5));
                }
            }
        }
        tensors
    }
}

/// The character that stands for a byte in vocabularies of GPT-2's kind.
fn byte_symbol(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&byte| !printable(byte)).count();
    // At most 67 more than 256, which are all letters.
    char::from_u32(256 + u32::try_from(before).unwrap_or(0)).unwrap_or('?')
}

/// Blocks of a kind with `len` random elements of about this standard deviation.
pub(crate) fn values(random: &mut Random, kind: Kind, len: usize, deviation: f32) -> Vec<u8> {
    if matches!(kind, Kind::F32 | Kind::F16 | Kind::Bf16) {
        let bytes = random.normals(len, deviation).into_iter();
        return match kind {
            Kind::F16 => bytes.flat_map(|value| to_f16(value).to_le_bytes()).collect(),
            Kind::Bf16 => bytes
                .flat_map(|value| (value.to_bits() >> 16).to_le_bytes()[..2].to_vec())
                .collect(),
            _ => bytes.flat_map(f32::to_le_bytes).collect(),
        };
    }
    // Any bits are numbers; where the scales are, how much a scale of one spreads, and how many scales make the
    // minimum that puts the mean at zero.
    let (at, spread, minimum): (usize, f32, f32) = match kind {
        Kind::Q4_0 => (0, 4.6, 0.0),
        Kind::Q4_1 => (0, 4.6, -7.5),
        Kind::Q5_0 => (0, 9.2, 0.0),
        Kind::Q5_1 => (0, 9.2, -15.5),
        Kind::Q8_0 => (0, 74.0, 0.0),
        Kind::Q4K => (0, 240.0, 7.5),
        Kind::Q5K => (0, 490.0, 15.5),
        Kind::Q6K => (208, 1370.0, 0.0),
        _ => (0, 70.0, 0.0),
    };
    let mut bytes: Vec<u8> = (0..kind.row_bytes(len))
        .map(|_| random.bits().to_le_bytes()[0])
        .collect();
    for block in bytes.chunks_mut(kind.block_bytes()) {
        let scale = deviation / spread;
        block[at..at + 2].copy_from_slice(&to_f16(scale).to_le_bytes());
        if minimum != 0.0 {
            block[at + 2..at + 4].copy_from_slice(&to_f16(scale * minimum).to_le_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_about_the_spread_asked_for() {
        let mut random = Random::new(4);
        for kind in Kind::ALL {
            let bytes = values(&mut random, kind, 256 * 64, 0.3);
            let mut numbers = vec![0.0; 256 * 64];
            kind.dequantise(&bytes, &mut numbers);
            let count = numbers.len() as f32;
            let mean = numbers.iter().sum::<f32>() / count;
            let deviation = (numbers.iter().map(|x| x * x).sum::<f32>() / count).sqrt();
            assert!(
                mean.abs() < 0.1 && (0.1..0.6).contains(&deviation),
                "{kind:?}: {mean} {deviation}"
            );
        }
    }

    #[test]
    fn symbols_of_bytes_are_those_of_gpt_2() {
        assert_eq!(
            [b'a', b' ', b'\n', 0, 0xff, 0xad].map(byte_symbol),
            ['a', 'Ġ', 'Ċ', 'Ā', 'ÿ', 'Ń']
        );
    }
}
