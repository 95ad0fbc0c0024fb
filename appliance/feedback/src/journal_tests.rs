use proptest::prelude::*;

use super::*;

const SERIES: Series = Series("test");

fn bounds() -> Bounds {
    Bounds {
        bytes: 1 << 20,
        file: 1 << 16,
        lines: 100,
        span: SignedDuration::from_hours(24),
        files: 8,
        keep: SignedDuration::from_hours(240),
        reserve: 0,
    }
}

fn at(hours: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
}

/// Opens it; every line that is a number is sound, and the number its hour.
fn open_with(folder: &Path, bounds: Bounds) -> (Journal, Found, Vec<(u64, Place, String)>) {
    let mut seen = Vec::new();
    let mut visit = |number, place, line: &[u8]| {
        let text = std::str::from_utf8(line).ok()?;
        seen.push((number, place, text.to_owned()));
        Some(at(text.split(' ').next()?.parse().ok()?))
    };
    let (journal, found) = Journal::open(folder, SERIES, bounds, &mut visit).unwrap();
    (journal, found, seen)
}

fn open(folder: &Path) -> (Journal, Found, Vec<(u64, Place, String)>) {
    open_with(folder, bounds())
}

fn texts(folder: &Path) -> Vec<String> {
    open(folder).2.into_iter().map(|(_, _, text)| text).collect()
}

fn fill(journal: &mut Journal, hours: std::ops::Range<i64>) -> Vec<Place> {
    hours
        .map(|n| {
            let line = format!("{n} line");
            journal.append(line.as_bytes(), at(n), true).unwrap()
        })
        .collect()
}

#[test]
fn what_was_appended_is_there_and_read_by_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path());
    let places = fill(&mut journal, 0..60);
    assert!(places.last().unwrap().file > 2, "a file holds a day");
    assert_eq!(journal.read(places[37]).unwrap(), b"37 line");
    let (_, found, seen) = open(dir.path());
    assert_eq!((found.damaged, found.torn, found.lines), (0, None, 60));
    for (n, (number, place, text)) in seen.iter().enumerate() {
        assert_eq!((*number, *place), (n as u64, places[n]));
        assert_eq!(*text, format!("{n} line"));
    }
}

#[test]
fn a_torn_end_is_cut_and_counted_and_damage_elsewhere_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path());
    fill(&mut journal, 0..5);
    let path = dir.path().join(SERIES.name(1));
    let whole = std::fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[8..12].copy_from_slice(b"\xff\0zz");
    bytes.extend(b"5 li");
    std::fs::write(&path, &bytes).unwrap();
    let (mut journal, found, seen) = open(dir.path());
    assert_eq!(found.torn, Some((1, 4)));
    assert_eq!((found.damaged, seen.len()), (1, 4));
    journal.append(b"6 line", at(6), true).unwrap();
    assert_eq!(texts(dir.path()).last().unwrap(), "6 line");
    // Blocks that were never written, and an end without a newline after them.
    bytes = whole;
    bytes.extend(b"\0\0\0\n\0\0\n7 l\0");
    std::fs::write(&path, &bytes).unwrap();
    let (_, found, seen) = open(dir.path());
    assert_eq!((found.torn, found.damaged, seen.len()), (Some((1, 11)), 0, 5));
}

#[test]
fn a_line_that_is_too_long_and_ends_is_damage_also_as_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path());
    fill(&mut journal, 0..3);
    let path = dir.path().join(SERIES.name(1));
    let whole = std::fs::read(&path).unwrap();
    let long = vec![b'x'; MAX_LINE + 5];
    let with = |end: &[u8]| [&whole[..], &long, end].concat();
    std::fs::write(&path, with(b"\n")).unwrap();
    let (mut journal, found, seen) = open(dir.path());
    assert_eq!(
        (found.torn, found.damaged, found.lines, seen.len()),
        (None, 1, 4, 3)
    );
    assert_eq!(std::fs::metadata(&path).unwrap().len(), with(b"\n").len() as u64);
    // Whoever numbers lines and whoever reads them agree.
    let place = journal.append(b"4 line", at(4), true).unwrap();
    let (_, found, seen) = open(dir.path());
    assert_eq!((found.damaged, found.lines), (1, 5));
    assert_eq!(seen.last(), Some(&(4, place, "4 line".to_owned())));
    // Without an end it is torn, and so it is with zeros in it.
    for end in [&b""[..], b"\0\n"] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(SERIES.name(1)), with(end)).unwrap();
        let (_, found, seen) = open(dir.path());
        let torn = (long.len() + end.len()) as u64;
        assert_eq!((found.torn, found.damaged, seen.len()), (Some((1, torn)), 0, 3));
    }
}

