//! A flashed disk: its first boot, its second, written anew, grown, and with the power cut while it is made ready.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use sarai_tests::image::Image;
use sarai_tests::process::output_of;
use sarai_tests::tree;
use sarai_tests::vm::{Bus, Card, Machine, Vm};

use crate::common::{BOOT, Booted, OFF, SETTINGS, ask_until_primary, pair};

/// A disk of 8 GB, as it is sold.
const EIGHT_GB: u64 = 8_000_000_000;

fn dump(disk: &Path) -> String {
    output_of(std::process::Command::new("/sbin/sfdisk").arg("--dump").arg(disk)).unwrap()
}

/// MiB of the data partition, as its table says.
fn data_mib(disk: &Path) -> u64 {
    let table = dump(disk);
    let line = table
        .lines()
        .find(|line| line.contains("name=\"SARAI-DATA\""))
        .unwrap_or_else(|| panic!("{table}"));
    let size = line.split("size=").nth(1).and_then(|rest| rest.split(',').next());
    size.unwrap().trim().parse::<u64>().unwrap() / 2048
}

#[test]
fn a_flashed_disk_makes_itself_ready_keeps_its_data_and_grows() {
    let _alone = tree::alone();
    let image = Image::make(&pair().unwrap(), SETTINGS, |_| Ok(())).unwrap();
    let packed = image.flashable().unwrap();
    let disk = image.path("flashed.img");
    File::create(&disk).unwrap().set_len(EIGHT_GB).unwrap();
    // As an admin damages it: some of it is right.
    let setup = image.path("setup.toml");
    fs::write(&setup, "hostname = \"kitchen\"\n[night]\nhour = 99\n[network]\naddress = \"10.0.2.77/24\"\nrouter = \"10.0.2.2\"\n[time]\nzone = \"Asia/Tokyo\"\n").unwrap();
    let refused = image
        .flash(&packed, &disk, &["--config", &setup.to_string_lossy()])
        .unwrap_err()
        .to_string();
    assert!(refused.contains("line 3: night.hour is 99"), "{refused}");
    image.flash(&packed, &disk, &[]).unwrap();
    put_on_boot_partition(&disk, &setup);

    // The first boot, by firmware: a data partition, the settings that were right, the line of the one that was not.
    let machine = Machine {
        bus: Bus::Nvme,
        card: Card::E1000e,
        firmware: true,
        ..image.machine(Some(disk.clone()))
    };
    let mut vm = Vm::boot(&machine).unwrap();
    for text in [
        "disk: /dev/nvme0n1 carries the image",
        "boot partition: sarai.toml line 3: night.hour is 99, must be 0 to 23; using 2",
        "partition: /dev/nvme0n1p2 made",
        "data: /dev/nvme0n1p2 mounted",
    ] {
        vm.wait_for(text, BOOT).unwrap();
    }
    let end = vm.open_after(0, crate::common::PROMPT, BOOT).unwrap();
    let console = vm.screen()[..end].to_owned();
    let mut first = Booted { vm, console };
    assert!(first.console.contains("on kitchen"), "{}", first.console);
    assert!(first.console.contains("https://10.0.2.77"), "{}", first.console);
    let status = first.status().unwrap();
    assert_eq!(
        status
            .problems
            .iter()
            .filter(|p| p.contains("night.hour"))
            .count(),
        1,
        "{:?}",
        status.problems
    );
    let ca = first.ca().unwrap();
    // Tokyo has had no other distance from UTC since 1951.
    let log = first.sarai("logs -n 5").unwrap();
    assert!(log.contains("+09:00 "), "{log}");
    first.vm.power_button().unwrap();
    first.vm.wait_for_power_off(OFF).unwrap();
    drop(first);
    let before = data_mib(&disk);
    assert!((EIGHT_GB >> 20) - 512 - before <= 2, "{before} MiB");

    // Written anew, with models, while the disk became larger: the data stays.
    File::options()
        .write(true)
        .open(&disk)
        .unwrap()
        .set_len(EIGHT_GB + (1 << 30))
        .unwrap();
    fs::write(&setup, "hostname = \"kitchen\"\n").unwrap();
    let more = [
        "--models",
        sarai_tests::model::PROFILE,
        "--config",
        &setup.to_string_lossy(),
    ];
    let said = image.flash(&packed, &disk, &more).unwrap();
    assert!(said.contains("its data partition is kept"), "{said}");
    assert!(
        !dump(&disk).contains("SARAI-DATA"),
        "the image's own table has no data partition"
    );
    let machine = Machine {
        bus: Bus::Usb,
        ..image.machine(Some(disk.clone()))
    };
    let mut second = Booted::new(&machine).unwrap();
    assert!(
        second
            .console
            .contains("partition: /dev/sda2 there, entered in the table again"),
        "{}",
        second.console
    );
    assert!(
        second.console.contains("/dev/sda2 mounted; grown to "),
        "{}",
        second.console
    );
    assert_eq!(second.ca().unwrap(), ca, "another authority: the data was lost");
    let (client, _, _) = second.client("flashed").unwrap();
    ask_until_primary(&client).unwrap();
    let status = second.status().unwrap();
    assert!(
        status
            .models
            .iter()
            .all(|m| m.verified_by.as_deref() == Some("fs-verity")),
        "{:?}",
        status.models
    );
    second.vm.cut_power().unwrap();
    assert_eq!(data_mib(&disk), before + 1024);
    let verified = output_of(
        std::process::Command::new("/sbin/sfdisk")
            .arg("--verify")
            .arg(&disk),
    )
    .unwrap();
    assert!(verified.contains("No errors"), "{verified}");
}

