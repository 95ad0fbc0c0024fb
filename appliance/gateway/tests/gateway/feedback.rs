//! What clients say of answers: kept with the answer, by whoever was given it, and forgotten on request.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use sarai_feedback::{Feedback, Reader};
use sarai_wire::birth::{FromGateway, ToGateway};
use sarai_wire::feedback::{FeedbackSettings, FeedbackStart, Forget, Forgotten};
use serde_json::{Value, json};

use crate::engine::answers;
use crate::http::{Client, Reply};
use crate::world::{KEY, World, world_of, write_keys};

const QUESTION: &str = "What is the capital of France?";

fn world_with(folder: &Path, change: impl FnOnce(&mut FeedbackStart)) -> World {
    let mut feedback = FeedbackStart {
        folder: folder.to_owned(),
        settings: FeedbackSettings::default(),
        reserve: 0,
    };
    change(&mut feedback);
    let script = answers(&[("Paris it is.", 0.95)]);
    world_of(script, None, &[], |start| start.feedback = Some(feedback))
}

fn world(folder: &Path) -> World {
    world_with(folder, |_| {})
}

/// Asks, and gives the answer's id.
fn ask(client: &Client, more: &Value) -> String {
    let reply = client.chat(more);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["id"].as_str().unwrap().to_owned()
}

fn give(client: &Client, id: &str, more: &Value) -> Reply {
    let mut body = json!({"completion_id": id});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    client.post_to("/v1/feedback", &body)
}

fn kept(folder: &Path) -> Vec<Feedback> {
    let mut all = Vec::new();
    Reader::open(folder)
        .unwrap()
        .each(&mut |feedback| {
            all.push(feedback);
            ControlFlow::Continue(())
        })
        .unwrap();
    all
}

/// Everything in the folder's files.
fn text(folder: &Path) -> String {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()).into_owned())
        .collect()
}

fn metric(world: &World, line: &str) -> bool {
    world.client.get("/metrics").text().lines().any(|had| had == line)
}

fn end(world: &mut World) {
    world.gateway.say(&ToGateway::Stop);
    assert!(world.gateway.wait(Duration::from_secs(20)).success());
}

#[test]
fn an_answer_is_judged_the_same_again_is_the_same_and_another_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    let id = ask(&world.client, &json!({}));
    let first = give(
        &world.client,
        &id,
        &json!({"score": 0.25, "correction": "Paris.", "comment": "long"}),
    );
    assert_eq!(first.status, 200, "{}", first.text());
    let first = first.json();
    assert_eq!(first["object"], "feedback");
    assert_eq!(first["completion_id"], id.as_str());
    assert_eq!(
        (&first["score"], &first["correction"]),
        (&json!(0.25), &json!("Paris."))
    );
    assert!(first["id"].as_str().unwrap().starts_with("fb-"));
    let all = kept(folder.path());
    assert_eq!(all.len(), 1);
    let completion = &all[0].completion;
    assert_eq!(
        (completion.id.as_str(), completion.key.as_str()),
        (id.as_str(), "first")
    );
    assert_eq!(completion.messages[0].content, QUESTION);
    assert_eq!(completion.answer, "Paris it is.");
    assert_eq!(completion.digest, "0123456789abcdef".repeat(4));
    assert!(completion.confidence > 0.0 && completion.adapter.is_none());
    assert_eq!(all[0].judgment.comment.as_deref(), Some("long"));
    let same = json!({"score": 0.25, "correction": "Paris.", "comment": "long"});
    assert_eq!(give(&world.client, &id, &same).json(), first);
    let changed = give(&world.client, &id, &json!({"score": 1})).json();
    assert_ne!(changed["id"], first["id"]);
    let all = kept(folder.path());
    assert_eq!((all.len(), all[0].judgment.score), (1, 1.0));
    for kind in ["new", "repeated", "changed"] {
        assert!(
            metric(&world, &format!("sarai_feedback_total{{kind=\"{kind}\"}} 1")),
            "{kind}"
        );
    }
    assert!(metric(&world, "sarai_feedback_lost_total 0"));
    assert!(!text(folder.path()).contains(KEY));
}

