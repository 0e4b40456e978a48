"""Counters of devices as counters that don't lie: through wraps, restarts and changed numbering, under a series' own name.

Law: 64 bit are told as they are. Of 32 bit what was added since the last look is summed up, modulo 2^32, where that can be true; where the
device was restarted, or it can't, the series starts anew, lower than it was: never a leap upwards that no packet made. State belongs to
the series (its metric and labels), not to a device's row. What can't be known is too little, never too much: where a link could carry
more than 2^32 between two looks whole turns go unseen.

A series whose sum is no longer what the device says is `rebased`. The next run of the agent is told of it (agent/snmp/memory.py) and
starts it at 0: the device's own number would look like a restart of the series and then like traffic.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from agent.snmp.wire import Oid, Value

WRAP = 1 << 32
SLACK = 1.25  # a device's look at its own clock and counters, and ours at it, aren't at the same moment
SECONDS = 10.0
MOST = 20_000


class Seen(NamedTuple):
    source: Oid  # the column it comes from: a series isn't told in 64 bit now and in 32 then
    raw: int
    sum: float
    at: float
    epoch: Any


class Counters:
    def __init__(self, rebased: Iterable[str] = ()) -> None:
        self._seen: dict[str, Seen] = {}
        self._fastest: dict[str, float] = {}
        self.rebased: set[str] = set(rebased)

    def take(self, key: str, source: Oid, value: Value, now: float, epoch: Any, limit: float) -> float | None:
        """What the series `key` is now; None: this can't be told of it.

        epoch: changes when the device says that its counters began anew; limit: the most that can be added in a second, 0: not known
        """
        raw = value.value
        if not isinstance(raw, int):
            return None
        before = self._seen.get(key)
        if before and before.source != source and before.epoch == epoch:
            return None
        if not before and len(self._seen) >= MOST:
            return None
        total = float(raw) if value.kind != "counter32" else self._sum(key, before, raw, now, epoch, limit)
        self._seen[key] = Seen(source, raw, total, now, epoch)
        return total

    def _sum(self, key: str, before: Seen | None, raw: int, now: float, epoch: Any, limit: float) -> float:
        if before is None:
            return 0.0 if key in self.rebased else float(raw)
        added, seconds = (raw - before.raw) % WRAP, max(now - before.at, 0.001)
        fastest = max(limit, 2 * self._fastest.get(key, 0.0))
        possible = fastest * SLACK * (seconds + SECONDS)
        if before.epoch != epoch or (raw < before.raw and added > (possible or WRAP / 2)):
            return self._anew(key, before, raw, possible)
        if raw < before.raw:
            self._rebase(key)
        self._fastest[key] = max(self._fastest.get(key, 0.0), added / seconds)
        return before.sum + added

    def _anew(self, key: str, before: Seen, raw: int, possible: float) -> float:
        """As the device counts where that is a fall to what it can have counted since; else from 0: no fall may look like traffic."""
        if key not in self.rebased and (raw == before.sum or (raw < before.sum and raw <= possible)):
            return float(raw)
        self._rebase(key)
        return 0.0

    def _rebase(self, key: str) -> None:
        if len(self.rebased) < MOST:
            self.rebased.add(key)

    def forget(self, older: float) -> None:
        """Series that weren't seen since then are forgotten: a row may come back as something else."""
        for key in [key for key, seen in self._seen.items() if seen.at < older]:
            del self._seen[key]
            self._fastest.pop(key, None)
            self.rebased.discard(key)
