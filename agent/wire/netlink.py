"""rtnetlink as bytes: requests for dumps, and what the kernel tells of links, addresses, routes and neighbours.

Law: pure, no I/O; anything malformed raises NetlinkError and nothing else. Work is bounded by the datagram's size: lengths must go
forward, nesting is one level deep. Fields that the kernel may leave out are None or empty, never guessed.
Layout: rtnetlink(7), linux/if_link.h, linux/if_addr.h, linux/rtnetlink.h, linux/neighbour.h. Numbers are in host byte order.
"""

import dataclasses
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

NOOP, ERROR, DONE = 1, 2, 3
NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
F_REQUEST, F_DUMP_INTR, F_DUMP = 0x1, 0x10, 0x300

# multicast groups as the bits of sockaddr_nl.nl_groups: link, neighbours, addresses and routes of both families
GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400

OPERSTATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")
NEIGHBOUR_STATES = {
    0x01: "incomplete", 0x02: "reachable", 0x04: "stale", 0x08: "delay", 0x10: "probe", 0x20: "failed", 0x40: "noarp", 0x80: "permanent",
}  # fmt: skip
IFF_UP, RTN_UNICAST, TABLE_MAIN = 0x1, 1, 254

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTR = struct.Struct("=HH")
_LINK = struct.Struct("=BxHiII")  # family, device type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst length, src length, tos, table, protocol, scope, type, flags
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_NEXTHOP = struct.Struct("=HBBi")  # length, flags, hops, index
_STATS = struct.Struct("=8Q")  # rx packets, tx packets, rx bytes, tx bytes, rx errors, tx errors, rx dropped, tx dropped
_LINK_WANTED = frozenset((1, 3, 4, 10, 16, 18, 0x8012, 23, 33, 35))  # of some sixty; 0x8012: 18 flagged as nested
_U32, _I32 = struct.Struct("=I"), struct.Struct("=i")


class NetlinkError(ValueError):
    """Bytes that are not rtnetlink."""


class Stats(NamedTuple):
    """Packets and bytes since the device was made."""

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_errors: int
    tx_errors: int
    rx_dropped: int
    tx_dropped: int


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """A network device. `master` is the bridge or bond it belongs to (0: none), `kind` the driver's ("veth", "bridge"; "": hardware)."""

    index: int
    name: str
    up: bool  # as the administrator wants it
    carrier: bool | None = None
    carrier_changes: int | None = None
    operstate: str = "unknown"
    mtu: int | None = None
    mac: str = ""
    master: int = 0
    kind: str = ""
    stats: Stats | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    index: int
    family: int
    address: str
    prefix: int
    scope: int = 0


