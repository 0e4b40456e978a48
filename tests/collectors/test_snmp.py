"""snmp against real snmpd, recorded devices and devices that lie: a look ends with samples, a reason, or both; nothing secret is shown."""

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.collector import Env, Result
from agent.config import show
from agent.detect.seen import Bridge, DeviceIdentity, Interfaces, RouterArp
from agent.model import Event, Sample
from agent.net import Net
from agent.scheduler import Scheduler
from agent.snmp import metrics
from agent.snmp.memory import Memory
from agent.structure import ConfigError, loads
from collectors import KINDS, snmp
from tests.fakes import FakeClock
from tests.snmp.recording import COUNTER, COUNTER64, INTEGER, OBJECT, STRING, TICKS, Responder, Row, oid
from tests.snmp.snmpd import AUTH, COMMUNITY, PRIVACY, Snmpd

ROOT = Path(__file__).parents[2]
IF, IFX = "1.3.6.1.2.1.2.2.1", "1.3.6.1.2.1.31.1.1.1"


def config(text: str) -> snmp.Config:
    return loads(text.encode(), snmp.Config, "agent.yaml")


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as e:
        config(text)
    return [f"{p.path}: {p.message}" for p in e.value.problems]


@pytest.fixture
def env(tmp_path: Path) -> Env:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_text("127.0.0.1 switch.example\n")
    (tmp_path / "data").mkdir()
    return Env(FakeClock(), Net(tmp_path), tmp_path, tmp_path / "data")


@pytest.fixture(scope="module")
def snmpd(tmp_path_factory: pytest.TempPathFactory):
    daemon = Snmpd(tmp_path_factory.mktemp("snmpd"))
    daemon.start()
    yield daemon
    daemon.stop()


def secret(folder: Path, text: str, mode: int = 0o640) -> Path:
    path = folder / "router.snmp.yaml"
    path.write_text(text)
    path.chmod(mode)
    return path


def switch(*, ports: int = 3, up: int = 2, more: dict[str, Row] | None = None) -> dict[tuple[int, ...], Row]:
    rows = {
        "1.3.6.1.2.1.1.1.0": Row(STRING, b"Switch"),
        "1.3.6.1.2.1.1.2.0": Row(OBJECT, oid("1.3.6.1.4.1.99999.1")),
        "1.3.6.1.2.1.1.3.0": Row(TICKS, 360_000),
        "1.3.6.1.2.1.1.5.0": Row(STRING, b"switch-1"),
    }
    for i in range(1, ports + 1):
        rows |= {
            f"{IF}.3.{i}": Row(INTEGER, 6),
            f"{IF}.7.{i}": Row(INTEGER, 1),
            f"{IF}.8.{i}": Row(INTEGER, 1 if i <= up else 2),
            f"{IF}.10.{i}": Row(COUNTER, 5),
            f"{IFX}.1.{i}": Row(STRING, f"port{i}".encode()),
            f"{IFX}.6.{i}": Row(COUNTER64, 1000 * i),
        }
    return {oid(name): row for name, row in sorted({**rows, **(more or {})}.items(), key=lambda kv: oid(kv[0]))}


def seen(found: list) -> tuple[dict[str, dict[tuple[str, ...], float]], list[Event], Result]:
    by: dict[str, dict[tuple[str, ...], float]] = {}
    for s in found:
        if isinstance(s, Sample):
            by.setdefault(s.metric.name.removeprefix("ronda_snmp_"), {})[s.labels] = s.value
    [result] = [s for s in found if isinstance(s, Result)]
    return by, [s for s in found if isinstance(s, Event)], result


def looks(poller: snmp.Snmp, n: int = 1, between=lambda: None):
    async def work():
        found = []
        for i in range(n):
            if i:
                await poller.env.clock.advance(60)
                between()
            found.append(seen(list(await poller.collect())))
        return found

    return asyncio.run(work())


# -- the config ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("gateway", ("gateway", 161)),
        ("192.0.2.1:1161", ("192.0.2.1", 1161)),
        ("router.example", ("router.example", 161)),
        ("2001:db8::1", ("2001:db8::1", 161)),
        ("[2001:db8::1]:1161", ("2001:db8::1", 1161)),
        ("[fe80::1%eth0]:161", ("fe80::1%eth0", 161)),
    ],
)
def test_targets(target: str, told: tuple[str, int]):
    assert snmp.split(config(f"target: {json.dumps(target)}").target) == told


