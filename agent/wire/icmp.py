"""ICMP echo for IPv4 and IPv6, bytes ↔ dataclasses (RFC 792, 4443), and what Linux says of it (IP_RECVERR, socket filters).

Law: pure, no I/O. Input is a stranger's: whatever the bytes, a parser returns what its docstring says or raises IcmpError.

The payload of our echo requests, network byte order; what follows is padding:

    magic (4)    the same for all packets of a socket: finds the payload again in a packet that the kernel shows us
    key (4)      the packet's number on its socket; its low 16 bits are also the ICMP sequence number
    cookie (8)   random for each packet: who has not seen the request can't answer it
"""

import dataclasses
import socket
import struct
import sys
from typing import Literal, NamedTuple

MARK = struct.Struct("!4sI8s")  # magic, key, cookie
SEQUENCES = 1 << 16
MAX_PAYLOAD = 8192  # more says nothing that this doesn't, and each in flight is memory

_ECHO = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence (RFC 792; RFC 4443 4.1)
_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}
_PADDING = bytes(range(256)) * (MAX_PAYLOAD // 256)


class IcmpError(Exception):
    """Not what it should be: too short, a wrong version, type or checksum."""


class Echo(NamedTuple):
    """An echo request or reply."""

    ident: int
    seq: int
    payload: bytes


class Mark(NamedTuple):
    """The head of our payload."""

    magic: bytes
    key: int
    cookie: bytes


class IPv4(NamedTuple):
    """A packet as a raw IPv4 socket gives it; who sent it, the kernel says beside it."""

    ttl: int
    protocol: int
    message: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class ExtendedError:
    """struct sock_extended_err: why a message lies on a socket's error queue. `offender` is who reported it, "" for this box."""

    errno: int
    origin: Literal["local", "icmp", "icmp6", "timestamp", "other"]
    type: int
    code: int
    offender: str

    @property
    def unreachable(self) -> bool:
        """Whether it says that the packet will not arrive: destination unreachable, or its hop limit ran out on the way (a loop)."""
        if self.origin == "icmp":
            return self.type in (3, 11)
        # RFC 4443: 1 destination unreachable, 2 packet too big, 3 time exceeded
        return self.origin == "icmp6" and self.type in (1, 2, 3)

    def __str__(self) -> str:
        names = _WORDS.get(self.origin, {})
        what = names.get((self.type, self.code)) or names.get((self.type, None)) or f"ICMP type {self.type} code {self.code}"
        return f"{what}, says {self.offender}" if self.offender else what


_WORDS: dict[str, dict[tuple[int, int | None], str]] = {
    "icmp": {
        (3, 0): "network unreachable", (3, 1): "host unreachable", (3, 2): "protocol unreachable", (3, 4): "packet too big for the path",
        (3, 9): "network prohibited", (3, 10): "host prohibited", (3, 13): "filtered", (3, None): "destination unreachable",
        (11, None): "hop limit exceeded (a routing loop?)",
    },
    "icmp6": {
        (1, 0): "no route", (1, 1): "prohibited", (1, 3): "host unreachable", (1, None): "destination unreachable",
        (2, None): "packet too big for the path", (3, None): "hop limit exceeded (a routing loop?)",
    },
}  # fmt: skip
_ORIGINS: dict[int, Literal["local", "icmp", "icmp6", "timestamp", "other"]] = {1: "local", 2: "icmp", 3: "icmp6", 4: "timestamp"}
_EXTENDED = struct.Struct("=IBBBBII")  # errno, origin, type, code, pad, info, data (linux/errqueue.h)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071). Over a message that holds a right one it is 0."""
    if len(data) % 2:
        data += b"\0"
    # a ones' complement sum of 16-bit words is the whole number modulo 2^16 - 1; only zeros sum to "positive zero"
    total = int.from_bytes(data) % 0xFFFF
    if not total and any(data):
        return 0
    return total ^ 0xFFFF


def payload(mark: Mark, size: int) -> bytes:
    """The payload of a request, `size` bytes (at most MAX_PAYLOAD) but never shorter than the mark."""
    return MARK.pack(*mark) + _PADDING[MARK.size : size]


def request(version: int, ident: int, seq: int, data: bytes) -> bytes:
    """An echo request. For IPv6 the kernel puts the checksum in (RFC 3542 3.1), and on a ping socket the identifier too."""
    head = _ECHO.pack(_REQUEST[version], 0, 0, ident, seq)
    if version == 6:
        return head + data
    return _ECHO.pack(_REQUEST[version], 0, checksum(head + data), ident, seq) + data


def parse_reply(version: int, message: bytes, *, verify: bool = False) -> Echo:
    """An echo reply. `verify` checks the checksum (raw IPv4 sockets only; elsewhere the kernel did). Raises IcmpError."""
    return _parse(message, _REPLY[version], verify)


def parse_request(version: int, message: bytes) -> Echo:
    """An echo request, also as quoted in an ICMP error, cut anywhere after its header (RFC 792: 8 bytes). Raises IcmpError."""
    return _parse(message, _REQUEST[version], verify=False)


def _parse(message: bytes, wanted: int, verify: bool) -> Echo:
    if len(message) < _ECHO.size:
        raise IcmpError(f"{len(message)} bytes are no ICMP echo")
    kind, code, _, ident, seq = _ECHO.unpack_from(message)
    if (kind, code) != (wanted, 0):
        raise IcmpError(f"type {kind} code {code} instead of {wanted}")
    if verify and checksum(message):
        raise IcmpError("wrong checksum")
    return Echo(ident, seq, message[_ECHO.size :])


def read_mark(data: bytes) -> Mark:
    """The mark at the head of a payload. Raises IcmpError."""
    if len(data) < MARK.size:
        raise IcmpError("a payload too short for a mark")
    return Mark(*MARK.unpack_from(data))


def find_mark(data: bytes, magic: bytes) -> Mark | None:
    """The mark somewhere in a packet of ours that the kernel shows us with all its headers; None: there is none."""
    at = data.find(magic)
    return Mark(*MARK.unpack_from(data, at)) if 0 <= at <= len(data) - MARK.size else None


def strip_ipv4(packet: bytes) -> IPv4:
    """Takes the IPv4 header off (RFC 791). Raises IcmpError."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        raise IcmpError("not an IPv4 packet")
    length = (packet[0] & 15) * 4
    if not 20 <= length <= len(packet):
        raise IcmpError(f"an IPv4 header of {length} bytes in {len(packet)}")
    return IPv4(packet[8], packet[9], packet[length:])


def is_timestamp(data: bytes) -> bool:
    """Whether an extended error is none, but the kernel's note that a packet has left (SO_EE_ORIGIN_TIMESTAMPING)."""
    return len(data) > 4 and data[4] == 4


def parse_extended_error(data: bytes) -> ExtendedError:
    """The control message IP_RECVERR or IPV6_RECVERR: the error, then the offender's socket address. Raises IcmpError."""
    if len(data) < _EXTENDED.size:
        raise IcmpError("a short extended error")
    errno, origin, kind, code, _, _, _ = _EXTENDED.unpack_from(data)
    return ExtendedError(errno, _ORIGINS.get(origin, "other"), kind, code, _offender(data[_EXTENDED.size :]))


def _offender(data: bytes) -> str:
    family = int.from_bytes(data[:2], sys.byteorder)
    if family == socket.AF_INET and len(data) >= 8:
        return socket.inet_ntoa(data[4:8])
    if family == socket.AF_INET6 and len(data) >= 24:
        return socket.inet_ntop(socket.AF_INET6, data[8:24])
    return ""


def type_filter(version: int) -> bytes:
    """The option ICMP_FILTER or ICMP6_FILTER that keeps all but echo replies away: a bit for each type, 1 blocks it."""
    types = [0xFFFFFFFF] * (1 if version == 4 else 8)
    types[_REPLY[version] // 32] ^= 1 << _REPLY[version] % 32
    return struct.pack(f"={len(types)}I", *types)


def reply_filter(version: int, ident: int) -> bytes:
    """A classic BPF program (struct sock_filter each) for a raw ICMP socket: echo replies with our identifier, all else never wakes us.

    A raw IPv4 socket's filter sees the IP header, a raw IPv6 socket's begins at the ICMPv6 header.
    """
    program = [
        *([(0xB1, 0, 0, 0)] if version == 4 else [(0x01, 0, 0, 0)]),  # X = length of the IP header | X = 0
        (0x50, 0, 0, 0),  # A = type
        (0x15, 0, 3, _REPLY[version]),  # echo reply, or drop
        (0x48, 0, 0, 4),  # A = identifier
        (0x15, 0, 1, ident),  # ours, or drop
        (0x06, 0, 0, 0xFFFFFFFF),  # take all of it
        (0x06, 0, 0, 0),  # drop
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in program)
