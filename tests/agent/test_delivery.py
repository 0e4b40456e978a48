"""The way to the centre against receivers that take, refuse, hang and lie; the table of answers; whose clock counts.

The monotonic and the wall clock are a fake; sockets are real. `until` lets both go on until something has come true.
"""

import asyncio
import contextlib
import itertools
import json
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import delivery as module
from agent.buffer import Buffer, Rank
from agent.centretime import CentreTime, parse_date
from agent.collector import Env
from agent.config import PushConfig
from agent.delivery import LIVE, Delivery, judge, pause, retry_after
from agent.httpclient import Reply
from agent.net import Net
from agent.push import Row, Series
from agent.structure import loads
from agent.wire import remote_write
from tests.certs import DAY, issue
from tests.fakes import FakeClock
from tests.receiver import Receiver, answer

YEARS = 3 * 365 * 86400.0


def series(name: str = "ronda_x", task: str = "t", rank: int = 1) -> Series:
    labels = (("__name__", name), ("job", "ronda"), ("task", task))
    return Series(name, remote_write.head(labels), task, 15.0, rank, True)


class Bench:
    """A Delivery with a fake clock, a real buffer and a receiver that has the right time."""

    def __init__(self, folder: Path, **push: object) -> None:
        self.clock = FakeClock()
        self.folder, self.options = folder, push
        self.true = lambda: self.clock._wall
        self.receiver = Receiver(lambda: self.true())
        self.refreshed = 0
        self.buffer = Buffer(folder / "buffer", "dukcapil", self.clock)

    def make(self, url: str = "") -> Delivery:
        config = {"url": url or f"http://127.0.0.1:{self.receiver.port}", **self.options}
        return Delivery(Env(self.clock, Net(), self.folder), PushConfig(**config), self.buffer, self._refresh)

    def _refresh(self) -> None:
        self.refreshed += 1

    @contextlib.asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None, url: str = ""):
        async with self.receiver.serving(tls):
            made = self.make(url.format(port=self.receiver.port))
            made.start()
            try:
                yield made
            finally:
                await made.close()
                self.buffer.close()

    def row(self, value: float = 1.0, task: str = "t", ago: float = 0.0, rank: int = 1) -> Row:
        return Row(series(task=task, rank=rank), self.clock.monotonic() - ago, value)

    async def until(self, true: Callable[[], object], seconds: float = 400.0) -> None:
        for _ in range(int(seconds / 0.5)):
            if true():
                return
            await self.clock.advance(0.5)
            await asyncio.sleep(0.01)  # for threads and sockets, whose time is not the fake one
        raise AssertionError("it never came true")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def run(work) -> None:
    asyncio.run(work)


# -- the table of answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "outcome", "action"),
    [
        (204, b"", "ok", "done"),
        (200, b"", "ok", "done"),
        (200, b'{"status":"success"}', "ok", "done"),
        (200, b"<html>Selamat datang di WiFi kami", "answer", "again"),
        (200, b"\x00\xff garbage", "answer", "again"),
        (301, b"", "redirect", "again"),
        (302, b"", "redirect", "again"),
        (400, b"out of order sample", "refused", "refuse"),
        (400, b"", "refused", "refuse"),
        (401, b"Unauthorized", "credentials", "again"),
        (403, b"", "credentials", "again"),
        (404, b"404 page not found", "not_found", "again"),
        (405, b"", "not_found", "again"),
        (407, b"", "credentials", "again"),
        (408, b"", "server", "again"),
        (413, b"", "too_large", "refuse"),
        (415, b"", "not_found", "again"),
        (422, b"", "refused", "refuse"),
        (429, b"", "throttled", "again"),
        (500, b"too old sample", "refused", "refuse"),  # Prometheus 2.42
        (500, b"disk full", "server", "again"),
        (502, b"", "server", "again"),
        (503, b"", "server", "again"),
    ],
)
def test_what_an_answer_means(status: int, body: bytes, outcome: str, action: str) -> None:
    found = judge(Reply(status, (), body))

    assert (found.outcome, found.action) == (outcome, action)
    assert found.outcome in module.OUTCOMES
    assert found.why or action == "done"


