"""The codec of notifications: what real senders send is read and acknowledged; whatever else comes is refused, with the right reason.

Law: senders are net-snmp's, over loopback; clocks are numbers.
"""

import asyncio
import io
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given

from agent.snmp import ber, messages, usm, v3
from agent.snmp.notifications import MAX_BOOTS, NAMES, Door, Engine, Notification, Refused
from agent.snmp.receiver import Receiver, Whom
from agent.snmp.wire import Credentials, parse_oid
from agent.wire import pcap
from tests.detect.player import CORPUS
from tests.fakes import FakeClock
from tests.fuzz import broken, fuzz
from tests.snmp import senders
from tests.snmp.snmpd import USERS

V1, V2 = Credentials("1", "rahasia"), Credentials("2c", "rahasia")
US = Engine(b"\x80\0\xff\x7e\x05rondanya", 7, 0.0)
NONE = Credentials("3", user="tamu")


@pytest.fixture
def here() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.settimeout(5.0)
        yield bound


def door(who: Credentials, engine: bytes = b"", us: Engine = US) -> Door:
    return Door(who, us, usm.user(who) if who.version == "3" else None, engine)


def sent(here: socket.socket, folder: Path, who: Credentials, trap: str = senders.DOWN, *values: str, **how: object) -> bytes:
    """One trap's bytes."""
    senders.send(folder, here.getsockname()[1], who, trap, *values, **how)  # type: ignore[arg-type]
    return here.recv(9000)


def reason(who: Door, raw: bytes, at: float = 1000.0) -> str:
    with pytest.raises(Refused) as refused:
        who.hear(raw, at)
    assert refused.value.detail
    return refused.value.reason


# -- what real senders send -------------------------------------------------------------------------------------------------------


@pytest.mark.needs("snmptrap")
@pytest.mark.parametrize("who", [V1, V2, *USERS.values()], ids=lambda who: who.user or who.version)
def test_a_real_trap_says_what_it_is_about(here: socket.socket, tmp_path: Path, who: Credentials) -> None:
    raw = sent(here, tmp_path, who, senders.DOWN, *senders.ETHER1)
    said, reply = door(who).hear(raw, 1000.0)
    assert said == Notification(who.version, "link_down", parse_oid(senders.DOWN), 42.42, "ether1", 3)
    assert reply == b""


@pytest.mark.needs("snmptrap")
def test_a_trap_of_a_maker_is_other_and_keeps_its_oid(here: socket.socket, tmp_path: Path) -> None:
    first, _ = door(V1).hear(sent(here, tmp_path, V1, "1.3.6.1.4.1.14988.1.0.7"), 1.0)
    second, _ = door(V2).hear(sent(here, tmp_path, V2, "1.3.6.1.4.1.14988.1.0.7"), 1.0)
    assert first
    assert second
    assert first.oid == second.oid == parse_oid("1.3.6.1.4.1.14988.1.0.7")
    assert first.name == second.name == "other"


@pytest.mark.needs("snmptrap")
def test_an_interface_by_its_number_alone_and_who_was_refused(here: socket.socket, tmp_path: Path) -> None:
    said, _ = door(V2).hear(sent(here, tmp_path, V2, senders.DOWN, *senders.ETHER2), 1.0)
    assert said
    assert (said.about, said.port) == ("", 4)
    said, _ = door(V2).hear(sent(here, tmp_path, V2, senders.FAILURE, "1.3.6.1.4.1.9.2.1.5.0", "a", "192.0.2.66"), 1.0)
    assert said
    assert (said.name, said.source) == ("authentication_failure", "192.0.2.66")


def informed(here: socket.socket, folder: Path, who: Credentials, us: Engine = US) -> list[Notification | None]:
    """One inform, answered until its sender is content."""
    sender = senders.send(folder, here.getsockname()[1], who, senders.UP, *senders.ETHER1, inform=True, wait=False)
    mine, heard = door(who, us=us), list[Notification | None]()
    here.settimeout(0.2)
    while sender.poll() is None:
        try:
            raw, address = here.recvfrom(9000)
        except TimeoutError:
            continue
        try:
            said, reply = mine.hear(raw, 1000.0)
            heard.append(said)
        except Refused as e:
            reply = e.reply
        assert len(reply) <= 2 * len(raw), "who invents senders must not make us louder than himself"
        here.sendto(reply, address)
    assert sender.returncode == 0, (folder / "said").read_text()
    return heard


@pytest.mark.needs("snmpinform")
@pytest.mark.parametrize("who", [V2, *USERS.values()], ids=lambda who: who.user or who.version)
def test_a_real_inform_is_acknowledged(here: socket.socket, tmp_path: Path, who: Credentials) -> None:
    """Version 3 asks for our engine first; net-snmp believes no answer that isn't enciphered and authentic."""
    told = [said for said in informed(here, tmp_path, who) if said]
    assert told == [Notification(who.version, "link_up", parse_oid(senders.UP), 42.42, "ether1", 3, inform=True)]


