//! The state of the machine for a person: problems first, then what runs.

use sarai_wire::control::{
    CoresStatus, CpuPlace, GroupStatus, ModelStatus, PromptsStatus, ServiceState, ServiceStatus, Status,
};

use crate::text::{Paint, clean, cpus, duration, painted_table, size};

/// The whole state.
pub fn render(status: &Status, paint: Paint) -> String {
    let mut out = String::new();
    let health = if status.ready {
        paint.good("ready")
    } else {
        paint.busy("not ready")
    };
    let line = format!(
        "{} {}, {}, profile {}, up {}: ",
        clean(&status.hostname, false),
        clean(&status.version, false),
        clean(&status.mode, false),
        clean(&status.profile, false),
        duration(status.uptime_s)
    );
    out.push_str(&paint.bold(&line));
    out.push_str(&health);
    out.push('\n');
    for problem in &status.problems {
        out.push_str(&paint.bad(&format!("! {}", clean(problem, false))));
        out.push('\n');
    }
    out.push('\n');
    let mut fact = |name: &str, value: String| {
        out.push_str(&paint.dim(&format!("{name:<13}")));
        out.push_str(&value);
        out.push('\n');
    };
    if status.urls.is_empty() {
        fact("address", paint.busy("none yet"));
    }
    for (index, url) in status.urls.iter().enumerate() {
        fact(if index == 0 { "address" } else { "" }, clean(url, false));
    }
    if let Some(name) = &status.announced {
        fact("", clean(name, false));
    }
    if let Some(fingerprint) = &status.ca_fingerprint {
        fact("certificate", clean(fingerprint, false));
    }
    if let Some(path) = &status.ca_path {
        fact("", clean(path, false));
    }
    if let Some(fingerprint) = &status.ssh_fingerprint {
        fact("ssh", clean(fingerprint, false));
    }
    let features: Vec<String> = status.cpu.features.iter().map(|f| clean(f, false)).collect();
    let floor = if status.cpu.floor_met {
        ""
    } else {
        ": below the floor (AVX2, FMA, F16C, BMI2)"
    };
    fact(
        "processor",
        format!(
            "{} CPUs, {}{}",
            status.cpu.count,
            features.join(" "),
            paint.bad(floor)
        ),
    );
    if !status.cores.cpus.is_empty() {
        fact("cores", render_cores(&status.cores));
    }
    for note in &status.cores.notes {
        fact("", paint.dim(&clean(note, false)));
    }
    let budget = status
        .memory
        .budget
        .map_or(String::new(), |bytes| format!(" of {}", size(bytes)));
    let used = status.memory.current.map_or(String::new(), |bytes| {
        format!("{} used here{budget}, ", size(bytes))
    });
    fact(
        "memory",
        format!(
            "{used}{} of {} available",
            size(status.memory.available),
            size(status.memory.total)
        ),
    );
    for (index, line) in crate::ladder::render(&status.ladder, paint)
        .into_iter()
        .enumerate()
    {
        fact(if index == 0 { "ladder" } else { "" }, line);
    }
    fact("prompts", render_prompts(&status.prompts, paint));
    if let Some(training) = &status.training {
        fact("nights", crate::training::line(training, paint));
    }
    out.push('\n');
    out.push_str(&render_services(&status.services, paint));
    out.push_str(&crate::sandboxes::render(&status.services, paint));
    out.push('\n');
    out.push_str(&render_models(&status.models, paint));
    if !status.groups.is_empty() {
        out.push('\n');
        out.push_str(&render_groups(&status.groups, paint));
    }
    out
}

/// Whose CPUs are which: `engines 1-3 (performance, isolated partition), house 0, idle 5-7`.
fn render_cores(cores: &CoresStatus) -> String {
    let of = |owner: &str| -> Vec<&CpuPlace> { cores.cpus.iter().filter(|cpu| cpu.owner == owner).collect() };
    let list = |places: &[&CpuPlace]| cpus(&places.iter().map(|place| place.cpu).collect::<Vec<_>>());
    let shared = of("shared");
    if !shared.is_empty() {
        return format!("{} shared by engines and house", list(&shared));
    }
    let mut parts = Vec::new();
    let engine = of("engine");
    if let Some(first) = engine.first() {
        parts.push(format!(
            "engines {} ({}, one thread a core, {})",
            list(&engine),
            clean(&first.kind, false),
            clean(&cores.kept, false)
        ));
    }
    for owner in ["house", "idle"] {
        let places = of(owner);
        if !places.is_empty() {
            parts.push(format!("{owner} {}", list(&places)));
        }
    }
    parts.join(", ")
}

