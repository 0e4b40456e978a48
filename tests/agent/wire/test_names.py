"""LLMNR, NBNS and mDNS against scapy, against their corner cases, and against noise."""

import contextlib
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.llmnr import LLMNRQuery, LLMNRResponse
from scapy.layers.netbios import NBNS_ADD_ENTRY, NBNSHeader, NBNSQueryRequest, NBNSQueryResponse

from agent.wire import names as codec
from tests.fuzz import SETTINGS, broken, fuzz

LABELS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=15)
ADDRESSES = st.integers(0, (1 << 32) - 1).map(lambda n: str(ipaddress.IPv4Address(n)))
IDS = st.integers(0, 65535)
HEAD = struct.pack("!6H", 1, 0, 1, 0, 0, 0)


@SETTINGS
@given(LABELS, IDS)
def test_an_llmnr_question_reads_so_in_scapy(name, ident):
    raw = codec.llmnr_query(name, ident)
    read = LLMNRQuery(raw)

    assert (read.id, read.qr, read.opcode, read.qdcount) == (ident, 0, 0, 1)
    assert (read.qd[0].qname, read.qd[0].qtype, read.qd[0].qclass) == (name.encode() + b".", 1, 1)
    assert codec.parse("llmnr", raw) == codec.Message("llmnr", ident, response=False, opcode=0, rcode=0, asked=(name,))


@SETTINGS
@given(LABELS, IDS, ADDRESSES)
def test_an_llmnr_answer_of_scapy(name, ident, address):
    raw = bytes(LLMNRResponse(id=ident, qd=DNSQR(qname=name), an=DNSRR(rrname=name, type="A", ttl=30, rdata=address)))

    message = codec.parse("llmnr", raw)

    assert (message.id, message.response, message.asked) == (ident, True, (name,))
    assert message.answers == (codec.Answer(name, (address,)),)


@SETTINGS
@given(LABELS, IDS, st.sampled_from([0, 0x20, 0x1B]))
def test_an_nbns_question_reads_so_in_scapy(name, ident, kind):
    raw = codec.nbns_query(name, ident, kind)
    read = NBNSHeader(raw)

    assert [ident, 0, 0, 0x11] == [read.NAME_TRN_ID, read.RESPONSE, read.OPCODE, read.NM_FLAGS]
    assert (read[NBNSQueryRequest].QUESTION_NAME.strip(), read[NBNSQueryRequest].QUESTION_TYPE) == (name.upper().encode(), 0x20)
    assert int(read[NBNSQueryRequest].SUFFIX) == 0x4141 + (kind >> 4 << 8) + (kind & 15)
    assert codec.parse("nbns", raw).asked == (name.upper(),)


@SETTINGS
@given(LABELS, IDS, st.lists(ADDRESSES, min_size=1, max_size=3))
def test_an_nbns_answer_of_scapy(name, ident, addresses):
    entries = [NBNS_ADD_ENTRY(NB_ADDRESS=a) for a in addresses]
    raw = bytes(NBNSHeader(NAME_TRN_ID=ident, RESPONSE=1, ANCOUNT=1) / NBNSQueryResponse(RR_NAME=name.upper(), ADDR_ENTRY=entries))

    message = codec.parse("nbns", raw)

    assert (message.id, message.response) == (ident, True)
    assert message.answers == (codec.Answer(name.upper(), tuple(addresses)),)


@SETTINGS
@given(LABELS, ADDRESSES)
def test_an_mdns_announcement_of_scapy(name, address):
    host = f"{name}.local"
    records = [
        DNSRR(rrname="_ipp._tcp.local", type="PTR", rdata="Printer._ipp._tcp.local"),
        DNSRR(rrname=host, type="A", rclass=0x8001, rdata=address), DNSRR(rrname=host, type="AAAA", rclass=0x8001, rdata="2001:db8::9"),
    ]  # fmt: skip
    raw = bytes(DNS(id=0, qr=1, aa=1, qd=[], an=records))

    message = codec.parse("mdns", raw)

    assert (message.response, message.asked) == (True, ())
    assert message.answers == (codec.Answer("_ipp._tcp.local"), codec.Answer(host, (address, "2001:db8::9")))


def test_an_mdns_question_with_what_the_asker_knows_already():
    questions = [DNSQR(qname="a.local", unicastresponse=1), DNSQR(qname="b.local", qtype="AAAA")]
    raw = bytes(DNS(id=0, rd=0, qd=questions, an=[DNSRR(rrname="a.local", rdata="192.0.2.1")]))

    message = codec.parse("mdns", raw)

    assert (message.response, message.asked, message.answers) == (False, ("a.local", "b.local"), ())


