use super::*;
use proptest::prelude::*;

fn sample(kind: Kind) -> Attestation {
    Attestation {
        format: FORMAT,
        kind,
        id: "smollm2-135m".into(),
        version: "1.0.0".into(),
        sequence: 1,
        expires: Some("2030-01-01T00:00:00Z".parse().unwrap()),
        size: 5,
        sha256: Digest::of(b"a"),
        verity: Digest::of(b"b"),
        base: (kind == Kind::Adapter).then(|| Digest::of(b"c")),
        memory: (kind == Kind::Model).then_some(MemoryEnvelope {
            weights: 5,
            kv_per_token: 1,
        }),
        probe: (kind == Kind::Model).then(|| Probe {
            prompt: "1+1=\n\"".into(),
            expect: "2".into(),
        }),
    }
}

#[test]
fn what_is_rendered_is_read_back() {
    for kind in Kind::ALL {
        let text = sample(kind).render().unwrap();
        assert_eq!(
            Attestation::parse(text.as_bytes()).unwrap(),
            sample(kind),
            "{text}"
        );
        assert_eq!(kind.as_str().parse(), Ok(kind));
    }
}

#[test]
fn the_documented_example_is_valid() {
    let text = r#"
format = 1
kind = "model"                      # model, projector, adapter, bundle, prompts
id = "smollm2-135m-instruct-q4_1"
version = "1.0.0"
sequence = 1                        # never goes back for one id
expires = "2030-01-01T00:00:00Z"    # optional
size = 98362432
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
verity = "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"

[memory]                            # base models: the envelope, bytes
weights = 98362432
kv_per_token = 23040

[probe]                             # base models: a known answer, greedy
prompt = "What is 1+1?"
expect = "2"
"#;
    assert_eq!(
        Attestation::parse(text.as_bytes())
            .unwrap()
            .memory
            .unwrap()
            .kv_per_token,
        23040
    );
}

fn name_of(text: &str) -> &'static str {
    Attestation::parse(text.as_bytes()).unwrap_err().name()
}

#[test]
fn the_format_is_judged_before_the_fields() {
    let text = sample(Kind::Model).render().unwrap();
    assert_eq!(
        name_of(&text.replace("format = 1", "format = 2\nnew_field = 3")),
        "unknown-format"
    );
    assert_eq!(
        name_of(&text.replace("format = 1", "format = \"1\"")),
        "unknown-format"
    );
    assert_eq!(name_of(&text.replace("format = 1\n", "")), "unknown-format");
    assert_eq!(name_of("format = "), "not-toml");
    assert_eq!(name_of("GGUF\0\0"), "not-toml");
    assert_eq!(
        name_of(&text.replace("size", "unknown = 1\nsize")),
        "invalid-document"
    );
}

#[test]
fn fields_out_of_bounds_are_refused() {
    type Change = fn(&mut Attestation);
    let wrong: [(&str, Change); 14] = [
        ("empty id", |a| a.id.clear()),
        ("path as id", |a| a.id = "../x".into()),
        ("long id", |a| a.id = "x".repeat(129)),
        ("blank in version", |a| a.version = "1 0".into()),
        ("empty version", |a| a.version.clear()),
        ("sequence 0", |a| a.sequence = 0),
        ("sequence beyond TOML", |a| a.sequence = u64::MAX),
        ("size 0", |a| a.size = 0),
        ("model with base", |a| a.base = Some(a.sha256)),
        ("adapter without base", |a| {
            *a = Attestation {
                base: None,
                ..sample(Kind::Adapter)
            }
        }),
        ("bundle with memory", |a| a.kind = Kind::Bundle),
        ("weights 0", |a| {
            a.memory = Some(MemoryEnvelope {
                weights: 0,
                kv_per_token: 0,
            })
        }),
        ("empty probe", |a| {
            a.probe = Some(Probe {
                prompt: " ".into(),
                expect: "x".into(),
            })
        }),
        ("long probe", |a| {
            a.probe = Some(Probe {
                prompt: "x".into(),
                expect: "x".repeat(9000),
            })
        }),
    ];
    for (what, change) in wrong {
        let mut attestation = sample(Kind::Model);
        change(&mut attestation);
        assert_eq!(
            attestation.render().unwrap_err().name(),
            "invalid-document",
            "{what}"
        );
        if let Ok(text) = toml::to_string(&attestation) {
            // TOML itself has no such integers.
            let expected = if attestation.sequence > i64::MAX as u64 {
                "not-toml"
            } else {
                "invalid-document"
            };
            assert_eq!(name_of(&text), expected, "{what}");
        }
    }
}

#[test]
fn too_large_a_document_is_not_parsed() {
    assert_eq!(name_of(&"#".repeat(64 * 1024 + 1)), "document-too-large");
    assert_eq!(name_of(&"#".repeat(64 * 1024)), "unknown-format");
    // Deep nesting must end in an error, not in the end of the stack.
    assert_eq!(name_of(&format!("format = {}", "[".repeat(60_000))), "not-toml");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Attestation::parse(&bytes);
    }

    #[test]
    fn a_damaged_document_never_panics(at: prop::sample::Index, with in ".{0,8}") {
        let text = sample(Kind::Model).render().unwrap();
        let at = at.index(text.len());
        let _ = Attestation::parse(format!("{}{with}{}", &text[..at], &text[at + 1..]).as_bytes());
    }
}
