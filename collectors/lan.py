"""lan: who and what is on the office's network, and what there isn't as it should be. The detectors are in agent/detect.

    collectors:
      lan: [{device: auto, active: true, dhcp_servers: [192.0.2.1], tripwires: [2323], interval: 15s}]

Needs ronda-capture (config/systemd) to see frames. It runs without it as well, and says by ronda_detector_coverage and one event what it
then can't see: the kernel's own tables, counters, the canary and tripwires need no privilege. `active: false` sends nothing at all.

Law: all decisions are the detectors', which are pure; here is only what feeds them (frames, the kernel's tables, counters, probes,
tripwires), and what they say goes out as pictures and events. Addresses and MACs are in events only, never in labels. Idle work is one
turn a second. Nothing here waits for the wire: who floods it costs the reader's budget and no more.
"""

import asyncio
import contextlib
import dataclasses
import ipaddress
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from agent import cases, kernelview
from agent.capture import exposure
from agent.capture.exposure import Exposure
from agent.capture.probes import Probes
from agent.capture.reader import Reader
from agent.capture.tripwires import Tripwires
from agent.cases import Cases, SuppressConfig
from agent.collector import Env, Kind, TaskConfig, Watcher
from agent.detect import casebook, patrol, reading, seen
from agent.detect.concerns import concerns
from agent.detect.devices import NewDevice
from agent.detect.dhcp import RogueDhcp
from agent.detect.exposure import PORTS, SNMP, RouterExposed
from agent.detect.model import Vouched
from agent.detect.patrol import Patrol
from agent.detect.poisoning import ArpPoisoning
from agent.detect.table import LAN
from agent.model import Event, Metric, Sample
from agent.structure import Duration, IpAddress, Mac, Networks, Text
from agent.wire import netlink
from collectors import link

SOCKET = "/run/ronda/capture.sock"
EYES: TypeAlias = Literal["lan", "contacts"]
TURN = 1.0  # seconds
TABLES = 5.0  # seconds between two looks at the kernel's neighbours and, while it is quiet, at counters
BUSY = {"broadcast": 100.0, "contacts": 30.0, "ListenDrops": 1.0, "NoPorts": 30.0}  # a second: from here on counters are read each turn
AGAIN = 1.0  # TCPSynRetrans a second. What is half-open is answered again after 1, 3, 7, 15 and 31 s (RFC 6298): many show by it
FEW = 16.0  # half-open connections: from here on they are counted at each look
BLIND_AFTER = 10.0  # seconds without a capture until it is said
MAX_TRIPWIRES = 16
SELDOM = 3600.0  # seconds between two looks at what the gateway offers

