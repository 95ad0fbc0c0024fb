//! `scripts/flash` on files that stand for disks: what it refuses, what it keeps, what it puts where.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends by panicking")]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sarai_tests::image::flashing;
use sarai_tests::model::{self, Artifact};
use sarai_tests::process::output_of;
use sarai_tests::publisher::Publisher;
use sarai_tests::tree;

const MIB: u64 = 1 << 20;
/// Where the data begins.
const DATA: u64 = 512 * MIB;

/// A publisher, a small image of theirs, and a file for a disk.
struct World {
    folder: tempfile::TempDir,
    publisher: Publisher,
    artifacts: Vec<Artifact>,
}

impl World {
    fn new() -> Self {
        let me = Self {
            folder: tempfile::tempdir().unwrap(),
            publisher: Publisher::new("release").unwrap(),
            artifacts: vec![model::tiny("primary").unwrap(), model::tiny("fallback").unwrap()],
        };
        for folder in ["keyring", "models"] {
            fs::create_dir(me.path(folder)).unwrap();
        }
        me.publisher.export(&me.path("keyring/release.asc")).unwrap();
        for artifact in &me.artifacts {
            artifact.install(&me.path("models"), &me.publisher).unwrap();
        }
        model::write_manifest(&me.path("manifest.toml"), &me.artifacts).unwrap();
        fs::write(me.path("system"), "an EFI file").unwrap();
        let script = ". \"$1/common.sh\"; . \"$1/disk.sh\"; make_boot_disk \"$2\" 1700000000 EFI/BOOT/BOOTX64.EFI=\"$3\"";
        output_of(
            Command::new("bash")
                .args(["-euc", script, "bash"])
                .arg(tree::root().join("scripts/lib"))
                .arg(me.path("image.img"))
                .arg(me.path("system")),
        )
        .unwrap();
        me.publisher.sign(&me.path("image.img")).unwrap();
        me
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn run(&self, image: &Path, more: &[&str]) -> Output {
        flashing(self.folder.path(), image, &self.path("disk.img"))
            .unwrap()
            .args(["--size", "2G"])
            .args(more)
            .output()
            .unwrap()
    }

    fn flash(&self, image: &str, more: &[&str]) -> String {
        let output = self.run(&self.path(image), more);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }

    /// Refused for this reason, and nothing was written.
    fn refused(&self, image: &str, more: &[&str], reason: &str) {
        let before = fs::metadata(self.path("disk.img"))
            .map(|meta| meta.modified().unwrap())
            .ok();
        let output = self.run(&self.path(image), more);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(reason),
            "{reason:?}: {said}"
        );
        let after = fs::metadata(self.path("disk.img"))
            .map(|meta| meta.modified().unwrap())
            .ok();
        assert_eq!(before, after, "it was written: {said}");
    }

    fn disk(&self) -> File {
        File::options()
            .read(true)
            .write(true)
            .open(self.path("disk.img"))
            .unwrap()
    }

    /// A command of debugfs on the data partition.
    fn data(&self, command: &str) -> String {
        let disk = format!("{}?offset={DATA}", self.path("disk.img").display());
        output_of(Command::new("/sbin/debugfs").args(["-R", command]).arg(disk)).unwrap()
    }

    fn setup(&self) -> Option<String> {
        let disk = format!("{}@@1M", self.path("disk.img").display());
        let output = Command::new("mtype")
            .args(["-i", &disk, "::/sarai.toml"])
            .output()
            .unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).unwrap())
    }
}

fn same(a: &Path, b: &Path, bytes: u64) -> bool {
    let mut readers = [a, b].map(|path| File::open(path).unwrap().take(bytes));
    let mut blocks = [vec![0; 1 << 20], vec![0; 1 << 20]];
    for _ in 0..bytes / MIB {
        for (reader, block) in readers.iter_mut().zip(&mut blocks) {
            reader.read_exact(block).unwrap();
        }
        if blocks[0] != blocks[1] {
            return false;
        }
    }
    true
}

#[test]
fn an_image_that_is_not_the_publishers_is_refused_and_nothing_is_written() {
    let world = World::new();
    // No signature, somebody else's, another image's, a revoked key's, no key at all.
    fs::copy(world.path("image.img"), world.path("bare.img")).unwrap();
    world.refused("bare.img", &[], "there is no signature");
    Publisher::new("stranger")
        .unwrap()
        .sign(&world.path("bare.img"))
        .unwrap();
    world.refused("bare.img", &[], "is not signed by who is in");
    fs::copy(world.path("image.img"), world.path("changed.img")).unwrap();
    fs::copy(world.path("image.img.asc"), world.path("changed.img.asc")).unwrap();
    File::options()
        .write(true)
        .open(world.path("changed.img"))
        .unwrap()
        .write_all_at(b"x", 3 * MIB)
        .unwrap();
    world.refused("changed.img", &[], "is not signed by who is in");
    fs::create_dir(world.path("nobody")).unwrap();
    let nobody = world.path("nobody");
    world.refused(
        "image.img",
        &["--keyring", &nobody.to_string_lossy()],
        "holds no certificate",
    );
    // Signed, and no image of this layout.
    fs::write(world.path("odd.img"), vec![0; 4096]).unwrap();
    world.publisher.sign(&world.path("odd.img")).unwrap();
    world.refused("odd.img", &[], "has no boot partition");
    let large = File::create(world.path("large.img")).unwrap();
    large.set_len(DATA + 512).unwrap();
    world.publisher.sign(&world.path("large.img")).unwrap();
    world.refused("large.img", &[], "at most 536870912");
    // What is no disk is not written as one.
    let output = Command::new(tree::root().join("scripts/flash"))
        .arg(world.path("image.img"))
        .args(["/dev/null", "--yes", "--keyring"])
        .arg(world.path("keyring"))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("is no disk"));
    world.publisher.revoke().unwrap();
    world
        .publisher
        .export(&world.path("keyring/release.asc"))
        .unwrap();
    world.refused("image.img", &[], "is not signed by who is in");
}

