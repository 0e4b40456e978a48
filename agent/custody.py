"""What the agent does, beside detecting, for findings: journals what people decide, keeps what they hold, and lets go of the rest in time.

Law: a decision is told to the journal once it is on the card, and again after a kill rather than never. Nothing is let go by a clock that
nobody vouches for. All methods wait for the disk: call them in a thread. A disk that refuses is said once, and counted.
"""

import logging
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from agent import decisions
from agent.decisions import Decision, Watch
from agent.evidence import Evidence
from agent.journal import Reader
from agent.wire import chain
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
            if held:
                self._keep(list(held))
            self.evidence.tidy(now, held)
            self.evidence.bound(held)
            decisions.forget(self._data, now)
            self.problem = ""
        except (OSError, ValueError) as e:
            self._failed(e)

    def _keep(self, held: Sequence[str]) -> None:
        """What has come of incidents that are held. One look at the journal for all."""
        reader = Reader(self._data / "journal")
        for name, found in of_incidents(reader, held).items():
            had = len(self.evidence.lines(name))
            if self.evidence.hold(name, found) > had and (proof := proved(reader, found, self.evidence.proof(name))):
                self.evidence.keep_proof(name, proof)

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        said = f"evidence and decisions: {error}"
        if said != self.problem:
            log.error("%s", said)
        self.problem = said


def of_incidents(reader: Reader, names: Collection[str]) -> dict[str, list[bytes]]:
    """The journal's lines, as stored, that are of these incidents. Raises OSError."""
    found: dict[str, list[bytes]] = {name: [] for name in names}
    wanted = re.compile(b"|".join(f'"{re.escape(name)}"'.encode() for name in names))
    for line in reader.lines():
        if wanted.search(line):
            for entry in decoded([line]):
                for name in names:
                    if is_of(entry, name):
                        found[name].append(line)
    return found


def proved(reader: Reader, found: Sequence[bytes], kept: chain.Proof | None) -> chain.Proof | None:
    """That these lines are of the journal's chain: proved anew, else the kept proof brought up to date; None: neither can be."""
    next(reader.lines(), b"")  # so that its name is known
    new = chain.prove(reader.journal, reader.lines(), chain.number(found[0])) if found else None
    if new and new.covers(found):
        return new
    old = chain.extend(kept, reader.lines()) if kept else None
    return old if old and old.covers(found) else None


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
