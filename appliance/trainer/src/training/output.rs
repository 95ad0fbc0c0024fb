//! The file of what was made, an adapter or a merged model: written last, whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use super::hex;

/// Bytes written at once.
const CHUNK: usize = 1024 * 1024;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Bytes.
    pub size: u64,
    /// SHA-256 over them, lower-case hex.
    pub sha256: String,
}

/// Why it was not. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The file.
    #[error("write what was made: {0}")]
    Io(#[from] io::Error),
    /// What goes into it.
    #[error(transparent)]
    Content(#[from] crate::Error),
}

/// Writes to a place in a file that no descriptor's position decides, and sums up what it writes.
struct Writer<'a> {
    file: &'a File,
    at: u64,
    sum: Sha256,
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.at)?;
        self.sum.update(&bytes[..written]);
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Has `fill` write the whole content of `file`, whatever was in it, and returns once it is on disk.
///
/// # Errors
/// What `fill` failed at, or the file: it is full, for example. What is in it then is of no use.
pub fn write(
    file: &File,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), crate::Error>,
) -> Result<Written, OutputError> {
    file.set_len(0)?;
    let writer = Writer {
        file,
        at: 0,
        sum: Sha256::new(),
    };
    let mut buffered = BufWriter::with_capacity(CHUNK, writer);
    fill(&mut buffered)?;
    let writer = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(Written {
        size: writer.at,
        sha256: hex(&writer.sum.finalize().into()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    #[test]
    fn what_is_in_the_file_is_what_is_reported() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 4 * CHUNK]).unwrap();
        let content: Vec<u8> = (0..3 * CHUNK / 2).map(|at| at.to_le_bytes()[0]).collect();
        let written = write(&file, |to| {
            to.write_all(&content).map_err(|source| crate::Error::Io {
                what: "write",
                source,
            })
        })
        .unwrap();
        file.rewind().unwrap();
        let mut found = Vec::new();
        file.read_to_end(&mut found).unwrap();
        assert_eq!(found, content);
        assert_eq!(written.size, content.len() as u64);
        assert_eq!(written.sha256, hex(&Sha256::digest(&content).into()));
    }

    #[test]
    fn a_full_disk_is_said() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = write(&full, |_| Ok(())).unwrap_err().to_string();
        assert!(error.starts_with("write what was made: "), "{error}");
    }
}
