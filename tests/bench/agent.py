"""Starting the agent and reading its own metrics from outside, for the bench and for the lab's tests."""

import math
import sys
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.lab.netns import Daemon, Namespace, until

ROOT = Path(__file__).parents[2]


def start(ns: Namespace, config: str, listen: str, *options: str, name: str = "ronda", module: str = "agent") -> Daemon:
    """`ronda run --config` in `ns`, as the installed command does it, with a data directory of its own; returns when it is ready."""
    directory = ns.lab.directory / name
    directory.mkdir(exist_ok=True)
    file = directory / "agent.yaml"
    file.write_text(config)
    command = [sys.executable, "-m", module, "run", "--config", str(file), "--data-dir", str(directory / "data"), *options]
    daemon = ns.start(name, *command, env={"PYTHONPATH": str(ROOT)})
    until(lambda: _ready(ns, daemon, listen), 60, f"the agent is ready\n{daemon.output()}")
    return daemon


def _ready(ns: Namespace, daemon: Daemon, listen: str) -> bool:
    assert daemon.alive, daemon.output()
    return ns.get(f"http://{listen}/-/ready") is not None


Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(ns: Namespace, url: str) -> Series:
    """All samples of an exposition: (name, sorted labels) → value."""
    text = ns.get(url, timeout=20)
    assert text is not None, f"no answer from {url}"
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in text_string_to_metric_families(text) for s in f.samples}


def total(series: Series, name: str, **labels: str) -> float:
    """The sum of all series of a name that have these labels."""
    return math.fsum(v for (n, have), v in series.items() if n == name and labels.items() <= dict(have).items())


def quantile(q: float, before: Series, after: Series, name: str) -> float:
    """The q-quantile of what a histogram counted in between, as histogram_quantile reckons it. NaN: nothing was counted."""
    bounds = sorted((float(dict(labels)["le"]), n, labels) for n, labels in after if n == f"{name}_bucket")
    counts: dict[float, float] = {}
    for bound, n, labels in bounds:
        counts[bound] = counts.get(bound, 0.0) + after[n, labels] - before.get((n, labels), 0.0)
    return _interpolate(q, sorted(counts.items()))


def _interpolate(q: float, buckets: Iterable[tuple[float, float]]) -> float:
    buckets = list(buckets)
    if not buckets or not buckets[-1][1]:
        return math.nan
    rank, low, below = q * buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            return low if math.isinf(bound) else low + (bound - low) * (rank - below) / max(count - below, 1e-9)
        low, below = bound, count
    return low
