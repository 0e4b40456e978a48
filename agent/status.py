"""What is known of each task now, and its last hours: kept by the scheduler, read by the pages and the diagnosis.

Law: bounded. One Status a task, one byte and one float a minute for HISTORY_MINUTES.
"""

import dataclasses
from array import array
from collections.abc import Iterable, Mapping
from typing import Literal

from agent.model import Concern, Fact

HISTORY_MINUTES = 360

State = Literal["unknown", "ok", "checking", "down", "blind"]
# unknown: no result yet · checking: failed, being tried again before it counts · down: failed for sure · blind: could not look


@dataclasses.dataclass(slots=True)
class Status:
    """One task. Times are wall clock seconds; `value` is seconds for a probe (its duration), or None."""

    task: str
    kind: str
    target: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    state: State = "unknown"
    since: float = 0.0  # when `state` began (checking doesn't count as a state of its own)
    at: float = 0.0  # when it was last looked at; 0: never
    value: float | None = None
    text: str = ""  # a watcher's or host's glance
    concerns: tuple[Concern, ...] = ()  # of detectors
    facts: tuple[Fact, ...] = ()  # who a device is and how its ports are; the last known while it is silent
    reason: str = ""  # of the last failure, while it lasts
    detail: str = ""  # for people, may hold addresses: never a label
    interval: float = 15.0
    stretched: bool = False  # the interval is longer than configured
    reached: bool = False  # whether the last settled state was ok: what `checking` still counts as
    history: "History" = dataclasses.field(default_factory=lambda: History())


class History:
    """A ring of minutes: the worst state and the mean value of each. Minutes without a look are gaps."""

    __slots__ = ("_minutes", "_n", "_sum", "_worst")

    def __init__(self) -> None:
        self._minutes = array("l", [-1] * HISTORY_MINUTES)
        self._worst = bytearray(HISTORY_MINUTES)  # 0 none, 1 ok, 2 blind, 3 down
        self._sum = array("f", [0.0] * HISTORY_MINUTES)
        self._n = array("H", [0] * HISTORY_MINUTES)

    def add(self, at: float, state: State, value: float | None) -> None:
        minute = int(at // 60)
        i = minute % HISTORY_MINUTES
        if self._minutes[i] != minute:
            self._minutes[i], self._worst[i], self._sum[i], self._n[i] = minute, 0, 0.0, 0
        self._worst[i] = max(self._worst[i], {"ok": 1, "checking": 1, "blind": 2, "down": 3}.get(state, 0))
        if value is not None and self._n[i] < 65535:
            self._sum[i] += value
            self._n[i] += 1

    def points(self, now: float) -> Iterable[tuple[int, str, float | None]]:
        """Yields (minutes ago, worst state or "", mean value or None), oldest first."""
        last = int(now // 60)
        for minute in range(last - HISTORY_MINUTES + 1, last + 1):
            i = minute % HISTORY_MINUTES
            if self._minutes[i] != minute:
                yield last - minute, "", None
            else:
                mean = self._sum[i] / self._n[i] if self._n[i] else None
                yield last - minute, ("", "ok", "blind", "down")[self._worst[i]], mean
