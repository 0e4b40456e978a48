"""Plays cases through the detectors as a Ronda on that wire would have seen them, and judges what was told.

Law: the same code as the agent's (reading, patrol, detectors, casebook), no network, no clock: time is the case's. A detector is right in a
case if it tells what is expected, in time and naming the right one, and nobody above "low" who isn't expected or allowed.
"""

import dataclasses
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from agent.bucket import Bucket
from agent.capture.probes import ARP_PROBES, MOST_WISHES, PACE
from agent.detect import reading, seen
from agent.detect.casebook import Casebook, Outcome
from agent.detect.model import GRADES, Detector, Vouched
from agent.detect.patrol import Patrol
from agent.detect.table import HOST, LAN, SYSLOG, TRAPS
from agent.wire.frame import FrameError
from agent.wire.pcap import Capture, link
from tests.detect import cases, officeday, routercases
from tests.detect.cases import BEGIN, Answers, Step

EVERY = (*LAN, *HOST, *SYSLOG, *TRAPS)  # the tables that are played
HERE = Path(__file__).parent
CORPUS = next((p for p in (HERE.parents[2] / "shared/corpus", HERE.parents[1] / "shared/corpus") if p.is_dir()), Path("corpus"))
WALL = 1_795_000_000.0  # 2026-11-18: when every case begins
CLOSE_LOOK, COARSE = 10.0, 30.0  # seconds after a step in which time passes second by second; then in steps
SOON = 15.0  # seconds within which a true case is told where packets are seen (N8)
TOLD_OF = ("critical", "high", "medium")  # what somebody is told of: above low


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A line of the manifest. expect: rule → [seconds, least grade]; allow: rule → the gravest grade that isn't held against it.

    sort: attack, benign (its innocent twin), malformed; of: the detectors that it is about; accused: who must be named; evidence: how long
    what proves it takes, and why, where that is longer than SOON
    """

    name: str
    sort: str
    of: tuple[str, ...]
    make: str = ""
    file: str = ""
    seed: int = 1
    expect: Mapping[str, tuple[float, str]] = dataclasses.field(default_factory=dict)
    allow: Mapping[str, str] = dataclasses.field(default_factory=dict)
    never: tuple[str, ...] = ()
    accused: str = ""
    most: int = 1
    vouched: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    network: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    recall: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    begin: float = 0.0
    evidence: str = ""

    @property
    def there(self) -> bool:
        """Whether its file is here: the corpus isn't a part of this project."""
        return not self.file or (CORPUS / self.file).exists()


def manifest() -> list[Case]:
    found = []
    for line in yaml.safe_load((HERE / "manifest.yaml").read_text()):
        of = line.pop("of")
        expect = {rule: (float(limit), grade) for rule, (limit, grade) in line.pop("expect", {}).items()}
        never = tuple(line.pop("never", ()))
        found.append(Case(of=(of,) if isinstance(of, str) else tuple(of), expect=expect, never=never, **line))
    return found


def steps(case: Case) -> Iterator[Step]:
    if case.file:
        return recorded(case)
    name, _, argument = case.make.partition(":")
    made: Any = getattr(cases, name, None) or getattr(routercases, name)
    if name == "garbage":
        made = cases.garbage(*(kind for d in detectors(case.of) for kind in d.wants))
    elif argument:
        made = made(getattr(cases, argument) if name == "mangled" else argument)
    in_order: Iterator[Step] = iter(sorted(made(random.Random(f"{case.make} {case.seed}")), key=lambda step: step[0]))
    return in_order


def recorded(case: Case) -> Iterator[Step]:
    """A file of the corpus: a capture's packets at its own times, which never go back; of a log, each login at the time of its line."""
    if case.network:
        said = {key: tuple(value) if isinstance(value, list) else value for key, value in case.network.items()}
        yield 0.0, seen.Network(**{"device": "eth0", **said})
    with (CORPUS / case.file).open("rb") as f:
        start, at = None, 1.0
        for n, packet in enumerate(Capture(f.read)):
            start = packet.time if start is None else start
            at = max(at, 1.0 + packet.time - start)
            if n == int(case.begin):
                yield at, BEGIN
            try:
                head = link(packet)
            except FrameError:
                continue
            if head:
                direction = head[1]
                mac = case.network.get("mac", "")
                if direction == "unknown" and mac:
                    direction = "out" if head[0].source == mac else "in" if head[0].target == mac else direction
                for observation in reading.read_link(head[0], packet.data, direction):
                    yield at, observation


