"""Frames → observations: what of each frame a detector is given, real captures counted, and nothing that raises."""

import collections
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib import cdp
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import DUID_LL, DHCP6_Solicit, DHCP6OptClientId
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
)  # fmt: skip
from scapy.layers.l2 import ARP, LLC, SNAP, STP, Dot1Q, Dot3, Ether
from scapy.layers.llmnr import LLMNRQuery, LLMNRResponse
from scapy.packet import Raw

from agent.detect import reading, seen
from agent.wire import dhcp, frame, names, pcap
from tests.detect.player import CORPUS
from tests.fuzz import broken, fuzz

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
MANY = "01:00:5e:00:00:fc"
ETHER = Ether(src=A, dst=B)
V4 = IP(src="192.0.2.10", dst="192.0.2.20")
V6 = IPv6(src="2001:db8::10", dst="2001:db8::20")


def said(packet, *args):
    """The one observation of a frame."""
    raw = packet if isinstance(packet, bytes) else bytes(packet)
    found = list(reading.read(raw, *args))
    assert len(found) == 1
    return found[0]


def test_an_observation_holds_its_frame():
    raw = bytes(ETHER / ARP(op=2, hwsrc=A, psrc="192.0.2.1", hwdst=B, pdst="192.0.2.2"))

    assert said(raw, "in") == seen.Arp(seen.Frame(A, B, "in", raw), 2, A, "192.0.2.1", B, "192.0.2.2")


@pytest.mark.parametrize(
    ("own", "given", "direction"),
    [
        ((), "unknown", "unknown"),
        ({A}, "unknown", "out"),
        ({B}, "unknown", "in"),
        ({"02:00:00:00:00:99"}, "unknown", "unknown"),
        ({A}, "in", "in"),
    ],
)
def test_our_own_macs_tell_the_direction_where_nobody_else_does(own, given, direction):
    assert said(ETHER / ARP(), given, own).frame.direction == direction


@pytest.mark.parametrize("packet", [ETHER / V4, ETHER / V6, ETHER / Dot1Q(vlan=7) / V4], ids=["v4", "v6", "tagged"])
@pytest.mark.parametrize(
    ("flags", "sequence", "step"),
    [
        ("S", 9, "asked"),
        ("SEC", 9, "asked"),
        ("SA", 9, "open"),
        ("RA", 0, "closed"),
        ("RA", 5, ""),
        ("R", 0, ""),
        ("A", 0, ""),
        ("FA", 0, ""),
        ("SRA", 0, ""),
    ],
)
def test_the_steps_of_a_first_contact_and_who_began_it(packet, flags, sequence, step):
    ip = packet.lastlayer()
    what = said(packet / TCP(sport=40000, dport=443, flags=flags, seq=sequence))

    if step == "asked":
        assert what[1:] == ("tcp", "asked", ip.src, ip.dst, 443)
    elif step:
        assert what[1:] == ("tcp", step, ip.dst, ip.src, 40000)
    else:
        assert what == seen.Packet(what.frame, ip.src, ip.dst)


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (IP(src="192.0.2.20", dst="192.0.2.10") / ICMP(type=3, code=3), V4),
        (IPv6(src="2001:db8::20", dst="2001:db8::10") / ICMPv6DestUnreach(code=4), V6),
    ],
)
def test_port_unreachable_closes_a_udp_contact(answer, asked):
    what = said(ETHER / answer / asked / UDP(sport=50000, dport=161))

    assert what[1:] == ("udp", "closed", asked.src, asked.dst, 161)


@pytest.mark.parametrize(
    "packet",
    [
        IP(src="192.0.2.1", dst="192.0.2.10") / ICMP(type=3, code=3) / V4 / UDP(),  # a router, for another
        IP(src="192.0.2.20", dst="192.0.2.30") / ICMP(type=3, code=3) / V4 / UDP(),  # told to somebody else
        IP(src="192.0.2.20", dst="192.0.2.10") / ICMP(type=3, code=3) / V4 / TCP(),
        IP(src="192.0.2.20", dst="192.0.2.10") / ICMP(type=3, code=1) / V4 / UDP(),
        IP(src="192.0.2.20", dst="192.0.2.10") / ICMP(type=8),
    ],
)
def test_other_icmp_is_a_packet(packet):
    assert isinstance(said(ETHER / packet), seen.Packet)


def test_later_fragments_have_no_ports():
    assert isinstance(said(ETHER / IP(frag=3, proto=6) / Raw(bytes(TCP(flags="S")))), seen.Packet)