DEVICES = Metric("ronda_lan_devices", "Devices on the network: known, new, mobile (random MACs), quiet.", labels=("class",))
SERVERS = Metric("ronda_lan_dhcp_servers", "DHCP servers that were seen within the last quarter of an hour.")
FRAMES = Metric("ronda_lan_frames_total", "Frames that the capture's filters let through, read or not.", "counter", ("socket",))
LOST = Metric("ronda_lan_frames_lost_total", "Frames of those that were not read: too many at once.", "counter", ("socket",))
RATE = Metric("ronda_lan_broadcast_rate", "Broadcasts and multicasts a second, since the last look.")
CAPTURE = Metric("ronda_lan_capture_up", "Whether frames are seen.")
MOVES = Metric(
    "ronda_router_arp_moves_total", "Addresses that had another MAC in a router's ARP table than before, for whatever reason.", "counter"
)
OPEN = Metric(
    "ronda_router_exposed_port",
    "Whether the gateway offers this TCP port to the office; 161: SNMP to the community public. None before the first look of the day.",
    labels=("port",),
)
PROBES = Metric("ronda_lan_probes_total", "Packets that Ronda's own probes sent.", "counter", ("probe",))
METRICS = (DEVICES, SERVERS, FRAMES, LOST, RATE, CAPTURE, PROBES, MOVES, OPEN, *patrol.METRICS, *cases.METRICS)
EVENTS = ("lan_blind", "lan_sees", *(make(Vouched()).rule.name for make in LAN))
PROBE_KINDS = ("dhcp", "arp", "llmnr", "nbns", "mdns", "exposure")
# What tasks of devices post on the board: what it makes able to, and in how many seconds it is stale
POSTED: dict[type[Any], tuple[str, float]] = {seen.RouterArp: ("router_arp", 300.0), seen.DeviceIdentity: ("devices", 900.0)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TaskConfig):
    """`device`: a network device, or "auto", the default route's. `versions`: the least software version, by "mikrotik". `protected`:
    networks where nothing new belongs, or [all]: a device that comes there is a warning, elsewhere a note. `router_ports`: what the gateway
    may offer to the office; `exposure`: how often it is looked at (agent/capture/exposure.py).
    """

    device: Text = "auto"
    active: bool = True
    dhcp_servers: list[IpAddress] = dataclasses.field(default_factory=list)
    routers: list[Mac] = dataclasses.field(default_factory=list)
    scanners: list[IpAddress] = dataclasses.field(default_factory=list)
    versions: dict[Text, Text] = dataclasses.field(default_factory=dict)
    protected: list[Networks] = dataclasses.field(default_factory=list)
    router_ports: list[int] = dataclasses.field(default_factory=list)
    exposure: Duration = 86400.0
    tripwires: list[int] = dataclasses.field(default_factory=list)
    suppress: list[SuppressConfig] = dataclasses.field(default_factory=list)
    socket: Text = SOCKET

    def problems(self) -> Iterable[tuple[str, str]]:
        yield from super().problems()
        if any(not 0 < port < 65536 for port in self.tripwires) or len(self.tripwires) > MAX_TRIPWIRES:
            yield "tripwires", f"are at most {MAX_TRIPWIRES} TCP ports"
        if unknown := sorted(set(self.router_ports) - {*PORTS, SNMP}):
            yield "router_ports", f"{unknown[0]} isn't looked at: {', '.join(map(str, (*PORTS, SNMP)))} are"
        if self.exposure < SELDOM:
            yield "exposure", "is an hour at the least: the router is looked at as a scan would"
        rules = set(EVENTS[2:])
        for n, entry in enumerate(self.suppress):
            if entry.rule not in rules:
                yield f"suppress[{n}].rule", f"{entry.rule!r} is no rule of lan: {', '.join(sorted(rules))}"

    def vouched(self) -> Vouched:
        return Vouched(
            dhcp_servers=frozenset(self.dhcp_servers),
            routers=frozenset(self.routers),
            scanners=frozenset(self.scanners),
            versions=dict(self.versions),
            protected=frozenset(self.protected),
            router_ports=frozenset(self.router_ports),
        )


class Place:
    """Where this box stands, by the kernel's tables."""

    def __init__(self, env: Env, device: str, kernel: link.Kernel) -> None:
        self._env, self._wanted, self._kernel = env, device, kernel
        self._tables = link.Tables(link.Config())
        self.network: seen.Network | None = None
        self.carrier = False

    async def look(self) -> bool:
        """Whether anything may have changed. Raises OSError, NetlinkError: could not look."""
        self._kernel.drain()
        self._kernel.neighbours.clear()  # they are read from proc: at a pace of ours, not the wire's
        self._kernel.stale.discard(netlink.GETNEIGH)
        if not self._kernel.stale:
            return False
        for get in sorted(self._kernel.stale):
            self._tables.take(get, await self._kernel.dump(get))
        view = self._tables.view(None)
        name = self._device(view)
        self.network = self._network(view, name) if name else None
        self.carrier = bool(name) and link.has_carrier(view.links[name])
        return True

    def _device(self, view: link.View) -> str:
        """The default route's device; where there is none now, the one before, or one that has an address. "": none."""
        if self._wanted != "auto":
            return self._wanted if self._wanted in view.links else ""
        routed = [gateway.device for gateway in view.gateways if gateway.address and gateway.device in view.links]
        last = [self.network.device] if self.network and self.network.device in view.links else []
        return next(iter([*routed, *last, *(name for name, some in view.addresses.items() if some and name in view.links)]), "")

    def _network(self, view: link.View, name: str) -> seen.Network:
        index = view.links[name].index
        mine = [a for a in self._tables.addresses if a.index == index]
        wires = {str(ipaddress.ip_network(f"{a.address}/{a.prefix}", strict=False)) for a in mine if a.scope == 0}
        gateways = dict.fromkeys(g.address for g in view.gateways if g.device == name and g.address)
        return seen.Network(
            device=name,
            mac=view.links[name].mac.lower(),
            addresses=tuple(sorted(str(ipaddress.ip_address(a.address)) for a in mine)),
            networks=tuple(sorted(wires)),
            gateways=tuple(gateways),
            resolvers=tuple(self._env.net.resolvers()),
            cards=tuple(
                sorted({view.links[d].mac.lower() for d, some in view.addresses.items() if some and d in view.links and d != name})
            ),
        )


