"""Trust and handshakes against real TLS servers with certificates of every sort; what config may say about them."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import tls
from agent.collector import Failure
from agent.structure import ConfigError, loads
from tests.certs import DAY, Issued, issue
from tests.webserver import serving

ROOT = issue("Test Root", ca=True)
INNER = issue("Test Inner", ROOT, ca=True)
OLD_INNER = issue("Old Inner", ROOT, ca=True, begins=-20 * DAY, ends=-DAY)
NAMES = ("siak.test",)
GOOD = issue("siak.test", INNER, names=NAMES)
CASES = {
    "expired": issue("siak.test", INNER, names=NAMES, begins=-20 * DAY, ends=-DAY),
    "not_yet_valid": issue("siak.test", INNER, names=NAMES, begins=DAY),
    "name": issue("lain.test", INNER, names=("lain.test",)),
    "self_signed": issue("siak.test", names=NAMES),
    "untrusted": issue("siak.test", issue("Stranger", ca=True), names=NAMES),
}


@pytest.fixture
def trust(tmp_path: Path) -> tls.ClientTls:
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    return tls.ClientTls(ca_file=str(tmp_path / "ca.pem"))


def server_context(issued: Issued, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issued.write(folder, "server"))
    return context


@contextlib.contextmanager
def tls_server(context: ssl.SSLContext) -> Iterator[int]:
    """A server in a thread: asyncio's own closes without the alert that tells a client why it was refused."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                conn, _ = listener.accept()
                conn.settimeout(10)
                with conn, contextlib.suppress(OSError), context.wrap_socket(conn, server_side=True) as secured:
                    secured.recv(1)

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def shake(context: ssl.SSLContext, config: tls.ClientTls, name: str = "siak.test", *, verify: bool = True, why: str = "") -> tls.TlsFacts:
    """The facts of one handshake with a server that has `context`."""

    async def run(port: int) -> tls.TlsFacts:
        sock = await _connect(port)
        with contextlib.closing(await tls.handshake(sock, tls.client_context(config, Path("/"), verify=verify), name)) as secured:
            return tls.facts(secured, why)

    with tls_server(context) as port:
        return asyncio.run(run(port))


