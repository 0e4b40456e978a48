"""The socket on which notifications come: who may speak, how much, and what he is answered.

Law: whoever is no sender costs one look at his address, and nothing that he sent is read. A sender has his own share: who sends too much
loses his own notifications, not another's. Read are at most BATCH at once and then a pause is made, so a flood costs the loop a bounded
share; what the kernel threw away meanwhile is counted too. Answers go to senders only, and are no louder than what they answer.
"""

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from agent.bucket import Bucket
from agent.clock import Clock
from agent.snmp import usm
from agent.snmp.notifications import MAX_MESSAGE, Door, Engine, Notification, Refused
from agent.snmp.wire import Credentials
from agent.sockets import dropped, handed, sockaddr

log = logging.getLogger("ronda.traps")

NAME = "traps"  # FileDescriptorName of config/systemd/ronda-traps.socket
REASONS = ("sender", "community", "version", "auth", "malformed", "flood")
BURST, EVERY = 200, 0.05  # notifications of one sender: so many at once, then one each so many seconds
BATCH, PAUSE = 64, 0.05  # datagrams at once, and seconds until the next
BUFFER = 212_992  # bytes that wait in the kernel: a rack that comes up at once


class Whom(NamedTuple):
    """A sender: how he shows that he may speak, and the engine that he must be (b"": any that knows the password)."""

    credentials: Credentials
    user: usm.User | None = None
    engine: bytes = b""


class Receiver:
    """`told(device, notification)`, `refused(address, reason, detail)` are called as they come. Raises OSError: could not listen."""

    def __init__(
        self, listen: str, whom: Mapping[str, Whom], us: Engine, clock: Clock,
        told: Callable[[str, Notification], None], refused: Callable[[str, str, str], None],
    ) -> None:  # fmt: skip
        self._us, self._clock, self._told, self._refused = us, clock, told, refused
        self.senders: Mapping[str, str] = {}  # address → name
        self._buckets = {name: Bucket(BURST, EVERY, clock.monotonic()) for name in whom}
        self.admit(whom)
        self._sock = bound(listen)
        self._dropped = dropped(self._sock)  # before us
        self._resume: asyncio.TimerHandle | None = None
        self._watch()

    @property
    def port(self) -> int:
        return int(self._sock.getsockname()[1])

    @property
    def lost(self) -> int:
        """Datagrams that the kernel has thrown away."""
        return (dropped(self._sock) - self._dropped) % (1 << 32)

    @property
    def loopback(self) -> bool:
        """Whether nobody but this box can send here."""
        return str(self._sock.getsockname()[0]).removeprefix("::ffff:").startswith(("127.", "::1"))

    def admit(self, whom: Mapping[str, Whom]) -> None:
        """From now on senders show so that they may speak."""
        self._doors = {n: Door(who.credentials, self._us, who.user, who.engine, secrets.randbits(64)) for n, who in whom.items()}

    def close(self) -> None:
        if self._resume:
            self._resume.cancel()
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()

    def _watch(self) -> None:
        self._resume = None
        asyncio.get_running_loop().add_reader(self._sock, self._read)

    def _read(self) -> None:
        for _ in range(BATCH):
            try:
                data, _, flags, address = self._sock.recvmsg(MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError as e:  # of an answer that could not be delivered: the next call has the next datagram
                log.debug("traps: %s", e)
                continue
            self._hear(data, bool(flags & socket.MSG_TRUNC), address)
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sock)
        self._resume = loop.call_later(PAUSE, self._watch)

    def _hear(self, data: bytes, cut: bool, address: tuple[str, int]) -> None:
        source = str(address[0]).removeprefix("::ffff:").partition("%")[0]
        name = self.senders.get(source)
        if name is None:
            self._refused(source, "sender", "of no sender that config names")
            return
        at = self._clock.monotonic()
        if self._buckets[name].take(at):
            self._refused(source, "flood", "more than its share")
            return
        try:
            if cut:
                raise Refused("malformed", f"longer than {MAX_MESSAGE} bytes")
            said, reply = self._doors[name].hear(data, at)
        except Refused as e:
            self._refused(source, e.reason, e.detail)
            said, reply = None, e.reply
        if reply:
            with contextlib.suppress(OSError):  # it asks again
                self._sock.sendto(reply, address)
        if said:
            self._told(name, said)


def bound(listen: str) -> socket.socket:
    """The socket that systemd has opened, else one of our own. Raises OSError."""
    return next((s for s in handed(NAME) if s.type == socket.SOCK_DGRAM), None) or _own(listen)


def _own(listen: str) -> socket.socket:
    """Without a host: on all addresses, of both families where there are two."""
    host, _, port = listen.rpartition(":")
    dual = not host and socket.has_dualstack_ipv6()
    family, address = sockaddr(host.removeprefix("[").removesuffix("]") or ("::" if dual else "0.0.0.0"), int(port))  # noqa: S104
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if dual:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.bind(address)
    except PermissionError:
        sock.close()
        raise OSError(f"{listen}: not allowed; use config/systemd/ronda-traps.socket, or a port above 1023") from None
    except OSError as e:
        sock.close()
        raise OSError(e.errno, f"{listen}: {e.strerror}") from None
    return sock
