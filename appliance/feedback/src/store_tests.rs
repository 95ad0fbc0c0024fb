use std::ops::ControlFlow;

use super::*;
use crate::journal::text_of;
use crate::record::{MAX_LINE, Message, Role};
use crate::{FEEDBACK, RECENT, Reader};

/// An answer, complete at the epoch.
pub fn completion(id: &str, key: &str, question: &str, answer: &str) -> Completion {
    Completion {
        id: id.into(),
        key: key.into(),
        time: Timestamp::UNIX_EPOCH,
        model: "m".into(),
        digest: "0123456789abcdef".repeat(4),
        adapter: None,
        confidence: 0.5,
        messages: vec![Message {
            role: Role::User,
            content: question.into(),
        }],
        answer: answer.into(),
    }
}

fn settings(folder: &Path) -> Settings {
    Settings {
        folder: folder.to_owned(),
        keep_days: 90,
        max_bytes: 16 << 20,
        reserve: 0,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn open(folder: &Path) -> Store {
    Store::open(&settings(folder), at(0)).unwrap().0
}

fn judgment(score: f64) -> Judgment {
    Judgment::new(score, None, None).unwrap()
}

fn read(folder: &Path) -> Vec<Feedback> {
    let mut all = Vec::new();
    let reader = Reader::open(folder).unwrap();
    reader
        .each(&mut |feedback| {
            all.push(feedback);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(reader.counts().records, all.len() as u64);
    all
}

/// `count` answers of the keys `a` and `b` in turn, each judged.
fn filled(folder: &Path, count: usize) -> Store {
    let mut store = open(folder);
    for n in 0..count {
        let key = ["a", "b"][n % 2];
        let id = format!("c{n}");
        store
            .remember(completion(
                &id,
                key,
                &format!("question {n}"),
                &format!("answer {n}"),
            ))
            .unwrap();
        store
            .judge(key, &id, judgment(0.9), &format!("fb-{n}"), at(1))
            .unwrap();
    }
    store
}

#[test]
fn a_judgment_is_kept_with_its_answer_also_after_a_restart_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.remember(completion("c1", "a", "Why?", "So.")).unwrap();
    drop(store);
    let mut store = open(dir.path());
    let given = store.judge("a", "c1", judgment(0.25), "fb-1", at(5)).unwrap();
    let all_of = completion("c1", "a", "Why?", "So.");
    assert_eq!(
        given,
        Given {
            id: "fb-1".into(),
            time: at(5),
            repeated: false,
            replaced: None,
            of: Some(Of {
                digest: all_of.digest,
                adapter: all_of.adapter
            })
        }
    );
    let all = read(dir.path());
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].completion, completion("c1", "a", "Why?", "So."));
    assert_eq!(all[0].judgment, judgment(0.25));
}

#[test]
fn the_same_once_more_is_the_same_and_another_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.remember(completion("c1", "a", "Why?", "So.")).unwrap();
    let first = store.judge("a", "c1", judgment(0.1), "fb-1", at(1)).unwrap();
    for _ in 0..2 {
        let again = store.judge("a", "c1", judgment(0.1), "fb-2", at(2)).unwrap();
        assert_eq!(
            (&again.id, again.time, again.repeated),
            (&first.id, first.time, true)
        );
        // Also for a store that was opened anew.
        store = open(dir.path());
    }
    let other = store.judge("a", "c1", judgment(0.9), "fb-3", at(3)).unwrap();
    assert_eq!(
        (other.replaced, other.repeated),
        (Some(judgment(0.1).verdict()), false)
    );
    let all = read(dir.path());
    assert_eq!((all.len(), all[0].id.as_str()), (1, "fb-3"));
    assert_eq!(Reader::open(dir.path()).unwrap().counts().replaced, 1);
    // Whoever has no more time for it is not given half of it.
    let asked = std::cell::Cell::new(0);
    let soon = Reader::open_while(dir.path(), &|| asked.replace(asked.get() + 1) < 1);
    assert_eq!(soon.unwrap_err().kind(), std::io::ErrorKind::Interrupted);
    // Back to what it was first is a change too.
    let back = store.judge("a", "c1", judgment(0.1), "fb-4", at(4)).unwrap();
    assert_eq!(
        (back.id.as_str(), back.replaced),
        ("fb-4", Some(judgment(0.9).verdict()))
    );
    // What it replaces is known to a store that was opened anew, too.
    store = open(dir.path());
    let corrected = Judgment::new(0.1, Some("So it is.".into()), None).unwrap();
    let once_more = store.judge("a", "c1", corrected.clone(), "fb-5", at(4)).unwrap();
    assert_eq!(once_more.replaced, Some(judgment(0.1).verdict()));
    assert!(corrected.verdict().corrected && !judgment(0.1).verdict().corrected);
    // Not for ever: each is a line.
    for n in 4..MOST_JUDGMENTS {
        let score = f64::from(n) / 100.0;
        store.judge("a", "c1", judgment(score), "fb-x", at(5)).unwrap();
    }
    store = open(dir.path());
    let error = store.judge("a", "c1", judgment(0.77), "fb-y", at(6)).unwrap_err();
    assert!(matches!(error, JudgeError::TooOften), "{error}");
}

