"""The verdict from what answers: a table of situations."""

import dataclasses
import zoneinfo

import pytest

from agent import diagnosis
from agent.diagnosis import Office, Verdict, judge, role_of
from agent.status import Status

OFFICE = Office("DKC", zoneinfo.ZoneInfo("Asia/Jakarta"))
ONSET = 1_795_460_820.0  # 2026-11-23 19:07 UTC, 02.07 WIB of the next day


def tasks(gateway="", anchors="", resolvers="", services="", reason="timeout"):
    """A letter a task: o answers, d is down, u is not known yet, b could not look."""
    state = {"o": "ok", "d": "down", "u": "unknown", "b": "blind", "c": "checking"}
    kinds = {"gateway": ("icmp", "gateway", gateway), "anchor": ("icmp", "1.1.1.1", anchors), "resolver": ("dns", "r", resolvers)}
    return [
        Status(f"{role}{i}", kind, target, state=state[c], reason=reason, reached=c == "c")
        for role, (kind, target, letters) in {**kinds, "service": ("http", "https://x/", services)}.items()
        for i, c in enumerate(letters)
    ]


@pytest.mark.parametrize(
    ("seen", "carrier", "expected"),
    [
        (tasks("o", "ooo", "oo", "oo"), True, ("ok", "ok", "certain")),
        (tasks("o", "odd", "oo"), True, ("ok", "ok", "certain")),  # one provider's anchor down is not ours
        (tasks("c", "ccc"), True, ("ok", "ok", "certain")),  # a blip
        (tasks("d", "ddd", "dd", "dd"), False, ("down", "link", "certain")),
        (tasks("d", "ddd", "dd", "dd"), True, ("down", "gateway", "certain")),
        (tasks("d", "ddd"), None, ("down", "gateway", "likely")),
        (tasks("o", "ddd", "dd", "dd"), True, ("down", "isp", "certain")),
        (tasks("o", "d"), True, ("down", "isp", "likely")),
        (tasks("d", "ooo"), True, ("ok", "ok", "certain")),  # a router that ignores pings
        (tasks("o", "ooo", "dd", "oo"), True, ("degraded", "dns", "certain")),
        (tasks("o", "ooo", "od", "dd", reason="resolve"), True, ("degraded", "dns", "likely")),
        (tasks("o", "ooo", "oo", "od"), True, ("degraded", "service", "certain")),
        (tasks("", "", "", "od"), True, ("degraded", "service", "likely")),
        (tasks("", "ddd"), True, ("down", "unknown", "unknown")),
        (tasks("u", "uuu"), True, ("ok", "unknown", "unknown")),
        (tasks("b", "bbb"), True, ("ok", "unknown", "unknown")),
        (tasks("b", "bbb"), False, ("down", "link", "certain")),  # no cable, no route: pings can't even be sent
        (tasks("d", "bbb"), True, ("down", "gateway", "likely")),  # a cable, and no router that gave us a route
        ([], None, ("ok", "unknown", "unknown")),
        (tasks("d"), True, ("down", "gateway", "likely")),
    ],
)
def test_situations(seen, carrier, expected):
    verdict = judge(seen, carrier, ONSET, Verdict(), OFFICE)

    assert (verdict.state, verdict.cause, verdict.confidence) == expected


def test_an_incident_keeps_its_id_through_changing_causes_and_ends():
    first = judge(tasks("o", "ooo", "oo", "d"), True, ONSET, Verdict(), OFFICE)
    worse = judge(tasks("o", "ddd", "dd", "d"), True, ONSET + 60, first, OFFICE)
    same = judge(tasks("o", "ddd", "dd", "d"), True, ONSET + 90, worse, OFFICE)
    over = judge(tasks("o", "ooo", "oo", "o"), True, ONSET + 120, same, OFFICE)

    assert first.incident == worse.incident == "DKC-1124-0207"
    assert (first.since, worse.since, same.since, over.since) == (ONSET, ONSET + 60, ONSET + 60, ONSET + 120)
    assert over.incident == ""


def two_ways(first: str, second: str):
    """The anchors of two uplinks, a letter each, and a gateway, a resolver and a service that answer."""
    ways = [(letter, uplink) for uplink, letters in (("isp-a", first), ("isp-b", second)) for letter in letters]
    anchors = tasks("", first + second)
    labelled = [dataclasses.replace(s, labels={"role": "anchor", "uplink": w}) for s, (_, w) in zip(anchors, ways, strict=True)]
    return labelled + tasks("o", "", "o", "o")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("ooo", "ooo", ("ok", "ok", "certain")),
        ("ooo", "ddo", ("ok", "ok", "certain")),
        ("ooo", "ddd", ("degraded", "isp", "certain")),
        ("ooo", "d", ("degraded", "isp", "likely")),
        ("ddd", "ddd", ("degraded", "isp", "likely")),  # a service still answers: one inside, or it was not looked at since
        ("ooo", "uuu", ("ok", "ok", "certain")),
    ],
)
def test_one_of_two_ways_out_is_lost(first, second, expected):
    verdict = judge(two_ways(first, second), True, ONSET, Verdict(), OFFICE)

    assert (verdict.state, verdict.cause, verdict.confidence) == expected
    assert any("jalur isp-a" in e for e in verdict.evidence)


def test_what_was_open_stays_open_until_somebody_can_tell():
    was = Verdict("down", "isp", "certain", ONSET, "DKC-1124-0207")

    assert judge(tasks("u", "uuu"), None, ONSET + 9, was, OFFICE) == was
    assert judge(tasks("o", "uuu"), True, ONSET + 9, was, OFFICE) == was
    assert judge(tasks("o", "ouu"), True, ONSET + 9, was, OFFICE).state == "ok"


def test_evidence_names_no_address():
    verdict = judge(tasks("o", "ddd", "do", "d"), True, ONSET, Verdict(), OFFICE)

    assert verdict.evidence == (
        "kabel atau WiFi tersambung",
        "router kantor menjawab",
        "0/3 jangkar internet menjawab",
        "1/2 server nama (DNS) menjawab",
        "0/1 layanan menjawab",
    )


def test_roles_follow_from_kind_and_target_unless_given():
    assert role_of(Status("a", "icmp", "gateway")) == "gateway"
    assert role_of(Status("a", "icmp", "203.0.113.1")) == "anchor"
    assert role_of(Status("a", "icmp", "203.0.113.1", {"role": "printer"})) == "printer"
    assert role_of(Status("a", "tcp", "x:1")) == "service"


def test_exactly_one_state_and_one_cause_is_1():
    made = list(diagnosis.samples(Verdict("down", "isp"), 3))

    assert [s.labels for s in made if s.value == 1] == [("down",), ("isp",)]
    assert made[-1].value == 3


def test_after_a_start_the_first_to_fail_opens_no_incident():
    started = tasks("u", "uuu", "u", "d")
    for status in started:
        status.since = ONSET
    first = judge(started, True, ONSET + 2, Verdict(since=ONSET), OFFICE)
    assert (first.state, first.incident) == ("ok", "")

    later = tasks("o", "ooo", "o", "d")
    assert judge(later, True, ONSET + 3, first, OFFICE).state == "degraded"
    assert judge(started, False, ONSET + 2, first, OFFICE).cause == "link"  # a fact, whoever else has yet to look
    assert judge(started, True, ONSET + 31, first, OFFICE).state == "down"  # not for ever
