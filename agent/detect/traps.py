"""What devices say of themselves by traps: somebody fails to log in by SNMP, a cable is out or loose, a device starts again.

Law: a trap says what its sender says, and no more: whoever has its community can invent it, so nothing here is graver than medium, and
nobody is accused but the address that the device itself names. Storms are one case a device. A port of an access switch goes down whenever
a PC is switched off: that is no condition. Told is the loss of a port that config calls important, and any port that is loose.
"""

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from agent.detect.model import Finding, Plain, Rule, Said, Table, Vouched
from agent.detect.seen import Trap

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
DEVICES, PORTS, TEXT = 64, 256, 64
FAILURES, WINDOW = 5, 10 * MINUTE
HELD = 30.0  # seconds that a port must stay down
FLAPS = 4  # times down within WINDOW: the cable, the plug or the port is loose
STARTS = 3  # within a day
IMPORTANT = ("ether1", "sfp.*", "combo.*", "wan.*", "uplink.*", "lte.*", "pppoe.*")  # where config names none: RouterOS's usual ways out


class Heard(Plain):
    needs: ClassVar[str] = "traps"
    blind: ClassVar[str] = "no_traps"


class TrapAuthFailure(Heard):
    """A device refuses SNMP requests again and again: a storm is one case, and told at 5, 10, 100, 1000, …"""

    rule: ClassVar[Rule] = Rule("trap_auth_failure", "R05", "1", "authentication", ("T1110", "T1602.001"), quiet=HOUR)
    wants: ClassVar[tuple[type, ...]] = (Trap,)

    def __init__(self, vouched: Vouched) -> None:
        self._vouched = vouched.scanners
        self._times: Table[str, collections.deque[float]] = Table(DEVICES)
        self._open: Table[str, float] = Table(DEVICES)  # when it was last so

    def see(self, seen: Trap, at: float) -> Iterable[Said]:
        device = seen.device[:TEXT]
        if seen.name != "authentication_failure" or (seen.source and seen.source in self._vouched):
            return ()
        times = self._times.get(device) or self._times.put(device, collections.deque(maxlen=FAILURES))
        times.append(at)
        last = self._open.get(device)
        again = last is not None and at - last < HOUR
        if not again and (len(times) < FAILURES or at - times[0] > WINDOW):
            return ()
        self._open.put(device, at)
        source = seen.source[:TEXT]
        fields = {"ronda.device": device, "event.outcome": "failure"} | ({"source.ip": source} if source else {})
        message = "a device refuses SNMP requests again and again: somebody tries communities or passwords"
        times_ = 1 if again else len(times)
        return [Finding(self.rule.name, device, "medium", "likely", message, confirmed=True, fields=fields, source=source, times=times_)]


@dataclasses.dataclass(slots=True)
class Port:
    """down: since when, None: it is up. downs: when it went down. told: whether there is a case of it."""

    down: float | None = None
    downs: collections.deque[float] = dataclasses.field(default_factory=lambda: collections.deque(maxlen=FLAPS))
    told: bool = False

    def loose(self, at: float) -> bool:
        return len(self.downs) == FLAPS and at - self.downs[0] <= WINDOW


