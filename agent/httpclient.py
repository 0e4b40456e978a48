"""HTTP/1.1 as a client: URLs, the two primitives on a socket that may be TLS, and one connection that is kept alive.

Law: nothing that a peer sends costs unbounded memory; who calls sets the deadline. Redirects are not followed here. Bytes are those on
the wire, TLS, TCP and IP headers included, as the kernel counts them (TCP_INFO), since that is what an uplink is billed for.
"""

import asyncio
import base64
import dataclasses
import functools
import re
import socket
import ssl
import struct
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import h11

from agent import __version__, sockets, tls
from agent.collector import Failure, Traffic
from agent.net import Net
from agent.secret import read_secret
from agent.structure import Scalar
from agent.tls import ClientTls, File

PORTS = {"http": 80, "https": 443}
RECEIVE = 16 << 10
MAX_HEAD = 32 << 10  # bytes of status line and header fields
MAX_BODY = 4 << 10  # of an answer: what a receiver has to say against a batch fits
MAX_INTERIM = 10  # 1xx answers
MAX_ADDRESSES = 4  # of a name, tried in turn when refused or unreachable

# struct tcp_info of linux/tcp.h: segs_out and segs_in at byte 136, bytes_received at 128, rtt (us) at 68, bytes_sent at 200 (Linux 4.19)
_TCP_INFO = struct.Struct("=68xI56xQII56xQ")
SHAKEN = Traffic(1_000, 4_000)  # about what a TLS handshake costs; of one that fails nobody counts the bytes
_HEADERS = {socket.AF_INET: 20 + 32, socket.AF_INET6: 40 + 32}  # IP and TCP, with its time stamps


class Url(NamedTuple):
    scheme: str
    host: str
    port: int
    path: str  # with the query

    @property
    def origin(self) -> tuple[str, str, int]:
        return self[:3]

    @property
    def authority(self) -> str:
        """Host and port as the Host header and CONNECT name them: without an IPv6 zone, which means nothing elsewhere (RFC 6874 4)."""
        host = self.name if ":" not in self.host else f"[{self.name}]"
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def name(self) -> str:
        """The host as TLS knows it."""
        return self.host.partition("%")[0].rstrip(".") or self.host

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


