//! A model with an adapter made part of it: the same file, of the same size and kinds, whose weights are those that the
//! adapter gives.
//!
//! Everything is copied as it is but for the name, two keys that say what was merged, and the weights that the adapter
//! updates. Those are quantised again row by row, as [`row`] says.

mod row;
pub mod session;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use memmap2::Mmap;

use crate::Error;
use crate::gguf::{Directory, Field, Tensor, Value, write_head, write_padding};
use crate::lora_file::{LoraFile, Matrices};
use crate::threads::Pool;
use row::{Columns, Lost, Row};

/// Numbers of the rows that are worked on at once, at most, unless one row is longer.
const CHUNK: usize = 1 << 21;
/// Rows of a task.
const ROWS: usize = 8;
/// What the name of a merged model ends with.
const MERGED: &str = " (merged)";
/// Key with the SHA-256 of the base.
const KEY_BASE: &str = "sarai.merged.base";
/// Key with the SHA-256 of the adapter.
const KEY_ADAPTER: &str = "sarai.merged.adapter";

/// What is merged.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The base: GGUF of any architecture, of the kinds that are known here.
    pub base: &'a File,
    /// SHA-256 of the base, lower-case hex: noted in what is written.
    pub base_digest: &'a str,
    /// The adapter's bytes.
    pub adapter: &'a [u8],
    /// SHA-256 of the adapter, lower-case hex: noted in what is written.
    pub adapter_digest: &'a str,
    /// Compute threads. What is written does not depend on them.
    pub threads: usize,
}

/// What was merged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Merged {
    /// Weights that were updated.
    pub tensors: usize,
    /// Part of the update, as the adapter's own directions see it, that rounding took away: 0 of nothing lost, 1 of
    /// everything. See [`row`].
    pub lost: f64,
}

/// Is told bytes written and bytes there will be; may hold the merge up, and may end it.
pub type Watch<'a> = dyn FnMut(u64, u64) -> ControlFlow<()> + 'a;

/// Writes the merged model, and says so to `progress` after each part.
///
/// The base must not change while it is read: it is mapped.
///
/// # Errors
///
/// [`Error::Base`] and [`Error::AdapterFile`] when the one is no model or the other no adapter that fits it,
/// [`Error::Io`] when something can't be read or written, [`Error::Stopped`] when `progress` ends it.
pub fn merge(order: Order<'_>, to: &mut dyn Write, progress: &mut Watch<'_>) -> Result<Merged, Error> {
    // SAFETY: by this function's demand nobody changes or shortens the file meanwhile.
    let map = unsafe { Mmap::map(order.base) }.map_err(|source| Error::Io {
        what: "map the base model",
        source,
    })?;
    let directory = Directory::read(&map).map_err(|error| Error::Base(error.to_string()))?;
    let adapter = LoraFile::read(order.adapter)?;
    let updates = updates(&directory, &adapter)?;
    let pool = Pool::new(order.threads).map_err(|source| Error::Io {
        what: "start the compute threads",
        source,
    })?;
    let mut writer = Writer {
        to,
        written: 0,
        all: map.len() as u64,
        progress,
    };
    writer.head(&map, &directory, order)?;
    let mut lost = Lost::default();
    // As the file has them: what is between them, if anything, is copied too.
    let mut at = directory.layout.data.min(map.len());
    for (tensor, update) in &updates {
        if tensor.bytes.start < at {
            return Err(Error::Base("its tensors overlap".into()));
        }
        writer.put(&map[at..tensor.bytes.start])?;
        at = tensor.bytes.end;
        lost += writer.update(&pool, &map, tensor, &adapter, update)?;
    }
    writer.put(&map[at..])?;
    Ok(Merged {
        tensors: updates.len(),
        lost: lost.part(),
    })
}

/// Each weight that is updated with its update, in the order of the file.
fn updates<'a>(
    directory: &'a Directory,
    adapter: &'a LoraFile<'_>,
) -> Result<Vec<(&'a Tensor, &'a Matrices)>, Error> {
    let fail = |why: String| Err(Error::AdapterFile(why));
    let architecture = directory.string("general.architecture").unwrap_or_default();
    if architecture != adapter.architecture {
        let found = &adapter.architecture;
        return fail(format!(
            "it is for a \"{found:.40}\", the base is a \"{architecture:.40}\""
        ));
    }
    let mut updates = Vec::new();
    for (weight, update) in &adapter.updates {
        // Of this one, llama.cpp takes the two matrices the other way round.
        let tensor = directory
            .tensors
            .get(weight)
            .filter(|_| weight != "token_embd.weight");
        let Some(tensor) = tensor else {
            return fail(format!(
                "it updates \"{weight:.80}\", which the base does not have or cannot have updated"
            ));
        };
        if (tensor.rows, tensor.columns) != (update.b.rows, update.a.columns) {
            return fail(format!(
                "its update of \"{weight}\" is of {} rows of {}, the base has {} of {}",
                update.b.rows, update.a.columns, tensor.rows, tensor.columns
            ));
        }
        updates.push((tensor, update));
    }
    updates.sort_by_key(|(tensor, _)| tensor.bytes.start);
    Ok(updates)
}

