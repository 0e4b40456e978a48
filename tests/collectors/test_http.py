"""http against a real nginx and squid, certificates of every sort, and servers that drip, lie, break off or never end."""

import asyncio
import json
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import SystemClock
from agent.collector import Env
from agent.model import Event, Sample
from agent.net import Net
from agent.structure import ConfigError, loads
from collectors import http as kind
from tests.certs import DAY, issue
from tests.fuzz import fuzz
from tests.webserver import free_port, free_ports, has_ipv6, nginx, saying, serving, squid

ROOT = issue("Test Root", ca=True)
INNER = issue("Test Inner", ROOT, ca=True)
OLD_INNER = issue("Old Inner", ROOT, ca=True, begins=-20 * DAY, ends=-DAY)
NAMES = ("siak.test", "127.0.0.1", "::1")
SITES = {
    "good": issue("siak.test", INNER, names=NAMES),
    "expired": issue("siak.test", INNER, names=NAMES, begins=-20 * DAY, ends=-DAY),
    "not_yet_valid": issue("siak.test", INNER, names=NAMES, begins=DAY),
    "name": issue("lain.test", INNER, names=("lain.test",)),
    "self_signed": issue("siak.test", names=NAMES),
    "untrusted": issue("siak.test", issue("Stranger", ca=True), names=NAMES),
    "expired_inner": issue("siak.test", OLD_INNER, names=NAMES),
}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class World:
    """A tree with hosts and CA certificates, and what was seen through it."""

    def __init__(self, root: Path) -> None:
        self.root, self.ports = root, {}
        (root / "etc").mkdir(parents=True)
        (root / "etc/hosts").write_text("127.0.0.1 siak.test lain.test\n::1 enam.test\n127.0.0.2 dua.test\n127.0.0.1 dua.test\n")
        (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
        (root / "ca.pem").write_bytes(ROOT.pem)
        self.env = Env(SystemClock(), Net(root), root)

    def config(self, text: str) -> kind.Config:
        if "tls:" not in text:
            text += f"\ntls: {{ca_file: {self.root}/ca.pem}}"
        return loads(text.encode(), kind.Config, "agent.yaml")

    def url(self, site: str, path: str = "/", host: str = "siak.test", scheme: str = "https") -> str:
        return f"{scheme}://{host}:{self.ports[site]}{path}"

    async def look(self, text: str) -> "Seen":
        return Seen(await kind.KIND.build(self.config(text), self.env).collect())

    def run(self, text: str) -> "Seen":
        return asyncio.run(self.look(text))


class Seen:
    """What one run gave, sorted."""

    def __init__(self, items) -> None:
        items = list(items)
        self.values = {(s.metric.name.removeprefix("ronda_"), *s.labels): s.value for s in items if isinstance(s, Sample)}
        self.events = [e for e in items if isinstance(e, Event)]
        self.result = items[-1]

    def phases(self) -> list[str]:
        return [k[1] for k in self.values if k[0] == "http_phase_duration_seconds"]

    def why(self) -> list[str]:
        return [k[1] for k in self.values if k[0] == "tls_verification_failed_info"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "root")


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """One nginx with a site a sort of certificate, and a World that knows them."""
    folder = tmp_path_factory.mktemp("nginx")
    world = World(folder / "root")
    sites = (*SITES, "old_tls", "client_cert", "plain", "refused")
    world.ports = dict(zip(sites, free_ports(len(sites)), strict=True))
    (folder / "ca.pem").write_bytes(ROOT.pem)
    (folder / "htpasswd").write_text("ronda:{PLAIN}s3cret\n")
    (folder / "htpasswd").chmod(0o644)
    ipv6 = has_ipv6()

    def server(site: str, cert: str, more: str = "") -> str:
        port = world.ports[site]
        c, k = SITES[cert].write(folder, cert)
        on = f"listen 127.0.0.1:{port} ssl; " + (f"listen [::1]:{port} ssl;" if ipv6 else "")
        return (
            f'server {{ {on} ssl_certificate {c}; ssl_certificate_key {k}; {more} location / {{ return 200 "Selamat datang di SIAK"; }} }}'
        )

    good = world.ports["good"]
    places = f"""
      location /big {{ alias {folder}/big; }}
      location /sandi {{ auth_basic x; auth_basic_user_file {folder}/htpasswd; alias {folder}/small; }}
      location /lama {{ return 301 /; }}
      location /circle {{ return 302 /circle; }}
      location /away {{ return 302 http://lain.test:{world.ports["plain"]}/; }}
      location /file {{ return 302 file:///etc/passwd; }}
      location /down {{ return 503 "sedang rusak"; }}
      location /empty {{ return 204; }}
    """
    (folder / "big").write_bytes(b"x" * 3_000_000)
    (folder / "small").write_text("rahasia")
    plain = f"""server {{ listen 127.0.0.1:{world.ports["plain"]}; {places}
      location / {{ return 200 "auth=$http_authorization key=$http_x_key host=$http_host"; }}
      location /up {{ return 301 https://siak.test:{good}/; }} }}"""
    servers = [server(site, site, places if site == "good" else "") for site in SITES]
    servers.append(server("old_tls", "good", "ssl_protocols TLSv1; ssl_ciphers DEFAULT:@SECLEVEL=0;"))
    servers.append(server("client_cert", "good", f"ssl_verify_client on; ssl_client_certificate {folder}/ca.pem;"))
    with nginx(folder, "\n".join([*servers, plain]), world.ports["plain"]):
        yield world


needs_nginx = pytest.mark.needs("nginx")


# -- a site in order ----------------------------------------------------------------------------------------------------------------


@needs_nginx
def test_a_site_in_order_in_full(office):
    seen = office.run(f"target: {office.url('good')}\nexpect: {{status: [200], body: SIAK}}")
    assert seen.result[:2] == ("", "")
    assert seen.phases() == ["resolve", "connect", "tls", "processing", "transfer"]
    assert seen.result.seconds == pytest.approx(sum(v for k, v in seen.values.items() if k[0] == "http_phase_duration_seconds"))
    rest = {k: v for k, v in seen.values.items() if k[0] != "http_phase_duration_seconds"}
    assert rest == {
        ("http_status_code",): 200,
        ("http_redirects",): 0,
        ("http_body_bytes",): 22,
        ("http_version",): 1.1,
        ("tls_info", "TLSv1.3", "TLS_AES_256_GCM_SHA384"): 1,
        ("tls_certificate_valid",): 1,
        ("tls_certificate_not_after_timestamp_seconds", "leaf"): SITES["good"].cert.not_valid_after_utc.timestamp(),
        ("tls_certificate_not_after_timestamp_seconds", "earliest"): SITES["good"].cert.not_valid_after_utc.timestamp(),
        ("tls_certificate_info", "Test Inner"): 1,
    }
    assert seen.events == []


@needs_nginx
def test_a_site_in_order_costs_one_connection(office):
    log = office.root.parent / "access.log"
    before = log.read_text().count("ronda/")
    office.run(f"target: {office.url('good', '/empty')}")
    assert log.read_text().count("ronda/") == before + 1


@needs_nginx
@pytest.mark.needs("openssl")
def test_the_boxs_own_certificates_are_trusted(office, world):
    certs = world.root / "etc/ssl/certs"
    certs.mkdir(parents=True)
    (certs / "root.pem").write_bytes(ROOT.pem)
    subprocess.run(["openssl", "rehash", str(certs)], check=True)
    seen = world.run(f"target: {office.url('good')}\ntls: {{}}")
    assert (seen.result.reason, seen.values["tls_certificate_valid",]) == ("", 1)


@needs_nginx
def test_without_ca_certificates_it_could_not_look(office, world):
    with pytest.raises(OSError, match="install ca-certificates"):
        world.run(f"target: {office.url('good')}\ntls: {{}}")
    assert world.run(f"target: {office.url('plain', scheme='http')}\ntls: {{}}").result.reason == ""  # needs none


@needs_nginx
@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6 on the loopback")
def test_ipv6(office):
    assert office.run(f"target: {office.url('good', host='[::1]')}").result.reason == ""
    seen = office.run(f"target: {office.url('good', host='enam.test')}\nfamily: ipv6\ntls: {{verify: false}}")
    assert (seen.result.reason, seen.values["http_status_code",]) == ("", 200)
    assert ("tls_certificate_valid",) not in seen.values
    assert office.run(f"target: {office.url('good', host='127.0.0.1')}\nfamily: ipv6").result.reason == "resolve"


@needs_nginx
def test_head_post_and_an_answer_without_body(office):
    for text, status in (("method: HEAD", 200), ("method: POST\nbody: hello", 200)):
        seen = office.run(f"target: {office.url('good')}\n{text}")
        assert (seen.result.reason, seen.values["http_status_code",]) == ("", status)
    seen = office.run(f"target: {office.url('good', '/empty')}")
    assert (seen.result.reason, seen.values["http_status_code",], seen.values["http_body_bytes",]) == ("", 204, 0)


# -- certificates -------------------------------------------------------------------------------------------------------------------


@needs_nginx
@pytest.mark.parametrize("site", ["expired", "not_yet_valid", "name", "self_signed", "untrusted", "expired_inner"])
def test_a_refused_certificate_gives_reason_and_facts(office, site):
    seen = office.run(f"target: {office.url(site)}")
    assert seen.result.reason == "certificate"
    assert seen.why() == [site.removesuffix("_inner")]
    assert seen.values["tls_certificate_valid",] == 0
    leaf = SITES[site].cert
    assert seen.values["tls_certificate_not_after_timestamp_seconds", "leaf"] == leaf.not_valid_after_utc.timestamp()
    chain = (leaf, *SITES[site].above)
    earliest = min(c.not_valid_after_utc for c in chain).timestamp()
    assert seen.values["tls_certificate_not_after_timestamp_seconds", "earliest"] == earliest
    assert ("http_status_code",) not in seen.values
    assert seen.phases() == ["resolve", "connect"]
    [event] = seen.events
    assert (event.kind, event.fields["why"]) == ("certificate_invalid", seen.why()[0])
    assert len(event.fields["sha256"]) == 64


@needs_nginx
def test_an_invalid_certificate_is_told_once(office):
    async def looks():
        collector = kind.KIND.build(office.config(f"target: {office.url('expired')}"), office.env)
        return [Seen(await collector.collect()) for _ in range(3)]

    assert [len(s.events) for s in asyncio.run(looks())] == [1, 0, 0]


@needs_nginx
def test_verify_false_shows_but_does_not_judge(office):
    seen = office.run(f"target: {office.url('expired')}\ntls: {{verify: false}}")
    assert seen.result.reason == ""
    assert seen.values["tls_certificate_not_after_timestamp_seconds", "leaf"] < SITES["good"].cert.not_valid_after_utc.timestamp()
    assert ("tls_certificate_valid",) not in seen.values


@needs_nginx
def test_server_name_is_what_is_expected(office):
    assert office.run(f"target: {office.url('name')}\ntls: {{ca_file: {office.root}/ca.pem, server_name: lain.test}}").result.reason == ""


@needs_nginx
def test_tls_too_old_no_tls_and_a_client_certificate_wanted(office):
    seen = office.run(f"target: {office.url('old_tls')}")
    assert (seen.result.reason, seen.why()) == ("tls", [])
    assert "no TLS version in common" in seen.result.detail
    seen = office.run(f"target: {office.url('plain')}")
    assert seen.result.reason == "tls"
    assert "does not speak TLS on this port" in seen.result.detail
    assert office.run(f"target: {office.url('client_cert')}").values["http_status_code",] == 400
    cert, key = issue("agen", ROOT).write(office.root, "agen")
    text = f"target: {office.url('client_cert')}\ntls: {{ca_file: {office.root}/ca.pem, cert_file: {cert}, key_file: {key}}}"
    assert office.run(text).result.reason == ""


def test_another_certificate_is_an_event(world):
    def context(name: str) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(*issue("siak.test", ROOT, names=NAMES).write(world.root, name))
        return made

    async def looks():
        contexts = [context("a"), context("b")]
        async with serving(saying(OK), contexts[0]) as port:
            collector = kind.KIND.build(world.config(f"target: https://siak.test:{port}/"), world.env)
            seen = [Seen(await collector.collect())]
            contexts[0].load_cert_chain(world.root / "b.pem", world.root / "b.key")
            return [*seen, Seen(await collector.collect()), Seen(await collector.collect())]

    assert [[e.kind for e in s.events] for s in asyncio.run(looks())] == [[], ["certificate_changed"], []]


# -- redirects and credentials --------------------------------------------------------------------------------------------------------


@needs_nginx
def test_redirects_are_followed_counted_and_summed(office):
    seen = office.run(f"target: {office.url('plain', '/up', scheme='http')}")
    assert (seen.result.reason, seen.values["http_redirects",], seen.values["http_status_code",]) == ("", 1, 200)
    assert ("tls_certificate_valid",) in seen.values
    seen = office.run(f"target: {office.url('good', '/lama')}")
    assert (seen.result.reason, seen.values["http_redirects",]) == ("", 1)


@needs_nginx
def test_a_redirect_that_is_expected_is_the_answer(office):
    seen = office.run(f"target: {office.url('good', '/lama')}\nexpect: {{status: [301]}}")
    assert (seen.result.reason, seen.values["http_redirects",]) == ("", 0)
    seen = office.run(f"target: {office.url('good', '/lama')}\nredirects: 0")
    assert (seen.result.reason, seen.values["http_status_code",]) == ("status", 301)


@needs_nginx
@pytest.mark.parametrize(
    ("path", "words"), [("/circle", "a circle of redirects"), ("/file", "'file:///etc/passwd', which must begin with http://")]
)
def test_redirects_that_lead_nowhere(office, path, words):
    seen = office.run(f"target: {office.url('good', path)}")
    assert seen.result.reason == "status"
    assert words in seen.result.detail


def test_too_many_redirects(world):
    count = iter(range(1000))

    async def on_and_on(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: /{next(count)}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()

    async def run():
        async with serving(on_and_on) as port:
            return await world.look(f"target: http://127.0.0.1:{port}/x\nredirects: 3")

    seen = asyncio.run(run())
    assert (seen.result.reason, seen.values["http_redirects",]) == ("status", 3)
    assert "too many redirects" in seen.result.detail


@needs_nginx
def test_credentials_and_own_headers_stay_with_the_target(office):
    token = office.root / "token"
    token.touch(mode=0o600)
    token.write_text("t0ken\n")
    own = f"bearer_token_file: {token}\nheaders: {{X-Key: abc}}\n"
    stays = office.run(f"target: {office.url('plain', scheme='http')}\n{own}expect: {{body: auth=Bearer t0ken key=abc host=siak.test}}")
    assert stays.result.reason == ""
    goes = office.run(f"target: {office.url('good', '/away')}\n{own}expect: {{body: 'auth= key= host=lain.test'}}")
    assert goes.result[:2] == ("", "")


@needs_nginx
def test_basic_auth(office):
    password = office.root / "password"
    password.touch(mode=0o600)
    password.write_text("s3cret\n")
    url = office.url("good", "/sandi")
    assert office.run(f"target: {url}").values["http_status_code",] == 401
    login = f"basic_auth: {{username: ronda, password_file: {password}}}"
    assert office.run(f"target: {url}\n{login}\nexpect: {{body: rahasia}}").result[:2] == ("", "")

    config = office.config(f"target: {url}\n{login}")
    password.unlink()
    with pytest.raises(OSError, match="can't be read"):
        asyncio.run(kind.KIND.build(config, office.env).collect())


# -- expectations -------------------------------------------------------------------------------------------------------------------


@needs_nginx
@pytest.mark.parametrize(
    ("path", "expect", "reason", "words"),
    [
        ("/down", "{}", "status", "answered 503, not 2xx"),
        ("/down", "{status: [200, 503]}", "", ""),
        ("/", "{status: [201]}", "status", "answered 200, not 201"),
        ("/", "{body: 'S.AK$'}", "", ""),
        ("/", "{body: nothing}", "body", "has no 'nothing'; it begins 'Selamat"),
        ("/", "{body_not: datang}", "body", "has 'datang', which must not be there"),
        ("/", "{headers: {Server: nginx}}", "", ""),
        ("/", "{headers: {Server: apache}}", "answer", "the header Server is 'nginx"),
        ("/", "{headers: {X-Not: .}}", "answer", "the header X-Not is ''"),
    ],
)
def test_expectations(office, path, expect, reason, words):
    result = office.run(f"target: {office.url('good', path)}\nexpect: {expect}").result
    assert result.reason == reason
    assert words in result.detail


@needs_nginx
def test_a_huge_body_is_read_and_searched_up_to_a_bound(office):
    seen = office.run(f"target: {office.url('good', '/big')}\nmax_body: 100KB\nexpect: {{body: y}}")
    assert (seen.result.reason, seen.values["http_body_bytes",]) == ("body", 100_000)
    assert "the first 100000 bytes" in seen.result.detail
    assert office.run(f"target: {office.url('good', '/big')}\nmax_body: 4MiB").values["http_body_bytes",] == 3_000_000


# -- no way there, and proxies --------------------------------------------------------------------------------------------------------


@needs_nginx
def test_no_way_there(office):
    seen = office.run(f"target: {office.url('refused')}")
    assert (seen.result.reason, seen.phases()) == ("refused", ["resolve"])
    assert office.run("target: http://tidak.ada.invalid/\ntimeout: 1s").result.reason in ("resolve", "timeout")
    assert office.run(f"target: {office.url('good')}\nsource: 192.0.2.77").result.reason == "send"


@needs_nginx
def test_the_next_address_is_tried_when_one_refuses(office):
    found = asyncio.run(kind.once(office.config(f"target: {office.url('plain', host='dua.test', scheme='http')}"), office.env))
    assert (found["ok"], found["hops"][0]["address"]) == (True, "127.0.0.1")


@needs_nginx
@pytest.mark.needs("squid")
def test_through_a_real_proxy(office):
    port = free_port()
    ports = " ".join(map(str, office.ports.values()))
    rules = (
        f"acl bad port {office.ports['name']}\nhttp_access deny bad\nacl ours port {ports}\nhttp_access allow ours\nhttp_access deny all"
    )
    with squid("127.0.0.1 siak.test lain.test\n", port, rules):
        proxy = f"proxy: http://127.0.0.1:{port}"
        seen = office.run(f"target: {office.url('good')}\n{proxy}\nexpect: {{body: SIAK}}")
        assert (seen.result[:2], seen.values["tls_certificate_valid",]) == (("", ""), 1)
        assert seen.phases() == list(kind.PHASES)
        seen = office.run(
            f"target: {office.url('plain', scheme='http')}\n{proxy}\nexpect: {{body: host=siak.test, headers: {{Via: squid}}}}"
        )
        assert seen.result[:2] == ("", "")
        seen = office.run(f"target: {office.url('expired')}\n{proxy}")
        assert (seen.result.reason, seen.why()) == ("certificate", ["expired"])
        seen = office.run(f"target: {office.url('name')}\n{proxy}")
        assert seen.result[:2] == ("status", f"the proxy 127.0.0.1 answered 403 to CONNECT siak.test:{office.ports['name']}")
        assert office.run(f"target: {office.url('refused')}\n{proxy}").result.reason == "status"


def test_a_proxy_gets_its_own_credentials_only(world):
    heard: list[bytes] = []
    secret = world.root / "proxy-password"
    secret.touch(mode=0o600)
    secret.write_text("pr0xy")

    async def run():
        async with serving(saying(b"HTTP/1.0 407 No\r\n\r\n", heard=heard)) as port:
            login = f"proxy: http://127.0.0.1:{port}\nproxy_auth: {{username: ronda, password_file: {secret}}}\nheaders: {{X-Key: abc}}"
            return await world.look(f"target: https://siak.test/\n{login}"), await world.look(f"target: http://siak.test/a\n{login}")

    tunnel, plain = asyncio.run(run())
    assert [tunnel.result.reason, plain.result.reason] == ["status", "status"]
    assert "407" in tunnel.result.detail
    assert heard[0].startswith(b"CONNECT siak.test:443 HTTP/1.1\r\n")
    assert b"X-Key" not in heard[0]
    assert heard[1].startswith(b"GET http://siak.test/a HTTP/1.1\r\n")
    assert all(b"Proxy-Authorization: Basic cm9uZGE6cHIweHk=" in h for h in heard)


def test_a_proxy_that_speaks_too_soon_is_refused(world):
    async def run():
        async with serving(saying(b"HTTP/1.1 200 OK\r\n\r\nsurprise")) as port:
            return await world.look(f"target: https://siak.test/\nproxy: http://127.0.0.1:{port}")

    assert asyncio.run(run()).result.reason == "answer"


# -- servers that misbehave -------------------------------------------------------------------------------------------------------------


def told(world: World, *parts: bytes, config: str = "") -> Seen:
    """What is seen of a server that says so."""

    async def run():
        async with serving(saying(*parts)) as port:
            return await world.look(f"target: http://127.0.0.1:{port}/\n{config}")

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("parts", "reason", "body"),
    [
        ((b"HTTP/1.0 200 OK\r\n\r\nold but good",), "", 12),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", OK), "", 2),
        ((b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + OK,), "", 2),
        ((b"HTTP/1.1 103 Early Hints\r\n\r\n" * 30 + OK,), "answer", None),
        ((b"HTTP/1.1 101 Switching\r\n\r\n",), "answer", None),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",), "", 2),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzzz\r\n",), "answer", 0),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",), "reset", 0),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 30_000,), "answer", 0),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",), "reset", 0),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",), "answer", None),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok",), "answer", None),
        ((b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,), "answer", None),
        ((b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,), "answer", None),
        ((b"",), "reset", None),
        ((b"HTTP/1.1 200",), "reset", None),
        ((b"SSH-2.0-OpenSSH_9.2p1\r\n",), "answer", None),
        ((b"\x15\x03\x01\x00\x02\x02\x16",), "answer", None),
        ((b"\r\n\r\n\r\n",), "answer", None),
    ],
    ids=lambda v: repr(v)[:40] if isinstance(v, tuple) else None,
)
def test_answers_of_every_sort(world, parts, reason, body):
    seen = told(world, *parts)
    assert seen.result.reason == reason, seen.result.detail
    assert seen.values.get(("http_body_bytes",)) == body


