"""A foreign resolver of multicast DNS (python-zeroconf) for the tests: says what the local network is told.

find HOST      waits for the service on HOST.local and prints it as JSON, with the addresses that HOST.local has
watch HOST     prints "added" and "removed" as that service comes and goes, until standard input ends
hold HOST IP   defends the name HOST.local for another machine, until standard input ends
"""

import json
import os
import select
import socket
import sys
import time

from zeroconf import (
    AddressResolver,
    DNSAddress,
    DNSIncoming,
    DNSOutgoing,
    IPVersion,
    ServiceBrowser,
    ServiceInfo,
    ServiceStateChange,
    Zeroconf,
    const,
)

TYPE = "_https._tcp.local."
PATIENCE = float(os.environ.get("SARAI_TEST_PATIENCE", "60"))


def find(zc, host):
    """The first service whose host is the one wanted."""
    names = set()
    ServiceBrowser(zc, TYPE, handlers=[lambda zeroconf, service_type, name, state_change: names.add(name)])
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for name in sorted(names):
            info = ServiceInfo(TYPE, name)
            if not info.request(zc, 3000) or info.server.lower() != f"{host}.local.":
                continue
            resolver = AddressResolver(f"{host}.local.")
            if not resolver.request(zc, 3000):
                continue
            properties = {k.decode(): (v or b"").decode() for k, v in info.properties.items()}
            return {
                "name": name,
                "server": info.server,
                "port": info.port,
                "properties": properties,
                "addresses": sorted(resolver.parsed_addresses(IPVersion.All)),
            }
        time.sleep(0.2)
    raise SystemExit(f"nobody told of {host}.local within {PATIENCE} s; told of: {sorted(names)}")


def watch(zc, host):
    """Comings and goings, a line each."""

    def changed(zeroconf, service_type, name, state_change):
        if name.lower() == f"{host}.{TYPE}":
            words = {ServiceStateChange.Added: "added", ServiceStateChange.Removed: "removed"}
            print(words.get(state_change, "updated"), flush=True)

    ServiceBrowser(zc, TYPE, handlers=[changed])
    sys.stdin.read()


def hold(host, address):
    """Somebody else with the same name, who defends it as RFC 6762 wants: python-zeroconf answers no question for
    every kind of record of a host, as which a probe comes."""
    name = f"{host}.local."
    answer = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    unique = const._CLASS_IN | const._CLASS_UNIQUE
    answer.add_answer_at_time(DNSAddress(name, const._TYPE_A, unique, 120, socket.inet_aton(address)), 0)
    wire = answer.packets()[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lan:
        lan.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        lan.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        lan.bind(("", 5353))
        group, own = socket.inet_aton("224.0.0.251"), socket.inet_aton(address)
        lan.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + own)
        lan.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        lan.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        print("held", flush=True)
        while select.select([lan, sys.stdin], [], [])[0] != [sys.stdin]:
            packet, sender = lan.recvfrom(9000)
            asked = DNSIncoming(packet).questions if sender[0] != address else []
            if any(question.name.lower() == name for question in asked):
                lan.sendto(wire, ("224.0.0.251", 5353))


def main():
    what, host = sys.argv[1:3]
    if what == "hold":
        return hold(host, sys.argv[3])
    with Zeroconf(ip_version=IPVersion.All) as zc:
        if what == "find":
            print(json.dumps(find(zc, host)))
        elif what == "watch":
            watch(zc, host)
        else:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
