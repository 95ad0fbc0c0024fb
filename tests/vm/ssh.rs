//! The admin comes in by SSH, with OpenSSH's own client.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use sarai_tests::process::output_of;
use sarai_tests::vm::RootShell;
use sarai_wire::control::{ServiceState, Status};

use crate::common::{Booted, COMMAND};

/// A key of an admin, and what their client remembers.
pub struct Admin {
    folder: tempfile::TempDir,
}

impl Admin {
    /// Makes a key.
    pub fn new() -> Result<Self> {
        let me = Self {
            folder: tempfile::tempdir()?,
        };
        let words = ["-q", "-t", "ed25519", "-N", "", "-C", "admin@tests", "-f"];
        output_of(Command::new("ssh-keygen").args(words).arg(me.path("key")))?;
        Ok(me)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The line that lets the key in.
    pub fn line(&self) -> Result<String> {
        let line = std::fs::read_to_string(self.path("key.pub")).context("read the public key")?;
        Ok(line.trim().to_owned())
    }

    /// SHA-256 of the server's key, as the client has it.
    pub fn known(&self) -> Result<String> {
        let shown = output_of(Command::new("ssh-keygen").arg("-lf").arg(self.path("known")))?;
        let word = shown.split_whitespace().nth(1).context("no fingerprint")?;
        Ok(word.to_owned())
    }

    /// The client, as far as the host; a command may follow.
    fn client(&self, port: u16, user: &str, options: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg(COMMAND.as_secs().to_string()).arg("ssh");
        command
            .args(["-F", "none", "-p", &port.to_string(), "-i"])
            .arg(self.path("key"));
        command
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", self.path("known").display()));
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=accept-new",
            "ConnectTimeout=60",
            "HostKeyAlias=sarai",
        ] {
            command.args(["-o", option]);
        }
        command
            .args(options)
            .arg(format!("{user}@127.0.0.1"))
            .env_remove("SSH_AUTH_SOCK");
        command
    }

    /// Runs a command over there.
    pub fn run(&self, port: u16, user: &str, options: &[&str], command: &str) -> Result<Output> {
        let mut client = self.client(port, user, options);
        if !command.is_empty() {
            client.arg(command);
        }
        client
            .stdin(Stdio::null())
            .output()
            .context("run ssh (package openssh-client)")
    }
}

fn refused(output: &Output, what: &str) -> Result<()> {
    ensure!(
        !output.status.success(),
        "{what} was let in: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("Permission denied (publickey)"), "{what}: {said}");
    Ok(())
}

/// From a machine that lets nobody in to an admin at the prompt.
pub fn comes_in(machine: &mut Booted, root: &mut RootShell, admin: &Admin) -> Result<()> {
    let port = machine.vm.ssh;
    let line = admin.line()?;
    let said = machine.sarai(&format!("ssh-keys add {line}"))?;
    ensure!(said.contains("SHA256:") && said.contains("admin@tests"), "{said}");
    let status = machine.wait_status("the SSH server", |status| {
        let mut services = status.services.iter();
        services.any(|s| s.name == "ssh" && s.state == ServiceState::Ready)
    })?;
    let json = sarai_tests::tree::wait_for("an answer over SSH", COMMAND, || {
        let output = admin.run(port, "admin", &[], "status --json")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{}: {said}", output.status);
        Ok(output.stdout)
    })?;
    let over: Status = serde_json::from_slice(&json).context("understand the status over SSH")?;
    ensure!(over.hostname == status.hostname && over.ready, "{over:?}");
    ensure!(
        status.ssh_fingerprint.as_deref() == Some(admin.known()?.as_str()),
        "the server shows {}, status {:?}",
        admin.known()?,
        status.ssh_fingerprint
    );

    // Nobody else, nothing else.
    refused(&admin.run(port, "root", &[], "status")?, "root")?;
    refused(
        &Admin::new()?.run(port, "admin", &[], "status")?,
        "a stranger's key",
    )?;
    let password = [
        "-o",
        "PubkeyAuthentication=no",
        "-o",
        "PreferredAuthentications=password,keyboard-interactive",
    ];
    refused(
        &admin.run(port, "admin", &password, "status")?,
        "somebody without a key",
    )?;
    for line in ["sh", "/bin/busybox sh -c id", "status; busybox id"] {
        let output = admin.run(port, "admin", &[], line)?;
        ensure!(output.status.code() == Some(2), "{line}: {output:?}");
    }
    let forward = ["-N", "-o", "ExitOnForwardFailure=yes", "-R", "2222:127.0.0.1:443"];
    ensure!(
        !admin.run(port, "admin", &forward, "")?.status.success(),
        "a port was forwarded"
    );

    at_the_prompt(admin, port)?;

    // As the kernel inside sees the server.
    let server = status
        .services
        .iter()
        .find(|s| s.name == "ssh")
        .context("no ssh")?;
    let pid = server.pid.context("no process")?;
    let shown = root.run(&format!("cat /proc/{pid}/status"), COMMAND)?;
    for wanted in [
        "Uid:\t703\t703\t703\t703",
        "NoNewPrivs:\t1",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
    ] {
        ensure!(shown.contains(wanted), "no {wanted:?} in {shown}");
    }
    ensure!(
        server.sandbox.iter().all(|duty| duty.in_force) && !server.sandbox.is_empty(),
        "{:?}",
        server.sandbox
    );
    let seen = root.run(&format!("ls /proc/{pid}/root /proc/{pid}/root/etc"), COMMAND)?;
    ensure!(
        seen.lines()
            .all(|line| !matches!(line, "data" | "sys" | "sarai" | "shadow")),
        "it sees {seen}"
    );
    Ok(())
}

/// Whether the prompt is there again after the answer.
fn answered(shown: &str) -> bool {
    let answer = shown.find("appliance ");
    answer.is_some_and(|at| shown[at..].contains("sarai> "))
}

/// A terminal of its own, completion and the end.
fn at_the_prompt(admin: &Admin, port: u16) -> Result<()> {
    use std::io::{Read, Write};
    let mut client = admin
        .client(port, "admin", &["-tt"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("run ssh")?;
    let mut keyboard = client.stdin.take().context("its input")?;
    let mut screen = client.stdout.take().context("its output")?;
    // Half a word and Tab, and the end of the input.
    let mut shown = String::new();
    let mut bytes = [0; 1024];
    let mut typed = 0;
    loop {
        let n = screen.read(&mut bytes)?;
        if n == 0 {
            break;
        }
        shown.push_str(&String::from_utf8_lossy(&bytes[..n]));
        let prompts = shown.matches("sarai> ").count();
        if typed == 0 && prompts >= 1 {
            typed = 1;
            keyboard.write_all(b"vers\t\n")?;
        } else if typed == 1 && answered(&shown) {
            typed = 2;
            keyboard.write_all(b"\x04")?;
        }
    }
    let status = client.wait()?;
    ensure!(typed == 2 && status.success(), "{status}: {shown:?}");
    Ok(())
}
