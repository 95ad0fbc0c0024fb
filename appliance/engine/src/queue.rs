//! The queue of waiting requests: fair between clients, first come first served within one, bounded.

use std::collections::VecDeque;

/// One client's waiting requests.
#[derive(Debug)]
struct Line<T> {
    client: String,
    waiting: VecDeque<T>,
}

/// A bounded queue that serves clients in turn.
#[derive(Debug)]
pub struct FairQueue<T> {
    /// Clients that wait, the next to be served in front.
    lines: VecDeque<Line<T>>,
    length: usize,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            lines: VecDeque::new(),
            length: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// Requests waiting.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds a request behind the others of `client`.
    ///
    /// # Errors
    /// [`Full`] when `capacity` requests wait already.
    pub fn push(&mut self, client: &str, item: T, capacity: usize) -> Result<(), Full> {
        if self.length >= capacity {
            return Err(Full);
        }
        self.length += 1;
        if let Some(line) = self.lines.iter_mut().find(|line| line.client == client) {
            line.waiting.push_back(item);
        } else {
            self.lines.push_back(Line {
                client: client.to_owned(),
                waiting: VecDeque::from([item]),
            });
        }
        Ok(())
    }

    /// Takes the oldest request of the client whose turn it is; that client goes to the end.
    pub fn pop(&mut self) -> Option<T> {
        let mut line = self.lines.pop_front()?;
        let item = line.waiting.pop_front()?;
        self.length -= 1;
        if !line.waiting.is_empty() {
            self.lines.push_back(line);
        }
        Some(item)
    }

    /// Drops every request for which `keep` says no.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        for line in &mut self.lines {
            line.waiting.retain(&mut keep);
        }
        self.lines.retain(|line| !line.waiting.is_empty());
        self.length = self.lines.iter().map(|line| line.waiting.len()).sum();
    }

    /// Takes everything out, in the order in which it would have been served.
    pub fn drain(&mut self) -> Vec<T> {
        std::iter::from_fn(|| self.pop()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn clients_take_turns_and_keep_their_own_order() {
        let mut queue = FairQueue::default();
        for n in 0..4 {
            queue.push("greedy", ("greedy", n), 99).unwrap();
        }
        queue.push("other", ("other", 0), 99).unwrap();
        queue.push("third", ("third", 0), 99).unwrap();
        queue.push("other", ("other", 1), 99).unwrap();
        let served = queue.drain();
        assert_eq!(
            served,
            [
                ("greedy", 0),
                ("other", 0),
                ("third", 0),
                ("greedy", 1),
                ("other", 1),
                ("greedy", 2),
                ("greedy", 3)
            ]
        );
    }

    #[test]
    fn a_client_that_comes_back_waits_behind_those_already_there() {
        let mut queue = FairQueue::default();
        queue.push("a", "a1", 9).unwrap();
        queue.push("b", "b1", 9).unwrap();
        assert_eq!(queue.pop(), Some("a1"));
        queue.push("a", "a2", 9).unwrap();
        assert_eq!(queue.drain(), ["b1", "a2"]);
    }

    #[test]
    fn a_full_queue_says_so_and_room_comes_back() {
        let mut queue = FairQueue::default();
        queue.push("a", 1, 2).unwrap();
        queue.push("b", 2, 2).unwrap();
        assert_eq!(queue.push("c", 3, 2), Err(Full));
        queue.retain(|item| *item != 1);
        assert_eq!(queue.len(), 1);
        queue.push("c", 3, 2).unwrap();
        assert_eq!(queue.drain(), [2, 3]);
        assert!(queue.is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_client_is_passed_twice(clients in proptest::collection::vec(0_u8..5, 0..60)) {
            let mut queue = FairQueue::default();
            for (order, client) in clients.iter().enumerate() {
                queue.push(&client.to_string(), (*client, order), 1000).unwrap();
            }
            let served = queue.drain();
            prop_assert_eq!(served.len(), clients.len());
            for client in 0_u8..5 {
                let own: Vec<usize> = served.iter().filter(|s| s.0 == client).map(|s| s.1).collect();
                prop_assert!(own.is_sorted());
                // While a client waits, nobody else is served twice between two of its turns.
                let turns: Vec<usize> =
                    served.iter().enumerate().filter(|(_, s)| s.0 == client).map(|(at, _)| at).collect();
                for pair in turns.windows(2) {
                    for other in 0_u8..5 {
                        let between = served[pair[0] + 1..pair[1]].iter().filter(|s| s.0 == other).count();
                        prop_assert!(between <= 1);
                    }
                }
            }
        }
    }
}
