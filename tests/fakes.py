"""Stand-ins for the outside world: a clock that moves only when told, a sink that remembers."""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable
from pathlib import Path

from agent.collector import Env
from agent.model import Batch
from agent.net import Net


class Alarm:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """Time stands still; `await advance(s)` lets it pass, and everybody due in between acts in order."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_795_000_000.0) -> None:
        self._mono, self._wall = monotonic, wall
        self._heap: list[tuple[float, int, Alarm, Callable[[], None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._mono

    def step_wall(self, seconds: float) -> None:
        self._wall += seconds

    def call_at(self, when: float, callback: Callable[[], None]) -> Alarm:
        alarm = Alarm()
        heapq.heappush(self._heap, (when, next(self._order), alarm, callback))
        return alarm

    async def sleep(self, seconds: float) -> None:
        done = asyncio.get_running_loop().create_future()
        alarm = self.call_at(self._mono + seconds, lambda: None if done.done() else done.set_result(None))
        try:
            await done
        finally:
            alarm.cancel()

    async def advance(self, seconds: float) -> None:
        end = self._mono + seconds
        await settle()
        while self._heap and self._heap[0][0] <= end:
            when, _, alarm, callback = heapq.heappop(self._heap)
            if alarm.cancelled:
                continue
            self._pass(max(when, self._mono))
            callback()
            await settle()
        self._pass(end)
        await settle()

    def _pass(self, to: float) -> None:
        self._wall += to - self._mono
        self._mono = to


async def settle(turns: int = 40) -> None:
    """Lets everything that is ready run."""
    for _ in range(turns):
        await asyncio.sleep(0)


class Memory:
    """A sink that keeps every batch."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def write(self, batch: Batch) -> None:
        self.batches.append(batch)

    def values(self, name: str, task: str | None = None) -> list[float]:
        return [s.value for b in self.batches if task in (None, b.task) for s in b.samples if s.metric.name + s.suffix == name]


def fake_env(root: Path = Path("/nonexistent")) -> tuple[Env, FakeClock]:
    clock = FakeClock()
    return Env(clock, Net(root), root), clock


@contextlib.asynccontextmanager
async def closing(thing):
    """Closes what has an async close()."""
    try:
        yield thing
    finally:
        await thing.close()
