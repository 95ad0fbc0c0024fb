//! Models of the product's true shape: every tensor, quantisation and metadata field of the files a profile names,
//! with random weights. Memory, load time and speed are measured on them at the size the product is for; what they
//! say is noise. `scripts/shape-model` writes them.
//!
//! A file of noise says so in its first metadata field, [`NOISE_KEY`]; `scripts/sign` and `scripts/build-vm-image`
//! refuse such files.

mod blocks;
mod header;
mod projector;
mod text;
mod vocabulary;
mod write;

use std::fmt;

pub use blocks::Kind;
pub use header::Metadata;
pub use vocabulary::Vocabulary;
pub use write::{tensors, write};

/// Metadata field that only files of noise have: the first one of the file, so that its head tells.
pub const NOISE_KEY: &str = "sarai.noise";

/// A model of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// Text model of Qwen2.5-Omni-3B.
    Omni,
    /// Vision and audio encoders of Qwen2.5-Omni-3B with their projections.
    OmniProjector,
    /// LFM2-1.2B.
    Lfm2,
}

impl Model {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Omni, Self::OmniProjector, Self::Lfm2];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Omni => "omni",
            Self::OmniProjector => "omni-projector",
            Self::Lfm2 => "lfm2",
        }
    }

    /// The model of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|model| model.name() == name)
    }

    /// The mix that `models-manifest.toml` names.
    #[must_use]
    pub fn usual_mix(self) -> Mix {
        match self {
            Self::Omni => Mix::Q4KM,
            Self::OmniProjector => Mix::Q8_0,
            Self::Lfm2 => Mix::Q4_0,
        }
    }

    /// Whether files of this mix are published for it.
    #[must_use]
    pub fn takes(self, mix: Mix) -> bool {
        self != Self::OmniProjector || matches!(mix, Mix::F16 | Mix::Q8_0)
    }

    /// The size on the publisher's page of the file with the usual mix, bytes, rounded as the page rounds it:
    /// `ggml-org/Qwen2.5-Omni-3B-GGUF` and `LiquidAI/LFM2-1.2B-GGUF`.
    #[must_use]
    pub fn published_size(self) -> u64 {
        match self {
            Self::Omni => 2_100_000_000,
            Self::OmniProjector => 1_540_000_000,
            Self::Lfm2 => 696_000_000,
        }
    }

    /// Its shape.
    #[must_use]
    pub fn shape(self, mix: Mix, extent: Extent) -> Shape {
        match self {
            Self::Omni => text::omni(mix, extent),
            Self::OmniProjector => projector::omni(mix, extent),
            Self::Lfm2 => text::lfm2(mix, extent),
        }
    }
}

/// How much of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Full,
    /// The same kinds of tensors, few and narrow: some megabytes, for tests of mechanism.
    Small,
}

/// Which tensor is quantised how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the names everybody knows")]
pub enum Mix {
    /// 16-bit floats.
    F16,
    /// 8 bits.
    Q8_0,
    /// 4 bits, legacy.
    Q4_0,
    /// 4 bits, non-linear.
    IQ4_NL,
    /// 4 and 6 bits.
    Q4KM,
}

/// What a matrix is in its model: that decides its type in a mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Token embeddings; the output layer has weights of its own.
    Embedding,
    /// Output layer, or embeddings that are the output layer too.
    Output,
    /// Values of attention: the how manyth of how many.
    Value(usize, usize),
    /// Way down of a feed-forward network.
    Down(usize, usize),
    /// Any other matrix.
    Other,
}

