"""The remote write codec: known bytes, both directions, markers, noise."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import remote_write as codec
from tests.fuzz import fuzz

LABELS = (("__name__", "up"), ("site", "dukcapil"))
texts = st.text(max_size=30)
labels = st.lists(st.tuples(texts, texts), max_size=5).map(tuple)
points = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)), max_size=5)


def test_the_bytes_are_those_of_the_protobuf_encoding() -> None:
    """Worked out by hand from the wire format: tags 0a, 12, 09 (fixed64), 10 (varint)."""
    label = b"\x0a\x08__name__\x12\x02up"
    sample = b"\x09" + struct.pack("<d", 1.5) + b"\x10\xac\x02"
    series = b"\x0a" + bytes([len(label)]) + label + b"\x12" + bytes([len(sample)]) + sample

    assert codec.request([((("__name__", "up"),), [(300, 1.5)])]) == b"\x0a" + bytes([len(series)]) + series


def test_zero_is_left_out_and_comes_back() -> None:
    data = codec.request([(LABELS, [(0, 0.0)])])

    assert data.endswith(b"\x12\x00")
    assert codec.parse(data) == [(LABELS, [(0, 0.0)])]


def test_requests_one_after_the_other_are_one() -> None:
    """The buffer's records are joined so."""
    one, two = codec.request([(LABELS, [(1, 1.0)])]), codec.request([(LABELS, [(2, 2.0)])])

    assert codec.parse(one + two) == [(LABELS, [(1, 1.0)]), (LABELS, [(2, 2.0)])]


@given(st.lists(st.tuples(labels, points), max_size=5))
def test_there_and_back(series) -> None:
    assert codec.parse(codec.request(series)) == [(found, list(at)) for found, at in series]


def test_the_stale_marker_keeps_its_bits_and_is_no_ordinary_nan() -> None:
    [(_, [(_, value)])] = codec.parse(codec.request([(LABELS, [(1, codec.STALE)])]))

    assert codec.is_stale(value)
    assert codec.request([(LABELS, [(1, value)])]) == codec.request([(LABELS, [(1, codec.STALE)])])
    assert not codec.is_stale(math.nan)
    assert not codec.is_stale(1.0)


def test_a_lone_surrogate_spoils_no_batch() -> None:
    assert codec.parse(codec.request([((("a", "\udcff"),), [])])) == [((("a", "?"),), [])]


@pytest.mark.parametrize(
    "data", [b"\x0a\x05ab", b"\x0a", b"\xff" * 11, b"\x0b\x00", b"\x0a\x04\x0a\x02\x0a\xff", b"\x0a\x05\x0a\x03\x0a\x01\xff"]
)
def test_what_is_no_request_is_said(data) -> None:
    with pytest.raises(codec.RemoteWriteError):
        codec.parse(data)


SOUND = codec.request([(LABELS, [(1795000000000, 1.0), (1795000015000, codec.STALE)])])


@fuzz
@given(
    st.binary(max_size=200)
    | st.tuples(st.integers(0, len(SOUND) - 1), st.binary(min_size=1, max_size=3)).map(
        lambda c: SOUND[: c[0]] + c[1] + SOUND[c[0] + len(c[1]) :]
    )
)
def test_noise(data: bytes) -> None:
    try:
        codec.parse(data)
    except codec.RemoteWriteError:
        return


def test_who_tells_under_another_name_is_found() -> None:
    own, points = ("site", "dukcapil"), [(1, 1.0)]
    sound = [((("__name__", "up"), own), points), ((("__name__", "ronda_site_info"), own, ("target", "https://site.example/")), points)]

    def other(*series) -> str | None:
        return codec.other_value(codec.request([*sound, *series]), "site", "dukcapil")

    assert other() is None
    assert other(((("__name__", "up"), ("site", "camat")), points)) == "camat"
    assert other(((("__name__", "up"), ("site", "dukcapil2")), points)) == "dukcapil2"
    assert other(((("__name__", "up"),), points)) == ""
    assert other(((("__name__", "up"), ("sites", "dukcapil")), points)) == ""
    assert other(((own, ("site", "camat")), points)) == "camat"
    hidden = codec.head((own,)).decode()  # the right label's bytes as another's value
    assert other(((("a", hidden), ("site", "camat")), points)) == "camat"
    assert codec.other_value(codec.request([((("site", "website"),), points)]), "site", "website") is None
    assert codec.other_value(b"\x1a\x02\x08\x01" + codec.request(sound), "site", "dukcapil") is None  # metadata


@pytest.mark.parametrize(
    "data",
    [
        b"\x22\x04site\x2a\x02\x08\x01",  # remote write 2.0: names in a table of their own
        b"\x8a\x80\x80\x80\x80\x01\x00",  # field 2^32 + 1, which a reader of 32 bits takes for 1
        b"\x0a\x0c\x8a\x80\x80\x80\x80\x01\x04site\x00",  # the same within a series
        b"\x0a\x05ab",
    ],
)
def test_what_another_reader_could_read_otherwise_is_refused(data) -> None:
    with pytest.raises(codec.RemoteWriteError):
        codec.other_value(data, "site", "dukcapil")


names = st.sampled_from(["site", "sites", "a", "__name__"])
values = st.sampled_from(["dukcapil", "camat", "site", "x", codec.head((("site", "dukcapil"),)).decode()])


@fuzz
@given(st.lists(st.lists(st.tuples(names, values), max_size=4).map(tuple), max_size=4), st.integers(0, 200), st.binary(max_size=3))
def test_no_other_name_passes_whatever_comes(found, at, noise) -> None:
    data = codec.request([(series, [(1, 1.0)]) for series in found])
    data = data[:at] + noise + data[at + len(noise) :]
    try:
        other = codec.other_value(data, "site", "dukcapil")
        series = codec.parse(data)
    except codec.RemoteWriteError:
        return
    told = {value for it, _ in series for name, value in it if name == "site"}
    assert (other is None) <= (told <= {"dukcapil"})
