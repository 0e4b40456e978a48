"""The way out of the office has another MAC than it had (gateway_mac, L01). Somebody may have put himself between.

Law: who has been there longest is never accused: the finding's source is the new MAC. Three kinds of observation are kept apart:
    table  what a kernel sends to: ours by its neighbour table, in a stranger's capture whoever sends to an address afar
    arp    who says that the gateway's address is his (ARP, RFC 826; neighbour adverts, RFC 4861); and who answers our probe
    ip     who brings packets from afar

A MAC is pinned when PIN_SEEN observations agree over PIN_AFTER seconds. One that isn't pinned is told of when two kinds of observation
agree, or one insists for LASTS seconds: for table and ip that means that no pinned MAC was heard meanwhile, for a scan with borrowed
source addresses looks like packets from afar. Then "high"; "critical" when a pinned MAC comes back (arpwatch's flip-flop: two take turns);
"medium" when the router calls itself as before (MNDP, LLDP, CDP), and either our cable has just been out or nobody but the new MAC answers
our probe: a poisoner can do the first, but can't keep the real router from answering. No maker's prefix is trusted, those of VRRP and HSRP
neither: whoever lies can wear it; `trust.routers` is the operator's word, and so is `accept`.
"""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from agent.detect.ground import LONGEST, Ground, address, host_address, host_mac, of_ronda, seconds
from agent.detect.model import Ask, Confidence, Coverage, Finding, Grade, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import Arp, ArpProbe, Carrier, Contact, Frame, Identity, Neighbour, Neighbours, Network, Packet
from agent.detect.telling import MANY, Telling

PIN_SEEN, PIN_AFTER = 3, 600.0
LEARN = 1800.0  # seconds in which a second way out (two uplinks, two MACs of one router) is still learnt
LASTS, FRESH = 60.0, 120.0  # how long one kind of observation must insist; how old one may be that agrees with another
FLAP = 120.0  # how long our cable's coming and going explains things
NAMED, PROBED = 75.0, 6.0  # how long we wait for the new router's name (MNDP: every 60 s), and for the probe's answer
STALE, FORGET = 600.0, 86400.0
ASK, ASK_AGAIN = 30.0, 300.0
CROWD, CROWD_WITHIN = 12, 60.0
GATEWAYS, CLAIMS, PINS, WAYS = 8, 16, 8, 1024
UNKNOWN = "unknown"  # the gateway's address, where nobody told it

Kind: TypeAlias = Literal["table", "arp", "ip"]
Name: TypeAlias = tuple[str, str]  # name and board


@dataclasses.dataclass(slots=True)
class _Trace:
    """What one kind of observation says of one MAC. since: no pinned MAC was heard from then on."""

    first: float
    last: float
    since: float
    count: int = 0

    def note(self, at: float) -> None:
        if at - self.last > STALE:
            self.first, self.count = at, 0
        self.since = max(self.since, self.first)
        self.last, self.count = at, self.count + 1


@dataclasses.dataclass(slots=True)
class _Claim:
    """A MAC that isn't pinned. raised: since when we hold it for a change; alone: only it answered our probe."""

    first: float
    traces: dict[Kind, _Trace] = dataclasses.field(default_factory=dict)
    seen: int = 0
    raised: float | None = None
    probed: bool = False
    alone: bool = False
    flipped: bool = False
    told: bool = False
    frames: tuple[Frame, ...] = ()

    def note(self, kind: Kind, at: float, frame: Frame | None) -> None:
        self.traces.setdefault(kind, _Trace(at, at, at)).note(at)
        self.seen += 1
        if frame and len(self.frames) < 4:
            self.frames = (*self.frames, frame)

    @property
    def last(self) -> float:
        return max((trace.last for trace in self.traces.values()), default=self.first)

    def kinds(self, at: float) -> list[Kind]:
        return sorted(kind for kind, trace in self.traces.items() if at - trace.last <= FRESH)

    def insists(self) -> bool:
        """By one kind alone. Who claims the gateway's address in ARP does so, whether or not the gateway is still there."""
        arp = self.traces.get("arp")
        if arp and arp.count >= PIN_SEEN and arp.last - arp.first >= LASTS:
            return True
        return any(t.count > 1 and t.last - t.since >= LASTS for kind, t in self.traces.items() if kind != "arp")


