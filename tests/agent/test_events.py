"""The sink of events: floods folded and bounded, times put right, writes to the card within a budget; and `ronda events`."""

import asyncio
import concurrent.futures
import dataclasses
import json
import re
import subprocess
import sys
import threading
import zoneinfo
from pathlib import Path

import pytest

from agent import absence, diagnosis, files, show
from agent.cli import main
from agent.delivery import Boot
from agent.diagnosis import Verdict
from agent.events import BURST, EVERY, FOLD, MAX_FOLDS, ROOM, SAVE_EVERY, SAY_DROPPED_EVERY, WRITE_EVERY, WRITES, Events, Flood, Told
from agent.journal import Journal, Reader
from agent.model import Batch, Event
from agent.state import Last
from agent.wire.event import LATEST, Entry
from tests.fakes import FakeClock, settle

ROOT = Path(__file__).parents[2]
NOW = 1_795_000_000.0


def told(message, severity="warning", at=0.0, **fields):
    return Told(Event("link_down", severity, message, fields), "link", {}, at, at)


# --- floods --------------------------------------------------------------------------------------------------------------------


def test_the_first_goes_at_once_and_repetitions_become_one_with_their_count():
    flood = Flood(0.0)
    assert [t.event.message for t in flood.take(told("eth0", changes="1"), 0.0)] == ["eth0"]
    assert [flood.take(told("eth0", changes=str(n), at=float(n)), float(n)) for n in range(2, 50)] == [[]] * 48
    assert flood.due(59.9) == []
    (one,) = flood.due(FOLD)
    assert (one.event.count, one.since, one.at, one.event.fields) == (48, 2.0, 49.0, {"changes": "49"})
    assert flood.take(told("eth0"), FOLD + 1) == []  # it goes on: folded for twice as long
    assert flood.next == FOLD + 2 * FOLD


def test_what_comes_every_minute_is_folded_for_longer_and_what_is_quiet_is_news_again():
    flood = Flood(0.0)
    went = [t for minute in range(24 * 60) for t in flood.take(told("eth0"), minute * 60.0)]
    assert len(went) < 40
    went += flood.due(26 * 3600.0)
    assert sum(t.event.count for t in went) == 24 * 60
    assert flood.due(30 * 3600.0) == []
    assert flood.next is None
    assert len(flood._folds) == 0


def test_events_that_differ_in_words_are_not_folded():
    flood = Flood(0.0)
    assert len(flood.take(told("eth0", mac="a"), 0.0)) == 1
    assert len(flood.take(told("eth0", mac="b"), 0.0)) == 1
    assert len(flood.take(told("eth1", mac="a"), 0.0)) == 1
    assert len(flood.take(told("eth0", "critical", mac="a"), 0.0)) == 1


def test_beyond_repetition_there_is_so_much_room_the_graver_the_more_of_it():
    flood = Flood(0.0)
    went = {s: sum(len(flood.take(told(f"{s}{n}", s), 0.0)) for n in range(300)) for s in ("info", "warning", "critical")}
    assert went == {"info": BURST - ROOM["info"], "warning": ROOM["info"] - ROOM["warning"], "critical": ROOM["warning"]}
    assert flood.dropped.total() == 900 - BURST
    assert len(flood.take(told("later", "critical"), EVERY)) == 1
    assert len(flood._folds) <= MAX_FOLDS


def test_what_is_folded_is_not_forgotten_when_too_many_sorts_are_watched():
    flood = Flood(0.0)
    flood.take(told("first"), 0.0)
    flood.take(told("first"), 1.0)
    found = [t for n in range(MAX_FOLDS) for t in flood.take(told(f"n{n}", "critical"), 2.0)]
    assert len(found) + flood.dropped.total() == MAX_FOLDS + 1


# --- the sink ------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Sink:
    clock: FakeClock
    events: Events
    news: list

    @property
    def stored(self):
        return list(Reader(self.events.journal.directory).entries())


async def running(tmp_path, *, kept=True):
    clock = FakeClock()
    news = []
    journal = await asyncio.to_thread(Journal, tmp_path / "journal", "dukcapil", clock)
    events = Events(clock, Boot(b"\xab" * 16, kept), journal, lambda: news.append(journal.last))
    events.start()
    return Sink(clock, events, news)


