//! Reads the keys and the tensor directory of a GGUF file that is in memory or mapped.
//!
//! The file is not trusted: each count, length, offset and size is checked before it is used, and what is kept of it
//! is bounded.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{ALIGNMENT, MAGIC, code};
use crate::quantised::Kind;

/// Most keys of a file.
const MAX_KEYS: u64 = 65_536;
/// Most tensors of a file.
const MAX_TENSORS: u64 = 65_536;
/// Longest key, in bytes; the specification's own bound.
const MAX_KEY: u64 = 65_535;
/// Longest name of a tensor, in bytes; ggml's own bound.
const MAX_NAME: u64 = 63;
/// Longest string that is kept, in bytes. Longer ones (chat templates may be long) are skipped.
const MAX_KEPT_STRING: usize = 4096;
/// Most elements of an array that is kept. Longer ones, such as vocabularies, are skipped.
const MAX_KEPT_ARRAY: u64 = 1024;
/// Most elements of an array.
const MAX_ARRAY: u64 = 1 << 24;
/// Largest dimension of a tensor.
const MAX_DIMENSION: u64 = 1 << 31;

/// Why a file is not a GGUF file that can be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// It does not begin as one.
    #[error("it is no GGUF file")]
    Magic,
    /// Another version of the format, or one of a big-endian machine.
    #[error("its GGUF version is {0}, not 2 or 3")]
    Version(u32),
    /// It ends too early.
    #[error("it ends within {0}")]
    Truncated(&'static str),
    /// A number is over its bound.
    #[error("{what}: {value} is over the bound of {bound}")]
    Bound {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        value: u64,
        /// How large it may be.
        bound: u64,
    },
    /// A key or name that is not UTF-8.
    #[error("{0} is not UTF-8")]
    Text(&'static str),
    /// A key or tensor that is there twice.
    #[error("\"{0}\" is there twice")]
    Twice(String),
    /// A value of a type that the format does not have.
    #[error("\"{key}\" has a value of the unknown type {code}")]
    ValueType {
        /// The key.
        key: String,
        /// The type's code.
        code: u32,
    },
    /// An alignment that is no power of two, or too large.
    #[error("its alignment is {0}")]
    Alignment(u64),
    /// A tensor of a type that can't be dequantised here.
    #[error("tensor \"{name}\" is of ggml's type {code}, which is not known here")]
    TensorType {
        /// The tensor.
        name: String,
        /// ggml's code of the type.
        code: u32,
    },
    /// A tensor whose shape or place can't be.
    #[error("tensor \"{name}\": {why}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A value of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An integer of any width and sign.
    Integer(i128),
    /// A floating-point number of either width.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    String(String),
    /// A short array of numbers or truth values.
    Array(Vec<Value>),
    /// A long array or string, or an array of strings: how many elements or bytes it has.
    Skipped(u64),
}

/// A tensor of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// How its elements are stored.
    pub kind: Kind,
    /// Length of a row: ggml's first dimension.
    pub columns: usize,
    /// Number of rows: the product of the other dimensions.
    pub rows: usize,
    /// Its bytes in the file, row after row. Within the file, and as long as kind and shape demand.
    pub bytes: Range<usize>,
}

/// Keys and tensor directory of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Directory {
    /// The keys and their values.
    pub keys: BTreeMap<String, Value>,
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Where all of it is in the file.
    pub layout: Layout,
}

/// Where the parts of a file are, as offsets of bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The format's version.
    pub version: u32,
    /// `general.alignment`.
    pub alignment: u64,
    /// Each key with its value, in the file's order.
    pub keys: Vec<(String, Range<usize>)>,
    /// The directory of the tensors.
    pub directory: Range<usize>,
    /// Where the tensors' bytes begin: what the offsets of the directory count from. May be beyond the end of a file
    /// without any.
    pub data: usize,
}

