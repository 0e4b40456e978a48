"""One look at a device, as pure as can be: what is to be asked next, and what becomes of the answers.

Law: no socket, no clock, no loop. `Engine.look` is a generator: it yields Get or Walk, is sent what the client found (agent/snmp/wire.py)
or has its Failure thrown in, and returns a Picture. A table that can't be read costs that table. Only columns that are exposed are
read; names, descriptions and speeds every ten minutes, and at once where the device was restarted or shows an interface that wasn't there.
Everything is bounded: rows by the profile, series by `series`, state by what was seen in the last hour.
"""

import dataclasses
import math
import re
import struct
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from agent.collector import Failure
from agent.detect.seen import Bridge, DeviceIdentity, RouterArp
from agent.model import Event, Metric, Sample
from agent.snmp import forwarding, interfaces, metrics
from agent.snmp.counters import WRAP, Counters
from agent.snmp.interfaces import LONGEST, Interfaces, clean
from agent.snmp.profile import Column as ColumnSpec
from agent.snmp.profile import Label, Profile, Reading, Single, Table, TextFrom, Where, ordered
from agent.snmp.wire import Column, Oid, TooMuch, Value

SLOW = 600.0  # seconds between two looks at what hardly changes
AGAIN = 6 * 3600.0  # and at which profiles apply
FORGET = 3600.0
FRAME = 84  # bytes that the shortest frame takes on the wire

DESCR: Oid = (1, 3, 6, 1, 2, 1, 1, 1, 0)
KIND: Oid = (1, 3, 6, 1, 2, 1, 1, 2, 0)
UPTIME: Oid = (1, 3, 6, 1, 2, 1, 1, 3, 0)
NAME: Oid = (1, 3, 6, 1, 2, 1, 1, 5, 0)
HOST_UPTIME: Oid = (1, 3, 6, 1, 2, 1, 25, 1, 1, 0)  # hrSystemUptime: of the box; sysUpTime is of the program that answers
ENGINE_TIME: Oid = (1, 3, 6, 1, 6, 3, 10, 2, 1, 3, 0)  # snmpEngineTime: seconds; sysUpTime turns over after 497 days
HELLO = (KIND, DESCR, NAME, UPTIME, HOST_UPTIME, ENGINE_TIME, interfaces.IF_NUMBER, interfaces.TABLE_CHANGED)


class Get(NamedTuple):
    oids: tuple[Oid, ...]


class Walk(NamedTuple):
    """Columns side by side. `repetitions`: rows a request may ask for; 0: as the client likes."""

    columns: tuple[Oid, ...]
    most: int
    repetitions: int = 0
    what: str = ""  # for people who wait


Ask: TypeAlias = Get | Walk
Steps: TypeAlias = Generator[Ask, Any, Any]
Series: TypeAlias = tuple[Metric, tuple[str, ...]]
Row: TypeAlias = list[Sample]


class Late(Failure):
    """Thrown into a look whose time is up."""


@dataclasses.dataclass(slots=True)
class Picture:
    """What a look has found. `failure`: why it ended before everything was read."""

    samples: list[Sample] = dataclasses.field(default_factory=list)
    events: list[Event] = dataclasses.field(default_factory=list)
    identity: DeviceIdentity = DeviceIdentity("")  # noqa: RUF009  (a NamedTuple is immutable)
    description: str = ""
    profiles: list[str] = dataclasses.field(default_factory=list)
    arp: RouterArp | None = None
    bridge: Bridge | None = None
    failure: Failure | None = None


