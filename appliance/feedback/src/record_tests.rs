use proptest::prelude::*;

use super::*;
use crate::store::tests::completion;

fn feedback() -> Feedback {
    Feedback {
        id: "fb-1".into(),
        time: Timestamp::UNIX_EPOCH,
        judgment: Judgment::new(0.9, Some("better".into()), None).unwrap(),
        completion: completion("chatcmpl-1", "first", "What?", "This."),
    }
}

fn refused(result: Result<impl std::fmt::Debug, Invalid>, field: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.field, field, "{error}");
}

#[test]
fn a_line_is_read_back_as_it_was_written() {
    let entry = Entry::Feedback(Box::new(feedback()));
    let line = entry.line().unwrap();
    assert!(line.starts_with(b"{\"feedback\":{\"id\":\"fb-1\"") && !line.contains(&b'\n'));
    assert_eq!(Entry::parse(&line).unwrap(), entry);
}

#[test]
fn what_is_no_score_is_refused_and_blank_texts_are_none() {
    for wrong in [f64::NAN, f64::INFINITY, -0.1, 1.000_001, -f64::MIN_POSITIVE] {
        refused(Judgment::new(wrong, None, None), "score");
    }
    let judgment = Judgment::new(-0.0, Some(" \n".into()), Some("x".into())).unwrap();
    assert_eq!((judgment.score.to_bits(), &judgment.correction), (0, &None));
    assert_ne!(
        judgment.digest(),
        Judgment::new(0.0, None, Some("y".into())).unwrap().digest()
    );
}

#[test]
fn every_field_has_a_bound() {
    refused(
        Judgment::new(1.0, Some("x".repeat(MAX_CORRECTION + 1)), None),
        "correction",
    );
    refused(
        Judgment::new(1.0, None, Some("x".repeat(MAX_COMMENT + 1))),
        "comment",
    );
    let with = |change: fn(&mut Completion)| {
        let mut feedback = feedback();
        change(&mut feedback.completion);
        feedback.check()
    };
    refused(with(|c| c.id = String::new()), "completion_id");
    refused(with(|c| c.id = "a\nb".into()), "completion_id");
    refused(with(|c| c.key = "x".repeat(65)), "key");
    refused(with(|c| c.model = "x".repeat(257)), "model");
    refused(with(|c| c.adapter = Some("x".repeat(257))), "adapter");
    refused(with(|c| c.digest = "XYZ".into()), "digest");
    refused(with(|c| c.confidence = f64::NAN), "confidence");
    refused(with(|c| c.messages.clear()), "messages");
    refused(
        with(|c| c.messages = vec![c.messages[0].clone(); MAX_MESSAGES + 1]),
        "messages",
    );
    let mut long = feedback();
    long.completion.answer = "x".repeat(MAX_LINE);
    refused(Entry::Feedback(Box::new(long)).line(), "the record");
}

#[test]
fn a_line_that_is_none_is_refused_without_being_quoted() {
    for wrong in [
        &b"{\"feedback\":{\"id\":\"secret\xff\"}}"[..],
        b"{\"feedback\":{\"id\":\"secret\"}}",
        b"{\"cake\":\"secret\"}",
        b"secret",
        b"",
        b"\0\0",
        b"{\"forget\":{\"time\":\"1970-01-01T00:00:00Z\",\"what\":{\"key\":\"sec ret\"}}}",
    ] {
        let text = Entry::parse(wrong).unwrap_err().to_string();
        assert!(!text.contains("secret"), "{text}");
    }
    let mut nan = String::from_utf8(Entry::Feedback(Box::new(feedback())).line().unwrap()).unwrap();
    nan = nan.replace("\"score\":0.9", "\"score\":9e999");
    assert!(Entry::parse(nan.as_bytes()).is_err());
    assert!(Entry::parse(&vec![b'['; MAX_LINE]).is_err());
}

proptest! {
    #[test]
    fn any_text_comes_back(answer in any::<String>(), correction in "\\PC{0,40}", score in 0.0..=1.0_f64) {
        let mut feedback = feedback();
        feedback.completion.answer = answer;
        feedback.judgment = Judgment::new(score, Some(correction), None).unwrap();
        let digest = feedback.judgment.digest();
        let entry = Entry::Feedback(Box::new(feedback));
        let back = Entry::parse(&entry.line().unwrap()).unwrap();
        let Entry::Feedback(read) = &back else { panic!("another kind") };
        prop_assert_eq!(read.judgment.digest(), digest);
        prop_assert_eq!(back, entry);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Entry::parse(&bytes);
    }
}
