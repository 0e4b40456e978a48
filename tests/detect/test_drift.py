"""device_drift: another device under the old name is told once, when two polls agree; newer software is no alarm, too old software is."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.detect import seen
from agent.detect.drift import FACTS, DeviceDrift, maker_of
from agent.detect.model import Vouched
from tests.detect.lan import ADDRESSES, Watch, weight

ROUTER = seen.DeviceIdentity("router", "RB-DKC", "1.3.6.1.4.1.14988.1", "RB4011iGS+", "7.15.3", "HF1234", 8_640.0)
LEAST = Vouched(versions={"mikrotik": "7.12"})


def watching(vouched: Vouched = LEAST, *, first: seen.DeviceIdentity = ROUTER) -> Watch:
    watch = Watch(DeviceDrift(vouched), None)
    polls(watch, first, 5)
    watch.findings = [f for f in watch.findings if f.state == "open"]
    return watch


def polls(watch: Watch, what: seen.DeviceIdentity, times: int = 4) -> None:
    for _ in range(times):
        watch.see(what, watch.at + 60)


@pytest.mark.parametrize(("fact", "text"), [("serial", "HF9999"), ("kind", "1.3.6.1.4.1.9.1"), ("model", "CCR2004"), ("name", "RB-NEW")])
def test_another_device_is_told_once_when_two_polls_agree(fact: str, text: str) -> None:
    watch = watching(Vouched())
    other = ROUTER._replace(**{fact: text})
    polls(watch, other, 1)
    assert watch.findings == []
    polls(watch, other, 9)
    (found,) = watch.findings
    assert (found.grade, found.confirmed, found.source, found.key) == ("medium", True, "", "is router")
    assert found.fields[f"ronda.old_{fact}"] == getattr(ROUTER, fact)
    assert found.fields[f"ronda.new_{fact}"] == text


def test_a_device_that_was_swapped_is_one_case() -> None:
    watch = watching()
    polls(watch, ROUTER._replace(serial="HF9999", model="CCR2004", version="7.16"))
    (found,) = watch.findings
    assert found.fields["ronda.drift"] == "serial,model,version"


def test_a_new_version_is_a_note_and_an_older_one_a_little_more() -> None:
    watch = watching()
    polls(watch, ROUTER._replace(version="7.16"))
    polls(watch, ROUTER._replace(version="7.15.3"))
    assert [(f.grade, f.key) for f in watch.findings] == [("info", "runs router"), ("low", "runs router")]


def test_software_below_the_least_is_told_while_it_is_so() -> None:
    old = ROUTER._replace(version="6.49.10 (long-term)")
    watch = watching(first=old)
    assert {(f.grade, f.confirmed, f.key) for f in watch.findings} == {("medium", True, "old router")}
    polls(watch, ROUTER, 1)
    assert [(f.state, f.key) for f in watch.findings if f.state == "closed"] == [("closed", "old router")]


def test_a_case_of_an_earlier_life_is_closed_and_said_no_more() -> None:
    watch = watching(first=ROUTER._replace(version="6.49.10")).again(DeviceDrift(LEAST))
    polls(watch, ROUTER, 5)
    assert [(f.state, f.key) for f in watch.findings if "old" in f.key] == [("closed", "old router")]


def test_of_another_maker_nothing_is_too_old() -> None:
    assert watching(first=ROUTER._replace(version="6.1", kind="1.3.6.1.4.1.9.1.1208")).findings == []


# -- innocent ----------------------------------------------------------------------------------------------------------------------


def test_silence_a_single_odd_answer_and_a_restart_are_none() -> None:
    watch = watching()
    for odd in (seen.DeviceIdentity("router"), ROUTER._replace(serial="garbled"), ROUTER._replace(name="", serial=""), ROUTER):
        polls(watch, odd, 1)
        polls(watch, ROUTER._replace(uptime=5.0), 2)
    assert watch.findings == []


def test_what_it_was_outlives_a_restart() -> None:
    watch = watching().again(DeviceDrift(LEAST))
    polls(watch, ROUTER._replace(serial="HF9999"))
    assert [f.grade for f in watch.findings if f.state == "open"] == ["medium"]


def test_two_devices_are_two() -> None:
    watch = watching()
    for _ in range(4):
        polls(watch, ROUTER, 1)
        polls(watch, ROUTER._replace(device="switch-1", serial="SW1", name="SW-1"), 1)
    assert [f for f in watch.findings if f.state == "open"] == []


def test_who_reads_no_device_is_blind() -> None:
    detector = DeviceDrift(Vouched())
    assert detector.coverage(frozenset({"capture"})) == (0.0, "no_devices")
    assert detector.coverage(frozenset({"devices"})) == (1.0, "")


def test_makers_are_known_by_their_number() -> None:
    assert [maker_of(kind) for kind in (ROUTER.kind, "1.3.6.1.4.1.9.1.1208", "1.3.6.1.4.1.99999.1", "", "1.3.6.1.2.1")] == [
        *("mikrotik", "cisco"),
        *("", "", ""),
    ]


# -- lies --------------------------------------------------------------------------------------------------------------------------

TEXTS = st.text(max_size=400) | st.sampled_from([getattr(ROUTER, fact) for fact in FACTS])
SAID = st.builds(seen.DeviceIdentity, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, st.floats())


@settings(max_examples=60, deadline=None)
@given(many=st.lists(SAID, max_size=20))
def test_any_identity_is_borne(many: list[seen.DeviceIdentity]) -> None:
    watch = Watch(DeviceDrift(LEAST), None)
    for what in many:
        polls(watch, what, 2)
    assert all(not ADDRESSES.search(f.message) and len(v) <= 255 for f in watch.findings for v in f.fields.values())
    json.dumps(dict(watch.detector.remember()))


def test_devices_without_end_are_few() -> None:
    watch = Watch(DeviceDrift(LEAST), None)
    for i in range(3000):
        watch.see(ROUTER._replace(device=f"d{i}" * 40, name="n" * 10_000))
    assert weight(watch.detector) < 2_000


@pytest.mark.parametrize("wrong", [None, 1, "x", [["router", -1, {}]], [["router", 1, []]], [["router", 1, {"name": 5}]], [["router", 1]]])
def test_a_memory_that_is_none_is_refused(wrong: Any) -> None:
    detector = DeviceDrift(Vouched())
    with pytest.raises((ValueError, TypeError, AttributeError)):
        detector.recall({"devices": wrong}, 5.0)
    assert detector.remember() == {}
