//! Requantisation of a model file, for the project's own smaller models.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use llama_cpp_sys_2 as sys;

use super::LlamaError;
use super::backend::{Backend, take_complaints};

/// The types by name.
const TYPES: [(&str, sys::llama_ftype); 16] = [
    ("F16", sys::LLAMA_FTYPE_MOSTLY_F16),
    ("BF16", sys::LLAMA_FTYPE_MOSTLY_BF16),
    ("Q8_0", sys::LLAMA_FTYPE_MOSTLY_Q8_0),
    ("Q6_K", sys::LLAMA_FTYPE_MOSTLY_Q6_K),
    ("Q5_0", sys::LLAMA_FTYPE_MOSTLY_Q5_0),
    ("Q5_1", sys::LLAMA_FTYPE_MOSTLY_Q5_1),
    ("Q5_K_S", sys::LLAMA_FTYPE_MOSTLY_Q5_K_S),
    ("Q5_K_M", sys::LLAMA_FTYPE_MOSTLY_Q5_K_M),
    ("Q4_0", sys::LLAMA_FTYPE_MOSTLY_Q4_0),
    ("Q4_1", sys::LLAMA_FTYPE_MOSTLY_Q4_1),
    ("Q4_K_S", sys::LLAMA_FTYPE_MOSTLY_Q4_K_S),
    ("Q4_K_M", sys::LLAMA_FTYPE_MOSTLY_Q4_K_M),
    ("IQ4_NL", sys::LLAMA_FTYPE_MOSTLY_IQ4_NL),
    ("IQ4_XS", sys::LLAMA_FTYPE_MOSTLY_IQ4_XS),
    ("Q3_K_M", sys::LLAMA_FTYPE_MOSTLY_Q3_K_M),
    ("Q2_K", sys::LLAMA_FTYPE_MOSTLY_Q2_K),
];

/// A quantisation type that [`quantise`] can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Type(sys::llama_ftype);

impl Type {
    /// The type called `name` (`Q4_0`, `IQ4_NL`, …; case does not matter).
    pub fn parse(name: &str) -> Option<Self> {
        TYPES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, kind)| Self(*kind))
    }

    /// Every name [`Type::parse`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TYPES.iter().map(|(name, _)| *name)
    }
}

/// Writes the model at `from` to `to` as `kind`. The same input makes the same bytes, however many threads work.
///
/// # Errors
/// [`LlamaError::Quantise`] with llama.cpp's own words; `to` may then hold a part.
pub fn quantise(
    _backend: &Backend,
    from: &Path,
    to: &Path,
    kind: Type,
    threads: usize,
) -> Result<(), LlamaError> {
    let path = |path: &Path| {
        CString::new(path.as_os_str().as_bytes())
            .map_err(|_| LlamaError::Quantise("a path holds a zero byte".into()))
    };
    let (from, to) = (path(from)?, path(to)?);
    take_complaints();
    // SAFETY: returns a plain struct by value.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.nthread = i32::try_from(threads).unwrap_or(1);
    params.ftype = kind.0;
    params.allow_requantize = true;
    // SAFETY: both paths are C strings and `params` is valid during the call; exceptions are caught by the callee.
    let status = unsafe { sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params) };
    if status == 0 {
        Ok(())
    } else {
        Err(LlamaError::Quantise(
            take_complaints().trim_start_matches(": ").to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_to_itself_and_others_are_not() {
        for name in Type::names() {
            assert!(Type::parse(name).is_some() && Type::parse(&name.to_lowercase()).is_some());
        }
        assert_eq!(Type::parse("Q9_9"), None);
    }
}
