//! Examples into rows: short ones share a row, so that a row's cost is spent on tokens.
//!
//! Best fit decreasing (Johnson: *Near-optimal bin packing algorithms*, 1973): longest first, each into the fullest row
//! that still has room. Which of several equally long examples comes first, and the order of the rows, are shuffled
//! anew for each epoch. How many rows there are depends on the lengths alone and is the same in every epoch.

use std::collections::BTreeMap;

use crate::learner::Sequence;

use super::data::Example;
use super::shuffle::{shuffle, stream};

/// Examples cut to the length of a row.
#[derive(Debug)]
pub struct Pieces<'a> {
    usable: Vec<Piece<'a>>,
    length: usize,
    rows: usize,
    /// Examples that were cut.
    pub cut: usize,
    /// Examples that are left out: cut, they have nothing to be predicted any more.
    pub dropped: usize,
}

#[derive(Debug, Clone, Copy)]
struct Piece<'a> {
    example: &'a Example,
    /// Tokens of it that are used.
    length: usize,
}

impl Piece<'_> {
    /// How many tokens are to be predicted.
    fn targets(&self) -> usize {
        let spans = self.example.targets.iter();
        spans
            .map(|span| span.end.min(self.length).saturating_sub(span.start))
            .sum()
    }
}

/// Which pieces share a row, in order.
pub type Row = Vec<usize>;

impl<'a> Pieces<'a> {
    /// Cuts `examples` to at most `length` tokens at their end.
    #[must_use]
    pub fn new(examples: &'a [Example], length: usize) -> Self {
        let (mut usable, mut cut, mut dropped) = (Vec::new(), 0, 0);
        for example in examples {
            let piece = Piece {
                example,
                length: example.tokens.len().min(length),
            };
            if piece.targets() == 0 {
                dropped += 1;
                continue;
            }
            cut += usize::from(piece.length < example.tokens.len());
            usable.push(piece);
        }
        let mut me = Self {
            usable,
            length,
            rows: 0,
            cut,
            dropped,
        };
        me.rows = me.pack((0..me.usable.len()).collect()).len();
        me
    }

    /// Examples in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.usable.len()
    }

    /// Whether no example is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.usable.is_empty()
    }

    /// Rows of an epoch, of each the same number.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Tokens to be predicted.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.usable.iter().map(Piece::targets).sum()
    }

    /// The rows in the order of `epoch`.
    #[must_use]
    pub fn epoch(&self, seed: u64, epoch: u64) -> Vec<Row> {
        let mut random = stream(seed, epoch);
        let mut order: Vec<usize> = (0..self.usable.len()).collect();
        shuffle(&mut order, &mut random);
        let mut rows = self.pack(order);
        shuffle(&mut rows, &mut random);
        rows
    }

    /// The rows in an order that is always the same: for measurements.
    #[must_use]
    pub fn in_order(&self) -> Vec<Row> {
        self.pack((0..self.usable.len()).collect())
    }

    /// The same rows as the model takes them.
    #[must_use]
    pub fn sequences(&self) -> Vec<Sequence> {
        self.in_order().iter().map(|row| self.sequence(row)).collect()
    }

    fn pack(&self, mut order: Vec<usize>) -> Vec<Row> {
        // Stable: equally long ones stay in the order they came in.
        order.sort_by_key(|piece| std::cmp::Reverse(self.usable[*piece].length));
        let mut rows: Vec<Row> = Vec::new();
        // Rows by the room they have left.
        let mut by_room: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for piece in order {
            let length = self.usable[piece].length;
            let fullest = by_room.range(length..).next().map(|(room, _)| *room);
            let (row, room) = match fullest.and_then(|room| Some((take(&mut by_room, room)?, room))) {
                Some(found) => found,
                None => {
                    rows.push(Row::new());
                    (rows.len() - 1, self.length)
                }
            };
            rows[row].push(piece);
            by_room.entry(room - length).or_default().push(row);
        }
        rows
    }

    /// A row as the model takes it.
    #[must_use]
    pub fn sequence(&self, row: &Row) -> Sequence {
        let mut sequence = Sequence {
            tokens: Vec::new(),
            positions: Vec::new(),
            segments: Vec::new(),
            targets: Vec::new(),
        };
        for (segment, piece) in (0..).zip(row) {
            let Piece { example, length } = self.usable[*piece];
            let begin = sequence.targets.len();
            sequence.tokens.extend(&example.tokens[..length]);
            sequence.positions.extend((0..).take(length));
            sequence.segments.extend(std::iter::repeat_n(segment, length));
            sequence.targets.resize(begin + length, false);
            for span in &example.targets {
                let (start, end) = (span.start.min(length), span.end.min(length));
                sequence.targets[begin + start..begin + end].fill(true);
            }
        }
        sequence
    }
}

