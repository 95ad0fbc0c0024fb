//! The adapter as llama.cpp reads it.

use std::io::Write;

use super::lora::LoraModel;
use crate::Error;
use crate::gguf::{Field, write_file};
use crate::learner::Learner;
use crate::quantised::Kind;

/// Writes an adapter with these parameters as a GGUF file of llama.cpp's kind: for each weight W that has an update,
/// `W.lora_a` (rank rows as long as W's input) and `W.lora_b` (as many rows as W's output is long, of rank), in f32.
///
/// # Errors
///
/// [`Error::Input`] when the parameters are not the model's or not all finite, [`Error::Io`] when they can't be
/// written.
pub fn write_adapter(model: &LoraModel, parameters: &[f32], to: &mut impl Write) -> Result<(), Error> {
    if parameters.len() != model.parameters() {
        let (found, expected) = (parameters.len(), model.parameters());
        return Err(Error::Input(format!("{found} parameters instead of {expected}")));
    }
    if !parameters.iter().all(|value| value.is_finite()) {
        return Err(Error::Input("a parameter is not finite".into()));
    }
    let keys = [
        ("general.type", Field::String("adapter".into())),
        (
            "general.architecture",
            Field::String(model.base.architecture().name().into()),
        ),
        ("adapter.type", Field::String("lora".into())),
        ("adapter.lora.alpha", Field::F32(model.config.alpha)),
    ];
    let rank = model.config.rank;
    let mut tensors = Vec::new();
    for slot in &model.slots {
        let weight = format!("blk.{}.{}.weight", slot.layer, slot.target.name());
        let a: &[u8] = bytemuck::cast_slice(&parameters[slot.a.clone()]);
        let b: &[u8] = bytemuck::cast_slice(&parameters[slot.b.clone()]);
        tensors.push((
            format!("{weight}.lora_a"),
            Kind::F32,
            [slot.a.len() / rank, rank],
            a,
        ));
        tensors.push((
            format!("{weight}.lora_b"),
            Kind::F32,
            [rank, slot.b.len() / rank],
            b,
        ));
    }
    write_file(to, &keys, &tensors).map_err(|source| Error::Io {
        what: "write the adapter",
        source,
    })
}

// Slices of numbers are written as they are in memory.
#[cfg(not(target_endian = "little"))]
compile_error!("GGUF is written on little-endian machines alone");
