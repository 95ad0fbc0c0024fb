//! Shapes of the text models: `qwen2vl` and `lfm2` as llama.cpp loads them.

use super::{Extent, Metadata, Mix, Place, Shape, Tensor, Vocabulary, introduction};
use crate::gguf::CHATML;

/// Loudness of the output layer: with weights as wide as all others every token would be about as likely as the next,
/// and what is sampled would be one long tail.
const OUTPUT_LOUDNESS: f32 = 4.0;

/// Control tokens of Qwen2.5-Omni, from the first number after the ordinary ones on.
const QWEN_TOKENS: [&str; 22] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|AUDIO|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_bos|>",
    "<|vision_eos|>",
    "<|vision_pad|>",
    "<|IMAGE|>",
    "<|VIDEO|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
];

/// Control tokens of LFM2, from number 0 on.
const LFM2_TOKENS: [&str; 14] = [
    "<|pad|>",
    "<|startoftext|>",
    "<|endoftext|>",
    "<|fim_pre|>",
    "<|fim_mid|>",
    "<|fim_suf|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|tool_list_start|>",
    "<|tool_list_end|>",
    "<|tool_call_start|>",
    "<|tool_call_end|>",
    "<|tool_response_start|>",
    "<|tool_response_end|>",
];

/// Sides of a text model.
struct Sides {
    layers: usize,
    width: usize,
    heads: usize,
    /// Heads of keys and values.
    shared: usize,
    feed_forward: usize,
    vocabulary: usize,
    /// Ordinary tokens end here.
    ordinary: usize,
}

impl Sides {
    fn head(&self) -> usize {
        self.width / self.heads
    }

    /// Metadata that both kinds have.
    fn describe(&self, arch: &str, context: u32, epsilon: f32, values: &mut Metadata) {
        for (key, value) in [
            ("block_count", self.layers),
            ("embedding_length", self.width),
            ("feed_forward_length", self.feed_forward),
            ("attention.head_count", self.heads),
        ] {
            values.number(&format!("{arch}.{key}"), small(value));
        }
        values.number(&format!("{arch}.context_length"), context);
        values.float(&format!("{arch}.rope.freq_base"), 1_000_000.0);
        values.float(&format!("{arch}.attention.layer_norm_rms_epsilon"), epsilon);
    }

    /// The tensors of a feed-forward network.
    fn feed_forward(&self, layer: usize, mix: Mix, gqa: usize, to: &mut Vec<Tensor>) {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        to.push(Tensor::norm(name("ffn_norm"), self.width));
        for (part, sides, place) in [
            ("ffn_gate", [self.width, self.feed_forward], Place::Other),
            ("ffn_up", [self.width, self.feed_forward], Place::Other),
            (
                "ffn_down",
                [self.feed_forward, self.width],
                Place::Down(layer, self.layers),
            ),
        ] {
            to.push(Tensor::matrix(name(part), &sides, mix.kind(place, gqa)));
        }
    }

    /// The matrices of attention; `value` is the how manyth layer with attention it is, of how many.
    fn attention(&self, layer: usize, value: (usize, usize), mix: Mix, gqa: usize, to: &mut Vec<Tensor>) {
        let shared = self.shared * self.head();
        for (part, sides, place) in [
            ("attn_q", [self.width, self.width], Place::Other),
            ("attn_k", [self.width, shared], Place::Other),
            ("attn_v", [self.width, shared], Place::Value(value.0, value.1)),
            ("attn_output", [self.width, self.width], Place::Other),
        ] {
            to.push(Tensor::matrix(
                format!("blk.{layer}.{part}.weight"),
                &sides,
                mix.kind(place, gqa),
            ));
        }
    }
}

/// Qwen2.5-Omni-3B's text model.
pub fn omni(mix: Mix, extent: Extent) -> Shape {
    let sides = match extent {
        Extent::Full => Sides {
            layers: 36,
            width: 2048,
            heads: 16,
            shared: 2,
            feed_forward: 11_008,
            vocabulary: 151_936,
            ordinary: 151_643,
        },
        Extent::Small => Sides {
            layers: 9,
            width: 512,
            heads: 4,
            shared: 1,
            feed_forward: 768,
            vocabulary: 2048,
            ordinary: 2000,
        },
    };
    let vocabulary = Vocabulary::new(&[], sides.ordinary, &QWEN_TOKENS, sides.vocabulary);
    let mut values = introduction("Qwen2.5-Omni-3B", "model", "qwen2vl", mix);
    sides.describe("qwen2vl", 32_768, 1e-6, &mut values);
    values.number("qwen2vl.attention.head_count_kv", small(sides.shared));
    values.numbers("qwen2vl.rope.dimension_sections", &[16, 24, 24, 0]);
    tokenizer(
        &mut values,
        &vocabulary,
        "qwen2",
        "<|endoftext|>",
        "<|endoftext|>",
    );
    values.flag("tokenizer.ggml.add_bos_token", false);
    values.text("tokenizer.chat_template", CHATML);

    let gqa = sides.heads / sides.shared;
    let table = [sides.width, sides.vocabulary];
    let mut tensors = vec![
        Tensor::matrix(
            "token_embd.weight".into(),
            &table,
            mix.kind(Place::Embedding, gqa),
        ),
        Tensor::norm("output_norm.weight".into(), sides.width),
        Tensor::matrix("output.weight".into(), &table, mix.kind(Place::Output, gqa)).louder(OUTPUT_LOUDNESS),
    ];
    for layer in 0..sides.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        tensors.push(Tensor::norm(name("attn_norm.weight"), sides.width));
        sides.attention(layer, (layer, sides.layers), mix, gqa, &mut tensors);
        for (part, side) in [
            ("attn_q.bias", sides.width),
            ("attn_k.bias", sides.shared * sides.head()),
            ("attn_v.bias", sides.shared * sides.head()),
        ] {
            tensors.push(Tensor::bias(name(part), side));
        }
        sides.feed_forward(layer, mix, gqa, &mut tensors);
    }
    Shape {
        file: format!("Qwen2.5-Omni-3B-{mix}-noise.gguf"),
        metadata: values,
        tensors,
    }
}

