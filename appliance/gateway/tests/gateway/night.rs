//! What a night of learning is given: a data set that the trainer takes and the gate's examples, or why there is none.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use sarai_feedback::record::{Completion, Entry, Judgment};
use sarai_feedback::select::is_held_out;
use sarai_feedback::{FEEDBACK, Feedback, Message, Role};
use sarai_trainer::training::data;
use sarai_trainer::training::packing::Pieces;
use sarai_wire::birth::{FromGateway, ToGateway};
use sarai_wire::feedback::{FeedbackSettings, FeedbackStart, Forget};
use sarai_wire::night::{ChoiceSettings, DataSetAnswer, DataSetOrder, DataSetOutcome, Examples};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::engine::{VOCABULARY, answers};
use crate::world::{World, world_of};

/// Of the model that the test's engine runs.
fn base() -> String {
    "0123456789abcdef".repeat(4)
}

/// `count` questions that are held out, or that are not.
fn questions(held_out: bool, count: usize) -> Vec<String> {
    (0..)
        .map(|n| format!("What is number {n}?"))
        .filter(|question| is_held_out(question) == held_out)
        .take(count)
        .collect()
}

fn hours_ago(hours: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(hours)
}

fn record(n: usize, key: &str, question: &str, answer: &str) -> Feedback {
    Feedback {
        id: format!("fb-{n}"),
        time: hours_ago(48) + SignedDuration::from_secs(i64::try_from(n).unwrap()),
        judgment: Judgment::new(1.0, None, None).unwrap(),
        completion: Completion {
            id: format!("chatcmpl-{n}"),
            key: key.into(),
            time: hours_ago(48),
            model: "big-model".into(),
            digest: base(),
            adapter: None,
            confidence: 0.5,
            messages: vec![Message {
                role: Role::User,
                content: question.into(),
            }],
            answer: answer.into(),
        },
    }
}

/// Nine to be learnt and three to be held out.
fn twelve() -> Vec<Feedback> {
    let mut all = questions(false, 9);
    all.extend(questions(true, 3));
    let record = |(n, question): (usize, &String)| record(n, "first", question, &format!("Answer {n}."));
    all.iter().enumerate().map(record).collect()
}

/// Writes the log as the gateway would have.
fn write(folder: &Path, records: &[Feedback], more: &[u8]) {
    let mut bytes = Vec::new();
    for record in records {
        bytes.extend(Entry::Feedback(Box::new(record.clone())).line().unwrap());
        bytes.push(b'\n');
    }
    bytes.extend(more);
    std::fs::write(folder.join(FEEDBACK.name(1)), bytes).unwrap();
}

fn world(folder: &Path) -> World {
    let feedback = FeedbackStart {
        folder: folder.to_owned(),
        settings: FeedbackSettings::default(),
        reserve: 0,
    };
    world_of(answers(&[("Paris it is.", 0.95)]), None, &[], |start| {
        start.feedback = Some(feedback);
    })
}

/// A gateway that keeps these records, with its folder.
fn keeping(records: &[Feedback], more: &[u8]) -> (TempDir, World) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), records, more);
    let world = world(folder.path());
    (folder, world)
}

/// One that was ordered a data set, and whose engine does not go on after the first tokens.
fn in_the_middle() -> (TempDir, World, Files) {
    let (folder, world) = keeping(&twelve(), b"");
    world.primary.hold_encoding(true);
    let files = Files::new();
    send(&world, 1, order(), &files);
    world.primary.wait_for_encoded(1);
    (folder, world, files)
}

fn order() -> DataSetOrder {
    DataSetOrder {
        since: None,
        base: base(),
        length: 4096,
        choice: ChoiceSettings::default(),
    }
}

/// The files of a night.
struct Files {
    data: File,
    gate: File,
}

impl Files {
    fn new() -> Self {
        let [data, gate] = [(); 2].map(|()| tempfile::tempfile().unwrap());
        Self { data, gate }
    }

