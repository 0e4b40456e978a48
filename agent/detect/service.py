"""service_lost: what was there is gone: offers of DHCP, the gateway on the wire, the router's advertisements.

Law: only what was once there can be lost, and three misses are one loss. Silent while the cable is out, and for a minute after. It says
itself when it is over.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from agent.detect.here import Here
from agent.detect.model import Ask, Coverage, Finding, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import ArpProbe, Carrier, Dhcp, DhcpProbe, Neighbours, Network, RouterAdvert

MISSES, GRACE, ASK, GONE = 3, 60.0, 10.0, 30.0
ADVERTS = 3  # so many make a router that was there
GATEWAYS = 8
LONGEST = 9000.0  # of a router's lifetime, RFC 4861 6.2.1
WORDS = {
    "dhcp": "no offer of an address any more, where there was one",
    "gateway": "the gateway answers on the wire no more: its address is asked for in vain",
    "ra": "the IPv6 router advertises itself no more: what it promised has run out",
}


class ServiceLost(Plain):
    """Availability, not an attack: but what an attack takes away first."""

    rule: ClassVar[Rule] = Rule("service_lost", "L09", "1", "network")
    wants: ClassVar[tuple[type, ...]] = (Network, Neighbours, Carrier, Dhcp, DhcpProbe, ArpProbe, RouterAdvert)

    def __init__(self, vouched: Vouched) -> None:  # noqa: ARG002  (there is nothing to vouch for)
        self._here = Here()
        self._open: set[str] = set()
        self._up, self._calm = True, float("-inf")
        self._dhcp, self._misses = False, 0
        self._alive: Table[str, float] = Table(GATEWAYS)  # gateway: when it was last there
        self._vain: dict[str, int] = {}
        self._asked = float("-inf")
        self._promised, self._until, self._adverts = 0.0, float("inf"), 0

    def see(self, seen: Any, at: float) -> Iterable[Said]:
        if isinstance(seen, Carrier):
            return self._carrier(seen, at)
        if isinstance(seen, Network | Neighbours):
            self._here.hear(seen)
            return self._table(at) if isinstance(seen, Neighbours) and self._ready(at) else ()
        if isinstance(seen, Dhcp):
            return self._offered(at) if seen.type in ("offer", "ack") else ()
        if isinstance(seen, RouterAdvert):
            return self._advert(seen, at)
        if not self._ready(at):
            return ()
        return self._probe(seen, at) if isinstance(seen, DhcpProbe) else self._asked_for(seen, at)

    def tick(self, at: float) -> Iterable[Said]:
        if self._promised and at >= self._until and self._ready(at):
            return self._lost("ra", at)
        return ()

    def _ready(self, at: float) -> bool:
        return self._up and at - self._calm >= GRACE

    def _carrier(self, seen: Carrier, at: float) -> Iterable[Said]:
        if seen.up and not self._up:
            self._calm = at
            self._until = max(self._until, at + self._promised + GRACE)
        self._up = seen.up
        self._misses = 0
        self._vain.clear()
        return ()

    # -- DHCP ------------------------------------------------------------------------------------------------------------------

    def _probe(self, seen: DhcpProbe, at: float) -> Iterable[Said]:
        if seen.offers:
            return self._offered(at)
        self._misses += 1
        return self._lost("dhcp", at) if self._dhcp and self._misses >= MISSES else ()

    def _offered(self, at: float) -> Iterator[Said]:
        self._dhcp, self._misses = True, 0
        yield from self._back("dhcp", at)

    # -- the gateway -----------------------------------------------------------------------------------------------------------

    def _table(self, at: float) -> Iterator[Said]:
        """The kernel forgets whom nobody talks to: so a missing entry is a question, and the answer counts."""
        for gateway in sorted(self._here.gateways)[:GATEWAYS]:
            if ":" in gateway:
                continue
            if gateway in self._here.bindings:
                yield from self._there(gateway, at)
            elif gateway in self._alive and at - self._asked >= ASK:
                self._asked = at
                yield Ask("arp", gateway)

    def _asked_for(self, seen: ArpProbe, at: float) -> Iterator[Said]:
        if seen.target not in self._here.gateways or seen.target in self._here.bindings:
            return
        if seen.macs:
            yield from self._there(seen.target, at)
            return
        last = self._alive.get(seen.target)
        if seen.target in self._vain or len(self._vain) < GATEWAYS:
            self._vain[seen.target] = self._vain.get(seen.target, 0) + 1
        if last is not None and self._vain.get(seen.target, 0) >= MISSES and at - last >= GONE:
            yield from self._lost("gateway", at, seen.target)

    def _there(self, gateway: str, at: float) -> Iterator[Said]:
        self._alive.put(gateway, at)
        self._vain.pop(gateway, None)
        yield from self._back("gateway", at)

    # -- advertisements --------------------------------------------------------------------------------------------------------

    def _advert(self, seen: RouterAdvert, at: float) -> Iterator[Said]:
        """Its own lifetime says until when hosts may rely on it; a router that says good-bye (0) isn't lost."""
        if seen.hops != 255 or self._here.sent(seen.frame, seen.source):
            return
        if seen.lifetime > 0:
            self._adverts = min(self._adverts + 1, ADVERTS)
            self._promised = max(min(float(seen.lifetime), LONGEST), GRACE) if self._adverts >= ADVERTS else 0.0
            self._until = at + self._promised
            yield from self._back("ra", at)

    # -- what is said ----------------------------------------------------------------------------------------------------------

    def _lost(self, what: str, at: float, who: str = "") -> Iterator[Finding]:  # noqa: ARG002  (as all that say)
        if what not in self._open:
            self._open.add(what)
            fields = {"ronda.service": what, "destination.ip": who[:64]} if who else {"ronda.service": what}
            yield Finding("service_lost", what, "high", "certain", WORDS[what], "open", True, fields)

    def _back(self, what: str, at: float) -> Iterator[Finding]:  # noqa: ARG002  (as all that say)
        if what in self._open:
            self._open.discard(what)
            yield Finding("service_lost", what, "high", "certain", f"{WORDS[what]}: it is back", "closed", True)

    def coverage(self, able: frozenset[str]) -> Coverage:
        if "send" in able:
            return Coverage(1.0)
        return Coverage(0.5, "no_send") if able & {"capture", "neighbours"} else Coverage(0.0, "no_capture")

    def remember(self) -> Mapping[str, Any]:
        return {"dhcp": self._dhcp, "promised": self._promised, "gateways": [g for g, _ in self._alive.items()], "open": sorted(self._open)}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        dhcp, promised = bool(said["dhcp"]), float(said["promised"])
        gateways, was = [str(g)[:64] for g in list(said["gateways"])[:GATEWAYS]], {str(what) for what in said["open"]} & WORDS.keys()
        self._dhcp, self._promised, self._open = dhcp, min(max(promised, 0.0), LONGEST), was
        self._until, self._adverts = at + self._promised + GRACE, ADVERTS if self._promised else 0
        for gateway in gateways:
            self._alive.put(gateway, at)
