//! Options of the measuring programs: `--name value`, each given by a script.

use std::collections::HashMap;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// The options of this run.
#[derive(Debug)]
pub struct Arguments(HashMap<String, String>);

impl Arguments {
    /// Those this program was started with.
    ///
    /// # Errors
    /// When one has no value.
    pub fn of_program() -> Result<Self> {
        let mut given = HashMap::new();
        let mut words = std::env::args().skip(1);
        while let Some(name) = words.next() {
            let value = words
                .next()
                .with_context(|| format!("read the arguments: {name} has no value"))?;
            given.insert(name, value);
        }
        Ok(Self(given))
    }

    /// Takes an option that may be missing.
    ///
    /// # Errors
    /// When its value is none of its kind.
    pub fn take<T: FromStr>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.0.remove(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => bail!("read {name}: {text:?} is not what it takes"),
        }
    }

    /// Takes an option that must be there.
    ///
    /// # Errors
    /// When it is missing or none of its kind.
    pub fn need<T: FromStr>(&mut self, name: &str) -> Result<T> {
        self.take(name)?
            .with_context(|| format!("read the arguments: {name} is missing"))
    }

    /// Nothing else may be there.
    ///
    /// # Errors
    /// When something is.
    pub fn end(self) -> Result<()> {
        match self.0.keys().next() {
            Some(name) => bail!("know the option {name}"),
            None => Ok(()),
        }
    }
}
