"""The gateway before a real Prometheus: samples pass as if it were not there, events are kept once, in order, with their own times."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent import doctor, privileges
from agent.app import App, Options
from agent.clock import SystemClock
from agent.collector import Env, Kind, ProbeConfig, succeeded
from agent.delivery import compress
from agent.eventlane import EXIT
from agent.httpclient import parse_url
from agent.model import Event
from agent.net import Net
from agent.webserver import Request, Server
from agent.wire import remote_write
from agent.wire.event import Entry, EventError, encode
from central import inventory
from central.agents import agent_file
from central.eventstore import KEEP, EventStore, StoreError
from central.gateway import LIMITS, MAX_EVENTS, Gateway, Store, _letter
from central.tokens import Tokens, TokensError, hashed, parse
from tests.fuzz import fuzz
from tests.receiver import Receiver, answer, free_port, prometheus
from tests.rsyslog import rsyslog

ROOT = Path(__file__).parents[2]
NOW = 1_795_000_000.0
JOURNAL = "3f9a1c20"


def entry(seq, at=NOW, **more):
    return Entry(seq, Event("link_down", "warning", f"event {seq}", {"device": "eth0"}, at, at), "link", **more)


def body(*entries):
    return b"\n".join(encode(e, abroad=True) for e in entries)


# --- the store -----------------------------------------------------------------------------------------------------------------


def test_an_event_is_kept_once_with_its_times_and_whether_it_came_late(tmp_path):
    store = EventStore(tmp_path / "events.sqlite")
    assert store.add("dukcapil", JOURNAL, [entry(1), entry(2, NOW + 50)], NOW + 61) == 2
    assert store.add("dukcapil", JOURNAL, [entry(2, NOW + 50), entry(3)], NOW + 99) == 1
    assert store.add("camat", JOURNAL, [entry(1)], NOW) == 1
    assert store.add("dukcapil", "00000000", [entry(1)], NOW) == 1
    found = list(store.find(site="dukcapil"))

    told = [(k.journal, k.entry.seq, k.late) for k in found]
    assert told == [(JOURNAL, 1, True), (JOURNAL, 3, True), ("00000000", 1, False), (JOURNAL, 2, False)]
    assert found[0].entry == entry(1)
    assert found[0].received == NOW + 61
    store.close()
    assert len(list(EventStore(tmp_path / "events.sqlite", read_only=True).find())) == 5


def test_events_are_found_by_what_they_are(tmp_path):
    store = EventStore(tmp_path / "events.sqlite")
    for seq, severity in enumerate(("critical", "warning", "info"), 1):
        store.add("a", JOURNAL, [Entry(seq, Event(f"k{seq}", severity, "m", {}, NOW + seq, NOW + seq))], NOW)

    def numbers(**wanted):
        return [kept.entry.seq for kept in store.find(**wanted)]

    assert numbers() == [1, 2, 3]
    assert numbers(severity="warning") == [1, 2]
    assert numbers(kind="k2") == [2]
    assert numbers(since=NOW + 2) == [2, 3]
    assert numbers(site="b") == []


def test_after_years_old_events_go(tmp_path):
    store = EventStore(tmp_path / "events.sqlite")
    store.add("a", JOURNAL, [entry(1)], NOW)
    store.add("a", JOURNAL, [entry(2)], NOW + 10)
    assert store.tidy(NOW + KEEP + 5) == 1
    assert [k.entry.seq for k in store.find()] == [2]


def test_a_file_that_is_none_or_newer_is_refused(tmp_path):
    (tmp_path / "events.sqlite").write_bytes(b"no database, but long enough to be looked at" * 100)
    with pytest.raises(StoreError, match="can't be used"):
        EventStore(tmp_path / "events.sqlite")
    newer = EventStore(tmp_path / "newer.sqlite")
    newer._db.execute("PRAGMA user_version = 9")
    newer.close()
    with pytest.raises(StoreError, match="newer version"):
        EventStore(tmp_path / "newer.sqlite")


# --- tokens --------------------------------------------------------------------------------------------------------------------


def test_a_token_says_who_it_is_and_a_new_file_is_read(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f'# who\ndukcapil: {hashed("eins")}\n\ncamat: "{hashed("zwei")}"  # new\ncamat: {hashed("drei")}\n')
    tokens = Tokens(path)
    said = [tokens.site(f"Bearer {token}") for token in ("eins", "zwei", "drei", "vier", "")]
    assert said == ["dukcapil", "camat", "camat", "", ""]
    assert tokens.site("eins") == tokens.site("Basic eins") == ""
    path.write_text("dukcapil: nonsense\n")
    assert tokens.site("Bearer eins") == "dukcapil"
    assert "tokens:1" in tokens.problem
    path.write_text(f"dukcapil: {hashed('vier')}\n")
    assert tokens.site("Bearer eins") == ""
    assert tokens.site("Bearer vier") == "dukcapil"


def token_of(tokens, site="dukcapil"):
    command = [sys.executable, "-m", "agent", "central", "token", site, "--tokens", str(tokens)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_a_token_is_made_shown_once_and_known_by_its_hash(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"camat: {hashed('zwei')}")  # no line break at its end
    first, again = token_of(path), token_of(path)
    assert (first.returncode, again.returncode) == (0, 0)
    assert len(first.stdout.strip()) == 64
    assert "still hold" in again.stderr
    assert "still hold" not in first.stderr
    assert first.stdout.strip() not in path.read_text() + first.stderr
    tokens = Tokens(path)
    said = [tokens.site(f"Bearer {token}") for token in (first.stdout.strip(), again.stdout.strip(), "zwei")]
    assert said == ["dukcapil", "dukcapil", "camat"]


@pytest.mark.parametrize(("site", "text", "why"), [("Kantor 1", "", "not the name of a site"), ("a", "nonsense\n", "tokens:1")])
def test_no_token_is_made_for_what_is_no_site_or_beside_what_is_no_file(tmp_path, site, text, why):
    (tmp_path / "tokens").write_text(text)
    done = token_of(tmp_path / "tokens", site)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
    assert (tmp_path / "tokens").read_text() == text
    assert "No such file" in token_of(tmp_path / "none/tokens").stderr


@pytest.mark.parametrize("text", [f"A: {'0' * 64}", "a: 123", "a", f"a: {'0' * 64}\nb: {'0' * 64}", f"a: {'0' * 64}\nx y z"])
def test_what_is_wrong_with_a_token_file_is_told_with_its_line(text):
    with pytest.raises(TokensError, match=r"^f:\d"):
        parse(text, "f")


# --- requests ------------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def gateway(tmp_path, store_url, tokens=None):
    events = EventStore(tmp_path / "events.sqlite")
    store = Store(parse_url(store_url)._replace(path="/api/v1/write"), Net())
    it = Gateway(store, events, tokens)
    server = Server("127.0.0.1:0", it.handle, limits=LIMITS)
    await server.start()
    it.url = f"http://127.0.0.1:{server.port}"
    try:
        yield it
    finally:
        await server.close()
        store.close()
        events.close()


async def ask(url, data=b"", method="POST", **headers):
    def fetch():
        request = urllib.request.Request(url, data, {k.replace("_", "-"): v for k, v in headers.items()}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, dict(reply.headers), reply.read()
        except urllib.error.HTTPError as e:
            with e:
                return e.code, dict(e.headers), e.read()

    return await asyncio.to_thread(fetch)


WHO = {"Ronda_Site": "dukcapil", "Ronda_Journal": JOURNAL}


@pytest.mark.parametrize("status", [204, 200, 400, 429, 500, 503])
def test_a_write_goes_on_as_it_came_and_the_answer_comes_back_with_date_and_retry_after(tmp_path, status):
    async def work():
        said = answer(status, b"" if status == 204 else b"why", Retry_After="7")
        async with Receiver(lambda: NOW, lambda _: said).serving() as store, gateway(tmp_path, f"http://127.0.0.1:{store.port}") as it:
            headers = {"Content_Encoding": "snappy", "Content_Type": "application/x-protobuf", "X_Prometheus_Remote_Write_Version": "0.1.0"}
            got = await ask(it.url + "/api/v1/write", b"\x01\x00raw", **headers, Authorization="Bearer geheim", User_Agent="ronda/9")
            assert (got[0], got[2]) == (status, b"" if status == 204 else b"why")
            assert got[1]["Date"] == "Wed, 18 Nov 2026 11:06:40 GMT"
            assert got[1]["Retry-After"] == "7"
            (asked,) = store.asked
            assert (asked.method, asked.path, asked.body) == ("POST", "/api/v1/write", b"\x01\x00raw")
            assert asked.headers["content-encoding"] == "snappy"
            assert asked.headers["x-prometheus-remote-write-version"] == "0.1.0"
            assert "authorization" not in asked.headers

    asyncio.run(work())


def test_the_stores_clock_is_told_before_the_first_sample(tmp_path):
    async def work():
        async with Receiver(lambda: NOW).serving() as store, gateway(tmp_path, f"http://127.0.0.1:{store.port}") as it:
            status, headers, _ = await ask(it.url + "/api/v1/write", None, "HEAD")
            assert (status, headers["Date"]) == (405, "Wed, 18 Nov 2026 11:06:40 GMT")

    asyncio.run(work())


def test_a_store_that_restarts_costs_no_write_and_one_that_is_away_is_said(tmp_path):
    async def work():
        store = Receiver(lambda: NOW)
        async with gateway(tmp_path, "http://127.0.0.1:1") as away:
            status, headers, _ = await ask(away.url + "/api/v1/write", b"x")
            assert (status, headers["Retry-After"]) == (503, "5")
            assert "GMT" in headers["Date"]
        async with store.serving(), gateway(tmp_path, f"http://127.0.0.1:{store.port}") as it:
            assert (await ask(it.url + "/api/v1/write", b"x"))[0] == 204
            store.hang_up()
            assert (await ask(it.url + "/api/v1/write", b"y"))[0] == 204
            assert [a.body for a in store.accepted] == [b"x", b"y"]

    asyncio.run(work())


def test_events_are_acknowledged_up_to_the_last_and_kept_once(tmp_path):
    async def work():
        async with gateway(tmp_path, "http://127.0.0.1:1") as it:
            status, _, said = await ask(it.url + "/api/v1/events", body(entry(1), entry(5)), **WHO)
            assert (status, json.loads(said)) == (200, {"journal": JOURNAL, "acknowledged": 5, "stored": 2})
            status, _, said = await ask(it.url + "/api/v1/events", body(entry(5), entry(6)), **WHO)
            assert (status, json.loads(said)) == (200, {"journal": JOURNAL, "acknowledged": 6, "stored": 1})
            assert [k.entry.seq for k in it.events.find()] == [1, 5, 6]
            assert "ronda_gateway_events_repeated_total 1" in it.metrics()

    asyncio.run(work())


BAD = [
    (body(entry(2), entry(1)), {}, 400, "seq does not ascend"),
    (body(entry(1)) + b"\n{", {}, 400, "line 2"),
    (b"\n".join(encode(entry(n)) for n in range(1, MAX_EVENTS + 2)), {}, 400, "at once"),
    (body(entry(1)), {"Ronda_Site": "Dukcapil!"}, 400, "Ronda-Site"),
    (body(entry(1)), {"Ronda_Journal": "x"}, 400, "Ronda-Journal"),
    (body(entry(1)), {"Content_Encoding": "gzip"}, 400, "gzip"),
]


@pytest.mark.parametrize(("data", "headers", "status", "why"), BAD, ids=[b[3] for b in BAD])
def test_what_is_wrong_is_answered_clearly_and_nothing_of_it_is_kept(tmp_path, data, headers, status, why):
    async def work():
        async with gateway(tmp_path, "http://127.0.0.1:1") as it:
            got = await ask(it.url + "/api/v1/events", data, **(WHO | headers))
            assert got[0] == status
            assert why in got[2].decode()
            assert (status != 400) or json.loads(got[2])["refused"] is True
            assert list(it.events.find()) == []

    asyncio.run(work())


def test_a_body_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    async def work():
        async with gateway(tmp_path, "http://127.0.0.1:1") as it:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(it.url.rpartition(":")[2]))
            writer.write(b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n")
            assert b" 413 " in await reader.readline()
            writer.close()

    asyncio.run(work())


def test_only_what_there_is_is_answered(tmp_path):
    async def work():
        async with gateway(tmp_path, "http://127.0.0.1:1") as it:
            assert (await ask(it.url + "/-/healthy", None, "GET"))[0] == 200
            assert (await ask(it.url + "/metrics", None, "GET"))[0] == 200
            runbook = await ask(it.url + "/runbook", None, "GET")
            assert (runbook[0], '<h2 id="SiteDown">' in str(runbook)) == (200, True)
            assert (await ask(it.url + "/", None, "GET"))[0] == 404
            assert (await ask(it.url + "/api/v1/write", None, "GET"))[0] == 405
            assert (await ask(it.url + "/api/v1/events", None, "GET"))[0] == 405
            assert (await ask(it.url + "/api/v1/query?query=up", b"x"))[0] == 404

    asyncio.run(work())


def test_with_tokens_a_site_is_who_its_token_says_and_tells_under_no_other_name(tmp_path):
    (tmp_path / "tokens").write_text(f"dukcapil: {hashed('eins')}\n")

    async def work():
        tokens = Tokens(tmp_path / "tokens")
        async with Receiver(lambda: NOW).serving() as store, gateway(tmp_path, f"http://127.0.0.1:{store.port}", tokens) as it:
            for path in ("/api/v1/events", "/api/v1/write"):
                assert (await ask(it.url + path, body(entry(1)), **WHO))[0] == 401
                assert (await ask(it.url + path, body(entry(1)), **WHO, Authorization="Bearer zwei"))[0] == 401
            mine = {"Authorization": "Bearer eins"}
            assert (await ask(it.url + "/api/v1/events", body(entry(1)), **mine, **(WHO | {"Ronda_Site": "camat"})))[0] == 403
            assert (await ask(it.url + "/api/v1/events", body(entry(1)), **mine, Ronda_Journal=JOURNAL))[0] == 200
            assert [k.site for k in it.events.find()] == ["dukcapil"]

    asyncio.run(work())


SNAPPY = {"Content_Encoding": "snappy", "Content_Type": "application/x-protobuf"}


def samples(*sites):
    return compress(remote_write.request([((("__name__", "up"), ("site", site)), [(1795000000000, 1.0)]) for site in sites]))


@pytest.mark.parametrize(
    ("data", "headers", "status", "why"),
    [
        (samples("dukcapil"), SNAPPY, 204, ""),
        (samples("dukcapil"), SNAPPY | {"Content_Type": "application/x-protobuf; proto=prometheus.WriteRequest"}, 204, ""),
        (compress(b""), SNAPPY, 204, ""),  # the doctor's
        (samples("dukcapil", "camat"), SNAPPY, 403, 'this token is dukcapil\'s, but what comes with it says site "camat"'),
        (compress(b""), SNAPPY | {"Ronda_Site": "camat"}, 403, 'site "camat"'),
        (compress(remote_write.request([((("__name__", "up"),), [(1, 1.0)])])), SNAPPY, 403, "says no site"),
        (samples("dukcapil"), SNAPPY | {"Content_Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"}, 415, "1.0"),
        (samples("dukcapil"), SNAPPY | {"Content_Encoding": "zstd"}, 415, "snappy"),
        (samples("dukcapil"), {"Content_Type": "application/x-protobuf"}, 415, "snappy"),
        (b"no snappy", SNAPPY, 400, "no samples"),
        (compress(b"\x0a\x05ab"), SNAPPY, 400, "cut off"),
        (b"\xff\xff\xff\xff\x0f" + b"x" * 20, SNAPPY, 413, "at most"),  # says that it unpacks to 4 GiB
        (samples(*["dukcapil"] * 10_000, "camat"), SNAPPY, 403, 'site "camat"'),
    ],
)
def test_with_tokens_samples_bear_the_name_of_their_token(tmp_path, data, headers, status, why):
    (tmp_path / "tokens").write_text(f"dukcapil: {hashed('eins')}\n")

    async def work():
        tokens = Tokens(tmp_path / "tokens")
        async with Receiver(lambda: NOW).serving() as store, gateway(tmp_path, f"http://127.0.0.1:{store.port}", tokens) as it:
            got, _, said = await ask(it.url + "/api/v1/write", data, Authorization="Bearer eins", **headers)
            assert got == status, said
            assert why in said.decode()
            assert len(store.asked) == (1 if status == 204 else 0)

    asyncio.run(work())


def test_a_disk_that_refuses_is_no_acknowledgement(tmp_path):
    async def work():
        async with gateway(tmp_path, "http://127.0.0.1:1") as it:
            it.events._db.execute("PRAGMA max_page_count = 20")
            many = [entry(n, labels={"l": "x" * 900}) for n in range(1, 200)]
            status, headers, _ = await ask(it.url + "/api/v1/events", body(*many), **WHO)
            assert (status, headers["Retry-After"]) == (503, "5")
            assert list(it.events.find()) == []
            it.events._db.execute("PRAGMA max_page_count = 1000000")
            assert (await ask(it.url + "/api/v1/events", body(*many), **WHO))[0] == 200

    asyncio.run(work())


@fuzz
@given(
    st.binary(max_size=200) | st.lists(st.integers(-2, 5), max_size=4).map(lambda ns: b"\n".join(encode(entry(n)) for n in ns)),
    st.dictionaries(st.sampled_from(["ronda-site", "ronda-journal", "content-encoding"]), st.text(max_size=12) | st.just(JOURNAL)),
    st.sampled_from(["", "dukcapil"]),
)
def test_whatever_comes_is_events_or_a_refusal(data, headers, site):
    try:
        name, journal, entries = _letter(Request("POST", "/api/v1/events", {}, headers, data), site)
    except (EventError, PermissionError):
        return
    assert not site or name == site
    assert not entries or (journal == JOURNAL and [e.seq for e in entries] == sorted({e.seq for e in entries}))


# --- a real agent, a real gateway, a real Prometheus -----------------------------------------------------------------------------


class Toy:
    async def collect(self):
        return [succeeded()]


TOY = {"toy": Kind("toy", ProbeConfig, (), lambda _c, _e: Toy(), probe=True, reasons=("refused",))}


class Running:
    """`ronda central gateway` as it is run."""

    def __init__(self, folder: Path, store: str, *words: str) -> None:
        self.folder, self.port = folder, free_port()
        self._command = [sys.executable, "-m", "agent", "central", "gateway", "--listen", f"127.0.0.1:{self.port}", "--store", store]
        self._command += ["--data-dir", str(folder), *words]
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(exist_ok=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=log)
        for _ in range(400):
            assert self._process.poll() is None, (self.folder / "log").read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url + "/-/healthy", timeout=5):
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self, *, kill: bool = False) -> None:
        if self._process:
            (self._process.kill if kill else self._process.terminate)()
            assert self._process.wait(20) == (-9 if kill else 0)
            self._process = None

    @property
    def events(self) -> list[dict]:
        """As `ronda central events --json` tells them, in the order that they came."""
        command = [sys.executable, "-m", "agent", "central", "events", "--json", "--data-dir", str(self.folder)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in run.stdout.splitlines()]


@contextlib.contextmanager
def real_gateway(folder: Path, store: str, *words: str) -> Iterator[Running]:
    it = Running(folder, store, *words)
    it.start()
    try:
        yield it
    finally:
        it.stop()


async def until(true, what):
    for _ in range(600):
        if true():
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"in 30 s it never came to this: {what() if callable(what) else what}")


def pushing(url, more=""):
    return f"site: dukcapil\npush: {{url: '{url}'{more}}}\ncollectors: {{toy: [{{target: a}}]}}\n"


@contextlib.asynccontextmanager
async def agent(folder, config):
    path = folder / "agent.yaml"
    path.write_text(config)
    app = App(TOY, Env(SystemClock(), Net()), Options(config=path, listen=f"127.0.0.1:{free_port()}"), folder / "data")
    await app.start()
    try:
        yield app
    finally:
        await app.close()


def happen(app, *ages):
    """Events that lie so many seconds back."""
    now = time.time()
    for age in ages:
        app.tell(Event("link_down", "warning", f"kejadian {age}", {"age": str(age)}, now - age, now - age))


def waits(app):
    return app.events.journal.waiting(EXIT)


@pytest.mark.needs("prometheus", "rsyslogd")
def test_events_of_a_cut_come_once_in_order_with_their_own_times_and_samples_as_ever(tmp_path):
    """The gateway is killed and comes back, twice, the second time with the agent restarted in between; a SIEM behind it gets all too."""
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("eins\n")
    (tmp_path / "tokens").write_text(f"dukcapil: {hashed('eins')}\n")

    async def work(store, centre, siem):
        more = f", token_file: {token}"
        async with agent(tmp_path, pushing(centre.url, more)) as app:
            await until(lambda: app.centre.delivery.delivered["live"], "samples go through")
            happen(app, 1.0)
            await until(lambda: not waits(app), lambda: app.problems)
            centre.stop(kill=True)
            happen(app, 500.0, 400.0)
            await until(lambda: waits(app) >= 2 and app.centre.problem, "they wait")
            happen(app, 300.0)
            centre.start()
            app.centre.delivery.hurry()
            await until(lambda: app.events.journal.last > 4 and not waits(app), lambda: app.problems)
            centre.stop(kill=True)
            happen(app, 200.0)
            await until(lambda: waits(app), "it waits")
            journal = app.events.journal.id
        centre.start()
        async with agent(tmp_path, pushing(centre.url, more)) as app:
            await until(lambda: not waits(app) and app.events.journal.last >= 7, lambda: app.problems)
            happened = {e.seq: e.event for e in app.events.journal.after(0, 1 << 20)}
            assert app.centre.delivery.bytes["events"].sent > 0
        told = sorted(centre.events, key=lambda e: e["seq"])
        came = [kept.entry.seq for kept in EventStore(centre.folder / "events.sqlite", read_only=True).after(0, 1000)]
        assert came == [e["seq"] for e in told] == sorted(set(came))
        assert set(happened) <= set(came)
        assert {e["journal"] for e in told} == {journal}
        assert {e["site"] for e in told} == {"dukcapil"}
        for event in told:
            if original := happened.get(event["seq"]):
                assert event["first"] == pytest.approx(original.first_seen, abs=0.002)
                assert event["message"] == original.message
        ages = {e["message"].removeprefix("kejadian "): e["late"] for e in told if e["kind"] == "link_down"}
        assert ages == {"1.0": False, "500.0": True, "400.0": True, "300.0": True, "200.0": True}
        assert {e["kind"] for e in told} >= {"agent_started", "agent_stopped"}
        await until(lambda: set(siem.numbers) == set(came), "the SIEM has them all")
        assert list(dict.fromkeys(siem.numbers)) == came  # a gateway that is killed before its cursor is written repeats itself
        assert {m.hostname for m in siem.messages} == {"dukcapil"}
        assert store.query('count_over_time(ronda_probe_success{site="dukcapil"}[5m])')

    with prometheus(tmp_path) as store, rsyslog(tmp_path / "siem") as siem:
        words = ("--tokens", str(tmp_path / "tokens"), "--syslog", f"tcp://127.0.0.1:{siem.port}")
        with real_gateway(tmp_path / "centre", store.url, *words) as centre:
            asyncio.run(work(store, centre, siem))


INVENTORY = """\
centre: {{name: Pusat, url: "{url}", token_file: {token}}}
sites: {{dukcapil: {{name: Dukcapil, code: DKC, class: 24-jam}}}}
"""


def rendered(folder, url, token):
    """The agent's file as it is rendered, and what it pushes; with a task on loopback in place of its own."""
    (folder / "inventory.yaml").write_text(INVENTORY.format(url=url, token=token))
    said = yaml.safe_load(agent_file(inventory.load(folder / "inventory.yaml"), "dukcapil"))
    return yaml.safe_dump(said | {"collectors": {"toy": [{"target": "a"}]}})


