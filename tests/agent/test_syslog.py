"""Syslog to a real rsyslogd over TCP and TLS, through its absence; what a message says; connections that break at bad moments."""

import asyncio
import contextlib
import dataclasses
import re
import time
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.collector import Env
from agent.config import Collector, EventsConfig, parse_collector
from agent.journal import Journal
from agent.model import Event
from agent.net import Net
from agent.structure import ConfigError, loads
from agent.syslog import EXIT, MAX_MESSAGE, METRICS, JournalSource, Letter, Syslog, message
from agent.tls import ClientTls
from agent.wire import rfc5424
from agent.wire.event import Entry
from tests.rsyslog import rsyslog

NOW = 1_795_000_000.0
EVENT = Event("link_down", "warning", "kabel eth0 lepas “ya”", {"device": "eth0", "mac": '"]\\'}, NOW - 5, NOW - 1, 3)


def letter(event=EVENT, **more):
    return Letter(7, "dukcapil", "3f9a1c20", Entry(7, event, "link", {"role": "wan"}, **more))


# --- what a message says -------------------------------------------------------------------------------------------------------


def test_a_message_tells_when_it_happened_whose_it_is_and_its_number():
    said = rfc5424.decode(message(letter(), NOW))
    assert (said.facility, said.severity, said.at, said.hostname, said.app, said.msgid) == (
        16,
        4,
        NOW - 1,
        "dukcapil",
        "ronda",
        "link_down",
    )
    assert said.text == EVENT.message
    assert dict(said.data["ronda@32473"]) == {
        "seq": "7", "journal": "3f9a1c20", "count": "3", "first": "2026-11-18T11:06:35.000000Z", "last": "2026-11-18T11:06:39.000000Z",
        "task": "link",
    }  # fmt: skip
    assert dict(said.data["labels@32473"]) == {"role": "wan"}
    assert dict(said.data["fields@32473"]) == EVENT.fields


@pytest.mark.parametrize(("after", "late"), [(59.0, None), (62.0, "yes")])
def test_what_comes_more_than_a_minute_late_says_so(after, late):
    said = rfc5424.decode(message(letter(), NOW - 1 + after))
    assert dict(said.data["ronda@32473"]).get("late") == late


def test_a_time_that_nobody_vouched_for_says_so():
    assert dict(rfc5424.decode(message(letter(unsure=True), NOW)).data["ronda@32473"])["unsure"] == "yes"


def test_the_longest_event_fits_what_collectors_take_and_stays_one_line():
    fields = {f"f{n}": "é\n\x00" * 20 for n in range(32)}
    event = dataclasses.replace(EVENT, message="ñ" * 500, fields=fields | {"long": "ü" * 1000})
    said = message(letter(event), NOW)
    assert len(said) <= MAX_MESSAGE
    assert all(c >= 32 for c in said)
    assert len(rfc5424.decode(said).data["fields@32473"]) == 33


# --- config --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "collector"),
    [
        ("tls://siem.example.go.id:6514", Collector("siem.example.go.id", 6514, True)),
        ("tls://siem.example.go.id", Collector("siem.example.go.id", 6514, True)),
        ("tls://siem.example.go.id:443/", Collector("siem.example.go.id", 443, True)),
        ("tcp://192.0.2.5", Collector("192.0.2.5", 601, False)),
        ("tcp://[2001:db8::5]:80", Collector("2001:db8::5", 80, False)),
    ],
)
def test_where_syslog_goes(text, collector):
    assert parse_collector(text) == collector
    assert parse_collector(str(collector)) == collector


@pytest.mark.parametrize("text", ["siem:6514", "udp://siem", "tls://", "tls://siem:0", "tls://siem/path", "tls://a:b@siem", "tcp://si em"])
def test_what_is_no_collector_is_named(text):
    with pytest.raises(ConfigError, match="syslog"):
        loads(f'syslog: "{text}"'.encode(), EventsConfig, "x")


def test_tls_settings_need_tls():
    with pytest.raises(ConfigError, match="tls: needs a syslog that begins with tls://"):
        loads(b'{syslog: "tcp://siem", tls: {ca_file: /ca.pem}}', EventsConfig, "x")


# --- the exit ------------------------------------------------------------------------------------------------------------------


