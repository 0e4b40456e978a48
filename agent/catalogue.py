"""Every metric that Ronda can expose: what rules, panels and docs are checked against.

Law: nothing is listed twice; each metric is declared in the file that sets it, and gathered here.
"""

from collections.abc import Mapping

from agent import budget, buffer, delivery, diagnosis, journal, process, push, registry, scheduler, syslog, web
from agent.collector import Kind
from agent.model import Metric

FRAME = (
    *budget.METRICS, *process.METRICS,
    *registry.METRICS, *scheduler.METRICS, *diagnosis.METRICS, *web.METRICS, *push.METRICS, *delivery.METRICS, *buffer.METRICS,
    *journal.METRICS, *syslog.METRICS,
)  # fmt: skip


def catalogue(kinds: Mapping[str, Kind]) -> dict[str, Metric]:
    """The frame's and the kinds' metrics by name. Raises ValueError when two have one name."""
    found: dict[str, Metric] = {}
    for metric in (*FRAME, *(m for kind in kinds.values() for m in kind.metrics)):
        if found.setdefault(metric.name, metric) is not metric:
            raise ValueError(f"two metrics are called {metric.name}")
    return found
