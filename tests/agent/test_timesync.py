"""The kernel's clock state: what adjtimex's words mean, and that the real call works unprivileged."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent import timesync

STA_PLL, STA_UNSYNC, STA_NANO, STA_CLOCKERR = 0x0001, 0x0040, 0x2000, 0x1000


@pytest.mark.parametrize(
    ("code", "status", "synchronised"),
    [
        (0, STA_PLL, True),
        (1, STA_PLL, True),  # a leap second is to come: the clock is well
        (5, STA_UNSYNC, False),
        (5, STA_PLL | STA_CLOCKERR, False),
        (0, STA_UNSYNC, False),
    ],
)
def test_who_is_synchronised(code, status, synchronised):
    assert timesync.interpret(code, status, 0, 0, 0).synchronised is synchronised


def test_units():
    micro = timesync.interpret(0, STA_PLL, -1500, 250, 16_000_000)
    nano = timesync.interpret(0, STA_PLL | STA_NANO, -1500, 250, 16_000_000)

    assert micro == pytest.approx((True, -0.0015, 0.00025, 16.0, STA_PLL))
    assert nano.offset_seconds == pytest.approx(-1.5e-6)
    assert (nano.estimated_error_seconds, nano.max_error_seconds) == pytest.approx((0.00025, 16.0))


def test_the_real_kernel_answers():
    state = timesync.read()

    assert 0 <= state.max_error_seconds < 3600
    assert abs(state.offset_seconds) < 3600
    assert isinstance(state.synchronised, bool)


def test_the_structure_is_large_enough_for_the_kernels():
    assert ctypes.sizeof(timesync._Timex) >= 208  # struct timex on 64 bits
    assert timesync._Timex.status.offset == (40 if ctypes.sizeof(ctypes.c_long) == 8 else 20)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become nobody")
def test_it_needs_no_privilege():
    code = (
        "import os, sys; from agent import timesync; timesync._library(); "  # the library is found before root is given up
        "os.setgid(65534); os.setuid(65534); sys.exit(0 if timesync.read().max_error_seconds >= 0 else 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("errno", [1, 22])
def test_what_the_kernel_refuses_is_an_error_and_no_verdict(monkeypatch, errno):
    class Refusing:
        def adjtimex(self, _) -> int:
            ctypes.set_errno(errno)
            return -1

    monkeypatch.setattr(timesync, "_libc", Refusing())
    with pytest.raises(OSError) as caught:
        timesync.read()

    assert caught.value.errno == errno


def test_a_library_without_the_call_is_an_error(monkeypatch):
    monkeypatch.setattr(timesync, "_libc", object())
    with pytest.raises(OSError, match="no adjtimex here"):
        timesync.read()