class Look:
    """One look under way: what was read in it, so that nothing is read twice, and what stood out."""

    def __init__(self, now: float, slow: bool, renamed: bool, epoch: Any) -> None:
        self.now, self.slow, self.renamed, self.epoch = now, slow, renamed, epoch
        self.read: dict[Oid, Column] = {}
        self.refused = 0
        self.cut = 0
        self.heard = 0  # answers

    def get(self, oids: Iterable[Oid]) -> Steps:
        """Those values; nothing is asked for none."""
        wanted = tuple(dict.fromkeys(oids))
        if not wanted:
            return {}
        values = yield Get(wanted)
        self.heard += 1
        return values

    def columns(self, oids: Iterable[Oid], most: int, what: str = "") -> Steps:
        """Those columns; a table that is longer than `most` is cut, and counted."""
        wanted = tuple(dict.fromkeys(oid for oid in oids if oid not in self.read))
        if wanted:
            try:
                self.read.update((yield Walk(wanted, most, 0, what)))
                self.heard += 1
            except TooMuch as e:
                self.heard += 1
                self.cut += 1
                self.read.update({oid: dict(list(e.partial.get(oid, {}).items())[:most]) for oid in wanted})
        return {oid: self.read.get(oid, {}) for oid in oids}

    def number(self, value: Value, reading: Reading) -> float | None:
        found = number(value, reading.match)
        if found is None:
            self.refused += 1
        return found


class Source:
    """Something that is read at its own pace; its rows stand until it is read again."""

    of_interfaces = False  # whether its rows are interfaces, and nothing else

    def __init__(self, engine: "Engine", profile: Profile) -> None:
        self.engine, self.profile = engine, profile
        self.rows: list[Row] = []
        self.last = -math.inf
        self.slow_at = -math.inf

    def due(self, look: Look) -> bool:
        return look.slow or look.now >= self.last + self.profile.every - self.engine.interval / 2

    def slowly(self, look: Look) -> bool:
        """Whether what hardly changes is read too; the next time for it is set."""
        if look.slow or (look.renamed and self.of_interfaces) or look.now >= self.slow_at - self.engine.interval / 2:
            self.slow_at = look.now + SLOW
            return True
        return False

    def read(self, look: Look) -> Steps:
        raise NotImplementedError


class Names(Source):
    """Which interfaces there are. Not a part of any profile: whoever says `interface` needs it."""

    of_interfaces = True

    def read(self, look: Look) -> Steps:
        found = self.engine.interfaces
        slow = self.slowly(look)
        columns = yield from look.columns((interfaces.OPER,), interfaces.MOST, "interfaces")
        oper = columns[interfaces.OPER]
        indexes = [index[0] for index in oper if len(index) == 1]
        look.renamed |= found.unknown(indexes)
        slow |= look.renamed
        if slow:
            found.known = False
            named = yield from look.columns((interfaces.NAME, interfaces.TYPE), interfaces.MOST, "names")
            without = any(not named[interfaces.NAME].get((i,)) or not named[interfaces.NAME][i,].value for i in indexes)
            descr: Mapping[Oid, Column] = {}
            if without or not named[interfaces.NAME]:
                descr = yield from look.columns((interfaces.DESCR,), interfaces.MOST, "names")
            more = [index[0] for index in descr.get(interfaces.DESCR, {}) if len(index) == 1]
            found.name(named[interfaces.NAME], descr.get(interfaces.DESCR, {}), named[interfaces.TYPE], [*indexes, *more])
        found.judge(oper)
        if self.engine.narrow and (self.engine.began or slow):
            yield from self._discontinuities(look)

    def _discontinuities(self, look: Look) -> Steps:
        """Where they count in 32 bit: when they began to. Devices that don't say it are asked every ten minutes only."""
        shown = self.engine.interfaces.shown
        values = yield from look.get((*interfaces.DISCONTINUITY, i) for i in shown)
        said = {name: values.get((*interfaces.DISCONTINUITY, i)) for i, name in shown.items()}
        self.engine.began = {name: v.value for name, v in said.items() if v and isinstance(v.value, int)}


