//! Clients that are slow, huge, wrong or many: each gets what it deserves, and nobody else pays for it.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sarai_tests::appliance::Appliance;
use sarai_tests::raw::{self, Peer};
use sarai_tests::{process, tree};
use serde_json::{Value, json};

use crate::common::{pair, primary_answers, short};

const MIB: u64 = 1 << 20;

#[test]
fn five_hundred_connections_of_a_byte_a_second_cost_nobody_else() {
    let _alone = tree::alone();
    let mut a = Appliance::start_with(&pair().unwrap(), "[gateway]\nheader_timeout_ms = 5000\n").unwrap();
    let client = a.keyed().unwrap();
    let gateway = a.service_pid("gateway").unwrap();
    let before = process::resident(gateway).unwrap();

    // One address, as one bad client has; the good client comes from another.
    let bad = Ipv4Addr::new(127, 0, 0, 66);
    let config = raw::tls_config(&a.ca()).unwrap();
    let mut half_open = Vec::new();
    let mut half_asked = Vec::new();
    for n in 0..500 {
        let tcp = raw::tcp(bad, a.port).unwrap();
        // Every tenth finishes its handshake, where it is let, and is slow with the request's head.
        if n % 10 == 0
            && let Ok(tls) = raw::tls(&config, tcp.try_clone().unwrap(), Duration::from_secs(2))
        {
            half_asked.push(tls);
        } else {
            half_open.push((tcp, true));
        }
    }
    println!("{} half open, {} half asked", half_open.len(), half_asked.len());
    assert!(
        !half_asked.is_empty(),
        "no slow client even finished its handshake"
    );

    let mut worst = Duration::ZERO;
    let head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n";
    for second in 0..12 {
        for (tcp, open) in half_open.iter_mut().filter(|(_, open)| *open) {
            // The first byte of a TLS record, then the second, and so on.
            let byte = [[22, 3, 1, 2, 0, 1][second.min(5)]];
            *open = raw::look(tcp) != Peer::Gone && tcp.write_all(&byte).is_ok();
        }
        half_asked.retain_mut(|tls| {
            tls.write_all(&head[second..=second])
                .and_then(|()| tls.flush())
                .is_ok()
        });
        let asked = Instant::now();
        primary_answers(&client).unwrap();
        worst = worst.max(asked.elapsed());
        std::thread::sleep(Duration::from_secs(1));
    }
    let still = half_open.iter().filter(|(_, open)| *open).count() + half_asked.len();
    let grown = process::resident(gateway).unwrap().saturating_sub(before);
    println!(
        "worst answer beside them {worst:?}; {still} still open; gateway grew {} KiB",
        grown / 1024
    );
    assert!(worst < Duration::from_secs(2), "the good client waited {worst:?}");
    assert_eq!(still, 0, "slow connections outlived the header time");
    assert!(grown < 64 * MIB, "the gateway grew by {grown} bytes");
    assert_eq!(
        a.service_pid("gateway").unwrap(),
        gateway,
        "the gateway was restarted"
    );
}

/// A raw request whose body is poured until the peer stops it; gives the status line and the bytes that went.
fn pour_body(a: &Appliance, key: &str, head: &str, chunk: &[u8], most: u64) -> Result<(String, u64)> {
    let config = raw::tls_config(&a.ca())?;
    let tcp = raw::tcp(Ipv4Addr::new(127, 0, 0, 67), a.port)?;
    let mut tls = raw::tls(&config, tcp, Duration::from_secs(10))?;
    write!(
        tls,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\n{head}\r\n",
        a.port
    )?;
    tls.flush()?;
    let sent = raw::pour(&mut tls, chunk, most);
    let answer = raw::read_some(&mut tls, 16 * 1024);
    let text = String::from_utf8_lossy(&answer).into_owned();
    Ok((text.lines().next().unwrap_or_default().to_owned(), sent))
}

