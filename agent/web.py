"""The agent's own web: /metrics, health, config and the admin's page on one listener, the clerk's page on another.

Law: read-only but for two requests, which a page of another site can't make (CSRF): POST /-/reload, only where it was enabled, and
the clerk's POST /periksa. Renderings are shared by all who ask at the same time. The clerk's listener knows `/` and `/periksa`,
nothing else: no devices, no addresses. Pages load nothing, from nowhere, and run no script.
"""

import abc
import asyncio
import collections
import ipaddress
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Protocol
from urllib.parse import urlsplit

from agent import lanpage, pages, texts
from agent.bucket import Bucket, Peers
from agent.diagnosis import Verdict
from agent.model import Metric, Sample
from agent.status import Status
from agent.webauth import Auth, BusyError
from agent.webconfig import WebConfig
from agent.webserver import REFUSALS, Limits, ListenError, Request, Response, Server, say

__all__ = ["METRICS", "AdminServer", "LanServer", "Limits", "ListenError", "Site"]

REQUESTS = Metric("ronda_web_requests_total", "Requests answered by the agent's own web.", "counter", ("listener", "path", "code"))
CONNECTIONS = Metric("ronda_web_connections", "Connections that are open to the agent's own web.", labels=("listener",))
REFUSED = Metric(
    "ronda_web_connections_refused_total",
    "Connections refused: too many in all or from one peer, TLS failed, certificate not allowed, no file descriptors left.",
    "counter",
    ("listener", "reason"),
)
METRICS = (REQUESTS, CONNECTIONS, REFUSED)

PAGE_AGE = 1.0  # seconds that a rendered page is good for: many readers cost as much as one
SCRAPE_AGE = 0.25  # likewise; shorter than any scrape interval, so one reader never gets the same twice
CHECK_EVERY = 10.0  # seconds between two of the clerk's checks
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
HTML = "text/html; charset=utf-8"
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send `Origin: null` from our own forms too
    "Cache-Control": "no-store",
}


class Site(Protocol):
    """What the pages show: the app. `name` is the slug, `timezone` an IANA name, `problems` standing troubles in words."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def phone(self) -> str: ...
    @property
    def timezone(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def problems(self) -> list[str]: ...

    def statuses(self) -> list[Status]: ...
    def verdict(self) -> Verdict: ...

    async def metrics(self, openmetrics: bool) -> bytes:
        """The exposition, not compressed."""
        ...

    def config_text(self) -> str:
        """The config in force, secrets hidden."""
        ...

    def ready(self) -> str:
        """Why the agent is not ready; empty: it is."""
        ...

    def healthy(self) -> str:
        """Why the agent is not healthy; empty: it is."""
        ...

    async def reload(self) -> list[str]:
        """Problems; empty: the new config is in force."""
        ...

    async def check_now(self) -> bool:
        """Looks at everything again; False: asked too soon."""
        ...


class Shared:
    """Makes a thing once for all who want it while it is being made, and for `age` seconds after."""

    def __init__(self, age: float = 0.0) -> None:
        self._age = age
        self._made: dict[object, tuple[float, asyncio.Task[bytes]]] = {}

    async def get(self, key: object, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """What `make` returns, or raises. Keys must be few: one thing a key is kept."""
        now = asyncio.get_running_loop().time()
        found = self._made.get(key)
        if found is None or (found[1].done() and now - found[0] >= self._age) or _failed(found[1]):
            found = self._made[key] = now, asyncio.ensure_future(_as_task(make))
        # shielded: that one reader gives up must not take it from the others
        return await asyncio.shield(found[1])

    async def close(self) -> None:
        left = [task for _, task in self._made.values()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _as_task(make: Callable[[], Awaitable[bytes]]) -> bytes:
    return await make()


def _failed(task: "asyncio.Task[bytes]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


async def gzipped(body: bytes) -> bytes:
    """gzip at level 1, a slice at a time: the loop has its turn after each (64 KiB take about a millisecond)."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    parts = []
    for start in range(0, len(body), 64 << 10):
        parts.append(packer.compress(body[start : start + (64 << 10)]))
        await asyncio.sleep(0)
    return b"".join([*parts, packer.flush()])


