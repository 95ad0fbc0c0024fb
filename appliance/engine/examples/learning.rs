//! What a model knows of facts, by llama.cpp itself: `scripts/bench-trainer` calls it.
//!
//! ```text
//! learning encode  MODEL DIGEST FACTS DATA
//! learning measure MODEL FACTS GENERAL [ADAPTER]
//! ```
//!
//! `encode` writes the trainer's data set of the facts, in the model's own tokens and chat template, to DATA. `measure`
//! prints, as JSON, for each split the mean loss of the answers' tokens and how many questions are answered right
//! greedily, and the mean loss of the texts in GENERAL (one a line).

use std::fs::File;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail, ensure};
use sarai_engine::llama::Token;
use sarai_engine::llama::adapter::Adapter;
use sarai_engine::llama::backend::Backend;
use sarai_engine::llama::batch::Batch;
use sarai_engine::llama::context::{Context, ContextParams};
use sarai_engine::llama::model::Model;
use sarai_engine::llama::threadpool::{Threadpool, choose_cpus};
use sarai_engine::prompt::{Markers, plain, tokenise};
use sarai_engine::template::Template;
use sarai_wire::birth::KvType;
use sarai_wire::engine::{Message, Role};
use serde::{Deserialize, Serialize};

/// Context, tokens: facts and texts are short.
const CONTEXT: u32 = 1024;
/// Longest answer, tokens.
const ANSWER: usize = 40;

/// A question with the answer that is right if it has the key in it.
#[derive(Deserialize)]
struct Fact {
    split: String,
    question: String,
    answer: String,
    key: String,
}

/// What the model knows of the facts of a split.
#[derive(Default, Serialize)]
struct Known {
    /// Sum of the negative log-likelihoods of the answers' tokens, nats.
    nll: f64,
    tokens: usize,
    questions: usize,
    right: usize,
}

#[derive(Default, Serialize)]
struct Measured {
    train: Known,
    held_out: Known,
    general: Known,
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["encode", model, digest, facts, data] => encode(model, digest, &read(facts)?, data),
        ["measure", model, facts, general] => measure(model, &read(facts)?, general, None),
        ["measure", model, facts, general, adapter] => measure(model, &read(facts)?, general, Some(adapter)),
        _ => bail!(
            "understand the arguments: encode MODEL DIGEST FACTS DATA, or measure MODEL FACTS GENERAL [ADAPTER]"
        ),
    }
}

fn read(facts: &str) -> Result<Vec<Fact>> {
    let text = std::fs::read(facts).with_context(|| format!("read {facts}"))?;
    serde_json::from_slice(&text).with_context(|| format!("understand {facts}"))
}

fn open(path: &str) -> Result<File> {
    File::open(path).with_context(|| format!("open {path}"))
}

/// How the model is spoken to.
struct Speech<'a> {
    model: &'a Model,
    template: Template,
    markers: Markers,
}

impl<'a> Speech<'a> {
    fn of(model: &'a Model) -> Result<Self> {
        let vocab = model.vocab();
        let text = |token: Option<Token>| token.map(|token| vocab.raw_text(token)).unwrap_or_default();
        let template = Template::new(model.chat_template(), text(vocab.bos()), text(vocab.eos()))?;
        let markers = Markers::new(vocab.specials(), template.source());
        Ok(Self {
            model,
            template,
            markers,
        })
    }

    /// The tokens up to where the answer begins.
    fn question(&self, question: &str) -> Result<Vec<Token>> {
        let message = Message {
            role: Role::User,
            content: question.to_owned(),
        };
        let rendered = self.template.render(&[message], &self.markers.texts())?;
        Ok(tokenise(&rendered, &self.markers, &self.model.vocab()))
    }

    /// The tokens of an answer and of its end.
    fn answer(&self, answer: &str) -> Result<Vec<Token>> {
        let vocab = self.model.vocab();
        let mut tokens = plain(answer, &self.markers, &vocab);
        tokens.push(vocab.eos().context("find what ends an answer")?);
        Ok(tokens)
    }
}

