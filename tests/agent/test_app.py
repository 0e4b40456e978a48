"""The whole agent, wired: started, reloaded, asked and stopped, on real sockets."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from agent.app import App, Options
from agent.clock import SystemClock
from agent.collector import Env, Kind, ProbeConfig, failed, succeeded
from agent.net import Net
from agent.structure import ConfigError, Duration
from collectors import KINDS

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ProbeConfig):
    interval: Duration = 1.0
    timeout: Duration = 1.0
    up: bool = True


class Toy:
    def __init__(self, config):
        self.config = config

    async def collect(self):
        return [succeeded() if self.config.up else failed("refused", "nobody at 192.0.2.1")]


TOY = {"toy": Kind("toy", Config, (), lambda c, _e: Toy(c), probe=True, reasons=("refused",))}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.asynccontextmanager
async def running(tmp_path, text, **options):
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    env = Env(SystemClock(), Net())
    app = App(TOY, env, Options(config=path, listen=options.pop("listen", f"127.0.0.1:{free_port()}"), **options), tmp_path / "data")
    await app.start()
    try:
        yield app, path
    finally:
        await app.close()


async def get(url: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    def fetch():
        request = urllib.request.Request(url, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            with e:
                return e.code, e.read().decode()

    return await asyncio.to_thread(fetch)


async def until(condition, what: str) -> None:
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"in 20 s it never came to this: {what}")


def test_it_watches_and_tells(tmp_path):
    async def work():
        async with running(tmp_path, "site: s\ncollectors: {toy: [{target: a}, {target: b, up: false, labels: {role: anchor}}]}") as (
            app,
            _,
        ):
            await until(lambda: {s.state for s in app.statuses()} == {"ok", "down"}, "one up, one down")
            code, text = await get(app.admin.url + "metrics")

            assert code == 200
            assert 'ronda_probe_success{kind="toy",target="a",task="toy:a"} 1.0' in text
            assert 'ronda_probe_success{kind="toy",role="anchor",target="b",task="toy:b"} 0.0' in text
            assert 'ronda_probe_reason_info{kind="toy",reason="refused",role="anchor",target="b",task="toy:b"} 1.0' in text
            assert 'ronda_collector_up{kind="toy",task="toy:a"} 1.0' in text
            assert "ronda_build_info{" in text
            assert "process_resident_memory_bytes" in text
            assert (await get(app.admin.url + "-/healthy"))[0] == 200
            assert (await get(app.admin.url + "-/ready"))[0] == 200
            assert "target: a" in (await get(app.admin.url + "config"))[1]

    asyncio.run(work())


def test_a_bad_file_changes_nothing_and_is_told(tmp_path):
    async def work():
        async with running(tmp_path, "site: s\ncollectors: {toy: [{target: a}]}") as (app, path):
            await until(lambda: app.statuses()[0].state == "ok", "up")
            task = app.scheduler.tasks["toy:a"]
            path.write_text("site: s\ncollectors: {toy: [{target: a, interval: soon}]}")
            problems = await app.reload()

            assert problems == ['agent.yaml:2: collectors.toy[0].interval: "soon" is not a duration (try 60s)']
            assert app.scheduler.tasks["toy:a"] is task
            assert "ronda_config_last_reload_successful 0.0" in (await app.metrics(False)).decode()
            assert problems[0] in app.problems

            path.write_text("site: s\ncollectors: {toy: [{target: a}, {target: c}]}")
            assert await app.reload() == []
            assert app.scheduler.tasks["toy:a"] is task
            assert set(app.scheduler.tasks) == {"toy:a", "toy:c"}
            assert "ronda_config_last_reload_successful 1.0" in (await app.metrics(False)).decode()
            assert app.problems == []

    asyncio.run(work())


def test_a_reload_to_an_address_in_use_changes_nothing(tmp_path):
    async def work():
        first = free_port()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            listen = {"listen": None}
            async with running(
                tmp_path, f"site: s\nweb: {{listen: '127.0.0.1:{first}'}}\ncollectors: {{toy: [{{target: a}}]}}", **listen
            ) as (app, path):
                path.write_text(f"site: s\nweb: {{listen: '127.0.0.1:{port}'}}\ncollectors: {{toy: [{{target: b}}]}}")
                problems = await app.reload()

                assert len(problems) == 1
                assert str(port) in problems[0]
                assert set(app.scheduler.tasks) == {"toy:a"}
                assert (await get(f"http://127.0.0.1:{first}/-/healthy"))[0] == 200

                second = free_port()
                path.write_text(f"site: s\nweb: {{listen: '127.0.0.1:{second}'}}\ncollectors: {{toy: [{{target: b}}]}}")
                assert await app.reload() == []
                assert (await get(f"http://127.0.0.1:{second}/-/healthy"))[0] == 200

    asyncio.run(work())


def test_the_site_can_not_change_while_running(tmp_path):
    async def work():
        async with running(tmp_path, "site: s\ncollectors: {toy: [{target: a}]}") as (app, path):
            path.write_text("site: other\ncollectors: {toy: [{target: a}]}")

            assert "restart the agent" in (await app.reload())[0]

    asyncio.run(work())


def test_reload_by_http_only_where_enabled(tmp_path):
    async def work():
        text = "site: s\ncollectors: {toy: [{target: a}]}"
        async with running(tmp_path, text) as (app, _):
            assert (await get(app.admin.url + "-/reload", "POST"))[0] == 403
        async with running(tmp_path, text, lifecycle=True) as (app, path):
            assert (await get(app.admin.url + "-/reload", "POST"))[0] == 200
            path.write_text("nope: 1")
            code, body = await get(app.admin.url + "-/reload", "PUT")
            assert code >= 400
            assert "agent.yaml:1: nope" in body

    asyncio.run(work())


def test_a_bad_config_at_the_start_is_an_error(tmp_path):
    (tmp_path / "agent.yaml").write_text("site: s\ncolectors: {}")
    with pytest.raises(ConfigError, match="did you mean collectors"):
        App(TOY, Env(SystemClock(), Net()), Options(config=tmp_path / "agent.yaml"), tmp_path)


def test_an_open_incident_is_taken_up_again(tmp_path):
    async def work():
        text = "site: s\noffice: {code: SSS}\ncollectors: {toy: [{target: a, up: false, labels: {role: anchor}}]}"
        async with running(tmp_path, text) as (app, _):
            await until(lambda: app.verdict().state == "down", "down")
            incident, since = app.verdict().incident, app.verdict().since
        async with running(tmp_path, text) as (app, _):
            await until(lambda: app.statuses()[0].state == "down", "down again")
            assert (app.verdict().incident, app.verdict().since) == (incident, since)
            assert incident.startswith("SSS-")

    asyncio.run(work())


def test_without_tasks_it_follows_the_box_to_a_new_resolver(tmp_path):
    async def work():
        (tmp_path / "etc").mkdir()
        resolv = tmp_path / "etc/resolv.conf"
        resolv.write_text("nameserver 127.0.0.1\n")
        env = Env(SystemClock(), Net(tmp_path), tmp_path)
        app = App({"dns": KINDS["dns"]}, env, Options(listen=f"127.0.0.1:{free_port()}"), tmp_path / "data")
        await app.start()
        try:
            first = list(app.scheduler.tasks)
            await app._rediscover()
            assert list(app.scheduler.tasks) == first == ["dns:127.0.0.1/go.id/NS"]

            resolv.write_text("nameserver 127.0.0.2\n# longer, so that size and time differ\n")
            await app._rediscover()
            assert list(app.scheduler.tasks) == ["dns:127.0.0.2/go.id/NS"]
        finally:
            await app.close()

    asyncio.run(work())


def test_check_now_is_granted_once_in_a_while(tmp_path):
    async def work():
        async with running(tmp_path, "site: s\ncollectors: {toy: [{target: a, interval: 60s}]}") as (app, _):
            assert await app.check_now()
            assert not await app.check_now()

    asyncio.run(work())


def start(*args: str, **env: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "agent", "run", *args]
    return subprocess.Popen(command, cwd=ROOT, text=True, stderr=subprocess.PIPE, env={**os.environ, **env})


def wait_for(url: str) -> str:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as r:
            return r.read().decode()
        time.sleep(0.1)
    pytest.fail(f"{url} never answered")


def test_the_process_reloads_on_sighup_and_ends_on_sigterm(tmp_path):
    port, path, notify = free_port(), tmp_path / "a.yaml", str(tmp_path / "notify")
    path.write_text("site: s\ncollectors: {tcp: [{target: '127.0.0.1:1'}]}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(notify)
        s.settimeout(30)
        p = start(
            "--config",
            str(path),
            "--data-dir",
            str(tmp_path),
            "--web.listen-address",
            f"127.0.0.1:{port}",
            NOTIFY_SOCKET=notify,
            WATCHDOG_USEC="400000",
        )
        try:
            assert s.recv(200).startswith(b"READY=1")
            path.write_text("site: s\ncollectors: {tcp: []}\nbad: 1")
            p.send_signal(signal.SIGHUP)
            said = [s.recv(200).split(b"\n")[0] for _ in range(6)]
            assert {b"RELOADING=1", b"READY=1", b"WATCHDOG=1"} <= set(said)
            assert "ronda_config_last_reload_successful 0.0" in wait_for(f"http://127.0.0.1:{port}/metrics")
            p.send_signal(signal.SIGTERM)
            _, err = p.communicate(timeout=20)
        finally:
            p.kill()
            p.communicate()

    assert p.returncode == 0
    assert "a.yaml:3: bad: unknown key" in err
    assert "Traceback" not in err
    assert (tmp_path / "state.json").exists()


def test_an_address_in_use_is_said_plainly(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = tmp_path / "a.yaml"
        path.write_text("site: s\ncollectors: {tcp: [{target: '127.0.0.1:1'}]}")
        p = start("--config", str(path), "--data-dir", str(tmp_path), "--web.listen-address", f"127.0.0.1:{port}")
        _, err = p.communicate(timeout=30)

    assert p.returncode == 2
    assert f"127.0.0.1:{port}" in err
    assert "Traceback" not in err


def test_a_data_directory_that_can_not_be_written_stops_nothing(tmp_path):
    port, path = free_port(), tmp_path / "a.yaml"
    path.write_text("site: s\ncollectors: {tcp: [{target: '127.0.0.1:1'}]}")
    p = start("--config", str(path), "--data-dir", "/dev/full/x", "--web.listen-address", f"127.0.0.1:{port}")
    try:
        assert "ronda_build_info" in wait_for(f"http://127.0.0.1:{port}/metrics")
        p.send_signal(signal.SIGTERM)
        _, err = p.communicate(timeout=20)
    finally:
        p.kill()
        p.communicate()

    assert p.returncode == 0
    assert "can't write /dev/full/x/state.json" in err
