"""Frames from the privileged helper's sockets, read without any privilege and within a hard budget; and what went by unread, counted.

Law: a flood costs Ronda no more than its budget. Each socket has an allowance of processor time; when it is spent the socket is left alone
for a while, the kernel drops what its small buffer can't hold, and counts it. The sockets' budgets are apart: a flood of contacts doesn't
blind `lan`. Work that `on_frame` does is paid from the same allowance, however slow it is.

A capture that has died says so: the helper gone, the device gone or down, and, worst, sockets that live and show nothing. For the last
there is a canary: what this box itself sends must come by. `problem` tells it in one line; `run` tries again for ever, ever more slowly.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from agent.clock import Clock

log = logging.getLogger("ronda.capture")

SOCKET = Path("run/ronda/capture.sock")  # below Env.root
Which: TypeAlias = Literal["lan", "contacts"]
OnFrame: TypeAlias = Callable[[bytes, Literal["in", "out"], Which], None]

SHARE = {"lan": 0.03, "contacts": 0.025}  # of a core
BURST = 0.02  # seconds of work that may be saved up: some thousand frames, a whole scan
SLICE = 0.002  # seconds of work that are waited for once the allowance is spent, ...
PAUSE = 0.05  # ... and the least that is waited
WAKE = 60e-6  # seconds that a turn of the loop costs beside what is measured
BATCH, LOOK = 256, 16  # frames of one turn; frames between two looks at the time
LONGEST = 0.004  # seconds of one turn: other tasks of the loop must not be late
ROOM = 1514

ASK_WITHIN = 5.0  # seconds that the helper may take
FIRST_PAUSE, LAST_PAUSE, LASTING = 1.0, 60.0, 120.0  # between tries; a capture that lasted so long begins anew with the first
SEEN_WITHIN = 2.0  # seconds in which what we sent must come by
SILENT_AFTER = 3  # times in a row that it didn't

_OUTGOING = 4  # linux/if_packet.h
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_STATISTICS = struct.Struct("=II")

WITHOUT = "without it Ronda can't see scans, false routers and DHCP servers, or who poisons ARP and names"
DO = "what to do: systemctl enable --now ronda-capture.socket; without systemd run `ronda capture --listen` as root"


class Blind(Exception):  # noqa: N818  (a state, not an error of ours)
    """Why nothing is captured. `kind`: helper (not there, or may not), device (gone, down), silent (it shows nothing)."""

    def __init__(self, kind: Literal["helper", "device", "silent"], text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Handed(NamedTuple):
    """What the helper gave."""

    lan: socket.socket
    contacts: socket.socket
    counted: socket.socket

    def close(self) -> None:
        for sock in self:
            sock.close()


class Allowance:
    """Processor time that may be spent: `share` of all that passes, saved up to `burst` seconds. Pure; times are monotonic seconds."""

    __slots__ = ("_at", "_burst", "_left", "_share")

    def __init__(self, share: float, burst: float, at: float) -> None:
        self._share, self._burst, self._left, self._at = share, burst, burst, at

    def spend(self, seconds: float, at: float) -> float:
        """Takes what was spent; returns how long nothing may be done now, 0: go on."""
        self._left = min(self._burst, self._left + max(0.0, at - self._at) * self._share) - seconds
        self._at = max(at, self._at)
        return 0.0 if self._left > 0 else max(PAUSE, (SLICE - self._left) / self._share)


async def ask(path: Path, device: str, within: float = ASK_WITHIN) -> Handed:
    """Asks the helper for the sockets on a device. Raises Blind."""
    try:
        async with asyncio.timeout(within):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as s:
                loop = asyncio.get_running_loop()
                await loop.sock_connect(s, str(path))
                await loop.sock_sendall(s, f"{device}\n".encode())
                return await _taken(s)
    except (FileNotFoundError, ConnectionRefusedError):
        raise Blind("helper", f"nothing listens on {path}; {WITHOUT}; {DO}") from None
    except PermissionError:
        raise Blind("helper", f"may not use {path}: the agent's user must be in the group that owns it; {WITHOUT}") from None
    except TimeoutError:
        raise Blind("helper", f"{path} doesn't answer; {WITHOUT}") from None
    except OSError as e:
        raise Blind("helper", f"{path}: {e.strerror or e}; {WITHOUT}") from None


async def _taken(s: socket.socket) -> Handed:
    """The answer: "ok" with three sockets, or "no: " and why."""
    await _readable(s)
    data, numbers, _, _ = socket.recv_fds(s, 256, len(Handed._fields))
    sockets = [sock for number in numbers if (sock := _packet_socket(number))]
    if data == b"ok\n" and len(sockets) == len(Handed._fields):
        return Handed(*sockets)
    for sock in sockets:
        sock.close()
    if data == b"ok\n" and len(sockets) < len(numbers):
        raise Blind("helper", f"who listens there hands over other things than sockets of a capture: it is no ronda-capture; {WITHOUT}")
    why = data.decode("ascii", "replace").strip().removeprefix("no: ") or "the capture helper ended without an answer"
    raise Blind("helper" if not data or "CAP_NET_RAW" in why else "device", why)


def _packet_socket(number: int) -> socket.socket | None:
    """None: something else, which nothing here could read; it is closed then."""
    try:
        sock = socket.socket(fileno=number)
    except OSError:
        os.close(number)
        return None
    if sock.family != socket.AF_PACKET:
        sock.close()
        return None
    sock.setblocking(False)  # whoever made it: the loop must never wait for it
    return sock


async def _readable(s: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def finish() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(s, finish)
    try:
        await ready
    finally:
        loop.remove_reader(s)


def device_problem(root: Path, device: str) -> str:
    """What sys/ says against a capture on this device; "": nothing, or there is no sys/."""
    folder = root / "sys/class/net"
    if not folder.is_dir():
        return ""
    try:
        up = int((folder / device / "flags").read_text(), 16) & 1
    except (OSError, ValueError):
        return f"{device} is not there"
    return "" if up else f"{device} is down"


class Tap:
    """One socket that is read: its allowance, and the pauses that it makes."""

    def __init__(self, which: Which, sock: socket.socket, on_frame: OnFrame, on_death: Callable[[OSError], None]) -> None:
        self.which, self._sock, self._on_frame, self._on_death = which, sock, on_frame, on_death
        self._loop = asyncio.get_running_loop()
        self._allowance = Allowance(SHARE[which], BURST, time.monotonic())
        self._timer: asyncio.TimerHandle | None = None
        self.frames = self.sent = 0  # read; those of this box among them
        self.pauses = 0
        self._loop.add_reader(sock, self._turn)

    def close(self) -> None:
        self._loop.remove_reader(self._sock)
        if self._timer:
            self._timer.cancel()

    def _turn(self) -> None:
        begun = time.thread_time()
        try:
            self._read(begun + LONGEST)
        except OSError as e:
            self._on_death(e)
            return
        wait = self._allowance.spend(time.thread_time() - begun + WAKE, time.monotonic())
        if wait:
            self.pauses += 1
            self._loop.remove_reader(self._sock)
            self._timer = self._loop.call_later(wait, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        self._loop.add_reader(self._sock, self._turn)

    def _read(self, until: float) -> None:
        receive, on_frame, which = self._sock.recvfrom, self._on_frame, self.which
        for n in range(1, BATCH + 1):
            try:
                raw, address = receive(ROOM)
            except BlockingIOError:
                return
            self.frames += 1
            out = address[2] == _OUTGOING
            self.sent += out
            on_frame(raw, "out" if out else "in", which)
            if n % LOOK == 0 and time.thread_time() > until:
                return


class Reader:
    """The capture on one device. `run` is the caller's to await, as a task; the rest may be called at any time."""

    def __init__(
        self, path: Path, device: str, on_frame: OnFrame, clock: Clock, root: Path = Path("/"), seen_within: float = SEEN_WITHIN
    ) -> None:
        self.path, self.device, self.problem = path, device, "the capture has not begun yet"
        self.kind: str = "helper"  # of the problem: see Blind
        self.failures = 0  # frames that `on_frame` raised at
        self._on_frame, self._clock, self._root, self._seen_within = on_frame, clock, root, seen_within
        self._handed: Handed | None = None
        self._taps: list[Tap] = []
        self._ended: asyncio.Future[Blind] | None = None
        self._totals = dict.fromkeys(("contacts", "lan", "broadcast", "contacts_lost", "lan_lost"), 0.0)
        self._expected: asyncio.TimerHandle | None = None
        self._unseen = 0

    @property
    def alive(self) -> bool:
        return self._handed is not None

    async def run(self) -> None:
        """Captures until it is cancelled."""
        pause = FIRST_PAUSE
        while True:
            begun = self._clock.monotonic()
            try:
                await self._once()
            except Blind as e:
                self._tell(str(e), e.kind)
            if self._clock.monotonic() - begun >= LASTING:
                pause = FIRST_PAUSE
            await self._clock.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)

    async def _once(self) -> None:
        """From asking the helper to the capture's end. Raises Blind."""
        if problem := device_problem(self._root, self.device):
            raise Blind("device", problem)
        handed = await ask(self.path, self.device)
        self._ended = asyncio.get_running_loop().create_future()
        try:
            self._handed, self._unseen = handed, 0
            self._taps = [Tap("lan", handed.lan, self._frame, self._died), Tap("contacts", handed.contacts, self._frame, self._died)]
            self._tell("", "")
            raise await self._ended
        finally:
            self._close(handed)

    def _close(self, handed: Handed) -> None:
        with contextlib.suppress(OSError):
            self._count()
        for tap in self._taps:
            tap.close()
        if self._expected:
            self._expected.cancel()
        self._handed, self._taps, self._expected, self._ended = None, [], None, None
        self.problem = self.problem or "the capture has ended"
        handed.close()

    def _tell(self, problem: str, kind: str) -> None:
        if problem != self.problem:
            if problem:
                log.warning("no capture on %s: %s", self.device, problem)
            else:
                log.info("capturing on %s", self.device)
        self.problem, self.kind = problem, kind

    def _frame(self, raw: bytes, direction: Literal["in", "out"], which: Which) -> None:
        try:
            self._on_frame(raw, direction, which)
        except Exception:  # a bug in what reads frames must not end the capture: said once, counted always
            if not self.failures:
                log.exception("a frame could not be taken")
            self.failures += 1

    def _died(self, error: OSError) -> None:
        why = f"{self.device} went down or away" if error.errno in (errno.ENETDOWN, errno.ENODEV, errno.ENXIO) else str(error)
        self._end(Blind("device", why))

    def _end(self, why: Blind) -> None:
        for tap in self._taps:
            tap.close()
        if self._ended and not self._ended.done():
            self._ended.set_result(why)

    # -- what went by --------------------------------------------------------------------------------------------------------------

    def counters(self) -> dict[str, float]:
        """What the filters have let through since the start, read or not, and what of it was lost: the first five of seen.Counters."""
        try:
            self._count()
        except OSError as e:
            self._died(e)
        return dict(self._totals)

    def _count(self) -> None:
        if self._handed:
            for sock, name, lost in zip(self._handed, ("lan", "contacts", "broadcast"), ("lan_lost", "contacts_lost", ""), strict=True):
                packets, drops = _STATISTICS.unpack(sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))
                self._totals[name] += packets  # drops included; the kernel's count begins anew with each look
                if lost:
                    self._totals[lost] += drops

    # -- what we send --------------------------------------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Sends a whole frame on the device. Raises OSError.

        By the socket that only counts: the kernel shows a packet to all packet sockets but the one that it left by, so `lan` sees it,
        and every probe is a canary too.
        """
        if self._handed is None:
            raise OSError(errno.ENETDOWN, self.problem)
        self._handed.counted.send(frame)
        self.expect()

    def expect(self) -> None:
        """This box has just sent what `lan` must show (a probe by `send`, a question to everybody): was it seen?"""
        if self._handed and not self._expected:
            before = (self._taps[0].sent, self.counters()["lan_lost"])
            if self._handed:  # counting may have found it dead
                self._expected = asyncio.get_running_loop().call_later(self._seen_within, self._check, before)

    def _check(self, before: tuple[int, float]) -> None:
        self._expected = None
        if not self._taps:
            return
        if self._taps[0].sent > before[0]:
            self._unseen = 0
        elif self._totals["lan_lost"] == before[1] == self.counters()["lan_lost"] and self._cable():
            self._unseen += 1
            if self._unseen >= SILENT_AFTER:
                self._end(Blind("silent", f"the capture on {self.device} shows nothing, not even what this box sends; beginning anew"))

    def _cable(self) -> bool:
        """Whether the device has a carrier: without one what is sent goes nowhere, and is not shown either."""
        try:
            return (self._root / "sys/class/net" / self.device / "carrier").read_text().strip() == "1"
        except OSError:
            return False
