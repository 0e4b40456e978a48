"""Sockets and their errors: numeric addresses, binding to a source, waiting without threads, and what an OSError means.

Law: nothing here looks up a name (asyncio would use a thread for that) and nothing blocks. `failure_from` is the one place that
turns an errno into a reason of the contract. Our own side's trouble is `send`, so it is never charged to a target; but that there
is no route at all is `unreachable`: for the user the target can't be reached, and the `link` kind tells that the way is gone.
"""

import asyncio
import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

from agent.collector import Failure

_REASONS = {
    "refused": (errno.ECONNREFUSED,),
    "reset": (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE),
    # ENETUNREACH and ENETDOWN may be our own missing route or interface: see the law above
    "unreachable": (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN),
    "timeout": (errno.ETIMEDOUT,),
}
_BY_ERRNO = {number: reason for reason, numbers in _REASONS.items() for number in numbers}
_BY_CLASS = {ConnectionRefusedError: "refused", TimeoutError: "timeout"}  # raised without an errno, by asyncio
_FIRST = 3  # SD_LISTEN_FDS_START


def failure_from(error: OSError, what: str = "") -> Failure:
    """An OSError as a Failure: refused, reset, unreachable, timeout; all else (EADDRNOTAVAIL, ENODEV, EPERM, EMFILE, …) is `send`."""
    reason = _BY_ERRNO.get(error.errno or 0) or _BY_CLASS.get(type(error))
    if reason is None:
        reason = "reset" if isinstance(error, ConnectionError) else "send"
    text = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    return Failure(reason, f"{what}: {text}" if what else text)


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that `text` is, IPv6 with or without %zone; None when it is a name."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def sockaddr(address: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """Family and socket address of a numeric address. Raises Failure("send") for a %zone that is no interface of this box."""
    try:  # numeric flags: getaddrinfo then only parses, and knows scopes
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)
    except (OSError, UnicodeError):
        raise Failure("send", f"{address} is no address that this box can use") from None
    return found[0][0], found[0][4]


def open_socket(address: str, kind: socket.SocketKind, source: str = "") -> socket.socket:
    """A non-blocking socket of the address's family, bound to `source`. Raises Failure("send")."""
    family, _ = sockaddr(address, 0)
    try:
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as e:
        raise Failure("send", f"no socket: {e.strerror}") from None
    try:
        bind(sock, source)
    except BaseException:
        sock.close()
        raise
    return sock


def bind(sock: socket.socket, source: str) -> None:
    """Binds to an address, or to an interface (SO_BINDTODEVICE; no privilege needed since Linux 5.7). Raises Failure("send")."""
    if not source:
        return
    try:
        if parse_address(source) is None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, source.encode())
            return
        family, local = sockaddr(source, 0)
        if family != sock.family:
            raise Failure("send", f"source {source} is not of the target's address family")
        sock.bind(local)
    except OSError as e:
        raise Failure("send", f"source {source}: {e.strerror}") from None


def handed(name: str, environ: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """The sockets called `name` (FileDescriptorName) that systemd has opened for this process, sd_listen_fds(3).

    They are copies, so that a reload finds them again, and not blocking.
    """
    number, names = environ.get("LISTEN_FDS", ""), environ.get("LISTEN_FDNAMES", "").split(":")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not number.isdecimal():
        return []
    found = []
    for fd, called in zip(range(_FIRST, _FIRST + int(number)), names, strict=False):
        if called == name:
            os.set_inheritable(fd, False)
            one = socket.socket(fileno=os.dup(fd))
            one.setblocking(False)
            found.append(one)
    return found


SO_MEMINFO, _DROPS = 55, slice(32, 36)  # asm-generic/socket.h; linux/sock_diag.h: SK_MEMINFO_DROPS


def dropped(sock: socket.socket) -> int:
    """Datagrams that the kernel threw away for want of room, modulo 2^32, since the socket was made: systemd's outlive the agent.

    0 where it can't say (Linux before 4.12).
    """
    try:
        return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)[_DROPS], sys.byteorder)
    except OSError:
        return 0


async def readable(sock: socket.socket) -> None:
    """Returns when there is something to receive. The caller sets the deadline."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


async def connect(address: str, port: int, source: str = "") -> socket.socket:
    """A connected TCP socket. Raises Failure: refused, unreachable, reset, timeout, send. The caller sets the deadline."""
    sock = open_socket(address, socket.SOCK_STREAM, source)
    try:
        _, remote = sockaddr(address, port)
        await asyncio.get_running_loop().sock_connect(sock, remote)
    except OSError as e:
        sock.close()
        raise failure_from(e, f"{address} port {port}") from None
    except BaseException:
        sock.close()
        raise
    return sock


def family_of(source: str) -> socket.AddressFamily:
    """The family that targets of a source must have: its own, or AF_UNSPEC for an interface or none."""
    address = parse_address(source)
    if address is None:
        return socket.AF_UNSPEC
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
