"""guard: this box itself: who tries to log in, what listens, what was changed, how it stands. The detectors are in agent/detect.

    collectors:
      guard: [{scanners: [192.0.2.9], interval: 15s}]

Needs nothing, and sees more the more it may read: `SupplementaryGroups=systemd-journal adm` for the login log. What it may not see it says
by ronda_detector_coverage and by one event; alerts/runbooks/guard.md has the reasons and their cures.

Law: all decisions are the detectors', which are pure; here is only when what is looked at. Everything that waits for the disk is done in a
thread, what is long (all setuid programs once a day, pending updates twice) in one of its own, in small bites with pauses. Nothing is
written but the memory of agent/cases.py. Names, addresses and paths are in events only, never in labels.
"""

import asyncio
import dataclasses
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

from agent import cases, hostlook, timesync
from agent.cases import Cases, SuppressConfig
from agent.collector import Env, Kind, TaskConfig, Watcher
from agent.detect import casebook, lines, patrol, seen
from agent.detect.concerns import concerns
from agent.detect.listeners import counts
from agent.detect.logins import SERVICES, BruteForce
from agent.detect.model import Vouched
from agent.detect.patrol import Patrol
from agent.detect.posture import UpdatesPending
from agent.detect.table import HOST
from agent.dpkg import Dpkg
from agent.logtail import Tail
from agent.model import Event, Metric, Sample
from agent.structure import IpAddress
from collectors import host

TURN = 3.0  # seconds: how late a line of the log may be read
PATIENCE = 30.0  # seconds that a look is waited for: the first one reads everything
SOCKETS, POSTURE, FILES, SETUID, UPDATES = 30.0, 60.0, 900.0, 86400.0, 43200.0  # seconds between two looks
LATER = {SETUID: 600.0, UPDATES: 120.0}  # seconds after the start: a box that comes up has other things to do
GROUPS: tuple[hostlook.Group, ...] = ("accounts", "sudoers", "keys", "persistence")

FAILURES = Metric("ronda_guard_auth_failures_total", "Tries to log in that failed, each counted once.", "counter", ("service",))
LOST = Metric("ronda_guard_log_lost_total", "Parts of the login log that could not be read: too much, too long, or gone.", "counter")
LATE = Metric("ronda_guard_looks_late_total", "Looks that the disk didn't answer in time: until it does, nothing is seen.", "counter")
LISTENERS = Metric("ronda_guard_listeners", "Sockets that wait for others than this box; clients' own are left out.")
PENDING = Metric("ronda_guard_updates_pending", "Security updates that wait, by the lists that are there.")
OLDEST = Metric("ronda_guard_updates_oldest_seconds", "Since when the oldest of them is known to wait; 0: none.")
LISTS = Metric("ronda_guard_lists_age_seconds", "Since when the lists of packages are as they are; absent where there are none.")
REBOOT = Metric("ronda_guard_reboot_required", "Whether an update waits for a new start.")
FIREWALL = Metric("ronda_guard_firewall", "Whether a firewall refuses what nobody asked for; absent where that can't be seen.")
METRICS = (FAILURES, LOST, LATE, LISTENERS, PENDING, OLDEST, LISTS, REBOOT, FIREWALL, *patrol.METRICS, *cases.METRICS)
RULES = tuple(make(Vouched()).rule.name for make in HOST)
EVENTS = ("guard_sight", *RULES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TaskConfig):
    """`scanners`: addresses whose tries to log in are somebody's test, e.g. Kominfo's scanner."""

    scanners: list[IpAddress] = dataclasses.field(default_factory=list)
    suppress: list[SuppressConfig] = dataclasses.field(default_factory=list)

    def problems(self) -> Iterable[tuple[str, str]]:
        yield from super().problems()
        for n, entry in enumerate(self.suppress):
            if entry.rule not in RULES:
                yield f"suppress[{n}].rule", f"{entry.rule!r} is no rule of guard: {', '.join(sorted(RULES))}"


class Turn:
    """The quick looks, in a thread that is waited for so long and no longer: a dead disk costs one thread, and is said, and counted."""

    def __init__(self, look: "Look") -> None:
        self._look = look
        self._task: asyncio.Task[list[seen.Observation]] | None = None
        self.late = 0

    @property
    def hangs(self) -> bool:
        """Whether a look has not come back yet."""
        return self._task is not None

    async def turn(self, at: float) -> list[seen.Observation]:
        """What was found; nothing while the disk doesn't answer. Raises what ended the look."""
        began = self._task is None
        if self._task is None:
            self._task = asyncio.create_task(asyncio.to_thread(self._look.quick, at))
        await asyncio.wait([self._task], timeout=PATIENCE if began else 0.0)
        if not self._task.done():
            self.late += began
            return []
        task, self._task = self._task, None
        return task.result()