def test_dhcp_of_a_server():
    options = [("message-type", 2), ("server_id", "192.0.2.1"), ("router", "192.0.2.1"), ("name_server", "192.0.2.3", "192.0.2.4"), "end"]
    bootp = BOOTP(op=2, xid=99, yiaddr="192.0.2.77", giaddr="192.0.2.9", chaddr=b"\2\0\0\0\0\x0a", flags=0x8000)
    what = said(ETHER / IP(src="192.0.2.1", dst="255.255.255.255") / UDP(sport=67, dport=68) / bootp / DHCP(options=options))

    assert what == seen.Dhcp(
        what.frame, "offer", 99, A, "192.0.2.1", "192.0.2.77", "192.0.2.9", "192.0.2.1", "", ("192.0.2.1",), ("192.0.2.3", "192.0.2.4"),
        "", "", broadcast=True,
    )  # fmt: skip


def test_dhcp_of_our_own_probe():
    what = said(dhcp.discover(seen.RONDA_MAC + ":00:07", 5, "ronda-probe"))

    assert (what.type, what.client_mac, what.hostname, what.source) == ("discover", seen.RONDA_MAC + ":00:07", "ronda-probe", "0.0.0.0")


def test_dhcpv6():
    packet = V6 / UDP(sport=546, dport=547) / DHCP6_Solicit() / DHCP6OptClientId(duid=DUID_LL(lladdr=A))
    what = said(ETHER / packet)

    assert what == seen.Dhcp6(what.frame, "solicit", "2001:db8::10", "00030001" + A.replace(":", ""))


def test_a_router_advertisement():
    packet = IPv6(src="fe80::1", dst="ff02::1", hlim=255) / ICMPv6ND_RA(routerlifetime=0, prf=1, M=1)
    packet /= ICMPv6NDOptPrefixInfo(prefix="2001:db8:1::", prefixlen=64, validlifetime=9, preferredlifetime=8)
    what = said(ETHER / packet / ICMPv6NDOptRDNSS(dns=["2001:db8::53"], len=3, lifetime=60) / ICMPv6NDOptSrcLLAddr(lladdr=A))

    assert what == seen.RouterAdvert(
        what.frame, "fe80::1", 255, 0, "high", True, False, (seen.Prefix("2001:db8:1::/64", 9, 8, True),), ("2001:db8::53",), A
    )  # fmt: skip


def test_neighbours_and_what_no_host_takes_for_one():
    solicit = said(ETHER / IPv6(src="fe80::1", dst="ff02::1", hlim=255) / ICMPv6ND_NS(tgt="fe80::2") / ICMPv6NDOptSrcLLAddr(lladdr=A))
    advert = said(ETHER / IPv6(src="fe80::2", dst="fe80::1", hlim=255) / ICMPv6ND_NA(tgt="fe80::2", O=1) / ICMPv6NDOptDstLLAddr(lladdr=B))
    routed = said(ETHER / IPv6(src="fe80::1", dst="ff02::1", hlim=64) / ICMPv6ND_NS(tgt="fe80::2"))
    parts = IPv6ExtHdrFragment(m=1) / ICMPv6ND_RA()
    fragment = said(ETHER / IPv6(src="fe80::1", dst="ff02::1", hlim=255) / parts)

    assert solicit[1:] == ("solicit", "fe80::1", "fe80::2", A, False)
    assert advert[1:] == ("advert", "fe80::2", "fe80::2", B, True)
    assert [type(what) for what in (routed, fragment)] == [seen.Packet] * 2


def asked(port, data, target=MANY):
    return Ether(src=A, dst=target) / IP(src="192.0.2.10", dst="224.0.0.252") / UDP(sport=50000, dport=port) / Raw(data)


@pytest.mark.parametrize(
    ("port", "data", "protocol", "name"),
    [
        (5355, names.llmnr_query("wpad", 1), "llmnr", "wpad"),
        (137, names.nbns_query("wpad", 1), "nbns", "WPAD"),
        (5353, names.mdns_query("wpad.local"), "mdns", "wpad.local"),
        (5355, bytes(LLMNRQuery(id=3, qd=DNSQR(qname="printer"))), "llmnr", "printer"),
    ],
)
def test_a_question_to_everybody(port, data, protocol, name):
    assert said(asked(port, data))[1:] == (protocol, "192.0.2.10", name)


def test_what_is_no_question_to_everybody_is_a_packet():
    answer = bytes(LLMNRResponse(id=1, qr=1, qd=DNSQR(qname="wpad"), an=DNSRR(rrname="wpad", rdata="192.0.2.66")))
    packets = [
        asked(5355, names.llmnr_query("wpad", 1), B), asked(5355, answer), asked(137, names.llmnr_query("wpad", 1)), asked(5355, b"noise"),
        ETHER / V4 / UDP(sport=5355, dport=50000) / Raw(answer[:2] + b"\x80\x03" + answer[4:]),
        asked(5355, b"\0\1\x28\0\0\1" + bytes(6) + b"\1a\0\0\1\0\1"),
    ]  # fmt: skip

    assert [type(said(packet)) for packet in packets] == [seen.Packet] * len(packets)