@functools.lru_cache(maxsize=256)
def parse_url(text: str) -> Url:
    """An http or https URL. Raises ValueError with what is wrong, which never holds credentials."""
    if re.search(r"[\x00-\x20\x7f\\]", text) or len(text) > 2000:
        raise ValueError("must be a URL without spaces, of at most 2000 characters")
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL: its host or port is wrong") from None
    if parts.scheme not in PORTS:
        raise ValueError("must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("must hold no user or password (use basic_auth)")
    if not parts.hostname or port == 0 or not re.fullmatch(r"[^\s/@?#\[\]]{1,253}", parts.hostname):
        raise ValueError("names no host")
    path = urllib.parse.quote(parts.path or "/", safe="/%:;@!$&'()*+,=~-._")
    query = urllib.parse.quote(parts.query, safe="/%:;@!$&'()*+,=~-._?[]{}|^\"<>`")
    return Url(parts.scheme, _ascii(parts.hostname), port or PORTS[parts.scheme], f"{path}?{query}" if query else path)


def _ascii(host: str) -> str:
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise ValueError("names a host that can't be one") from None


def _value(text: str) -> str:
    if not re.fullmatch(r"[\x20-\x7e]{0,1000}", text) or text != text.strip():
        raise ValueError
    return text


def _user(text: str) -> str:
    if ":" in text:
        raise ValueError("can't hold a colon (RFC 7617)")
    return _value(text)


HeaderValue = Annotated[str, Scalar("the value of a header", _value, "printable ASCII on one line")]
UserName = Annotated[str, Scalar("a user name", _user, "printable ASCII on one line")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BasicAuth:
    """A user and the file that holds the password: read when it is needed, so that it may change, and come late."""

    username: UserName
    password_file: File

    def header(self) -> str:
        """The value of Authorization. Raises SecretError."""
        return "Basic " + base64.b64encode(f"{self.username}:{read_secret(self.password_file)}".encode()).decode()


# -- on a socket --------------------------------------------------------------------------------------------------------------------


async def receive(sock: socket.socket) -> bytes:
    """What has come, at most RECEIVE bytes; empty: the peer closed. Gives others a turn, however fast the peer is."""
    await asyncio.sleep(0)
    while True:
        try:
            return sock.recv(RECEIVE)
        except (BlockingIOError, ssl.SSLWantReadError):
            await sockets.readable(sock)
        except ssl.SSLWantWriteError:
            await tls.writable(sock)


async def send(sock: socket.socket, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[sock.send(rest) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            await tls.writable(sock)
        except ssl.SSLWantReadError:
            await sockets.readable(sock)


# -- one connection -----------------------------------------------------------------------------------------------------------------


class Reply(NamedTuple):
    status: int
    headers: Sequence[tuple[str, str]]  # names in small letters
    body: bytes = b""  # at most MAX_BODY of it

    def header(self, name: str) -> str:
        """The first header of that name; empty: not there."""
        return next((value for key, value in self.headers if key == name), "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
    """How to get to a server. `proxy_auth` gives the value of Proxy-Authorization when it is needed, or raises OSError."""

    url: Url
    tls: ClientTls = dataclasses.field(default_factory=ClientTls)
    proxy: Url | None = None
    proxy_auth: Callable[[], str] | None = None
    root: Path = Path("/")


class Client:
    """One kept-alive connection, opened when there is something to ask. One request at a time; a failed one closes it."""

    def __init__(self, way: Way, net: Net) -> None:
        self._way, self._net = way, net
        self._sock: socket.socket | None = None
        self._http = h11.Connection(h11.CLIENT)
        self._counted = Traffic()
        self._before = Traffic()  # of connections that are closed and not yet asked for
        self._session: tuple[ssl.SSLContext, ssl.SSLSession] | None = None  # of the last answer; only its own context can resume it

    @property
    def connected(self) -> bool:
        return self._sock is not None

    async def connect(self) -> None:
        """Opens the connection if there is none. Raises Failure; OSError when a secret or CA file can't be read."""
        if self._sock:
            return
        self._sock = await self._open()
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)

    async def request(self, method: str, headers: Sequence[tuple[str, str]], body: bytes = b"", path: str = "") -> Reply:
        """One request on the open connection, for `path` or the way's own. Raises Failure (answer, reset, …) and has closed it then."""
        sock = self._sock
        if sock is None:
            raise Failure("reset", "there is no connection")
        try:
            await send(sock, self._outgoing(method, headers, body, path))
            reply = await self._reply(sock)
            self._remember(sock)
        except h11.RemoteProtocolError as e:
            self.close()
            raise Failure("answer", f"{self._way.url} does not speak HTTP: {e}") from None
        except OSError as e:
            self.close()
            raise tls.failure_from(e, str(self._way.url)) from None
        except BaseException:
            self.close()
            raise
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self.close()
        return reply

    def _outgoing(self, method: str, headers: Sequence[tuple[str, str]], body: bytes, path: str) -> bytes:
        url, proxy = self._way.url, self._way.proxy
        url = url._replace(path=path or url.path)
        target = url.path
        own = [("Host", url.authority), ("User-Agent", f"ronda/{__version__}")]
        if proxy and url.scheme == "http":  # the absolute form, RFC 9112 3.2.2
            target = str(url)
            own += self._proxy_secret()
        if body:
            own.append(("Content-Length", str(len(body))))
        head = self._http.send(h11.Request(method=method, target=target.encode(), headers=[*own, *headers]))
        parts = [head, self._http.send(h11.Data(data=body)) if body else b"", self._http.send(h11.EndOfMessage())]
        return b"".join([part for part in parts if part])

    async def _reply(self, sock: socket.socket) -> Reply:
        for _ in range(MAX_INTERIM):
            event = await self._event(sock)
            if isinstance(event, h11.Response):
                headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in event.headers]
                return Reply(event.status_code, headers, await self._body(sock))
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise Failure("answer", f"{self._way.url} gave no answer")
        raise Failure("answer", f"{self._way.url} sent {MAX_INTERIM} interim answers (1xx) and no real one")

    async def _body(self, sock: socket.socket) -> bytes:
        body = b""
        while len(body) <= MAX_BODY:  # a longer one is left unread, and the connection with it
            event = await self._event(sock)
            if not isinstance(event, h11.Data):
                break
            body += event.data
        return body[:MAX_BODY]

    async def _event(self, sock: socket.socket) -> Any:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = await receive(sock)
                if not data and self._http.their_state is h11.SEND_RESPONSE:
                    raise Failure("reset", "the connection was closed without an answer")
                self._http.receive_data(data)
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                raise Failure("reset", "the connection was closed without an answer")
            else:
                return event

    def close(self) -> None:
        """Lets the connection go."""
        if self._sock:
            self._note()
            self._counted = Traffic()
            self._sock.close()
            self._sock = None

    # -- the way there --

    async def _open(self) -> socket.socket:
        way = self._way
        to = way.proxy or way.url
        sock = await self._first_that_answers(to)
        try:
            if way.url.scheme == "http":
                return sock
            if way.proxy:
                await self._tunnel(sock)
            context = tls.client_context(way.tls, way.root)
        except BaseException:
            self._before = self._before.plus(traffic(sock))
            sock.close()
            raise
        kept, self._session = self._session, None  # if it is what fails, the next try goes without it
        session = kept[1] if kept and kept[0] is context else None
        try:
            return await tls.handshake(sock, context, way.tls.server_name or way.url.name, session)
        except BaseException:
            self._before = self._before.plus(SHAKEN)
            raise

    def _remember(self, sock: socket.socket) -> None:
        """TLS that is resumed (RFC 8446 2.2) needs no certificates: 1.5 kB and more that a connection costs less."""
        if isinstance(sock, ssl.SSLSocket) and sock.session:
            self._session = sock.context, sock.session

    async def _first_that_answers(self, to: Url) -> socket.socket:
        addresses = (await self._net.resolve(to.host))[:MAX_ADDRESSES]
        for i, address in enumerate(addresses):
            try:
                return await self._net.connect_socket(address, to.port)
            except Failure as e:
                if i == len(addresses) - 1 or e.reason not in ("refused", "unreachable"):
                    raise
        raise Failure("resolve", f"{to.host} has no address")

    async def _tunnel(self, sock: socket.socket) -> None:
        """CONNECT (RFC 9110 9.3.6)."""
        url = self._way.url
        authority = f"{url.authority.removesuffix(f':{url.port}')}:{url.port}"
        headers = [("Host", authority), ("User-Agent", f"ronda/{__version__}"), *self._proxy_secret()]
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        try:
            asked = self._http.send(h11.Request(method="CONNECT", target=authority, headers=headers))
            await send(sock, (asked or b"") + (self._http.send(h11.EndOfMessage()) or b""))
            event = await self._event(sock)
        except h11.RemoteProtocolError as e:
            raise Failure("answer", f"the proxy does not speak HTTP: {e}") from None
        except OSError as e:
            raise tls.failure_from(e, "the proxy") from None
        status = getattr(event, "status_code", 0)
        if not 200 <= status < 300:
            raise ProxyRefused(status, f"the proxy answered {status} to CONNECT {authority}")
        if self._http.trailing_data[0]:
            raise Failure("answer", "the proxy spoke before it was spoken to")

    def _proxy_secret(self) -> list[tuple[str, str]]:
        return [("Proxy-Authorization", self._way.proxy_auth())] if self._way.proxy_auth else []

    # -- what it costs --

    def traffic(self) -> Traffic:
        """Bytes on the wire since the last time that this was asked, those of closed connections included."""
        if self._sock:
            self._note()
        found, self._before = self._before, Traffic()
        return found

    def _note(self) -> None:
        assert self._sock
        now = traffic(self._sock)
        new = Traffic(max(0, now.sent - self._counted.sent), max(0, now.received - self._counted.received))
        self._before = self._before.plus(new)
        self._counted = now


class ProxyRefused(Failure):
    """The proxy does not let us through; `status` is what it answered."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__("status", text)
        self.status = status


def traffic(sock: socket.socket) -> Traffic:
    """What the kernel has counted of a connection so far. A kernel before 4.19 has no bytes_sent: then only the headers are known."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return Traffic()
    _, received, segments_out, segments_in, sent = _TCP_INFO.unpack(info.ljust(_TCP_INFO.size, b"\0"))
    header = _HEADERS.get(sock.family, 52)
    return Traffic(sent + segments_out * header, received + segments_in * header)
