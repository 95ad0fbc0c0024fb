//! Which words the Omni-Loop uses: those of the file the supervisor verified, or the built-in ones.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use sarai_reflection::PromptSet;
use sarai_reflection::prompts::MAX_FILE;
use sarai_wire::birth::{FromGateway, PromptsStart};

/// The set, and why the one that was given is not it.
pub struct Chosen {
    /// What the loop says.
    pub set: PromptSet,
    /// Name and text of the error, fitting the names that models are refused by.
    pub refused: Option<String>,
}

impl Chosen {
    /// What the supervisor is told.
    pub fn report(&self) -> FromGateway {
        FromGateway::Prompts {
            id: self.set.id.clone(),
            version: self.set.version.clone(),
            sha256: self.set.sha256.clone(),
            refused: self.refused.clone(),
        }
    }
}

/// Reads what was given. Whatever is wrong with it, there are words: a loop never waits for them.
pub fn choose(given: Option<&PromptsStart>, files: Vec<OwnedFd>) -> Chosen {
    let Some(given) = given else {
        return Chosen {
            set: PromptSet::built_in(),
            refused: None,
        };
    };
    match read(given, files) {
        Ok(set) => Chosen { set, refused: None },
        Err(refused) => {
            tracing::warn!("the built-in prompts are used: {refused}");
            Chosen {
                set: PromptSet::built_in(),
                refused: Some(refused),
            }
        }
    }
}

fn read(given: &PromptsStart, files: Vec<OwnedFd>) -> Result<PromptSet, String> {
    let file = files
        .into_iter()
        .next()
        .ok_or("io: failed to read the prompts: no file came with them")?;
    let mut bytes = Vec::new();
    // One byte more than is allowed, so that too long a file is seen to be.
    File::from(file)
        .take(MAX_FILE as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("io: failed to read the prompts: {e}"))?;
    let set = PromptSet::parse(&given.id, &given.version, &bytes)
        .map_err(|e| format!("invalid-prompts: failed to {e}"))?;
    // Without fs-verity the file could change between the supervisor's look at it and this one.
    if set.sha256 != given.sha256 {
        return Err(format!(
            "wrong-digest: failed to verify the file: its sha256 digest is {}, expected {}",
            set.sha256, given.sha256
        ));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    const TEXT: &str = include_str!("../../reflection/prompts/omni-loop.prompts");

    fn given(sha256: &str) -> PromptsStart {
        PromptsStart {
            id: "omni-loop".into(),
            version: "2.0.0".into(),
            sha256: sha256.into(),
        }
    }

    fn file(text: &str) -> Vec<OwnedFd> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        vec![file.into()]
    }

    #[test]
    fn a_verified_file_is_used_under_the_name_of_its_attestation() {
        let text = TEXT.replace("Reply with the answer alone.", "Just the answer.");
        let sha256 = PromptSet::parse("x", "1", text.as_bytes()).unwrap().sha256;
        let chosen = choose(Some(&given(&sha256)), file(&text));
        assert_eq!(chosen.refused, None);
        assert_eq!(
            (chosen.set.id.as_str(), chosen.set.version.as_str()),
            ("omni-loop", "2.0.0")
        );
        assert!(chosen.set.en.without_findings.ends_with("Just the answer."));
    }

    #[test]
    fn whatever_is_wrong_the_built_in_words_are_there_and_it_is_said_why() {
        let built_in = PromptSet::built_in();
        let nothing = choose(None, Vec::new());
        assert!(nothing.refused.is_none() && nothing.set == built_in);
        let changed = TEXT.replacen("Your", "Yur", 1);
        for (files, name) in [
            (file(&changed), "wrong-digest: "),
            (file("format = 1\n"), "invalid-prompts: "),
            (file(&"#".repeat(MAX_FILE + 1)), "invalid-prompts: "),
            (Vec::new(), "io: "),
        ] {
            let chosen = choose(Some(&given(&built_in.sha256)), files);
            let refused = chosen.refused.unwrap();
            assert!(refused.starts_with(name), "{refused}");
            assert!(chosen.set == built_in);
        }
    }
}
