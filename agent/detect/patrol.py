"""A patrol: hands observations to the detectors that want them, their findings to the casebook, and their wishes to whoever probes.

Law: pure, and the same live and in a replay. A detector that raises is counted, named once in a finding-free event, and goes on with the
next observation: one bug must not blind the others.
"""

import collections
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from agent.detect.model import Ask, Detector, Finding, Observation, Plain, Said
from agent.model import Metric, Sample

log = logging.getLogger("ronda.detect")

MAX_ASKS = 64

COVERAGE = Metric(
    "ronda_detector_coverage",
    "How much a detector sees now: 1 all, 0.5 a part, 0 nothing; its runbook says why, and the cure.",
    labels=("detector",),
)
FAILURES = Metric("ronda_detector_failures_total", "Observations at which a detector failed: a bug of ours.", "counter", ("detector",))
METRICS = (COVERAGE, FAILURES)


class Book(Protocol):
    """What a patrol tells: agent/detect/casebook.py."""

    def take(self, finding: Finding, at: float, wall: float) -> None: ...

    def tick(self, at: float, wall: float) -> None: ...


class Patrol:
    """`wall` beside each `at`: wall clock seconds, for the event's times."""

    def __init__(self, detectors: Iterable[Detector], book: Book) -> None:
        self.detectors = {detector.rule.name: detector for detector in detectors}
        self.book = book
        self.failures: collections.Counter[str] = collections.Counter()
        self.asks: collections.deque[Ask] = collections.deque(maxlen=MAX_ASKS)
        self._wanting: dict[type, list[Detector]] = {}
        for detector in self.detectors.values():
            for kind in detector.wants:
                self._wanting.setdefault(kind, []).append(detector)
        self._ticking = [d for d in self.detectors.values() if getattr(type(d), "tick", None) is not Plain.tick]

    def see(self, seen: Observation, at: float, wall: float) -> None:
        for detector in self._wanting.get(type(seen), ()):
            self._hear(detector, detector.see, (seen, at), at, wall)

    def tick(self, at: float, wall: float) -> None:
        for detector in self._ticking:
            self._hear(detector, detector.tick, (at,), at, wall)
        self.book.tick(at, wall)

    def _hear(self, detector: Detector, say: Callable[..., Iterable[Said]], what: tuple[Any, ...], at: float, wall: float) -> None:
        try:
            for said in say(*what):
                if isinstance(said, Ask):
                    if said not in self.asks:
                        self.asks.append(said)
                else:
                    self.book.take(said, at, wall)
        except Exception:  # noqa: BLE001  (_failed says and counts it)
            self._failed(detector)

    def _failed(self, detector: Detector) -> None:
        """One detector's bug: said once, counted always (ronda_detector_failures_total)."""
        name = detector.rule.name
        if not self.failures[name]:
            log.exception("the detector %s failed", name)
        self.failures[name] += 1

    def samples(self, able: frozenset[str]) -> Iterator[Sample]:
        """Of each detector, always: `able` is what this Ronda can do now."""
        for name, detector in self.detectors.items():
            yield COVERAGE(self._share(detector, able), name)
            yield FAILURES(self.failures[name], name)

    def _share(self, detector: Detector, able: frozenset[str]) -> float:
        """How much it sees; what can't even say that sees nothing."""
        try:
            return detector.coverage(able).share
        except Exception:  # noqa: BLE001  (_failed says and counts it)
            self._failed(detector)
            return 0.0

    def remember(self) -> dict[str, Any]:
        """What is to outlive a restart; a detector that can't say it will begin anew."""
        kept: dict[str, Any] = {}
        for name, detector in self.detectors.items():
            try:
                if said := detector.remember():
                    kept[name] = dict(said)
            except Exception:  # noqa: BLE001  (_failed says and counts it)
                self._failed(detector)
        return kept

    def recall(self, said: Mapping[str, Any], at: float) -> list[str]:
        """Takes up an earlier life's memory; the names of detectors that could not, and begin anew."""
        lost = []
        for name, detector in self.detectors.items():
            try:
                if name in said:
                    detector.recall(said[name], at)
            except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, LookupError):
                lost.append(name)
        return lost
