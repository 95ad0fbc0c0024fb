//! What an answer must match, as a mask over the vocabulary for every step.
//!
//! `llguidance` does the work: it walks a trie of the vocabulary's bytes along the states of a lexer and a parser.
//! Its input is the client's, so everything is bounded: the text's size and nesting, the work of compiling it, the
//! states it may grow, and the stack it may use. It catches its own panics.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use llguidance::api::{StopReason, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use sarai_wire::engine::Constraint;
use serde_json::{Value, json};

use crate::info;
use crate::llama::Token;
use crate::llama::vocab::Vocab;

/// Largest schema, expression or grammar, bytes.
pub const MAX_BYTES: usize = 64 * 1024;
/// Deepest nesting of brackets in an expression or a grammar.
const MAX_NESTING: usize = 128;
/// Work a compilation may spend on its expressions; a schema of 64 KiB takes a tenth.
const COMPILE_FUEL: u64 = 500_000;
/// Symbols of a compiled grammar.
const MAX_SYMBOLS: usize = 200_000;
/// States of a compiled grammar's lexer, about 1 KiB each.
const MAX_STATES: usize = 30_000;
/// Stack of a compilation; only touched pages count.
const STACK: usize = 256 * 1024 * 1024;
/// Longest token that takes part, bytes; longer ones (runs of spaces) are never needed.
const MAX_PIECE: usize = 512;
/// Longest explanation passed on, characters.
const MAX_REASON: usize = 300;
/// White space between the parts of JSON: a blank, or a new line with its indentation. What is unbounded, a small
/// model fills with blanks until its tokens run out.
const WHITE_SPACE: &str = r"\x20|\n\x20{0,16}";

/// Why a constraint cannot be used. Texts fit after "failed to".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// It is not one that can be enforced.
    #[error("use the constraint: {0}")]
    Unusable(String),
    /// No answer matches it.
    #[error("use the constraint: no text matches it")]
    Empty,
    /// No answer with this beginning matches it.
    #[error("use the constraint: no text that begins with the prefix matches it")]
    Prefix,
    /// As many are in use as may be.
    #[error("{0} requests with a constraint run or wait already")]
    Full(usize),
    /// Nobody waits for it any more.
    #[error("use the constraint: its client is gone")]
    Gone,
    /// It was usable and then grew too large, or a token fits that the vocabulary does not have.
    #[error("enforce the constraint: {0}")]
    Stuck(String),
}

/// Compiles constraints for one vocabulary.
pub struct Grammars {
    vocab: Vocab<'static>,
    /// Made at the first constrained request: most engines never see one. Locked while it compiles, one at a time:
    /// each may take a CPU and tens of megabytes for a moment.
    compiler: Mutex<Option<Result<Compiler, String>>>,
    permits: Permits,
}

