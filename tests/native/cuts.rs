//! Nights that are cut off at moments nobody chose, as by the power.

use std::time::{Duration, Instant};

use sarai_tests::appliance::Appliance;
use sarai_tests::tree;
use sarai_wire::adapter::{AdapterStatus, Standing};
use sarai_wire::night::{Night, NightResult};

use crate::common::{PATIENCE, pair, primary_answers};
use crate::nights::{SHORT, adapter_of, adapters, four, left, run, started_again, status, teach};

/// Cuts spread evenly over the time that a whole night takes: while it chooses, trains, measures.
const SPREAD: u32 = 4;
/// Cuts after the word of what was measured, each a moment later: while it signs, stores, swaps, remembers.
const LATE: u32 = 4;
/// That moment.
const STEP: Duration = Duration::from_millis(20);
/// What each client teaches at a time: few, because what was learnt before is learnt with it again.
const TAUGHT: usize = 6;

fn in_use(a: &Appliance) -> Option<AdapterStatus> {
    let mut all = adapters(a).unwrap().into_iter();
    all.find(|stored| stored.standing == Standing::InUse)
}

fn name(stored: Option<&AdapterStatus>) -> Option<&str> {
    stored.map(|stored| stored.name.as_str())
}

/// How often the supervisor has said what was measured.
fn measured(a: &Appliance) -> usize {
    a.log().matches("supervisor: night: held-out loss").count()
}

/// Has a night begin, and ends the supervisor at the moment of that number.
fn cut_off(a: &mut Appliance, cut: u32, whole: Duration) {
    let (begin, said) = (Instant::now(), measured(a));
    a.sarai_ok(&["training", "run"]).unwrap();
    if let Some(late) = cut.checked_sub(SPREAD) {
        while measured(a) == said && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(STEP * late);
    } else {
        std::thread::sleep((whole * (2 * cut + 1) / (2 * SPREAD)).saturating_sub(begin.elapsed()));
    }
    a.kill().unwrap();
}

/// Whether a whole night came before the cut: what it learnt from is not new any more.
fn accepted(night: &Night) -> bool {
    matches!(
        night.result,
        NightResult::Applied { .. } | NightResult::Rejected { .. }
    )
}

#[test]
fn a_night_that_is_cut_at_any_moment_leaves_everything_whole_and_a_later_one_ends() {
    let _alone = tree::alone();
    let mut a = Appliance::start_with(&pair().unwrap(), SHORT).unwrap();
    let clients = four(&a).unwrap();
    teach(&clients, 0, TAUGHT).unwrap();
    let begin = Instant::now();
    let (night, _) = run(&a).unwrap();
    let whole = begin.elapsed();
    assert!(accepted(&night), "{night:?}");
    let (mut known, mut round) = (status(&a).unwrap().nights.len(), 1);
    teach(&clients, round, TAUGHT).unwrap();

    for cut in 0..SPREAD + LATE {
        let before = in_use(&a);
        cut_off(&mut a, cut, whole);
        let up = started_again(&mut a);
        assert_eq!(up.problems, Vec::<String>::new(), "after cut {cut}");
        // The one that was cut is told of, as the one thing that came besides.
        let told = status(&a).unwrap();
        let night = &told.nights[0];
        println!("cut {cut} of a night of {whole:?}: {:?}", night.result);
        assert_eq!(told.nights.len(), known + 1, "{told:?}");
        known += 1;
        let after = in_use(&a);
        match &night.result {
            NightResult::Failed { reason, .. } => {
                assert!(reason.contains("in the middle"), "{night:?}");
                // Behind the swap there are some milliseconds in which it is in use and nothing says so yet.
                assert!(
                    after.is_some() || before.is_none(),
                    "nothing is in use after {night:?}"
                );
            }
            NightResult::Applied { adapter } => {
                assert_eq!(name(after.as_ref()), Some(adapter.as_str()));
            }
            NightResult::Rejected { .. } => assert_eq!(name(after.as_ref()), name(before.as_ref())),
            NightResult::Skipped { .. } => panic!("{night:?}"),
        }
        // Answers come from the adapter that the list says, wherever the cut was.
        let answer = primary_answers(&clients[0]).unwrap();
        assert_eq!(
            adapter_of(&answer).unwrap(),
            after.and_then(|stored| stored.version)
        );
        if accepted(night) {
            round += 1;
            teach(&clients, round, TAUGHT).unwrap();
        }
    }

    // With new examples in any case, since one cut between the swap and the word of it was accepted too.
    teach(&clients, round + 1, TAUGHT).unwrap();
    let (night, _) = run(&a).unwrap();
    assert!(accepted(&night), "{night:?}");
    assert_eq!(left(&a), Vec::<String>::new());
    let all = adapters(&a).unwrap();
    assert!(
        all.iter()
            .all(|stored| stored.standing == Standing::Rejected || stored.signer.is_some()),
        "{all:?}"
    );
    a.stop(Duration::from_secs(30)).unwrap();
}