#[test]
fn only_who_was_given_an_answer_may_judge_it_and_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.remember(completion("c1", "a", "Why?", "So.")).unwrap();
    let mut unknown = |key, id, when| {
        matches!(
            store.judge(key, id, judgment(1.0), "fb-1", when),
            Err(JudgeError::Unknown)
        )
    };
    assert!(unknown("b", "c1", at(1)) && unknown("a", "c2", at(1)));
    assert!(unknown("a", "c1", at(48 * 3600 + 1)));
    assert!(!unknown("a", "c1", at(48 * 3600)));
    assert!(read(dir.path()).len() == 1);
}

#[test]
fn what_is_too_long_for_a_record_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let long = "x".repeat(MAX_LINE - 300);
    assert!(
        store
            .remember(completion("c1", "a", "Why?", &"\u{1}".repeat(MAX_LINE / 2)))
            .is_err()
    );
    store.remember(completion("c2", "a", "", &long[400..])).unwrap();
    let judgment = Judgment::new(1.0, Some("y".repeat(1000)), None).unwrap();
    let error = store.judge("a", "c2", judgment, "fb-1", at(1)).unwrap_err();
    assert!(matches!(error, JudgeError::Invalid(_)), "{error}");
    assert!(read(dir.path()).is_empty());
    let text = text_of(dir.path(), RECENT);
    assert!(!text.contains("\\u0001") && text.contains("c2"));
}

#[test]
fn what_is_forgotten_is_in_no_file_and_the_rest_stays() {
    for (what, stays) in [
        (What::Completion("c3".into()), 9),
        (What::Key("b".into()), 5),
        (What::Everything, 0),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = filled(dir.path(), 10);
        let lines = store.forget(&what, at(9)).unwrap();
        assert_eq!(lines, 10 - stays);
        let files = [text_of(dir.path(), FEEDBACK), text_of(dir.path(), RECENT)];
        for text in files {
            assert!(
                !text.contains("question 3") && !text.contains("answer 3"),
                "{text}"
            );
            assert_eq!(text.contains("question 4"), stays > 0);
        }
        assert_eq!(read(dir.path()).len() as u64, stays);
        let unknown = |store: &mut Store, key: &str, id: &str| {
            matches!(
                store.judge(key, id, judgment(0.3), "fb-x", at(10)),
                Err(JudgeError::Unknown)
            )
        };
        assert!(unknown(&mut store, "b", "c3"));
        assert_eq!(unknown(&mut store, "a", "c4"), stays == 0);
        // What comes after it is kept, of the same key too.
        store.remember(completion("c20", "b", "later", "more")).unwrap();
        store.judge("b", "c20", judgment(1.0), "fb-20", at(11)).unwrap();
        let mut store = open(dir.path());
        assert!(unknown(&mut store, "b", "c3"));
        assert!(read(dir.path()).iter().any(|feedback| feedback.id == "fb-20"));
    }
}

