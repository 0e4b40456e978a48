"""traps: what the office's devices send unasked by SNMP, v1, v2c and v3, traps and informs. The detectors are in agent/detect/traps.py.

    collectors:
      traps: [{listen: "0.0.0.0:162", senders: {router: gateway, ups: 192.0.2.5}, credentials_file: /etc/ronda/traps.yaml}]

Who isn't in `senders` is refused and counted, and so is who has another community or user than `credentials_file` says (as the kind
snmp has them; without one: v1 and v2c with the community "public", which is no secret). `credentials_files` has those of single senders.
For port 162 see config/systemd/ronda-traps.socket: the agent needs no privilege. By default it listens on loopback, where nobody but this
box can send. `engine_ids` ties a v3 sender to one engine; without it any will do whose messages prove the password.

Does a device send at all? ronda once traps listen=0.0.0.0:1162 --timeout 60s (any port that the agent hasn't got; anybody's are shown)

Law: a notification is told as an event, and forgotten; alike ones of one turn are one event with their count. All decisions are the
detectors', which are pure. Addresses and names are in events only, never in labels.
"""

import asyncio
import collections
import dataclasses
import json
import logging
import math
import re
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from agent import cases, files, senders
from agent.bucket import Bucket
from agent.cases import Cases, SuppressConfig
from agent.collector import Env, Kind, TaskConfig, Watcher
from agent.detect import casebook, patrol, seen
from agent.detect.concerns import concerns
from agent.detect.model import Table, Vouched
from agent.detect.patrol import Patrol
from agent.detect.table import TRAPS
from agent.model import Event, Fact, Metric, Sample
from agent.senders import Sender, Senders
from agent.snmp import usm
from agent.snmp.notifications import MAX_BOOTS, NAMES, OTHER, Engine, Notification
from agent.snmp.receiver import REASONS, Receiver, Whom
from agent.snmp.wire import Credentials, text_of
from agent.structure import IpAddress, Listen, Regex, Scalar, Slug
from agent.tls import File

log = logging.getLogger("ronda.traps")

TURN = 3.0  # seconds
RELOAD = 60.0  # seconds between two looks at whether credentials have changed
MAX_TOLD = 32  # sorts of notifications that one turn tells of
ROOM, ROOM_EVERY = 60, 300.0  # events of notifications: so many at once, then one each so many seconds
REFUSALS, REFUSALS_EVERY, DAY = 10, 360.0, 86400.0  # events of who is refused: likewise, and each once a day
PUBLIC = Credentials("2c", "public")
ENGINE = "traps.engine.json"
_SESSION = re.compile(r"<[a-z0-9]+-(.+)>")

RECEIVED = Metric("ronda_traps_received_total", "Notifications of devices that were heard.", "counter", ("trap",))
REFUSED = Metric(
    "ronda_traps_refused_total", "Notifications that were not: of strangers, with a wrong community or user, unreadable, too many.",
    "counter", ("reason",),
)  # fmt: skip
UNTOLD = Metric("ronda_traps_untold_total", "Notifications that were heard and have no event of their own: too many.", "counter")
LAST = Metric("ronda_traps_last_timestamp_seconds", "When a device last sent one; absent until it does.", labels=("sender",))
METRICS = (RECEIVED, REFUSED, UNTOLD, LAST, *patrol.METRICS, *cases.METRICS)
RULES = tuple(make(Vouched()).rule.name for make in TRAPS)
EVENTS = ("trap", "trap_refused", *RULES)


def _engine_id(text: str) -> str:
    small = text.lower().removeprefix("0x").replace(":", "")
    if not 10 <= len(bytes.fromhex(small)) * 2 <= 64:  # RFC 3411: 5 to 32 bytes
        raise ValueError
    return small


def _hex(text: str) -> str:
    try:
        return _engine_id(text)
    except ValueError:
        raise ValueError from None  # without Python's words


