"""When tasks look and what a look means, on a clock that moves only when told."""

import asyncio
import dataclasses
import itertools
from typing import ClassVar

import pytest

from agent import scheduler
from agent.collector import Kind, ProbeConfig, TaskConfig, Traffic, failed, succeeded
from agent.model import Event, Metric
from agent.scheduler import Scheduler, confirm, next_due, offset
from tests.fakes import Memory, fake_env, settle

VALUE = Metric("ronda_test_value", "A value.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ProbeConfig):
    target: str = "t"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainConfig(TaskConfig):
    size: int = 1


class Probe:
    """Answers what `script` says, the last for ever; notes when it was asked."""

    def __init__(self, clock, script):
        self.clock, self.script, self.at, self.closed = clock, list(script), [], False

    async def collect(self):
        self.at.append(self.clock.monotonic())
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        if callable(step):
            return await step()
        return step

    async def close(self):
        self.closed = True


def setup(*script, config=None, probe=True, sinks=1):
    env, clock = fake_env()
    made = Probe(clock, script)
    kind = Kind("test", Config, (VALUE,), lambda _c, _e: made, probe=probe, reasons=("timeout", "send", "internal") if probe else ())
    memory = Memory()
    s = Scheduler(env, [memory])
    s.swap(s.build([("test:t", kind, config or Config())]))
    return s, clock, made, memory


def play(work):
    asyncio.run(asyncio.wait_for(work, 30))


OK, DOWN = [succeeded()], [failed("timeout", "no answer")]


def test_runs_are_drift_free_and_on_their_offset():
    async def work():
        s, clock, probe, _ = setup(OK)
        await clock.advance(60)
        await s.close()

        regular = probe.at[1:]
        assert probe.at[0] <= 1000 + scheduler.FIRST_WITHIN
        assert {t % 15 for t in regular} == {offset("test:t", 15.0)}
        assert len(regular) in (3, 4)
        assert probe.closed

    play(work())


def test_a_first_failure_is_tried_twice_again_before_it_counts():
    async def work():
        s, clock, probe, memory = setup(OK, DOWN)
        await clock.advance(22)
        task = s.tasks["test:t"]
        down = memory.values("ronda_probe_success").index(0.0)

        assert [round(b - a, 3) for a, b in zip(probe.at[1:], probe.at[2:], strict=False)][:2] == [1.0, 1.0]
        assert memory.values("ronda_probe_success")[: down + 1] == [1.0, 1.0, 1.0, 0.0]
        assert task.status.state == "down"
        assert (task.status.reason, task.status.detail) == ("timeout", "no answer")
        reasons = [s.labels for b in memory.batches for s in b.samples if s.metric.name == "ronda_probe_reason_info"]
        assert set(reasons) == {("test", "timeout")}
        await s.close()

    play(work())


def test_a_blip_is_counted_but_changes_nothing():
    async def work():
        s, clock, _, memory = setup(OK, DOWN, OK)
        await clock.advance(40)
        task = s.tasks["test:t"]

        assert set(memory.values("ronda_probe_success")) == {1.0}
        assert task.failures == {"timeout": 1, "send": 0, "internal": 0}
        assert task.status.state == "ok"
        assert s.changes == 3  # ok, checking, ok
        assert task.status.since < 1_795_000_004
        await s.close()

    play(work())


def test_what_never_answered_has_no_success_until_it_is_sure():
    async def work():
        s, clock, probe, memory = setup(DOWN)
        await clock.advance(10)

        assert memory.values("ronda_probe_success") == [0.0] * (len(probe.at) - 2)
        assert memory.values("ronda_probe_duration_seconds") == []
        await s.close()

    play(work())


@pytest.mark.parametrize("step", [OSError(13, "Permission denied"), [failed("send", "no buffer space")]])
def test_what_could_not_look_says_nothing_of_the_target(step):
    async def work():
        s, clock, _, memory = setup(OK, step)
        await clock.advance(40)
        task = s.tasks["test:t"]
        own = {(x.metric.name, x.labels): x.value for x in s.samples()}

        assert task.status.state == "blind"
        assert own["ronda_collector_up", ("test:t", "test")] == 0
        assert "ronda_probe_success" not in [x.metric.name for x in memory.batches[-1].samples]
        assert sum(task.failures.values()) >= 1
        assert task.failures["timeout"] == 0
        await s.close()

    play(work())


def test_trouble_is_logged_once_at_the_change(caplog):
    async def work():
        s, clock, probe, _ = setup(OSError("no permission"))
        await clock.advance(100)
        assert [r.message for r in caplog.records] == ["task test:t can't look: no permission"]

        probe.script = [OK]
        await clock.advance(30)
        assert len([r for r in caplog.records if "can look again" in r.message]) == 1
        await s.close()

    play(work())


def test_a_slow_target_never_overlaps_itself_nor_delays_another():
    async def work():
        env, clock = fake_env()
        stuck = asyncio.Event()

        async def hang():
            await stuck.wait()
            return OK

        probes = {"slow": Probe(clock, [hang]), "quick": Probe(clock, [OK])}
        kind = Kind("test", Config, (), lambda c, _e: probes[c.target], probe=True, reasons=("timeout",))
        s = Scheduler(env, [Memory()])
        s.swap(s.build([(n, kind, Config(target=n, interval=1.0, timeout=1.0)) for n in probes]))
        await clock.advance(10)

        assert len(probes["slow"].at) == 1
        assert len(probes["quick"].at) >= 10
        assert s.skipped["overrun"] >= 8
        stuck.set()
        await s.close()

    play(work())


def test_more_runs_than_the_bound_are_skipped_and_counted(monkeypatch):
    monkeypatch.setattr(scheduler, "MAX_RUNS", 3)

    async def work():
        env, clock = fake_env()

        async def hang():
            await asyncio.Event().wait()

        kind = Kind("test", Config, (), lambda _c, _e: Probe(clock, [hang]), probe=True)
        s = Scheduler(env, [])
        s.swap(s.build([(str(i), kind, Config(target=str(i))) for i in range(10)]))
        await clock.advance(4)

        assert s.skipped["busy"] >= 7
        assert sum(t.running is not None for t in s.tasks.values()) == 3
        await s.close()

    play(work())


def test_a_collector_that_hangs_is_ended_by_the_backstop(monkeypatch):
    monkeypatch.setattr(scheduler, "BACKSTOP", 0.0)

    async def work():
        async def hang():
            await asyncio.Event().wait()

        s, clock, _, _ = setup(hang, config=Config(timeout=0.01))
        await clock.advance(4)
        await asyncio.sleep(0.1)  # the backstop runs on real time

        assert s.tasks["test:t"].status.detail == "did not end in time"
        await s.close()

    play(work())


def test_reload_keeps_equal_tasks_with_their_state_and_closes_the_others():
    async def work():
        env, clock = fake_env()
        built = []

        def build(config, _env):
            built.append(Probe(clock, [[VALUE(1)]]))
            return built[-1]

        kind = Kind("test", Config, (VALUE,), build)
        memory = Memory()
        s = Scheduler(env, [memory])
        one, two = ("a", kind, Config(target="a")), ("b", kind, Config(target="b"))
        s.swap(s.build([one, two]))
        await clock.advance(20)
        kept = s.tasks["a"]

        s.swap(s.build([("a", kind, Config(target="a")), ("b", kind, Config(target="b", interval=20.0))]))
        await settle()
        assert s.tasks["a"] is kept
        assert len(built) == 3
        assert [p.closed for p in built] == [False, True, False]

        s.swap(s.build([("a", kind, Config(target="a"))]))
        await settle()
        assert memory.batches[-1].task == "b"
        assert memory.batches[-1].samples == ()
        before = len(built[2].at)
        await clock.advance(60)
        assert len(built[2].at) == before
        await s.close()

    play(work())


def test_a_failed_build_changes_nothing():
    async def work():
        s, clock, _, _ = setup(OK)
        kind = Kind("bad", Config, (), lambda _c, _e: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            s.build([("bad", kind, Config())])
        await clock.advance(5)

        assert list(s.tasks) == ["test:t"]
        await s.close()

    play(work())


def test_a_watcher_is_restarted_later_each_time_and_its_pictures_replace_each_other():
    async def work():
        env, clock = fake_env()
        starts = []

        class Watch:
            async def watch(self):
                starts.append(clock.monotonic())
                yield [VALUE(len(starts)), Event("seen", "info", "something")]
                raise OSError("the socket broke")

        kind = Kind("w", PlainConfig, (VALUE,), lambda _c, _e: Watch())
        memory = Memory()
        s = Scheduler(env, [memory])
        s.swap(s.build([("w", kind, PlainConfig())]))
        await clock.advance(40)
        gaps = [b - a for a, b in itertools.pairwise(starts)]

        assert 1.5 < gaps[0] < 2.5
        assert gaps == sorted(gaps)
        assert memory.values("ronda_test_value")[:2] == [1, 2]
        event = next(e for b in memory.batches for e in b.events)
        assert event.first_seen == event.last_seen == 1_795_000_000
        assert any(x.metric.name == "ronda_watcher_restarts_total" and x.value >= 3 for x in s.samples())
        await s.close()

    play(work())


def test_many_tasks_start_in_bursts_and_none_is_forgotten():
    async def work():
        env, clock = fake_env()
        probes = [Probe(clock, [OK]) for _ in range(500)]
        kind = Kind("test", Config, (), lambda c, _e: probes[int(c.target)], probe=True)
        s = Scheduler(env, [])
        s.swap(s.build([(f"t{i}", kind, Config(target=str(i), interval=1.0, timeout=1.0)) for i in range(500)]))
        await clock.advance(5)

        assert all(4 <= len(p.at) <= 6 for p in probes)
        assert len({t for p in probes for t in p.at}) <= 32 * 6  # they share slots still
        await s.close()

    play(work())


def test_look_now_looks_within_a_second_and_keeps_the_schedule():
    async def work():
        s, clock, probe, _ = setup(OK, config=Config(interval=60.0))
        await clock.advance(5)
        before, due = len(probe.at), s.tasks["test:t"].due
        s.look_now()
        await clock.advance(1)

        assert len(probe.at) == before + 1
        assert s.tasks["test:t"].due == due
        await s.close()

    play(work())


def test_a_wall_clock_that_jumps_does_not_touch_the_schedule():
    async def work():
        s, clock, probe, _ = setup(OK)
        await clock.advance(16)
        clock.step_wall(-3 * 365 * 86400)
        n = len(probe.at)
        await clock.advance(30)

        assert len(probe.at) == n + 2
        await s.close()

    play(work())


@pytest.mark.parametrize(
    ("was", "in_a_row", "state"),
    [
        ("ok", 0, "ok"),
        ("ok", 1, "checking"),
        ("checking", 2, "checking"),
        ("checking", 3, "down"),
        ("down", 1, "down"),
        ("unknown", 1, "checking"),
        ("blind", 1, "checking"),
    ],
)
def test_confirm(was, in_a_row, state):
    assert confirm(was, in_a_row) == state


def test_offsets_are_spread_on_slots_and_the_same_each_time():
    offsets = [offset(f"icmp:10.0.0.{i}", 15.0) for i in range(200)]

    assert offsets == [offset(f"icmp:10.0.0.{i}", 15.0) for i in range(200)]
    assert all(o % 0.25 == 0 and 0 <= o < 15 for o in offsets)
    assert len(set(offsets)) == 15
    assert 0 <= offset("x", 0.05) < 0.05


@pytest.mark.parametrize(("rate", "width"), [(0, 1.0), (10, 1.0), (16, 1.0), (17, 0.5), (500, 1 / 32), (9999, 1 / 32)])
def test_slots_are_as_wide_as_they_can_be(rate, width):
    assert scheduler.slot_width(rate) == width


@pytest.mark.parametrize(("now", "interval", "at", "due"), [(100.0, 15.0, 3.0, 108.0), (108.0, 15.0, 3.0, 123.0), (2.0, 15.0, 3.0, 3.0)])
def test_next_due(now, interval, at, due):
    assert next_due(now, interval, at) == due


@pytest.mark.parametrize("interval", [0.05, 0.1, 0.3, 0.7, 1.1, 1 / 3])
def test_next_due_is_later_than_now_whatever_floats_make_of_it(interval):
    due = 1000.0
    for _ in range(2000):
        later = next_due(due, interval, 0.0)
        assert 0 < later - due < 1.5 * interval
        due = later


def test_close_waits_until_a_watcher_has_let_go():
    async def work():
        env, clock = fake_env()
        freed = []

        class Watch:
            async def watch(self):
                try:
                    yield [VALUE(1)]
                    await asyncio.Event().wait()
                finally:
                    await asyncio.sleep(0.01)
                    freed.append(True)

        kind = Kind("w", PlainConfig, (VALUE,), lambda _c, _e: Watch())
        s = Scheduler(env, [Memory()])
        s.swap(s.build([("w", kind, PlainConfig())]))
        await clock.advance(1)
        await s.close()

        assert freed == [True]

    play(work())


def test_reloads_leave_nothing_of_what_is_gone():
    async def work():
        env, clock = fake_env()
        kind = Kind("test", Config, (), lambda _c, _e: Probe(clock, [OK]), probe=True)
        s = Scheduler(env, [])
        for hours in range(1, 20):
            s.swap(s.build([(str(i), kind, Config(target=str(i), interval=hours * 3600.0)) for i in range(10)]))
            await clock.advance(10)

        assert len(s._heap) == 10
        await s.close()
        assert not s._heap

    play(work())


def test_a_dead_target_whose_timeout_is_its_interval_is_looked_at_each_time():
    async def work():
        env, clock = fake_env()

        async def dead():
            await clock.sleep(5.02)  # a timeout ends a little late
            return DOWN

        probe = Probe(clock, [dead])
        kind = Kind("test", Config, (), lambda _c, _e: probe, probe=True, reasons=("timeout",))
        s = Scheduler(env, [])
        s.swap(s.build([("test:t", kind, Config(interval=5.0, timeout=5.0))]))
        await clock.advance(900)

        assert len(probe.at) > 170
        assert s.skipped["overrun"] < 10
        await s.close()

    play(work())


def test_check_now_makes_no_outage_of_a_blip():
    async def work():
        s, clock, probe, _ = setup(OK, DOWN, config=Config(interval=60.0))
        await clock.advance(scheduler.FIRST_WITHIN)
        while s.tasks["test:t"].status.state == "ok":
            await clock.advance(0.05)
        first = probe.at[-1]
        for _ in range(19):
            s.look_now()
            await clock.advance(0.1)

        assert clock.monotonic() - first < 2
        assert s.tasks["test:t"].status.state == "checking"
        assert len(s._heap) <= 3
        await s.close()

    play(work())


@pytest.mark.parametrize(("interval", "failures"), [(0.1, 5), (0.5, 3), (1.2, 2)])
def test_failures_close_together_are_one_blip(interval, failures):
    async def work():
        s, clock, probe, memory = setup(OK, *[DOWN] * failures, OK, config=Config(interval=interval))
        await clock.advance(30)
        assert set(memory.values("ronda_probe_success")) == {1.0}

        probe.script = [DOWN]
        await clock.advance(4)
        assert s.tasks["test:t"].status.state == "down"
        await s.close()

    play(work())


def test_one_that_never_lets_go_does_not_hold_up_the_end(monkeypatch, caplog):
    monkeypatch.setattr(scheduler, "CLOSE_WITHIN", 0.05)

    async def work():
        let_go = asyncio.Event()

        async def stubborn():
            try:
                await asyncio.Event().wait()
            finally:
                await let_go.wait()

        s, clock, _, _ = setup(stubborn)
        await clock.advance(4)
        await s.close()
        assert "did not end within" in caplog.text
        let_go.set()
        await settle()

    play(work())


def test_a_ping_never_waits_for_many_that_hang(monkeypatch):
    monkeypatch.setattr(scheduler, "MAX_RUNS", 3)

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Ping(Config):
        overlapping: ClassVar[bool] = True

    async def work():
        env, clock = fake_env()
        ping = Probe(clock, [OK])

        async def hang():
            await asyncio.Event().wait()

        dead = Kind("dead", Config, (), lambda _c, _e: Probe(clock, [hang]), probe=True)
        alive = Kind("ping", Ping, (), lambda _c, _e: ping, probe=True)
        s = Scheduler(env, [])
        s.swap(s.build([("gw", alive, Ping(interval=1.0)), *((str(i), dead, Config(target=str(i))) for i in range(10))]))
        await clock.advance(20)

        assert len(ping.at) >= 20
        assert s.skipped["busy"] >= 7
        await s.close()

    play(work())


def test_a_retry_stands_for_the_regular_run_that_falls_on_it():
    async def work():
        env, clock = fake_env()

        async def dead():
            await clock.sleep(5.0)
            return DOWN

        kind = Kind("test", Config, (), lambda _c, _e: Probe(clock, [OK, dead]), probe=True, reasons=("timeout",))
        s = Scheduler(env, [])
        s.swap(s.build([(str(i), kind, Config(target=str(i))) for i in range(50)]))
        await clock.advance(120)

        assert {t.status.state for t in s.tasks.values()} == {"down"}
        assert s.skipped == {"overrun": 0, "busy": 0}
        await s.close()

    play(work())


def test_a_paced_task_looks_less_often_and_as_before_when_it_may_again() -> None:
    async def work():
        s, clock, made, _ = setup([succeeded(0.1)], config=Config(interval=15.0))
        await clock.advance(60)
        s.pace({"test:t": 60.0})
        before = len(made.at)
        await clock.advance(600)
        assert len(made.at) - before == 10
        assert {round(b - a, 6) for a, b in itertools.pairwise(made.at[before:])} == {60.0}
        assert s.statuses()[0].interval == 60.0
        s.pace({})
        before = len(made.at)
        await clock.advance(150)
        assert len(made.at) - before == 10
        s.pace({"test:t": 1.0})  # never more often than the config says
        await clock.advance(150)
        assert len(made.at) - before == 20

    play(work())


def test_pacing_a_task_does_not_put_off_its_first_look_and_tells_it() -> None:
    async def work():
        s, clock, made, _ = setup([succeeded(0.1)], config=Config(interval=15.0))
        made.told = []
        made.paced = made.told.append
        s.pace({"test:t": 3600.0})
        await clock.advance(3)
        assert len(made.at) == 1
        assert made.told == [3600.0]
        await clock.advance(3600)
        assert len(made.at) == 2

    play(work())


def test_a_paced_probe_that_fails_is_tried_again_at_once() -> None:
    async def work():
        s, clock, made, _ = setup([succeeded(0.1)], [failed("timeout")], config=Config(interval=1.0, timeout=1.0))
        s.pace({"test:t": 600.0})
        await clock.advance(700)
        assert len(made.at) >= 4
        assert made.at[3] - made.at[1] <= 3
        assert s.statuses()[0].state == "down"

    play(work())


def test_a_flapping_link_has_what_is_stretched_look_now_and_then_only() -> None:
    async def work():
        s, clock, made, _ = setup([succeeded(0.1)], config=Config(interval=15.0))
        await clock.advance(10)
        s.pace({"test:t": 3600.0})
        before = len(made.at)
        for _ in range(6):
            s.look_now()
            await clock.advance(10)
        assert len(made.at) - before == 6
        for _ in range(300):
            s.look_now()
            await clock.advance(10)
        assert 9 <= len(made.at) - before - 6 <= 12
        s.pace({})
        before = len(made.at)
        s.look_now()
        await clock.advance(1)
        assert len(made.at) == before + 1

    play(work())


def test_bytes_of_probes_are_counted_by_kind_and_uplink() -> None:
    async def work():
        cost = Traffic(100, 40)
        s, clock, _, _ = setup(
            [succeeded(0.1)._replace(traffic=cost)], [failed("send")._replace(traffic=cost)], config=Config(interval=15.0)
        )
        s.tasks["test:t"].uplink = "wan2"
        await clock.advance(31)
        found = {sample.labels: sample.value for sample in s.samples() if sample.metric.name == "ronda_probe_bytes_total"}
        runs = s.tasks["test:t"].runs
        assert runs >= 2
        assert found == {("test", "wan2", "sent"): 100.0 * runs, ("test", "wan2", "received"): 40.0 * runs}

    play(work())
