"""syslog: what the office's routers and switches tell in their logs. The detectors are in agent/detect/router.py.

    collectors:
      syslog: [{listen: "0.0.0.0:514", senders: {router: gateway, switch-1: 192.0.2.2}, admins: [192.0.2.10]}]

UDP and TCP, RFC 3164 as routers really send it and RFC 5424. Who isn't in `senders` is refused and counted. By default it listens on
loopback, where nobody but this box can send: name the office's own address, or 0.0.0.0; for port 514 see docs/operations. Failed logins
are told whoever makes them, those of `admins` too; that they came in is only told of others.

Does a router send at all, and what is made of it? ronda once syslog listen=0.0.0.0:5514 --timeout 60s (any port that the agent hasn't got)

Law: messages are read and forgotten: only what a detector finds is kept. The time of a message is when it came; what its sender wrote is a
field, since routers say 1970. All decisions are the detectors', which are pure. Addresses and names are in events only, never in labels.
"""

import collections
import dataclasses
import datetime
import math
import re
import zoneinfo
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from agent import cases, senders
from agent.cases import PLAUSIBLE, Cases, SuppressConfig
from agent.collector import Env, Kind, TaskConfig, Watcher
from agent.detect import casebook, patrol, routerlines, seen
from agent.detect.concerns import concerns
from agent.detect.model import Vouched
from agent.detect.patrol import Patrol
from agent.detect.router import RouterSilent
from agent.detect.table import SYSLOG
from agent.devicelog import REASONS, Receiver
from agent.model import Event, Fact, Metric, Sample
from agent.senders import Sender, Senders
from agent.structure import IpAddress, Listen, Scalar, Slug
from agent.wire import rfc3164
from agent.wire.rfc5424 import SyslogError

TURN = 1.0  # seconds
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Day: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

MESSAGES = Metric("ronda_devicelog_messages_total", "Messages of a device's log that were read.", "counter", ("sender",))
REFUSED = Metric(
    "ronda_devicelog_refused_total", "Messages that were not: of strangers, unreadable, too many, too long.", "counter", ("reason",)
)
LAST = Metric("ronda_devicelog_last_timestamp_seconds", "When a device last told something; absent until it does.", labels=("sender",))
FAILED = Metric(
    "ronda_devicelog_login_failures_total",
    "Tries to log in to a router that failed, as it tells; absent until one does.",
    "counter",
    ("via",),
)
CHANGES = Metric(
    "ronda_devicelog_changes_total", "Changes of a router's configuration, as it tells; absent until there is one.", "counter", ("area",)
)
DROPS = Metric("ronda_devicelog_firewall_drops_total", "First contacts that a router's firewall tells of.", "counter", ("side",))
METRICS = (MESSAGES, REFUSED, LAST, FAILED, CHANGES, DROPS, *patrol.METRICS, *cases.METRICS)
RULES = tuple(make(Vouched()).rule.name for make in SYSLOG)
SIDES = {True: "inside", False: "outside", None: "unknown"}


def _hours(text: str) -> str:
    found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)", text, re.ASCII)
    if not found or not found[1] + found[2] < found[3] + found[4] <= "2400":
        raise ValueError
    return text


Hours = Annotated[str, Scalar("working hours", _hours, "e.g. 07:00-18:00, begin and end on one day")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TaskConfig):
    """`senders`: name → address, or `gateway`. `admins`: from where routers are looked after. `hours`, `days`: when people work there."""

    listen: Listen = "127.0.0.1:5514"
    senders: dict[Slug, Sender]
    admins: list[IpAddress] = dataclasses.field(default_factory=list)
    scanners: list[IpAddress] = dataclasses.field(default_factory=list)
    hours: Hours = "07:00-18:00"
    days: list[Day] = dataclasses.field(default_factory=lambda: list(DAYS[:6]))  # type: ignore[arg-type]  # they are Days
    suppress: list[SuppressConfig] = dataclasses.field(default_factory=list)

    def problems(self) -> Iterable[tuple[str, str]]:
        yield from super().problems()
        yield from senders.problems(self.listen, self.senders, 514)
        for n, entry in enumerate(self.suppress):
            if entry.rule not in RULES:
                yield f"suppress[{n}].rule", f"{entry.rule!r} is no rule of syslog: {', '.join(sorted(RULES))}"

    def vouched(self) -> Vouched:
        return Vouched(scanners=frozenset(self.scanners), admins=frozenset(self.admins))


