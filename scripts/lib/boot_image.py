"""Boots a disk image under UEFI in QEMU and measures the stages: see scripts/boot-image."""

import argparse
import json
import os
import re
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boot_checks
from boot_checks import Failed

DISKS = {
    "virtio": ["virtio-blk-pci,drive=disk"],
    "ahci": ["ich9-ahci,id=sata", "ide-hd,drive=disk,bus=sata.0"],
    "nvme": ["nvme,drive=disk,serial=sarai"],
    "usb": ["qemu-xhci", "usb-storage,drive=disk,removable=on"],
}
CARDS = {"virtio": "virtio-net-pci", "e1000e": "e1000e", "igb": "igb"}
FIRMWARES = ["/usr/share/ovmf/OVMF.fd", "/usr/share/qemu/OVMF.fd", "/usr/share/edk2/x64/OVMF.4m.fd"]
PROMPT = b"sarai> "
# What a console that is locked shows, with the code that opens it; one that is open has the prompt at once.
LOCKED = rb"To open it, type (\d{6}) and press Enter\."
REACHED = re.compile(b"%s|%s" % (re.escape(PROMPT), LOCKED))
# What the console shows at the end of each stage, in their order: the firmware as it starts the system, the
# supervisor's first line.
STAGES = [("firmware", re.compile(b"BdsDxe: starting")), ("kernel", re.compile(b"SARAi ")), ("prompt", REACHED)]
# Promise: memory that the system uses while no engine runs, MiB (docs/SPECIFICATION.md).
MOST_USED = 120
# After the prompt the kernel still gives back what only the way up needed: two looks so many seconds apart that differ by
# less than 1 MiB are the end of that, and there is an end to looking.
SETTLE, MOST_LOOKS = 8, 8
# Most that the console is read, bytes.
MAX_CONSOLE = 16 << 20


class Machine:
    """A virtual machine whose serial line is the console."""

    def __init__(self, command, log):
        self.begun = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        self.log, self.seen = log, b""

    def wait_for(self, text, seconds, after=0):
        """Waits until the console shows what a pattern matches; returns the match, and seconds since power-on."""
        until = time.monotonic() + seconds
        while True:
            found = text.search(self.seen, after)
            if found:
                return found, time.monotonic() - self.begun
            left = until - time.monotonic()
            if left <= 0:
                what = text.pattern.decode()
                raise Failed(f"the console did not show {what!r} within {seconds} s: {self.tail()}")
            if self.selector.select(min(left, 1)):
                data = self.process.stdout.read(65536)
                if data == b"":
                    what = text.pattern.decode()
                    raise Failed(f"the machine ended before the console showed {what!r}: {self.tail()}")
                self.log.write(data or b"")
                self.log.flush()
                self.seen += data or b""
                if len(self.seen) > MAX_CONSOLE:
                    raise Failed("the console does not stop")

    def type(self, line):
        """Types a line."""
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def open(self, reached, seconds):
        """Opens the prompt with the code that the console shows, if it asks for one."""
        if reached[1] is not None:
            self.type(reached[1])
            self.wait_for(re.compile(PROMPT), seconds, reached.end())

    def command(self, line, seconds):
        """Types a line at the prompt; returns what it answers."""
        at = len(self.seen)
        self.type(line.encode())
        echo, _ = self.wait_for(re.compile(b"\n"), seconds, at)
        prompt, _ = self.wait_for(re.compile(PROMPT), seconds, echo.end())
        answer = self.seen[echo.end() : prompt.start()].decode(errors="replace").replace("\r", "")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", answer)

    def off(self, seconds):
        """Asks the machine to shut down, and waits until it has."""
        self.type(b"poweroff")
        until = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() > until:
                raise Failed(f"the machine did not shut down within {seconds} s: {self.tail()}")
            if self.selector.select(0.5):
                data = self.process.stdout.read(65536)
                self.log.write(data or b"")
                self.seen += data or b""
                if data == b"":
                    self.process.wait(seconds)

    def tail(self):
        """The end of what the console showed."""
        return self.seen[-2000:].decode(errors="replace")

    def kill(self):
        """Cuts the power."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def disk_of(image, folder, size):
    """A disk of that many bytes with the image on it."""
    disk = Path(folder) / "disk.img"
    if image.suffix == ".zst":
        subprocess.run(["zstd", "-qd", "--sparse", str(image), "-o", str(disk)], check=True)
    else:
        shutil.copyfile(image, disk)
    if disk.stat().st_size > size:
        raise Failed(f"{image} is larger than the disk")
    os.truncate(disk, size)
    return disk


def command_of(options, disk, firmware, ports):
    """How QEMU is started; ports of this machine lead to the guest's SSH and HTTPS."""
    accel = "kvm" if options.kvm else "tcg,thread=multi"
    command = [
        "qemu-system-x86_64", "-name", "sarai", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", "q35", "-accel", accel, "-cpu", "host" if options.kvm else "max", "-smp", str(options.cpus),
        "-m", f"{options.memory}M", "-bios", firmware, "-serial", "stdio", "-monitor", "none",
        "-device", "virtio-rng-pci", "-device", "i6300esb", "-action", "watchdog=reset",
        "-drive", f"file={disk},format=raw,if=none,id=disk,discard=unmap",
        "-netdev", f"user,id=lan,hostfwd=tcp:127.0.0.1:{ports[0]}-:22,hostfwd=tcp:127.0.0.1:{ports[1]}-:443",
        "-device", f"{CARDS[options.net]},netdev=lan",
    ]  # fmt: skip
    for device in DISKS[options.disk]:
        command += ["-device", device]
    return command


