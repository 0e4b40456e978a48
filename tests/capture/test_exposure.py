"""What the gateway offers, looked at in a namespace with a real snmpd and real listeners; what is sent, and what is never."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.snmp import SNMP

from agent.capture.exposure import Exposure, Pace, answers, get_sysdescr
from agent.clock import SystemClock
from agent.detect import seen
from agent.detect.exposure import PORTS
from tests.capture.eyes import BOX, PEER, Wire
from tests.fakes import FakeClock
from tests.lab.netns import Lab, until

QUICK = Pace(first=0.05, every=0.1, between=0.0, connect=0.3, answer=0.3)
HERE = seen.Network("eth0", "02:00:00:00:00:01", (BOX,), ("192.0.2.0/24",), ("fe80::1", PEER))
NOWHERE = HERE._replace(gateways=())


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    with Lab(tmp_path_factory.mktemp("exposure")) as lab:
        yield Wire(lab)


def look(wire: Wire, network: seen.Network = HERE, pace: Pace = QUICK, told: list[Any] | None = None) -> seen.Exposed | None:
    made = Exposure(SystemClock(), lambda: True, (told if told is not None else []).append, pace)
    made.here(network)
    with wire.box.entered():
        return asyncio.run(made.look())


@contextlib.contextmanager
def offering(wire: Wire, *ports: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        made = []
        for port in ports:
            with wire.peer.entered():
                made.append(stack.enter_context(socket.create_server((PEER, port))))
        yield made


@contextlib.contextmanager
def snmpd(wire: Wire, *lines: str) -> Iterator[None]:
    path = wire.lab.directory / "snmpd.conf"
    path.write_text("\n".join(lines) + "\n")
    daemon = wire.peer.start("snmpd", "snmpd", "-f", "-Lo", "-C", "-c", str(path), "-r", f"udp:{PEER}:161", env={"MIBS": "", "MIBDIRS": ""})
    try:
        until(lambda: ":00A1 " in wire.peer.run("cat", "/proc/net/udp").stdout, 10, "snmpd listens")
        yield
    finally:
        daemon.stop()


@pytest.mark.lab
def test_a_router_that_offers_nothing_is_told_as_that(wire: Wire) -> None:
    told: list[Any] = []
    assert look(wire, told=told) == seen.Exposed(PEER, (), "")
    assert told == [seen.Exposed(PEER, (), "")]


@pytest.mark.lab
@pytest.mark.needs("snmpd")
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["rocommunity public"], "2c"),
        (["com2sec all default public", "group all v1 all", "view all included .1", 'access all "" any noauth exact all none none'], "1"),
        (["com2sec a default public", "group a v2c a", "view none included .2.5", 'access a "" any noauth exact none none none'], "2c"),
        (["rocommunity rahasia"], ""),
    ],
    ids=["both", "v1", "nothing to see", "another community"],
)
def test_ports_and_a_real_snmpd(wire: Wire, lines: list[str], said: str) -> None:
    with offering(wire, 23, 8291), snmpd(wire, *lines):
        assert look(wire) == seen.Exposed(PEER, (23, 8291), said)


@pytest.mark.lab
def test_each_port_gets_one_connection_without_a_byte(wire: Wire) -> None:
    with offering(wire, *PORTS) as listeners:
        assert look(wire) == seen.Exposed(PEER, PORTS, "")
        for listener in listeners:
            listener.settimeout(2)
            taken, _ = listener.accept()
            with taken:
                taken.settimeout(2)
                assert taken.recv(100) == b""
            listener.settimeout(0.05)
            with pytest.raises(TimeoutError):
                listener.accept()


@pytest.mark.lab
@pytest.mark.needs("nft")
def test_a_router_that_drops_everything_offers_nothing_and_one_that_is_not_there_is_not_told_of(wire: Wire) -> None:
    wire.peer.run("nft", "add table ip x; add chain ip x i { type filter hook input priority 0; policy drop; }")
    try:
        assert look(wire, pace=QUICK._replace(connect=0.1, answer=0.1)) == seen.Exposed(PEER, (), "")
    finally:
        wire.peer.run("nft", "delete", "table", "ip", "x")
    told: list[Any] = []
    wire.box.run("sysctl", "-qw", "net.ipv4.neigh.eth0.retrans_time_ms=100")  # else the kernel looks for it for three seconds
    assert look(wire, HERE._replace(gateways=("192.0.2.99",)), QUICK._replace(connect=4.0), told) is None
    assert told == []


def test_what_may_not_be_asked_is_not(tmp_path: Path) -> None:
    async def run(allowed: bool, network: seen.Network | None) -> tuple[Any, int]:
        made = Exposure(SystemClock(), lambda: allowed, lambda found: None, QUICK)
        if network:
            made.here(network)
        return await made.look(), made.sent["exposure"]

    for allowed, network in ((False, HERE), (True, NOWHERE), (True, None), (True, HERE._replace(gateways=("fe80::1",)))):
        assert asyncio.run(run(allowed, network)) == (None, 0)


def test_the_switch_stops_a_look_in_the_middle(wire: Wire) -> None:
    left = iter([True, True, True])
    made = Exposure(SystemClock(), lambda: next(left, False), lambda found: None, QUICK)
    made.here(HERE)
    with wire.box.entered():
        assert asyncio.run(made.look()) is None
    assert made.sent["exposure"] == 3


def test_it_looks_five_minutes_after_the_start_and_once_a_day() -> None:
    looks: list[float] = []

    async def run(age: float | None) -> None:
        clock = FakeClock()
        made = Exposure(clock, lambda: True, lambda found: None)
        began = clock.monotonic()

        async def look() -> seen.Exposed:
            looks.append(clock.monotonic() - began)
            return seen.Exposed(PEER, ())

        made.look = look  # type: ignore[method-assign]
        task = asyncio.create_task(made.run(age))
        await clock.advance(180_000.0)
        task.cancel()

    asyncio.run(run(None))
    assert len(looks) == 3
    assert 240 <= looks[0] <= 420
    assert 80_000 < looks[1] - looks[0] < 92_000
    looks.clear()
    asyncio.run(run(80_000.0))
    assert 6_400 <= looks[0] <= 6_520, "an earlier life has looked today"


def test_the_question_is_a_get_of_sysdescr_by_public_alone() -> None:
    """As scapy reads it."""
    for version, number in (("1", 0), ("2c", 1)):
        asked = SNMP(get_sysdescr(version, 0x7FFFFFFF))
        assert (asked.version.val, asked.community.val, type(asked.PDU).__name__, asked.PDU.id.val) == (
            number,
            b"public",
            "SNMPget",
            0x7FFFFFFF,
        )
        assert [binding.oid.val for binding in asked.PDU.varbindlist] == ["1.3.6.1.2.1.1.1.0"]
        assert len(bytes(asked)) == len(get_sysdescr(version, 0x7FFFFFFF))


def test_only_the_answer_to_this_question_is_one() -> None:
    rng = random.Random(1)
    good = {v: get_sysdescr(v, 77).replace(b"\xa0", b"\xa2", 1) for v in ("1", "2c")}
    assert answers(good["2c"], "2c", 77)
    assert answers(good["1"], "1", 77)
    assert not answers(good["1"], "2c", 77)
    assert not answers(good["2c"], "2c", 78)
    assert not answers(get_sysdescr("2c", 77), "2c", 77), "our own question, sent back"
    assert not answers(good["2c"].replace(b"public", b"privat"), "2c", 77)
    for cut in range(len(good["2c"])):
        assert not answers(good["2c"][:cut], "2c", 77)
    for _ in range(2000):
        assert not answers(rng.randbytes(rng.randrange(60)), "2c", 77)
    assert not answers(b"\x30\x84\xff\xff\xff\xff" + good["2c"], "2c", 77)
    long = good["2c"][2:]
    assert answers(b"\x30\x82" + len(long).to_bytes(2, "big") + long, "2c", 77)
