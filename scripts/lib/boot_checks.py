"""What scripts/boot-image can ask of a machine besides its status: SSH, the time, an answer."""

import http.client
import json
import socket
import ssl
import struct
import subprocess
import threading
import time
from pathlib import Path

# Seconds between the epochs of NTP and Unix (RFC 5905, figure 4).
NTP_EPOCH = 2208988800
# What the time server's clock is ahead of this machine's, seconds.
AHEAD = 3600
# Longest answer that is read, bytes.
MAX_ANSWER = 1 << 20


class Failed(Exception):
    """Why it did not work, in words for a person."""


def free_port():
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class TimeServer:
    """Answers NTP on this machine's port 123, which the emulator's network shows the guest as its router's."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.socket.bind(("127.0.0.1", 123))
        except OSError as error:
            raise Failed(f"--ntp needs UDP port 123 of this machine, as root: {error}") from error
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        """Server mode, version 4, stratum 1 (RFC 5905, figure 8)."""
        while True:
            asked, whom = self.socket.recvfrom(512)
            now = time.time() + AHEAD
            if len(asked) >= 48:
                head = struct.pack("!BBbbII4s", 0x24, 1, 6, -20, 0, 0, b"LOCL")
                stamps = [stamp(now - 1), asked[40:48], stamp(now), stamp(time.time() + AHEAD)]
                self.socket.sendto(head + b"".join(stamps), whom)


def stamp(seconds):
    """A time as NTP writes it: seconds and their fraction, 32 bits each."""
    whole = int(seconds)
    return struct.pack("!II", (whole + NTP_EPOCH) & 0xFFFFFFFF, int((seconds - whole) * (1 << 32)))


def ssh(port, key, fingerprint, folder):
    """Comes in with a key, to the server that the status names; the prompt's commands work and a shell does not.
    Returns what `status --json` said."""
    # An emulated machine takes its time for the exchange of keys, of which this is one for each kind asked for.
    scan = ["ssh-keyscan", "-T", "100", "-t", "ed25519", "-p", str(port), "127.0.0.1"]
    keys = subprocess.run(scan, capture_output=True, text=True, timeout=120)
    known = Path(folder) / "known_hosts"
    known.write_text(keys.stdout, encoding="utf-8")
    shown = subprocess.run(["ssh-keygen", "-lf", str(known)], capture_output=True, text=True, timeout=20).stdout
    if not fingerprint or fingerprint.split()[-1] not in shown:
        raise Failed(f"SSH shows {shown.strip()!r}, the status {fingerprint!r}: {keys.stderr.strip()}")
    command = [
        "ssh", "-p", str(port), "-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
        "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "admin@127.0.0.1",
    ]  # fmt: skip
    said = subprocess.run([*command, "status --json"], capture_output=True, text=True, timeout=300)
    try:
        status, _ = json.JSONDecoder().raw_decode(said.stdout)
    except ValueError as error:
        raise Failed(f"no status over SSH ({said.returncode}): {said.stdout}{said.stderr}") from error
    shell = subprocess.run([*command, "sh -c id"], capture_output=True, text=True, timeout=300)
    if shell.returncode == 0 or "uid=" in shell.stdout:
        raise Failed(f"SSH gave a shell: {shell.stdout}")
    return status


def told_the_time(machine, seconds):
    """Waits until the machine has set its clock by the time server; returns the log's line of it."""
    until = time.monotonic() + seconds
    while True:
        lines = [line for line in machine.command("logs ntp", 60).splitlines() if "setting time" in line]
        if lines:
            return lines[-1].strip()
        if time.monotonic() > until:
            raise Failed(f"the clock was not set by the network within {seconds} s")
        time.sleep(2)


def answer(machine, port, seconds):
    """Asks over TLS as a client does, with authority and key read off the console; returns the answer."""
    text = machine.command("ca", 60)
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    certificate = text[text.index(begin) : text.index(end) + len(end)] + "\n"
    key = machine.command("keys add boot-image --json", 60)
    key, _ = json.JSONDecoder().raw_decode(key, key.index("{"))
    context = ssl.create_default_context(cadata=certificate)
    messages = [{"role": "user", "content": "Say hello."}]
    body = json.dumps({"model": "sarai", "max_tokens": 4, "reasoning_effort": "none", "messages": messages})
    headers = {"Authorization": f"Bearer {key['secret']}", "Content-Type": "application/json"}
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=seconds)
    try:
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        said = response.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"no answer over TLS: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise Failed(f"asked over TLS, it answered {response.status}: {said[:500]!r}")
    return json.loads(said)["choices"][0]["message"]["content"]