async def doctor_says(app):
    case = doctor.Case(app.env, app.config, (), app._data_dir, doctor.Means(privileges.look(Path("/")), doctor.pinger))
    return " ".join(f"{finding.level} {finding.detail}" for finding in await doctor._centre(case))


@pytest.mark.needs("prometheus")
def test_a_rendered_agent_gets_through_with_its_token_and_with_anothers_keeps_what_it_has_to_tell(tmp_path, caplog):
    token, path = tmp_path / "token", tmp_path / "tokens"
    own, others = (token_of(path, site).stdout for site in ("dukcapil", "camat"))
    token.touch(mode=0o600)
    token.write_text(others)

    async def work(store, centre):
        async with agent(tmp_path, rendered(tmp_path, centre.url, token)) as app:
            happen(app, 1.0)
            await until(lambda: "this token is camat's" in app.centre.problem, lambda: app.problems)
            assert 'says site "dukcapil"' in app.centre.problem
            assert "this token is camat's" in caplog.text
            said = await doctor_says(app)
            assert said.startswith("bad ")
            assert "this token is camat's" in said
            assert not store.query('ronda_probe_success{site="dukcapil"}')
            token.write_text(own)
            await until(lambda: app.centre.delivery.delivered["live"] and not waits(app), lambda: app.problems)
            assert app.centre.problem == ""
            assert (await doctor_says(app)).startswith("ok ")
            assert app.centre.buffer.ledger.total == 0
        assert {e["site"] for e in centre.events} == {"dukcapil"}
        assert "kejadian 1.0" in {e["message"] for e in centre.events}
        assert store.query('count_over_time(ronda_probe_success{site="dukcapil"}[5m])')
        assert "is it on the wrong box?" in (centre.folder / "log").read_text()

    with prometheus(tmp_path) as store, real_gateway(tmp_path / "centre", store.url, "--tokens", str(path)) as centre:
        asyncio.run(work(store, centre))


