"""DHCP for IPv4, the payload of UDP 67 and 68 (RFC 2131, 2132, 3396, 8910); and our DISCOVER as a whole frame.

Law: pure, no I/O. Input is a stranger's: whatever the bytes, `parse` returns a Message or raises DhcpError, in bounded time.
"""

import struct
from typing import NamedTuple

from agent.wire import frame

TYPES = ("", "discover", "offer", "request", "decline", "ack", "nak", "release", "inform")  # option 53; "": BOOTP, or a later type
CLIENT, SERVER = 68, 67
MASK, ROUTER, DNS, HOSTNAME, REQUESTED, LEASE, OVERLOAD, TYPE, SERVER_ID = 1, 3, 6, 12, 50, 51, 52, 53, 54
WISHES, VENDOR, CLIENT_ID, PORTAL = 55, 60, 61, 114
BROADCAST_FLAG = 0x8000

_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s")  # 236 bytes
_COOKIE = b"\x63\x82\x53\x63"
_LEAST = 300  # bytes of a BOOTP message: relays drop shorter ones (RFC 1542 2.1)


class DhcpError(Exception):
    """Not DHCP: cut off, or options that reach beyond their end."""


class Message(NamedTuple):
    """`reply`: from a server. Addresses are "" where there is none."""

    reply: bool
    type: str
    xid: int
    client_mac: str
    broadcast: bool = False
    client: str = ""  # ciaddr
    offered: str = ""  # yiaddr
    relay: str = ""  # giaddr
    server: str = ""  # option 54
    requested: str = ""  # option 50
    routers: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    hostname: str = ""
    vendor: str = ""
    portal: str = ""  # option 114


def parse(data: bytes) -> Message:
    """Raises DhcpError."""
    if len(data) < _FIXED.size:
        raise DhcpError("shorter than BOOTP")
    op, _, hlen, _, xid, _, flags, client, offered, _, relay, chaddr, sname, file = _FIXED.unpack_from(data)
    if op not in (1, 2) or hlen > 16:
        raise DhcpError("neither a request nor a reply, or a hardware address that is too long")
    found = _options(data, sname, file) if data[236:240] == _COOKIE else {}
    number = found.get(TYPE, b"")
    server, requested = (_address(found.get(code, b"")) for code in (SERVER_ID, REQUESTED))
    routers, dns = (_addresses(found.get(code, b"")) for code in (ROUTER, DNS))
    hostname, vendor, portal = (_text(found.get(code, b"")) for code in (HOSTNAME, VENDOR, PORTAL))
    return Message(
        op == 2, TYPES[number[0]] if len(number) == 1 and number[0] < len(TYPES) else "", xid, chaddr[:hlen].hex(":"),
        bool(flags & BROADCAST_FLAG), _address(client), _address(offered), _address(relay), server, requested, routers, dns,
        hostname, vendor, portal,
    )  # fmt: skip


def _options(data: bytes, sname: bytes, file: bytes) -> dict[int, bytes]:
    """All options; those that come more than once are one (RFC 3396), also where they overflow into file and sname (option 52)."""
    found: dict[int, bytes] = {}
    _walk(data[240:], found)
    overload = found.get(OVERLOAD, b"\0")[:1] or b"\0"
    if overload[0] & 1:
        _walk(file, found)
    if overload[0] & 2:
        _walk(sname, found)
    return found


def _walk(area: bytes, found: dict[int, bytes]) -> None:
    at, size = 0, len(area)
    while at < size and (code := area[at]) != 255:
        if code == 0:
            at += 1
            continue
        if at + 2 > size or at + 2 + area[at + 1] > size:
            raise DhcpError("an option that reaches beyond the end")
        found[code] = found.get(code, b"") + area[at + 2 : at + 2 + area[at + 1]]
        at += 2 + area[at + 1]


def _address(packed: bytes) -> str:
    return frame.text4(packed) if len(packed) == 4 and any(packed) else ""


def _addresses(packed: bytes) -> tuple[str, ...]:
    return tuple(frame.text4(packed[i : i + 4]) for i in range(0, len(packed) - 3, 4))


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


def discover(mac: str, xid: int, hostname: str) -> bytes:
    """A DISCOVER as a whole frame to everybody. Its broadcast flag lets us see every server's offer. Raises DhcpError."""
    name = hostname.encode()
    if not 0 < len(name) < 64 or not 0 <= xid < 1 << 32:
        raise DhcpError("a name that is empty or too long, or an xid that is no 32-bit number")
    try:
        packed = frame.packed_mac(mac)
        fixed = _FIXED.pack(1, 1, 6, 0, xid, 0, BROADCAST_FLAG, *[bytes(4)] * 4, packed, b"", b"")
        wishes = bytes((MASK, ROUTER, DNS, LEASE, SERVER_ID, PORTAL))
        options = ((TYPE, b"\1"), (CLIENT_ID, b"\1" + packed), (HOSTNAME, name), (WISHES, wishes))
        body = fixed + _COOKIE + b"".join(bytes((code, len(value))) + value for code, value in options) + b"\xff"
        packet = frame.udp4(("0.0.0.0", CLIENT), ("255.255.255.255", SERVER), body.ljust(_LEAST, b"\0"))  # noqa: S104  (no socket)
        return frame.ethernet(frame.BROADCAST, mac, frame.IPV4, packet)
    except frame.FrameError as e:
        raise DhcpError(str(e)) from None
