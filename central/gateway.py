"""`ronda central gateway`: where sites push to. Samples go on to the store as they came, events are kept here.

Law: /api/v1/write passes through unchanged, and so does the answer with its Date and Retry-After: the agents' rules hold as if they spoke
to the store. Events are acknowledged once a power cut can't take them back. With a file of tokens each site is who its token says, and
tells samples and events under no other name (403); without one only this machine itself is spoken to. Bodies, connections and waits
are bounded. Both may carry Ronda-Site and Ronda-Chain, the head of the site's journal (agent/wire/chain.py): it is kept before the answer,
and a site that tells another head for the same number is said (chain_mismatch) and counted.

    HEAD, POST /api/v1/write    the store's answer; 503 while it can't be reached
    POST /api/v1/events         lines of agent/wire/event.py, under Ronda-Site and Ronda-Journal. 200 {"journal": "…", "acknowledged": 42,
                                "stored": 3}; 400 {"refused": true, "error": "…"} for what it will never take
    GET /-/healthy, /metrics, /runbook (what the messages' links lead to)
"""

import argparse
import asyncio
import collections
import contextlib
import functools
import ipaddress
import json
import logging
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Any

import cramjam

from agent import logs
from agent.clock import SystemClock
from agent.collector import Env, Failure
from agent.config import EventsConfig
from agent.httpclient import Client, Reply, Url, Way, parse_url
from agent.model import Event
from agent.net import Net
from agent.structure import loads, parse_listen
from agent.syslog import Letter, Syslog
from agent.webconfig import WebConfig
from agent.webserver import Limits, ListenError, Request, Response, Server, say
from agent.wire import chain, remote_write
from agent.wire import event as lines
from agent.wire.event import Entry, EventError
from central import runbooks
from central.eventstore import Breach, EventStore, StoreError
from central.tokens import Tokens, TokensError

log = logging.getLogger("ronda.gateway")

LISTEN = "127.0.0.1:17664"
STORE = "http://127.0.0.1:9090"
WRITE, EVENTS = "/api/v1/write", "/api/v1/events"
PASSED = ("content-encoding", "content-type", "x-prometheus-remote-write-version", "user-agent")  # to the store
ANSWERED = ("date", "retry-after")  # and back, beside the content's type
TO_STORE = 32  # requests to the store at once
STORE_WITHIN = 20.0  # seconds: less than an agent waits on a slow uplink
BUSY = 5  # seconds after which an agent may ask again
STATUSES = frozenset(int(status) for status in HTTPStatus if status >= 200)  # that we can pass on
TIDY = 86_400.0
MAX_EVENTS = 1000  # in a request
PROTOBUF = ("", "application/x-protobuf", "application/x-protobuf;proto=prometheus.writerequest")
MAX_SAMPLES_BYTES = 16 << 20  # of a request, unpacked
SAY_EVERY = 600.0  # seconds between two lines of the log about one token
SITE = re.compile(r"[a-z0-9-]{1,40}")
AT_ONCE = 256 << 10  # what is larger is looked through in a thread, so that others don't wait
LIMITS = Limits(
    connections=4096, per_peer=4096, connections_per_second=500.0, requests_per_second=2000.0, all_connections_per_second=500.0,
    all_requests_per_second=2000.0, request=60.0, idle=900.0, body_bytes=4 << 20, evict_after=60.0,
)  # fmt: skip


class Store:
    """The store behind us: some kept connections to it."""

    def __init__(self, url: Url, net: Net) -> None:
        self.url, self._net = url, net
        self._idle: list[Client] = []
        self._room = asyncio.Semaphore(TO_STORE)

    async def ask(self, method: str, headers: Sequence[tuple[str, str]], body: bytes) -> Reply:
        """Raises Failure or OSError where it gives no answer. A kept connection that had died is replaced, once."""
        async with self._room, asyncio.timeout(STORE_WITHIN):
            if self._idle:
                with contextlib.suppress(Failure):
                    return await self._ask(self._idle.pop(), method, headers, body)
            return await self._ask(Client(Way(url=self.url), self._net), method, headers, body)

    async def _ask(self, client: Client, method: str, headers: Sequence[tuple[str, str]], body: bytes) -> Reply:
        try:
            await client.connect()
            reply = await client.request(method, headers, body)
        except BaseException:
            client.close()
            raise
        if client.connected:
            self._idle.append(client)
        return reply

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


