//! The head of a GGUF file: metadata as GGUF writes it.

/// Metadata, in the order it was added.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    bytes: Vec<u8>,
    count: u64,
}

/// GGUF's numbers for the types of values.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

impl Metadata {
    /// How many fields there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The fields as they stand in the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn key(&mut self, key: &str, kind: u32) {
        self.count += 1;
        put_text(&mut self.bytes, key);
        self.bytes.extend_from_slice(&kind.to_le_bytes());
    }

    fn array(&mut self, key: &str, kind: u32, count: usize) {
        self.key(key, ARRAY);
        self.bytes.extend_from_slice(&kind.to_le_bytes());
        self.bytes.extend_from_slice(&(count as u64).to_le_bytes());
    }

    /// Adds yes or no.
    pub fn flag(&mut self, key: &str, value: bool) {
        self.key(key, BOOL);
        self.bytes.push(value.into());
    }

    /// Adds a count.
    pub fn number(&mut self, key: &str, value: u32) {
        self.key(key, U32);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Adds a float.
    pub fn float(&mut self, key: &str, value: f32) {
        self.key(key, F32);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Adds a text.
    pub fn text(&mut self, key: &str, value: &str) {
        self.key(key, TEXT);
        put_text(&mut self.bytes, value);
    }

    /// Adds whole numbers.
    pub fn numbers(&mut self, key: &str, values: &[i32]) {
        self.array(key, I32, values.len());
        self.bytes
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// Adds floats.
    pub fn floats(&mut self, key: &str, values: &[f32]) {
        self.array(key, F32, values.len());
        self.bytes
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// Adds texts.
    pub fn texts(&mut self, key: &str, values: &[String]) {
        self.array(key, TEXT, values.len());
        for value in values {
            put_text(&mut self.bytes, value);
        }
    }
}

/// Appends a text with its length.
pub fn put_text(to: &mut Vec<u8>, text: &str) {
    to.extend_from_slice(&(text.len() as u64).to_le_bytes());
    to.extend_from_slice(text.as_bytes());
}
