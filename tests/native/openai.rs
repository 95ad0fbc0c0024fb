//! Foreign clients on the real model: the `openai` Python package, and `curl`.

use std::process::Command;
use std::time::Duration;

use sarai_tests::appliance::{Appliance, READY};
use sarai_tests::model;
use sarai_tests::process::output_of;
use sarai_tests::tree;

#[test]
fn the_openai_package_gets_what_it_expects() {
    let python = tree::python().unwrap();
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&model::real().unwrap(), "").unwrap();
    let _ = a.keyed().unwrap();
    let key = a.add_key("openai").unwrap();
    tree::wait_for("the key", Duration::from_secs(30), || {
        a.client()?
            .with_key(Some(&key))
            .get("/v1/models")?
            .ok()
            .map(|_| ())
    })
    .unwrap();
    let output = Command::new(python)
        .arg(tree::root().join("tests/clients/openai_client.py"))
        .env("SARAI_URL", a.url())
        .env("SARAI_CA", a.ca())
        .env("SARAI_KEY", &key)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        said.matches("ok     check_").count() >= 16,
        "checks are missing:\n{said}"
    );
}

/// The block of README.md in this language that says `with`.
fn readme_block(language: &str, with: &str) -> String {
    let text = std::fs::read_to_string(tree::root().join("README.md")).unwrap();
    text.split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'))
        .find(|block| block.contains(with))
        .unwrap_or_else(|| panic!("README.md has no {language} block with {with:?}"))
        .to_owned()
}

/// Runs a program that must succeed and gives its standard output.
fn run(command: &mut Command, a: &Appliance, key: &str) -> String {
    command
        .env("SARAI_URL", a.url())
        .env("SARAI_CA", a.ca())
        .env("SARAI_KEY", key);
    output_of(command).unwrap()
}

#[test]
fn curl_the_shipped_client_and_the_readmes_own_lines_get_an_answer() {
    let python = tree::python().unwrap();
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&model::real().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    let key = a.add_key("curl").unwrap();
    tree::wait_for("the key", READY, || {
        client.with_key(Some(&key)).get("/v1/models")?.ok().map(|_| ())
    })
    .unwrap();

    let curl = readme_block("sh", "curl --cacert").replace("source client.env\n", "set -euo pipefail\n");
    let whole: serde_json::Value =
        serde_json::from_str(&run(Command::new("bash").args(["-c", &curl]), &a, &key)).unwrap();
    // Sampled, as the lines say nothing else: what matters is that they work as printed.
    let text = whole["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_default();
    assert!(!text.trim().is_empty(), "{whole}");
    assert!(
        whole["omni_loop"]["iterations"]
            .as_u64()
            .is_some_and(|n| (1..=3).contains(&n)),
        "{whole}"
    );

    let printed = run(
        Command::new(python).args(["-c", &readme_block("python", "openai")]),
        &a,
        &key,
    );
    assert!(printed.contains("'iterations'"), "{printed}");

    let body = r#"{"model": "sarai", "messages": [{"role": "user", "content": "What is the capital of France? Answer shortly."}],
                   "max_tokens": 24, "temperature": 0, "stream": true}"#;
    let stream = run(
        Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--fail-with-body",
                "--no-buffer",
                "--max-time",
                "60",
                "--cacert",
            ])
            .arg(a.ca())
            .args([
                "-H",
                &format!("Authorization: Bearer {key}"),
                "-H",
                "Content-Type: application/json",
            ])
            .args(["-d", body])
            .arg(format!("{}/v1/chat/completions", a.url())),
        &a,
        &key,
    );
    assert!(
        stream.starts_with("data: ") && stream.trim_end().ends_with("data: [DONE]"),
        "{stream}"
    );

    let question = [
        "ask",
        "What is the capital of France?",
        "--max-tokens",
        "24",
        "--json",
    ];
    let asked = run(Command::new(a.path("bin/sarai")).args(question), &a, &key);
    let asked: serde_json::Value = serde_json::from_str(&asked).unwrap();
    assert!(
        asked["omni_loop"]["iterations"]
            .as_u64()
            .is_some_and(|n| (1..=3).contains(&n)),
        "{asked}"
    );
}
