"""The sink of events: what a flood of them becomes, their true times, and when they are written to the journal.

Law: `write` never waits and never raises. Nothing repeats itself into the card: the first of its like is kept at once, those that follow
within a minute are folded into one with their count, and the minute doubles up to an hour while it goes on. Beyond that there is so much
room, the more severe the more of it; what finds none is counted, and said in an event of its own. Writes to the card have a budget too:
events are gathered for half a second, and for longer when it is used up; a critical one never waits.
"""

import asyncio
import collections
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from agent import timesync
from agent.bucket import Bucket
from agent.clock import Cancellable, Clock
from agent.delivery import Boot
from agent.journal import Journal
from agent.model import Batch, Event, Sample
from agent.wire.event import Entry, bounded

log = logging.getLogger("ronda")

GATHER = 0.5  # seconds that events are gathered before they are written
FOLD, FOLD_MAX = 60.0, 3600.0  # seconds
MAX_FOLDS = 500  # sorts of events that are watched for repetition
BURST, EVERY = 200, 120.0  # events beside repetitions: so many at once, then one each so many seconds; 0.4 MB a day
ROOM = {"critical": 0.0, "warning": 40.0, "info": 100.0}  # of BURST is left alone by them
WRITES, WRITE_EVERY = 30, 1080.0  # writes of 4 KiB to the card likewise: 110 on the worst day, with the events themselves 0.65 MB
SAVES, SAVE_EVERY = 6, 1800.0  # and of how far the exits have got: 54, 0.22 MB; what has left since leaves again after a kill
SAY_DROPPED_EVERY = 600.0  # seconds between two tellings of what a flood has cost
OLDEST = 86_400.0  # seconds that an event may say it lies back


class Told(NamedTuple):
    """An event as it came: `at` and `since` (the first of its like) are monotonic seconds."""

    event: Event
    task: str
    labels: Mapping[str, str]
    since: float
    at: float


def alike(told: Told) -> tuple[object, ...]:
    """What makes two events the same. Numbers in the fields don't: they count, measure, and never repeat themselves."""
    event = told.event
    words = tuple((name, value) for name, value in event.fields.items() if not value.replace(".", "", 1).isdecimal())
    return told.task, event.kind, event.severity, event.message, words


@dataclasses.dataclass(slots=True)
class Fold:
    """One sort of event: until when its like is folded, and what has come meanwhile."""

    until: float
    span: float
    held: Told | None = None


class Flood:
    """Folds what repeats itself, and counts what is too much. Times are arguments (monotonic seconds)."""

    def __init__(self, now: float) -> None:
        self._folds: collections.OrderedDict[tuple[object, ...], Fold] = collections.OrderedDict()
        self._room, self._room_at = float(BURST), now
        self.dropped: collections.Counter[str] = collections.Counter()  # by kind, since it was last said

    def take(self, told: Told, now: float) -> list[Told]:
        """What goes on of this event: itself, or nothing yet; and what made room for it."""
        key = alike(told)
        gone = self.due(now)
        fold = self._folds.get(key)
        if fold and now < fold.until:
            fold.held = _merged(fold.held, told) if fold.held else told
            return list(self.admit(gone, now))
        span = min(FOLD_MAX, fold.span * 2) if fold else FOLD
        self._folds[key] = Fold(now + span, span)
        self._folds.move_to_end(key)
        if len(self._folds) > MAX_FOLDS and (old := self._folds.popitem(last=False)[1].held):
            gone.append(old)
        return list(self.admit([*gone, told], now))

    def due(self, now: float) -> list[Told]:
        """What was folded, where its time is over. While it repeats itself it goes on being folded, each time for twice as long."""
        found = []
        for key, fold in [(k, f) for k, f in self._folds.items() if f.until <= now]:
            if fold.held:
                found.append(fold.held)
                span = min(FOLD_MAX, fold.span * 2)
                self._folds[key] = Fold(now + span, span)
            elif fold.until + fold.span <= now:  # quiet for as long again: news when it comes again
                del self._folds[key]
        return found

    def end(self) -> list[Told]:
        """All that is still held: nothing comes after it."""
        found = [fold.held for fold in self._folds.values() if fold.held]
        self._folds.clear()
        return found

    @property
    def next(self) -> float | None:
        """When something is due; None: nothing is held."""
        return min((fold.until for fold in self._folds.values() if fold.held), default=None)

    def admit(self, many: list[Told], now: float) -> Iterator[Told]:
        self._room = min(float(BURST), self._room + max(0.0, now - self._room_at) / EVERY)
        self._room_at = now
        for told in many:
            if self._room - 1.0 < ROOM[told.event.severity]:
                self.dropped[told.event.kind] += told.event.count
            else:
                self._room -= 1.0
                yield told


def _merged(old: Told, new: Told) -> Told:
    event = dataclasses.replace(new.event, count=old.event.count + new.event.count)
    return new._replace(event=event, since=min(old.since, new.since))


