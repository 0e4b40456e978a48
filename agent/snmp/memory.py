"""What a device's task must know again after a restart of the agent: interfaces that were up once, series that no longer count as it does.

Law: a small file of its own for each task, bounded, replaced as a whole, and written only when it has something new to say. One that can't
be read, or isn't as it should be, is as none: it costs a few alerts about ports that are down since before, nothing else.
"""

import contextlib
import json
import logging
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from agent import files

log = logging.getLogger("ronda.snmp")
MAX_BYTES, MOST = 1 << 20, 8192


class Known(NamedTuple):
    up_once: frozenset[str] = frozenset()
    rebased: frozenset[str] = frozenset()


class Memory:
    """`folder`: None: nothing is kept."""

    def __init__(self, folder: Path | None, task: str) -> None:
        self.path = folder / f"snmp.{urllib.parse.quote(task, safe='')[:120]}.json" if folder else None
        self.known = Known()

    def load(self) -> Known:
        """What the last run knew. Waits for the disk."""
        if self.path:
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
                with self.path.open("rb") as f:
                    said = json.loads(f.read(MAX_BYTES))
                self.known = Known(_texts(said["up_once"]), _texts(said["rebased"]))
        return self.known

    def keep(self, up_once: Iterable[str], rebased: Iterable[str]) -> None:
        """Writes it down where it is new. Waits for the disk."""
        now = Known(frozenset(sorted(up_once)[:MOST]), frozenset(sorted(rebased)[:MOST]))
        if self.path is None or now == self.known:
            return
        try:
            files.replace(self.path, json.dumps({name: sorted(texts) for name, texts in now._asdict().items()}).encode())
            self.known = now
        except OSError as e:
            log.warning("%s can't be written: %s", self.path, e.strerror)


def _texts(said: object) -> frozenset[str]:
    if not isinstance(said, list):
        raise TypeError
    return frozenset(t for t in said[:MOST] if isinstance(t, str) and len(t) <= 400)
