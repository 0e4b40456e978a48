"""The kind syslog: real senders (logger, rsyslogd) and sockets on loopback, what is refused, and what comes of a guessed password.

Law: the sockets are real, time is not where it can be helped; each test listens on a free port and ends its senders.
"""

import asyncio
import collections
import contextlib
import datetime
import json
import os
import socket
import subprocess
import sys
import zoneinfo
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from agent import devicelog
from agent.clock import SystemClock
from agent.collector import Env
from agent.detect.table import SYSLOG
from agent.model import Event
from agent.net import Net
from agent.sockets import dropped
from agent.structure import ConfigError, loads
from agent.wire.rfc5424 import frame
from collectors import syslog
from tests.collectors.test_guard import awaited
from tests.receiver import free_port
from tests.watching import Watching

ROOT = Path(__file__).parents[2]
FAILED = "system,error,critical login failure for user {} from 192.168.88.66 via winbox"
CAME = "system,info,account user admin logged in from 192.168.88.66 via winbox"


class Listening(Watching):
    """The watcher at work on loopback; 127.0.0.1 is the router, 127.0.0.2 a switch, 127.0.0.9 nobody."""

    def __init__(self, data: Path, **config: Any) -> None:
        data.mkdir(exist_ok=True)
        senders = {"router": "127.0.0.1", "switch-1": "127.0.0.2"}
        self.config = syslog.Config(listen="127.0.0.1:0", senders=senders, interval=1.0, **config)
        super().__init__(syslog.SyslogWatcher(self.config, Env(SystemClock(), Net(), data=data, code="DKC")))

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.port = self.watcher.ports[0]
        return self

    def said(self) -> object:
        return self.watcher.counts.messages, self.watcher.counts.refused

    def value(self, name: str, *labels: str) -> float | None:
        return next((s.value for s in self.picture if s.metric.name == name and s.labels == labels), None)

    @property
    def heard(self) -> int:
        return self.watcher.counts.messages["router"]

    @property
    def refused(self) -> dict[str, int]:
        return {reason: n for reason, n in self.watcher.counts.refused.items() if n}

    def send(self, *messages: bytes, source: str = "127.0.0.1") -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind((source, 0))
            for message in messages:
                s.sendto(message, ("127.0.0.1", self.port))

    @contextlib.asynccontextmanager
    async def stream(self, source: str = "127.0.0.1") -> AsyncIterator[asyncio.StreamWriter]:
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        try:
            yield writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def of(events: Sequence[Event], kind: str) -> list[tuple[str, str]]:
    return [(e.fields["ronda.state"], e.fields["ronda.grade"]) for e in events if e.kind == kind]


# -- real senders -----------------------------------------------------------------------------------------------------------------


@pytest.mark.needs("logger")
@pytest.mark.parametrize("options", [["-d", "--rfc3164"], ["-d", "--rfc5424"], ["-T", "--rfc3164"], ["-T", "--rfc5424", "--octet-count"]])
@awaited
async def test_logger_is_heard_in_every_form(options: list[str], tmp_path: Path) -> None:
    async with Listening(tmp_path / "data") as it:
        lines = "".join(f"Failed password for root from 192.0.2.66 port {4000 + n} ssh2\n" for n in range(7))
        command = ["logger", "-n", "127.0.0.1", "-P", str(it.port), *options, "-t", "sshd"]
        sent = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE)
        await sent.communicate(lines.encode())
        await it.until(lambda: it.heard == 7)
        await it.until(lambda: bool(it.events))
        assert of(it.events, "router_login_failures") == [("open", "high")]
        assert it.events[0].fields["source.ip"] == "192.0.2.66"
        assert it.events[0].fields["ronda.device"] == "router"
        assert it.refused == {}
        await it.until(lambda: it.value("ronda_devicelog_login_failures_total", "ssh") == 7.0)


RSYSLOG = """global(workDirectory="{folder}")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{folder}/log" CreatePath="on")
action(type="omfwd" target="127.0.0.1" port="{port}" protocol="{protocol}" TCP_Framing="{framing}" template="{template}")
"""


