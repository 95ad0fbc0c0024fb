//! `sarai-attest create`: the document of a file.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use sarai_trust::{Attestation, Digest, FORMAT, Kind, MemoryEnvelope, Probe, atomic, document_name};

/// Arguments of `create`.
#[derive(clap::Args)]
pub struct Args {
    /// The artifact
    file: PathBuf,
    /// model, projector, adapter, bundle or prompts
    #[arg(long)]
    kind: Kind,
    /// Which artifact: stays the same over versions
    #[arg(long)]
    id: String,
    /// Version for people
    #[arg(long = "version", id = "artifact_version")]
    version: String,
    /// Counts up for one id, from 1
    #[arg(long)]
    sequence: u64,
    /// End of the attestation, such as 2030-01-01T00:00:00Z
    #[arg(long)]
    expires: Option<Timestamp>,
    /// SHA-256 of the base model that an adapter binds to
    #[arg(long)]
    base: Option<Digest>,
    /// Models: KV cache of one token at 16-bit floats, bytes; the weights are the file's size
    #[arg(long)]
    kv_per_token: Option<u64>,
    /// Models: a prompt with a known answer
    #[arg(long, requires = "probe_expect")]
    probe_prompt: Option<String>,
    /// Models: what the answer begins with, decoded greedily
    #[arg(long, requires = "probe_prompt")]
    probe_expect: Option<String>,
    /// Write here instead of NAME.toml beside the file
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Hashes the file and writes its document.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let name = args
        .file
        .file_name()
        .and_then(|n| n.to_str())
        .and_then(document_name);
    let Some(name) = name else {
        bail!(
            "name a document for {}: the file needs a plain name with an ending",
            args.file.display()
        );
    };
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| args.file.with_file_name(name));
    let mut signature = output.clone().into_os_string();
    signature.push(".asc");
    let signature = PathBuf::from(signature);
    // A new document under an old signature is worse than none.
    if signature.exists() {
        bail!(
            "write {}: {} signs the present one; remove it first",
            output.display(),
            signature.display()
        );
    }
    if let Some(end) = args.expires
        && end <= Timestamp::now()
    {
        bail!("create an attestation that has expired already, at {end}");
    }
    let hashes = crate::hash(&args.file)?;
    let attestation = Attestation {
        format: FORMAT,
        kind: args.kind,
        id: args.id.clone(),
        version: args.version.clone(),
        sequence: args.sequence,
        expires: args.expires,
        size: hashes.size,
        sha256: hashes.sha256,
        verity: hashes.verity,
        base: args.base,
        memory: args.kv_per_token.map(|kv_per_token| MemoryEnvelope {
            weights: hashes.size,
            kv_per_token,
        }),
        probe: args
            .probe_prompt
            .clone()
            .zip(args.probe_expect.clone())
            .map(|(prompt, expect)| Probe { prompt, expect }),
    };
    let text = attestation.render().context("create the attestation")?;
    atomic::write(&output, text.as_bytes(), 0o644)?;
    println!("{}", output.display());
    Ok(())
}
