"""Frames → observations (agent/detect/seen.py): which codec reads what, and what of it a detector is given.

Law: pure, and fast: this is what the capture does for each frame within its budget. Nothing raises, whatever the bytes: a frame whose
link or IP head can't be read says nothing; an IP packet whose inside can't be read is a Packet, for its addresses stand.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Literal, TypeAlias

from agent.detect.seen import (
    Arp,
    Contact,
    Dhcp,
    Dhcp6,
    Frame,
    Identity,
    NameAnswer,
    NameQuery,
    Neighbour,
    Observation,
    Packet,
    Prefix,
    RouterAdvert,
    SpanningTree,
)  # fmt: skip
from agent.wire import dhcp, dhcp6, identity, names, ndp
from agent.wire import frame as heads
from agent.wire.frame import FrameError, Ip, Link, Udp

Direction: TypeAlias = Literal["in", "out", "unknown"]
_NOTHING: tuple[Observation, ...] = ()
_ERRORS = (FrameError, dhcp.DhcpError, dhcp6.Dhcp6Error, names.NamesError, ndp.NdpError, identity.IdentityError)
_OPENING, _ANSWER = heads.SYN | heads.RST, heads.SYN | heads.RST | heads.ACK


def read(raw: bytes, direction: Direction = "unknown", own_macs: Collection[str] = ()) -> Iterable[Observation]:
    """What an Ethernet frame says; mostly one observation. Where the direction is unknown, our own MACs tell it."""
    try:
        link = heads.link(raw)
    except FrameError:
        return _NOTHING
    if direction == "unknown" and own_macs:
        direction = "out" if link.source in own_macs else "in" if link.target in own_macs else direction
    return read_link(link, raw, direction)


def read_link(link: Link, raw: bytes, direction: Direction = "unknown") -> Iterable[Observation]:
    """The same, where the link's head is already read."""
    reader = _KINDS.get(link.kind)
    if reader is None:
        return _NOTHING
    try:
        return reader(raw, link, Frame(link.source, link.target, direction, raw))
    except _ERRORS:
        return _NOTHING


# -- beside IP ----------------------------------------------------------------------------------------------------------------------


def _arp(raw: bytes, link: Link, frame: Frame) -> Iterable[Observation]:
    return (Arp(frame, *heads.arp(raw, link.at, link.end)),)


def _lldp(raw: bytes, link: Link, frame: Frame) -> Iterable[Observation]:
    return _identity(frame, "lldp", identity.lldp(raw[link.at : link.end]))


def _cdp(raw: bytes, link: Link, frame: Frame) -> Iterable[Observation]:
    return _identity(frame, "cdp", identity.cdp(raw[link.at : link.end]))


def _identity(frame: Frame, protocol: Literal["mndp", "lldp", "cdp"], said: identity.Identity) -> Iterable[Observation]:
    return (Identity(frame, protocol, said.mac or frame.source, *said[1:]),)


def _stp(raw: bytes, link: Link, frame: Frame) -> Iterable[Observation]:
    bridge = identity.stp(raw[link.at : link.end])
    return (SpanningTree(frame, *bridge),) if bridge else _NOTHING


# -- IP -----------------------------------------------------------------------------------------------------------------------------


def _ip4(raw: bytes, link: Link, frame: Frame) -> Iterable[Observation]:
    return _inside(raw, heads.ip4(raw, link.at, link.end), frame)


def _ip6(raw: bytes, link: Link, frame: Frame) -> Iterable[Observation]:
    return _inside(raw, heads.ip6(raw, link.at, link.end), frame)


def _inside(raw: bytes, packet: Ip, frame: Frame) -> Iterable[Observation]:
    """What the packet carries; where that says nothing, that it was there."""
    reader = _PROTOCOLS.get(packet.protocol) if packet.first else None
    if reader is not None:
        try:
            if seen := reader(raw, packet, frame):
                return seen
        except _ERRORS:
            pass  # its addresses stand all the same
    return (Packet(frame, packet.source, packet.target),)


def _tcp(raw: bytes, packet: Ip, frame: Frame) -> Iterable[Observation]:
    head = heads.tcp(raw, packet.at, packet.end)
    flags = head.flags & _ANSWER
    if not flags & _OPENING:
        return _NOTHING
    if flags == heads.SYN:
        return (Contact(frame, "tcp", "asked", packet.source, packet.target, head.target),)
    if flags == heads.SYN | heads.ACK:
        return (Contact(frame, "tcp", "open", packet.target, packet.source, head.source),)
    if (
        flags == heads.RST | heads.ACK and not head.sequence
    ):  # what answers a SYN; one that ends a connection has a number (RFC 9293 3.10.7.1)
        return (Contact(frame, "tcp", "closed", packet.target, packet.source, head.source),)
    return _NOTHING


