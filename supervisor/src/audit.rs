//! The supervisor's part of the audit log: its folder, the signatures under the heads that the gateway reports, and
//! handing its files to the admin. It never reads the log: what is in there came from the LAN.
//!
//! The gateway holds no key, so that whoever takes it over can write anything from then on, and nothing anew that was
//! signed before: a head that goes back is not signed. Nor can it have removed what contradicts it by reporting a lot:
//! only their age thins checkpoints out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sarai_audit::folder::{AUDIT, Series};
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
/// Shortest time between two looks at what the gateway reports.
const PAUSE: Duration = Duration::from_millis(100);
/// Shortest time between two signatures. A head that comes earlier waits.
const MINUTE: Duration = Duration::from_secs(60);
/// First heads of new files that are signed without waiting, until a minute passed without.
const EARLY: u32 = 8;
/// How many files further a head may be than the one before it.
const STEP: u64 = 4;
/// Time between two rounds of thinning out.
const ROUND: Duration = Duration::from_secs(3600);
/// All checkpoints younger than this are kept; of older ones the last of each file and hour, seconds.
const YOUNG: i64 = 24 * 3600;
/// Checkpoints of files this much older than the newest, and older than [`OLD`], are removed: the log keeps 64.
const FILES: u64 = 128;
/// Seconds.
const OLD: i64 = 90 * 24 * 3600;
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
    #[error("open the log: it has {0} files, at most {MAX_FILES} are handed over")]
    TooMany(usize),
    /// A signature cannot be made or checked.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// There is no device key yet.
    #[error("check the checkpoints: this machine has no device key yet")]
    NoKey,
}

/// An answer, and the files that go with it.
pub type Gathered = Result<(Reply, Vec<OwnedFd>), AuditError>;

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

/// Makes a folder of the gateway's own.
pub(crate) fn make_folder(path: &Path, owner: Option<u32>) -> Result<(), AuditError> {
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
    let mut signer = Signer::new(folder);
    loop {
        match queue.recv_timeout(signer.pause(Instant::now())) {
            Ok(job) => {
                // Of several of one file the last says all; of another file, its last line is wanted too.
                let mut jobs = BTreeMap::from([(job.0.file, job)]);
                for job in queue.try_iter() {
                    jobs.insert(job.0.file, job);
                }
                for job in jobs.into_values() {
                    let (file, line) = (job.0.file, job.0.line);
                    let kept = signer.take(job, Timestamp::now(), Instant::now());
                    tell(problems, folder, (file, line), kept);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                if let Some((at, kept)) = signer.sign_waiting(Timestamp::now(), Instant::now()) {
                    tell(problems, folder, at, kept);
                }
                return;
            }
        }
        if signer.is_due(Instant::now())
            && let Some((at, kept)) = signer.sign_waiting(Timestamp::now(), Instant::now())
        {
            tell(problems, folder, at, kept);
        }
        std::thread::sleep(PAUSE);
    }
}

fn tell(problems: &Problems, folder: &Path, (file, line): (u64, u64), kept: Result<Kept, AuditError>) {
    let (went, (last_file, last_line)) = match kept {
        Ok(Kept::Signed { anew }) => {
            problems.clear(SIGNING);
            if anew {
                problems.clear(BACK);
            }
            return;
        }
        Ok(Kept::Known | Kept::Waits) => return,
        Ok(Kept::Back(file, line)) => ("went back", (file, line)),
        Ok(Kept::Jumped(file, line)) => ("jumped", (file, line)),
        Err(e) => {
            return problems.set(SIGNING, format!("the audit log cannot be signed: failed to {e}"));
        }
    };
    problems.set(
        BACK,
        format!(
            "the audit log {went}: file {file} line {line} was reported after file {last_file} line {last_line}, and is \
             not signed; see: sarai audit verify. If the log was removed on purpose, empty {} too",
            folder.display()
        ),
    );
}

/// What became of a head.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    Signed {
        /// It is the first: there was no checkpoint, or no longer.
        anew: bool,
    },
    /// It, or a later one, is to be signed already.
    Known,
    /// It is signed in a minute, unless a later one is.
    Waits,
    /// A later one is signed.
    Back(u64, u64),
    /// It is further from this one than a log gets.
    Jumped(u64, u64),
}

