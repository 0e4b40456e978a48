"""Captures against scapy's writers, against their corner cases, against what breaks other programs, and against noise."""

import contextlib
import io
import struct
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, LLC, STP, CookedLinux, CookedLinuxV2, Ether
from scapy.utils import PcapNgWriter, PcapWriter, RawPcapReader

from agent.wire import frame
from agent.wire import pcap as codec
from tests.fuzz import SETTINGS, broken, fuzz

PACKETS = [bytes(Ether() / IP() / UDP()), b"x", bytes(Ether() / ARP()), b""]
TIMES = [1_700_000_000.0, 1_700_000_000.25, 12.5, 1_700_000_001.000001]
MANY = st.lists(st.tuples(st.integers(0, (1 << 32) - 1), st.binary(max_size=90)), max_size=6)


def read(raw):
    """All packets, and how it ended."""
    capture = codec.Capture(io.BytesIO(raw).read)
    return list(capture), capture.ended


def a_pcap(packets, order="<", nano=False, linktype=1):
    head = struct.pack(f"{order}IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, 65535, linktype)
    units = 10**9 if nano else 10**6
    return head + b"".join(
        struct.pack(f"{order}IIII", int(t), round(t % 1 * units), len(data), len(data)) + data for t, data in packets
    )  # fmt: skip


def block(kind, body, order="<"):
    body += bytes(-len(body) % 4)
    return struct.pack(f"{order}II", kind, len(body) + 12) + body + struct.pack(f"{order}I", len(body) + 12)


def section(order="<"):
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order="<", linktype=1, snap=0, options=b""):
    return block(1, struct.pack(f"{order}HHI", linktype, 0, snap) + options, order)


def enhanced(time, data, number=0, order="<"):
    return block(6, struct.pack(f"{order}5I", number, time >> 32, time & 0xFFFFFFFF, len(data), len(data)) + data, order)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_pcap_of_either_byte_order_and_unit(order, nano):
    packets, ended = read(a_pcap(list(zip(TIMES, PACKETS, strict=True)), order, nano))

    assert [p.data for p in packets] == PACKETS
    assert [p.time for p in packets] == pytest.approx(TIMES, abs=1e-6)
    assert ({p.linktype for p in packets}, ended) == ({1}, "")


@SETTINGS
@given(MANY, st.booleans(), st.sampled_from("<>"))
def test_what_scapy_writes_reads_the_same(many, nano, order):
    raw = io.BytesIO()
    writer = PcapWriter(raw, linktype=1, endianness=order, nano=nano, sync=True)
    writer.write_header(None)
    for seconds, data in many:
        writer.write_packet(data, sec=seconds, usec=5)

    packets, ended = read(raw.getvalue())

    units = 10**9 if nano else 10**6
    assert [(p.time, p.data) for p in packets] == [(s + 5 / units, data) for s, data in many]
    assert ended == ""


@SETTINGS
@given(st.lists(st.binary(min_size=14, max_size=90), min_size=1, max_size=6))
def test_what_scapy_writes_as_pcapng_reads_the_same(many):
    with tempfile.NamedTemporaryFile() as file:
        with PcapNgWriter(file.name) as writer:
            for data in many:
                packet = Ether(data)
                packet.time = 1_700_000_000.5
                writer.write(packet)

        packets, ended = read(file.read())

    assert [(p.time, p.data) for p in packets] == [(1_700_000_000.5, bytes(Ether(data))) for data in many]
    assert ended == ""


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_of_either_byte_order(order):
    raw = section(order) + interface(order) + enhanced(1_700_000_000_500_000, b"abc", order=order)

    assert read(raw) == ([codec.Packet(1_700_000_000.5, 1, b"abc")], "")


@pytest.mark.parametrize(
    ("options", "ticks", "seconds"),
    [
        (b"", 2_500_000, 2.5), (struct.pack("<HHBxxx", 9, 1, 9), 2_500_000_000, 2.5), (struct.pack("<HHBxxx", 9, 1, 0x81), 5, 2.5),
        (struct.pack("<HHBxxxHHq", 9, 1, 3, 14, 8, 100), 2_500, 102.5), (struct.pack("<HHxxxxHH", 2, 3, 0, 0), 2_500_000, 2.5),
        (struct.pack("<HHBxxx", 9, 1, 0xFF), 5, 0.0),
    ],
)  # fmt: skip
def test_times_are_in_the_units_of_their_interface(options, ticks, seconds):
    packets, _ = read(section() + interface(options=options) + enhanced(ticks, b""))

    assert packets[0].time == pytest.approx(seconds)


