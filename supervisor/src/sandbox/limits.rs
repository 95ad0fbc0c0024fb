//! Bounds on what one process, or one user, uses up.

use std::io;

use nix::libc;

use super::check;

/// The bounds, each lowered to and never raised; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Processes and threads of the user. Only for a user of its own: others would count, too.
    pub processes: Option<u64>,
    /// Largest file it writes, bytes.
    pub file: Option<u64>,
    /// Stack of the first thread and of each that asks for none in particular, bytes.
    pub stack: Option<u64>,
}

impl Limits {
    /// Bounds on nothing but what no service needs.
    pub const NONE: Self = Self {
        processes: None,
        file: None,
        stack: None,
    };

    /// For `status`.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut words = vec!["no core dumps".to_owned(), "no locked memory".to_owned()];
        if let Some(n) = self.processes {
            words.push(format!("{n} threads"));
        }
        match self.file {
            Some(0) => words.push("no file written".to_owned()),
            Some(n) => words.push(format!("files of {} MiB", n >> 20)),
            None => {}
        }
        words.join(", ")
    }

    /// Lowers them.
    pub fn take(&self) -> io::Result<()> {
        for (resource, most) in [
            (libc::RLIMIT_MEMLOCK, Some(0)),
            (libc::RLIMIT_MSGQUEUE, Some(0)),
            (libc::RLIMIT_NICE, Some(0)),
            (libc::RLIMIT_RTPRIO, Some(0)),
            (libc::RLIMIT_NPROC, self.processes),
            (libc::RLIMIT_FSIZE, self.file),
            (libc::RLIMIT_STACK, self.stack),
        ] {
            if let Some(most) = most {
                lower(resource, most)?;
            }
        }
        Ok(())
    }
}

/// What every child is bound by: no core dumps, which would write memory to a disk, and so many descriptors.
pub fn take_common(descriptors: u64) -> io::Result<()> {
    lower(libc::RLIMIT_CORE, 0)?;
    lower(libc::RLIMIT_NOFILE, descriptors)
}

/// Lowers a limit, never above what is allowed already.
fn lower(resource: libc::__rlimit_resource_t, most: u64) -> io::Result<()> {
    let mut now = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `now` is a valid place to read into and from.
    unsafe {
        check(libc::getrlimit(resource, &raw mut now).into())?;
        let most = most.min(now.rlim_max);
        now = libc::rlimit {
            rlim_cur: most,
            rlim_max: most,
        };
        check(libc::setrlimit(resource, &raw const now).into())?;
    }
    Ok(())
}
