"""What the centre is told, and when: a sink that keeps the last batch of each task and makes rows of it at every tick.

Law: it never waits and never raises; what becomes of a row is the business of whoever takes it (agent/delivery.py). A row's time is
monotonic: the wall clock of these boxes jumps, and the true time is known only when the centre has told it.

    fibre    every 15 s   the heartbeat, and what of the states has not been told for 120 s
             at once      changes of states (STATES), gathered for 0.2 s
             every 60 s   packets sent and lost, and how long probes take
             every 300 s  all else: histograms, failures by reason, phases, host, devices, the agent's own metrics
    metered  every 280 s  at most 60 series, by the order of METERED; changes of states at once. Of the office's devices: the UPS's
                          battery, the interfaces that uplinks go out by, whether watched ones are up, the signal of modem
                          and radio
    A fibre site whose month's budget runs short tells what a metered one does, every 300 s, and goes on with its sign of life.

Counters and histograms are told at every tick of their tier: left out while unchanged they would break rate(). Other gauges may be left
out while unchanged, for at most 120 s, and a change tells the last unchanged sample first, so that step-filling gives the true course.
A series that ends gets a stale marker. Not when the agent ends: its next run goes on with the same series, and a marker would make
a gap of each restart. What the next run has not gone on with after BURY, it ends (agent/ended.py tells it which there were).
No metadata (types, help) is sent: Prometheus' receiver drops it, and at each connection it would cost as much as half an hour's samples.
"""

import asyncio
import dataclasses
import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from agent.clock import Cancellable, Clock
from agent.model import Batch, Metric, Sample
from agent.wire import remote_write
from agent.wire.remote_write import STALE

log = logging.getLogger("ronda.push")

Profile = Literal["fibre", "metered"]

NEVER = -math.inf
BEAT, PROBES, SLOW = 15.0, 60.0, 300.0  # seconds: the tiers
METERED_BEAT = 280.0  # seconds: Go's servers close what was idle for 300 s, and each handshake costs as much as a tick
UNCHANGED = 120.0  # seconds that an unchanged gauge may be left out
GATHER = 0.2  # seconds that changes are gathered before they go
SLICE = 500  # samples looked at before others get their turn: about 2 ms
MAX_SERIES = 100_000
METERED_SERIES = 60
BURY = 45.0  # seconds until each task has looked, a slow one with its retries too
FIRST = 3.5  # seconds until the first whole picture: by then every task has looked

STATES = frozenset({
    "ronda_probe_success", "ronda_probe_reason_info", "ronda_site_state", "ronda_verdict", "ronda_condition_active",
    "ronda_link_carrier", "ronda_tls_certificate_valid", "ronda_tls_verification_failed_info", "ronda_detector_coverage",
    "ronda_condition_opened_timestamp_seconds", "ronda_condition_where_info",  # the message that says them is on its way
    "ronda_snmp_ups_on_battery",  # minutes later the office may be silent
    "ronda_snmp_interface_up", "ronda_snmp_interface_enabled",  # a lost port, and that it was switched off on purpose, come together
})  # fmt: skip
# Of the states, those that are told anew with all else: many series that hardly change.
LASTING = frozenset({"ronda_detector_coverage", "ronda_snmp_interface_up", "ronda_snmp_interface_enabled"})
HEARTBEAT = "ronda_heartbeat_timestamp_seconds"
VERDICTS = frozenset({HEARTBEAT, "ronda_site_state", "ronda_verdict", "ronda_condition_active"})
EACH_MINUTE = frozenset({
    "ronda_probe_duration_seconds", "ronda_icmp_packets_sent_total", "ronda_icmp_packets_lost_total", "ronda_icmp_packets_late_total",
})  # fmt: skip
STATE = "\0state"  # no task has this name
METERED = (  # what 60 series are spent on, in this order
    HEARTBEAT, "ronda_site_state", "ronda_verdict", "ronda_condition_active", "ronda_condition_opened_timestamp_seconds",
    "ronda_condition_where_info", "ronda_probe_success", "ronda_probe_reason_info",
    "ronda_link_carrier", "ronda_samples_undelivered_total", "ronda_buffer_oldest_timestamp_seconds", "ronda_push_clock_offset_seconds",
    "ronda_budget_used_bytes", "ronda_budget_limit_bytes", "ronda_budget_push_slowed",
    "ronda_snmp_ups_on_battery", "ronda_icmp_packets_lost_total", "ronda_icmp_packets_sent_total",
    "ronda_snmp_interface_receive_bytes_total", "ronda_snmp_interface_transmit_bytes_total", "ronda_snmp_interface_up",
    "ronda_snmp_interface_enabled", "ronda_snmp_lte_rsrp_dbm", "ronda_snmp_lte_sinr_db", "ronda_snmp_wireless_signal_dbm",
    "ronda_snmp_ups_charge_ratio", "ronda_snmp_ups_runtime_seconds", "ronda_probe_duration_seconds",
)  # fmt: skip
# Labels of a device's task that name interfaces, with commas: those of uplinks, and those that must never be down. Of others metered tells
# nothing; of the second kind only whether they are up, for the alert that the inventory asks for (`watch`).
UPLINKS, WATCHED = "uplinks", "watch"
OF_UPLINKS = frozenset(name for name in METERED if name.startswith("ronda_snmp_interface_"))
OF_WATCHED = frozenset({"ronda_snmp_interface_up", "ronda_snmp_interface_enabled"})
ONE_OF = frozenset({"ronda_site_state", "ronda_verdict"})  # of whose series exactly one is 1: the zeroes say little

