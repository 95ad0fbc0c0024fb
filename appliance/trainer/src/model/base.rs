//! The base model: a mapped GGUF file, what it says of its shape, and where its weights are.

use std::fs::File;

use memmap2::Mmap;
use sarai_wire::training::Target;

use super::linear::Matrix;
use super::rope::{Pairs, Rotation};
use crate::Error;
use crate::gguf::{Directory, Value};
use crate::quantised::Kind;

/// Most layers of a model.
const MAX_LAYERS: usize = 512;
/// Largest width of anything but the vocabulary.
const MAX_WIDTH: usize = 1 << 18;
/// Most tokens of a vocabulary.
const MAX_VOCABULARY: usize = 1 << 20;

/// Keys, after the architecture's name, of mathematics that is not done here.
const UNKNOWN_KEYS: [&str; 8] = [
    "attention.scale",
    "attention.clamp_kqv",
    "attention.causal",
    "attention.max_alibi_bias",
    "logit_scale",
    "embedding_scale",
    "residual_scale",
    "final_logit_softcapping",
];

/// Architectures that can be trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama and what is built like it.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// The language model of Qwen 2 and 2.5 VL and Omni, on text.
    Qwen2Vl,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 3] = [Self::Llama, Self::Qwen2, Self::Qwen2Vl];

    /// Its name in GGUF.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen2Vl => "qwen2vl",
        }
    }

    /// Which elements of a head are turned together. `qwen2vl` turns its pairs by three positions, which are the same
    /// for text.
    fn pairs(self) -> Pairs {
        match self {
            Self::Llama => Pairs::Neighbours,
            Self::Qwen2 | Self::Qwen2Vl => Pairs::Halves,
        }
    }
}

/// A base model, mapped.
pub struct Base {
    map: Mmap,
    pub(super) architecture: Architecture,
    pub(super) shape: Shape,
    pub(super) embeddings: Matrix,
    pub(super) output: Matrix,
    pub(super) output_norm: Vec<f32>,
    pub(super) rotation: Rotation,
    pub(super) layers: Vec<Layer>,
}

/// Widths of a base model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shape {
    /// Length of a token's vector.
    pub width: usize,
    /// Heads of the attention.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Length of a head's vector.
    pub head: usize,
    /// Width of the feed-forward part.
    pub feed_forward: usize,
    /// Number of tokens.
    pub vocabulary: usize,
    /// What is added to the mean square before its root is taken.
    pub epsilon: f32,
}

impl Shape {
    /// Length of all heads' queries.
    pub fn query(&self) -> usize {
        self.heads * self.head
    }

    /// Length of all heads' keys, and values.
    pub fn key(&self) -> usize {
        self.kv_heads * self.head
    }

    /// Rows and columns of a layer's matrix.
    fn matrix(&self, target: Target) -> (usize, usize) {
        match target {
            Target::AttnQ => (self.query(), self.width),
            Target::AttnK | Target::AttnV => (self.key(), self.width),
            Target::AttnOutput => (self.width, self.query()),
            Target::FfnGate | Target::FfnUp => (self.feed_forward, self.width),
            Target::FfnDown => (self.width, self.feed_forward),
        }
    }
}

/// A layer's weights.
pub(super) struct Layer {
    pub attention_norm: Vec<f32>,
    pub feed_forward_norm: Vec<f32>,
    /// In the order of [`Target::ALL`].
    pub matrices: [Matrix; 7],
    /// Biases of queries, keys and values.
    pub biases: [Option<Vec<f32>>; 3],
}

