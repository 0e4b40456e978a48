"""arp_poisoning: by the router's table one device has what is another's. Who takes is named, never who had it; what is given on is none."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.detect import seen
from agent.detect.model import Ask, Vouched
from agent.detect.poisoning import LEARN, OLD, PROXY, ArpPoisoning
from tests.detect.lan import ABLE, ADDRESSES, ATTACKER, OTHER, PC, ROUTER, Watch, arp, weight
from tests.detect.officeday import AGENT, SERVER

HOSTS = {PC.ip: PC.mac, OTHER.ip: OTHER.mac, SERVER.ip: SERVER.mac, AGENT.ip: AGENT.mac, ATTACKER.ip: ATTACKER.mac}
NEW = "3c:52:82:77:7a:01"
WEEK = LEARN + 100.0


def polled(more: dict[str, str] | None = None, static: frozenset[str] = frozenset(), device: str = "router") -> seen.RouterArp:
    return seen.RouterArp(device, HOSTS | (more or {}), static)


def watching(vouched: Vouched | None = None, *, learnt: bool = True, first: dict[str, str] | None = None) -> Watch:
    """A router's table of five hosts, seen for a minute, and a week ago as well."""
    watch = Watch(ArpPoisoning(vouched or Vouched()))
    if learnt:
        watch.see(polled(first), 10.0)
        watch.at = WEEK
    watch.see(polled(first))
    watch.see(polled(first), watch.at + 60)
    return watch


def answer(watch: Watch, target: str, *macs: str) -> None:
    watch.see(seen.ArpProbe(target, macs), watch.at + 3)


def polls(watch: Watch, more: dict[str, str], times: int = 2, answers: tuple[str, ...] | None = None) -> None:
    """As the router is polled; what it makes the detector ask is answered at once."""
    for _ in range(times):
        before = len(watch.asks)
        watch.see(polled(more), watch.at + 57)
        for ask in watch.asks[before:]:
            if answers is not None:
                answer(watch, ask.target, *answers)
        watch.wait(3)


# -- poison ------------------------------------------------------------------------------------------------------------------------


def test_who_takes_an_address_whose_owner_still_answers_is_named_at_the_second_poll() -> None:
    watch = watching()
    polls(watch, {PC.ip: ATTACKER.mac}, 1, (PC.mac,))
    assert watch.findings == []
    assert watch.asks == [Ask("arp", PC.ip)]
    polls(watch, {PC.ip: ATTACKER.mac}, 1, (PC.mac,))
    (found,) = watch.findings
    assert (found.grade, found.confidence, found.confirmed, found.source) == ("critical", "certain", True, ATTACKER.mac)
    assert (found.fields["source.mac"], found.fields["source.ip"]) == (ATTACKER.mac, ATTACKER.ip)
    assert (found.fields["ronda.victim.ip"], found.fields["ronda.victim.mac"], found.fields["ronda.device"]) == (PC.ip, PC.mac, "router")
    assert found.fields["ronda.seen_by"] == "table,owner"


def test_proof_needs_no_learning() -> None:
    watch = watching(learnt=False)
    polls(watch, {PC.ip: ATTACKER.mac}, 2, (PC.mac,))
    assert [f.grade for f in watch.findings] == ["critical"]


def test_the_owners_own_word_is_proof_where_nothing_may_be_asked() -> None:
    watch = watching(learnt=False)
    polls(watch, {PC.ip: ATTACKER.mac}, 1)
    watch.see(arp(PC.mac, PC.ip, ROUTER.ip))
    polls(watch, {PC.ip: ATTACKER.mac}, 1)
    assert [(f.grade, f.confidence) for f in watch.findings] == [("critical", "certain")]


def test_another_in_its_name_is_no_word_of_the_owner() -> None:
    watch = watching(learnt=False)
    polls(watch, {PC.ip: ATTACKER.mac}, 1)
    watch.see(arp(PC.mac, PC.ip, ROUTER.ip, source=ATTACKER.mac))
    watch.see(arp(ATTACKER.mac, PC.ip, ROUTER.ip))
    watch.see(arp(PC.mac, PC.ip, ROUTER.ip, direction="out"))
    polls(watch, {PC.ip: ATTACKER.mac}, 1)
    assert [f.grade for f in watch.findings] == ["info"]


