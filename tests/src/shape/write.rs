//! Writes a shape to a file, a piece at a time: aside first, under its name once it is whole and on the disk.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Shape;
use super::blocks::Blocks;
use super::header::put_text;

/// Data of tensors begins at multiples of this.
const ALIGNMENT: u64 = 32;
/// Numbers are made in pieces of about this many bytes.
const PIECE: usize = 4 << 20;
/// Free space that is left alone.
const SPARE: u64 = 64 << 20;

/// Writes `shape` with numbers of `seed` to `to`, whose folder must exist; `progress` hears how many bytes of how many
/// there are. The same shape and seed make the same bytes. Gives the file's size.
///
/// # Errors
/// When the disk has no room for the whole file and 64 MiB more, or cannot be written. What was at `to` before is then
/// still there, and nothing else.
pub fn write(shape: &Shape, seed: u64, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<u64> {
    let head = head(shape);
    let total = shape
        .tensors
        .iter()
        .fold(align(head.len() as u64), |sum, tensor| {
            sum + align(tensor.bytes())
        });
    let folder = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    room(folder, total)?;
    let aside = tempfile::Builder::new()
        .prefix(".shape-")
        .suffix(".part")
        .tempfile_in(folder)
        .with_context(|| format!("make a file in {}", folder.display()))?;
    body(shape, seed, &head, total, aside.as_file(), progress)
        .with_context(|| format!("write {}", to.display()))?;
    // Private until here: others, such as the user an engine runs as, may read models.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(aside.path(), readable).context("make the file readable")?;
    aside.as_file().sync_all().context("bring the file to the disk")?;
    aside
        .persist(to)
        .with_context(|| format!("name the file {}", to.display()))?;
    let named = File::open(folder).and_then(|folder| folder.sync_all());
    named.with_context(|| format!("bring {} to the disk", folder.display()))?;
    Ok(total)
}

fn align(length: u64) -> u64 {
    length.next_multiple_of(ALIGNMENT)
}

/// Everything before the tensors' data.
fn head(shape: &Shape) -> Vec<u8> {
    let mut head = Vec::new();
    head.extend_from_slice(b"GGUF");
    head.extend_from_slice(&3_u32.to_le_bytes());
    head.extend_from_slice(&(shape.tensors.len() as u64).to_le_bytes());
    head.extend_from_slice(&shape.metadata.count().to_le_bytes());
    head.extend_from_slice(shape.metadata.bytes());
    let mut offset = 0_u64;
    for tensor in &shape.tensors {
        put_text(&mut head, &tensor.name);
        let sides = u32::try_from(tensor.sides.len()).unwrap_or(u32::MAX);
        head.extend_from_slice(&sides.to_le_bytes());
        for side in &tensor.sides {
            head.extend_from_slice(&(*side as u64).to_le_bytes());
        }
        head.extend_from_slice(&tensor.kind.id().to_le_bytes());
        head.extend_from_slice(&offset.to_le_bytes());
        offset += align(tensor.bytes());
    }
    head
}

fn body(
    shape: &Shape,
    seed: u64,
    head: &[u8],
    total: u64,
    file: &File,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let mut out = Counted {
        file: BufWriter::with_capacity(1 << 20, file),
        written: 0,
    };
    out.put(head)?;
    out.pad()?;
    let mut piece = Vec::new();
    for tensor in &shape.tensors {
        // Each tensor has a seed of its own: what a tensor holds does not depend on those before it.
        let mut blocks = Blocks::new(tensor.kind, tensor.mean, tensor.spread, mixed(seed, &tensor.name));
        let whole = PIECE / tensor.kind.block_bytes() * tensor.kind.block_bytes();
        let mut left = tensor.bytes();
        while left > 0 {
            let length = usize::try_from(left).map_or(whole, |left| left.min(whole));
            piece.resize(length, 0);
            blocks.fill(&mut piece);
            out.put(&piece)?;
            left -= length as u64;
            progress(out.written, total);
        }
        out.pad()?;
    }
    if out.written != total {
        bail!("count its bytes: {} and not {total}", out.written);
    }
    out.file.flush().context("write the last bytes")
}

/// A file that knows how much was written.
struct Counted<'a> {
    file: BufWriter<&'a File>,
    written: u64,
}

