"""The casebook: what becomes of findings. A condition is a case, told when it opens, when it grows or turns graver, and when it is over.

Law: pure, time is an argument (`at`: monotonic seconds that never go back; `wall`: for the events' times). Bounded, whoever is on the wire:
what is over a limit is counted and said as "n more", and never costs another source its case.

A case is known by (rule, key). Told of it are: its opening; each time its count passes 10, 100, 1000, …; each time that it is told graver
than before; what suppresses it, and the end of that; its end. How grave it is told:
    as found, and confirmed by a second observation    else "low" at most, so that nobody is woken
    "info" while its rule is learning, and while somebody has accepted it (agent/detect/suppressions.py)
    "medium" at most where the same condition has had a person woken within the hour, and it was no graver then

Where it is plugged in is asked for of each open case, by whoever gave us `where`: what was known last stays, and is told once it is known.
"""

import collections
import dataclasses
import math
import re
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any, NamedTuple

from agent.bucket import Bucket, Peers
from agent.detect.model import ATTACK, GRADES, Finding, Grade, Rule, Table
from agent.detect.suppressions import Suppression
from agent.detect.where import FIELD, NAME, Place
from agent.model import Event, Metric, Sample, Severity

MAX_CASES = 256  # that are open at once
MAX_FRAMES = 20  # packets kept as evidence of a case
MAX_OWN, MAX_VALUE = 24, 200  # fields of a finding, and characters of one
HOUR = 3600.0  # seconds: one page a condition; a case that comes again within it is the same one
SOURCE_BURST, SOURCE_EVERY = 5, 720.0  # new cases of a rule by one source: so many at once, then one each so many seconds
RULE_BURST, RULE_EVERY = 20, 180.0  # and by all sources together
MORE_AFTER, MORE_EVERY = 60.0, 600.0  # seconds until what was over a limit is said, and between two tellings
LOCATE = 30.0  # seconds between two looks at where the cause of a case is plugged in
MAX_TOLD = 1024  # outcomes that wait to be taken away
PAGES = frozenset({"critical", "high"})
SEVERITY: Mapping[Grade, Severity] = {"critical": "critical", "high": "critical", "medium": "warning", "low": "info", "info": "info"}
OVERRIDES = ("event.type", "event.action", "event.outcome")  # of ours that a finding may say itself
CHANGES = frozenset({"iam", "configuration", "file"})  # categories whose findings are of something that was changed

ACTIVE = Metric(
    "ronda_condition_active",
    "Whether a detector's condition holds now, by the grade that it is told with; rules that never had one have no series.",
    labels=("rule", "severity"),
)
OPENED = Metric(
    "ronda_condition_opened_timestamp_seconds",
    "When the oldest open case of a rule got its id, which says that time, by the grade that it is told with; .0025 is the id's -2.",
    labels=("rule", "severity"),
)
LEARNING = Metric("ronda_detector_learning", "Whether a detector is still learning: what it finds is told as info.", labels=("detector",))
SUPPRESSED = Metric("ronda_findings_suppressed_total", "Findings that somebody had accepted beforehand.", "counter", ("rule",))
LIMITED = Metric("ronda_findings_limited_total", "Findings that were not told one by one: too many.", "counter", ("rule",))
WHERE = Metric(
    "ronda_condition_where_info",
    "Where the cause of a rule's gravest open case is plugged in: names of the config and of interfaces. None where no switch tells.",
    labels=("rule", "device", "port"),
)
_NUMBER = re.compile(r"-\d{4}-\d{4}-(\d{1,3})\Z")
METRICS = (ACTIVE, OPENED, LEARNING, SUPPRESSED, LIMITED, WHERE)


class Kept(NamedTuple):
    """A packet of evidence. at: wall clock seconds."""

    at: float
    raw: bytes


class Outcome(NamedTuple):
    """What is told of a case. frames: all of its evidence so far; keys are `rule` and `key` of the findings."""

    event: Event
    id: str
    frames: tuple[Kept, ...]
    rule: str
    key: str


class Ids:
    """Gives cases their ids, as people say them on the phone: DKC-1124-0915, and -2 behind it where that minute has had one."""

    def __init__(self) -> None:
        self._given: collections.deque[str] = collections.deque(maxlen=MAX_CASES * 4)

    def give(self, code: str, zone: tzinfo, wall: float) -> str:
        first = f"{code}-{datetime.fromtimestamp(min(max(wall, 0.0), 253402214400.0), zone):%m%d-%H%M}"
        given = next(name for n in range(1, MAX_CASES * 4 + 2) if (name := first if n == 1 else f"{first}-{n}") not in self._given)
        self._given.append(given)
        return given

    def known(self, name: str) -> None:
        """This one was given in an earlier life."""
        if name not in self._given:
            self._given.append(name)

    def last(self) -> list[str]:
        """Those of the last while, for the next life."""
        return list(self._given)[-64:]


