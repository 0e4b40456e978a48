"""The agent's web on real sockets: what it answers, and that nothing that comes in stalls it or makes it grow."""

import asyncio
import base64
import contextlib
import gzip
import os
import socket
import ssl
import time
from pathlib import Path

import bcrypt
import h11
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from agent.web import METRICS, AdminServer, LanServer, Limits, ListenError, preferences, takes_gzip, wants_openmetrics
from agent.webserver import peer_key, split_listen
from tests.fakes import closing
from tests.fuzz import SETTINGS, fuzz
from tests.site import NOW, FakeSite, cut_off, status, with_history

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
FREE = {
    "connections_per_second": 1e6, "requests_per_second": 1e6, "all_connections_per_second": 1e6, "all_requests_per_second": 1e6
}  # fmt: skip
QUICK = Limits(header=0.2, request=0.5, idle=0.3, write=0.5, handshake=0.5, drain=0.2, **FREE)


@contextlib.asynccontextmanager
async def admin(site=None, web_config=None, **more):
    server = AdminServer(site or FakeSite(), "127.0.0.1:0", web_config, **({"now": lambda: NOW} | more))
    async with closing(server):
        await server.start()
        yield server


@contextlib.asynccontextmanager
async def lan(site=None, **more):
    server = LanServer(site or FakeSite(), "127.0.0.1:0", **({"now": lambda: NOW} | more))
    async with closing(server):
        await server.start()
        yield server


def port_of(server) -> int:
    return int(server.url.rstrip("/").rpartition(":")[2])


@contextlib.asynccontextmanager
async def connected(server, **more):
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server), **more)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def raw(server, data: bytes, *, end: bool = False) -> bytes:
    """Sends bytes and reads all that comes back until the server closes."""
    async with connected(server) as (reader, writer):
        writer.write(data)
        if end:
            writer.write_eof()
        return await reader.read()


async def ask(server, path="/", method="GET", headers=(), body=b"", **more):
    """One request as h11 makes it → (status, headers, body)."""
    async with connected(server, **more) as (reader, writer):
        return await exchange(h11.Connection(h11.CLIENT), reader, writer, path, method, headers, body)


async def exchange(http, reader, writer, path="/", method="GET", headers=(), body=b""):
    length = [("Content-Length", str(len(body)))] if body else []
    writer.write(http.send(h11.Request(method=method, target=path, headers=[("Host", "127.0.0.1"), *headers, *length])))
    writer.write(http.send(h11.Data(data=body)) + http.send(h11.EndOfMessage()))
    response, got = None, b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            got += event.data
        else:
            return response.status_code, {k.decode(): v.decode() for k, v in response.headers}, got


# -- what it answers ----------------------------------------------------------------------------------------------------------


def test_every_page_is_answered_with_its_type_and_guarded_by_headers():
    async def run():
        async with admin() as server:
            for path, kind in (
                ("/", "text/html"),
                ("/metrics", "text/plain; version=0.0.4"),
                ("/config", "text/plain"),
                ("/-/healthy", ""),
            ):
                code, headers, body = await ask(server, path)
                assert (code, bool(body)) == (200, True)
                assert headers["content-type"].startswith(kind)
                assert headers["content-security-policy"].startswith("default-src 'none'")
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["cache-control"] == "no-store"

    asyncio.run(run())