class Counting:
    """Counters of the capture, looked at each turn, and the kernel's, read as often as there is something to count."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._before: Mapping[str, float] = {}  # of the capture, a turn ago
        self._before_at = self._at = self._due = float("-inf")
        self._last: Mapping[str, float] = {}
        self.rate = 0.0  # broadcasts a second

    def look(self, captured: Mapping[str, float], at: float) -> seen.Counters | None:
        rates = _rates(self._before, captured, at - self._before_at)
        self.rate = rates.get("broadcast", 0.0)
        self._before, self._before_at = captured, at
        if at < self._due and not _busy(rates):
            return None
        values = {**captured, **kernelview.counters(self._env.root)}
        since = _rates(self._last, values, at - self._at)
        busy = _busy(rates) or _busy(since)
        # Counting them is dear: only where something says that there are many, while there are, and at first
        many = busy or since.get("TCPSynRetrans", 0.0) >= AGAIN or self._last.get("half_open", FEW) >= FEW
        values["half_open"] = kernelview.half_open(self._env.root) if many else 0.0
        self._last, self._at = values, at
        self._due = at + (TURN / 2 if busy else TABLES - TURN / 2)
        return seen.Counters(values)


def _rates(before: Mapping[str, float], now: Mapping[str, float], seconds: float) -> dict[str, float]:
    return {name: max(0.0, now[name] - value) / seconds for name, value in before.items() if name in now} if seconds > 0 else {}


def _busy(rates: Mapping[str, float]) -> bool:
    return any(rates.get(name, 0.0) >= limit for name, limit in BUSY.items())


class LanWatcher:
    """The Watcher."""

    def __init__(self, config: Config, env: Env) -> None:
        self._config, self._env = config, env
        self._said_blind: bool | None = None  # None: neither that it sees nor that it doesn't

    async def watch(self) -> AsyncIterator[Sequence[Sample | Event]]:
        """Yields a picture each interval and at each word of a detector. Raises OSError, NetlinkError: could not look."""
        detectors = [make(self._config.vouched()) for make in LAN]
        kept = Cases(self._env, "lan", [d.rule for d in detectors], self._config.suppress)
        eyes = Eyes(self._config, self._env, Patrol(detectors, kept.book))
        await kept.begin(eyes.patrol)
        try:
            with link.Kernel(self._env.clock, self._config.timeout) as kernel:
                place, due, able = Place(self._env, self._config.device, kernel), 0.0, frozenset[str]()
                while True:
                    await eyes.turn(place)
                    events = [*await kept.turn(eyes.patrol), *self._of_sight(eyes)]
                    before, able = able, eyes.able()
                    if events or able != before or self._env.clock.monotonic() >= due:
                        due = self._env.clock.monotonic() + self._config.interval - TURN / 2
                        yield [*eyes.samples(), *kept.samples(), *events]
                    await self._env.clock.sleep(_until_next(self._env.clock.monotonic()))
        finally:
            try:
                await eyes.close()
            finally:  # also where tripwires have failed: what was learnt stays
                await kept.end(eyes.patrol)

    def _of_sight(self, eyes: "Eyes") -> Iterator[Event]:
        """Says once that nothing is captured, and once that it is again."""
        if eyes.sees and self._said_blind:
            yield Event("lan_sees", "info", "frames are captured: all detectors of the network see again", {"device": eyes.device})
        if not eyes.sees and not self._said_blind and eyes.blind_for >= BLIND_AFTER:
            self._said_blind = True
            fields = {"device": eyes.device, "problem": eyes.problem}
            yield Event("lan_blind", "warning", "no frames are captured: scans, false DHCP servers and routers would not be seen", fields)
        elif eyes.sees:
            self._said_blind = False


def _until_next(now: float) -> float:
    """Turns lie on whole seconds, as the scheduler's slots: tasks share wake-ups."""
    return max(0.05, math.floor(now) + TURN - now)


