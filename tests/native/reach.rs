//! How the machine is reached, and how soon.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sarai_tests::appliance::{Appliance, READY};
use sarai_tests::client::Client;
use sarai_tests::lan::Lan;
use sarai_tests::process::output_of;
use sarai_tests::{model, tree};
use sarai_wire::control::{BootStatus, ServiceState};
use serde_json::Value;

use crate::common::{pair, primary_answers};

/// Port of the appliance on its own wire.
const PORT: u16 = 8443;
/// Time the network has to be told something.
const TOLD: Duration = Duration::from_secs(90);

#[test]
fn the_way_up_is_told_stage_by_stage_and_in_order() {
    let _shared = tree::shared();
    let a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    a.wait_ready(READY).unwrap();
    let boot: BootStatus = a.status().unwrap().boot;
    let at = |name: &str| {
        let stage = boot.stages.iter().find(|stage| stage.name == name);
        let stage = stage.unwrap_or_else(|| panic!("no {name} in {boot:?}"));
        let (from, to) = (stage.from_ms.unwrap(), stage.to_ms.unwrap());
        assert!(0.0 < from && from <= to, "{stage:?}");
        (from, to)
    };
    let (supervisor, verify, engine, gateway) = (
        at("supervisor"),
        at("verify"),
        at("engine ready"),
        at("gateway listening"),
    );
    assert!(supervisor.1 <= verify.0 && verify.1 <= engine.0, "{boot:?}");
    assert!(
        supervisor.1 <= gateway.0 && at("certificate").1 <= gateway.1,
        "{boot:?}"
    );
    // The totals are the table's.
    let (listening, ready) = (boot.gateway_ms.unwrap(), boot.ready_ms.unwrap());
    assert!((listening - (gateway.1 - supervisor.0)).abs() < 0.01, "{boot:?}");
    assert!(
        (ready - (gateway.1.max(engine.1) - supervisor.0)).abs() < 0.01,
        "{boot:?}"
    );
    let clock = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    let now = std::time::Duration::from(clock).as_secs_f64() * 1e3;
    assert!(gateway.1.max(engine.1) < now, "{boot:?} at {now}");
    let shown = a.sarai(&["boot-time"]).unwrap();
    println!("{}", String::from_utf8_lossy(&shown.stdout));
    // How long it took is a figure of the machine; that a missed promise is not passed over is not.
    assert_eq!(
        shown.status.success(),
        listening <= sarai_wire::control::GATEWAY_WITHIN_MS
    );
}

/// The foreign resolver on the other side of the wire.
fn resolver(lan: &Lan, words: &[&str]) -> Result<Command> {
    let python = tree::python()?;
    let mut command = lan.there.command(python.to_str().context("a path of python")?);
    command
        .arg(tree::root().join("tests/clients/mdns_client.py"))
        .args(words);
    command.env("SARAI_TEST_PATIENCE", TOLD.as_secs().to_string());
    Ok(command)
}

/// What the other side is told of a host.
fn find(lan: &Lan, host: &str) -> Result<Value> {
    Ok(serde_json::from_str(&output_of(&mut resolver(
        lan,
        &["find", host],
    )?)?)?)
}

/// A resolver that goes on until it is dropped, and what it says.
struct Running(Child, BufReader<std::process::ChildStdout>);

impl Running {
    fn start(lan: &Lan, words: &[&str]) -> Result<Self> {
        let mut child = resolver(lan, words)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the resolver")?;
        let out = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Self(child, out))
    }

    fn wait_for(&mut self, wanted: &str) -> Result<()> {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            ensure!(
                self.1.read_line(&mut line)? > 0,
                "it ended before it said {wanted:?}: {said:?}"
            );
            if line.trim() == wanted {
                return Ok(());
            }
            said.push_str(&line);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An appliance called `reach` on a wire of its own, told to announce itself.
fn on_the_wire(lan: &Lan) -> Result<Appliance> {
    let mut a = Appliance::prepare(&pair()?, "")?;
    let settings = format!(
        "hostname = \"reach\"\nprofile = \"{}\"\nlisten = \"[::]:{PORT}\"\n[reach]\nannounce = true\n",
        model::PROFILE
    );
    fs::write(a.path("etc/sarai.toml"), settings)?;
    a.launch.network = Some(lan.here.path());
    Ok(a)
}

fn started(lan: &Lan) -> Result<Appliance> {
    let mut a = on_the_wire(lan)?;
    a.start()?;
    a.wait_status("the announcer", READY, |status| {
        let mut services = status.services.iter();
        status.ready && services.any(|s| s.name == "announce" && s.state == ServiceState::Ready)
    })?;
    Ok(a)
}

/// Namespaces are for root.
fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("not looked at: only root can make a network of its own");
    }
    root
}

