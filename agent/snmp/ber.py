"""BER as SNMP uses it (X.690; RFC 3417 section 8): definite lengths, a dozen types; reading and writing.

Law: pure. Whatever bytes come, reading ends with values or with Malformed, after work that is bounded by their number; nothing is read
beyond the element that one is in. Liberal where devices are (long lengths, leading zeros), strict where a lie could hide (lengths).
"""

from collections.abc import Iterator

from agent.snmp.wire import Kind, Oid, Value

INTEGER, STRING, NULL, OID, SEQUENCE = 0x02, 0x04, 0x05, 0x06, 0x30
ADDRESS, COUNTER, GAUGE, TICKS, OPAQUE, COUNTER64 = 0x40, 0x41, 0x42, 0x43, 0x44, 0x46
MAX_OID, MAX_SUBID = 128, (1 << 32) - 1  # RFC 2578 section 3.5
MAX_INTEGER = 9  # bytes: 64 bits and a leading zero

_KINDS: dict[int, Kind] = {
    INTEGER: "integer", STRING: "string", OID: "oid", ADDRESS: "address", COUNTER: "counter32", GAUGE: "gauge32", TICKS: "timeticks",
    OPAQUE: "opaque", COUNTER64: "counter64",
}  # fmt: skip
_NUMBERS = frozenset({INTEGER, COUNTER, GAUGE, TICKS, COUNTER64})


class Malformed(ValueError):  # noqa: N818  (as its siblings are named)
    """These bytes are not what they should be; str() says what is wrong with them, for people."""


class Element:
    """A part of `raw`: of `tag`, its content from `start` to `end`. Read in order; `at` is where the next element begins."""

    __slots__ = ("at", "end", "raw", "start", "tag")

    def __init__(self, raw: bytes, start: int, end: int, tag: int = 0) -> None:
        self.raw, self.start, self.end, self.tag, self.at = raw, start, end, tag, start

    @property
    def more(self) -> bool:
        return self.at < self.end

    @property
    def content(self) -> bytes:
        return self.raw[self.start : self.end]

    def take(self, *tags: int) -> "Element":
        """The next element, which must be of one of `tags` (none given: of any). Raises Malformed."""
        if self.end - self.at < 2:
            raise Malformed("cut short")
        tag, length, at = self.raw[self.at], self.raw[self.at + 1], self.at + 2
        if length & 0x80:
            n = length & 0x7F
            if not 1 <= n <= 4 or self.end - at < n:
                raise Malformed("a length that can't be")
            length, at = int.from_bytes(self.raw[at : at + n], "big"), at + n
        if length > self.end - at:
            raise Malformed("cut short")
        if tags and tag not in tags:
            raise Malformed(f"type 0x{tag:02x} where another should be")
        self.at = at + length
        return Element(self.raw, at, at + length, tag)

    def integer(self, *tags: int) -> int:
        return _integer(self.take(*(tags or (INTEGER,))))

    def string(self) -> bytes:
        return self.take(STRING).content

    def oid(self) -> Oid:
        return _oid(self.take(OID).content)

    def done(self) -> None:
        """Raises Malformed where something is left."""
        if self.more:
            raise Malformed("something stands behind the end")


def _integer(element: Element) -> int:
    """Counters and gauges are unsigned, also where a device forgot the leading zero."""
    content = element.content
    if not 1 <= len(content) <= MAX_INTEGER:
        raise Malformed("a number of so many bytes can't be")
    return int.from_bytes(content, "big", signed=element.tag == INTEGER)


def _oid(content: bytes) -> Oid:
    numbers, value = [], 0
    if not content or content[-1] & 0x80 or len(content) > 5 * MAX_OID:
        raise Malformed("an OID that ends within a number")
    for byte in content:
        value = value << 7 | byte & 0x7F
        if value > MAX_SUBID + 80:
            raise Malformed("an OID with too large a number")
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    if len(numbers) >= MAX_OID:
        raise Malformed("an OID that is too long")
    first = min(numbers[0] // 40, 2)
    return (first, numbers[0] - 40 * first, *numbers[1:])


def varbinds(listed: Element) -> Iterator[tuple[Oid, Value]]:
    """Names and values of a list of variable bindings; what has no value (NULL, "no such object") is left out."""
    while listed.more:
        pair = listed.take(SEQUENCE)
        name, value = pair.oid(), pair.take()
        pair.done()
        if (read := value_of(value)) is not None:
            yield name, read


def value_of(element: Element) -> Value | None:
    """None of what has no value: NULL, "no such object", the end of what there is."""
    kind = _KINDS.get(element.tag)
    if kind is None:
        return None
    if element.tag in _NUMBERS:
        return Value(kind, _integer(element))
    return Value(kind, _oid(element.content) if element.tag == OID else element.content)


# -- writing ----------------------------------------------------------------------------------------------------------------------


def element(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    n = len(content)
    if n < 0x80:
        return bytes((tag, n)) + content
    length = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def integer(value: int, tag: int = INTEGER) -> bytes:
    return element(tag, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def string(value: bytes) -> bytes:
    return element(STRING, value)


def oid(value: Oid) -> bytes:
    content = bytearray()
    for number in (40 * value[0] + value[1], *value[2:]):
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        content += bytes(reversed(groups))
    return element(OID, bytes(content))
