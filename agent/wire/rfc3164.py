"""Messages as devices really send them (RFC 3164 describes the habit, RFC 5424 the standard), bytes → parts.

Law: pure. Whatever text comes is borne: a part that isn't there is "", bytes that are no text become U+FFFD; only what holds no message at
all is a SyslogError. Times are kept as written: routers say 1970, no year, or nothing. No pattern backtracks: a message of MAX bytes is
read in one pass. That a part looks like a name proves nothing: whoever sends chooses it.

    <PRI>Mmm dd hh:mm:ss HOST TAG[pid]: text            logger, rsyslog, Cisco without its host
    <PRI>Mmm dd hh:mm:ss Some name topic,topic text     RouterOS with BSD syslog; its identity may hold spaces
    <PRI>topic,topic text    and without <PRI>          RouterOS without it
    <PRI>1 TIME HOST APP PROCID MSGID [data] text       RFC 5424
"""

import re
from typing import NamedTuple

from agent.wire.rfc5424 import NIL, SyslogError

MAX = 8192
HOST_WORDS = 4  # of a device's name before its topics

# RouterOS: /system/logging topics, and severities beside them
_TOPIC_WORDS = """
    account acme async backup bfd bgp bridge caps certificate clock container critical ddns debug dhcp disk dns dot1x dude
    e-mail error event evpn fetch firewall gps gsm health hotspot igmp-proxy info interface ipsec iscsi isdn isis kidcontrol
    kvm l2tp ldp lora lte manager mme mpls mqtt mvrp natpmp ndp netinstall netwatch ntp ospf ovpn packet pim poe-out ppp
    pppoe pptp ptp queue radius radvd raw read resolver rip romon route rsvp script sertcp simulator smb snmp socks ssh ssl
    sstp state store stp switch system telephony tftp timer tr069 update ups upnp vpls vrrp warning watchdog web-proxy
    wireguard wireless write zerotier
"""
TOPICS = frozenset(_TOPIC_WORDS.split())


class Message(NamedTuple):
    """facility, severity: -1 where there is no PRI. when: as written. topics: RouterOS's. program, pid: of a TAG, or APP-NAME, PROCID."""

    facility: int
    severity: int
    when: str
    host: str
    topics: tuple[str, ...]
    program: str
    pid: str
    text: str


_PRI = re.compile(r"<(\d{1,3})>")
_5424 = re.compile(r"1 (\S{1,64}) (\S{1,255}) (\S{1,128}) (\S{1,128}) (\S{1,64}) ")
_WHEN = re.compile(
    r"(?:\d{1,10}: )?\*?(?P<when>"
    r"[A-Za-z]{3} {1,2}\d{1,2}(?: \d{4})? \d\d:\d\d:\d\d(?:\.\d{1,9})?"  # RFC 3164; with a year, Cisco
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"  # RFC 3339; RouterOS 7 since 7.10
    r"|[a-z]{3}/\d\d(?:/\d{4})? \d\d:\d\d:\d\d"  # RouterOS's own: jan/02/1970 02:00:09
    r"|\d\d:\d\d:\d\d)"  # RouterOS, of today
    r":?(?: +|\Z)"
)
_TAG = re.compile(r"(?P<program>[\w./-]{1,64})(?:\[(?P<pid>\d{1,10})\])?: ?")
_TOPICS = re.compile(r"[a-z0-9!-]{2,20}(?:,[a-z0-9!-]{2,20}){1,7}:?(?= |\Z)")
_WORD = re.compile(r"(\S{1,255}) +")


def read(data: bytes) -> Message:
    """Raises SyslogError."""
    if len(data) > MAX:
        raise SyslogError(f"a message of {len(data)} bytes")
    text = data.decode(errors="replace").strip("\0\r\n\t ").removeprefix("\ufeff")
    if not text.strip("\ufffd") or not any(c.isalnum() for c in text):
        raise SyslogError("no message")
    facility, severity, at = -1, -1, 0
    if found := _PRI.match(text):
        if int(found[1]) > 191:
            raise SyslogError(f"no such priority: {found[1]}")
        facility, severity, at = int(found[1]) >> 3, int(found[1]) & 7, found.end()
        if standard := _5424.match(text, at):
            return _standard(facility, severity, text, standard)
    when = _WHEN.match(text, at)
    rest = text[when.end() if when else at :].lstrip()
    if not rest:
        raise SyslogError("no message")
    host, topics, program, pid, said = _body(rest, timed=bool(when))
    return Message(facility, severity, when["when"] if when else "", host, topics, program, pid, said)


def _standard(facility: int, severity: int, text: str, head: re.Match[str]) -> Message:
    """A header of RFC 5424, taken as it is: also of a device that writes its structured data wrongly."""
    when, host, program, pid = ("" if head[n] == NIL else head[n] for n in range(1, 5))
    said = text[_after_data(text, head.end()) :].lstrip(" ").removeprefix("\ufeff")
    topics: tuple[str, ...] = ()
    if found := _topics(said):  # RouterOS 7 writes its topics here as well
        topics, said = found
    elif found := _topics(program):
        topics, program = found[0], ""
    return Message(facility, severity, when, host, topics, program, pid, said)


def _after_data(text: str, at: int) -> int:
    """Where structured data end (6.3): behind a "-", or behind elements, within whose values quotes are escaped."""
    if text[at : at + 1] != "[":
        return at + 1 if text[at : at + 1] == NIL else at
    quoted = escaped = False
    for n in range(at, len(text)):
        c = text[n]
        if escaped or c == "\\":
            escaped = not escaped
        elif c == '"':
            quoted = not quoted
        elif c == "]" and not quoted and text[n + 1 : n + 2] != "[":
            return n + 1
    return at


def _topics(text: str) -> tuple[tuple[str, ...], str] | None:
    """RouterOS's topics, where a text begins with them, and what is behind."""
    found = _TOPICS.match(text)
    names = tuple(found[0].rstrip(":").split(",")) if found else ()
    if not found or not any(name in TOPICS for name in names):
        return None
    return names, text[found.end() :].lstrip(" ")


def _body(rest: str, *, timed: bool) -> tuple[str, tuple[str, ...], str, str, str]:
    """host, topics, program, pid, text."""
    at, words = 0, 0
    while words <= HOST_WORDS:
        if found := _topics(rest[at:]):
            return rest[:at].strip(), found[0], "", "", found[1]
        word = _WORD.match(rest, at)
        if not word or word[1].endswith(":"):
            break
        at, words = word.end(), words + 1
    if tag := _TAG.match(rest):
        return "", (), tag["program"], tag["pid"] or "", rest[tag.end() :]
    word = _WORD.match(rest) if timed else None
    if not word or word[1].endswith(":"):
        return "", (), "", "", rest
    if tag := _TAG.match(rest, word.end()):
        return word[1], (), tag["program"], tag["pid"] or "", rest[tag.end() :]
    return word[1], (), "", "", rest[word.end() :]
