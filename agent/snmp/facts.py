"""What the admin's page says of a device below its line: who it is, what it is read by, which ports are down, what found no room.

Law: pure; from the samples of a look, so that the page and the centre say the same. A look that heard nothing has none.
"""

from collections.abc import Iterable, Iterator, Sequence

from agent.model import Fact, Metric, Sample
from agent.snmp import metrics

NAMED = 6  # of ports that are down; the others are counted


def facts(samples: Sequence[Sample]) -> tuple[Fact, ...]:
    return tuple(_facts(samples))


def _facts(samples: Sequence[Sample]) -> Iterator[Fact]:
    for sample in _of(metrics.DEVICE_INFO, samples):
        yield from (Fact(key, said) for key, said in zip(("name", "model", "version", "serial"), sample.labels, strict=True) if said)
    for sample in _of(metrics.UPTIME, samples):
        yield Fact("uptime", number=sample.value)
    if profiles := [s.labels[0] for s in _of(metrics.PROFILE_INFO, samples)]:
        yield Fact("profiles", ", ".join(profiles))
    if down := list(_down(samples)):
        more = f" +{len(down) - NAMED}" if len(down) > NAMED else ""
        yield Fact("down", ", ".join(down[:NAMED]) + more)
    for sample in _of(metrics.SERIES_CAPPED, samples):
        if sample.value:
            yield Fact("capped", f"{sample.value:.0f}")


def _down(samples: Sequence[Sample]) -> Iterable[str]:
    """Ports that somebody wants to be up."""
    unwanted = {s.labels for s in _of(metrics.ENABLED, samples) if not s.value}
    return (s.labels[0] for s in _of(metrics.UP, samples) if not s.value and s.labels not in unwanted)


def _of(metric: Metric, samples: Iterable[Sample]) -> Iterator[Sample]:
    return (s for s in samples if s.metric is metric)
