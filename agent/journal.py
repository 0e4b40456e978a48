"""The journal: every event of this site, durably on the box, numbered; and how far each exit has got with them.

Law: what `append` has stored survives a kill and a power cut. A number is never used twice within a journal, which is named by eight
random digits at its creation: a new box begins a new one. Bounded by bytes and by age; what goes without having left is counted by exit
and reason. A disk that refuses is said once and counted; the events stay in memory meanwhile (MAX_UNSAVED of them), leave from there,
and are stored when it serves again.

On disk: `<journal>-<first number>.seg`, append-only segments (agent/wire/segment.py; a record is one line of agent/wire/event.py that
stands on those before it: agent/wire/chain.py), a new one each day; `journal.json`, replaced atomically: the name, the chain's head, and
the exits' cursors. What is not ours is set aside (`….aside`).

All methods of Journal but `samples` and the properties may wait for the disk: call them in a thread; they are safe from several. `read`
is for whoever looks on while an agent writes: it takes no lock and changes nothing.
"""

import collections
import contextlib
import dataclasses
import json
import logging
import math
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agent import files
from agent.clock import Clock
from agent.model import Metric, Sample
from agent.segments import Segments, write_all
from agent.wire import chain
from agent.wire import event as lines
from agent.wire import segment as codec
from agent.wire.chain import Head
from agent.wire.event import Entry, EventError

log = logging.getLogger("ronda.journal")

MAX_BYTES = 16 << 20
MAX_AGE = 30 * 86400.0
SEGMENT_BYTES = 256 << 10
DAY = 86400.0
RECENT = 256  # entries kept in memory, so that what is new leaves without being read again
MAX_UNSAVED = 1000  # entries that wait in memory while the disk refuses
SKIPPED = 4096  # numbers left out after an end without warning: a card may have lost what it said it had, and a number may have left
MAX_STATE = 64 << 10
READ_TRIES = 8  # of a segment that the disk refuses to read, until exits pass it over
MAX_BOOTS = 8  # boots of which the true time is remembered
VERSION = 1

DROPPED = ("flood", "disk", "damaged")  # why an event is not in the journal
REASONS = ("overflow", "expired", "disk", "damaged", "refused")  # why one did not leave by an exit

STORED = Metric("ronda_journal_events_stored_total", "Events that the journal has stored.", "counter")
LOST = Metric(
    "ronda_journal_events_dropped_total",
    "Events that the journal does not hold: too many at once (flood), the disk refused and memory was full (disk), damaged on disk.",
    "counter",
    ("reason",),
)
BYTES = Metric("ronda_journal_bytes", "Size of the journal on disk.")
FAILURES = Metric("ronda_journal_failures_total", "Times that the disk refused to read or write the journal.", "counter")
ASIDE = Metric(
    "ronda_journal_set_aside_files", "Files of the journal set aside: of another site or journal, of a newer version, unreadable."
)
DELIVERED = Metric("ronda_events_delivered_total", "Events that have left by this exit.", "counter", ("exit",))
UNDELIVERED = Metric("ronda_events_undelivered_total", "Events that never leave by this exit, by reason.", "counter", ("exit", "reason"))
WAITING = Metric("ronda_events_waiting", "Events that have not left by this exit yet.", labels=("exit",))
LAG = Metric(
    "ronda_events_lag_seconds", "For how long the oldest event that has not left by this exit waits; 0: none does.", labels=("exit",)
)
METRICS = (STORED, LOST, BYTES, FAILURES, ASIDE, DELIVERED, UNDELIVERED, WAITING, LAG)


@dataclasses.dataclass(slots=True)
class _Segment:
    """What memory knows of a segment. `newest`: known time of its newest record, `oldest` of its first; 0: not known.

    refused: how often in a row the disk would not read it
    """

    name: str
    first: int
    last: int = 0
    size: int = codec.HEADER_BYTES
    records: int = 0
    oldest: float = 0.0
    newest: float = 0.0
    refused: int = 0

    def grow(self, seq: int, at: float, size: int) -> None:
        self.last, self.size, self.records = seq, self.size + size, self.records + 1
        self.oldest, self.newest = self.oldest or at, max(self.newest, at)


