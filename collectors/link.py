"""link: the box's own network devices, addresses, default routes and gateways, told by the kernel at the moment they change.

    collectors:
      link: [{devices: ["eth*", "wlan*"], ignore: ["docker*"], interval: 15s}]

Needs nothing: no privilege, no program. Works the same for eth0, a USB modem and a VLAN. Watched are all devices that match `devices`
and not `ignore`; the ends of virtual wires that hang in a bridge (containers) are left out. At most MAX_DEVICES; what is over is counted.

A tunnel (VPN) is watched too, but has no ronda_link_carrier: its own stays while the cable is out. Addresses and MACs are in events only.

Law: an event of rtnetlink says only *what to look at again*; a dump is the truth. So a lost event costs nothing, and a storm of them one
picture. Each picture begins with a dump of the devices, so its counters are of now. A picture comes 0.1 s after a change (2 s after it
while changes don't end), and every `interval` for the counters. Neighbours are the exception: their events are applied as they come.
"""

import asyncio
import dataclasses
import errno
import re
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from fnmatch import translate
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from agent.clock import Clock
from agent.collector import Env, Kind, TaskConfig, Watcher
from agent.model import Event, Metric, Sample
from agent.structure import Text
from agent.wire import netlink
from agent.wire.netlink import Address, Hop, Link, Neighbour, Route

MAX_DEVICES = 64
PAUSE, LONG_PAUSE = 0.1, 2.0  # seconds from a change to its picture; the long one once ...
STORM = 8  # ... this many pictures in a row had their change within the long pause: a storm, not a plug put in
MAX_EVENTS = 500  # datagrams read in one go
TOLD_BY_TYPE = frozenset({netlink.NEWLINK, netlink.DELLINK, netlink.NEWADDR, netlink.DELADDR})  # events whose bodies say no more
TRIES = 5  # dumps that the kernel calls inconsistent, in a row
FAMILIES: dict[int, str] = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}
USABLE = {"reachable": True, "stale": True, "delay": True, "probe": True, "permanent": True, "noarp": True, "failed": False}
TUNNELS = frozenset(  # kinds whose carrier says nothing of a cable: it stays while the cable is out
    ["tun", "wireguard", "gre", "gretap", "ip6gre", "ipip", "sit", "ip6tnl", "vti", "vti6", "xfrm", "vxlan", "geneve", "dummy", "ifb"]
)
NOISE = ("lo", "docker*", "virbr*", "br-*", "cni*", "cali*", "flannel*", "lxcbr*", "ifb*", "dummy*", "sit0", "ip6tnl0", "tunl0")

_D = ("device",)
UP = Metric("ronda_link_up", "Whether the device is switched on by the administrator.", labels=_D)
CARRIER = Metric(
    "ronda_link_carrier", "Whether the device is on and has a carrier (cable, association); absent for tunnels, which have none.", labels=_D
)
LOST = Metric("ronda_link_carrier_lost", "Whether the device has no carrier now, but had one since the agent watches it.", labels=_D)
CHANGES = Metric("ronda_link_carrier_changes_total", "How often the carrier came or went, as the kernel counts.", "counter", _D)
SPEED = Metric("ronda_link_speed_bytes_per_second", "Speed that the device negotiated, in one direction; absent where unknown.", labels=_D)
MTU = Metric("ronda_link_mtu_bytes", "Largest packet that the device takes.", labels=_D)
COUNTERS = tuple(  # in the order of netlink.Stats
    Metric(f"ronda_link_{way}_{what}_total", f"{text} that the device {'received' if way == 'receive' else 'sent'}.", "counter", _D)
    for what, text in (
        ("packets", "Packets"),
        ("bytes", "Bytes"),
        ("errors", "Packets lost to errors of those"),
        ("dropped", "Packets dropped for want of room or of a taker of those"),
    )
    for way in ("receive", "transmit")
)
ADDRESSES = Metric("ronda_link_addresses", "Addresses on the device, link-local ones not counted.", labels=("device", "family"))
ROUTES = Metric("ronda_link_default_routes", "Default routes over watched devices.", labels=("family",))
ROUTE_CHANGES = Metric("ronda_link_default_route_changes_total", "How often the default routes changed.", "counter", ("family",))
GATEWAY = Metric(
    "ronda_link_gateway_reachable",
    "Whether the device's default gateway answers ARP or neighbour discovery; keeps its value while the kernel has no opinion.",
    labels=("device", "family"),
)
IGNORED = Metric("ronda_link_devices_over_limit", "Devices that match but are not watched, because there are too many.")
METRICS = (UP, CARRIER, LOST, CHANGES, SPEED, MTU, *COUNTERS, ADDRESSES, ROUTES, ROUTE_CHANGES, GATEWAY, IGNORED)
EVENTS = (
    "link_down", "link_up", "link_appeared", "link_vanished", "gateway_changed", "gateway_neighbour_failed", "gateway_neighbour_back",
    "address_added", "address_removed",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TaskConfig):
    """`devices` and `ignore` are names with * and ?; `timeout` is how long the kernel may take for an answer."""

    devices: list[Text] = dataclasses.field(default_factory=lambda: ["*"])
    ignore: list[Text] = dataclasses.field(default_factory=lambda: list(NOISE))