#[test]
fn what_was_to_be_forgotten_when_the_power_went_does_not_count_and_goes_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path(), 6);
    // The tombstone alone, as if the power had gone after it.
    drop(store.log.forget(&What::Key("a".into()), at(9)).unwrap());
    drop(store);
    assert!(text_of(dir.path(), FEEDBACK).contains("question 2"));
    assert!(
        read(dir.path())
            .iter()
            .all(|feedback| feedback.completion.key == "b")
    );
    assert_eq!(Reader::open(dir.path()).unwrap().counts().forgotten, 3);
    let mut store = open(dir.path());
    for text in [text_of(dir.path(), FEEDBACK), text_of(dir.path(), RECENT)] {
        assert!(
            !text.contains("question 2") && text.contains("question 1"),
            "{text}"
        );
    }
    assert!(matches!(
        store.judge("a", "c2", judgment(0.1), "x", at(10)),
        Err(JudgeError::Unknown)
    ));
    // And not again at the one after that.
    store.remember(completion("c9", "a", "new", "new")).unwrap();
    store.judge("a", "c9", judgment(0.1), "fb-9", at(11)).unwrap();
    drop(store);
    drop(open(dir.path()));
    assert_eq!(read(dir.path()).len(), 4);
}

#[test]
fn places_hold_after_others_were_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path(), 10);
    store.forget(&What::Completion("c0".into()), at(9)).unwrap();
    store.judge("b", "c9", judgment(0.2), "fb-again", at(10)).unwrap();
    let all = read(dir.path());
    let again = all.iter().find(|feedback| feedback.id == "fb-again").unwrap();
    assert_eq!(again.completion.answer, "answer 9");
}

#[test]
fn a_full_disk_refuses_and_what_was_kept_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), 4);
    drop(store);
    let full = Settings {
        reserve: u64::MAX / 4,
        ..settings(dir.path())
    };
    let (mut store, _) = Store::open(&full, at(2)).unwrap();
    assert!(store.remember(completion("c9", "a", "q", "a")).is_err());
    let error = store.judge("a", "c0", judgment(0.1), "fb-9", at(3)).unwrap_err();
    assert!(
        matches!(error, JudgeError::Journal(JournalError::Full(_))),
        "{error}"
    );
    // What needs no room is answered.
    assert!(
        store
            .judge("a", "c0", judgment(0.9), "fb-9", at(3))
            .unwrap()
            .repeated
    );
    assert_eq!(read(dir.path()).len(), 4);
}

#[test]
fn the_whole_has_a_bound_and_the_log_says_what_went() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let answer = "x".repeat(900_000);
    for n in 0..60 {
        let id = format!("c{n}");
        store.remember(completion(&id, "a", "q", &answer)).unwrap();
        store
            .judge("a", &id, judgment(1.0), &format!("fb-{n}"), at(n))
            .unwrap();
    }
    let size: u64 = FEEDBACK
        .list(dir.path())
        .unwrap()
        .into_iter()
        .map(|number| {
            std::fs::metadata(dir.path().join(FEEDBACK.name(number)))
                .unwrap()
                .len()
        })
        .sum();
    assert!(size <= 16 << 20, "{size}");
    let all = read(dir.path());
    assert!(
        all.len() > 12 && all.last().unwrap().id == "fb-59",
        "{}",
        all.len()
    );
    assert!(text_of(dir.path(), FEEDBACK).contains("{\"pruned\":{"));
    let recent: u64 = RECENT
        .list(dir.path())
        .unwrap()
        .into_iter()
        .map(|number| {
            std::fs::metadata(dir.path().join(RECENT.name(number)))
                .unwrap()
                .len()
        })
        .sum();
    assert!(recent <= crate::recent::BYTES, "{recent}");
}

#[test]
fn what_is_too_old_goes_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path(), 4);
    let day = 24 * 3600;
    store.tidy(at(3 * day)).unwrap();
    store.tidy(at(3 * day)).unwrap();
    assert!(!text_of(dir.path(), RECENT).contains("question"));
    assert_eq!((store.answers(), read(dir.path()).len()), (0, 4));
    store.tidy(at(94 * day)).unwrap();
    assert!(read(dir.path()).is_empty());
    assert!(!text_of(dir.path(), FEEDBACK).contains("question"));
}
