//! What is accepted, and what is refused by which name.

use super::*;
use proptest::prelude::*;
use sarai_reflection::Speaker;
use serde_json::json;

fn parse(value: Value) -> Result<Chat, ApiError> {
    let Value::Object(map) = value else {
        panic!("not an object")
    };
    Chat::parse(map)
}

/// A minimal request with these members added.
fn with(more: Value) -> Value {
    let mut body = json!({"model": "sarai", "messages": [{"role": "user", "content": "Hi"}]});
    let (Some(body_map), Value::Object(more)) = (body.as_object_mut(), more) else {
        panic!("not an object")
    };
    body_map.extend(more);
    body
}

fn messages(messages: &Value) -> Result<Chat, ApiError> {
    parse(json!({"model": "sarai", "messages": messages}))
}

#[test]
fn a_minimal_request_has_the_documented_defaults() {
    let chat = parse(with(json!({}))).unwrap();
    assert_eq!(
        chat.sampling,
        Sampling {
            temperature: 0.7,
            top_p: 0.95,
            seed: None
        }
    );
    assert_eq!(
        (chat.effort, chat.max_tokens, chat.stream),
        (Effort::Medium, None, false)
    );
    assert!(
        chat.store,
        "an answer may be judged unless its client says otherwise"
    );
    assert!(chat.stop.is_empty() && !chat.logprobs && !chat.include_usage);
    assert_eq!(chat.turns, [Turn::new(Speaker::User, "Hi")]);
}

#[test]
fn everything_supported_is_accepted() {
    let chat = parse(json!({
        "model": "m",
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "developer", "content": [{"type": "text", "text": "D1"}, {"type": "text", "text": "D2"}]},
            {"role": "user", "content": ""},
            {"role": "assistant", "content": "A", "refusal": null, "tool_calls": null, "audio": null,
             "annotations": [], "reasoning_content": "drafts"},
            {"role": "user", "content": "U\u{0}\u{1F600}"}
        ],
        "max_tokens": 5, "max_completion_tokens": 5, "temperature": 0, "top_p": 1, "seed": -1,
        "stop": ["a", "b", "c", "d"], "n": 1, "logprobs": true, "top_logprobs": 20, "stream": true,
        "stream_options": {"include_usage": true}, "reasoning_effort": "high",
        "response_format": {"type": "text"}, "user": "me", "metadata": {"a": "b"}, "store": false,
        "tools": null, "frequency_penalty": null
    }))
    .unwrap();
    assert_eq!(
        chat.turns.iter().map(|t| t.speaker).collect::<Vec<_>>(),
        [
            Speaker::System,
            Speaker::System,
            Speaker::User,
            Speaker::Assistant,
            Speaker::User
        ]
    );
    assert!(!chat.store);
    assert_eq!(chat.turns[1].text, "D1D2");
    assert_eq!(
        chat.sampling,
        Sampling {
            temperature: 0.0,
            top_p: 1.0,
            seed: Some(u64::MAX)
        }
    );
    assert_eq!(
        (chat.max_tokens, chat.top_logprobs, chat.effort),
        (Some(5), 20, Effort::High)
    );
    assert!(chat.stream && chat.include_usage && chat.logprobs);
    assert_eq!(chat.stop.len(), 4);
    for effort in ["none", "minimal", "low", "medium", "high"] {
        parse(with(json!({"reasoning_effort": effort}))).unwrap();
    }
    assert_eq!(parse(with(json!({"stop": "END"}))).unwrap().stop, ["END"]);
    assert_eq!(
        parse(with(json!({"seed": u64::MAX}))).unwrap().sampling.seed,
        Some(u64::MAX)
    );
    assert_eq!(parse(with(json!({"max_tokens": 7}))).unwrap().max_tokens, Some(7));
}

