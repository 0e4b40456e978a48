"""The casebook: one condition is one case; what isn't confirmed, is still learnt or was accepted wakes nobody; and nothing grows."""

import json
import random
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.detect.casebook import (
    HOUR,
    MAX_CASES,
    MAX_FRAMES,
    MAX_OWN,
    MAX_VALUE,
    PAGES,
    RULE_BURST,
    SOURCE_BURST,
    Casebook,
    Ids,
    graver,
)  # fmt: skip
from agent.detect.model import GRADES, Finding, Rule
from agent.detect.seen import Frame
from agent.detect.suppressions import Suppression
from agent.wire.event import MAX_FIELDS, Entry, bounded, decode, encode
from tests.fuzz import fuzz

WALL = 1_795_000_000.0
DAY = 86400.0
SCAN = Rule("port_scan", "L11", "1", "network", ("T1046",), quiet=300.0)
GATEWAY = Rule("gateway_mac", "L01", "1", "network", ("T1557.002",))
NEW = Rule("new_device", "L08", "1", "network", learning=14 * DAY, quiet=60.0)
RULES = (SCAN, GATEWAY, NEW)


class Book:
    """A casebook and its time."""

    def __init__(self, **more) -> None:
        self.book = Casebook(RULES, "DKC", "Asia/Jakarta", **more)
        self.at, self.since = 1000.0, WALL - 1000.0

    @property
    def wall(self):
        return self.since + self.at

    def see(self, rule="port_scan", key="10.0.0.66", grade="high", *, wait=0.0, **more):
        """What is told after one finding: (state, grade, severity, count)."""
        self.at += wait
        said = {"confirmed": True, "confidence": "likely", "message": "somebody looks for open ports", "source": key} | more
        self.book.take(Finding(rule, key, grade, **said), self.at, self.wall)
        return self.told()

    def tick(self, wait=1.0):
        self.at += wait
        self.book.tick(self.at, self.wall)
        return self.told()

    def told(self):
        self.outcomes = self.book.drain()
        self.events = [o.event for o in self.outcomes]
        return [(e.fields["ronda.state"], e.fields["ronda.grade"], e.severity, e.count) for e in self.events]

    def active(self):
        return {s.labels: s.value for s in self.book.samples() if s.metric.name == "ronda_condition_active"}

    def counted(self, name):
        return {s.labels[0]: s.value for s in self.book.samples() if s.metric.name == name}


def again(book):
    """The same, in the next life of the agent."""
    other = Book()
    other.at, other.since = 50.0, book.wall - 50.0
    other.book.recall(json.loads(json.dumps(book.book.remember())), other.at, book.wall)
    return other


# --- a case's life ---------------------------------------------------------------------------------------------------------------


def test_a_condition_is_told_when_it_opens_on_a_log_scale_and_when_it_is_over():
    book = Book()
    told = book.see()
    for _ in range(1200):
        told += book.see(wait=0.1)
    told += book.tick(299.0)
    told += book.tick(2.0)

    assert told == [
        ("open", "high", "critical", 1), ("update", "high", "critical", 10), ("update", "high", "critical", 100),
        ("update", "high", "critical", 1000), ("closed", "high", "info", 1201),
    ]  # fmt: skip
    assert book.active() == {("port_scan", "high"): 0.0}


def test_times_of_a_finding_count_and_a_leap_is_told_once():
    assert Book().see(times=5000) == [("open", "high", "critical", 5000)]
    book = Book()
    book.see()
    assert book.see(times=5000) == [("update", "high", "critical", 5001)]
    assert book.see(times=4998) == []
    assert book.see() == [("update", "high", "critical", 10000)]


def test_without_confirmation_it_is_low_and_rises_when_it_comes():
    book = Book()
    assert book.see(grade="critical", confirmed=False) == [("open", "low", "info", 1)]
    assert book.see(grade="critical", confirmed=False, wait=5) == []
    assert book.active() == {("port_scan", "low"): 1.0}
    assert book.see(grade="critical", wait=5) == [("update", "critical", "critical", 3)]
    assert book.active() == {("port_scan", "low"): 0.0, ("port_scan", "critical"): 1.0}
    assert book.see(grade="low", wait=5) == []  # it doesn't sink by itself


def test_a_detector_closes_its_own_case_and_a_rule_without_quiet_stays_open():
    book = Book()
    book.see("gateway_mac", "10.0.0.1")
    assert book.tick(30 * DAY) == []
    assert book.see("gateway_mac", "10.0.0.1", state="closed", message="as before") == [("closed", "high", "info", 1)]
    assert book.see("gateway_mac", "10.0.0.1", state="closed") == []
    assert book.events == []


