"""The contract of a detector: the rule that it stands for, what it says, what it may ask for.

Law: a detector is pure: no clock, no I/O, no randomness; time is an argument (monotonic seconds). Its state is bounded, whoever is on the
wire, and what must outlive a restart goes through `remember` and `recall`. It says what it found; whether somebody is told, when and how
often again is the casebook's business (agent/detect/casebook.py). Text of a finding holds no address, MAC or name: those are fields.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from agent.detect.seen import Frame, Observation

ATTACK = "19"  # the version of MITRE ATT&CK that the techniques' numbers are of: v19 moved some

Grade = Literal["critical", "high", "medium", "low", "info"]
GRADES: tuple[Grade, ...] = ("critical", "high", "medium", "low", "info")
Confidence = Literal["certain", "likely", "unknown"]
Category = Literal["network", "intrusion_detection", "authentication", "iam", "configuration", "file", "process", "host", "package"]


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """What one detector stands for. `name` is the label of ronda_condition_active, the event's kind and the key in texts.

    catalogue:  its number in the catalogue of detections, e.g. "L05"
    techniques: MITRE ATT&CK, version ATTACK
    learning:   seconds from its first look until it is trusted: until then it says so, and nobody is told more than `info`
    quiet:      seconds without news after which an open case is closed, where the detector doesn't close it itself; 0: it does
    """

    name: str
    catalogue: str
    version: str
    category: Category
    techniques: tuple[str, ...] = ()
    learning: float = 0.0
    quiet: float = 0.0


class Finding(NamedTuple):
    """What a detector says. Cases are told apart by (rule, key); findings of an open case add to it.

    key:       which condition of the rule: an address, a MAC, a path; stays on this box
    state:     "open": it is so (again); "closed": it is so no longer
    confirmed: a second, independent observation agrees: without one nothing pages
    message:   one line of English for the box's own journal, without addresses, MACs and names
    fields:    evidence under ECS names (source.mac, source.ip, …) and ronda.* for our own; raw
    source:    who did it, for limits per source; "" where nobody is accused
    frames:    packets that show it; a few
    """

    rule: str
    key: str
    grade: Grade
    confidence: Confidence
    message: str
    state: Literal["open", "closed"] = "open"
    confirmed: bool = False
    fields: Mapping[str, str] = {}
    source: str = ""
    times: int = 1
    frames: tuple[Frame, ...] = ()


class Ask(NamedTuple):
    """A detector's wish for one look: "arp" probes an address (who has it?), "dhcp" asks for offers, "canary" asks for another name."""

    probe: Literal["arp", "dhcp", "canary"]
    target: str = ""


Said: TypeAlias = Finding | Ask


class Coverage(NamedTuple):
    """How much a detector sees now: 1 all, 0.5 a part, 0 nothing. `why` is a key of docs' table of blind spots; "" where it sees all."""

    share: float
    why: str = ""


class Detector(Protocol):
    """`wants`: the types of observations that it is given.

    Optional: `accept(key, at)`, called when an operator says that the case of that key is innocent, so that a detector that learns can
    take up what it found as known; without it the case is only suppressed (agent/detect/suppressions.py).
    """

    rule: ClassVar[Rule]
    wants: ClassVar[tuple[type, ...]]

    def see(self, seen: Any, at: float) -> Iterable[Said]: ...

    def tick(self, at: float) -> Iterable[Said]:
        """Called every second or so, also when nothing is seen."""
        ...

    def coverage(self, able: frozenset[str]) -> Coverage:
        """`able`: what this Ronda can do now: capture, send, log, root_files, ... (agent/detect/patrol.py)."""
        ...

    def remember(self) -> Mapping[str, Any]:
        """What must outlive a restart, as JSON; times as seconds of age are for the detector to work out with `recall`'s."""
        ...

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        """Takes up what `remember` gave in an earlier life. Raises ValueError, KeyError, TypeError for what it can't use."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Vouched:
    """What the operator vouches for (config): it is never a finding. macs are in small letters."""

    dhcp_servers: frozenset[str] = frozenset()
    routers: frozenset[str] = frozenset()  # MACs that may be the gateway or advertise themselves
    scanners: frozenset[str] = frozenset()  # addresses that may look at everything: the centre's probes, a scanner of Kominfo
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)  # least version by "mikrotik", …
    protected: frozenset[str] = frozenset()  # networks where nothing new belongs: "192.0.2.0/24", or "all"
    admins: frozenset[str] = frozenset()  # addresses and MACs from which routers are looked after
    important: tuple[str, ...] = ()  # regular expressions: interfaces of devices whose loss is told; (): the detector's own
    router_ports: frozenset[int] = frozenset()  # what the gateway may offer to the office; 161: SNMP with the community "public"


class Plain:
    """What most detectors share: nothing to do as time passes, nothing to remember, seeing all that is captured."""

    needs: ClassVar[str] = "capture"
    blind: ClassVar[str] = "no_capture"

    def tick(self, at: float) -> Iterable[Said]:  # noqa: ARG002  (the contract's)
        return ()

    def coverage(self, able: frozenset[str]) -> Coverage:
        return Coverage(1.0) if self.needs in able else Coverage(0.0, self.blind)

    def remember(self) -> Mapping[str, Any]:
        return {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:  # noqa: ARG002  (the contract's)
        return None


K = TypeVar("K")
V = TypeVar("V")


class Table(Generic[K, V]):
    """A bounded table: the least recently used entry goes, and is counted. A detector's only way to keep something by source."""

    __slots__ = ("_rows", "forgotten", "most")

    def __init__(self, most: int) -> None:
        self.most, self.forgotten = most, 0
        self._rows: collections.OrderedDict[K, V] = collections.OrderedDict()

    def get(self, key: K) -> V | None:
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def put(self, key: K, value: V) -> V:
        self._rows[key] = value
        self._rows.move_to_end(key)
        if len(self._rows) > self.most:
            self._rows.popitem(last=False)
            self.forgotten += 1
        return value

    def pop(self, key: K) -> V | None:
        return self._rows.pop(key, None)

    def items(self) -> list[tuple[K, V]]:
        return list(self._rows.items())

    def values(self) -> list[V]:
        return list(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._rows


__all__ = [
    "ATTACK",
    "GRADES",
    "Ask",
    "Confidence",
    "Coverage",
    "Detector",
    "Finding",
    "Grade",
    "Observation",
    "Plain",
    "Rule",
    "Said",
    "Table",
    "Vouched",
]
