"""`ronda replay`: the detectors over a capture (pcap, pcapng) or a log, with the file's own times; its findings are told as events.

Law: the same detectors, patrol and casebook as live; nothing is sent, nothing is kept. A file of any size is read in bounded memory, and
what can't be read of it is counted and said. Time for the detectors never goes back: where a file's does, by more than a moment, it goes
on from there; events are told with the file's own times.
"""

import collections
import dataclasses
import gzip
import io
import itertools
import math
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import tzinfo
from pathlib import Path
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

from agent import show
from agent.detect import lines, reading, routerlines, surroundings
from agent.detect.casebook import Casebook, Outcome
from agent.detect.model import Detector, Vouched
from agent.detect.patrol import Patrol
from agent.detect.seen import Counters, Network, Observation
from agent.detect.table import HOST, LAN, SYSLOG
from agent.wire import frame, pcap, rfc3164
from agent.wire.event import LATEST, Entry, bounded
from agent.wire.rfc5424 import SyslogError

UNREADABLE = 2
MOMENT = 60.0  # seconds by which a file's times may go back and forth: captures of several devices, logs of several programs
LEAP = 400 * 86_400.0  # seconds that pass at most between two packets or lines: beyond, one of the times is wrong
AROUND = 60  # seconds: where nothing is in the file for long, detectors are ticked so long after it begins and before it ends
FIRST, FIRST_BYTES = 20_000, 8 << 20  # packets that are looked at, and kept, to learn where the capture was made
MAX_LINE = 65_536
PROGRESS = 0.5
GROUP = frozenset("13579bdf")  # the second digit of a MAC that isn't one host's: the lowest bit of its first octet
# Fields that say the same in each event of a rule are for machines; of them a person is shown these.

_GZIP = b"\x1f\x8b"
_TORN = (EOFError, zlib.error, gzip.BadGzipFile)


class UnreadableError(Exception):
    """Neither a capture nor a log, or not to be opened."""


class Said(NamedTuple):
    """What somebody who knows has said: about the capture, and about the office."""

    me: str = ""
    gateway: str = ""
    code: str = "REPLAY"
    timezone: str = "Asia/Jakarta"
    vouched: Vouched = Vouched()


class Moment(NamedTuple):
    """`at`: for detectors, from 0, never going back; `wall`: the file's own time."""

    at: float
    wall: float


class FileTime:
    """The times of a file, as a patrol wants them."""

    def __init__(self) -> None:
        self.now = Moment(0.0, 0.0)
        self._zero: float | None = None  # what the file called it when `at` was 0
        self._tick = 1.0

    def reach(self, written: float) -> Iterator[Moment]:
        """Goes on to a time that the file says; the ticks that are due before it."""
        wall = min(max(written, 0.0), LATEST) if math.isfinite(written) else self.now.wall
        if self._zero is None:
            self._zero = wall
        if not self.now.at - MOMENT <= wall - self._zero <= self.now.at + LEAP:
            self._zero = wall - self.now.at - (LEAP if wall - self._zero > self.now.at else 0.0)
        at = max(self.now.at, wall - self._zero)
        yield from self._ticks(at, wall)
        self.now = Moment(at, wall)

    def _ticks(self, at: float, wall: float) -> Iterator[Moment]:
        quiet = self._tick + AROUND
        while self._tick <= at:
            yield Moment(self._tick, max(0.0, wall - (at - self._tick)))
            self._tick += 1.0
            if quiet < self._tick < math.floor(at) - AROUND:
                self._tick = float(math.floor(at) - AROUND)

    def end(self) -> Iterator[Moment]:
        """The tick behind the last line or packet."""
        yield Moment(self._tick, self.now.wall + self._tick - self.now.at)


class Source(Protocol):
    """A file's observations with the times that it says. `remarks`: what there is to say of it when it has been read."""

    def __iter__(self) -> Iterator[tuple[float, Observation | None]]: ...

    def remarks(self) -> Iterable[str]: ...


# -- captures -----------------------------------------------------------------------------------------------------------------------