impl Directory {
    /// Reads the directory of the file whose bytes are `file`. Only the pages of keys and directory are touched.
    ///
    /// # Errors
    ///
    /// [`Error`] when it isn't a GGUF file within the bounds.
    pub fn read(file: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader { rest: file };
        if reader.take(4, "the header").map_err(|_| Error::Magic)? != MAGIC {
            return Err(Error::Magic);
        }
        let version = reader.u32("the header")?;
        if !(2..=3).contains(&version) {
            return Err(Error::Version(version));
        }
        let tensor_count = reader.count("number of tensors", MAX_TENSORS)?;
        let key_count = reader.count("number of keys", MAX_KEYS)?;
        let mut keys = BTreeMap::new();
        let mut layout = Layout {
            version,
            ..Layout::default()
        };
        let place = |reader: &Reader<'_>| file.len() - reader.rest.len();
        for _ in 0..key_count {
            let start = place(&reader);
            let key = reader.name("length of a key", MAX_KEY, "a key")?;
            let code = reader.u32("the keys")?;
            let value = reader.value(&key, code)?;
            layout.keys.push((key.clone(), start..place(&reader)));
            if keys.insert(key.clone(), value).is_some() {
                return Err(Error::Twice(key));
            }
        }
        let directory = place(&reader);
        let alignment = alignment(&keys)?;
        let mut raw = Vec::new();
        for _ in 0..tensor_count {
            raw.push(reader.tensor()?);
        }
        layout.directory = directory..place(&reader);
        layout.alignment = alignment;
        let start = (layout.directory.end as u64).next_multiple_of(alignment);
        layout.data = usize::try_from(start).map_err(|_| Error::Truncated("the tensors"))?;
        let mut tensors = BTreeMap::new();
        for tensor in raw {
            let name = tensor.name.clone();
            let placed = tensor.place(start, alignment, file.len() as u64)?;
            if tensors.insert(name.clone(), placed).is_some() {
                return Err(Error::Twice(name));
            }
        }
        Ok(Self {
            keys,
            tensors,
            layout,
        })
    }

    /// The integer of a key, if it is there, is one, and fits.
    #[must_use]
    pub fn integer<T: TryFrom<i128>>(&self, key: &str) -> Option<T> {
        match self.keys.get(key)? {
            Value::Integer(value) => T::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The number of a key, if it is there and is one.
    #[must_use]
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.keys.get(key)? {
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The text of a key, if it is there and is one.
    #[must_use]
    pub fn string(&self, key: &str) -> Option<&str> {
        match self.keys.get(key)? {
            Value::String(value) => Some(value),
            _ => None,
        }
    }
}

fn alignment(keys: &BTreeMap<String, Value>) -> Result<u64, Error> {
    let value = match keys.get("general.alignment") {
        None => return Ok(ALIGNMENT),
        Some(Value::Integer(value)) => u64::try_from(*value).unwrap_or(0),
        Some(_) => 0,
    };
    if value.is_power_of_two() && (8..=65_536).contains(&value) {
        Ok(value)
    } else {
        Err(Error::Alignment(value))
    }
}

/// A line of the directory before its place is known.
struct RawTensor {
    name: String,
    dimensions: Vec<u64>,
    code: u32,
    offset: u64,
}

impl RawTensor {
    fn place(self, start: u64, alignment: u64, file: u64) -> Result<Tensor, Error> {
        let Self {
            name,
            dimensions,
            code,
            offset,
        } = self;
        let Some(kind) = Kind::from_code(code) else {
            return Err(Error::TensorType { name, code });
        };
        let fail = |why| Error::Tensor {
            name: name.clone(),
            why,
        };
        let columns = dimensions[0];
        // Four dimensions of at most 2³¹ each fit in 128 bits.
        let rows: u128 = dimensions[1..].iter().map(|&d| u128::from(d)).product();
        let (block, size) = (kind.block_len() as u64, kind.block_bytes() as u64);
        if !columns.is_multiple_of(block) {
            return Err(fail("its rows are not whole blocks"));
        }
        let bytes = u128::from(columns / block * size) * rows;
        if !offset.is_multiple_of(alignment) {
            return Err(fail("it is not aligned"));
        }
        let begin = start.checked_add(offset).filter(|&begin| begin <= file);
        let end = begin
            .map(|begin| u128::from(begin) + bytes)
            .filter(|&end| end <= u128::from(file));
        let (Some(begin), Some(end)) = (begin, end) else {
            return Err(fail("it goes beyond the end of the file"));
        };
        // Rows without columns have no bytes and could be without number; everything else is bounded by the file.
        let narrow = |value: u128| usize::try_from(value).map_err(|_| fail("its shape is too large"));
        Ok(Tensor {
            kind,
            columns: narrow(u128::from(columns))?,
            rows: narrow(rows)?,
            bytes: narrow(u128::from(begin))?..narrow(end)?,
        })
    }
}

/// What has not been read yet.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: u64, within: &'static str) -> Result<&'a [u8], Error> {
        let len = usize::try_from(len).map_err(|_| Error::Truncated(within))?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Error::Truncated(within))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, within: &'static str) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Error::Truncated(within))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u32(&mut self, within: &'static str) -> Result<u32, Error> {
        self.array(within).map(u32::from_le_bytes)
    }

