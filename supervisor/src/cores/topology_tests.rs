use super::*;
use crate::cores::assign;

/// A made `sysfs`.
struct Sys(tempfile::TempDir);

impl Sys {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, file: &str, text: &str) {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    fn cpu(&self, id: u32, siblings: &str, cache: &str) {
        self.put(
            &format!("devices/system/cpu/cpu{id}/topology/core_cpus_list"),
            siblings,
        );
        for (index, level, kind, shared) in [
            (0, 1, "Data", siblings),
            (1, 1, "Instruction", siblings),
            (2, 2, "Unified", siblings),
            (3, 3, "Unified", cache),
        ] {
            let folder = format!("devices/system/cpu/cpu{id}/cache/index{index}");
            self.put(&format!("{folder}/level"), &level.to_string());
            self.put(&format!("{folder}/type"), kind);
            self.put(&format!("{folder}/shared_cpu_list"), shared);
        }
    }

    fn read(&self, usable: &[u32]) -> Topology {
        read(self.0.path(), usable)
    }
}

fn cpu(id: u32, core: u32, kind: Kind, node: u32, cache: u32) -> Cpu {
    Cpu {
        id,
        core,
        kind,
        node,
        cache: Some(cache),
    }
}

#[test]
fn siblings_caches_nodes_and_kinds_are_read() {
    let sys = Sys::new();
    for id in 0..4 {
        sys.cpu(id, if id < 2 { "0-1" } else { "2-3" }, "0-5");
    }
    for id in 4..6 {
        sys.cpu(id, &id.to_string(), "0-5");
    }
    sys.put("devices/cpu_core/cpus", "0-3");
    sys.put("devices/cpu_atom/cpus", "4-5");
    sys.put("devices/system/node/node0/cpulist", "0-3");
    sys.put("devices/system/node/node1/cpulist", "4,5");
    let topology = sys.read(&[5, 0, 1, 2, 3]);
    assert_eq!(topology.notes, Vec::<String>::new());
    let (p, e) = (Kind::Performance, Kind::Efficiency);
    assert_eq!(
        topology.cpus,
        [
            cpu(0, 0, p, 0, 0),
            cpu(1, 0, p, 0, 0),
            cpu(2, 2, p, 0, 0),
            cpu(3, 2, p, 0, 0),
            cpu(5, 5, e, 1, 0)
        ]
    );
}

#[test]
fn kinds_come_from_capacity_or_top_speed_where_the_processor_says_nothing() {
    for (name, fast, favoured, slow) in [
        ("cpu_capacity", 1024, 1000, 446),
        ("cpufreq/cpuinfo_max_freq", 5_200_000, 5_000_000, 3_800_000),
    ] {
        let sys = Sys::new();
        for (id, speed) in [(0, fast), (1, favoured), (2, slow), (3, slow)] {
            sys.cpu(id, &id.to_string(), "0-3");
            sys.put(&format!("devices/system/cpu/cpu{id}/{name}"), &speed.to_string());
        }
        let kinds: Vec<Kind> = sys.read(&[0, 1, 2, 3]).cpus.iter().map(|c| c.kind).collect();
        let (p, e) = (Kind::Performance, Kind::Efficiency);
        assert_eq!(kinds, [p, p, e, e], "{name}");
    }
}

#[test]
fn what_is_missing_has_a_stand_in_and_a_note_and_everyone_a_place() {
    let sys = Sys::new();
    let topology = sys.read(&[0, 1, 2, 3]);
    assert_eq!(topology.notes.len(), 3, "{:?}", topology.notes);
    let split = assign(&topology);
    assert_eq!((split.engine, split.house), (vec![1, 2, 3], vec![0]));

    // As in a virtual machine: cores and caches, but no speed.
    for id in 0..4 {
        sys.cpu(id, &id.to_string(), "0-3");
    }
    let topology = sys.read(&[0, 1, 2, 3]);
    assert_eq!(topology.notes.len(), 1, "{:?}", topology.notes);
    assert!(topology.notes[0].contains("faster"));
}

#[test]
fn one_speed_that_is_not_known_spoils_the_comparison() {
    let sys = Sys::new();
    for id in 0..4 {
        sys.cpu(id, &id.to_string(), "0-3");
    }
    for id in 0..3 {
        sys.put(
            &format!("devices/system/cpu/cpu{id}/cpufreq/cpuinfo_max_freq"),
            if id == 0 { "100" } else { "900" },
        );
    }
    let topology = sys.read(&[0, 1, 2, 3]);
    assert!(topology.cpus.iter().all(|cpu| cpu.kind == Kind::Performance));
    assert_eq!(topology.notes.len(), 1);
}

#[test]
fn nonsense_is_not_believed() {
    let sys = Sys::new();
    for text in ["7", "0-4294967295", "x", "3-1", ""] {
        sys.cpu(0, text, text);
        let found = sys.read(&[0]).cpus[0];
        assert_eq!((found.core, found.cache), (0, None), "{text:?}");
    }
}

#[test]
fn lists_are_read_and_written_as_the_kernel_does() {
    for (text, cpus) in [
        ("", vec![]),
        ("3", vec![3]),
        ("0-2,5,7-8", vec![0, 1, 2, 5, 7, 8]),
    ] {
        assert_eq!(parse(text).unwrap().into_iter().collect::<Vec<_>>(), cpus);
        assert_eq!(to_list(&cpus), text);
    }
    assert_eq!(to_list(&[2, 0, 1, 1]), "0-2");
}