class Singles(Source):
    """A profile's single values. Those that the device hasn't got are asked for every ten minutes only."""

    def __init__(self, engine: "Engine", profile: Profile) -> None:
        super().__init__(engine, profile)
        self._there: set[Oid] = set()

    def read(self, look: Look) -> Steps:
        who = {key: spec for key in ("model", "version", "serial") if (spec := getattr(self.profile.identity, key))}
        wanted = tuple(dict.fromkeys([s.oid for s in self.profile.scalars]))
        slow = self.slowly(look)
        asked = [*wanted, *(spec.oid for spec in who.values())] if slow else [oid for oid in wanted if oid in self._there]
        values: Mapping[Oid, Value] = yield from look.get(asked)
        if slow:
            self._there = set(values)
            self.engine.said[self.profile.profile] = {k: t for k, spec in who.items() if (t := text(values.get(spec.oid), spec))}
        self.rows = list(self._rows(look, values))

    def _rows(self, look: Look, values: Mapping[Oid, Value]) -> Iterator[Row]:
        for single in self.profile.scalars:
            if single.oid in values and (row := self._row(look, single, values[single.oid])):
                yield row

    def _row(self, look: Look, single: Single, value: Value) -> Row:
        metric = self.profile.metric(single.metric)
        found = look.number(value, single)
        if found is None or found in single.absent:
            return []
        return list(self.engine.samples(look, metric, single, single.oid, value, found, single.labels))


class Rows(Source):
    """A profile's table."""

    def __init__(self, engine: "Engine", profile: Profile, table: Table) -> None:
        super().__init__(engine, profile)
        self.table = table
        self._kept: dict[Oid, Column] = {}  # the slow columns, as last read
        self._due: dict[Oid, float] = {}  # when a column with a pace of its own is to be read again
        self._useless: set[Oid] = set()  # columns that the device hasn't got, or has said better elsewhere
        self._rows = 0  # how many the device has
        self._seen: set[Oid] = set()  # the rows of the last look
        self._labels = [label for label in table.labels.values() if label.oid]
        self.of_interfaces = [*table.labels.values()] == [Label(interface=1)]

    def _static(self) -> list[Oid]:
        """What hardly changes: labels, and what a value is multiplied with."""
        columns = self.table.columns
        found = [label.oid for label in self._labels if label.oid]
        found += [spec.oid for c in columns for spec in c.info.values()] + [c.times for c in columns if c.times]
        return found

    def read(self, look: Look) -> Steps:
        slow = self.slowly(look)
        static = self._static()
        if slow:
            self._useless = set()
            self._kept.update((yield from look.columns(static, self.table.most, self.profile.profile)))
        found = dict((yield from self._values(look, slow)))
        if self._strange(found) and not slow:
            self._kept.update((yield from look.columns(static, self.table.most, self.profile.profile)))
        found.update({oid: self._kept.get(oid, {}) for oid in [*static, *self._due]})
        self.rows = list(Build(self.engine, look, self.profile, self.table, found).rows())

    def _strange(self, found: Mapping[Oid, Column]) -> bool:
        """Whether a row has come of which the labels aren't known."""
        known = [self._kept.get(label.oid, {}) for label in self._labels if label.oid]
        before, self._seen = self._seen, {index for values in found.values() for index in values}
        return any(index not in column for index in self._seen - before for column in known)

    def _values(self, look: Look, slow: bool) -> Steps:
        """The columns that are read each time, the second best only where the best isn't there."""
        found: dict[Oid, Column] = {}
        second: list[ColumnSpec] = []
        best: dict[tuple[str, str], ColumnSpec] = {}
        first: list[Oid] = [w.oid for w in self._wheres()]
        for column in self.table.columns:
            if column.oid is None:
                continue
            key = (column.metric, repr(sorted(column.labels.items())))
            if key in best and not column.where and not best[key].where:
                second.append(column)
                continue
            best.setdefault(key, column)
            first += [column.oid, *([column.minus] if column.minus else [])]
        if self.table.count:
            first.append(self.table.count.oid)
        found.update((yield from self._paced(look, slow, first, best.values())))
        self._rows = max((len(c) for c in found.values()), default=0)
        yield from self._second(look, slow, found, second, best)
        return found

    def _wheres(self) -> Iterator[Where]:
        yield from (c.where for c in self.table.columns if c.where)
        if self.table.count and self.table.count.where:
            yield self.table.count.where

    def _paced(self, look: Look, slow: bool, oids: Iterable[Oid], columns: Iterable[ColumnSpec]) -> Steps:
        """Those of the columns that are due; what is read more rarely goes to what is kept."""
        pace = {c.oid: c.every for c in columns if c.oid and c.every}
        due = [o for o, every in pace.items() if slow or self.engine.interfaces.changed or look.now >= self._due.get(o, -math.inf)]
        asked = [o for o in oids if (o not in pace or o in due) and o not in self._useless]
        found: dict[Oid, Column] = yield from self._few(look, slow, asked)
        for oid in due:
            self._due[oid] = look.now + (pace[oid] or SLOW) - self.engine.interval / 2
            self._kept[oid] = found.pop(oid, {})
        if slow:
            self._useless |= {oid for oid in asked if oid not in due and not found.get(oid)}
        return found

    def _few(self, look: Look, slow: bool, oids: Sequence[Oid]) -> Steps:
        """Of interfaces, only those that are shown are asked for where that is the minority."""
        shown, every = self.engine.interfaces.shown, self.engine.interfaces.all
        unread = [oid for oid in oids if oid not in look.read]
        if slow or not self.of_interfaces or not unread or 2 * len(shown) > len(every):
            return (yield from look.columns(oids, self.table.most, self.profile.profile))
        values = yield from look.get((*oid, i) for oid in unread for i in shown)
        found: dict[Oid, Column] = {oid: {(i,): v for i in shown if (v := values.get((*oid, i)))} for oid in unread}
        return found | {oid: look.read[oid] for oid in oids if oid in look.read}

    def _second(
        self, look: Look, slow: bool, found: dict[Oid, Column], second: Sequence[ColumnSpec], best: Mapping[tuple[str, str], ColumnSpec]
    ) -> Steps:
        wanted = []
        for column in second:
            first = best[column.metric, repr(sorted(column.labels.items()))].oid
            if column.oid is None or first is None or column.oid in self._useless:
                continue
            have = self._kept.get(first, {}) if first in self._due else found.get(first, {})
            if slow and not self._lacking(have, best[column.metric, repr(sorted(column.labels.items()))].absent):
                self._useless.add(column.oid)
                continue
            wanted.append(column)
        if wanted:
            oids = [c.oid for c in wanted if c.oid]
            found.update((yield from self._paced(look, slow, oids, wanted)))

    def _lacking(self, have: Column, absent: Sequence[int]) -> bool:
        """Whether some row has no value in this column."""
        there = {index for index, value in have.items() if number(value, "") is not None and value.value not in absent}
        if self.of_interfaces:
            return any((i,) not in there for i in self.engine.interfaces.shown)
        return not there or len(there) < self._rows


