//! Writes GGUF files, version 3.

use std::io::{self, Write};

use super::{ALIGNMENT, MAGIC, code};
use crate::quantised::Kind;

/// A value that can be written.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// A whole number.
    U32(u32),
    /// A number.
    F32(f32),
    /// A truth value.
    Bool(bool),
    /// A text.
    String(String),
    /// Texts.
    Strings(Vec<String>),
    /// Whole numbers.
    I32s(Vec<i32>),
    /// Numbers.
    F32s(Vec<f32>),
}

impl Field {
    /// The bytes of this key with this value.
    #[must_use]
    pub fn of(&self, key: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        string(&mut bytes, key);
        field(&mut bytes, self);
        bytes
    }
}

/// Writes a file with these keys and tensors: each with its name, kind, shape (columns, rows) and bytes. The
/// alignment is 32 bytes, or what `general.alignment` says.
///
/// # Errors
///
/// The writer's, and [`io::ErrorKind::InvalidInput`] when a tensor's bytes are not as many as its kind and shape say.
pub fn write_file<N, B>(
    to: &mut impl Write,
    keys: &[(&str, Field)],
    tensors: &[(N, Kind, [usize; 2], B)],
) -> io::Result<()>
where
    N: AsRef<str>,
    B: AsRef<[u8]>,
{
    let mut alignment = ALIGNMENT;
    let mut head = Vec::new();
    write_head(&mut head, 3, tensors.len(), keys.len());
    for (key, value) in keys {
        head.extend(value.of(key));
        if let ("general.alignment", Field::U32(value)) = (*key, value) {
            alignment = u64::from(*value).max(1);
        }
    }
    let mut offset = 0u64;
    for (name, kind, [columns, rows], bytes) in tensors {
        if bytes.as_ref().len() != kind.row_bytes(*columns) * rows {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a tensor has not the size of its shape",
            ));
        }
        string(&mut head, name.as_ref());
        // Vectors have one dimension, as llama.cpp expects of them.
        head.extend(if *rows == 1 { 1u32 } else { 2 }.to_le_bytes());
        head.extend((*columns as u64).to_le_bytes());
        if *rows != 1 {
            head.extend((*rows as u64).to_le_bytes());
        }
        head.extend(kind.code().to_le_bytes());
        head.extend(offset.to_le_bytes());
        offset = (offset + bytes.as_ref().len() as u64).next_multiple_of(alignment);
    }
    to.write_all(&head)?;
    write_padding(to, head.len() as u64, alignment)?;
    for (_, _, _, bytes) in tensors {
        to.write_all(bytes.as_ref())?;
        write_padding(to, bytes.as_ref().len() as u64, alignment)?;
    }
    Ok(())
}

/// Begins a file of the format's `version` with so many tensors and keys.
pub fn write_head(head: &mut Vec<u8>, version: u32, tensors: usize, keys: usize) {
    head.extend(MAGIC);
    head.extend(version.to_le_bytes());
    head.extend((tensors as u64).to_le_bytes());
    head.extend((keys as u64).to_le_bytes());
}

/// Fills up what was written to a multiple of the alignment.
pub fn write_padding(to: &mut (impl Write + ?Sized), written: u64, alignment: u64) -> io::Result<()> {
    let missing = written.next_multiple_of(alignment) - written;
    io::copy(&mut io::Read::take(io::repeat(0), missing), to).map(drop)
}

fn string(head: &mut Vec<u8>, text: &str) {
    head.extend((text.len() as u64).to_le_bytes());
    head.extend(text.as_bytes());
}

fn array(head: &mut Vec<u8>, code: u32, len: usize) {
    head.extend(code::ARRAY.to_le_bytes());
    head.extend(code.to_le_bytes());
    head.extend((len as u64).to_le_bytes());
}

fn field(head: &mut Vec<u8>, value: &Field) {
    match value {
        Field::U32(value) => {
            head.extend(code::U32.to_le_bytes());
            head.extend(value.to_le_bytes());
        }
        Field::F32(value) => {
            head.extend(code::F32.to_le_bytes());
            head.extend(value.to_le_bytes());
        }
        Field::Bool(value) => {
            head.extend(code::BOOL.to_le_bytes());
            head.push(u8::from(*value));
        }
        Field::String(text) => {
            head.extend(code::STRING.to_le_bytes());
            string(head, text);
        }
        Field::Strings(texts) => {
            array(head, code::STRING, texts.len());
            for text in texts {
                string(head, text);
            }
        }
        Field::I32s(values) => {
            array(head, code::I32, values.len());
            head.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Field::F32s(values) => {
            array(head, code::F32, values.len());
            head.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_of_another_size_is_refused() {
        let tensors = [("a", Kind::F32, [2, 2], vec![0; 15])];
        let error = write_file(&mut Vec::new(), &[], &tensors).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
