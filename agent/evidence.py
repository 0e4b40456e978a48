"""Evidence: the packets and journal lines of incidents, on this box and nowhere else.

Law: what is kept is raw, so it is bounded in size and in days: MAX_BYTES and KEEP, and only for incidents that somebody holds
(agent/decisions.py) longer, until the day that was named. A disk that refuses is counted and said; detection goes on.

In the data directory's `evidence`, by the incident's id: `<id>.pcap`, its packets; `<id>.json`, what they are of; `<id>.lines`, the
journal's lines as stored, and `<id>.proof`, that they are of its chain, only where it is held: the journal lets go of its own after 30
days. All methods wait for the disk.
"""

import hashlib
import json
import logging
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import files
from agent.decisions import give, private
from agent.wire import chain

if TYPE_CHECKING:  # every agent tidies evidence; only one that detects makes some, and pays for what that takes
    from agent.detect.casebook import Kept, Outcome

log = logging.getLogger("ronda.evidence")

MAX_BYTES = 8 << 20  # of all that nobody holds
MAX_HELD = 16 << 20  # of what is held: then no more can be
KEEP = 30 * 86400.0  # seconds
MAX_FRAME = 1600  # bytes of a packet: an Ethernet frame; whatever is longer is cut
SUFFIXES = (".pcap", ".json", ".lines", ".proof")
ID = re.compile(r"[A-Z0-9]{2,8}-\d{4}-\d{4}(-\d{1,4})?")


def capture(frames: "Sequence[Kept]") -> bytes:
    """The packets as a pcap."""
    from agent.detect.casebook import MAX_FRAMES
    from agent.wire import pcap

    return pcap.file_head() + b"".join(pcap.record(kept.at, kept.raw[:MAX_FRAME], len(kept.raw)) for kept in frames[:MAX_FRAMES])


class Evidence:
    """What one data directory holds. Raises OSError where the disk refuses, but `keep`."""

    def __init__(self, data: Path) -> None:
        self.directory = data / "evidence"
        self.failures = 0
        self._problem = ""

    def path(self, name: str, suffix: str) -> Path:
        """Raises ValueError for what is not the id of an incident: it comes from people."""
        if not ID.fullmatch(name):
            raise ValueError(f"{name[:40]!r} is not the id of an incident, e.g. DKC-1124-0915")
        return self.directory / f"{name}{suffix}"

    def names(self) -> list[str]:
        """The incidents that there is something of."""
        try:
            return sorted({path.stem for path in self.directory.iterdir() if ID.fullmatch(path.stem)})
        except FileNotFoundError:
            return []

    # -- packets ----------------------------------------------------------------------------------------------------------

    def keep(self, outcome: "Outcome", held: Collection[str] = ()) -> bool:
        """Keeps the packets of a case, where there are more than before. False: the disk refuses."""
        if not outcome.frames:
            return True
        try:
            self._make_directory()
            if self._has(outcome.id) >= len(outcome.frames):
                return True
            data = capture(outcome.frames)
            about = self._about(outcome, data)
            files.replace(self.path(outcome.id, ".pcap"), data)
            files.replace(self.path(outcome.id, ".json"), json.dumps(about).encode())
            self.bound(held)
        except (OSError, ValueError) as e:
            self._failed(e)
            return False
        self._problem = ""
        return True

    def _has(self, name: str) -> int:
        """How many packets are kept of an incident: after a restart the casebook begins with none."""
        try:
            said = json.loads(self.path(name, ".json").read_bytes()[:4096])
            return int(said["packets"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return 0

    def _make_directory(self) -> None:
        if not self.directory.exists():
            self.directory.mkdir(mode=0o700, parents=True)
            give(self.directory)

    def _about(self, outcome: "Outcome", data: bytes) -> dict[str, Any]:
        times = [kept.at for kept in outcome.frames]
        return {
            "id": outcome.id, "rule": outcome.rule, "packets": len(outcome.frames), "first": round(min(times), 6),
            "last": round(max(times), 6), "sha256": hashlib.sha256(data).hexdigest(),
        }  # fmt: skip

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        said = str(error)
        if said != self._problem:
            log.error("evidence can't be kept: %s", said)
        self._problem = said

    def packets(self, name: str) -> bytes | None:
        """The pcap of an incident; None: there are none."""
        try:
            with self.path(name, ".pcap").open("rb") as f:
                return f.read(MAX_BYTES)
        except FileNotFoundError:
            return None

    # -- what is held -----------------------------------------------------------------------------------------------------

    def hold(self, name: str, lines: Iterable[bytes]) -> int:
        """Keeps these lines of the journal, as stored, beside what is there of the incident. Returns how many it has then."""
        path = self.path(name, ".lines")
        had = self.lines(name)
        new = [line for line in lines if line not in had]
        if new or not path.exists():
            self._make_directory()
            files.replace(path, b"".join(line + b"\n" for line in [*had, *new]), durable=True, prepare=private)
        return len(had) + len(new)

    def lines(self, name: str) -> list[bytes]:
        try:
            with self.path(name, ".lines").open("rb") as f:
                return [line for line in f.read(MAX_BYTES).split(b"\n") if line]
        except FileNotFoundError:
            return []

    def keep_proof(self, name: str, proof: chain.Proof) -> None:
        """The proof of the chain for what is held: the journal's lines that it needs go after 30 days."""
        path = self.path(name, ".proof")
        files.replace(path, json.dumps(proof.dump()).encode(), durable=True, prepare=private)

    def proof(self, name: str) -> chain.Proof | None:
        """The one that was kept; None: none, or it can't be read."""
        try:
            with self.path(name, ".proof").open("rb") as f:
                return chain.load_proof(json.loads(f.read(MAX_BYTES)))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as e:
            log.error("the proof of %s can't be read: %s", name, e)
            return None

    def held_bytes(self, held: Collection[str]) -> int:
        return sum(size for _, _, size in self._sizes(held, of_held=True))

    # -- what goes --------------------------------------------------------------------------------------------------------

    def tidy(self, now: float, held: Collection[str]) -> int:
        """Lets go of what is older than KEEP and not held. `now` must be a true time. Returns how many files that were."""
        gone = self._halves(now)
        for when, name, _ in self._sizes(held, of_held=False):
            if 0 < when < now - KEEP:
                gone += self._remove(name)
            else:  # no longer held: the journal has its own
                gone += self._remove(name, (".lines", ".proof"))
        return gone

    def _halves(self, now: float) -> int:
        """Removes what a power cut left half written: it is raw as well."""
        old = [path for path in self.directory.glob("*.new") if path.stat().st_mtime < now - 3600]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def bound(self, held: Collection[str]) -> None:
        """Lets go of the oldest while there is too much of what nobody holds."""
        found = sorted(self._sizes(held, of_held=False))
        total = sum(size for _, _, size in found)
        for _, name, size in found:
            if total <= MAX_BYTES:
                break
            total -= size
            self._remove(name)

    def _sizes(self, held: Collection[str], *, of_held: bool) -> list[tuple[float, str, int]]:
        """(last change, incident, bytes on the disk)."""
        found = []
        for name in self.names():
            if (name in held) == of_held:
                stats = [path.stat() for suffix in SUFFIXES if (path := self.path(name, suffix)).exists()]
                size = sum(max(4096, stat.st_size) for stat in stats)
                found.append((max((stat.st_mtime for stat in stats), default=0.0), name, size))
        return found

    def _remove(self, name: str, suffixes: Sequence[str] = SUFFIXES) -> int:
        gone = 0
        for suffix in suffixes:
            path = self.path(name, suffix)
            if path.exists():
                path.unlink()
                gone += 1
        return gone