#[test]
fn a_foreign_resolver_finds_the_name_and_the_service_and_is_told_of_changes_and_of_the_end() {
    if !is_root() {
        return;
    }
    let _shared = tree::shared();
    let lan = Lan::new().unwrap();
    let mut a = started(&lan).unwrap();
    let status = a.status().unwrap();
    assert_eq!(status.announced.as_deref(), Some("reach.local"));
    let found = find(&lan, "reach").unwrap();
    println!("{found}");
    assert_eq!(found["name"], "reach._https._tcp.local.");
    assert_eq!(found["port"], PORT);
    assert_eq!(found["properties"]["path"], "/v1");
    let addresses = found["addresses"].as_array().unwrap();
    for wanted in ["10.77.0.1", "fd77::1"] {
        assert!(addresses.iter().any(|a| a == wanted), "{wanted}: {found}");
    }
    assert!(
        !addresses.iter().any(|a| a == "127.0.0.1" || a == "::1"),
        "{found}"
    );
    let ca = status.ca_fingerprint.unwrap().replace(':', "").to_lowercase();
    assert_eq!(found["properties"]["ca"], ca.as_str());
    // Who goes by what was told gets an answer, under the name that was told.
    for address in ["10.77.0.1", "[fd77::1]"] {
        let health = lan
            .there
            .run(&[
                "curl",
                "--silent",
                "--show-error",
                "--fail",
                "--cacert",
                a.ca().to_str().unwrap(),
                "--resolve",
                &format!("reach.local:{PORT}:{address}"),
                &format!("https://reach.local:{PORT}/healthz"),
            ])
            .unwrap();
        println!("{address}: {health}");
    }

    // Another address, as from another DHCP server.
    lan.here
        .run(&["ip", "address", "del", "10.77.0.1/24", "dev", "eth0"])
        .unwrap();
    lan.here
        .run(&["ip", "address", "add", "10.77.0.9/24", "dev", "eth0"])
        .unwrap();
    tree::wait_for("the new address to be told", TOLD, || {
        let found = find(&lan, "reach")?;
        let addresses = found["addresses"].as_array().context("addresses")?;
        ensure!(addresses.iter().any(|a| a == "10.77.0.9"), "{found}");
        ensure!(!addresses.iter().any(|a| a == "10.77.0.1"), "{found}");
        Ok(())
    })
    .unwrap();

    // The end.
    let mut watcher = Running::start(&lan, &["watch", "reach"]).unwrap();
    watcher.wait_for("added").unwrap();
    assert!(a.stop(Duration::from_secs(30)).unwrap().success());
    watcher.wait_for("removed").unwrap();
}

#[test]
fn a_name_that_somebody_else_has_is_left_to_them_and_said() {
    if !is_root() {
        return;
    }
    let _shared = tree::shared();
    let lan = Lan::new().unwrap();
    let mut somebody = Running::start(&lan, &["hold", "reach", "10.77.0.2"]).unwrap();
    somebody.wait_for("held").unwrap();
    let a = started(&lan).unwrap();
    let status = a
        .wait_status("another name", TOLD, |status| {
            status.announced.as_deref() == Some("reach-2.local")
        })
        .unwrap();
    assert!(
        status
            .problems
            .iter()
            .any(|p| p.contains("reach.local") && p.contains("reach-2.local")),
        "{:?}",
        status.problems
    );
    let found = find(&lan, "reach-2").unwrap();
    println!("{found}");
    // The certificate names it as well.
    let health = format!("https://reach-2.local:{PORT}/healthz");
    let resolve = format!("reach-2.local:{PORT}:10.77.0.1");
    let ca = a.ca();
    let words = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--cacert",
        ca.to_str().unwrap(),
    ];
    tree::wait_for("a certificate for the new name", TOLD, || {
        lan.there
            .run(&[&words[..], &["--resolve", &resolve, &health]].concat())
    })
    .unwrap();
}

/// The commands that `sarai pair` shows, as a person copies them.
fn commands(shown: &str) -> String {
    let lines = shown.lines().filter_map(|line| line.strip_prefix("    "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_client_is_paired_by_what_is_shown_alone() {
    let _shared = tree::shared();
    let a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let shown = a.sarai_ok(&["pair", "phone"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let said = output_of(
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", &commands(&shown)])
            .current_dir(folder.path()),
    )
    .unwrap();
    // The fingerprint that was fetched is the one that was shown.
    let fetched = said.trim().rsplit('=').next().unwrap_or_default();
    assert!(fetched.len() == 95 && shown.contains(fetched), "{said}\n{shown}");
    let word = |name: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(name));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.unwrap_or_else(|| panic!("no {name} in {shown}")).to_owned()
    };
    let client = Client::new(
        &word("address"),
        &folder.path().join("sarai-ca.crt"),
        Some(&word("key")),
    )
    .unwrap();
    tree::wait_for("the new key", Duration::from_secs(10), || {
        primary_answers(&client)
    })
    .unwrap();
    let json: Value = serde_json::from_str(&a.sarai_ok(&["pair", "--json"]).unwrap()).unwrap();
    assert_eq!(json["name"], "client-1");
    assert_eq!(json["ca"].as_str().unwrap(), fs::read_to_string(a.ca()).unwrap());
}
