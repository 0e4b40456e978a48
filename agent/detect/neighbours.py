"""What routers and switches say of themselves has changed, or is older than it may be (neighbour_drift, L16; MNDP, LLDP, CDP).

Law: what a device says of itself is easily forged and mostly true: never more than "medium". Told are
    version   software below the least that the operator accepts (`trust.versions`)
    name      another MAC takes the name of a device that is there, and is no other port of it
    second    one that nobody knew speaks as a router (MNDP: "medium") or stands next on our wire (LLDP, CDP: "low")
    board     the same MAC is suddenly another model
    restarts  three within six hours ("low")
A cut of power, an upgrade and a new router under the old name are none of these. Confirmed is what is said in two protocols, or three times
over two minutes. The operator's own routers (`trust.routers`) may be new and may share a name.
"""

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from agent.detect.ground import LONGEST, Ground, host_mac, of_ronda, seconds
from agent.detect.model import Finding, Grade, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import Frame, Identity, Neighbours, Network
from agent.detect.telling import Telling

LEARN = 86400.0  # from the first word of anybody: who speaks until then belongs here
SETTLED, HEARD = 600.0, 3  # how long, and how often, a name was one device's before another can take it
GONE = 180.0  # MNDP is said every 60 s, LLDP every 30
SAME_UPTIME = 30.0
RESTARTS, RESTARTS_WITHIN, SLACK = 3, 6 * 3600.0, 60.0
AGAIN, OVER = 3, 120.0
SPEAKERS, NAMESAKES = 256, 16
FORGET = 30 * 86400.0
DEFAULT_NAMES = frozenset({"", "mikrotik", "switch", "router", "localhost"})  # as they come from the factory: many may have it
VENDORS: Mapping[str, re.Pattern[str]] = {
    "mikrotik": re.compile(r"mikrotik|routeros", re.IGNORECASE),
    "cisco": re.compile(r"\bcisco\b|\bIOS\b"),
}
_VERSION = re.compile(r"(?<![\w.])v?(\d{1,6}(?:\.\d{1,6}){1,3})(?:[ -]?(alpha|beta|rc))?", re.IGNORECASE)


@dataclasses.dataclass(slots=True)
class _Speaker:
    """One MAC that says what it is. started: when it did, by its own uptime; known: it belongs here."""

    first: float
    last: float
    heard: int = 0
    name: str = ""
    board: str = ""
    version: str = ""
    started: float | None = None
    known: bool = False
    protocols: dict[str, None] = dataclasses.field(default_factory=dict)
    restarts: collections.deque[float] = dataclasses.field(default_factory=lambda: collections.deque(maxlen=RESTARTS))
    board_changed: bool = False
    port: str = ""
    frame: Frame | None = None

    @property
    def sure(self) -> bool:
        return len(self.protocols) > 1 or (self.heard >= AGAIN and self.last - self.first >= OVER)