def test_pauses_double_have_a_bound_and_are_never_the_same_for_all() -> None:
    assert [pause("network", n, dice=lambda: 1.0) for n in (1, 2, 3, 4, 5, 50)] == [1, 2, 4, 8, 15, 15]
    assert [pause("server", n, dice=lambda: 1.0) for n in (1, 7, 5000)] == [1, 60, 60]
    assert pause("network", 5, dice=lambda: 0.0) == 7.5
    assert pause("throttled", 1, 120.0, dice=lambda: 0.0) == 120.0
    assert pause("throttled", 1, 120.0, dice=lambda: 1.0) == pytest.approx(132.0)


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7), ("999999", 300), ("", 0), ("-1", 0), ("Tue, 24 Nov 2026 08:54:56 GMT", 0), ("1e9", 0), ("9" * 50, 0)]
)
def test_retry_after_is_bounded(text: str, seconds: float) -> None:
    assert retry_after(text) == seconds


# -- live ---------------------------------------------------------------------------------------------------------------------------


def test_what_is_told_arrives_with_its_time_over_one_connection(bench: Bench) -> None:
    async def work() -> None:
        async with bench.running() as made:
            for n in range(5):
                made.add([bench.row(n)])
                await bench.until(lambda n=n: len(bench.receiver.samples) > n)
            assert [(name, v) for name, _, v in bench.receiver.samples] == [("ronda_x{t}", n) for n in range(5)]
            assert all(abs(at / 1000 - bench.clock.now()) < 60 for _, at, _ in bench.receiver.samples)
            assert bench.receiver.connections == 1
            assert [a.method for a in bench.receiver.asked] == ["HEAD", *["POST"] * 5]
            headers = bench.receiver.asked[1].headers
            assert headers["content-encoding"] == "snappy"
            assert headers["x-prometheus-remote-write-version"] == "0.1.0"
            assert bench.receiver.asked[1].path == "/api/v1/write"
            assert made.delivered == {"live": 5, "backlog": 0}
            assert made.bytes["live"].sent > 5 * 300
            assert made.bytes["connect"].received > 50

    run(work())


def test_a_connection_that_died_in_its_sleep_is_no_trouble(bench: Bench) -> None:
    async def work() -> None:
        async with bench.running() as made:
            made.add([bench.row(1)])
            await bench.until(lambda: bench.receiver.samples)
            bench.receiver.hang_up()
            await asyncio.sleep(0.02)
            made.add([bench.row(2)])
            await bench.until(lambda: len(bench.receiver.samples) == 2, 2)
            assert not made.problem
            assert [a.method for a in bench.receiver.asked] == ["HEAD", "POST", "HEAD", "POST"]  # the clock is compared again

    run(work())


@pytest.mark.parametrize("ill", ["500", "429", "hangs up", "garbage", "page", "redirect", "401", "mid-body"])
def test_trouble_loses_nothing_and_repeats_nothing(bench: Bench, ill: str) -> None:
    bad = {
        "500": lambda _: answer(500, b"disk full"),
        "429": lambda _: answer(429, Retry_After="30"),
        "hangs up": lambda _: None,
        "garbage": lambda _: b"\x00\x01SSH-2.0\r\n\r\n",
        "page": lambda _: answer(200, b"<html>login"),
        "redirect": lambda _: answer(302, Location="http://127.0.0.1:1/"),
        "401": lambda _: answer(401),
        "mid-body": lambda _: b"HTTP/1.1 204 X\r\n",
    }

    async def work() -> None:
        bench.receiver.does = bad[ill]
        if ill == "mid-body":
            bench.receiver.does = lambda _: (bench.receiver.hang_up(), b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf")[1]
        async with bench.running() as made:
            made.add([bench.row(1)])
            await bench.until(lambda: made.problem)
            bench.receiver.accepted.clear()
            bench.receiver.does = lambda _: answer()
            made.add([bench.row(2)])
            await bench.until(lambda: len(bench.receiver.samples) >= 2)
            assert [v for _, _, v in bench.receiver.samples] == [1, 2]
            assert not made.problem
            assert bench.buffer.ledger.total == 0

    run(work())


def test_an_error_of_our_own_is_counted_said_and_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with bench.running() as delivery:
            real, broken = delivery._send_live, [True]

            async def breaks() -> None:
                if broken.pop() if broken else False:
                    raise ZeroDivisionError
                await real()

            monkeypatch.setattr(delivery, "_send_live", breaks)
            delivery.add([bench.row(7.0)])
            await bench.until(lambda: delivery.requests["internal"])
            assert "Ronda's own" in delivery.problem
            await bench.until(lambda: delivery.delivered["live"] == 1)
            assert delivery.requests["internal"] == 1

    run(main())


def test_retry_after_is_obeyed(bench: Bench) -> None:
    async def work() -> None:
        bench.receiver.does = lambda _: answer(429, Retry_After="100")
        async with bench.running() as made:
            made.add([bench.row()])
            await bench.until(lambda: made.problem)
            asked, began = len(bench.receiver.asked), bench.clock.monotonic()
            bench.receiver.does = lambda _: answer()
            made.hurry()
            await bench.until(lambda: len(bench.receiver.asked) > asked)
            assert bench.clock.monotonic() - began > 99

    run(work())


def test_a_receiver_that_hangs_is_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.DEADLINE, "fibre", 0.1)

    async def work() -> None:
        bench.receiver.does = lambda _: b""  # nothing, for ever
        async with bench.running() as made:
            made.add([bench.row()])
            await bench.until(lambda: made.requests["network"] >= 1)
            assert "timeout" in made.problem
            bench.receiver.does = lambda _: answer()
            await bench.until(lambda: bench.receiver.samples)

    run(work())


