"""Looks what the office's router offers to everybody in the office: once a day, our own gateway only, as anybody there could.

    TCP      one connection each to 21 22 23 80 443 2000 8291 8728 8729, closed at once, nothing sent; 4 s apart, so that a router's
             detection of scans (RouterOS psd: 21 points within 3 s) has nothing to count
    SNMP     one GET of sysDescr (1.3.6.1.2.1.1.1.0) each in v2c and v1, with the community "public"

Law: no password and no other community is ever tried, no other address asked. Off with `active` False and while etc/ronda/no-probes is
there, as all probes; it is looked for before each packet. A look that couldn't be finished (the gateway isn't there) is told as
nothing: never as "closed". Answers are bytes of whoever is on the wire: bounded, and taken from the gateway's address only.
"""

import asyncio
import collections
import errno
import logging
import random
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

from agent.clock import Clock
from agent.detect import seen
from agent.detect.exposure import DAY, PORTS

log = logging.getLogger("ronda.capture")

SYSDESCR: Final = bytes.fromhex("06082b06010201010100")
VERSIONS: Final = {"2c": 1, "1": 0}
NO_WAY = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.ENODEV, errno.EPERM, errno.EACCES})


class Pace(NamedTuple):
    """Seconds. connect: longer than the kernel looks for a MAC (3 s), so that who isn't there shows as unreachable."""

    first: float = 300.0
    every: float = DAY
    between: float = 4.0
    connect: float = 4.0
    answer: float = 2.0


class Unfinished(Exception):  # noqa: N818  (an outcome)
    """It could not be looked, or not to the end."""


class Exposure:
    """`run` is the caller's to await as a task; what was found goes to `tell`. `allowed`: whether anything may be sent now."""

    def __init__(self, clock: Clock, allowed: Callable[[], bool], tell: Callable[[seen.Exposed], None], pace: Pace | None = None) -> None:
        self._clock, self._allowed, self._tell, self._pace = clock, allowed, tell, pace or Pace()
        self._dice: random.Random = random.SystemRandom()
        self._network: seen.Network | None = None
        self.sent: collections.Counter[str] = collections.Counter()

    def here(self, network: seen.Network) -> None:
        """Where this box stands now."""
        self._network = network

    async def run(self, age: float | None = None) -> None:
        """Looks until it is cancelled. `age`: seconds since an earlier life has looked; None: it never has."""
        wait = self._pace.first * self._dice.uniform(0.8, 1.2)
        if age is not None:
            wait = max(wait, self._pace.every - age)
        while True:
            await self._clock.sleep(wait)
            found = await self.look()
            # What wasn't finished is tried again within the hour: a router that restarts isn't one that offers nothing
            wait = self._pace.every * self._dice.uniform(0.95, 1.05) if found else min(self._pace.every, 3600.0)

    async def look(self) -> seen.Exposed | None:
        """One look; None: not allowed, no gateway, or not finished."""
        network = self._network
        gateway = _gateway(network)
        if network is None or not gateway:
            return None
        try:
            found = await self._look(network.device, gateway)
        except (Unfinished, OSError) as e:
            log.debug("what the gateway offers could not be looked at: %s", e)
            return None
        self._tell(found)
        return found

    async def _look(self, device: str, gateway: str) -> seen.Exposed:
        said = dict[int, bool | None]()
        for port in PORTS:
            self._check(gateway)
            said[port] = await self._connect(device, gateway, port)
            await self._clock.sleep(self._pace.between)
        snmp = ""
        for version in VERSIONS:
            self._check(gateway)
            if await self._public(device, gateway, version):
                snmp = version
                break
        return seen.Exposed(gateway, tuple(port for port, open_ in said.items() if open_), snmp)

    def _check(self, gateway: str) -> None:
        """Raises Unfinished where nothing may be sent any more, or where the box stands elsewhere now."""
        if not self._allowed() or _gateway(self._network) != gateway:
            raise Unfinished("no longer allowed, or no longer here")

    async def _connect(self, device: str, gateway: str, port: int) -> bool | None:
        """Whether it took a connection; None: it said nothing (a firewall drops it). Raises OSError: there is no way there."""
        self.sent["exposure"] += 1
        loop = asyncio.get_running_loop()
        with _socket(socket.SOCK_STREAM, device) as s:
            try:
                async with asyncio.timeout(self._pace.connect):
                    await loop.sock_connect(s, (gateway, port))
            except TimeoutError:
                return None
            except OSError as e:
                if e.errno in NO_WAY:
                    raise
                return False
        return True

    async def _public(self, device: str, gateway: str, version: str) -> bool:
        self.sent["exposure"] += 1
        loop, request = asyncio.get_running_loop(), self._dice.getrandbits(31)
        with _socket(socket.SOCK_DGRAM, device) as s:
            s.connect((gateway, 161))  # answers of other addresses never come to it
            try:
                await loop.sock_sendall(s, get_sysdescr(version, request))
                async with asyncio.timeout(self._pace.answer):
                    while not answers(await loop.sock_recv(s, 4096), version, request):
                        continue
            except (TimeoutError, ConnectionRefusedError):
                return False
        return True


def _gateway(network: seen.Network | None) -> str:
    """The one that is looked at: IPv4, as routers are looked after by it; "": none."""
    return next((gateway for gateway in network.gateways if ":" not in gateway), "") if network else ""


def _socket(kind: int, device: str) -> socket.socket:
    """An ordinary one on that device (no privilege since Linux 5.7). Raises OSError."""
    s = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    except OSError:
        s.close()
        raise
    return s


# -- SNMP, as far as this needs it (RFC 1157, RFC 3416; X.690) ----------------------------------------------------------------------


def _tlv(tag: int, value: bytes) -> bytes:
    """All of ours are shorter than 128 bytes."""
    return bytes([tag, len(value)]) + value


def _integer(value: int) -> bytes:
    return _tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _head(version: str) -> bytes:
    return _integer(VERSIONS[version]) + _tlv(4, b"public")


def get_sysdescr(version: str, request: int) -> bytes:
    """A GetRequest of sysDescr.0."""
    binding = _tlv(0x30, _tlv(0x30, SYSDESCR + _tlv(5, b"")))
    return _tlv(0x30, _head(version) + _tlv(0xA0, _integer(request) + _integer(0) + _integer(0) + binding))


def answers(data: bytes, version: str, request: int) -> bool:
    """Whether it is a response to that request, an error too: who says "no such name" has taken the community."""
    body = _value(data, 0x30)
    head = _head(version)
    if body is None or not body.startswith(head):
        return False
    pdu = _value(body[len(head) :], 0xA2)
    return pdu is not None and pdu.startswith(_integer(request))


def _value(data: bytes, tag: int) -> bytes | None:
    """The contents of the TLV at the beginning; None: it isn't of that tag, or cut."""
    if len(data) < 2 or data[0] != tag:
        return None
    length, start = data[1], 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 2:
            return None
        length, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    return data[start : start + length] if len(data) >= start + length else None
