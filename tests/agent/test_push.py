"""What the centre is told, and when: tiers, changes at once, gauges left out, series that end. Time is a fake clock's."""

import asyncio
import bisect
import functools
import itertools
import math
import random
from typing import NamedTuple

import pytest

from agent.detect.casebook import ACTIVE, OPENED, WHERE
from agent.model import Batch, Event, Histogram, Metric
from agent.push import BEAT, BURY, METERED_BEAT, METERED_SERIES, PROBES, SLOW, UNCHANGED, Push, phase, tier_of
from agent.wire import remote_write
from tests.fakes import FakeClock

SUCCESS = Metric("ronda_probe_success", "", labels=("kind",))
REASON = Metric("ronda_probe_reason_info", "", labels=("kind", "reason"))
DURATION = Metric("ronda_probe_duration_seconds", "", labels=("kind",))
SENT = Metric("ronda_icmp_packets_sent_total", "", "counter")
RTT = Metric("ronda_icmp_rtt_seconds", "", "histogram")
LOAD = Metric("ronda_host_load1", "")
BEATS = Metric("ronda_heartbeat_timestamp_seconds", "")
STATE = Metric("ronda_site_state", "", labels=("state",))
UP = Metric("ronda_collector_up", "", labels=("task",))


class Told(NamedTuple):
    """A row as the centre sees it. at: seconds since the test began."""

    name: str
    at: float
    value: float
    labels: dict[str, str]


class Bench:
    """A Push on a fake clock, and all that it told."""

    def __init__(self, profile: str = "fibre", site: str = "dukcapil") -> None:
        self.clock = FakeClock()
        self.began = self.clock.monotonic()
        self.state = "ok"
        self.own = [UP(1.0, "icmp:gateway")]
        self.calls: list[list[Told]] = []
        self.push = Push(self.clock, site, profile, lambda: [*self.states(), *self.own], self.states, self.take)

    def states(self):
        return [BEATS(self.clock.now()), *(STATE(float(s == self.state), s) for s in ("ok", "down"))]

    def take(self, rows) -> None:
        told = []
        for row in rows:
            [(labels, _)] = remote_write.parse(remote_write.join([(row.series.head, [])]))
            assert list(labels) == sorted(labels)
            found = dict(labels)
            told.append(Told(found.pop("__name__"), round(row.at - self.began, 3), row.value, found))
        self.calls.append(told)

    def write(self, task: str, *samples, labels=None, events=()) -> None:
        target = {"task": task, "target": "192.0.2.1"} if labels is None else labels
        self.push.write(Batch(task, target, self.clock.now(), samples, events))

    @property
    def rows(self) -> list[Told]:
        return [row for call in self.calls for row in call]

    def of(self, name: str, **labels: str) -> list[tuple[float, float]]:
        """(at, value) of all rows of a series; the stale marker is None."""
        return [
            (r.at, None if remote_write.is_stale(r.value) else r.value)
            for r in self.rows
            if r.name == name and labels.items() <= r.labels.items()
        ]

    async def run(self, seconds: float, each: float = 1.0, look=None) -> None:
        self.push.start() if not self.calls and self.push._alarm is None else None
        for _ in range(round(seconds / each)):
            if look:
                look()
            await self.clock.advance(each)


def run(work) -> None:
    asyncio.run(work)


def test_a_sites_beat_is_its_own_and_always_the_same() -> None:
    phases = [phase(f"desa-{n}") for n in range(200)]

    assert phases == [phase(f"desa-{n}") for n in range(200)]
    assert all(0 <= p < BEAT for p in phases)
    assert len({int(p) for p in phases}) == BEAT


def test_every_series_carries_the_sites_labels_and_a_task_cannot_take_them() -> None:
    async def work() -> None:
        bench = Bench()
        bench.write("t", SUCCESS(1, "icmp"), labels={"task": "t", "target": "x", "empty": "", "role": "anchor"})
        await bench.clock.advance(1)

        [row] = [r for r in bench.rows if r.name == SUCCESS.name]
        assert row.labels == {
            "job": "ronda", "instance": "dukcapil", "site": "dukcapil", "task": "t", "target": "x", "role": "anchor", "kind": "icmp",
        }  # fmt: skip

    run(work())


