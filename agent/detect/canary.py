"""name_poisoner: somebody answers for names that cannot exist, to have passwords sent to him.

Law: one answer is an accident; the same responder's answer to a second, other name is a liar. He is known by his MAC where it is known: the
address in his answer may be anybody's, and who really has it is never accused.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import ClassVar

from agent.detect.here import Here
from agent.detect.model import Ask, Confidence, Finding, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import Canary, Neighbours, Network
from agent.detect.telling import Telling

RESPONDERS, NAMES, AT_ONCE, FORGET, ASK = 64, 8, 16, 3600.0, 10.0


@dataclasses.dataclass(slots=True)
class _Responder:
    last: float
    names: set[str] = dataclasses.field(default_factory=set)
    protocols: set[str] = dataclasses.field(default_factory=set)


class NamePoisoner(Plain):
    """One finding a responder, critical from his second name on."""

    rule: ClassVar[Rule] = Rule("name_poisoner", "L14", "1", "intrusion_detection", ("T1557.001",), quiet=3600.0)
    wants: ClassVar[tuple[type, ...]] = (Network, Neighbours, Canary)
    needs: ClassVar[str] = "canary"
    blind: ClassVar[str] = "no_canary"

    def __init__(self, vouched: Vouched) -> None:  # noqa: ARG002  (nobody is vouched for who answers for what isn't)
        self._responders: Table[str, _Responder] = Table(RESPONDERS)
        self._here, self._telling = Here(), Telling(RESPONDERS, 600.0)
        self._asked = float("-inf")

    def see(self, seen: Network | Neighbours | Canary, at: float) -> Iterable[Said]:
        if isinstance(seen, Canary):
            return self._answered(seen, at)
        self._here.hear(seen)
        return ()

    def _answered(self, seen: Canary, at: float) -> Iterator[Said]:
        sure = True
        for address, mac in seen.answered[:AT_ONCE]:
            if address in self._here.addresses or mac in self._here.macs or not (mac or address):
                continue
            finding = self._judge(seen, address, mac, at)
            sure = sure and finding.confirmed
            yield from self._telling.say(finding, at)
        if not sure and at - self._asked >= ASK:
            self._asked = at
            yield Ask("canary")

    def _judge(self, seen: Canary, address: str, mac: str, at: float) -> Finding:
        who = (mac or address)[:64]
        row = self._responders.get(who)
        if row is None or at - row.last > FORGET:
            row = self._responders.put(who, _Responder(at))
        row.last = at
        if len(row.names) < NAMES:
            row.names.add(seen.name.lower().split(".")[0][:64])
        row.protocols.add(seen.protocol[:8])
        sure = len(row.names) >= 2
        helper = address in self._here.gateways | self._here.resolvers  # a router that answers for all names: wrong, and perhaps no malice
        words = f"somebody answered for {len(row.names)} names that cannot exist"
        words += "; it is the router or resolver, which may answer for all names" if helper else ""
        fields = {"source.mac": mac, "ronda.protocols": ",".join(sorted(row.protocols)), "ronda.names": str(len(row.names))}
        if not self._here.forged(address, mac):
            fields["source.ip"] = address
        confidence: Confidence = "certain" if sure and not helper else "likely"
        return Finding("name_poisoner", who, "critical" if sure else "medium", confidence, words, "open", sure, fields, who)