/// Decides which heads are signed, and when.
struct Signer {
    folder: PathBuf,
    /// When the last one was.
    signed: Option<Instant>,
    /// First heads of new files signed since a minute passed without a signature.
    early: u32,
    /// The newest head that waits.
    waiting: Option<Job>,
    /// When the checkpoints were last thinned out.
    thinned: Option<Instant>,
}

impl Signer {
    fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            signed: None,
            early: 0,
            waiting: None,
            thinned: None,
        }
    }

    fn a_minute_passed(&self, at: Instant) -> bool {
        self.signed
            .is_none_or(|signed| at.duration_since(signed) >= MINUTE)
    }

    fn is_due(&self, at: Instant) -> bool {
        self.waiting.is_some() && self.a_minute_passed(at)
    }

    /// How long there is nothing to sign.
    fn pause(&self, at: Instant) -> Duration {
        match (&self.waiting, self.signed) {
            (Some(_), Some(signed)) => MINUTE.saturating_sub(at.duration_since(signed)),
            _ => MINUTE,
        }
    }

    fn take(&mut self, job: Job, now: Timestamp, at: Instant) -> Result<Kept, AuditError> {
        let signed = list(&self.folder)?.last().copied();
        if signed.is_none() {
            // What waits may be of a log that the admin removed.
            (self.signed, self.waiting) = (None, None);
        }
        let place = (job.0.file, job.0.line);
        let waiting = self.waiting.as_ref().map(|(head, _)| (head.file, head.line));
        match signed {
            Some(last) if last == place => return Ok(Kept::Known),
            Some(last) if last > place => return Ok(Kept::Back(last.0, last.1)),
            _ if waiting >= Some(place) => return Ok(Kept::Known),
            _ => {}
        }
        // Only the last of many files in a minute is signed: what counts is how far it is from the one reported before.
        if let Some(last) = signed.max(waiting)
            && place.0 > last.0.saturating_add(STEP)
        {
            return Ok(Kept::Jumped(last.0, last.1));
        }
        let new_file = signed.is_none_or(|(file, _)| place.0 > file);
        if self.a_minute_passed(at) {
            self.early = 0;
        } else if new_file && self.early < EARLY {
            self.early += 1;
        } else {
            self.waiting = Some(job);
            return Ok(Kept::Waits);
        }
        self.waiting = None;
        self.sign(&job, now, at)
    }

    /// Signs what waits, if anything.
    fn sign_waiting(
        &mut self,
        now: Timestamp,
        at: Instant,
    ) -> Option<((u64, u64), Result<Kept, AuditError>)> {
        let job = self.waiting.take()?;
        Some(((job.0.file, job.0.line), self.sign(&job, now, at)))
    }

    fn sign(&mut self, (head, identity): &Job, now: Timestamp, at: Instant) -> Result<Kept, AuditError> {
        // Also when that fails: a disk that takes nothing is not tried more often.
        self.signed = Some(at);
        let sha256: Digest = head.sha256.parse().map_err(|e: sarai_trust::ParseDigestError| {
            AuditError::Trust(TrustError::InvalidDocument {
                reason: e.to_string(),
            })
        })?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(failed("make", &self.folder))?;
        let anew = list(&self.folder)?.is_empty();
        let (document, signature) =
            Checkpoint::new(head.file, head.line, sha256, now).sign(&identity.device)?;
        let path = self.folder.join(name(head.file, head.line));
        // The document last: while it is not there, nobody misses it.
        atomic::write(&signature_of(&path), &signature, 0o600)?;
        atomic::write(&path, document.as_bytes(), 0o600)?;
        if self
            .thinned
            .is_none_or(|thinned| at.duration_since(thinned) >= ROUND)
        {
            self.thinned = Some(at);
            let keyring = Keyring::default().with_device(&identity.device.certificate_bytes()?)?;
            thin(&self.folder, &keyring, now)?;
        }
        Ok(Kept::Signed { anew })
    }
}

