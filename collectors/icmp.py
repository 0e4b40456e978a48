"""icmp: does a target answer pings, how fast, and how many are lost?

    icmp: [{target: gateway}, {target: 203.0.113.10, interval: 1s, timeout: 5s, source: wan2, labels: {role: anchor}}]

`target` is a name, an address, or `gateway` for the default gateway of the moment. `family: ipv4` or `ipv6` keeps to one family; `size`
is the payload in bytes. Names are looked up again every minute; while that fails the old address goes on.

Each run sends one packet and waits until the target answers anything, at most about an interval: a reply to an earlier packet shows as
well that the target is reached, so a link with a round-trip time above the interval is slow, not down. What becomes of each packet is
counted apart from that. A packet answered within `timeout` is fine; answered up to 5 s after that it is late, which is not lost; lost
is what had no answer by then. So losses are counted `timeout` + 5 s after the sending, and each packet is in the end one of the three.
The round-trip time is the kernel's own measure from device to device; lost packets have none. A reply that came cut short, but
with our cookie, counts: some hosts shorten what they echo.

What this box could not send is counted in ronda_icmp_send_errors_total, never as sent or lost. Where it had no way at all to
the target (no route, the interface is down) the probe fails as `unreachable`, as for the other kinds: from here the target can't
be reached, and the link kind tells why. All other trouble of our own (`send`) says nothing of the target.
"""

import asyncio
import collections
import dataclasses
import socket
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal

from agent import sockets
from agent.collector import Env, Failure, Kind, ProbeConfig, Result, Seen, Traffic, failed, succeeded
from agent.model import Histogram, Metric
from agent.net import family_of, parse_address
from agent.ping import MIN_SIZE, Line, Packet, Pinger, moment
from agent.structure import Duration, Scalar
from agent.wire.icmp import MAX_PAYLOAD

SENT = Metric("ronda_icmp_packets_sent_total", "Echo requests that left this box.", "counter")
LOST = Metric("ronda_icmp_packets_lost_total", "Echo requests that had no answer within the timeout and 5 s more.", "counter")
LATE = Metric("ronda_icmp_packets_late_total", "Echo requests answered after the timeout, but within 5 s more; not lost.", "counter")
DUPLICATE = Metric("ronda_icmp_packets_duplicate_total", "Further replies to requests that were answered already.", "counter")
SEND_ERRORS = Metric("ronda_icmp_send_errors_total", "Echo requests that this box could not send; not the target's fault.", "counter")
RTT = Metric("ronda_icmp_rtt_seconds", "Round-trip time, late replies included, by the kernel's stamps.", "histogram")
JITTER = Metric("ronda_icmp_jitter_seconds", "How much the round-trip time varies from packet to packet, smoothed as in RFC 3550.")
HOP_LIMIT = Metric("ronda_icmp_reply_hop_limit", "Hop limit (TTL) of the last reply; a change means another way or another host.")

