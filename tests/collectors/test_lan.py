"""The lan kind: its config, what it reads of the kernel, where it stands, and what it says when it may not capture."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from agent import kernelview
from agent.clock import SystemClock
from agent.collector import Env
from agent.detect import patrol, seen
from agent.detect.casebook import Casebook
from agent.detect.model import Vouched
from agent.detect.table import LAN
from agent.model import Event, Sample
from agent.net import Net
from agent.structure import ConfigError, loads
from agent.wire.netlink import Address, Hop, Link, Route
from collectors import lan
from tests.fakes import FakeClock

ARP = """IP address       HW type     Flags       HW address            Mask     Device
192.0.2.1        0x1         0x2         4C:5E:0C:11:22:01     *        eth0
192.0.2.7        0x1         0x0         00:00:00:00:00:00     *        eth0
192.0.2.8        0x1         0x2         00:11:32:aa:bb:08     *        wlan0
192.0.2.9        0x1         0x6         00:11:32:aa:bb:09     *        eth0
garbage
"""
NETSTAT = """TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPReqQFullDoCookies
TcpExt: 3 5 7 x
IpExt: InNoRoutes
IpExt: 0
"""
SNMP = """Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors
Udp: 100 11 12 13 14
"""
TCP = """  sl  local_address rem_address   st tx_queue rx_queue
   0: 0100007F:44FF 00000000:0000 0A 00000000:00000000
   1: 0A00580A:44FF 4200580A:1234 03 00000000:00000000