# -- what the headers ask for -------------------------------------------------------------------------------------------------


def preferences(header: str) -> list[tuple[str, dict[str, str], float]]:
    """`a/b;x=1;q=0.5, c/d` → [("a/b", {"x": "1"}, 0.5), ("c/d", {}, 1.0)]; at most 32, what is malformed has q 0 (RFC 9110, 12.4.2)."""
    found = []
    for part in header.split(",")[:32]:
        name, *rest = (piece.strip() for piece in part.split(";"))
        given = {k.strip().lower(): v.strip().strip('"') for k, _, v in (piece.partition("=") for piece in rest)}
        try:
            q = float(given.pop("q", "1"))
        except ValueError:
            q = 0.0
        found.append((name.lower(), given, q if 0 <= q <= 1 else 0.0))
    return found


def wants_openmetrics(accept: str) -> bool:
    """Whether OpenMetrics 1.0 is named and preferred; a tie goes to what stands first. `*/*` means the plain text format."""
    best = {"openmetrics": (0.0, 0), "text": (0.0, 0)}
    for i, (name, given, q) in enumerate(preferences(accept)):
        kind = ""
        if name == "application/openmetrics-text" and given.get("version", "1.0.0") in ("1.0.0", "0.0.1"):
            kind = "openmetrics"
        elif name in ("text/plain", "text/*", "*/*") and given.get("version", "0.0.4") == "0.0.4":
            kind = "text"
        if kind and (q, -i) > best[kind]:
            best[kind] = (q, -i)
    return best["openmetrics"][0] > 0 and best["openmetrics"] > best["text"]


def takes_gzip(accept_encoding: str) -> bool:
    found = {name: q for name, _, q in preferences(accept_encoding)}
    return found.get("gzip", found.get("*", 0.0)) > 0


def from_elsewhere(request: Request) -> bool:
    """Whether a browser sent this on behalf of another site's page (CSRF). What is no browser sends none of these headers.

    Sec-Fetch-Site is the better witness, but browsers leave it out where the page came by plain HTTP.
    """
    fetched = request.headers.get("sec-fetch-site")
    if fetched is not None:
        return fetched not in ("same-origin", "none")
    origin = request.headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()
    except ValueError:
        return True


def rebound(request: Request, listen: str) -> bool:
    """Whether a browser was led to a loopback listener by a name that is not loopback's (DNS rebinding)."""
    host = listen.rpartition(":")[0]
    if "origin" not in request.headers or not _loopback(host):
        return False
    return not _loopback(request.headers.get("host", "").rsplit(":", 1)[0])


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


# -- the listeners ------------------------------------------------------------------------------------------------------------

Route = Callable[[Request], Awaitable[Response]]