#[test]
fn on_a_full_disk_nothing_is_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path());
    fill(&mut journal, 0..2);
    journal.full = true;
    let error = journal.append(b"2 line", at(2), true).unwrap_err();
    assert!(matches!(error, JournalError::Full(_)), "{error}");
    journal.full = false;
    fill(&mut journal, 3..4);
    assert_eq!(texts(dir.path()), ["0 line", "1 line", "3 line"]);
    // What is to be left free is left free.
    let greedy = Bounds {
        reserve: u64::MAX / 2,
        ..bounds()
    };
    let (mut journal, ..) = open_with(dir.path(), greedy);
    let error = journal.append(b"4 line", at(4), true).unwrap_err();
    assert!(matches!(error, JournalError::Full(_)), "{error}");
}

#[test]
fn the_oldest_files_go_by_bytes_by_number_and_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path());
    fill(&mut journal, 0..100);
    let mut gone = Vec::new();
    while let Some(surplus) = journal.surplus(0, at(300)) {
        journal.remove(surplus.file).unwrap();
        gone.push(surplus.file);
    }
    // A file holds 25 hours: the first two ended more than 240 hours ago, and the newest stays whatever its age.
    assert_eq!(gone, [1, 2]);
    journal.remove(3).unwrap();
    assert_eq!(journal.surplus(0, at(10_000)), None);
    journal.retire(at(10_000)).unwrap();
    assert_eq!(journal.surplus(0, at(10_000)).unwrap().file, 4);
    let (mut journal, ..) = open(dir.path());
    fill(&mut journal, 100..400);
    assert_eq!(
        journal.surplus(0, at(130)).map(|s| s.file),
        Some(4),
        "nine files are too many"
    );
    let few = Bounds {
        bytes: 100,
        ..bounds()
    };
    drop(journal);
    let (journal, ..) = open_with(dir.path(), few);
    assert!(journal.surplus(10, at(100)).is_some());
}

#[test]
fn what_is_not_spared_is_no_longer_in_any_file_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path());
    fill(&mut journal, 0..60);
    // An end that is not whole, in a file that is not the newest.
    let path = dir.path().join(SERIES.name(1));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend(b"secret");
    std::fs::write(&path, bytes).unwrap();
    let (mut journal, ..) = open(dir.path());
    let mut numbers = Vec::new();
    let removed = journal
        .rewrite(&mut |number, line| {
            numbers.push(number);
            line.is_some_and(|line| number >= 25 && !line.starts_with(b"33") && !line.starts_with(b"59"))
        })
        .unwrap();
    assert_eq!(numbers, (0..60).collect::<Vec<u64>>());
    assert_eq!(removed, 25 + 2 + 1);
    assert!(!path.exists(), "an empty file goes");
    journal.append(b"60 line", at(59), true).unwrap();
    let text = text_of(dir.path(), SERIES);
    assert!(!text.contains("secret") && !text.contains("33 line") && !text.contains("59 line"));
    assert_eq!(texts(dir.path()).len(), 60 - 27 + 1);
    assert_eq!(journal.lines(), 34);
}

#[test]
fn what_a_rewrite_left_when_it_was_cut_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path());
    fill(&mut journal, 0..3);
    let left = rewrite::aside(&dir.path().join(SERIES.name(1)));
    std::fs::write(&left, "0 li").unwrap();
    let other = dir.path().join("else.new");
    std::fs::write(&other, "").unwrap();
    assert_eq!(texts(dir.path()).len(), 3);
    assert!(!left.exists() && other.exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever bytes are overwritten or cut off, opening succeeds, what was not touched is there in order, and what is
    /// appended after that is read back.
    #[test]
    fn no_damage_is_fatal(
        count in 1_i64..40,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, ..) = open(dir.path());
        let places = fill(&mut journal, 0..count);
        let last = places.last().unwrap().file;
        let path = dir.path().join(SERIES.name(last));
        let mut bytes = std::fs::read(&path).unwrap();
        let keep = cut.index(bytes.len() + 1);
        bytes.truncate(keep);
        let mut touched = vec![keep];
        for (at, byte) in damage {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                touched.push(at);
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        let (mut journal, _, seen) = open(dir.path());
        for (n, place) in places.iter().enumerate() {
            let (from, to) = (place.span.offset, place.span.offset + place.span.length);
            // The end of the line before is part of what makes a line.
            let hit = touched.iter().any(|at| (from..to).contains(&(*at as u64 + 1)) || (from..to).contains(&(*at as u64)));
            let whole = place.file != last || (!hit && to <= keep as u64);
            if whole {
                prop_assert!(seen.iter().any(|(_, _, text)| *text == format!("{n} line")), "line {} of {:?}", n, seen);
            }
        }
        journal.append(b"99 line", at(99), true).unwrap();
        let texts = texts(dir.path());
        prop_assert_eq!(texts.last().map(String::as_str), Some("99 line"));
    }
}
