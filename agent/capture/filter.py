"""What the kernel lets through to Ronda: three fixed socket filters in classic BPF, and the small assembler that they are written with.

Law: pure, and the standard library's struct only, since the privileged helper imports this. A filter is a constant of this version: no part
of it comes from a request. Whatever isn't named here never leaves the kernel.

    lan        what everybody on the wire is told: ARP, DHCP, name services, neighbour discovery, what devices say of themselves;
               and one in 32 of the answers to this host's IPv4 pings, which show the gateway's MAC
    contacts   first steps of strangers towards this host, and what it answered: TCP SYN in; SYN-ACK, RST and "port unreachable" out
    count      every broadcast and multicast that comes in; never read, the kernel's own statistics count them

A frame of another VLAN is another network's, and passes none of the first two (the kernel has taken its tag off, but says there was one).
Loads beyond the end of a frame end a filter with "drop" (Documentation/networking/filter.rst), so short frames need no check.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

SNAP = {"lan": 1514, "contacts": 160, "count": 1}  # bytes of a frame that are handed over
FARTHEST = 255  # instructions that a conditional jump can skip

ARP, IPV4, IPV6, LLDP = 0x0806, 0x0800, 0x86DD, 0x88CC
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
HOP_BY_HOP, ROUTING, DESTINATION = 0, 43, 60  # IPv6 extension headers that a host skips before it takes a router's word (RFC 7113)
HOST, BROADCAST, MULTICAST, OUTGOING = 0, 1, 2, 4  # linux/if_packet.h
SYN, RST, ACK = 0x02, 0x04, 0x10

PORTS4 = (67, 68, 137, 5353, 5355, 5678)  # DHCP, NBNS, mDNS, LLMNR, MNDP
PORTS6 = (546, 547, 5353, 5355)  # DHCPv6, mDNS, LLMNR
DISCOVERY = range(133, 138)  # router and neighbour solicitation and advertisement, redirect (RFC 4861)
SAMPLED = 32

_NET = 14  # where the network layer begins
_AUX = 0xFFFFF000  # SKF_AD_OFF: what the kernel knows of the frame beside its bytes
PACKET_TYPE, VLAN_TAG, VLAN_PRESENT, RANDOM = _AUX + 4, _AUX + 44, _AUX + 48, _AUX + 56


class Instruction(NamedTuple):
    """`yes` and `no` are labels; "" is the next instruction."""

    code: int
    k: int = 0
    yes: str = ""
    no: str = ""


Line: TypeAlias = Instruction | str  # a string is a label: the place of the instruction that follows


def _plain(code: int) -> Callable[[int], Instruction]:
    return lambda k: Instruction(code, k)


def _jump(code: int) -> Callable[..., Instruction]:
    def made(k: int, yes: str = "", no: str = "") -> Instruction:
        return Instruction(code, k, yes, no)

    return made


word, half, byte = _plain(0x20), _plain(0x28), _plain(0x30)  # A = what stands at k
half_x, byte_x = _plain(0x48), _plain(0x50)  # A = what stands at X + k
header_x, set_x = _plain(0xB1), _plain(0x01)  # X = length of the IPv4 header that begins at k; X = k
and_, add, shift = _plain(0x54), _plain(0x04), _plain(0x64)
ADD_X, TO_X, FROM_X = Instruction(0x0C), Instruction(0x07), Instruction(0x87)  # A += X, X = A, A = X
store, load = _plain(0x02), _plain(0x60)
give = _plain(0x06)  # ends: so many bytes of the frame; 0: none
is_, above, has = _jump(0x15), _jump(0x25), _jump(0x45)  # A == k, A > k, A & k


def assemble(lines: Iterable[Line]) -> bytes:
    """struct sock_filter for each instruction. Raises ValueError for a label that is nowhere, twice, behind, or too far away."""
    program: list[Instruction] = []
    places: dict[str, int] = {}
    for line in lines:
        if isinstance(line, Instruction):
            program.append(line)
        elif line in places:
            raise ValueError(f"the label {line} stands twice")
        else:
            places[line] = len(program)
    return b"".join(
        struct.pack("=HBBI", code, _offset(yes, at, places), _offset(no, at, places), k) for at, (code, k, yes, no) in enumerate(program)
    )


def _offset(label: str, at: int, places: dict[str, int]) -> int:
    if not label:
        return 0
    if label not in places:
        raise ValueError(f"no label {label}")
    offset = places[label] - at - 1
    if not 0 <= offset <= FARTHEST:
        raise ValueError(f"{label} is {offset} instructions away")
    return offset


def _ends(snap: int) -> list[Line]:
    return ["take", give(snap), "drop", give(0)]


def _one_of(values: Sequence[int], yes: str, no: str = "") -> list[Line]:
    """A is one of the values; else `no`."""
    return [*(is_(value, yes) for value in values[:-1]), is_(values[-1], yes, no)]


def _own_network() -> list[Line]:
    """Drops what carries a VLAN tag; number 0 is a priority only (IEEE 802.1Q 6.9)."""
    return [word(VLAN_PRESENT), is_(0, "untagged"), word(VLAN_TAG), has(0x0FFF, "drop"), "untagged"]


def _ipv4(protocols: dict[int, str]) -> list[Line]:
    """Jumps by protocol with X at the length of the header; later fragments hold no ports, and drop."""
    jumps = [is_(number, label) for number, label in protocols.items()]
    return [half(_NET + 6), has(0x1FFF, "drop"), header_x(_NET), byte(_NET + 9), *jumps[:-1], jumps[-1]._replace(no="drop")]


def _ipv6(protocols: dict[int, str], deepest: int = 3) -> list[Line]:
    """Jumps by protocol with X at the length of the extension headers. Fragments drop: hosts take no router's word from one (RFC 6980)."""
    lines: list[Line] = [set_x(0), byte(_NET + 6)]
    for depth in range(deepest + 1):
        lines += [is_(number, label) for number, label in protocols.items()]
        if depth == deepest:
            lines += [give(0)]
        else:
            extension = f"extension {depth}"
            lines += [*_one_of((HOP_BY_HOP, DESTINATION, ROUTING), extension, "drop"), extension, *_skip()]
    return lines


