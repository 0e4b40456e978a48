"""Time that goes faster: a world of its own, for an event loop, for a clock and for everybody who looks at the same few bytes.

Law: all times of a torture are of this world, and all its processes agree on it; only the agent's wall clock may be set wrong.
"""

import asyncio
import mmap
import selectors
import struct
import time
from collections.abc import Callable
from pathlib import Path

from agent.clock import SystemClock

_WORLD = struct.Struct("<ddddd16sd")
SIZE = 4096


class World:
    """What all processes share, in a file: how fast time goes, and what is done to the agent's clocks and disk.

    off: seconds that the agent's wall clock is wrong by; boot_at: when its box was started; tear: the share of its next write
    to the buffer after which it dies (0: none)
    """

    def __init__(self, path: Path, speed: float = 0.0, wall: float = 0.0) -> None:
        if speed:
            path.write_bytes(bytes(SIZE))
        with path.open("r+b") as f:
            self._map = mmap.mmap(f.fileno(), SIZE)
        if speed:
            self._put(speed, wall, time.monotonic(), 0.0, wall - 1000.0, b"0" * 16, 0.0)

    def _put(self, *values: object) -> None:
        self._map[: _WORLD.size] = _WORLD.pack(*values)

    def _get(self) -> tuple:
        return _WORLD.unpack_from(self._map)

    def set(self, *, off: float | None = None, boot_at: float | None = None, boot: bytes | None = None, tear: float | None = None) -> None:
        speed, wall, mono, *old = self._get()
        given = (off, boot_at, boot, tear)
        self._put(speed, wall, mono, *(o if g is None else g for o, g in zip(old, given, strict=True)))

    @property
    def speed(self) -> float:
        return self._get()[0]

    @property
    def off(self) -> float:
        return self._get()[3]

    @property
    def boot(self) -> bytes:
        return self._get()[5]

    @property
    def tear(self) -> float:
        return self._get()[6]

    def now(self) -> float:
        """True wall time, seconds since 1970."""
        speed, wall, mono, *_ = self._get()
        return wall + (time.monotonic() - mono) * speed

    def uptime(self) -> float:
        """The agent's monotonic clock."""
        return self.now() - self._get()[4]

    def true(self, monotonic: float) -> float:
        """The true wall time of a moment of this boot."""
        return monotonic + self._get()[4]


class Hurried(SystemClock):
    """The agent's clock in that world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        return self._world.now() + self._world.off

    def monotonic(self) -> float:
        return self._world.uptime()


class _Selector(selectors.DefaultSelector):
    def __init__(self, speed: Callable[[], float]) -> None:
        super().__init__()
        self._speed = speed

    def select(self, timeout: float | None = None):
        return super().select(timeout / self._speed() if timeout and timeout > 0 else timeout)


class HurriedLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers are of that world."""

    def __init__(self, world: World) -> None:
        self._world = world
        super().__init__(_Selector(lambda: world.speed))

    def time(self) -> float:
        return self._world.uptime()
