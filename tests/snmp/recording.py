"""Recorded devices, awake again: an SNMP agent (v1, v2c) on loopback that answers from a .snmprec file, and lies where a test asks it to.

Law: none of Ronda's code and no SNMP library in here, else a misunderstanding would stand on both sides of a test and go unseen.

A line is `OID|tag|value`; the tag is the BER type in decimal, with `x` behind it where the value is hex. Lines that aren't so (also those
of variation modules, `4:...`) are skipped and counted. As real devices do, an answer holds no more rows than fit in one datagram.
"""

import bisect
import contextlib
import pathlib
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import NamedTuple, Self

Oid = tuple[int, ...]
INTEGER, STRING, NULL, OBJECT, ADDRESS, COUNTER, GAUGE, TICKS, OPAQUE, COUNTER64 = 2, 4, 5, 6, 64, 65, 66, 67, 68, 70
UNSIGNED = {COUNTER: 32, GAUGE: 32, TICKS: 32, COUNTER64: 64}
GET, NEXT, RESPONSE, SET, BULK = 0xA0, 0xA1, 0xA2, 0xA3, 0xA5
NO_SUCH_OBJECT, END_OF_VIEW = b"\x80\x00", b"\x82\x00"
TOO_BIG, NO_SUCH_NAME, NOT_WRITABLE = 1, 2, 17
IF_TABLES = tuple((1, 3, 6, 1, 2, 1, *rest) for rest in ((2, 2, 1), (31, 1, 1, 1), (10, 7, 2, 1)))


class Row(NamedTuple):
    """A value as the device gave it: its BER type, and a number, bytes (string, address, opaque, nothing) or an OID."""

    tag: int
    value: int | bytes | Oid


def oid(text: str) -> Oid:
    return tuple(int(n) for n in text.strip(".").split("."))


# -- the file -------------------------------------------------------------------------------------------------------------------


class Recording(NamedTuple):
    rows: dict[Oid, Row]  # in OID order
    skipped: int  # lines that say nothing


def read(path: pathlib.Path) -> Recording:
    return parse(path.read_bytes().splitlines())


def parse(lines: Iterable[bytes]) -> Recording:
    rows: dict[Oid, Row] = {}
    skipped = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            name, row = _line(line)
        except (ValueError, UnicodeDecodeError):
            skipped += 1
            continue
        skipped += name in rows
        rows[name] = row
    return Recording(dict(sorted(rows.items())), skipped)


def _line(line: bytes) -> tuple[Oid, Row]:
    name, tag, value = line.rstrip(b"\r\n").split(b"|", 2)
    hexed = tag.endswith(b"x")
    number = int(tag.removesuffix(b"x"))
    raw = bytes.fromhex(value.decode("ascii")) if hexed else value
    row = Row(number, _value(number, raw, hexed))
    at = oid(name.decode("ascii"))
    encoded_oid(at), encode(row)  # what can't be sent isn't a row
    return at, row


def _value(tag: int, raw: bytes, hexed: bool) -> int | bytes | Oid:
    if tag == INTEGER or tag in UNSIGNED:
        return int(raw)
    if tag == OBJECT:
        return oid(raw.decode("ascii"))
    if tag == ADDRESS and not hexed:
        return socket.inet_aton(raw.decode("ascii"))
    if tag in (STRING, OPAQUE, ADDRESS, NULL):
        return raw
    raise ValueError(tag)


# -- BER (X.690 8; RFC 3417 8: definite lengths only) ---------------------------------------------------------------------------