@dataclasses.dataclass(slots=True)
class Case:
    """One condition. first, last: monotonic; `told` None: not yet; paged: how grave it was when it last had a person woken; named: wall
    clock seconds, when it got its id.
    """

    id: str
    rule: str
    key: str
    source: str
    grade: Grade
    confidence: str
    message: str
    first: float
    last: float
    named: float = 0.0
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    confirmed: bool = False
    count: int = 0
    next: int = 10
    told: Grade | None = None
    suppressed_by: str = ""
    paged: Grade | None = None
    paged_at: float = 0.0
    frames: list[Kept] = dataclasses.field(default_factory=list)
    had: int = 0  # packets that were kept of it in an earlier life, or before it ended
    place: Place | None = None  # where it is plugged in, as far as was known last
    place_told: bool = False
    located: float = float("-inf")

    @property
    def said_at(self) -> float:
        """When it got its id, as a number that says the whole id: of several in one minute the thousandths of a second say which.

        A half more, so that nobody who cuts off digits comes below it.
        """
        number = int((_NUMBER.search(self.id) or ("", "0"))[1])
        return math.floor(self.named) + (number + 0.5 if number else 0.0) / 1000.0

    @property
    def evidence(self) -> int:
        return max(self.had, len(self.frames))

    def add(self, finding: Finding, at: float, wall: float) -> None:
        grade = found_grade(finding)
        if graver(grade, self.grade) or grade == self.grade:
            self.grade, self.message, self.confidence = grade, finding.message, finding.confidence
        self.confirmed = self.confirmed or finding.confirmed
        self.count += max(1, finding.times)
        self.last = at
        self.source = finding.source or self.source
        self.fields |= dict(list(finding.fields.items())[:MAX_OWN])
        for name in list(self.fields)[MAX_OWN:]:
            del self.fields[name]
        for frame in finding.frames:
            if frame.raw and len(self.frames) < MAX_FRAMES:
                self.frames.append(Kept(wall, frame.raw))


def graver(one: Grade, other: Grade) -> bool:
    return GRADES.index(one) < GRADES.index(other)


def found_grade(finding: Finding) -> Grade:
    """How grave a finding counts by itself: what nothing else confirms has nobody woken."""
    return finding.grade if finding.confirmed or not graver(finding.grade, "low") else "low"


