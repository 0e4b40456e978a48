"""What detectors of who is on the wire share: which MACs and addresses can be somebody's, and what is near and what is afar from here.

Law: pure; any text is borne, of any length: what is no MAC or no address is "" or None, never an exception.
"""

import functools
import ipaddress
import re
from typing import Any, TypeAlias

from agent.detect.here import Here
from agent.detect.seen import RONDA_MAC, Carrier, Frame, Network

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Wire: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

LONGEST = 64  # no MAC and no address is longer: what is longer isn't looked at, nor kept in a cache
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")


def host_mac(text: str) -> str:
    """The MAC, if it can be one host's: no group's (IEEE 802: the lowest bit of the first octet), not all zeros; else ""."""
    small = text.lower() if len(text) == 17 else ""
    return small if _MAC.match(small) and not int(small[1], 16) & 1 and small != "00:00:00:00:00:00" else ""


def of_ronda(mac: str) -> bool:
    return mac.startswith(RONDA_MAC)


def address(text: str) -> Address | None:
    return _address(text) if len(text) <= LONGEST else None


@functools.lru_cache(maxsize=8192)
def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def host_address(text: str) -> str:
    """The address, if it can be one host's; else ""."""
    found = address(text)
    if found is None or found.is_unspecified or found.is_multicast or found.is_loopback or text == "255.255.255.255":
        return ""
    return text


def seconds(said: Any) -> float:
    """An age that was remembered. Raises ValueError, TypeError for what is none."""
    if not 0.0 <= float(said) < 1e10:
        raise ValueError("not an age")
    return float(said)


def short(frame: Frame, most: int = 64) -> Frame:
    """To be kept by source, of which there may be thousands: an ARP frame is no longer than this, however it was padded."""
    return frame if len(frame.raw) <= most else frame._replace(raw=frame.raw[:most])


class Ground(Here):
    """`hear` takes Carrier as well. flapped: when the cable last came or went."""

    def __init__(self) -> None:
        super().__init__()
        self._up: bool | None = None
        self._wires: tuple[Wire, ...] = ()
        self.flapped = float("-inf")
        self.told = False  # whether anybody has said where we are

    def feel(self, seen: Carrier, at: float) -> None:
        """The first word on the cable is no change of it."""
        if self._up is not None and self._up != seen.up:
            self.flapped = at
        self._up = seen.up

    def _renew(self) -> None:
        super()._renew()
        networks = [network for _, network in self._networks.items()]
        self.told = any(network.device or network.gateways for network in networks)  # a replay that knows no way out names no device
        said = {text for network in networks for text in network.networks}
        self._wires = tuple(found for text in sorted(said) if (found := wire(text)))

    @property
    def devices(self) -> int:
        return len(self._networks)

    @property
    def servers(self) -> frozenset[str]:
        """What the office can't do without: gateways, and resolvers that are on its own wire."""
        return self.gateways | {text for text in self.resolvers if self.near(text)}

    def near(self, text: str) -> bool:
        """On one of our wires."""
        found = address(text)
        return found is not None and any(found in wire for wire in self._wires if wire.version == found.version)

    def afar(self, text: str) -> bool:
        """Surely behind a router: somebody's address, of a family whose networks here are known, and in none of them."""
        found = address(text)
        if found is None or not host_address(text) or found.is_link_local or text in self.addresses:
            return False
        mine = [wire for wire in self._wires if wire.version == found.version]
        return bool(mine) and not any(found in wire for wire in mine)


def wire(text: str) -> Wire | None:
    try:
        return ipaddress.ip_network(text, strict=False) if len(text) <= LONGEST else None
    except ValueError:
        return None


__all__ = ["LONGEST", "Address", "Ground", "Network", "address", "host_address", "host_mac", "of_ronda", "seconds", "short", "wire"]
