"""What every series is now: a sink that keeps the last batch of each task.

Law: a task's new batch replaces its old one, so what vanished is gone; a batch of events only leaves it alone. Nothing is
aggregated. Bounded: at most MAX_SERIES; what is over is dropped and counted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from agent.model import Batch, Metric, Sample

MAX_SERIES = 100_000

BUILD_INFO = Metric("ronda_build_info", "The agent's version, and the Python it runs on.", labels=("version", "python"))
HEARTBEAT = Metric(
    "ronda_heartbeat_timestamp_seconds", "When the agent wrote this, by its own clock: the centre's sign of life, also of a wrong clock."
)
RELOAD_SUCCESSFUL = Metric("ronda_config_last_reload_successful", "Whether the last attempt to load the config succeeded.")
RELOAD_TIME = Metric("ronda_config_last_reload_success_timestamp_seconds", "When the config was last loaded with success.")
SERIES = Metric("ronda_registry_series", "Series that the agent exposes.")
SERIES_DROPPED = Metric("ronda_registry_series_dropped_total", "Samples dropped because the agent had too many series.", "counter")
EVENTS = Metric("ronda_events_total", "Events seen since the agent started.", "counter", ("kind", "severity"))
STATE_FAILURES = Metric("ronda_state_write_failures_total", "Failed writes of the agent's state to its data directory.", "counter")
CHORE_FAILURES = Metric(
    "ronda_chore_failures_total", "Errors in the agent's own chores (heartbeat, rediscovery, watchdog); each is in the log.", "counter"
)
METRICS = (CHORE_FAILURES, BUILD_INFO, HEARTBEAT, RELOAD_SUCCESSFUL, RELOAD_TIME, SERIES, SERIES_DROPPED, EVENTS, STATE_FAILURES)


class Registry:
    """The last batch of each task."""

    def __init__(self) -> None:
        self._batches: dict[str, Batch] = {}
        self._size = 0
        self.dropped = 0
        self.events: dict[tuple[str, str], int] = {}

    def write(self, batch: Batch) -> None:
        for event in batch.events:
            key = (event.kind, event.severity)
            self.events[key] = self.events.get(key, 0) + event.count
        if batch.events and not batch.samples:
            return
        old = self._batches.pop(batch.task, None)
        self._size -= len(old.samples) if old else 0
        if self._size + len(batch.samples) > MAX_SERIES:
            self.dropped += len(batch.samples)
        elif batch.samples:
            self._batches[batch.task] = batch
            self._size += len(batch.samples)

    def batches(self) -> list[Batch]:
        """The last batch of each task; the agent's own (made for each scrape) is not one."""
        return [batch for task, batch in self._batches.items() if task]

    def samples(self) -> Iterable[Sample]:
        """The registry's own metrics."""
        yield SERIES(self._size)
        yield SERIES_DROPPED(self.dropped)
        for (kind, severity), n in sorted(self.events.items()):
            yield EVENTS(n, kind, severity)

    def families(self) -> Iterator[tuple[Metric, Sequence[tuple[Mapping[str, str], Sample]]]]:
        """Yields (metric, [(the task's labels, sample)]) by name: a picture of this moment, safe to read slowly."""
        found: dict[str, tuple[Metric, list[tuple[Mapping[str, str], Sample]]]] = {}
        for batch in self._batches.values():
            for sample in batch.samples:
                found.setdefault(sample.metric.name, (sample.metric, []))[1].append((batch.labels, sample))
        return iter([found[name] for name in sorted(found)])
