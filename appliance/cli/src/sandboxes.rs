//! What the services are confined by, for a person.

use sarai_wire::control::ServiceStatus;

use crate::text::{Paint, clean};

/// What each service is confined by, a line for all whose walls are the same; what is missing, with its reason.
pub fn render(services: &[ServiceStatus], paint: Paint) -> String {
    let mut lines: Vec<(Vec<&str>, String)> = Vec::new();
    for service in services.iter().filter(|s| !s.sandbox.is_empty()) {
        let (there, missing): (Vec<_>, Vec<_>) = service.sandbox.iter().partition(|d| d.in_force);
        let names: Vec<_> = there.iter().map(|d| clean(&d.duty, false)).collect();
        let mut line = names.join(" ");
        for duty in missing {
            let text = format!(
                "; no {}: {}",
                clean(&duty.duty, false),
                clean(&duty.detail, false)
            );
            line.push_str(&paint.busy(&text));
        }
        match lines.iter_mut().find(|(_, known)| *known == line) {
            Some((who, _)) => who.push(&service.name),
            None => lines.push((vec![&service.name], line)),
        }
    }
    lines
        .into_iter()
        .map(|(who, line)| {
            let who = clean(&who.join(", "), false);
            format!("{} {line}\n", paint.dim(&format!("sandbox of {who}:")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use sarai_wire::control::{DutyStatus, ServiceState};

    use super::*;

    fn service(name: &str, missing: Option<&str>) -> ServiceStatus {
        let duty = |duty: &str, in_force| DutyStatus {
            duty: duty.into(),
            in_force,
            detail: "as root only".into(),
        };
        ServiceStatus {
            name: name.into(),
            state: ServiceState::Ready,
            pid: None,
            restarts: 0,
            last_exit: None,
            cpus: Vec::new(),
            rss: None,
            last_pong_ms: None,
            user: "engine".into(),
            sandbox: ["user", "seccomp"].map(|d| duty(d, missing != Some(d))).into(),
        }
    }

    #[test]
    fn services_alike_share_a_line_and_what_is_missing_says_why() {
        let services = [service("a", None), service("b", None), service("c", Some("user"))];
        let text = render(&services, Paint::off());
        assert_eq!(
            text,
            "sandbox of a, b: user seccomp\nsandbox of c: seccomp; no user: as root only\n"
        );
    }
}