class TrapLinkDown(Heard):
    """An important port that stays down for half a minute; any port that goes up and down. Ends when it is up, and has been for a while.

    A case whose linkUp got lost ends with the device's next start, or after a week.
    """

    rule: ClassVar[Rule] = Rule("trap_link_down", "R05", "1", "network", quiet=7 * DAY)
    wants: ClassVar[tuple[type, ...]] = (Trap,)

    def __init__(self, vouched: Vouched) -> None:
        self._important = [re.compile(pattern, re.IGNORECASE) for pattern in vouched.important or IMPORTANT]
        self._ports: Table[tuple[str, str], Port] = Table(PORTS)
        self._at = 0.0

    def see(self, seen: Trap, at: float) -> Iterable[Said]:
        self._at = at
        device, about = seen.device[:TEXT], seen.about[:TEXT]
        if seen.name == "link_down":
            return list(self._down(device, about, at))
        if seen.name == "link_up":
            return list(self._up(device, about, at))
        return list(self._began(device)) if seen.name in ("cold_start", "warm_start") else ()

    def tick(self, at: float) -> Iterable[Said]:
        self._at = at
        said: list[Said] = []
        for (device, about), port in self._ports.items():
            if port.down is not None and not port.told and at - port.down >= HELD and self._matters(about):
                port.told = True
                said.append(self._finding(device, about, "an important port of a device has been down for half a minute"))
            elif not port.loose(at) and (port.down is None or not self._matters(about)):
                said += self._over(device, about, port)
                if not port.downs or at - port.downs[-1] > WINDOW:
                    self._ports.pop((device, about))
        return said

    def _down(self, device: str, about: str, at: float) -> Iterator[Finding]:
        port = self._ports.get((device, about)) or self._ports.put((device, about), Port())
        if port.down is not None:
            return  # told twice, e.g. in two versions
        port.down = at
        port.downs.append(at)
        if port.loose(at):
            port.told = True
            yield self._finding(device, about, "a port of a device goes up and down again and again: cable, plug or port are loose")

    def _up(self, device: str, about: str, at: float) -> Iterator[Finding]:
        """Also where nothing is known of it: there may be a case of an earlier life."""
        port = self._ports.get((device, about))
        if port is None:
            yield self._ended(device, about)
            return
        port.down = None
        if not port.loose(at):
            yield from self._over(device, about, port)

    def _began(self, device: str) -> Iterator[Finding]:
        """A device that starts says anew what is down, or nothing."""
        for (who, about), port in self._ports.items():
            if who == device:
                yield from self._over(device, about, port)
                self._ports.pop((who, about))

    def _over(self, device: str, about: str, port: Port) -> Iterator[Finding]:
        if port.told:
            port.told = False
            yield self._ended(device, about)

    def _matters(self, about: str) -> bool:
        return any(pattern.fullmatch(about) for pattern in self._important)

    def _finding(self, device: str, about: str, message: str) -> Finding:
        fields = {"ronda.device": device, "ronda.interface": about}
        matters = self._matters(about)
        return Finding(
            self.rule.name, _key(device, about), "medium" if matters else "low", "certain", message, confirmed=matters, fields=fields
        )

    def _ended(self, device: str, about: str) -> Finding:
        return Finding(self.rule.name, _key(device, about), "info", "certain", "the port of the device is up again", "closed")

    def remember(self) -> Mapping[str, Any]:
        """Those that are told, or will be if they stay down."""
        rows = [[*key, port.told, port.down is not None] for key, port in self._ports.items() if port.told or port.down is not None]
        return {"ports": rows} if rows else {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        for device, about, told, down in said["ports"][:PORTS]:
            port = Port(at if down else None, told=bool(told))
            self._ports.put((str(device)[:TEXT], str(about)[:TEXT]), port)


class TrapColdStart(Heard):
    """A device has started; three times within a day it has a fault, or somebody pulls its plug."""

    rule: ClassVar[Rule] = Rule("trap_cold_start", "R05", "1", "host", quiet=6 * HOUR)
    wants: ClassVar[tuple[type, ...]] = (Trap,)

    def __init__(self, vouched: Vouched) -> None:  # noqa: ARG002  (the table's)
        self._starts: Table[str, collections.deque[float]] = Table(DEVICES)
        self._at = 0.0

    def see(self, seen: Trap, at: float) -> Iterable[Said]:
        self._at = at
        device = seen.device[:TEXT]
        if seen.name not in ("cold_start", "warm_start"):
            return ()
        starts = self._starts.get(device) or self._starts.put(device, collections.deque(maxlen=STARTS))
        if starts and at - starts[-1] < MINUTE:
            return ()  # one start, told twice
        starts.append(at)
        often = len(starts) == STARTS and at - starts[0] <= DAY
        message = "a device starts again and again" if often else "a device has started"
        fields = {"ronda.device": device, "ronda.starts": str(len([start for start in starts if at - start <= DAY]))}
        return [Finding(self.rule.name, device, "medium" if often else "low", "certain", message, confirmed=often, fields=fields)]

    def tick(self, at: float) -> Iterable[Said]:
        self._at = max(self._at, at)
        return ()

    def remember(self) -> Mapping[str, Any]:
        """In whole hours of age, so that a file that is written when it changes is not written for this alone."""
        rows = [[device, [int((self._at - at) // HOUR) for at in starts]] for device, starts in self._starts.items()]
        return {"starts": rows} if rows else {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        for device, ages in said["starts"][:DEVICES]:
            starts = [at - max(0.0, float(age)) * HOUR for age in ages]
            self._starts.put(str(device)[:TEXT], collections.deque(sorted(starts), maxlen=STARTS))


def _key(device: str, about: str) -> str:
    """Lengths of both are bounded, and so is this one's."""
    return f"{device} {about}"[:100]