#[test]
fn a_streamed_answer_is_judged_too_also_after_the_gateway_started_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut before = world(folder.path());
    let (events, done) = before.client.stream(&json!({})).all();
    assert!(done);
    let streamed = events[0]["id"].as_str().unwrap().to_owned();
    let whole = ask(&before.client, &json!({}));
    let given = give(&before.client, &whole, &json!({"score": 0.5})).json();
    end(&mut before);
    let after = world(folder.path());
    assert_eq!(
        give(&after.client, &streamed, &json!({"score": 0.75})).status,
        200
    );
    assert_eq!(give(&after.client, &whole, &json!({"score": 0.5})).json(), given);
    let all = kept(folder.path());
    assert_eq!(all.len(), 2);
    assert_eq!(all[1].completion.answer, "Paris it is.");
}

#[test]
fn nobody_but_whoever_was_given_an_answer_may_judge_it() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    write_keys(&world.folder, &[("first", KEY), ("second", "another secret")]);
    world.gateway.reload();
    let id = ask(&world.client, &json!({}));
    let second = world.client.with_key("another secret");
    for (client, id) in [
        (&second, id.as_str()),
        (&world.client, "chatcmpl-000000000000000000000000"),
        (&world.client, "x"),
    ] {
        let reply = give(client, id, &json!({"score": 1}));
        assert_eq!(
            (reply.status, reply.error_code().as_str()),
            (404, "completion_not_found")
        );
    }
    assert_eq!(
        give(&world.client.without_key(), &id, &json!({"score": 1})).status,
        401
    );
    assert_eq!(give(&world.client, &id, &json!({"score": 1})).status, 200);
    assert_eq!(kept(folder.path()).len(), 1);
}

#[test]
fn store_false_keeps_an_answer_out_and_so_does_the_admin() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world(folder.path());
    let id = ask(
        &world.client,
        &json!({"store": false, "messages": [{"role": "user", "content": "my secret"}]}),
    );
    assert_eq!(give(&world.client, &id, &json!({"score": 1})).status, 404);
    end(&mut world);
    assert!(!text(folder.path()).contains("my secret"));
    let mut world = world_with(folder.path(), |feedback| feedback.settings.enabled = false);
    let id = ask(&world.client, &json!({}));
    let reply = give(&world.client, &id, &json!({"score": 1}));
    assert_eq!(
        (reply.status, reply.error_code().as_str()),
        (404, "feedback_disabled")
    );
    end(&mut world);
    assert!(!text(folder.path()).contains("capital"));
}

#[test]
fn what_is_wrong_with_feedback_is_said_and_nothing_of_it_kept() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    let id = ask(&world.client, &json!({}));
    for (more, code) in [
        (json!({}), "missing_required_parameter"),
        (json!({"score": 2}), "invalid_value"),
        (json!({"score": "good"}), "invalid_type"),
        (json!({"score": 1, "stars": 5}), "unknown_parameter"),
        (
            json!({"score": 1, "comment": "x".repeat(10_000)}),
            "invalid_value",
        ),
    ] {
        let reply = give(&world.client, &id, &more);
        assert_eq!((reply.status, reply.error_code().as_str()), (400, code));
    }
    let raw = |body: &[u8]| {
        let head = world.client.head("POST", "/v1/feedback");
        let mut connection = world.client.connect().unwrap();
        let head = format!("{head}content-length: {}\r\n\r\n", body.len());
        connection.write(&[head.as_bytes(), body].concat()).unwrap();
        connection.reply().unwrap()
    };
    for body in [
        &b"{\"completion_id\":\"c\",\"score\":NaN}"[..],
        b"{\"completion_id\":\"c\",\"score\":1,\"comment\":\"\xff\"}",
        b"{\"completion_id\":\"c\",\"score\":1,\"score\":0}",
        b"[]",
    ] {
        assert_eq!(raw(body).error_code(), "invalid_json");
    }
    assert_eq!(raw(&vec![b' '; 2 << 20]).status, 413);
    assert_eq!(world.client.get("/v1/feedback").status, 405);
    assert!(kept(folder.path()).is_empty());
    assert!(metric(&world, "sarai_feedback_total{kind=\"refused\"} 10"));
}

