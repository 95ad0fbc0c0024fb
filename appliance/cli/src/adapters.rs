//! `sarai adapters`: what the appliance has learnt, which of it is in use, and how to take it along.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};

use sarai_wire::adapter::{AdapterChange, AdapterStatus, Standing};
use sarai_wire::control::{Reply, Request};

use crate::args::AdaptersCommand;
use crate::control::{self, Client};
use crate::failure::Failure;
use crate::text::{Paint, clean, painted_table};
use crate::{merges, print, print_json};

/// Does what was asked.
pub fn run(mut client: Client, command: AdaptersCommand) -> Result<(), Failure> {
    let request = match command {
        AdaptersCommand::List { json } => {
            let adapters = list(&mut client)?;
            return if json {
                print_json(&adapters)
            } else {
                print(&render(&adapters, Paint::stdout()))
            };
        }
        AdaptersCommand::Export { adapter } => {
            return export(client, &Request::AdaptersExport { name: adapter }, "export");
        }
        AdaptersCommand::Merge {
            adapter,
            id,
            wait,
            json,
        } => return merges::merge(client, adapter, id, wait, json),
        AdaptersCommand::Merged { json, command } => return merges::merged(client, json, command),
        AdaptersCommand::Use { adapter } => Request::AdaptersUse { name: adapter },
        AdaptersCommand::Rollback { engine } => Request::AdaptersRollback { engine },
        AdaptersCommand::None { engine } => Request::AdaptersNone { engine },
    };
    match client.request(&request)? {
        Reply::AdapterChange(change) => print(&changed(&change)),
        other => Err(control::unexpected(&other)),
    }
}

/// Every adapter of the store.
pub fn list(client: &mut Client) -> Result<Vec<AdapterStatus>, Failure> {
    match client.request(&Request::AdaptersList)? {
        Reply::Adapters { adapters } => Ok(adapters),
        other => Err(control::unexpected(&other)),
    }
}

fn changed(change: &AdapterChange) -> String {
    let name = match &change.in_use {
        Some(name) => format!("{} is in use", clean(name, false)),
        None => "no adapter is in use".to_owned(),
    };
    if change.engines.is_empty() {
        return format!("{name} from the next start of the engine on\n");
    }
    let engines = clean(&change.engines.join(", "), false);
    format!("{name} now in {engines} ({} ms)\n", change.took_ms)
}

/// The adapters as a table, with what is to be said of some in full below it.
fn render(adapters: &[AdapterStatus], paint: Paint) -> String {
    if adapters.is_empty() {
        return "no adapters\n".to_owned();
    }
    let short = |text: &Option<String>| {
        text.as_deref()
            .map_or_else(String::new, |text| short(text).to_owned())
    };
    let row = |adapter: &AdapterStatus| {
        vec![
            adapter.name.clone(),
            adapter.version.clone().unwrap_or_default(),
            adapter.standing.name().to_owned(),
            crate::text::size(adapter.size),
            short(&adapter.digest),
            short(&adapter.base),
            adapter.engines.join(", "),
            adapter.signer.clone().unwrap_or_default(),
        ]
    };
    let heading = [
        "ADAPTER",
        "VERSION",
        "STATE",
        "SIZE",
        "DIGEST",
        "BASE",
        "FOR",
        "SIGNED BY",
    ];
    let mut out = painted_table(
        &heading,
        adapters.iter().map(row).collect(),
        paint,
        |row, column, text| match (column, adapters[row].standing) {
            (2, Standing::InUse) => paint.good(&text),
            (2, Standing::Rejected | Standing::Refused) => paint.bad(&text),
            _ => text,
        },
    );
    for adapter in adapters {
        if let Some(note) = &adapter.note {
            let (name, standing) = (clean(&adapter.name, false), adapter.standing.name());
            out.push_str(&paint.bad(&format!("! {name} {standing}: {}", clean(note, false))));
            out.push('\n');
        }
    }
    out
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Writes the files that are handed out to standard output.
pub fn export(mut client: Client, request: &Request, command: &str) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        return Err(Failure::usage(format!(
            "an archive is no text for a terminal; send it to a file: sarai adapters {command} NAME >NAME.tar"
        )));
    }
    let (reply, files) = client.request_files(request)?;
    let Reply::Files { names } = reply else {
        return Err(control::unexpected(&reply));
    };
    if names.len() != files.len() {
        return Err(Failure::failed(format!(
            "take the files: {} files are named and {} came",
            names.len(),
            files.len()
        )));
    }
    let files = names.into_iter().zip(files.into_iter().map(File::from));
    archive(files, &mut std::io::stdout().lock())
        .map_err(|e| Failure::failed(format!("write the archive: {e}")))
}

