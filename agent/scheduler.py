"""When each task looks, and what its look means: the only place that knows intervals, offsets, retries and supervision.

Law: a slow or dead target never delays another; a run never overlaps itself; nothing here waits for a sink. Schedules are
drift-free: a task is due at offset + k * interval of the monotonic clock, offset being a hash of its name, so restarts don't
herd. Due times lie on slots of a second, so that tasks share wake-ups (a wake-up costs more than a ping); of less only where a slot
would hold so many runs that the last of them would be late.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import heapq
import itertools
import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.bucket import Bucket
from agent.clock import Cancellable
from agent.collector import Env, Kind, Poller, Result, Seen, TaskConfig, Traffic, Watcher
from agent.model import Batch, Event, Histogram, Metric, Sample, Sink
from agent.status import Status

log = logging.getLogger("ronda.scheduler")

SLOT = 1.0  # seconds; see the law
SLOT_RUNS = 16  # runs that a slot should hold at most (so many pings are less than one full frame), ...
SLOT_MIN = 1 / 32  # ... as long as it isn't shorter than this
FIRST_WITHIN = 3.0  # a new task looks first within this many seconds, whatever its interval
RETRY_AFTER = 1.0  # a failed one-shot probe is tried again after this, ...
CONFIRM = 3  # ... and counts as down when it failed this often in a row, ...
CONFIRM_OVER = 0.9 * (CONFIRM - 1) * RETRY_AFTER  # ... over this long: failures that come close together are one blip
BACKSTOP = 1.0  # added to a task's timeout: collectors keep their own time, this is for those that hang
WAIT = 1.0  # a run that is due while the last one is still under way may begin this much late; a timeout of an interval needs it
DEAR = (6, 300.0)  # looks of everything in which stretched tasks take part: so many at once, then one in so many seconds
BURST = 16  # runs started before the loop gets a turn to read replies
MAX_RUNS = 512  # runs under way at once; each may hold a socket
BACKOFF_MAX = 60.0  # seconds between restarts of a watcher that keeps failing
CLOSE_WITHIN = 5.0  # seconds that tasks have to let go when the agent ends
OWN_REASONS = frozenset({"send", "internal"})  # our own trouble: never held against the target
LAG_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)

PROBE_SUCCESS = Metric(
    "ronda_probe_success", "1 while the target is reached, 0 once it failed three times in a row, one second apart.", labels=("kind",)
)
PROBE_DURATION = Metric(
    "ronda_probe_duration_seconds", "How long the last successful probe took; for icmp the round-trip time.", labels=("kind",)
)
PROBE_FAILURES = Metric("ronda_probe_failures_total", "Failed probes, retries included, by reason.", "counter", ("kind", "reason"))
PROBE_REASON = Metric("ronda_probe_reason_info", "Why the target is down, while ronda_probe_success is 0.", labels=("kind", "reason"))
COLLECTOR_UP = Metric(
    "ronda_collector_up", "1 if the task could look, 0 if it could not (that says nothing of the target).", labels=("task", "kind")
)
COLLECTOR_DURATION = Metric("ronda_collector_duration_seconds", "How long the task's last run took.", labels=("task", "kind"))
RUNS_SKIPPED = Metric(
    "ronda_scheduler_runs_skipped_total", "Runs left out: the last one was still under way, or too many were.", "counter", ("reason",)
)
LATENESS = Metric("ronda_scheduler_lateness_seconds", "How much later than due a run began.", "histogram")
LOOP_LAG = Metric("ronda_loop_lag_seconds", "How much later than asked the event loop woke the scheduler.", "histogram")
PROBE_BYTES = Metric(
    "ronda_probe_bytes_total",
    "What probes cost, IP headers included, by the uplink it goes over; lan: it stays in the office.",
    "counter",
    ("kind", "uplink", "direction"),
)
RESTARTS = Metric("ronda_watcher_restarts_total", "Restarts of watchers that failed.", "counter", ("task",))
METRICS = (
    PROBE_SUCCESS, PROBE_DURATION, PROBE_FAILURES, PROBE_REASON, COLLECTOR_UP,
    COLLECTOR_DURATION, RUNS_SKIPPED, LATENESS, LOOP_LAG, PROBE_BYTES, RESTARTS,
)  # fmt: skip


@dataclasses.dataclass(slots=True)
class Task:
    """One configured run of a kind, with all that is known of it. Two tasks with equal `config` are the same at a reload."""

    name: str
    kind: Kind
    config: TaskConfig
    collector: Poller | Watcher
    status: Status
    failures: dict[str, int]
    labels: dict[str, str]
    interval: float  # that of the config, or longer (see pace)
    uplink: str = ""  # where its bytes go, as the bill names it
    spent: Traffic = Traffic()  # noqa: RUF009  (a NamedTuple is immutable)
    runs: int = 0  # of a poller, that ended with a result
    due: float = 0.0  # of the regular run
    beside: float = 0.0  # of the one run beside it: a retry, or a look that somebody asked for
    waits: float = 0.0  # when the run was due that waits for the last one to end; 0: none does
    offset: float = 0.0
    running: "asyncio.Task[None] | None" = None
    gone: bool = False
    in_a_row: int = 0
    failing: float = 0.0  # when the first of these was
    up: bool | None = None  # whether it could look; None: not tried yet
    duration: float = 0.0
    restarts: int = 0

    @property
    def watcher(self) -> bool:
        return hasattr(self.collector, "watch")


def slot_width(runs_per_second: float) -> float:
    """Seconds between slots: SLOT, halved until a slot holds at most SLOT_RUNS runs."""
    width = SLOT
    while runs_per_second * width > SLOT_RUNS and width > SLOT_MIN:
        width /= 2
    return width


def offset(name: str, interval: float, slot: float = SLOT) -> float:
    """Where in its interval a task is due: the same in every run, on a slot, spread by a hash."""
    slots = max(1, round(interval / slot))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) % slots * min(slot, interval)


def next_due(now: float, interval: float, at: float) -> float:
    """The first time after `now` that is `at` plus a whole number of intervals."""
    due = at + ((now - at) // interval + 1) * interval
    return due if due > now else due + interval  # floats: (0.3 - 0) // 0.1 is 2


def confirm(was: str, in_a_row: int) -> str:
    """The state after `in_a_row` failures (0: it was reached): a first failure is tried again before it counts."""
    if in_a_row == 0:
        return "ok"
    return "down" if in_a_row >= CONFIRM or was == "down" else "checking"


class Scheduler:
    """Runs tasks. `site` seeds the offsets, so that offices that come back together don't look together."""

    def __init__(self, env: Env, sinks: Sequence[Sink], site: str = "") -> None:
        self.env, self.sinks, self.site = env, list(sinks), site
        self.tasks: dict[str, Task] = {}
        self.skipped = {"overrun": 0, "busy": 0}
        self.lateness, self.loop_lag = Histogram(LATENESS, LAG_BOUNDS), Histogram(LOOP_LAG, LAG_BOUNDS)
        self._heap: list[tuple[float, int, Task]] = []
        self._order = itertools.count()
        self._alarm: tuple[float, Cancellable] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._runs: set[asyncio.Task[None]] = set()
        self._watches: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._slot = SLOT
        self._dear = Bucket(*DEAR, env.clock.monotonic())
        self.bytes: dict[tuple[str, str], Traffic] = {}  # of probes, by kind and uplink
        self.changes = 0  # of any task's state; tells the diagnosis when to judge again

    # -- what there is to do ------------------------------------------------------------------------------------------

    def build(self, wanted: Iterable[tuple[str, Kind, TaskConfig]]) -> dict[str, Task]:
        """Makes what is new and keeps what is equal; changes nothing yet. Whatever `Kind.build` raises, it raises."""
        made = {}
        for name, kind, config in wanted:
            old = self.tasks.get(name)
            made[name] = old if old and old.kind is kind and old.config == config else self._make(name, kind, config)
        return made

    def _make(self, name: str, kind: Kind, config: TaskConfig) -> Task:
        target = str(getattr(config, "target", ""))
        labels = {"task": name, "target": target, **config.labels} if target else dict(config.labels)
        status = Status(name, kind.name, target, config.labels, since=self.env.clock.now(), interval=config.interval)
        return Task(name, kind, config, kind.build(config, self.env), status, dict.fromkeys(kind.reasons, 0), labels, config.interval)

    def swap(self, tasks: dict[str, Task]) -> None:
        """Puts `tasks` in force: stops what is gone, starts what is new, leaves what was kept alone."""
        for name, old in list(self.tasks.items()):
            if tasks.get(name) is not old:
                self._retire(old, replaced=name in tasks)
        new = [task for name, task in tasks.items() if self.tasks.get(name) is not task]
        self._slot = slot_width(sum(1 / task.config.interval for task in tasks.values()))
        self.tasks = dict(tasks)
        self._heap = [entry for entry in self._heap if not entry[2].gone]  # an hourly task would stay for an hour
        heapq.heapify(self._heap)
        for task in new:
            task.offset = offset(self.site + task.name, task.interval, self._slot)
            self._begin(task)
        self._arm()

    def pace(self, intervals: Mapping[str, float]) -> None:
        """Has the pollers named look less often than their config says, all others as often as it says. Intervals in seconds.

        What has not looked yet does so as soon as any new task.
        """
        now = self.env.clock.monotonic()
        for task in self.tasks.values():
            interval = max(task.config.interval, intervals.get(task.name, 0.0))
            if task.watcher or interval == task.interval:
                continue
            task.interval = task.status.interval = interval
            task.status.stretched = interval > task.config.interval
            task.offset = offset(self.site + task.name, interval, self._slot)
            if hasattr(task.collector, "paced"):
                task.collector.paced(interval)
            if task.status.at:
                task.due = next_due(now, interval, task.offset)
                self._push(task.due, task)
        self._arm()

    def _begin(self, task: Task) -> None:
        now = self.env.clock.monotonic()
        if task.watcher:
            self._spawn(task, self._supervise(task))
        else:
            task.due = now + task.offset % FIRST_WITHIN
            self._push(task.due, task)

    def _retire(self, task: Task, *, replaced: bool = False) -> None:
        task.gone = True
        if task.running:
            task.running.cancel()
        if hasattr(task.collector, "close"):
            closing = asyncio.ensure_future(_close(task.collector))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        if not replaced:
            self._write(Batch(task.name, task.labels, self.env.clock.now(), ()))

    async def close(self) -> None:
        """Stops every task and waits until each has let go of what it held, but not for one that never does."""
        self.swap({})
        if self._alarm:
            self._alarm[1].cancel()
        waiting = [*self._runs, *self._watches, *self._closing, *([self._ticking] if self._ticking else [])]
        left = (await asyncio.wait(waiting, timeout=CLOSE_WITHIN))[1] if waiting else set()
        for stuck in left:
            log.error("a task did not end within %g s: %r", CLOSE_WITHIN, stuck)
        await asyncio.gather(*(task for task in waiting if task not in left), return_exceptions=True)

    def look_now(self) -> None:
        """Has every poller look within a second, without touching its schedule. A flapping link must not undo what stretching saves."""
        now = self.env.clock.monotonic()
        paced = any(task.status.stretched for task in self.tasks.values())
        dear = paced and self._dear.take(now) > 0
        for task in self.tasks.values():
            if not task.watcher and task.interval > 1 and task.beside <= now and not (dear and task.status.stretched):
                self._beside(now + offset(task.name, 1.0, SLOT_MIN), task)
        self._arm()

    def _beside(self, due: float, task: Task) -> None:
        """Adds a run beside the regular ones. There is one at most, or retries would multiply and a blip would count as down."""
        task.beside = due
        self._push(due, task)

    # -- when -----------------------------------------------------------------------------------------------------------

    def _push(self, due: float, task: Task) -> None:
        heapq.heappush(self._heap, (due, next(self._order), task))

    def _arm(self) -> None:
        """Sets the one alarm to the earliest due time."""
        if not self._heap or (self._ticking and not self._ticking.done()):
            return
        due = self._heap[0][0]
        if self._alarm and self._alarm[0] <= due:
            return
        if self._alarm:
            self._alarm[1].cancel()
        self._alarm = due, self.env.clock.call_at(due, self._wake)

    def _wake(self) -> None:
        now = self.env.clock.monotonic()
        if self._alarm:
            self.loop_lag.observe(max(0.0, now - self._alarm[0]))
        self._alarm = None
        if self._start_due(now):
            self._arm()
        else:
            self._ticking = asyncio.ensure_future(self._tick())

    async def _tick(self) -> None:
        """Goes on with a slot that has many runs, letting the loop read replies between bursts."""
        try:
            done = False
            while not done:
                await asyncio.sleep(0)
                done = self._start_due(self.env.clock.monotonic())
        finally:
            self._ticking = None
            self._arm()

    def _start_due(self, now: float) -> bool:
        """Starts at most BURST due runs; True when none is left."""
        for _ in range(BURST):
            if not self._heap or self._heap[0][0] > now:
                return True
            due, _, task = heapq.heappop(self._heap)
            if task.gone or due not in (task.due, task.beside):
                continue
            regular = due == task.due
            if regular:
                task.due = next_due(max(now, due), task.interval, task.offset)
                self._push(task.due, task)
            if task.running:
                self._overrun(task, due if regular else 0.0)
            elif self._start(task):
                self.lateness.observe(max(0.0, self.env.clock.monotonic() - due))
        return not self._heap or self._heap[0][0] > now

    def _start(self, task: Task) -> bool:
        """Starts a run; False where too many are under way. Pings share a socket: the gateway's never wait for a thousand dead services."""
        if len(self._runs) >= MAX_RUNS and not task.config.overlapping:
            self.skipped["busy"] += 1
            return False
        self._spawn(task, self._run(task))
        return True

    def _overrun(self, task: Task, due: float) -> None:
        """A regular run (`due` is not 0) waits a moment for the last one to end. A retry is not missed, nor is what a retry stands for."""
        if due and task.status.state != "checking":
            self.skipped["overrun"] += task.waits > 0
            task.waits = due

    def _start_waiting(self, task: Task) -> None:
        late, task.waits = self.env.clock.monotonic() - task.waits, 0.0
        if late <= min(WAIT, task.interval / 2):
            self._start(task)
        else:
            self.skipped["overrun"] += 1

    def _spawn(self, task: Task, work: Any) -> None:
        task.running = running = asyncio.ensure_future(work)
        (self._watches if task.watcher else self._runs).add(running)
        running.add_done_callback(lambda done: self._ended(task, done))

    def _ended(self, task: Task, done: "asyncio.Task[None]") -> None:
        self._runs.discard(done)
        self._watches.discard(done)
        task.running = None
        if not done.cancelled() and (error := done.exception()):
            log.critical("task %s: the scheduler itself failed: %r", task.name, error, exc_info=error)
        if task.waits and not task.gone:
            self._start_waiting(task)

    # -- what it means --------------------------------------------------------------------------------------------------

    async def _run(self, task: Task) -> None:
        """One look of a poller."""
        began = self.env.clock.monotonic()
        try:
            async with asyncio.timeout(task.config.timeout + BACKSTOP):
                seen = list(await task.collector.collect())  # type: ignore[union-attr]
        except Exception as e:  # noqa: BLE001  (a collector may fail in any way; it is said, counted and shown, and never stops another)
            self._blind(task, "did not end in time" if isinstance(e, TimeoutError) else _said(e))
            return
        finally:
            task.duration = self.env.clock.monotonic() - began
        self._take(task, seen)

    async def _supervise(self, task: Task) -> None:
        """Keeps a watcher running: a failed one starts again, later each time; the collector itself never retries."""
        delay = 1.0
        while True:
            began = self.env.clock.monotonic()
            try:
                async with contextlib.aclosing(task.collector.watch()) as pictures:  # type: ignore[union-attr, type-var]
                    async for picture in pictures:
                        self._take(task, picture)
                        task.duration = self.env.clock.monotonic() - began
                raise RuntimeError("the watcher ended")
            except Exception as e:  # noqa: BLE001  (as in _run)
                self._blind(task, _said(e))
            delay = 1.0 if self.env.clock.monotonic() - began > BACKOFF_MAX else min(delay * 2, BACKOFF_MAX)
            await self.env.clock.sleep(delay * random.uniform(0.8, 1.2))
            task.restarts += 1

    def _sees(self, task: Task) -> None:
        if task.up is False:
            log.warning("task %s can look again", task.name)
        task.up = True

    def _blind(self, task: Task, why: str, samples: Sequence[Sample] = (), reason: str = "internal") -> None:
        """It could not look. That says nothing of the target: its ronda_probe_success ends rather than lie."""
        if task.up is not False:
            log.warning("task %s can't look: %s", task.name, why)
        task.up, task.in_a_row = False, 0
        now = self.env.clock.now()
        if reason in task.failures:
            task.failures[reason] += 1
        self._state(task, "blind", reason, why, now)
        self._write(Batch(task.name, task.labels, now, (*samples, *self._failures(task))))

    def _take(self, task: Task, seen: Sequence[Seen] | Iterable[Seen]) -> None:
        """Sorts what was seen, adds the frame's own samples, and hands it to the sinks."""
        now = self.env.clock.now()
        samples: list[Sample] = []
        events: list[Event] = []
        result: Result | None = None
        for item in seen:
            if isinstance(item, Sample):
                samples.append(item)
            elif isinstance(item, Result):
                result = item
            else:
                events.append(_stamped(item, now))
        if result is not None:
            self._spend(task, result.traffic)
        if result is not None and result.reason in OWN_REASONS:
            self._blind(task, result.detail, samples, result.reason)
            return
        self._sees(task)
        if result is not None:
            samples.extend(self._judge(task, result, now))
        else:
            self._state(task, "ok", "", "", now)
        if task.kind.glance and samples:
            task.status.text = task.kind.glance(samples)
        if task.kind.concerns and samples:
            task.status.concerns = task.kind.concerns(samples)
        if task.kind.facts and samples:
            task.status.facts = task.kind.facts(samples) or task.status.facts
        self._write(Batch(task.name, task.labels, now, samples, events))

    def _spend(self, task: Task, traffic: Traffic) -> None:
        task.runs += 1
        task.spent = task.spent.plus(traffic)
        key = task.kind.name, task.uplink
        self.bytes[key] = self.bytes.get(key, Traffic()).plus(traffic)

    def _judge(self, task: Task, result: Result, now: float) -> Iterable[Sample]:
        """The ronda_probe_* samples of a run, and the task's new state."""
        moment = self.env.clock.monotonic()
        if result.reason:
            task.in_a_row += 1
            task.failing = moment if task.in_a_row == 1 else task.failing
            task.failures[result.reason] = task.failures.get(result.reason, 0) + 1
        else:
            task.in_a_row = 0
        sure = moment - task.failing >= CONFIRM_OVER
        state = confirm(task.status.state, task.in_a_row if sure else min(task.in_a_row, CONFIRM - 1))
        if state == "checking" and task.interval > RETRY_AFTER and not task.gone:
            self._beside(moment + RETRY_AFTER, task)
            self._arm()
        seconds = None if result.reason else (task.duration if result.seconds is None else result.seconds)
        self._state(task, state, result.reason, result.detail, now, seconds)
        kind = task.kind.name
        yield from self._failures(task)
        if task.status.state in ("ok", "down"):
            yield PROBE_SUCCESS(float(task.status.state == "ok"), kind)
        elif task.status.reached:
            yield PROBE_SUCCESS(1.0, kind)
        if seconds is not None:
            yield PROBE_DURATION(seconds, kind)
        if state == "down":
            yield PROBE_REASON(1.0, kind, result.reason)

    def _failures(self, task: Task) -> Iterable[Sample]:
        return (PROBE_FAILURES(n, task.kind.name, reason) for reason, n in task.failures.items())

    def _state(self, task: Task, state: Any, reason: str, detail: str, now: float, seconds: float | None = None) -> None:
        """Notes how the task stands. `checking` keeps the `since` of what came before: it is not a state of its own."""
        status = task.status
        self.changes += state != status.state
        if state != status.state and state != "checking" and not (state == "ok" and status.state == "checking" and status.reached):
            status.since = now
            if state != "blind" and (status.state, state) != ("unknown", "ok"):  # that it can't look is said already
                log.log(
                    logging.INFO if state == "ok" else logging.WARNING, "task %s is %s%s", task.name, state, f": {detail}" if detail else ""
                )
        status.state, status.reason, status.detail, status.at = state, reason, detail, now
        status.reached = state == "ok" or (state == "checking" and status.reached)
        status.value = seconds if seconds is not None or state != "ok" else status.value
        status.history.add(now, state, seconds)

    def _write(self, batch: Batch) -> None:
        for sink in self.sinks:
            sink.write(batch)

    def samples(self) -> Iterable[Sample]:
        """The scheduler's own metrics."""
        for task in self.tasks.values():
            if task.up is not None:
                yield COLLECTOR_UP(float(task.up), task.name, task.kind.name)
                yield COLLECTOR_DURATION(task.duration, task.name, task.kind.name)
            if task.watcher:
                yield RESTARTS(task.restarts, task.name)
        for reason, n in self.skipped.items():
            yield RUNS_SKIPPED(n, reason)
        for (kind, uplink), traffic in self.bytes.items():
            yield PROBE_BYTES(traffic.sent, kind, uplink, "sent")
            yield PROBE_BYTES(traffic.received, kind, uplink, "received")
        yield from self.lateness.samples()
        yield from self.loop_lag.samples()

    def overdue(self) -> float:
        """Seconds that the earliest run has been due: more than a moment means that the scheduler is stuck."""
        return max(0.0, self.env.clock.monotonic() - self._heap[0][0]) if self._heap else 0.0

    def statuses(self) -> list[Status]:
        return [task.status for task in self.tasks.values()]


async def _close(collector: Any) -> None:
    closed = collector.close()
    if asyncio.iscoroutine(closed):
        await closed


def _said(error: Exception) -> str:
    """An error in words that help: its text, or at least its type."""
    return str(error) or type(error).__name__


def _stamped(event: Event, now: float) -> Event:
    if event.first_seen:
        return event
    return dataclasses.replace(event, first_seen=now, last_seen=now)


def wanted(kinds: Mapping[str, Kind], tasks: Iterable[tuple[str, TaskConfig]], name: Any) -> Iterable[tuple[str, Kind, TaskConfig]]:
    """(name, Kind, config) of each configured task, as `Scheduler.build` takes them."""
    for kind, config in tasks:
        yield name(kind, config), kinds[kind], config
