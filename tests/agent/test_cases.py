"""Beside the casebook: evidence within its bounds, decisions that last and are journalled, what is held until its day, and memory."""

import asyncio
import dataclasses
import json
import os
import stat
from datetime import UTC

import pytest

from agent import cases, decisions, evidence, files
from agent.cases import Cases, SuppressConfig, ids_of
from agent.collector import Env
from agent.custody import EVERY, Custody, is_of
from agent.decisions import MAX_BYTES, NAME, Decision, DecisionError, Watch
from agent.detect.casebook import MAX_FRAMES, Ids, Kept, Outcome
from agent.detect.model import Finding, Plain, Rule
from agent.detect.patrol import Patrol
from agent.detect.seen import Bridge, Frame, RouterArp
from agent.evidence import KEEP, Evidence, capture
from agent.journal import Journal
from agent.model import Event
from agent.net import Net
from agent.structure import ConfigError, loads
from agent.wire.event import Entry
from agent.wire.pcap import Capture
from tests.fakes import FakeClock

NOW = 1_795_000_000.0
DAY = 86400.0
SWEEP = Rule("arp_sweep", "L10", "1", "network", ("T1018",), quiet=60.0)
ID = "DKC-1118-1806"


class Sweeps(Plain):
    """A detector that can be told of what was accepted."""

    rule = SWEEP
    wants = ()

    def __init__(self):
        self.accepted = []
        self.known = 0

    def see(self, seen, at):
        return ()

    def accept(self, key, at):
        self.accepted.append(key)

    def remember(self):
        return {"known": self.known}

    def recall(self, said, at):
        self.known = int(said["known"])


class Task:
    """What lan and guard do with Cases, on a clock that stands still."""

    def __init__(self, data, *suppress):
        self.clock = FakeClock()
        self.env = Env(self.clock, Net(), data=data, code="DKC")
        self.cases = Cases(self.env, "lan", [SWEEP], suppress)
        self.detector = Sweeps()
        self.patrol = Patrol([self.detector], self.cases.book)

    async def find(self, key="aa", n=1, **more):
        frames = tuple(Frame("a", "b", "in", bytes([i]) * 60) for i in range(n))
        said = {"confirmed": True, "frames": frames} | more
        self.cases.book.take(Finding("arp_sweep", key, "medium", "likely", "many", **said), self.clock.monotonic(), self.clock.now())
        return await self.cases.turn(self.patrol)

    async def wait(self, seconds):
        await self.clock.advance(seconds)
        self.patrol.tick(self.clock.monotonic(), self.clock.now())
        return await self.cases.turn(self.patrol)


@pytest.fixture(autouse=True)
def _a_new_process(monkeypatch):
    monkeypatch.setattr(cases, "_IDS", {})


def test_what_switches_have_put_on_the_board_says_where_a_finding_is(tmp_path):
    async def run():
        task, mac = Task(tmp_path), "4c:5e:0c:11:22:33"
        [first] = await task.find(fields={"source.ip": "192.0.2.66"})
        assert "ronda.where" not in first.fields
        task.env.board.post("switch-1", Bridge("switch-1", {mac: "11"}), task.clock.monotonic())
        task.env.board.post("router", RouterArp("router", {"192.0.2.66": mac}), task.clock.monotonic())
        [told] = await task.wait(31)
        assert (told.fields["ronda.state"], told.fields["ronda.where"]) == ("update", "switch-1 port 11")
        assert [s.labels for s in task.cases.samples() if s.metric.name == "ronda_condition_where_info"] == [
            ("arp_sweep", "switch-1", "11")
        ]

    asyncio.run(run())


def outcome(name=ID, n=3, *, size=60):
    frames = tuple(Kept(NOW + i, bytes([i % 256]) * size) for i in range(n))
    return Outcome(Event("arp_sweep", "warning", "m"), name, frames, "arp_sweep", "aa")


def a_decision(what="accept", until=NOW + DAY, **more):
    return Decision(**({"number": 0, "at": NOW, "what": what, "id": ID, "person": "Budi", "reason": "our scanner", "until": until} | more))


