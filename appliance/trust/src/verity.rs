//! fs-verity: the kernel's own Merkle digest of a file (SHA-256, 4096-byte blocks, no salt).
//!
//! [`Tree`] computes it from bytes, as a publisher does; [`install`] and [`measure`] ask the kernel. A file with
//! fs-verity enabled can never be changed again, only removed, and each page is checked as it is read.

use std::fs::File;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use sha2::{Digest as _, Sha256};

use crate::Digest;

/// Block size, bytes.
pub const BLOCK: usize = 4096;
const HASH: usize = 32;
/// Number of SHA-256 in the kernel's interface (`FS_VERITY_HASH_ALG_SHA256`).
const SHA256: u8 = 1;

/// Computes the fs-verity digest of a stream in constant memory.
#[derive(Clone)]
pub struct Tree {
    /// The data block that is being filled.
    data: Sha256,
    filled: usize,
    size: u64,
    /// From the leaves upwards, the hashes of each level that wait for their block to be full.
    levels: Vec<Level>,
}

#[derive(Clone, Default)]
struct Level {
    block: Vec<u8>,
    /// Whether an earlier block of this level was completed, so that this level is not the root.
    more: bool,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// The tree of no bytes.
    #[must_use]
    pub fn new() -> Self {
        Self {
            data: Sha256::new(),
            filled: 0,
            size: 0,
            levels: Vec::new(),
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
            self.data.update(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == BLOCK {
                self.end_data_block();
            }
        }
    }

    fn end_data_block(&mut self) {
        self.data.update(&[0; BLOCK][self.filled..]);
        self.filled = 0;
        let hash = self.data.finalize_reset();
        self.add(0, &hash);
    }

    /// Adds a hash to a level. A full block goes up only when the next hash comes, because a level that ends
    /// with exactly one block has that block's hash as the root either way.
    fn add(&mut self, level: usize, hash: &[u8]) {
        if self.levels.len() == level {
            self.levels.push(Level::default());
        }
        if self.levels[level].block.len() == BLOCK {
            self.raise(level);
        }
        self.levels[level].block.extend_from_slice(hash);
    }

    fn raise(&mut self, level: usize) {
        let mut block = std::mem::take(&mut self.levels[level].block);
        self.levels[level].more = true;
        block.resize(BLOCK, 0);
        self.add(level + 1, &Sha256::digest(&block));
    }

    /// The fs-verity digest of all bytes added.
    #[must_use]
    pub fn finish(mut self) -> Digest {
        if self.filled > 0 {
            self.end_data_block();
        }
        let mut root = [0; HASH];
        let mut level = 0;
        // `levels` grows as blocks are raised; it ends at the level that holds a single hash.
        while level < self.levels.len() {
            let Level { block, more } = &self.levels[level];
            if block.len() == HASH && !more {
                root.copy_from_slice(block);
                break;
            }
            self.raise(level);
            level += 1;
        }
        // struct fsverity_descriptor, version 1.
        let mut descriptor = [0; 256];
        descriptor[0] = 1;
        descriptor[1] = SHA256;
        descriptor[2] = 12; // log2 of the block size
        descriptor[8..16].copy_from_slice(&self.size.to_le_bytes());
        descriptor[16..16 + HASH].copy_from_slice(&root);
        Digest::of(&descriptor)
    }
}

/// `struct fsverity_enable_arg`.
#[repr(C)]
struct EnableArg {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt_ptr: u64,
    sig_size: u32,
    reserved1: u32,
    sig_ptr: u64,
    reserved2: [u64; 11],
}

/// `struct fsverity_digest`, with room for the longest digest there is.
#[repr(C)]
struct MeasureArg {
    algorithm: u16,
    /// In: room. Out: length.
    size: u16,
    digest: [u8; 64],
}

/// The fixed part of [`MeasureArg`], whose size is part of the request's number.
#[repr(C)]
struct MeasureHead {
    _algorithm: u16,
    _size: u16,
}

mod raw {
    nix::ioctl_write_ptr!(enable, b'f', 133, super::EnableArg);
    nix::ioctl_readwrite!(measure, b'f', 134, super::MeasureHead);
}

/// What the kernel says about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// fs-verity is enabled: the digest by SHA-256.
    Digest(Digest),
    /// fs-verity is enabled with other parameters (SHA-512); nothing attested can match it.
    Other,
    /// The file system knows fs-verity, the file does not have it.
    NotEnabled,
    /// The file system (or the kernel) has none.
    Unsupported,
}

