//! Bounds of what the supervisor starts an engine with.

use sarai_wire::adapter::{Adapter, is_digest};
use sarai_wire::birth::EngineStart;
use sarai_wire::bounds;

/// The parameters are out of bounds. Fits after "failed to".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use the parameters: {0}")]
pub struct BadParameters(String);

/// Checks the parameters.
///
/// # Errors
/// [`BadParameters`], naming the field and its bounds.
pub fn check(start: &EngineStart) -> Result<(), BadParameters> {
    let EngineStart {
        model,
        digest,
        params,
        adapter,
        // What is out of bounds among them is left out when they are used.
        batch_costs: _,
    } = start;
    let bad = |text: String| Err(BadParameters(text));
    if model.is_empty() || model.len() > 256 {
        return bad("the model id must be 1 to 256 bytes long".into());
    }
    if !is_digest(digest) {
        return bad("the digest must be 64 lower-case hex digits".into());
    }
    if let Some(adapter) = adapter {
        check_adapter(adapter).map_err(BadParameters)?;
    }
    for (name, value, bounds) in [
        ("context", params.context, bounds::CONTEXT),
        ("slots", params.slots, bounds::SLOTS),
        ("queue", params.queue, bounds::QUEUE),
        ("batch", params.batch, bounds::BATCH),
    ] {
        if !bounds.contains(&value) {
            let (least, most) = bounds.into_inner();
            return bad(format!("{name} is {value}, must be {least} to {most}"));
        }
    }
    let (least, most) = (*bounds::CONTEXT.start(), params.context);
    if let Some(reduced) = params.reduced
        && !(least..=most).contains(&reduced)
    {
        return bad(format!(
            "the reduced context is {reduced}, must be {least} to {most}, the context itself"
        ));
    }
    Ok(())
}

/// Checks what an adapter is called.
///
/// # Errors
/// What is wrong with it.
pub fn check_adapter(adapter: &Adapter) -> Result<(), String> {
    if !is_digest(&adapter.digest) {
        return Err("an adapter's digest must be 64 lower-case hex digits".into());
    }
    if adapter.version.is_empty() || adapter.version.len() > 256 {
        return Err("an adapter's version must be 1 to 256 bytes long".into());
    }
    Ok(())
}

/// Checks the context against what the model was trained for (0 when the file does not say).
///
/// # Errors
/// [`BadParameters`]: beyond it a model writes nonsense without any other sign.
pub fn check_trained(context: u32, trained: u32) -> Result<(), BadParameters> {
    if trained != 0 && context > trained {
        return Err(BadParameters(format!(
            "a context of {context} tokens exceeds the {trained} the model was trained for"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sarai_wire::birth::EngineParams;
    use std::ops::RangeInclusive;

    fn good() -> EngineStart {
        EngineStart {
            model: "m".into(),
            digest: "0".repeat(64),
            params: EngineParams::default(),
            adapter: None,
            batch_costs: None,
        }
    }

    fn refused(change: impl FnOnce(&mut EngineStart)) -> String {
        let mut start = good();
        change(&mut start);
        check(&start).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_pass_and_each_field_has_its_bounds() {
        check(&good()).unwrap();
        assert!(refused(|s| s.model.clear()).contains("model id"));
        assert!(refused(|s| s.digest = "A".repeat(64)).contains("digest"));
        assert!(refused(|s| s.digest.clear()).contains("digest"));
        let adapter = |digest: &str, version: &str| Adapter {
            digest: digest.into(),
            version: version.into(),
        };
        assert!(refused(|s| s.adapter = Some(adapter("x", "1"))).contains("adapter's digest"));
        assert!(refused(|s| s.adapter = Some(adapter(&"0".repeat(64), ""))).contains("version"));
        assert!(refused(|s| s.params.context = 0).contains("context is 0"));
        assert!(refused(|s| s.params.context = u32::MAX).contains("context"));
        assert!(refused(|s| s.params.slots = 0).contains("slots"));
        assert!(refused(|s| s.params.slots = 17).contains("slots"));
        assert!(refused(|s| s.params.queue = u32::MAX).contains("queue"));
        assert!(refused(|s| s.params.batch = 1).contains("batch"));
    }

    #[test]
    fn a_reduced_context_is_never_above_the_context_nor_below_the_least() {
        for reduced in [128, 1024, 2048] {
            let mut start = good();
            start.params.reduced = Some(reduced);
            check(&start).unwrap();
        }
        for reduced in [0, 127, 2049, u32::MAX] {
            let why = refused(|s| s.params.reduced = Some(reduced));
            assert!(
                why.contains(&format!("reduced context is {reduced}, must be 128 to 2048")),
                "{why}"
            );
        }
    }

    #[test]
    fn whatever_the_supervisor_lets_through_is_taken() {
        for end in [RangeInclusive::start, RangeInclusive::end] {
            let mut start = good();
            start.params.context = *end(&bounds::CONTEXT);
            start.params.slots = *end(&bounds::SLOTS);
            start.params.queue = *end(&bounds::QUEUE);
            start.params.batch = *end(&bounds::BATCH);
            check(&start).unwrap();
        }
    }

    #[test]
    fn a_context_beyond_the_training_is_refused() {
        check_trained(2048, 2048).unwrap();
        check_trained(2048, 0).unwrap();
        assert!(
            check_trained(4096, 2048)
                .unwrap_err()
                .to_string()
                .contains("4096")
        );
    }
}
