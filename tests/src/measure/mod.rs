//! What benches and the soak measure with.
//!
//! | module | gives |
//! | --- | --- |
//! | [`memory`] | memory of an appliance: a cgroup made for it, or its processes one by one |
//! | [`machine`] | cores of this machine and how fast its memory is |
//! | [`figures`] | tables of figures with promises, as text and JSON |
//! | [`arguments`] | options of the programs, each with a value |

pub mod arguments;
pub mod figures;
pub mod machine;
pub mod memory;

/// The value that a share `q` of the values does not exceed (nearest rank); `NaN` of nothing.
#[must_use]
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank among far fewer than 2^52 values"
    )]
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

/// The middle value.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Bytes as GiB.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "sizes of memory stay below 2^52")]
pub fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Bytes as MiB.
#[must_use]
pub fn mib(bytes: u64) -> f64 {
    gib(bytes) * 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5), 50.0);
        assert_eq!(quantile(&values, 0.99), 99.0);
        assert_eq!(quantile(&values, 1.0), 100.0);
        assert_eq!(quantile(&[7.0], 0.5), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
