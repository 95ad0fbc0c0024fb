use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::record::Judgment;
use crate::store::tests::completion;

fn feedback(n: usize, key: &str, question: &str, answer: &str, score: f64) -> Feedback {
    Feedback {
        id: format!("fb-{n}"),
        time: Timestamp::new(i64::try_from(n).unwrap(), 0).unwrap(),
        judgment: Judgment::new(score, None, None).unwrap(),
        completion: completion(&format!("c{n}"), key, question, answer),
    }
}

fn run(rules: &Rules, all: &[Feedback]) -> Result<Selected, Box<(Skip, Tally)>> {
    let choice = select::<Infallible>(rules, &mut |each| {
        all.iter().cloned().for_each(each);
        Ok(())
    });
    match choice.unwrap() {
        Choice::Chosen(selected) => Ok(selected),
        Choice::Skipped(skip, tally) => Err(Box::new((skip, tally))),
    }
}

fn skipped(rules: &Rules, all: &[Feedback]) -> Skip {
    run(rules, all).unwrap_err().0
}

/// `count` questions that are held out, or that are not.
fn questions(held_out: bool, count: usize) -> Vec<String> {
    (0..)
        .map(|n| format!("What is number {n}?"))
        .filter(|question| is_held_out(question) == held_out)
        .take(count)
        .collect()
}

/// 16 to learn and 4 to hold out, from two keys.
fn twenty() -> Vec<Feedback> {
    let mut all = questions(false, 16);
    all.extend(questions(true, 4));
    all.iter()
        .enumerate()
        .map(|(n, question)| feedback(n, ["a", "b"][n % 2], question, &format!("Answer {n}."), 0.9))
        .collect()
}

fn of(selected: &Selected, split: Split) -> Vec<&Example> {
    selected.examples.iter().filter(|e| e.split == split).collect()
}

#[test]
fn good_answers_and_corrections_are_learnt() {
    let mut all = twenty();
    all[0].judgment.score = 0.7;
    all[1].judgment = Judgment::new(0.1, Some("Corrected.".into()), None).unwrap();
    let selected = run(&Rules::default(), &all).unwrap();
    assert_eq!((selected.tally.low, selected.examples.len()), (1, 19));
    let corrected = &selected.examples[0];
    assert_eq!(corrected.target, "Corrected.");
    assert_eq!(corrected.messages, all[1].completion.messages);
    assert_eq!(of(&selected, Split::HeldOut).len(), 4);
    assert_eq!(corrected.id.len(), 32);
}

#[test]
fn equal_conversations_are_one_and_the_newest_judgment_stays() {
    let mut all = twenty();
    let mut again = feedback(50, "b", "", "Newer.", 1.0);
    again.completion.messages = all[3].completion.messages.clone();
    again.completion.messages[0].content =
        format!("  {}!! ", all[3].completion.messages[0].content.to_uppercase());
    all.push(again);
    let selected = run(&Rules::default(), &all).unwrap();
    assert_eq!((selected.tally.doubled, selected.examples.len()), (1, 20));
    assert!(selected.examples.iter().any(|e| e.target == "Newer."));
    assert!(!selected.examples.iter().any(|e| e.target == "Answer 3."));
}

#[test]
fn a_night_without_enough_is_skipped_with_the_reason() {
    let all = twenty();
    let rules = Rules {
        least: 21,
        ..Rules::default()
    };
    assert_eq!(skipped(&rules, &all), Skip::TooFew { found: 20, least: 21 });
    assert_eq!(
        skipped(&Rules::default(), &all[..9]),
        Skip::TooFew { found: 9, least: 10 }
    );
    assert_eq!(skipped(&Rules::default(), &all[..16]), Skip::NothingHeldOut(16));
    let held: Vec<Feedback> = questions(true, 12)
        .iter()
        .enumerate()
        .map(|(n, question)| feedback(n, "a", question, "x", 1.0))
        .collect();
    assert_eq!(skipped(&Rules::default(), &held), Skip::NothingToLearn(12));
    assert_eq!(
        skipped(&Rules::default(), &[]),
        Skip::TooFew { found: 0, least: 10 }
    );
}