def checked(options, machine, ports, status, folder):
    """What else was to be shown; returns what came of each."""
    shown = {}
    if options.ntp:
        shown["ntp"] = boot_checks.told_the_time(machine, options.timeout)
    if options.ssh:
        over_ssh = boot_checks.ssh(ports[0], options.ssh, status["ssh_fingerprint"], folder)
        shown["ssh"] = f"status of {over_ssh['hostname']} read"
    if options.ask:
        shown["ask"] = boot_checks.answer(machine, ports[1], options.timeout)
    for what, outcome in shown.items():
        print(f"{what}: {outcome}")
    return shown


def status_of(machine, timeout):
    """The machine's status, and MiB that are in use."""
    text = machine.command("status --json", timeout)
    try:
        # A machine that is not ready says so in a line after it.
        status, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    except ValueError as error:
        raise Failed(f"status --json is no JSON ({error}): {text}") from error
    memory = status["memory"]
    return status, round((memory["total"] - memory["available"]) / (1 << 20), 1)


def settled(machine, timeout):
    """The same, once it changes no more."""
    status, used = status_of(machine, timeout)
    for _ in range(MOST_LOOKS):
        time.sleep(SETTLE)
        before = used
        status, used = status_of(machine, timeout)
        if abs(before - used) < 1:
            break
    return status, used


def boot(options, disk, firmware, log, which):
    """One boot from power-on to power-off; returns its figures."""
    ports = [boot_checks.free_port(), boot_checks.free_port()]
    machine = Machine(command_of(options, disk, firmware, ports), log)
    try:
        figures, at, before = {"boot": which}, 0, 0.0
        for name, text in STAGES:
            reached, seconds = machine.wait_for(text, options.timeout, at)
            figures[f"{name}_s"] = round(seconds - before, 2)
            at, before = reached.end(), seconds
        figures["total_s"] = round(before, 2)
        machine.open(reached, options.timeout)
        figures["status"], figures["used_mib"] = settled(machine, options.timeout)
        figures.update(checked(options, machine, ports, figures["status"], disk.parent))
        if options.show:
            print(machine.command("status", options.timeout))
        machine.off(options.timeout)
        return figures
    finally:
        machine.kill()


def main(arguments):
    """The command."""
    parser = argparse.ArgumentParser(prog="boot-image", add_help=False)
    parser.add_argument("image", type=Path)
    parser.add_argument("--disk", choices=DISKS, default="ahci")
    parser.add_argument("--net", choices=CARDS, default="e1000e")
    parser.add_argument("--memory", type=int, default=2048)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--boots", type=int, default=2)
    parser.add_argument("--timeout", type=int, default=600)
    parser.add_argument("--firmware")
    parser.add_argument("--kvm", action="store_true")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--ssh", type=Path)
    parser.add_argument("--ntp", action="store_true")
    parser.add_argument("--ask", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--log", type=Path)
    options = parser.parse_args(arguments)
    try:
        firmware = options.firmware or next((f for f in FIRMWARES if Path(f).is_file()), None)
        if firmware is None:
            raise Failed("no UEFI firmware; on Debian: apt-get install ovmf")
        if options.ntp:
            boot_checks.TimeServer()
        with tempfile.TemporaryDirectory() as folder:
            disk = disk_of(options.image, folder, options.size << 30)
            with open(options.log or Path(folder) / "console", "wb") as log:
                table = [boot(options, disk, firmware, log, which) for which in range(1, options.boots + 1)]
    except (Failed, OSError, subprocess.SubprocessError) as error:
        print(f"boot-image: {error}", file=sys.stderr)
        return 1
    print(f"{options.image.name}: {options.disk} disk, {options.net} network, {options.memory} MiB, seconds")
    print("boot  firmware   kernel  to prompt    total   used MiB")
    for figures in table:
        times = [figures[f"{name}_s"] for name, _ in STAGES]
        row = f"{figures['boot']:4}  {times[0]:8.1f} {times[1]:8.1f} {times[2]:10.1f} {figures['total_s']:8.1f}"
        print(f"{row} {figures['used_mib']:10.1f}")
    if options.json:
        aside = options.json.with_suffix(".new")
        record = {"image": options.image.name, "disk": options.disk, "net": options.net, "memory_mib": options.memory}
        aside.write_text(json.dumps({**record, "boots": table}, indent=1) + "\n", encoding="utf-8")
        aside.replace(options.json)
    engines = [s for f in table for s in f["status"]["services"] if "engine" in s["name"] and s.get("pid")]
    missed = [f for f in table if f["used_mib"] > MOST_USED]
    if missed and not engines:
        print(f"boot-image: {missed[0]['used_mib']} MiB used with no engine, promised {MOST_USED}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
