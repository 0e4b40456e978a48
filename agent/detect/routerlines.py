"""Lines of routers → RouterLogin, RouterChange, RouterDrop: RouterOS 6 and 7; sshd, dropbear and login of a Linux or OpenWrt router.

Law: any text is borne, nothing raises, no pattern backtracks over more than MAX_LINE characters. Names are an attacker's to choose, so a
source is read from the end of a line, where the router writes it. RouterOS says with its topics who speaks: where there are topics, only
`system` tells of logins and changes, and only `firewall` of packets; a script's own words are none.

Told of a packet is a first contact only: an answer that comes late (RST, SYN-ACK, UDP to a port of the moment) is no scan.
"""

import ipaddress
import re
from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import TypeAlias

from agent.detect import lines
from agent.detect.lines import Line
from agent.detect.logins import Session
from agent.detect.model import Table
from agent.detect.seen import RouterChange, RouterDrop, RouterLogin
from agent.wire.rfc3164 import Message

MAX_LINE, MAX_NAME, MAX_TEXT, MAX_SESSIONS = 2048, 100, 160, 1024
VIAS = ("winbox", "ssh", "telnet", "web", "api", "ftp", "local", "mac", "romon", "script", "other")
AREAS = (
    "user", "service", "firewall", "dns", "script", "scheduler", "route", "dhcp", "interface", "wireless", "vpn", "log", "snmp", "system",
    "other",
)  # fmt: skip
Told: TypeAlias = RouterLogin | RouterChange | RouterDrop

_LEAD = r"(?:(?:\S{1,64} ){0,3}?|[^:]{1,40}: )"  # a name with spaces where there are no topics; a prefix that a logging rule sets
_FAILED = re.compile(
    _LEAD + r"login failure for user (?P<user>.{0,200}?)(?: from (?P<host>\S{1,100}))?(?: via (?P<via>[\w().+/-]{1,40}))?\s*\Z"
)
_CAME = re.compile(_LEAD + r"user (?P<user>.{0,200}) logged in(?: from (?P<host>\S{1,100}))?(?: via (?P<via>[\w().+/-]{1,40}))?\s*\Z")
_BY = re.compile(
    r" by (?P<who>[^\s(/]{1,40}(?:\([^\s()]{1,20}\))?:(?=\S)\S{1,160}|\S{1,100}(?: \S{1,30}){0,2}?)(?: ?\((?P<command>.*))?\Z", re.DOTALL
)
_VERB = re.compile(r"\b(?:added|changed|removed|moved|enabled|disabled|unset|scheduled|created|deleted|updated|renamed|imported|reset)\b")
_WHO = re.compile(
    r"(?P<via>[\w-]{1,40})(?:\((?P<inner>[\w-]{1,20})\))?:(?P<user>[^@/]{0,100})(?:@(?P<host>[^/\s]{1,100}))?(?:/\S{0,100})?\Z"
)
_PATH = re.compile(r"(?:\*\w{1,12} = )?/?(?P<path>[a-z][a-z0-9 /-]{2,60})")
# Of a command's values only these are shown: others are people's names, comments, passwords, scripts. RouterOS doesn't quote all that have
# spaces: such a value lasts until the next name.
_PLAIN = (
    r"(?:yes|no|any|all|auto|none|accept|drop|reject|input|forward|output|srcnat|dstnat|masquerade|redirect|tcp|udp|icmp|full|read|write"
)
_VALUE = re.compile(
    rf"(?P<name>(?<![\w-])[\w-]+=)(?!{_PLAIN}|[\d.:/,a-f-]+)(?:\)|\s*\Z|\s+[\w-]+=))"
    r"(?:\"(?:[^\"\\]|\\.)*\"?|[^\s\"]+(?:\s+(?![\w-]+=)[^\s\"]+)*)"
)
_NAMED = re.compile(r"<[^>]*>?|(?<=^user )\S.*(?= (?:added|changed|removed)$)")

