//! Events on their way from the decode thread to a connection's thread.
//!
//! The decode thread never waits for a client: it drops events into a mailbox and goes on. What a mailbox can
//! hold is bounded by the context, because a request makes one event a token.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};
use sarai_wire::engine::Event;

/// One request's mailbox.
#[derive(Debug)]
pub struct Mailbox {
    events: Mutex<VecDeque<Event>>,
    /// Readable while events wait, so that the connection's thread can wait for them and for the client at once.
    ready: EventFd,
    cancelled: AtomicBool,
}

impl Mailbox {
    /// An empty mailbox.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> std::io::Result<Self> {
        let ready = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self {
            events: Mutex::default(),
            ready,
            cancelled: AtomicBool::new(false),
        })
    }

    /// Adds an event and wakes the reader.
    pub fn send(&self, event: Event) {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(event);
        // The counter cannot overflow, and its descriptor is open as long as `self`.
        let _ = self.ready.write(1);
    }

    /// Takes everything that waits.
    pub fn take(&self) -> VecDeque<Event> {
        let _ = self.ready.read();
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Readable while events wait.
    pub fn readiness(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// Nobody will read any more: the request need not go on.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Whether [`Mailbox::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_arrive_in_order_and_once() {
        let mailbox = Mailbox::new().unwrap();
        for cached_tokens in 0..3 {
            mailbox.send(Event::Started {
                prompt_tokens: 9,
                cached_tokens,
                adapter: None,
            });
        }
        let seen: Vec<u32> = mailbox
            .take()
            .into_iter()
            .map(|event| match event {
                Event::Started { cached_tokens, .. } => cached_tokens,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(seen, [0, 1, 2]);
        assert!(mailbox.take().is_empty());
    }
}
