//! Generated traces.

use std::time::Duration;

use proptest::prelude::*;
use sarai_wire::memory::Rung;

use super::world::{MIB, TICK, World};
use super::{BACK, REACHED};
use crate::governor::ladder::{HOLD, HOLD_MOST, Ladder, PATIENCE_STOP, Why};

#[test]
fn a_leak_goes_down_rung_by_rung_and_its_end_leads_back_within_a_minute() {
    // 40 MiB at the caches would be invented: rungs free 0, 32, 16, 116.
    let mut world = World::new(960, 900, 100, 64);
    let mut load = 0;
    while world.at < Rung::Refusing {
        load += 2 * MIB;
        world.second(load);
        assert!(world.now < Duration::from_secs(600), "{:?}", world.moves);
    }
    let there: Vec<Rung> = world.moves.iter().map(|(_, m)| m.to).collect();
    assert_eq!(there, world.there()[1..], "{:?}", world.moves);
    let ended = world.now;
    while world.at > Rung::Normal || world.ends.is_some() {
        world.second(0);
        assert!(
            world.now - ended <= Duration::from_secs(BACK),
            "{:?}",
            world.moves
        );
    }
    assert_eq!(world.turns(), 1);
}

#[test]
fn a_sudden_need_goes_down_as_far_as_it_takes_and_no_further() {
    for (load, to) in [
        (61, Rung::HalfContext),
        (100, Rung::QuarterContext),
        (130, Rung::Fallback),
    ] {
        let mut world = World::new(960, 900, 100, 64);
        world.second(0);
        world.second(0);
        for _ in 0..10 {
            world.second(load * MIB);
        }
        assert_eq!(world.at, to, "{load}: {:?}", world.moves);
    }
}

/// What runs may end before an engine does: a stop that suffices is worth the wait, and nothing is refused meanwhile.
#[test]
fn a_slow_stop_that_suffices_is_waited_for() {
    let mut world = World::new(960, 900, 100, 64);
    world.takes = PATIENCE_STOP - 2 * TICK;
    for _ in 0..3 {
        world.second(0);
    }
    for _ in 0..60 {
        world.second(130 * MIB);
    }
    assert_eq!(world.at, Rung::Fallback, "{:?}", world.moves);
}

#[test]
fn a_slow_stop_that_does_not_suffice_is_not_waited_for_long() {
    let mut world = World::new(960, 900, 100, 64);
    world.takes = PATIENCE_STOP;
    for _ in 0..3 {
        world.second(0);
    }
    // Faster than stopping the primary frees.
    let mut load = 50;
    while world
        .moves
        .last()
        .is_none_or(|(_, made)| made.to < Rung::Refusing)
    {
        load += 15;
        world.second(load * MIB);
        assert!(world.now < Duration::from_secs(60), "{:?}", world.moves);
    }
    let [.., (stop, made), (next, _)] = world.moves[..] else {
        panic!("{:?}", world.moves);
    };
    assert_eq!(made.to, Rung::Fallback, "{:?}", world.moves);
    assert!(next - stop < PATIENCE_STOP, "{:?}", world.moves);
}

#[test]
fn far_too_much_at_once_stops_the_primary_and_refuses_only_when_that_did_not_suffice() {
    let mut world = World::new(960, 900, 100, 64);
    for _ in 0..5 {
        world.second(0);
    }
    let first = world.second(5000 * MIB).unwrap();
    assert_eq!((first.from, first.to), (Rung::Normal, Rung::Fallback));
    let mut last = first;
    for _ in 0..10 {
        last = world.second(5000 * MIB).unwrap_or(last);
    }
    assert_eq!((last.from, last.to), (Rung::Fallback, Rung::Refusing));
    assert_eq!(world.moves.len(), 2);
}

