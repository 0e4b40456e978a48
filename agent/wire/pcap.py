"""Captures: pcap (both byte orders, µs and ns) and pcapng read packet by packet, pcap written.

Law: pure but for the `read(n)` it is given; one block at a time in memory, MAX_BLOCK bytes at most. Input is a stranger's: what is no
capture raises PcapError; a capture that is cut off or goes wrong gives what was whole before, and `ended` says why it ended there. Times
are what the file says: they may go back, and mean nothing.
"""

import math
import struct
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from agent.wire import frame

ETHERNET = 1
MAX_PACKET = 262_144  # tcpdump's own limit
MAX_BLOCK = MAX_PACKET + 65_536  # a packet and its options
MAX_INTERFACES = 1024

_MAGIC = {  # bytes of the file → byte order, units of a second
    b"\xa1\xb2\xc3\xd4": (">", 10**6), b"\xd4\xc3\xb2\xa1": ("<", 10**6), b"\xa1\xb2\x3c\x4d": (">", 10**9),
    b"\x4d\x3c\xb2\xa1": ("<", 10**9),
}  # fmt: skip
_SECTION = b"\x0a\x0d\x0d\x0a"  # pcapng, draft-ietf-opsawg-pcapng; reads the same in both byte orders
_ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
_INTERFACE, _OLD_PACKET, _SIMPLE, _PACKET = 1, 2, 3, 6
_TSRESOL, _TSOFFSET = 9, 14
_RAW = {12: 0, 14: 0, 101: 0, 228: frame.IPV4, 229: frame.IPV6}  # raw IP; 0: its version says which
_SLL, _SLL2 = 113, 276
_DIRECTIONS: dict[int, Literal["in", "out", "unknown"]] = {0: "in", 1: "in", 2: "in", 4: "out"}  # linux/if_packet.h; 3: between others


class PcapError(Exception):
    """Not a capture."""


class Packet(NamedTuple):
    """`time`: seconds since 1970 as the file has them; 0.0 where it has none."""

    time: float
    linktype: int
    data: bytes


class _End(Exception):  # noqa: N818  (not an error: the capture's end, and why)
    pass


class _Interface(NamedTuple):
    linktype: int
    snap: int
    units: int  # of a second
    offset: int


def is_capture(head: bytes) -> bool:
    """Whether a file that begins with these four bytes is a capture."""
    return head[:4] in _MAGIC or head[:4] == _SECTION


