//! What is found out about a model before its engine is announced: that it runs, what its memory can do, and what a
//! batch costs on this machine.

use std::rc::Rc;
use std::time::{Duration, Instant};

use sarai_wire::engine::BatchCost;

use crate::llama::adapter::Adapter;
use crate::llama::batch::Batch;
use crate::llama::context::{Context, ContextParams};
use crate::llama::{LlamaError, Token};
use crate::softmax;
use crate::speculation::MOST;

/// Sizes of batches to measure.
const SIZES: [usize; 5] = [2, 4, 8, 16, 32];
/// How long measuring may take.
const TIME: Duration = Duration::from_secs(1);
/// A machine on which one token takes this long is measured by nobody: it is being emulated.
const TOO_SLOW: Duration = Duration::from_millis(250);
/// Tokens of a batch compared with the same ones decoded one by one.
const COMPARED: usize = 8;
/// Measurements of each size, of which the shortest counts: everything else on the machine only adds.
const TIMES: u32 = 3;

/// Takes the place of the measured times, as `2:1.1,8:1.5`: for tests, whose answers must not depend on a clock.
/// Whether batches are exact is found out all the same; with `inexact` among them it does not matter.
const GIVEN: &str = "SARAI_ENGINE_BATCH_COSTS";
/// Among the given costs: for made-up models, whose tests allow for what sums in another order differ by.
const INEXACT: &str = "inexact";

/// What was found out.
#[derive(Debug, Clone)]
pub struct Findings {
    /// Whether a sequence can forget its end. Recurrent and hybrid models cannot.
    pub forgets: bool,
    /// What batches cost.
    pub batches: Batches,
}

/// What was found out of batches.
#[derive(Debug, Clone, PartialEq)]
pub enum Batches {
    /// Nothing: the model cannot take tokens back, or the machine was too slow to measure it.
    Unmeasured,
    /// Tokens do not come out of a batch bit for bit as they come out one by one. Some kernels add up in another order,
    /// and then a near tie may be decided otherwise.
    Inexact,
    /// Sizes of batches, ascending from 2 on, and their time over that of one token, as far as they are exact and there
    /// was time.
    Costs(Vec<(usize, f64)>),
}

impl Batches {
    /// What an earlier engine told, bounded to what a batch may have here.
    pub fn known(told: &[BatchCost], most: usize) -> Self {
        let most = most.min(MOST);
        let costs = told
            .iter()
            .map(|cost| (cost.tokens as usize, f64::from(cost.ratio)));
        let costs: Vec<_> = costs
            .filter(|(size, ratio)| (2..=most).contains(size) && ratio.is_finite())
            .collect();
        if costs.is_empty() {
            Self::Inexact
        } else {
            Self::Costs(costs)
        }
    }

    /// What lasts of it, for the next engine with the same model. A machine that was too slow may have been busy.
    pub fn told(&self) -> Option<Vec<BatchCost>> {
        match self {
            Self::Unmeasured => None,
            Self::Inexact => Some(Vec::new()),
            Self::Costs(costs) => Some(
                costs
                    .iter()
                    .map(|(tokens, ratio)| BatchCost {
                        tokens: u32::try_from(*tokens).unwrap_or(u32::MAX),
                        #[expect(clippy::cast_possible_truncation, reason = "a few digits are all it has")]
                        ratio: *ratio as f32,
                    })
                    .collect(),
            ),
        }
    }
}

