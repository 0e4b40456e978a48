"""The web.config.file: each mistake pinned to its message, what this server can't do refused, secrets in no message."""

import asyncio
import base64
import contextlib
import ssl
import subprocess

import bcrypt
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from agent.bucket import MAX_PEERS, Bucket, Peers
from agent.structure import ConfigError
from agent.webauth import Auth, BusyError, credentials
from agent.webconfig import WebConfig, WebFile, load_web
from tests.fuzz import fuzz

HASH = bcrypt.hashpw(b"rahasia", b"$2b$04$abcdefghijklmnopqrstuu").decode()  # the same in every run: it stands in names of tests


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def folder(tmp_path, authority):
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "web.pem")
    (tmp_path / "web.key").touch(mode=0o600)
    issued.private_key_pem.write_to_path(tmp_path / "web.key")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path


def write(folder, text: str, mode: int = 0o640):
    path = folder / "web.yml"
    path.write_text(text)
    path.chmod(mode)
    return path


def tls(*lines: str) -> str:
    return "\n".join(["tls_server_config:", "  cert_file: web.pem", "  key_file: web.key", *(f"  {line}" for line in lines), ""])


def test_an_empty_file_is_plain_http(folder):
    loaded = load_web(write(folder, ""))
    assert loaded.file == WebFile()
    assert loaded.tls is None


def test_everything_at_once(folder):
    text = tls(
        "client_auth_type: RequireAndVerifyClientCert",
        "client_ca_file: ca.pem",
        "client_allowed_sans: [prometheus.example, 10.0.0.1]",
        "min_version: TLS12",
        "max_version: TLS13",
        "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]",
        "curve_preferences: [CurveP256]",
        "prefer_server_cipher_suites: true",
    )
    rest = f"http_server_config: {{http2: true, headers: {{X-Frame-Options: deny}}}}\nbasic_auth_users: {{prometheus: {HASH}}}\n"
    loaded = load_web(write(folder, text + rest + "rate_limit: {interval: 100ms, burst: 20}\n"))
    assert loaded.tls is not None
    assert loaded.tls.verify_mode is ssl.CERT_REQUIRED
    assert loaded.tls.minimum_version is ssl.TLSVersion.TLSv1_2
    assert loaded.file.rate_limit is not None
    assert (loaded.file.rate_limit.interval, loaded.file.rate_limit.burst) == (0.1, 20)
    assert loaded.warnings == ()


def test_if_given_asks_but_does_not_require(folder):
    loaded = load_web(write(folder, tls("client_auth_type: VerifyClientCertIfGiven", "client_ca_file: ca.pem")))
    assert loaded.tls is not None
    assert loaded.tls.verify_mode is ssl.CERT_OPTIONAL


