"""Log lines → tries to log in: sshd, sudo, su, login, PAM, dropbear; as syslog, journald and `journalctl -o json` write them.

Law: pure and without memory; a line is one try, an echo of one, or None, and several lines may tell of one try (Login.method and session
tell them apart; agent/detect/logins.py counts). Any text is borne: nothing raises, what is too long is cut, no pattern backtracks over
more than MAX_LINE characters. Names are an attacker's to choose, so a source is always read from where sshd writes it, never from a name.

Bare connections ("Connection closed by … [preauth]", "Did not receive identification string", failed key exchanges) are no tries: Ronda's
own probes and every other monitor leave them.
"""

import ipaddress
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from agent.detect.seen import Login

MAX_LINE, MAX_JSON, MAX_NAME, MAX_TIMES = 2048, 65536, 100, 1000
DAY = timedelta(days=1)

# What `method` may be. TRIES are the tries themselves; the others echo one, or tell of it only.
TRIES = frozenset({"password", "keyboard-interactive", "hostbased", "gssapi-with-mic", "unknown", "console"})
ECHOES = frozenset({"pam", "error", "none", "invalid", "refused", "limit", "told", "publickey"})


class Line(NamedTuple):
    """A line of a log in its parts. `when` is its time as written; `pid` "" where it isn't said."""

    when: str
    program: str
    pid: str
    message: str


def parse(line: str | bytes) -> Login | None:
    """The try to log in that a line tells of; None: of none."""
    read = split(line)
    return of(read) if read else None


def of(read: Line) -> Login | None:
    """The same, of a line whose parts are known."""
    message, times = repeated(read.message)
    if pam := _PAM.match(message):
        return _pam(read, pam, times)
    said = _PROGRAMS.get(read.program)
    login = said(read, message) if said else None
    return login._replace(times=min(MAX_TIMES, login.times * times)) if login else None


def moment(line: str | bytes, now: float, zone: tzinfo = UTC) -> float | None:
    """When a line was written, as wall clock seconds; None where it doesn't say so.

    now, zone: for times without a year (RFC 3164) or without a zone: the last such time that isn't later than a day from now.
    """
    text = _text(line)
    if text.startswith("{"):
        try:
            return int(_json(text)["__REALTIME_TIMESTAMP"]) / 1e6
        except (KeyError, ValueError, TypeError, OverflowError):
            return None
    read = split(text) or _WHEN.match(text[:MAX_LINE])  # routers write lines that are timed, and no syslog otherwise
    return _moment(read.when if isinstance(read, Line) else read["when"], now, zone) if read else None


def written(when: str, now: float, zone: tzinfo = UTC) -> float | None:
    """The same, of a time alone, as RFC 3164 or RFC 3339 have it."""
    return _moment(when, now, zone)


def split(line: str | bytes) -> Line | None:
    """A line's time, program, process and message; None for what is no line of a log."""
    text = _text(line).strip("\r\n\0")
    if text.startswith("{"):
        return _of_journal(_json(text))
    text = text[:MAX_LINE]
    if m := _RFC5424.match(text):
        return Line(m["when"], m["program"], "" if m["pid"] == "-" else m["pid"], m["message"])
    head = _WHEN.match(text)
    body = _BODY.match(text, head.end()) if head else None
    if not head or not body:
        return None
    return Line(head["when"], body["program"] or body["bare"], body["pid"] or "", _SOLARIS.sub("", body["message"], count=1))


# -- the head of a line -----------------------------------------------------------------------------------------------------