class NeighbourDrift(Plain):
    """`routers`: version by MAC of those that speak MNDP, for ronda_router_info."""

    rule: ClassVar[Rule] = Rule("neighbour_drift", "L16", "1", "configuration", ("T1190",), quiet=6 * 3600.0)
    wants: ClassVar[tuple[type, ...]] = (Network, Neighbours, Identity)

    def __init__(self, vouched: Vouched) -> None:
        self._vouched = vouched
        self._least = {vendor.lower(): least for vendor, text in vouched.versions.items() if (least := version_of(text))}
        self._ground = Ground()
        self._speakers: Table[str, _Speaker] = Table(SPEAKERS)
        self._named: Table[str, dict[str, None]] = Table(SPEAKERS)  # name → MACs that say it, up to NAMESAKES
        self._began: float | None = None
        self._now = 0.0
        self._telling = Telling()

    @property
    def routers(self) -> Mapping[str, str]:
        return {mac: s.version for mac, s in self._speakers.items() if "mndp" in s.protocols and self._now - s.last <= GONE}

    def see(self, seen: Any, at: float) -> Iterable[Said]:
        self._now = at
        if self._ground.hear(seen) or not isinstance(seen, Identity):
            return ()
        mac = host_mac(seen.frame.source) or host_mac(seen.mac)
        if not mac or mac in self._ground.macs or of_ronda(mac):
            return ()
        if self._began is None:
            self._began = at
        return self._heard(mac, seen, at)

    def tick(self, at: float) -> Iterable[Said]:
        self._now = at
        return ()

    def _heard(self, mac: str, seen: Identity, at: float) -> Iterator[Said]:
        speaker = self._speakers.get(mac)
        if speaker is not None and at - speaker.last > FORGET:
            speaker = None
        fresh = speaker is None
        speaker = speaker or self._speakers.put(mac, _Speaker(at, at))
        self._note(speaker, seen, at, fresh)
        speaker.known = speaker.known or (fresh and self._belongs(mac, speaker, at))
        yield from self._judge(mac, speaker, at)
        for other_mac, other in self._namesakes(mac, speaker):
            if _takes_name(other, speaker) and other_mac not in self._vouched.routers:
                yield from self._clash(other_mac, other, at)
            elif _takes_name(speaker, other) and mac not in self._vouched.routers:
                yield from self._clash(mac, speaker, at)

    def _note(self, speaker: _Speaker, seen: Identity, at: float, fresh: bool) -> None:
        name, board, version = seen.name[:LONGEST], seen.board[:LONGEST], seen.version[:255]
        same_protocol = seen.protocol in speaker.protocols
        if not fresh and same_protocol and speaker.board and board and board != speaker.board:
            speaker.board_changed = True
        if 0 <= seen.uptime < 1e10:
            started = at - seen.uptime
            if speaker.started is not None and started - speaker.started > SLACK:
                speaker.restarts.append(at)
            speaker.started = started if speaker.started is None or abs(started - speaker.started) > SLACK else speaker.started
        speaker.protocols[seen.protocol] = None
        speaker.port, speaker.frame = seen.port[:LONGEST], seen.frame
        speaker.last, speaker.heard = at, speaker.heard + 1
        speaker.name, speaker.board, speaker.version = name or speaker.name, board or speaker.board, version or speaker.version

    # -- who belongs here -------------------------------------------------------------------------------------------------------

    def _belongs(self, mac: str, speaker: _Speaker, at: float) -> bool:
        if mac in self._vouched.routers:
            return True
        namesakes = [other for _, other in self._namesakes(mac, speaker) if other.known]
        return self._learning(at) or any(_same_device(speaker, other) or at - other.last > GONE for other in namesakes)

    def _namesakes(self, mac: str, speaker: _Speaker) -> list[tuple[str, _Speaker]]:
        """Others that say this name; from now on it is one of them."""
        macs = self._named.get(speaker.name) or self._named.put(speaker.name, {})
        found = [(key, other) for key in macs if key != mac and (other := self._speakers.get(key)) and other.name == speaker.name]
        if len(macs) < NAMESAKES:
            macs[mac] = None
        return found

    def _learning(self, at: float) -> bool:
        return self._began is None or at - self._began < LEARN

    def accept(self, key: str, at: float) -> bool:  # noqa: ARG002  (the contract's)
        """An operator says that it belongs here, as it is now."""
        speaker = self._speakers.get(key.partition(" ")[2])
        if speaker is None:
            return False
        speaker.known, speaker.board_changed = True, False
        return self._telling.close(key)

    # -- what is said -----------------------------------------------------------------------------------------------------------

    def _judge(self, mac: str, speaker: _Speaker, at: float) -> Iterator[Said]:
        if self._old(speaker):
            yield from self._tell("version", mac, speaker, at, "a router's software is older than the operator accepts")
        if not speaker.known and (speaker.heard > 1 or len(speaker.protocols) > 1):
            grade: Grade = "medium" if "mndp" in speaker.protocols else "low"
            yield from self._tell("second", mac, speaker, at, "a router or switch that was not here before says its name", grade)
        if speaker.board_changed:
            yield from self._tell("board", mac, speaker, at, "a router or switch is suddenly another model")
        if len(speaker.restarts) == RESTARTS and at - speaker.restarts[0] <= RESTARTS_WITHIN:
            yield from self._tell("restarts", mac, speaker, at, "a router or switch restarts again and again", "low")

    def _clash(self, mac: str, speaker: _Speaker, at: float) -> Iterator[Said]:
        if at - speaker.last <= GONE:
            yield from self._tell("name", mac, speaker, at, "a device takes the name of another that is still there")

    def _old(self, speaker: _Speaker) -> bool:
        said = f"{speaker.version} {speaker.board}"
        vendor = "mikrotik" if "mndp" in speaker.protocols else next((v for v, known in VENDORS.items() if known.search(said)), "")
        least, version = self._least.get(vendor), version_of(speaker.version)
        return least is not None and version is not None and version < least

    def _tell(self, what: str, mac: str, speaker: _Speaker, at: float, message: str, grade: Grade = "medium") -> Iterator[Said]:
        fields = {"source.mac": mac, "ronda.drift": what, "ronda.protocols": ",".join(sorted(speaker.protocols))}
        said = {
            "ronda.name": speaker.name,
            "ronda.board": speaker.board,
            "ronda.version": speaker.version,
            "ronda.port": speaker.port,
        }
        fields |= {key: value for key, value in said.items() if value}
        frames = (speaker.frame,) if speaker.frame and speaker.frame.raw else ()
        finding = Finding(
            self.rule.name, f"{what} {mac}", grade, "likely", message, confirmed=speaker.sure, fields=fields, source=mac, frames=frames
        )
        yield from self._telling.say(finding, at)

    # -- what outlives a restart --------------------------------------------------------------------------------------------------

    def remember(self) -> Mapping[str, Any]:
        now = self._now
        rows = [
            [
                mac,
                now - s.first,
                now - s.last,
                s.heard,
                s.name,
                s.board,
                s.version,
                None if s.started is None else now - s.started,
                s.known,
            ]
            for mac, s in self._speakers.items()
        ]
        return {"age": 0.0 if self._began is None else now - self._began, "speakers": rows} if self._began is not None else {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        began = at - seconds(said["age"])
        taken = [_loaded(row, at) for row in said["speakers"][-SPEAKERS:]]
        self._began = began
        for mac, speaker in taken:
            self._speakers.put(mac, speaker)
            self._namesakes(mac, speaker)


def _same_device(one: _Speaker, other: _Speaker) -> bool:
    """Another port of it: it runs as long."""
    if one.board != other.board or one.version != other.version:
        return False
    return one.started is None or other.started is None or abs(one.started - other.started) <= SAME_UPTIME


def _takes_name(new: _Speaker, old: _Speaker) -> bool:
    """The old one had that name for a while, and has said it again since the new one came: it isn't replaced."""
    if new.name != old.name or new.name.lower() in DEFAULT_NAMES:
        return False
    return old.heard >= HEARD and new.first - old.first >= SETTLED and old.last > new.first and not _same_device(new, old)


def version_of(text: str) -> tuple[tuple[int, ...], int] | None:
    """Numbers to compare; what is before a release ("7.16beta2") is less than it."""
    found = _VERSION.search(text[:1024])
    if found is None:
        return None
    numbers = [int(number) for number in found[1].split(".")]
    return (*numbers, *(0,) * (4 - len(numbers))), 0 if found[2] else 1


def _loaded(row: Any, at: float) -> tuple[str, _Speaker]:
    mac, first, last, heard, name, board, version, up, known = row
    if not host_mac(mac) or not all(isinstance(text, str) for text in (name, board, version)):
        raise ValueError("not a speaker")
    return mac, _Speaker(
        at - seconds(first), at - seconds(last), int(seconds(heard)), name, board, version,
        None if up is None else at - seconds(up), bool(known),
    )  # fmt: skip