struct Writer<'a> {
    to: &'a mut dyn Write,
    written: u64,
    all: u64,
    progress: &'a mut Watch<'a>,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        // In parts, so that progress is seen.
        for part in bytes.chunks(16 * CHUNK) {
            self.to.write_all(part).map_err(unwritten)?;
            self.written += part.len() as u64;
            if (self.progress)(self.written, self.all).is_break() {
                return Err(Error::Stopped);
            }
        }
        Ok(())
    }

    /// Everything before the tensors' bytes.
    fn head(&mut self, base: &[u8], directory: &Directory, order: Order<'_>) -> Result<(), Error> {
        let layout = &directory.layout;
        let name = match directory.keys.get("general.name") {
            None => "model".to_owned(),
            Some(Value::String(name)) => name.strip_suffix(MERGED).unwrap_or(name).to_owned(),
            Some(_) => return Err(Error::Base("its general.name is no short text".into())),
        };
        let mut own = vec![
            ("general.name", Field::String(name + MERGED)),
            (KEY_BASE, Field::String(order.base_digest.to_owned())),
            (KEY_ADAPTER, Field::String(order.adapter_digest.to_owned())),
        ];
        let mut keys = Vec::new();
        let mut count = 0;
        let mut key = |bytes: &[u8]| {
            keys.extend_from_slice(bytes);
            count += 1;
        };
        for (name, range) in &layout.keys {
            match own.iter().position(|(own, _)| own == name) {
                Some(at) => {
                    let (name, value) = own.remove(at);
                    key(&value.of(name));
                }
                None => key(&base[Range::clone(range)]),
            }
        }
        for (name, value) in own {
            key(&value.of(name));
        }
        let mut head = Vec::new();
        write_head(&mut head, layout.version, directory.tensors.len(), count);
        head.extend(keys);
        head.extend_from_slice(&base[layout.directory.clone()]);
        let written = head.len() as u64;
        write_padding(&mut head, written, layout.alignment).map_err(unwritten)?;
        self.all = self.all.saturating_sub(layout.data as u64) + head.len() as u64;
        self.put(&head)
    }

    /// A weight with its update.
    fn update(
        &mut self,
        pool: &Pool,
        base: &[u8],
        tensor: &Tensor,
        adapter: &LoraFile<'_>,
        update: &Matrices,
    ) -> Result<Lost, Error> {
        let rank = update.rank();
        let (a, b) = (adapter.values(&update.a)?, adapter.values(&update.b)?);
        let columns = Columns::of(&a, rank);
        let row = Row {
            kind: tensor.kind,
            a: &a,
            columns: &columns,
            scale: adapter.alpha / rank as f32,
        };
        let stride = tensor.kind.row_bytes(tensor.columns);
        let rows = (CHUNK / tensor.columns / ROWS * ROWS).max(ROWS);
        let base = &base[tensor.bytes.clone()];
        let mut out = vec![0; rows.min(tensor.rows) * stride];
        let mut lost = Lost::default();
        for (bytes, b) in base.chunks(rows * stride).zip(b.chunks(rows * rank)) {
            let out = &mut out[..bytes.len()];
            let (broken, sum) = (AtomicBool::new(false), Mutex::new(Vec::new()));
            let tasks: Vec<_> = out.chunks_mut(ROWS * stride).map(Mutex::new).collect();
            pool.run(tasks.len(), |number| {
                // Each is one task's, which alone locks it.
                let mut out = tasks[number].lock().unwrap_or_else(PoisonError::into_inner);
                let first = number * ROWS;
                let mut of_task = Lost::default();
                for (at, out) in out.chunks_exact_mut(stride).enumerate() {
                    let at = first + at;
                    let bytes = &bytes[at * stride..][..stride];
                    match row.merge(bytes, &b[at * rank..][..rank], out) {
                        Some(of_row) => of_task += of_row,
                        None => broken.store(true, Ordering::Relaxed),
                    }
                }
                let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                sum.push((number, of_task));
            });
            drop(tasks);
            if broken.into_inner() {
                return Err(Error::Base(
                    "a number of a weight is not finite, or would not be".into(),
                ));
            }
            // In their order, so that the sum is the same however many threads there are.
            let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
            sum.sort_by_key(|(number, _)| *number);
            sum.into_iter().for_each(|(_, of_task)| lost += of_task);
            self.put(out)?;
        }
        Ok(lost)
    }
}

fn unwritten(source: std::io::Error) -> Error {
    Error::Io {
        what: "write the merged model",
        source,
    }
}
