"""The tools that make and check the disk image: python3 -m unittest discover -s tests/buildroot."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import uuid
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/lib"))

import bmap  # noqa: E402
import buildroot_check  # noqa: E402
import buildroot_crates  # noqa: E402
import image_files  # noqa: E402
import sbom  # noqa: E402

COMMON = ROOT / "buildroot/board/sarai/common"


class Folder(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, name, text):
        """A file with that text."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


class Options(Folder):
    """check-options."""

    def check(self, have, *asked):
        """What it says of a configuration, and how it ends."""
        files = [self.write(f"asked{i}", text) for i, text in enumerate(asked)]
        command = [COMMON / "check-options", "CONFIG_", self.write("config", have), *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    def test_what_survived_passes(self):
        have = 'CONFIG_A=y\nCONFIG_S="x y"\nCONFIG_N=64\n# CONFIG_OFF is not set\n'
        asked = '# why\nCONFIG_A=y\nCONFIG_S="x y"\nCONFIG_N=64\n# CONFIG_OFF is not set\n# CONFIG_UNKNOWN is not set\n'
        self.assertEqual(self.check(have, asked), (0, "5 options asked for, 0 did not survive\n"))

    def test_each_loss_is_named(self):
        have = "CONFIG_M=m\nCONFIG_ON=y\nCONFIG_N=8\n"
        rc, said = self.check(have, "CONFIG_GONE=y\nCONFIG_M=y\n# CONFIG_ON is not set\nCONFIG_N=64\n")
        self.assertEqual(rc, 1)
        for loss in ("CONFIG_GONE=y was asked for, there is n", "CONFIG_M=y was", "CONFIG_ON=n was", "CONFIG_N=64 was"):
            self.assertIn(loss, said)

    def test_the_last_word_counts_and_nothing_asked_is_wrong(self):
        self.assertEqual(self.check("CONFIG_A=m\n", "CONFIG_A=y\n", "CONFIG_A=m\n")[0], 0)
        self.assertEqual(self.check("CONFIG_A=m\n", "# nothing\n")[0], 1)


class Tree(unittest.TestCase):
    """The external tree's check finds what it is for."""

    def found(self, path, old, new):
        """What the check says with a file changed."""
        real = buildroot_check.text

        def changed(asked):
            text = real(asked)
            if asked == buildroot_check.TREE / path:
                self.assertIn(old, text)
                text = text.replace(old, new, 1)
            return text

        out = io.StringIO()
        with mock.patch.object(buildroot_check, "text", changed), contextlib.redirect_stdout(out):
            rc = buildroot_check.main([])
        return rc, out.getvalue()

    def test_the_tree_is_sound(self):
        rc, said = self.found("external.desc", "SARAI", "SARAI")
        self.assertEqual(rc, 0, said)

    def test_damage_is_found(self):
        hardening = "board/sarai/common/linux-hardening.fragment"
        defconfig = "configs/sarai_x86_64_defconfig"
        cases = [
            (hardening, "# CONFIG_MODULES is not set", "# CONFIG_MODULE is not set", "CONFIG_MODULE was not seen"),
            (hardening, "# CONFIG_KEXEC is not set", "CONFIG_KEXEC=no", "linux-hardening.fragment:"),
            (hardening, "# CONFIG_DEVMEM is not set", "CONFIG_NET=y\n# CONFIG_NET is not set", "CONFIG_NET was asked for"),
            (defconfig, "BR2_REPRODUCIBLE=y", "", "not reproducible"),
            (defconfig, "BR2_INIT_NONE=y", "BR2_INIT_NONE=y\nBR2_INIT_NONE=y", "BR2_INIT_NONE twice"),
            (defconfig, "common/busybox.config", "common/bosybux.config", "there is no $(BR2_EXTERNAL_SARAI_PATH)"),
            (defconfig, '_VERSION_VALUE="6', '_VERSION_VALUE="7', "no hash of linux-7"),
            ("package/sarai/sarai.mk", "SARAI_LICENSE_FILES = LICENSE", "SARAI_LICENSE_FILES = NONE", "there is no NONE"),
            ("package/sarai-crates/sarai-crates.mk", "SARAI_CRATES_LICENSE =", "SARAI_CRATES_X =", "names no licence"),
            ("package/sarai-crates/sarai-crates.hash", "sha256  ", "md5  ", "something else than sha256"),
            ("package/sarai/Config.in", "endif", "", "does not end"),
            ("Config.in", "package/sarai/", "package/sari/", "does not source package/sarai"),
            ("override.mk", "RUST_BIN_VERSION := 1.", "RUST_BIN_VERSION := 0.", "not the Rust"),
            ("board/sarai/x86_64/genimage.cfg", "size = 510M", "size = 64M", "no size = 510M"),
            ("board/sarai/common/busybox.config", "CONFIG_UDHCPC=y", "", "busybox.config has no udhcpc"),
            ("buildroot.pin", "sha256=", "sha256=0", "no sha256"),
        ]
        for path, old, new, expected in cases:
            with self.subTest(path=path, new=new):
                rc, said = self.found(path, old, new)
                self.assertEqual(rc, 1, said)
                self.assertIn(expected, said)

    def test_crates_come_with_the_locks_own_sums(self):
        crates = buildroot_crates.locked()
        self.assertGreater(len(crates), 100)
        lists = buildroot_crates.files(crates)
        self.assertIn(f"sha256  {crates[0][2]}  {crates[0][0]}-{crates[0][1]}.crate\n", "".join(lists.values()))
        with tempfile.TemporaryDirectory() as folder:
            lock = Path(folder) / "Cargo.lock"
            lock.write_text('[[package]]\nname = "x"\nversion = "1.0.0"\nsource = "git+https://x"\n')
            with self.assertRaisesRegex(ValueError, "can not be downloaded with a hash"):
                buildroot_crates.locked(lock)


class Files(Folder):
    """image_files."""

    def root(self):
        """A root with everything that is written down."""
        paths, folders = image_files.shared()
        for pattern in image_files.lines_of(image_files.BOARD / "x86_64/rootfs.list"):
            paths.add(pattern.replace("*", "1"))
        nodes = {"/dev/console", "/init"}
        parents = {os.path.dirname(p) for p in paths} | folders
        for path in sorted(paths - nodes):
            at = Path(f"{self.folder}{path}")
            if path in parents or path in ("/data", "/proc", "/run", "/sys", "/tmp", "/etc/sarai/keyring"):
                at.mkdir(parents=True, exist_ok=True)
            else:
                at.parent.mkdir(parents=True, exist_ok=True)
                at.write_text("x")
        return str(self.folder)

    def prune(self, root):
        """What it prints."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            image_files.prune(root, "x86_64")
        return out.getvalue()

    def test_what_is_not_written_down_goes_and_the_rest_stays(self):
        root = self.root()
        before = set(image_files.walk(root))
        self.write("usr/share/doc/x", "x")
        self.write("usr/bin/nc", "x")
        (self.folder / "usr/sbin/reboot").symlink_to("busybox")
        said = self.prune(root)
        self.assertEqual(set(image_files.walk(root)), before)
        for gone in ("/usr/share", "/usr/bin/nc", "/usr/sbin/reboot"):
            self.assertIn(f"not in the image: {gone}\n", said)

    def test_what_is_missing_or_leads_nowhere_is_named(self):
        root = self.root()
        (self.folder / "usr/sbin/dropbear").unlink()
        with self.assertRaisesRegex(image_files.Wrong, "lacks /usr/sbin/dropbear"):
            self.prune(root)
        (self.folder / "usr/sbin/dropbear").symlink_to("../bin/nothing")
        with self.assertRaisesRegex(image_files.Wrong, "links to nowhere: /usr/sbin/dropbear"):
            self.prune(root)

    def archive_of(self, paths):
        """Two archives of paths behind each other, compressed, as the image for virtual machines has them."""
        data = b""
        for part in (paths[::2], paths[1::2]):
            for path in [*part, "TRAILER!!!"]:
                name = path.strip("/").encode() + b"\0"
                head = b"070701" + b"".join(b"%08X" % v for v in [0] * 6 + [3] + [0] * 4 + [len(name), 0])
                entry = head + name
                data += entry + b"\0" * (-len(entry) % 4) + b"abc\0"
            data += b"\0" * (-len(data) % 512)
        file = self.folder / "initramfs"
        file.write_bytes(subprocess.run(["zstd", "-qc"], input=data, check=True, capture_output=True).stdout)
        return file

    def test_a_program_without_its_libraries_is_found(self):
        root = self.root()
        # Any program of this machine: it needs the C library.
        (self.folder / "usr/sbin/dropbear").write_bytes(Path(shutil.which("ls")).resolve().read_bytes())
        kept = set(image_files.walk(root)) - {"/usr/lib/libc.so.6"}
        with self.assertRaisesRegex(image_files.Wrong, "/usr/sbin/dropbear needs libc.so.6"):
            image_files.check_libraries(root, kept)
        image_files.check_libraries(root, kept - {"/usr/sbin/dropbear"})

    def cpio(self, entries):
        """An archive of (path, mode, owner)."""
        data = b""
        for path, mode, owner in [*entries, ("TRAILER!!!", 0, 0)]:
            name = path.strip("/").encode() + b"\0"
            fields = [0, mode, owner, 0, 1, 0, 0, 0, 0, 0, 0, len(name), 0]
            entry = b"070701" + b"".join(b"%08X" % v for v in fields) + name
            data += entry + b"\0" * (-len(entry) % 4)
        file = self.folder / "rootfs.cpio"
        file.write_bytes(data)
        return file

    def test_a_root_that_is_not_what_is_written_down_is_not_sealed(self):
        sound = [("/usr", 0o40755, 0), ("/usr/sbin/dropbear", 0o100755, 0), ("/bin", 0o120777, 0), ("/tmp", 0o41777, 0)]
        with contextlib.redirect_stdout(io.StringIO()) as said:
            image_files.seal(self.cpio(sound), "x86_64")
        self.assertIn("4 paths", said.getvalue())
        for entry, expected in [
            (("/usr/bin/nc", 0o100755, 0), "/usr/bin/nc is not written down"),
            (("/usr/bin/busybox", 0o104755, 0), "set-user or set-group bit"),
            (("/etc/passwd", 0o100666, 0), "writable for others than root"),
            (("/etc/passwd", 0o100644, 7), "is user 7's"),
        ]:
            with self.subTest(entry=entry), self.assertRaisesRegex(image_files.Wrong, expected):
                image_files.seal(self.cpio([*sound, entry]), "x86_64")

    def machine(self):
        """What the image for virtual machines has to hold."""
        paths, _ = image_files.shared()
        paths = sorted(paths - {"/dev/console", "/init"})
        for line in image_files.lines_of(COMMON / "differences.list"):
            image, pattern = line.split()
            if image == "vm":
                paths.append(pattern.replace("*", "x"))
        # What Buildroot's image holds besides and is not declared is in both.
        declared = [line.split()[1] for line in image_files.lines_of(COMMON / "differences.list")]
        for pattern in image_files.lines_of(image_files.BOARD / "x86_64/rootfs.list"):
            if not any(image_files.fnmatch.fnmatchcase(pattern, d) for d in declared):
                paths.append(pattern.replace("*", "1"))
        return paths

    def compare(self, paths):
        """What the comparison says, or what is wrong."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            image_files.compare(self.archive_of(paths), "x86_64")
        return out.getvalue()

    def test_declared_differences_pass_and_others_are_named(self):
        paths = self.machine()
        self.assertRegex(self.compare(paths), r"^\d+ paths, \d+ shared, \d+ differences declared\n$")
        with self.assertRaisesRegex(image_files.Wrong, "only in the image for virtual machines: /usr/bin/nc"):
            self.compare([*paths, "/usr/bin/nc"])
        with self.assertRaisesRegex(image_files.Wrong, "not in the image for virtual machines: /etc/passwd"):
            self.compare([p for p in paths if p != "/etc/passwd"])
        with self.assertRaisesRegex(image_files.Wrong, "/usr/lib/sarai/modules is no difference"):
            self.compare([p for p in paths if not p.startswith("/usr/lib/sarai/modules")])

    def test_what_is_no_archive_is_refused(self):
        with self.assertRaisesRegex(image_files.Wrong, "no cpio header"):
            list(image_files.archive(b"x" * 200))


class Map(Folder):
    """bmap."""

    def image(self):
        """A disk of 4 MiB with a GPT and an EFI partition that holds tables of zeros and one file."""
        data = bytearray(4 << 20)
        entries = 128 * 128
        struct.pack_into("<8s", data, 512, b"EFI PART")
        struct.pack_into("<QII", data, 512 + 72, 2, 128, 128)
        data[1024:1040] = bmap.ESP.bytes_le
        struct.pack_into("<QQ", data, 1024 + 32, 2048, 6143)
        begin = 1 << 20
        struct.pack_into("<H", data, begin + 11, 512)
        data[begin + 13] = 8
        struct.pack_into("<HB", data, begin + 14, 32, 2)
        struct.pack_into("<I", data, begin + 36, 100)
        data[begin + 82 : begin + 87] = b"FAT32"
        data[begin + 510 : begin + 512] = b"\x55\xaa"
        data[3 << 20] = 1
        self.assertLess(entries, 1 << 20)
        path = self.folder / "disk"
        path.write_bytes(data)
        return path, data

    def test_tables_are_written_whatever_they_hold_and_unused_clusters_are_not(self):
        path, data = self.image()
        with open(path, "rb") as image:
            ranges, count = bmap.mapped(image, len(data))
        self.assertEqual(count, 1024)
        blocks = {b for first, last in ranges for b in range(first, last + 1)}
        tables = range((1 << 20) // 4096, ((1 << 20) + (32 + 2 * 100) * 512 + 4095) // 4096)
        self.assertLessEqual({0, *tables, (3 << 20) // 4096, 1023}, blocks)
        self.assertNotIn((2 << 20) // 4096, blocks)

    def test_the_map_is_of_bmap_2_and_its_sums_hold(self):
        path, data = self.image()
        with open(path, "rb") as image:
            text = bmap.bmap(image, len(data))
        own = text.split("<BmapFileChecksum> ")[1].split()[0]
        self.assertEqual(hashlib.sha256(text.replace(own, "0" * 64).encode()).hexdigest(), own)
        for line in text.splitlines():
            if "<Range" in line:
                first, _, last = line.split("> ")[1].split(" <")[0].partition("-")
                part = data[int(first) * 4096 : (int(last or first) + 1) * 4096]
                self.assertIn(hashlib.sha256(part).hexdigest(), line)

    def test_what_is_no_disk_is_refused(self):
        path = self.folder / "disk"
        path.write_bytes(b"\0" * 8192)
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(bmap.main([str(path), str(self.folder / "map")]), 1)
        self.assertIn("there is no GPT", said.getvalue())


class Bill(Folder):
    """sbom."""

    def test_packages_and_crates_are_named_with_licence_and_sum(self):
        self.write("p/zlib.hash", f"sha256  {'a' * 64}  zlib-1.tar.xz\n")
        info = {
            "zlib": {"type": "target", "virtual": False, "version": "1", "licenses": "Zlib", "hashes": ["p/zlib.hash"],
                     "downloads": [{"source": "zlib-1.tar.xz", "uris": ["https+https://zlib.example"]}]},
            "host-gcc": {"type": "host", "virtual": False, "version": "1"},
            "sarai": {"type": "target", "virtual": False, "version": "1"},
        }  # fmt: skip
        source = "registry+https://github.com/rust-lang/crates.io-index"
        metadata = {
            "packages": [
                {"id": "a", "name": "serde", "version": "1.0.0", "source": source, "license": "MIT/Apache-2.0"},
                {"id": "b", "name": "windows", "version": "1.0.0", "source": source, "license": "MIT"},
                {"id": "c", "name": "sarai-cli", "version": "1.0.0", "source": None, "license": "MIT"},
            ],
            "resolve": {"nodes": [{"id": "a"}, {"id": "c"}]},
        }
        lock = f'[[package]]\nname = "serde"\nversion = "1.0.0"\nsource = "{source}"\nchecksum = "{"b" * 64}"\n'
        first = sbom.document(info, metadata, lock, self.folder, "sarai", "1")
        names = {c["name"]: c for c in first["components"]}
        self.assertEqual(set(names), {"zlib", "serde"})
        self.assertEqual(names["serde"]["licenses"], [{"expression": "MIT OR Apache-2.0"}])
        self.assertEqual(names["serde"]["hashes"][0]["content"], "b" * 64)
        reference = names["zlib"]["externalReferences"][0]
        self.assertEqual(reference["url"], "https://zlib.example/zlib-1.tar.xz")
        self.assertEqual(reference["hashes"][0]["content"], "a" * 64)
        self.assertEqual(json.dumps(first), json.dumps(sbom.document(info, metadata, lock, self.folder, "sarai", "1")))
        uuid.UUID(first["serialNumber"].removeprefix("urn:uuid:"))

    def test_an_empty_image_is_refused(self):
        with self.assertRaisesRegex(ValueError, "nothing is in the image"):
            sbom.document({}, {"packages": [], "resolve": {"nodes": []}}, "package = []", self.folder, "sarai", "1")


if __name__ == "__main__":
    unittest.main()
