"""rogue_dhcp and dhcp_starvation: who gives out addresses, and who takes them all.

Law: a server is its option 54 (RFC 2131), never the packet's source, for relays pass offers on. Probes of any Ronda are nobody's. A client
that was lied to is a victim: it is never the finding's source, and invented MACs accuse nobody.

A server is known that the operator vouches for; where he vouches for none, the first ones are learnt, if what they say agrees with the
gateway that this box uses. Any other is rogue: two probes of ours in a row that it answers, or one client that chose it (seen passively:
option 54 of a REQUEST), or its offer to somebody. Two observations confirm it; a client's
DISCOVER and the REQUEST of the same exchange are two.
"""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from agent.detect.here import Here, local, probe_of_ronda, unicast
from agent.detect.model import Ask, Coverage, Finding, Grade, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import Arp, Dhcp, DhcpProbe, Frame, Neighbours, Network
from agent.detect.telling import Telling

LEARN = 900.0  # seconds from the first look in which a second server that agrees with the first is learnt, too
EMPTY = 12  # probes without any offer (an hour): here is no server, and one that comes isn't learnt by itself
SERVERS, SUSPECTS, EVIDENCE, CLIENTS_ASKING = 16, 64, 8, 512
HEARD = 900.0  # for so long a server counts as heard
ASK = 15.0  # seconds between two wishes for a probe


@dataclasses.dataclass(slots=True)
class _Server:
    """A known server and what it gave last. changed: times in a row that it gave something else."""

    routers: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    mac: str = ""
    changed: int = 0

    def take(self, offer: Dhcp, mac: str) -> None:
        self.routers, self.dns, self.mac, self.changed = offer.routers[:4], offer.dns[:4], mac or self.mac, 0

    def differs(self, offer: Dhcp) -> bool:
        return bool(self.routers and set(offer.routers) != set(self.routers)) or bool(self.dns and set(offer.dns) != set(self.dns))


@dataclasses.dataclass(slots=True)
class _Suspect:
    """probes: of ours in a row that it answered; others: clients that chose it, and offers to others."""

    server: str
    mac: str = ""
    probes: int = 0
    others: set[str] = dataclasses.field(default_factory=set)
    offer: Dhcp | None = None
    selected: bool = False  # a client asked everybody, and then chose it
    frames: tuple[Frame, ...] = ()

    def confirmed(self) -> bool:
        return self.selected or self.probes >= 2 or (self.probes >= 1 and bool(self.others)) or len(self.others) >= 2

    def found(self) -> bool:
        return self.probes >= 2 or bool(self.others)

    def note(self, offer: Dhcp | None, frame: Frame, evidence: str) -> None:
        self.offer = offer or self.offer
        if evidence and len(self.others) < EVIDENCE:
            self.others.add(evidence[:64])
        if len(self.frames) < 4:
            self.frames = (*self.frames, frame)


def _mac(offer: Dhcp) -> str:
    """The server's own MAC: only where no relay stands between."""
    return offer.frame.source if not offer.relay and offer.source == offer.server else ""