async def _connect(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock


def test_a_site_in_order_shows_its_verified_chain_in_one_handshake(tmp_path, trust):
    found = shake(server_context(GOOD, tmp_path), trust)
    assert (found.version, found.verified, found.why, found.unreadable) == ("TLSv1.3", True, "", 0)
    assert [c.subject.common_name for c in found.chain] == ["siak.test", "Test Inner", "Test Root"]
    assert found.earliest == min(c.not_after for c in found.chain)


@pytest.mark.parametrize("why", CASES)
def test_a_refused_certificate_says_why_and_still_shows_its_chain(tmp_path, trust, why):
    context = server_context(CASES[why], tmp_path)
    with pytest.raises(tls.Distrusted) as caught:
        shake(context, trust)
    assert (caught.value.reason, caught.value.why) == ("certificate", why)

    found = shake(context, trust, verify=False, why=why)
    assert (found.verified, found.why) == (False, why)
    assert found.chain[0].sha256 == tls.parse(CASES[why].der).sha256


def test_an_expired_intermediate_is_named(tmp_path, trust):
    context = server_context(issue("siak.test", OLD_INNER, names=NAMES), tmp_path)
    with pytest.raises(tls.Distrusted) as caught:
        shake(context, trust)
    assert caught.value.why == "expired"
    found = shake(context, trust, verify=False, why="expired")
    text = tls.explain(caught.value, found, now=found.chain[0].not_before + 2 * 86400)
    assert "that of Old Inner, issued by Test Root" in text
    assert found.earliest == found.chain[1].not_after


def test_a_clock_before_ronda_was_born_is_suspected_first(tmp_path, trust):
    with pytest.raises(tls.Distrusted) as caught:
        shake(server_context(CASES["not_yet_valid"], tmp_path), trust)
    assert "this box's clock says 1970-01-01, which is wrong" in tls.explain(caught.value, None, now=60.0)
    assert "which is wrong" not in tls.explain(caught.value, None, now=1.79e9)


def test_a_chain_whose_root_we_do_not_know_is_untrusted_though_the_root_is_sent(tmp_path, trust):
    root = issue("Own Root", ca=True)
    leaf = issue("siak.test", root, names=NAMES)
    with pytest.raises(tls.Distrusted) as caught:
        shake(server_context(leaf._replace(above=(root.cert,)), tmp_path), trust)
    assert caught.value.why == "untrusted"


def test_a_self_signed_certificate_can_be_trusted_by_file(tmp_path):
    own = CASES["self_signed"]
    (tmp_path / "own.pem").write_bytes(own.pem)
    assert shake(server_context(own, tmp_path), tls.ClientTls(ca_file=str(tmp_path / "own.pem"))).verified


def test_an_address_is_a_name_too(tmp_path, trust):
    assert shake(server_context(issue("x", INNER, names=("127.0.0.1",)), tmp_path), trust, "127.0.0.1").verified


def test_tls_1_0_only_is_reason_tls(tmp_path, trust):
    context = server_context(GOOD, tmp_path)
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.raises(Failure, match="no TLS version in common") as caught:
        shake(context, trust)
    assert caught.value.reason == "tls"


def test_min_version_is_kept(tmp_path):
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    context = server_context(GOOD, tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    config = tls.ClientTls(ca_file=str(tmp_path / "ca.pem"))
    assert shake(context, config).version == "TLSv1.2"
    with pytest.raises(Failure, match="no TLS version in common"):
        shake(context, tls.ClientTls(ca_file=config.ca_file, min_version="TLS1.3"))


@pytest.mark.parametrize(
    ("said", "reason", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "tls", "does not speak TLS on this port"),
        (b"", "tls", "closed the connection in the midst"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "tls", "no cipher in common"),
    ],
)
def test_what_is_no_tls_is_said_so(said, reason, words, trust):
    async def speak(reader, writer) -> None:
        await reader.read(100)
        writer.write(said)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def run() -> None:
        async with serving(speak) as port:
            await tls.handshake(await _connect(port), tls.client_context(trust, Path("/")), "siak.test")

    with pytest.raises(Failure, match=words) as caught:
        asyncio.run(run())
    assert caught.value.reason == reason


def test_contexts_are_shared_until_a_file_changes(tmp_path, trust):
    first = tls.client_context(trust, Path("/"))
    assert tls.client_context(tls.ClientTls(ca_file=trust.ca_file), Path("/")) is first
    (tmp_path / "new.pem").write_bytes(INNER.pem)
    (tmp_path / "new.pem").replace(tmp_path / "ca.pem")
    assert tls.client_context(trust, Path("/")) is not first
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(OSError, match=r"ca\.pem can't be read: No such file"):
        tls.client_context(trust, Path("/"))


def test_a_box_without_ca_certificates_says_so(tmp_path):
    with pytest.raises(OSError, match="install ca-certificates"):
        tls.client_context(tls.ClientTls(), tmp_path)
    (tmp_path / "etc/ssl/certs").mkdir(parents=True)
    with pytest.raises(OSError, match="install ca-certificates"):
        tls.client_context(tls.ClientTls(), tmp_path)


def test_a_client_certificate_is_shown(tmp_path, trust):
    cert, key = issue("agen", ROOT).write(tmp_path, "agent")
    context = server_context(GOOD, tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # with 1.3 the client learns of a refusal only when it reads
    context.load_verify_locations(trust.ca_file)
    assert shake(context, tls.ClientTls(ca_file=trust.ca_file, cert_file=str(cert), key_file=str(key))).verified
    with pytest.raises(Failure, match="client certificate") as caught:
        shake(context, trust)
    assert caught.value.reason == "tls"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ca_file: ca.pem", "is not the path of a file"),
        ("ca_file: {d}/gone", "can't be read: No such file"),
        ("ca_file: {d}/text", "holds no certificate"),
        ("key_file: {d}/agent.key", "needs a cert_file"),
        ("cert_file: {d}/gone", "can't be read: No such file"),
        ("{{cert_file: {d}/agent.pem, key_file: {d}/open.key}}", "open to everybody"),
        ("{{cert_file: {d}/agent.pem, key_file: {d}/other.key}}", "can't be used: KEY_VALUES_MISMATCH"),
        ("{{cert_file: {d}/agent.pem, key_file: {d}/locked.key}}", "can't be used"),
        ("min_version: SSL3", "is not one of TLS1.2, TLS1.3"),
    ],
)
def test_bad_config_is_named_with_its_line(tmp_path, text, message):
    from cryptography.hazmat.primitives import serialization as form

    issue("agen", ROOT).write(tmp_path, "agent")
    other = issue("other", ROOT)
    other.write(tmp_path, "other")
    (tmp_path / "open.key").write_bytes(other.key_pem)
    (tmp_path / "open.key").chmod(0o644)
    locked = other.key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"secret"))
    (tmp_path / "locked.key").touch(mode=0o600)
    (tmp_path / "locked.key").write_bytes(locked)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ConfigError, match=message) as caught:
        loads(text.format(d=tmp_path).encode(), tls.ClientTls, "agent.yaml")
    assert all(p.line == 1 for p in caught.value.problems)