def test_a_rule_that_is_none_of_ours_is_an_error_of_the_caller():
    with pytest.raises(KeyError):
        Book().see("no_such_rule")


def test_one_page_a_condition_and_hour_and_the_same_case_within_it():
    book = Book()
    book.see(grade="high")
    first = book.outcomes[0].id
    book.tick(301.0)
    assert book.see(grade="high", wait=60) == [("open", "medium", "warning", 1)]
    assert book.outcomes[0].id == first
    assert book.tick(200.0) == []
    assert book.see(grade="critical") == [("update", "critical", "critical", 2)]  # graver than what woke somebody: that is news
    book.tick(301.0)
    told = []
    for _ in range(100):
        told += book.see(grade="critical", wait=60.0)
    paged = [t for t in told if t[1] in PAGES and t[0] != "closed"]
    assert told[0] == ("open", "medium", "warning", 1)
    assert paged[0][:3] == ("update", "critical", "critical")  # it is still so after an hour
    assert len(paged) == 2  # and its 100th finding


def test_after_an_hour_a_condition_that_comes_again_is_a_new_case():
    book = Book()
    book.see()
    first = book.outcomes[0].id
    book.tick(301.0)
    book.tick(HOUR + 1)
    assert book.see() == [("open", "high", "critical", 1)]
    assert book.outcomes[0].id != first


# --- what is told ----------------------------------------------------------------------------------------------------------------


def test_an_event_has_the_fields_of_the_common_schema():
    book = Book()
    book.see(
        "port_scan",
        fields={"source.ip": "10.0.0.66", "event.outcome": "failure", "rule.id": "forged"},
        frames=(Frame("a", "b", "in", b"x"),),
    )
    event = book.events[0]
    assert (event.kind, event.severity) == ("port_scan", "critical")
    assert dict(event.fields) == {
        "event.kind": "alert", "event.category": "network", "event.type": "info", "event.action": "port_scan", "event.outcome": "failure",
        "event.severity": "4", "event.id": "DKC-1118-1806", "rule.id": "L11", "rule.name": "port_scan", "rule.version": "1",
        "observer.name": "DKC", "observer.geo.timezone": "Asia/Jakarta", "threat.framework": "MITRE ATT&CK", "threat.version": "19",
        "threat.technique.id": "T1046", "ronda.confidence": "likely", "ronda.state": "open", "ronda.grade": "high",
        "ronda.dedup_key": "port_scan 10.0.0.66", "ronda.evidence": "1", "ronda.advice_id": "port_scan", "source.ip": "10.0.0.66",
    }  # fmt: skip
    assert (event.first_seen, event.last_seen) == (book.wall, book.wall)


@pytest.mark.parametrize(
    ("grade", "severity", "number"),
    [("critical", "critical", "5"), ("high", "critical", "4"), ("medium", "warning", "3"), ("low", "info", "2"), ("info", "info", "1")],
)
def test_grades_are_severities(grade, severity, number):
    book = Book()
    book.see(grade=grade)
    assert (book.events[0].severity, book.events[0].fields["event.severity"]) == (severity, number)


def test_ids_are_local_time_and_never_given_twice():
    ids = Ids()
    zone = Book().book._zone
    given = [ids.give("DKC", zone, WALL) for _ in range(3)]
    assert given == ["DKC-1118-1806", "DKC-1118-1806-2", "DKC-1118-1806-3"]
    ids.known("DKC-1118-1807")
    assert ids.give("DKC", zone, WALL + 60) == "DKC-1118-1807-2"
    assert re.fullmatch(r"DKC-\d{4}-\d{4}", ids.give("DKC", zone, 1e300))


def test_when_a_case_opened_says_as_a_number_which_of_that_minute_it_is_also_after_a_restart():
    book = Book()
    for rule in ("port_scan", "gateway_mac", "new_device"):
        book.see(rule)
    other = again(book)
    other.tick()
    at = {s.labels[0]: s.value for s in other.book.samples() if s.metric.name == "ronda_condition_opened_timestamp_seconds"}
    begun = WALL // 1
    assert at == pytest.approx({"port_scan": begun, "gateway_mac": begun + 0.0025, "new_device": begun + 0.0035}, abs=1e-5)


def test_times_are_those_of_the_wall_now_whatever_it_said_when_the_case_opened():
    book = Book()
    book.book.take(Finding("port_scan", "x", "high", "likely", "m", confirmed=True), 1000.0, 100.0)  # 1970: no clock chip
    book.told()
    book.book.tick(1301.0, WALL)
    assert [(e.first_seen, e.last_seen) for e in (o.event for o in book.book.drain())] == [(WALL - 301, WALL - 301)]


