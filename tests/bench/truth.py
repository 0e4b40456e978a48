"""The true round-trip time of each ping: when its request and its reply passed the prober's own interface, as tcpdump's kernel
stamps (AF_PACKET, nanoseconds) have it. IPv4 on Ethernet or TUN devices.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.lab.netns import Daemon, Namespace, until

DELAY = 1.4  # seconds until tcpdump has what was on the wire; at once (--immediate-mode) would cost each sender a wake-up of tcpdump
_NANOSECONDS = 0xA1B23C4D  # the magic of a pcap file with nanosecond stamps
_LINK_HEADER = {1: 14, 12: 0, 101: 0}  # pcap link type: Ethernet, raw IP (two numbers for it)


class Ping(NamedTuple):
    """A request seen on the wire. `sent` in ns of the wall clock, `rtt` in seconds, None: no reply was seen."""

    sent: int
    ident: int
    seq: int
    rtt: float | None


def start(ns: Namespace, interface: str, file: Path) -> Daemon:
    """Records the ICMP of an interface until it is stopped."""
    options = ["-n", "-s", "96", "-B", "16384", "-U", "-Z", "root", "--time-stamp-precision=nano"]
    daemon = ns.start(f"tcpdump-{file.stem}", "tcpdump", "-i", interface, *options, "-w", str(file), "icmp")
    until(lambda: "listening on" in daemon.output(), 20, f"tcpdump listens\n{daemon.output()}")
    return daemon


def pings(file: Path, target: str) -> list[Ping]:
    """The requests to `target` in order of sending, each with the time of its first reply."""
    address = bytes(map(int, target.split(".")))
    found: list[Ping] = []
    open_at: dict[tuple[int, int], int] = {}  # (ident, seq) of requests without a reply → index in found
    for at, packet in _packets(file.read_bytes()):
        head = (packet[0] & 15) * 4
        if len(packet) < head + 8:
            continue
        kind, (ident, seq) = packet[head], struct.unpack_from("!HH", packet, head + 4)
        if kind == 8 and packet[16:20] == address:
            open_at[ident, seq] = len(found)
            found.append(Ping(at, ident, seq, None))
        elif kind == 0 and packet[12:16] == address and (ident, seq) in open_at:
            i = open_at.pop((ident, seq))
            found[i] = found[i]._replace(rtt=(at - found[i].sent) / 1e9)
    return found


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(time in ns, IPv4 packet) of a pcap file; one that was cut off in its last record ends before it."""
    magic, link = struct.unpack_from("=I", data)[0], struct.unpack_from("=I", data, 20)[0]
    assert magic == _NANOSECONDS, f"not a pcap file with ns stamps: {magic:#x}"
    offset, skip = 24, _LINK_HEADER[link]
    while offset + 16 <= len(data):
        seconds, nanoseconds, length, _ = struct.unpack_from("=IIII", data, offset)
        packet = data[offset + 16 : offset + 16 + length]
        offset += 16 + length
        if len(packet) == length and length >= skip + 20 and packet[skip] >> 4 == 4:
            yield seconds * 1_000_000_000 + nanoseconds, packet[skip:]
