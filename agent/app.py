"""The only wiring: builds everything from a config, runs it, replaces it at a reload, and takes it down.

Law: nobody imports this file but the command line. A reload builds all that is new first and swaps after; a config that can't
be used changes nothing. No step of shutting down may hang: systemd would kill us with the state unwritten.
"""

import asyncio
import contextlib
import dataclasses
import errno
import logging
import platform
import signal
import threading
import zoneinfo
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

from agent import __version__, absence, diagnosis, logs, process, registry
from agent.budget import Ration
from agent.buffer import Buffer
from agent.collector import Env, Kind
from agent.config import AgentConfig, ConfigError, EventsConfig, discover, load_config, schema, show, task_name
from agent.custody import Custody
from agent.delivery import Centre, Delivery, this_boot
from agent.diagnosis import Office, Verdict
from agent.eventlane import EXIT as CENTRE
from agent.eventlane import EventLane
from agent.events import Events
from agent.exposition import render
from agent.journal import Journal
from agent.model import Batch, Event, Sample
from agent.pseudonyms import Masker
from agent.registry import Registry
from agent.scheduler import Scheduler, Task, wanted
from agent.segments import InUse
from agent.state import HEARTBEAT, StateFile, uptime
from agent.status import Status
from agent.syslog import EXIT as SYSLOG
from agent.syslog import JournalSource, Syslog
from agent.systemd import Notifier
from agent.web import AdminServer, LanServer, ListenError

log = logging.getLogger("ronda")