    fn u64(&mut self, within: &'static str) -> Result<u64, Error> {
        self.array(within).map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &'static str, bound: u64) -> Result<u64, Error> {
        let value = self.u64(what)?;
        if value > bound {
            return Err(Error::Bound { what, value, bound });
        }
        Ok(value)
    }

    fn name(&mut self, what: &'static str, bound: u64, text: &'static str) -> Result<String, Error> {
        let len = self.count(what, bound)?;
        let bytes = self.take(len, text)?;
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| Error::Text(text))
    }

    fn string(&mut self) -> Result<&'a [u8], Error> {
        let len = self.u64("a string")?;
        self.take(len, "a string")
    }

    fn value(&mut self, key: &str, code: u32) -> Result<Value, Error> {
        const WITHIN: &str = "the value of a key";
        Ok(match code {
            code::U8 => Value::Integer(u8::from_le_bytes(self.array(WITHIN)?).into()),
            code::I8 => Value::Integer(i8::from_le_bytes(self.array(WITHIN)?).into()),
            code::U16 => Value::Integer(u16::from_le_bytes(self.array(WITHIN)?).into()),
            code::I16 => Value::Integer(i16::from_le_bytes(self.array(WITHIN)?).into()),
            code::U32 => Value::Integer(u32::from_le_bytes(self.array(WITHIN)?).into()),
            code::I32 => Value::Integer(i32::from_le_bytes(self.array(WITHIN)?).into()),
            code::U64 => Value::Integer(u64::from_le_bytes(self.array(WITHIN)?).into()),
            code::I64 => Value::Integer(i64::from_le_bytes(self.array(WITHIN)?).into()),
            code::F32 => Value::Float(f32::from_le_bytes(self.array(WITHIN)?).into()),
            code::F64 => Value::Float(f64::from_le_bytes(self.array(WITHIN)?)),
            code::BOOL => Value::Bool(self.array::<1>(WITHIN)?[0] != 0),
            code::STRING => {
                let bytes = self.string()?;
                if bytes.len() > MAX_KEPT_STRING {
                    Value::Skipped(bytes.len() as u64)
                } else {
                    Value::String(String::from_utf8_lossy(bytes).into_owned())
                }
            }
            code::ARRAY => self.elements(key)?,
            code => {
                return Err(Error::ValueType {
                    key: key.to_owned(),
                    code,
                });
            }
        })
    }

    fn elements(&mut self, key: &str) -> Result<Value, Error> {
        let code = self.u32("the value of a key")?;
        let count = self.count("length of an array", MAX_ARRAY)?;
        match code {
            code::ARRAY => Err(Error::ValueType {
                key: key.to_owned(),
                code,
            }),
            code::STRING => {
                for _ in 0..count {
                    self.string()?;
                }
                Ok(Value::Skipped(count))
            }
            _ if count <= MAX_KEPT_ARRAY => (0..count)
                .map(|_| self.value(key, code))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            _ => {
                let width = match code {
                    code::U8 | code::I8 | code::BOOL => 1,
                    code::U16 | code::I16 => 2,
                    code::U32 | code::I32 | code::F32 => 4,
                    code::U64 | code::I64 | code::F64 => 8,
                    code => {
                        return Err(Error::ValueType {
                            key: key.to_owned(),
                            code,
                        });
                    }
                };
                self.take(count * width, "an array")?;
                Ok(Value::Skipped(count))
            }
        }
    }

    fn tensor(&mut self) -> Result<RawTensor, Error> {
        const WITHIN: &str = "the tensor directory";
        let name = self.name("length of a tensor's name", MAX_NAME, "a tensor's name")?;
        let dimensions = u64::from(self.u32(WITHIN)?);
        if !(1..=4).contains(&dimensions) {
            return Err(Error::Tensor {
                name,
                why: "it has not one to four dimensions",
            });
        }
        let dimensions = (0..dimensions)
            .map(|_| self.count("a tensor's dimension", MAX_DIMENSION))
            .collect::<Result<_, _>>()?;
        Ok(RawTensor {
            name,
            dimensions,
            code: self.u32(WITHIN)?,
            offset: self.u64(WITHIN)?,
        })
    }
}
