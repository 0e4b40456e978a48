"""router_exposed: what sends passwords as they are is told at the first look, what opens later too; what was left so or is allowed, not."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.detect import seen
from agent.detect.exposure import DAY, PORTS, SNMP, RouterExposed
from agent.detect.model import Vouched
from tests.detect.lan import ADDRESSES, ROUTER, Watch, table, weight


def looked(watch: Watch, *ports: int, snmp: str = "", target: str = ROUTER.ip) -> list[tuple[str, str, str]]:
    """One look a day; (grade, what, state) of what is said of it, but for the ends of what never was."""
    watch.at += DAY
    before = {key for key, state in {f.key: f.state for f in watch.findings}.items() if state == "open"}
    said = watch.see(seen.Exposed(target, ports, snmp))
    return [(f.grade, f.key.partition(" ")[2], f.state) for f in said if f.state == "open" or f.key in before]


def watching(vouched: Vouched | None = None) -> Watch:
    watch = Watch(RouterExposed(vouched or Vouched()))
    watch.see(table())
    return watch


def test_what_sends_passwords_as_they_are_is_told_at_the_first_look_and_stands() -> None:
    watch = watching()
    assert looked(watch, 21, 22, 23, 80, 8291, 8728, snmp="2c") == [("high", str(port), "open") for port in (21, 23, 161, 8728)]
    found = next(f for f in watch.findings if f.key.endswith("8728"))
    assert (found.confirmed, found.source, found.confidence) == (True, "", "certain")
    assert (found.fields["ronda.port"], found.fields["service.type"], found.fields["server.mac"]) == ("8728", "api", ROUTER.mac)
    assert "source.mac" not in found.fields, "the router is not accused, and nobody is sent to unplug it"
    assert len(looked(watch, 21, 22, 23, 80, 8291, 8728, snmp="2c")) == 4, "each day again, into the same cases"
    assert looked(watch, 22, 80, 8291) == [("info", str(port), "closed") for port in (21, 23, 161, 8728)]


def test_what_opens_after_the_first_look_is_told_until_it_is_gone() -> None:
    watch = watching()
    assert looked(watch, 22, 8291) == []
    assert looked(watch, 22, 80, 8291) == [("medium", "80", "open")]
    assert looked(watch, 22, 80, 8291) == [("medium", "80", "open")]
    assert looked(watch, 8291) == [("info", "80", "closed")]
    assert looked(watch, 22, 8291) == [], "as it was left"


def test_what_the_operator_allows_is_none() -> None:
    watch = watching(Vouched(router_ports=frozenset({23, 80, SNMP})))
    assert looked(watch, 22) == []
    assert looked(watch, 22, 23, 80, snmp="1") == []
    assert isinstance(watch.detector, RouterExposed)
    assert watch.detector.open == {port: port in (22, 23, 80, SNMP) for port in (*PORTS, SNMP)}, "what is open is shown all the same"


def test_what_is_accepted_is_none_from_then_on() -> None:
    watch = watching()
    looked(watch, 23)
    assert isinstance(watch.detector, RouterExposed)
    assert watch.detector.accept(f"{ROUTER.ip} 23", watch.at)
    assert [s for s in looked(watch, 23) if s[2] == "open"] == []
    for key in ("", "x", f"{ROUTER.ip} 9", "192.0.2.9 23"):
        assert not watch.detector.accept(key, watch.at)


def test_another_gateway_is_another_router() -> None:
    watch = watching()
    assert looked(watch, 22) == []
    assert looked(watch, 22, 80, target="192.0.2.254") == []
    assert looked(watch, 22, 80) == [("medium", "80", "open")]


def test_how_it_was_left_outlives_a_restart() -> None:
    watch = watching()
    looked(watch, 22)
    looked(watch, 22, 80)
    other = watch.again(RouterExposed(Vouched()))
    assert looked(other, 22, 80) == [("medium", "80", "open")]
    assert isinstance(other.detector, RouterExposed)
    assert other.detector.age == 0.0


def test_a_case_of_an_earlier_life_is_closed() -> None:
    other = Watch(RouterExposed(Vouched()))
    said = other.see(seen.Exposed(ROUTER.ip, (22,)))
    assert {f.key for f in said if f.state == "closed"} >= {f"{ROUTER.ip} 23", f"{ROUTER.ip} 161"}


def test_what_it_can_see_is_said() -> None:
    watch = watching()
    detector = watch.detector
    assert detector.coverage(frozenset({"capture"})) == (0.0, "no_probe")
    assert detector.coverage(frozenset({"exposure"})) == (0.5, "not_looked")
    looked(watch)
    assert detector.coverage(frozenset({"exposure"})) == (1.0, "")
    watch.wait(3 * DAY)
    assert detector.coverage(frozenset({"exposure"})) == (0.5, "not_looked")
    watch.see(seen.Network("eth0", "02:00:00:00:00:01"))
    assert detector.coverage(frozenset({"exposure"})) == (0.0, "no_gateway")


@settings(max_examples=60, deadline=None)
@given(
    looks=st.lists(
        st.builds(seen.Exposed, st.text(max_size=9) | st.just(ROUTER.ip), st.lists(st.integers(), max_size=9).map(tuple), st.text())
    )
)
def test_any_look_is_borne(looks: list[seen.Exposed]) -> None:
    watch = watching()
    for what in looks:
        watch.see(what)
    assert all(not ADDRESSES.search(f.message) for f in watch.findings)
    json.dumps(dict(watch.detector.remember()))


def test_gateways_without_end_are_few() -> None:
    watch = watching()
    for i in range(2000):
        watch.see(seen.Exposed(f"10.0.{i >> 8}.{i & 255}", PORTS, "2c"), watch.at + 1)
    assert weight(watch.detector) < 3_000
    assert len({f.key for f in watch.findings if f.state == "open"}) <= 120


@pytest.mark.parametrize("row", [None, [], ["x", 1, [], []], [ROUTER.ip, -1, [], []], [ROUTER.ip, 1, [9], []], [ROUTER.ip, 1, [], ["x"]]])
def test_a_memory_that_is_none_is_refused(row: Any) -> None:
    detector = RouterExposed(Vouched())
    with pytest.raises((ValueError, TypeError)):
        detector.recall({"routers": [row]}, 5.0)
    assert detector.remember() == {}
