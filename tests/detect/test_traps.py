"""Detectors of traps: what becomes one case, what ends it, what outlives a restart; whatever comes, no exception, no growth, no address."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.detect.model import Finding, Vouched
from agent.detect.seen import Trap
from agent.detect.table import TRAPS
from agent.detect.traps import DAY, FAILURES, FLAPS, HELD, HOUR, WINDOW, TrapAuthFailure, TrapColdStart, TrapLinkDown
from tests.detect.lan import ADDRESSES, weight

DOWN, UP = Trap("router", "link_down", "ether1"), Trap("router", "link_up", "ether1")
PC_DOWN, PC_UP = DOWN._replace(about="ether7"), UP._replace(about="ether7")
FAILED = Trap("router", "authentication_failure")
COLD = Trap("router", "cold_start")


def play(detector: Any, *steps: tuple[float, Trap | None]) -> list[tuple[float, str, str]]:
    """What it says: (when, state, grade)."""
    said: list[tuple[float, str, str]] = []
    for at, what in steps:
        found: Sequence[Finding] = [*(detector.see(what, at) if what else ()), *detector.tick(at)]
        said += [(at, f.state, f.grade) for f in found]
    return said


def link(*important: str) -> TrapLinkDown:
    return TrapLinkDown(Vouched(important=important))


def test_the_fifth_refusal_within_ten_minutes_tells_of_all_five() -> None:
    detector = TrapAuthFailure(Vouched())
    assert play(detector, *[(n * 100.0, FAILED) for n in range(FAILURES - 1)]) == []
    (found,) = detector.see(FAILED, 500.0)
    assert isinstance(found, Finding)
    assert (found.grade, found.confirmed, found.times, found.source) == ("medium", True, FAILURES, "")
    (found,) = detector.see(FAILED._replace(source="192.0.2.66"), 3000.0)
    assert isinstance(found, Finding)
    assert (found.times, found.source, found.fields["source.ip"]) == (1, "192.0.2.66", "192.0.2.66")
    assert play(detector, (3000.0 + HOUR, FAILED)) == [], "an hour later it begins anew"


def test_refusals_of_several_devices_and_slow_ones_are_none() -> None:
    detector = TrapAuthFailure(Vouched())
    assert play(detector, *[(float(n), FAILED._replace(device=f"d{n % 3}")) for n in range(12)]) == []
    assert play(detector, *[(1000.0 + n * (WINDOW / 4 + 1), FAILED._replace(device="slow")) for n in range(40)]) == []


def test_a_port_that_is_up_within_half_a_minute_was_never_out() -> None:
    assert play(link(), (0.0, DOWN), (HELD - 1, None), (HELD - 0.5, UP), (HELD + 60, None)) == []
    assert play(link(), (0.0, DOWN), (HELD, None), (HELD + 9, None), (90.0, UP)) == [(HELD, "open", "medium"), (90.0, "closed", "info")]


def test_config_says_which_ports_matter() -> None:
    assert play(link("ether7"), (0.0, DOWN), (60.0, None)) == []
    assert play(link("ETHER[78]"), (0.0, PC_DOWN), (60.0, None)) == [(60.0, "open", "medium")]
    assert play(link("ether"), (0.0, PC_DOWN), (60.0, None)) == [], "the whole name, not its beginning"
    assert play(link(), (0.0, PC_DOWN), (60.0, None), (3600.0, None), (7200.0, PC_DOWN), (9000.0, None)) == []


def test_a_loose_port_is_told_whether_it_matters_or_not_and_ends_after_ten_quiet_minutes() -> None:
    for down, up, grade in ((DOWN, UP, "medium"), (PC_DOWN, PC_UP, "low")):
        steps = [(n * 60.0 + (10.0 if what is up else 0.0), what) for n in range(FLAPS) for what in (down, up)]
        last = (FLAPS - 1) * 60.0
        said = play(link(), *steps, (last + 300, None), (last + WINDOW + 1, None), (last + 2 * WINDOW, None))
        assert said == [(last, "open", grade), (last + WINDOW + 1, "closed", "info")]


def test_the_same_told_in_two_versions_is_told_once() -> None:
    assert play(link(), *[(n / 10, PC_DOWN) for n in range(FLAPS + 1)]) == []
    assert play(TrapColdStart(Vouched()), (0.0, COLD), (1.0, COLD), (2.0, COLD._replace(name="warm_start"))) == [(0.0, "open", "low")]


def test_a_device_that_starts_ends_what_was_out() -> None:
    said = play(link(), (0.0, DOWN), (40.0, None), (50.0, COLD), (600.0, None))
    assert said == [(40.0, "open", "medium"), (50.0, "closed", "info")]


def test_three_starts_within_a_day_are_too_many() -> None:
    assert [s[2] for s in play(TrapColdStart(Vouched()), (0.0, COLD), (HOUR, COLD), (DAY - 1, COLD))] == ["low", "low", "medium"]
    assert [s[2] for s in play(TrapColdStart(Vouched()), (0.0, COLD), (HOUR, COLD), (DAY + 1, COLD))] == ["low"] * 3


def test_a_restart_forgets_neither_starts_nor_what_is_out() -> None:
    first = TrapColdStart(Vouched())
    play(first, (0.0, COLD), (2 * HOUR, COLD), (3 * HOUR, None))
    again = TrapColdStart(Vouched())
    again.recall(json.loads(json.dumps(first.remember())), 50.0)
    assert play(again, (60.0 + HOUR, COLD)) == [(60.0 + HOUR, "open", "medium")]

    out = link()
    play(out, (0.0, DOWN), (40.0, None), (41.0, DOWN._replace(about="sfp1")))
    later = link()
    later.recall(json.loads(json.dumps(out.remember())), 0.0)
    said = play(later, (10.0, None), (40.0, None), (50.0, UP), (51.0, UP._replace(about="sfp1")))
    assert said == [(40.0, "open", "medium"), (50.0, "closed", "info"), (51.0, "closed", "info")], "one was told already, the other is now"


def test_what_came_up_while_nobody_listened_is_closed_by_its_next_word() -> None:
    assert play(link(), (0.0, UP)) == [(0.0, "closed", "info")]


@pytest.mark.parametrize("make", TRAPS)
@pytest.mark.parametrize("said", [{}, {"ports": 3}, {"ports": [[1]]}, {"starts": {}}, {"starts": [["a", "x"]]}])
def test_a_memory_that_is_none_is_refused(make: Any, said: dict[str, Any]) -> None:
    detector = make(Vouched())
    if detector.remember.__func__ is TrapAuthFailure.remember:
        return  # it has none
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        detector.recall(said, 0.0)


NAMES = st.sampled_from(["link_down", "link_up", "cold_start", "warm_start", "authentication_failure", "other"]) | st.text(max_size=20)
TEXTS = st.sampled_from(["ether1", "router", "192.0.2.1", "4c:5e:0c:11:22:33", ""]) | st.text(max_size=300)
STEP = st.tuples(st.sampled_from([0.0, 0.1, 5.0, 31.0, 700.0, 90_000.0]), st.builds(Trap, TEXTS, NAMES, TEXTS, TEXTS, TEXTS))


@pytest.mark.parametrize("make", TRAPS)
@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEP, max_size=60))
def test_whatever_comes(make: Any, steps: list[tuple[float, Trap]]) -> None:
    detector, at = make(Vouched()), 0.0
    for pause, trap in steps:
        at += pause
        for said in (*detector.see(trap, at), *detector.tick(at)):
            assert said.rule == detector.rule.name
            assert said.grade in ("medium", "low", "info")
            assert not ADDRESSES.search(said.message)
            assert len(said.key) <= 100
            assert all(len(value) <= 255 for value in said.fields.values())
    again = make(Vouched())
    if memory := json.loads(json.dumps(dict(detector.remember()))):
        again.recall(memory, 7.0)
        assert set(again.remember()) == set(memory)


@pytest.mark.parametrize("make", TRAPS)
def test_a_thousand_devices_and_ports_take_no_more_room_than_a_table(make: Any) -> None:
    detector = make(Vouched())
    for n in range(5000):
        for name in ("link_down", "cold_start", "authentication_failure"):
            list(detector.see(Trap(f"device {n}", name, f"port {n}", source=f"192.0.2.{n % 256}"), n * 0.1))
        list(detector.tick(n * 0.1))
    assert weight(detector) < 300_000