class Gateway(NamedTuple):
    """A default route's way out; `address` is empty where the device itself is the way."""

    family: int
    metric: int
    address: str
    device: str

    def __str__(self) -> str:
        return " ".join(filter(None, (f"via {self.address}" if self.address else "", f"dev {self.device}")))


class View(NamedTuple):
    """What a person would see of the network now, counters left out. Two views are compared for events."""

    links: dict[str, Link]
    addresses: dict[str, frozenset[str]]  # device → "192.0.2.10/24"
    gateways: tuple[Gateway, ...]  # the first of a family is the one in use
    reachable: dict[tuple[str, int], bool]  # (device, family) → its gateway answers
    over: int


class Kernel:
    """The conversation with rtnetlink over one socket: dumps on request, and notes of what has changed meanwhile."""

    def __init__(self, clock: Clock, timeout: float) -> None:
        self._clock, self._timeout, self._sequence = clock, timeout, 0
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        try:
            self._sock.setblocking(False)
            self._sock.bind((0, netlink.GROUPS))
            self._port: int = self._sock.getsockname()[0]
        except OSError:
            self._sock.close()
            raise
        self.stale = {netlink.GETLINK, netlink.GETADDR, netlink.GETROUTE, netlink.GETNEIGH}  # what must be dumped again
        self.neighbours: list[tuple[bool, Neighbour]] = []  # (is there, which), in the order of events

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._sock.close()

    async def wait(self, until: float) -> bool:
        """True: there is something to read. False: it is `until` (monotonic)."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def finish(readable: bool) -> None:
            if not done.done():
                done.set_result(readable)

        asyncio.get_running_loop().add_reader(self._sock, finish, True)
        timer = self._clock.call_at(until, lambda: finish(False))
        try:
            return await done
        finally:
            timer.cancel()
            asyncio.get_running_loop().remove_reader(self._sock)

    async def dump(self, get: int) -> list[netlink.Body]:
        """All of one sort. Raises TimeoutError, OSError, NetlinkError: could not look."""
        for _ in range(TRIES):
            self.stale.discard(get)  # before: what changes during the dump makes it stale again
            if (found := await self._dump_once(get)) is not None:
                return found
        raise OSError(errno.EAGAIN, "the kernel's tables change too fast to be read")

    async def _dump_once(self, get: int) -> list[netlink.Body] | None:
        """None: the dump was interrupted by a change, or events were lost in it."""
        self._sequence += 1
        self._sock.send(netlink.dump_request(get, self._sequence))
        found: list[netlink.Body] = []
        whole, until = True, self._clock.monotonic() + self._timeout
        while True:
            data = self._receive()
            if data is None:
                if not await self.wait(until):
                    raise TimeoutError(f"the kernel did not answer within {self._timeout:g} s")
                continue
            whole = whole and bool(data)
            for message in netlink.decode(data):
                if (message.sequence, message.port) != (self._sequence, self._port):
                    self._note(message)
                    continue
                whole = whole and not message.interrupted
                if not isinstance(message.body, netlink.Answer):
                    found.append(message.body)
                elif message.body.error:
                    raise OSError(message.body.error, "rtnetlink dump")
                else:
                    return found if whole else None

    def drain(self) -> None:
        """Reads the events that have come. Bounded: in a storm the loop has other work, and what is stale is known by then."""
        for _ in range(MAX_EVENTS):
            if (data := self._receive()) is None:
                return
            for message in netlink.decode(data, TOLD_BY_TYPE):
                self._note(message)

    def _receive(self) -> bytes | None:
        """A datagram; empty: events were lost, everything is stale; None: nothing to read."""
        try:
            data, sender = self._sock.recvfrom(1 << 16)
        except BlockingIOError:
            return None
        except OSError as e:
            if e.errno != errno.ENOBUFS:
                raise
            self.stale |= {netlink.GETLINK, netlink.GETADDR, netlink.GETROUTE, netlink.GETNEIGH}
            return b""
        return data if sender[0] == 0 else b""  # port 0 is the kernel; nobody else has a say

    def _note(self, message: netlink.Message) -> None:
        match message.type, message.body:
            case ((netlink.NEWLINK | netlink.DELLINK), _):
                self.stale.add(netlink.GETLINK)
            case ((netlink.NEWADDR | netlink.DELADDR), _):
                self.stale.add(netlink.GETADDR)
            case _, Route(prefix=0):
                self.stale.add(netlink.GETROUTE)
            case _, Neighbour() as neighbour:
                self.neighbours.append((message.type == netlink.NEWNEIGH, neighbour))


class Tables:
    """What the kernel's tables hold, and the view that follows from them."""

    def __init__(self, config: Config) -> None:
        self._devices, self._ignore = _pattern(config.devices), _pattern(config.ignore)
        self.links: list[Link] = []
        self.addresses: list[Address] = []
        self.routes: list[Route] = []
        self.neighbours: dict[tuple[int, str], str] = {}  # (device, address) → state

    def take(self, get: int, found: Sequence[netlink.Body]) -> None:
        """Takes the outcome of a dump."""
        if get == netlink.GETLINK:
            self.links = [x for x in found if isinstance(x, Link)]
        elif get == netlink.GETADDR:
            self.addresses = [x for x in found if isinstance(x, Address)]
        elif get == netlink.GETROUTE:
            self.routes = [x for x in found if isinstance(x, Route) and _is_default(x)]
        else:
            self.neighbours = {(x.index, x.address): x.state for x in found if isinstance(x, Neighbour)}

    def hear(self, there: bool, neighbour: Neighbour) -> None:
        """Takes a neighbour's event."""
        key = neighbour.index, neighbour.address
        if there:
            self.neighbours[key] = neighbour.state
        else:
            self.neighbours.pop(key, None)

    def _wants(self, link: Link) -> bool:
        if link.kind == "veth" and link.master:
            return False
        return bool(self._devices.match(link.name)) and not self._ignore.match(link.name)

    def view(self, before: View | None) -> View:
        """The view now; a gateway of which the kernel has no opinion keeps that of `before`."""
        wanted = [x for x in sorted(self.links, key=lambda x: x.index) if self._wants(x)]
        names = {x.index: x.name for x in wanted[:MAX_DEVICES]}
        gateways = tuple(sorted(self._gateways(names)))
        addresses: dict[str, set[str]] = {name: set() for name in names.values()}
        for a in self.addresses:
            if a.index in names and a.scope == 0 and a.family in FAMILIES:
                addresses[names[a.index]].add(f"{a.address}/{a.prefix}")
        return View(
            links={x.name: x for x in wanted[:MAX_DEVICES]},
            addresses={name: frozenset(found) for name, found in addresses.items()},
            gateways=gateways,
            reachable=dict(self._reachable(gateways, {name: i for i, name in names.items()}, before)),
            over=max(0, len(wanted) - MAX_DEVICES),
        )

    def _gateways(self, names: dict[int, str]) -> Iterator[Gateway]:
        for route in self.routes:
            for hop in route.hops:
                if isinstance(hop, Hop) and hop.device in names:
                    yield Gateway(route.family, route.metric, hop.gateway, names[hop.device])

    def _reachable(
        self, gateways: Iterable[Gateway], indexes: dict[str, int], before: View | None
    ) -> Iterator[tuple[tuple[str, int], bool]]:
        seen = set()
        for g in gateways:
            key = g.device, g.family
            if not g.address or key in seen:
                continue  # a modem has no neighbour; of two gateways on a device the preferred one counts
            seen.add(key)
            usable = USABLE.get(self.neighbours.get((indexes[g.device], g.address), ""))
            if usable is None and before and g in before.gateways:
                usable = before.reachable.get(key)
            if usable is not None:
                yield key, usable


