"""The doctor on devices: a real snmpd that answers and refuses, silent ones, files of passwords, ports, a real agent that hears."""

import asyncio
import contextlib
import errno
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import devicedoctor, doctor
from agent.clock import SystemClock
from agent.collector import Env
from agent.config import AgentConfig, load_config
from agent.net import Net
from collectors import KINDS
from tests.agent.test_doctor import HEALTHY, levels, ping_of
from tests.snmp import snmpd


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def config_of(folder: Path, listen: str = "127.0.0.1:1", **collectors: Any) -> AgentConfig:
    path = folder / "agent.yaml"
    path.write_text(json.dumps({"site": "dukcapil", "web": {"listen": listen}, "collectors": collectors}))
    return load_config(path, KINDS)


def secret(folder: Path, name: str, mode: int = 0o600, **said: str) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(said))
    path.chmod(mode)
    return str(path)


def examine(folder: Path, config: AgentConfig, root: Path | None = None, *alive: str) -> dict[str, doctor.Finding]:
    """The devices' findings by their Indonesian title. `root`: an empty box unless said otherwise."""
    root = root or folder / "box"
    env = Env(SystemClock(), Net(root), root)
    means = doctor.Means(HEALTHY.rights, ping_of(*alive))
    case = doctor.Case(env, config, (), folder, means)

    async def look() -> list[doctor.Finding]:
        return [finding for check, _ in devicedoctor.CHECKS for finding in await check(case)]

    return {finding.title.id: finding for finding in asyncio.run(look())}


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[snmpd.Snmpd]:
    with snmpd.running(tmp_path_factory.mktemp("snmpd"), lines=("sysName gw-dukcapil",)) as it:
        yield it


# --- devices ----------------------------------------------------------------------------------------------------------------


@pytest.mark.needs("snmpd")
def test_a_device_answers_refuses_or_has_nothing_there(tmp_path: Path, device: snmpd.Snmpd) -> None:
    here, user = f"127.0.0.1:{device.port}", {"version": "3", "user": "aes", "auth": "sha", "privacy": "none"}
    config = config_of(tmp_path, snmp=[
        {"name": "router", "target": here, "credentials_file": secret(tmp_path, "right", community=snmpd.COMMUNITY)},
        {"name": "switch-1", "target": here, "credentials_file": secret(tmp_path, "wrong", **user, auth_password="salah-sekali")},
        {"name": "ups", "target": f"127.0.0.1:{snmpd.free_udp_port()}"},
        {"name": "radio", "target": "gateway"},
    ])  # fmt: skip
    found = examine(tmp_path, config)
    assert found["Perangkat router menjawab"].detail.startswith("127.0.0.1, gw-dukcapil, Linux ")
    assert found["Perangkat router menjawab"].level == "ok"
    assert found["Berkas kata sandi perangkat benar"].detail == "2"
    assert levels(found, "bad") == [
        "Perangkat switch-1 menolak kata sandi Ronda",
        "Perangkat ups menyala, tetapi SNMP-nya mati",
        "Perangkat radio tidak ditemukan di jaringan",
    ]
    assert "salah-sekali" not in doctor.render(list(found.values()), "both")
    assert found["Perangkat switch-1 menolak kata sandi Ronda"].fix.id.startswith(f"Samakan {tmp_path}/wrong.yaml dengan")


def test_a_silent_device_is_the_admins_where_it_is_on_and_else_anybodys(tmp_path: Path) -> None:
    file = secret(tmp_path, "router", version="1", community="rahasia-kantor")
    with mute("127.0.0.1") as on, mute("127.0.0.2") as off:
        devices = [{"name": name, "target": target, "credentials_file": file} for name, target in (("router", on), ("ups", off))]
        found = examine(tmp_path, config_of(tmp_path, snmp=devices), None, "127.0.0.1")
    assert levels(found, "bad") == ["Perangkat router menyala, tetapi tidak menjawab Ronda", "Perangkat ups tidak menjawab sama sekali"]
    router, ups = (found[title].fix.id for title in levels(found, "bad"))
    assert f"SNMP menyala, alamat kotak ini (127.0.0.1) diizinkan, community sama dengan {file}" in router
    assert "lampu menyala? kabel listrik dan jaringan tertancap? Bila ya, hubungi Kominfo" in ups
    assert "rahasia-kantor" not in doctor.render(list(found.values()), "both")