def _as_it_is(entry):
    return entry


class Box:
    """A box's journal and its exit, without an agent around them."""

    def __init__(self, folder: Path, port: int, trust: ClientTls | None = None) -> None:
        self.journal = Journal(folder / "journal", "dukcapil", SystemClock())
        self.journal.exits = {EXIT}
        env = Env(SystemClock(), Net(), Path("/"))
        self.exit = Syslog(
            env,
            Collector("127.0.0.1", port, trust is not None),
            trust or ClientTls(),
            JournalSource(self.journal, lambda entry: entry),
            time.time,
        )
        self.n = self.journal.last

    async def happen(self, *ages: float) -> None:
        """Events that lie so many seconds back."""
        now = time.time()
        events = []
        for age in ages:
            self.n += 1
            events.append(Entry(0, Event("link_down", "warning", f"kejadian {self.n}", {"n": str(self.n)}, now - age, now - age)))
        await asyncio.to_thread(self.journal.append, events)
        self.exit.wake()

    async def close(self) -> None:
        await self.exit.close()
        self.journal.close()


async def until(true, what):
    for _ in range(600):
        if true():
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"in 30 s it never came to this: {what() if callable(what) else what}")


def trust_of(collector, tmp_path, auth):
    if not auth:
        return None
    trust = ClientTls(ca_file=str(collector.folder / "ca.pem"))
    if auth == "x509/name":
        cert, key = collector.issue("dukcapil.test")
        trust = dataclasses.replace(trust, cert_file=str(cert), key_file=str(key))
    return trust


@pytest.mark.needs("rsyslogd")
@pytest.mark.parametrize("auth", ["", "anon", "x509/name"], ids=["tcp", "tls", "client certificate"])
def test_through_an_absence_of_rsyslog_all_come_once_in_order_with_their_own_times_and_late(tmp_path, auth):
    async def work(collector):
        box = Box(tmp_path, collector.port, trust_of(collector, tmp_path, auth))
        box.exit.start()
        await box.happen(0, 0, 1)
        await until(lambda: len(collector.lines) == 3 and box.journal.waiting(EXIT) == 0, lambda: box.exit.problem)
        await asyncio.to_thread(collector.stop)
        await box.happen(600, 500)
        await until(lambda: box.exit.problem, "it is said that the collector is away")
        await box.happen(400)
        assert box.journal.waiting(EXIT) == 3
        await asyncio.to_thread(collector.start)
        box.exit.wake()
        await until(lambda: len(collector.lines) >= 6 and box.journal.waiting(EXIT) == 0, lambda: box.exit.problem)
        await box.happen(0)
        await until(lambda: len(collector.lines) >= 7, "and so it goes on")
        entries = box.journal.after(0)
        await box.close()
        assert collector.numbers == [1, 2, 3, 4, 5, 6, 7]
        assert [m.at for m in collector.messages] == pytest.approx([e.event.last_seen for e in entries], abs=2e-6)
        assert [dict(m.data["ronda@32473"]).get("late") for m in collector.messages] == [None] * 3 + ["yes"] * 3 + [None]
        assert box.exit.problem == ""
        when, host, app, msgid, severity, _ = collector.lines[3].split("|", 5)
        assert (host, app, msgid, severity) == ("dukcapil", "ronda", "link_down", "warning")
        assert when.startswith(time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(entries[3].event.last_seen)))

    with rsyslog(tmp_path / "collector", auth) as collector:
        asyncio.run(work(collector))


@pytest.mark.needs("rsyslogd")
def test_a_thousand_events_of_an_outage_come_in_order(tmp_path):
    async def work(collector):
        box = Box(tmp_path, collector.port)
        for _ in range(10):
            await box.happen(*range(1000, 1100))
        box.exit.start()
        await until(lambda: len(collector.lines) == 1000, lambda: box.exit.problem)
        assert collector.numbers == list(range(1, 1001))
        await box.close()
        again = Box(tmp_path, collector.port)
        again.exit.start()
        await again.happen(0)
        await until(lambda: len(collector.lines) > 1000, lambda: again.exit.problem)
        assert collector.numbers == list(range(1, 1002))
        await again.close()

    with rsyslog(tmp_path / "collector") as collector:
        asyncio.run(work(collector))