/// Bytes of a block of an archive.
const BLOCK: usize = 512;

/// Writes files as a tar archive (POSIX ustar): a header of one block, the content filled up to blocks, and two empty
/// blocks at the end.
fn archive(files: impl Iterator<Item = (String, File)>, to: &mut impl Write) -> std::io::Result<()> {
    for (name, file) in files {
        let size = file.metadata()?.len();
        to.write_all(&header(&name, size)?)?;
        let written = std::io::copy(&mut file.take(size), to)?;
        if written != size {
            return Err(std::io::Error::other(format!(
                "{name} became shorter while it was read"
            )));
        }
        let rest = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if rest > 0 {
            to.write_all(&[0; BLOCK][rest..])?;
        }
    }
    to.write_all(&[0; 2 * BLOCK])?;
    to.flush()
}

fn header(name: &str, size: u64) -> std::io::Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, field: &[u8]| block[at..at + field.len()].copy_from_slice(field);
    // Eleven octal digits and an end.
    if name.len() >= 100 || size >= 1 << 33 {
        return Err(std::io::Error::other(format!("{name} does not fit an archive")));
    }
    put(0, name.as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    // The sum is taken over blanks in its own place.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    fn status(name: &str, standing: Standing, note: Option<&str>) -> AdapterStatus {
        AdapterStatus {
            name: name.into(),
            standing,
            size: 2_500_000,
            version: Some("1".into()),
            digest: Some("ab".repeat(32)),
            base: Some("cd".repeat(32)),
            signer: Some("F00D".into()),
            engines: vec!["engine-primary".into()],
            note: note.map(Into::into),
        }
    }

    #[test]
    fn the_table_says_where_each_stands_and_why() {
        let text = render(
            &[
                status("night-2", Standing::InUse, None),
                status("night-1", Standing::Rejected, Some("loss 1.2\u{1b}[31m to 1.4")),
            ],
            Paint::off(),
        );
        for wanted in [
            "night-2",
            "in use",
            "abababababab",
            "cdcdcdcdcdcd",
            "engine-primary",
            "F00D",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in {text}");
        }
        assert!(
            text.contains("! night-1 rejected: loss 1.2") && !text.contains('\u{1b}'),
            "{text}"
        );
        assert!(render(&[], Paint::off()).contains("no adapters"));
    }

    #[test]
    fn a_change_says_where_it_is_in_force() {
        let change = |engines: &[&str]| {
            changed(&AdapterChange {
                in_use: None,
                engines: engines.iter().map(|e| (*e).to_owned()).collect(),
                took_ms: 12,
            })
        };
        assert_eq!(
            change(&["engine-primary"]),
            "no adapter is in use now in engine-primary (12 ms)\n"
        );
        assert!(change(&[]).contains("from the next start"));
    }

    #[test]
    fn tar_reads_the_archive() {
        let file = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file.rewind().unwrap();
            file
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let large = vec![7; 100_000];
        let files = [
            ("n.gguf", &large[..]),
            ("n.toml", b"x"),
            ("n.toml.asc", &[1; 512]),
        ];
        let all = files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), file(bytes)));
        archive(all, &mut File::create(&path).unwrap()).unwrap();
        let status = std::process::Command::new("tar")
            .args(["-xf", "a.tar"])
            .current_dir(folder.path())
            .status()
            .unwrap();
        assert!(status.success());
        for (name, bytes) in files {
            assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), bytes);
        }
        assert!(header(&"x".repeat(100), 1).is_err() && header("x", 1 << 33).is_err());
    }
}
