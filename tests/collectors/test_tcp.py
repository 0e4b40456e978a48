"""tcp against real listeners: phases, reasons, several addresses, a polite end, nothing left open."""

import asyncio
import contextlib
import fcntl
import os
import select
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from agent.collector import Env, Failure, Result
from agent.model import Sample
from agent.net import Net
from agent.structure import ConfigError, loads
from collectors import tcp
from tests.fakes import FakeClock


@pytest.fixture
def env(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_text("127.0.0.1 siak.example\n127.0.0.2 both.example\n127.0.0.1 both.example\n::1 six.example\n")
    return Env(FakeClock(), Net(tmp_path), tmp_path)


def tcp_config(text: str) -> tcp.Config:
    return loads(text.encode(), tcp.Config, "agent.yaml")


def looked(env: Env, **config) -> tuple[dict[str, float], Result]:
    """Phases and result of one run."""
    *samples, result = asyncio.run(tcp.TcpCollector(tcp.Config(**config), env).collect())
    assert all(isinstance(s, Sample) and s.metric is tcp.PHASE for s in samples)
    return {s.labels[0]: s.value for s in samples}, result


@contextlib.contextmanager
def listening(address: str = "127.0.0.1", backlog: int = 16):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind((address, 0))
        sock.listen(backlog)
        sock.settimeout(10)
        yield sock, sock.getsockname()[1]


def test_a_service_that_answers(env):
    with listening() as (_, port):
        phases, result = looked(env, target=f"siak.example:{port}")

    assert list(phases) == ["resolve", "connect"]
    assert result[:3] == ("", "", sum(phases.values()))
    assert result.traffic == (4 * 40 + 3 * 12 + 20, 3 * 40 + 2 * 12 + 20)  # headers, time stamps, and the options of SYN and SYN-ACK
    assert 0 < phases["connect"] < 5


def test_ipv6_in_brackets(env):
    with listening("::1") as (_, port):
        assert looked(env, target=f"[::1]:{port}")[1].reason == ""


def test_once_shows_it_in_full(env):
    with listening() as (_, port):
        found = asyncio.run(tcp.once(tcp.Config(target=f"siak.example:{port}"), env))

    assert found == {
        "target": f"siak.example:{port}", "ok": True, "reason": None, "detail": None, "address": "127.0.0.1", "addresses": ["127.0.0.1"],
        "phases": found["phases"], "duration_seconds": sum(found["phases"].values()), "retransmits": 0,
    }  # fmt: skip


def test_the_kernels_own_time_of_the_handshake_is_taken():
    with listening() as (_, port), socket.create_connection(("127.0.0.1", port)) as sock:
        seconds, retransmits = tcp.handshake(sock, waited=99.0)

    assert (0 < seconds < 99, retransmits) == (True, 0)


def test_the_other_end_sees_a_clean_close_also_after_a_banner(env):
    async def run():
        ends = []

        async def greet(reader, writer):
            writer.write(b"220 mail.example\r\n")
            ends.append(await reader.read())
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            result = [*await tcp.TcpCollector(tcp.Config(target=f"127.0.0.1:{port}"), env).collect()][-1]
            while not ends:
                await asyncio.sleep(0.01)
        return result.reason, ends

    assert asyncio.run(asyncio.wait_for(run(), 20)) == ("", [b""])


def test_of_several_addresses_the_next_is_tried_where_one_refuses(env):
    with listening("127.0.0.1") as (_, port):
        found = asyncio.run(tcp.once(tcp.Config(target=f"both.example:{port}"), env))

    assert (found["ok"], found["address"], found["addresses"]) == (True, "127.0.0.1", ["127.0.0.2", "127.0.0.1"])


def test_a_refusal_keeps_the_phases_that_ended(env):
    with listening() as (_, port):
        pass

    phases, result = looked(env, target=f"both.example:{port}")

    assert list(phases) == ["resolve"]
    assert (result.reason, result.detail) == ("refused", f"127.0.0.1 port {port}: Connection refused")


def test_a_service_that_stays_silent(env):
    with listening(backlog=0) as (_, port), contextlib.ExitStack() as others:
        for _ in range(4):  # a full backlog: the kernel answers no further handshake
            sock = others.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))

        phases, result = looked(env, target=f"127.0.0.1:{port}", timeout=0.3)

    assert (result.reason, result.detail) == ("timeout", "no answer from 127.0.0.1 within 0.3 s")
    assert list(phases) == ["resolve"]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"target": "nobody.example:1"}, "resolve"),
        ({"target": "gateway:1"}, "resolve"),
        ({"target": "siak.example:1", "family": "ipv6"}, "resolve"),
        ({"target": "224.0.0.1:1"}, "unreachable"),
        ({"target": "127.0.0.1:1", "source": "203.0.113.7"}, "send"),
        ({"target": "127.0.0.1:1", "source": "nodev0"}, "send"),
        ({"target": "siak.example:1", "source": "::1"}, "resolve"),
    ],
)
def test_each_failure_has_its_reason(env, config, reason):
    phases, result = looked(env, **config)

    assert result.reason == reason
    assert reason in tcp.KIND.reasons
    assert "connect" not in phases
    assert result.detail