def detectors(names: Iterable[str] = (), vouched: Vouched | None = None) -> list[Detector]:
    made = [make(vouched or Vouched()) for make in EVERY]
    wanted = set(names)
    return [detector for detector in made if not wanted or detector.rule.name in wanted]


class Told(list[tuple[float, Outcome]]):
    """What was told, and when."""

    def opened(self) -> Iterator[tuple[float, str, str, Outcome]]:
        """(when, rule, grade, outcome) of what isn't an end."""
        for at, outcome in self:
            if outcome.event.fields["ronda.state"] != "closed":
                yield at, outcome.rule, outcome.event.fields["ronda.grade"], outcome


@dataclasses.dataclass(slots=True)
class Played:
    told: Told
    begin: float
    failures: dict[str, int]
    steps: int = 0


def office(day: officeday.Day) -> Iterator[Step]:
    """A generated day, as steps."""
    yield from day.frames()


def play(
    many: Iterable[Step], vouched: Vouched | None = None, recall: Mapping[str, Any] | None = None, *, learning: bool = False
) -> Played:
    """All detectors over all steps: each case is every other detector's benign case too."""
    patrol, book = _patrol(vouched or Vouched(), learning)
    if lost := patrol.recall(recall or {}, 0.0):
        raise ValueError(f"{lost} could not recall what the manifest says")
    wire, played = Wire(patrol, book), Played(Told(), 0.0, {})
    for at, what in many:
        played.told += wire.until(at)
        played.steps += 1
        if what == BEGIN:
            played.begin = at
        elif isinstance(what, Answers):
            wire.answers = what.who
        elif isinstance(what, bytes):
            for observation in reading.read(what, "unknown", (cases.AGENT.mac,)):
                wire.tell(observation)
        else:
            wire.tell(what)  # type: ignore[arg-type]
        played.told += wire.said()
    played.told += wire.until(wire.now + 15.0)
    played.failures = dict(patrol.failures)
    return played


def _patrol(vouched: Vouched, learning: bool) -> tuple[Patrol, Casebook]:
    many = detectors(vouched=vouched)
    book = Casebook([d.rule for d in many], "DKC", "Asia/Jakarta", learning=learning)
    return Patrol(many, book), book


class Wire:
    """Time as it passes for a Ronda: a turn each second (some of them only, where nothing happens), in which wishes for ARP probes are
    granted as agent/capture/probes.py does it, one after the other. answers: who has an address, by the case; None: it doesn't say.
    """

    def __init__(self, patrol: Patrol, book: Casebook) -> None:
        self.now = 0.0
        self.answers: Mapping[str, tuple[str, ...]] | None = None
        self._patrol, self._book = patrol, book
        self._turned = self._free = 0.0
        self._asked: list[tuple[float, str]] = []
        self._bucket = Bucket(4, PACE.arp_asked, 0.0)

    def tell(self, observation: seen.Observation) -> None:
        self._patrol.see(observation, self.now, WALL + self.now)

    def said(self) -> Iterator[tuple[float, Outcome]]:
        return ((self.now, outcome) for outcome in self._book.drain())

    def until(self, end: float) -> Iterator[tuple[float, Outcome]]:
        """Turns and answers up to then; time never goes back."""
        begin = self.now
        while (turn := self._turned + (1.0 if self._turned - begin < CLOSE_LOOK or self._asked else COARSE)) < end:
            while self._asked and self._asked[0][0] <= turn:
                yield from self._answered()
            self.now = self._turned = turn
            self._patrol.tick(turn, WALL + turn)
            self._grant()
            yield from self.said()
        while self._asked and self._asked[0][0] <= end:
            yield from self._answered()
        self.now = max(self.now, end)

    def _answered(self) -> Iterator[tuple[float, Outcome]]:
        when, target = self._asked.pop(0)
        self.now = max(self.now, when)
        who = (self.answers or {}).get(target, ())
        self.tell(seen.ArpProbe(target, who, tuple(seen.Frame(mac, cases.AGENT.mac, "in", b"\0" * 60) for mac in who)))
        yield from self.said()

    def _grant(self) -> None:
        while self._patrol.asks:
            wish = self._patrol.asks.popleft()
            if wish.probe == "arp" and self.answers is not None and len(self._asked) < MOST_WISHES:
                at = max(self.now, self._free)
                at += self._bucket.take(at)
                self._free = at + ARP_PROBES * PACE.arp
                self._asked.append((self._free, wish.target))