def test_defaults():
    made = config("target: gateway")

    assert (made.interval, made.timeout, made.series, made.wanted) == (60.0, 20.0, 1000, None)
    assert config("{target: gateway, profiles: auto}").wanted is None
    assert config("{target: gateway, profiles: [ups, interfaces]}").wanted == ["ups", "interfaces"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "target: 192.0.2.1:99999",
            'target: "192.0.2.1:99999" is not a device (an address, a name or gateway, and :port where it isn\'t 161)',
        ),
        ("{target: gateway, series: 5}", 'series: "5" is not a number of series (50 to 20000)'),
        ("{target: gateway, profiles: some}", "profiles: is `auto`, or a list of names"),
        ("{target: gateway, interval: 1s}", "interval: must not be shorter than 5s"),
        ("{target: gateway, community: public}", "community: unknown key (known: name, interval, timeout, labels, target, source, "),
        ("{target: gateway, interfaces: {keep: ['(']}}", 'interfaces.keep[0]: "(" is not a regular expression: missing ), '),
    ],
)
def test_what_a_config_may_not_say(text: str, told: str):
    assert any(p.startswith(told) for p in problems(text)), problems(text)


def test_an_unknown_profile_is_told_with_those_that_there_are():
    [told] = problems("{target: gateway, profiles: [mikrotik-helth]}")

    assert told.startswith("profiles: mikrotik-helth is no profile (docs/devices.md); known: airos, ")


def test_a_mistake_in_an_admins_profile_has_file_and_line(tmp_path: Path):
    (tmp_path / "meter.yaml").write_text("profile: meter\nscalar: []\n")

    assert problems(f"{{target: gateway, profiles_dir: {tmp_path}}}") == [
        "profiles_dir: meter.yaml:2: scalar: unknown key (did you mean scalars?)"
    ]


# -- a look -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.needs("snmpd")
@pytest.mark.parametrize("asked", ["2c", "3"])
def test_a_real_device(env: Env, tmp_path: Path, snmpd: Snmpd, asked: str):
    user = f"{{version: 3, user: sha256aes, auth: sha256, auth_password: {AUTH}, privacy: aes, privacy_password: {PRIVACY}}}"
    path = secret(tmp_path, user if asked == "3" else f"{{version: 2c, community: {COMMUNITY}}}")
    poller = snmp.Snmp(
        config(f"{{name: router, target: 'switch.example:{snmpd.port}', credentials_file: {path}, interfaces: {{keep: ['^lo$']}}}}"), env
    )

    (first, events, result), (second, _, again) = looks(poller, 2)

    assert (result.reason, again.reason, events) == ("", "", [])
    assert {"system", "interfaces"} <= {p for (p,) in first["profile_info"]}
    assert first["interface_up"]["lo",] == 1.0
    assert second["interface_receive_bytes_total"]["lo",] >= first["interface_receive_bytes_total"]["lo",] > 0
    [(_, identity)] = env.board.of(DeviceIdentity).values()
    assert identity.kind == "1.3.6.1.4.1.8072.3.2.10"
    assert identity.uptime >= 0


@pytest.mark.needs("snmpd")
@pytest.mark.parametrize(
    ("said", "reason", "told"),
    [
        ("{version: 2c, community: salah}", "timeout", "the community is wrong"),
        ("{version: 3, user: sha, auth: sha, auth_password: bukan-kata-sandi}", "auth", "digest is wrong"),
        ("{version: 3, user: siapa, auth: sha, auth_password: bukan-kata-sandi}", "auth", "no such user"),
    ],
)
def test_refused(env: Env, tmp_path: Path, snmpd: Snmpd, said: str, reason: str, told: str):
    path = secret(tmp_path, said)
    poller = snmp.Snmp(config(f"{{target: '127.0.0.1:{snmpd.port}', credentials_file: {path}, timeout: 2s}}"), env)

    [(_, _, result)] = looks(poller)

    assert result.reason == reason
    assert told in result.detail
    assert "bukan-kata-sandi" not in result.detail


def test_credentials_are_read_again_when_they_change(env: Env, tmp_path: Path):
    with Responder(switch(), "baru") as device:
        path = secret(tmp_path, "{version: 2c, community: lama}")
        poller = snmp.Snmp(config(f"{{target: '127.0.0.1:{device.port}', credentials_file: {path}, timeout: 1s}}"), env)

        def mend():
            path.write_text("{version: 2c, community: baru}")
            os.utime(path, ns=(1, 1))

        (_, _, before), (_, _, after) = looks(poller, 2, mend)

    assert (before.reason, after.reason) == ("timeout", "")


