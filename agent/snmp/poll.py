"""All that is known of a device, from look to look: which profiles apply, what is read when, and what becomes of the answers.

Law: no socket, no clock, no loop. `Engine.look` is a generator: it yields Get or Walk, is sent what the client found (agent/snmp/wire.py)
or has its Failure thrown in, and returns a Picture. A table that can't be read costs that table. Only columns that are exposed are read.
Everything is bounded: rows by the profile, series by `series`, state by what was seen in the last hour.

    hello.py    the first question        sources.py   what is read, and how often     values.py   numbers and texts of answers
    look.py     one look under way        rows.py      a table → samples               counters.py what counters really counted
"""

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from agent.collector import Failure
from agent.detect.seen import Bridge, DeviceIdentity, RouterArp
from agent.model import Event, Metric, Sample
from agent.snmp import interfaces, metrics
from agent.snmp.counters import Counters
from agent.snmp.hello import DESCR, HELLO, KIND, NAME, UPTIME, identity, integer, uptime_of, went_back
from agent.snmp.interfaces import Interfaces, clean
from agent.snmp.look import Ask, Get, Late, Look, Picture, Row, Series, Steps, Walk
from agent.snmp.profile import Profile, Reading, ordered
from agent.snmp.sources import OWN, Names, Rows, Singles, Source
from agent.snmp.values import tidy
from agent.snmp.wire import Oid, TooMuch, Value

AGAIN = 6 * 3600.0  # and at which profiles apply
FORGET = 3600.0
FRAME = 84  # bytes that the shortest frame takes on the wire


