"""Push against the stores that sites really push to, Debian's Prometheus and VictoriaMetrics: what they hold afterwards.

The clocks here are the machine's, or it with an offset: a store stamps, and refuses, by its own.
"""

import asyncio
import random
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.buffer import Buffer, Rank
from agent.clock import SystemClock
from agent.collector import Env
from agent.config import PushConfig
from agent.delivery import Boot, Centre, Delivery, compress, probe, to_record
from agent.model import Batch, Metric
from agent.net import Net
from agent.push import Push, Row, Series
from agent.wire import remote_write
from tests.fakes import FakeClock
from tests.receiver import Store, prometheus, victoria_metrics

YEARS = 3 * 365 * 86400.0
VALUE = Metric("ronda_probe_success", "", labels=("kind",))
COUNT = Metric("ronda_icmp_packets_lost_total", "", "counter")
HEARTBEAT = Metric("ronda_heartbeat_timestamp_seconds", "")


class Off(SystemClock):
    """The machine's clock, wrong by `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def now(self) -> float:
        return time.time() + self.seconds


async def until(true: Callable[[], object], what: str) -> None:
    for _ in range(400):
        if true():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(what)


class Site:
    """A site's Delivery, without an agent around it."""

    def __init__(self, store: Store, folder: Path, name: str, off: float = 0.0) -> None:
        self.clock, self.name = Off(off), name
        self.buffer = Buffer(folder / name, name, self.clock)
        self.delivery = Delivery(Env(self.clock, Net(), Path("/")), PushConfig(url=store.url), self.buffer, lambda: None)
        head = remote_write.head((("__name__", "x"), ("job", "ronda"), ("site", name)))
        self.series = Series("x", head, "t", 15.0, 1, True)

    async def tell(self, value: float) -> None:
        had = sum(self.delivery.delivered.values())
        self.delivery.add([Row(self.series, self.clock.monotonic(), value)])
        await until(lambda: sum(self.delivery.delivered.values()) > had, f"{self.name}: {self.delivery.problem}")

    async def close(self) -> None:
        await self.delivery.close()
        self.buffer.close()


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize("window", ["", "7d"], ids=["no window", "7d"])
def test_three_years_ahead_and_three_behind_cost_no_other_site_a_sample(tmp_path: Path, window: str) -> None:
    async def work(store: Store) -> None:
        sites = [Site(store, tmp_path, "sehat"), Site(store, tmp_path, "depan", YEARS), Site(store, tmp_path, "belakang", -YEARS)]
        for site in sites:
            site.delivery.start()
        for n in range(3):
            for site in sites:
                await site.tell(float(n))
        found = {r["metric"]["site"]: [float(v) for _, v in r["values"]] for r in store.query('x{job="ronda"}[5m]', time.time() + 10)}
        assert found == {site.name: [0.0, 1.0, 2.0] for site in sites}
        stamps = [float(t) for r in store.query("x[10y]", time.time() + YEARS) for t, _ in r["values"]]
        assert all(abs(t - time.time()) < 60 for t in stamps)
        assert [site.buffer.ledger.total for site in sites] == [0, 0, 0]
        for site in sites:
            await site.close()

    with prometheus(tmp_path, window) as store:
        asyncio.run(work(store))


def old(seconds: float, series: Series, n: int = 10) -> list:
    clock = SystemClock()
    rows = [Row(series, clock.monotonic() - seconds + i, float(i)) for i in range(n)]
    return [to_record(Rank.SAMPLES, rows, time.time() - clock.monotonic(), Boot(b"x" * 16, False), 0.0)]


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize("window", ["", "1h"], ids=["no window: 400", "window too short: 500"])
def test_a_receiver_whose_window_is_too_short_costs_the_backlog_and_no_live_sample(tmp_path: Path, window: str) -> None:
    """Prometheus 2.42 answers 400 to what is out of order, and 500 to what is older than its window: neither may block the queue."""

    async def work(store: Store) -> None:
        site = Site(store, tmp_path, "dukcapil")
        site.delivery.start()
        await site.tell(1.0)
        assert site.buffer.append(old(2 * 3600, site.series)) == []
        await site.tell(2.0)
        await until(lambda: not site.buffer.records, f"the backlog blocks: {site.delivery.problem}")
        await until(lambda: site.buffer.ledger.counts["refused"] == 10, "the ledger")
        await site.tell(3.0)
        assert [v for r in store.values("x", "1m", time.time() + 1) for _, v in r] == [1.0, 2.0, 3.0]
        await site.close()

    with prometheus(tmp_path, window) as store:
        asyncio.run(work(store))


STORES = [
    pytest.param(prometheus, marks=pytest.mark.needs("prometheus"), id="prometheus"),
    pytest.param(victoria_metrics, marks=pytest.mark.needs("victoria-metrics"), id="victoria-metrics"),
]


@pytest.mark.parametrize("running", STORES)
def test_what_was_measured_while_the_store_was_away_is_there_afterwards(tmp_path: Path, running) -> None:
    async def work(store: Store) -> None:
        site = Site(store, tmp_path, "dukcapil")
        site.delivery.start()
        await site.tell(1.0)
        await asyncio.to_thread(store.stop)
        site.delivery.add([Row(site.series, site.clock.monotonic(), 2.0)])
        assert site.buffer.append(old(1800, site.series)) == []
        await until(lambda: site.delivery.problem, "trouble is seen")
        await asyncio.to_thread(store.start)
        site.delivery.hurry()
        await until(lambda: not site.buffer.records and not site.delivery.pending, "all is delivered")
        await asyncio.sleep(2)  # VictoriaMetrics shows what it took after a second
        [found] = store.values("x", "1h", time.time() + 1)
        assert [v for _, v in found] == [*(float(i) for i in range(10)), 1.0, 2.0]
        assert site.buffer.ledger.total == 0
        await site.close()

    with running(tmp_path) as store:
        asyncio.run(work(store))