/// One of the rows with this room.
fn take(by_room: &mut BTreeMap<usize, Vec<usize>>, room: usize) -> Option<usize> {
    let rows = by_room.get_mut(&room)?;
    let row = rows.pop();
    if rows.is_empty() {
        by_room.remove(&room);
    }
    row
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An example of `length` tokens, each of which says which example and position it is; the last is a target.
    fn example(number: usize, length: usize) -> Example {
        let token = |position| u32::try_from(number * 1000 + position).unwrap();
        Example {
            tokens: (0..length).map(token).collect(),
            targets: std::iter::once(length - 1..length).collect(),
        }
    }

    fn examples(lengths: &[usize]) -> Vec<Example> {
        let numbered = lengths.iter().enumerate();
        numbered
            .map(|(number, length)| example(number, *length))
            .collect()
    }

    #[test]
    fn short_examples_share_a_row_and_know_where_they_begin() {
        let all = examples(&[3, 2]);
        let pieces = Pieces::new(&all, 6);
        let rows = pieces.in_order();
        assert_eq!(rows, [vec![0, 1]]);
        let sequence = pieces.sequence(&rows[0]);
        assert_eq!(sequence.tokens, [0, 1, 2, 1000, 1001]);
        assert_eq!(sequence.positions, [0, 1, 2, 0, 1]);
        assert_eq!(sequence.segments, [0, 0, 0, 1, 1]);
        assert_eq!(sequence.targets, [false, false, true, false, true]);
    }

    #[test]
    fn the_fullest_row_that_has_room_is_chosen() {
        let all = examples(&[5, 8, 2, 2]);
        // 8 leaves 2, 5 leaves 5: the first 2 fills the fuller row.
        assert_eq!(
            Pieces::new(&all, 10).in_order(),
            [vec![1, 3], vec![0, 2]].map(|mut row| {
                if row[0] == 1 {
                    row[1] = 2
                } else {
                    row[1] = 3
                }
                row
            })
        );
    }

    #[test]
    fn long_examples_are_cut_and_those_left_without_a_target_dropped() {
        let mut all = examples(&[10, 4]);
        all[0].targets = vec![1..3, 6..9];
        all.push(example(2, 10));
        let pieces = Pieces::new(&all, 7);
        assert_eq!((pieces.len(), pieces.cut, pieces.dropped), (2, 1, 1));
        assert_eq!(pieces.targets(), 2 + 1 + 1);
        let rows = pieces.in_order();
        let first = pieces.sequence(&rows[0]);
        assert_eq!(first.tokens.len(), 7);
        assert_eq!(first.targets, [false, true, true, false, false, false, true]);
        let nothing = Pieces::new(&all[2..], 7);
        assert!(nothing.is_empty() && nothing.rows() == 0);
    }

    #[test]
    fn what_is_as_long_as_a_row_is_whole() {
        let mut all = examples(&[7, 7]);
        for example in &mut all {
            example.targets = std::iter::once(5..7).collect();
        }
        let pieces = Pieces::new(&all, 7);
        assert_eq!((pieces.len(), pieces.cut, pieces.dropped), (2, 0, 0));
        assert_eq!((pieces.targets(), pieces.rows()), (4, 2));
        let first = pieces.sequence(&pieces.in_order()[0]);
        assert_eq!(first.targets, [false, false, false, false, false, true, true]);
    }

    proptest! {
        #[test]
        fn every_example_is_in_every_epoch_once_whole_and_no_row_is_too_long(
            lengths in proptest::collection::vec(2usize..60, 1..80),
            length in 2usize..64,
            seed in any::<u64>(),
        ) {
            let all = examples(&lengths);
            let pieces = Pieces::new(&all, length);
            prop_assert_eq!(pieces.len() + pieces.dropped, all.len());
            for epoch in 0..3 {
                let rows = pieces.epoch(seed, epoch);
                prop_assert_eq!(rows.len(), pieces.rows());
                let mut seen = Vec::new();
                let mut half_empty = 0;
                let mut targets = 0;
                for row in &rows {
                    let sequence = pieces.sequence(row);
                    prop_assert!(sequence.tokens.len() <= length);
                    half_empty += usize::from(sequence.tokens.len() * 2 <= length);
                    targets += sequence.targets.iter().filter(|target| **target).count();
                    for at in 0..sequence.tokens.len() {
                        let (number, position) = (sequence.tokens[at] / 1000, sequence.tokens[at] % 1000);
                        prop_assert_eq!(position, sequence.positions[at]);
                        if position == 0 {
                            seen.push(number);
                            prop_assert!(!sequence.targets[at]);
                            prop_assert!(at == 0 || sequence.segments[at] == sequence.segments[at - 1] + 1);
                        } else {
                            prop_assert_eq!(sequence.segments[at], sequence.segments[at - 1]);
                            prop_assert_eq!(sequence.tokens[at], sequence.tokens[at - 1] + 1);
                        }
                    }
                }
                prop_assert_eq!(targets, pieces.targets());
                // Two such rows would have been one.
                prop_assert!(half_empty <= 1);
                seen.sort_unstable();
                let whole = |n: &u32| lengths[*n as usize] <= length;
                prop_assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert_eq!(seen.iter().filter(|n| whole(n)).count(), lengths.iter().filter(|l| **l <= length).count());
                prop_assert_eq!(&rows, &pieces.epoch(seed, epoch));
            }
        }
    }

    #[test]
    fn epochs_and_seeds_have_orders_of_their_own() {
        let all = examples(&[9; 40]);
        let pieces = Pieces::new(&all, 10);
        let first = pieces.epoch(1, 0);
        assert_ne!(first, pieces.epoch(1, 1));
        assert_ne!(first, pieces.epoch(2, 0));
        // Examples of the same length meet others in another epoch.
        let pairs = Pieces::new(&all, 18);
        let together = |rows: Vec<Row>| {
            let mut rows: Vec<Row> = rows
                .into_iter()
                .map(|mut row| {
                    row.sort_unstable();
                    row
                })
                .collect();
            rows.sort();
            rows
        };
        assert_ne!(together(pairs.epoch(1, 0)), together(pairs.epoch(1, 1)));
    }
}