class Hop(NamedTuple):
    """A next hop: `gateway` is empty where the device itself is the way (a tunnel, a modem)."""

    gateway: str
    device: int


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """A route; `destination` is empty for the default route. Several hops: multipath."""

    family: int
    table: int
    type: int
    destination: str
    prefix: int
    metric: int
    hops: tuple[Hop, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Neighbour:
    index: int
    family: int
    address: str
    state: str  # of NEIGHBOUR_STATES' values, or "none"
    mac: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The end of a dump (DONE) or of a request (ERROR). `error` is an errno, 0 for success."""

    error: int


Body: TypeAlias = Link | Address | Route | Neighbour | Answer | None


class Message(NamedTuple):
    """`body` is None for types that are not ours, or skipped. `interrupted`: the dump was not consistent, ask again.

    An event carries the sequence and port of the program that caused it: only both together tell a reply to us.
    """

    type: int
    sequence: int
    port: int
    interrupted: bool
    body: Body


def dump_request(get: int, sequence: int) -> bytes:
    """Asks for everything of one sort; `get` is GETLINK, GETADDR, GETROUTE or GETNEIGH."""
    body = _LINK.pack(0, 0, 0, 0, 0)  # the longest of the four headers, all zero: every family, every device
    return _HEADER.pack(_HEADER.size + len(body), get, F_REQUEST | F_DUMP, sequence, 0) + body


def decode(data: bytes, skip: frozenset[int] = frozenset()) -> Iterator[Message]:
    """The messages of one datagram; the bodies of the types in `skip` are not read. Raises NetlinkError where the bytes make no sense."""
    at = 0
    while at < len(data):
        if len(data) - at < _HEADER.size:
            raise NetlinkError(f"{len(data) - at} bytes are left over")
        length, kind, flags, sequence, port = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or length > len(data) - at:
            raise NetlinkError(f"a message of {length} bytes in {len(data) - at}")
        body = None if kind in skip else _body(kind, data[at + _HEADER.size : at + length])
        yield Message(kind, sequence, port, bool(flags & F_DUMP_INTR), body)
        at += _aligned(length)


def _body(kind: int, data: bytes) -> Body:
    try:
        match kind:
            case 16 | 17:
                return _link(data)
            case 20 | 21:
                return _address(data)
            case 24 | 25:
                return _route(data)
            case 28 | 29:
                return _neighbour(data)
            case 2 | 3:  # DONE carries an errno too when the dump failed half-way
                return Answer(-_I32.unpack_from(data)[0] if data else 0)
    except struct.error as e:
        raise NetlinkError(f"message type {kind} is too short: {e}") from None
    return None


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _attributes(data: bytes, at: int, wanted: frozenset[int] | None = None) -> dict[int, bytes]:
    """Type → value. The top two bits of a type are flags (nested, network order)."""
    found, end, unpack = {}, len(data), _ATTR.unpack_from
    while end - at >= 4:
        length, kind = unpack(data, at)
        if length < 4 or length > end - at:
            raise NetlinkError(f"an attribute of {length} bytes in {end - at}")
        if wanted is None or kind in wanted:
            found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _link(data: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(data)
    a = _attributes(data, _LINK.size, _LINK_WANTED)
    operstate = a[16][0] if a.get(16) else 0
    return Link(
        index=index,
        name=_text(a.get(3, b"")),
        up=bool(flags & IFF_UP),
        carrier=bool(a[33][0]) if a.get(33) else None,
        carrier_changes=_u32(a, 35),
        operstate=OPERSTATES[operstate] if operstate < len(OPERSTATES) else "unknown",
        mtu=_u32(a, 4),
        mac=a.get(1, b"").hex(":"),
        master=_u32(a, 10) or 0,
        kind=_text(_attributes(a[18], 0).get(1, b"")) if 18 in a else "",
        stats=Stats._make(_STATS.unpack_from(a[23])) if 23 in a else None,
    )


def _address(data: bytes) -> Address:
    family, prefix, _, scope, index = _ADDRESS.unpack_from(data)
    a = _attributes(data, _ADDRESS.size)
    local = a.get(2, a.get(1, b""))  # on point-to-point links 1 is the other end, 2 is ours
    return Address(index, family, _ip(family, local), prefix, scope)


def _route(data: bytes) -> Route:
    family, prefix, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(data)
    a = _attributes(data, _ROUTE.size)
    hops = tuple(_hops(family, a[9])) if 9 in a else (Hop(_gateway(family, a), _u32(a, 4) or 0),)
    destination = _ip(family, a[1]) if prefix and 1 in a else ""
    return Route(family, _u32(a, 15) or table, kind, destination, prefix, _u32(a, 6) or 0, hops)


def _hops(family: int, data: bytes) -> Iterator[Hop]:
    at = 0
    while len(data) - at >= _NEXTHOP.size:
        length, _, _, index = _NEXTHOP.unpack_from(data, at)
        if length < _NEXTHOP.size or length > len(data) - at:
            raise NetlinkError(f"a next hop of {length} bytes in {len(data) - at}")
        yield Hop(_gateway(family, _attributes(data[at : at + length], _NEXTHOP.size)), index)
        at += _aligned(length)


def _gateway(family: int, a: dict[int, bytes]) -> str:
    if 18 in a:  # RTA_VIA: a gateway of the other family (RFC 5549 and the like)
        return _ip(struct.unpack_from("=H", a[18])[0], a[18][2:])
    return _ip(family, a[5]) if 5 in a else ""


def _neighbour(data: bytes) -> Neighbour:
    family, index, state, _, _ = _NEIGHBOUR.unpack_from(data)
    a = _attributes(data, _NEIGHBOUR.size)
    address = _ip(family, a[1]) if 1 in a and family in (socket.AF_INET, socket.AF_INET6) else ""
    return Neighbour(index, family, address, NEIGHBOUR_STATES.get(state, "none"), a.get(2, b"").hex(":"))


def _u32(a: dict[int, bytes], kind: int) -> int | None:
    return int(_U32.unpack_from(a[kind])[0]) if kind in a else None


def _text(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode("utf-8", "replace")


def _ip(family: int, value: bytes) -> str:
    size = 4 if family == socket.AF_INET else 16 if family == socket.AF_INET6 else 0
    if not value or not size:
        return ""
    if len(value) != size:
        raise NetlinkError(f"an address of {len(value)} bytes in family {family}")
    return socket.inet_ntop(family, value)