def test_head_is_get_without_the_body():
    async def run():
        async with admin() as server, connected(server) as (reader, writer):
            writer.write(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            said = await reader.read()
            head, rest = said.split(b"\r\n\r\n", 1)
            assert b"Content-Length: 33" in head
            assert rest.startswith(b"HTTP/1.1 200 OK")

    asyncio.run(run())


def test_unknown_pages_and_wrong_methods():
    async def run():
        async with admin() as server:
            assert (await ask(server, "/wp-login.php"))[0] == 404
            code, headers, body = await ask(server, "/metrics", "DELETE")
            assert (code, headers["allow"]) == (405, "GET, HEAD")
            assert b"GET, HEAD" in body
            assert (await ask(server, "/-/reload"))[1]["allow"] == "POST, PUT"
            assert (await ask(server, "http://elsewhere/-/healthy"))[0] == 200

    asyncio.run(run())


def test_health_and_readiness_say_why_not():
    async def run():
        site = FakeSite(not_ready="3 tasks have not looked yet", not_healthy="a run has been due for 14 s")
        async with admin(site) as server:
            assert await ask(server, "/-/ready") == (503, *(await ask(server, "/-/ready"))[1:])
            assert b"3 tasks" in (await ask(server, "/-/ready"))[2]
            assert b"14 s" in (await ask(server, "/-/healthy"))[2]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        (PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ("application/openmetrics-text;version=2.0.0,text/plain;q=0.5", False),
        ("application/openmetrics-text;q=0.1,text/plain;version=0.0.4;q=0.9", False),
        ("text/plain,application/openmetrics-text", False),
        ("application/openmetrics-text,text/plain", True),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=nan,text/plain;q=0.1", False),
        ("application/openmetrics-text;q=banana", False),
    ],
)
def test_the_format_is_chosen_by_accept(accept, openmetrics):
    assert wants_openmetrics(accept) is openmetrics


@pytest.mark.parametrize(
    ("given", "packed"),
    [
        ("", False),
        ("gzip", True),
        ("gzip;q=0", False),
        ("*", True),
        ("*;q=0.5, gzip;q=0", False),
        ("br, GZIP ;q=0.3", True),
        ("identity", False),
    ],
)
def test_gzip_is_chosen_by_accept_encoding(given, packed):
    assert takes_gzip(given) is packed


@fuzz
@given(st.text(max_size=200))
def test_no_accept_header_is_too_strange(header):
    for _, _, q in preferences(header):
        assert 0 <= q <= 1


def test_metrics_in_both_formats_packed_and_plain():
    async def run():
        site = FakeSite(exposition=b"ronda_up 1\n" * 30_000)
        async with admin(site) as server:
            code, headers, body = await ask(server, "/metrics", headers=[("Accept", PROMETHEUS), ("Accept-Encoding", "gzip")])
            assert (code, headers["content-encoding"]) == (200, "gzip")
            assert headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
            assert gzip.decompress(body) == site.exposition + b"# EOF\n"
            code, headers, body = await ask(server, "/metrics")
            assert "content-encoding" not in headers
            assert body == site.exposition

    asyncio.run(run())


def test_scrapes_that_come_together_share_one_rendering():
    class Slow(FakeSite):
        async def metrics(self, openmetrics):
            await gate.wait()
            return await super().metrics(openmetrics)

    gate = asyncio.Event()

    async def run():
        site = Slow()
        async with admin(site) as server:
            scrapes = [asyncio.create_task(ask(server, "/metrics")) for _ in range(10)]
            while server._server.connections < 10:
                await asyncio.sleep(0.01)
            scrapes[0].cancel()  # one who gives up doesn't take it from the others
            await asyncio.sleep(0.05)
            gate.set()
            assert {(await s)[0] for s in scrapes[1:]} == {200}
            assert site.calls == ["text"]

    asyncio.run(run())


def test_a_failing_page_is_a_500_and_the_server_lives(caplog):
    class Broken(FakeSite):
        def config_text(self):
            raise RuntimeError("boom")

    async def run():
        async with admin(Broken()) as server:
            code, _, body = await ask(server, "/config")
            assert code == 500
            assert b"boom" not in body
            assert (await ask(server, "/-/healthy"))[0] == 200

    asyncio.run(run())
    assert "boom" in caplog.text


