"""What a task of detectors has beside them: its casebook, what that remembers, the evidence on disk, and what people have decided.

Law: detectors and casebook are pure, so all that waits for the disk is here, and in a thread. Nothing here stops detection: a disk that
refuses is said and counted. Ids of incidents are given once in a process, whichever task asks.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from agent import decisions, files
from agent.collector import Env
from agent.decisions import Decision, Watch
from agent.detect import casebook
from agent.detect.casebook import Casebook, Ids, Outcome
from agent.detect.model import Rule
from agent.detect.patrol import Patrol
from agent.detect.suppressions import DAY, MAX_DAYS, Suppression, end_of, past
from agent.detect.where import Place, place_of
from agent.evidence import Evidence
from agent.model import Event, Metric, Sample
from agent.pseudonyms import normal
from agent.structure import Scalar, Text, parse_ip, parse_mac

log = logging.getLogger("ronda.cases")

LOOK = 30.0  # seconds between looks at what people have decided
SAVE, SAVE_AT_LEAST = 3600.0, 600.0  # seconds between two savings of what is remembered; sooner where a case has opened or ended
MAX_MEMORY = 4 << 20
VERSION = 1
PLAUSIBLE = 1_767_225_600.0  # 2026-01-01: a clock that says less knows nothing (boxes without a clock chip begin in 1970)

FAILURES = Metric("ronda_evidence_failures_total", "Times that evidence of an incident could not be kept: the disk refused.", "counter")
METRICS = (*casebook.METRICS, FAILURES)


def _date(text: str) -> str:
    try:
        return f"{datetime.strptime(text, '%Y-%m-%d').replace(tzinfo=UTC):%Y-%m-%d}"
    except ValueError:
        raise ValueError from None  # without Python's words


def _reason(text: str) -> str:
    if not 4 <= len(text.strip()) <= 200:
        raise ValueError
    return text.strip()


Date = Annotated[str, Scalar("a date", _date, "e.g. 2026-12-31")]
Reason = Annotated[str, Scalar("a reason", _reason, "four to 200 characters that say why")]


def _mistyped(source: str) -> bool:
    """Whether it is written as a MAC or an address, and is none."""
    if "/" in source or not re.fullmatch(r"[^:]+(:[^:]*)+|[0-9.]+", source):
        return False  # a path, a name
    for parse in (parse_mac, parse_ip):
        with contextlib.suppress(ValueError):
            parse(source)
            return False
    return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuppressConfig:
    """One entry of `suppress:`. `until`: its last day in the office's zone; `source`: a MAC, an address, a path, else all."""

    rule: Text
    until: Date
    reason: Reason
    source: Text = ""

    def problems(self) -> Iterable[tuple[str, str]]:
        now = time.time()
        if now > PLAUSIBLE and end_of(self.until, UTC) - now > (MAX_DAYS + 2) * DAY:
            yield "until", f"is more than {MAX_DAYS} days ahead: what is accepted must be looked at again"
        if _mistyped(self.source):
            yield "source", "is neither a MAC nor an address, and would never fit (try 4c:5e:0c:11:22:33 or 192.0.2.1)"

    def suppression(self, zone: tzinfo) -> Suppression:
        return Suppression(self.rule, end_of(self.until, zone), self.reason, normal(self.source))


_IDS: dict[Path | None, Ids] = {}  # by data directory


def ids_of(data: Path | None) -> Ids:
    """The one giver of ids in this process for that directory: it knows those that there is evidence of."""
    if data not in _IDS:
        _IDS[data] = ids = Ids()
        try:
            for name in Evidence(data).names() if data else ():
                ids.known(name)
        except OSError as e:
            log.error("evidence that is there can't be seen: %s", e)
    return _IDS[data]


