"""The words that flow through Ronda: Metric, Sample, Event, Batch, Sink.

Law: this file imports nothing of Ronda. Samples are numbers with bounded labels; evidence (addresses, names,
error texts) lives in events. A Sample is made by calling its Metric, so its labels can't be in the wrong order.
"""

import bisect
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

MetricType = Literal["gauge", "counter", "histogram"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A metric as declared in the file that sets it; `name` is the full exposed name, `_total` included."""

    name: str
    help: str
    type: MetricType = "gauge"
    labels: tuple[str, ...] = ()

    def __call__(self, value: float, *labels: str) -> "Sample":
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} takes the labels {self.labels}, got {labels}")
        return Sample(self, labels, value)


class Sample(NamedTuple):
    """One number. For `_bucket` of a histogram the upper bound ("0.005", "+Inf") is the last of `labels`."""

    metric: Metric
    labels: tuple[str, ...]
    value: float
    suffix: str = ""


Severity = Literal["critical", "warning", "info"]


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, with its evidence. Times are wall clock seconds; 0 means "now", set by the scheduler."""

    kind: str
    severity: Severity
    message: str
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    first_seen: float = 0.0
    last_seen: float = 0.0
    count: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """All that one run of one task produced. `labels` are put on each sample; `at` is wall clock seconds."""

    task: str
    labels: Mapping[str, str]
    at: float
    samples: Sequence[Sample]
    events: Sequence[Event] = ()


class Sink(Protocol):
    def write(self, batch: Batch) -> None:
        """Takes a batch. Never blocks, never raises, counts what it drops."""


class Histogram:
    """A histogram that a collector keeps between runs. `bounds` in seconds, ascending, without +Inf."""

    __slots__ = ("_buckets", "_counts", "_labels", "_metric", "bounds", "sum")

    def __init__(self, metric: Metric, bounds: Sequence[float], labels: tuple[str, ...] = ()) -> None:
        self._metric, self.bounds, self._labels = metric, tuple(bounds), labels
        self._buckets = [(*labels, str(float(bound))) for bound in self.bounds] + [(*labels, "+Inf")]
        self._counts = [0] * len(self._buckets)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self._counts)

    def samples(self) -> Iterable[Sample]:
        """Yields the cumulative buckets, then sum and count."""
        metric = self._metric
        running = 0
        for labels, n in zip(self._buckets, self._counts, strict=True):
            running += n
            yield Sample(metric, labels, running, "_bucket")
        yield Sample(metric, self._labels, self.sum, "_sum")
        yield Sample(metric, self._labels, running, "_count")


class Fact(NamedTuple):
    """A thing that the page says of a device below its line. `key`: of agent/texts.py FACTS; `text`: as it stands.

    number: of `uptime` the seconds, of `log` and `trap` when `text` (a device) was last heard, wall clock seconds; 0: not yet
    """

    key: str
    text: str = ""
    number: float = 0.0


class Concern(NamedTuple):
    """An open finding that somebody must look at, by its rule: since when (wall clock seconds), and how grave."""

    rule: str
    grade: str
    since: float