#[test]
fn a_key_that_sends_too_much_is_told_when_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    let id = ask(&world.client, &json!({}));
    let until = Instant::now() + Duration::from_secs(60);
    let limited = loop {
        assert!(Instant::now() < until, "it is never too much");
        let replies: Vec<Reply> = std::thread::scope(|scope| {
            let one = || give(&world.client, &id, &json!({"score": 1}));
            let all: Vec<_> = (0..16).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        if let Some(limited) = replies.into_iter().find(|reply| reply.status != 200) {
            break limited;
        }
    };
    assert_eq!(
        (limited.status, limited.error_code().as_str()),
        (429, "rate_limit_exceeded")
    );
    assert!(limited.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(kept(folder.path()).len(), 1);
}

#[test]
fn on_a_full_disk_feedback_is_refused_and_answers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut before = world(folder.path());
    let id = ask(&before.client, &json!({}));
    end(&mut before);
    let world = world_with(folder.path(), |feedback| feedback.reserve = u64::MAX / 4);
    let reply = give(&world.client, &id, &json!({"score": 1}));
    assert_eq!((reply.status, reply.error_code().as_str()), (507, "disk_full"));
    ask(&world.client, &json!({}));
    assert!(kept(folder.path()).is_empty());
    let until = Instant::now() + Duration::from_secs(20);
    while !metric(&world, "sarai_feedback_lost_total 1") {
        assert!(Instant::now() < until, "what cannot be kept is not counted");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Of an answer that could not be kept it is not said that it never was.
    assert_eq!(
        give(&world.client, "chatcmpl-1", &json!({"score": 1})).status,
        507
    );
    assert!(metric(&world, "sarai_feedback_total{kind=\"failed\"} 2"));
}

#[test]
fn a_folder_that_is_not_there_holds_up_no_answer() {
    let temporary = tempfile::tempdir().unwrap();
    let world = world(&temporary.path().join("missing"));
    let id = ask(&world.client, &json!({}));
    let reply = give(&world.client, &id, &json!({"score": 1}));
    assert_eq!(
        (reply.status, reply.error_code().as_str()),
        (503, "feedback_unavailable")
    );
    assert_eq!(reply.header("retry-after"), Some("5"));
}

#[test]
fn what_is_to_be_forgotten_is_in_no_file_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    let [one, two] = ["one", "two"].map(|word| {
        let question = json!({"messages": [{"role": "user", "content": format!("number {word}")}]});
        let id = ask(&world.client, &question);
        assert_eq!(give(&world.client, &id, &json!({"score": 1})).status, 200);
        id
    });
    let forget = |seq, what| {
        world.gateway.say(&ToGateway::Forget { seq, what });
        match world.gateway.hear() {
            FromGateway::Forgotten(forgotten) => forgotten,
            other => panic!("{other:?}"),
        }
    };
    let done = |seq, lines| Forgotten {
        seq,
        lines,
        trouble: None,
    };
    assert_eq!(forget(7, Forget::Completion { id: one.clone() }), done(7, 1));
    let left = text(folder.path());
    assert!(
        !left.contains("number one") && left.contains("number two"),
        "{left}"
    );
    assert_eq!(give(&world.client, &one, &json!({"score": 0})).status, 404);
    assert_eq!(give(&world.client, &two, &json!({"score": 0})).status, 200);
    assert_eq!(forget(8, Forget::Key { name: "first".into() }), done(8, 2));
    assert!(!text(folder.path()).contains("number"));
    assert_eq!(forget(9, Forget::Everything), done(9, 0));
    let wrong = forget(10, Forget::Key { name: "a b".into() });
    assert!(wrong.trouble.unwrap().contains("key"));
    // It goes on.
    let id = ask(&world.client, &json!({}));
    assert_eq!(give(&world.client, &id, &json!({"score": 1})).status, 200);
    assert_eq!(kept(folder.path()).len(), 1);
}
