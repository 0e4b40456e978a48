"""ARP as no honest stack sends it (arp_anomaly, L03).

Law: an anomaly is evidence for others' findings and "low" alone. Per sender, five in a minute. Honest are: probes with sender 0.0.0.0 (RFC
5227; some come from another source MAC), questions asked of one host to see whether it is still there (RFC 1122 2.3.2.1), announcements,
link-local senders (RFC 3927), and a second network on the wire: one that three MACs speak from.
"""

import collections
import dataclasses
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

from agent.detect.ground import Ground, address, host_mac, of_ronda, short
from agent.detect.model import Coverage, Finding, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import BROADCAST, NO_MAC, Arp, Frame, Neighbours, Network
from agent.detect.telling import Telling

OFTEN, WITHIN = 5, 60.0
SPEAKERS = 3
SOURCES, SECOND = 1024, 256
KINDS: Final = ("mismatch", "no_mac", "off_subnet")
SAID: Mapping[str, str] = {
    "mismatch": "ARP that names another sender than the frame's own",
    "no_mac": "ARP answers that give an address to everybody or to nobody",
    "off_subnet": "ARP from an address that is of no network here",
}


@dataclasses.dataclass(slots=True)
class _Row:
    times: collections.deque[float] = dataclasses.field(default_factory=lambda: collections.deque(maxlen=OFTEN))
    frames: collections.deque[Frame] = dataclasses.field(default_factory=lambda: collections.deque(maxlen=4))
    kinds: dict[str, None] = dataclasses.field(default_factory=dict)


class ArpAnomaly(Plain):
    """`counts`: anomalies so far by kind, for ronda_arp_anomalies_total."""

    rule: ClassVar[Rule] = Rule("arp_anomaly", "L03", "1", "network", ("T1557.002",), quiet=1800.0)
    wants: ClassVar[tuple[type, ...]] = (Network, Neighbours, Arp)

    def __init__(self, vouched: Vouched) -> None:
        self._vouched = vouched.routers
        self._ground = Ground()
        self._rows: Table[str, _Row] = Table(SOURCES)
        self._second: Table[str, dict[str, None]] = Table(SECOND)  # a network of no wire here → who speaks from it
        self._telling = Telling()
        self.counts: collections.Counter[str] = collections.Counter()

    def see(self, seen: Any, at: float) -> Iterable[Said]:
        if self._ground.hear(seen) or not isinstance(seen, Arp):
            return ()
        source, sender = host_mac(seen.frame.source), host_mac(seen.sender_mac)
        if not source or source in self._ground.macs or of_ronda(source) or {source, sender} & self._vouched:
            return ()
        kind = self._kind(seen, source, sender)
        return self._counted(kind, source, seen, at) if kind else ()

    def _kind(self, seen: Arp, source: str, sender: str) -> str:
        if seen.op not in (1, 2):
            return ""
        if seen.op == 2 and seen.sender_mac.lower() in (BROADCAST, NO_MAC):
            return "no_mac"
        found = address(seen.sender)
        if found is None or found.is_unspecified:  # a probe
            return ""
        if sender and sender != source:
            return "mismatch"
        return "off_subnet" if self._ground.afar(seen.sender) and self._alone(seen.sender, source) else ""

    def _alone(self, sender: str, source: str) -> bool:
        """Whether hardly anybody speaks from there."""
        network = str(ipaddress.ip_network(f"{sender.partition('%')[0]}/24", strict=False)) if "." in sender else sender
        speakers = self._second.get(network) or self._second.put(network, {})
        if len(speakers) < SPEAKERS:
            speakers[source] = None
        return len(speakers) < SPEAKERS

    def _counted(self, kind: str, source: str, seen: Arp, at: float) -> Iterator[Said]:
        self.counts[kind] += 1
        row = self._rows.get(source) or self._rows.put(source, _Row())
        row.times.append(at)
        row.frames.append(short(seen.frame))
        row.kinds[kind] = None
        if len(row.times) < OFTEN or at - row.times[0] > WITHIN:
            return
        fields = {
            "source.mac": source,
            "source.ip": seen.sender,
            "ronda.arp_mac": seen.sender_mac,
            "ronda.kinds": ",".join(sorted(row.kinds)),
        }
        finding = Finding(self.rule.name, source, "low", "likely", SAID[kind], fields=fields, source=source, frames=tuple(row.frames))
        yield from self._telling.say(finding, at)
        row.kinds.clear()

    def coverage(self, able: frozenset[str]) -> Coverage:
        """What others send to one another never comes to an access port."""
        return Coverage(0.5, "access_port") if "capture" in able else Coverage(0.0, "no_capture")
