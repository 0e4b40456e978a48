"""What people decide at this box about its findings: accept one, hold its evidence, let it go, unmask somebody.

Law: each has a person and a reason, and is on the disk before it does anything; the agent journals it as an event within a minute. They are
one file, only added to, decisions.jsonl in the data directory: whoever may write there decides. Bounded: of what is over the oldest goes.
"""

import contextlib
import dataclasses
import fcntl
import json
import logging
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agent import files
from agent.detect.suppressions import DAY, MAX_DAYS, Suppression
from agent.model import Event, Severity

log = logging.getLogger("ronda.decisions")

NAME, TOLD = "decisions.jsonl", "decisions.told"
MAX_BYTES = 512 << 10
MAX_LINE = 4096
KEPT = 400 * DAY  # seconds that a decision is remembered after it ended, where there is room
WHATS = {
    "accept": ("finding_accepted", "a finding was accepted until {until}"),
    "hold": ("evidence_held", "the evidence of an incident is held until {until}"),
    "release": ("evidence_released", "the evidence of an incident is no longer held"),
    "unmask": ("identity_unmasked", "a pseudonym was looked up"),
}
EVENTS = tuple(kind for kind, _ in WHATS.values())
_TEXTS = ("what", "id", "person", "reason", "rule", "key")


class DecisionError(Exception):
    """It can't be taken; str() says why, and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """number: ascending; at, until: wall clock seconds. id: of the incident, or the pseudonym; rule, key: which condition is accepted."""

    number: int
    at: float
    what: str
    id: str
    person: str
    reason: str
    until: float = 0.0
    rule: str = ""
    key: str = ""

    def event(self) -> Event:
        kind, text = WHATS[self.what]
        until = _day(self.until)
        fields = {"subject": self.id, "person": self.person, "reason": self.reason, **({"until": until} if self.until else {})}
        severity: Severity = "warning" if self.what == "unmask" else "info"
        return Event(kind, severity, text.format(until=until), fields, self.at, self.at)


def _day(at: float) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def check(person: str, reason: str) -> None:
    """Raises DecisionError: who answers for it, and why, must be said."""
    if not 2 <= len(person.strip()) <= 100:
        raise DecisionError("say who decides it: --person NAME")
    if not 4 <= len(reason.strip()) <= 200:
        raise DecisionError("say why, in four to 200 characters: --reason TEXT")


# -- the file ----------------------------------------------------------------------------------------------------------------------


def read(directory: Path) -> list[Decision]:
    """All that are remembered, oldest first. Raises OSError where they can't be read."""
    try:
        with (directory / NAME).open("rb") as f:
            return list(_parsed(f.read(MAX_BYTES + MAX_LINE)))
    except FileNotFoundError:
        return []


def _parsed(data: bytes) -> Iterator[Decision]:
    for line in data.split(b"\n"):
        try:
            if line.strip():
                yield _decision(json.loads(line))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as e:  # Overflow: a number of 1e999
            log.error("a line of %s can't be read: %s", NAME, e)


def _decision(said: Any) -> Decision:
    if not isinstance(said, dict):
        raise TypeError("not a JSON object")
    texts = {name: said.get(name, "") for name in _TEXTS}
    if any(not isinstance(text, str) for text in texts.values()) or texts["what"] not in WHATS:
        raise ValueError("not a decision")
    number, at, until = int(said["number"]), float(said["at"]), float(said.get("until", 0.0))
    if not (math.isfinite(at) and 0.0 <= at < 1e11 and math.isfinite(until) and 0.0 <= until < 1e11 and number > 0):
        raise ValueError("not a time")
    return Decision(number, at, until=until, **texts)


def add(directory: Path, decision: Decision) -> Decision:
    """Takes it, durably; its number is given here. Raises OSError, DecisionError."""
    check(decision.person, decision.reason)
    with _held(directory):
        known = read(directory)
        taken = dataclasses.replace(decision, number=1 + max(told(directory), *(d.number for d in known[-1:]), 0))
        line = _line(taken)
        if len(line) > MAX_LINE:
            raise DecisionError("too long to be kept: say it in fewer words")
        path = directory / NAME
        if path.exists() and path.stat().st_size + len(line) > MAX_BYTES:
            _shorten(directory, known, decision.at)
        if not path.exists():  # it is the agent's from its first moment: he looks for it each second
            files.replace(path, b"", prepare=private)
        with path.open("ab") as f:
            if f.tell() and not path.read_bytes().endswith(b"\n"):  # a power cut tore the last line
                f.write(b"\n")
            f.write(line)
            f.flush()
            os.fsync(f.fileno())
    return taken


