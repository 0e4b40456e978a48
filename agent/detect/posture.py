"""How this box stands: its firewall, its updates, its clock, its root disk, what is plugged in.

Law: each says a state, not a moment: a case opens when two looks agree, and closes when it is over. "Not known" is neither good nor bad:
it is less coverage, never a finding and never an all-clear.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from agent.detect.model import Coverage, Finding, Grade, Plain, Rule, Said, Vouched
from agent.detect.seen import Firewall, RootDisk, TimeState, Updates, Usb

DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0
OLD, VERY_OLD, STALE = 14 * DAY, 45 * DAY, 7 * DAY
OFF, FAR_OFF, SETTLE = 2.0, 30.0, 60.0  # seconds that a clock may be off; and for how long it must be
UNSYNCHRONISED = HOUR
MAX_PENDING, MAX_DEVICES = 512, 64
QUIET_ERRORS = DAY


class State(Plain):
    """One condition by key, with the moment since which it holds."""

    rule: ClassVar[Rule]

    def __init__(self, vouched: Vouched = Vouched()) -> None:  # noqa: ARG002, B008  (the table's)
        self._since: dict[str, float] = {}
        self._open: dict[str, Grade] = {}
        self._looked: set[str] = set()

    def _is(
        self, key: str, bad: bool, at: float, message: str, over: str, *, grade: Grade = "medium", after: float = 1.0,
        fields: Mapping[str, str] | None = None,
    ) -> Iterator[Finding]:  # fmt: skip
        """Said when it opens and whenever it turns graver; `after` seconds in which it must hold, over two looks at least."""
        if not bad:
            self._since.pop(key, None)
            first = key not in self._looked  # a case of an earlier life ends here, if there is one
            self._looked.add(key)
            if self._open.pop(key, None) or first:
                yield Finding(self.rule.name, key, "info", "certain", over, "closed")
            return
        self._looked.add(key)
        since = self._since.setdefault(key, at)
        if at - since >= after and at > since and self._open.get(key) != grade:
            self._open[key] = grade
            yield Finding(self.rule.name, key, grade, "certain", message, confirmed=True, fields=fields or {})


class FirewallOff(State):
    """A box that never had a firewall is told in the digest; one that had one and has none is told at once."""

    rule: ClassVar[Rule] = Rule("firewall_off", "H06", "1", "configuration", ("T1686", "T1685"))
    wants: ClassVar[tuple[type, ...]] = (Firewall,)

    def __init__(self, vouched: Vouched = Vouched()) -> None:  # noqa: B008
        super().__init__(vouched)
        self._had = False
        self._readable = False

    def coverage(self, able: frozenset[str]) -> Coverage:  # noqa: ARG002
        return Coverage(1.0) if self._readable else Coverage(0.0, "firewall_unreadable")

    def see(self, seen: Firewall, at: float) -> Iterable[Said]:
        self._readable = seen.readable
        if not seen.readable:
            return ()
        self._had = self._had or seen.guarded
        fields = {"ronda.firewall_rules": str(seen.rules)}
        grade: Grade = "high" if self._had else "low"
        message = "nothing is refused any more: the firewall is off" if self._had else "this box has no firewall"
        return list(self._is("off", not seen.guarded, at, message, "the firewall is on", grade=grade, after=MINUTE, fields=fields))

    def remember(self) -> Mapping[str, Any]:
        return {"had": True} if self._had else {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:  # noqa: ARG002
        self._had = bool(said["had"])


class UpdatesPending(State):
    """Counts from when this box first saw that an update is there: lists don't say when it came out."""

    rule: ClassVar[Rule] = Rule("updates_pending", "H07", "1", "package")
    wants: ClassVar[tuple[type, ...]] = (Updates,)

    def __init__(self, vouched: Vouched = Vouched()) -> None:  # noqa: B008
        super().__init__(vouched)
        self._first: dict[str, float] = {}
        self._why = "lists_unreadable"
        self.oldest = 0.0
        self._at = 0.0

    def coverage(self, able: frozenset[str]) -> Coverage:
        if "packages" not in able:
            return Coverage(0.0, "no_dpkg")
        return Coverage(0.5, self._why) if self._why else Coverage(1.0)

    def see(self, seen: Updates, at: float) -> Iterable[Said]:
        self._why, self._at = seen.why, at
        self._first = {name: self._first.get(name, at) for name in seen.names[:MAX_PENDING]}
        self.oldest = max([seen.oldest if seen.pending else 0.0, *(at - first for first in self._first.values())])
        fields = {"ronda.updates": str(seen.pending), "ronda.oldest_days": f"{self.oldest // DAY:.0f}", "ronda.reboot": str(seen.reboot)}
        grade: Grade = "high" if self.oldest > VERY_OLD else "medium"
        late = "security updates wait for more than two weeks"
        said = list(self._is("pending", self.oldest > OLD, at, late, "no old security update waits", grade=grade, after=0.0, fields=fields))
        old, days = "the lists of packages are old: security updates can't be known", {"ronda.lists_days": f"{seen.lists // DAY:.0f}"}
        return [*said, *self._is("lists", seen.lists > STALE, at, old, "the lists of packages are fresh", after=0.0, fields=days)]

    def tick(self, at: float) -> Iterable[Said]:
        self._at = max(self._at, at)
        return ()

    def _is(self, key: str, bad: bool, at: float, *texts: str, **how: Any) -> Iterator[Finding]:
        """What has lasted for days needs no second look."""
        self._since.setdefault(key, at - 1.0)
        return super()._is(key, bad, at, *texts, **how)

    def remember(self) -> Mapping[str, Any]:
        """In hours, so that a file that is written when it changes is not written for this alone."""
        return {"hours": {name: int((self._at - first) // HOUR) for name, first in self._first.items()}} if self._first else {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        self._first = {str(name): at - max(0.0, float(hours)) * HOUR for name, hours in list(said["hours"].items())[:MAX_PENDING]}


class ClockWrong(State):
    """For certificates and logs. A box without a clock chip is wrong until NTP has answered: it has an hour for it."""

    rule: ClassVar[Rule] = Rule("clock_wrong", "H08", "1", "host")
    wants: ClassVar[tuple[type, ...]] = (TimeState,)

    def __init__(self, vouched: Vouched = Vouched()) -> None:  # noqa: B008
        super().__init__(vouched)
        self._offset_known = False

    def coverage(self, able: frozenset[str]) -> Coverage:
        if "clock" not in able:
            return Coverage(0.0, "clock_unreadable")
        return Coverage(1.0) if self._offset_known else Coverage(0.5, "no_second_clock")

    def see(self, seen: TimeState, at: float) -> Iterable[Said]:
        said = list(
            self._is("unsynchronised", not seen.synchronised, at, "nobody keeps this clock right", "NTP keeps the clock right again",
                     after=UNSYNCHRONISED)
        )  # fmt: skip
        self._offset_known = seen.offset is not None
        if seen.offset is None:
            return said
        off = abs(seen.offset)
        grade: Grade = "high" if off > FAR_OFF else "medium"
        fields = {"ronda.clock_offset_seconds": f"{seen.offset:.3f}"}
        return [
            *said,
            *self._is("offset", off > OFF, at, "this clock is off", "the clock is right again", grade=grade, after=SETTLE, fields=fields),
        ]


class RootDiskBad(State):
    """The card wears out, or is full of errors: no attack, and as fatal."""

    rule: ClassVar[Rule] = Rule("root_disk", "H10", "1", "host")
    wants: ClassVar[tuple[type, ...]] = (RootDisk,)

    def __init__(self, vouched: Vouched = Vouched()) -> None:  # noqa: B008
        super().__init__(vouched)
        self._errors: int | None = None
        self._last = 0.0
        self._known = False

    def coverage(self, able: frozenset[str]) -> Coverage:
        if "mounts" not in able:
            return Coverage(0.0, "mounts_unreadable")
        return Coverage(1.0) if self._known else Coverage(0.5, "errors_not_counted")

    def see(self, seen: RootDisk, at: float) -> Iterable[Said]:
        self._known = seen.errors >= 0
        message, over = "the root disk has become read-only", "the root disk can be written again"
        said = list(self._is("read_only", seen.read_only, at, message, over))
        if seen.errors < 0:
            return said
        before, self._errors = self._errors, seen.errors
        if before is not None and seen.errors > before:
            fields = {"ronda.errors": str(seen.errors)}
            text = "the root disk makes errors"
            said.append(
                Finding(self.rule.name, "errors", "medium", "certain", text, confirmed=True, fields=fields, times=seen.errors - before)
            )
            self._last, self._open["errors"] = at, "medium"
        elif before is None or ("errors" in self._open and at - self._last >= QUIET_ERRORS):
            self._open.pop("errors", None)
            said.append(Finding(self.rule.name, "errors", "info", "certain", "the root disk has made no errors for a day", "closed"))
        return said


class UsbDevice(State):
    """A kind of thing that was never plugged in here. What stays for a day counts as known."""

    rule: ClassVar[Rule] = Rule("usb_device", "H09", "1", "host", ("T1200",))
    wants: ClassVar[tuple[type, ...]] = (Usb,)

    def __init__(self, vouched: Vouched = Vouched()) -> None:  # noqa: B008
        super().__init__(vouched)
        self._classes: set[str] | None = None

    def coverage(self, able: frozenset[str]) -> Coverage:
        return Coverage(1.0) if "usb" in able else Coverage(0.0, "no_usb")

    def see(self, seen: Usb, at: float) -> Iterable[Said]:
        now = set(list(seen.devices.values())[:MAX_DEVICES])
        if self._classes is None:
            self._classes = now
            return ()
        said: list[Said] = []
        for kind in sorted((now - self._classes) | set(self._since) | set(self._open)):
            if kind in now and at - self._since.get(kind, at) >= DAY:
                self._classes.add(kind)
            fields = {"ronda.usb_class": kind, "ronda.usb_port": next((p for p, k in seen.devices.items() if k == kind), "")}
            here = kind in now and kind not in self._classes
            said += self._is(
                kind, here, at, "a kind of device is plugged in that never was", "it is gone, or counts as known", fields=fields
            )
        return said

    def remember(self) -> Mapping[str, Any]:
        return {"classes": sorted(self._classes), "open": sorted(self._open)} if self._classes is not None else {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        self._classes = set(map(str, said["classes"][:MAX_DEVICES]))
        for kind in said["open"][:MAX_DEVICES]:
            self._since[str(kind)], self._open[str(kind)] = at, "medium"
