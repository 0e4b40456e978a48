"""Events as lines of JSON: how the journal keeps them, how the centre gets them, what `ronda events --json` prints.

Law: pure. One object a line; what says nothing (no fields, a count of 1, last as first) is left out. `decode` reads strictly and within
bounds, whoever wrote it; whatever is wrong is an EventError. Keys that it doesn't know are passed over: a newer agent may tell more than
an older centre understands. Every text is valid UTF-8 afterwards.

    {"seq": 7, "kind": "link_down", "severity": "warning", "message": "…", "first": 1795000000.123, "last": …, "count": …,
     "task": "link", "labels": {…}, "fields": {…}, "unsure": true, "boot": "…", "mono": 1234.5}

`unsure`: no clock that anybody vouched for gave these times. Within the boot `boot` the event was last seen at `mono` of its monotonic
clock: whoever learns the true time while that boot lasts can put it right. Neither leaves the box; nor does `prev`, the chain of a
journal's lines (agent/wire/chain.py).
"""

import dataclasses
import json
import math
import re
import zlib
from collections.abc import Mapping
from typing import Any

from agent.model import Event, Severity

SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
MAX_LINE = 32 << 10  # bytes of a line
MAX_MESSAGE, MAX_VALUE, MAX_NAME = 500, 1000, 64  # characters
MAX_FIELDS, MAX_LABELS = 64, 32
MAX_FIELDS_SIZE = 4000  # characters of all fields together, beside at most one for each that is over
MAX_COUNT = 1 << 53
LATEST = 253402214400.0  # the year 9999 but for its last day, so that it can be told in every zone
_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}")


