//! What clients say of answers, from a foreign client to the admin's command and out of the files again.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use sarai_tests::appliance::{Appliance, READY};
use sarai_tests::client::Client;
use sarai_tests::process::{self, output_of};
use sarai_tests::{model, tree};
use serde_json::{Value, json};

use crate::common::{pair, short};

const FOLDER: &str = "data/gateway/feedback";

/// Everything in the folder's files.
fn text(a: &Appliance) -> String {
    fs::read_dir(a.path(FOLDER))
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read(entry.path()).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect()
}

/// `sarai feedback list --json`.
fn list(a: &Appliance) -> Vec<Value> {
    a.sarai_ok(&["feedback", "list", "--json", "-n", "1000000"])
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn python(a: &Appliance, python: &Path, key: &str, arguments: &[&str]) -> Value {
    let printed = output_of(
        Command::new(python)
            .arg(tree::root().join("tests/clients/feedback_client.py"))
            .args(arguments)
            .env("SARAI_URL", a.url())
            .env("SARAI_CA", a.ca())
            .env("SARAI_KEY", key),
    )
    .unwrap();
    serde_json::from_str(&printed).unwrap()
}

/// An answer's id, once the answer may be judged whatever happens to the gateway.
fn ask(a: &Appliance, client: &Client) -> Result<String> {
    let id = client.chat(&short())?.ok()?["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    tree::wait_for("the answer to be kept", Duration::from_secs(30), || {
        ensure!(text(a).contains(&id), "{id} is in no file");
        Ok(())
    })?;
    Ok(id)
}

fn judge(client: &Client, id: &str, score: f64) -> Result<Value> {
    client
        .post("/v1/feedback", &json!({"completion_id": id, "score": score}))?
        .ok()
}

#[test]
fn the_openai_package_gives_feedback_on_a_real_answer_also_after_the_gateway_started_anew() {
    let interpreter = &tree::python().unwrap();
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&model::real().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    let key = a.add_key("openai").unwrap();
    let of_key = client.with_key(Some(&key));
    tree::wait_for("the key", READY, || of_key.get("/v1/models")?.ok().map(|_| ())).unwrap();
    let asked = python(&a, interpreter, &key, &["ask"]);
    let id = |which: &str| asked[which].as_str().unwrap();
    let first = python(&a, interpreter, &key, &["judge", id("whole"), "0.9"]);

    a.sarai_ok(&["restart", "gateway"]).unwrap();
    tree::wait_for("the gateway", READY, || {
        of_key.get("/v1/models")?.ok().map(|_| ())
    })
    .unwrap();
    python(
        &a,
        interpreter,
        &key,
        &["judge", id("streamed"), "0.25", "Paris, of course."],
    );
    assert_eq!(
        python(&a, interpreter, &key, &["judge", id("whole"), "0.9"]),
        first
    );
    python(&a, interpreter, &key, &["judge-nothing", id("unseen")]);
    let other = client.post("/v1/feedback", &json!({"completion_id": id("whole"), "score": 1}));
    assert_eq!(other.unwrap().status, 404, "another key judged it");

    let records = list(&a);
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!(records[0]["id"], first["id"]);
    assert_eq!(records[0]["completion"]["answer"], asked["answer"]);
    assert_eq!(records[0]["completion"]["key"], "openai");
    let digest = records[0]["completion"]["digest"].as_str().unwrap();
    let models = a.status().unwrap().models;
    assert!(
        models.iter().any(|m| m.digest.as_deref() == Some(digest)),
        "{digest}"
    );
    assert_eq!(records[1]["judgment"]["correction"], "Paris, of course.");
    let table = a.sarai_ok(&["feedback", "list"]).unwrap();
    assert!(
        table.contains("What is the capital of France?") && table.contains("0.25"),
        "{table}"
    );

    // The shipped client shows how, and the way it shows works.
    let mut sarai = Command::new(a.path("bin/sarai"));
    sarai
        .env("SARAI_URL", a.url())
        .env("SARAI_CA", a.ca())
        .env("SARAI_KEY", &key);
    let output = sarai
        .args(["ask", "--max-tokens", "8", "Say hello."])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let words: Vec<&str> = said
        .split_once("sarai feedback send ")
        .unwrap_or_else(|| panic!("{said}"))
        .1
        .split_whitespace()
        .collect();
    let mut sarai = Command::new(a.path("bin/sarai"));
    sarai
        .env("SARAI_URL", a.url())
        .env("SARAI_CA", a.ca())
        .env("SARAI_KEY", &key);
    output_of(sarai.args(["feedback", "send", words[0], "1", "--comment", "nice"])).unwrap();
    let export = a.path("export.jsonl");
    a.sarai_ok(&["feedback", "export", export.to_str().unwrap()])
        .unwrap();
    let exported = fs::read_to_string(&export).unwrap();
    assert_eq!(exported.lines().count(), 3);
    assert!(exported.contains("\"comment\":\"nice\""));

    // Forgotten for good.
    let said = a.sarai_ok(&["feedback", "forget", id("streamed")]).unwrap();
    assert!(said.contains("1 judgments"), "{said}");
    assert!(!text(&a).contains("Paris, of course."));
    assert_eq!(list(&a).len(), 2);
    a.sarai_ok(&["feedback", "forget", "--key", "openai"]).unwrap();
    assert!(list(&a).is_empty() && !text(&a).contains("capital of France"));
    python(&a, interpreter, &key, &["judge-nothing", id("whole")]);
    a.stop(Duration::from_secs(20)).unwrap();
}

