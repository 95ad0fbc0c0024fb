//! Causal attention with grouped keys and values, within the segments of a packed row.
//!
//! A task is a head of a segment. It goes through the queries a block at a time, so that its scores are
//! [`QUERIES`] × keys and never T × T; the way back computes the probabilities again from the logarithm of their sum
//! (Dao et al., "FlashAttention", 2022).

use std::ops::Range;

use crate::matrix::{Target, View};
use crate::threads::{Pool, with_scratch};
use crate::vector;

/// Queries of a block.
const QUERIES: usize = 64;

/// Heads and segments.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values: each serves as many heads of queries one after another.
    pub kv_heads: usize,
    /// Length of a head's vector.
    pub head: usize,
    /// Tokens of each segment.
    pub segments: &'a [Range<usize>],
}

/// What goes in: a row a token, head after head.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    pub queries: &'a [f32],
    pub keys: &'a [f32],
    pub values: &'a [f32],
}

/// Gradients of what went in.
pub struct Gradients<'a> {
    /// Of the queries.
    pub queries: &'a mut [f32],
    /// Of the keys, but for each head of queries on its own.
    pub keys: &'a mut [f32],
    /// Of the values, but for each head of queries on its own.
    pub values: &'a mut [f32],
}

/// A head of a segment.
struct Task<'a> {
    queries: View<'a>,
    keys: View<'a>,
    values: View<'a>,
    segment: Range<usize>,
    /// Columns of the head among all of queries.
    columns: Range<usize>,
    number: usize,
}

