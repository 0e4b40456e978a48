"""Events as syslog (RFC 5424) to one collector, over TCP with octet counting (RFC 6587) or TLS (RFC 5425): in order, until it has them.

Law: the cursor moves only when the collector's kernel has acknowledged the bytes (SIOCOUTQ is 0) on a connection that is still whole:
syslog itself acknowledges nothing. What was on the way when a connection broke is sent again. So an event may come twice, with the same
journal and seq; one is lost only if the collector dies with bytes that its kernel had taken and it had not read.

Whose events they are, and how far they have got, is the business of a Source: the box's journal, or the centre's store.
"""

import asyncio
import contextlib
import fcntl
import logging
import socket
import ssl
import struct
import termios
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from agent import sockets, tls
from agent.collector import Env, Failure, Traffic
from agent.config import Collector
from agent.delivery import pause
from agent.httpclient import MAX_ADDRESSES, SHAKEN, receive, send, traffic
from agent.journal import Journal
from agent.model import Metric, Sample
from agent.pseudonyms import Mask
from agent.tls import ClientTls
from agent.wire import rfc5424
from agent.wire.event import Entry

log = logging.getLogger("ronda.syslog")

EXIT = "syslog"
PEN = 32473  # the enterprise number of documentation (RFC 5612): Ronda has none of its own
FACILITY = 16  # local0
LATE = 60.0  # seconds between the event and its sending
LIMIT = 32 << 10  # bytes of events at a time
DEADLINE = 30.0  # seconds for a connection, and for the acknowledgement of what was sent
LOOK, LOOK_MAX = 0.01, 0.5  # seconds between looks at what the kernel still holds
MAX_MESSAGE = 8192 - 64  # bytes: receivers should take 8192 (RFC 5424 6.1), and rsyslog takes no more by default
MAX_VALUE = 500  # bytes of a field where the whole is too long
JUDGED_WITHIN = 1.0  # seconds that a collector has to refuse our certificate
ESTABLISHED = 1  # of TCP_INFO's state
GRACE = 0.2  # seconds that a collector has to read them: one that dies before it has resets the connection, and they count as not arrived
OFF_WITHIN = 1.0  # seconds of goodbye
KEEPALIVE = ((socket.TCP_KEEPIDLE, 600), (socket.TCP_KEEPINTVL, 60), (socket.TCP_KEEPCNT, 5))

BYTES = Metric("ronda_syslog_bytes_total", "Bytes of the way to the syslog collector as the kernel counts them.", "counter", ("direction",))
FAILURES = Metric("ronda_syslog_failures_total", "Times that the syslog collector could not be reached, or broke off.", "counter")
METRICS = (BYTES, FAILURES)


class Letter(NamedTuple):
    """An event of a site. number: what its source goes by."""

    number: int
    site: str
    journal: str
    entry: Entry


class Source(Protocol):
    def letters(self, limit: int) -> Sequence[Letter]:
        """The next that have not been sent, about `limit` bytes of them. May wait for the disk."""

    def sent(self, letters: Sequence[Letter]) -> None:
        """These were."""


class JournalSource:
    """This box's journal, masked."""

    def __init__(self, journal: Journal, mask: Mask) -> None:
        self._journal, self._mask = journal, mask

    def letters(self, limit: int) -> Sequence[Letter]:
        journal = self._journal
        found = journal.after(journal.cursor(EXIT), limit)
        return [Letter(entry.seq, journal.site, journal.id, self._mask(journal.placed(entry))) for entry in found]

    def sent(self, letters: Sequence[Letter]) -> None:
        self._journal.delivered(EXIT, letters[-1].journal, letters[-1].number, len(letters))


# -- a letter as a message ---------------------------------------------------------------------------------------------------------


