"""Checks the external tree of Buildroot without Buildroot: see scripts/check-buildroot."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import buildroot_crates
import image_files

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "buildroot"
PREFIX = "$(BR2_EXTERNAL_SARAI_PATH)/"
NAME = re.compile(r"[A-Z0-9_]+")
SETTING = re.compile(r'(BR2_[A-Za-z0-9_]+)=(y|"[^"]*"|[0-9]+)')
UNSET = re.compile(r"# (BR2_[A-Za-z0-9_]+) is not set")
OPTION = re.compile(r'(?:(CONFIG_[A-Za-z0-9_]+)=(?:y|[0-9]+|"[^"]*")|# (CONFIG_[A-Za-z0-9_]+) is not set)')


class Report:
    """What was found wrong, and what could not be looked at."""

    def __init__(self):
        self.wrong, self.notes, self.looked = [], [], 0

    def expect(self, holds, message):
        """Counts a check and keeps what is wrong."""
        self.looked += 1
        if not holds:
            self.wrong.append(message)
        return holds


def text(path):
    """A file's text."""
    return path.read_text(encoding="utf-8")


def pinned():
    """The pin file as pairs; a key may be there several times."""
    pairs = {}
    for line in text(TREE / "buildroot.pin").splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            pairs.setdefault(key, []).append(value)
    return pairs


def check_tree(report):
    """external.desc, the pin, and Config.in with what it sources."""
    desc = dict(line.split(": ", 1) for line in text(TREE / "external.desc").splitlines() if line)
    report.expect(desc.get("name") == "SARAI" and desc.get("desc"), "external.desc: no name SARAI or no desc")
    pin = pinned()
    report.expect(re.fullmatch(r"\d{4}\.\d{2}(\.\d+)?", pin.get("version", [""])[0]), "buildroot.pin: no version")
    report.expect(re.fullmatch(r"[0-9a-f]{40}", pin.get("commit", [""])[0]), "buildroot.pin: no commit")
    report.expect(re.fullmatch(r"[0-9a-f]{64}", pin.get("sha256", [""])[0]), "buildroot.pin: no sha256")
    report.expect(
        pin.get("mirror") and all(m.startswith("https://") for m in pin["mirror"]), "buildroot.pin: no https mirror"
    )
    sourced = []
    for line in text(TREE / "Config.in").splitlines():
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r'source "\$BR2_EXTERNAL_SARAI_PATH/(.+)"', line)
        if report.expect(match, f"Config.in: {line}"):
            if report.expect((TREE / match[1]).is_file(), f"Config.in: there is no {match[1]}"):
                sourced.append(match[1])
    for folder in sorted((TREE / "package").iterdir()):
        report.expect(f"package/{folder.name}/Config.in" in sourced, f"Config.in does not source package/{folder.name}")
    return check_kconfig(report, sourced)


def check_kconfig(report, sourced):
    """Blocks that end, options with a type and a help; returns the options there are."""
    options = set()
    for path in sourced:
        open_blocks, config, typed, helped = [], None, False, False

        def close(path=path):
            if config:
                report.expect(typed and helped, f"{path}: {config} has no type or no help")

        for line in text(TREE / path).splitlines():
            words = line.split()
            if not words:
                continue
            if not line[0].isspace():
                close()
                config = None
                if words[0] in ("if", "menu", "choice"):
                    open_blocks.append(words[0])
                elif words[0] in ("endif", "endmenu", "endchoice"):
                    matches = open_blocks and open_blocks.pop() == words[0][3:]
                    report.expect(matches, f"{path}: {words[0]} without {words[0][3:]}")
                elif words[0] in ("config", "menuconfig"):
                    config, typed, helped = words[1], False, False
                    report.expect(config not in options, f"{path}: {config} twice")
                    options.add(config)
                else:
                    report.expect(words[0] in ("comment", "#"), f"{path}: {line}")
            elif config:
                typed = typed or words[0] in ("bool", "string", "int")
                helped = helped or words[0] == "help"
        close()
        report.expect(not open_blocks, f"{path}: {open_blocks} does not end")
    return options


