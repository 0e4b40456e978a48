"""A small HTTP/1.1 server (RFC 9112) on asyncio streams and h11, for pages and scrapes.

Law: whatever comes in, probes are not held up and memory does not grow. Connections are bounded in all, per peer and per second; who
is over is answered 503 before TLS and before any task or buffer is made for it. Whoever takes longest to say what he wants makes room
for a new one. Every wait has a deadline; every buffer a limit; what is
written at a time is bounded too, or slow readers of large pages would hold it all. Knows nothing of Ronda's pages.
"""

import asyncio
import collections
import contextlib
import dataclasses
import errno
import http
import ipaddress
import logging
import socket
import ssl
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import h11

from agent.bucket import Bucket, Peers

log = logging.getLogger("ronda.web")

REFUSALS = ("full", "peer", "tls", "certificate", "descriptors")
READ = 16 << 10
CHUNK = 64 << 10
# written to a connection that is over the limits; nothing of it depends on what the peer sent
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 21\r\nRetry-After: 5\r\nConnection: close\r\n\r\ntoo many connections\n"


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, bytes and counts. `pause`: between refusals, so that a flood of connections can't take the loop."""

    connections: int = 64
    per_peer: int = 16
    connections_per_second: float = 20.0  # per peer, after a burst of three seconds' worth: a TLS handshake costs a Pi 10 ms
    requests_per_second: float = 50.0  # likewise
    all_connections_per_second: float = 50.0  # of all peers together; what is over waits its turn, in the order it came
    all_requests_per_second: float = 100.0  # likewise: sixty pages at once would hold the loop for a tenth of a second
    handshake: float = 10.0
    header: float = 10.0
    request: float = 30.0
    idle: float = 60.0
    write: float = 30.0
    header_bytes: int = 16 << 10
    body_bytes: int = 64 << 10
    writing_bytes: int = 32 << 20
    writing_bytes_per_peer: int = 8 << 20
    drain: float = 2.0
    evict_after: float = 1.0
    pause: float = 0.002


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A request read in full. Names of `headers` are in small letters; repeated ones are joined with a comma."""

    method: str
    path: str
    query: Mapping[str, str] = dataclasses.field(default_factory=dict)
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    peer: str = ""
    tls: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes = b""
    type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


def say(status: int, sentence: str, *headers: tuple[str, str]) -> Response:
    """A response of one sentence."""
    return Response(status, f"{sentence}\n".encode(), headers=headers)


class ListenError(OSError):
    """Can't listen; str() says where, why, and what to do."""


Handler = Callable[[Request], Awaitable[Response]]
PeerCertificate = Mapping[str, Any]


@dataclasses.dataclass(slots=True)
class Peer:
    """What one address (IPv6: one /64) holds now."""

    connections: int = 0
    writing: int = 0


