"""Small files that are replaced as wholes.

Law: whoever reads finds the old content or the new, never a part of one, also after a power cut.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def replace(path: Path, data: bytes, *, durable: bool = False, prepare: Callable[[Path], None] | None = None) -> None:
    """Raises OSError; the old file is whole then. `durable`: on return no power cut can bring the old one back. `prepare`: gives the new
    file its owner and mode before it has the name, so that nobody ever finds one that he may not read, or may.
    """
    new = path.with_name(f"{path.name}.new")  # of its own: files that differ in their suffix are written at the same time
    try:
        with new.open("wb") as f:
            f.write(data)
            f.flush()
            os.fdatasync(f.fileno())
        if prepare:
            prepare(new)
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Makes names as durable as contents. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def overwrite(path: Path, data: bytes) -> None:
    """Writes over the file's beginning where it lies: for a disk that is too full for a second copy. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_size < len(data):
            raise ValueError(f"{path} has no room for {len(data)} bytes")
        os.pwrite(fd, data, 0)
        os.fdatasync(fd)
    finally:
        os.close(fd)