# First words that decide, in their order: of the command's path where there is one, else of what the line says was changed.
_AREAS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (area, re.compile(pattern))
    for area, pattern in (
        ("scheduler", r"schedule"),
        ("script", r"\bscript|netwatch|container"),
        ("firewall", r"firewall|\b(?:filter|nat|mangle|raw|layer7)\b|address list|connection tracking|service.port"),
        ("dns", r"\bdns\b"),
        ("snmp", r"\bsnmp\b"),
        ("log", r"\blog(?:ging)?\b"),
        ("vpn", r"\b(?:ppp|pppoe|l2tp|pptp|sstp|ovpn|openvpn|ipsec|wireguard|eoip|zerotier|vxlan|gre|radius|hotspot)\b"),
        ("service", r"\bservice|proxy|\bssh\b(?! key)|telnet|(?:mac|bandwidth).server|\b(?:socks|romon|upnp|cloud|tr069|smb)\b"),
        ("user", r"\b(?:user|aaa|password|ssh.keys?|group)\b"),
        ("dhcp", r"\bdhcp|\bpool\b"),
        ("wireless", r"wireless|wifi|caps|\bap\b|security profile|interworking"),
        ("route", r"\brout|\bospf|\bbgp|\brip\b|\bvrf\b"),
        ("interface", r"interface|bridge|vlan|ethernet|\bport\b|\baddress\b|bonding|lte|queue|\bdevice\b|\blist\b"),
        ("system", r"\b(?:system|identity|clock|ntp|package|certificate|backup|tool|note|watchdog|disk|file|led|license|routerboard)\b"),
    )
)  # fmt: skip

_DROP = re.compile(
    r"(?P<prefix>.{0,80}?)\b(?P<chain>[\w.-]{1,40}): in:(?P<in>.{1,40}?) out:.{1,40}?,? (?P<more>.{0,200}?)"
    r"proto (?P<protocol>[\w-]{1,12})(?: \((?P<flags>[^)]{0,40})\))?, (?P<source>\S{1,60})->(?P<target>\S{1,60}?)(?:,|\Z)"
)
_STATE = re.compile(r"connection-state:(\w+)")
_PASSED = re.compile(r"(?i)\b(?:accept|allow|pass|permit)|^A\|")
_OUTSIDE = re.compile(r"(?i)wan|pppoe|lte|isp|internet|inet|modem|astinet|indihome|starlink|vsat|upstream|ppp-out")
EPHEMERAL = 32768  # a UDP packet to such a port is a late answer


def read(message: Message, device: str) -> Told | None:
    """What a line of RouterOS tells. Lines with a program's name are others'."""
    text = message.text[:MAX_LINE]
    if message.program:
        return None
    if not message.topics:
        return _login(text, device, message.when) or _change(text, device, message.when) or _drop(text, device)
    if "firewall" in message.topics:
        return _drop(text, device)
    if "script" in message.topics or not {"system", "account"} & set(message.topics):
        return None
    return _login(text, device, message.when) or _change(text, device, message.when)


def moment(when: str, now: float, zone: tzinfo) -> float | None:
    """When RouterOS wrote a line, as wall clock seconds: `sep/15 09:54:33`, `jan/02/1970 02:00:09`, of today `09:54:33`; and RFC 3164's."""
    if m := _OWN.match(when):
        year = m["year"] or ""
        return lines.written(f"{m['month'].capitalize()} {m['day']} {m['clock']}", _end_of(int(year), zone) if year else now, zone)
    if _CLOCK.match(when):
        return lines.written(f"{datetime.fromtimestamp(now, zone):%Y-%m-%d}T{when}", now, zone)
    return lines.written(when, now, zone)


_OWN = re.compile(r"(?P<month>[a-z]{3})/(?P<day>\d\d)(?:/(?P<year>\d{4}))? (?P<clock>\d\d:\d\d:\d\d)\Z")
_CLOCK = re.compile(r"\d\d:\d\d:\d\d\Z")


def _end_of(year: int, zone: tzinfo) -> float:
    """Within a day of the year's end: times without a year then mean that one."""
    return datetime(min(max(year, 1970), 9998), 12, 31, 12, tzinfo=zone).timestamp()


class Reader:
    """Also of Linux routers. One try there is told by several lines: `Session` counts it once (agent/detect/logins.py)."""

    def __init__(self) -> None:
        self._sessions: Table[tuple[str, str, str], Session] = Table(MAX_SESSIONS)

    def read(self, message: Message, device: str, at: float) -> Iterator[Told]:
        if not message.program:
            if told := read(message, device):
                yield told
            return
        login = lines.of(Line(message.when, message.program, message.pid, message.text[:MAX_LINE]))
        if not login or login.service not in ("sshd", "dropbear", "login") or (login.service != "login" and not login.source):
            return
        key = (device, login.service, login.session)
        session = (self._sessions.get(key) if login.session else None) or Session(login.source, at=at)
        if at - session.at > 3600.0 or session.source != login.source:
            session = Session(login.source)
        session.at = at
        if login.session:
            self._sessions.put(key, session)
        failed = session.succeed(login.user) if login.success else session.add(login)
        via = "local" if login.service == "login" else "ssh"
        said = RouterLogin(device, login.user, login.source, via, success=False, times=max(1, failed), written=message.when[:MAX_NAME])
        if failed:
            yield said
        if login.success:
            yield said._replace(success=True, times=1)


# -- logins ---------------------------------------------------------------------------------------------------------------------