@pytest.mark.needs("snmpinform")
def test_an_inform_that_is_sent_again_is_acknowledged_and_told_once(here: socket.socket, tmp_path: Path) -> None:
    sender = senders.send(tmp_path, here.getsockname()[1], V2, senders.UP, inform=True, wait=False)
    first, again = here.recv(9000), here.recv(9000)
    mine = door(V2)
    (said, reply), (none, same) = mine.hear(first, 1.0), mine.hear(again, 2.0)
    assert said
    assert none is None
    assert reply
    assert reply == same
    assert mine.hear(again, 3600.0)[0], "an hour later it is another that bears that number"
    sender.wait(timeout=10)


def corpus(name: str) -> bytes:
    """What the file holds; nothing, said, where it isn't: the traps and the broken messages of the other tests stand for it."""
    if not (CORPUS / name).exists():
        print(f"{CORPUS / name} is not here: real snmptrap's traps stand for it")
        return b""
    return (CORPUS / name).read_bytes()


def test_a_capture_of_every_kind_of_trap() -> None:
    if not (data := corpus("pcap/snmpv1_trap.pcap")):
        return
    frames = [bytes(packet.data) for packet in pcap.Capture(io.BytesIO(data).read)]
    names, refused = [], []
    for frame in frames:
        try:
            said, _ = door(Credentials("1", "public")).hear(frame[42:], 1.0)
            assert said
            names.append(said.name)
        except Refused as e:
            refused.append(e.reason)
    assert names == list(NAMES)
    assert refused == ["malformed"] * 6, "tags of several bytes that there are not in SNMP"


def test_what_broke_others_is_refused() -> None:
    if not (data := corpus("malformed/snmp-heapoverflow-2.pcap")):
        return
    assert {reason(door(who), data[start:][:1500]) for who in (V2, NONE) for start in range(len(data))} == {"malformed"}


# -- what is refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.needs("snmptrap")
def test_the_reasons_for_which_a_message_is_refused(here: socket.socket, tmp_path: Path) -> None:
    aes, des = USERS["aes"], USERS["des"]
    second, private = sent(here, tmp_path, V2), sent(here, tmp_path, aes)
    assert reason(door(Credentials("2c", "lain")), second) == "community"
    assert reason(door(Credentials("2c", "")), sent(here, tmp_path, V2._replace(community=""))) == "community"
    assert reason(door(aes), second) == "version", "who wants version 3 takes no open community"
    assert reason(door(V2), private) == "version"
    assert reason(door(aes._replace(user="budi")), private) == "auth"
    assert reason(door(aes._replace(auth_password="bukan-ini-nya")), private) == "auth"
    assert reason(door(aes._replace(privacy_password="bukan-ini-nya")), private) == "auth"
    assert reason(door(aes._replace(auth="sha256")), private) == "auth"
    assert reason(door(des._replace(user="aes")), private) == "auth"
    assert reason(door(aes._replace(privacy="none")), private) == "auth"
    assert reason(door(aes), sent(here, tmp_path, aes._replace(privacy="none"))) == "auth", "what is said openly is not enough"
    assert reason(door(aes), sent(here, tmp_path, NONE._replace(user="aes"))) == "auth"
    assert reason(door(aes, bytes.fromhex("80001f8804aabbcc02")), private) == "auth", "another engine than config names"
    assert door(aes, bytes.fromhex(senders.ENGINE)).hear(private, 1.0)[0]


@pytest.mark.needs("snmptrap")
def test_no_byte_of_an_authentic_trap_can_be_changed(here: socket.socket, tmp_path: Path) -> None:
    raw = sent(here, tmp_path, USERS["aes"], senders.DOWN, *senders.ETHER1)
    for n in range(len(raw)):
        changed = bytearray(raw)
        changed[n] ^= 1 << n % 8
        assert reason(door(USERS["aes"]), bytes(changed)) in ("auth", "malformed", "version")


@pytest.mark.needs("snmptrap")
def test_what_was_said_before_is_not_heard_again(here: socket.socket, tmp_path: Path) -> None:
    who, mine = USERS["aes"], door(USERS["aes"])
    old, new, later = (sent(here, tmp_path, who, boots=boots) for boots in ("3,1000", "3,2000", "4,5"))
    assert mine.hear(old, 0.0)[0]
    assert mine.hear(old, 100.0)[0], "within the window of 150 s it may be late"
    assert mine.hear(new, 200.0)[0]
    assert reason(mine, old, 300.0) == "auth"
    assert mine.hear(later, 400.0)[0], "the device has begun again"
    assert reason(mine, new, 400.0) == "auth"
    assert reason(door(who), sent(here, tmp_path, who, boots=f"{MAX_BOOTS},1")) == "auth", "an engine that has begun too often"


