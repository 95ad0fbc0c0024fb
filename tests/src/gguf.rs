//! Tiny made-up models: real GGUF files that llama.cpp loads in milliseconds, with weights from a small random
//! generator. They say nothing sensible, but the same thing every time, which is what mechanism is tested with.
//!
//! Needs the standard library alone, so that other test crates can include this file by path.

use std::io;
use std::path::Path;

/// Token that begins a turn.
pub const TURN_BEGIN: &str = "<|im_start|>";
/// Token that ends a turn.
pub const TURN_END: &str = "<|im_end|>";
/// The ChatML template of the files.
pub const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + \
    message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\n' }}{% endif %}";

pub(super) const ALIGNMENT: usize = 32;
const WIDTH: usize = 64;
const HEADS: usize = 2;
const CONVOLUTION: usize = 3;
const MAMBA_INNER: usize = 2 * WIDTH;
const MAMBA_STATE: usize = 16;
const MAMBA_KERNEL: usize = 4;
const MAMBA_RANK: usize = 4;

/// Kind of model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// Attention, with a KV cache that can forget its end.
    Llama,
    /// A recurrent state, which cannot forget a part.
    Mamba,
    /// Attention and short convolutions in turn: a hybrid, which cannot forget a part either.
    Lfm2,
}

/// Something wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Tensors claim to lie outside the file.
    BadOffsets,
    /// An architecture nobody knows.
    UnknownArch,
    /// The last half of the file is missing.
    Truncated,
    /// A weight is not a number, so that every logit is one neither.
    NotANumber,
    /// Norms are huge and the matrices behind them as small: it says what it would say without, and whatever is added to
    /// one of those matrices is more than a number can hold.
    Steep,
}

/// How huge and how small those are.
const STEEP: f32 = 1e25;

/// What a made-up model is like.
#[derive(Debug, Clone)]
pub struct Tiny {
    /// Its kind.
    pub arch: Arch,
    /// Seed of the weights; the same options make the same bytes.
    pub seed: u64,
    /// Layers; more make it slower.
    pub layers: u32,
    /// Width of the part of a layer that looks at one token alone; more makes it slower without any more KV cache.
    pub feed_forward: u32,
    /// Context it claims to be trained for.
    pub context: u32,
    /// Speak in all bytes, valid UTF-8 or not, instead of mostly printable ASCII.
    pub wild: bool,
    /// Jinja chat template, if the file has one.
    pub template: Option<String>,
    /// Something wrong with it.
    pub flaw: Option<Flaw>,
}

impl Default for Tiny {
    fn default() -> Self {
        Self {
            arch: Arch::Llama,
            seed: 1,
            layers: 2,
            feed_forward: 128,
            context: 8192,
            wild: false,
            template: Some(CHATML.into()),
            flaw: None,
        }
    }
}

struct Tensor {
    name: String,
    /// Fastest first, as GGUF counts.
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Tensor {
    /// What [`Flaw::Steep`] makes of it.
    fn steepen(&mut self) {
        let factor = match self.name.rsplit('.').nth(1) {
            Some("attn_norm" | "ffn_norm") => STEEP,
            Some("attn_q" | "attn_k" | "attn_v" | "ffn_gate" | "ffn_up") => 1.0 / STEEP,
            _ => return,
        };
        self.values.iter_mut().for_each(|value| *value *= factor);
    }
}

impl Tiny {
    /// The file's bytes: below 1 MB for two layers.
    pub fn bytes(&self) -> Vec<u8> {
        let vocabulary = Vocabulary::new();
        let mut tensors = self.tensors(&vocabulary);
        if self.flaw == Some(Flaw::NotANumber)
            && let Some(norm) = tensors
                .iter_mut()
                .find(|tensor| tensor.name == "output_norm.weight")
        {
            norm.values.fill(f32::NAN);
        }
        if self.flaw == Some(Flaw::Steep) {
            tensors.iter_mut().for_each(Tensor::steepen);
        }
        let mut values = self.metadata(&vocabulary);
        let mut file = Vec::new();
        file.extend_from_slice(b"GGUF");
        file.extend_from_slice(&3_u32.to_le_bytes());
        file.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
        file.extend_from_slice(&(values.count as u64).to_le_bytes());
        file.append(&mut values.bytes);
        let mut offset = 0_u64;
        for tensor in &tensors {
            put_text(&mut file, &tensor.name);
            file.extend_from_slice(&small(tensor.shape.len()).to_le_bytes());
            for side in &tensor.shape {
                file.extend_from_slice(&(*side as u64).to_le_bytes());
            }
            file.extend_from_slice(&0_u32.to_le_bytes());
            let claimed = if self.flaw == Some(Flaw::BadOffsets) {
                offset + (1 << 40)
            } else {
                offset
            };
            file.extend_from_slice(&claimed.to_le_bytes());
            offset += (tensor.values.len() * 4).next_multiple_of(ALIGNMENT) as u64;
        }
        for tensor in &tensors {
            file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
            file.extend(tensor.values.iter().flat_map(|value| value.to_le_bytes()));
        }
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        if self.flaw == Some(Flaw::Truncated) {
            file.truncate(file.len() / 2);
        }
        file
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.bytes())
    }

