"""What probes and push may cost: how far intervals are stretched over a metered uplink, and so that a month's budget lasts.

Law: `plan` is a pure function of what is to be done, what it costs and what is left; the class around it counts, and remembers a month.
What stays in the office (the gateway, and networks that the box is connected to directly) is free and never stretched. Push may tell
less, but never stops: states go at once and the sign of life keeps its beat. Nothing looks less often than every LONGEST.

- Profile `metered`: probes over an uplink may cost PROBES_A_DAY. Where they would cost more, all intervals of that uplink are multiplied
  by one factor. A run costs what it was seen to cost; before the first one, an estimate.
- `budget`: what is left of it, over the days left of the month, is what a day may cost. Push gets a quarter: where FIBRE_A_DAY is more
  than that, it tells only what `metered` tells. Probes get the rest, by a factor as above. So who has used much slows down by degrees.

An uplink is what the label `uplink` of a task names, else its `source`; tasks without either go the box's default way, as push does.
The budget holds for each uplink by itself. Bytes are IP's. What
events.syslog sends is counted, never held back: the journal lets through so little. Look-ups of names and what other programs of the box
send are not counted.
"""

import calendar
import datetime
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from agent import files
from agent.collector import TaskConfig, Traffic
from agent.config import AgentConfig, task_name
from agent.model import Metric, Sample
from agent.net import Net, Network
from agent.sockets import parse_address

log = logging.getLogger("ronda.budget")

DAY = 86_400.0
PROBES_A_DAY = 9.5e6  # bytes, of the 10 MB that a metered uplink's probes may cost: retries and look-ups of names take some
FIBRE_A_DAY, METERED_A_DAY = 15e6, 1e6  # bytes that push may cost (measured on the bench's workload, N5)
SLOWED_A_DAY = 6e6  # of a fibre site that tells only what metered tells: its sign of life every 15 s takes most of it
SHARE = 0.25  # of what a day may cost: for push
AGAIN = 1.2  # push is `fibre` again once there is so much more than it needs
LONGEST = 3600.0  # seconds
NEWS = 0.1  # a factor that changes by less than this is no news
SAVE_EVERY, SAVE_PART = 3600.0, 0.01  # seconds; or when so much of the budget was used since
ESTIMATE = {"icmp": 168, "dns": 300, "tcp": 480, "http": 10_400}  # bytes of one run, both ways; http: a small page with TLS
LAN, DEFAULT = "lan", "default"  # in place of an uplink

USED = Metric("ronda_budget_used_bytes", "Bytes of this month over an uplink, push and probes, both ways.", labels=("uplink",))
LIMIT = Metric("ronda_budget_limit_bytes", "Bytes that the uplink may carry in a month (push.budget).", labels=("uplink",))
STRETCH = Metric(
    "ronda_budget_stretch_ratio", "How many times longer than configured the intervals of probes over the uplink are.", labels=("uplink",)
)
SLOWED = Metric("ronda_budget_push_slowed", "1 while push tells only what `metered` tells, so that the month's budget lasts.")
METRICS = (USED, LIMIT, STRETCH, SLOWED)

Profile = Literal["fibre", "metered"]


class Probe(NamedTuple):
    """A task as the plan sees it. cost: bytes a run."""

    name: str
    uplink: str
    interval: float
    cost: float


class Standing(NamedTuple):
    """How an uplink stands in this month. days: until its end."""

    used: float
    budget: float
    days: float

    @property
    def a_day(self) -> float:
        """Bytes that a day may cost, so that it lasts."""
        return max(0.0, self.budget - self.used) / max(self.days, 1.0)


class Plan(NamedTuple):
    """push: what it tells, all (fibre) or little (metered); factors: by uplink; intervals: seconds, by the names of what is stretched."""

    push: Profile
    factors: Mapping[str, float]
    intervals: Mapping[str, float]