#[test]
fn what_is_wrong_is_refused_by_its_name() {
    let long = "x".repeat(257);
    for (more, param) in [
        (json!({"temperature": 2.01}), "temperature"),
        (json!({"temperature": -0.1}), "temperature"),
        (json!({"temperature": "NaN"}), "temperature"),
        (json!({"temperature": true}), "temperature"),
        (json!({"top_p": 0}), "top_p"),
        (json!({"top_p": 1.1}), "top_p"),
        (json!({"top_p": 1e-60}), "top_p"),
        (json!({"seed": 1.5}), "seed"),
        (json!({"seed": "1"}), "seed"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"max_tokens": 1.5}), "max_tokens"),
        (json!({"max_tokens": 1e12}), "max_tokens"),
        (json!({"max_tokens": 1, "max_completion_tokens": 2}), "max_tokens"),
        (json!({"max_completion_tokens": "5"}), "max_completion_tokens"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
        (json!({"stop": ""}), "stop"),
        (json!({"stop": [1]}), "stop"),
        (json!({"stop": [long]}), "stop"),
        (json!({"stop": {}}), "stop"),
        (json!({"n": 2}), "n"),
        (json!({"n": 0}), "n"),
        (json!({"logprobs": 1}), "logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        (json!({"top_logprobs": 2}), "top_logprobs"),
        (json!({"stream": "yes"}), "stream"),
        (
            json!({"stream_options": {"include_usage": true}}),
            "stream_options",
        ),
        (
            json!({"stream": true, "stream_options": {"include_usage": 1}}),
            "stream_options.include_usage",
        ),
        (
            json!({"stream": true, "stream_options": {"x": 1}}),
            "stream_options.x",
        ),
        (json!({"stream": true, "stream_options": []}), "stream_options"),
        (json!({"reasoning_effort": "extreme"}), "reasoning_effort"),
        (json!({"reasoning_effort": 3}), "reasoning_effort"),
        (
            json!({"response_format": {"type": "json_object", "json_schema": {}}}),
            "response_format.json_schema",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {}}}),
            "response_format.json_schema.schema",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "extra": 1}}}),
            "response_format.json_schema.extra",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"title": "x".repeat(70_000)}}}}),
            "response_format.json_schema.schema",
        ),
        (
            json!({"response_format": {"type": "xml"}}),
            "response_format.type",
        ),
        (json!({"response_format": "text"}), "response_format"),
        (json!({"response_format": {}}), "response_format.type"),
        (json!({"store": true}), "store"),
        (json!({"store": "no"}), "store"),
        (json!({"user": 1}), "user"),
        (json!({"metadata": {"a": 1}}), "metadata"),
        (json!({"frequency_penalty": 0.5}), "frequency_penalty"),
        (json!({"presence_penalty": 0.5}), "presence_penalty"),
        (json!({"logit_bias": {"1": 2}}), "logit_bias"),
        (json!({"tools": []}), "tools"),
        (json!({"tool_choice": "auto"}), "tool_choice"),
        (json!({"functions": []}), "functions"),
        (json!({"parallel_tool_calls": true}), "parallel_tool_calls"),
        (json!({"modalities": ["audio"]}), "modalities"),
        (json!({"audio": {}}), "audio"),
        (json!({"prediction": {}}), "prediction"),
        (json!({"service_tier": "auto"}), "service_tier"),
        (json!({"web_search_options": {}}), "web_search_options"),
        (json!({"temprature": 1}), "temprature"),
        (json!({"temprature": null}), "temprature"),
        (json!({"model": 1}), "model"),
        (json!({"model": ""}), "model"),
        (json!({"model": null}), "model"),
        (json!({"messages": null}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "Hi"}), "messages"),
    ] {
        let error = parse(with(more.clone())).expect_err(&more.to_string());
        assert_eq!(
            (error.status.as_u16(), error.param.as_deref()),
            (400, Some(param)),
            "{more} {error}"
        );
        assert!(error.message.contains(param), "{error}");
    }
}

