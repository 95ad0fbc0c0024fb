//! What the way up took: the supervisor's stages as a table.

use sarai_wire::control::{BootStage, BootStatus, GATEWAY_WITHIN_MS};

use crate::failure::Failure;
use crate::text::{Paint, table};

/// Prints the stages; fails once the gateway is known to have taken longer than promised.
pub fn run(boot: &BootStatus, json: bool) -> Result<(), Failure> {
    if json {
        crate::print_json(boot)?;
    } else {
        crate::print(&render(boot, Paint::stdout()))?;
    }
    match boot.gateway_ms {
        Some(took) if took > GATEWAY_WITHIN_MS => Err(Failure::failed(format!(
            "serve clients within {GATEWAY_WITHIN_MS:.0} ms of the supervisor's start: it took {took:.0} ms"
        ))),
        _ => Ok(()),
    }
}

fn render(boot: &BootStatus, paint: Paint) -> String {
    let row = |stage: &BootStage| {
        let took = match (stage.from_ms, stage.to_ms) {
            (Some(from), Some(to)) => format!("{:.0} ms", to - from),
            (Some(_), None) => "not yet".to_owned(),
            // The kernel's clock does not reach back to power-on.
            (None, _) if stage.name == "firmware" => "unknown".to_owned(),
            (None, _) => "not yet".to_owned(),
        };
        vec![
            stage.name.clone(),
            moment(stage.from_ms),
            moment(stage.to_ms),
            took,
        ]
    };
    let rows = boot.stages.iter().map(row).collect();
    let mut out = table(&["STAGE", "FROM", "TO", "TOOK"], rows, paint);
    let total = |took: Option<f64>| took.map_or("not yet".to_owned(), |ms| format!("{ms:.0} ms"));
    out.push_str(&format!(
        "\nfrom the supervisor's start: gateway listening {} (promised {GATEWAY_WITHIN_MS:.0} ms), ready {}\n",
        total(boot.gateway_ms),
        total(boot.ready_ms)
    ));
    out
}

/// Seconds since the kernel started.
fn moment(ms: Option<f64>) -> String {
    ms.map_or(String::new(), |ms| format!("{:.3} s", ms / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> BootStatus {
        let stage = |name: &str, from_ms, to_ms| BootStage {
            name: name.into(),
            from_ms,
            to_ms,
        };
        BootStatus {
            stages: vec![
                stage("firmware", None, None),
                stage("kernel", Some(0.0), Some(712.4)),
                stage("verify", Some(900.0), None),
            ],
            gateway_ms: Some(999.0),
            ready_ms: None,
        }
    }

    #[test]
    fn what_is_not_known_or_has_not_come_is_said() {
        let text = render(&boot(), Paint::off());
        for wanted in [
            "firmware",
            "unknown",
            "712 ms",
            "0.712 s",
            "not yet",
            "gateway listening 999 ms",
            "ready not yet",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is missing in:\n{text}");
        }
    }

    #[test]
    fn a_missed_promise_is_a_failure() {
        assert!(run(&boot(), false).is_ok());
        let slow = BootStatus {
            gateway_ms: Some(1000.5),
            ..boot()
        };
        assert!(
            run(&slow, true).unwrap_err().message.contains("took 1000 ms")
                || run(&slow, true).unwrap_err().message.contains("took 1001 ms")
        );
    }
}