def test_a_resolver_that_says_nothing_is_a_timeout_of_ours(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    with socket.socket(type=socket.SOCK_DGRAM) as dead:
        dead.bind(("127.0.0.1", 0))
        phases, result = looked(Env(FakeClock(), Net(tmp_path, dead.getsockname()[1]), tmp_path), target="a.example:1", timeout=0.2)

    assert (phases, result.reason, result.detail) == ({}, "timeout", "no address within 0.2 s")


def test_nothing_is_left_open(env):
    with listening() as (server, port):
        configs = [{"target": f"127.0.0.1:{port}"}, {"target": "127.0.0.1:1"}, {"target": "127.0.0.1:1", "source": "nodev0"}]
        looked(env, **configs[0])
        server.accept()[0].close()
        before = len([*Path("/proc/self/fd").iterdir()])
        for _ in range(10):
            for config in configs:
                looked(env, **config)
            server.accept()[0].close()

        assert len([*Path("/proc/self/fd").iterdir()]) == before


@pytest.mark.parametrize(
    ("target", "split"),
    [
        ("mail.example.go.id:25", ("mail.example.go.id", 25)),
        ("192.0.2.1:65535", ("192.0.2.1", 65535)),
        ("[2001:db8::5]:22", ("2001:db8::5", 22)),
        ("[fe80::1%eth0.5]:22", ("fe80::1%eth0.5", 22)),
        ("gateway:80", ("gateway", 80)),
    ],
)
def test_targets(target, split):
    assert tcp.split(tcp_config(f"target: '{target}'").target) == split


@pytest.mark.parametrize(
    "target", ["mail", "mail:", ":25", "mail:0", "mail:65536", "2001:db8::5:22", "[::1]", "http://a:80", "a b:1", "[a]:1x"]
)
def test_bad_targets(target):
    with pytest.raises(ConfigError, match="is not a host and port"):
        tcp_config(f"target: '{target}'")


def test_a_source_picks_the_family_of_a_name(tmp_path):
    class Asked(Net):
        async def resolve(self, host, family=socket.AF_UNSPEC):
            raise Failure("resolve", family.name)

    env = Env(FakeClock(), Asked(tmp_path), tmp_path)

    assert looked(env, target="a:1", source="2001:db8::1")[1].detail == "AF_INET6"
    assert looked(env, target="a:1", source="192.0.2.1")[1].detail == "AF_INET"
    assert looked(env, target="a:1", source="eth0")[1].detail == "AF_UNSPEC"
    assert looked(env, target="a:1", source="eth0", family="ipv4")[1].detail == "AF_INET"


# -- on a wire of its own


@pytest.fixture
def wire(lab):
    """A box and a server that listens on port 80; yields (box, server)."""
    box, server = lab.namespace("box", ipv6=True), lab.namespace("server", ipv6=True)
    lab.link(box, "eth0", "10.78.1.2/24", server, "eth0", "10.78.1.1/24")
    box.ip("-6", "address", "add", "fe80::2/64", "dev", "eth0", "nodad")
    server.ip("-6", "address", "add", "fe80::1/64", "dev", "eth0", "nodad")
    with server.entered():
        sock = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
    with sock:
        yield box, server


@contextlib.contextmanager
def delay_line(a, b, seconds: float):
    """A wire of known delay between two namespaces: two TUN devices, 10.79.1.1 and .2, and a thread that carries the packets."""
    ends = [_tun(ns, f"10.79.1.{i}/24") for i, ns in enumerate((a, b), 1)]
    stop = threading.Event()

    def carry():
        flying: list[tuple[float, int, bytes]] = []
        while not stop.is_set():
            ready, _, _ = select.select(ends, [], [], 0.001)
            flying += [(time.monotonic() + seconds, ends[1 - ends.index(fd)], os.read(fd, 2048)) for fd in ready]
            while flying and flying[0][0] <= time.monotonic():
                _, to, packet = flying.pop(0)
                os.write(to, packet)

    carrier = threading.Thread(target=carry)
    carrier.start()
    try:
        yield
    finally:
        stop.set()
        carrier.join()
        for fd in ends:
            os.close(fd)


def _tun(ns, address: str) -> int:
    with ns.entered():
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"line0", 0x1001))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
    ns.ip("address", "add", address, "dev", "line0")
    ns.ip("link", "set", "line0", "up")
    return fd


