"""How rows get to the centre: one connection, two lanes, and an answer to every answer.

Law: measuring never waits for this. What is younger than a minute is live and goes first, always; what could not be sent goes to the
buffer (agent/buffer.py) and is backlog: oldest first, half of the time at most, never in one request with live. No sample is sent on a
connection before the centre's clock was read on it, and none is stamped later than the centre's now and 5 s (agent/centretime.py).

What an answer means (`judge`) is a table; so is what a failure means (`FAILURES`):
    done    the receiver has it
    again   the way or the receiver is in trouble, or refuses us rather than the samples (token, path, redirect): kept, tried again with
            growing pauses and jitter, and at once when the box sees that the way out is open again
    refuse  it will never take these samples: halved until the poisoned ones are found, which go to the ledger; at most SPLITS more
            requests a batch, then what is left of it goes. A receiver that has never taken anything refuses us, not the samples.
"""

import asyncio
import contextlib
import logging
import random
import re
import struct
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar

from agent import ended, timesync
from agent.buffer import Buffer, Entry, Rank, Record
from agent.centretime import CentreTime, parse_date
from agent.collector import Env, Failure, Traffic
from agent.config import PushConfig
from agent.httpclient import Client, ProxyRefused, Reply, Way, parse_url
from agent.model import Batch, Metric, Sample
from agent.push import Push, Row
from agent.secret import read_secret
from agent.wire import remote_write

log = logging.getLogger("ronda.push")

LIVE = 60.0  # seconds: what is younger goes first
STORE_AFTER = 40.0  # so that, with a request under way, nothing is in memory alone for longer than LIVE, ...
STORE_FROM = 10.0  # ... and then all that is older than this goes too: each write costs the card a page, however little it holds
DEADLINE = {"fibre": 15.0, "metered": 30.0}  # for a request, and for opening a connection
HANGS = 2.0  # seconds: a request that takes longer is begun anew when the way out was seen to open again
MAX_ROWS = 4000  # of a live request: about 400 kB before compression
MAX_WAITING = 50_000  # rows that wait in memory while the disk refuses too
TURN = 5.0  # seconds between looks for what has become too old to be live
SPLITS = 24  # requests spent on finding poisoned samples in a batch
STUBBORN = 5  # times that a backlog batch may make a receiver fail which takes others; then it is refused
SHARE_MIN, SHARE_MAX = 2 << 10, 64 << 10  # bytes of compressed records in a backlog request
QUICK, SLOW = 0.3, 1.5  # seconds: a backlog request that takes less may grow, more must shrink
PAUSE, PAUSE_NETWORK, PAUSE_OTHER = 1.0, 15.0, 60.0  # seconds: the first pause after a failure, and the longest ones
RETRY_AFTER_MAX = 300.0
OFF_WITHIN = 1.0  # seconds of goodbye
PURPOSES = ("live", "backlog", "connect", "events")

Action = Literal["done", "again", "refuse"]
OUTCOMES = (
    "ok", "refused", "too_large", "throttled", "server", "credentials", "not_found", "redirect", "answer", "network", "tls", "clock",
    "secret", "internal",
)  # fmt: skip

BYTES = Metric(
    "ronda_push_bytes_total",
    "Bytes of the way to the centre as the kernel counts them, all headers included.",
    "counter",
    ("direction", "purpose"),
)
REQUESTS = Metric("ronda_push_requests_total", "Requests to the centre by what became of them.", "counter", ("outcome",))
DELIVERED = Metric("ronda_push_samples_total", "Samples that the centre has taken.", "counter", ("lane",))
PENDING = Metric("ronda_push_pending_samples", "Samples in memory that the centre has not taken yet; the buffer's are not among them.")
SUCCESS = Metric("ronda_push_last_success_timestamp_seconds", "When the centre last took samples; seconds since 1970.")
OFFSET = Metric("ronda_push_clock_offset_seconds", "How far the box's own clock is ahead of the centre's; exact to half a second.")
METRICS = (BYTES, REQUESTS, DELIVERED, PENDING, SUCCESS, OFFSET)