def test_hostile_labels_come_out_as_they_went_in() -> None:
    async def work() -> None:
        bench = Bench()
        name = 'a"}{\\n\n{{ }}<&\U0001f4a9' + "x" * 200
        bench.write(name, SUCCESS(1, "icmp"), labels={"task": name, "target": name})
        await bench.clock.advance(1)

        assert bench.rows[0].labels["task"] == name

    run(work())


def test_each_tier_has_its_time() -> None:
    async def work() -> None:
        bench = Bench()
        n = 0

        def look() -> None:
            nonlocal n
            n += 1
            histogram = Histogram(RTT, (0.1,))
            bench.write("icmp", SENT(n), DURATION(n / 1000, "icmp"), SUCCESS(1, "icmp"), *histogram.samples())
            bench.write("host", LOAD(n), labels={})

        await bench.run(1200, look=look)

        beats = [at for at, _ in bench.of(BEATS.name)]
        gaps = {round(b - a, 3) for a, b in itertools.pairwise(beats[1:])}
        assert gaps == {BEAT}
        for name, every in ((SENT.name, PROBES), (DURATION.name, PROBES), ("ronda_icmp_rtt_seconds_bucket", SLOW), (LOAD.name, SLOW)):
            times = [at for at, _ in bench.of(name, **({"le": "+Inf"} if "bucket" in name else {}))]
            assert len(times) >= 3
            assert all(abs(b - a - every) <= 1 for a, b in itertools.pairwise(times[1:])), name

    run(work())


def test_a_change_is_told_within_a_moment_with_the_last_unchanged_sample_before_it() -> None:
    async def work() -> None:
        bench = Bench()
        for at in range(40):
            bench.write("t", SUCCESS(1, "tcp"))
            await bench.clock.advance(1)
            assert at >= 0
        before = len(bench.calls)
        bench.write("t", SUCCESS(0, "tcp"), REASON(1, "tcp", "refused"))
        await bench.clock.advance(0.25)

        assert [(r.name, r.at, r.value) for r in bench.calls[before]] == [
            (SUCCESS.name, 39.0, 1.0),
            (SUCCESS.name, 40.0, 0.0),
            (REASON.name, 40.0, 1.0),
        ]
        bench.write("t", SUCCESS(1, "tcp"))
        await bench.clock.advance(0.25)
        assert bench.of(REASON.name)[-1] == (40.25, None)

    run(work())


@pytest.mark.parametrize("profile", ["fibre", "metered"])
def test_a_finding_comes_with_its_id_and_its_place(profile: str) -> None:
    """The message is made a few seconds later: what comes after that comes too late."""

    async def work() -> None:
        bench = Bench(profile)
        bench.write("lan", LOAD(1.0))
        await bench.clock.advance(20.0)
        found = [ACTIVE(1.0, "gateway_mac", "critical"), OPENED(1000.0025, "gateway_mac", "critical")]
        found.append(WHERE(1.0, "gateway_mac", "switch-1", "11"))
        bench.write("lan", LOAD(1.0), *found)
        await bench.clock.advance(0.3)
        assert [len(bench.of(sample.metric.name)) for sample in found] == [1, 1, 1]

    run(work())


def test_changes_of_many_tasks_go_together() -> None:
    async def work() -> None:
        bench = Bench()
        for n in range(10):
            bench.write(f"t{n}", SUCCESS(1, "tcp"))
            await bench.clock.advance(0.01)
        await bench.clock.advance(1)

        assert len(bench.calls) == 1
        assert len(bench.of(SUCCESS.name)) == 10

    run(work())


def test_the_verdict_is_told_at_once_when_nudged() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.run(100)
        before = len(bench.calls)
        bench.state = "down"
        bench.push.nudge()
        await bench.clock.advance(0.3)

        [call] = bench.calls[before:]
        assert {(r.labels["state"], r.value) for r in call if r.at > 99.9} == {("ok", 0.0), ("down", 1.0)}

    run(work())


