"""brute_force: somebody tries password after password, at sshd, sudo, su or the console.

Law: one try counts once, however many lines tell of it, and a client's offer of keys is no try. Accused is the address that sshd names,
never the account that is tried. Bounded whatever the logs hold.

Two leaky buckets a source, as CrowdSec's ssh-bf and ssh-slow-bf have them, and two an account for tries that come from many sources.
"""

import collections
import dataclasses
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from agent.detect.lines import TRIES
from agent.detect.model import Coverage, Finding, Grade, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import Login

BURST, BURST_LEAK, SLOW, SLOW_LEAK = 5.0, 10.0, 10.0, 60.0  # more than so many, of which one leaks away in so many seconds
SUCCESS_AFTER = 5  # failures; what succeeds then has guessed
MANY_SOURCES = 3  # of one account's failures: fewer are each seen as a source of their own
HOLD = 120.0  # seconds that a session may still succeed: sshd's LoginGraceTime
HOUR = 3600.0
MAX_SESSIONS, MAX_SOURCES, MAX_USERS, MAX_EACH, MAX_KEPT = 4096, 4096, 1024, 16, 64
SERVICES = ("sshd", "login", "sudo", "su")
HELD = frozenset({"publickey", "pam"})  # sshd writes these also for a login that then succeeds (fail2ban#1263, #2070)
GUESSED = frozenset({"publickey", "hostbased", "gssapi-with-mic"})  # how nobody gets in by guessing


@dataclasses.dataclass(slots=True)
class Bucket:
    level: float = 0.0
    at: float = 0.0

    def pour(self, n: float, leak: float, at: float) -> float:
        self.level = max(0.0, self.level - max(0.0, at - self.at) / leak) + n
        self.at = at
        return self.level


@dataclasses.dataclass(slots=True)
class Windows:
    """Both windows, and what has been seen since the last success."""

    burst: Bucket = dataclasses.field(default_factory=Bucket)
    slow: Bucket = dataclasses.field(default_factory=Bucket)
    failures: int = 0
    told: bool = False
    at: float = 0.0
    others: set[str] = dataclasses.field(default_factory=set)  # accounts of a source, sources of an account

    def pour(self, n: int, other: str, at: float) -> bool:
        """Whether a window is over now, or was so within the hour."""
        if at - self.at > HOUR:
            self.failures, self.told, self.others = 0, False, set()
        self.failures, self.at = self.failures + n, at
        if len(self.others) < MAX_EACH:
            self.others.add(other)
        over = self.burst.pour(n, BURST_LEAK, at) > BURST, self.slow.pour(n, SLOW_LEAK, at) > SLOW
        return any(over) or self.told


@dataclasses.dataclass(slots=True)
class Session:
    """The lines of one process of sshd: as many failures as that kind of line tells of which tells of most."""

    source: str = ""
    tries: int = 0
    echoes: dict[str, int] = dataclasses.field(default_factory=dict)
    held: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # (method, user)
    counted: int = 0
    at: float = 0.0

    def add(self, login: Login) -> int:
        """How many failures this line adds."""
        if login.method in TRIES:
            self.tries += login.times
        else:
            self.echoes[login.method] = self.echoes.get(login.method, 0) + login.times
        holds = login.service == "sshd" and login.method in HELD
        if holds and len(self.held) < MAX_EACH:
            self.held.append((login.method, login.user))
        over = login.method in ("limit", "told")
        return self._count(max([self.tries, *(n for m, n in self.echoes.items() if over or login.service != "sshd" or m not in HELD)]))

    def settle(self) -> int:
        """It has not succeeded in time: its passwords were wrong; its keys count as one try."""
        self.held.clear()
        return self._count(max(self.tries, self.echoes.get("pam", 0), min(1, self.echoes.get("publickey", 0))))

    def succeed(self, user: str) -> int:
        """Failures in another name than the one that got in stay failures (fail2ban's case of the intruder who makes them forget)."""
        n = sum(1 for method, name in self.held if method == "pam" and name not in ("", user))
        self.held.clear()
        return self._count(max(self.counted, n))

    def _count(self, total: int) -> int:
        new, self.counted = max(0, total - self.counted), max(total, self.counted)
        return new


