"""Tripwires: TCP ports that serve nothing, so whoever connects has been looking for something. Off unless config names ports.

Law: nothing is ever said to who connects; at most MOST_BYTES are read, and thrown away but for their number; a connection lasts at most
LASTING seconds, MOST_OPEN at a time, and RATE new ones a second a port: who comes too fast waits in the kernel's short queue.

Ports below 1024 need no capability when systemd opens them: config/systemd/ronda-tripwire.socket hands them over (sd_listen_fds(3)).
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping

from agent.detect.seen import Tripwire
from agent.sockets import handed

log = logging.getLogger("ronda.capture")

NAME = "tripwire"  # FileDescriptorName of the socket unit
MOST_BYTES, LASTING, MOST_OPEN, RATE, QUEUE = 1024, 3.0, 16, 20, 16


class Tripwires:
    """`run` is the caller's to await as a task; each connection is told once, when it has ended."""

    def __init__(
        self, ports: Iterable[int], tell: Callable[[Tripwire], None], environ: Mapping[str, str] = os.environ, lasting: float = LASTING
    ) -> None:
        self._tell, self._lasting = tell, lasting
        self._open = asyncio.Semaphore(MOST_OPEN)
        self.problems: list[str] = []
        self._listeners = inherited(environ)
        have = {listener.getsockname()[1] for listener in self._listeners}
        for port in ports:
            if port not in have:
                self._listen(port)

    @property
    def ports(self) -> list[int]:
        """The ports that are guarded now."""
        return sorted({listener.getsockname()[1] for listener in self._listeners})

    def _listen(self, port: int) -> None:
        try:
            self._listeners.append(listener(port))
        except PermissionError:
            self.problems.append(f"tripwire on port {port}: not allowed; use config/systemd/ronda-tripwire.socket, or a port above 1023")
        except OSError as e:
            why = "another program has it" if e.errno == errno.EADDRINUSE else e.strerror
            self.problems.append(f"tripwire on port {port}: {why}")
        if self.problems and self.problems[-1].startswith(f"tripwire on port {port}:"):
            log.warning("%s", self.problems[-1])

    async def run(self) -> None:
        """Watches until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for one in self._listeners:
                    group.create_task(self._accept(one, group))
                await asyncio.Event().wait()  # also where no port could be had: that is said by `problems`, and no end of the watch
        finally:
            self.close()

    def close(self) -> None:
        for one in self._listeners:
            one.close()

    async def _accept(self, one: socket.socket, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._open.acquire()
            try:
                connection, address = await loop.sock_accept(one)
            except OSError as e:  # it has gone again, or there are no descriptors left
                self._open.release()
                log.debug("tripwire: %s", e)
            else:
                group.create_task(self._hear(connection, str(address[0]), one.getsockname()[1]))
            await asyncio.sleep(1 / RATE)

    async def _hear(self, connection: socket.socket, source: str, port: int) -> None:
        sent = 0
        try:
            with connection:
                connection.setblocking(False)
                async with asyncio.timeout(self._lasting):
                    while sent < MOST_BYTES and (data := await asyncio.get_running_loop().sock_recv(connection, MOST_BYTES - sent)):
                        sent += len(data)
        except (TimeoutError, OSError):  # it said no more; or broke off: that it came is what counts
            pass
        finally:
            self._open.release()
        self._tell(Tripwire(source.removeprefix("::ffff:"), port, sent))


def listener(port: int) -> socket.socket:
    """Listens on all addresses, of both families where there are two. Raises OSError."""
    dual = socket.has_dualstack_ipv6()
    s = socket.socket(socket.AF_INET6 if dual else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if dual:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("", port))
        s.listen(QUEUE)
        s.setblocking(False)
    except OSError:
        s.close()
        raise
    return s


def inherited(environ: Mapping[str, str]) -> list[socket.socket]:
    """The listening TCP sockets called NAME that systemd has handed to this process."""
    return handed(NAME, environ)
