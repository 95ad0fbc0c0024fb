//! A real appliance in a folder of its own: signed models, settings, the supervisor and everything it starts.
//!
//! The programs are linked into the folder, so that `/proc/PID/exe` tells this appliance's processes from any
//! other's: "no process is left" is then a fact about the machine and not about what the supervisor says.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use sarai_wire::control::{ServiceState, ServiceStatus, Status};
use tempfile::TempDir;

use crate::client::Client;
use crate::model::{self, Artifact};
use crate::process::{self, Process};
use crate::publisher::Publisher;
use crate::tree;

const PROGRAMS: [&str; 6] = [
    "sarai-supervisor",
    "sarai-engine",
    "sarai-gateway",
    "sarai-trainer",
    "sarai-announce",
    "sarai",
];
/// Seconds any appliance of the tests may take to serve: tiny models, but a busy machine.
pub const READY: Duration = Duration::from_secs(60);

/// A folder with an appliance in it, and the supervisor while it runs.
#[derive(Debug)]
pub struct Appliance {
    folder: Option<TempDir>,
    /// Who signs the models.
    pub publisher: Publisher,
    /// Port on 127.0.0.1.
    pub port: u16,
    /// How the supervisor is started.
    pub launch: Launch,
    supervisor: Option<Child>,
    secret: Option<String>,
}

/// Where the supervisor, and all that it starts, is put when it is started.
#[derive(Debug, Default, Clone)]
pub struct Launch {
    /// `cgroup.procs` of a group.
    pub group: Option<PathBuf>,
    /// The only CPUs it may use.
    pub cpus: Option<Vec<usize>>,
    /// File of a network namespace.
    pub network: Option<String>,
}

impl Launch {
    /// A command that is in its place before the program begins.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "[ -z \"$0\" ] || echo $$ >\"$0\"; exec \"$@\""]);
        command.arg(self.group.as_deref().unwrap_or(Path::new("")));
        if let Some(cpus) = &self.cpus {
            let list: Vec<String> = cpus.iter().map(usize::to_string).collect();
            command.args(["taskset", "-c", &list.join(",")]);
        }
        if let Some(network) = &self.network {
            command.args(["nsenter", &format!("--net={network}")]);
        }
        command.arg(program);
        command
    }
}

impl Appliance {
    /// Makes the folder: programs, keyring, manifest, settings, and a signed copy of each artifact. `settings`
    /// is the rest of `sarai.toml` after profile and address.
    pub fn prepare(artifacts: &[Artifact], settings: &str) -> Result<Self> {
        // Short: Unix sockets lie below it.
        let folder = tempfile::Builder::new().prefix("sarai-t-").tempdir()?;
        let publisher = Publisher::new("release")?;
        let me = Self {
            folder: Some(folder),
            publisher,
            port: crate::vm::free_port()?,
            launch: Launch::default(),
            supervisor: None,
            secret: None,
        };
        // Engine and gateway run as other users when the test runs as root.
        fs::set_permissions(me.path(""), fs::Permissions::from_mode(0o755))?;
        for folder in ["bin", "etc/keyring", "data/models"] {
            fs::create_dir_all(me.path(folder))?;
        }
        me.link_programs()?;
        me.publisher.export(&me.path("etc/keyring/release.asc"))?;
        for artifact in artifacts {
            artifact.install(&me.path("data/models"), &me.publisher)?;
        }
        me.write_manifest(artifacts)?;
        me.write_settings(settings)?;
        Ok(me)
    }

    /// The same, started, and every service of it ready: the appliance serves as soon as one engine does.
    pub fn start_with(artifacts: &[Artifact], settings: &str) -> Result<Self> {
        let mut me = Self::prepare(artifacts, settings)?;
        me.start()?;
        me.wait_ready(READY)?;
        me.wait_status("every service to be ready", READY, |status| {
            status.services.iter().all(|s| s.state == ServiceState::Ready)
        })?;
        Ok(me)
    }