_PRI = r"(?:<\d{1,3}>)?"
_WHEN = re.compile(
    _PRI + r"(?:[A-Z][a-z]{2} )?(?P<when>"
    r"[A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d:\d\d(?:\.\d{1,9})?"  # RFC 3164, journalctl's short and short-precise
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?Z| ?[+-]\d\d:?\d\d| UTC)?"  # RFC 3339, short-iso, short-full
    r"|\d{9,11}\.\d{1,9})(?: [A-Z]{3,4})? +"  # short-unix
)
_BODY = re.compile(
    r"(?:(?P<host>[^\s\[\]]{1,255}) +)?(?:(?P<program>[\w.@/-]{1,64})(?:\[(?P<pid>\d{1,10})\])?:|\[(?P<bare>sshd)\]:?) *(?P<message>.*)",
    re.DOTALL,
)
_RFC5424 = re.compile(
    r"<\d{1,3}>1 (?P<when>\S{1,40}) \S{1,255} (?P<program>\S{1,64}) (?P<pid>\d{1,10}|-) \S{1,64} "
    r"(?:-|(?:\[(?:[^\]\"\\]|\"(?:[^\"\\]|\\.)*\")*\])+) (?P<message>.*)", re.DOTALL
)  # fmt: skip
_SOLARIS = re.compile(r"\[ID \d+ \w+\.\w+\] ")
_REPEATED = re.compile(r"message repeated (\d{1,9}) times: \[ ?(.*)\]\s*$", re.DOTALL)
_MONTHS = {name: n for n, name in enumerate(("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)}


def _text(line: str | bytes) -> str:
    cut = line[:MAX_JSON]
    return cut.decode(errors="replace") if isinstance(cut, bytes) else cut


def _json(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _of_journal(said: dict[str, Any]) -> Line | None:
    """systemd.journal-fields(7). `_UID` is the journal's own word: what an ordinary user says in sshd's name is left out."""
    message, program = said.get("MESSAGE"), said.get("SYSLOG_IDENTIFIER")
    if isinstance(message, list):  # bytes that are no text
        try:
            message = bytes(message[:MAX_LINE]).decode(errors="replace")
        except (TypeError, ValueError):
            return None
    if not isinstance(message, str) or not isinstance(program, str):
        return None
    if program in ROOTS and str(said.get("_UID", "0")) != "0":
        return None
    pid = str(said.get("_PID") or said.get("SYSLOG_PID") or "")
    return Line(str(said.get("__REALTIME_TIMESTAMP", "")), program[:64], pid[:10] if pid.isdigit() else "", message[:MAX_LINE])


def repeated(message: str) -> tuple[str, int]:
    """rsyslog folds what comes again: `message repeated 2 times: [ Failed password for …]` are two more."""
    if m := _REPEATED.match(message):
        return m[2].strip(), max(1, min(MAX_TIMES, int(m[1])))
    return message.strip(), 1


def _moment(when: str, now: float, zone: tzinfo) -> float | None:
    try:
        if when[:1].isdigit():
            if "-" not in when:
                return float(when)
            iso = when.replace(",", ".").replace(" UTC", "Z").replace(" Z", "Z")
            iso = re.sub(r"\.(\d+)", lambda m: "." + m[1][:6].ljust(6, "0"), iso)
            at = datetime.fromisoformat(re.sub(r" ?([+-]\d\d):?(\d\d)$", r"\1:\2", iso))
            return (at if at.tzinfo else at.replace(tzinfo=zone)).timestamp()
        return _without_year(when, datetime.fromtimestamp(now, zone))
    except (ValueError, OverflowError, KeyError, OSError):
        return None


def _without_year(when: str, now: datetime) -> float | None:
    month, day, clock = when.split()
    hour, minute, second = clock.split(":")
    for year in range(now.year + 1, now.year - 9, -1):
        try:
            at = datetime(year, _MONTHS[month], int(day), int(hour), int(minute), min(59, int(float(second))), tzinfo=now.tzinfo)
        except ValueError:  # the 29th of February of another year
            continue
        if at <= now + DAY:
            return at.timestamp() + float(second) % 1
    return None


# -- names and addresses ----------------------------------------------------------------------------------------------------


def address(text: str) -> str:
    """As `ipaddress` writes it, IPv4 within IPv6 as IPv4; a name (sshd's UseDNS) as it is."""
    text = text.strip("[]")[:MAX_NAME]
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return text.lower()
    return str(ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else str(ip)


def _login(read: Line, user: str, source: str, method: str, *, success: bool = False, times: int = 1, service: str = "") -> Login:
    return Login(service or _service(read.program), user[:MAX_NAME], source and address(source), success, method, read.pid, times)


def _service(program: str) -> str:
    name = program.rpartition("/")[2]
    return "sshd" if name.startswith("sshd") else name


# -- sshd -------------------------------------------------------------------------------------------------------------------

_HOST = r"(?P<host>[0-9A-Za-z][\w.:%-]{0,100}|::[\w.:%-]{0,100})"
_PORT = r"(?: port \d{1,5})?"
_WHOSE = "(?:invalid|authenticating) user"
_PAM_SAYS = "(?:[Aa]uthentication (?:failure|error)|User not known to the underlying authentication module)"
_INVALID = r"(?P<invalid>(?:invalid|illegal) user ?)?"
_KEY = r"(?: ssh\d)(?:: .*)?"
# sshd writes the source behind the name, so the last one counts: `.*` is greedy on purpose, and what may follow a source is fixed.
_SSHD: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern + "$", re.DOTALL), method)
    for pattern, method in (
        (rf"Failed (?P<method>\S{{1,40}}) for {_INVALID}(?P<user>.*) from {_HOST} port \d{{1,5}}{_KEY}", ""),
        (rf"Failed (?P<method>\S{{1,40}}) for {_INVALID}(?P<user>.*) from {_HOST}{_PORT}", ""),
        (rf"Accepted (?P<method>\S{{1,40}}) for (?P<user>.*) from {_HOST} port \d{{1,5}}{_KEY}", "accepted"),
        (rf"(?:Invalid|Illegal) user (?P<user>.*) from {_HOST}{_PORT}", "invalid"),
        (rf"(?:error: )?maximum authentication attempts exceeded for {_INVALID}(?P<user>.*) from {_HOST}{_PORT}(?: ssh\d)?", "limit"),
        (rf"User (?P<user>.*) from {_HOST} not allowed because .*", "refused"),
        (rf"ROOT LOGIN REFUSED FROM {_HOST}{_PORT}", "refused"),
        (rf"(?:error: )?PAM: {_PAM_SAYS} for {_INVALID}(?P<user>.*) from {_HOST}(?: via \S+)?", "error"),
        (rf"(?:error: )?Received disconnect from {_HOST}{_PORT}: ?3: .*Auth fail", "told"),
        (rf"Disconnecting(?: {_WHOSE} (?P<user>.*) {_HOST} port \d{{1,5}})?: Too many authentication failures.*", "limit"),
        (rf"Disconnecting {_WHOSE} (?P<user>.*) {_HOST} port \d{{1,5}}: Change of username or service not allowed.*", "told"),
    )
)


def _sshd(read: Line, message: str) -> Login | None:
    message = message.removesuffix("[preauth]").rstrip()
    for pattern, method in _SSHD:
        if m := pattern.match(message):
            said = m.groupdict()
            user, source = said.get("user") or "", said.get("host") or ""
            if method == "accepted":
                return _login(read, user, source, _family(m["method"]), success=True)
            return _login(read, user, source, method or _failed(m["method"], said.get("invalid")))
    return None


def _family(method: str) -> str:
    """ "keyboard-interactive/pam" → "keyboard-interactive"."""
    return method.partition("/")[0]


def _failed(method: str, invalid: str | None) -> str:
    """What a `Failed …` line counts as: clients offer all their keys, so only a stranger's key is a try by itself."""
    family = _family(method)
    if family == "publickey":
        return "unknown" if invalid else "publickey"
    return family if family in TRIES | ECHOES else "unknown"


# -- sudo, su, login, dropbear ----------------------------------------------------------------------------------------------

_SUDO_FAILED = re.compile(r"(?P<user>\S{1,100}) : (?P<n>\d{1,4}) incorrect password attempts? ;")
_SUDO_NOT = re.compile(r"(?P<user>\S{1,100}) : user NOT in sudoers ;")
_SUDO_DID = re.compile(r"(?P<user>\S{1,100}) : (?:TTY=\S* ; |PWD=\S* ; )*USER=\S+ ; (?:\w+=\S* ; )*COMMAND=")
_SU_FAILED = re.compile(r"FAILED SU \(to (?P<user>[^)]{1,100})\)|FAILED su for (?P<for>\S{1,100}) by|- \S+ \S+:(?P<to>\S{1,100})$")
_SU_DID = re.compile(r"\(to (?P<user>[^)]{1,100})\) \S+ on |Successful su for (?P<for>\S{1,100}) by|\+ \S+ \S+:(?P<to>\S{1,100})$")
_LOGIN_FAILED = re.compile(
    r"(?:FAILED LOGIN(?: SESSION)?|TOO MANY LOGIN TRIES) \((?P<n>\d{1,4})\)(?: on \S+)?(?: (?:from|FROM) \S+)? FOR '?(?P<user>[^',]{0,100})"
)
_LOGIN_DID = re.compile(r"(?P<root>ROOT) LOGIN +(?:on|ON) |LOGIN (?:on|ON) \S+ (?:by|BY) '?(?P<user>[^' ]{1,100})")
_DROPBEAR = re.compile(
    r"(?:Bad (?P<pw>password) attempt for|(?P<no>Login attempt) for nonexistent user|(?P<ok>Password|Pubkey) auth succeeded for) ?'?"
    r"(?P<user>[^']{0,100})'? ?(?:with key .* )?from (?P<host>\S+):\d{1,5}$"
)


def _sudo(read: Line, message: str) -> Login | None:
    if m := _SUDO_FAILED.match(message):
        return _login(read, m["user"], "", "console", times=max(1, min(MAX_TIMES, int(m["n"]))))
    if m := _SUDO_NOT.match(message):
        return _login(read, m["user"], "", "refused")
    m = _SUDO_DID.match(message)
    return _login(read, m["user"], "", "console", success=True) if m else None


def _su(read: Line, message: str) -> Login | None:
    for pattern, success in ((_SU_FAILED, False), (_SU_DID, True)):
        if m := pattern.match(message):
            return _login(read, m["user"] or m["for"] or m["to"], "", "console", success=success)
    return None


def _console(read: Line, message: str) -> Login | None:
    """util-linux' login; its number counts the tries of one session, so each line is one."""
    if m := _LOGIN_FAILED.match(message):
        return _login(read, m["user"].strip(), "", "console")
    m = _LOGIN_DID.match(message)
    return _login(read, "root" if m["root"] else m["user"], "", "console", success=True) if m else None


def _dropbear(read: Line, message: str) -> Login | None:
    m = _DROPBEAR.match(message)
    return _login(read, m["user"], m["host"], "password", success=bool(m["ok"])) if m else None


# -- PAM --------------------------------------------------------------------------------------------------------------------

_PAM = re.compile(
    r"(?:pam_\w{1,30}\((?P<service>[\w.-]{1,40}):(?P<step>auth|session)\): |(?P<more>PAM (?P<n>\d{1,6}) more authentication failures?; ))"
    r"(?P<said>.*)", re.DOTALL
)  # fmt: skip
_PAM_FAILED = re.compile(r"(?:(?P<n>\d{1,6}) more )?authentication failures?; ")
_PAM_OPENED = re.compile(r"session opened for user (?P<user>[^( ]{1,100})(?:\(uid=\d+\))? by (?P<by>[^( ]{0,100})")
_PAM_USER, _PAM_RUSER, _PAM_RHOST = (re.compile(rf"(?:^|\s){name}=(\S*)") for name in ("user", "ruser", "rhost"))
# Whose opened sessions tell of people: cron and systemd's user manager open them all day.
PEOPLE = frozenset({"login", "gdm-password", "lightdm", "sddm", "xrdp-sesman", "cockpit"})
ROOTS = frozenset({"sshd", "sshd-session", "sshd-auth", "login"})  # programs that speak as root


def _pam(read: Line, pam: re.Match[str], times: int) -> Login | None:
    service, said = pam["service"] or _service(read.program), pam["said"]
    service = "sshd" if service.startswith("sshd") else service
    if pam["step"] == "session":
        opened = _PAM_OPENED.match(said) if service in PEOPLE else None
        return _login(read, opened["user"], "", "pam", success=True, service=service) if opened else None
    failed = _PAM_FAILED.match(said)
    if not failed and not pam["more"]:
        return None
    n = int((failed and failed["n"]) or pam["n"] or 1)
    user, ruser, rhost = ((m[1] if (m := p.search(said)) else "") for p in (_PAM_USER, _PAM_RUSER, _PAM_RHOST))
    source = rhost if re.fullmatch(_HOST.replace("?P<host>", "?:"), rhost) else ""
    return _login(read, user or ruser, source, "pam", times=min(MAX_TIMES, max(1, n) * times), service=service)


_PROGRAMS: dict[str, Callable[[Line, str], Login | None]] = {
    "sshd": _sshd, "sshd-session": _sshd, "sshd-auth": _sshd, "/usr/sbin/sshd": _sshd, "sudo": _sudo, "su": _su, "login": _console,
    "dropbear": _dropbear,
}  # fmt: skip
