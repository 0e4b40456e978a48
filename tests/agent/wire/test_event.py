"""Events as lines: there and back, cut to bounds, and strict with whatever others send."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import Event
from agent.wire import event as codec
from agent.wire.event import Entry, EventError, bounded, decode, encode, pack, unpack
from tests.fuzz import fuzz

NOW = 1_795_000_000.125
EVENT = Event("link_down", "warning", "device eth0 has lost its carrier", {"device": "eth0"}, NOW, NOW + 2, 3)


def test_there_and_back():
    entry = Entry(7, EVENT, "link", {"role": "wan"}, True, "ab" * 16, 1234.5)
    assert decode(encode(entry)) == entry


def test_abroad_nothing_is_said_of_the_boot():
    line = encode(Entry(7, EVENT, "link", {}, True, "ab" * 16, 1234.5), abroad=True)
    assert decode(line) == Entry(7, EVENT, "link", {}, True)


def test_what_says_nothing_is_left_out():
    line = encode(Entry(1, Event("x", "info", "m", first_seen=5.0, last_seen=5.0)))
    assert json.loads(line) == {"seq": 1, "kind": "x", "severity": "info", "message": "m", "first": 5.0}


def test_times_are_moved_together_and_stay_in_what_can_be_written():
    entry = Entry(1, EVENT, unsure=True, boot="b", mono=3.0)
    assert decode(encode(entry.moved(-86400.0))) == Entry(1, Event(*_texts(EVENT), NOW - 86400, NOW + 2 - 86400, 3))
    assert entry.moved(-1e12).event.last_seen == 0
    assert entry.moved(1e12).event.last_seen == codec.LATEST


def _texts(event):
    return event.kind, event.severity, event.message, event.fields


KEYS = ["seq", "kind", "severity", "message", "first", "last", "count", "task", "labels", "fields", "unsure", "boot", "mono", "new"]
GOOD = {"seq": 1, "kind": "x", "severity": "info", "message": "m", "first": 5.0}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"seq": 0}, "seq"),
        ({"seq": True}, "seq"),
        ({"seq": 1.0}, "seq"),
        ({"seq": 1 << 60}, "seq"),
        ({"kind": "Link"}, "kind"),
        ({"kind": "x" * 33}, "kind"),
        ({"severity": "fatal"}, "severity"),
        ({"severity": []}, "severity"),
        ({"message": "m" * 501}, "message"),
        ({"message": "\ud800"}, "message"),
        ({"message": None}, "message"),
        ({"first": -1}, "first"),
        ({"first": "5"}, "first"),
        ({"first": True}, "first"),
        ({"last": 4.0}, "last"),
        ({"last": 1e300}, "last"),
        ({"count": 0}, "count"),
        ({"fields": []}, "fields"),
        ({"fields": {"a": 1}}, "a: "),
        ({"fields": {"a" * 65: ""}}, "fields"),
        ({"labels": {str(n): "" for n in range(33)}}, "labels"),
        ({"unsure": 1}, "unsure"),
    ],
)
def test_what_is_wrong_is_named(change, why):
    with pytest.raises(EventError, match=why):
        decode(json.dumps(GOOD | change).encode())


def test_what_a_newer_version_tells_beside_is_passed_over():
    assert decode(json.dumps(GOOD | {"verdict": {"of": ["tomorrow"]}}).encode()) == decode(json.dumps(GOOD).encode())


NO_OBJECTS = [
    b"", b"{", b"[]", b"1", b"null", b"\xff", b'{"first": NaN}', b'{"first": Infinity}', b"[" * 20_000,
    b'{"seq": ' + b"9" * 5000 + b"}", b" " * 40_000,
]  # fmt: skip


@pytest.mark.parametrize("line", NO_OBJECTS)
def test_what_is_no_object_is_an_error(line):
    with pytest.raises(EventError):
        decode(line)


text = st.text(st.characters(codec=None), max_size=1200)


@fuzz
@given(
    st.sampled_from(codec.SEVERITIES), text, st.dictionaries(text, text, max_size=50),
    st.floats(), st.floats(), st.integers(-5, 1 << 70),
)  # fmt: skip
def test_whatever_is_cut_to_bounds_can_be_written_and_read(severity, message, fields, first, last, count):
    event = bounded(Event("some_kind", severity, message, fields, first, last, count))
    read = decode(encode(Entry(1, event))).event
    assert read.fields == event.fields
    assert (read.message, read.count) == (event.message, event.count)
    assert abs(read.first_seen - event.first_seen) <= 0.001


@fuzz
@given(
    st.binary(max_size=200)
    | st.builds(
        lambda d: json.dumps(d).encode(),
        st.dictionaries(
            st.sampled_from(KEYS),
            st.recursive(
                st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
                lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            ),
        ),
    )
)
def test_whatever_comes_is_an_event_or_an_error(line):
    try:
        entry = decode(line)
    except EventError:
        return
    assert decode(encode(entry, abroad=False)).seq == entry.seq


# --- many ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_many_lines_are_packed_and_unpacked(n):
    lines = [encode(Entry(i + 1, EVENT)) for i in range(n)]
    body, encoding = pack(lines)
    assert unpack(body, encoding) == lines
    assert encoding == ("gzip" if n > 2 else encoding)
    assert len(body) <= sum(map(len, lines)) + n


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"x", "gzip"),
        (gzip.compress(b"x" * 100, mtime=0)[:-9], "gzip"),
        (gzip.compress(bytes(codec.MAX_BODY + 1), mtime=0), "gzip"),
        (bytes(codec.MAX_BODY + 1), ""),
        (b"x", "snappy"),
    ],
)
def test_a_body_that_is_none_or_a_bomb_is_an_error(body, encoding):
    with pytest.raises(EventError):
        unpack(body, encoding)


@fuzz
@given(st.binary(max_size=300), st.sampled_from(["", "gzip", "identity", "br"]))
def test_whatever_body_comes(body, encoding):
    try:
        lines = unpack(body, encoding)
    except EventError:
        return
    assert b"\n" not in b"".join(lines)
