"""The link kind: what a real kernel tells in namespaces, and the pure parts on made-up tables."""

import asyncio
import contextlib
import dataclasses
import errno
import os
import socket
import time
import warnings
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.collector import Env
from agent.model import Event, Sample
from agent.net import Net
from agent.wire import netlink
from agent.wire.netlink import Address, Hop, Link, Neighbour, Route, Stats
from collectors import link
from tests.fakes import FakeClock

LAN = "10.9.0"
V4, V6 = socket.AF_INET, socket.AF_INET6


def real_env(root: Path = Path("/")) -> Env:
    return Env(SystemClock(), Net(root), root)


class Eyes:
    """A watch that runs, and the pictures that it gave."""

    def __init__(self, watcher: link.LinkWatcher) -> None:
        self.watcher = watcher
        self.pictures: list[list[Sample | Event]] = []

    async def __aenter__(self) -> "Eyes":
        self.task = asyncio.create_task(self._run())
        await self.until(lambda: self.pictures, "a first picture")
        return self

    async def __aexit__(self, *_) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def _run(self) -> None:
        async with contextlib.aclosing(self.watcher.watch()) as pictures:
            async for picture in pictures:
                self.pictures.append(list(picture))

    async def until(self, condition, what: str, seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if self.task.done():
                self.task.result()
            assert time.monotonic() < end, f"not within {seconds:g} s: {what}; events {self.events()}"
            await asyncio.sleep(0.01)

    def value(self, metric, *labels: str) -> float | None:
        found = [s.value for s in self.pictures[-1] if isinstance(s, Sample) and s.metric is metric and s.labels == labels]
        assert len(found) < 2, "a series stands twice in a picture"
        return found[0] if found else None

    def glance(self) -> str:
        return link.glance([s for s in self.pictures[-1] if isinstance(s, Sample)])

    def events(self, kind: str = "") -> list[Event]:
        return [x for p in self.pictures for x in p if isinstance(x, Event) and (not kind or x.kind == kind)]


def wired(lab):
    """An office and its gateway, with a wire and a default route."""
    office, gateway = lab.namespace("office"), lab.namespace("gateway")
    lab.link(office, "lan0", f"{LAN}.2/24", gateway, "lan0", f"{LAN}.1/24")
    office.ip("route", "add", "default", "via", f"{LAN}.1")
    return office, gateway


def watching(ns, story, config: link.Config | None = None, env: Env | None = None) -> None:
    """Runs `story(eyes)` with a watch in the namespace."""

    async def main() -> None:
        async with Eyes(link.LinkWatcher(config or link.Config(), env or real_env())) as eyes:
            await story(eyes)

    with ns.entered():
        asyncio.run(main())


def test_a_first_picture_of_this_machine_comes_at_once_and_without_events():
    async def main() -> None:
        async with Eyes(link.LinkWatcher(link.Config(), real_env())) as eyes:
            assert not eyes.events()
            assert eyes.value(link.ROUTES, "ipv4") is not None
            assert eyes.value(link.IGNORED) == 0
            assert not [s for s in eyes.pictures[0] if isinstance(s, Sample) and "lo" in s.labels]

    asyncio.run(main())


@pytest.mark.lab
def test_the_names_and_labels_of_a_picture(lab):
    office, _ = wired(lab)

    async def story(eyes: Eyes) -> None:
        office.run("ping", "-c1", "-W2", f"{LAN}.1")
        await eyes.until(lambda: eyes.value(link.GATEWAY, "lan0", "ipv4") == 1, "the gateway answers")
        found = {(s.metric.name, s.labels) for s in eyes.pictures[-1] if isinstance(s, Sample)}
        device = {"up", "carrier", "carrier_lost", "carrier_changes_total", "mtu_bytes"}
        device |= {f"{w}_{c}_total" for w in ("receive", "transmit") for c in ("bytes", "packets", "errors", "dropped")}
        expected = {(f"ronda_link_{name}", ("lan0",)) for name in device}
        for family in ("ipv4", "ipv6"):
            expected |= {("ronda_link_addresses", ("lan0", family)), ("ronda_link_default_routes", (family,))}
            expected |= {("ronda_link_default_route_changes_total", (family,))}
        expected |= {("ronda_link_gateway_reachable", ("lan0", "ipv4")), ("ronda_link_devices_over_limit", ())}
        assert found == expected
        assert (eyes.value(link.MTU, "lan0"), eyes.value(link.ADDRESSES, "lan0", "ipv4"), eyes.value(link.ROUTES, "ipv4")) == (1500, 1, 1)
        assert eyes.glance() == "lan0 tersambung, gerbang ada"

    watching(office, story)


@pytest.mark.lab
def test_a_cable_pulled_and_put_back(lab):
    office, gateway = wired(lab)

    async def story(eyes: Eyes) -> None:
        changes = eyes.value(link.CHANGES, "lan0")
        gateway.ip("link", "set", "lan0", "down")
        await eyes.until(lambda: eyes.events("link_down"), "link_down")
        (down,) = eyes.events("link_down")
        assert (down.fields["device"], down.fields["addresses"]) == ("lan0", f"{LAN}.2/24")
        assert len(down.fields["mac"]) == 17
        assert [eyes.value(m, "lan0") for m in (link.UP, link.CARRIER, link.LOST)] == [1, 0, 1]
        assert eyes.glance().startswith("lan0 terlepas")

        gateway.ip("link", "set", "lan0", "up")
        await eyes.until(lambda: eyes.events("link_up"), "link_up")
        assert [eyes.value(m, "lan0") for m in (link.UP, link.CARRIER, link.LOST)] == [1, 1, 0]
        assert eyes.value(link.CHANGES, "lan0") == changes + 2

    watching(office, story)


@pytest.mark.lab
def test_a_device_switched_off_by_hand_has_no_carrier_but_is_not_up(lab):
    office, _ = wired(lab)

    async def story(eyes: Eyes) -> None:
        office.ip("link", "set", "lan0", "down")
        await eyes.until(lambda: eyes.events("link_down"), "link_down")
        assert "switched off" in eyes.events("link_down")[0].message
        assert [eyes.value(m, "lan0") for m in (link.UP, link.CARRIER)] == [0, 0]

    watching(office, story)


@pytest.mark.lab
def test_addresses_and_the_default_route_come_and_go(lab):
    office, _ = wired(lab)

    async def story(eyes: Eyes) -> None:
        office.ip("address", "add", f"{LAN}.7/24", "dev", "lan0")
        await eyes.until(lambda: eyes.events("address_added"), "address_added")
        assert eyes.events("address_added")[0].fields == {"device": "lan0", "address": f"{LAN}.7/24"}
        assert eyes.value(link.ADDRESSES, "lan0", "ipv4") == 2
        office.ip("address", "del", f"{LAN}.7/24", "dev", "lan0")
        await eyes.until(lambda: eyes.events("address_removed"), "address_removed")

        office.ip("route", "replace", "default", "via", f"{LAN}.9")  # the kernel sends no DELROUTE for the one replaced
        await eyes.until(lambda: eyes.events("gateway_changed"), "gateway_changed")
        (event,) = eyes.events("gateway_changed")
        assert event.fields == {"family": "ipv4", "before": f"via {LAN}.1 dev lan0", "after": f"via {LAN}.9 dev lan0"}
        assert (eyes.value(link.ROUTES, "ipv4"), eyes.value(link.ROUTE_CHANGES, "ipv4")) == (1, 1)

        office.ip("route", "del", "default")
        await eyes.until(lambda: eyes.value(link.ROUTES, "ipv4") == 0, "no default route")
        assert eyes.events("gateway_changed")[-1].severity == "warning"
        assert (eyes.value(link.ROUTE_CHANGES, "ipv4"), eyes.value(link.ROUTE_CHANGES, "ipv6")) == (2, 0)
        assert eyes.glance() == "lan0 tersambung, gerbang tidak ada"

    watching(office, story)


@pytest.mark.lab
def test_a_gateway_that_no_longer_answers_arp_and_comes_back(lab):
    office, gateway = wired(lab)
    quick = {f"net__ipv4__neigh__lan0__{k}": v for k, v in {"retrans_time_ms": "30", "delay_first_probe_time": "0"}.items()}
    office.sysctl(**quick)

    async def story(eyes: Eyes) -> None:
        office.run("ping", "-c1", "-W2", f"{LAN}.1")
        await eyes.until(lambda: eyes.value(link.GATEWAY, "lan0", "ipv4") == 1, "the gateway answers")
        assert not eyes.events()

        gateway.ip("link", "set", "lan0", "arp", "off")
        gateway.ip("address", "flush", "dev", "lan0")
        office.ip("neigh", "flush", "all")
        office.run("ping", "-c1", "-W1", f"{LAN}.1", check=False)
        await eyes.until(lambda: eyes.events("gateway_neighbour_failed"), "gateway_neighbour_failed")
        assert eyes.events("gateway_neighbour_failed")[0].fields == {"device": "lan0", "family": "ipv4", "gateway": f"{LAN}.1"}
        assert eyes.value(link.GATEWAY, "lan0", "ipv4") == 0
        assert eyes.glance() == "lan0 tersambung, gerbang tidak menjawab"

        gateway.ip("link", "set", "lan0", "arp", "on")
        gateway.ip("address", "add", f"{LAN}.1/24", "dev", "lan0")
        office.run("ping", "-c1", "-W2", f"{LAN}.1", check=False)
        await eyes.until(lambda: eyes.events("gateway_neighbour_back"), "gateway_neighbour_back")

    watching(office, story)


@pytest.mark.lab
def test_a_device_that_vanishes_takes_its_series_along(lab):
    office, _ = wired(lab)

    async def story(eyes: Eyes) -> None:
        office.ip("link", "add", "usb0", "type", "veth", "peer", "name", "far0")
        await eyes.until(lambda: {e.fields["device"] for e in eyes.events("link_appeared")} == {"usb0", "far0"}, "link_appeared")
        office.ip("link", "del", "usb0")
        await eyes.until(lambda: {e.fields["device"] for e in eyes.events("link_vanished")} == {"usb0", "far0"}, "link_vanished")
        assert {s.labels[0] for s in eyes.pictures[-1] if isinstance(s, Sample) and s.metric.labels[:1] == ("device",)} == {"lan0"}

    watching(office, story)


@pytest.mark.lab
def test_a_storm_of_changes_costs_few_pictures_and_ends_in_the_truth(lab):
    office, _ = wired(lab)
    clock = FakeClock()
    batch = lab.directory / "batch"
    batch.write_text("\n".join(f"link set lan0 mtu {1400 + i % 90}" for i in range(400)) + "\nlink set lan0 mtu 1321\n")

    async def story(eyes: Eyes) -> None:
        for _ in range(4):  # more than the socket holds: the overrun is part of the test
            office.run("ip", "-batch", str(batch))
            await asyncio.sleep(0)
        for _ in range(40):
            await clock.advance(0.05)
        assert eyes.value(link.MTU, "lan0") == 1321
        assert len(eyes.pictures) <= 4
        assert not eyes.events()

    watching(office, story, link.Config(), Env(clock, Net(), Path("/nonexistent")))


@pytest.mark.lab
def test_changes_without_end_are_looked_at_every_two_seconds_at_most(lab):
    office, _ = wired(lab)
    clock = FakeClock()

    async def story(eyes: Eyes) -> None:
        for i in range(60):  # twelve seconds of a change every 0.2 s
            office.ip("link", "set", "lan0", "mtu", str(1300 + i))
            await asyncio.sleep(0)
            await clock.advance(0.2)
        assert len(eyes.pictures) <= 1 + link.STORM + 1 + 12 / link.LONG_PAUSE
        await clock.advance(link.LONG_PAUSE)
        assert eyes.value(link.MTU, "lan0") == 1359
        await clock.advance(30)  # the calm after it
        pictures = len(eyes.pictures)
        office.ip("link", "set", "lan0", "mtu", "1500")
        for _ in range(3):
            await clock.advance(link.PAUSE)
        assert len(eyes.pictures) == pictures + 1

    watching(office, story, link.Config(), Env(clock, Net(), Path("/nonexistent")))


@pytest.mark.lab
def test_lost_events_make_everything_stale(lab):
    office, _ = wired(lab)

    async def main() -> None:
        with link.Kernel(SystemClock(), 5.0) as kernel:
            kernel._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for get in sorted(kernel.stale):
                await kernel.dump(get)
            assert not kernel.stale
            for i in range(20):
                office.ip("link", "set", "lan0", "mtu", str(1400 + i))
            kernel.drain()
            assert kernel.stale == {netlink.GETLINK, netlink.GETADDR, netlink.GETROUTE, netlink.GETNEIGH}

    with office.entered():
        asyncio.run(main())


@pytest.mark.lab
def test_counters_are_read_anew_every_interval(lab):
    office, _ = wired(lab)
    clock = FakeClock()

    async def story(eyes: Eyes) -> None:
        office.run("ping", "-c1", "-W2", f"{LAN}.1")
        for _ in range(20):
            await clock.advance(0.2)
        sent, pictures = eyes.value(link.COUNTERS[1], "lan0"), len(eyes.pictures)
        office.run("ping", "-c3", "-i0.01", "-W2", f"{LAN}.1")
        await clock.advance(10)
        assert len(eyes.pictures) == pictures
        await clock.advance(5)
        assert len(eyes.pictures) == pictures + 1
        assert eyes.value(link.COUNTERS[1], "lan0") >= sent + 3

    watching(office, story, link.Config(), Env(clock, Net(), Path("/nonexistent")))


@pytest.mark.lab
def test_what_changed_while_the_watch_was_down_is_told_by_the_next(lab):
    office, _ = wired(lab)
    watcher = link.LinkWatcher(link.Config(), real_env())

    async def main() -> None:
        async with Eyes(watcher):
            pass
        office.ip("address", "add", f"{LAN}.8/24", "dev", "lan0")
        async with Eyes(watcher) as eyes:
            assert [e.kind for e in eyes.events()] == ["address_added"]

    with office.entered():
        asyncio.run(main())


@pytest.mark.lab
def test_it_needs_no_privilege(lab):
    """The same look as nobody: netlink dumps and groups are open to all."""
    office, _ = wired(lab)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 minds forks beside threads; this one ends in _exit
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with office.entered():
                os.setgid(65534)
                os.setuid(65534)

                async def main() -> int:
                    async with Eyes(link.LinkWatcher(link.Config(), real_env())) as eyes:
                        return 0 if eyes.value(link.CARRIER, "lan0") == 1 else 2

                code = asyncio.run(main())
                os._exit(code)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_closing_a_watch_closes_its_socket():
    """ResourceWarnings are errors here; a hundred starts leave no descriptor behind."""

    async def main() -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(20):
            async with Eyes(link.LinkWatcher(link.Config(), real_env())):
                pass
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    asyncio.run(main())


def test_a_kernel_that_does_not_answer_in_time_is_an_error():
    clock = FakeClock()

    async def main() -> None:
        with link.Kernel(clock, 5.0) as kernel:
            kernel._sock.close()
            ours, kernel_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            ours.setblocking(False)
            kernel._sock = ours
            with kernel_end:
                look = asyncio.create_task(kernel.dump(netlink.GETLINK))
                await clock.advance(4.9)
                assert not look.done()
                await clock.advance(0.2)
                with pytest.raises(TimeoutError):
                    await look

    asyncio.run(main())


# --- the pure parts

ETH = Link(
    1, "eth0", True, True, 2, "up", 1500, "02:00:00:00:00:01", stats=Stats(rx_packets=10, tx_packets=9, rx_bytes=1000, tx_bytes=900,
    rx_errors=1, tx_errors=0, rx_dropped=2, tx_dropped=0),
)  # fmt: skip
DEFAULT = Route(V4, 254, 1, "", 0, 100, (Hop("192.0.2.1", 1),))


def tables(*found, config: link.Config | None = None) -> link.Tables:
    made = link.Tables(config or link.Config())
    for get in (netlink.GETLINK, netlink.GETADDR, netlink.GETROUTE, netlink.GETNEIGH):
        made.take(get, found)
    return made


def other(index: int, name: str, **changed) -> Link:
    return dataclasses.replace(ETH, index=index, name=name, **changed)


def test_what_is_watched_by_default():
    names = ["eth0", "lo", "docker0", "br-1a2b3c", "virbr0", "wlan0", "wwan0", "wg0", "br0", "ppp0"]
    links = [other(i, name) for i, name in enumerate(names, 1)]
    links += [other(20, "veth12", kind="veth", master=3), other(21, "lan0", kind="veth")]

    assert set(tables(*links).view(None).links) == {"eth0", "wlan0", "wwan0", "wg0", "br0", "ppp0", "lan0"}
    assert set(tables(*links, config=link.Config(devices=["w*"], ignore=["wg*"])).view(None).links) == {"wlan0", "wwan0"}
    assert set(tables(*links, config=link.Config(devices=["lo"], ignore=[])).view(None).links) == {"lo"}
    assert not tables(*links, config=link.Config(devices=[])).view(None).links


def test_devices_are_bounded_and_what_is_over_is_counted():
    view = tables(*(other(i, f"vlan{i}") for i in range(1, 101))).view(None)

    assert (len(view.links), view.over, "vlan1" in view.links) == (link.MAX_DEVICES, 36, True)


def test_only_what_ordinary_traffic_takes_is_a_default_route():
    routes = [
        DEFAULT,
        dataclasses.replace(DEFAULT, table=100),
        dataclasses.replace(DEFAULT, type=7),
        dataclasses.replace(DEFAULT, hops=(Hop("192.0.2.1", 99),)),  # over a device that is not watched
        Route(V4, 254, 1, "10.0.0.0", 8, 0, (Hop("192.0.2.9", 1),)),
        Route(V4, 254, 1, "", 0, 50, (Hop("198.51.100.1", 2), Hop("", 3))),
    ]
    view = tables(ETH, other(2, "wan1"), other(3, "ppp0"), *routes).view(None)

    assert [str(g) for g in view.gateways] == ["dev ppp0", "via 198.51.100.1 dev wan1", "via 192.0.2.1 dev eth0"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [("reachable", True), ("stale", True), ("probe", True), ("permanent", True), ("failed", False), ("incomplete", None), ("none", None)],
)
def test_the_neighbour_states_that_say_something(state, expected):
    view = tables(ETH, DEFAULT, Neighbour(1, V4, "192.0.2.1", state)).view(None)

    assert view.reachable.get(("eth0", V4)) is expected


def test_a_gateway_keeps_its_verdict_while_the_kernel_has_none():
    made = tables(ETH, DEFAULT, Neighbour(1, V4, "192.0.2.1", "failed"))
    failed = made.view(None)
    made.hear(False, Neighbour(1, V4, "192.0.2.1", "failed"))
    forgotten = made.view(failed)
    made.hear(True, Neighbour(1, V4, "192.0.2.1", "incomplete"))
    asking = made.view(forgotten)
    made.take(netlink.GETROUTE, [dataclasses.replace(DEFAULT, hops=(Hop("192.0.2.254", 1),))])

    assert [v.reachable for v in (failed, forgotten, asking)] == [{("eth0", V4): False}] * 3
    assert made.view(asking).reachable == {}  # another gateway: nothing is known of it yet


def test_another_hosts_neighbour_changes_nothing():
    made = tables(ETH, DEFAULT, Neighbour(1, V4, "192.0.2.1", "reachable"))
    before = made.view(None)
    made.hear(True, Neighbour(1, V4, "192.0.2.77", "failed"))

    assert made.view(before) == before


def test_link_local_addresses_are_not_counted():
    view = tables(ETH, Address(1, V4, "192.0.2.9", 24), Address(1, V6, "fe80::1", 64, 253), Address(9, V4, "10.0.0.1", 8)).view(None)

    assert view.addresses == {"eth0": {"192.0.2.9/24"}}


def test_equal_views_have_no_events():
    view = tables(ETH, DEFAULT, Address(1, V4, "192.0.2.9", 24)).view(None)
    busier = tables(dataclasses.replace(ETH, stats=None), DEFAULT, Address(1, V4, "192.0.2.9", 24)).view(view)

    assert list(link.changes(view, busier)) == []


def test_every_event_kind_is_declared():
    before = tables(ETH, other(2, "usb0"), DEFAULT, Address(1, V4, "192.0.2.9", 24), Neighbour(1, V4, "192.0.2.1", "stale")).view(None)
    after = tables(
        dataclasses.replace(ETH, carrier=False), other(3, "wlan0"), DEFAULT, Address(1, V4, "192.0.2.8", 24),
        Neighbour(1, V4, "192.0.2.1", "failed"),
    ).view(before)  # fmt: skip
    there = [e.kind for e in link.changes(before, after)]
    back = [e.kind for e in link.changes(after, before)]

    assert there == ["link_vanished", "link_appeared", "link_down", "address_added", "address_removed", "gateway_neighbour_failed"]
    assert set(there + back) | {"gateway_changed"} == set(link.EVENTS) == set(link.KIND.events)


def test_metrics_are_declared_once_and_all():
    made = {v for v in vars(link).values() if isinstance(v, type(link.UP))} | set(link.COUNTERS)

    assert made == set(link.METRICS)
    assert len({m.name for m in link.METRICS}) == len(link.METRICS)


@pytest.mark.parametrize(("text", "expected"), [("1000\n", 125e6), ("-1\n", None), ("0\n", None), ("4294967295\n", None), ("x", None)])
def test_speed_is_what_the_driver_knows(tmp_path, text, expected):
    folder = tmp_path / "sys/class/net/eth0"
    folder.mkdir(parents=True)
    (folder / "speed").write_text(text)

    assert link.read_speed(tmp_path, "eth0") == expected
    assert link.read_speed(tmp_path, "wlan0") is None


def test_speed_is_asked_again_only_when_the_carrier_changed(tmp_path):
    folder = tmp_path / "sys/class/net/eth0"
    folder.mkdir(parents=True)
    (folder / "speed").write_text("100")
    watcher = link.LinkWatcher(link.Config(), Env(FakeClock(), Net(tmp_path), tmp_path))

    def speeds(made: Link) -> list[float]:
        return [s.value for s in watcher._samples(tables(made).view(None)) if s.metric is link.SPEED]

    assert speeds(ETH) == [12.5e6]
    (folder / "speed").write_text("1000")
    assert speeds(ETH) == [12.5e6]
    assert speeds(dataclasses.replace(ETH, carrier_changes=4)) == [125e6]
    assert speeds(dataclasses.replace(ETH, carrier=False, carrier_changes=5)) == []


def test_a_tunnel_has_counters_but_no_carrier():
    found = {s.metric for s in link.device_samples(other(7, "wg0", kind="wireguard"), lost=False, speed=None)}

    assert not found & {link.CARRIER, link.LOST}
    assert {link.UP, *link.COUNTERS} <= found


def test_a_box_without_any_device_has_a_glance_too():
    samples = list(link.LinkWatcher(link.Config(), real_env())._samples(tables().view(None)))

    assert link.glance(samples) == "tidak ada yang tersambung, gerbang tidak ada"


def test_an_inconsistent_table_is_given_up_after_some_tries():
    async def main() -> None:
        with link.Kernel(SystemClock(), 5.0) as kernel:

            async def torn(get: int) -> None:
                return None

            kernel._dump_once = torn
            with pytest.raises(OSError) as caught:
                await kernel.dump(netlink.GETLINK)
            assert caught.value.errno == errno.EAGAIN

    asyncio.run(main())
