"""http: whether a website or API answers as it should, over HTTP or HTTPS; how long each phase takes; what its certificates say.

    collectors:
      http:
        - target: https://siak.example.go.id/
          expect: {status: [200], body: "SIAK"}
        - target: https://api.example.go.id/health
          bearer_token_file: /etc/ronda/api-token
          proxy: http://proxy.example.go.id:3128
          tls: {ca_file: /etc/ronda/ca.pem}

The whole URL is the label `target`, and own headers are shown on the agent's pages: put no keys in them.

Each probe is a new connection, so that resolver, way, handshake and server are all tried. Phases are summed over redirects; only those
that ended are told. A status that `expect.status` names is the answer, otherwise redirects are followed (at most `redirects`); credentials
and own headers go to the target's scheme, host and port only. At most `max_body` bytes of a body are read and searched. Patterns are
searched for anywhere in it; mind that a pattern with nested repeats, such as (a+)+, can take for ever on a page made for it.
Without `proxy` none is used (variables such as https_proxy are not read). A proxy is spoken to in HTTP; CONNECT makes the way for https.

Certificates: `leaf` is the last server's own, `earliest` the first to expire of all that this probe relied on, redirects included.
With `tls: {verify: false}` they are shown but not judged.

Law: whatever a server sends costs bounded memory and time: head, body, pieces, redirects and the whole run have limits.
"""

import asyncio
import contextlib
import dataclasses
import re
import socket
import ssl
import time
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, NamedTuple

import h11

from agent import __version__
from agent.clock import Clock
from agent.collector import Env, Failure, Kind, ProbeConfig, Seen, Traffic, failed, succeeded
from agent.httpclient import MAX_ADDRESSES, MAX_HEAD, MAX_INTERIM, SHAKEN, BasicAuth, HeaderValue, Url, parse_url, receive, send, traffic
from agent.model import Event, Metric
from agent.secret import SecretError, read_secret
from agent.structure import Duration, Regex, Scalar, Size, Text
from agent.tls import ClientTls, Distrusted, File, TlsFacts, client_context, explain, facts, failure_from, handshake

MAX_PIECES = 20_000  # chunks of a body: a mebibyte in chunks of 52 bytes; one of 1 byte each would cost 20 s of CPU
MAX_KNOWN = 32  # leaf certificates remembered, so that a new one is told once, also behind a load balancer
GOODBYE, SYN = Traffic(2 * 52, 2 * 52), Traffic(60)
GO_ON = {301, 302, 303, 307, 308}
FAMILIES = {"auto": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}

PHASE = Metric("ronda_http_phase_duration_seconds", "How long the phase took, summed over redirects.", labels=("phase",))
STATUS = Metric("ronda_http_status_code", "The last answer's status.")
REDIRECTS = Metric("ronda_http_redirects", "Redirects followed.")
BODY = Metric("ronda_http_body_bytes", "Bytes of the last answer's body that were read, at most max_body.")
VERSION = Metric("ronda_http_version", "The last answer's version of HTTP, 1.0 or 1.1.")
NOT_AFTER = Metric(
    "ronda_tls_certificate_not_after_timestamp_seconds",
    "When the leaf certificate, and the earliest to do so of all relied on, expires; seconds since 1970.",
    labels=("scope",),
)
VALID = Metric("ronda_tls_certificate_valid", "1 if the certificates were verified, 0 if they were refused.")
WHY = Metric("ronda_tls_verification_failed_info", "Why the certificates were refused, while they are.", labels=("why",))
TLS = Metric("ronda_tls_info", "What the last handshake agreed on.", labels=("version", "cipher"))
ISSUER = Metric("ronda_tls_certificate_info", "Who issued the leaf certificate.", labels=("issuer",))
METRICS = (PHASE, STATUS, REDIRECTS, BODY, VERSION, NOT_AFTER, VALID, WHY, TLS, ISSUER)
PHASES = ("resolve", "connect", "tls", "processing", "transfer")
REASONS = (
    "resolve", "timeout", "refused", "unreachable", "reset", "tls", "certificate", "status", "body", "answer", "send", "internal",
)  # fmt: skip


# -- config -----------------------------------------------------------------------------------------------------------------------


def _header_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", text):
        raise ValueError
    if text.lower() in {"authorization", "proxy-authorization"}:
        raise ValueError("can't be given here, where pages would show it: use basic_auth, bearer_token_file or proxy_auth")
    if text.lower() in {"content-length", "transfer-encoding", "connection", "accept-encoding", "expect", "upgrade", "te"}:
        raise ValueError("is set by Ronda itself")
    return text