DROPPED = Metric("ronda_push_series_dropped_total", "Samples not told to the centre because the agent had too many series.", "counter")
SERIES = Metric("ronda_push_series", "Series that the centre is told of.")
METRICS = (SERIES, DROPPED)


@dataclasses.dataclass(slots=True, eq=False)
class Series:
    """One series as the centre knows it. `head` are its labels as bytes; times are monotonic seconds, -inf: never.

    rank: 0 a bucket of a histogram, 1 an ordinary sample, 2 a verdict or sign of life: what a full buffer gives up first
    kept: when the unchanged value was last seen without being told
    """

    name: str
    head: bytes
    task: str
    tier: float
    rank: int
    patient: bool  # may be left out while unchanged
    value: float = 0.0
    told: float = NEVER
    kept: float = NEVER
    seen: int = 0


class Row(NamedTuple):
    """One sample for the centre. at, told: monotonic seconds; a slow task's sample may be old already when it is told."""

    series: Series
    at: float
    value: float
    told: float = NEVER

    @property
    def since(self) -> float:
        """Since when it waits."""
        return max(self.at, self.told)


class Held(NamedTuple):
    """A task's last batch, when it came, and the states in it."""

    batch: Batch
    at: float
    states: tuple[Sample, ...]
    labels: tuple[tuple[str, str], ...]  # sorted: part of a series' key


def tier_of(metric: Metric, targeted: bool) -> float:
    """How often a series is told, seconds. `targeted`: the task probes something."""
    if metric.name in STATES - LASTING or metric.name == HEARTBEAT:
        return BEAT
    return PROBES if targeted and metric.name in EACH_MINUTE else SLOW


def rank_of(sample: Sample) -> int:
    if sample.suffix == "_bucket":
        return 0
    return 2 if sample.metric.name in VERDICTS else 1


def phase(site: str) -> float:
    """Where in BEAT a site ticks: a hash, so that offices that get their power back together don't call together."""
    return int.from_bytes(hashlib.blake2b(site.encode(), digest_size=4).digest()) % 15000 / 1000


Key = tuple[str, str, tuple[str, ...], tuple[tuple[str, str], ...]]
Told = Callable[[list[Row]], None]