def test_its_own_metrics_are_bounded_and_declared():
    async def run():
        async with admin() as server:
            for path in ("/", "/a", "/b", "/metrics"):
                await ask(server, path)
            found = {(s.metric.name, s.labels): s.value for s in server.samples()}
            assert found["ronda_web_requests_total", ("admin", "other", "404")] == 2
            assert found["ronda_web_connections_refused_total", ("admin", "full")] == 0
            assert {name for name, _ in found} == {m.name for m in METRICS}

    asyncio.run(run())


# -- reload and CSRF ----------------------------------------------------------------------------------------------------------


def test_reload_is_off_unless_enabled():
    async def run():
        site = FakeSite()
        async with admin(site) as server:
            code, _, body = await ask(server, "/-/reload", "POST")
            assert code == 403
            assert b"--web.enable-lifecycle" in body
            assert site.calls == []

    asyncio.run(run())


def test_reload_says_what_is_wrong():
    async def run():
        site = FakeSite()
        async with admin(site, lifecycle=True) as server:
            assert (await ask(server, "/-/reload", "POST"))[0] == 200
            site.reload_problems = ["agent.yaml:12: interval: no"]
            code, _, body = await ask(server, "/-/reload", "PUT")
            assert code == 500
            assert b"agent.yaml:12" in body

    asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], 200),
        ([("Origin", "http://127.0.0.1")], 200),
        ([("Sec-Fetch-Site", "same-origin"), ("Origin", "http://127.0.0.1")], 200),
        ([("Sec-Fetch-Site", "none")], 200),
        ([("Sec-Fetch-Site", "cross-site")], 403),
        ([("Sec-Fetch-Site", "same-site")], 403),
        ([("Origin", "http://evil.example")], 403),
        ([("Origin", "null")], 403),
        ([("Origin", "http://[")], 403),
    ],
)
def test_a_page_of_another_site_can_not_reload(headers, code):
    async def run():
        async with admin(lifecycle=True) as server:
            assert (await ask(server, "/-/reload", "POST", headers))[0] == code

    asyncio.run(run())


def test_a_rebound_name_can_not_reload_a_loopback_listener():
    async def run():
        async with admin(lifecycle=True) as server:
            said = await raw(
                server, b"POST /-/reload HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n"
            )
            assert b" 403 " in said.splitlines()[0]

    asyncio.run(run())


# -- the clerk's listener -----------------------------------------------------------------------------------------------------


def test_the_clerks_listener_knows_two_pages_and_shows_no_device():
    async def run():
        async with lan(FakeSite(held=cut_off())) as server:
            code, _, body = await ask(server, "/")
            assert code == 200
            assert b"PUTUS" in body
            for secret in (b"198.51.100.7", b"203.0.113.10", b"192.0.2.53", b"siak", b"eth0", b"icmp", b"netlink"):
                assert secret not in body
            for path in ("/metrics", "/config", "/-/healthy", "/-/ready"):
                assert (await ask(server, path))[0] == 404
            assert (await ask(server, "/-/reload", "POST"))[0] == 404

    asyncio.run(run())


def test_check_now_sends_the_reader_back_and_then_says_how_long_to_wait():
    async def run():
        site = FakeSite()
        async with lan(site) as server:
            code, headers, _ = await ask(server, "/periksa", "POST")
            assert (code, headers["location"]) == (303, "/?periksa=ya")
            code, headers, _ = await ask(server, "/periksa", "POST")
            assert code == 303
            assert headers["location"].startswith("/?tunggu=")
            assert site.calls == ["check"]
            assert b"coba lagi dalam 9 detik" in (await ask(server, "/?tunggu=9"))[2]
            assert (await ask(server, "/periksa"))[:2][0] == 303
            assert (await ask(server, "/periksa", "POST", [("Origin", "http://evil.example")]))[0] == 403

    asyncio.run(run())


def test_a_refused_check_is_not_claimed_as_done():
    async def run():
        async with lan(FakeSite(may_check=False)) as server:
            assert (await ask(server, "/periksa", "POST"))[1]["location"] == "/?tunggu=10"

    asyncio.run(run())


