//! A real engine on made-up models: answers that must match something.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use sarai_wire::engine::{Constraint, ErrorKind, FinishReason, Generate, Sampling};
use serde_json::{Value, json};
use support::{Engine, Tiny, small, user};

fn engine() -> Engine {
    Engine::tiny(&Tiny::default(), small())
}

fn bound(constraint: Constraint) -> Generate {
    Generate {
        constraint: Some(constraint),
        max_tokens: Some(200),
        ..user("hello")
    }
}

fn regex(pattern: &str) -> Constraint {
    Constraint::Regex {
        pattern: pattern.into(),
    }
}

fn warm(seed: u64) -> Sampling {
    Sampling {
        temperature: 1.0,
        top_p: 1.0,
        seed: Some(seed),
    }
}

#[test]
fn an_expression_is_matched_to_its_end_and_nothing_follows() {
    let engine = engine();
    for seed in 0..6 {
        let outcome = engine.ask(Generate {
            sampling: warm(seed),
            ..bound(regex(r"^(yes|no), [0-9]{3}-[a-f]{2}\.$"))
        });
        let text = outcome.text();
        assert_eq!(outcome.done().finish_reason, FinishReason::Stop, "{text}");
        let rest = text
            .strip_prefix("yes, ")
            .or_else(|| text.strip_prefix("no, "))
            .unwrap();
        let (digits, letters) = rest.strip_suffix('.').unwrap().split_once('-').unwrap();
        assert!(
            digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()),
            "{text}"
        );
        assert!(
            letters.len() == 2 && letters.bytes().all(|b| (b'a'..=b'f').contains(&b)),
            "{text}"
        );
    }
}

#[test]
fn reported_probabilities_are_those_of_the_unmodified_distribution() {
    let engine = engine();
    let free = engine.ask(Generate {
        top_logprobs: 20,
        ..user("hello")
    });
    let forced = engine.ask(Generate {
        top_logprobs: 20,
        ..bound(regex("[qz]{4}"))
    });
    let (free, forced) = (&free.tokens[0], &forced.tokens[0]);
    assert_eq!(free.top[0].bytes, forced.top[0].bytes);
    assert!((free.top[0].logprob - forced.top[0].logprob).abs() < 1e-3);
    assert!(forced.logprob < free.logprob);
}

