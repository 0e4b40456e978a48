"""The durable buffer: the samples that could not be delivered yet, on disk.

Law: what `append` has taken survives a kill and a power cut. Bounded by bytes and by age; what must go goes by rank, and every
sample that goes is counted by its reason (agent/ledger.py). Order is by sequence number; no wall clock is asked but to judge age. A
disk that refuses (full, read-only, broken) is said once and counted, the records stay with the caller, and all works again when it does.

On disk: `<sequence>-<rank>.seg` (agent/wire/segment.py), one chain of append-only segments a rank, so that thinning is deleting;
`ledger.json`, replaced atomically. What is not ours is set aside (`….aside`) or left alone, never deleted.

How to use it (all methods but `samples` may wait for the disk: call them in a thread; they are safe from several):
    left = buffer.append(records)      # durable on return but for `left`, which the disk refused: keep them, try later
    entries = buffer.oldest(256 << 10) # the same again until they are done; then one of:
    buffer.done(entries)               # delivered. A restart may send again what was delivered in the last minute before a kill
                                       # (harmless), and what was done out of turn: finish the oldest first
    buffer.give_up(entries, "refused") # never will be: counted
    buffer.tidy(now)                   # every minute or so; now=None while the wall clock is not trusted: nothing expires then
    buffer.ledger.add("refused", n)    # samples that never came to the disk
    if buffer.ledger.holds(n): buffer.save()  # memory alone holds n samples now: what a power cut costs, said at the next start
    buffer.close()                     # after the last append: the next start then knows that nothing was lost
A record's `at` is trusted wall time, or 0 while the true time is unknown (such a record expires with the next known one after it).
"""

import contextlib
import enum
import errno
import heapq
import logging
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.clock import Clock
from agent.ledger import REASONS, Ledger
from agent.model import Metric, Sample
from agent.segments import Segments, write_all
from agent.wire import segment as codec

log = logging.getLogger("ronda.buffer")

MAX_BYTES = 64 << 20
MAX_AGE = 7 * 86400.0
SEGMENT_BYTES = 1 << 20
SAVE_EVERY = 60.0  # seconds: how often the ledger's file is written; what is younger is covered by its `at_risk`
AGE_EVERY = 600.0  # seconds between looks for what is too old
RELAX_EVERY = 3600.0  # seconds after which the ledger forgets how much memory held at most
AHEAD = 86400.0  # seconds: a record stamped further ahead of a trusted now has no known time

BYTES = Metric("ronda_buffer_bytes", "Size of the buffer of what is not yet delivered, on disk.")
RECORDS = Metric("ronda_buffer_records", "Records in the buffer on disk.")
OLDEST = Metric("ronda_buffer_oldest_timestamp_seconds", "Time of about the oldest record in the buffer; absent where there is none.")
UNDELIVERED = Metric(
    "ronda_samples_undelivered_total", "The ledger: samples that never reach the centre, by reason.", "counter", ("reason",)
)
FAILURES = Metric("ronda_buffer_failures_total", "Times that the disk refused to read or write the buffer.", "counter")
ASIDE = Metric("ronda_buffer_set_aside_files", "Files of the buffer set aside: of another site, of a newer version, or unreadable.")
METRICS = (BYTES, RECORDS, OLDEST, UNDELIVERED, FAILURES, ASIDE)


class Rank(enum.IntEnum):
    """What is given up first. A lower rank never takes the place of a higher one."""

    BUCKETS = 0  # of histograms
    SAMPLES = 1
    VERDICTS = 2


class Record(NamedTuple):
    """What the caller wants kept. at: wall seconds of its newest sample (0: unknown); samples: so many are in it; data: at most 1 MiB."""

    rank: Rank
    at: float
    samples: int
    data: bytes


class Entry(NamedTuple):
    """A record that is in the buffer; only `rank`, `at`, `samples`, `data` are the caller's business."""

    rank: Rank
    at: float
    samples: int
    data: bytes
    segment: str
    stored: codec.Stored


