"""RFC 5424 and octet counting: there and back whatever the texts hold, the RFC's own examples, and garbage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import rfc5424
from agent.wire.rfc5424 import Message, SyslogError, decode, encode, frame, header, name, unframe
from tests.fuzz import fuzz

AT = 1_795_000_000.125
MESSAGE = Message(16, 4, AT, "dukcapil", "ronda", "-", "link_down", {"ronda@32473": [("seq", "7"), ("late", "yes")]}, "kabel lepas")


def test_a_message_as_it_stands_on_the_wire():
    assert encode(MESSAGE) == (
        b'<132>1 2026-11-18T11:06:40.125000Z dukcapil ronda - link_down [ronda@32473 seq="7" late="yes"] \xef\xbb\xbfkabel lepas'
    )
    assert decode(encode(MESSAGE)) == MESSAGE


def test_param_value_escapes_three_characters_and_no_more():
    message = Message(16, 4, AT, "h", "a", "-", "m", {"x@1": [("v", r'a"b\c]d=e[f')]}, "")
    assert rb'v="a\"b\\c\]d=e[f"]' in encode(message)
    assert decode(encode(message)) == message


def test_without_text_there_is_no_bom_and_without_data_a_nil_value():
    assert encode(Message(0, 0, None, "h", "a", "1", "m", {}, "")) == b"<0>1 - h a 1 m -"
    assert decode(b"<0>1 - h a 1 m -") == Message(0, 0, None, "h", "a", "1", "m", {}, "")


def test_the_examples_of_the_rfc():
    """Section 6.5, 1 to 4."""
    one = decode(b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \xef\xbb\xbf'su root' failed for lonvick on /dev/pts/8")
    assert (one.facility, one.severity, one.hostname, one.msgid) == (4, 2, "mymachine.example.com", "ID47")
    assert one.text == "'su root' failed for lonvick on /dev/pts/8"
    two = decode(b"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.")
    assert two.at == pytest.approx(1061727255.000003, abs=1e-6)
    three = decode(
        b'<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" '
        b'eventSource="Application" eventID="1011"] \xef\xbb\xbfAn application event log entry...'
    )
    assert three.data == {"exampleSDID@32473": [("iut", "3"), ("eventSource", "Application"), ("eventID", "1011")]}
    four = decode(
        b'<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" '
        b'eventSource="Application" eventID="1011"][examplePriority@32473 class="high"]'
    )
    assert (list(four.data), four.text) == (["exampleSDID@32473", "examplePriority@32473"], "")


def test_names_are_made_to_fit():
    assert header("kantor desa é", 255) == "kantor_desa__"
    assert header("", 10) == "-"
    assert header("x" * 40, 32) == "x" * 32
    assert name('a=b]c"d e') == "a_b_c_d_e"
    assert name("") == "_"


@pytest.mark.parametrize("bad", [{"facility": 24}, {"severity": 8}, {"at": -1.0}, {"at": 1e12}])
def test_what_can_not_be_written_is_an_error(bad):
    fields = {f: getattr(MESSAGE, f) for f in ("facility", "severity", "at", "hostname", "app", "procid", "msgid", "data", "text")}
    with pytest.raises(ValueError):
        encode(Message(**(fields | bad)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<192>1 - - - - - -",
        b"<0>2 - - - - - -",
        b"<01>1 - - - - - -",
        b"<0>1 2026-13-01T00:00:00Z h a - m -",
        b"<0>1 yesterday h a - m -",
        b"<0>1 - h a - m [x]y",
        b"<0>1 - h a - m [x",
        b'<0>1 - h a - m [x a="b]"]',
        b"<0>1 - h a - m [x][x]",
        b"<0>1 - h a - m \xff",
        b"<0>1 - h a - m",
        bytes(65 << 10),
    ],
)
def test_what_is_no_message_is_an_error(data):
    with pytest.raises(SyslogError):
        decode(data)


def test_frames_come_in_any_pieces():
    messages = [b"a", b"b c 3 d", b"x" * 300]
    stream = b"".join(map(frame, messages))
    assert stream.startswith(b"1 a7 b c 3 d300 x")
    found, rest = [], b""
    for n in range(len(stream)):
        whole, rest = unframe(rest + stream[n : n + 1])
        found += whole
    assert (found, rest) == (messages, b"")


@pytest.mark.parametrize("data", [b"x", b"0 ", b"01 a", b"<34>1 ", b"1234567", b"-1 a"])
def test_what_is_no_frame_is_an_error(data):
    with pytest.raises(SyslogError):
        unframe(data)


texts = st.text(st.characters(codec="utf-8"), max_size=200)
parameters = st.lists(st.tuples(texts.map(name), texts), max_size=5)
messages = st.builds(
    Message, st.integers(0, 23), st.integers(0, 7), st.none() | st.integers(0, 253402300798).map(float),
    texts.map(lambda t: header(t, 255)),
    texts.map(lambda t: header(t, 48)), texts.map(lambda t: header(t, 128)), texts.map(lambda t: header(t, 32)),
    st.dictionaries(texts.map(name), parameters, max_size=3), texts.map(lambda t: t.lstrip("\ufeff")),
)  # fmt: skip


@fuzz
@given(messages)
def test_whatever_is_written_is_read_back(message):
    assert decode(encode(message)) == message
    assert unframe(frame(encode(message))) == ([encode(message)], b"")


@fuzz
@given(st.binary(max_size=120) | st.text('<>1 -[]"\\=abT:Z0', max_size=60).map(lambda t: b"<13>1 - h a p m " + t.encode()))
def test_whatever_comes_is_a_message_or_an_error(data):
    try:
        message = decode(data)
    except SyslogError:
        return
    assert decode(encode(message)) == message


@fuzz
@given(st.binary(max_size=60) | st.text("0123456789 a", max_size=30).map(str.encode))
def test_whatever_stream_comes(data):
    try:
        found, rest = unframe(data)
    except SyslogError:
        return
    assert b"".join(map(rfc5424.frame, found)) + rest == data