def plan(profile: Profile, probes: Iterable[Probe], standings: Mapping[str, Standing], way: str, last: Profile = "fibre") -> Plan:
    """`way`: the uplink that push goes over; `last`: how push has gone on until now. Without standings there is no budget."""
    probes = [p for p in probes if p.uplink != LAN]
    push = _push(profile, standings.get(way), last)
    factors: dict[str, float] = {}
    for uplink in sorted({p.uplink for p in probes}):
        allowed = PROBES_A_DAY if profile == "metered" else math.inf
        if standing := standings.get(uplink):
            pushed = cost_of(profile, push) if uplink == way else 0.0
            allowed = min(allowed, max(0.0, standing.a_day - pushed))
        factors[uplink] = factor([p for p in probes if p.uplink == uplink], allowed)
    return Plan(push, factors, {p.name: stretched(p.interval, factors[p.uplink]) for p in probes if factors[p.uplink] > 1})


def cost_of(profile: Profile, push: Profile) -> float:
    """Bytes a day of a push of this profile that tells what `push` names."""
    if profile == "metered":
        return METERED_A_DAY
    return FIBRE_A_DAY if push == "fibre" else SLOWED_A_DAY


def _push(profile: Profile, standing: Standing | None, last: Profile) -> Profile:
    if profile == "metered" or standing is None:
        return profile
    needed = FIBRE_A_DAY * (AGAIN if last == "metered" else 1.0)
    return "fibre" if needed <= SHARE * standing.a_day else "metered"


def factor(probes: Iterable[Probe], allowed: float) -> float:
    """What the intervals must be multiplied by for the probes to cost at most `allowed` bytes a day; at most LONGEST.

    Those that come to LONGEST first cost what they then cost; the others make up for it.
    """
    free, times = list(probes), 1.0
    while free and times < LONGEST:
        cost = math.fsum(p.cost * DAY / p.interval for p in free)
        if cost <= allowed * times:
            return times
        times = max(times, min(cost / allowed, LONGEST) if allowed > 0 else LONGEST)
        slowest = [p for p in free if p.interval * times >= LONGEST]
        if not slowest:
            return times
        allowed -= math.fsum(p.cost * DAY / stretched(p.interval, times) for p in slowest)
        free = [p for p in free if p not in slowest]
    return times


def stretched(interval: float, times: float) -> float:
    """Whole seconds, up to LONGEST; never shorter than it was."""
    return max(interval, min(LONGEST, float(math.ceil(interval * times - 1e-9))))


# -- who goes where -----------------------------------------------------------------------------------------------------------------


def host_of(kind: str, target: str) -> str:
    """The host that a target names: a URL's, host:port's, or itself."""
    if "://" in target:
        return urlsplit(target).hostname or ""
    return target.rpartition(":")[0].strip("[]") if kind == "tcp" else target


def stays(kind: str, target: str, networks: Iterable[Network], resolvers: Iterable[str]) -> bool:
    """Whether what is asked of a target stays in the office. A name may lead anywhere, so it does not."""
    host = host_of(kind, target)
    if host == "resolver":
        host = next(iter(resolvers), "")
    address = parse_address(host.partition("%")[0])
    if address is None:
        return host in ("gateway", "localhost")
    return address.is_loopback or address.is_link_local or any(address in network for network in networks)


def uplinks(tasks: Iterable[tuple[str, TaskConfig]], net: Net) -> tuple[dict[str, str], str]:
    """(the uplink of each task that has a target, by name; the one of the box's default way, which push takes)."""
    tasks = [(kind, task) for kind, task in tasks if getattr(task, "target", "")]
    named = _named(tasks)
    networks, resolvers = net.neighbours(), net.resolvers()
    found = {}
    for kind, task in tasks:
        source = str(getattr(task, "source", ""))
        to = str(getattr(task, "proxy", "")) or str(getattr(task, "target", ""))
        here = stays(kind, to, networks, resolvers)
        found[task_name(kind, task)] = LAN if here else task.labels.get("uplink") or named.get(source) or source or DEFAULT
    return found, named.get("") or DEFAULT


def _named(tasks: Iterable[tuple[str, TaskConfig]]) -> dict[str, str]:
    """Source → what the tasks that go that way call it, where they agree."""
    names: dict[str, set[str]] = {}
    for _, task in tasks:
        if name := task.labels.get("uplink"):
            names.setdefault(str(getattr(task, "source", "")), set()).add(name)
    return {source: next(iter(found)) for source, found in names.items() if len(found) == 1}


