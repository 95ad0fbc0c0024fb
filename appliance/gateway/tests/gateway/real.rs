//! The gateway in front of real engines on made-up models: what the memory ladder does to requests, end to end.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use sarai_wire::adapter::Apply;
use sarai_wire::birth::{self, EngineParams, EngineStart, FromEngine, ToEngine};
use sarai_wire::engine::{Event, Message, Request, Role, Score};
use sarai_wire::frame;
use sarai_wire::memory::{Ease, Rung, RungNotice};
use sarai_wire::night::{MeasureOrder, Measured};
use serde_json::{Value, json};

use crate::engine::answers;
use crate::http::omni;
use crate::measure::{examples, measure};
use crate::world::{World, born, world_of};

#[path = "../../../../tests/src/gguf.rs"]
#[allow(dead_code, reason = "each test crate uses its own part")]
mod gguf;

/// From the request to its first token while the primary is stopped.
const FIRST_TOKEN: Duration = Duration::from_secs(2);

/// A pair of digits of the digest that the models are said to have.
const BASE: &str = "ab";

/// An engine's process; killed when dropped.
struct Engine {
    child: Child,
    birth: OwnedFd,
    socket: PathBuf,
    _listener: UnixListener,
}

impl Engine {
    fn start(folder: &Path, model: &str, layers: u32, context: u32) -> Self {
        let mut file: File = tempfile::tempfile().unwrap();
        let tiny = gguf::Tiny {
            layers,
            ..gguf::Tiny::default()
        };
        file.write_all(&tiny.bytes()).unwrap();
        Self::of(folder, model, &file, context)
    }