def test_our_mdns_question_reads_so_in_scapy():
    read = DNS(codec.mdns_query("printer.local"))

    assert (read.id, read.rd, read.qd[0].qname, read.qd[0].qclass) == (0, 0, b"printer.local.", 1)


def test_a_node_status_is_no_question_for_a_name():
    status = HEAD + b"\x20" + codec.encode_netbios("*").encode() + b"\0" + struct.pack("!HH", 0x21, 1)

    assert codec.parse("nbns", status).asked == ()


def test_what_the_rfc_gives_as_an_example():
    """RFC 1001 14.1, with its scope."""
    name = "EGFCEFEECACACACACACACACACACACACA.NETBIOS.COM"

    assert codec.decode_netbios(name) == "FRED"
    assert codec.encode_netbios("fred", 0x20) == "EGFCEFEECACACACACACACACACACACACA"


def test_more_than_a_message_says_is_passed_over():
    many = b"\1a\0\0\1\0\1"

    message = codec.parse("mdns", struct.pack("!6H", 0, 0, 500, 0, 0, 0) + many * 500)

    assert len(message.asked) == codec.MAX_QUESTIONS


def test_names_that_unfold_to_thousands_of_labels_are_not_unfolded():
    long = b"\1\xff" * 126 + b"\0"
    questions = struct.pack("!6H", 0, 0, 16, 0, 0, 0) + long + b"\0\1\0\1" + b"\xc0\x0c\0\1\0\1" * 15
    record = struct.pack("!HHIH4s", 1, 1, 9, 4, b"\xc0\0\2\1")
    answers = struct.pack("!6H", 0, 0x8000, 0, 32, 0, 0) + long + record + (b"\xc0\x0c" + record) * 31

    assert len(codec.parse("mdns", questions).asked) == 2
    assert [len(answer.addresses) for answer in codec.parse("mdns", answers).answers] == [2]


def test_a_name_has_so_many_addresses_at_most():
    record = b"\1a\0" + struct.pack("!HHIH4s", 1, 1, 9, 4, b"\xc0\0\2\1")

    message = codec.parse("llmnr", struct.pack("!6H", 1, 0x8000, 0, 30, 0, 0) + record * 30)

    assert [len(a.addresses) for a in message.answers] == [codec.MAX_ADDRESSES]


@pytest.mark.parametrize(
    ("protocol", "data"),
    [
        ("llmnr", b""), ("llmnr", HEAD[:11]), ("llmnr", HEAD), ("llmnr", HEAD + b"\xc0\x0c\0\1\0\1"), ("nbns", HEAD + b"\1a\0\0\x20\0\1"),
        ("nbns", HEAD + b"\x20" + b"Z" * 32 + b"\0\0\x20\0\1"),
        ("mdns", struct.pack("!6H", 0, 0x8000, 0, 1, 0, 0) + b"\1a\0\0\1\0\1\0\0\0\1\0\4\1"),
    ],
)  # fmt: skip
def test_what_is_no_message_is_an_error(protocol, data):
    with pytest.raises(codec.NamesError):
        codec.parse(protocol, data)


@pytest.mark.parametrize(
    ("query", "name"), [(codec.llmnr_query, "a" * 64), (codec.nbns_query, "a" * 16), (codec.nbns_query, ""), (codec.nbns_query, "☃")]
)
def test_a_name_that_the_protocol_has_not_is_an_error(query, name):
    with pytest.raises(codec.NamesError):
        query(name, 1)


REAL = [
    codec.llmnr_query("wpad", 7), codec.nbns_query("WPAD", 7), codec.mdns_query("a.local"),
    bytes(DNS(id=0, qr=1, qd=[], an=[DNSRR(rrname="a.local", rdata="192.0.2.1")])),
    bytes(NBNSHeader(RESPONSE=1, ANCOUNT=1) / NBNSQueryResponse(RR_NAME="A", ADDR_ENTRY=[NBNS_ADD_ENTRY()])),
]  # fmt: skip


@fuzz
@given(st.sampled_from(["llmnr", "nbns", "mdns"]), st.one_of(broken(REAL), st.binary(max_size=80)))
def test_fuzz_noise_is_a_message_or_an_error(protocol, noise):
    for data in (noise, HEAD + noise, struct.pack("!6H", 1, 0x8000, 0, 9, 0, 0) + noise):
        with contextlib.suppress(codec.NamesError):
            codec.parse(protocol, data)