def test_a_redirect_to_nonsense(world):
    for location in (b"http://", b"http://[::1", b"//user:geheim@host/", b"http://h:99999/", b"javascript:alert(1)"):
        seen = told(world, b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n")
        assert seen.result.reason == "status"
        assert "geheim" not in seen.result.detail


def test_a_redirect_without_location_is_the_answer(world):
    assert told(world, b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n").result.reason == "status"


@pytest.mark.parametrize(
    ("head", "phase"), [(b"", "waiting for the answer"), (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "receiving the body")]
)
def test_a_server_that_drips_for_ever_ends_at_the_timeout(world, head, phase):
    async def drip(reader, writer):
        writer.write(head)
        while True:
            writer.write(b"H" if head else b"")
            await asyncio.sleep(0.01)

    async def run():
        async with serving(drip) as port:
            return await world.look(f"target: http://127.0.0.1:{port}/\ntimeout: 300ms")

    seen = asyncio.run(run())
    assert seen.result.reason == "timeout"
    assert f"no end within 0.3 s: {phase}" in seen.result.detail
    assert seen.phases()[-1] == ("processing" if head else "connect")


def test_a_server_that_never_shakes_hands(world):
    async def mute(reader, writer):
        await reader.read()
        await asyncio.sleep(60)

    async def run():
        async with serving(mute) as port:
            return await world.look(f"target: https://siak.test:{port}/\ntimeout: 300ms")

    seen = asyncio.run(run())
    assert (seen.result.reason, seen.phases()) == ("timeout", ["resolve", "connect"])
    assert ": tls, https://siak.test" in seen.result.detail


PIECES = [
    b"HTTP/1.1 ",
    b"HTTP/1.0 ",
    b"200",
    b"302",
    b"100",
    b"204",
    b" OK",
    b"\r\n",
    b"\n",
    b"Content-Length: ",
    b"5",
    b"-1",
    b"Location: ",
]
PIECES += [
    b"Transfer-Encoding: chunked",
    b"Connection: upgrade",
    b"hello",
    b"0\r\n\r\n",
    b"ffffffffffffffffffff\r\n",
    b"\x00",
    b"\xff",
    b": ",
    b" ",
]


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=24), st.sampled_from(["GET", "HEAD", "POST", "CONNECT"]))
@fuzz
def test_whatever_a_server_says_is_an_answer_or_a_failure(parts, method):
    async def run():
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.sendall(b"".join(parts))
            theirs.shutdown(socket.SHUT_WR)
            hop = kind.Hop(kind.parse_url("http://h/"))
            headers = [("Host", "h"), *([("Content-Length", "1")] if method == "POST" else [])]
            request = kind.Request(method, b"h:1" if method == "CONNECT" else b"/", headers, b"x" if method == "POST" else b"")
            try:
                await kind.exchange(ours, request, hop, 1000, None)
            except kind.Failure as e:
                return hop, e
            return hop, None

    hop, failure = asyncio.run(run())
    if failure:
        assert failure.reason in ("answer", "reset")
        assert failure.detail.isprintable()
    else:
        assert 200 <= hop.status <= 999
    assert hop.size <= 1000


