//! The image in QEMU: serial console, QMP, a forwarded port.
//!
//! Always emulated (TCG): that a `/dev/kvm` node exists does not mean that KVM works, and a test must mean the
//! same everywhere. An emulated machine is some thirty times slower than the real one; deadlines say so.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// UEFI for virtual machines (package ovmf).
const FIRMWARE: &str = "/usr/share/ovmf/OVMF.fd";
/// Letters at the end of a line that are looked for on the console.
const ECHOED: usize = 24;

/// What stands before and behind the code on a console that is locked.
const LOCKED: [&str; 2] = ["To open it, type ", " and press Enter."];

/// What to boot.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Kernel image.
    pub kernel: PathBuf,
    /// Initial RAM file system: the appliance's root.
    pub initramfs: PathBuf,
    /// Disk, raw; `None` boots without one.
    pub disk: Option<PathBuf>,
    /// What the disk hangs on.
    pub bus: Bus,
    /// The network card.
    pub card: Card,
    /// Started from the disk by UEFI firmware; kernel and initramfs are then those on the disk.
    pub firmware: bool,
    /// Kernel command line after the console's settings.
    pub append: String,
    /// Memory, MiB.
    pub memory: u32,
    /// CPUs.
    pub cpus: u32,
}

/// What a disk hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bus {
    /// `vda`.
    #[default]
    Virtio,
    /// `sda`.
    Ahci,
    /// `nvme0n1`.
    Nvme,
    /// `sda`, made to be pulled out.
    Usb,
}

impl Bus {
    fn devices(self) -> &'static [&'static str] {
        match self {
            Self::Virtio => &["virtio-blk-pci,drive=data"],
            // The machine's chipset has the controller.
            Self::Ahci => &["ide-hd,drive=data,bus=ide.0"],
            Self::Nvme => &["nvme,drive=data,serial=sarai"],
            Self::Usb => &["qemu-xhci", "usb-storage,drive=data,removable=on"],
        }
    }
}

/// A network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Card {
    /// The emulator's own.
    #[default]
    Virtio,
    /// Intel's.
    E1000e,
}

/// A machine that runs. It is killed on drop, as by a power cut.
#[derive(Debug)]
pub struct Vm {
    qemu: Child,
    keyboard: ChildStdin,
    console: Arc<Console>,
    qmp: PathBuf,
    /// Port of this host that leads to the guest's 443.
    pub port: u16,
    /// Port of this host that leads to the guest's 22.
    pub ssh: u16,
    folder: tempfile::TempDir,
    on: Instant,
}

#[derive(Debug, Default)]
struct Console {
    state: Mutex<(Vec<u8>, bool)>,
    changed: Condvar,
}

