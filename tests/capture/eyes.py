"""What tests of the capture share: two machines on a wire, and the real helper that hands its sockets over."""

import contextlib
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from agent.capture.filter import PROGRAMS
from agent.wire.icmp import checksum
from tests.lab.netns import Lab, Namespace

HELPER = [sys.executable, "-I", "-m", "agent.capture"]
BOX, PEER = "192.0.2.10", "192.0.2.1"
MARK = b"the last frame of this lot"


class Wire:
    """`box` captures, `peer` is the rest of the LAN; frames go out of the peer's end, or the box's own."""

    def __init__(self, lab: Lab, ipv6: bool = False) -> None:
        self.lab = lab
        self.box, self.peer = lab.namespace("box", ipv6=ipv6), lab.namespace("peer", ipv6=ipv6)
        lab.link(self.box, "eth0", f"{BOX}/24", self.peer, "eth0", f"{PEER}/24")
        self.box.ip("route", "add", "default", "via", PEER)
        self.path = lab.directory / "capture.sock"  # where a listening helper is asked
        self.box_mac, self.peer_mac = (mac(ns) for ns in (self.box, self.peer))

    def listen(self) -> None:
        """A helper that goes on answering, in the box."""
        self.box.start("capture", *HELPER, f"--listen={self.path}")
        wait_for(self.path)


def mac(ns: Namespace, device: str = "eth0") -> str:
    with ns.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as s:
        s.bind((device, 0))
        return bytes(s.getsockname()[4]).hex(":")


def raw(ns: Namespace, device: str = "eth0") -> socket.socket:
    """A socket to send whole frames with; it hears nothing."""
    with ns.entered():
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.bind((device, 0))
    return s


def syn(target: str, n: int = 0, port: int = 9) -> bytes:
    """A SYN from the n-th of many hosts behind the peer, fit for the kernel to answer."""
    addresses = socket.inet_aton(f"198.51.{n >> 8 & 255}.{n & 255}") + socket.inet_aton(BOX)
    ports = struct.pack("!HHIIBB", 1024 + n % 60000, port, 1, 0, 0x50, 2)
    tcp = ports + struct.pack("!HHH", 512, checksum(addresses + struct.pack("!HH", 6, 20) + ports + struct.pack("!HHH", 512, 0, 0)), 0)
    head = bytes.fromhex("4500 0028 0000 4000 4006")
    ip = head + struct.pack("!H", checksum(head + b"\0\0" + addresses)) + addresses
    return bytes.fromhex(target.replace(":", "")) + bytes.fromhex("020000000099 0800") + ip + tcp


def asked(ns: Namespace, line: bytes, *, prefix: tuple[str, ...] = ()) -> tuple[str, list[socket.socket]]:
    """One request to the helper as systemd starts it: its connection is standard input."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with ns.entered():
            child = subprocess.Popen([*prefix, *HELPER], stdin=theirs, cwd="/")
        theirs.close()
        ours.settimeout(30)
        with contextlib.suppress(BrokenPipeError):
            ours.sendall(line)
        ours.shutdown(socket.SHUT_WR)
        text, fds, _, _ = socket.recv_fds(ours, 256, 8)
        assert child.wait(30) == 0
        return text.decode(), [socket.socket(fileno=fd) for fd in fds]


@contextlib.contextmanager
def handed(ns: Namespace, device: str = "eth0") -> Iterator[dict[str, socket.socket]]:
    """The three sockets by name."""
    text, sockets = asked(ns, f"{device}\n".encode())
    assert text == "ok\n"
    try:
        yield dict(zip(PROGRAMS, sockets, strict=True))
    finally:
        for s in sockets:
            s.close()


def drained(sock: socket.socket, seconds: float = 0.0) -> list[bytes]:
    """All frames that are there; waits up to `seconds` for the first."""
    found: list[bytes] = []
    while select.select([sock], [], [], 0 if found else seconds)[0]:
        found.append(sock.recv(2048))
    return found


def statistics(sock: socket.socket) -> tuple[int, int]:
    """(frames that the filter let through, those of them that were dropped) since the last look."""
    data = sock.getsockopt(263, 6, 8)
    return int.from_bytes(data[:4], sys.byteorder), int.from_bytes(data[4:], sys.byteorder)


def wait_for(path: Path, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.02)
