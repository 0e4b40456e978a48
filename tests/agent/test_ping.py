"""Pings: what becomes of a round-trip time when clocks misbehave, and real sockets on real wires, hostile neighbours included."""

import asyncio
import contextlib
import socket
import sys
import time

import pytest

from agent import ping
from agent.collector import Failure
from agent.net import Net
from agent.ping import Moment, Pinger, round_trip
from agent.sockets import sockaddr
from agent.wire import icmp

MS = 1_000_000
S = 1000 * MS


@pytest.mark.parametrize(
    ("why", "stamp", "received", "sent", "seen", "expected"),
    [
        ("all is well", 10, 5 * MS + 10, Moment(0, 0), Moment(6 * MS, 6 * MS), 5 * MS),
        ("the loop was blocked for a second", 10, 5 * MS + 10, Moment(0, 0), Moment(S, S), 5 * MS),
        ("no stamp of sending: ours", 0, 5 * MS, Moment(0, 0), Moment(6 * MS, 6 * MS), 5 * MS),
        ("no stamp of receiving: ours", 10, 0, Moment(0, 0), Moment(6 * MS, 6 * MS), 6 * MS),
        ("the clock leapt an hour ahead on the way", 0, 3600 * S + 5 * MS, Moment(0, 0), Moment(3600 * S + 6 * MS, 6 * MS), 5 * MS),
        ("and an hour back", 3600 * S, 5 * MS, Moment(3600 * S, 0), Moment(6 * MS, 6 * MS), 5 * MS),
        ("the leap came after the reply, before we read it", 0, 5 * MS, Moment(0, 0), Moment(3600 * S, 6 * MS), 5 * MS),
        ("a small leap back, and nobody knows when", 10, 300 * MS, Moment(0, 0), Moment(800 * MS, S), S),
        ("there and back: only the stamps are off", 10, 3600 * S, Moment(0, 0), Moment(6 * MS, 6 * MS), 6 * MS),
        ("received before it was sent", 9 * MS, 5 * MS, Moment(0, 0), Moment(10 * MS, 10 * MS), 10 * MS),
        ("the clock is slewed, which is no leap", 0, 1000 * MS, Moment(0, 0), Moment(2 * S + MS, 2 * S), 1000 * MS),
    ],
)  # fmt: skip
def test_round_trip_times_survive_the_wall_clock(why, stamp, received, sent, seen, expected):
    assert round_trip(stamp, received, sent, seen) == expected, why


class Owner:
    def __init__(self):
        self.answers, self.refusals = [], []
        self.news = asyncio.Event()

    def answered(self, packet):
        self.answers.append(packet)
        self.news.set()

    def refused(self, packet):
        self.refusals.append(packet)
        self.news.set()

    async def wait(self, seconds=5.0):
        await asyncio.wait_for(self.news.wait(), seconds)
        self.news.clear()


@contextlib.contextmanager
def lines(*wanted):
    """Lines of a pinger of their own: ((family, source), ...)."""
    pinger = Pinger()
    made = []
    try:
        made += [pinger.line(family, source) for family, source in wanted]
        yield made
    finally:
        for line in made:
            pinger.release(line)


def wired(lab, ipv6=False):
    """Two machines and a wire."""
    a, b = lab.namespace("a", ipv6=ipv6), lab.namespace("b", ipv6=ipv6)
    lab.link(a, "eth0", "10.77.1.1/24", b, "eth0", "10.77.1.2/24")
    if ipv6:
        for ns, n in ((a, 1), (b, 2)):
            ns.ip("address", "add", f"fd77::{n}/64", "dev", "eth0", "nodad")
    return a, b


def kind_of_socket(ns, raw):
    """Ping sockets allowed, or only raw ones."""
    ns.sysctl(net__ipv4__ping_group_range="1 0" if raw else "0 2147483647")


