//! The image for virtual machines with the tests' own models, keyring and settings, made by
//! `scripts/build-vm-image`; and archives laid over it for what a test must see from inside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::model::Artifact;
use crate::publisher::Publisher;
use crate::tree;
use crate::vm::{Bus, Card, Machine};

/// An image in a folder of its own.
#[derive(Debug)]
pub struct Image {
    folder: TempDir,
    /// Who signed the models.
    pub publisher: Publisher,
}

impl Image {
    /// Makes an image whose profile `tests` has these artifacts. `spoil` may change the signed models in their
    /// folder before the data disk is made of it.
    pub fn make(
        artifacts: &[Artifact],
        settings: &str,
        spoil: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sarai-image-").tempdir()?;
        let me = Self {
            folder,
            publisher: Publisher::new("release")?,
        };
        for name in ["keyring", "models"] {
            fs::create_dir_all(me.path(name))?;
        }
        me.publisher.export(&me.path("keyring/release.asc"))?;
        for artifact in artifacts {
            artifact.install(&me.path("models"), &me.publisher)?;
        }
        spoil(&me.path("models"))?;
        crate::model::write_manifest(&me.path("manifest.toml"), artifacts)?;
        let settings = format!("profile = \"{}\"\n{settings}\n", crate::model::PROFILE);
        fs::write(me.path("sarai.toml"), settings)?;
        me.build(&[])?;
        Ok(me)
    }

    fn build(&self, more: &[&str]) -> Result<()> {
        let mut command = Command::new(tree::root().join("scripts/build-vm-image"));
        command.arg("--quiet").args(more);
        for (option, below) in [
            ("--out", "out"),
            ("--keyring", "keyring"),
            ("--models", "models"),
            ("--manifest", "manifest.toml"),
            ("--settings", "sarai.toml"),
        ] {
            command.arg(option).arg(self.path(below));
        }
        let output = command.output().context("run scripts/build-vm-image")?;
        ensure!(
            output.status.success(),
            "scripts/build-vm-image: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Makes the image anew as one whose terminals are root's.
    pub fn with_debug_shell(self) -> Result<Self> {
        self.build(&["--debug-shell"])?;
        Ok(self)
    }

    /// The image as one for `scripts/flash`, packed and signed.
    pub fn flashable(&self) -> Result<PathBuf> {
        let raw = self.path("sarai.img");
        self.build(&["--disk", &raw.to_string_lossy()])?;
        let packed = self.path("sarai.img.zst");
        let status = Command::new("zstd")
            .args(["-q", "-1", "-f", "--rm"])
            .arg(&raw)
            .arg("-o")
            .arg(&packed)
            .status()
            .context("run zstd")?;
        ensure!(status.success(), "zstd ended with {status}");
        self.publisher.sign(&packed)?;
        Ok(packed)
    }

    /// Runs `scripts/flash` of `image` to the file `disk`, which is made if needed. What it said.
    pub fn flash(&self, image: &Path, disk: &Path, more: &[&str]) -> Result<String> {
        let output = flashing(self.folder.path(), image, disk)?
            .args(more)
            .output()
            .context("run scripts/flash")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success(),
            "scripts/flash: {}\n{said}",
            output.status
        );
        Ok(said)
    }

    /// A path in the image's folder.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// The data disk; each boot changes it.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.path("out/data.img")
    }

    /// The machine that boots this image from this disk.
    #[must_use]
    pub fn machine(&self, disk: Option<PathBuf>) -> Machine {
        Machine {
            kernel: self.path("out/vmlinuz"),
            initramfs: self.path("out/initramfs.img"),
            disk,
            bus: Bus::default(),
            card: Card::default(),
            firmware: false,
            // SysRq, so that a test can tell a machine that waits from one that stands still.
            append: "rdinit=/usr/lib/sarai/sarai-supervisor panic=10 quiet sysrq_always_enabled".to_owned(),
            memory: 1536,
            cpus: 2,
        }
    }

    /// The same machine with a shell of root on its second serial port, for what only the kernel inside can say.
    /// It is born where the image runs a script of its own as root: when an address was obtained.
    pub fn machine_with_root_shell(&self, disk: Option<PathBuf>) -> Result<Machine> {
        self.with_root_shell(disk, &[])
    }

