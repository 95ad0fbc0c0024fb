use super::*;
use proptest::prelude::*;

const SHIPPED: &str = include_str!("../../../../models-manifest.toml");

#[test]
fn the_shipped_tiny_profile_pins_its_primary() {
    let manifest = Manifest::parse(SHIPPED).unwrap();
    let tiny = manifest.profile("tiny").unwrap();
    let primary = tiny.entry(Role::Primary).unwrap();
    assert_eq!(
        (primary.id.as_str(), primary.size),
        ("smollm2-135m-instruct-q4_1", Some(98_362_432))
    );
    let expect = tiny.expect(primary, Timestamp::UNIX_EPOCH, 3).unwrap();
    assert_eq!(
        (expect.kind, expect.id, expect.highest_seen),
        (Kind::Model, Some(primary.id.as_str()), 3)
    );
    assert_eq!(expect.sha256, primary.sha256);
    assert!(matches!(
        tiny.entry(Role::Fallback).unwrap().source,
        Source::Derived { .. }
    ));
}

#[test]
fn an_entry_without_a_digest_is_refused_with_what_to_do() {
    // Not the file as it is: a publisher who has pinned every model is no error.
    let pins = |line: &&str| line.starts_with("sha256 = ") || line.starts_with("size = ");
    let text: Vec<&str> = SHIPPED.lines().filter(|line| !pins(line)).collect();
    let manifest = Manifest::parse(&text.join("\n")).unwrap();
    for profile in manifest.profiles() {
        for entry in &profile.models {
            let error = profile.expect(entry, Timestamp::UNIX_EPOCH, 0).unwrap_err();
            assert_eq!(error.name(), "not-pinned");
            assert!(
                error
                    .to_string()
                    .contains(&format!("scripts/pin-models {}", profile.name)),
                "{error}"
            );
        }
    }
    let roles = |name: &str| {
        manifest
            .profile(name)
            .unwrap()
            .models
            .iter()
            .map(|e| e.role)
            .collect::<Vec<_>>()
    };
    assert_eq!(roles("tiny"), [Role::Primary, Role::Fallback]);
    assert_eq!(roles("omni"), [Role::Primary, Role::Projector, Role::Fallback]);
}

#[test]
fn a_profile_that_is_not_there_is_answered_with_those_that_are() {
    let error = Manifest::parse(SHIPPED).unwrap().profile("huge").unwrap_err();
    assert_eq!(error.name(), "unknown-profile");
    assert!(error.to_string().contains("omni, tiny"), "{error}");
}

/// The shipped manifest with one text replaced must be refused for the reason given.
fn refused(from: &str, to: &str, reason: &str) {
    assert!(SHIPPED.contains(from), "{from}");
    let error = Manifest::parse(&SHIPPED.replacen(from, to, 1)).unwrap_err();
    assert_eq!(error.name(), "invalid-manifest");
    assert!(error.to_string().contains(reason), "{from} -> {to}: {error}");
}

#[test]
fn each_wrong_field_is_named() {
    refused("version = 1", "version = 2", "version 2");
    refused("role = \"primary\"", "role = \"second\"", "unknown variant");
    refused("role = \"primary\"", "role = \"projector\"", "no primary");
    refused("role = \"fallback\"", "role = \"primary\"", "its role is taken");
    refused("id = \"smollm2-135m-instruct-q4_0\"", "id = \"../x\"", "no id");
    refused(
        "id = \"smollm2-135m-instruct-q4_0\"",
        "id = \"smollm2-135m-instruct-q4_1\"",
        "twice",
    );
    refused(
        "SmolLM2-135M-Instruct.Q4_0.gguf",
        "../../etc/passwd",
        "plain name",
    );
    refused(
        "SmolLM2-135M-Instruct.Q4_0.gguf",
        "SmolLM2-135M-Instruct.Q4_1.bin",
        "another entry's",
    );
    refused("size = 98362432\n", "", "a digest needs a size");
    refused("context = 2048", "context = 1", "256 to");
    refused("wheel = \"", "wheel = \"--index-url=", "plain words");
    refused("member = \"", "member = \"../", "plain relative path");
    refused(
        "from = \"smollm2-135m-instruct-q4_1\"",
        "from = \"none\"",
        "derived from a model",
    );
    refused(
        "from = \"smollm2-135m-instruct-q4_1\"",
        "from = \"smollm2-135m-instruct-q4_0\"",
        "derived from",
    );
    refused("\nurl = \"https://", "\nurl = \"file://", "https://");
    refused("licence = ", "license = ", "license");
}

#[test]
fn too_large_a_manifest_is_not_parsed() {
    let text = format!("{SHIPPED}#{}", "x".repeat(256 * 1024));
    assert!(Manifest::parse(&text).unwrap_err().to_string().contains("exceed"));
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}", at: prop::sample::Index, cut in 0..400_usize) {
        let _ = Manifest::parse(&text);
        let at = at.index(SHIPPED.len());
        let end = (at + cut).min(SHIPPED.len());
        let changed = format!("{}{text}{}", &SHIPPED[..at], &SHIPPED[end..]);
        let _ = Manifest::parse(&changed);
    }
}

#[test]
fn a_profile_may_name_prompts_whose_files_are_its_own() {
    let manifest = Manifest::parse(SHIPPED).unwrap();
    for profile in manifest.profiles() {
        let prompts = profile.prompts.as_ref().unwrap();
        let expect = prompts.expect(Timestamp::UNIX_EPOCH, 2);
        assert_eq!(
            (expect.kind, expect.id, expect.sha256, expect.highest_seen),
            (Kind::Prompts, Some("omni-loop"), None, 2)
        );
    }
    let wrong = |from: &str, to: &str| {
        let text = SHIPPED.replacen(from, to, 1);
        assert_ne!(text, SHIPPED);
        Manifest::parse(&text).unwrap_err().to_string()
    };
    let file = "file = \"omni-loop.prompts\"";
    assert!(wrong(file, "file = \"a/b.prompts\"").contains("one plain name"));
    let taken = "file = \"SmolLM2-135M-Instruct.Q4_1.prompts\"";
    assert!(wrong(file, taken).contains("a model's"));
    let id = "id = \"omni-loop\"";
    assert!(wrong(id, "id = \"smollm2-135m-instruct-q4_1\"").contains("a model's"));
    assert!(wrong(id, "id = \"-\"").contains("no id"));
    assert!(wrong(id, "id = \"omni-loop\"\nmore = 1").contains("more"));
}
