"""What tests of the LAN's detectors share: an office in a few names, and a detector that is told things in order.

Law: addresses are of the ranges for documentation (RFC 5737), MACs are invented; time is an argument and never a real one.
"""

import collections
import dataclasses
import json
import re
from collections.abc import Iterable
from typing import Any

from agent.detect import seen
from agent.detect.model import Ask, Detector, Finding, Table
from tests.detect.officeday import AGENT, ALL, HERE, ROUTER, SERVER, Host

ATTACKER = Host("laptop", "00:0c:29:66:66:66", "192.0.2.66")
PC, OTHER = Host("PC-1", "3c:52:82:01:7a:01", "192.0.2.101"), Host("PC-2", "3c:52:82:02:7a:01", "192.0.2.102")
AFAR = "203.0.113.10"
ABLE = frozenset({"capture", "send"})
ADDRESSES = re.compile(r"\d+\.\d+\.\d+\.\d+|[0-9a-f]{2}(?::[0-9a-f]{2}){2,}", re.IGNORECASE)


class Watch:
    """One detector, and what it has said. `asks` and `findings` are all so far."""

    def __init__(self, detector: Detector, network: seen.Network | None = HERE) -> None:
        self.detector, self.at = detector, 0.0
        self.asks: list[Ask] = []
        self.findings: list[Finding] = []
        if network:
            self.see(network)

    def see(self, what: seen.Observation, at: float | None = None) -> list[Finding]:
        """Told at `at`, else at once; ticks are given for each second of what lies between, sixty at most."""
        if at is not None:
            assert at >= self.at, "a test's time never goes back"
            self.wait(at - self.at)
        return self._heard(self.detector.see(what, self.at))

    def wait(self, seconds: float) -> list[Finding]:
        said: list[Finding] = []
        step = max(1.0, seconds / 60)
        end = self.at + seconds
        while self.at < end:
            self.at = min(end, self.at + step)
            said += self._heard(self.detector.tick(self.at))
        return said

    def _heard(self, said: Iterable[Any]) -> list[Finding]:
        found = []
        for one in said:
            if isinstance(one, Ask):
                self.asks.append(one)
            else:
                assert not ADDRESSES.search(one.message), one.message
                found.append(one)
        self.findings += found
        return found

    def again(self, detector: Detector) -> "Watch":
        """The next life: what is remembered goes through JSON; the clock of monotonic seconds begins anew."""
        said = json.loads(json.dumps(dict(self.detector.remember())))
        detector.recall(said, 5.0)
        other = Watch(detector, None)
        other.at = 5.0
        other.see(HERE)
        return other


def arp(mac: str, ip: str, target: str = "", *, op: int = 1, to: str = ALL, source: str = "", direction: Any = "in") -> seen.Arp:
    """Who has `target`; without one an announcement. source: the frame's, where it is another's."""
    raw = f"{op} {mac} {ip} {target}".encode().ljust(42, b"\0")
    return seen.Arp(seen.Frame(source or mac, to, direction, raw), op, mac, ip, seen.NO_MAC, target or ip)


def outside(mac: str, source: str = AFAR, target: str = AGENT.ip) -> seen.Packet:
    return seen.Packet(seen.Frame(mac, AGENT.mac, "in", b"\0" * 60), source, target)


def table(mac: str = ROUTER.mac, **others: str) -> seen.Neighbours:
    return seen.Neighbours({ROUTER.ip: mac, SERVER.ip: SERVER.mac, **others})


def mndp(who: Host, uptime: float, version: str = "7.15.3 (stable)", board: str = "RB4011iGS+", protocol: Any = "mndp") -> seen.Identity:
    return seen.Identity(seen.Frame(who.mac, ALL, "in", b"\0" * 60), protocol, who.mac, who.name, board, version, "ether1", uptime)


def weight(what: object) -> int:
    """How many things a detector holds, all the way down."""
    if isinstance(what, dict):
        return sum(1 + weight(value) for value in what.values())
    if isinstance(what, Table):
        return sum(1 + weight(value) for value in what.values())
    if isinstance(what, list | tuple | set | frozenset | collections.deque):
        return sum(1 + weight(value) for value in what)
    if dataclasses.is_dataclass(what) and not isinstance(what, type):
        return sum(1 + weight(getattr(what, field.name)) for field in dataclasses.fields(what))
    if hasattr(what, "__dict__") and not isinstance(what, type):
        return weight(vars(what))
    return 0