class Push:
    """The sink. `own` gives all of the agent's own samples, `state` the few of them that every beat tells; rows go to `tell`."""

    def __init__(
        self,
        clock: Clock,
        site: str,
        profile: Profile,
        own: Callable[[], Iterable[Sample]],
        state: Callable[[], Iterable[Sample]],
        tell: Told,
    ) -> None:
        self._clock, self._site, self._profile = clock, site, profile
        self._thrifty = profile == "metered"  # tells only what METERED names
        self._own, self._state, self._tell = own, state, tell
        self._held: dict[str, Held] = {}
        self._series: dict[Key, Series] = {}
        self._tiers: dict[tuple[str, bool], float] = {}
        self._fresh: list[Row] = []
        self._gathering: Cancellable | None = None
        self._alarm: Cancellable | None = None
        self._looking: asyncio.Task[None] | None = None
        self._again = False
        self._inherited: set[bytes] = set()  # series of the run before
        self._bury_at = 0.0
        self._burying: Cancellable | None = None
        self._generation = self._beats = 0
        self.dropped = 0
        self.leaving = self.closed = False

    # -- the sink ---------------------------------------------------------------------------------------------------------

    def write(self, batch: Batch) -> None:
        if self.closed or (batch.events and not batch.samples):
            return
        now = self._clock.monotonic()
        if not batch.samples:
            if not self.leaving:
                self._end(batch.task, now)
            return
        old = self._held.get(batch.task)
        states = tuple([s for s in batch.samples if s.metric.name in STATES])
        same = old is not None and old.batch.labels is batch.labels
        labels = old.labels if old and same else tuple(sorted(batch.labels.items()))
        held = self._held[batch.task] = Held(batch, now, states, labels)
        if old is None or old.states != states or old.labels != labels:
            self._changed(old, held, now)

    def _changed(self, old: Held | None, held: Held, now: float) -> None:
        """Tells the states that are not as the centre knows them."""
        present = set()
        for sample in held.states:
            key = _key(held.labels, sample)
            present.add(key)
            if self._thrifty and sample.metric.name in OF_UPLINKS and not _frugal(held, sample):
                continue  # a port of which metered tells nothing is no more than left out
            series = self._get(key, held, sample)
            if series and (series.told == NEVER or not _same(series.value, sample.value)):
                self._turn(series, old.at if old else now, now, sample.value)
        if old:
            self._vanished([_key(old.labels, s) for s in old.states], present, now)

    def _turn(self, series: Series, unchanged: float, now: float, value: float) -> None:
        """The last unchanged sample (seen at `unchanged`), where it was not told, then the new one."""
        if series.told > NEVER and unchanged > series.told:
            self._emit(series, unchanged, series.value)
        self._emit(series, now, value)
        self._gather()

    def _vanished(self, keys: Iterable[Key], present: set[Key], now: float) -> None:
        for key in keys:
            if key not in present and (series := self._series.pop(key, None)):
                self._stale(series, now)
                self._gather()

    def _end(self, task: str, now: float) -> None:
        """A task is gone: all its series end now."""
        if self._held.pop(task, None) is None:
            return
        for key, series in [(k, s) for k, s in self._series.items() if s.task == task]:
            del self._series[key]
            self._stale(series, now)
        self._gather()

    def _stale(self, series: Series, now: float) -> None:
        if series.told > NEVER:
            self._emit(series, max(now, series.told + 0.001), STALE)

    def _emit(self, series: Series, at: float, value: float) -> None:
        series.told, series.value = at, value
        self._fresh.append(Row(series, at, value, self._clock.monotonic()))

    def _gather(self) -> None:
        if not self._gathering:
            self._gathering = self._clock.call_at(self._clock.monotonic() + GATHER, self._flush_changes)

    def nudge(self) -> None:
        """The agent's own state (verdict, conditions) has changed, or may have."""
        self._gather()

    def _flush_changes(self) -> None:
        self._gathering = None
        if not self.closed:
            self._look_at_state(self._clock.monotonic(), changes=True)
            self._flush()

    def _flush(self) -> None:
        if self._fresh:
            rows, self._fresh = self._fresh, []
            self._tell(rows)

    # -- what the run before has left ---------------------------------------------------------------------------------------

    def inherit(self, heads: set[bytes]) -> None:
        """Series that the run before told of: those that this one does not go on with end soon."""
        if heads:
            self._inherited, self._bury_at = heads, self._clock.monotonic() + BURY
            self._burying = self._clock.call_at(self._bury_at, self.refresh)

    def heads(self) -> list[bytes]:
        """The series that the centre knows of."""
        return [series.head for series in self._series.values() if series.told > NEVER]

    def _bury(self, now: float) -> None:
        for head in self._inherited.difference(series.head for series in self._series.values()):
            self._emit(Series("", head, "", SLOW, 1, patient=False), now, STALE)
        self._inherited = set()

    # -- ticks ------------------------------------------------------------------------------------------------------------

    @property
    def _period(self) -> float:
        return BEAT if self._profile == "fibre" else METERED_BEAT

    @property
    def _patience(self) -> float:
        """Seconds that an unchanged gauge may be left out."""
        return SLOW if self._thrifty and self._profile == "fibre" else UNCHANGED

    def start(self) -> None:
        """Begins to tick: a first whole picture soon, then by the clock."""
        self._alarm = self._clock.call_at(self._clock.monotonic() + FIRST, self._first)

    def pace(self, profile: Profile) -> None:
        """Tells what this profile tells from now on, so that a month's budget lasts.

        The sign of life keeps its beat: the centre counts on it.
        """
        thrifty = "metered" in (profile, self._profile)
        if thrifty == self._thrifty or self.closed:
            return
        self._thrifty = thrifty
        if self._alarm:
            self._look(SLOW)

    def _first(self) -> None:
        self.refresh()
        self._arm()

    def _arm(self) -> None:
        now, period = self._clock.monotonic(), self._period
        beats = (now + 0.5 - phase(self._site)) // period + 1  # 0.5: an alarm may come a hair early, and the beat twice
        self._beats = int(beats)
        self._alarm = self._clock.call_at(phase(self._site) + beats * period, self._tick)

    def _tick(self) -> None:
        tier = self._due()
        self._arm()
        self._look(tier)

    def _due(self) -> float:
        """The slowest tier that is due at this beat; it includes the quicker ones."""
        if self._profile == "metered" or self._beats % int(SLOW / BEAT) == 0:
            return SLOW
        return PROBES if self._beats % int(PROBES / BEAT) == 0 and not self._thrifty else BEAT

    def refresh(self) -> None:
        """Has the whole picture told now: the way to the centre is open again after a while."""
        if not self.closed:
            self._look(SLOW)

    def _look(self, tier: float) -> None:
        if self._looking:  # a box so slow that the last look is not done: the next tick comes
            self._again = self._again or tier == SLOW
            return
        self._looking = asyncio.ensure_future(self._picture(tier))
        self._looking.add_done_callback(self._looked)

    def _looked(self, done: "asyncio.Task[None]") -> None:
        self._looking = None
        if not done.cancelled() and (error := done.exception()):
            log.error("the picture for the centre failed: %r", error, exc_info=error)
        if self._again and not self.closed and not done.cancelled():
            self._again = False
            self._look(SLOW)

    async def _picture(self, tier: float) -> None:
        """Looks at all series of this tier and the quicker ones, in slices."""
        self._flush()
        self._generation += 1
        looked = 0
        for task in list(self._held):
            held = self._held.get(task)
            if held is None:
                continue
            looked += len(held.batch.samples)
            self._look_at(held, held.batch.samples, tier)
            if looked >= SLICE and not self._thrifty:  # metered: its 60 are chosen from the picture alone
                looked = 0
                await asyncio.sleep(0)
        self._finish(tier)

    def _finish(self, tier: float) -> None:
        now = self._clock.monotonic()
        self._look_at_state(now)
        if tier == SLOW:
            self._look_at(_mine("", now), self._own(), tier)
        for key in [k for k, s in self._series.items() if s.tier <= tier and s.seen != self._generation and (s.task or tier == SLOW)]:
            self._stale(self._series.pop(key), now)
        if self._inherited and tier == SLOW and now >= self._bury_at:
            self._bury(now)
        if self._thrifty:
            self._fresh = list(_within(self._fresh))
        self._flush()

    def _look_at_state(self, now: float, *, changes: bool = False) -> None:
        held = _mine(STATE, now)
        for sample in self._state():
            if changes and sample.metric.name == HEARTBEAT:
                continue
            self._see(held, sample, now, changes=changes)

    def _look_at(self, held: Held, samples: Iterable[Sample], tier: float) -> None:
        now = self._clock.monotonic()
        targeted = "target" in held.batch.labels
        for sample in samples:
            if self._tier(sample.metric, targeted) <= tier:
                self._see(held, sample, now)

    def _tier(self, metric: Metric, targeted: bool) -> float:
        key = (metric.name, targeted)
        found = self._tiers.get(key)
        if found is None:
            found = self._tiers[key] = tier_of(metric, targeted)
        return found

    def _see(self, held: Held, sample: Sample, now: float, *, changes: bool = False) -> None:
        """One series at a tick: it is told, or may wait. With `changes`, only if it changed."""
        key = _key(held.labels, sample)
        if self._thrifty and not _frugal(held, sample):
            if known := self._series.get(key):  # told of once, as a change
                known.seen = self._generation
            return
        series = self._get(key, held, sample)
        if series is None:
            return
        series.seen = self._generation
        if series.task == STATE and not held.batch.task:  # it was told a moment ago
            return
        at = held.at if held.at > series.told else max(now, series.told + 0.001)
        same = series.told > NEVER and _same(series.value, sample.value)
        every = max(series.tier, self._period)
        if same and (changes or (series.patient and now + every - series.told <= self._patience)):
            series.kept = at
            return
        if not same and series.patient and series.told < series.kept < at:
            self._emit(series, series.kept, series.value)
        self._emit(series, at, sample.value)

    def _get(self, key: Key, held: Held, sample: Sample) -> Series | None:
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= MAX_SERIES:
                self.dropped += 1
                return None
            metric = sample.metric
            tier = self._tier(metric, "target" in held.batch.labels)
            head = remote_write.head(tuple(labels_of(self._site, held.labels, sample)))
            patient = metric.type == "gauge" and metric.name != HEARTBEAT
            series = self._series[key] = Series(metric.name, head, held.batch.task, tier, rank_of(sample), patient)
            series.seen = self._generation
        return series

    # -- the end, and what is known of it ---------------------------------------------------------------------------------

    def leave(self) -> None:
        """The agent is about to end: tasks that end now are not the end of their series; what they still see is told."""
        self.leaving = True

    def close(self) -> None:
        """Tells the last picture; nothing after it."""
        if self.closed:
            return
        for waiting in (self._alarm, self._gathering, self._looking, self._burying):
            if waiting:
                waiting.cancel()
        self._generation += 1
        for held in self._held.values():
            self._look_at(held, held.batch.samples, SLOW)
        self._look_at_state(self._clock.monotonic())
        self._look_at(_mine("", self._clock.monotonic()), self._own(), SLOW)
        self.closed = True
        self._flush()

    def samples(self) -> Iterator[Sample]:
        yield SERIES(len(self._series))
        yield DROPPED(self.dropped)


