"""The little that must outlive a restart: the open incident, and when the agent was last alive.

Law: state.json is replaced atomically when what it says has changed. In between only `alive` is written, at most every ten minutes and
over itself: 4 KiB of the card, where a replaced file costs ten times that in the file system's journal. A power cut may spoil it; the time
in state.json holds then. A disk that is full or read-only is said once, counted and shown; everything else goes on.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agent import files
from agent.diagnosis import CAUSES, SITE_STATES, Verdict

log = logging.getLogger("ronda.state")

HEARTBEAT = 600.0  # seconds
MAX_BYTES = 16 << 10
ALIVE_BYTES = 160  # of `alive`: always as many, so that it can be written over itself
SERVICE_DIRECTORY = Path("/var/lib/ronda")  # of config/systemd/ronda.service
LATEST = 253402300800.0  # the year 10000, where datetime ends


def default_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where systemd says, else the user's state directory (XDG Base Directory Specification)."""
    if given := environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    base = environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path("~/.local/state").expanduser()) / "ronda"


def data_directory() -> Path:
    """Where this user's agent keeps its data; else where the service does."""
    own = default_directory()
    try:
        return own if (own / "journal").is_dir() or not (SERVICE_DIRECTORY / "journal").is_dir() else SERVICE_DIRECTORY
    except PermissionError:  # the service's is there, and not ours to see: reading it will say so
        return SERVICE_DIRECTORY


class Last(NamedTuple):
    """The run before this one: when it was last known to live (wall seconds; 0: there was none), whether it ended well, in which boot."""

    alive_at: float = 0.0
    ended: bool = True
    boot: str = ""


class StateFile:
    """`problem` says in words why the last write failed; empty: it did not. `last` is known once it was read."""

    def __init__(self, directory: Path, boot: str = "") -> None:
        self.path, self.alive = directory / "state.json", directory / "alive"
        self.last = Last()
        self._written: dict[str, Any] = {}
        self._boot = boot
        self.failures = 0
        self.problem = ""

    def read(self, site: str) -> Verdict | None:
        """The verdict last written for this site; None where there is none, or the file is damaged."""
        try:
            with self.path.open("rb") as f:
                held: Any = json.loads(f.read(MAX_BYTES))
            kept = held["verdict"]
            if held["site"] != site:
                return None
            self.last = self._heard(_last(held))
            state, cause, since = kept["state"], kept["cause"], float(kept["since"])
            if state not in SITE_STATES or cause not in CAUSES or not 0 <= since < LATEST:
                raise ValueError("not a verdict of this version")
            return Verdict(state, cause, "unknown", since, str(kept["incident"])[:40], ("dari sebelum mulai ulang",))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
            log.warning("%s can't be used, starting afresh: %r", self.path, e)
            return None

    def _heard(self, last: Last) -> Last:
        """The same run with its last sign of life."""
        try:
            with self.alive.open("rb") as f:
                beat: Any = json.loads(f.read(ALIVE_BYTES))
            at = float(beat["alive_at"])
            return last._replace(alive_at=at) if beat["boot"] == last.boot and last.alive_at < at < LATEST else last
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return last  # none yet, or spoilt by a power cut

    def write(self, site: str, verdict: Verdict, now: float, *, ended: bool = False) -> bool:
        """Keeps it. False when the disk refuses; `problem` then says why. `ended`: nothing comes after it, all is well."""
        kept = {"state": verdict.state, "cause": verdict.cause, "since": verdict.since, "incident": verdict.incident}
        said = {"site": site, "ended": ended, "boot": self._boot, "verdict": kept}
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if said == self._written:
                self._beat(now)
            else:
                files.replace(self.path, json.dumps({**said, "alive_at": now}).encode())
                self._written = said
        except OSError as e:
            self._failed(e)
            return False
        if self.problem:
            log.warning("%s can be written again", self.path)
        self.problem = ""
        return True

    def _beat(self, now: float) -> None:
        data = json.dumps({"alive_at": now, "boot": self._boot}).encode().ljust(ALIVE_BYTES)
        try:
            files.overwrite(self.alive, data)
        except (FileNotFoundError, ValueError):  # the first, or somebody else's
            files.replace(self.alive, data)

    def _failed(self, error: OSError) -> None:
        self.failures += 1
        problem = f"{self.path}: {error.strerror}"
        if problem != self.problem:
            log.error("can't write %s: %s; the open incident would be forgotten at a restart", self.path, error.strerror)
        self.problem = problem


def _last(held: Mapping[str, Any]) -> Last:
    """What the file says of its run. One of an older version says nothing of how it ended."""
    alive_at = held.get("alive_at", 0.0)
    known = isinstance(alive_at, (int, float)) and 0 < alive_at < LATEST
    return Last(float(alive_at), bool(held.get("ended", True)), str(held.get("boot", ""))[:64]) if known else Last()


def uptime(root: Path) -> float:
    """Seconds since the boot; 0 where nobody tells."""
    try:
        return float((root / "proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