def _skip() -> list[Line]:
    """X behind the extension header that stands there (RFC 8200 4.3: length in units of 8, the first not counted); A = what follows."""
    begin = _NET + 40
    return [byte_x(begin), store(0), byte_x(begin + 1), shift(3), add(8), ADD_X, TO_X, load(0)]


def lan() -> bytes:
    ipv6 = _NET + 40
    return assemble(
        [
            *_own_network(),
            half(12),
            *_one_of((ARP, LLDP), "take"),
            is_(IPV4, "ipv4"),
            is_(IPV6, "ipv6"),
            above(1500, "drop"),  # an EtherType; else a length, and IEEE 802.3 frames by where they go to
            word(0),
            is_(0x01000CCC, "cisco"),
            is_(0x0180C200, "bridge", "drop"),
            "cisco",
            half(4),
            is_(0xCCCC, "take", "drop"),
            "bridge",
            half(4),
            is_(0x0000, "take", "drop"),
            "ipv4",
            *_ipv4({UDP: "udp4", ICMP: "icmp4"}),
            "udp4",
            half_x(_NET),
            *_one_of(PORTS4, "take"),
            half_x(_NET + 2),
            *_one_of(PORTS4, "take", "drop"),
            "icmp4",
            byte_x(_NET),
            is_(0, "", "drop"),  # echo reply
            word(PACKET_TYPE),
            is_(HOST, "", "drop"),
            word(RANDOM),
            has(SAMPLED - 1, "drop", "take"),
            "ipv6",
            *_ipv6({UDP: "udp6", ICMPV6: "icmp6"}),
            "udp6",
            half_x(ipv6),
            *_one_of(PORTS6, "take"),
            half_x(ipv6 + 2),
            *_one_of(PORTS6, "take", "drop"),
            "icmp6",
            byte_x(ipv6),
            *_one_of(DISCOVERY, "take", "drop"),
            *_ends(SNAP["lan"]),
        ]
    )


def contacts() -> bytes:
    ipv6 = _NET + 40
    return assemble(
        [
            *_own_network(),
            half(12),
            is_(IPV4, "ipv4"),
            is_(IPV6, "ipv6", "drop"),
            "ipv4",
            *_ipv4({TCP: "tcp4", ICMP: "icmp4"}),
            "tcp4",
            byte_x(_NET + 13),
            *_ends_of_tcp("4"),
            "icmp4",
            half_x(_NET),
            is_(0x0303, "sent", "drop"),  # port unreachable (RFC 792)
            "ipv6",
            *_ipv6({TCP: "tcp6", ICMPV6: "icmp6"}),
            "tcp6",
            byte_x(ipv6 + 13),
            *_ends_of_tcp("6"),
            "icmp6",
            half_x(ipv6),
            is_(0x0104, "sent", "drop"),  # port unreachable (RFC 4443 3.1)
            "sent",
            word(PACKET_TYPE),
            is_(OUTGOING, "take", "drop"),
            *_ends(SNAP["contacts"]),
        ]
    )


def _ends_of_tcp(family: str) -> list[Line]:
    """A = the flags (RFC 9293 3.1). In: SYN without ACK, to this host. Out: RST, or SYN and ACK."""
    came, went = f"came {family}", f"went {family}"
    return [
        TO_X,
        word(PACKET_TYPE),
        is_(HOST, came),
        is_(OUTGOING, went, "drop"),
        came,
        FROM_X,
        and_(SYN | ACK),
        is_(SYN, "take", "drop"),
        went,
        FROM_X,
        has(RST, "take"),
        and_(SYN | ACK),
        is_(SYN | ACK, "take", "drop"),
    ]


def count() -> bytes:
    return assemble([word(PACKET_TYPE), *_one_of((BROADCAST, MULTICAST), "take", "drop"), *_ends(SNAP["count"])])


PROGRAMS: dict[str, Callable[[], bytes]] = {"lan": lan, "contacts": contacts, "count": count}  # in the order that they are handed over