@dataclasses.dataclass(slots=True)
class _Gateway:
    """leader: the MAC that was there first, or was pinned last. pinned: MAC → when it was last heard.

    ways: MACs that have only brought packets from afar (a second uplink, a router's own MAC beside its virtual one). They may go on so;
    claiming the address is another thing: packets are easily made up, and are no pin.
    """

    first: float
    leader: str = ""
    pinned: dict[str, float] = dataclasses.field(default_factory=dict)
    ways: dict[str, float] = dataclasses.field(default_factory=dict)
    names: dict[str, Name] = dataclasses.field(default_factory=dict)
    claims: Table[str, _Claim] = dataclasses.field(default_factory=lambda: Table(CLAIMS))
    carriers: Table[str, _Claim] = dataclasses.field(default_factory=lambda: Table(CLAIMS))  # who only brings packets from afar
    newcomers: collections.deque[float] = dataclasses.field(default_factory=lambda: collections.deque(maxlen=CROWD))
    asked: float = float("-inf")

    def note(self, kind: Kind, mac: str, at: float, frame: Frame | None) -> _Claim:
        """A flood of invented sources of IP packets must not push those out that claim the address: they are kept apart until they do."""
        claim = self.claims.get(mac)
        if claim is None and kind == "ip":
            claim = self.carriers.get(mac) or self.carriers.put(mac, _Claim(at))
        elif claim is None:
            claim = self.claims.put(mac, self.carriers.pop(mac) or _Claim(at))
            self.newcomers.append(at)
        claim.note(kind, at, frame)
        return claim

    def all_claims(self) -> list[tuple[str, _Claim]]:
        return self.claims.items() + self.carriers.items()

    def forget(self, mac: str) -> None:
        self.claims.pop(mac)
        self.carriers.pop(mac)

    def pin(self, mac: str, at: float) -> None:
        self.forget(mac)
        self.pinned[mac] = at
        for old in list(self.pinned)[:-PINS]:
            del self.pinned[old]
        if self.leader not in self.pinned:
            self.leader = mac

    def allow(self, mac: str, at: float) -> None:
        """Learns a MAC that only brings packets from afar."""
        self.forget(mac)
        self.leader = "" if self.leader == mac else self.leader
        self.ways[mac] = at
        for old in list(self.ways)[:-PINS]:
            del self.ways[old]

    def unpinned(self) -> _Claim | None:
        """What the leader has shown, where nothing is pinned yet."""
        return self.claims.get(self.leader) or self.carriers.get(self.leader)

    def changed_hands(self, claim: _Claim) -> bool:
        """Nothing is pinned yet, and still: packets from afar came by the one, and come by the other now."""
        leader = self.unpinned()
        before = leader.traces.get("ip") if leader else None
        return before is not None and before.count >= PIN_SEEN and "ip" in claim.traces

    def comparable(self, claim: _Claim) -> bool:
        """A leader that has only brought packets is no rival of one that claims the address: a router may do each by another MAC."""
        leader = self.unpinned()
        return bool(self.pinned) or leader is None or set(leader.traces) != {"ip"} or "ip" in claim.traces

    def crowded(self, at: float) -> bool:
        return len(self.newcomers) == CROWD and at - self.newcomers[0] <= CROWD_WITHIN