def in_hours(wall: float, timezone: str, hours: str, days: Sequence[str]) -> bool | None:
    """Whether people work then; None: this clock knows nothing yet."""
    if wall < PLAUSIBLE:
        return None
    local = datetime.datetime.fromtimestamp(wall, zoneinfo.ZoneInfo(timezone))
    begin, end = hours.split("-")
    return DAYS[local.weekday()] in days and begin <= f"{local:%H:%M}" < end


class Counts:
    """The numbers beside the cases; they outlive a restart of `watch`."""

    def __init__(self, senders: Iterable[str]) -> None:
        self.messages = collections.Counter(dict.fromkeys(senders, 0))
        self.refused = collections.Counter(dict.fromkeys(REASONS, 0))
        self.last: dict[str, float] = {}
        self.failed = collections.Counter(dict.fromkeys(routerlines.VIAS, 0))
        self.changes = collections.Counter(dict.fromkeys(routerlines.AREAS, 0))
        self.drops = collections.Counter(dict.fromkeys(SIDES.values(), 0))

    def see(self, told: routerlines.Told) -> None:
        if isinstance(told, seen.RouterChange):
            self.changes[told.area] += 1
        elif isinstance(told, seen.RouterDrop):
            self.drops[SIDES[told.inside]] += 1
        elif not told.success:
            self.failed[told.via] += told.times

    def samples(self) -> Iterator[Sample]:
        for metric, counts in (
            (MESSAGES, self.messages), (REFUSED, self.refused), (FAILED, self.failed), (CHANGES, self.changes), (DROPS, self.drops),
        ):  # fmt: skip
            for label, count in counts.items():
                if count or metric in (MESSAGES, REFUSED):  # of the others there are many, most of them never seen
                    yield metric(count, label)
        for sender, at in self.last.items():
            yield LAST(at, sender)


class SyslogWatcher:
    """The Watcher."""

    def __init__(self, config: Config, env: Env) -> None:
        self._config, self._env, self.counts = config, env, Counts(config.senders)
        self.ports: list[int] = []

    async def watch(self) -> AsyncIterator[Sequence[Sample | Event]]:
        """Yields a picture each interval and at each word of a detector. Raises OSError: could not listen."""
        clock = self._env.clock
        detectors = [make(self._config.vouched()) for make in SYSLOG]
        kept = Cases(self._env, "syslog", [d.rule for d in detectors], self._config.suppress)
        ears = Ears(self._config, self._env, Patrol(detectors, kept.book), self.counts)
        named = Senders(self._config.senders, self._env.net, clock)
        receiver = Receiver(self._config.listen, ears.hear, clock, self.counts.refused)
        self.ports, due, able = receiver.ports, 0.0, frozenset[str]()
        try:
            await kept.begin(ears.patrol)
            while True:
                receiver.check()
                receiver.senders = named.now()
                ears.patrol.tick(clock.monotonic(), clock.now())
                events, before, able = await kept.turn(ears.patrol), able, ears.able()
                if events or able != before or clock.monotonic() >= due:
                    due = clock.monotonic() + self._config.interval - TURN / 2
                    yield [*self.counts.samples(), *ears.patrol.samples(able), *kept.samples(), *events]
                await clock.sleep(_until_next(clock.monotonic()))
        finally:
            try:
                await receiver.close()
            finally:
                await kept.end(ears.patrol)


def _until_next(now: float) -> float:
    """Turns lie on whole seconds, as the scheduler's slots: tasks share wake-ups."""
    return max(0.05, math.floor(now) + TURN - now)


class Ears:
    """Messages → observations for the patrol."""

    def __init__(self, config: Config, env: Env, patrol_: Patrol, counts: Counts) -> None:
        self._config, self._env, self.patrol, self._counts = config, env, patrol_, counts
        self._lines = routerlines.Reader()

    def hear(self, sender: str, data: bytes) -> bool:
        """Whether it could be read."""
        at, wall = self._env.clock.monotonic(), self._env.clock.now()
        try:
            message = rfc3164.read(data)
        except SyslogError:
            return False
        self._counts.messages[sender] += 1
        self._counts.last[sender] = wall
        self.patrol.see(seen.DeviceHeard(sender), at, wall)
        for told in self._lines.read(message, sender, at):
            self._counts.see(told)
            if isinstance(told, seen.RouterLogin):
                told = told._replace(in_hours=in_hours(wall, self._env.timezone, self._config.hours, self._config.days))
            self.patrol.see(told, at, wall)
        return True

    def able(self) -> frozenset[str]:
        """As detectors know it (their `coverage`): "devicelog" where one speaks, "devicelog_all" where all do."""
        silent = next(d for d in self.patrol.detectors.values() if isinstance(d, RouterSilent))
        speaking = silent.speaking & self._config.senders.keys()
        every = {"devicelog_all"} if len(speaking) == len(self._config.senders) else set()
        return frozenset({"devicelog"} | every if speaking else ())


