//! Models for tests: tiny made-up ones for mechanism, the real one for sense. Each is attested by the project's
//! own `sarai-attest` and signed by the real `gpg`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::gguf::Tiny;
use crate::publisher::Publisher;
use crate::tree;

/// What the tests' profile is called.
pub const PROFILE: &str = "tests";

/// One model of a profile and how it is attested.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// `primary` or `fallback`.
    pub role: String,
    /// Id in manifest and attestation.
    pub id: String,
    /// File name in the model store.
    pub file: String,
    /// Where the bytes are.
    pub source: PathBuf,
    /// Context, tokens.
    pub context: u32,
    /// Sequence of the attestation.
    pub sequence: u64,
    /// Whether the manifest states size and digest.
    pub pinned: bool,
    /// KV cache of one token at 16-bit floats, bytes, where the attestation is to say.
    pub kv_per_token: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Digests {
    size: u64,
    sha256: String,
}

impl Artifact {
    /// An artifact of these bytes; the file keeps its name.
    pub fn new(role: &str, id: &str, source: &Path, context: u32) -> Result<Self> {
        let file = source
            .file_name()
            .and_then(|n| n.to_str())
            .context("a model file needs a name")?;
        Ok(Self {
            role: role.to_owned(),
            id: id.to_owned(),
            file: file.to_owned(),
            source: source.to_path_buf(),
            context,
            sequence: 1,
            pinned: true,
            kv_per_token: None,
        })
    }

    /// Puts the file into a model store with a fresh attestation signed by `publisher`.
    pub fn install(&self, store: &Path, publisher: &Publisher) -> Result<()> {
        let to = store.join(&self.file);
        let document = to.with_extension("toml");
        let signature = to.with_extension("toml.asc");
        for old in [&to, &document, &signature] {
            // A file under fs-verity cannot be written, only replaced.
            if old.exists() {
                fs::remove_file(old)?;
            }
        }
        fs::copy(&self.source, &to).with_context(|| format!("copy {}", self.source.display()))?;
        let (file, sequence) = (to.to_string_lossy(), self.sequence.to_string());
        let mut arguments = vec!["create", &*file, "--kind", "model", "--id", &self.id];
        arguments.extend(["--version", "1.0.0", "--sequence", &sequence]);
        let kv = self.kv_per_token.map(|bytes| bytes.to_string());
        arguments.extend(kv.iter().flat_map(|bytes| ["--kv-per-token", bytes.as_str()]));
        attest(&arguments)?;
        publisher.sign(&document)?;
        ensure!(signature.exists(), "no signature at {}", signature.display());
        Ok(())
    }

    /// Its entry in the manifest.
    fn manifest_entry(&self) -> Result<String> {
        let mut text = format!(
            "\n[[profiles.{PROFILE}.models]]\nrole = \"{}\"\nid = \"{}\"\nname = \"{}\"\nfile = \"{}\"\n\
             licence = \"CC0-1.0\"\nlicence_url = \"https://creativecommons.org/publicdomain/zero/1.0/\"\n\
             context = {}\nsource = {{ type = \"url\", url = \"https://models.invalid/{}\" }}\n",
            self.role, self.id, self.id, self.file, self.context, self.file
        );
        if self.pinned {
            let digests: Digests =
                serde_json::from_str(&attest(&["digest", "--json", &self.source.to_string_lossy()])?)?;
            writeln!(text, "size = {}\nsha256 = \"{}\"", digests.size, digests.sha256)?;
        }
        Ok(text)
    }
}

/// Writes a manifest whose only profile has these models.
pub fn write_manifest(to: &Path, artifacts: &[Artifact]) -> Result<()> {
    let mut text = format!(
        "version = 1\n\n[profiles.{PROFILE}]\ndescription = \"made up for a test\"\n\n\
         [profiles.{PROFILE}.prompts]\nid = \"omni-loop\"\nfile = \"omni-loop.prompts\"\n"
    );
    for artifact in artifacts {
        text.push_str(&artifact.manifest_entry()?);
    }
    fs::write(to, text).with_context(|| format!("write {}", to.display()))
}

/// Puts the shipped prompts into a model store, signed by `publisher`; without them the built-in ones are used.
pub fn install_prompts(store: &Path, publisher: &Publisher) -> Result<()> {
    let to = store.join("omni-loop.prompts");
    let from = tree::root().join("appliance/reflection/prompts/omni-loop.prompts");
    fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
    attest(&[
        "create",
        &to.to_string_lossy(),
        "--kind",
        "prompts",
        "--id",
        "omni-loop",
        "--version",
        "1.0.0",
        "--sequence",
        "1",
    ])?;
    publisher.sign(&to.with_extension("toml")).map(|_| ())
}

/// Runs `sarai-attest`, which must succeed, and gives its standard output.
pub fn attest(arguments: &[&str]) -> Result<String> {
    let output = Command::new(tree::program("sarai-attest")?)
        .args(arguments)
        .output()
        .context("run sarai-attest")?;
    ensure!(
        output.status.success(),
        "sarai-attest {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// The real models of the profile `tiny`, as `scripts/fetch-models tiny` leaves them: primary and fallback.
pub fn real() -> Result<[Artifact; 2]> {
    let one = |role: &str, id: &str, file: &str| Artifact::new(role, id, &tree::real_model(file)?, 2048);
    Ok([
        one(
            "primary",
            "smollm2-135m-instruct-q4_1",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
        )?,
        one(
            "fallback",
            "smollm2-135m-instruct-q4_0",
            "SmolLM2-135M-Instruct.Q4_0.gguf",
        )?,
    ])
}

/// A tiny made-up model for `role`, whose id is its role. It says nothing sensible, at some thousand tokens a
/// second, and ends its turn only rarely.
pub fn tiny(role: &str) -> Result<Artifact> {
    let folder = made_up()?;
    let seed = role.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte));
    let path = folder.join(format!("{role}.gguf"));
    // Written aside: another test may be making the same one.
    let aside = tempfile::NamedTempFile::new_in(folder)?;
    Tiny {
        seed,
        layers: 12,
        ..Tiny::default()
    }
    .write(aside.path())?;
    aside.persist(&path)?;
    Artifact::new(role, &format!("made-up-{role}"), &path, 2048)
}

/// Where made-up models are kept: beside the test itself, so that a run leaves nothing elsewhere.
fn made_up() -> Result<&'static Path> {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    if let Some(folder) = FOLDER.get() {
        return Ok(folder);
    }
    let folder = tree::binaries()?.join("made-up-models");
    fs::create_dir_all(&folder)?;
    Ok(FOLDER.get_or_init(|| folder))
}
