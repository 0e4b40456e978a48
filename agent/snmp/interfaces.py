"""Interfaces of a device: what each is called, and which are shown.

Law: a name is ifName, else ifDescr, else the number; two that are called alike get their numbers behind (`name#7`); bytes that are no
text are visible as such, and no name is longer than 64 characters. What is shown follows from the rules, from the device, and from what
was up once: an interface that was shown stays, or nobody could be told that it went down. Names of PPP sessions (`<pppoe-budi>`) are names
of people: those are shown only where a rule keeps them.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from agent.snmp.wire import Column, Oid, Value

LONGEST = 64
MOST = 512  # interfaces of a device, and names remembered
UP = 1
ALIVE = frozenset({1, 4, 5})  # up, unknown (tunnels that know no better), dormant (waits for a call)
# IANAifType: other, softwareLoopback, propVirtual, tunnel, l2vlan, l3ipvlan, ipForward, mplsTunnel, mpls, bridge
VIRTUAL = frozenset({1, 24, 53, 131, 135, 136, 142, 150, 166, 209})
PERSON = re.compile(r"<.*>")

IF_NUMBER: Oid = (1, 3, 6, 1, 2, 1, 2, 1, 0)
TABLE_CHANGED: Oid = (1, 3, 6, 1, 2, 1, 31, 1, 5, 0)
_ENTRY: Oid = (1, 3, 6, 1, 2, 1, 2, 2, 1)
DESCR, TYPE, OPER = ((*_ENTRY, n) for n in (2, 3, 8))
NAME: Oid = (1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 1)
DISCONTINUITY: Oid = (1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 19)


@dataclasses.dataclass(frozen=True)
class Rules:
    """`keep` wins over `drop`, and both over the rest. Patterns are searched for in the name: `^ether` is one that begins so."""

    keep: tuple[re.Pattern[str], ...] = ()
    drop: tuple[re.Pattern[str], ...] = ()
    down: bool = False
    virtual: bool = False

    def shows(self, name: str, kind: int, alive: bool, remembered: bool) -> bool:
        if any(p.search(name) for p in self.keep):
            return True
        if any(p.search(name) for p in self.drop) or PERSON.fullmatch(name):
            return False
        return (self.virtual or kind not in VIRTUAL) and (self.down or alive or remembered)


def clean(raw: object, longest: int = LONGEST) -> str:
    """A device's text as a label: what is no UTF-8 shows as \\xff, control characters go, and its length is bounded."""
    if not isinstance(raw, bytes):
        return ".".join(map(str, raw)) if isinstance(raw, tuple) else str(raw)
    text = raw[: 4 * longest + 64].decode("utf-8", "backslashreplace")
    text = "".join(c for c in text if c.isprintable() or c == " ").strip()
    return text if len(text) <= longest else text[: longest - 1] + "…"


def names(found: Mapping[int, Iterable[Value | None]]) -> dict[int, str]:
    """ifIndex → name, from what might be its name, best first."""
    plain = {i: next((t for v in texts if v and (t := clean(v.value))), str(i)) for i, texts in found.items()}
    often = Counter(plain.values())
    return {i: name if often[name] == 1 else f"{name[: LONGEST - len(str(i)) - 1]}#{i}" for i, name in plain.items()}


class Interfaces:
    """What is known of them now. `up_once`: names that were up; the next run of the agent is told of them."""

    def __init__(self, rules: Rules, up_once: Iterable[str] = ()) -> None:
        self.rules, self.up_once = rules, set(up_once)
        self.all: dict[int, str] = {}
        self.shown: dict[int, str] = {}
        self.speed: dict[str, float] = {}  # bytes a second, by name
        self.known = False  # whether names are right: not while they are being read again, nor where that failed
        self.changed = False  # since the look before: something went up or down
        self._kinds: dict[int, int] = {}
        self._oper: dict[int, int] = {}

    def unknown(self, indexes: Iterable[int]) -> bool:
        return any(i not in self.all for i in indexes)

    def name(self, name: Column, descr: Column, kind: Column, indexes: Iterable[int]) -> None:
        """Takes the slow columns."""
        rows = sorted({*indexes, *_indexes(name)})[:MOST]
        self.all = names({i: (name.get((i,)), descr.get((i,))) for i in rows})
        there = set(self.all.values())
        self.speed = {name: speed for name, speed in self.speed.items() if name in there}
        self.known = True
        self._kinds = _numbers(kind)

    def label(self, index: int) -> str | None:
        """What series of this interface say; None: it isn't shown. A device that has no list of interfaces has numbers only."""
        if not self.known:
            return None
        return self.shown.get(index) if self.all else str(index)

    def judge(self, oper: Column) -> None:
        """Takes ifOperStatus, and decides what is shown."""
        now = _numbers(oper)
        self.changed, self._oper = now != self._oper, now
        self.shown = {}
        for i, name in self.all.items():
            state = now.get(i, 4)  # some switches say it of their VLANs only, and count of their ports
            if self.rules.shows(name, self._kinds.get(i, 6), state in ALIVE, name in self.up_once):
                self.shown[i] = name
                if state == UP and name not in self.up_once:
                    self._remember(name)

    def _remember(self, name: str) -> None:
        if len(self.up_once) >= MOST:
            self.up_once &= set(self.all.values())
        if len(self.up_once) < MOST:
            self.up_once.add(name)

    @property
    def filtered(self) -> int:
        return len(self.all) - len(self.shown)

    @property
    def up(self) -> int:
        return sum(self._oper.get(i) == UP for i in self.shown)


def _indexes(column: Column) -> Iterable[int]:
    return (index[0] for index in column if len(index) == 1)


def _numbers(column: Column) -> dict[int, int]:
    return {index[0]: n for index, v in column.items() if len(index) == 1 and isinstance(n := v.value, int)}
