"""Neighbour discovery, ICMPv6 messages: router advertisements and neighbours (RFC 4861, 4191, 8106).

Law: pure, no I/O. Input is a stranger's: whatever the bytes, `parse` returns what its docstring says or raises NdpError, in bounded time.
That a message came over a router (hop limit other than 255) or in fragments (RFC 6980) is its reader's to judge: it isn't in here.
"""

import ipaddress
import struct
from typing import Literal, NamedTuple

from agent.wire import frame

ROUTER_ADVERT, SOLICIT, ADVERT = 134, 135, 136
MAX_OPTIONS = 64  # of one message; a packet of 1,500 bytes holds no 64 that say something

_ADVERT = struct.Struct("!BBHBBHII").unpack_from
_PREFIX = struct.Struct("!BBII4x16s").unpack_from  # behind type and length
_PREFERENCES = {0: "medium", 1: "high", 3: "low", 2: "medium"}  # RFC 4191 2.2: 2 is reserved, and taken for medium
_SOURCE_MAC, _TARGET_MAC, _PREFIX_INFO, _RDNSS = 1, 2, 3, 25


class NdpError(Exception):
    """Cut off, or options that can't be."""


class Prefix(NamedTuple):
    network: str
    valid: int
    preferred: int
    autonomous: bool


class RouterAdvert(NamedTuple):
    lifetime: int
    preference: str
    managed: bool
    other: bool
    prefixes: tuple[Prefix, ...]
    dns: tuple[str, ...]
    mac: str  # "": not said


class Neighbour(NamedTuple):
    type: Literal["solicit", "advert"]
    target: str
    mac: str
    override: bool


def parse(message: bytes) -> RouterAdvert | Neighbour | None:
    """None: another ICMPv6 message. Raises NdpError."""
    if len(message) < 4:
        raise NdpError("shorter than an ICMPv6 head")
    if message[1]:
        return None
    if message[0] == ROUTER_ADVERT:
        return _router(message)
    if message[0] in (SOLICIT, ADVERT):
        return _neighbour(message)
    return None


def _router(message: bytes) -> RouterAdvert:
    if len(message) < 16:
        raise NdpError("a router advertisement that is cut off")
    _, _, _, _, flags, lifetime, _, _ = _ADVERT(message)
    options = _options(message, 16)
    prefixes = tuple(_prefix(body) for kind, body in options if kind == _PREFIX_INFO)
    dns = tuple(address for kind, body in options if kind == _RDNSS for address in _servers(body))
    return RouterAdvert(
        lifetime, _PREFERENCES[flags >> 3 & 3], bool(flags & 0x80), bool(flags & 0x40), prefixes, dns, _mac(options, _SOURCE_MAC)
    )  # fmt: skip


def _neighbour(message: bytes) -> Neighbour:
    if len(message) < 24:
        raise NdpError("a neighbour's message that is cut off")
    options = _options(message, 24)
    target = frame.text6(message[8:24])
    if message[0] == SOLICIT:
        return Neighbour("solicit", target, _mac(options, _SOURCE_MAC), override=False)
    return Neighbour("advert", target, _mac(options, _TARGET_MAC), override=bool(message[4] & 0x20))


def _options(message: bytes, at: int) -> list[tuple[int, bytes]]:
    """(type, what is behind type and length). A length of 0 makes the whole message void (RFC 4861 4.6)."""
    found: list[tuple[int, bytes]] = []
    while at < len(message):
        if at + 2 > len(message) or not message[at + 1] or at + message[at + 1] * 8 > len(message):
            raise NdpError("an option that is empty, or reaches beyond the end")
        if len(found) == MAX_OPTIONS:
            raise NdpError("more options than a message has")
        end = at + message[at + 1] * 8
        found.append((message[at], message[at + 2 : end]))
        at = end
    return found


def _mac(options: list[tuple[int, bytes]], wanted: int) -> str:
    for kind, body in options:
        if kind == wanted and len(body) == 6:
            return body.hex(":")
    return ""


def _prefix(body: bytes) -> Prefix:
    if len(body) != 30:
        raise NdpError("a prefix of a wrong length")
    length, flags, valid, preferred, packed = _PREFIX(body)
    if length > 128:
        raise NdpError("a prefix longer than an address")
    mask = (1 << 128) - (1 << 128 - length)
    network = ipaddress.IPv6Network((int.from_bytes(packed) & mask, length))
    return Prefix(str(network), valid, preferred, bool(flags & 0x40))


def _servers(body: bytes) -> list[str]:
    """Behind two reserved bytes and the lifetime; a lifetime of 0 takes servers back (RFC 8106 5.1)."""
    if len(body) < 22 or (len(body) - 6) % 16:
        raise NdpError("an RDNSS option of a wrong length")
    if body[2:6] == bytes(4):
        return []
    return [frame.text6(body[i : i + 16]) for i in range(6, len(body), 16)]
