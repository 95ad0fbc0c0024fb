//! The power goes during the first boot: the next boot comes up.

use std::time::Duration;

use sarai_tests::image::Image;
use sarai_tests::tree;
use sarai_tests::vm::{Vm, copy_disk};

use crate::common::{BOOT, Booted, SETTINGS, ask_until_primary, pair};

/// When the power goes: so long after the console showed this. Folders, seed, keys, certificates and fs-verity are
/// all made in these seconds.
const CUTS: &[(&str, u64)] = &[
    ("data: ", 0),
    ("sysctl: ", 0),
    ("sysctl: ", 700),
    ("verify primary.gguf", 0),
    ("gateway: starting", 0),
    ("gateway: ready", 300),
];

#[test]
fn a_power_cut_during_the_first_boot_is_followed_by_a_whole_boot() {
    let _alone = tree::alone();
    let image = Image::make(&pair().unwrap(), SETTINGS, |_| Ok(())).unwrap();
    let disk = image.path("disk.img");
    for (text, after) in CUTS {
        copy_disk(&image.disk(), &disk).unwrap();
        let cut = Vm::boot(&image.machine(Some(disk.clone()))).unwrap();
        cut.wait_for(text, BOOT).unwrap();
        std::thread::sleep(Duration::from_millis(*after));
        cut.cut_power().unwrap();

        let mut next = Booted::new(&image.machine(Some(disk.clone())))
            .unwrap_or_else(|e| panic!("cut {after} ms after {text:?}: {e:#}"));
        let status = next.status().unwrap();
        assert!(
            status.ready && status.problems.is_empty(),
            "cut {after} ms after {text:?}: {status:#?}"
        );
        let (client, _, _) = next.client("after").unwrap();
        ask_until_primary(&client).unwrap_or_else(|e| panic!("cut {after} ms after {text:?}: {e:#}"));
        next.vm.cut_power().unwrap();
        println!("came up after a cut {after} ms after {text:?}");
    }
}
