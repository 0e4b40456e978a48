"""Neighbour discovery against scapy, against its corner cases, and against noise."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptSrcLLAddr,
)

from agent.wire import ndp as codec
from tests.fuzz import SETTINGS, broken, fuzz

ADDRESSES = st.integers(0, (1 << 128) - 1).map(lambda n: str(ipaddress.IPv6Address(n)))
MACS = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
SECONDS = st.integers(0, (1 << 32) - 1)
PREFERENCES = {0: "medium", 1: "high", 2: "medium", 3: "low"}
ADVERT = (
    ICMPv6ND_RA(routerlifetime=1800)
    / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:01")
    / ICMPv6NDOptPrefixInfo(prefix="2001:db8::", prefixlen=64)
)


@SETTINGS
@given(
    st.integers(0, 65535), st.sampled_from([*PREFERENCES]), st.booleans(), st.booleans(), ADDRESSES, st.integers(0, 128), SECONDS, SECONDS,
    st.booleans(), st.lists(ADDRESSES, min_size=1, max_size=3), MACS,
)  # fmt: skip
def test_a_router_advertisement_reads_as_scapy_wrote_it(lifetime, pref, managed, other, prefix, length, valid, preferred, auto, dns, mac):
    packet = ICMPv6ND_RA(routerlifetime=lifetime, prf=pref, M=managed, O=other) / ICMPv6NDOptMTU(mtu=1500)
    packet /= ICMPv6NDOptPrefixInfo(prefix=prefix, prefixlen=length, validlifetime=valid, preferredlifetime=preferred, A=auto)
    packet /= ICMPv6NDOptRDNSS(dns=dns, len=1 + 2 * len(dns), lifetime=600) / ICMPv6NDOptSrcLLAddr(lladdr=mac)

    said = codec.parse(bytes(packet))

    network = str(ipaddress.IPv6Network((prefix, length), strict=False))
    assert said == codec.RouterAdvert(
        lifetime, PREFERENCES[pref], managed, other, (codec.Prefix(network, valid, preferred, auto),), tuple(dns), mac
    )  # fmt: skip


def test_name_servers_that_are_taken_back_are_none():
    said = codec.parse(bytes(ICMPv6ND_RA() / ICMPv6NDOptRDNSS(dns=["2001:db8::53"], len=3, lifetime=0)))

    assert said.dns == ()


@SETTINGS
@given(ADDRESSES, MACS, st.booleans())
def test_neighbours_read_as_scapy_wrote_them(target, mac, override):
    asked = codec.parse(bytes(ICMPv6ND_NS(tgt=target) / ICMPv6NDOptSrcLLAddr(lladdr=mac)))
    answered = codec.parse(bytes(ICMPv6ND_NA(tgt=target, O=override) / ICMPv6NDOptDstLLAddr(lladdr=mac)))

    assert asked == codec.Neighbour("solicit", target, mac, override=False)
    assert answered == codec.Neighbour("advert", target, mac, override=override)


def test_what_says_nothing_of_its_mac():
    assert codec.parse(bytes(ICMPv6ND_NS(tgt="2001:db8::1"))).mac == ""


def test_other_messages_are_none():
    assert codec.parse(bytes(ICMPv6EchoRequest())) is None
    assert codec.parse(bytes(ICMPv6ND_RA(code=1))) is None


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x86\0\0", b"\x86" + bytes(14), b"\x87" + bytes(22), bytes(ADVERT)[:-1], b"\x86" + bytes(15) + b"\1\0",
        b"\x86" + bytes(15) + b"\5\1\0\0\0\0\0\0" * 65, b"\x86" + bytes(15) + b"\3\1" + bytes(6),
        b"\x86" + bytes(15) + b"\x19\2" + bytes(14),
        b"\x86" + bytes(15) + b"\3\4\x81" + bytes(29),
    ],
)  # fmt: skip
def test_what_can_not_be_is_an_error(data):
    with pytest.raises(codec.NdpError):
        codec.parse(data)


@fuzz
@given(
    st.one_of(
        broken([bytes(ADVERT), bytes(ICMPv6ND_NA() / ICMPv6NDOptDstLLAddr()), bytes(ICMPv6ND_RA() / ICMPv6NDOptRDNSS(dns=["::1"], len=3))]),
        st.binary(max_size=80),
    )
)
def test_fuzz_noise_is_a_message_or_an_error(data):
    with contextlib.suppress(codec.NdpError):
        codec.parse(data)