class Build:
    """A table's columns → rows of samples."""

    def __init__(self, engine: "Engine", look: Look, profile: Profile, table: Table, columns: Mapping[Oid, Column]) -> None:
        self.engine, self.look, self.profile, self.table, self.columns = engine, look, profile, table, columns
        self._times: dict[tuple[str, ...], int] = {}
        self._taken: dict[Series, Sample] = {}

    def rows(self) -> Iterator[Row]:
        if self.table.unique in ("first", "number"):
            yield from filter(None, map(self._row, self._indexes()))
        else:
            for index in self._indexes():
                self._row(index)
            yield from ([sample] for sample in self._taken.values())
        if self.table.count:
            column = self.columns.get(self.table.count.oid, {})
            n = sum(self._holds(self.table.count.where, index) for index in column)
            yield [self.profile.metric(self.table.count.metric)(float(n))]

    def _indexes(self) -> list[Oid]:
        """Every row's index, each once, in the device's order of numbers: what is cut is the same each time."""
        wanted = [c.oid for c in self.table.columns if c.oid] + [s.oid for c in self.table.columns for s in c.info.values()]
        return sorted({index for oid in wanted for index in self.columns.get(oid, {})})[: self.table.most]

    def _row(self, index: Oid) -> Row:
        labels = self._labels(index)
        if labels is None:
            return []
        row = list(self._readings(index, labels))
        if not row or self.table.unique == "first":
            fresh = [s for s in row if (s.metric, s.labels) not in self._taken]
        elif self.table.unique == "number":
            if any((s.metric, s.labels) in self._taken for s in row):
                row = list(self._readings(index, self._numbered(labels)))
            fresh = row
        else:
            for sample in row:
                self._join(sample)
            return row
        self._taken.update({(s.metric, s.labels): s for s in fresh})
        return fresh

    def _numbered(self, labels: dict[str, str]) -> dict[str, str]:
        """The labels of a row that is called like one before: its label of a text gets a number behind."""
        key = tuple(labels.values())
        self._times[key] = n = self._times.get(key, 1) + 1
        which = next((name for name, label in self.table.labels.items() if label.interface is None), next(iter(labels), ""))
        end = f"#{n}"
        return {name: (value[: LONGEST - len(end)] + end if name == which else value) for name, value in labels.items()}

    def _join(self, sample: Sample) -> None:
        key = (sample.metric, sample.labels)
        before = self._taken.get(key)
        both = (sample.value, before.value) if before else (sample.value,)
        value = sum(both) if self.table.unique == "sum" else min(both) if self.table.unique == "min" else max(both)
        self._taken[key] = sample._replace(value=value)

    def _labels(self, index: Oid) -> dict[str, str] | None:
        """None: a row of an interface that isn't shown, or that can't be named."""
        found = {}
        for name, label in self.table.labels.items():
            said = self._label(label, index)
            if said is None:
                return None
            found[name] = said
        return found

    def _label(self, label: Label, index: Oid) -> str | None:
        if label.oid:
            value = self.columns.get(label.oid, {}).get(index)
            said = text(value, TextFrom(oid=label.oid, match=label.match, names=label.names))
            if not said and label.match and value and value.value:
                return None  # a row that the profile doesn't mean
            return said or ".".join(map(str, index))
        if label.index == "text":
            return index_text(index)
        place = label.interface if label.interface is not None else int(label.index or 1)
        at = place - 1 if place > 0 else place
        if not -len(index) <= at < len(index):
            return None
        if label.interface is None:
            return label.names.get(index[at], str(index[at]))
        known = self.engine.interfaces
        return known.label(index[at])

    def _readings(self, index: Oid, labels: dict[str, str]) -> Iterator[Sample]:
        done: set[Series] = set()
        for column in self.table.columns:
            if not self._holds(column.where, index):
                continue
            for sample in self._one(column, index, labels, done):
                done.add((sample.metric, sample.labels))
                yield sample

    def _one(self, column: ColumnSpec, index: Oid, labels: dict[str, str], done: set[Series]) -> Iterable[Sample]:
        metric = self.profile.metric(column.metric)
        if column.info:
            said = {name: text(self.columns.get(spec.oid, {}).get(index), spec) for name, spec in column.info.items()}
            return [metric(1.0, *(({**labels, **column.labels, **said})[name] for name in metric.labels))]
        value = self.columns.get(column.oid, {}).get(index) if column.oid else None
        if value is None or column.oid is None:
            return ()
        given = {**labels, **column.labels}
        if not column.states and (metric, tuple(given[name] for name in metric.labels)) in done:
            return ()
        found = self.look.number(value, column)
        if found is None or found in column.absent:
            return ()
        found = self._arithmetic(column, index, found)
        if found is None:
            return ()
        return self.engine.samples(self.look, metric, column, column.oid, value, found, given)

    def _arithmetic(self, column: ColumnSpec, index: Oid, found: float) -> float | None:
        for oid in filter(None, (column.minus, column.times)):
            other = self.columns.get(oid, {}).get(index)
            by = self.look.number(other, Reading(metric=column.metric)) if other else None
            if by is None:
                return None
            found = found - by if oid == column.minus else found * by
        return found

    def _holds(self, where: Where | None, index: Oid) -> bool:
        if where is None:
            return True
        value = self.columns.get(where.oid, {}).get(index)
        if value is None:
            return False
        if isinstance(value.value, bytes):
            said = number(value, "")
            return said is not None and said in where.is_
        return value.value in where.is_