def _status(text: str) -> int:
    if not re.fullmatch(r"[2-5]\d\d", text, re.ASCII):
        raise ValueError
    return int(text)


def _redirects(text: str) -> int:
    if not re.fullmatch(r"1?\d|20", text, re.ASCII):
        raise ValueError
    return int(text)


def _content(text: str) -> str:
    if len(text) > 64 << 10:
        raise ValueError
    return text


HeaderName = Annotated[str, Scalar("the name of a header", _header_name)]
Status = Annotated[int, Scalar("a status", _status, "200 to 599")]
Content = Annotated[str, Scalar("a body", _content, "at most 64 KiB")]
Redirects = Annotated[int, Scalar("a number of redirects", _redirects, "0 to 20")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Login(BasicAuth):
    def problems(self) -> Iterable[tuple[str, str]]:
        yield from _secret_problem("password_file", self.password_file)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expect:
    """What makes an answer a good one. Patterns are searched for anywhere, in the body as UTF-8, or as Latin-1 if it says so."""

    status: list[Status] = dataclasses.field(default_factory=list)  # empty: any of 200 to 299
    body: Regex | None = None
    body_not: Regex | None = None
    headers: dict[HeaderName, Regex] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ProbeConfig):
    target: Text  # a URL; judged in problems(), so that no message repeats a password
    timeout: Duration = 10.0
    method: Literal["GET", "HEAD", "POST"] = "GET"
    headers: dict[HeaderName, HeaderValue] = dataclasses.field(default_factory=dict)
    body: Content = ""  # of a POST
    basic_auth: Login | None = None
    bearer_token_file: File | None = None
    expect: Expect = dataclasses.field(default_factory=Expect)
    redirects: Redirects = 10  # followed at most; 0: none
    proxy: Text = ""  # http://host:port
    proxy_auth: Login | None = None
    tls: ClientTls = dataclasses.field(default_factory=ClientTls)
    family: Literal["auto", "ipv4", "ipv6"] = "auto"
    max_body: Size = 1 << 20

    def problems(self) -> Iterable[tuple[str, str]]:
        yield from super().problems()
        yield from _url_problem("target", self.target)
        if self.proxy:
            yield from _url_problem("proxy", self.proxy)
            if self.proxy.startswith("https:"):
                yield "proxy", "must begin with http:// (the way to the target is TLS all the same)"
        if self.proxy_auth and not self.proxy:
            yield "proxy_auth", "needs a proxy"
        if self.body and self.method != "POST":
            yield "body", f"does not go with {self.method}"
        if self.method == "HEAD" and (self.expect.body or self.expect.body_not):
            yield "expect", "can't have a body pattern: HEAD brings no body"
        if self.basic_auth and self.bearer_token_file:
            yield "bearer_token_file", "does not go with basic_auth"
        if self.bearer_token_file:
            yield from _secret_problem("bearer_token_file", self.bearer_token_file)
        if self.max_body > 16 << 20:
            yield "max_body", "must be at most 16MiB"


def _url_problem(field: str, text: str) -> Iterator[tuple[str, str]]:
    try:
        parse_url(text)
    except ValueError as e:
        yield field, str(e)


def _secret_problem(field: str, path: str) -> Iterator[tuple[str, str]]:
    try:
        read_secret(path)
    except SecretError as e:
        yield field, str(e)


# -- one look ---------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class Hop:
    """One request and what came back. `phases` has seconds of those that ended."""

    url: Url
    address: str = ""
    phases: dict[str, float] = dataclasses.field(default_factory=dict)
    status: int = 0
    version: str = ""
    headers: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    body: bytes = b""  # dropped when a redirect leads on: only the last one is judged
    size: int = 0  # bytes read of it
    truncated: bool = False
    tls: TlsFacts | None = None

    def header(self, name: str) -> str:
        """The values of a header in one line; empty: not there."""
        return ", ".join(value for key, value in self.headers if key == name.lower())


@dataclasses.dataclass(slots=True)
class Run:
    hops: list[Hop] = dataclasses.field(default_factory=list)
    failure: Failure | None = None
    spent: Traffic = Traffic()  # noqa: RUF009  (a NamedTuple is immutable)

    @property
    def seconds(self) -> float:
        return sum(sum(hop.phases.values()) for hop in self.hops)

    @property
    def tls(self) -> TlsFacts | None:
        """Of the last hop that had TLS."""
        return next((hop.tls for hop in reversed(self.hops) if hop.tls), None)

    @property
    def earliest(self) -> float | None:
        return min((end for hop in self.hops if hop.tls and (end := hop.tls.earliest) is not None), default=None)