def peer_key(address: str) -> str:
    """What counts as one peer: the IPv4 address, or the /64 of an IPv6 address, which one machine can fill at will."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return str(ip.ipv4_mapped)
        return str(ipaddress.IPv6Address(int(ip) >> 64 << 64)) if not ip.is_loopback else str(ip)
    return str(ip)


def split_listen(listen: str) -> tuple[str, int]:
    """`127.0.0.1:17663`, `[::1]:80`, `:8080` → (host, port); an empty host is every address."""
    host, _, port = listen.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _trouble(listen: str, e: OSError) -> ListenError:
    port = listen.rpartition(":")[2]
    if e.errno == errno.EADDRINUSE:
        said = f"another program uses it. `ss -ltnp 'sport = :{port}'` shows which; stop it, or give Ronda another address"
    elif e.errno == errno.EADDRNOTAVAIL:
        said = "this machine has no such address. `ip address` shows those it has"
    elif e.errno == errno.EACCES:
        said = "that port needs privileges; take one above 1023"
    elif isinstance(e, socket.gaierror):
        said = "there is no such name or address"
    else:
        said = e.strerror or str(e)
    error = ListenError(f"can't listen on {listen}: {said}")
    error.errno = e.errno
    return error


async def _listening(listen: str) -> list[socket.socket]:
    """Bound, listening, non-blocking sockets. Raises ListenError; then none is left open."""
    host, port = split_listen(listen)
    opened: list[socket.socket] = []
    try:
        found = await _addresses(host, port)
        for family, _, _, _, address in dict.fromkeys(found):
            opened.append(_bound(family, address))
    except OSError as e:
        if not host and opened and e.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return opened  # every address was asked for, and this box has no IPv6
        for sock in opened:
            sock.close()
        raise _trouble(listen, e) from None
    return opened


async def _addresses(host: str, port: int) -> list[Any]:
    flags = socket.AI_PASSIVE
    try:  # at once and without the thread that asyncio would use
        return socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags | socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)


def _bound(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock


class Server:
    """Listens, reads requests, hands them to `handle`, writes what it returns.

    tls:    the context for the next connection, None for plain HTTP; asked at each connection, so certificates can be renewed
    admit:  whether a peer with this (verified, or empty) certificate may speak at all
    """

    def __init__(
        self,
        listen: str,
        handle: Handler,
        *,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
        admit: Callable[[PeerCertificate], bool] = lambda _: True,
        limits: Limits | None = None,
    ) -> None:
        self.listen, self.handle, self.tls, self.admit = listen, handle, tls, admit
        self.limits = limits or Limits()
        self.refused = collections.Counter(dict.fromkeys(REFUSALS, 0))
        self.port = split_listen(listen)[1]
        self.writing = 0
        self.closing = False
        self.waiting: dict[asyncio.Task[None], float] = {}  # connections that have not said what they want → since when
        self.asking = Peers(3 * self.limits.requests_per_second, 1 / self.limits.requests_per_second)
        self._turn = asyncio.Lock()
        self._requests_pace = Bucket(20, 1 / self.limits.all_requests_per_second, 0.0)
        self._connections_pace = Bucket(60, 1 / self.limits.all_connections_per_second, 0.0)
        self._coming = Peers(3 * self.limits.connections_per_second, 1 / self.limits.connections_per_second)
        self._peers: dict[str, Peer] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._accepting: list[asyncio.Task[None]] = []
        self._sockets: list[socket.socket] = []

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self) -> None:
        """Raises ListenError."""
        self._sockets = await _listening(self.listen)
        self.port = self._sockets[0].getsockname()[1]
        self._accepting = [asyncio.create_task(self._accept(sock)) for sock in self._sockets]

    async def close(self) -> None:
        """Takes no more, lets requests under way end for at most `limits.drain` seconds, then cuts."""
        self.closing = True
        for task in (*self._accepting, *self.waiting):
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for sock in self._sockets:
            sock.close()
        if self._connections:
            await asyncio.wait(self._connections, timeout=self.limits.drain)
        left = list(self._connections)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def turn(self) -> None:
        """Waits until the next request may be answered: the web never takes more than its part of the CPU."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            while wait := self._requests_pace.take(loop.time()):  # noqa: ASYNC110  (the bucket says how long, no event could)
                await asyncio.sleep(wait)

    # -- taking connections -----------------------------------------------------------------------------------------------

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
            except OSError as e:
                if e.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self.refused["descriptors"] += 1
                await asyncio.sleep(0.1)
                continue
            key = peer_key(address[0])
            reason = self._why_not(key)
            if reason:
                self._refuse(sock, reason)
                await asyncio.sleep(self.limits.pause)
            else:
                self._begin(sock, key)
                await asyncio.sleep(self._connections_pace.take(loop.time()))  # 0 too: sock_accept doesn't yield while some are queued

    def _why_not(self, key: str) -> str:
        peer = self._peers.get(key)
        if peer and peer.connections >= self.limits.per_peer:
            return "peer"
        if self._coming.take(key, asyncio.get_running_loop().time()):
            return "peer"
        if len(self._connections) < self.limits.connections or self._evict():
            return ""
        return "full"

    def _evict(self) -> bool:
        """Ends the connection that takes longest over its request in favour of a new one: dawdling must not lock others out."""
        task = min(self.waiting, key=self.waiting.__getitem__, default=None)
        if task is None or asyncio.get_running_loop().time() - self.waiting[task] < self.limits.evict_after:
            return False
        del self.waiting[task]
        task.cancel()
        return True

    def _refuse(self, sock: socket.socket, reason: str) -> None:
        self.refused[reason] += 1
        with contextlib.suppress(OSError):
            if self.tls() is None:
                sock.send(BUSY)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(CHUNK)  # unread bytes would make close() send a reset, and the answer would be lost
        sock.close()

    def _begin(self, sock: socket.socket, key: str) -> None:
        peer = self._peers.setdefault(key, Peer())
        peer.connections += 1
        task = asyncio.create_task(self._serve(sock, key, peer))
        self._connections.add(task)
        self.waiting[task] = asyncio.get_running_loop().time()

        def done(task: "asyncio.Task[None]") -> None:
            self._connections.discard(task)
            self.waiting.pop(task, None)
            sock.close()
            peer.connections -= 1
            if not peer.connections:
                self._peers.pop(key, None)
            if not task.cancelled() and (error := task.exception()):
                log.error("a connection failed: %r", error, exc_info=error)

        task.add_done_callback(done)

    async def _serve(self, sock: socket.socket, key: str, peer: Peer) -> None:
        try:
            reader, writer = await self._open(sock)
        except OSError:  # ssl.SSLError and TimeoutError are of its kind
            self.refused["tls"] += 1
            return
        try:
            if self.admit(writer.get_extra_info("peercert") or {}):
                await Connection(self, reader, writer, key, peer).run()
            else:
                self.refused["certificate"] += 1
            writer.close()
            async with asyncio.timeout(1.0):
                await writer.wait_closed()
        except OSError:
            log.debug("%s went away, or stalls", key)
        finally:
            writer.close()
            writer.transport.abort()

    async def _open(self, sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ)
        protocol = asyncio.StreamReaderProtocol(reader)
        context = self.tls()
        timeouts = {"ssl_handshake_timeout": self.limits.handshake, "ssl_shutdown_timeout": 1.0} if context else {}
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=context, **timeouts)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class _EndError(Exception):
    """Ends the connection; `response`, where there is one, is written first."""

    def __init__(self, response: Response | None = None) -> None:
        super().__init__()
        self.response = response


