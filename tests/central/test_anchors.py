"""Anchors: heads that sites tell with what they push, kept at the centre; who contradicts himself is said; bundles are proven by them."""

import asyncio
import contextlib
import gzip
import io
import json
import sqlite3
import tarfile

import pytest
from hypothesis import given

from agent import bundle
from agent.bundle import BundleError, Parts
from agent.cli import main
from agent.eventlane import EventLane
from agent.httpclient import parse_url
from agent.journal import Journal, Reader
from agent.model import Event
from agent.net import Net
from agent.pseudonyms import Pseudonyms
from agent.webserver import Request
from agent.wire import chain
from agent.wire.chain import Told
from agent.wire.event import Entry
from central.eventstore import ANCHORS_A_DAY, OWN, SCHEMA, VERSION, EventStore
from central.gateway import Gateway, Store
from central.verify import judge
from tests.fakes import FakeClock
from tests.fuzz import broken, fuzz
from tests.receiver import Receiver

NOW = 1_795_000_000.0
JOURNAL = "3f9a1c20"
ID = "DKC-1118-1806"
HEAD = "ab" * 16


def told(number=7, digest=HEAD, journal=JOURNAL):
    return Told(journal, number, digest)


# --- the store -------------------------------------------------------------------------------------------------------------------


def test_a_head_is_kept_once_and_another_for_its_number_is_a_breach_once(tmp_path):
    store = EventStore(tmp_path / "events.sqlite")
    assert store.anchor("dukcapil", told(), NOW) is None
    assert store.anchor("dukcapil", told(), NOW + 1) is None
    assert store.anchor("dukcapil", told(8, "cd" * 16), NOW) is None
    assert store.anchor("camat", told(7, "ef" * 16), NOW) is None
    assert store.anchor("dukcapil", told(7, "ef" * 16), NOW) == (7, HEAD, "ef" * 16)
    assert store.anchor("dukcapil", told(7, "ef" * 16), NOW) is None
    assert store.breaches() == {"dukcapil": 1}
    assert [(a.site, a.number, a.received) for a in store.anchors(JOURNAL, 1, 7)] == [("camat", 7, NOW), ("dukcapil", 7, NOW)]
    store.close()
    assert EventStore(tmp_path / "events.sqlite", read_only=True).breaches() == {"dukcapil": 1}


def test_a_file_of_the_first_version_is_taken_over_with_its_events(tmp_path):
    path = tmp_path / "events.sqlite"
    old = sqlite3.connect(path)
    old.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = 1; COMMIT;")
    row = ("dukcapil", JOURNAL, 1, "k", "info", "m", "", "{}", "{}", NOW, NOW, 1, 0, NOW, 0)
    old.execute(f"INSERT INTO events VALUES (NULL, {','.join('?' * len(row))})", row)
    old.commit()
    old.close()
    assert EventStore(path, read_only=True).anchors(JOURNAL, 0, 99) == []
    store = EventStore(path)
    assert [kept.entry.seq for kept in store.find()] == [1]
    assert store.anchor("dukcapil", told(), NOW) is None
    assert store._db.execute("PRAGMA user_version").fetchone()[0] == VERSION
    store.close()
    assert len(EventStore(path).anchors(JOURNAL, 0, 99)) == 1


def test_anchors_of_a_day_are_bounded_by_site_and_go_after_years(tmp_path):
    store = EventStore(tmp_path / "events.sqlite")
    store._anchored["liar"] = ANCHORS_A_DAY - 1
    store.anchor("liar", told(1), NOW)
    store.anchor("liar", told(2), NOW)
    store.anchor("honest", told(3), NOW)
    assert [a.number for a in store.anchors(JOURNAL, 0, 9)] == [1, 3]
    store.tidy(NOW)
    store.anchor("liar", told(4), NOW + 10)
    assert [a.number for a in store.anchors(JOURNAL, 0, 9)] == [1, 3, 4]
    store.tidy(NOW + 6 * 366 * 86400.0)
    assert store.anchors(JOURNAL, 0, 9) == []


# --- the gateway -----------------------------------------------------------------------------------------------------------------


class Centre:
    """A gateway before a receiver that takes all."""

    def __init__(self, folder):
        self.receiver, self.store = Receiver(lambda: NOW), EventStore(folder / "events.sqlite")

    @contextlib.asynccontextmanager
    async def running(self):
        async with self.receiver.serving():
            url = parse_url(f"http://127.0.0.1:{self.receiver.port}/api/v1/write")
            self.gateway = Gateway(Store(url, Net()), self.store, None, lambda: NOW)
            yield self
            self.gateway.store.close()

    async def push(self, path, body=b"", **headers):
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.gateway.handle(Request("POST", path, {}, said, body, "127.0.0.1"))


