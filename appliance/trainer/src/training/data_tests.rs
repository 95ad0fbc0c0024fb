//! Every defect of a data set, its bounds, and arbitrary bytes.

use std::io::{Seek, Write};

use proptest::prelude::*;

use super::*;

const BASE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const GOOD: &str = r#"{"id":"a1","split":"train","tokens":[1,2,3,4],"targets":[[1,2],[2,4]]}"#;

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.seek(io::SeekFrom::End(0)).unwrap();
    file
}

fn head() -> String {
    format!(r#"{{"format":1,"base":"{BASE}","vocabulary":10}}"#)
}

fn read_lines(lines: &[&str]) -> Result<DataSet, DataError> {
    read(&file(lines.join("\n").as_bytes()), BASE, 10)
}

fn refused(line: &str) -> String {
    read_lines(&[&head(), GOOD, line]).unwrap_err().to_string()
}

#[test]
fn examples_come_with_their_targets_and_go_where_they_belong() {
    let held = r#"{"id":"b2","split":"held_out","tokens":[9,8],"targets":[[1,2]]}"#;
    let replay = r#"{"id":"c3","split":"replay","tokens":[7,6],"targets":[[1,2]]}"#;
    let anchor = r#"{"id":"d4","split":"anchor","tokens":[5,4,3],"targets":[[1,3]]}"#;
    let text = [&head(), GOOD, held, replay, anchor, ""].join("\n");
    let data = read(&file(text.as_bytes()), BASE, 10).unwrap();
    assert_eq!(data.train.len(), 2);
    assert_eq!(data.train[0].tokens, [1, 2, 3, 4]);
    assert_eq!(data.train[0].targets, [1..2, 2..4]);
    assert_eq!(data.train[1].tokens, [7, 6]);
    assert_eq!(data.held_out.len(), 1);
    assert_eq!(
        (data.anchors.len(), &*data.anchors[0].tokens),
        (1, &[5, 4, 3][..])
    );
    assert_eq!(data.sha256, <[u8; 32]>::from(Sha256::digest(text.as_bytes())));
    // Without the last end of line it is the same.
    assert_eq!(
        read_lines(&[&head(), GOOD, held, replay]).unwrap().train,
        data.train
    );
}

#[test]
fn each_defect_of_an_example_is_said_with_its_line() {
    for (line, part) in [
        (
            r#"{"id":"b","split":"train","tokens":[1,10],"targets":[[1,2]]}"#,
            "token 10 at position 1 is not below 10",
        ),
        (
            r#"{"id":"b","split":"train","tokens":[1],"targets":[[1,2]]}"#,
            "it has 1 tokens",
        ),
        (
            r#"{"id":"b","split":"train","tokens":[1,2],"targets":[]}"#,
            "no targets",
        ),
        (
            r#"{"id":"b","split":"train","tokens":[1,2],"targets":[[0,2]]}"#,
            "target [0, 2) must begin at 1",
        ),
        (
            r#"{"id":"b","split":"train","tokens":[1,2],"targets":[[1,3]]}"#,
            "end at 2 or earlier",
        ),
        (
            r#"{"id":"b","split":"train","tokens":[1,2],"targets":[[1,1]]}"#,
            "have a position",
        ),
        (
            r#"{"id":"b","split":"train","tokens":[1,2,3],"targets":[[2,3],[1,2]]}"#,
            "must begin at 3",
        ),
        (
            r#"{"id":"b","split":"train","tokens":[1,2,3],"targets":[[1,3],[2,3]]}"#,
            "must begin at 3",
        ),
        (
            r#"{"id":"a1","split":"held_out","tokens":[1,2],"targets":[[1,2]]}"#,
            "its id is that of line 2",
        ),
        (
            r#"{"id":"B","split":"train","tokens":[1,2],"targets":[[1,2]]}"#,
            "hex digits",
        ),
        (
            r#"{"id":"","split":"train","tokens":[1,2],"targets":[[1,2]]}"#,
            "hex digits",
        ),
        (
            r#"{"id":"b","split":"test","tokens":[1,2],"targets":[[1,2]]}"#,
            "unknown variant",
        ),
        (
            r#"{"id":"b","split":"train","tokens":[1,-2],"targets":[[1,2]]}"#,
            "integer `-2`",
        ),
        (
            r#"{"id":"b","split":"train","tokens":[1,2],"targets":[[1,2]],"x":1}"#,
            "unknown field",
        ),
        (r#"{"id":"b","split":"train","tokens":[1,2"#, "EOF"),
        ("", "EOF"),
        ("\u{0}", "expected value"),
    ] {
        // Something follows, so that an empty line is one.
        let lines = [&head(), GOOD, line, GOOD];
        let text = read_lines(&lines).unwrap_err().to_string();
        assert!(text.starts_with("read the data set: line 3: "), "{line}: {text}");
        assert!(text.contains(part), "{line}: {text}");
    }
}

#[test]
fn a_data_set_for_another_base_or_of_another_format_is_refused() {
    let first = |line: &str| read_lines(&[line, GOOD]).unwrap_err().to_string();
    assert!(first(&head().replace("0011", "ff11")).contains("given is 0011"));
    assert!(first(&head().replace("10}", "11}")).contains("vocabulary has 11 tokens, the base's 10"));
    assert!(first(r#"{"format":2,"of":"the future"}"#).contains("its format is 2, known is 1"));
    assert!(first(GOOD).contains("line 1: missing field `format`"));
    assert!(first(r#"{"format":1}"#).contains("missing field"));
}

#[test]
fn nothing_to_train_on_is_said() {
    assert!(matches!(read_lines(&[]), Err(DataError::Empty)));
    assert!(matches!(read_lines(&[&head()]), Err(DataError::NothingToTrain)));
    let held = GOOD.replace("train", "held_out");
    assert!(matches!(
        read_lines(&[&head(), &held]),
        Err(DataError::NothingToTrain)
    ));
}

#[test]
fn bounds_hold() {
    let long = format!("{}{GOOD}", " ".repeat(256 * 1024));
    assert!(refused(&long).contains("line 3: it has more than 262144 bytes"));
    let tokens = vec!["1"; MAX_TOKENS + 1].join(",");
    let many = GOOD.replace("1,2,3,4", &tokens).replace("a1", "b");
    assert!(refused(&many).contains("it has 4097 tokens"));
    let mut text = head();
    for n in 0..MAX_LINES {
        text += &format!("\n{}", GOOD.replace("a1", &format!("{n:x}")));
    }
    let error = read(&file(text.as_bytes()), BASE, 10).unwrap_err().to_string();
    assert!(error.contains("line 100001: at most 100000 lines"), "{error}");
    let anchor = |n: usize| {
        let line = GOOD.replace("train", "anchor").replace("a1", &format!("{n:x}"));
        line.replace("1,2,3,4", &vec!["1"; MAX_TOKENS].join(","))
    };
    let two = [head(), GOOD.to_owned(), anchor(1), anchor(2)];
    let mut lines: Vec<&str> = two.iter().map(String::as_str).collect();
    assert_eq!(read_lines(&lines).unwrap().anchors.len(), 2);
    let third = GOOD.replace("train", "anchor").replace("a1", "b");
    lines.push(&third);
    let error = read_lines(&lines).unwrap_err().to_string();
    assert!(
        error.contains("line 5: with it the anchors have more than 8192"),
        "{error}"
    );
    // Many long lines.
    let filler = " ".repeat(200 * 1024);
    let mut text = head();
    for n in 0..400 {
        text += &format!("\n{filler}{}", GOOD.replace("a1", &format!("{n:x}")));
    }
    assert!(matches!(
        read(&file(text.as_bytes()), BASE, 10),
        Err(DataError::TooLarge)
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400), after in any::<bool>()) {
        let mut all = if after { format!("{}\n", head()).into_bytes() } else { Vec::new() };
        all.extend(bytes);
        let _ = read(&file(&all), BASE, 10);
    }

    /// What comes through is within the model, whatever was written.
    #[test]
    fn what_is_read_is_sound(
        tokens in proptest::collection::vec(0u32..12, 0..8),
        targets in proptest::collection::vec((0usize..9, 0usize..9), 0..4),
    ) {
        let line = serde_json::json!({"id": "b", "split": "train", "tokens": tokens, "targets": targets});
        if let Ok(data) = read_lines(&[&head(), &line.to_string()]) {
            let example = &data.train[0];
            prop_assert!(example.tokens.iter().all(|token| *token < 10));
            let mut least = 1;
            for span in &example.targets {
                prop_assert!(span.start >= least && span.end > span.start);
                least = span.end;
            }
            prop_assert!(least <= example.tokens.len());
        }
    }
}
