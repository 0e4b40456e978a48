"""Secrets from files: passwords and tokens, never in the config itself.

Law: a secret is read when it is needed and not kept; no message holds any of it. A file that strangers on the box can read is refused.
"""

import os
import stat
from pathlib import Path

MAX_SECRET = 64 << 10


class SecretError(OSError):
    """A secret that can't be used; str() says why and names the file, never its content."""


def check_private(path: str | Path) -> None:
    """Raises SecretError when the file can't be read by us or can be by others; for keys that a library reads itself."""
    os.close(_open(path))


def read_secret(path: str | Path) -> str:
    """The one line that the file holds, without its line break. Raises SecretError.

    Refused: files that others may read, write or run (mode & 0o007), that are no files, are empty, larger than 64 KiB, not UTF-8, or
    hold control characters (a line break inside would end an HTTP header early).
    """
    with os.fdopen(_open(path), "rb") as f:
        data = f.read(MAX_SECRET + 1)
    if len(data) > MAX_SECRET:
        raise SecretError(f"{path} is larger than {MAX_SECRET >> 10} KiB")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise SecretError(f"{path} is not UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SecretError(f"{path} is empty")
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise SecretError(f"{path} holds more than one line")
    return text


def _open(path: str | Path) -> int:
    try:  # without O_NONBLOCK a FIFO would hold us for ever
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        raise SecretError(f"{path} can't be read: {e.strerror}") from None
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise SecretError(f"{path} is not a file")
    if mode & 0o007:
        os.close(fd)
        raise SecretError(f"{path} is open to everybody on this box (mode {stat.S_IMODE(mode):o}): chmod 640 it")
    return fd