class Captured:
    """What the packets of a capture say. Where it was made is learnt from its first ones, which are kept meanwhile."""

    def __init__(self, stream: io.BufferedIOBase, said: Said, tell: Callable[[str], None]) -> None:
        """Raises UnreadableError."""
        try:
            self._capture = pcap.Capture(stream.read)
        except pcap.PcapError as e:
            raise UnreadableError(str(e)) from None
        self._said, self._tell = said, tell
        self._packets = self._strange = self._broken = 0
        self._own: frozenset[str] = frozenset()
        self._to_all, self._counted = 0, -math.inf  # what the live capture's filter counts: frames for everybody that aren't ours

    def __iter__(self) -> Iterator[tuple[float, Observation | None]]:
        packets = iter(self._capture)
        first = collections.deque(_some(packets))
        network = self._network(first)
        if network:
            self._own = frozenset({network.mac} - {""})
            yield (first[0].time if first else 0.0), network
        while first:
            yield from self._read(first.popleft())
        for packet in packets:
            yield from self._read(packet)

    def _network(self, first: Iterable[pcap.Packet]) -> Network | None:
        guess = surroundings.of_capture((seen for p in first for seen in self._seen(p)), self._said.me, self._said.gateway)
        for line in guess.why:
            self._tell(f"assumed: {line}")
        return guess.network

    def _read(self, packet: pcap.Packet) -> Iterator[tuple[float, Observation | None]]:
        self._packets += 1
        try:
            found = pcap.link(packet)
        except frame.FrameError:
            found, self._broken = None, self._broken + 1
        else:
            self._strange += found is None
        for seen in self._of(packet, found) or (None,):
            yield packet.time, seen
        if found and found[0].target[1:2] in GROUP and found[1] != "out" and found[0].source not in self._own:
            self._to_all += 1
        if abs(packet.time - self._counted) >= 1.0:
            self._counted = packet.time
            yield packet.time, Counters({"broadcast": float(self._to_all)})

    def _seen(self, packet: pcap.Packet) -> Iterable[Observation]:
        try:
            return self._of(packet, pcap.link(packet))
        except frame.FrameError:
            return ()

    def _of(self, packet: pcap.Packet, found: tuple[frame.Link, reading.Direction] | None) -> Iterable[Observation]:
        if found is None:
            return ()
        link, direction = found
        if direction == "unknown" and self._own:
            direction = "out" if link.source in self._own else "in" if link.target in self._own else direction
        return reading.read_link(link, packet.data, direction)

    def remarks(self) -> Iterable[str]:
        yield f"{self._packets} packets"
        if self._strange:
            yield f"{self._strange} packets not understood: of a kind of link that Ronda doesn't read"
        if self._broken:
            yield f"{self._broken} packets whose head can't be read"
        if self._capture.ended:
            yield f"the capture doesn't end as it should: {self._capture.ended}"


def _some(packets: Iterator[pcap.Packet]) -> Iterator[pcap.Packet]:
    size = 0
    for packet in itertools.islice(packets, FIRST):
        yield packet
        size += len(packet.data)
        if size > FIRST_BYTES:
            return


# -- logs ---------------------------------------------------------------------------------------------------------------------------


class Logged:
    """What the lines of a log tell, of this box or of routers. `written`: when it last was, for times without a year.

    Who works when isn't known here, so a router's logins at odd hours aren't told, nor that one was silent: a file is an excerpt.
    """

    def __init__(self, stream: io.BufferedIOBase, written: float, zone: tzinfo) -> None:
        self._stream, self._written, self._zone = stream, written, zone
        self._lines = self._timed = self._told = self._routers = 0

    def __iter__(self) -> Iterator[tuple[float, Observation | None]]:
        last = 0.0
        for line in self._whole_lines():
            self._lines += 1
            when = lines.moment(line, self._written, self._zone)
            seen: Observation | None = lines.parse(line)
            self._told += seen is not None
            if seen is None and (message := _message(line)):
                seen = routerlines.read(message, message.host[:64] or "router")
                self._routers += seen is not None
                when = routerlines.moment(message.when, self._written, self._zone) if when is None else when
            self._timed += when is not None
            last = last if when is None else when
            yield last, seen
        if self._lines and not self._timed:
            raise UnreadableError("neither a capture nor a log: no line begins with a time")

    def _whole_lines(self) -> Iterator[bytes]:
        """A line is cut at MAX_LINE bytes: what is beyond is passed over, a piece at a time."""
        while line := self._stream.readline(MAX_LINE):
            yield line
            while not line.endswith(b"\n") and (line := self._stream.readline(MAX_LINE)):
                pass

    def remarks(self) -> Iterable[str]:
        yield f"{self._lines} lines, {self._told} tell of a login" + (f", {self._routers} are a router's" if self._routers else "")


def _message(line: bytes) -> rfc3164.Message | None:
    try:
        return rfc3164.read(line[: rfc3164.MAX])
    except SyslogError:
        return None


# -- the run ------------------------------------------------------------------------------------------------------------------------