impl Mix {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::F16, Self::Q8_0, Self::Q4_0, Self::IQ4_NL, Self::Q4KM];

    /// Its name, as quantisers spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::IQ4_NL => "IQ4_NL",
            Self::Q4KM => "Q4_K_M",
        }
    }

    /// The mix of this name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mix| mix.name().eq_ignore_ascii_case(name))
    }

    /// `general.file_type`: llama.cpp's `llama_ftype`.
    fn file_type(self) -> u32 {
        match self {
            Self::F16 => 1,
            Self::Q8_0 => 7,
            Self::Q4_0 => 2,
            Self::IQ4_NL => 25,
            Self::Q4KM => 15,
        }
    }

    /// The type of a matrix, as llama.cpp's own quantiser chooses it without an importance matrix; `gqa` is how many
    /// heads of the first layer share a key and a value.
    fn kind(self, place: Place, gqa: usize) -> Kind {
        // llama.cpp gives more bits to the first and last eighth of the layers and to each third one between.
        let more = |at: usize, of: usize| at < of / 8 || at >= 7 * of / 8 || (at - of / 8) % 3 == 2;
        match (self, place) {
            (Self::F16, _) => Kind::F16,
            (Self::Q8_0, _) => Kind::Q8_0,
            (_, Place::Output) => Kind::Q6K,
            (Self::Q4_0, _) => Kind::Q4_0,
            (Self::IQ4_NL, Place::Value(..)) if gqa >= 4 => Kind::Q5K,
            (Self::IQ4_NL, Place::Down(at, of)) if at < of / 8 => Kind::Q5K,
            (Self::IQ4_NL, _) => Kind::IQ4_NL,
            (Self::Q4KM, Place::Value(at, of) | Place::Down(at, of)) if more(at, of) => Kind::Q6K,
            (Self::Q4KM, _) => Kind::Q4K,
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One tensor of a shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its sides, fastest first, as GGUF counts.
    pub sides: Vec<usize>,
    /// How its numbers are stored.
    pub kind: Kind,
    /// Mean of its numbers; zero unless they are floats.
    pub mean: f32,
    /// Their standard deviation.
    pub spread: f32,
}

impl Tensor {
    /// A matrix of `sides` whose outputs are about as large as its inputs. Where a row does not divide into blocks, it
    /// is stored as 16-bit floats, as converters do.
    fn matrix(name: String, sides: &[usize], kind: Kind) -> Self {
        let kind = if sides[0].is_multiple_of(kind.block()) {
            kind
        } else {
            Kind::F16
        };
        // Inputs a product sums over: all sides but the last.
        let inputs: usize = sides[..sides.len() - 1].iter().product();
        Self {
            name,
            sides: sides.to_vec(),
            kind,
            mean: 0.0,
            spread: 1.0 / (count(inputs)).sqrt(),
        }
    }

    /// A weight of a normalisation: near one.
    fn norm(name: String, side: usize) -> Self {
        Self {
            name,
            sides: vec![side],
            kind: Kind::F32,
            mean: 1.0,
            spread: 0.05,
        }
    }

    /// A bias: near zero.
    fn bias(name: String, side: usize) -> Self {
        Self {
            mean: 0.0,
            ..Self::norm(name, side)
        }
    }

    /// The same with numbers `factor` times as large.
    fn louder(self, factor: f32) -> Self {
        Self {
            spread: self.spread * factor,
            ..self
        }
    }

    /// Numbers in it.
    #[must_use]
    pub fn numbers(&self) -> u64 {
        self.sides.iter().map(|side| *side as u64).product()
    }

    /// Its size in the file, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.numbers() / self.kind.block() as u64 * self.kind.block_bytes() as u64
    }
}

/// Sides are small enough for a float to count them.
#[expect(clippy::cast_precision_loss, reason = "sides of tensors are far below 2^24")]
fn count(side: usize) -> f32 {
    side as f32
}

/// Everything a file holds but the random numbers themselves.
#[derive(Debug, Clone)]
pub struct Shape {
    /// What its file is called unless something else is said.
    pub file: String,
    /// Metadata, in the order of the file.
    pub metadata: Metadata,
    /// Tensors, in the order of the file.
    pub tensors: Vec<Tensor>,
}

impl Shape {
    /// Numbers in all tensors.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(Tensor::numbers).sum()
    }
}

/// What every file of noise begins with.
fn introduction(model: &str, kind: &str, arch: &str, mix: Mix) -> Metadata {
    let mut values = Metadata::default();
    values.flag(NOISE_KEY, true);
    values.text("general.architecture", arch);
    values.text("general.type", kind);
    values.text(
        "general.name",
        &format!("random weights in the shape of {model}: noise, for measurements only"),
    );
    values.number("general.file_type", mix.file_type());
    values.number("general.quantization_version", 2);
    values
}

#[cfg(test)]
mod tests;