def test_credentials_that_strangers_can_read_are_not_used(env: Env, tmp_path: Path):
    path = secret(tmp_path, "{version: 2c, community: x}", 0o644)

    with pytest.raises(OSError, match="is open to everybody on this box"):
        looks(snmp.Snmp(config(f"{{target: 127.0.0.1, credentials_file: {path}}}"), env))


def test_a_device_that_answers_version_1_only(env: Env):
    with Responder(switch(), versions=(0,)) as device:
        (_, _, first), (_, _, result) = looks(snmp.Snmp(config(f"{{target: '127.0.0.1:{device.port}', timeout: 3s}}"), env), 2)
        found = asyncio.run(snmp.once(config(f"target: '127.0.0.1:{device.port}'"), env, community="public", version="1"))

    assert result.reason == "timeout"
    assert "it answers in version 1: set `version: 1` for it" in result.detail
    assert first == result  # and it goes on saying so
    assert found["ok"]
    assert [row["interface"] for row in found["interfaces"]] == ["port1", "port2"]


def test_nobody_there_and_no_such_name(env: Env):
    [(_, _, nobody)] = looks(snmp.Snmp(config("{target: '127.0.0.1:1', timeout: 2s}"), env))
    [(_, _, nameless)] = looks(snmp.Snmp(config("{target: tidak.ada.example, timeout: 2s}"), env))

    assert nobody.reason == "refused"
    assert nameless.reason == "resolve"


def test_a_slow_device_is_told_as_far_as_it_came(env: Env):
    class Slow(Responder):
        answered = 0

        def answer(self, datagram: bytes) -> bytes:
            self.answered += 1
            return super().answer(datagram) if self.answered <= 4 else b""

    with Slow(switch()) as device:
        poller = snmp.Snmp(config(f"{{target: '127.0.0.1:{device.port}', timeout: 1s, profiles: [system, interfaces, ups, ether]}}"), env)
        [(found, _, result)] = looks(poller)

    assert result.reason == "timeout"
    assert found["device_info"] == {("switch-1", "", "", ""): 1.0}
    assert found["table_failures_total"]["interfaces",] == 1.0


def test_a_table_without_an_end_costs_itself(env: Env):
    class Endless(Responder):
        """Says after the last processor that there is another one."""

        def following(self, name, version):
            if name[:11] == oid("1.3.6.1.2.1.25.3.3.1.2"):
                return (*name[:11], (name[11] if len(name) > 11 else 0) + 1), b"\x02\x01\x07"
            return super().following(name, version)

    with Endless(switch()) as device:
        poller = snmp.Snmp(config(f"{{target: '127.0.0.1:{device.port}', profiles: [interfaces, host-resources]}}"), env)
        [(found, _, result)] = looks(poller)

    assert result.reason == ""
    assert len(found["cpu_ratio"]) == 64
    assert found["rows_cut"] == {(): 1.0}
    assert found["interface_receive_bytes_total"] == {("port1",): 1000.0, ("port2",): 2000.0}


def test_numbers_shuffled_by_a_restart(env: Env):
    with Responder(switch(up=3)) as device:
        poller = snmp.Snmp(config(f"{{name: switch-1, target: '127.0.0.1:{device.port}'}}"), env)

        def restart():
            device.reindex({1: 3, 2: 1, 3: 2})
            device.put({oid("1.3.6.1.2.1.1.3.0"): Row(TICKS, 900)})

        (before, _, _), (after, events, _) = looks(poller, 2, restart)

    assert before["interface_receive_bytes_total"] == after["interface_receive_bytes_total"]
    assert [(e.kind, e.severity, e.fields["device"]) for e in events] == [("device_restarted", "info", "switch-1")]


def test_what_was_up_once_is_known_to_the_next_run(env: Env):
    with Responder(switch(ports=2, up=2)) as device:
        said = config(f"{{name: 'switch 1/a', target: '127.0.0.1:{device.port}'}}")
        looks(snmp.Snmp(said, env))
        [file] = env.data.iterdir()
        device.put({oid(f"{IF}.8.2"): Row(INTEGER, 2)})
        [(found, _, _)] = looks(snmp.Snmp(said, env))
        file.write_text('{"up_once": 5}')
        [(spoilt, _, _)] = looks(snmp.Snmp(said, env))

    assert file.name == "snmp.switch%201%2Fa.json"
    assert found["interface_up"] == {("port1",): 1.0, ("port2",): 0.0}
    assert spoilt["interface_up"] == {("port1",): 1.0}