class _Listener(abc.ABC):
    """What both listeners have: routes with their methods, counts, the headers on every response."""

    name = ""
    groups: ClassVar[Mapping[str, str]] = {}  # path → its name in the metrics

    def __init__(self, site: Site, listen: str, now: Callable[[], float], limits: Limits | None) -> None:
        self.site, self.listen, self._now = site, listen, now
        self.webconfig = WebConfig(None)
        self._requests: collections.Counter[tuple[str, int]] = collections.Counter()
        self._pages = Shared(PAGE_AGE)
        self._server = Server(
            listen,
            self._handle,
            tls=lambda: self.webconfig.current().tls,
            admit=lambda certificate: self.webconfig.current().admits(certificate),
            limits=limits,
        )

    @property
    def url(self) -> str:
        """Where a browser on this box finds it."""
        host = self.listen.rpartition(":")[0]
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]", "::": "[::1]"}.get(host, host)  # noqa: S104
        return f"{'https' if self.webconfig.current().tls else 'http'}://{host}:{self._server.port}/"

    async def start(self) -> None:
        """Raises ConfigError (the web.config.file) or ListenError."""
        self.webconfig.load()
        await self._server.start()

    async def close(self) -> None:
        await self._server.close()
        await self._pages.close()

    def problems(self) -> list[str]:
        return self.webconfig.problems()

    def samples(self) -> Iterable[Sample]:
        yield CONNECTIONS(self._server.connections, self.name)
        for reason in REFUSALS:
            yield REFUSED(self._server.refused[reason], self.name, reason)
        for (path, code), n in sorted(self._requests.items()):
            yield REQUESTS(n, self.name, path, str(code))

    @abc.abstractmethod
    def routes(self) -> Mapping[str, Mapping[str, Route]]:
        """path → method → what answers; HEAD is GET without the body."""

    async def guard(self, _: Request, /) -> Response | None:
        """A response that keeps the request out; None: it may pass."""
        return None

    async def _handle(self, request: Request) -> Response:
        response = await self.guard(request) or await self._route(request)
        self._requests[self.groups.get(request.path, "other"), response.status] += 1
        headers = SECURITY_HEADERS | self.webconfig.current().file.http_server_config.headers
        return Response(response.status, response.body, response.type, (*response.headers, *headers.items()))

    async def _route(self, request: Request) -> Response:
        methods = self.routes().get(request.path)
        if methods is None:
            return say(404, "there is no such page; / has links to all there are")
        route = methods.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            allowed = [*methods, *(["HEAD"] if "GET" in methods else [])]
            return say(405, f"this page takes {', '.join(allowed)}", ("Allow", ", ".join(allowed)))
        return await route(request)


