//! An engine that was broken into, for tests: it stands in for `sarai-engine` in a folder of programs, is born and
//! confined like one, and then does on request what an attacker would. A request whose last message is
//! `attack NAME` seals the process as the engine does before it reads a model, and attacks; `attack NAME unsealed`
//! attacks without that, to see what the walls put up before `exec` hold alone. `attack unreadable unsealed` is no
//! attack: it says that its model cannot be read, and ends.
//!
//! For any model but the one called `made-up-primary` it becomes the real engine, which lies beside it as
//! `sarai-engine-real`. No image and no run but a test's has this program.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::libc::{self, c_long};
use sarai_wire::birth::{self, BIRTH_FD, BirthError, EngineStart, FromEngine, LISTEN_FD, ToEngine};
use sarai_wire::engine::{Error, ErrorKind, Event, Info, Request};
use sarai_wire::frame;

/// Model for which this program attacks.
const ATTACKED: &[u8] = b"\"made-up-primary\"";

fn open(path: &CStr, flags: i32) -> c_long {
    // SAFETY: a terminated path.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) }
}

fn map(protection: i32) -> c_long {
    // SAFETY: a new mapping at a place of the kernel's choosing.
    unsafe {
        libc::syscall(
            libc::SYS_mmap,
            0,
            4096,
            protection,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    }
}

/// Does it. The result is that of the system call, for those who live to see it.
fn attack(name: &str) -> Option<c_long> {
    let address = [
        libc::AF_INET.to_ne_bytes()[0],
        0,
        1,
        187,
        127,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: numbers, terminated strings, and pointers to what is as long as said; whatever of it succeeds, this
    // process was made for it.
    unsafe {
        Some(match name {
            "open-passwd" => open(c"/etc/passwd", libc::O_RDONLY),
            "open-keys" => open(c"/data/keys", libc::O_RDONLY),
            "open-models" => open(c"/data/models", libc::O_RDONLY),
            "open-memory-of-1" => open(c"/proc/1/mem", libc::O_RDWR),
            "open-cgroup" => open(c"/sys/fs/cgroup/cgroup.procs", libc::O_WRONLY),
            "open-tmp" => open(c"/tmp/x", libc::O_CREAT | libc::O_RDWR),
            "socket-inet" => libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0),
            "socket-unix" => libc::syscall(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0),
            "connect" => libc::syscall(libc::SYS_connect, BIRTH_FD, address.as_ptr(), address.len()),
            "bind" => libc::syscall(libc::SYS_bind, LISTEN_FD, address.as_ptr(), address.len()),
            "ptrace" => libc::syscall(libc::SYS_ptrace, libc::PTRACE_ATTACH, 1, 0, 0),
            "fork" => libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0),
            "execve" => libc::syscall(libc::SYS_execve, c"/bin/sh".as_ptr(), 0, 0),
            "map-writable-executable" => map(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC),
            "map-executable" => map(libc::PROT_READ | libc::PROT_EXEC),
            "protect-executable" => {
                let memory = map(libc::PROT_READ | libc::PROT_WRITE);
                libc::syscall(
                    libc::SYS_mprotect,
                    memory,
                    4096,
                    libc::PROT_READ | libc::PROT_EXEC,
                )
            }
            "kill-1" => libc::syscall(libc::SYS_kill, 1, libc::SIGKILL),
            "kill-all" => libc::syscall(libc::SYS_kill, -1, libc::SIGKILL),
            "mount" => libc::syscall(
                libc::SYS_mount,
                c"x".as_ptr(),
                c"/".as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                0,
            ),
            "unshare" => libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER),
            "setns" => libc::syscall(libc::SYS_setns, BIRTH_FD, 0),
            "chroot" => libc::syscall(libc::SYS_chroot, c"/".as_ptr()),
            "io_uring" => libc::syscall(libc::SYS_io_uring_setup, 1, 0),
            "bpf" => libc::syscall(libc::SYS_bpf, 0, 0, 0),
            "userfaultfd" => libc::syscall(libc::SYS_userfaultfd, 0),
            "keyctl" => libc::syscall(libc::SYS_keyctl, 0, 0),
            "process_vm_readv" => libc::syscall(libc::SYS_process_vm_readv, 1, 0, 0, 0, 0, 0),
            "open_by_handle_at" => libc::syscall(libc::SYS_open_by_handle_at, BIRTH_FD, 0, 0),
            "memfd" => libc::syscall(libc::SYS_memfd_create, c"x".as_ptr(), 0),
            "perf" => libc::syscall(libc::SYS_perf_event_open, 0, 0, 0, 0, 0),
            "seccomp" => libc::syscall(libc::SYS_seccomp, 2, 0, 0),
            "dumpable" => libc::syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0),
            "terminal" => libc::syscall(libc::SYS_ioctl, 2, libc::TIOCSTI, c"x".as_ptr()),
            _ => return None,
        })
    }
}

