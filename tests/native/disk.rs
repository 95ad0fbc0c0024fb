//! The data disk is full: what needs to write says so, nothing is half written, serving goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use sarai_tests::appliance::{Appliance, READY};
use sarai_tests::tree;
use sarai_wire::control::Status;

use crate::common::{pair, primary_answers};

/// A small file system mounted on a folder until the end of the test.
pub struct Small(PathBuf);

impl Small {
    pub fn mount(at: &Path, bytes: u64) -> Result<Self> {
        let uid = nix::unistd::geteuid();
        let options = format!("size={bytes},mode=0755,uid={uid}");
        privileged(&["mount", "-t", "tmpfs", "-o", &options, "sarai-tests"], at)?;
        Ok(Self(at.to_path_buf()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = privileged(&["umount", "--lazy"], &self.0);
    }
}

fn privileged(words: &[&str], last: &Path) -> Result<()> {
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new(words[0])
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["--non-interactive", words[0]]);
        sudo
    };
    let output = command.args(&words[1..]).arg(last).output()?;
    ensure!(
        output.status.success(),
        "{words:?} {} failed; this test mounts a small file system: run it as root or after `sudo -v`: {}",
        last.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Fills a file system to its last byte.
pub fn fill(folder: &Path) -> Result<PathBuf> {
    use std::io::Write;
    let path = folder.join("filler");
    let mut file = fs::File::create(&path)?;
    for size in [1 << 16, 1 << 12, 1] {
        let block = vec![0; size];
        while file.write_all(&block).is_ok() {}
    }
    Ok(path)
}

#[test]
fn a_full_disk_refuses_what_must_write_and_goes_on_serving() {
    let _shared = tree::shared();
    let models = pair().unwrap();
    let size: u64 = models
        .iter()
        .map(|m| fs::metadata(&m.source).unwrap().len())
        .sum();
    let mut a = Appliance::prepare(&models, "").unwrap();
    // The models go to the small disk with everything else the appliance keeps.
    let _small = Small::mount(&a.path("data"), size + (2 << 20)).unwrap();
    fs::create_dir_all(a.path("data/models")).unwrap();
    for artifact in &models {
        artifact.install(&a.path("data/models"), &a.publisher).unwrap();
    }
    a.start().unwrap();
    a.wait_ready(READY).unwrap();
    let client = a.keyed().unwrap();
    let keys = a.path("data/gateway/keys.toml");
    let before = fs::read(&keys).unwrap();

    let filler = fill(&a.path("data")).unwrap();
    let refused = a.sarai(&["keys", "add", "one-too-many"]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    println!("sarai keys add: {}: {said}", refused.status);
    assert!(!refused.status.success(), "a key was made on a full disk");
    assert!(
        said.to_lowercase().contains("space"),
        "the error does not say what is wrong: {said}"
    );
    assert_eq!(fs::read(&keys).unwrap(), before, "keys.toml changed");
    let left: Vec<_> = fs::read_dir(a.path("data/gateway"))
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(
        left.iter().all(|n| matches!(
            n.to_str(),
            Some("audit" | "feedback" | "keys.toml" | "server.crt" | "server.key")
        )),
        "{left:?}"
    );

    for _ in 0..3 {
        primary_answers(&client).unwrap();
    }
    // Feedback is refused for what is wrong, and nothing of it is left.
    let id = primary_answers(&client).unwrap()["id"].clone();
    let refused = client
        .post(
            "/v1/feedback",
            &serde_json::json!({"completion_id": id, "score": 1}),
        )
        .unwrap();
    assert_eq!(refused.status, 507, "{}", refused.body);
    assert_eq!(a.sarai_ok(&["feedback", "list", "--json"]).unwrap(), "");
    // What the audit log cannot take is said, and counted once there is room.
    let told = |s: &Status| s.problems.iter().any(|p| p.contains("audit log"));
    tree::wait_for("the audit log's trouble to be told", READY, || {
        // The page that the log's end is in may still take a few.
        primary_answers(&client)?;
        ensure!(told(&a.status()?), "nothing is said");
        Ok(())
    })
    .unwrap();
    // An engine can be replaced meanwhile, and so can the gateway.
    a.sarai_ok(&["restart", "engine-primary"]).unwrap();
    tree::wait_for("the primary on a full disk", READY, || primary_answers(&client)).unwrap();
    a.sarai_ok(&["restart", "gateway"]).unwrap();
    tree::wait_for("the gateway on a full disk", READY, || primary_answers(&client)).unwrap();

    // A whole restart on the full disk comes up with the same certificate and keys.
    a.stop(Duration::from_secs(20)).unwrap();
    a.start().unwrap();
    a.wait_ready(READY).unwrap();
    primary_answers(&client).unwrap();

    fs::remove_file(filler).unwrap();
    a.add_key("one-too-many").unwrap();
    a.wait_status("the audit log's trouble to be over", READY, |s| !told(s))
        .unwrap();
    let proof = a.sarai_ok(&["audit", "verify"]).unwrap();
    println!("{proof}");
    assert!(proof.contains("records could not be written"), "{proof}");
    a.stop(Duration::from_secs(20)).unwrap();

    // What the second run said while there was no room was written once there was.
    let log = fs::read_to_string(a.path("data/log/sarai.log")).unwrap();
    let starts: Vec<_> = log.match_indices(" supervisor native: ").collect();
    assert_eq!(starts.len(), 2, "{log}");
    let second = &log[starts[1].0..];
    assert!(
        second.contains("gateway: ready") && second.trim_end().ends_with("services ended"),
        "{log}"
    );
    assert!(!log.contains("were lost"), "{log}");
}
