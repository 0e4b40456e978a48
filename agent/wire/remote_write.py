"""Prometheus remote write 1.0: samples ↔ the bytes of a WriteRequest, before snappy.

Law: pure. Written by hand (four messages, three wire types), since a protobuf library would weigh more than the agent. Fields with
the value 0 are left out, as proto3 does. Labels must come sorted by name, without empty values; timestamps of a series ascending.

    WriteRequest { repeated TimeSeries timeseries = 1; }     TimeSeries { repeated Label labels = 1; repeated Sample samples = 2; }
    Label { string name = 1; string value = 2; }             Sample { double value = 1; int64 timestamp = 2; }   // ms since 1970
"""

import struct
from collections.abc import Iterable, Iterator, Sequence

Labels = tuple[tuple[str, str], ...]
Points = Sequence[tuple[int, float]]  # (milliseconds since 1970, value)

STALE_BITS = 0x7FF0000000000002  # "the series has ended", as Prometheus' model/value has it
STALE: float = struct.unpack("<d", STALE_BITS.to_bytes(8, "little"))[0]
NAN_BITS = 0x7FF8000000000001  # an ordinary NaN
_STALE_BYTES = STALE_BITS.to_bytes(8, "little")
_DOUBLE = struct.Struct("<d")
_VARINT, _FIXED64, _BYTES = 0, 1, 2
MAX_TAG = (1 << 32) - 1


class RemoteWriteError(ValueError):
    """Bytes that are no WriteRequest; str() says why."""


def is_stale(value: float) -> bool:
    """Whether a value is the stale marker. (A NaN equals nothing, itself neither: only the bits tell.)"""
    return value != value and _DOUBLE.pack(value) == _STALE_BYTES


def request(series: Iterable[tuple[Labels, Points]]) -> bytes:
    """The bytes of a WriteRequest."""
    return join((head(labels), points) for labels, points in series)


def join(series: Iterable[tuple[bytes, Points]]) -> bytes:
    """As `request`, with labels that `head` has encoded already."""
    return b"".join([_field(b"\x0a", labels + samples(points)) for labels, points in series])


def head(labels: Labels) -> bytes:
    """The labels of a series, encoded: they are the same in every request."""
    return b"".join([_field(b"\x0a", _text(b"\x0a", name) + _text(b"\x12", value)) for name, value in labels])


def samples(points: Points) -> bytes:
    return b"".join([_field(b"\x12", _sample(at, value)) for at, value in points])


def _sample(at: int, value: float) -> bytes:
    number = b"" if value == 0 else b"\x09" + _DOUBLE.pack(value)
    return number + (b"\x10" + varint(at) if at else b"")


def _text(tag: bytes, text: str) -> bytes:
    # a lone surrogate (a name from the file system) is no UTF-8, and the receiver would refuse the whole batch for it
    return _field(tag, text.encode("utf-8", "replace"))


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + varint(len(content)) + content


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number as its 64 bit complement."""
    number &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


# -- back: for tests and for whoever receives ---------------------------------------------------------------------------------------


def parse(data: bytes) -> list[tuple[Labels, list[tuple[int, float]]]]:
    """A WriteRequest's series in their order. Unknown fields are skipped. Raises RemoteWriteError."""
    return [_series(value) for number, value in _fields(data) if number == 1 and isinstance(value, bytes)]


def other_value(data: bytes, name: str, value: str) -> str | None:
    """The first value of the label `name` that is not this one, empty for a series without it; None: all series have this one.

    Law: no series with another value passes, whatever else the bytes hold. A protobuf string lies in the bytes as it is, so where the
    name is found nowhere but in the encoded label itself, no other label can bear it; only what is left is read field by field.
    Raises RemoteWriteError, also for what no WriteRequest 1.0 has: other readers may take it for something else.
    """
    label = head(((name, value),))
    word = name.encode()
    times = label.count(word)
    for piece in _pieces(data):
        if piece.count(word) == times and label in piece:
            continue
        values = [said for called, said in _series(piece)[0] if called == name] or [""]
        if others := [said for said in values if said != value]:
            return others[0]
    return None


def _pieces(data: bytes) -> Iterator[bytes]:
    """The bytes of each series, unread; metadata (field 3) is passed over."""
    at = 0
    while at < len(data):
        tag = data[at]
        if tag not in (0x0A, 0x1A):
            raise RemoteWriteError(f"a field that remote write 1.0 doesn't have, at byte {at}")
        size, at = _read_varint(data, at + 1)
        if at + size > len(data):
            raise RemoteWriteError("the message is cut off")
        if tag == 0x0A:
            yield data[at : at + size]
        at += size


def _series(data: bytes) -> tuple[Labels, list[tuple[int, float]]]:
    labels: list[tuple[str, str]] = []
    points: list[tuple[int, float]] = []
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            labels.append(_label(value))
        elif number == 2 and isinstance(value, bytes):
            points.append(_point(value))
    return tuple(labels), points


def _label(data: bytes) -> tuple[str, str]:
    found = {number: value for number, value in _fields(data) if isinstance(value, bytes)}
    try:
        return found.get(1, b"").decode(), found.get(2, b"").decode()
    except UnicodeDecodeError:
        raise RemoteWriteError("a label is not UTF-8") from None


def _point(data: bytes) -> tuple[int, float]:
    at, value = 0, 0.0
    for number, field in _fields(data):
        if number == 1 and isinstance(field, float):
            value = field
        elif number == 2 and isinstance(field, int):
            at = field - (1 << 64) if field >> 63 else field
    return at, value


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """(number, value) of each field of a message."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        if tag > MAX_TAG:
            raise RemoteWriteError(f"a field's number is too large at byte {at}")  # some readers would cut it down to another's
        kind, size = tag & 7, 8
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, at = _read_varint(data, at)
        elif kind != _FIXED64:
            raise RemoteWriteError(f"wire type {kind} at byte {at}")
        if at + size > len(data):
            raise RemoteWriteError("the message is cut off")
        piece = data[at : at + size]
        at += size
        yield tag >> 3, piece if kind == _BYTES else _DOUBLE.unpack(piece)[0]


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    for at in range(at, min(at + 10, len(data))):  # noqa: B020  (the position is what is counted)
        number |= (data[at] & 0x7F) << shift
        if data[at] < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, at + 1
        shift += 7
    raise RemoteWriteError("a number without end")
