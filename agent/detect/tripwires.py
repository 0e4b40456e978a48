"""tripwire: somebody completes a connection to a port of this box that serves nothing.

Law: one connection without a byte is a click in "Network", and low. Two tripwires, or something sent, are a visitor who looks for what he
can break: the second is the confirmation. Who completes a TCP connection has the address that he says.
"""

from collections.abc import Iterable, Iterator
from typing import ClassVar

from agent.detect.here import Here
from agent.detect.model import Finding, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import Neighbours, Network
from agent.detect.seen import Tripwire as Hit
from agent.detect.telling import Telling

SOURCES, PORTS, HOUR = 256, 32, 3600.0


class Tripwire(Plain):
    """One source within an hour is one case."""

    rule: ClassVar[Rule] = Rule("tripwire", "L12", "1", "intrusion_detection", ("T1046", "T1110"), quiet=HOUR)
    wants: ClassVar[tuple[type, ...]] = (Network, Neighbours, Hit)
    needs: ClassVar[str] = "tripwires"
    blind: ClassVar[str] = "no_tripwires"

    def __init__(self, vouched: Vouched) -> None:
        self._vouched = vouched.scanners
        self._hits: Table[str, tuple[float, frozenset[int], bool]] = Table(SOURCES)  # last hit, ports, whether something was sent
        self._here, self._telling = Here(), Telling(SOURCES)

    def see(self, seen: Network | Neighbours | Hit, at: float) -> Iterable[Said]:
        if isinstance(seen, Hit):
            return self._hit(seen, at)
        self._here.hear(seen)
        return ()

    def _hit(self, seen: Hit, at: float) -> Iterator[Finding]:
        source = seen.source[:64]
        if source in self._vouched or source in self._here.addresses:
            return
        last, ports, sent = self._hits.get(source) or (at, frozenset(), False)
        if at - last > HOUR:
            ports, sent = frozenset(), False
        ports = ports | {seen.port} if len(ports) < PORTS else ports
        sent = sent or seen.sent > 0
        self._hits.put(source, (at, ports, sent))
        graver = len(ports) >= 2 or sent
        words = f"somebody connected to {len(ports)} ports that serve nothing" + (" and sent something" if sent else "")
        fields = {"source.ip": source, "source.mac": self._here.bindings.get(source, ""), "ronda.sent": "yes" if sent else "no"}
        fields["destination.port"] = ",".join(str(port) for port in sorted(ports))
        yield from self._telling.say(
            Finding("tripwire", source, "high" if graver else "low", "certain", words, "open", graver, fields, source), at
        )