/// The groups as a table.
fn render_groups(groups: &[GroupStatus], paint: Paint) -> String {
    let bytes = |value: Option<u64>| value.map_or(String::new(), size);
    let count = |value: Option<u64>| value.map_or(String::new(), |n| n.to_string());
    let row = |g: &GroupStatus| {
        vec![
            g.name.clone(),
            bytes(g.memory),
            bytes(g.most),
            bytes(g.limit),
            count(g.oom_kills),
            count(g.processes),
            count(g.refused),
        ]
    };
    painted_table(
        &[
            "GROUP",
            "MEMORY",
            "MOST",
            "LIMIT",
            "OUT OF MEMORY",
            "PROCESSES",
            "REFUSED",
        ],
        groups.iter().map(row).collect(),
        paint,
        |row, column, text| match column {
            4 if groups[row].oom_kills.is_some_and(|n| n > 0) => paint.bad(&text),
            6 if groups[row].refused.is_some_and(|n| n > 0) => paint.bad(&text),
            _ => text,
        },
    )
}

/// The words of the Omni-Loop: which, by whom, and why not the profile's.
fn render_prompts(prompts: &PromptsStatus, paint: Paint) -> String {
    let used = match (&prompts.id, &prompts.version) {
        (Some(id), Some(version)) => format!("{} {}", clean(id, false), clean(version, false)),
        _ => paint.busy("not known yet"),
    };
    let signer = prompts.signer.as_ref().map_or(String::new(), |signer| {
        format!(", signed by {}", clean(signer, false))
    });
    let refused = prompts.refused.as_ref().map_or(String::new(), |reason| {
        let file = prompts.file.as_deref().unwrap_or("file");
        let text = format!("; {} refused: {}", clean(file, false), clean(reason, false));
        paint.bad(&text)
    });
    format!("{used}{signer}{refused}")
}

/// The word for a state.
pub fn state_name(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Waiting => "waiting",
        ServiceState::Starting => "starting",
        ServiceState::Ready => "ready",
        ServiceState::Stopping => "stopping",
        ServiceState::Backoff => "backoff",
        ServiceState::CrashLoop => "crash-loop",
        ServiceState::Stopped => "stopped",
    }
}

/// The services as a table.
fn render_services(services: &[ServiceStatus], paint: Paint) -> String {
    let row = |s: &ServiceStatus| {
        vec![
            s.name.clone(),
            state_name(s.state).to_owned(),
            s.pid.map_or(String::new(), |pid| pid.to_string()),
            s.user.clone(),
            cpus(&s.cpus),
            s.rss.map_or(String::new(), size),
            s.restarts.to_string(),
            s.last_pong_ms.map_or(String::new(), pong),
            s.last_exit.clone().unwrap_or_default(),
        ]
    };
    painted_table(
        &[
            "SERVICE",
            "STATE",
            "PID",
            "USER",
            "CPUS",
            "MEMORY",
            "RESTARTS",
            "ANSWERED",
            "LAST EXIT",
        ],
        services.iter().map(row).collect(),
        paint,
        |row, column, text| match (column, services[row].state) {
            (1, ServiceState::Ready) => paint.good(&text),
            (1, ServiceState::CrashLoop | ServiceState::Stopped) => paint.bad(&text),
            (1, _) => paint.busy(&text),
            _ => text,
        },
    )
}

fn pong(ms: u64) -> String {
    if ms < 1000 {
        "just now".to_owned()
    } else {
        format!("{} ago", duration(ms / 1000))
    }
}

