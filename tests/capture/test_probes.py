"""The probes on a wire with real neighbours: two dnsmasq, kernels that answer ARP, a liar; their limits, and their one switch."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.capture.probes import HOSTNAME, SWITCH, Pace, Probes, plausible, probe_mac
from agent.capture.reader import Reader
from agent.clock import SystemClock
from agent.detect import seen
from agent.detect.model import Ask
from agent.detect.reading import read
from agent.wire import names
from tests.capture.eyes import BOX, PEER, Wire
from tests.capture.test_reader import running, until
from tests.lab.netns import Lab

QUICK = Pace(dhcp=0.4, canary=0.5, offers=0.5, answers=0.3, arp=0.05, dhcp_asked=0.05, canary_asked=0.05, arp_asked=0.05)


class Nowhere:
    """A capture that can't send."""

    def send(self, frame: bytes) -> None:
        raise OSError("no capture")

    def expect(self) -> None:
        pass


class Notes:
    """A capture that notes what would have been sent."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)

    def expect(self) -> None:
        pass


HERE = seen.Network("eth0", "02:00:00:00:00:01", (BOX, "fe80::10"), ("192.0.2.0/24", "fe80::/64"))


def probes(sender: Any, tmp_path: Path, *, active: bool = True, told: list[Any] | None = None, pace: Pace = QUICK) -> Probes:
    made = Probes(sender, SystemClock(), tmp_path, (told if told is not None else []).append, active, pace)
    made.here(HERE)
    return made


# -- who is asked, under which name -------------------------------------------------------------------------------------------


def test_the_client_mac_is_rondas_own_and_always_the_same() -> None:
    assert probe_mac("00:11:22:33:44:55") == probe_mac("00:11:22:33:44:55") != probe_mac("00:11:22:33:44:56")
    assert probe_mac("00:11:22:33:44:55").startswith(seen.RONDA_MAC)
    assert len(probe_mac("00:11:22:33:44:55")) == 17


def test_names_are_plausible_and_never_the_same_twice() -> None:
    made = [plausible(random.Random(n)) for n in range(500)]
    assert len(set(made)) == 500
    assert all(len(name) == 15 and names.encode_netbios(name) for name in made)


@pytest.mark.parametrize("switch", ["config", "file"])
def test_one_switch_stops_all_of_them_also_the_wished_for(tmp_path: Path, switch: str) -> None:
    notes, told = Notes(), []
    made = probes(notes, tmp_path, active=switch != "config", told=told)
    if switch == "file":
        (tmp_path / SWITCH).parent.mkdir(parents=True)
        (tmp_path / SWITCH).touch()

    async def run() -> None:
        assert not made.allowed
        assert await made.dhcp() is None
        assert await made.arp(PEER) is None
        assert await made.canary() == []
        task = asyncio.create_task(made.run())
        for wish in (Ask("dhcp"), Ask("canary"), Ask("arp", PEER)):
            made.ask(wish)
        await asyncio.sleep(0.3)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert notes.frames == told == []
    assert not made.sent


def test_where_the_switch_cant_be_looked_for_nothing_is_sent(tmp_path: Path) -> None:
    (tmp_path / "etc").symlink_to("etc")
    assert not probes(Notes(), tmp_path).allowed


def test_the_switch_is_looked_at_before_each(tmp_path: Path) -> None:
    made = probes(Notes(), tmp_path, pace=QUICK._replace(offers=0.0))
    (tmp_path / SWITCH).parent.mkdir(parents=True)
    assert asyncio.run(made.dhcp()) is not None
    (tmp_path / SWITCH).touch()
    assert asyncio.run(made.dhcp()) is None
    (tmp_path / SWITCH).unlink()
    assert asyncio.run(made.dhcp()) is not None


@pytest.mark.parametrize(
    "target", ["198.51.100.1", "192.0.2.255", "192.0.2.0", "fe80::1", "", "gateway", "0.0.0.0", "255.255.255.255", "192.0.2.1\n"]
)
def test_arp_asks_for_hosts_of_our_own_networks_only(tmp_path: Path, target: str) -> None:
    notes = Notes()
    assert asyncio.run(probes(notes, tmp_path).arp(target)) is None
    assert notes.frames == []


def test_arp_asks_as_rfc_5227_says(tmp_path: Path) -> None:
    notes = Notes()
    assert asyncio.run(probes(notes, tmp_path).arp("192.0.2.77")) == seen.ArpProbe("192.0.2.77", ())
    assert len(notes.frames) == 3
    [said] = {tuple(o[1:] for o in read(frame)) for frame in notes.frames}
    assert said == ((1, HERE.mac, "0.0.0.0", seen.NO_MAC, "192.0.2.77"),)


def test_arp_asks_who_else_has_our_own_address_and_we_are_nobody_else(tmp_path: Path) -> None:
    notes = Notes()
    made = probes(notes, tmp_path)

    async def asked() -> seen.ArpProbe | None:
        question = asyncio.ensure_future(made.arp(BOX))
        await asyncio.sleep(0)
        for mac in (HERE.mac, "02:00:00:00:00:66"):
            made.heard(seen.Arp(seen.Frame(mac, HERE.mac, "in"), 2, mac, BOX, HERE.mac, BOX))
        return await question

    found = asyncio.run(asked())
    assert found is not None
    assert found.macs == ("02:00:00:00:00:66",)
    assert len(notes.frames) == 3


def test_what_could_not_be_sent_is_no_probe_without_an_answer(tmp_path: Path) -> None:
    told: list[Any] = []
    made = probes(Nowhere(), tmp_path, told=told)
    assert asyncio.run(made.dhcp()) is None
    assert asyncio.run(made.arp(PEER)) is None
    assert told == []
    assert made.failed == {"dhcp": 1, "arp": 1}


def test_before_it_is_known_where_we_are_nothing_is_sent(tmp_path: Path) -> None:
    notes = Notes()
    made = Probes(notes, SystemClock(), tmp_path, print, pace=QUICK)
    assert asyncio.run(made.dhcp()) is asyncio.run(made.arp(PEER)) is None
    assert asyncio.run(made.canary()) == notes.frames == []


def test_only_offers_for_this_probe_are_its_own_and_they_are_bounded(tmp_path: Path) -> None:
    notes = Notes()
    made = probes(notes, tmp_path, pace=QUICK._replace(offers=0.1))

    async def run() -> seen.DhcpProbe | None:
        task = asyncio.create_task(made.dhcp())
        while not notes.frames:
            await asyncio.sleep(0.001)
        [sent] = read(notes.frames[0], "out")
        assert isinstance(sent, seen.Dhcp)
        assert (sent.type, sent.hostname, sent.broadcast, sent.client_mac) == ("discover", HOSTNAME, True, probe_mac(HERE.mac))
        assert sent.frame.source == HERE.mac
        frame = seen.Frame("02:00:00:00:00:02", seen.BROADCAST, "in")
        for n in range(100):
            made.heard(seen.Dhcp(frame, "offer", sent.xid, sent.client_mac, server=f"192.0.2.{n}"))
            made.heard(seen.Dhcp(frame, "offer", sent.xid ^ 1, sent.client_mac))
            made.heard(seen.Dhcp(frame, "offer", sent.xid, "02:00:00:00:00:77"))
            made.heard(seen.Dhcp(frame, "ack", sent.xid, sent.client_mac))
        return await task

    found = asyncio.run(run())
    assert found is not None
    assert [offer.server for offer in found.offers] == [f"192.0.2.{n}" for n in range(16)]


def test_wishes_are_bounded_and_rated(tmp_path: Path) -> None:
    notes = Notes()
    made = probes(notes, tmp_path, pace=QUICK._replace(arp=0.0, arp_asked=3600.0, dhcp=3600.0, canary=3600.0))

    async def run() -> None:
        task = asyncio.create_task(made.run())
        for n in range(10_000):
            made.ask(Ask("arp", f"192.0.2.{20 + n % 200}"))
        await asyncio.sleep(0.3)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert sum(frame[12:14] == b"\x08\x06" for frame in notes.frames) == 4 * 3


# -- on the wire --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    with Lab(tmp_path_factory.mktemp("probes")) as lab:
        made = Wire(lab)
        made.listen()
        yield made


@contextlib.asynccontextmanager
async def looking(wire: Wire, told: list[Any], tmp_path: Path) -> AsyncIterator[tuple[Reader, Probes]]:
    """Probes over the real capture: what is read is heard, as the collector does it."""

    def take(raw: bytes, direction: Any, which: str) -> None:
        for one in read(raw, direction):
            made.heard(one)
            captured.append(one)

    captured: list[Any] = []
    reader = Reader(wire.path, "eth0", take, SystemClock(), tmp_path)
    made = Probes(reader, SystemClock(), tmp_path, told.append, pace=QUICK)
    made.here(seen.Network("eth0", wire.box_mac, (BOX,), ("192.0.2.0/24",)))
    async with running(reader):
        yield reader, made
    told.append(captured)


def in_the_box(wire: Wire, run: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Ordinary sockets are made where the thread is."""
    with wire.box.entered():
        return asyncio.run(run())


