//! Clients that are slow, large, broken or malicious, and what they cost the others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sarai_wire::birth::GatewaySettings;
use serde_json::json;

use crate::engine::{Script, answers};
use crate::world::{World, world, world_with};

fn paris() -> Script {
    answers(&[("Paris it is.", 0.95)])
}

/// A good client is answered, and soon.
fn serves(world: &World) {
    let started = Instant::now();
    assert_eq!(world.client.chat(&json!({})).status, 200);
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn five_hundred_connections_that_send_a_byte_a_second_cost_nobody_else() {
    let world = world(paris(), None);
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0];
    let head = world.client.without_key().head("POST", "/v1/chat/completions");
    // Half of them never finish the handshake, half never finish a request's head.
    let mut handshakes: Vec<TcpStream> = Vec::new();
    let mut heads = Vec::new();
    for number in 0..500 {
        if number % 2 == 0 {
            handshakes.push(TcpStream::connect(world.client.address).unwrap());
        } else if let Ok(connection) = world.client.connect() {
            heads.push(connection);
        }
    }
    assert!(heads.len() > 200, "{}", heads.len());
    for second in 0..4 {
        for slow in &mut handshakes {
            let _ = slow.write_all(&hello[second..=second]);
        }
        for slow in &mut heads {
            let _ = slow.write(&head.as_bytes()[second..=second]);
        }
        let started = Instant::now();
        serves(&world);
        let (connections, ..) = world.gateway.ping();
        assert!(connections <= 64, "{connections}");
        std::thread::sleep(Duration::from_secs(1).saturating_sub(started.elapsed()));
    }
    let text = world.client.get("/metrics").text();
    let evicted = text
        .lines()
        .find(|line| line.starts_with("sarai_connections_evicted "))
        .unwrap();
    assert!(
        evicted.split(' ').nth(1).unwrap().parse::<u32>().unwrap() >= 400,
        "{evicted}"
    );
}

#[test]
fn who_does_not_finish_in_time_is_closed() {
    let settings = GatewaySettings {
        header_timeout_ms: 500,
        ..Default::default()
    };
    let world = world_with(paris(), None, settings);
    let closed_in_time = |stream: &mut dyn Read| {
        let started = Instant::now();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(
            started.elapsed() < Duration::from_secs(4),
            "{:?}",
            started.elapsed()
        );
        assert!(
            started.elapsed() > Duration::from_millis(300),
            "{:?}",
            started.elapsed()
        );
    };
    let mut handshake = TcpStream::connect(world.client.address).unwrap();
    handshake.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    closed_in_time(&mut handshake);
    let mut head = world.client.connect().unwrap();
    head.write(b"GET /healthz HT").unwrap();
    closed_in_time(&mut head.stream);
    let mut idle = world.client.connect().unwrap();
    closed_in_time(&mut idle.stream);
    serves(&world);
}

#[test]
fn a_body_that_does_not_come_in_time_is_refused() {
    let settings = GatewaySettings {
        body_timeout_ms: 500,
        ..Default::default()
    };
    let world = world_with(paris(), None, settings);
    let mut slow = world.client.connect().unwrap();
    let head = world.client.head("POST", "/v1/chat/completions");
    slow.write(format!("{head}content-length: 1000\r\n\r\n{{\"model\"").as_bytes())
        .unwrap();
    let reply = slow.reply().unwrap();
    assert_eq!(
        (reply.status, reply.error_code()),
        (408, "request_timeout".into())
    );
    serves(&world);
}

#[test]
fn a_body_of_a_gigabyte_is_refused_and_not_kept() {
    let world = world(paris(), None);
    let before = world.gateway.resident();
    let head = world.client.head("POST", "/v1/chat/completions");
    // Announced.
    let mut connection = world.client.connect().unwrap();
    connection
        .write(format!("{head}content-length: 1073741824\r\n\r\n").as_bytes())
        .unwrap();
    let reply = connection.reply().unwrap();
    assert_eq!((reply.status, reply.error_code()), (413, "body_too_large".into()));
    drop(connection);
    // Announced, with a client that sends it all the same.
    let mut connection = world.client.connect().unwrap();
    connection
        .write(format!("{head}content-length: 1073741824\r\n\r\n").as_bytes())
        .unwrap();
    pour(&mut connection, &vec![b' '; 1 << 20]);
    assert_eq!(connection.status_after_failure(), 413);
    // Not announced.
    let mut connection = world.client.connect().unwrap();
    connection
        .write(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes())
        .unwrap();
    let chunk = [
        format!("{:x}\r\n", 1 << 20).into_bytes(),
        vec![b' '; 1 << 20],
        b"\r\n".to_vec(),
    ]
    .concat();
    pour(&mut connection, &chunk);
    assert_eq!(connection.status_after_failure(), 413);
    let grown = world.gateway.resident().saturating_sub(before);
    assert!(grown < 48 << 20, "grew by {grown} bytes");
    assert!(world.primary.asked().is_empty());
    serves(&world);
}

