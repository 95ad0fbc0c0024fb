//! Random bytes carried from one boot to the next, so that keys made early are good on a machine without a hardware
//! source.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha512};

/// Name of the file below the state folder.
pub const FILE: &str = "seed";
/// Its beginning: version and purpose.
const MAGIC: &[u8; 16] = b"sarai seed v1\0\0\0";
/// Random bytes in it.
const BYTES: usize = 256;

/// The kernel's `struct rand_pool_info` with room for the seed.
#[repr(C)]
struct Pool {
    entropy_bits: i32,
    size: i32,
    bytes: [u8; BYTES],
}

nix::ioctl_write_ptr!(
    /// Adds bytes with credit.
    add_entropy,
    b'R',
    0x03,
    [i32; 2]
);

/// Feeds the seed to the kernel and replaces it. It is credited only if the file is ours, and only after it has been
/// replaced on disk: a seed is never credited twice, not even when power is cut in between.
pub fn feed(path: &Path) -> Result<String, String> {
    let seed = read(path);
    let mut random = File::options()
        .write(true)
        .open("/dev/urandom")
        .map_err(|e| e.to_string())?;
    if let Some(seed) = &seed {
        // Mixed in without credit first: it is of use even if the next step fails.
        random.write_all(seed).map_err(|e| e.to_string())?;
    }
    replace(path, seed.as_ref())?;
    let Some(seed) = seed else {
        return Ok("no seed yet: one was saved".to_owned());
    };
    let pool = Pool {
        entropy_bits: i32::try_from(BYTES * 8).unwrap_or(0),
        size: i32::try_from(BYTES).unwrap_or(0),
        bytes: seed,
    };
    // SAFETY: `pool` begins with the two integers the call's number declares and is followed by as many bytes as the
    // second one says; the kernel only reads.
    unsafe { add_entropy(random.as_raw_fd(), (&raw const pool).cast()) }
        .map(|_| format!("{} bits credited", BYTES * 8))
        .map_err(|e| format!("the seed was mixed in but not credited: {e}"))
}

/// Saves a new seed that depends on the old one and on the kernel's own state.
pub fn save(path: &Path) -> Result<(), String> {
    let old = read(path);
    replace(path, old.as_ref())
}

fn replace(path: &Path, old: Option<&[u8; BYTES]>) -> Result<(), String> {
    let mut fresh = [0; BYTES];
    // The device, unlike the system call, never waits for the kernel to be ready.
    File::open("/dev/urandom")
        .and_then(|mut f| std::io::Read::read_exact(&mut f, &mut fresh))
        .map_err(|e| e.to_string())?;
    let mut content = MAGIC.to_vec();
    for (n, block) in fresh.chunks(64).enumerate() {
        let mut hash = Sha512::new();
        hash.update([u8::try_from(n).unwrap_or(0)]);
        hash.update(block);
        hash.update(old.map_or(&[][..], |old| &old[..]));
        content.extend_from_slice(&hash.finalize());
    }
    sarai_trust::atomic::write(path, &content, 0o600).map_err(|e| format!("failed to {e}"))
}

/// The seed, if the file is one of ours: right form, our own, unreadable for others.
fn read(path: &Path) -> Option<[u8; BYTES]> {
    let meta = fs::symlink_metadata(path).ok()?;
    let ours = meta.is_file() && meta.uid() == nix::unistd::getuid().as_raw() && meta.mode() & 0o077 == 0;
    if !ours || meta.len() != (MAGIC.len() + BYTES) as u64 {
        return None;
    }
    let content = fs::read(path).ok()?;
    content.strip_prefix(MAGIC)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_seed_changes_each_time_and_only_ours_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert!(read(&path).is_none());
        save(&path).unwrap();
        let first = read(&path).unwrap();
        save(&path).unwrap();
        assert_ne!(read(&path).unwrap(), first);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path).is_none(), "readable for others");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, [0; MAGIC.len() + BYTES]).unwrap();
        assert!(read(&path).is_none(), "without the beginning");
        fs::write(&path, MAGIC).unwrap();
        assert!(read(&path).is_none(), "cut");
    }

    #[test]
    fn the_structure_is_the_kernels() {
        assert_eq!(std::mem::offset_of!(Pool, bytes), 8);
        assert_eq!(std::mem::size_of::<Pool>(), 8 + BYTES);
    }
}
