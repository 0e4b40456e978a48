"""What is read of a device, each at its own pace: names of interfaces, single values, tables, who is where.

Law: pure; a source's `read` is a generator as Engine.look is. Its rows stand until it is read again. Names, descriptions and speeds are
read every SLOW seconds, and at once where the device was restarted or shows an interface that wasn't there.
"""

import abc
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from agent.snmp import forwarding, interfaces, metrics
from agent.snmp.look import Look, Row, Steps
from agent.snmp.profile import Column as ColumnSpec
from agent.snmp.profile import Label, Profile, Single, Table, Where
from agent.snmp.rows import Build
from agent.snmp.values import number, text
from agent.snmp.wire import Column, Oid, Value

if TYPE_CHECKING:
    from agent.snmp.poll import Engine

SLOW = 600.0  # seconds between two looks at what hardly changes


class Source(abc.ABC):
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

    @abc.abstractmethod
    def read(self, look: Look) -> Steps:
        """Asks for what is due now, and makes `rows` of the answers."""


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
