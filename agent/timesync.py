"""What the kernel knows of its own clock: is somebody keeping it right, and how far off may it be (adjtimex(2)).

Law: reads only (`modes` is 0), so no privilege is needed; NTP daemons tell the kernel, this file asks no daemon. chrony does so with
`rtcsync` (Debian's default). Where the C library can't be called, OSError says so: "could not look" is not "not synchronised".
"""

import ctypes
import os
from typing import NamedTuple

STA_UNSYNC, STA_NANO, TIME_ERROR = 0x0040, 0x2000, 5


class TimeState(NamedTuple):
    """All in seconds. `offset_seconds` is what the daemon still has to correct; without synchronisation it means nothing.

    max_error_seconds grows by 500 ppm since the last answer of a server; at 16 s (after some 9 hours) the kernel calls itself
    unsynchronised. `status` are the STA_* bits of linux/timex.h.
    """

    synchronised: bool
    offset_seconds: float
    estimated_error_seconds: float
    max_error_seconds: float
    status: int


class _Timex(ctypes.Structure):
    """struct timex of linux/timex.h, with the time as two longs and room to spare at the end."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 48),
    )


_libc: ctypes.CDLL | None = None


def read() -> TimeState:
    """The kernel's clock state now. Raises OSError where it can't be read (no such call, or forbidden by a sandbox)."""
    timex = _Timex()
    try:
        code = _library().adjtimex(ctypes.byref(timex))
    except AttributeError as e:
        raise OSError(f"no adjtimex here: {e}") from None
    if code < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"adjtimex: {os.strerror(number)}")
    return interpret(code, timex.status, timex.offset, timex.esterror, timex.maxerror)


def interpret(code: int, status: int, offset: int, esterror: int, maxerror: int) -> TimeState:
    """adjtimex's answer in words. `offset` is in ns with STA_NANO, else µs; the errors are always µs."""
    synchronised = code != TIME_ERROR and not status & STA_UNSYNC
    return TimeState(synchronised, offset * (1e-9 if status & STA_NANO else 1e-6), esterror * 1e-6, maxerror * 1e-6, status)


def _library() -> ctypes.CDLL:
    global _libc
    if _libc is None:
        _libc = ctypes.CDLL(None, use_errno=True)
    return _libc