/// Bounds the constraints that are compiled or in use.
struct Permits {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// Counted as taken until dropped.
struct Permit(Arc<AtomicUsize>);

impl Permits {
    fn take(&self) -> Result<Permit, ConstraintError> {
        let before = self.taken.fetch_add(1, Ordering::AcqRel);
        // Counts itself off again when it is one too many.
        let permit = Permit(Arc::clone(&self.taken));
        if before < self.most {
            Ok(permit)
        } else {
            Err(ConstraintError::Full(self.most))
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Compiler {
    factory: ParserFactory,
    /// Tokens that have a text; a grammar may name others, and gets none of them.
    plain: Arc<SimpleVob>,
}

impl Grammars {
    /// For this vocabulary, at most `most` in use at once; nothing is computed yet.
    pub fn new(vocab: Vocab<'static>, most: usize) -> Self {
        Self {
            vocab,
            compiler: Mutex::new(None),
            permits: Permits {
                taken: Arc::default(),
                most,
            },
        }
    }

    /// Compiles a constraint and feeds it the beginning of the answer, unless its client is `gone` when its turn comes.
    ///
    /// # Errors
    /// [`ConstraintError`] when it is malformed, too large or unsupported, or matches nothing; [`ConstraintError::Full`] when too many
    /// are in use.
    pub fn compile(
        &self,
        constraint: &Constraint,
        prefix: &[Token],
        gone: impl Fn() -> bool,
    ) -> Result<Matching, ConstraintError> {
        let permit = self.permits.take()?;
        let grammar = grammar(constraint)?;
        // What panics while it is locked is caught, or leaves what was there before.
        let mut made = self.compiler.lock().unwrap_or_else(PoisonError::into_inner);
        if gone() {
            return Err(ConstraintError::Gone);
        }
        let compiler = made.get_or_insert_with(|| Compiler::new(self.vocab));
        let compiler = compiler
            .as_ref()
            .map_err(|why| ConstraintError::Unusable(why.clone()))?;
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name(crate::panics::COMPILING.into())
                .stack_size(STACK)
                .spawn_scoped(scope, || compiler.compile(grammar, prefix, permit))
                .map_err(|why| ConstraintError::Unusable(format!("no thread for it: {why}")))?
                .join()
                .unwrap_or_else(|_| Err(ConstraintError::Unusable("compiling it panicked".into())))
        })
    }

    /// Gives up the trie, which the next constrained request makes again, unless a constraint is in use.
    pub fn forget(&self) {
        // While one is compiled there is one in use.
        if let Ok(mut made) = self.compiler.try_lock()
            && self.permits.taken.load(Ordering::Acquire) == 0
        {
            *made = None;
        }
    }
}

impl Compiler {
    fn new(vocab: Vocab<'_>) -> Result<Self, String> {
        let begin = Instant::now();
        let size = u32::try_from(vocab.len()).map_err(|_| "the vocabulary is too large")?;
        let mut words = Vec::with_capacity(vocab.len());
        let mut ends = Vec::new();
        let mut plain = SimpleVob::alloc(vocab.len());
        for token in 0..size {
            let id = Token::try_from(token).unwrap_or(Token::MAX);
            let mut bytes = Vec::new();
            if vocab.ends(id) {
                ends.push(token);
                plain.allow_token(token);
            } else {
                vocab.piece(id, false, &mut bytes);
                // 0xff begins no character, and names control tokens inside the library.
                if bytes.len() > MAX_PIECE || bytes.first() == Some(&0xff) {
                    bytes.clear();
                }
                if !bytes.is_empty() {
                    plain.allow_token(token);
                }
            }
            words.push(bytes);
        }
        let Some(first) = ends.first() else {
            return Err("the model has no token that ends an answer".into());
        };
        let trie = TokTrie::from(&TokRxInfo::new(size, *first), &words).with_eos_tokens(&ends);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(|why| reason(&why))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.initial_lexer_fuel = COMPILE_FUEL;
        limits.max_grammar_size = MAX_SYMBOLS;
        limits.max_lexer_states = MAX_STATES;
        // The client knows its grammar; what it is told fits a line.
        limits.verbose_errors = false;
        info!(
            "a trie of {size} tokens for constraints was made in {:.0} ms",
            begin.elapsed().as_secs_f64() * 1000.0
        );
        Ok(Self {
            factory,
            plain: Arc::new(plain),
        })
    }

    fn compile(
        &self,
        grammar: TopLevelGrammar,
        prefix: &[Token],
        permit: Permit,
    ) -> Result<Matching, ConstraintError> {
        let parser = self
            .factory
            .create_parser(grammar)
            .map_err(|why| ConstraintError::Unusable(reason(&why)))?;
        let mut matching = Matching {
            matcher: Matcher::new(Ok(parser)),
            plain: Arc::clone(&self.plain),
            mask: None,
            _permit: permit,
        };
        if matching.is_stuck() {
            return Err(ConstraintError::Empty);
        }
        matching.begin(prefix)?;
        Ok(matching)
    }
}

/// An answer's progress through its constraint.
pub struct Matching {
    matcher: Matcher,
    plain: Arc<SimpleVob>,
    /// What may come next, once asked for.
    mask: Option<SimpleVob>,
    _permit: Permit,
}

impl std::fmt::Debug for Matching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matching").finish_non_exhaustive()
    }
}

impl Matching {
    /// Whether the answer is complete and nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped() && self.matcher.stop_reason().is_ok()
    }

    fn is_stuck(&mut self) -> bool {
        !self.is_complete() && self.mask().is_err()
    }

    /// Takes the beginning of the answer.
    fn begin(&mut self, prefix: &[Token]) -> Result<(), ConstraintError> {
        let tokens: Vec<u32> = prefix.iter().map(|token| token.unsigned_abs()).collect();
        self.mask = None;
        let taken = self.matcher.try_consume_tokens(&tokens);
        if taken.is_ok_and(|taken| taken == tokens.len()) && !self.is_stuck() {
            Ok(())
        } else {
            Err(ConstraintError::Prefix)
        }
    }

    /// What may come next: one bit a token.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`] when nothing may.
    pub fn mask(&mut self) -> Result<&[u32], ConstraintError> {
        if self.mask.is_none() {
            let mut mask = self
                .matcher
                .compute_mask_or_eos()
                .map_err(|why| self.stuck(&why))?;
            mask.and(&self.plain);
            if mask.is_zero() {
                return Err(ConstraintError::Stuck("no token fits it".into()));
            }
            self.mask = Some(mask);
        }
        Ok(self.mask.as_ref().map_or(&[], SimpleVob::as_slice))
    }

    /// Takes the next token of the answer, one that [`Matching::mask`] allows and that does not end it.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`].
    pub fn consume(&mut self, token: Token) -> Result<(), ConstraintError> {
        self.mask = None;
        self.matcher
            .consume_token(token.unsigned_abs())
            .map_err(|why| self.stuck(&why))
    }

    fn stuck(&self, why: &anyhow::Error) -> ConstraintError {
        ConstraintError::Stuck(match self.matcher.stop_reason() {
            StopReason::NoExtension | StopReason::NoExtensionBias => "no token fits it".into(),
            StopReason::LexerTooComplex | StopReason::ParserTooComplex => "it is too complex".into(),
            _ => reason(why),
        })
    }
}

