//! Two checkpoints that take turns, so that one is whole at any moment.
//!
//! Each is written over the older of the two. It has a number that only rises and ends with the SHA-256 of all before
//! it; what was torn by a power cut does not have its sum and is as if it were not there. It names the base, the data
//! set and the settings it belongs to, and is not used for others. All of one adapter's checkpoints have the same
//! size: once both were written, no full disk can keep the next from being written.
//!
//! ```text
//! magic, format, sequence, parameters       32 bytes
//! SHA-256 of base, data set, settings       96
//! numbers of the state                      SCALARS
//! parameters, first and second moments,
//! last good parameters, best parameters     5 × 4 × parameters
//! SHA-256 of all before                     32
//! ```
//!
//! Everything is little-endian; floats are their bits.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use super::adamw::Moments;
use super::state::{Best, EpochLoss, Good, State};

const MAGIC: [u8; 8] = *b"SARAITRC";
const FORMAT: u64 = 1;
const HEAD: usize = 128;
/// Numbers of a state.
const SCALARS: usize = 20;
const FIXED: usize = HEAD + SCALARS * 8;
const SUM: usize = 32;
/// Vectors of a state.
const VECTORS: usize = 5;
/// Bytes moved at once.
const CHUNK: usize = 1024 * 1024;

/// Where a checkpoint lies: a file, or what a test makes of one.
pub trait Medium {
    /// Its length, bytes.
    ///
    /// # Errors
    /// The medium's own.
    fn length(&self) -> io::Result<u64>;
    /// Fills `buffer` from `at`.
    ///
    /// # Errors
    /// The medium's own, or that it ends before.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `at`.
    ///
    /// # Errors
    /// The medium's own, for example that it is full.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Cuts or extends it.
    ///
    /// # Errors
    /// The medium's own.
    fn set_length(&self, length: u64) -> io::Result<()>;
    /// Returns once everything is on disk.
    ///
    /// # Errors
    /// The medium's own.
    fn sync(&self) -> io::Result<()>;
}

impl Medium for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

/// What a checkpoint belongs to: SHA-256 of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The base model.
    pub base: [u8; 32],
    /// The data set.
    pub data: [u8; 32],
    /// The settings that decide what comes out (see [`super::config::fingerprint`]).
    pub settings: [u8; 32],
}

/// Two media that take turns.
#[derive(Debug)]
pub struct Checkpoints<M> {
    media: [M; 2],
    binding: Binding,
    parameters: usize,
    /// Which is written next.
    next: usize,
    /// The number it gets.
    sequence: u64,
}

/// What was found on the media.
#[derive(Debug)]
pub struct Found {
    /// The newest state that is whole and belongs here.
    pub state: Option<State>,
    /// Why a checkpoint that is there was not used: a sentence each.
    pub notes: Vec<String>,
}

impl<M: Medium> Checkpoints<M> {
    /// Reads both media for the newest state of `parameters` numbers that belongs to `binding`.
    pub fn open(media: [M; 2], binding: Binding, parameters: usize) -> (Self, Found) {
        let mut me = Self {
            media,
            binding,
            parameters,
            next: 0,
            sequence: 1,
        };
        let mut found = Found {
            state: None,
            notes: Vec::new(),
        };
        let mut note = |which: usize, why: &str| {
            let name = ["a", "b"][which];
            found.notes.push(format!("checkpoint {name} is not used: {why}"));
        };
        let looked = [0, 1].map(|which| me.look(which));
        let mut usable: Vec<(u64, usize)> = Vec::new();
        for (which, looked) in looked.into_iter().enumerate() {
            match looked {
                Ok(Some(sequence)) => usable.push((sequence, which)),
                Ok(None) => {}
                Err(why) => note(which, &why),
            }
        }
        usable.sort_unstable();
        while let Some((sequence, which)) = usable.pop() {
            if found.state.is_some() {
                note(
                    which,
                    &format!("it is older, {sequence} before {}", me.sequence - 1),
                );
                continue;
            }
            match me.load(which) {
                Ok(state) => {
                    found.state = Some(state);
                    me.next = 1 - which;
                    me.sequence = sequence + 1;
                }
                Err(why) => note(which, &why),
            }
        }
        (me, found)
    }

