//! Which ggml CPU variant suits this machine.
//!
//! ggml's own scoring reads CPUID alone and does not ask whether the kernel saves the wide registers, so a
//! machine booted with AVX-512 switched off would fault. The choice is made here, from CPUID *and* XCR0, and
//! exactly one module is loaded.

/// Instruction sets beyond the floor that tell the variants apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// AVX-VNNI (256-bit).
    pub avx_vnni: bool,
    /// AVX-512 F, CD, VL, DQ and BW together.
    pub avx512: bool,
    /// AVX-512 VBMI.
    pub vbmi: bool,
    /// AVX-512 VNNI.
    pub vnni: bool,
    /// AVX-512 BF16.
    pub bf16: bool,
    /// AMX tiles and INT8, with the tile state enabled by the kernel.
    pub amx: bool,
}

/// The variants, best first: the order of ggml's own scores.
const VARIANTS: [(&str, Features); 9] = [
    (
        "sapphirerapids",
        Features {
            avx_vnni: false,
            avx512: true,
            vbmi: true,
            vnni: true,
            bf16: true,
            amx: true,
        },
    ),
    (
        "zen4",
        Features {
            avx_vnni: false,
            avx512: true,
            vbmi: true,
            vnni: true,
            bf16: true,
            amx: false,
        },
    ),
    (
        "cooperlake",
        Features {
            avx_vnni: false,
            avx512: true,
            vbmi: false,
            vnni: true,
            bf16: true,
            amx: false,
        },
    ),
    (
        "icelake",
        Features {
            avx_vnni: false,
            avx512: true,
            vbmi: true,
            vnni: true,
            bf16: false,
            amx: false,
        },
    ),
    (
        "cascadelake",
        Features {
            avx_vnni: false,
            avx512: true,
            vbmi: false,
            vnni: true,
            bf16: false,
            amx: false,
        },
    ),
    (
        "cannonlake",
        Features {
            avx_vnni: false,
            avx512: true,
            vbmi: true,
            vnni: false,
            bf16: false,
            amx: false,
        },
    ),
    (
        "skylakex",
        Features {
            avx_vnni: false,
            avx512: true,
            vbmi: false,
            vnni: false,
            bf16: false,
            amx: false,
        },
    ),
    (
        "alderlake",
        Features {
            avx_vnni: true,
            avx512: false,
            vbmi: false,
            vnni: false,
            bf16: false,
            amx: false,
        },
    ),
    (
        "haswell",
        Features {
            avx_vnni: false,
            avx512: false,
            vbmi: false,
            vnni: false,
            bf16: false,
            amx: false,
        },
    ),
];

impl Features {
    /// What this machine has and its kernel allows.
    pub fn detect() -> Self {
        Self {
            avx_vnni: is_x86_feature_detected!("avxvnni"),
            avx512: is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512cd")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw"),
            vbmi: is_x86_feature_detected!("avx512vbmi"),
            vnni: is_x86_feature_detected!("avx512vnni"),
            bf16: is_x86_feature_detected!("avx512bf16"),
            amx: amx(),
        }
    }

    fn covers(self, needed: Self) -> bool {
        let pairs = [
            (self.avx_vnni, needed.avx_vnni),
            (self.avx512, needed.avx512),
            (self.vbmi, needed.vbmi),
            (self.vnni, needed.vnni),
            (self.bf16, needed.bf16),
            (self.amx, needed.amx),
        ];
        pairs.iter().all(|(have, need)| *have || !need)
    }
}

/// The standard library does not detect AMX yet.
fn amx() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    const TILE_STATE: u64 = 0b11 << 17;
    const AMX_TILE: u32 = 1 << 24;
    const AMX_INT8: u32 = 1 << 25;
    #[target_feature(enable = "xsave")]
    fn enabled_state() -> u64 {
        // SAFETY: XCR0 may be read wherever OSXSAVE is set, which the caller checked.
        unsafe { _xgetbv(0) }
    }
    let osxsave = __cpuid(1).ecx & (1 << 27) != 0;
    if !osxsave || !is_x86_feature_detected!("xsave") || __cpuid(0).eax < 7 {
        return false;
    }
    // SAFETY: the XSAVE feature was detected just above.
    let state = unsafe { enabled_state() };
    let edx = __cpuid_count(7, 0).edx;
    state & TILE_STATE == TILE_STATE && edx & AMX_TILE != 0 && edx & AMX_INT8 != 0
}

/// What the floor asks for and this machine lacks; empty on a machine that will do.
pub fn missing_from_floor() -> Vec<&'static str> {
    let floor = [
        ("AVX2", is_x86_feature_detected!("avx2")),
        ("FMA", is_x86_feature_detected!("fma")),
        ("F16C", is_x86_feature_detected!("f16c")),
        ("BMI2", is_x86_feature_detected!("bmi2")),
    ];
    floor
        .into_iter()
        .filter_map(|(name, has)| (!has).then_some(name))
        .collect()
}

/// Names of the variants a machine with `features` can run, best first. Never empty: the last is the floor.
pub fn usable(features: Features) -> impl Iterator<Item = &'static str> {
    VARIANTS
        .iter()
        .filter(move |(_, needed)| features.covers(*needed))
        .map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(features: Features) -> &'static str {
        usable(features).next().unwrap()
    }

    #[test]
    fn each_level_gets_its_own_variant() {
        let none = Features::default();
        assert_eq!(best(none), "haswell");
        assert_eq!(
            best(Features {
                avx_vnni: true,
                ..none
            }),
            "alderlake"
        );
        let wide = Features { avx512: true, ..none };
        assert_eq!(best(wide), "skylakex");
        assert_eq!(best(Features { vnni: true, ..wide }), "cascadelake");
        assert_eq!(
            best(Features {
                vnni: true,
                vbmi: true,
                ..wide
            }),
            "icelake"
        );
        let zen4 = Features {
            vnni: true,
            vbmi: true,
            bf16: true,
            ..wide
        };
        assert_eq!(best(zen4), "zen4");
        assert_eq!(
            best(Features {
                avx_vnni: true,
                amx: true,
                ..zen4
            }),
            "sapphirerapids"
        );
    }

    #[test]
    fn a_machine_whose_kernel_hides_avx512_never_gets_it() {
        let hidden = Features {
            avx512: false,
            vbmi: true,
            vnni: true,
            bf16: true,
            avx_vnni: true,
            amx: false,
        };
        assert_eq!(usable(hidden).collect::<Vec<_>>(), ["alderlake", "haswell"]);
    }

    #[test]
    fn the_floor_is_always_among_the_usable() {
        assert_eq!(usable(Features::detect()).last(), Some("haswell"));
    }
}