@pytest.mark.needs("rsyslogd")
@pytest.mark.parametrize(
    ("auth", "trust", "why"),
    [
        ("anon", ClientTls(), "certificate"),
        ("x509/name", ClientTls(verify=False), "certificate"),
        ("", ClientTls(verify=False), "TLS"),
    ],
    ids=["a CA that we don't know", "no certificate of ours", "no TLS there"],
)
def test_where_trust_is_wrong_nothing_leaves_and_it_is_said_why(tmp_path, monkeypatch, auth, trust, why):
    monkeypatch.setattr("agent.syslog.DEADLINE", 3.0)  # rsyslog leaves a client without a certificate hanging

    async def work(collector):
        box = Box(tmp_path, collector.port, trust)
        box.exit.start()
        await box.happen(0)
        await until(lambda: box.exit.failures >= 1, "it fails")
        assert box.journal.waiting(EXIT) == 1
        assert re.search(why, box.exit.problem), box.exit.problem
        await box.close()
        assert "kejadian" not in "".join(collector.lines)

    with rsyslog(tmp_path / "collector", auth) as collector:
        asyncio.run(work(collector))


# --- a peer that breaks off ------------------------------------------------------------------------------------------------------


class Peer:
    """Takes so many bytes of a connection, then resets it; after `good` of these it is well."""

    def __init__(self, bad: list[int]) -> None:
        self.bad, self.got, self.port = bad, [], 0
        self.connections = 0
        self._open = []

    @contextlib.asynccontextmanager
    async def serving(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=64)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._open:
                writer.transport.abort()
            await asyncio.sleep(0.05)

    async def _serve(self, reader, writer):
        self.connections += 1
        self._open.append(writer)
        stop = self.bad.pop(0) if self.bad else None
        data = b""
        with contextlib.suppress(ConnectionError):
            while (stop is None or len(data) < stop) and (more := await reader.read(64)):
                data += more
                if stop is None:
                    self.got, data = self.got + rfc5424.unframe(data)[0], rfc5424.unframe(data)[1]
        writer.transport.abort()

    @property
    def numbers(self):
        return [int(dict(rfc5424.decode(m).data["ronda@32473"])["seq"]) for m in self.got]


def test_what_was_on_the_way_when_a_connection_broke_is_sent_again(tmp_path):
    """A peer that goes with bytes unread resets the connection: its kernel had acknowledged them, and yet they count as not arrived."""

    async def work():
        async with Peer([1, 100, 5000]).serving() as peer:
            box = Box(tmp_path, peer.port)
            await box.happen(*range(400))
            box.exit.start()
            await until(lambda: len(peer.got) >= 400, lambda: box.exit.problem)
            assert sorted(set(peer.numbers)) == list(range(1, 401))
            assert peer.numbers == list(range(1, 401))
            assert peer.connections == 4
            await until(lambda: box.exit.problem == "", "all is well")
            await box.close()

    asyncio.run(work())


def test_a_connection_that_the_peer_closed_in_its_sleep_is_noticed_before_something_is_sent(tmp_path):
    async def work():
        async with Peer([]).serving() as peer:
            box = Box(tmp_path, peer.port)
            box.exit.start()
            await box.happen(0)
            await until(lambda: peer.numbers == [1] and box.journal.waiting(EXIT) == 0, "the first")
            box.exit._sock.shutdown(2)  # as the peer's end looks from here
            await until(lambda: box.exit._sock is None, "the end is noticed")
            await box.happen(0)
            await until(lambda: peer.numbers == [1, 2], "the second")
            assert box.exit.failures == 0
            await box.close()

    asyncio.run(work())


def test_nobody_there_is_tried_again_with_pauses_and_said_once(tmp_path, caplog):
    async def work():
        box = Box(tmp_path, 1)
        box.exit.start()
        await box.happen(0)
        await until(lambda: box.exit.failures >= 2, "two tries")
        assert "refused" in box.exit.problem.lower()
        assert sum("do not reach" in r.getMessage() for r in caplog.records) == 1
        assert {s.metric for s in box.exit.samples()} == set(METRICS)
        await box.close()

    asyncio.run(work())
