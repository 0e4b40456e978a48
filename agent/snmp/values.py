"""What a device says → a number or a label's text.

Law: pure. What is no number is None, what is no text is "" or shows as it is; a label is bounded and in one line.
"""

import math
import re
import struct

from agent.snmp.interfaces import LONGEST, clean
from agent.snmp.profile import TextFrom
from agent.snmp.wire import Oid, Value


def number(value: Value, match: str) -> float | None:
    """The number that a value is: of numbers, of strings that hold one, of net-snmp's opaque floats. None: it is none."""
    raw = value.value
    if isinstance(raw, int):
        return float(raw)
    if not isinstance(raw, bytes) or value.kind == "address":
        return None
    if value.kind == "opaque":  # BER of a float inside: 9f 78 04, of a double: 9f 79 08 (NET-SNMP-TC)
        form = {b"\x9f\x78\x04": ">f", b"\x9f\x79\x08": ">d"}.get(raw[:3])
        try:
            found = struct.unpack(form, raw[3:])[0] if form else math.nan
        except struct.error:
            return None
        return float(found) if math.isfinite(found) else None
    said = clean(raw, 200)
    if match:
        part = re.search(match, said)
        said = part[1] or "" if part else ""
    return float(said) if re.fullmatch(r"[+-]?\d{1,20}(\.\d{1,20})?", said, re.ASCII) else None


def text(value: Value | None, spec: TextFrom) -> str:
    """A label's text, "" where there is none."""
    if value is None:
        return ""
    if isinstance(value.value, int) and spec.names:
        return spec.names.get(value.value, str(value.value))
    said = clean(value.value, 1000 if spec.match else LONGEST)
    if spec.match:
        part = re.search(spec.match, said)
        said = (part[1] or "") if part else ""
    return clean(said.encode(), LONGEST)


def index_text(index: Oid) -> str:
    """An index that is a string (with its length before it, or without), else its numbers."""
    for numbers in (index[1:] if index and index[0] == len(index) - 1 else (), index):
        if numbers and all(32 <= n < 127 for n in numbers):
            return clean(bytes(numbers))
    return ".".join(map(str, index))[:LONGEST]


def tidy(value: float) -> float:
    """Without the dust of a scale: 0.1 * 237 is 23.7."""
    return float(f"{value:.12g}") if value == value and abs(value) < 1e12 else value
