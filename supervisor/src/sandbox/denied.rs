//! Which system call ended a child. The kernel says it in an audit record, which nothing inside the child can
//! suppress; where nobody else collects those, they are in the kernel's log.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::libc;

/// Where the kernel's log is read.
const LOG: &str = "/dev/kmsg";
/// Longest record the kernel gives, bytes.
const RECORD: usize = 8192;
/// Time the record has to arrive after the end of the child: a thread of the kernel writes it.
const WAIT: Duration = Duration::from_secs(1);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// Type of the record of a system call that a filter ended.
const SECCOMP: &str = "audit: type=1326 ";
/// The architecture whose calls are named.
#[cfg(target_arch = "x86_64")]
const ARCH: &str = "c000003e";
/// The architecture whose calls are named.
#[cfg(target_arch = "aarch64")]
const ARCH: &str = "c00000b7";

/// A place in the kernel's log.
pub struct Witness(File);

impl Witness {
    /// From now on. An error where this user may not read the log.
    pub fn open() -> io::Result<Self> {
        let mut log = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(LOG)?;
        log.seek(SeekFrom::End(0))?;
        Ok(Self(log))
    }

    /// Name of the call that ended the process `pid`, once it is in the log. Waits up to a second.
    pub async fn name_of(mut self, pid: i32) -> Option<String> {
        let until = Instant::now() + WAIT;
        loop {
            while let Some(record) = self.next() {
                if let Some(name) = call_of(&record, pid) {
                    return Some(name);
                }
            }
            if Instant::now() >= until {
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
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

/// The call, if this record is about `pid`. What the process itself chose, its name, the kernel quotes or writes as
/// hexadecimal digits, so that no word of it passes for a field.
fn call_of(record: &str, pid: i32) -> Option<String> {
    let (_, text) = record.split_once(';')?;
    let fields = text.strip_prefix(SECCOMP)?;
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
