"""rogue_ra: somebody says that he is the office's IPv6 router, or its DHCPv6 server, and nobody knows him.

Law: what hosts must refuse is refused here as well and counted: a hop limit other than 255 has been through a router, a source that isn't
link-local is none (RFC 4861 6.1.2). Who speaks in a router's name from another MAC is accused by that MAC; where the MAC is the router's
own, nobody is: it may be forged, and the router is the victim.

Learnt is the first router, if its MAC is the IPv4 gateway's or that isn't known. A second advertisement confirms.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from agent.detect.here import Here
from agent.detect.model import Coverage, Finding, Grade, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import Dhcp6, Frame, Neighbours, Network, RouterAdvert
from agent.detect.telling import Telling

LEARN = 3600.0  # a router may keep silent for half an hour (RFC 4861 6.2.1: MaxRtrAdvInterval)
SETTLED = 3600.0  # what a known router has said for so long is so
ROUTERS, SUSPECTS, TEXTS = 8, 64, 8


@dataclasses.dataclass(slots=True)
class _Router:
    address: str = ""
    prefixes: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    ended: float = float("-inf")  # when it last said that it is none (lifetime 0)
    flaps: int = 0
    news: float = float("-inf")  # since when it names another resolver
    told: int = 0


@dataclasses.dataclass(slots=True)
class _Suspect:
    first: float
    count: int = 0
    grade: Grade = "low"
    frames: tuple[Frame, ...] = ()

    def note(self, frame: Frame) -> None:
        self.count += 1
        if len(self.frames) < 4:
            self.frames = (*self.frames, frame)


class RogueRa(Plain):
    """A router or DHCPv6 server that nobody knows, or one that speaks in another's name."""

    rule: ClassVar[Rule] = Rule("rogue_ra", "L07", "1", "intrusion_detection", ("T1557",), quiet=1800.0)
    wants: ClassVar[tuple[type, ...]] = (Network, Neighbours, RouterAdvert, Dhcp6)

    def __init__(self, vouched: Vouched) -> None:
        self._vouched = vouched.routers
        self._known: Table[str, _Router] = Table(ROUTERS)
        self._servers: Table[str, bool] = Table(ROUTERS)  # DUIDs
        self._suspects: Table[str, _Suspect] = Table(SUSPECTS)
        self._here, self._telling = Here(), Telling(SUSPECTS)
        self._since: float | None = None
        self._now, self.ignored = 0.0, 0

    @property
    def routers(self) -> int:
        return len(self._known)

    def see(self, seen: Network | Neighbours | RouterAdvert | Dhcp6, at: float) -> Iterable[Said]:
        self.tick(at)
        if isinstance(seen, RouterAdvert):
            return self._advert(seen, at)
        if isinstance(seen, Dhcp6):
            return self._server(seen, at)
        self._here.hear(seen)
        return ()

    def tick(self, at: float) -> Iterable[Said]:
        self._since = at if self._since is None else self._since
        self._now = at
        return ()

    def _learning(self) -> bool:
        return self._now - (self._now if self._since is None else self._since) < LEARN

    # -- advertisements --------------------------------------------------------------------------------------------------------

    def _advert(self, seen: RouterAdvert, at: float) -> Iterator[Said]:
        if self._here.sent(seen.frame, seen.source):
            return
        if seen.hops != 255 or not seen.source.lower().startswith("fe80:"):
            self.ignored += 1
            return
        mac = (seen.frame.source or seen.mac or seen.source)[:64]
        if mac in self._vouched:
            self._take(mac, seen)
            return
        known = self._known.get(mac)
        if known is not None:
            yield from self._known_says(mac, known, seen, at)
        elif self._learns(mac, seen):
            self._take(mac, seen)
        else:
            yield from self._stranger(mac, seen, at)

    def _take(self, mac: str, seen: RouterAdvert) -> _Router:
        router = self._known.get(mac) or self._known.put(mac, _Router())
        router.address = seen.source[:64]
        router.prefixes = tuple(prefix.network[:64] for prefix in seen.prefixes[:TEXTS]) or router.prefixes
        router.dns = tuple(text[:64] for text in seen.dns[:TEXTS]) or router.dns
        return router

    def _learns(self, mac: str, seen: RouterAdvert) -> bool:
        if self._victim(mac, seen):
            return False
        if mac in self._here.routers:
            return True
        agrees = not len(self._known) or (bool(seen.prefixes) and not self._new_dns(seen) and not self._new_prefix(seen))
        return self._learning() and not self._vouched and not self._here.routers and agrees

    def _victim(self, mac: str, seen: RouterAdvert) -> bool:
        """Whether it speaks in the name of a known router that has another MAC."""
        return any(router.address == seen.source and name != mac for name, router in self._known.items())

    def _new_dns(self, seen: RouterAdvert) -> bool:
        return not {text for _, router in self._known.items() for text in router.dns}.issuperset(seen.dns[:TEXTS])

    def _new_prefix(self, seen: RouterAdvert) -> bool:
        known = {text for _, router in self._known.items() for text in router.prefixes}
        return not known.issuperset(prefix.network for prefix in seen.prefixes[:TEXTS])

    def _stranger(self, mac: str, seen: RouterAdvert, at: float) -> Iterator[Finding]:
        victim = self._victim(mac, seen)
        grade, words = self._judge(seen, victim)
        row = self._suspects.get(mac) or self._suspects.put(mac, _Suspect(at))
        row.note(seen.frame)
        sure = row.count >= 2 and at - row.first >= 1.0
        fields = _said(seen) | {"source.mac": mac, "source.ip": "" if victim else seen.source}
        finding = Finding("rogue_ra", mac, grade, "certain" if sure else "likely", words, "open", sure, fields, mac)
        yield from self._telling.say(finding._replace(frames=row.frames), at)

    def _judge(self, seen: RouterAdvert, victim: bool) -> tuple[Grade, str]:
        if victim and seen.lifetime == 0:
            return "critical", "somebody says in the name of the known router that it is none any more"
        if seen.dns and self._new_dns(seen):
            return "critical", "an IPv6 router that isn't known advertises itself, and a resolver of its own"
        if victim:
            return "critical", "somebody advertises himself in the name of the known router"
        if seen.lifetime == 0 and all(_local(prefix.network) for prefix in seen.prefixes):
            return "low", "a device advertises a local prefix and no way out, as some access points do"
        where = "beside the known one" if len(self._known) else "where there is none"
        return "high", f"an IPv6 router that isn't known advertises itself {where}"

    def _known_says(self, mac: str, router: _Router, seen: RouterAdvert, at: float) -> Iterator[Finding]:
        words: tuple[Grade, str] | None = None
        if seen.lifetime == 0:
            router.ended = at
        elif at - router.ended <= 1800.0:
            router.ended, router.flaps = float("-inf"), router.flaps + 1
            if router.flaps >= 2:
                words = "high", "the router says by turns that it is one and that it is none: somebody may speak in its name"
        if seen.dns and router.dns and not set(router.dns).issuperset(seen.dns):
            router.news = at if router.news == float("-inf") else router.news
            router.told += 1
            words = "critical", "the known router names another resolver than before, or somebody does in its name"
        if words is None or at - router.news > SETTLED:
            self._take(mac, seen)
            router.news, router.told = float("-inf"), 0
        if words is not None:
            sure = router.flaps >= 2 or router.told >= 2
            finding = Finding("rogue_ra", f"known {mac}", words[0], "likely", words[1], "open", sure, _said(seen))
            yield from self._telling.say(finding._replace(frames=(seen.frame,)), at)

    # -- DHCPv6 ----------------------------------------------------------------------------------------------------------------

    def _server(self, seen: Dhcp6, at: float) -> Iterator[Finding]:
        duid, mac = seen.server_duid[:64], seen.frame.source
        if seen.type not in ("advertise", "reply") or not duid or self._here.sent(seen.frame, seen.source):
            return
        fine = duid in self._servers or mac in self._vouched or mac in self._here.routers
        if fine or (self._learning() and not len(self._servers)):
            self._servers.put(duid, True)
            return
        row = self._suspects.get(f"dhcp6 {duid}") or self._suspects.put(f"dhcp6 {duid}", _Suspect(at))
        row.note(seen.frame)
        sure = row.count >= 2 and at - row.first >= 1.0
        fields = {"ronda.server_duid": duid, "ronda.dhcp_dns": " ".join(seen.dns[:4]), "source.mac": mac, "source.ip": seen.source}
        words = "a DHCPv6 server that isn't known answers"
        finding = Finding("rogue_ra", f"dhcp6 {duid}", "high", "likely", words, "open", sure, fields, mac or seen.source)
        yield from self._telling.say(finding._replace(frames=row.frames), at)

    # -- the rest of the contract ----------------------------------------------------------------------------------------------

    def coverage(self, able: frozenset[str]) -> Coverage:
        if "capture" not in able:
            return Coverage(0.0, "no_capture")
        return Coverage(0.5, "learning") if self._learning() and not self._vouched else Coverage(1.0)

    def remember(self) -> Mapping[str, Any]:
        routers = {mac: [r.address, list(r.prefixes), list(r.dns)] for mac, r in self._known.items()}
        age = self._now - (self._now if self._since is None else self._since)
        return {"age": age, "routers": routers, "servers": [duid for duid, _ in self._servers.items()]}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        since = at - max(0.0, float(said["age"]))
        routers = {
            str(mac): _Router(str(address), tuple(map(str, prefixes))[:TEXTS], tuple(map(str, dns))[:TEXTS])
            for mac, (address, prefixes, dns) in said["routers"].items()
        }
        servers = [str(duid) for duid in list(said["servers"])[:ROUTERS]]
        self._since, self._now = since, at
        for mac, router in list(routers.items())[:ROUTERS]:
            self._known.put(mac, router)
        for duid in servers:
            self._servers.put(duid, True)


def _local(network: str) -> bool:
    """Unique local, RFC 4193."""
    return network[:2].lower() in ("fc", "fd")


def _said(seen: RouterAdvert) -> dict[str, str]:
    return {
        "ronda.lifetime": str(seen.lifetime)[:16], "ronda.preference": seen.preference, "ronda.rdnss": " ".join(seen.dns[:TEXTS]),
        "ronda.prefixes": " ".join(prefix.network for prefix in seen.prefixes[:TEXTS]),
    }  # fmt: skip
