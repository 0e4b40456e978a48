"""snmp: the office's routers, switches, radios and UPSes. One task a device; `name` is the device, and the label `task` of all its series.

    collectors:
      snmp:
        - {name: router, target: gateway, credentials_file: /etc/ronda/router.snmp.yaml}
        - name: switch-1
          target: "192.0.2.2:161"
          credentials_file: /etc/ronda/switch.snmp.yaml      # {version: "3", user: ronda, auth: sha256, auth_password: …, privacy: aes, …}
          profiles: auto                                     # or [interfaces, mikrotik-health]; what there is: docs/devices.md
          profiles_dir: /etc/ronda/profiles                  # your own files, like those of agent/snmp/profiles
          interfaces: {keep: ["^sfp"], drop: ["^guest"], down: false, virtual: false}
          series: 1000                                       # at most, of this device
          client: light                                      # or pysnmp: the library, eight times the CPU, 13 MiB more memory

Without `credentials_file` it is asked in v2c with the community "public". Try a device first: ronda once snmp 192.0.2.2 --community WORD

Interfaces are told by name. Left out are virtual ones (VLAN, bridge, tunnel, loopback) unless `virtual`, and those that were never up
unless `down`; one that was up once stays and is 0 when it goes down. `keep` (regular expressions of names) shows, `drop` hides.

The look ends as a failure when the device doesn't answer at all or not in time. A table that can't be read costs that table. What the ARP
table and the switch know goes to the detectors (env.board), never into labels.
"""

import asyncio
import dataclasses
import itertools
import os
import re
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from agent.collector import Env, Failure, Kind, Poller, ProbeConfig, Result, Seen, failed, succeeded
from agent.detect.seen import Interfaces
from agent.model import Sample
from agent.snmp import interfaces, metrics, show
from agent.snmp.facts import facts
from agent.snmp.memory import Known, Memory
from agent.snmp.wire import Client, Credentials, Device, split
from agent.structure import BAD, ConfigError, Duration, Reader, Regex, Scalar, Slug
from agent.tls import File

PUBLIC = Credentials("2c", "public")
REASONS = ("resolve", "timeout", "refused", "unreachable", "auth", "answer", "send")
EVENTS = ("device_restarted", "snmp_table_failed", "snmp_table_back", "snmp_capped")
SILENT = "no answer: the device is off, the community is wrong, or this box is not among those that may ask it"


def _target(text: str) -> str:
    split(text)
    return text


def _series(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 50 <= int(text) <= 20_000:
        raise ValueError
    return int(text)


class Wanted(list[str]):
    """Names of profiles, or the word `auto`."""

    @classmethod
    def read_node(cls, reader: Reader, node: yaml.Node, path: str, depth: int) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return cls(["auto"]) if node.value == "auto" else reader.problem(node, path, "is `auto`, or a list of names")
        names = reader.read(node, list[Slug], path, depth)
        return BAD if names is BAD else cls(names)

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        return {"anyOf": [{"enum": ["auto"]}, {"type": "array", "items": {"type": "string", "pattern": "^[a-z0-9-]{1,40}$"}}]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class InterfacesConfig:
    """Which interfaces are shown; `keep` wins over `drop`."""

    keep: list[Regex] = dataclasses.field(default_factory=list)
    drop: list[Regex] = dataclasses.field(default_factory=list)
    down: bool = False  # also those that were never up
    virtual: bool = False  # also VLANs, bridges, tunnels, loopbacks

    def rules(self) -> interfaces.Rules:
        return interfaces.Rules(tuple(map(re.compile, self.keep)), tuple(map(re.compile, self.drop)), self.down, self.virtual)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ProbeConfig):
    shortest = 5.0

    target: Annotated[str, Scalar("a device", _target, "an address, a name or gateway, and :port where it isn't 161")]
    interval: Duration = 60.0
    timeout: Duration = 20.0
    credentials_file: File | None = None
    profiles: Wanted = dataclasses.field(default_factory=lambda: Wanted(["auto"]))
    profiles_dir: File | None = None
    interfaces: InterfacesConfig = dataclasses.field(default_factory=InterfacesConfig)
    series: Annotated[int, Scalar("a number of series", _series, "50 to 20000")] = 1000
    client: Literal["light", "pysnmp"] = "light"

    def problems(self) -> Iterable[tuple[str, str]]:
        yield from super().problems()
        if self.profiles_dir and not Path(self.profiles_dir).is_dir():
            return  # it is on another box, perhaps; on its own, the task says so
        if self.profiles_dir or self.wanted:
            try:
                known = _library(self.profiles_dir or "")
            except ConfigError as e:
                yield from (("profiles_dir", str(problem)) for problem in e.problems)
                return
            for name in self.wanted or ():
                if name not in known:
                    yield "profiles", f"{name} is no profile (docs/devices.md); known: {', '.join(sorted(known))}"

    @property
    def wanted(self) -> list[str] | None:
        """None: those that apply."""
        return None if "auto" in self.profiles else list(self.profiles)


def _library(directory: str) -> Mapping[str, Any]:
    from agent.snmp.profile import library  # an agent without devices reads no profiles

    return library(directory)


_clients: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Client]]" = weakref.WeakKeyDictionary()


