"""Somebody has put himself between two others: only the router's own ARP table shows it (arp_poisoning, L04).

Law: who an address belonged to is never accused: the finding's source is the MAC that takes it. A move alone is nothing, for addresses are
given on. Told is one that two polls agree on, and

    the old owner still speaks as that address (asked by RFC 5227, or heard)     "critical", sure; "high" where the taker answers too
    only the taker answers                                                       it has moved: "low" where the taker has another address
                                                                                 ("medium" for a server's), else nothing: given on
    nobody was or could be asked, and the taker has another address that lives   "critical"; "info" while LEARN lasts, "low" of hosts
                                                                                 that have had several since then; but for servers

Servers are gateways, this office's resolvers and this box: their addresses don't move by themselves. Entries that somebody set by hand
never count, nor do routers that answer for many (PROXY), nor who hasn't been in the table for a day (OLD). What was there first is learnt
as the truth, a poison too.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

from agent.detect.ground import Ground, address, host_address, host_mac, of_ronda, seconds
from agent.detect.model import GRADES, Ask, Confidence, Coverage, Finding, Grade, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import Arp, ArpProbe, Neighbours, Network, RouterArp
from agent.detect.telling import Telling

LEARN = 7 * 86400.0
AGREE = 2  # polls
OLD = 86400.0
GIVE_UP = 600.0  # seconds without the move in a table until it is forgotten
PROXY = 8  # addresses of one MAC: more, and it answers for others
ASKS, ASKS_A_POLL = 3, 4
ROUTERS, ADDRESSES, MOVES, MANY_HOMES = 64, 2048, 64, 256  # agent/snmp/forwarding.py reads no more addresses
ROOM = 4 * ADDRESSES  # for the addresses of all: each switch has an ARP table, though one of a few rows
NAMED = 8  # victims that are named
TABLE, OWNER, PROBE = "table", "table,owner", "table,probe"  # who says so


@dataclasses.dataclass(slots=True)
class _Owner:
    mac: str
    last: float


@dataclasses.dataclass(slots=True)
class _Move:
    """An address that has another MAC than it had. owns: the taker has another address; lives: the old owner speaks as this one.

    heard: our question was answered, or wasn't, and that is known; answers: the taker answered it
    """

    mac: str
    old: str
    last: float
    polls: int = 0
    asks: int = 0
    owns: bool = False
    lives: bool = False
    heard: bool = False
    answers: bool = False
    accused: bool = False


class _Verdict(NamedTuple):
    """taken: address → whose it was."""

    grade: Grade
    confidence: Confidence
    seen_by: str
    taken: Mapping[str, str] = {}

    def beside(self, other: "_Verdict | None", where: str, move: _Move) -> "_Verdict":
        """The graver of two of one taker, with what both have taken."""
        graver = self if other is None or GRADES.index(self.grade) < GRADES.index(other.grade) else other
        return graver._replace(taken={**(other.taken if other else {}), where: move.old})


@dataclasses.dataclass(slots=True)
class _Router:
    """several: MACs that have had several addresses since learning; proxies: those that answer for others."""

    owners: Table[str, _Owner] = dataclasses.field(default_factory=lambda: Table(ADDRESSES))
    moves: Table[str, _Move] = dataclasses.field(default_factory=lambda: Table(MOVES))
    several: Table[str, bool] = dataclasses.field(default_factory=lambda: Table(MANY_HOMES))
    proxies: Table[str, bool] = dataclasses.field(default_factory=lambda: Table(MANY_HOMES))

    def settle(self, where: str, mac: str, at: float) -> None:
        self.owners.put(where, _Owner(mac, at))
        self.moves.pop(where)


class ArpPoisoning(Plain):
    """`moves`: addresses that were seen to change their MAC in a router's table, whatever it meant."""

    rule: ClassVar[Rule] = Rule("arp_poisoning", "L04", "2", "network", ("T1557.002",), quiet=1800.0)
    wants: ClassVar[tuple[type, ...]] = (Network, Neighbours, Arp, ArpProbe, RouterArp)

    def __init__(self, vouched: Vouched) -> None:
        self._vouched = vouched.routers
        self._ground = Ground()
        self._routers: Table[str, _Router] = Table(ROUTERS)
        self._began: float | None = None
        self._now = 0.0
        self._telling = Telling()
        self.moves = 0

    # -- what comes in ------------------------------------------------------------------------------------------------------

    def see(self, seen: Any, at: float) -> Iterable[Said]:
        self._now = at
        if self._ground.hear(seen):
            return ()
        if isinstance(seen, RouterArp):
            return self._table(seen, at)
        if isinstance(seen, ArpProbe):
            self._answered(seen)
        elif isinstance(seen, Arp) and seen.frame.direction != "out" and seen.frame.source == seen.sender_mac:
            self._spoke(seen.sender, seen.sender_mac)
        return ()

    def tick(self, at: float) -> Iterable[Said]:
        self._now = at
        for router in self._routers.values():
            for where, move in router.moves.items():
                if at - move.last > GIVE_UP:
                    router.moves.pop(where)
        return ()

    def _answered(self, seen: ArpProbe) -> None:
        macs = {host_mac(text) for text in seen.macs}
        for router in self._routers.values():
            if move := router.moves.get(seen.target):
                move.heard = True
                move.lives, move.answers = move.lives or move.old in macs, move.answers or move.mac in macs

    def _spoke(self, where: str, mac: str) -> None:
        for router in self._routers.values():
            if len(router.moves) and (move := router.moves.get(where)) and move.old == host_mac(mac):
                move.lives = True

    # -- a table --------------------------------------------------------------------------------------------------------------

    def _table(self, seen: RouterArp, at: float) -> Iterator[Said]:
        self._began = at if self._began is None else self._began
        router = self._routers.get(seen.device[:64]) or self._routers.put(seen.device[:64], _Router())
        entries = {where: mac for where, text in itertools.islice(seen.entries.items(), ADDRESSES) if (mac := _binding(where, text))}
        mine = {entries[where] for where in seen.static & self._ground.gateways if where in entries}
        held = collections.Counter((mac, _version(where)) for where, mac in entries.items())
        asks, verdicts = ASKS_A_POLL, dict[str, _Verdict]()
        for where, mac in entries.items():
            owner = router.owners.get(where)
            if where in seen.static:
                continue
            if owner is None or owner.mac == mac or at - owner.last > OLD or mac in mine or self._exempt(router, mac):
                router.owners.put(where, _Owner(mac, at))
                continue
            owner.last = at
            move = self._moved(router, where, owner, mac, at)
            move.owns = move.owns or held[mac, _version(where)] > 1
            if asks and self._may_ask(where, move):
                move.asks, asks = move.asks + 1, asks - 1
                yield Ask("arp", where)
            if move.polls >= AGREE and (verdict := self._judge(router, where, move, at)):
                verdicts[mac] = verdict.beside(verdicts.get(mac), where, move)
        for mac, verdict in verdicts.items():
            yield from self._tell(seen, mac, verdict, at)
        self._learn(router, held)
        self._make_room()

    def _make_room(self) -> None:
        """Whose table came longest ago is forgotten, until the others' addresses have room."""
        routers = self._routers.items()
        held = sum(len(router.owners) for _, router in routers)
        for device, router in routers[:-1]:
            if held <= ROOM:
                return
            held -= len(router.owners)
            self._routers.pop(device)

    def _exempt(self, router: _Router, mac: str) -> bool:
        return mac in self._ground.macs | self._ground.cards or of_ronda(mac) or mac in self._vouched or mac in router.proxies

    def _moved(self, router: _Router, where: str, owner: _Owner, mac: str, at: float) -> _Move:
        move = router.moves.get(where)
        if move is None or move.mac != mac:
            self.moves += 1
            move = router.moves.put(where, _Move(mac, owner.mac, at, lives=where in self._ground.addresses))
        move.polls, move.last = move.polls + 1, at
        return move

    def _may_ask(self, where: str, move: _Move) -> bool:
        return move.asks < ASKS and not move.lives and _version(where) == 4 and self._ground.near(where)

    def _learn(self, router: _Router, held: Mapping[tuple[str, int], int]) -> None:
        """Who has several addresses has them by right, unless one of them is in doubt."""
        if not self._learning:
            return
        doubted = {move.mac for move in router.moves.values()}
        for (mac, version), count in held.items():
            if count > 1 and version == 4 and mac not in doubted:
                router.several.put(mac, True)
                if count > PROXY:
                    router.proxies.put(mac, True)

    @property
    def _learning(self) -> bool:
        return self._began is None or self._now - self._began < LEARN

    # -- what it means --------------------------------------------------------------------------------------------------------

    def _judge(self, router: _Router, where: str, move: _Move, at: float) -> "_Verdict | None":
        """What is to be told of a move that two polls agree on; what is nobody's fault is taken up as it is now."""
        verdict = None
        if move.owns or move.lives:
            verdict = self._grade(router, where, move)
            move.accused = verdict.grade in ("critical", "high")
        elif not (move.heard or move.polls > AGREE):
            return None  # the question is on its way
        if not move.accused:
            router.settle(where, move.mac, at)
        return verdict

    def _grade(self, router: _Router, where: str, move: _Move) -> "_Verdict":
        server = where in self._ground.servers or where in self._ground.addresses
        if move.lives:
            return _Verdict("high", "likely", OWNER) if move.answers and not server else _Verdict("critical", "certain", OWNER)
        if move.answers:
            return _Verdict("medium" if server else "low", "unknown", PROBE)
        if server:
            return _Verdict("critical", "likely", TABLE)
        if self._learning:
            return _Verdict("info", "unknown", TABLE)
        return _Verdict("low", "unknown", TABLE) if move.mac in router.several else _Verdict("critical", "likely", TABLE)

    def _tell(self, seen: RouterArp, mac: str, verdict: "_Verdict", at: float) -> Iterator[Said]:
        own = [where for where, text in seen.entries.items() if host_mac(text) == mac and where not in verdict.taken]
        fields = {
            "source.mac": mac,
            "source.ip": next(iter(own), ""),
            "ronda.victim.ip": ",".join(list(verdict.taken)[:NAMED]),
            "ronda.victim.mac": ",".join(dict.fromkeys(list(verdict.taken.values())[:NAMED])),
            "ronda.taken": str(len(verdict.taken)),
            "ronda.device": seen.device,
            "ronda.seen_by": verdict.seen_by,
        }
        grade, confidence, _, _ = verdict
        finding = Finding(self.rule.name, mac, grade, confidence, _message(verdict), confirmed=True, fields=fields, source=mac)
        yield from self._telling.say(finding, at)

    # -- what people and restarts bring ---------------------------------------------------------------------------------------

    def accept(self, key: str, at: float) -> bool:
        """An operator says that this MAC may have those addresses, and others."""
        mac = host_mac(key)
        if not mac:
            return False
        for router in self._routers.values():
            router.several.put(mac, True)
            for where, move in router.moves.items():
                if move.mac == mac:
                    router.settle(where, mac, at)
        return self._telling.close(key)

    def coverage(self, able: frozenset[str]) -> Coverage:
        if "router_arp" not in able:
            return Coverage(0.0, "needs_router")
        return Coverage(0.5, "learning") if self._learning else Coverage(1.0)

    def remember(self) -> Mapping[str, Any]:
        if self._began is None:
            return {}
        return {"age": self._now - self._began, "routers": {name: self._dump(router) for name, router in self._routers.items()}}

    def _dump(self, router: _Router) -> Mapping[str, Any]:
        owners = [[where, owner.mac, round(self._now - owner.last, 1)] for where, owner in router.owners.items()]
        return {"owners": owners, "several": [mac for mac, _ in router.several.items()], "proxies": [m for m, _ in router.proxies.items()]}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        began = at - seconds(said["age"])
        taken = [(str(name)[:64], _loaded(held, at)) for name, held in list(said["routers"].items())[:ROUTERS]]
        self._began = began
        for name, router in taken:
            self._routers.put(name, router)


def _binding(where: str, text: str) -> str:
    return host_mac(text) if host_address(where) else ""


def _version(where: str) -> int:
    return getattr(address(where), "version", 0)


def _message(verdict: _Verdict) -> str:
    if verdict.grade in ("low", "info", "medium"):
        return "by the router's table an address has moved to a device that has another one"
    if verdict.seen_by == OWNER:
        return "by the router's table one device receives what is meant for another, which is still there under its address"
    return "by the router's table one device has taken the address of another beside its own"


def _loaded(held: Any, at: float) -> _Router:
    router = _Router()
    for where, mac, age in held["owners"][-ADDRESSES:]:
        if not _binding(where, mac):
            raise ValueError("not an entry of an ARP table")
        router.owners.put(where, _Owner(mac, at - seconds(age)))
    for table, macs in ((router.several, held["several"]), (router.proxies, held["proxies"])):
        for mac in macs[-MANY_HOMES:]:
            if not host_mac(mac):
                raise ValueError("not a MAC")
            table.put(mac, True)
    return router