def accepting(**more):
    return a_decision(**({"rule": "arp_sweep", "key": "aa"} | more))


# --- a task ----------------------------------------------------------------------------------------------------------------------


def test_what_is_found_is_told_with_its_evidence_on_the_disk(tmp_path):
    async def work():
        task = Task(tmp_path)
        await task.cases.begin(task.patrol)
        (event,) = await task.find(n=3)
        assert event.fields["event.id"] == ID
        with (tmp_path / "evidence" / f"{ID}.pcap").open("rb") as f:
            packets = list(Capture(f.read))
        assert [(p.time, p.data) for p in packets] == [(task.clock.now(), bytes([n]) * 60) for n in range(3)]
        about = json.loads((tmp_path / "evidence" / f"{ID}.json").read_text())
        assert (about["rule"], about["packets"]) == ("arp_sweep", 3)
        assert await task.find() == []

    asyncio.run(work())


def test_a_task_remembers_its_cases_and_what_its_detectors_learnt(tmp_path):
    async def work():
        task = Task(tmp_path)
        await task.cases.begin(task.patrol)
        await task.find(n=3)
        task.detector.known = 42
        await task.cases.end(task.patrol)
        again = Task(tmp_path)
        await again.cases.begin(again.patrol)
        assert again.detector.known == 42
        assert [case.id for case in again.cases.book.cases()] == [ID]
        assert await again.find(n=1) == []
        (closed,) = await again.wait(61.0)
        assert (closed.fields["event.id"], closed.fields["ronda.evidence"]) == (ID, "3")
        assert json.loads((tmp_path / "evidence" / f"{ID}.json").read_text())["packets"] == 3

    asyncio.run(work())


@pytest.mark.parametrize(
    "spoilt",
    [
        "",
        "{",
        "[]",
        '{"version": 9}',
        '{"version": 1, "book": [], "detectors": {"arp_sweep": {}}}',
        "[" * 9999,
        '{"version": 1, "book": {"cases": [], "learnt": {"arp_sweep": 1e999}}}',
        '{"version": 1, "book": {"cases": [], "learnt": {"arp_sweep": Infinity}}}',
        '{"version": 1, "book": {"cases": [], "learnt": {"arp_sweep": %s}}}' % ("9" * 400),
        '{"version": 1, "detectors": {"arp_sweep": {"known": 1e999}}}',
    ],
)
def test_a_memory_that_is_spoilt_begins_anew(tmp_path, spoilt, caplog):
    async def work():
        (tmp_path / "lan.cases.json").write_text(spoilt)
        task = Task(tmp_path)
        await task.cases.begin(task.patrol)
        assert len(await task.find()) == 1

    asyncio.run(work())
    assert "begin" in caplog.text


def test_without_a_data_directory_or_with_one_that_refuses_it_is_told_all_the_same(tmp_path):
    async def work(data):
        task = Task(data)
        await task.cases.begin(task.patrol)
        assert len(await task.find()) == 1
        await task.cases.end(task.patrol)
        return {s.metric.name: s.value for s in task.cases.samples()}["ronda_evidence_failures_total"]

    assert asyncio.run(work(None)) == 0
    (tmp_path / "file").write_text("no directory")
    assert asyncio.run(work(tmp_path / "file")) == 1


def test_memory_is_saved_now_and_then_not_at_each_event(tmp_path):
    async def work():
        task = Task(tmp_path)
        await task.cases.begin(task.patrol)
        path = tmp_path / "lan.cases.json"
        await task.find()
        assert not path.exists()
        await task.wait(cases.SAVE_AT_LEAST + 1)
        assert path.exists()
        path.unlink()
        await task.wait(1000.0)
        assert not path.exists()
        await task.wait(cases.SAVE)
        assert path.exists()

    asyncio.run(work())


