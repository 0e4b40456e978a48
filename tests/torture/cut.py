"""`python -m tests.torture.cut --hours 72`: a cut of days on the workload W, then the way opens: is all there, how soon, does live wait?

Law: Push, Delivery and Buffer are the real ones, and so are the sockets and the store. During the cut time leaps from timer to timer
(never while a thread is at the disk); before and after it goes as it does. The samples are W's in kind and number, their values by chance.
"""

import argparse
import asyncio
import concurrent.futures
import json
import random
import selectors
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from agent.buffer import Buffer
from agent.clock import SystemClock
from agent.collector import Env
from agent.config import PushConfig
from agent.delivery import Centre
from agent.model import Batch, Histogram, Metric, Sample
from agent.net import Net
from agent.push import BEAT, Row
from agent.registry import HEARTBEAT
from tests.receiver import prometheus
from tests.torture import referee
from tests.torture.__main__ import commit
from tests.torture.way import TOKEN, Asked, Way

SITE = "torture"
SUCCESS = Metric("ronda_probe_success", "", labels=("kind",))
REASON = Metric("ronda_probe_reason_info", "", labels=("kind", "reason"))
DURATION = Metric("ronda_probe_duration_seconds", "", labels=("kind",))
FAILURES = Metric("ronda_probe_failures_total", "", "counter", ("kind", "reason"))
SENT = Metric("ronda_icmp_packets_sent_total", "", "counter")
LOST = Metric("ronda_icmp_packets_lost_total", "", "counter")
ROUND_TRIP = Metric("ronda_icmp_rtt_seconds", "", "histogram")
HOST = Metric("ronda_host_value", "", labels=("what",))
OCTETS = Metric("ronda_switch_interface_value_total", "", "counter", ("port", "what"))
OFFICE = [*(("icmp", n) for n in range(10)), *((kind, n) for kind in ("tcp", "http", "dns") for n in range(5))]
STATE = Metric("ronda_site_state", "", labels=("state",))


class Pool(concurrent.futures.ThreadPoolExecutor):
    """Threads, and how many of them are at work."""

    busy = 0

    def submit(self, *args, **kwargs):
        self.busy += 1
        future = super().submit(*args, **kwargs)
        future.add_done_callback(self._done)
        return future

    def _done(self, _: object) -> None:
        self.busy -= 1


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: "LeapingLoop") -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None):
        if not self._loop.leaping or not timeout or timeout < 0:
            return super().select(timeout)
        found = super().select(0.0005)
        if not found and not self._loop.pool.busy:
            self._loop.ahead += timeout
        return found


class LeapingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.ahead, self.leaping = 0.0, False
        self._began = time.monotonic()
        self.pool = Pool(4)
        super().__init__(_Selector(self))
        self.set_default_executor(self.pool)

    def time(self) -> float:
        return time.monotonic() - self._began + self.ahead


class Clock(SystemClock):
    """Of the agent, and (Way's world) of the centre: both are right."""

    speed = 1.0

    def __init__(self, loop: LeapingLoop, wall: float) -> None:
        self._loop, self.wall = loop, wall

    def now(self) -> float:
        return self.wall + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()