/// LFM2-1.2B: attention in six layers, short convolutions in the others.
pub fn lfm2(mix: Mix, extent: Extent) -> Shape {
    const CONVOLUTION: usize = 3;
    let (sides, attention): (_, &[usize]) = match extent {
        Extent::Full => (
            Sides {
                layers: 16,
                width: 2048,
                heads: 32,
                shared: 8,
                feed_forward: 8192,
                vocabulary: 65_536,
                ordinary: 64_400,
            },
            &[2, 5, 8, 10, 12, 14],
        ),
        Extent::Small => (
            Sides {
                layers: 9,
                width: 512,
                heads: 8,
                shared: 2,
                feed_forward: 768,
                vocabulary: 2048,
                ordinary: 2000,
            },
            &[2, 5, 8],
        ),
    };
    let vocabulary = Vocabulary::new(&LFM2_TOKENS, sides.ordinary, &[], sides.vocabulary);
    let mut values = introduction("LFM2-1.2B", "model", "lfm2", mix);
    sides.describe("lfm2", 128_000, 1e-5, &mut values);
    let heads: Vec<i32> = (0..sides.layers)
        .map(|layer| {
            if attention.contains(&layer) {
                signed(sides.shared)
            } else {
                0
            }
        })
        .collect();
    values.numbers("lfm2.attention.head_count_kv", &heads);
    values.number("lfm2.vocab_size", small(sides.vocabulary));
    values.number("lfm2.shortconv.l_cache", small(CONVOLUTION));
    tokenizer(&mut values, &vocabulary, "lfm2", "<|startoftext|>", "<|pad|>");
    values.flag("tokenizer.ggml.add_bos_token", true);
    values.text("tokenizer.chat_template", &format!("{{{{ bos_token }}}}{CHATML}"));

    // llama.cpp asks the first layer, which has no attention.
    let gqa = 0;
    let mut tensors = vec![
        // The output layer too. Not louder: embeddings are normalised before anything else.
        Tensor::matrix(
            "token_embd.weight".into(),
            &[sides.width, sides.vocabulary],
            mix.kind(Place::Output, gqa),
        )
        .louder(OUTPUT_LOUDNESS),
        Tensor::norm("token_embd_norm.weight".into(), sides.width),
    ];
    for layer in 0..sides.layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        tensors.push(Tensor::norm(name("attn_norm"), sides.width));
        if let Some(at) = attention.iter().position(|with| *with == layer) {
            tensors.push(Tensor::norm(name("attn_q_norm"), sides.head()));
            tensors.push(Tensor::norm(name("attn_k_norm"), sides.head()));
            sides.attention(layer, (at, attention.len()), mix, gqa, &mut tensors);
        } else {
            tensors.push(Tensor {
                kind: super::Kind::F32,
                ..Tensor::matrix(
                    name("shortconv.conv"),
                    &[CONVOLUTION, sides.width],
                    mix.kind(Place::Other, gqa),
                )
            });
            for (part, outputs) in [
                ("shortconv.in_proj", 3 * sides.width),
                ("shortconv.out_proj", sides.width),
            ] {
                let kind = mix.kind(Place::Other, gqa);
                tensors.push(Tensor::matrix(name(part), &[sides.width, outputs], kind));
            }
        }
        sides.feed_forward(layer, mix, gqa, &mut tensors);
    }
    Shape {
        file: format!("LFM2-1.2B-{mix}-noise.gguf"),
        metadata: values,
        tensors,
    }
}

fn tokenizer(values: &mut Metadata, vocabulary: &Vocabulary, splitter: &str, begin: &str, padding: &str) {
    values.text("tokenizer.ggml.model", "gpt2");
    values.text("tokenizer.ggml.pre", splitter);
    values.texts("tokenizer.ggml.tokens", &vocabulary.tokens);
    values.numbers("tokenizer.ggml.token_type", &vocabulary.kinds);
    values.texts("tokenizer.ggml.merges", &vocabulary.merges);
    for (key, token) in [
        ("tokenizer.ggml.bos_token_id", begin),
        ("tokenizer.ggml.eos_token_id", "<|im_end|>"),
        ("tokenizer.ggml.padding_token_id", padding),
    ] {
        if let Some(id) = vocabulary.id(token) {
            values.number(key, id);
        }
    }
}

/// Sides of the shapes above are far below the limit.
fn small(side: usize) -> u32 {
    u32::try_from(side).unwrap_or(u32::MAX)
}

fn signed(side: usize) -> i32 {
    i32::try_from(side).unwrap_or(i32::MAX)
}
