//! Two machines on one wire: network namespaces joined by a pair of virtual interfaces. For root alone.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::output_of;
use crate::tree;

/// Two namespaces with an interface `eth0` each.
#[derive(Debug)]
pub struct Lan {
    /// The appliance's side.
    pub here: Side,
    /// Everybody else's.
    pub there: Side,
}

/// One end of the wire; gone when dropped.
#[derive(Debug)]
pub struct Side(Child);

impl Side {
    fn new() -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "3600"]).stdin(Stdio::null());
        let side = Self(
            command
                .spawn()
                .context("make a network namespace (package util-linux)")?,
        );
        let own = std::fs::read_link("/proc/self/ns/net")?;
        tree::wait_for("a network namespace", Duration::from_secs(20), || {
            let its = std::fs::read_link(side.path())?;
            ensure!(its != own, "it is still in ours");
            Ok(())
        })?;
        side.run(&["ip", "link", "set", "lo", "up"])?;
        Ok(side)
    }

    /// The namespace's file.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// A command that will run in it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }

    /// Runs a command in it, which must succeed.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let (program, arguments) = words.split_first().context("no command")?;
        output_of(self.command(program).args(arguments))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Lan {
    /// Joins them: `10.77.0.1` and `fd77::1` here, `10.77.0.2` and `fd77::2` there.
    pub fn new() -> Result<Self> {
        let (here, there) = (Side::new()?, Side::new()?);
        let other = there.0.id().to_string();
        here.run(&[
            "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &other,
        ])?;
        for (side, last) in [(&here, "1"), (&there, "2")] {
            side.run(&[
                "ip",
                "address",
                "add",
                &format!("10.77.0.{last}/24"),
                "dev",
                "eth0",
            ])?;
            // Without asking first whether somebody has it: that takes seconds.
            let six = format!("fd77::{last}/64");
            side.run(&["ip", "-6", "address", "add", &six, "dev", "eth0", "nodad"])?;
            side.run(&["ip", "link", "set", "eth0", "up"])?;
        }
        Ok(Self { here, there })
    }
}
