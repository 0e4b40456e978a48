"""The whole agent, wired: started, reloaded, asked and stopped, on real sockets."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from agent.app import App, Options
from agent.buffer import Buffer
from agent.clock import SystemClock
from agent.collector import Env, Kind, ProbeConfig, Traffic, failed, succeeded
from agent.diagnosis import Verdict
from agent.journal import Reader
from agent.model import Batch, Event, Metric
from agent.net import Net
from agent.registry import CHORE_FAILURES
from agent.state import StateFile
from agent.structure import ConfigError, Duration
from collectors import KINDS
from tests.receiver import Receiver

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
        result = succeeded() if self.config.up else failed("refused", "nobody at 192.0.2.1")
        return [result._replace(traffic=Traffic(500, 1500))]


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
            assert 'ronda_probe_success{task="toy:a",target="a",kind="toy"} 1.0' in text
            assert 'ronda_probe_success{task="toy:b",target="b",role="anchor",kind="toy"} 0.0' in text
            assert 'ronda_probe_reason_info{task="toy:b",target="b",role="anchor",kind="toy",reason="refused"} 1.0' in text
            assert 'ronda_collector_up{task="toy:a",kind="toy"} 1.0' in text
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


def test_a_lost_way_out_makes_everything_look_again(tmp_path):
    """What is looked at once a minute would say for a minute that all is well."""
    text = "site: s\ncollectors: {toy: [{target: a, labels: {role: anchor}}, {target: b, interval: 60s, labels: {role: service}}]}"

    async def work():
        async with running(tmp_path, text) as (app, _):
            anchor, slow = app.scheduler.tasks["toy:a"], app.scheduler.tasks["toy:b"]
            await until(lambda: anchor.status.state == slow.status.state == "ok", "both up")
            for task in (anchor, slow):
                task.collector.config = dataclasses.replace(task.config, up=False)

            await until(lambda: app.verdict().state == "down", "the office is down")
            assert slow.status.state == "down"

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


def test_a_task_may_be_called_agent(tmp_path):
    async def work():
        async with running(tmp_path, "site: s\ncollectors: {toy: [{target: a, name: agent}]}") as (app, _):
            await until(lambda: not app.ready(), "it looked")
            await app.metrics(False)
            text = (await app.metrics(False)).decode()

            assert 'ronda_probe_success{task="agent",target="a",kind="toy"} 1.0' in text
            assert "ronda_build_info" in text

    asyncio.run(work())


def test_moving_onto_a_port_of_its_own_is_refused_in_plain_words(tmp_path):
    async def work():
        port = free_port()
        text = "site: s\ncollectors: {toy: [{target: a}]}\nweb: {listen: '%s'}"
        async with running(tmp_path, text % f"127.0.0.1:{port}", listen=None) as (app, path):
            path.write_text(text % f"0.0.0.0:{port}")
            assert await app.reload() == [
                f"can't listen on 0.0.0.0:{port}: Ronda itself still listens on 127.0.0.1:{port}; restart it to move, or take another port"
            ]
            assert (await get(app.admin.url + "-/healthy"))[0] == 200

    asyncio.run(work())


def test_a_kind_that_can_not_be_built_changes_nothing(tmp_path):
    async def work():
        async with running(tmp_path, "site: s\ncollectors: {toy: [{target: a}]}") as (app, path):
            kept = app.scheduler.tasks["toy:a"]
            app.kinds = {"toy": dataclasses.replace(TOY["toy"], build=lambda _c, _e: 1 / 0)}
            path.write_text("site: s\ncollectors: {toy: [{target: a}, {target: b}]}")

            assert await app.reload() == ["ZeroDivisionError: division by zero"]
            assert app.scheduler.tasks == {"toy:a": kept}
            assert "ronda_config_last_reload_successful 0.0" in (await app.metrics(False)).decode()

    asyncio.run(work())


def test_many_hang_ups_are_one(tmp_path):
    async def work():
        async with running(tmp_path, "site: s\ncollectors: {toy: [{target: a}]}") as (app, _):
            loads, load = [], app._load
            app._load = lambda: loads.append(1) or load()
            await until(lambda: len(app._chores) == 4, "the chores of the start are done")
            async with app._reloading:
                for _ in range(50):
                    app._hang_up()
                    await asyncio.sleep(0)
                assert len(app._chores) == 5
            await until(lambda: loads and not app._reloading.locked(), "reloaded")
            assert len(loads) == 1
            app._hang_up()
            await until(lambda: len(loads) == 2, "reloaded again")

    asyncio.run(work())


def test_what_is_written_last_is_what_is_true(tmp_path):
    class SlowDisk(StateFile):
        go = threading.Event()

        def _replace(self, data):
            assert self.go.wait(30)
            super()._replace(data)

    async def work():
        async with running(tmp_path, "site: s\ncollectors: {toy: [{target: a, labels: {role: anchor}}]}") as (app, _):
            await until(lambda: app.verdict().cause == "ok", "fine")
            app.state = SlowDisk(tmp_path / "data")
            fine = app.diagnosis.verdict
            for verdict in (Verdict("down", "isp", "certain", 5.0, "X-1"), fine, Verdict("down", "isp", "certain", 6.0, "X-2"), fine):
                app.diagnosis.verdict = verdict
                app.save_soon()
                await asyncio.sleep(0.02)
            app.state.go.set()
        assert app.state.failures == 0

    asyncio.run(work())
    assert StateFile(tmp_path / "data").read("s").incident == ""


def test_a_chore_that_fails_is_tried_again(tmp_path, caplog):
    async def work():
        async with running(tmp_path, "site: s\ncollectors: {toy: [{target: a}]}") as (app, _):
            calls = []

            async def fails():
                calls.append(1)
                raise PermissionError(13, "Permission denied", "/proc/net/route")

            app._chore(app._every(0.01, fails))
            await until(lambda: len(calls) > 2, "called again")
            told = next(s.value for s in app.samples() if s.metric is CHORE_FAILURES)
            assert told >= 2

    asyncio.run(work())
    assert "a chore failed" in caplog.text


def test_the_cable_is_any_cable_and_forgotten_with_its_task(tmp_path):
    carrier = Metric("ronda_link_carrier", "x")

    def link(task, *values):
        return Batch(task, {}, 1.0, [carrier(v) for v in values])

    async def work():
        async with running(tmp_path, "site: s\ncollectors: {toy: [{target: a}]}") as (app, _):
            sink = app.diagnosis
            sink.write(link("lan", 1.0, 0.0))
            sink.write(link("wan", 0.0))
            assert sink.carrier is True
            sink.write(Batch("lan", {}, 1.0, (), [Event("x", "info", "y")]))
            assert sink.carrier is True
            sink.write(link("lan", 0.0))
            assert sink.carrier is False
            sink.write(link("wan"))
            sink.write(link("lan"))
            assert sink.carrier is None

    asyncio.run(work())


def test_what_happens_is_in_the_journal_from_start_to_end(tmp_path):
    def kinds():
        return [entry.event.kind for entry in Reader(tmp_path / "data/journal").entries()]

    async def work():
        text = "site: s\noffice: {code: SSS}\ncollectors: {toy: [{target: a, up: false, labels: {role: anchor}}]}"
        async with running(tmp_path, text) as (app, path):
            await until(lambda: app.verdict().state == "down", "down")
            incident = app.verdict().incident
            path.write_text(text.replace("up: false", "up: true"))
            assert await app.reload() == []
            await until(lambda: app.verdict().state == "ok", "ok again")
            await until(lambda: "incident_closed" in kinds(), "the end of the incident is stored")
            assert "ronda_journal_events_stored_total" in (await app.metrics(False)).decode()
        found = {e.event.kind: e.event for e in Reader(tmp_path / "data/journal").entries()}

        assert kinds() == ["agent_started", "incident_opened", "incident_closed", "agent_stopped"]
        assert found["incident_opened"].fields["incident"] == found["incident_closed"].fields["incident"] == incident
        assert found["incident_opened"].severity == "critical"

    asyncio.run(work())


def test_a_start_after_a_kill_says_how_long_nobody_watched_and_what_was_lost(tmp_path):
    state = StateFile(tmp_path / "data", "another boot")
    state.write("s", Verdict(), time.time() - 1e9)

    async def work():
        async with running(tmp_path, "site: s\ncollectors: {toy: [{target: a}]}") as (app, _):
            app.events.centre_base = lambda: time.time() - time.monotonic()
            reader = Reader(tmp_path / "data/journal")
            await until(lambda: "box_was_off" in {e.event.kind for e in reader.entries()}, "it says that the box was off")

    asyncio.run(work())


def test_two_agents_never_share_a_data_directory(tmp_path):
    async def work():
        text = "site: s\ncollectors: {toy: [{target: a}]}"
        async with running(tmp_path, text):
            with pytest.raises(OSError, match="in use"):
                async with running(tmp_path, text):
                    pass

    asyncio.run(work())


def test_over_a_metered_uplink_probes_are_stretched_by_what_they_cost_until_a_reload_says_otherwise(tmp_path):
    async def work():
        text = (
            "site: s\npush: {{url: 'http://127.0.0.1:9', profile: {}}}\ncollectors: {{toy: [{{target: far.example}}, {{target: gateway}}]}}"
        )
        async with running(tmp_path, text.format("metered")) as (app, path):
            await until(lambda: all(task.runs for task in app.scheduler.tasks.values()), "both have looked")
            await app._tidy()
            assert {t.name: t.interval for t in app.scheduler.tasks.values()} == {
                "toy:far.example": 19.0,
                "toy:gateway": 1.0,
            }  # 173 MB a day
            found = (await app.metrics(False)).decode()
            assert 'ronda_probe_bytes_total{kind="toy",uplink="default",direction="received"} 1500.0' in found
            assert 'uplink="lan",direction="sent"}' in found
            assert 'ronda_budget_stretch_ratio{uplink="default"} 18.' in found
            assert "ronda_budget_used_bytes{" not in found
            path.write_text(text.format("fibre, budget: 250MB"))
            assert await app.reload() == []
            assert app.scheduler.tasks["toy:gateway"].interval == 1.0
            assert app.scheduler.tasks["toy:far.example"].interval > 2.0  # whatever day of the month it is
            await app._tidy()
            assert "ronda_budget_limit_bytes{" in (await app.metrics(False)).decode()
            path.write_text(text.format("fibre"))
            assert await app.reload() == []
            assert {t.interval for t in app.scheduler.tasks.values()} == {1.0}

    asyncio.run(work())


def test_a_restart_knows_which_series_the_last_run_has_told(tmp_path):
    async def work():
        text = "site: s\npush: {url: 'http://127.0.0.1:9'}\ncollectors: {toy: [{target: a}, {target: b}]}"
        async with running(tmp_path, text) as (app, _):
            await until(
                lambda: len({t for t in ("toy:a", "toy:b") if any(t.encode() in h for h in app.centre.push.heads())}) == 2, "both told"
            )
            told = set(app.centre.push.heads())
        assert (tmp_path / "data/series").exists()
        async with running(tmp_path, text.replace(", {target: b}", "")) as (app, _):
            assert told <= app.centre.push._inherited
            assert not (tmp_path / "data/series").exists()

    asyncio.run(work())


def test_what_a_power_cut_cost_of_samples_is_an_event(tmp_path):
    buffer = Buffer(tmp_path / "data/buffer", "s", SystemClock())
    buffer.save()
    buffer._let_go()  # as a kill does

    async def work():
        text = f"site: s\npush: {{url: 'http://127.0.0.1:{free_port()}'}}\ncollectors: {{toy: [{{target: a}}]}}"
        async with running(tmp_path, text):
            reader = Reader(tmp_path / "data/journal")
            await until(lambda: "samples_lost" in {e.event.kind for e in reader.entries()}, "it says what was lost")
        (lost,) = [e.event for e in reader.entries() if e.event.kind == "samples_lost"]
        assert lost.fields["reason"] == "power_cut"
        assert int(lost.fields["samples"]) > 0

    asyncio.run(work())


def test_a_start_that_fails_is_no_kill(tmp_path):
    """Otherwise each try would count samples as lost that never were."""

    async def work():
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            text = "site: s\npush: {url: 'http://127.0.0.1:9'}\ncollectors: {toy: [{target: a}]}"
            with pytest.raises(OSError, match="can't listen"):
                async with running(tmp_path, text, listen=f"127.0.0.1:{taken.getsockname()[1]}"):
                    pass
        again = Buffer(tmp_path / "data/buffer", "s", SystemClock())
        assert (again.ledger.unclean, again.ledger.total) == (0, 0)
        again.close()

    asyncio.run(work())


def test_a_kill_soon_after_a_start_is_known_as_one(tmp_path):
    def last():
        state = StateFile(tmp_path / "data")
        state.read("s")
        return state.last

    async def work():
        text = "site: s\ncollectors: {toy: [{target: a}]}"
        async with running(tmp_path, text) as (app, _):
            await until(lambda: app.verdict().state == "ok", "ok")
        assert last().ended
        async with running(tmp_path, text):
            assert not last().ended
            assert time.time() - last().alive_at < 60

    asyncio.run(work())


def test_the_last_sign_of_life_is_told_in_true_time(tmp_path):
    async def work():
        async with running(tmp_path, "site: s\ncollectors: {toy: [{target: a}]}") as (app, _):
            app.events.centre_base = lambda: time.time() - time.monotonic() + 5000  # the box's clock lags
        state = StateFile(tmp_path / "data")
        state.read("s")
        assert 4900 < state.last.alive_at - time.time() < 5100

    asyncio.run(work())


def test_an_end_in_the_midst_of_a_reload_loses_nothing(tmp_path):
    async def work():
        receiver = Receiver(time.time, lambda _: b"")  # it hangs
        async with receiver.serving():
            text = f"site: s\npush: {{url: 'http://127.0.0.1:{receiver.port}'}}\ncollectors: {{toy: [{{target: a}}]}}"
            async with running(tmp_path, text) as (app, path):
                old = app.centre
                await until(lambda: old.delivery.pending, "samples are under way")
                path.write_text(text.replace("collectors", "events: {}\ncollectors").replace("push: {", "push: {profile: metered, "))
                app._hang_up()
                await until(lambda: app.centre is None, "the reload waits for the old way's end")
            assert old.delivery.pending == 0
            assert app.centre is not old

    asyncio.run(work())
