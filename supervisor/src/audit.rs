//! The supervisor's part of the audit log: its folder, the signatures under the heads that the gateway reports, and
//! handing its files to the admin. It never reads the log: what is in there came from the LAN.
//!
//! The gateway holds no key, so that whoever takes it over can write anything from then on, and nothing anew that was
//! signed before: a head that goes back is not signed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sarai_trust::{
    Checkpoint, Digest, Keyring, MAX_CHECKPOINT, MAX_SIGNATURE, TrustError, atomic, read_bounded,
};
use sarai_wire::birth::{AuditHead, AuditReport};
use sarai_wire::control::{Reply, SignedHead};
use sarai_wire::descriptors::MAX_FILES;

use crate::app::Shared;
use crate::identity::Identity;
use crate::problems::{Problems, lock};
use crate::spawn;

/// Topic of what the gateway cannot write.
const WRITING: &str = "audit";
/// Topic of what cannot be signed.
const SIGNING: &str = "audit signatures";
/// Topic of a log that goes back.
const BACK: &str = "audit history";

/// Heads that wait to be signed.
const QUEUE: usize = 16;
/// Shortest time between two signatures, whatever the gateway reports.
const PAUSE: Duration = Duration::from_millis(100);
/// Most checkpoints of one file that are kept; each says all of what came before it, and the older ones only how far
/// back something was changed.
const KEPT: usize = 32;
/// Checkpoints of files this much older than the newest are removed: the log keeps 64.
const FILES: u64 = 128;
/// Most checkpoints that are looked at.
const MAX_CHECKPOINTS: usize = 4096;

/// What is wrong. Fits after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A folder or file cannot be used.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something is in the log's folder that no gateway puts there.
    #[error("open {}: it is not a plain file of the gateway's", path.display())]
    NotPlain {
        /// What.
        path: PathBuf,
    },
    /// More files than are ever kept.
    #[error("open the audit log: it has {0} files, at most {MAX_FILES} are handed over")]
    TooMany(usize),
    /// A signature cannot be made or checked.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// There is no device key yet.
    #[error("check the checkpoints: this machine has no device key yet")]
    NoKey,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuditError {
    let path = path.to_owned();
    move |source| AuditError::Io { action, path, source }
}

/// Makes the log's folder, which is the gateway's own: the only place it writes to.
pub fn folder(app: &Shared) -> PathBuf {
    let path = app.layout.audit();
    if let Err(e) = make_folder(&path, app.layout.separate.then_some(spawn::GATEWAY.id)) {
        app.problems
            .set(WRITING, format!("no audit log can be written: failed to {e}"));
    }
    path
}

fn make_folder(path: &Path, owner: Option<u32>) -> Result<(), AuditError> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed("make", path)(e)),
        _ => {}
    }
    if owner.is_some() {
        // The folder above is root's: nobody else can have put something else in this one's place.
        std::os::unix::fs::lchown(path, owner, owner).map_err(failed("give away", path))?;
    }
    Ok(())
}

/// The gateway said how its log stands.
pub fn reported(app: &Shared, report: AuditReport) {
    match report.trouble {
        Some(trouble) => {
            let trouble: String = trouble.chars().take(300).collect();
            let text = format!(
                "the audit log cannot be written, requests go on: failed to {trouble} ({} records lost)",
                report.lost
            );
            app.problems.set(WRITING, text);
        }
        None => app.problems.clear(WRITING),
    }
    let identity = lock(&app.identity).clone();
    if let Some((head, identity)) = report.head.zip(identity) {
        app.audit.sign(head, identity);
    }
}

/// A head, and who signs it.
type Job = (AuditHead, Arc<Identity>);

