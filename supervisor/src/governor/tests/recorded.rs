//! A leak as a whole machine saw it, run through the ladder again. `traces/leak.jsonl` is what the governor itself wrote
//! (`[memory] trace = true`) while vm `a_leak_is_met_rung_by_rung_loses_no_request_and_leaves_nothing_behind` ran; with
//! `SARAI_TEST_TRACE=FILE` that test keeps it.

use std::time::Duration;

use sarai_wire::memory::Rung;

use super::world::{MIB, TICK, World};
use super::{BACK, REACHED};
use crate::governor::ladder::{HOLD, Ladder, Move};
use crate::governor::sample::Sample;
use crate::governor::terms::Terms;
use crate::governor::trace::Entry;

const LEAK: &str = include_str!("traces/leak.jsonl");

fn entries() -> Vec<Entry> {
    LEAK.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A look of the machine, and where it stood then.
struct Look {
    at: Duration,
    sample: Sample,
    rung: Rung,
}

/// The looks, the moves with their times and what they freed or took, and the end of the last move.
struct Run {
    looks: Vec<Look>,
    moves: Vec<(Duration, Rung, Rung, Option<u64>)>,
    last_end: Duration,
    first_terms: Terms,
}

fn run() -> Run {
    let mut run = Run {
        looks: Vec::new(),
        moves: Vec::new(),
        last_end: Duration::ZERO,
        first_terms: Terms::default(),
    };
    let mut rung = Rung::Normal;
    for entry in entries() {
        match entry {
            Entry::Begun { rung: at, .. } => rung = at,
            Entry::Terms(terms) if run.looks.is_empty() => run.first_terms = terms,
            Entry::Terms(_) => {}
            Entry::Look { at, sample } => run.looks.push(Look { at, sample, rung }),
            Entry::Move { from, to, .. } => {
                assert_eq!(from, rung);
                rung = to;
                let at = run.looks.last().unwrap().at;
                run.moves.push((at, from, to, None));
            }
            Entry::End {
                at,
                replaced,
                measured,
            } => {
                if !replaced {
                    run.last_end = at;
                }
                run.moves.last_mut().unwrap().3 = measured;
            }
            Entry::Lost(lost) => panic!("{lost} entries are missing"),
        }
    }
    run
}

/// The machine that decided was this ladder: what it did is what comes out again, move by move.
#[test]
fn the_ladder_decides_again_as_it_did_on_the_machine() {
    let mut ladder = Ladder::at(Rung::Normal, Duration::ZERO);
    let mut terms = Terms::default();
    let mut decided: Option<Move> = None;
    let mut moves = 0;
    for entry in entries() {
        if let Some(made) = decided
            && !matches!(entry, Entry::Move { .. } | Entry::End { replaced: true, .. })
        {
            panic!("the machine did not make {made:?}, but {entry:?}");
        }
        match entry {
            Entry::Begun { at, rung, .. } => ladder = Ladder::at(rung, at),
            Entry::Terms(now) => terms = now,
            Entry::Look { at, sample } => decided = ladder.decide(at, &sample, &terms),
            Entry::Move {
                from, to, predicted, ..
            } => {
                let made = decided.take().map(|made| (made.from, made.to, made.predicted));
                assert_eq!(made, Some((from, to, predicted)));
                moves += 1;
            }
            Entry::End { at, replaced, .. } => {
                if !replaced {
                    ladder.done(at);
                }
            }
            Entry::Lost(lost) => panic!("{lost} entries are missing"),
        }
    }
    assert!(moves >= 8, "{moves} moves are no leak");
}

/// What is promised of any pressure, of the one that there was.
#[test]
fn the_machine_kept_what_is_promised() {
    let Run {
        looks,
        moves,
        last_end,
        ..
    } = run();
    let mut begun: Option<Duration> = None;
    let mut pressed: Option<Duration> = None;
    for look in &looks {
        if look.sample.read().pressure.is_none() {
            begun = None;
            continue;
        }
        pressed = Some(look.at);
        let since = *begun.get_or_insert(look.at);
        assert!(
            look.rung == Rung::Refusing || look.at - since <= Duration::from_secs(REACHED),
            "pressed since {since:?} and still at {:?} at {:?}",
            look.rung,
            look.at
        );
    }
    for (at, from, to, _) in moves.iter().filter(|(_, from, to, _)| to < from) {
        let calm = looks
            .iter()
            .filter(|look| look.at <= *at && look.at + HOLD > *at)
            .all(|look| look.sample.read().pressure.is_none());
        assert!(calm, "climbed from {from:?} to {to:?} at {at:?}, under pressure");
    }
    let down: Vec<bool> = moves.iter().map(|(_, from, to, _)| to > from).collect();
    let turns = down.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(turns, 1, "{moves:?}");
    assert_eq!(moves.last().unwrap().2, Rung::Normal);
    let back = last_end - pressed.unwrap();
    assert!(back <= Duration::from_secs(BACK), "back after {back:?}");
}

/// The same leak on a machine whose memory obeys: what was needed besides the rungs is the load, what rungs free is what
/// they freed there.
#[test]
fn the_same_leak_again_reaches_a_rung_that_fits_and_leads_back() {
    let run = run();
    let line = run.looks[0].sample.own.unwrap().line;
    let mut world = World::new(line / MIB, 0, 0, 0);
    world.line = line;
    let mut frees = [0; Rung::ALL.len()];
    for (step, rung) in frees.iter_mut().zip(Rung::ALL) {
        *step = run.first_terms[rung as usize].frees;
    }
    for (_, from, to, measured) in &run.moves {
        let (above, below) = (from.min(to), from.max(to));
        if let Some(bytes) = measured
            && *below != Rung::Refusing
            && to > from
        {
            let between: u64 = frees[*above as usize + 1..*below as usize].iter().sum();
            frees[*below as usize] = bytes.saturating_sub(between);
        }
    }
    world.frees = frees;
    world.facts.measured = run.first_terms.map(|step| step.exists.then_some(step.frees));
    let freed = |rung: Rung| -> u64 { frees[..=rung as usize].iter().sum() };
    let loads: Vec<(Duration, u64)> = run
        .looks
        .iter()
        .map(|look| (look.at, look.sample.own.unwrap().needed() + freed(look.rung)))
        .collect();
    let begin = loads[0].0;
    let (mut pressed, mut ended) = (0, Duration::ZERO);
    let mut load = loads[0].1;
    for second in 0..=u32::try_from((loads.last().unwrap().0 - begin).as_secs()).unwrap() {
        let from = begin + TICK * second;
        let within = loads.iter().filter(|(at, _)| *at >= from && *at < from + TICK);
        load = within.map(|(_, load)| *load).max().unwrap_or(load);
        world.second(load);
        if world.need(world.at, load) < world.line {
            pressed = 0;
            continue;
        }
        (pressed, ended) = (pressed + 1, world.now);
        assert!(
            pressed <= REACHED || world.at == Rung::Refusing,
            "{:?} {:?}",
            world.at,
            world.moves
        );
    }
    let lowest = world.moves.iter().map(|(_, made)| made.to).max();
    assert!(lowest >= Some(Rung::Fallback), "{:?}", world.moves);
    while world.at > Rung::Normal || world.ends.is_some() {
        world.second(load);
        assert!(
            world.now - ended <= Duration::from_secs(BACK),
            "{:?}",
            world.moves
        );
    }
    // Once more down, where the leak goes on into the room that stopping made.
    assert!(world.turns() <= 3, "{:?}", world.moves);
}
