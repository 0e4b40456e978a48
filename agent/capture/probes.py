"""The active probes: a fixed list, each within its rate, and one switch for all of them.

    what          how                                                        how often
    DHCP          one DISCOVER, never a REQUEST, so no lease is taken         every 5 min ± 20 %; asked for: 30 s apart at the least
    ARP           three probes 1 s apart for an address of the own networks   asked for only: 4 at once, then one every 15 s
    canary        a name that can't exist, by LLMNR, NBNS and mDNS;           every 60 s ± 5 s; asked for: 10 s apart at the least
                  when somebody answers, another name
    the gateway   what it offers to the office (agent/capture/exposure.py)    once a day: nine TCP ports, 4 s apart, and SNMP

Law: nothing else is ever sent from here; nobody's table is changed, no lease is used, no name is claimed. All stops, the wished for ones
too, with `active` False or when the file etc/ronda/no-probes is there; it is looked for before each. "I could not ask" is told as nothing:
never as a probe that nobody answered.

DHCP goes out from our card's own MAC (ports that allow one MAC, and access points, would refuse another) but in the name of a client MAC of
its own, which begins with seen.RONDA_MAC: by it a Ronda knows another one's, and an admin sees "ronda-probe" in the router's list.
"""

import asyncio
import collections
import hashlib
import ipaddress
import logging
import os
import random
import socket
import string
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from agent.bucket import Bucket
from agent.clock import Clock
from agent.detect import seen
from agent.detect.model import Ask
from agent.wire import dhcp, frame, names
from agent.wire.names import NamesError

log = logging.getLogger("ronda.capture")

SWITCH = Path("etc/ronda/no-probes")  # below Env.root
HOSTNAME = "ronda-probe"
MOST_OFFERS, MOST_ANSWERS, MOST_FRAMES, MOST_WISHES = 16, 8, 4, 16
ARP_PROBES = 3  # RFC 5227 1.1 PROBE_NUM
GROUPS: dict[str, tuple[str, int, int]] = {"llmnr": ("224.0.0.252", 5355, 1), "mdns": ("224.0.0.251", 5353, 255), "nbns": ("", 137, 64)}
PROTOCOLS: tuple[names.Protocol, ...] = ("llmnr", "nbns", "mdns")
# As people and systems name machines; what follows is chance, so the name is nobody's
HEADS = ("DESKTOP-", "LAPTOP-", "PC-", "SRV-", "PRN-", "NAS-", "WIN-")


class Pace(NamedTuple):
    """How often, and for how long answers are awaited; seconds."""

    dhcp: float = 300.0
    canary: float = 60.0
    offers: float = 6.0  # servers first ping the address that they will offer
    answers: float = 2.0
    arp: float = 1.0  # between two, RFC 5227 1.1
    dhcp_asked: float = 30.0
    canary_asked: float = 10.0
    arp_asked: float = 15.0


PACE = Pace()


class Sender(Protocol):
    """The capture's reader."""

    def send(self, frame: bytes) -> None:
        """Raises OSError."""
        ...

    def expect(self) -> None: ...


def probe_mac(mac: str) -> str:
    """The client MAC of this box's DHCP probes: locally administered, always the same, and not the card's own."""
    return f"{seen.RONDA_MAC}:{hashlib.sha256(mac.encode()).digest()[:2].hex(':')}"


def plausible(dice: random.Random) -> str:
    """A machine's name that nobody has: names that are too plainly random, or always the same, are known to poisoners and passed over."""
    head = dice.choice(HEADS)
    return head + "".join(dice.choices(string.ascii_uppercase + string.digits, k=15 - len(head)))


