"""Debian's packages, read from dpkg's and apt's own files: who owns a file, when packages changed, which security updates wait.

Law: reads only, below `root`, without apt, root or a lock; bounded, and in small bites with pauses between them (`pause`), because it runs
in a thread of a small box. What isn't there is said (`why`), never guessed. Packages that somebody holds back are nobody's debt.
"""

import bz2
import contextlib
import dataclasses
import gzip
import hashlib
import lzma
import os
import re
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple

BURST = 120.0  # seconds without work of dpkg that end one of its runs
LOG_BYTES, MAX_FILES, MAX_LINES, MAX_LINE = 256 << 10, 20_000, 5_000_000, 65536
OPENERS: dict[str, Callable[[Path], IO[bytes]]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}  # type: ignore[dict-item]
BITE, REST = 0.01, 0.02  # seconds of work, and of rest after it
HELPER = "/usr/lib/apt/apt-helper"  # reads what Python can't: lz4, zstd
SECURITY = re.compile(r"[-_]security_")


class Pace:
    """Rests after each bite of work."""

    def __init__(self, rest: float = REST) -> None:
        self._rest, self._began = rest, time.thread_time()

    def __call__(self) -> None:
        if time.thread_time() - self._began >= BITE:
            time.sleep(self._rest)
            self._began = time.thread_time()


class Owned(NamedTuple):
    """What packages say of paths: their md5sums by plain path, and those that they own without one. Plain: without a leading /usr."""

    sums: dict[str, str]
    owned: frozenset[str]


def plain(path: str) -> str:
    """/bin and /usr/bin are one since Debian merged them, and dpkg knows files by either."""
    return path.removeprefix("/usr")


@dataclasses.dataclass(frozen=True, slots=True)
class Pending:
    """names: "package version"; lists: seconds since they were fetched, -1: there are none; why: "" where all is known."""

    names: tuple[str, ...]
    lists: float
    why: str


class Dpkg:
    def __init__(self, root: Path, *, rest: float = REST) -> None:
        self._root, self._rest = root, rest
        self.there = (root / "var/lib/dpkg/status").exists()

    def stamp(self) -> tuple[int, int]:
        """Changes with every work of dpkg."""
        try:
            s = (self._root / "var/lib/dpkg/status").stat()
        except OSError:
            return 0, 0
        return s.st_mtime_ns, s.st_ino

    # -- when --------------------------------------------------------------------------------------------------------------

    def worked(self, now: float) -> tuple[float, float]:
        """Seconds since the last work ended and since it began; -1, -1: not known."""
        ends = [at for at in self._log() if at <= now + BURST]
        status = self.stamp()[0] / 1e9
        if status and (not ends or status > ends[-1]):
            ends.append(status)
        if not ends:
            return -1.0, -1.0
        began = end = ends[-1]
        for at in reversed(ends):
            if began - at > BURST:
                break
            began = min(began, at)
        return max(0.0, now - end), max(0.0, now - began)

    def _log(self) -> list[float]:
        """The moments of dpkg.log, which are in the box's own time zone."""
        try:
            with (self._root / "var/log/dpkg.log").open("rb") as f:
                f.seek(max(0, f.seek(0, os.SEEK_END) - LOG_BYTES))
                lines = f.read(LOG_BYTES).decode(errors="replace").splitlines()[-5000:]
        except OSError:
            return []
        found = set()
        for line in lines:
            try:
                found.add(datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S").timestamp())
            except ValueError:
                continue
        return sorted(found)

    # -- whose -------------------------------------------------------------------------------------------------------------

    def owned(self, wanted: Callable[[str], bool]) -> Owned:
        """Of the paths that `wanted` says yes to (given without /usr): what packages say of them."""
        sums, owned, pace = self._conffiles(wanted), set(), Pace(self._rest)
        info = self._root / "var/lib/dpkg/info"
        try:
            names = sorted(entry.name for entry in os.scandir(info) if entry.name.endswith((".md5sums", ".list")))[:MAX_FILES]
        except OSError:
            names = []
        for name in names:
            pace()
            for line in _lines(info / name):
                if name.endswith(".list"):
                    if wanted(path := plain(line)):
                        owned.add(path)
                elif wanted(path := plain("/" + line[34:])):
                    sums[path] = line[:32]
        return Owned(sums, frozenset(owned - sums.keys()))

    def _conffiles(self, wanted: Callable[[str], bool]) -> dict[str, str]:
        """status has them as ` /etc/crontab 1d5b…`, as the package brought them."""
        found = {}
        for line in _lines(self._root / "var/lib/dpkg/status"):
            if line.startswith(" /"):
                path, _, digest = line[1:].partition(" ")
                if wanted(plain(path)):
                    found[plain(path)] = digest[:32]
        return found

    # -- updates -----------------------------------------------------------------------------------------------------------

    def pending(self, now: float) -> Pending:
        lists = self._root / "var/lib/apt/lists"
        try:
            files = sorted(p for p in lists.iterdir() if "_Packages" in p.name and SECURITY.search(p.name))
        except OSError:
            files = []
        if not files:
            return Pending((), self._fetched(lists, now), "no_security_lists")
        installed, why = self._installed(), ""
        waiting: dict[str, str] = {}
        for path in files[:64]:
            try:
                for name, arch, version in self._offers(path):
                    here = installed.get((name, arch)) or (installed.get((name, "all")) if arch == "all" else None)
                    if here and compare(version, here) > 0 and compare(version, waiting.get(name, "0")) > 0:
                        waiting[name] = version
            except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, subprocess.SubprocessError):
                why = "lists_unreadable"
        return Pending(tuple(f"{name} {version}" for name, version in sorted(waiting.items())), self._fetched(lists, now), why)

    def _fetched(self, lists: Path, now: float) -> float:
        """apt touches `partial` or the lists when it has asked; Debian's hook leaves a stamp where it is installed."""
        stamps = [self._root / "var/lib/apt/periodic/update-success-stamp", lists / "partial", lists]
        times = [s.st_mtime for path in stamps if (s := _stat(path))]
        times += [s.st_mtime for path in _children(lists) if path.name.endswith("Release") and (s := _stat(path))]
        return max(0.0, now - max(times)) if times and _children(lists) else -1.0

    def _installed(self) -> dict[tuple[str, str], str]:
        found: dict[tuple[str, str], str] = {}
        for fields in _stanzas(
            _lines(self._root / "var/lib/dpkg/status"), ("Package", "Status", "Architecture", "Version"), Pace(self._rest)
        ):
            if fields.get("Status") == "install ok installed":  # "hold ok installed": somebody wants it as it is
                found[fields.get("Package", ""), fields.get("Architecture", "")] = fields.get("Version", "")
        return found

    def _offers(self, path: Path) -> Iterator[tuple[str, str, str]]:
        with _opened(path) as f:
            lines = (raw.decode(errors="replace").rstrip("\n") for raw in _bounded(f))
            for fields in _stanzas(lines, ("Package", "Architecture", "Version"), Pace(self._rest)):
                yield fields.get("Package", ""), fields.get("Architecture", ""), fields.get("Version", "")

    def reboot(self) -> bool:
        return any((self._root / path).exists() for path in ("run/reboot-required", "var/run/reboot-required"))


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _children(path: Path) -> list[Path]:
    try:
        return [p for p in path.iterdir() if p.is_file()]
    except OSError:
        return []


