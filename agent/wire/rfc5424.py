"""Syslog messages of RFC 5424, and their frames of RFC 6587 (octet counting), bytes ↔ dataclasses.

Law: pure. What `encode` makes, `decode` reads back to the same; what `decode` can't read is a SyslogError. Strict in both directions:
names and header fields are cut to what the grammar allows, so a strange host or field name never makes a message that a collector drops.

    <PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID [id name="value" …][…] MSG
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

BOM = b"\xef\xbb\xbf"  # begins a MSG that is UTF-8 (6.4)
NIL = "-"
SEVERITIES = {"critical": 2, "warning": 4, "info": 6}  # of the model → of RFC 5424 6.2.1: Critical, Warning, Informational
MAX_HOST, MAX_APP, MAX_PROC, MAX_MSGID, MAX_NAME = 255, 48, 128, 32, 32
MAX_MESSAGE = 64 << 10


class SyslogError(ValueError):
    """Not a message of RFC 5424; str() says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """`at` is wall seconds (kept to the microsecond), None: unknown. `data`: SD-ID → its parameters in order; names may be repeated."""

    facility: int
    severity: int
    at: float | None
    hostname: str
    app: str
    procid: str
    msgid: str
    data: Mapping[str, Sequence[tuple[str, str]]]
    text: str


def header(text: str, most: int) -> str:
    """`text` as PRINTUSASCII of at most `most` characters; the nil value where nothing is left."""
    return "".join(c if "!" <= c <= "~" else "_" for c in text)[:most] or NIL


def name(text: str) -> str:
    """`text` as an SD-NAME (6.3.2): no '=', ']', '"', space; at most 32 characters."""
    return re.sub(r'[^!-~]|[=\]"]', "_", text)[:MAX_NAME] or "_"


def stamp(at: float) -> str:
    """RFC 3339 with microseconds, UTC, where the year has four digits."""
    return datetime.fromtimestamp(round(at, 6), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def encode(message: Message) -> bytes:
    """Raises ValueError for a facility, severity or time that can't be written."""
    if not 0 <= message.facility <= 23 or not 0 <= message.severity <= 7:
        raise ValueError(f"no such facility or severity: {message.facility}, {message.severity}")
    if message.at is not None and not 0 <= message.at < 253402300799:
        raise ValueError(f"a time that can't be written: {message.at}")
    head = [f"<{message.facility * 8 + message.severity}>1", NIL if message.at is None else stamp(message.at)]
    head += [header(message.hostname, MAX_HOST), header(message.app, MAX_APP), header(message.procid, MAX_PROC)]
    head.append(header(message.msgid, MAX_MSGID))
    data = "".join(_element(sd_id, parameters) for sd_id, parameters in message.data.items()) or NIL
    said = f"{' '.join(head)} {data}".encode(errors="replace")
    return said + b" " + BOM + message.text.encode(errors="replace") if message.text else said


def _element(sd_id: str, parameters: Sequence[tuple[str, str]]) -> str:
    return f"[{name(sd_id)}{''.join(f' {name(key)}={chr(34)}{_escape(value)}{chr(34)}' for key, value in parameters)}]"


def _escape(value: str) -> str:
    r"""PARAM-VALUE: only '"', '\' and ']' are escaped (6.3.3)."""
    return re.sub(r'(["\\\]])', r"\\\1", value)


# -- back --------------------------------------------------------------------------------------------------------------------------

_HEAD = re.compile(r"<(0|[1-9]\d{0,2})>1 (-|\d{4}-\d\d-\d\dT\S{9,21}) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) ", re.ASCII)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_ELEMENT = re.compile(r"\[([!#-<>-\\^-~]{1,32})")
_PARAMETER = re.compile(r' ([!#-<>-\\^-~]{1,32})="((?:[^"\\\]]|\\.)*)"', re.DOTALL)


def decode(data: bytes) -> Message:
    """Raises SyslogError."""
    if len(data) > MAX_MESSAGE:
        raise SyslogError(f"a message of {len(data)} bytes")
    structured, text = _split(data)
    found = _HEAD.match(structured)
    if not found or (pri := int(found[1])) > 191:
        raise SyslogError("not a header of RFC 5424")
    elements = _elements(structured[found.end() :])
    host, app, proc, msgid = (found[n] for n in range(3, 7))
    return Message(pri >> 3, pri & 7, _time(found[2]), host, app, proc, msgid, elements, text)


def _split(data: bytes) -> tuple[str, str]:
    """Header and structured data, and the MSG: from its BOM on, or after the end of the structured data."""
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise SyslogError("not UTF-8") from None
    found = _HEAD.match(whole)
    if not found:
        raise SyslogError("not a header of RFC 5424")
    end = found.end() + 1 if whole[found.end() : found.end() + 1] == NIL else _end_of_data(whole, found.end())
    if whole[end : end + 1] not in ("", " "):
        raise SyslogError("the structured data do not end")
    return whole[:end], whole[end + 1 :].removeprefix("\ufeff")


def _end_of_data(whole: str, at: int) -> int:
    """Where the elements that begin at `at` end."""
    while found := _ELEMENT.match(whole, at):
        at = found.end()
        while parameter := _PARAMETER.match(whole, at):
            at = parameter.end()
        if whole[at : at + 1] != "]":
            raise SyslogError("an element of the structured data does not end")
        at += 1
    return at


def _elements(text: str) -> dict[str, Sequence[tuple[str, str]]]:
    if text == NIL:
        return {}
    elements: dict[str, Sequence[tuple[str, str]]] = {}
    at = 0
    while found := _ELEMENT.match(text, at):
        at, parameters = found.end(), []
        while parameter := _PARAMETER.match(text, at):
            parameters.append((parameter[1], re.sub(r'\\(["\\\]])', r"\1", parameter[2])))
            at = parameter.end()
        if found[1] in elements:
            raise SyslogError("an SD-ID stands twice (6.3.2)")
        elements[found[1]] = parameters
        at += 1
    if at != len(text) or not elements:
        raise SyslogError("not structured data of RFC 5424")
    return elements


def _time(text: str) -> float | None:
    if text == NIL:
        return None
    found = _TIME.fullmatch(text)
    try:
        if not found:
            raise ValueError
        zone = "+00:00" if found[3] == "Z" else found[3]
        whole = datetime.fromisoformat(found[1] + zone).timestamp()
    except (ValueError, OverflowError):
        raise SyslogError("not a time of RFC 5424") from None
    return whole + float(found[2] or 0)


# -- frames ------------------------------------------------------------------------------------------------------------------------


def frame(message: bytes) -> bytes:
    """MSG-LEN SP SYSLOG-MSG (RFC 6587 3.4.1; RFC 5425 4.3)."""
    return b"%d %b" % (len(message), message)


def unframe(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole messages at the beginning of a stream, and what is left of it. Raises SyslogError."""
    found = []
    while data:
        head, space, rest = data.partition(b" ")
        if not re.fullmatch(rb"[1-9]\d{0,5}", head) and (space or not re.fullmatch(rb"[1-9]\d{0,5}", data)):
            raise SyslogError("not octet counting")
        if not space or len(rest) < int(head):
            break
        found.append(rest[: int(head)])
        data = rest[int(head) :]
    return found, data