EngineId = Annotated[str, Scalar("an engine id", _hex, "5 to 32 bytes in hexadecimal, e.g. 80001f8880aabbccdd")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TaskConfig):
    """`senders`: name → address, or `gateway`. `important`: regular expressions of interfaces whose loss is told; empty: the usual ones."""

    listen: Listen = "127.0.0.1:1162"
    senders: dict[Slug, Sender]
    credentials_file: File | None = None
    credentials_files: dict[Slug, File] = dataclasses.field(default_factory=dict)
    engine_ids: dict[Slug, EngineId] = dataclasses.field(default_factory=dict)
    important: list[Regex] = dataclasses.field(default_factory=list)
    scanners: list[IpAddress] = dataclasses.field(default_factory=list)
    suppress: list[SuppressConfig] = dataclasses.field(default_factory=list)

    def problems(self) -> Iterable[tuple[str, str]]:
        yield from super().problems()
        yield from senders.problems(self.listen, self.senders, 162)
        for field in ("credentials_files", "engine_ids"):
            for name in getattr(self, field):
                if name not in self.senders:
                    yield f"{field}.{name}", "is none of senders"
        for n, entry in enumerate(self.suppress):
            if entry.rule not in RULES:
                yield f"suppress[{n}].rule", f"{entry.rule!r} is no rule of traps: {', '.join(sorted(RULES))}"

    def vouched(self) -> Vouched:
        return Vouched(scanners=frozenset(self.scanners), important=tuple(self.important))

    def files(self) -> dict[str, str | None]:
        """By sender."""
        return {name: self.credentials_files.get(name, self.credentials_file) for name in self.senders}


# -- credentials, and the engine that we are --------------------------------------------------------------------------------------


def whom(config: Config) -> dict[str, Whom]:
    """Waits for the disk, and stretches passwords. Raises OSError: credentials that can't be used."""
    read = {path: _read(path) if path else PUBLIC for path in set(config.files().values())}
    users = {path: usm.user(said) for path, said in read.items() if said.version == "3"}
    engines = {name: bytes.fromhex(said) for name, said in config.engine_ids.items()}
    return {name: Whom(read[path], users.get(path), engines.get(name, b"")) for name, path in config.files().items()}


def _read(path: str) -> Credentials:
    from agent.snmp import credentials  # an agent without devices needs none

    return credentials.load(Path(path))


def stamps(config: Config) -> list[object]:
    """What changes when a credentials file does. Raises OSError."""
    return [(path, s.st_mtime_ns, s.st_ino, s.st_size) for path in set(config.files().values()) if path and (s := Path(path).stat())]


def engine(data: Path | None, now: float) -> Engine:
    """Ours, begun once more (RFC 3414 section 2.2): so no inform of an earlier life can be played again."""
    said: dict[str, Any] = {}
    try:
        said = json.loads((data / ENGINE).read_bytes()) if data else {}
        id_, boots = bytes.fromhex(said["id"]), int(said["boots"]) + 1
        if not 5 <= len(id_) <= 32 or not 0 < boots < MAX_BOOTS:
            raise ValueError(said)
    except FileNotFoundError:
        id_, boots = b"", 1
    except (OSError, ValueError, KeyError, TypeError) as e:
        id_, boots = b"", 1
        if data:
            log.warning("the SNMP engine's id can't be used, it has a new one: %r", e)
    id_ = id_ or bytes.fromhex("80007ed905") + secrets.token_bytes(8)  # RFC 3411: bytes of our own, of the number for examples (RFC 5612)
    if data:
        try:
            files.replace(data / ENGINE, json.dumps({"id": id_.hex(), "boots": boots}).encode(), durable=True)
        except OSError as e:
            log.error("the SNMP engine's boots can't be kept: old informs could be played again after a restart: %s", e)
    return Engine(id_, boots, now)


# -- what is told -----------------------------------------------------------------------------------------------------------------


