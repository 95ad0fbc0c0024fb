//! Shape of Qwen2.5-Omni-3B's projector file: a vision and an audio encoder, each with its way into the text model,
//! as llama.cpp's `clip.cpp` loads them (`clip.projector_type` `qwen2.5o`).

use super::{Extent, Kind, Mix, Place, Shape, Tensor, introduction};

/// Patches are squares of this side, two frames deep.
const PATCH: usize = 14;
/// Patches a side of the square that becomes one token of the text model.
const MERGE: usize = 2;
/// Mel bins of a sound's spectrum.
const BINS: usize = 128;

/// Sides of both encoders.
struct Sides {
    layers: usize,
    width: usize,
    vision_heads: usize,
    vision_feed_forward: usize,
    audio_heads: usize,
    audio_feed_forward: usize,
    /// Half-frames of the longest sound: 30 s.
    positions: usize,
    /// Width of the text model.
    text: usize,
}

/// Vision and audio encoders of Qwen2.5-Omni-3B.
pub fn omni(mix: Mix, extent: Extent) -> Shape {
    let sides = match extent {
        Extent::Full => Sides {
            layers: 32,
            width: 1280,
            vision_heads: 16,
            vision_feed_forward: 3420,
            audio_heads: 20,
            audio_feed_forward: 5120,
            positions: 1500,
            text: 2048,
        },
        Extent::Small => Sides {
            layers: 8,
            width: 160,
            vision_heads: 2,
            vision_feed_forward: 180,
            audio_heads: 2,
            audio_feed_forward: 320,
            positions: 1500,
            text: 512,
        },
    };
    let mut values = introduction("Qwen2.5-Omni-3B's projector", "mmproj", "clip", mix);
    values.text("clip.projector_type", "qwen2.5o");
    values.flag("clip.has_vision_encoder", true);
    values.flag("clip.has_audio_encoder", true);
    values.flag("clip.use_silu", true);
    for (part, heads, feed_forward, epsilon) in [
        ("vision", sides.vision_heads, sides.vision_feed_forward, 1e-6),
        ("audio", sides.audio_heads, sides.audio_feed_forward, 1e-5),
    ] {
        for (key, value) in [
            ("block_count", sides.layers),
            ("embedding_length", sides.width),
            ("feed_forward_length", feed_forward),
            ("attention.head_count", heads),
            ("projection_dim", sides.text),
        ] {
            values.number(&format!("clip.{part}.{key}"), small(value));
        }
        values.float(&format!("clip.{part}.attention.layer_norm_epsilon"), epsilon);
    }
    values.number("clip.vision.image_size", 560);
    values.number("clip.vision.patch_size", small(PATCH));
    values.number("clip.vision.spatial_merge_size", small(MERGE));
    // Every eighth layer sees the whole image, the others windows of it.
    values.number("clip.vision.n_wa_pattern", 8);
    values.floats(
        "clip.vision.image_mean",
        &[0.481_454_66, 0.457_827_5, 0.408_210_73],
    );
    values.floats("clip.vision.image_std", &[0.268_629_54, 0.261_302_6, 0.275_777_1]);
    values.number("clip.audio.num_mel_bins", small(BINS));

    let mut tensors = Vec::new();
    vision(&sides, mix, &mut tensors);
    audio(&sides, mix, &mut tensors);
    Shape {
        file: format!("mmproj-Qwen2.5-Omni-3B-{mix}-noise.gguf"),
        metadata: values,
        tensors,
    }
}

/// A layer's matrix with its bias.
fn linear(name: &str, sides: [usize; 2], mix: Mix, to: &mut Vec<Tensor>) {
    to.push(Tensor::matrix(
        format!("{name}.weight"),
        &sides,
        mix.kind(Place::Other, 1),
    ));
    to.push(Tensor::bias(format!("{name}.bias"), sides[1]));
}

fn vision(sides: &Sides, mix: Mix, to: &mut Vec<Tensor>) {
    // Kernels of convolutions stay floats.
    for name in ["v.patch_embd.weight", "v.patch_embd.weight.1"] {
        to.push(Tensor::matrix(
            name.into(),
            &[PATCH, PATCH, 3, sides.width],
            Kind::F16,
        ));
    }
    for layer in 0..sides.layers {
        let name = |part: &str| format!("v.blk.{layer}.{part}");
        to.push(Tensor::norm(name("ln1.weight"), sides.width));
        for part in ["attn_q", "attn_k", "attn_v", "attn_out"] {
            linear(&name(part), [sides.width; 2], mix, to);
        }
        to.push(Tensor::norm(name("ln2.weight"), sides.width));
        for part in ["ffn_gate", "ffn_up"] {
            linear(&name(part), [sides.width, sides.vision_feed_forward], mix, to);
        }
        linear(
            &name("ffn_down"),
            [sides.vision_feed_forward, sides.width],
            mix,
            to,
        );
    }
    to.push(Tensor::norm("v.post_ln.weight".into(), sides.width));
    let merged = MERGE * MERGE * sides.width;
    linear("mm.0", [merged; 2], mix, to);
    linear("mm.2", [merged, sides.text], mix, to);
}

fn audio(sides: &Sides, mix: Mix, to: &mut Vec<Tensor>) {
    for (at, inputs) in [(1, BINS), (2, sides.width)] {
        let kernel = [3, inputs, sides.width];
        to.push(Tensor::matrix(
            format!("a.conv1d.{at}.weight"),
            &kernel,
            Kind::F16,
        ));
        let bias = Tensor::bias(format!("a.conv1d.{at}.bias"), sides.width);
        to.push(Tensor {
            sides: vec![1, sides.width],
            ..bias
        });
    }
    to.push(Tensor {
        kind: Kind::F32,
        ..Tensor::matrix(
            "a.position_embd.weight".into(),
            &[sides.width, sides.positions],
            Kind::F32,
        )
    });
    for layer in 0..sides.layers {
        let name = |part: &str| format!("a.blk.{layer}.{part}");
        for part in ["ln1", "ln2"] {
            to.push(Tensor::norm(name(&format!("{part}.weight")), sides.width));
            to.push(Tensor::bias(name(&format!("{part}.bias")), sides.width));
        }
        for part in ["attn_q", "attn_v", "attn_out"] {
            linear(&name(part), [sides.width; 2], mix, to);
        }
        // Keys have no bias.
        to.push(Tensor::matrix(
            name("attn_k.weight"),
            &[sides.width; 2],
            mix.kind(Place::Other, 1),
        ));
        linear(&name("ffn_up"), [sides.width, sides.audio_feed_forward], mix, to);
        linear(
            &name("ffn_down"),
            [sides.audio_feed_forward, sides.width],
            mix,
            to,
        );
    }
    to.push(Tensor::norm("a.post_ln.weight".into(), sides.width));
    to.push(Tensor::bias("a.post_ln.bias".into(), sides.width));
    linear("mm.a.fc", [sides.width, sides.text], mix, to);
}

/// Sides of the shapes above are far below the limit.
fn small(side: usize) -> u32 {
    u32::try_from(side).unwrap_or(u32::MAX)
}