class GatewayMac(Plain):
    rule: ClassVar[Rule] = Rule("gateway_mac", "L01", "1", "network", ("T1557.002",), quiet=3600.0)
    wants: ClassVar[tuple[type, ...]] = (Network, Neighbours, Carrier, Arp, ArpProbe, Neighbour, Packet, Contact, Identity)

    def __init__(self, vouched: Vouched) -> None:
        self._vouched = vouched.routers
        self._ground = Ground()
        self._gateways: Table[str, _Gateway] = Table(GATEWAYS)
        self._names: Table[str, Name] = Table(64)
        self._local: Table[str, bool] = Table(WAYS)  # addresses that ARP showed to be on the wire; kept where no gateway is known
        self._ways: Table[tuple[Kind, str], tuple[str, int]] = Table(WAYS)  # the same: by which MAC an address afar is reached
        self._telling = Telling()
        self._now = 0.0

    # -- what comes in ------------------------------------------------------------------------------------------------------

    def see(self, seen: Any, at: float) -> Iterable[Said]:
        self._now = at
        if self._ground.hear(seen):
            return self._table(at) if isinstance(seen, Neighbours) else ()
        if isinstance(seen, Carrier):
            self._ground.feel(seen, at)
        elif isinstance(seen, Identity):
            self._named(seen)
        elif isinstance(seen, Arp):
            return self._arp(seen.sender, seen.sender_mac, seen.frame, at)
        elif isinstance(seen, Neighbour):
            return self._arp(seen.target, seen.mac, seen.frame, at) if seen.type == "advert" else ()
        elif isinstance(seen, ArpProbe):
            return self._answered(seen, at)
        elif isinstance(seen, Packet):
            return self._way(seen.source, seen.target, seen.frame, at)
        elif isinstance(seen, Contact):  # "source" is who began it; an answer comes from the other one
            asked = seen.step == "asked"
            return self._way(seen.source if asked else seen.target, seen.target if asked else seen.source, seen.frame, at)
        return ()

    def tick(self, at: float) -> Iterable[Said]:
        self._now = at
        for where, gateway in self._gateways.items():
            for mac, claim in gateway.all_claims():
                if at - claim.last > (self.rule.quiet if claim.raised is not None else STALE if gateway.pinned else FORGET):
                    gateway.forget(mac)
                elif claim.raised is not None and not claim.told:
                    yield from self._tell(where, gateway, mac, claim, at)

    def _table(self, at: float) -> Iterator[Said]:
        for where in sorted(self._ground.gateways):
            if mac := self._ground.bindings.get(where, ""):
                yield from self._heard(where, "table", mac, at, None)

    def _named(self, seen: Identity) -> None:
        name = (seen.name[:LONGEST], seen.board[:LONGEST])
        for mac in {host_mac(seen.frame.source), host_mac(seen.mac)} - {""}:
            self._names.put(mac, name)
            for where in self._ground.gateways:
                if (gateway := self._gateways.get(where)) and mac in {gateway.leader, *gateway.pinned}:
                    gateway.names = {old: said for old, said in gateway.names.items() if old in gateway.pinned} | {mac: name}

    def _arp(self, who: str, mac: str, frame: Frame, at: float) -> Iterator[Said]:
        if who in self._ground.gateways:
            yield from self._heard(who, "arp", mac, at, frame)
        elif not self._ground.gateways and host_address(who):
            self._local.put(who, True)

    def _answered(self, seen: ArpProbe, at: float) -> Iterator[Said]:
        macs = {mac for text in seen.macs[:CLAIMS] if (mac := host_mac(text)) and not self._ours(mac)}
        gateway = self._gateways.get(seen.target)
        if seen.target not in self._ground.gateways or gateway is None:
            return
        for mac in sorted(macs, key=lambda mac: mac in gateway.pinned):  # pinned ones last: they come back to who took their place
            yield from self._heard(seen.target, "arp", mac, at, next((f for f in seen.frames if f.source == mac), None))
        for mac, claim in gateway.all_claims():
            claim.probed, claim.alone = True, macs == {mac}
        if len(macs) > 1 and macs & {gateway.leader, *gateway.pinned}:
            yield from self._both(seen.target, gateway, macs, at)
        for mac, claim in gateway.all_claims():
            if claim.raised is not None and not claim.told:
                yield from self._tell(seen.target, gateway, mac, claim, at)

    def _both(self, where: str, gateway: _Gateway, macs: set[str], at: float) -> Iterator[Said]:
        """Both answered one question: two devices have the gateway's address now, there is nothing to wait for."""
        for mac in sorted(macs):
            claim = gateway.claims.get(mac)
            if claim and mac != gateway.leader:
                claim.raised, claim.flipped = at if claim.raised is None else claim.raised, True
                yield from self._tell(where, gateway, mac, claim, at)

    # -- packets from afar --------------------------------------------------------------------------------------------------

    def _way(self, source: str, target: str, frame: Frame, at: float) -> Iterable[Said]:
        if frame.direction == "out" or not host_mac(frame.target):
            return () if self._ground.gateways else self._stray("table", target, frame.target, frame, at)
        if not self._ground.gateways:
            return [*self._stray("table", target, frame.target, frame, at), *self._stray("ip", source, frame.source, frame, at)]
        return self._brought(source, frame, at) if self._ground.afar(source) else ()

    def _brought(self, source: str, frame: Frame, at: float) -> Iterator[Said]:
        """All gateways of that family may have brought it; a pinned one is believed to."""
        version = getattr(address(source), "version", 0)
        mine = [where for where in sorted(self._ground.gateways) if getattr(address(where), "version", 0) == version]
        known = [where for where in mine if (gateway := self._gateways.get(where)) and frame.source in gateway.pinned]
        for where in known or mine:
            yield from self._heard(where, "ip", frame.source, at, frame)

    def _stray(self, kind: Kind, far: str, mac: str, frame: Frame, at: float) -> Iterator[Said]:
        """Where nobody told us who the gateway is: the way to one and the same address afar has another MAC than before."""
        mac = host_mac(mac)
        if not mac or not host_address(far) or far in self._local or self._ground.near(far) or far in self._ground.addresses:
            return
        before, count = self._ways.get((kind, far)) or (mac, 0)
        if before == mac or count < PIN_SEEN:
            self._ways.put((kind, far), (mac, count + 1 if before == mac else 1))
            if (gateway := self._gateways.get(UNKNOWN)) and mac == gateway.leader and count:
                yield from self._familiar(UNKNOWN, gateway, kind, mac, at)
            return
        gateway = self._gateways.get(UNKNOWN) or self._gateways.put(UNKNOWN, _Gateway(at))
        gateway.leader = gateway.leader or before
        yield from self._heard(UNKNOWN, kind, mac, at, frame)

    # -- what it means ------------------------------------------------------------------------------------------------------

    def _ours(self, mac: str) -> bool:
        return mac in self._ground.macs or of_ronda(mac)

    def _heard(self, where: str, kind: Kind, text: str, at: float, frame: Frame | None) -> Iterator[Said]:
        mac = host_mac(text)
        if not mac or self._ours(mac):
            return
        gateway = self._gateways.get(where) or self._gateways.put(where, _Gateway(at))
        if mac in self._vouched and mac not in gateway.pinned:
            gateway.pin(mac, at)
        if mac in gateway.pinned or (where == UNKNOWN and mac == gateway.leader) or (kind == "ip" and mac in gateway.ways):
            yield from self._familiar(where, gateway, kind, mac, at)
            return
        claim = gateway.note(kind, mac, at, frame)
        if not gateway.leader and claim.seen >= PIN_SEEN:
            gateway.leader = mac
        if claim.raised is None and self._learnt(gateway, claim, at):
            if set(claim.traces) == {"ip"}:
                gateway.allow(mac, at)
                return
            gateway.pin(mac, at)
            gateway.names |= {mac: name} if (name := self._names.get(mac)) else {}
        elif mac == gateway.leader:
            yield from self._familiar(where, gateway, kind, mac, at)
        elif gateway.leader:
            yield from self._doubt(where, gateway, mac, claim, at)

    def _learnt(self, gateway: _Gateway, claim: _Claim, at: float) -> bool:
        return (not gateway.pinned or at - gateway.first < LEARN) and claim.seen >= PIN_SEEN and at - claim.first >= PIN_AFTER

    def _familiar(self, where: str, gateway: _Gateway, kind: Kind, mac: str, at: float) -> Iterator[Said]:
        """The old MAC is there: nobody else insists from now on, and who has taken its place takes turns with it."""
        if mac in gateway.pinned:
            gateway.pinned[mac] = at
        for other, claim in gateway.all_claims():
            if other == mac:
                continue
            for trace in claim.traces.values():
                trace.since = at
            if claim.raised is not None and not claim.flipped and self._comes_back(claim, kind, at):
                claim.flipped = True
                yield from self._tell(where, gateway, other, claim, at)

    @staticmethod
    def _comes_back(claim: _Claim, kind: Kind, at: float) -> bool:
        """A kernel's table may keep an old entry that nobody uses: it comes back only where the table had the new one."""
        if claim.raised is None or at - claim.last > STALE:
            return False
        return "table" in claim.traces if kind == "table" else at > claim.raised

    def _doubt(self, where: str, gateway: _Gateway, mac: str, claim: _Claim, at: float) -> Iterator[Said]:
        if at - gateway.asked >= (ASK if claim.raised is None else ASK_AGAIN) and "." in where:
            gateway.asked = at
            yield Ask("arp", where)
        if claim.raised is None and (len(claim.kinds(at)) > 1 or claim.insists()) and (where == UNKNOWN or gateway.comparable(claim)):
            claim.raised = at
        if claim.raised is not None:
            yield from self._tell(where, gateway, mac, claim, at)
        if gateway.crowded(at):
            yield from self._telling.say(self._crowd(where, gateway), at)

    # -- what is said -------------------------------------------------------------------------------------------------------

    def _tell(self, where: str, gateway: _Gateway, mac: str, claim: _Claim, at: float) -> Iterator[Said]:
        if at < self._waits(gateway, mac, claim):
            return
        claim.told = True
        grade = self._grade(gateway, mac, claim)
        pinned = bool(gateway.pinned) or where == UNKNOWN or gateway.changed_hands(claim)
        agree = len(claim.traces) > 1 or (claim.probed and "arp" in claim.traces)
        confidence: Confidence = ("certain" if gateway.pinned else "likely") if agree else "likely" if gateway.pinned else "unknown"
        fields = {"source.mac": mac, "ronda.old_mac": gateway.leader, "ronda.new_mac": mac, "ronda.seen_by": ",".join(sorted(claim.traces))}
        if where != UNKNOWN:
            fields["ronda.gateway"] = where
        message = _message(grade, bool(gateway.pinned))
        finding = Finding(
            self.rule.name, f"{where} {mac}", grade, confidence, message, confirmed=pinned and agree, fields=fields, source=mac,
            frames=claim.frames,
        )  # fmt: skip
        yield from self._telling.say(finding, at)

    def _grade(self, gateway: _Gateway, mac: str, claim: _Claim) -> Grade:
        if claim.flipped:
            return "critical"
        excused = claim.alone or self._after_flap(claim)
        return "medium" if excused and self._same_name(gateway, mac) else "high"

    def _waits(self, gateway: _Gateway, mac: str, claim: _Claim) -> float:
        """Until when a change isn't told yet, because it may soon have an innocent explanation: an answer or a name is on its way."""
        if claim.flipped or claim.raised is None or not self._old_name(gateway):
            return float("-inf")
        if claim.alone or self._after_flap(claim):
            return float("-inf") if self._names.get(mac) else claim.raised + NAMED
        return claim.raised if claim.probed else claim.raised + PROBED

    def _after_flap(self, claim: _Claim) -> bool:
        return 0 <= claim.first - self._ground.flapped < FLAP

    def _old_name(self, gateway: _Gateway) -> Name | None:
        return gateway.names.get(gateway.leader) or self._names.get(gateway.leader)

    def _same_name(self, gateway: _Gateway, mac: str) -> bool:
        old, new = self._old_name(gateway), self._names.get(mac)
        return old is not None and any(old) and old == new

    def _crowd(self, where: str, gateway: _Gateway) -> Finding:
        message = "very many MACs claim the gateway's address"
        frames = tuple(frame for _, claim in gateway.claims.items()[-4:] for frame in claim.frames[:1])
        fields = {"ronda.old_mac": gateway.leader, "ronda.gateway": where}
        return Finding(self.rule.name, f"{where} {MANY}", "high", "likely", message, fields=fields, frames=frames)

    # -- what people and restarts bring --------------------------------------------------------------------------------------

    def accept(self, key: str, at: float) -> bool:
        """Optional in the contract: an operator says that this case is innocent. Its MAC is pinned, beside those that are still there."""
        where, _, mac = key.partition(" ")
        gateway, mac = self._gateways.get(where), host_mac(mac)
        if gateway is None or not mac:
            return False
        claim = gateway.claims.get(mac) or gateway.carriers.get(mac)
        began = claim.first if claim else at
        gateway.pinned = {old: heard for old, heard in gateway.pinned.items() if heard >= began or (claim and claim.flipped)}
        gateway.leader = ""
        gateway.pin(mac, at)
        self._telling.close(key)
        return True

    def coverage(self, able: frozenset[str]) -> Coverage:
        if self._ground.told and not self._ground.gateways:
            return Coverage(0.0, "no_gateway")
        if "capture" not in able:
            return Coverage(0.5, "kernel_table_only")
        learnt = any(gateway.pinned for _, gateway in self._gateways.items())
        return Coverage(1.0) if learnt else Coverage(0.5, "learning")

    def remember(self) -> Mapping[str, Any]:
        return {where: self._dump(gateway) for where, gateway in self._gateways.items() if where != UNKNOWN}

    def _dump(self, gateway: _Gateway) -> Mapping[str, Any]:
        young = [(mac, claim) for mac, claim in gateway.all_claims() if not gateway.pinned and claim.raised is None]
        return {
            "age": self._now - gateway.first,
            "leader": gateway.leader,
            "pinned": list(gateway.pinned),
            "ways": list(gateway.ways),
            "names": {mac: list(name) for mac, name in gateway.names.items()},
            "learning": [[mac, self._now - claim.first, self._now - claim.last, claim.seen] for mac, claim in young],
        }

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        taken = [(where, _loaded(held, at)) for where, held in list(said.items())[:GATEWAYS] if host_address(where)]
        for where, gateway in taken:
            self._gateways.put(where, gateway)