#[test]
fn a_key_that_sends_nine_of_ten_records_has_half_of_what_is_chosen() {
    let poisoned = |good: usize, bad: usize| {
        let mut all = Vec::new();
        for n in 0..good + bad {
            let key = if n % 10 == 0 && n / 10 < good {
                "honest"
            } else {
                "poisoner"
            };
            all.push(feedback(
                n,
                key,
                &format!("Question {n}"),
                &format!("{key} says {n}."),
                1.0,
            ));
        }
        all
    };
    let from = |selected: &Selected, key: &str| {
        let theirs = |e: &&Example| e.target.starts_with(key) && e.split != Split::Replay;
        selected.examples.iter().filter(theirs).count()
    };
    let selected = run(&Rules::default(), &poisoned(100, 900)).unwrap();
    assert_eq!(
        (from(&selected, "honest"), from(&selected, "poisoner")),
        (100, 100)
    );
    assert_eq!(selected.tally.capped, 800);
    // With few others, 20 all the same.
    let selected = run(&Rules::default(), &poisoned(5, 900)).unwrap();
    assert_eq!((from(&selected, "honest"), from(&selected, "poisoner")), (5, 20));
    // Who is alone drowns nobody.
    let selected = run(&Rules::default(), &poisoned(0, 100)).unwrap();
    assert_eq!(from(&selected, "poisoner"), 100);
}

#[test]
fn older_nights_are_learnt_again_in_part_and_another_part_each_night() {
    let night = |since: i64| Rules {
        since: Some(Timestamp::new(since, 0).unwrap()),
        ..Rules::default()
    };
    let all: Vec<Feedback> = (0..400)
        .map(|n| {
            let key = ["a", "b"][n % 2];
            feedback(n, key, &format!("Question {n}"), &format!("Answer {n}."), 1.0)
        })
        .collect();
    let selected = run(&night(300), &all).unwrap();
    let replayed = |selected: &Selected| -> BTreeSet<String> {
        of(selected, Split::Replay)
            .iter()
            .map(|e| e.target.clone())
            .collect()
    };
    let first = replayed(&selected);
    assert_eq!(first.len(), of(&selected, Split::Train).len().div_ceil(2));
    for example in of(&selected, Split::Replay) {
        let number: usize = example.target[7..example.target.len() - 1].parse().unwrap();
        assert!(number <= 300, "only older ones are learnt again");
        assert!(
            !is_held_out(&example.messages[0].content),
            "what is held out is never learnt"
        );
    }
    for example in of(&selected, Split::Train) {
        let number: usize = example.target[7..example.target.len() - 1].parse().unwrap();
        assert!(number > 300);
    }
    assert_ne!(first, replayed(&run(&night(299), &all).unwrap()));
    // Nothing new: no night, whatever there is of older ones.
    assert_eq!(skipped(&night(500), &all), Skip::TooFew { found: 0, least: 10 });
}

#[test]
fn secrets_do_not_come_through_and_what_was_only_one_is_left_out() {
    let secret = format!("sk-sarai-{}", "aB3dE".repeat(8));
    let mut all = twenty();
    all[0].completion.messages[0].content += &format!(" My key is {secret}.");
    all[1].completion.answer = secret.clone();
    all[2].judgment.correction = Some(format!("Use {secret} there."));
    let selected = run(&Rules::default(), &all).unwrap();
    let text = serde_json::to_string(&selected.examples).unwrap();
    assert!(
        !text.contains(&secret) && text.contains("Use [API_KEY] there."),
        "{text}"
    );
    assert_eq!(
        (selected.tally.secret, selected.tally.scrubbed["api_key"]),
        (1, 3)
    );
}

#[test]
fn what_has_no_question_or_is_too_long_is_left_out() {
    let mut all = twenty();
    all[0].completion.messages[0].role = Role::Assistant;
    all[1].completion.messages[0].content = "  ".into();
    all[2].completion.answer = "\n".into();
    all[3].completion.answer = "x".repeat(70_000);
    let selected = run(&Rules::default(), &all).unwrap();
    assert_eq!((selected.tally.empty, selected.tally.long), (3, 1));
    let few = Rules {
        bytes: 200,
        least: 1,
        ..Rules::default()
    };
    let tally = match run(&few, &all) {
        Ok(selected) => selected.tally,
        Err(skipped) => skipped.1,
    };
    assert!(tally.surplus > 5, "{tally:?}");
}

