"""What the office's routers tell in their logs: guessed passwords, logins, changes, scans, and that one tells no more (R01, R02, R03, R06).

Law: a line is the router's word, and a datagram's sender can be forged: nothing here is more than "likely". Accused is the source that the
line names, never the router and never the account. Bounded whatever the logs hold. No clock: whether people work then comes with a login.
"""

import dataclasses
import ipaddress
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

from agent.detect.logins import Bucket
from agent.detect.model import Coverage, Finding, Grade, Plain, Rule, Said, Table, Vouched
from agent.detect.routerlines import inside
from agent.detect.seen import DeviceHeard, RouterChange, RouterDrop, RouterLogin
from agent.detect.telling import Telling

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
BURST, BURST_LEAK, NAMES, NAMES_LEAK, SLOW, SLOW_LEAK = 5.0, 20.0, 5.0, 10.0, 10.0, 60.0  # more than so many; one leaks away in so long
SUCCESS_AFTER = 5  # failures; who gets in then has guessed
PORTS, PORTS_LEAK = 15.0, 5.0
NIGHTS = 5
GROUP = 600.0  # seconds: changes of one person that are one piece of work
GRAVE = frozenset({"user", "service", "firewall", "dns", "script", "scheduler"})
DEVICES, SOURCES, MAX_EACH, MAX_KEPT = 64, 1024, 64, 64


class OfLog(Plain):
    """`able` has "devicelog" once a device has spoken, "devicelog_all" once each that is expected has."""

    needs: ClassVar[str] = "devicelog"
    blind: ClassVar[str] = "no_log_yet"

    def coverage(self, able: frozenset[str]) -> Coverage:
        if self.needs not in able:
            return Coverage(0.0, "no_log_yet")
        return Coverage(1.0) if "devicelog_all" in able else Coverage(0.5, "some_logs_missing")


def who(source: str) -> dict[str, str]:
    """The field that names a source; none where no address is told."""
    try:
        ipaddress.ip_address(source)
    except ValueError:
        return {"source.mac": source} if inside(source) else {}
    return {"source.ip": source}


# -- guessed passwords ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class _Tries:
    """The failures of one source at one device, and since the last success."""

    burst: Bucket = dataclasses.field(default_factory=Bucket)
    names: Bucket = dataclasses.field(default_factory=Bucket)
    slow: Bucket = dataclasses.field(default_factory=Bucket)
    users: set[str] = dataclasses.field(default_factory=set)
    failures: int = 0
    told: bool = False
    at: float = 0.0

    def pour(self, n: int, user: str, at: float) -> bool:
        """Whether a window is over now, or was so within the hour."""
        if at - self.at > HOUR:
            self.failures, self.told, self.users = 0, False, set()
        self.failures, self.at = self.failures + n, at
        new = user not in self.users
        if len(self.users) < MAX_EACH:
            self.users.add(user)
        over = [self.burst.pour(n, BURST_LEAK, at) > BURST, self.slow.pour(n, SLOW_LEAK, at) > SLOW]
        over.append(self.names.pour(1.0 if new else 0.0, NAMES_LEAK, at) > NAMES)
        return any(over) or self.told


