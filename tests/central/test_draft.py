"""The draft of a report: its four contents, from stored events, without whatever could name somebody."""

import re
from pathlib import Path

import pytest

from agent.model import Event
from agent.wire.event import Entry
from central import cli, draft
from central.eventstore import EventStore
from tests.central.alertbench import INVENTORY

AT = 1795486500.0  # 2026-11-24 09:15 WIB
ID = "DKC-1124-0915"


def told(seq: int, kind: str, at: float, state: str = "open", grade: str = "critical", name: str = ID) -> Entry:
    fields = {
        "event.id": name, "ronda.state": state, "ronda.grade": grade, "ronda.confidence": "likely", "ronda.evidence": "4",
        "threat.technique.id": "T1557.003", "threat.version": "19", "source.ip": "192.0.2.66", "source.mac": "P-7F3A09C1B2D4",
        "host.hostname": "LAPTOP-BUDI",
    }  # fmt: skip
    return Entry(seq, Event(kind, "critical", "a second server hands out addresses", fields, at, at, seq), "lan", {}, False)


@pytest.fixture
def centre(tmp_path: Path) -> list[str]:
    """The arguments that name its inventory and its store."""
    store = EventStore(tmp_path / "events.sqlite")
    later = [told(2, "rogue_dhcp", AT + 600, "update"), told(3, "rogue_dhcp", AT + 3600, "closed")]
    other = told(4, "port_scan", AT + 900, grade="medium", name="DKC-1124-0930")
    store.add("dukcapil", "j", [told(1, "rogue_dhcp", AT), *later, other], AT + 4000)
    store.add("rsud", "j", [told(1, "rogue_dhcp", AT, name="RSU-1124-0915")], AT)
    store.close()
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    return ["--inventory", str(tmp_path / "inventory.yaml"), "--data-dir", str(tmp_path)]


def test_it_has_the_four_contents_and_the_duties(centre: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["draft", ID, *centre]) == 0
    text = capsys.readouterr().out
    parts = dict(re.findall(r"^(\d\. \w+|Kewajiban)[^\n]*\n((?:- .*\n?)+)", text, re.MULTILINE))
    assert list(parts) == ["1. Kontak", "2. Deskripsi", "3. Kronologi", "4. Dampak", "Kewajiban"]
    assert "TTIS Labuhanbatu 0624-000008" in parts["1. Kontak"]
    assert "ada pembagi alamat (DHCP) asing, di Dinas Kependudukan dan Pencatatan Sipil" in parts["2. Deskripsi"]
    assert "kritis; keyakinan: mungkin; keadaan: tidak terlihat lagi" in parts["2. Deskripsi"]
    assert parts["3. Kronologi"].count("pertama kali terlihat") == 1
    assert f"ronda events export {ID}" in parts["Kewajiban"]
    assert "MITRE ATT&CK v19 T1557.003" in parts["2. Deskripsi"]
    times = re.findall(r"^- (\S+ \S+): ([^,\n]*)", parts["3. Kronologi"], re.MULTILINE)
    assert times[0] == ("24-11-2026 09.15.00", "pertama kali terlihat")
    assert ("24-11-2026 10.15.00", "tidak terlihat lagi") in times
    assert "kotak Ronda dipindai" in parts["4. Dampak"]
    assert "SIAK" in parts["4. Dampak"]
    assert "1x24 jam" in parts["Kewajiban"]
    assert "3x24 jam" in parts["Kewajiban"]


def test_it_says_where_it_is_plugged_in_or_leaves_that_to_a_person(
    tmp_path: Path, centre: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["draft", ID, *centre])
    assert "- Tempat: [switch dan port, atau AP]" in capsys.readouterr().out
    known = told(5, "rogue_dhcp", AT + 3000, "update")
    known.event.fields["ronda.where"] = "switch-1 port 11"  # type: ignore[index]
    store = EventStore(tmp_path / "events.sqlite")
    store.add("dukcapil", "j", [known], AT + 4000)
    store.close()
    cli.main(["draft", ID, *centre])
    assert "- Tempat: switch-1 port 11" in capsys.readouterr().out


def test_nothing_in_it_names_an_address_a_mac_or_a_person(centre: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["draft", ID, *centre])
    text = capsys.readouterr().out
    assert not re.search(r"\d+\.\d+\.\d+\.\d+|P-[0-9A-F]{4}|LAPTOP|BUDI", text)


def test_what_is_not_there_is_said(centre: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["draft", "DKC-0101-0000", *centre]) == 1
    assert "no events of DKC-0101-0000" in capsys.readouterr().err
    assert cli.main(["draft", "XYZ-1124-0915", *centre]) == 2
    assert "no office" in capsys.readouterr().err


def test_of_a_long_incident_the_first_and_the_last_are_told() -> None:
    from central.eventstore import Kept

    many = [Kept(n, "dukcapil", "j", told(n, "rogue_dhcp", AT + n, "update"), AT, late=False) for n in range(1, 200)]
    lines = list(draft._chronology(many, draft.ZoneInfo("Asia/Jakarta")))
    assert len(lines) == draft.MOST + 2
    assert "159 catatan" in lines[-2]


@pytest.mark.parametrize("rule", sorted(draft.texts()))
def test_the_words_of_each_rule_are_plain(rule: str) -> None:
    said = draft.texts()[rule]
    assert not any("{{" in said[key] for key in ("summary", "cause", "innocent", "action"))
