//! Each repair repairs, and what decoding enforces is what was asked.

use regex::Regex;

use super::super::tests::{check, check_as};
use crate::checkers::Repair;
use crate::generate::{Constraint, Finish};

/// The one edit that mends `text`.
fn rewritten(request: &str, text: &str) -> String {
    let findings = check(request, text);
    match findings.first().and_then(|finding| finding.repair.clone()) {
        Some(Repair::Rewrite(text)) => text,
        other => panic!("{request}: {other:?}"),
    }
}

fn constrained(request: &str, text: &str) -> Regex {
    let repairs = check(request, text)
        .into_iter()
        .filter_map(|finding| finding.repair);
    let regex = repairs.into_iter().find_map(|repair| match repair {
        Repair::Constrain(Constraint::Regex(regex)) => Some(regex),
        _ => None,
    });
    whole(&regex.unwrap_or_else(|| panic!("{request}: nothing is enforced")))
}

fn whole(regex: &str) -> Regex {
    Regex::new(&format!("^(?:{regex})$")).unwrap_or_else(|e| panic!("{regex}: {e}"))
}

/// What stays, what is put after it, and what the whole must match.
fn resumed(request: &str, text: &str) -> (String, String, Regex) {
    let findings = check(request, text);
    match findings.first().and_then(|finding| finding.repair.clone()) {
        Some(Repair::Resume {
            keep,
            insert,
            constraint: Some(Constraint::Regex(regex)),
        }) => (text[..keep].to_owned(), insert, whole(&regex)),
        other => panic!("{request}: {other:?}"),
    }
}

#[test]
fn edits_mend_and_read_well() {
    for (request, wrong, mended) in [
        (
            "Is the sun a star? Answer yes or no.",
            "The answer is yes.",
            "Yes",
        ),
        (
            "Is the sun a star? Answer yes or no.",
            "Yes, it is a star, no doubt.",
            "Yes",
        ),
        (
            "¿Es el sol una estrella? Responde sí o no.",
            "La respuesta es sí.",
            "Sí",
        ),
        (
            "Answer in one word: what colour is the sky?",
            "The sky is blue.",
            "Blue",
        ),
        ("Tell me a joke in all caps.", "Why not?", "WHY NOT?"),
        (
            "Write a greeting in all lowercase letters.",
            "Hello Ana.",
            "hello ana.",
        ),
        (
            "Write a message without exclamation marks.",
            "Hello! Good day!!",
            "Hello. Good day.",
        ),
        (
            "Put your answer in double quotes. What is light?",
            "A \"wave\".",
            "\"A 'wave'.\"",
        ),
        (
            "What are the primary colours? No commas.",
            "They are red, blue, and green.",
            "They are red and blue and green.",
        ),
        (
            "Explain rain. Do not use any commas in your response.",
            "However, it falls, as water, on 1,000 hills.",
            "However it falls – as water – on 1000 hills.",
        ),
        (
            "Tell me about Rome in two sentences.",
            "It is old. It is far. It is big.",
            "It is old. It is far.",
        ),
        (
            "Explain rain in at most 6 words.",
            "Water falls from clouds. It then makes the ground wet.",
            "Water falls from clouds.",
        ),
        (
            "Describe the sea in exactly five words.",
            "The sea. It is deep, cold and very old. I love the big sea.",
            "I love the big sea.",
        ),
        (
            "Write 2 paragraphs about coffee.",
            "One.\n\nTwo.\n\nThree.",
            "One.\n\nTwo. Three.",
        ),
        (
            "Write 2 paragraphs about coffee.",
            "It is hot. It is black. We like it. All day.",
            "It is hot. It is black.\n\nWe like it. All day.",
        ),
        (
            "Write a poem of exactly 2 lines about rain.",
            "Rain\nfalls\nhere",
            "Rain\nfalls",
        ),
        (
            "Give me three bullet points on walking.",
            "It is fun. It is free. It is good.",
            "- It is fun.\n- It is free.\n- It is good.",
        ),
        (
            "Give me two bullet points on walking.",
            "Here:\n\n- a\n- b\n- c",
            "Here:\n\n- a\n- b",
        ),
        (
            "Give me three bullet points on fruit.",
            "Fruits: apples, pears and plums.",
            "- apples\n- pears\n- plums",
        ),
        (
            "How do I cook rice? Answer with a numbered list.",
            "- Wash it.\n- Cook it.",
            "1. Wash it.\n2. Cook it.",
        ),
        (
            "Tell me a story. Begin with \"Once upon a time\".",
            "The fox ran.",
            "Once upon a time, the fox ran.",
        ),
        (
            "Tell me a story. Begin with \"Once upon a time\".",
            "Sure! Once upon a time a fox ran.",
            "Once upon a time a fox ran.",
        ),
        (
            "Write a letter. End it with \"Yours, Tom\".",
            "Hello there.",
            "Hello there. Yours, Tom",
        ),
        (
            "Write a letter. End it with \"Yours, Tom\".",
            "Hello there.\nYours, Tom\nThis letter is short.",
            "Hello there.\nYours, Tom",
        ),
        (
            "Tell me about the Eiffel Tower in JSON.",
            "Sure!\n```json\n{\"a\": 1}\n```\nBye.",
            "{\"a\": 1}",
        ),
        (
            "Compare Mars and Venus in a table.",
            "Mars: red\nVenus: hot",
            "| Item | Description |\n| --- | --- |\n| Mars | red |\n| Venus | hot |",
        ),
        (
            "Write a short article on bees with a title.",
            "They fly.",
            "# Bees\n\nThey fly.",
        ),
        (
            "Describe fire. Do not use the word hot.",
            "It burns. It is hot. It glows.",
            "It burns. It glows.",
        ),
        (
            "Write an article about bread. It should have 2 sections.",
            "Old.\n\nGood.",
            "Section 1\nOld.\n\nSection 2\nGood.",
        ),
    ] {
        let out = rewritten(request, wrong);
        assert_eq!(out, mended, "{request}");
        assert!(check(request, &out).is_empty(), "{request}: {out}");
    }
    let repeat = "What is the largest ocean? First repeat the question, then answer.";
    assert_eq!(
        rewritten(repeat, "The Pacific."),
        "What is the largest ocean?\n\nThe Pacific."
    );
}