class LinkWatcher:
    """The Watcher. What it has seen outlives a restart of `watch`, so changes in the gap are told."""

    def __init__(self, config: Config, env: Env) -> None:
        self._config, self._env = config, env
        self._view: View | None = None
        self._had_carrier: set[str] = set()
        self._route_changes = dict.fromkeys(FAMILIES, 0)
        self._speeds: dict[str, tuple[object, float | None]] = {}

    async def watch(self) -> AsyncIterator[Sequence[Sample | Event]]:
        """Yields a picture at once, then after each change and each interval. Raises OSError or NetlinkError: could not look."""
        clock, tables, in_a_row = self._env.clock, Tables(self._config), 0
        with Kernel(clock, self._config.timeout) as kernel:
            while True:
                await _refresh(kernel, tables)
                yield self._picture(tables)
                began = clock.monotonic()
                due = began + self._config.interval
                if not await self._changed(kernel, tables, due):
                    in_a_row = 0
                else:
                    in_a_row = in_a_row + 1 if clock.monotonic() < began + LONG_PAUSE else 0
                    pause = LONG_PAUSE if in_a_row > STORM else PAUSE
                    await clock.sleep(min(pause, max(0.0, due - clock.monotonic())))

    async def _changed(self, kernel: Kernel, tables: Tables, due: float) -> bool:
        """Waits for an event that can change the view (True) or for the time of the next picture (False)."""
        while True:
            kernel.drain()
            _hear(kernel, tables)
            if kernel.stale or (self._view and tables.view(self._view).reachable != self._view.reachable):
                return True
            if not await kernel.wait(due):
                return False

    def _picture(self, tables: Tables) -> list[Sample | Event]:
        before, view = self._view, tables.view(self._view)
        events = list(changes(before, view)) if before else []
        for family in FAMILIES:
            self._route_changes[family] += before is not None and _of(before, family) != _of(view, family)
        self._had_carrier = {name for name, x in view.links.items() if has_carrier(x) or name in self._had_carrier}
        self._view = view
        return [*self._samples(view), *events]

    def _samples(self, view: View) -> Iterator[Sample]:
        self._speeds = {name: self._speed(link) for name, link in view.links.items()}
        for name, link in view.links.items():
            yield from device_samples(link, lost=name in self._had_carrier and not has_carrier(link), speed=self._speeds[name][1])
            for family, text in FAMILIES.items():
                colon = family == socket.AF_INET6
                yield ADDRESSES(sum((":" in a) == colon for a in view.addresses[name]), name, text)
        for family, text in FAMILIES.items():
            yield ROUTES(len(_of(view, family)), text)
            yield ROUTE_CHANGES(self._route_changes[family], text)
        for (device, family), reachable in view.reachable.items():
            yield GATEWAY(float(reachable), device, FAMILIES[family])
        yield IGNORED(view.over)

    def _speed(self, link: Link) -> tuple[object, float | None]:
        """(what it depends on, speed). Asked of the driver only when the carrier changed: some take milliseconds to answer."""
        now = link.index, link.up, link.carrier, link.carrier_changes
        known = self._speeds.get(link.name)
        if known and known[0] == now:
            return known
        return now, read_speed(self._env.root, link.name) if has_carrier(link) else None