class Arp(Source):
    _tables: list[tuple[Oid, Oid]]  # those that the device has

    def read(self, look: Look) -> Steps:
        if self.slowly(look):
            self._tables = [*forwarding.ARP]
        found: dict[Oid, Column] = {}
        for columns in [*self._tables]:
            found.update((yield from look.columns(columns, forwarding.MOST_ARP, "ARP")))
            if not found[columns[0]]:
                self._tables.remove(columns)
        self.engine.arp = forwarding.arp(self.engine.device, found)


class Fdb(Source):
    def read(self, look: Look) -> Steps:
        columns = yield from look.columns((forwarding.VLAN_PORT, forwarding.VLAN_STATUS), forwarding.MOST_MACS, "MACs")
        if not columns[forwarding.VLAN_PORT]:
            columns = yield from look.columns((forwarding.MAC_PORT, forwarding.MAC_STATUS), forwarding.MOST_MACS, "MACs")
        ports = yield from look.columns((forwarding.PORT_INTERFACE,), interfaces.MOST, "ports")
        self.engine.bridge = found = forwarding.bridge(self.engine.device, {**columns, **ports}, self.engine.interfaces.all)
        self.rows = [[metrics.SHIPPED["ronda_snmp_bridge_entries"](float(len(found.ports)))]]


