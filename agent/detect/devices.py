"""Something is on the network that wasn't there in two weeks (new_device, L08).

Law: learning is silent, for LEARN seconds from the first look; only then is a device news, once, and no more than `info`; "medium" where
the operator says that nothing new belongs (`protected`). "High" is what is made or set up for attacks, and says so twice: by its maker's
part of the MAC and by its name; either alone is nobody's guilt. It is told whenever it comes, were it there first. One that has
come is sure only by three frames over two minutes, or when DHCP gave it an address. Random MACs (locally administered: telephones are
somebody else each day) are counted, never told. A MAC that wasn't seen for 30 days is forgotten, as the privacy page promises. Invented
MACs can't push known ones out: a crowd is taken in only so fast, and is told as one.
"""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from agent.detect.ground import LONGEST, Ground, address, host_address, host_mac, of_ronda, seconds, short, wire
from agent.detect.here import local
from agent.detect.model import Coverage, Finding, Grade, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import Arp, Dhcp, Dhcp6, Frame, Identity, NameAnswer, NameQuery, Neighbour, Neighbours, Network, RouterAdvert
from agent.detect.telling import Telling

DAY = 86400.0
LEARN = 14 * DAY
FRAMES, OVER = 3, 120.0
QUIET, FORGET = DAY, 30 * DAY
STRANGER = 6 * 3600.0  # how long one that isn't sure yet is remembered
ADMITTED, ADMITTED_WITHIN = 256, 3600.0
KNOWN, STRANGERS, MOBILE = 4096, 2048, 2048
# Who is what he says: (parts of MACs, names that DHCP is told, what it is). Public facts, and both must fit:
#   00:13:37 is what Hak5 ships its devices with; their host names are in its documentation (docs.hak5.org: "Pineapple", "turtle", …)
#   Raspberry Pi's parts: IEEE's register (MA-L); VMware's and VirtualBox's likewise; "kali" and "parrot" are the names that the images of
#   Kali Linux and Parrot Security begin with (kali.org/docs: default host name). An admin may have one: then he accepts the event.
BOARDS = ("b8:27:eb", "dc:a6:32", "e4:5f:01", "d8:3a:dd", "28:cd:c1", "2c:cf:67")
MACHINES = ("00:0c:29", "00:50:56", "08:00:27")
ARMS: tuple[tuple[tuple[str, ...], frozenset[str], str], ...] = (
    (("00:13:37",), frozenset({"pineapple", "mk7", "turtle", "lanturtle", "squirrel", "shark", "sharkjack", "bunny"}), "hak5"),
    ((*BOARDS, *MACHINES), frozenset({"kali", "kali-raspberry-pi", "kali-raspberrypi", "parrot", "blackarch"}), "system for attacks"),
)
CLASSES = ("known", "new", "mobile", "quiet")


@dataclasses.dataclass(slots=True)
class _Device:
    """new: since when it is news; None: it was there while we learnt."""

    first: float
    last: float
    frames: int = 0
    new: float | None = None
    ip: str = ""
    name: str = ""
    shown: tuple[Frame, ...] = ()


