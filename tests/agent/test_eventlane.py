"""Events on the way to the centre: what answers mean, live rows first, poison found, true times, and who takes no events at all."""

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from agent.collector import Env
from agent.config import PushConfig
from agent.eventlane import EXIT, LIMIT, NOBODY, PATH, SILENT_MAX, EventLane, judge, probe
from agent.httpclient import Reply
from agent.journal import Journal
from agent.model import Event
from agent.net import Net
from agent.wire import event as lines
from agent.wire.event import Entry
from tests.agent.test_delivery import YEARS, Bench, run
from tests.fakes import FakeClock
from tests.receiver import Receiver, answer

JOURNAL = "3f9a1c20"
TAKEN = json.dumps({"journal": JOURNAL, "acknowledged": 7, "stored": 1}).encode()


@pytest.mark.parametrize(
    ("status", "body", "outcome", "action"),
    [
        (200, TAKEN, "ok", "done"),
        (200, TAKEN.replace(b"7", b"6"), "answer", "again"),
        (200, TAKEN.replace(JOURNAL.encode(), b"00000000"), "answer", "again"),
        (200, b"", "answer", "again"),
        (204, b"", "answer", "again"),
        (200, b"<html>Selamat datang di WiFi kami", "answer", "again"),
        (200, b"[" * 4000, "answer", "again"),
        (302, b"", "not_found", "again"),
        (400, b'{"refused": true, "error": "line 1"}', "refused", "refuse"),
        (400, b"unsupported path requested", "not_found", "again"),  # VictoriaMetrics
        (401, b"", "credentials", "again"),
        (403, b"", "credentials", "again"),
        (404, b"404 page not found", "not_found", "again"),  # Prometheus
        (405, b"", "not_found", "again"),
        (413, b"", "too_large", "refuse"),
        (429, b"", "server", "again"),
        (500, b"", "server", "again"),
        (501, b"", "not_found", "again"),
        (503, b"", "server", "again"),
    ],
)
def test_what_an_answer_means(status, body, outcome, action):
    found = judge(Reply(status, (), body), JOURNAL, 7)
    assert (found.outcome, found.action) == (outcome, action)
    assert (found.why == "") == (action == "done")


