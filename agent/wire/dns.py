"""DNS messages, bytes ↔ dataclasses: queries with EDNS0 out, answers in (RFC 1035, 2181, 3596, 6891).

Law: pure, no I/O. Input is a stranger's: whatever the bytes, `parse` returns a Message or raises DnsError, in bounded time.
Names are text without the last dot (the root is "."), dots and odd bytes inside a label escaped as in RFC 1035 5.1.
"""

import dataclasses
import socket
import struct
from typing import NamedTuple

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "OPT": 41, "CAA": 257}
RCODES = (
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE",
)  # fmt: skip
EDNS_SIZE = 1232  # fits one unfragmented packet on any IPv6 path (DNS flag day 2020)
MAX_RECORDS = 512  # of one message; each name costs at most 127 steps, so a hostile 64 KiB message stays cheap
MAX_NAME = 255

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
_FLAGS = {"AA": AA, "TC": TC, "RD": RD, "RA": RA, "AD": AD, "CD": CD}
_NAMES = {number: name for name, number in TYPES.items()}
_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")


class DnsError(Exception):
    """Not a DNS message, or a name that DNS can't carry."""


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """One question. `edns` is the size of UDP answers we take, 0: no EDNS (512 bytes then)."""

    id: int
    name: str
    type: str = "A"
    recursion: bool = True
    edns: int = EDNS_SIZE

    def pack(self) -> bytes:
        """The query as bytes. Raises DnsError when the name can't be one."""
        head = _HEADER.pack(self.id, RD if self.recursion else 0, 1, 0, 0, 1 if self.edns else 0)
        question = encode_name(self.name) + struct.pack("!HH", type_number(self.type), 1)
        opt = b"\0" + _RECORD.pack(TYPES["OPT"], self.edns, 0, 0) if self.edns else b""
        return head + question + opt


class Question(NamedTuple):
    name: str
    type: str


class Record(NamedTuple):
    """`data` as text: an address, a name, "10 mail.example" (MX), the strings of a TXT joined; unknown types as RFC 3597's hex."""

    name: str
    type: str
    ttl: int
    data: str


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A parsed message. `flags` are names of AA TC RD RA AD CD; `rcode` is a name, extended by EDNS where present."""

    id: int
    response: bool
    opcode: int
    rcode: int
    flags: frozenset[str]
    question: Question | None
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()  # without OPT
    edns: bool = False

    @property
    def truncated(self) -> bool:
        return "TC" in self.flags

    @property
    def rcode_name(self) -> str:
        return rcode_name(self.rcode)

    def chain(self, name: str, type_: str) -> tuple[str, list[Record]]:
        """Follows CNAMEs among the answers from `name`: the last name, and its records of `type_` (RFC 1034 3.6.2)."""
        at = name.rstrip(".").lower() or "."
        aliases = {r.name.lower(): r.data.lower() for r in self.answers if r.type == "CNAME"}
        for _ in range(len(aliases) if type_ != "CNAME" else 0):
            if at not in aliases:
                break
            at = aliases[at]
        return at, [r for r in self.answers if r.type == type_ and r.name.lower() == at]


def rcode_name(rcode: int) -> str:
    return RCODES[rcode] if rcode < len(RCODES) else {16: "BADVERS"}.get(rcode, f"RCODE{rcode}")


def type_name(number: int) -> str:
    return _NAMES.get(number, f"TYPE{number}")


def type_number(name: str) -> int:
    """The number of a type's name, also of RFC 3597's `TYPE123`. Raises DnsError."""
    digits = name.removeprefix("TYPE")
    number = TYPES.get(name, int(digits) if digits != name and digits.isdecimal() and len(digits) <= 5 else -1)
    if not 0 < number <= 0xFFFF:
        raise DnsError(f"unknown record type {name[:20]}")
    return number


def mismatch(query: Query, reply: Message) -> str:
    """Why `reply` can't be the answer to `query`: one of four texts, or "" where it is (RFC 5452 9.1).

    A server that understood nothing answers without a question; that is taken, the id still guards it.
    """
    if not reply.response:
        return "not a reply"
    if reply.id != query.id:
        return "wrong id"
    if reply.opcode:
        return "wrong opcode"
    if reply.question is None:
        return "" if reply.rcode_name in ("FORMERR", "SERVFAIL", "NOTIMP", "REFUSED") else "wrong question"
    asked = (canonical(query.name).lower(), query.type)
    return "" if (reply.question.name.lower(), reply.question.type) == asked else "wrong question"


def canonical(name: str) -> str:
    """The name as `parse` would write it. Raises DnsError."""
    return Reader(encode_name(name)).name()


def encode_name(name: str) -> bytes:
    """`dinas.example.go.id` → wire form. Letters outside ASCII become IDNA's. Raises DnsError."""
    out = bytearray()
    for label in [] if name in (".", "") else _labels(name):
        if not 0 < len(label) < 64:
            raise DnsError(f"{name[:80]!r} has a label that is empty or longer than 63 bytes")
        out += bytes((len(label),)) + label
    out.append(0)
    if len(out) > MAX_NAME:
        raise DnsError(f"{name[:80]!r}… is longer than {MAX_NAME} bytes")
    return bytes(out)