@pytest.mark.lab
def test_the_wires_delay_is_measured_and_a_busy_loop_is_not(wire, env):
    async def run():
        looking = asyncio.ensure_future(tcp.TcpCollector(tcp.Config(target="10.79.1.2:80"), env).look())
        for _ in range(4):
            await asyncio.sleep(0)
        time.sleep(0.5)
        return await looking

    with delay_line(*wire, 0.02), wire[0].entered():
        look = asyncio.run(run())

    assert look.result.reason == ""
    assert 0.04 <= look.phases["connect"] < 0.4


@pytest.mark.lab
def test_a_lost_packet_of_the_handshake_counts_as_the_user_waits(wire, env):
    box, server = wire
    server.ip("route", "add", "blackhole", "10.78.1.2/32")

    async def run():
        looking = asyncio.ensure_future(tcp.TcpCollector(tcp.Config(target="10.78.1.1:80"), env).look())
        await asyncio.sleep(0.3)
        server.ip("route", "del", "blackhole", "10.78.1.2/32")
        return await looking

    with box.entered():
        look = asyncio.run(run())

    assert (look.result.reason, look.retransmits >= 1) == ("", True)
    assert look.phases["connect"] > 0.9  # the kernel sends a SYN again after a second (RFC 6298 2)


@pytest.mark.lab
@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"target": "[fe80::1%eth0]:80"}, ""),
        ({"target": "10.78.1.1:80", "source": "eth0"}, ""),
        ({"target": "10.78.1.1:81"}, "refused"),
        ({"target": "192.0.2.1:80"}, "unreachable"),  # no route
        ({"target": "10.78.1.9:80", "interval": 60.0, "timeout": 20.0}, "unreachable"),  # nobody there to answer ARP
        ({"target": "[fe80::1%nodev0]:80"}, "send"),
        ({"target": "10.78.1.1:80", "timeout": 0.3, "source": "lo"}, "timeout"),
    ],
)
def test_reasons_on_the_wire(wire, env, config, reason):
    with wire[0].entered():
        _, result = looked(env, **config)

    assert result.reason == reason
