"""Receives syslog of the office's devices, by UDP and TCP, from those that the config names and from nobody else.

Law: whoever sends costs a bounded share and takes nobody else's: RATE messages a second a source (UDP beyond is dropped and counted, TCP is
read later), MAX bytes a message, a few connections each, and BATCH messages until the loop has its turn. All that is refused is counted.
Nothing is ever answered, nothing is kept. A datagram's sender can be forged: that it comes from a router's address proves little.

Port 514 needs no capability when systemd opens it: config/systemd/ronda-syslog.socket hands it over (sd_listen_fds(3)).
"""

import asyncio
import collections
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping

from agent.bucket import Peers
from agent.clock import Clock
from agent.detect.lines import address
from agent.sockets import dropped, handed
from agent.wire.rfc3164 import MAX
from agent.wire.rfc6587 import Splitter

log = logging.getLogger("ronda.syslog")

NAME = "syslog"  # FileDescriptorName of the socket unit
RATE = 200  # messages a second and source, and so many at once
BATCH, LOOKED_AT = 32, 512  # messages that are read, and datagrams that are looked at, until others have their turn
MOST = 20_000  # datagrams a second that are looked at, at 5 µs each; beyond, the kernel drops them for us
MOST_OPEN, MOST_EACH, QUEUE, CHUNK = 64, 4, 16, 16_384
HALF, IDLE = 60.0, 6 * 3600.0  # seconds until a message must be whole, and until a quiet connection is closed
BUFFER = 1 << 20
REASONS = ("sender", "malformed", "flood", "long")
_STRANGERS = 16  # that are named in the log


