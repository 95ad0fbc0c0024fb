//! A supervisor that speaks the real wire and answers what a test tells it, and a way to run `sarai`.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod qr;
pub mod terminal;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use sarai_wire::control::{
    CoresStatus, CpuStatus, MemoryStatus, ModelStatus, PromptsStatus, Reply, Request, ServiceState,
    ServiceStatus, Status,
};

/// A supervisor in a folder of its own.
pub struct Supervisor {
    folder: tempfile::TempDir,
    /// Every request it got.
    pub seen: Arc<Mutex<Vec<Request>>>,
}

impl Supervisor {
    /// Answers each request with what `answer` gives, then closes.
    pub fn start(answer: impl Fn(&Request) -> Vec<Reply> + Send + Sync + 'static) -> Self {
        Self::raw(move |request| {
            let line = |reply| serde_json::to_string(&reply).unwrap() + "\n";
            answer(request)
                .into_iter()
                .map(line)
                .collect::<String>()
                .into_bytes()
        })
    }

    /// Answers each request with this and these files.
    pub fn with_files(reply: &Reply, files: Vec<std::fs::File>) -> Self {
        let line = serde_json::to_string(reply).unwrap() + "\n";
        Self::serving(files, move |_| line.clone().into_bytes())
    }

    /// Answers each request with these very bytes, then closes.
    pub fn raw(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::serving(Vec::new(), answer)
    }

    fn serving(
        files: Vec<std::fs::File>,
        answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let files = Arc::new(files);
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join(".sarai/run");
        std::fs::create_dir_all(&run).unwrap();
        let listener = UnixListener::bind(run.join("control.sock")).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (seen.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, answer, files) = (log.clone(), answer.clone(), files.clone());
                std::thread::spawn(move || serve(&stream.unwrap(), &log, &files, &*answer));
            }
        });
        Self { folder, seen }
    }

    /// Folder that holds the native run.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(".sarai/run/control.sock")
    }

    /// Runs `sarai` with these arguments against this supervisor.
    pub fn sarai(&self, args: &[&str]) -> Output {
        let socket = self.socket();
        run(command(args).env("SARAI_SOCKET", socket), "")
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(
    stream: &UnixStream,
    log: &Mutex<Vec<Request>>,
    files: &[std::fs::File],
    answer: &dyn Fn(&Request) -> Vec<u8>,
) {
    let mut line = String::new();
    // A client that only looks whether somebody listens sends nothing.
    if BufReader::new(stream).read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let request: Request = serde_json::from_str(&line).unwrap();
    log.lock().unwrap().push(request.clone());
    let bytes = answer(&request);
    let raw: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let sent = match raw.as_slice() {
        [] => 0,
        raw => sarai_wire::descriptors::send(stream.as_fd(), &bytes, raw).unwrap(),
    };
    let _ = (&mut &*stream).write_all(&bytes[sent..]);
}

/// `sarai` with a bare environment, outside every source tree.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sarai"));
    command.args(args).current_dir("/");
    for name in ["SARAI_SOCKET", "SARAI_URL", "SARAI_CA", "SARAI_KEY"] {
        command.env_remove(name);
    }
    command
}

/// Runs to the end with `input` as standard input.
pub fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A healthy machine.
pub fn status() -> Status {
    Status {
        version: "9.8.7".into(),
        mode: "native".into(),
        profile: "tiny".into(),
        ready: true,
        uptime_s: 61,
        boot: Default::default(),
        hostname: "box".into(),
        announced: None,
        urls: vec!["https://127.0.0.1:1".into()],
        ca_fingerprint: Some("AA:BB".into()),
        ssh_fingerprint: None,
        ca_path: None,
        cpu: CpuStatus {
            count: 4,
            features: vec!["avx2".into()],
            floor_met: true,
        },
        memory: MemoryStatus {
            total: 1 << 34,
            available: 1 << 33,
            current: None,
            budget: None,
            oom_kills: None,
        },
        cores: CoresStatus::default(),
        groups: vec![],
        ladder: Default::default(),
        models: vec![ModelStatus {
            role: "primary".into(),
            file: "m.gguf".into(),
            model: Some("m".into()),
            version: Some("1".into()),
            digest: Some("0".repeat(64)),
            signer: Some("F".repeat(40)),
            verified_by: Some("fs-verity".into()),
            refused: None,
            adapter: None,
        }],
        prompts: PromptsStatus::default(),
        training: None,
        services: vec![ServiceStatus {
            name: "engine-primary".into(),
            state: ServiceState::Ready,
            pid: Some(4242),
            restarts: 1,
            last_exit: Some("signal SIGSEGV".into()),
            cpus: vec![2, 3],
            rss: Some(200 << 20),
            last_pong_ms: Some(5),
            user: "engine".into(),
            sandbox: Vec::new(),
        }],
        problems: vec![],
    }
}
