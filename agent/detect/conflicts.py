"""Two devices have one address, and now the one is reached, now the other (ip_conflict, L02).

Law: a change alone is none: addresses are given on. At the first change we ask who has the address (ARP with sender 0.0.0.0, RFC 5227: no
cache is changed by it): if both answer, twice in a row, both are there. Or two MACs take turns (two changes within ten minutes), and both
answer once. Without a probe's answer only turns are told, and unconfirmed.
Not told: a router that answers for many (proxy ARP, RFC 1027: a gateway's MAC with more than eight addresses), a Bonjour sleep proxy that
answers for sleepers, one machine with two cards that answers on both for both of its addresses. Who was there first is never accused; where
nobody was clearly first, nobody is.
"""

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from agent.detect.ground import Ground, host_address, host_mac, of_ronda, short
from agent.detect.model import Ask, Coverage, Finding, Grade, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import Arp, ArpProbe, Frame, NameAnswer, Neighbours, Network
from agent.detect.telling import Telling

WINDOW, CHANGES = 600.0, 2
OFTEN = 4  # changes that are told even where no probe can be sent
ANSWER = 15.0  # how long a probe's answer is waited for
ASK, ASKS, ASKS_WITHIN = 60.0, 8, 60.0
TWICE = 2  # probes in a row that both answer, where they haven't taken turns: an address that is given on may have two for a moment
FIRST = 60.0  # who had the address that much longer was there first
PROXY = 8  # addresses of one MAC, from which on a gateway's is a proxy's
ADDRESSES, MACS, PROXIES = 2048, 4, 16
SLEEP_PROXY = "_sleep-proxy._udp"


@dataclasses.dataclass(slots=True)
class _Row:
    """Who claims one address. macs: MAC → (first, last); asked: when we last asked because of turns, wondered: because of a first change;
    waits: a question waits for its answer; both: answers in a row that came from both; turned: they have taken turns, or it is ours.
    """

    macs: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    holder: str = ""
    changes: collections.deque[float] = dataclasses.field(default_factory=lambda: collections.deque(maxlen=OFTEN))
    asked: float = float("-inf")
    wondered: float = float("-inf")
    waits: bool = False
    both: int = 0
    turned: bool = False
    frames: dict[str, Frame] = dataclasses.field(default_factory=dict)

    def claim(self, mac: str, at: float, frame: Frame | None) -> bool:
        """Whether the holder has changed."""
        changed = bool(self.holder) and mac != self.holder
        self.macs[mac] = (self.macs.get(mac, (at, at))[0], at)
        if len(self.macs) > MACS:
            gone = min((m for m in self.macs if m != mac), key=lambda m: self.macs[m][1])
            del self.macs[gone]
            self.frames.pop(gone, None)
        if frame:
            self.frames[mac] = frame
        if changed:
            self.changes.append(at)
        self.holder = mac
        return changed

    def turns(self, at: float) -> int:
        """How often it changed hands lately."""
        return sum(at - change <= WINDOW for change in self.changes)

    def lately(self, at: float) -> list[str]:
        """Who has it, the one that had it first at the head."""
        return sorted((mac for mac, (_, last) in self.macs.items() if at - last <= WINDOW), key=lambda mac: self.macs[mac][0])


