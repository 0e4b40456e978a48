"""Heads of frames against scapy, against their corner cases, and against noise."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Timestamp
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)  # fmt: skip
from scapy.layers.l2 import ARP, LLC, SNAP, STP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Raw

from agent.wire import frame as codec
from tests.fuzz import SETTINGS, broken, fuzz

MACS = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
IPV4 = st.integers(0, (1 << 32) - 1).map(lambda n: str(ipaddress.IPv4Address(n)))
IPV6 = st.integers(0, (1 << 128) - 1).map(lambda n: str(ipaddress.IPv6Address(n)))
PORTS = st.integers(0, 65535)
PAYLOADS = st.binary(max_size=40)
TAGS = st.lists(st.integers(0, 4095), max_size=2)
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


def built(packet):
    """The packet's bytes, and what scapy reads from them once more: lengths and checksums are filled in then."""
    raw = bytes(packet)
    return raw, type(packet)(raw)


def headed(raw):
    link = codec.link(raw)
    return link, codec.ip(raw, link.at, link.end)


@SETTINGS
@given(MACS, MACS, TAGS, IPV4, IPV4, st.integers(1, 255), PORTS, PORTS, PAYLOADS)
def test_an_ipv4_datagram_behind_tags_reads_as_in_scapy(source, target, tags, a, b, ttl, sport, dport, payload):
    packet = Ether(src=source, dst=target)
    for tag in tags:
        packet /= Dot1Q(vlan=tag)
    raw, read = built(packet / IP(src=a, dst=b, ttl=ttl) / UDP(sport=sport, dport=dport) / Raw(payload))

    link, ip = headed(raw)
    udp = codec.udp(raw, ip.at, ip.end)

    assert (link.source, link.target, link.kind) == (source, target, 0x0800)
    assert link.vlan == (tags[0] if tags else -1)
    assert (ip.source, ip.target, ip.protocol, ip.hops) == (read[IP].src, read[IP].dst, 17, ttl)
    assert (udp.source, udp.target, raw[udp.at : udp.end]) == (sport, dport, payload)


@SETTINGS
@given(IPV6, IPV6, st.integers(0, 255), st.lists(st.sampled_from(["hop", "dest", "route", "fragment"]), max_size=4), PORTS, PORTS)
def test_an_ipv6_segment_behind_extension_headers_reads_as_in_scapy(a, b, hops, headers, sport, dport):
    kinds = {"hop": IPv6ExtHdrHopByHop, "dest": IPv6ExtHdrDestOpt, "route": IPv6ExtHdrRouting, "fragment": IPv6ExtHdrFragment}
    packet = ETHER / IPv6(src=a, dst=b, hlim=hops)
    for header in headers:
        packet /= kinds[header]()
    raw, _ = built(packet / TCP(sport=sport, dport=dport, seq=7, flags="SA"))

    _, ip = headed(raw)

    assert (ip.source, ip.target, ip.protocol, ip.hops, ip.first) == (a, b, 6, hops, True)
    assert codec.tcp(raw, ip.at, ip.end) == (sport, dport, 7, codec.SYN | codec.ACK)


@SETTINGS
@given(st.sampled_from([1, 2, 3]), MACS, IPV4, MACS, IPV4)
def test_arp_reads_as_in_scapy(op, sender_mac, sender, target_mac, target):
    raw, read = built(ETHER / ARP(op=op, hwsrc=sender_mac, psrc=sender, hwdst=target_mac, pdst=target))

    link = codec.link(raw)

    assert link.kind == codec.ARP
    assert codec.arp(raw, link.at, link.end) == (read.op, read.hwsrc, read.psrc, read.hwdst, read.pdst)


def test_padding_behind_a_packet_is_no_part_of_it():
    raw = bytes(ETHER / IP() / UDP(sport=1, dport=2) / b"ab") + bytes(20)

    _, ip = headed(raw)
    udp = codec.udp(raw, ip.at, ip.end)

    assert raw[udp.at : udp.end] == b"ab"