class Gateway:
    """Answers requests. `tokens`: None where only this machine may speak; `now` is the centre's wall clock."""

    def __init__(self, store: Store, events: EventStore, tokens: Tokens | None, now: Callable[[], float] = time.time) -> None:
        self.store, self.events, self.tokens, self._now = store, events, tokens, now
        self.came: Callable[[], None] = lambda: None  # there are new events
        self.requests: collections.Counter[tuple[str, int]] = collections.Counter()
        self.stored = self.again = self.late = 0
        self._said: dict[str, float] = {}  # when it was logged that a site's token told of another; as many as there are tokens

    async def handle(self, request: Request) -> Response:
        response = await self._route(request)
        path = request.path if request.path in (WRITE, EVENTS) else "other"
        self.requests[path, response.status] += 1
        if not any(name.lower() == "date" for name, _ in response.headers):
            response = Response(
                response.status, response.body, response.type, (*response.headers, ("Date", formatdate(self._now(), usegmt=True)))
            )
        return response

    async def _route(self, request: Request) -> Response:
        if request.path == "/-/healthy":
            return say(200, "the gateway is well")
        if request.path == "/metrics":
            return Response(200, self.metrics().encode(), "text/plain; version=0.0.4; charset=utf-8")
        if request.path == "/runbook":
            return Response(200, runbooks.page().encode(), "text/html; charset=utf-8", runbooks.HEADERS)
        if request.path not in (WRITE, EVENTS):
            return say(404, f"sites push to {WRITE} and {EVENTS}")
        site = self._site(request)
        if site is None:
            return say(401, "who are you? Send your site's token (push.token_file)", ("WWW-Authenticate", "Bearer"))
        if site and (name := request.headers.get("ronda-site", site)) != site:
            return self._not_its_own(site, name)
        await self._anchor(request, site)
        if request.path == WRITE and request.method in ("POST", "HEAD"):
            return await self._foreign(request, site) or await self._write(request)
        if request.path == EVENTS and request.method == "POST":
            return await self._events(request, site)
        allowed = "POST, HEAD" if request.path == WRITE else "POST"
        return say(405, f"only {allowed}", ("Allow", allowed))

    def _site(self, request: Request) -> str | None:
        """Who asks: the token's site, empty for this machine's own word; None: nobody that we know."""
        if self.tokens is None:
            return ""
        return self.tokens.site(request.headers.get("authorization", "")) or None

    def _not_its_own(self, site: str, name: str) -> Response:
        """Another site's token is on that box, or somebody has stolen it: nothing is lost until the right one is there."""
        now = self._now()
        if not 0.0 <= now - self._said.get(site, -SAY_EVERY) < SAY_EVERY:
            self._said[site] = now
            log.warning("the token of %s is used to tell of %r: refused; is it on the wrong box?", site, name[:40])
        return say(403, f"this token is {site}'s, but what comes with it says " + (f'site "{name[:40]}"' if name else "no site"))

    async def _anchor(self, request: Request, site: str) -> None:
        """Keeps the head of the site's chain. Who is in trouble with that is not refused: its samples and events are worth more."""
        told = chain.parse(request.headers.get("ronda-chain", ""))
        name = request.headers.get("ronda-site", site)
        if told is None or not SITE.fullmatch(name):
            return
        try:
            if breach := await asyncio.to_thread(self.events.anchor, name, told, self._now()):
                log.error("%s tells another head for number %d of its journal %s", name, breach.number, told.journal)
                await asyncio.to_thread(self.events.say, name, _mismatch(told, breach, self._now()), self._now())
                self.came()
        except StoreError as e:
            log.error("the head of %s's journal can't be kept: %s", name, e)

    # -- samples --

    async def _foreign(self, request: Request, site: str) -> Response | None:
        """With tokens: the refusal of samples that don't bear the site of their token, or that we can't read as the store would."""
        if not site or request.method == "HEAD":
            return None
        kind, encoding = (request.headers.get(name, "").replace(" ", "").lower() for name in ("content-type", "content-encoding"))
        if kind not in PROTOBUF or encoding != "snappy":
            return say(415, "only remote write 1.0 as snappy is taken here")
        try:
            if (size := cramjam.snappy.decompress_raw_len(request.body)) > MAX_SAMPLES_BYTES:
                return say(413, f"{size} bytes of samples at once, at most {MAX_SAMPLES_BYTES}")
            look = functools.partial(_other_site, request.body, site)
            other = await asyncio.to_thread(look) if size > AT_ONCE else look()
        except (remote_write.RemoteWriteError, cramjam.DecompressionError) as e:
            return say(400, f"these are no samples: {e}")
        return None if other is None else self._not_its_own(site, other)

    async def _write(self, request: Request) -> Response:
        headers = [(name, request.headers[name]) for name in PASSED if name in request.headers]
        try:
            reply = await self.store.ask(request.method, headers, request.body)
        except (Failure, OSError) as e:
            log.error("the store %s gives no answer: %s", self.store.url, e or "timeout")
            return say(503, "the store behind the gateway gives no answer", ("Retry-After", str(BUSY)))
        if reply.status not in STATUSES:
            return say(502, f"the store answered {reply.status}")
        back = tuple((name.title(), value) for name, value in reply.headers if name in ANSWERED)
        return Response(reply.status, reply.body, reply.header("content-type") or "text/plain; charset=utf-8", back)

    # -- events --

    async def _events(self, request: Request, site: str) -> Response:
        try:
            name, journal, entries = _letter(request, site)
        except PermissionError as e:
            return say(403, str(e))
        except EventError as e:
            return _json(400, {"refused": True, "error": str(e)})
        if not entries:
            return _json(200, {"journal": journal, "acknowledged": 0, "stored": 0})
        now = self._now()
        try:
            stored = await asyncio.to_thread(self.events.add, name, journal, entries, now)
        except StoreError as e:
            log.error("events can't be stored: %s", e)
            return say(503, "the centre can't store events now", ("Retry-After", str(BUSY)))
        self.stored += stored
        self.again += len(entries) - stored
        self.came()
        return _json(200, {"journal": journal, "acknowledged": entries[-1].seq, "stored": stored})

    def metrics(self) -> str:
        """The gateway's own few metrics."""
        out = [
            "# HELP ronda_gateway_requests_total Requests of sites by what became of them.", "# TYPE ronda_gateway_requests_total counter",
            *(f'ronda_gateway_requests_total{{path="{path}",code="{code}"}} {n}' for (path, code), n in sorted(self.requests.items())),
            "# HELP ronda_gateway_events_stored_total Events of sites that were stored.",
            "# TYPE ronda_gateway_events_stored_total counter", f"ronda_gateway_events_stored_total {self.stored}",
            "# HELP ronda_gateway_events_repeated_total Events that had been stored before, and came again.",
            "# TYPE ronda_gateway_events_repeated_total counter", f"ronda_gateway_events_repeated_total {self.again}",
            "# HELP ronda_gateway_chain_mismatches_total Heads of a site's journal that contradict what it had told before.",
            "# TYPE ronda_gateway_chain_mismatches_total counter",
            *(f'ronda_gateway_chain_mismatches_total{{site="{site}"}} {n}' for site, n in self._breaches().items()),
        ]  # fmt: skip
        return "\n".join(out) + "\n"

    def _breaches(self) -> dict[str, int]:
        try:
            return self.events.breaches()
        except StoreError as e:
            log.error("what contradicts the anchors can't be counted: %s", e)
            return {}


