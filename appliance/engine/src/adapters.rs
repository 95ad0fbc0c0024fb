//! Which adapters are loaded, which one is in use, and which one a request gets.
//!
//! At most [`MOST_LOADED`] are kept for requests to come: the one in use, and the one before it, so that going back is
//! immediate. One that is given up stays in memory until the last request that began with it has ended.

use sarai_wire::adapter::{Adapter, AdapterAnswer, Apply, LoadedAdapter, MOST_LOADED};

/// An adapter in memory; `A` is what a context applies.
#[derive(Debug)]
pub struct Loaded<A> {
    /// Which.
    pub which: Adapter,
    /// Bytes of its matrices.
    pub bytes: u64,
    /// Whether with it tokens come out of a batch bit for bit as they come out one by one, so that it is safe to look
    /// ahead.
    pub exact: bool,
    /// What is applied.
    pub adapter: A,
}

/// The adapters of an engine.
#[derive(Debug)]
pub struct Adapters<A> {
    /// For requests to come; the one that was in use last at the end.
    kept: Vec<Loaded<A>>,
    /// Given up, while requests run that began with them.
    retired: Vec<Loaded<A>>,
    /// Digest of the one in use.
    in_use: Option<String>,
}

impl<A> Default for Adapters<A> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            retired: Vec::new(),
            in_use: None,
        }
    }
}

impl<A> Adapters<A> {
    /// The one in use.
    pub fn in_use(&self) -> Option<&Adapter> {
        let digest = self.in_use.as_deref()?;
        self.kept(digest).map(|loaded| &loaded.which)
    }

    /// Whether it is loaded, for requests to come.
    pub fn is_kept(&self, digest: &str) -> bool {
        self.kept(digest).is_some()
    }

    fn kept(&self, digest: &str) -> Option<&Loaded<A>> {
        self.kept.iter().find(|loaded| loaded.which.digest == digest)
    }

    /// One that a request began with.
    pub fn get(&self, digest: &str) -> Option<&Loaded<A>> {
        let mut all = self.kept.iter().chain(&self.retired);
        all.find(|loaded| loaded.which.digest == digest)
    }

    /// Makes room for one more: what is not in use is given up, the one that was in use longest ago first.
    fn make_room(&mut self) {
        while self.kept.len() >= MOST_LOADED {
            let spare = self.spare();
            let Some(at) = spare else { return };
            let given_up = self.kept.remove(at);
            self.retired.push(given_up);
        }
    }

    fn spare(&self) -> Option<usize> {
        let in_use = self.in_use.as_deref();
        self.kept
            .iter()
            .position(|loaded| Some(loaded.which.digest.as_str()) != in_use)
    }

    /// Keeps one that was loaded; not yet in use.
    pub fn keep(&mut self, loaded: Loaded<A>) {
        self.make_room();
        self.kept.push(loaded);
    }

    /// Gives this one, or none, to every request that begins from now on.
    ///
    /// # Errors
    /// When it is not loaded; fits after "failed to".
    pub fn take_into_use(&mut self, digest: Option<&str>) -> Result<(), String> {
        if let Some(digest) = digest {
            let at = self.kept.iter().position(|loaded| loaded.which.digest == digest);
            let at = at.ok_or_else(|| format!("use the adapter {digest}: it is not loaded"))?;
            let loaded = self.kept.remove(at);
            self.kept.push(loaded);
        }
        self.in_use = digest.map(str::to_owned);
        Ok(())
    }

    /// Gives one up.
    ///
    /// # Errors
    /// When it is in use; fits after "failed to". One that is not loaded is dropped already.
    pub fn give_up(&mut self, digest: &str) -> Result<(), String> {
        if self.in_use.as_deref() == Some(digest) {
            return Err(format!("drop the adapter {digest}: it is in use"));
        }
        if let Some(at) = self.kept.iter().position(|loaded| loaded.which.digest == digest) {
            let given_up = self.kept.remove(at);
            self.retired.push(given_up);
        }
        Ok(())
    }

    /// Gives up every one that is not in use; whether there was one.
    pub fn give_up_spare(&mut self) -> bool {
        let before = self.kept.len();
        while let Some(at) = self.spare() {
            let given_up = self.kept.remove(at);
            self.retired.push(given_up);
        }
        self.kept.len() < before
    }

    /// Takes out those that were given up and that no running request needs.
    pub fn take_unneeded(&mut self, needed: impl Fn(&str) -> bool) -> Vec<Loaded<A>> {
        let mut unneeded = Vec::new();
        let mut at = 0;
        while at < self.retired.len() {
            if needed(&self.retired[at].which.digest) {
                at += 1;
            } else {
                unneeded.push(self.retired.remove(at));
            }
        }
        unneeded
    }

