use std::path::Path;
use std::sync::mpsc;

use super::*;
use crate::record::{Hash, Loop, Record};
use crate::verify::{Proof, Signed, Source, verify};

fn entry(id: &str) -> Event {
    Event::Loop(Box::new(Loop {
        id: id.into(),
        ..Loop::default()
    }))
}

fn start(folder: &Path, limits: Limits) -> (Writer, mpsc::Receiver<Report>) {
    let (to, reports) = mpsc::channel();
    let report = move |report| drop(to.send(report));
    (
        Writer::start(folder.to_owned(), limits, "test", report).unwrap(),
        reports,
    )
}

fn end(writer: &Writer) {
    writer.end();
    let until = Instant::now() + Duration::from_secs(20);
    while !writer.ended() {
        assert!(Instant::now() < until, "the thread does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn proven(folder: &Path, signed: &[Report], kept: usize) -> Proof {
    let open = |number| Source {
        number,
        reader: Box::new(std::fs::File::open(folder.join(crate::folder::name(number))).unwrap()),
    };
    let sources = crate::folder::list(folder)
        .unwrap()
        .into_iter()
        .map(open)
        .collect();
    let signed: Vec<Signed> = signed
        .iter()
        .filter_map(|report| {
            Some(Signed {
                head: report.head?,
                time: "then".into(),
            })
        })
        .collect();
    verify(sources, &signed, kept).unwrap()
}

#[test]
fn what_is_handed_over_is_on_disk_at_the_end_and_its_head_reported() {
    let dir = tempfile::tempdir().unwrap();
    for run in 1..=2 {
        let (writer, reports) = start(dir.path(), Limits::default());
        for n in 0..100 {
            writer.submit(10, move || entry(&n.to_string()));
        }
        end(&writer);
        assert_eq!((writer.stats().records(), writer.stats().lost()), (102, 0));
        let reports: Vec<Report> = reports.try_iter().collect();
        assert_eq!(reports.last().unwrap().head.unwrap().line, run * 102);
        let proof = proven(dir.path(), &reports, 64);
        assert_eq!((proof.loops, proof.unclean, proof.unsigned), (run * 100, 0, 0));
    }
}

#[test]
fn full_files_are_rotated_and_pruned_and_the_chain_holds() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { file: 2000, files: 4 };
    let (writer, reports) = start(dir.path(), limits);
    for n in 0..200 {
        writer.submit(10, move || entry(&n.to_string()));
    }
    end(&writer);
    let reports: Vec<Report> = reports.try_iter().collect();
    let proof = proven(dir.path(), &reports, 4);
    assert!(proof.pruned.unwrap() > 5 && proof.files == 4, "{proof:?}");
    assert_eq!(proof.unsigned, 0);
    // Every file's last word was reported: its line is the file's last.
    let oldest = proof.pruned.unwrap() + 1;
    let text = std::fs::read_to_string(dir.path().join(crate::folder::name(oldest))).unwrap();
    let last = Hash::of(text.lines().last().unwrap().as_bytes());
    let reported = reports
        .iter()
        .filter_map(|r| r.head)
        .any(|h| (h.file, h.sha256) == (oldest, last));
    assert!(reported);
    assert!(
        std::fs::metadata(dir.path().join(crate::folder::name(oldest)))
            .unwrap()
            .len()
            < 4000
    );
}

#[test]
fn a_torn_end_is_cut_and_said_and_a_run_that_did_not_end_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, _) = start(dir.path(), Limits::default());
    writer.submit(1, || entry("a"));
    end(&writer);
    let path = dir.path().join(crate::folder::name(1));
    let text = std::fs::read_to_string(&path).unwrap();
    // Without the record of the orderly end, with half of another and a block that was never written.
    let keep = text.trim_end().rfind('\n').unwrap() + 1;
    let mut bytes = text.as_bytes()[..keep].to_vec();
    bytes.extend_from_slice(b"{\"prev\":\"half\0\0\n\0\0");
    std::fs::write(&path, &bytes).unwrap();
    let (writer, _) = start(dir.path(), Limits::default());
    end(&writer);
    let proof = proven(dir.path(), &[], 64);
    assert_eq!((proof.repaired, proof.unclean, proof.torn), (1, 1, false));
}

