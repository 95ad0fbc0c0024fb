//! Whether a night's adapter is put to use. Pure.

use sarai_wire::night::{GateFigures, Likelihood, Measured};

/// What is asked of an adapter, as parts of what was measured without it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margins {
    /// Part by which the mean loss on held-out feedback must fall at the least.
    pub gain: f64,
    /// Part by which the mean loss on general texts may rise at the most.
    pub general: f64,
    /// How many of the questions that were answered right may be answered wrong.
    pub wrong: u32,
}

impl Default for Margins {
    fn default() -> Self {
        Self {
            gain: 0.02,
            general: 0.01,
            wrong: 1,
        }
    }
}

/// Means of the same texts before and after, nats a token; the sentence says why there are none.
fn means(before: &Likelihood, after: &Likelihood, of: &str) -> Result<(f64, f64), String> {
    if (before.tokens, before.texts) != (after.tokens, after.texts) {
        return Err(format!("the {of} was not measured on the same texts"));
    }
    let usable = |mean: &f64| mean.is_finite() && *mean >= 0.0;
    let both = before.mean().filter(usable).zip(after.mean().filter(usable));
    both.ok_or_else(|| format!("the {of} could not be measured"))
}

/// What was measured, for people.
#[must_use]
pub fn shown(figures: &GateFigures) -> String {
    let GateFigures { before, after } = figures;
    let mean = |likelihood: &Likelihood| {
        likelihood
            .mean()
            .map_or_else(|| "?".to_owned(), |mean| format!("{mean:.4}"))
    };
    format!(
        "held-out loss {} to {}, general loss {} to {}, right answers {} to {} of {}",
        mean(&before.held_out),
        mean(&after.held_out),
        mean(&before.general),
        mean(&after.general),
        before.right,
        after.right,
        after.asked
    )
}

/// Whether it helps enough and harms nothing; the sentence says why not.
///
/// # Errors
/// Why it is rejected.
pub fn decide(margins: &Margins, figures: &GateFigures) -> Result<(), String> {
    let GateFigures { before, after } = figures;
    let (was, is) = means(&before.held_out, &after.held_out, "loss on held-out feedback")?;
    if is > was * (1.0 - margins.gain) {
        return Err(format!(
            "the loss on held-out feedback went from {was:.4} to {is:.4}; it must fall by {} %",
            percent(margins.gain)
        ));
    }
    let (was, is) = means(&before.general, &after.general, "loss on general texts")?;
    if is > was * (1.0 + margins.general) {
        return Err(format!(
            "the loss on general texts went from {was:.4} to {is:.4}; it may rise by {} %",
            percent(margins.general)
        ));
    }
    answers(margins, before, after)
}

fn answers(margins: &Margins, before: &Measured, after: &Measured) -> Result<(), String> {
    if before.asked != after.asked || before.right > before.asked || after.right > after.asked {
        return Err("the questions were not the same".to_owned());
    }
    if before.right.saturating_sub(after.right) > margins.wrong {
        return Err(format!(
            "of {} questions {} were answered right and now {}; {} fewer may be",
            after.asked, before.right, after.right, margins.wrong
        ));
    }
    Ok(())
}

/// A part as a number of per cent, without needless digits.
fn percent(part: f64) -> f64 {
    (part * 1e4).round() / 1e2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn likelihood(mean: f64) -> Likelihood {
        Likelihood {
            nll: mean * 1000.0,
            tokens: 1000,
            texts: 10,
        }
    }

    fn measured(held_out: f64, general: f64, right: u32) -> Measured {
        Measured {
            held_out: likelihood(held_out),
            general: likelihood(general),
            asked: 20,
            right,
            seconds: 1.0,
        }
    }

    fn decided(before: Measured, after: Measured) -> Result<(), String> {
        decide(&Margins::default(), &GateFigures { before, after })
    }

    #[test]
    fn it_must_help_and_must_not_harm() {
        let before = measured(2.0, 3.0, 18);
        assert_eq!(decided(before, measured(1.95, 3.02, 17)), Ok(()));
        assert_eq!(decided(before, measured(1.96, 3.03, 18)), Ok(()));
        for (after, why) in [
            (
                measured(1.961, 3.0, 18),
                "held-out feedback went from 2.0000 to 1.9610; it must fall by 2 %",
            ),
            (measured(2.5, 3.0, 20), "held-out"),
            (
                measured(1.0, 3.031, 18),
                "general texts went from 3.0000 to 3.0310; it may rise by 1 %",
            ),
            (
                measured(1.0, 3.0, 16),
                "of 20 questions 18 were answered right and now 16; 1 fewer may be",
            ),
            (measured(f64::NAN, 3.0, 18), "could not be measured"),
            (measured(1.0, f64::INFINITY, 18), "could not be measured"),
            (measured(-1.0, 3.0, 18), "could not be measured"),
        ] {
            let refused = decided(before, after).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn what_was_not_measured_on_the_same_is_no_gain() {
        let before = measured(2.0, 3.0, 18);
        let mut fewer = measured(1.0, 3.0, 18);
        fewer.held_out.texts = 9;
        assert!(decided(before, fewer).unwrap_err().contains("same texts"));
        let mut none = measured(1.0, 3.0, 18);
        none.general = Likelihood::default();
        assert!(decided(before, none).unwrap_err().contains("same texts"));
        let nothing = Measured {
            held_out: Likelihood::default(),
            ..before
        };
        assert!(
            decided(nothing, nothing)
                .unwrap_err()
                .contains("could not be measured")
        );
        let mut other = measured(1.0, 3.0, 18);
        other.asked = 21;
        assert!(decided(before, other).unwrap_err().contains("questions"));
    }

    #[test]
    fn the_figures_are_said_in_one_line() {
        let figures = GateFigures {
            before: measured(2.0, 3.0, 18),
            after: measured(1.5, 3.01, 19),
        };
        assert_eq!(
            shown(&figures),
            "held-out loss 2.0000 to 1.5000, general loss 3.0000 to 3.0100, right answers 18 to 19 of 20"
        );
    }

    proptest! {
        /// What passes has gained what was asked and lost no more than may be lost, whatever the numbers.
        #[test]
        fn what_passes_keeps_what_was_asked(
            held in (0.0f64..10.0, 0.0f64..10.0), general in (0.0f64..10.0, 0.0f64..10.0),
            right in (0u32..=20, 0u32..=20), gain in 0.0f64..0.9, rise in 0.0f64..1.0, wrong in 0u32..20,
        ) {
            let margins = Margins { gain, general: rise, wrong };
            let figures = GateFigures {
                before: measured(held.0, general.0, right.0),
                after: measured(held.1, general.1, right.1),
            };
            let kept = held.1 <= held.0 * (1.0 - gain) + 1e-9
                && general.1 <= general.0 * (1.0 + rise) + 1e-9
                && right.0 <= right.1 + wrong;
            if decide(&margins, &figures).is_ok() {
                prop_assert!(kept);
            } else {
                prop_assert!(!kept || held.1 > held.0 * (1.0 - gain) - 1e-9 || general.1 > general.0 * (1.0 + rise) - 1e-9);
            }
        }
    }
}
