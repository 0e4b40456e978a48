"""Looking names up as the box itself would: etc/hosts, then the servers of etc/resolv.conf. And asking one server one question.

Law: no threads, so a dead resolver holds nothing up and every wait can be cancelled. A reply counts only from the server that was
asked, with the id and the question asked; ids and source ports are random (RFC 5452). All else is garbage: counted, and passed over.
Other than the C library: the next server is asked after a second at the latest while the earlier ones may still answer, so a probe
of 5 s outlives a dead first resolver; no nss modules (mDNS, NIS); without servers in resolv.conf nothing is asked (not 127.0.0.1).
"""

import asyncio
import collections
import contextlib
import dataclasses
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from agent import sockets
from agent.collector import Failure
from agent.wire import dns

Transport = Literal["udp", "tcp"]
STAGGER = 1.0  # seconds until the next server is asked as well
AAAA_GRACE = 0.05  # seconds that an IPv6 answer may come after the IPv4 one (RFC 8305 3); many home routers never answer AAAA
MAX_ALIASES = 8
MAX_FILE = 8 << 20
_RETRYABLE = ("SERVFAIL", "REFUSED", "NOTIMP", "FORMERR")  # another server may know better
_TIMESTAMPNS = 35  # SO_TIMESTAMPNS of the generic ABI (x86, ARM, RISC-V)
_TIMESPEC = struct.Struct("@ll")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """etc/resolv.conf, with the C library's defaults and limits (resolv.conf(5))."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout: float = 5.0
    attempts: int = 2
    use_vc: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered. `seconds` from the first send to the arrival, TCP's connection included; `size` in bytes."""

    message: dns.Message
    transport: Transport
    size: int
    seconds: float
    truncated: bool  # the UDP answer did not fit, this one came by TCP