def _login(text: str, device: str, when: str) -> RouterLogin | None:
    text, times = lines.repeated(text)
    for pattern, words, success in ((_FAILED, "login failure for user", False), (_CAME, " logged in", True)):
        if words in text and (m := pattern.match(text)):
            return RouterLogin(
                device, m["user"][:MAX_NAME], source_of(m["host"] or ""), via_of(m["via"] or ""), success, times, when[:MAX_NAME]
            )
    return None


def via_of(text: str) -> str:
    """One of VIAS."""
    small = text.lower()
    for name, words in _VIAS.items():
        if any(word in small for word in words):
            return name
    return "other"


_VIAS = {
    "mac": ("mac-",), "winbox": ("winbox", "dude"), "ssh": ("ssh", "sftp"), "telnet": ("telnet",), "api": ("api",),
    "web": ("web", "www", "http"), "ftp": ("ftp",), "romon": ("romon",), "script": ("script", "scheduler", "netwatch"),
    "local": ("local", "console", "serial", "terminal"),
}  # fmt: skip
_MAC = re.compile(r"(?i)[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")


def source_of(text: str) -> str:
    """An address as `ipaddress` writes it, a MAC in small letters, "" for anything else and for nobody's address (`::`)."""
    if _MAC.match(text):
        return text.lower()
    bare = lines.address(text.partition("%")[0])
    try:
        return "" if ipaddress.ip_address(bare).is_unspecified else bare
    except ValueError:
        return ""


# -- changes --------------------------------------------------------------------------------------------------------------------


def _change(text: str, device: str, when: str) -> RouterChange | None:
    by = _BY.search(text)
    what = text[: by.start()] if by else ""
    if not by or len(what) > 200 or not _VERB.search(what):
        return None
    command = (by["command"] or "").removesuffix(")")
    user, source, via = _who(by["who"])
    shown = _NAMED.sub("…", what) + (": " + _VALUE.sub(r"\g<name>…", command) if command else "")
    return RouterChange(device, user[:MAX_NAME], source, via, _area(what, command), shown[:MAX_TEXT], when[:MAX_NAME])


def _who(text: str) -> tuple[str, str, str]:
    """user, source, via: of RouterOS 7 `tcp-msg(winbox):admin@192.0.2.7/terminal`, `scheduler:night/action:8`; of 6 the user alone."""
    m = _WHO.match(text)
    if not m:
        return text, "", "other"
    via = via_of(f"{m['via']}({m['inner'] or ''})")
    return m["user"], source_of((m["host"] or "").strip("[]")), "mac" if m["via"].startswith("mac") else via


def _area(what: str, command: str) -> str:
    path = _PATH.match(command)
    for text in ([path["path"]] if path else []) + [what.lower()]:
        words = re.sub(r"[/_]", " ", text)
        for area, pattern in _AREAS:
            if pattern.search(words):
                return area
    return "other"


# -- packets --------------------------------------------------------------------------------------------------------------------


def _drop(text: str, device: str) -> RouterDrop | None:
    m = _DROP.match(text) if "->" in text else None
    if not m or m["chain"] in ("output", "postrouting", "srcnat", "dstnat") or _PASSED.search(m["prefix"]):
        return None
    state = _STATE.search(m["more"])
    protocol, flags = m["protocol"].lower(), set((m["flags"] or "").split(","))
    source, _ = _endpoint(m["source"])
    target, port = _endpoint(m["target"])
    opens = 0 < port < EPHEMERAL if protocol == "udp" else protocol == "tcp" and port > 0 and "SYN" in flags and "ACK" not in flags
    if not source or not opens or (state and state[1] not in ("new", "invalid", "untracked")):
        return None
    return RouterDrop(device, protocol, source, target, port, inside(source, m["in"]))


def _endpoint(text: str) -> tuple[str, int]:
    """`192.0.2.1:22`, `[2001:db8::1]:22`, `192.0.2.1`; ("", 0): none."""
    bare, colon, port = text.rpartition(":")
    if not colon or (bare.count(":") and not bare.startswith("[")):
        bare, port = text, "0"
    address = source_of(bare.strip("[]"))
    return address, int(port) if re.fullmatch(r"\d{1,5}", port, re.ASCII) and int(port) < 65536 else 0


def inside(source: str, interface: str = "") -> bool | None:
    """Whether it came from the office's side: by the interface's name where that says so, else by the address; None: neither does."""
    if _OUTSIDE.search(interface):
        return False
    if _MAC.match(source):
        return True
    try:
        ip = ipaddress.ip_address(source)
    except ValueError:
        return None
    return (ip.is_private or ip.is_link_local) and not ip.is_unspecified