@pytest.mark.needs("rsyslogd", "logger")
@pytest.mark.parametrize(
    ("protocol", "framing", "template"),
    [
        ("udp", "traditional", "RSYSLOG_TraditionalForwardFormat"),
        ("tcp", "traditional", "RSYSLOG_ForwardFormat"),
        ("tcp", "octet-counted", "RSYSLOG_SyslogProtocol23Format"),
    ],
)
@awaited
async def test_rsyslog_forwards_to_us(protocol: str, framing: str, template: str, tmp_path: Path) -> None:
    async with Listening(tmp_path / "data") as it:
        config = tmp_path / "rsyslog.conf"
        config.write_text(RSYSLOG.format(folder=tmp_path, port=it.port, protocol=protocol, framing=framing, template=template))
        rsyslogd = await asyncio.create_subprocess_exec("rsyslogd", "-n", f"-i{tmp_path}/pid", "-f", str(config))
        try:
            await it.until((tmp_path / "log").exists)
            logger = ["logger", "-u", str(tmp_path / "log"), "-t", "dropbear", "Bad password attempt for 'root' from 192.0.2.66:5000"]
            for _ in range(3):
                await (await asyncio.create_subprocess_exec(*logger)).wait()
            await it.until(lambda: it.watcher.counts.failed["ssh"] == 3)
            assert it.refused == {}
        finally:
            rsyslogd.terminate()
            await rsyslogd.wait()


# -- what comes of it -------------------------------------------------------------------------------------------------------------


@awaited
async def test_a_guessed_password_a_new_rule_and_a_scan_are_told(tmp_path: Path) -> None:
    async with Listening(tmp_path / "data", hours="00:00-24:00", days=list(syslog.DAYS)) as it:
        it.send(*(FAILED.format(f"u{n}").encode() for n in range(7)))
        it.send(CAME.encode(), b"<30>Jan  1 00:03:07 Kantor Camat system,info nat rule added by admin")
        packet = "firewall,info input: in:bridge out:(unknown 0), proto TCP (SYN), 192.168.88.66:4000->192.168.88.1:{}, len 44"
        it.send(*(packet.format(port).encode() for port in range(20, 40)))
        await it.until(lambda: {"router_login_failures", "router_changed", "router_scanned"} <= {e.kind for e in it.events})
        await it.until(lambda: it.value("ronda_condition_active", "router_login_failures", "critical") == 1.0)
        assert of(it.events, "router_login_failures")[-1][1] == "critical"
        assert of(it.events, "router_changed") == [("open", "high")]
        assert of(it.events, "router_scanned") == [("open", "medium")]
        assert of(it.events, "router_login") == []  # it is still learning from where they come
        change = next(e for e in it.events if e.kind == "router_changed")
        assert change.fields["ronda.written"] == "Jan  1 00:03:07"
        assert all("192.168.88.66" not in e.message for e in it.events)
        assert it.value("ronda_devicelog_changes_total", "firewall") == 1.0
        assert it.value("ronda_devicelog_firewall_drops_total", "inside") == 20.0
        assert (it.value("ronda_detector_coverage", "router_changed"), it.value("ronda_detector_coverage", "router_scanned")) == (0.5, 0.5)


@awaited
async def test_whoever_may_speak_and_when_they_did(tmp_path: Path) -> None:
    async with Listening(tmp_path / "data") as it:
        assert it.value("ronda_detector_coverage", "router_changed") == 0.0
        assert it.value("ronda_devicelog_last_timestamp_seconds", "router") is None
        it.send(b"<13>x", source="127.0.0.9")
        it.send(b"<13>x", b"\xff\xff", b"<13>" + b"x" * 9000, source="127.0.0.2")
        it.send(b"<13>x")
        async with it.stream("127.0.0.9") as stranger:
            stranger.write(b"<13>x\n")
            with contextlib.suppress(OSError):
                await stranger.drain()
            await it.until(lambda: it.refused.get("sender") == 2)
        await it.until(lambda: it.value("ronda_devicelog_messages_total", "switch-1") == 1.0)
        assert it.refused == {"sender": 2, "malformed": 1, "long": 1}
        await it.until(lambda: it.value("ronda_detector_coverage", "router_changed") == 1.0)
        assert it.value("ronda_devicelog_last_timestamp_seconds", "router") is not None


@awaited
async def test_a_flood_of_one_sender_takes_nothing_of_another(tmp_path: Path) -> None:
    async with Listening(tmp_path / "data") as it:
        for n in range(100):
            it.send(*[b"<13>flood"] * 100)
            if n % 25 == 0:
                it.send(b"<13>calm", source="127.0.0.2")
            await asyncio.sleep(0)
        it.send(b"<13>calm", source="127.0.0.2")
        await it.until(lambda: it.watcher.counts.messages["switch-1"] == 5)
        await it.until(lambda: it.heard + it.refused.get("flood", 0) == 10_000)  # what the kernel threw away is counted once a turn
        assert it.heard < 5_000
        assert it.refused.keys() == {"flood"}


