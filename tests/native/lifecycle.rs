//! From the first start to the last: keys made once, nothing left behind, the control socket in wrong hands.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use sarai_tests::appliance::{Appliance, READY};
use sarai_tests::{process, tree};

use crate::common::{pair, primary_answers};

/// Every file below a folder and its content.
fn contents(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        files.insert(path.display().to_string(), fs::read(&path)?);
    }
    Ok(files)
}

#[test]
fn a_first_start_cut_at_any_moment_is_followed_by_a_whole_one() {
    let _shared = tree::shared();
    let mut a = Appliance::prepare(&pair().unwrap(), "").unwrap();
    // How long a whole first start takes here, to spread the cuts over it and a little beyond.
    let begun = Instant::now();
    a.start().unwrap();
    a.wait_ready(READY).unwrap();
    let whole = begun.elapsed();
    a.kill().unwrap();

    let cuts: u32 = 24;
    for cut in 0..cuts {
        for folder in ["data/keys", "data/gateway", "data/state", "run"] {
            fs::remove_dir_all(a.path(folder)).unwrap();
        }
        // Denser at the start, where keys and certificates are made.
        let at = whole * (cut * cut) / ((cuts - 1) * (cuts - 1));
        a.start().unwrap();
        std::thread::sleep(at);
        a.kill().unwrap();
        a.start().unwrap();
        a.wait_ready(READY)
            .unwrap_or_else(|e| panic!("after a cut at {at:?} of {whole:?}: {e:#}"));
        let secret = a.add_key("after-the-cut").unwrap();
        let client = a.client().unwrap().with_key(Some(&secret));
        tree::wait_for("the key", Duration::from_secs(5), || primary_answers(&client))
            .unwrap_or_else(|e| panic!("after a cut at {at:?} of {whole:?}: {e:#}"));
        a.kill().unwrap();
    }
    println!("{cuts} cuts over {whole:?}");
}

#[test]
fn a_restart_keeps_keys_and_authority_and_leaves_nothing_running() {
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    primary_answers(&client).unwrap();
    let fingerprint = a.status().unwrap().ca_fingerprint.unwrap();
    let keys = contents(&a.path("data/keys")).unwrap();
    assert!(!keys.is_empty());
    for path in keys.keys() {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o077;
        assert!(
            mode == 0 || path.ends_with(".crt") || path.ends_with(".asc"),
            "{path} is readable by others"
        );
    }
    assert_eq!(
        fs::metadata(a.path("data/keys")).unwrap().permissions().mode() & 0o077,
        0
    );

    let begun = Instant::now();
    let status = a.stop(Duration::from_secs(20)).unwrap();
    println!("stopped in {:?}", begun.elapsed());
    assert!(status.success(), "{status}");
    assert_eq!(a.processes(), []);
    assert!(!a.control_socket().exists(), "the control socket was left");

    a.start().unwrap();
    a.wait_ready(READY).unwrap();
    assert_eq!(a.status().unwrap().ca_fingerprint.unwrap(), fingerprint);
    assert_eq!(contents(&a.path("data/keys")).unwrap(), keys);
    // The client from before, with the certificate and the key from before.
    primary_answers(&client).unwrap();
    a.sarai_ok(&["poweroff"]).unwrap();
    assert!(a.wait_end(Duration::from_secs(20)).unwrap().success());
    assert_eq!(a.processes(), []);
}

#[test]
fn a_stop_ends_requests_in_order_and_soon() {
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    let mut events = client.stream(&crate::common::long()).unwrap().events().unwrap();
    let _first = events.next_event().unwrap().unwrap();
    process::signal(a.pid().unwrap(), Signal::SIGTERM).unwrap();
    // What was accepted gets its answer, or an error that says why not.
    let rest = events.rest().unwrap();
    let complete = rest.last() == Some(&sarai_tests::client::Event::Done);
    assert!(
        complete || sarai_tests::client::stream_error(&rest).is_some(),
        "cut off without a word: {rest:?}"
    );
    assert!(a.wait_end(Duration::from_secs(20)).unwrap().success());
    assert_eq!(a.processes(), []);
}

#[test]
fn a_second_supervisor_on_the_same_folder_is_refused() {
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    let second = std::process::Command::new(a.path("bin/sarai-supervisor"))
        .arg("--native")
        .arg(a.path(""))
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(!second.stderr.is_empty(), "refused without a word");
    primary_answers(&client).unwrap();
}

