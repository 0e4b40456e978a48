"""The DHCPv6 codec against scapy, against its corner cases, and against noise."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers import dhcp6 as scapy

from agent.wire import dhcp6 as codec
from tests.fuzz import SETTINGS, broken, fuzz

ADDRESSES = st.integers(0, (1 << 128) - 1).map(lambda n: str(ipaddress.IPv6Address(n)))
MACS = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
KINDS = {
    "solicit": scapy.DHCP6_Solicit, "advertise": scapy.DHCP6_Advertise, "request": scapy.DHCP6_Request, "confirm": scapy.DHCP6_Confirm,
    "renew": scapy.DHCP6_Renew, "rebind": scapy.DHCP6_Rebind, "reply": scapy.DHCP6_Reply, "release": scapy.DHCP6_Release,
    "decline": scapy.DHCP6_Decline, "reconfigure": scapy.DHCP6_Reconf, "information-request": scapy.DHCP6_InfoRequest,
}  # fmt: skip


def a_message(kind="reply", xid=7, client="02:00:00:00:00:01", server="02:00:00:00:00:02", dns=("2001:db8::53",)):
    return (
        KINDS[kind](trid=xid)
        / scapy.DHCP6OptClientId(duid=scapy.DUID_LL(lladdr=client))
        / scapy.DHCP6OptIA_NA(iaid=1)
        / scapy.DHCP6OptServerId(duid=scapy.DUID_LL(lladdr=server))
        / scapy.DHCP6OptDNSServers(dnsservers=list(dns))
    )


@SETTINGS
@given(st.sampled_from([*KINDS]), st.integers(0, (1 << 24) - 1), MACS, MACS, st.lists(ADDRESSES, max_size=3))
def test_a_message_reads_as_scapy_wrote_it(kind, xid, client, server, dns):
    message = codec.parse(bytes(a_message(kind, xid, client, server, dns)))

    duids = ["00030001" + mac.replace(":", "") for mac in (client, server)]
    assert message == codec.Message(kind, xid, *duids, tuple(dns))


def test_what_a_relay_wraps_is_not_unwrapped():
    raw = bytes(scapy.DHCP6_RelayForward() / scapy.DHCP6OptRelayMsg(message=a_message("solicit")))

    assert codec.parse(raw) == codec.Message("relay-forward", 0)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\1\0\0", b"\0\0\0\0", b"\x20\0\0\0", b"\x0c" + bytes(20), b"\1\0\0\1\0", b"\1\0\0\1\0\1\0\4abc",
        b"\1\0\0\1" + bytes(4) * 200,
        b"\1\0\0\1\0\x17\0\3abc", b"\1\0\0\1\0\1\0\x90" + bytes(0x90),
    ],
)  # fmt: skip
def test_what_is_no_dhcpv6_is_an_error(data):
    with pytest.raises(codec.Dhcp6Error):
        codec.parse(data)


@fuzz
@given(st.one_of(broken([bytes(a_message(kind)) for kind in KINDS]), st.binary(max_size=60)))
def test_fuzz_noise_is_a_message_or_an_error(data):
    with contextlib.suppress(codec.Dhcp6Error):
        codec.parse(data)
