//! An engine on the real wire protocol that says what a test wants.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sarai_wire::adapter::{Adapter, Apply};
use sarai_wire::engine::{
    Alternative, Counted, Done, Encode, Encoded, ErrorKind, Event, FinishReason, Generate, Info, Request,
    Score, Token,
};
use sarai_wire::frame;

/// What a test lets an engine do with a request.
pub type Script = Arc<dyn Fn(&Generate, &mut Talk) + Send + Sync>;

/// One generation in the engine's eyes.
pub struct Talk {
    stream: UnixStream,
    said: u32,
    apply: Apply,
    shared: Arc<Shared>,
}

impl Talk {
    fn event(&mut self, event: &Event) -> bool {
        let sent = frame::write(&mut self.stream, event).is_ok();
        if !sent {
            self.shared.cancelled.fetch_add(1, Ordering::SeqCst);
        }
        sent
    }

    pub fn started(&mut self) -> bool {
        self.event(&Event::Started {
            prompt_tokens: 11,
            cached_tokens: 4,
            adapter: self.shared.applied(&self.apply),
        })
    }

    /// From now on its engine computes with this adapter.
    pub fn adapt(&self, adapter: &Adapter) {
        *self.shared.adapter.lock().unwrap() = Some(adapter.clone());
    }

    /// Says one token of this probability; false once the gateway is gone.
    pub fn token(&mut self, text: &str, probability: f32) -> bool {
        self.said += 1;
        let top = vec![Alternative {
            bytes: b"alt".to_vec(),
            logprob: f32::MIN,
        }];
        let bytes = text.as_bytes().to_vec();
        self.event(&Event::Token(Token {
            text: text.into(),
            bytes,
            logprob: probability.ln(),
            top,
        }))
    }

    /// Says each word.
    pub fn words(&mut self, text: &str, probability: f32) -> bool {
        text.split_inclusive(' ')
            .all(|word| self.token(word, probability))
    }

    pub fn done(&mut self, finish_reason: FinishReason) -> bool {
        let completion_tokens = self.said;
        self.event(&Event::Done(Done {
            finish_reason,
            prompt_tokens: 11,
            cached_tokens: 4,
            completion_tokens,
            queue_ms: 1.5,
            prefill_ms: 2.5,
            decode_ms: 3.5,
            drafted: 0,
            accepted: 0,
        }))
    }

    /// A whole answer.
    pub fn answer(&mut self, text: &str, probability: f32) {
        let _ = self.started() && self.words(text, probability) && self.done(FinishReason::Stop);
    }

    pub fn fail(&mut self, kind: ErrorKind, message: &str) {
        self.event(&Event::Error(sarai_wire::engine::Error {
            kind,
            message: message.into(),
        }));
    }

    /// Waits until the gateway closes the connection; whether it did within `time`.
    pub fn wait_for_close(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let closed = matches!(std::io::Read::read(&mut self.stream, &mut [0]), Ok(0));
        if closed {
            self.shared.cancelled.fetch_add(1, Ordering::SeqCst);
        }
        closed
    }
}

/// Tokens of a message when an engine counts.
pub const MESSAGE: u32 = 100;

#[derive(Default)]
struct Shared {
    /// Tokens of its context; 0: as many as were configured.
    context: AtomicU32,
    adapter: Mutex<Option<Adapter>>,
    frozen: AtomicBool,
    over: AtomicBool,
    cancelled: AtomicUsize,
    encoded: AtomicUsize,
    holding: AtomicBool,
    asked: Mutex<Vec<Generate>>,
    scored: Mutex<Vec<Score>>,
    /// Adapters besides the one in use.
    loaded: Mutex<Vec<String>>,
    scoring_held: AtomicBool,
    /// Texts being scored at this moment, and most at once.
    at_once: (AtomicUsize, AtomicUsize),
}

/// A text is scored.
struct Computing<'a>(&'a Shared);