#[test]
fn children_are_confined() {
    let _shared = tree::shared();
    let a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    for service in a.status().unwrap().services {
        let pid = service.pid.unwrap();
        assert_eq!(
            process::status_field(pid, "NoNewPrivs").unwrap(),
            "1",
            "{}",
            service.name
        );
        assert_eq!(
            process::status_field(pid, "CapEff").unwrap(),
            "0000000000000000",
            "{}",
            service.name
        );
        if nix::unistd::geteuid().is_root() {
            let uid = process::status_field(pid, "Uid").unwrap();
            assert!(
                uid.split_whitespace().all(|id| id != "0"),
                "{} runs as root",
                service.name
            );
        }
        // No path to a model and no socket but those it was born with can be reached from its descriptors.
        let mut open: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .flatten()
            .filter_map(|e| fs::read_link(e.path()).ok())
            .map(|p| p.display().to_string())
            .collect();
        open.sort();
        assert!(
            !open.iter().any(|p| p.contains("/data/keys")),
            "{} holds keys: {open:?}",
            service.name
        );
        if service.name == "gateway" {
            assert!(
                !open.iter().any(|p| p.contains("/data/models")),
                "the gateway holds a model: {open:?}"
            );
        }
    }
}

/// Says something on the control socket and gives what comes back until the end.
fn say(a: &Appliance, bytes: &[u8]) -> Result<String> {
    let mut stream = UnixStream::connect(a.control_socket())?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    // The other end may stop listening before all is said: what it answered is what counts.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Ok(_) => Ok(answer),
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Ok(answer),
        Err(e) => Err(e.into()),
    }
}

#[test]
fn the_control_socket_bears_anything() {
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    let pid = a.pid().unwrap();
    let before = process::resident(pid).unwrap();

    let nested = format!("{}\n", "[".repeat(500_000));
    let long = vec![b'x'; 10 << 20];
    let wrong: [&[u8]; 9] = [
        b"\n",
        b"garbage\n",
        b"{}\n",
        b"{\"type\":\"keys_add\",\"name\":\"x\",\"extra\":1}\n",
        b"{\"type\":\"open_the_door\"}\n",
        b"\x00\xff\xfe\n",
        b"{\"type\":\"logs\",\"lines\":4000000000,\"follow\":false}\n",
        b"{\"type\":\"keys_add\",\"name\":\"../../etc/passwd\"}\n",
        nested.as_bytes(),
    ];
    for bytes in wrong {
        let answer = say(&a, bytes).unwrap();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
        assert!(
            answer.contains("\"error\""),
            "{shown:?} was answered with {answer:?}"
        );
    }
    let answer = say(&a, &long).unwrap();
    assert!(answer.is_empty() || answer.contains("\"error\""), "{answer:?}");
    assert_eq!(say(&a, b"").unwrap(), "");

    // Connections that say nothing, and a reader of logs that never reads, block nobody.
    let silent: Vec<UnixStream> = (0..64)
        .filter_map(|_| UnixStream::connect(a.control_socket()).ok())
        .collect();
    let mut follower = UnixStream::connect(a.control_socket()).unwrap();
    follower
        .write_all(b"{\"type\":\"logs\",\"service\":null,\"lines\":1,\"follow\":true}\n")
        .unwrap();
    primary_answers(&client).unwrap();
    drop(silent);
    tree::wait_for("a status after all that", Duration::from_secs(15), || a.status()).unwrap();
    drop(follower);

    assert_eq!(a.pid().unwrap(), pid);
    assert!(process::lives(&process::process(pid).unwrap()));
    let grown = process::resident(pid).unwrap().saturating_sub(before);
    println!("the supervisor grew by {} KiB", grown / 1024);
    assert!(grown < 16 << 20, "the supervisor grew by {grown} bytes");
    assert_eq!(a.zombies().unwrap(), []);

    // Logs come line by line, of the service that was asked for.
    let mut logs = UnixStream::connect(a.control_socket()).unwrap();
    logs.write_all(b"{\"type\":\"logs\",\"service\":\"supervisor\",\"lines\":5,\"follow\":false}\n")
        .unwrap();
    let lines: Vec<String> = BufReader::new(logs).lines().map_while(Result::ok).collect();
    assert!(
        !lines.is_empty() && lines.iter().all(|l| l.contains("\"service\":\"supervisor\"")),
        "{lines:?}"
    );
}

#[test]
fn a_wrong_setting_is_said_and_does_not_stop_the_machine() {
    let _shared = tree::shared();
    let mut a = Appliance::prepare(&pair().unwrap(), "[engine]\nslots = 99\nspeed = \"fast\"\n").unwrap();
    a.start().unwrap();
    let status = a.wait_ready(READY).unwrap();
    for word in ["engine.slots", "engine.speed"] {
        assert!(
            status.problems.iter().any(|p| p.contains(word)),
            "{word}: {:?}",
            status.problems
        );
    }
    primary_answers(&a.keyed().unwrap()).unwrap();
}