def test_nothing_is_left_open(world):
    def descriptors() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    async def blunt(reader, writer):
        await reader.read(100)
        writer.write(OK[:20])
        await writer.drain()
        writer.close()

    async def run():
        async with serving(blunt) as port:
            before = descriptors()
            for _ in range(20):
                assert (await world.look(f"target: http://127.0.0.1:{port}/")).result.reason == "reset"
                assert (await world.look(f"target: https://127.0.0.1:{port}/")).result.reason == "tls"
            while descriptors() > before:  # the servers' own sides close in their time
                await asyncio.sleep(0.01)

    asyncio.run(run())


# -- once and config ------------------------------------------------------------------------------------------------------------------


@needs_nginx
def test_once_tells_everything(office):
    config = office.config(f"target: {office.url('plain', '/up', scheme='http')}")
    found = asyncio.run(kind.once(config, office.env))
    assert (found["ok"], found["reason"], found["total_seconds"] > 0) == (True, None, True)
    first, last = found["hops"]
    assert (first["status"], first["location"], first["tls"]) == (301, office.url("good"), None)
    assert (last["url"], last["address"], last["body_bytes"]) == (office.url("good"), "127.0.0.1", 22)
    assert list(last["phases"]) == list(kind.PHASES)
    assert [c["subject"] for c in last["tls"]["chain"]] == [f"CN={n}, O=Kominfo" for n in ("siak.test", "Test Inner", "Test Root")]
    assert json.loads(json.dumps(found)) == found


