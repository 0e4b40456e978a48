"""The registry as text for Prometheus: text format 0.0.4 or OpenMetrics 1.0, written by prometheus-client.

Law: a scrape never holds up a probe. prometheus-client takes about 5 us a sample, so 15,000 of them would block the loop for
75 ms: families are written in slices, and the loop gets its turn in between.
"""

import asyncio
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import Metric as Family
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from agent.model import Metric, Sample

SLICE = 200  # samples: about 1 ms of the loop

Row = tuple[Mapping[str, str], Sample]


class Families(Collector):
    """Families as prometheus-client takes them."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def family(metric: Metric, rows: Iterable[Row]) -> Family:
    """A prometheus-client family of our samples."""
    base = metric.name.removesuffix("_total") if metric.type == "counter" else metric.name
    made = Family(base, metric.help, metric.type)
    names = metric.labels
    for labels, sample in rows:
        own = dict(zip((*names, "le") if sample.suffix == "_bucket" else names, sample.labels, strict=True))
        made.add_sample(metric.name + sample.suffix, {**labels, **own}, sample.value)
    return made


def _slices(families: Iterable[tuple[Metric, Sequence[Row]]]) -> Iterator[tuple[Family, int]]:
    """Yields (a slice of a family, the number of header lines to leave out: all but the first slice repeat them)."""
    for metric, rows in families:
        for start in range(0, len(rows), SLICE):
            yield family(metric, rows[start : start + SLICE]), 2 if start else 0


async def render(families: Iterable[tuple[Metric, Sequence[Row]]], *, openmetrics: bool, extra: Iterable[Family] = ()) -> bytes:
    """The whole exposition, UTF-8; `extra` are families of prometheus-client's own collectors (process_*)."""
    write = generate_openmetrics if openmetrics else generate_latest
    parts: list[bytes] = []
    size = 0
    for one, headers in itertools.chain(_slices(families), ((f, 0) for f in extra)):
        text = write(Families([one])).removesuffix(b"# EOF\n")
        parts.append(text.split(b"\n", headers)[-1])
        size += len(one.samples)
        if size >= SLICE:
            size = 0
            await asyncio.sleep(0)
    return b"".join([*parts, b"# EOF\n"]) if openmetrics else b"".join(parts)