class Connection:
    """One connection: requests one after the other (pipelined ones wait in the socket), until one side has had enough."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str, peer: Peer) -> None:
        self.server, self.reader, self.writer, self.key, self.peer = server, reader, writer, key, peer
        self.limits = server.limits
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=self.limits.header_bytes)
        self.deadline = 0.0
        self.head_only = False
        task = asyncio.current_task()
        assert task
        self.task = task

    async def run(self) -> None:
        first = True
        try:
            while await self._one(self.limits.header if first else self.limits.idle):
                first = False
        except _EndError as end:
            self.server.waiting.pop(self.task, None)
            if end.response:
                await self._write(end.response, last=True)
                await self._linger()

    async def _one(self, patience: float) -> bool:
        """One request and its response; False: it was the last one."""
        head = await self._head(patience)
        self.head_only = head.method == b"HEAD"
        body = await self._body(head)
        self.server.waiting.pop(self.task, None)
        response = await self._answer(self._request(head, body))
        await self._write(response, last=self.server.closing)
        self.server.waiting[self.task] = asyncio.get_running_loop().time()
        if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
            return False
        self.http.start_next_cycle()
        return True

    # -- reading ----------------------------------------------------------------------------------------------------------

    async def _head(self, patience: float) -> h11.Request:
        loop = asyncio.get_running_loop()
        begun = bool(self.http.trailing_data[0])
        self.deadline = loop.time() + (self.limits.header if begun else patience)
        while True:
            event = self._next()
            if isinstance(event, h11.Request):
                if not event.http_version.startswith(b"1."):
                    raise _EndError(say(505, "Ronda speaks HTTP/1.1"))
                self.deadline = loop.time() + self.limits.request
                return event
            if isinstance(event, h11.ConnectionClosed):
                raise _EndError
            data = await self._read(silent=not begun)
            if data and not begun:
                begun, self.deadline = True, loop.time() + self.limits.header

    async def _body(self, head: h11.Request) -> bytes:
        length = dict(head.headers).get(b"content-length", b"0")
        if len(length) > 9 or int(length) > self.limits.body_bytes:
            raise _EndError(say(413, "the body is too large"))
        body = b""
        while True:
            event = self._next()
            if isinstance(event, h11.Data):
                body += event.data
                if len(body) > self.limits.body_bytes:
                    raise _EndError(say(413, "the body is too large"))
            elif isinstance(event, h11.EndOfMessage):
                return body
            elif event is h11.NEED_DATA:
                await self._continue()
                await self._read()
            else:
                raise _EndError

    async def _continue(self) -> None:
        if self.http.they_are_waiting_for_100_continue:
            await self._send(self.http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")

    def _next(self) -> Any:
        try:
            return self.http.next_event()
        except h11.RemoteProtocolError as e:
            status = e.error_status_hint
            said = "the header is too large" if status == 431 else "that is not HTTP/1.1 as Ronda understands it"
            raise _EndError(say(status, said)) from None

    async def _read(self, *, silent: bool = False) -> bytes:
        """More bytes for h11, before the deadline. `silent`: none came yet of this request, so there is nothing to answer."""
        if silent and self.server.closing:
            raise _EndError
        try:
            async with asyncio.timeout_at(self.deadline):
                data = await self.reader.read(READ)
        except TimeoutError:
            raise _EndError(None if silent else say(408, "the request did not come in time")) from None
        self.http.receive_data(data)
        return data

    def _request(self, head: h11.Request, body: bytes) -> Request:
        headers: dict[str, str] = {}
        for raw, value in head.headers:
            name, text = raw.decode("ascii"), value.decode("latin-1")
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
        path, query = _target(head.target.decode("latin-1"))
        tls = self.writer.get_extra_info("ssl_object") is not None
        return Request(head.method.decode("ascii"), path, query, headers, body, self.key, tls)

    # -- answering --------------------------------------------------------------------------------------------------------

    async def _answer(self, request: Request) -> Response:
        wait = self.server.asking.take(self.key, asyncio.get_running_loop().time())
        if wait:
            return say(429, "too many requests a second", ("Retry-After", "1"))
        try:
            async with asyncio.timeout_at(self.deadline):
                await self.server.turn()
                response = await self.server.handle(request)
        except TimeoutError:
            return say(503, "that took too long", ("Retry-After", "10"))
        except Exception:
            log.exception("answering %s %s failed", request.method, request.path)
            return say(500, "Ronda failed to answer; its log says why")
        return response

    async def _write(self, response: Response, *, last: bool) -> None:
        """Writes a response, unless too much is being written already: then a short one instead."""
        size = len(response.body)
        peer_full = self.peer.writing and self.peer.writing + size > self.limits.writing_bytes_per_peer
        if peer_full or (self.server.writing and self.server.writing + size > self.limits.writing_bytes):
            response = say(503, "too much is being read at once", ("Retry-After", "5"))
            size = len(response.body)
        self.server.writing += size
        self.peer.writing += size
        try:
            await self._write_now(response, last=last)
        finally:
            self.server.writing -= size
            self.peer.writing -= size

    async def _write_now(self, response: Response, *, last: bool) -> None:
        if self.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [("Content-Type", response.type), ("Content-Length", str(len(response.body))), *response.headers]
        if last:
            headers.append(("Connection", "close"))
        phrase = http.HTTPStatus(response.status).phrase
        out = self.http.send(h11.Response(status_code=response.status, headers=headers, reason=phrase.encode())) or b""
        body = memoryview(b"" if self.head_only else response.body)
        self.deadline = asyncio.get_running_loop().time() + self.limits.write
        first = body[:CHUNK]
        await self._send(out + (self.http.send(h11.Data(data=bytes(first))) or b"" if first else b""))
        for start in range(CHUNK, len(body), CHUNK):
            await self._send(self.http.send(h11.Data(data=bytes(body[start : start + CHUNK]))) or b"")
        await self._send(self.http.send(h11.EndOfMessage()) or b"")

    async def _send(self, data: bytes) -> None:
        """Raises TimeoutError when the peer doesn't take it before the deadline, ConnectionError when it is gone."""
        if data:
            self.writer.write(data)
        async with asyncio.timeout_at(self.deadline):
            await self.writer.drain()

    async def _linger(self) -> None:
        """Reads a little of what still comes: closing at once would reset the connection, and the answer would be lost (RFC 9112, 9.6)."""
        if self.writer.can_write_eof():
            self.writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                for _ in range(16):
                    if not await self.reader.read(READ):
                        return


def _target(target: str) -> tuple[str, dict[str, str]]:
    """The path and the query of a request's target; a repeated field counts once."""
    if target.startswith(("http://", "https://")):  # absolute form: RFC 9112, 3.2.2
        target = "/" + target.split("/", 3)[3] if target.count("/") > 2 else "/"
    path, _, query = target.partition("?")
    try:
        return path, dict(urllib.parse.parse_qsl(query, max_num_fields=20))
    except ValueError:
        return path, {}
