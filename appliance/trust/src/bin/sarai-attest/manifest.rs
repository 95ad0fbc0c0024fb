//! `sarai-attest manifest`: what scripts need to know of the models manifest, and the one change they make to it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sarai_trust::manifest::{Entry, MAX_MANIFEST, Manifest, Profile, Prompts};
use sarai_trust::{Digest, TrustError, atomic, read_bounded};

/// Arguments of `manifest`.
#[derive(clap::Args)]
pub struct Args {
    /// The manifest
    #[arg(long, global = true, default_value = "models-manifest.toml")]
    manifest: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The profiles, or the models of one: role, id, file, size, sha256, separated by tabs
    List {
        /// Which profile
        profile: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// One model or the prompts, or one field of that; a field that is not set prints nothing
    Get {
        /// Which profile
        profile: String,
        /// Its id, role (`prompts` for those) or file name
        entry: String,
        /// Such as `file`, `sha256` or `source.url`
        field: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Fail unless every model is pinned and, with --dir, there in the right size with the right content
    Check {
        /// Which profile
        profile: String,
        /// Only this one: its id, role or file name
        #[arg(long)]
        entry: Option<String>,
        /// Folder with the files
        #[arg(long)]
        dir: Option<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write size and SHA-256 of a file into an entry that has none; comments stay
    Pin {
        /// Which profile
        profile: String,
        /// Its id, role or file name
        entry: String,
        /// The file, as the publisher vouches for it
        file: PathBuf,
    },
}

/// Reads the manifest and does what was asked.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let manifest =
        Manifest::load(&args.manifest).with_context(|| format!("load {}", args.manifest.display()))?;
    let mut out = std::io::stdout().lock();
    match &args.command {
        Command::List { profile: None, json } => {
            if *json {
                writeln!(out, "{}", serde_json::to_string(&manifest)?)?;
            } else {
                for profile in manifest.profiles() {
                    writeln!(out, "{}\t{}", profile.name, profile.description)?;
                }
            }
        }
        Command::List {
            profile: Some(profile),
            json,
        } => {
            let profile = manifest.profile(profile)?;
            if *json {
                writeln!(out, "{}", serde_json::to_string(profile)?)?;
            } else {
                for entry in &profile.models {
                    let size = entry.size.map(|s| s.to_string()).unwrap_or_default();
                    let sha256 = entry.sha256.map(|s| s.to_string()).unwrap_or_default();
                    writeln!(
                        out,
                        "{}\t{}\t{}\t{size}\t{sha256}",
                        entry.role, entry.id, entry.file
                    )?;
                }
            }
        }
        Command::Get {
            profile,
            entry,
            field,
            json,
        } => {
            let entry = get(manifest.profile(profile)?, entry)?;
            let pointer = field
                .as_deref()
                .map(|f| format!("/{}", f.replace('.', "/")))
                .unwrap_or_default();
            let value = entry.pointer(&pointer).unwrap_or(&serde_json::Value::Null);
            match value {
                serde_json::Value::String(text) if !json => writeln!(out, "{text}")?,
                serde_json::Value::Null if !json => {}
                value => writeln!(out, "{value}")?,
            }
        }
        Command::Check {
            profile,
            entry,
            dir,
            json,
        } => {
            let profile = manifest.profile(profile)?;
            let entries = match entry {
                Some(name) => vec![find(profile, name)?],
                None => profile.models.iter().collect(),
            };
            for entry in entries {
                let digest = profile.pinned(entry)?;
                if let Some(dir) = dir {
                    check_file(entry, digest, &dir.join(&entry.file))?;
                }
                if *json {
                    let value = serde_json::json!({ "id": entry.id, "file": entry.file, "sha256": digest });
                    writeln!(out, "{value}")?;
                } else {
                    let there = if dir.is_some() { "there" } else { "pinned" };
                    writeln!(out, "{}\t{there}\t{digest}", entry.file)?;
                }
            }
        }
        Command::Pin { profile, entry, file } => {
            let entry = find(manifest.profile(profile)?, entry)?;
            if let Some(digest) = entry.sha256 {
                bail!("pin {:?}: it has a digest already, {digest}", entry.id);
            }
            let hashes = crate::hash(file)?;
            if entry.size.is_some_and(|size| size != hashes.size) {
                let expected = entry.size.unwrap_or_default();
                return Err(TrustError::WrongSize {
                    expected,
                    found: hashes.size,
                }
                .into());
            }
            pin(&args.manifest, profile, &entry.id, hashes.size, hashes.sha256)?;
            writeln!(out, "{}\t{}\t{}", entry.id, hashes.size, hashes.sha256)?;
        }
    }
    Ok(())
}

/// A model's entry, or the prompts' with the role that they have no field for.
fn get(profile: &Profile, name: &str) -> anyhow::Result<serde_json::Value> {
    let named = |p: &&Prompts| p.id == name || p.file == name || name == "prompts";
    match profile.prompts.as_ref().filter(named) {
        Some(prompts) => {
            let mut value = serde_json::to_value(prompts)?;
            value["role"] = "prompts".into();
            Ok(value)
        }
        None => Ok(serde_json::to_value(find(profile, name)?)?),
    }
}

fn find<'a>(profile: &'a Profile, name: &str) -> anyhow::Result<&'a Entry> {
    let found = profile
        .models
        .iter()
        .find(|e| e.id == name || e.file == name || e.role.as_str() == name);
    found.with_context(|| {
        format!(
            "find {name:?} in profile {:?}: it is no id, role or file of it",
            profile.name
        )
    })
}