class Stopwatch:
    """Times the phases of a hop one after the other; `phase` is the one under way."""

    def __init__(self, clock: Clock, phases: dict[str, float]) -> None:
        self._clock, self._phases = clock, phases
        self.phase, self._began = "resolve", clock.monotonic()

    def done(self, following: str = "") -> None:
        now = self._clock.monotonic()
        self._phases[self.phase] = self._phases.get(self.phase, 0.0) + now - self._began
        self.phase, self._began = following, now

    def again(self) -> None:
        """Leaves out what was since the last phase."""
        self._began = self._clock.monotonic()


class Request(NamedTuple):
    method: str
    target: bytes
    headers: list[tuple[str, str]]
    body: bytes = b""


class Look:
    """One probe: follows redirects and notes all it sees in `run`."""

    def __init__(self, config: Config, env: Env) -> None:
        self.config, self.env, self.run = config, env, Run()
        self._first = parse_url(config.target)
        self._proxy = parse_url(config.proxy) if config.proxy else None
        self._watch: Stopwatch | None = None
        self._secrets = list(self._credentials())
        self._proxy_secret = [("Proxy-Authorization", config.proxy_auth.header())] if config.proxy_auth else []

    def _credentials(self) -> Iterator[tuple[str, str]]:
        if self.config.basic_auth:
            yield "Authorization", self.config.basic_auth.header()
        elif self.config.bearer_token_file:
            yield "Authorization", f"Bearer {read_secret(self.config.bearer_token_file)}"

    async def look(self) -> Run:
        """Raises OSError when it can't look: a secret or CA file that is gone."""
        deadline = asyncio.timeout(self.config.timeout)
        try:
            async with deadline:
                await self._follow()
        except TimeoutError:
            if not deadline.expired():
                raise
            self.run.failure = Failure("timeout", f"no end within {self.config.timeout:g} s{self._where()}")
        except Failure as e:
            self.run.failure = e
        return self.run

    def _where(self) -> str:
        if not self._watch or not self.run.hops:
            return ""
        hop = self.run.hops[-1]
        words = {"processing": "waiting for the answer", "transfer": "receiving the body"}
        at = f" ({hop.address})" if hop.address else ""
        return f": {words.get(self._watch.phase, self._watch.phase)}, {hop.url}{at}"

    async def _follow(self) -> None:
        url, method, body = self._first, self.config.method, self.config.body.encode()
        seen = set()
        while True:
            hop = Hop(url)
            self.run.hops.append(hop)
            await self._ask(hop, method, body)
            location = self._goes_on(hop)
            if location is None:
                break
            hop.body = b""
            if (url, method) in seen or len(self.run.hops) > self.config.redirects:
                raise Failure(
                    "status",
                    f"{'a circle of' if (url, method) in seen else 'too many'} redirects (no cookies are kept), last to {location[:200]!r}",
                )
            seen.add((url, method))
            url = redirected(url, location)
            if hop.status == 303 or (hop.status in (301, 302) and method == "POST"):  # RFC 9110 15.4
                method, body = ("HEAD" if method == "HEAD" else "GET"), b""
        judge(hop, self.config.expect)

    def _goes_on(self, hop: Hop) -> str | None:
        expected = hop.status in self.config.expect.status
        if hop.status not in GO_ON or expected or not self.config.redirects:
            return None
        return hop.header("location") or None

    async def _ask(self, hop: Hop, method: str, body: bytes) -> None:
        watch = self._watch = Stopwatch(self.env.clock, hop.phases)
        sock = await self._open(hop, watch)
        try:
            await exchange(sock, self._request(hop.url, method, body), hop, self.config.max_body, watch)
        finally:
            self._part(sock)

    def _part(self, sock: socket.socket) -> None:
        """Closes a connection, and notes what it cost: two packets more each way for the goodbye."""
        self.run.spent = self.run.spent.plus(traffic(sock)).plus(GOODBYE)
        sock.close()

    def _request(self, url: Url, method: str, body: bytes) -> Request:
        own = [*self._secrets, *self.config.headers.items()] if url.origin == self._first.origin else []
        names = {name.lower() for name, _ in own}
        headers = [
            (k, v)
            for k, v in (("Host", url.authority), ("User-Agent", f"ronda/{__version__}"), ("Accept", "*/*"))
            if k.lower() not in names
        ]
        headers += [*own, ("Accept-Encoding", "identity"), ("Connection", "close")]
        if method == "POST":
            headers.append(("Content-Length", str(len(body))))
        target = url.path
        if self._proxy and url.scheme == "http":  # the absolute form, RFC 9112 3.2.2
            target, headers = str(url), headers + self._proxy_secret
        return Request(method, target.encode(), headers, body)

    # -- the way there --

    async def _open(self, hop: Hop, watch: Stopwatch) -> socket.socket:
        sock = await self._connect(hop, watch)
        if hop.url.scheme == "http":
            watch.done("processing")
            return sock
        watch.done("tls")
        try:
            context = client_context(self.config.tls, self.env.root)
        except BaseException:
            self._part(sock)
            raise
        watch.again()  # the first time it loads the CAs
        name = self.config.tls.server_name or hop.url.name
        try:
            secured = await self._secured(sock, context, name)
        except Distrusted as e:
            hop.tls = await self._facts_of_distrusted(hop, name, e.why)
            raise Failure("certificate", explain(e, hop.tls, self.env.clock.now())) from None
        watch.done("processing")
        hop.tls = facts(secured)
        watch.again()
        return secured

    async def _secured(self, sock: socket.socket, context: ssl.SSLContext, name: str) -> ssl.SSLSocket:
        try:
            return await handshake(sock, context, name)
        except BaseException:
            self.run.spent = self.run.spent.plus(SHAKEN)
            raise

    async def _connect(self, hop: Hop, watch: Stopwatch) -> socket.socket:
        """A connection to the host or, with a proxy, through it."""
        to = self._proxy or hop.url
        addresses = await self.env.net.resolve(to.host, FAMILIES[self.config.family])
        watch.done("connect")
        sock = await self._first_that_answers(hop, addresses[:MAX_ADDRESSES], to.port)
        if self._proxy and hop.url.scheme == "https":
            try:
                await self._tunnel(sock, hop)
            except BaseException:
                self._part(sock)
                raise
        return sock

    async def _first_that_answers(self, hop: Hop, addresses: list[str], port: int) -> socket.socket:
        for left, address in zip(range(len(addresses) - 1, -1, -1), addresses, strict=True):
            hop.address = address
            try:
                return await self.env.net.connect_socket(address, port, self.config.source)
            except Failure as e:
                self.run.spent = self.run.spent.plus(SYN)
                if not left or e.reason not in ("refused", "unreachable"):
                    raise
        raise Failure("resolve", f"{hop.url.host} has no address")

    async def _tunnel(self, sock: socket.socket, hop: Hop) -> None:
        """CONNECT (RFC 9110 9.3.6)."""
        url = hop.url
        authority = url.authority if url.authority.endswith(f":{url.port}") else f"{url.authority}:{url.port}"
        headers = [("Host", authority), ("User-Agent", f"ronda/{__version__}"), *self._proxy_secret]
        answer = Hop(url)
        await exchange(sock, Request("CONNECT", authority.encode(), headers), answer, 0, None)
        if not 200 <= answer.status < 300:
            raise Failure("status", f"the proxy {hop.address} answered {answer.status} to CONNECT {authority}")

    async def _facts_of_distrusted(self, hop: Hop, name: str, why: str) -> TlsFacts | None:
        """Shakes hands again, trusting anything, to see what was refused. None: it did not work a second time."""
        context = client_context(self.config.tls, self.env.root, verify=False)
        try:
            sock = await self._connect(Hop(hop.url), Stopwatch(self.env.clock, {}))
            with contextlib.closing(await self._secured(sock, context, name)) as secured:
                self.run.spent = self.run.spent.plus(SHAKEN)
                return facts(secured, why)
        except Failure:
            return None