class Site(Bench):
    """A bench with a journal; its receiver is a gateway, as far as it goes. `taken` has the events that it acknowledged."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.journal = Journal(folder / "journal", "dukcapil", self.clock)
        self.journal.exits = {EXIT}
        self.taken: list[Entry] = []
        self.letters: list[int] = []
        self.receiver.does = self.gateway

    def gateway(self, asked):
        if asked.path != PATH:
            return answer()
        entries = [lines.decode(line) for line in lines.unpack(asked.body, asked.headers.get("content-encoding", ""))]
        self.letters.append(len(entries))
        if any("poison" in entry.event.message for entry in entries):
            return answer(400, b'{"refused": true, "error": "poison"}')
        self.taken += entries
        said = {"journal": asked.headers["ronda-journal"], "acknowledged": entries[-1].seq, "stored": len(entries)}
        return answer(200, json.dumps(said).encode())

    @contextlib.asynccontextmanager
    async def telling(self):
        async with self.running() as made:
            self.lane = made.mail = EventLane(self.clock, self.journal, lambda: None, made.wake, lambda entry: entry)
            self.delivery = made
            yield self
        self.lane.close()
        self.journal.close()

    def happen(self, *messages, **more):
        now = self.clock.now()
        self.journal.append([Entry(0, Event("k", "info", m, {}, now, now), **more) for m in messages])
        self.delivery.wake()

    @property
    def waiting(self):
        return self.journal.waiting(EXIT)

    @property
    def numbers(self):
        return [entry.seq for entry in self.taken]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_they_go_in_order_on_the_connection_of_samples_after_live_rows(site):
    async def work():
        async with site.telling():
            site.happen(*(f"e{n}" for n in range(300)))
            site.delivery.add([site.row(1.0)])
            await site.until(lambda: not site.waiting)
            assert site.numbers == list(range(1, 301))
            posts = [asked.path for asked in site.receiver.asked if asked.method == "POST"]
            assert posts[0] == "/api/v1/write"
            assert site.receiver.connections == 1
            first = next(asked for asked in site.receiver.asked if asked.path == PATH)
            assert (first.headers["ronda-site"], first.headers["ronda-journal"]) == ("dukcapil", site.journal.id)
            assert first.headers["content-encoding"] == "gzip"
            assert len(first.body) < LIMIT
            assert site.delivery.bytes["events"].sent > 0
            assert site.lane.problem == ""

    run(work())


def test_one_poisoned_event_costs_itself_and_is_counted(site):
    async def work():
        async with site.telling():
            site.happen(*("poison" if n in (13, 77) else f"e{n}" for n in range(1, 101)))
            await site.until(lambda: not site.waiting)
            assert site.numbers == [n for n in range(1, 101) if n not in (13, 77)]
            counts = {(s.metric.name, *s.labels): s.value for s in site.journal.samples()}
            assert counts["ronda_events_undelivered_total", EXIT, "refused"] == 2
            assert counts["ronda_events_delivered_total", EXIT] == 98
            assert len(site.letters) < 60

    run(work())


def test_what_is_not_acknowledged_is_told_again(site):
    async def work():
        async with site.telling():
            took, refusals = site.gateway, [answer(503, b"", Retry_After="40"), answer(200, b"hello"), None, answer(429)]
            site.receiver.does = lambda asked: refusals.pop(0) if asked.path == PATH and refusals else took(asked)
            site.happen("one", "two")
            await site.until(lambda: len(refusals) == 3)
            assert "in trouble" in site.lane.problem
            before = site.clock.monotonic()
            await site.until(lambda: len(refusals) == 2)
            assert site.clock.monotonic() - before >= 39
            await site.until(lambda: not site.waiting)
            assert site.numbers == [1, 2]
            assert site.lane.problem == ""

    run(work())


def test_who_takes_no_events_is_asked_again_once_an_hour(site):
    async def work():
        async with site.telling():
            took = site.gateway
            site.receiver.does = lambda asked: answer(404, b"404 page not found") if asked.path == PATH else answer()
            site.happen("one")
            await site.until(lambda: site.lane.problem)
            for _ in range(10):
                site.happen("more")
                await site.clock.advance(NOBODY / 12)
            assert sum(asked.path == PATH for asked in site.receiver.asked) == 1
            site.receiver.does = took
            await site.until(lambda: not site.waiting, NOBODY)
            assert site.numbers == list(range(1, 12))
            assert site.delivery.problem == ""

    run(work())


def test_who_hangs_over_events_is_asked_ever_less_and_samples_go_on(site):
    async def work():
        async with site.telling():
            took = site.gateway
            site.receiver.does = lambda asked: b"" if asked.path == PATH else answer()
            site.happen("one")
            for n in range(120):
                site.delivery.add([site.row(float(n))])
                await site.clock.advance(15.0)
                await asyncio.sleep(0.02)
                if site.delivery._under_way:  # real time, which the fake clock does not end
                    site.delivery._under_way[1].reschedule(asyncio.get_running_loop().time())
                    await asyncio.sleep(0.02)
            await site.until(lambda: not site.delivery.pending)
            assert 3 <= sum(asked.path == PATH for asked in site.receiver.asked) <= 20
            assert site.receiver.connections <= 21
            assert site.delivery.delivered["live"] == 120
            site.receiver.does = took
            await site.until(lambda: not site.waiting, 2 * SILENT_MAX)
            assert site.numbers == [1]

    run(work())


def test_a_disk_that_refuses_to_read_for_a_while_costs_no_event(site, monkeypatch):
    async def work():
        async with site.telling():
            site.receiver.does = lambda asked: answer(503) if asked.path == PATH else site.gateway(asked)
            site.happen("one", "two")
            await site.until(lambda: site.lane.problem)
            site.receiver.does = site.gateway
            site.journal._recent.clear()
            real = Path.read_bytes
            monkeypatch.setattr(
                Path, "read_bytes", lambda path: real(path.with_name("none" * 100)) if path.suffix == ".seg" else real(path)
            )
            await site.until(lambda: "disk refuses" in site.lane.problem)
            monkeypatch.undo()
            await site.until(lambda: not site.waiting)
            assert site.numbers == [1, 2]
            assert site.delivery.problem == ""

    run(work())


def test_events_of_a_wrong_clock_are_told_with_their_true_times(site):
    """The box boots three years behind, and learns the time from the centre's first answer."""

    async def work():
        true = site.clock.now()
        site.clock.step_wall(-YEARS)
        site.true = lambda: site.clock._wall + YEARS
        async with site.telling():
            site.lane._learn = lambda: site.journal.learn("this", site.delivery.base())
            site.happen("early", unsure=True, boot="this", mono=site.clock.monotonic())
            site.happen("of another boot", unsure=True, boot="that", mono=5.0)
            await site.until(lambda: not site.waiting)
            early, other = site.taken
            assert abs(early.event.last_seen - true) < 2
            assert not early.unsure
            assert other.unsure
            assert (other.boot, other.mono) == ("", 0.0)

    run(work())


def test_a_letter_that_a_proxy_finds_too_large_is_sent_in_parts(site):
    async def work():
        async with site.telling():
            took = site.gateway
            site.receiver.does = lambda asked: answer(413) if asked.path == PATH and len(asked.body) > 800 else took(asked)
            site.happen(*(f"{n}" * 50 for n in range(100)))
            await site.until(lambda: not site.waiting)
            assert site.numbers == list(range(1, 101))

    run(work())


def test_what_is_damaged_holds_nothing_up(site):
    async def work():
        async with site.telling():
            site.receiver.does = lambda asked: answer(503) if asked.path == PATH else answer()
            site.happen("one", "two")
            await site.until(lambda: site.lane.problem)
            path = next((site.folder / "journal").glob("*.seg"))
            path.write_bytes(path.read_bytes()[:60] + bytes(path.stat().st_size - 60))
            site.journal._recent.clear()
            await site.until(lambda: not site.waiting)
            counts = {(s.metric.name, *s.labels): s.value for s in site.journal.samples()}
            assert counts["ronda_events_undelivered_total", EXIT, "damaged"] == 2

    run(work())


def empty(asked):
    assert lines.unpack(asked.body, "") == []
    return answer(200, b'{"journal": "", "acknowledged": 0, "stored": 0}')


@pytest.mark.parametrize(("does", "outcome"), [(empty, "ok"), (lambda _: answer(404), "not_found"), (lambda _: answer(200), "answer")])
def test_the_doctor_asks_without_telling_anything(tmp_path, does, outcome):
    async def work():
        async with Receiver(lambda: 1_795_000_000.0, does).serving() as receiver:
            config = PushConfig(url=f"http://127.0.0.1:{receiver.port}")
            assert (await probe(Env(FakeClock(), Net(), Path("/")), config)).outcome == outcome
            assert [asked.path for asked in receiver.asked] == [PATH]

    asyncio.run(work())
