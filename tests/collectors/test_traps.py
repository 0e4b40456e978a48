"""The kind traps: real snmptrap and snmpinform over loopback; who may speak, what is told, what a storm becomes, what outlives a restart.

Law: sockets and senders are real, time is not: a turn lets three seconds pass.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.collector import Env
from agent.detect import casebook, patrol, seen
from agent.model import Event, Sample
from agent.net import Net
from agent.snmp import receiver
from agent.snmp.notifications import NAMES, Engine
from agent.snmp.wire import Credentials
from agent.structure import ConfigError, loads
from collectors import traps
from tests.collectors.test_guard import awaited, of
from tests.collectors.test_syslog import overflown
from tests.fakes import FakeClock
from tests.snmp import senders, snmpd
from tests.snmp.snmpd import USERS

pytestmark = pytest.mark.needs("snmptrap", "snmpinform")
V1, V2, V3 = Credentials("1", "rahasia"), Credentials("2c", "rahasia"), USERS["aes"]
STRANGER = "127.0.0.2"


def written(folder: Path, who: Credentials) -> str:
    path = folder / f"{who.user or who.version}.yaml"
    said = {"version": who.version, "community": who.community, "user": who.user, "auth": who.auth, "auth_password": who.auth_password}
    said |= {"privacy": who.privacy, "privacy_password": who.privacy_password}
    path.write_text(json.dumps({name: value for name, value in said.items() if value}))
    path.chmod(0o600)
    return str(path)


class Box:
    """The watcher at work, its senders, and what it says."""

    def __init__(self, folder: Path, **config: Any) -> None:
        (folder / "data").mkdir(exist_ok=True)
        self.folder, self.clock = folder, FakeClock()
        said = {"listen": "127.0.0.1:0", "senders": {"router": "127.0.0.1"}, "credentials_file": written(folder, V2)} | config
        self.env = Env(self.clock, Net(folder), folder, folder / "data", "DKC")
        self.watcher: Any = traps.build(loads(json.dumps(said).encode(), traps.Config, "x"), self.env)
        self.picture: list[Sample] = []
        self.events: list[Event] = []

    task: asyncio.Task[None]

    async def run(self) -> None:
        async with contextlib.aclosing(self.watcher.watch()) as pictures:
            async for picture in pictures:
                self.events += [seen for seen in picture if isinstance(seen, Event)]
                self.picture = [seen for seen in picture if isinstance(seen, Sample)] or self.picture

    async def until(self, condition: Callable[[], Any]) -> None:
        for _ in range(4000):
            if condition():
                return
            if self.task.done():
                self.task.result()
            await asyncio.sleep(0.0025)
        raise AssertionError(f"it did not come: {self.watcher.received}, {self.watcher.refused}")

    async def turns(self, seconds: float) -> Sequence[Event]:
        """Lets time pass, turn by turn, and gives the events of it."""
        before = len(self.events)
        for _ in range(int(seconds / traps.TURN)):
            await self.until(lambda: any(not alarm.cancelled for _, _, alarm, _ in self.clock._heap))
            await self.clock.advance(traps.TURN)
        await self.until(lambda: any(not alarm.cancelled for _, _, alarm, _ in self.clock._heap))
        return self.events[before:]

    async def send(self, who: Credentials, trap: str, *values: str, **how: Any) -> None:
        """Sends one, and waits until it is heard or refused."""
        before = self.came
        run = senders.send(self.folder, self.watcher.port, who, trap, *values, **how, wait=False)
        await self.until(lambda: run.poll() is not None)
        assert run.returncode == 0 or how.get("inform"), (self.folder / "said").read_text()
        await self.until(lambda: self.came > before)

    async def raw(self, *datagrams: bytes, source: str = "127.0.0.1") -> None:
        """Many at once."""
        before = self.came
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((source, 0))
            for n, data in enumerate(datagrams):
                sender.sendto(data, ("127.0.0.1", self.watcher.port))
                if n % 32 == 31:
                    await self.until(lambda n=n: self.came > before + n)  # type: ignore[misc]
        await self.until(lambda: self.came >= before + len(datagrams))

    @property
    def came(self) -> int:
        return int(self.watcher.received.total() + self.watcher.refused.total())

    def value(self, name: str, *labels: str) -> float | None:
        return next((s.value for s in self.picture if s.metric.name == name and s.labels == labels), None)

    def told(self) -> list[tuple[str, str, int]]:
        return [(e.fields["trap"], e.fields.get("ronda.interface", ""), e.count) for e in self.events if e.kind == "trap"]


@contextlib.asynccontextmanager
async def box(folder: Path, **config: Any) -> AsyncIterator[Box]:
    it = Box(folder, **config)
    it.task = asyncio.create_task(it.run())
    try:
        await it.until(lambda: it.picture)
        yield it
    finally:
        it.task.cancel()
        await asyncio.gather(it.task, return_exceptions=True)


def packet(trap: int = 5, community: bytes = b"rahasia") -> bytes:
    """A v2c trap without variables, as small as one is."""
    name, value = bytes.fromhex("060a2b060106030101040100"), bytes.fromhex("06092b0601060301010500")[:-1] + bytes((trap,))
    pair = b"\x30" + bytes((len(name) + len(value),)) + name + value
    pdu = b"\2\1\1\2\1\0\2\1\0\x30" + bytes((len(pair),)) + pair
    whole = b"\2\1\1\4" + bytes((len(community),)) + community + b"\xa7" + bytes((len(pdu),)) + pdu
    return b"\x30" + bytes((len(whole),)) + whole


# -- what is told -----------------------------------------------------------------------------------------------------------------


@awaited
async def test_traps_of_every_version_are_events_and_counted(tmp_path: Path) -> None:
    senders_ = {"router": "127.0.0.1", "ups": "127.0.0.3"}
    files = {"ups": written(tmp_path, V3)}
    async with box(tmp_path, senders=senders_, credentials_files=files) as it:
        await it.send(V1, senders.COLD)
        await it.send(V2, senders.DOWN, *senders.ETHER1)
        await it.send(V2, senders.UP, *senders.ETHER1, inform=True)
        await it.send(V3, senders.FAILURE, source="127.0.0.3")
        await it.send(V3, senders.WARM, source="127.0.0.3", inform=True)
        await it.turns(6.0)
        assert it.told() == [
            ("cold_start", "", 1), ("link_down", "ether1", 1), ("link_up", "ether1", 1), ("authentication_failure", "", 1),
            ("warm_start", "", 1),
        ]  # fmt: skip
        events = [e for e in it.events if e.kind == "trap"]
        assert [e.fields["ronda.device"] for e in events] == ["router"] * 3 + ["ups"] * 2
        assert {e.severity for e in events} == {"info"}
        assert events[1].fields["uptime_seconds"] == "42"
        await it.turns(15.0)
        for name in (*NAMES, "other"):
            assert it.value("ronda_traps_received_total", name) == (name not in ("egp_neighbour_loss", "other"))
        assert it.value("ronda_traps_last_timestamp_seconds", "router") > 0
        assert sum(it.watcher.refused.values()) == 0
        assert {s.value for s in it.picture if s.metric is patrol.COVERAGE} == {1.0}


@awaited
async def test_an_interface_that_is_named_by_its_number_gets_its_name_from_the_board(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await it.send(V2, senders.DOWN, *senders.ETHER2)
        it.env.board.post("router", seen.Interfaces("router", {4: "sfp1"}), 0.0)
        await it.send(V2, senders.DOWN, *senders.ETHER2)
        it.env.board.post("router", seen.Interfaces("router", {4: "<pppoe-budi>"}), 0.0)
        await it.send(V2, senders.DOWN, *senders.ETHER2)
        await it.turns(3.0)
    assert it.told() == [("link_down", "4", 1), ("link_down", "sfp1", 1), ("link_down", "<pppoe-budi>", 1)]
    assert [e.fields.get("user.name", "") for e in it.events if e.kind == "trap"] == ["", "", "budi"]


@awaited
async def test_a_storm_of_refused_logins_is_one_finding_and_few_events(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        for _ in range(10):
            await it.raw(*[packet()] * 100)
            await it.turns(6.0)
        assert it.watcher.received["authentication_failure"] == 1000
        found = [e for e in it.events if e.kind == "trap_auth_failure"]
        assert of(found, "trap_auth_failure") == [("open", "medium"), *[("update", "medium")] * 3]
        assert len({e.fields["event.id"] for e in found}) == 1
        assert found[-1].count >= 1000
        assert len(it.events) <= 20
        assert sum(n for _, _, n in it.told()) == 1000
        await it.turns(15.0)
        assert it.value("ronda_condition_active", "trap_auth_failure", "medium") == 1.0


@awaited
async def test_who_sends_too_much_loses_his_own_and_nobody_elses(tmp_path: Path) -> None:
    async with box(tmp_path, senders={"router": "127.0.0.1", "ups": "127.0.0.3"}) as it:
        await it.raw(*[packet()] * 400)
        assert it.watcher.received["authentication_failure"] == receiver.BURST
        assert it.watcher.refused["flood"] == 200
        await it.raw(packet(1), source="127.0.0.3")
        assert it.watcher.received["cold_start"] == 1
        await it.turns(3.0)
        await it.raw(packet(2))
        assert it.watcher.received["warm_start"] == 1, "three seconds later there is room again"


@awaited
async def test_a_port_that_matters_is_told_after_half_a_minute_and_closed(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await it.send(V2, senders.DOWN, *senders.ETHER1)
        assert of(await it.turns(27.0), "trap_link_down") == []
        found = await it.turns(9.0)
        assert of(found, "trap_link_down") == [("open", "medium")]
        fields = next(e.fields for e in found if e.kind == "trap_link_down")
        assert (fields["ronda.device"], fields["ronda.interface"]) == ("router", "ether1")
        await it.send(V2, senders.UP, *senders.ETHER1)
        assert of(await it.turns(3.0), "trap_link_down") == [("closed", "medium")]


@awaited
async def test_what_is_down_when_it_is_restarted_is_closed_afterwards(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await it.send(V2, senders.DOWN, *senders.ETHER1)
        await it.turns(36.0)
    async with box(tmp_path) as it:
        await it.send(V2, senders.UP, *senders.ETHER1)
        assert of(await it.turns(3.0), "trap_link_down") == [("closed", "medium")]


@pytest.mark.needs("snmpd")
@awaited
async def test_a_real_device_is_heard_as_docs_say(tmp_path: Path) -> None:
    """net-snmp's snmpd with the lines of docs/operations: by v3, as informs; it starts, and somebody tries a community."""
    async with box(tmp_path, credentials_file=written(tmp_path, V3)) as it:
        session = f"-v 3 -u {V3.user} -l authPriv -a SHA -A {V3.auth_password} -x AES -X {V3.privacy_password}"
        lines = [f"trapsess {session} -Ci 127.0.0.1:{it.watcher.port}", "authtrapenable 1"]
        with contextlib.ExitStack() as stack:
            device = await asyncio.to_thread(stack.enter_context, snmpd.running(tmp_path / "device", lines=lines))
            await it.until(lambda: it.watcher.received["cold_start"])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guesser:
                for _ in range(5):
                    guesser.sendto(snmpd.HELLO.replace(b"rahasia", b"ngawurr"), (device.address, device.port))
                    await asyncio.sleep(0.02)
            await it.until(lambda: it.watcher.received["authentication_failure"] == 5)
            found = await it.turns(6.0)
    assert of(found, "trap_auth_failure") == [("open", "medium")]
    assert of(found, "trap_cold_start") == [("open", "low")]
    assert it.watcher.refused.total() == 0