async def _refresh(kernel: Kernel, tables: Tables) -> None:
    """Dumps the devices, for their counters, and what else is stale. Bounded: what changes meanwhile is for the next picture."""
    kernel.drain()
    for get in sorted(kernel.stale | {netlink.GETLINK}):
        if get == netlink.GETNEIGH:
            kernel.neighbours.clear()  # the dump is newer
        tables.take(get, await kernel.dump(get))
    _hear(kernel, tables)


def _hear(kernel: Kernel, tables: Tables) -> None:
    for there, neighbour in kernel.neighbours:
        tables.hear(there, neighbour)
    kernel.neighbours.clear()


def has_carrier(link: Link) -> bool:
    """A device that is switched off has none, whatever its driver says."""
    return link.up and (link.carrier if link.carrier is not None else link.operstate in ("up", "unknown"))


def device_samples(link: Link, *, lost: bool, speed: float | None) -> Iterator[Sample]:
    """A device's numbers; `speed` in bytes a second."""
    yield UP(float(link.up), link.name)
    if link.kind not in TUNNELS:
        yield CARRIER(float(has_carrier(link)), link.name)
        yield LOST(float(lost), link.name)
    if link.carrier_changes is not None:
        yield CHANGES(link.carrier_changes, link.name)
    if speed is not None:
        yield SPEED(speed, link.name)
    if link.mtu is not None:
        yield MTU(link.mtu, link.name)
    for metric, value in zip(COUNTERS, link.stats or (), strict=False):
        yield metric(value, link.name)


def read_speed(root: Path, device: str) -> float | None:
    """Bytes a second as sys/class/net/DEVICE/speed says in Mbit/s; None where the driver does not know (-1, or an error)."""
    try:
        megabits = int((root / "sys/class/net" / device / "speed").read_text())
    except (OSError, ValueError):  # WiFi and modems have no such number: an ordinary answer
        return None
    return megabits * 125_000.0 if 0 < megabits < 10_000_000 else None