@pytest.mark.lab
@pytest.mark.parametrize("raw", [False, True], ids=["ping socket", "raw socket"])
@pytest.mark.parametrize("address", ["10.77.1.2", "fd77::2", "127.0.0.1", "::1"])
def test_a_reply_with_all_the_kernel_knows(lab, raw, address):
    a, _ = wired(lab, ipv6=True)
    kind_of_socket(a, raw)

    async def main():
        family, to = sockaddr(address, 0)
        with a.entered(), lines((family, "")) as (line,):
            assert line.raw is raw
            owner = Owner()
            packet = line.send(owner, to, 56)
            await owner.wait()
            return packet, line.ignored

    packet, ignored = asyncio.run(main())
    assert packet.stamp > packet.sent.wall, "no stamp of sending"
    assert packet.rtt is not None
    assert 0 < packet.rtt < S
    assert (packet.replies, packet.hops, ignored) == (1, 64, 0)


@pytest.mark.lab
@pytest.mark.parametrize("raw", [False, True], ids=["ping socket", "raw socket"])
@pytest.mark.parametrize(("source", "size"), [("10.77.1.1", 16), ("eth0", 1472), ("eth0", icmp.MAX_PAYLOAD)])
def test_sources_and_sizes(lab, raw, source, size):
    a, _ = wired(lab)
    kind_of_socket(a, raw)

    async def main():
        with a.entered(), lines((socket.AF_INET, source)) as (line,):
            owner = Owner()
            packet = line.send(owner, sockaddr("10.77.1.2", 0)[1], size)
            await owner.wait()
            return packet

    packet = asyncio.run(main())
    assert packet.replies == 1
    assert packet.stamp


@pytest.mark.lab
@pytest.mark.parametrize("raw", [False, True], ids=["ping socket", "raw socket"])
@pytest.mark.parametrize("version", [4, 6])
def test_what_a_router_says_of_a_packet(lab, raw, version):
    a, b = wired(lab, ipv6=True)
    kind_of_socket(a, raw)
    a.ip("route", "add", "default", "via", "10.77.1.2")
    a.ip("-6", "route", "add", "default", "via", "fd77::2")
    b.sysctl(net__ipv4__ip_forward="1", net__ipv6__conf__all__forwarding="1", net__ipv6__icmp__ratelimit="0")
    b.ip("route", "add", "unreachable", "192.0.2.0/24")
    b.ip("-6", "route", "add", "unreachable", "2001:db8::/64")
    target, good = {4: ("192.0.2.9", "10.77.1.2"), 6: ("2001:db8::9", "fd77::2")}[version]

    async def main():
        family, to = sockaddr(target, 0)
        with a.entered(), lines((family, "")) as (line,):
            owner, innocent = Owner(), Owner()
            packet = line.send(owner, to, 56)
            await owner.wait()
            sent_after = [line.send(innocent, sockaddr(good, 0)[1], 56) for _ in range(3)]
            await asyncio.sleep(0.1)
            return packet, owner, sent_after, innocent

    packet, owner, sent_after, innocent = asyncio.run(main())
    assert owner.refusals[0] is packet
    assert "unreachable" in packet.refusal or "no route" in packet.refusal
    assert packet.replies == 0
    assert innocent.answers == sent_after, "another target's ICMP error hit packets that came after it"


FORGER = """
import socket, struct, sys
sys.path.insert(0, {root!r})
from agent.wire import icmp
how = {how!r}
sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
sock.settimeout(20)
print("ready", flush=True)
while True:
    packet, (source, _) = sock.recvfrom(4096)
    packet = packet[(packet[0] & 15) * 4:]
    if packet[0] != 8:
        continue
    head, data = bytearray(packet[:8]), bytearray(packet[8:])
    head[0] = 0
    if how == "cookie":
        data[10] ^= 1
    if how == "key":
        data[7] ^= 1
    if how == "cut":
        data = data[:15]
    if how == "short":
        data = data[:16]
    head[2:4] = b"\\0\\0"
    head[2:4] = struct.pack("!H", icmp.checksum(bytes(head + data)))
    if how == "damaged":
        data[30] ^= 1
    out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    if how == "address":
        out.bind(("10.77.1.3", 0))
    for _ in range(3 if how == "thrice" else 1):
        out.sendto(bytes(head + data), (source, 0))
    out.close()
"""