def test_two_tasks_of_a_box_give_no_id_twice_and_none_that_there_is_evidence_of(tmp_path, monkeypatch):
    async def work():
        one, two = Task(tmp_path), Task(tmp_path)
        for task in (one, two):
            await task.cases.begin(task.patrol)
        first, second = (await one.find())[0], (await two.find())[0]
        assert (first.fields["event.id"], second.fields["event.id"]) == (ID, f"{ID}-2")

    asyncio.run(work())
    monkeypatch.setattr(cases, "_IDS", {})
    assert ids_of(tmp_path).give("DKC", Task(None).cases.book._zone, NOW) == f"{ID}-3"
    assert isinstance(ids_of(None), Ids)


# --- decisions ---------------------------------------------------------------------------------------------------------------------


def test_what_is_accepted_is_taken_up_within_a_minute_and_the_detector_is_told(tmp_path):
    async def work():
        task = Task(tmp_path)
        await task.cases.begin(task.patrol)
        await task.find()
        decisions.add(tmp_path, accepting(at=task.clock.now(), until=task.clock.now() + 100))
        await task.wait(30.0)
        (event,) = await task.wait(1.0)
        assert (event.severity, event.fields["ronda.suppressed_by"]) == ("info", ID)
        assert task.detector.accepted == ["aa"]
        await task.find()
        await task.find(key="bb")
        await task.wait(35.0)
        assert task.detector.accepted == ["aa"]
        assert [e.fields["ronda.grade"] for e in await task.find()] == []
        told = [(e.fields["ronda.state"], e.fields["ronda.grade"]) for e in await task.wait(40.0)]
        assert told == [("update", "medium"), ("closed", "medium")]  # the acceptance is over, and the other case

    asyncio.run(work())


def test_what_was_accepted_before_a_restart_still_is_and_the_detector_is_not_told_anew(tmp_path):
    async def work():
        decisions.add(tmp_path, accepting())
        task = Task(tmp_path)
        await task.cases.begin(task.patrol)
        (event,) = await task.find()
        assert event.severity == "info"
        await task.wait(60.0)
        assert task.detector.accepted == []

    asyncio.run(work())


def test_a_suppression_of_the_config_holds_until_its_day_is_over(tmp_path, caplog):
    async def work():
        over = SuppressConfig(rule="arp_sweep", until="2026-11-17", reason="over")
        task = Task(tmp_path, SuppressConfig(rule="arp_sweep", until="2026-11-18", reason="a scan that we asked for", source="AA"), over)
        await task.cases.begin(task.patrol)
        (event,) = await task.find(source="aa")
        assert (event.severity, event.fields["ronda.suppressed_until"]) == ("info", "2026-11-19 00:00")
        await task.clock.advance(6 * 3600.0)
        assert [e.severity for e in await task.find(source="aa")] == ["warning"]

    asyncio.run(work())
    assert "is over and does nothing" in caplog.text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{rule: x, until: 2026-12-01}", "reason"),
        ("{rule: x, until: 2026-12-01, reason: ab}", "reason"),
        ("{rule: x, until: soon, reason: because}", "not a date"),
        ("{until: 2026-12-01, reason: because}", "rule"),
        ("{rule: x, until: 2099-12-01, reason: because}", "90 days"),
        ("{rule: x, until: 2026-12-01, reason: because, source: '4c:5e:zz'}", "neither a MAC nor an address"),
        ("{rule: x, until: 2026-12-01, reason: because, source: 999.1.1.1}", "neither a MAC nor an address"),
    ],
)
def test_a_suppression_without_reason_or_end_is_none(text, why):
    with pytest.raises(ConfigError, match=why):
        loads(text.encode(), SuppressConfig, "f")


def test_decisions_last_in_order_for_their_owner_only(tmp_path):
    first = decisions.add(tmp_path, accepting())
    second = decisions.add(tmp_path, a_decision("hold"))
    assert (first.number, second.number) == (1, 2)
    assert decisions.read(tmp_path) == [first, second]
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("more", [{"person": ""}, {"person": " "}, {"reason": ""}, {"reason": "abc"}, {"reason": "x" * 201}])
def test_nobody_decides_without_a_name_and_a_reason(tmp_path, more):
    with pytest.raises(DecisionError):
        decisions.add(tmp_path, accepting(**more))
    assert decisions.read(tmp_path) == []


