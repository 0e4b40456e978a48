"""One detector's bug is counted and said, and costs the others nothing, whatever it was asked when it showed."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import pytest

from agent.detect.model import Ask, Coverage, Finding, Plain, Rule, Said
from agent.detect.patrol import MAX_ASKS, Patrol
from agent.detect.seen import Carrier, Counters


class Well(Plain):
    rule: ClassVar[Rule] = Rule("well", "X01", "1", "network")
    wants: ClassVar[tuple[type, ...]] = (Carrier,)

    def see(self, seen: Carrier, at: float) -> Iterable[Said]:
        yield Finding("well", str(at), "low", "certain", "the cable" if seen.up else "no cable")

    def remember(self) -> Mapping[str, Any]:
        return {"n": 1}


class Ill(Well):
    rule: ClassVar[Rule] = Rule("ill", "X02", "1", "network")

    def see(self, seen: Carrier, at: float) -> Iterable[Said]:
        yield Finding("ill", str(at), "low", "certain", "before it falls")
        raise RuntimeError("see")

    def tick(self, at: float) -> Iterable[Said]:
        raise RuntimeError("tick")

    def coverage(self, able: frozenset[str]) -> Coverage:
        raise RuntimeError("coverage")

    def remember(self) -> Mapping[str, Any]:
        raise RuntimeError("remember")

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        raise KeyError("recall")


class Asking(Well):
    rule: ClassVar[Rule] = Rule("asking", "X03", "1", "network")
    wants: ClassVar[tuple[type, ...]] = (Counters,)

    def see(self, seen: Counters, at: float) -> Iterable[Said]:
        yield from (Ask("arp", target) for target in seen.values)


class Book:
    def __init__(self) -> None:
        self.found: list[str] = []
        self.ticks = 0

    def take(self, finding: Finding, at: float, wall: float) -> None:
        self.found.append(finding.rule)

    def tick(self, at: float, wall: float) -> None:
        self.ticks += 1


def test_a_bug_costs_the_others_nothing_and_is_said_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    patrol = Patrol([Ill(), Well()], book := Book())
    with caplog.at_level(logging.ERROR):
        for at in (1.0, 2.0):
            patrol.see(Carrier(True), at, 1.795e9)
            patrol.tick(at, 1.795e9)
        assert patrol.remember() == {"well": {"n": 1}}
        shares = {s.labels[0]: s.value for s in patrol.samples(frozenset({"capture"})) if s.metric.name == "ronda_detector_coverage"}
    assert book.found == ["ill", "well"] * 2
    assert book.ticks == 2
    assert shares == {"ill": 0.0, "well": 1.0}
    assert patrol.failures == {"ill": 6}
    assert [r.getMessage() for r in caplog.records] == ["the detector ill failed"]


def test_what_can_t_be_taken_up_is_named_and_the_rest_is() -> None:
    assert Patrol([Ill(), Well()], Book()).recall({"ill": {}, "well": {"n": 1}, "gone": {}}, 1.0) == ["ill"]


def test_wishes_are_bounded_and_none_waits_twice() -> None:
    patrol = Patrol([Asking()], Book())
    patrol.see(Counters({str(n): 0.0 for n in range(MAX_ASKS)}), 1.0, 1.795e9)
    patrol.see(Counters({"0": 0.0}), 2.0, 1.795e9)
    assert len(patrol.asks) == MAX_ASKS
    patrol.see(Counters({"new": 0.0}), 3.0, 1.795e9)
    assert len(patrol.asks) == MAX_ASKS