class _Segment:
    """What memory knows of a segment. `size` ends its last whole record; `offset` and `passed` (samples) say how far it is done."""

    __slots__ = ("at", "done", "earliest", "name", "offset", "passed", "rank", "records", "samples", "sequence", "size", "unreadable")

    def __init__(self, sequence: int, rank: Rank) -> None:
        self.name = f"{sequence:016x}-{rank.name.lower()}.seg"
        self.sequence, self.rank = sequence, rank
        self.size = self.offset = codec.HEADER_BYTES
        self.samples = self.passed = self.records = 0
        self.at = 0.0  # known time of the first record not done, or of the one done before it
        self.earliest = 0.0  # of the known times in it; 0: none is known
        self.unreadable = False
        self.done: dict[int, codec.Stored] = {}  # done ahead of `offset`, by where the search for each began

    def grow(self, at: float, samples: int, size: int) -> None:
        self.size += size
        self.samples += samples
        self.records += 1
        self.at = self.at or at
        self.timed(at)

    def timed(self, at: float) -> None:
        if at > 0:
            self.earliest = min(self.earliest or at, at)

    @property
    def lost(self) -> int:
        """Samples in it that were neither done nor given up."""
        return self.samples - self.passed - sum(s.samples for s in self.done.values())


_NAME = re.compile(r"([0-3][0-9a-f]{15})-(buckets|samples|verdicts)\.seg")
_BIGGEST = 4 << 20  # a file larger than this is no segment of ours