/// Tries an adapter in a small context of its own: a file that loads and does not compute is noticed before a request
/// gets it. With `look`, says whether tokens come out of a batch bit for bit as they come out one by one.
///
/// # Errors
/// As [`probe`], or when there is no memory for the context.
pub fn try_adapter<'model>(
    beside: &Context<'model>,
    adapter: &Rc<Adapter<'model>>,
    first: Token,
    look: bool,
) -> Result<bool, LlamaError> {
    let most = COMPARED.try_into().unwrap_or(u32::MAX);
    let mut context = beside.beside(ContextParams {
        context: most,
        slots: 1,
        batch: most,
        rows: most,
        ..beside.params()
    })?;
    context.apply(Some(adapter))?;
    let mut probe = Probe {
        context: &mut context,
        batch: Batch::new(COMPARED),
        first,
    };
    probe.time(0, 1)?;
    if probe.row(0).and_then(softmax::largest).is_none() {
        return Err(LlamaError::Adapter(
            "the logits with it are not finite numbers".into(),
        ));
    }
    if !look {
        return Ok(false);
    }
    let mut rows = vec![probe.row(0).unwrap_or_default().to_vec()];
    for size in [2, COMPARED] {
        for at in rows.len()..size {
            probe.time(at, 1)?;
            rows.push(probe.row(0).unwrap_or_default().to_vec());
        }
        probe.context.forget(0);
        probe.time(0, size)?;
        if (0..size).any(|at| probe.row(at) != Some(&rows[at])) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Decodes a few made-up tokens and forgets them, so that the first request finds everything in memory and a model
/// that loads but does not run is noticed before it is announced. What batches cost is measured unless it is `known`.
///
/// # Errors
/// As [`Context::decode`], or when the logits are no numbers.
pub fn probe(
    context: &mut Context<'_>,
    first: Token,
    most: usize,
    known: Option<&[BatchCost]>,
) -> Result<Findings, LlamaError> {
    let mut probe = Probe {
        context,
        batch: Batch::new(most),
        first,
    };
    let findings = probe.run(most, known);
    probe.context.forget(0);
    findings
}

struct Probe<'a, 'model> {
    context: &'a mut Context<'model>,
    batch: Batch,
    /// The first of the made-up tokens.
    first: Token,
}

impl Probe<'_, '_> {
    fn run(&mut self, most: usize, known: Option<&[BatchCost]>) -> Result<Findings, LlamaError> {
        self.time(0, 1)?;
        if self.row(0).and_then(softmax::largest).is_none() {
            return Err(LlamaError::Model(
                "its first logits are not finite numbers".into(),
            ));
        }
        self.time(1, 3)?;
        let forgets = self.context.forget_from(0, 2);
        let batches = match known {
            _ if !forgets => Batches::Unmeasured,
            Some(told) => Batches::known(told, most),
            None => self.batches(most)?,
        };
        Ok(Findings { forgets, batches })
    }

    /// Measures batches, in a context that can forget.
    fn batches(&mut self, most: usize) -> Result<Batches, LlamaError> {
        let given = std::env::var(GIVEN).ok();
        let given = given.map(|given| (read(&given, most), given.split(',').any(|word| word == INEXACT)));
        let begin = Instant::now();
        let mut one = Duration::MAX;
        // The logits behind each of the first tokens, decoded one by one.
        let mut rows: Vec<Vec<f32>> = Vec::new();
        self.context.forget(0);
        for at in 0..COMPARED {
            let time = self.time(at, 1)?;
            if given.is_none() && time > TOO_SLOW {
                return Ok(Batches::Unmeasured);
            }
            // The very first may still find something cold.
            one = one.min(time);
            rows.push(self.row(0).unwrap_or_default().to_vec());
        }
        let mut last = one;
        let inexact = given.as_ref().is_some_and(|(_, inexact)| *inexact);
        let sizes = match &given {
            Some((given, _)) => given.iter().map(|(size, cost)| (*size, Some(*cost))).collect(),
            None => SIZES.map(|size| (size, None)).to_vec(),
        };
        let (mut exact, mut costs) = (true, Vec::new());
        for (size, cost) in sizes.into_iter().filter(|(size, _)| *size <= most) {
            // The next size may take twice as long as the last one.
            if given.is_none() && begin.elapsed() + last * 2 * TIMES > TIME {
                break;
            }
            last = Duration::MAX;
            for _ in 0..TIMES {
                self.context.forget(0);
                last = last.min(self.time(0, size)?);
            }
            let same = |at: usize| self.row(at) == rows.get(at).map(Vec::as_slice);
            exact = (0..size.min(COMPARED)).all(same);
            if !exact && !inexact {
                break;
            }
            let measured = last.as_secs_f64() / one.as_secs_f64().max(1e-9);
            costs.push((size, cost.unwrap_or(measured)));
        }
        Ok(match (costs.is_empty(), exact) {
            (true, true) => Batches::Unmeasured,
            (true, false) => Batches::Inexact,
            (false, _) => Batches::Costs(costs),
        })
    }

    fn row(&self, index: usize) -> Option<&[f32]> {
        self.context.logits(index)
    }

    /// The time of a batch of `size` tokens from `begin` on, the logits of all of them included.
    fn time(&mut self, begin: usize, size: usize) -> Result<Duration, LlamaError> {
        self.batch.clear();
        for at in begin..begin + size {
            let position = i32::try_from(at).unwrap_or(i32::MAX);
            // Any tokens will do; the lowest ids exist in every vocabulary.
            let token = if at == 0 { self.first } else { position };
            self.batch.push(token, position, 0, true);
        }
        let start = Instant::now();
        self.context.decode(&mut self.batch)?;
        // Decoding may go on behind; reading the logits waits for it.
        let _ = self.row(size - 1);
        Ok(start.elapsed())
    }
}

fn read(given: &str, most: usize) -> Vec<(usize, f64)> {
    let pairs = given.split(',').filter_map(|pair| pair.split_once(':'));
    let pairs = pairs.filter_map(|(size, cost)| Some((size.parse().ok()?, cost.parse().ok()?)));
    // There are no more rows of logits than for these.
    let most = most.min(MOST);
    pairs.filter(|(size, _)| (2..=most).contains(size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_costs_are_read_and_bounded() {
        assert_eq!(read("inexact,2:1.5,8:2,64:9,x:1,4", 512), [(2, 1.5), (8, 2.0)]);
        assert_eq!(read("2:1.5", 0), []);
        assert_eq!(read("", 32), []);
    }

    #[test]
    fn what_one_engine_found_is_what_the_next_one_knows() {
        let costs = Batches::Costs(vec![(2, 1.5), (8, 3.0)]);
        for (found, known) in [
            (Batches::Inexact, Some(Batches::Inexact)),
            (costs.clone(), Some(costs)),
            // May have been a machine that was busy: measured again.
            (Batches::Unmeasured, None),
        ] {
            let told = found.told();
            assert_eq!(told.as_deref().map(|told| Batches::known(told, 512)), known);
        }
    }

    #[test]
    fn what_is_told_is_bounded_by_the_batch_here() {
        let told = [(1, 1.0), (2, 1.5), (4, f32::NAN), (8, 2.0), (64, 9.0)]
            .map(|(tokens, ratio)| BatchCost { tokens, ratio });
        assert_eq!(
            Batches::known(&told, 512),
            Batches::Costs(vec![(2, 1.5), (8, 2.0)])
        );
        assert_eq!(Batches::known(&told, 4), Batches::Costs(vec![(2, 1.5)]));
    }
}