def test_memory_is_written_only_when_it_has_news(tmp_path: Path):
    memory = Memory(tmp_path, "router")
    memory.keep({"a"}, ())
    before = memory.path.stat().st_ino
    memory.keep({"a"}, ())
    assert memory.path.stat().st_ino == before
    memory.keep({"a", "b"}, {"x|a"})
    assert Memory(tmp_path, "router").load() == ({"a", "b"}, {"x|a"})


def test_the_board_has_what_the_router_and_the_switch_know(env: Env):
    more = {
        "1.3.6.1.2.1.4.22.1.2.1.192.0.2.7": Row(STRING, bytes.fromhex("4c5e0c000007")),
        "1.3.6.1.2.1.4.22.1.4.1.192.0.2.7": Row(INTEGER, 3),
        "1.3.6.1.2.1.17.4.3.1.2.76.94.12.0.0.7": Row(INTEGER, 1),
        "1.3.6.1.2.1.17.1.4.1.2.1": Row(INTEGER, 2),
    }
    with Responder(switch(more=more)) as device:
        poller = snmp.Snmp(config(f"{{name: switch-1, target: '127.0.0.1:{device.port}'}}"), env)
        looks(poller)

    assert env.board.of(RouterArp)["switch-1"][1].entries == {"192.0.2.7": "4c:5e:0c:00:00:07"}
    assert env.board.of(Interfaces)["switch-1"][1].names[2] == "port2"
    assert env.board.of(Bridge)["switch-1"][1].ports == {"4c:5e:0c:00:00:07": "port2"}
    asyncio.run(poller.close())
    assert env.board.of(Bridge) == {}
    assert env.board.of(Interfaces) == {}


def test_a_reload_that_takes_a_device_out_takes_down_its_rows_and_leaves_the_others(env: Env):
    async def body(port: int) -> None:
        first, second = (config(f"{{name: {name}, target: '127.0.0.1:{port}'}}") for name in ("switch-1", "switch-2"))
        scheduler = Scheduler(env, [])
        try:
            scheduler.swap(scheduler.build([("switch-1", KINDS["snmp"], first), ("switch-2", KINDS["snmp"], second)]))
            await env.clock.advance(4)
            async with asyncio.timeout(10):
                while len(env.board.of(Interfaces)) < 2:
                    await asyncio.sleep(0.01)
            kept = scheduler.tasks["switch-2"]
            scheduler.swap(scheduler.build([("switch-2", KINDS["snmp"], second)]))
            async with asyncio.timeout(10):
                while "switch-1" in env.board.of(Interfaces):
                    await asyncio.sleep(0.01)
            assert scheduler.tasks == {"switch-2": kept}
            assert env.board.of(DeviceIdentity).keys() == env.board.of(Interfaces).keys() == {"switch-2"}
        finally:
            await scheduler.close()
        assert env.board.of(DeviceIdentity) == {}

    with Responder(switch()) as device:
        asyncio.run(body(device.port))


def test_an_admins_profile_applies_and_a_changed_one_is_read_again(env: Env, tmp_path: Path):
    folder = tmp_path / "profiles"
    folder.mkdir()
    text = (
        "profile: meter\nwhen: {{kinds: [1.3.6.1.4.1.99999]}}\nmetrics: [{{name: ronda_snmp_meter_bars, help: x}}]\n"
        "scalars: [{{metric: ronda_snmp_meter_bars, oid: 1.3.6.1.4.1.99999.9.0, scale: {}}}]\n"
    )
    (folder / "meter.yaml").write_text(text.format(0.1))
    with Responder(switch(more={"1.3.6.1.4.1.99999.9.0": Row(INTEGER, 42)})) as device:
        poller = snmp.Snmp(config(f"{{target: '127.0.0.1:{device.port}', profiles_dir: {folder}}}"), env)
        (first, _, _), (second, _, _) = looks(poller, 2, lambda: (folder / "meter.yaml").write_text(text.format(10)))

    assert first["meter_bars"] == {(): 4.2}
    assert second["meter_bars"] == {(): 420.0}


# -- for people ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (
            [metrics.DEVICE_INFO(1, "kantor", "RB750Gr3", "7.1", "x"), metrics.UP(1, "a"), metrics.UP(0, "b")],
            "RB750Gr3 · 1 dari 2 port hidup",
        ),
        ([metrics.DEVICE_INFO(1, "kantor", "", "", "")], "kantor"),
        (
            [metrics.SHIPPED["ronda_snmp_ups_on_battery"](1), metrics.SHIPPED["ronda_snmp_ups_charge_ratio"](0.87)],
            "memakai baterai · baterai 87 %",
        ),
        ([metrics.SERIES_CAPPED(120)], "120 angka tidak muat"),
        ([], ""),
    ],
)
def test_glance(samples: list[Sample], told: str):
    assert snmp.KIND.glance
    assert snmp.KIND.glance(samples) == told