impl Vm {
    /// Powers the machine on.
    pub fn boot(machine: &Machine) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sarai-vm-").tempdir()?;
        let qmp = folder.path().join("qmp");
        let (port, ssh) = (free_port()?, free_port()?);
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"])
            .args([
                "-smp",
                &machine.cpus.to_string(),
                "-m",
                &format!("{}M", machine.memory),
            ])
            .args(["-serial", "stdio"])
            .args([
                "-serial",
                &format!("unix:{},server=on,wait=off", folder.path().join("root").display()),
            ])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", qmp.display())])
            .args(["-device", "virtio-rng-pci"])
            .args(["-device", "i6300esb", "-action", "watchdog=reset"])
            .args([
                "-netdev",
                &format!("user,id=lan,hostfwd=tcp:127.0.0.1:{port}-:443,hostfwd=tcp:127.0.0.1:{ssh}-:22"),
            ])
            .args([
                "-device",
                match machine.card {
                    Card::Virtio => "virtio-net-pci,netdev=lan",
                    Card::E1000e => "e1000e,netdev=lan",
                },
            ]);
        if machine.firmware {
            command.args(["-bios", FIRMWARE]);
        } else {
            command
                .arg("-kernel")
                .arg(&machine.kernel)
                .arg("-initrd")
                .arg(&machine.initramfs)
                .args(["-append", &format!("console=ttyS0,115200 {}", machine.append)]);
        }
        if let Some(disk) = &machine.disk {
            // `directsync`: what the guest flushed is on the file, what it did not is what a power cut loses.
            command
                .args([
                    "-drive",
                    &format!(
                        "file={},format=raw,if=none,id=data,cache=directsync",
                        disk.display()
                    ),
                ])
                .args(
                    machine
                        .bus
                        .devices()
                        .iter()
                        .flat_map(|device| ["-device", device]),
                );
        }
        let mut qemu = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("start qemu-system-x86_64 (package qemu-system-x86)")?;
        let keyboard = qemu.stdin.take().context("QEMU's standard input")?;
        let mut output = qemu.stdout.take().context("QEMU's standard output")?;
        let console = Arc::new(Console::default());
        let writer = console.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let got = output.read(&mut buffer).unwrap_or(0);
                let mut state = writer.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.0.extend_from_slice(&buffer[..got]);
                state.1 = got == 0;
                writer.changed.notify_all();
                if got == 0 {
                    return;
                }
            }
        });
        Ok(Self {
            qemu,
            keyboard,
            console,
            qmp,
            port,
            ssh,
            folder,
            on: Instant::now(),
        })
    }

    /// Everything the serial console showed so far.
    #[must_use]
    pub fn screen(&self) -> String {
        let state = self.console.state.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&state.0).into_owned()
    }

    /// Waits until the console shows `text` after the position `from` (bytes of [`Vm::screen`]); gives the
    /// position behind it. The error shows the end of the console.
    pub fn wait_for_after(&self, from: usize, text: &str, deadline: Duration) -> Result<usize> {
        let end = Instant::now() + deadline;
        let mut state = self.console.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let screen = &state.0;
            let found = screen.get(from..).and_then(|rest| {
                rest.windows(text.len())
                    .position(|window| window == text.as_bytes())
            });
            if let Some(found) = found {
                return Ok(from + found + text.len());
            }
            let left = end.saturating_duration_since(Instant::now());
            if state.1 || left.is_zero() {
                let why = if state.1 {
                    "the machine ended"
                } else {
                    "time is up"
                };
                let tail = String::from_utf8_lossy(&screen[screen.len().saturating_sub(4000)..]).into_owned();
                bail!("the console ends with:\n{tail}\n{why} before it showed {text:?} ({deadline:?})");
            }
            state = self
                .console
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until the console has shown `text` at any time.
    pub fn wait_for(&self, text: &str, deadline: Duration) -> Result<usize> {
        self.wait_for_after(0, text, deadline)
    }

    /// Waits until the console shows a code behind the position `from`; gives it, and the position behind it.
    pub fn code_after(&self, from: usize, deadline: Duration) -> Result<(String, usize)> {
        let begin = self.wait_for_after(from, LOCKED[0], deadline)?;
        let end = self.wait_for_after(begin, LOCKED[1], deadline)?;
        let state = self.console.state.lock().unwrap_or_else(PoisonError::into_inner);
        let code = &state.0[begin..end - LOCKED[1].len()];
        ensure!(
            code.len() == 6 && code.iter().all(u8::is_ascii_digit),
            "{:?} is no code",
            String::from_utf8_lossy(code)
        );
        Ok((String::from_utf8_lossy(code).into_owned(), end))
    }

    /// Types the code that the console shows behind the position `from`, as who stands before it would; gives the
    /// position behind the prompt that opens.
    pub fn open_after(&mut self, from: usize, prompt: &str, deadline: Duration) -> Result<usize> {
        let (code, at) = self.code_after(from, deadline)?;
        self.type_line(&code)?;
        self.wait_for_after(at, prompt, deadline)
    }

    /// Opens the console if it has locked itself since `prompt` was there last.
    pub fn open_again(&mut self, prompt: &str, deadline: Duration) -> Result<()> {
        let state = self.console.state.lock().unwrap_or_else(PoisonError::into_inner);
        let last = |text: &str| {
            let mut windows = state.0.windows(text.len());
            windows.rposition(|window| window == text.as_bytes())
        };
        let (locked, open) = (last(LOCKED[0]), last(prompt));
        drop(state);
        match locked {
            Some(at) if locked > open => self.open_after(at, prompt, deadline).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Types a line at the console and gives what the console shows up to the next prompt.
    pub fn command(&mut self, line: &str, prompt: &str, deadline: Duration) -> Result<String> {
        let from = self
            .console
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .len();
        self.type_line(line)?;
        // The terminal echoes the line first; the answer lies between that and the prompt.
        // A line longer than the terminal is wide is drawn anew with each letter: its end stands there once.
        let tail: String = line
            .chars()
            .skip(line.chars().count().saturating_sub(ECHOED))
            .collect();
        let echo = self.wait_for_after(from, &tail, deadline)?;
        let end = self.wait_for_after(echo, prompt, deadline)?;
        let state = self.console.state.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(String::from_utf8_lossy(&state.0[echo..end - prompt.len()]).into_owned())
    }

    /// Types a line at the console.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        self.keyboard
            .write_all(format!("{line}\n").as_bytes())
            .context("type at the console")?;
        self.keyboard.flush().context("type at the console")
    }

    /// Has the kernel inside do what a key of SysRq stands for: a break on the serial line, then the key. The machine's
    /// command line must have switched that on.
    pub fn sysrq(&mut self, key: char) -> Result<()> {
        self.qmp("chardev-send-break", &json!({"id": "serial0"}))?;
        write!(self.keyboard, "{key}").context("type at the console")?;
        self.keyboard.flush().context("type at the console")
    }

    /// Whether the kernel inside still takes interrupts: `h` has it list what SysRq offers, whatever processes do.
    pub fn kernel_answers(&mut self, deadline: Duration) -> Result<bool> {
        let from = self.screen().len();
        self.sysrq('h')?;
        Ok(self.wait_for_after(from, "sysrq: HELP", deadline).is_ok())
    }

    /// One QMP command, for example `system_powerdown`.
    pub fn qmp(&self, command: &str, arguments: &Value) -> Result<Value> {
        let stream = UnixStream::connect(&self.qmp).context("reach QEMU's monitor")?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let say = |message: Value| -> Result<()> { Ok(writeln!(&stream, "{message}")?) };
        let mut reply = || -> Result<Value> {
            for line in lines.by_ref() {
                let value: Value = serde_json::from_str(&line?)?;
                if value.get("event").is_none() {
                    return Ok(value);
                }
            }
            bail!("QEMU closed its monitor");
        };
        reply()?; // greeting
        say(json!({"execute": "qmp_capabilities"}))?;
        reply()?;
        let mut request = json!({"execute": command});
        if arguments.is_object() {
            request["arguments"] = arguments.clone();
        }
        say(request)?;
        let answer = reply()?;
        ensure!(answer.get("error").is_none(), "{command}: {answer}");
        Ok(answer["return"].clone())
    }

    /// A root shell on the second serial port, where [`crate::image::Image::machine_with_root_shell`] put one.
    /// Waits until it answers.
    pub fn root_shell(&self, deadline: Duration) -> Result<RootShell> {
        let stream = UnixStream::connect(self.folder.path().join("root")).context("reach the second port")?;
        let mut shell = RootShell {
            lines: BufReader::new(stream.try_clone()?),
            stream,
        };
        let end = Instant::now() + deadline;
        // What is typed before the shell reads is lost: ask until it answers.
        while shell.run("true", Duration::from_secs(2)).is_err() {
            ensure!(
                Instant::now() < end,
                "no root shell after {deadline:?}; the console ends with:\n{}",
                self.tail()
            );
        }
        // Late answers to the impatient questions are no answers to the next one.
        std::thread::sleep(Duration::from_secs(1));
        shell.forget()?;
        Ok(shell)
    }

    /// What QEMU tells from now on. Its monitor talks to one at a time: no other command until this is dropped.
    pub fn events(&self) -> Result<Events> {
        let stream = UnixStream::connect(&self.qmp).context("reach QEMU's monitor")?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut lines = BufReader::new(stream.try_clone()?);
        writeln!(&stream, "{}", json!({"execute": "qmp_capabilities"}))?;
        let mut line = String::new();
        // The greeting, then the answer; events come after that.
        while !line.contains("\"return\"") {
            line.clear();
            ensure!(lines.read_line(&mut line)? > 0, "QEMU closed its monitor");
        }
        Ok(Events { lines, stream })
    }

    /// Presses the power button.
    pub fn power_button(&self) -> Result<()> {
        self.qmp("system_powerdown", &Value::Null).map(|_| ())
    }

    /// Waits until the machine has powered itself off.
    pub fn wait_for_power_off(&mut self, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.qemu.try_wait()? {
                ensure!(status.success(), "QEMU ended with {status}:\n{}", self.tail());
                return Ok(());
            }
            if Instant::now() >= end {
                bail!(
                    "the machine is still on after {deadline:?}; the console ends with:\n{}",
                    self.tail()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Time since power-on.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.on.elapsed()
    }

    /// How the emulator ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.qemu.try_wait().context("look after QEMU")
    }

    /// Cuts the power now.
    pub fn cut_power(mut self) -> Result<()> {
        self.qemu.kill()?;
        self.qemu.wait()?;
        Ok(())
    }

    /// The last lines of the console.
    #[must_use]
    pub fn tail(&self) -> String {
        let screen = self.screen();
        let lines: Vec<&str> = screen.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the console's last lines ---\n{}\n---", self.tail());
        }
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// What QEMU tells.
#[derive(Debug)]
pub struct Events {
    lines: BufReader<UnixStream>,
    stream: UnixStream,
}

impl Events {
    /// Waits for an event, for example `WATCHDOG`, and gives its data.
    pub fn wait_for(mut self, name: &str, deadline: Duration) -> Result<Value> {
        let end = Instant::now() + deadline;
        let mut line = String::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "no {name} within {deadline:?}");
            self.stream.set_read_timeout(Some(left))?;
            line.clear();
            let got = self.lines.read_line(&mut line);
            ensure!(
                got.with_context(|| format!("wait for {name}"))? > 0,
                "QEMU ended without {name}"
            );
            let value: Value = serde_json::from_str(&line)?;
            if value["event"] == name {
                return Ok(value["data"].clone());
            }
        }
    }
}

/// A shell of the guest's root.
#[derive(Debug)]
pub struct RootShell {
    lines: BufReader<UnixStream>,
    stream: UnixStream,
}

impl RootShell {
    /// Runs a line, which must succeed, and gives what it printed.
    pub fn run(&mut self, line: &str, deadline: Duration) -> Result<String> {
        self.stream.set_read_timeout(Some(deadline))?;
        writeln!(self.stream, "{line}")?;
        let mut output = String::new();
        loop {
            let mut got = Vec::new();
            if self
                .lines
                .read_until(b'\n', &mut got)
                .with_context(|| format!("run {line:?}"))?
                == 0
            {
                bail!("the machine ended while it ran {line:?}");
            }
            let text = String::from_utf8_lossy(&got);
            let text = text.trim_end_matches(['\r', '\n']);
            // What the line printed need not end with a newline.
            if let Some((last, status)) = text.strip_suffix(">>").and_then(|rest| rest.rsplit_once("<<")) {
                output.push_str(last);
                ensure!(status == "0", "{line:?} ended with {status}: {output}");
                return Ok(output);
            }
            output.push_str(text);
            output.push('\n');
        }
    }

    /// Sends a line whose end nobody will see.
    pub fn send(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.stream, "{line}")?)
    }

    fn forget(&mut self) -> Result<()> {
        self.stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut buffer = [0; 4096];
        while matches!(self.lines.read(&mut buffer), Ok(n) if n > 0) {}
        Ok(())
    }
}

/// A TCP port of this host that nobody uses now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Copies a disk image, holes kept.
pub fn copy_disk(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp")
        .arg("--sparse=always")
        .arg(from)
        .arg(to)
        .status()?;
    ensure!(status.success(), "cp {} {} failed", from.display(), to.display());
    Ok(())
}