    pub(super) fn arch_name(&self) -> &'static str {
        match (self.flaw, self.arch) {
            (Some(Flaw::UnknownArch), _) => "unheard-of",
            (_, Arch::Llama) => "llama",
            (_, Arch::Mamba) => "mamba",
            (_, Arch::Lfm2) => "lfm2",
        }
    }

    fn metadata(&self, vocabulary: &Vocabulary) -> Values {
        let arch = self.arch_name();
        let mut values = Values::default();
        values.text("general.architecture", arch);
        values.text("general.name", "made up");
        values.number(&format!("{arch}.context_length"), self.context as usize);
        values.number(&format!("{arch}.embedding_length"), WIDTH);
        values.number(&format!("{arch}.block_count"), self.layers as usize);
        values.float(&format!("{arch}.attention.layer_norm_rms_epsilon"), 1e-5);
        match self.arch {
            Arch::Llama => {
                values.number(&format!("{arch}.feed_forward_length"), self.feed_forward as usize);
                values.number(&format!("{arch}.attention.head_count"), HEADS);
                values.number(&format!("{arch}.attention.head_count_kv"), 1);
                values.number(&format!("{arch}.rope.dimension_count"), WIDTH / HEADS);
            }
            Arch::Lfm2 => {
                values.number(&format!("{arch}.feed_forward_length"), self.feed_forward as usize);
                values.number(&format!("{arch}.attention.head_count"), HEADS);
                // A layer without attention has no heads.
                let heads: Vec<i32> = (0..self.layers).map(|layer| i32::from(layer % 2 == 1)).collect();
                values.kinds(&format!("{arch}.attention.head_count_kv"), &heads);
                values.number(&format!("{arch}.rope.dimension_count"), WIDTH / HEADS);
                values.number(&format!("{arch}.shortconv.l_cache"), CONVOLUTION);
            }
            Arch::Mamba => {
                values.number(&format!("{arch}.feed_forward_length"), 0);
                values.number(&format!("{arch}.attention.head_count"), 0);
                values.number(&format!("{arch}.ssm.conv_kernel"), MAMBA_KERNEL);
                values.number(&format!("{arch}.ssm.inner_size"), MAMBA_INNER);
                values.number(&format!("{arch}.ssm.state_size"), MAMBA_STATE);
                values.number(&format!("{arch}.ssm.time_step_rank"), MAMBA_RANK);
            }
        }
        values.text("tokenizer.ggml.model", "gpt2");
        values.text("tokenizer.ggml.pre", "gpt-2");
        values.texts("tokenizer.ggml.tokens", &vocabulary.tokens);
        values.kinds("tokenizer.ggml.token_type", &vocabulary.kinds);
        values.texts("tokenizer.ggml.merges", &vocabulary.merges);
        values.number("tokenizer.ggml.bos_token_id", vocabulary.id("<|endoftext|>"));
        values.number("tokenizer.ggml.eos_token_id", vocabulary.id(TURN_END));
        if let Some(template) = &self.template {
            values.text("tokenizer.chat_template", template);
        }
        values
    }

    fn tensors(&self, vocabulary: &Vocabulary) -> Vec<Tensor> {
        let mut random = Random(self.seed ^ 0x5a5a_1234_8765_a5a5);
        let size = vocabulary.tokens.len();
        let mut tensors = Vec::new();
        let mut add = |name: String, shape: &[usize], fill: &mut dyn FnMut(usize) -> f32| {
            let count = shape.iter().product();
            tensors.push(Tensor {
                name,
                shape: shape.to_vec(),
                values: (0..count).map(fill).collect(),
            });
        };
        add("token_embd.weight".into(), &[WIDTH, size], &mut |_| random.next());
        let norm = match self.arch {
            Arch::Lfm2 => "token_embd_norm.weight",
            Arch::Llama | Arch::Mamba => "output_norm.weight",
        };
        add(norm.into(), &[WIDTH], &mut |_| 1.0);
        // Rows of tokens that should be rare are zero: their logit is 0 while others reach 6.
        add("output.weight".into(), &[WIDTH, size], &mut |at| {
            let value = random.next() * 0.5;
            if self.wild && at / WIDTH < 256 || vocabulary.is_printable(at / WIDTH) {
                value
            } else {
                0.0
            }
        });
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            add(name("attn_norm.weight"), &[WIDTH], &mut |_| 1.0);
            match self.arch {
                Arch::Lfm2 if layer % 2 == 0 => {
                    for (part, shape) in [
                        ("shortconv.conv.weight", [CONVOLUTION, WIDTH]),
                        ("shortconv.in_proj.weight", [WIDTH, 3 * WIDTH]),
                        ("shortconv.out_proj.weight", [WIDTH, WIDTH]),
                    ] {
                        add(name(part), &shape, &mut |_| random.next() * 0.3);
                    }
                }
                Arch::Llama | Arch::Lfm2 => {
                    let head = WIDTH / HEADS;
                    if self.arch == Arch::Lfm2 {
                        for part in ["attn_q_norm.weight", "attn_k_norm.weight"] {
                            add(name(part), &[head], &mut |_| 1.0);
                        }
                    }
                    for (part, shape) in [
                        ("attn_q.weight", [WIDTH, WIDTH]),
                        ("attn_k.weight", [WIDTH, head]),
                        ("attn_v.weight", [WIDTH, head]),
                        ("attn_output.weight", [WIDTH, WIDTH]),
                    ] {
                        add(name(part), &shape, &mut |_| random.next() * 0.3);
                    }
                }
                Arch::Mamba => {
                    add(name("ssm_in.weight"), &[WIDTH, 2 * MAMBA_INNER], &mut |_| {
                        random.next() * 0.3
                    });
                    add(
                        name("ssm_conv1d.weight"),
                        &[MAMBA_KERNEL, MAMBA_INNER],
                        &mut |_| random.next(),
                    );
                    add(name("ssm_conv1d.bias"), &[MAMBA_INNER], &mut |_| 0.0);
                    let rows = MAMBA_RANK + 2 * MAMBA_STATE;
                    add(name("ssm_x.weight"), &[MAMBA_INNER, rows], &mut |_| {
                        random.next() * 0.2
                    });
                    add(name("ssm_dt.weight"), &[MAMBA_RANK, MAMBA_INNER], &mut |_| {
                        random.next() * 0.3
                    });
                    add(name("ssm_dt.bias"), &[MAMBA_INNER], &mut |_| -2.0);
                    add(name("ssm_a"), &[MAMBA_STATE, MAMBA_INNER], &mut |at| {
                        -((at % MAMBA_STATE) as f32 + 1.0)
                    });
                    add(name("ssm_d"), &[MAMBA_INNER], &mut |_| 1.0);
                    add(name("ssm_out.weight"), &[MAMBA_INNER, WIDTH], &mut |_| {
                        random.next() * 0.3
                    });
                }
            }
            if self.arch != Arch::Mamba {
                add(name("ffn_norm.weight"), &[WIDTH], &mut |_| 1.0);
                let wide = self.feed_forward as usize;
                // A sum of more terms is larger: what a layer adds must not drown what was there.
                let scale = 0.2 * (128.0 / self.feed_forward as f32).sqrt();
                for (part, shape, scale) in [
                    ("ffn_gate.weight", [WIDTH, wide], 0.2),
                    ("ffn_up.weight", [WIDTH, wide], 0.2),
                    ("ffn_down.weight", [wide, WIDTH], scale),
                ] {
                    add(name(part), &shape, &mut |_| random.next() * scale);
                }
            }
        }
        tensors
    }
}

