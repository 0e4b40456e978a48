"""A table's columns → rows of samples: which labels each has, which values count, and what becomes of two that are called alike.

Law: pure; as many rows as the profile allows, in the order of their numbers, so that what is cut is the same each time.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from agent.model import Sample
from agent.snmp.interfaces import LONGEST
from agent.snmp.look import Look, Row, Series
from agent.snmp.profile import Column as ColumnSpec
from agent.snmp.profile import Label, Profile, Reading, Table, TextFrom, Where
from agent.snmp.values import index_text, number, text
from agent.snmp.wire import Column, Oid

if TYPE_CHECKING:
    from agent.snmp.poll import Engine


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