@pytest.mark.lab
@pytest.mark.needs("dnsmasq")
def test_every_dhcp_server_offers_and_no_lease_is_used(wire: Wire, tmp_path: Path) -> None:
    second = wire.lab.namespace("second")
    wire.lab.link(wire.peer, "p2", "0.0.0.0/32", second, "eth0", "192.0.2.2/24")
    bridge = ("link", "add", "br0", "type", "bridge")
    wire.peer.ip(*bridge)
    for device in ("eth0", "p2"):
        wire.peer.ip("link", "set", device, "master", "br0")
    wire.peer.ip("address", "del", f"{PEER}/24", "dev", "eth0")
    wire.peer.ip("address", "add", f"{PEER}/24", "dev", "br0")
    wire.peer.ip("link", "set", "br0", "up")
    leases = [tmp_path / "first.leases", tmp_path / "second.leases"]
    for ns, device, file, first in ((wire.peer, "br0", leases[0], 100), (second, "eth0", leases[1], 150)):
        options = ["--no-ping", f"--dhcp-range=192.0.2.{first},192.0.2.{first + 9},1h", f"--dhcp-leasefile={file}", f"--interface={device}"]
        ns.start(f"dhcp-{first}", "dnsmasq", "--keep-in-foreground", "--port=0", "--conf-file=/dev/null", "--user=root", *options)
    told: list[Any] = []

    async def run() -> list[seen.DhcpProbe | None]:
        async with looking(wire, told, tmp_path) as (_, made):
            found = []
            for _ in range(20):  # the servers are starting
                found.append(await made.dhcp())
                if found[-1] and len({o.server for o in found[-1].offers}) == 2:
                    break
            return found

    last = in_the_box(wire, run)[-1]
    assert {offer.server for offer in last.offers} == {PEER, "192.0.2.2"}
    assert all(offer.client_mac == probe_mac(wire.box_mac) and offer.xid == last.xid for offer in last.offers)
    assert last in told
    assert [file.read_text() for file in leases if file.exists() and file.read_text()] == []