def test_two_interfaces_a_strange_block_and_a_second_section_in_the_other_order():
    first = section() + interface() + interface(linktype=101) + enhanced(1_000_000, b"one", 1) + block(0xBAD, bytes(200_000))
    second = section(">") + interface(">") + enhanced(2_000_000, b"two", 0, ">")

    assert read(first + second) == ([codec.Packet(1.0, 101, b"one"), codec.Packet(2.0, 1, b"two")], "")


def test_simple_and_old_packets():
    simple = block(3, struct.pack("<I", 5) + b"hello")
    old = block(2, struct.pack("<HHIIII", 0, 0, 0, 3_000_000, 3, 3) + b"old")

    packets, _ = read(section() + interface(snap=4) + simple + old + simple)

    assert packets == [codec.Packet(0.0, 1, b"hell"), codec.Packet(3.0, 1, b"old"), codec.Packet(3.0, 1, b"hell")]


@pytest.mark.parametrize("raw", [b"", b"\xd4\xc3", b"GIF89a", bytes(24)])
def test_what_is_no_capture_is_an_error(raw):
    with pytest.raises(codec.PcapError):
        codec.Capture(io.BytesIO(raw).read)
    assert not codec.is_capture(raw)


MAC, NONE = "02:00:00:00:00:01", "00:00:00:00:00:00"
WHOLE = a_pcap(list(zip(TIMES, PACKETS, strict=True)))


@pytest.mark.parametrize("cut", [4, 20, 30, 41, 80, len(WHOLE) - 17, len(WHOLE) - 1])
def test_what_was_whole_of_a_cut_capture_is_given_and_its_end_is_told(cut):
    packets, ended = read(WHOLE[:cut])

    assert [p.data for p in packets] == PACKETS[: len(packets)]
    assert ended == "it is cut off"


@pytest.mark.parametrize(
    "rest",
    [
        struct.pack("<II", 6, 13), struct.pack("<II", 6, 8), struct.pack("<II", 6, 1 << 30), struct.pack("<II", 5, 0xFFFFFFFC),
        block(1, b"\1\0"), block(6, bytes(8)), block(3, b""), enhanced(1, b"x", 7), section()[:8] + bytes(20),
        block(6, struct.pack("<5I", 0, 0, 0, 400, 400) + b"x"), block(0x0A0D0D0A, b"\x4d\x3c\x2b\x1a"),
    ],
)  # fmt: skip
def test_where_a_capture_goes_wrong_it_ends_and_says_so(rest):
    packets, ended = read(section() + interface() + enhanced(1, b"one") + rest)

    assert [p.data for p in packets] == [b"one"]
    assert ended


def test_a_packet_that_no_network_carries_ends_it():
    packets, ended = read(a_pcap([(1.0, b"one")]) + struct.pack("<IIII", 1, 1, 1 << 31, 1 << 31))

    assert (len(packets), "2147483648" in ended) == (1, True)


def test_interfaces_are_bounded():
    _, ended = read(section() + interface() * 2000)

    assert ended


def test_no_more_is_asked_for_than_a_block():
    asked = []
    raw = io.BytesIO(section() + interface() + enhanced(1, b"one") + block(5, bytes(5_000_000)))

    list(codec.Capture(lambda n: asked.append(n) or raw.read(n)))

    assert max(asked) <= codec.MAX_BLOCK


def test_a_reader_that_gives_little_at_a_time():
    raw = io.BytesIO(WHOLE)

    assert [p.data for p in codec.Capture(lambda n: raw.read(min(n, 3)))] == PACKETS


