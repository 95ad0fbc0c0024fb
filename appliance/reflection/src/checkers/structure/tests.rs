//! What the structure checkers find and mend, and what they must leave alone.

use super::*;
use crate::critique::Language;
use crate::generate::{Finish, Speaker, Turn};
use proptest::prelude::*;

fn repaired(checker: &dyn Checker, request: &str, text: &str) -> String {
    let request = [Turn::new(Speaker::User, request)];
    let subject = Subject {
        request: &request,
        text,
        finish: Finish::Stop,
        language: Language::of_request(&request),
    };
    match checker
        .check(&subject)
        .first()
        .map(|finding| finding.repair.clone())
    {
        None => "sound".to_owned(),
        Some(Some(Repair::Rewrite(mended))) => {
            let again = Subject {
                text: &mended,
                ..subject
            };
            assert_eq!(checker.check(&again), [], "{mended}");
            mended
        }
        Some(other) => format!("{other:?}"),
    }
}

#[test]
fn fences_are_closed() {
    for (text, expected) in [
        ("```rust\nfn a() {}\n", "```rust\nfn a() {}\n```"),
        ("```rust\nfn a() {}\n``", "```rust\nfn a() {}\n```"),
        ("~~~~\na", "~~~~\na\n~~~~"),
        ("```\na\n```\nText", "sound"),
        ("Use ``` to fence.", "sound"),
        ("```a``` b", "sound"),
    ] {
        assert_eq!(repaired(&Fences, "Go", text), expected, "{text}");
    }
}

#[test]
fn blocks_of_json_are_valid() {
    for (text, expected) in [
        ("```json\n{\"a\": 1}\n```", "sound"),
        ("```json\n{\"a\": [1, 2,],}\n```", "```json\n{\"a\": [1, 2]}\n```"),
        ("```json\n{\"a\": }\n```", "None"),
        ("```json\n{\"a\": 1, ...}\n```", "sound"),
        ("```json\n{\"a\": 1} // one\n```", "sound"),
        ("```json\n{\"a\": 1}\n{\"a\": 2}\n```", "sound"),
        ("```\n{a: }\n```", "sound"),
        ("{a: }", "sound"),
    ] {
        let got = repaired(&Json, "Go", text);
        assert!(
            got == expected || got == format!("Some({expected})"),
            "{text}: {got}"
        );
    }
}

#[test]
fn markup_is_balanced() {
    for (text, expected) in [
        ("<div><p>Hello</p>", "<div><p>Hello</p></div>"),
        ("<ul><li>a<li>b</ul>", "sound"),
        ("<p>a<br>b</p>", "sound"),
        (
            "```html\n<div><span>a</span>\n```",
            "```html\n<div><span>a</span></div>\n```",
        ),
        ("if a <b and c> d", "sound"),
        ("<b>a</i></b>", "sound"),
        ("Vec<u8> and <T>", "sound"),
        ("<x><y></y>", "sound"),
        ("It is **bold\n\nNext", "It is **bold**\n\nNext"),
        ("It is **bold** and 2 ** 3", "sound"),
        ("**a** **b**", "sound"),
        ("a ** b", "sound"),
    ] {
        assert_eq!(repaired(&Markup, "Go", text), expected, "{text}");
    }
}

#[test]
fn depth_and_length_are_survived() {
    for text in [
        "<div>".repeat(1 << 17),
        "**a ".repeat(1 << 17),
        "[".repeat(1 << 19),
        "{\"a\":".repeat(1 << 17),
        "```\n".repeat(1 << 17),
        "<!--".repeat(1 << 17),
        "<script>".repeat(1 << 16),
    ] {
        for checker in [&Fences as &dyn Checker, &Json, &Markup] {
            let _ = repaired(checker, "Go", &text);
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_survived(text in any::<String>(), shaped in "[<>/a-c*`\n{}\\[\\]\":,1 é\u{5d0}]{0,60}") {
        for checker in [&Fences as &dyn Checker, &Json, &Markup] {
            let _ = repaired(checker, "Go", &text);
            let _ = repaired(checker, "Go", &shaped);
        }
    }
}