class EventError(ValueError):
    """Not an event as Ronda writes it; str() says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """An event with its number in the journal, and where it came from. See the head of this file for the last three."""

    seq: int
    event: Event
    task: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unsure: bool = False
    boot: str = ""
    mono: float = 0.0

    def moved(self, seconds: float) -> "Entry":
        """The same, its times put right by so much."""
        first, last = (min(LATEST, max(0.0, at + seconds)) for at in (self.event.first_seen, self.event.last_seen))
        event = dataclasses.replace(self.event, first_seen=first, last_seen=last)
        return dataclasses.replace(self, event=event, unsure=False, boot="", mono=0.0)


def bounded(event: Event) -> Event:
    """The event cut to what `decode` takes: texts shortened, fields that are too many left out."""
    fields: dict[str, str] = {}
    room = MAX_FIELDS_SIZE
    for name, value in list(event.fields.items())[:MAX_FIELDS]:
        name = _text(name, MAX_NAME)
        fields[name] = _text(value, min(MAX_VALUE, max(1, room - len(name))))
        room -= len(name) + len(fields[name])
    first, last = (min(LATEST, max(0.0, at)) if math.isfinite(at) else 0.0 for at in (event.first_seen, event.last_seen))
    count = min(MAX_COUNT, max(1, event.count))
    return Event(event.kind, event.severity, _text(event.message, MAX_MESSAGE), fields, min(first, last), last, count)


def _text(text: str, most: int) -> str:
    """Valid and not too long: an ellipsis stands for what is cut."""
    text = str(text).encode(errors="replace").decode()
    return text if len(text) <= most else text[: most - 1] + "…"


def encode(entry: Entry, *, abroad: bool = False) -> bytes:
    """The line, without its end. `abroad`: for others than this box's journal."""
    event = entry.event
    said: dict[str, Any] = {"seq": entry.seq, "kind": event.kind, "severity": event.severity, "message": event.message}
    said["first"] = round(event.first_seen, 3)
    extra = {
        "last": round(event.last_seen, 3) if event.last_seen != event.first_seen else 0, "count": event.count if event.count != 1 else 0,
        "task": entry.task, "labels": dict(entry.labels), "fields": dict(event.fields), "unsure": entry.unsure,
    }  # fmt: skip
    if not abroad and entry.unsure:
        extra |= {"boot": entry.boot, "mono": round(entry.mono, 3)}
    said |= {name: value for name, value in extra.items() if value}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def decode(line: bytes) -> Entry:
    """Raises EventError."""
    if len(line) > MAX_LINE:
        raise EventError(f"a line of {len(line)} bytes, at most {MAX_LINE}")
    try:
        said = json.loads(line.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as e:
        raise EventError(f"not JSON: {e}"[:200]) from None
    if not isinstance(said, dict):
        raise EventError("not a JSON object")
    first = _number(said, "first", 0.0, LATEST)
    last = _number(said, "last", first, LATEST) if "last" in said else first
    event = Event(
        _kind(said), _severity(said), _string(said, "message", MAX_MESSAGE), _strings(said, "fields", MAX_FIELDS), first, last,
        _whole(said, "count") if "count" in said else 1,
    )  # fmt: skip
    unsure = said.get("unsure", False)
    if not isinstance(unsure, bool):
        raise EventError("unsure: not true or false")
    boot = _string(said, "boot", 64) if "boot" in said else ""
    mono = _number(said, "mono", 0.0, 1e12) if "mono" in said else 0.0
    task = _string(said, "task", 200) if "task" in said else ""
    return Entry(_whole(said, "seq"), event, task, _strings(said, "labels", MAX_LABELS), unsure, boot, mono)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _kind(said: Mapping[str, Any]) -> str:
    kind = said.get("kind")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise EventError("kind: not one to 32 small letters, digits and underscores")
    return kind


def _severity(said: Mapping[str, Any]) -> Severity:
    for severity in SEVERITIES:
        if said.get("severity") == severity:
            return severity
    raise EventError(f"severity: not one of {', '.join(SEVERITIES)}")


def _number(said: Mapping[str, Any], name: str, least: float, most: float) -> float:
    value = said.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise EventError(f"{name}: not a number between {least:g} and {most:g}")
    return float(value)


def _whole(said: Mapping[str, Any], name: str) -> int:
    value = said.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_COUNT:
        raise EventError(f"{name}: not a whole number from 1 on")
    return value


def _string(said: Mapping[str, Any], name: str, most: int) -> str:
    value = said.get(name)
    if not isinstance(value, str) or len(value) > most or not _encodable(value):
        raise EventError(f"{name}: not a text of at most {most} characters")
    return value


def _strings(said: Mapping[str, Any], name: str, most: int) -> dict[str, str]:
    value = said.get(name, {})
    if not isinstance(value, dict) or len(value) > most:
        raise EventError(f"{name}: not an object of at most {most} texts")
    return {key: _string(value, key, MAX_VALUE) for key in value if _name(key, name)}


def _name(key: str, where: str) -> bool:
    if len(key) > MAX_NAME or not _encodable(key):
        raise EventError(f"{where}: a name is not a text of at most {MAX_NAME} characters")
    return True


def _encodable(text: str) -> bool:
    """Whether it is UTF-8 once more: JSON can write half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# -- many of them ------------------------------------------------------------------------------------------------------------------

MAX_BODY = 4 << 20  # bytes of many lines, after inflating
WORTH = 400  # bytes from which on compressing pays


def pack(lines: list[bytes]) -> tuple[bytes, str]:
    """Lines as one body, and its Content-Encoding ("": none)."""
    body = b"\n".join(lines) + b"\n"
    if len(body) < WORTH:
        return body, ""
    deflate = zlib.compressobj(6, wbits=31)  # gzip, RFC 1952
    return deflate.compress(body) + deflate.flush(), "gzip"


def unpack(body: bytes, encoding: str) -> list[bytes]:
    """The lines of a body; empty ones don't count. Raises EventError: not gzip, torn, or too large."""
    if encoding not in ("", "identity", "gzip"):
        raise EventError("Content-Encoding: gzip or none")
    if encoding == "gzip":
        inflate = zlib.decompressobj(wbits=31)
        try:
            body = inflate.decompress(body, MAX_BODY + 1)
        except zlib.error as e:
            raise EventError(f"not gzip: {e}") from None
        if len(body) <= MAX_BODY and not inflate.eof:
            raise EventError("not gzip: it ends too soon")
    if len(body) > MAX_BODY:
        raise EventError(f"more than {MAX_BODY >> 20} MiB of events at once")
    return [line for line in body.split(b"\n") if line.strip()]