def test_where_nothing_can_be_asked_two_polls_must_do() -> None:
    watch = watching()
    polls(watch, {PC.ip: ATTACKER.mac}, 2)
    assert [(f.grade, f.confidence, f.confirmed) for f in watch.findings] == [("critical", "likely", True)]


def test_an_attacker_without_an_address_of_its_own_is_found_by_the_owners_answer() -> None:
    watch = watching()
    polls(watch, {PC.ip: NEW}, 2, (PC.mac,))
    (found,) = watch.findings
    assert (found.grade, found.source) == ("critical", NEW)
    assert "source.ip" not in found.fields


def test_many_victims_of_one_are_one_condition() -> None:
    watch = watching()
    for _ in range(4):
        polls(watch, {PC.ip: ATTACKER.mac, OTHER.ip: ATTACKER.mac}, 1, (PC.mac, OTHER.mac))
    assert {f.key for f in watch.findings} == {ATTACKER.mac}
    assert watch.findings[-1].fields["ronda.victim.ip"] == f"{PC.ip},{OTHER.ip}"
    assert watch.findings[-1].fields["ronda.taken"] == "2"


def test_a_poison_that_comes_and_goes_in_the_table_is_found() -> None:
    """The victim's own questions put it right in between."""
    watch = watching()
    for _ in range(2):
        polls(watch, {PC.ip: ATTACKER.mac}, 1, (PC.mac,))
        polls(watch, {}, 1)
    assert [f.source for f in watch.findings] == [ATTACKER.mac]


@pytest.mark.parametrize("where", [ROUTER.ip, AGENT.ip])
def test_a_server_or_this_box_is_told_of_while_learning_too(where: str) -> None:
    watch = watching(learnt=False, first={ROUTER.ip: ROUTER.mac})
    polls(watch, {ROUTER.ip: ROUTER.mac} | {where: ATTACKER.mac}, 2)
    assert [(f.grade, f.source) for f in watch.findings] == [("critical", ATTACKER.mac)]


def test_two_that_both_answer_may_be_a_conflict() -> None:
    watch = watching()
    polls(watch, {PC.ip: ATTACKER.mac}, 2, (PC.mac, ATTACKER.mac))
    assert [(f.grade, f.confidence) for f in watch.findings] == [("high", "likely")]


def test_it_is_said_each_poll_while_it_lasts_and_no_more_after() -> None:
    watch = watching()
    polls(watch, {PC.ip: ATTACKER.mac}, 6, (PC.mac,))
    assert len(watch.findings) == 5
    polls(watch, {}, 20)
    assert len(watch.findings) == 5


# -- innocent ----------------------------------------------------------------------------------------------------------------------


def test_an_address_given_on_is_none_whoever_answers_or_not() -> None:
    for answers in ((NEW,), (), None):
        watch = watching()
        polls(watch, {PC.ip: NEW}, 4, answers)
        assert watch.findings == []
        polls(watch, {}, 4, (PC.mac,) if answers is not None else None)
        assert watch.findings == [], "nor when it is given back"


def test_a_host_that_really_has_two_now_is_low_once_and_known_after() -> None:
    watch = watching()
    polls(watch, {PC.ip: ATTACKER.mac}, 5, (ATTACKER.mac,))
    assert [(f.grade, f.fields["ronda.seen_by"]) for f in watch.findings] == [("low", "table,probe")]


def test_a_server_that_hands_over_to_its_twin_is_medium() -> None:
    watch = watching(first={ROUTER.ip: ROUTER.mac})
    polls(watch, {ROUTER.ip: ATTACKER.mac}, 4, (ATTACKER.mac,))
    assert [f.grade for f in watch.findings] == ["medium"]


