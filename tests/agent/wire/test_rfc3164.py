"""Syslog as devices send it: every form that is known, framing however it is cut, and garbage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import rfc3164, rfc5424
from agent.wire.rfc3164 import Message, read
from agent.wire.rfc5424 import SyslogError
from agent.wire.rfc6587 import Splitter
from tests.fuzz import broken, fuzz

CAME = "user admin logged in from 192.0.2.7 via winbox"
ACCOUNT = ("system", "info", "account")
FORMS = {
    # RouterOS with BSD syslog, its identity with and without spaces
    f"<30>Nov 24 10:00:00 MikroTik system,info,account {CAME}": Message(3, 6, "Nov 24 10:00:00", "MikroTik", ACCOUNT, "", "", CAME),
    f"<30>Jan  1 00:00:10 RB Kantor Camat system,info,account {CAME}": Message(
        3, 6, "Jan  1 00:00:10", "RB Kantor Camat", ACCOUNT, "", "", CAME
    ),
    f"<30>2026-11-24T10:00:00+07:00 gw system,info,account {CAME}": Message(
        3, 6, "2026-11-24T10:00:00+07:00", "gw", ACCOUNT, "", "", CAME
    ),
    # without it, without PRI, with a prefix's colon
    f"<30>system,info,account {CAME}": Message(3, 6, "", "", ACCOUNT, "", "", CAME),
    f"system,info,account {CAME}": Message(-1, -1, "", "", ACCOUNT, "", "", CAME),
    f"system,info,account: {CAME}": Message(-1, -1, "", "", ACCOUNT, "", "", CAME),
    # topics left out (RouterOS 7: add-topics-string=no)
    f"<30>Nov 24 10:00:00 MikroTik {CAME}": Message(3, 6, "Nov 24 10:00:00", "MikroTik", (), "", "", CAME),
    # as `/log print` shows them: 1970, of this year, of today
    "jan/02/1970 02:00:09 system,info router rebooted": Message(
        -1, -1, "jan/02/1970 02:00:09", "", ("system", "info"), "", "", "router rebooted"
    ),
    "sep/15 09:54:33 system,info x": Message(-1, -1, "sep/15 09:54:33", "", ("system", "info"), "", "", "x"),
    "01:01:58 firewall,info x": Message(-1, -1, "01:01:58", "", ("firewall", "info"), "", "", "x"),
    # an address as the name; IPv6 too
    "<30>Nov 24 10:00:00 2001:db8::1 system,info x": Message(3, 6, "Nov 24 10:00:00", "2001:db8::1", ("system", "info"), "", "", "x"),
    # RFC 3164, 4.1 and 5.4
    "<34>Oct 11 22:14:15 mymachine su: 'su root' failed": Message(4, 2, "Oct 11 22:14:15", "mymachine", (), "su", "", "'su root' failed"),
    "<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!": Message(1, 5, "Feb  5 17:32:18", "10.0.0.99", (), "", "", "Use the BFG!"),
    "<38>Nov 24 10:00:00 box sshd[812]: x": Message(4, 6, "Nov 24 10:00:00", "box", (), "sshd", "812", "x"),
    "<38>Nov 24 10:00:00 sshd[812]: x": Message(4, 6, "Nov 24 10:00:00", "", (), "sshd", "812", "x"),
    "<13>box wrote this": Message(1, 5, "", "", (), "", "", "box wrote this"),
    # Cisco: a number, and a clock that is not set
    "<189>57: *Mar  1 00:16:24.123: %SYS-5-CONFIG_I: Configured": Message(
        23, 5, "Mar  1 00:16:24.123", "", (), "", "", "%SYS-5-CONFIG_I: Configured"
    ),
    # RFC 5424, also where its structured data are odd
    "<38>1 2026-11-24T03:00:00Z ap dropbear 812 - - x": Message(4, 6, "2026-11-24T03:00:00Z", "ap", (), "dropbear", "812", "x"),
    '<38>1 - - - - - [a b="c \\" ] d"][e] x': Message(4, 6, "", "", (), "", "", "x"),
    f"<30>1 2026-11-24T03:00:00Z gw - - - - system,info,account {CAME}": Message(
        3, 6, "2026-11-24T03:00:00Z", "gw", ACCOUNT, "", "", CAME
    ),
    f"<30>1 2026-11-24T03:00:00Z gw system,info,account - - - {CAME}": Message(3, 6, "2026-11-24T03:00:00Z", "gw", ACCOUNT, "", "", CAME),
}  # fmt: skip


@pytest.mark.parametrize("text", FORMS)
def test_every_form_in_its_parts(text: str):
    assert read(text.encode()) == FORMS[text]
    assert read(text.encode() + b"\r\n\0") == FORMS[text]


def test_topics_are_routeros_own_words_only():
    assert read(b"<13>Nov 24 10:00:00 box a,b said so").topics == ()
    assert read(b"<13>Nov 24 10:00:00 box sshd[1]: system,info x").program == "sshd"


@pytest.mark.parametrize(
    "data", [b"", b"\r\n", b"<13>", b"<192>x", b"<13>Nov 24 10:00:00 ", b"\xff\xfe\xff", b"x" * (rfc3164.MAX + 1), b"\0\0"]
)
def test_what_holds_no_message_is_refused(data: bytes):
    with pytest.raises(SyslogError):
        read(data)


def test_bytes_that_are_no_text_are_borne():
    assert read(b"<13>Nov 24 10:00:00 box app: caf\xe9").text == "caf\ufffd"


def test_what_we_write_ourselves_is_read():
    made = rfc5424.encode(
        rfc5424.Message(16, 4, 1_795_000_000.0, "dukcapil", "ronda", "-", "link_down", {"r@1": [("a", 'x"] y')]}, "kabel")
    )
    assert read(made) == Message(16, 4, "2026-11-18T11:06:40.000000Z", "dukcapil", (), "ronda", "", "kabel")


@fuzz
@given(st.binary(max_size=400) | broken([text.encode() for text in FORMS]))
def test_garbage_is_read_or_refused(data: bytes):
    try:
        message = read(data)
    except SyslogError:
        return
    assert message.text or message.topics or message.program
    assert -1 <= message.severity <= 7


# -- frames -----------------------------------------------------------------------------------------------------------------------

MANY = [b"<13>one", b"<13>two with 12 <34> in it", b"three without PRI", b"<13>1 - - - - - - four"]
STREAMS = [
    b"".join(rfc5424.frame(m) for m in MANY[:2]),
    b"".join(m + b"\n" for m in MANY),
    b"".join(m + b"\r\n" for m in MANY),
    b"".join(m + b"\0" for m in MANY),
    rfc5424.frame(MANY[0]) + MANY[2] + b"\n" + rfc5424.frame(MANY[1]),
]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_however_a_stream_comes_in_pieces_its_messages_are_the_same(stream: bytes, size: int):
    whole, cut = Splitter(8192), Splitter(8192)
    pieces = [message for n in range(0, len(stream), size) for message in cut.feed(stream[n : n + size])]
    assert pieces == whole.feed(stream)
    assert len(pieces) >= 2
    assert not cut.half


def test_what_is_too_long_is_passed_over_and_what_follows_is_read():
    splitter = Splitter(100)
    assert splitter.feed(b"<13>" + b"x" * 5000) == []
    assert splitter.half
    assert splitter.feed(b"x" * 5_000_000 + b"\n<13>after\n") == [b"<13>after"]
    assert splitter.feed(b"5000 <13>" + b"x" * 4996 + b"8 <13>next") == [b"<13>next"]
    assert splitter.long == 2


def test_half_a_message_is_none_and_one_that_only_lacks_its_newline_is_one():
    splitter = Splitter(100)
    assert splitter.feed(b"<13>last") == []
    assert splitter.close() == b"<13>last"
    assert splitter.feed(b"20 <13>half") == []
    assert splitter.half
    assert splitter.close() == b""
    assert not splitter.half


@fuzz
@given(st.lists(st.binary(max_size=300) | st.sampled_from(STREAMS), max_size=12))
def test_any_stream_is_bounded(pieces: list[bytes]):
    splitter = Splitter(200)
    for piece in pieces:
        for message in splitter.feed(piece):
            assert 0 < len(message) <= 200
        assert len(splitter._held) <= 200 + 16
    splitter.close()