def _mine(task: str, now: float) -> Held:
    """What stands for a task where the samples are the agent's own: "" for those of SLOW, STATE for those of every beat."""
    return Held(Batch(task, {}, 0.0, ()), now, (), ())


def _key(labels: tuple[tuple[str, str], ...], sample: Sample) -> Key:
    return sample.metric.name, sample.suffix, sample.labels, labels


def _frugal(held: Held, sample: Sample) -> bool:
    """Whether METERED tells of it: of a switch's fifty ports only those that an uplink goes out by, or that the inventory watches."""
    name, labels = sample.metric.name, held.batch.labels
    if name not in OF_UPLINKS:
        return name in METERED
    named = [UPLINKS, WATCHED] if name in OF_WATCHED else [UPLINKS]
    return any(sample.labels[0] in labels.get(label, "").split(",") for label in named)


def _same(a: float, b: float) -> bool:
    return a == b or (a != a and b != b)


def labels_of(site: str, labels: Iterable[tuple[str, str]] | Mapping[str, str], sample: Sample) -> list[tuple[str, str]]:
    """All labels of a series as remote write wants them: by name, none empty. The site's own can't be taken by a task's."""
    names = (*sample.metric.labels, "le") if sample.suffix == "_bucket" else sample.metric.labels
    found = dict(labels.items() if isinstance(labels, Mapping) else labels)
    found.update(zip(names, sample.labels, strict=True))
    found |= {"__name__": sample.metric.name + sample.suffix, "job": "ronda", "instance": site, "site": site}
    return sorted((name, value) for name, value in found.items() if value)


def _worth(row: Row) -> int:
    """The same for all rows of a series, so that they stay in their order."""
    series = row.series
    return METERED.index(series.name) if series.name in METERED and not (series.name in ONE_OF and series.value == 0) else len(METERED)


def _within(rows: list[Row]) -> Iterator[Row]:
    """The rows of at most METERED_SERIES series, those that METERED names first; stale markers cost nothing of it."""
    chosen: set[int] = set()
    for row in sorted(rows, key=_worth):
        if row.value != row.value or id(row.series) in chosen or len(chosen) < METERED_SERIES:
            chosen.add(id(row.series))
            yield row