def test_what_is_seen_to_be_over_is_over_then_and_what_is_seen_no_longer_was_so_when_it_was_last_seen():
    book = Book()
    book.see("port_scan")
    book.see("gateway_mac", "aa")
    begun = book.wall
    book.at += 200.0
    book.book.take(Finding("gateway_mac", "aa", "info", "certain", "the router is itself again", "closed"), book.at, book.wall)
    [over] = book.book.drain()
    book.tick(101.0)
    [quiet] = book.outcomes
    assert over.event.last_seen == pytest.approx(begun + 200)
    assert quiet.event.last_seen == pytest.approx(begun)


# --- learning ----------------------------------------------------------------------------------------------------------------------


def test_while_a_rule_learns_it_tells_info_and_says_so_and_this_outlives_a_restart():
    book = Book()
    book.tick()
    assert book.see("new_device", "aa", "high", wait=DAY) == [("learning", "info", "info", 1)]
    assert book.counted("ronda_detector_learning") == {"new_device": 1.0}
    other = again(book)
    other.tick(13 * DAY - 10)
    assert other.book.learning("new_device")
    other.tick(20.0)
    assert not other.book.learning("new_device")
    assert other.counted("ronda_detector_learning") == {"new_device": 0.0}
    assert other.see("new_device", "bb", "high") == [("open", "high", "critical", 1)]


def test_a_replay_trusts_all_rules_from_the_start():
    assert Book(learning=False).see("new_device", "aa", "high") == [("open", "high", "critical", 1)]


# --- suppressions ------------------------------------------------------------------------------------------------------------------


def accepted(**more):
    return Suppression(**({"rule": "port_scan", "until": WALL + DAY, "reason": "our own scanner"} | more))


def test_what_is_accepted_is_told_as_info_counted_and_ends_in_time():
    book = Book(suppressions=[accepted(source="10.0.0.66")])
    assert book.see() == [("open", "info", "info", 1)]
    assert book.events[0].fields["ronda.suppressed_by"] == "config"
    assert book.see(key="10.0.0.67") == [("open", "high", "critical", 1)]
    told = []
    while not told:
        told = [t for t in book.see(wait=200.0) if t[1] != "info"]
    assert book.wall - WALL >= DAY
    assert told == [("update", "high", "critical", told[0][3])]
    assert "ronda.suppressed_by" not in book.events[0].fields
    suppressed = book.counted("ronda_findings_suppressed_total")["port_scan"]
    assert suppressed == told[0][3] - 1
    book.see(wait=1.0)
    assert book.counted("ronda_findings_suppressed_total")["port_scan"] == suppressed


def test_accepting_an_open_case_takes_it_down_and_only_that_one():
    book = Book()
    book.see(key="10.0.0.66")
    book.see(key="10.0.0.67")
    book.book.suppress([accepted(key="10.0.0.66", by="DKC-1118-1806")])
    assert book.tick() == [("update", "info", "info", 1)]
    assert book.events[0].fields["ronda.suppressed_by"] == "DKC-1118-1806"
    assert book.active() == {("port_scan", "high"): 1.0, ("port_scan", "info"): 1.0}
    book.book.suppress([])
    assert book.tick() == [("update", "medium", "warning", 1)]  # it has woken somebody within the hour
    assert book.see(wait=HOUR) == [("update", "high", "critical", 2)]


@pytest.mark.parametrize("more", [{"rule": "gateway_mac"}, {"source": "10.0.0.1"}, {"key": "other"}, {"until": WALL}])
def test_what_is_accepted_is_that_and_no_more(more):
    assert Book(suppressions=[accepted(**more)]).see() == [("open", "high", "critical", 1)]


# --- too many ----------------------------------------------------------------------------------------------------------------------


def test_one_source_has_so_many_cases_and_costs_no_other_its_own():
    book = Book()
    for n in range(100):
        book.see("port_scan", f"key {n}", "medium", source="10.0.0.66")
    assert len(book.book.cases()) == SOURCE_BURST
    assert book.counted("ronda_findings_limited_total") == {"port_scan": 100 - SOURCE_BURST}
    assert book.see("port_scan", "key", "medium", source="10.0.0.99") == [("open", "medium", "warning", 1)]
    assert book.tick(61.0) == [("update", "info", "info", 1)]
    assert book.events[0].message == "95 more findings of 1 sources are not told one by one"
    assert book.events[0].fields["ronda.more"] == "95"
    assert book.tick(1.0) == []


def test_what_is_graver_than_all_of_its_rule_is_always_told():
    book = Book()
    for n in range(1000):
        book.see("port_scan", f"key {n}", "medium", source=f"{n}")
    assert len(book.book.cases()) == RULE_BURST
    assert book.see("port_scan", "real", "high", source="66") == [("open", "high", "critical", 1)]


