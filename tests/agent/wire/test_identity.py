"""MNDP, LLDP, CDP and STP against scapy (it has no MNDP: that against its parts), against their corner cases, and against noise."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib import cdp, lldp
from scapy.layers.l2 import STP, Ether

from agent.wire import identity as codec
from tests.fuzz import SETTINGS, broken, fuzz

MACS = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
TEXTS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-/. ", min_size=1, max_size=60)
ROUTER = "4c:5e:0c:11:22:33"


def an_mndp(*parts):
    return bytes(4) + b"".join(struct.pack("!HH", code, len(value)) + value for code, value in parts)


def an_lldp(mac=ROUTER, name="switch", text="Linux", port="uplink"):
    return _lldp(
        lldp.LLDPDUChassisID(subtype=4, id=mac)
        / lldp.LLDPDUPortID(subtype=5, id="ge-0/0/1")
        / lldp.LLDPDUTimeToLive(ttl=120)
        / lldp.LLDPDUPortDescription(description=port)
        / lldp.LLDPDUSystemName(system_name=name)
        / lldp.LLDPDUSystemDescription(description=text)
        / lldp.LLDPDUEndOfLLDPDU()
    )


def _lldp(parts):
    """Scapy builds LLDP only behind Ethernet."""
    return bytes(Ether() / parts)[14:]


def a_cdp(name="S1", board="cisco", version="12.2", port="Fa0/1"):
    return bytes(
        cdp.CDPv2_HDR(
            msg=[
                cdp.CDPMsgDeviceID(val=name.encode()), cdp.CDPMsgSoftwareVersion(val=version.encode()),
                cdp.CDPMsgPlatform(val=board.encode()), cdp.CDPMsgPortID(iface=port.encode()),
            ]
        )
    )  # fmt: skip


@SETTINGS
@given(MACS, TEXTS, TEXTS, TEXTS, TEXTS, st.integers(0, (1 << 32) - 1))
def test_mndp_is_the_sum_of_its_parts(mac, name, board, version, port, uptime):
    said = codec.mndp(
        an_mndp(
            (1, bytes.fromhex(mac.replace(":", ""))), (5, name.encode()), (7, version.encode()), (8, b"MikroTik"), (12, board.encode()),
            (10, struct.pack("<I", uptime)), (16, port.encode()), (15, bytes(16)), (17, bytes(4)),
        )
    )  # fmt: skip

    assert said == codec.Identity(mac, name, board, version, port, float(uptime))


def test_an_mndp_question_says_nothing():
    assert codec.mndp(bytes(4)) is None


def test_mndp_that_says_little():
    assert codec.mndp(an_mndp((5, b"kantor\0"), (10, b"\1"))) == codec.Identity(name="kantor")


@SETTINGS
@given(MACS, TEXTS, TEXTS, TEXTS)
def test_lldp_reads_as_scapy_wrote_it(mac, name, text, port):
    assert codec.lldp(an_lldp(mac, name, text, port)) == codec.Identity(mac, name, "", text, port)


def test_lldp_of_a_chassis_that_is_no_mac_and_a_port_without_description():
    parts = _lldp(lldp.LLDPDUChassisID(subtype=7, id="rack") / lldp.LLDPDUPortID(subtype=3, id=ROUTER) / lldp.LLDPDUTimeToLive(ttl=1))

    assert codec.lldp(parts) == codec.Identity(port=ROUTER)


def test_lldp_ends_where_its_end_is():
    assert codec.lldp(an_lldp() + b"\xff\xff padding").name == "switch"


@SETTINGS
@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_cdp_reads_as_scapy_wrote_it(name, board, version, port):
    assert codec.cdp(a_cdp(name, board, version, port)) == codec.Identity("", name, board, version, port)


@SETTINGS
@given(st.integers(0, 65535), MACS, st.integers(0, 65535), MACS, st.integers(0, 255))
def test_a_bpdu_reads_as_scapy_wrote_it(root, root_mac, bridge, bridge_mac, flags):
    raw = bytes(STP(bpduflags=flags, rootid=root, rootmac=root_mac, bridgeid=bridge, bridgemac=bridge_mac))

    assert codec.stp(raw) == codec.Bridge(f"{root:04x}.{root_mac}", f"{bridge:04x}.{bridge_mac}", changed=bool(flags & 1))


def test_a_notice_of_change_and_what_is_not_802_1d():
    assert codec.stp(b"\0\0\0\x80") == codec.Bridge("", "", changed=True)
    assert codec.stp(b"\0\0\2\x02" + bytes(32)) == codec.Bridge("0000.00:00:00:00:00:00", "0000.00:00:00:00:00:00", changed=False)
    assert codec.stp(b"\0\0\0\x55" + bytes(40)) is None


def test_a_text_is_cut():
    assert len(codec.mndp(an_mndp((5, b"a" * 1000))).name) == codec.MAX_TEXT


@pytest.mark.parametrize(
    ("parser", "data"),
    [
        (codec.mndp, b""), (codec.mndp, bytes(4) + b"\0"), (codec.mndp, bytes(4) + b"\0\5\0\5abcd"), (codec.mndp, bytes(4) * 200),
        (codec.cdp, b"\2"), (codec.cdp, b"\7\0\0\0"), (codec.cdp, b"\2\0\0\0\0\1\0\3"), (codec.cdp, b"\2\0\0\0\0\1\0\x20a"),
        (codec.lldp, b""), (codec.lldp, b"\0\0"), (codec.lldp, b"\2"), (codec.lldp, b"\2\xff\4"), (codec.stp, b"\0\0\0"),
        (codec.stp, b"\1\0\0\0\0"), (codec.stp, b"\0\0\0\0" + bytes(20)),
    ],
)  # fmt: skip
def test_what_can_not_be_is_an_error(parser, data):
    with pytest.raises(codec.IdentityError):
        parser(data)


REAL = [an_lldp(), a_cdp(), an_mndp((1, bytes(6)), (5, b"router"), (10, bytes(4))), bytes(STP())]


@fuzz
@given(st.sampled_from([codec.mndp, codec.cdp, codec.lldp, codec.stp]), st.one_of(broken(REAL), st.binary(max_size=80)))
def test_fuzz_noise_is_an_identity_or_an_error(parser, data):
    with contextlib.suppress(codec.IdentityError):
        parser(data)