def _line(decision: Decision) -> bytes:
    return json.dumps({name: v for name, v in dataclasses.asdict(decision).items() if v}, ensure_ascii=False).encode() + b"\n"


def _shorten(directory: Path, known: list[Decision], now: float) -> None:
    """Half of the room is made free by those that are over, the oldest first. Raises DecisionError where too much is in force."""
    held = {d.id for d in known if d.what == "hold" and d.until >= now}  # their release stays as long: else they were held again
    over = [d for d in known if d.until < now and d.number <= told(directory) and not (d.what == "release" and d.id in held)]
    oldest = {d.number for d in over if d.at < now - KEPT} or {d.number for d in over[: len(over) // 2 + 1]}
    kept = b"".join(_line(d) for d in known if d.number not in oldest)
    if len(kept) > MAX_BYTES * 3 // 4:
        raise DecisionError(f"{directory / NAME} is full of decisions that are in force: let some go first")
    files.replace(directory / NAME, kept, durable=True, prepare=private)


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    """One process at a time decides."""
    fd = os.open(directory / "decisions.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def give(path: Path) -> None:
    """What root has written into the agent's directory is the agent's."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def private(path: Path) -> None:
    """The agent's, whoever writes it, and nobody else's."""
    path.chmod(0o600)
    give(path)


def forget(directory: Path, now: float) -> int:
    """Blanks which condition was accepted, where that is over: an address or a MAC stays no longer than it is of use. Raises OSError."""
    if not any(d.key and d.until < now for d in read(directory)):
        return 0
    with _held(directory):
        known = read(directory)
        gone = [d.number for d in known if d.key and d.until < now]
        kept = [dataclasses.replace(d, key="") if d.number in gone else d for d in known]
        files.replace(directory / NAME, b"".join(map(_line, kept)), durable=True, prepare=private)
        (directory / NAME).chmod(0o600)
    return len(gone)


def told(directory: Path) -> int:
    """The number up to which the agent has journalled them."""
    try:
        return int((directory / TOLD).read_text()[:20])
    except (FileNotFoundError, ValueError):
        return 0


class Watch:
    """The agent's look at the file. Waits for the disk: call it in a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: tuple[int, int] | None = None
        self._known: list[Decision] = []

    def look(self) -> list[Decision]:
        """All that are remembered; read again only where the file has changed. Raises OSError."""
        try:
            found = (self._directory / NAME).stat()
        except FileNotFoundError:
            self._known, self._seen = [], None
            return []
        if (stamp := (found.st_mtime_ns, found.st_size)) != self._seen:
            self._known, self._seen = read(self._directory), stamp
        return self._known

    def news(self) -> list[Decision]:
        """Those that have not been journalled. Raises OSError."""
        upto = told(self._directory)
        return [decision for decision in self.look() if decision.number > upto]

    def journalled(self, decision: Decision) -> None:
        """This one and all before it were. Raises OSError."""
        files.replace(self._directory / TOLD, b"%d\n" % decision.number, durable=True)


# -- what follows from them --------------------------------------------------------------------------------------------------------


def suppressions(decisions: Iterable[Decision]) -> list[Suppression]:
    """What was accepted: that condition, and no other."""
    accepted = [d for d in decisions if d.what == "accept" and d.key]
    return [Suppression(d.rule, min(d.until, d.at + MAX_DAYS * DAY), d.reason, key=d.key, by=d.id) for d in accepted]


def holds(decisions: Iterable[Decision], now: float) -> dict[str, Decision]:
    """Which incidents' evidence is held now, and by whom."""
    found: dict[str, Decision] = {}
    for d in decisions:
        if d.what == "hold":
            found[d.id] = d
        elif d.what == "release":
            found.pop(d.id, None)
    return {name: d for name, d in found.items() if now < d.until}
