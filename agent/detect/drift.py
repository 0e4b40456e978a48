"""A device that is read by SNMP is another than it was, or runs software older than it may (device_drift).

Law: told is what two polls agree on, and only where the device says something: an answer that is missing changes nothing. Another serial
number, kind (sysObjectID), model or name is "medium", and from then on the new one is what is known: a change is told once, by one case a
device. Newer software is "info", older "low"; below the operator's least (`versions`, by maker) it is "medium" for as long as it is so.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from agent.detect.ground import seconds
from agent.detect.model import Coverage, Finding, Grade, Plain, Rule, Said, Table, Vouched
from agent.detect.neighbours import version_of
from agent.detect.seen import DeviceIdentity
from agent.detect.telling import TEXT, Telling

IS, RUNS = ("serial", "kind", "model", "name"), "version"
FACTS = (*IS, RUNS)
AGREE = 2  # polls
DEVICES, NAME = 64, 64
MAKERS: Mapping[str, str] = {  # numbers of IANA's list of enterprises, below 1.3.6.1.4.1
    "14988": "mikrotik", "9": "cisco", "41112": "ubiquiti", "10002": "ubiquiti", "11863": "tp-link", "2011": "huawei", "318": "apc",
    "4526": "netgear", "11": "hp", "14823": "aruba", "3902": "zte", "2636": "juniper", "12356": "fortinet", "890": "zyxel",
    "171": "d-link", "25506": "h3c", "4881": "ruijie", "25053": "ruckus",
}  # fmt: skip
ENTERPRISES = "1.3.6.1.4.1."


@dataclasses.dataclass(slots=True)
class _Device:
    """known: what it is; doubt: fact → (what it says now, polls that said so); old: polls that said a version below the least, -1: none yet
    in this life, so that a case of an earlier one may be open.
    """

    last: float
    known: dict[str, str] = dataclasses.field(default_factory=dict)
    doubt: dict[str, tuple[str, int]] = dataclasses.field(default_factory=dict)
    old: int = -1


class DeviceDrift(Plain):
    rule: ClassVar[Rule] = Rule("device_drift", "R07", "1", "configuration", ("T1601", "T1200"), quiet=6 * 3600.0)
    wants: ClassVar[tuple[type, ...]] = (DeviceIdentity,)

    def __init__(self, vouched: Vouched) -> None:
        self._least = {maker.lower(): least for maker, text in vouched.versions.items() if (least := version_of(text))}
        self._devices: Table[str, _Device] = Table(DEVICES)
        self._now = 0.0
        self._telling = Telling()

    def see(self, seen: Any, at: float) -> Iterable[Said]:
        if not isinstance(seen, DeviceIdentity):
            return ()
        self._now = at
        device = self._devices.get(seen.device[:NAME]) or self._devices.put(seen.device[:NAME], _Device(at))
        device.last = at
        said = {fact: str(getattr(seen, fact))[:TEXT] for fact in FACTS}
        changed = {fact: text for fact, text in said.items() if text and self._differs(device, fact, text)}
        return [*self._changed(seen.device[:NAME], device, changed, at), *self._old(seen.device[:NAME], device, said, at)]

    @staticmethod
    def _differs(device: _Device, fact: str, text: str) -> bool:
        """Whether two polls agree that it isn't as it was; the first word of a fact is how it is."""
        if device.known.setdefault(fact, text) == text:
            device.doubt.pop(fact, None)
            return False
        before, polls = device.doubt.get(fact, (text, 0))
        device.doubt[fact] = (text, polls + 1 if before == text else 1)
        return device.doubt[fact][1] >= AGREE

    def _changed(self, name: str, device: _Device, changed: Mapping[str, str], at: float) -> Iterator[Said]:
        if not changed:
            return
        before = {fact: device.known[fact] for fact in changed}
        for fact, text in changed.items():
            device.known[fact] = text
            device.doubt.pop(fact, None)
        fields = {"ronda.device": name, "ronda.drift": ",".join(changed)}
        fields |= {f"ronda.old_{fact}": text for fact, text in before.items()} | {
            f"ronda.new_{fact}": text for fact, text in changed.items()
        }
        if any(fact in IS for fact in changed):
            message: str = "a device that is read by SNMP is another than it was"
            grade: Grade = "medium"
        else:
            old, new = version_of(before[RUNS]), version_of(changed[RUNS])
            older = old is not None and new is not None and new < old
            grade, message = ("low", "a device runs older software than before") if older else ("info", "a device's software was changed")
        key = f"is {name}" if grade == "medium" else f"runs {name}"
        yield from self._telling.say(Finding(self.rule.name, key, grade, "certain", message, confirmed=True, fields=fields), at)

    # -- software that is too old ---------------------------------------------------------------------------------------------

    def _old(self, name: str, device: _Device, said: Mapping[str, str], at: float) -> Iterator[Said]:
        if not said[RUNS]:
            return
        key = f"old {name}"
        least, version = self._least.get(maker_of(said["kind"] or device.known.get("kind", ""))), version_of(said[RUNS])
        if version is None or least is None or version >= least:
            if self._telling.close(key) or device.old:
                yield Finding(self.rule.name, key, "info", "certain", "a device's software is as new as it must be", state="closed")
            device.old = 0
            return
        device.old = min(AGREE, max(0, device.old) + 1)
        fields = {"ronda.device": name, "ronda.drift": "least", "ronda.new_version": said[RUNS], "ronda.new_model": said["model"]}
        message = "a device's software is older than the operator accepts"
        found = Finding(self.rule.name, key, "medium", "certain", message, confirmed=device.old >= AGREE, fields=fields)
        if device.old >= AGREE:
            yield from self._telling.say(found, at)

    def coverage(self, able: frozenset[str]) -> Coverage:
        return Coverage(1.0) if "devices" in able else Coverage(0.0, "no_devices")

    # -- what outlives a restart --------------------------------------------------------------------------------------------------

    def remember(self) -> Mapping[str, Any]:
        rows = [[name, round(self._now - device.last, 1), device.known] for name, device in self._devices.items()]
        return {"devices": rows} if rows else {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        taken = [(str(name)[:NAME], _Device(at - seconds(age), _facts(known))) for name, age, known in said["devices"][-DEVICES:]]
        for name, device in taken:
            self._devices.put(name, device)


def maker_of(kind: str) -> str:
    """By its sysObjectID; "": nobody that `versions` can name."""
    return MAKERS.get(kind.removeprefix(ENTERPRISES).partition(".")[0], "") if kind.startswith(ENTERPRISES) else ""


def _facts(known: Any) -> dict[str, str]:
    if any(not isinstance(text, str) for text in known.values()):
        raise ValueError("not what a device says of itself")
    return {fact: known[fact][:TEXT] for fact in FACTS if fact in known}