class Engine:
    """All that is known of a device, from look to look.

    wanted: the names of the profiles to use; None: those that apply; `raw`: the device's own counters, for a look by hand
    """

    def __init__(
        self,
        device: str,
        library: Mapping[str, Profile],
        *,
        wanted: Sequence[str] | None = None,
        rules: interfaces.Rules | None = None,
        series: int = 1000,
        interval: float = 60.0,
        up_once: Iterable[str] = (),
        rebased: Iterable[str] = (),
    ) -> None:
        self.device, self.series, self.interval = device, series, interval
        self._library, self._wanted = library, wanted
        self.interfaces = Interfaces(rules or interfaces.Rules(), up_once)
        self.counters = Counters(rebased)
        self.narrow = False  # whether some interface counts in 32 bit
        self.began: Mapping[str, int] = {}  # ifCounterDiscontinuityTime, by name
        self.said: dict[str, dict[str, str]] = {}  # by profile: model, version, serial
        self.arp: RouterArp | None = None
        self.bridge: Bridge | None = None
        self.profiles: list[Profile] | None = None
        self.failures: dict[str, int] = {}
        self.restarts = 0
        self.capped = 0
        self._sources: list[Source] = []
        self._failing: set[str] = set()
        self._chosen = ("", -math.inf)
        self._has: dict[Oid, bool] = {}
        self._hello: tuple[Oid, ...] = HELLO
        self._values: Mapping[Oid, Value] = {}
        self._boot: tuple[float, float, float] | None = None  # when, sysUpTime's ticks, the device's uptime
        self._epoch = 0
        self._counts = (0, 0, 0)  # values refused, tables cut, interfaces cut

    def use(self, library: Mapping[str, Profile]) -> None:
        """Takes other profiles; at the next look they are chosen anew."""
        self._library, self._chosen = library, ("", -math.inf)

    # -- the look -------------------------------------------------------------------------------------------------------------------

    def look(self, now: float) -> Generator[Ask, Any, Picture]:
        """Raises Failure where the device doesn't answer at all."""
        picture = Picture()
        values: Mapping[Oid, Value] = yield Get(self._hello)
        if not values:
            raise Failure("answer", "it answers, but shows nothing: the view of this community or user leaves out even the system group")
        slow, renamed = self._greet(values, now, picture)
        look = Look(now, slow, renamed, self._epoch)
        self.arp = self.bridge = None
        try:
            kind = identity(values, KIND)
            if slow or self._chosen[0] != kind or now >= self._chosen[1] + AGAIN:
                yield from self._choose(kind, now)
            yield from self._read(look, picture)
        except Failure as e:
            picture.failure = e
        self._counts = (look.refused, look.cut, 0)
        self.counters.forget(now - FORGET)
        self._finish(picture)
        return picture

    def _greet(self, values: Mapping[Oid, Value], now: float, picture: Picture) -> tuple[bool, bool]:
        """Takes the first answers; whether everything is to be read anew, and whether interfaces may have come, gone or changed."""
        before, self._values = self._values, values
        uptime, ticks = uptime_of(values), integer(values, UPTIME)
        if self._hello is HELLO:
            self._hello = tuple(oid for oid in HELLO if oid in values or oid in (KIND, NAME, UPTIME))
        slow = not before
        renamed = any(integer(before, oid) != integer(values, oid) for oid in (interfaces.IF_NUMBER, interfaces.TABLE_CHANGED))
        if self._boot and went_back(self._boot[1], ticks, now - self._boot[0]):
            self._epoch, slow = self._epoch + 1, True
            self._hello = HELLO
            if uptime < self._boot[2] or uptime < 0:
                self.restarts += 1
                said = {"device": self.device, "uptime": f"{uptime:.0f}"}
                picture.events.append(Event("device_restarted", "info", f"{self.device} was restarted {uptime:.0f} s ago", said))
        self._boot = (now, ticks, uptime)
        return slow, renamed

    def _choose(self, kind: str, now: float) -> Steps:
        """Which profiles apply: by the kind of the device, then by what it has."""
        if self._wanted is not None:
            chosen = [self._library[name] for name in self._wanted if name in self._library]
        else:
            oid = self._values[KIND].value if KIND in self._values else ()
            may = [p for p in self._library.values() if not p.when.kinds or any(_begins(oid, k) for k in p.when.kinds)]
            there = yield from self._there({tuple(o) for p in may for o in (*p.when.has, *p.when.lacks)})
            chosen = [p for p in may if (not p.when.has or there & set(p.when.has)) and not there & set(p.when.lacks)]
        chosen = ordered(chosen)
        if chosen != self.profiles:
            self.profiles = chosen
            self._sources = list(self._make(chosen))
            self.said = {}
        self._chosen = (kind, now)

    def _there(self, oids: set[Oid]) -> Steps:
        """Which of these the device has, itself or something below. What a slow device has said when its time is up isn't asked again."""
        self._has.update(dict.fromkeys((yield Get(tuple(sorted(oids)))), True))
        silent = 0
        for oid in sorted(oids - set(self._has)):
            try:
                self._has[oid] = bool((yield Walk((oid,), 1, 1, "what it has"))[oid])
                silent = 0
            except TooMuch:
                self._has[oid] = True
            except Failure as e:
                silent = silent + 1 if e.reason == "timeout" else 0
                if isinstance(e, Late) or silent == 2 or e.reason not in ("timeout", "answer", "auth"):
                    raise
                self._has[oid] = False
        has, self._has = self._has, {}
        return {oid for oid in oids if has[oid]}

    def _make(self, profiles: Sequence[Profile]) -> Iterator[Source]:
        labels = [label for p in profiles for t in p.tables for label in t.labels.values()]
        if any(label.interface is not None for label in labels) or any(p.profile in OWN for p in profiles):
            yield Names(self, Profile(profile="interfaces", every=1.0))
        for p in profiles:
            if p.scalars or p.identity != Profile(profile="x").identity:
                yield Singles(self, p)
        for p in profiles:
            if p.profile in OWN:
                yield OWN[p.profile](self, p)
            yield from (Rows(self, p, table) for table in p.tables)

    def _read(self, look: Look, picture: Picture) -> Steps:
        """Every source that is due. One that fails costs itself; two in a row that stay silent, and the device has gone."""
        silent = 0
        todo = [source for source in self._sources if source.due(look)]
        failed: dict[str, Failure] = {}
        while todo:
            source, heard = todo[0], look.heard
            try:
                yield from source.read(look)
                source.last, silent = look.now, silent if look.heard == heard else 0
            except Failure as e:
                silent = silent + 1 if e.reason == "timeout" else 0
                if isinstance(e, Late) or silent == 2 or e.reason not in ("timeout", "answer", "auth"):
                    self._lost(todo)
                    raise
                self._lost([source])
                failed.setdefault(source.profile.profile, e)
            todo.pop(0)
        self._tell({s.profile.profile for s in self._sources if s.last == look.now or s.rows}, failed, picture)

    def _lost(self, sources: Iterable[Source]) -> None:
        for name in {source.profile.profile for source in sources}:
            self.failures[name] = self.failures.get(name, 0) + 1
        for source in sources:
            source.rows, source.slow_at, source.last = [], -math.inf, -math.inf

    def _tell(self, well: set[str], failed: Mapping[str, Failure], picture: Picture) -> None:
        for name in sorted(set(failed) - self._failing):
            fields = {"device": self.device, "profile": name, "reason": failed[name].reason, "detail": failed[name].detail}
            said = f"{self.device}: a table of {name} can't be read: {failed[name].detail}"
            picture.events.append(Event("snmp_table_failed", "warning", said, fields))
        for name in sorted((self._failing & well) - set(failed)):
            fields = {"device": self.device, "profile": name}
            picture.events.append(Event("snmp_table_back", "info", f"{self.device}: the tables of {name} can be read again", fields))
        self._failing = (self._failing - well) | set(failed)

    # -- what becomes of it ---------------------------------------------------------------------------------------------------------

    def samples(
        self, look: Look, metric: Metric, reading: Reading, oid: Oid, value: Value, found: float, given: Mapping[str, str]
    ) -> Iterator[Sample]:
        """The series that a value becomes."""
        if reading.states:
            for state in dict.fromkeys(reading.states.values()):
                yield metric(float(reading.states.get(int(found)) == state), *(given.get(n, state) for n in metric.labels))
            return
        labels = tuple(given[name] for name in metric.labels)
        if reading.true:
            found = float(found in reading.true)
        elif metric.type == "counter" and value.kind.startswith("counter"):
            counted = self._count(look, metric, labels, oid, value, given.get("interface", ""))
            if counted is None:
                return
            found = counted * reading.scale
        else:
            found *= reading.scale
        if metric is metrics.SPEED:
            self.interfaces.speed[labels[0]] = found
        yield Sample(metric, labels, tidy(found))

    def _count(self, look: Look, metric: Metric, labels: tuple[str, ...], oid: Oid, value: Value, interface: str) -> float | None:
        self.narrow |= value.kind == "counter32" and bool(interface)
        speed = self.interfaces.speed.get(interface, 0.0)
        limit = speed if "_bytes_" in metric.name else speed / FRAME
        epoch = (look.epoch, self.began.get(interface, 0) if value.kind == "counter32" else 0)
        return self.counters.take("|".join((metric.name, *labels)), oid, value, look.now, epoch, limit)

    def _finish(self, picture: Picture) -> None:
        """All rows into series, each series once, and no more than may be."""
        values = self._values
        picture.identity = self._who(values)
        picture.description = clean(values[DESCR].value, 300) if DESCR in values else ""
        picture.profiles = [p.profile for p in self.profiles or ()]
        picture.arp, picture.bridge = self.arp, self.bridge
        always = list(self._always(picture))
        kept, cut = self._fit(self.series - len(always) - len(self.failures) - 6)
        gone = {s.labels[0] for row in cut for s in row if s.metric.labels[:1] == ("interface",)}
        gone -= {s.labels[0] for row in kept for s in row if s.metric.labels[:1] == ("interface",)}
        refused, tables, _ = self._counts
        n = sum(map(len, cut))
        picture.samples = [*always, *(s for row in kept for s in row)]
        picture.samples += [metrics.SERIES_CAPPED(float(n)), metrics.REFUSED(float(refused)), metrics.ROWS_CUT(float(tables))]
        states = {"shown": len(self.interfaces.shown) - len(gone), "filtered": self.interfaces.filtered, "capped": len(gone)}
        if self.interfaces.all:
            picture.samples += [metrics.INTERFACES(float(count), state) for state, count in states.items()]
        picture.samples += [metrics.TABLE_FAILURES(float(count), name) for name, count in sorted(self.failures.items())]
        if n and not self.capped:
            said = f"{self.device} has {n + len(picture.samples)} series, {n} more than `series` allows: the least important are left out"
            picture.events.append(
                Event("snmp_capped", "warning", said, {"device": self.device, "left_out": str(n), "series": str(self.series)})
            )
        self.capped = n

    def _fit(self, room: int) -> tuple[list[Row], list[Row]]:
        """(rows that fit, rows that don't): the last of the least important go first, whole."""
        taken: set[Series] = set()
        rows: list[Row] = []
        for row in (row for source in self._sources for row in source.rows):
            fresh = [s for s in row if (s.metric, s.labels) not in taken]
            taken.update((s.metric, s.labels) for s in fresh)
            rows += [fresh] if fresh else []
        used = fits = 0
        for row in rows:
            used += len(row)
            if used > room:
                break
            fits += 1
        return rows[:fits], rows[fits:]

    def _always(self, picture: Picture) -> Iterator[Sample]:
        who = picture.identity
        yield metrics.DEVICE_INFO(1.0, who.name, who.model, who.version, who.serial)
        if who.uptime >= 0:
            yield metrics.UPTIME(who.uptime)
        yield metrics.RESTARTS(float(self.restarts))
        yield from (metrics.PROFILE_INFO(1.0, name) for name in picture.profiles)

    def _who(self, values: Mapping[Oid, Value]) -> DeviceIdentity:
        said: dict[str, str] = {}
        for profile in self.profiles or ():
            said = {**self.said.get(profile.profile, {}), **said}
        name, kind = identity(values, NAME), identity(values, KIND)
        return DeviceIdentity(
            self.device, name, kind, said.get("model", ""), said.get("version", ""), said.get("serial", ""), uptime_of(values)
        )


def _begins(oid: object, start: Sequence[int]) -> bool:
    return isinstance(oid, tuple) and oid[: len(start)] == tuple(start)