/// Bytes, a few merges, and the tokens of a chat.
struct Vocabulary {
    tokens: Vec<String>,
    kinds: Vec<i32>,
    merges: Vec<String>,
}

impl Vocabulary {
    fn new() -> Self {
        const NORMAL: i32 = 1;
        const CONTROL: i32 = 3;
        // GPT-2 writes each byte as a printable character.
        let mut spare = 256;
        let mut tokens: Vec<String> = (0..=255_u8)
            .map(|byte| {
                let own = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
                let code = if own {
                    u32::from(byte)
                } else {
                    spare += 1;
                    spare - 1
                };
                char::from_u32(code).map(String::from).unwrap_or_default()
            })
            .collect();
        let merges: Vec<String> = ["h e", "i n", "Ġ t", "Ġ a", "Ġt he", "o n", "e r", "Ġ s"]
            .map(String::from)
            .into();
        tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
        let mut kinds = vec![NORMAL; tokens.len()];
        for control in ["<|endoftext|>", TURN_BEGIN, TURN_END] {
            tokens.push(control.into());
            kinds.push(CONTROL);
        }
        Self {
            tokens,
            kinds,
            merges,
        }
    }

    fn id(&self, token: &str) -> usize {
        self.tokens.iter().position(|known| known == token).unwrap_or(0)
    }