def changes(before: View, after: View) -> Iterator[Event]:
    """The events that lie between two views."""
    for name in before.links.keys() - after.links.keys():
        yield Event("link_vanished", "warning", f"device {name} has vanished", _evidence(before, name))
    for name in after.links.keys() - before.links.keys():
        yield Event("link_appeared", "info", f"device {name} has appeared", _evidence(after, name))
    for name in sorted(after.links.keys() & before.links.keys()):
        yield from _device_changes(name, before, after)
    for family, text in FAMILIES.items():
        was, now = _of(before, family), _of(after, family)
        if was != now:
            texts = [", ".join(map(str, found)) or "none" for found in (was, now)]
            message = f"{text} default gateway: {texts[0]} → {texts[1]}"
            fields = {"family": text, "before": texts[0], "after": texts[1]}
            yield Event("gateway_changed", "info" if now else "warning", message, fields)
    yield from _gateway_changes(before, after)


def _device_changes(name: str, before: View, after: View) -> Iterator[Event]:
    had, has = has_carrier(before.links[name]), has_carrier(after.links[name])
    if had and not has:
        why = "has lost its carrier" if after.links[name].up else "was switched off"
        yield Event("link_down", "warning", f"device {name} {why}", _evidence(before, name) | {"operstate": after.links[name].operstate})
    if has and not had:
        yield Event("link_up", "info", f"device {name} has a carrier", _evidence(after, name))
    for address in sorted(after.addresses[name] - before.addresses[name]):
        yield Event("address_added", "info", f"device {name} has got {address}", {"device": name, "address": address})
    for address in sorted(before.addresses[name] - after.addresses[name]):
        yield Event("address_removed", "info", f"device {name} has lost {address}", {"device": name, "address": address})


def _gateway_changes(before: View, after: View) -> Iterator[Event]:
    for key, reachable in after.reachable.items():
        device, family = key
        if before.reachable.get(key, True) == reachable:
            continue
        gateway = next(g.address for g in after.gateways if (g.device, g.family) == key and g.address)
        fields = {"device": device, "family": FAMILIES[family], "gateway": gateway}
        if reachable:
            yield Event("gateway_neighbour_back", "info", f"gateway {gateway} on {device} answers again", fields)
        else:
            yield Event("gateway_neighbour_failed", "warning", f"gateway {gateway} on {device} does not answer ARP or ND", fields)


def _evidence(view: View, name: str) -> dict[str, str]:
    link = view.links[name]
    found = {"device": name, "mac": link.mac, "addresses": " ".join(sorted(view.addresses[name])), "kind": link.kind}
    if link.carrier_changes is not None:
        found["carrier_changes"] = str(link.carrier_changes)
    return {k: v for k, v in found.items() if v}


def _of(view: View, family: int) -> tuple[Gateway, ...]:
    return tuple(g for g in view.gateways if g.family == family)


def _is_default(route: Route) -> bool:
    """Only what ordinary traffic takes: an `unreachable default` and the tables of policy routing are none."""
    return not route.prefix and route.table == netlink.TABLE_MAIN and route.type == netlink.RTN_UNICAST and route.family in FAMILIES


def _pattern(globs: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, globs)) or "(?!)")  # "(?!)" matches nothing, as no pattern should


def glance(samples: Sequence[Sample]) -> str:
    """`eth0 tersambung, gerbang ada`: the devices with a carrier, or that none has, and the way out."""
    connected = [s.labels[0] for s in samples if s.metric is CARRIER and s.value]
    lost = [s.labels[0] for s in samples if s.metric is LOST and s.value]
    answers = [s.value for s in samples if s.metric is GATEWAY]
    routes = sum(s.value for s in samples if s.metric is ROUTES)
    parts = [f"{_listed(connected)} tersambung"] if connected else []
    parts += [f"{_listed(lost)} terlepas"] if lost else []
    way = "gerbang tidak ada" if not routes else "gerbang tidak menjawab" if answers and not any(answers) else "gerbang ada"
    return ", ".join([*(parts or ["tidak ada yang tersambung"]), way])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" +{len(names) - 3}" if len(names) > 3 else "")


def build(config: Config, env: Env) -> Watcher:
    return LinkWatcher(config, env)


KIND = Kind(name="link", config=Config, metrics=METRICS, build=build, events=EVENTS, glance=glance)