def check_packages(report, options):
    """Each package has its option, licence, licence files and a hash for whatever it downloads."""
    for folder in sorted((TREE / "package").iterdir()):
        name, upper = folder.name, folder.name.upper().replace("-", "_")
        report.expect(f"BR2_PACKAGE_{upper}" in options, f"{name}: Config.in has no BR2_PACKAGE_{upper}")
        make = text(folder / f"{name}.mk")
        report.expect(
            re.search(r"^\$\(eval \$\((host-)?(generic|cargo|cmake|autotools)-package\)\)$", make, re.M),
            f"{name}.mk ends in no package of a known kind",
        )
        values = dict(re.findall(rf"^{upper}_([A-Z_]+) :?= ?(.*)$", make, re.M))
        report.expect(values.get("LICENSE"), f"{name}.mk names no licence")
        files = values.get("LICENSE_FILES", "").split()
        report.expect(files, f"{name}.mk names no licence files")
        if values.get("SITE_METHOD") == "local":
            for file in files:
                report.expect((ROOT / file).is_file(), f"{name}.mk: there is no {file}")
            continue
        hashes = folder / f"{name}.hash"
        if not report.expect(hashes.is_file(), f"{name} has no {name}.hash"):
            continue
        lines = [line.split() for line in text(hashes).splitlines() if line and not line.startswith("#")]
        sound = all(len(w) == 3 and w[0] == "sha256" and re.fullmatch("[0-9a-f]{64}", w[1]) for w in lines)
        report.expect(sound, f"{name}.hash holds something else than sha256 lines")
        known = {w[-1] for w in lines}
        for listed in sorted(folder.glob("*.list")):
            for url in re.findall(r"https://\S+", text(listed)):
                report.expect(url.rsplit("/", 1)[-1] in known, f"{name}.hash has no hash of {url}")
    for path in buildroot_crates.stale():
        report.expect(False, f"{path.relative_to(ROOT)} is not of this Cargo.lock: scripts/check-buildroot --update")


def settings(path):
    """Name, value, line number of each setting of a defconfig; None for the name where a line is something else."""
    for number, line in enumerate(text(path).splitlines(), 1):
        if match := SETTING.fullmatch(line):
            yield match[1], match[2].strip('"'), number
        elif match := UNSET.fullmatch(line):
            yield match[1], "", number
        elif line and not line.startswith("#"):
            yield None, line, number


def check_defconfig(report, path, options, known):
    """Settings that can be read, once each, whose files are there. Returns them."""
    found = {}
    for name, value, number in settings(path):
        where = f"{path.name}:{number}"
        if not report.expect(name, f"{where}: {value}"):
            continue
        report.expect(name not in found, f"{where}: {name} twice")
        found[name] = value
        if known is not None:
            report.expect(name in known or name in options, f"{where}: Buildroot has no {name}")
        elif name.startswith("BR2_PACKAGE_SARAI"):
            report.expect(name in options, f"{where}: there is no {name}")
        for word in value.split():
            if word.startswith(PREFIX):
                report.expect((TREE / word.removeprefix(PREFIX)).exists(), f"{where}: there is no {word}")
    version = found.get("BR2_LINUX_KERNEL_CUSTOM_VERSION_VALUE", "")
    for package in ("linux", "linux-headers"):
        hashes = text(TREE / f"patches/{package}/{package}.hash")
        report.expect(f"  linux-{version}.tar.xz" in hashes, f"{path.name}: no hash of linux-{version} for {package}")
    report.expect(pinned()["version"][0] in text(path), f"{path.name} does not say for which Buildroot it is")
    report.expect(found.get("BR2_DOWNLOAD_FORCE_CHECK_HASHES") == "y", f"{path.name}: downloads without a hash pass")
    report.expect(found.get("BR2_REPRODUCIBLE") == "y", f"{path.name}: not reproducible")
    return found


def check_rust(report):
    """The toolchain is the one Cargo.toml wants, with hashes for each machine."""
    wanted = tomllib.loads(text(ROOT / "Cargo.toml"))["workspace"]["package"]["rust-version"]
    match = re.search(r"^override RUST_BIN_VERSION := (\S+)$", text(TREE / "override.mk"), re.M)
    if not report.expect(match and match[1].startswith(wanted), f"override.mk: not the Rust {wanted} of Cargo.toml"):
        return
    hashes = text(TREE / "patches/rust-bin/rust-bin.hash")
    for machine in ("x86_64", "aarch64"):
        for what in ("rust", "rust-std"):
            file = f"{what}-{match[1]}-{machine}-unknown-linux-gnu.tar.xz"
            report.expect(file in hashes, f"rust-bin.hash has no {file}")


def kernel_files(defconfig):
    """The files that say what the kernel has to have."""
    names = f"{defconfig['BR2_LINUX_KERNEL_CUSTOM_CONFIG_FILE']} {defconfig['BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES']}"
    return [TREE / word.removeprefix(PREFIX) for word in names.split()]


def check_kernel(report, arch, files, kernel):
    """Options that can be read, that exist, and of which no two files say different things."""
    asked = {}
    for path in files:
        if not path.is_file():
            continue
        for number, line in enumerate(text(path).splitlines(), 1):
            match = OPTION.fullmatch(line)
            if not match:
                report.expect(not line or line.startswith("# ") or line == "#", f"{path.name}:{number}: {line}")
                continue
            name = match[1] or match[2]
            report.expect(asked.get(name, line) == line, f"{path.name}:{number}: {name} was asked for differently")
            asked[name] = line
    names = {name.removeprefix("CONFIG_") for name in asked}
    listed = TREE / "board/sarai/common/kernel-options.list"
    if kernel is not None:
        real = set()
        for path in kernel.rglob("Kconfig*"):
            real.update(re.findall(r"^\s*(?:menu)?config ([A-Za-z0-9_]+)", path.read_text(errors="replace"), re.M))
        for name in sorted(names - real):
            report.expect(False, f"{arch}: Linux has no CONFIG_{name}")
        return names
    seen = set(image_files.lines_of(listed))
    for name in sorted(names - seen):
        report.expect(False, f"{arch}: CONFIG_{name} was not seen in a kernel; check-buildroot --kernel DIR --update")
    return names


