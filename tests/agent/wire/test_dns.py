"""The DNS codec against dnspython, against the RFCs' corner cases, and against noise."""

import struct

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import dns as codec
from tests.fuzz import fuzz

HEADER = struct.pack("!6H", 7, 0x8180, 1, 1, 0, 0)
QUESTION = b"\1a\0\0\1\0\1"


def an_rrset(record: str) -> dns.rrset.RRset:
    owner, *rest = record.split(" ", 4)
    return dns.rrset.from_text(dns.name.from_text(owner), *rest)


def a_reply(*records: str, name: str = "www.example.go.id", type_: str = "A") -> dns.message.Message:
    reply = dns.message.make_response(dns.message.make_query(name, type_, id=7), recursion_available=True)
    for record in records:
        reply.answer.append(an_rrset(record))
    return reply


@pytest.mark.parametrize(
    ("query", "edns"),
    [
        (codec.Query(4711, "www.example.go.id", "AAAA"), 1232),
        (codec.Query(0, ".", "NS", recursion=False, edns=0), -1),
        (codec.Query(65535, r"a\.b\032c\200.example.", "TXT", edns=4096), 4096),
    ],
)
def test_a_query_reads_the_same_in_dnspython(query, edns):
    read = dns.message.from_wire(query.pack())

    assert (read.id, bool(read.flags & dns.flags.RD)) == (query.id, query.recursion)
    assert read.question[0].name == dns.name.from_text(query.name)
    assert dns.rdatatype.to_text(read.question[0].rdtype) == query.type
    assert (read.edns, read.payload) == ((0, edns) if edns > 0 else (-1, 0))


def test_letters_outside_ascii_are_asked_as_idna():
    assert codec.encode_name("bücher.example") == codec.encode_name("xn--bcher-kva.example")


@pytest.mark.parametrize("name", ["a..b", ".a", "a" * 64, ".".join(["a" * 60] * 5), "a\\", "a\\25", "a\\999", "ü" * 80])
def test_what_can_be_no_name_is_refused(name):
    with pytest.raises(codec.DnsError):
        codec.encode_name(name)


@pytest.mark.parametrize(
    ("type_", "text", "data"),
    [
        ("A", "192.0.2.80", "192.0.2.80"),
        ("AAAA", "2001:DB8:0::1", "2001:db8::1"),
        ("CNAME", "www.example.", "www.example"),
        ("NS", ".", "."),
        ("PTR", r"a\.b.example.", r"a\.b.example"),
        ("MX", "10 mail.example.", "10 mail.example"),
        ("SRV", "1 2 389 ldap.example.", "1 2 389 ldap.example"),
        ("SOA", "ns.example. root.example. 1 2 3 4 5", "ns.example root.example 1 2 3 4 5"),
        ("TXT", '"v=spf1 " "-all"', "v=spf1 -all"),
        ("TXT", r'"tab\009 back\\slash"', r"tab\009 back\\slash"),
        ("CAA", '0 issue "ca.example"', '0 issue "ca.example"'),
        ("TYPE65280", r"\# 3 0a0b0c", r"\# 3 0a0b0c"),
    ],
)
def test_answers_of_each_type(type_, text, data):
    reply = a_reply(f"www.example.go.id 300 IN {type_} {text}", type_=type_)

    message = codec.parse(reply.to_wire())

    assert message.answers == (codec.Record("www.example.go.id", type_, 300, data),)
    assert message.question == ("www.example.go.id", type_)
    assert (message.response, message.rcode_name, message.flags, message.truncated) == (True, "NOERROR", {"RD", "RA"}, False)


def test_all_sections_flags_and_the_extended_rcode():
    reply = a_reply("www.example.go.id 5 IN A 192.0.2.1")
    reply.flags |= dns.flags.AA | dns.flags.TC | dns.flags.AD
    reply.authority.append(an_rrset("example.go.id 6 IN NS ns.example.go.id."))
    reply.additional.append(an_rrset("ns.example.go.id 7 IN A 192.0.2.53"))
    reply.use_edns(0, payload=1232)
    reply.set_rcode(dns.rcode.BADVERS)

    message = codec.parse(reply.to_wire())

    assert message.rcode_name == "BADVERS"
    assert message.edns
    assert message.flags == {"AA", "TC", "RD", "RA", "AD"}
    assert message.authority == (codec.Record("example.go.id", "NS", 6, "ns.example.go.id"),)
    assert message.additional == (codec.Record("ns.example.go.id", "A", 7, "192.0.2.53"),)


def test_aliases_are_followed_without_regard_to_case_and_never_in_a_circle():
    reply = a_reply(
        "www.example.go.id 60 IN CNAME WEB.example.go.id.", "web.example.go.id 60 IN A 192.0.2.1", "other.example 60 IN A 192.0.2.9"
    )
    circle = a_reply("a.example 1 IN CNAME b.example.", "b.example 1 IN CNAME a.example.")

    last, records = codec.parse(reply.to_wire()).chain("WWW.example.go.id.", "A")

    assert (last, [r.data for r in records]) == ("web.example.go.id", ["192.0.2.1"])
    assert codec.parse(circle.to_wire()).chain("a.example", "A")[1] == []
    assert [r.data for r in codec.parse(reply.to_wire()).chain("www.example.go.id", "CNAME")[1]] == ["WEB.example.go.id"]


