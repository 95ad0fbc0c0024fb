//! `sarai-attest verify`: the verdict that the appliance would give, without touching the file.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use sarai_trust::{
    Checked, Digest, Expect, Keyring, Kind, MAX_DOCUMENT, MAX_SIGNATURE, TrustError, check_document,
    document_name, read_bounded, verify_content,
};

/// Arguments of `verify`.
#[derive(clap::Args)]
pub struct Args {
    /// The artifact
    file: PathBuf,
    /// Folder with the certificates (*.asc, *.pgp) that are believed
    #[arg(long)]
    keyring: PathBuf,
    /// Certificate of the device, which may sign adapters
    #[arg(long)]
    device: Option<PathBuf>,
    /// The document, if it is not NAME.toml beside the file; its signature ends in .asc
    #[arg(long)]
    document: Option<PathBuf>,
    /// The kind it must be
    #[arg(long)]
    kind: Option<Kind>,
    /// The id it must have
    #[arg(long)]
    id: Option<String>,
    /// The SHA-256 it must attest
    #[arg(long)]
    sha256: Option<Digest>,
    /// Adapters: SHA-256 of the base model it must bind to
    #[arg(long)]
    base: Option<Digest>,
    /// The highest sequence seen of it
    #[arg(long, default_value_t = 0)]
    highest_seen: u64,
    /// Print the attestation as JSON
    #[arg(long)]
    json: bool,
}

/// Verifies and prints what holds.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut keyring = Keyring::load_dir(&args.keyring)?;
    if let Some(path) = &args.device {
        let bytes =
            read_bounded(path, MAX_SIGNATURE)?.context("read the device certificate: it is too large")?;
        keyring = keyring.with_device(&bytes)?;
    }
    let document_path = match &args.document {
        Some(path) => path.clone(),
        None => {
            let name = args
                .file
                .file_name()
                .and_then(|n| n.to_str())
                .and_then(document_name);
            let name = name.ok_or_else(|| TrustError::InvalidName {
                name: args.file.display().to_string(),
            })?;
            args.file.with_file_name(name)
        }
    };
    let checked = check(args, &document_path, &keyring)?;
    let file = File::open(&args.file).with_context(|| format!("open {}", args.file.display()))?;
    let mut bar = crate::Bar::new("verifying");
    let method = verify_content(
        &file,
        &args.file,
        &checked.attestation,
        false,
        &mut |done, all| bar.show(done, all),
    )?;

    let Checked { attestation, signer } = checked;
    if args.json {
        let value =
            serde_json::json!({ "attestation": attestation, "signer": signer, "method": method.as_str() });
        println!("{value}");
    } else {
        println!(
            "good: {} {} {} (sequence {}), signed by {signer}, verified by {}",
            attestation.kind,
            attestation.id,
            attestation.version,
            attestation.sequence,
            method.as_str()
        );
    }
    Ok(())
}

fn check(args: &Args, document_path: &Path, keyring: &Keyring) -> Result<Checked, TrustError> {
    let document = read_bounded(document_path, MAX_DOCUMENT)?.ok_or(TrustError::DocumentTooLarge {
        size: MAX_DOCUMENT + 1,
    })?;
    let mut signature_path = document_path.as_os_str().to_owned();
    signature_path.push(".asc");
    let signature = match read_bounded(Path::new(&signature_path), MAX_SIGNATURE) {
        Ok(Some(bytes)) => Some(bytes),
        Ok(None) => {
            return Err(TrustError::SignatureTooLarge {
                size: MAX_SIGNATURE + 1,
            });
        }
        Err(TrustError::MissingFile { .. }) => None,
        Err(e) => return Err(e),
    };
    let judge = |kind| {
        let (id, highest_seen) = (args.id.as_deref(), args.highest_seen);
        let expect = Expect {
            kind,
            id,
            sha256: args.sha256,
            base: args.base,
            now: Timestamp::now(),
            highest_seen,
        };
        check_document(&document, signature.as_deref(), keyring, &expect)
    };
    match judge(args.kind.unwrap_or(Kind::Model)) {
        // No kind was asked for: whichever a believed signer says.
        Err(TrustError::WrongKind { found, .. }) if args.kind.is_none() => judge(found),
        verdict => verdict,
    }
}
