"""One look under way: what it may ask (Get, Walk), what it has read, and the Picture that it ends with.

Law: pure. Nothing is read twice in one look; a table that is too long is cut, and counted.
"""

import dataclasses
from collections.abc import Generator, Iterable
from typing import Any, NamedTuple, TypeAlias

from agent.collector import Failure
from agent.detect.seen import Bridge, DeviceIdentity, RouterArp
from agent.model import Event, Metric, Sample
from agent.snmp.profile import Reading
from agent.snmp.values import number
from agent.snmp.wire import Column, Oid, TooMuch, Value


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