/// Removes checkpoints by the time that they were signed at: all but the last of each file and hour once they are a
/// day old, and those of files that are long gone. One that does not hold stays, for the admin to see.
fn thin(folder: &Path, keyring: &Keyring, now: Timestamp) -> Result<(), AuditError> {
    let there = list(folder)?;
    let newest = there.last().map_or(0, |(file, _)| *file);
    let mut later = BTreeSet::new();
    for (file, line) in there.into_iter().rev() {
        let path = folder.join(name(file, line));
        let Ok(checkpoint) = check(&path, keyring) else {
            continue;
        };
        if (checkpoint.file, checkpoint.line) != (file, line) {
            continue;
        }
        let time = checkpoint.time.as_second();
        let age = now.as_second().saturating_sub(time);
        let followed = !later.insert((file, time.div_euclid(3600)));
        let gone = file.saturating_add(FILES) < newest;
        // What cannot be removed now is tried again in the next round.
        if ((age > YOUNG && followed) || (age > OLD && gone)) && std::fs::remove_file(&path).is_ok() {
            let _ = std::fs::remove_file(signature_of(&path));
        }
    }
    Ok(())
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
pub fn gather(app: &Shared) -> Gathered {
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
    let (files, opened) = open(&app.layout.audit(), AUDIT, owner)?.into_iter().unzip();
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

/// Opens a log's files without reading them. The folder is the gateway's: a link in it must not make this process,
/// which may read everything, hand over what is not the gateway's.
pub(crate) fn open(
    folder: &Path,
    series: Series,
    owner: Option<u32>,
) -> Result<Vec<(u64, OwnedFd)>, AuditError> {
    let numbers = match series.list(folder) {
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
        let path = folder.join(series.name(number));
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
        let (identity, folder) = (Arc::new(identity(dir.path())), dir.path().join("checkpoints"));
        let (mut signer, mut at) = (Signer::new(&folder), Instant::now());
        let mut keep = |file, line| {
            at += MINUTE;
            let job = (head(file, line), Arc::clone(&identity));
            signer.take(job, Timestamp::now(), at).unwrap()
        };
        assert_eq!(keep(1, 5), Kept::Signed { anew: true });
        assert_eq!(keep(1, 5), Kept::Known);
        assert_eq!(keep(1, 9), Kept::Signed { anew: false });
        assert_eq!(keep(2, 1), Kept::Signed { anew: false });
        assert_eq!(keep(1, 10), Kept::Back(2, 1));
        assert_eq!(keep(3 + STEP, 1), Kept::Jumped(2, 1));
        assert_eq!(keep(u64::MAX, 1), Kept::Jumped(2, 1));
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
        let job = (wrong, Arc::clone(&identity));
        assert!(signer.take(job, Timestamp::now(), at + MINUTE).is_err());
    }

    #[test]
    fn checkpoints_are_thinned_out_by_age_and_the_last_of_each_hour_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (identity, folder) = (Arc::new(identity(dir.path())), dir.path().join("checkpoints"));
        let keyring = Keyring::default()
            .with_device(&identity.device.certificate_bytes().unwrap())
            .unwrap();
        let mut signer = Signer::new(&folder);
        // Nothing is thinned out but by the test.
        signer.thinned = Some(Instant::now());
        let now = Timestamp::now();
        let ago = |seconds: i64| {
            let time = now.as_second() - seconds;
            Timestamp::from_second(time - time.rem_euclid(3600)).unwrap()
        };
        let mut keep = |file, line, time: Timestamp| {
            let job = (head(file, line), Arc::clone(&identity));
            signer.sign(&job, time, Instant::now()).unwrap();
        };
        keep(1, 1, ago(OLD + 7200));
        keep(2, 1, ago(2 * YOUNG));
        keep(2, 2, ago(2 * YOUNG));
        keep(2, 3, ago(2 * YOUNG));
        keep(3, 1, ago(2 * YOUNG));
        keep(3, 2, ago(2 * YOUNG - 3600));
        keep(3, 3, ago(7200));
        keep(3, 4, ago(7200));
        thin(&folder, &keyring, now).unwrap();
        let kept = [(1, 1), (2, 3), (3, 1), (3, 2), (3, 3), (3, 4)];
        assert_eq!(list(&folder).unwrap(), kept);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2 * kept.len());
        // Far below alone removes nothing, and so does age; what does not hold stays.
        keep(FILES + 4, 1, now);
        std::fs::remove_file(signature_of(&folder.join(name(2, 3)))).unwrap();
        thin(&folder, &keyring, now).unwrap();
        assert_eq!(list(&folder).unwrap()[..5], kept[1..]);
    }

    #[test]
    fn no_number_of_reports_removes_what_contradicts_them() {
        let dir = tempfile::tempdir().unwrap();
        let (identity, folder) = (Arc::new(identity(dir.path())), dir.path().join("checkpoints"));
        let (mut signer, start) = (Signer::new(&folder), Instant::now());
        let time = Timestamp::now();
        let mut take = |file, line, second: u32| {
            let at = Duration::from_secs(second.into());
            let job = (head(file, line), Arc::clone(&identity));
            signer.take(job, time, start + at).unwrap()
        };
        take(1, 9, 0);
        // A minute apart, so that each is signed; and then as fast as can be, also of new files.
        for n in 1..=200 {
            assert_eq!(take(1, 9 + u64::from(n), 60 * n), Kept::Signed { anew: false });
        }
        assert_eq!(list(&folder).unwrap().len(), 201);
        for n in 1..=200 {
            take(1, 300 + n, 12_001);
            take(1 + n, 1, 12_001);
        }
        let there = list(&folder).unwrap();
        assert_eq!((there[0], there.len()), ((1, 9), 201 + EARLY as usize));
        // The last one waits, and is signed once it may be.
        assert!(!signer.is_due(start + Duration::from_secs(12_060)));
        let at = start + Duration::from_secs(12_061);
        assert!(signer.is_due(at));
        let (place, kept) = signer.sign_waiting(time, at).unwrap();
        assert_eq!((place, kept.unwrap()), ((201, 1), Kept::Signed { anew: false }));
    }

    #[test]
    fn a_log_that_went_back_is_forgiven_once_the_checkpoints_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (identity, folder) = (Arc::new(identity(dir.path())), dir.path().join("checkpoints"));
        let problems = Problems::new(crate::logs::Logs::in_memory());
        let mut signer = Signer::new(&folder);
        let mut take = |file, line| {
            let job = (head(file, line), Arc::clone(&identity));
            let kept = signer.take(job, Timestamp::now(), Instant::now());
            tell(&problems, &folder, (file, line), kept);
            problems.list()
        };
        assert!(take(2, 5).is_empty());
        assert!(take(2, 6).is_empty());
        assert!(take(1, 1)[0].contains("went back"));
        assert_eq!(take(3, 1).len(), 1);
        assert!(take(9, 1)[0].contains("jumped"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(take(1, 2).is_empty());
        assert_eq!(list(&folder).unwrap(), [(1, 2)]);
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
        assert!(open(&dir.path().join("none"), AUDIT, None).unwrap().is_empty());
        std::fs::write(log(1), "x").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        assert_eq!(open(dir.path(), AUDIT, None).unwrap().len(), 1);
        std::os::unix::fs::symlink(dir.path().join("secret"), log(2)).unwrap();
        assert!(open(dir.path(), AUDIT, None).is_err());
        std::fs::remove_file(log(2)).unwrap();
        std::fs::hard_link(dir.path().join("secret"), log(2)).unwrap();
        assert!(matches!(
            open(dir.path(), AUDIT, None),
            Err(AuditError::NotPlain { .. })
        ));
        std::fs::remove_file(log(2)).unwrap();
        let other = nix::unistd::geteuid().as_raw() + 1;
        assert!(open(dir.path(), AUDIT, Some(other)).is_err());
    }
}
