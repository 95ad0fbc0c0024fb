//! An image that was built with a root shell.

use sarai_tests::image::Image;
use sarai_tests::tree;
use sarai_tests::vm::Vm;

use crate::common::{BOOT, COMMAND, SETTINGS, pair};

/// What the shell shows when it waits.
const ROOT: &str = "root@sarai# ";

#[test]
fn an_image_with_a_debug_shell_makes_root_of_its_terminal_and_says_so() {
    let _alone = tree::alone();
    let image = Image::make(&pair().unwrap(), SETTINGS, |_| Ok(()))
        .unwrap()
        .with_debug_shell()
        .unwrap();
    let mut vm = Vm::boot(&image.machine(Some(image.disk()))).unwrap();
    vm.wait_for(ROOT, BOOT).unwrap();
    let who = vm.command("id -u; cat /data/keys/*", ROOT, COMMAND).unwrap();
    assert!(who.lines().any(|line| line.trim() == "0"), "{who}");
    assert!(who.contains("PRIVATE KEY"), "{who}");
    let status = vm.command("sarai status", ROOT, COMMAND).unwrap();
    assert!(status.contains("built with --debug-shell"), "{status}");
}