class IpConflict(Plain):
    rule: ClassVar[Rule] = Rule("ip_conflict", "L02", "1", "network", ("T1557.002",), quiet=1800.0)
    wants: ClassVar[tuple[type, ...]] = (Network, Neighbours, Arp, ArpProbe, NameAnswer)

    def __init__(self, vouched: Vouched) -> None:
        self._vouched = vouched
        self._ground = Ground()
        self._rows: Table[str, _Row] = Table(ADDRESSES)
        self._of: Table[str, dict[str, None]] = Table(ADDRESSES)  # MAC → its addresses, up to 2 × PROXY of them
        self._proxies: Table[str, bool] = Table(PROXIES)  # who offers to answer for sleepers
        self._asked: collections.deque[float] = collections.deque(maxlen=ASKS)
        self._waiting: Table[str, float] = Table(64)
        self._telling = Telling()

    def see(self, seen: Any, at: float) -> Iterable[Said]:
        if self._ground.hear(seen):
            return ()
        if isinstance(seen, ArpProbe):
            return self._answered(seen, at)
        if isinstance(seen, NameAnswer):
            if seen.protocol == "mdns" and SLEEP_PROXY in seen.name[:255].lower() and (mac := host_mac(seen.frame.source)):
                self._proxies.put(mac, True)
            return ()
        return self._claimed(seen, at) if isinstance(seen, Arp) else ()

    def tick(self, at: float) -> Iterable[Said]:
        for address, asked in self._waiting.items():
            if at - asked >= ANSWER:
                self._waiting.pop(address)
                if row := self._rows.get(address):
                    row.waits, row.both = False, 0
                    if self._enough(address, row, at):
                        yield from self._tell(address, row, at, confirmed=False)

    # -- claims ---------------------------------------------------------------------------------------------------------------

    def _claimed(self, seen: Arp, at: float) -> Iterator[Said]:
        address, mac = host_address(seen.sender), host_mac(seen.sender_mac)
        if not address or not mac or of_ronda(mac) or mac in self._ground.cards:
            return
        self._owns(mac, address)
        row = self._rows.get(address) or self._rows.put(address, _Row())
        if address in self._ground.addresses and not row.macs:  # ours, before anybody said so
            row.claim(min(self._ground.macs, default=mac), at, None)
        back = mac in row.macs  # from A to B and on to C it is only given on; very often is something else
        changed = row.claim(mac, at, short(seen.frame))
        turns = row.turns(at) if changed else 0
        ours = address in self._ground.addresses and mac not in self._ground.macs
        if ours or (back and turns >= CHANGES) or turns >= OFTEN:
            yield from self._suspect(address, row, at)
        elif changed and not row.waits and at - row.wondered >= ASK and not self._innocent(address, row, at):
            row.wondered, row.both = at, 0
            yield from self._ask(address, row, at)

    def _owns(self, mac: str, address: str) -> None:
        owned = self._of.get(mac) or self._of.put(mac, {})
        if len(owned) < 2 * PROXY:
            owned[address] = None

    def _enough(self, address: str, row: _Row, at: float) -> bool:
        """Whether what was claimed says by itself that there are two."""
        return row.turned and (address in self._ground.addresses or row.turns(at) >= CHANGES)

    def _suspect(self, address: str, row: _Row, at: float) -> Iterator[Said]:
        if self._innocent(address, row, at):
            return
        row.turned = True
        if at - row.asked >= ASK:
            row.asked = at
            if row.waits:  # what we wondered is being asked: its answer will do
                self._waiting.put(address, at)
            else:
                yield from self._ask(address, row, at)
        if not row.waits or row.turns(at) >= OFTEN:
            yield from self._tell(address, row, at, confirmed=False)

    def _ask(self, address: str, row: _Row, at: float) -> Iterator[Said]:
        """Within the limit."""
        if len(self._asked) == ASKS and at - self._asked[0] < ASKS_WITHIN:
            return
        self._asked.append(at)
        row.waits = True
        self._waiting.put(address, at)
        yield Ask("arp", address)

    def _answered(self, seen: ArpProbe, at: float) -> Iterator[Said]:
        row = self._rows.get(seen.target)
        if row is None:
            return
        self._waiting.pop(seen.target)
        row.waits = False
        macs = {mac for text in seen.macs[:64] if (mac := host_mac(text)) and not of_ronda(mac) and mac not in self._ground.cards}
        if seen.target in self._ground.addresses:  # we don't answer ourselves, and are there
            macs |= self._ground.macs
        frames = {frame.source: frame for frame in seen.frames[:64]}
        for mac in sorted(macs & set(row.macs))[:MACS]:
            row.macs[mac] = (row.macs[mac][0], at)
            row.frames[mac] = frames.get(mac) or row.frames.get(mac) or Frame(mac, "")
        for mac in macs:
            self._owns(mac, seen.target)
        if len(self._strange(macs)) < 2:
            row.changes.clear()  # one answers: the address was given on, or somebody sleeps
            row.both, row.turned = 0, False
            return
        row.both += 1
        if self._innocent(seen.target, row, at, answered=macs):
            return
        if row.both >= TWICE or self._enough(seen.target, row, at):
            yield from self._tell(seen.target, row, at, confirmed=True, answered=sorted(macs)[:MACS])
        elif at - row.wondered < ASK:  # we asked because of it; not for another's sake
            yield from self._ask_again(seen.target, row, macs, at)

    def _ask_again(self, address: str, row: _Row, macs: set[str], at: float) -> Iterator[Said]:
        """Both answered at the first change: once more, and before it for another address of theirs, by which twins show."""
        others = [other for mac in sorted(macs) for other in self._of.get(mac) or () if other != address and other in self._rows]
        for other in others[:1]:
            if (theirs := self._rows.get(other)) and not theirs.waits:
                yield from self._ask(other, theirs, at)
        yield from self._ask(address, row, at)

    # -- who may -------------------------------------------------------------------------------------------------------------

    def _strange(self, macs: Iterable[str]) -> set[str]:
        """Our own cards count as one; so do the operator's routers, which may share an address."""
        named = {"us" if mac in self._ground.macs else "router" if mac in self._vouched.routers else mac for mac in macs}
        return {name for name in named if not self._answers_for_others(name)}

    def _answers_for_others(self, mac: str) -> bool:
        return mac in self._ground.routers and len(self._of.get(mac) or ()) > PROXY

    def _special(self, address: str) -> bool:
        return address in self._ground.addresses or address in self._ground.servers or address in self._vouched.dhcp_servers

    def _innocent(self, address: str, row: _Row, at: float, answered: Iterable[str] = ()) -> bool:
        macs = [*answered] or row.lately(at)
        if len(self._strange(macs)) < 2:
            return True
        if self._special(address):
            return False
        asleep = not answered and any(mac in self._proxies for mac in macs)
        return asleep or self._twins(macs)

    def _twins(self, macs: list[str]) -> bool:
        """One machine with two cards: it answers on both, for the addresses of both (Linux does, unless told not to)."""
        owned = [set(self._of.get(mac) or ()) for mac in macs[:MACS]]
        return len(set.intersection(*owned)) > 1

    # -- what is said --------------------------------------------------------------------------------------------------------

    def _tell(self, address: str, row: _Row, at: float, *, confirmed: bool, answered: Iterable[str] = ()) -> Iterator[Said]:
        macs = sorted({*answered} or set(row.lately(at)), key=lambda mac: row.macs.get(mac, (at, at))[0])
        if len(macs) < 2:
            return
        grade: Grade = "high" if self._special(address) else "medium"
        holder, other = self._who(address, macs, row, at)
        fields = {"ronda.ip": address, "ronda.mac_a": macs[0], "ronda.mac_b": macs[1]}
        if other:
            fields |= {"source.mac": other, "source.ip": address, "ronda.mac_a": holder, "ronda.mac_b": other}
        message = "two devices use one address" + (
            ", and both answer when asked" if confirmed else "; whether both are there now is not known"
        )
        frames = tuple(frame for mac in macs if (frame := row.frames.get(mac)) and frame.raw)
        yield from self._telling.say(
            Finding(
                self.rule.name, address, grade, "certain" if confirmed else "unknown", message, confirmed=confirmed, fields=fields,
                source=other, frames=frames,
            ),
            at,
        )  # fmt: skip

    def _who(self, address: str, macs: list[str], row: _Row, at: float) -> tuple[str, str]:
        """Whose the address is, and who came later; ("", "") where nobody can say. This box's own are its own."""
        if address in self._ground.addresses:
            others = [mac for mac in macs if mac not in self._ground.macs]
            return min(self._ground.macs, default=""), others[0] if others else ""
        known = self._ground.bindings.get(address, "")
        first, second = (row.macs.get(mac, (at, at))[0] for mac in macs[:2])
        if second - first >= FIRST and known in ("", *macs):
            return macs[0], macs[1]
        return "", ""

    def coverage(self, able: frozenset[str]) -> Coverage:
        if "capture" not in able:
            return Coverage(0.0, "no_capture")
        return Coverage(1.0) if "send" in able else Coverage(0.5, "no_probe")
