"""The centre's events: what every site has told, each once, with its own times and when it came. One SQLite file.

Law: an event is known by (site, journal, number): told again, it is the same one. `add` and `anchor` return when a power cut can't take it
back. Rows are only added; what is older than KEEP goes. Times are arguments.

Anchors are the heads of the sites' chains (agent/wire/chain.py) as they were told: what a site changes later contradicts them. Who tells
another head for a number that has one has a breach, which is kept, and an event of the centre's own.
"""

import collections
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agent.model import Event
from agent.wire.chain import Told
from agent.wire.event import SEVERITIES, Entry

KEEP = 5 * 366 * 86400.0  # seconds: reports, claims and audits need years
LATE = 60.0  # seconds between the event and its coming
VERSION = 2
ANCHORS_A_DAY = 5000  # of a site; more can't be honest
OWN = "00000000"  # the journal of what the centre itself says of a site
ANCHORS = """
CREATE TABLE anchors (
    site TEXT NOT NULL, journal TEXT NOT NULL, seq INTEGER NOT NULL, head TEXT NOT NULL, received REAL NOT NULL,
    PRIMARY KEY (site, journal, seq)
) WITHOUT ROWID;
CREATE TABLE breaches (
    site TEXT NOT NULL, journal TEXT NOT NULL, seq INTEGER NOT NULL, known TEXT NOT NULL, told TEXT NOT NULL, received REAL NOT NULL,
    PRIMARY KEY (site, journal, seq, told)
) WITHOUT ROWID;
"""
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


class Anchor(NamedTuple):
    """A head that a site has told, and when."""

    site: str
    number: int
    head: str
    received: float


class Breach(NamedTuple):
    """A site has told two heads for one number."""

    number: int
    known: str
    told: str


class EventStore:
    """Safe from several threads; each call may wait for the disk. Raises StoreError where it refuses."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._anchored: collections.Counter[str] = collections.Counter()  # by site, since the last tidying
        if not read_only:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            mode = "ro" if read_only else "rwc"
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, check_same_thread=False, isolation_level=None)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise StoreError(f"{path} is from a newer version of Ronda")
            if not read_only:
                self._prepare(version)
        except sqlite3.Error as e:
            raise StoreError(f"{path} can't be used: {e}") from None

    def _prepare(self, version: int) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA busy_timeout = 5000")
        if version < VERSION:
            self._db.executescript(f"BEGIN; {SCHEMA if version == 0 else ''} {ANCHORS} PRAGMA user_version = {VERSION}; COMMIT;")

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

    # -- anchors ----------------------------------------------------------------------------------------------------------

    def anchor(self, site: str, told: Told, now: float) -> Breach | None:
        """Keeps a head that a site has told. A Breach where it has told another for that number, and this is the first time it does."""
        with self._lock:
            if self._anchored[site] >= ANCHORS_A_DAY:
                return None
            try:
                known = self._known(site, told)
                if known == told.digest:
                    return None
                self._anchored[site] += 1
                if known is None:
                    self._db.execute("INSERT INTO anchors VALUES (?, ?, ?, ?, ?)", [site, told.journal, told.number, told.digest, now])
                    return None
                about = [site, told.journal, told.number, known, told.digest, now]
                new = self._db.execute("INSERT OR IGNORE INTO breaches VALUES (?, ?, ?, ?, ?, ?)", about).rowcount
            except sqlite3.Error as e:
                raise StoreError(f"{self.path}: {e}") from None
        return Breach(told.number, known, told.digest) if new else None

    def _known(self, site: str, told: Told) -> str | None:
        where = [site, told.journal, told.number]
        row = self._db.execute("SELECT head FROM anchors WHERE site = ? AND journal = ? AND seq = ?", where).fetchone()
        return str(row[0]) if row else None

    def anchors(self, journal: str, first: int, last: int) -> list[Anchor]:
        """A journal's anchors with these numbers, in order. None in a file that an older gateway keeps."""
        asked = "SELECT site, seq, head, received FROM anchors WHERE journal = ? AND seq BETWEEN ? AND ? ORDER BY seq"
        try:
            with self._lock:
                if self._db.execute("PRAGMA user_version").fetchone()[0] < VERSION:
                    return []
                return [Anchor(*row) for row in self._db.execute(asked, [journal, first, last])]
        except sqlite3.Error as e:
            raise StoreError(f"{self.path}: {e}") from None

    def breaches(self) -> dict[str, int]:
        """How many each site has."""
        try:
            with self._lock:
                return dict(self._db.execute("SELECT site, count(*) FROM breaches GROUP BY site ORDER BY site").fetchall())
        except sqlite3.Error as e:
            raise StoreError(f"{self.path}: {e}") from None

    def say(self, site: str, event: Event, now: float) -> None:
        """Adds what the centre itself says of a site."""
        with self._lock:
            row = self._db.execute("SELECT max(seq) FROM events WHERE site = ? AND journal = ?", [site, OWN]).fetchone()
        self.add(site, OWN, [Entry(int(row[0] or 0) + 1, event)], now)

    # -- events -----------------------------------------------------------------------------------------------------------

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
            self._anchored.clear()
            try:
                self._db.execute("DELETE FROM anchors WHERE received < ?", [now - KEEP])
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