class BruteForce(Plain):
    rule: ClassVar[Rule] = Rule("brute_force", "H01", "1", "authentication", ("T1110", "T1078"), quiet=HOUR)
    wants: ClassVar[tuple[type, ...]] = (Login,)

    def __init__(self, vouched: Vouched = Vouched()) -> None:  # noqa: B008  (frozen)
        self._vouched = vouched
        self._sessions: Table[tuple[str, str], Session] = Table(MAX_SESSIONS)
        self._held: collections.OrderedDict[tuple[str, str], tuple[float, Login]] = collections.OrderedDict()
        self._sources: Table[str, Windows] = Table(MAX_SOURCES)
        self._users: Table[str, Windows] = Table(MAX_USERS)
        self.failures: collections.Counter[str] = collections.Counter(dict.fromkeys(SERVICES, 0))

    def coverage(self, able: frozenset[str]) -> Coverage:
        return Coverage(1.0) if "log" in able else Coverage(0.0, "no_login_log")

    def see(self, seen: Login, at: float) -> Iterable[Said]:
        key = (seen.service, seen.session)
        session = self._sessions.get(key) if seen.session else None
        if session is None or at - session.at > HOUR or (seen.source and session.source and seen.source != session.source):
            session = Session(seen.source) if not seen.session else self._sessions.put(key, Session(seen.source))
        session.at = at
        session.source = seen.source or session.source
        login = seen._replace(source=session.source, times=max(1, min(1000, seen.times)))
        if login.service == "sshd" and not login.source:
            return ()  # a line that names nobody, of a session that nothing is known of
        if login.success:
            self._held.pop(key, None)
            n = session.succeed(login.user)
            return [*(self._failed(login, n, at) if n else ()), *self._succeeded(login, at)]
        new = session.add(login)
        self._keep_held(key, session, login, at)
        return list(self._failed(login, new, at)) if new else ()

    def tick(self, at: float) -> Iterable[Said]:
        said: list[Said] = []
        while self._held and at - next(iter(self._held.values()))[0] >= HOLD:
            key, (_, login) = self._held.popitem(last=False)
            session = self._sessions.get(key)
            if session and (new := session.settle()):
                said += self._failed(login, new, at)
        return said

    def _keep_held(self, key: tuple[str, str], session: Session, login: Login, at: float) -> None:
        if not session.held:
            return
        if key not in self._held:
            self._held[key] = at, login
        if len(self._held) > MAX_SESSIONS:
            self._held.popitem(last=False)

    def _failed(self, login: Login, n: int, at: float) -> Iterator[Finding]:
        self.failures[login.service if login.service in SERVICES else "other"] += n
        if login.source in self._vouched.scanners:
            return
        who = _who(login)
        windows = self._sources.get(who) or self._sources.put(who, Windows(at=at))
        if windows.pour(n, login.user, at):
            times = n if windows.told else windows.failures
            windows.told = True
            yield _finding(login, who, "medium", "passwords are tried one after another", windows, times)
        if login.source and login.user:
            yield from self._failed_user(login, n, at)

    def _failed_user(self, login: Login, n: int, at: float) -> Iterator[Finding]:
        name = f"{login.service} {login.user}"
        windows = self._users.get(name) or self._users.put(name, Windows(at=at))
        if not windows.pour(n, login.source, at) or len(windows.others) < MANY_SOURCES:
            return
        times = n if windows.told else windows.failures
        windows.told = True
        fields = {"user.name": login.user, "ronda.sources": str(len(windows.others)), "service.name": login.service, **_OUTCOME}
        message = "one account's password is tried from many addresses"
        yield Finding(self.rule.name, f"user {name}", "medium", "likely", message, confirmed=True, fields=fields, times=times)

    def _succeeded(self, login: Login, at: float) -> Iterator[Finding]:
        """Who has failed so often has guessed; what comes by a key has not."""
        who = _who(login)
        windows = self._sources.get(who)
        if not windows or login.method in GUESSED:
            return
        failures, recent = windows.failures, at - windows.at <= HOUR
        windows.failures = 0
        if failures < SUCCESS_AFTER or not recent:
            return
        grade: Grade = "high" if login.service in ("sudo", "su") else "critical"  # sudo also succeeds without a password
        windows.told = True
        found = _finding(login, who, grade, "after many failures a login succeeded", windows, 1)
        yield found._replace(fields={**found.fields, "event.outcome": "success", "ronda.failures": str(failures)})

    def remember(self) -> Mapping[str, Any]:
        """The failures that a success may follow; the windows fill anew."""
        rows = [[who, w.failures, w.told] for who, w in self._sources.items()[-MAX_KEPT:] if w.failures >= SUCCESS_AFTER]
        return {"sources": rows} if rows else {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        for who, failures, told in said["sources"][:MAX_KEPT]:
            self._sources.put(str(who), Windows(failures=int(failures), told=bool(told), at=at))


_OUTCOME = {"event.outcome": "failure"}


def _who(login: Login) -> str:
    """Whom a try is counted for: the address, or where there is none the service here and the account."""
    return login.source or f"{login.service} {login.user}"


def _finding(login: Login, who: str, grade: Grade, message: str, windows: Windows, times: int) -> Finding:
    """Each line is a witness of its own, so many lines confirm each other."""
    fields = {"service.name": login.service, "user.name": login.user, "ronda.failures": str(windows.failures), **_OUTCOME}
    if login.source:
        fields["source.ip" if _is_address(login.source) else "source.domain"] = login.source
        fields["ronda.accounts"] = str(len(windows.others))
    found = Finding(BruteForce.rule.name, who, grade, "likely", message, confirmed=True, fields=fields, source=login.source)
    return found._replace(times=max(1, times))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