def _icmp(raw: bytes, packet: Ip, frame: Frame) -> Iterable[Observation]:
    """Port unreachable, said by the host itself to who asked: a router that says so for another only hides it."""
    quoted = heads.refused(raw, packet)
    if quoted is None or quoted.protocol != heads.UDP or (quoted.source, quoted.target) != (packet.target, packet.source):
        return _NOTHING
    return (Contact(frame, "udp", "closed", quoted.source, quoted.target, quoted.target_port),)


def _icmp6(raw: bytes, packet: Ip, frame: Frame) -> Iterable[Observation]:
    said = None if packet.fragment else ndp.parse(raw[packet.at : packet.end])  # no host takes it in fragments (RFC 6980)
    if isinstance(said, ndp.RouterAdvert):
        prefixes = tuple(Prefix(*prefix) for prefix in said.prefixes)
        return (
            RouterAdvert(
                frame, packet.source, packet.hops, said.lifetime, said.preference, said.managed, said.other, prefixes, said.dns, said.mac
            ),
        )  # fmt: skip
    if said is not None and packet.hops == 255:  # else it came over a router, and no host takes it (RFC 4861 7.1)
        return (Neighbour(frame, said.type, packet.source, said.target, said.mac, said.override),)
    return _NOTHING if said is not None else _icmp(raw, packet, frame)


# -- UDP ----------------------------------------------------------------------------------------------------------------------------


def _udp(raw: bytes, packet: Ip, frame: Frame) -> Iterable[Observation]:
    head = heads.udp(raw, packet.at, packet.end)
    reader = _PORTS.get(head.target) or _PORTS.get(head.source)
    return reader(raw[head.at : head.end], head, packet, frame) if reader else _NOTHING


def _dhcp(data: bytes, head: Udp, packet: Ip, frame: Frame) -> Iterable[Observation]:  # noqa: ARG001  (as all of _PORTS)
    said = dhcp.parse(data)
    return (
        Dhcp(
            frame, said.type, said.xid, said.client_mac, packet.source, said.offered, said.relay, said.server, said.requested, said.routers,
            said.dns, said.hostname, said.vendor, said.broadcast,
        ),
    )  # fmt: skip


def _dhcp6(data: bytes, head: Udp, packet: Ip, frame: Frame) -> Iterable[Observation]:  # noqa: ARG001  (as all of _PORTS)
    said = dhcp6.parse(data)
    return (Dhcp6(frame, said.type, packet.source, said.client_duid, said.server_duid, said.dns),)


def _mndp(data: bytes, head: Udp, packet: Ip, frame: Frame) -> Iterable[Observation]:  # noqa: ARG001  (as all of _PORTS)
    said = identity.mndp(data)
    return _identity(frame, "mndp", said) if said else _NOTHING


def _names(data: bytes, head: Udp, packet: Ip, frame: Frame) -> Iterable[Observation]:
    """Questions go to the protocol's port, and to everybody; answers come from it. Other turns of the protocols say nothing here."""
    asked = names.PORTS.get(head.target)
    answers = names.PORTS.get(head.source)
    said = names.parse(asked or answers or "mdns", data)
    if said.opcode or said.rcode:
        return _NOTHING
    if said.response:
        return (
            [NameAnswer(frame, said.protocol, packet.source, a.name, a.addresses) for a in said.answers] if said.protocol == answers else ()
        )
    if said.protocol != asked or not _to_many(frame.target):
        return _NOTHING
    return [NameQuery(frame, said.protocol, packet.source, name) for name in said.asked]


def _to_many(mac: str) -> bool:
    """Broadcast or multicast, or not known: the lowest bit of a MAC's first byte."""
    return not mac or mac[1] in "13579bdf"


_KINDS: dict[int, Callable[[bytes, Link, Frame], Iterable[Observation]]] = {
    heads.IPV4: _ip4, heads.IPV6: _ip6, heads.ARP: _arp, heads.LLDP: _lldp, heads.CDP: _cdp, heads.STP: _stp, heads.PVST: _stp,
}  # fmt: skip
_PROTOCOLS: dict[int, Callable[[bytes, Ip, Frame], Iterable[Observation]]] = {
    heads.TCP: _tcp, heads.UDP: _udp, heads.ICMP: _icmp, heads.ICMP6: _icmp6,
}  # fmt: skip
_PORTS: dict[int, Callable[[bytes, Udp, Ip, Frame], Iterable[Observation]]] = {
    dhcp.SERVER: _dhcp, dhcp.CLIENT: _dhcp, dhcp6.SERVER: _dhcp6, dhcp6.CLIENT: _dhcp6, identity.MNDP_PORT: _mndp,
    **dict.fromkeys(names.PORTS, _names),
}  # fmt: skip
