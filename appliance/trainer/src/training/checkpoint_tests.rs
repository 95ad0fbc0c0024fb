//! Power cuts at every kind of byte, full disks, checkpoints of others.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// A disk in memory that fails after so many more written bytes.
#[derive(Debug, Clone, Default)]
struct Disk {
    bytes: Rc<RefCell<Vec<u8>>>,
    room: Rc<Cell<Option<usize>>>,
}

impl Medium for Disk {
    fn length(&self) -> io::Result<u64> {
        Ok(self.bytes.borrow().len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        let bytes = self.bytes.borrow();
        let part = bytes
            .get(at..at + buffer.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        let fits = self.room.get().map_or(bytes.len(), |room| room.min(bytes.len()));
        self.bytes.borrow_mut()[at..at + fits].copy_from_slice(&bytes[..fits]);
        self.room.set(self.room.get().map(|room| room - fits));
        if fits < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.bytes
            .borrow_mut()
            .resize(usize::try_from(length).unwrap(), 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

const BINDING: Binding = Binding {
    base: [1; 32],
    data: [2; 32],
    settings: [3; 32],
};
const N: usize = 37;

/// A state unlike that of any other step.
fn state(step: u64) -> State {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let vector = |of: u64| -> Vec<f32> {
        (0..N as u64)
            .map(|at| (step * 1000 + of * 100 + at) as f32)
            .collect()
    };
    State {
        step,
        measured: step.is_multiple_of(2).then_some(step),
        parameters: vector(0),
        moments: Moments {
            count: step,
            first: vector(1),
            second: vector(2),
        },
        good: Good {
            step: step / 2,
            epoch: EpochLoss { nll: 0.5, tokens: 3 },
            parameters: vector(3),
        },
        best: (step > 2).then(|| Best {
            step: 2,
            loss: 0.1 + 0.2,
            parameters: vector(4),
        }),
        refused: 1,
        without_gain: 2,
        epoch: EpochLoss {
            nll: 1.0 / 3.0,
            tokens: 7,
        },
        loss: Some(f64::MIN_POSITIVE),
        held_out_before: None,
        held_out: (step > 2).then_some(-0.0),
    }
}

fn open(disks: &[Disk; 2]) -> (Checkpoints<Disk>, Found) {
    Checkpoints::open(disks.clone(), BINDING, N)
}

/// Disks after `saves` saves, of states 1, 2, ….
fn saved(saves: u64) -> [Disk; 2] {
    let disks = [Disk::default(), Disk::default()];
    let mut checkpoints = open(&disks).0;
    for step in 1..=saves {
        checkpoints.save(&state(step)).unwrap();
    }
    disks
}

/// A byte of each kind of place, from none to all: bounds of every part and a byte to either side of them.
fn cuts() -> Vec<usize> {
    let parts = [8, 16, 24, 32, 64, 96, HEAD, FIXED];
    let vectors = (1..=VECTORS).map(|of| FIXED + of * 4 * N);
    let size = FIXED + VECTORS * 4 * N + SUM;
    let mut cuts: Vec<usize> = parts
        .into_iter()
        .chain(vectors)
        .chain([size])
        .flat_map(|at| [at - 1, at, (at + 1).min(size), (at + 2).min(size)])
        .chain([0, 1, 512])
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

#[test]
fn nothing_there_is_nothing_to_say() {
    let found = open(&saved(0)).1;
    assert!(found.state.is_none() && found.notes.is_empty());
}

#[test]
fn the_newest_comes_back_bit_for_bit_and_the_older_is_named() {
    for saves in 1..7 {
        let disks = saved(saves);
        let (mut checkpoints, found) = open(&disks);
        assert_eq!(found.state, Some(state(saves)));
        let sign = |state: &State| state.held_out.map(f64::to_bits);
        assert_eq!(found.state.as_ref().map(sign), Some(sign(&state(saves))));
        let older = if saves.is_multiple_of(2) { "a" } else { "b" };
        let expected = format!(
            "checkpoint {older} is not used: it is older, {} before {saves}",
            saves - 1
        );
        assert_eq!(found.notes, if saves > 1 { vec![expected] } else { vec![] });
        // It goes on over the older one.
        checkpoints.save(&state(saves + 1)).unwrap();
        assert_eq!(open(&disks).1.state, Some(state(saves + 1)));
    }
}

#[test]
fn a_write_cut_at_any_kind_of_byte_leaves_the_one_before() {
    for saves in 1..4 {
        let before = saved(saves);
        let after = saved(saves + 1);
        let written = if saves.is_multiple_of(2) { 0 } else { 1 };
        let new = after[written].bytes.borrow().clone();
        for cut in cuts() {
            // Cut short on an empty file, and over what was there.
            for old in [Vec::new(), before[written].bytes.borrow().clone()] {
                let disks =
                    [before[0].bytes.borrow().clone(), before[1].bytes.borrow().clone()].map(|bytes| Disk {
                        bytes: Rc::new(RefCell::new(bytes)),
                        ..Disk::default()
                    });
                let mut torn = new[..cut].to_vec();
                torn.extend(old.iter().skip(cut));
                let whole = torn == new;
                *disks[written].bytes.borrow_mut() = torn.clone();
                let (mut checkpoints, found) = open(&disks);
                let expected = if whole { saves + 1 } else { saves };
                assert_eq!(found.state, Some(state(expected)), "{saves} {cut} {}", old.len());
                if !whole && !torn.is_empty() && torn != old {
                    assert_eq!(found.notes.len(), 1);
                    let name = ["a", "b"][written];
                    let begin = format!("checkpoint {name} is not used: it is ");
                    assert!(found.notes[0].starts_with(&begin), "{:?}", found.notes);
                }
                // And the next one is written over the torn one.
                checkpoints.save(&state(9)).unwrap();
                let again = open(&disks).1;
                assert_eq!(again.state, Some(state(9)));
            }
        }
    }
}

#[test]
fn a_disk_that_is_full_at_any_kind_of_byte_leaves_the_one_before() {
    for cut in cuts().into_iter().rev().skip(1) {
        let disks = saved(3);
        let (mut checkpoints, _) = open(&disks);
        disks[1].room.set(Some(cut));
        assert!(checkpoints.save(&state(4)).is_err());
        assert_eq!(open(&disks).1.state, Some(state(3)));
        // Once there is room, the same one is written.
        disks[1].room.set(None);
        checkpoints.save(&state(5)).unwrap();
        assert_eq!(open(&disks).1.state, Some(state(5)));
    }
}

#[test]
fn a_first_checkpoint_that_has_no_room_leaves_nothing_that_looks_like_one() {
    let disks = saved(1);
    let (mut checkpoints, _) = open(&disks);
    // The other one was never there.
    disks[1].room.set(Some(200));
    assert!(checkpoints.save(&state(2)).is_err());
    assert!(disks[1].bytes.borrow().is_empty());
    assert_eq!(open(&disks).1.state, Some(state(1)));
    disks[1].room.set(None);
    checkpoints.save(&state(3)).unwrap();
    assert_eq!(open(&disks).1.state, Some(state(3)));
}

#[test]
fn one_with_a_number_that_is_not_finite_is_not_gone_on_from() {
    let broken = |number: f32, which: fn(&mut State) -> &mut Vec<f32>| {
        let disks = saved(1);
        let (mut checkpoints, _) = open(&disks);
        let mut state_2 = state(2);
        *which(&mut state_2).last_mut().unwrap() = number;
        checkpoints.save(&state_2).unwrap();
        let found = open(&disks).1;
        assert_eq!(found.state, Some(state(1)));
        assert_eq!(found.notes.len(), 1);
        assert!(found.notes[0].contains("not finite"), "{:?}", found.notes);
        // The next is written over it, and counts.
        let (mut checkpoints, _) = open(&disks);
        checkpoints.save(&state(3)).unwrap();
        assert_eq!(open(&disks).1.state, Some(state(3)));
    };
    broken(f32::NAN, |state| &mut state.parameters);
    broken(f32::INFINITY, |state| &mut state.moments.first);
    broken(f32::NEG_INFINITY, |state| &mut state.moments.second);
    broken(f32::NAN, |state| &mut state.good.parameters);
}

#[test]
fn a_checkpoint_of_another_training_is_not_used_and_it_is_said_of_what() {
    let disks = saved(2);
    for (binding, parameters, what) in [
        (
            Binding {
                base: [9; 32],
                ..BINDING
            },
            N,
            "another base model",
        ),
        (
            Binding {
                data: [9; 32],
                ..BINDING
            },
            N,
            "another data set",
        ),
        (
            Binding {
                settings: [9; 32],
                ..BINDING
            },
            N,
            "another setting",
        ),
        (BINDING, N + 1, "it has 37 parameters, the adapter 38"),
    ] {
        let found = Checkpoints::open(disks.clone(), binding, parameters).1;
        assert!(found.state.is_none());
        assert_eq!(found.notes.len(), 2);
        assert!(
            found.notes.iter().all(|note| note.contains(what)),
            "{:?}",
            found.notes
        );
    }
    // It is written over by who does not belong to it, and its size with it.
    let own = Binding {
        base: [9; 32],
        ..BINDING
    };
    let mut other = Checkpoints::open(disks.clone(), own, 3).0;
    let small = State::new(vec![1.0, 2.0, 3.0]);
    other.save(&small).unwrap();
    assert_eq!(Checkpoints::open(disks.clone(), own, 3).1.state, Some(small));
    assert!(
        open(&disks)
            .1
            .notes
            .iter()
            .any(|note| note.contains("a is not used: it belongs to another base"))
    );
}

#[test]
fn strange_files_are_named() {
    let disks = saved(1);
    for (bytes, why) in [
        (b"hello".to_vec(), "it is none"),
        (vec![0; 4096], "it is none"),
        (
            [&MAGIC[..], &7_u64.to_le_bytes(), &[0; 200]].concat(),
            "its format is 7, known is 1",
        ),
    ] {
        *disks[1].bytes.borrow_mut() = bytes;
        let found = open(&disks).1;
        assert_eq!(found.state, Some(state(1)));
        assert_eq!(found.notes, [format!("checkpoint b is not used: {why}")]);
    }
}

#[test]
fn real_files_do_what_disks_in_memory_do() {
    let files = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
    let again = || [0, 1].map(|which: usize| files[which].try_clone().unwrap());
    let mut checkpoints = Checkpoints::open(again(), BINDING, N).0;
    for step in 1..4 {
        checkpoints.save(&state(step)).unwrap();
    }
    assert_eq!(Checkpoints::open(again(), BINDING, N).1.state, Some(state(3)));
    files[0].set_len(1000).unwrap();
    let found = Checkpoints::open(again(), BINDING, N).1;
    assert_eq!(found.state, Some(state(2)));
    assert!(
        found.notes[0].contains("it is cut, 1000 bytes of "),
        "{:?}",
        found.notes
    );
}

#[test]
fn a_large_state_is_read_as_it_was_written() {
    // Parts do not end where vectors do.
    let n = CHUNK / 3;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let mut large = State::new((0..n).map(|at| at as f32).collect());
    large.moments.second = large.parameters.iter().map(|p| p + 0.25).collect();
    large.judge(1.0);
    let disks = [Disk::default(), Disk::default()];
    Checkpoints::open(disks.clone(), BINDING, n)
        .0
        .save(&large)
        .unwrap();
    assert_eq!(Checkpoints::open(disks, BINDING, n).1.state, Some(large));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Sectors reach a disk in any order: whatever is there of the new one, one of both is found whole.
    #[test]
    fn any_mixture_of_old_and_new_sectors_is_one_of_them_or_torn(
        sector in 1usize..200,
        new in proptest::collection::vec(any::<bool>(), 1400),
    ) {
        let disks = saved(3);
        let old = disks[1].bytes.borrow().clone();
        open(&disks).0.save(&state(4)).unwrap();
        let mixed: Vec<u8> = {
            let written = disks[1].bytes.borrow();
            (0..old.len()).map(|at| if new[at / sector] { written[at] } else { old[at] }).collect()
        };
        let whole = mixed == *disks[1].bytes.borrow();
        *disks[1].bytes.borrow_mut() = mixed;
        prop_assert_eq!(open(&disks).1.state, Some(state(if whole { 4 } else { 3 })));
    }

    #[test]
    fn a_flipped_bit_is_noticed(at in 0usize..(FIXED + VECTORS * 4 * N + SUM), bit in 0u8..8) {
        let disks = saved(2);
        disks[1].bytes.borrow_mut()[at] ^= 1 << bit;
        prop_assert_eq!(open(&disks).1.state, Some(state(1)));
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let disks = saved(1);
        *disks[1].bytes.borrow_mut() = bytes;
        prop_assert_eq!(open(&disks).1.state, Some(state(1)));
    }
}