    fn size(&self) -> usize {
        FIXED + VECTORS * 4 * self.parameters + SUM
    }

    /// Its number, when it is whole and belongs here; `None` when nothing is there.
    fn look(&self, which: usize) -> Result<Option<u64>, String> {
        let medium = &self.media[which];
        let unreadable = |error: io::Error| format!("it cannot be read: {error}");
        let length = medium.length().map_err(unreadable)?;
        if length == 0 {
            return Ok(None);
        }
        let mut head = [0; HEAD];
        if length >= HEAD as u64 {
            medium.read_at(&mut head, 0).map_err(unreadable)?;
        }
        if length == self.size() as u64 {
            self.stream(which, |_| {})?;
        }
        if head[..8] != MAGIC {
            return Err("it is none".to_owned());
        }
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| head[at + byte]));
        if number(8) != FORMAT {
            return Err(format!("its format is {}, known is {FORMAT}", number(8)));
        }
        let Binding { base, data, settings } = self.binding;
        for (at, own, what) in [
            (32, base, "base model"),
            (64, data, "data set"),
            (96, settings, "setting"),
        ] {
            if head[at..at + 32] != own {
                return Err(format!("it belongs to another {what}"));
            }
        }
        if number(24) != self.parameters as u64 {
            return Err(format!(
                "it has {} parameters, the adapter {}",
                number(24),
                self.parameters
            ));
        }
        if length != self.size() as u64 {
            return Err(format!("it is cut, {length} bytes of {}", self.size()));
        }
        Ok(Some(number(16)))
    }

    /// Hands every part of the content to `take` and holds it to its sum.
    fn stream(&self, which: usize, mut take: impl FnMut(&[u8])) -> Result<(), String> {
        let medium = &self.media[which];
        let unreadable = |error: io::Error| format!("it cannot be read: {error}");
        let end = self.size() - SUM;
        let mut sum = Sha256::new();
        let mut buffer = vec![0; CHUNK.min(end)];
        let mut at = 0;
        while at < end {
            let part = &mut buffer[..CHUNK.min(end - at)];
            medium.read_at(part, at as u64).map_err(unreadable)?;
            sum.update(&*part);
            take(part);
            at += part.len();
        }
        let mut written = [0; SUM];
        medium.read_at(&mut written, end as u64).map_err(unreadable)?;
        if written == <[u8; SUM]>::from(sum.finalize()) {
            Ok(())
        } else {
            Err("it is torn, its sum is wrong".to_owned())
        }
    }

    fn load(&self, which: usize) -> Result<State, String> {
        let mut fixed = Vec::with_capacity(FIXED);
        let mut vectors: [Vec<f32>; VECTORS] = std::array::from_fn(|_| Vec::with_capacity(self.parameters));
        let mut filling = 0;
        // A float may begin in one part and end in the next.
        let mut rest: Vec<u8> = Vec::new();
        self.stream(which, |mut part| {
            let head = part.len().min(FIXED - fixed.len());
            fixed.extend_from_slice(&part[..head]);
            part = &part[head..];
            rest.extend_from_slice(part);
            let (floats, left) = rest.as_chunks::<4>();
            for float in floats {
                if vectors[filling].len() == self.parameters {
                    filling += 1;
                }
                vectors[filling].push(f32::from_le_bytes(*float));
            }
            rest = left.to_vec();
        })?;
        // From the older one the step that broke the numbers is met again, and refused.
        if !vectors.iter().flatten().all(|number| number.is_finite()) {
            return Err("a number in it is not finite".to_owned());
        }
        let scalars = fixed[HEAD..].as_chunks::<8>().0;
        Ok(compose(
            &scalars
                .iter()
                .map(|bytes| u64::from_le_bytes(*bytes))
                .collect::<Vec<_>>(),
            vectors,
        ))
    }

    /// Writes `state` over the older checkpoint. When that fails the newer one is as it was, and the older one, where it
    /// had not been a whole one before, is empty: nobody takes it for one, and its room is given back.
    ///
    /// # Errors
    /// The medium's own.
    pub fn save(&mut self, state: &State) -> io::Result<()> {
        let medium = &self.media[self.next];
        let size = self.size() as u64;
        let grown = medium.length()? != size;
        let written = self.write(state, grown.then_some(size));
        if written.is_err() && grown {
            // What failed before it says more than this would.
            let _ = self.media[self.next].set_length(0);
        }
        written?;
        self.next = 1 - self.next;
        self.sequence += 1;
        Ok(())
    }

    fn write(&self, state: &State, length: Option<u64>) -> io::Result<()> {
        let medium = &self.media[self.next];
        if let Some(length) = length {
            medium.set_length(length)?;
        }
        let mut writer = Writer {
            medium,
            at: 0,
            sum: Sha256::new(),
            buffer: Vec::with_capacity(CHUNK),
        };
        writer.put(&MAGIC)?;
        for number in [FORMAT, self.sequence, self.parameters as u64] {
            writer.put(&number.to_le_bytes())?;
        }
        let Binding { base, data, settings } = self.binding;
        for digest in [base, data, settings] {
            writer.put(&digest)?;
        }
        for number in scalars(state) {
            writer.put(&number.to_le_bytes())?;
        }
        // Without a best, something has its place: the size stays the same.
        let best = state
            .best
            .as_ref()
            .map_or(&state.parameters, |best| &best.parameters);
        let Moments { first, second, .. } = &state.moments;
        for vector in [&state.parameters, first, second, &state.good.parameters, best] {
            for float in vector {
                writer.put(&float.to_le_bytes())?;
            }
        }
        writer.end()?;
        medium.sync()
    }
}

