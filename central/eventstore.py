"""The centre's events: what every site has told, each once, with its own times and when it came. One SQLite file.

Law: an event is known by (site, journal, number): told again, it is the same one. `add` returns when a power cut can't take it back.
Rows are only added; what is older than KEEP goes. Times are arguments.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agent.model import Event
from agent.wire.event import SEVERITIES, Entry

KEEP = 5 * 366 * 86400.0  # seconds: reports, claims and audits need years
LATE = 60.0  # seconds between the event and its coming
VERSION = 1
SCHEMA = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    site TEXT NOT NULL, journal TEXT NOT NULL, seq INTEGER NOT NULL,
    kind TEXT NOT NULL, severity TEXT NOT NULL, message TEXT NOT NULL, task TEXT NOT NULL, labels TEXT NOT NULL, fields TEXT NOT NULL,
    first REAL NOT NULL, last REAL NOT NULL, count INTEGER NOT NULL, unsure INTEGER NOT NULL,
    received REAL NOT NULL, late INTEGER NOT NULL,
    UNIQUE (site, journal, seq)
);
CREATE INDEX by_time ON events (last);
CREATE INDEX by_site ON events (site, last);
CREATE TABLE cursors (exit TEXT PRIMARY KEY, id INTEGER NOT NULL);
"""
COLUMNS = "id, site, journal, seq, kind, severity, message, task, labels, fields, first, last, count, unsure, received, late"


class StoreError(Exception):
    """The file can't be used; str() says why."""


class Kept(NamedTuple):
    """An event as it is kept."""

    id: int
    site: str
    journal: str
    entry: Entry
    received: float
    late: bool


class EventStore:
    """Safe from several threads; each call may wait for the disk. Raises StoreError where it refuses."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._lock = threading.Lock()
        if not read_only:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            mode = "ro" if read_only else "rwc"
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, check_same_thread=False, isolation_level=None)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise StoreError(f"{path} is from a newer version of Ronda")
            if not read_only:
                self._prepare(new=version == 0)
        except sqlite3.Error as e:
            raise StoreError(f"{path} can't be used: {e}") from None

    def _prepare(self, *, new: bool) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA busy_timeout = 5000")
        if new:
            self._db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")

    def add(self, site: str, journal: str, entries: Sequence[Entry], now: float) -> int:
        """Stores what is not there yet, all or nothing. Returns how many that were."""
        rows = [(site, journal, *_row(entry), now, int(now - entry.event.last_seen > LATE)) for entry in entries]
        holes = ",".join("?" * (COLUMNS.count(",")))
        insert = f"INSERT OR IGNORE INTO events ({COLUMNS.removeprefix('id, ')}) VALUES ({holes})"  # noqa: S608  (our own names)
        with self._lock:
            try:
                before = self._db.total_changes
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(insert, rows)
                self._db.execute("COMMIT")
            except sqlite3.Error as e:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise StoreError(f"{self.path}: {e}") from None
            return self._db.total_changes - before

    def find(self, *, site: str = "", kind: str = "", severity: str = "", since: float = 0.0) -> Iterator[Kept]:
        """By the time that they happened, oldest first. `severity`: this one and those that are graver."""
        wanted: list[tuple[str, list[Any]]] = [("last >= ?", [since])]
        for column, value in (("site", site), ("kind", kind)):
            if value:
                wanted.append((f"{column} = ?", [value]))
        if severity:
            graver = list(SEVERITIES[: [*SEVERITIES].index(severity) + 1])  # type: ignore[arg-type]
            wanted.append((f"severity IN ({','.join('?' * len(graver))})", list(graver)))
        where = " AND ".join(text for text, _ in wanted)
        yield from self._select(f"WHERE {where} ORDER BY last, id", [value for _, values in wanted for value in values])

    def after(self, number: int, limit: int) -> list[Kept]:
        """The next by the order in which they came."""
        return list(self._select("WHERE id > ? ORDER BY id LIMIT ?", [number, limit]))

    def _select(self, rest: str, values: Sequence[Any]) -> Iterator[Kept]:
        try:
            with self._lock:
                rows = self._db.execute(f"SELECT {COLUMNS} FROM events {rest}", values).fetchall()  # noqa: S608  (our own names)
        except sqlite3.Error as e:
            raise StoreError(f"{self.path}: {e}") from None
        return map(_kept, rows)

    def cursor(self, name: str) -> int:
        """How far an exit has got."""
        with self._lock:
            row = self._db.execute("SELECT id FROM cursors WHERE exit = ?", [name]).fetchone()
        return int(row[0]) if row else 0

    def move(self, name: str, number: int) -> None:
        with self._lock:
            self._db.execute("INSERT INTO cursors VALUES (?, ?) ON CONFLICT (exit) DO UPDATE SET id = excluded.id", [name, number])

    def tidy(self, now: float) -> int:
        """Lets go of what came too long ago. Returns how many that were."""
        with self._lock:
            try:
                return self._db.execute("DELETE FROM events WHERE received < ?", [now - KEEP]).rowcount
            except sqlite3.Error as e:
                raise StoreError(f"{self.path}: {e}") from None

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _row(entry: Entry) -> tuple[Any, ...]:
    event = entry.event
    labels, fields = (json.dumps(dict(it), ensure_ascii=False) for it in (entry.labels, event.fields))
    about = (entry.seq, event.kind, event.severity, event.message, entry.task, labels, fields)
    return (*about, event.first_seen, event.last_seen, event.count, int(entry.unsure))


def _kept(row: Sequence[Any]) -> Kept:
    number, site, journal, seq, kind, severity, message, task, labels, fields, first, last, count, unsure, received, late = row
    event = Event(kind, severity, message, json.loads(fields), first, last, count)
    return Kept(number, site, journal, Entry(seq, event, task, json.loads(labels), bool(unsure)), received, bool(late))
