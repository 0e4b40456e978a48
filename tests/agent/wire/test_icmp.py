"""The ICMP codec: both directions, what strangers send, and the kernel's structures."""

import socket
import struct
import sys
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import icmp
from tests.fuzz import fuzz

MARK = icmp.Mark(b"mgic", 70_000, b"cookie88")


def reply(data: bytes, ident: int = 7, seq: int = 9, version: int = 4) -> bytes:
    head = struct.pack("!BBHHH", {4: 0, 6: 129}[version], 0, 0, ident, seq)
    return head[:2] + struct.pack("!H", icmp.checksum(head + data)) + head[4:] + data


@pytest.mark.parametrize("size", [16, 17, 56, icmp.MAX_PAYLOAD])
def test_a_request_says_what_it_was_made_of(size):
    data = icmp.payload(MARK, size)
    echo = icmp.parse_request(4, icmp.request(4, 7, 9, data))

    assert (echo.ident, echo.seq, len(echo.payload)) == (7, 9, size)
    assert icmp.read_mark(echo.payload) == MARK


def test_the_checksum_is_right_for_ipv4_and_left_to_the_kernel_for_ipv6():
    assert icmp.checksum(icmp.request(4, 7, 9, b"abc")) == 0
    assert icmp.request(6, 7, 9, b"abc")[:4] == bytes([128, 0, 0, 0])


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", 0xFFFF), (b"\0\0", 0xFFFF), (b"\xff\xff", 0), (b"\x01", 0xFEFF), (bytes.fromhex("0001f203f4f5f6f7"), 0x220D)],  # RFC 1071 3
)
def test_checksums(data, expected):
    assert icmp.checksum(data) == expected


def test_scapy_agrees():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from scapy.layers.inet import ICMP

        packet = ICMP(icmp.request(4, 7, 9, icmp.payload(MARK, 57)))
        answer = bytes(ICMP(type=0, id=7, seq=9) / packet.load)
        again = ICMP(bytes(packet))
        del again.chksum

        assert (packet.type, packet.code, packet.id, packet.seq) == (8, 0, 7, 9)
        assert bytes(again) == bytes(packet)
        assert icmp.read_mark(icmp.parse_reply(4, answer, verify=True).payload) == MARK


@pytest.mark.parametrize(
    ("version", "message", "said"),
    [
        (4, b"", "0 bytes"),
        (4, b"\0" * 7, "7 bytes"),
        (4, b"\x08" + b"\0" * 7, "type 8"),
        (4, b"\0\1" + b"\0" * 6, "code 1"),
        (6, b"\0" * 8, "type 0"),
    ],
)
def test_what_is_no_reply(version, message, said):
    with pytest.raises(icmp.IcmpError, match=said):
        icmp.parse_reply(version, message)


def test_a_damaged_reply_is_seen_where_asked():
    good = reply(b"payload")
    bad = good[:-1] + b"X"

    assert icmp.parse_reply(4, good, verify=True).payload == b"payload"
    assert icmp.parse_reply(4, bad).payload == b"payloaX"
    with pytest.raises(icmp.IcmpError, match="checksum"):
        icmp.parse_reply(4, bad, verify=True)


def test_a_mark_is_found_behind_headers_of_any_length():
    data = icmp.payload(MARK, 56)

    assert icmp.find_mark(b"ethernet, VLAN, IP" + data, MARK.magic) == MARK
    assert icmp.find_mark(data[:15], MARK.magic) is None
    assert icmp.find_mark(data, b"else") is None
    with pytest.raises(icmp.IcmpError):
        icmp.read_mark(data[:15])


def test_ipv4_headers_with_and_without_options():
    for words in (5, 15):
        head = bytes([0x40 | words, 0, 0, 0, 0, 0, 0, 0, 61, 1]) + bytes(words * 4 - 10)
        assert icmp.strip_ipv4(head + b"rest") == icmp.IPv4(61, 1, b"rest")
    for bad in (b"", b"\x45" + bytes(18), b"\x65" + bytes(30), b"\x44" + bytes(30), b"\x4f" + bytes(30)):
        with pytest.raises(icmp.IcmpError):
            icmp.strip_ipv4(bad)