    fn is_printable(&self, token: usize) -> bool {
        (32..127).contains(&token) || (256..self.tokens.len() - 3).contains(&token)
    }
}

/// Metadata as GGUF writes it.
#[derive(Default)]
pub(super) struct Values {
    pub(super) bytes: Vec<u8>,
    pub(super) count: usize,
}

impl Values {
    fn key(&mut self, key: &str, kind: u32) {
        self.count += 1;
        put_text(&mut self.bytes, key);
        self.bytes.extend_from_slice(&kind.to_le_bytes());
    }

    fn number(&mut self, key: &str, value: usize) {
        self.key(key, 4);
        self.bytes.extend_from_slice(&small(value).to_le_bytes());
    }

    pub(super) fn float(&mut self, key: &str, value: f32) {
        self.key(key, 6);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        put_text(&mut self.bytes, value);
    }

    fn array(&mut self, key: &str, kind: u32, length: usize) {
        self.key(key, 9);
        self.bytes.extend_from_slice(&kind.to_le_bytes());
        self.bytes.extend_from_slice(&(length as u64).to_le_bytes());
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        self.array(key, 8, values.len());
        for value in values {
            put_text(&mut self.bytes, value);
        }
    }

    fn kinds(&mut self, key: &str, values: &[i32]) {
        self.array(key, 5, values.len());
        self.bytes
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
}

/// Everything that is counted here is small.
pub(super) fn small(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

pub(super) fn put_text(to: &mut Vec<u8>, text: &str) {
    to.extend_from_slice(&(text.len() as u64).to_le_bytes());
    to.extend_from_slice(text.as_bytes());
}

/// splitmix64, mapped to [-1, 1).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((z >> 40) as f32) / 8_388_608.0 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_options_make_the_same_bytes_and_a_seed_makes_others() {
        let tiny = Tiny::default();
        assert_eq!(tiny.bytes(), tiny.bytes());
        assert_ne!(
            tiny.bytes(),
            Tiny {
                seed: 2,
                ..tiny.clone()
            }
            .bytes()
        );
        assert!(tiny.bytes().len() < 1_000_000);
    }
}
