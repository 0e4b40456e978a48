"""X.509 certificates, DER bytes → the facts a probe tells: who, by whom, from when until when, for which names (RFC 5280, X.690).

Law: pure, no I/O; reads, never judges: whether a certificate is trusted is OpenSSL's to say. Input is a stranger's: whatever the
bytes, `parse` returns a Certificate or raises X509Error, in time linear to their number. Needed because Python's `ssl` gives only
bytes of certificates that it didn't verify, and the facts of a broken one are what people ask for.
"""

import dataclasses
import datetime
import hashlib
import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_CERTIFICATE = 64 << 10
MAX_NAMES = 200  # of a certificate's alternative names
MAX_TEXT = 256  # characters of one value

_INTEGER, _OCTETS, _OID, _SEQUENCE, _SET = 0x02, 0x04, 0x06, 0x30, 0x31
_UTC_TIME, _TIME = 0x17, 0x18
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87
_CODECS = {12: "utf-8", 18: "ascii", 19: "latin-1", 20: "latin-1", 22: "latin-1", 26: "latin-1", 28: "utf-32-be", 30: "utf-16-be"}
_ATTRIBUTES = {b"\x55\x04\x03": "CN", b"\x55\x04\x0a": "O", b"\x55\x04\x0b": "OU", b"\x55\x04\x06": "C"}
_SUBJECT_ALT_NAME = b"\x55\x1d\x11"


class X509Error(Exception):
    """Not a certificate that we can read."""


class Name(NamedTuple):
    """Of a distinguished name what people know it by; empty where it has none."""

    common_name: str = ""
    organization: str = ""
    unit: str = ""
    country: str = ""

    def __str__(self) -> str:
        pairs = zip(("CN", "O", "OU", "C"), self, strict=True)
        return ", ".join(f"{key}={value}" for key, value in pairs if value)

    @property
    def short(self) -> str:
        return self.common_name or self.organization or self.unit or self.country


@dataclasses.dataclass(frozen=True, slots=True)
class Certificate:
    """Times are seconds since 1970 (UTC), `names` its DNS names and addresses, `serial` and `sha256` lower-case hex."""

    serial: str
    issuer: Name
    subject: Name
    not_before: float
    not_after: float
    names: tuple[str, ...]
    sha256: str
    self_issued: bool


class _Tlv(NamedTuple):
    tag: int
    value: bytes
    end: int


def parse(der: bytes) -> Certificate:
    """The certificate in `der`. Raises X509Error."""
    if len(der) > MAX_CERTIFICATE:
        raise X509Error("larger than any certificate")
    outer = _expect(der, 0, _SEQUENCE)
    if outer.end != len(der):
        raise X509Error("bytes after its end")
    tbs = list(_items(_expect(outer.value, 0, _SEQUENCE).value))
    if tbs and tbs[0].tag == _VERSION:
        del tbs[0]
    if [t.tag for t in tbs[:6]] != [_INTEGER, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE]:
        raise X509Error("not the fields of a certificate")
    serial, _, issuer, validity, subject, _ = (t.value for t in tbs[:6])
    not_before, not_after = _validity(validity)
    return Certificate(
        serial=f"{int.from_bytes(serial, signed=True):x}",
        issuer=_name(issuer),
        subject=_name(subject),
        not_before=not_before,
        not_after=not_after,
        names=_alternative_names([t.value for t in tbs[6:] if t.tag == _EXTENSIONS]),
        sha256=hashlib.sha256(der).hexdigest(),
        self_issued=issuer == subject,
    )


def _tlv(data: bytes, at: int) -> _Tlv:
    """The element at `at`: one-byte tags and the shortest form of a definite length only, as DER has it (X.690 10.1)."""
    if at + 2 > len(data):
        raise X509Error("ends too early")
    tag, length, start = data[at], data[at + 1], at + 2
    if tag & 0x1F == 0x1F:
        raise X509Error("a tag of several bytes")
    if length & 0x80:
        size = length & 0x7F
        if not 1 <= size <= 3 or start + size > len(data):
            raise X509Error("a length that DER has not")
        length = int.from_bytes(data[start : start + size])
        start += size
        if length < 0x80 or length < 1 << 8 * (size - 1):
            raise X509Error("a length that is not in its shortest form")
    if start + length > len(data):
        raise X509Error("ends too early")
    return _Tlv(tag, data[start : start + length], start + length)


def _expect(data: bytes, at: int, tag: int) -> _Tlv:
    found = _tlv(data, at)
    if found.tag != tag:
        raise X509Error(f"tag {found.tag:#x} where {tag:#x} belongs")
    return found


def _items(data: bytes) -> Iterator[_Tlv]:
    at = 0
    while at < len(data):
        item = _tlv(data, at)
        yield item
        at = item.end


def _name(data: bytes) -> Name:
    """The first value of each attribute that we know; a multi-valued one counts with its parts."""
    found: dict[str, str] = {}
    for part in _items(data):
        if part.tag != _SET:
            raise X509Error("a name that is not one")
        for pair in _items(part.value):
            oid = _expect(pair.value, 0, _OID)
            key = _ATTRIBUTES.get(oid.value)
            if key and key not in found:
                found[key] = _text(_tlv(pair.value, oid.end))
    return Name(found.get("CN", ""), found.get("O", ""), found.get("OU", ""), found.get("C", ""))


def _text(item: _Tlv) -> str:
    codec = _CODECS.get(item.tag)
    if codec is None:
        raise X509Error(f"a text of the unknown kind {item.tag}")
    return _printable(item.value.decode(codec, "replace"))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:MAX_TEXT])


def _validity(data: bytes) -> tuple[float, float]:
    times = [_time(item) for item in _items(data)]
    if len(times) != 2:
        raise X509Error("not two times of validity")
    return times[0], times[1]


def _time(item: _Tlv) -> float:
    """UTCTime (two digits of year: 50 and above is 19..) or GeneralizedTime, both in UTC and to the second (RFC 5280 4.1.2.5)."""
    digits = {_UTC_TIME: rb"(\d\d)" * 6, _TIME: rb"(\d{4})" + rb"(\d\d)" * 5}.get(item.tag)
    match = re.fullmatch(digits + b"Z", item.value) if digits else None
    if match is None:
        raise X509Error("not a time")
    year, month, day, hour, minute, second = map(int, match.groups())
    if item.tag == _UTC_TIME:
        year += 1900 if year >= 50 else 2000
    try:
        return datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC).timestamp()
    except (ValueError, OverflowError):
        raise X509Error("a time that does not exist") from None


def _alternative_names(extensions: list[bytes]) -> tuple[str, ...]:
    names: list[str] = []
    for wrapped in extensions:
        for extension in _items(_expect(wrapped, 0, _SEQUENCE).value):
            parts = list(_items(extension.value))
            if len(parts) >= 2 and parts[0][:2] == (_OID, _SUBJECT_ALT_NAME) and parts[-1].tag == _OCTETS:
                names += _general_names(_expect(parts[-1].value, 0, _SEQUENCE).value)
    return tuple(names[:MAX_NAMES])


def _general_names(data: bytes) -> Iterator[str]:
    for item in _items(data):
        if item.tag == _DNS_NAME:
            yield _printable(item.value.decode("latin-1"))
        elif item.tag == _IP_ADDRESS and len(item.value) in (4, 16):
            yield str(ipaddress.ip_address(item.value))
