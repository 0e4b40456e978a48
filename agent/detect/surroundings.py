"""Where a capture was made, guessed from what is in it: this box's address, the gateway, the networks on the wire, as seen.Network says it.

Law: pure, bounded. What a capture doesn't show plainly is left empty: a wrong gateway makes false findings, and a host that is wrongly
taken for our own is never accused. So a gateway is one that DHCP offers name or many hosts ask for, and our own address is the one that
nearly all unicast packets are to or from and that others make connections to.
"""

import collections
import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from agent.detect.model import Table
from agent.detect.seen import Arp, Contact, Dhcp, Frame, Network, Observation, Packet, RouterAdvert

ROWS = 4096  # addresses that votes are counted for
ASKERS = 64  # hosts that ask for one address: more say no more
MANY_ASK = 3  # so many hosts that ask for one address make it a gateway
OFFER = 4  # and an offer of a DHCP server counts like so many
NEARLY_ALL = 0.9
LEAST = 4  # unicast packets, before they say who we are
MAX_NETWORKS = 8
FEW = 20  # a network on the wire has one of so many ARP senders, and two at least: anybody can invent one
_PREFIX = 24  # of IPv4 networks, where nobody says it


class Guess(NamedTuple):
    """`network` None: nothing is plain enough. why: what was assumed, a line each."""

    network: Network | None
    why: tuple[str, ...]


class Surroundings:
    """Filled by `see`, asked by `guess`. me, gateway: what somebody who knows has said, "" else."""

    def __init__(self, me: str = "", gateway: str = "") -> None:
        self._me, self._gateway = me, gateway
        self._askers: Table[str, set[str]] = Table(ROWS)
        self._offers: collections.Counter[str] = collections.Counter()
        self._resolvers: dict[str, tuple[str, ...]] = {}
        self._senders: Table[str, int] = Table(ROWS)
        self._parts: Table[str, int] = Table(ROWS)  # address → unicast packets to or from it
        self._asked: Table[str, int] = Table(ROWS)  # address → connections to it
        self._macs: Table[tuple[str, str], int] = Table(ROWS)  # (address, MAC) → packets
        self._packets = 0
        self._prefixes: dict[str, None] = {}

    def see(self, seen: Observation) -> None:
        if isinstance(seen, Packet | Contact):
            self._packet(seen)
        elif isinstance(seen, Arp):
            self._arp(seen)
        elif isinstance(seen, Dhcp) and seen.type in ("offer", "ack") and len(self._offers) < ROWS:
            for router in seen.routers[:1]:
                self._offers[router] += 1
                self._resolvers.setdefault(router, seen.dns[:4])
        elif isinstance(seen, RouterAdvert):
            for prefix in seen.prefixes[:MAX_NETWORKS]:
                if len(self._prefixes) < MAX_NETWORKS and prefix.network != "::/0":
                    self._prefixes[prefix.network] = None

    def _packet(self, seen: Packet | Contact) -> None:
        source, target = seen.source, seen.target
        if isinstance(seen, Contact) and seen.step != "asked":
            source, target = target, source  # the packet went the other way than the contact
        if _group(seen.frame) or not _host(source) or not _host(target):
            return
        self._packets += 1
        for address, mac in ((source, seen.frame.source), (target, seen.frame.target)):
            self._parts.put(address, (self._parts.get(address) or 0) + 1)
            self._macs.put((address, mac), (self._macs.get((address, mac)) or 0) + 1)
        if isinstance(seen, Contact) and seen.step == "asked":
            self._asked.put(target, (self._asked.get(target) or 0) + 1)

    def _arp(self, seen: Arp) -> None:
        if not _host(seen.sender):
            return  # a probe, RFC 5227
        self._senders.put(seen.sender, (self._senders.get(seen.sender) or 0) + 1)
        if seen.op == 1 and seen.target != seen.sender:
            askers = self._askers.get(seen.target) or self._askers.put(seen.target, set())
            if len(askers) < ASKERS:
                askers.add(seen.sender)

    # -- what it comes to ---------------------------------------------------------------------------------------------------

    def guess(self) -> Guess:
        why: list[str] = []
        gateway = self._gateway or self._most_asked(why)
        me, wire = _split(self._me)
        me = me or self._party(gateway, why)
        if not gateway and not me:
            why.append("neither this box's address nor the gateway is plain from the capture (--me, --gateway)")
            return Guess(None, tuple(why))
        networks = self._networks(me, gateway, wire)
        why.append(f"on the wire: {', '.join(networks)}" if networks else "no network is known to be on the wire")
        resolvers = self._resolvers.get(gateway, ())
        network = Network("", self._mac(me), (me,) if me else (), networks, (gateway,) if gateway else (), resolvers)
        return Guess(network, tuple(why))

    def _most_asked(self, why: list[str]) -> str:
        """The address that DHCP offers as a router, or that most hosts ask for."""
        votes = {address: len(askers) for address, askers in self._askers.items()}
        for router, count in self._offers.items():
            votes[router] = votes.get(router, 0) + OFFER * count
        found = max(votes, key=lambda address: votes[address], default="")
        if not found or votes[found] < MANY_ASK:
            return ""
        why.append(f"gateway {found}, " + ("as DHCP offers it" if found in self._offers else f"asked for by {votes[found]} hosts"))
        return found

    def _party(self, gateway: str, why: list[str]) -> str:
        """Who has a part in nearly all of it, and is asked for connections by others."""
        asked = {address: count for address, count in self._asked.items() if address != gateway}
        found = max(asked, key=lambda address: asked[address], default="")
        if not found or self._packets < LEAST or (self._parts.get(found) or 0) < NEARLY_ALL * self._packets:
            return ""
        why.append(f"this box is {found}: nearly all packets are to or from it")
        return found

    def _mac(self, me: str) -> str:
        counts = {mac: count for (address, mac), count in self._macs.items() if address == me and mac}
        return max(counts, key=lambda mac: counts[mac], default="")

    def _networks(self, me: str, gateway: str, wire: str) -> tuple[str, ...]:
        around = collections.Counter(text for address, _ in sorted(self._senders.items()) if (text := _around(address)))
        least = max(2, around.total() // FEW)
        first = [wire or _around(me), _around(gateway)]
        found = dict.fromkeys(filter(None, [*first, *self._prefixes, *(text for text, count in around.most_common() if count >= least)]))
        return tuple(found)[:MAX_NETWORKS]


def _split(me: str) -> tuple[str, str]:
    """`192.0.2.10/24` → the address and its network, the latter "" where only the address was said."""
    address, slash, _ = me.partition("/")
    return address, str(ipaddress.ip_interface(me).network) if slash else ""


def _around(address: str) -> str:
    """The network that an IPv4 address most likely is in."""
    try:
        return str(ipaddress.IPv4Network(f"{address}/{_PREFIX}", strict=False)) if address else ""
    except ValueError:
        return ""


def _host(address: str) -> bool:
    return bool(address) and address not in ("0.0.0.0", "255.255.255.255", "::") and not address.startswith(("ff", "127."))  # noqa: S104


def _group(frame: Frame) -> bool:
    return len(frame.target) == 17 and frame.target[1] in "13579bdf"


def of_capture(observations: Iterable[Observation], me: str = "", gateway: str = "") -> Guess:
    surroundings = Surroundings(me, gateway)
    for seen in observations:
        surroundings.see(seen)
    return surroundings.guess()