impl Attention<'_> {
    fn tokens(&self) -> usize {
        self.segments.last().map_or(0, |segment| segment.end)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head as f32).sqrt()
    }

    /// One matrix of all queries, or of gradients like them.
    fn wide<'v>(&self, data: &'v [f32]) -> View<'v> {
        View::new(data, self.tokens(), self.heads * self.head)
    }

    fn task<'v>(&self, inputs: Inputs<'v>, number: usize) -> Task<'v> {
        let segment = self.segments[number / self.heads].clone();
        let head = number % self.heads;
        let kv = head / (self.heads / self.kv_heads);
        let columns = head * self.head..(head + 1) * self.head;
        let narrow = |data: &'v [f32]| {
            let view = View::new(data, self.tokens(), self.kv_heads * self.head);
            view.columns(kv * self.head..(kv + 1) * self.head)
        };
        Task {
            queries: self.wide(inputs.queries).columns(columns.clone()),
            keys: narrow(inputs.keys),
            values: narrow(inputs.values),
            segment,
            columns,
            number: head,
        }
    }

    /// Blocks of queries, each with the keys that its last query may look at.
    fn blocks(segment: &Range<usize>) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<> {
        let Range { start, end } = *segment;
        (start..end).step_by(QUERIES).map(move |at| {
            let last = end.min(at + QUERIES);
            (at..last, start..last)
        })
    }

    /// Computes what each query gathers, and for each head (a row) and token the logarithm of the sum of its scores'
    /// exponentials, which the way back needs.
    pub fn forward(&self, pool: &Pool, inputs: Inputs<'_>, output: &mut [f32], log_sums: &mut [f32]) {
        let tokens = self.tokens();
        let output = Target::new(output, tokens, self.heads * self.head);
        let log_sums = Target::new(log_sums, self.heads, tokens);
        pool.run(self.segments.len() * self.heads, |number| {
            let task = self.task(inputs, number);
            // SAFETY: of its row, this segment's part is this task's; the slice is within it.
            let log_sums = unsafe {
                log_sums
                    .rows(task.number..task.number + 1)
                    .columns(task.segment.clone())
                    .row(0)
            };
            for (queries, keys) in Self::blocks(&task.segment) {
                with_scratch(queries.len() * keys.len(), |scores| {
                    let width = keys.len();
                    let all = Target::new(scores, queries.len(), width);
                    let keys_view = task.keys.rows(keys.clone()).transposed();
                    // SAFETY: the scratch memory is this task's.
                    unsafe {
                        all.product(false, self.scale(), task.queries.rows(queries.clone()), keys_view)
                    };
                    for (query, row) in queries.clone().zip(scores.chunks_exact_mut(width)) {
                        let (seen, future) = row.split_at_mut(query + 1 - keys.start);
                        let largest = vector::max(seen);
                        let sum = vector::exp_shifted(seen, largest);
                        vector::scale(seen, 1.0 / sum);
                        future.fill(0.0);
                        log_sums[query - task.segment.start] = largest + sum.ln();
                    }
                    let to = output.rows(queries.clone()).columns(task.columns.clone());
                    let values = task.values.rows(keys.clone());
                    // SAFETY: these columns of this segment's rows are this task's.
                    unsafe { to.product(false, 1.0, View::new(scores, queries.len(), width), values) };
                });
            }
        });
    }

    /// From `by_output` back to the gradients of what went in.
    pub fn backward(
        &self,
        pool: &Pool,
        inputs: Inputs<'_>,
        output: &[f32],
        log_sums: &[f32],
        by_output: &[f32],
        by: Gradients<'_>,
    ) {
        let tokens = self.tokens();
        let width = self.heads * self.head;
        let Gradients {
            queries: by_queries,
            keys: by_keys,
            values: by_values,
        } = by;
        by_keys.fill(0.0);
        by_values.fill(0.0);
        let by_queries = Target::new(by_queries, tokens, width);
        let by_keys = Target::new(by_keys, tokens, width);
        let by_values = Target::new(by_values, tokens, width);
        let by_output_view = self.wide(by_output);
        pool.run(self.segments.len() * self.heads, |number| {
            let task = self.task(inputs, number);
            let (columns, head) = (task.columns.clone(), task.number);
            let by_output_head = by_output_view.columns(columns.clone());
            for (queries, keys) in Self::blocks(&task.segment) {
                with_scratch(2 * queries.len() * keys.len(), |scratch| {
                    let size = keys.len();
                    let (probabilities, by_scores) = scratch.split_at_mut(queries.len() * size);
                    let query_view = task.queries.rows(queries.clone());
                    let key_view = task.keys.rows(keys.clone());
                    let by_view = by_output_head.rows(queries.clone());
                    let values = task.values.rows(keys.clone());
                    // SAFETY: the scratch memory is this task's.
                    unsafe {
                        let to = Target::new(probabilities, queries.len(), size);
                        to.product(false, self.scale(), query_view, key_view.transposed());
                        let to = Target::new(by_scores, queries.len(), size);
                        to.product(false, 1.0, by_view, values.transposed());
                    }
                    let rows = probabilities
                        .chunks_exact_mut(size)
                        .zip(by_scores.chunks_exact_mut(size));
                    for (query, (probabilities, by_scores)) in queries.clone().zip(rows) {
                        let (seen, future) = probabilities.split_at_mut(query + 1 - keys.start);
                        vector::exp_shifted(seen, log_sums[head * tokens + query]);
                        future.fill(0.0);
                        let at = query * width + columns.start;
                        let mean = vector::dot(&output[at..][..self.head], &by_output[at..][..self.head]);
                        let (by_seen, by_future) = by_scores.split_at_mut(seen.len());
                        vector::softmax_backward(by_seen, seen, mean, self.scale());
                        by_future.fill(0.0);
                    }
                    let probabilities = View::new(probabilities, queries.len(), size);
                    let by_scores = View::new(by_scores, queries.len(), size);
                    // SAFETY: these columns of this segment's rows are this task's.
                    unsafe {
                        let by_queries = by_queries.columns(columns.clone()).rows(queries);
                        by_queries.product(false, 1.0, by_scores, key_view);
                        let by_keys = by_keys.columns(columns.clone()).rows(keys.clone());
                        by_keys.product(true, 1.0, by_scores.transposed(), query_view);
                        let by_values = by_values.columns(columns.clone()).rows(keys);
                        by_values.product(true, 1.0, probabilities.transposed(), by_view);
                    }
                });
            }
        });
    }

    /// Adds up the gradients of the heads of queries that share a head of keys.
    pub fn gather(&self, pool: &Pool, each: &[f32], shared: &mut [f32]) {
        let (tokens, width) = (self.tokens(), self.heads * self.head);
        let group = self.heads / self.kv_heads;
        let shared = Target::new(shared, tokens, self.kv_heads * self.head);
        pool.run_ranges(tokens, QUERIES, |range| {
            for token in range {
                let each = &each[token * width..][..width];
                // SAFETY: each row is in one range, and each range is one task's.
                let shared = unsafe { shared.row(token) };
                let groups = each.chunks_exact(group * self.head);
                for (shared, group) in shared.chunks_exact_mut(self.head).zip(groups) {
                    shared.fill(0.0);
                    group
                        .chunks_exact(self.head)
                        .for_each(|head| vector::add_scaled(shared, 1.0, head));
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::difference::assert_derivative;
    use crate::random::Random;

    const SEGMENTS: [Range<usize>; 3] = [0..70, 70..71, 71..90];

    fn attention(kv_heads: usize) -> Attention<'static> {
        Attention {
            heads: 4,
            kv_heads,
            head: 6,
            segments: &SEGMENTS,
        }
    }

    /// Textbook attention in double precision.
    fn naive(attention: &Attention<'_>, inputs: Inputs<'_>) -> Vec<f64> {
        let (head, width) = (attention.head, attention.heads * attention.head);
        let narrow = attention.kv_heads * head;
        let mut output = vec![0.0; attention.tokens() * width];
        for segment in attention.segments {
            for query in segment.clone() {
                for number in 0..attention.heads {
                    let kv = number * attention.kv_heads / attention.heads;
                    let score = |key: usize| -> f64 {
                        let q = &inputs.queries[query * width + number * head..][..head];
                        let k = &inputs.keys[key * narrow + kv * head..][..head];
                        let dot: f64 = q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                        (dot / (head as f64).sqrt()).exp()
                    };
                    let scores: Vec<f64> = (segment.start..=query).map(score).collect();
                    let sum: f64 = scores.iter().sum();
                    for (score, key) in scores.iter().zip(segment.start..) {
                        for at in 0..head {
                            let value = f64::from(inputs.values[key * narrow + kv * head + at]);
                            output[query * width + number * head + at] += score / sum * value;
                        }
                    }
                }
            }
        }
        output
    }

    #[test]
    fn gathers_what_the_textbook_says() {
        let (pool, mut random) = (Pool::new(2).unwrap(), Random::new(8));
        for kv_heads in [1, 2, 4] {
            let attention = attention(kv_heads);
            let [queries, keys, values] =
                [4, kv_heads, kv_heads].map(|heads| random.normals(90 * heads * 6, 1.5));
            let inputs = Inputs {
                queries: &queries,
                keys: &keys,
                values: &values,
            };
            let (mut output, mut log_sums) = (vec![f32::NAN; 90 * 24], vec![0.0; 90 * 4]);
            attention.forward(&pool, inputs, &mut output, &mut log_sums);
            for (value, expected) in output.iter().zip(naive(&attention, inputs)) {
                assert!((f64::from(*value) - expected).abs() < 1e-5, "{value} {expected}");
            }
        }
    }

    #[test]
    fn derivatives() {
        let (pool, mut random) = (Pool::new(2).unwrap(), Random::new(9));
        let attention = attention(2);
        let [queries, keys, values] = [4, 2, 2].map(|heads| random.normals(90 * heads * 6, 1.0));
        let by_output = random.normals(90 * 24, 1.0);
        let inputs = Inputs {
            queries: &queries,
            keys: &keys,
            values: &values,
        };
        let (mut output, mut log_sums) = (vec![0.0; 90 * 24], vec![0.0; 90 * 4]);
        attention.forward(&pool, inputs, &mut output, &mut log_sums);
        let [mut by_queries, mut each_keys, mut each_values] = [(); 3].map(|()| vec![f32::NAN; 90 * 24]);
        let by = Gradients {
            queries: &mut by_queries,
            keys: &mut each_keys,
            values: &mut each_values,
        };
        attention.backward(&pool, inputs, &output, &log_sums, &by_output, by);
        let [mut by_keys, mut by_values] = [(); 2].map(|()| vec![f32::NAN; 90 * 12]);
        attention.gather(&pool, &each_keys, &mut by_keys);
        attention.gather(&pool, &each_values, &mut by_values);
        let loss = |inputs: Inputs<'_>| -> f64 {
            naive(&attention, inputs)
                .iter()
                .zip(&by_output)
                .map(|(a, b)| a * f64::from(*b))
                .sum()
        };
        assert_derivative("queries", &queries, &by_queries, |queries| {
            loss(Inputs { queries, ..inputs })
        });
        assert_derivative("keys", &keys, &by_keys, |keys| loss(Inputs { keys, ..inputs }));
        assert_derivative("values", &values, &by_values, |values| {
            loss(Inputs { values, ..inputs })
        });
    }
}
