//! The adapter as llama.cpp reads it, written and read again.

use std::io::Write;

use super::lora::LoraModel;
use crate::Error;
use crate::gguf::{Field, write_file};
use crate::learner::Learner;
use crate::lora_file::{LoraFile, Matrices};
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

/// The parameters of an adapter of these bytes, as [`write_adapter`] wrote them for a model like this one.
///
/// # Errors
///
/// [`Error::AdapterFile`] when it is none, or one of another architecture, scale, rank, shape or choice of weights.
pub fn read_adapter(model: &LoraModel, bytes: &[u8]) -> Result<Vec<f32>, Error> {
    let fail = |why: String| Err(Error::AdapterFile(why));
    let mut file = LoraFile::read(bytes)?;
    let architecture = model.base.architecture().name();
    if file.architecture != architecture {
        let found = &file.architecture;
        return fail(format!(
            "it is for a \"{found:.40}\", the base is a \"{architecture}\""
        ));
    }
    if file.alpha.to_bits() != model.config.alpha.to_bits() {
        return fail(format!("its alpha is {}, not {}", file.alpha, model.config.alpha));
    }
    let rank = model.config.rank;
    let mut updates = std::mem::take(&mut file.updates);
    let mut parameters = vec![0.0; model.parameters()];
    for slot in &model.slots {
        let weight = format!("blk.{}.{}.weight", slot.layer, slot.target.name());
        let Some(Matrices { a, b }) = updates.remove(&weight) else {
            return fail(format!("it does not update \"{weight}\""));
        };
        if a.rows != rank {
            return fail(format!(
                "its update of \"{weight}\" has rank {}, not {rank}",
                a.rows
            ));
        }
        let (inputs, outputs) = (slot.a.len() / rank, slot.b.len() / rank);
        if (a.columns, b.rows) != (inputs, outputs) {
            let (columns, rows) = (a.columns, b.rows);
            return fail(format!(
                "its update of \"{weight}\" is of {rows} rows of {columns}, not {outputs} of {inputs}"
            ));
        }
        parameters[slot.a.clone()].copy_from_slice(&file.values(&a)?);
        parameters[slot.b.clone()].copy_from_slice(&file.values(&b)?);
    }
    match updates.keys().next() {
        Some(weight) => fail(format!("it updates \"{weight:.80}\", which is not to be updated")),
        None => Ok(parameters),
    }
}

// Slices of numbers are written as they are in memory.
#[cfg(not(target_endian = "little"))]
compile_error!("GGUF is written on little-endian machines alone");