#[test]
fn a_climb_that_turns_out_too_dear_is_taken_back_and_not_tried_again_soon() {
    let mut world = World::new(960, 900, 100, 64);
    // The primary is twice as large as anybody says.
    world.frees[Rung::Fallback as usize] = 232 * MIB;
    world.facts.measured = [None; 7];
    world.ladder = Ladder::at(Rung::Fallback, Duration::ZERO);
    world.at = Rung::Fallback;
    world.facts.stopped = true;
    // Room for what is believed, not for what is.
    let load = world.line - world.base + world.freed(Rung::Fallback) - 200 * MIB;
    for _ in 0..600 {
        world.second(load);
    }
    // Up, back, and by then it is known what it takes.
    assert_eq!(world.turns(), 1, "{:?}", world.moves);
    assert_eq!(world.at, Rung::Fallback);
}

#[test]
fn a_load_that_comes_and_goes_makes_it_wait_longer() {
    let mut world = World::new(960, 900, 100, 64);
    for _ in 0..3600 {
        // Pressure whenever it has just climbed.
        let climbed = world.moves.last().is_some_and(|(_, m)| m.to < m.from);
        let load = if climbed || world.moves.is_empty() { 80 } else { 0 };
        world.second(load * MIB);
    }
    // At worst one turn up and one down for each wait, and the waits have grown to the longest.
    let most = 2 * 3600 / HOLD_MOST.as_secs() + 10;
    assert!(world.turns() as u64 <= most, "{} turns", world.turns());
    let waits: Vec<Duration> = world
        .moves
        .iter()
        .filter_map(|(_, m)| match m.why {
            Why::Calm(calm, _) => Some(calm),
            Why::Pressure(_) => None,
        })
        .collect();
    assert!(waits.last().is_some_and(|wait| *wait >= HOLD_MOST), "{waits:?}");
}

#[test]
fn a_fallback_that_comes_to_serve_while_everything_is_refused_relieves_the_primary() {
    let mut world = World::new(960, 900, 100, 64);
    world.facts.fallback_serves = false;
    world.frees[Rung::Fallback as usize] = 0;
    for _ in 0..20 {
        world.second(130 * MIB);
    }
    assert_eq!((world.at, world.facts.stopped), (Rung::Refusing, false));
    world.facts.fallback_serves = true;
    let made = world.second(130 * MIB).unwrap();
    assert_eq!((made.from, made.to), (Rung::Refusing, Rung::Fallback));
}

#[test]
fn a_pressure_that_no_rung_relieves_stays_at_the_last_one() {
    let mut world = World::new(960, 900, 100, 64);
    for _ in 0..600 {
        world.second(10_000 * MIB);
    }
    assert_eq!(world.at, Rung::Refusing);
    assert_eq!(world.turns(), 0);
}

prop_compose! {
    fn machine()(
        line in 400u64..16_000,
        part in 50u64..95,
        weights in 20u64..4000,
        kv in 4u64..400,
        fallback in any::<bool>(),
        same in any::<bool>(),
        projector in prop::option::of(1u64..500),
        takes in 50u64..1000,
    ) -> World {
        let mut world = World::new(line, line * part / 100, weights.min(line / 4), kv.min(line / 8));
        world.facts.fallback_serves = fallback;
        if same { world.facts.fallback = world.facts.primary.clone(); }
        world.facts.projector = projector.map(|bytes| bytes.min(line / 8) * MIB);
        let terms = world.facts.terms(Rung::Normal, None);
        world.frees = terms.map(|step| if step.exists { step.frees } else { 0 });
        world.takes = Duration::from_millis(takes);
        // Whatever is kept needs no more than there is, and fits with what a climb is to leave.
        world.base = world.base.max(world.freed(Rung::Refusing) + MIB).min(world.line - world.line / 32 - MIB);
        world
    }
}