class Eyes:
    """All that a patrol is given: by the capture on one device, the kernel, probes and tripwires."""

    def __init__(self, config: Config, env: Env, patrol_: Patrol) -> None:
        self._config, self._env, self.patrol = config, env, patrol_
        self._counting = Counting(env)
        self._network: seen.Network | None = None
        self._carrier: bool | None = None
        self._neighbours_due = float("-inf")
        self._reader: Reader | None = None
        self._probes: Probes | None = None
        self._exposure: Exposure | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._before: dict[str, float] = {}  # what readers of earlier devices have counted
        self._seen_at = env.clock.monotonic()
        self._read: dict[tuple[type, str], float] = {}  # of when the rows of the board are that were told
        self._sent: dict[str, int] = dict.fromkeys(PROBE_KINDS, 0)  # by probes of earlier devices
        tripwires = Tripwires(config.tripwires, self._tell)  # those that systemd hands over among them
        self._tripwires = tripwires if tripwires.ports or tripwires.problems else None
        self._trips = asyncio.ensure_future(self._tripwires.run()) if self._tripwires else None

    # -- a turn --------------------------------------------------------------------------------------------------------------

    async def turn(self, place: Place) -> None:
        """Looks at what is to be looked at now. Raises what ended a task of ours."""
        if await place.look():
            await self._stand(place)
        for task in [*self._tasks, *([self._trips] if self._trips else [])]:
            if task.done():
                task.result()
                raise RuntimeError("a task of the capture ended")
        at = self._env.clock.monotonic()
        if self.sees:
            self._seen_at = at
        if self._network and at >= self._neighbours_due:
            self._neighbours_due = at + TABLES - TURN / 2
            self._tell(seen.Neighbours(kernelview.neighbours(self._env.root, self._network.device)))
        if counters := self._counting.look(self._captured(), at):
            self._tell(counters)
        self._read_board()
        self.patrol.tick(at, self._env.clock.now())
        while self.patrol.asks:
            wish = self.patrol.asks.popleft()
            if self._probes:
                self._probes.ask(wish)

    def _read_board(self) -> None:
        """Tells what devices have said since the last turn."""
        for kind in POSTED:
            for task, (at, what) in self._env.board.of(kind).items():
                if self._read.get((kind, task)) != at:
                    self._read[kind, task] = at
                    self._tell(what)

    async def _stand(self, place: Place) -> None:
        """Takes up where the box stands now."""
        if place.network != self._network:
            if (place.network and place.network.device) != (self._network and self._network.device):
                await self._leave()
                self._network = place.network
                self._arrive()
            self._network = place.network
            if self._network:
                self._tell(self._network)
                if self._probes and self._exposure:
                    self._probes.here(self._network)
                    self._exposure.here(self._network)
        if place.carrier != self._carrier and self._network:
            self._carrier = place.carrier
            self._tell(seen.Carrier(place.carrier))

    def _arrive(self) -> None:
        if not self._network:
            return
        path = self._env.root / self._config.socket.lstrip("/")
        self._reader = Reader(path, self._network.device, self._frame, self._env.clock, self._env.root)
        self._probes = Probes(self._reader, self._env.clock, self._env.root, self._tell, self._config.active)
        self._exposure = Exposure(self._env.clock, self._allowed, self._tell, exposure.Pace(every=self._config.exposure))
        for probes in (self._probes, self._exposure):
            probes.here(self._network)
        looked = next((d.age for d in self.patrol.detectors.values() if isinstance(d, RouterExposed)), None)
        self._tasks = [asyncio.ensure_future(work) for work in (self._reader.run(), self._probes.run(), self._exposure.run(looked))]

    def _allowed(self) -> bool:
        return bool(self._probes and self._probes.allowed)

    async def _leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._before, self._sent = self._captured(), self._probed()
        self._reader, self._probes, self._exposure, self._tasks = None, None, None, []

    async def close(self) -> None:
        await self._leave()
        if self._trips:
            self._trips.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._trips

    # -- what comes ------------------------------------------------------------------------------------------------------------

    def _frame(self, raw: bytes, direction: Literal["in", "out"], which: EYES) -> None:  # noqa: ARG002  (the reader's)
        for observation in reading.read(raw, direction):
            self._tell(observation)
            if self._probes:
                self._probes.heard(observation)

    def _tell(self, observation: seen.Observation) -> None:
        self.patrol.see(observation, self._env.clock.monotonic(), self._env.clock.now())

    # -- what it is able to ----------------------------------------------------------------------------------------------------

    @property
    def sees(self) -> bool:
        return bool(self._reader and self._reader.alive)

    @property
    def blind_for(self) -> float:
        return self._env.clock.monotonic() - self._seen_at

    @property
    def device(self) -> str:
        return self._network.device if self._network else ""

    @property
    def problem(self) -> str:
        return self._reader.problem if self._reader else "this box has no network device in use"

    def able(self) -> frozenset[str]:
        """As detectors know it (their `coverage`)."""
        found = {"neighbours", "counters"} if self._network else set()
        allowed = self._allowed()
        found |= {"capture"} if self.sees else set()
        found |= {"send"} if self.sees and allowed else set()
        found |= {"canary", "exposure"} if allowed else set()
        found |= {"tripwires"} if self._tripwires and self._tripwires.ports else set()
        now = self._env.clock.monotonic()
        found |= {able for kind, (able, age) in POSTED.items() if any(now - at <= age for at, _ in self._env.board.of(kind).values())}
        return frozenset(found)

    def _captured(self) -> dict[str, float]:
        now = self._reader.counters() if self._reader else {}
        return {name: now.get(name, 0.0) + self._before.get(name, 0.0) for name in now.keys() | self._before.keys()}

    def _probed(self) -> dict[str, int]:
        now = (self._probes.sent if self._probes else Counter[str]()) + (self._exposure.sent if self._exposure else Counter[str]())
        return {kind: self._sent[kind] + now[kind] for kind in PROBE_KINDS}

    def samples(self) -> Iterator[Sample]:
        yield from self.patrol.samples(self.able())
        yield CAPTURE(float(self.sees))
        yield RATE(round(self._counting.rate, 1))
        captured = self._captured()
        for name in ("lan", "contacts", "broadcast"):
            yield FRAMES(captured.get(name, 0.0), name)
        for name in ("lan", "contacts"):
            yield LOST(captured.get(f"{name}_lost", 0.0), name)
        for kind, sent in self._probed().items():
            yield PROBES(sent, kind)
        for detector in self.patrol.detectors.values():
            if isinstance(detector, NewDevice):
                for name, n in detector.counts.items():
                    yield DEVICES(n, name)
            elif isinstance(detector, RogueDhcp):
                yield SERVERS(detector.servers)
            elif isinstance(detector, ArpPoisoning):
                yield MOVES(detector.moves)
            elif isinstance(detector, RouterExposed):
                for port, open_ in detector.open.items():
                    yield OPEN(float(open_), str(port))


def glance(samples: Sequence[Sample]) -> str:
    """`12 perangkat, paket terlihat, tidak ada temuan`."""
    devices = sum(s.value for s in samples if s.metric is DEVICES and s.labels[0] != "quiet")
    sees = any(s.value for s in samples if s.metric is CAPTURE)
    active = sum(s.value for s in samples if s.metric is casebook.ACTIVE)
    found = f"{active:.0f} temuan" if active else "tidak ada temuan"
    return f"{devices:.0f} perangkat, {'paket terlihat' if sees else 'paket tidak terlihat'}, {found}"


def build(config: Config, env: Env) -> Watcher:
    return LanWatcher(config, env)


KIND = Kind(name="lan", config=Config, metrics=METRICS, build=build, events=EVENTS, glance=glance, concerns=concerns)