@pytest.mark.parametrize(
    ("sans", "allowed", "admitted"),
    [
        ((("DNS", "prometheus.example"),), "prometheus.example", True),
        ((("DNS", "other.example"),), "prometheus.example", False),
        ((("IP Address", "2001:DB8:0:0:0:0:0:1"),), "2001:db8::1", True),
        ((("URI", "spiffe://kominfo/prometheus"),), "spiffe://kominfo/prometheus", True),
        ((("email", "noc@example.go.id"),), "noc@example.go.id", True),
        ((), "prometheus.example", False),
    ],
)
def test_who_is_admitted(folder, sans, allowed, admitted):
    text = tls("client_auth_type: RequireAndVerifyClientCert", "client_ca_file: ca.pem", f"client_allowed_sans: ['{allowed}']")
    assert load_web(write(folder, text)).admits({"subject": (), "subjectAltName": sans}) is admitted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tls_config: {}\n", "web.yml:1: tls_config: unknown key (did you mean tls_server_config?)"),
        ("tls_server_config:\n  cert_file: web.pem\n", "web.yml:2: tls_server_config.key_file: is missing"),
        (tls("min_version: TLS10"), 'web.yml:4: tls_server_config.min_version: "TLS10" is not one of TLS12, TLS13'),
        (tls("min_version: TLS13", "max_version: TLS12"), "web.yml:5: tls_server_config.max_version: is older"),
        (tls("client_auth_type: RequireAnyClientCert"), "RequireAnyClientCert would take certificates that nobody vouches for"),
        (tls("client_auth_type: RequestClientCert"), "use VerifyClientCertIfGiven"),
        (tls("client_auth_type: Maybe"), 'web.yml:4: tls_server_config.client_auth_type: "Maybe" is not one of'),
        (tls("client_auth_type: RequireAndVerifyClientCert"), "client_ca_file: is missing"),
        (tls("client_ca_file: ca.pem"), "client_auth_type: is NoClientCert, so client_ca_file"),
        (
            tls("client_auth_type: RequireAndVerifyClientCert", "client_ca_file: no.pem"),
            "web.yml:5: tls_server_config.client_ca_file: no.pem can't be read",
        ),
        (tls("client_auth_type: RequireAndVerifyClientCert", "client_ca_file: web.key"), "web.key can't be used"),
        (tls("cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]"), "cipher_suites[0]: \"TLS_RSA_WITH_RC4_128_SHA\" is not one of"),
        (tls("curve_preferences: [CurveP256, CurveP384]"), "one curve only"),
        (tls("cert: inline"), "web.yml:4: tls_server_config.cert: unknown key"),
        (tls().replace("web.pem", "gone.pem"), "web.yml:2: tls_server_config.cert_file: gone.pem can't be read: No such file"),
        (tls().replace("key_file: web.key", "key_file: ."), "web.yml:3: tls_server_config.key_file"),
        (tls().replace("cert_file: web.pem", "cert_file: ca.pem"), "the key is not that of the certificate ca.pem"),
        ("http_server_config:\n  headers: {X-Powered-By: me}\n", '"X-Powered-By" is not one of Content-Security-Policy'),
        ('http_server_config:\n  headers: {X-Frame-Options: "a\\r\\nSet-Cookie: b"}\n', "is not a header's value"),
        ("rate_limit: {burst: 3}\n", "rate_limit.interval: is missing"),
        ("rate_limit: {interval: 1s, burst: 0}\n", "burst: must be between"),
        ("basic_auth_users: {'': x}\n", "an empty name"),
        ("basic_auth_users: {'a:b': x}\n", "can't carry"),
        (f"basic_auth_users: {{a: {HASH.replace('$04$', '$31$')}}}\n", "web.yml:1: basic_auth_users.a: has bcrypt cost 31"),
        ("basic_auth_users: {a: }\n", "has no value"),
    ],
)  # fmt: skip
def test_every_mistake_has_its_message(folder, text, said):
    with pytest.raises(ConfigError) as e:
        load_web(write(folder, text))
    assert said in str(e.value)


@pytest.mark.parametrize("value", ["hunter2", "$2b$04$short", "$1$abc$def"])
def test_a_password_in_the_wrong_place_is_not_repeated(folder, value):
    with pytest.raises(ConfigError, match=r"basic_auth_users.prometheus: is not a bcrypt hash; make one with: htpasswd") as e:
        load_web(write(folder, f"basic_auth_users: {{prometheus: '{value}'}}\n"))
    assert value not in str(e.value)


def test_a_key_that_others_can_read_is_refused(folder):
    (folder / "web.key").chmod(0o644)
    with pytest.raises(ConfigError, match=r"web.yml:3: tls_server_config.key_file: .*web.key is open to everybody"):
        load_web(write(folder, tls()))


def test_hashes_that_others_can_read_are_a_warning(folder):
    loaded = load_web(write(folder, f"basic_auth_users: {{prometheus: {HASH}}}\n", 0o644))
    assert "can be read by everybody" in loaded.warnings[0]


@pytest.mark.needs("openssl")
def test_an_encrypted_key_is_refused_without_asking(folder):
    command = ["openssl", "pkey", "-in", folder / "web.key", "-aes128", "-passout", "pass:x", "-out", folder / "secret.key"]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "secret.key").chmod(0o600)
    with pytest.raises(ConfigError, match=r"secret.key is encrypted"):
        load_web(write(folder, tls().replace("web.key", "secret.key")))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="can't be read"):
        WebConfig(tmp_path / "no.yml").load()


def test_a_broken_file_keeps_the_old_one_until_any_of_its_files_is_mended(folder):
    path = write(folder, tls())
    config = WebConfig(path)
    config.load()
    first = config.current()
    write(folder, tls().replace("web.pem", "new.pem"))
    assert config.current() is first
    assert "new.pem can't be read" in config.problems()[0]
    (folder / "new.pem").write_bytes((folder / "web.pem").read_bytes())
    assert config.current() is not first
    assert config.problems() == []
    path.unlink()
    assert config.current().tls is not None
    assert "can't be read" in config.problems()[0]


