//! `sarai ask` against a TLS server with a certificate of its own authority.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivateKeyDer;
use support::{command, err, out, run};

/// One server that answers every request with the same bytes.
struct Gateway {
    folder: tempfile::TempDir,
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    fn start(response: impl Into<Vec<u8>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_cert = ca.self_signed(&ca_key).unwrap();
        std::fs::write(folder.path().join("ca.crt"), ca_cert.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        let cert = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
        let (config, response) = (Arc::new(config), Arc::new(response.into()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, response, log) = (config.clone(), response.clone(), log.clone());
                std::thread::spawn(move || serve(stream.unwrap(), config, &response, &log));
            }
        });
        Self { folder, port, seen }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    fn ask(&self, args: &[&str]) -> Output {
        self.ask_trusting(&self.ca(), args)
    }

    fn ask_trusting(&self, ca: &Path, args: &[&str]) -> Output {
        let mut command = command(&[&["ask"], args].concat());
        command
            .env("SARAI_URL", format!("https://127.0.0.1:{}", self.port))
            .env("SARAI_CA", ca)
            .env("SARAI_KEY", "k3y");
        run(&mut command, "from standard input")
    }

    /// Head and body of the last request.
    fn request(&self) -> (String, serde_json::Value) {
        let text = self.seen.lock().unwrap().last().cloned().unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), serde_json::from_str(body).unwrap())
    }
}

fn serve(
    mut tcp: std::net::TcpStream,
    config: Arc<rustls::ServerConfig>,
    response: &[u8],
    log: &Mutex<Vec<String>>,
) {
    let mut tls = rustls::ServerConnection::new(config).unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    let mut request = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        // A client that does not trust this server hangs up here.
        let Ok(n @ 1..) = stream.read(&mut chunk) else {
            return;
        };
        request.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|l| {
            l.to_ascii_lowercase()
                .strip_prefix("content-length:")
                .map(|n| n.trim().to_owned())
        });
        let done = match length {
            Some(n) => body.len() >= n.parse().unwrap(),
            None => body.ends_with("0\r\n\r\n"),
        };
        if done {
            break;
        }
    }
    log.lock().unwrap().push(String::from_utf8(request).unwrap());
    let _ = stream.write_all(response);
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

fn http(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nRetry-After: 5\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn events(data: &[&str]) -> String {
    let body: String = data.iter().map(|d| format!("data: {d}\n\n")).collect();
    http("200 OK", "text/event-stream", &body)
}

const LAST: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],
    "omni_loop":{"iterations":2,"corrected":true,"confidence":0.9,"model":"m","fallback":false}}"#;

#[test]
fn the_answer_is_streamed_to_standard_output_and_nothing_else_is() {
    let gateway = Gateway::start(events(&[
        r#"{"choices":[{"index":0,"delta":{"reasoning_content":"a draft"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"It is "}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"blue."}}]}"#,
        &LAST.replace('\n', " "),
        "[DONE]",
    ]));
    let output = gateway.ask(&[
        "what",
        "colour?",
        "--effort",
        "high",
        "--max-tokens",
        "9",
        "--temperature",
        "0",
    ]);
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(out(&output), "It is blue.\n");
    assert!(
        err(&output).contains("[2 iterations, corrected, confidence 0.90, m, "),
        "{}",
        err(&output)
    );
    assert!(!err(&output).contains("a draft"), "drafts are for terminals");
    let (head, body) = gateway.request();
    assert!(head.starts_with("post /v1/chat/completions http/1.1"), "{head}");
    assert!(head.contains("authorization: bearer k3y"), "{head}");
    assert_eq!(body["messages"][0]["content"], "what colour?");
    assert_eq!(
        (&body["stream"], &body["reasoning_effort"]),
        (&true.into(), &"high".into())
    );
    assert_eq!(body["max_completion_tokens"], 9);
    assert_eq!(body["temperature"], 0.0);
    let shown = gateway.ask(&["--reasoning", "-"]);
    assert!(err(&shown).contains("a draft\n"), "{}", err(&shown));
    assert_eq!(
        gateway.request().1["messages"][0]["content"],
        "from standard input"
    );
}

