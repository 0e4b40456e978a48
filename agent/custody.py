"""What the agent does, beside detecting, for findings: journals what people decide, keeps what they hold, and lets go of the rest in time.

Law: a decision is told to the journal once it is on the card, and again after a kill rather than never. Nothing is let go by a clock that
nobody vouches for. All methods wait for the disk: call them in a thread. A disk that refuses is said once, and counted.
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent import decisions
from agent.decisions import Decision, Watch
from agent.evidence import Evidence
from agent.journal import Reader
from agent.wire import event as lines
from agent.wire.event import Entry, EventError

log = logging.getLogger("ronda.custody")

EVERY = 3600.0  # seconds between two looks at what is too old, and at what is held


class Custody:
    """Of one data directory."""

    def __init__(self, data: Path) -> None:
        self._data, self._watch, self.evidence = data, Watch(data), Evidence(data)
        self._tidied = float("-inf")
        self.failures = 0
        self.problem = ""

    def news(self) -> list[Decision]:
        """What people have decided, and nobody has journalled."""
        try:
            return self._watch.news()
        except OSError as e:
            self._failed(e)
            return []

    def journalled(self, decision: Decision) -> None:
        try:
            self._watch.journalled(decision)
        except OSError as e:
            self._failed(e)

    def tidy(self, mono: float, now: float | None) -> None:
        """To be called every minute; `now` None: nobody knows the time, nothing is let go."""
        if mono - self._tidied < EVERY or now is None:
            return
        self._tidied = mono
        try:
            held = decisions.holds(self._watch.look(), now)
            for name in held:
                self.evidence.hold(name, of_incident(Reader(self._data / "journal"), name))
            self.evidence.tidy(now, held)
            self.evidence.bound(held)
            decisions.forget(self._data, now)
            self.problem = ""
        except (OSError, ValueError) as e:
            self._failed(e)

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        said = f"evidence and decisions: {error}"
        if said != self.problem:
            log.error("%s", said)
        self.problem = said


def of_incident(reader: Reader, name: str) -> Iterator[bytes]:
    """The journal's lines, as stored, that are of an incident. Raises OSError."""
    return (line for line in reader.lines() if _names(line, name))


def _names(line: bytes, name: str) -> bool:
    if f'"{name}"'.encode() not in line:
        return False
    try:
        return is_of(lines.decode(line), name)
    except EventError:
        return False


def is_of(entry: Entry, name: str) -> bool:
    fields = entry.event.fields
    return name in (fields.get("event.id"), fields.get("incident"), fields.get("subject"))


def decoded(found: Iterable[bytes]) -> list[Entry]:
    """Those of the lines that can be read."""
    entries = []
    for line in found:
        try:
            entries.append(lines.decode(line))
        except EventError as e:
            log.error("a line can't be read: %s", e)
    return entries