"""


def proc(tmp_path: Path, **files: str) -> Path:
    (tmp_path / "proc/net").mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / "proc/net" / name).write_text(text)
    return tmp_path


def test_complete_neighbours_of_the_device_only(tmp_path):
    assert kernelview.neighbours(proc(tmp_path, arp=ARP), "eth0") == {"192.0.2.1": "4c:5e:0c:11:22:01", "192.0.2.9": "00:11:32:aa:bb:09"}


def test_counters_are_what_could_be_read(tmp_path):
    root = proc(tmp_path, netstat=NETSTAT, snmp=SNMP, tcp=TCP)
    expected = {
        "SyncookiesSent": 3,
        "ListenOverflows": 5,
        "ListenDrops": 7,
        "NoPorts": 11,
        "InErrors": 12,
        "RcvbufErrors": 14,
    }
    assert kernelview.counters(root) == expected
    assert kernelview.half_open(root) == 1


@pytest.mark.parametrize("text", ["", "TcpExt:\n", "TcpExt: a\nTcpExt:\n", "\0\xff" * 999, "Udp: NoPorts\nUdp: -1\nUdp: 3\n", "   0: 1 2"])
def test_garbage_of_the_kernel_gives_nothing(tmp_path, text):
    root = proc(tmp_path, arp=text, netstat=text, snmp=text, tcp=text, tcp6=text)
    assert kernelview.neighbours(root, "eth0") == {}
    assert kernelview.counters(root) == {}
    assert kernelview.half_open(root) == 0


def test_without_proc_nothing_is_known(tmp_path):
    assert kernelview.counters(tmp_path) == {}
    assert kernelview.half_open(tmp_path) == 0


# -- config ------------------------------------------------------------------------------------------------------------------------


def config(text: str) -> lan.Config:
    return loads(text.encode(), lan.Config, "x.yaml")


def test_what_the_operator_vouches_for_is_read_in_one_form():
    vouched = config(
        'dhcp_servers: ["2001:DB8::1", 192.0.2.1]\nrouters: [4C-5E-0C-11-22-01]\nscanners: [192.0.2.9]\nversions: {mikrotik: "7.12"}'
        "\nrouter_ports: [22, 161]"
    ).vouched()
    assert vouched.dhcp_servers == {"2001:db8::1", "192.0.2.1"}
    assert vouched.routers == {"4c:5e:0c:11:22:01"}
    assert vouched.scanners == {"192.0.2.9"}
    assert vouched.versions == {"mikrotik": "7.12"}
    assert vouched.router_ports == {22, 161}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("routers: [4c:5e:0c:11:22]", "is not a MAC"),
        ("dhcp_servers: [router.local]", "dhcp_servers"),
        ("tripwires: [70000]", "tripwires"),
        ("router_ports: [25]", "25 isn't looked at"),
        ("exposure: 5m", "an hour at the least"),
        ("suppress: [{rule: arp_swep, until: 2026-12-01, reason: printer}]", "is no rule of lan"),
        ("suppress: [{rule: arp_sweep, until: 2026-12-01}]", "reason"),
    ],
)
def test_a_wrong_config_says_what_is_wrong(text, message):
    with pytest.raises(ConfigError, match=message):
        config(text)


# -- where the box stands ----------------------------------------------------------------------------------------------------------


class Kernel:
    """Tables that a test fills in, in place of rtnetlink."""

    def __init__(self, links, addresses, routes) -> None:
        self.tables = {16: links, 20: addresses, 24: routes}
        self.neighbours: list = []
        self.stale: set[int] = set()

    def drain(self) -> None:
        self.stale |= set()

    async def dump(self, get: int):
        self.stale.discard(get)
        return next(found for kind, found in self.tables.items() if get in (kind, kind + 2))


def stand(device: str, *, routed: bool = True) -> lan.Place:
    links = [
        Link(1, "lo", True, True, mac="00:00:00:00:00:00"),
        Link(2, "eth0", True, True, mac="B8:27:EB:00:00:10"),
        Link(3, "wlan0", True, False, mac="B8:27:EB:00:00:11"),
    ]
    addresses = [
        Address(2, socket.AF_INET, "192.0.2.10", 24),
        Address(2, socket.AF_INET6, "fe80::1", 64, 253),
        Address(3, socket.AF_INET, "198.51.100.10", 24),
    ]
    routes = [Route(socket.AF_INET, 254, 1, "", 0, 100, (Hop("192.0.2.1", 2),))] if routed else []
    kernel = Kernel(links, addresses, routes)
    kernel.stale = {16 + 2, 20 + 2, 24 + 2}
    place = lan.Place(Env(FakeClock(), Net(Path("/nonexistent"))), device, kernel)
    assert asyncio.run(place.look())
    return place


def test_auto_is_where_the_default_route_goes():
    place = stand("auto")
    assert place.network == seen.Network(
        "eth0", "b8:27:eb:00:00:10", ("192.0.2.10", "fe80::1"), ("192.0.2.0/24",), ("192.0.2.1",), place.network.resolvers,
        ("b8:27:eb:00:00:11",),
    )  # fmt: skip
    assert place.carrier


def test_without_a_route_a_device_with_an_address_is_watched():
    place = stand("auto", routed=False)
    assert place.network.device == "eth0"
    assert place.network.gateways == ()


def test_a_named_device_is_the_one_and_a_missing_one_is_none():
    assert stand("wlan0").network.networks == ("198.51.100.0/24",)
    assert not stand("wlan0").carrier
    assert stand("eth7").network is None


def test_nothing_is_read_while_the_kernel_says_nothing():
    place = stand("auto")
    assert not asyncio.run(place.look())


# -- how often counters are read ---------------------------------------------------------------------------------------------------


def test_counters_each_turn_while_busy_else_each_fifth(tmp_path):
    counting = lan.Counting(Env(FakeClock(), Net(), proc(tmp_path, netstat=NETSTAT)))
    quiet = [at for at in range(20) if counting.look({"broadcast": 0.0}, float(at))]
    assert quiet == [0, 5, 10, 15]
    busy = [at for at in range(20, 30) if counting.look({"broadcast": 1000.0 * (at - 19)}, float(at))]
    assert busy == list(range(20, 30))
    assert counting.rate == 1000.0


def again(root: Path, n: int) -> None:
    """The kernel has asked or answered again so often."""
    (root / "proc/net/netstat").write_text(f"TcpExt: TCPSynRetrans\nTcpExt: {n}\n")


def opened(root: Path, n: int) -> None:
    (root / "proc/net/tcp").write_text("  sl\n" + "   1: 0A00580A:44FF 4200580A:1234 03 00000000:00000000\n" * n)


def test_half_open_connections_are_counted_when_they_show_themselves_and_while_they_stay(tmp_path):
    counting = lan.Counting(Env(FakeClock(), Net(), proc(tmp_path)))
    again(tmp_path, 0)
    opened(tmp_path, 0)
    looks = [counting.look({}, float(at)) for at in (0, 5)]
    opened(tmp_path, 100)
    again(tmp_path, 4)  # under one a second
    looks.append(counting.look({}, 10.0))
    again(tmp_path, 99)
    looks.append(counting.look({}, 15.0))
    looks += [counting.look({}, at) for at in (20.0, 25.0)]  # nothing is answered again, but they stay
    opened(tmp_path, 3)
    looks += [counting.look({}, at) for at in (30.0, 35.0)]
    assert [look and look.values["half_open"] for look in looks] == [0, 0, 0, 100, 100, 100, 3, 0]


def test_what_is_half_open_at_the_start_is_counted(tmp_path):
    counting = lan.Counting(Env(FakeClock(), Net(), proc(tmp_path, tcp=TCP)))
    look = counting.look({}, 0.0)
    assert look is not None
    assert look.values["half_open"] == 1


# -- without the privilege ---------------------------------------------------------------------------------------------------------


async def watched(env: Env, seconds: float, **config) -> list:
    """What a watch gives until it has said an event, or time is over."""
    found: list = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), contextlib.aclosing(lan.LanWatcher(lan.Config(**config), env).watch()) as pictures:
            async for picture in pictures:
                found += picture
                if any(isinstance(x, Event) for x in picture):
                    break
    return found


@pytest.mark.lab
def test_without_the_privilege_it_runs_and_says_what_it_cant_see(lab, tmp_path, monkeypatch):
    """Coverage of every detector, one event; the kernel's counters and a tripwire work all the same."""
    office, gateway = lab.namespace("office"), lab.namespace("gateway")
    lab.link(office, "eth0", "10.88.9.2/24", gateway, "eth0", "10.88.9.1/24")
    office.ip("route", "add", "default", "via", "10.88.9.1")
    monkeypatch.setattr(lan, "BLIND_AFTER", 0.1)
    env = Env(SystemClock(), Net(), Path("/"), tmp_path)
    with office.entered():
        found = asyncio.run(watched(env, 20.0, socket=str(tmp_path / "nobody.sock"), active=False))
    events = [x for x in found if isinstance(x, Event)]
    assert [e.kind for e in events] == ["lan_blind"]
    assert "nobody.sock" in events[0].fields["problem"]
    coverage = {s.labels[0]: s.value for s in found if isinstance(s, Sample) and s.metric is patrol.COVERAGE}
    assert coverage.keys() == {make(lan.Config().vouched()).rule.name for make in LAN}
    assert coverage["arp_sweep"] == 0.0
    assert [s.value for s in found if isinstance(s, Sample) and s.metric is lan.CAPTURE][-1] == 0.0
    assert all(s.value == 0 for s in found if isinstance(s, Sample) and s.metric is lan.PROBES), "active: false"


