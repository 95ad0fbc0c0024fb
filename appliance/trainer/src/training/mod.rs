//! The course of a training: a data set is read and packed into rows, steps are made and judged, and whatever
//! interrupts it costs a few minutes at most. Nothing here knows what a model is: that is behind [`crate::learner`].

pub mod adamw;
pub mod checkpoint;
pub mod config;
pub mod control;
pub mod data;
pub mod meter;
pub mod output;
pub mod packing;
pub mod run;
pub mod schedule;
pub mod session;
mod shuffle;
pub mod state;

#[cfg(test)]
pub(crate) mod testing;

/// Lower-case hex digits of a digest.
#[must_use]
pub fn hex(digest: &[u8; 32]) -> String {
    digest.iter().fold(String::with_capacity(64), |text, byte| {
        text + &format!("{byte:02x}")
    })
}

/// The digest of 64 lower-case hex digits.
#[must_use]
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut digest = [0; 32];
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_lower_case_hex_digits() {
        let digest: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 8).unwrap());
        assert!(hex(&digest).starts_with("0008101820"));
        assert_eq!(unhex(&hex(&digest)), Some(digest));
        for wrong in ["", "00", &"A".repeat(64), &"é".repeat(32), &"0".repeat(65)] {
            assert_eq!(unhex(wrong), None);
        }
    }
}
