"""Names asked of everybody: LLMNR (RFC 4795), NBNS (RFC 1002 4.2), mDNS (RFC 6762), payloads of UDP 5355, 137 and 5353.

Law: pure, no I/O. Input is a stranger's: whatever the bytes, `parse` returns a Message or raises NamesError, in bounded time.
All three are DNS messages, each with its own turns; only what a watcher needs is read: who is asked for, and which addresses answer.
"""

import struct
from typing import Literal, NamedTuple, TypeAlias

from agent.wire import frame
from agent.wire.dns import DnsError, Reader, encode_name

Protocol: TypeAlias = Literal["llmnr", "nbns", "mdns"]
PORTS: dict[int, Protocol] = {5355: "llmnr", 137: "nbns", 5353: "mdns"}
MAX_QUESTIONS, MAX_RECORDS, MAX_ADDRESSES = 16, 32, 16  # of one message; what is beyond is passed over
MAX_LABELS = 192  # of all its names: compressed, a message of 400 bytes can hold thousands, and each costs as much as a whole small frame

A, AAAA, NB = 1, 28, 0x20
_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_RESPONSE, _OPCODE, _RCODE = 0x8000, 0x7800, 0x000F
_NBNS_BROADCAST = 0x0110  # recursion desired and broadcast, as every node that asks everybody sets them (RFC 1002 4.2.12)
_MANY = 0x7FFF  # a class without mDNS's uppermost bit: "answer me alone", "flush what you know" (RFC 6762 5.4, 10.2)


class NamesError(Exception):
    """Not such a message, or a name that the protocol can't carry."""


class Answer(NamedTuple):
    name: str
    addresses: tuple[str, ...] = ()


class Message(NamedTuple):
    """`opcode` 0 asks for a name; NBNS has others, to register and release one. An answer of `rcode` 0 with no answers says "no such"."""

    protocol: Protocol
    id: int
    response: bool
    opcode: int
    rcode: int
    asked: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()


def parse(protocol: Protocol, data: bytes) -> Message:
    """Raises NamesError."""
    if len(data) < _HEADER.size:
        raise NamesError("shorter than a header")
    ident, bits, questions, records, _, _ = _HEADER.unpack_from(data)
    reader = Reader(data, _HEADER.size)
    asked: list[str] = []
    try:
        labels = 0
        while len(asked) < min(questions, MAX_QUESTIONS) and labels < MAX_LABELS:
            name, cost = _question(reader, protocol)
            labels += cost
            asked.append(name)
        answers = _answers(reader, protocol, records, labels) if len(asked) == questions and bits & _RESPONSE else ()
    except DnsError as e:
        raise NamesError(str(e)) from None
    return Message(
        protocol, ident, bool(bits & _RESPONSE), (bits & _OPCODE) >> 11, bits & _RCODE, tuple(n for n in asked if n), answers
    )  # fmt: skip


def _question(reader: Reader, protocol: Protocol) -> tuple[str, int]:
    """The name asked for, "" where it is no question for a name; and its labels."""
    name, labels = _name(reader, protocol)
    kind, class_ = reader.u16(), reader.u16()
    return name if class_ & _MANY == 1 and (protocol != "nbns" or kind == NB) else "", labels


def _answers(reader: Reader, protocol: Protocol, count: int, labels: int) -> tuple[Answer, ...]:
    """Names with all their addresses, in the order in which they come. `labels`: how many the message has cost already."""
    found: dict[str, list[str]] = {}
    for _ in range(min(count, MAX_RECORDS)):
        if labels >= MAX_LABELS:
            break
        name, cost = _name(reader, protocol)
        labels += cost
        kind, class_, _, length = _RECORD.unpack(reader.take(_RECORD.size))
        data = reader.take(length)
        if class_ & _MANY == 1 and (protocol != "nbns" or kind == NB):
            here = found.setdefault(name, [])
            here += _addresses(protocol, kind, data)[: MAX_ADDRESSES - len(here)]
    return tuple(Answer(name, tuple(addresses)) for name, addresses in found.items())


def _addresses(protocol: Protocol, kind: int, data: bytes) -> list[str]:
    if protocol == "nbns":  # flags, then an address; many for a group (RFC 1002 4.2.13)
        return [frame.text4(data[i + 2 : i + 6]) for i in range(0, len(data) - 5, 6)] if kind == NB else []
    if kind == A and len(data) == 4:
        return [frame.text4(data)]
    return [frame.text6(data)] if kind == AAAA and len(data) == 16 else []


def _name(reader: Reader, protocol: Protocol) -> tuple[str, int]:
    """The name, and how many labels it took to read."""
    name = reader.name()
    return decode_netbios(name) if protocol == "nbns" else name, name.count(".") + 1


# -- NetBIOS names ------------------------------------------------------------------------------------------------------------------


def decode_netbios(label: str) -> str:
    """RFC 1001 14.1: 32 letters A to P are half bytes. The 16th byte, the name's kind, and the scope are left out. Raises NamesError."""
    letters = label.partition(".")[0]
    if len(letters) != 32 or not set(letters) <= set("ABCDEFGHIJKLMNOP"):
        raise NamesError("not a NetBIOS name")
    halves = [ord(letter) - 65 for letter in letters]
    raw = bytes(high << 4 | low for high, low in zip(halves[:-2:2], halves[1:-2:2], strict=True))
    return raw.rstrip(b" \0").decode("cp437")


def encode_netbios(name: str, kind: int = 0) -> str:
    """The label of a NetBIOS name; kind 0 is a workstation, 0x20 a file server. Raises NamesError."""
    try:
        raw = name.upper().encode("cp437")
    except UnicodeEncodeError:
        raise NamesError(f"{name[:20]!r} has letters that NetBIOS has not") from None
    if not 0 < len(raw) < 16 or not 0 <= kind < 256:
        raise NamesError(f"{name[:20]!r} is no NetBIOS name: 1 to 15 letters")
    pad = b"\0" if name == "*" else b" "  # RFC 1002 4.2.18 asks for any name with zeros behind
    return "".join(chr(65 + (b >> 4)) + chr(65 + (b & 15)) for b in raw.ljust(15, pad) + bytes((kind,)))


# -- what is asked ------------------------------------------------------------------------------------------------------------------


def llmnr_query(name: str, ident: int) -> bytes:
    """Who is `name`? (IPv4). For 224.0.0.252 or ff02::1:3, port 5355. Raises NamesError."""
    return _query(name, ident, 0, A)


def mdns_query(name: str, ident: int = 0) -> bytes:
    """Who is `name`, e.g. "printer.local"? For 224.0.0.251 or ff02::fb, port 5353. Raises NamesError."""
    return _query(name, ident, 0, A)


def nbns_query(name: str, ident: int, kind: int = 0) -> bytes:
    """Who is `name`? For the network's broadcast address, port 137. Raises NamesError."""
    return _query(encode_netbios(name, kind), ident, _NBNS_BROADCAST, NB)


def _query(name: str, ident: int, bits: int, kind: int) -> bytes:
    try:
        return _HEADER.pack(ident & 0xFFFF, bits, 1, 0, 0, 0) + encode_name(name) + struct.pack("!HH", kind, 1)
    except DnsError as e:
        raise NamesError(str(e)) from None