#[test]
fn what_is_written_is_the_image_and_what_was_there_before_does_not_come_through() {
    let world = World::new();
    output_of(Command::new("zstd").arg("-q").arg(world.path("image.img"))).unwrap();
    world.publisher.sign(&world.path("image.img.zst")).unwrap();
    // A used disk: a file system where the data goes, something at the very end.
    let disk = File::create(world.path("disk.img")).unwrap();
    disk.set_len(2048 * MIB).unwrap();
    disk.write_all_at(b"XFSB", DATA).unwrap();
    disk.write_all_at(b"EFI PART", 2048 * MIB - 512).unwrap();
    let said = world.flash("image.img.zst", &[]);
    assert!(said.contains("all of it is lost"), "{said}");
    assert!(same(&world.path("image.img"), &world.path("disk.img"), DATA));
    let mut bytes = [1; 8];
    for at in [DATA, 2048 * MIB - 512] {
        world.disk().read_exact_at(&mut bytes, at).unwrap();
        assert_eq!(bytes, [0; 8], "{at}");
    }
}

#[test]
fn a_setup_file_is_checked_first_and_kept_when_the_image_is_written_anew() {
    let world = World::new();
    let (good, bad) = (world.path("good.toml"), world.path("bad.toml"));
    fs::write(&bad, "hostname = \"kitchen\"\n[night]\nhour = 24\n").unwrap();
    world.refused(
        "image.img",
        &["--config", &bad.to_string_lossy()],
        "line 3: night.hour is 24",
    );
    fs::write(&good, "hostname = \"kitchen\"\n").unwrap();
    world.flash("image.img", &["--config", &good.to_string_lossy()]);
    assert_eq!(world.setup().as_deref(), Some("hostname = \"kitchen\"\n"));
    let said = world.flash("image.img", &[]);
    assert!(said.contains("its sarai.toml is kept"), "{said}");
    assert_eq!(world.setup().as_deref(), Some("hostname = \"kitchen\"\n"));
    world.flash("image.img", &["--wipe"]);
    assert_eq!(world.setup(), None);
}

#[test]
fn verified_models_go_on_the_data_partition_which_stays_until_it_is_wiped() {
    let world = World::new();
    let models = ["--models", model::PROFILE];
    world.flash("image.img", &models);
    let listed = world.data("ls -l /models");
    for name in [
        "primary.gguf",
        "primary.toml",
        "primary.toml.asc",
        "fallback.gguf",
    ] {
        assert!(listed.contains(name), "{name}: {listed}");
    }
    let stat = world.data("stat /models/primary.gguf");
    assert!(
        stat.contains("User:     0") && stat.contains("Group:     0") && stat.contains("Mode:  0644"),
        "{stat}"
    );
    let label = output_of(Command::new("/sbin/dumpe2fs").args([
        "-h",
        &format!("{}?offset={DATA}", world.path("disk.img").display()),
    ]))
    .unwrap();
    assert!(
        label.contains("SARAI-DATA") && label.contains("verity"),
        "{label}"
    );

    // Something of the machine's own; then a newer model.
    fs::write(world.path("key"), "secret").unwrap();
    let put = format!("write {} device.key", world.path("key").display());
    let target = format!("{}?offset={DATA}", world.path("disk.img").display());
    output_of(
        Command::new("/sbin/debugfs")
            .args(["-w", "-R", &put])
            .arg(&target),
    )
    .unwrap();
    let newer = Artifact {
        sequence: 2,
        ..world.artifacts[0].clone()
    };
    newer.install(&world.path("models"), &world.publisher).unwrap();
    let said = world.flash("image.img", &models);
    assert!(said.contains("its data partition is kept"), "{said}");
    assert_eq!(world.data("cat device.key"), "secret");
    assert!(world.data("cat /models/primary.toml").contains("sequence = 2"));
    output_of(Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(&target)).unwrap();

    // By dd alone, as other tools write: the data is where it was.
    output_of(
        Command::new("dd")
            .arg(format!("if={}", world.path("image.img").display()))
            .arg(format!("of={}", world.path("disk.img").display()))
            .args(["bs=4M", "conv=notrunc", "status=none"]),
    )
    .unwrap();
    assert_eq!(world.data("cat device.key"), "secret");

    let file = File::options()
        .write(true)
        .open(world.path("models/primary.gguf"))
        .unwrap();
    file.write_all_at(b"tampered", 4096).unwrap();
    world.refused("image.img", &models, "is not what");
    let said = world.flash("image.img", &["--wipe"]);
    assert!(said.contains("all of it is lost"), "{said}");
    let output = Command::new("/sbin/dumpe2fs")
        .arg("-h")
        .arg(&target)
        .output()
        .unwrap();
    assert!(!output.status.success(), "a file system is still there");
}