    fn lines(mut file: &File) -> Vec<Value> {
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn send(world: &World, seq: u64, order: DataSetOrder, files: &Files) {
    let files = [files.data.as_raw_fd(), files.gate.as_raw_fd()];
    world.gateway.say_with(&ToGateway::DataSet { seq, order }, &files);
}

fn outcome(world: &World, seq: u64) -> DataSetOutcome {
    match world.gateway.hear() {
        FromGateway::DataSet(DataSetAnswer { seq: theirs, outcome }) if theirs == seq => outcome,
        other => panic!("{other:?}"),
    }
}

fn make(world: &World, order: DataSetOrder) -> (DataSetOutcome, Files) {
    let files = Files::new();
    send(world, 7, order, &files);
    (outcome(world, 7), files)
}

/// Examples to be learnt, held out, to be learnt again, too long; and how it came to them.
fn made(outcome: DataSetOutcome) -> ([u64; 4], String) {
    match outcome {
        DataSetOutcome::Made {
            examples:
                Examples {
                    train,
                    held_out,
                    replay,
                    long,
                    ..
                },
            tally,
            at: _,
        } => ([train, held_out, replay, long], tally),
        other => panic!("{other:?}"),
    }
}

fn skipped(outcome: DataSetOutcome) -> String {
    match outcome {
        DataSetOutcome::Skipped { reason } => reason,
        other => panic!("{other:?}"),
    }
}

fn failed(outcome: DataSetOutcome) -> String {
    match outcome {
        DataSetOutcome::Failed { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn twelve_judgments_become_a_data_set_that_the_trainer_takes_and_the_gates_examples() {
    let mut records = twelve();
    records[1].judgment =
        Judgment::new(0.0, Some("Corrected; password: hunter2hunter2".into()), None).unwrap();
    let mut low = record(12, "first", "What is it worth?", "Nothing.");
    low.judgment.score = 0.5;
    records.push(low);
    let (_folder, world) = keeping(&records, b"");
    let before = Timestamp::now();
    let (outcome, files) = make(&world, order());
    let DataSetOutcome::Made { at, .. } = &outcome else {
        panic!("{outcome:?}")
    };
    let at: Timestamp = at.parse().unwrap();
    assert!(before <= at && at <= Timestamp::now());
    let (counts, tally) = made(outcome);
    assert_eq!(counts, [9, 3, 0, 0]);
    assert!(tally.starts_with("seen=13 damaged=0 low=1 "), "{tally}");
    let vocabulary = VOCABULARY as usize;
    let read = data::read(&files.data, &base(), vocabulary).unwrap();
    assert_eq!((read.train.len(), read.held_out.len()), (9, 3));
    // Tokens of the test's engine are bytes.
    let text = |tokens: &[u32]| {
        let bytes: Vec<u8> = tokens.iter().map(|token| u8::try_from(*token).unwrap()).collect();
        String::from_utf8(bytes).unwrap()
    };
    for (n, example) in read.train.iter().chain(&read.held_out).enumerate() {
        let completion = &records[n].completion;
        let (end, said) = example.tokens.split_last().unwrap();
        assert_eq!(*end, VOCABULARY - 1);
        assert_eq!(example.targets.len(), 1);
        assert_eq!(example.targets[0].end, example.tokens.len());
        let (question, answer) = said.split_at(example.targets[0].start);
        assert_eq!(text(question), completion.messages[0].content);
        if n == 1 {
            let answer = text(answer);
            assert!(
                answer.starts_with("Corrected") && !answer.contains("hunter2"),
                "{answer}"
            );
        } else {
            assert_eq!(text(answer), completion.answer);
        }
    }
    // The general texts that it is held to, as many as there is room for: here each byte is a token.
    let anchored: usize = read.anchors.iter().map(|anchor| anchor.tokens.len()).sum();
    assert!((7500..=data::MAX_ANCHORED).contains(&anchored), "{anchored}");
    let (_end, said) = read.anchors[0].tokens.split_last().unwrap();
    let (question, answer) = said.split_at(read.anchors[0].targets[0].start);
    assert_eq!(text(question), "Why is the sky blue?");
    assert!(text(answer).starts_with("Sunlight is a mixture"));
    let held_out = records[9..12].iter().map(|record| {
        let completion = &record.completion;
        json!({"messages": completion.messages, "target": completion.answer})
    });
    assert_eq!(Files::lines(&files.gate), held_out.collect::<Vec<_>>());
    // The same once more is the same, byte by byte.
    let (again, other) = make(&world, order());
    assert_eq!(made(again).0, [9, 3, 0, 0]);
    assert_eq!(Files::lines(&other.data), Files::lines(&files.data));
    // Clients are answered all the same.
    assert_eq!(world.client.chat(&json!({})).status, 200);
}

#[test]
fn what_an_accepted_night_learnt_is_learnt_again_in_part_and_judged_by_again() {
    let mut records = twelve();
    for (n, question) in questions(false, 19)[9..].iter().enumerate() {
        let mut new = record(n + 20, "first", question, "New.");
        new.time = hours_ago(24);
        records.push(new);
    }
    let (_folder, world) = keeping(&records, b"");
    let since = |text: String| DataSetOrder {
        since: Some(text),
        ..order()
    };
    let (outcome, files) = make(&world, since(hours_ago(36).to_string()));
    assert_eq!(made(outcome).0, [10, 3, 5, 0]);
    let replayed = Files::lines(&files.data)
        .iter()
        .filter(|line| line["split"] == "replay")
        .count();
    assert_eq!(replayed, 5);
    data::read(&files.data, &base(), VOCABULARY as usize).unwrap();
    let (outcome, files) = make(&world, since("yesterday".into()));
    assert!(failed(outcome).contains("accepted"));
    assert_eq!(files.data.metadata().unwrap().len(), 0);
    let (outcome, _) = make(&world, since(hours_ago(1).to_string()));
    assert_eq!(skipped(outcome), "0 new examples, at least 10 are needed");
}

#[test]
fn too_little_is_no_night_with_the_reason() {
    let (_folder, world) = keeping(&twelve()[..9], b"");
    let (outcome, files) = make(&world, order());
    assert_eq!(skipped(outcome), "9 new examples, at least 10 are needed");
    let empty = |file: &File| file.metadata().unwrap().len() == 0;
    assert!(empty(&files.data) && empty(&files.gate));
    let mut fewer = order();
    fewer.choice.least = 5;
    let (outcome, _) = make(&world, fewer);
    assert_eq!(skipped(outcome), "nothing is held out of 9 new examples");
    // Nobody was asked for tokens of what is not learnt.
    assert_eq!(world.primary.encoded(), 0);
}

#[test]
fn without_kept_feedback_there_is_no_night() {
    let world = crate::world::world(answers(&[("Paris it is.", 0.95)]), None);
    let (outcome, _) = make(&world, order());
    assert_eq!(skipped(outcome), "no feedback is kept");
}

#[test]
fn an_engine_of_another_base_or_none_is_said() {
    let (_folder, world) = keeping(&twelve(), b"");
    let mut other = order();
    other.base = "f".repeat(64);
    let (outcome, files) = make(&world, other);
    assert!(failed(outcome).contains("another model"));
    assert_eq!(files.data.metadata().unwrap().len(), 0);
    world.primary.remove();
    let (outcome, _) = make(&world, order());
    assert!(failed(outcome).contains("connect to the engine"));
}

#[test]
fn an_engine_that_goes_away_in_between_is_said() {
    let (_folder, world, _files) = in_the_middle();
    world.primary.remove();
    let reason = failed(outcome(&world, 1));
    assert!(reason.contains("it closed the connection"), "{reason}");
}

#[test]
fn whoever_sends_nine_of_ten_records_has_half_and_damage_is_passed_over() {
    let mut records = Vec::new();
    for n in 0..300 {
        let key = if n % 10 == 0 { "honest" } else { "poisoner" };
        records.push(record(n, key, &format!("Question {n}"), key));
    }
    // A record as long as one may be.
    let mut long = record(300, "honest", "Long?", "Yes.");
    let content = "x".repeat(900_000);
    let role = Role::User;
    long.completion.messages.insert(0, Message { role, content });
    records.push(long);
    let mut more = b"{\"feedback\":{\"id\":\"\xff\xfe\"}}\n".to_vec();
    more.extend(vec![b'y'; 3 << 20]);
    more.push(b'\n');
    // Something follows: what is damaged at the very end is cut off by whoever writes, sooner or later than it is read.
    let last = records.pop().unwrap();
    more.extend(Entry::Feedback(Box::new(last)).line().unwrap());
    more.push(b'\n');
    let (_folder, world) = keeping(&records, &more);
    let (outcome, files) = make(&world, order());
    let (counts, tally) = made(outcome);
    assert_eq!(counts[0] + counts[1], 60);
    for part in ["seen=301 ", "damaged=2 ", " long=1 ", " capped=240 "] {
        assert!(tally.contains(part), "{tally}");
    }
    let read = data::read(&files.data, &base(), VOCABULARY as usize).unwrap();
    let honest = |example: &&data::Example| {
        let answer: Vec<u32> = "honest".bytes().map(u32::from).collect();
        example.tokens[example.targets[0].start..].starts_with(&answer)
    };
    let all = || read.train.iter().chain(&read.held_out);
    assert_eq!((all().count(), all().filter(honest).count()), (60, 30));
}

/// What tokens say: those of the test's engine are bytes.
fn said(tokens: &[u32]) -> String {
    let bytes = tokens.iter().map_while(|token| u8::try_from(*token).ok());
    String::from_utf8(bytes.collect()).unwrap()
}

#[test]
fn what_is_longer_than_a_row_keeps_its_answer_and_the_gate_reads_what_the_trainer_does() {
    const ROW: u32 = 256;
    let mut records = twelve();
    let before = [
        (Role::User, "old ".repeat(200)),
        (Role::Assistant, "Well.".to_owned()),
    ];
    // One to be learnt and one to be held out, each with a long turn before its question.
    let asked = [
        questions(false, 10).pop().unwrap(),
        questions(true, 4).pop().unwrap(),
    ];
    for (n, question) in asked.iter().enumerate() {
        let mut record = record(12 + n, "first", question, &format!("Late answer {n}."));
        let turns = before.clone().map(|(role, content)| Message { role, content });
        record.completion.messages.splice(0..0, turns);
        records.push(record);
    }
    // One whose answer is longer than a row, and one whose question is.
    let more = questions(false, 11).pop().unwrap();
    records.push(record(14, "first", &more, &"word ".repeat(100)));
    let mut endless = (0..).map(|n| format!("{} number {n}?", "long ".repeat(100)));
    let endless = endless.find(|question| !is_held_out(question)).unwrap();
    records.push(record(15, "first", &endless, "Quite."));
    let (_folder, world) = keeping(&records, b"");
    let rows = || DataSetOrder {
        length: ROW,
        ..order()
    };
    let (outcome, files) = make(&world, rows());
    let DataSetOutcome::Made { examples, tally, .. } = &outcome else {
        panic!("{outcome:?}")
    };
    let expected = Examples {
        train: 12,
        held_out: 4,
        shortened: 4,
        cut: 1,
        ..Examples::default()
    };
    assert_eq!(*examples, expected);
    assert!(tally.contains(" long=0 shortened=4 cut=1 "), "{tally}");
    let read = data::read(&files.data, &base(), VOCABULARY as usize).unwrap();
    // The trainer has nothing to cut.
    for examples in [&read.train, &read.held_out] {
        let pieces = Pieces::new(examples, ROW as usize);
        assert_eq!((pieces.cut, pieces.dropped, pieces.len()), (0, 0, examples.len()));
    }
    let parts = |example: &data::Example| {
        let (question, answer) = example.tokens.split_at(example.targets[0].start);
        (said(question), said(answer))
    };
    let learnt: Vec<_> = read.train.iter().map(parts).collect();
    assert!(learnt.contains(&(asked[0].clone(), "Late answer 0.".to_owned())));
    let (_, cut) = learnt.iter().find(|(question, _)| *question == more).unwrap();
    assert!(cut.ends_with("word") && cut.len() > 200, "{cut}");
    let (kept, _) = learnt.iter().find(|(_, answer)| answer == "Quite.").unwrap();
    assert!(
        endless.ends_with(kept) && kept.len() == ROW as usize - "Quite.".len() - 1,
        "{kept}"
    );
    // What the engine is measured on is, word by word, what the trainer judges by.
    let held_out: Vec<_> = read.held_out.iter().map(parts).collect();
    let gate: Vec<_> = Files::lines(&files.gate)
        .iter()
        .map(|line| {
            let messages = line["messages"].as_array().unwrap().iter();
            let texts = messages.map(|message| message["content"].as_str().unwrap());
            (
                texts.collect::<String>(),
                line["target"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    assert_eq!(gate, held_out);
    assert!(gate.contains(&(asked[1].clone(), "Late answer 1.".to_owned())));
    // A context that is smaller for the moment changes nothing.
    world.primary.shrink(64);
    let (_, again) = make(&world, rows());
    assert_eq!(Files::lines(&again.data), Files::lines(&files.data));
}

#[test]
fn what_leaves_no_room_for_an_answer_is_left_out_and_counted() {
    let mut records = twelve();
    // What was said after the last question is no beginning.
    let mut on = record(12, "first", "Go on?", "Quite.");
    on.completion.messages.push(Message {
        role: Role::Assistant,
        content: "said ".repeat(100),
    });
    records.push(on);
    let (_folder, world) = keeping(&records, b"");
    let rows = DataSetOrder {
        length: 256,
        ..order()
    };
    let (outcome, files) = make(&world, rows);
    let (counts, tally) = made(outcome);
    assert_eq!(counts, [9, 3, 0, 1]);
    assert!(tally.contains(" long=1 shortened=0 cut=0 "), "{tally}");
    data::read(&files.data, &base(), VOCABULARY as usize).unwrap();
}

#[test]
fn what_is_the_same_when_it_is_shortened_is_not_both_learnt_and_judged_by() {
    let mut records = twelve();
    let end = "the very same end of a question ".repeat(8);
    let asked = (0..).map(|n| format!("{n} {end}"));
    let (held_out, learnt): (Vec<_>, Vec<_>) = asked.take(40).partition(|question| is_held_out(question));
    for (n, question) in [&learnt[0], &held_out[0]].into_iter().enumerate() {
        records.push(record(12 + n, "first", question, "The same."));
    }
    let (_folder, world) = keeping(&records, b"");
    let (outcome, files) = make(
        &world,
        DataSetOrder {
            length: 128,
            ..order()
        },
    );
    let (counts, tally) = made(outcome);
    assert_eq!(counts, [9, 4, 0, 0]);
    assert!(tally.contains(" doubled=1 "), "{tally}");
    data::read(&files.data, &base(), VOCABULARY as usize).unwrap();
}

#[test]
fn two_that_are_the_same_without_their_secrets_are_one() {
    let mut records = twelve();
    for n in 0..40 {
        let secret = format!("My password: hunter{n}hunter{n}");
        records.push(record(n + 12, "first", &secret, "Keep it to yourself."));
    }
    let (_folder, world) = keeping(&records, b"");
    let (outcome, files) = make(&world, order());
    let (counts, tally) = made(outcome);
    assert_eq!(counts[0] + counts[1], 13, "{tally}");
    assert!(tally.contains(" doubled=39 "), "{tally}");
    // The trainer takes no id twice.
    data::read(&files.data, &base(), VOCABULARY as usize).unwrap();
}

#[test]
fn a_disk_that_takes_nothing_and_files_that_are_none_are_said() {
    let (_folder, world) = keeping(&twelve(), b"");
    let mut files = Files::new();
    // SAFETY: the name is a C string; the descriptor is nobody else's.
    files.gate = unsafe {
        let fd = nix::libc::memfd_create(c"full".as_ptr(), nix::libc::MFD_ALLOW_SEALING);
        assert!(fd >= 0);
        assert_eq!(
            nix::libc::fcntl(fd, nix::libc::F_ADD_SEALS, nix::libc::F_SEAL_GROW),
            0
        );
        File::from_raw_fd(fd)
    };
    send(&world, 1, order(), &files);
    let reason = failed(outcome(&world, 1));
    assert!(reason.starts_with("write the data set: "), "{reason}");
    let mut files = Files::new();
    files.data = File::options().write(true).open("/dev/null").unwrap();
    send(&world, 2, order(), &files);
    let reason = failed(outcome(&world, 2));
    assert!(reason.contains("it is no empty file"), "{reason}");
    world.gateway.say(&ToGateway::DataSet {
        seq: 3,
        order: order(),
    });
    assert!(failed(outcome(&world, 3)).contains("0 came along"));
}

#[test]
fn the_end_of_the_night_ends_it_and_the_next_order_is_carried_out() {
    let (_folder, world) = keeping(&twelve(), b"");
    world.primary.hold_encoding(true);
    let files = [Files::new(), Files::new(), Files::new()];
    send(&world, 1, order(), &files[0]);
    send(&world, 2, order(), &files[1]);
    world.primary.wait_for_encoded(1);
    world.gateway.say(&ToGateway::Wake);
    send(&world, 3, order(), &files[2]);
    for seq in [1, 2] {
        assert_eq!(failed(outcome(&world, seq)), "finish: the night was ended");
    }
    world.primary.hold_encoding(false);
    assert_eq!(made(outcome(&world, 3)).0, [9, 3, 0, 0]);
    data::read(&files[2].data, &base(), VOCABULARY as usize).unwrap();
}

#[test]
fn what_is_to_be_forgotten_meanwhile_is_in_no_data_set() {
    let (_folder, world, _files) = in_the_middle();
    let what = Forget::Completion {
        id: "chatcmpl-3".into(),
    };
    world.gateway.say(&ToGateway::Forget { seq: 2, what });
    let forgotten = world.gateway.hear();
    assert!(
        matches!(&forgotten, FromGateway::Forgotten(f) if f.lines == 1),
        "{forgotten:?}"
    );
    world.primary.hold_encoding(false);
    assert!(failed(outcome(&world, 1)).contains("forgotten meanwhile"));
    let (outcome, files) = make(&world, order());
    assert_eq!(made(outcome).0, [8, 3, 0, 0]);
    data::read(&files.data, &base(), VOCABULARY as usize).unwrap();
}
