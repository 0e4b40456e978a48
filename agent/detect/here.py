"""Where this box stands, as detectors need to know it: its own addresses, its gateways, and which MAC its kernel has for whom.

Law: pure, bounded; text in, text out. What isn't known is empty, never a guess.
"""

import ipaddress
import itertools
from collections.abc import Mapping

from agent.detect.model import Table
from agent.detect.seen import RONDA_MAC, Dhcp, Frame, Neighbours, Network

DEVICES, BINDINGS = 8, 1024
PROBE_NAME = "ronda-probe"


class Here:
    """Filled by `hear`, from Network and Neighbours."""

    def __init__(self) -> None:
        self._networks: Table[str, Network] = Table(DEVICES)
        self.macs: frozenset[str] = frozenset()
        self.cards: frozenset[str] = frozenset()  # MACs of this box's other devices
        self.addresses: frozenset[str] = frozenset()
        self.gateways: frozenset[str] = frozenset()
        self.resolvers: frozenset[str] = frozenset()
        self.broadcasts: frozenset[str] = frozenset()
        self.bindings: Mapping[str, str] = {}
        self.routers: frozenset[str] = frozenset()  # the gateways' MACs

    def hear(self, seen: object) -> bool:
        """Whether it was about this box; then it is taken up."""
        if isinstance(seen, Network):
            self._networks.put(seen.device, seen)
            self._renew()
        elif isinstance(seen, Neighbours):
            self.bindings = dict(itertools.islice(seen.entries.items(), BINDINGS))
        else:
            return False
        self.routers = frozenset(self.bindings[gateway] for gateway in self.gateways if self.bindings.get(gateway))
        return True

    def _renew(self) -> None:
        networks = [network for _, network in self._networks.items()]
        self.macs = frozenset(network.mac for network in networks if network.mac)
        self.cards = frozenset(itertools.chain.from_iterable(network.cards for network in networks)) - self.macs
        self.addresses = frozenset(itertools.chain.from_iterable(network.addresses for network in networks))
        self.gateways = frozenset(itertools.chain.from_iterable(network.gateways for network in networks))
        self.resolvers = frozenset(itertools.chain.from_iterable(network.resolvers for network in networks))
        wires = itertools.chain.from_iterable(network.networks for network in networks)
        self.broadcasts = frozenset(filter(None, map(_broadcast, wires)))

    def sent(self, frame: Frame, source: str = "") -> bool:
        """Whether this box sent it itself."""
        if frame.direction == "out" or source in self.addresses:
            return True
        return frame.direction == "unknown" and frame.source in self.macs

    def forged(self, address: str, mac: str) -> bool:
        """Whether the kernel knows that address under another MAC: then it is somebody else's name that is used."""
        known = self.bindings.get(address, "")
        return bool(known and mac and known != mac)

    def to_many(self, frame: Frame, target: str) -> bool:
        """Whether it was for everybody, or for a group."""
        return group(frame.target) or target in self.broadcasts or not unicast(target)


def _broadcast(network: str) -> str:
    try:
        wire = ipaddress.IPv4Network(network, strict=False)
    except ValueError:
        return ""
    return str(wire.broadcast_address) if wire.prefixlen < 31 else ""


def group(mac: str) -> bool:
    """IEEE 802: the lowest bit of the first octet. Text that is no MAC is nobody's."""
    return len(mac) == 17 and mac[1] in "13579bdf"


def local(mac: str) -> bool:
    """Locally administered: a random MAC, or one that somebody set."""
    return len(mac) == 17 and mac[1] in "2367abef"


def unicast(address: str) -> bool:
    """Whether that text is an address of one host."""
    try:
        read = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (read.is_multicast or read.is_unspecified or address == "255.255.255.255")


def probe_of_ronda(dhcp: Dhcp) -> bool:
    """This one's or another's: Ronda never alerts on Ronda."""
    return dhcp.client_mac.startswith(RONDA_MAC) or dhcp.hostname == PROBE_NAME