class Workload:
    """W: 10 ICMP targets, 5 each of TCP, HTTP and DNS, the host, and a switch of 50 interfaces."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._up = dict.fromkeys(OFFICE, True)
        self._counts: dict[tuple, float] = {}
        self._round_trips = {n: Histogram(ROUND_TRIP, [0.0001 * 2**i for i in range(14)]) for n in range(10)}
        self._labels = {k: {"task": f"{k[0]}:{k[1]}", "target": f"10.77.3.{k[1]}"} for k in [*OFFICE, ("host", 0), ("switch", 0)]}

    def _count(self, *key: object, by: int) -> float:
        self._counts[key] = self._counts.get(key, 0.0) + by
        return self._counts[key]

    def batches(self, now: float, n: int) -> Iterator[Batch]:
        for kind, i in OFFICE:
            yield self._batch(kind, i, now, self._probe(kind, i))
        host = [HOST(round(self._dice.gauss(50, 1 if i % 3 else 0), 2), str(i)) for i in range(60)]
        yield Batch("host", {"task": "host"}, now, host)
        if n % 4 == 0:
            what = [
                (str(port), w) for port in range(50) for w in ("in_octets", "out_octets", "in_packets", "out_packets", "errors", "speed")
            ]
            octets = [OCTETS(self._count(*k, by=self._dice.randrange(10**6) if "_" in k[1] else 0), *k) for k in what]
            yield self._batch("switch", 0, now, octets)

    def _batch(self, kind: str, i: int, now: float, samples: list[Sample]) -> Batch:
        labels = self._labels[kind, i]
        return Batch(labels["task"], labels, now, samples)

    def _probe(self, kind: str, i: int) -> list[Sample]:
        if self._dice.random() < 0.002:
            self._up[kind, i] = not self._up[kind, i]
        up = self._up[kind, i]
        seconds = self._dice.lognormvariate(-6, 0.5)
        failed = self._count(kind, i, by=not up)
        found = [SUCCESS(float(up), kind), DURATION(seconds, kind), FAILURES(failed, kind, "timeout"), FAILURES(0.0, kind, "refused")]
        if not up:
            found.append(REASON(1.0, kind, "timeout"))
        if kind == "icmp":
            self._round_trips[i].observe(seconds)
            found += [SENT(self._count(i, "sent", by=15)), LOST(self._count(i, "lost", by=not up)), *self._round_trips[i].samples()]
        return found


class Cut:
    def __init__(self, home: Path, hours: float, seed: int) -> None:
        self.home, self.hours, self.seed = home, hours, seed
        self.rows: list[referee.Row] = []
        self.opened_at = float("inf")
        self.lags: list[float] = []
        self.taken: set[int] = set()  # times of live samples that the store has; what is sent again is no news

    async def run(self, loop: LeapingLoop) -> dict:
        self.clock = Clock(loop, time.time() - self.hours * 3600 - 60)
        with prometheus(self.home, "30d") as store:
            self.way = Way(self.clock, store.port, random.Random(self.seed))
            self.way.took = self._took
            await self.way.set("open")
            token = self.home / "token"
            token.write_text(TOKEN)
            token.chmod(0o600)
            push = PushConfig(url=f"http://127.0.0.1:{self.way.port}", token_file=token)
            self.buffer = Buffer(self.home / "buffer", SITE, self.clock)
            centre = Centre(Env(self.clock, Net()), SITE, push, self.buffer, list, self._state)
            self._listen(centre)
            centre.start()
            feeding = asyncio.ensure_future(self._feed(centre))
            result = await self._through(loop, centre)
            feeding.cancel()
            await centre.close()
            await self.way.close()
            there = referee.from_prometheus(store, SITE, self.clock.wall - 86400, self.clock.now() + 86400)
            held, counts = referee.from_buffer_of(self.buffer, centre.delivery._boot)
        for head, points in held.items():
            there.setdefault(head, []).extend(points)
        return {**result, **self._judged(there, counts)}

    def _state(self) -> list[Sample]:
        return [HEARTBEAT(self.clock.now()), *(STATE(float(s == "ok"), s) for s in ("ok", "degraded", "down"))]

    def _listen(self, centre: Centre) -> None:
        tell = centre.push._tell

        def adding(rows: list[Row]) -> None:
            wall = self.clock.wall
            self.rows += [referee.Row(r.series.head, round((r.at + wall) * 1000), referee._BITS.pack(r.value), r.series.rank) for r in rows]
            tell(rows)

        centre.push._tell = adding

    def _took(self, asked: Asked) -> None:
        now = self.clock.now()
        live = {at for at in asked.times if at / 1000 > self.opened_at} - self.taken
        self.lags += [now - at / 1000 for at in live]
        self.taken |= live

    async def _feed(self, centre: Centre) -> None:
        work, n = Workload(random.Random(self.seed)), 0
        while True:
            for batch in work.batches(self.clock.now(), n):
                centre.write(batch)
            n += 1
            if n % 4 == 0:
                await centre.tidy()
            await asyncio.sleep(BEAT)

    async def _through(self, loop: LeapingLoop, centre: Centre) -> dict:
        while not centre.delivery.delivered["live"]:
            await asyncio.sleep(0.2)
        await self.way.set("cut")
        began, real = self.clock.now(), time.monotonic()
        loop.leaping = True
        await asyncio.sleep(self.hours * 3600)
        loop.leaping = False
        cut, records, size = self.clock.now() - began, self.buffer.records, self.buffer.size
        print(f"{cut / 3600:.1f} h of cut in {time.monotonic() - real:.0f} s; {records} records, {size} bytes", file=sys.stderr, flush=True)
        await self.way.set("open")
        opened = self.opened_at = self.clock.now()
        while self.buffer.records:
            await asyncio.sleep(0.25)
        drained = self.clock.now() - opened
        self.lags = self.lags or [0.0]
        found = {"cut_hours": round(cut / 3600, 2), "records": records, "bytes_on_disk": size, "drain_seconds": round(drained, 1)}
        found |= {"live_moments_during_drain": len(self.lags), "live_lag_seconds_most": round(max(self.lags), 2)}
        await asyncio.sleep(2)
        return found

    def _judged(self, there: referee.Points, counts: dict[str, int]) -> dict:
        matched = referee.match(self.rows, there)
        lost = {reason: n for reason, n in counts.items() if n}
        unexplained = len(matched.missing) - sum(counts.values())
        return {
            "produced_rows": len(self.rows), "there_exactly": len(matched.exact), "there_placed_otherwise": len(matched.placed),
            "missing": len(matched.missing), "ledger": lost, "invented": len(matched.invented), "unexplained": unexplained,
            "fine": not unexplained and not matched.invented and not matched.placed,
        }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.cut", description=__doc__)
    parser.add_argument("--hours", type=float, default=72.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="ronda-cut-") as home, asyncio.Runner(loop_factory=LeapingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, LeapingLoop)
        result = runner.run(Cut(Path(home), chosen.hours, chosen.seed).run(loop))
    result = {"date": time.strftime("%Y-%m-%d"), "commit": commit(), **result}
    print(json.dumps(result, indent=2))
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["fine"] else 1


if __name__ == "__main__":
    sys.exit(main())
