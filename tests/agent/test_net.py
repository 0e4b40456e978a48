"""The network object against real sockets: hosts, resolv.conf, dead and lying servers, routes, sources, errors."""

import asyncio
import errno
import socket
import struct
import sys
import time
from pathlib import Path

import dns.flags
import dns.message
import pytest

from agent import resolver, sockets
from agent.collector import Failure
from agent.net import Net, failure_from, parse_route, parse_route6
from agent.wire import dns as codec
from tests.nameserver import dnsmasq, reply, serve, silent, zone

WWW = ("www.example. 60 IN A 192.0.2.80", "www.example. 60 IN AAAA 2001:db8::80")


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


@pytest.fixture
def box(tmp_path):
    """A box's files, written by `box(resolv=…, hosts=…)`; returns its root."""

    def write(resolv: str = "nameserver 127.0.0.1\n", hosts: str = "127.0.0.1 localhost\n") -> Path:
        (tmp_path / "etc").mkdir(exist_ok=True)
        (tmp_path / "etc/resolv.conf").write_text(resolv)
        (tmp_path / "etc/hosts").write_text(hosts)
        return tmp_path

    return write


def resolved(root: Path, name: str, answer=silent, family: int = socket.AF_UNSPEC):
    """(addresses or Failure, what the server at 127.0.0.1 was asked)."""

    async def run():
        async with serve(answer) as (port, asked):
            try:
                return await Net(root, port).resolve(name, family), asked
            except Failure as e:
                return e, asked

    return asyncio.run(run())


# -- names that need no server


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0"])
def test_an_address_is_its_own(box, address):
    assert resolved(box(), address) == ([address], [])


def test_an_address_of_the_other_family_is_no_answer(box):
    found, _ = resolved(box(), "192.0.2.1", family=socket.AF_INET6)

    assert (found.reason, "family" in found.detail) == ("resolve", True)


def test_hosts_come_first_ipv4_before_ipv6(box):
    root = box(
        hosts="2001:db8::5 server Server.Example  # the new one\n192.0.2.5\tserver\n192.0.2.6 server\n# 192.0.2.7 server\nx server\n"
    )

    assert resolved(root, "SERVER") == (["192.0.2.5", "192.0.2.6", "2001:db8::5"], [])
    assert resolved(root, "server.example.") == (["2001:db8::5"], [])


def test_a_name_that_hosts_has_only_in_the_other_family_is_asked(box):
    found, asked = resolved(box(hosts="192.0.2.5 www.example\n"), "www.example", zone(*WWW), socket.AF_INET6)

    assert (found, asked) == (["2001:db8::80"], ["www.example. AAAA udp"])


def test_localhost_is_never_asked_of_a_server(box):
    assert resolved(box(hosts=""), "db.localhost") == (["127.0.0.1", "::1"], [])


def test_files_are_read_again_when_they_change(box):
    net = Net(box(resolv="nameserver 127.0.0.9\n", hosts="192.0.2.5 a\n"))

    assert (net.resolvers(), asyncio.run(net.resolve("a"))) == (["127.0.0.9"], ["192.0.2.5"])
    root = box(resolv="nameserver 127.0.0.8\nnameserver ::1\n", hosts="192.0.2.66 a\n")
    assert (net.resolvers(), asyncio.run(net.resolve("a"))) == (["127.0.0.8", "::1"], ["192.0.2.66"])
    (root / "etc/resolv.conf").unlink()
    assert net.resolvers() == []


def test_without_a_resolver_the_text_says_so(box):
    found, _ = resolved(box(resolv="# by hand\n"), "www.example")

    assert (found.reason, found.detail) == ("resolve", "www.example: this box has no resolver (etc/resolv.conf)")


def test_resolv_conf_is_read_as_the_c_library_does():
    text = """
        ; comment
        nameserver 192.0.2.1
        nameserver fe80::1%eth0
        nameserver not-an-address
        nameserver 192.0.2.3
        nameserver 192.0.2.4
        domain example
        search kab.example. prov.example
        options ndots:2 timeout:99 attempts:x use-vc unknown
    """

    config = resolver.parse_resolv_conf("\n".join(line.strip() for line in text.splitlines()))

    assert config == resolver.Config(
        ("192.0.2.1", "fe80::1%eth0", "192.0.2.3"), ("kab.example", "prov.example"), ndots=2, timeout=30, attempts=2, use_vc=True
    )


@pytest.mark.parametrize(
    ("name", "tried"),
    [
        ("www", ["www.a", "www.b", "www"]),
        ("www.sub", ["www.sub", "www.sub.a", "www.sub.b"]),
        ("www.", ["www."]),
    ],
)
def test_which_names_are_tried(name, tried):
    assert resolver.candidates(name, resolver.Config(search=("a", "b"))) == tried


