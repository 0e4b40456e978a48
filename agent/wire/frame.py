"""Heads of frames: Ethernet, 802.1Q, LLC and SNAP, ARP, IPv4, IPv6, TCP, UDP, ICMP; and the few frames that our probes send.

Law: pure, no I/O. Input is a stranger's: whatever the bytes, a parser returns what its docstring says or raises FrameError, in bounded
time. This is the hot path: a head is read in place, nothing of the frame is copied but addresses. A capture may cut a frame anywhere:
lengths that reach beyond what is here end here, heads that are not whole are errors. Checksums aren't looked at (they are the network
card's, and not in yet in frames that this box sends). MACs are `aa:bb:cc:dd:ee:ff`; addresses are as `ipaddress` writes them.
"""

import ipaddress
import socket
import struct
from typing import NamedTuple

from agent.wire.icmp import checksum

IPV4, ARP, IPV6, LLDP = 0x0800, 0x0806, 0x86DD, 0x88CC
LLC, SNAP = 1 << 40, 1 << 41  # beyond all EtherTypes: LLC | DSAP, and SNAP | OUI << 16 | protocol, for those that have no EtherType
STP, CDP, PVST = LLC | 0x42, SNAP | 0x00000C_2000, SNAP | 0x00000C_010B
ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
FIN, SYN, RST, ACK = 1, 2, 4, 16

MAX_HEADERS = 8  # IPv6 extension headers that are walked (RFC 8200 4.1 knows six kinds, each once but for one)
BROADCAST = "ff:ff:ff:ff:ff:ff"

_TAGS = frozenset((0x8100, 0x88A8, 0x9100))  # 802.1Q, 802.1ad, and what was used before 802.1ad
_EXTENSIONS = frozenset((0, 43, 44, 51, 60, 135, 139, 140))
_IP4 = struct.Struct("!BxHxxHBBxx4s4s").unpack_from
_IP6 = struct.Struct("!BxxxHBB16s16s").unpack_from
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_TCP = struct.Struct("!HHIxxxxBB").unpack_from
_UDP = struct.Struct("!HHH").unpack_from
_PORTS = struct.Struct("!HH").unpack_from


class FrameError(Exception):
    """A head that is cut off, or says what can't be."""


class Link(NamedTuple):
    """Who sent it to whom, and what lies in raw[at:end]: an EtherType, or one of those beyond."""

    source: str
    target: str
    kind: int
    at: int
    end: int
    vlan: int = -1  # the outer tag's, -1: none


class Ip(NamedTuple):
    """`protocol` is that of raw[at:end], behind all extension headers. first: not a later fragment, so that its head is here."""

    source: str
    target: str
    protocol: int
    at: int
    end: int
    hops: int
    first: bool = True
    fragment: bool = False


class Arp(NamedTuple):
    op: int
    sender_mac: str
    sender: str
    target_mac: str
    target: str


class Tcp(NamedTuple):
    source: int
    target: int
    sequence: int
    flags: int


class Udp(NamedTuple):
    """Ports, and where the payload lies."""

    source: int
    target: int
    at: int
    end: int


class Quoted(NamedTuple):
    """The head of the packet that an ICMP error is about."""

    source: str
    target: str
    protocol: int
    source_port: int
    target_port: int


def text4(packed: bytes) -> str:
    return socket.inet_ntoa(packed)


def text6(packed: bytes) -> str:
    text = socket.inet_ntop(socket.AF_INET6, packed)
    return text if "." not in text else str(ipaddress.IPv6Address(packed))  # the C library and ipaddress write ::1.2.3.4 differently


# -- what is read -------------------------------------------------------------------------------------------------------------------


def link(raw: bytes) -> Link:
    """The Ethernet head, with at most two tags (a third is told as what follows). Raises FrameError."""
    size = len(raw)
    if size < 14:
        raise FrameError("shorter than an Ethernet head")
    kind, at, vlan = raw[12] << 8 | raw[13], 14, -1
    while kind in _TAGS and at < 22:
        if size < at + 4:
            raise FrameError("ends inside a VLAN tag")
        vlan = vlan if vlan >= 0 else (raw[at] << 8 | raw[at + 1]) & 0xFFF
        kind = raw[at + 2] << 8 | raw[at + 3]
        at += 4
    if kind < 0x600:  # a length, IEEE 802.3
        kind, at, size = llc(raw, at, min(size, at + kind))
    return Link(raw[6:12].hex(":"), raw[:6].hex(":"), kind, at, size, vlan)


