//! The words of the loop: a set of prompts, from the bytes of a file that others have verified, or built in.

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::critique::Language;

/// Largest file of prompts, bytes.
pub const MAX_FILE: usize = 64 * 1024;
/// Longest text of a set, bytes.
pub const MAX_TEXT: usize = 2 * 1024;
/// The format version this program reads.
const FORMAT: u32 = 1;

/// The set that is part of the program, as the file that is published signed.
const BUILT_IN: &str = include_str!("../prompts/omni-loop.prompts");
/// Its id.
const BUILT_IN_ID: &str = "built-in";

/// The words in one language.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// What stands before the findings.
    pub with_findings_before: String,
    /// What stands after them.
    pub with_findings_after: String,
    /// What asks for a check when nothing was found.
    pub without_findings: String,
}

/// A set of prompts and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptSet {
    /// Which set; `built-in` for the program's own.
    pub id: String,
    /// Its version for people.
    pub version: String,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// In English.
    pub en: Words,
    /// In Spanish.
    pub es: Words,
}

/// Why a file of prompts is not used. Fits after "failed to".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptsError {
    /// Larger than [`MAX_FILE`].
    #[error("read the prompts: {0} bytes exceed {MAX_FILE}")]
    TooLarge(usize),
    /// Not the TOML that was expected.
    #[error("read the prompts: {0}")]
    NotPrompts(String),
    /// A format version that this program does not know.
    #[error("read the prompts: format {0} is unknown, this program knows {FORMAT}")]
    UnknownFormat(u32),
    /// A text that is empty, too long, or holds what cannot be shown.
    #[error("read the prompts: {0}: 1 to {MAX_TEXT} bytes, not only blanks, without control characters")]
    WrongText(String),
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    en: Words,
    es: Words,
}

impl PromptSet {
    /// The set in `bytes`. Only for bytes whose digest and signature hold; `id` and `version` are the attestation's.
    ///
    /// # Errors
    /// When it is not such a set, or exceeds a bound.
    pub fn parse(id: &str, version: &str, bytes: &[u8]) -> Result<Self, PromptsError> {
        if bytes.len() > MAX_FILE {
            return Err(PromptsError::TooLarge(bytes.len()));
        }
        let file: File = std::str::from_utf8(bytes)
            .map_err(|e| PromptsError::NotPrompts(e.to_string()))
            .and_then(|text| {
                toml::from_str(text).map_err(|e| PromptsError::NotPrompts(e.message().to_owned()))
            })?;
        if file.format != FORMAT {
            return Err(PromptsError::UnknownFormat(file.format));
        }
        for (language, words) in [("en", &file.en), ("es", &file.es)] {
            words
                .check()
                .map_err(|name| PromptsError::WrongText(format!("{language}.{name}")))?;
        }
        Ok(Self {
            id: id.to_owned(),
            version: version.to_owned(),
            sha256: Sha256::digest(bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            en: file.en,
            es: file.es,
        })
    }

    /// The set that is part of the program.
    #[must_use]
    pub fn built_in() -> Self {
        #[expect(
            clippy::expect_used,
            reason = "the bytes are part of the program, and a test parses them"
        )]
        Self::parse(BUILT_IN_ID, env!("CARGO_PKG_VERSION"), BUILT_IN.as_bytes())
            .expect("the built-in prompts are a set of prompts")
    }

    /// The words in `language`.
    #[must_use]
    pub fn words(&self, language: Language) -> &Words {
        match language {
            Language::English => &self.en,
            Language::Spanish => &self.es,
        }
    }
}

impl Words {
    /// The name of the first text that is out of bounds.
    fn check(&self) -> Result<(), &'static str> {
        let texts = [
            ("with_findings_before", &self.with_findings_before),
            ("with_findings_after", &self.with_findings_after),
            ("without_findings", &self.without_findings),
        ];
        let wrong = |text: &str| {
            text.trim().is_empty()
                || text.len() > MAX_TEXT
                || text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t'))
        };
        match texts.into_iter().find(|(_, text)| wrong(text)) {
            Some((name, _)) => Err(name),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_built_in_set_is_the_published_file() {
        let built_in = PromptSet::built_in();
        assert_eq!(built_in.id, "built-in");
        let published = PromptSet::parse("omni-loop", "1.0.0", BUILT_IN.as_bytes()).unwrap();
        assert_eq!((&published.en, &published.es), (&built_in.en, &built_in.es));
        assert_eq!(published.sha256, built_in.sha256);
        assert!(
            built_in
                .en
                .with_findings_before
                .starts_with("Your last answer has")
        );
        assert!(
            built_in
                .es
                .without_findings
                .starts_with("Comprueba tu última respuesta: ¿")
        );
        assert_ne!(
            built_in.words(Language::English),
            built_in.words(Language::Spanish)
        );
    }

    fn why(text: &str) -> String {
        PromptSet::parse("x", "1", text.as_bytes())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn every_text_is_required_and_bounded_and_nothing_else_is_known() {
        let whole = BUILT_IN;
        for name in ["with_findings_before", "with_findings_after", "without_findings"] {
            let start = whole.find(&format!("\n{name} =")).unwrap() + 1;
            let end = start + whole[start..].find('\n').unwrap();
            let missing = format!("{}{}", &whole[..start], &whole[end..]);
            assert!(why(&missing).contains(name), "{name}");
            for text in ["", "  \\n", "a\\u001bb", &"x".repeat(MAX_TEXT + 1)] {
                let wrong = format!("{}{name} = \"{text}\"{}", &whole[..start], &whole[end..]);
                assert!(why(&wrong).contains(&format!("en.{name}: ")), "{name} {text:?}");
            }
        }
        assert!(why(&format!("{whole}more = \"x\"\n")).contains("more"));
        assert!(why(&format!("{whole}[fr]\n")).contains("fr"));
        assert!(why(&whole.replace("format = 1", "format = 2")).contains("format 2 is unknown"));
        assert!(why(&whole.replace("format = 1", "")).contains("format"));
        assert!(why(&whole[..whole.find("[es]").unwrap()]).contains("es"));
        assert!(why("").contains("read the prompts"));
        assert!(why(&"#".repeat(MAX_FILE + 1)).contains("exceed"));
        assert!(PromptSet::parse("x", "1", b"\xff").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = PromptSet::parse("x", "1", &bytes);
        }
    }
}
