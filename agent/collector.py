"""The contract of a collector: what it is given (Env), what it must be (Poller or Watcher), how it is declared (Kind).

Law: a collector knows nothing of intervals, offsets, concurrency, retries or sinks: the scheduler owns these.
- "I could not look" raises; the scheduler sets `ronda_collector_up` to 0. "I looked, and it is down" is `failed(reason)`.
- State between runs (counters, histograms) is fields of the object that `build` made; equal config means it is kept at a reload.
- Files are read below `env.root` only, time comes from `env.clock`, sockets from `env.net`: tests give others, nothing is patched.
"""

import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from agent.board import Board
from agent.clock import Clock
from agent.model import Concern, Event, Fact, Metric, Sample
from agent.structure import Duration, Host, LabelName, LabelValue, Source, Text

if TYPE_CHECKING:
    from agent.net import Net

REASONS = (
    "resolve", "timeout", "refused", "unreachable", "reset", "tls", "certificate",
    "status", "body", "rcode", "answer", "auth", "send", "internal",
)  # fmt: skip


class Traffic(NamedTuple):
    """Bytes both ways, IP headers included: what an uplink is billed for."""

    sent: int = 0
    received: int = 0

    def plus(self, more: "Traffic") -> "Traffic":
        return Traffic(self.sent + more.sent, self.received + more.received)


class Result(NamedTuple):
    """How a probe's run ended; the scheduler turns it into the ronda_probe_* metrics. Made by succeeded() and failed().

    detail:  for people: what was tried and what came back; may hold addresses, so it never becomes a label
    seconds: the probe's duration where the collector knows it better than the scheduler (icmp: the round-trip time)
    traffic: what the run cost the network, as far as the collector knows; look-ups of names are left out
    """

    reason: str
    detail: str = ""
    seconds: float | None = None
    traffic: Traffic = Traffic()


Seen = Sample | Event | Result


@dataclasses.dataclass(frozen=True, slots=True)
class Env:
    """The whole outside world. `root` is "/" or a fixture tree that holds proc/, sys/ and etc/.

    data:           where a kind may keep what it has learnt, in files that begin with its name; None: nothing is kept
    code, timezone: of the office, for ids that people say on the phone
    board:          what tasks know for one another
    """

    clock: Clock
    net: "Net"
    root: Path = Path("/")
    data: Path | None = None
    code: str = "XXX"
    timezone: str = "Asia/Jakarta"
    board: Board = dataclasses.field(default_factory=Board)


class Poller(Protocol):
    async def collect(self) -> Iterable[Seen]:
        """One look: all that was seen, or raises when it could not look. Called again only after it has returned.

        A poller that depends on its interval has a method `paced(seconds)` too: it is told when it looks less often than its config says.
        """
        ...


class Watcher(Protocol):
    def watch(self) -> AsyncIterator[Sequence[Sample | Event]]:
        """Yields pictures: the samples of a picture replace those of the last one, so what vanished is gone.

        A picture that holds events only leaves the samples as they are. Never retries: it raises, the scheduler restarts it.
        """
        ...


def succeeded(seconds: float | None = None) -> Result:
    """A probe's result: the target was reached and answered as expected."""
    return Result("", "", seconds)


def failed(reason: str, detail: str = "", seconds: float | None = None) -> Result:
    """A probe's result: I looked, and it is down. `reason` is one of REASONS."""
    if reason not in REASONS:
        raise ValueError(f"unknown reason {reason!r}")
    return Result(reason, detail or reason, seconds)


class Failure(Exception):  # noqa: N818  (it is an outcome, not an error of ours)
    """Raised inside a probe to end it with a reason of REASONS and a text for people."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason, self.detail = reason, detail or reason


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """The declaration of a kind, at the bottom of its file; `collectors.KINDS` lists them.

    config:   a frozen dataclass; `interval` and `timeout` (seconds) are fields of it; `target` too where the kind has one
    build:    makes the Poller or Watcher from a config and the world
    probe:    True where a run ends with succeeded() or failed(): the scheduler then adds the ronda_probe_* metrics
    reasons:  the reasons that a probe of this kind can give; each is exposed as 0 from the start
    needs:    privileges without which the kind can't look at all, e.g. {"cap_net_raw"}
    once:     async (config, env) -> dict for `ronda once` to print in full; None: the samples of one run are printed
    glance:   (samples) -> short text for the status page, e.g. "CPU 12 %"; None: the probe's duration
    concerns: (samples) -> the open findings that the page shows in red, of a kind with detectors
    facts:    (samples) -> what the page says below the task's line; none: what it said before stays
    """

    name: str
    config: type[Any]
    metrics: tuple[Metric, ...]
    build: Callable[[Any, Env], Poller | Watcher]
    events: tuple[str, ...] = ()
    probe: bool = False
    reasons: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()
    once: Callable[[Any, Env], Any] | None = None
    glance: Callable[[Sequence[Sample]], str] | None = None
    concerns: Callable[[Sequence[Sample]], tuple[Concern, ...]] | None = None
    facts: Callable[[Sequence[Sample]], tuple[Fact, ...]] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What every kind's Config has. A kind's Config derives from this or from ProbeConfig, frozen and keyword-only.

    overlapping: whether the timeout may be longer than the interval (icmp: several packets are in flight)
    shortest:    the shortest interval, seconds: a typing mistake must not become a flood
    """

    overlapping: ClassVar[bool] = False
    shortest: ClassVar[float] = 1.0

    name: Text = ""  # the task's name in metrics and pages; empty: made from kind and target
    interval: Duration = 15.0
    timeout: Duration = 5.0
    labels: dict[LabelName, LabelValue] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """A timeout that nobody chose follows a shorter interval."""
        default = type(self).__dataclass_fields__["timeout"].default
        if self.timeout == default and self.timeout > self.interval and not self.overlapping:
            object.__setattr__(self, "timeout", self.interval)

    def problems(self) -> Iterable[tuple[str, str]]:
        for name in self.labels:
            if name in RESERVED_LABELS:
                yield f"labels.{name}", "is a name that Ronda itself sets"
        if self.interval < self.shortest:
            yield "interval", f"must not be shorter than {self.shortest:g}s"
        if self.timeout > self.interval and not self.overlapping:
            yield "timeout", f"must not be longer than the interval ({self.interval:g}s)"

    def identity(self) -> str:
        """What tells this task from others of its kind, without a name given; empty: there can be only one."""
        return ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeConfig(TaskConfig):
    """What every kind with a target has."""

    target: Host
    source: Source = ""  # an address or an interface of this box to probe from; empty: as routed

    def identity(self) -> str:
        return f"{self.target}@{self.source}" if self.source else self.target


RESERVED_LABELS = frozenset(
    {"site", "task", "kind", "target", "reason", "job", "instance", "le", "quantile", "severity", "cause", "state", "phase"}
)