/// Asks the kernel for a file's fs-verity digest: constant time.
pub fn measure(file: &File) -> std::io::Result<Measured> {
    let mut arg = MeasureArg {
        algorithm: 0,
        size: 64,
        digest: [0; 64],
    };
    // SAFETY: the kernel reads and writes `struct fsverity_digest` at this address: the head, then at most
    // `size` bytes of digest. `arg` is that struct with room for 64 bytes, as `size` says, and lives through the
    // call; the descriptor is open for as long as `file` is borrowed.
    match unsafe { raw::measure(file.as_raw_fd(), (&raw mut arg).cast()) } {
        Ok(_) if arg.algorithm == u16::from(SHA256) && usize::from(arg.size) == HASH => {
            let mut digest = [0; HASH];
            digest.copy_from_slice(&arg.digest[..HASH]);
            Ok(Measured::Digest(Digest::from_bytes(digest)))
        }
        Ok(_) => Ok(Measured::Other),
        Err(Errno::ENODATA) => Ok(Measured::NotEnabled),
        Err(Errno::ENOTTY | Errno::EOPNOTSUPP) => Ok(Measured::Unsupported),
        Err(e) => Err(e.into()),
    }
}

/// Enables fs-verity (`FS_IOC_ENABLE_VERITY`) on a file that is open read-only and that nobody has open for
/// writing. Reads the whole file once.
///
/// `true`: it is enabled now (or was before). `false`: the file system has none. Errors are the kernel's, such
/// as `ETXTBSY` (somebody writes), `EACCES` (not the owner's or root's process) and `EROFS`.
pub fn install(file: &File) -> std::io::Result<bool> {
    let arg = EnableArg {
        version: 1,
        hash_algorithm: u32::from(SHA256),
        block_size: 4096,
        salt_size: 0,
        salt_ptr: 0,
        sig_size: 0,
        reserved1: 0,
        sig_ptr: 0,
        reserved2: [0; 11],
    };
    loop {
        // SAFETY: the kernel only reads `struct fsverity_enable_arg` at this address; `arg` is that struct, names
        // no salt and no signature (so no further pointers), and lives through the call.
        match unsafe { raw::enable(file.as_raw_fd(), &raw const arg) } {
            Ok(_) | Err(Errno::EEXIST) => return Ok(true),
            Err(Errno::ENOTTY | Errno::EOPNOTSUPP) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const _: () = assert!(size_of::<EnableArg>() == 128 && size_of::<MeasureHead>() == 4);

    fn digest_of(size: usize) -> String {
        // The same content as `known_answers` was made with: byte i is i mod 251, so no two blocks are alike.
        let mut tree = Tree::new();
        let block: Vec<u8> = (0..251 * 4096).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let mut left = size;
        while left > 0 {
            let now = left.min(block.len());
            tree.update(&block[..now]);
            left -= now;
        }
        tree.finish().to_string()
    }

    include!("verity_known.rs");

    #[test]
    fn the_digest_is_the_one_that_fsverity_utils_computes() {
        for (size, expected) in KNOWN {
            assert_eq!(digest_of(*size), *expected, "{size} bytes");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn it_does_not_matter_how_the_bytes_arrive(
            bytes in proptest::collection::vec(any::<u8>(), 0..40_000),
            cuts in proptest::collection::vec(1..9000_usize, 1..20),
        ) {
            let mut whole = Tree::new();
            whole.update(&bytes);
            let mut parts = Tree::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at(rest.len().min(*cut));
                parts.update(now);
                rest = later;
            }
            prop_assert_eq!(whole.finish(), parts.finish());
        }

        #[test]
        fn each_byte_counts(mut bytes in proptest::collection::vec(any::<u8>(), 1..20_000), at: prop::sample::Index) {
            let mut tree = Tree::new();
            tree.update(&bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= 1;
            let mut changed = Tree::new();
            changed.update(&bytes);
            prop_assert_ne!(tree.finish(), changed.finish());
        }
    }

    #[test]
    fn a_file_of_tmpfs_or_proc_is_told_to_have_none_or_not_enabled() {
        let file = File::open("/proc/self/status").unwrap();
        assert_eq!(measure(&file).unwrap(), Measured::Unsupported);
        assert!(!install(&file).unwrap());
    }
}