def test_when_the_way_opens_there_is_no_waiting(bench: Bench) -> None:
    async def work() -> None:
        bench.receiver.does = lambda _: None
        async with bench.running() as made:
            made.add([bench.row()])
            await bench.until(lambda: made.requests["network"] >= 8)
            bench.receiver.does = lambda _: answer()
            made.hurry()
            began = bench.clock.monotonic()
            await bench.until(lambda: bench.receiver.accepted)
            assert bench.clock.monotonic() - began <= 2

    run(work())


# -- refusals -----------------------------------------------------------------------------------------------------------------------


def poison(*values: float) -> Callable:
    def does(asked):
        return answer(400, b"out of bounds") if any(v in values for _, _, v in asked.samples) else answer()

    return does


def test_one_poisoned_sample_costs_itself(bench: Bench) -> None:
    async def work() -> None:
        async with bench.running() as made:
            made.add([bench.row(-1.0)])
            await bench.until(lambda: bench.receiver.samples)
            bench.receiver.does = poison(13.0, 77.0)
            made.add([bench.row(float(n), task=f"t{n}") for n in range(100)])
            await bench.until(lambda: not made.pending)
            assert sorted(v for _, _, v in bench.receiver.samples) == [-1.0, *(float(n) for n in range(100) if n not in (13, 77))]
            assert bench.buffer.ledger.counts["refused"] == 2
            assert len(bench.receiver.asked) < 2 + 2 * 2 * 9

    run(work())


def test_a_batch_of_poison_costs_a_bounded_number_of_requests(bench: Bench) -> None:
    async def work() -> None:
        async with bench.running() as made:
            made.add([bench.row(-1.0)])
            await bench.until(lambda: bench.receiver.samples)
            bench.receiver.does = lambda _: answer(400, b"out of order")
            made.add([bench.row(float(n), task=f"t{n}") for n in range(3000)])
            await bench.until(lambda: not made.pending)
            assert bench.buffer.ledger.counts["refused"] == 3000
            assert len(bench.receiver.asked) <= 2 + 2 * module.SPLITS
            bench.receiver.does = lambda _: answer()
            made.add([bench.row(5.0)])
            await bench.until(lambda: bench.receiver.samples[-1][2] == 5.0)

    run(work())


def test_a_receiver_that_never_took_anything_refuses_us_and_nothing_is_given_up(bench: Bench) -> None:
    """The wrong URL, say: VictoriaMetrics answers 400 to a path that it does not know."""

    async def work() -> None:
        bench.receiver.does = lambda _: answer(400, b"unsupported path requested")
        async with bench.running() as made:
            made.add([bench.row(1)])
            await bench.until(lambda: made.requests["refused"] > 2)
            assert bench.buffer.ledger.total == 0
            assert "unsupported path" in made.problem
            bench.receiver.does = lambda _: answer()
            await bench.until(lambda: bench.receiver.samples)

    run(work())


def test_a_batch_too_large_is_cut(bench: Bench) -> None:
    async def work() -> None:
        bench.receiver.does = lambda asked: answer(413) if len(asked.samples) > 30 else answer()
        async with bench.running() as made:
            made.add([bench.row(float(n), task=f"t{n}") for n in range(100)])
            await bench.until(lambda: len(bench.receiver.samples) == 100)
            assert bench.buffer.ledger.total == 0

    run(work())