async def passes(sink, seconds):
    """Time passes, and the threads that write end."""
    await sink.clock.advance(seconds)
    for _ in range(50):
        await asyncio.sleep(0.002)
        await settle()


def batch(*events, task="link", labels=None):
    return Batch(task, labels or {}, NOW, (), events)


def test_an_event_is_stored_within_a_second_and_news(tmp_path):
    async def work():
        sink = await running(tmp_path)
        event = Event("link_down", "warning", "m", {"device": "eth0"}, sink.clock.now() - 5, sink.clock.now() - 2)
        sink.events.write(batch(event, labels={"role": "wan"}))
        await passes(sink, 1.0)
        (entry,) = sink.stored
        assert (entry.task, entry.labels, entry.unsure) == ("link", {"role": "wan"}, False)
        assert entry.event == event
        assert sink.news == [1]
        await sink.events.close()

    asyncio.run(work())


def test_a_clock_that_is_years_off_is_put_right_by_the_centre(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.events._synchronised", lambda: False)

    async def work():
        sink = await running(tmp_path, kept=False)
        sink.clock.step_wall(-3 * 365 * 86400.0)
        sink.events.write(batch(Event("a", "info", "before")))
        await passes(sink, 1.0)
        assert sink.stored[0].unsure
        sink.events.centre_base = lambda: NOW - 1000.0  # what to add to monotonic seconds
        mono = sink.clock.monotonic()
        sink.events.write(batch(Event("a", "info", "after", {}, sink.clock.now() - 30, sink.clock.now() - 10)))
        await passes(sink, 1.0)
        await sink.events.close()
        before, after = sink.stored
        assert (before.event.last_seen, before.unsure) == (NOW, False)
        assert (after.event.first_seen, after.event.last_seen) == (NOW - 1000 + mono - 30, NOW - 1000 + mono - 10)

    asyncio.run(work())


def test_a_flapping_link_for_a_day_costs_little_of_the_card(tmp_path, monkeypatch):
    """Up and down every other second, with a counter that never repeats, and a new address each minute; all leaves at once."""

    async def work():
        sink = await running(tmp_path)
        writes, journal = [], sink.events.journal
        journal.append = lambda entries, real=journal.append: (writes.append("events") if entries else None) or real(entries)
        replace = files.replace
        monkeypatch.setattr(files, "replace", lambda path, *a, **k: writes.append("state") or replace(path, *a, **k))
        for n in range(24 * 60):
            for word in ("down", "up"):
                sink.events.write(batch(Event(f"link_{word}", "warning", f"eth0 {word}", {"carrier_changes": str(n)}, count=15)))
            sink.events.write(batch(Event("address_added", "info", f"eth0 has got 10.0.{n // 250}.{n % 250}")))
            await sink.clock.advance(60.0)
            if n % 60 == 0:
                await passes(sink, 0.0)
            journal.delivered("centre", journal.id, journal.last, 1)
            await sink.events.tidy()
        await passes(sink, 1.0)
        await sink.events.close()
        stored = sink.stored
        counts = {}
        for entry in stored:
            counts[entry.event.kind] = counts.get(entry.event.kind, 0) + entry.event.count
        size = sum(p.stat().st_size for p in (tmp_path / "journal").glob("*.seg"))
        assert counts["link_down"] == counts["link_up"] == 24 * 60 * 15
        assert len(writes) * 4096 + size <= 0.9e6  # N6 has 1 MB for all; journal.json is counted too
        assert writes.count("state") >= 86400 / SAVE_EVERY  # and how far the exit has got is not forgotten over it
        lost = sink.events.journal._state.dropped["flood"]
        assert counts["address_added"] + lost == 24 * 60
        assert counts["events_dropped"] <= 86400 / SAY_DROPPED_EVERY
        assert sum(int(e.event.fields["events"]) for e in stored if e.event.kind == "events_dropped") <= lost

    asyncio.run(work())


def test_when_the_cards_budget_is_used_up_events_wait_and_a_critical_one_does_not(tmp_path):
    async def work():
        sink = await running(tmp_path)
        for n in range(WRITES):
            sink.events.write(batch(Event("a", "warning", f"{n}")))
            await passes(sink, 0.6)
        assert len(sink.stored) == WRITES
        sink.events.write(batch(Event("a", "warning", "waits")))
        await passes(sink, 5.0)
        assert len(sink.stored) == WRITES
        sink.events.write(batch(Event("a", "critical", "does not")))
        await passes(sink, 1.0)
        assert [e.event.message for e in sink.stored[WRITES:]] == ["waits", "does not"]
        sink.events.write(batch(Event("a", "warning", "waits too")))
        await passes(sink, WRITE_EVERY)
        await passes(sink, WRITE_EVERY)
        assert sink.stored[-1].event.message == "waits too"
        await sink.events.close()

    asyncio.run(work())


def test_the_end_stores_what_is_held(tmp_path):
    async def work():
        sink = await running(tmp_path)
        for _ in range(5):
            sink.events.write(batch(Event("a", "info", "again")))
        await sink.events.close()
        assert [e.event.count for e in sink.stored] == [1, 4]

    asyncio.run(work())


def test_an_end_in_the_midst_of_storing_loses_nothing(tmp_path):
    """Threads may all be busy: a write that has not begun must not be forgotten with who waits for it."""

    async def work():
        busy = threading.Event()
        asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        sink = await running(tmp_path)
        asyncio.get_running_loop().run_in_executor(None, busy.wait)
        sink.events.write(batch(Event("a", "info", "m")))
        await passes(sink, 1.0)
        assert sink.stored == []
        end = asyncio.ensure_future(sink.events.close())
        await settle()
        busy.set()
        await end
        assert [e.event.message for e in sink.stored] == ["m"]

    asyncio.run(work())


# --- what the agent itself tells -------------------------------------------------------------------------------------------------


def verdict(state, cause, incident=""):
    return Verdict(state, cause, "certain", NOW, incident, ("router kantor menjawab",))


@pytest.mark.parametrize(
    ("before", "after", "kind", "severity"),
    [
        (verdict("ok", "ok"), verdict("down", "isp", "DKC-1"), "incident_opened", "critical"),
        (verdict("ok", "ok"), verdict("degraded", "dns", "DKC-1"), "incident_opened", "warning"),
        (verdict("down", "isp", "DKC-1"), verdict("down", "link", "DKC-1"), "incident_changed", "critical"),
        (verdict("down", "isp", "DKC-1"), verdict("ok", "ok"), "incident_closed", "info"),
        (verdict("ok", "unknown"), verdict("ok", "ok"), "verdict_changed", "info"),
    ],
)
def test_a_new_verdict_is_an_event_with_cause_and_incident(before, after, kind, severity):
    event = diagnosis.change(before, after)
    assert (event.kind, event.severity) == (kind, severity)
    assert event.kind in diagnosis.EVENTS
    assert event.fields["cause"] == after.cause
    assert event.fields.get("incident", "") == ("DKC-1" if "incident" in kind else "")
    assert event.fields["evidence"] == "router kantor menjawab"


SIGN = "after its last sign of life at 2026-11-18 17:06"
JAKARTA = zoneinfo.ZoneInfo("Asia/Jakarta")


@pytest.mark.parametrize(
    ("last", "kind", "said"),
    [
        (Last(), None, ""),
        (Last(NOW - 30, True, "a"), None, ""),
        (Last(NOW - 3600, True, "a"), "agent_was_off", "Ronda was off from 2026-11-18 17:06 until 2026-11-18 18:06"),
        (Last(NOW - 3600, False, "a"), "agent_was_off", f"Ronda was off {SIGN} until 2026-11-18 18:06"),
        (Last(NOW - 3600, False, "b"), "box_was_off", f"the box was off {SIGN} until 2026-11-18 18:04"),
    ],
)
def test_a_start_says_how_long_nobody_watched(last, kind, said):
    event = absence.absence(last, "a", NOW, NOW - 120, JAKARTA)
    assert (event.kind if event else None) == kind
    if event:
        assert event.message.startswith(said)
        assert event.severity == ("info" if last.ended else "warning")


# --- ronda events ----------------------------------------------------------------------------------------------------------------


OPEN = {}


def box_journal(box):
    return OPEN[box]


@pytest.fixture
def box(tmp_path):
    """A data directory with a journal that an agent holds open."""
    journal = OPEN[tmp_path] = Journal(tmp_path / "journal", "dukcapil", FakeClock())
    events = [
        Event("link_down", "warning", "device eth0 has lost its carrier", {"device": "eth0", "text": "a\nb"}, NOW, NOW),
        Event("incident_opened", "critical", "DKC-1124-0915: down", {"incident": "DKC-1124-0915"}, NOW + 1, NOW + 1),
        Event("link_up", "info", "device eth0 has a carrier", {}, NOW + 2, NOW + 60, 7),
    ]
    journal.append([Entry(0, event, "link", {"role": "wan"}, n == 2) for n, event in enumerate(events)])
    return tmp_path


def test_events_for_a_person(box, capsys):
    assert main(["events", "--data-dir", str(box)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("waktu (")
    assert "PERHATIAN  link_down: device eth0 has lost its carrier" in lines[1]
    assert "role=wan  kartu jaringan=eth0  text=a\\x0ab" in lines[2]
    assert "~ INFO       link_up: device eth0 has a carrier (7× …" in lines[5]


def test_local_time_is_the_offices(box, capsys, tmp_path):
    (tmp_path / "agent.yaml").write_text("office: {timezone: Asia/Makassar}\n")
    assert main(["events", "--data-dir", str(box), "--config", str(tmp_path / "agent.yaml")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("waktu (WITA)\n2026-11-18 19:06:40  PERHATIAN")


def test_events_for_machines(box, capsys):
    assert main(["events", "--data-dir", str(box), "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [f["seq"] for f in found] == [1, 2, 3]
    assert found[0]["time"] == "2026-11-18T11:06:40.000Z"
    assert found[0]["site"] == "dukcapil"
    assert re.fullmatch(r"[0-9a-f]{8}", found[0]["journal"])
    assert (found[2]["count"], found[2]["unsure"]) == (7, True)


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (["--kind", "link_up"], ["link_up"]),
        (["--severity", "warning"], ["link_down", "incident_opened"]),
        (["--severity", "critical"], ["incident_opened"]),
        (["--since", "1s"], []),
        (["--since", "520w"], ["link_down", "incident_opened", "link_up"]),
    ],
)
def test_events_are_chosen(box, capsys, words, kinds):
    assert main(["events", "--data-dir", str(box), "--json", *words]) == 0
    said = capsys.readouterr()
    assert [json.loads(line)["kind"] for line in said.out.splitlines()] == kinds
    assert bool(said.err) == (not kinds)


def test_errors_say_what_to_do(tmp_path, capsys):
    assert main(["events", "--data-dir", str(tmp_path / "nothing")]) == 2
    assert "--data-dir" in capsys.readouterr().err
    with pytest.raises(SystemExit) as e:
        main(["events", "--since", "yesterday"])
    assert e.value.code == 2


def test_follow_goes_on_with_what_comes(box):
    command = [sys.executable, "-m", "agent", "events", "--data-dir", str(box), "--follow", "--json"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert [json.loads(child.stdout.readline())["seq"] for _ in range(3)] == [1, 2, 3]
    box_journal(box).append([Entry(0, Event("x", "info", "new", {}, NOW, NOW))])
    assert json.loads(child.stdout.readline())["message"] == "new"
    child.terminate()
    child.wait()
    child.stdout.close()


def test_whatever_an_event_says_a_line_is_a_line():
    entry = Entry(1, Event("x", "info", "a\nb\x1b[31m", {"f": "\u202e\n"}, 0.0, LATEST))
    assert len(show.event_text(entry, JAKARTA).splitlines()) == 2
    assert "\x1b" not in show.event_text(entry, JAKARTA)


def test_an_empty_journal_is_no_error(tmp_path, capsys):
    Journal(tmp_path / "journal", "dukcapil", FakeClock()).close()
    assert main(["events", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""