@pytest.mark.needs("snmpinform")
def test_an_inform_of_our_earlier_life_is_not_heard_again(here: socket.socket, tmp_path: Path) -> None:
    """It is kept by somebody who hears with us, and played when Ronda has begun anew: its boots are counted up, so it is old."""
    who = USERS["aes"]
    sender = senders.send(tmp_path, here.getsockname()[1], who, senders.UP, inform=True, wait=False)
    probe, address = here.recvfrom(9000)
    mine = door(who)
    here.sendto(mine.hear(probe, 1000.0)[1], address)
    inform, _ = here.recvfrom(9000)
    sender.kill()
    sender.wait(timeout=10)
    assert mine.hear(inform, 1000.0)[0]
    assert mine.hear(inform, 1100.0) != (None, b"")
    assert reason(mine, inform, 1200.0) == "auth"
    assert reason(door(who, us=US._replace(boots=8)), inform, 1000.0) == "auth"


@pytest.mark.needs("snmptrap")
def test_every_beginning_of_a_message_is_refused(here: socket.socket, tmp_path: Path) -> None:
    for who in (V1, V2, USERS["aes"], USERS["tamu"]):
        raw = sent(here, tmp_path, who, senders.DOWN, *senders.ETHER1)
        assert {reason(door(who), raw[:n]) for n in range(len(raw))} == {"malformed"}
        assert reason(door(who), raw + b"\0") == "malformed"


def test_of_a_notification_with_a_thousand_values_the_first_are_looked_at() -> None:
    """What devices send has a dozen; a thousand, a million times, would be somebody's way to keep the box busy."""
    what = ber.element(ber.SEQUENCE, ber.oid((1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0)), ber.oid(parse_oid(senders.DOWN)))
    name = ber.element(ber.SEQUENCE, ber.oid((1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 1, 3)), ber.string(b"ether1"))
    filler = [ber.element(ber.SEQUENCE, ber.oid((1, 3, n)), ber.integer(n)) for n in range(500)]

    def about(*pairs: bytes) -> str:
        pdu = ber.element(0xA7, ber.integer(1), ber.integer(0), ber.integer(0), ber.element(ber.SEQUENCE, what, *pairs))
        said, _ = door(V2).hear(ber.element(ber.SEQUENCE, ber.integer(1), ber.string(b"rahasia"), pdu), 1.0)
        assert said
        return said.about

    assert about(*filler[:20], name, *filler[20:]) == "ether1"
    assert about(*filler, name) == ""


def _salt_of(raw: bytes) -> bytes:
    message = ber.Element(raw, 0, len(raw)).take(ber.SEQUENCE)
    assert message.integer() == 3
    return v3.read(message).salt


@pytest.mark.parametrize("privacy", ["aes", "des"])
def test_two_senders_of_one_password_are_never_answered_with_one_salt(privacy: str) -> None:
    """One key and one salt twice: who listens would know more than he should (RFC 3826 section 3.1.2.1; RFC 3414 section 8.1.1.1)."""
    who = USERS["aes"]._replace(privacy=privacy)  # type: ignore[arg-type]
    user = usm.user(who)
    what = ber.element(ber.SEQUENCE, ber.oid((1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0)), ber.oid(parse_oid(senders.DOWN)))
    pdu = ber.element(0xA6, ber.integer(1), ber.integer(0), ber.integer(0), ber.element(ber.SEQUENCE, what))
    session = messages.Session(who, user)
    session.sync(messages.Report(0, (), US.id, US.boots, 1000), 0.0)
    inform = session._sealed(user, 1, pdu, 0.0)

    async def salts() -> set[bytes]:
        loop, heard = asyncio.get_running_loop(), list[str]()
        whom = {name: Whom(who, user) for name in ("router", "switch")}
        receiver = Receiver("127.0.0.1:0", whom, US, FakeClock(), lambda name, _: heard.append(name), lambda *_: None)
        receiver.senders = {"127.0.0.2": "router", "127.0.0.3": "switch"}
        found = set()
        try:
            for _ in range(2):
                for address in receiver.senders:
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                        sender.bind((address, 0))
                        sender.sendto(inform, ("127.0.0.1", receiver.port))
                        raw = await asyncio.wait_for(loop.sock_recv(sender, 9000), 5.0)
                        found.add(_salt_of(raw))
                receiver.admit(whom)  # as when credentials have changed
        finally:
            receiver.close()
        assert heard == ["router", "switch"] * 2
        return found

    assert len(asyncio.run(salts())) == 4


