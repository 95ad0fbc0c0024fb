//! Giving memory back when the supervisor asks: which orders can be done, and how long one may wait.
//!
//! A change of the context frees the old one and makes another, so it waits for the running requests to end, at most
//! for [`WAIT`]; meanwhile nothing new begins. Requests that run on then read again what they had, in the new context,
//! as if nothing had happened; one that needs more than the new context holds ends with an error that says so. None is
//! cut.
//!
//! The KV cache of idle slots cannot be given back piece by piece: it is one buffer of llama.cpp's, whose pages stay
//! however little of it is in use. Only a smaller context is less memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sarai_wire::bounds;

use crate::constraint::Grammars;
use crate::llama::context::ContextParams;
use crate::resident::Resident;
use crate::shared::Order;

/// How long running requests may end in the context they began with. An answer of the usual length is through by
/// then, and memory that is short cannot wait for long ones.
pub const WAIT: Duration = Duration::from_secs(8);

/// The context is to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Who wants it.
    pub order: Order,
    /// Tokens of one request.
    pub tokens: u32,
    /// When it is done, whatever still runs.
    due: Instant,
}

/// What easing needs, and the change that waits.
pub struct Easing {
    /// Measures.
    pub resident: Resident,
    /// Hold a trie of the vocabulary.
    pub grammars: Arc<Grammars>,
    /// The context that was configured: the largest there may be.
    configured: ContextParams,
    change: Option<Change>,
}

impl Easing {
    /// Nothing waits.
    pub fn new(resident: Resident, grammars: Arc<Grammars>, configured: ContextParams) -> Self {
        Self {
            resident,
            grammars,
            configured,
            change: None,
        }
    }

    /// Tokens of one request at most: the context that was configured.
    pub fn most(&self) -> u32 {
        self.configured.context
    }

    /// The context that was configured, with `tokens` of one request instead.
    pub fn sized(&self, tokens: u32) -> ContextParams {
        sized(self.configured, tokens)
    }

    /// Whether a change waits: no request may begin.
    pub fn waits(&self) -> bool {
        self.change.is_some()
    }

    /// Has a change wait. The one that waited already is returned; it did not come about, and its time goes on.
    pub fn plan(&mut self, order: Order, tokens: u32) -> Option<Change> {
        let before = self.change.take();
        self.change = Some(plan(order, tokens, before.as_ref()));
        before
    }

    /// The change that waited will not come about.
    pub fn give_up(&mut self) -> Option<Change> {
        self.change.take()
    }

    /// The change whose time has come, with `running` requests.
    pub fn due(&mut self, running: usize) -> Option<Change> {
        let now = Instant::now();
        self.change.take_if(|change| running == 0 || now >= change.due)
    }
}

fn plan(order: Order, tokens: u32, before: Option<&Change>) -> Change {
    let due = order.came + WAIT;
    Change {
        order,
        tokens,
        // Orders that come again and again do not put it off for ever.
        due: before.map_or(due, |before| due.min(before.due)),
    }
}

/// `configured` with `tokens` of one request instead.
pub fn sized(configured: ContextParams, tokens: u32) -> ContextParams {
    ContextParams {
        context: tokens,
        // What is left of a longer batch would never be filled.
        batch: configured.batch.min(tokens),
        ..configured
    }
}

/// Whether an engine that was configured with `configured` tokens can have a context of `tokens`.
///
/// # Errors
/// Why not; fits after "failed to".
pub fn check(tokens: u32, configured: u32) -> Result<(), String> {
    let least = *bounds::CONTEXT.start();
    if (least..=configured).contains(&tokens) {
        return Ok(());
    }
    Err(format!(
        "use a context of {tokens} tokens: it must be {least} to {configured}, which the engine was configured with"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sarai_wire::memory::Ease;

    #[test]
    fn a_context_is_never_above_what_was_configured_nor_below_the_least() {
        for tokens in [128, 1024, 2048] {
            check(tokens, 2048).unwrap();
        }
        for tokens in [0, 127, 2049, u32::MAX] {
            let why = check(tokens, 2048).unwrap_err();
            assert!(why.contains(&tokens.to_string()) && why.contains("128 to 2048"));
        }
    }

    #[test]
    fn orders_that_follow_each_other_do_not_put_the_change_off() {
        let order = |after| Order {
            seq: 1,
            ease: Ease::Context { tokens: 512 },
            came: after,
        };
        let begin = Instant::now();
        let first = plan(order(begin), 512, None);
        assert_eq!(first.due, begin + WAIT);
        let second = plan(order(begin + WAIT / 2), 256, Some(&first));
        assert_eq!((second.due, second.tokens), (first.due, 256));
    }
}
