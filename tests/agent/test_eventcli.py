"""`ronda events …` on a box: what a person sees of an incident, decides about it, and takes with him."""

import datetime
import gzip
import io
import json
import stat
import tarfile

import pytest

from agent import decisions, packets
from agent.bundle import BundleError, check
from agent.cli import main
from agent.detect.casebook import Casebook, Ids
from agent.detect.model import Finding, Rule
from agent.detect.seen import Frame
from agent.evidence import Evidence
from agent.journal import Journal
from agent.model import Event
from agent.pseudonyms import load
from agent.wire.event import Entry
from tests.fakes import FakeClock

NOW = 1_795_000_000.0
MAC, IP = "3c:52:82:14:7a:01", "192.168.10.66"
SWEEP = Rule("arp_sweep", "L10", "1", "network", ("T1018",), quiet=60.0)
ARP = bytes.fromhex("ffffffffffff3c5282147a01080600010800060400013c5282147a01c0a80a42000000000000c0a80a01").ljust(60, b"\0")
WHO = ("--reason", "pemindai kami sendiri", "--person", "Budi")


class Box:
    """A data directory with one incident: opened, and over."""

    def __init__(self, path, capsys):
        self.path, self.capsys = path, capsys
        self.journal = Journal(path / "journal", "dukcapil", FakeClock())
        book = Casebook([SWEEP], "DKC", "Asia/Jakarta", ids=Ids())
        fields = {"source.mac": MAC, "source.ip": IP, "ronda.targets": "255"}
        said = {"confirmed": True, "fields": fields, "source": MAC, "frames": (Frame("", "", "in", ARP),)}
        book.take(Finding("arp_sweep", MAC, "medium", "likely", "many addresses are asked for", **said), 1.0, NOW)
        book.tick(100.0, NOW + 99)
        for outcome in book.drain():
            self.id = outcome.id
            Evidence(path).keep(outcome)
            self.journal.append([Entry(0, outcome.event, "lan"), Entry(0, Event("link_up", "info", "eth0", {}, NOW, NOW))])

    def ronda(self, *words, code=0):
        """What the command says: to standard output, and to standard error."""
        self.capsys.readouterr()
        assert main(["events", *words, "--data-dir", str(self.path)]) == code, self.capsys.readouterr()
        said = self.capsys.readouterr()
        return said.out + said.err

    @property
    def decided(self):
        return [(d.what, d.id, d.person, d.reason) for d in decisions.read(self.path)]


@pytest.fixture
def box(tmp_path, capsys):
    return Box(tmp_path / "box", capsys)


def day(ahead):
    return f"{datetime.datetime.now() + datetime.timedelta(days=ahead):%Y-%m-%d}"


# --- show --------------------------------------------------------------------------------------------------------------------------


def test_everything_about_an_incident_stands_on_one_page(box):
    box.ronda("accept", box.id, *WHO)
    said = box.ronda("show", box.id)
    for part in (f"Kejadian {box.id}", "arp_sweep (L10, v1)", "MITRE ATT&CK v19: T1018", "tingkat     sedang", "keadaan selesai", MAC, IP,
                 "diterima", "Budi", "pemindai kami sendiri", f"{box.id}.pcap", "1 kali"):  # fmt: skip
        assert part in said
    assert "link_up" not in said


def test_it_says_where_it_is_plugged_in(box):
    assert "tempat      switch port/AP belum diketahui" in box.ronda("show", box.id)
    fields = {"event.kind": "alert", "event.id": box.id, "ronda.state": "update", "ronda.where": "switch-1 port 11"}
    box.journal.append([Entry(0, Event("arp_sweep", "warning", "more of it", fields, NOW, NOW + 50), "lan")])
    assert "tempat      switch-1 port 11" in box.ronda("show", box.id)


