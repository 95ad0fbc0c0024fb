//! GGUF: the file format of the base model (read) and of the adapter (written).
//!
//! Format: the GGUF specification, versions 2 and 3, little-endian. A file is a header (magic, version, number of
//! tensors, number of keys), the keys with their values, the directory of the tensors, and after padding to
//! `general.alignment` the tensors' bytes, each at a multiple of the alignment.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Directory, Error, Layout, Tensor, Value};
pub use write::{Field, write_file};
pub(crate) use write::{write_head, write_padding};

/// First four bytes of a file.
const MAGIC: &[u8; 4] = b"GGUF";

/// Alignment of the tensors where `general.alignment` does not say otherwise, in bytes.
const ALIGNMENT: u64 = 32;

/// Codes of the types of values.
mod code {
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const I16: u32 = 3;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}