impl Base {
    /// Maps a GGUF file and looks for what a model of its architecture must have.
    ///
    /// The file must not change while it is mapped: hand in one that is verified and sealed (fs-verity), or one that
    /// nobody else writes. A page that can't be read ends the process with SIGBUS.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it can't be mapped, [`Error::Base`] when it is not a model that can be trained on.
    pub fn map(file: &File) -> Result<Self, Error> {
        // SAFETY: by this function's demand nobody changes or shortens the file meanwhile.
        let map = unsafe { Mmap::map(file) }.map_err(|source| Error::Io {
            what: "map the base model",
            source,
        })?;
        let directory = Directory::read(&map).map_err(|error| Error::Base(error.to_string()))?;
        let mut reader = Reader {
            bytes: &map,
            directory,
        };
        let architecture = reader.architecture()?;
        let vocabulary = reader
            .directory
            .tensors
            .get("token_embd.weight")
            .map_or(0, |tensor| tensor.rows);
        let shape = reader.shape(vocabulary)?;
        let embeddings = reader.matrix("token_embd.weight", vocabulary, shape.width)?;
        let output = if reader.directory.tensors.contains_key("output.weight") {
            reader.matrix("output.weight", vocabulary, shape.width)?
        } else {
            embeddings.clone()
        };
        let output_norm = reader.vector("output_norm.weight", shape.width)?;
        let rotation = reader.rotation(architecture, &shape)?;
        let count = reader.count("block_count", MAX_LAYERS)?;
        let layers = (0..count)
            .map(|layer| reader.layer(layer, &shape))
            .collect::<Result<_, _>>()?;
        if let Some(name) = reader.directory.tensors.keys().next() {
            return Err(Error::Base(format!(
                "it has the tensor \"{name}\", which is not known here"
            )));
        }
        Ok(Self {
            map,
            architecture,
            shape,
            embeddings,
            output,
            output_norm,
            rotation,
            layers,
        })
    }

    /// The architecture.
    #[must_use]
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Number of tokens of the vocabulary.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.shape.vocabulary
    }

    /// The file's bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }
}

/// Takes what is known out of a directory, so that what is left is not.
struct Reader<'a> {
    bytes: &'a [u8],
    directory: Directory,
}