def test_a_peer_who_hammers_the_button_is_told_to_wait():
    async def run():
        async with lan() as server:
            codes = [(await ask(server, "/periksa", "POST"))[0] for _ in range(15)]
            assert codes[:10] == [303] * 10
            assert 429 in codes[10:]

    asyncio.run(run())


# -- bad, slow and many clients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello, this is TLS\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505),
        (b"G\xff\xff / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST /-/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        (b"POST /-/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n" + b"x" * 1000, 413),
        (
            b"POST /-/reload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"ffff\r\n"
            + b"x" * 65535
            + b"\r\n1\r\nx\r\n1\r\nx\r\n",
            413,
        ),
        (b"POST /-/reload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 20_000, 431),
        (b"".join([b"GET / HTTP/1.1\r\nHost: a\r\n", *(b"X-%d: y\r\n" % i for i in range(3000))]), 431),
    ],
)
def test_what_is_malformed_or_too_large_is_answered_and_closed(sent, code):
    async def run():
        async with admin() as server:
            said = await raw(server, sent)
            assert said.split(b" ", 2)[1] == b"%d" % code
            assert b"Connection: close" in said
            assert (await ask(server, "/-/healthy"))[0] == 200

    asyncio.run(run())


def test_any_bytes_end_in_an_answer_or_a_closed_connection():
    @SETTINGS
    @given(
        st.one_of(
            st.binary(max_size=300),
            st.tuples(st.sampled_from([b"GET / HTTP/1.1\r\n", b"POST /-/reload HTTP/1.1\r\nHost: a\r\n"]), st.binary(max_size=200)).map(
                b"".join
            ),
        )
    )
    def sends(data):
        said = loop.run_until_complete(asyncio.wait_for(raw(server, data, end=True), 5))
        assert said == b"" or said.startswith(b"HTTP/1.1 ")

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        server = AdminServer(FakeSite(), "127.0.0.1:0", limits=QUICK)
        runner.run(server.start())
        try:
            sends()
            assert runner.run(ask(server, "/-/healthy"))[0] == 200
        finally:
            runner.run(server.close())


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n", 200),
        (b"GET /-/healthy?a=1&a=2&%ff=%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET /?lang=en&" + b"&".join([b"a=b"] * 50) + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"GET /-/healthy HTTP/1.0\r\n\r\n", 200),
        (b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 200),
    ],
)
def test_unusual_but_legal_requests(sent, code):
    async def run():
        async with admin() as server:
            assert (await raw(server, sent)).split(b" ", 2)[1] == b"%d" % code

    asyncio.run(run())


def test_pipelined_requests_are_answered_in_order():
    async def run():
        async with admin() as server:
            one = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
            said = await raw(server, one % b"/-/healthy" + one % b"/nothing" + one % b"/-/ready" + b"GET /metrics HTTP/1.0\r\n\r\n")
            assert [line.split()[1] for line in said.splitlines() if line.startswith(b"HTTP/1.1")] == [b"200", b"404", b"200", b"200"]

    asyncio.run(run())


def test_connections_are_kept_for_the_next_request():
    async def run():
        async with admin() as server, connected(server) as (reader, writer):
            http = h11.Connection(h11.CLIENT)
            for _ in range(3):
                assert (await exchange(http, reader, writer, "/metrics"))[0] == 200
                http.start_next_cycle()
            assert server._server.connections == 1

    asyncio.run(run())


def test_a_client_that_waits_for_100_continue_gets_it():
    async def run():
        async with admin(lifecycle=True) as server, connected(server) as (reader, writer):
            writer.write(b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
            writer.write(b"ab")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"GET / HT", b"HTTP/1.1 408 "),
        (b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab", b"HTTP/1.1 408 "),
    ],
)
def test_who_stops_in_the_middle_is_cut(sent, answer):
    async def run():
        async with admin(limits=QUICK) as server:
            assert (await raw(server, sent)).startswith(answer)

    asyncio.run(run())