def llc(raw: bytes, at: int, end: int) -> tuple[int, int, int]:
    """IEEE 802.2, and SNAP (RFC 1042): the kind, and where its payload lies."""
    if end < at + 3:
        raise FrameError("shorter than an LLC head")
    if raw[at : at + 3] != b"\xaa\xaa\x03":
        return LLC | raw[at], at + 3, end
    if end < at + 8:
        raise FrameError("shorter than a SNAP head")
    number = int.from_bytes(raw[at + 3 : at + 8])
    return number if number <= 0xFFFF else SNAP | number, at + 8, end


def arp(raw: bytes, at: int, end: int) -> Arp:
    """ARP for IPv4 over Ethernet (RFC 826). Raises FrameError: cut off, or for other addresses."""
    if end - at < _ARP.size:
        raise FrameError("shorter than ARP")
    hardware, protocol, hlen, plen, op, sender_mac, sender, target_mac, target = _ARP.unpack_from(raw, at)
    if (hardware, protocol, hlen, plen) != (1, IPV4, 6, 4):
        raise FrameError("ARP, but not of IPv4 over Ethernet")
    return Arp(op, sender_mac.hex(":"), text4(sender), target_mac.hex(":"), text4(target))


def ip(raw: bytes, at: int, end: int) -> Ip:
    """IPv4 or IPv6, by its own version number (raw IP has nothing else to tell). Raises FrameError."""
    if at >= end:
        raise FrameError("no IP packet")
    version = raw[at] >> 4
    if version == 4:
        return ip4(raw, at, end)
    if version == 6:
        return ip6(raw, at, end)
    raise FrameError(f"IP version {version}")


def ip4(raw: bytes, at: int, end: int) -> Ip:
    """RFC 791. A total length of 0 is a packet that the card will cut (offloading). Raises FrameError."""
    if end - at < 20:
        raise FrameError("shorter than an IPv4 head")
    first, total, offset, hops, protocol, source, target = _IP4(raw, at)
    head = (first & 15) * 4
    if first >> 4 != 4 or head < 20 or at + head > end or (total < head and total):
        raise FrameError("an IPv4 head that can't be")
    if total and at + total < end:
        end = at + total
    return Ip(text4(source), text4(target), protocol, at + head, end, hops, not offset & 0x1FFF, bool(offset & 0x3FFF))


def ip6(raw: bytes, at: int, end: int) -> Ip:
    """RFC 8200, behind its extension headers, MAX_HEADERS at most. Raises FrameError."""
    if end - at < 40:
        raise FrameError("shorter than an IPv6 head")
    first, length, protocol, hops, source, target = _IP6(raw, at)
    if first >> 4 != 6:
        raise FrameError("an IPv6 head that can't be")
    at += 40
    if length and at + length < end:  # 0: a jumbogram, or a packet that the card will cut
        end = at + length
    whole = True, False
    if protocol in _EXTENSIONS:
        protocol, at, whole = _extensions(raw, at, end, protocol)
    return Ip(text6(source), text6(target), protocol, at, end, hops, *whole)


def _extensions(raw: bytes, at: int, end: int, protocol: int) -> tuple[int, int, tuple[bool, bool]]:
    """Walks to the last header: its number, where it begins, and (first, fragment)."""
    fragment = False
    for _ in range(MAX_HEADERS):
        if at + 8 > end:
            raise FrameError("ends inside an IPv6 extension header")
        kind, protocol, units = protocol, raw[at], raw[at + 1]
        if kind == 44:
            field = raw[at + 2] << 8 | raw[at + 3]
            fragment = fragment or bool(field & 0xFFF9)  # offset or "more": a single "fragment" is a whole packet (RFC 6946)
            if field & 0xFFF8:
                return protocol, at + 8, (False, True)
            at += 8
        else:
            at += (units + 2) * 4 if kind == 51 else (units + 1) * 8  # RFC 4302 2.2 counts otherwise
        if at > end:
            raise FrameError("ends inside an IPv6 extension header")
        if protocol not in _EXTENSIONS:
            return protocol, at, (True, fragment)
    raise FrameError("more IPv6 extension headers than a packet has")