impl Counted<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self) -> Result<()> {
        let missing = usize::try_from(align(self.written) - self.written)?;
        self.put(&vec![0; missing])
    }
}

/// A seed for one tensor: FNV-1a of its name, from the file's seed on.
fn mixed(seed: u64, name: &str) -> u64 {
    name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Fails when `folder`'s disk has no room for `bytes`.
fn room(folder: &Path, bytes: u64) -> Result<()> {
    let place: PathBuf = folder.into();
    let disk = nix::sys::statvfs::statvfs(&place).with_context(|| format!("look at {}", place.display()))?;
    let free = disk.blocks_available() * disk.fragment_size();
    if free < bytes + SPARE {
        bail!(
            "find room in {}: {} MB are free and {} MB are needed; make room or write elsewhere with --out",
            place.display(),
            free / 1_000_000,
            (bytes + SPARE) / 1_000_000
        );
    }
    Ok(())
}

/// Kinds and names of a file's tensors, from its head; for tests that compare files.
///
/// # Errors
/// When the file is none that [`write`] or llama.cpp's quantiser made.
pub fn tensors(path: &Path) -> Result<Vec<(String, u32)>> {
    reader::tensors(&fs::read(path).with_context(|| format!("read {}", path.display()))?)
        .with_context(|| format!("understand {}", path.display()))
}

mod reader {
    use anyhow::{Context, Result, bail};

    /// Bytes that are read from the front.
    struct Front<'a>(&'a [u8]);

    impl<'a> Front<'a> {
        fn take(&mut self, count: u64) -> Result<&'a [u8]> {
            let (head, rest) = usize::try_from(count)
                .ok()
                .and_then(|count| self.0.split_at_checked(count))
                .context("find as many bytes as it says")?;
            self.0 = rest;
            Ok(head)
        }

        fn number(&mut self, bytes: u64) -> Result<u64> {
            let mut value = [0; 8];
            let head = self.take(bytes)?;
            value[..head.len()].copy_from_slice(head);
            Ok(u64::from_le_bytes(value))
        }

        fn text(&mut self) -> Result<String> {
            let length = self.number(8)?;
            Ok(String::from_utf8(self.take(length)?.to_vec())?)
        }

        fn skip(&mut self, kind: u64) -> Result<()> {
            match kind {
                0 | 1 | 7 => self.take(1).map(drop),
                2 | 3 => self.take(2).map(drop),
                4..=6 => self.take(4).map(drop),
                10..=12 => self.take(8).map(drop),
                8 => self.text().map(drop),
                9 => {
                    let kind = self.number(4)?;
                    for _ in 0..self.number(8)? {
                        self.skip(kind)?;
                    }
                    Ok(())
                }
                other => bail!("know values of type {other}"),
            }
        }
    }

    pub fn tensors(file: &[u8]) -> Result<Vec<(String, u32)>> {
        let mut front = Front(file);
        if front.take(4)? != b"GGUF" || front.number(4)? != 3 {
            bail!("find GGUF version 3");
        }
        let (tensors, fields) = (front.number(8)?, front.number(8)?);
        for _ in 0..fields {
            front.text()?;
            let kind = front.number(4)?;
            front.skip(kind)?;
        }
        let mut found = Vec::new();
        for _ in 0..tensors {
            let name = front.text()?;
            let sides = front.number(4)?;
            front.take(8 * sides)?;
            let kind = u32::try_from(front.number(4)?)?;
            front.take(8)?;
            found.push((name, kind));
        }
        Ok(found)
    }
}
