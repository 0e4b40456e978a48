"""The board: what one task has found out and another needs now, e.g. a router's ARP table for the detectors of the network.

Law: only the newest of each task, in this process's memory; a row is replaced as a whole and never changed after. Readers ask when it suits
them: nobody waits, nobody is called. Rows are the types of agent/detect/seen.py, so they may hold addresses: they go to no label.
"""

import logging
from typing import Any, NamedTuple, TypeVar

log = logging.getLogger("ronda.board")
T = TypeVar("T")

MOST = 1024  # rows; a device has up to four: who it is, its interfaces, its ARP table, its MACs


class Row(NamedTuple):
    at: float  # monotonic seconds
    what: Any


class Board:
    def __init__(self) -> None:
        self._rows: dict[tuple[type, str], Row] = {}
        self.refused = 0

    def post(self, task: str, what: object, at: float) -> None:
        """Puts up what `task` knows now, in place of what it put up of that type before."""
        key = (type(what), task)
        if key not in self._rows and len(self._rows) >= MOST:
            self.refused += 1
            if self.refused == 1:
                log.warning("%s of %s finds no room: detectors hear of %d rows only", key[0].__name__, task, MOST)
            return
        self._rows[key] = Row(at, what)

    def of(self, kind: type[T]) -> dict[str, tuple[float, T]]:
        """By task: since when (monotonic seconds), and what."""
        return {task: (row.at, row.what) for (type_, task), row in self._rows.items() if type_ is kind}

    def forget(self, task: str) -> None:
        """Takes down all rows of a task that ended."""
        for key in [key for key in self._rows if key[1] == task]:
            del self._rows[key]
