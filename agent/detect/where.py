"""Where is it plugged in: MAC → switch and port, by the bridge tables that switches tell by SNMP; of an address, by a router's ARP.

Law: only what a table of the last quarter of an hour says; what it doesn't is None, never a guess. A port with another switch behind it
(`shared`) is nobody's place, for all that is beyond is seen on it. Where several ports are left, it is the one that the fewest are seen on;
two that are alike are none. A place is names of the config and of interfaces: it holds no address and no MAC, and may be a label.
"""

import collections
import re
from collections.abc import Mapping
from typing import NamedTuple

from agent.board import Board
from agent.detect.ground import host_mac
from agent.detect.seen import Bridge, RouterArp

FRESH = 900.0
NAME = 40
FIELD = "ronda.where"
_LEAKS = re.compile(r"\d+\.\d+\.\d+\.\d+|[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}|[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}", re.IGNORECASE)


class Place(NamedTuple):
    device: str
    port: str

    def __str__(self) -> str:
        return f"{self.device} port {self.port}"


def where(board: Board, mac: str, now: float) -> Place | None:
    """The switch and the port of a MAC; None: not known."""
    found = [
        (bridge, bridge.ports[mac])
        for at, bridge in board.of(Bridge).values()
        if now - at <= FRESH and mac in bridge.ports and bridge.ports[mac] not in bridge.shared
    ]
    if len(found) > 1:
        crowds = [collections.Counter(bridge.ports.values())[port] for bridge, port in found]
        found = [one for one, crowd in zip(found, crowds, strict=True) if crowd == min(crowds)]
    return _place(found[0][0].device, found[0][1]) if len(found) == 1 else None


def place_of(board: Board, fields: Mapping[str, str], now: float) -> Place | None:
    """Of whoever a finding is about: by its MAC, else by the MAC that a router has for its address."""
    mac = host_mac(fields.get("source.mac", "")) or _mac_of(board, fields.get("source.ip", ""), now)
    return where(board, mac, now) if mac else None


def _mac_of(board: Board, address: str, now: float) -> str:
    """ "" where no router has it, or two differ."""
    if not address:
        return ""
    tables = [table.entries for at, table in board.of(RouterArp).values() if now - at <= FRESH]
    macs = {mac for entries in tables if (mac := host_mac(entries.get(address, "")))}
    return macs.pop() if len(macs) == 1 else ""


def _place(device: str, port: str) -> Place | None:
    """Names as they may be a label: short, in one line; None: there is nothing to say, or it would say an address."""
    device, port = (" ".join("".join(c if c.isprintable() else " " for c in text).split())[:NAME] for text in (device, port))
    port = re.sub(r"^port[ -]?(?=\w)", "", port, flags=re.IGNORECASE)
    return Place(device, port) if device and port and not _LEAKS.search(f"{device} {port}") else None