def parse_resolv_conf(text: str) -> Config:
    """Reads resolv.conf(5); what it doesn't know it passes over, as the C library does."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: dict[str, str] = {}
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "nameserver" and rest and sockets.parse_address(rest[0]):
            servers.append(rest[0])
        elif word in ("search", "domain") and rest:
            search = tuple(rest if word == "search" else rest[:1])
        elif word == "options":
            options |= {o.partition(":")[0]: o.partition(":")[2] for o in rest}
    return Config(
        tuple(servers[:3]), tuple(d for s in search if (d := s.strip("."))), _option(options, "ndots", 1, 0, 15),
        _option(options, "timeout", 5, 1, 30), _option(options, "attempts", 2, 1, 5), "use-vc" in options,
    )  # fmt: skip


def _option(options: dict[str, str], name: str, default: int, low: int, high: int) -> int:
    text = options.get(name, "")
    return min(max(int(text), low), high) if text.isdecimal() and len(text) < 9 else default


def hosts_lookup(text: str, name: str) -> list[str]:
    """The addresses of `name` (small letters) in the text of a hosts(5) file, in its order."""
    if name not in text:  # a list of blocked names may have 100,000 lines, and is not read twice for nothing
        return []
    found = []
    for line in text.splitlines():
        if name in line:
            address, *names = line.partition("#")[0].split() or [""]
            if name in names and sockets.parse_address(address):
                found.append(address)
    return list(dict.fromkeys(found))


def candidates(name: str, config: Config) -> list[str]:
    """The names to try, in order: as it is and with the search domains (resolv.conf(5), ndots)."""
    if name.endswith("."):
        return [name]
    with_search = [f"{name}.{domain}" for domain in config.search]
    return [name, *with_search] if name.count(".") >= config.ndots else [*with_search, name]


class Resolver:
    """The stub resolver of a box whose files are below `root`. `port` is 53 but in tests."""

    def __init__(self, root: Path, port: int = 53) -> None:
        self._port = port
        self._config = _Cached(root / "etc/resolv.conf", parse_resolv_conf)
        self._hosts = _Cached(root / "etc/hosts", _Hosts)

    def config(self) -> Config:
        return self._config.value()

    async def resolve(self, name: str, family: int = socket.AF_UNSPEC) -> list[str]:
        """The addresses of a name, IPv4 first. Raises Failure("resolve"), or ("send") when this box can't ask."""
        plain = name.lower().rstrip(".")
        local = self._hosts.value().lookup(plain)
        if not local and (plain == "localhost" or plain.endswith(".localhost")):
            local = ["127.0.0.1", "::1"]  # never asked of a server (RFC 6761 6.3)
        if known := of_family(local, family):
            return known
        config = self.config()
        if not config.servers:
            raise Failure("resolve", f"{name}: this box has no resolver (etc/resolv.conf)")
        found = Found([])
        for candidate in candidates(name, config):
            found = await self._addresses(candidate, config, family)
            if found.addresses or found.final:
                break
        if not found.addresses:
            raise Failure("resolve", f"{name}: {found.said}")
        return list(dict.fromkeys(found.addresses))

    async def _addresses(self, name: str, config: Config, family: int) -> "Found":
        """What is found for one name. A and AAAA are asked together; IPv4 is waited for in full, IPv6 only where there is no IPv4."""
        types = {socket.AF_INET: ["A"], socket.AF_INET6: ["AAAA"]}.get(socket.AddressFamily(family), ["A", "AAAA"])
        tasks = [asyncio.ensure_future(self._follow(name, type_, config)) for type_ in types]
        try:
            first = await tasks[0]
            if len(tasks) == 1:
                return first
            if not first.addresses:
                second = await tasks[1]
                return second if second.addresses else first
            await asyncio.wait(tasks[1:], timeout=AAAA_GRACE)
            extra = tasks[1].result().addresses if tasks[1].done() and not tasks[1].exception() else []
            return Found(first.addresses + extra)
        finally:
            await _end(tasks)

    async def _follow(self, name: str, type_: str, config: Config) -> "Found":
        """Asks, and asks on where a server leaves the last alias unresolved."""
        for _ in range(MAX_ALIASES):
            asked = dns_query(name, type_, edns=0).name
            try:
                server, message = await self._race(asked, type_, config)
            except Failure as e:
                if e.reason != "resolve":
                    raise
                return Found([], e.detail, final=True)
            last, records = message.chain(asked, type_)
            if records:
                return Found([r.data for r in records])
            if message.rcode or last == asked.lower():
                return Found([], f"{server} says {message.rcode_name}" if message.rcode else f"{server} knows no address of it")
            name = last
        return Found([], f"its aliases lead on more than {MAX_ALIASES} times")

    async def _race(self, name: str, type_: str, config: Config) -> tuple[str, dns.Message]:
        """The first usable answer. Each server in turn, `attempts` times around; the earlier may still answer meanwhile."""
        turns = list(config.servers) * config.attempts
        running: dict[asyncio.Task[dns.Message], str] = {}
        trouble: dict[str, Failure] = {}
        try:
            while turns or running:
                if turns:
                    server = turns.pop(0)
                    running[asyncio.ensure_future(self._once(server, name, type_, config))] = server
                wait = min(STAGGER, config.timeout) if turns else None
                done, _ = await asyncio.wait(running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    server = running.pop(task)
                    try:
                        return server, task.result()
                    except Failure as e:
                        trouble[server] = e
        finally:
            await _end(running)
        ours = all(e.reason == "send" for e in trouble.values())
        raise Failure("send" if ours else "resolve", "; ".join(e.detail for e in trouble.values()))

    async def _once(self, server: str, name: str, type_: str, config: Config) -> dns.Message:
        """One question to one server. Raises Failure where another server might know better."""
        # No EDNS, like the C library: 512 bytes hold an address, and the oldest forwarder understands it
        query = dns_query(name, type_, edns=0)
        try:
            async with asyncio.timeout(config.timeout):
                reply = await ask(server, query, port=self._port, transport="tcp" if config.use_vc else "udp")
        except TimeoutError:
            raise Failure("resolve", f"{server} did not answer within {config.timeout:g} s") from None
        if reply.message.rcode_name in _RETRYABLE:
            raise Failure("resolve", f"{server} says {reply.message.rcode_name}")
        return reply.message


class Found(NamedTuple):
    """Addresses, or what was said instead. `final`: no server answered, so another name would fare no better."""

    addresses: list[str]
    said: str = ""
    final: bool = False


class _Hosts:
    """The text of a hosts file and what was asked of it; small even where the file is not."""

    def __init__(self, text: str) -> None:
        self._text, self._known = text.lower(), dict[str, list[str]]()

    def lookup(self, name: str) -> list[str]:
        if name not in self._known:
            if len(self._known) >= 1000:
                self._known.clear()
            self._known[name] = hosts_lookup(self._text, name)
        return self._known[name]


class _Cached(Generic[T]):
    """A file, parsed again when it changes. One that is missing or can't be read is empty, as for the C library."""

    def __init__(self, path: Path, parse: Callable[[str], T]) -> None:
        self._path, self._parse = path, parse
        self._stamp: tuple[int, ...] | None = ()
        self._value = parse("")

    def value(self) -> T:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp != self._stamp:
                with self._path.open("rb") as f:
                    self._value = self._parse(f.read(MAX_FILE).decode(errors="replace"))
                self._stamp = stamp
        except OSError:
            self._value, self._stamp = self._parse(""), None
        return self._value


async def _end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def of_family(addresses: list[str], family: int) -> list[str]:
    """The addresses of a family, IPv4 first."""
    versions = {socket.AF_INET: (4,), socket.AF_INET6: (6,)}.get(socket.AddressFamily(family), (4, 6))
    parsed = [(found.version, a) for a in addresses if (found := sockets.parse_address(a))]
    return [a for version in versions for v, a in parsed if v == version]


def dns_query(name: str, type_: str, recursion: bool = True, edns: int = dns.EDNS_SIZE) -> dns.Query:
    """A query with an id that can't be guessed. Raises Failure("resolve") for what can't be a name."""
    query = dns.Query(int.from_bytes(os.urandom(2), "big"), name, type_, recursion, edns)
    try:
        query.pack()
    except dns.DnsError as e:
        raise Failure("resolve", str(e)) from None
    return query


async def ask(
    server: str,
    query: dns.Query,
    *,
    port: int = 53,
    source: str = "",
    transport: Transport = "udp",
    garbage: collections.Counter[str] | None = None,
) -> Reply:
    """Asks one server, over TCP when its UDP answer was cut off. Waits for ever: the caller sets the deadline.

    What comes and is no answer to the query is counted in `garbage` by one of a few texts. Raises Failure: refused, unreachable,
    reset, timeout, send.
    """
    garbage = collections.Counter() if garbage is None else garbage
    if transport == "tcp":
        return await _ask_tcp(server, query, port, source, garbage)
    reply = await _ask_udp(server, query, port, source, garbage)
    if not reply.message.truncated:
        return reply
    try:
        full = await _ask_tcp(server, query, port, source, garbage)
    except Failure as e:
        raise Failure(e.reason, f"{e.detail} (by TCP, as the answer by UDP was cut off)") from None
    return dataclasses.replace(full, seconds=reply.seconds + full.seconds, truncated=True)


async def _ask_udp(server: str, query: dns.Query, port: int, source: str, garbage: collections.Counter[str]) -> Reply:
    with contextlib.closing(sockets.open_socket(server, socket.SOCK_DGRAM, source)) as sock:
        _, remote = sockets.sockaddr(server, port)
        try:
            sock.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
            sock.connect(remote)  # the kernel now drops what others send, and tells of refusals; the source port is random
            stopwatch = Stopwatch()
            sock.send(query.pack())
            while True:
                await sockets.readable(sock)
                with contextlib.suppress(BlockingIOError):  # a datagram with a bad checksum wakes us, and is gone
                    data, ancillary, _, _ = sock.recvmsg(65535, 64)
                    if message := _answer(query, data, garbage):
                        return Reply(message, "udp", len(data), stopwatch.seconds(ancillary), truncated=False)
        except OSError as e:
            raise sockets.failure_from(e, server) from None


async def _ask_tcp(server: str, query: dns.Query, port: int, source: str, garbage: collections.Counter[str]) -> Reply:
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    with contextlib.closing(await sockets.connect(server, port, source)) as sock:
        try:
            packed = query.pack()
            await loop.sock_sendall(sock, len(packed).to_bytes(2, "big") + packed)
            while True:
                data = await _exactly(sock, int.from_bytes(await _exactly(sock, 2), "big"))
                if message := _answer(query, data, garbage):
                    return Reply(message, "tcp", len(data), time.monotonic() - started, truncated=False)
        except EOFError:
            raise Failure("reset", f"{server} closed the connection without an answer") from None
        except OSError as e:
            raise sockets.failure_from(e, server) from None


async def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = await asyncio.get_running_loop().sock_recv(sock, size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


def _answer(query: dns.Query, data: bytes, garbage: collections.Counter[str]) -> dns.Message | None:
    try:
        message = dns.parse(data)
    except dns.DnsError:
        garbage["malformed"] += 1
        return None
    wrong = dns.mismatch(query, message)
    if wrong:
        garbage[wrong] += 1
    return None if wrong else message


class Stopwatch:
    """Time from a send to the kernel's stamp of the reply, so that a busy loop or CPU never shows up as a slow server.

    While no other socket wants stamps (icmp's do all the time) the kernel starts them some milliseconds after ours asks; a reply that
    is quicker than that is stamped when it is read, which is the loop's own time.
    """

    def __init__(self) -> None:
        self._monotonic, self._wall = time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_REALTIME)

    def seconds(self, ancillary: list[tuple[int, int, bytes]]) -> float:
        """The kernel stamps with the wall clock: one that was set meanwhile is noticed, and the loop's own time taken."""
        elapsed = time.monotonic_ns() - self._monotonic
        for level, kind, data in ancillary:
            if (level, kind, len(data)) == (socket.SOL_SOCKET, _TIMESTAMPNS, _TIMESPEC.size):
                second, nano = _TIMESPEC.unpack(data)
                stamped = second * 10**9 + nano - self._wall
                elapsed = stamped if 0 < stamped <= elapsed else elapsed
        return elapsed / 1e9