def message(letter: Letter, now: float) -> bytes:
    """The event as RFC 5424; `now` is the true time. A message that is too long has its fields cut."""
    whole = _message(letter, now, 1 << 20)
    return whole if len(whole) <= MAX_MESSAGE else _message(letter, now, MAX_VALUE // (1 + len(whole) // (4 * MAX_MESSAGE)))


def _message(letter: Letter, now: float, most: int) -> bytes:
    entry, event = letter.entry, letter.entry.event
    about = {
        "seq": str(entry.seq), "journal": letter.journal, "count": str(event.count), "first": rfc5424.stamp(event.first_seen),
        "last": rfc5424.stamp(event.last_seen), "late": "yes" if now - event.last_seen > LATE else "",
        "unsure": "yes" if entry.unsure else "", "task": entry.task,
    }  # fmt: skip
    data = {f"ronda@{PEN}": [(name, _plain(value, most)) for name, value in about.items() if value]}
    for name, fields in (("labels", entry.labels), ("fields", event.fields)):
        if fields:
            data[f"{name}@{PEN}"] = [(key, _plain(value, most)) for key, value in fields.items()]
    severity = rfc5424.SEVERITIES[event.severity]
    text = _plain(event.message, 4 * most)
    return rfc5424.encode(rfc5424.Message(FACILITY, severity, event.last_seen, letter.site, "ronda", "-", event.kind, data, text))


def _plain(text: str, most: int) -> str:
    """Without control characters, which collectors write in their own ways (RFC 5424 6.3.3, 6.4), and not too long."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= most else text[:most] + "…"


# -- the exit ----------------------------------------------------------------------------------------------------------------------


class Syslog:
    """Sends what its source has. `now` gives the true time as far as anybody knows it; `problem` says why nothing leaves."""

    def __init__(self, env: Env, collector: Collector, trust: ClientTls, source: Source, now: Callable[[], float]) -> None:
        self._env, self.collector, self._trust, self._source, self._now = env, collector, trust, source, now
        self._sock: socket.socket | None = None
        self._wake = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._closing = False
        self._failed = 0
        self.failures = 0
        self.bytes = Traffic()
        self.problem = ""

    def start(self) -> None:
        self._running = asyncio.ensure_future(self._run())

    def wake(self) -> None:
        """There is news, or the way may be open again."""
        self._wake.set()

    async def close(self) -> None:
        """Lets what is on the way be acknowledged, for a second."""
        self._closing = True
        self._wake.set()
        if self._running:
            if not self.problem:
                await asyncio.wait([self._running], timeout=OFF_WITHIN)
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        self._hang_up()

    @property
    def _traffic(self) -> Traffic:
        return self.bytes.plus(traffic(self._sock)) if self._sock else self.bytes

    @property
    def spent(self) -> float:
        """Bytes on the way to the collector so far, both ways."""
        return float(sum(self._traffic))

    def samples(self) -> Iterator[Sample]:
        spent = self._traffic
        yield BYTES(spent.sent, "sent")
        yield BYTES(spent.received, "received")
        yield FAILURES(self.failures)

    async def _run(self) -> None:
        while not self._closing:
            try:
                await self._turn()
            except TimeoutError as e:
                await self._stumble(str(e) or self._slow())
            except (Failure, OSError) as e:
                await self._stumble(str(e))
            except Exception:
                log.exception("syslog failed in a way that nobody foresaw")
                await self._stumble("an error of Ronda's own; it is in the log")

    def _slow(self) -> str:
        """What a time that is over may mean."""
        if self._sock is None:
            return "no connection in time" + (" (does it speak TLS on this port?)" if self.collector.tls else "")
        hint = " (does it want a client certificate, tls.cert_file?)" if self.collector.tls and not self._trust.cert_file else ""
        return f"it did not take them in time{hint}"

    async def _turn(self) -> None:
        if not self._closing:
            self._wake.clear()
        letters = await asyncio.to_thread(self._source.letters, LIMIT)
        if not letters:
            await self._idle()
            return
        now = self._now()
        data = b"".join(rfc5424.frame(message(letter, now)) for letter in letters)
        async with asyncio.timeout(DEADLINE):
            sock = self._sock = self._sock or await self._open()
            await send(sock, data)
            await self._acknowledged(sock)
        self._source.sent(letters)
        if self.problem:
            log.warning("%s takes events again", self.collector)
        self._failed, self.problem = 0, ""

    async def _idle(self) -> None:
        """Until there is news. A collector that closes meanwhile is noticed, so that nothing is sent into a dead connection."""
        woken = asyncio.ensure_future(self._wake.wait())
        closed = asyncio.ensure_future(self._closed(self._sock)) if self._sock else None
        try:
            await asyncio.wait([woken, closed] if closed else [woken], return_when=asyncio.FIRST_COMPLETED)
            if closed and closed.done():
                self._hang_up()
        finally:
            for waiting in (woken, closed):
                if waiting:
                    waiting.cancel()
                    await asyncio.gather(waiting, return_exceptions=True)

    async def _closed(self, sock: socket.socket) -> None:
        """Returns when the peer has closed. What it says otherwise (TLS tickets) is read and let go."""
        with contextlib.suppress(OSError):
            while await receive(sock):
                pass

    async def _stumble(self, why: str) -> None:
        self._hang_up(forget=True)
        self._failed += 1
        self.failures += 1
        said = f"events do not reach {self.collector}: {why}; they are kept"
        if said != self.problem:
            log.warning("%s", said)
        self.problem = said
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause("syslog", self._failed)):
                await self._wake.wait()
                await asyncio.sleep(1.0)  # news comes in crowds

    # -- the connection --

    async def _open(self) -> socket.socket:
        """Raises Failure; OSError when a certificate of ours can't be read."""
        to = self.collector
        addresses = (await self._env.net.resolve(to.host))[:MAX_ADDRESSES]
        for i, address in enumerate(addresses):
            try:
                sock = await self._env.net.connect_socket(address, to.port)
                break
            except Failure as e:
                if i == len(addresses) - 1 or e.reason not in ("refused", "unreachable"):
                    raise
        else:
            raise Failure("resolve", f"{to.host} has no address")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        if not to.tls:
            return sock
        try:
            context = tls.client_context(self._trust, self._env.root)
        except BaseException:
            sock.close()
            raise
        try:
            secure = await tls.handshake(sock, context, self._trust.server_name or to.host)
        except BaseException:
            self.bytes = self.bytes.plus(SHAKEN)
            raise
        if self._trust.cert_file and secure.version() == "TLSv1.3":
            await self._judged(secure)
        return secure

    async def _judged(self, sock: ssl.SSLSocket) -> None:
        """TLS 1.3 lets us speak before the peer has judged our certificate: a ticket or an alert tells. Raises Failure."""
        try:
            async with asyncio.timeout(JUDGED_WITHIN):
                await sockets.readable(sock)
            self._whole(sock)
        except TimeoutError:  # neither: some servers give no tickets
            return
        except BaseException:
            self.bytes = self.bytes.plus(traffic(sock))
            sock.close()
            raise

    async def _acknowledged(self, sock: socket.socket) -> None:
        """Returns once the peer's kernel has all that was sent. Raises Failure when the connection is no longer whole then."""
        wait = LOOK
        while _unacknowledged(sock):
            await self._env.clock.sleep(wait)
            wait = min(wait * 2, LOOK_MAX)
        await self._env.clock.sleep(GRACE)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise sockets.failure_from(OSError(error, ""), str(self.collector))
        if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != ESTABLISHED:
            raise Failure("reset", "the connection was closed before it was clear what had come")
        if isinstance(sock, ssl.SSLSocket):
            self._whole(sock)

    def _whole(self, sock: ssl.SSLSocket) -> None:
        """Reads what has come. Raises Failure where that is the end, or an alert."""
        try:
            if not sock.recv(4096):
                raise Failure("reset", "the connection was closed before it was clear what had come")
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as e:
            raise tls.failure_from(e, str(self.collector)) from None

    def _hang_up(self, *, forget: bool = False) -> None:
        """`forget`: what the kernel still holds is let go, or it would send in its own time what we send again."""
        if self._sock:
            self.bytes = self.bytes.plus(traffic(self._sock))
            if forget:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif isinstance(self._sock, ssl.SSLSocket):
                with contextlib.suppress(OSError, ValueError):  # close_notify (RFC 5425 4.4); its answer is not waited for
                    self._sock.unwrap()
            self._sock.close()
            self._sock = None


def _unacknowledged(sock: socket.socket) -> int:
    """Bytes that the peer's kernel has not acknowledged: SIOCOUTQ of tcp(7), which is TIOCOUTQ. Raises OSError."""
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