def test_nothing_changed_is_nothing_read(folder):
    config = WebConfig(write(folder, tls()))
    config.load()
    assert config.current() is config.current()


@fuzz
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_config_or_a_config_error(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "fuzz.yml"
    path.write_bytes(data)
    with contextlib.suppress(ConfigError):
        load_web(path)


# -- passwords ----------------------------------------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def header(user: str, password: bytes) -> str:
    return "Basic " + base64.b64encode(user.encode() + b":" + password).decode()


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("Basic cHJvbTpyYWhhc2lh", ("prom", b"rahasia")),
        ("basic   cHJvbTpyYWhhc2lh ", ("prom", b"rahasia")),
        ("Basic cHJvbTphOmI=", ("prom", b"a:b")),
        ("Basic cHJvbQ==", None),
        ("Basic !!!", None),
        ("Basic /w==", None),
        ("Bearer cHJvbTpyYWhhc2lh", None),
        ("", None),
    ],
)
def test_the_authorization_header(given, found):
    assert credentials(given) == found


def test_a_right_password_costs_bcrypt_once():
    async def run():
        auth, users = Auth(Clock()), {"prometheus": HASH}
        assert await auth.check(users, header("prometheus", b"rahasia"), "peer")
        assert len(auth._known) == 1
        auth._one = None  # a second bcrypt would fail here
        assert await auth.check(users, header("prometheus", b"rahasia"), "peer")

    asyncio.run(run())


def test_what_is_known_is_bound_to_user_password_and_hash():
    async def run():
        auth = Auth(Clock())
        users = {"a": HASH, "b": HASH}
        assert await auth.check(users, header("a", b"rahasia"), "peer")
        assert not await auth.check(users, header("c", b"rahasia"), "peer")
        assert not await auth.check({"a": bcrypt.hashpw(b"lain", bcrypt.gensalt(4)).decode()}, header("a", b"rahasia"), "peer")

    asyncio.run(run())


@pytest.mark.parametrize("password", [b"", b"x" * 100, b"a\0b", "sandi é".encode(), b"\xff\xfe"])
def test_strange_passwords_are_only_wrong(password):
    async def run():
        assert not await Auth(Clock()).check({"a": HASH}, header("a", password), "peer")

    asyncio.run(run())


def test_guessing_is_slowed_and_forgiven():
    async def run():
        clock = Clock()
        auth = Auth(clock)
        for _ in range(5):
            assert not await auth.check({"a": HASH}, header("a", b"salah"), "peer")
        with pytest.raises(BusyError) as e:
            await auth.check({"a": HASH}, header("a", b"rahasia"), "peer")
        assert e.value.wait == pytest.approx(10.0)
        assert await auth.check({"a": HASH}, header("a", b"rahasia"), "another")
        clock.now += 10
        assert await auth.check({"a": HASH}, header("a", b"rahasia"), "peer")

    asyncio.run(run())


def test_logins_that_wait_are_bounded_and_one_runs_at_a_time():
    async def run():
        auth = Auth(Clock())
        slow = bcrypt.hashpw(b"rahasia", bcrypt.gensalt(10)).decode()
        found = await asyncio.gather(
            *(auth.check({"a": slow}, header("a", b"%d" % i), f"peer{i}") for i in range(12)), return_exceptions=True
        )
        assert [isinstance(f, BusyError) for f in found] == [False] * 8 + [True] * 4

    asyncio.run(run())


def test_buckets():
    bucket = Bucket(2, 10.0, 0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [0.0, 0.0, 10.0]
    assert bucket.take(4.0) == pytest.approx(6.0)
    assert bucket.take(10.0) == 0.0
    assert bucket.take(5.0) > 0  # a clock that goes back gives nothing


def test_the_table_of_peers_is_bounded():
    peers = Peers(1, 60.0)
    for i in range(MAX_PEERS + 500):
        peers.take(f"peer{i}", 0.0)
    assert len(peers) == MAX_PEERS
    assert peers.wait("peer0", 0.0) == 0.0
