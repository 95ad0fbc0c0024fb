//! Which system call ended a child. The kernel says it in an audit record, which nothing inside the child can
//! suppress, to whoever may listen. Who may not listen, natively, may still be able to read the kernel's log, where it
//! is written too unless somebody else collects the records, or there are too many in a short time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::libc;

use super::records::Records;

/// Where the kernel's log is read.
const LOG: &str = "/dev/kmsg";
/// Longest record the kernel gives, bytes.
const RECORD: usize = 8192;
/// Time the record has to arrive after the end of the child: a thread of the kernel writes it.
const WAIT: Duration = Duration::from_secs(1);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// How the log marks the record of a system call that a filter ended.
const SECCOMP: &str = "audit: type=1326 ";
/// The architecture whose calls are named.
#[cfg(target_arch = "x86_64")]
const ARCH: &str = "c000003e";
/// The architecture whose calls are named.
#[cfg(target_arch = "aarch64")]
const ARCH: &str = "c00000b7";

/// Sees what the kernel says of denied calls, where this user may see it.
pub struct Witness {
    records: Option<Records>,
    log: Option<Log>,
}

impl Witness {
    /// From now on.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            records: Records::listen().ok(),
            log: Log::open().ok(),
        }
    }

    /// Name of the call that ended the process `pid`, once the kernel has said it. Waits up to a second, or not at all
    /// where there is nothing to be seen.
    pub async fn name_of(mut self, pid: i32) -> Option<String> {
        let until = Instant::now() + WAIT;
        while self.records.is_some() || self.log.is_some() {
            while let Some(fields) = self.records.as_ref().and_then(Records::next) {
                if let Some(name) = call_of(&fields, pid) {
                    return Some(name);
                }
            }
            while let Some(record) = self.log.as_mut().and_then(Log::next) {
                if let Some(name) = fields_of(&record).and_then(|fields| call_of(fields, pid)) {
                    return Some(name);
                }
            }
            if Instant::now() >= until {
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }
}

/// A place in the kernel's log.
struct Log(File);

impl Log {
    /// From now on. An error where this user may not read it.
    fn open() -> io::Result<Self> {
        let mut log = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(LOG)?;
        log.seek(SeekFrom::End(0))?;
        Ok(Self(log))
    }

    /// The next record; `None` when there is none yet.
    fn next(&mut self) -> Option<String> {
        let mut record = [0; RECORD];
        loop {
            match self.0.read(&mut record) {
                Ok(length) if length > 0 => {
                    return Some(String::from_utf8_lossy(&record[..length]).into_owned());
                }
                // Records were written over before they were read: the next ones may be what is looked for.
                Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {}
                _ => return None,
            }
        }
    }
}

/// The fields of a record in the log, if it is one of a denied call.
fn fields_of(record: &str) -> Option<&str> {
    let (_, text) = record.split_once(';')?;
    text.strip_prefix(SECCOMP)
}

/// The call, if these are the fields of a record about `pid`. What the process itself chose, its name, the kernel quotes
/// or writes as hexadecimal digits, so that no word of it passes for a field.
fn call_of(fields: &str, pid: i32) -> Option<String> {
    let field = |name: &str| {
        let mut words = fields.split_ascii_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    if field("pid")?.parse() != Ok(pid) {
        return None;
    }
    let number: libc::c_long = field("syscall")?.parse().ok()?;
    Some(match field("arch")? {
        ARCH => sarai_confine::name(number).map_or_else(|| format!("number {number}"), str::to_owned),
        other => format!("number {number} of another architecture ({other})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the log's `record` says of `pid`.
    fn call_of(record: &str, pid: i32) -> Option<String> {
        super::call_of(fields_of(record)?, pid)
    }

    /// A process that is ended by its first call of `getppid`.
    fn denied() -> std::process::Child {
        use std::os::unix::process::CommandExt as _;
        let call = u32::try_from(libc::SYS_getppid).unwrap();
        let attempt = move || {
            // As everywhere, but here in a process that has one purpose: the number of the call is the first word.
            let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
            let mut filter = [
                step(0x20, 0, 0, 0),
                step(0x15, 0, 1, call),
                step(0x06, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
                step(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
            ];
            let program = libc::sock_fprog {
                len: 4,
                filter: filter.as_mut_ptr(),
            };
            // SAFETY: system calls alone; the program and its steps are valid during the call, which copies them.
            unsafe {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                );
                libc::syscall(libc::SYS_getppid);
            }
            Err(io::Error::other("it lives on"))
        };
        let mut command = std::process::Command::new("/proc/self/exe");
        // SAFETY: after the fork there are only system calls.
        unsafe { command.pre_exec(attempt) }.spawn().unwrap()
    }

    #[tokio::test]
    async fn more_denied_calls_than_the_log_takes_are_all_named() {
        use std::os::unix::process::ExitStatusExt as _;
        if Records::listen().is_err() {
            println!("skipped: this user may not listen to the kernel's records");
            return;
        }
        // Three times what the log takes in five seconds, and each is seen by the one who waits for it.
        let mut children: Vec<_> = (0..30).map(|_| (Witness::begin(), denied())).collect();
        for (_, child) in &mut children {
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGSYS));
        }
        for (n, (witness, child)) in children.into_iter().enumerate() {
            let pid = i32::try_from(child.id()).unwrap();
            assert_eq!(
                witness.name_of(pid).await.as_deref(),
                Some("getppid"),
                "child {n}"
            );
        }
    }

    fn record(comm: &str, rest: &str) -> String {
        format!(
            "5,800,17148477889,-;audit: type=1326 audit(1795549319.437:2): auid=4294967295 uid=701 gid=701 \
             ses=4294967295 pid=6694 comm={comm} exe=\"/usr/lib/sarai/sarai-engine\" sig=31 {rest} ip=0x7f5 \
             code=0x80000000\n"
        )
    }

    #[test]
    fn a_record_of_the_kernel_names_the_call() {
        let arch = format!("arch={ARCH} syscall={} compat=0", libc::SYS_socket);
        let text = record("\"decode\"", &arch);
        assert_eq!(call_of(&text, 6694).as_deref(), Some("socket"));
        assert_eq!(call_of(&text, 669), None);
        let unknown = record("\"decode\"", &format!("arch={ARCH} syscall=4242 compat=0"));
        assert_eq!(call_of(&unknown, 6694).as_deref(), Some("number 4242"));
        let other = record("\"decode\"", "arch=40000003 syscall=5 compat=1");
        assert_eq!(
            call_of(&other, 6694).as_deref(),
            Some("number 5 of another architecture (40000003)")
        );
        // A name with a space in it comes as digits; one without stays in its quotes.
        let hostile = record("\"pid=1\"", &arch);
        assert_eq!(call_of(&hostile, 6694).as_deref(), Some("socket"));
        assert_eq!(call_of(&hostile, 1), None);
        assert_eq!(call_of("6,1,2,-;usb 1-1: audit: type=1326 pid=6694", 6694), None);
    }
}