class Capture:
    """The packets of one capture, in the file's order. `ended` is "" once it was read to its whole end, else it says what was wrong."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        """Raises PcapError."""
        self._read = read
        self.ended = ""
        self._order = "<"
        self._interfaces: list[_Interface] = []
        self._last = 0.0
        magic = self._some(4)
        if not is_capture(magic):
            raise PcapError("neither pcap nor pcapng")
        self.format = "pcapng" if magic == _SECTION else "pcap"
        self._packets = self._pcapng() if magic == _SECTION else self._pcap(magic)

    def __iter__(self) -> Iterator[Packet]:
        try:
            yield from self._packets
        except _End as e:
            self.ended = str(e)

    def _some(self, n: int) -> bytes:
        """At most n bytes: fewer only at the end of the file."""
        got = self._read(n)
        while len(got) < n and (more := self._read(n - len(got))):
            got += more
        return got

    def _all(self, n: int) -> bytes:
        got = self._some(n)
        if len(got) < n:
            raise _End("it is cut off")
        return got

    def _pcap(self, magic: bytes) -> Iterator[Packet]:
        order, units = _MAGIC[magic]
        _, _, _, _, _, network = struct.unpack(f"{order}HHiIII", self._all(20))
        head = struct.Struct(f"{order}IIII")
        while raw := self._some(head.size):
            if len(raw) < head.size:
                raise _End("it is cut off")
            seconds, fraction, length, _ = head.unpack(raw)
            if length > MAX_PACKET:
                raise _End(f"it goes wrong: a packet of {length} bytes")
            yield Packet(seconds + fraction / units, network & 0xFFFF, self._all(length))  # what is above are flags

    def _pcapng(self) -> Iterator[Packet]:
        self._section()
        while head := self._some(8):
            if len(head) < 8:
                raise _End("it is cut off")
            if head[:4] == _SECTION:
                self._section(head[4:])
                continue
            kind, length = struct.unpack(f"{self._order}II", head)
            if length < 12 or length % 4:
                raise _End(f"it goes wrong: a block of {length} bytes")
            if kind not in (_INTERFACE, _OLD_PACKET, _SIMPLE, _PACKET):
                self._skip(length - 8)
                continue
            if length > MAX_BLOCK:
                raise _End(f"it goes wrong: a block of {length} bytes")
            body = self._all(length - 8)[:-4]
            if kind == _INTERFACE:
                self._interface(body)
            else:
                yield self._packet(kind, body)

    def _section(self, length: bytes = b"") -> None:
        """A section begins: its byte order, and no interfaces yet. The type has been read, perhaps the length too."""
        length = length or self._all(4)
        order = _ORDERS.get(self._all(4))
        size = struct.unpack(f"{order or '<'}I", length)[0]
        if order is None or size < 28 or size % 4:
            raise _End("it goes wrong: a section that can't be")
        self._order, self._interfaces = order, []
        self._skip(size - 12)

    def _skip(self, n: int) -> None:
        while n > 0:
            n -= len(self._all(min(n, 65_536)))

    def _interface(self, body: bytes) -> None:
        if len(body) < 8 or len(self._interfaces) >= MAX_INTERFACES:
            raise _End("it goes wrong: an interface that can't be")
        linktype, _, snap = struct.unpack_from(f"{self._order}HHI", body)
        options = self._options(body, 8)
        resolution = options.get(_TSRESOL, b"\6")[:1] or b"\6"
        exponent = resolution[0] & 0x7F
        offset = options.get(_TSOFFSET, b"")
        seconds = int.from_bytes(offset, "big" if self._order == ">" else "little", signed=True) if len(offset) == 8 else 0
        self._interfaces.append(_Interface(linktype, snap, (2 if resolution[0] & 0x80 else 10) ** exponent, seconds))

    def _options(self, body: bytes, at: int) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        while at + 4 <= len(body):
            code, length = struct.unpack_from(f"{self._order}HH", body, at)
            if not code:
                break
            found.setdefault(code, body[at + 4 : at + 4 + length])
            at += 4 + (length + 3) // 4 * 4
        return found

    def _packet(self, kind: int, body: bytes) -> Packet:
        if kind == _SIMPLE:
            if len(body) < 4:
                raise _End("it goes wrong: a packet that can't be")
            (length,) = struct.unpack_from(f"{self._order}I", body)
            interface = self._numbered(0)
            return Packet(self._last, interface.linktype, body[4 : 4 + min(length, interface.snap or MAX_PACKET)])
        if len(body) < 20:
            raise _End("it goes wrong: a packet that can't be")
        number, high, low, length, _ = struct.unpack_from(f"{self._order}5I" if kind == _PACKET else f"{self._order}Hxx4I", body)
        interface = self._numbered(number)
        if 20 + length > len(body):
            raise _End("it goes wrong: a packet longer than its block")
        self._last = (high << 32 | low) / interface.units + interface.offset
        return Packet(self._last, interface.linktype, body[20 : 20 + length])

    def _numbered(self, number: int) -> _Interface:
        if number >= len(self._interfaces):
            raise _End("it goes wrong: a packet of an interface that isn't there")
        return self._interfaces[number]


def link(packet: Packet) -> tuple[frame.Link, Literal["in", "out", "unknown"]] | None:
    """The head of the link layer, whatever the capture's, and which way it went. None: a kind not understood. Raises FrameError."""
    linktype, data = packet.linktype, packet.data
    if linktype == ETHERNET:
        return frame.link(data), "unknown"
    if linktype in _RAW:
        if not data:
            raise frame.FrameError("no IP packet")
        kind = _RAW[linktype] or {4: frame.IPV4, 6: frame.IPV6}.get(data[0] >> 4, 0)
        return frame.Link("", "", kind, 0, len(data)), "unknown"
    if linktype in (_SLL, _SLL2):
        return _cooked(data, *((16, 0, 4, 6, 14) if linktype == _SLL else (20, 10, 11, 12, 0)))
    return None


def _cooked(data: bytes, size: int, way: int, length: int, address: int, kind: int) -> tuple[frame.Link, Literal["in", "out", "unknown"]]:
    """Linux "cooked" captures: of all devices at once, without the target's MAC. The arguments say where its fields are."""
    if len(data) < size:
        raise frame.FrameError("shorter than a cooked head")
    number = int.from_bytes(data[way : way + 2]) if size == 16 else data[way]
    count = int.from_bytes(data[length : length + 2]) if size == 16 else data[length]
    source = data[address : address + 6].hex(":") if count == 6 else ""
    inner, at, end = int.from_bytes(data[kind : kind + 2]), size, len(data)
    if inner == 4:  # ETH_P_802_2, linux/if_ether.h
        inner, at, end = frame.llc(data, at, end)
    target = frame.BROADCAST if number == 1 else ""
    return frame.Link(source, target, inner, at, end), _DIRECTIONS.get(number, "unknown")


def file_head(linktype: int = ETHERNET) -> bytes:
    """How a pcap file begins, with times in ns."""
    return struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, MAX_PACKET, linktype)


def record(time: float, data: bytes, length: int = 0) -> bytes:
    """One packet of such a file; `length`: on the wire, where `data` is cut. A time that pcap can't tell becomes the nearest."""
    nanoseconds = round(min(max(time, 0.0), float(0xFFFFFFFF)) * 10**9) if math.isfinite(time) else 0
    data = data[:MAX_PACKET]
    return struct.pack("<IIII", *divmod(nanoseconds, 10**9), len(data), max(length, len(data))) + data