fn encode(model: &str, digest: &str, facts: &[Fact], data: &str) -> Result<()> {
    let backend = Backend::start()?;
    let model = Model::load(&backend, open(model)?)?;
    let speech = Speech::of(&model)?;
    let vocabulary = model.vocab().len();
    let mut text = serde_json::json!({"format": 1, "base": digest, "vocabulary": vocabulary}).to_string();
    for (number, fact) in facts.iter().enumerate() {
        let mut tokens = speech.question(&fact.question)?;
        let begin = tokens.len();
        tokens.extend(speech.answer(&fact.answer)?);
        let line = serde_json::json!({
            "id": format!("{number:x}"), "split": fact.split, "tokens": tokens, "targets": [[begin, tokens.len()]],
        });
        text += &format!("\n{line}");
    }
    std::fs::write(data, text + "\n").with_context(|| format!("write {data}"))
}

fn measure(model: &str, facts: &[Fact], general: &str, adapter: Option<&str>) -> Result<()> {
    let backend = Backend::start()?;
    let model = Model::load(&backend, open(model)?)?;
    let speech = Speech::of(&model)?;
    let threads = Threadpool::start(&backend, &choose_cpus(&[])?)?;
    let params = ContextParams {
        context: CONTEXT,
        slots: 1,
        batch: CONTEXT,
        rows: CONTEXT,
        kv_type: KvType::F16,
    };
    let mut context = Context::new(&model, &threads, params)?;
    if let Some(path) = adapter {
        let adapter = Rc::new(Adapter::load(&context, open(path)?)?);
        context.apply(Some(&adapter))?;
    }
    let mut measured = Measured::default();
    for fact in facts {
        let known = match fact.split.as_str() {
            "held_out" => &mut measured.held_out,
            _ => &mut measured.train,
        };
        let question = speech.question(&fact.question)?;
        known.hear(&mut context, &question, &speech.answer(&fact.answer)?)?;
        known.questions += 1;
        known.right += usize::from(said(&mut context, &question)?.contains(&fact.key));
    }
    let texts = std::fs::read_to_string(Path::new(general)).with_context(|| format!("read {general}"))?;
    for text in texts.lines().filter(|line| !line.is_empty()) {
        let tokens = plain(text, &speech.markers, &model.vocab());
        let (first, rest) = tokens.split_at(1);
        measured.general.hear(&mut context, first, rest)?;
    }
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

impl Known {
    /// Adds how surprising `tokens` are after `before`.
    fn hear(&mut self, context: &mut Context<'_>, before: &[Token], tokens: &[Token]) -> Result<()> {
        let all: Vec<Token> = before.iter().chain(tokens).copied().collect();
        ensure!(
            all.len() <= CONTEXT as usize,
            "measure a text: it has {} tokens",
            all.len()
        );
        context.forget(0);
        let mut batch = Batch::new(all.len());
        for (position, &token) in (0..).zip(&all) {
            batch.push(token, position, 0, position >= i32::try_from(before.len())? - 1);
        }
        context.decode(&mut batch)?;
        for (at, &token) in tokens.iter().enumerate() {
            let logits = context.logits(before.len() - 1 + at).context("read the logits")?;
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
            self.nll += sum.ln() - f64::from(logits[usize::try_from(token)?] - largest);
        }
        self.tokens += tokens.len();
        Ok(())
    }
}

/// What the model answers, always with the likeliest token.
fn said(context: &mut Context<'_>, question: &[Token]) -> Result<String> {
    let vocab = context.model().vocab();
    context.forget(0);
    let (mut text, mut next) = (Vec::new(), question.to_vec());
    let mut position = 0;
    for _ in 0..ANSWER {
        let mut batch = Batch::new(next.len());
        for (at, &token) in next.iter().enumerate() {
            batch.push(token, position, 0, at + 1 == next.len());
            position += 1;
        }
        context.decode(&mut batch)?;
        let logits = context.logits(next.len() - 1).context("read the logits")?;
        let likeliest = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        let token = Token::try_from(likeliest.context("find a token")?)?;
        if vocab.ends(token) {
            break;
        }
        vocab.piece(token, false, &mut text);
        next = vec![token];
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