class Receiver:
    """`senders`: address → name, replaced as the office's gateway changes. `hear(name, message)`: False where it can't be read.

    refused: by reason, of REASONS
    """

    def __init__(
        self, listen: str, hear: Callable[[str, bytes], bool], clock: Clock, refused: "collections.Counter[str]",
        environ: Mapping[str, str] = os.environ,
    ) -> None:  # fmt: skip
        """Raises OSError."""
        self.senders: Mapping[str, str] = {}
        self._hear, self._clock, self._refused = hear, clock, refused
        self._peers = Peers(RATE, 1.0 / RATE)
        self._second, self._read = 0, 0
        self._open: dict[asyncio.Task[None], tuple[str, float]] = {}  # by connection: whose, and when it last spoke
        self._strangers: set[str] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._sockets = handed(NAME, environ) or list(opened(listen))
        self._loop = asyncio.get_running_loop()
        self._dropped = {sock: dropped(sock) for sock in self._of(socket.SOCK_DGRAM)}
        for sock in self._dropped:
            self._loop.add_reader(sock, self._datagrams, sock)
        self._accepting = [self._loop.create_task(self._accept(sock)) for sock in self._of(socket.SOCK_STREAM)]

    @property
    def ports(self) -> list[int]:
        return sorted({sock.getsockname()[1] for sock in self._sockets})

    def check(self) -> None:
        """Counts what the kernel had no room for. Raises what ended a task of ours."""
        for sock, before in self._dropped.items():
            self._dropped[sock] = now = dropped(sock)
            self._refused["flood"] += (now - before) % (1 << 32)
        for task in self._accepting:
            if task.done():
                task.result()
                raise RuntimeError("nobody accepts connections any more")

    async def close(self) -> None:
        if self._paused:
            self._paused.cancel()
        for sock in self._of(socket.SOCK_DGRAM):
            self._loop.remove_reader(sock)
        tasks = [*self._accepting, *self._open]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for sock in self._sockets:
            sock.close()

    def _of(self, kind: socket.SocketKind) -> list[socket.socket]:
        return [sock for sock in self._sockets if sock.type == kind]

    # -- what is taken ----------------------------------------------------------------------------------------------------------

    def _whose(self, source: str) -> str:
        """The sender's name; "": nobody's, and counted."""
        name = self.senders.get(source, "")
        if not name:
            self._refused["sender"] += 1
            if source not in self._strangers and len(self._strangers) < _STRANGERS:
                self._strangers.add(source)
                log.warning("syslog from %s is refused: it is none of the config's senders", source)
        return name

    def _take(self, name: str, message: bytes) -> None:
        if len(message) > MAX:
            self._refused["long"] += 1
        elif not self._hear(name, message):
            self._refused["malformed"] += 1

    # -- UDP ----------------------------------------------------------------------------------------------------------------------

    def _datagrams(self, sock: socket.socket) -> None:
        now = self._clock.monotonic()
        if int(now) != self._second:
            self._second, self._read = int(now), 0
        read = 0
        for _ in range(LOOKED_AT):
            if read >= BATCH:
                break
            try:
                data, sender = sock.recvfrom(MAX + 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as e:
                log.debug("syslog: %s", e)
                return
            self._read += 1
            source = plain(sender)
            if name := self._whose(source):
                if self._peers.take(source, now):
                    self._refused["flood"] += 1
                else:
                    self._take(name, data)
                    read += 1
        if self._read >= MOST:
            self._pause(self._second + 1 - now)

    def _pause(self, seconds: float) -> None:
        """A flood costs a share of the processor and no more; what comes meanwhile waits in the kernel, as far as it has room."""
        for sock in self._of(socket.SOCK_DGRAM):
            self._loop.remove_reader(sock)
        self._paused = self._loop.call_later(max(0.0, seconds), self._go_on)

    def _go_on(self) -> None:
        self._paused = None
        for sock in self._of(socket.SOCK_DGRAM):
            self._loop.add_reader(sock, self._datagrams, sock)

    # -- TCP ----------------------------------------------------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, sender = await self._loop.sock_accept(listener)
            except OSError as e:
                log.debug("syslog: %s", e)
                await asyncio.sleep(1.0 if e.errno in (errno.EMFILE, errno.ENFILE) else 0.05)
                continue
            source = plain(sender)
            name = self._whose(source)
            if name and self._room(source):
                task = self._loop.create_task(self._listen(connection, name, source))
                self._open[task] = source, self._clock.monotonic()
                task.add_done_callback(lambda task: self._open.pop(task, None))
            else:
                connection.close()
                self._refused["flood"] += bool(name)
                await asyncio.sleep(0.01)

    def _room(self, source: str) -> bool:
        """Of too many of one source the one that was quiet for longest goes: a router that started anew has forgotten it."""
        mine = sorted((at, n, task) for n, (task, (whose, at)) in enumerate(self._open.items()) if whose == source)
        if len(mine) >= MOST_EACH:
            mine[0][2].cancel()
            self._open.pop(mine[0][2], None)
        return len(self._open) < MOST_OPEN

    async def _listen(self, connection: socket.socket, name: str, source: str) -> None:
        splitter = Splitter(MAX)
        try:
            with connection:
                _kept_alive(connection)
                while data := await self._more(connection, splitter):
                    await self._split(splitter, data, name, source)
                if splitter.half:
                    last = splitter.close()
                    self._take(name, last)  # b"" is malformed: it ended in the middle
        except (OSError, TimeoutError) as e:  # TimeoutError: half a message, or nothing for hours
            self._refused["malformed"] += splitter.half
            log.debug("syslog: the connection of %s ended: %s", name, e)

    async def _more(self, connection: socket.socket, splitter: Splitter) -> bytes:
        async with asyncio.timeout(HALF if splitter.half else IDLE):
            return await self._loop.sock_recv(connection, CHUNK)

    async def _split(self, splitter: Splitter, data: bytes, name: str, source: str) -> None:
        long = splitter.long
        if (me := asyncio.current_task()) and me in self._open:
            self._open[me] = source, self._clock.monotonic()
        for n, message in enumerate(splitter.feed(data), 1):
            await self._token(source)
            self._take(name, message)
            if n % BATCH == 0:
                await asyncio.sleep(0)
        self._refused["long"] += splitter.long - long

    async def _token(self, source: str) -> None:
        """TCP waits: its sender keeps what is not yet read. Its tokens are its own: datagrams, which can be forged, take none of them."""
        while True:
            wait = self._peers.take(f"tcp {source}", self._clock.monotonic())
            if not wait:
                return
            await asyncio.sleep(wait)


def plain(sender: tuple[str, ...]) -> str:
    """Its address as `ipaddress` writes it, IPv4 within IPv6 as IPv4, without a zone."""
    return address(str(sender[0]).partition("%")[0])


def opened(listen: str) -> Iterable[socket.socket]:
    """A TCP and a UDP socket on one port. Raises OSError."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made: list[socket.socket] = []
    try:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            sock = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            made.append(sock)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            sock.bind((host, int(port) or (made[0].getsockname()[1] if len(made) > 1 else 0)))
            if kind == socket.SOCK_STREAM:
                sock.listen(QUEUE)
    except OSError as e:
        for sock in made:
            sock.close()
        hint = "; ports below 1024: use config/systemd/ronda-syslog.socket" if e.errno == errno.EACCES else ""
        raise OSError(e.errno, f"can't listen on {listen}: {e.strerror}{hint}") from None
    return made


def _kept_alive(connection: socket.socket) -> None:
    """A sender whose power went leaves a connection behind: keepalives find it (tcp(7))."""
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 120), (socket.TCP_KEEPINTVL, 30), (socket.TCP_KEEPCNT, 4)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
