//! What the tests of the image say in the same words.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sarai_tests::client::Client;
use sarai_tests::model::{self, Artifact};
use sarai_tests::vm::{Machine, Vm};
use sarai_wire::control::{ServiceStatus, Status};
use serde_json::{Value, json};

/// What the admin's prompt looks like.
pub const PROMPT: &str = "sarai> ";
/// From power-on to the prompt. It takes some 20 s on an idle machine.
pub const BOOT: Duration = Duration::from_secs(600);
/// A console that has not changed for so long is asked why.
const STILL: Duration = Duration::from_secs(120);
/// A kernel that is alive says so within that.
const ANSWER: Duration = Duration::from_secs(30);
/// Before that its watchdog does not restart a machine on its way up.
const WATCHDOG: Duration = Duration::from_secs(180);
/// From the order to the end.
pub const OFF: Duration = Duration::from_secs(120);
/// One command at the prompt.
pub const COMMAND: Duration = Duration::from_secs(60);
/// One request.
pub const REQUEST: Duration = Duration::from_secs(600);

/// Time limits of a machine that is thirty times slower than a real one.
pub const SETTINGS: &str = "
[engine]
silence_s = 60
startup_s = 60
[gateway]
header_timeout_ms = 60000
primary_silence_ms = 120000
iteration_timeout_s = 600
deadline_s = 1200
";

/// The same for a model of which loading alone takes minutes.
pub fn patient() -> String {
    SETTINGS
        .replace("startup_s = 60", "startup_s = 900")
        .replace("silence_s = 60", "silence_s = 600")
        .replace("primary_silence_ms = 120000", "primary_silence_ms = 600000")
}

/// A tiny primary and a tiny fallback.
pub fn pair() -> Result<[Artifact; 2]> {
    Ok([model::tiny("primary")?, model::tiny("fallback")?])
}

/// A machine that has reached its prompt.
pub struct Booted {
    /// The machine.
    pub vm: Vm,
    /// What the console showed from the first line to the prompt.
    pub console: String,
}

/// Powers on, waits for the code, and opens the prompt with it. Gives where on the screen that ends.
///
/// A console that stays as it is for long is asked why. Where the kernel answers, processes wait for something, and
/// what they wait for is part of the error in the end. Where the fault is the emulator's, that is said, and the
/// machine is powered on anew, once.
fn to_the_prompt(machine: &Machine) -> Result<(Vm, usize)> {
    let mut vm = Vm::boot(machine)?;
    let (mut begun, mut again) = (Instant::now(), false);
    loop {
        let seen = vm.screen().len();
        let late = match vm.code_after(0, STILL) {
            Ok(_) => {
                let end = vm.open_after(0, PROMPT, BOOT)?;
                return Ok((vm, end));
            }
            Err(late) => late,
        };
        if vm.screen().len() > seen && begun.elapsed() < BOOT && vm.ended()?.is_none() {
            continue;
        }
        match silence(&mut vm)? {
            Silence::Emulator(fault) if !again => {
                eprintln!(
                    "{fault}; the machine is powered on anew; it ended with:\n{}",
                    vm.tail()
                );
                vm = Vm::boot(machine)?;
                (begun, again) = (Instant::now(), true);
            }
            Silence::Emulator(fault) | Silence::Ended(fault) => return Err(late.context(fault)),
            Silence::Waiting if begun.elapsed() < BOOT => {}
            Silence::Waiting => {
                // Blocked tasks, and what each CPU does.
                for key in ['w', 'l'] {
                    vm.sysrq(key)?;
                    std::thread::sleep(Duration::from_secs(5));
                }
                return Err(late.context(vm.tail()));
            }
        }
    }
}

/// Why nothing is heard of a machine.
enum Silence {
    /// Its kernel lives; processes wait.
    Waiting,
    /// It is off, and its kernel had said that it would be, or its watchdog had the time to.
    Ended(String),
    /// What the emulator did, which no machine of metal would.
    Emulator(String),
}

fn silence(vm: &mut Vm) -> Result<Silence> {
    // What QEMU ends with reaches its console a moment before it is gone.
    std::thread::sleep(Duration::from_secs(1));
    if let Some(status) = vm.ended()? {
        let fault = format!("QEMU ended with {status} after {:?}", vm.age());
        let screen = vm.screen();
        let announced = ["reboot: ", "Kernel panic"]
            .iter()
            .any(|said| screen.contains(said));
        return Ok(if !status.success() || !announced && vm.age() < WATCHDOG {
            Silence::Emulator(fault)
        } else {
            Silence::Ended(fault)
        });
    }
    let registers = json!({"command-line": "info registers -a"});
    Ok(match vm.kernel_answers(ANSWER) {
        Ok(true) => Silence::Waiting,
        Ok(false) => Silence::Emulator(match vm.qmp("human-monitor-command", &registers) {
            Ok(shown) => format!(
                "the emulated machine takes no interrupt: {}",
                shown.as_str().unwrap_or_default()
            ),
            Err(e) => format!("the emulated machine takes no interrupt and its monitor no order: {e:#}"),
        }),
        Err(e) => Silence::Emulator(format!("QEMU's monitor takes no order: {e:#}")),
    })
}

