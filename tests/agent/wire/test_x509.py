"""The certificate reader against `cryptography` as referee, against what is no DER, and against whatever bytes come."""

import contextlib
import datetime
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.x509 import MAX_CERTIFICATE, Name, X509Error, parse
from tests.certs import DAY, issue
from tests.fuzz import fuzz

ROOT = issue("Root", ca=True)
LEAF = issue("siak.example.go.id", ROOT, names=("siak.example.go.id", "*.example.go.id", "192.0.2.80", "2001:db8::1"))
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def test_a_leaf_and_its_root() -> None:
    leaf, root = parse(LEAF.der), parse(ROOT.der)
    assert leaf.subject == Name("siak.example.go.id", "Kominfo")
    assert str(leaf.issuer) == "CN=Root, O=Kominfo"
    assert leaf.names == ("siak.example.go.id", "*.example.go.id", "192.0.2.80", "2001:db8::1")
    assert leaf.not_before == LEAF.cert.not_valid_before_utc.timestamp()
    assert leaf.not_after == LEAF.cert.not_valid_after_utc.timestamp()
    assert int(leaf.serial, 16) == LEAF.cert.serial_number
    assert leaf.sha256 == hashlib.sha256(LEAF.der).hexdigest()
    assert (leaf.self_issued, root.self_issued) == (False, True)


def test_years_beyond_2050_are_written_otherwise() -> None:
    far = issue("far", ends=40 * 366 * DAY)
    assert parse(far.der).not_after == far.cert.not_valid_after_utc.timestamp()


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # some roots are older than the rule
@pytest.mark.skipif(not BUNDLE.exists(), reason="needs ca-certificates")
def test_every_root_of_the_box_reads_as_the_referee_reads_it() -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    roots = x509.load_pem_x509_certificates(BUNDLE.read_bytes())
    assert len(roots) > 50
    for root in roots:
        ours = parse(root.public_bytes(Encoding.DER))
        assert int(ours.serial, 16) == root.serial_number
        assert ours.not_after == root.not_valid_after_utc.timestamp()
        assert ours.not_before == root.not_valid_before_utc.timestamp()
        assert ours.subject.common_name == _first(root.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
        assert ours.issuer.organization == _first(root.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
        assert ours.self_issued == (root.issuer == root.subject)


def _first(attributes) -> str:
    return attributes[0].value if attributes else ""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x80\x00\x00",
        b"\x30\x81\x05hello",
        b"\x30\x82\x00\x05hello",
        b"\x30\x84\x00\x00\x00\x01a",
        b"\x1f\x81\x01\x00",
        b"\x30\x00",
        LEAF.der[:-1],
        LEAF.der + b"\0",
        b"\x30" * 5000,
        bytes(MAX_CERTIFICATE + 1),
    ],
    ids=lambda d: "cut" if d == LEAF.der[:-1] else "a byte more" if d[:-1] == LEAF.der else f"{d[:6].hex()}-{len(d)}",
)
def test_what_is_no_certificate_is_refused(data: bytes) -> None:
    with pytest.raises(X509Error):
        parse(data)


def test_a_date_that_does_not_exist_is_refused() -> None:
    stamp = LEAF.cert.not_valid_after_utc.strftime("%y%m%d%H%M%SZ").encode()
    assert stamp in LEAF.der
    with pytest.raises(X509Error, match="time"):
        parse(LEAF.der.replace(stamp, stamp[:2] + b"1332" + stamp[6:]))


def test_names_that_would_write_to_a_terminal_are_made_harmless() -> None:
    wild = issue("a\x1b[2Jb\nc", names=("ok.example",))
    assert parse(wild.der).subject.common_name == "a\ufffd[2Jb\ufffdc"


@given(st.binary(max_size=200))
@fuzz
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(X509Error):
        parse(data)


@given(st.lists(st.tuples(st.integers(0, len(LEAF.der) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 40))
@fuzz
def test_a_certificate_with_some_bytes_changed(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(LEAF.der)
    for at, value in changes:
        data[at] = value
    with contextlib.suppress(X509Error):
        found = parse(bytes(data[: len(data) - cut]))
        assert datetime.datetime.fromtimestamp(found.not_after, datetime.UTC)
