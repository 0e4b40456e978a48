"""The rtnetlink codec against messages of a real kernel (6.x, little-endian), against iproute2, and against noise."""

import base64
import json
import socket
import struct
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import netlink
from agent.wire.netlink import Address, Answer, Hop, Link, Message, Neighbour, NetlinkError, Route, Stats
from tests.fuzz import fuzz

# Recorded in a namespace with `ip link`, one veth lan0; the link's message deflated, for it has 1,504 bytes.
LINK = zlib.decompress(
    base64.b85decode(
        "c-qxdyGjF55IuJv$tFZyB_JsAfp1b6R4iiRE81CTBZ7^JffN!EjICQ*<RkJyeu9OS1Pdz>yEt?2fVxSH7z7>2p3KhNnR92(-n)Pg3sC^&3_YO80}8%k2Qk<<"
        "J2nvyJ*eA&OD7^=?AJLi3NUd8cP`@swzR*9MuTx!;v<52!BO4I!>r`Z>HZ$Ff@^~7f-87!L<w_}zbSRbbR8GtP}-l6y7S^^G)6Ql#%<v}qcKj=lYA<5z0dzG"
        "s?7%6Vo=v%vjwYy5BOhpN*lK19@SsspFo;sY9{7mfV87<RlF>j9ZkuuOh$sXP(Ht?6e~q!>>=W0;RfncJr(-l19odZt-fwIzvucjD^5IhryxmuSqm@e1a=S2"
        "nP<5ptCIB|=E>@*^}W{*vM~gEO3(hl;@LFc@942TSJi^IY7=iYpWtcv%eXej0N<7Qhx3+{jp;6D9^T>3AN^K3Y3#eabENU;4|^nAoODT*Y?J8i*xSKs;9w(o"
        "0|-e&<p"
    )
)
ADDRESS = bytes.fromhex(
    "5000000014000200070000006e3000000218800002000000080001000a090002080002000a090002090003006c616e30000000000800080080000000"
    "14000600fffffffffffffffff52b0c00f52b0c00"
)
MULTIPATH = bytes.fromhex(
    "5000000018000200070000006e30000002000000fe0300010000000008000f00fe000000080006006400000024000900100000000200000008000500"
    "0a0900011000000003000000080005000a080001"
)
VIA_INET6 = bytes.fromhex(
    "4c00000018000200070000006e30000002000000fe0300010000000008000f00fe000000080006002d010000160012000a00fe800000000000000000"
    "00000000000100000800040002000000"
)
NEIGHBOUR = bytes.fromhex(
    "4c0000001c000200070000006e300000020000000200000002000001080001000a0900010a000200f295c94012e40000080004000400000014000300"
    "00000000000000000000000001000000"
)
DONE = bytes.fromhex("1400000003000200070000006e30000000000000")
RECORDED = (LINK, ADDRESS, MULTIPATH, VIA_INET6, NEIGHBOUR, DONE)

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="needs a little-endian machine: netlink speaks the host's byte order")


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def a_message(kind: int, body: bytes, flags: int = 0, sequence: int = 1) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


def only(data: bytes):
    (message,) = netlink.decode(data)
    return message.body


def test_a_recorded_link():
    body = only(LINK)

    assert isinstance(body, Link)
    assert (body.index, body.name, body.up, body.carrier, body.operstate, body.mtu) == (2, "lan0", True, True, "up", 1500)
    assert (body.kind, body.master, body.carrier_changes, len(body.mac)) == ("veth", 0, 2, 17)
    assert isinstance(body.stats, Stats)
    assert 0 < body.stats.rx_packets < body.stats.rx_bytes


def test_recorded_addresses_routes_and_neighbours():
    assert only(ADDRESS) == Address(2, socket.AF_INET, "10.9.0.2", 24, 0)
    assert only(MULTIPATH) == Route(socket.AF_INET, 254, 1, "", 0, 100, (Hop("10.9.0.1", 2), Hop("10.8.0.1", 3)))
    assert only(VIA_INET6) == Route(socket.AF_INET, 254, 1, "", 0, 301, (Hop("fe80::1", 2),))
    assert only(NEIGHBOUR) == Neighbour(2, socket.AF_INET, "10.9.0.1", "reachable", "f2:95:c9:40:12:e4")


def test_a_datagram_of_several_messages():
    found = list(netlink.decode(ADDRESS + NEIGHBOUR + DONE))

    assert [m.type for m in found] == [netlink.NEWADDR, netlink.NEWNEIGH, netlink.DONE]
    assert found[-1] == Message(netlink.DONE, 7, found[0].port, False, Answer(0))
    assert [m.body for m in netlink.decode(ADDRESS + NEIGHBOUR, frozenset({netlink.NEWADDR}))] == [None, found[1].body]


def test_errors_and_an_interrupted_dump():
    (refused,) = netlink.decode(a_message(netlink.ERROR, struct.pack("=i", -16) + bytes(16), sequence=9))
    (done,) = netlink.decode(a_message(netlink.DONE, struct.pack("=i", 0), netlink.F_DUMP_INTR))

    assert refused == Message(netlink.ERROR, 9, 0, False, Answer(16))
    assert done.interrupted


def test_a_bare_link_leaves_out_what_it_does_not_say():
    body = only(a_message(netlink.NEWLINK, struct.pack("=BxHiII", 0, 1, 5, 0, 0) + attribute(3, b"usb0\0")))

    assert body == Link(index=5, name="usb0", up=False)