def client(name: str) -> Client:
    """One of a name for all devices of the loop: it takes their answers in turns."""
    made = _clients.setdefault(asyncio.get_running_loop(), {})
    if name not in made:
        made[name] = _client(name)
    return made[name]


def _client(name: str) -> Client:
    """Imported here: who has no devices, or wants the other, pays for none of it."""
    if name == "light":
        from agent.snmp.client import UdpClient

        return UdpClient()
    from agent.snmp.library import PysnmpClient

    return PysnmpClient()


class Snmp:
    """The Poller. `community`, `version`: of the command line, in place of a file. `progress`: is told what is read now."""

    def __init__(
        self, config: Config, env: Env, credentials: Credentials | None = None, progress: Callable[[str], None] | None = None
    ) -> None:
        self.config, self.env, self.progress = config, env, progress
        self.task = config.name or f"snmp:{config.identity()}"
        self.engine: Any = None
        self.picture: Any = None
        self._given = credentials
        self._credentials = (-1, PUBLIC)  # when its file was changed
        self._interval = config.interval
        self._memory = Memory(env.data, self.task)
        self._files: object = None
        self._asked: Device | None = None

    def paced(self, seconds: float) -> None:
        self._interval = seconds
        if self.engine:
            self.engine.interval = seconds

    async def collect(self) -> Iterable[Seen]:
        """One look. Raises OSError or ConfigError: credentials or profiles that can't be used."""
        credentials = self._who()
        await self._ready()
        until = time.monotonic() + self.config.timeout
        self.picture = None
        try:
            self._asked = device = await self._device(credentials, until)
            self.picture = await self._look(device, until)
        except Failure as e:
            return [*self._own(), failed(e.reason, e.detail)]
        await self._keep()
        picture, now = self.picture, self.env.clock.monotonic()
        names = Interfaces(self.task, self.engine.interfaces.all)  # for traps, which say a number
        for row in (picture.identity, picture.arp, picture.bridge, names):
            if row is not None:
                self.env.board.post(self.task, row, now)
        failure = picture.failure
        return [*picture.samples, *picture.events, failed(failure.reason, failure.detail) if failure else succeeded()]

    def _own(self) -> Iterator[Sample]:
        """What Ronda counts itself goes on where the device is silent."""
        yield metrics.RESTARTS(float(self.engine.restarts))
        yield from (metrics.TABLE_FAILURES(float(n), name) for name, n in sorted(self.engine.failures.items()))

    def _who(self) -> Credentials:
        """Read again where the file has changed."""
        if self._given or not self.config.credentials_file:
            return self._given or PUBLIC
        from agent.snmp import credentials

        path = Path(self.config.credentials_file)
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            changed = -2  # the reading says what is the matter
        if changed != self._credentials[0]:
            self._credentials = (changed, credentials.load(path))
        return self._credentials[1]

    async def _ready(self) -> None:
        """Loads the profiles, at the first look and when an admin's files have changed."""
        folder = self.config.profiles_dir or ""
        now = _signature(folder)
        if self.engine and now == self._files:
            return
        library = await asyncio.to_thread(_library, folder)
        if missing := [name for name in self.config.wanted or () if name not in library]:
            raise ValueError(f"profiles: there is no {', '.join(missing)}; known: {', '.join(sorted(library))}")
        if self.engine:
            self.engine.use(library)
        else:
            self.engine = self._engine(library, await asyncio.to_thread(self._memory.load))
        self._files = now

    def _engine(self, library: Mapping[str, Any], known: Known) -> Any:
        from agent.snmp.poll import Engine

        return Engine(
            self.task,
            library,
            wanted=self.config.wanted,
            rules=self.config.interfaces.rules(),
            series=self.config.series,
            interval=self._interval,
            up_once=known.up_once,
            rebased=known.rebased,
        )

    async def _device(self, credentials: Credentials, until: float) -> Device:
        host, port = split(self.config.target)
        try:
            async with asyncio.timeout(until - time.monotonic()):
                addresses = await self.env.net.resolve(host)
        except TimeoutError:
            raise Failure("timeout", f"no address of {host} within {self.config.timeout:g} s") from None
        return Device(addresses[0], port, credentials, timeout=min(2.0, self.config.timeout / 6), source=self.config.source)

    async def _look(self, device: Device, until: float) -> Any:
        """Asks what the engine wants to know, until it has seen enough or the time is up."""
        from agent.snmp.look import Late

        steps = self.engine.look(self.env.clock.monotonic())
        ask = next(steps)
        for asked in itertools.count(1):
            failure: Failure | None = None
            found: Any = None
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    found = await self._ask(device, ask)
            except Failure as e:
                failure = e
            except TimeoutError:
                what = SILENT if asked == 1 else "it answers, but too slowly: not everything was read"
                failure = Late("timeout", f"{device.address} port {device.port}, {self.config.timeout:g} s: {what}")
            try:
                ask = steps.throw(failure) if failure else steps.send(found)
            except StopIteration as e:
                return e.value
        raise AssertionError("never ends so")

    async def _ask(self, device: Device, ask: Any) -> Any:
        from agent.snmp.look import Get

        asking = client(self.config.client)
        if isinstance(ask, Get):
            return await asking.get(device, ask.oids)
        if self.progress:
            self.progress(ask.what)
        if ask.repetitions:
            device = device._replace(repetitions=ask.repetitions)
        return await asking.walk(device, ask.columns, ask.most)

    async def _keep(self) -> None:
        known = self.engine.interfaces.up_once, self.engine.counters.rebased
        if (frozenset(known[0]), frozenset(known[1])) != tuple(self._memory.known):
            await asyncio.to_thread(self._memory.keep, set(known[0]), set(known[1]))

    async def close(self) -> None:
        self.env.board.forget(self.task)
        if self._asked:
            client(self.config.client).forget(self._asked)