def test_what_the_gateway_offers_is_shown_by_port_after_the_first_look():
    async def run() -> None:
        env = Env(clock=SystemClock(), net=Net())
        detectors = [make(Vouched()) for make in LAN]
        eyes = lan.Eyes(
            lan.Config(device="none"), env, patrol.Patrol(detectors, Casebook([d.rule for d in detectors], "DKC", "Asia/Jakarta"))
        )
        shown = lambda: {s.labels[0]: s.value for s in eyes.samples() if s.metric is lan.OPEN}  # noqa: E731
        assert shown() == {}
        eyes._tell(seen.Exposed("192.0.2.1", (23, 8291), "2c"))
        ports = ("21", "22", "23", "80", "443", "2000", "8291", "8728", "8729", "161")
        assert shown() == dict.fromkeys(ports, 0.0) | {"23": 1.0, "8291": 1.0, "161": 1.0}
        assert "exposure" not in eyes.able(), "there is no network here that may be asked"

    asyncio.run(run())


def test_the_glance_says_whether_it_sees():
    samples = [lan.DEVICES(3, "known"), lan.DEVICES(2, "mobile"), lan.DEVICES(9, "quiet"), lan.CAPTURE(1)]
    assert lan.glance(samples) == "5 perangkat, paket terlihat, tidak ada temuan"


def test_what_devices_post_is_told_once_each_and_makes_able_while_it_is_fresh():
    async def run() -> None:
        env = Env(clock=SystemClock(), net=Net())
        told: list = []
        detectors = [make(Vouched()) for make in LAN]
        watched = patrol.Patrol(detectors, Casebook([d.rule for d in detectors], "DKC", "Asia/Jakarta"))
        watched.see = lambda what, at, wall: told.append(what)  # type: ignore[method-assign]
        eyes = lan.Eyes(lan.Config(device="none"), env, watched)
        now = env.clock.monotonic()
        env.board.post("router", seen.RouterArp("router", {"192.0.2.7": "02:00:00:00:00:07"}), now)
        env.board.post("switch", seen.RouterArp("switch", {}), now - 400)
        for _ in range(3):
            eyes._read_board()
        assert sorted(what.device for what in told) == ["router", "switch"]
        assert "router_arp" in eyes.able()
        env.board.post("router", seen.RouterArp("router", {}), now - 301)
        eyes._read_board()
        assert len(told) == 3
        assert "router_arp" not in eyes.able(), "five minutes old: the router doesn't answer"

    asyncio.run(run())