def redirected(url: Url, location: str) -> Url:
    """Where a Location leads from `url`. Raises Failure("status")."""
    try:
        return parse_url(urllib.parse.urldefrag(urllib.parse.urljoin(str(url), location))[0])
    except ValueError as e:
        shown = re.sub(r"//[^/]*@", "//…@", location[:200])
        raise Failure("status", f"redirects to {shown!r}, which {e}") from None


# -- on the wire ------------------------------------------------------------------------------------------------------------------


async def exchange(sock: socket.socket, request: Request, hop: Hop, max_body: int, watch: Stopwatch | None) -> None:
    """Sends the request and reads the answer into `hop`. Raises Failure: answer (not HTTP, or without end), reset, tls, …."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    try:
        await send(sock, _outgoing(connection, request))
        await _head(sock, connection, hop, watch)
        if connection.their_state is h11.SWITCHED_PROTOCOL:
            if connection.trailing_data[0]:
                raise Failure("answer", "the proxy spoke before it was spoken to")
        else:
            await _body(sock, connection, hop, max_body)
    except h11.RemoteProtocolError as e:
        raise Failure("answer", f"{hop.url} does not speak HTTP: {e}") from None
    except OSError as e:
        raise failure_from(e, str(hop.url)) from None
    if watch:
        watch.done()


def _outgoing(connection: h11.Connection, request: Request) -> bytes:
    parts = [connection.send(h11.Request(method=request.method, target=request.target, headers=request.headers))]
    if request.body:
        parts.append(connection.send(h11.Data(data=request.body)))
    return b"".join([p for p in (*parts, connection.send(h11.EndOfMessage())) if p])


async def _head(sock: socket.socket, connection: h11.Connection, hop: Hop, watch: Stopwatch | None) -> None:
    for _ in range(MAX_INTERIM):
        event = await _event(sock, connection, watch)
        if isinstance(event, h11.Response):
            hop.status, hop.version = event.status_code, event.http_version.decode()
            hop.headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in event.headers]
            return
        if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
            raise Failure("answer", f"{hop.url} gave no answer")
    raise Failure("answer", f"{hop.url} sent {MAX_INTERIM} interim answers (1xx) and no real one")


async def _body(sock: socket.socket, connection: h11.Connection, hop: Hop, max_body: int) -> None:
    body = bytearray()
    for _ in range(MAX_PIECES):
        event = await _event(sock, connection, None)
        if not isinstance(event, h11.Data):
            break
        body += event.data
        if len(body) > max_body:
            hop.truncated = True
            break
    else:
        raise Failure("answer", f"{hop.url} sends its body in more than {MAX_PIECES} pieces")
    hop.body, hop.size = bytes(body[:max_body]), min(len(body), max_body)


async def _event(sock: socket.socket, connection: h11.Connection, watch: Stopwatch | None) -> Any:
    """The next event. The first byte that comes ends the phase `processing`."""
    while True:
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event
        data = await receive(sock)
        if watch and watch.phase == "processing":
            watch.done("transfer")
        if not data:
            return _ended(connection)
        connection.receive_data(data)
        if connection.their_state is h11.SEND_RESPONSE and not _may_be_http(connection.trailing_data[0]):
            # said now: an SSH or mail server would wait for our next line, and that be a timeout
            raise h11.RemoteProtocolError(f"it begins {data[:40]!r}")


def _may_be_http(data: bytes) -> bool:
    return data.startswith(b"HTTP/") or b"HTTP/".startswith(data)


def _ended(connection: h11.Connection) -> Any:
    """The end of a body that lasts until the peer closes (HTTP/1.0). Raises Failure("reset") when it may not close now."""
    try:
        connection.receive_data(b"")
        event = connection.next_event()
    except h11.RemoteProtocolError as e:
        raise Failure("reset", f"the connection was closed too early: {e}") from None
    if not isinstance(event, h11.EndOfMessage):
        raise Failure("reset", "the connection was closed without an answer")
    return event


# -- what it means ----------------------------------------------------------------------------------------------------------------


def judge(hop: Hop, expect: Expect) -> None:
    """Raises Failure when the answer is not as expected: status, answer (a header), body."""
    if hop.status not in expect.status if expect.status else not 200 <= hop.status < 300:
        wanted = " or ".join(map(str, expect.status)) or "2xx"
        raise Failure("status", f"{hop.url} answered {hop.status}, not {wanted}")
    for name, pattern in expect.headers.items():
        if not re.search(pattern, hop.header(name)):
            raise Failure("answer", f"{hop.url}: the header {name} is {hop.header(name)[:100]!r}, not {pattern!r}")
    if not (expect.body or expect.body_not):
        return
    text = hop.body.decode("latin-1" if re.search("(?i)iso-8859-1", hop.header("content-type")) else "utf-8", "replace")
    part = f"the first {len(hop.body)} bytes of the body" if hop.truncated else "the body"
    if expect.body and not re.search(expect.body, text):
        raise Failure("body", f"{hop.url}: {part} of {hop.status} has no {expect.body!r}; it begins {text[:80]!r}")
    if expect.body_not and (found := re.search(expect.body_not, text)):
        raise Failure("body", f"{hop.url}: {part} has {found[0][:80]!r}, which must not be there")


def samples(run: Run) -> Iterator[Seen]:
    """What a look measured."""
    for phase in PHASES:
        times = [hop.phases[phase] for hop in run.hops if phase in hop.phases]
        if times:
            yield PHASE(sum(times), phase)
    answered = [hop for hop in run.hops if hop.status]
    if answered:
        last = answered[-1]
        yield STATUS(last.status)
        yield REDIRECTS(len(run.hops) - 1)
        yield BODY(last.size)
        yield VERSION(float(last.version))
    if run.tls:
        yield from _tls_samples(run, run.tls)


def _tls_samples(run: Run, found: TlsFacts) -> Iterator[Seen]:
    yield TLS(1, found.version, found.cipher)
    if found.verified or found.why:
        yield VALID(float(found.verified))
    if found.why:
        yield WHY(1, found.why)
    if found.chain:
        yield NOT_AFTER(found.chain[0].not_after, "leaf")
        yield ISSUER(1, found.chain[0].issuer.short[:100])
    if run.earliest is not None:
        yield NOT_AFTER(run.earliest, "earliest")


class Http:
    """Looks at one URL. Keeps which certificates it knows, to tell of a new one once."""

    def __init__(self, config: Config, env: Env) -> None:
        self._config, self._env = config, env
        self._known: dict[str, str] = {}  # sha256 of a leaf → why it was refused, "" if not

    async def collect(self) -> Iterable[Seen]:
        run = await Look(self._config, self._env).look()
        ended = failed(run.failure.reason, run.failure.detail) if run.failure else succeeded(run.seconds)
        return [*samples(run), *self._news(run.tls), ended._replace(traffic=run.spent)]

    def _news(self, found: TlsFacts | None) -> Iterator[Event]:
        if not found or not found.chain:
            return
        leaf = found.chain[0]
        first, before = not self._known, self._known.get(leaf.sha256)
        self._known[leaf.sha256] = found.why
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]
        if found.why and before != found.why:
            yield _event_of("certificate_invalid", "warning", f"the certificate of {self._config.target} is refused: {found.why}", found)
        elif before is None and not first:
            yield _event_of("certificate_changed", "info", f"{self._config.target} shows another certificate", found)


def _event_of(kind: str, severity: Any, message: str, found: TlsFacts) -> Event:
    leaf = found.chain[0]
    fields = {
        "subject": str(leaf.subject), "issuer": str(leaf.issuer), "serial": leaf.serial, "sha256": leaf.sha256,
        "not_before": _iso(leaf.not_before), "not_after": _iso(leaf.not_after), "names": ", ".join(leaf.names[:10]), "why": found.why,
    }  # fmt: skip
    return Event(kind, severity, message, fields)


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


async def once(config: Config, env: Env) -> dict[str, Any]:
    """One look in full: each hop, the chain, the result."""
    run = await Look(config, env).look()
    return {
        "url": config.target,
        "ok": run.failure is None,
        "reason": run.failure.reason if run.failure else None,
        "detail": run.failure.detail if run.failure else None,
        "total_seconds": run.seconds,
        "hops": [_hop_in_full(hop) for hop in run.hops],
    }


def _hop_in_full(hop: Hop) -> dict[str, Any]:
    return {
        "url": str(hop.url),
        "address": hop.address or None,
        "status": hop.status or None,
        "version": hop.version or None,
        "location": hop.header("location") or None,
        "body_bytes": hop.size if hop.status else None,
        "truncated": hop.truncated,
        "phases": hop.phases,
        "tls": _tls_in_full(hop.tls) if hop.tls else None,
    }


def _tls_in_full(found: TlsFacts) -> dict[str, Any]:
    return {
        "version": found.version,
        "cipher": found.cipher,
        "verified": found.verified,
        "why": found.why or None,
        "unreadable": found.unreadable,
        "chain": [
            {
                "subject": str(c.subject),
                "issuer": str(c.issuer),
                "not_before": _iso(c.not_before),
                "not_after": _iso(c.not_after),
                "san": ", ".join(c.names),
                "serial": c.serial,
                "sha256": c.sha256,
            }
            for c in found.chain
        ],
    }


KIND = Kind(
    "http",
    Config,
    METRICS,
    Http,
    events=("certificate_changed", "certificate_invalid"),
    probe=True,
    reasons=REASONS,
    once=once,
)