def _signature(folder: str) -> object:
    """What changes where a file of an admin's does."""
    if not folder:
        return ""
    try:
        return sorted((e.name, e.stat().st_mtime_ns) for e in os.scandir(folder))
    except OSError as e:
        return e.errno


async def once(
    config: Config,
    env: Env,
    *,
    community: str | None = None,
    version: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """One look in full (agent/snmp/show.py)."""
    given = Credentials("1" if version == "1" else "2c", community or "public") if community or version else None
    poller = Snmp(config, env, given, progress)
    seen = list(await poller.collect())
    result = next(s for s in seen if isinstance(s, Result))
    found: dict[str, Any] = {"target": config.target, "ok": not result.reason, "reason": result.reason or None}
    found["detail"] = result.detail or None
    if result.reason:
        version = poller._asked.credentials.version if poller._asked else ""
        found["periksa"] = show.advice(result.reason, result.detail, version)
    return found | (show.whole(poller.picture, seen) if poller.picture else {})


def build(config: Config, env: Env) -> Poller:
    return Snmp(config, env)


KIND = Kind(
    name="snmp",
    config=Config,
    metrics=metrics.METRICS,
    build=build,
    events=EVENTS,
    probe=True,
    reasons=REASONS,
    once=once,
    glance=show.glance,
    facts=facts,
)