def test_ipv4_options_are_passed_over():
    raw = bytes(ETHER / IP(options=[IPOption_Timestamp()]) / TCP(sport=5, dport=6, flags="R"))

    _, ip = headed(raw)

    assert codec.tcp(raw, ip.at, ip.end)[:2] == (5, 6)
    assert raw[14] & 15 > 5


@pytest.mark.parametrize(
    ("offset", "flags", "first", "fragment"), [(0, 0, True, False), (0, 1, True, True), (3, 1, False, True), (3, 0, False, True)]
)
def test_only_the_first_fragment_has_the_head(offset, flags, first, fragment):
    v4 = headed(bytes(ETHER / IP(frag=offset, flags=flags, proto=17) / Raw(bytes(16))))[1]
    v6 = headed(bytes(ETHER / IPv6() / IPv6ExtHdrFragment(offset=offset, m=flags, nh=17) / Raw(bytes(16))))[1]

    assert [(p.first, p.fragment, p.protocol) for p in (v4, v6)] == [(first, fragment, 17)] * 2


def test_a_packet_that_the_card_will_cut_reaches_to_the_end():
    raw = bytes(ETHER / IP(len=0) / TCP() / bytes(3000))

    _, ip = headed(raw)

    assert ip.end == len(raw)


def test_two_tags_of_a_provider_and_a_third_that_nobody_has():
    two = codec.link(bytes(ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / IP()))
    three = codec.link(bytes(ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / Dot1Q(vlan=7) / IP()))

    assert (two.kind, two.vlan, two.at) == (codec.IPV4, 5, 22)
    assert (three.kind, three.vlan, three.at) == (0x8100, 5, 22)


def test_llc_and_snap_tell_what_they_carry():
    ether = Dot3(src="02:00:00:00:00:01", dst="01:80:c2:00:00:00")
    frames = [
        ether / LLC() / STP(),
        ether / LLC() / SNAP(OUI=0x00000C, code=0x2000) / b"x",
        ether / LLC() / SNAP(OUI=0, code=0x0800) / IP(),
    ]

    assert [codec.link(bytes(f)).kind for f in frames] == [codec.STP, codec.CDP, codec.IPV4]


def test_an_802_3_payload_ends_where_its_length_says():
    raw = bytes(Dot3() / LLC() / STP()) + bytes(8)

    link = codec.link(raw)

    assert link.end - link.at == 35


def test_the_address_is_as_ipaddress_writes_it():
    for text in ("::ffff:192.0.2.1", "::192.0.2.1", "2001:db8::1:0:0:1", "::", "::1", "2001:db8:0:1:1:1:1:1"):
        address = ipaddress.IPv6Address(text)

        assert codec.text6(address.packed) == str(address)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (IP(src="192.0.2.2", dst="192.0.2.1") / ICMP(type=3, code=3), IP(src="192.0.2.1", dst="192.0.2.2")),
        (IPv6(src="2001:db8::2", dst="2001:db8::1") / ICMPv6DestUnreach(code=4), IPv6(src="2001:db8::1", dst="2001:db8::2")),
    ],
)
def test_the_packet_that_port_unreachable_quotes(outer, inner):
    raw = bytes(ETHER / outer / inner / UDP(sport=40000, dport=161))

    _, ip = headed(raw)

    assert codec.refused(raw, ip) == (inner.src, inner.dst, 17, 40000, 161)


def test_other_icmp_errors_are_not_port_unreachable():
    raw = bytes(ETHER / IP() / ICMP(type=3, code=1) / IP() / UDP())

    assert codec.refused(raw, headed(raw)[1]) is None


@pytest.mark.parametrize("cut", [0, 13, 14, 16, 21, 33, 34, 53])
def test_what_is_cut_off_is_an_error(cut):
    raw = bytes(ETHER / Dot1Q() / IP() / TCP())[:cut]

    with pytest.raises(codec.FrameError):
        everything(raw)