def _opened(path: Path) -> "contextlib.AbstractContextManager[IO[bytes]]":
    """A list as text, however apt keeps it."""
    if path.suffix in ("", *(s for s in [path.suffix] if s.endswith("_Packages"))):
        return path.open("rb")
    if opener := OPENERS.get(path.suffix):
        return opener(path)
    if not Path(HELPER).exists():
        raise ValueError(f"nothing here reads {path.suffix}")
    return _Helped(path)


class _Helped:
    """apt's own reader as a file; once in half a day, in a process that is nice."""

    def __init__(self, path: Path) -> None:
        self._run = subprocess.Popen(  # noqa: S603  (fixed programs and a file of apt's)
            ["/usr/bin/nice", "-n", "19", HELPER, "cat-file", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> IO[bytes]:
        assert self._run.stdout
        return self._run.stdout

    def __exit__(self, *_: object) -> None:
        assert self._run.stdout
        self._run.stdout.close()
        self._run.terminate()
        code = self._run.wait(10)
        if code not in (0, -15, -13):
            raise ValueError(f"apt-helper ended with {code}")


def _bounded(f: IO[bytes]) -> Iterator[bytes]:
    for _ in range(MAX_LINES):
        if not (line := f.readline(MAX_LINE)):
            return
        yield line


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as f:
            for line in _bounded(f):
                yield line.decode(errors="replace").rstrip("\n")
    except OSError:
        return


def _stanzas(lines: Iterator[str], names: tuple[str, ...], pace: Callable[[], None]) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    starts = tuple(f"{name}: " for name in names)
    for line in lines:
        if line.startswith(starts):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line:
            pace()
            yield fields
            fields = {}
    if fields:
        yield fields


# -- versions: deb-version(7) -----------------------------------------------------------------------------------------------


def compare(one: str, other: str) -> int:
    """Negative, 0 or positive, as dpkg --compare-versions has it."""
    a, b = _parts(one), _parts(other)
    if a[0] != b[0]:
        return -1 if a[0] < b[0] else 1
    return _order(a[1], b[1]) or _order(a[2], b[2])


def _parts(version: str) -> tuple[int, str, str]:
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return int(epoch) if epoch.isdigit() else 0, upstream if dash else rest, revision if dash else "0"


_CHUNK = re.compile(r"(\D*)(\d*)")


def _order(one: str, other: str) -> int:
    a, b = one, other
    while a or b:
        x, y = _CHUNK.match(a), _CHUNK.match(b)
        assert x
        assert y
        if (p := _weights(x[1])) != (q := _weights(y[1])):
            return -1 if p < q else 1
        if (m := int(x[2] or 0)) != (n := int(y[2] or 0)):
            return -1 if m < n else 1
        a, b = a[x.end() :], b[y.end() :]
    return 0


def _weights(text: str) -> list[int]:
    """A tilde sorts before the end, letters before the rest."""
    return [-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in text] + [0]


def md5(path: str | Path) -> str:
    """What dpkg compares with; no secret depends on it. Raises OSError."""
    with Path(path).open("rb") as f:
        return hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