@dataclasses.dataclass(slots=True)
class Exit:
    """How far one exit has got. waits_since: monotonic; when the oldest that waits came, or was found at the start."""

    cursor: int = 0
    delivered: int = 0
    undelivered: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    waits_since: float = 0.0


@dataclasses.dataclass(slots=True)
class _State:
    """journal.json. boots: boot → what to add to its monotonic clock for the true time; head: of the chain, when it was saved."""

    journal: str = ""
    exits: dict[str, Exit] = dataclasses.field(default_factory=dict)
    dropped: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(DROPPED, 0))
    boots: dict[str, float] = dataclasses.field(default_factory=dict)
    ended: bool = True
    head: Head | None = None

    def dump(self, site: str) -> bytes:
        exits = {name: [e.cursor, e.delivered, e.undelivered] for name, e in tuple(self.exits.items())}  # others add to them meanwhile
        boots = {boot: round(base, 3) for boot, base in tuple(self.boots.items())}
        said = {"version": VERSION, "site": site, "journal": self.journal, "exits": exits, "dropped": self.dropped}
        head = {"head": [self.head.number, self.head.digest.hex()]} if self.head else {}
        return json.dumps(said | {"boots": boots, "ended": self.ended} | head).encode()


def _load(data: bytes, site: str | None) -> _State:
    """Raises ValueError, KeyError, TypeError, AttributeError, RecursionError for what is none of this site's (None: of any)."""
    said: Any = json.loads(data)
    if said["version"] > VERSION:
        raise ValueError("from a newer version of Ronda")
    if site is not None and said["site"] != site:
        raise ValueError(f"of the site {str(said['site'])[:40]!r}")
    if not re.fullmatch(r"[0-9a-f]{8}", said["journal"]):
        raise ValueError("no name of a journal")
    exits = {}
    for name, (cursor, delivered, undelivered) in said["exits"].items():
        counts = {reason: _count(undelivered.get(reason, 0)) for reason in REASONS}
        exits[str(name)] = Exit(_count(cursor), _count(delivered), counts)
    boots = {str(boot): base for boot, base in said["boots"].items() if isinstance(base, float) and math.isfinite(base)}
    dropped = {reason: _count(said["dropped"].get(reason, 0)) for reason in DROPPED} | {"damaged": 0}  # found again at each start
    return _State(said["journal"], exits, dropped, boots, bool(said["ended"]), _head(said.get("head")))


def _head(value: Any) -> Head | None:
    if value is None:
        return None
    number, digest = value
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError("not a head of the chain")
    return Head(_count(number), bytes.fromhex(digest))


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{str(value)[:20]!r} is not a count")
    return value


_NAME = re.compile(r"([0-9a-f]{8})-([0-9a-f]{16})\.seg")
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