# -- who is refused ---------------------------------------------------------------------------------------------------------------


@awaited
async def test_each_reason_is_counted_and_said_once(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        for _ in range(3):
            await it.send(V2, senders.COLD, source=STRANGER)
            await it.send(V2._replace(community="public"), senders.COLD)
            await it.send(V3, senders.COLD)
            await it.raw(b"", b"\x30", packet()[:-1], bytes(9000))
        await it.turns(3.0)
        counted = {reason: n for reason, n in it.watcher.refused.items() if n}
        assert counted == {"sender": 3, "community": 3, "version": 3, "malformed": 12}
        said = [(e.fields["source.ip"], e.fields["reason"]) for e in it.events if e.kind == "trap_refused"]
        assert said == [(STRANGER, "sender"), ("127.0.0.1", "community"), ("127.0.0.1", "version"), ("127.0.0.1", "malformed")]
        assert it.told() == []
        await it.turns(15.0)
        assert it.value("ronda_traps_refused_total", "sender") == 3.0
    assert [s for s in it.picture if s.metric is casebook.ACTIVE] == []


@awaited
async def test_many_strangers_are_counted_and_few_are_named(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        for n in range(2, 42):
            await it.raw(packet(), source=f"127.0.1.{n}")
        await it.turns(3.0)
        assert it.watcher.refused["sender"] == 40
        assert len([e for e in it.events if e.kind == "trap_refused"]) == traps.REFUSALS


@awaited
async def test_a_user_with_a_wrong_password_is_refused_and_his_inform_is_not_acknowledged(tmp_path: Path) -> None:
    async with box(tmp_path, credentials_file=written(tmp_path, V3)) as it:
        await it.send(V3._replace(auth_password="kata-yang-salah"), senders.COLD)
        await it.send(V3._replace(auth_password="kata-yang-salah"), senders.COLD, inform=True)
        await it.send(V3._replace(user="budi"), senders.COLD)
        assert it.watcher.refused["auth"] == it.came >= 3
        await it.send(V3, senders.COLD)
        assert it.watcher.received["cold_start"] == 1


@awaited
async def test_an_engine_that_config_names_is_the_only_one(tmp_path: Path) -> None:
    config = {"credentials_file": written(tmp_path, V3), "engine_ids": {"router": "0x" + senders.ENGINE}}
    async with box(tmp_path, **config) as it:
        await it.send(V3, senders.COLD, engine="80001f8804aabbcc99")
        assert it.watcher.refused["auth"] == 1
        await it.send(V3, senders.COLD)
        assert it.watcher.received["cold_start"] == 1


@awaited
async def test_credentials_that_change_are_taken_up(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        written(tmp_path, V2._replace(community="baru"))
        await it.turns(traps.RELOAD + 3.0)
        await it.raw(packet(), packet(community=b"baru"))
        assert it.watcher.refused["community"] == it.watcher.received["authentication_failure"] == 1


@awaited
async def test_without_credentials_the_community_is_public_and_the_gateway_may_speak(tmp_path: Path) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    (tmp_path / "proc/net/route").write_text(head + "lo\t00000000\t0500007F\t0003\t0\t0\t0\t00000000\t0\t0\t0\n")
    async with box(tmp_path, senders={"router": "gateway"}, credentials_file=None) as it:
        await it.raw(packet(community=b"public"))
        assert it.watcher.refused["sender"] == 1
        await it.raw(packet(community=b"public"), source="127.0.0.5")
        assert it.watcher.received["authentication_failure"] == 1


# -- the socket, the engine, the config -------------------------------------------------------------------------------------------


@awaited
async def test_a_port_that_is_taken_and_credentials_that_are_not_there_are_said(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        it = Box(tmp_path, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(OSError, match="in use"):
            await it.run()
    with pytest.raises(OSError, match=r"tak-ada"):
        await Box(tmp_path, credentials_file="/tak-ada.yaml").run()
    Path(written(tmp_path, V2)).chmod(0o644)
    with pytest.raises(OSError, match="open to everybody"):
        await traps.build(it.watcher._config, it.env).watch().__anext__()


@awaited
async def test_what_systemds_socket_lost_before_us_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It outlives the agent: each start would else tell of a flood that is long over."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(("127.0.0.1", 0))
        assert overflown(sock, packet())
        monkeypatch.setattr(receiver, "handed", lambda _: [sock.dup()])
        it = receiver.Receiver("", {}, Engine(b"12345", 1, 0.0), FakeClock(), lambda *_: None, lambda *_: None)
        try:
            assert it.lost == 0
            assert overflown(sock, packet()) == it.lost > 0
        finally:
            it.close()


def test_what_systemd_hands_over_is_read(tmp_path: Path) -> None:
    code = """
import asyncio, os
from agent.clock import SystemClock
from agent.snmp.notifications import Engine
from agent.snmp.receiver import Receiver, Whom
from agent.snmp.wire import Credentials
os.environ["LISTEN_PID"] = str(os.getpid())
async def run():
    for _ in range(2):
        told = []
        it = Receiver("127.0.0.1:162", {"a": Whom(Credentials("2c", "rahasia"))}, Engine(b"12345678", 1, 0.0), SystemClock(),
            lambda *said: told.append(said[1].name), print)
        it.senders = {"127.0.0.1": "a"}
        print(it.port, flush=True)
        while not told:
            await asyncio.sleep(0.01)
        print(told[0], flush=True)
        it.close()
asyncio.run(run())
"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handed:
        handed.bind(("127.0.0.1", 0))
        port = handed.getsockname()[1]
        environ = {**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "traps"}
        move = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.executable, [sys.executable, '-c', sys.argv[2]])"
        command = [sys.executable, "-c", move, str(handed.fileno()), code]
        root = Path(__file__).parents[2]
        with subprocess.Popen(command, cwd=root, env=environ, stdout=subprocess.PIPE, text=True, pass_fds=[handed.fileno()]) as child:
            assert child.stdout
            for number, name in ((1, "cold_start"), (2, "warm_start")):
                assert child.stdout.readline() == f"{port}\n"
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.bind(("127.0.0.1", 0))
                    sender.sendto(packet(number), ("127.0.0.1", port))
                assert child.stdout.readline() == f"{name}\n"


def test_our_engine_counts_its_beginnings_and_stays_the_same(tmp_path: Path) -> None:
    first, second = traps.engine(tmp_path, 0.0), traps.engine(tmp_path, 5.0)
    assert second == Engine(first.id, 2, 5.0)
    assert first.boots == 1
    (tmp_path / traps.ENGINE).write_text('{"id": "00", "boots": -4}')
    third = traps.engine(tmp_path, 0.0)
    assert (third.boots, third.id != first.id) == (1, True)
    assert traps.engine(tmp_path / "tak-ada", 0.0).boots == 1


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("senders: {}", "are one to"),
        ("senders: {a: 192.0.2.1, b: 192.0.2.1}", "twice"),
        ("senders: {a: router.example}", "is not a sender"),
        ("{senders: {a: gateway}, listen: 'kotak:162'}", "is not an address"),
        ("{senders: {a: gateway}, engine_ids: {b: 8000000001}}", "none of senders"),
        ("{senders: {a: gateway}, engine_ids: {a: 80}}", "is not an engine id"),
        ("{senders: {a: gateway}, credentials_files: {b: /x}}", "none of senders"),
        ("{senders: {a: gateway}, important: ['(']}", "regular expression"),
        ("{senders: {a: gateway}, suppress: [{rule: brute_force, until: 2026-12-31, reason: memang begitu}]}", "is no rule of traps"),
    ],
)
def test_a_config_that_can_not_be_meant_is_refused(line: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        loads(line.encode(), traps.Config, "x")


def test_once_shows_what_comes_whoever_sends_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = [f"listen=127.0.0.1:{port}", "senders={router: 127.0.0.1}", f"credentials_file={written(tmp_path, V2)}"]
    command = [sys.executable, "-m", "agent", "once", "traps", *said, "--timeout", "2s", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        while f":{port:04X} " not in Path("/proc/net/udp").read_text():
            assert run.poll() is None
        senders.send(tmp_path, port, V2, senders.DOWN, *senders.ETHER1)
        senders.send(tmp_path, port, V2, senders.DOWN, source=STRANGER)
        assert run.stdout
        found = json.loads(run.stdout.read())
    assert run.returncode == 0
    assert [(row["from"], row["trap"]) for row in found["came"]] == [("router", "link_down"), (STRANGER, "")]
    assert (found["came"][0]["interface"], found["came"][1]["refused"].partition(":")[0]) == ("ether1", "sender")


def test_once_says_who_has_the_port(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        assert main(["once", "traps", f"listen=127.0.0.1:{taken.getsockname()[1]}", "senders={router: 127.0.0.1}"]) == 1
    assert "in use" in capfd.readouterr().out