def test_a_person_reads_names_not_fields_and_a_count_once(tmp_path, capsys):
    box = Box(tmp_path / "box", capsys)
    counted = Event(
        "arp_sweep", "warning", "many addresses are asked for (72 times)", {"source.mac": MAC, "ronda.grade": "medium"}, NOW, NOW + 5, 72
    )
    box.journal.append([Entry(0, counted, "lan")])
    line, evidence = box.ronda("--kind", "arp_sweep").splitlines()[-2:]
    assert "ada yang menyisir jaringan kantor (arp_sweep): many addresses are asked for (72× … " in line
    assert "times" not in line
    assert evidence.strip().split("  ") == ["tingkat=sedang", "tugas=lan", f"perangkat (MAC)={MAC}"]
    assert "somebody sweeps the office's network (arp_sweep)" in box.ronda("--kind", "arp_sweep", "--lang", "en")


def test_times_without_the_offices_zone_say_whose_they_are(box):
    assert "zona kotak ini; zona kantor: --config FILE" in box.ronda("show", box.id)


def test_its_packets_are_decoded_by_scapy_in_another_process(box):
    said = box.ronda("show", box.id, "--packets")
    assert "ARP who has 192.168.10.1 says 192.168.10.66" in said
    assert "hwsrc     = 3c:52:82:14:7a:01" in said


def test_without_packets_it_says_so(box):
    (box.path / "evidence" / f"{box.id}.pcap").unlink()
    assert "Tidak ada paket" in box.ronda("show", box.id, "--packets")


@pytest.mark.parametrize("rubbish", [b"", b"rubbish", bytes(5000)])
def test_packets_that_are_none_are_an_error_that_says_what_to_do(rubbish):
    with pytest.raises(packets.PacketsError, match="tcpdump"):
        packets.run(rubbish)


def test_a_capture_of_rubbish_ends_and_is_bounded():
    said = packets.run(bytes.fromhex("4d3cb2a1") + b"\xff" * 400_000)
    assert len(said) <= packets.MAX_TEXT
    assert not [c for c in said if not c.isprintable() and c != "\n"]


def test_what_scapy_prints_reaches_no_terminal_raw(box):
    from agent.detect.casebook import Kept
    from agent.evidence import capture

    said = packets.run(capture([Kept(NOW, ARP[:14] + b"\x1b]0;x\x07\x9b31m" * 20)]))
    assert not [c for c in said if not c.isprintable() and c != "\n"]


@pytest.mark.parametrize("name", ["DKC-0101-0000", "x", "../../etc/passwd", "DKC-1118-1806; rm"])
@pytest.mark.parametrize("command", ["show", "export", "accept", "hold"])
def test_an_unknown_incident_is_said(box, command, name):
    more = {"accept": WHO, "hold": (*WHO, "--until", day(3))}.get(command, ())
    assert "ronda events:" in box.ronda(command, name, *more, code=2)
    assert box.decided == []


# --- accept, hold ------------------------------------------------------------------------------------------------------------------


def test_a_finding_is_accepted_for_a_while_with_a_name_and_a_reason(box):
    assert "diterima sampai" in box.ronda("accept", box.id, *WHO, "--days", "3")
    (taken,) = decisions.read(box.path)
    assert (taken.rule, taken.key, taken.id) == ("arp_sweep", MAC, box.id)
    assert round((taken.until - taken.at) / 86400) == 3
    (found,) = decisions.suppressions([taken])
    assert found.fits("arp_sweep", MAC, "", {}, taken.at + 1)


@pytest.mark.parametrize(
    "words", [(), ("--reason", "because"), ("--person", "Budi"), (*WHO, "--days", "91"), (*WHO, "--days", "0"), (*WHO, "--days", "nan")]
)
def test_nothing_is_accepted_without_them_or_for_ever(box, words):
    box.ronda("accept", box.id, *words, code=2)
    assert box.decided == []


def test_only_a_detectors_finding_can_be_accepted(box):
    box.journal.append([Entry(0, Event("incident_opened", "warning", "m", {"incident": "DKC-1118-0700"}, NOW, NOW))])
    assert "bukan temuan" in box.ronda("accept", "DKC-1118-0700", *WHO, code=2)
    assert "incident_opened" in box.ronda("show", "DKC-1118-0700")