@awaited
async def test_a_flood_beyond_all_measure_is_left_to_the_kernel_and_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devicelog, "MOST", 100)
    async with Listening(tmp_path / "data") as it:
        it.send(*[b"<13>flood"] * 150)
        await it.until(lambda: it.heard == 150)  # in the seconds after
        it.send(b"<13>calm", source="127.0.0.2")
        await it.until(lambda: it.watcher.counts.messages["switch-1"] == 1)
        assert it.refused == {}


@awaited
async def test_a_flood_by_tcp_waits_and_loses_nothing(tmp_path: Path) -> None:
    async with Listening(tmp_path / "data") as it, it.stream() as writer:
        writer.write(b"".join(b"<13>one of many\n" for _ in range(500)))
        await it.until(lambda: it.heard == 500)
        assert it.refused == {}


@awaited
async def test_half_messages_endless_ones_and_many_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devicelog, "HALF", 1.0)
    async with Listening(tmp_path / "data") as it:
        async with it.stream() as writer:
            writer.write(b"<13>one\n<13>tw")
            await it.until(lambda: it.heard == 1)
            writer.write(b"o\n" + frame(b"<13>three")[:5])
            await it.until(lambda: it.refused == {"malformed": 1})  # its end never came
            assert it.heard == 2
        async with it.stream() as writer:
            writer.write(b"<13>" + b"x" * 3_000_000 + b"\n" + b"4000000 <13>" + b"y" * 3_999_996 + b"<13>after\n")
            await it.until(lambda: it.heard == 3)
            assert it.refused == {"malformed": 1, "long": 2}
        async with it.stream() as writer:
            writer.write(b"<13>without its newline")
        await it.until(lambda: it.heard == 4)
        async with contextlib.AsyncExitStack() as many:
            writers = [await many.enter_async_context(it.stream()) for _ in range(devicelog.MOST_EACH + 3)]
            for writer in writers[-devicelog.MOST_EACH :]:
                writer.write(b"<13>of the newest\n")
            await it.until(lambda: it.heard == 4 + devicelog.MOST_EACH)


def overflown(sock: socket.socket, *messages: bytes) -> int:
    """Sends so many times more than the socket holds; how many the kernel threw away."""
    before = dropped(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for message in messages * 100:
            sender.sendto(message, sock.getsockname())
    return dropped(sock) - before


@awaited
async def test_what_systemds_socket_lost_before_us_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It outlives the agent: each start would else tell of a flood that is long over."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(("127.0.0.1", 0))
        assert overflown(sock, b"<13>a")
        monkeypatch.setattr(devicelog, "handed", lambda *_: [sock.dup()])
        refused, heard = collections.Counter[str](), list[bytes]()
        it = devicelog.Receiver("", lambda _, message: not heard.append(message), SystemClock(), refused)
        try:
            it.senders = {"127.0.0.1": "router"}
            it.check()
            assert refused["flood"] == 0
            lost = overflown(sock, b"<13>b")
            it.check()
            it.check()
            assert refused["flood"] == lost > 0
        finally:
            await it.close()


HANDED = """
import asyncio, collections, os
from agent.clock import SystemClock
from agent.devicelog import Receiver
os.environ["LISTEN_PID"] = str(os.getpid())
async def run():
    for _ in range(2):  # a reload finds them again
        heard = []
        it = Receiver("127.0.0.1:1", lambda name, message: bool(heard.append(message)) or True, SystemClock(), collections.Counter())
        it.senders = {"127.0.0.1": "router"}
        print(*it.ports, flush=True)
        while len(heard) < 2:
            await asyncio.sleep(0.01)
        print(*sorted(m.decode() for m in heard), flush=True)
        await it.close()
asyncio.run(run())
"""


def test_port_514_as_systemd_hands_it_over() -> None:
    """Both sockets of config/systemd/ronda-syslog.socket, dual-stack as there."""
    unit = (ROOT / "config/systemd/ronda-syslog.socket").read_text()
    assert f"FileDescriptorName={devicelog.NAME}\n" in unit
    assert {"ListenStream=514", "ListenDatagram=514"} <= set(unit.splitlines())
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True))
        port = stream.getsockname()[1]
        datagrams = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        datagrams.bind(("::", port))
        fds = [stream.fileno(), datagrams.fileno()]
        move = "import os, sys; [os.dup2(int(fd), n) for n, fd in enumerate(sys.argv[1:3], 3)]; "
        move += "os.execv(sys.executable, [sys.executable, '-c', sys.argv[3]])"
        environ = {**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "syslog:syslog"}
        command = [sys.executable, "-c", move, *map(str, fds), HANDED]
        child = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, pass_fds=fds)
        assert child.stdout
        for _ in range(2):
            assert child.stdout.readline() == f"{port}\n"
            with socket.create_connection(("127.0.0.1", port)) as s:
                s.sendall(b"stream\n")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.sendto(b"datagram", ("127.0.0.1", port))
            assert child.stdout.readline() == "datagram stream\n"
        assert child.wait(30) == 0
        child.stdout.close()