@pytest.mark.lab
def test_who_has_an_address_is_named_by_mac(wire: Wire, tmp_path: Path) -> None:
    told: list[Any] = []

    async def run() -> tuple[seen.ArpProbe | None, seen.ArpProbe | None]:
        async with looking(wire, told, tmp_path) as (_, made):
            return await made.arp("192.0.2.1"), await made.arp("192.0.2.77")

    there, nobody = in_the_box(wire, run)
    assert len(there.macs) == 1
    assert there.frames
    assert nobody == seen.ArpProbe("192.0.2.77", ())


class Liar:
    """Answers every question for a name, on ports 5355, 137 and 5353, with its own address."""

    def __init__(self, wire: Wire) -> None:
        self.asked: list[str] = []
        self._done = threading.Event()
        with wire.peer.entered():
            sockets = {protocol: _in_the_groups(port) for port, protocol in names.PORTS.items()}
        self._threads = [threading.Thread(target=self._answer, args=one) for one in sockets.items()]

    def __enter__(self) -> "Liar":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _answer(self, protocol: names.Protocol, s: socket.socket) -> None:
        with s:
            while not self._done.is_set():
                try:
                    data, client = s.recvfrom(2048)
                except TimeoutError:
                    continue
                self.asked += names.parse(protocol, data).asked
                kind, record = (0x20, b"\0\0" + socket.inet_aton(PEER)) if protocol == "nbns" else (1, socket.inet_aton(PEER))
                answer = data[12:-4] + struct.pack("!HHIH", kind, 1, 30, len(record)) + record
                s.sendto(data[:2] + b"\x84\0\0\1\0\1\0\0\0\0" + data[12:] + answer, client)


def _in_the_groups(port: int) -> socket.socket:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", port))
    for group in ("224.0.0.251", "224.0.0.252"):
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton(PEER))
    s.settimeout(0.1)
    return s


@pytest.mark.lab
def test_a_liar_is_asked_twice_by_different_names_and_named_with_its_mac(wire: Wire, tmp_path: Path) -> None:
    told: list[Any] = []

    async def run() -> list[seen.Canary]:
        async with looking(wire, told, tmp_path) as (_, made):
            return await made.canary()

    with Liar(wire) as liar:
        found = in_the_box(wire, run)
    assert [canary.protocol for canary in found] == ["llmnr", "llmnr", "nbns", "nbns", "mdns", "mdns"]
    assert len({canary.name for canary in found}) == 6
    assert {name.casefold() for name in liar.asked} == {canary.name.casefold() for canary in found}
    for canary in found:
        [(address, mac)] = canary.answered
        assert address == PEER
        assert len(mac) == 17


@pytest.mark.lab
def test_nobody_answers_where_nobody_lies_and_each_name_is_asked_once(wire: Wire, tmp_path: Path) -> None:
    told: list[Any] = []

    async def run() -> list[seen.Canary]:
        async with looking(wire, told, tmp_path) as (_, made):
            return await made.canary()

    found = in_the_box(wire, run)
    assert [(canary.protocol, canary.answered) for canary in found] == [("llmnr", ()), ("nbns", ()), ("mdns", ())]
    captured = told.pop()
    asked = [(o.protocol, o.name.casefold()) for o in captured if isinstance(o, seen.NameQuery) and o.frame.direction == "out"]
    assert asked == [(canary.protocol, canary.name.casefold()) for canary in found]  # the capture saw them go: it lives


@pytest.mark.lab
def test_they_go_round_by_themselves_and_at_a_wish(wire: Wire, tmp_path: Path) -> None:
    told: list[Any] = []

    async def run() -> None:
        async with looking(wire, told, tmp_path) as (_, made):
            task = asyncio.create_task(made.run())
            made.ask(Ask("arp", PEER))
            kinds = (seen.ArpProbe, seen.DhcpProbe, seen.Canary)
            await until(lambda: {kind for kind in kinds for one in told if isinstance(one, kind)} == set(kinds), "each kind has been told")
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    in_the_box(wire, run)