@pytest.mark.needs("prometheus")
def test_a_bare_prometheus_takes_no_events_and_they_stay_where_they_are(tmp_path):
    async def work(store):
        async with agent(tmp_path, pushing(store.url)) as app:
            await until(lambda: app.lane.problem, "it is said")
            assert "takes no events" in " ".join(app.problems)
            happen(app, 1.0)
            await until(lambda: waits(app) >= 2, "they wait")
            await until(lambda: app.centre.delivery.delivered["live"], "samples go through all the same")
            assert app.lane._retry_at - time.monotonic() > 3000
            assert app.centre.problem == ""
            assert 'ronda_events_waiting{exit="centre"} 2.0' in (await app.metrics(False)).decode()

    with prometheus(tmp_path) as store:
        asyncio.run(work(store))


def test_without_tokens_only_this_machine_is_spoken_to(tmp_path):
    command = [sys.executable, "-m", "agent", "central", "gateway", "--listen", ":17664", "--data-dir", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 2
    assert "--tokens" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--listen", "x"], "--listen"),
        (["--store", "ftp://x"], "--store"),
        (["--tokens", "/nonexistent"], "can't be read"),
        (["--syslog", "udp://x"], "tls:// or tcp://"),
        (["--web.config.file", "/nonexistent"], "nonexistent"),
    ],
)
def test_a_gateway_that_can_not_begin_says_why(tmp_path, words, why):
    command = [sys.executable, "-m", "agent", "central", "gateway", "--data-dir", str(tmp_path), *words]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 2
    assert why in run.stderr
    assert "Traceback" not in run.stderr


def test_events_of_nobody_are_no_error_but_a_wrong_directory_is(tmp_path):
    EventStore(tmp_path / "events.sqlite").close()
    command = [sys.executable, "-m", "agent", "central", "events", "--data-dir"]
    for folder, code in ((tmp_path, 0), (tmp_path / "no", 2)):
        run = subprocess.run([*command, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert run.returncode == code
        assert "ronda central events:" in run.stderr