def test_the_nested_flag_and_what_is_not_ours():
    header = struct.pack("=BxHiII", 0, 1, 5, 1, 0)
    kind = attribute(1, b"bridge\0")
    flagged = only(a_message(netlink.NEWLINK, header + attribute(3, b"br0\0") + attribute(18 | 0x8000, kind)))

    assert isinstance(flagged, Link)
    assert (flagged.kind, flagged.up) == ("bridge", True)
    assert only(a_message(99, b"whatever")) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x14",
        struct.pack("=IHHII", 3, 16, 0, 0, 0),  # shorter than its own header
        struct.pack("=IHHII", 0, 16, 0, 0, 0),  # would never go forward
        struct.pack("=IHHII", 17, 16, 0, 0, 0),  # longer than what is there
        LINK[:-1],
        a_message(netlink.NEWLINK, b"\0" * 8),
        a_message(netlink.NEWLINK, struct.pack("=BxHiII", 0, 1, 5, 0, 0) + struct.pack("=HH", 0, 3)),
        a_message(netlink.NEWLINK, struct.pack("=BxHiII", 0, 1, 5, 0, 0) + struct.pack("=HH", 60, 3)),
        a_message(netlink.NEWLINK, struct.pack("=BxHiII", 0, 1, 5, 0, 0) + attribute(4, b"\1")),
        a_message(netlink.NEWADDR, struct.pack("=BBBBI", 2, 24, 0, 0, 1) + attribute(2, b"\1\2\3")),
        a_message(netlink.NEWROUTE, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 1, 0) + attribute(9, b"\0" * 8)),
        a_message(netlink.NEWROUTE, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 1, 0) + attribute(18, b"\2")),
        a_message(netlink.ERROR, b"\1"),
    ],
)
def test_what_makes_no_sense_is_refused(data):
    with pytest.raises(NetlinkError):
        list(netlink.decode(data))


def decodes_or_refuses(data: bytes) -> None:
    try:
        found = list(netlink.decode(data))
    except NetlinkError:
        return
    assert len(found) <= len(data) // 16


@fuzz
@given(st.binary(max_size=400))
def test_noise_is_decoded_or_refused(data):
    decodes_or_refuses(data)


@fuzz
@given(st.sampled_from(RECORDED), st.lists(st.tuples(st.integers(0, 1503), st.integers(0, 255)), max_size=6), st.integers(0, 1504))
def test_damaged_recordings_are_decoded_or_refused(recorded, damage, cut):
    data = bytearray(recorded)
    for at, value in damage:
        data[at % len(data)] = value
    decodes_or_refuses(bytes(data[: cut or None]))


@fuzz
@given(st.sampled_from([16, 20, 24, 28, 2, 3]), st.binary(max_size=120))
def test_noise_inside_a_good_header_is_decoded_or_refused(kind, body):
    decodes_or_refuses(a_message(kind, body))


@pytest.mark.lab
def test_it_reads_the_same_as_iproute2(lab):
    a, b = lab.namespace("a", ipv6=True), lab.namespace("b", ipv6=True)
    lab.link(a, "lan0", "10.9.0.2/24", b, "lan0", "10.9.0.1/24")
    a.ip("link", "add", "br0", "type", "bridge")
    a.ip("link", "add", "p0", "mtu", "1280", "type", "veth", "peer", "name", "p1")
    a.ip("link", "set", "p0", "master", "br0")
    a.ip("route", "add", "default", "via", "10.9.0.1", "metric", "50")
    a.run("ping", "-c1", "-W2", "10.9.0.1")
    with a.entered():
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)

    with sock:
        links, addresses, routes, neighbours = (asked(sock, get) for get in (18, 22, 26, 30))

    def said(*command: str):
        return json.loads(a.run("ip", "-j", "-d", *command).stdout)

    by_name = {x["ifname"]: x for x in said("link")}
    assert {x.name for x in links} == set(by_name)
    for x in links:
        theirs = by_name[x.name]
        assert (x.index, x.mtu, x.mac, x.operstate.upper()) == (theirs["ifindex"], theirs["mtu"], theirs["address"], theirs["operstate"])
        assert (x.up, x.kind) == ("UP" in theirs["flags"], theirs.get("linkinfo", {}).get("info_kind", ""))
        assert {y.name for y in links if y.index == x.master} == ({theirs["master"]} if "master" in theirs else set())
    theirs = {(x["ifindex"], y["local"], y["prefixlen"]) for x in said("address") for y in x["addr_info"]}
    assert {(x.index, x.address, x.prefix) for x in addresses} == theirs
    (default,) = [x for x in routes if not x.prefix and x.family == socket.AF_INET]
    assert [(x["gateway"], x["metric"]) for x in said("route", "show", "default")] == [(default.hops[0].gateway, default.metric)]
    (gateway,) = [x for x in neighbours if x.address == "10.9.0.1"]
    (theirs,) = said("neigh", "show", "10.9.0.1")
    assert (gateway.mac, [gateway.state.upper()]) == (theirs["lladdr"], theirs["state"])


def asked(sock: socket.socket, get: int) -> list:
    sock.settimeout(5)
    sock.send(netlink.dump_request(get, get))
    found: list = []
    while True:
        for message in netlink.decode(sock.recv(1 << 16)):
            if message.type == netlink.DONE:
                return found
            assert message.sequence == get
            found.append(message.body)
