use super::super::content::{Ext, LABEL};
use super::super::table::tests::{ESP, flashed, partitioned};
use super::super::table::{Edges, Table};
use super::*;
use proptest::prelude::*;

const EIGHT_GB: u64 = 8_000_000_000 / SECTOR;

fn data(bytes: u64) -> Content {
    Content::Data(Ext {
        label: LABEL.to_owned(),
        bytes,
        errors: false,
    })
}

fn table(edges: &Edges) -> Table {
    Table::read(edges).unwrap()
}

fn refused(plan: &Plan, word: &str) {
    assert!(
        matches!(plan, Plan::Refuse(why) if why.contains(word)),
        "{plan:?}"
    );
}

#[test]
fn a_blank_disk_of_eight_gigabytes_gets_all_of_its_room() {
    let Plan::Make(entry) = decide(&table(&flashed(EIGHT_GB)), &Content::Nothing) else {
        panic!("nothing was made");
    };
    assert_eq!((entry.number, entry.first), (2, DATA_START));
    assert!(EIGHT_GB - entry.last < ALIGN + 40);
}

#[test]
fn what_holds_something_is_never_made_anew() {
    let disk = table(&flashed(EIGHT_GB));
    assert!(matches!(decide(&disk, &data(1 << 30)), Plan::Enter(e) if e.number == 2));
    refused(
        &decide(&disk, &Content::Other("an XFS file system".to_owned())),
        "XFS",
    );
    refused(&decide(&disk, &data(9 << 30)), "room");
    // With an entry nobody even looks at what is in it.
    let disk = table(&partitioned(
        EIGHT_GB,
        &[ESP, (DATA_NAME, DATA_START, DATA_START + 1_000_000)],
    ));
    for content in [
        Content::Nothing,
        Content::HalfMade,
        Content::Other("x".to_owned()),
        data(1),
    ] {
        assert!(matches!(decide(&disk, &content), Plan::Use { .. }));
    }
}

#[test]
fn partitions_of_others_are_left_alone() {
    let disk = table(&partitioned(
        EIGHT_GB,
        &[ESP, ("theirs", DATA_START, DATA_START + 4095)],
    ));
    refused(&decide(&disk, &Content::Nothing), "theirs");
    let disk = table(&partitioned(
        EIGHT_GB,
        &[ESP, ("theirs", DATA_START + 1_048_576, DATA_START + 2_000_000)],
    ));
    assert!(matches!(decide(&disk, &Content::Nothing), Plan::Make(e) if e.last == DATA_START + 1_048_575));
    let disk = table(&partitioned(
        EIGHT_GB,
        &[ESP, ("theirs", DATA_START + 4096, DATA_START + 8191)],
    ));
    refused(&decide(&disk, &Content::Nothing), "at least");
}

#[test]
fn a_disk_that_became_larger_is_used_whole_and_one_that_did_not_is_not_written() {
    let small = table(&flashed(EIGHT_GB));
    let Plan::Make(entry) = decide(&small, &Content::Nothing) else {
        panic!("nothing was made");
    };
    let made = small.with(&entry, [1; 16]).unwrap();
    assert_eq!(
        decide(&table(&made), &Content::Nothing),
        Plan::Use {
            entry: entry.clone(),
            write: false
        }
    );
    // The same bytes at the beginning of a disk of twice the size.
    let larger = Edges::new(
        2 * EIGHT_GB,
        made.ends()[0].to_vec(),
        vec![0; made.ends()[1].len()],
    );
    let Plan::Use { entry: grown, write } = decide(&table(&larger.unwrap()), &Content::Nothing) else {
        panic!("it was not used");
    };
    assert!(write && grown.first == entry.first && grown.last > entry.last + EIGHT_GB - 2 * ALIGN);
}

#[test]
fn a_disk_without_room_is_refused() {
    refused(
        &decide(&table(&flashed(DATA_START + 1000)), &Content::Nothing),
        "at least",
    );
    refused(
        &decide(&table(&flashed(DATA_START + 2048)), &data(1 << 30)),
        "room",
    );
}

/// A disk as a model: what is in the table, what is at the data's place. Every step of a boot changes one thing; the
/// power may go between any two.
#[derive(Debug, Clone)]
struct Disk {
    edges: Edges,
    content: Content,
    /// What somebody put there.
    precious: bool,
}

/// One boot, cut after `steps`; true if it got to the end with data to use.
fn boot(disk: &mut Disk, mut steps: u32) -> bool {
    let mut step = || {
        let goes_on = steps > 0;
        steps = steps.saturating_sub(1);
        goes_on
    };
    let table = table(&disk.edges);
    let plan = decide(&table, &disk.content);
    let (entry, write) = match plan {
        Plan::Refuse(_) => return false,
        Plan::Use { entry, write } => (entry, write),
        Plan::Enter(entry) => (entry, true),
        Plan::Make(entry) => {
            assert!(!disk.precious, "what somebody put there was made anew: {disk:?}");
            for content in [
                Content::Nothing,
                Content::HalfMade,
                data(entry.sectors() * SECTOR),
            ] {
                if !step() {
                    return false;
                }
                disk.content = content;
            }
            (entry, true)
        }
    };
    if write {
        let made = table.with(&entry, [5; 16]).unwrap();
        let [head, tail] = disk.edges.ends().map(<[u8]>::to_vec);
        for (head, tail) in [(head, made.ends()[1].to_vec()), (made.ends()[0].to_vec(), tail)] {
            if !step() {
                return false;
            }
            // The second of the two leaves the end as it is written already.
            let tail = if head == made.ends()[0] {
                made.ends()[1].to_vec()
            } else {
                tail
            };
            disk.edges = Edges::new(EIGHT_GB, head, tail).unwrap();
        }
    }
    if !step() {
        return false;
    }
    disk.precious = true;
    true
}

proptest! {
    #[test]
    fn however_often_the_power_goes_the_next_whole_boot_has_data_and_nothing_is_lost(
        cuts in proptest::collection::vec((0u32..9, any::<bool>()), 0..12)
    ) {
        let mut disk = Disk { edges: flashed(EIGHT_GB), content: Content::Nothing, precious: false };
        for (steps, flash) in cuts {
            boot(&mut disk, steps);
            if flash {
                // An image over the old one: the table is the image's, the data's place is as it was.
                disk.edges = Edges::new(EIGHT_GB, flashed(EIGHT_GB).ends()[0].to_vec(), disk.edges.ends()[1].to_vec()).unwrap();
            }
        }
        prop_assert!(boot(&mut disk, u32::MAX));
        prop_assert!(matches!(disk.content, Content::Data(_)));
        prop_assert!(table(&disk.edges).sound());
        prop_assert_eq!(table(&disk.edges).entries().len(), 2);
    }
}