fn put_on_boot_partition(disk: &Path, file: &Path) {
    output_of(
        std::process::Command::new("mcopy")
            .args(["-o", "-i", &format!("{}@@1M", disk.display())])
            .arg(file)
            .arg("::/sarai.toml"),
    )
    .unwrap();
}

/// When the power goes while the disk is made ready: so long after the console showed this, milliseconds. All of them
/// on one disk, one after the other: what each leaves behind is what the next finds.
const CUTS: &[(&str, u64)] = &[
    ("making a data partition", 0),
    ("making a data partition", 150),
    ("making a data partition", 400),
    ("making a data partition", 900),
    ("partition: /dev/", 0),
    ("data: /dev/", 0),
];

#[test]
fn a_power_cut_while_the_disk_is_made_ready_is_followed_by_a_whole_boot() {
    let _alone = tree::alone();
    let image = Image::make(&pair().unwrap(), SETTINGS, |_| Ok(())).unwrap();
    let packed = image.flashable().unwrap();
    let disk = image.path("cut.img");
    image.flash(&packed, &disk, &["--size", "4G"]).unwrap();
    let machine = Machine {
        bus: Bus::Ahci,
        ..image.machine(Some(disk.clone()))
    };
    for (text, after) in CUTS {
        let cut = Vm::boot(&machine).unwrap();
        // On a fast machine the making may be over already: then the next step is what is waited for.
        let later = ["partition: /dev/", "data: /dev/"];
        let seen = tree::wait_for(text, BOOT, || {
            let screen = cut.screen();
            let done = screen.contains(text) || later.iter().any(|later| screen.contains(later));
            anyhow::ensure!(done, "the console says:\n{}", cut.tail());
            Ok(())
        });
        seen.unwrap();
        std::thread::sleep(Duration::from_millis(*after));
        println!(
            "cut {after} ms after {text:?}: {}",
            cut.screen().lines().last().unwrap_or_default()
        );
        cut.cut_power().unwrap();
    }
    let mut whole = Booted::new(&machine).unwrap();
    assert!(
        whole.console.contains("data: /dev/sda2 mounted"),
        "{}",
        whole.console
    );
    let status = whole.status().unwrap();
    assert!(
        status
            .problems
            .iter()
            .all(|p| !p.contains("partition") && !p.contains("data:")),
        "{:?}",
        status.problems
    );
    whole.vm.type_line("poweroff").unwrap();
    whole.vm.wait_for_power_off(OFF).unwrap();
    assert_eq!(data_mib(&disk), 4096 - 512 - 1);
}