#[test]
fn a_whole_answer_for_people_and_as_json() {
    let body = r#"{"choices":[{"message":{"content":"Blue.\n"},"finish_reason":"length"}],"omni_loop":{"iterations":1}}"#;
    let gateway = Gateway::start(http("200 OK", "application/json", body));
    let output = gateway.ask(&["--no-stream", "?"]);
    assert_eq!(out(&output), "Blue.\n");
    assert!(err(&output).contains("1 iteration, ") && err(&output).contains("cut at the token limit"));
    assert_eq!(gateway.request().1.get("stream"), None);
    let json: serde_json::Value = serde_json::from_str(&out(&gateway.ask(&["--json", "?"]))).unwrap();
    assert_eq!(json, serde_json::from_str::<serde_json::Value>(body).unwrap());
}

#[test]
fn what_an_answer_was_worth_is_said_as_the_client_that_was_given_it() {
    let gateway = Gateway::start(http(
        "200 OK",
        "application/json",
        r#"{"id":"fb-1","object":"feedback"}"#,
    ));
    let send = |args: &[&str]| {
        let mut command = command(&[&["feedback", "send"], args].concat());
        command
            .env("SARAI_URL", format!("https://127.0.0.1:{}", gateway.port))
            .env("SARAI_CA", gateway.ca())
            .env("SARAI_KEY", "k3y");
        run(&mut command, "")
    };
    let output = send(&["c-1", "0.5", "--correction", "Red."]);
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(out(&output), "kept as fb-1\n");
    let (head, body) = gateway.request();
    assert!(
        head.starts_with("post /v1/feedback ") && head.contains("bearer k3y"),
        "{head}"
    );
    let wanted = serde_json::json!({"completion_id": "c-1", "score": 0.5, "correction": "Red."});
    assert_eq!(body, wanted);
    assert_eq!(send(&["c-1", "2"]).status.code(), Some(2));
}

#[test]
fn only_the_given_authority_is_trusted() {
    let gateway = Gateway::start(events(&[&LAST.replace('\n', " "), "[DONE]"]));
    assert!(gateway.ask(&["?"]).status.success());
    let stranger = Gateway::start("");
    let output = gateway.ask_trusting(&stranger.ca(), &["?"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("not the appliance whose certificate you trust"),
        "{}",
        err(&output)
    );
    assert_eq!(
        gateway.seen.lock().unwrap().len(),
        1,
        "the key went to a stranger"
    );
}

#[test]
fn refusals_are_told_in_the_gateways_words() {
    let error = r#"{"error":{"message":"because","type":"t","param":null,"code":"c"}}"#;
    for (status, code, wanted) in [
        ("401 Unauthorized", 1, "the key is not accepted: because [c]"),
        ("400 Bad Request", 1, "refused (400): because [c]"),
        ("503 Service Unavailable", 3, "because [c] (try again in 5 s)"),
    ] {
        let output = Gateway::start(http(status, "application/json", error)).ask(&["?"]);
        assert_eq!(output.status.code(), Some(code), "{status}");
        assert!(err(&output).contains(wanted), "{status}: {}", err(&output));
    }
    let odd = Gateway::start(http("502 Bad Gateway", "text/html", "<html>")).ask(&["?"]);
    assert!(err(&odd).contains("HTTP status 502"), "{}", err(&odd));
}

#[test]
fn an_answer_that_breaks_off_is_a_failure_after_what_came() {
    let half = r#"{"choices":[{"index":0,"delta":{"content":"It is"}}]}"#;
    let output = Gateway::start(events(&[half])).ask(&["?"]);
    assert_eq!(
        (output.status.code(), out(&output).as_str()),
        (Some(1), "It is\n")
    );
    assert!(err(&output).contains("ended early"), "{}", err(&output));
    let error = r#"{"error":{"message":"the engine died","code":null}}"#;
    let output = Gateway::start(events(&[half, error, "[DONE]"])).ask(&["?"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("broke off: the engine died"),
        "{}",
        err(&output)
    );
}

#[test]
fn what_is_missing_or_absent_is_told() {
    let no_key = run(&mut command(&["ask", "?"]), "");
    assert_eq!(no_key.status.code(), Some(2));
    assert!(err(&no_key).contains("sarai keys add"), "{}", err(&no_key));
    let gateway = Gateway::start("");
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut nobody = command(&[
        "ask",
        "?",
        "--url",
        &format!("https://127.0.0.1:{port}"),
        "--key",
        "k",
    ]);
    let output = run(nobody.arg("--ca").arg(gateway.ca()), "");
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
    let plain = run(
        command(&["ask", "?", "--url", "http://x", "--key", "k"])
            .arg("--ca")
            .arg(gateway.ca()),
        "",
    );
    assert_eq!(plain.status.code(), Some(2), "{}", err(&plain));
}