def test_a_torn_line_costs_itself_only(tmp_path):
    decisions.add(tmp_path, accepting())
    with (tmp_path / NAME).open("ab") as f:
        f.write(b'{"number": 2, "what": "acc')
    third = decisions.add(tmp_path, a_decision("hold"))
    assert [d.number for d in decisions.read(tmp_path)] == [1, third.number]


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"{}",
        b'{"number":1,"what":"accept","at":1e999}',
        b'{"number":1e999,"what":"accept","at":1}',
        b'{"number":1,"what":1,"at":1}',
        b"\xff",
        b"null",
    ],
)
def test_lines_that_are_none_are_passed_over(tmp_path, line):
    decisions.add(tmp_path, accepting())
    (tmp_path / NAME).write_bytes(line + b"\n" + (tmp_path / NAME).read_bytes())
    assert [d.what for d in decisions.read(tmp_path)] == ["accept"]


def test_the_file_is_bounded_and_what_is_in_force_stays(tmp_path):
    forced = decisions.add(tmp_path, a_decision("hold", until=NOW + 900 * DAY))
    line = (tmp_path / NAME).stat().st_size
    watch = Watch(tmp_path)
    with (tmp_path / NAME).open("ab") as f:
        f.writelines(decisions._line(accepting(number=n, until=NOW - DAY, at=NOW - DAY)) for n in range(2, MAX_BYTES // line))
    watch.journalled(decisions.read(tmp_path)[-1])
    for _ in range(10):
        decisions.add(tmp_path, a_decision("hold", at=NOW + 1, reason="x" * 200))
        assert (tmp_path / NAME).stat().st_size <= MAX_BYTES
    found = decisions.read(tmp_path)
    assert forced in found
    assert [d.number for d in found] == sorted(d.number for d in found)


def test_news_are_those_that_were_not_journalled(tmp_path):
    watch = Watch(tmp_path)
    assert watch.news() == []
    one = decisions.add(tmp_path, accepting())
    two = decisions.add(tmp_path, a_decision("unmask", id="P-0123456789AB", until=0.0))
    assert watch.news() == [one, two]
    watch.journalled(one)
    assert Watch(tmp_path).news() == [two]
    event = two.event()
    assert (event.kind, event.severity) == ("identity_unmasked", "warning")
    assert dict(event.fields) == {"subject": "P-0123456789AB", "person": "Budi", "reason": "our scanner"}
    assert {d.event().kind for d in (one, a_decision("hold"), a_decision("release"), two)} == set(decisions.EVENTS)


def test_what_was_accepted_is_blanked_when_it_is_over(tmp_path):
    decisions.add(tmp_path, accepting())
    held = decisions.add(tmp_path, accepting(key="bb", until=NOW + 9 * DAY))
    assert decisions.forget(tmp_path, NOW + 2 * DAY) == 1
    assert b'"aa"' not in (tmp_path / NAME).read_bytes()
    assert [s.key for s in decisions.suppressions(decisions.read(tmp_path))] == [held.key]
    assert decisions.forget(tmp_path, NOW + 2 * DAY) == 0


def test_no_acceptance_outlasts_ninety_days(tmp_path):
    (found,) = decisions.suppressions([accepting(until=NOW + 1000 * DAY)])
    assert found.until == NOW + 90 * DAY


def test_what_is_held(tmp_path):
    held = [
        a_decision("hold", id="A"),
        a_decision("hold", id="B"),
        a_decision("release", id="A"),
        a_decision("hold", id="C", until=NOW - 1),
    ]
    assert list(decisions.holds(held, NOW)) == ["B"]


def test_what_root_writes_is_the_directories_owners(tmp_path):
    if os.geteuid():
        pytest.skip("needs root, who alone writes for others")
    os.chown(tmp_path, 4321, 4321)
    decisions.add(tmp_path, accepting())
    Evidence(tmp_path).hold(ID, [b"{}"])
    assert {path.stat().st_uid for path in (tmp_path / NAME, tmp_path / "evidence", tmp_path / "evidence" / f"{ID}.lines")} == {4321}


# --- evidence ----------------------------------------------------------------------------------------------------------------------


def test_a_capture_is_bounded():
    data = capture(outcome(n=300, size=60).frames[:1] * 300)
    assert len(data) == 24 + MAX_FRAMES * 76
    assert len(capture([Kept(NOW, b"x" * 99_999)])) == 24 + 16 + evidence.MAX_FRAME


@pytest.mark.parametrize("name", ["", "../etc/passwd", "DKC-1118-1806/..", "dkc-1118-1806", "DKC-1118-1806\n", "DKC-1118-18066"])
def test_what_is_no_id_names_no_file(tmp_path, name):
    with pytest.raises(ValueError, match="not the id"):
        Evidence(tmp_path).path(name, ".pcap")
    assert not Evidence(tmp_path).keep(outcome(name))


def test_fewer_packets_never_take_the_place_of_more(tmp_path):
    kept = Evidence(tmp_path)
    kept.keep(outcome(n=5))
    kept.keep(outcome(n=2))
    assert kept.packets(ID) == capture(outcome(n=5).frames)
    assert kept.packets("DKC-1118-0000") is None


def test_the_oldest_goes_when_there_is_too_much_but_not_what_is_held(tmp_path, monkeypatch):
    kept = Evidence(tmp_path)
    monkeypatch.setattr(evidence, "MAX_BYTES", 5 * 8192)
    for n in range(10):
        kept.keep(outcome(f"DKC-1118-{n:04}"), held=["DKC-1118-0001"])
        for path in (tmp_path / "evidence").glob(f"*-{n:04}.*"):
            os.utime(path, (NOW + n, NOW + n))
    assert kept.names() == ["DKC-1118-0001", *(f"DKC-1118-{n:04}" for n in range(5, 10))]


def test_after_thirty_days_it_goes_unless_it_is_held_and_then_on_that_day(tmp_path):
    kept = Evidence(tmp_path)
    for name in (ID, f"{ID}-2"):
        kept.keep(outcome(name))
        kept.hold(name, [b'{"seq":1}'])
        for path in (tmp_path / "evidence").iterdir():
            os.utime(path, (NOW, NOW))
    assert kept.tidy(NOW + KEEP - 1, [ID]) == 1  # the lines of what is not held
    assert kept.tidy(NOW + KEEP + 1, [ID]) == 2
    assert kept.names() == [ID]
    kept.tidy(NOW + 2 * KEEP, [ID])
    assert len(list((tmp_path / "evidence").iterdir())) == 3
    kept.tidy(NOW + 2 * KEEP, [])
    assert list((tmp_path / "evidence").iterdir()) == []


# --- custody -----------------------------------------------------------------------------------------------------------------------


def an_incident(tmp_path, clock, n=3):
    """A journal with an incident amid other events."""
    journal = Journal(tmp_path / "journal", "dukcapil", clock)
    for i in range(n):
        fields = {"event.kind": "alert", "event.id": ID, "ronda.dedup_key": "arp_sweep aa", "source.mac": "3c:52:82:14:7a:01"}
        events = (Event("link_up", "info", f"{i}", {}, NOW, NOW), Event("arp_sweep", "warning", f"{i}", fields, NOW, NOW))
        journal.append([Entry(0, event) for event in events])
    return journal


def test_what_is_held_gets_the_lines_that_come_and_a_proof_that_grows(tmp_path):
    journal = an_incident(tmp_path, FakeClock())
    custody = Custody(tmp_path)
    decisions.add(tmp_path, a_decision("hold"))
    custody.tidy(0.0, NOW)
    assert len(custody.evidence.lines(ID)) == 3
    more = dataclasses.replace(journal.after(5)[0], seq=0)
    journal.append([more])
    custody.tidy(EVERY - 1, NOW)
    assert len(custody.evidence.lines(ID)) == 3
    custody.tidy(EVERY, NOW)
    lines = custody.evidence.lines(ID)
    assert len(lines) == 4
    assert custody.evidence.proof(ID).covers(lines)
    assert custody.problem == ""


def test_when_nobody_knows_the_time_nothing_goes(tmp_path):
    custody = Custody(tmp_path)
    custody.evidence.keep(outcome())
    os.utime(tmp_path / "evidence" / f"{ID}.pcap", (1, 1))
    os.utime(tmp_path / "evidence" / f"{ID}.json", (1, 1))
    custody.tidy(0.0, None)
    assert custody.evidence.names() == [ID]
    custody.tidy(0.0, NOW)
    assert custody.evidence.names() == []


def test_a_disk_that_refuses_is_said_once(tmp_path):
    (tmp_path / "decisions.jsonl").mkdir()
    custody = Custody(tmp_path)
    assert custody.news() == []
    custody.tidy(0.0, NOW)
    assert custody.failures == 2
    assert "decisions" in custody.problem


def test_which_events_are_of_an_incident():
    fields = ({"event.id": ID}, {"incident": ID}, {"subject": ID}, {"other": ID}, {"event.id": f"{ID}-2"})
    assert [is_of(Entry(1, Event("k", "info", "m", said)), ID) for said in fields] == [True, True, True, False, False]


# --- two at a time, and half done ----------------------------------------------------------------------------------------------------


def test_files_that_differ_in_their_suffix_are_written_beside_each_other(tmp_path, monkeypatch):
    """The agent saves that a decision was journalled, while a person's decision shortens the file of them."""
    begun = []
    sync = os.fdatasync

    def meanwhile(fd):
        if not begun:
            begun.append(1)
            files.replace(tmp_path / decisions.TOLD, b"7\n")
        sync(fd)

    monkeypatch.setattr(files.os, "fdatasync", meanwhile)
    files.replace(tmp_path / NAME, b"decisions")
    assert (tmp_path / NAME).read_bytes() == b"decisions"
    assert decisions.told(tmp_path) == 7


def test_what_a_power_cut_left_half_written_goes_too(tmp_path):
    kept = Evidence(tmp_path)
    kept.directory.mkdir()
    half = kept.directory / f"{ID}.pcap.new"
    half.write_bytes(b"raw")
    os.utime(half, (NOW, NOW))
    assert kept.tidy(NOW + 60, []) == 0
    assert kept.tidy(NOW + 7200, []) == 1
    assert not half.exists()


def test_numbers_go_on_after_a_file_of_decisions_that_was_put_back(tmp_path):
    decisions.add(tmp_path, a_decision("hold", until=NOW + DAY))
    (tmp_path / decisions.TOLD).write_text("40\n")
    assert decisions.add(tmp_path, a_decision("hold", until=NOW + DAY)).number == 41
    assert [d.number for d in Watch(tmp_path).news()] == [41]


def test_what_was_released_is_not_held_again_when_the_file_is_shortened(tmp_path):
    decisions.add(tmp_path, a_decision("hold", until=NOW + 900 * DAY))
    decisions.add(tmp_path, a_decision("release", until=0.0))
    known = decisions.read(tmp_path)
    (tmp_path / decisions.TOLD).write_text("99\n")
    over = [accepting(number=n, until=NOW - DAY, at=NOW - DAY) for n in range(3, 9)]
    decisions._shorten(tmp_path, [*known, *over], NOW)
    found = decisions.read(tmp_path)
    assert len(found) < len(known) + len(over)
    assert decisions.holds(found, NOW) == {}


@pytest.mark.parametrize("source", ["", "fe80::1", "192.0.2.1", "4c-5e-0c-11-22-33", "/etc/cron.d/backup", "tamu"])
def test_who_or_what_may_be_suppressed(source):
    assert list(SuppressConfig(rule="x", until="2026-11-18", reason="a scan", source=source).problems()) == []


def test_a_suppressed_mac_fits_however_it_is_written():
    made = SuppressConfig(rule="arp_sweep", until="2026-11-18", reason="a scan", source="4C-5E-0C-11-22-33")
    assert made.suppression(UTC).source == "4c:5e:0c:11:22:33"