@pytest.mark.lab
@pytest.mark.parametrize("raw", [False, True], ids=["ping socket", "raw socket"])
@pytest.mark.parametrize(
    ("how", "replies"), [("true", 1), ("thrice", 3), ("short", 1), ("cut", 0), ("cookie", 0), ("key", 0), ("address", 0), ("damaged", 0)]
)
def test_forged_cut_damaged_and_doubled_replies(lab, raw, how, replies):
    a, b = wired(lab)
    kind_of_socket(a, raw)
    b.sysctl(net__ipv4__icmp_echo_ignore_all="1")
    b.ip("address", "add", "10.77.1.3/24", "dev", "eth0")
    root = str(ping.__file__).rsplit("/agent/", 1)[0]
    forger = b.start("forger", sys.executable, "-c", FORGER.format(root=root, how=how))
    end = time.monotonic() + 20
    while "ready" not in forger.output():
        assert time.monotonic() < end, forger.output()
        time.sleep(0.05)

    async def main():
        with a.entered(), lines((socket.AF_INET, "")) as (line,):
            owner = Owner()
            packet = line.send(owner, sockaddr("10.77.1.2", 0)[1], 56)
            end = time.monotonic() + 5
            while time.monotonic() < end and line.ignored + len(owner.answers) < max(1, replies):
                await asyncio.sleep(0.02)
                if how == "damaged" and not raw and end - time.monotonic() < 4.5:
                    break  # the kernel itself drops it
            return packet, owner

    packet, owner = asyncio.run(main())
    assert packet.replies == len(owner.answers) == replies
    assert (packet.rtt is not None) is (replies > 0)


@pytest.mark.lab
def test_foreign_pings_never_reach_a_raw_socket(lab):
    a, _ = wired(lab)
    kind_of_socket(a, raw=True)

    async def main():
        with a.entered(), lines((socket.AF_INET, "")) as (line,):
            done = await asyncio.to_thread(a.run, "ping", "-c", "20", "-i", "0.01", "10.77.1.2")
            assert "20 received" in done.stdout
            return line.poll(), line.ignored

    assert asyncio.run(main()) == (0, 0)


@pytest.mark.lab
@pytest.mark.parametrize("raw", [False, True], ids=["ping socket", "raw socket"])
def test_our_own_trouble_and_an_interface_that_comes_back(lab, raw):
    a, b = wired(lab)
    kind_of_socket(a, raw)

    async def main():
        with a.entered(), lines((socket.AF_INET, "eth0"), (socket.AF_INET, "10.77.1.1"), (socket.AF_INET, "")) as made:
            owner, to = Owner(), sockaddr("10.77.1.2", 0)[1]

            def reasons():
                found = []
                for line in made:
                    try:
                        line.send(owner, to, 56)
                        found.append("")
                    except Failure as e:
                        found.append(e.reason)
                return found

            before = reasons()
            while len(owner.answers) < 3:
                await owner.wait()
            await asyncio.to_thread(a.ip, "link", "del", "eth0")
            gone = reasons()
            await asyncio.to_thread(lab.link, a, "eth0", "10.77.1.1/24", b, "eth0", "10.77.1.2/24")
            owner.answers.clear()
            after = reasons()
            while len(owner.answers) < 3:
                await owner.wait()
            a.run(
                "nft",
                "add table ip t; add chain ip t o { type filter hook output priority 0; }; add rule ip t o icmp type echo-request drop",
            )
            dropped = reasons()
            a.run("nft", "delete", "table", "ip", "t")
            owner.answers.clear()
            packet = made[2].send(owner, to, 56)
            await owner.wait()
            return before, gone, after, dropped, packet

    before, gone, after, dropped, packet = asyncio.run(main())
    assert before == after == ["", "", ""]
    assert gone == ["send", "unreachable", "unreachable"]
    assert dropped == ["send", "send", "send"]
    assert packet.stamp > packet.sent.wall, "a refused send led the stamps astray"