def test_an_unchanged_gauge_is_left_out_for_two_minutes_at_most_a_counter_never() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.run(900, look=lambda: bench.write("t", SUCCESS(1, "tcp"), SENT(7), DURATION(0.5, "tcp")))

        for name in (SUCCESS.name, DURATION.name):
            times = [at for at, _ in bench.of(name)]
            assert all(b - a <= UNCHANGED + 1e-6 for a, b in itertools.pairwise(times))
        assert len(bench.of(SUCCESS.name)) <= 900 / 100 + 2
        assert len(bench.of(SENT.name)) >= 900 // PROBES

    run(work())


# -- what PromQL makes of what was told, beside what it makes of every sample there was (point 6)

WINDOW = 660.0  # seconds: the shortest that a panel or rule looks back on (central/dashboards/promql.py)
EACH = 15.0  # seconds between evaluations
Points = list[tuple[float, float]]


def within(points: Points, start: float, end: float) -> Points:
    return points[bisect.bisect_left(points, (start, -math.inf)) : bisect.bisect_right(points, (end, math.inf))]


def risen(points: Points) -> float:
    """From the first to the last, resets undone."""
    return sum(b - a if b >= a else b for (_, a), (_, b) in itertools.pairwise(points))


def increase(points: Points, start: float, end: float) -> float | None:
    """As PromQL's increase (extrapolatedRate of Prometheus' promql/functions.go). None: no result."""
    points = within(points, start, end)
    if len(points) < 2:
        return None
    (first, value), (last, _) = points[0], points[-1]
    result, span = risen(points), last - first
    before, after, mean = first - start, end - last, span / (len(points) - 1)
    if result > 0 and value >= 0:
        before = min(before, span * value / result)
    reach = span + (before if before < 1.1 * mean else mean / 2) + (after if after < 1.1 * mean else mean / 2)
    return result * reach / span


def changes(points: Points, start: float, end: float) -> int:
    return sum(a != b for (_, a), (_, b) in itertools.pairwise(within(points, start, end)))