def _mismatch(told: chain.Told, breach: Breach, now: float) -> Event:
    text = "this site tells another head for a number of its journal: lines were changed, or its disk was put back to an older state"
    fields = {"journal": told.journal, "number": str(breach.number), "known": breach.known, "told": breach.told}
    return Event("chain_mismatch", "critical", text, fields, now, now)


def _other_site(body: bytes, site: str) -> str | None:
    return remote_write.other_value(bytes(cramjam.snappy.decompress_raw(body)), "site", site)


def _letter(request: Request, site: str) -> tuple[str, str, list[Entry]]:
    """(site, journal, events) of a request. Raises EventError; PermissionError where a site tells under another's name."""
    name, journal = request.headers.get("ronda-site", site), request.headers.get("ronda-journal", "")
    if site and name != site:
        raise PermissionError(f"this token is {site}'s")
    found = lines.unpack(request.body, request.headers.get("content-encoding", "").strip().lower())
    if not found:  # the doctor asks whether events are taken here
        return name, journal, []
    if not SITE.fullmatch(name):
        raise EventError("Ronda-Site: not the name of a site")
    if not re.fullmatch(r"[0-9a-f]{8}", journal):
        raise EventError("Ronda-Journal: not the name of a journal")
    if len(found) > MAX_EVENTS:
        raise EventError(f"{len(found)} events at once, at most {MAX_EVENTS}")
    entries: list[Entry] = []
    for number, line in enumerate(found, 1):
        try:
            entries.append(lines.decode(line))
        except EventError as e:
            raise EventError(f"line {number}: {e}") from None
        if len(entries) > 1 and entries[-1].seq <= entries[-2].seq:
            raise EventError(f"line {number}: seq does not ascend")
    return name, journal, entries