def test_an_answer_comes_from_the_port_of_its_protocol():
    answer = LLMNRResponse(id=1, qr=1, qd=DNSQR(qname="wpad"), an=DNSRR(rrname="wpad", rdata="192.0.2.66"))
    what = said(ETHER / V4 / UDP(sport=5355, dport=50000) / answer)

    assert what[1:] == ("llmnr", "192.0.2.10", "wpad", ("192.0.2.66",))


def test_an_mdns_announcement_of_many_names():
    records = [DNSRR(rrname=f"pc{i}.local", rdata=f"192.0.2.{i}") for i in range(3)]
    raw = bytes(Ether(src=A, dst=MANY) / V4 / UDP(sport=5353, dport=5353) / DNS(id=0, qr=1, aa=1, qd=[], an=records))

    assert [(what.name, what.addresses) for what in reading.read(raw)] == [(f"pc{i}.local", (f"192.0.2.{i}",)) for i in range(3)]


def test_what_devices_say_of_themselves():
    mndp = bytes(4) + b"\0\5\0\6kantor\0\x0c\0\7RB750r2"
    by_mndp = said(ETHER / V4 / UDP(sport=5678, dport=5678) / Raw(mndp))
    s1 = cdp.CDPv2_HDR(msg=[cdp.CDPMsgDeviceID(val=b"S1"), cdp.CDPMsgPlatform(val=b"WS-C3560")])
    by_cdp = said(Dot3(src=A, dst="01:00:0c:cc:cc:cc") / LLC() / SNAP(OUI=0x00000C, code=0x2000) / s1)

    assert by_mndp[1:] == ("mndp", A, "kantor", "RB750r2", "", "", -1.0)
    assert by_cdp[1:5] == ("cdp", A, "S1", "WS-C3560")


def test_spanning_tree():
    what = said(
        Dot3(src=A, dst="01:80:c2:00:00:00")
        / LLC(dsap=0x42, ssap=0x42, ctrl=3)
        / STP(bpduflags=1, rootid=4096, rootmac=A, bridgeid=8192, bridgemac=B)
    )

    assert what[1:] == (f"1000.{A}", f"2000.{B}", True)


@pytest.mark.parametrize("raw", [b"", b"x" * 13, bytes(60), bytes(Ether(type=0x88B5)), bytes(ETHER / ARP())[:30], bytes(ETHER / IP())[:30]])
def test_what_can_not_be_read_says_nothing(raw):
    assert list(reading.read(raw)) == []


def test_an_ip_packet_whose_inside_can_not_be_read_is_a_packet():
    for packet in (V4 / TCP(dataofs=2), V4 / UDP(sport=67, dport=68) / Raw(b"noise"), V6 / UDP(len=3), V4 / ICMP(type=3, code=3)):
        what = said(ETHER / packet)

        assert what == seen.Packet(what.frame, packet.src, packet.dst)


# -- real captures ------------------------------------------------------------------------------------------------------------------


def capture(name):
    """A capture of the corpus; None, said, where it isn't here: the corpus is no part of this project, generated frames stand for it."""
    if (CORPUS / name).is_file():
        return pcap.Capture(io.BytesIO((CORPUS / name).read_bytes()).read)
    print(f"not looked at: {CORPUS / name} isn't here")
    return None


def all_of(name):
    """Every observation of a capture, and of which packet it is, from 1. None: it isn't here."""
    packets = capture(name)
    return packets and [(number, what) for number, packet in enumerate(packets, 1) for what in _read(packet)]


def _read(packet):
    try:
        found = pcap.link(packet)
    except frame.FrameError:
        return ()
    return reading.read_link(found[0], packet.data, found[1]) if found else ()


def kind_of(what):
    return type(what).__name__ + (f" {what.step}" if isinstance(what, seen.Contact) else "")


