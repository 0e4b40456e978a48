"""The series that the last run told of and this one may not go on with: a note from the one to the other.

Law: written once, when the agent ends well, and gone when it is read; a note from before a reboot, or older than what a store looks back
(5 min), says nothing: those series have faded by themselves. Whatever the file holds, it is bounded and never an error.
"""

import json
import logging
import zlib
from collections.abc import Iterable
from pathlib import Path

from agent import files
from agent.wire import remote_write

log = logging.getLogger("ronda.push")

LOOKBACK = 300.0  # seconds that a store goes on with a series that has not ended
MAX_BYTES = 32 << 20


def leave(path: Path, boot: bytes, now: float, heads: Iterable[bytes]) -> None:
    """Writes the note; `now`: monotonic seconds of this boot. A disk that refuses costs a few minutes of old values."""
    told = {"boot": boot.hex(), "at": now, "series": [remote_write.parse(remote_write.join([(head, ())]))[0][0] for head in heads]}
    try:
        files.replace(path, zlib.compress(json.dumps(told).encode(), 6))
    except OSError as e:
        log.warning("%s can't be written: %s; series that end with this run fade in 5 minutes", path, e.strerror)


def take(path: Path, boot: bytes, now: float, site: str) -> set[bytes]:
    """The series' encoded labels, if the note is fresh; the file is gone afterwards.

    Only this site's: a gateway refuses what is told in another's name, and what was told before the box was renamed fades.
    """
    try:
        with path.open("rb") as f:
            data = f.read(MAX_BYTES)
        path.unlink()
        told = json.loads(zlib.decompressobj().decompress(data, MAX_BYTES))
        if told["boot"] != boot.hex() or not 0 <= now - float(told["at"]) < LOOKBACK:
            return set()
        series = [tuple((str(name), str(value)) for name, value in labels) for labels in told["series"]]
        return {remote_write.head(labels) for labels in series if ("site", site) in labels}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError, zlib.error, RecursionError) as e:
        log.warning("%s can't be used: %r", path, e)
        return set()