class Buffer(Segments[_Segment]):
    """Opens and recovers at once (reads every segment). Never raises for a disk that refuses: `problem` says so, and each `append` tries
    again. Raises InUse where another process has it, ValueError for a bound too small to work with.
    """

    def __init__(self, directory: Path, site: str, clock: Clock, *, max_bytes: int = MAX_BYTES, max_age: float = MAX_AGE) -> None:
        if max_bytes < 16 * 1024:
            raise ValueError(f"a buffer of {max_bytes} bytes is too small")
        super().__init__(directory, site, clock, "buffer", "what is not delivered stays in memory", _BIGGEST)
        self.max_bytes, self.max_age = max_bytes, max_age
        self.ledger = Ledger(directory, site)
        self._segment_bytes = min(SEGMENT_BYTES, max_bytes // 16)
        self._chains: dict[Rank, list[_Segment]] = {rank: [] for rank in Rank}
        self._active: dict[Rank, int] = {}  # the descriptor of a chain's last segment, where it may grow
        self._left: dict[str, int] = {}  # sizes of files that the disk would not let go
        self._next = 1
        self._read_ledger = False
        self._saved_at = self._aged_at = -math.inf
        self._relaxed_at = clock.monotonic()
        self._open()

    # -- what it holds (memory only) --------------------------------------------------------------------------------------

    def _segments(self) -> list[_Segment]:
        return [segment for chain in self._chains.values() for segment in tuple(chain)]

    @property
    def size(self) -> int:
        """Bytes of all segments on disk; never above `max_bytes`."""
        return sum(segment.size for segment in self._segments()) + sum(tuple(self._left.values()))

    @property
    def records(self) -> int:
        return sum(segment.records for segment in self._segments())

    @property
    def oldest_at(self) -> float:
        """About when the oldest record is from, wall seconds; 0: it is empty, or its times are unknown."""
        heads = [segment for chain in self._chains.values() for segment in tuple(chain)[:1]]
        return min((segment.at for segment in heads if segment.at), default=0.0)

    def samples(self) -> Iterator[Sample]:
        yield BYTES(self.size)
        yield RECORDS(self.records)
        if at := self.oldest_at:
            yield OLDEST(at)
        for reason in REASONS:
            yield UNDELIVERED(self.ledger.counts[reason], reason)
        yield FAILURES(self.failures)
        yield ASIDE(self.aside)

    # -- into it ----------------------------------------------------------------------------------------------------------

    def append(self, records: Sequence[Record]) -> list[Record]:
        """Stores the records, durably, in this order. Returns those that the disk refused; they are still the caller's.

        One write and one fdatasync a rank. Makes room by giving up what ranks lower, then the oldest of the same rank; a record for
        which there is no room even so is counted, and not returned. Raises ValueError for a record that can never be stored.
        """
        for record in records:
            if len(record.data) > codec.MAX_DATA or not 0 <= record.samples <= codec.MAX_SAMPLES or not math.isfinite(record.at):
                raise ValueError(f"not a record: {len(record.data)} bytes, {record.samples} samples, at {record.at}")
        with self._lock:
            if not self._opened and not self._open():
                return list(records)
            waiting = [(self._next + n, record) for n, record in enumerate(records)]
            self._next += len(waiting)
            waiting.sort(key=lambda numbered: -numbered[1].rank)  # stable; the most valuable first
            try:
                while waiting:
                    del waiting[: self._store(waiting)]
                self._worked("write")
            except OSError as e:
                self._failed("write", e)
                if e.errno == errno.ENOENT:  # somebody removed the directory under us
                    self._start_afresh()
            return [record for _, record in sorted(waiting, key=lambda numbered: numbered[0])]

    def _store(self, waiting: list[tuple[int, Record]]) -> int:
        """Stores or gives up the first few, of one rank, as many as one segment takes. Returns how many. Raises OSError."""
        rank = waiting[0][1].rank
        n, size = self._fitting(waiting)
        if not self._make_room(rank, size + codec.HEADER_BYTES):
            self.ledger.add("thinned" if rank is Rank.BUCKETS else "overflow", sum(record.samples for _, record in waiting[:n]))
            return n
        segment = self._writable(rank, waiting[0][0], size)
        blobs, samples = [], segment.samples
        for sequence, record in waiting[:n]:
            blobs.append(codec.pack_record(self._seed, sequence, record.at, record.samples, samples, record.data))
            samples += record.samples
        self._write(segment, b"".join(blobs))
        for (_, record), blob in zip(waiting, blobs, strict=False):
            segment.grow(record.at, record.samples, len(blob))
        return n

    def _fitting(self, waiting: list[tuple[int, Record]]) -> tuple[int, int]:
        """How many of the first rank's records go into one segment, and their size: into the last one, else into a new one."""
        rank = waiting[0][1].rank
        sizes = []
        for _, record in waiting:
            if record.rank != rank:
                break
            sizes.append(codec.RECORD_BYTES + len(record.data))
        room = self._segment_bytes - (self._chains[rank][-1].size if rank in self._active else codec.HEADER_BYTES)
        if sizes[0] > room:  # a new one then; a record that is too large for any has one of its own
            room = max(self._segment_bytes - codec.HEADER_BYTES, sizes[0])
        n = size = 0
        for each in sizes:
            if size + each > room:
                break
            n, size = n + 1, size + each
        return n, size

    def _make_room(self, rank: Rank, needed: int) -> bool:
        if needed > self.max_bytes:
            return False
        while self.size + needed > self.max_bytes:
            lowest = next((r for r in Rank if self._chains[r]), None)
            if lowest is None or lowest > rank:
                return False
            self._drop(self._chains[lowest][0], "thinned" if lowest is Rank.BUCKETS else "overflow")
        return True

    def _writable(self, rank: Rank, sequence: int, size: int) -> _Segment:
        """The chain's last segment where it may take `size` more, else a new one, not yet on disk."""
        if rank in self._active:
            last = self._chains[rank][-1]
            if last.size + size <= self._segment_bytes:
                return last
            self._seal(rank)
        return _Segment(sequence, rank)

    def _seal(self, rank: Rank) -> None:
        if (fd := self._active.pop(rank, -1)) >= 0:
            os.close(fd)

    def _write(self, segment: _Segment, blob: bytes) -> None:
        """Appends to the segment's file, durably; all of it or, raising OSError, nothing."""
        if segment.rank in self._active:
            self._grow(segment, self._active[segment.rank], blob)
            return
        path = self.directory / segment.name
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._fill(path, fd, blob)
        self._active[segment.rank] = fd
        self._chains[segment.rank].append(segment)

    def _grow(self, segment: _Segment, fd: int, blob: bytes) -> None:
        try:
            if not os.fstat(fd).st_nlink:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            write_all(fd, blob)
        except OSError:
            # After a failed sync the kernel forgets what it could not write: this segment takes no more.
            with contextlib.suppress(OSError):
                os.ftruncate(fd, segment.size)
            self._seal(segment.rank)
            raise

    # -- out of it --------------------------------------------------------------------------------------------------------

    def oldest(self, limit: int, ranks: Iterable[Rank] = tuple(Rank)) -> list[Entry]:
        """The oldest records by sequence that are not done, of these ranks: `limit` bytes of data at most, but at least one."""
        found: list[Entry] = []
        size = 0
        with self._lock:
            for entry in heapq.merge(*(self._entries(rank) for rank in ranks), key=lambda e: e.stored.sequence):
                size += len(entry.data)
                if found and size > limit:
                    break
                found.append(entry)
        return found

    def _entries(self, rank: Rank) -> Iterator[Entry]:
        for segment in tuple(self._chains[rank]):
            whole = False
            for stored in self._read(segment):
                whole = True
                if stored.previous not in segment.done:
                    yield Entry(rank, stored.at, stored.samples, stored.data, segment.name, stored)
            if not whole and not segment.unreadable and segment in self._chains[rank]:  # what was left of it is damaged
                self._drop(segment, "corrupt")

    def _read(self, segment: _Segment) -> Iterator[codec.Stored]:
        path = self.directory / segment.name
        try:
            with path.open("rb") as f:
                f.seek(segment.offset)
                data = f.read(segment.size - segment.offset)
        except FileNotFoundError:
            return
        except OSError as e:
            segment.unreadable = True
            self._failed("read", e)
            return
        segment.unreadable = False
        self._worked("read")
        yield from codec.scan(self._seed, data, 0, segment.offset)

    def done(self, entries: Iterable[Entry]) -> None:
        """These were delivered. Those that the buffer has given up since are passed over."""
        with self._lock:
            self._done(entries)

    def give_up(self, entries: Iterable[Entry], reason: str) -> None:
        """These will never be delivered: counted under `reason`, one of REASONS."""
        with self._lock:
            self.ledger.add(reason, sum(e.samples for e in self._done(entries)))
            self._save_if_due()

    def _done(self, entries: Iterable[Entry]) -> list[Entry]:
        """Marks what is still there; returns it."""
        by_name = {segment.name: segment for segment in self._segments()}
        marked, touched = [], {}
        for entry in entries:
            segment = by_name.get(entry.segment)
            if segment and entry.stored.previous >= segment.offset and entry.stored.previous not in segment.done:
                segment.done[entry.stored.previous] = entry.stored._replace(data=b"")
                segment.records -= 1
                touched[segment.name] = segment
                marked.append(entry)
        for segment in touched.values():
            self._advance(segment)
        return marked

    def _advance(self, segment: _Segment) -> None:
        while stored := segment.done.pop(segment.offset, None):
            if (gap := stored.before - segment.passed) > 0:  # damage took what stood in between
                self.ledger.add("corrupt", gap)
            segment.offset, segment.passed = stored.end, stored.before + stored.samples
            segment.at = stored.at or segment.at
        if segment.offset >= segment.size:
            self._remove(segment)
        else:
            self.ledger.cursors[segment.name] = (segment.offset, segment.passed)

    # -- what goes --------------------------------------------------------------------------------------------------------

    def tidy(self, now: float | None) -> None:
        """Drops what is too old by `now` (None: no trusted time, nothing does), keeps the bound of bytes, writes the ledger if due."""
        with self._lock:
            if not self._opened and not self._open():
                return
            for name in tuple(self._left):
                self._unlink(name)
            mono = self._clock.monotonic()
            if now is not None and mono - self._aged_at >= AGE_EVERY:
                self._aged_at = mono
                for rank in Rank:
                    self._expire(rank, now)
            self._make_room(max(Rank), 0)
            self._save_if_due()

    def _expire(self, rank: Rank, now: float) -> None:
        """Gives up the chain's head up to its last record known to be too old before the first known to be young enough."""
        oldest, latest = now - self.max_age, now + AHEAD
        if not any(0 < segment.earliest < oldest for segment in self._chains[rank]):
            return
        gone: list[Entry] = []
        known = 0  # so many of them are known to go
        for entry in self._entries(rank):
            if oldest <= entry.at <= latest:
                break
            gone.append(entry._replace(data=b"", stored=entry.stored._replace(data=b"")))
            if 0 < entry.at < oldest:
                known = len(gone)
        self.ledger.add("expired", sum(e.samples for e in self._done(gone[:known])))
        for segment in [s for s in self._chains[rank] if s.unreadable and 0 < s.earliest < oldest]:
            self._drop(segment, "expired")

    def _drop(self, segment: _Segment, reason: str) -> None:
        """Gives up all that is left of a segment."""
        self.ledger.add(reason, max(0, segment.lost))
        self._remove(segment)

    def _remove(self, segment: _Segment) -> None:
        """Forgets a segment and deletes it; the ledger is written first where it has a loss to count, so that none goes uncounted."""
        chain = self._chains[segment.rank]
        if chain[-1] is segment:
            self._seal(segment.rank)
        chain.remove(segment)
        self.ledger.cursors.pop(segment.name, None)
        if self.ledger.unsaved_loss:
            self._save()
        self._left[segment.name] = segment.size
        self._unlink(segment.name)

    def _unlink(self, name: str) -> None:
        try:
            (self.directory / name).unlink(missing_ok=True)
            del self._left[name]
            self._worked("delete")
        except OSError as e:
            self._failed("delete", e)

    def save(self) -> None:
        """Writes the ledger now."""
        with self._lock:
            if self._opened or self._open():
                self._save()

    def _save_if_due(self) -> None:
        mono = self._clock.monotonic()
        if mono - self._relaxed_at >= RELAX_EVERY:
            self._relaxed_at = mono
            self.ledger.relax()
        if mono - self._saved_at >= SAVE_EVERY and self.ledger.changed:
            self._save()

    def _save(self, ended: bool = False) -> None:
        self._saved_at = self._clock.monotonic()
        try:
            self.ledger.save(ended)
            self._worked("ledger")
        except OSError as e:
            self._failed("ledger", e)

    def close(self) -> None:
        """Writes the ledger: this run ended well, nothing was in memory only."""
        with self._lock:
            if self._opened:
                self._save(ended=True)
            self._let_go()
            self._closed = True

    def _let_go_of_files(self) -> None:
        for rank in Rank:
            self._seal(rank)

    # -- opening ----------------------------------------------------------------------------------------------------------

    def _start_afresh(self) -> None:
        """The directory went away: what it held is lost, and counted; the next append makes it again."""
        for segment in self._segments():
            if not (self.directory / segment.name).exists():
                self.ledger.add("corrupt", max(0, segment.lost))
        self._let_go()

    def _recover(self) -> None:
        self._chains = {rank: [] for rank in Rank}
        self._left, self.aside = {}, 0
        paths = sorted(self.directory.iterdir())
        if not self._read_ledger and (why := self.ledger.read()):
            self._set_aside(self.ledger.path, why)
        self._read_ledger = True
        for name in self.ledger.cursors:  # a name is never used again: an old cursor must not pass over new records
            self._number(name)
        if self.ledger.unclean:
            log.warning("the last run ended without warning: up to %d samples were in memory only, and are lost", self.ledger.unclean)
        foreign = [path.name for path in paths if not self._take(path)]
        if foreign:
            log.warning("%s holds files that are not the buffer's, left alone: %s", self.directory, ", ".join(foreign[:5]))
        for rank, chain in self._chains.items():
            if chain and chain[-1].size < self._segment_bytes:
                self._continue(rank, chain[-1])
        names = {segment.name for segment in self._segments()}
        self.ledger.cursors = {name: place for name, place in self.ledger.cursors.items() if name in names}
        self._save()  # marks this run as not ended

    def _take(self, path: Path) -> bool:
        """Takes up one file of the directory. False: it is not the buffer's."""
        match = self._number(path.name)
        if path.name.endswith(".aside"):
            self.aside += 1
        elif match and match[0] == path.name and path.is_file() and not path.is_symlink():
            try:
                self._take_segment(path, _Segment(int(match[1], 16), Rank[match[2].upper()]))
            except OSError as e:  # left where it is; the next start tries again
                self._failed("write", e)
        else:
            return path.name in (self.ledger.path.name, f"{self.ledger.path.name}.new", "ledger.new")  # the last: of earlier versions
        return True

    def _number(self, name: str) -> re.Match[str] | None:
        """Sees to it that new sequence numbers are above that in a segment's name."""
        match = _NAME.match(name)
        if match:
            self._next = max(self._next, int(match[1], 16) + 1)
        return match

    def _index(self, segment: _Segment, data: bytes) -> bool:
        """Learns what the segment holds. False: not one whole record."""
        stored = None
        offset, passed = self.ledger.cursors.get(segment.name, (0, 0))
        if not codec.HEADER_BYTES <= offset <= len(data):
            offset, passed = codec.HEADER_BYTES, 0
        for stored in codec.scan(self._seed, data):
            self._next = max(self._next, stored.sequence + 1)
            segment.timed(stored.at)
            if stored.start >= offset:
                segment.records += 1
                segment.at = segment.at or stored.at
        if stored is None:
            return False
        segment.size, segment.samples = stored.end, stored.before + stored.samples
        segment.offset, segment.passed = offset, passed
        self._chains[segment.rank].append(segment)
        return True

    def _cut(self, path: Path, segment: _Segment, size: int) -> None:
        self._cut_tail(path, segment.size, size)
        if not segment.records:
            self._remove(segment)

    def _continue(self, rank: Rank, segment: _Segment) -> None:
        with contextlib.suppress(OSError):  # where it can't be written, the next append says so
            fd = os.open(self.directory / segment.name, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            if os.fstat(fd).st_size == segment.size:
                self._active[rank] = fd
            else:  # its torn tail could not be cut
                os.close(fd)
