"""The ledger: how many samples the centre never gets, and why; and how far each segment of the buffer was delivered.

Law: a loss is never uncounted. What memory alone holds, and the counts that are not on disk yet, are covered beforehand: the file
promises that they are never more than `at_risk`, and a start after an end without warning (power, kill) puts that many to "power_cut".
So that number is an upper bound. The file is small, replaced atomically, and written over where it lies when the disk is full.

    ledger.add("refused", n)    # counts
    if ledger.holds(n): save    # memory alone holds n samples now; True: more than the file allows for
"""

import errno
import json
import threading
from pathlib import Path
from typing import Any

from agent import files
from agent.wire.segment import VERSION

MAX_BYTES = 64 << 10
BLOCK = 4096  # the file's size is a multiple of it: there is room to write over it
START_RISK = 2000  # samples: what a first run promises, before it knows how many there are

# Why a sample was not delivered.
REASONS = (
    "thinned",  # a histogram's buckets, given up first for room; its sum, count and lost stay
    "overflow",  # the oldest, given up for room
    "expired",  # older than the buffer keeps
    "refused",  # the receiver said that it will never take it
    "corrupt",  # damaged on the disk after it was written
    "disk",  # the disk refused, and memory was full too
    "clock",  # its true time could not be told
    "power_cut",  # at most so many were in memory only when the agent ended without warning (power, kill)
)


class Ledger:
    """`read` at the start, `save` by the owner of the directory; `add` and `holds` never wait for the disk.

    unclean: samples put to "power_cut" by this start, because the run before ended without warning; 0: it ended well
    at_risk: the most samples that memory alone may hold, unwritten counts included; twice the most that was seen of late
    cursors: segment name -> (offset, samples before it) up to where it was delivered
    """

    def __init__(self, directory: Path, site: str) -> None:
        self.path, self._site = directory / "ledger.json", site
        self.counts = dict.fromkeys(REASONS, 0)
        self.cursors: dict[str, tuple[int, int]] = {}
        self.at_risk = START_RISK
        self.unclean = 0
        self._peak = 0
        self._counting = threading.Lock()
        self._saved: dict[str, Any] = {}

    # -- counting ---------------------------------------------------------------------------------------------------------

    def add(self, reason: str, samples: int) -> None:
        """Raises KeyError for a reason that is none of REASONS."""
        with self._counting:
            self.counts[reason] += samples

    def holds(self, samples: int) -> bool:
        """Memory alone holds so many now. True: `save` at once, the file allows for too few."""
        with self._counting:
            exposed = samples + self._unsaved
            self._peak = max(self._peak, exposed)
            if 3 * exposed > 2 * self.at_risk:
                self.at_risk = 2 * exposed
            return self._saved.get("ended") is not False or self.at_risk > int(self._saved["at_risk"])

    def relax(self) -> None:
        """To be called every hour or so: what was seldom is forgotten."""
        with self._counting:
            if self.at_risk > 4 * self._peak > 0:
                self.at_risk = 2 * self._peak
            self._peak = 0

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def _unsaved(self) -> int:
        saved: dict[str, int] = self._saved.get("undelivered", {})
        return sum(self.counts.values()) - sum(saved.values())

    @property
    def unsaved_loss(self) -> bool:
        return self._unsaved > 0

    @property
    def changed(self) -> bool:
        """Whether the file is behind."""
        return self._state(False) != self._saved

    # -- the file ---------------------------------------------------------------------------------------------------------

    def read(self) -> str:
        """Takes over what the last run left, beside what was counted already. Returns why it can't; empty: it did, or there is none."""
        try:
            with self.path.open("rb") as f:
                held = json.loads(f.read(MAX_BYTES))
            self._take(held)
        except FileNotFoundError:
            return ""
        except OSError as e:
            return e.strerror or str(e)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            return f"damaged: {e!r:.100}"
        return ""

    def _take(self, held: Any) -> None:
        if _count(held["version"]) > VERSION:
            raise ValueError("from a newer version of Ronda")
        if held["site"] != self._site:
            raise ValueError(f"of the site {str(held['site'])[:40]!r}")
        counts = {str(reason): _count(n) for reason, n in held["undelivered"].items() if reason in REASONS}
        cursors = {str(name): (_count(offset), _count(passed)) for name, (offset, passed) in held["cursors"].items()}
        at_risk = _count(held["at_risk"])
        for reason, n in counts.items():
            self.add(reason, n)
        self.cursors, self.at_risk = cursors, max(at_risk, 2 * self._peak)
        self._saved = {"undelivered": counts, "cursors": {}, "at_risk": at_risk, "ended": bool(held["ended"])}
        if not held["ended"]:
            self.unclean = at_risk
            self.add("power_cut", at_risk)

    def _state(self, ended: bool) -> dict[str, Any]:
        with self._counting:
            counts, at_risk = dict(self.counts), self.at_risk
        cursors = {name: list(place) for name, place in self.cursors.items()}
        return {"undelivered": counts, "cursors": cursors, "at_risk": at_risk, "ended": ended}

    def save(self, ended: bool = False) -> None:
        """Raises OSError; the old file is whole then."""
        state = self._state(ended)
        data = json.dumps({"version": VERSION, "site": self._site, **state}).encode()
        data = data.ljust(-(-len(data) // BLOCK) * BLOCK)
        try:
            files.replace(self.path, data, durable=self.unsaved_loss)
        except OSError as e:
            if e.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._has_room(len(data)):
                raise
            files.overwrite(self.path, data)
        self._saved = state

    def _has_room(self, size: int) -> bool:
        try:
            return self.path.stat().st_size >= size
        except OSError:
            return False


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{str(value)[:20]!r} is not a count")
    return value