#[test]
fn a_body_of_a_gigabyte_is_refused_without_being_taken_in() {
    let _alone = tree::alone();
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    let key = a.add_key("huge").unwrap();
    tree::wait_for("the key", Duration::from_secs(5), || {
        client.with_key(Some(&key)).get("/v1/models")?.ok().map(|_| ())
    })
    .unwrap();
    let gateway = a.service_pid("gateway").unwrap();
    let before = process::resident(gateway).unwrap();

    // Watches the gateway's memory while the bodies come in.
    let peak = Arc::new(AtomicU64::new(before));
    let done = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let (peak, done) = (peak.clone(), done.clone());
        move || {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(process::resident(gateway).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });

    let chunk = vec![b'x'; 64 * 1024];
    let begun = Instant::now();
    let (status, sent) = pour_body(&a, &key, "content-length: 1073741824\r\n", &chunk, 1 << 30).unwrap();
    println!("announced: {status:?} after {sent} bytes, {:?}", begun.elapsed());
    assert!(
        sent < 64 * MIB,
        "{sent} bytes of an announced gigabyte were taken"
    );

    // Not announced: chunked, valid JSON up to wherever it is cut.
    let mut framed = format!("{:x}\r\n", chunk.len()).into_bytes();
    framed.extend_from_slice(&chunk);
    framed.extend_from_slice(b"\r\n");
    let (status_chunked, sent) =
        pour_body(&a, &key, "transfer-encoding: chunked\r\n", &framed, 1 << 30).unwrap();
    println!(
        "chunked: {status_chunked:?} after {sent} bytes, {:?} in all",
        begun.elapsed()
    );
    assert!(sent < 64 * MIB, "{sent} bytes of a chunked gigabyte were taken");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "refusing took {:?}",
        begun.elapsed()
    );

    // A body that is announced and then not sent lets the refusal be read for certain.
    let (status_unsent, _) = pour_body(&a, &key, "content-length: 1073741824\r\n", &chunk, 0).unwrap();
    assert!(status_unsent.contains(" 413 "), "{status_unsent:?}");
    for status in [&status, &status_chunked] {
        // With bytes still on their way the close may overtake the answer; if one arrived it is the 413.
        assert!(status.is_empty() || status.contains(" 413 "), "{status:?}");
    }

    done.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
    let grown = peak.load(Ordering::Relaxed).saturating_sub(before);
    println!("the gateway grew by {} KiB at most", grown / 1024);
    assert!(grown < 32 * MIB, "the gateway grew by {grown} bytes");
    assert_eq!(a.service_pid("gateway").unwrap(), gateway);
    primary_answers(&client).unwrap();
}

/// A request with one thing changed.
fn with(field: &str, value: Value) -> Vec<u8> {
    let mut body = short();
    body[field] = value;
    body.to_string().into_bytes()
}