impl<'a> Computing<'a> {
    fn begin(shared: &'a Shared) -> Self {
        let (now, most) = &shared.at_once;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Computing<'_> {
    fn drop(&mut self) {
        self.0.at_once.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Of which no context holds enough.
pub const TOO_LONG: &str = "longer than any context";

/// How likely a word of a text is.
pub fn likelihood(score: &Score) -> f32 {
    if score.text.contains("Lyon") {
        // One answer is less likely than all others.
        -0.7
    } else if score.apply.digest().is_some() {
        -0.03
    } else {
        -0.05
    }
}

impl Shared {
    fn adapter(&self) -> Option<Adapter> {
        self.adapter.lock().unwrap().clone()
    }

    fn applied(&self, apply: &Apply) -> Option<Adapter> {
        match apply {
            Apply::Exactly { digest } => digest.clone().map(|digest| Adapter {
                digest,
                version: "exact".into(),
            }),
            _ => self.adapter(),
        }
    }

    /// Why it cannot be computed so.
    fn refusal(&self, apply: &Apply) -> Option<sarai_wire::engine::Error> {
        let Apply::Exactly { digest: Some(digest) } = apply else {
            return None;
        };
        let loaded = self.loaded.lock().unwrap().contains(digest);
        (!loaded).then(|| sarai_wire::engine::Error {
            kind: ErrorKind::Invalid,
            message: format!("the adapter {digest} is not loaded"),
        })
    }

    fn hang_while_frozen(&self) {
        while self.frozen.load(Ordering::SeqCst) && !self.over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub struct Engine {
    pub socket: PathBuf,
    shared: Arc<Shared>,
}

impl Engine {
    pub fn start(folder: &Path, name: &str, model: &str, script: Script) -> Self {
        let socket = folder.join(format!("engine-{name}.sock"));
        let listener = UnixListener::bind(&socket).unwrap();
        let shared = Arc::new(Shared::default());
        let info = Info {
            configured: 2048,
            model: model.into(),
            digest: "0123456789abcdef".repeat(4),
            adapter: None,
            context: 2048,
            slots: 2,
            cpu_variant: "test".into(),
            queued: 0,
            running: 0,
            batch_costs: Vec::new(),
        };
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared) = (stream.unwrap(), Arc::clone(&of_thread));
                let (info, script) = (info.clone(), Arc::clone(&script));
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                std::thread::spawn(move || serve(stream, &shared, &info, &script));
            }
        });
        Self { socket, shared }
    }

    /// From now on its context holds so many tokens of 2048.
    pub fn shrink(&self, context: u32) {
        self.shared.context.store(context, Ordering::SeqCst);
    }

    /// From now on it takes connections and says nothing, like a process stopped by a signal.
    pub fn freeze(&self, frozen: bool) {
        self.shared.frozen.store(frozen, Ordering::SeqCst);
    }

    /// Every generation it was asked for.
    pub fn asked(&self) -> Vec<Generate> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Every text it was asked to score.
    pub fn scored(&self) -> Vec<Score> {
        self.shared.scored.lock().unwrap().clone()
    }

    /// Waits until it was asked to score so often.
    pub fn wait_for_scored(&self, count: usize) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.scored().len() < count {
            assert!(Instant::now() < until, "nobody asks for scores");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// From now on it says no scores, or says them again.
    pub fn hold_scoring(&self, held: bool) {
        self.shared.scoring_held.store(held, Ordering::SeqCst);
    }

    /// From now on it has this adapter too.
    pub fn load(&self, digest: &str) {
        self.shared.loaded.lock().unwrap().push(digest.into());
    }

    /// Most texts that it scored at once.
    pub fn most_at_once(&self) -> usize {
        self.shared.at_once.1.load(Ordering::SeqCst)
    }

    /// How often it was asked for tokens.
    pub fn encoded(&self) -> usize {
        self.shared.encoded.load(Ordering::SeqCst)
    }

    /// Waits until it was asked for tokens so often.
    pub fn wait_for_encoded(&self, count: usize) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.encoded() < count {
            assert!(Instant::now() < until, "nobody asks for tokens");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// From now on it says no tokens, or says them again.
    pub fn hold_encoding(&self, holding: bool) {
        self.shared.holding.store(holding, Ordering::SeqCst);
    }

    /// How many generations the gateway ended by closing the connection.
    pub fn cancelled(&self) -> usize {
        self.shared.cancelled.load(Ordering::SeqCst)
    }

    pub fn wait_for_cancelled(&self, count: usize, time: Duration) {
        let until = Instant::now() + time;
        while self.cancelled() < count {
            assert!(Instant::now() < until, "not cancelled within {time:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Goes away: the socket takes no connection any more.
    pub fn remove(&self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.socket);
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.remove();
    }
}

fn serve(mut stream: UnixStream, shared: &Arc<Shared>, info: &Info, script: &Script) {
    while let Ok(request) = frame::read::<Request>(&mut stream) {
        shared.hang_while_frozen();
        let context = match shared.context.load(Ordering::SeqCst) {
            0 => info.configured,
            context => context,
        };
        match request {
            Request::Count(count) => {
                let tokens = u32::try_from(count.messages.len()).unwrap() * MESSAGE;
                if frame::write(&mut stream, &Event::Counted(Counted { tokens, context })).is_err() {
                    return;
                }
            }
            Request::Encode(encode) => {
                shared.encoded.fetch_add(1, Ordering::SeqCst);
                while shared.holding.load(Ordering::SeqCst) {
                    if shared.over.load(Ordering::SeqCst) {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                let event = encoded(&encode).map_or_else(Event::Error, Event::Encoded);
                if frame::write(&mut stream, &event).is_err() {
                    return;
                }
            }
            Request::Info => {
                let info = Info {
                    context,
                    ..info.clone()
                };
                if frame::write(&mut stream, &Event::Info(info)).is_err() {
                    return;
                }
            }
            Request::Score(score) => {
                let computing = Computing::begin(shared);
                shared.scored.lock().unwrap().push(score.clone());
                let waits = Some(Duration::from_millis(5));
                stream.set_read_timeout(waits).unwrap();
                while shared.scoring_held.load(Ordering::SeqCst) {
                    if shared.over.load(Ordering::SeqCst) {
                        return;
                    }
                    if matches!(std::io::Read::read(&mut stream, &mut [0]), Ok(0)) {
                        shared.cancelled.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                }
                stream.set_read_timeout(None).unwrap();
                // Whoever hears the answer may ask for the next at once.
                drop(computing);
                let too_long = score.text.contains(TOO_LONG).then(|| sarai_wire::engine::Error {
                    kind: ErrorKind::ContextLength,
                    message: "too long".into(),
                });
                if let Some(error) = shared.refusal(&score.apply).or(too_long) {
                    if frame::write(&mut stream, &Event::Error(error)).is_err() {
                        return;
                    }
                    continue;
                }
                let tokens = score
                    .text
                    .split_inclusive(' ')
                    .map(|word| sarai_wire::engine::Alternative {
                        bytes: word.into(),
                        logprob: likelihood(&score),
                    });
                let scored = sarai_wire::engine::Scored {
                    tokens: tokens.collect(),
                    prompt_tokens: 7,
                    cached_tokens: 7,
                    queue_ms: 0.0,
                    score_ms: 1.0,
                };
                if frame::write(&mut stream, &Event::Scored(scored)).is_err() {
                    return;
                }
            }
            Request::Generate(request) => {
                shared.asked.lock().unwrap().push(request.clone());
                if let Some(error) = shared.refusal(&request.apply) {
                    if frame::write(&mut stream, &Event::Error(error)).is_err() {
                        return;
                    }
                    continue;
                }
                let mut talk = Talk {
                    stream: stream.try_clone().unwrap(),
                    said: 0,
                    apply: request.apply.clone(),
                    shared: Arc::clone(shared),
                };
                script(&request, &mut talk);
                // A script that ends early leaves the connection to be closed, as a crash would.
                if talk.said == 0 && shared.over.load(Ordering::SeqCst) {
                    return;
                }
                if CRASHED.with(std::cell::Cell::take) {
                    return;
                }
            }
        }
    }
}

/// Tokens an engine knows: the bytes, and the end of a turn.
pub const VOCABULARY: u32 = 257;

/// A byte is a token: the conversation's texts, the answer, the end where it ends.
pub fn encoded(encode: &Encode) -> Result<Encoded, sarai_wire::engine::Error> {
    let bytes = |text: &str| text.bytes().map(u32::from).collect::<Vec<u32>>();
    let mut tokens: Vec<u32> = encode.messages.iter().flat_map(|m| bytes(&m.content)).collect();
    let answer = u32::try_from(tokens.len()).unwrap();
    tokens.extend(bytes(&encode.text));
    if encode.ends {
        tokens.push(VOCABULARY - 1);
    }
    if tokens.len() > encode.most as usize {
        return Err(sarai_wire::engine::Error {
            kind: ErrorKind::ContextLength,
            message: "too long".into(),
        });
    }
    Ok(Encoded {
        tokens,
        answer,
        vocabulary: VOCABULARY,
    })
}

thread_local! {
    static CRASHED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Called by a script: its connection ends here as that of a killed process does.
pub fn crash() {
    CRASHED.with(|crashed| crashed.set(true));
}

/// A script of whole answers, one after the other; the last goes on for ever.
pub fn answers(texts: &[(&'static str, f32)]) -> Script {
    let texts = texts.to_vec();
    let next = AtomicUsize::new(0);
    Arc::new(move |_, talk| {
        let index = next.fetch_add(1, Ordering::SeqCst).min(texts.len() - 1);
        talk.answer(texts[index].0, texts[index].1);
    })
}