# -- what an answer means -----------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """outcome: one of OUTCOMES; why: for people."""

    outcome: str
    action: Action
    why: str = ""


# Prometheus 2.42 answers 500 to a sample older than its window ("too old sample"), 400 to one out of order: never to be taken, both.
_SAMPLE = re.compile(rb"(?i)too old|out of order|out of bounds|duplicate sample|invalid (metric|label|sample)")
CREDENTIALS, _PLACE = (401, 403, 407), (404, 405, 410, 415, 501, 505)


def judge(reply: Reply) -> Answer:
    """What a receiver's answer to samples means."""
    status, said = reply.status, f"{reply.status} {' '.join(reply.body.decode(errors='replace').split())[:200]}".rstrip()
    if 200 <= status < 300:
        if _is_a_page(reply):  # of a captive portal, say: a receiver has nothing to say but that it took them
            return Answer("answer", "again", f"it answered {status} with a page: is this the URL of a remote write receiver?")
        return Answer("ok", "done")
    if status < 400:
        return Answer("redirect", "again", f"it answered {status}, to {reply.header('location')[:200]!r}; redirects are not followed")
    if status in CREDENTIALS:
        return Answer("credentials", "again", f"it does not accept our credentials: {said}")
    if status in _PLACE:
        return Answer("not_found", "again", f"nothing takes remote writes there: {said}")
    if status == 413:
        return Answer("too_large", "refuse", said)
    if status == 429:
        return Answer("throttled", "again", f"it asks us to slow down: {said}")
    if status in (408, 425):
        return Answer("server", "again", said)
    if status < 500 or _SAMPLE.search(reply.body):
        return Answer("refused", "refuse", f"it refuses samples: {said}")
    return Answer("server", "again", f"it is in trouble: {said}")


def _is_a_page(reply: Reply) -> bool:
    body = reply.body.strip()
    return bool(body) and not (body.startswith(b"{") and body.endswith(b"}"))


FAILURES = {"tls": "tls", "certificate": "tls", "answer": "answer"}  # by the reason of a Failure; all others are "network"


def blame(error: BaseException) -> Answer:
    """What a request that got no answer means."""
    if isinstance(error, ProxyRefused):
        return Answer("credentials" if error.status == 407 else "network", "again", error.detail)
    if isinstance(error, Failure):
        return Answer(FAILURES.get(error.reason, "network"), "again", f"{error.reason}: {error.detail}")
    if isinstance(error, TimeoutError) and not error.errno:
        return Answer("network", "again", "timeout: it did not answer in time")
    return Answer("secret", "again", str(error))


class Stumble(Exception):  # noqa: N818  (an outcome)
    """What was asked for did not come about. soon: a kept connection had died in its sleep, which says nothing."""

    def __init__(self, answer: Answer, retry_after: float = 0.0, *, soon: bool = False) -> None:
        super().__init__(answer.why)
        self.answer, self.retry_after, self.soon = answer, retry_after, soon


def retry_after(text: str) -> float:
    """Seconds of a Retry-After, bounded; 0: none that we read (a date is left to our own pauses)."""
    return min(float(text), RETRY_AFTER_MAX) if re.fullmatch(r"\d{1,9}", text.strip(), re.ASCII) else 0.0


def pause(outcome: str, failures: int, asked: float = 0.0, dice: Callable[[], float] = random.random) -> float:
    """Seconds until the next try after so many failures in a row: doubling, bounded, half of it by chance."""
    longest = PAUSE_NETWORK if outcome == "network" else PAUSE_OTHER
    seconds = min(longest, PAUSE * 2.0 ** min(failures - 1, 10)) * (0.5 + dice() / 2)
    return max(seconds, asked * (1 + dice() / 10))


# -- what is in a record of the buffer ----------------------------------------------------------------------------------------------

_PLACED, _ADRIFT = b"\x01", b"\x02"
_DRIFTING = struct.Struct("<16s?d")  # id of the boot, whether its wall clock was kept right, what to add to its monotonic clock for it