def test_who_drips_his_header_is_cut_at_the_deadline():
    async def run():
        async with admin(limits=QUICK) as server, connected(server) as (reader, writer):

            async def drip():
                for byte in b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 10_000:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.02)

            dripping = asyncio.create_task(drip())
            said = await reader.read()
            dripping.cancel()
            assert said.startswith(b"HTTP/1.1 408 ")

    asyncio.run(run())


def test_who_does_not_read_is_cut_and_holds_nothing():
    async def run():
        site = FakeSite(exposition=b"ronda_up 1\n" * 2_000_000)
        async with admin(site, limits=QUICK) as server:
            with socket.socket() as slow:
                slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                slow.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(slow, ("127.0.0.1", port_of(server)))
                await loop.sock_sendall(slow, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                while not server._server.writing:
                    await asyncio.sleep(0.01)
                while server._server.connections:
                    await asyncio.sleep(0.01)
                assert server._server.writing == 0

    asyncio.run(run())


def test_what_is_written_at_once_is_bounded():
    async def run():
        site = FakeSite(exposition=b"ronda_up 1\n" * 1_000_000)
        async with admin(site, limits=Limits(writing_bytes_per_peer=12 << 20)) as server, connected(server) as (_, slow):
            slow.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            while not server._server.writing:
                await asyncio.sleep(0.01)
            code, headers, _ = await ask(server, "/metrics")
            assert (code, headers["retry-after"]) == (503, "5")
            assert (await ask(server, "/-/healthy"))[0] == 200

    asyncio.run(run())


def test_one_peer_can_not_take_all_connections():
    async def run():
        async with admin(limits=Limits(per_peer=3, evict_after=60)) as server, contextlib.AsyncExitStack() as held:
            for _ in range(3):
                await held.enter_async_context(connected(server))
            said = await raw(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 503 ")
            other = {"local_addr": ("127.0.0.2", 0)}
            assert (await ask(server, "/-/healthy", **other))[0] == 200
            assert server._server.refused["peer"] == 1

    asyncio.run(run())


def test_who_is_silent_longest_makes_room_for_a_new_one():
    async def run():
        async with (
            admin(limits=Limits(connections=2, evict_after=0.0)) as server,
            connected(server) as (first, _),
            connected(server) as (second, second_w),
        ):
            while len(server._server.waiting) < 2:
                await asyncio.sleep(0.01)
            second_w.write(b"GET / HT")  # half a request doesn't make one young again
            assert (await ask(server, "/-/healthy"))[0] == 200
            assert await first.read() == b""
            assert not second.at_eof()

    asyncio.run(run())


def test_who_comes_or_asks_too_often_is_told_so():
    async def run():
        async with admin(limits=Limits(connections_per_second=1.0, requests_per_second=2.0)) as server:
            async with connected(server) as (reader, writer):
                http = h11.Connection(h11.CLIENT)
                codes = []
                for _ in range(8):
                    codes.append((await exchange(http, reader, writer, "/-/healthy"))[0])
                    http.start_next_cycle()
                assert codes[:6] == [200] * 6
                assert 429 in codes
            answers = [(await raw(server, b"GET / HTTP/1.0\r\n\r\n"))[:12] for _ in range(4)]
            assert b"HTTP/1.1 503" in answers
            assert server._server.refused["peer"] >= 1

    asyncio.run(run())


def test_requests_beyond_the_pace_wait_their_turn():
    async def run():
        async with admin(limits=Limits(all_requests_per_second=200.0)) as server, connected(server) as (reader, writer):
            http = h11.Connection(h11.CLIENT)
            before = asyncio.get_running_loop().time()
            for _ in range(40):
                assert (await exchange(http, reader, writer, "/-/healthy"))[0] == 200
                http.start_next_cycle()
            assert asyncio.get_running_loop().time() - before > 0.09  # 20 at once, 20 more at 5 ms each: never faster

    asyncio.run(run())


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_five_thousand_connections_neither_stall_the_loop_nor_grow_memory():
    """From 50 addresses, each sends half a header and holds on: a coroutine goes on ticking, at most 64 are served."""

    async def run():
        lags: list[float] = []
        most = 0

        async def tick():
            nonlocal most
            while True:
                before = time.perf_counter()
                await asyncio.sleep(0.005)
                lags.append(time.perf_counter() - before - 0.005)
                most = max(most, server._server.connections)

        async def hold(i):
            async with begin:  # no more at once than the kernel's backlog takes, or it is the kernel that is tested
                reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server), local_addr=(f"127.0.0.{2 + i % 50}", 0))
                writer.write(b"GET / HTTP/1.1\r\nX-Half: ")
            try:
                answers.append((await reader.read())[:12])
            except OSError:
                answers.append(b"")
            finally:
                writer.transport.abort()

        answers: list[bytes] = []
        begin = asyncio.Semaphore(100)
        async with admin(limits=Limits(pause=0.0, header=120.0, evict_after=120.0, **FREE)) as server:
            await ask(server)
            ticking = asyncio.create_task(tick())
            before = resident()
            holding = [asyncio.create_task(hold(i)) for i in range(5000)]
            while len(answers) < 5000 - 64:
                await asyncio.sleep(0.02)
            assert set(answers) <= {b"HTTP/1.1 503", b""}
            grown = resident() - before
            ticking.cancel()
            assert most <= 64
            assert server._server.refused["full"] + server._server.refused["peer"] == 5000 - 64
            assert grown < 60 << 20  # the 5,000 clients' own tasks and sockets are in it: they alone take 40 MB
            assert sorted(lags)[len(lags) // 2] < 0.2  # the median, and generous: the clients share this loop
            for task in holding:
                task.cancel()
            await asyncio.gather(*holding, return_exceptions=True)
            while server._server.connections:
                await asyncio.sleep(0.01)
            assert (await ask(server, "/-/healthy"))[0] == 200

    asyncio.run(run())


def test_a_page_of_many_tasks_leaves_the_loop_its_turn():
    async def run():
        tasks = [with_history(status(f"icmp:198.51.100.{i}", "icmp", target=f"198.51.100.{i}")) for i in range(500)]
        turns = 0

        async def count():
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async with admin(FakeSite(tasks=tasks)) as server:
            counting = asyncio.create_task(count())
            code, _, body = await ask(server, "/")
            counting.cancel()
            assert code == 200
            assert len(body) < 2_000_000
            assert turns > 500

    asyncio.run(run())


# -- listening and closing ----------------------------------------------------------------------------------------------------


def test_an_address_in_use_is_named_with_what_to_do():
    async def run():
        async with admin() as server:
            other = AdminServer(FakeSite(), f"127.0.0.1:{port_of(server)}")
            with pytest.raises(ListenError, match=rf"can't listen on 127.0.0.1:{port_of(server)}: another program uses it.*ss -ltnp"):
                await other.start()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("listen", "said"),
    [("192.0.2.1:0", "no such address"), ("nirgendwo.invalid:80", "no such name"), ("[2001:db8::1]:0", "no such address|can't listen")],
)
def test_an_address_that_is_not_ours(listen, said):
    async def run():
        with pytest.raises(ListenError, match=said):
            await AdminServer(FakeSite(), listen).start()

    asyncio.run(run())