# -- the parts --------------------------------------------------------------------------------------------------------------------


def test_keys_are_those_of_the_standard() -> None:
    """RFC 3414 A.3: "maplesyrup" and an engine of eleven zeros and a 2."""
    engine = bytes(11) + b"\2"
    md5, sha = usm.stretched("md5", "maplesyrup"), usm.stretched("sha1", "maplesyrup")
    assert md5.hex() == "9faf3283884e92834ebc9847d8edd963"
    assert usm.localized("md5", md5, engine).hex() == "526f5eed9fcce26f8964c2930787d82b"
    assert sha.hex() == "9fb5cc0381497b3793528939ff788d5d79145211"
    assert usm.localized("sha1", sha, engine).hex() == "6695febc9288e36282235fc7151f128497b38f3f"


@pytest.mark.parametrize(
    "who", [USERS["aes"]._replace(auth="none"), USERS["aes"]._replace(auth_password="pendek"), USERS["aes"]._replace(privacy_password="")]
)
def test_credentials_that_can_not_work_are_said(who: Credentials) -> None:
    with pytest.raises(OSError, match=r"SNMPv3|privacy"):
        usm.user(who)


def test_nothing_shows_a_secret() -> None:
    assert "sandi" not in repr(usm.user(USERS["aes"]))


@pytest.mark.parametrize("value", [0, 1, 127, 128, 255, 256, -1, -128, -129, 2**31 - 1, 2**32 - 1, 2**63])
def test_numbers_come_back(value: int) -> None:
    raw = ber.integer(value)
    assert ber.Element(raw, 0, len(raw)).integer() == value


@pytest.mark.parametrize("text", ["1.3.6.1", "0.0", "2.999.3", "1.3.4294967295.0.127.128"])
def test_oids_come_back(text: str) -> None:
    oid = parse_oid(text)
    raw = ber.oid(oid)
    assert ber.Element(raw, 0, len(raw)).oid() == oid


@pytest.mark.parametrize(
    "raw", ["", "02", "0201", "0280", "028501", "0209", "020a01020304050607080900", "0600", "0681", "060180", "06069fffffffff7f", "30"]
)
def test_what_is_no_element_is_malformed(raw: str) -> None:
    data = bytes.fromhex(raw)
    for read in (ber.Element.integer, ber.Element.oid, ber.Element.string):
        with pytest.raises(ber.Malformed):
            read(ber.Element(data, 0, len(data)))


def _whole() -> list[bytes]:
    """A message of each sort, made here: fuzz targets need no program."""
    pair = ber.element(ber.SEQUENCE, ber.oid(parse_oid("1.3.6.1.6.3.1.1.4.1.0")), ber.oid(parse_oid(senders.DOWN)))
    listed = ber.element(ber.SEQUENCE, pair)
    numbers = (ber.integer(1), ber.integer(0), ber.integer(0))
    made = []
    for tag in (0xA7, 0xA6):
        pdu = ber.element(tag, *numbers, listed)
        made.append(ber.element(ber.SEQUENCE, ber.integer(1), ber.string(b"rahasia"), pdu))
        head = ber.element(ber.SEQUENCE, ber.integer(1), ber.integer(9000), ber.string(b"\4"), ber.integer(3))
        for engine in (b"", US.id) if tag == 0xA6 else (b"", b"12345678", US.id):
            empty = ber.string(b"")
            parts = ber.element(ber.SEQUENCE, ber.string(engine), ber.integer(7), ber.integer(1000), ber.string(b"tamu"), empty, empty)
            scoped = ber.element(ber.SEQUENCE, ber.string(engine), empty, pdu)
            made.append(ber.element(ber.SEQUENCE, ber.integer(3), head, ber.string(parts), scoped))
    address = ber.element(ber.ADDRESS, bytes(4))
    trap = ber.element(0xA4, ber.oid((1, 3, 6)), address, ber.integer(2), ber.integer(0), ber.integer(7, ber.TICKS), listed)
    return [*made, ber.element(ber.SEQUENCE, ber.integer(0), ber.string(b"rahasia"), trap)]


def test_the_fuzzed_messages_are_whole() -> None:
    for raw in _whole():
        said, reply = door(NONE if raw.find(b"tamu") > 0 else V2).hear(raw, 1000.0)
        assert said or reply


@fuzz
@given(raw=broken(_whole()))
def test_whatever_comes_is_heard_or_refused(raw: bytes) -> None:
    for who in (V2, NONE):
        try:
            said, reply = door(who).hear(raw, 1000.0)
        except Refused as e:
            said, reply = None, e.reply
        assert said is None or len(said.about) <= 64
        assert len(reply) <= len(raw) + 200
