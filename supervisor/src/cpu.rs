//! What the processor offers, and whether it is enough for the engine.

use sarai_wire::control::CpuStatus;

/// What the engine cannot do without.
pub const FLOOR: [&str; 4] = ["avx2", "fma", "f16c", "bmi2"];

/// Looks at this machine.
#[must_use]
pub fn detect(count: usize) -> CpuStatus {
    let features = features();
    let floor_met = floor_met(&features);
    CpuStatus {
        count: u32::try_from(count).unwrap_or(u32::MAX),
        features,
        floor_met,
    }
}

/// The sentence for an admin when the floor is missed: which instructions are missing.
#[must_use]
pub fn below_floor(status: &CpuStatus) -> Option<String> {
    if status.floor_met {
        return None;
    }
    let missing: Vec<&str> = FLOOR
        .into_iter()
        .filter(|name| !status.features.iter().any(|have| have == name))
        .collect();
    Some(format!(
        "this processor lacks {}: the engine needs all of {} and is not started (in a virtual machine, pass the host's CPU model through)",
        missing.join(", "),
        FLOOR.join(", ")
    ))
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<String> {
    let mut found = Vec::new();
    let mut note = |name: &str, present: bool| {
        if present {
            found.push(name.to_owned());
        }
    };
    note("avx2", std::is_x86_feature_detected!("avx2"));
    note("fma", std::is_x86_feature_detected!("fma"));
    note("f16c", std::is_x86_feature_detected!("f16c"));
    note("bmi2", std::is_x86_feature_detected!("bmi2"));
    note("avx_vnni", std::is_x86_feature_detected!("avxvnni"));
    note("avx512f", std::is_x86_feature_detected!("avx512f"));
    note("avx512_vnni", std::is_x86_feature_detected!("avx512vnni"));
    note("avx512_bf16", std::is_x86_feature_detected!("avx512bf16"));
    // The standard library does not detect AMX yet; the kernel's list says whether it may be used.
    note(
        "amx_int8",
        kernel_flags().split_whitespace().any(|flag| flag == "amx_int8"),
    );
    found
}

#[cfg(target_arch = "x86_64")]
fn kernel_flags() -> String {
    std::fs::read_to_string("/proc/cpuinfo")
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            line.strip_prefix("flags")
                .map(|rest| rest.trim_start_matches(['\t', ' ', ':']).to_owned())
        })
        .unwrap_or_default()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<String> {
    Vec::new()
}

#[cfg(target_arch = "x86_64")]
fn floor_met(features: &[String]) -> bool {
    FLOOR.iter().all(|name| features.iter().any(|have| have == name))
}

/// Elsewhere ggml's baseline is the architecture's own.
#[cfg(not(target_arch = "x86_64"))]
fn floor_met(_features: &[String]) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_below_the_floor_is_told_what_it_lacks() {
        let status = CpuStatus {
            count: 2,
            features: vec!["avx2".into(), "fma".into()],
            floor_met: false,
        };
        let text = below_floor(&status).unwrap();
        assert!(text.contains("lacks f16c, bmi2"), "{text}");
        assert!(
            below_floor(&CpuStatus {
                floor_met: true,
                ..status
            })
            .is_none()
        );
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_detected_features_agree_with_the_kernels_list() {
        let flags = kernel_flags();
        for name in features() {
            assert!(
                flags.split_whitespace().any(|flag| flag == name),
                "{name} is not in /proc/cpuinfo"
            );
        }
    }
}