def extended(origin: int, kind: int, code: int, offender: bytes = b"") -> bytes:
    return struct.pack("=IBBBBII", 113, origin, kind, code, 0, 0, 0) + offender


FROM_V4 = struct.pack("=H", socket.AF_INET) + bytes(2) + socket.inet_aton("192.0.2.1") + bytes(8)
FROM_V6 = struct.pack("=H", socket.AF_INET6) + bytes(6) + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + bytes(4)


@pytest.mark.parametrize(
    ("data", "unreachable", "said"),
    [
        (extended(2, 3, 1, FROM_V4), True, "host unreachable, says 192.0.2.1"),
        (extended(2, 3, 99), True, "destination unreachable"),
        (extended(2, 11, 0, FROM_V4), True, "hop limit exceeded (a routing loop?), says 192.0.2.1"),
        (extended(2, 4, 0), False, "ICMP type 4 code 0"),  # source quench says nothing
        (extended(3, 1, 0, FROM_V6), True, "no route, says 2001:db8::1"),
        (extended(3, 2, 0), True, "packet too big for the path"),
        (extended(1, 0, 0), False, "ICMP type 0 code 0"),
        (extended(77, 3, 1), False, "ICMP type 3 code 1"),
    ],
)
def test_extended_errors(data, unreachable, said):
    error = icmp.parse_extended_error(data)

    assert (error.unreachable, str(error)) == (unreachable, said)
    assert not icmp.is_timestamp(data)


def test_stamps_and_short_errors():
    assert icmp.is_timestamp(extended(4, 0, 0))
    assert not icmp.is_timestamp(b"\0\0\0\0")
    with pytest.raises(icmp.IcmpError):
        icmp.parse_extended_error(bytes(15))


def run_filter(program: bytes, packet: bytes) -> int:
    """A machine for the instructions that we use (Documentation/networking/filter.rst)."""
    code = [struct.unpack_from("=HBBI", program, i) for i in range(0, len(program), 8)]
    a = x = at = 0
    while True:
        operation, yes, no, k = code[at]
        at += 1
        if operation == 0xB1:
            x = (packet[k] & 15) * 4
        elif operation == 0x01:
            x = k
        elif operation == 0x50:
            a = packet[x + k]
        elif operation == 0x48:
            a = int.from_bytes(packet[x + k : x + k + 2])
        elif operation == 0x15:
            at += yes if a == k else no
        else:
            assert operation == 0x06
            return k


@pytest.mark.parametrize("version", [4, 6])
def test_the_filter_lets_only_replies_to_us_through(version):
    head = b"\x46" + bytes(23) if version == 4 else b""
    program = icmp.reply_filter(version, 7)

    assert run_filter(program, head + reply(b"x", 7, version=version))
    assert not run_filter(program, head + reply(b"x", 8, version=version))
    assert not run_filter(program, head + icmp.request(version, 7, 9, b"x"))


def test_the_type_filter_has_one_hole():
    four, six = icmp.type_filter(4), icmp.type_filter(6)

    assert int.from_bytes(four, sys.byteorder) == 0xFFFFFFFE
    words = struct.unpack("=8I", six)
    assert [i for i in range(256) if not words[i // 32] >> i % 32 & 1] == [129]


def whatever(version: int, data: bytes) -> None:
    """Every parser, on any bytes: returns, or raises IcmpError."""
    for parse in (
        lambda: icmp.parse_reply(version, data, verify=True),
        lambda: icmp.parse_request(version, data),
        lambda: icmp.read_mark(data),
        lambda: icmp.strip_ipv4(data),
        lambda: str(icmp.parse_extended_error(data)),
    ):
        try:
            parse()
        except icmp.IcmpError:
            continue
    icmp.find_mark(data, data[:4])
    icmp.is_timestamp(data)


@fuzz
@given(st.sampled_from([4, 6]), st.binary(max_size=120))
def test_fuzz(version, data):
    whatever(version, data)


@fuzz
@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=100))
def test_fuzz_echoes_survive_the_round_trip(ident, seq, data):
    assert icmp.parse_reply(4, reply(data, ident, seq), verify=True) == icmp.Echo(ident, seq, data)