# -- names that a server is asked for


def test_both_families_are_asked_together_and_ipv4_comes_first(box):
    found, asked = resolved(box(), "www.example", zone(*WWW))

    assert found == ["192.0.2.80", "2001:db8::80"]
    assert sorted(asked) == ["www.example. A udp", "www.example. AAAA udp"]


def test_a_server_that_never_answers_aaaa_holds_nothing_up(box):
    answer = zone(*WWW)

    found, _ = resolved(box(), "www.example", lambda q, t: [] if q.question[0].rdtype.name == "AAAA" else answer(q, t))

    assert found == ["192.0.2.80"]


def test_a_name_with_ipv6_only(box):
    assert resolved(box(), "www.example", zone(WWW[1]))[0] == ["2001:db8::80"]


def test_search_domains_are_tried_in_order(box):
    found, asked = resolved(box("nameserver 127.0.0.1\nsearch a.example b.example\n"), "siak", zone("siak.b.example. 5 IN A 192.0.2.7"))

    assert found == ["192.0.2.7"]
    assert sorted(set(asked)) == ["siak.a.example. A udp", "siak.a.example. AAAA udp", "siak.b.example. A udp", "siak.b.example. AAAA udp"]


def test_aliases_are_followed_also_where_the_server_does_not(box):
    records = ("a.example. 5 IN CNAME b.example.", "b.example. 5 IN A 192.0.2.9")
    split = lambda q, t: [reply(q, *(r for r in records if r.split()[0] == q.question[0].name.to_text()))]  # noqa: E731

    assert resolved(box(), "a.example", lambda q, t: [reply(q, *records)], socket.AF_INET)[0] == ["192.0.2.9"]
    assert resolved(box(), "a.example", split, socket.AF_INET)[0] == ["192.0.2.9"]


def test_aliases_without_end_are_given_up(box):
    def endless(query, transport):
        name = query.question[0].name.to_text()
        return [reply(query, f"{name} 5 IN CNAME x{name}")]

    found, asked = resolved(box(), "a.example", endless, socket.AF_INET)

    assert (found.reason, "aliases" in found.detail, len(asked)) == ("resolve", True, resolver.MAX_ALIASES)


@pytest.mark.parametrize(
    ("rcode", "said", "times"),
    [(3, "127.0.0.1 says NXDOMAIN", 1), (2, "127.0.0.1 says SERVFAIL", 2), (5, "127.0.0.1 says REFUSED", 2)],
)
def test_a_failure_names_the_server_and_what_it_said(box, rcode, said, times):
    found, asked = resolved(box(), "www.example", lambda q, t: [reply(q, rcode=rcode)], socket.AF_INET)

    assert (found.reason, found.detail, len(asked)) == ("resolve", f"www.example: {said}", times)


def test_a_name_without_an_address(box):
    found, _ = resolved(box(), "www.example", lambda q, t: [reply(q)])

    assert (found.reason, found.detail) == ("resolve", "www.example: 127.0.0.1 knows no address of it")


@pytest.mark.parametrize("name", ["a" * 64, "a..b", "a" * 250 + ".x"])
def test_what_can_be_no_name(box, name):
    found, asked = resolved(box(), name, zone(*WWW))

    assert (found.reason, asked) == ("resolve", [])