/// The models as a table, with the reason of each refusal in full below it.
pub fn render_models(models: &[ModelStatus], paint: Paint) -> String {
    if models.is_empty() {
        return paint.busy("no models\n");
    }
    let row = |m: &ModelStatus| {
        let state = match (&m.refused, &m.verified_by) {
            (Some(_), _) => "refused".to_owned(),
            (None, Some(method)) => format!("verified ({method})"),
            (None, None) => "not checked yet".to_owned(),
        };
        vec![
            m.role.clone(),
            m.model.clone().unwrap_or_else(|| m.file.clone()),
            m.version.clone().unwrap_or_default(),
            state,
            m.signer.clone().unwrap_or_default(),
        ]
    };
    let mut out = painted_table(
        &["MODEL", "ID", "VERSION", "STATE", "SIGNED BY"],
        models.iter().map(row).collect(),
        paint,
        |row, column, text| match (column, &models[row].refused, &models[row].verified_by) {
            (3, Some(_), _) => paint.bad(&text),
            (3, None, Some(_)) => paint.good(&text),
            (3, ..) => paint.busy(&text),
            _ => text,
        },
    );
    for model in models {
        if let Some(adapter) = &model.adapter {
            out.push_str(&format!(
                "  {} with the adapter {} {}\n",
                clean(&model.role, false),
                clean(adapter.short(), false),
                clean(&adapter.version, false)
            ));
        }
        if let Some(reason) = &model.refused {
            let line = format!(
                "! {} refused: {}",
                clean(&model.file, false),
                clean(reason, false)
            );
            out.push_str(&paint.bad(&line));
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use sarai_wire::control::{CpuStatus, LadderStatus, MemoryStatus, MoveStatus, RungStatus};
    use sarai_wire::memory::Rung;

    fn status() -> Status {
        Status {
            version: "0.1.0".into(),
            mode: "native".into(),
            profile: "tiny".into(),
            ready: false,
            uptime_s: 200,
            boot: Default::default(),
            hostname: "sarai".into(),
            announced: Some("sarai.local".into()),
            urls: vec!["https://127.0.0.1:8443".into(), "https://10.0.0.7:8443".into()],
            ca_fingerprint: Some("AB:CD".into()),
            ssh_fingerprint: Some("SHA256:abc".into()),
            ca_path: Some("/run/sarai/ca.crt".into()),
            cpu: CpuStatus {
                count: 2,
                features: vec!["avx2".into(), "fma".into()],
                floor_met: true,
            },
            memory: MemoryStatus {
                total: 8 << 30,
                available: 5 << 30,
                current: Some(300 << 20),
                budget: Some(1 << 30),
                oom_kills: Some(0),
            },
            cores: CoresStatus {
                cpus: [(0, "house"), (1, "engine"), (2, "engine"), (3, "idle")]
                    .into_iter()
                    .map(|(cpu, owner)| CpuPlace {
                        cpu,
                        core: cpu,
                        kind: "performance".into(),
                        node: 0,
                        cache: None,
                        owner: owner.into(),
                    })
                    .collect(),
                kept: "isolated partition".into(),
                notes: vec!["no word about caches".into()],
            },
            groups: vec![GroupStatus {
                name: "trainer".into(),
                memory: Some(3 << 20),
                most: Some(5 << 20),
                limit: Some(4 << 30),
                oom_kills: Some(2),
                processes: Some(64),
                refused: Some(917),
            }],
            ladder: LadderStatus {
                rung: Rung::HalfContext,
                since_s: 75,
                reason: "970.0 MiB are needed".into(),
                sensed: "every second".into(),
                budget: Some(1 << 30),
                high: Some(960 << 20),
                needed: Some(970 << 20),
                rungs: vec![RungStatus {
                    rung: Rung::HalfContext,
                    exists: true,
                    frees: 32 << 20,
                    reached: 2,
                    spent_s: 80,
                }],
                moves: vec![MoveStatus {
                    time: "2026-01-01T00:00:00Z".into(),
                    from: Rung::Caches,
                    to: Rung::HalfContext,
                    reason: "970.0 MiB are needed".into(),
                    predicted: 32 << 20,
                    measured: Some(30 << 20),
                    took_ms: 120,
                    trouble: vec!["engine-fallback did not answer".into()],
                }],
            },
            models: vec![
                ModelStatus {
                    role: "primary".into(),
                    file: "big.gguf".into(),
                    model: None,
                    version: None,
                    digest: None,
                    signer: None,
                    verified_by: None,
                    refused: Some("UnknownSigner: no certificate for\nABCD".into()),
                    adapter: None,
                },
                ModelStatus {
                    role: "fallback".into(),
                    file: "small.gguf".into(),
                    model: Some("small".into()),
                    version: Some("1.0.0".into()),
                    digest: Some("00".into()),
                    signer: Some("F00D".into()),
                    verified_by: Some("full-hash".into()),
                    refused: None,
                    adapter: None,
                },
            ],
            prompts: PromptsStatus {
                file: Some("omni-loop.prompts".into()),
                id: Some("built-in".into()),
                version: Some("0.1.0".into()),
                refused: Some("wrong-digest: failed to verify the file".into()),
                ..PromptsStatus::default()
            },
            training: Some(Box::new(sarai_wire::night::TrainingStatus {
                enabled: true,
                next: Some("2026-01-03T02:00:00+01:00".into()),
                now: sarai_wire::night::NightStage::Measuring,
                nights: vec![],
                counts: sarai_wire::night::NightCounts::default(),
                merge: None,
            })),
            services: vec![ServiceStatus {
                name: "gateway".into(),
                state: ServiceState::CrashLoop,
                pid: None,
                restarts: 5,
                last_exit: Some("signal SIGKILL".into()),
                cpus: vec![0, 1],
                rss: None,
                last_pong_ms: Some(12_000),
                user: "gateway".into(),
                sandbox: Vec::new(),
            }],
            problems: vec!["the model big.gguf is refused".into()],
        }
    }

    #[test]
    fn problems_come_before_everything_else() {
        let text = render(&status(), Paint::off());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "sarai 0.1.0, native, profile tiny, up 3 min: not ready");
        assert_eq!(lines[1], "! the model big.gguf is refused");
    }

    #[test]
    fn everything_an_admin_asks_for_is_there() {
        let text = render(&status(), Paint::off());
        for wanted in [
            "https://127.0.0.1:8443",
            "https://10.0.0.7:8443",
            "             sarai.local\n",
            "AB:CD",
            "/run/sarai/ca.crt",
            "ssh          SHA256:abc",
            "2 CPUs, avx2 fma",
            "300 MiB used here of 1.0 GiB, 5.0 GiB of 8.0 GiB available",
            "cores        engines 1-2 (performance, one thread a core, isolated partition), house 0, idle 3",
            "             no word about caches",
            "trainer  3 MiB   5 MiB  4.0 GiB  2              64         917",
            "ladder       half_context, for 75 s: 970.0 MiB are needed",
            "970 MiB needed, line at 960 MiB, budget 1.0 GiB",
            "looks every second",
            "so far half_context 2x, 80 s",
            "2026-01-01T00:00:00Z caches -> half_context: 970.0 MiB are needed; freed 30 MiB (32 MiB expected) in \
             120 ms; engine-fallback did not answer",
            "gateway  crash-loop  -",
            "0-1",
            "12 s ago",
            "signal SIGKILL",
            "verified (full-hash)",
            "F00D",
            "prompts      built-in 0.1.0; omni-loop.prompts refused: wrong-digest: failed to verify the file",
            "nights       measures the new adapter\n",
            "! big.gguf refused: UnknownSigner: no certificate for\u{fffd}ABCD",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is missing in:\n{text}");
        }
        assert!(!text.contains('\x1b'), "colours where none are wanted");
        assert!(render(&status(), Paint::on()).contains("\x1b[31mcrash-loop"));
    }

    #[test]
    fn a_machine_without_an_address_or_models_says_so() {
        let bare = Status {
            urls: vec![],
            models: vec![],
            services: vec![],
            ..status()
        };
        let text = render(&bare, Paint::off());
        assert!(
            text.contains("address      none yet") && text.contains("no models"),
            "{text}"
        );
    }
}
