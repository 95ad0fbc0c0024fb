"""Which files an image holds: one list for every image, the rest declared.

    image_files.py prune TARGET ARCH          removes from a root what is not written down, fails on what is missing
    image_files.py seal ROOTFS.CPIO ARCH      fails on an archive that holds anything else, or what is not root's alone
    image_files.py compare INITRAMFS ARCH     compares the image for virtual machines with what Buildroot's holds

Written down are, below buildroot/board/sarai: common/rootfs-overlay, common/programs.list and
common/busybox-applets.list (in every image; with SARAI_DEBUG_SHELL set also common/debug-applets.list), ARCH/rootfs.list (in Buildroot's image besides), and
common/differences.list (where the two images may differ, and why).
"""

import fnmatch
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

BOARD = Path(__file__).resolve().parents[2] / "buildroot/board/sarai"
COMMON = BOARD / "common"
# Made by the assembly of either image; hold nothing of their own.
FRAME = {
    "/bin", "/data", "/dev", "/dev/console", "/etc", "/etc/sarai", "/etc/sarai/keyring", "/init", "/lib", "/lib64",
    "/proc", "/run", "/sbin", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/lib/sarai", "/usr/lib64",
    "/usr/sbin", "/usr/lib/sarai/build-stamp",
}  # fmt: skip
# Largest archive that is read, bytes unpacked.
MAX_ARCHIVE = 2 << 30


class Wrong(Exception):
    """What is wrong, in words for a person."""


def lines_of(path):
    """The lines of a list, without comments and blanks."""
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.split("#", 1)[0].strip()
        if line:
            yield line


def shared():
    """What every image holds: exact paths, and folders that are shared with all they hold."""
    paths, folders = set(FRAME), set()
    for root, names, files in os.walk(COMMON / "rootfs-overlay"):
        for name in names + files:
            paths.add("/" + str((Path(root) / name).relative_to(COMMON / "rootfs-overlay")))
    for line in lines_of(COMMON / "programs.list"):
        kind, _, to = line.split()[:3]
        paths.add(to)
        if kind == "folder":
            folders.add(to)
    lists = ["busybox-applets.list"]
    if os.environ.get("SARAI_DEBUG_SHELL"):
        lists.append("debug-applets.list")
        paths.add("/usr/lib/sarai/debug-shell")
    for applet in (applet for name in lists for applet in lines_of(COMMON / name)):
        paths.add("/usr/bin/" + applet)
    paths.add("/usr/bin/busybox")
    return paths, folders


def is_shared(path, paths, folders):
    """Whether every image holds it. Certificates come with the one who builds."""
    return path in paths or path.startswith("/etc/sarai/keyring/") or any(path.startswith(f + "/") for f in folders)


def matching(path, patterns):
    """The first pattern that a path, or a folder above it, matches."""
    at = path
    while at not in ("", "/"):
        for pattern in patterns:
            if fnmatch.fnmatchcase(at, pattern):
                return pattern
        at = os.path.dirname(at)
    return None


def walk(root):
    """Every path below a folder, as seen from inside."""
    for folder, names, files in os.walk(root):
        for name in sorted(names + files):
            yield "/" + str((Path(folder) / name).relative_to(root))


def prune(root, arch):
    """Removes what is not written down; a root without what is written down is wrong."""
    paths, folders = shared()
    patterns = list(lines_of(BOARD / arch / "rootfs.list"))
    used, kept, removed = set(), set(), []
    everything = sorted(walk(root))
    for path in everything:
        pattern = matching(path, patterns)
        used.add(pattern)
        if pattern or is_shared(path, paths, folders):
            while path not in ("", "/"):
                kept.add(path)
                path = os.path.dirname(path)
    for path in everything:
        if path in kept or os.path.dirname(path) in removed:
            if path not in kept:
                removed.append(path)
            continue
        removed.append(path)
        at = root + path
        if os.path.isdir(at) and not os.path.islink(at):
            shutil.rmtree(at)
        else:
            os.unlink(at)
    for path in removed:
        print(f"not in the image: {path}")
    missing = [p for p in sorted(paths - {"/dev/console", "/init"}) if not os.path.lexists(root + p)]
    missing += [p for p in patterns if p not in used]
    if missing:
        raise Wrong("the root lacks " + ", ".join(missing))
    dangling = [p for p in kept if os.path.islink(root + p) and not resolves(root, p)]
    if dangling:
        raise Wrong("links to nowhere: " + ", ".join(sorted(dangling)))
    check_libraries(root, kept)