def test_garbage_before_the_answer_is_passed_over(box):
    def answer(query, transport):
        evil = f"{query.question[0].name} 60 IN A 203.0.113.66"
        loop = struct.pack("!6H", query.id, 0x8180, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1"
        other = dns.message.make_query("evil.example.", "A", id=query.id)
        noise = [b"", b"noise", loop, reply(query, evil, id=query.id ^ 1), reply(other, evil), query.to_wire()]
        return [*noise, reply(query, WWW[0])]

    assert resolved(box(), "www.example", answer, socket.AF_INET)[0] == ["192.0.2.80"]


def test_an_answer_that_was_cut_off_is_asked_again_by_tcp(box):
    def answer(query, transport):
        return [reply(query, flags=dns.flags.TC) if transport == "udp" else reply(query, WWW[0])]

    found, asked = resolved(box(), "www.example", answer, socket.AF_INET)

    assert (found, asked) == (["192.0.2.80"], ["www.example. A udp", "www.example. A tcp"])


def test_use_vc_asks_by_tcp(box):
    found, asked = resolved(box("nameserver 127.0.0.1\noptions use-vc\n"), "www.example", zone(*WWW), socket.AF_INET)

    assert (found, asked) == (["192.0.2.80"], ["www.example. A tcp"])


def test_a_dead_first_server_delays_and_does_not_hinder(box):
    async def run():
        async with serve(silent, "127.0.0.2") as (port, dead), serve(zone(*WWW), "127.0.0.3", port):
            found = await Net(box("nameserver 127.0.0.2\nnameserver 127.0.0.3\n"), port).resolve("www.example")
            return found, len(dead)

    assert asyncio.run(run()) == (["192.0.2.80", "2001:db8::80"], 2)


def test_an_answer_that_comes_after_the_next_server_was_asked_still_counts(box):
    async def run():
        loop, late = asyncio.get_running_loop(), []

        class Slow(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, addr):
                late.append(lambda: self.transport.sendto(reply(dns.message.from_wire(data), WWW[0]), addr))

        def second(query, transport):  # knows nothing, and is the sign for the first one to answer
            late.pop()()
            return []

        slow, _ = await loop.create_datagram_endpoint(Slow, local_addr=("127.0.0.2", 0))
        port = slow.get_extra_info("sockname")[1]
        async with serve(second, "127.0.0.3", port):
            found = await Net(box("nameserver 127.0.0.2\nnameserver 127.0.0.3\n"), port).resolve("www.example", socket.AF_INET)
        slow.close()
        return found

    assert asyncio.run(run()) == ["192.0.2.80"]


def test_a_server_that_refuses_at_once_is_no_wait(box):
    async def run():
        async with serve(zone(*WWW), "127.0.0.3") as (port, _):  # nobody listens on 127.0.0.2
            return await Net(box("nameserver 127.0.0.2\nnameserver 127.0.0.3\n"), port).resolve("www.example")

    assert asyncio.run(run()) == ["192.0.2.80", "2001:db8::80"]


def test_when_all_are_dead_the_text_says_who_and_how_long(box):
    found, asked = resolved(box("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), "www.example", family=socket.AF_INET)

    assert (found.reason, found.detail) == ("resolve", "www.example: 127.0.0.1 did not answer within 1 s")
    assert asked == ["www.example. A udp"]


def test_ids_and_source_ports_differ(box):
    seen = set()

    async def run():
        class Listener(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                seen.add((data[:2], addr[1]))

        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Listener, local_addr=("127.0.0.1", 0))
        net = Net(box(), transport.get_extra_info("sockname")[1])
        lookups = [asyncio.ensure_future(net.resolve(f"a{i}.example")) for i in range(8)]
        while len(seen) < 16:
            await asyncio.sleep(0.01)
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)
        transport.close()

    asyncio.run(asyncio.wait_for(run(), 20))

    assert len({port for _, port in seen}) >= 15
    assert len({ident for ident, _ in seen}) >= 14


def test_a_cancelled_lookup_leaves_nothing_open(box):
    async def run():
        async with serve(silent) as (port, _):
            net = Net(box(), port)
            before = open_files()
            for _ in range(20):
                lookup = asyncio.ensure_future(net.resolve("www.example"))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                lookup.cancel()
                await asyncio.gather(lookup, return_exceptions=True)
            return open_files() - before, len(asyncio.all_tasks())

    assert asyncio.run(run()) == (0, 1)


@pytest.mark.needs("dnsmasq")
def test_a_real_dnsmasq(box, tmp_path):
    with dnsmasq(tmp_path, "--host-record=www.example,192.0.2.80,2001:db8::80", "--cname=siak.example,www.example") as port:
        net = Net(box("nameserver 127.0.0.1\nsearch example\n"), port)

        assert asyncio.run(net.resolve("siak")) == ["192.0.2.80", "2001:db8::80"]
        assert asyncio.run(net.resolve("www.example", socket.AF_INET6)) == ["2001:db8::80"]
        with pytest.raises(Failure, match="says NXDOMAIN"):
            asyncio.run(net.resolve("nobody.example"))


# -- the time of an answer


@pytest.mark.needs("dnsmasq")
def test_a_busy_loop_does_not_show_up_as_a_slow_server(tmp_path):
    async def run(port):
        asking = asyncio.ensure_future(Net().ask("127.0.0.1", codec.Query(5, "www.example"), port=port))
        await asyncio.sleep(0)
        time.sleep(0.5)
        return await asking

    with dnsmasq(tmp_path, "--host-record=www.example,192.0.2.80") as port, socket.socket(type=socket.SOCK_DGRAM) as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS: the kernel begins to stamp a little after the first one asks
        assert any(asyncio.run(run(port)).seconds < 0.4 for _ in range(5))


@pytest.mark.parametrize("off", [-3600.0, 0.0, 3600.0])
def test_a_wall_clock_that_was_set_meanwhile_is_noticed(off):
    watch = resolver.Stopwatch()
    second, nano = divmod(int((time.time() + off) * 1e9), 10**9)

    assert 0 <= watch.seconds([(socket.SOL_SOCKET, 35, struct.pack("@ll", second, nano))]) < 1800


# -- routes

ROUTE = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wwan0\t00000000\t0102000A\t0003\t0\t0\t700\t00000000\t0\t0\t0
eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
ppp0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
*\t00000000\t090200C0\t0203\t0\t0\t1\t00000000\t0\t0\t0
"""
ROUTE6 = """00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 20010db8000000000000000000000001 00000064 00000001 00000000 00000003 eth1
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo
"""  # noqa: E501


@pytest.mark.skipif(sys.byteorder == "big", reason="the sample is of a little-endian machine")
def test_gateways_by_metric_ipv4_first(tmp_path):
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/route").write_text(ROUTE)
    net = Net(tmp_path)

    assert net.gateways() == ["192.0.2.1", "10.0.2.1"]
    (tmp_path / "proc/net/ipv6_route").write_text(ROUTE6)
    assert net.gateways() == ["192.0.2.1", "10.0.2.1", "2001:db8::1", "fe80::1%eth0"]
    assert asyncio.run(net.resolve("gateway", socket.AF_INET6)) == ["2001:db8::1", "fe80::1%eth0"]


def test_no_gateway(tmp_path):
    assert (parse_route(""), parse_route6("")) == ([], [])
    with pytest.raises(Failure, match="no default gateway") as e:
        asyncio.run(Net(tmp_path).resolve("gateway"))
    assert e.value.reason == "resolve"


# -- streams, sockets, errors


def test_a_stream_from_an_interface():
    async def run():
        server = await asyncio.start_server(lambda r, w: (w.write(b"selamat"), w.close()), "127.0.0.1", 0)
        async with server:
            reader, writer = await Net().connect("127.0.0.1", server.sockets[0].getsockname()[1], "lo")
            said = await reader.read()
            writer.close()
            await writer.wait_closed()
        return said

    assert asyncio.run(run()) == b"selamat"


def test_a_source_address_is_what_the_server_sees():
    async def run():
        seen = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda r, w: (seen.set_result(w.get_extra_info("peername")[0]), w.close()), "127.0.0.1", 0)
        async with server:
            sock = await Net().connect_socket("127.0.0.1", server.sockets[0].getsockname()[1], "127.0.0.77")
            sock.close()
            return await seen

    assert asyncio.run(run()) == "127.0.0.77"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "source", "reason"),
    [
        ("127.0.0.1", "", "refused"),
        ("224.0.0.1", "", "unreachable"),  # no TCP to a multicast group; the kernel says so without sending
        ("127.0.0.1", "203.0.113.7", "send"),
        ("127.0.0.1", "nodev0", "send"),
        ("127.0.0.1", "::1", "send"),
        ("fe80::1%nodev0", "", "send"),
    ],
)
def test_why_a_connection_fails(address, source, reason):
    before = open_files()

    with pytest.raises(Failure) as e:
        asyncio.run(Net().connect(address, free_port(), source))

    assert (e.value.reason, bool(e.value.detail)) == (reason, True)
    assert open_files() == before


def test_udp_sockets_are_of_the_family_and_bound():
    with Net().udp("::1") as v6, Net().udp("127.0.0.1", "127.0.0.77") as v4:
        assert (v6.family, v4.getsockname()[0], v4.getblocking()) == (socket.AF_INET6, "127.0.0.77", False)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ECONNREFUSED, ""), "refused"),
        (OSError(errno.EHOSTUNREACH, ""), "unreachable"),
        (OSError(errno.ENETUNREACH, ""), "unreachable"),
        (OSError(errno.ENETDOWN, ""), "unreachable"),
        (OSError(errno.ETIMEDOUT, ""), "timeout"),
        (TimeoutError(), "timeout"),
        (OSError(errno.ECONNRESET, ""), "reset"),
        (OSError(errno.EPIPE, ""), "reset"),
        (ConnectionResetError("Connection lost"), "reset"),
        (ConnectionRefusedError(), "refused"),
        (OSError(errno.EADDRNOTAVAIL, ""), "send"),
        (OSError(errno.ENODEV, ""), "send"),
        (OSError(errno.EPERM, ""), "send"),
        (OSError(errno.EACCES, ""), "send"),
        (OSError(errno.EMFILE, ""), "send"),
        (OSError("odd"), "send"),
    ],
)
def test_what_an_error_means(error, reason):
    failure = failure_from(error, "mail.example")

    assert (failure.reason, failure.detail.startswith("mail.example: ")) == (reason, True)


@pytest.mark.parametrize(
    ("source", "family"),
    [("", socket.AF_UNSPEC), ("eth0", socket.AF_UNSPEC), ("192.0.2.1", socket.AF_INET), ("fe80::1%eth0", socket.AF_INET6)],
)
def test_the_family_that_a_source_wants(source, family):
    assert sockets.family_of(source) == family