LATE_WINDOW = 5.0  # seconds after the timeout in which a reply is late rather than never
PATIENCE = 0.9  # of the interval: a run has ended when the next one is due
REFRESH, REFRESH_GATEWAY = 60.0, 5.0  # seconds between look-ups of a name, and of the default gateway (which only reads proc/)
RTT_BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.6, 1.0, 2.0, 5.0)
_FAMILIES = {"auto": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


def _size(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not MIN_SIZE <= int(text[:9]) <= MAX_PAYLOAD:
        raise ValueError
    return int(text)


PayloadSize = Annotated[int, Scalar("a payload size", _size, f"bytes, {MIN_SIZE} to {MAX_PAYLOAD}; try 56")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ProbeConfig):
    interval: Duration = 1.0
    timeout: Duration = 5.0
    overlapping: ClassVar[bool] = True
    shortest: ClassVar[float] = 0.01
    size: PayloadSize = 56
    family: Literal["auto", "ipv4", "ipv6"] = "auto"

    def problems(self) -> Iterable[tuple[str, str]]:
        yield from super().problems()
        if self.timeout > 60:
            yield "timeout", "must not be longer than 60s"
        wanted, own = _FAMILIES[self.family], family_of(self.source)
        if wanted and own and wanted != own:
            yield "source", f"is not of the family {self.family}"

    @property
    def patience(self) -> float:
        """Seconds that a run waits: it must have ended when the next one is due, or a dead target would be pinged less often."""
        return min(self.timeout, PATIENCE * self.interval)

    def identity(self) -> str:
        return super().identity() + ("" if self.family == "auto" else f"/{self.family}")

    @property
    def address_family(self) -> socket.AddressFamily:
        """What targets must be of; AF_UNSPEC: whatever the name has."""
        return _FAMILIES[self.family] or family_of(self.source)


class Address:
    """The address that a target has now: looked up in the background, kept while no look-up succeeds."""

    def __init__(self, env: Env, target: str, family: socket.AddressFamily) -> None:
        self._env, self._target, self._family = env, target, family
        self._literal = parse_address(target) is not None
        self._every = REFRESH_GATEWAY if target == "gateway" else REFRESH
        self._address = ""
        self._failure = Failure("resolve", f"no address of {target} yet")
        self._due = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    async def current(self, patience: float) -> str:
        """The address; waits `patience` seconds for the very first one. Raises Failure where there has never been one."""
        if self._looking is None and self._env.clock.monotonic() >= self._due:
            self._looking = asyncio.ensure_future(self._look())
        if self._looking is not None and not self._address:
            await asyncio.wait({self._looking}, timeout=patience)
        if self._looking is not None and self._looking.done():
            done, self._looking = self._looking, None
            done.result()  # a look-up that broke, rather than found nothing, is told here
        if not self._address:
            raise self._failure
        return self._address

    async def _look(self) -> None:
        try:
            found = await self._env.net.resolve(self._target, self._family)
            if self._address not in found:  # a name that gives all its addresses in turn doesn't move us about
                self._address = found[0]
        except Failure as e:
            self._failure = e
        now = self._env.clock.monotonic()
        self._due = now if not self._address else float("inf") if self._literal else now + self._every

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)


class Tally:
    """The counters of a target; times in seconds."""

    def __init__(self) -> None:
        self.sent = self.lost = self.late = self.duplicate = self.send_errors = 0
        self.rtt = Histogram(RTT, RTT_BOUNDS)
        self.jitter: float | None = None
        self.hop_limit: int | None = None
        self._last: float | None = None

    def answered(self, rtt: float, hop_limit: int | None, *, late: bool) -> None:
        self.rtt.observe(rtt)
        self.late += late
        self.hop_limit = hop_limit
        if self._last is not None:  # RFC 3550 6.4.1, with round-trip times for transit times
            self.jitter = (self.jitter or 0.0) + (abs(rtt - self._last) - (self.jitter or 0.0)) / 16
        self._last = rtt

    def samples(self) -> Iterable[Seen]:
        yield SENT(self.sent)
        yield LOST(self.lost)
        yield LATE(self.late)
        yield DUPLICATE(self.duplicate)
        yield SEND_ERRORS(self.send_errors)
        yield from self.rtt.samples()
        if self.jitter is not None:
            yield JITTER(self.jitter)
        if self.hop_limit is not None:
            yield HOP_LIMIT(self.hop_limit)


class IcmpCollector:
    """Pings one target. The packets in flight outlive a run."""

    def __init__(self, config: Config, env: Env) -> None:
        self.config, self.env = config, env
        self.tally = Tally()
        self._address = Address(env, config.target, config.address_family)
        self._pinger = Pinger.shared(env.net)
        self._line: Line | None = None
        self._to: tuple[str, tuple[Any, ...]] = ("", ())  # an address, and the same as a socket address
        self._flight: collections.deque[Packet] = collections.deque()  # as sent
        self._news: asyncio.Future[None] | None = None  # what a run waits for
        self._spent = Traffic()  # since the last run ended
        self._answer: Packet | None = None  # the last one answered since then
        self._refusal = ""

    async def collect(self) -> Iterable[Seen]:
        try:
            result = await self._run()
        except Failure as e:
            result = failed(e.reason, e.detail)
        finally:
            self._answer, self._refusal = None, ""
        spent, self._spent = self._spent, Traffic()
        return [*self.tally.samples(), result._replace(traffic=spent)]

    def paced(self, interval: float) -> None:
        """Looked at less often, it has longer to answer."""
        self.config = dataclasses.replace(self.config, interval=interval)

    async def _run(self) -> Result:
        patience = self.config.patience
        deadline = self.env.clock.monotonic() + patience
        self.expire()
        host = await self._address.current(patience)
        await self._wait(self.send(host), deadline)
        if self._answer is None and self._line:  # the loop may have been busy: what has come by now counts
            self._line.poll()
        if self._answer is not None and self._answer.rtt is not None:
            return succeeded(self._answer.rtt / 1e9)
        if self._refusal:
            return failed("unreachable", f"{host}: {self._refusal}")
        return failed("timeout", f"no answer from {host} within {patience:g} s")

    async def _wait(self, packet: Packet, deadline: float) -> None:
        """Until a reply comes, or an ICMP error about this very packet, or the deadline."""
        if packet.replies or packet.refusal:
            return
        self._news = asyncio.get_running_loop().create_future()
        alarm = self.env.clock.call_at(deadline, self._wake)
        try:
            await self._news
        finally:
            alarm.cancel()
            self._news = None

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def answered(self, packet: Packet) -> None:
        """A reply, from the line."""
        self._spent = self._spent.plus(Traffic(received=self._size))
        if packet.replies > 1:
            self.tally.duplicate += 1
            return
        if packet.rtt is not None:
            rtt = packet.rtt / 1e9
            self.tally.answered(rtt, packet.hops, late=rtt > self.config.timeout)
        self._answer = packet
        self._wake()

    def refused(self, packet: Packet) -> None:
        """An ICMP error, from the line. Only the newest packet's ends a run: an older one's may come after the target is back."""
        self._refusal = packet.refusal
        if self._flight and packet is self._flight[-1]:
            self._wake()

    def send(self, host: str) -> Packet:
        """Sends one packet. Raises Failure, after counting it, when this box could not."""
        try:
            line, address = self._way(host)
            packet = line.send(self, address, self.config.size)
        except Failure:
            self.tally.send_errors += 1
            self._to = ("", ())  # a %zone is a number there, and another one once its interface was made anew
            raise
        self.tally.sent += 1
        self._spent = self._spent.plus(Traffic(sent=self._size))
        self._flight.append(packet)
        return packet

    @property
    def _size(self) -> int:
        """Bytes of a packet with its headers."""
        return self.config.size + (48 if ":" in self._to[0] else 28)

    def _way(self, host: str) -> tuple[Line, tuple[Any, ...]]:
        """The line to an address, and its socket address; changes line when the address is of the other family."""
        if self._to[0] != host or self._line is None:
            family, address = sockets.sockaddr(host, 0)
            if self._line is None or self._line.family != family:
                self._let_go()
                self._line = self._pinger.line(family, self.config.source)
            self._to = host, address
        return self._line, self._to[1]

    def expire(self) -> None:
        """Forgets the packets whose time is over and counts those without an answer as lost."""
        over = moment().mono - round((self.config.timeout + LATE_WINDOW) * 1e9)
        polled = False
        while self._flight and self._flight[0].sent.mono < over and self._line:
            packet = self._flight[0]
            if not packet.replies and not polled:  # unread is not unanswered
                polled = self._line.poll() == 0
                continue
            self._flight.popleft()
            self._line.forget(packet)
            self.tally.lost += not packet.replies and not packet.void

    def _let_go(self) -> None:
        """Gives the line back; what is in flight on it is neither answered nor lost."""
        if self._line is not None:
            for packet in self._flight:
                self._line.forget(packet)
            self._flight.clear()
            self._pinger.release(self._line)
            self._line = None

    async def close(self) -> None:
        self._let_go()
        await self._address.close()

    # -- one look in full -----------------------------------------------------------------------------------------------

    async def survey(self, count: int, interval: float, progress: Callable[[str], None]) -> dict[str, Any]:
        """Sends `count` packets and waits for their replies: `timeout` after the last, and longer where replies have been late."""
        host = await self._address.current(self.config.timeout)
        packets: list[Packet | tuple[float, Failure]] = []
        began = self.env.clock.monotonic()
        for n in range(count):
            await self.env.clock.sleep(max(0.0, began + n * interval - self.env.clock.monotonic()))
            self.expire()
            try:
                packets.append(self.send(host))
            except Failure as e:
                packets.append((self.env.clock.now(), e))
            progress(f"{n + 1}/{count} sent, {self.tally.rtt.count} answered")
        await self._linger()
        return _report(self.config, host, packets, self.tally)

    async def _linger(self) -> None:
        ended = self.env.clock.monotonic()
        while any(not p.replies and not p.void for p in self._flight):
            left = ended + self.config.timeout + (LATE_WINDOW if self.tally.late else 0.0) - self.env.clock.monotonic()
            if left <= 0:
                return
            await self.env.clock.sleep(min(left, 0.02))


def _state(packet: Packet, timeout: float) -> str:
    if packet.void:
        return "send_error"
    if packet.rtt is None:
        return "lost"
    if packet.replies > 1:
        return "duplicate"
    return "late" if packet.rtt / 1e9 > timeout else "ok"


def _report(config: Config, host: str, packets: Sequence[Packet | tuple[float, Failure]], tally: Tally) -> dict[str, Any]:
    """What `ronda once icmp` prints. A packet answered more than once is `duplicate`, with the time of its first reply."""
    rows: list[dict[str, Any]] = []
    reason = detail = ""
    for seq, packet in enumerate(packets):
        if isinstance(packet, Packet):
            sent_at, state = (packet.stamp or packet.sent.wall) / 1e9, _state(packet, config.timeout)
            rtt = None if packet.rtt is None else packet.rtt / 1e9
            if packet.refusal:
                reason, detail = "unreachable", packet.refusal
        else:
            sent_at, rtt, state = packet[0], None, "send_error"
            reason, detail = packet[1].reason, packet[1].detail
        rows.append({"seq": seq, "sent_at": sent_at, "rtt_seconds": rtt, "state": state})
    rtts = sorted(r["rtt_seconds"] for r in rows if r["rtt_seconds"] is not None)
    states = collections.Counter(r["state"] for r in rows)
    sent = len(rows) - states["send_error"]
    return {
        "target": config.target,
        "ok": bool(rtts),
        "reason": None if rtts else reason or "timeout",
        "detail": detail or None,
        "address": host,
        "packets": rows,
        "sent": sent,
        "received": len(rtts),
        "lost": states["lost"],
        "late": states["late"],
        "duplicates": tally.duplicate,
        "send_errors": states["send_error"],
        "loss_ratio": states["lost"] / sent if sent else None,
        "rtt_seconds": _summary(rtts),
        "jitter_seconds": tally.jitter,
    }


def _summary(rtts: Sequence[float]) -> dict[str, float | None]:
    """Of ascending times. p99 by nearest rank."""
    if not rtts:
        return dict.fromkeys(("min", "median", "p99", "max"))
    p99 = rtts[-(-99 * len(rtts) // 100) - 1]
    return {"min": rtts[0], "median": statistics.median(rtts), "p99": p99, "max": rtts[-1]}


async def once(
    config: Config, env: Env, count: int = 3, interval: float = 1.0, progress: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """`count` pings, one every `interval` seconds, packet by packet (design: `ronda once icmp`)."""
    collector = IcmpCollector(config, env)
    try:
        return await collector.survey(count, interval, progress or (lambda _: None))
    except Failure as e:
        return {"target": config.target, "ok": False, "reason": e.reason, "detail": e.detail, "address": None, "packets": []}
    finally:
        await collector.close()


KIND = Kind(
    name="icmp",
    config=Config,
    metrics=(SENT, LOST, LATE, DUPLICATE, SEND_ERRORS, RTT, JITTER, HOP_LIMIT),
    build=IcmpCollector,
    probe=True,
    reasons=("resolve", "timeout", "unreachable", "send"),
    once=once,
)
