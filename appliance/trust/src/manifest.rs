//! `models-manifest.toml`: which models each profile runs, where they come from, under which licence, and the
//! digest that pins each.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, Expect, Kind, TrustError, document_name, is_id, store};

/// Largest manifest, bytes.
pub const MAX_MANIFEST: u64 = 256 * 1024;
/// Most models of one profile.
const MAX_MODELS: usize = 16;

/// All profiles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    version: u32,
    profiles: BTreeMap<String, Profile>,
}

/// What one profile runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name; the key in the file.
    #[serde(skip_deserializing)]
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Its models: one primary, at most one of each other role.
    pub models: Vec<Entry>,
    /// The words of its Omni-Loop; the program's own without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Prompts>,
}

/// A file of prompts. It comes with the source tree and not from a third party, so that its signature vouches for it
/// and a pin is only for those who want one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompts {
    /// The id its attestation must have.
    pub id: String,
    /// File name in the model store.
    pub file: String,
    /// SHA-256 that its attestation must state, if that is to be one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

impl Prompts {
    /// What its attestation must say.
    #[must_use]
    pub fn expect(&self, now: Timestamp, highest_seen: u64) -> Expect<'_> {
        Expect {
            kind: Kind::Prompts,
            id: Some(&self.id),
            sha256: self.sha256,
            base: None,
            now,
            highest_seen,
        }
    }
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Answers.
    Primary,
    /// Answers when the primary cannot.
    Fallback,
    /// Turns images and sound into the primary's embeddings.
    Projector,
}

impl Role {
    /// `primary`, `fallback` or `projector`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Fallback => "fallback",
            Self::Projector => "projector",
        }
    }

    /// The kind of artifact that plays it.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Primary | Self::Fallback => Kind::Model,
            Self::Projector => Kind::Projector,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One model of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is for.
    pub role: Role,
    /// The id its attestation must have.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// File name in the model store.
    pub file: String,
    /// Size, bytes; set together with the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256 that its attestation must state. Without one the entry is refused; see [`Profile::pinned`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Licence of the weights: an SPDX identifier or `LicenseRef-…`.
    pub licence: String,
    /// Where the licence is written.
    pub licence_url: String,
    /// Context of one request, tokens; a projector has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// KV cache of one token at 16-bit floats, bytes; goes into the attestation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_per_token: Option<u64>,
    /// Where it comes from.
    pub source: Source,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type", deny_unknown_fields)]
pub enum Source {
    /// A member of a wheel on the Python Package Index.
    Pypi {
        /// Package.
        package: String,
        /// Exact version.
        version: String,
        /// File name of the wheel.
        wheel: String,
        /// SHA-256 of the wheel.
        wheel_sha256: Digest,
        /// Path of the model inside of it.
        member: String,
    },
    /// Another model of the profile, quantised again by the project's own tool.
    Derived {
        /// Id of that model.
        from: String,
        /// Name of the quantisation, such as `Q4_0`.
        quantisation: String,
    },
    /// A file on the web.
    Url {
        /// Where; HTTPS only.
        url: String,
    },
}