def _finite(text: str) -> float:
    """A time of infinity would be saved nevermore."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not a number")
    return value


class Cases:
    """`name`: of the kind, for its file of memory. Made anew for each start of the task; `begin` first, `end` last.

    cases = Cases(env, "lan", rules, config.suppress)
    patrol = Patrol(detectors, cases.book)
    await cases.begin(patrol)
    ...                                     # patrol.see(…), patrol.tick(…)
    events = await cases.turn(patrol)       # every second or so, after patrol.tick
    samples = cases.samples()
    await cases.end(patrol)
    """

    def __init__(self, env: Env, name: str, rules: Iterable[Rule], suppress: Sequence[SuppressConfig] = ()) -> None:
        zone = ZoneInfo(env.timezone)
        self._env, self._name = env, name
        self._configured: list[Suppression] = [entry.suppression(zone) for entry in suppress]
        self.book = Casebook(
            rules, env.code, env.timezone, suppressions=self._configured, ids=ids_of(env.data), where=self._where,
        )  # fmt: skip
        self._evidence = Evidence(env.data) if env.data else None
        self._watch = Watch(env.data) if env.data else None
        self._decided: list[Decision] = []
        self._accepted: set[int] = set()  # numbers of those that detectors were told of
        self._held: frozenset[str] = frozenset()
        self._looked_at = self._saved_at = float("-inf")
        self._changed = False
        self._said = ""
        for over in past(self._configured, env.clock.now()):
            log.warning("%s: suppress: the entry for %s (%s) is over and does nothing; take it out", name, over.rule, over.reason)

    def _where(self, fields: Mapping[str, str]) -> Place | None:
        """By what switches and routers have put on the board."""
        return place_of(self._env.board, fields, self._env.clock.monotonic())

    async def begin(self, patrol: Patrol) -> None:
        """Takes up what an earlier life has remembered, and what people have decided."""
        now, wall = self._env.clock.monotonic(), self._env.clock.now()
        held = await asyncio.to_thread(self._load)
        for what, take in (("detectors", lambda it: self._recall(patrol, it, now)), ("book", lambda it: self.book.recall(it, now, wall))):
            self._take_up(held, what, take)
        self._saved_at = now
        await self._look(patrol, now, tell=False)

    def _take_up(self, held: dict[str, Any], what: str, take: Callable[[Any], None]) -> None:
        try:
            if what in held:
                take(held[what])
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, LookupError) as e:
            log.warning("%s: what was remembered can't be used (%s: %r); it begins anew", self._name, what, e)

    def _recall(self, patrol: Patrol, held: Any, now: float) -> None:
        if lost := patrol.recall(held, now):
            log.warning("%s: these begin anew, what they remembered can't be used: %s", self._name, ", ".join(lost))

    async def turn(self, patrol: Patrol) -> list[Event]:
        """What there is to tell. Their evidence is on the disk, or counted as a failure, before they are."""
        now = self._env.clock.monotonic()
        if now - self._looked_at >= LOOK:
            await self._look(patrol, now)
        outcomes = self.book.drain()
        if self._evidence and any(outcome.frames for outcome in outcomes):
            await asyncio.to_thread(self._keep, outcomes)
        self._changed = self._changed or bool(outcomes)
        if now - self._saved_at >= (SAVE_AT_LEAST if self._changed else SAVE):
            await self._save(patrol, now)
        return [outcome.event for outcome in outcomes]

    async def end(self, patrol: Patrol) -> None:
        await self._save(patrol, self._env.clock.monotonic())

    def samples(self) -> Iterator[Sample]:
        yield from self.book.samples()
        yield FAILURES(self._evidence.failures if self._evidence else 0)

    # -- the disk ---------------------------------------------------------------------------------------------------------

    def _keep(self, outcomes: Sequence[Outcome]) -> None:
        assert self._evidence
        newest = {outcome.id: outcome for outcome in outcomes if outcome.frames}
        for outcome in newest.values():
            self._evidence.keep(outcome, self._held)

    async def _look(self, patrol: Patrol, now: float, *, tell: bool = True) -> None:
        """Takes up what people have decided. Detectors are told of what was accepted since this task began."""
        self._looked_at = now
        if not self._watch:
            return
        try:
            self._decided = await asyncio.to_thread(self._watch.look)
        except OSError as e:
            self._say(f"what people have decided can't be read: {e}")
            return
        self.book.suppress([*self._configured, *decisions.suppressions(self._decided)])
        self._held = frozenset(decisions.holds(self._decided, self._env.clock.now()))
        for decision in self._decided:
            if decision.what == "accept" and decision.number not in self._accepted:
                self._accepted.add(decision.number)
                accept = getattr(patrol.detectors.get(decision.rule), "accept", None)
                if tell and accept:
                    accept(decision.key, now)

    def _say(self, problem: str) -> None:
        if problem != self._said:
            log.error("%s: %s", self._name, problem)
        self._said = problem

    # -- memory -----------------------------------------------------------------------------------------------------------

    @property
    def _path(self) -> Path | None:
        return self._env.data / f"{self._name}.cases.json" if self._env.data else None

    def _load(self) -> dict[str, Any]:
        try:
            if not self._path:
                return {}
            with self._path.open("rb") as f:
                held = json.loads(f.read(MAX_MEMORY), parse_float=_finite, parse_constant=_finite)
            if held["version"] != VERSION:
                raise ValueError("of another version")
            return dict(held)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
            log.warning("%s can't be used, it begins anew: %r", self._path, e)
            return {}

    async def _save(self, patrol: Patrol, now: float) -> None:
        self._saved_at, self._changed = now, False
        if not self._path:
            return
        data = json.dumps({"version": VERSION, "detectors": patrol.remember(), "book": self.book.remember()}).encode()
        try:
            await asyncio.to_thread(files.replace, self._path, data)
            self._said = ""
        except OSError as e:
            self._say(f"what is learnt can't be kept: {e}")