struct Writer<'a, M> {
    medium: &'a M,
    at: u64,
    sum: Sha256,
    buffer: Vec<u8>,
}

impl<M: Medium> Writer<'_, M> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > CHUNK {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sum.update(&self.buffer);
        self.medium.write_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn end(mut self) -> io::Result<()> {
        self.flush()?;
        self.medium.write_at(&self.sum.finalize(), self.at)
    }
}

/// The numbers of a state, in order.
fn scalars(state: &State) -> [u64; SCALARS] {
    let float = |number: Option<f64>| [u64::from(number.is_some()), number.unwrap_or(0.0).to_bits()];
    let best = state.best.as_ref();
    let [has_best, best_loss] = float(best.map(|best| best.loss));
    let [has_before, before] = float(state.held_out_before);
    let [has_held_out, held_out] = float(state.held_out);
    let [has_loss, loss] = float(state.loss);
    [
        state.step,
        u64::from(state.measured.is_some()),
        state.measured.unwrap_or(0),
        state.moments.count,
        state.refused,
        state.without_gain,
        state.epoch.nll.to_bits(),
        state.epoch.tokens,
        state.good.step,
        state.good.epoch.nll.to_bits(),
        state.good.epoch.tokens,
        has_best,
        best.map_or(0, |best| best.step),
        best_loss,
        has_before,
        before,
        has_held_out,
        held_out,
        has_loss,
        loss,
    ]
}

/// A state of its numbers and vectors.
fn compose(scalars: &[u64], vectors: [Vec<f32>; VECTORS]) -> State {
    let [parameters, first, second, good, best] = vectors;
    let float = |at: usize| f64::from_bits(scalars[at]);
    let optional = |at: usize| (scalars[at] != 0).then(|| float(at + 1));
    let epoch = |at: usize| EpochLoss {
        nll: float(at),
        tokens: scalars[at + 1],
    };
    State {
        step: scalars[0],
        measured: (scalars[1] != 0).then_some(scalars[2]),
        parameters,
        moments: Moments {
            count: scalars[3],
            first,
            second,
        },
        refused: scalars[4],
        without_gain: scalars[5],
        epoch: epoch(6),
        good: Good {
            step: scalars[8],
            epoch: epoch(9),
            parameters: good,
        },
        best: (scalars[11] != 0).then(|| Best {
            step: scalars[12],
            loss: float(13),
            parameters: best,
        }),
        held_out_before: optional(14),
        held_out: optional(16),
        loss: optional(18),
    }
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