class RogueDhcp(Plain):
    """A DHCP server that nobody knows, or somebody who speaks in the name of one."""

    rule: ClassVar[Rule] = Rule("rogue_dhcp", "L05", "1", "intrusion_detection", ("T1557.003",), quiet=1800.0)
    wants: ClassVar[tuple[type, ...]] = (Network, Neighbours, Dhcp, DhcpProbe)

    def __init__(self, vouched: Vouched) -> None:
        self._vouched = vouched.dhcp_servers
        self._known: Table[str, _Server] = Table(SERVERS)
        self._suspects: Table[str, _Suspect] = Table(SUSPECTS)
        self._heard: Table[str, float] = Table(SERVERS + SUSPECTS)
        self._asking: Table[str, int] = Table(CLIENTS_ASKING)  # a client's DISCOVER, by its number
        self._here, self._telling = Here(), Telling(SUSPECTS)
        self._since: float | None = None
        self._now, self._asked, self._empty = 0.0, float("-inf"), 0

    @property
    def servers(self) -> int:
        """How many servers were heard of within a quarter of an hour."""
        return sum(self._now - at <= HEARD for _, at in self._heard.items())

    def see(self, seen: Network | Neighbours | Dhcp | DhcpProbe, at: float) -> Iterable[Said]:
        self._pass(at)
        if isinstance(seen, DhcpProbe):
            return self._probe(seen, at)
        if isinstance(seen, Dhcp):
            return self._overheard(seen, at)
        self._here.hear(seen)
        return ()

    def tick(self, at: float) -> Iterable[Said]:
        self._pass(at)
        return ()

    def _pass(self, at: float) -> None:
        self._since = at if self._since is None else self._since
        self._now = at

    # -- what is seen ----------------------------------------------------------------------------------------------------------

    def _probe(self, seen: DhcpProbe, at: float) -> Iterator[Said]:
        offers = [offer for offer in seen.offers[:SUSPECTS] if unicast(offer.server)]
        # Those that agree with our own gateway first: in the same round they are learnt before a liar is.
        offers.sort(key=lambda offer: self._contradicts(offer))
        self._empty = 0 if offers else min(self._empty + 1, EMPTY)
        answered: set[str] = set()
        for offer in offers:
            key = self._judge(offer.server, offer, offer.frame, "", at)
            if key and key not in answered:
                answered.add(key)
                self._suspects.put(key, self._suspects.get(key) or _Suspect(offer.server)).probes += 1
        for key, suspect in self._suspects.items():
            if key not in answered:
                suspect.probes = 0
        for key in sorted(answered):
            yield from self._told(key, at)
        yield from self._changes(offers, at)

    def _overheard(self, seen: Dhcp, at: float) -> Iterator[Said]:
        if probe_of_ronda(seen):
            return
        if seen.type == "discover":
            self._asking.put(seen.client_mac[:32], seen.xid)
        if not unicast(seen.server):
            return
        if seen.type == "request":
            key = self._judge(seen.server, None, seen.frame, f"chosen by {seen.client_mac}", at)
        elif seen.type in ("offer", "ack", "nak"):
            key = self._judge(seen.server, seen if seen.type != "nak" else None, seen.frame, f"{seen.type} to {seen.client_mac}", at)
        else:
            return
        suspect = self._suspects.get(key)
        if suspect is not None:
            suspect.selected = suspect.selected or (seen.type == "request" and self._asking.get(seen.client_mac[:32]) == seen.xid)
            yield from self._told(key, at)

    def _changes(self, offers: list[Dhcp], at: float) -> Iterator[Finding]:
        """A known server that gives another gateway or resolver than it did, twice in a row: the new ones are learnt, and it is said."""
        for offer in offers:
            known = self._known.get(offer.server)
            if known is None or offer.server in self._vouched or not known.differs(offer) or self._impostor(known, offer):
                continue
            known.changed += 1
            if known.changed >= 2:
                fields = {"source.ip": offer.server, "ronda.before": " ".join(known.routers + known.dns), **_gives(offer)}
                known.take(offer, _mac(offer))
                words = "the known DHCP server gives another gateway or resolver than before"
                finding = Finding("rogue_dhcp", f"changed {offer.server}", "medium", "likely", words, "open", True, fields)
                yield from self._telling.say(finding._replace(frames=(offer.frame,)), at)

    # -- what it means ---------------------------------------------------------------------------------------------------------

    def _judge(self, server: str, offer: Dhcp | None, frame: Frame, evidence: str, at: float) -> str:
        """The key of the suspect that this speaks against; "" where all is well, or nothing can be said yet."""
        self._heard.put(server, at)
        if server in self._vouched:
            self._take(server, offer)
            return ""
        key = server
        known = None if self._vouched else self._known.get(server)
        if known is not None and offer is not None and self._impostor(known, offer):
            key = f"{server} {_mac(offer)}"
        elif known is not None and not (offer and not known.routers and self._contradicts(offer)):
            if offer and not known.differs(offer):
                self._take(server, offer)
            return ""
        elif known is not None:
            self._known.pop(server)  # known by name only, and now it contradicts what this box itself uses
        elif self._learns(offer, at):
            self._take(server, offer)
            return ""
        suspect = self._suspects.get(key) or self._suspects.put(key, _Suspect(server))
        suspect.note(offer, frame, evidence)
        suspect.mac = _mac(offer) if offer else suspect.mac
        return key

    def _take(self, server: str, offer: Dhcp | None) -> None:
        known = self._known.get(server) or self._known.put(server, _Server())
        if offer and offer.type != "nak":
            known.take(offer, _mac(offer))

    def _impostor(self, known: _Server, offer: Dhcp) -> bool:
        """Another MAC speaks in the known server's name, and says something else; a new router that this box uses itself doesn't."""
        mac = _mac(offer)
        return bool(mac and mac not in self._here.routers and known.mac and mac != known.mac and known.differs(offer))

    def _learns(self, offer: Dhcp | None, at: float) -> bool:
        if self._vouched or (offer is not None and self._contradicts(offer)):
            return False
        if not len(self._known):
            return self._empty < EMPTY
        return offer is not None and self._learning(at)

    def _learning(self, at: float) -> bool:
        return not self._vouched and at - (at if self._since is None else self._since) < LEARN

    def _contradicts(self, offer: Dhcp) -> bool:
        """Another gateway than this box and the known servers have, or another resolver than these servers give."""
        known = [server for _, server in self._known.items() if not self._vouched or server.routers or server.dns]
        routers = {router for server in known for router in server.routers} | self._here.gateways
        dns = {resolver for server in known for resolver in server.dns}
        strange = bool(routers and offer.routers) and not routers.issuperset(offer.routers)
        return strange or (bool(dns and offer.dns) and not dns.issuperset(offer.dns))

    # -- what is said ----------------------------------------------------------------------------------------------------------

    def _told(self, key: str, at: float) -> Iterator[Said]:
        suspect = self._suspects.get(key)
        if suspect is None:
            return
        first = self._learning(at) and suspect.offer is None and len(self._known) > 0
        if suspect.found() and not (first and not suspect.confirmed()):
            yield from self._telling.say(self._finding(key, suspect, at), at)
        if not suspect.confirmed() and at - self._asked >= ASK:
            self._asked = at
            yield Ask("dhcp")

    def _finding(self, key: str, suspect: _Suspect, at: float) -> Finding:
        strange = suspect.offer is not None and (self._contradicts(suspect.offer) or key != suspect.server)
        grade: Grade = "critical" if strange else "high"
        words = "a DHCP server that isn't known answers" + (", and gives another gateway or resolver than the known one" if strange else "")
        if key != suspect.server:
            words = "somebody answers in the name of the known DHCP server, and gives another gateway or resolver"
        accused = suspect.mac if key != suspect.server else suspect.server
        if self._learning(at):
            words, accused = f"{words}; still learning which is the right one", ""
        fields = {
            "ronda.dhcp_server": suspect.server, "ronda.dhcp_known": " ".join(server for server, _ in self._known.items()),
            "ronda.chosen_by": str(len(suspect.others)),
        } | (_gives(suspect.offer) if suspect.offer else {})  # fmt: skip
        if accused:
            fields |= {"source.ip": "" if key != suspect.server else suspect.server, "source.mac": suspect.mac}
        sure = suspect.confirmed()
        return Finding(
            "rogue_dhcp", key, grade, "certain" if sure else "likely", words, "open", sure, fields, accused, frames=suspect.frames
        )  # fmt: skip

    # -- the rest of the contract ----------------------------------------------------------------------------------------------

    def coverage(self, able: frozenset[str]) -> Coverage:
        if not able & {"capture", "send"}:
            return Coverage(0.0, "no_capture")
        if "send" not in able:
            return Coverage(0.5, "no_send")
        if "capture" not in able:
            return Coverage(0.5, "no_capture")
        learning = self._learning(self._now) or not (self._vouched or len(self._known) or self._empty >= EMPTY)
        return Coverage(0.5, "learning") if learning else Coverage(1.0)

    def remember(self) -> Mapping[str, Any]:
        servers = {name: [list(s.routers), list(s.dns), s.mac] for name, s in self._known.items()}
        return {"age": self._now - (self._now if self._since is None else self._since), "servers": servers, "empty": self._empty}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        age, empty = float(said["age"]), int(said["empty"])
        servers = {
            str(name): _Server(tuple(map(str, routers))[:4], tuple(map(str, dns))[:4], str(mac))
            for name, (routers, dns, mac) in said["servers"].items()
        }
        self._since, self._now, self._empty = at - max(0.0, age), at, max(0, min(empty, EMPTY))
        for name, server in list(servers.items())[:SERVERS]:
            self._known.put(name, server)