def test_while_learning_what_nobody_can_prove_is_noted_and_learnt() -> None:
    watch = watching(learnt=False)
    polls(watch, {PC.ip: ATTACKER.mac}, 4, ())
    assert [f.grade for f in watch.findings] == ["info"]
    watch.at = WEEK
    polls(watch, {PC.ip: ATTACKER.mac}, 1)
    for _ in range(3):
        polls(watch, {PC.ip: ATTACKER.mac, OTHER.ip: ATTACKER.mac}, 1, ())
    assert {f.grade for f in watch.findings} == {"info", "low"}, "a host with several addresses takes one more"


def test_who_has_had_several_addresses_since_learning_is_low() -> None:
    watch = watching(first={"192.0.2.67": ATTACKER.mac})
    polls(watch, {"192.0.2.67": ATTACKER.mac, PC.ip: ATTACKER.mac}, 3, ())
    assert {f.grade for f in watch.findings} == {"low"}


def test_a_router_that_answers_for_many_is_none_whoever_answers() -> None:
    """Its clients roam, and are themselves again."""
    many = {f"192.0.2.{150 + n}": ATTACKER.mac for n in range(PROXY)}
    watch = watching(first=many)
    polls(watch, many | {PC.ip: ATTACKER.mac}, 3, (PC.mac, ATTACKER.mac))
    polls(watch, many, 3, (PC.mac,))
    assert watch.findings == []


def test_entries_set_by_hand_are_none_and_dont_excuse_others() -> None:
    watch = watching()
    for _ in range(4):
        watch.see(polled({PC.ip: ATTACKER.mac}, frozenset({PC.ip})), watch.at + 60)
    assert watch.findings == []
    for _ in range(2):
        watch.see(polled({PC.ip: PC.mac, OTHER.ip: ATTACKER.mac}, frozenset({ATTACKER.ip})), watch.at + 60)
    assert [f.source for f in watch.findings] == [ATTACKER.mac]


def test_who_has_been_away_for_a_day_has_lost_it() -> None:
    watch = watching()
    gone = seen.RouterArp("router", {a: m for a, m in HOSTS.items() if a != PC.ip})
    for _ in range(3):
        watch.see(gone, watch.at + OLD / 2)
    polls(watch, {PC.ip: ATTACKER.mac}, 3)
    assert watch.findings == []


def test_the_operators_routers_and_this_box_are_never_accused() -> None:
    watch = watching(Vouched(routers=frozenset({ATTACKER.mac})))
    polls(watch, {PC.ip: ATTACKER.mac}, 3, (PC.mac,))
    polls(watch, {PC.ip: AGENT.mac}, 3, (PC.mac,))
    assert watch.findings == []


def test_the_router_itself_may_answer_for_others() -> None:
    mine = {ROUTER.ip: ROUTER.mac}
    watch = watching(first=mine)
    for _ in range(4):
        watch.see(polled(mine | {PC.ip: ROUTER.mac}, frozenset({ROUTER.ip})), watch.at + 60)
        answer(watch, PC.ip, PC.mac)
    assert watch.findings == []


def test_two_routers_that_differ_are_each_right() -> None:
    watch = watching()
    for _ in range(4):
        watch.see(polled({PC.ip: NEW}, device="switch"), watch.at + 30)
        watch.see(polled(), watch.at + 30)
    assert watch.findings == []


def test_ipv6_hosts_with_many_addresses_are_none() -> None:
    six = {f"2001:db8::{n:x}": PC.mac for n in range(1, 20)}
    watch = watching(first=six)
    polls(watch, six | {f"2001:db8::{n:x}": PC.mac for n in range(20, 40)}, 4)
    assert watch.findings == []
    polls(watch, six | {"2001:db8::1": OTHER.mac, "2001:db8::100": OTHER.mac}, 2)
    assert [f.source for f in watch.findings] == [OTHER.mac], "one that takes a neighbour's is"


def test_the_small_tables_of_many_switches_take_no_routers_place() -> None:
    """An office has one router and twenty switches; each of them knows the router's MAC and this box's."""
    watch = watching()
    for round_ in range(3):
        for n in range(20):
            watch.see(seen.RouterArp(f"switch-{n}", {ROUTER.ip: ROUTER.mac, AGENT.ip: AGENT.mac}), watch.at + 1)
        watch.see(polled({PC.ip: ATTACKER.mac} if round_ else None), watch.at + 1)
    assert [f.source for f in watch.findings] == [ATTACKER.mac]


