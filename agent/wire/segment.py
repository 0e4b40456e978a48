"""Segments of the durable buffer, bytes ↔ records: a header, then records, each with its own checksum.

Law: pure, no I/O. Whatever the bytes, `scan` yields exactly the records that are whole, in order, and steps over damage: one
flipped bit costs one record, a torn or zeroed tail only what was torn. Little-endian throughout.

    header: "RONDASEG", version u8, site 40 bytes (zero-padded), CRC-32 u32 of what stands before it
    record: "\xa5R", CRC-32 u32 of what follows it, length of the data u32, sequence u64, at f64, samples u32, before u64, data

A record's checksum starts from the site's name, so that one site's record is never whole in another's buffer, also where the
header is damaged. `before` is the number of samples in the records before this one in its segment: what damage took is
then known from the next whole record. Magic and version stay where they are in every version to come.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

MAGIC = b"RONDASEG"
VERSION = 1
SYNC = b"\xa5R"
MAX_DATA = 1 << 20
MAX_SAMPLES = 0xFFFFFFFF

_HEADER = struct.Struct("<8sB40s")
_CRC = struct.Struct("<I")
_RECORD = struct.Struct("<2sI")
_BODY = struct.Struct("<IQdIQ")
HEADER_BYTES = _HEADER.size + _CRC.size
RECORD_BYTES = _RECORD.size + _BODY.size  # beside its data


class SegmentError(Exception):
    """Not a segment's header, or a damaged one."""


class Header(NamedTuple):
    """Of a `version` above VERSION nothing else is known; `site` is empty then."""

    version: int
    site: str


class Stored(NamedTuple):
    """A whole record. at: wall seconds; start, end: its offsets; previous: where the search for it began (damage lies between)."""

    sequence: int
    at: float
    samples: int
    before: int
    data: bytes
    previous: int
    start: int
    end: int


def pack_header(site: str) -> bytes:
    """Raises ValueError when the site's name is longer than 40 bytes, or holds a zero byte."""
    name = site.encode()
    if not 0 < len(name) <= 40 or b"\0" in name:
        raise ValueError(f"not a site's name: {site!r}")
    head = _HEADER.pack(MAGIC, VERSION, name)
    return head + _CRC.pack(zlib.crc32(head))


def read_header(data: bytes) -> Header:
    """Raises SegmentError."""
    if len(data) < 9 or data[:8] != MAGIC:
        raise SegmentError("not a segment of Ronda's buffer")
    if data[8] > VERSION:
        return Header(data[8], "")
    if len(data) < HEADER_BYTES or _CRC.unpack_from(data, _HEADER.size)[0] != zlib.crc32(data[: _HEADER.size]):
        raise SegmentError("damaged header")
    _, version, name = _HEADER.unpack_from(data)
    try:
        return Header(version, name.rstrip(b"\0").decode())
    except UnicodeDecodeError:
        raise SegmentError("damaged header") from None


def seed(site: str) -> int:
    """Where the checksums of a site's records start."""
    return zlib.crc32(site.encode())


def pack_record(seed: int, sequence: int, at: float, samples: int, before: int, data: bytes) -> bytes:
    """Raises ValueError for what a record can't hold."""
    if len(data) > MAX_DATA:
        raise ValueError(f"{len(data)} bytes are too much for a record, at most {MAX_DATA}")
    if not math.isfinite(at) or not 0 <= samples <= MAX_SAMPLES:
        raise ValueError(f"not a record: at {at}, {samples} samples")
    body = _BODY.pack(len(data), sequence, at, samples, before)
    return _RECORD.pack(SYNC, zlib.crc32(data, zlib.crc32(body, seed))) + body + data


def scan(seed: int, data: bytes, start: int = HEADER_BYTES, base: int = 0) -> Iterator[Stored]:
    """Yields the whole records of `data` from `start` on. `base` is added to all offsets: where in the file `data` begins."""
    at = previous = start
    while (at := data.find(SYNC, at)) >= 0:
        record = _record(seed, data, at)
        if record is None:
            at += 1
            continue
        yield record._replace(previous=base + previous, start=base + at, end=base + record.end)
        at = previous = record.end


def _record(seed: int, data: bytes, start: int) -> Stored | None:
    """The record that begins at `start`; None where none does, or it is damaged."""
    body = start + _RECORD.size
    if len(data) - start < RECORD_BYTES:
        return None
    length, sequence, at, samples, before = _BODY.unpack_from(data, body)
    end = start + RECORD_BYTES + length
    if length > MAX_DATA or end > len(data):
        return None
    if _RECORD.unpack_from(data, start)[1] != zlib.crc32(memoryview(data)[body:end], seed):
        return None
    return Stored(sequence, at, samples, before, data[start + RECORD_BYTES : end], start, start, end)
