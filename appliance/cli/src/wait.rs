//! Waits until the appliance serves, and says what it waits for.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sarai_wire::control::{ServiceState, Status};

use crate::failure::{Failure, Kind};
use crate::text::{clean, duration};
use crate::{discover, status};

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a hopeless state must last before it is believed: at boot, states follow each other quickly.
const HOPELESS: Duration = Duration::from_secs(3);

/// Waits at most `timeout` seconds; looks once even with 0.
pub fn run(socket: Option<&Path>, timeout: u64) -> Result<(), Failure> {
    let start = Instant::now();
    let end = start + Duration::from_secs(timeout);
    let mut progress = Progress::new(start);
    let mut hopeless_since: Option<Instant> = None;
    loop {
        let waiting_for = match discover::connect(socket).and_then(|mut client| client.status()) {
            Ok(status) if status.ready => {
                progress.end(&format!("ready after {}", duration(start.elapsed().as_secs())));
                return Ok(());
            }
            Ok(status) => {
                match hopeless(&status) {
                    Some(why) => {
                        let since = *hopeless_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= HOPELESS {
                            progress.end("");
                            return Err(Failure::refused(format!(
                                "it will not become ready by itself: {why}"
                            )));
                        }
                    }
                    None => hopeless_since = None,
                }
                what_is_missing(&status)
            }
            // Not there yet is what waiting is for; no permission or a wrong answer will not go away.
            Err(failure) if failure.kind == Kind::NotReady => "the supervisor".to_owned(),
            Err(failure) => {
                progress.end("");
                return Err(failure);
            }
        };
        progress.show(&waiting_for);
        if Instant::now() >= end {
            progress.end("");
            let after = duration(timeout);
            return Err(Failure::not_ready(format!(
                "not ready after {after}: still waiting for {waiting_for}"
            )));
        }
        std::thread::sleep(PAUSE.min(end.saturating_duration_since(Instant::now())));
    }
}

/// What a machine that is not ready lacks, as a phrase after "waiting for".
fn what_is_missing(status: &Status) -> String {
    let missing: Vec<String> = status
        .services
        .iter()
        .filter(|s| s.state != ServiceState::Ready)
        .map(|s| {
            let exit = s
                .last_exit
                .as_ref()
                .map_or(String::new(), |e| format!(", last: {}", clean(e, false)));
            format!(
                "{} ({}{exit})",
                clean(&s.name, false),
                status::state_name(s.state)
            )
        })
        .collect();
    if missing.is_empty() {
        "the first service".to_owned()
    } else {
        missing.join(", ")
    }
}

/// Why the machine cannot become ready without the admin: every engine stopped, or the processor too old.
fn hopeless(status: &Status) -> Option<String> {
    if !status.cpu.floor_met {
        return Some("the processor lacks instructions the engine needs (AVX2, FMA, F16C, BMI2)".to_owned());
    }
    let mut engines = status
        .services
        .iter()
        .filter(|s| s.name.starts_with("engine"))
        .peekable();
    engines.peek()?;
    if engines.any(|s| s.state != ServiceState::Stopped) {
        return None;
    }
    let refusals: Vec<String> = status
        .models
        .iter()
        .filter_map(|m| {
            m.refused
                .as_ref()
                .map(|why| format!("{}: {}", clean(&m.file, false), clean(why, false)))
        })
        .collect();
    Some(if refusals.is_empty() {
        "every engine is stopped".to_owned()
    } else {
        refusals.join("; ")
    })
}

/// A spinner on a terminal; on a console and elsewhere one line for each change.
struct Progress {
    bar: Option<ProgressBar>,
    start: Instant,
    shown: String,
}

impl Progress {
    fn new(start: Instant) -> Self {
        let bar = (std::io::stderr().is_terminal() && paintable()).then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed:>4} waiting for {wide_msg}");
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self {
            bar,
            start,
            shown: String::new(),
        }
    }

    fn show(&mut self, waiting_for: &str) {
        if self.shown == waiting_for {
            return;
        }
        waiting_for.clone_into(&mut self.shown);
        match &self.bar {
            Some(bar) => bar.set_message(waiting_for.to_owned()),
            None => say(&format!(
                "{:>5} waiting for {waiting_for}",
                duration(self.start.elapsed().as_secs())
            )),
        }
    }

    fn end(&mut self, text: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if !text.is_empty() {
            say(text);
        }
    }
}

/// Whether a line may be painted over. Not on consoles: a serial line is slow, and somebody may be recording it.
fn paintable() -> bool {
    std::env::var("TERM")
        .is_ok_and(|term| !term.is_empty() && term != "dumb" && term != "linux" && !term.starts_with("vt"))
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use sarai_wire::control::{
        CoresStatus, CpuStatus, MemoryStatus, ModelStatus, PromptsStatus, ServiceStatus,
    };

    fn service(name: &str, state: ServiceState) -> ServiceStatus {
        ServiceStatus {
            name: name.into(),
            state,
            pid: None,
            restarts: 0,
            last_exit: None,
            cpus: vec![],
            rss: None,
            last_pong_ms: None,
            user: "engine".into(),
            sandbox: Vec::new(),
        }
    }

    fn status(services: Vec<ServiceStatus>) -> Status {
        Status {
            version: "0".into(),
            mode: "native".into(),
            profile: "tiny".into(),
            ready: false,
            uptime_s: 0,
            boot: Default::default(),
            announced: None,
            ssh_fingerprint: None,
            hostname: "h".into(),
            urls: vec![],
            ca_fingerprint: None,
            ca_path: None,
            cpu: CpuStatus {
                count: 1,
                features: vec![],
                floor_met: true,
            },
            memory: MemoryStatus {
                total: 1,
                available: 1,
                current: None,
                budget: None,
                oom_kills: None,
            },
            cores: CoresStatus::default(),
            groups: vec![],
            ladder: Default::default(),
            models: vec![],
            prompts: PromptsStatus::default(),
            training: None,
            services,
            problems: vec![],
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_state() {
        let mut dead = service("engine-primary", ServiceState::Backoff);
        dead.last_exit = Some("exit 1".into());
        let status = status(vec![dead, service("gateway", ServiceState::Ready)]);
        assert_eq!(what_is_missing(&status), "engine-primary (backoff, last: exit 1)");
    }

    #[test]
    fn one_engine_that_may_still_come_is_hope() {
        use ServiceState::{CrashLoop, Stopped};
        let mut none = status(vec![
            service("engine-primary", Stopped),
            service("engine-fallback", Stopped),
        ]);
        none.models.push(ModelStatus {
            role: "primary".into(),
            file: "m.gguf".into(),
            model: None,
            version: None,
            digest: None,
            signer: None,
            verified_by: None,
            refused: Some("NoSignature: …".into()),
            adapter: None,
        });
        assert_eq!(hopeless(&none).unwrap(), "m.gguf: NoSignature: …");
        none.services[1].state = CrashLoop;
        assert_eq!(hopeless(&none), None);
        assert_eq!(hopeless(&status(vec![])), None);
        let old = Status {
            cpu: CpuStatus {
                count: 1,
                features: vec![],
                floor_met: false,
            },
            ..status(vec![])
        };
        assert!(hopeless(&old).is_some());
    }
}