/// Signs heads on a thread of its own: a slow disk must not hold up the main loop.
pub struct Checkpoints {
    queue: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Checkpoints {
    /// Starts the thread; checkpoints go to `folder`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(folder: PathBuf, problems: Problems) -> io::Result<Self> {
        let (to, from) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || run(&folder, &problems, &from))?;
        Ok(Self {
            queue: Mutex::new(Some(to)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Has a head signed. One that comes while too many wait is left out: the next one says more.
    fn sign(&self, head: AuditHead, identity: Arc<Identity>) {
        if let Some(queue) = &*lock(&self.queue) {
            let _ = queue.try_send((head, identity));
        }
    }

    /// Signs what waits, within `limit`, and nothing after that.
    pub fn end(&self, limit: Duration) {
        lock(&self.queue).take();
        let until = Instant::now() + limit;
        while lock(&self.thread).as_ref().is_some_and(|t| !t.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn run(folder: &Path, problems: &Problems, queue: &Receiver<Job>) {
    while let Ok((head, identity)) = queue.recv() {
        // Of several of one file the last says all; of another file, its last line is wanted too.
        let mut heads = BTreeMap::from([(head.file, head)]);
        for (head, _) in queue.try_iter() {
            heads.insert(head.file, head);
        }
        for head in heads.into_values() {
            match keep(folder, &head, &identity, Timestamp::now()) {
                Ok(Kept::Signed) => problems.clear(SIGNING),
                Ok(Kept::Known) => {}
                Ok(Kept::Back(file, line)) => problems.set(
                    BACK,
                    format!(
                        "the audit log went back: file {} line {} was reported, and file {file} line {line} is signed \
                         already; see: sarai audit verify. If the log was removed on purpose, remove {} too",
                        head.file,
                        head.line,
                        folder.display()
                    ),
                ),
                Err(e) => problems.set(SIGNING, format!("the audit log cannot be signed: failed to {e}")),
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// What became of a head.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    Signed,
    /// It is signed already.
    Known,
    /// A later one is.
    Back(u64, u64),
}

fn keep(folder: &Path, head: &AuditHead, identity: &Identity, now: Timestamp) -> Result<Kept, AuditError> {
    let sha256: Digest = head.sha256.parse().map_err(|e: sarai_trust::ParseDigestError| {
        AuditError::Trust(TrustError::InvalidDocument {
            reason: e.to_string(),
        })
    })?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed("make", folder))?;
    let there = list(folder)?;
    match there.last() {
        Some(last) if *last == (head.file, head.line) => return Ok(Kept::Known),
        Some((file, line)) if (*file, *line) > (head.file, head.line) => return Ok(Kept::Back(*file, *line)),
        _ => {}
    }
    let (document, signature) = Checkpoint::new(head.file, head.line, sha256, now).sign(&identity.device)?;
    let path = folder.join(name(head.file, head.line));
    // The document last: while it is not there, nobody misses it.
    atomic::write(&signature_of(&path), &signature, 0o600)?;
    atomic::write(&path, document.as_bytes(), 0o600)?;
    thin(folder, &there, head.file);
    Ok(Kept::Signed)
}

/// Removes checkpoints of files that are long gone, and every second one of a file that has too many.
fn thin(folder: &Path, there: &[(u64, u64)], newest: u64) {
    let old = there
        .iter()
        .filter(|(file, _)| file.saturating_add(FILES) < newest);
    let of_file: Vec<_> = there.iter().filter(|(file, _)| *file == newest).collect();
    let dense = of_file
        .iter()
        .skip(1)
        .step_by(2)
        .filter(|_| of_file.len() >= KEPT);
    for (file, line) in old.chain(dense.copied()) {
        let path = folder.join(name(*file, *line));
        // What cannot be removed now is tried again with the next one.
        if std::fs::remove_file(&path).is_ok() {
            let _ = std::fs::remove_file(signature_of(&path));
        }
    }
}

fn name(file: u64, line: u64) -> String {
    format!("{file:08}-{line:010}.toml")
}

fn signature_of(document: &Path) -> PathBuf {
    document.with_extension("toml.asc")
}

/// File and line of every checkpoint, in order.
fn list(folder: &Path) -> Result<Vec<(u64, u64)>, AuditError> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(failed("list", folder)(e)),
    };
    for entry in entries {
        let entry = entry.map_err(failed("list", folder))?.file_name();
        let numbers = entry
            .to_str()
            .and_then(|text| text.strip_suffix(".toml"))
            .and_then(|text| text.split_once('-'));
        if let Some((file, line)) = numbers
            && let (Ok(file), Ok(line)) = (file.parse(), line.parse())
        {
            found.push((file, line));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Everything that proves the log: signed heads, and the files as descriptors.
///
/// # Errors
/// When a file cannot be opened, or something else stands in its place.
pub fn gather(app: &Shared) -> Result<(Reply, Vec<OwnedFd>), AuditError> {
    let identity = lock(&app.identity).clone().ok_or(AuditError::NoKey)?;
    let keyring = Keyring::default().with_device(&identity.device.certificate_bytes()?)?;
    let mut signed = Vec::new();
    let mut wrong = Vec::new();
    let folder = app.layout.checkpoints();
    // The signatures first: what is signed while the files are opened would be missing in them.
    for (file, line) in list(&folder)?.into_iter().rev().take(MAX_CHECKPOINTS) {
        let path = folder.join(name(file, line));
        match check(&path, &keyring) {
            Ok(checkpoint) if (checkpoint.file, checkpoint.line) == (file, line) => signed.push(SignedHead {
                file,
                line,
                sha256: checkpoint.sha256.to_string(),
                time: checkpoint.time.to_string(),
            }),
            Ok(_) => wrong.push(format!(
                "{}: it says something else than its name",
                name(file, line)
            )),
            // Thinned out meanwhile.
            Err(TrustError::MissingFile { path: missing }) if missing == path => {}
            Err(e) => wrong.push(format!("{}: {}: failed to {e}", name(file, line), e.name())),
        }
    }
    signed.reverse();
    let owner = app.layout.separate.then_some(spawn::GATEWAY.id);
    let (files, opened) = open(&app.layout.audit(), owner)?.into_iter().unzip();
    Ok((Reply::Audit { files, signed, wrong }, opened))
}

fn check(path: &Path, keyring: &Keyring) -> Result<Checkpoint, TrustError> {
    let read = |path: &Path, bound| {
        read_bounded(path, bound)?.ok_or(TrustError::DocumentTooLarge { size: bound + 1 })
    };
    let document = read(path, MAX_CHECKPOINT)?;
    let signature = read(&signature_of(path), MAX_SIGNATURE)?;
    Checkpoint::check(&document, &signature, keyring, Timestamp::now())
}

/// Opens the log's files without reading them. The folder is the gateway's: a link in it must not make this process,
/// which may read everything, hand over what is not the gateway's.
fn open(folder: &Path, owner: Option<u32>) -> Result<Vec<(u64, OwnedFd)>, AuditError> {
    let numbers = match sarai_audit::folder::list(folder) {
        Ok(numbers) => numbers,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed("list", folder)(e)),
    };
    if numbers.len() > MAX_FILES {
        return Err(AuditError::TooMany(numbers.len()));
    }
    let owner = owner.unwrap_or_else(|| nix::unistd::geteuid().as_raw());
    let mut opened = Vec::new();
    for number in numbers {
        let path = folder.join(sarai_audit::folder::name(number));
        let file = File::options()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(&path);
        let file = match file {
            Ok(file) => file,
            // Removed for being too many meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(failed("open", &path)(e)),
        };
        let about = file.metadata().map_err(failed("stat", &path))?;
        if !about.is_file() || about.nlink() > 1 || about.uid() != owner {
            return Err(AuditError::NotPlain { path });
        }
        opened.push((number, file.into()));
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity;
    use crate::layout::Layout;

    fn identity(dir: &Path) -> Identity {
        let layout = Layout::native(dir).unwrap();
        layout.make_folders().unwrap();
        let now = Timestamp::now();
        identity::ensure(&layout, now, now).unwrap().0
    }

    fn head(file: u64, line: u64) -> AuditHead {
        AuditHead {
            file,
            line,
            sha256: Digest::of(format!("{file} {line}").as_bytes()).to_string(),
        }
    }

    #[test]
    fn a_head_is_signed_once_and_never_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (identity, folder) = (identity(dir.path()), dir.path().join("checkpoints"));
        let keep = |file, line| keep(&folder, &head(file, line), &identity, Timestamp::now()).unwrap();
        assert_eq!(keep(1, 5), Kept::Signed);
        assert_eq!(keep(1, 5), Kept::Known);
        assert_eq!(keep(1, 9), Kept::Signed);
        assert_eq!(keep(2, 1), Kept::Signed);
        assert_eq!(keep(1, 10), Kept::Back(2, 1));
        assert_eq!(list(&folder).unwrap(), [(1, 5), (1, 9), (2, 1)]);
        let keyring = Keyring::default()
            .with_device(&identity.device.certificate_bytes().unwrap())
            .unwrap();
        let path = folder.join(name(1, 9));
        let checkpoint = check(&path, &keyring).unwrap();
        assert_eq!(checkpoint.sha256.to_string(), head(1, 9).sha256);
        let changed = std::fs::read_to_string(&path)
            .unwrap()
            .replace("line = 9", "line = 8");
        std::fs::write(&path, changed).unwrap();
        assert_eq!(check(&path, &keyring).unwrap_err().name(), "bad-signature");
        let wrong = AuditHead {
            sha256: "no".into(),
            ..head(3, 1)
        };
        assert!(super::keep(&folder, &wrong, &identity, Timestamp::now()).is_err());
    }

    #[test]
    fn checkpoints_are_thinned_out_and_the_newest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (identity, folder) = (identity(dir.path()), dir.path().join("checkpoints"));
        for line in 1..=100 {
            keep(&folder, &head(1, line), &identity, Timestamp::now()).unwrap();
        }
        let there = list(&folder).unwrap();
        assert!((KEPT / 2..=KEPT + 1).contains(&there.len()), "{}", there.len());
        assert_eq!((there[0], there[there.len() - 1]), ((1, 1), (1, 100)));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2 * there.len());
        keep(&folder, &head(FILES + 2, 1), &identity, Timestamp::now()).unwrap();
        assert_eq!(list(&folder).unwrap(), [(FILES + 2, 1)]);
    }

    #[test]
    fn what_waits_is_signed_before_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Arc::new(identity(dir.path()));
        let folder = dir.path().join("checkpoints");
        let problems = Problems::new(crate::logs::Logs::in_memory());
        let checkpoints = Checkpoints::start(folder.clone(), problems.clone()).unwrap();
        for line in 1..=5 {
            checkpoints.sign(head(7, line), Arc::clone(&identity));
        }
        checkpoints.end(Duration::from_secs(20));
        assert_eq!(list(&folder).unwrap().last(), Some(&(7, 5)));
        assert!(problems.list().is_empty());
        checkpoints.sign(head(8, 1), identity);
    }

    #[test]
    fn only_plain_files_of_the_gateway_are_handed_over() {
        let dir = tempfile::tempdir().unwrap();
        let log = |n| dir.path().join(sarai_audit::folder::name(n));
        assert!(open(&dir.path().join("none"), None).unwrap().is_empty());
        std::fs::write(log(1), "x").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        assert_eq!(open(dir.path(), None).unwrap().len(), 1);
        std::os::unix::fs::symlink(dir.path().join("secret"), log(2)).unwrap();
        assert!(open(dir.path(), None).is_err());
        std::fs::remove_file(log(2)).unwrap();
        std::fs::hard_link(dir.path().join("secret"), log(2)).unwrap();
        assert!(matches!(open(dir.path(), None), Err(AuditError::NotPlain { .. })));
        std::fs::remove_file(log(2)).unwrap();
        let other = nix::unistd::geteuid().as_raw() + 1;
        assert!(open(dir.path(), Some(other)).is_err());
    }
}