class Journal(Segments[_Segment]):
    """Opens and recovers at once (reads every segment). Never raises for a disk that refuses: `problem` says so, and each `append` tries
    again. Raises InUse where another process has it. `exits` are those in force: only they are waited for, and counted against.
    """

    def __init__(self, directory: Path, site: str, clock: Clock, *, max_bytes: int = MAX_BYTES, max_age: float = MAX_AGE) -> None:
        super().__init__(directory, site, clock, "journal", "events stay in memory", SEGMENT_BYTES * 4)
        self.max_bytes, self.max_age = max_bytes, max_age
        self.exits: set[str] = set()
        self.stored = 0
        self._segment_bytes = min(SEGMENT_BYTES, max_bytes // 8)
        self._state = _State()
        self._saved = b""
        self._chain: list[_Segment] = []
        self._fd = -1  # of the last segment, where it may grow
        self._next = 1
        self._recent: collections.deque[Entry] = collections.deque(maxlen=RECENT)
        self._unsaved: collections.deque[Entry] = collections.deque()
        self._found = False
        self._head: Head | None = None  # behind the last line that is stored
        if not self._open():  # a name to go by; it stays if the disk, once it serves, holds none
            self._state.journal = secrets.token_hex(4)

    # -- what it holds (memory only) --------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The journal's name: it and a number make an event unique."""
        return self._state.journal

    @property
    def last(self) -> int:
        """The last number given, or 0."""
        return self._recent[-1].seq if self._recent else self._chain[-1].last if self._chain else 0

    @property
    def size(self) -> int:
        return sum(segment.size for segment in tuple(self._chain))

    @property
    def head(self) -> chain.Told | None:
        """The chain's head, as others are told it; None: there is no line yet."""
        head = self._head
        return chain.tell(self.id, head) if head else None

    def cursor(self, name: str) -> int:
        return self._exit(name).cursor

    def _exit(self, name: str) -> Exit:
        return self._state.exits.setdefault(name, Exit())

    def waiting(self, name: str) -> int:
        """How many events wait for this exit."""
        cursor = self.cursor(name)
        on_disk = sum(_beyond(segment, cursor) for segment in tuple(self._chain))
        return on_disk + sum(entry.seq > cursor for entry in tuple(self._unsaved))

    def samples(self) -> Iterator[Sample]:
        yield STORED(self.stored)
        for reason, n in self._state.dropped.items():
            yield LOST(n, reason)
        yield BYTES(self.size)
        yield FAILURES(self.failures)
        yield ASIDE(self.aside)
        for name in sorted(self.exits):
            it, waiting = self._exit(name), self.waiting(name)
            yield DELIVERED(it.delivered, name)
            for reason, n in it.undelivered.items():
                yield UNDELIVERED(n, name, reason)
            yield WAITING(waiting, name)
            yield LAG(max(0.0, self._clock.monotonic() - it.waits_since) if waiting else 0.0, name)

    # -- into it ----------------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """Numbers the entries in this order and stores them, durably. What the disk refuses stays in memory, and is tried with the next."""
        with self._lock:
            now = self._clock.monotonic()
            for name in self.exits:
                if not self.waiting(name):
                    self._exit(name).waits_since = now
            for entry in entries:
                numbered = dataclasses.replace(entry, seq=self._next)
                self._next += 1
                self._recent.append(numbered)
                self._unsaved.append(numbered)
            try:
                if self._opened or self._open():
                    self._store()
                    self._worked("write")
            except OSError as e:
                self._failed("write", e)
            self._bound_memory()

    def retry(self) -> None:
        """Tries what the disk refused once more."""
        if self._unsaved:
            self.append(())

    def drop(self, reason: str, n: int = 1) -> None:
        """Counts events that never came here. Never waits for the disk."""
        self._state.dropped[reason] += n

    def _store(self) -> None:
        """Writes what memory alone holds. Raises OSError; what is left is still there then."""
        while self._unsaved:
            batch = self._fitting()
            at = [0.0 if entry.unsure else entry.event.last_seen for entry in batch]
            linked, head = self._linked(batch)
            segment = self._writable(batch[0].seq, at[0], sum(map(len, linked)) + codec.RECORD_BYTES * len(batch))
            blobs = []
            for n, (entry, when, line) in enumerate(zip(batch, at, linked, strict=True)):
                blobs.append(codec.pack_record(self._seed, entry.seq, when, 1, segment.records + n, line))
            self._write(segment, b"".join(blobs))
            self._head = self._state.head = head
            for entry, when, blob in zip(batch, at, blobs, strict=True):
                self._unsaved.popleft()  # first: who counts meanwhile must not find it twice
                segment.grow(entry.seq, when, len(blob))
            self.stored += len(batch)
            self._make_room()

    def _linked(self, batch: Sequence[Entry]) -> tuple[list[bytes], Head]:
        """The entries as lines that stand on each other, and the head behind the last."""
        head = self._head or Head(0, chain.genesis(self.id))
        linked = []
        for entry in batch:
            linked.append(line := chain.link(lines.encode(entry), head.digest))
            head = Head(entry.seq, chain.step(head.digest, chain.digest(line)))
        return linked, head

    def _fitting(self) -> list[Entry]:
        """As many of the first as go into one segment."""
        batch: list[Entry] = []
        size = codec.HEADER_BYTES
        for entry in self._unsaved:
            size += codec.RECORD_BYTES + chain.PREV_BYTES + len(lines.encode(entry))
            if batch and size > self._segment_bytes:
                break
            batch.append(entry)
        return batch

    def _writable(self, seq: int, at: float, size: int) -> _Segment:
        """The last segment where it may take `size` more, else a new one, not yet on disk."""
        if self._fd >= 0:
            last = self._chain[-1]
            young = not (at and last.oldest) or at - last.oldest < DAY
            if young and last.size + size <= self._segment_bytes:
                return last
            self._seal()
        return _Segment(f"{self.id}-{seq:016x}.seg", seq)

    def _write(self, segment: _Segment, blob: bytes) -> None:
        """Appends to the segment's file, durably; all of it or, raising OSError, nothing."""
        if self._fd >= 0:
            try:
                if not os.fstat(self._fd).st_nlink:
                    raise FileNotFoundError(2, os.strerror(2))
                write_all(self._fd, blob)
            except OSError:  # after a failed sync the kernel forgets what it could not write: this segment takes no more
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, segment.size)
                self._seal()
                self._start_afresh_if_gone()
                raise
            return
        path = self.directory / segment.name
        try:
            fd = _created(path)
        except FileNotFoundError:
            self._start_afresh_if_gone()
            raise
        self._fill(path, fd, blob)
        self._fd = fd
        self._chain.append(segment)

    def _seal(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _start_afresh_if_gone(self) -> None:
        """Somebody removed our files under us: what they held is gone; the next append opens the directory again."""
        gone = [segment for segment in self._chain if not (self.directory / segment.name).exists()]
        for segment in gone:
            self._forget(segment, "damaged")
        if gone or not self.directory.exists():
            self._let_go()

    def _bound_memory(self) -> None:
        while len(self._unsaved) > MAX_UNSAVED:
            entry = self._unsaved.popleft()
            self._state.dropped["disk"] += 1
            for name in self.exits:
                if entry.seq > self.cursor(name):
                    self._exit(name).undelivered["disk"] += 1

    # -- out of it --------------------------------------------------------------------------------------------------------

    def after(self, seq: int, limit: int = 64 << 10) -> list[Entry]:
        """The entries after this number, in order: about `limit` bytes of them, but at least one where there is one.

        Raises OSError where the disk refuses to read the next; after READ_TRIES it is passed over.
        """
        with self._lock:
            found: list[Entry] = []
            size = 0
            try:
                for entry in self._entries(seq):
                    found.append(entry)
                    size += 200 + len(entry.event.message) + sum(len(k) + len(v) for k, v in entry.event.fields.items())
                    if size >= limit:
                        break
            except OSError:
                if not found:
                    raise
            return found

    def _entries(self, seq: int) -> Iterator[Entry]:
        if not (self._recent and self._recent[0].seq <= seq + 1):
            for segment in tuple(self._chain):
                if segment.last > seq:
                    yield from (entry for entry in self._read(segment) if entry.seq > seq)
            yield from (entry for entry in tuple(self._unsaved) if entry.seq > seq)
            return
        yield from (entry for entry in tuple(self._recent) if entry.seq > seq)

    def _read(self, segment: _Segment) -> Iterator[Entry]:
        try:
            data = (self.directory / segment.name).read_bytes()
        except OSError as e:
            self._failed("read", e)
            segment.refused += 1
            if segment.refused < READ_TRIES and not isinstance(e, FileNotFoundError):
                raise
            return
        segment.refused = 0
        self._worked("read")
        yield from _parsed(self._seed, data[: segment.size])

    def delivered(self, name: str, journal: str, seq: int, sent: int, *, refused: int = 0) -> None:
        """All of this journal up to this number have left by the exit: so many were sent, so many refused for good; others, passed over,
        were damaged. Never waits for the disk.
        """
        it = self._exit(name)
        if journal != self.id or seq <= it.cursor:
            return
        passed = self._between(it.cursor, seq)
        it.cursor, it.waits_since = seq, self._clock.monotonic()
        it.delivered += sent
        it.undelivered["refused"] += refused
        it.undelivered["damaged"] += max(0, passed - sent - refused)

    def _between(self, after: int, upto: int) -> int:
        """How many events there are after one number and up to another. Those that are just being stored may be missing."""
        on_disk = sum(max(0, _beyond(segment, after) - _beyond(segment, upto)) for segment in tuple(self._chain))
        return on_disk + sum(after < entry.seq <= upto for entry in tuple(self._unsaved))

    # -- what goes --------------------------------------------------------------------------------------------------------

    def tidy(self, now: float | None) -> None:
        """Drops what is too old by `now`; None: nobody knows the time, nothing is."""
        with self._lock:
            if now is None:
                return
            gone = 0
            for n, segment in enumerate(self._chain[:-1], 1):
                if 0 < segment.newest < now - self.max_age:
                    gone = n
                elif 0 < segment.newest <= now + DAY:
                    break
            for segment in self._chain[:gone]:
                self._remove(segment, "expired")

    def _make_room(self) -> None:
        while self.size > self.max_bytes and len(self._chain) > 1:
            self._remove(self._chain[0], "overflow")

    def _remove(self, segment: _Segment, reason: str) -> None:
        self._forget(segment, reason)
        try:
            (self.directory / segment.name).unlink(missing_ok=True)
            self._worked("delete")
        except OSError as e:
            self._failed("delete", e)

    def _forget(self, segment: _Segment, reason: str) -> None:
        for name in self.exits:
            self._exit(name).undelivered[reason] += _beyond(segment, self.cursor(name))
        self._chain.remove(segment)
        while self._recent and self._recent[0].seq <= segment.last:
            self._recent.popleft()

    # -- the state --------------------------------------------------------------------------------------------------------

    def learn(self, boot: str, base: float) -> None:
        """The true time of a boot is known: what it stored while it was not can be put right, later too. Never waits for the disk."""
        boots = self._state.boots
        if abs(boots.get(boot, math.inf) - base) > 1.0:
            boots.pop(boot, None)
            boots[boot] = base
            for old in list(boots)[:-MAX_BOOTS]:
                del boots[old]

    def placed(self, entry: Entry) -> Entry:
        """The entry with its true times, where they can be told."""
        base = self._state.boots.get(entry.boot) if entry.unsure else None
        return entry if base is None else entry.moved(entry.mono + base - entry.event.last_seen)

    @property
    def changed(self) -> bool:
        """Whether journal.json is behind."""
        return self._state.dump(self.site) != self._saved

    def save(self, *, ended: bool = False) -> None:
        """Writes journal.json where it is behind. What has left since the last time leaves again after a kill or a power cut."""
        with self._lock:
            self._state.ended = ended
            if not self._opened or not self.changed:
                return
            try:
                data = self._state.dump(self.site)
                files.replace(self.directory / "journal.json", data, durable=True)
                self._saved = data
                self._worked("state")
            except OSError as e:
                self._failed("state", e)

    def close(self) -> None:
        """After the last append: this run ended well."""
        with self._lock:
            self.save(ended=not self._unsaved)
            self._let_go()
            self._closed = True

    def _let_go_of_files(self) -> None:
        self._seal()

    # -- opening ----------------------------------------------------------------------------------------------------------

    def _open(self) -> bool:
        if opened := super()._open():
            self.save()
        return opened

    def _recover(self) -> None:
        had, self._chain, self._head = self._head, [], None
        named = self.id  # what went by memory alone, while the disk refused
        if not self._found:
            self._take_state()
        paths = sorted(self.directory.iterdir())
        if not self._state.journal:
            self._state.journal = self._newest_name(paths) or named or secrets.token_hex(4)
        for path in paths:
            self._take(path)
        self.aside = sum(path.name.endswith(".aside") for path in self.directory.iterdir())
        if not self._chain and self._found and self._next == 1:
            self._begin_anew()
        if not self._chain:
            self._head = had  # the files are gone under us: the chain goes on from what was stored
        self._check_head()
        highest = max([segment.last for segment in self._chain[-1:]] + [it.cursor for it in self._state.exits.values()], default=0)
        self._next = max(self._next, highest + 1 + (0 if self._state.ended or not self._chain else SKIPPED))
        self._found = True
        if named and named != self.id:
            self._renumber()
        for it in self._state.exits.values():
            it.waits_since = self._clock.monotonic()

    def _renumber(self) -> None:
        """The disk was found late, and holds a journal: what memory has is numbered on from there. What has left already leaves again."""
        waiting = [dataclasses.replace(entry, seq=self._next + n) for n, entry in enumerate(self._unsaved)]
        self._next += len(waiting)
        self._recent.clear()
        self._recent.extend(waiting)
        self._unsaved = collections.deque(waiting)

    def _take_state(self) -> None:
        path = self.directory / "journal.json"
        state = _State(dropped=self._state.dropped, ended=False)
        try:
            with path.open("rb") as f:
                state = _load(f.read(MAX_STATE), self.site)
            self._found, self._saved = True, state.dump(self.site)
            for reason, n in self._state.dropped.items():
                state.dropped[reason] += n
        except FileNotFoundError:
            pass
        except _DAMAGED as e:
            self._set_aside(path, f"{e}" if str(e).startswith(("from", "of")) else f"damaged: {e!r:.100}")
        self._state = state

    def _begin_anew(self) -> None:
        """No segment is left that tells which numbers were given: a new name, and numbers from 1 again."""
        if any(it.cursor for it in self._state.exits.values()):
            log.error("%s: the segments of journal %s are gone; a new journal begins", self.directory, self.id)
        self._state.journal = secrets.token_hex(4)
        self._state.head = None
        for it in self._state.exits.values():
            it.cursor = 0

    def _check_head(self) -> None:
        """Lines that this journal has had, and that are not there: the chain goes on from what is, and verification names the place."""
        said, self._state.head = self._state.head, self._head
        if said and (not self._head or self._head.number < said.number):
            last = self._head.number if self._head else 0
            log.error("%s: the lines %d to %d of journal %s are gone", self.directory, last + 1, said.number, self.id)

    def _newest_name(self, paths: Iterable[Path]) -> str:
        """Without journal.json: the name that the newest segment of this site bears."""
        named = [(path, match[1]) for path in paths if (match := _NAME.fullmatch(path.name)) and path.is_file()]
        return max(((path.stat().st_mtime, name) for path, name in named if self._is_ours(path)), default=(0.0, ""))[1]

    def _is_ours(self, path: Path) -> bool:
        with path.open("rb") as f:
            return f.read(codec.HEADER_BYTES) == self._header

    def _take(self, path: Path) -> None:
        """Takes up one file of the directory; those that are not ours stay as they are."""
        match = _NAME.fullmatch(path.name)
        if match and path.is_file() and not path.is_symlink():
            if match[1] != self.id:
                self._set_aside(path, f"of another journal, {match[1]}")
            else:
                self._take_segment(path, _Segment(path.name, int(match[2], 16)))

    def _index(self, segment: _Segment, data: bytes) -> bool:
        """Learns what the segment holds. False: not one whole record. What damage took is told by the next whole record."""
        end = expected = 0
        line = b""
        for stored in codec.scan(self._seed, data):
            if stored.before > expected:
                self._state.dropped["damaged"] += stored.before - expected
            expected = stored.before + 1
            segment.grow(stored.sequence, stored.at, 0)
            end, line = stored.end, stored.data
        if not end:
            return False
        self._head = chain.behind(line, segment.last)
        segment.size = end
        segment.records = expected  # so that `before` goes on as it should
        self._chain.append(segment)
        return True

    def _cut(self, path: Path, segment: _Segment, size: int) -> None:
        """Cuts the torn tail, and goes on with the segment if it is the last."""
        self._cut_tail(path, segment.size, size)
        self._seal()
        if self._state.ended and segment.size < self._segment_bytes:
            with contextlib.suppress(OSError):  # where it can't be written, the next append begins another
                self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


def _beyond(segment: _Segment, cursor: int) -> int:
    """How many of a segment's records come after the cursor: within a segment the numbers have no gaps."""
    return max(0, min(segment.records, segment.last - cursor))


def _parsed(seed: int, data: bytes) -> Iterator[Entry]:
    """The entries in a segment's bytes."""
    return _entries(codec.scan(seed, data))


def _entries(records: Iterable[codec.Stored]) -> Iterator[Entry]:
    """What is whole but no event (a newer version wrote it) is passed over."""
    for stored in records:
        try:
            entry = lines.decode(stored.data)
        except EventError as e:
            log.error("record %d of the journal can't be read: %s", stored.sequence, e)
            continue
        yield entry


def _created(path: Path) -> int:
    """A descriptor of a new file. One of this name is what a failed try has left on a disk that would not let it go. Raises OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError:
        path.unlink()
        return os.open(path, flags, 0o600)


# -- looking on --------------------------------------------------------------------------------------------------------------------


class Reader:
    """Reads a journal beside whoever writes it. Raises OSError where there is none, or it can't be read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.site = self.journal = self._named = ""
        self.saved: Head | None = None  # the chain's head, as journal.json has it
        self.first = 0  # the number that the oldest file begins with, as its name says
        self._boots: dict[str, float] = {}

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """All that is stored, oldest first, from the number after this one on. `journal` and `site` are known with the first."""
        self._read_state()
        found = sorted(match.groups() for p in self.directory.iterdir() if (match := _NAME.fullmatch(p.name)))
        for (journal, first), following in zip(found, [*found, None][1:], strict=True):
            if following is None or following[0] != journal or int(following[1], 16) > after + 1:
                self.journal = journal
                yield from (self._placed(entry) for entry in self._of(f"{journal}-{first}.seg") if entry.seq > after)

    def lines(self) -> Iterator[bytes]:
        """All lines as stored, oldest first: of the newest journal only. What it says of itself is known with the first."""
        self._read_state()
        found = sorted(match.groups() for p in self.directory.iterdir() if (match := _NAME.fullmatch(p.name)))
        newest = self._named or max(((self.directory / f"{j}-{n}.seg").stat().st_mtime, j) for j, n in found)[1] if found else ""
        self.journal = self._named or newest
        ours = [(journal, first) for journal, first in found if journal == self.journal]
        self.first = int(ours[0][1], 16) if ours else 0
        for journal, first in ours:
            yield from (stored.data for stored in self._stored(f"{journal}-{first}.seg"))

    def _read_state(self) -> None:
        self._named, self.saved = "", None
        try:
            data = (self.directory / "journal.json").read_bytes()
            state = _load(data, None)
            self._boots, self.site = state.boots, str(json.loads(data)["site"])
            self._named, self.saved = state.journal, state.head
        except (FileNotFoundError, *_DAMAGED):
            self._boots = {}

    def _of(self, name: str) -> Iterator[Entry]:
        return _entries(self._stored(name))

    def _stored(self, name: str) -> Iterator[codec.Stored]:
        try:
            data = (self.directory / name).read_bytes()
            self.site = codec.read_header(data).site or self.site
        except FileNotFoundError:  # it has just become too old
            return
        except codec.SegmentError:
            pass  # a damaged header: the records say whose they are, by the header of another
        yield from codec.scan(codec.seed(self.site), data)

    def _placed(self, entry: Entry) -> Entry:
        base = self._boots.get(entry.boot) if entry.unsure else None
        return entry if base is None else entry.moved(entry.mono + base - entry.event.last_seen)