@pytest.mark.parametrize(
    ("ident", "name", "type_", "query_bit", "wrong"),
    [
        (7, "WWW.example.go.id", "A", False, ""),
        (8, "www.example.go.id", "A", False, "wrong id"),
        (7, "evil.example.go.id", "A", False, "wrong question"),
        (7, "www.example.go.id", "AAAA", False, "wrong question"),
        (7, "www.example.go.id", "A", True, "not a reply"),
    ],
)
def test_only_the_answer_to_the_question_is_taken(ident, name, type_, query_bit, wrong):
    message = dns.message.make_query(name, type_, id=ident)
    reply = message if query_bit else dns.message.make_response(message)

    assert codec.mismatch(codec.Query(7, "www.example.go.id"), codec.parse(reply.to_wire())) == wrong


def test_a_server_that_understood_nothing_may_leave_out_the_question():
    query = codec.Query(7, "a.example")

    assert codec.mismatch(query, codec.parse(struct.pack("!6H", 7, 0x8001, 0, 0, 0, 0))) == ""
    assert codec.mismatch(query, codec.parse(struct.pack("!6H", 7, 0x8000, 0, 0, 0, 0))) == "wrong question"
    assert codec.mismatch(query, codec.parse(struct.pack("!6H", 7, 0xA801, 0, 0, 0, 0))) == "wrong opcode"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEADER[:11],
        HEADER,
        HEADER + QUESTION,
        HEADER + b"\1a\0\0\1\0\3",  # class CHAOS
        HEADER + b"\xc0\x0c\0\1\0\1",  # a name that points to itself
        HEADER + b"\1a\xc0\x0c\0\1\0\1",  # ... to its own start
        HEADER + QUESTION + b"\xc0\x20" + b"\0" * 30,  # forward
        HEADER + QUESTION + b"\xc0\x15\0\1\0\1\0\0\0\0\0\0",
        HEADER + QUESTION + b"\x80a\0",  # an unknown kind of label
        HEADER + QUESTION + b"\0\0\1\0\1\0\0\0\1\0\5\1\2\3\4\5",  # an A record of five bytes
        HEADER + QUESTION + b"\0\0\1\0\1\0\0\0\1\0\4\1\2\3",  # that ends too early
        HEADER + QUESTION + b"\0\0\x10\0\1\0\0\0\1\0\2\5a",  # a TXT string longer than its record
        HEADER + QUESTION + b"\0\0\2\0\1\0\0\0\1\0\1\1a\0",  # a name that leaves its record
        struct.pack("!6H", 7, 0x8180, 2, 0, 0, 0) + QUESTION * 2,
        struct.pack("!6H", 7, 0x8180, 0, 65535, 0, 0) + bytes(11) * 5000,
        HEADER + (b"\x3f" + b"a" * 63) * 5 + b"\0\0\1\0\1",  # a name of 320 bytes
    ],
)
def test_malformed_messages_are_refused(data):
    with pytest.raises(codec.DnsError):
        codec.parse(data)


def test_the_longest_chain_of_pointers_ends_in_time():
    chain = b"\0" + b"".join(struct.pack("!H", 0xC000 | (12 if i == 0 else 13 + 2 * (i - 1))) for i in range(4000))
    pointer = struct.pack("!H", 0xC000 | 13 + 2 * 3999)
    data = struct.pack("!6H", 7, 0x8180, 0, 0, 0, 0) + chain + pointer

    assert codec.Reader(data, len(data) - 2).name() == "."


def test_what_is_whole_of_a_cut_off_message_is_kept():
    reply = a_reply("www.example.go.id 60 IN A 192.0.2.1", "www.example.go.id 60 IN A 192.0.2.2")
    whole = reply.to_wire()
    reply.flags |= dns.flags.TC

    assert [r.data for r in codec.parse(reply.to_wire()[:-3]).answers] == ["192.0.2.1"]
    with pytest.raises(codec.DnsError):
        codec.parse(whole[:-3])


def test_a_time_to_live_with_the_highest_bit_is_zero():
    data = HEADER + QUESTION + b"\0\0\1\0\1\x80\0\0\1\0\4\1\2\3\4"

    assert codec.parse(data).answers[0].ttl == 0


@pytest.mark.parametrize("name", ["", "B", "TYPE0", "TYPE65536", "TYPEx", "TYPE123456"])
def test_unknown_types_are_refused(name):
    with pytest.raises(codec.DnsError):
        codec.type_number(name)


def test_types_by_number():
    assert (codec.type_number("TYPE65280"), codec.type_name(65280), codec.rcode_name(23)) == (65280, "TYPE65280", "RCODE23")


@fuzz
@given(st.binary(max_size=300))
def test_noise_is_a_message_or_a_dns_error(data):
    _parsed(data)


@fuzz
@given(st.data())
def test_a_damaged_message_is_a_message_or_a_dns_error(data):
    whole = bytearray(
        a_reply(
            "www.example.go.id 60 IN CNAME web.example.go.id.",
            "web.example.go.id 60 IN A 192.0.2.1",
            "example.go.id 60 IN SOA ns.example.go.id. root.example.go.id. 1 2 3 4 5",
            'example.go.id 60 IN TXT "a" "b"',
        ).to_wire()
    )
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    _parsed(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


def _parsed(data: bytes) -> None:
    try:
        message = codec.parse(data)
    except codec.DnsError:
        return
    for record in (*message.answers, *message.authority, *message.additional):
        assert record.data.isprintable()
        assert record.name.isprintable()
    message.chain("www.example.go.id", "A")


@fuzz
@given(st.lists(st.binary(min_size=1, max_size=63), max_size=3))
def test_any_name_survives_the_way_through_text(labels):
    wire = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"

    text = codec.Reader(wire).name()

    assert text.isascii()
    assert codec.encode_name(text) == wire
    assert dns.name.from_text(text).to_wire() == wire