def _json(status: int, said: dict[str, Any]) -> Response:
    return Response(status, json.dumps(said).encode() + b"\n", "application/json")


# -- on to a SIEM ------------------------------------------------------------------------------------------------------------------


class StoreSource:
    """All sites' events, in the order that they came in, for one syslog collector."""

    def __init__(self, events: EventStore) -> None:
        self._events = events

    def letters(self, limit: int) -> Sequence[Letter]:
        found = self._events.after(self._events.cursor("syslog"), max(1, limit // 500))
        return [Letter(kept.id, kept.site, kept.journal, kept.entry) for kept in found]

    def sent(self, letters: Sequence[Letter]) -> None:
        self._events.move("syslog", letters[-1].number)


# -- the command -------------------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--listen", default=LISTEN, metavar="HOST:PORT", help=f"default {LISTEN}")
    parser.add_argument("--store", default=STORE, metavar="URL", help=f"any receiver of remote write; default {STORE}")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where events are kept (default: the user's state directory)")
    parser.add_argument("--tokens", type=Path, metavar="FILE", help="`site: sha256` a line; without it only this machine is spoken to")
    parser.add_argument("--web.config.file", dest="web_config", type=Path, metavar="FILE", help="TLS (exporter-toolkit format)")
    parser.add_argument("--syslog", default="", metavar="URL", help="send all sites' events on: tls://host:6514 or tcp://host:601")
    parser.add_argument("--syslog.ca-file", dest="syslog_ca", metavar="FILE", help="trust this instead of this machine's CAs")


def gateway_command(args: argparse.Namespace) -> int:
    logs.setup("info", "text")
    try:
        listen = parse_listen(args.listen)
    except ValueError:
        return _fail(f'--listen: "{args.listen}" is not an address to listen on (try {LISTEN})')
    try:
        url = parse_url(args.store)
        onward = _onward(args)
        tokens = Tokens(args.tokens) if args.tokens else None
        if tokens is None and not _loopback(listen):
            return _fail(f"--listen {listen}: without --tokens anybody could tell events in a site's name; only 127.0.0.1 then")
        events = EventStore(directory(args) / "events.sqlite")
    except ValueError as e:
        return _fail(f"--store: {e}")
    except (TokensError, StoreError, OSError) as e:
        return _fail(str(e))
    try:
        asyncio.run(_serve(listen, url._replace(path=WRITE if url.path == "/" else url.path), events, tokens, args.web_config, onward))
    except (ListenError, OSError) as e:
        return _fail(str(e))
    finally:
        events.close()
    return 0


def directory(args: argparse.Namespace) -> Path:
    """Where events are kept."""
    from agent.state import default_directory

    found: Path = args.data_dir or default_directory() / "gateway"
    return found


def _onward(args: argparse.Namespace) -> EventsConfig | None:
    """Raises ConfigError."""
    if not args.syslog:
        return None
    said = {"syslog": args.syslog, **({"tls": {"ca_file": args.syslog_ca}} if args.syslog_ca else {})}
    return loads(json.dumps(said).encode(), EventsConfig, "ronda central gateway")


async def _serve(listen: str, url: Url, events: EventStore, tokens: Tokens | None, web: Path | None, onward: EventsConfig | None) -> None:
    """Until SIGTERM or SIGINT. Raises ListenError, ConfigError."""
    env = Env(SystemClock(), Net())
    store = Store(url, env.net)
    gateway = Gateway(store, events, tokens)
    webconfig = WebConfig(web)
    webconfig.load()
    server = Server(listen, gateway.handle, tls=lambda: webconfig.current().tls, limits=LIMITS)
    _many_files()
    await server.start()
    syslog = None
    if onward and (collector := onward.collector):
        syslog = Syslog(env, collector, onward.tls, StoreSource(events), time.time)
        gateway.came = syslog.wake
        syslog.start()
    tidying = asyncio.ensure_future(_tidy(events))
    log.info("the gateway listens on %s, for the store %s; events: %s", listen, url, events.path)
    if not webconfig.current().tls and not _loopback(listen):
        log.warning("without TLS (--web.config.file) everybody on the way reads the tokens")
    await _ended()
    tidying.cancel()
    await server.close()
    if syslog:
        await syslog.close()
    store.close()


async def _ended() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


async def _tidy(events: EventStore) -> None:
    while True:
        try:
            await asyncio.to_thread(events.tidy, time.time())
        except StoreError as e:
            log.error("old events can't be let go: %s", e)
        await asyncio.sleep(TIDY)


def _many_files() -> None:
    """A connection a site is a file each: as many as we are allowed."""
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _loopback(listen: str) -> bool:
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _fail(message: str) -> int:
    print(f"ronda central gateway: {message}", file=sys.stderr)
    return 2


# -- looking at them ---------------------------------------------------------------------------------------------------------------


def places(given: Path | None) -> list[Path]:
    """Where events may be: in a gateway's own directory, and in that of `ronda central up`."""
    from agent.state import default_directory

    return [given, given / "gateway"] if given else [default_directory() / "gateway", default_directory() / "centre/gateway"]


def events_command(args: argparse.Namespace) -> int:
    """`ronda central events`."""
    from agent import show

    kept = [path for place in places(args.data_dir) if (path := place / "events.sqlite").exists()]
    if not kept:
        looked = " or ".join(map(str, places(args.data_dir)))
        print(f"ronda central events: there are no events in {looked}: name the gateway's --data-dir", file=sys.stderr)
        return 2
    if len(kept) > 1:
        print(f"ronda central events: of {kept[0]}; there is {kept[1]} too, see --data-dir", file=sys.stderr)
    path = kept[0]
    since = time.time() - args.since if args.since else 0.0
    shown = 0
    try:
        store = EventStore(path, read_only=True)
        for found in store.find(site=args.site or "", kind=args.kind or "", severity=args.severity or "", since=since):
            if not args.json and not shown:
                print(show.event_head(None))
            shown += 1
            if args.json:
                said = json.loads(show.event_json(found.site, found.journal, found.entry))
                print(json.dumps(said | {"received": round(found.received, 3), "late": found.late}, ensure_ascii=False))
            else:
                late = " [terlambat]" if found.late else ""
                print(f"{found.site}{late}  {show.event_text(found.entry, None)}")
    except StoreError as e:
        print(f"ronda central events: {e}", file=sys.stderr)
        return 2
    if not shown:
        print("ronda central events: no such events", file=sys.stderr)
    return 0
