"""tcp: does a service take connections, and how long does that take?

    tcp: [{target: "mail.example.go.id:25"}, {target: "[2001:db8::5]:22", source: wan2, interval: 30s}]

Opens a connection and closes it again; nothing is sent. `target` is host:port; an IPv6 address stands in brackets; `gateway` is a
host as well. `family: ipv4` or `ipv6` keeps to one family. Of several addresses (IPv4 first) the next is tried where one refuses or
is unreachable at once; one that stays silent takes the rest of the timeout.

The connect phase is the kernel's own measure of the handshake, so a busy box never shows up as a slow service; where a packet of the
handshake had to be sent again there is none, and the time waited counts. When the probe fails the phases that ended are exposed.
"""

import asyncio
import dataclasses
import math
import re
import socket
import struct
import time
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from agent.collector import Env, Failure, Kind, ProbeConfig, Result, Seen, Traffic, failed, succeeded
from agent.model import Metric
from agent.net import family_of
from agent.structure import Scalar

PHASE = Metric(
    "ronda_tcp_phase_duration_seconds",
    "How long the phases of the last connection took: resolve (name to address) and connect (the handshake).",
    labels=("phase",),
)

_LINGER = 5  # seconds that the kernel waits for a server that doesn't close its side; the default is 60
_TCP_INFO = struct.Struct("=8B24I")  # struct tcp_info up to tcpi_total_retrans (linux/tcp.h)
_RTT, _TOTAL_RETRANS = 8 + 15, 8 + 23
# A connection is SYN, ACK, FIN, ACK from us and SYN-ACK, ACK, FIN from the server; IPv4, with time stamps
_SPENT, _SYN, _RST = Traffic(60 + 3 * 52, 60 + 2 * 52), 60, 40
_FAMILIES = {"auto": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


def split(target: str) -> tuple[str, int]:
    """`host:port`, `[address]:port` → host and port. Raises ValueError."""
    m = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\s/@?#\[\]:]{1,253})):(\d{1,5})", target, re.ASCII)
    if not m or not 0 < int(m[3]) < 65536:
        raise ValueError
    return m[1] or m[2], int(m[3])


def _host_port(text: str) -> str:
    split(text)
    return text


HostPort = Annotated[str, Scalar("a host and port", _host_port, "try mail.example.go.id:25, or [2001:db8::5]:22")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ProbeConfig):
    target: HostPort
    family: Literal["auto", "ipv4", "ipv6"] = "auto"


@dataclasses.dataclass(slots=True)
class Look:
    """One run as far as it came. Phases in seconds."""

    result: Result = Result("internal", "not tried")  # noqa: RUF009  (a NamedTuple is immutable)
    addresses: list[str] = dataclasses.field(default_factory=list)
    address: str = ""
    phases: dict[str, float] = dataclasses.field(default_factory=dict)
    retransmits: int = 0
    spent: Traffic = Traffic()  # noqa: RUF009  (as above)


class TcpCollector:
    def __init__(self, config: Config, env: Env) -> None:
        self.config, self.env = config, env

    async def collect(self) -> Iterable[Seen]:
        look = await self.look()
        return [*(PHASE(seconds, phase) for phase, seconds in look.phases.items()), look.result._replace(traffic=look.spent)]

    async def look(self) -> Look:
        """Resolves, connects, closes."""
        look = Look()
        try:
            async with asyncio.timeout(self.config.timeout):
                await self._connect(look)
            look.result = succeeded(sum(look.phases.values()))
        except Failure as e:
            look.result = failed(e.reason, e.detail)
        except TimeoutError:
            what = f"no answer from {look.address}" if look.address else "no address"
            look.result = failed("timeout", f"{what} within {self.config.timeout:g} s")
            look.spent = look.spent.plus(Traffic(_SYN * syns(self.config.timeout) if look.address else 0))
        return look

    async def _connect(self, look: Look) -> None:
        host, port = split(self.config.target)
        started = time.monotonic()
        look.addresses = await self.env.net.resolve(host, self._family())
        look.phases["resolve"] = time.monotonic() - started
        for address in look.addresses:
            look.address, started = address, time.monotonic()
            try:
                sock = await self.env.net.connect_socket(address, port, self.config.source)
            except Failure as e:
                look.spent = look.spent.plus(Traffic(_SYN, _RST if e.reason == "refused" else 0))
                if address == look.addresses[-1] or e.reason not in ("refused", "unreachable"):
                    raise
                continue
            look.phases["connect"], look.retransmits = handshake(sock, time.monotonic() - started)
            _close(sock)
            look.spent = look.spent.plus(_SPENT).plus(Traffic(_SYN * look.retransmits))
            return

    def _family(self) -> socket.AddressFamily:
        return _FAMILIES[self.config.family] or family_of(self.config.source)


def syns(seconds: float) -> int:
    """How many SYNs the kernel sends to who stays silent: at 0, 1, 3, 7, … s (RFC 6298 2)."""
    return max(1, math.ceil(math.log2(seconds + 1)))


def handshake(sock: socket.socket, waited: float) -> tuple[float, int]:
    """How long the handshake took and how many packets of it were sent again.

    The kernel takes no round-trip time of a SYN that it sent again (RFC 6298 3, Karn): then what the loop `waited` stands.
    """
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    fields = _TCP_INFO.unpack(info)
    rtt, retransmits = fields[_RTT] / 1e6, fields[_TOTAL_RETRANS]
    return (rtt if rtt and not retransmits else waited), retransmits


def _close(sock: socket.socket) -> None:
    """Says goodbye with a FIN. What the server said by now is read first: closing over unread bytes sends a reset (RFC 2525 2.17)."""
    with sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, _LINGER)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(65536)
        except OSError:  # nothing to read, or the server has hung up already: it did take the connection
            return


async def once(config: Config, env: Env) -> dict[str, Any]:
    """One connection in full."""
    look = await TcpCollector(config, env).look()
    return {
        "target": config.target,
        "ok": not look.result.reason,
        "reason": look.result.reason or None,
        "detail": look.result.detail or None,
        "address": look.address or None,
        "addresses": look.addresses,
        "phases": look.phases,
        "duration_seconds": look.result.seconds,
        "retransmits": look.retransmits,
    }


KIND = Kind(
    name="tcp",
    config=Config,
    metrics=(PHASE,),
    build=TcpCollector,
    probe=True,
    reasons=("resolve", "timeout", "refused", "unreachable", "reset", "send"),
    once=once,
)