/// The model this process was started for, without taking the message away from whoever will read it.
fn peek() -> Result<Vec<u8>> {
    let mut packet = vec![0; birth::MAX_PACKET];
    // SAFETY: the buffer's own pointer and length.
    let got = unsafe { libc::recv(BIRTH_FD, packet.as_mut_ptr().cast(), packet.len(), libc::MSG_PEEK) };
    packet.truncate(usize::try_from(got).context("nothing came over the birth socket")?);
    Ok(packet)
}

fn main() -> Result<()> {
    let packet = peek()?;
    if !packet.windows(ATTACKED.len()).any(|window| window == ATTACKED) {
        let me = std::env::args_os().next().context("started without a name")?;
        let real = Path::new(&me).with_file_name("sarai-engine-real");
        return Err(Command::new(real).exec().into());
    }
    // SAFETY: both are open, and taken once.
    let (birth, listener) = unsafe {
        (
            BorrowedFd::borrow_raw(BIRTH_FD),
            UnixListener::from_raw_fd(LISTEN_FD),
        )
    };
    let (ToEngine::Start(start), _model) = birth::recv(birth)? else {
        bail!("the first message is no start")
    };
    let info = info(&start);
    let ready = FromEngine::Ready {
        info: info.clone(),
        load_ms: 1.0,
        batch_costs: None,
    };
    birth::send(birth, &ready, &[])?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let info = info.clone();
            std::thread::spawn(move || serve(stream, &info));
        }
    });
    loop {
        match birth::recv::<ToEngine>(birth.as_fd()) {
            Ok((ToEngine::Ping { seq }, _)) => {
                let pong = FromEngine::Pong {
                    seq,
                    queued: 0,
                    running: 0,
                    tokens: 0,
                };
                birth::send(birth, &pong, &[])?;
            }
            Ok((ToEngine::Stop, _)) | Err(BirthError::Closed) => return Ok(()),
            Ok(_) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn info(start: &EngineStart) -> Info {
    Info {
        model: start.model.clone(),
        digest: start.digest.clone(),
        adapter: None,
        context: start.params.context,
        configured: start.params.context,
        slots: start.params.slots,
        cpu_variant: "none".to_owned(),
        queued: 0,
        running: 0,
        batch_costs: Vec::new(),
    }
}

fn serve(mut stream: UnixStream, info: &Info) -> Result<()> {
    loop {
        let answer = match frame::read::<Request>(&mut stream)? {
            Request::Info => Event::Info(info.clone()),
            Request::Generate(generate) => {
                let said = generate.messages.last().map_or("", |m| m.content.as_str());
                failed(&obey(said))
            }
            _ => failed("this engine only attacks"),
        };
        frame::write(&mut stream, &answer)?;
    }
}

/// Ends as an engine does whose model cannot be read.
fn unreadable() -> ! {
    // SAFETY: open for as long as this process lives.
    let birth = unsafe { BorrowedFd::borrow_raw(BIRTH_FD) };
    let failed = FromEngine::Failed {
        reason: "load the model: reading it failed".to_owned(),
        unreadable: true,
    };
    let _ = birth::send(birth, &failed, &[]);
    std::process::exit(1)
}

fn failed(message: &str) -> Event {
    Event::Error(Error {
        kind: ErrorKind::Failed,
        message: message.to_owned(),
    })
}

/// Attacks as told; what comes of it, where anything does.
fn obey(said: &str) -> String {
    let mut words = said
        .split_whitespace()
        .skip_while(|word| *word != "attack")
        .skip(1);
    let Some(name) = words.next() else {
        return "no attack was asked for".to_owned();
    };
    if words.next() != Some("unsealed")
        && let Err(e) = sarai_confine::seal(sarai_confine::Program::Engine)
    {
        return format!("failed to {e}");
    }
    if name == "unreadable" {
        unreadable();
    }
    let outcome = match attack(name) {
        None => format!("there is no attack {name}"),
        Some(result) if result < 0 => format!("{name}: {}", io::Error::last_os_error()),
        Some(_) => format!("{name}: SUCCEEDED"),
    };
    eprintln!("survived {outcome}");
    outcome
}