def check_libraries(root, kept):
    """Every program finds its libraries: the loader would say so only on the machine."""
    there, lacking = {os.path.basename(p) for p in kept}, []
    for path in sorted(kept):
        at = root + path
        if os.path.islink(at) or not os.path.isfile(at):
            continue
        with open(at, "rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
        done = subprocess.run(["readelf", "-dW", at], check=True, capture_output=True, text=True)
        for name in re.findall(r"\(NEEDED\)\s+Shared library: \[(.+)\]", done.stdout):
            if name not in there:
                lacking.append(f"{path} needs {name}")
    if lacking:
        raise Wrong("libraries are missing: " + ", ".join(lacking))


def resolves(root, path):
    """Whether a link leads to something inside the root. What a running system makes counts as there."""
    for _ in range(16):
        if not os.path.islink(root + path):
            return os.path.lexists(root + path)
        target = os.readlink(root + path)
        path = os.path.normpath(target if target.startswith("/") else os.path.join(os.path.dirname(path), target))
        if path.startswith(("/run/", "/proc/", "/dev/", "/data/", "/tmp/")):
            return True
        # Links on the way: /lib -> usr/lib.
        parts, at = path.strip("/").split("/"), ""
        for index, part in enumerate(parts):
            at += "/" + part
            if index < len(parts) - 1 and os.path.islink(root + at):
                into = os.readlink(root + at)
                base = into if into.startswith("/") else os.path.join(os.path.dirname(at), into)
                path = os.path.normpath("/".join([base, *parts[index + 1 :]]))
                break
    return False


def archive(data):
    """Path, mode and owner in cpio archives (newc) that follow each other, as the kernel reads them."""
    at = 0
    while at + 110 <= len(data):
        if data[at] == 0:
            at += 1
            continue
        if data[at : at + 6] not in (b"070701", b"070702"):
            raise Wrong(f"no cpio header at byte {at}")
        field = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, length = field[6], field[11]
        name = data[at + 110 : at + 110 + length - 1].decode()
        at = (at + 110 + length + 3) // 4 * 4
        at = (at + size + 3) // 4 * 4
        if name not in ("TRAILER!!!", "."):
            yield "/" + name.removeprefix("./"), field[1], field[2]


def seal(rootfs, arch):
    """The archive that becomes the root: what is written down, root's, writable for nobody else, with no set-user bit."""
    paths, folders = shared()
    patterns = list(lines_of(BOARD / arch / "rootfs.list"))
    wrong, count = [], 0
    for path, mode, owner in archive(Path(rootfs).read_bytes()):
        count += 1
        # A folder on the way to a pattern.
        leads = any(p.startswith(path + "/") for p in [*patterns, *paths])
        if not is_shared(path, paths, folders) and not matching(path, patterns) and not leads:
            wrong.append(f"{path} is not written down")
        if owner != 0:
            wrong.append(f"{path} is user {owner}'s")
        if mode & 0o6000:
            wrong.append(f"{path} has a set-user or set-group bit")
        link = stat.S_ISLNK(mode)
        if mode & 0o022 and not link and path not in ("/tmp", "/dev/console"):
            wrong.append(f"{path} is writable for others than root")
    if wrong or not count:
        raise Wrong("\n".join(wrong) or f"{rootfs} holds nothing")
    print(f"{count} paths in the root, all written down and root's alone")


def compare(initramfs, arch):
    """Compares the image for virtual machines with what Buildroot's holds."""
    data = subprocess.run(["zstd", "-dc", initramfs], check=True, capture_output=True).stdout
    if len(data) > MAX_ARCHIVE:
        raise Wrong(f"{initramfs} unpacks to {len(data)} bytes")
    machine = {path for path, _, _ in archive(data)}
    paths, folders = shared()
    patterns = list(lines_of(BOARD / arch / "rootfs.list"))
    declared = {"vm": [], "buildroot": []}
    for line in lines_of(COMMON / "differences.list"):
        image, pattern = line.split()
        if image not in declared:
            raise Wrong(f'differences.list: what image is "{image}"?')
        declared[image].append(pattern)
    wrong, used = [], set()
    for path in sorted(machine):
        if is_shared(path, paths, folders) or matching(path, patterns):
            continue
        # A folder that only leads to declared files.
        if any(fnmatch.fnmatchcase(p, path + "/*") for p in declared["vm"]):
            continue
        pattern = matching(path, declared["vm"])
        used.add(("vm", pattern))
        if pattern is None:
            wrong.append(f"only in the image for virtual machines: {path}")
    for path in sorted(paths - {"/dev/console", "/init"}):
        if path not in machine:
            wrong.append(f"not in the image for virtual machines: {path}")
    for pattern in patterns:
        if any(fnmatch.fnmatchcase(p, pattern) for p in machine):
            continue
        by = next((d for d in declared["buildroot"] if fnmatch.fnmatchcase(pattern, d) or d == pattern), None)
        used.add(("buildroot", by))
        if by is None:
            wrong.append(f"only in Buildroot's image: {pattern}")
    for image, names in declared.items():
        wrong += [f"differences.list: {image} {n} is no difference" for n in names if (image, n) not in used]
    if wrong:
        raise Wrong("\n".join(wrong))
    print(f"{len(machine)} paths, {len(paths)} shared, {sum(map(len, declared.values()))} differences declared")


def main(arguments):
    """The command."""
    try:
        match arguments:
            case ["prune", target, arch]:
                prune(target.rstrip("/"), arch)
            case ["seal", rootfs, arch]:
                seal(rootfs, arch)
            case ["compare", initramfs, arch]:
                compare(initramfs, arch)
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except (Wrong, OSError, subprocess.CalledProcessError, ValueError) as error:
        print(f"image_files: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
