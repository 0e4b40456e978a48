"""The DHCP codec against scapy, against its corner cases, and against noise."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from agent.wire import dhcp as codec
from tests.fuzz import SETTINGS, fuzz

ADDRESSES = st.integers(1, (1 << 32) - 1).map(lambda n: str(ipaddress.IPv4Address(n)))
LISTS = st.lists(ADDRESSES, min_size=1, max_size=4)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=40)
NUMBERS = {"discover": 1, "offer": 2, "request": 3, "decline": 4, "ack": 5, "nak": 6, "release": 7, "inform": 8}
FIXED = bytes(BOOTP(chaddr=bytes(6), xid=1))[:236]


def with_options(options, sname=b"", file=b""):
    fixed = bytearray(FIXED)
    fixed[44 : 44 + len(sname)], fixed[108 : 108 + len(file)] = sname, file
    return bytes(fixed) + b"\x63\x82\x53\x63" + options


@SETTINGS
@given(
    st.sampled_from([*NUMBERS]), st.integers(0, (1 << 32) - 1), st.binary(min_size=6, max_size=6),
    ADDRESSES, ADDRESSES, ADDRESSES, ADDRESSES,
    LISTS, LISTS, NAMES, st.booleans(),
)  # fmt: skip
def test_a_message_reads_as_scapy_wrote_it(type_, xid, mac, offered, relay, server, requested, routers, dns, name, broadcast):
    options = [
        ("message-type", NUMBERS[type_]), ("server_id", server), ("requested_addr", requested), ("router", *routers), ("name_server", *dns),
        ("hostname", name), ("vendor_class_id", name), "end",
    ]  # fmt: skip
    packet = BOOTP(op=2, xid=xid, chaddr=mac, yiaddr=offered, giaddr=relay, flags=0x8000 if broadcast else 0) / DHCP(options=options)

    message = codec.parse(bytes(packet))

    assert message == codec.Message(
        reply=True, type=type_, xid=xid, client_mac=mac.hex(":"), broadcast=broadcast, offered=offered, relay=relay, server=server,
        requested=requested, routers=tuple(routers), dns=tuple(dns), hostname=name, vendor=name,
    )  # fmt: skip


def test_dns_servers_and_the_portal():
    packet = BOOTP(chaddr=bytes(6)) / DHCP(
        options=[("message-type", 5), (6, bytes((9, 9, 9, 9, 8, 8, 8, 8))), (114, b"https://a.example/"), "end"]
    )

    message = codec.parse(bytes(packet))

    assert (message.dns, message.portal) == (("9.9.9.9", "8.8.8.8"), "https://a.example/")


def test_bootp_without_options_has_no_type():
    assert codec.parse(bytes(BOOTP(op=1, chaddr=b"\2\0\0\0\0\1", options=b""))[:236]).type == ""


def test_options_overflow_into_file_and_name():
    message = codec.parse(with_options(b"\x34\1\3\xff", sname=b"\x0c\3box\xff", file=b"\x35\1\1\xff"))

    assert (message.type, message.hostname) == ("discover", "box")


@pytest.mark.parametrize(("overload", "type_", "hostname"), [(1, "discover", ""), (2, "", "box"), (0, "", "")])
def test_only_the_fields_that_are_named_hold_options(overload, type_, hostname):
    message = codec.parse(with_options(bytes((0x34, 1, overload, 0xFF)), sname=b"\x0c\3box\xff", file=b"\x35\1\1\xff"))

    assert (message.type, message.hostname) == (type_, hostname)


def test_an_option_in_parts_is_one():
    assert codec.parse(with_options(b"\x0c\2bo\x35\1\1\x0c\1x\xff")).hostname == "box"


@pytest.mark.parametrize("options", [b"", b"\0\0\0", b"\x35\1\1"])
def test_the_end_may_be_missing(options):
    assert codec.parse(with_options(options)).xid == 1


def test_a_type_that_nobody_knows_is_none():
    assert codec.parse(with_options(b"\x35\1\xc8\xff")).type == ""
    assert codec.parse(with_options(b"\x35\2\1\1\xff")).type == ""


@pytest.mark.parametrize(
    "data", [b"", FIXED[:235], b"\3" + FIXED[1:], FIXED[:2] + b"\x11" + FIXED[3:], with_options(b"\x35"), with_options(b"\x35\2\1")]
)
def test_what_is_no_dhcp_is_an_error(data):
    with pytest.raises(codec.DhcpError):
        codec.parse(data)


@SETTINGS
@given(st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":")), st.integers(0, (1 << 32) - 1), NAMES)
def test_our_discover_reads_so_in_scapy(mac, xid, hostname):
    raw = codec.discover(mac, xid, hostname)
    read = Ether(raw)
    options = dict(o for o in read[DHCP].options if isinstance(o, tuple))

    assert (read.src, read.dst, read[IP].src, read[IP].dst, read[UDP].sport, read[UDP].dport) == (
        mac, "ff:ff:ff:ff:ff:ff", "0.0.0.0", "255.255.255.255", 68, 67,
    )  # fmt: skip
    assert (read[BOOTP].op, read[BOOTP].xid, read[BOOTP].flags, read[BOOTP].chaddr[:6].hex(":")) == (1, xid, 0x8000, mac)
    assert (options["message-type"], options["hostname"]) == (1, hostname.encode())
    assert {1, 3, 6} <= set(options["param_req_list"])
    assert checksummed(read) == raw
    assert codec.parse(raw[42:]) == codec.Message(reply=False, type="discover", xid=xid, client_mac=mac, broadcast=True, hostname=hostname)


def checksummed(read):
    """The same frame with the checksums that scapy works out."""
    again = read.copy()
    del again[IP].chksum, again[UDP].chksum
    return bytes(again)


@pytest.mark.parametrize(
    ("mac", "xid", "name"),
    [("02", 1, "a"), ("02:00:00:00:00:01", 1 << 32, "a"), ("02:00:00:00:00:01", 1, ""), ("02:00:00:00:00:01", 1, "a" * 64)],
)
def test_a_discover_that_can_not_be_is_an_error(mac, xid, name):
    with pytest.raises(codec.DhcpError):
        codec.discover(mac, xid, name)


@fuzz
@given(st.binary(max_size=80), st.binary(max_size=64), st.binary(max_size=128), st.integers(0, 330))
def test_fuzz_whatever_the_options_it_is_a_message_or_an_error(options, sname, file, cut):
    data = with_options(b"\x34\1\3" + options, sname, file)
    for noise in (data, data[:cut], options):
        with contextlib.suppress(codec.DhcpError):
            codec.parse(noise)