def test_evidence_is_held_listed_and_let_go(box):
    assert "ditahan sampai" in box.ronda("hold", box.id, *WHO, "--until", day(30))
    listed = box.ronda("hold")
    assert box.id in listed
    assert "Budi: pemindai kami sendiri" in listed
    kept = Evidence(box.path)
    assert len(kept.lines(box.id)) == 2
    assert kept.proof(box.id).covers(kept.lines(box.id))
    for path in (box.path / "journal").glob("*.seg"):  # after 30 days
        path.unlink()
    assert MAC in box.ronda("show", box.id)
    box.ronda("hold", box.id, "--release", *WHO)
    assert "tidak ada yang ditahan" in box.ronda("hold")
    box.ronda("hold", box.id, "--release", *WHO, code=2)


@pytest.mark.parametrize("until", [None, "soon", day(-2), day(400), "2026-13-45"])
def test_nothing_is_held_without_an_end(box, until):
    box.ronda("hold", box.id, *WHO, *(("--until", until) if until else ()), code=2)
    assert box.decided == []
    assert not (box.path / "evidence" / f"{box.id}.lines").exists()


# --- export, unmask ----------------------------------------------------------------------------------------------------------------


def unpacked(path):
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(path.read_bytes()))) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def test_a_bundle_is_raw_for_its_owner_only_and_says_so(box, tmp_path):
    out = tmp_path / "b.tar.gz"
    said = box.ronda("export", box.id, "-o", str(out))
    assert "MENTAH" in said
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    files = unpacked(out)
    assert set(files) == {"README.txt", "events.jsonl", "packets.pcap", "chain.json", "clock.json", "manifest.json"}
    assert MAC.encode() in files["events.jsonl"]
    assert ARP in files["packets.pcap"]
    assert set(json.loads(files["clock.json"])) >= {"now", "boot", "kernel", "uptime_seconds"}


def test_a_masked_bundle_names_nobody(box, tmp_path):
    out = tmp_path / "b.tar.gz"
    said = box.ronda("export", box.id, "-o", str(out), "--masked")
    assert "samaran" in said
    files = unpacked(out)
    assert set(files) == {"README.txt", "events.jsonl", "clock.json", "manifest.json"}
    assert not [raw for raw in (MAC, IP) if raw.encode() in b"".join(files.values())]


def test_a_pseudonym_is_looked_up_and_that_somebody_asked_is_kept_first(box):
    name = load(box.path).of(MAC)
    assert MAC in box.ronda("unmask", name.lower(), *WHO)
    assert box.decided == [("unmask", name, "Budi", "pemindai kami sendiri")]
    assert MAC.encode() not in (box.path / decisions.NAME).read_bytes()
    assert "nobody" in box.ronda("unmask", "P-000000000000", *WHO, code=1)
    assert len(box.decided) == 2
    box.ronda("unmask", name, code=2)
    box.ronda("unmask", "budi", *WHO, code=2)
    assert len(box.decided) == 2


def test_the_list_of_events_is_as_it_was(box, capsys):
    capsys.readouterr()
    assert main(["events", "--data-dir", str(box.path), "--kind", "arp_sweep", "--json"]) == 0
    assert [json.loads(line)["fields"]["event.id"] for line in capsys.readouterr().out.splitlines()] == [box.id, box.id]


# --- what a person can get wrong ---------------------------------------------------------------------------------------------------


def test_a_spoilt_key_is_said_in_its_own_words(box):
    (box.path / "pseudonyms.key").write_text("rubbish\n")
    said = box.ronda("unmask", "P-7F3A09C1B2D4", *WHO, code=2)
    assert "holds no key of pseudonyms" in said
    assert "None" not in said


def test_a_bundle_over_an_open_file_is_for_its_owner_only(box, tmp_path):
    out = tmp_path / "open.tar.gz"
    out.write_bytes(b"")
    out.chmod(0o644)
    box.ronda("export", box.id, "-o", str(out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_bundle_with_a_file_of_holes_is_refused_before_it_is_read():
    """Its head says a tebibyte; the file has a block."""
    member = tarfile.TarInfo("events.jsonl")
    member.type, member.size = tarfile.GNUTYPE_SPARSE, 512
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[386:410] = b"%011o\0%011o\0" % (0, 512)  # old GNU: where the only piece is, how long
    head[483:495] = b"%011o\0" % ((1 << 33) - 1)  # and how large the whole
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    with pytest.raises(BundleError, match="does not belong"):
        check(gzip.compress(bytes(head) + bytes(512) + bytes(1024)))