impl Reader<'_> {
    fn architecture(&self) -> Result<Architecture, Error> {
        let name = self.directory.string("general.architecture").unwrap_or_default();
        let found = Architecture::ALL
            .into_iter()
            .find(|architecture| architecture.name() == name);
        found.ok_or_else(|| Error::Base(format!("its architecture \"{name:.40}\" can't be trained")))
    }

    fn key(&self, suffix: &str) -> String {
        format!(
            "{}.{suffix}",
            self.directory.string("general.architecture").unwrap_or_default()
        )
    }

    fn count(&self, suffix: &str, bound: usize) -> Result<usize, Error> {
        let key = self.key(suffix);
        let value = self.directory.integer::<usize>(&key);
        value
            .filter(|value| (1..=bound).contains(value))
            .ok_or_else(|| Error::Base(format!("it has no {key} from 1 to {bound}")))
    }

    fn shape(&self, vocabulary: usize) -> Result<Shape, Error> {
        for suffix in UNKNOWN_KEYS {
            let key = self.key(suffix);
            if self.directory.keys.contains_key(&key) {
                return Err(Error::Base(format!("it has {key}, which is not known here")));
            }
        }
        let width = self.count("embedding_length", MAX_WIDTH)?;
        let heads = self.count("attention.head_count", MAX_WIDTH)?;
        let kv_heads = if self
            .directory
            .keys
            .contains_key(&self.key("attention.head_count_kv"))
        {
            self.count("attention.head_count_kv", heads)?
        } else {
            heads
        };
        let mut head = width / heads;
        for suffix in [
            "attention.key_length",
            "attention.value_length",
            "rope.dimension_count",
        ] {
            if self.directory.keys.contains_key(&self.key(suffix)) {
                let length = self.count(suffix, MAX_WIDTH)?;
                if suffix == "attention.key_length" {
                    head = length;
                }
                if length != head {
                    return Err(Error::Base(format!(
                        "its {} is {length}, not {head}",
                        self.key(suffix)
                    )));
                }
            }
        }
        let fits =
            heads.is_multiple_of(kv_heads) && head > 0 && head.is_multiple_of(2) && heads * head <= MAX_WIDTH;
        if !fits {
            let shape = format!("{heads} heads of {head} and {kv_heads} of keys don't fit each other");
            return Err(Error::Base(shape));
        }
        if !(2..=MAX_VOCABULARY).contains(&vocabulary) {
            return Err(Error::Base(format!(
                "its vocabulary is not of 2 to {MAX_VOCABULARY} tokens"
            )));
        }
        let key = self.key("attention.layer_norm_rms_epsilon");
        let epsilon = self
            .directory
            .float(&key)
            .filter(|value| (0.0..1.0).contains(value));
        let epsilon = epsilon.ok_or_else(|| Error::Base(format!("it has no {key} from 0 to 1")))?;
        let feed_forward = self.count("feed_forward_length", MAX_WIDTH)?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "computed in single precision, as elsewhere"
        )]
        let epsilon = epsilon as f32;
        Ok(Shape {
            width,
            heads,
            kv_heads,
            head,
            feed_forward,
            vocabulary,
            epsilon,
        })
    }

    fn rotation(&mut self, architecture: Architecture, shape: &Shape) -> Result<Rotation, Error> {
        let key = self.key("rope.freq_base");
        let base = match self.directory.keys.get(&key) {
            None => 10_000.0,
            Some(Value::Float(base)) if *base >= 1.0 && base.is_finite() => *base,
            Some(_) => return Err(Error::Base(format!("its {key} is no number from 1"))),
        };
        let scaling = self
            .directory
            .string(&self.key("rope.scaling.type"))
            .unwrap_or("linear")
            .to_owned();
        let factor = self
            .directory
            .float(&self.key("rope.scaling.factor"))
            .or_else(|| self.directory.float(&self.key("rope.scale_linear")))
            .filter(|&factor| factor != 0.0 && scaling != "none")
            .unwrap_or(1.0);
        if !["none", "linear"].contains(&scaling.as_str()) || !factor.is_finite() || factor <= 0.0 {
            return Err(Error::Base(format!(
                "its rope scaling {scaling:.20} by {factor} is not known here"
            )));
        }
        if let Some(Value::Array(sections)) = self.directory.keys.get(&self.key("rope.dimension_sections"))
            && sections.get(3).is_some_and(|last| *last != Value::Integer(0))
        {
            // The fourth position of a text's token is 0, other than the first three.
            return Err(Error::Base("the last of its rope sections is not empty".into()));
        }
        let factors = if architecture == Architecture::Llama
            && self.directory.tensors.contains_key("rope_freqs.weight")
        {
            let factors = self.vector("rope_freqs.weight", shape.head / 2)?;
            if !factors.iter().all(|factor| *factor > 0.0) {
                return Err(Error::Base("its rope_freqs are not all above 0".into()));
            }
            Some(factors)
        } else {
            None
        };
        Ok(Rotation::new(
            architecture.pairs(),
            shape.head,
            base,
            factor,
            factors.as_deref(),
        ))
    }

    fn layer(&mut self, layer: usize, shape: &Shape) -> Result<Layer, Error> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let mut matrices = Vec::new();
        for target in Target::ALL {
            let (rows, columns) = shape.matrix(target);
            matrices.push(self.matrix(&name(&format!("{}.weight", target.name())), rows, columns)?);
        }
        let mut biases = [None, None, None];
        for (bias, target) in biases
            .iter_mut()
            .zip([Target::AttnQ, Target::AttnK, Target::AttnV])
        {
            let name = name(&format!("{}.bias", target.name()));
            if self.directory.tensors.contains_key(&name) {
                *bias = Some(self.vector(&name, shape.matrix(target).0)?);
            }
        }
        Ok(Layer {
            attention_norm: self.vector(&name("attn_norm.weight"), shape.width)?,
            feed_forward_norm: self.vector(&name("ffn_norm.weight"), shape.width)?,
            matrices: matrices
                .try_into()
                .unwrap_or_else(|_| unreachable!("there are seven targets")),
            biases,
        })
    }

    fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix, Error> {
        let tensor = self.directory.tensors.remove(name);
        let tensor = tensor.ok_or_else(|| Error::Base(format!("it has no tensor \"{name}\"")))?;
        if (tensor.rows, tensor.columns) != (rows, columns) {
            let (found_rows, found_columns) = (tensor.rows, tensor.columns);
            return Err(Error::Base(format!(
                "its tensor \"{name}\" has {found_rows} rows of {found_columns}, not {rows} of {columns}"
            )));
        }
        Ok(Matrix {
            kind: tensor.kind,
            rows,
            columns,
            bytes: tensor.bytes,
        })
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        let matrix = self.matrix(name, 1, len)?;
        if !matches!(matrix.kind, Kind::F32 | Kind::F16 | Kind::Bf16) {
            return Err(Error::Base(format!("its tensor \"{name}\" is quantised")));
        }
        let mut values = vec![0.0; len];
        matrix.kind.dequantise(&self.bytes[matrix.bytes], &mut values);
        Ok(values)
    }
}