def test_what_memory_holds_is_promised_on_disk_while_a_request_hangs(bench: Bench) -> None:
    """A kill now costs what the ledger's file says already, also for refusals that it has not counted yet."""

    def promised() -> int:
        return json.loads((bench.folder / "buffer/ledger.json").read_text())["at_risk"]

    async def work() -> None:
        bench.receiver.does = lambda _: b""  # nothing, for ever
        async with bench.running() as made:
            made.add([bench.row(float(n)) for n in range(5000)])
            await bench.until(lambda: promised() >= made.pending == 5000)
            made.add([bench.row(float(n)) for n in range(5000)])
            await bench.until(lambda: promised() >= made.pending == 10_000)

    run(work())


# -- backlog ------------------------------------------------------------------------------------------------------------------------


def test_live_goes_first_backlog_after_it_and_never_in_one_request(bench: Bench) -> None:
    async def work() -> None:
        bench.receiver.does = lambda _: None
        async with bench.running() as made:
            for n in range(20):
                made.add([bench.row(float(n)), bench.row(float(n), task="b", rank=0)])
                await bench.clock.advance(15)
                for _ in range(1000):  # threads and sockets get the time that they need: it is not the fake one
                    await asyncio.sleep(0.01)
                    if made.pending <= 2 * (LIVE / 15 + 2):
                        break
            assert bench.buffer.records > 5
            bench.receiver.does = lambda _: answer()
            await bench.until(lambda: len(bench.receiver.samples) == 40)
            live, *backlog = [[at for _, at, _ in asked.samples] for asked in bench.receiver.accepted]
            assert max(live) == max(at for _, at, _ in bench.receiver.samples)
            assert max(live) - min(live) <= 1000 * LIVE
            assert all(max(batch) < min(live) for batch in backlog)
            assert backlog[0][0] == min(at for _, at, _ in bench.receiver.samples)
            assert bench.refreshed == 1
            await bench.until(lambda: not bench.buffer.records)
            assert bench.buffer.ledger.total == 0
            times = [at for name, at, _ in sorted(bench.receiver.samples, key=lambda s: s[1]) if "{t}" in name]
            assert {round((b - a) / 1000, 2) for a, b in itertools.pairwise(times)} == {15.0}

    run(work())


def test_a_batch_that_makes_the_receiver_fail_does_not_block_the_queue(bench: Bench) -> None:
    """A receiver that answers 500 to one old batch for ever, while it takes everything else. What bounds it is requests, not time."""

    async def work() -> None:
        bench.receiver.does = lambda _: None
        async with bench.running() as made:
            made.add([bench.row(666.0), bench.row(1.0, task="a")])
            await bench.until(lambda: bench.buffer.records)
            ill = lambda asked: any(v == 666.0 for _, _, v in asked.samples)  # noqa: E731
            bench.receiver.asked.clear()
            bench.receiver.does = lambda asked: answer(500, b"panic") if ill(asked) else answer()
            told = itertools.count()
            while bench.buffer.records and len(bench.receiver.asked) < 1000:
                n = float(next(told))
                made.add([bench.row(n, task="live")])
                await bench.until(lambda n=n: any(s[2] == n and "live" in s[0] for s in bench.receiver.samples))
                while made._under_way:  # an answer that comes 15 s of the fake clock late would tell of another time
                    await asyncio.sleep(0.001)
                await bench.clock.advance(15)
                await asyncio.sleep(0.01)  # for threads and sockets, whose time is not the fake one
            assert not bench.buffer.records
            assert sum(ill(asked) for asked in bench.receiver.asked if asked.method == "POST") <= 2 * module.STUBBORN + module.SPLITS
            assert bench.buffer.ledger.counts["refused"] == 1
            assert ("ronda_x{a}", 1.0) in {(name, v) for name, _, v in bench.receiver.samples}

    run(work())


def test_a_redirect_leads_nowhere(bench: Bench) -> None:
    """Samples and credentials go to the configured receiver, whoever says otherwise."""

    async def work() -> None:
        async with Receiver(bench.receiver.now).serving() as elsewhere:
            for status in (301, 302, 307, 308):
                bench.receiver.does = lambda _, s=status: answer(s, Location=f"http://127.0.0.1:{elsewhere.port}/api/v1/write")
                async with bench.running() as made:
                    made.add([bench.row(float(status))])
                    await bench.until(lambda made=made: made.requests["redirect"])
                    assert "not followed" in made.problem
                bench.buffer = Buffer(bench.folder / "buffer", "dukcapil", bench.clock)
            assert elsewhere.asked == []
            assert bench.buffer.ledger.total == 0
            assert sum(e.samples for e in bench.buffer.oldest(1 << 20)) == 4

    run(work())