# -- the config -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("senders: {}", "senders"),
        ("senders: {router: kantor.example}", "senders.router"),
        ("senders: {Router 1: 192.0.2.1}", "senders"),
        ("senders: {a: 192.0.2.1, b: 192.0.2.1}", "twice"),
        ("listen: kantor:514, senders: {a: gateway}", "listen"),
        ("senders: {a: gateway}, hours: 18:00-07:00", "hours"),
        ("senders: {a: gateway}, days: [senin]", "days"),
        ("senders: {a: gateway}, suppress: [{rule: port_scan, until: 2026-12-31, reason: uji coba}]", "no rule of syslog"),
        ("listen: 0.0.0.0:514", "senders"),
    ],
)
def test_mistakes_are_named(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        loads(f"{{{text}}}".encode(), syslog.Config, "x")


def test_a_config_with_everything() -> None:
    text = (
        b'{listen: "0.0.0.0:514", senders: {router: gateway}, admins: [192.0.2.10], scanners: [192.0.2.9], hours: 00:00-24:00, days: [mon]}'
    )
    config = loads(text, syslog.Config, "x")
    assert config.vouched().admins == {"192.0.2.10"}


def test_working_hours_are_the_offices() -> None:
    def at(text: str) -> bool | None:
        wall = datetime.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo("Asia/Jakarta")).timestamp()
        return syslog.in_hours(wall, "Asia/Jakarta", "07:00-18:00", syslog.DAYS[:6])

    assert [at(f"2026-11-24T{t}") for t in ("06:59", "07:00", "17:59", "18:00")] == [False, True, True, False]
    assert (at("2026-11-28T09:00"), at("2026-11-29T09:00")) == (True, False)  # Saturday, Sunday
    assert at("1970-01-01T09:00") is None


def test_a_port_that_may_not_be_had_says_how_it_can() -> None:
    taken = free_port()
    with socket.create_server(("127.0.0.1", taken)), pytest.raises(OSError, match=f"can't listen on 127.0.0.1:{taken}"):
        list(devicelog.opened(f"127.0.0.1:{taken}"))


def test_the_kind_names_its_rules_and_what_they_need() -> None:
    assert set(syslog.KIND.events) == {make(syslog.Vouched()).rule.name for make in SYSLOG}
    assert syslog.glance([]) == "0 dari 0 perangkat terdengar, tidak ada temuan"
    refused = [syslog.REFUSED(5.0, "sender"), syslog.REFUSED(2.0, "flood")]
    assert syslog.glance(refused) == "0 dari 0 perangkat terdengar, 5 pesan pengirim tak dikenal ditolak, tidak ada temuan"


def test_once_shows_what_comes_whoever_sends_it_and_what_is_made_of_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "agent",
        "once",
        "syslog",
        f"listen=127.0.0.1:{port}",
        "senders={router: 127.0.0.1}",
        "--timeout",
        "1s",
    ]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True) as run:
        while f":{port:04X} " not in Path("/proc/net/udp").read_text():
            assert run.poll() is None
        for source, line in (("127.0.0.1", REFUSED), ("127.0.0.2", REFUSED), ("127.0.0.1", b"\xff")):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind((source, 0))
                sender.sendto(line, ("127.0.0.1", port))
        assert run.stdout
        found = json.loads(run.stdout.read())
    assert run.returncode == 0
    assert (found["heard"], found["listened"]) == (1, f"UDP and TCP port {port} on 127.0.0.1")
    assert [(row["from"], row["understood"], row["refused"].partition(":")[0]) for row in found["came"]] == [
        ("router", "login refused", ""), ("127.0.0.2", "login refused", "sender"), ("router", "", "malformed"),
    ]  # fmt: skip


REFUSED = b"<30>system,error,critical login failure for user admin from 192.0.2.66 via ssh"