class Look:
    """Everything that is looked at, each at its own pace. All methods but `able` wait for the disk: they are called in a thread."""

    def __init__(self, env: Env) -> None:
        self._env, self.tail, self.sockets, self.dpkg = env, Tail(env.root), hostlook.Sockets(env.root), Dpkg(env.root)
        self._watched = hostlook.Watched(env.root, self.dpkg)
        self._due: dict[float, float] = {}
        self._able: set[str] = set()
        self.firewall: seen.Firewall | None = None
        self.hangs = False  # the disk doesn't answer

    def able(self) -> frozenset[str]:
        """As detectors know it (their `coverage`)."""
        return frozenset() if self.hangs else frozenset(self._able)

    def quick(self, at: float) -> list[seen.Observation]:
        """What is due now, and done within milliseconds; the files within a tenth of a second, but for the first time."""
        found: list[seen.Observation] = list(self._logins())
        for every, look in ((SOCKETS, self._listeners), (POSTURE, self._posture), (FILES, self._files)):
            if at >= self._due.get(every, at):
                self._due[every] = at + every
                found += look()
        return found

    def _logins(self) -> Iterator[seen.Login]:
        for line in self.tail.look():
            if login := lines.parse(line):
                yield login
        self._can("log", not self.tail.why)

    def _listeners(self) -> Iterator[seen.Observation]:
        now = self.sockets.look()
        self._can("sockets", now is not None)
        self._can("programs", self.sockets.programs)
        if now is not None:
            yield now

    def _posture(self) -> Iterator[seen.Observation]:
        root, wall = self._env.root, self._env.clock.now()
        self.firewall = hostlook.firewall(root, wall)
        yield self.firewall
        try:
            state = timesync.read()
            self._can("clock", True)
            yield seen.TimeState(state.synchronised, state.offset_seconds if state.synchronised else None)
        except OSError:
            self._can("clock", False)
        disk = root_disk(self._env)
        self._can("mounts", disk is not None)
        plugged = hostlook.usb(root)
        self._can("usb", plugged is not None)
        yield from (observation for observation in (disk, plugged) if observation is not None)

    def _files(self) -> Iterator[seen.Observation]:
        wall = self._env.clock.now()
        self._can("files", (self._env.root / "etc/passwd").exists())
        self._can("packages", self.dpkg.there)
        yield seen.Packages(*self.dpkg.worked(wall))
        for group in GROUPS:
            yield self._watched.look(group, wall)

    def setuid(self, stop: Callable[[], bool]) -> Iterator[seen.Observation]:
        found = hostlook.find_setuid(self._env.root, self.dpkg, self._env.clock.now(), stop=stop)
        if found:
            yield found

    def updates(self, stop: Callable[[], bool]) -> Iterator[seen.Observation]:  # noqa: ARG002  (as setuid's)
        if self.dpkg.there:
            now = self.dpkg.pending(self._env.clock.now())
            yield seen.Updates(len(now.names), -1.0, now.lists, self.dpkg.reboot(), now.names, now.why)

    def _can(self, what: str, can: bool) -> None:
        (self._able.add if can else self._able.discard)(what)