def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def integer(number: int, tag: int = INTEGER) -> bytes:
    return tlv(tag, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def encoded_oid(name: Oid) -> bytes:
    if len(name) < 2 or name[0] > 2 or any(not 0 <= n < 1 << 32 for n in name):
        raise ValueError(name)
    out = bytearray()
    for n in (name[0] * 40 + name[1], *name[2:]):
        septets = [n & 0x7F]
        while n := n >> 7:
            septets.append(n & 0x7F | 0x80)
        out += bytes(reversed(septets))
    return tlv(OBJECT, bytes(out))


def encode(row: Row) -> bytes:
    tag, value = row
    if isinstance(value, tuple):
        return encoded_oid(value)
    if isinstance(value, bytes):
        return tlv(tag, value)
    low, high = (0, 1 << UNSIGNED[tag]) if tag in UNSIGNED else (-(1 << 31), 1 << 31)
    if not low <= value < high:
        raise ValueError(value)
    return integer(value, tag)


def take(data: bytes) -> tuple[int, bytes, bytes]:
    """One element: its tag, its content, and what follows it. Raises ValueError, IndexError."""
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        raise ValueError("cut short")
    return data[0], data[start : start + length], data[start + length :]


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        tag, content, data = take(data)
        yield tag, content


def decoded_oid(content: bytes) -> Oid:
    numbers, n = [], 0
    for byte in content:
        n = n << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(n)
            n = 0
    first = min(numbers[0] // 40, 2)
    return (first, numbers[0] - first * 40, *numbers[1:])


def signed(content: bytes) -> int:
    return int.from_bytes(content, "big", signed=True)


class Request(NamedTuple):
    version: int  # as on the wire: 0 is v1, 1 is v2c
    community: bytes
    kind: int
    number: int
    non_repeaters: int  # of a GETBULK; else 0
    repetitions: int
    names: list[Oid]


def decode(datagram: bytes) -> Request:
    (_, message), *_ = elements(datagram)
    (_, version), (_, community), (kind, pdu) = elements(message)
    (_, number), (_, first), (_, second), (_, bindings) = elements(pdu)
    names = [decoded_oid(next(elements(binding))[1]) for _, binding in elements(bindings)]
    return Request(signed(version), community, kind, signed(number), signed(first), signed(second), names)


# -- the device -----------------------------------------------------------------------------------------------------------------


class Responder:
    """A recorded device on a free port of loopback, in a thread of its own: `with Responder(read(path).rows) as device: ... device.port`.

    What it says may be changed while it runs: `put`, `drop`, `reindex`. `jumps` makes it lie about what comes next (OID asked → OID told).
    """

    def __init__(self, rows: Mapping[Oid, Row], community: str = "public", size: int = 1472, versions: Iterable[int] = (0, 1)) -> None:
        self.community, self.size, self.versions = community, size, frozenset(versions)
        self.jumps: dict[Oid, Oid] = {}
        self.silent = False
        self.asked = 0  # requests that it understood
        self.refused = 0  # a wrong community or version: not answered, as devices do
        self.spoilt = 0  # datagrams that are no SNMP
        self.told: set[Oid] = set()  # whatever it has given away
        self.lock = threading.Lock()
        self.rows = dict(rows)
        self.order = sorted(self.rows)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread; an unconnected socket says ENOTCONN and is woken all the same
        self.thread.join(5)
        self.socket.close()

    def put(self, rows: Mapping[Oid, Row]) -> None:
        with self.lock:
            self.rows.update(rows)
            self.order = sorted(self.rows)

    def drop(self, *below: Oid) -> None:
        with self.lock:
            self.rows = {name: row for name, row in self.rows.items() if not any(name[: len(b)] == b for b in below)}
            self.order = sorted(self.rows)

    def reindex(self, moves: Mapping[int, int]) -> None:
        """Interfaces get other ifIndexes, all at once, as after a reboot: in ifTable, ifXTable and dot3StatsTable."""
        with self.lock:
            self.rows = dict(_moved(name, row, moves) for name, row in self.rows.items())
            self.order = sorted(self.rows)

    def serve(self) -> None:
        while True:
            try:
                datagram, peer = self.socket.recvfrom(65536)
            except OSError:
                return
            if not peer or (not datagram and self.socket.fileno() < 0):
                return
            with self.lock:
                answer = self.answer(datagram)
            if answer:
                with contextlib.suppress(OSError):
                    self.socket.sendto(answer, peer)

    def answer(self, datagram: bytes) -> bytes:
        try:
            request = decode(datagram)
        except (ValueError, IndexError, StopIteration):
            self.spoilt += 1
            return b""
        if request.version not in self.versions or request.community != self.community.encode():
            self.refused += 1
            return b""
        self.asked += 1
        return b"" if self.silent else self.response(request)

    def response(self, request: Request) -> bytes:
        if request.kind == BULK and request.version == 1:
            return self.bulk(request)
        if request.kind not in (GET, NEXT):
            return message(
                request, [(name, tlv(NULL, b"")) for name in request.names], NO_SUCH_NAME if request.version == 0 else NOT_WRITABLE, 1
            )
        step = self.one if request.kind == GET else self.following
        found = [step(name, request.version) for name in request.names]
        missing = [at for at, (_, value) in enumerate(found, 1) if value in (NO_SUCH_OBJECT, END_OF_VIEW)]
        if missing and request.version == 0:
            return message(request, [(name, tlv(NULL, b"")) for name in request.names], NO_SUCH_NAME, missing[0])
        return message(request, [], TOO_BIG, 0) if len(message(request, found)) > self.size else self.tell(request, found)

    def bulk(self, request: Request) -> bytes:
        """RFC 3416 4.2.3, row by row until it is all, or the end, or the datagram is full."""
        heads = max(0, request.non_repeaters)
        found = [self.following(name, 1) for name in request.names[:heads]]
        names = request.names[heads:]
        room = self.size - len(message(request, found)) - 16  # 16: lengths that grow from one byte to three
        for _ in range(max(0, request.repetitions) if names else 0):
            for at, name in enumerate(names):
                other, value = self.following(name, 1)
                room -= len(encoded_oid(other)) + len(value) + 4
                if room < 0:
                    return self.tell(request, found) if found else message(request, [], TOO_BIG, 0)
                found.append((other, value))
                names[at] = other
            if all(value == END_OF_VIEW for _, value in found[-len(names) :]):
                break
        return self.tell(request, found)

    def tell(self, request: Request, found: list[tuple[Oid, bytes]]) -> bytes:
        self.told.update(name for name, value in found if value not in (NO_SUCH_OBJECT, END_OF_VIEW))
        return message(request, found)

    def one(self, name: Oid, version: int) -> tuple[Oid, bytes]:
        row = self.rows.get(name)
        return name, NO_SUCH_OBJECT if row is None or (version == 0 and row.tag == COUNTER64) else encode(row)

    def following(self, name: Oid, version: int) -> tuple[Oid, bytes]:
        if name in self.jumps:
            return self.jumps[name], self.one(self.jumps[name], version)[1]
        for at in range(bisect.bisect_right(self.order, name), len(self.order)):
            other = self.order[at]
            if version != 0 or self.rows[other].tag != COUNTER64:  # v1 has no Counter64: such rows are passed over (RFC 3584 4.2.2.1)
                return other, encode(self.rows[other])
        return name, END_OF_VIEW


def message(request: Request, found: list[tuple[Oid, bytes]], status: int = 0, index: int = 0) -> bytes:
    bindings = tlv(0x30, b"".join(tlv(0x30, encoded_oid(name) + value) for name, value in found))
    pdu = tlv(RESPONSE, integer(request.number) + integer(status) + integer(index) + bindings)
    return tlv(0x30, integer(request.version) + tlv(STRING, request.community) + pdu)


def _moved(name: Oid, row: Row, moves: Mapping[int, int]) -> tuple[Oid, Row]:
    table = next((t for t in IF_TABLES if name[: len(t)] == t), None)
    if table is None or len(name) != len(table) + 2 or name[-1] not in moves:
        return name, row
    moved = moves[name[-1]]
    return (*name[:-1], moved), Row(row.tag, moved) if name[-2] == 1 and table == IF_TABLES[0] else row