def ronda(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "agent", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.needs("snmpd")
def test_ronda_once(snmpd: Snmpd):
    run = ronda("once", "snmp", f"127.0.0.1:{snmpd.port}", "interfaces={virtual: true}", "--community", COMMUNITY)

    assert run.returncode == 0, run.stdout + run.stderr
    for word in (
        "sysObjectID 1.3.6.1.4.1.8072.3.2.10",
        "profiles system, interfaces",
        "ronda_snmp_interface_up",
        "belum ada profil khusus",
    ):
        assert word in " ".join(run.stdout.split())
    assert COMMUNITY not in run.stdout


def test_ronda_once_of_what_does_not_answer():
    run = ronda("once", "snmp", "127.0.0.1:1", "client=light", "--community", "rahasia-sekali", "--json")

    assert run.returncode == 1
    found = json.loads(run.stdout)
    assert (found["ok"], found["reason"]) == (False, "refused")
    assert "tidak ada SNMP di port itu" in found["periksa"]
    assert "rahasia-sekali" not in run.stdout + run.stderr


def test_ronda_once_shows_each_label_by_its_name():
    with Responder(switch(ports=1)) as device:
        run = ronda("once", "snmp", f"127.0.0.1:{device.port}", "--community", "public", "--json")

    rows = json.loads(run.stdout)["samples"]
    assert {"name": "ronda_snmp_interface_up", "labels": {"interface": "port1"}, "value": 1} in rows


def test_a_device_of_version_1_is_told_so_and_of_nothing_else():
    with Responder(switch(ports=1), versions=[0]) as device:
        run = ronda("once", "snmp", f"127.0.0.1:{device.port}", "--community", "public", "--timeout", "2s", "--json")

    assert "--version 1" in json.loads(run.stdout)["periksa"]
    assert "community" not in json.loads(run.stdout)["periksa"]


def test_ports_that_a_cap_leaves_out_are_not_called_virtual():
    with Responder(switch(ports=30, up=29)) as device:
        run = ronda("once", "snmp", f"127.0.0.1:{device.port}", "series=60", "--community", "public", "--json")

    found = json.loads(run.stdout)
    assert found["disembunyikan"].startswith("1 (")
    assert [e["kind"] for e in found["events"]] == ["snmp_capped"]


def test_who_asks_by_v3_is_asked_about_its_password_and_no_community():
    assert "privacy_password" in snmp.show.advice("timeout", "no answer", "3")
    assert "community" not in snmp.show.advice("timeout", "no answer", "3")


def test_a_file_of_credentials_that_others_can_read_is_refused_in_words(tmp_path: Path):
    path = secret(tmp_path, "{version: 2c, community: rahasia-sekali}", 0o644)

    for file in (path, tmp_path / "none.yaml"):
        run = ronda("once", "snmp", "127.0.0.1:1", f"credentials_file={file}")
        assert run.returncode == 2
        assert str(file) in run.stderr
        assert "Traceback" not in run.stderr


def test_a_community_goes_with_snmp_only():
    run = ronda("once", "tcp", "127.0.0.1:1", "--community", "x")

    assert run.returncode == 2
    assert "--community and --version go with snmp" in run.stderr


def test_a_config_that_is_shown_holds_no_secret(tmp_path: Path):
    path = secret(tmp_path, "{version: 2c, community: sangat-rahasia}")
    text = f"collectors: {{snmp: [{{target: gateway, credentials_file: {path}, profiles: [ups]}}]}}"
    from agent.config import schema

    made = show(loads(text.encode(), schema(KINDS), "agent.yaml"))

    assert str(path) in made
    assert "sangat-rahasia" not in made


def test_every_config_field_has_words_in_the_manual():
    assert {f.name for f in dataclasses.fields(snmp.Config)} - {"name", "interval", "timeout", "labels", "source"} <= set(
        (snmp.__doc__ or "").replace(":", " ").replace("`", " ").replace("{", " ").split()
    )


def test_the_agent_without_devices_reads_no_profile():
    late = ("agent.snmp.profile", "agent.snmp.poll", "agent.snmp.look", "agent.snmp.client", "agent.snmp.library")
    code = f"import sys, agent.app, collectors; print(*[m for m in {late!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)

    assert run.stdout.split() == []