def _message(grade: Grade, pinned: bool) -> str:
    said = {
        "critical": "two devices take turns as the gateway: somebody may have put himself between",
        "medium": "the gateway's MAC has changed, and it calls itself as before: probably a new router",
    }.get(grade, "the gateway's MAC has changed: another device stands at the way out")
    return said if pinned else f"{said}; which of them is the right one is not known yet"


def _loaded(held: Mapping[str, Any], at: float) -> _Gateway:
    gateway = _Gateway(at - seconds(held["age"]), leader=host_mac(held["leader"]))
    gateway.pinned = {_mac(mac): at for mac in held["pinned"][-PINS:]}
    gateway.ways = {_mac(mac): at for mac in held["ways"][-PINS:]}
    gateway.names = {_mac(mac): (str(name)[:LONGEST], str(board)[:LONGEST]) for mac, (name, board) in list(held["names"].items())[-PINS:]}
    for mac, first, last, count in held["learning"][-CLAIMS:]:
        claim = gateway.claims.put(_mac(mac), _Claim(at - seconds(first)))
        claim.traces["table"] = _Trace(claim.first, at - seconds(last), claim.first)
        claim.seen = int(seconds(count))
    return gateway


def _mac(text: str) -> str:
    if not (mac := host_mac(text)):
        raise ValueError("not a MAC")
    return mac