# -- links --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("linktype", "packet", "source", "target", "kind", "direction"),
    [
        (1, Ether(src=MAC, dst="02:00:00:00:00:02") / IP(), MAC, "02:00:00:00:00:02", 0x0800, "unknown"),
        (101, IP(), "", "", 0x0800, "unknown"),
        (12, IPv6(), "", "", 0x86DD, "unknown"),
        (228, IP(), "", "", 0x0800, "unknown"),
        (229, IPv6(), "", "", 0x86DD, "unknown"),
        (113, CookedLinux(pkttype=4, lladdrlen=6, src=b"\2\0\0\0\0\1\0\0", proto=0x0800) / IP(), MAC, "", 0x0800, "out"),
        (113, CookedLinux(pkttype=1, lladdrlen=6, src=b"\2\0\0\0\0\1\0\0", proto=0x0806) / ARP(), MAC, frame.BROADCAST, 0x0806, "in"),
        (113, CookedLinux(pkttype=3, lladdrlen=0, proto=0x0800) / IP(), "", "", 0x0800, "unknown"),
        (113, CookedLinux(pkttype=2, lladdrlen=6, proto=4) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP(), NONE, "", frame.STP, "in"),
        (276, CookedLinuxV2(pkttype=0, lladdrlen=6, src=b"\2\0\0\0\0\1\0\0", proto=0x86DD) / IPv6(), MAC, "", 0x86DD, "in"),
    ],
)  # fmt: skip
def test_the_head_of_each_kind_of_link(linktype, packet, source, target, kind, direction):
    raw = bytes(packet)

    link, way = codec.link(codec.Packet(0.0, linktype, raw))

    assert (link.source, link.target, link.kind, way) == (source, target, kind, direction)
    if kind in (0x0800, 0x86DD):
        assert frame.ip(raw, link.at, link.end).source == packet.getlayer(IP, 1).src if kind == 0x0800 else "::1"


def test_a_link_that_is_not_understood():
    assert codec.link(codec.Packet(0.0, 105, bytes(100))) is None


@pytest.mark.parametrize("linktype", [1, 101, 113, 276])
def test_a_link_that_is_cut_off_is_an_error(linktype):
    with pytest.raises(frame.FrameError):
        codec.link(codec.Packet(0.0, linktype, b""))


# -- what is written ----------------------------------------------------------------------------------------------------------------


def test_what_is_written_reads_the_same_here_and_in_scapy(tmp_path):
    raw = codec.file_head() + b"".join(codec.record(t, data) for t, data in zip(TIMES, PACKETS, strict=True))
    (tmp_path / "x.pcap").write_bytes(raw)

    packets, ended = read(raw)

    assert ([p.data for p in packets], ended) == (PACKETS, "")
    assert [p.time for p in packets] == pytest.approx(TIMES, abs=1e-6)
    with RawPcapReader(str(tmp_path / "x.pcap")) as scapy:
        assert [data for data, _ in scapy] == PACKETS


@pytest.mark.parametrize(("time", "told"), [(-5.0, 0.0), (float("nan"), 0.0), (float("inf"), 0.0), (1e12, 4294967295.0)])
def test_a_time_that_pcap_can_not_tell(time, told):
    packets, _ = read(codec.file_head() + codec.record(time, b"x", 900))

    assert packets == [codec.Packet(told, 1, b"x")]


# -- noise --------------------------------------------------------------------------------------------------------------------------

REAL = [
    WHOLE,
    a_pcap([(1.0, b"x")], ">", True),
    section() + interface() + enhanced(1, b"one"),
    section(">") + interface(">") + enhanced(1, b"one", 0, ">"),
]


@fuzz
@given(st.one_of(broken(REAL), st.binary(max_size=100).map(lambda noise: section() + interface() + noise)))
def test_fuzz_noise_is_packets_an_end_or_an_error(raw):
    with contextlib.suppress(codec.PcapError):
        for packet in codec.Capture(io.BytesIO(raw).read):
            with contextlib.suppress(frame.FrameError):
                codec.link(packet)


@fuzz
@given(st.sampled_from([1, 12, 101, 113, 228, 229, 276, 105]), st.binary(max_size=60))
def test_fuzz_a_link_of_noise_is_a_link_or_an_error(linktype, data):
    with contextlib.suppress(frame.FrameError):
        codec.link(codec.Packet(0.0, linktype, data))
