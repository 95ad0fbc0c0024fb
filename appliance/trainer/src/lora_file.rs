//! Adapters as llama.cpp keeps them: which weights a file updates, and by what.
//!
//! For each weight `W` that is updated there are `W.lora_a` (as many rows as the rank, as long as W's input) and
//! `W.lora_b` (as many rows as W's output is long, of the rank); what is added to W is `alpha / rank` times the product
//! of the two. The file is not trusted.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use crate::Error;
use crate::gguf::{Directory, Tensor};
use crate::quantised::Kind;

/// Largest file that is read, bytes: rank 64 on every matrix of a model of 8 thousand million weights, twice.
pub const MAX_BYTES: u64 = 1 << 30;
/// Largest part of a file that is not numbers, bytes.
pub const MAX_HEAD: u64 = 1 << 20;

/// An adapter's file in memory.
#[derive(Debug)]
pub struct LoraFile<'a> {
    bytes: &'a [u8],
    /// Architecture of the base that it is for.
    pub architecture: String,
    /// What the updates are scaled by, times their rank.
    pub alpha: f32,
    /// The two matrices of each update, by the name of the weight.
    pub updates: BTreeMap<String, Matrices>,
}

/// The two matrices of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matrices {
    /// `rank` rows as long as the weight's input.
    pub a: Tensor,
    /// As many rows as the weight's output is long, of `rank`.
    pub b: Tensor,
}

impl Matrices {
    /// The rank of the update.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.a.rows
    }
}

impl<'a> LoraFile<'a> {
    /// Reads what a file of these bytes updates.
    ///
    /// # Errors
    ///
    /// [`Error::AdapterFile`] when it is no adapter of llama.cpp's kind.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let fail = |why: String| Error::AdapterFile(why);
        let directory = Directory::read(bytes).map_err(|error| fail(error.to_string()))?;
        let text = |key: &str| directory.string(key).unwrap_or_default();
        for (key, expected) in [("general.type", "adapter"), ("adapter.type", "lora")] {
            if text(key) != expected {
                return Err(fail(format!(
                    "its {key} is \"{:.40}\", not \"{expected}\"",
                    text(key)
                )));
            }
        }
        let alpha = directory.float("adapter.lora.alpha").unwrap_or(f64::NAN);
        if !alpha.is_finite() || alpha <= 0.0 {
            return Err(fail("its adapter.lora.alpha is no number above 0".into()));
        }
        let architecture = text("general.architecture").to_owned();
        let mut updates = BTreeMap::new();
        let mut tensors = directory.tensors;
        while let Some((name, tensor)) = tensors.pop_first() {
            // By their names, `a` comes before `b`.
            let weight = name.strip_suffix(".lora_a");
            let other = weight.and_then(|weight| tensors.remove(&format!("{weight}.lora_b")));
            let (Some(weight), Some(b)) = (weight, other) else {
                return Err(fail(format!("its tensor \"{name}\" is no half of an update")));
            };
            let (a, float) = (tensor, |kind| matches!(kind, Kind::F32 | Kind::F16 | Kind::Bf16));
            if !float(a.kind) || !float(b.kind) {
                return Err(fail(format!("its update of \"{weight}\" is quantised")));
            }
            if a.rows == 0 || b.rows == 0 || a.columns == 0 || a.rows != b.columns {
                let why = format!("the two matrices of its update of \"{weight}\" don't fit each other");
                return Err(fail(why));
            }
            updates.insert(weight.to_owned(), Matrices { a, b });
        }
        if updates.is_empty() {
            return Err(fail("it updates nothing".into()));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is written, and computed with, in single precision"
        )]
        let alpha = alpha as f32;
        Ok(Self {
            bytes,
            architecture,
            alpha,
            updates,
        })
    }

    /// The numbers of one of its matrices.
    ///
    /// # Errors
    ///
    /// [`Error::AdapterFile`] when one of them is not finite.
    pub fn values(&self, tensor: &Tensor) -> Result<Vec<f32>, Error> {
        // The directory was read of these bytes: the tensor is within them, and as long as its shape says.
        let mut values = vec![0.0; tensor.rows * tensor.columns];
        tensor
            .kind
            .dequantise(&self.bytes[tensor.bytes.clone()], &mut values);
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(Error::AdapterFile("one of its numbers is not finite".into()))
        }
    }
}