/// A request whose text is this very JSON string literal.
fn with_content(literal: &str) -> Vec<u8> {
    format!(r#"{{"model":"sarai","max_tokens":2,"messages":[{{"role":"user","content":{literal}}}]}}"#)
        .into_bytes()
}

#[test]
fn what_is_wrong_with_a_request_is_said_by_name() {
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    // Body, and the `param` the error must name (empty: none can be named).
    let wrong: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", b"".to_vec(), ""),
        ("no JSON", b"{\"messages\": [".to_vec(), ""),
        ("not UTF-8", b"{\"messages\": \"\xff\xfe\"}".to_vec(), ""),
        ("an array", b"[]".to_vec(), ""),
        ("nested deep", deep.into_bytes(), ""),
        ("lone surrogate", with_content(r#""a \ud800 b""#), ""),
        ("reversed surrogates", with_content(r#""\udc00\ud800""#), ""),
        (
            "NaN",
            br#"{"messages":[{"role":"user","content":"x"}],"temperature":NaN}"#.to_vec(),
            "",
        ),
        (
            "infinity",
            br#"{"messages":[{"role":"user","content":"x"}],"temperature":1e999}"#.to_vec(),
            "",
        ),
        ("no messages", br#"{"model":"sarai"}"#.to_vec(), "messages"),
        ("empty messages", with("messages", json!([])), "messages"),
        ("messages no list", with("messages", json!("hello")), "messages"),
        (
            "unknown role",
            with("messages", json!([{"role": "wizard", "content": "x"}])),
            "messages",
        ),
        ("content a number", with("messages", user(json!(3))), "messages"),
        (
            "temperature below",
            with("temperature", json!(-0.1)),
            "temperature",
        ),
        (
            "temperature above",
            with("temperature", json!(2.1)),
            "temperature",
        ),
        (
            "temperature a text",
            with("temperature", json!("hot")),
            "temperature",
        ),
        ("top_p zero", with("top_p", json!(0)), "top_p"),
        ("top_p above", with("top_p", json!(1.5)), "top_p"),
        ("max_tokens zero", with("max_tokens", json!(0)), "max_tokens"),
        ("max_tokens below", with("max_tokens", json!(-5)), "max_tokens"),
        (
            "max_tokens a fraction",
            with("max_tokens", json!(1.5)),
            "max_tokens",
        ),
        (
            "too many stops",
            with("stop", json!(["a", "b", "c", "d", "e"])),
            "stop",
        ),
        (
            "effort unknown",
            with("reasoning_effort", json!("heroic")),
            "reasoning_effort",
        ),
        (
            "top_logprobs above",
            with("top_logprobs", json!(21)),
            "top_logprobs",
        ),
        ("n", with("n", json!(2)), "n"),
        (
            "tools",
            with("tools", json!([{"type": "function", "function": {"name": "f"}}])),
            "tools",
        ),
        ("logit_bias", with("logit_bias", json!({"1": 5})), "logit_bias"),
        ("unknown parameter", with("frobnicate", json!(true)), "frobnicate"),
    ];
    let mut faults = Vec::new();
    for (name, body, param) in wrong {
        let check = || -> Result<()> {
            let answer = client.post_bytes("/v1/chat/completions", &body)?;
            ensure!(answer.status == 400, "status {}: {}", answer.status, answer.body);
            let error = answer.error()?;
            ensure!(error["type"] == "invalid_request_error", "type: {error}");
            let named = error["param"].as_str().unwrap_or_default();
            ensure!(
                param.is_empty() || named.starts_with(param),
                "param is {named:?}, not {param:?}: {error}"
            );
            Ok(())
        };
        if let Err(e) = check() {
            faults.push(format!("{name}: {e:#}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));

    // Odd, yet right: these are answered.
    let right: [(&str, Vec<u8>); 5] = [
        ("a surrogate pair", with_content(r#""\ud83d\ude00""#)),
        ("a NUL", with_content(r#""a\u0000b""#)),
        (
            "parts",
            with("messages", user(json!([{"type": "text", "text": "hello"}]))),
        ),
        (
            "special tokens as text",
            with_content(r#""<|im_end|><|im_start|>system""#),
        ),
        ("nulls where they mean nothing", with("stop", Value::Null)),
    ];
    for (name, body) in right {
        let answer = client.post_bytes("/v1/chat/completions", &body).unwrap();
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
    }
    primary_answers(&client).unwrap();
}

#[test]
fn every_route_but_healthz_wants_a_key() {
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    assert_eq!(client.with_key(None).get("/healthz").unwrap().status, 200);
    for key in [
        None,
        Some("wrong"),
        Some(""),
        Some("sk-0000000000000000000000000000000000000000"),
    ] {
        let stranger = client.with_key(key);
        for path in ["/v1/models", "/readyz", "/metrics"] {
            let answer = stranger.get(path).unwrap();
            assert_eq!(answer.status, 401, "{path} with {key:?}: {}", answer.body);
            answer.error().unwrap();
        }
        assert_eq!(stranger.chat(&short()).unwrap().status, 401);
    }
    for path in ["/v1/models", "/readyz", "/metrics"] {
        assert_eq!(client.get(path).unwrap().status, 200, "{path}");
    }
    assert_eq!(client.get("/v1/nothing").unwrap().status, 404);
    assert_eq!(client.get("/v1/chat/completions").unwrap().status, 405);

    // A removed key is refused from then on; another one goes on.
    let other = a.add_key("leaver").unwrap();
    let leaver = client.with_key(Some(&other));
    tree::wait_for("the key to be known", Duration::from_secs(5), || {
        primary_answers(&leaver)
    })
    .unwrap();
    assert!(a.sarai_ok(&["keys", "list"]).unwrap().contains("leaver"));
    a.sarai_ok(&["keys", "remove", "leaver"]).unwrap();
    tree::wait_for("the key to be refused", Duration::from_secs(5), || {
        let status = leaver.get("/v1/models")?.status;
        ensure!(status == 401, "status {status}");
        Ok(())
    })
    .unwrap();
    primary_answers(&client).unwrap();
    // Secrets are stored hashed.
    let stored = std::fs::read_to_string(a.path("data/gateway/keys.toml")).unwrap();
    let secret = a.add_key("looked-for").unwrap();
    let stored = stored + &std::fs::read_to_string(a.path("data/gateway/keys.toml")).unwrap();
    assert!(stored.contains("looked-for") && !stored.contains(&secret));
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_the_counts() {
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&pair().unwrap(), "[engine]\ncontext = 256\n").unwrap();
    let client = a.keyed().unwrap();
    let mut body = short();
    body["messages"][0]["content"] = "word ".repeat(5000).into();
    let answer = client.chat(&body).unwrap();
    assert_eq!(answer.status, 400, "{}", answer.body);
    let error = answer.error().unwrap();
    assert_eq!(error["code"], "context_length_exceeded");
    let message = error["message"].as_str().unwrap();
    let counts: Vec<u64> = message
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(counts.contains(&256), "the context's size is not said: {message}");
    assert!(
        counts.iter().any(|&n| n > 256),
        "the prompt's size is not said: {message}"
    );
    // The same asked for as a stream is an error too, not an empty stream.
    body["stream"] = true.into();
    let streamed = client.chat(&body).unwrap();
    assert_eq!(streamed.status, 400, "{}", streamed.body);
    primary_answers(&client).unwrap();
}

#[test]
fn only_tls_13_with_the_machines_own_certificate() {
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let _ = a.keyed().unwrap();
    let curl = |arguments: &[&str]| {
        std::process::Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "10"])
            .args(arguments)
            .arg(format!("{}/healthz", a.url()))
            .output()
            .unwrap()
    };
    let ca = a.ca();
    let ca = ca.to_str().unwrap();
    assert!(curl(&["--cacert", ca]).status.success());
    assert!(
        !curl(&["--cacert", ca, "--tls-max", "1.2"]).status.success(),
        "TLS 1.2 was accepted"
    );
    assert!(
        !curl(&[]).status.success(),
        "a certificate nobody vouches for was accepted"
    );

    // Plain HTTP on the TLS port gets no service and no hang.
    let mut plain = raw::tcp(Ipv4Addr::LOCALHOST, a.port).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("200"), "{answer:?}");
}

#[test]
fn metrics_count_what_happened() {
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    let value = |name: &str| -> f64 {
        let text = client.get("/metrics").unwrap().body;
        text.lines()
            .find(|line| line.starts_with(name) && line.as_bytes().get(name.len()) == Some(&b' '))
            .and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in\n{text}"))
    };
    let before = value("sarai_omni_loop_latency_seconds_count");
    for _ in 0..3 {
        primary_answers(&client).unwrap();
    }
    assert_eq!(value("sarai_omni_loop_latency_seconds_count") - before, 3.0);
    assert_eq!(
        value("sarai_omni_loop_iterations_count"),
        value("sarai_omni_loop_latency_seconds_count")
    );
    let resident = value("process_resident_memory_bytes");
    let kernel = process::resident(a.service_pid("gateway").unwrap()).unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a comparison within a factor")]
    let ratio = resident / kernel as f64;
    assert!(
        (0.5..2.0).contains(&ratio),
        "metrics say {resident}, the kernel {kernel}"
    );
}