def tcp(raw: bytes, at: int, end: int) -> Tcp:
    """RFC 9293. Raises FrameError."""
    if end - at < 20:
        raise FrameError("shorter than a TCP head")
    source, target, sequence, offset, flags = _TCP(raw, at)
    if offset < 0x50:
        raise FrameError("a TCP head that can't be")
    return Tcp(source, target, sequence, flags)


def udp(raw: bytes, at: int, end: int) -> Udp:
    """RFC 768. Raises FrameError."""
    if end - at < 8:
        raise FrameError("shorter than a UDP head")
    source, target, length = _UDP(raw, at)
    if length < 8 and length:  # 0: a jumbogram, or a packet that the card will cut
        raise FrameError("a UDP head that can't be")
    return Udp(source, target, at + 8, min(end, at + length) if length else end)


def refused(raw: bytes, packet: Ip) -> Quoted | None:
    """What an ICMP "port unreachable" is about (RFC 792; RFC 4443 3.1); None: the message is another. Raises FrameError."""
    at = packet.at
    if packet.end - at < 8:
        raise FrameError("shorter than an ICMP head")
    if packet.protocol == ICMP and raw[at : at + 2] == b"\3\3":
        quoted = ip4(raw, at + 8, packet.end)
    elif packet.protocol == ICMP6 and raw[at : at + 2] == b"\1\4":
        quoted = ip6(raw, at + 8, packet.end)
    else:
        return None
    if not quoted.first or quoted.at + 4 > packet.end:
        raise FrameError("a quoted packet without its ports")
    return Quoted(quoted.source, quoted.target, quoted.protocol, *_PORTS(raw, quoted.at))


# -- what is sent -------------------------------------------------------------------------------------------------------------------


def packed_mac(mac: str) -> bytes:
    """Raises FrameError."""
    try:
        packed = bytes.fromhex(mac.replace(":", ""))
    except ValueError:
        packed = b""
    if len(packed) != 6:
        raise FrameError(f"{mac[:40]!r} is no MAC")
    return packed


def packed4(address: str) -> bytes:
    """Raises FrameError."""
    try:
        return ipaddress.IPv4Address(address).packed
    except ValueError:
        raise FrameError(f"{address[:40]!r} is no IPv4 address") from None


def ethernet(target: str, source: str, kind: int, payload: bytes) -> bytes:
    """Ethernet II. The card pads what is short. Raises FrameError."""
    return packed_mac(target) + packed_mac(source) + struct.pack("!H", kind) + payload


def arp_probe(mac: str, target: str) -> bytes:
    """Who has `target`? As RFC 5227 2.1.1 asks it: the sender's address is 0.0.0.0, so nobody's table changes. Raises FrameError."""
    body = _ARP.pack(1, IPV4, 6, 4, 1, packed_mac(mac), bytes(4), bytes(6), packed4(target))
    return ethernet(BROADCAST, mac, ARP, body)


def udp4(source: tuple[str, int], target: tuple[str, int], payload: bytes, hops: int = 64) -> bytes:
    """An IPv4 packet with UDP in it, both checksums in place. Raises FrameError."""
    addresses = packed4(source[0]) + packed4(target[0])
    length = 8 + len(payload)
    if 20 + length > 0xFFFF:
        raise FrameError("a payload that no packet holds")
    head = struct.pack("!HHH", source[1], target[1], length)
    summed = checksum(addresses + struct.pack("!HH", UDP, length) + head + b"\0\0" + payload) or 0xFFFF  # RFC 768: 0 is "none"
    datagram = head + struct.pack("!H", summed) + payload
    first = struct.pack("!BBHHHBB", 0x45, 0, 20 + length, 0, 0x4000, hops, UDP)
    return first + struct.pack("!H", checksum(first + b"\0\0" + addresses)) + addresses + datagram