# -- for people --------------------------------------------------------------------------------------------------------------------

MOST_SHOWN = 1000


class Anybody(Mapping[str, str]):
    """Address → name; who has none is called by his address."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def __getitem__(self, address: str) -> str:
        return self._names.get(address, address)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


async def once(config: Config, env: Env) -> dict[str, Any]:
    """Everything that comes within the timeout, whoever sends it, and what Ronda makes of it: is my router sending?"""
    came: list[dict[str, Any]] = []
    lines, names, refused = routerlines.Reader(), Senders(config.senders, env.net, env.clock).now(), collections.Counter[str]()

    def hear(sender: str, data: bytes) -> bool:
        row = {"from": sender, "refused": "" if sender in names.values() else "sender: not in senders"}
        try:
            message = rfc3164.read(data)
        except SyslogError as e:
            row |= {"message": data[:120].decode(errors="replace"), "understood": "", "refused": f"malformed: {e}"}
        else:
            told = ", ".join(_called(told) for told in lines.read(message, sender, env.clock.monotonic()))
            row |= {"message": message.text[:160], "understood": told}
        came.append({key: row[key] for key in ("from", "message", "understood", "refused")})
        return True

    try:
        receiver = Receiver(config.listen, hear, env.clock, refused)
    except OSError as e:  # mostly the agent itself has the port
        return {"ok": False, "listened": f"not at all: {e.strerror or e}", "heard": 0, "came": []}
    receiver.senders, ports = Anybody(names), receiver.ports
    try:
        await env.clock.sleep(config.timeout)
    finally:
        await receiver.close()
    heard = sum(not row["refused"] for row in came)
    listened = f"UDP and TCP port {', '.join(map(str, ports))} on {config.listen.rpartition(':')[0] or 'all addresses'}"
    found: dict[str, Any] = {"ok": heard > 0, "listened": listened, "heard": heard, "dropped": refused.total(), "came": came[:MOST_SHOWN]}
    if not heard and senders.loopback(config.listen.rpartition(":")[0].strip("[]")):
        found["periksa"] = "hanya kotak ini yang didengar di alamat itu; untuk perangkat: listen=0.0.0.0:5514"
    return found


def _called(told: routerlines.Told) -> str:
    if isinstance(told, seen.RouterLogin):
        return "login" if told.success else "login refused"
    return f"changed: {told.area}" if isinstance(told, seen.RouterChange) else "firewall drop"


def glance(samples: Sequence[Sample]) -> str:
    """`1 dari 2 perangkat terdengar, tidak ada temuan`; and whether strangers speak: a router under another address is one."""
    senders = len([s for s in samples if s.metric is MESSAGES])
    heard = len([s for s in samples if s.metric is LAST])
    active = sum(s.value for s in samples if s.metric is casebook.ACTIVE)
    strangers = sum(s.value for s in samples if s.metric is REFUSED and s.labels == ("sender",))
    refused = f"{strangers:.0f} pesan pengirim tak dikenal ditolak, " if strangers else ""
    return f"{heard} dari {senders} perangkat terdengar, {refused}{f'{active:.0f} temuan' if active else 'tidak ada temuan'}"


def facts(samples: Sequence[Sample]) -> tuple[Fact, ...]:
    """Who was heard, the last one first; who never was, last of all."""
    last = {s.labels[0]: s.value for s in samples if s.metric is LAST}
    every = [s.labels[0] for s in samples if s.metric is MESSAGES]
    return tuple(Fact("log", name, last.get(name, 0.0)) for name in sorted(every, key=lambda name: -last.get(name, 0.0)))


def build(config: Config, env: Env) -> Watcher:
    return SyslogWatcher(config, env)


KIND = Kind(
    name="syslog", config=Config, metrics=METRICS, build=build, events=RULES, once=once, glance=glance, concerns=concerns, facts=facts
)