OWN = {"arp": Arp, "bridge": Fdb}  # profiles whose tables are no series: what reads them


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
        uptime, ticks = uptime_of(values), _int(values, UPTIME)
        if self._hello is HELLO:
            self._hello = tuple(oid for oid in HELLO if oid in values or oid in (KIND, NAME, UPTIME))
        slow = not before
        renamed = any(_int(before, oid) != _int(values, oid) for oid in (interfaces.IF_NUMBER, interfaces.TABLE_CHANGED))
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
            may = [p for p in self._library.values() if not p.when.kinds or any(begins(oid, k) for k in p.when.kinds)]
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


# -- pure helpers ------------------------------------------------------------------------------------------------------------------


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


def begins(oid: object, start: Sequence[int]) -> bool:
    return isinstance(oid, tuple) and oid[: len(start)] == tuple(start)


def identity(values: Mapping[Oid, Value], oid: Oid) -> str:
    return clean(values[oid].value, 128 if oid == KIND else LONGEST) if oid in values else ""


def _int(values: Mapping[Oid, Value], oid: Oid) -> int:
    value = values[oid].value if oid in values else -1
    return value if isinstance(value, int) else -1


def uptime_of(values: Mapping[Oid, Value]) -> float:
    """Seconds since the device was started, -1 where it doesn't say.

    Of the box where it tells that (hrSystemUptime) and the program that answers isn't older; else that program's own time, counted on by
    snmpEngineTime where sysUpTime has turned over (2^32 hundredths: 497 days).
    """
    ticks, host, engine = _int(values, UPTIME), _int(values, HOST_UPTIME), _int(values, ENGINE_TIME)
    if host >= 0 and host + 30_000 >= ticks:
        return host / 100
    if ticks < 0:
        return -1.0
    turns = round((engine * 100 - ticks) / WRAP) if engine > 0 else 0
    if turns > 0 and abs(engine * 100 - ticks - turns * WRAP) < 12_000:
        return engine + 0.0
    return ticks / 100


def went_back(before: float, now: float, seconds: float) -> bool:
    """Whether sysUpTime began anew: it is lower than it was, and hasn't only turned over (RFC 3418: after 497 days)."""
    if before < 0 or now < 0 or now >= before:
        return False
    return abs(before + seconds * 100 - WRAP - now) > 6_000 + seconds * 5


def tidy(value: float) -> float:
    """Without the dust of a scale: 0.1 * 237 is 23.7."""
    return float(f"{value:.12g}") if value == value and abs(value) < 1e12 else value