@pytest.mark.parametrize(
    "packet",
    [
        IP(ihl=4), IP(ihl=15), IP(version=5), IP(len=19), IPv6(version=7), IPv6(nh=0), IP() / TCP(dataofs=4), IP() / UDP(len=7),
        IPv6() / IPv6ExtHdrHopByHop(len=200) / UDP(), IP(proto=1), IP() / ICMP(type=3, code=3) / IP(frag=1, len=28) / Raw(bytes(8)),
    ],
)  # fmt: skip
def test_what_can_not_be_is_an_error(packet):
    with pytest.raises(codec.FrameError):
        everything(bytes(ETHER / packet))


def test_nine_extension_headers_are_refused():
    packet = ETHER / IPv6()
    for _ in range(9):
        packet /= IPv6ExtHdrDestOpt()

    with pytest.raises(codec.FrameError):
        headed(bytes(packet / UDP()))


def everything(raw):
    """All that can be read of a frame."""
    link = codec.link(raw)
    if link.kind == codec.ARP:
        return codec.arp(raw, link.at, link.end)
    ip = codec.ip(raw, link.at, link.end)
    if ip.protocol == 6:
        return codec.tcp(raw, ip.at, ip.end)
    if ip.protocol == 17:
        return codec.udp(raw, ip.at, ip.end)
    return codec.refused(raw, ip)


REAL = [
    bytes(ETHER / IP() / TCP()), bytes(ETHER / ARP()),
    bytes(ETHER / Dot1Q() / IPv6() / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment() / UDP()),
    bytes(ETHER / IP() / ICMP(type=3, code=3) / IP() / UDP()), bytes(ETHER / IPv6() / ICMPv6DestUnreach(code=4) / IPv6() / UDP()),
    bytes(Dot3() / LLC() / SNAP(OUI=0, code=0x0800) / IP() / UDP()),
]  # fmt: skip


@fuzz
@given(st.binary(max_size=120))
def test_fuzz_noise_is_a_frame_or_an_error(raw):
    with contextlib.suppress(codec.FrameError):
        everything(raw)


@fuzz
@given(broken(REAL))
def test_fuzz_a_broken_frame_is_a_frame_or_an_error(raw):
    with contextlib.suppress(codec.FrameError):
        everything(raw)


# -- what is sent -------------------------------------------------------------------------------------------------------------------


@SETTINGS
@given(MACS, IPV4)
def test_an_arp_probe_reads_so_in_scapy(mac, target):
    read = Ether(codec.arp_probe(mac, target))

    assert (read.dst, read.src, read[ARP].op) == ("ff:ff:ff:ff:ff:ff", mac, 1)
    assert (read.hwsrc, read.psrc, read.hwdst, read.pdst) == (mac, "0.0.0.0", "00:00:00:00:00:00", target)


@SETTINGS
@given(IPV4, IPV4, PORTS, PORTS, st.binary(max_size=200))
def test_a_datagram_has_the_checksums_that_scapy_works_out(source, target, sport, dport, payload):
    raw = codec.udp4((source, sport), (target, dport), payload)
    read = IP(raw)
    again = read.copy()
    del again.chksum, again.len, again[UDP].chksum, again[UDP].len

    assert bytes(again) == raw
    assert (read.src, read.dst, read[UDP].sport, read[UDP].dport, bytes(read[UDP].payload)) == (source, target, sport, dport, payload)


@pytest.mark.parametrize(
    ("mac", "target"),
    [("", "192.0.2.1"), ("02:00:00:00:00", "192.0.2.1"), ("zz:00:00:00:00:00", "192.0.2.1"), ("02:00:00:00:00:01", "::1")],
)
def test_what_can_not_be_sent_is_an_error(mac, target):
    with pytest.raises(codec.FrameError):
        codec.arp_probe(mac, target)


def test_a_payload_that_no_packet_holds_is_an_error():
    with pytest.raises(codec.FrameError):
        codec.udp4(("192.0.2.1", 1), ("192.0.2.2", 2), bytes(65508))