def check_disk(report, arch):
    """The disk is laid out as common/README.md promises."""
    disk = text(TREE / f"board/sarai/{arch}/genimage.cfg")
    report.expect(disk.count("{") == disk.count("}"), f"{arch}/genimage.cfg: blocks do not end")
    for needed in ("partition SARAI-ESP", "offset = 1M", "size = 510M", '-F 32 '):
        report.expect(needed in disk, f"{arch}/genimage.cfg: no {needed}")
    report.expect(list(image_files.lines_of(TREE / f"board/sarai/{arch}/rootfs.list")), f"{arch}/rootfs.list is empty")


def check_shared(report):
    """Busybox has the applets of the list, and the users are those of the overlay."""
    common = TREE / "board/sarai/common"
    busybox = text(common / "busybox.config")
    for applet in image_files.lines_of(common / "busybox-applets.list"):
        option = {"sh": "ASH"}.get(applet, applet.upper())
        report.expect(f"\nCONFIG_{option}=y\n" in busybox, f"busybox.config has no {applet}")
    debug = text(common / "busybox-debug.config")
    for applet in image_files.lines_of(common / "debug-applets.list"):
        report.expect(f"\nCONFIG_{applet.upper()}=y\n" in debug, f"busybox-debug.config has no {applet}")
    users = {line.split(":")[0]: line.split(":")[2] for line in text(common / "rootfs-overlay/etc/passwd").splitlines()}
    for line in image_files.lines_of(common / "users.table"):
        name, uid = line.split()[:2]
        report.expect(users.get(name) == uid, f"users.table: {name} is not {uid} in /etc/passwd")


def buildroot_options(folder):
    """Every option Buildroot has."""
    names = set()
    for path in folder.rglob("Config.*"):
        if ".mk" not in path.name:
            found = re.findall(r"^\s*(?:menu)?config (BR2_[A-Za-z0-9_]+)", path.read_text(errors="replace"), re.M)
            names.update(found)
    return names


def write_options(names):
    """Writes down which options were found in a kernel."""
    head = "# Options that are asked for, all found in the Kconfig files of the kernel that the defconfigs name.\n"
    body = "".join(f"{name}\n" for name in sorted(names))
    (TREE / "board/sarai/common/kernel-options.list").write_text(f"{head}{body}", encoding="utf-8")


def check_with_buildroot(report, folder):
    """What Buildroot's own check-package says; it needs the Python packages magic and flake8."""
    done = subprocess.run([sys.executable, "-c", "import flake8, magic"], capture_output=True, check=False)
    if done.returncode:
        report.notes.append("Buildroot's check-package was not asked: python3-magic and flake8 are not there")
        return
    files = [p for p in sorted((TREE / "package").rglob("*")) if p.suffix in (".mk", ".hash") or p.name == "Config.in"]
    done = subprocess.run(
        [sys.executable, folder / "utils/check-package", "-q", "-b", *files], capture_output=True, text=True, check=False
    )
    report.expect(done.returncode == 0, f"Buildroot's check-package: {done.stdout}{done.stderr}")


def main(arguments):
    """The command; arguments as in scripts/check-buildroot."""
    values = dict(zip(arguments[::2], arguments[1::2]))
    kernel = Path(values["--kernel"]) if "--kernel" in values else None
    buildroot = Path(values["--buildroot"]) if "--buildroot" in values else None
    if "--update" in values:
        buildroot_crates.update()
    report = Report()
    options = check_tree(report)
    check_packages(report, options)
    check_rust(report)
    check_shared(report)
    known = buildroot_options(buildroot) if buildroot else None
    names = set()
    for path in sorted((TREE / "configs").glob("sarai_*_defconfig")):
        arch = path.name.removeprefix("sarai_").removesuffix("_defconfig")
        found = check_defconfig(report, path, options, known)
        names |= check_kernel(report, arch, kernel_files(found), kernel)
        check_disk(report, arch)
    if kernel and "--update" in values:
        write_options(names)
    if buildroot:
        check_with_buildroot(report, buildroot)
    else:
        report.notes.append("whether Buildroot has the options of the defconfigs was not looked at (--buildroot DIR)")
    if not kernel:
        report.notes.append("kernel options were compared with kernel-options.list, not with a kernel (--kernel DIR)")
    for line in report.notes:
        print(f"note: {line}")
    for line in report.wrong:
        print(f"wrong: {line}")
    print(f"{report.looked} checks of the external tree, {len(report.wrong)} failed")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
