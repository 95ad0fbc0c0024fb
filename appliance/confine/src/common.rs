//! What every program needs: to be loaded, to run, and to end.

use nix::libc;

use crate::{Call, INT, calls};

/// A new thread of this process and nothing else: no process, no namespace.
const THREAD: i32 = libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
/// Flags of `clone` that decide what it makes.
const MAKES: i64 = THREAD as i64
    | libc::CLONE_NEWNS as i64
    | libc::CLONE_NEWCGROUP as i64
    | libc::CLONE_NEWUTS as i64
    | libc::CLONE_NEWIPC as i64
    | libc::CLONE_NEWUSER as i64
    | libc::CLONE_NEWPID as i64
    | libc::CLONE_NEWNET as i64;
/// `FIONBIO`: the number is the same on both architectures.
const FIONBIO: u32 = 0x5421;

/// Its flags are behind a pointer, where a filter cannot look: the C library is told that there is no such call, and
/// uses the one whose flags can be looked at.
pub(crate) const UNSEEN: &[Call] = calls! {
    SYS_clone3: "threads, answered with: there is no such call",
};

/// What a running Rust program with threads does.
pub(crate) const RUN: &[Call] = calls! {
    SYS_read: "sockets, files it was given",
    SYS_write: "log lines, wake-ups",
    SYS_readv: "the same, several buffers at once",
    SYS_writev: "the same, several buffers at once",
    SYS_close: "what is no longer needed",
    SYS_lseek: "position in a file it was given",
    SYS_fstat: "size of a file it was given",
    // With the flag an empty path means the descriptor; a path still meets the empty root and Landlock.
    SYS_newfstatat[3 & libc::AT_EMPTY_PATH => libc::AT_EMPTY_PATH]: "the same, as newer C libraries ask",
    SYS_statx[2 & libc::AT_EMPTY_PATH => libc::AT_EMPTY_PATH]: "the same, as Rust asks",
    SYS_fcntl[1 & INT => libc::F_GETFD]: "whether a descriptor is open",
    SYS_fcntl[1 & INT => libc::F_SETFD]: "close at exec",
    SYS_fcntl[1 & INT => libc::F_GETFL]: "mode of a stream over a descriptor",
    SYS_fcntl[1 & INT => libc::F_SETFL]: "no blocking",
    SYS_fcntl[1 & INT => libc::F_DUPFD_CLOEXEC]: "a second handle of a socket",
    SYS_ioctl[1 & INT => FIONBIO]: "no blocking",
    SYS_ppoll: "waiting for sockets",
    SYS_eventfd2: "wake-ups between threads",
    SYS_accept4: "a client on the listening socket it was born with",
    SYS_recvfrom: "from a socket",
    SYS_recvmsg: "from the supervisor, with descriptors",
    SYS_sendto: "to a socket",
    SYS_sendmsg: "to the supervisor",
    SYS_shutdown: "the end of what it says",
    SYS_getsockopt: "type and error of a socket",
    SYS_getsockname: "whether the listener is what it should be",
    SYS_getpeername: "who asks",
    SYS_setsockopt[1 & INT => libc::SOL_SOCKET]: "time limits of a socket",
    SYS_brk: "memory",
    // Never executable: code comes from the loader alone, and that is done.
    SYS_mmap[2 & libc::PROT_EXEC => 0]: "memory, models",
    SYS_mprotect[2 & libc::PROT_EXEC => 0]: "guard pages of stacks, growth of heaps",
    SYS_mremap: "growth of large buffers",
    SYS_munmap: "memory given back",
    SYS_madvise: "read ahead, pages given back",
    SYS_futex: "locks",
    SYS_clone[0 & MAKES => THREAD]: "threads, and nothing but threads",
    SYS_set_robust_list: "a thread begins",
    SYS_rseq: "a thread begins",
    SYS_sched_getaffinity: "how many CPUs there are",
    SYS_sched_setaffinity: "one CPU a compute thread",
    SYS_sched_yield: "locks that are about to be free",
    SYS_prctl[0 & INT => libc::PR_SET_NAME]: "names of threads",
    SYS_gettid: "who one is",
    SYS_getpid: "who one is",
    SYS_getrandom: "seeds, keys of hash tables, TLS",
    SYS_clock_gettime: "time, where the kernel does not offer it without a call",
    SYS_clock_getres: "the same",
    SYS_gettimeofday: "the same",
    SYS_clock_nanosleep: "pauses",
    SYS_nanosleep: "pauses",
    SYS_sysinfo: "the C library's sort asks how much memory there is",
    SYS_rt_sigaction: "a fault in a stack's guard page is told apart, then dies of it",
    SYS_rt_sigprocmask: "threads begin and end with signals blocked",
    SYS_rt_sigreturn: "the end of a signal handler",
    SYS_sigaltstack: "the stack of that handler",
    SYS_restart_syscall: "the kernel goes on with a wait after a stop",
    SYS_tgkill[2 & INT => libc::SIGABRT]: "abort",
    SYS_exit: "a thread ends",
    SYS_exit_group: "the program ends",
};

/// The same, older calls that this architecture has besides.
#[cfg(target_arch = "x86_64")]
pub(crate) const RUN_OWN: &[Call] = calls! {
    SYS_poll: "waiting for sockets",
    SYS_time: "time",
};
/// The same, older calls: this architecture has none.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const RUN_OWN: &[Call] = &[];

/// From `exec` to the first line of `main`, and to the second list.
pub(crate) const START: &[Call] = calls! {
    SYS_execve: "the program itself",
    SYS_openat[2 & (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) => 0]: "libraries, to be read",
    SYS_pread64: "heads of libraries",
    SYS_newfstatat: "where libraries are",
    SYS_statx: "where libraries are",
    SYS_readlinkat: "where the program is",
    SYS_faccessat: "whether there is a list of libraries to load first",
    SYS_faccessat2: "the same",
    // Writable or executable, never both.
    SYS_mmap[2 & libc::PROT_WRITE => 0]: "code of libraries",
    SYS_mprotect[2 & libc::PROT_WRITE => 0]: "what was relocated becomes read-only",
    SYS_set_tid_address: "the first thread begins",
    SYS_prlimit64[2 & u64::MAX => 0]: "size of the stack, read",
    SYS_getuid: "the loader asks whether it may trust the environment",
    SYS_geteuid: "the same",
    SYS_getgid: "the same",
    SYS_getegid: "the same",
    SYS_uname: "the loader asks for the kernel's version",
    SYS_prctl[0 & INT => libc::PR_SET_NO_NEW_PRIVS]: "the second list wants it; it is set already",
    SYS_seccomp[0 & INT => libc::SECCOMP_SET_MODE_FILTER]: "the second list",
};

/// The same, older calls that this architecture has besides.
#[cfg(target_arch = "x86_64")]
pub(crate) const START_OWN: &[Call] = calls! {
    SYS_arch_prctl: "the first thread's own storage",
    SYS_access: "whether there is a list of libraries to load first",
    SYS_readlink: "where the program is",
};
/// The same, older calls: this architecture has none.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const START_OWN: &[Call] = &[];