def open_source(plain: io.BufferedReader, said: Said, tell: Callable[[str], None]) -> tuple[Source, list[Detector]]:
    """What is in a file, and the detectors that go with it. Raises UnreadableError."""
    try:
        written = os.fstat(plain.fileno()).st_mtime
        stream = gzip.GzipFile(fileobj=plain) if plain.peek(2)[:2] == _GZIP else plain  # looked at, not read: it may be a pipe
        head = stream.peek(4096)[:4096]
    except _TORN as e:
        raise UnreadableError(f"not gzip: {e}") from None
    except OSError as e:
        raise UnreadableError(e.strerror or str(e)) from None
    if pcap.is_capture(head):
        return Captured(stream, said, tell), [make(said.vouched) for make in LAN]
    if _binary(head):
        raise UnreadableError("neither a capture nor a log")
    return Logged(stream, written, ZoneInfo(said.timezone)), [make(said.vouched) for make in (*HOST, *SYSLOG)]


def _binary(head: bytes) -> bool:
    """Logs hold NULs where a box lost power; what is mostly no text is no log."""
    odd = sum(byte < 32 and byte not in (9, 10, 13, 27) for byte in head.replace(b"\0", b""))
    return odd > len(head) // 10 or (bool(head) and not head.strip(b"\0"))


def outcomes(source: Source, detectors: Iterable[Detector], said: Said, passed: Callable[[], None] = lambda: None) -> Iterator[Outcome]:
    """The findings of a file, as they come. Raises UnreadableError."""
    detectors = list(detectors)
    book = Casebook([d.rule for d in detectors], said.code, said.timezone, learning=False)
    patrol, clock = Patrol(detectors, book), FileTime()
    for written, seen in source:
        for moment in clock.reach(written):
            patrol.tick(*moment)
            yield from book.drain()
        if seen is not None:
            patrol.see(seen, *clock.now)
        passed()
    for moment in clock.end():
        patrol.tick(*moment)
    yield from book.drain()
    for name, count in patrol.failures.items():
        print(f"ronda: the detector {name} failed {count} times: a bug of Ronda", file=sys.stderr)


def run(path: Path, said: Said, *, as_json: bool) -> int:
    """The command: findings to stdout, what was assumed and what couldn't be read to stderr."""

    def tell(text: str) -> None:
        print(f"\r\033[K{path}: {text}" if sys.stderr.isatty() else f"{path}: {text}", file=sys.stderr)

    try:
        with _opened(path) as plain:
            return _run(plain, said, tell, as_json=as_json)
    except UnreadableError as e:
        print(f"ronda: {path} can't be read: {e}", file=sys.stderr)
        return UNREADABLE


def _opened(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except OSError as e:
        raise UnreadableError(e.strerror or str(e)) from None


def _run(plain: io.BufferedReader, said: Said, tell: Callable[[str], None], *, as_json: bool) -> int:
    source, detectors = open_source(plain, said, tell)
    zone = ZoneInfo(said.timezone)
    found = 0
    progress = Progress(plain)
    try:
        for outcome in outcomes(source, detectors, said, progress):
            progress.clear()
            found += 1
            if not as_json and found == 1:
                print(show.event_head(zone))
            print(_shown(found, outcome, said, zone, as_json=as_json), flush=True)
    except BrokenPipeError:
        raise
    except (*_TORN, OSError) as e:
        tell(f"it can't be read to its end: {e}")
    progress.clear()
    for line in source.remarks():
        tell(line)
    tell(f"{found} events" if found else "nothing was found")
    return 0


def _shown(number: int, outcome: Outcome, said: Said, zone: tzinfo, *, as_json: bool) -> str:
    event = bounded(outcome.event)
    if as_json:
        return show.event_json(said.code, "replay", Entry(number, event))
    shown = {name: value for name, value in event.fields.items() if name != "ronda.evidence"}  # none is kept here
    return show.event_text(Entry(number, dataclasses.replace(event, fields=shown)), zone)


class Progress:
    """How far we are, on a terminal."""

    def __init__(self, plain: io.BufferedReader) -> None:
        self._plain, self._size = plain, os.fstat(plain.fileno()).st_size
        self._on, self._next = bool(self._size) and sys.stderr.isatty(), time.monotonic() + PROGRESS  # nobody knows how long a pipe is

    def __call__(self) -> None:
        if self._on and (now := time.monotonic()) >= self._next:
            self._next = now + PROGRESS
            print(f"\r\033[K{100 * self._plain.tell() // self._size} %", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._on:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