def test_a_head_comes_with_samples_and_with_events_and_a_mismatch_is_said_and_counted(tmp_path):
    async def work():
        async with Centre(tmp_path).running() as centre:
            reply = await centre.push("/api/v1/write", ronda_site="dukcapil", ronda_chain=str(told()))
            assert reply.status < 300
            await centre.push("/api/v1/events", ronda_site="dukcapil", ronda_journal=JOURNAL, ronda_chain=str(told(8)))
            assert [a.number for a in centre.store.anchors(JOURNAL, 0, 99)] == [7, 8]
            reply = await centre.push("/api/v1/write", ronda_site="dukcapil", ronda_chain=str(told(7, "ef" * 16)))
            assert reply.status < 300  # its samples are worth more
            (said,) = centre.store.find()
            event = said.entry.event
            assert (said.site, said.journal, event.kind, event.severity) == ("dukcapil", OWN, "chain_mismatch", "critical")
            assert event.fields["number"] == "7"
            assert 'ronda_gateway_chain_mismatches_total{site="dukcapil"} 1' in centre.gateway.metrics()
            for wrong in ("", "x", "3f9a1c20:7", f"{JOURNAL}:0:{HEAD}", f"{JOURNAL}:9:zz"):
                await centre.push("/api/v1/write", ronda_site="dukcapil", ronda_chain=wrong)
            await centre.push("/api/v1/write", ronda_site="no site!", ronda_chain=str(told(9)))
            await centre.push("/api/v1/write", ronda_chain=str(told(9)))
            assert [a.number for a in centre.store.anchors(JOURNAL, 0, 99)] == [7, 8]

    asyncio.run(work())


def test_a_store_that_refuses_anchors_stops_no_samples(tmp_path):
    async def work():
        async with Centre(tmp_path).running() as centre:
            centre.store.close()
            reply = await centre.push("/api/v1/write", ronda_site="dukcapil", ronda_chain=str(told()))
            assert reply.status < 300

    asyncio.run(work())


def test_the_lane_tells_its_head_when_it_has_moved_and_not_again(tmp_path):
    box = Box(tmp_path)
    lane = EventLane(FakeClock(), box.journal, lambda: None, lambda: None, lambda entry: entry)
    headers = dict(lane.letter().headers)
    assert headers["Ronda-Chain"] == str(box.journal.head)
    assert dict(lane.stamp())["Ronda-Site"] == "dukcapil"
    lane.stamped(lane.stamp())
    assert lane.stamp() == []
    assert dict(lane.letter().headers).get("Ronda-Chain") is None
    box.journal.append([box.journal.after(0)[0]])
    assert lane.stamp() == [("Ronda-Site", "dukcapil"), ("Ronda-Chain", str(box.journal.head))]


# --- a bundle ----------------------------------------------------------------------------------------------------------------------


class Box:
    """An incident in a box's journal, exported by the command, and a centre that has its anchors."""

    def __init__(self, tmp_path):
        self.data = tmp_path / "box"
        self.journal = Journal(self.data / "journal", "dukcapil", FakeClock())
        self.store = EventStore(tmp_path / "gateway" / "events.sqlite")
        self.out = tmp_path / "bundle.tar.gz"
        for n in range(10):
            said = {"event.kind": "alert", "event.id": ID, "rule.id": "L10", "rule.version": "1", "source.mac": "3c:52:82:14:7a:01"}
            self.journal.append([Entry(0, Event("arp_sweep", "warning", f"{n}", said if n in (3, 5) else {}, NOW, NOW))])

    def anchor(self, number):
        """The head behind this number, as the box had told it then."""
        walk = chain.Walk()
        for line in Reader(self.data / "journal").lines():
            if chain.number(line) <= number:
                walk.take(line)
        self.store.anchor("dukcapil", chain.tell(self.journal.id, walk.head), NOW + number)

    def export(self, *more):
        assert main(["events", "export", ID, "--data-dir", str(self.data), "-o", str(self.out), *more]) == 0
        return self.out.read_bytes()

    def judged(self, data):
        return judge(data, self.store)


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path)