impl Booted {
    /// Powers on and opens the prompt.
    pub fn new(machine: &Machine) -> Result<Self> {
        let (vm, end) = to_the_prompt(machine)?;
        let console = vm.screen()[..end].to_owned();
        Ok(Self { vm, console })
    }

    /// Runs a command at the prompt, which is opened again if it was left alone for long.
    pub fn sarai(&mut self, line: &str) -> Result<String> {
        self.vm.open_again(PROMPT, COMMAND)?;
        self.vm.command(line, PROMPT, COMMAND)
    }

    /// The whole state.
    pub fn status(&mut self) -> Result<Status> {
        let text = self.sarai("status --json")?;
        let json = text
            .find('{')
            .zip(text.rfind('}'))
            .and_then(|(from, to)| text.get(from..=to));
        let json = json.with_context(|| format!("no JSON in {text:?}"))?;
        serde_json::from_str(json).with_context(|| format!("understand {json}"))
    }

    /// One service's state.
    pub fn service(&mut self, name: &str) -> Result<ServiceStatus> {
        let found = self.status()?.services.into_iter().find(|s| s.name == name);
        found.with_context(|| format!("there is no service {name}"))
    }

    /// Waits until the state satisfies `wanted`.
    pub fn wait_status(&mut self, what: &str, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        sarai_tests::tree::wait_for(what, BOOT, || {
            let status = self.status()?;
            ensure!(wanted(&status), "status is {status:#?}");
            Ok(status)
        })
    }

    /// The certificate authority's certificate, as an admin reads it off the console.
    pub fn ca(&mut self) -> Result<String> {
        let text = self.sarai("ca")?.replace('\r', "");
        let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
        let certificate = text
            .find(begin)
            .zip(text.find(end))
            .map(|(from, to)| &text[from..to + end.len()]);
        certificate
            .map(|c| format!("{c}\n"))
            .with_context(|| format!("no certificate in {text:?}"))
    }

    /// A client with a key made at the prompt.
    pub fn client(&mut self, name: &str) -> Result<(Client, String, String)> {
        let ca = self.ca()?;
        let text = self.sarai(&format!("keys add {name} --json"))?;
        let json = text
            .find('{')
            .zip(text.rfind('}'))
            .and_then(|(from, to)| text.get(from..=to));
        let json: Value = serde_json::from_str(json.with_context(|| format!("no key in {text:?}"))?)?;
        let secret = json["secret"].as_str().context("no secret")?.to_owned();
        Ok((self.client_with(&ca, &secret)?, ca, secret))
    }

    /// A client with a certificate and a key of an earlier boot.
    pub fn client_with(&self, ca: &str, secret: &str) -> Result<Client> {
        let url = format!("https://127.0.0.1:{}", self.vm.port);
        Client::of_pem(&url, ca.as_bytes(), Some(secret))?.within(REQUEST)
    }
}

/// One short answer; gives the `omni_loop` object.
pub fn ask(client: &Client) -> Result<Value> {
    let answer = client
        .chat(&json!({
            "model": "sarai",
            "messages": [{"role": "user", "content": "hello there"}],
            "max_tokens": 3,
            "reasoning_effort": "none",
        }))?
        .ok()?;
    ensure!(
        answer["usage"]["completion_tokens"]
            .as_u64()
            .is_some_and(|n| n > 0),
        "no tokens: {answer}"
    );
    answer
        .get("omni_loop")
        .cloned()
        .with_context(|| format!("no omni_loop in {answer}"))
}

/// Asks until there is an answer: after a restart the first connections may wait or be refused.
pub fn ask_until_answered(client: &Client) -> Result<Value> {
    sarai_tests::tree::wait_for("an answer", BOOT, || ask(client))
}

/// Changes one bit of a model where it lies on the disk, below the file system, as somebody with the disk in hand
/// would.
pub fn change_on_disk(disk: &Path, model: &Artifact) -> Result<()> {
    const BLOCK: usize = 4096;
    let bytes = fs::read(&model.source)?;
    let middle = bytes.len() / 2 / BLOCK * BLOCK;
    let wanted = &bytes[middle..middle + BLOCK];
    let disk = File::options().read(true).write(true).open(disk)?;
    let mut changed = 0;
    let mut block = vec![0; BLOCK];
    for at in (0..disk.metadata()?.len()).step_by(BLOCK) {
        disk.read_exact_at(&mut block, at)?;
        if block == wanted {
            disk.write_all_at(&[block[100] ^ 1], at + 100)?;
            changed += 1;
        }
    }
    ensure!(changed > 0, "the model's blocks were not found on the disk");
    Ok(())
}

/// Asks until the primary answers: on a loaded machine the fallback may be ready before it.
pub fn ask_until_primary(client: &Client) -> Result<Value> {
    sarai_tests::tree::wait_for("an answer of the primary", BOOT, || {
        let omni = ask(client)?;
        ensure!(omni["fallback"] == false, "the fallback answered: {omni}");
        Ok(omni)
    })
}