/// The first lines of an explanation, on one.
fn reason(why: &anyhow::Error) -> String {
    let text = why.to_string();
    let lines = text.split("<non-verbose/>").next().unwrap_or_default().lines();
    let line = lines.map(str::trim).filter(|line| !line.is_empty()).take(3);
    line.collect::<Vec<_>>()
        .join("; ")
        .chars()
        .take(MAX_REASON)
        .collect()
}

fn unusable<T>(why: impl Into<String>) -> Result<T, ConstraintError> {
    Err(ConstraintError::Unusable(why.into()))
}

fn grammar(constraint: &Constraint) -> Result<TopLevelGrammar, ConstraintError> {
    match constraint {
        Constraint::JsonObject => schema(json!({ "type": "object" })),
        Constraint::JsonSchema { schema: given } => {
            let bytes = serde_json::to_string(given).map_or(usize::MAX, |text| text.len());
            if bytes > MAX_BYTES {
                return unusable(format!("a schema of {bytes} bytes is larger than {MAX_BYTES}"));
            }
            schema(given.clone())
        }
        Constraint::Regex { pattern } => {
            check_text("an expression", pattern)?;
            Ok(TopLevelGrammar::from_regex(without_anchors(pattern)))
        }
        Constraint::Lark { grammar } => {
            check_text("a grammar", grammar)?;
            Ok(TopLevelGrammar::from_lark(grammar.clone()))
        }
    }
}

fn schema(schema: Value) -> Result<TopLevelGrammar, ConstraintError> {
    let mut schema = match schema {
        Value::Object(schema) => schema,
        Value::Bool(true) => serde_json::Map::new(),
        Value::Bool(false) => return Err(ConstraintError::Empty),
        _ => return unusable("a schema is an object or a boolean"),
    };
    // The library's own switches are not for clients to set.
    schema.insert("x-guidance".into(), json!({ "whitespace_pattern": WHITE_SPACE }));
    Ok(TopLevelGrammar::from_json_schema(Value::Object(schema)))
}

fn check_text(what: &str, text: &str) -> Result<(), ConstraintError> {
    if text.is_empty() || text.len() > MAX_BYTES {
        return unusable(format!(
            "{what} of {} bytes is not 1 to {MAX_BYTES} bytes long",
            text.len()
        ));
    }
    // The parsers call themselves once a bracket. Those inside quotes are counted too; that many never mean well.
    let (mut depth, mut escaped) = (0_usize, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return unusable(format!("{what} nests deeper than {MAX_NESTING} brackets"));
        }
    }
    Ok(())
}

/// An expression matches the whole answer, so anchors at its ends say nothing.
fn without_anchors(pattern: &str) -> &str {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    match pattern.strip_suffix('$') {
        Some(rest) if rest.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 0 => rest,
        _ => pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_at_the_ends_are_dropped_and_escaped_ones_kept() {
        for (pattern, expected) in [
            ("^a$", "a"),
            ("a", "a"),
            (r"a\$", r"a\$"),
            (r"a\\$", r"a\\"),
            ("^^a$$", "^a$"),
        ] {
            assert_eq!(without_anchors(pattern), expected);
        }
    }

    #[test]
    fn size_and_nesting_are_bounded_before_anything_is_parsed() {
        for text in [
            String::new(),
            "a".repeat(MAX_BYTES + 1),
            "(".repeat(MAX_NESTING + 1),
        ] {
            assert!(check_text("an expression", &text).is_err());
        }
        check_text("an expression", &r"\(".repeat(1000)).unwrap();
        check_text("an expression", &"(a)".repeat(1000)).unwrap();
    }

    #[test]
    fn permits_are_bounded_and_come_back() {
        let permits = Permits {
            taken: Arc::default(),
            most: 2,
        };
        let held = [permits.take().ok(), permits.take().ok()];
        assert!(held.iter().all(Option::is_some));
        for _ in 0..3 {
            assert_eq!(permits.take().err(), Some(ConstraintError::Full(2)));
        }
        drop(held);
        assert!(permits.take().is_ok());
    }

    #[test]
    fn an_explanation_is_one_line() {
        let why = anyhow::anyhow!("bad\n\n  at 1\n<non-verbose/>");
        assert_eq!(reason(&why), "bad; at 1");
    }
}