    /// Which one a request gets that wishes for `apply`.
    ///
    /// # Errors
    /// The digest of one that it must have and that is not loaded.
    pub fn resolve<'a>(&'a self, apply: &'a Apply) -> Result<Option<&'a Adapter>, &'a str> {
        match apply {
            Apply::InUse => Ok(self.in_use()),
            Apply::Rather { digest: None } | Apply::Exactly { digest: None } => Ok(None),
            Apply::Rather { digest: Some(digest) } => Ok(self
                .kept(digest)
                .map(|loaded| &loaded.which)
                .or_else(|| self.in_use())),
            Apply::Exactly { digest: Some(digest) } => match self.kept(digest) {
                Some(loaded) => Ok(Some(&loaded.which)),
                None => Err(digest),
            },
        }
    }

    /// What the supervisor is told.
    pub fn answer(&self, seq: u64, took_ms: u64, refused: Option<String>) -> AdapterAnswer {
        AdapterAnswer {
            seq,
            loaded: self
                .kept
                .iter()
                .map(|loaded| LoadedAdapter {
                    adapter: loaded.which.clone(),
                    bytes: loaded.bytes,
                })
                .collect(),
            in_use: self.in_use.clone(),
            took_ms,
            // A packet has a bound.
            refused: refused.map(|why| why.chars().take(1024).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(digit: &str) -> Loaded<()> {
        Loaded {
            which: Adapter {
                digest: digit.repeat(64),
                version: digit.to_owned(),
            },
            bytes: 1,
            exact: false,
            adapter: (),
        }
    }

    fn digest(digit: &str) -> String {
        digit.repeat(64)
    }

    fn with(digits: &[&str]) -> Adapters<()> {
        let mut adapters = Adapters::default();
        for digit in digits {
            adapters.keep(loaded(digit));
            adapters.take_into_use(Some(&digest(digit))).unwrap();
        }
        adapters
    }

    fn kept(adapters: &Adapters<()>) -> Vec<&str> {
        adapters.kept.iter().map(|l| l.which.version.as_str()).collect()
    }

    #[test]
    fn the_one_in_use_and_the_one_before_are_kept() {
        let mut adapters = with(&["a", "b", "c"]);
        assert_eq!(kept(&adapters), ["b", "c"]);
        // Back, and the next one: the one that was gone back from makes room.
        adapters.take_into_use(Some(&digest("b"))).unwrap();
        adapters.keep(loaded("d"));
        assert_eq!(kept(&adapters), ["b", "d"]);
        assert_eq!(adapters.in_use().unwrap().version, "b");
        adapters.take_into_use(None).unwrap();
        assert_eq!((adapters.in_use(), kept(&adapters).len()), (None, 2));
    }

    #[test]
    fn one_that_is_not_loaded_cannot_be_used_and_nothing_changes() {
        let mut adapters = with(&["a"]);
        assert!(
            adapters
                .take_into_use(Some(&digest("x")))
                .unwrap_err()
                .contains("not loaded")
        );
        assert_eq!(adapters.in_use().unwrap().version, "a");
        assert!(adapters.give_up(&digest("a")).unwrap_err().contains("in use"));
        adapters.give_up(&digest("x")).unwrap();
    }

    #[test]
    fn what_is_given_up_stays_for_those_who_began_with_it() {
        let mut adapters = with(&["a", "b"]);
        adapters.give_up(&digest("a")).unwrap();
        assert!(!adapters.is_kept(&digest("a")) && adapters.get(&digest("a")).is_some());
        assert!(adapters.take_unneeded(|_| true).is_empty());
        assert_eq!(adapters.take_unneeded(|_| false).len(), 1);
        assert!(adapters.get(&digest("a")).is_none());
        assert!(!adapters.give_up_spare());
        adapters.take_into_use(None).unwrap();
        assert!(adapters.give_up_spare());
        assert_eq!(kept(&adapters).len(), 0);
    }

    #[test]
    fn a_request_gets_what_it_wishes_for_as_far_as_that_is_there() {
        let adapters = with(&["a", "b"]);
        let version = |apply: &Apply| match adapters.resolve(apply) {
            Ok(adapter) => Ok(adapter.map(|adapter| adapter.version.clone())),
            Err(digest) => Err(digest.to_owned()),
        };
        let (a, x) = (Some(digest("a")), Some(digest("x")));
        assert_eq!(version(&Apply::InUse), Ok(Some("b".into())));
        assert_eq!(
            version(&Apply::Rather { digest: a.clone() }),
            Ok(Some("a".into()))
        );
        assert_eq!(
            version(&Apply::Rather { digest: x.clone() }),
            Ok(Some("b".into()))
        );
        assert_eq!(version(&Apply::Rather { digest: None }), Ok(None));
        assert_eq!(version(&Apply::Exactly { digest: a }), Ok(Some("a".into())));
        assert_eq!(version(&Apply::Exactly { digest: None }), Ok(None));
        assert_eq!(version(&Apply::Exactly { digest: x }), Err(digest("x")));
    }
}
