"""The segment format at every cut byte, under every flipped bit, and against noise."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import segment as codec
from tests.fuzz import fuzz

SEED = codec.seed("dukcapil")
RECORDS = [(5, 1_795_000_000.5, 3, b"one"), (6, 0.0, 0, b""), (9, -1.0, 7, codec.SYNC * 5), (10, 1e12, 0xFFFFFFFF, bytes(20))]


def a_segment(records=RECORDS, site="dukcapil"):
    """The bytes of a segment, and where each of its records ends."""
    data, ends, before = codec.pack_header(site), [], 0
    for sequence, at, samples, payload in records:
        data += codec.pack_record(codec.seed(site), sequence, at, samples, before, payload)
        before += samples
        ends.append(len(data))
    return data, ends


DATA, ENDS = a_segment()


def read(data, seed=SEED):
    return [(s.sequence, s.at, s.samples, s.data) for s in codec.scan(seed, data)]


def test_records_come_back_with_their_places():
    found = list(codec.scan(SEED, DATA))

    assert read(DATA) == RECORDS
    assert [s.end for s in found] == ENDS
    assert [s.previous for s in found] == [s.start for s in found] == [codec.HEADER_BYTES, *ENDS[:-1]]
    assert [s.before for s in found] == [0, 3, 3, 10]


def test_a_scan_can_begin_in_the_middle_and_speaks_of_the_whole_file():
    rest = list(codec.scan(SEED, DATA[ENDS[0] :], 0, ENDS[0]))

    assert rest == list(codec.scan(SEED, DATA))[1:]


def test_a_cut_at_any_byte_costs_only_what_was_cut():
    for cut in range(len(DATA) + 1):
        whole = [record for record, end in zip(RECORDS, ENDS, strict=True) if end <= cut]
        assert read(DATA[:cut]) == whole, cut


@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"\xa5"])
def test_a_tail_overwritten_from_any_byte_costs_only_what_was_overwritten(fill):
    for cut in range(len(DATA) + 1):
        torn = DATA[:cut] + fill * (len(DATA) - cut)
        unhurt = [record for record, end in zip(RECORDS, ENDS, strict=True) if torn[:end] == DATA[:end]]
        assert read(torn) == unhurt, cut


def test_any_flipped_bit_costs_one_record_at_most():
    for bit in range(len(DATA) * 8):
        hurt = bytearray(DATA)
        hurt[bit // 8] ^= 1 << bit % 8
        index = next(n for n, end in enumerate([codec.HEADER_BYTES, *ENDS]) if bit // 8 < end)
        assert read(bytes(hurt)) == [r for n, r in enumerate(RECORDS, 1) if n != index], bit


def test_damage_is_told_by_what_stands_before_the_next_record():
    hurt = bytearray(DATA)
    hurt[ENDS[0] - 1] ^= 1
    first = next(codec.scan(SEED, bytes(hurt)))

    assert (first.sequence, first.before, first.previous, first.start) == (6, 3, codec.HEADER_BYTES, ENDS[0])


def test_a_record_of_another_site_is_never_whole_here():
    assert read(DATA, codec.seed("rsud")) == []


def test_the_header_says_whose_it_is():
    assert codec.read_header(DATA) == (codec.VERSION, "dukcapil")
    assert codec.read_header(codec.pack_header("a" * 40)) == (codec.VERSION, "a" * 40)


def test_of_a_newer_version_only_the_number_is_read():
    assert codec.read_header(codec.MAGIC + bytes([codec.VERSION + 1])) == (codec.VERSION + 1, "")


@pytest.mark.parametrize("cut", range(codec.HEADER_BYTES))
def test_a_torn_header_is_told(cut):
    with pytest.raises(codec.SegmentError):
        codec.read_header(DATA[:cut])
    with pytest.raises(codec.SegmentError):
        codec.read_header(DATA[:cut] + bytes(100))


@pytest.mark.parametrize("site", ["", "a" * 41, "ü" * 21, "a\0b"])
def test_no_site_can_have_such_a_name(site):
    with pytest.raises(ValueError, match="site"):
        codec.pack_header(site)


@pytest.mark.parametrize(
    ("at", "samples", "data"),
    [(math.nan, 0, b""), (math.inf, 0, b""), (0.0, -1, b""), (0.0, 1 << 32, b""), (0.0, 0, bytes(codec.MAX_DATA + 1))],
)
def test_what_a_record_cant_hold_is_refused(at, samples, data):
    with pytest.raises(ValueError, match="record"):
        codec.pack_record(SEED, 1, at, samples, 0, data)


def test_many_false_beginnings_are_no_trouble():
    assert read(DATA + codec.SYNC * 300_000 + DATA[codec.HEADER_BYTES :]) == RECORDS * 2


@fuzz
@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.floats(-1e12, 1e12), st.integers(0, 2**32 - 1), st.binary(max_size=60)), max_size=6),
    st.data(),
)
def test_whatever_happens_to_the_bytes_only_what_was_written_is_read(records, draw):
    data, _ = a_segment(records)
    for _ in range(draw.draw(st.integers(0, 3))):
        at = draw.draw(st.integers(0, len(data)))
        to = draw.draw(st.integers(at, min(len(data), at + 80)))
        data = data[:at] + draw.draw(st.binary(max_size=40)) + data[to:]
    found = read(data)

    left = iter(records)
    assert all(any(record == other for other in left) for record in found)  # a subsequence


@fuzz
@given(st.binary(max_size=300))
def test_noise_is_never_a_segment(noise):
    assert read(noise) == []
    with contextlib.suppress(codec.SegmentError):
        assert codec.read_header(codec.MAGIC + noise).version > codec.VERSION