def test_what_the_next_run_finds_in_the_buffer_it_sends(bench: Bench) -> None:
    async def work() -> None:
        async with bench.receiver.serving():
            first = bench.make("http://127.0.0.1:1")
            first.start()
            first.add([bench.row(7.0)])
            await bench.until(lambda: first.problem)
            await first.close()
            assert bench.buffer.records == 1
            second = bench.make()
            second.start()
            await bench.until(lambda: bench.receiver.samples)
            assert [v for _, _, v in bench.receiver.samples] == [7.0]
            await second.close()
            bench.buffer.close()

    run(work())


# -- time ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("off", [YEARS, -YEARS, 30.0, -30.0])
def test_a_wrong_clock_stamps_nothing(bench: Bench, off: float) -> None:
    async def work() -> None:
        true = bench.clock.now()
        began = bench.clock.monotonic()
        bench.true = lambda: true + bench.clock.monotonic() - began
        bench.clock.step_wall(off)
        async with bench.running() as made:
            for _ in range(4):
                had = len(bench.receiver.samples)
                made.add([bench.row()])
                await bench.until(lambda had=had: len(bench.receiver.samples) > had)
                _, at, _ = bench.receiver.samples[-1]
                assert abs(at / 1000 - bench.true()) < 2
                await bench.clock.advance(15)
            [offset] = [s.value for s in made.samples() if s.metric is module.OFFSET]
            assert abs(offset - off) < 1

    run(work())


def test_what_was_measured_before_the_time_was_known_is_put_right(bench: Bench) -> None:
    """Booted into an outage, without a clock chip: three years behind. The centre is heard of only later."""

    async def work() -> None:
        true, began = bench.clock.now(), bench.clock.monotonic()
        bench.true = lambda: true + bench.clock.monotonic() - began
        bench.clock.step_wall(-YEARS)
        bench.receiver.date = False
        async with bench.running() as made:
            made.add([bench.row(1.0)])
            await bench.until(lambda: bench.buffer.records)
            assert "clock" in made._outcome
            assert bench.receiver.accepted == []
            bench.receiver.date = True
            await bench.until(lambda: bench.receiver.samples)
            assert abs(bench.receiver.samples[0][1] / 1000 - true) < 2

    run(work())


def test_no_sample_is_sent_before_the_clock_was_compared(bench: Bench) -> None:
    async def work() -> None:
        bench.receiver.date = False
        async with bench.running() as made:
            made.add([bench.row()])
            await bench.until(lambda: made.requests["clock"] > 2)
            assert {a.method for a in bench.receiver.asked} == {"HEAD"}

    run(work())


def test_records_of_another_boot_without_a_time_are_counted_not_guessed(bench: Bench) -> None:
    record = module.to_record(Rank.SAMPLES, [bench.row()], None, module.Boot(b"x" * 16, False), 0.0)
    kept = module.to_record(Rank.SAMPLES, [bench.row()], None, module.Boot(b"x" * 16, True), 500.0)

    assert module.from_record(record.data, module.Boot(b"y" * 16, False), 1e9) is None
    assert record.at == 0.0
    [piece] = module.decode(module.from_record(kept.data, module.Boot(b"y" * 16, False), 1e9) or b"")
    assert piece.at == round((bench.clock.monotonic() + 500.0) * 1000)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x01nonsense", b"\x02short", b"\x01"])
def test_a_record_that_is_none_is_said(data: bytes) -> None:
    with pytest.raises(ValueError):
        module.from_record(data, module.Boot(b"x" * 16, False), 0.0)


def test_bounds_of_the_centres_time_narrow_and_follow_a_step() -> None:
    centre = CentreTime()
    for n in range(20):
        mono = 100 + n * 15.1
        centre.observe(float(int(1000 + mono)), mono, mono + 0.05)
    assert centre.low <= 1000 <= centre.high
    assert centre.high - centre.low < 0.5
    assert centre.trusts(1500.0 + 100.0 + 0.3, 600.0)

    centre.observe(5000.0, 500.0, 500.1)
    assert abs(centre.middle - 4500) < 1


