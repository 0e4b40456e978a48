"""Lines of the login log as they come: auth.log where there is one, else the journal.

Law: bounded a look, and never a line twice. A log that is rotated, cut short, replaced or gone is followed; where it can't be read that is
said (`why`), and a line that was lost is counted. Nothing stays running between two looks.

The journal is asked by a short `journalctl` behind a cursor, and only when its files have changed. Measured (systemd 252, x86-64): a run
costs 4 ms of CPU, and on an idle box there is one every few minutes; a `journalctl -f` that stayed would hold 8 MiB, 3 MiB of them its own.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

FILES = ("var/log/auth.log", "var/log/secure")  # Debian's, and others'
JOURNALS = ("var/log/journal", "run/log/journal")
MAX_LOOK = 256 << 10  # bytes read in one look; what is more waits for the next
MAX_PART = 64 << 10  # bytes of a line that isn't finished yet
MAX_BEHIND = 4 << 20  # bytes of a file that wait to be read: whoever logs faster is not read to the end
MAX_ENTRIES = 2000
TIMEOUT = 20.0
FACILITIES = ("SYSLOG_FACILITY=4", "SYSLOG_FACILITY=10")


class Tail:
    """`look()` gives what has come since the last time; the first begins at the end: what was before has been."""

    def __init__(self, root: Path, journalctl: Sequence[str] = ("/usr/bin/journalctl",)) -> None:
        self._root = root
        self._journal = Journal(root, journalctl)
        self._files = [File(root / path) for path in FILES]
        self.why = ""

    @property
    def lost(self) -> int:
        return self._journal.lost + sum(f.lost for f in self._files)

    def look(self) -> list[bytes]:
        """New lines. `why` afterwards: "" where the log can be read, else a reason as coverage has it. Waits for the disk."""
        lines, there, denied = [], False, False
        for file in self._files:
            try:
                lines += file.look()
                there = there or file.there
            except PermissionError:
                denied = True
            except OSError:
                continue
        if there:
            self.why = ""
            return lines
        lines += self._journal.look()  # behind what was left in a log that has just gone
        self.why = self._journal.why and ("log_unreadable" if denied else self._journal.why)
        return lines

    def close(self) -> None:
        for file in self._files:
            file.close()


class File:
    """One file of a log, by name: whatever stands there is read, and what is left of its predecessor before it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._inode = (0, 0)
        self._at = 0
        self._part = b""
        self._first = True
        self._skipping = False
        self.lost = 0  # bytes, of lines that were too long and of what was too much

    @property
    def there(self) -> bool:
        return self._fd is not None

    def look(self) -> list[bytes]:
        """Raises OSError where it is there and can't be read."""
        lines: list[bytes] = []
        try:
            now = self._path.stat()
        except FileNotFoundError:
            now = None
        if self._fd is not None and (now is None or (now.st_dev, now.st_ino) != self._inode):
            lines += self._read()
            if self._more():  # the old one is read to its end before the new one is begun
                return lines
            self.close()
        if now is None:
            self._first = False  # what comes here later is new from its first line
            return lines
        if self._fd is None:
            self._open()
        elif now.st_size < self._at:  # cut short, or copied and emptied: what stands there now is new
            self._at, self._part = 0, b""
        return lines + self._read()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        found = os.fstat(self._fd)
        self._inode = found.st_dev, found.st_ino
        self._at, self._part, self._skipping = (found.st_size if self._first else 0), b"", False
        self._first = False

    def _more(self) -> bool:
        return self._fd is not None and os.fstat(self._fd).st_size > self._at

    def _read(self) -> list[bytes]:
        assert self._fd is not None
        behind = os.fstat(self._fd).st_size - self._at
        if behind > MAX_BEHIND:
            self.lost += behind - MAX_LOOK
            self._at += behind - MAX_LOOK
            self._part, self._skipping = b"", True
        data = os.pread(self._fd, MAX_LOOK, self._at)
        self._at += len(data)
        *lines, self._part = (self._part + data).split(b"\n")
        if self._skipping and lines:
            self.lost += len(lines.pop(0))
            self._skipping = False
        if len(self._part) > MAX_PART:
            self.lost += len(self._part)
            self._part, self._skipping = b"", True
        return lines

    def close(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd = None


class Journal:
    """Entries of the facilities auth and authpriv (4 and 10): sshd, sudo, su, login and PAM use these two."""

    def __init__(self, root: Path, journalctl: Sequence[str]) -> None:
        self._root = root
        self._command = [*journalctl, *([] if str(root) == "/" else [f"--root={root}"])]
        self._cursor: str | None = None
        self._stamp: object = None
        self.lost = 0  # times that the cursor was gone: what came between two looks may be unread
        self.why = "no_login_log"
        self.runs = 0

    def look(self) -> list[bytes]:
        stamp = self._changed()
        if not stamp:
            self.why = "no_login_log"
            return []
        if stamp == self._stamp:
            return []
        try:
            lines = self._run()
        except (OSError, subprocess.SubprocessError):
            self.why = "log_unreadable"
            return []
        self._stamp = stamp
        return lines

    def _changed(self) -> tuple[tuple[str, int, int], ...]:
        """journald changes its file's time with what it writes, four times a second at most."""
        found = []
        for place in JOURNALS:
            with contextlib.suppress(OSError):
                for directory in [e for e in os.scandir(self._root / place) if e.is_dir()][:8]:
                    with contextlib.suppress(OSError):
                        s = Path(directory.path, "system.journal").stat()
                        found.append((directory.path, s.st_ino, s.st_mtime_ns))
        return tuple(found)

    def _run(self) -> list[bytes]:
        """Raises OSError where the journal can't be read."""
        first = self._cursor is None
        out, code = self._call(["--lines=1"] if first else self._since())
        if code and not first:  # the journal was vacuumed, or is another machine's: begin anew, and say so
            self.lost += 1
            first, (out, code) = True, self._call(["--lines=1"])
        if code:
            raise OSError("journalctl can't read the journal")
        self.why = ""
        entries = [line for line in out.splitlines() if line.startswith(b"{")]
        if not entries:
            self._cursor = self._cursor or ""
            return []
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            self._cursor = str(json.loads(entries[-1])["__CURSOR"])
        return [] if first else entries

    def _since(self) -> list[str]:
        """ "" is a cursor before all: there was no entry at the first look."""
        return [f"--lines={MAX_ENTRIES}", *([f"--after-cursor={self._cursor}"] if self._cursor else [])]

    def _call(self, where: list[str]) -> tuple[bytes, int]:
        self.runs += 1
        fields = "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_PID,_UID,SYSLOG_PID"
        command = [*self._command, "--quiet", "--no-pager", "--system", "--output=json", fields, *where, *FACILITIES]
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False, env={"LC_ALL": "C"})  # noqa: S603
        denied = any(words in run.stderr for words in (b"insufficient permissions", b"Permission denied", b"not seeing messages"))
        return run.stdout, run.returncode or int(denied)