def probes_of(tasks: Iterable[tuple[str, TaskConfig]], ways: Mapping[str, str], seen: Mapping[str, tuple[int, Traffic]]) -> list[Probe]:
    """What there is to do, and what it costs: as `seen` (runs, bytes of them), else as estimated."""
    found = []
    for kind, task in tasks:
        name = task_name(kind, task)
        if name in ways:
            runs, spent = seen.get(name, (0, Traffic()))
            cost = sum(spent) / runs if runs else _estimate(kind, task)
            found.append(Probe(name, ways[name], task.interval, cost))
    return found


def _estimate(kind: str, task: TaskConfig) -> float:
    size = getattr(task, "size", None)
    return 2.0 * (size + 28) if kind == "icmp" and size else float(ESTIMATE.get(kind, 0))


def preview(config: AgentConfig, net: Net) -> Plan:
    """The plan of an agent that begins a month with this config."""
    tasks = list(config.tasks())
    ways, way = uplinks(tasks, net)
    push = config.push
    standings = {up: Standing(0.0, float(push.budget), 30.0) for up in {*ways.values(), way}} if push and push.budget else {}
    return plan(push.profile if push else "fibre", probes_of(tasks, ways, {}), standings, way)


# -- the month ----------------------------------------------------------------------------------------------------------------------


def month(now: float, zone: datetime.tzinfo) -> tuple[str, float]:
    """(the month, e.g. 2026-11; days until its end) at a wall clock time."""
    at = datetime.datetime.fromtimestamp(now, zone)
    days = calendar.monthrange(at.year, at.month)[1]
    return at.strftime("%Y-%m"), days - (at.day - 1) - (at.hour * 3600 + at.minute * 60 + at.second) / DAY