class Course:
    """What a site saw, second by second, and what it told: by profile, fed with the same numbers, through a restart of the agent."""

    NAMES = ("state", "bursts", "steady", "slow", "bucket", "gauge")
    SLOW_COUNTER = Metric("ronda_probe_failures_total", "", "counter", ("kind", "reason"))
    LATE = Metric("ronda_icmp_packets_late_total", "", "counter")

    def __init__(self, profile: str) -> None:
        self.profile, self.dice = profile, random.Random(7)
        self.seen: dict[str, Points] = {name: [] for name in self.NAMES}
        self.told: dict[str, Points] = {name: [] for name in self.NAMES}

    def look(self, bench: Bench, began: float, values: dict[str, float], histogram: Histogram) -> None:
        dice = self.dice
        values["state"] = 1.0 - values["state"] if dice.random() < 0.01 else values["state"]
        values["bursts"] += dice.choice((0, 0, 0, 0, 0, 0, 9))
        values["steady"] += 1
        values["slow"] += dice.random() < 0.02
        values["gauge"] = dice.choice((0.1, 0.1, 0.1, 0.2))
        histogram.observe(dice.random())
        values["bucket"] = float(histogram.count)
        for name, value in values.items():
            self.seen[name].append((round(began + bench.clock.monotonic() - bench.began, 3), value))
        bench.write(
            "t", SUCCESS(values["state"], "icmp"), SENT(values["steady"]), self.LATE(values["bursts"]),
            self.SLOW_COUNTER(values["slow"], "icmp", "timeout"), DURATION(values["gauge"], "icmp"), *histogram.samples(),
        )  # fmt: skip

    async def run(self, began: float, seconds: float) -> None:
        """One life of the agent, from `began` on; its counters start at 0, and its end is told."""
        bench, histogram = Bench(self.profile), Histogram(RTT, (0.5,))
        values = {name: float(name == "state") for name in self.NAMES}
        await bench.run(seconds, look=lambda: self.look(bench, began, values, histogram))
        bench.push.close()
        for name, told in {
            "state": bench.of(SUCCESS.name), "bursts": bench.of(self.LATE.name), "steady": bench.of(SENT.name),
            "slow": bench.of(self.SLOW_COUNTER.name), "bucket": bench.of("ronda_icmp_rtt_seconds_bucket", le="+Inf"),
            "gauge": bench.of(DURATION.name),
        }.items():  # fmt: skip
            self.told[name] += [(round(began + at, 3), value) for at, value in told if value is not None]

    @property
    def moments(self) -> list[float]:
        """When PromQL is asked: once a window is full."""
        end = self.seen["steady"][-1][0]
        return [WINDOW + 2 + n * EACH for n in range(int((end - WINDOW - 2) // EACH))]


@functools.cache
def course(profile: str) -> Course:
    made = Course(profile)

    async def work() -> None:
        await made.run(0.0, 3000)
        await made.run(3007.0, 3000)  # restarted within seconds, its counters at 0 again

    run(work())
    return made


BY_MINUTE, BY_FIVE = ("bursts", "steady"), ("slow", "bucket")
TOLD = [
    *(pytest.param("fibre", name, PROBES, id=f"fibre-{name}") for name in BY_MINUTE),
    *(pytest.param("fibre", name, SLOW, id=f"fibre-{name}") for name in BY_FIVE),
    pytest.param("metered", "steady", METERED_BEAT, id="metered-steady"),
]


@pytest.mark.parametrize(("profile", "name", "tier"), TOLD)
def test_rate_and_increase_are_those_of_the_full_series(profile: str, name: str, tier: float) -> None:
    """Between the samples told nothing is missed; what lies before the first and after the last of a window is guessed, by PromQL.

    So increase errs by no more than what happened in these ends (less than a tier each), or was guessed to.
    """
    told, seen = course(profile).told[name], course(profile).seen[name]
    for end in course(profile).moments:
        start = end - WINDOW
        found, part = increase(told, start, end), within(told, start, end)
        assert found is not None, f"no result at {end}"
        first, last = part[0][0], part[-1][0]
        assert max(first - start, end - last) <= tier + 8  # 8: a restart's few seconds
        inner = risen(within(seen, first, last))
        assert risen(part) == inner
        ends = risen(within(seen, start, first)) + risen(within(seen, last, end))
        assert abs(found - (inner + ends)) <= max(ends, found - inner) + 1e-6
        assert found - inner <= inner * (WINDOW - (last - first)) / (last - first) + 1e-6


@pytest.mark.parametrize(("profile", "name"), [("fibre", "steady"), ("fibre", "bucket"), ("metered", "steady")])
def test_the_rate_of_what_grows_evenly_is_exact(profile: str, name: str) -> None:
    """One a second, told at even ticks; around a start PromQL guesses more, since the first ticks are not even."""
    told, even = course(profile).told[name], 0
    for end in course(profile).moments:
        if not any(end - WINDOW - 10 <= beginning <= end for beginning in (0, 3000)):
            assert increase(told, end - WINDOW, end) == pytest.approx(WINDOW)
            even += 1
    assert even > 200


@pytest.mark.parametrize("profile", ["fibre", "metered"])
def test_changes_are_those_of_the_full_series_in_every_window(profile: str) -> None:
    made = course(profile)
    counted = 0
    for end in made.moments:
        for length in (60.0, WINDOW):
            found, wanted = (changes(points["state"], end - length, end) for points in (made.told, made.seen))
            assert found == wanted, (end, length)
            counted += wanted
    assert counted > 100


def test_step_filling_the_states_gives_every_value_that_was_seen() -> None:
    told, seen = course("fibre").told["state"], course("fibre").seen["state"]
    for at, value in seen[:-1]:
        assert told[bisect.bisect_right(told, (at, math.inf)) - 1][1] == value
    assert [at for at, _ in told] == sorted({at for at, _ in told})


def test_a_gauges_last_value_is_one_that_was_seen_at_that_time_and_not_long_ago() -> None:
    told, seen = course("fibre").told["gauge"], dict(course("fibre").seen["gauge"])
    for end in course("fibre").moments:
        at, value = within(told, end - WINDOW, end)[-1]
        assert seen[at] == value
        assert end - at <= UNCHANGED + 8


def test_a_task_that_ends_takes_its_series_with_it() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.run(70, look=lambda: (bench.write("a", SUCCESS(1, "tcp"), SENT(3)), bench.write("b", SUCCESS(1, "tcp"))))
        bench.write("a")
        await bench.clock.advance(1)

        assert bench.of(SUCCESS.name, task="a")[-1] == (70.0, None)
        assert bench.of(SENT.name, task="a")[-1] == (70.0, None)
        assert bench.of(SUCCESS.name, task="b")[-1][1] == 1.0
        await bench.run(400, look=lambda: bench.write("b", SUCCESS(1, "tcp")))
        assert [v for _, v in bench.of(SENT.name, task="a")].count(None) == 1

    run(work())


def test_what_vanishes_from_a_batch_ends_at_the_next_tick_of_its_tier() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.run(130, look=lambda: bench.write("t", SENT(3), DURATION(0.1, "tcp")))
        await bench.run(130, look=lambda: bench.write("t", SENT(3)))

        assert bench.of(DURATION.name)[-1][1] is None
        assert bench.of(SENT.name)[-1][1] == 3.0

    run(work())


def test_the_agents_own_metrics_do_not_end_between_their_ticks() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.run(1000)

        assert None not in [v for _, v in bench.of(UP.name)]
        bench.own = []
        await bench.run(310)
        assert bench.of(UP.name)[-1][1] is None

    run(work())


def test_events_alone_change_nothing() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.run(70, look=lambda: bench.write("t", SENT(3)))
        bench.write("t", events=[Event("x", "info", "y")])
        await bench.clock.advance(1)

        assert None not in [v for _, v in bench.of(SENT.name)]

    run(work())


def test_the_end_of_the_agent_is_told_in_full_and_ends_no_series() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.run(65, look=lambda: bench.write("t", SENT(bench.clock.monotonic())))
        bench.push.close()
        bench.write("t")
        await bench.clock.advance(400)

        assert bench.of(SENT.name)[-1] == (64.0, 1064.0)
        assert not any(remote_write.is_stale(r.value) for r in bench.rows)
        assert max(r.at for r in bench.rows) <= 65.01

    run(work())


def test_what_a_task_still_sees_while_the_agent_ends_is_told() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.run(65, look=lambda: bench.write("t", SUCCESS(1, "icmp")))
        bench.push.leave()
        bench.write("t", SUCCESS(0, "icmp"))
        bench.write("t")
        bench.push.close()

        assert [v for _, v in bench.of(SUCCESS.name)][-1] == 0
        assert not any(remote_write.is_stale(r.value) for r in bench.rows)

    run(work())


def test_a_restart_ends_what_it_does_not_go_on_with_and_makes_no_gap_in_the_rest() -> None:
    async def work() -> None:
        before, after = Bench(), Bench()
        await before.run(
            65, look=lambda: [before.write(t, SUCCESS(0, "tcp"), REASON(1, "tcp", "refused"), LOAD(1)) for t in ("stays", "goes")]
        )
        before.push.close()
        after.push.inherit(set(before.push.heads()))
        await after.run(300, look=lambda: after.write("stays", SUCCESS(1, "tcp"), LOAD(1)))

        ended = {(r.name, r.labels["task"]) for r in after.rows if remote_write.is_stale(r.value)}
        assert ended == {(SUCCESS.name, "goes"), (REASON.name, "goes"), (LOAD.name, "goes"), (REASON.name, "stays")}
        assert [v for _, v in after.of(SUCCESS.name, task="goes")] == [None]
        assert None not in [v for _, v in after.of(SUCCESS.name, task="stays")]
        assert all(BURY <= at <= BURY + 1 for at, v in after.of(SUCCESS.name, task="goes"))

    run(work())


def test_times_of_a_series_only_grow_whatever_its_task_does() -> None:
    """A task that looks every hour is told at its ticks all the same, as a scrape would."""

    async def work() -> None:
        bench = Bench()
        bench.write("hourly", SUCCESS(1, "http"), SENT(1))
        await bench.run(700)
        bench.write("hourly", SUCCESS(0, "http"), SENT(2))
        await bench.run(100)

        for name in (SUCCESS.name, SENT.name):
            times = [at for at, _ in bench.of(name)]
            assert times == sorted(set(times))
            assert max(b - a for a, b in itertools.pairwise(times)) <= UNCHANGED + 1e-6

    run(work())


def test_metered_tells_sixty_series_every_five_minutes_and_changes_at_once() -> None:
    async def work() -> None:
        bench = Bench("metered")

        def look() -> None:
            for n in range(100):
                bench.write(f"t{n}", SUCCESS(1, "icmp"), SENT(5), DURATION(0.1, "icmp"), LOAD(1))

        await bench.run(1000, each=10, look=look)
        ticks = [call for call in bench.calls if any(r.name == BEATS.name for r in call)]
        assert len(ticks) in (4, 5)
        for call in ticks:
            series = {(r.name, tuple(sorted(r.labels.items()))) for r in call if not remote_write.is_stale(r.value)}
            assert len(series) <= METERED_SERIES
            assert {BEATS.name, STATE.name, SUCCESS.name} <= {name for name, _ in series}
        before = len(bench.calls)
        for n in range(100):
            bench.write(f"t{n}", SUCCESS(0, "icmp"), SENT(5))
        await bench.clock.advance(0.3)
        assert len([r for r in bench.calls[before] if r.value == 0.0]) == 100
        assert not any(remote_write.is_stale(r.value) and r.name == SUCCESS.name for r in bench.rows)

    run(work())


def test_too_many_series_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        monkeypatch.setattr("agent.push.MAX_SERIES", 5)
        bench = Bench()
        for n in range(9):
            bench.write(f"t{n}", SUCCESS(1, "icmp"))
        await bench.clock.advance(1)

        assert len(bench.rows) == 5
        assert bench.push.dropped >= 4

    run(work())


def test_a_value_that_is_no_number_is_not_told_again_and_again() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.run(400, look=lambda: bench.write("t", SUCCESS(math.nan, "tcp")))

        assert len(bench.of(SUCCESS.name)) <= 5

    run(work())


def test_what_is_told_each_minute_is_little_and_named() -> None:
    def tier(name: str, sort: str = "gauge", targeted: bool = True) -> float:
        return tier_of(Metric(name, "", sort), targeted)

    assert [tier(n) for n in (SUCCESS.name, BEATS.name, STATE.name)] == [BEAT] * 3
    assert [tier(DURATION.name), tier(SENT.name, "counter")] == [PROBES] * 2
    assert [tier("ronda_probe_failures_total", "counter"), tier("ronda_snmp_interface_receive_bytes_total", "counter")] == [SLOW] * 2
    assert [tier(RTT.name, "histogram"), tier("ronda_http_phase_duration_seconds"), tier(LOAD.name, targeted=False)] == [SLOW] * 3


def test_metered_tells_the_ledger_before_what_says_little() -> None:
    async def work() -> None:
        bench = Bench("metered")
        ledger = Metric("ronda_samples_undelivered_total", "", "counter", ("reason",))
        bench.own += [ledger(3, "overflow"), ledger(0, "refused")]

        def look() -> None:
            for n in range(METERED_SERIES - 4):  # with heartbeat, the state that is and two reasons: all there is room for
                bench.write(f"t{n}", SUCCESS(1, "icmp"), SENT(5))

        await bench.run(1000, each=10, look=look)
        ticks = [call for call in bench.calls if any(r.name == BEATS.name for r in call)]
        for call in ticks[1:]:
            assert {(r.name, r.value) for r in call if r.name == STATE.name} == {(STATE.name, 1.0)}
            assert {r.value for r in call if r.name == ledger.name} == {3.0, 0.0}

    run(work())


def test_of_devices_metered_tells_the_uplinks_interfaces_the_signal_and_the_battery() -> None:
    async def work() -> None:
        bench = Bench("metered")
        octets = Metric("ronda_snmp_interface_receive_bytes_total", "", "counter", ("interface",))
        rsrp, battery = Metric("ronda_snmp_lte_rsrp_dbm", "", labels=("interface",)), Metric("ronda_snmp_ups_on_battery", "")

        def look() -> None:
            ports = [octets(bench.clock.monotonic(), name) for name in ("ether1", "pppoe out", "ether2", "ether")]
            bench.write("router", *ports, rsrp(-101, "lte1"), labels={"task": "router", "target": "gateway", "uplinks": "pppoe out,ether1"})
            bench.write("switch", octets(1, "ether1"))
            bench.write("ups", battery(0))

        await bench.run(700, each=10, look=look)
        told = {(r.labels["task"], r.labels["interface"]) for r in bench.rows if r.name == octets.name}
        assert told == {("router", "ether1"), ("router", "pppoe out")}
        assert (len(bench.of(rsrp.name)) >= 2, {v for _, v in bench.of(battery.name)}) == (True, {0.0})
        bench.write("ups", battery(1))
        await bench.clock.advance(0.3)
        assert bench.of(battery.name)[-1][1] == 1.0, "at once"

    run(work())


def test_of_a_watched_interface_metered_tells_whether_it_is_up_at_once_and_no_traffic() -> None:
    async def work() -> None:
        bench = Bench("metered")
        up, octets = (Metric(f"ronda_snmp_interface_{n}", "", labels=("interface",)) for n in ("up", "receive_bytes_total"))

        def look(sfp1: float = 1) -> None:
            ports = [sample for name in ("sfp1", "ether7") for sample in (up(sfp1, name), octets(5, name))]
            bench.write("switch", *ports, labels={"task": "switch", "watch": "sfp1"})

        await bench.run(300, each=10, look=look)
        look(0)
        await bench.clock.advance(0.3)
        told = [r for r in bench.rows if r.name in (up.name, octets.name)]
        assert {(r.name, r.labels["interface"]) for r in told} == {(up.name, "sfp1")}
        assert told[-1].value == 0.0, "at once"

    run(work())


def test_it_tells_what_metered_tells_and_all_of_it_again() -> None:
    """A budget that runs short: what metered does not tell is left out rather than ended, and states go at once all the same."""

    async def work() -> None:
        bench = Bench()

        def look() -> None:
            bench.write("t", SUCCESS(1, "tcp"), SENT(bench.clock.monotonic()), LOAD(1))

        await bench.run(100, look=look)
        bench.push.pace("metered")
        await bench.run(20, look=look)
        since = bench.clock.monotonic() - bench.began
        await bench.run(1400, look=look)
        beats = [at for at, _ in bench.of(BEATS.name) if at > since]
        assert {round(b - a, 3) for a, b in itertools.pairwise(beats)} == {BEAT}  # or the centre would call the site silent
        assert len([at for at, _ in bench.of(SENT.name) if at > since]) in (4, 5)
        assert len([at for at, _ in bench.of(SUCCESS.name) if at > since]) in (4, 5)
        assert not any(at > since for at, _ in bench.of(LOAD.name))
        assert None not in [v for _, v in bench.of(LOAD.name)]
        bench.write("t", SUCCESS(0, "tcp"))
        await bench.clock.advance(0.3)
        assert bench.of(SUCCESS.name)[-1][1] == 0.0
        bench.push.pace("fibre")
        back = bench.clock.monotonic() - bench.began
        await bench.run(100, look=look)
        assert [at for at, _ in bench.of(LOAD.name) if at > back - 2]  # what was seen last
        assert len([at for at, _ in bench.of(BEATS.name) if at > back]) >= 6

    run(work())