    /// The same, with the attacking engine in the real one's place, which it becomes for every model but the
    /// primary's.
    pub fn machine_with_attacker(&self, disk: Option<PathBuf>) -> Result<Machine> {
        let program = |name: &str| fs::read(tree::program(name)?).context("read a program");
        let (attacker, real) = (program("sarai-attacker")?, program("sarai-engine")?);
        self.with_root_shell(
            disk,
            &[
                ("/usr/lib/sarai/sarai-engine", &attacker, 0o755),
                ("/usr/lib/sarai/sarai-engine-real", &real, 0o755),
            ],
        )
    }

    /// The same, with a program that leaks as `/usr/lib/sarai/leaker`.
    pub fn machine_with_leaker(&self, disk: Option<PathBuf>) -> Result<Machine> {
        let leaker = fs::read(tree::program("sarai-leaker")?).context("read a program")?;
        self.with_root_shell(disk, &[("/usr/lib/sarai/leaker", &leaker, 0o755)])
    }

    fn with_root_shell(&self, disk: Option<PathBuf>, more: &[(&str, &[u8], u32)]) -> Result<Machine> {
        const SCRIPT: &str = "buildroot/board/sarai/common/rootfs-overlay/usr/lib/sarai/udhcpc-script";
        const FIRST: &str = r"#!/bin/sh
if [ ! -e /run/tests-shell ]; then
    : >/run/tests-shell
    /bin/busybox setsid /bin/busybox sh /usr/lib/sarai/tests-shell </dev/ttyS1 >/dev/ttyS1 2>&1 &
fi
";
        const SHELL: &str = r#"#!/bin/sh
/bin/busybox stty -echo -icrnl -onlcr
while read -r line; do
    eval "$line" </dev/null
    echo "<<$?>>"
done
"#;
        let script =
            fs::read_to_string(tree::root().join(SCRIPT)).with_context(|| format!("read {SCRIPT}"))?;
        let script = FIRST.to_owned() + &script;
        let mut files = vec![
            ("/usr/lib/sarai/udhcpc-script", script.as_bytes(), 0o755),
            ("/usr/lib/sarai/tests-shell", SHELL.as_bytes(), 0o755),
        ];
        files.extend(more);
        self.machine_with(disk, &files)
    }

    /// The same machine with files laid over the image: (path in the image, content, mode). The kernel unpacks
    /// one archive after the other, so that a later file replaces an earlier one.
    fn machine_with(&self, disk: Option<PathBuf>, files: &[(&str, &[u8], u32)]) -> Result<Machine> {
        let over = tempfile::tempdir_in(self.folder.path())?;
        for (path, content, mode) in files {
            let to = over.path().join(path.trim_start_matches('/'));
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&to, content)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(*mode))?;
        }
        let initramfs = self.path(&format!("initramfs-{}.img", files.len()));
        // Folders are left out: the image's own keep their owners and modes.
        let status = Command::new("sh")
            .args(["-c", "set -e; cp \"$1\" \"$2\"; cd \"$3\"; find . -type f | cpio -o -H newc -R 0:0 --quiet | gzip >>\"$2\"", "sh"])
            .arg(self.path("out/initramfs.img"))
            .arg(&initramfs)
            .arg(over.path())
            .status()?;
        ensure!(
            status.success(),
            "laying files over the initramfs failed (packages cpio, gzip)"
        );
        Ok(Machine {
            initramfs,
            ..self.machine(disk)
        })
    }
}

/// `scripts/flash` of `image` to the file `disk` without questions, with keyring, manifest and models of `folder`.
pub fn flashing(folder: &Path, image: &Path, disk: &Path) -> Result<Command> {
    let mut command = Command::new(tree::root().join("scripts/flash"));
    command.arg(image).arg("--file").arg(disk).arg("--yes");
    for (option, below) in [
        ("--keyring", "keyring"),
        ("--manifest", "manifest.toml"),
        ("--store", "models"),
    ] {
        command.arg(option).arg(folder.join(below));
    }
    command.env("SARAI_PROGRAMS", tree::binaries()?);
    Ok(command)
}
