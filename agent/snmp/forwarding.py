"""The two tables of a device that say who is where: the ARP table of a router, the MACs behind a switch's ports.

Law: what they hold goes to the board for other tasks, never to a label. A row that is no address or no MAC is left out.
"""

import ipaddress
from collections import Counter
from collections.abc import Mapping

from agent.detect.seen import Bridge, RouterArp
from agent.snmp.wire import Column, Oid, Value

MOST_ARP, MOST_MACS = 2048, 4096
MANY = 4  # MACs behind a port: more is no phone with a PC behind it, it is another switch or an access point

MEDIA_MAC: Oid = (1, 3, 6, 1, 2, 1, 4, 22, 1, 2)  # ipNetToMediaPhysAddress, by ifIndex and address
MEDIA_TYPE: Oid = (1, 3, 6, 1, 2, 1, 4, 22, 1, 4)
PHYSICAL_MAC: Oid = (1, 3, 6, 1, 2, 1, 4, 35, 1, 4)  # ipNetToPhysicalPhysAddress, by ifIndex, address type, length and address
PHYSICAL_TYPE: Oid = (1, 3, 6, 1, 2, 1, 4, 35, 1, 6)
VLAN_PORT: Oid = (1, 3, 6, 1, 2, 1, 17, 7, 1, 2, 2, 1, 2)  # dot1qTpFdbPort, by VLAN and MAC
VLAN_STATUS: Oid = (1, 3, 6, 1, 2, 1, 17, 7, 1, 2, 2, 1, 3)
MAC_PORT: Oid = (1, 3, 6, 1, 2, 1, 17, 4, 3, 1, 2)  # dot1dTpFdbPort, by MAC
MAC_STATUS: Oid = (1, 3, 6, 1, 2, 1, 17, 4, 3, 1, 3)
PORT_INTERFACE: Oid = (1, 3, 6, 1, 2, 1, 17, 1, 4, 1, 2)  # dot1dBasePortIfIndex
ARP = ((MEDIA_MAC, MEDIA_TYPE), (PHYSICAL_MAC, PHYSICAL_TYPE))
INVALID, STATIC, LOCAL = 2, 4, 5
NOBODY = (INVALID, 4)  # dot1dTpFdbStatus (RFC 4188): no longer so; the switch's own MAC


def mac(raw: bytes) -> str:
    """`4c:5e:0c:11:22:33`; "" for what is none."""
    return raw.hex(":") if len(raw) == 6 and any(raw) else ""


def arp(device: str, columns: Mapping[Oid, Column]) -> RouterArp:
    entries: dict[str, str] = {}
    static = set()
    for macs, types in ARP:
        kinds = columns.get(types, {})
        for index, value in columns.get(macs, {}).items():
            address, kind = _address(index), kinds[index].value if index in kinds else 0
            if not address or kind == INVALID or not isinstance(value.value, bytes) or not (at := mac(value.value)):
                continue
            entries.setdefault(address, at)
            if kind in (STATIC, LOCAL):
                static.add(address)
    return RouterArp(device, entries, frozenset(static))


def _address(index: Oid) -> str:
    """The address in an index: ifIndex.a.b.c.d, or ifIndex.type.length.bytes (types 3 and 4 have a zone of 4 bytes behind)."""
    numbers = index[1:] if len(index) == 5 else index[3:] if len(index) > 3 and index[2] == len(index) - 3 else ()
    if len(index) > 5 and index[1] in (3, 4):
        numbers = numbers[:-4]
    if len(numbers) not in (4, 16) or max(numbers) > 255:
        return ""
    return str(ipaddress.ip_address(bytes(numbers)))


def bridge(device: str, columns: Mapping[Oid, Column], interfaces: Mapping[int, str]) -> Bridge:
    """A port's number is an ifIndex only in devices that don't tell which interface a port is; else one that isn't told stays a number."""
    numbers = {index[-1]: v.value for index, v in columns.get(PORT_INTERFACE, {}).items() if index and isinstance(v.value, int)}
    ports: dict[str, str] = {}
    for column, states in ((VLAN_PORT, VLAN_STATUS), (MAC_PORT, MAC_STATUS)):
        status = columns.get(states, {})
        for index, value in columns.get(column, {}).items():
            at = mac(bytes(index[-6:])) if len(index) >= 6 and max(index[-6:]) < 256 else ""
            port = value.value
            if not at or not isinstance(port, int) or port <= 0 or _says(status, index) in NOBODY:
                continue
            number = numbers.get(port) if numbers else port
            ports.setdefault(at, interfaces.get(number, str(port)) if number else str(port))
    often = Counter(ports.values())
    return Bridge(device, ports, frozenset(port for port, n in often.items() if n > MANY))


def _says(column: Column, index: Oid) -> object:
    value: Value | None = column.get(index)
    return value.value if value else None