    fn of(folder: &Path, model: &str, file: &File, context: u32) -> Self {
        // Beside the gateway's own program, where `--workspace` and `-p sarai-engine` put it.
        let program = Path::new(env!("CARGO_BIN_EXE_sarai-gateway")).with_file_name("sarai-engine");
        assert!(
            program.exists(),
            "build it first: cargo build --release --locked -p sarai-engine"
        );
        let socket = folder.join(format!("real-{model}.sock"));
        let listener = UnixListener::bind(&socket).unwrap();
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).env_remove("LD_LIBRARY_PATH");
        let (child, birth) = born(&mut command, &listener).unwrap();
        let start = EngineStart {
            model: model.into(),
            digest: BASE.repeat(32),
            params: EngineParams {
                context,
                slots: 2,
                ..EngineParams::default()
            },
            adapter: None,
            batch_costs: None,
        };
        let files: [RawFd; 1] = [file.as_raw_fd()];
        birth::send(birth.as_fd(), &ToEngine::Start(start), &files).unwrap();
        let engine = Self {
            child,
            birth,
            socket,
            _listener: listener,
        };
        assert!(matches!(engine.hear(), FromEngine::Ready { .. }));
        engine
    }

    /// Negative log-likelihood and number of a text's tokens, by the engine itself.
    fn score(&self, question: &str, text: &str) -> (f64, u64) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let score = Score {
            id: "direct".into(),
            client: "test".into(),
            messages: vec![Message {
                role: Role::User,
                content: question.into(),
            }],
            text: text.into(),
            apply: Apply::InUse,
        };
        frame::write(&mut stream, &Request::Score(score)).unwrap();
        loop {
            match frame::read::<Event>(&mut stream).unwrap() {
                Event::Started { .. } => {}
                Event::Scored(scored) => {
                    let nll = scored.tokens.iter().map(|token| -f64::from(token.logprob)).sum();
                    return (nll, scored.tokens.len() as u64);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// What it says next, but that there is work.
    fn hear(&self) -> FromEngine {
        loop {
            match birth::recv(self.birth.as_fd()).unwrap().0 {
                FromEngine::Busy => {}
                other => return other,
            }
        }
    }

    fn tell(&self, message: &ToEngine) {
        birth::send(self.birth.as_fd(), message, &[]).unwrap();
    }

    fn resize(&self, tokens: u32) {
        let ease = Ease::Context { tokens };
        self.tell(&ToEngine::Ease { seq: 1, ease });
        match self.hear() {
            FromEngine::Eased(eased) => assert_eq!((eased.refused, eased.context), (None, tokens)),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Real {
    world: World,
    primary: Engine,
    _fallback: Engine,
    _folder: tempfile::TempDir,
}

fn real(primary: u32, fallback: u32) -> Real {
    let folder = tempfile::tempdir().unwrap();
    let big = Engine::start(folder.path(), "big", 16, primary);
    let small = Engine::start(folder.path(), "small", 2, fallback);
    let unused = answers(&[("never", 0.9)]);
    let world = world_of(unused, None, &[], |start| {
        start.primary = big.socket.clone();
        start.fallback = Some(small.socket.clone());
    });
    Real {
        world,
        primary: big,
        _fallback: small,
        _folder: folder,
    }
}

fn notice(rung: Rung, context: Option<u32>) -> RungNotice {
    RungNotice {
        rung,
        reason: "the budget is nearly full".into(),
        context,
        retry_after_s: None,
    }
}

fn brief(more: &Value) -> Value {
    let mut request = json!({"max_tokens": 8, "reasoning_effort": "none", "temperature": 0});
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

/// So many rounds of about a hundred tokens, and a question.
fn conversation(rounds: usize) -> Value {
    let mut messages = Vec::new();
    for round in 0..rounds {
        messages.push(json!({"role": "user", "content": format!("{round} {}", "q".repeat(40))}));
        messages.push(json!({"role": "assistant", "content": format!("{round} {}", "a".repeat(40))}));
    }
    messages.push(json!({"role": "user", "content": "and now?"}));
    messages.into()
}

/// The time to the first token of an answer, and its `omni_loop`.
fn first_token(world: &World) -> (Duration, Value) {
    let begin = Instant::now();
    let mut stream = world.client.stream(&brief(&json!({})));
    let mut events = vec![stream.json()];
    while events.last().unwrap()["choices"][0]["delta"]["content"]
        .as_str()
        .is_none_or(str::is_empty)
    {
        events.push(stream.json());
    }
    let took = begin.elapsed();
    let (rest, done) = stream.all();
    assert!(done);
    (took, omni(&rest))
}

#[test]
fn the_fallback_says_its_first_token_within_two_seconds_of_the_primarys_end() {
    let Real { world, primary, .. } = &real(2048, 2048);
    let (_, before) = first_token(world);
    assert_eq!((&before["model"], before.get("memory")), (&json!("big"), None));
    // As the supervisor does it: the gateway is told, and the engine stopped.
    world.gateway.rung(notice(Rung::Fallback, None));
    primary.tell(&ToEngine::Stop);
    for _ in 0..3 {
        let (took, after) = first_token(world);
        assert!(took < FIRST_TOKEN, "{took:?}");
        assert_eq!(
            (&after["model"], &after["fallback_reason"]),
            (&json!("small"), &json!("memory"))
        );
        assert_eq!(after["memory"]["rung"], "fallback");
    }
}

#[test]
fn an_answer_that_the_primary_was_writing_when_it_was_stopped_comes_from_the_fallback() {
    let Real { world, primary, .. } = &real(8192, 2048);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let request = json!({"reasoning_effort": "none", "max_tokens": 200_000});
            (world.client.chat(&request), Instant::now())
        });
        while world.client.get("/readyz").json()["engines"]["primary"]["running"] != 1 {
            std::thread::sleep(Duration::from_millis(5));
        }
        world.gateway.rung(notice(Rung::Fallback, None));
        // One that does not end in time, or will not, is killed.
        // SAFETY: the process is this test's own child and was not waited for.
        unsafe { libc::kill(i32::try_from(primary.child.id()).unwrap(), libc::SIGKILL) };
        let (reply, _) = asking.join().unwrap();
        let body = reply.json();
        assert_eq!(body["omni_loop"]["model"], "small", "{body}");
        assert_eq!(body["omni_loop"]["memory"]["rung"], "fallback");
    });
}

#[test]
fn a_shrunk_context_is_told_counted_and_cut_to_where_clients_allow_it() {
    let Real { world, primary, .. } = &real(2048, 2048);
    let long = |truncation: &str| brief(&json!({"messages": conversation(8), "truncation": truncation}));
    let whole = world.client.chat(&long("auto")).json();
    assert_eq!(
        (
            whole["omni_loop"].get("truncated"),
            whole["omni_loop"].get("memory")
        ),
        (None, None)
    );
    let tokens = whole["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(tokens > 600, "{tokens}");
    primary.resize(512);
    world.gateway.rung(notice(Rung::QuarterContext, Some(512)));
    let reply = world.client.chat(&long("disabled"));
    assert_eq!(
        (reply.status, reply.error_code()),
        (400, "context_length_exceeded".into())
    );
    let text = reply.text();
    for part in [
        format!("prompt has {tokens} tokens"),
        "context holds 512".into(),
        "2048 are configured".into(),
    ] {
        assert!(text.contains(&part), "{part} in {text}");
    }
    let cut = world.client.chat(&long("auto")).json();
    let truncated = &cut["omni_loop"]["truncated"];
    assert_eq!(truncated["context"], 512, "{cut}");
    // By the engine's own count, with room for the answer.
    assert_eq!(truncated["prompt_tokens"], cut["usage"]["prompt_tokens"]);
    assert!(truncated["prompt_tokens"].as_u64().unwrap() + 8 <= 512);
    let dropped = truncated["turns_dropped"].as_u64().unwrap();
    assert!(dropped > 0 && dropped % 2 == 0 && dropped < 16, "{cut}");
    assert_eq!(
        cut["omni_loop"]["memory"],
        json!({
            "rung": "quarter_context", "reason": "the budget is nearly full", "context": 512
        })
    );
    let engine = &world.client.get("/readyz").json()["engines"]["primary"];
    assert_eq!(
        (&engine["context"], &engine["context_configured"]),
        (&json!(512), &json!(2048))
    );
    primary.resize(2048);
    world.gateway.rung(RungNotice::default());
    let again = world.client.chat(&long("auto")).json();
    assert_eq!(
        again["choices"][0]["message"]["content"],
        whole["choices"][0]["message"]["content"]
    );
    assert_eq!(again["omni_loop"].get("truncated"), None);
}

#[test]
fn the_fallbacks_context_counts_where_it_serves() {
    let Real { world, .. } = &real(2048, 256);
    world.gateway.rung(notice(Rung::Fallback, None));
    let request = |truncation: &str| brief(&json!({"messages": conversation(6), "truncation": truncation}));
    let reply = world.client.chat(&request("disabled"));
    assert_eq!(
        (reply.status, reply.error_code()),
        (400, "context_length_exceeded".into())
    );
    assert!(reply.text().contains("context holds 256"), "{}", reply.text());
    let body = world.client.chat(&request("auto")).json();
    assert_eq!(body["omni_loop"]["truncated"]["context"], 256, "{body}");
    assert_eq!(body["omni_loop"]["model"], "small");
}

/// What is measured, so many times, is what the engine says when it is asked directly.
/// `exact` is the part by which they may differ: how a prompt falls into batches changes the last digits.
fn measured(engine: &Engine, times: usize, exact: f64) -> Vec<Measured> {
    let unused = answers(&[("never", 0.9)]);
    let world = world_of(unused, None, &[], |start| start.primary = engine.socket.clone());
    let targets = [
        "Paris is the capital.",
        "Three cats, and a dog.",
        "Mañana, a las ocho.",
    ];
    let file = examples(&targets);
    let order = MeasureOrder {
        base: BASE.repeat(32),
        adapter: None,
        within_s: 600,
    };
    let all: Vec<Measured> = (0..times)
        .map(|_| measure(&world, order.clone(), &file).unwrap())
        .collect();
    let mut direct = (0.0, 0);
    for (n, target) in targets.iter().enumerate() {
        let (nll, tokens) = engine.score(&format!("question {n}"), target);
        direct = (direct.0 + nll, direct.1 + tokens);
    }
    for measured in &all {
        assert_eq!((measured.held_out.tokens, measured.held_out.texts), (direct.1, 3));
        let off = (measured.held_out.nll - direct.0).abs();
        assert!(off <= exact * direct.0, "{measured:?} {direct:?}");
        assert_eq!((measured.general.texts, measured.asked), (20, 32));
        assert!(measured.general.nll.is_finite() && measured.general.nll > 0.0);
    }
    all
}

#[test]
fn a_measurement_is_what_the_engine_says_and_twice_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path(), "big", 2, 2048);
    let all = measured(&engine, 2, 1e-4);
    let (first, second) = (&all[0], &all[1]);
    assert_eq!(first.general.tokens, second.general.tokens);
    assert!((first.general.nll - second.general.nll).abs() <= 1e-4 * first.general.nll);
    assert_eq!(first.right, second.right);
}

#[test]
#[ignore = "needs SARAI_TEST_MODEL"]
fn a_measurement_of_the_real_model_is_what_the_engine_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::open(std::env::var_os("SARAI_TEST_MODEL").unwrap()).unwrap();
    let engine = Engine::of(folder.path(), "real", &file, 2048);
    // It is a small model; but one that could answer nothing would measure nothing.
    assert!(measured(&engine, 1, 1e-2)[0].right >= 8);
}