#[test]
fn json_is_json_and_white_space_is_bounded() {
    let engine = engine();
    let schema = json!({
        "type": "object",
        "properties": {
            "zebra": { "type": "integer", "minimum": 0, "maximum": 99 },
            "ape": { "enum": ["red", "green"] },
            "list": { "type": "array", "items": { "type": "boolean" }, "minItems": 1, "maxItems": 3 }
        },
        "required": ["zebra", "ape", "list"],
        "additionalProperties": false
    });
    for seed in 0..6 {
        let outcome = engine.ask(Generate {
            sampling: warm(seed),
            ..bound(Constraint::JsonSchema {
                schema: schema.clone(),
            })
        });
        let text = outcome.text();
        assert_eq!(outcome.done().finish_reason, FinishReason::Stop, "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(value["zebra"].as_u64().unwrap() <= 99);
        assert!(["red", "green"].contains(&value["ape"].as_str().unwrap()));
        assert!((1..=3).contains(&value["list"].as_array().unwrap().len()));
        // In the order of the schema.
        assert!(text.find("zebra") < text.find("ape"), "{text}");
        assert!(!text.contains("  \n") && !text.contains("\n\n"), "{text:?}");
    }
    // Any object; a model without sense may well not come to its end.
    let outcome = engine.ask(bound(Constraint::JsonObject));
    assert!(outcome.text().starts_with('{'));
}

#[test]
fn a_grammar_is_followed() {
    let engine = engine();
    let grammar = "start: item (\",\" item)* \".\"\nitem: \"ab\" | \"cd\" item?\n";
    let outcome = engine.ask(Generate {
        sampling: warm(3),
        ..bound(Constraint::Lark {
            grammar: grammar.into(),
        })
    });
    let text = outcome.text();
    let inside = text.strip_suffix('.').unwrap_or(&text);
    assert!(text.bytes().all(|byte| b"abcd,.".contains(&byte)), "{text}");
    assert!(inside.starts_with("ab") || inside.starts_with("cd"), "{text}");
}

#[test]
fn a_prefix_is_part_of_what_must_match() {
    let engine = engine();
    let outcome = engine.ask(Generate {
        prefix: "no, 12".into(),
        ..bound(regex("(yes|no), [0-9]{3}"))
    });
    assert_eq!(outcome.text().len(), 1);
    assert!(outcome.text().bytes().all(|byte| byte.is_ascii_digit()));
    let refused = engine.ask(Generate {
        prefix: "maybe".into(),
        ..bound(regex("(yes|no), [0-9]{3}"))
    });
    assert!(refused.refused(ErrorKind::Invalid).contains("prefix"));
    // A prefix that is the whole answer already.
    let whole = engine.ask(Generate {
        prefix: "no, 123".into(),
        ..bound(regex("(yes|no), [0-9]{3}"))
    });
    assert_eq!(whole.done().finish_reason, FinishReason::Stop);
    assert_eq!((whole.text().as_str(), whole.done().completion_tokens), ("", 0));
}

#[test]
fn the_end_of_the_answer_is_allowed_only_where_it_is_complete() {
    // The made-up model hardly ever ends by itself; with nothing else allowed it must.
    let engine = engine();
    let outcome = engine.ask(bound(regex("a{5}(b{3})?")));
    assert!(["aaaaa", "aaaaabbb"].contains(&outcome.text().as_str()));
    let cut = engine.ask(Generate {
        max_tokens: Some(3),
        ..bound(regex("a{5}"))
    });
    assert_eq!(cut.done().finish_reason, FinishReason::Length);
    assert_eq!(cut.text(), "aaa");
}

#[test]
fn what_cannot_be_enforced_is_refused_with_a_reason() {
    let engine = engine();
    let cases = [
        (regex("a(?=b)"), ""),
        (regex("("), ""),
        (regex(""), "bytes"),
        (regex(r"[a&&b]"), "no text"),
        (Constraint::JsonSchema { schema: json!(false) }, "no text"),
        (Constraint::JsonSchema { schema: json!(7) }, "object"),
        (
            Constraint::JsonSchema {
                schema: json!({ "type": "string", "minLength": 5, "maxLength": 2 }),
            },
            "nsatisfiable",
        ),
        (
            Constraint::JsonSchema {
                schema: json!({ "type": "integer", "minimum": 5, "maximum": 2 }),
            },
            "nsatisfiable",
        ),
        (
            Constraint::JsonSchema {
                schema: json!({ "$ref": "https://example.com/other.json" }),
            },
            "",
        ),
        (
            Constraint::Lark {
                grammar: "start:".repeat(20),
            },
            "",
        ),
        (
            Constraint::Lark {
                grammar: "start: start \"a\"".into(),
            },
            "no text",
        ),
        (
            Constraint::Lark {
                grammar: "start: other".into(),
            },
            "other",
        ),
        (
            Constraint::Lark {
                grammar: "start: <|im_end|> \"a\"".into(),
            },
            "",
        ),
    ];
    for (constraint, word) in cases {
        let outcome = engine.ask(bound(constraint.clone()));
        let message = outcome.refused(ErrorKind::Invalid);
        assert!(
            message.starts_with("failed to use the constraint"),
            "{constraint:?}: {message}"
        );
        assert!(message.contains(word), "{constraint:?}: {message}");
        assert!(message.len() < 400 && !message.contains('\n'), "{message}");
    }
    assert_eq!(engine.ask(user("hi")).done().completion_tokens, 24);
}

/// Grammars that were made to hurt.
fn hostile() -> Vec<(&'static str, Constraint)> {
    let lark = |grammar: String| Constraint::Lark { grammar };
    let schema = |schema: Value| Constraint::JsonSchema { schema };
    let mut deep = json!({ "type": "integer" });
    for _ in 0..50 {
        deep = json!({ "type": "object", "properties": { "a": deep }, "required": ["a"] });
    }
    let wide: Vec<Value> = (0..3000).map(|n| json!(format!("word {n} {}", n * 7))).collect();
    let all: Vec<Value> = (0..200)
        .map(|n| json!({ "anyOf": [{ "minLength": n }, { "pattern": format!("a.{{{n}}}b") }] }))
        .collect();
    let any: Vec<Value> = (0..400)
        .map(|n| json!({ "type": "object", "properties": { format!("p{n}"): { "type": "string" } } }))
        .collect();
    let chain: String = (0..5000).map(|n| format!("R{n}: R{}\n", n + 1)).collect();
    let rules: String = (0..5000).map(|n| format!("r{n}: r{}\n", n + 1)).collect();
    let doubling: String = (0..60).map(|n| format!("R{n}: R{0} R{0}\n", n + 1)).collect();
    let halves: String = (0..60).map(|n| format!("r{n}: r{0} r{0}\n", n + 1)).collect();
    vec![
        ("nested counts", regex("((a{1,1000}){1,1000}){1,1000}")),
        (
            "nested stars",
            regex(&format!("{}a{}b", "(".repeat(100), ")*".repeat(100))),
        ),
        ("a far choice", regex(&format!("(a|b)*a(a|b){{{}}}", 5000))),
        ("a large class", regex(&r"[\p{L}\p{N}&&[^a]]".repeat(2000))),
        ("a long text", regex(&"abcdefgh".repeat(8000))),
        (
            "many choices",
            regex(&(0..8000).map(|n| n.to_string()).collect::<Vec<_>>().join("|")),
        ),
        ("dots", regex(&".*a".repeat(10_000))),
        ("deep schema", schema(deep)),
        ("wide schema", schema(json!({ "enum": wide }))),
        ("all of any", schema(json!({ "type": "string", "allOf": all }))),
        ("any of objects", schema(json!({ "anyOf": any }))),
        ("itself", schema(json!({ "$ref": "#" }))),
        (
            "itself and itself",
            schema(
                json!({ "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/a" }] } }, "$ref": "#/$defs/a" }),
            ),
        ),
        (
            "long strings",
            schema(json!({ "type": "string", "minLength": 1_000_000 })),
        ),
        (
            "long lists",
            schema(json!({ "type": "array", "items": { "type": "string" }, "minItems": 1_000_000 })),
        ),
        (
            "huge numbers",
            schema(json!({ "type": "integer", "minimum": -9e300, "maximum": 9e300, "multipleOf": 7919 })),
        ),
        (
            "a chain of terminals",
            lark(format!("start: R0\n{chain}R5000: \"a\"\n")),
        ),
        (
            "a chain of rules",
            lark(format!("start: r0\n{rules}r5000: \"a\"\n")),
        ),
        (
            "doubling terminals",
            lark(format!("start: R0\n{doubling}R60: \"a\"\n")),
        ),
        ("doubling rules", lark(format!("start: r0\n{halves}r60: \"a\"\n"))),
        ("ambiguity", lark("start: start start | \"a\" | \"\"\n".into())),
        (
            "brackets",
            lark(format!(
                "start: {}\"a\"{}",
                "(".repeat(20_000),
                ")".repeat(20_000)
            )),
        ),
        (
            "counts in rules",
            lark("start: (((\"a\"{1,500}){1,500}){1,500}){1,500}\n".into()),
        ),
        ("empty loops", lark("start: (\"\"*)* \"a\"\n".into())),
    ]
}

/// Most processor time that one constraint may cost; the worst takes half a second here.
const MOST: Duration = Duration::from_secs(30);

#[test]
fn hostile_constraints_cost_a_bounded_time_and_nothing_else() {
    let engine = engine();
    for (name, constraint) in hostile() {
        let before = engine.computed();
        let outcome = engine.ask(Generate {
            max_tokens: Some(8),
            ..bound(constraint)
        });
        let time = engine.computed() - before;
        println!(
            "{name}: {time:?} {:?}",
            outcome.end.as_ref().map(|_| outcome.text())
        );
        assert!(time < MOST, "{name}: {time:?}");
        if let Err(error) = &outcome.end {
            assert!(
                matches!(error.kind, ErrorKind::Invalid | ErrorKind::Failed),
                "{name}: {error:?}"
            );
        }
    }
    assert_eq!(engine.ask(user("hi")).done().completion_tokens, 24);
    let status = std::fs::read_to_string(format!("/proc/{}/status", engine.pid())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    println!("{peak}");
}