@contextlib.contextmanager
def mute(address: str) -> Iterator[str]:
    """Takes what comes and says nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        yield f"{address}:{sock.getsockname()[1]}"


# --- files of passwords -----------------------------------------------------------------------------------------------------


def test_a_file_that_is_missing_open_or_wrong_is_red_and_says_what_to_do(tmp_path: Path) -> None:
    files = {
        "open": secret(tmp_path, "open", 0o644, community="rahasia-kantor"),
        "wrong": secret(tmp_path, "wrong", comunity="rahasia-kantor"),
    }
    files["missing"] = str(tmp_path / "missing.yaml")
    found = {}
    for name, file in files.items():
        config = config_of(tmp_path, traps=[{"senders": {"ups": "127.0.0.1"}, "listen": "127.0.0.1:0", "credentials_file": file}])
        [found[name]] = [f for f in examine(tmp_path, config).values() if "kata sandi" in f.title.id]
    assert {f.level for f in found.values()} == {"bad"}
    assert f"sudo chmod 640 '{files['open']}'" in found["open"].fix.id
    assert "mode 644" in found["open"].detail
    assert found["wrong"].detail.startswith(f"{files['wrong']}\nwrong.yaml:1: comunity: unknown key")
    assert found["missing"].fix.id.startswith("Buat berkas itu")
    assert "rahasia-kantor" not in doctor.render(list(found.values()), "both")


def test_a_device_whose_file_is_wrong_is_not_asked(tmp_path: Path) -> None:
    config = config_of(tmp_path, snmp=[{"name": "router", "target": "127.0.0.1:9", "credentials_file": str(tmp_path / "missing.yaml")}])
    found = examine(tmp_path, config)
    assert levels(found, "warn") == ["Perangkat router tidak bisa ditanya: berkas kata sandinya salah"]


# --- ears -------------------------------------------------------------------------------------------------------------------

HERE = {"senders": {"router": "127.0.0.1"}}


def test_a_port_that_is_free_and_one_that_another_program_has(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        found = examine(tmp_path, config_of(tmp_path, traps=[{"listen": listen, **HERE}]), Path("/"))
        [title] = levels(found, "bad")
        assert title == "Tempat untuk laporan (trap) perangkat dipakai program lain"
        assert Path("/proc/self/comm").read_text().strip() in found[title].detail
    found = examine(tmp_path, config_of(tmp_path, traps=[{"listen": listen, **HERE}], syslog=[{"listen": listen, **HERE}]))
    assert levels(found, "ok") == ["Tempat untuk catatan (log) perangkat siap", "Tempat untuk laporan (trap) perangkat siap"]


def test_who_listens_on_loopback_only_hears_no_device(tmp_path: Path) -> None:
    found = examine(tmp_path, config_of(tmp_path, syslog=[{"senders": {"router": "gateway", "self": "127.0.0.1"}}]))
    [title] = levels(found, "bad")
    assert found[title].detail == "listen: 127.0.0.1:5514, senders: router"
    assert found[title].fix.id == "Di config, ganti listen: 0.0.0.0:5514"


def test_a_port_that_systemd_hands_over(tmp_path: Path) -> None:
    units = tmp_path / "box/etc/systemd/system"
    (units / "sockets.target.wants").mkdir(parents=True)
    (units / "ronda-traps.socket").write_text((Path(__file__).parents[2] / "config/systemd/ronda-traps.socket").read_text())
    (units / "sockets.target.wants/ronda-traps.socket").symlink_to("/etc/systemd/system/ronda-traps.socket")
    found = examine(tmp_path, config_of(tmp_path, traps=[{"senders": {"router": "gateway"}}]))
    assert {title: f.detail for title, f in found.items()} == {"Tempat untuk laporan (trap) perangkat siap": "port 162, ronda-traps.socket"}


def test_a_port_below_1024_needs_systemd() -> None:
    fix = devicedoctor._port_fix(errno.EACCES, devicedoctor.EARS["traps"])
    assert "sudo systemctl enable --now ronda-traps.socket" in fix.id


@contextlib.contextmanager
def agent_runs(folder: Path, config: AgentConfig) -> Iterator[None]:
    command = [sys.executable, "-m", "agent", "run", "--config", str(folder / "agent.yaml"), "--data-dir", str(folder / "data")]
    host, port = config.web.listen.split(":")
    with (folder / "said").open("w") as said, subprocess.Popen(command, stderr=said) as run:
        try:
            until = time.monotonic() + 20
            while 'kind="traps"' not in metrics(host, int(port)):
                assert run.poll() is None, (folder / "said").read_text()
                assert time.monotonic() < until
                time.sleep(0.1)
            yield
        finally:
            run.terminate()


def metrics(host: str, port: int) -> str:
    with contextlib.suppress(OSError), socket.create_connection((host, port), 5) as sock:
        sock.sendall(f"GET /metrics HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        return sock.makefile().read()
    return ""


def test_who_was_ever_heard_is_what_the_running_agent_says(tmp_path: Path) -> None:
    ports = free_port(), snmpd.free_udp_port()
    logs = {"listen": f"127.0.0.1:{ports[0]}", "senders": {"router": "127.0.0.1", "switch-1": "127.0.0.3"}, "interval": "1s"}
    traps = {"listen": f"127.0.0.1:{ports[1]}", "senders": {"ups": "127.0.0.1"}, "interval": "1s"}
    config = config_of(tmp_path, f"127.0.0.1:{free_port()}", syslog=[logs], traps=[traps])
    with agent_runs(tmp_path, config), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as router:
        router.sendto(b"<30>system,info,account user admin logged out", ("127.0.0.1", ports[0]))
        until = time.monotonic() + 20
        while 'last_timestamp_seconds{sender="router"' not in metrics(*config.web.listen.split(":")):  # type: ignore[arg-type]
            assert time.monotonic() < until
            time.sleep(0.1)
        found = examine(tmp_path, config, Path("/"))
    assert levels(found, "ok") == ["Catatan (log) perangkat bisa didengar", "Laporan (trap) perangkat bisa didengar"]
    log = found["Catatan (log) perangkat: belum ada dari switch-1"]
    assert log.level == "warn"
    assert re.fullmatch(r"Ronda menyala \(up\) \d+ dtk; terdengar \(heard\): router \d+ dtk lalu", log.detail)
    assert log.fix.id == f"Di perangkat itu, kirim log (syslog) ke 127.0.0.1:{ports[0]}"
    assert found["Laporan (trap) perangkat: belum ada dari ups"].level == "warn"


def test_what_a_running_agent_says_is_read_series_by_series() -> None:
    said = devicedoctor.Running(
        b'# TYPE ronda_collector_up gauge\nronda_collector_up{kind="traps",task="traps"} 0\n'
        b'ronda_traps_last_timestamp_seconds{sender="ups",lantai="a\\"b"} 1.5e9\nprocess_start_time_seconds 12.5\nronda_other{x="y"} 1\n'
    )
    assert said.one("ronda_collector_up", task="traps") == 0.0
    assert said.one("ronda_collector_up", task="syslog") is None
    assert [(labels["sender"], value) for labels, value in said.all("ronda_traps_last_timestamp_seconds")] == [("ups", 1.5e9)]
    assert said.since == 12.5


def test_a_clerk_never_meets_these_words() -> None:
    titles = " ".join(line for line in Path(devicedoctor.__file__).read_text().splitlines() if "title = Words" in line).lower()
    for word in ("snmp", "community", "target", "endpoint", "oid", "timeout"):
        assert word not in titles


def test_without_devices_nothing_is_said_of_them(tmp_path: Path) -> None:
    assert doctor._of_devices(config_of(tmp_path)) == doctor._of_devices(None) == ()
    assert doctor._of_devices(config_of(tmp_path, syslog=[HERE])) == devicedoctor.CHECKS


def test_many_silent_devices_are_all_told_within_a_checks_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their pings hang as well; the whole check would be one amber line if it took too long. Ten times as fast as it is."""
    assert devicedoctor.PATIENCE + devicedoctor.PING < doctor.DEADLINE - 1
    monkeypatch.setattr(devicedoctor, "PATIENCE", devicedoctor.PATIENCE / 10)
    monkeypatch.setattr(devicedoctor, "PING", devicedoctor.PING / 10)

    async def hang(address: str) -> float | None:
        await asyncio.get_running_loop().create_future()
        return None

    with mute("127.0.0.1") as off:
        config = config_of(tmp_path, snmp=[{"name": f"switch-{n}", "target": off} for n in range(60)])
        env = Env(SystemClock(), Net(tmp_path), tmp_path)
        case = doctor.Case(env, config, (), tmp_path, doctor.Means(HEALTHY.rights, hang))
        found = asyncio.run(doctor._bounded(devicedoctor._devices, doctor.Words("perangkat", "devices"), case))
    assert {f.title.id for f in found} == {f"Perangkat switch-{n} tidak menjawab sama sekali" for n in range(60)}
