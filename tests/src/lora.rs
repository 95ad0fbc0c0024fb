//! Made-up LoRA adapters: real GGUF files, with matrices from a small random generator.
//!
//! Stands beside `gguf.rs`, and other test crates include both by path.

use super::gguf::{ALIGNMENT, Random, Tiny, Values, put_text, small};

/// A matrix of every layer that is adapted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrix {
    /// Its name within a layer: `attn_q`.
    pub part: &'static str,
    /// What goes in.
    pub width: usize,
    /// What comes out.
    pub height: usize,
}

/// Something wrong with an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoraFlaw {
    /// It says that it is a model.
    NoAdapter,
    /// It is of a kind nobody knows.
    UnknownKind,
    /// It is for another architecture.
    OtherArch,
    /// Its matrices are larger than the model's.
    OtherShape,
    /// The model has no such layer.
    OtherLayer,
    /// Half of a pair is missing.
    NoB,
    /// Its scale is a text, for which llama.cpp would end the process.
    AlphaIsText,
    /// Its matrices are whole numbers, with which llama.cpp would end the process.
    Integers,
    /// It has a vector that llama.cpp would leave out silently.
    Norm,
    /// Its numbers are none.
    NotANumber,
    /// The last half of the file is missing.
    Truncated,
}

/// What a made-up adapter is like.
#[derive(Debug, Clone)]
pub struct Lora {
    /// Architecture of its base.
    pub arch: &'static str,
    /// Layers of its base.
    pub layers: u32,
    /// What it adapts in each.
    pub matrices: Vec<Matrix>,
    /// Rank of every matrix.
    pub rank: usize,
    /// Seed of the numbers.
    pub seed: u64,
    /// How large what it adds is; with 0 it adds nothing.
    pub strength: f32,
    /// Something wrong with it.
    pub flaw: Option<LoraFlaw>,
}

impl Lora {
    /// For a made-up model of attention, or with some.
    pub fn tiny(tiny: &Tiny, seed: u64) -> Self {
        let wide = tiny.feed_forward as usize;
        Self {
            arch: tiny.arch_name(),
            layers: tiny.layers,
            matrices: [("ffn_gate", 64, wide), ("ffn_down", wide, 64)]
                .map(|(part, width, height)| Matrix { part, width, height })
                .to_vec(),
            rank: 2,
            seed,
            strength: 0.5,
            flaw: None,
        }
    }

    /// For SmolLM2-135M.
    pub fn smollm2(seed: u64) -> Self {
        Self {
            arch: "llama",
            layers: 30,
            matrices: [
                ("attn_q", 576, 576),
                ("attn_k", 576, 192),
                ("attn_v", 576, 192),
                ("attn_output", 576, 576),
                ("ffn_gate", 576, 1536),
                ("ffn_up", 576, 1536),
                ("ffn_down", 1536, 576),
            ]
            .map(|(part, width, height)| Matrix { part, width, height })
            .to_vec(),
            rank: 2,
            seed,
            strength: 0.02,
            flaw: None,
        }
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let flaw = |wanted| self.flaw == Some(wanted);
        let mut values = Values::default();
        values.text(
            "general.type",
            if flaw(LoraFlaw::NoAdapter) {
                "model"
            } else {
                "adapter"
            },
        );
        values.text(
            "general.architecture",
            if flaw(LoraFlaw::OtherArch) {
                "gpt2"
            } else {
                self.arch
            },
        );
        values.text(
            "adapter.type",
            if flaw(LoraFlaw::UnknownKind) {
                "dora"
            } else {
                "lora"
            },
        );
        if flaw(LoraFlaw::AlphaIsText) {
            values.text("adapter.lora.alpha", "much");
        } else {
            values.float("adapter.lora.alpha", self.rank as f32);
        }
        let tensors = self.tensors();
        let mut file = Vec::new();
        file.extend_from_slice(b"GGUF");
        file.extend_from_slice(&3_u32.to_le_bytes());
        file.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
        file.extend_from_slice(&(values.count as u64).to_le_bytes());
        file.append(&mut values.bytes);
        let mut offset = 0_u64;
        for (name, sides, numbers) in &tensors {
            put_text(&mut file, name);
            file.extend_from_slice(&small(sides.len()).to_le_bytes());
            for side in sides {
                file.extend_from_slice(&(*side as u64).to_le_bytes());
            }
            // 26 is a 32-bit integer, 0 a float.
            let kind = if flaw(LoraFlaw::Integers) { 26_u32 } else { 0 };
            file.extend_from_slice(&kind.to_le_bytes());
            file.extend_from_slice(&offset.to_le_bytes());
            offset += (numbers.len() * 4).next_multiple_of(ALIGNMENT) as u64;
        }
        for (_, _, numbers) in &tensors {
            file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
            file.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        if flaw(LoraFlaw::Truncated) {
            file.truncate(file.len() / 2);
        }
        file
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let mut random = Random(self.seed ^ 0x10ad_ed00_ada9_7e25);
        let mut tensors = Vec::new();
        let layers = self.layers + u32::from(self.flaw == Some(LoraFlaw::OtherLayer));
        for layer in 0..layers {
            for matrix in &self.matrices {
                let (mut width, rank) = (matrix.width, self.rank);
                if self.flaw == Some(LoraFlaw::OtherShape) {
                    width *= 2;
                }
                let name = |half| format!("blk.{layer}.{}.weight.lora_{half}", matrix.part);
                let mut numbers = |count: usize, scale: f32| -> Vec<f32> {
                    let flawed = self.flaw == Some(LoraFlaw::NotANumber);
                    (0..count)
                        .map(|_| if flawed { f32::NAN } else { random.next() * scale })
                        .collect()
                };
                let a = numbers(width * rank, 1.0 / (width as f32).sqrt());
                let b = numbers(rank * matrix.height, self.strength);
                tensors.push((name("a"), vec![width, rank], a));
                if self.flaw != Some(LoraFlaw::NoB) {
                    tensors.push((name("b"), vec![rank, matrix.height], b));
                }
            }
        }
        if self.flaw == Some(LoraFlaw::Norm) {
            tensors.push(("blk.0.attn_norm.weight".into(), vec![64], vec![1.0; 64]));
        }
        tensors
    }
}