def remade(data, change, *, manifest=True):
    """The bundle with its files changed, and the manifest as a forger would make it."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    change(files)
    if manifest:
        said = json.loads(files.pop("manifest.json"))
        said["files"] = {name: bundle.hashlib.sha256(content).hexdigest() for name, content in files.items()}
        files["manifest.json"] = json.dumps(said).encode()
    return bundle._tar(files)


def test_a_bundle_is_proven_by_a_later_anchor(box, capsys):
    box.anchor(8)
    verdict = box.judged(box.export())
    assert verdict.code == 0
    assert "TERBUKTI: 2 baris" in verdict.said
    assert "nomor 8" in verdict.said
    gateway = str(box.store.path.parent)
    assert main(["central", "verify", str(box.out), "--data-dir", gateway]) == 0
    assert "TERBUKTI" in capsys.readouterr().out


def test_it_has_what_belongs_in_it(box):
    found = bundle.check(box.export())
    assert found.covered == (4, 6)
    assert max(found.heads) == 10
    about = found.manifest
    assert (about["id"], about["site"], about["journal"], about["masked"]) == (ID, "dukcapil", box.journal.id, False)
    assert about["versions"]["rule L10"] == "1"
    assert set(about["files"]) == {"README.txt", "events.jsonl", "chain.json", "clock.json"}


def test_an_anchor_from_before_proves_nothing(box):
    box.anchor(5)
    verdict = box.judged(box.export())
    assert verdict.code == 3
    assert "belum menerima" in verdict.said


def test_without_the_centres_file_it_is_whole_and_no_more(box, tmp_path, capsys):
    box.export()
    assert main(["central", "verify", str(box.out), "--data-dir", str(tmp_path / "none")]) == 3
    assert "Belum dibandingkan" in capsys.readouterr().out


def edit(name, old, new):
    def change(files):
        assert old in files[name]
        files[name] = files[name].replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("change", "manifest", "why"),
    [
        (edit("events.jsonl", b"3c:52", b"3c:53"), False, "SHA-256"),
        (edit("events.jsonl", b"3c:52", b"3c:53"), True, "line 4 was changed"),
        (edit("events.jsonl", b'"seq":4', b'"seq":3'), True, "line 3 is not in the chain"),
        (lambda files: files.pop("clock.json"), False, "not those that manifest.json names"),
        (lambda files: files.update({"more.txt": b""}), True, "does not belong there"),
        (lambda files: files.pop("manifest.json"), False, "no bundle"),
        (edit("chain.json", b'"digests"', b'"digest"'), True, "chain.json"),
    ],
)
def test_whoever_changes_it_is_found(box, change, manifest, why):
    box.anchor(8)
    verdict = box.judged(remade(box.export(), change, manifest=manifest))
    assert verdict.code == 1
    assert why in verdict.said


def test_a_forger_of_the_whole_chain_is_found_by_the_anchor(box, tmp_path):
    box.anchor(8)
    forged = Box(tmp_path / "forged")
    forged.journal._state.journal = box.journal.id
    lines = [line.replace(b"3c:52", b"3c:53") for line in Reader(forged.data / "journal").lines()]
    on, out = chain.genesis(box.journal.id), []
    for line in lines:
        out.append(chain.link(line[: -chain.PREV_BYTES - 1] + b"}", on))
        on = chain.step(on, chain.digest(out[-1]))
    about = json.loads(json.dumps(dict(bundle.check(box.export()).manifest)))
    about.pop("files")
    proof = chain.prove(box.journal.id, out, 4)
    verdict = box.judged(bundle.make(Parts(about, [out[3], out[5]], None, proof, {})))
    assert verdict.code == 1
    assert "kepala rantai lain" in verdict.said


def test_a_chain_that_lacks_a_line_the_centre_knows_of_is_found(box):
    box.anchor(8)
    found = bundle.check(box.export())
    short = chain.Proof(found.proof.journal, found.proof.start, tuple(d for d in found.proof.digests if d[0] != 8))
    about = {name: value for name, value in found.manifest.items() if name != "files"}
    verdict = box.judged(bundle.make(Parts(about, found.lines, None, short, {})))
    assert verdict.code == 1
    assert "hilang" in verdict.said


def test_a_masked_bundle_names_nobody_and_proves_nothing(box):
    box.anchor(8)
    data = box.export("--masked")
    verdict = box.judged(data)
    assert verdict.code == 3
    assert "disamarkan" in verdict.said
    assert b"3c:52:82:14:7a:01" not in gzip.decompress(data)
    key = (box.data / "pseudonyms.key").read_text().strip().encode()
    assert Pseudonyms(key).of("3c:52:82:14:7a:01").encode() in gzip.decompress(data)


WHOLE = bundle.make(Parts({"id": ID, "site": "s", "masked": False, "exported": ""}, [b'{"seq":1}'], b"pcap", None, {}))


@fuzz
@given(broken([WHOLE, gzip.decompress(WHOLE)]))
def test_any_bytes_are_a_bundle_or_an_error_that_says_so(data):
    for whole in (data, gzip.compress(data)):
        with contextlib.suppress(BundleError):
            bundle.check(whole)