def root_disk(env: Env) -> seen.RootDisk | None:
    """The root's filesystem, as `host` reads it; None where the kernel doesn't say."""
    try:
        text = (env.root / "proc/1/mountinfo").read_text(errors="replace") or (env.root / "proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return None
    mount = next((m for m in host.parse_mounts(text, ours=False) if m.mountpoint == "/"), None)
    if not mount:
        return None
    wanted, _ = host.parse_fstab(_optional(env, "etc/fstab"))
    errors = _optional(env, f"sys/fs/ext4/{mount.source.rpartition('/')[2]}/errors_count").strip()
    return seen.RootDisk(mount.readonly and "/" not in wanted, int(errors) if errors.isdigit() else -1)


def _optional(env: Env, path: str) -> str:
    try:
        return (env.root / path).read_text(errors="replace")
    except OSError:
        return ""


class Slow:
    """The long looks, each in a thread of its own and one at a time."""

    def __init__(self, look: Look, began: float) -> None:
        self._look = look
        self._due = {every: began + later for every, later in LATER.items()}
        self._task: asyncio.Task[list[seen.Observation]] | None = None
        self._stop = threading.Event()

    def turn(self, at: float) -> list[seen.Observation]:
        """What a look has found, once it is done. Raises what ended it."""
        if self._task:
            if not self._task.done():
                return []
            task, self._task = self._task, None
            return task.result()
        for every, work in ((UPDATES, self._look.updates), (SETUID, self._look.setuid)):
            if at >= self._due[every]:
                self._due[every] = at + every
                self._task = asyncio.create_task(asyncio.to_thread(lambda work=work: list(work(self._stop.is_set))))  # type: ignore[misc]
                break
        return []

    async def close(self) -> None:
        self._stop.set()
        if self._task:
            await asyncio.wait([self._task], timeout=2.0)


class GuardWatcher:
    """The Watcher. What it has said of its sight outlives a restart of `watch`."""

    def __init__(self, config: Config, env: Env) -> None:
        self._config, self._env = config, env
        self._sight: dict[str, str] | None = None

    async def watch(self) -> AsyncIterator[Sequence[Sample | Event]]:
        """Yields a picture each interval and at each word of a detector. Raises OSError: could not look."""
        clock = self._env.clock
        detectors = [make(Vouched(scanners=frozenset(self._config.scanners))) for make in HOST]
        kept = Cases(self._env, "guard", [d.rule for d in detectors], self._config.suppress)
        patrol_, look = Patrol(detectors, kept.book), Look(self._env)
        turn, slow, due = Turn(look), Slow(look, clock.monotonic()), 0.0
        numbers = Counts(look, patrol_, turn)
        await kept.begin(patrol_)
        try:
            while True:
                found = await turn.turn(clock.monotonic())
                look.hangs = turn.hangs
                for observation in [*found, *slow.turn(clock.monotonic())]:
                    numbers.see(observation)
                    patrol_.see(observation, clock.monotonic(), clock.now())
                patrol_.tick(clock.monotonic(), clock.now())
                events = [*await kept.turn(patrol_), *self._of_sight(patrol_, look)]
                if events or clock.monotonic() >= due:
                    due = clock.monotonic() + self._config.interval - TURN / 2
                    yield [*numbers.samples(), *kept.samples(), *events]
                await clock.sleep(until_next(clock.monotonic()))
        finally:
            look.tail.close()
            await slow.close()
            await kept.end(patrol_)

    def _of_sight(self, patrol_: Patrol, look: Look) -> Iterator[Event]:
        """Says which detectors see less than all, and why: at the start, and whenever that changes."""
        able = look.able()
        now = {name: why for name, d in patrol_.detectors.items() if (why := d.coverage(able).why)}
        if look.hangs:
            now = dict.fromkeys(patrol_.detectors, "disk_hangs")
        elif "brute_force" in now:
            now["brute_force"] = look.tail.why or now["brute_force"]
        if now != self._sight:
            blind = sorted(name for name in now if not patrol_.detectors[name].coverage(able).share)
            message = (
                f"of {len(patrol_.detectors)} detectors of this box {len(now)} see a part or nothing; blind: {', '.join(blind) or 'none'}"
            )
            yield Event("guard_sight", "info", message, now)
        self._sight = now


def until_next(now: float) -> float:
    """Turns lie on whole seconds, as the scheduler's slots: tasks share wake-ups."""
    return max(0.05, math.floor(now) + TURN - now)


class Counts:
    """The numbers beside the cases."""

    def __init__(self, look: Look, patrol_: Patrol, turn: Turn) -> None:
        self._look, self._patrol, self._turn = look, patrol_, turn
        self._listeners: int | None = None
        self._updates: seen.Updates | None = None

    def see(self, observation: seen.Observation) -> None:
        if isinstance(observation, seen.Listeners):
            self._listeners = sum(map(counts, observation.listeners))
        elif isinstance(observation, seen.Updates):
            self._updates = observation

    def samples(self) -> Iterator[Sample]:
        yield from self._patrol.samples(self._look.able())
        for detector in self._patrol.detectors.values():
            if isinstance(detector, BruteForce):
                for service in (*SERVICES, "other"):
                    yield FAILURES(detector.failures[service], service)
            if isinstance(detector, UpdatesPending) and self._updates:
                yield OLDEST(max(0.0, detector.oldest))
        yield LOST(self._look.tail.lost)
        yield LATE(self._turn.late)
        if self._listeners is not None:
            yield LISTENERS(self._listeners)
        if self._updates:
            yield PENDING(len(self._updates.names))
            yield REBOOT(float(self._updates.reboot))
            if self._updates.lists >= 0:
                yield LISTS(self._updates.lists)
        if self._look.firewall and self._look.firewall.readable:
            yield FIREWALL(float(self._look.firewall.guarded))


def glance(samples: Sequence[Sample]) -> str:
    """`12 dari 12 mata melihat, tidak ada temuan`."""
    eyes = [s.value for s in samples if s.metric is patrol.COVERAGE]
    active = sum(s.value for s in samples if s.metric is casebook.ACTIVE)
    return f"{len([eye for eye in eyes if eye])} dari {len(eyes)} mata melihat, {f'{active:.0f} temuan' if active else 'tidak ada temuan'}"


def build(config: Config, env: Env) -> Watcher:
    return GuardWatcher(config, env)


KIND = Kind(name="guard", config=Config, metrics=METRICS, build=build, events=EVENTS, glance=glance, concerns=concerns)
