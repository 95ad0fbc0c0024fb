//! Cuts, stops, pauses, full disks: what interrupts a training changes nothing of what comes out.

use super::*;

#[test]
fn a_run_that_goes_on_from_any_step_ends_as_if_it_had_not_been_cut() {
    let world = World::new();
    let mut kept = Kept::default();
    let End::Trained(whole) = world.go(world.state(), Some(&mut kept), nothing()).unwrap() else {
        panic!("it stopped")
    };
    // One before each step, and one at the end.
    assert_eq!(kept.0.len() as u64, whole.steps + 1);
    for state in kept.0 {
        let step = state.step;
        let End::Trained(again) = World::new().go(state, None, nothing()).unwrap() else {
            panic!("it stopped")
        };
        assert_eq!(timeless(again), timeless(whole.clone()), "cut at {step}");
    }
}

#[test]
fn a_run_that_is_stopped_at_any_row_goes_on_as_if_it_had_not_been() {
    let world = World::new();
    let whole = timeless(world.trained(nothing()));
    let rows = world.control.rows();
    for at in 0..rows {
        let world = World::new();
        let mut kept = Kept::default();
        let control = &world.control;
        let event = Box::new(move |row, _: &mut Loss, _: &mut [f32]| {
            if row == at {
                control.stop();
            }
        });
        let end = world.go(world.state(), Some(&mut kept), event).unwrap();
        let state = kept.0.pop().unwrap();
        // The row at hand may have been the last of all.
        if let End::Stopped { step, saved } = end {
            assert_eq!((state.step, true), (step, saved));
        }
        let End::Trained(again) = World::new().go(state, None, nothing()).unwrap() else {
            panic!("it stopped")
        };
        assert_eq!(timeless(again), whole, "stopped at row {at}");
    }
}

#[test]
fn states_that_went_through_a_file_are_the_same_bits() {
    use crate::training::checkpoint::Binding;
    let world = World::new();
    let whole = timeless(world.trained(nothing()));
    let files = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
    let binding = Binding {
        base: [0; 32],
        data: [1; 32],
        settings: [2; 32],
    };
    let mut state = Some(world.state());
    let mut lives = 0;
    loop {
        let world = World::new();
        let again = [0, 1].map(|which: usize| files[which].try_clone().unwrap());
        let (mut checkpoints, found) = Checkpoints::open(again, binding, world.state().parameters.len());
        let state = found.state.or(state.take()).unwrap();
        let control = &world.control;
        // Killed in each life a few rows later than in the one before.
        let event = Box::new(move |row, _: &mut Loss, _: &mut [f32]| {
            if row == 7 {
                control.stop();
            }
        });
        lives += 1;
        if let End::Trained(trained) = world.go(state, Some(&mut checkpoints), event).unwrap() {
            assert_eq!(timeless(trained), whole);
            break;
        }
    }
    assert!(lives > 3, "{lives}");
}

#[test]
fn a_pause_stands_still_and_changes_nothing() {
    let world = World::new();
    let whole = timeless(World::new().trained(nothing()));
    let control = &world.control;
    let trained = std::thread::scope(|scope| {
        let event = Box::new(move |row, _: &mut Loss, _: &mut [f32]| {
            if row == 11 {
                control.pause(true);
            }
        });
        scope.spawn(move || {
            while !control.paused() {
                std::thread::yield_now();
            }
            // It computes no further row; longer than this it would need none either.
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(control.rows(), 12);
            control.pause(false);
        });
        world.trained(event)
    });
    assert_eq!(timeless(trained), whole);
}

#[test]
fn a_stop_is_heard_during_a_pause() {
    let world = World::new();
    let control = &world.control;
    control.pause(true);
    let mut kept = Kept::default();
    let end = std::thread::scope(|scope| {
        scope.spawn(move || control.stop());
        world.go(world.state(), Some(&mut kept), nothing()).unwrap()
    });
    assert_eq!(end, End::Stopped { step: 0, saved: true });
    assert_eq!(kept.0.len(), 1);
}

#[test]
fn a_disk_that_is_full_is_said_and_no_reason_to_end() {
    let world = World::new();
    let end = world.go(world.state(), Some(&mut Full), nothing()).unwrap();
    assert!(matches!(end, End::Trained(trained) if trained.ended == Ended::Finished));
    let notes = world.notes();
    assert!(
        notes[0].starts_with("the checkpoint of step 0 cannot be written"),
        "{notes:?}"
    );
    let world = World::new();
    world.control.stop();
    let end = world.go(world.state(), Some(&mut Full), nothing()).unwrap();
    assert_eq!(
        end,
        End::Stopped {
            step: 0,
            saved: false
        }
    );
}

#[test]
fn checkpoints_come_at_their_time() {
    let mut world = World::new();
    world.config.checkpoint_seconds = 20;
    let mut kept = Kept::default();
    world.go(world.state(), Some(&mut kept), nothing()).unwrap();
    let rows = world.control.rows();
    // A row is a second; a step and a measurement may lie between.
    let expected = usize::try_from(rows / 20).unwrap();
    assert!(
        (expected / 2..=expected + 1).contains(&kept.0.len()),
        "{} in {rows} s",
        kept.0.len()
    );
}