# -- people and restarts -----------------------------------------------------------------------------------------------------------


def test_what_was_learnt_outlives_a_restart_and_finds_what_came_meanwhile() -> None:
    watch = watching().again(ArpPoisoning(Vouched()))
    polls(watch, {PC.ip: ATTACKER.mac}, 2)
    assert [f.grade for f in watch.findings] == ["critical"]


def test_what_is_accepted_is_known() -> None:
    watch = watching()
    polls(watch, {PC.ip: ATTACKER.mac}, 2, (PC.mac,))
    assert isinstance(watch.detector, ArpPoisoning)
    assert watch.detector.accept(watch.findings[0].key, watch.at)
    polls(watch, {PC.ip: ATTACKER.mac}, 4, (PC.mac,))
    assert len(watch.findings) == 1
    assert not watch.detector.accept("nobody", watch.at)


def test_what_it_can_see_is_said() -> None:
    watch = watching(learnt=False)
    assert watch.detector.coverage(ABLE) == (0.0, "needs_router")
    assert watch.detector.coverage(ABLE | {"router_arp"}) == (0.5, "learning")
    assert watching().detector.coverage(frozenset({"router_arp"})) == (1.0, "")


# -- lies --------------------------------------------------------------------------------------------------------------------------

BINDINGS = st.dictionaries(
    st.sampled_from([PC.ip, OTHER.ip, ROUTER.ip, AGENT.ip, "::", "fe80::1", "0.0.0.0", ""]) | st.text(max_size=70),
    st.sampled_from([PC.mac, ATTACKER.mac, AGENT.mac, seen.BROADCAST, seen.NO_MAC, "", "X" * 17]) | st.text(max_size=20),
    max_size=8,
)
TABLES = st.builds(
    seen.RouterArp, st.sampled_from(["router", "switch"]) | st.text(max_size=90), BINDINGS, st.frozensets(st.text(max_size=5))
)


@settings(max_examples=80, deadline=None)
@given(tables=st.lists(st.tuples(st.sampled_from([0.0, 60.0, 90_000.0]), TABLES), max_size=12))
def test_any_table_is_borne(tables: list[tuple[float, seen.RouterArp]]) -> None:
    watch = Watch(ArpPoisoning(Vouched()))
    for pause, what in tables:
        watch.see(what, watch.at + pause)
    assert all(f.source not in (AGENT.mac, "") and not ADDRESSES.search(f.message) for f in watch.findings)
    ArpPoisoning(Vouched()).recall(json.loads(json.dumps(dict(watch.detector.remember()))) or {"age": 0, "routers": {}}, 5.0)


def test_tables_without_end_are_cut() -> None:
    watch = watching()
    for round_ in range(8):
        huge = {f"10.{n >> 8}.{n & 255}.9": f"00:0d:{round_:02x}:{n >> 8:02x}:{n & 255:02x}:01" for n in range(20_000)}
        watch.see(seen.RouterArp(f"router-{round_}", huge), watch.at + 60)
        watch.see(seen.RouterArp("router", huge), watch.at + 60)
    assert weight(watch.detector) < 4 * 2048 * 5
    assert len({f.key for f in watch.findings}) <= 17


@pytest.mark.parametrize("wrong", [None, -1, 1e300, float("nan"), "x", [], {}, [["x", 1, 2]], [[PC.ip, PC.mac, "y"]], [PC.mac, "y"]])
def test_a_memory_with_one_thing_wrong_is_refused_as_a_whole(wrong: Any) -> None:
    said = json.loads(json.dumps(dict(watching().detector.remember())))
    for way in (("age",), ("routers",), ("routers", "router"), ("routers", "router", "owners"), ("routers", "router", "several")):
        spoilt = json.loads(json.dumps(said))
        at = spoilt
        for key in way[:-1]:
            at = at[key]
        at[way[-1]] = wrong
        detector = ArpPoisoning(Vouched())
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            detector.recall(spoilt, 10.0)
        list(detector.see(polled(), 11.0))
        json.dumps(dict(detector.remember()))