#[test]
fn what_comes_before_something_sound_is_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, _) = start(dir.path(), Limits::default());
    for n in 0..3 {
        writer.submit(1, move || entry(&n.to_string()));
    }
    end(&writer);
    let path = dir.path().join(crate::folder::name(1));
    let mut bytes = std::fs::read(&path).unwrap();
    let before = bytes.len();
    bytes[20] = 0;
    std::fs::write(&path, &bytes).unwrap();
    let (writer, _) = start(dir.path(), Limits::default());
    end(&writer);
    assert!(std::fs::metadata(&path).unwrap().len() > before as u64);
}

#[test]
fn on_a_full_disk_records_are_lost_counted_and_said_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (mut keeper, reports) = keeper(dir.path());
    keeper.write(Vec::new());
    let full = Arc::clone(&keeper.log.as_ref().unwrap().full);
    full.store(true, Ordering::SeqCst);
    keeper.write(vec![item("a"), item("b")]);
    let report = reports.try_iter().last().unwrap();
    assert!(
        report.trouble.unwrap().starts_with("write "),
        "it is told at once"
    );
    assert_eq!((report.lost, keeper.stats.records()), (2, 1));
    // It is not tried again at once.
    keeper.write(vec![item("c")]);
    assert_eq!(keeper.stats.lost(), 3);
    // Room again: the log was opened anew, and nothing half-written is left.
    keeper.tried = None;
    keeper.write(Vec::new());
    let report = reports.try_iter().last().unwrap();
    assert_eq!((report.trouble, report.head.unwrap().line), (None, 2));
    keeper.write(vec![item("d")]);
    let text = std::fs::read_to_string(dir.path().join(crate::folder::name(1))).unwrap();
    let records: Vec<Record> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((records[1].lost, &records[1].event), (3, &Event::Lost));
    assert_eq!((records[2].lost, records.len()), (0, 3));
    let proof = proven(dir.path(), &[], 64);
    assert_eq!((proof.lost, proof.loops, proof.repaired), (3, 1, 0));
}

#[test]
fn a_folder_that_is_not_there_is_trouble_and_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("audit");
    let (mut keeper, reports) = keeper(&folder);
    keeper.write(vec![item("a")]);
    let trouble = reports.try_iter().last().unwrap().trouble.unwrap();
    assert!(trouble.starts_with("list "), "{trouble}");
    std::fs::create_dir(&folder).unwrap();
    keeper.tried = None;
    keeper.write(vec![item("b")]);
    assert_eq!(reports.try_iter().last().unwrap().trouble, None);
    let proof = proven(&folder, &[], 64);
    assert_eq!((proof.lost, proof.loops), (1, 1));
}

#[test]
fn what_does_not_fit_the_queue_is_lost_and_counted_and_never_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, _) = start(dir.path(), Limits::default());
    let (go, wait) = mpsc::channel::<()>();
    // Holds the thread until told.
    writer.submit(1, move || {
        let _ = wait.recv();
        entry("slow")
    });
    std::thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    for _ in 0..2 * QUEUE {
        writer.submit(1, || entry("x"));
    }
    writer.submit(QUEUE_BYTES + 1, || entry("huge"));
    assert!(begun.elapsed() < Duration::from_secs(1));
    let lost = writer.stats().lost();
    assert!(lost > QUEUE as u64 - BATCH as u64, "{lost}");
    go.send(()).unwrap();
    end(&writer);
    assert_eq!(proven(dir.path(), &[], 64).lost, lost);
    assert_eq!(writer.stats().waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn a_record_too_long_for_a_line_takes_no_other_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, _) = start(dir.path(), Limits::default());
    writer.submit(1, || entry("a"));
    writer.submit(1, || entry(&"x".repeat(crate::MAX_LINE)));
    writer.submit(1, || entry("b"));
    end(&writer);
    let proof = proven(dir.path(), &[], 64);
    assert_eq!((proof.loops, proof.lost), (2, 1));
}

fn item(id: &str) -> Item {
    let id = id.to_owned();
    Item {
        time: Timestamp::now(),
        size: 0,
        event: Box::new(move || entry(&id)),
    }
}

fn keeper(folder: &Path) -> (Keeper, mpsc::Receiver<Report>) {
    let (to, reports) = mpsc::channel();
    let report = Box::new(move |report| drop(to.send(report)));
    let keeper = Keeper::new(
        folder.to_owned(),
        Limits::default(),
        Arc::default(),
        "test",
        report,
    );
    (keeper, reports)
}