#[test]
fn a_hundred_thousand_judgments_leave_little_in_memory() {
    let rules = Rules {
        since: Some(Timestamp::new(50_000, 0).unwrap()),
        ..Rules::default()
    };
    let text = "lorem ipsum ".repeat(100);
    let mut shown = 0_u64;
    let choice = select::<Infallible>(&rules, &mut |each| {
        for n in 0..100_000 {
            let key = ["a", "b", "c"][n % 3];
            each(feedback(n, key, &format!("Question {n}? {text}"), &text, 1.0));
            shown += 1;
        }
        Ok(())
    })
    .unwrap();
    let Choice::Chosen(selected) = choice else {
        panic!("{choice:?}");
    };
    assert_eq!((shown, selected.tally.seen), (200_000, 100_000));
    let bytes: usize = selected
        .examples
        .iter()
        .map(|e| e.target.len() + e.messages[0].content.len())
        .sum();
    assert!(bytes <= rules.bytes, "{bytes}");
    for split in [Split::Train, Split::HeldOut, Split::Replay] {
        let count = of(&selected, split).len();
        assert!(count > 0 && count <= rules.most, "{split:?}: {count}");
    }
}

fn any_log() -> impl Strategy<Value = Vec<(u8, u8, u8, bool)>> {
    // Whose, which question, which score, whether corrected.
    proptest::collection::vec((0_u8..4, 0_u8..120, 0_u8..=10, any::<bool>()), 0..300)
}

fn log_of(entries: &[(u8, u8, u8, bool)]) -> Vec<Feedback> {
    entries
        .iter()
        .enumerate()
        .map(|(n, (key, question, score, corrected))| {
            let mut feedback = feedback(
                n,
                &format!("k{key}"),
                &format!("Question {question}?"),
                &format!("k{key} {n}"),
                f64::from(*score) / 10.0,
            );
            if *corrected {
                feedback.judgment.correction = Some(format!("k{key} corrected {n}"));
            }
            feedback
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_whatever_was_judged(entries in any_log(), since in 0_i64..300) {
        let all = log_of(&entries);
        let rules = Rules { since: Some(Timestamp::new(since, 0).unwrap()), ..Rules::default() };
        let Ok(selected) = run(&rules, &all) else { return Ok(()) };
        let side = |split| of(&selected, split).into_iter().map(|e| normalised(&e.messages[0].content)).collect::<Vec<_>>();
        let (train, held, replay) = (side(Split::Train), side(Split::HeldOut), side(Split::Replay));
        // No question twice, and none on both sides.
        let learnt: BTreeSet<_> = train.iter().chain(&replay).collect();
        prop_assert_eq!(learnt.len(), train.len() + replay.len());
        let held_out: BTreeSet<_> = held.iter().collect();
        prop_assert_eq!(held_out.len(), held.len());
        prop_assert!(learnt.is_disjoint(&held_out));
        prop_assert!(!train.is_empty() && !held.is_empty());
        prop_assert!(replay.len() <= train.len().div_ceil(2));
        // Only what was good or corrected.
        for example in &selected.examples {
            let source = all.iter().find(|f| target_of(f) == example.target).unwrap();
            prop_assert!(source.judgment.score > 0.7 || source.judgment.correction.is_some());
        }
        // Nobody has more than half of what is new, or 20, unless nobody else ever judged.
        if entries.iter().map(|(key, ..)| key).collect::<BTreeSet<_>>().len() > 1 {
            let new: Vec<_> = selected.examples.iter().filter(|e| {
                let source = all.iter().find(|f| target_of(f) == e.target).unwrap();
                source.time > rules.since.unwrap()
            }).collect();
            for key in 0..4 {
                let theirs = new.iter().filter(|e| e.target.starts_with(&format!("k{key} "))).count();
                prop_assert!(theirs <= 20.max(new.len() / 2), "k{} has {} of {}", key, theirs, new.len());
            }
        }
        // The same again is the same.
        prop_assert_eq!(run(&rules, &all).unwrap(), selected);
    }

    #[test]
    fn a_question_stays_on_its_side(text in "\\PC{1,40}", padding in "[ \\t.,;!?]{0,4}") {
        let dressed = format!("{padding}{}{padding}", text.to_lowercase());
        if text.chars().any(char::is_alphanumeric) && normalised(&dressed) == normalised(&text) {
            prop_assert_eq!(is_held_out(&dressed), is_held_out(&text));
        }
        // What is normalised is normalised.
        let once = normalised(&text);
        if text.is_ascii() { prop_assert_eq!(normalised(&once), once); }
    }
}