REDISCOVER = 60.0  # seconds between looks at gateway and resolvers, where no config names what to watch
LOOK_AROUND_EVERY = 5.0  # seconds between two looks at everything because a way out changed: a flapping link is no flood
CHECK_NOW_EVERY = 10.0  # seconds between two askings of "check now"
RELOAD_WITHIN = 10.0  # seconds that the end waits for a reload under way
TIDY = 60.0  # seconds between looks at the buffer's bounds
TIME_WITHIN = 900.0  # seconds after a start until the true time must be known, or nothing is said of how long nobody watched
STUCK_AFTER = 10.0  # seconds that a due run may wait before the agent calls itself unhealthy


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says of `ronda run`."""

    config: Path | None = None
    data_dir: Path | None = None
    listen: str | None = None
    web_config: Path | None = None
    lifecycle: bool = False


class Diagnosis:
    """The sink that keeps the verdict: judged again when a task's state or a cable changed.

    Once for all that ended in one turn of the loop: a judgement of 500 tasks takes half a millisecond, and they go down together.
    """

    def __init__(self, app: "App", verdict: Verdict | None) -> None:
        self._app = app
        self.verdict = verdict or Verdict(since=app.env.clock.now())
        self.carrier: bool | None = None
        self.changes = 0
        self._seen = -1
        self._cables: dict[str, bool] = {}  # by task; two may watch different devices
        self._ways: dict[str, bool] = {}  # by uplink: whether an anchor answers
        self._looked_at = float("-inf")
        self._asked = False

    def write(self, batch: Batch) -> None:
        if cables := [s.value for s in batch.samples if s.metric.name == "ronda_link_carrier"]:
            self._cables[batch.task] = any(cables)
        elif not batch.events:  # it can't look, or is gone: what it said last is no longer known
            self._cables.pop(batch.task, None)
        carrier = any(self._cables.values()) if self._cables else None
        if self._app.closing or (carrier == self.carrier and self._seen == self._app.scheduler.changes):
            return
        self.carrier, self._seen = carrier, self._app.scheduler.changes
        if not self._asked:
            self._asked = True
            asyncio.get_running_loop().call_soon(self._judge)

    def _judge(self) -> None:
        self._asked = False
        if self._app.closing:  # tasks that end are no news
            return
        now = self._app.env.clock.now()
        last = self.verdict
        statuses = self._app.scheduler.statuses()
        self._look_around(statuses)
        self.verdict = diagnosis.judge(statuses, self.carrier, now, last, self._app.office)
        if (last.state, last.cause) != (self.verdict.state, self.verdict.cause):
            self.changes += 1
            level = logging.INFO if self.verdict.state == "ok" else logging.WARNING
            log.log(level, "verdict: %s, cause %s %s", self.verdict.state, self.verdict.cause, self.verdict.incident)
            self._app.tell(diagnosis.change(last, self.verdict))
            self._app.save_soon()
            if self._app.centre:
                self._app.centre.nudge()
            if self._app.syslog:
                self._app.syslog.wake()

    def _look_around(self, statuses: list[Status]) -> None:
        """A way out was lost or came back: what is looked at every 15 s only may be wrong by now, so everything looks again at once."""
        ways = {uplink: n.any_up for uplink, n in diagnosis.ways_out(statuses).items() if n.known}
        changed = any(self._ways.get(uplink, up) != up for uplink, up in ways.items())
        self._ways = ways
        moment = self._app.env.clock.monotonic()
        if changed and moment - self._looked_at >= LOOK_AROUND_EVERY:
            self._looked_at = moment
            self._app.scheduler.look_now()

    def samples(self) -> Iterable[Sample]:
        return diagnosis.samples(self.verdict, self.changes)


def _key_file(config: AgentConfig) -> Path | None:
    """That of pseudonyms, where the config names one."""
    given = config.events.key_file if config.events else None
    return Path(given) if given else None


class App:
    """One running agent; also the `Site` that the pages show."""

    version = __version__

    def __init__(self, kinds: Mapping[str, Kind], env: Env, options: Options, data_dir: Path) -> None:
        self.kinds, self.env, self.options = kinds, env, options
        self.registry = Registry()
        self.boot = this_boot(env.root)
        self.state = StateFile(data_dir, self.boot.id.hex())
        self.notifier = Notifier()
        self.config, self._finding = self._whole(self._load())
        self.env = env = dataclasses.replace(env, data=data_dir, code=self.config.code, timezone=self.config.office.timezone)
        self.scheduler = Scheduler(env, [self.registry], self.config.site)
        self.diagnosis = Diagnosis(self, self.state.read(self.config.site))
        self.scheduler.sinks.append(self.diagnosis)
        self.admin = AdminServer(self, self.listen_address(self.config), options.web_config, lifecycle=options.lifecycle)
        self.lan: LanServer | None = None
        self.centre: Centre | None = None  # where the config says push
        self.events: Events | None = None  # once it has started
        self.syslog: Syslog | None = None  # where the config says so
        self.lane: EventLane | None = None  # of events to the centre
        self._data_dir = data_dir
        self._mask, self._custody = Masker(data_dir, _key_file(self.config)), Custody(data_dir)
        self._buffer: Buffer | None = None
        self._ration = Ration(data_dir)
        self._reload_ok, self._reloaded_at = True, env.clock.now()
        self._reload_problems: list[str] = []
        self._reloading = asyncio.Lock()
        self._checked_at = float("-inf")
        self._chore_failures = 0
        self._chores: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._hung_up = False
        self._saving = threading.Lock()
        self.closing = False

    # -- from nothing to running, and back ------------------------------------------------------------------------------

    def _load(self) -> AgentConfig:
        return load_config(self.options.config, self.kinds) if self.options.config else schema(self.kinds)()

    def _whole(self, config: AgentConfig) -> tuple[AgentConfig, bool]:
        """The file's config (False); or, where it names no tasks, one of what the box itself is connected to (True)."""
        finding = not any(True for _ in config.tasks())
        return (self._found(config) if finding else config), finding

    def _found(self, base: AgentConfig) -> AgentConfig:
        return discover(self.kinds, self.env.net.gateways(), self.env.net.resolvers(), base)

    def listen_address(self, config: AgentConfig) -> str:
        return self.options.listen or config.web.listen

    async def start(self) -> None:
        """Starts the listeners, then the tasks. Raises OSError where it can't listen."""
        async with self._reloading:  # a SIGHUP now is for afterwards
            try:
                await self._start()
            except BaseException:
                if self.events:
                    await self.events.close()
                if self._buffer:  # left open it would look as if we had been killed, and the next start would count losses
                    await asyncio.to_thread(self._buffer.close)
                raise

    async def _start(self) -> None:
        await self._open_journal()
        await self._open_buffer(self.config)
        await self.admin.start()
        if self.config.web.lan_page:
            self.lan = LanServer(self, self.config.web.lan_page)
            try:
                await self.lan.start()
            except BaseException:
                await self.admin.close()
                raise
        self._connect(self.config)
        self._open_syslog(self.config)
        self.scheduler.swap(self._built(self.config))
        self._pace()
        self._chore(self._every(HEARTBEAT, self._save))
        if self.notifier.watchdog:
            self._chore(self._every(self.notifier.watchdog / 2, self._watchdog))
        self._chore(self._every(REDISCOVER, self._rediscover))
        self._chore(self._every(TIDY, self._tidy))
        self._chore(self._say_absence())
        await self._save()  # a kill from here on is one, though nothing else that is worth a write should happen before it
        self.notifier.ready(f"watching {len(self.scheduler.tasks)} things")

    async def run(self) -> None:
        """Runs until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        await self.start()
        log.info("Ronda %s watches %s: %d tasks; page: %s", __version__, self.config.site, len(self.scheduler.tasks), self.admin.url)
        try:
            await self._stop.wait()
        finally:
            self.notifier.stopping()
            await self.close()

    async def close(self) -> None:
        self.closing = True
        with contextlib.suppress(TimeoutError):  # cut short, a reload would lose what the old way to the centre still holds
            async with asyncio.timeout(RELOAD_WITHIN):
                await self._reloading.acquire()  # for good: none comes after it
        self.tell(absence.stopped(__version__))
        if self.events:  # so that it leaves with the goodbyes
            await self.events.flush()
        chores = list(self._chores)
        for chore in chores:
            chore.cancel()
        await asyncio.gather(*chores, return_exceptions=True)
        for server in (self.admin, self.lan):
            if server:
                await server.close()
        if self.centre:
            self.centre.leave()
        await self.scheduler.close()
        if self.centre:  # last, so that nothing that a task has seen goes untold
            await self.centre.close()
        if self.syslog:
            await self.syslog.close()
        if self.events:
            await self.events.close()
        if self._buffer:
            await asyncio.to_thread(self._buffer.close)
        self._pace()
        await asyncio.to_thread(self._ration.save, self.env.clock.monotonic(), at_once=True)
        await asyncio.to_thread(self._write_state, ended=True)

    # -- reload -----------------------------------------------------------------------------------------------------------

    def _built(self, config: AgentConfig) -> dict[str, Task]:
        return self.scheduler.build(wanted(self.kinds, config.tasks(), task_name))

    async def reload(self) -> list[str]:
        """Puts the file in force. Returns what is wrong with it; then nothing has changed."""
        async with self._reloading:
            self.notifier.reloading()
            try:
                problems = await self._try_reload()
            except ConfigError as e:
                problems = [str(p) for p in e.problems]
            except (OSError, ValueError) as e:
                problems = [str(e)]
            except Exception as e:  # noqa: BLE001  (a kind's build may fail in any way; nothing has changed, and systemd waits for READY)
                problems = [f"{type(e).__name__}: {e}"]
            self._reload_ok, self._reload_problems = not problems, problems
            for problem in problems:
                log.error("the config was not loaded, the old one stays in force: %s", problem)
            if not problems:
                self._reloaded_at = self.env.clock.now()
                log.info("config loaded: %d tasks", len(self.scheduler.tasks))
            self.notifier.ready()
            return problems

    async def _try_reload(self) -> list[str]:
        # in a thread: a Pi reads 2000 tasks for two seconds, and no probe waits for it
        config, finding = self._whole(await asyncio.to_thread(self._load))
        if config.site != self.config.site:
            return [f"site can't change from {self.config.site} to {config.site} while running; restart the agent"]
        built = self._built(config)
        await self._open_buffer(config)
        admin, lan = self.admin, self.lan
        try:
            if self.listen_address(config) != self.listen_address(self.config):
                admin = AdminServer(self, self.listen_address(config), self.options.web_config, lifecycle=self.options.lifecycle)
                await self._listen(admin)
            if config.web.lan_page != self.config.web.lan_page:
                lan = LanServer(self, config.web.lan_page) if config.web.lan_page else None
                if lan:
                    await self._listen(lan)
        except BaseException:
            if admin is not self.admin:
                await admin.close()
            raise
        self._finding = finding
        await self._swap(config, built, admin, lan)
        return []

    async def _listen(self, server: AdminServer | LanServer) -> None:
        try:
            await server.start()
        except ListenError as e:
            ours = [s for s in (self.admin, self.lan) if s and s.listen.rpartition(":")[2] == server.listen.rpartition(":")[2]]
            if e.errno == errno.EADDRINUSE and ours:
                said = f"Ronda itself still listens on {ours[0].listen}; restart it to move, or take another port"
                raise ListenError(f"can't listen on {server.listen}: {said}") from None
            raise

    async def _swap(self, config: AgentConfig, built: dict[str, Task], admin: AdminServer, lan: LanServer | None) -> None:
        gone = [s for old, new in ((self.admin, admin), (self.lan, lan)) if old is not new and (s := old)]
        told = self.config.events
        self.config, self.admin, self.lan = config, admin, lan
        logs.setup(config.log.level, config.log.format)
        self._mask.use(_key_file(config))
        self.scheduler.swap(built)
        self._pace()
        await self._reconnect(config)
        await self._reopen_syslog(config, told)
        self._pace()
        for server in gone:
            self._chore(server.close())

    def _hang_up(self) -> None:
        """SIGHUP. However many come while one waits to be served, they are one."""
        if not self._hung_up:
            self._hung_up = True
            self._chore(self._reload_quietly())

    async def _reload_quietly(self) -> None:
        async with self._reloading:
            self._hung_up = False
        await self.reload()

    async def _rediscover(self) -> None:
        """Follows the box to a new gateway or resolver, where no config says what to watch."""
        if not self._finding or self._reloading.locked():
            return
        found = self._found(self.config)
        if list(found.tasks()) != list(self.config.tasks()):
            log.warning("the box's gateway or resolvers changed: watching the new ones")
            await self._swap(found, self._built(found), self.admin, self.lan)

    # -- events -----------------------------------------------------------------------------------------------------------

    async def _open_journal(self) -> None:
        """Opens what keeps events. Raises OSError where another agent has it."""
        try:  # in a thread: it reads all that it holds
            journal = await asyncio.to_thread(Journal, self._data_dir / "journal", self.config.site, self.env.clock)
        except InUse as e:
            raise OSError(str(e)) from None
        self.events = Events(self.env.clock, self.boot, journal, self._events_stored)
        self.scheduler.sinks.insert(1, self.events)
        self.events.start()
        self.tell(absence.started(__version__, self.state.last))

    def tell(self, event: Event) -> None:
        """An event of the agent's own, to all who want events."""
        batch = Batch("", {}, self.env.clock.now(), (), (event,))
        self.registry.write(batch)
        if self.events:
            self.events.write(batch)

    def _events_stored(self) -> None:
        """There is news for the exits."""
        if self.syslog:
            self.syslog.wake()
        if self.centre:
            self.centre.delivery.wake()

    def _open_syslog(self, config: AgentConfig) -> None:
        """The second exit of events, where the config names one. (Both are where an exit's cursor is counted on.)"""
        collector = config.events.collector if config.events else None
        if config.events and collector and self.events:
            source = JournalSource(self.events.journal, self._mask)
            self.syslog = Syslog(self.env, collector, config.events.tls, source, self.events.now)
            self.syslog.start()
        self._name_exits()

    async def _reopen_syslog(self, config: AgentConfig, old: EventsConfig | None) -> None:
        self._name_exits()
        if config.events == old:
            return
        if self.syslog:
            await self.syslog.close()
        self.syslog = None
        self._open_syslog(config)

    def _name_exits(self) -> None:
        if self.events:
            self.events.journal.exits = {name for name, it in ((SYSLOG, self.syslog), (CENTRE, self.centre)) if it}

    async def _say_absence(self) -> None:
        """Says how long nobody watched, once the time is known: a box without a clock chip learns it from others."""
        events, began = self.events, self.env.clock.monotonic()
        while (base := events.base() if events else None) is None:
            if self.env.clock.monotonic() - began > TIME_WITHIN:
                return
            await self.env.clock.sleep(5.0)
        started_at = base + began
        booted_at = base + self.env.clock.monotonic() - uptime(self.env.root)
        if event := absence.absence(self.state.last, self.boot.id.hex(), started_at, booted_at, self.office.zone):
            self.tell(event)

    # -- the way to the centre --------------------------------------------------------------------------------------------

    async def _open_buffer(self, config: AgentConfig) -> None:
        """Opens what keeps the undelivered. Raises OSError where another agent has it."""
        if config.push and not self._buffer:
            try:  # in a thread: it reads all that it holds
                self._buffer = await asyncio.to_thread(Buffer, self._data_dir / "buffer", config.site, self.env.clock)
            except InUse as e:
                raise OSError(str(e)) from None
            if lost := self._buffer.ledger.unclean:
                said = f"the last run ended without warning: up to {lost} samples were in memory only, and are lost"
                self.tell(Event("samples_lost", "warning", said, {"reason": "power_cut", "samples": str(lost)}))

    def _connect(self, config: AgentConfig) -> None:
        if config.push and self._buffer:
            self.centre = Centre(self.env, config.site, config.push, self._buffer, self.samples, self._state_for_centre)
            self.scheduler.sinks.append(self.centre)
            self._post_events(self.centre.delivery)
            self.centre.start()

    def _post_events(self, delivery: Delivery) -> None:
        """Events go to the centre on the same connection; from it they learn the true time."""
        if self.events:
            self.lane = delivery.mail = EventLane(self.env.clock, self.events.journal, self.events.base, delivery.wake, self._mask)
            self.events.centre_base = delivery.base

    async def _reconnect(self, config: AgentConfig) -> None:
        """After a reload: another way to the centre begins with the whole picture."""
        old = self.centre
        if (old.config if old else None) == config.push:
            return
        if old:
            self.scheduler.sinks.remove(old)
            self.centre = None
            await old.close()
            if self.lane and self.events:
                self.lane.close()
                self.lane, self.events.centre_base = None, lambda: None
        self._connect(config)
        if self.centre:
            for batch in self.registry.batches():
                self.centre.write(batch)

    async def _tidy(self) -> None:
        self._pace()
        await asyncio.to_thread(self._ration.save, self.env.clock.monotonic())
        if self.centre:
            await self.centre.tidy()
        if self.events:
            await self.events.tidy()
            await self._see_to_findings(self.events)

    async def _see_to_findings(self, events: Events) -> None:
        """What people have decided is journalled; what is held is kept, and the rest goes in time."""
        for decision in await asyncio.to_thread(self._custody.news):
            self.tell(decision.event())
            await events.flush()
            await asyncio.to_thread(self._custody.journalled, decision)
        now, base = self.env.clock.monotonic(), events.base()
        await asyncio.to_thread(self._custody.tidy, now, None if base is None else now + base)

    def _pace(self) -> None:
        """Has probes and push go as fast as their uplinks can bear."""
        centre = self.centre
        wall, mono = self.env.clock.now(), self.env.clock.monotonic()
        sure = centre is not None and centre.delivery.centre.known
        seen = {task.name: (task.runs, task.spent) for task in self.scheduler.tasks.values()}
        ways = self._ration.look(
            self.config, self.env.net, seen, self.scheduler.bytes, centre.spent if centre else 0.0,
            mono + centre.delivery.centre.base(wall, mono) if centre and sure else wall, self.office.zone, sure=sure,
            logged=self.syslog.spent if self.syslog else 0.0,
        )  # fmt: skip
        for task in self.scheduler.tasks.values():
            task.uplink = ways.get(task.name, "")
        self.scheduler.pace(self._ration.plan.intervals)
        if centre:
            centre.push.pace(self._ration.plan.push)

    def _state_for_centre(self) -> Iterable[Sample]:
        yield registry.HEARTBEAT(self.env.clock.now())
        yield from self.diagnosis.samples()

    # -- chores -----------------------------------------------------------------------------------------------------------

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._chores.add(task)
        task.add_done_callback(self._chore_done)

    def _chore_done(self, task: "asyncio.Task[None]") -> None:
        self._chores.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._chore_failures += 1
            log.error("a chore failed: %r", error, exc_info=error)

    async def _every(self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await self.env.clock.sleep(seconds)
            try:
                await work()
            except Exception:
                self._chore_failures += 1
                log.exception("a chore failed; it is tried again in %g s", seconds)

    async def _watchdog(self) -> None:
        if not self.healthy():
            self.notifier.alive()

    def save_soon(self) -> None:
        self._chore(self._save())

    async def _save(self) -> None:
        # in a thread: an SD card may take a second for one fdatasync, and no probe waits for it
        await asyncio.to_thread(self._write_state)

    def _write_state(self, *, ended: bool = False) -> None:
        with self._saving:  # what is written last is what is true now, in whatever order the threads come
            now = self.events.now() if self.events else self.env.clock.now()  # the true time: the next start tells people of it
            self.state.write(self.config.site, self.diagnosis.verdict, now, ended=ended)

    # -- what the pages show (web.Site) -----------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.config.site

    @property
    def title(self) -> str:
        return self.config.title

    @property
    def phone(self) -> str:
        return self.config.office.phone

    @property
    def timezone(self) -> str:
        return self.config.office.timezone

    @property
    def office(self) -> Office:
        return Office(self.config.code, zoneinfo.ZoneInfo(self.config.office.timezone))

    @property
    def problems(self) -> list[str]:
        own = [self.state.problem, self.centre.problem if self.centre else "", self._buffer.problem if self._buffer else ""]
        own += [self._ration.problem]
        own += [f"events: {self.lane.problem}" if self.lane and self.lane.problem else ""]
        own += [self._mask.problem, self._custody.problem]
        own += [self.events.journal.problem if self.events else "", self.syslog.problem if self.syslog else ""]
        return [*self._reload_problems, *filter(None, own), *self.admin.problems()]

    def statuses(self) -> list[Status]:
        return self.scheduler.statuses()

    def verdict(self) -> Verdict:
        return self.diagnosis.verdict

    def config_text(self) -> str:
        return show(self.config)

    def ready(self) -> str:
        waiting = sum(s.state == "unknown" for s in self.scheduler.statuses())
        return f"{waiting} tasks have not looked yet" if waiting else ""

    def healthy(self) -> str:
        late = self.scheduler.overdue()
        return f"a run has been due for {late:.0f} s" if late > STUCK_AFTER else ""

    async def check_now(self) -> bool:
        now = self.env.clock.monotonic()
        if now - self._checked_at < CHECK_NOW_EVERY:
            return False
        self._checked_at = now
        self.scheduler.look_now()
        return True

    async def metrics(self, openmetrics: bool) -> bytes:
        """The exposition; the web lets scrapes that come together share one. No task has the empty name of the agent's own batch."""
        self.registry.write(Batch("", {}, self.env.clock.now(), list(self.samples())))
        return await render(self.registry.families(), openmetrics=openmetrics)

    def samples(self) -> Iterable[Sample]:
        """The agent's own metrics."""
        yield registry.BUILD_INFO(1, __version__, platform.python_version())
        yield registry.HEARTBEAT(self.env.clock.now())
        yield registry.RELOAD_SUCCESSFUL(float(self._reload_ok))
        yield registry.RELOAD_TIME(self._reloaded_at)
        yield registry.STATE_FAILURES(self.state.failures)
        yield registry.CHORE_FAILURES(self._chore_failures)
        yield from process.samples()
        yield from self.scheduler.samples()
        yield from self._ration.samples()
        yield from self.registry.samples()
        yield from self.diagnosis.samples()
        yield from self.admin.samples()
        if self.centre:
            yield from self.centre.samples()
        if self.events:
            yield from self.events.samples()
        if self.syslog:
            yield from self.syslog.samples()
        if self.lan:
            yield from self.lan.samples()