#[test]
fn what_decoding_enforces_is_what_was_asked() {
    for (request, wrong, right, refused) in [
        (
            "Describe the sea in exactly four words.",
            "It is very deep and blue.",
            "Deep blue and cold.",
            "Deep blue cold.",
        ),
        (
            "Explain rain in at most 5 words.",
            "Rain is water that falls from the clouds.",
            "Water falls down.",
            "Water falls down on to all of us.",
        ),
        (
            "Describe the sea in exactly four words, all in lowercase.",
            "It is very deep and blue.",
            "deep blue and cold.",
            "Deep blue and cold.",
        ),
        (
            "Is the sun a star? Answer yes or no.",
            "It depends.",
            "No",
            "Maybe",
        ),
        (
            "Respond with exactly one of: low, medium, high. How risky is skydiving?",
            "It depends.",
            "Medium",
            "Some",
        ),
        (
            "Give me three bullet points on walking.",
            "Walking helps.",
            "- It is fun\n- It is free\n- It helps",
            "- It is fun",
        ),
        (
            "Compare Mars and Venus in a table.",
            "Mars is red.",
            "| Planet | Colour |\n| --- | --- |\n| Mars | red |\n| Venus | white |",
            "Mars is red.",
        ),
        (
            "Write a sentence about dogs without the letter e.",
            "The dog sleeps here.",
            "A dog runs with joy.",
            "The dog runs.",
        ),
        (
            "Write a poem of exactly 2 lines about rain.",
            "Rain",
            "Rain falls down\nOn my town.",
            "Rain falls down",
        ),
        (
            "Write a poem of exactly 2 lines about rain, no commas.",
            "Rain",
            "Rain falls down\nOn my town.",
            "Rain, falls down\nOn my town.",
        ),
    ] {
        let regex = match check(request, wrong)[0].repair.clone() {
            Some(Repair::Resume { .. }) => continue,
            _ => constrained(request, wrong),
        };
        assert!(regex.is_match(right), "{request}: {regex}");
        assert!(!regex.is_match(refused), "{request}: {regex}");
        assert!(check(request, right).is_empty(), "{request}: {right}");
    }
}

