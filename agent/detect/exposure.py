"""What the office's router offers to everybody in the office (router_exposed, R04), by one look a day (agent/capture/exposure.py).

Law: FTP, telnet and the unencrypted API, over which passwords go as they are, and SNMP that answers to the community `public` are "high"
from the first look on. All else that the first look finds is how it was left: another port that opens later is "medium". Each is one case
until a look doesn't find it, or somebody accepts it. What the config allows (`router_ports`; 161 is SNMP with `public`) is none.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

from agent.detect.ground import Ground, host_address, seconds
from agent.detect.model import Coverage, Finding, Grade, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import Exposed, Neighbours, Network
from agent.detect.telling import AGAIN, Telling

PORTS: Final = (21, 22, 23, 80, 443, 2000, 8291, 8728, 8729)
SNMP: Final = 161
PLAIN: Mapping[int, str] = {
    21: "the router offers FTP to the office, which sends passwords unencrypted",
    23: "the router offers telnet to the office, which sends passwords unencrypted",
    8728: "the router offers its unencrypted API to the office",
    SNMP: "the router answers SNMP to everybody who says public",
}
NAMES: Mapping[int, str] = {
    21: "ftp", 22: "ssh", 23: "telnet", 80: "http", 443: "https", 2000: "bandwidth-test", 8291: "winbox", 8728: "api", 8729: "api-ssl",
    SNMP: "snmp",
}  # fmt: skip
DAY, STALE = 86400.0, 2.5 * 86400.0
TARGETS = 8


@dataclasses.dataclass(slots=True)
class _Router:
    """at: of the last look; open: what it found; known: how it was left, and what people have accepted."""

    at: float
    open: set[int] = dataclasses.field(default_factory=set)
    known: set[int] = dataclasses.field(default_factory=set)


class RouterExposed(Plain):
    rule: ClassVar[Rule] = Rule("router_exposed", "R04", "1", "configuration", ("T1190", "T1602.001"), quiet=3 * DAY)
    wants: ClassVar[tuple[type, ...]] = (Network, Neighbours, Exposed)

    def __init__(self, vouched: Vouched) -> None:
        self._allowed = vouched.router_ports
        self._ground = Ground()
        self._routers: Table[str, _Router] = Table(TARGETS)
        self._now = 0.0
        self._telling = Telling(again=AGAIN)

    @property
    def age(self) -> float | None:
        """Seconds since the last look at a gateway; None: there was none."""
        ats = [router.at for router in self._routers.values()]
        return self._now - max(ats) if ats else None

    @property
    def open(self) -> Mapping[int, bool]:
        """By port, of the gateway that was looked at last; empty before the first look."""
        latest = max(self._routers.values(), key=lambda router: router.at, default=None)
        return {port: port in latest.open for port in (*PORTS, SNMP)} if latest else {}

    def see(self, seen: Any, at: float) -> Iterable[Said]:
        self._now = at
        if self._ground.hear(seen) or not isinstance(seen, Exposed) or not host_address(seen.target):
            return ()
        return self._looked(seen, at)

    def tick(self, at: float) -> Iterable[Said]:
        self._now = at
        return ()

    def _looked(self, seen: Exposed, at: float) -> Iterator[Said]:
        found = {port for port in seen.ports if port in PORTS} | ({SNMP} if seen.snmp else set())
        router = self._routers.get(seen.target)
        if router is None:
            router = self._routers.put(seen.target, _Router(at, known=found - PLAIN.keys()))
        router.at, router.open = at, found
        for port in sorted((*PORTS, SNMP)):
            key = f"{seen.target} {port}"
            if port in found - router.known - self._allowed:
                yield from self._telling.say(self._finding(key, port, seen), at)
            else:
                self._telling.close(key)
                yield Finding(self.rule.name, key, "info", "certain", "the router no longer offers it to the office", state="closed")

    def _finding(self, key: str, port: int, seen: Exposed) -> Finding:
        grade: Grade = "high" if port in PLAIN else "medium"
        message = PLAIN.get(port, "the router offers another service to the office than before")
        fields = {"ronda.gateway": seen.target, "ronda.port": str(port), "service.type": NAMES[port]}
        fields |= {"server.mac": mac} if (mac := self._ground.bindings.get(seen.target, "")) else {}
        if port == SNMP:
            fields["ronda.snmp_version"] = seen.snmp
        return Finding(self.rule.name, key, grade, "certain", message, confirmed=True, fields=fields)

    # -- what people and restarts bring ---------------------------------------------------------------------------------------

    def accept(self, key: str, at: float) -> bool:  # noqa: ARG002  (the contract's)
        """An operator says that this port may be open."""
        target, _, port = key.partition(" ")
        router = self._routers.get(target)
        if router is None or port not in map(str, (*PORTS, SNMP)):
            return False
        router.known.add(int(port))
        return self._telling.close(key)

    def coverage(self, able: frozenset[str]) -> Coverage:
        if self._ground.told and not self._ground.gateways:
            return Coverage(0.0, "no_gateway")
        if "exposure" not in able:
            return Coverage(0.0, "no_probe")
        age = self.age
        return Coverage(1.0) if age is not None and age <= STALE else Coverage(0.5, "not_looked")

    def remember(self) -> Mapping[str, Any]:
        rows = [[target, round(self._now - r.at, 1), sorted(r.open), sorted(r.known)] for target, r in self._routers.items()]
        return {"routers": rows} if rows else {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        taken = []
        for target, age, found, known in said["routers"][-TARGETS:]:
            if not host_address(target):
                raise ValueError("not an address")
            taken.append((target, _Router(at - seconds(age), _ports(found), _ports(known))))
        self._now = at
        for target, router in taken:
            self._routers.put(target, router)


def _ports(many: Any) -> set[int]:
    ports = set(many)
    if not all(type(port) is int for port in ports) or not ports <= {*PORTS, SNMP}:
        raise ValueError("not ports that are looked at")
    return ports