class Telling:
    """Notifications and refusals → events. What finds no room is counted."""

    def __init__(self, at: float) -> None:
        self._room, self._refusals = Bucket(ROOM, ROOM_EVERY, at), Bucket(REFUSALS, REFUSALS_EVERY, at)
        self._told: dict[tuple[str, ...], Event] = {}
        self._waiting: list[Event] = []
        self._before: Table[tuple[str, str], float] = Table(256)
        self.untold = 0

    def trap(self, trap: seen.Trap, said: Notification) -> None:
        key = (trap.device, trap.name, trap.about, trap.oid, trap.source)
        if (event := self._told.get(key)) is not None:
            self._told[key] = dataclasses.replace(event, count=event.count + 1)
        elif len(self._told) >= MAX_TOLD:
            self.untold += 1
        else:
            self._told[key] = _event(trap, said)

    def refused(self, address: str, reason: str, detail: str, at: float) -> None:
        """Once a day of an address and a reason: it is how an admin finds out what his router does wrong."""
        last = self._before.get((address, reason))
        if (last is not None and at - last < DAY) or self._refusals.take(at):
            return
        self._before.put((address, reason), at)
        fields = {"source.ip": address, "reason": reason, "detail": detail}
        self._waiting.append(Event("trap_refused", "info", "a trap was refused, and more of its like will be", fields))

    def drain(self, at: float) -> list[Event]:
        found, self._waiting = self._waiting, []
        for event in self._told.values():
            if self._room.take(at):
                self.untold += event.count
            else:
                found.append(event)
        self._told.clear()
        return found


def _event(trap: seen.Trap, said: Notification) -> Event:
    words = trap.name.replace("_", " ") if trap.name != OTHER else "something of its maker's own"
    fields = {"ronda.device": trap.device, "trap": trap.name, "ronda.interface": trap.about, "oid": trap.oid, "source.ip": trap.source}
    if session := _SESSION.fullmatch(trap.about):  # RouterOS calls a session's interface after who dialled in: names leave masked
        fields["user.name"] = session[1]
    numbers = {"uptime_seconds": f"{said.uptime:.0f}" if said.uptime >= 0 else "", "version": said.version}
    return Event("trap", "info", f"a device says: {words}", {name: value for name, value in (fields | numbers).items() if value})


class TrapsWatcher:
    """The Watcher. Its counts outlive a restart of `watch`."""

    def __init__(self, config: Config, env: Env) -> None:
        self._config, self._env = config, env
        self.received = collections.Counter(dict.fromkeys((*NAMES, OTHER), 0))
        self.refused = collections.Counter(dict.fromkeys(REASONS, 0))
        self.last: dict[str, float] = {}
        self._telling = Telling(env.clock.monotonic())
        self._senders = Senders(config.senders, env.net, env.clock)
        self.port = 0

    async def watch(self) -> AsyncIterator[Sequence[Sample | Event]]:
        """Yields a picture each interval and at each word of a device. Raises OSError: could not listen, or no credentials."""
        clock, config = self._env.clock, self._config
        stamped = await asyncio.to_thread(stamps, config)
        known = await asyncio.to_thread(whom, config)
        us = await asyncio.to_thread(engine, self._env.data, clock.monotonic())
        detectors = [make(config.vouched()) for make in TRAPS]
        kept = Cases(self._env, "traps", [d.rule for d in detectors], config.suppress)
        patrol_ = Patrol(detectors, kept.book)
        await kept.begin(patrol_)
        receiver = Receiver(config.listen, known, us, clock, lambda *said: self._hear(patrol_, *said), self._refuse)
        self.port, due, reload_, lost = receiver.port, 0.0, clock.monotonic() + RELOAD, receiver.lost
        if receiver.loopback and any(address != "gateway" and not senders.loopback(address) for address in config.senders.values()):
            log.warning("traps: %s hears this box only: name its own address, or 0.0.0.0, in `listen`", config.listen)
        try:
            while True:
                receiver.senders = self._senders.now()
                if clock.monotonic() >= reload_:
                    reload_ = clock.monotonic() + RELOAD
                    stamped = await self._readmit(receiver, stamped)
                self.refused["flood"] += receiver.lost - lost
                lost = receiver.lost
                patrol_.tick(clock.monotonic(), clock.now())
                events = [*await kept.turn(patrol_), *self._telling.drain(clock.monotonic())]
                if events or clock.monotonic() >= due:
                    due = clock.monotonic() + config.interval - TURN / 2
                    yield [*self._samples(), *patrol_.samples(frozenset({"traps"})), *kept.samples(), *events]
                await clock.sleep(until_next(clock.monotonic()))
        finally:
            receiver.close()
            await kept.end(patrol_)

    async def _readmit(self, receiver: Receiver, stamped: list[object]) -> list[object]:
        """Takes up credentials that have changed."""
        now = await asyncio.to_thread(stamps, self._config)
        if now != stamped:
            receiver.admit(await asyncio.to_thread(whom, self._config))
        return now

    def _hear(self, patrol_: Patrol, device: str, said: Notification) -> None:
        self.received[said.name] += 1
        self.last[device] = self._env.clock.now()
        names = self._env.board.of(seen.Interfaces).get(device)
        about = said.about or (names[1].names.get(said.port, "") if names else "") or (str(said.port) if said.port >= 0 else "")
        trap = seen.Trap(device, said.name, about, text_of(said.oid), said.source)
        self._telling.trap(trap, said)
        patrol_.see(trap, self._env.clock.monotonic(), self._env.clock.now())

    def _refuse(self, address: str, reason: str, detail: str) -> None:
        self.refused[reason] += 1
        self._telling.refused(address, reason, detail, self._env.clock.monotonic())

    def _samples(self) -> Iterator[Sample]:
        for name, n in self.received.items():
            yield RECEIVED(n, name)
        for reason, n in self.refused.items():
            yield REFUSED(n, reason)
        yield UNTOLD(self._telling.untold)
        for sender, at in self.last.items():
            yield LAST(at, sender)