class Boot(NamedTuple):
    """This boot: monotonic times mean something only within it."""

    id: bytes
    kept: bool  # a clock chip, or somebody who keeps the clock right: without the centre's word its wall clock is the best there is


def this_boot(root: Path) -> Boot:
    try:
        found = bytes.fromhex((root / "proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        found = b""
    try:
        kept = timesync.read().synchronised
    except OSError:
        kept = False
    return Boot(found.ljust(16, b"\0")[:16], kept or (root / "sys/class/rtc/rtc0").exists())


class Piece(NamedTuple):
    """One sample as it goes on the wire: encoded labels, milliseconds since 1970, value."""

    head: bytes
    at: int
    value: float


def encode(pieces: Iterable[Piece]) -> bytes:
    """A WriteRequest. A series' samples stand together, and none at or before the one before it."""
    series: dict[bytes, list[tuple[int, float]]] = {}
    for head, at, value in pieces:
        points = series.setdefault(head, [])
        points.append((max(at, points[-1][0] + 1) if points else at, value))
    return remote_write.join(series.items())


def decode(request: bytes) -> list[Piece]:
    return [Piece(remote_write.head(labels), at, value) for labels, points in remote_write.parse(request) for at, value in points]


def compress(request: bytes) -> bytes:
    import cramjam  # 1 MB, and of use only here

    return bytes(cramjam.snappy.compress_raw(request))


def to_record(rank: Rank, rows: Sequence[Row], base: float | None, boot: Boot, wall: float) -> Record:
    """Rows as one record. `base`: what to add to their times; None while the true time is not known: then `wall`, for want of better."""
    pieces = [Piece(row.series.head, round((row.at + (base or 0.0)) * 1000), row.value) for row in rows]
    begin = _PLACED if base is not None else _ADRIFT + _DRIFTING.pack(boot.id, boot.kept, wall)
    newest = max(row.at for row in rows) + base if base is not None else 0.0
    return Record(rank, newest, len(rows), begin + zlib.compress(encode(pieces), 6))


def from_record(data: bytes, boot: Boot, base: float) -> bytes | None:
    """The WriteRequest in a record, its times put right; None where the true time can't be told. Raises ValueError for what is none."""
    if data[:1] == _PLACED:
        return _inflated(data[1:])
    if data[:1] != _ADRIFT or len(data) < 1 + _DRIFTING.size:
        raise ValueError("not a record of samples")
    then, kept, wall = _DRIFTING.unpack_from(data, 1)
    if then != boot.id and not kept:
        return None
    add = round((base if then == boot.id else wall) * 1000)
    return encode([piece._replace(at=piece.at + add) for piece in decode(_inflated(data[1 + _DRIFTING.size :]))])


def _inflated(data: bytes) -> bytes:
    try:
        inflate = zlib.decompressobj()
        found = inflate.decompress(data, 16 << 20)
    except zlib.error as e:
        raise ValueError(str(e)) from None
    if not inflate.eof:
        raise ValueError("a record without end")
    return found


# -- the sender ---------------------------------------------------------------------------------------------------------------------

P = TypeVar("P")


class Letter(NamedTuple):
    """A request for another path of the receiver."""

    path: str
    headers: Sequence[tuple[str, str]]
    body: bytes


class Mail(Protocol):
    """What else goes to the centre on this connection: events (agent/eventlane.py)."""

    def due(self, now: float) -> bool: ...

    def letter(self) -> Letter | None:
        """The next; None: there is none after all. In a thread. Raises OSError."""

    def answered(self, reply: Reply) -> None: ...

    def failed(self, why: str) -> None:
        """The next can't be read, or got no answer: it is not due for a while."""

    def stamp(self) -> list[tuple[str, str]]:
        """Headers that the next request should carry, whatever it is: the chain's head, where it has moved."""
        ...

    def stamped(self, headers: Sequence[tuple[str, str]]) -> None:
        """The centre has them."""


class Delivery:
    """Takes rows and gets them to the centre. `refresh` has the whole picture told again, after a silence."""

    def __init__(self, env: Env, config: PushConfig, buffer: Buffer, refresh: Callable[[], None]) -> None:
        self._env, self._clock, self._config, self._buffer, self._refresh = env, env.clock, config, buffer, refresh
        self.mail: Mail | None = None
        self._client = Client(way_to(config, env.root), env.net)
        self.centre = CentreTime()
        self._boot = this_boot(env.root)
        self._rows: deque[Row] = deque()
        self._flying: list[Row] = []  # under way
        self._left: list[Record] = []  # refused by the disk
        self._wake = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._saving: asyncio.Future[None] | None = None
        self._retry_at = self._backlog_at = 0.0
        self._failures = 0
        self._soon = False
        self._under_way: tuple[float, asyncio.Timeout] | None = None
        self._on_this = 0  # requests answered on this connection
        self._share = SHARE_MIN * 4
        self._tries = 0  # of the backlog's head
        self._ever = False  # it has taken something
        self._taken_at = self._clock.monotonic()
        self._success = 0.0
        self._dropped = 0
        self.problem = ""  # why the centre does not get what is told, in words; empty: it does
        self._outcome = self._said = ""
        self.requests = dict.fromkeys(OUTCOMES, 0)
        self.bytes = {purpose: Traffic() for purpose in PURPOSES}
        self.delivered = {"live": 0, "backlog": 0}

    def start(self) -> None:
        self._running = asyncio.ensure_future(self._run())

    def add(self, rows: Sequence[Row]) -> None:
        """Takes rows; never waits, never raises."""
        self._rows.extend(rows)
        over = len(self._rows) - MAX_WAITING
        for _ in range(over):
            self._rows.popleft()
        if over > 0:
            self._buffer.ledger.add("disk", over)
        self._promise()
        self._wake.set()

    def _promise(self) -> None:
        """Has the ledger say on disk what a power cut would cost now, where it does not yet; no request under way delays that."""
        if self._buffer.ledger.holds(self.pending) and not self._saving:
            self._saving = asyncio.ensure_future(asyncio.to_thread(self._buffer.save))
            self._saving.add_done_callback(self._saved)

    def _saved(self, done: "asyncio.Future[None]") -> None:
        self._saving = None
        if not done.cancelled() and (error := done.exception()):
            log.error("the ledger can't be written: %r", error, exc_info=error)

    def base(self) -> float | None:
        """What to add to monotonic seconds for the centre's time; None: it was never compared."""
        now = self._clock.monotonic()
        return self._base(now) if self.centre.known else None

    def wake(self) -> None:
        """There is mail."""
        self._wake.set()

    def hurry(self) -> None:
        """The box has seen the way out change: a try now may well succeed. (Offices of a district come back together: not all at once.)"""
        if self._failures and self._outcome == "network":
            self._retry_at = min(self._retry_at, self._clock.monotonic() + random.random())
            self._wake.set()
        if self._under_way and self._clock.monotonic() - self._under_way[0] > HANGS:
            self._under_way[1].reschedule(asyncio.get_running_loop().time())  # TCP would go on in its own time: seconds, after a cut

    # -- the turns --

    async def _run(self) -> None:
        while True:
            try:
                await self._turn()
            except Stumble as e:
                self._stumbled(e)
            except Exception:
                log.exception("the way to the centre failed in a way that nobody foresaw")
                self._stumbled(self._stumble(Answer("internal", "again", "an error of Ronda's own; it is in the log")))

    async def _turn(self) -> None:
        await self._store_late()
        now = self._clock.monotonic()
        if now < self._retry_at:
            await self._pause(self._retry_at)
        elif self._rows:
            await self._send_live()
        elif self.mail and self.mail.due(now):
            await self._send_mail(self.mail)
        elif not self._buffer.records:
            await self._pause(None)
        elif now < self._backlog_at:
            await self._pause(self._backlog_at)
        else:
            await self._send_backlog()

    async def _pause(self, until: float | None) -> None:
        """Waits until then, or until there is news; rows that wait are looked after meanwhile."""
        if self._rows:
            turn = self._clock.monotonic() + TURN
            until = turn if until is None else min(until, turn)
        self._wake.clear()
        alarm = None if until is None else self._clock.call_at(until, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if alarm:
                alarm.cancel()

    def _stumbled(self, e: Stumble) -> None:
        if e.soon and not self._soon:
            self._soon = True
            return
        self._failures += 1
        answer = e.answer
        self._retry_at = self._clock.monotonic() + pause(answer.outcome, self._failures, e.retry_after)
        if answer.outcome != self._outcome or not self.problem:
            log.warning("the centre does not take samples (%s): %s; they are kept", answer.outcome, answer.why)
        self._outcome, self.problem = answer.outcome, answer.why

    def _succeeded(self, lane: str, samples: int) -> None:
        now = self._clock.monotonic()
        if self.problem:
            log.warning("the centre takes samples again, after %.0f s", now - self._taken_at)
        silent, self._taken_at = bool(self.problem) and now - self._taken_at > LIVE, now
        self._failures, self._soon, self._outcome, self.problem = 0, False, "", ""
        self._success, self._ever = now + self._base(now), True
        self.delivered[lane] += samples
        if silent:
            self._refresh()

    # -- live --

    async def _send_live(self) -> None:
        rows = self._flying = [self._rows.popleft() for _ in range(min(len(self._rows), MAX_ROWS))]
        try:
            await self._connect()
            await self._deliver(rows, self._placed, "live")
        finally:
            self._rows.extendleft(reversed(rows))  # what _deliver has taken care of is no longer in the list
            self._flying = []

    def _placed(self, rows: Sequence[Row]) -> bytes:
        now = self._clock.monotonic()
        base, latest = self._base(now), self.centre.latest(now)
        return encode(Piece(row.series.head, round(min(row.at + base, latest) * 1000), row.value) for row in rows)

    def _base(self, now: float) -> float:
        return self.centre.base(self._clock.now(), now)

    async def _deliver(self, pieces: list[P], encoded: Callable[[Sequence[P]], bytes], lane: str, *, stubborn: bool = False) -> int:
        """Sends `pieces` and takes away from the list what is done with; returns how many were refused. Raises Stumble.

        `stubborn`: a receiver's own failures count as refusals too.
        """
        size, left, refused, took = len(pieces), SPLITS, 0, 0
        while pieces:
            part = pieces[:size]
            answer = await self._post(encoded(part), lane, stubborn=stubborn)
            if answer.action == "done":
                took += len(part)
                self._succeeded(lane, len(part))
            elif len(part) > 1 and left > 0:
                left -= 1
                size = max(1, len(part) // 2)
                continue
            elif not self._ever:
                raise Stumble(answer)
            else:
                refused += len(part)
                self._refused(answer, len(part), lane)
            del pieces[: len(part)]
            size = min(len(pieces), size * 2) if left else len(pieces)
        return refused

    def _refused(self, answer: Answer, samples: int, lane: str) -> None:
        if answer.why != self._said:
            self._said = answer.why
            log.warning("the centre refuses %d samples (%s) for good: %s", samples, lane, answer.why)
        if lane == "live":
            self._buffer.ledger.add("refused", samples)
            self._promise()

    async def _send_mail(self, mail: Mail) -> None:
        await self._connect()
        try:
            letter = await asyncio.to_thread(mail.letter)
        except OSError as e:
            mail.failed(f"the disk refuses: {e.strerror}")
            return
        if not letter:
            return
        headers = [*letter.headers, *self._credentials()]
        try:
            reply = await self._request(headers, letter.body, "events", letter.path)
        except Stumble as e:
            if not e.soon:  # who takes samples and hangs over events must not cost each tick a new connection
                mail.failed(e.answer.why)
            raise
        mail.answered(reply)

    # -- backlog --

    async def _send_backlog(self) -> None:
        await self._connect()
        began = self._clock.monotonic()
        base = self._base(began)
        limit = self.centre.latest(began)
        entries, lost, request, samples = await asyncio.to_thread(self._next_backlog, base, limit)
        if lost:
            await asyncio.to_thread(self._buffer.give_up, lost, "clock")
        if not entries:
            if not lost:  # the disk refuses to read what there is
                self._backlog_at = self._clock.monotonic() + TURN
            return
        try:
            answer = await self._post(request, "backlog")
        except Stumble as e:
            self._tries += e.answer.outcome == "server" and self._taken_at > began - LIVE
            if self._tries < STUBBORN:
                raise
            answer = e.answer
        refused = 0
        if answer.action == "done":
            self._succeeded("backlog", samples)
        elif not self._ever:
            raise Stumble(answer)
        else:
            refused = await self._find_poison(request)
        self._buffer.ledger.add("refused", refused)  # first: killed in between, it is counted twice rather than never
        await asyncio.to_thread(self._buffer.done, entries)
        self._tries = 0
        self._pace(self._clock.monotonic() - began)

    def _next_backlog(self, base: float, limit: float) -> tuple[list[Entry], list[Entry], bytes, int]:
        """(what to send, what no longer has a true time, the former as one WriteRequest, its samples). In a thread."""
        entries, lost, parts = [], [], []
        for entry in self._buffer.oldest(self._share):
            try:
                request = from_record(entry.data, self._boot, base)
            except (ValueError, struct.error) as e:
                log.error("a record of the buffer can't be read: %s", e)
                request = None
            if request is None or entry.at > limit:
                lost.append(entry)
            else:
                entries.append(entry)
                parts.append(request)
        return entries, lost, b"".join(parts), sum(e.samples for e in entries)  # WriteRequests one after the other are one

    async def _find_poison(self, request: bytes) -> int:
        pieces = await asyncio.to_thread(decode, request)
        return await self._deliver(pieces, encode, "backlog", stubborn=True)

    def _pace(self, took: float) -> None:
        """The backlog has half of the time at most, and requests so small that live never waits long for one."""
        self._backlog_at = self._clock.monotonic() + took
        if took < QUICK:
            self._share = min(self._share * 2, SHARE_MAX)
        elif took > SLOW:
            self._share = max(self._share // 2, SHARE_MIN)

    # -- the buffer --

    async def _store_late(self) -> None:
        """Puts what has waited too long where a power cut can't reach it."""
        old = self._clock.monotonic() - STORE_AFTER
        if (self._rows and self._rows[0].since < old) or self._left:
            rows = []
            while self._rows and self._rows[0].since < old + STORE_AFTER - STORE_FROM:
                rows.append(self._rows.popleft())
            await self._store(rows)

    async def _store(self, rows: Sequence[Row]) -> None:
        now = self._clock.monotonic()
        wall = self._clock.now()
        base = self.centre.base(wall, now) if self.centre.known else None
        records = self._left
        for rank in Rank:
            of_rank = [row for row in rows if row.series.rank == rank]
            for i in range(0, len(of_rank), MAX_ROWS):
                records.append(to_record(rank, of_rank[i : i + MAX_ROWS], base, self._boot, wall - now))
        self._left = await asyncio.to_thread(self._buffer.append, records) if records else []
        while sum(r.samples for r in self._left) > MAX_WAITING:
            self._buffer.ledger.add("disk", self._left.pop(0).samples)

    # -- one request --

    async def _connect(self) -> None:
        """Opens the connection if need be, and reads the centre's clock on it. Raises Stumble."""
        if self._client.connected and self.centre.compared:
            return
        self.centre.forget_connection()
        self._on_this = 0
        credentials = self._credentials()
        try:
            async with self._deadline():
                await self._client.connect()
                reply = await self._asked("HEAD", credentials)
        except (Failure, OSError) as e:
            self._client.close()
            raise self._stumble(blame(e)) from None
        finally:
            self._count("connect")
        if not self.centre.compared:
            self._client.close()
            raise self._stumble(Answer("clock", "again", f"its answer ({reply.status}) has no Date, so the clocks can't be compared"))

    @contextlib.asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        async with asyncio.timeout(DEADLINE[self._config.profile]) as deadline:
            self._under_way = self._clock.monotonic(), deadline
            try:
                yield
            finally:
                self._under_way = None

    async def _asked(self, method: str, headers: Sequence[tuple[str, str]], body: bytes = b"", path: str = "") -> Reply:
        asked = self._clock.monotonic()
        reply = await self._client.request(method, headers, body, path)
        date = parse_date(reply.header("date"))
        if date is not None:
            self.centre.observe(date, asked, self._clock.monotonic())
        return reply

    async def _post(self, request: bytes, lane: str, *, stubborn: bool = False) -> Answer:
        """Sends a WriteRequest; what became of it, if that is done or refused. Raises Stumble for what is to be tried again."""
        if not (self._client.connected and self.centre.compared):
            await self._connect()
        stamp = self.mail.stamp() if self.mail else []
        reply = await self._request([*_HEADERS, *self._credentials(), *stamp], compress(request), lane)
        answer = judge(reply)
        if self.mail and answer.action == "done":
            self.mail.stamped(stamp)
        if stubborn and answer.outcome == "server":
            answer = answer._replace(action="refuse")
        if answer.action == "again":
            raise self._stumble(answer, retry_after(reply.header("retry-after")))
        self.requests[answer.outcome] += 1
        return answer

    async def _request(self, headers: Sequence[tuple[str, str]], body: bytes, purpose: str, path: str = "") -> Reply:
        """The answer to a POST. Raises Stumble where there is none."""
        try:
            async with self._deadline():
                reply = await self._asked("POST", headers, body, path)
        except (Failure, OSError) as e:
            self._client.close()
            died = self._on_this > 0 and isinstance(e, Failure) and e.reason in ("reset", "tls")
            raise self._stumble(blame(e), soon=died) from None
        finally:
            self._count(purpose)
        self._on_this += 1
        return reply

    def _stumble(self, answer: Answer, after: float = 0.0, *, soon: bool = False) -> Stumble:
        self.requests[answer.outcome] += 1
        return Stumble(answer, after, soon=soon)

    def _credentials(self) -> list[tuple[str, str]]:
        """Read each time: a token that was changed is used at once. Raises Stumble where it can't be read."""
        try:
            return credentials(self._config)
        except OSError as e:
            raise self._stumble(blame(e)) from None

    def _count(self, purpose: str) -> None:
        had, new = self.bytes[purpose], self._client.traffic()
        self.bytes[purpose] = Traffic(had.sent + new.sent, had.received + new.received)

    # -- the end, and what is known of it --

    async def close(self) -> None:
        """Says goodbye with what there is, within a second; what the centre does not take is in the buffer then."""
        if self._running:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        if not self.problem:
            with contextlib.suppress(Stumble, TimeoutError):
                async with asyncio.timeout(OFF_WITHIN):
                    while self._rows:
                        await self._send_live()
                    while self.mail and self.mail.due(self._clock.monotonic()):
                        await self._send_mail(self.mail)
        rows = list(self._rows)
        self._rows.clear()
        await self._store(rows)
        if self._left:
            self._buffer.ledger.add("disk", sum(r.samples for r in self._left))
        self._client.close()

    @property
    def pending(self) -> int:
        """Samples that memory alone holds."""
        return len(self._rows) + len(self._flying) + sum(r.samples for r in self._left)

    def samples(self) -> Iterator[Sample]:
        for purpose, traffic in self.bytes.items():
            yield BYTES(traffic.sent, "sent", purpose)
            yield BYTES(traffic.received, "received", purpose)
        for outcome, n in self.requests.items():
            yield REQUESTS(n, outcome)
        for lane, n in self.delivered.items():
            yield DELIVERED(n, lane)
        yield PENDING(self.pending)
        if self._success:
            yield SUCCESS(self._success)
        if self.centre.known:
            yield OFFSET(self.centre.offset(self._clock.now(), self._clock.monotonic()))


class Centre:
    """The whole way to the centre as the app sees it: a sink, with the sender behind it. The buffer stays its owner's."""

    def __init__(
        self,
        env: Env,
        site: str,
        config: PushConfig,
        buffer: Buffer,
        own: Callable[[], Iterable[Sample]],
        state: Callable[[], Iterable[Sample]],
    ) -> None:
        self._env, self._site, self.config, self.buffer = env, site, config, buffer
        self.delivery = Delivery(env, config, buffer, lambda: self.push.refresh())
        self.push = Push(env.clock, site, config.profile, own, state, self.delivery.add)

    def start(self) -> None:
        self.push.inherit(ended.take(self._note, this_boot(self._env.root).id, self._env.clock.monotonic(), self._site))
        self.delivery.start()
        self.push.start()

    @property
    def _note(self) -> Path:
        return self.buffer.directory.parent / "series"

    def write(self, batch: Batch) -> None:
        self.push.write(batch)

    def nudge(self) -> None:
        """The verdict has changed: the centre wants to know, and may be reachable again."""
        self.push.nudge()
        self.delivery.hurry()

    async def tidy(self) -> None:
        """To be called every minute. What is too old goes, but only by a clock that can be trusted."""
        wall, mono = self._env.clock.now(), self._env.clock.monotonic()
        centre = self.delivery.centre
        await asyncio.to_thread(self.buffer.tidy, mono + centre.base(wall, mono) if centre.known else None)

    def leave(self) -> None:
        """Before the tasks end: that the agent stops is not the end of its series."""
        self.push.leave()

    async def close(self) -> None:
        """After they have: tells the last picture; what can't be sent within a second is in the buffer then."""
        self.push.close()
        await self.delivery.close()
        now, boot = self._env.clock.monotonic(), this_boot(self._env.root).id
        await asyncio.to_thread(ended.leave, self._note, boot, now, self.push.heads())

    @property
    def spent(self) -> float:
        """Bytes on the way to the centre so far, both ways."""
        return float(sum(sum(traffic) for traffic in self.delivery.bytes.values()))

    @property
    def problem(self) -> str:
        return f"push: {self.delivery.problem}" if self.delivery.problem else ""

    def samples(self) -> Iterator[Sample]:
        yield from self.push.samples()
        yield from self.delivery.samples()
        yield from self.buffer.samples()


async def probe(env: Env, config: PushConfig, site: str = "") -> tuple[Answer, float | None]:
    """Asks the receiver to take nothing of this site. What it said, and how far the own clock is ahead (seconds; None: not compared)."""
    client, centre = Client(way_to(config, env.root), env.net), CentreTime()
    try:
        headers = [*_HEADERS, *credentials(config), *([("Ronda-Site", site)] if site else [])]
        await client.connect()
        asked = env.clock.monotonic()
        reply = await client.request("POST", headers, compress(b""))
    except (Failure, OSError) as e:
        return blame(e), None
    finally:
        client.close()
    now = env.clock.monotonic()
    if (date := parse_date(reply.header("date"))) is None:
        return Answer("clock", "again", "its answer has no Date, so the clocks can't be compared"), None
    centre.observe(date, asked, now)
    return judge(reply), centre.offset(env.clock.now(), now)


_HEADERS = (
    ("Content-Encoding", "snappy"),
    ("Content-Type", "application/x-protobuf"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
)


def credentials(config: PushConfig) -> list[tuple[str, str]]:
    """Raises SecretError."""
    if config.token_file:
        return [("Authorization", f"Bearer {read_secret(config.token_file)}")]
    return [("Authorization", config.basic_auth.header())] if config.basic_auth else []


def way_to(config: PushConfig, root: Path) -> Way:
    auth = config.proxy_auth
    return Way(
        url=config.receiver,
        tls=config.tls,
        proxy=parse_url(config.proxy) if config.proxy else None,
        proxy_auth=auth.header if auth else None,
        root=root,
    )