def test_close_lets_a_request_end_and_ends_the_idle():
    gate = asyncio.Event()

    class Slow(FakeSite):
        async def metrics(self, openmetrics):
            await gate.wait()
            return await super().metrics(openmetrics)

    async def run():
        server = AdminServer(Slow(), "127.0.0.1:0")
        await server.start()
        async with connected(server) as (idle, _):
            asking = asyncio.create_task(ask(server, "/metrics"))
            while len(server._server.waiting) != 1 or server._server.connections != 2:
                await asyncio.sleep(0.01)
            closing_now = asyncio.create_task(server.close())
            assert await idle.read() == b""
            gate.set()
            code, headers, _ = await asking
            assert (code, headers["connection"]) == (200, "close")
            await closing_now
            with pytest.raises(ConnectionRefusedError):
                await ask(server)

    asyncio.run(run())


def test_close_does_not_wait_for_ever():
    class Stuck(FakeSite):
        async def metrics(self, openmetrics):
            await asyncio.Event().wait()

    async def run():
        server = AdminServer(Stuck(), "127.0.0.1:0", limits=QUICK)
        await server.start()
        async with connected(server) as (_, writer):
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            while server._server.connections != 1 or server._server.waiting:
                await asyncio.sleep(0.01)
            await server.close()
            assert server._server.connections == 0

    asyncio.run(run())


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::1"),
    ],
)
def test_an_ipv6_peer_is_its_network(address, key):
    assert peer_key(address) == key