/// The bytes of a file, from its beginning wherever its descriptor stands, that has at most `most`.
///
/// # Errors
///
/// [`Error::AdapterFile`] when it is larger, or cannot be read.
pub fn bytes(file: &File, most: u64) -> Result<Vec<u8>, Error> {
    let unreadable = |error: std::io::Error| Error::AdapterFile(format!("it cannot be read: {error}"));
    let size = file.metadata().map_err(unreadable)?.len();
    let length = usize::try_from(size).ok().filter(|_| size <= most);
    let Some(length) = length else {
        return Err(Error::AdapterFile(format!(
            "it has {size} bytes, more than the {most} that it can have"
        )));
    };
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).map_err(unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{Field, write_file};

    type Change = fn(&mut Vec<(&'static str, Field)>, &mut Vec<(&'static str, Kind, [usize; 2], Vec<u8>)>);

    fn made(change: Change) -> Vec<u8> {
        let mut keys = vec![
            ("general.type", Field::String("adapter".into())),
            ("general.architecture", Field::String("llama".into())),
            ("adapter.type", Field::String("lora".into())),
            ("adapter.lora.alpha", Field::F32(4.0)),
        ];
        let ones = |count: usize| 1f32.to_le_bytes().repeat(count);
        let mut tensors = vec![
            ("w.lora_b", Kind::F32, [2, 3], ones(6)),
            ("w.lora_a", Kind::F32, [5, 2], ones(10)),
        ];
        change(&mut keys, &mut tensors);
        let mut bytes = Vec::new();
        write_file(&mut bytes, &keys, &tensors).unwrap();
        bytes
    }

    #[test]
    fn what_it_updates_is_read() {
        let bytes = made(|_, _| {});
        let file = LoraFile::read(&bytes).unwrap();
        assert_eq!((file.architecture.as_str(), file.alpha), ("llama", 4.0));
        let update = &file.updates["w"];
        assert_eq!(
            (update.rank(), update.a.columns, update.b.rows, file.updates.len()),
            (2, 5, 3, 1)
        );
        assert_eq!(file.values(&update.b).unwrap(), [1.0; 6]);
    }

    #[test]
    fn what_is_none_is_refused_with_the_reason() {
        let changes: [(&str, Change); 9] = [
            ("general.type is \"\"", |keys, _| drop(keys.remove(0))),
            ("adapter.type is \"control\"", |keys, _| {
                keys[2].1 = Field::String("control".into());
            }),
            ("alpha", |keys, _| drop(keys.remove(3))),
            ("alpha", |keys, _| keys[3].1 = Field::F32(f32::NAN)),
            ("updates nothing", |_, tensors| tensors.clear()),
            ("\"w.lora_a\" is no half", |_, tensors| drop(tensors.remove(0))),
            ("\"w.lora_b\" is no half", |_, tensors| drop(tensors.remove(1))),
            ("don't fit each other", |_, tensors| {
                tensors[0].2 = [3, 2];
            }),
            ("is quantised", |_, tensors| {
                tensors[0] = ("w.lora_b", Kind::Q8_0, [32, 1], vec![0; 34]);
            }),
        ];
        for (why, change) in changes {
            let error = LoraFile::read(&made(change)).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
        let whole = made(|_, _| {});
        for length in 0..whole.len() - 31 {
            // The last 31 bytes at most are padding.
            assert!(LoraFile::read(&whole[..length]).is_err(), "{length}");
        }
        let broken = made(|_, tensors| tensors[0].3[..4].copy_from_slice(&f32::INFINITY.to_le_bytes()));
        let file = LoraFile::read(&broken).unwrap();
        assert!(file.values(&file.updates["w"].b).is_err());
    }

    #[test]
    fn a_file_over_its_bound_is_not_read() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10).unwrap();
        assert_eq!(bytes(&file, 10).unwrap(), [0; 10]);
        let error = bytes(&file, 9).unwrap_err().to_string();
        assert!(error.contains("10 bytes, more than the 9"), "{error}");
    }
}
