"""port_scan: somebody tries which ports of this box are open.

Law: a threshold random walk over first contacts (Jung et al., IEEE S&P 2004): an open port makes a source four times less suspect, a
closed or silent one four times more; at 99 it is a scanner. Fifteen closed ports within five minutes confirm it, or a second walk:
contacts that convict once more. What programs ask of everybody weighs little. An answer nobody asked for is no contact, and random
senders of a flood try one port each: neither is a scan. What was lost is no evidence: when the capture loses packets, contacts that
stayed without answer are forgotten.

Who scans is told by his MAC where he is on this wire: several addresses behind one MAC are decoys (nmap -D), and none of them is accused.
FIN, NULL and ACK scans send no SYN, and aren't seen.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import ClassVar, TypeAlias

from agent.detect.here import Here
from agent.detect.model import Coverage, Finding, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import Contact, Counters, Frame, Neighbours, Network
from agent.detect.telling import Telling

SUCCESS, FAILURE, NOISE = 0.25, 4.0, 1.5
UPPER, LOWER = 99.0, 0.0101
WAIT = 1.0  # seconds until a contact without answer counts as failed
KEEP, WINDOW, DISTINCT = 1800.0, 300.0, 15
SOURCES, PENDING, PORTS, FACES = 512, 2048, 32, 32
EPHEMERAL = 32768  # a UDP packet to such a port is a late answer to a question of ours
NOISY = frozenset({137, 138, 139, 161, 427, 445, 515, 631, 1900, 3702, 5353, 5355, 5357, 5358, 7070, 7680, 9100})

Key: TypeAlias = tuple[str, str, str, int]  # protocol, source, target, port
Port: TypeAlias = tuple[str, int]


@dataclasses.dataclass(slots=True)
class _Walk:
    """closed: when, and whether only silence says so. more: closed ports beyond those that are kept."""

    mac: str = ""
    closed: dict[Port, tuple[float, bool]] = dataclasses.field(default_factory=dict)
    opened: set[Port] = dataclasses.field(default_factory=set)
    frames: tuple[Frame, ...] = ()
    last: float = 0.0
    more: int = 0

    def score(self) -> float:
        good = max(LOWER, SUCCESS ** len(self.opened))
        return good * math.prod(NOISE if port in NOISY else FAILURE for _, port in self.closed)

    def forget(self, at: float) -> None:
        for port in [port for port, (when, _) in self.closed.items() if at - when > KEEP]:
            del self.closed[port]

    def within(self, at: float) -> int:
        return sum(at - when <= WINDOW for when, _ in self.closed.values())


class PortScan(Plain):
    """One scanner is one case, however many addresses it borrows."""

    rule: ClassVar[Rule] = Rule("port_scan", "L11", "1", "intrusion_detection", ("T1046",), quiet=900.0)
    wants: ClassVar[tuple[type, ...]] = (Network, Neighbours, Counters, Contact)

    def __init__(self, vouched: Vouched) -> None:
        self._vouched = vouched.scanners
        self._walks: Table[str, _Walk] = Table(SOURCES)
        self._pending: Table[Key, tuple[float, Frame]] = Table(PENDING)
        self._faces: Table[str, set[str]] = Table(SOURCES)
        self._here, self._telling = Here(), Telling()
        self._lost, self._counted, self._losing = 0.0, float("-inf"), False

    def see(self, seen: Network | Neighbours | Counters | Contact, at: float) -> Iterable[Said]:
        if isinstance(seen, Contact):
            return self._contact(seen, at)
        if isinstance(seen, Counters):
            self._count(seen, at)
        else:
            self._here.hear(seen)
        return ()

    def tick(self, at: float) -> Iterator[Said]:
        for key, (asked, frame) in self._pending.items():
            if at - asked < WAIT:
                break  # the oldest come first
            self._pending.pop(key)
            yield from self._failed(key, frame.source, frame, at, silent=True)

    # -- contacts --------------------------------------------------------------------------------------------------------------

    def _contact(self, seen: Contact, at: float) -> Iterator[Said]:
        if seen.source in self._here.addresses or seen.source in self._vouched or not seen.source:
            return
        key = (seen.protocol, seen.source[:64], seen.target[:64], seen.port)
        if seen.step == "asked":
            self._ask(seen, key, at)
            return
        asked = self._pending.pop(key)
        if seen.step == "open":
            if asked:
                self._succeeded(key, at)
        elif asked:
            yield from self._failed(key, asked[1].source, asked[1], at, silent=False)
        elif seen.protocol == "udp" and seen.port < EPHEMERAL:
            mac = seen.frame.target if self._here.sent(seen.frame) else ""
            yield from self._failed(key, mac, seen.frame, at, silent=False)

    def _ask(self, seen: Contact, key: Key, at: float) -> None:
        """Only of this box, by somebody else, and not yet asked."""
        if seen.frame.direction == "out" or key in self._pending or self._here.to_many(seen.frame, seen.target):
            return
        walk = self._walks.get(key[1])
        if walk is None or ((seen.protocol, seen.port) not in walk.closed and (seen.protocol, seen.port) not in walk.opened):
            self._pending.put(key, (at, seen.frame))

    def _succeeded(self, key: Key, at: float) -> None:
        walk = self._walk(key[1], at)
        if len(walk.opened) < PORTS:
            walk.opened.add((key[0], key[3]))

    def _walk(self, source: str, at: float) -> _Walk:
        walk = self._walks.get(source)
        if walk is None:
            walk = self._walks.put(source, _Walk())
        if at - walk.last > WINDOW:
            walk.forget(at)
        walk.last = at
        return walk

    def _failed(self, key: Key, mac: str, frame: Frame, at: float, *, silent: bool) -> Iterator[Finding]:
        source, port = key[1], (key[0], key[3])
        walk = self._walk(source, at)
        if port in walk.closed:
            return
        if len(walk.closed) < PORTS:
            walk.closed[port] = (at, silent)
        else:
            walk.more += 1
        walk.mac = mac or walk.mac
        if len(walk.frames) < 4:
            walk.frames = (*walk.frames, frame)
        if walk.mac and len(walk.closed) >= 2:
            faces = self._faces.get(walk.mac) or self._faces.put(walk.mac, set())
            if len(faces) < FACES:
                faces.add(source)
        if walk.score() >= UPPER:
            yield from self._telling.say(self._finding(source, walk, at), at)

    # -- what is said ----------------------------------------------------------------------------------------------------------

    def _finding(self, source: str, walk: _Walk, at: float) -> Finding:
        near = bool(walk.mac and self._here.routers) and walk.mac not in self._here.routers
        faces = len(self._faces.get(walk.mac) or ()) if near else 1
        borrowed = near and (faces > 1 or self._here.forged(source, walk.mac))
        sure = walk.within(at) >= DISTINCT or walk.score() >= UPPER**2
        ports = len(walk.closed) + walk.more
        words = f"somebody tries which ports are open: {ports} closed ones so far" if ports < 16 else "somebody tries which ports are open"
        words += ", under several addresses at once, most of them borrowed" if faces > 1 else ""
        fields = {
            "ronda.ports": str(ports), "ronda.score": f"{min(walk.score(), 1e9):.0f}", "source.mac": walk.mac,
            "ronda.addresses": str(faces), "destination.port": ",".join(sorted({str(port) for _, port in walk.closed})[:16]),
        }  # fmt: skip
        if not borrowed:
            fields["source.ip"] = source
        server = not borrowed and source in self._here.gateways | self._here.resolvers
        accused = walk.mac if borrowed else source
        return Finding(
            "port_scan", walk.mac if near else source, "high" if server else "medium", "certain" if sure else "likely", words, "open", sure,
            fields, accused, frames=walk.frames,
        )  # fmt: skip

    # -- losses ----------------------------------------------------------------------------------------------------------------

    def _count(self, seen: Counters, at: float) -> None:
        lost = seen.values.get("contacts_lost", 0.0)
        self._losing = lost > self._lost
        if self._losing:
            for key, _ in self._pending.items():  # noqa: PERF102  (a Table has no keys)
                self._pending.pop(key)
            for _, walk in self._walks.items():  # noqa: PERF102  (a Table has no values)
                for port in [port for port, (when, silent) in walk.closed.items() if silent and when >= self._counted - WAIT]:
                    del walk.closed[port]
        self._lost, self._counted = lost, at

    def coverage(self, able: frozenset[str]) -> Coverage:
        if "capture" not in able:
            return Coverage(0.0, "no_capture")
        return Coverage(0.5, "frames_lost") if self._losing else Coverage(1.0)
