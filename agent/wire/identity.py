"""What devices say of themselves: MikroTik's MNDP (UDP 5678), LLDP (IEEE 802.1AB), CDP; and bridges among themselves: STP (IEEE 802.1D).

Law: pure, no I/O. Input is a stranger's: whatever the bytes, a parser returns what its docstring says or raises IdentityError, in bounded
time. Texts are cut to MAX_TEXT characters.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

MNDP_PORT = 5678
MAX_TEXT = 255
MAX_PARTS = 128  # of one message

_BPDU = struct.Struct("!HBBB8sI8s").unpack_from


class IdentityError(Exception):
    """Cut off, parts that reach beyond their end, or another protocol."""


class Identity(NamedTuple):
    """`mac`: of the device, "" where it isn't said. uptime in seconds, -1: not said."""

    mac: str = ""
    name: str = ""
    board: str = ""
    version: str = ""
    port: str = ""
    uptime: float = -1.0


class Bridge(NamedTuple):
    """`root` and `bridge` as "priority.MAC", "" in a bare notice of change."""

    root: str
    bridge: str
    changed: bool


def mndp(data: bytes) -> Identity | None:
    """The payload of UDP 5678. None: a question, to which all routers answer. Raises IdentityError."""
    if len(data) < 4:
        raise IdentityError("shorter than MNDP")
    parts = dict(_parts(data, 4, counts_head=False))
    if not parts:
        return None
    uptime = parts.get(10, b"")
    name, board, version, port = (_text(parts.get(code, b"")) for code in (5, 12, 7, 16))
    seconds = float(int.from_bytes(uptime, "little")) if len(uptime) == 4 else -1.0
    return Identity(_mac(parts.get(1, b"")), name, board, version, port, seconds)


def cdp(data: bytes) -> Identity:
    """Behind its SNAP head. Raises IdentityError."""
    if len(data) < 4 or data[0] not in (1, 2):
        raise IdentityError("not CDP")
    parts = dict(_parts(data, 4, counts_head=True))
    name, board, version, port = (_text(parts.get(code, b"")) for code in (1, 6, 5, 3))
    return Identity("", name, board, version, port)


def _parts(data: bytes, at: int, *, counts_head: bool) -> Iterator[tuple[int, bytes]]:
    """Type and length of two bytes each, then the value; CDP's length counts its own head."""
    for _ in range(MAX_PARTS):
        if at >= len(data):
            return
        length = int.from_bytes(data[at + 2 : at + 4]) - (4 if counts_head else 0)
        if at + 4 > len(data) or length < 0 or at + 4 + length > len(data):
            raise IdentityError("a part that reaches beyond the end")
        yield int.from_bytes(data[at : at + 2]), data[at + 4 : at + 4 + length]
        at += 4 + length
    raise IdentityError("more parts than a message has")


def lldp(data: bytes) -> Identity:
    """Behind its EtherType. Raises IdentityError."""
    parts: dict[int, bytes] = {}
    at = 0
    for _ in range(MAX_PARTS):
        if at >= len(data):
            break  # the end may be missing (IEEE 802.1AB allows it)
        if at + 2 > len(data):
            raise IdentityError("ends inside a part")
        head = data[at] << 8 | data[at + 1]
        kind, end = head >> 9, at + 2 + (head & 0x1FF)
        if not kind:
            break
        if end > len(data):
            raise IdentityError("a part that reaches beyond the end")
        parts.setdefault(kind, data[at + 2 : end])
        at = end
    if not {1, 2} <= parts.keys():
        raise IdentityError("LLDP without its chassis or port")
    return Identity(_subtyped_mac(parts[1], 4), _text(parts.get(5, b"")), "", _text(parts.get(6, b"")), _port(parts))


def _port(parts: dict[int, bytes]) -> str:
    """The port as people know it, else its number: a MAC, or a name."""
    return _text(parts.get(4, b"")) or _subtyped_mac(parts[2], 3) or _text(parts[2][1:])


def _subtyped_mac(part: bytes, subtype: int) -> str:
    return _mac(part[1:]) if part[:1] == bytes((subtype,)) else ""


def stp(data: bytes) -> Bridge | None:
    """Behind its LLC head. None: a kind that isn't 802.1D's. Raises IdentityError."""
    if len(data) < 4 or data[:2] != b"\0\0":
        raise IdentityError("not STP")
    if data[3] == 0x80:  # a bridge tells its root that something changed
        return Bridge("", "", changed=True)
    if data[3] not in (0, 2):
        return None
    if len(data) < 25:
        raise IdentityError("a BPDU that is cut off")
    _, _, _, flags, root, _, bridge = _BPDU(data)
    return Bridge(_bridge(root), _bridge(bridge), bool(flags & 1))


def _bridge(ident: bytes) -> str:
    return f"{ident[:2].hex()}.{ident[2:].hex(':')}"


def _mac(raw: bytes) -> str:
    return raw.hex(":") if len(raw) == 6 else ""


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")[:MAX_TEXT]