@pytest.mark.lab
def test_the_loop_sleeps_after_errors_and_stamps(lab):
    """What is on the error queue must be read, or epoll would report it for ever."""
    a, b = wired(lab)
    a.ip("route", "add", "default", "via", "10.77.1.2")
    b.sysctl(net__ipv4__ip_forward="1")
    b.ip("route", "add", "unreachable", "192.0.2.0/24")

    async def main():
        with a.entered(), lines((socket.AF_INET, "")) as (line,):
            owner, woken = Owner(), 0
            ready = line._ready

            def count():
                nonlocal woken
                woken += 1
                ready()

            asyncio.get_running_loop().add_reader(line._sock, count)
            for n in range(10):
                line.send(owner, sockaddr(f"192.0.2.{n}", 0)[1], 56)
                line.send(owner, sockaddr("10.77.1.2", 0)[1], 56)
            await asyncio.sleep(0.5)
            return woken, len(owner.answers), len(owner.refusals)

    woken, answers, refusals = asyncio.run(main())
    assert answers == 10
    assert refusals >= 1, "routers limit how many errors they send, but not to none"
    assert woken <= 60


def test_lines_are_shared_and_closed_when_nobody_uses_them():
    async def main():
        net = Net()
        pinger = Pinger.shared(net)
        try:
            one = pinger.line(socket.AF_INET)
        except PermissionError as e:
            pytest.skip(str(e))
        two = Pinger.shared(net).line(socket.AF_INET)
        assert one is two
        pinger.release(one)
        assert one._sock is not None
        pinger.release(two)
        assert one._sock is None
        assert Pinger.shared(Net()) is not pinger

    asyncio.run(main())


def test_what_is_in_flight_is_bounded_and_seqs_are_unambiguous(monkeypatch):
    monkeypatch.setattr(ping, "MAX_IN_FLIGHT", 3)

    async def main():
        try:
            manager = lines((socket.AF_INET, ""))
            with manager as (line,):
                line._key = 0xFFFFFFFE
                owner = Owner()
                packets = [line.send(owner, ("127.0.0.1", 0), 16) for _ in range(3)]
                with pytest.raises(Failure, match="in flight") as caught:
                    line.send(owner, ("127.0.0.1", 0), 16)
                while len(owner.answers) < 3:
                    await owner.wait()
                line.forget(packets[0])
                line.send(owner, ("127.0.0.1", 0), 16)
                return [p.key for p in packets], caught.value.reason
        except PermissionError as e:
            pytest.skip(str(e))

    assert asyncio.run(main()) == ([0xFFFFFFFE, 0xFFFFFFFF, 0], "send")


@pytest.mark.lab
def test_without_any_privilege_it_says_what_is_missing(lab):
    a, _ = wired(lab)
    kind_of_socket(a, raw=True)
    root = str(ping.__file__).rsplit("/agent/", 1)[0]
    load = f"import asyncio, socket, sys; sys.path.insert(0, {root!r}); from agent.ping import Pinger\n"
    code = load + (
        "async def main():\n    try: Pinger().line(socket.AF_INET)\n    except PermissionError as e: print(e)\nasyncio.run(main())\n"
    )
    nobody = ("setpriv", "--reuid", "65534", "--clear-groups", "--bounding-set", "-all", sys.executable, "-c")
    if a.run(*nobody, load, check=False).returncode:
        pytest.skip("an ordinary user can't read this checkout or its Python")

    assert "ping_group_range" in a.run(*nobody, code).stdout