def test_listen_addresses():
    assert split_listen("[::1]:80") == ("::1", 80)
    assert split_listen(":8080") == ("", 8080)
    assert split_listen("127.0.0.1:0") == ("127.0.0.1", 0)


# -- TLS and passwords --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def write_tls(folder: Path, authority, name="localhost", **more) -> Path:
    """A web.config.file with TLS for `name`; `more` are further keys of tls_server_config."""
    issued = authority.issue_cert(name, "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "web.pem")
    (folder / "web.key").touch(mode=0o600)
    issued.private_key_pem.write_to_path(folder / "web.key")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    lines = [f"  {k}: {v}" for k, v in ({"cert_file": "web.pem", "key_file": "web.key"} | more).items()]
    path = folder / "web.yml"
    path.write_text("\n".join(["tls_server_config:", *lines, ""]))
    path.chmod(0o640)
    return path


def client_context(authority, own=None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if own:
        own.configure_cert(context)
    return context


def test_tls_and_a_renewed_certificate(tmp_path, authority):
    async def run():
        path = write_tls(tmp_path, authority)
        async with admin(web_config=path) as server:
            assert server.url.startswith("https://")
            context = client_context(authority)
            async with connected(server, ssl=context, server_hostname="localhost") as (_, writer):
                first = writer.get_extra_info("peercert")["serialNumber"]
            assert (await ask(server, "/-/healthy", ssl=context, server_hostname="localhost"))[0] == 200
            write_tls(tmp_path, authority)
            async with connected(server, ssl=context, server_hostname="localhost") as (_, writer):
                assert writer.get_extra_info("peercert")["serialNumber"] != first

    asyncio.run(run())


def test_a_broken_certificate_keeps_the_old_one_and_is_shown(tmp_path, authority):
    async def run():
        path = write_tls(tmp_path, authority)
        async with admin(web_config=path) as server:
            (tmp_path / "web.pem").write_text("half a certi")
            assert (await ask(server, "/-/healthy", ssl=client_context(authority), server_hostname="localhost"))[0] == 200
            assert "web.yml:2: tls_server_config.cert_file: web.pem and web.key can't be used" in server.problems()[0]
            write_tls(tmp_path, authority)
            assert (await ask(server, "/-/healthy", ssl=client_context(authority), server_hostname="localhost"))[0] == 200
            assert server.problems() == []

    asyncio.run(run())


def test_client_certificates_are_required_and_their_names_are_held_to(tmp_path, authority):
    async def run():
        more = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem", "client_allowed_sans": "[prometheus.example]"}
        path = write_tls(tmp_path, authority, **more)
        async with admin(web_config=path) as server:

            async def code(own):
                with contextlib.suppress(OSError, h11.RemoteProtocolError, AttributeError):
                    return (await ask(server, "/-/healthy", ssl=client_context(authority, own), server_hostname="localhost"))[0]

            assert await code(authority.issue_cert("prometheus.example")) == 200
            assert await code(authority.issue_cert("somebody.example")) is None
            assert await code(None) is None
            assert await code(trustme.CA().issue_cert("prometheus.example")) is None
            assert server._server.refused["certificate"] == 1
            assert server._server.refused["tls"] == 2

    asyncio.run(run())


def test_plain_http_to_a_tls_listener_and_a_silent_handshake_are_cut(tmp_path, authority):
    async def run():
        async with admin(web_config=write_tls(tmp_path, authority), limits=QUICK) as server:
            assert not (await raw(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP")
            assert await raw(server, b"") == b""
            assert server._server.refused["tls"] == 2

    asyncio.run(run())


def basic(user: str, password: str):
    return [("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())]


def users_file(folder: Path, **users: str) -> Path:
    path = folder / "web.yml"
    lines = [f"  {u}: {bcrypt.hashpw(p.encode(), bcrypt.gensalt(4)).decode()}" for u, p in users.items()]
    path.write_text("\n".join(["basic_auth_users:", *lines, ""]))
    path.chmod(0o640)
    return path


def test_basic_auth_guards_every_page(tmp_path):
    async def run():
        async with admin(web_config=users_file(tmp_path, prometheus="rahasia")) as server:
            for path in ("/", "/metrics", "/config", "/-/healthy", "/nothing"):
                code, headers, _ = await ask(server, path)
                assert (code, headers["www-authenticate"]) == (401, 'Basic realm="Ronda", charset="UTF-8"')
            assert (await ask(server, "/metrics", headers=basic("prometheus", "rahasia")))[0] == 200
            assert (await ask(server, "/metrics", headers=basic("prometheus", "tebakan")))[0] == 401
            assert (await ask(server, "/metrics", headers=basic("nobody", "rahasia")))[0] == 401

    asyncio.run(run())


def test_who_guesses_is_told_to_wait_even_when_he_guesses_right(tmp_path):
    async def run():
        async with admin(web_config=users_file(tmp_path, prometheus="rahasia")) as server:
            assert (await ask(server, "/metrics", headers=basic("prometheus", "rahasia")))[0] == 200
            codes = [(await ask(server, "/metrics", headers=basic("prometheus", f"{i}")))[0] for i in range(7)]
            assert codes == [401] * 5 + [429] * 2
            code, headers, _ = await ask(server, "/metrics", headers=basic("prometheus", "rahasia"))
            assert code == 429
            assert 1 <= int(headers["retry-after"]) <= 10
            other = {"local_addr": ("127.0.0.2", 0)}
            assert (await ask(server, "/metrics", headers=basic("prometheus", "rahasia"), **other))[0] == 200

    asyncio.run(run())


def test_a_changed_password_holds_at_once(tmp_path):
    async def run():
        async with admin(web_config=users_file(tmp_path, prometheus="lama")) as server:
            assert (await ask(server, headers=basic("prometheus", "lama")))[0] == 200
            users_file(tmp_path, prometheus="baru")
            assert (await ask(server, headers=basic("prometheus", "lama")))[0] == 401
            assert (await ask(server, headers=basic("prometheus", "baru")))[0] == 200

    asyncio.run(run())


def test_rate_limit_and_headers_of_the_file(tmp_path):
    async def run():
        path = tmp_path / "web.yml"
        path.write_text("rate_limit: {interval: 1h, burst: 2}\nhttp_server_config:\n  headers: {X-Frame-Options: SAMEORIGIN}\n")
        async with admin(web_config=path) as server:
            answers = [await ask(server, "/-/healthy") for _ in range(3)]
            assert [code for code, _, _ in answers] == [200, 200, 429]
            assert answers[0][1]["x-frame-options"] == "SAMEORIGIN"
            assert answers[0][1]["x-content-type-options"] == "nosniff"

    asyncio.run(run())