    /// A path below the appliance's folder.
    #[must_use]
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.folder
            .as_ref()
            .map(|folder| folder.path().join(below))
            .unwrap_or_default()
    }

    /// Writes the manifest with one entry an artifact.
    pub fn write_manifest(&self, artifacts: &[Artifact]) -> Result<()> {
        model::write_manifest(&self.path("etc/models-manifest.toml"), artifacts)
    }

    /// Writes `sarai.toml`.
    pub fn write_settings(&self, rest: &str) -> Result<()> {
        let text = format!(
            "profile = \"{}\"\nlisten = \"127.0.0.1:{}\"\n{rest}\n",
            model::PROFILE,
            self.port
        );
        fs::write(self.path("etc/sarai.toml"), text).context("write the settings")
    }

    fn link_programs(&self) -> Result<()> {
        for name in PROGRAMS {
            let from = fs::canonicalize(tree::program(name)?)?;
            let to = self.path("bin").join(name);
            // A hard link costs nothing; on another file system a copy does the same.
            if fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
            }
        }
        // What the engine loads at run time lies beside the binaries.
        for entry in fs::read_dir(tree::binaries()?)?.flatten() {
            let name = entry.file_name();
            let text = name.to_string_lossy();
            if matches!(&*text, "backends" | "lib") || (text.starts_with("lib") && text.contains(".so")) {
                symlink(entry.path(), self.path("bin").join(&name))?;
            }
        }
        Ok(())
    }

    /// Puts the attacking engine in the real one's place, which it becomes for every model but the primary's.
    pub fn replace_engine(&self) -> Result<()> {
        let engine = self.path("bin/sarai-engine");
        fs::rename(&engine, self.path("bin/sarai-engine-real"))?;
        fs::copy(fs::canonicalize(tree::program("sarai-attacker")?)?, &engine)?;
        Ok(())
    }

    /// Starts the supervisor; returns at once.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.supervisor.is_none(), "the supervisor already runs");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("supervisor.log"))?;
        let program = self.path("bin/sarai-supervisor");
        let placed =
            self.launch.group.is_some() || self.launch.cpus.is_some() || self.launch.network.is_some();
        let mut command = if placed {
            self.launch.command(&program)
        } else {
            Command::new(program)
        };
        let child = command
            .arg("--native")
            .arg(self.path(""))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("start the supervisor")?;
        self.supervisor = Some(child);
        Ok(())
    }

    /// The supervisor's process id.
    pub fn pid(&self) -> Result<i32> {
        let child = self.supervisor.as_ref().context("the supervisor does not run")?;
        Ok(i32::try_from(child.id())?)
    }

    /// Waits until the appliance says that it serves and a client agrees.
    pub fn wait_ready(&self, deadline: Duration) -> Result<Status> {
        let status = self.wait_status("the appliance to serve", deadline, |status| status.ready)?;
        tree::wait_for("/healthz to agree", Duration::from_secs(10), || {
            let answer = self.client()?.get("/healthz")?;
            ensure!(answer.status == 200, "status {}: {}", answer.status, answer.body);
            Ok(())
        })?;
        Ok(status)
    }

    /// Waits until the status satisfies `wanted`.
    pub fn wait_status(
        &self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        tree::wait_for(what, deadline, || {
            let status = self.status()?;
            ensure!(wanted(&status), "status is {status:#?}");
            Ok(status)
        })
    }

    /// Runs `sarai` against this appliance.
    pub fn sarai(&self, arguments: &[&str]) -> Result<Output> {
        Command::new(self.path("bin/sarai"))
            .arg("--socket")
            .arg(self.control_socket())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("run sarai")
    }

    /// Runs `sarai`, which must succeed, and gives its standard output.
    pub fn sarai_ok(&self, arguments: &[&str]) -> Result<String> {
        let output = self.sarai(arguments)?;
        ensure!(
            output.status.success(),
            "sarai {arguments:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// `sarai status --json`. The command exits with 3 while the appliance is not ready and prints all the same.
    pub fn status(&self) -> Result<Status> {
        let output = self.sarai(&["status", "--json"])?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "sarai status --json: {}, {:?} {:?}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }

    /// One service's status.
    pub fn service(&self, name: &str) -> Result<ServiceStatus> {
        let status = self.status()?;
        let found = status.services.into_iter().find(|service| service.name == name);
        found.with_context(|| format!("there is no service {name}"))
    }

    /// Process id of a service that is ready.
    pub fn service_pid(&self, name: &str) -> Result<i32> {
        let service = self.service(name)?;
        ensure!(
            service.state == ServiceState::Ready,
            "{name} is {:?}",
            service.state
        );
        service
            .pid
            .with_context(|| format!("{name} is ready and has no process"))
    }

    /// Makes a client key.
    pub fn add_key(&self, name: &str) -> Result<String> {
        #[derive(serde::Deserialize)]
        struct Key {
            secret: String,
        }
        let text = self.sarai_ok(&["keys", "add", name, "--json"])?;
        let key: Key = serde_json::from_str(&text).with_context(|| format!("understand {text:?}"))?;
        Ok(key.secret)
    }

    /// A client with a key that is made on first use.
    pub fn keyed(&mut self) -> Result<Client> {
        if self.secret.is_none() {
            let secret = self.add_key("tests")?;
            let client = self.client()?.with_key(Some(&secret));
            // The gateway reads its keys again when told; give it a moment, not for ever.
            tree::wait_for("the new key to be known", Duration::from_secs(5), || {
                client.get("/v1/models")?.ok().map(|_| ())
            })?;
            self.secret = Some(secret);
        }
        self.client()
            .map(|client| client.with_key(self.secret.as_deref()))
    }

    /// A client without a key.
    pub fn client(&self) -> Result<Client> {
        Client::new(&self.url(), &self.ca(), None)
    }

    /// Where clients ask.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The certificate authority's certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.path("run/ca.crt")
    }

    /// The control socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.path("run/control.sock")
    }

    /// Processes of this appliance.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        process::running_from(&self.path("bin"))
    }

    /// Children of the supervisor that nobody has collected.
    pub fn zombies(&self) -> Result<Vec<Process>> {
        Ok(process::descendants(self.pid()?)
            .into_iter()
            .filter(|p| p.state == 'Z')
            .collect())
    }

    /// Asks the supervisor to stop (SIGTERM) and waits for its end.
    pub fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        process::signal(self.pid()?, Signal::SIGTERM)?;
        self.wait_end(deadline)
    }

    /// Waits until the supervisor has ended.
    pub fn wait_end(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + deadline;
        let child = self.supervisor.as_mut().context("the supervisor does not run")?;
        loop {
            if let Some(status) = child.try_wait()? {
                self.supervisor = None;
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("the supervisor still runs after {deadline:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the supervisor with SIGKILL, as a power cut would, and waits until what it started is gone too.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.supervisor.take() {
            child.kill()?;
            child.wait()?;
        }
        tree::wait_for("the orphans to end", Duration::from_secs(5), || {
            let left = self.processes();
            ensure!(left.is_empty(), "still there: {left:?}");
            Ok(())
        })
    }

    /// What the supervisor wrote.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("supervisor.log")).unwrap_or_default()
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if let Some(mut child) = self.supervisor.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for left in self.processes() {
            let _ = process::signal(left.pid, Signal::SIGKILL);
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the supervisor's last lines ---");
            eprintln!("{}", lines[lines.len().saturating_sub(80)..].join("\n"));
            if let Some(folder) = self.folder.take() {
                eprintln!("--- the appliance is kept in {} ---", folder.keep().display());
            }
        }
    }
}