class Probes:
    """`run` is the caller's to await as a task; `heard` is to be given everything that the capture reads; what was found goes to `tell`."""

    def __init__(
        self, sender: Sender, clock: Clock, root: Path, tell: Callable[[seen.Observation], None], active: bool = True, pace: Pace = PACE
    ) -> None:
        self._sender, self._clock, self._tell, self._active, self._pace = sender, clock, tell, active, pace
        self._switch = str(root / SWITCH)
        self._dice: random.Random = random.SystemRandom()
        self._network: seen.Network | None = None
        self._offers = _Open()
        self._claims = _Open()
        self._answers = _Open()
        self._wishes: dict[str, asyncio.Event] = {"dhcp": asyncio.Event(), "canary": asyncio.Event()}
        self._targets: collections.deque[str] = collections.deque(maxlen=MOST_WISHES)
        self._target_there = asyncio.Event()
        self.sent: collections.Counter[str] = collections.Counter()
        self.failed: collections.Counter[str] = collections.Counter()  # could not be sent

    @property
    def allowed(self) -> bool:
        """Whether anything may be sent now."""
        if not self._active:
            return False
        try:
            os.stat(self._switch)  # noqa: PTH116  (each second: a Path costs more than the look)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # it can't be told: then not
            pass
        return False

    def here(self, network: seen.Network) -> None:
        """Where this box stands now."""
        self._network = network

    def heard(self, observation: seen.Observation) -> None:
        """What the capture has read, answers among it."""
        if isinstance(observation, seen.Dhcp):
            if observation.type == "offer":
                self._offers.take(f"{observation.xid} {observation.client_mac}", observation)
        elif isinstance(observation, seen.Arp):
            if observation.frame.direction != "out":
                self._claims.take(observation.sender, observation)
        elif isinstance(observation, seen.NameAnswer) and observation.frame.direction != "out":
            self._answers.take(f"{observation.protocol} {observation.name.casefold()}", observation)

    def ask(self, wish: Ask) -> None:
        """A detector's wish: granted when it is its turn."""
        if wish.probe == "arp":
            if wish.target not in self._targets:
                self._targets.append(wish.target)
            self._target_there.set()
        else:
            self._wishes[wish.probe].set()

    async def run(self) -> None:
        """Probes until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._regularly("dhcp", self.dhcp, self._pace.dhcp, self._pace.dhcp / 5, self._pace.dhcp_asked))
            group.create_task(self._regularly("canary", self.canary, self._pace.canary, self._pace.canary / 12, self._pace.canary_asked))
            group.create_task(self._grant_arp())

    async def _regularly(self, what: str, probe: Callable[[], Awaitable[object]], every: float, splay: float, least: float) -> None:
        wished = self._wishes[what]
        await self._clock.sleep(min(least, every) * self._dice.random())  # boxes that power came back to don't all ask at once
        while True:
            wished.clear()
            await probe()
            await self._clock.sleep(least)
            try:
                async with asyncio.timeout(max(0.0, every - least + self._dice.uniform(-splay, splay))):
                    await wished.wait()
            except TimeoutError:
                continue

    async def _grant_arp(self) -> None:
        bucket = Bucket(4, self._pace.arp_asked, self._clock.monotonic())
        while True:
            while not self._targets:
                self._target_there.clear()
                await self._target_there.wait()
            while wait := bucket.take(self._clock.monotonic()):
                await self._clock.sleep(wait)
            await self.arp(self._targets.popleft())

    def _ready(self) -> seen.Network | None:
        return self._network if self.allowed else None

    def _could_not(self, what: str, why: Exception) -> None:
        self.failed[what] += 1
        log.debug("the %s probe could not be sent: %s", what, why)

    # -- DHCP ----------------------------------------------------------------------------------------------------------------------

    async def dhcp(self) -> seen.DhcpProbe | None:
        """One DISCOVER and the offers for it; None: not asked."""
        network = self._ready()
        if network is None:
            return None
        xid, mac = self._dice.getrandbits(32), probe_mac(network.mac)
        with self._offers.of(f"{xid} {mac}") as offers:
            try:
                whole = dhcp.discover(mac, xid, HOSTNAME)
                self._sender.send(whole[:6] + frame.packed_mac(network.mac) + whole[12:])
            except (OSError, dhcp.DhcpError, frame.FrameError) as e:
                self._could_not("dhcp", e)
                return None
            self.sent["dhcp"] += 1
            await self._clock.sleep(self._pace.offers)
            found = seen.DhcpProbe(xid, tuple(o for o in offers[:MOST_OFFERS] if isinstance(o, seen.Dhcp)))
        self._tell(found)
        return found

    # -- ARP -----------------------------------------------------------------------------------------------------------------------

    async def arp(self, target: str) -> seen.ArpProbe | None:
        """Three probes for an address of our own networks, and which others answer; for our own too, as RFC 5227 lets its owner look who
        else has it. None: not asked.
        """
        network = self._ready()
        if network is None or not _within(target, network.networks):
            return None
        with self._claims.of(target) as claims:
            try:
                for _ in range(ARP_PROBES):
                    self._sender.send(frame.arp_probe(network.mac, target))
                    self.sent["arp"] += 1
                    await self._clock.sleep(self._pace.arp)
            except (OSError, frame.FrameError) as e:
                self._could_not("arp", e)
                return None
            said = [c for c in claims if isinstance(c, seen.Arp) and c.sender_mac != network.mac]
        macs = tuple(dict.fromkeys(c.sender_mac for c in said))
        found = seen.ArpProbe(target, macs, tuple(c.frame for c in said[:MOST_FRAMES]))
        self._tell(found)
        return found

    # -- canary --------------------------------------------------------------------------------------------------------------------

    async def canary(self) -> list[seen.Canary]:
        """One name by each protocol; where it is answered, at once another name: a poisoner answers that too."""
        found: list[seen.Canary] = []
        for protocol in PROTOCOLS:
            for _ in range(2):
                one = await self._question(protocol)
                found += [one] if one else []
                if one is None or not one.answered:
                    break
        return found

    async def _question(self, protocol: names.Protocol) -> seen.Canary | None:
        network = self._ready()
        to = _everybody(protocol, network) if network else None
        if network is None or to is None:
            return None
        name = plausible(self._dice) + (".local" if protocol == "mdns" else "")
        with self._answers.of(f"{protocol} {name.casefold()}") as captured:
            try:
                with _ordinary(network.device, to) as s:
                    s.sendto(_query(protocol, name, self._dice.getrandbits(16)), (to.group, to.port))
                    self.sent[protocol] += 1
                    self._sender.expect()
                    await self._clock.sleep(self._pace.answers)
                    said = [address for data, address in _received(s) if _answers(protocol, name, data)]
            except (OSError, NamesError) as e:
                self._could_not(protocol, e)
                return None
            macs = {c.source: c.frame.source for c in captured if isinstance(c, seen.NameAnswer) and c.addresses}
        who = list(dict.fromkeys([*said, *macs]))[:MOST_ANSWERS]
        canary = seen.Canary(protocol, name, tuple((address, macs.get(address, "")) for address in who))
        self._tell(canary)
        return canary


class _Open:
    """Questions that are open now, and what was heard for each; what nobody asked for is not kept."""

    def __init__(self) -> None:
        self._heard: dict[str, list[seen.Observation]] = {}

    def take(self, key: str, observation: seen.Observation) -> None:
        heard = self._heard.get(key)
        if heard is not None and len(heard) < MOST_OFFERS * 4:
            heard.append(observation)

    def of(self, key: str) -> "_Asking":
        return _Asking(self._heard, key)


class _Asking:
    """One open question; two for the same at once share what is heard."""

    def __init__(self, heard: dict[str, list[seen.Observation]], key: str) -> None:
        self._heard, self._key = heard, key

    def __enter__(self) -> list[seen.Observation]:
        return self._heard.setdefault(self._key, [])

    def __exit__(self, *_: object) -> Literal[False]:
        self._heard.pop(self._key, None)
        return False


class _To(NamedTuple):
    """Where a question goes: our own address, the group, its port, and how far."""

    source: str
    group: str
    port: int
    hops: int


def _everybody(protocol: names.Protocol, network: seen.Network) -> _To | None:
    """None: this box has no IPv4 address on a network that has an "everybody"."""
    group, port, hops = GROUPS[protocol]
    for address in map(_bare, network.addresses):
        home = _within(address, network.networks)
        if home and home.prefixlen < 31:
            return _To(address, group or str(home.broadcast_address), port, hops)
    return None


def _bare(address: str) -> str:
    return address.partition("/")[0]


def _within(address: str, networks: Iterable[str]) -> ipaddress.IPv4Network | None:
    """The network that holds an address; None: none does, or it is no IPv4 address of a host."""
    try:
        packed = ipaddress.IPv4Address(address)
    except ValueError:
        return None
    for text in networks:
        try:
            network = ipaddress.IPv4Network(text, strict=False)
        except ValueError:  # IPv6
            continue
        if packed in network and (network.prefixlen >= 31 or packed not in (network.network_address, network.broadcast_address)):
            return network
    return None


def _ordinary(device: str, to: _To) -> socket.socket:
    """A UDP socket as anybody may have it, with a port by chance. Raises OSError."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())  # without privilege since Linux 5.7
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, to.hops)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)  # a responder on this box is no stranger
        s.bind((to.source, 0))
    except OSError:
        s.close()
        raise
    return s


def _query(protocol: names.Protocol, name: str, ident: int) -> bytes:
    """mDNS from a port that isn't 5353 is answered to that port alone (RFC 6762 6.7)."""
    if protocol == "llmnr":
        return names.llmnr_query(name, ident)
    return names.nbns_query(name, ident) if protocol == "nbns" else names.mdns_query(name, ident)


def _received(s: socket.socket) -> list[tuple[bytes, str]]:
    """What has come, bounded; in order."""
    found: list[tuple[bytes, str]] = []
    while len(found) < MOST_ANSWERS * 4:
        try:
            data, address = s.recvfrom(2048)
        except BlockingIOError:
            break
        found.append((data, address[0]))
    return found


def _answers(protocol: names.Protocol, name: str, data: bytes) -> bool:
    """Whether it says that somebody has this name; "there is no such name" doesn't."""
    try:
        message = names.parse(protocol, data)
    except NamesError:
        return False
    return message.response and any(a.addresses and a.name.casefold() == name.casefold() for a in message.answers)
