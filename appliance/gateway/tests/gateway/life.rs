//! Birth, reload, drain and end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sarai_wire::birth::{FromGateway, GatewaySettings, GatewayStart, ToGateway};
use sarai_wire::engine::FinishReason;
use serde_json::json;

use crate::engine::{Script, answers};
use crate::http::tls;
use crate::world::{Authority, Gateway, KEY, world, world_with, write_keys};

fn paris() -> Script {
    answers(&[("Paris it is.", 0.95)])
}

/// Says something, waits this long, and says the rest.
fn pausing(pause: Duration) -> Script {
    Arc::new(move |_, talk| {
        talk.started();
        talk.words("Paris ", 0.95);
        std::thread::sleep(pause);
        let _ = talk.words("it is.", 0.95) && talk.done(FinishReason::Stop);
    })
}

#[test]
fn the_supervisor_hears_how_much_was_done() {
    let world = world(paris(), None);
    assert_eq!(world.gateway.ping(), (0, 0, 0));
    assert_eq!(world.client.chat(&json!({})).status, 200);
    let mut open = world.client.connect().unwrap();
    open.write(format!("{}\r\n", world.client.head("GET", "/healthz")).as_bytes())
        .unwrap();
    open.reply().unwrap();
    let (connections, answered, fallbacks) = world.gateway.ping();
    assert!(connections >= 1);
    assert_eq!((answered, fallbacks), (1, 0));
}

#[test]
fn a_reload_brings_new_keys_and_a_new_certificate_and_disturbs_nobody() {
    let mut world = world(pausing(Duration::from_millis(700)), None);
    let mut stream = world.client.stream(&json!({}));
    stream.json();
    let authority = Authority::new();
    authority.write(&world.folder);
    write_keys(&world.folder, &[("second", "another-secret")]);
    world.gateway.reload();
    // What runs, runs on.
    assert!(stream.all().1);
    // New connections see the new certificate, and requests the new keys.
    assert!(world.client.connect().is_err());
    world.client.tls = tls(&authority.certificate, "http/1.1");
    assert_eq!(world.client.get("/v1/models").status, 401);
    assert_eq!(
        world.client.with_key("another-secret").get("/v1/models").status,
        200
    );
}

#[test]
fn a_key_that_was_removed_ends_at_once_also_on_an_open_connection() {
    let world = world(paris(), None);
    let mut open = world.client.connect().unwrap();
    let get = format!("{}\r\n", world.client.head("GET", "/v1/models"));
    open.write(get.as_bytes()).unwrap();
    assert_eq!(open.reply().unwrap().status, 200);
    std::fs::remove_file(world.folder.join("keys.toml")).unwrap();
    world.gateway.reload();
    open.write(get.as_bytes()).unwrap();
    assert_eq!(open.reply().unwrap().status, 401);
}

#[test]
fn a_broken_reload_changes_nothing() {
    let world = world(paris(), None);
    std::fs::write(world.folder.join("keys.toml"), "[[key]\n").unwrap();
    std::fs::write(world.folder.join("server.crt"), "").unwrap();
    world.gateway.reload();
    assert_eq!(world.client.get("/v1/models").status, 200);
}

#[test]
fn at_a_stop_what_runs_is_finished() {
    let mut world = world(pausing(Duration::from_millis(1000)), None);
    let mut stream = world.client.stream(&json!({}));
    stream.json();
    let started = Instant::now();
    world.gateway.say(&ToGateway::Stop);
    assert!(stream.all().1);
    assert!(world.gateway.wait(Duration::from_secs(5)).success());
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "it does not wait longer than needed"
    );
}

#[test]
fn at_a_stop_what_does_not_end_is_told_so() {
    let settings = GatewaySettings {
        drain_s: 2,
        ..Default::default()
    };
    let mut world = world_with(pausing(Duration::from_secs(30)), None, settings);
    let mut stream = world.client.stream(&json!({}));
    stream.json();
    let started = Instant::now();
    world.gateway.say(&ToGateway::Stop);
    let mut last = String::new();
    while let Some(event) = stream.next() {
        last = event;
    }
    assert!(last.contains("\"stopping\""), "{last}");
    assert!(world.gateway.wait(Duration::from_secs(5)).success());
    assert!(
        (1..4).contains(&started.elapsed().as_secs()),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn without_its_supervisor_it_ends() {
    let mut world = world(paris(), None);
    world.gateway.orphan();
    assert!(world.gateway.wait(Duration::from_secs(5)).success());
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let start = |settings| GatewayStart {
        credentials: folder.path().to_owned(),
        primary: folder.path().join("none"),
        fallback: None,
        settings,
        prompts: None,
        audit: None,
        feedback: None,
    };
    let too_small = GatewaySettings {
        max_body: 1,
        ..Default::default()
    };
    for (settings, part) in [
        (GatewaySettings::default(), "server.crt"),
        (too_small, "max_body"),
    ] {
        let mut gateway = Gateway::spawn();
        gateway.say(&ToGateway::Start(Box::new(start(settings))));
        match gateway.hear() {
            FromGateway::Failed { reason } => assert!(reason.contains(part), "{reason}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(gateway.wait(Duration::from_secs(5)).code(), Some(1));
    }
}

#[test]
fn http_2_is_served_with_many_requests_on_one_connection() {
    let world = world(paris(), None);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(world.client.address)
            .await
            .unwrap();
        let config = tls(&world.authority.certificate, "h2");
        let connector = tokio_rustls::TlsConnector::from(config);
        let tls = connector
            .connect("localhost".try_into().unwrap(), tcp)
            .await
            .unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(tls))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut answers = Vec::new();
        for number in 0..40 {
            if number == 1 {
                // The first answer brings the gateway's bound on streams; from here on the client keeps to it.
                let first: tokio::task::JoinHandle<()> = answers.remove(0);
                first.await.unwrap();
            }
            let mut sender = sender.clone();
            answers.push(tokio::spawn(async move {
                sender.ready().await.unwrap();
                let body = crate::http::chat(&json!({"stream": number % 2 == 0}));
                let request = hyper::Request::post("https://localhost/v1/chat/completions")
                    .header("authorization", format!("Bearer {KEY}"))
                    .header("content-type", "application/json")
                    .body(Full::new(hyper::body::Bytes::from(body)))
                    .unwrap();
                let response = sender.send_request(request).await.unwrap();
                assert_eq!(response.status(), 200);
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert!(String::from_utf8(body.to_vec()).unwrap().contains("Paris "));
            }));
        }
        for answer in answers {
            answer.await.unwrap();
        }
    });
    assert_eq!(world.primary.asked().len(), 40);
}