def _labels(name: str) -> list[bytes]:
    labels, part, i = [], bytearray(), 0
    text = name if name.isascii() else _idna(name)
    while i < len(text):
        if text[i] == ".":
            labels.append(bytes(part))
            part.clear()
        elif text[i] == "\\":
            byte, used = _escaped(text[i + 1 : i + 4])
            part.append(byte)
            i += used
        else:
            part.append(ord(text[i]))
        i += 1
    return [*labels, bytes(part)] if part or not text.endswith(".") else labels


def _escaped(text: str) -> tuple[int, int]:
    """The byte behind a backslash, and how many characters wrote it."""
    if len(text) == 3 and text.isdecimal() and int(text) < 256:
        return int(text), 3
    if not text or text[0].isdecimal():
        raise DnsError("a name ends in the middle of an escape")
    return ord(text[0]), 1


def _idna(name: str) -> str:
    try:
        return ".".join(label.encode("idna").decode() for label in name.split("."))
    except UnicodeError as e:
        raise DnsError(f"{name[:80]!r} can't be a host name: {e}") from None


def parse(data: bytes) -> Message:
    """A message from its bytes. Raises DnsError. With TC set, what is whole of a cut-off message is kept (RFC 2181 9)."""
    if len(data) < 12:
        raise DnsError("shorter than a header")
    ident, bits, questions, *counts = _HEADER.unpack_from(data)
    if questions > 1 or sum(counts) > MAX_RECORDS:
        raise DnsError("more questions or records than a message has")
    reader = Reader(data, 12)
    question = Question(reader.name(), type_name(reader.u16())) if questions else None
    if question and reader.u16() != 1:
        raise DnsError("not of class IN")
    sections = _sections(reader, counts, tolerant=bool(bits & TC))
    high, edns = _edns(sections)
    return Message(
        id=ident, response=bool(bits & QR), opcode=bits >> 11 & 15, rcode=bits & 15 | high << 4,
        flags=frozenset(name for name, bit in _FLAGS.items() if bits & bit), question=question,
        answers=sections[0], authority=sections[1], additional=tuple(r for r in sections[2] if r.type != "OPT"), edns=edns,
    )  # fmt: skip


def _sections(reader: "Reader", counts: list[int], tolerant: bool) -> list[tuple[Record, ...]]:
    sections: list[list[Record]] = [[], [], []]
    try:
        for section, count in zip(sections, counts, strict=True):
            for _ in range(count):
                section.append(reader.record())
    except DnsError:
        if not tolerant:
            raise
    return [tuple(s) for s in sections]