impl Manifest {
    /// Parses and checks a manifest.
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        if text.len() as u64 > MAX_MANIFEST {
            return Err(invalid(format!("{} bytes exceed {MAX_MANIFEST}", text.len())));
        }
        let mut manifest: Self = toml::from_str(text).map_err(|e| invalid(e.to_string().trim_end()))?;
        if manifest.version != 1 {
            return Err(invalid(format!(
                "version {} is unknown, this program knows 1",
                manifest.version
            )));
        }
        for (name, profile) in &mut manifest.profiles {
            profile.name.clone_from(name);
            profile
                .check()
                .map_err(|reason| invalid(format!("profile {name:?}: {reason}")))?;
        }
        Ok(manifest)
    }

    /// Reads and parses the manifest at `path`.
    pub fn load(path: &Path) -> Result<Self, TrustError> {
        let bytes = store::read_bounded(path, MAX_MANIFEST)?
            .ok_or_else(|| invalid(format!("it exceeds {MAX_MANIFEST} bytes")))?;
        Self::parse(std::str::from_utf8(&bytes).map_err(invalid)?)
    }

    /// The profile called `name`.
    pub fn profile(&self, name: &str) -> Result<&Profile, TrustError> {
        self.profiles.get(name).ok_or_else(|| TrustError::UnknownProfile {
            name: name.to_owned(),
            known: self.profiles.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// All profiles by name.
    pub fn profiles(&self) -> impl Iterator<Item = &Profile> {
        self.profiles.values()
    }
}

impl Profile {
    /// The entry that plays a role.
    #[must_use]
    pub fn entry(&self, role: Role) -> Option<&Entry> {
        self.models.iter().find(|entry| entry.role == role)
    }

    /// The digest that pins an entry, or `not-pinned` with what to do about it.
    pub fn pinned(&self, entry: &Entry) -> Result<Digest, TrustError> {
        entry.sha256.ok_or_else(|| TrustError::NotPinned {
            profile: self.name.clone(),
            id: entry.id.clone(),
        })
    }

    /// What the attestation of an entry must say; `not-pinned` if it has no digest.
    pub fn expect<'a>(
        &self,
        entry: &'a Entry,
        now: Timestamp,
        highest_seen: u64,
    ) -> Result<Expect<'a>, TrustError> {
        let sha256 = Some(self.pinned(entry)?);
        Ok(Expect {
            kind: entry.role.kind(),
            id: Some(&entry.id),
            sha256,
            base: None,
            now,
            highest_seen,
        })
    }

    fn check(&self) -> Result<(), String> {
        if self.models.len() > MAX_MODELS {
            return Err(format!("more than {MAX_MODELS} models"));
        }
        if self.entry(Role::Primary).is_none() {
            return Err("it has no primary model".into());
        }
        for (n, entry) in self.models.iter().enumerate() {
            let earlier = &self.models[..n];
            let about = |reason: &str| format!("{:?}: {reason}", entry.id);
            if !is_id(&entry.id) || earlier.iter().any(|e| e.id == entry.id) {
                return Err(about("this is no id, or it is there twice"));
            }
            if earlier.iter().any(|e| e.role == entry.role) {
                return Err(about("its role is taken"));
            }
            let document = document_name(&entry.file).ok_or_else(|| about("file must be one plain name"))?;
            if earlier
                .iter()
                .any(|e| document_name(&e.file).as_ref() == Some(&document))
            {
                return Err(about("its file or document is another entry's"));
            }
            if entry.size == Some(0) || (entry.sha256.is_some() && entry.size.is_none()) {
                return Err(about("a digest needs a size, and no size is 0"));
            }
            if entry.context.is_some() != (entry.role.kind() == Kind::Model) {
                return Err(about("models have a context, projectors none"));
            }
            if entry.kv_per_token.is_some() && entry.role.kind() != Kind::Model {
                return Err(about("only models have kv_per_token"));
            }
            if entry.context.is_some_and(|c| !(256..=1_048_576).contains(&c)) {
                return Err(about("context: 256 to 1048576 tokens"));
            }
            self.check_source(entry).map_err(|reason| about(&reason))?;
        }
        self.check_prompts()
    }

    fn check_prompts(&self) -> Result<(), String> {
        let Some(prompts) = &self.prompts else {
            return Ok(());
        };
        if !is_id(&prompts.id) || self.models.iter().any(|e| e.id == prompts.id) {
            return Err("prompts: their id is no id, or a model's".into());
        }
        let document = document_name(&prompts.file).ok_or("prompts: file must be one plain name")?;
        if self
            .models
            .iter()
            .any(|e| document_name(&e.file).as_ref() == Some(&document))
        {
            return Err("prompts: their file or document is a model's".into());
        }
        Ok(())
    }

    /// Sources become arguments of programs and members of URLs: plain words only.
    fn check_source(&self, entry: &Entry) -> Result<(), String> {
        match &entry.source {
            Source::Pypi {
                package,
                version,
                wheel,
                member,
                ..
            } => {
                if ![package, version, wheel].into_iter().all(|text| is_id(text)) {
                    return Err("source: package, version and wheel must be plain words".into());
                }
                if member.is_empty() || !member.split('/').all(is_id) {
                    return Err("source: member must be a plain relative path".into());
                }
            }
            Source::Derived { from, quantisation } => {
                let base = self.models.iter().find(|e| e.id == *from);
                if !base.is_some_and(|base| !matches!(base.source, Source::Derived { .. })) {
                    return Err("source: it must be derived from a model of the profile that is not".into());
                }
                if !is_id(quantisation) {
                    return Err("source: quantisation must be a plain word".into());
                }
            }
            Source::Url { url } => {
                if !url.starts_with("https://") || !url.bytes().all(|b| b.is_ascii_graphic()) {
                    return Err("source: url must begin with https:// and have no blanks".into());
                }
            }
        }
        Ok(())
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "reads well as an argument of map_err"
)]
fn invalid(reason: impl ToString) -> TrustError {
    TrustError::InvalidManifest {
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests;