#[test]
fn feedback_that_was_answered_is_there_after_the_gateway_was_killed() {
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    let mut kept = Vec::new();
    for round in 0..3 {
        // Killed while judgments come in.
        let ids: Vec<String> = (0..6)
            .map(|_| tree::wait_for("an answer", READY, || ask(&a, &client)).unwrap())
            .collect();
        let pid = a.service_pid("gateway").unwrap();
        std::thread::scope(|scope| {
            let senders: Vec<_> = ids
                .iter()
                .map(|id| scope.spawn(|| judge(&client.clone(), id, 0.5).map(|said| (id.clone(), said))))
                .collect();
            std::thread::sleep(Duration::from_millis(4 * round));
            process::signal(pid, Signal::SIGKILL).unwrap();
            for sender in senders {
                kept.extend(sender.join().unwrap());
            }
        });
        // What was answered before the kill can be judged after it.
        for id in &ids {
            let said = tree::wait_for("the gateway", READY, || judge(&client, id, 0.5)).unwrap();
            kept.push((id.clone(), said));
        }
    }
    let records = list(&a);
    assert_eq!(records.len(), 18, "{records:?}");
    for (id, said) in &kept {
        let found = records.iter().filter(|r| r["completion"]["id"] == id.as_str());
        let found: Vec<&Value> = found.collect();
        assert_eq!(found.len(), 1, "{id}");
        assert_eq!(
            found[0]["id"], said["id"],
            "what was answered is not what is kept"
        );
    }
    // And after an orderly end.
    a.stop(Duration::from_secs(20)).unwrap();
    a.start().unwrap();
    a.wait_ready(READY).unwrap();
    assert_eq!(list(&a).len(), 18);
    let said = a.sarai_ok(&["feedback", "forget", "--everything"]).unwrap();
    assert!(said.contains("18 judgments"), "{said}");
    assert!(list(&a).is_empty());
    a.stop(Duration::from_secs(20)).unwrap();
}

#[test]
fn nothing_is_kept_where_the_admin_wants_none_and_what_was_can_still_be_forgotten() {
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    let id = ask(&a, &client).unwrap();
    judge(&client, &id, 1.0).unwrap();
    a.stop(Duration::from_secs(20)).unwrap();
    a.write_settings("[feedback]\nenabled = false").unwrap();
    a.start().unwrap();
    a.wait_ready(READY).unwrap();
    let answer = tree::wait_for("an answer", READY, || client.chat(&short())?.ok()).unwrap();
    let unseen = answer["id"].as_str().unwrap();
    let refused = client.post("/v1/feedback", &json!({"completion_id": unseen, "score": 1}));
    assert_eq!(refused.unwrap().status, 404);
    assert_eq!(list(&a).len(), 1);
    a.sarai_ok(&["feedback", "forget", "--everything"]).unwrap();
    assert!(list(&a).is_empty());
    assert!(!text(&a).contains(unseen) && !text(&a).contains("hello there"));
    a.stop(Duration::from_secs(20)).unwrap();
}