class Month:
    """Bytes by uplink in one month, and the file that keeps them over a restart. `problem`: why it can't be written; empty: it can."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "budget.json"
        self.problem = ""
        self.name, self.used = self._read()
        self._saved, self._saved_at = sum(self.used.values()), -math.inf

    def _read(self) -> tuple[str, dict[str, float]]:
        try:
            held: Any = json.loads(self.path.read_bytes()[: 64 << 10])
            used = {str(k): float(v) for k, v in held["used"].items()}
            if not all(math.isfinite(v) and v >= 0 for v in used.values()):
                raise ValueError("not a count")
            return str(held["month"]), used
        except FileNotFoundError:
            return "", {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            log.warning("%s can't be used, the month's count begins anew: %r", self.path, e)
            return "", {}

    def turn(self, name: str, *, sure: bool) -> None:
        """It is the month `name`. Only where that is sure (by the centre's clock) does the count begin anew; one from later was wrong."""
        if not self.name or (sure and name < self.name):
            self.name = name
        elif sure and name > self.name:
            self.name, self.used = name, {}

    def add(self, uplink: str, spent: float) -> None:
        self.used[uplink] = self.used.get(uplink, 0.0) + spent

    def save(self, now: float, budget: float, *, at_once: bool = False) -> None:
        """Writes the file, if it is time (monotonic seconds): each write wears the card."""
        used = sum(self.used.values())
        due = now - self._saved_at >= SAVE_EVERY or abs(used - self._saved) >= SAVE_PART * budget
        if used == self._saved or not (due or at_once):
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.replace(self.path, json.dumps({"month": self.name, "used": {k: round(v) for k, v in self.used.items()}}).encode())
            self.problem = ""
        except OSError as e:
            problem = f"{self.path}: {e.strerror}"
            if problem != self.problem:
                log.error("can't write %s; a restart would forget what this month has cost", problem)
            self.problem = problem
        self._saved, self._saved_at = used, now


class Ration:
    """Counts what goes over each uplink, and makes the plan that is in force. `look` is to be called every minute, and after a reload."""

    def __init__(self, directory: Path) -> None:
        self._month = Month(directory)
        self._seen: dict[tuple[str, str], float] = {}
        self._budget = 0.0
        self._of: tuple[Any, ...] = ()
        self._slowed = False
        self._known: tuple[AgentConfig, list[Network], list[str]] | None = None
        self._ways: tuple[dict[str, str], str] = ({}, DEFAULT)
        self._way_of_syslog = DEFAULT
        self.plan = Plan("fibre", {}, {})

    def look(
        self,
        config: AgentConfig,
        net: Net,
        seen: Mapping[str, tuple[int, Traffic]],
        probed: Mapping[tuple[str, str], Traffic],
        pushed: float,
        now: float,
        zone: datetime.tzinfo,
        *,
        sure: bool,
        logged: float = 0.0,
    ) -> dict[str, str]:
        """Makes `plan` anew; returns the uplink of each task.

        seen: runs and bytes of each task; probed: bytes by kind and uplink, pushed: of the centre's, logged: of the syslog collector's, all
        since they began;
        now: wall clock seconds, `sure` if the centre has confirmed them.
        """
        tasks, (ways, way) = list(config.tasks()), self._uplinks(config, net)
        profile: Profile = config.push.profile if config.push else "fibre"
        self._budget = float(config.push.budget or 0) if config.push else 0.0
        name, days = month(now, zone)
        self._month.turn(name, sure=sure)
        self._count(probed, pushed, way)
        self._add("syslog", "", logged, self._way_of_syslog)
        known = {*ways.values(), way} - {LAN}
        standings = {up: Standing(self._month.used.get(up, 0.0), self._budget, days) for up in known} if self._budget else {}
        made = plan(profile, probes_of(tasks, ways, seen), standings, way, self.plan.push)
        self._slowed = made.push != profile
        self._take(made, (tasks, profile, self._budget, ways))
        return ways

    def _uplinks(self, config: AgentConfig, net: Net) -> tuple[dict[str, str], str]:
        """As `uplinks`, looked at anew only where config or network are others: 2000 tasks take a Pi a fifth of a second."""
        known = (config, net.neighbours(), net.resolvers())
        if self._known is None or self._known[0] is not config or self._known[1:] != known[1:]:
            self._known, self._ways = known, uplinks(config.tasks(), net)
            collector = config.events.collector if config.events else None
            here = collector and stays("", collector.host, known[1], known[2])
            self._way_of_syslog = LAN if here else self._ways[1]
        return self._ways

    def _count(self, probed: Mapping[tuple[str, str], Traffic], pushed: float, way: str) -> None:
        self._add("push", "", pushed, way)
        for (kind, uplink), traffic in probed.items():
            self._add(kind, uplink, float(sum(traffic)), uplink or DEFAULT)

    def _add(self, kind: str, key: str, total: float, uplink: str) -> None:
        before = self._seen.get((kind, key), 0.0)
        self._seen[kind, key] = total
        if uplink != LAN and self._budget:
            self._month.add(uplink, total - before if total >= before else total)  # less: it has begun anew

    def _take(self, made: Plan, of: tuple[Any, ...]) -> None:
        """A plan that is hardly another is none: each change moves what is due."""
        old, self_of, self._of = self.plan, self._of, of
        near = all(abs(made.factors[up] - old.factors.get(up, 0.0)) <= NEWS * made.factors[up] for up in made.factors)
        back = any(made.factors[up] == 1 != old.factors.get(up, 1.0) for up in made.factors)
        if of == self_of and made.push == old.push and near and not back:
            return
        self.plan = made
        slower = {up: round(times, 1) for up, times in made.factors.items() if times > 1}
        if (made.push, slower) != (old.push, {up: round(times, 1) for up, times in old.factors.items() if times > 1}):
            log.info("push tells what %s tells; intervals are stretched: %s", made.push, slower or "none")

    def save(self, now: float, *, at_once: bool = False) -> None:
        """To be called in a thread."""
        if self._budget:
            self._month.save(now, self._budget, at_once=at_once)

    @property
    def problem(self) -> str:
        return self._month.problem

    def samples(self) -> Iterator[Sample]:
        for uplink, times in self.plan.factors.items():
            yield STRETCH(times, uplink)
        if not self._budget:
            return
        for uplink in sorted({*self._month.used, *self.plan.factors}):
            yield USED(self._month.used.get(uplink, 0.0), uplink)
            yield LIMIT(self._budget, uplink)
        yield SLOWED(float(self._slowed))