class Casebook:
    """What a patrol tells (agent/detect/patrol.py). `learning` False: all rules are trusted from the start, as a replay wants it."""

    def __init__(
        self, rules: Iterable[Rule], code: str, timezone: str, *, suppressions: Iterable[Suppression] = (), ids: Ids | None = None,
        learning: bool = True, where: Callable[[Mapping[str, str]], Place | None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.rules = {rule.name: rule for rule in rules}
        self.limited: collections.Counter[str] = collections.Counter()
        self.suppressed: collections.Counter[str] = collections.Counter()
        self._code, self._zone, self._ids, self._learns = code, zoneinfo.ZoneInfo(timezone), ids or Ids(), learning
        self._where = where
        self._suppressions = tuple(suppressions)
        self._open: dict[tuple[str, str], Case] = {}
        self._over: Table[tuple[str, str], Case] = Table(MAX_CASES)  # closed within the hour
        self._told: collections.deque[Outcome] = collections.deque(maxlen=MAX_TOLD)
        self._began: dict[str, float] = {}  # when a rule first looked
        self._ever: set[tuple[str, Grade]] = set()
        self._sources = Peers(SOURCE_BURST, SOURCE_EVERY)
        self._room: dict[str, Bucket] = {}
        self._more: dict[str, More] = {}
        self._last_id: dict[str, str] = {}
        self._at = self._wall = 0.0

    # -- what comes in ----------------------------------------------------------------------------------------------------

    def take(self, finding: Finding, at: float, wall: float) -> None:
        """Raises KeyError for a rule that is none of ours."""
        rule = self.rules[finding.rule]
        self._at, self._wall = at, wall
        self._began.setdefault(rule.name, at)
        case = self._open.get((finding.rule, finding.key))
        if finding.state == "closed":
            if case:
                case.last = at  # it was looked at, and is over: that is the time which is told
                self._close(case, at, finding.message)
            return
        case = case or self._opened(finding, at, wall)
        if not case:
            self._leave_out(finding, at)
            return
        case.add(finding, at, wall)
        if self._suppression(case):
            self.suppressed[rule.name] += max(1, finding.times)
        self._look(case, at)

    def tick(self, at: float, wall: float) -> None:
        """Called every second or so, also when nothing is found."""
        self._at, self._wall = at, wall
        for name, rule in self.rules.items():
            self._began.setdefault(name, at)
            if (more := self._more.get(name)) and more.n and at >= more.due:
                self._say_more(rule, more, at)
        for case in list(self._open.values()):
            quiet = self.rules[case.rule].quiet
            if quiet and at - case.last >= quiet:
                self._close(case, at, f"{case.message}: over, nothing more was seen")
            else:
                self._look(case, at)
        for key, case in self._over.items():
            if at - case.last >= HOUR:
                self._over.pop(key)

    def suppress(self, suppressions: Iterable[Suppression]) -> None:
        """What people accept from now on, all of it."""
        self._suppressions = tuple(suppressions)

    # -- what goes out ----------------------------------------------------------------------------------------------------

    def drain(self) -> list[Outcome]:
        """What there is to tell since the last time."""
        told = list(self._told)
        self._told.clear()
        return told

    def learning(self, name: str) -> bool:
        rule = self.rules[name]
        return self._learns and self._at - self._began.get(name, self._at) < rule.learning

    def samples(self) -> Iterator[Sample]:
        now = {(case.rule, case.told) for case in self._open.values() if case.told}
        for rule, grade in sorted(self._ever):
            yield ACTIVE(float((rule, grade) in now), rule, grade)
        for (rule, grade), named in sorted(self._opened_at().items()):
            yield OPENED(named, rule, grade)
        for name, rule_ in self.rules.items():
            if rule_.learning:
                yield LEARNING(float(self.learning(name)), name)
        for rule, place in sorted(self._places().items()):
            yield WHERE(1.0, rule, place.device, place.port)
        for metric, counts in ((SUPPRESSED, self.suppressed), (LIMITED, self.limited)):
            for name, n in sorted(counts.items()):
                yield metric(n, name)

    def _opened_at(self) -> dict[tuple[str, Grade], float]:
        at: dict[tuple[str, Grade], float] = {}
        for case in self._open.values():
            if case.told:
                named = case.said_at
                at[case.rule, case.told] = min(named, at.get((case.rule, case.told), named))
        return at

    def _places(self) -> dict[str, Place]:
        """By rule, of its gravest open case that has one; of several the oldest."""
        gravest: dict[str, Case] = {}
        for case in self._open.values():
            other = gravest.get(case.rule)
            if case.told and case.place and (other is None or graver(case.told, other.told or "info")):
                gravest[case.rule] = case
        return {rule: case.place for rule, case in gravest.items() if case.place}

    def cases(self) -> Sequence[Case]:
        """Those that are open."""
        return tuple(self._open.values())

    # -- a case's life ----------------------------------------------------------------------------------------------------

    def _opened(self, finding: Finding, at: float, wall: float) -> Case | None:
        """A new case, or the one that was closed within the hour; None: there is no room for one."""
        key = (finding.rule, finding.key)
        if (case := self._over.get(key)) and self._has_room(finding):
            self._over.pop(key)
            case.told, case.count, case.next, case.first, case.grade = None, 0, 10, at, "info"
        elif self._has_room(finding) and self._may_open(finding, at):
            name = self._ids.give(self._code, self._zone, wall)
            case = Case(name, finding.rule, finding.key, finding.source, "info", finding.confidence, finding.message, at, at, wall)
        else:
            return None
        self._open[key] = case
        self._last_id[finding.rule] = case.id
        return case

    def _may_open(self, finding: Finding, at: float) -> bool:
        """Within the limits; what is graver than all that its rule has open always is."""
        mine = [case.grade for case in self._open.values() if case.rule == finding.rule]
        room = self._room.setdefault(finding.rule, Bucket(RULE_BURST, RULE_EVERY, at))
        waits = self._sources.take(f"{finding.rule} {finding.source}", at) if finding.source else 0.0
        waits = waits or room.take(at)
        return not waits or all(graver(found_grade(finding), grade) for grade in mine)

    def _has_room(self, finding: Finding) -> bool:
        """Room in the table: made, where need be, by the oldest of the lightest cases, if it is lighter than this."""
        if len(self._open) < MAX_CASES:
            return True
        lightest = max(self._open.values(), key=lambda case: (GRADES.index(case.grade), -case.last))
        if not graver(found_grade(finding), lightest.grade):
            return False
        self._close(lightest, self._at, f"{lightest.message}: no longer followed, there is too much at once")
        return True

    def _look(self, case: Case, at: float) -> None:
        """Tells of a case where there is something to tell."""
        self._locate(case, at)
        suppression = self._suppression(case)
        by = suppression.by if suppression else ""
        grade = self._grade_to_tell(case, at, suppressed=bool(by))
        grown = case.count >= case.next
        while case.count >= case.next:
            case.next *= 10
        placed = case.place is not None and not case.place_told
        news = case.told is None or graver(grade, case.told) or grown or placed or by != case.suppressed_by
        if not news:
            return
        state = "open" if case.told is None else "update"
        case.told, case.suppressed_by = grade, by
        self._ever.add((case.rule, grade))
        if grade in PAGES and (case.paged is None or graver(grade, case.paged) or at - case.paged_at >= HOUR):
            case.paged, case.paged_at = grade, at
        self._tell(case, "learning" if self.learning(case.rule) else state, at, case.message, suppression)

    def _locate(self, case: Case, at: float) -> None:
        if at - case.located >= LOCATE:
            case.located = at
            case.place = self._where(case.fields) or case.place

    def _grade_to_tell(self, case: Case, at: float, *, suppressed: bool) -> Grade:
        if suppressed or self.learning(case.rule):
            return "info"
        if case.told and not graver(case.grade, case.told) and case.told in PAGES:
            return case.told
        held = case.paged is not None and at - case.paged_at < HOUR and not graver(case.grade, case.paged)
        return "medium" if held and case.grade in PAGES else case.grade

    def _close(self, case: Case, at: float, message: str) -> None:
        del self._open[case.rule, case.key]
        self._tell(case, "closed", at, message, self._suppression(case))
        case.last, case.had, case.frames = at, case.evidence, []
        self._over.put((case.rule, case.key), case)

    def _suppression(self, case: Case) -> Suppression | None:
        return next((s for s in self._suppressions if s.fits(case.rule, case.key, case.source, case.fields, self._wall)), None)

    # -- too many ---------------------------------------------------------------------------------------------------------

    def _leave_out(self, finding: Finding, at: float) -> None:
        self.limited[finding.rule] += max(1, finding.times)
        more = self._more.setdefault(finding.rule, More(at + MORE_AFTER))
        if not more.n:
            more.due = max(more.due, at + MORE_AFTER)
        more.n += max(1, finding.times)
        if len(more.sources) < MAX_CASES:
            more.sources.add(finding.source)

    def _say_more(self, rule: Rule, more: "More", at: float) -> None:
        some = f"{len(more.sources)} sources" if len(more.sources) < MAX_CASES else "very many sources"
        message = f"{more.n} more findings of {some} are not told one by one"
        name = self._last_id.get(rule.name) or self._ids.give(self._code, self._zone, self._wall)
        case = Case(name, rule.name, "", "", "info", "certain", message, at, at, 0.0, {"ronda.more": str(more.n)}, count=1, told="info")
        self._tell(case, "update", at, message, None)
        self._more[rule.name] = More(at + MORE_EVERY)

    # -- as events --------------------------------------------------------------------------------------------------------

    def _tell(self, case: Case, state: str, at: float, message: str, suppression: Suppression | None) -> None:
        rule = self.rules[case.rule]
        grade = case.told or case.grade
        severity = "info" if state == "closed" else SEVERITY[grade]
        times = f" ({case.count} times)" if state == "update" and case.count >= 10 else ""
        fields, own = self._fields(rule, case, state, grade), _own(case.fields)
        if suppression:
            fields |= {"ronda.suppressed_by": suppression.by, "ronda.suppressed_until": suppression.said(self._zone)}
        fields |= {name: value for name, value in own.items() if name not in fields or name in OVERRIDES}
        if case.place:
            fields[FIELD] = str(case.place)
            case.place_told = True
        first, last = (self._wall - (at - moment) for moment in (case.first, case.last))
        event = Event(rule.name, severity, message + times, fields, first, max(first, last), max(1, case.count))
        self._told.append(Outcome(event, case.id, tuple(case.frames), case.rule, case.key))

    def _fields(self, rule: Rule, case: Case, state: str, grade: Grade) -> dict[str, str]:
        """Under the names of the Elastic Common Schema, and ronda.* for what it has no name for."""
        techniques = {"threat.framework": "MITRE ATT&CK", "threat.version": ATTACK, "threat.technique.id": ",".join(rule.techniques)}
        return {
            "event.kind": "alert", "event.category": rule.category, "event.type": "change" if rule.category in CHANGES else "info",
            "event.action": rule.name, "event.severity": str(5 - GRADES.index(grade)), "event.id": case.id, "rule.id": rule.catalogue,
            "rule.name": rule.name, "rule.version": rule.version, "observer.name": self._code, "observer.geo.timezone": self._zone.key,
            **(techniques if rule.techniques else {}),
            "ronda.confidence": case.confidence, "ronda.state": state, "ronda.grade": grade,
            "ronda.dedup_key": dedup_key(case.rule, case.key), "ronda.evidence": str(case.evidence), "ronda.advice_id": rule.name,
        }  # fmt: skip

    # -- what outlives a restart ------------------------------------------------------------------------------------------

    def remember(self) -> dict[str, Any]:
        """As JSON; taken up by `recall`."""
        learnt = {name: round(self._at - began, 1) for name, began in self._began.items() if self.rules[name].learning}
        return {"cases": [self._dump(case) for case in self._open.values()], "learnt": learnt, "ids": self._ids.last()}

    def _dump(self, case: Case) -> dict[str, Any]:
        said = {name: getattr(case, name) for name in _TEXTS} | {"fields": case.fields, "count": case.count, "next": case.next}
        paged_ago = self._at - case.paged_at if case.paged else 0.0
        return said | {
            "confirmed": case.confirmed,
            "named": case.named,
            "place": list(case.place) if case.place else None,
            "had": case.evidence,
            "age": self._at - case.first,
            "paged_ago": paged_ago,
        }

    def recall(self, said: Mapping[str, Any], at: float, wall: float) -> None:
        """Takes up what `remember` gave in an earlier life. Raises ValueError, KeyError, TypeError, AttributeError for what is none."""
        self._at, self._wall = at, wall
        for name, seconds in said["learnt"].items():
            if name in self.rules:
                self._began[name] = at - max(0.0, float(seconds))
        for name in said.get("ids", ())[:MAX_CASES]:
            self._ids.known(str(name))
        for held in said["cases"][:MAX_CASES]:
            case = _loaded(held, at)
            if case.rule in self.rules:
                self._ids.known(case.id)
                self._open[case.rule, case.key] = case
                self._last_id[case.rule] = case.id
                if case.told:
                    self._ever.add((case.rule, case.told))


@dataclasses.dataclass(slots=True)
class More:
    """Findings of a rule that were over a limit, and when that is said."""

    due: float
    n: int = 0
    sources: set[str] = dataclasses.field(default_factory=set)


_TEXTS = ("id", "rule", "key", "source", "grade", "confidence", "message", "told", "suppressed_by", "paged")


def _loaded(held: Mapping[str, Any], at: float) -> Case:
    texts: dict[str, Any] = {name: held[name] for name in _TEXTS}
    if any(not isinstance(text, str) and not (text is None and name in ("told", "paged")) for name, text in texts.items()):
        raise TypeError("a case of other things than texts")
    if any(texts[name] not in (*GRADES, None) for name in ("grade", "told", "paged")):
        raise ValueError("not a grade")
    fields = {str(name): str(value) for name, value in list(held["fields"].items())[:MAX_OWN]}
    first, paged_at = at - max(0.0, float(held["age"])), at - max(0.0, float(held["paged_ago"]))
    case = Case(**texts, first=first, last=at, paged_at=paged_at, fields=fields, confirmed=bool(held["confirmed"]))
    case.count, case.next = max(1, int(held["count"])), max(10, int(held["next"]))
    if place := held.get("place"):
        device, port = (str(name)[:NAME] for name in place)
        case.place, case.place_told = Place(device, port), True
    case.named, case.had = float(held.get("named", 0.0)), max(0, min(MAX_FRAMES, int(held.get("had", 0))))
    return case


def dedup_key(rule: str, key: str) -> str:
    """What makes two findings the same condition; stays on this box as it is (agent/pseudonyms.py)."""
    return f"{rule} {key}"[:MAX_VALUE]


def _own(fields: Mapping[str, str]) -> dict[str, str]:
    """A finding's own fields, cut: whoever is on the wire may have written them."""
    return {name: value if len(value) <= MAX_VALUE else value[: MAX_VALUE - 1] + "…" for name, value in fields.items()}