def test_dates() -> None:
    assert parse_date("Tue, 24 Nov 2026 08:54:56 GMT") == 1795510496
    for text in ("", "now", "Tue, 24 Nov 2026 08:54:56", "Tue, 24 Xxx 2026 08:54:56 GMT", "2026-11-24T08:54:56Z"):
        assert parse_date(text) is None


# -- the way ------------------------------------------------------------------------------------------------------------------------

ROOT = issue("Test Root", ca=True)


def server(issued, folder: Path, *, client: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert, key = issued.write(folder, "server")
    context.load_cert_chain(cert, key)
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=ROOT.pem.decode())
    return context


def configured(bench: Bench, text: str) -> None:
    (bench.folder / "ca.pem").write_bytes(ROOT.pem)
    found = loads(text.replace("DIR", str(bench.folder)).encode(), PushConfig, "agent.yaml")
    bench.options = {k: getattr(found, k) for k in ("tls", "token_file", "basic_auth", "proxy", "proxy_auth", "insecure", "profile")}


def test_tls_with_a_client_certificate_and_an_expired_one_of_the_receiver(bench: Bench) -> None:
    configured(bench, "{url: 'https://x', tls: {ca_file: DIR/ca.pem, cert_file: DIR/agent.pem, key_file: DIR/agent.key}}")
    issue("dukcapil", ROOT).write(bench.folder, "agent")

    async def work() -> None:
        good = issue("centre", ROOT, names=("127.0.0.1",))
        async with bench.running(server(good, bench.folder, client=True), "https://127.0.0.1:{port}") as made:
            made.add([bench.row()])
            await bench.until(lambda: bench.receiver.samples)
        bench.buffer = Buffer(bench.folder / "buffer", "dukcapil", bench.clock)
        old = issue("centre", ROOT, names=("127.0.0.1",), begins=-20 * DAY, ends=-DAY)
        bench.receiver = Receiver(bench.receiver.now)
        async with bench.running(server(old, bench.folder), "https://127.0.0.1:{port}") as made:
            made.add([bench.row()])
            await bench.until(lambda: made.problem)
            assert made._outcome == "tls"
            assert "expired" in made.problem
            assert bench.receiver.asked == []
            assert made.bytes["connect"].received > 1000  # a handshake that fails is billed like any

    run(work())


def test_a_reconnect_resumes_tls_and_one_that_can_not_be_resumed_is_begun_anew(bench: Bench) -> None:
    configured(bench, "{url: 'https://x', tls: {ca_file: DIR/ca.pem, cert_file: DIR/agent.pem, key_file: DIR/agent.key}}")
    issue("dukcapil", ROOT).write(bench.folder, "agent")
    good = issue("centre", ROOT, names=("127.0.0.1",))

    async def told(made: Delivery) -> int:
        """Has a sample told; what has been spent on connecting in the end."""
        before = len(bench.receiver.samples)
        made.add([bench.row()])
        await bench.until(lambda: len(bench.receiver.samples) > before)
        return sum(made.bytes["connect"])

    async def work() -> None:
        async with bench.running(server(good, bench.folder, client=True), "https://127.0.0.1:{port}") as made:
            first = await told(made)
            bench.receiver.hang_up()
            resumed = await told(made) - first
            assert bench.receiver.connections == 2
            assert made._client._sock.session_reused
            assert resumed < first - 1000
            bench.receiver._server.close()
            bench.receiver.hang_up()
            async with bench.receiver.serving(server(good, bench.folder, client=True)):  # with other keys for its tickets
                await told(made)
                assert not made._client._sock.session_reused
                assert made._client._sock.getpeercert()

    run(work())


def test_a_disk_that_refuses_to_read_is_asked_now_and_then_and_costs_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        bench.buffer.append([module.to_record(Rank.SAMPLES, [bench.row(7.0)], bench.clock.now() - bench.clock.monotonic(), made_at, 0.0)])
        real = Path.open

        def refuse(path: Path, *args, **more):
            if path.suffix == ".seg":
                raise OSError(5, "Input/output error")
            return real(path, *args, **more)

        monkeypatch.setattr(Path, "open", refuse)
        async with bench.running() as made:
            await bench.until(lambda: bench.buffer.failures)
            for _ in range(60):
                await bench.clock.advance(1.0)
                await asyncio.sleep(0.01)
            assert 3 <= bench.buffer.failures <= 20
            monkeypatch.undo()
            await bench.until(lambda: made.delivered["backlog"] == 1)

    made_at = module.this_boot(bench.folder)
    run(work())