def _edns(sections: list[tuple[Record, ...]]) -> tuple[int, bool]:
    """The upper 8 bits of the rcode, and whether there was an OPT record (its TTL field carries them, RFC 6891 6.1.3)."""
    for record in sections[2]:
        if record.type == "OPT":
            return record.ttl >> 24, True
    return 0, False


class Reader:
    """Walks over a message. Every read is checked against its end."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def take(self, n: int) -> bytes:
        chunk = self.data[self.at : self.at + n]
        if len(chunk) != n:
            raise DnsError("ends too early")
        self.at += n
        return chunk

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def name(self) -> str:
        """A name, decompressed. A pointer must lead backwards, further than the last one: so there are no loops (RFC 1035 4.1.4)."""
        labels: list[str] = []
        at, end, floor, length = self.at, 0, self.at, 1
        while size := self._byte(at):
            if size < 64:
                length += size + 1
                if length > MAX_NAME or at + 1 + size > len(self.data):
                    raise DnsError("has a name that is too long")
                labels.append(_label(self.data[at + 1 : at + 1 + size]))
                at += 1 + size
            elif size >= 0xC0:
                target = (size & 0x3F) << 8 | self._byte(at + 1)
                if target >= floor:
                    raise DnsError("has a name that points forward or to itself")
                end, at, floor = end or at + 2, target, target
            else:
                raise DnsError("has a label of an unknown kind")
        self.at = end or at + 1
        return ".".join(labels) or "."

    def _byte(self, at: int) -> int:
        if at >= len(self.data):
            raise DnsError("ends inside a name")
        return self.data[at]

    def record(self) -> Record:
        name = self.name()
        kind, class_, ttl, length = _RECORD.unpack(self.take(_RECORD.size))
        end = self.at + length
        if end > len(self.data):
            raise DnsError("ends inside a record")
        if type_name(kind) == "OPT":
            data = ""
        elif class_ != 1:
            data = _hex(self.take(length))
        else:
            ttl = ttl if ttl < 1 << 31 else 0  # RFC 2181 8
            data = self._data(type_name(kind), end)
        self.at = end
        return Record(name, type_name(kind), ttl, data)

    def _data(self, kind: str, end: int) -> str:
        inner = Reader(self.data[:end], self.at)  # what is in a record ends with it; pointers still reach back
        text = inner.fields(kind, end)
        if inner.at != end:
            raise DnsError(f"has {kind} data of a wrong length")
        return text

    def fields(self, kind: str, end: int) -> str:
        """The data of one record of class IN as text."""
        if kind == "A":
            return socket.inet_ntop(socket.AF_INET, self.take(4))
        if kind == "AAAA":
            return socket.inet_ntop(socket.AF_INET6, self.take(16))
        if kind in ("NS", "CNAME", "PTR"):
            return self.name()
        if kind == "MX":
            return f"{self.u16()} {self.name()}"
        if kind == "SRV":
            return f"{self.u16()} {self.u16()} {self.u16()} {self.name()}"
        if kind == "SOA":
            return " ".join([self.name(), self.name(), *map(str, struct.unpack("!5I", self.take(20)))])
        if kind == "TXT":
            return "".join(_text(self.take(self.take(1)[0])) for _ in iter(lambda: self.at < end, False))
        if kind == "CAA":
            flags, size = self.take(2)
            return f'{flags} {_text(self.take(size))} "{_text(self.take(end - self.at))}"'
        return _hex(self.take(end - self.at))


def _label(raw: bytes) -> str:
    if raw.isalnum():  # nearly all are; what follows costs a step a byte
        return raw.decode()
    return "".join(f"\\{chr(b)}" if b in b'.\\"();@$' else chr(b) if 33 <= b <= 126 else f"\\{b:03d}" for b in raw)


def _text(raw: bytes) -> str:
    return "".join(chr(b) if 32 <= b <= 126 and b != 92 else f"\\{b:03d}" if b != 92 else "\\\\" for b in raw)


def _hex(raw: bytes) -> str:
    return f"\\# {len(raw)} {raw.hex()}".rstrip()