proptest! {
    /// Whatever is needed: a rung that fits is reached, if there is one, and the last one otherwise.
    #[test]
    fn a_rung_that_fits_is_reached(mut world in machine(), load in 0u64..20_000) {
        let load = load * MIB;
        for _ in 0..3 { world.second(0); }
        for _ in 0..REACHED { world.second(load); }
        let fits = |world: &World, rung: Rung| world.need(rung, load) < world.line;
        let there = world.there();
        if there.iter().any(|rung| fits(&world, *rung)) {
            prop_assert!(fits(&world, world.at), "{:?} {:?}", world.at, world.moves);
        } else {
            prop_assert_eq!(world.at, Rung::Refusing);
        }
    }

    /// Steps of a need that stands still go no further than it takes: the rung above the one it ends at does not fit.
    #[test]
    fn it_goes_no_further_than_needed(mut world in machine(), load in 0u64..2_000) {
        let load = load * MIB;
        world.ladder = Ladder::at(Rung::Normal, world.now);
        // The first sample shows the whole load: no growth is to be thought on.
        for _ in 0..REACHED { world.second(load); }
        let there = world.there();
        let at = there.iter().position(|rung| *rung == world.at).unwrap();
        if at > 0 && world.at != Rung::Refusing {
            prop_assert!(world.need(there[at - 1], load) + world.line / 32 >= world.line, "{:?}", world.moves);
        }
    }

    /// Noise below the margin on a need that stands still never makes it turn more than once for each rung.
    #[test]
    fn noise_does_not_make_it_flap(
        mut world in machine(),
        level in 0u64..6_000,
        noise in proptest::collection::vec(0u64..1000, 64),
    ) {
        let most = world.line / 32 / 2;
        for second in 0..1800usize {
            let load = level * MIB + most * noise[second % noise.len()] / 1000;
            world.second(load);
        }
        prop_assert!(world.turns() <= 1, "{} turns: {:?}", world.turns(), world.moves);
    }

    /// Wherever rungs free less or take more than is believed, it turns at most once for each of them: what a climb
    /// took is known after the first.
    #[test]
    fn wrong_beliefs_do_not_make_it_flap(
        mut world in machine(),
        level in 0u64..6_000,
        truth in proptest::array::uniform7(0u64..200),
    ) {
        for (frees, percent) in world.frees.iter_mut().zip(truth) {
            *frees = *frees * percent / 100;
        }
        for _ in 0..1800 { world.second(level * MIB); }
        prop_assert!(world.turns() <= 2 * Rung::ALL.len(), "{} turns: {:?}", world.turns(), world.moves);
    }

    /// It never climbs under pressure, nor within the hold after it, whatever the trace; and it never skips a rung up.
    #[test]
    fn it_never_climbs_under_pressure(
        mut world in machine(),
        loads in proptest::collection::vec((0u64..4_000, 1usize..40), 1..30),
    ) {
        let mut pressed = None;
        for (load, seconds) in loads {
            for _ in 0..seconds {
                let before = world.at;
                let made = world.second(load * MIB);
                let sample = world.sample(load * MIB);
                match made {
                    Some(made) if made.to < made.from => {
                        prop_assert!(pressed.is_none_or(|at| world.now - at >= HOLD), "{:?}", world.moves);
                        let there = world.there();
                        let place = |rung: Rung| there.iter().position(|r| *r == rung);
                        if let (Some(from), Some(to)) = (place(made.from), place(made.to)) {
                            prop_assert_eq!(from, to + 1);
                        }
                    }
                    _ => {
                        if world.at == before && sample.read().pressure.is_some() { pressed = Some(world.now); }
                    }
                }
            }
        }
    }

    /// After any trace, a minute without load leads back to the first rung.
    #[test]
    fn a_minute_after_the_pressure_it_is_back(
        mut world in machine(),
        loads in proptest::collection::vec((0u64..8_000, 1usize..60), 1..20),
    ) {
        for (load, seconds) in loads {
            for _ in 0..seconds { world.second(load * MIB); }
        }
        for _ in 0..BACK { world.second(0); }
        prop_assert_eq!(world.at, Rung::Normal, "{:?}", world.moves);
        prop_assert!(world.ends.is_none());
    }
}