def test_a_token_that_vanishes_is_said_and_a_new_one_is_used_at_once(bench: Bench) -> None:
    token = bench.folder / "token"
    token.write_text("one\n")
    token.chmod(0o600)
    configured(bench, "{url: 'https://x', token_file: DIR/token}")

    async def work() -> None:
        async with bench.running() as made:
            made.add([bench.row()])
            await bench.until(lambda: bench.receiver.samples)
            assert bench.receiver.asked[-1].headers["authorization"] == "Bearer one"
            token.unlink()
            made.add([bench.row()])
            await bench.until(lambda: made.requests["secret"] > 0)
            assert str(token) in made.problem
            token.write_text("two\n")
            token.chmod(0o600)
            await bench.until(lambda: len(bench.receiver.samples) == 2)
            assert bench.receiver.asked[-1].headers["authorization"] == "Bearer two"
            assert bench.receiver.connections == 1

    run(work())


def test_basic_auth(bench: Bench) -> None:
    (bench.folder / "pw").write_text("rahasia")
    (bench.folder / "pw").chmod(0o600)
    configured(bench, "{url: 'https://x', basic_auth: {username: dukcapil, password_file: DIR/pw}}")

    async def work() -> None:
        async with bench.running() as made:
            made.add([bench.row()])
            await bench.until(lambda: bench.receiver.samples)
            assert bench.receiver.asked[-1].headers["authorization"] == "Basic ZHVrY2FwaWw6cmFoYXNpYQ=="

    run(work())


class Proxy:
    """CONNECT, with a password."""

    def __init__(self, to: Callable[[], int]) -> None:
        self.to, self.port, self.heads, self.says = to, 0, [], b"HTTP/1.1 200 Go\r\n\r\n"

    @contextlib.asynccontextmanager
    async def serving(self):
        tasks = set()

        async def serve(reader, writer):
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self.says)
            if b" 200 " in self.says:
                there = await asyncio.open_connection("127.0.0.1", self.to())
                await asyncio.gather(_pipe(reader, there[1]), _pipe(there[0], writer))
            writer.close()

        def begin(reader, writer):
            tasks.add(asyncio.ensure_future(serve(reader, writer)))

        listening = await asyncio.start_server(begin, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        yield self
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pipe(reader, writer) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def test_through_a_proxy_that_wants_a_password(bench: Bench) -> None:
    (bench.folder / "pw").write_text("rahasia")
    (bench.folder / "pw").chmod(0o600)

    async def work() -> None:
        proxy = Proxy(lambda: bench.receiver.port)
        async with proxy.serving():
            configured(
                bench,
                f"{{url: 'https://x', tls: {{ca_file: DIR/ca.pem}}, proxy: 'http://127.0.0.1:{proxy.port}', "
                "proxy_auth: {username: ronda, password_file: DIR/pw}}",
            )
            proxy.says = b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"
            context = server(issue("centre", ROOT, names=("127.0.0.1",)), bench.folder)
            async with bench.running(context, "https://127.0.0.1:{port}") as made:
                made.add([bench.row()])
                await bench.until(lambda: made.requests["credentials"] > 0)
                assert "407" in made.problem
                proxy.says = b"HTTP/1.1 200 Go\r\n\r\n"
                await bench.until(lambda: bench.receiver.samples)
                assert proxy.heads[-1].startswith(f"CONNECT 127.0.0.1:{bench.receiver.port} HTTP/1.1\r\n")
                assert "proxy-authorization: basic cm9uzge6cmfoyxnpyq==" in proxy.heads[-1].lower()

    run(work())


# -- the disk -----------------------------------------------------------------------------------------------------------------------


def test_a_disk_that_refuses_leaves_all_in_memory_and_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 50)

    async def work() -> None:
        bench.receiver.does = lambda _: None
        monkeypatch.setattr(bench.buffer, "append", list)
        async with bench.running() as made:
            for n in range(40):
                made.add([bench.row(float(n)) for _ in range(5)])
                await bench.clock.advance(15)
                await asyncio.sleep(0.01)  # for threads and sockets, whose time is not the fake one
            held = made.pending
            assert 50 <= held <= 120
            assert held + bench.buffer.ledger.counts["disk"] == 200

    run(work())