#[test]
fn what_goes_on_ends_when_nothing_is_missing() {
    for (request, text, more, refused) in [
        (
            "Compare cats and dogs. Your response should contain at least 3 sentences.",
            "Cats sleep a lot.",
            "Dogs run all day. Both are nice.",
            "Dogs run all day.",
        ),
        (
            "Tell me about Rome in two sentences.",
            "It is old",
            "It is in Italy.",
            "It is in Italy. It is big.",
        ),
        (
            "Give me three bullet points on walking.",
            "- It is fun\n- It is free",
            "It helps",
            "It helps\n- More",
        ),
        (
            "Write a numbered list of three steps to plant a tree.",
            "1. Dig\n2. Plant",
            "Water it",
            "Water it\n4. Wait",
        ),
        (
            "Write a story about rain. It must contain the word \"moon\".",
            "It rained all night.",
            "Then the moon came out.",
            "Then the sun came out.",
        ),
        (
            "Write a letter to my aunt and add a postscript starting with P.S.",
            "Dear aunt.",
            "I miss you so much.",
            "No",
        ),
        (
            "Write a contract with at least 2 placeholders.",
            "We agree.",
            "Name: [your name]\nDate: [date]",
            "Name: [name]",
        ),
        (
            "Write at least 8 words about tea.",
            "Tea is hot.",
            "People all over the world drink it.",
            "Yes.",
        ),
        (
            "Write 2 paragraphs about coffee.",
            "It is hot.",
            "Coffee comes from beans. We roast them.",
            "Hm.",
        ),
    ] {
        let (kept, insert, regex) = resumed(request, text);
        let out = format!("{kept}{insert}{more}");
        assert!(regex.is_match(&out), "{request}: {out:?} {regex}");
        assert!(
            !regex.is_match(&format!("{kept}{insert}{refused}")),
            "{request}: {regex}"
        );
        assert!(check(request, &out).is_empty(), "{request}: {out:?}");
    }
}

#[test]
fn an_answer_that_was_cut_goes_on_from_its_last_whole_sentence() {
    let request = "Compare cats and dogs. Your response should contain at least 3 sentences.";
    let text = "Cats sleep a lot. Dogs are";
    let repair = check_as(request, text, Finish::Length)[0].repair.clone();
    let Some(Repair::Resume { keep, insert, .. }) = repair else {
        panic!("{repair:?}")
    };
    assert_eq!((&text[..keep], insert.as_str()), ("Cats sleep a lot.", " "));
}

#[test]
fn an_edit_breaks_no_other_wish() {
    // The postscript would be cut away, so nothing is cut.
    let request = "Write a letter to my aunt with a postscript starting with P.S. Use at most 2 sentences.";
    let text = "Dear aunt. I am well. The sun is out.\n\nP.S. Bye now.";
    for finding in check(request, text) {
        if let Some(Repair::Rewrite(out)) = finding.repair {
            assert!(out.contains("P.S."), "{out}");
        }
    }
    let request = "Describe a dog in lower case and at most 6 words.";
    let regex = constrained(
        request,
        "The dog is a big and friendly animal that barks at all of us.",
    );
    assert!(regex.is_match("a big and friendly animal.") && !regex.is_match("A big and friendly animal."));
}

#[test]
fn what_is_enforced_is_written_in_the_letters_of_the_request() {
    let draft = "The sea is wide.";
    let (kept, insert, regex) = resumed("Describe the sea in exactly two sentences.", draft);
    let goes_on = |more: &str| regex.is_match(&format!("{kept}{insert}{more}"));
    assert!(goes_on("It’s a “café” of 20 €, señor – and naïve."));
    assert!(!goes_on("\u{2145}n end of it all.") && !goes_on("It is a wide 🎵 sea."));
    for request in [
        "Describe the sea in exactly two sentences, with an emoji.",
        "Describe the sea (море) in exactly two sentences.",
        "Describe the sea in exactly two sentences, the second in Russian.",
    ] {
        let (kept, insert, regex) = resumed(request, draft);
        assert!(
            regex.is_match(&format!("{kept}{insert}Море очень широкое 🎵 сегодня.")),
            "{request}"
        );
    }
}
