//! Reading a whole file once and naming its content.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use sha2::{Digest as _, Sha256};

use crate::Digest;
use crate::verity::Tree;

/// Bytes read at a time: reads are as fast as with more, and the supervisor, which hashes several models at once, stays small.
const CHUNK: usize = 256 * 1024;

/// What identifies a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashes {
    /// Bytes read.
    pub size: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
    /// Their fs-verity digest.
    pub verity: Digest,
}

/// Reads a file from its begin to its end, computing both digests; `progress` gets bytes done and bytes in all.
/// Does not move the descriptor's offset.
pub fn hash_file(file: &File, progress: &mut dyn FnMut(u64, u64)) -> std::io::Result<Hashes> {
    let (mut sha256, mut tree) = (Sha256::new(), Tree::new());
    let size = read_all(file, progress, &mut |bytes| {
        sha256.update(bytes);
        tree.update(bytes);
    })?;
    Ok(Hashes {
        size,
        sha256: Digest::from_bytes(sha256.finalize().into()),
        verity: tree.finish(),
    })
}

/// The same with SHA-256 alone: half the work.
pub(crate) fn sha256_file(file: &File, progress: &mut dyn FnMut(u64, u64)) -> std::io::Result<(u64, Digest)> {
    let mut sha256 = Sha256::new();
    let size = read_all(file, progress, &mut |bytes| sha256.update(bytes))?;
    Ok((size, Digest::from_bytes(sha256.finalize().into())))
}

fn read_all(
    file: &File,
    progress: &mut dyn FnMut(u64, u64),
    each: &mut dyn FnMut(&[u8]),
) -> std::io::Result<u64> {
    let total = file.metadata()?.len();
    let mut chunk = vec![0; CHUNK];
    let mut done = 0;
    loop {
        let n = match file.read_at(&mut chunk, done) {
            Ok(0) => return Ok(done),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        each(&chunk[..n]);
        done += n as u64;
        progress(done, total.max(done));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek as _, Write as _};

    #[test]
    fn both_digests_are_of_the_whole_file_wherever_its_offset_is() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; CHUNK + 1]).unwrap();
        let offset = file.stream_position().unwrap();
        let mut last = (0, 0);
        let hashes = hash_file(&file, &mut |done, total| last = (done, total)).unwrap();
        let mut tree = Tree::new();
        tree.update(&[7; CHUNK + 1]);
        assert_eq!(hashes.sha256, Digest::of(&[7; CHUNK + 1]));
        assert_eq!(hashes.verity, tree.finish());
        assert_eq!(last, (hashes.size, hashes.size));
        assert_eq!(
            sha256_file(&file, &mut |_, _| ()).unwrap(),
            (hashes.size, hashes.sha256)
        );
        assert_eq!(file.stream_position().unwrap(), offset);
    }
}