class Events:
    """The sink. `stored` is called when there is news for the exits; `centre_base` gives what to add to monotonic time, if it knows."""

    def __init__(self, clock: Clock, boot: Boot, journal: Journal, stored: Callable[[], None]) -> None:
        self._clock, self._boot, self.journal, self._stored = clock, boot, journal, stored
        self.centre_base: Callable[[], float | None] = lambda: None
        self._flood = Flood(clock.monotonic())
        self._card = Bucket(WRITES, WRITE_EVERY, clock.monotonic())
        self._saves = Bucket(SAVES, SAVE_EVERY, clock.monotonic())  # of its own: events would leave it nothing in a flood
        self._waiting: list[Told] = []
        self._urgent = False
        self._said_at = float("-inf")
        self._wake = asyncio.Event()
        self._storing = asyncio.Lock()
        self._alarm: Cancellable | None = None
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._running = asyncio.ensure_future(self._run())

    # -- the sink ---------------------------------------------------------------------------------------------------------

    def write(self, batch: Batch) -> None:
        for event in batch.events:
            self._take(event, batch)

    def tell(self, event: Event) -> None:
        """An event of the agent's own."""
        self.write(Batch("", {}, self._clock.now(), (), (event,)))

    def _take(self, event: Event, batch: Batch) -> None:
        now, wall = self._clock.monotonic(), self._clock.now()
        last = event.last_seen or wall
        at = now - min(OLDEST, max(0.0, wall - last))
        since = at - min(OLDEST, max(0.0, last - (event.first_seen or last)))
        went = self._flood.take(Told(bounded(event), batch.task, batch.labels, since, at), now)
        if went:
            for told in went:
                _say(told)
            self._waiting += went
            self._urgent = self._urgent or any(told.event.severity == "critical" for told in went)
            self._wake.set()
        self._set_alarm()

    def _set_alarm(self) -> None:
        """Wakes us when something that is folded is due."""
        if self._alarm:
            self._alarm.cancel()
        when = self._flood.next
        self._alarm = self._clock.call_at(when, self._wake.set) if when is not None else None

    # -- the times --------------------------------------------------------------------------------------------------------

    def base(self) -> float | None:
        """What to add to monotonic seconds for the true time: as the centre says, else by a clock that may be believed, or None."""
        known = self.centre_base()
        if known is None and (self._boot.kept or _synchronised()):
            known = self._clock.now() - self._clock.monotonic()
        if known is not None:
            self.journal.learn(self._boot.id.hex(), known)
        return known

    def now(self) -> float:
        """The true time as far as anybody knows it."""
        base = self.base()
        return self._clock.now() if base is None else base + self._clock.monotonic()

    def _entry(self, told: Told, base: float | None) -> Entry:
        sure = base is not None
        add = base if base is not None else self._clock.now() - self._clock.monotonic()
        event = dataclasses.replace(told.event, first_seen=told.since + add, last_seen=told.at + add)
        boot, mono = ("", 0.0) if sure else (self._boot.id.hex(), told.at)
        return Entry(0, bounded(event), told.task, told.labels, not sure, boot, mono)

    # -- to the journal ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._clock.sleep(GATHER)
            self._fold()
            wait = self._card.wait(self._clock.monotonic()) if self._waiting and not self._urgent else 0.0
            if wait:
                alarm = self._clock.call_at(self._clock.monotonic() + wait, self._wake.set)
                await self._wake.wait()
                alarm.cancel()
                continue
            await self.flush()

    def _fold(self) -> None:
        now = self._clock.monotonic()
        due = list(self._flood.admit(self._flood.due(now), now))
        for told in due:
            _say(told)
        self._waiting += due
        self._set_alarm()

    async def flush(self) -> None:
        """Stores what waits, now. Who is cancelled meanwhile does not cancel the storing."""
        await asyncio.shield(self._store())

    async def _store(self) -> None:
        async with self._storing:
            if self._waiting:
                await self._store_waiting()

    async def _store_waiting(self) -> None:
        told, self._waiting, self._urgent = self._waiting, [], False
        self._card.take(self._clock.monotonic())
        try:
            base = self.base()
            await asyncio.to_thread(self.journal.append, [self._entry(t, base) for t in told])
        except Exception:  # nobody sees to us: the next events must find us alive
            log.exception("%d events were not journalled", len(told))
            self.journal.drop("disk", len(told))
        self._stored()

    async def tidy(self) -> None:
        """To be called every minute."""
        self._say_dropped()
        now, base = self._clock.monotonic(), self.base()
        await asyncio.to_thread(self.journal.retry)
        await asyncio.to_thread(self.journal.tidy, None if base is None else now + base)
        if self.journal.changed and not self._saves.take(now):
            await asyncio.to_thread(self.journal.save)

    def _say_dropped(self) -> None:
        """What a flood has cost, as an event that no flood can take."""
        now = self._clock.monotonic()
        dropped = self._flood.dropped
        if not (n := dropped.total()) or now - self._said_at < SAY_DROPPED_EVERY:
            return
        self._said_at, self._flood.dropped = now, collections.Counter()
        self.journal.drop("flood", n)
        kinds = ", ".join(f"{kind} {count}" for kind, count in dropped.most_common(10))
        event = Event("events_dropped", "warning", "too many events at once: some were left out", {"events": str(n), "kinds": kinds})
        _say(told := Told(event, "", {}, now, now))
        self._waiting.append(told)
        self._wake.set()

    async def close(self) -> None:
        """Stores what there is."""
        if self._alarm:
            self._alarm.cancel()
        if self._running:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        now = self._clock.monotonic()
        self._waiting += self._flood.admit(self._flood.end(), now)
        self.journal.drop("flood", self._flood.dropped.total())
        await self.flush()
        await asyncio.to_thread(self.journal.close)

    def samples(self) -> Iterator[Sample]:
        return self.journal.samples()


def _synchronised() -> bool:
    try:
        return timesync.read().synchronised
    except OSError:
        return False


def _say(told: Told) -> None:
    event = told.event
    level = logging.INFO if event.severity == "info" else logging.WARNING
    times = f" ({event.count} times)" if event.count > 1 else ""
    log.log(level, "event %s: %s%s %s", event.kind, event.message, times, " ".join(f"{k}={v}" for k, v in event.fields.items()))