def _gives(offer: Dhcp) -> dict[str, str]:
    return {"ronda.dhcp_router": " ".join(offer.routers[:4]), "ronda.dhcp_dns": " ".join(offer.dns[:4])}


# -- starvation --------------------------------------------------------------------------------------------------------------------

BURST, CLIENTS, STRANGE = 75, 50, 0.8  # DISCOVERs and clients within SPAN, and the share of them that nobody knows (Elastic's rule)
SPAN, MOST = 60.0, 2048
FAST, FAST_SPAN, LATER = 40, 30.0, 5.0  # or so many in half of it, who don't live: half of them first, the others LATER or more after
KNOWN, ONCE, APART = 1024, 2048, 60.0  # who was here twice, so many seconds apart, is known
KEPT = 30 * 86400.0  # a MAC is kept no longer
DAY = 86400.0  # before that, a MAC that is new says nothing: all are


class DhcpStarvation(Plain):
    """Very many clients that nobody has ever seen want an address at once. When power returns, those who ask are known; and a crowd of
    telephones lives: who gets an address speaks ARP under his own MAC within seconds (RFC 5227), as the invented don't.
    """

    rule: ClassVar[Rule] = Rule("dhcp_starvation", "L06", "1", "intrusion_detection", ("T1499.002",), quiet=600.0)
    wants: ClassVar[tuple[type, ...]] = (Arp, Dhcp, DhcpProbe)

    def __init__(self, vouched: Vouched) -> None:  # noqa: ARG002  (nobody is vouched for who takes all addresses)
        self._known: Table[str, float] = Table(KNOWN)
        self._once: Table[str, float] = Table(ONCE)
        self._recent: collections.deque[tuple[float, str, str]] = collections.deque()
        self._clients: collections.Counter[str] = collections.Counter()
        self._strange: set[str] = set()  # of them those who are strangers, and don't live
        self._telling = Telling(4)
        self._since: float | None = None
        self._now, self._offered = 0.0, False
        self._raised = float("-inf")
        self._first: frozenset[str] = frozenset()
        self._later: set[str] = set()
        self._unanswered = False
        self._living: Table[str, bool] = Table(ONCE)
        self._half: tuple[float, frozenset[str]] | None = None  # when half of FAST were there, and who
        self._counted = float("-inf")

    def see(self, seen: Arp | Dhcp | DhcpProbe, at: float) -> Iterable[Said]:
        self._pass(at)
        if isinstance(seen, DhcpProbe):
            return self._probe(seen, at)
        if isinstance(seen, Arp):
            self._meet(seen.sender_mac, at)
            if seen.sender_mac == seen.frame.source:
                self._living.put(seen.sender_mac[:32], True)
                self._strange.discard(seen.sender_mac)
            return ()
        if probe_of_ronda(seen) or not seen.client_mac:
            return ()
        said = self._discover(seen, at) if seen.type == "discover" else ()
        self._meet(seen.client_mac, at)
        return said

    def tick(self, at: float) -> Iterable[Said]:
        self._pass(at)
        return ()

    def _pass(self, at: float) -> None:
        self._since = at if self._since is None else self._since
        self._now = at
        while self._recent and at - self._recent[0][0] >= SPAN:
            self._drop()

    def _meet(self, mac: str, at: float) -> None:
        """Known is who was seen twice with a pause between: a burst of invented MACs makes none known, and displaces nobody."""
        if len(mac) != 17:
            return
        first = self._once.get(mac)
        if mac in self._known or (first is not None and at - first >= APART):
            self._known.put(mac, at)
        elif first is None:
            self._once.put(mac, at)

    def _discover(self, seen: Dhcp, at: float) -> Iterator[Said]:
        mac = seen.client_mac[:32]
        sender = "" if seen.relay or seen.frame.source == mac else seen.frame.source
        self._recent.append((at, mac, sender))
        self._clients[mac] += 1
        if mac not in self._known and mac not in self._living and (local(mac) or self._grown(at)):
            self._strange.add(mac)
        if len(self._recent) > MOST:
            self._drop()
        many = len(self._recent) >= BURST and len(self._clients) >= CLIENTS
        if many and len(self._strange) >= STRANGE * len(self._clients):
            yield from self._burst(seen, mac, at)
        elif len(self._clients) >= FAST // 2 and at - self._counted >= 0.5:
            self._counted = at
            yield from self._fast(seen, at)

    def _fast(self, seen: Dhcp, at: float) -> Iterator[Said]:
        """Half as many begin it, and have our own probe ask; as many again, of whom none was there seconds before, confirm it."""
        lately = {mac for when, mac, _ in self._recent if at - when <= FAST_SPAN}
        dead = lately & self._strange
        if len(dead) < max(FAST // 2, STRANGE * len(lately)):
            return
        if self._half is None or at - self._half[0] > FAST_SPAN:
            self._half = at, frozenset(dead)
            yield from self._begin(at)
        elif at - self._half[0] >= LATER and len(dead) >= FAST and len(dead - self._half[1]) >= FAST // 2:
            self._raised = at
            yield from self._tell(self._senders(), (seen.frame,), at, sure=True)

    def _begin(self, at: float) -> Iterator[Said]:
        """A burst begins, unless there is one."""
        if at - self._raised >= self.rule.quiet:
            self._first, self._later, self._unanswered = frozenset(self._clients), set(), False
            self._raised = at
            yield Ask("dhcp")

    def _drop(self) -> None:
        _, mac, _ = self._recent.popleft()
        self._clients[mac] -= 1
        if not self._clients[mac]:
            del self._clients[mac]
            self._strange.discard(mac)

    def _burst(self, seen: Dhcp, mac: str, at: float) -> Iterator[Said]:
        yield from self._begin(at)
        self._raised = at
        if mac not in self._first and len(self._later) < CLIENTS:
            self._later.add(mac)
        if self._telling_due(at):
            yield from self._tell(self._senders(), (seen.frame,), at)

    def _senders(self) -> Mapping[str, int]:
        return collections.Counter(sender for _, _, sender in self._recent if sender)

    def _telling_due(self, at: float) -> bool:
        """Once a second is often enough to look at all of them."""
        due = at - self._looked >= 1.0
        self._looked = at if due else self._looked
        return due

    _looked = float("-inf")

    def _tell(self, senders: Mapping[str, int], frames: tuple[Frame, ...], at: float, *, sure: bool = False) -> Iterator[Finding]:
        """One Ethernet sender behind most of the invented clients is the one who invents them; without it nobody is accused."""
        sender, most = max(senders.items(), key=lambda item: item[1], default=("", 0))
        sender = sender if most >= STRANGE * len(self._recent) else ""
        sure = sure or self._unanswered or bool(sender) or len(self._later) >= CLIENTS
        words = f"{len(self._clients)} clients asked for an address within a minute, most of them never seen before"
        fields = {"ronda.distinct_macs": str(len(self._clients)), "ronda.discovers": str(len(self._recent)), "source.mac": sender}
        fields["ronda.pool"] = "no offers any more" if self._unanswered else ""
        finding = Finding("dhcp_starvation", "dhcp", "high", "certain" if sure else "likely", words, "open", sure, fields, sender)
        yield from self._telling.say(finding._replace(frames=frames), at)

    def _probe(self, seen: DhcpProbe, at: float) -> Iterator[Said]:
        """An office whose server answered before, and after the burst does so no more: the addresses are gone."""
        if seen.offers:
            self._offered = True
        elif self._offered and at - self._raised < self.rule.quiet and not self._unanswered:
            self._unanswered = True
            yield from self._tell({}, (), at)

    def _grown(self, at: float) -> bool:
        return at - (at if self._since is None else self._since) >= DAY

    def coverage(self, able: frozenset[str]) -> Coverage:
        if "capture" not in able:
            return Coverage(0.0, "no_capture")
        return Coverage(1.0) if self._grown(self._now) else Coverage(0.5, "learning")

    def remember(self) -> Mapping[str, Any]:
        known = {mac: round(self._now - at) for mac, at in self._known.items() if self._now - at <= KEPT}
        return {"age": self._now - (self._now if self._since is None else self._since), "known": known, "offered": self._offered}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        known = {str(mac): at - max(0.0, float(age)) for mac, age in said["known"].items()}
        since = at - max(0.0, float(said["age"]))
        for mac, last in list(known.items())[:KNOWN]:
            self._known.put(mac, last)
        self._since, self._now, self._offered = since, at, bool(said["offered"])