def test_ten_thousand_findings_from_as_many_sources_are_bounded():
    book = Book()
    told = 0
    for n in range(10_000):
        rule, grade = (SCAN, GATEWAY, NEW)[n % 3].name, GRADES[n % 5]
        told += len(book.see(rule, f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}", grade, wait=0.01, confirmed=n % 2 == 0))
        if n % 100 == 0:
            told += len(book.tick(0.0))
    assert len(book.book.cases()) <= MAX_CASES
    assert told < 150
    assert sum(book.counted("ronda_findings_limited_total").values()) >= 9_800
    assert len(json.dumps(book.book.remember())) < 256 << 10


def test_a_full_table_gives_room_to_what_is_graver():
    book = Book()
    for n in range(MAX_CASES + 10):
        book.see("port_scan", f"key {n}", "low", source=f"{n}", wait=200.0 if n >= RULE_BURST else 0.0)
        for case in book.book.cases():
            case.last = book.at
    assert len(book.book.cases()) == MAX_CASES
    assert [t[0] for t in book.see("gateway_mac", "10.0.0.1", "critical")] == ["closed", "open"]
    assert len(book.book.cases()) == MAX_CASES


# --- memory, evidence, anything --------------------------------------------------------------------------------------------------


def test_an_open_case_outlives_a_restart_and_is_not_told_anew():
    book = Book()
    book.see(fields={"source.ip": "10.0.0.66"}, frames=(Frame("a", "b", "in", b"x" * 60),))
    name = book.outcomes[0].id
    other = again(book)
    assert other.active() == {("port_scan", "high"): 1.0}
    assert other.see() == []
    assert other.tick(301.0) == [("closed", "high", "info", 2)]
    assert other.outcomes[0].id == name
    assert other.events[0].fields["ronda.evidence"] == "1"
    assert abs(other.events[0].first_seen - WALL) < 1


def test_an_id_is_not_given_again_in_the_next_life_though_its_case_is_over():
    book = Book()
    book.see("gateway_mac", "10.0.0.1")
    book.see("gateway_mac", "10.0.0.1", state="closed")
    other = again(book)
    other.see()
    assert other.outcomes[0].id == f"{book.outcomes[0].id}-2"


@pytest.mark.parametrize(
    "said", [{}, {"cases": 1, "learnt": {}}, {"cases": [{}], "learnt": {}}, {"cases": [], "learnt": {"new_device": "x"}}, []]
)
def test_a_memory_that_is_none_is_named_so(said):
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        Book().book.recall(said, 1.0, WALL)


def test_evidence_is_a_few_packets():
    book = Book()
    frames = (*(Frame("a", "b", "in", bytes([n]) * 60) for n in range(15)), Frame("a", "b"))
    book.see(frames=frames, times=9)
    book.see(frames=frames)
    assert [len(o.frames) for o in book.outcomes] == [MAX_FRAMES]
    assert book.outcomes[0].event.fields["ronda.evidence"] == str(MAX_FRAMES)


TEXT = st.text(max_size=300)
FINDINGS = st.builds(
    Finding, rule=st.sampled_from([rule.name for rule in RULES]), key=TEXT, grade=st.sampled_from(GRADES),
    confidence=st.sampled_from(["certain", "likely", "unknown"]), message=TEXT, state=st.sampled_from(["open", "open", "closed"]),
    confirmed=st.booleans(), fields=st.dictionaries(TEXT, TEXT, max_size=40), source=TEXT, times=st.integers(-5, 10**12),
)  # fmt: skip


@fuzz
@given(st.lists(st.tuples(FINDINGS, st.floats(0, 1e5)), max_size=12))
def test_any_findings_become_events_that_the_journal_and_the_centre_take(found):
    book = Book()
    for finding, wait in found:
        book.at += wait
        book.book.take(finding, book.at, book.wall)
        book.book.tick(book.at, book.wall)
    for outcome in book.book.drain():
        entry = Entry(1, bounded(outcome.event))
        assert len(entry.event.fields) <= MAX_FIELDS
        assert len(outcome.event.fields) <= MAX_OWN + 26
        assert all(len(value) <= MAX_VALUE for value in outcome.event.fields.values())
        assert decode(encode(entry)).event.fields == entry.event.fields
        assert entry.event.fields["event.id"] == outcome.id
    json.dumps(book.book.remember())


def test_whatever_happens_nobody_is_woken_by_what_is_not_confirmed():
    dice = random.Random(7)
    book = Book()
    for _ in range(3000):
        key = dice.choice(string.ascii_lowercase)
        told = book.see("port_scan", key, dice.choice(GRADES), wait=dice.expovariate(0.1), confirmed=False, source="")
        assert all(not graver(grade, "low") for _, grade, _, _ in told + book.tick(0.0))
