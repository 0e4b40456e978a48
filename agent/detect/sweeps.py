"""Somebody asks for one address after the other, most of which nobody has: he looks who is there (arp_sweep, L10).

Law: 25 addresses in 30 seconds by one MAC, of which 60 % were never seen alive. Never told: a gateway that looks for whom somebody outside
knocks, this box, the scanners that the operator vouches for, announcements. Probes with sender 0.0.0.0 (RFC 5227) are how Ronda looks, a
few at a time: only a hundred of them are a sweep. "Medium"; confirmed when as many addresses again were asked for in the same way, or our
own probes too find nobody where it seemed dark. "High" when the same source then knocks at doors of this box that nobody has.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from agent.detect.ground import Ground, host_address, host_mac, of_ronda, short
from agent.detect.model import Ask, Coverage, Finding, Grade, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import Arp, ArpProbe, Contact, Dhcp, Frame, Neighbours, Network, Packet, Tripwire
from agent.detect.telling import Telling

TARGETS, WITHIN, DARK = 25, 30.0, 0.6
EARLY = 10  # addresses, from which on we look for ourselves
PROBES = 100  # targets of one that asks with sender 0.0.0.0
KNOCK = 600.0  # how long after a sweep its source is remembered
DOORS = 3  # ports asked for that make a knock without an answer
LOOKS, ASK = 2, 300.0  # dark addresses that we look at ourselves, and how soon again for one source
KEPT, SOURCES, LIVE, SWEEPERS = 128, 512, 4096, 64


@dataclasses.dataclass(slots=True)
class _Row:
    """What one MAC asks for: address → when last, oldest first."""

    targets: dict[str, float] = dataclasses.field(default_factory=dict)
    sender: str = ""
    frames: list[Frame] = dataclasses.field(default_factory=list)

    def ask(self, target: str, at: float) -> None:
        self.targets.pop(target, None)
        self.targets[target] = at
        while len(self.targets) > KEPT or at - next(iter(self.targets.values())) > WITHIN:
            del self.targets[next(iter(self.targets))]


@dataclasses.dataclass(slots=True)
class _Sweeper:
    """One that has swept, `at` last; before it has, we only look. looked: dark addresses that we have asked for; dark: of them, those where
    nobody answered.
    """

    mac: str
    at: float = float("-inf")
    targets: int = 0
    ratio: float = 0.0
    seconds: float = 0.0
    sender: str = ""
    asked: float = float("-inf")
    looked: set[str] = dataclasses.field(default_factory=set)
    dark: int = 0
    alive: int = 0
    again: bool = False
    doors: set[int] = dataclasses.field(default_factory=set)
    knocked: bool = False
    frames: tuple[Frame, ...] = ()


class ArpSweep(Plain):
    rule: ClassVar[Rule] = Rule("arp_sweep", "L10", "1", "network", ("T1018",), quiet=3600.0)
    wants: ClassVar[tuple[type, ...]] = (Network, Neighbours, Arp, ArpProbe, Packet, Contact, Dhcp, Tripwire)

    def __init__(self, vouched: Vouched) -> None:
        self._vouched = vouched
        self._ground = Ground()
        self._rows: Table[str, _Row] = Table(SOURCES)
        self._live: Table[str, bool] = Table(LIVE)
        self._sweepers: Table[str, _Sweeper] = Table(SWEEPERS)
        self._telling = Telling()

    def see(self, seen: Any, at: float) -> Iterable[Said]:
        if self._ground.hear(seen):
            self._alive(*self._ground.bindings)
        elif isinstance(seen, Arp):
            return self._arp(seen, at)
        elif isinstance(seen, ArpProbe):
            return self._looked(seen, at)
        elif isinstance(seen, Tripwire):
            return self._knock(seen.source, seen.port, at, answered=True)
        elif isinstance(seen, Contact):
            self._alive(seen.source if seen.step == "asked" else seen.target)
            if seen.target in self._ground.addresses and seen.step != "open":
                return self._knock(seen.source, seen.port, at, answered=seen.step == "closed")
        elif isinstance(seen, Packet):
            self._alive(seen.source)
        elif isinstance(seen, Dhcp) and seen.type == "request":
            self._alive(seen.requested)
        return ()

    def _alive(self, *texts: str) -> None:
        for text in texts:
            if host_address(text) and (text in self._live or not self._ground.afar(text)):
                self._live.put(text, True)

    def _arp(self, seen: Arp, at: float) -> Iterator[Said]:
        mac, sender = host_mac(seen.frame.source), host_address(seen.sender)
        target = host_address(seen.target)
        if sender and host_mac(seen.sender_mac):
            self._alive(sender)
        if seen.op != 1 or not mac or not target or target == sender or self._may(mac, seen.sender):
            return
        key = mac if sender else f"{mac} probes"
        row = self._rows.get(key) or self._rows.put(key, _Row())
        row.ask(target, at)
        if host_mac(seen.sender_mac) == mac and not self._ground.forged(sender, mac):  # else it is somebody else's address
            row.sender = sender or row.sender
        if len(row.frames) < 4:
            row.frames.append(short(seen.frame))
        if len(row.targets) >= (EARLY if sender else PROBES):
            yield from self._judge(mac, row, at, swept=len(row.targets) >= (TARGETS if sender else PROBES))

    def _may(self, mac: str, sender: str) -> bool:
        """A gateway is known by its MAC where the kernel knows it, else by its address."""
        if mac in self._ground.macs or of_ronda(mac) or sender in self._vouched.scanners:
            return True
        if mac in self._vouched.routers or mac in self._ground.routers:
            return True
        return sender in self._ground.gateways and not self._ground.routers

    def _judge(self, mac: str, row: _Row, at: float, *, swept: bool) -> Iterator[Said]:
        dark = [target for target in row.targets if target not in self._live]
        ratio = len(dark) / len(row.targets)
        if ratio < DARK:
            return
        sweeper = self._sweepers.get(mac) or self._sweepers.put(mac, _Sweeper(mac))
        sweeper.at = at if swept else sweeper.at
        sweeper.targets, sweeper.ratio = max(sweeper.targets, len(row.targets)), ratio
        sweeper.seconds = at - next(iter(row.targets.values()))
        sweeper.sender, sweeper.frames = row.sender or sweeper.sender, tuple(row.frames)
        sweeper.again = sweeper.again or len(row.targets) >= 2 * (TARGETS if row.sender else PROBES // 2)
        if at - sweeper.asked >= ASK:
            sweeper.asked, sweeper.dark, sweeper.alive = at, 0, 0
            sweeper.looked = {dark[0], dark[-1], dark[len(dark) // 2]} if len(dark) > LOOKS else set(dark)
            yield from (Ask("arp", target) for target in sorted(sweeper.looked) if "." in target)
        if swept:
            yield from self._tell(sweeper, at)

    def _looked(self, seen: ArpProbe, at: float) -> Iterator[Said]:
        """Our own look at an address that seemed dark."""
        if seen.macs:
            self._alive(seen.target)
        for sweeper in self._sweepers.values():
            if seen.target in sweeper.looked:
                sweeper.looked.discard(seen.target)
                sweeper.alive += bool(seen.macs)
                sweeper.dark += not seen.macs
                if not seen.macs and sweeper.dark >= LOOKS and at - sweeper.at <= KNOCK:
                    yield from self._tell(sweeper, at)

    def _knock(self, source: str, port: int, at: float, *, answered: bool) -> Iterator[Said]:
        """At a tripwire, at a closed port, or at several that say nothing."""
        if source in self._vouched.scanners:
            return
        for sweeper in self._sweepers.values():
            if sweeper.sender and sweeper.sender == source and at - sweeper.at <= KNOCK:
                if len(sweeper.doors) < DOORS:
                    sweeper.doors.add(port)
                sweeper.knocked = sweeper.knocked or answered or len(sweeper.doors) >= DOORS
                if sweeper.knocked:
                    yield from self._tell(sweeper, at)

    def _tell(self, sweeper: _Sweeper, at: float) -> Iterator[Said]:
        grade: Grade = "high" if sweeper.knocked else "medium"
        sure = sweeper.knocked or (sweeper.again and not sweeper.alive) or sweeper.dark > sweeper.alive
        message = "a device looks for who is on the network, at one address after the other"
        fields = {
            "source.mac": sweeper.mac,
            "ronda.targets": str(sweeper.targets),
            "ronda.dark_ratio": f"{sweeper.ratio:.2f}",
            "ronda.seconds": f"{sweeper.seconds:.1f}",
        } | ({"source.ip": sweeper.sender} if sweeper.sender else {})
        finding = Finding(
            self.rule.name, sweeper.mac, grade, "certain" if sure else "likely",
            f"{message}, and then knocks at doors of this box" if sweeper.knocked else message, confirmed=sure, fields=fields,
            source=sweeper.mac, frames=sweeper.frames,
        )  # fmt: skip
        yield from self._telling.say(finding, at)

    def coverage(self, able: frozenset[str]) -> Coverage:
        return super().coverage(able) if "send" in able or "capture" not in able else Coverage(0.5, "no_probe")
