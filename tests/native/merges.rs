//! An adapter made part of its base by the real appliance: in the trainer's sandbox, signed by the machine, taken away,
//! and computed by another machine that was told to believe the first.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sarai_tests::appliance::{Appliance, READY};
use sarai_tests::gguf::Tiny;
use sarai_tests::lora::Lora;
use sarai_tests::model::{self, Artifact, attest};
use sarai_tests::process::{self, output_of};
use sarai_tests::tree;
use sarai_wire::control::ServiceState;
use sarai_wire::merge::{MergeResult, MergeStatus};

use crate::adapters::{base, install, question, said, started};
use crate::common::pair;

/// Longest any merge of these tests may take on a slow machine.
const MERGE: Duration = Duration::from_secs(300);

fn merged(a: &Appliance) -> Result<MergeStatus> {
    Ok(serde_json::from_str(
        &a.sarai_ok(&["adapters", "merged", "--json"])?,
    )?)
}

/// What a command that must fail says.
fn refused(a: &Appliance, arguments: &[&str]) -> String {
    let output = a.sarai(arguments).unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What lies in the folder of merged models.
fn files(a: &Appliance) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(a.path("data/merged"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Takes a merged model away: its files in this folder.
fn take_away(a: &Appliance, id: &str, to: &Path) {
    let output = a.sarai(&["adapters", "merged", "export", id]).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::write(to.join("m.tar"), output.stdout).unwrap();
    output_of(Command::new("tar").args(["-xf", "m.tar"]).current_dir(to)).unwrap();
}

/// Fingerprint of the certificate whose signature over `document` holds, by the real `gpg`, which knows `certificate`
/// and no other.
fn signer_by_gpg(certificate: &Path, document: &Path) -> Result<String> {
    let home = tempfile::Builder::new().prefix("sarai-gpg-").tempdir()?;
    let gpg = |arguments: &[&Path]| {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--no-autostart", "--status-fd", "1", "--homedir"]);
        command.arg(home.path()).args(arguments);
        output_of(&mut command)
    };
    gpg(&["--import".as_ref(), certificate])?;
    let mut signature = document.as_os_str().to_owned();
    signature.push(".asc");
    let said = gpg(&["--verify".as_ref(), signature.as_ref(), document])?;
    let valid = said.lines().find(|line| line.contains(" VALIDSIG "));
    let primary = valid.and_then(|line| line.split(' ').next_back());
    primary
        .map(str::to_owned)
        .with_context(|| format!("gpg says {said}"))
}

#[test]
fn an_adapter_becomes_part_of_its_base_and_another_machine_that_believes_this_one_computes_the_same() {
    let _alone = tree::alone();
    let mut a = started(&["one"]).unwrap();
    let client = a.keyed().unwrap();
    let ask = || said(&client.chat(&question())?.ok()?);
    let plain = ask().unwrap();
    assert!(refused(&a, &["adapters", "merge"]).contains("no adapter is in use"));
    a.sarai_ok(&["adapters", "use", "one"]).unwrap();
    let with = ask().unwrap();
    assert!(plain.0 != with.0 && with.1.is_some());
    for (arguments, why) in [
        (&["adapters", "merge", "none"][..], "missing-file"),
        (&["adapters", "merge", "../models/primary"], "no name of one"),
        (&["adapters", "merge", "one", "--id", "a/b"], "no id of a model"),
        (&["adapters", "merged", "remove", "one"], "there is none"),
        (&["adapters", "merged", "export", "one"], "there is none"),
    ] {
        let error = refused(&a, arguments);
        assert!(error.contains(why), "{arguments:?}: {error}");
    }

    let text = a.sarai_ok(&["adapters", "merge", "--wait", "--json"]).unwrap();
    let status: MergeStatus = serde_json::from_str(&text).unwrap();
    let MergeResult::Merged { id, outcome } = status.last.unwrap().result else {
        panic!("{text}");
    };
    assert_eq!(id, "made-up-primary-one");
    // Two matrices in each of twelve layers; of floats nothing is lost.
    assert!(outcome.tensors == 24 && outcome.lost < 1e-3, "{outcome:?}");
    let model = status.models.into_iter().next().unwrap();
    assert_eq!((&model.id, &model.digest), (&id, &outcome.sha256));
    assert_eq!(model.version, "1.0.0+one.0");
    let again = refused(&a, &["adapters", "merge", "one"]);
    assert!(again.contains("there is one of that id"), "{again}");
    // It serves as before, and nobody runs it.
    assert_eq!(ask().unwrap(), with);
    let told = a.sarai_ok(&["adapters", "merged"]).unwrap();
    assert!(
        told.contains(&id) && told.contains("none is loaded here"),
        "{told}"
    );
    assert!(a.status().unwrap().problems.is_empty());

    // Taken away, gpg says who signed it, and sarai-attest that it is what was signed.
    let folder = tempfile::tempdir().unwrap();
    take_away(&a, &id, folder.path());
    let path = |ending: &str| folder.path().join(format!("{id}.{ending}"));
    let signer = signer_by_gpg(&path("device.asc"), &path("toml")).unwrap();
    assert_eq!(signer, model.signer);
    let keyring = folder.path().join("keyring");
    fs::create_dir(&keyring).unwrap();
    fs::copy(path("device.asc"), keyring.join("device.asc")).unwrap();
    let (file, keyring) = (path("gguf"), keyring.to_string_lossy().into_owned());
    attest(&[
        "verify",
        &file.to_string_lossy(),
        "--keyring",
        &keyring,
        "--kind",
        "model",
    ])
    .unwrap();
    assert!(
        a.sarai_ok(&["adapters", "merged", "remove", &id])
            .unwrap()
            .contains("removed")
    );
    assert_eq!(files(&a), Vec::<String>::new());
    a.stop(Duration::from_secs(30)).unwrap();

    // Another machine: the device's signature alone is nobody's there.
    let [_, fallback] = pair().unwrap();
    let artifact = Artifact::new("primary", &id, &file, 2048).unwrap();
    let mut b = Appliance::prepare(&[artifact.clone(), fallback], "").unwrap();
    for ending in ["toml", "toml.asc"] {
        fs::copy(path(ending), b.path("data/models").join(format!("{id}.{ending}"))).unwrap();
    }
    b.start().unwrap();
    let wait = |what: &str, wanted: &dyn Fn(Option<&str>) -> bool| {
        b.wait_status(what, READY, |status| {
            let model = status.models.iter().find(|model| model.role == "primary");
            model.is_some_and(|model| wanted(model.refused.as_deref()))
        })
        .unwrap();
    };
    wait("the merged model to be refused", &|refused| {
        refused.is_some_and(|why| why.starts_with("unknown-signer"))
    });
    fs::copy(path("device.asc"), b.path("etc/keyring/other-machine.asc")).unwrap();
    b.sarai_ok(&["restart", "engine-primary"]).unwrap();
    b.wait_status("the merged model to serve", READY, |status| {
        let ready = status.services.iter().all(|s| s.state == ServiceState::Ready);
        ready && status.models.iter().all(|model| model.refused.is_none())
    })
    .unwrap();
    let answer = b.keyed().unwrap().chat(&question()).unwrap().ok().unwrap();
    assert_eq!(said(&answer).unwrap(), (with.0, None));
}

#[test]
fn a_merge_that_is_killed_leaves_nothing_and_nothing_runs_beside_one() {
    let _alone = tree::alone();
    // Wide, an adapter of a high rank, and one thread: it takes a second or more, in which it can be caught.
    let wide = Tiny {
        feed_forward: 8192,
        ..base()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.gguf");
    wide.write(&path).unwrap();
    let artifact = Artifact::new("primary", "wide", &path, 512).unwrap();
    let mut a = Appliance::start_with(
        &[artifact.clone(), model::tiny("fallback").unwrap()],
        "[training]\nthreads = 1\n",
    )
    .unwrap();
    let lora = Lora {
        rank: 64,
        ..Lora::tiny(&wide, 1)
    };
    install(&a, "one", &lora, &artifact, &a.publisher).unwrap();

    // Caught in the midst of it, standing still.
    let caught = |a: &Appliance| {
        let pid = tree::wait_for("the trainer to merge", MERGE, || a.service_pid("trainer")).unwrap();
        process::signal(pid, Signal::SIGSTOP).unwrap();
        assert_eq!(files(a), [".wide-one.gguf.new"]);
        pid
    };
    a.sarai_ok(&["adapters", "merge", "one"]).unwrap();
    let pid = caught(&a);
    let service = a.service("trainer").unwrap();
    assert!(!service.sandbox.is_empty(), "{service:?}");
    let status = merged(&a).unwrap();
    assert!(status.now.is_some() && status.models.is_empty(), "{status:?}");
    assert!(refused(&a, &["adapters", "merge", "one"]).contains("one runs"));
    assert!(refused(&a, &["training", "run"]).contains("an adapter is being merged"));
    let told = a.sarai_ok(&["training", "status"]).unwrap();
    // Just started, the engines may count as busy: then it says that it stands still for them.
    assert!(
        told.contains("now     merges") && told.contains(": wide-one, "),
        "{told}"
    );
    process::signal(pid, Signal::SIGKILL).unwrap();
    let ended = tree::wait_for("the merge to end", MERGE, || {
        let status = merged(&a)?;
        ensure!(status.now.is_none(), "{status:?}");
        status.last.context("it did not end")
    })
    .unwrap();
    let MergeResult::Failed { reason } = &ended.result else {
        panic!("{ended:?}");
    };
    assert!(reason.contains("SIGKILL"), "{reason}");
    assert_eq!(files(&a), Vec::<String>::new());
    // Nobody else noticed.
    let status = a.status().unwrap();
    assert!(status.services.iter().all(|service| service.restarts == 0));

    // The supervisor itself: what it leaves is removed when it comes back.
    a.sarai_ok(&["adapters", "merge", "one"]).unwrap();
    caught(&a);
    a.kill().unwrap();
    assert_eq!(files(&a), [".wide-one.gguf.new"]);
    a.start().unwrap();
    a.wait_ready(READY).unwrap();
    assert_eq!(files(&a), Vec::<String>::new());
    assert_eq!(merged(&a).unwrap(), MergeStatus::default());

    // And whole, it is there after the next end as well.
    let said = a
        .sarai_ok(&["adapters", "merge", "one", "--id", "other", "--wait"])
        .unwrap();
    assert!(
        said.starts_with("merged after") && said.contains("other"),
        "{said}"
    );
    a.kill().unwrap();
    a.start().unwrap();
    a.wait_ready(READY).unwrap();
    let models = merged(&a).unwrap().models;
    assert!(models.len() == 1 && models[0].id == "other", "{models:?}");
    a.stop(Duration::from_secs(30)).unwrap();
    assert!(a.processes().is_empty());
}
