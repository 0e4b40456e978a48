"""Detectors of routers' logs, alone: each attack beside its innocent twin, thresholds on both sides, memory, whoever sends what."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.detect.model import Detector, Finding, Vouched
from agent.detect.router import (
    DAY,
    HOUR,
    RouterChanged,
    RouterLoginFailures,
    RouterLogins,
    RouterScanned,
    RouterSilent,
)
from agent.detect.seen import DeviceHeard, RouterChange, RouterDrop, RouterLogin
from tests.detect.lan import ADDRESSES, weight
from tests.detect.test_other_any import anything

NEAR, FAR, MAC = "192.168.88.66", "36.97.161.219", "00:0c:29:aa:bb:cc"
ADMIN = "192.168.88.10"
NOBODY = Vouched()
HEARD = frozenset({"devicelog", "devicelog_all"})


def failed(source: str = NEAR, user: str = "admin", times: int = 1, device: str = "router") -> RouterLogin:
    return RouterLogin(device, user, source, "winbox", success=False, times=times)


def came(source: str = NEAR, *, in_hours: bool | None = True, user: str = "admin") -> RouterLogin:
    return RouterLogin("router", user, source, "winbox", success=True, in_hours=in_hours)


def changed(area: str, via: str = "winbox", user: str = "admin") -> RouterChange:
    return RouterChange("router", user, NEAR, via, area, "filter rule changed", "Nov 24 10:00:00")


def drop(port: int, source: str = NEAR, *, inside: bool | None = True) -> RouterDrop:
    return RouterDrop("router", "tcp", source, "192.168.88.1", port, inside)


def play(detector: Detector, *steps: tuple[float, Any]) -> list[Finding]:
    return [said for at, seen in steps for said in detector.see(seen, at) if isinstance(said, Finding)]


def grades(found: Iterable[Finding]) -> list[str]:
    return [f.grade for f in found]


# -- guessed passwords ------------------------------------------------------------------------------------------------------------


def test_six_failures_in_a_row_are_told_five_are_not() -> None:
    assert play(RouterLoginFailures(NOBODY), *((float(n), failed()) for n in range(5))) == []
    [found] = play(RouterLoginFailures(NOBODY), *((float(n), failed()) for n in range(6)))
    assert (found.grade, found.confirmed, found.confidence, found.source, found.times) == ("high", True, "likely", NEAR, 6)
    assert found.fields["source.ip"] == NEAR
    assert found.fields["ronda.device"] == "router"
    assert not ADDRESSES.search(found.message)


def test_from_the_internet_it_is_medium_and_who_has_only_a_mac_is_within() -> None:
    assert grades(play(RouterLoginFailures(NOBODY), *((float(n), failed(FAR)) for n in range(6)))) == ["medium"]
    [found] = play(RouterLoginFailures(NOBODY), *((float(n), failed(MAC)) for n in range(6)))
    assert (found.grade, found.fields["source.mac"]) == ("high", MAC)
    assert "source.ip" not in found.fields


def test_an_admin_who_mistypes_now_and_then_is_nobodys_business() -> None:
    assert play(RouterLoginFailures(NOBODY), *((n * 25.0, failed()) for n in range(8))) == []


def test_slow_guessing_is_told() -> None:
    """One in 40 s never fills the first window (20 s each), but the second (60 s each)."""
    found = play(RouterLoginFailures(NOBODY), *((n * 40.0, failed()) for n in range(40)))
    assert found[0].fields["ronda.failures"] == "29"


def test_each_source_has_its_own_windows() -> None:
    steps = [(float(n), failed(f"192.168.88.{n}")) for n in range(60)]
    assert play(RouterLoginFailures(NOBODY), *steps) == []


def test_who_gets_in_after_five_failures_has_guessed() -> None:
    found = play(RouterLoginFailures(NOBODY), *((n * 25.0, failed()) for n in range(5)), (200.0, came()))
    assert grades(found) == ["critical"]
    assert (found[0].fields["event.outcome"], found[0].fields["ronda.failures"]) == ("success", "5")


@pytest.mark.parametrize(
    "steps", [[*((float(n), failed()) for n in range(4)), (5.0, came())], [*((float(n), failed()) for n in range(5)), (3 * HOUR, came())]]
)
def test_who_mistyped_four_times_or_hours_ago_has_not(steps: list[tuple[float, Any]]) -> None:
    assert play(RouterLoginFailures(NOBODY), *steps) == []


def test_an_admins_place_is_vouched_for_but_its_failures_are_told() -> None:
    found = play(
        RouterLoginFailures(Vouched(admins=frozenset({ADMIN}))), *((float(n), failed(ADMIN)) for n in range(6)), (9.0, came(ADMIN))
    )
    assert grades(found) == ["high", "high"]


def test_failures_before_a_restart_count_for_a_success_after_it() -> None:
    one = RouterLoginFailures(NOBODY)
    play(one, *((float(n), failed()) for n in range(6)))
    two = RouterLoginFailures(NOBODY)
    two.recall(json.loads(json.dumps(one.remember())), 1000.0)
    assert grades(play(two, (1001.0, came()))) == ["critical"]


# -- logins -----------------------------------------------------------------------------------------------------------------------


def grown(vouched: Vouched = NOBODY, *, known: Iterable[str] = (ADMIN,)) -> RouterLogins:
    """One that has learnt for a week."""
    detector = RouterLogins(vouched)
    detector.tick(0.0)
    for n, source in enumerate(known):
        play(detector, (60.0 + n, came(source)))
    detector.tick(8 * DAY)
    return detector


def test_a_known_place_in_working_hours_is_nothing_and_a_new_one_is_told() -> None:
    assert play(grown(), (8 * DAY + 1, came(ADMIN))) == []
    [found] = play(grown(), (8 * DAY + 1, came(NEAR)))
    assert (found.grade, found.fields["ronda.new_source"], found.fields["ronda.in_hours"]) == ("medium", "yes", "yes")


def test_outside_working_hours_a_known_place_is_told_too() -> None:
    [found] = play(grown(), (8 * DAY + 1, came(ADMIN, in_hours=False)))
    assert (found.grade, found.fields["ronda.new_source"]) == ("medium", "no")
    assert play(grown(), (8 * DAY + 1, came(ADMIN, in_hours=None))) == []


def test_a_poller_that_logs_in_at_all_hours_is_told_of_on_five_days_and_no_more() -> None:
    detector = grown()
    told = [bool(play(detector, (8 * DAY + day * DAY + hour * HOUR, came(ADMIN, in_hours=False)))) for day in range(8) for hour in (1, 3)]
    assert told == [True] * 10 + [False] * 6
    again = RouterLogins(NOBODY)
    again.recall(json.loads(json.dumps(detector.remember())), 5.0)
    assert play(again, (6.0, came(ADMIN, in_hours=False))) == []
    assert len(play(again, (7.0, came(NEAR, in_hours=False)))) == 1


def test_what_is_vouched_for_is_never_told() -> None:
    vouched = Vouched(admins=frozenset({NEAR}))
    assert play(grown(vouched), (8 * DAY + 1, came(NEAR, in_hours=False))) == []


def test_failures_are_no_logins() -> None:
    assert play(grown(), (8 * DAY + 1, failed(NEAR))) == []


def test_what_comes_for_a_day_or_is_accepted_is_known() -> None:
    detector = grown()
    first = play(detector, (8 * DAY + 1, came(NEAR)), (8 * DAY + 7200, came(NEAR)))
    assert len(first) == 2
    assert play(detector, (9 * DAY + 2, came(NEAR))) == []
    other = grown()
    [found] = play(other, (8 * DAY + 1, came(NEAR)))
    other.accept(found.key, 8 * DAY + 2)
    assert play(other, (8 * DAY + 300, came(NEAR))) == []


def test_what_was_learnt_outlives_a_restart() -> None:
    one, two = grown(), RouterLogins(NOBODY)
    two.recall(json.loads(json.dumps(one.remember())), 50.0)
    assert play(two, (60.0, came(ADMIN))) == []
    assert len(play(two, (61.0, came(NEAR)))) == 1


# -- changes ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("area", ["user", "service", "firewall", "dns", "script", "scheduler"])
def test_what_protects_the_network_is_high(area: str) -> None:
    [found] = play(RouterChanged(NOBODY), (1.0, changed(area)))
    assert (found.grade, found.confirmed, found.fields["ronda.areas"]) == ("high", True, area)


def test_other_changes_are_medium_and_a_schedulers_are_notes() -> None:
    assert grades(play(RouterChanged(NOBODY), (1.0, changed("dhcp")))) == ["medium"]
    assert grades(play(RouterChanged(NOBODY), (1.0, changed("wireless", via="script")))) == ["low"]


def test_one_piece_of_work_is_one_case_and_grows_graver_once() -> None:
    steps = [(n * 20.0, changed(area)) for n, area in enumerate(["dhcp", "dhcp", "route", "firewall", "firewall", "dns"])]
    found = play(RouterChanged(NOBODY), *steps)
    assert {f.key for f in found} == {found[0].key}
    assert grades(found)[:2] == ["medium", "high"]
    assert sum(f.times for f in found) >= 4
    assert found[-1].fields["ronda.areas"].startswith("dhcp,route,firewall")
    later = play(RouterChanged(NOBODY), (0.0, changed("dhcp")), (2000.0, changed("route")))
    assert later[-1].fields["ronda.areas"] == "route"


# -- scans ------------------------------------------------------------------------------------------------------------------------


def test_fifteen_ports_at_once_are_a_scan_and_fourteen_are_none() -> None:
    assert play(RouterScanned(NOBODY), *((n * 0.01, drop(n + 1)) for n in range(14))) == []
    [found] = play(RouterScanned(NOBODY), *((n * 0.001, drop(n + 1)) for n in range(15)))
    assert (found.grade, found.confidence, found.source, found.fields["ronda.ports"]) == ("medium", "likely", NEAR, "15")


def test_from_outside_it_is_weather() -> None:
    [found] = play(RouterScanned(NOBODY), *((n * 0.001, drop(n + 1, FAR, inside=False)) for n in range(15)))
    assert (found.grade, found.confirmed) == ("info", False)


def test_one_port_again_and_again_and_ports_now_and_then_are_none() -> None:
    assert play(RouterScanned(NOBODY), *((n * 0.1, drop(445)) for n in range(500))) == []
    assert play(RouterScanned(NOBODY), *((n * 6.0, drop(n + 1)) for n in range(100))) == []
    assert play(RouterScanned(Vouched(scanners=frozenset({NEAR}))), *((n * 0.001, drop(n + 1)) for n in range(50))) == []


def test_invented_sources_outside_hide_no_scan_within() -> None:
    detector = RouterScanned(NOBODY)
    crowd = [(0.0001 * n, drop(n % 20 + 1, f"36.97.{n // 20}.1", inside=False)) for n in range(20 * 200)]
    noise = play(detector, *crowd)
    assert len({f.key for f in noise}) <= 17
    assert grades(play(detector, *((1.0 + n * 0.001, drop(n + 1)) for n in range(15)))) == ["medium"]


def test_a_router_that_logs_no_packets_is_said_to_be_unseen() -> None:
    detector = RouterScanned(NOBODY)
    assert (detector.coverage(HEARD).share, detector.coverage(HEARD).why) == (0.0, "no_drop_log")
    play(detector, (1.0, drop(1)))
    assert detector.coverage(HEARD).share == 1.0
    assert detector.coverage(frozenset({"devicelog"})).why == "some_logs_missing"
    assert detector.coverage(frozenset()).why == "no_log_yet"


# -- silence ----------------------------------------------------------------------------------------------------------------------


def quiet(detector: RouterSilent, begin: float, end: float) -> list[tuple[float, Finding]]:
    at, found = begin, []
    while at < end:
        found += [(at, said) for said in detector.tick(at) if isinstance(said, Finding)]
        at += 60.0
    return found


def spoke(detector: RouterSilent, begin: float, end: float, every: float) -> list[Finding]:
    found, at = [], begin
    while at < end:
        found += play(detector, (at, DeviceHeard("router")))
        at += every
    return found


def test_a_router_that_speaks_all_day_is_missed_after_an_hour() -> None:
    detector = RouterSilent(NOBODY)
    assert spoke(detector, 0.0, 2 * DAY, 300.0) == []
    [(at, found)] = quiet(detector, 2 * DAY, 2 * DAY + 6 * HOUR)
    assert 2 * DAY + HOUR - 300 <= at <= 2 * DAY + HOUR + 60
    assert (found.grade, found.state, found.confirmed) == ("medium", "open", True)
    [over] = play(detector, (2 * DAY + 7 * HOUR, DeviceHeard("router")))
    assert (over.state, over.key) == ("closed", found.key)


def test_an_office_that_is_quiet_each_night_is_not_missed_each_night() -> None:
    """Of a day's 1,000 messages one gap is the night's: a p99 by number would never know it."""
    detector = RouterSilent(NOBODY)
    for day in range(5):
        assert spoke(detector, day * DAY, day * DAY + 10 * HOUR, 36.0) == []
        if day:
            assert quiet(detector, day * DAY + 10 * HOUR, (day + 1) * DAY) == []
    assert len(quiet(detector, 5 * DAY, 8 * DAY)) == 1


def test_one_that_never_spoke_or_not_for_a_day_yet_is_not_missed() -> None:
    assert quiet(RouterSilent(NOBODY), 0.0, DAY) == []
    new = RouterSilent(NOBODY)
    spoke(new, 0.0, DAY / 2, 300.0)
    assert quiet(new, DAY / 2, 3 * DAY) == []


def test_one_that_was_silent_before_a_restart_is_so_after_it_and_closed_by_a_word() -> None:
    one, two = RouterSilent(NOBODY), RouterSilent(NOBODY)
    spoke(one, 0.0, 2 * DAY, 300.0)
    assert one.speaking == {"router"}
    assert len(quiet(one, 2 * DAY, 2 * DAY + 2 * HOUR)) == 1
    two.recall(json.loads(json.dumps(one.remember())), 100.0)
    assert two.speaking == frozenset()
    assert quiet(two, 100.0, 3 * HOUR) == []
    assert [f.state for f in play(two, (3 * HOUR, DeviceHeard("router")))] == ["closed"]


# -- whatever comes ---------------------------------------------------------------------------------------------------------------

DETECTORS = (RouterLoginFailures, RouterLogins, RouterChanged, RouterScanned, RouterSilent)


@pytest.mark.parametrize("make", DETECTORS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_anything_in_any_field(make: Any, data: st.DataObject) -> None:
    detector: Detector = make(NOBODY)
    kinds = st.one_of([anything(kind) for kind in detector.wants])
    at = 0.0
    for pause, what in data.draw(st.lists(st.tuples(st.sampled_from([0.0, 0.01, 30.0, 90_000.0]), kinds), max_size=40)):
        at += pause
        for said in (*detector.see(what, at), *detector.tick(at)):
            assert isinstance(said, Finding)
            assert said.rule == detector.rule.name
            assert not ADDRESSES.search(said.message)
            assert len(said.key) <= 100
            assert all(isinstance(value, str) and len(value) <= 255 for value in said.fields.values())
    again: Detector = make(NOBODY)
    if memory := json.loads(json.dumps(dict(detector.remember()))):
        again.recall(memory, 7.0)
        assert set(again.remember()) == set(memory)


@pytest.mark.parametrize("make", DETECTORS)
def test_ten_thousand_sources_stay_bounded(make: Any) -> None:
    detector: Detector = make(NOBODY)
    for n in range(10_000):
        source = f"10.{n >> 8 & 255}.{n & 255}.9"
        for seen in (failed(source, str(n)), came(source), changed("user", user=str(n)), drop(n, source), DeviceHeard(str(n))):
            if isinstance(seen, detector.wants):
                list(detector.see(seen, n * 0.01))
    assert weight(detector) < 1_500_000


@pytest.mark.parametrize("make", [RouterLoginFailures, RouterLogins, RouterScanned, RouterSilent])
@pytest.mark.parametrize(
    "said",
    [
        {},
        {"sources": 3, "age": "x", "known": 3, "voices": 4},
        {"voices": {"r": [True, {"99": 1}]}},
        {"voices": {"r": [True, {"1": "nan"}]}},
    ],
)
def test_a_memory_that_is_none_is_refused(make: Any, said: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError, LookupError)):
        make(NOBODY).recall(said, 0.0)
