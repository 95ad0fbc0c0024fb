//! Routes, keys, models, parameters and errors.

use std::sync::Arc;
use std::time::Duration;

use sarai_wire::birth::GatewaySettings;
use sarai_wire::engine::{ErrorKind, FinishReason, Message, Role};
use serde_json::{Value, json};

use crate::engine::{Script, answers};
use crate::world::{KEY, world, world_with};

fn paris() -> Script {
    answers(&[("Paris it is.", 0.95)])
}

#[test]
fn an_answer_has_openais_shape_and_the_omni_loop() {
    let world = world(paris(), None);
    let reply = world.client.chat(&json!({}));
    assert_eq!(reply.status, 200);
    assert!(reply.header("x-request-id").unwrap().starts_with("req-"));
    let body = reply.json();
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(body["object"], "chat.completion");
    assert!(body["created"].as_u64().unwrap() > 1_600_000_000);
    assert_eq!(body["model"], "big-model");
    assert_eq!(body["system_fingerprint"], "fp_0123456789ab");
    assert_eq!(
        body["choices"],
        json!([{
            "index": 0, "logprobs": null, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Paris it is.", "refusal": null}
        }])
    );
    assert_eq!(
        body["usage"],
        json!({
            "prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 0}
        })
    );
    let omni = &body["omni_loop"];
    assert_eq!(
        (&omni["iterations"], &omni["corrected"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(
        (&omni["model"], &omni["adapter"]),
        (&json!("big-model"), &Value::Null)
    );
    assert_eq!(
        (&omni["fallback"], &omni["fallback_reason"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(omni["stopped"], "confident");
    assert!(
        (omni["score"].as_f64().unwrap() - 0.95).abs() < 0.01 && omni["confidence"].as_f64().unwrap() > 0.85,
        "{omni}"
    );
    assert_eq!(omni["remaining"], json!([]));
    let step = &omni["timings"]["iterations"][0];
    assert_eq!(
        (&step["prefill_ms"], &step["decode_ms"], &step["queue_ms"]),
        (&json!(2.5), &json!(3.5), &json!(1.5))
    );
    assert!(omni["timings"]["total_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_engine_is_asked_for_exactly_what_the_client_asked() {
    let world = world(paris(), None);
    let reply = world.client.chat(&json!({
        "messages": [
            {"role": "developer", "content": "Be terse."},
            {"role": "user", "content": [{"type": "text", "text": "Capital of "}, {"type": "text", "text": "France?"}]}
        ],
        "max_completion_tokens": 9, "temperature": 0.25, "top_p": 0.5, "seed": 77, "stop": ["\n\n", "END"],
        "logprobs": true, "top_logprobs": 3
    }));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let asked = &world.primary.asked()[0];
    assert_eq!(asked.client, "first");
    assert_eq!(Some(asked.id.as_str()), reply.header("x-request-id"));
    assert_eq!(
        asked.messages,
        [
            Message {
                role: Role::System,
                content: "Be terse.".into()
            },
            Message {
                role: Role::User,
                content: "Capital of France?".into()
            }
        ]
    );
    assert_eq!((asked.max_tokens, asked.top_logprobs), (Some(9), 3));
    assert_eq!(
        asked.sampling,
        sarai_wire::engine::Sampling {
            temperature: 0.25,
            top_p: 0.5,
            seed: Some(77)
        }
    );
    assert_eq!(asked.stop, ["\n\n", "END"]);
    let tokens = reply.json()["choices"][0]["logprobs"]["content"].clone();
    assert_eq!(tokens.as_array().unwrap().len(), 3);
    assert_eq!(tokens[0]["token"], "Paris ");
    assert_eq!(tokens[0]["bytes"], json!(b"Paris "));
    // What JSON or a client's arithmetic could not hold is cut to the number OpenAI uses.
    assert_eq!(
        tokens[0]["top_logprobs"],
        json!([{"token": "alt", "logprob": -9999.0, "bytes": b"alt"}])
    );
}

#[test]
fn every_route_but_healthz_needs_a_key() {
    let world = world(paris(), None);
    let stranger = world.client.without_key();
    assert_eq!(stranger.get("/healthz").status, 200);
    for path in [
        "/readyz",
        "/metrics",
        "/v1/models",
        "/v1/models/x",
        "/nothing",
        "/",
        "/healthz/x",
    ] {
        for client in [
            &stranger,
            &world.client.with_key("wrong"),
            &world.client.with_key(""),
        ] {
            let reply = client.get(path);
            assert_eq!(
                (reply.status, reply.error_code()),
                (401, "invalid_api_key".into()),
                "{path}"
            );
            assert!(reply.header("www-authenticate").unwrap().starts_with("Bearer"));
        }
    }
    let reply = stranger.chat(&json!({}));
    assert_eq!(reply.status, 401);
    for header in ["Basic abc", KEY, "Bearer", &format!("Bearer x{KEY}")] {
        let text = format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: {header}\r\n\r\n");
        assert_eq!(stranger.send(&text).status, 401, "{header}");
    }
    let twice = format!(
        "{}authorization: Bearer x\r\n\r\n",
        world.client.head("GET", "/v1/models")
    );
    assert_eq!(world.client.send(&twice).status, 401);
    let lower = format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: bearer {KEY}\r\n\r\n");
    assert_eq!(stranger.send(&lower).status, 200);
    assert!(world.primary.asked().is_empty());
}

#[test]
fn what_is_not_there_or_not_possible_is_said_in_openais_shape() {
    let world = world(paris(), None);
    let reply = world.client.get("/v1/nothing");
    assert_eq!((reply.status, reply.error_code()), (404, "not_found".into()));
    let reply = world.client.get("/v1/chat/completions");
    assert_eq!(
        (reply.status, reply.error_code()),
        (405, "method_not_allowed".into())
    );
    assert_eq!(reply.header("allow"), Some("POST"));
    let head = world.client.head("POST", "/v1/chat/completions");
    for (header, body) in [
        ("content-type: text/plain", "{}"),
        ("content-encoding: gzip", "{}"),
    ] {
        let reply = world.client.send(&format!(
            "{head}{header}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(
            (reply.status, reply.error_code()),
            (415, "unsupported_media_type".into()),
            "{header}"
        );
    }
}

#[test]
fn models_are_listed_and_named() {
    let world = world(paris(), Some(answers(&[("Small.", 0.95)])));
    let list = world.client.get("/v1/models").json();
    let ids: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["big-model", "small-model", "sarai"]);
    assert_eq!(world.client.get("/v1/models/big-model").json()["object"], "model");
    let reply = world.client.get("/v1/models/gpt-4");
    assert_eq!(
        (reply.status, reply.error_code()),
        (404, "model_not_found".into())
    );

    assert_eq!(
        world.client.chat(&json!({"model": "big-model"})).json()["model"],
        "big-model"
    );
    let small = world.client.chat(&json!({"model": "small-model"})).json();
    assert_eq!(
        (&small["model"], &small["omni_loop"]["fallback"]),
        (&json!("small-model"), &json!(false))
    );
    let reply = world.client.chat(&json!({"model": "gpt-4"}));
    assert_eq!(
        (reply.status, reply.error_code()),
        (404, "model_not_found".into())
    );
    assert_eq!(reply.json()["error"]["param"], "model");
}

#[test]
fn ready_means_that_an_engine_answers() {
    let world = world(paris(), Some(paris()));
    let reply = world.client.get("/readyz");
    assert_eq!(
        (reply.status, &reply.json()["engines"]["primary"]["model"]),
        (200, &json!("big-model"))
    );
    world.primary.freeze(true);
    assert_eq!(world.client.get("/readyz").status, 200, "the fallback answers");
    world.fallback.as_ref().unwrap().remove();
    let reply = world.client.get("/readyz");
    assert_eq!((reply.status, &reply.json()["ready"]), (503, &json!(false)));
    assert_eq!(world.client.get("/healthz").status, 200);
}

#[test]
fn metrics_are_measured() {
    let world = world(answers(&[("", 0.9), ("Paris it is.", 0.95)]), None);
    let before = world.client.get("/metrics").text();
    assert!(
        !before.contains("sarai_autocorrection_rate"),
        "nothing was measured yet"
    );
    assert!(before.contains("sarai_engine_up{engine=\"primary\"} 1"));
    assert_eq!(world.client.chat(&json!({})).status, 200);
    assert_eq!(world.client.chat(&json!({"n": 3})).status, 400);
    let text = world.client.get("/metrics").text();
    for line in [
        "sarai_omni_loop_latency_seconds_bucket{le=\"0.5\"} 1",
        "sarai_omni_loop_latency_seconds_bucket{le=\"20\"} 1",
        "sarai_omni_loop_iterations_bucket{le=\"1\"} 0",
        "sarai_omni_loop_iterations_bucket{le=\"3\"} 1",
        "sarai_autocorrection_rate 1",
        "sarai_http_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 1",
        "sarai_http_requests_total{route=\"/v1/chat/completions\",status=\"400\"} 1",
        "sarai_http_requests_total{route=\"/metrics\",status=\"200\"} 1",
        "sarai_tokens_total{kind=\"answer\"} 3",
        "sarai_requests_in_flight 0",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line} in\n{text}");
    }
    let resident = text
        .lines()
        .find(|l| l.starts_with("process_resident_memory_bytes "))
        .unwrap();
    let resident: f64 = resident.split(' ').nth(1).unwrap().parse().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let ratio = resident / world.gateway.resident() as f64;
    assert!((0.5..2.0).contains(&ratio), "{resident}");
}

#[test]
fn what_an_engine_refuses_has_its_status() {
    for (kind, status, code) in [
        (ErrorKind::Invalid, 400, "invalid_request"),
        (ErrorKind::ContextLength, 400, "context_length_exceeded"),
        (ErrorKind::Busy, 503, "busy"),
    ] {
        let script: Script = Arc::new(move |_, talk| talk.fail(kind, "3000 tokens, 2048 fit"));
        let world = world(script, Some(paris()));
        for reply in [world.client.chat(&json!({})), {
            let mut stream = world.client.stream(&json!({}));
            crate::http::Reply {
                status: stream.status,
                headers: stream.headers.clone(),
                body: {
                    let length = stream
                        .headers
                        .iter()
                        .find(|(n, _)| n == "content-length")
                        .unwrap()
                        .1
                        .parse()
                        .unwrap();
                    let mut body = vec![0; length];
                    std::io::Read::read_exact(&mut stream.connection.stream, &mut body).unwrap();
                    body
                },
            }
        }] {
            assert_eq!((reply.status, reply.error_code()), (status, code.into()));
            assert!(reply.text().contains("3000 tokens, 2048 fit"));
            assert_eq!(reply.header("retry-after").is_some(), status == 503);
        }
        assert!(
            world.fallback.as_ref().unwrap().asked().is_empty(),
            "another engine would refuse it too"
        );
    }
}

#[test]
fn a_full_house_says_when_to_come_back() {
    let settings = GatewaySettings {
        max_requests: 1,
        ..Default::default()
    };
    let script: Script = Arc::new(|_, talk| {
        talk.started();
        talk.wait_for_close(Duration::from_secs(30));
    });
    let world = world_with(script, None, settings);
    let mut first = world.client.connect().unwrap();
    world
        .client
        .post_on(&mut first, crate::http::chat(&json!({})).as_bytes());
    while world.primary.asked().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let reply = world.client.chat(&json!({}));
    assert_eq!((reply.status, reply.error_code()), (503, "busy".into()));
    assert!(reply.header("retry-after").is_some());
    assert_eq!(world.client.get("/readyz").status, 200, "only chats are full");
    drop(first);
    world.primary.wait_for_cancelled(1, Duration::from_secs(5));
}

#[test]
fn a_cut_answer_says_so() {
    let script: Script = Arc::new(|_, talk| {
        let _ = talk.started() && talk.words("Paris is the", 0.99) && talk.done(FinishReason::Length);
    });
    let world = world(script, None);
    let body = world.client.chat(&json!({"reasoning_effort": "none"})).json();
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(body["omni_loop"]["remaining"][0]["checker"], "truncated");
}