@needs_nginx
def test_once_shows_the_chain_of_a_refused_site(office):
    found = asyncio.run(kind.once(office.config(f"target: {office.url('expired_inner')}"), office.env))
    assert (found["ok"], found["reason"]) == (False, "certificate")
    assert "that of Old Inner" in found["detail"]
    [hop] = found["hops"]
    assert (hop["tls"]["why"], len(hop["tls"]["chain"])) == ("expired", 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("target: siak.test", "target: must begin with http:// or https://"),
        ("target: ftp://siak.test/", "target: must begin with http:// or https://"),
        ("target: https://user:geheim@siak.test/", "target: must hold no user or password .use basic_auth."),
        ("target: 'https:///path'", "target: names no host"),
        ("target: https://siak.test:0/", "target: names no host"),
        ("target: https://siak.test:70000/", "target: is not a URL"),
        ("target: 'https://siak.test/a b'", "target: must be a URL without spaces"),
        ("target: http://h/\nheaders: {Authorization: geheim}", 'headers.Authorization: "Authorization" can.t be given here'),
        ("target: http://h/\nheaders: {Host: 'a\tb'}", "is not the value of a header"),
        ("target: http://h/\nheaders: {Content-Length: 5}", "is set by Ronda itself"),
        ("target: http://h/\nexpect: {status: [99]}", 'status.0.: "99" is not a status'),
        ("target: http://h/\nexpect: {body: '('}", "is not a regular expression"),
        ("target: http://h/\nexpect: {bodi: x}", "did you mean body"),
        ("target: http://h/\nbody: x", "body: does not go with GET"),
        ("target: http://h/\nmethod: HEAD\nexpect: {body: x}", "HEAD brings no body"),
        ("target: http://h/\nmethod: DELETE", "is not one of GET, HEAD, POST"),
        ("target: http://h/\nredirects: 21", '"21" is not a number of redirects'),
        ("target: http://h/\nproxy: https://p:1/", "proxy: must begin with http://"),
        ("target: http://h/\nproxy: http://u:geheim@p:1/", "proxy: must hold no user"),
        ("target: http://h/\nproxy_auth: {username: a, password_file: /gone}", "password_file: /gone can.t be read"),
        ("target: http://h/\nbearer_token_file: /gone", "bearer_token_file: /gone can.t be read"),
        ("target: http://h/\nbearer_token_file: /etc/passwd", "open to everybody"),
        ("target: http://h/\nmax_body: 1GB", "max_body: must be at most 16MiB"),
        ("target: http://h/\ntls: {ca_file: /gone}", "tls.ca_file: /gone can.t be read"),
        ("target: http://h/\ntimeout: 20s", "timeout: must not be longer than the interval"),
    ],
)
def test_bad_config_is_named_with_its_line(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        loads(text.encode(), kind.Config, "agent.yaml")
    line = 2 if "\n" in text and "method: HEAD" not in text else 1
    assert line in {p.line for p in caught.value.problems} or len(text.splitlines()) > 2
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "request_target", "host"),
    [
        ("http://a.test", "/", "a.test"),
        ("http://a.test:80/x?y=1&z=%20", "/x?y=1&z=%20", "a.test"),
        ("https://a.test:443", "/", "a.test"),
        ("https://A.test:8443/", "/", "a.test:8443"),
        ("http://[2001:db8::1]:8080/", "/", "[2001:db8::1]:8080"),
        ("http://[fe80::1%25eth0]/", "/", "[fe80::1]"),
        ("http://a.test/ä?q=ü", "/%C3%A4?q=%C3%BC", "a.test"),
        ("http://bücher.test/", "/", "xn--bcher-kva.test"),
        ("http://a.test/?", "/", "a.test"),
        ("http://a.test/#part", "/", "a.test"),
    ],
)
def test_urls(text, request_target, host):
    url = kind.parse_url(text)
    assert (url.path, url.authority) == (request_target, host)