class NewDevice(Plain):
    """`counts`: devices by class, for ronda_lan_devices{class}."""

    rule: ClassVar[Rule] = Rule("new_device", "L08", "1", "network", ("T1200",), learning=LEARN, quiet=DAY)
    wants: ClassVar[tuple[type, ...]] = (
        Network, Neighbours, Arp, Dhcp, Dhcp6, Neighbour, NameQuery, NameAnswer, Identity, RouterAdvert,
    )  # fmt: skip

    def __init__(self, vouched: Vouched) -> None:
        self._vouched = vouched.routers
        self._all, self._protected = "all" in vouched.protected, [w for text in sorted(vouched.protected) if (w := wire(text))]
        self._ground = Ground()
        self._known: Table[str, _Device] = Table(KNOWN)
        self._strangers: Table[str, _Device] = Table(STRANGERS)
        self._mobile: Table[str, float] = Table(MOBILE)
        self._admitted: collections.deque[float] = collections.deque(maxlen=ADMITTED)
        self._began: float | None = None
        self._now = 0.0
        self._swept = float("-inf")
        self._telling = Telling()

    def see(self, seen: Any, at: float) -> Iterable[Said]:
        self._look(at)
        if self._ground.hear(seen):  # whom the kernel's table names may be long gone: it forgets nobody while it has room
            return ()
        if isinstance(seen, Dhcp):
            return self._dhcp(seen, at)
        if isinstance(seen, Arp):
            return (
                self._met(seen.sender_mac, at, seen.frame, ip=seen.sender) if seen.sender_mac.lower() == seen.frame.source.lower() else ()
            )
        return self._met(seen.frame.source, at, seen.frame)

    def tick(self, at: float) -> Iterable[Said]:
        self._look(at)
        if at - self._swept >= 3600.0:
            self._swept = at
            for mac, device in self._known.items():
                if at - device.last > FORGET:
                    self._known.pop(mac)
            for mac, device in self._strangers.items():
                if at - device.last > STRANGER:
                    self._strangers.pop(mac)
        return ()

    def _look(self, at: float) -> None:
        self._now = at
        if self._began is None:
            self._began = at

    @property
    def learning(self) -> bool:
        return self._began is None or self._now - self._began < LEARN

    @property
    def counts(self) -> Mapping[str, int]:
        found = dict.fromkeys(CLASSES, 0)
        for device in self._known.values():
            quiet, new = self._now - device.last > QUIET, device.new is not None and self._now - device.new <= DAY
            found["quiet" if quiet else "new" if new else "known"] += 1
        found["mobile"] = sum(self._now - last <= QUIET for last in self._mobile.values())
        return found

    # -- who is there ---------------------------------------------------------------------------------------------------------

    def _dhcp(self, seen: Dhcp, at: float) -> Iterable[Said]:
        """A client speaks for itself; a server's ACK says that it was given an address."""
        if seen.type == "ack":
            yield from self._met(seen.client_mac, at, seen.frame, ip=seen.offered, name=seen.hostname, sure=True)
        elif seen.client_mac.lower() == seen.frame.source.lower():  # not one of starvation's inventions, nor passed on by a relay
            yield from self._met(seen.client_mac, at, seen.frame, ip=seen.requested, name=seen.hostname)

    def _met(
        self, text: str, at: float, frame: Frame | None = None, *, ip: str = "", name: str = "", sure: bool = False
    ) -> Iterator[Said]:  # fmt: skip
        mac = host_mac(text)
        if not mac or mac in self._ground.macs or of_ronda(mac):
            return
        if local(mac):
            self._mobile.put(mac, at)
            return
        known = self._known.get(mac)
        device = known or self._strangers.get(mac) or self._strangers.put(mac, _Device(at, at))
        device.last, device.frames = at, min(device.frames + 1, FRAMES)
        moved = bool(host_address(ip)) and ip != device.ip
        device.ip, device.name = host_address(ip) or device.ip, name[:LONGEST] or device.name
        if known is None:
            if frame and len(device.shown) < 2:
                device.shown = (*device.shown, short(frame, 256))
            if sure or (device.frames >= FRAMES and at - device.first >= OVER):
                yield from self._admit(mac, device, at)
        elif moved and known.new is not None and at - known.new <= DAY and self._grade(known) != "info":
            yield from self._tell(mac, known, at)
        if name and (arm := armed(mac, device.name)):
            yield from self._tell(mac, device, at, arm)

    def _admit(self, mac: str, device: _Device, at: float) -> Iterator[Said]:
        full = len(self._admitted) == ADMITTED and at - self._admitted[0] < ADMITTED_WITHIN
        if not full:
            self._admitted.append(at)
            self._strangers.pop(mac)
            self._known.put(mac, device)
        if self.learning or mac in self._vouched:
            return
        device.new = at
        yield from self._tell(mac, device, at)
        device.shown = ()

    def _grade(self, device: _Device) -> Grade:
        """What is new in a protected network is a warning; with an address that isn't known yet it isn't in one."""
        found = address(device.ip)
        inside = found is not None and any(found in w for w in self._protected if w.version == found.version)
        return "medium" if self._all or inside else "info"

    def _tell(self, mac: str, device: _Device, at: float, arm: str = "") -> Iterator[Finding]:
        fields = {"source.mac": mac, "ronda.oui": mac[:8], "ronda.equipment": arm}
        fields |= {"source.ip": device.ip, "host.hostname": device.name}
        grade = self._grade(device)
        message = "a device that was not here in the last weeks" + (", in a network where nothing new belongs" if grade != "info" else "")
        if arm:
            grade, message = "high", "a device whose maker and name are those of equipment or a system for attacks"
        shown = {name: text for name, text in fields.items() if text}
        finding = Finding(self.rule.name, mac, grade, "likely" if arm else "certain", message, confirmed=True, fields=shown, source=mac)
        yield from self._telling.say(finding._replace(frames=device.shown), at)

    # -- what outlives a restart ------------------------------------------------------------------------------------------------

    def coverage(self, able: frozenset[str]) -> Coverage:
        if "capture" not in able:
            return Coverage(0.0, "no_capture")
        return Coverage(0.5, "learning") if self.learning else Coverage(1.0)

    def remember(self) -> Mapping[str, Any]:
        """Known devices only; those that are random are of today."""
        now = self._now
        known = [
            [mac, round(now - device.first), round(now - device.last), None if device.new is None else round(now - device.new)]
            for mac, device in self._known.items()
        ]
        return {"age": now - (now if self._began is None else self._began), "known": known}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        began = at - seconds(said["age"])
        taken = [_loaded(row, at) for row in said["known"][-KNOWN:]]
        self._began, self._now = began, at
        for mac, device in taken:
            self._known.put(mac, device)


def armed(mac: str, name: str) -> str:
    """What a device says that it is, by its MAC and by its name together; "" where they don't agree on something bad."""
    short_name = name.split(".", 1)[0].casefold()
    return next((what for parts, names_, what in ARMS if mac.startswith(parts) and short_name in names_), "")


def _loaded(row: Any, at: float) -> tuple[str, _Device]:
    mac, first, last, new = row
    if not host_mac(mac):
        raise ValueError("not a MAC")
    news = None if new is None else at - seconds(new)
    return mac, _Device(at - seconds(first), at - seconds(last), FRAMES, news)
