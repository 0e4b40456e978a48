"""How a detector says a thing once: again only when it got worse or a while has passed, and a crowd of sources as one.

Law: pure and bounded. Whoever is on the wire can invent ten thousand sources in a second; they must not become ten thousand findings, nor
make a detector forget the one that is real. What is held back is counted and goes into the next finding's `times`.
"""

import collections
from collections.abc import Iterator

from agent.detect.model import GRADES, Finding, Table

MANY = "many"  # the key of the crowd's case
AGAIN = 60.0  # seconds between two findings of one case that got no worse
FRESH, WINDOW = 16, 600.0  # so many new cases in so many seconds; the rest are one
FORGET = 3600.0  # a case without news for so long is new when it comes again
TEXT, KEY, FRAMES = 255, 100, 4  # what may be on the wire has no length that we would trust


class _Row:
    __slots__ = ("at", "rank", "untold")

    def __init__(self, at: float, rank: int) -> None:
        self.at, self.rank, self.untold = at, rank, 0


def _rank(finding: Finding) -> int:
    return 2 * (len(GRADES) - GRADES.index(finding.grade)) + finding.confirmed


class Telling:
    """The findings of one detector that are worth saying now."""

    def __init__(self, cases: int = 256, again: float = AGAIN) -> None:
        self._rows: Table[str, _Row] = Table(cases)
        self._fresh: collections.deque[float] = collections.deque(maxlen=FRESH)
        self._again = again

    def say(self, finding: Finding, at: float) -> Iterator[Finding]:
        finding = _clipped(finding)
        row = self._row(finding.key, at)
        if row is None and not self._room(at):
            finding = _crowd(finding)
            row = self._row(MANY, at)
        rank = _rank(finding)
        if row is None:
            row = self._rows.put(finding.key, _Row(at, rank))
        elif rank <= row.rank and at - row.at < self._again:
            row.untold += finding.times
            return
        yield finding._replace(times=finding.times + row.untold)
        row.at, row.rank, row.untold = at, max(rank, row.rank), 0

    def close(self, key: str) -> bool:
        """Whether that case was told; it is forgotten, so that it is new when it comes again."""
        return self._rows.pop(key[:KEY]) is not None

    def _row(self, key: str, at: float) -> _Row | None:
        row = self._rows.get(key)
        return row if row is not None and at - row.at <= FORGET else None

    def _room(self, at: float) -> bool:
        if len(self._fresh) == FRESH and at - self._fresh[0] < WINDOW:
            return False
        self._fresh.append(at)
        return True


def _clipped(finding: Finding) -> Finding:
    fields = {name: value[:TEXT] for name, value in finding.fields.items() if value}
    return finding._replace(key=finding.key[:KEY], source=finding.source[:KEY], fields=fields, frames=finding.frames[:FRAMES])


def _crowd(finding: Finding) -> Finding:
    """Who each of them is can't be told, nor whether they are real: nobody is accused."""
    words = "the same from more sources than can be told apart; they may be invented"
    return finding._replace(key=MANY, source="", fields={}, message=words, confidence="unknown", confirmed=False)
