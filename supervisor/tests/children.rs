//! Children as the supervisor starts and collects them. One process-wide reaper waits for every child, so these
//! tests have a process of their own and take turns.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::io::Read;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sarai_confine::Program;
use sarai_supervisor::reaper::{Exit, Reaper};
use sarai_supervisor::sandbox::Sandbox;
use sarai_supervisor::sandbox::limits::Limits;
use sarai_supervisor::spawn::{self, Child, Spec};
use tokio::sync::oneshot;

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that runs a line of shell.
fn shell(line: &str) -> Spec<'static> {
    Spec {
        args: vec!["-c".into(), line.into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        ..Spec::new("/bin/sh")
    }
}

/// Reaps by hand until the child's status has come, at most ten seconds.
fn wait(reaper: &Reaper, exit: &mut oneshot::Receiver<Exit>) -> Exit {
    let begun = Instant::now();
    loop {
        reaper.reap();
        if let Ok(exit) = exit.try_recv() {
            return exit;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "the child did not end");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn output(child: &mut Child) -> String {
    let mut text = String::new();
    std::fs::File::from(child.output.take().unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text
}

#[test]
fn no_exit_code_is_lost_among_many_children_and_orphans() {
    let _turn = turn();
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let reaper = Reaper::default();
    let (mut children, mut orphans) = (Vec::new(), 0);
    for n in 0..400 {
        // Every fourth leaves an orphan behind that outlives it, in a session of its own; some die by a signal.
        let line = match n % 4 {
            0 => {
                orphans += 1;
                format!("setsid sh -c 'sleep 0.05' >/dev/null 2>&1 & exit {}", n % 200)
            }
            1 => "kill -9 $$".to_owned(),
            2 => "kill -34 $$".to_owned(),
            _ => format!("exit {}", n % 200),
        };
        let expected = match n % 4 {
            1 => Exit::Signal(9),
            2 => Exit::Signal(34),
            _ => Exit::Code(n % 200),
        };
        children.push((expected, spawn::spawn(&reaper, &shell(&line)).unwrap()));
        if n % 50 == 0 {
            reaper.reap();
        }
    }
    for (n, (expected, child)) in children.iter_mut().enumerate() {
        assert_eq!(wait(&reaper, &mut child.exit), *expected, "child {n}");
    }
    assert_eq!(reaper.living(), 0);
    let begun = Instant::now();
    while reaper.reap_all() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    // `setsid` may fork once more, so there can be more orphans than were counted, never fewer.
    assert!(reaper.orphans() >= orphans, "{} of {orphans}", reaper.orphans());
}

#[test]
fn a_program_that_is_not_there_is_an_error_and_leaves_nothing_behind() {
    let _turn = turn();
    let reaper = Reaper::default();
    let error = spawn::spawn(&reaper, &Spec::new("/nonexistent/program"))
        .err()
        .unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert_eq!(reaper.living(), 0);
    assert!(!reaper.reap_all());
}

#[test]
fn a_child_has_descriptors_0_to_4_a_clean_environment_and_nothing_else() {
    let _turn = turn();
    let reaper = Reaper::default();
    // Descriptors that must not leak: without close-on-exec, below and above the reserved ones.
    let leaked: Vec<_> = (0..20)
        .map(|_| {
            let file = std::fs::File::open("/dev/zero").unwrap();
            nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
            file
        })
        .collect();
    let (birth, _ours) = sarai_wire::birth::pair().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = Spec {
        birth: Some(birth.as_fd()),
        listener: Some(listener.as_fd()),
        ..shell("exec 2>&1; ls -l /proc/$$/fd; env; pwd")
    };
    let mut child = spawn::spawn(&reaper, &spec).unwrap();
    drop((leaked, listener));
    let text = output(&mut child);
    wait(&reaper, &mut child.exit);
    let open: Vec<&str> = text
        .lines()
        .filter(|l| l.contains(" -> "))
        .map(|l| l.split_at(l.find(" -> ").unwrap()).0.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(open, ["0", "1", "2", "3", "4"], "{text}");
    let leads = |fd: &str, to: &str| text.contains(&format!(" {fd} -> {to}"));
    assert!(
        leads("0", "/dev/null") && leads("1", "pipe:") && leads("2", "pipe:"),
        "{text}"
    );
    assert!(leads("3", "socket:") && leads("4", "socket:"), "{text}");
    assert!(!text.contains("/dev/zero"), "{text}");
    assert!(
        text.contains("PATH=/usr/bin:/bin") && !text.contains("CARGO"),
        "{text}"
    );
    assert!(text.lines().last() == Some("/"), "{text}");
}

#[test]
fn a_child_without_birth_socket_or_listener_has_neither_descriptor() {
    let _turn = turn();
    let reaper = Reaper::default();
    let mut child = spawn::spawn(&reaper, &shell("test -e /proc/$$/fd/3 || test -e /proc/$$/fd/4")).unwrap();
    assert_eq!(wait(&reaper, &mut child.exit), Exit::Code(1));
}

#[test]
fn limits_and_promises_hold_in_the_child() {
    let _turn = turn();
    let reaper = Reaper::default();
    let cpus = sarai_supervisor::cores::usable();
    let spec = Spec {
        cpus: vec![cpus[0]],
        descriptors: 77,
        oom_score_adj: 321,
        ..shell("cat /proc/$$/status /proc/$$/oom_score_adj; ulimit -n; ulimit -c; ps -o sid= -p $$")
    };
    let mut child = spawn::spawn(&reaper, &spec).unwrap();
    let text = output(&mut child);
    let pid = child.pid;
    wait(&reaper, &mut child.exit);
    let field = |name: &str| {
        text.lines()
            .find_map(|l| l.strip_prefix(name))
            .unwrap_or_else(|| panic!("{name}: {text}"))
            .trim()
            .to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Cpus_allowed_list:"), cpus[0].to_string());
    let rest: Vec<&str> = text
        .lines()
        .skip_while(|l| !l.starts_with("nonvoluntary"))
        .skip(1)
        .map(str::trim)
        .collect();
    assert_eq!(rest[..3], ["321", "77", "0"], "{text}");
    assert_eq!(rest[3], pid.to_string(), "a session of its own");
}

/// Needs root, as the image has it; elsewhere there is no other user to become.
#[test]
fn a_confined_child_of_root_is_another_user_without_any_capability() {
    let _turn = turn();
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let reaper = Reaper::default();
    let spec = Spec {
        user: Some(spawn::ENGINE),
        ..shell("cat /proc/$$/status")
    };
    let mut child = spawn::spawn(&reaper, &spec).unwrap();
    let text = output(&mut child);
    wait(&reaper, &mut child.exit);
    for line in [
        "Uid:\t701\t701\t701\t701",
        "Gid:\t701\t701\t701\t701",
        "NoNewPrivs:\t1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.lines().any(|l| l.trim_end() == "Groups:"), "{text}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            text.contains(&format!("{set}:\t0000000000000000")),
            "{set}: {text}"
        );
    }
}

#[test]
fn a_child_that_is_dropped_is_killed_with_its_whole_group() {
    let _turn = turn();
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let reaper = Reaper::default();
    let mut child = spawn::spawn(&reaper, &shell("sleep 100 & echo $!; wait")).unwrap();
    let mut pipe = std::fs::File::from(child.output.take().unwrap());
    let mut line = String::new();
    let mut byte = [0];
    while pipe.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(char::from(byte[0]));
    }
    let grandchild = nix::unistd::Pid::from_raw(line.parse().unwrap());
    drop(child);
    let begun = Instant::now();
    while nix::sys::signal::kill(grandchild, None).is_ok() {
        reaper.reap();
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "the grandchild lives on"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(reaper.living(), 0);
}

#[test]
fn what_a_child_leaves_behind_in_its_group_ends_with_it() {
    let _turn = turn();
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let reaper = Reaper::default();
    let mut child = spawn::spawn(&reaper, &shell("sleep 100 & exit 3")).unwrap();
    assert_eq!(wait(&reaper, &mut child.exit), Exit::Code(3));
    let begun = Instant::now();
    while reaper.reap_all() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the orphan lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(
        !reaper.signal(child.pid, Signal::SIGCONT),
        "a collected child is not signalled"
    );
}

/// `true`, which does little more than be loaded, in a sandbox that is built over `site`.
fn sandboxed(site: &std::path::Path, required: bool) -> Spec<'static> {
    let code = [
        "/bin",
        "/usr/bin",
        "/lib",
        "/lib64",
        "/usr/lib",
        "/usr/lib64",
        "/etc/ld.so.cache",
    ];
    Spec {
        user: nix::unistd::geteuid().is_root().then_some(spawn::ENGINE),
        sandbox: Some(Sandbox {
            network: false,
            connections: false,
            devices: Vec::new(),
            program: Some(Program::Gateway),
            code: code.iter().map(Into::into).collect(),
            read: Vec::new(),
            write: Vec::new(),
            hidden: Vec::new(),
            proc: true,
            temporary: Some(1 << 20),
            limits: Limits::NONE,
            required,
        }),
        site: site.to_path_buf(),
        ..Spec::new("/bin/true")
    }
}

#[test]
fn a_wall_that_cannot_be_had_is_left_out_and_said_or_the_child_is_not_started() {
    let _turn = turn();
    let reaper = Reaper::default();
    let folder = tempfile::tempdir().unwrap();
    let walls = |child: &Child| -> Vec<bool> {
        let of = |name: &str| child.duties.iter().find(|d| d.duty == name).unwrap().in_force;
        vec![of("namespaces"), of("root")]
    };
    let mut child = spawn::spawn(&reaper, &sandboxed(folder.path(), false)).unwrap();
    assert_eq!(wait(&reaper, &mut child.exit), Exit::Code(0));
    // As root, and for others where user namespaces are allowed.
    let here = walls(&child);
    assert!(
        here == [true, true] || !nix::unistd::geteuid().is_root(),
        "{:?}",
        child.duties
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "the root shows outside"
    );

    // Nothing to build a root over: as if the kernel refused it.
    let missing = folder.path().join("missing");
    let mut child = spawn::spawn(&reaper, &sandboxed(&missing, false)).unwrap();
    assert_eq!(wait(&reaper, &mut child.exit), Exit::Code(0));
    assert_eq!(walls(&child), [false, false]);
    let why = &child.duties.iter().find(|d| d.duty == "root").unwrap().detail;
    assert!(why.contains("not allowed to this user by this kernel"), "{why}");
    let error = spawn::spawn(&reaper, &sandboxed(&missing, true)).err().unwrap();
    assert!(
        error.to_string().contains("its root") || error.to_string().contains("is not to be had"),
        "{error}"
    );
    assert_eq!(reaper.living(), 0);
}