@dataclasses.dataclass(slots=True)
class Verdict:
    """missed: expected rules that were not told as expected, with why; false: what was told above low, and nobody asked for."""

    case: Case
    missed: dict[str, str]
    false: dict[str, str]
    seconds: dict[str, float]
    failures: Mapping[str, int]

    @property
    def right(self) -> bool:
        return not (self.missed or self.false or self.failures)

    def __str__(self) -> str:
        parts = [f"missed {rule}: {why}" for rule, why in self.missed.items()]
        parts += [f"false {rule}: {why}" for rule, why in self.false.items()]
        parts += [f"{name} failed {n} times" for name, n in self.failures.items()]
        return f"{self.case.name}: " + ("; ".join(parts) or "right")


def judge(case: Case) -> Verdict:
    known = {make(Vouched()).rule.name for make in EVERY}
    if absent := [rule for rule in case.of if rule not in known]:
        return Verdict(case, dict.fromkeys(absent, "there is no such detector"), {}, {}, {})
    played = play(steps(case), _vouched(case.vouched), case.recall)
    verdict = Verdict(case, {}, {}, {}, played.failures)
    for rule, (limit, grade) in case.expect.items():
        _expect(verdict, played, rule, limit, grade)
    for _, rule, grade, outcome in played.told.opened():
        if rule in case.expect or not _graver(grade, case.allow.get(rule, case.allow.get("*", "low"))):
            continue
        verdict.false.setdefault(rule, f"{grade}: {outcome.event.message}")
    for rule in case.never:
        if any(told == rule for _, told, _, _ in played.told.opened()):
            verdict.false.setdefault(rule, "must not be told at all here")
    return verdict


def _expect(verdict: Verdict, played: Played, rule: str, limit: float, least: str) -> None:
    """Told after the beginning, within the limit, grave enough, naming the right one, and not again and again."""
    told = [(at, grade, outcome) for at, name, grade, outcome in played.told.opened() if name == rule]
    early = [(at, grade) for at, grade, _ in told if at < played.begin and _graver(grade, verdict.case.allow.get(rule, "low"))]
    good = [(at, outcome) for at, grade, outcome in told if at >= played.begin and not _graver(least, grade)]
    if early:
        verdict.false[rule] = f"told {early[0][1]} {played.begin - early[0][0]:.0f} s before anything happened"
    elif not good:
        verdict.missed[rule] = f"told {[(round(at - played.begin), grade) for at, grade, _ in told[:4]]}" if told else "never told"
    elif good[0][0] - played.begin > limit:
        verdict.missed[rule] = f"after {good[0][0] - played.begin:.1f} s, not {limit:g}"
    elif verdict.case.accused and verdict.case.accused not in _named(good[0][1]):
        verdict.missed[rule] = f"names {_named(good[0][1])}, not {verdict.case.accused}"
    else:
        verdict.seconds[rule] = good[0][0] - played.begin
    conditions = {outcome.key for _, grade, outcome in told if grade in TOLD_OF}
    if len(conditions) > verdict.case.most:
        verdict.false.setdefault(rule, f"told as {len(conditions)} conditions: {sorted(conditions)[:4]}")


def _named(outcome: Outcome) -> list[str]:
    return [value for name, value in outcome.event.fields.items() if name in ("source.mac", "source.ip")]


def _graver(one: str, other: str) -> bool:
    return GRADES.index(one) < GRADES.index(other)  # type: ignore[arg-type]


def _vouched(said: Mapping[str, Any]) -> Vouched:
    return Vouched(**{key: dict(value) if isinstance(value, dict) else frozenset(value) for key, value in said.items()})


def scores(verdicts: Sequence[Verdict]) -> dict[str, dict[str, Any]]:
    """Per detector: of all cases played, how many it found that it should have, and how many it told that it should not have."""
    found: dict[str, dict[str, Any]] = {}
    for detector in detectors():
        name = detector.rule.name
        wanted = [v for v in verdicts if name in v.case.expect]
        missed = [v.case.name for v in wanted if name in v.missed]
        false = [v.case.name for v in verdicts if name in v.false]
        true = len(wanted) - len(missed)
        found[name] = {
            "true": len(wanted), "found": true, "false": len(false), "innocent": len(verdicts) - len(wanted),
            "recall": true / len(wanted) if wanted else None, "precision": true / (true + len(false)) if true + len(false) else None,
            "slowest_seconds": max((v.seconds[name] for v in wanted if name in v.seconds), default=None),
            "missed_cases": missed, "false_cases": false,
        }  # fmt: skip
    return found
