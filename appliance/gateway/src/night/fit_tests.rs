use std::convert::Infallible;

use proptest::prelude::*;
use sarai_feedback::Split;

use super::*;

/// What a turn costs besides its text.
const TURN: usize = 3;
/// What ends an answer.
const END: u32 = 999;

fn message(role: Role, content: &str) -> Message {
    Message {
        role,
        content: content.into(),
    }
}

fn example(messages: Vec<Message>, target: &str) -> Example {
    Example {
        id: "0a".into(),
        split: Split::Train,
        messages,
        target: target.into(),
    }
}

/// A token is a character; a turn has three more, and an answer that ends one.
fn tokens(encode: &Encode) -> Encoded {
    let mut tokens = Vec::new();
    for message in &encode.messages {
        tokens.extend([1; TURN]);
        tokens.extend(message.content.chars().map(u32::from));
    }
    let answer = u32::try_from(tokens.len()).unwrap();
    tokens.extend(encode.text.chars().map(u32::from));
    if encode.ends {
        tokens.push(END);
    }
    Encoded {
        tokens,
        answer,
        vocabulary: 2_000_000,
    }
}

fn fitted(example: &Example, most: u32) -> Option<Fitted> {
    let mut ask = |encode: Encode| {
        let encoded = tokens(&encode);
        Ok::<_, Infallible>((encoded.tokens.len() <= most as usize).then_some(encoded))
    };
    fit(example, most, &mut ask).unwrap()
}

fn talk() -> Example {
    let messages = vec![
        message(Role::System, "brief"),
        message(Role::User, "first"),
        message(Role::Assistant, "one"),
        message(Role::User, "second"),
        message(Role::Assistant, "two"),
        message(Role::User, "third"),
    ];
    example(messages, "three")
}

fn texts(fitted: &Fitted) -> Vec<&str> {
    let messages = fitted.example.messages.iter();
    messages.map(|message| message.content.as_str()).collect()
}

#[test]
fn the_oldest_goes_first_and_the_answer_stays_whole() {
    let talk = talk();
    for (most, lost, kept) in [
        (
            1000,
            Lost::Nothing,
            &["brief", "first", "one", "second", "two", "third"][..],
        ),
        (
            51,
            Lost::Nothing,
            &["brief", "first", "one", "second", "two", "third"],
        ),
        (50, Lost::Beginning, &["brief", "second", "two", "third"]),
        (37, Lost::Beginning, &["brief", "second", "two", "third"]),
        (36, Lost::Beginning, &["brief", "third"]),
        (22, Lost::Beginning, &["brief", "third"]),
        (21, Lost::Beginning, &["third"]),
        (14, Lost::Beginning, &["third"]),
    ] {
        let fitted = fitted(&talk, most).unwrap();
        assert_eq!(texts(&fitted), kept, "{most}");
        assert_eq!((fitted.lost, fitted.example.target.as_str()), (lost, "three"));
        assert_eq!(fitted.encoded.tokens.last(), Some(&END));
    }
}

#[test]
fn a_long_question_keeps_its_end() {
    let question = format!("{} what is that?", "ö".repeat(1000));
    let long = example(vec![message(Role::User, &question)], "an answer");
    let fitted = fitted(&long, 200).unwrap();
    assert_eq!(fitted.lost, Lost::Beginning);
    assert_eq!(fitted.encoded.tokens.len(), 200);
    assert_eq!(fitted.example.target, "an answer");
    let kept = texts(&fitted)[0];
    assert!(
        question.ends_with(kept) && kept.chars().count() == 200 - TURN - 10,
        "{kept}"
    );
}