fn check_file(entry: &Entry, digest: Digest, path: &Path) -> anyhow::Result<()> {
    let context = || format!("check {}", path.display());
    if !path.exists() {
        return Err(TrustError::MissingFile {
            path: path.to_owned(),
        }
        .into());
    }
    // The size first: it costs nothing.
    let found = path.metadata().with_context(context)?.len();
    if let Some(expected) = entry.size.filter(|size| *size != found) {
        return Err(TrustError::WrongSize { expected, found }).with_context(context);
    }
    let found = crate::hash(path)?.sha256;
    if found != digest {
        return Err(TrustError::WrongDigest {
            what: "sha256",
            expected: digest,
            found,
        })
        .with_context(context);
    }
    Ok(())
}

/// Edits the manifest in place, keeping comments and order, and replaces it atomically.
fn pin(path: &Path, profile: &str, id: &str, size: u64, sha256: Digest) -> anyhow::Result<()> {
    let bytes = read_bounded(path, MAX_MANIFEST)?.context("read the manifest: it is too large")?;
    let mut document: toml_edit::DocumentMut = String::from_utf8(bytes)?.parse()?;
    let table = document["profiles"][profile]["models"]
        .as_array_of_tables_mut()
        .and_then(|models| {
            models
                .iter_mut()
                .find(|m| m.get("id").and_then(|v| v.as_str()) == Some(id))
        })
        .with_context(|| format!("edit {id:?}: models must be written as [[profiles.{profile}.models]]"))?;
    table["size"] = toml_edit::value(i64::try_from(size)?);
    table["sha256"] = toml_edit::value(sha256.to_string());
    // Beside the file's name, where a reader looks for them, and not after the source.
    let order = ["role", "id", "name", "file", "size", "sha256"];
    table.sort_values_by(|a, _, b, _| {
        let place = |key: &toml_edit::Key| order.iter().position(|o| *o == key.get()).unwrap_or(order.len());
        place(a).cmp(&place(b))
    });
    let text = document.to_string();
    let pinned = Manifest::parse(&text)?
        .profile(profile)?
        .models
        .iter()
        .any(|e| e.id == id && e.sha256 == Some(sha256));
    if !pinned {
        bail!("edit {id:?}: the result would not say so");
    }
    Ok(atomic::write(path, text.as_bytes(), 0o644)?)
}
