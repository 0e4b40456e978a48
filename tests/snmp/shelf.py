"""A device on the shelf: rows of OIDs that answer Engine.look's questions at once, without a network."""

import bisect
from collections.abc import Callable, Mapping

from agent.collector import Failure
from agent.snmp.look import Get, Picture, Walk
from agent.snmp.poll import Engine
from agent.snmp.wire import Kind, Oid, TooMuch, Value, parse_oid
from tests.snmp.recording import Row

KINDS: Mapping[int, Kind] = {
    2: "integer", 4: "string", 6: "oid", 64: "address", 65: "counter32", 66: "gauge32", 67: "timeticks", 68: "opaque", 70: "counter64",
}  # fmt: skip
Rows = dict[Oid, Value]


def recorded(rows: Mapping[Oid, Row]) -> Rows:
    return {oid: Value(KINDS[row.tag], row.value) for oid, row in rows.items() if row.tag in KINDS}


def value(of: object) -> Value:
    """An int is an integer, a text a string, a Value itself."""
    if isinstance(of, Value):
        return of
    return Value("integer", of) if isinstance(of, int) else Value("string", of if isinstance(of, bytes) else str(of).encode())


class Shelf:
    """Answers from `rows`, and remembers what was asked. `broken`: prefixes of columns that fail when they are walked."""

    def __init__(self, rows: Mapping[str, object]) -> None:
        self.rows: Rows = {}
        self.put(rows)
        self.asked: list[Get | Walk] = []
        self.broken: dict[Oid, Failure] = {}

    def put(self, rows: Mapping[str, object]) -> None:
        self.rows |= {parse_oid(oid): value(v) for oid, v in rows.items()}

    def drop(self, prefix: str) -> None:
        start = parse_oid(prefix)
        self.rows = {oid: v for oid, v in self.rows.items() if oid[: len(start)] != start}

    def answer(self, ask: Get | Walk) -> dict:
        self.asked.append(ask)
        if isinstance(ask, Get):
            return {oid: self.rows[oid] for oid in ask.oids if oid in self.rows}
        for start, failure in self.broken.items():
            if any(oid[: len(start)] == start for oid in ask.columns):
                raise failure
        names = sorted(self.rows)
        found = {}
        for column in ask.columns:
            at = bisect.bisect_left(names, column)
            below = [n for n in names[at:] if n[: len(column)] == column and n != column]
            found[column] = {n[len(column) :]: self.rows[n] for n in below}
        if any(len(rows) > ask.most for rows in found.values()):
            raise TooMuch("more rows than were allowed", {c: dict(list(rows.items())[: ask.most]) for c, rows in found.items()})
        return found

    def walked(self) -> list[Oid]:
        return [oid for ask in self.asked if isinstance(ask, Walk) for oid in ask.columns]


def look(engine: Engine, shelf: Shelf, now: float, answer: Callable[[Get | Walk], dict] | None = None) -> Picture:
    """One whole look."""
    steps = engine.look(now)
    shelf.asked = []
    ask = next(steps)
    try:
        while True:
            try:
                found = (answer or shelf.answer)(ask)
            except Failure as e:
                ask = steps.throw(e)
            else:
                ask = steps.send(found)
    except StopIteration as e:
        return e.value


def series(picture: Picture, name: str) -> dict[tuple[str, ...], float]:
    """The series of a metric, by labels."""
    return {s.labels: s.value for s in picture.samples if s.metric.name == f"ronda_snmp_{name}"}
