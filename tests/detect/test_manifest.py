"""N8 in short: each case of the manifest comes out as it says, each detector has its three sorts, and an office day pages nobody."""

import multiprocessing
import os
import random
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import pytest
from scapy.layers.dhcp import DHCP
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6ND_RS
from scapy.layers.l2 import ARP, STP, Ether
from scapy.layers.netbios import NBNSQueryRequest

from agent.detect import reading, seen
from agent.detect.model import Vouched
from agent.detect.table import LAN
from tests.detect import cases, officeday
from tests.detect.__main__ import main, office_day
from tests.detect.player import CORPUS, EVERY, SOON, TOLD_OF, Case, Verdict, judge, manifest, office, play, scores

CASES = manifest()
RULES = [make(Vouched()).rule.name for make in EVERY]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as made:
        yield made
        made.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def day(pool: ProcessPoolExecutor) -> Future[dict[str, Any]]:
    return pool.submit(office_day, 1)


@pytest.fixture(scope="module")
def verdicts(request: pytest.FixtureRequest, pool: ProcessPoolExecutor) -> dict[str, Future[Verdict]]:
    """Of the cases that were chosen, played on all cores."""
    items = (item for item in request.session.items if isinstance(item, pytest.Function) and item.module is request.module)
    chosen: list[Any] = [item.callspec.params["case"] for item in items if "verdicts" in item.fixturenames]
    return {case.name: pool.submit(judge, case) for case in chosen if case.there}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_comes_out_as_the_manifest_says(case: Case, verdicts: dict[str, Future[Verdict]]):
    if not case.there:
        print(f"not there: {case.file} of {CORPUS}; the generated cases of {case.of} stand for it")
        assert any(set(case.of) & set(other.of) and other.make and other.sort == case.sort for other in CASES)
        return
    verdict = verdicts[case.name].result()
    assert verdict.right, str(verdict)


@pytest.mark.parametrize("rule", RULES)
def test_every_detector_has_an_attack_its_twin_and_something_malformed(rule: str):
    of = [case for case in CASES if rule in case.of and case.make]
    assert {case.sort for case in of} == {"attack", "benign", "malformed"}
    assert any(rule in case.expect for case in of)


def test_names_of_cases_are_one_each_and_of_rules_that_there_are():
    assert len({case.name for case in CASES}) == len(CASES)
    assert {rule for case in CASES for rule in (*case.of, *case.expect, *case.never)} <= set(RULES)


def test_what_packets_show_is_told_within_seconds_or_the_manifest_says_why_not():
    sees_packets = {make(Vouched()).rule.name for make in LAN} - {"arp_poisoning", "device_drift"}  # as often as devices are polled
    slow = {
        case.name
        for case in CASES
        for rule, (limit, _) in case.expect.items()
        if rule in sees_packets and limit > SOON and not case.evidence
    }
    assert slow == set()


def test_an_office_day_has_nobody_told_anything(day: Future[dict[str, Any]]):
    told = day.result()
    assert told["told"] == []
    assert told["hosts"] >= 60


def test_an_attack_in_an_office_day_is_found_all_the_same():
    """The day isn't quiet because the detectors sleep: at ten o'clock somebody says that he is the router, and scans."""
    day = officeday.Day(2)
    attack = [
        (at - cases.T + 36_000, what) for at, what in cases.gateway_flips(random.Random(1)) if at > cases.T and isinstance(what, bytes)
    ]
    scan = [(at - cases.T + 36_100, what) for at, what in cases.scan_fast(random.Random(1)) if at > cases.T and isinstance(what, bytes)]
    steps = sorted((s for s in [*office(day), *attack, *scan] if 30_000 < s[0] < 37_000 or s[0] == 0.0), key=lambda step: step[0])
    told = {rule for _, rule, grade, _ in play(steps).told.opened() if grade in TOLD_OF}
    assert {"gateway_mac", "port_scan"} <= told


def test_a_day_is_the_same_for_a_seed_and_another_for_another():
    first, again, other = (list(officeday.Day(seed, pcs=20, phones=1).frames()) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_the_days_frames_are_what_scapy_takes_them_for():
    day = officeday.Day(3)
    kinds = {ARP: 0, UDP: 0, TCP: 0, ICMP: 0, DHCP: 0, STP: 0, ICMPv6ND_NS: 0, ICMPv6ND_RS: 0, NBNSQueryRequest: 0}
    dice = random.Random(1)
    for _, frame in day.frames():
        if isinstance(frame, bytes) and (dice.random() < 0.01 or frame[12:14] != b"\x08\x06"):
            if dice.random() > 0.05:
                continue
            packet = Ether(frame)
            for kind in kinds:
                kinds[kind] += packet.haslayer(kind)
            if IP in packet:
                checked = IP(bytes(packet[IP]))
                del checked.chksum
                assert IP(bytes(checked)).chksum == packet[IP].chksum
    assert [kind.__name__ for kind, n in kinds.items() if not n] == []


def test_our_codecs_read_every_frame_of_the_day():
    unread = [
        frame for _, frame in officeday.Day(4, pcs=20, phones=2).frames() if isinstance(frame, bytes) and not list(reading.read(frame))
    ]
    assert {frame[12:14] for frame in unread} <= {b"\x86\xdd"}, "a router solicitation says nothing of use; all else is read"


def test_a_verdict_that_is_wrong_says_so():
    """The judge itself: an attack that nobody expected is false, one that isn't told is missed, the wrong name is no find."""
    base = next(case for case in CASES if case.name == "nmap -sn")
    assert judge(Case("x", "benign", ("arp_sweep",), base.make)).false.keys() == {"arp_sweep"}
    assert judge(Case("x", "attack", ("arp_sweep",), "sleep_proxy", expect={"arp_sweep": (9.0, "medium")})).missed.keys() == {"arp_sweep"}
    named = judge(Case("x", "attack", ("arp_sweep",), base.make, expect=base.expect, accused="192.0.2.1"))
    assert "not 192.0.2.1" in named.missed["arp_sweep"]
    late = judge(Case("x", "attack", ("arp_sweep",), base.make, expect={"arp_sweep": (0.0001, "medium")}))
    assert late.missed.keys() == {"arp_sweep"}
    score = scores([named])["arp_sweep"]
    assert (score["recall"], score["true"], score["missed_cases"]) == (0.0, 1, ["x"])


def test_the_report_names_what_was_wrong_and_writes_json(tmp_path, capsys):
    path = tmp_path / "detect.json"
    assert main(["--only", "tripwire", "--json", str(path)]) == 0
    assert "tripwire" in capsys.readouterr().out
    assert '"recall": 1.0' in path.read_text()


def test_garbage_is_of_every_kind_that_detectors_want():
    wanted = {kind for make in EVERY for kind in make(Vouched()).wants}
    dice = random.Random(1)
    assert all(isinstance(cases.any_of(kind, dice), kind) for kind in wanted)
    assert seen.Arp in wanted
