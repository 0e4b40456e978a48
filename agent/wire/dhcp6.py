"""DHCPv6, the payload of UDP 546 and 547 (RFC 8415, 3646).

Law: pure, no I/O. Input is a stranger's: whatever the bytes, `parse` returns a Message or raises Dhcp6Error, in bounded time.
"""

from typing import NamedTuple

from agent.wire import frame

CLIENT, SERVER = 546, 547
TYPES = (
    "", "solicit", "advertise", "request", "confirm", "renew", "rebind", "reply", "release", "decline", "reconfigure",
    "information-request", "relay-forward", "relay-reply",
)  # fmt: skip
CLIENT_ID, SERVER_ID, DNS = 1, 2, 23
MAX_OPTIONS = 128
_RELAYED = (12, 13)  # another head: hops, two addresses
_MAX_DUID = 130  # RFC 8415 11.1: at most 128 bytes behind its type


class Dhcp6Error(Exception):
    """Not DHCPv6: cut off, or options that reach beyond their end."""


class Message(NamedTuple):
    """`duids` in hexadecimal, "": none. What a relay wraps is not unwrapped: on the wire of an office there is none to see."""

    type: str
    xid: int
    client_duid: str = ""
    server_duid: str = ""
    dns: tuple[str, ...] = ()


def parse(data: bytes) -> Message:
    """Raises Dhcp6Error."""
    if len(data) < 4:
        raise Dhcp6Error("shorter than a head")
    if not 0 < data[0] < len(TYPES):
        raise Dhcp6Error(f"type {data[0]}")
    relayed = data[0] in _RELAYED
    if relayed and len(data) < 34:
        raise Dhcp6Error("shorter than a relay's head")
    found = _options(data, 34 if relayed else 4)
    return Message(
        TYPES[data[0]], 0 if relayed else int.from_bytes(data[1:4]), _duid(found.get(CLIENT_ID, b"")), _duid(found.get(SERVER_ID, b"")),
        _servers(found.get(DNS, b"")),
    )  # fmt: skip


def _options(data: bytes, at: int) -> dict[int, bytes]:
    """The first of each kind."""
    found: dict[int, bytes] = {}
    for _ in range(MAX_OPTIONS):
        if at == len(data):
            return found
        end = at + 4 + int.from_bytes(data[at + 2 : at + 4])
        if at + 4 > len(data) or end > len(data):
            raise Dhcp6Error("an option that reaches beyond the end")
        found.setdefault(int.from_bytes(data[at : at + 2]), data[at + 4 : end])
        at = end
    raise Dhcp6Error("more options than a message has")


def _duid(raw: bytes) -> str:
    if len(raw) > _MAX_DUID:
        raise Dhcp6Error("a DUID that is too long")
    return raw.hex()


def _servers(raw: bytes) -> tuple[str, ...]:
    if len(raw) % 16:
        raise Dhcp6Error("name servers of a wrong length")
    return tuple(frame.text6(raw[i : i + 16]) for i in range(0, len(raw), 16))