class RouterLoginFailures(OfLog):
    """As CrowdSec's mikrotik-bf: a leaky bucket a source, one of its different names, and a slow one beside them."""

    rule: ClassVar[Rule] = Rule("router_login_failures", "R01", "1", "authentication", ("T1110", "T1078"), quiet=HOUR)
    wants: ClassVar[tuple[type, ...]] = (RouterLogin,)

    def __init__(self, vouched: Vouched) -> None:
        self._admins = vouched.admins
        self._rows: Table[tuple[str, str], _Tries] = Table(SOURCES)
        self._telling = Telling()

    def see(self, seen: RouterLogin, at: float) -> Iterable[Said]:
        seen = seen._replace(
            device=seen.device[:40], source=seen.source[:48], user=seen.user[:100], via=seen.via[:16], written=seen.written[:64],
            times=max(1, min(1000, seen.times)),
        )  # fmt: skip
        return self._came(seen, at) if seen.success else self._failed(seen, at)

    def _failed(self, seen: RouterLogin, at: float) -> Iterator[Finding]:
        key = (seen.device, seen.source)
        tries = self._rows.get(key) or self._rows.put(key, _Tries(at=at))
        if not tries.pour(seen.times, seen.user[:64], at):
            return
        times = seen.times if tries.told else tries.failures
        tries.told = True
        near = inside(seen.source)
        words = "passwords of a router are tried one after another" + (", from within the office's network" if near else "")
        yield from self._telling.say(_of_login(self.rule, seen, tries, "high" if near else "medium", words, times), at)

    def _came(self, seen: RouterLogin, at: float) -> Iterator[Finding]:
        """An admin's own place is where admins mistype: it has somebody called, and nobody woken."""
        tries = self._rows.get((seen.device, seen.source))
        if not tries:
            return
        failures, recent, before = tries.failures, at - tries.at <= HOUR, dataclasses.replace(tries)
        tries.failures, tries.users = 0, set()
        if failures < SUCCESS_AFTER or not recent:
            return
        tries.told = True
        grade: Grade = "high" if seen.source in self._admins else "critical"
        found = _of_login(self.rule, seen, before, grade, "after many failures a login to a router succeeded", 1)
        fields = {**found.fields, "event.outcome": "success"}
        yield found._replace(fields=fields)  # each time: it is the one thing of which nothing may be held back

    def remember(self) -> Mapping[str, Any]:
        """The failures that a success may follow; the windows fill anew."""
        kept = [[*key, row.failures, row.told] for key, row in self._rows.items()[-MAX_KEPT:] if row.failures >= SUCCESS_AFTER]
        return {"sources": kept} if kept else {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        for device, source, failures, told in said["sources"][:MAX_KEPT]:
            self._rows.put((str(device)[:40], str(source)[:48]), _Tries(failures=int(failures), told=bool(told), at=at))


def _of_login(rule: Rule, seen: RouterLogin, tries: _Tries, grade: Grade, words: str, times: int) -> Finding:
    """Each line is a witness of its own: many confirm each other."""
    fields = {
        "ronda.device": seen.device, "user.name": seen.user, "ronda.via": seen.via, "ronda.written": seen.written,
        "ronda.failures": str(tries.failures), "ronda.accounts": str(len(tries.users)), "event.outcome": "failure", **who(seen.source),
    }  # fmt: skip
    key = f"{seen.device} {seen.source}"
    return Finding(rule.name, key, grade, "likely", words, confirmed=True, fields=fields, source=seen.source, times=max(1, times))


# -- logins -----------------------------------------------------------------------------------------------------------------------


class RouterLogins(OfLog):
    """A login when nobody works, or from where nobody ever came. What stays for a day counts as known; what is vouched for always did.

    What comes on NIGHTS days when nobody works is a program: a poller that logs in at all hours is told of no longer.
    """

    rule: ClassVar[Rule] = Rule("router_login", "R02", "1", "authentication", ("T1078",), learning=7 * DAY, quiet=HOUR)
    wants: ClassVar[tuple[type, ...]] = (RouterLogin,)

    def __init__(self, vouched: Vouched) -> None:
        self._admins = vouched.admins
        self._known: Table[str, float] = Table(SOURCES)  # "device source" → when it first came
        self._nights: Table[str, tuple[int, int]] = Table(SOURCES)  # → days on which it came at odd hours, and the last of them
        self._began: float | None = None
        self._now = 0.0
        self._telling = Telling()

    def tick(self, at: float) -> Iterable[Said]:
        self._began, self._now = at if self._began is None else self._began, at
        return ()

    def see(self, seen: RouterLogin, at: float) -> Iterable[Said]:
        self.tick(at)
        if not seen.success or seen.source in self._admins:
            return ()
        key = f"{seen.device[:64]} {seen.source[:64] or seen.via[:16]}"
        new, odd = self._is_new(key, at), seen.in_hours is False and self._is_odd(key, at)
        why = [*(["outside working hours"] if odd else []), *(["from a place that it never came from"] if new else [])]
        if not why:
            return ()
        fields = {
            "ronda.device": seen.device, "user.name": seen.user, "ronda.via": seen.via, "ronda.written": seen.written,
            "ronda.new_source": _said(new), "ronda.in_hours": _said(seen.in_hours), "event.outcome": "success", **who(seen.source),
        }  # fmt: skip
        words = f"somebody logged in to a router {' and '.join(why)}"
        found = Finding(self.rule.name, key, "medium", "likely", words, confirmed=True, fields=fields, source=seen.source[:64])
        return self._telling.say(found, at)

    def _is_new(self, key: str, at: float) -> bool:
        first = self._known.get(key)
        if first is None:
            first = self._known.put(key, at if self._learnt(at) else at - DAY)
        return at - first < DAY

    def _is_odd(self, key: str, at: float) -> bool:
        nights, last = self._nights.get(key) or (0, -1)
        day = int(at // DAY)
        if day != last and nights <= NIGHTS:
            nights += 1
        self._nights.put(key, (nights, day))
        return nights <= NIGHTS

    def _learnt(self, at: float) -> bool:
        return self._began is not None and at - self._began >= self.rule.learning

    def accept(self, key: str, at: float) -> None:
        self._known.put(key, at - DAY)

    def remember(self) -> Mapping[str, Any]:
        """Ages in minutes, so that a file that is written when it changes is not written for this alone."""
        if self._began is None:
            return {}
        ages = {key: int((self._now - first) // MINUTE) for key, first in self._known.items()}
        nights = {key: count for key, (count, _) in self._nights.items()}
        return {"age": int((self._now - self._began) // MINUTE), "known": ages, "nights": nights}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        began = at - _minutes(said["age"])
        known = {str(key)[:140]: at - _minutes(age) for key, age in list(said["known"].items())[:SOURCES]}
        nights = {str(key)[:140]: int(count) for key, count in list(said.get("nights", {}).items())[:SOURCES]}
        self._began, self._now = began, at
        for key, first in known.items():
            self._known.put(key, first)
        for key, count in nights.items():
            self._nights.put(key, (min(NIGHTS + 1, max(0, count)), -1))


def _said(known: bool | None) -> str:
    return "" if known is None else "yes" if known else "no"


def _minutes(value: Any) -> float:
    """Seconds of remembered minutes. Raises ValueError, TypeError."""
    if not math.isfinite(minutes := float(value)):
        raise ValueError("not a number of minutes")
    return max(0.0, minutes) * MINUTE


# -- changes ----------------------------------------------------------------------------------------------------------------------


class _Work(NamedTuple):
    at: float
    areas: tuple[str, ...]


class RouterChanged(OfLog):
    """What one person changes within ten minutes is one piece of work. What a scheduler does each night is a note: its making was told."""

    rule: ClassVar[Rule] = Rule("router_changed", "R02", "1", "configuration", ("T1078", "T1686"), quiet=GROUP)
    wants: ClassVar[tuple[type, ...]] = (RouterChange,)

    def __init__(self, vouched: Vouched) -> None:  # noqa: ARG002  (the table's)
        self._works: Table[str, _Work] = Table(SOURCES)
        self._telling = Telling()

    def see(self, seen: RouterChange, at: float) -> Iterable[Said]:
        key = f"{seen.device[:40]} {seen.user[:32]} {seen.source[:24] or seen.via[:16]}"
        work = self._works.get(key)
        before = work.areas if work and at - work.at <= GROUP else ()
        areas = tuple(dict.fromkeys((*before, seen.area[:16])))[:16]
        self._works.put(key, _Work(at, areas))
        grade: Grade = "low" if seen.via == "script" else "high" if seen.area in GRAVE else "medium"
        words = "a router's configuration was changed" + (": what protects the office's network" if grade == "high" else "")
        fields = {
            "ronda.device": seen.device, "user.name": seen.user, "ronda.via": seen.via, "ronda.written": seen.written,
            "ronda.areas": ",".join(areas), "ronda.change": seen.text, **who(seen.source),
        }  # fmt: skip
        found = Finding(self.rule.name, key, grade, "likely", words, confirmed=True, fields=fields, source=seen.source[:64])
        return self._telling.say(found, at)


# -- scans ------------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class _Ports:
    bucket: Bucket = dataclasses.field(default_factory=Bucket)
    seen: set[int] = dataclasses.field(default_factory=set)
    at: float = 0.0


class RouterScanned(OfLog):
    """Different ports that a router's firewall refused one source. From the internet it is weather; from within it is somebody here."""

    rule: ClassVar[Rule] = Rule("router_scanned", "R03", "1", "intrusion_detection", ("T1046", "T1595.001"), quiet=900.0)
    wants: ClassVar[tuple[type, ...]] = (RouterDrop,)

    def __init__(self, vouched: Vouched) -> None:
        self._vouched = vouched.scanners
        self._rows: Table[tuple[str, str], _Ports] = Table(SOURCES)
        self._telling = {True: Telling(), False: Telling()}  # a crowd of invented sources outside must not hide one within
        self._heard = False

    def coverage(self, able: frozenset[str]) -> Coverage:
        covered = super().coverage(able)
        return covered if self._heard or not covered.share else Coverage(0.0, "no_drop_log")

    def see(self, seen: RouterDrop, at: float) -> Iterable[Said]:
        self._heard = True
        source = seen.source[:64]
        if source in self._vouched:
            return ()
        key = (seen.device[:64], source)
        row = self._rows.get(key) or self._rows.put(key, _Ports(at=at))
        if at - row.at > PORTS * PORTS_LEAK:  # all has leaked away
            row.seen.clear()
        row.at = at
        new = seen.port not in row.seen
        if len(row.seen) < MAX_EACH:
            row.seen.add(seen.port)
        if row.bucket.pour(1.0 if new else 0.0, PORTS_LEAK, at) <= PORTS - 1:
            return ()
        return self._telling[seen.inside is True].say(self._finding(seen, source, row), at)

    def _finding(self, seen: RouterDrop, source: str, row: _Ports) -> Finding:
        near = seen.inside is True
        words = "a router's firewall refused one source many ports: somebody looks for open ones" + (" from within" if near else "")
        fields = {
            "ronda.device": seen.device, "network.transport": seen.protocol, "destination.ip": seen.target,
            "ronda.ports": str(len(row.seen)), "destination.port": ",".join(str(port) for port in sorted(row.seen)[:16]), **who(source),
        }  # fmt: skip
        grade: Grade = "medium" if near else "info"
        key = f"{seen.device[:48]} {source}"
        return Finding(self.rule.name, key, grade, "likely", words, confirmed=near, fields=fields, source=source)

    def remember(self) -> Mapping[str, Any]:
        return {"heard": True} if self._heard else {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:  # noqa: ARG002
        self._heard = bool(said["heard"])


# -- silence ----------------------------------------------------------------------------------------------------------------------

BINS, PER_DOUBLING = 48, 2  # of gaps: from a second to half a year, two a doubling
HALF_LIFE = 14 * DAY
SHORTEST, TIMES, P = HOUR, 3.0, 0.99


@dataclasses.dataclass(slots=True)
class _Voice:
    """How a device speaks. `spent`: seconds that lay in gaps of each length."""

    heard: float
    spent: list[float] = dataclasses.field(default_factory=lambda: [0.0] * BINS)
    open: bool = False

    def hear(self, at: float) -> None:
        gap, self.heard = max(0.0, at - self.heard), at
        if gap and not self.open:  # the silence that was told is no habit
            self.spent = [seconds * 0.5 ** (gap / HALF_LIFE) for seconds in self.spent]
            self.spent[_bin(gap)] += gap

    def limit(self) -> float:
        """Seconds of silence that say something: thrice the gap that it is seldom in. Whom we have not heard for a day has no habit yet."""
        if (known := sum(self.spent)) < DAY:
            return math.inf
        left = (1.0 - P) * known
        for n in range(BINS - 1, -1, -1):
            left -= self.spent[n]
            if left < 0.0:
                return max(SHORTEST, TIMES * _longest(n))
        return SHORTEST


def _bin(gap: float) -> int:
    return min(BINS - 1, max(0, math.ceil(PER_DOUBLING * math.log2(max(1.0, gap)))))


def _longest(n: int) -> float:
    return float(2.0 ** (n / PER_DOUBLING))


class RouterSilent(OfLog):
    """p99 of its own gaps, by time and not by number: of a thousand messages a day one gap is the night's, and that one is usual."""

    rule: ClassVar[Rule] = Rule("router_silent", "R06", "1", "host", learning=7 * DAY)
    wants: ClassVar[tuple[type, ...]] = (DeviceHeard,)

    def __init__(self, vouched: Vouched) -> None:  # noqa: ARG002  (the table's)
        self._voices: Table[str, _Voice] = Table(DEVICES)
        self._now = 0.0

    @property
    def speaking(self) -> frozenset[str]:
        """Devices that have spoken, now or in an earlier life, and have not fallen silent."""
        return frozenset(device for device, voice in self._voices.items() if not voice.open)

    def see(self, seen: DeviceHeard, at: float) -> Iterable[Said]:
        self._now = at
        device = seen.device[:64]
        voice = self._voices.get(device)
        if not voice:
            self._voices.put(device, _Voice(at))
            return ()
        over, was = voice.open, at - voice.heard
        voice.hear(at)
        voice.open = False
        fields = {"ronda.device": device, "ronda.silent_seconds": f"{was:.0f}"}
        words = "a device of which logs are expected speaks again"
        return [Finding(self.rule.name, device, "info", "certain", words, "closed", fields=fields)] if over else ()

    def tick(self, at: float) -> Iterable[Said]:
        self._now = at
        for device, voice in self._voices.items():
            limit = voice.limit() if not voice.open and at - voice.heard > SHORTEST else math.inf
            if at - voice.heard > limit:
                voice.open = True
                fields = {"ronda.device": device, "ronda.usual_seconds": f"{limit:.0f}"}
                words = "a device of which logs are expected tells nothing any more"
                yield Finding(self.rule.name, device, "medium", "likely", words, confirmed=True, fields=fields)

    def remember(self) -> Mapping[str, Any]:
        """In minutes. What is silent at a restart is so afterwards; who wasn't has until then spoken."""
        rows = {
            device: [voice.open, {str(n): int(s // MINUTE) for n, s in enumerate(voice.spent) if s >= MINUTE}]
            for device, voice in self._voices.items()
        }
        return {"voices": rows} if rows else {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        found = {}
        for device, (silent, spent) in list(said["voices"].items())[:DEVICES]:
            voice = _Voice(at, open=bool(silent))
            for n, minutes in spent.items():
                voice.spent[int(n)] = _minutes(minutes)
            found[str(device)[:64]] = voice
        for device, voice in found.items():
            self._voices.put(device, voice)