@pytest.mark.parametrize("running", STORES)
def test_a_series_that_ended_is_gone_at_once_and_not_after_five_minutes(tmp_path: Path, running) -> None:
    async def work(store: Store) -> None:
        clock = SystemClock()
        buffer = Buffer(tmp_path / "buffer", "dukcapil", clock)
        centre = Centre(Env(clock, Net(), Path("/")), "dukcapil", PushConfig(url=store.url), buffer, list, lambda: [HEARTBEAT(clock.now())])
        centre.start()
        centre.write(Batch("t", {"task": "t", "target": 'a"b\\c\nd💩'}, clock.now(), (VALUE(1, "icmp"),)))
        await until(lambda: store.query("ronda_probe_success", time.time() + 0.1), "it is there")
        [found] = store.query("ronda_probe_success", time.time() + 0.1)
        labels = {"__name__", "job", "instance", "site", "task", "target", "kind"}
        assert set(found["metric"]) == labels
        assert found["metric"]["target"] == 'a"b\\c\nd💩'
        centre.write(Batch("t", {"task": "t", "target": 'a"b\\c\nd💩'}, clock.now(), ()))
        await until(lambda: not store.query("ronda_probe_success", time.time() + 0.1), "it is gone")
        await centre.close()
        buffer.close()

    with running(tmp_path) as store:
        asyncio.run(work(store))


class Full:
    """Half an hour of one site, told by Push, and beside it (job="full") every sample that was seen; both put into a real store."""

    def __init__(self) -> None:
        self.clock = FakeClock(wall=time.time() - 1900)
        self.start, self.mono = self.clock.now(), self.clock.monotonic()
        self.told: list[Row] = []
        self.seen: dict[bytes, list[tuple[int, float]]] = {}
        self.push = Push(self.clock, "dukcapil", "fibre", list, lambda: [HEARTBEAT(self.clock.now())], self.told.extend)

    def look(self, value: float, count: float) -> None:
        now = self.clock.now()
        for name, v, labels in (("ronda_probe_success", value, ()), ("ronda_icmp_packets_lost_total", count, ())):
            head = remote_write.head((("__name__", name), ("job", "full"), ("kind", "icmp"), *labels))
            self.seen.setdefault(head, []).append((round(now * 1000), v))
        self.push.write(Batch("t", {"task": "t", "target": "x"}, now, (VALUE(value, "icmp"), COUNT(count))))

    async def run(self) -> None:
        dice = random.Random(11)
        value, count = 1.0, 0.0
        self.push.start()
        for n in range(1800):
            if n % 5 == 0:
                value = 1.0 - value if dice.random() < 0.03 else value
                count = 0.0 if n == 900 else count + dice.randrange(5)
                self.look(value, count)
            await self.clock.advance(1)

    def series(self):
        told: dict[bytes, list[tuple[int, float]]] = {}
        for row in self.told:
            told.setdefault(row.series.head, []).append((round((row.at - self.mono + self.start) * 1000), row.value))
        return [*self.seen.items(), *told.items()]


@pytest.mark.needs("prometheus")
def test_rate_increase_and_changes_are_those_of_the_full_series(tmp_path: Path) -> None:
    """Point 6: exact where it can be (changes of states), within what a minute can hide where the tier is a minute; and never empty."""
    full = Full()
    asyncio.run(full.run())
    with prometheus(tmp_path) as store:
        body = compress(remote_write.join(full.series()))
        request = urllib.request.Request(f"{store.url}/api/v1/write", body, {"Content-Encoding": "snappy"})
        with urllib.request.urlopen(request, timeout=10) as reply:
            assert reply.status == 204
        for at in range(700, 1800, 37):
            moment = full.start + at

            def both(expression: str, moment: float = moment) -> tuple[float, float]:
                found = [store.query(expression.replace("JOB", job), moment) for job in ("ronda", "full")]
                assert all(len(f) == 1 for f in found), (expression, moment, found)
                return float(found[0][0]["value"][1]), float(found[1][0]["value"][1])

            told, seen = both('changes(ronda_probe_success{job="JOB"}[10m])')
            assert abs(told - seen) <= 1  # the first sample of a window may lie on either side of its edge
            told, seen = both('ronda_probe_success{job="JOB"}')
            assert told == seen
            told, seen = both('increase(ronda_icmp_packets_lost_total{job="JOB"}[10m])')
            assert abs(told - seen) <= 0.1 * seen + 48  # two minutes of 4 every 5 s at the edges, at most
            told, seen = both('rate(ronda_icmp_packets_lost_total{job="JOB"}[3m])')
            assert told > 0
            assert seen > 0
        ends = [both('ronda_probe_success{job="JOB"}', full.start + t) for t in range(20, 1790, 7)]
        assert all(told == seen for told, seen in ends)


@pytest.mark.parametrize("running", STORES)
def test_the_doctors_empty_write_is_taken_and_a_wrong_way_is_named(tmp_path: Path, running) -> None:
    env = Env(SystemClock(), Net(), Path("/"))
    with running(tmp_path) as store:
        answer, offset = asyncio.run(probe(env, PushConfig(url=store.url)))
        assert answer.outcome == "ok", answer
        assert offset is not None
        assert abs(offset) < 2
        answer, _ = asyncio.run(probe(env, PushConfig(url=store.url + "/nowhere")))
        assert answer.outcome in ("not_found", "refused"), answer
    answer, _ = asyncio.run(probe(env, PushConfig(url=store.url)))
    assert answer.outcome == "network"