#[test]
fn an_answer_longer_than_a_row_loses_its_end_at_a_word_and_does_not_end_there() {
    let question = "x".repeat(500);
    let long = example(vec![message(Role::User, &question)], &"seven77 ".repeat(100));
    let cut = fitted(&long, 200).unwrap();
    assert_eq!(cut.lost, Lost::End);
    assert_eq!(texts(&cut), [&question[..25]]);
    // 172 characters have room; 21 words and the blanks between them are 167.
    assert_eq!(cut.example.target, "seven77 ".repeat(21).trim_end());
    assert!(!cut.encoded.tokens.contains(&END));
    // Where no word ends near, it is cut where it must be.
    let unbroken = example(vec![message(Role::User, "why?")], &"é".repeat(500));
    let cut = fitted(&unbroken, 200).unwrap();
    assert_eq!(cut.example.target.chars().count(), 200 - TURN - 4);
}

#[test]
fn where_no_row_has_room_for_an_answer_there_is_no_example() {
    let short = example(vec![message(Role::User, "why?")], "because");
    assert_eq!(fitted(&short, 4), None);
    assert_eq!(fitted(&short, 5).unwrap().example.target, "b");
    let nothing = example(Vec::new(), "because");
    assert_eq!(fitted(&nothing, 5), None);
    let mut asked = 0;
    let refused = fit(&short, 8, &mut |_| {
        asked += 1;
        Err("no")
    });
    assert_eq!((refused, asked), (Err("no"), 1));
}

fn any_example() -> impl Strategy<Value = Example> {
    let text = "[a-zé💡 ]{1,120}";
    let turns = prop::collection::vec((text, text), 0..6);
    (prop::option::of(text), turns, text, text).prop_map(|(system, turns, question, target)| {
        let mut messages: Vec<Message> = system.iter().map(|text| message(Role::System, text)).collect();
        for (asked, said) in turns {
            messages.push(message(Role::User, &asked));
            messages.push(message(Role::Assistant, &said));
        }
        messages.push(message(Role::User, &question));
        example(messages, &target)
    })
}

proptest! {
    /// Whatever is said: a row is never too short for what comes out, a whole answer is only cut where it cannot stay,
    /// what is left is the end of the conversation, and it is asked a bounded number of times.
    #[test]
    fn what_comes_out_fits_and_nothing_is_lost_without_need(example in any_example(), most in 4u32..600) {
        let mut asked = 0;
        let fitted = fit(&example, most, &mut |encode: Encode| {
            asked += 1;
            let encoded = tokens(&encode);
            Ok::<_, Infallible>((encoded.tokens.len() <= most as usize).then_some(encoded))
        });
        prop_assert!(asked < 40);
        let least = least_question(&example.messages.last().unwrap().content, most);
        let Some(fitted) = fitted.unwrap() else {
            let question = &example.messages.last().unwrap().content;
            let question = &question[question.ceil_char_boundary(question.len() - least)..];
            prop_assert!(TURN + question.chars().count() + 1 > most as usize);
            return Ok(());
        };
        prop_assert!(fitted.encoded.tokens.len() <= most as usize);
        prop_assert!((fitted.encoded.answer as usize) < fitted.encoded.tokens.len());
        let whole = Part { of: &example, instructed: true, first: instructions(&example.messages), skipped: 0, end: None };
        let all = tokens(&whole.question(most)).tokens.len();
        prop_assert_eq!(fitted.lost == Lost::Nothing, all <= most as usize);
        if fitted.lost == Lost::End {
            prop_assert!(example.target.starts_with(&fitted.example.target));
            prop_assert!(TURN + least + example.target.chars().count() + 1 > most as usize);
        } else {
            prop_assert_eq!(&fitted.example.target, &example.target);
        }
        let last = &fitted.example.messages.last().unwrap().content;
        prop_assert!(example.messages.last().unwrap().content.ends_with(last.as_str()));
        // What the gate would ask for is what was learnt.
        let again = Encode { most, ends: fitted.lost != Lost::End, ..whole_question(&fitted.example) };
        prop_assert_eq!(tokens(&again), fitted.encoded);
    }
}

fn whole_question(example: &Example) -> Encode {
    Part {
        of: example,
        instructed: true,
        first: instructions(&example.messages),
        skipped: 0,
        end: None,
    }
    .question(0)
}