class AdminServer(_Listener):
    """The admin's listener. `lifecycle`: whether POST /-/reload is allowed; `now`: wall clock seconds."""

    name = "admin"
    groups: ClassVar = {
        "/": "page",
        "/metrics": "metrics",
        "/config": "config",
        "/-/healthy": "health",
        "/-/ready": "health",
        "/-/reload": "reload",
    }

    def __init__(
        self,
        site: Site,
        listen: str,
        web_config: Path | None = None,
        *,
        lifecycle: bool = False,
        now: Callable[[], float] = time.time,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(site, listen, now, limits)
        self.webconfig = WebConfig(web_config)
        self._lifecycle = lifecycle
        self._auth = Auth(time.monotonic)
        self._bucket: tuple[object, Bucket] | None = None
        self._scrapes = Shared(SCRAPE_AGE)

    async def close(self) -> None:
        await super().close()
        await self._scrapes.close()

    def routes(self) -> Mapping[str, Mapping[str, Route]]:
        return {
            "/": {"GET": self._page},
            "/metrics": {"GET": self._metrics},
            "/config": {"GET": self._config},
            "/-/healthy": {"GET": self._healthy},
            "/-/ready": {"GET": self._ready},
            "/-/reload": {"POST": self._reload, "PUT": self._reload},
        }

    async def guard(self, request: Request, /) -> Response | None:
        file = self.webconfig.current().file
        if file.rate_limit and (wait := self._take(file.rate_limit.burst, file.rate_limit.interval)):
            return say(429, "too many requests (rate_limit of the web config)", _retry(wait))
        if file.basic_auth_users:
            try:
                if await self._auth.check(file.basic_auth_users, request.headers.get("authorization", ""), request.peer):
                    return None
            except BusyError as e:
                return say(429, "too many logins or wrong passwords; wait a little", _retry(e.wait))
            return say(401, "a user and a password are wanted", ("WWW-Authenticate", 'Basic realm="Ronda", charset="UTF-8"'))
        return None

    def _take(self, burst: int, interval: float) -> float:
        now = time.monotonic()
        if self._bucket is None or self._bucket[0] != (burst, interval):
            self._bucket = (burst, interval), Bucket(burst, interval, now)
        return self._bucket[1].take(now)

    async def _metrics(self, request: Request) -> Response:
        openmetrics, packed = wants_openmetrics(request.headers.get("accept", "")), takes_gzip(request.headers.get("accept-encoding", ""))

        async def make() -> bytes:
            body = await self.site.metrics(openmetrics)
            return await gzipped(body) if packed else body

        body = await self._scrapes.get((openmetrics, packed), make)
        headers = [("Vary", "Accept, Accept-Encoding"), *([("Content-Encoding", "gzip")] if packed else [])]
        return Response(200, body, OPENMETRICS_TYPE if openmetrics else TEXT_TYPE, tuple(headers))

    async def _page(self, request: Request) -> Response:
        lang = texts.language(request.query.get("lang", ""), request.headers.get("accept-language", ""))
        packed = takes_gzip(request.headers.get("accept-encoding", ""))

        async def make() -> bytes:
            body = await pages.render(self.site, lang, self._now())
            return await gzipped(body) if packed else body

        body = await self._pages.get((lang, packed), make)
        packing = (("Content-Encoding", "gzip"),) if packed else ()
        return Response(200, body, HTML, (("Content-Language", lang), ("Vary", "Accept-Encoding, Accept-Language"), *packing))

    async def _config(self, _: Request) -> Response:
        return Response(200, self.site.config_text().encode())

    async def _healthy(self, _: Request) -> Response:
        trouble = self.site.healthy()
        return say(503, f"Ronda is not healthy: {trouble}") if trouble else say(200, "Ronda is healthy.")

    async def _ready(self, _: Request) -> Response:
        trouble = self.site.ready()
        return say(503, f"Ronda is not ready: {trouble}") if trouble else say(200, "Ronda is ready.")

    async def _reload(self, request: Request) -> Response:
        if not self._lifecycle:
            return say(403, "reload by web is off; start Ronda with --web.enable-lifecycle, or send it SIGHUP")
        if from_elsewhere(request) or rebound(request, self.listen):
            return say(403, "a page of another site may not reload Ronda")
        problems = await self.site.reload()
        return (
            say(500, "the config was not loaded, the old one stays in force:\n" + "\n".join(problems)) if problems else say(200, "reloaded")
        )


class LanServer(_Listener):
    """The clerk's listener: no password, no TLS, nothing to find."""

    name = "lan"
    groups: ClassVar = {"/": "page", "/periksa": "check"}

    def __init__(self, site: Site, listen: str, *, now: Callable[[], float] = time.time, limits: Limits | None = None) -> None:
        super().__init__(site, listen, now, limits)
        self._checked = float("-inf")
        self._asking = Peers(10, 1.0)

    def routes(self) -> Mapping[str, Mapping[str, Route]]:
        return {"/": {"GET": self._page}, "/periksa": {"POST": self._check, "GET": self._home}}

    async def _page(self, request: Request) -> Response:
        async def make() -> bytes:
            return lanpage.render(self.site, self._now(), lanpage.Note.of(request.query)).encode()

        note = lanpage.Note.of(request.query)
        return Response(200, await self._pages.get(note, make), HTML, (("Content-Language", "id"),))

    async def _home(self, _: Request) -> Response:
        return Response(303, headers=(("Location", "/"),))

    async def _check(self, request: Request) -> Response:
        """Answers with a way back to the page (303), so that reloading it doesn't send the form again."""
        if from_elsewhere(request):
            return say(403, "Halaman dari situs lain tidak boleh meminta pemeriksaan.")
        now = time.monotonic()
        if self._asking.take(request.peer, now):
            return say(429, "Terlalu sering. Tunggu sebentar.", ("Retry-After", "5"))
        wait = self._checked + CHECK_EVERY - now
        if wait <= 0 and await self.site.check_now():
            self._checked = now
            return Response(303, headers=(("Location", "/?periksa=ya"),))
        seconds = max(1, min(int(CHECK_EVERY), round(wait if wait > 0 else CHECK_EVERY)))
        return Response(303, headers=(("Location", f"/?tunggu={seconds}"),))


def _retry(seconds: float) -> tuple[str, str]:
    return "Retry-After", str(max(1, round(seconds)))