#[test]
fn what_is_wrong_in_a_conversation_is_refused_by_its_place() {
    for (message, param) in [
        (json!("Hi"), "messages[1]"),
        (json!({"content": "Hi"}), "messages[1].role"),
        (json!({"role": "wizard", "content": "Hi"}), "messages[1].role"),
        (json!({"role": "tool", "content": "Hi"}), "messages[1].role"),
        (json!({"role": 7, "content": "Hi"}), "messages[1].role"),
        (json!({"role": "user"}), "messages[1].content"),
        (json!({"role": "user", "content": 7}), "messages[1].content"),
        (json!({"role": "user", "content": []}), "messages[1].content"),
        (
            json!({"role": "user", "content": ["Hi"]}),
            "messages[1].content[0]",
        ),
        (
            json!({"role": "user", "content": [{"text": "Hi"}]}),
            "messages[1].content[0].type",
        ),
        (
            json!({"role": "user", "content": [{"type": "text"}]}),
            "messages[1].content[0].text",
        ),
        (
            json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}),
            "messages[1].content[0].type",
        ),
        (
            json!({"role": "user", "content": [{"type": "input_audio"}]}),
            "messages[1].content[0].type",
        ),
        (
            json!({"role": "user", "content": [{"type": "text", "text": "", "x": 1}]}),
            "messages[1].content[0].x",
        ),
        (
            json!({"role": "user", "content": "Hi", "name": "bob"}),
            "messages[1].name",
        ),
        (
            json!({"role": "user", "content": "Hi", "reasoning_content": "x"}),
            "messages[1].reasoning_content",
        ),
        (
            json!({"role": "assistant", "content": null, "tool_calls": [{}]}),
            "messages[1].tool_calls",
        ),
    ] {
        let error = messages(&json!([{"role": "user", "content": "x"}, message])).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{message} {error}");
    }
    let many = vec![json!({"role": "user", "content": "x"}); 2049];
    assert_eq!(
        messages(&json!(many)).unwrap_err().param.as_deref(),
        Some("messages")
    );
}

#[test]
fn strange_names_are_quoted_short() {
    let error = parse(with(json!({ "x".repeat(5000): 1 }))).unwrap_err();
    assert!(error.message.len() < 200 && error.param.unwrap().len() == 64);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(Value::from("user")),
        Just(Value::from("text")),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let name = prop_oneof![
            Just("role".into()),
            Just("content".into()),
            Just("type".into()),
            any::<String>()
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(name, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

#[test]
fn a_response_format_becomes_a_constraint() {
    let of = |format| {
        parse(with(json!({ "response_format": format })))
            .unwrap()
            .constraint
    };
    assert_eq!(of(json!({"type": "text"})), None);
    assert_eq!(of(json!({"type": "json_object"})), Some(Constraint::JsonObject));
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let wrapped =
        json!({"type": "json_schema", "json_schema": {"name": "place", "strict": true, "schema": schema}});
    assert_eq!(of(wrapped), Some(Constraint::JsonSchema(schema)));
}

proptest! {
    #[test]
    fn any_values_are_accepted_within_bounds_or_refused(
        name in prop_oneof![
            Just("temperature"), Just("top_p"), Just("messages"), Just("stop"), Just("seed"), Just("n"),
            Just("max_tokens"), Just("stream_options"), Just("metadata"), Just("response_format"), Just("model")
        ],
        value in any_json(),
    ) {
        match parse(with(json!({ name: value }))) {
            Ok(chat) => {
                prop_assert!((0.0..=2.0).contains(&chat.sampling.temperature));
                prop_assert!(chat.sampling.top_p > 0.0 && chat.sampling.top_p <= 1.0);
                prop_assert!(!chat.turns.is_empty() && chat.stop.len() <= 4);
            }
            Err(error) => prop_assert_eq!(error.status.as_u16(), 400),
        }
    }
}

#[test]
fn turns_are_left_out_only_where_the_client_says_so() {
    assert!(!parse(with(json!({}))).unwrap().truncate);
    for (value, expected) in [
        (json!("auto"), true),
        (json!("disabled"), false),
        (json!(null), false),
    ] {
        assert_eq!(
            parse(with(json!({ "truncation": value }))).unwrap().truncate,
            expected
        );
    }
    for (value, code) in [
        (json!("oldest"), "invalid_value"),
        (json!(true), "invalid_type"),
        (json!({}), "invalid_type"),
    ] {
        let error = parse(with(json!({ "truncation": value }))).unwrap_err();
        assert_eq!((error.param.as_deref(), error.code), (Some("truncation"), code));
    }
}