def until_next(now: float) -> float:
    """Turns lie on whole seconds, as the scheduler's slots: tasks share wake-ups."""
    return max(0.05, math.floor(now) + TURN - now)


async def once(config: Config, env: Env) -> dict[str, Any]:
    """Everything that comes within the timeout, whoever sends it: is my router sending?"""
    came: list[dict[str, Any]] = []
    known, us = await asyncio.to_thread(whom, config), await asyncio.to_thread(engine, None, env.clock.monotonic())

    def told(device: str, said: Notification) -> None:
        fields = {"interface": said.about or (said.port if said.port >= 0 else ""), "oid": text_of(said.oid)}
        came.append({"from": device, "version": said.version, "trap": said.name, **fields, "refused": ""})

    def refused(address: str, reason: str, detail: str) -> None:
        came.append({"from": address, "version": "", "trap": "", "interface": "", "oid": "", "refused": f"{reason}: {detail}"})

    try:
        receiver = Receiver(config.listen, known, us, env.clock, told, refused)
    except OSError as e:  # mostly the agent itself has the port
        return {"ok": False, "listened": f"not at all: {e.strerror or e}", "heard": 0, "came": []}
    receiver.senders, port = Senders(config.senders, env.net, env.clock).now(), receiver.port
    try:
        await env.clock.sleep(config.timeout)
    finally:
        receiver.close()
    heard = sum(not row["refused"] for row in came)
    found: dict[str, Any] = {
        "ok": heard > 0,
        "listened": f"UDP port {port} on {config.listen.rpartition(':')[0] or 'all addresses'}",
        "heard": heard,
        "came": came[:1000],
    }
    if not heard and senders.loopback(config.listen.rpartition(":")[0].strip("[]")):
        found["periksa"] = "hanya kotak ini yang didengar di alamat itu; untuk perangkat: listen=0.0.0.0:1162"
    return found


def glance(samples: Sequence[Sample]) -> str:
    """`12 kabar, tidak ada temuan`; and how many were refused: `ronda events --kind trap_refused` says of whom and why."""
    heard = sum(s.value for s in samples if s.metric is RECEIVED)
    active = sum(s.value for s in samples if s.metric is casebook.ACTIVE)
    refused = sum(s.value for s in samples if s.metric is REFUSED)
    turned = f"{refused:.0f} ditolak, " if refused else ""
    return f"{heard:.0f} kabar, {turned}{f'{active:.0f} temuan' if active else 'tidak ada temuan'}"


def facts(samples: Sequence[Sample]) -> tuple[Fact, ...]:
    """Who was heard, the last one first."""
    last = sorted((s for s in samples if s.metric is LAST), key=lambda s: -s.value)
    return tuple(Fact("trap", s.labels[0], s.value) for s in last)


def build(config: Config, env: Env) -> Watcher:
    return TrapsWatcher(config, env)


KIND = Kind(
    name="traps", config=Config, metrics=METRICS, build=build, events=EVENTS, once=once, glance=glance, concerns=concerns, facts=facts
)