COUNTS = {
    "arp_gratuitous.pcapng": {"Arp": 1},
    "arp_resolution.pcapng": {"Arp": 2},
    "arppoison.pcapng": {"Packet": 157, "Arp": 4, "Contact asked": 2, "Contact open": 2},
    "dhcp_inlease_renewal.pcapng": {"Dhcp": 2},
    "dhcp_nolease_initialization.pcapng": {"Dhcp": 4},
    "dns_isp_hijack.pcapng": {"Packet": 117, "Contact asked": 3, "Contact open": 3},
    "llmnr_udp.pcap": {"NameQuery": 1, "NameAnswer": 1},
    "maltrail_ack_sweep_no_fp.pcap": {"Packet": 21},
    "maltrail_clean_tcp.pcap": {"Contact asked": 20, "Contact open": 20},
    "maltrail_duplicate_syn.pcap": {"Contact asked": 8},
    "maltrail_port_scan.pcap": {"Contact asked": 20, "Packet": 1},
    "synscan.pcapng": {"Contact asked": 1994, "Contact open": 12, "Packet": 5},
    "tcpdump_HSRP_failover.pcap": {"Packet": 39},
    "tcpdump_LLDP_and_CDP.pcap": {"Identity": 12},
    "tcpdump_dhcpv6-ia-na.pcap": {"Dhcp6": 4},
    "tcpdump_icmpv6-ra-pref64.pcap": {"RouterAdvert": 4},
    "tcpdump_icmpv6.pcap": {"RouterAdvert": 1, "Packet": 4},
    "tcpdump_vrrp.pcap": {"Packet": 165},
}
MALFORMED = sorted(path.name for path in (CORPUS / "malformed").glob("*"))


@pytest.mark.parametrize("name", COUNTS)
def test_what_a_real_capture_holds_is_counted_exactly(name):
    found = all_of(f"pcap/{name}")

    assert found is None or collections.Counter(kind_of(what) for _, what in found) == COUNTS[name]


def test_where_the_gateway_of_a_real_capture_gets_another_mac():
    """Its 53rd packet is the last that the old router brings; in ARP there never is a conflict."""
    found = all_of("pcap/arppoison.pcapng") or []
    brought = {what.frame.source: number for number, what in found if getattr(what, "target", "") == "172.16.0.107"}

    assert brought.get("00:26:0b:31:07:33", 53) == 53
    assert max(brought.values(), default=54) == brought.get("00:25:b3:bf:91:ee", 54) > 53


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("tcpdump_icmpv6-ra-pref64.pcap", {"lifetime": 500, "preference": "medium", "hops": 255, "mac": "e2:15:81:b4:b9:45"}),
        ("llmnr_udp.pcap", {"protocol": "llmnr", "name": "hs2011", "source": "192.168.10.233"}),
        ("dhcp_nolease_initialization.pcapng", {"type": "discover", "hostname": "ubuntu2", "requested": "192.168.100.129"}),
        ("tcpdump_LLDP_and_CDP.pcap", {"protocol": "cdp", "name": "S1", "board": "cisco WS-C3560-24TS", "port": "FastEthernet0/13"}),
    ],
)
def test_the_first_words_of_real_devices(name, first):
    found = all_of(f"pcap/{name}")

    assert found is None or {field: getattr(found[0][1], field) for field in first} == first


@pytest.mark.parametrize("name", MALFORMED or ["none"])
def test_what_breaks_other_programs_is_read_or_left(name):
    packets = capture(f"malformed/{name}")
    whole = list(packets or ())

    assert packets is None or whole or packets.ended
    assert all(isinstance(what.frame, seen.Frame) for packet in whole for what in _read(packet))


# -- noise --------------------------------------------------------------------------------------------------------------------------

REAL = [
    bytes(packet)
    for packet in (
        ETHER / ARP(), ETHER / V4 / TCP(flags="S"), ETHER / V6 / TCP(flags="SA"), ETHER / Dot1Q() / V4 / ICMP(type=3, code=3) / V4 / UDP(),
        dhcp.discover(A, 1, "pc"), asked(5355, names.llmnr_query("wpad", 1)), asked(137, names.nbns_query("wpad", 1)),
        asked(5353, names.mdns_query("a.local")), ETHER / V6 / UDP(sport=546, dport=547) / DHCP6_Solicit(),
        ETHER / IPv6(hlim=255) / ICMPv6ND_RA() / ICMPv6NDOptPrefixInfo(), ETHER / IPv6(hlim=255) / ICMPv6ND_NS(tgt="fe80::2"),
        Dot3() / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP(), ETHER / V4 / UDP(sport=5678, dport=5678) / Raw(bytes(4) + b"\0\5\0\1a"),
        Dot3() / LLC() / SNAP(OUI=0x00000C, code=0x2000) / cdp.CDPv2_HDR(msg=[cdp.CDPMsgDeviceID(val=b"S1")]),
    )
]  # fmt: skip


@fuzz
@given(st.one_of(broken(REAL), st.binary(max_size=120), st.binary(max_size=80).map(lambda noise: bytes(ETHER)[:12] + noise)))
def test_fuzz_no_frame_raises(raw):
    for what in reading.read(raw):
        assert what.frame.raw == raw