/// Sends up to a gigabyte, until the gateway has had enough.
fn pour(connection: &mut crate::http::Connection, part: &[u8]) {
    for _ in 0..1024 {
        if connection.write(part).is_err() {
            return;
        }
    }
    panic!("a whole gigabyte was taken");
}

#[test]
fn a_body_at_the_bound_is_read() {
    let settings = GatewaySettings {
        max_body: 4096,
        ..Default::default()
    };
    let world = world_with(paris(), None, settings);
    let body = |size: usize| {
        let empty = crate::http::chat(&json!({"user": ""}));
        crate::http::chat(&json!({"user": "x".repeat(size - empty.len())}))
    };
    assert_eq!(world.client.post(body(4096)).status, 200);
    assert_eq!(world.client.post(body(4097)).status, 413);
}

#[test]
fn bad_bodies_are_refused_with_a_reason() {
    let world = world(paris(), None);
    let messages = r#""messages":[{"role":"user","content":"Hi"}]"#;
    for (body, part) in [
        (String::new(), "not valid JSON"),
        ("{".into(), "not valid JSON"),
        ("[]".into(), "must be a JSON object"),
        ("nonsense".into(), "not valid JSON"),
        (
            format!(r#"{{"model":"sarai",{messages},"temperature":NaN}}"#),
            "no NaN",
        ),
        (
            format!(r#"{{"model":"sarai",{messages},"temperature":Infinity}}"#),
            "Infinity",
        ),
        (
            format!(r#"{{"model":"sarai",{messages},"temperature":1e400}}"#),
            "out of range",
        ),
        (
            format!(r#"{{"model":"sarai","model":"sarai",{messages}}}"#),
            "comes twice",
        ),
        (
            r#"{"model":"sarai","messages":[{"role":"user","content":"\ud800"}]}"#.into(),
            "lone surrogate",
        ),
        (
            r#"{"model":"sarai","messages":[{"role":"user","content":"\udfff x"}]}"#.into(),
            "lone surrogate",
        ),
        (
            r#"{"model":"sarai","messages":[{"role":"wizard","content":"Hi"}]}"#.into(),
            "messages[0].role",
        ),
        (
            format!(r#"{{"model":"sarai",{messages},"tools":[]}}"#),
            "`tools` is not supported",
        ),
        (
            format!(r#"{{"model":"sarai",{messages},"temperature":3}}"#),
            "`temperature` must be",
        ),
        (
            format!(r#"{{"model":"sarai","messages":{}"#, "[".repeat(100_000)),
            "recursion",
        ),
        (format!(r#"{{"model":"sarai",{messages}}} trailing"#), "trailing"),
    ] {
        let reply = world.client.post(&body);
        assert_eq!(reply.status, 400, "{body:.80}");
        reply.error_code();
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(part), "{body:.80}: {message}");
    }
    let reply = world
        .client
        .post(b"{\"model\":\"sarai\",\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}");
    assert!(reply.status == 400 && reply.text().contains("not UTF-8"));
    assert!(world.primary.asked().is_empty());
    serves(&world);
}

#[test]
fn a_body_that_breaks_off_is_no_request() {
    let world = world(paris(), None);
    let head = world.client.head("POST", "/v1/chat/completions");
    for rest in [
        "content-length: 100\r\n\r\n{",
        "transfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let mut connection = world.client.connect().unwrap();
        connection.write(format!("{head}{rest}").as_bytes()).unwrap();
        drop(connection);
    }
    serves(&world);
    assert_eq!(world.primary.asked().len(), 1);
}

#[test]
fn only_tls_1_3_is_spoken() {
    let world = world(paris(), None);
    // A TLS 1.2 hello, which offers no other version.
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0, 0, 16]);
    hello.extend([0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3]);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    let mut old = TcpStream::connect(world.client.address).unwrap();
    old.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    old.write_all(&record).unwrap();
    let mut answer = Vec::new();
    let _ = old.read_to_end(&mut answer);
    // An alert: fatal, protocol version.
    assert_eq!(
        answer.get(..7),
        Some(&[0x15, 3, 3, 0, 2, 2, 70][..]),
        "{answer:?}"
    );
    let mut plain = TcpStream::connect(world.client.address).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    serves(&world);
}

#[test]
fn heads_are_bounded() {
    let world = world(paris(), None);
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(1 << 20));
    let wide = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(5000));
    for head in [long, wide, many] {
        let mut connection = world.client.connect().unwrap();
        // The gateway may close before it was all sent.
        let _ = connection.write(head.as_bytes());
        if let Ok(reply) = connection.reply() {
            assert!((400..500).contains(&reply.status), "{}", reply.status);
        }
    }
    serves(&world);
}

#[test]
fn noise_is_survived() {
    let world = world(paris(), None);
    let mut noise: u64 = 0x9e37_79b9_7f4a_7c15;
    for length in 0..60 {
        let bytes: Vec<u8> = (0..length * 7)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise.to_le_bytes()[0]
            })
            .collect();
        let mut raw = TcpStream::connect(world.client.address).unwrap();
        let _ = raw.write_all(&bytes);
        drop(raw);
        let mut inside = world.client.connect().unwrap();
        let _ = inside.write(&bytes);
    }
    serves(&world);
}
