"""A directory of segments: held by one process, recovered at its start, and never the reason that anything stops.

Law: of a segment that a power cut tore the tail is cut, never the file. What is not ours (of another site, of a newer version, unreadable)
is renamed out of the way, never deleted. A disk that refuses (full, read-only, broken) is said once a kind of try and counted; whoever
holds the data keeps it meanwhile. What a segment holds, and when it goes, is its owner's business (agent/buffer.py, agent/journal.py).
"""

import abc
import contextlib
import fcntl
import logging
import os
import threading
from pathlib import Path
from typing import Generic, TypeVar

from agent.clock import Clock
from agent.wire import segment as codec

S = TypeVar("S")


class InUse(Exception):  # noqa: N818
    """Another process has this directory open."""


class Segments(abc.ABC, Generic[S]):
    """What is common to the owners of segments. `name`: what it is, for people; `refused`: what becomes of the data meanwhile."""

    def __init__(self, directory: Path, site: str, clock: Clock, name: str, refused: str, biggest: int) -> None:
        self.directory, self.site, self._clock = directory, site, clock
        self.failures = self.aside = 0
        self._name, self._refused, self._biggest = name, refused, biggest
        self._log = logging.getLogger(f"ronda.{name}")
        self._header, self._seed = codec.pack_header(site), codec.seed(site)
        self._held = -1  # descriptor of the directory, locked
        self._problems: dict[str, str] = {}  # by what was tried
        self._opened = self._closed = False
        self._lock = threading.RLock()

    @abc.abstractmethod
    def _recover(self) -> None:
        """Takes up all files, at the start. Raises OSError."""

    @abc.abstractmethod
    def _index(self, segment: S, data: bytes) -> bool:
        """Learns what a segment holds. False: not one whole record."""

    @abc.abstractmethod
    def _cut(self, path: Path, segment: S, size: int) -> None:
        """Cuts what follows the last whole record of an indexed segment. Raises OSError."""

    @abc.abstractmethod
    def _let_go_of_files(self) -> None:
        """Closes what is open."""

    @property
    def problem(self) -> str:
        """Why the disk refuses, in words; empty: it does not."""
        return "; ".join(dict.fromkeys(tuple(self._problems.values())))

    # -- a disk that refuses ----------------------------------------------------------------------------------------------

    def _failed(self, tried: str, error: OSError) -> None:
        self.failures += 1
        problem = f"{self.directory}: {error.strerror or error}"
        if self._problems.get(tried) != problem:
            self._log.error("the %s's disk refuses (%s): %s; %s", self._name, tried, problem, self._refused)
        self._problems[tried] = problem

    def _worked(self, tried: str) -> None:
        if self._problems.pop(tried, ""):
            self._log.warning("the %s's disk serves again (%s): %s", self._name, tried, self.directory)

    # -- opening ----------------------------------------------------------------------------------------------------------

    def _open(self) -> bool:
        """Recovers what the directory holds. False where the disk refuses. Raises InUse."""
        if self._closed:
            return False
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._hold()
            self._recover()
        except OSError as e:
            self._failed("open", e)
            self._let_go()
            return False
        self._opened = True
        self._worked("open")
        return True

    def _hold(self) -> None:
        """Locks the directory: the lock goes with the process, however it ends, and no file of it stays."""
        self._held = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._let_go()
            raise InUse(f"{self.directory} is in use by another process") from None

    def _let_go(self) -> None:
        self._let_go_of_files()
        if self._held >= 0:
            os.close(self._held)
        self._held, self._opened = -1, False

    def _take_segment(self, path: Path, segment: S) -> None:
        """Takes up a file that is named as a segment of ours. Raises OSError."""
        if path.stat().st_size > self._biggest:
            self._set_aside(path, "too large for a segment")
            return
        data = path.read_bytes()
        try:
            header = codec.read_header(data)
        except codec.SegmentError:
            header = None  # its records say themselves whose they are
        if header and header.version > codec.VERSION:
            self._set_aside(path, "from a newer version of Ronda")
        elif header and header.site != self.site:
            self._set_aside(path, f"of the site {header.site!r}")
        elif self._index(segment, data):
            self._cut(path, segment, len(data))
        elif header or self._header.startswith(data.rstrip(b"\0")) or len(data) < codec.HEADER_BYTES + codec.RECORD_BYTES:
            self._log.warning("%s: torn before its first record was whole; deleted", path)
            path.unlink()
        else:
            self._set_aside(path, "no whole record in it")

    def _fill(self, path: Path, fd: int, blob: bytes) -> None:
        """Makes a new file a segment, durably; raising OSError: it is gone again, where the disk lets it go."""
        try:
            write_all(fd, self._header + blob)
            os.fsync(self._held)  # the name is as durable as the content
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                path.unlink()
            raise

    def _cut_tail(self, path: Path, whole: int, size: int) -> None:
        """Cuts what follows the last whole record: a write that a power cut tore."""
        if whole < size:
            self._log.warning("%s: %d torn bytes cut after its last whole record", path, size - whole)
            os.truncate(path, whole)

    def _set_aside(self, path: Path, why: str) -> None:
        """Renames a file out of the way: whoever knows better finds it there."""
        names = (f"{path.name}{n}.aside" for n in ("", *(f".{n}" for n in range(2, 1000))))
        free = next(name for name in names if not (self.directory / name).exists())
        try:
            path.rename(self.directory / free)
        except OSError as e:
            self._failed("write", e)
            return
        self.aside += 1
        self._log.error("%s is %s: set aside as %s, nothing of it is sent", path, why, free)


def write_all(fd: int, data: bytes) -> None:
    """Writes and syncs. Raises OSError; the file may have grown by a part of the data then."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.fdatasync(fd)
