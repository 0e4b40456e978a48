"""Every panel of every dashboard, against a real Prometheus with the rendered rules, real agents and injected faults.

Law: what a panel plots is compared with what was injected or with what the machine itself says (panelworld.py), within 5 %. BEFORE says of
each panel what it must plot; AFTER, stage by stage, what the next fault must make of it; UNCHANGED why no cut can change it, and such a
panel must still plot the same at the end. A panel that is in none of them fails the test. (Pages of devices:
tests/central/test_device_panels.py.)
"""

import json
import os
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from agent.detect import table
from agent.detect.model import GRADES, Vouched
from central.dashboards import DASHBOARDS
from central.dashboards.promql import CAUSE_CODES, STATE_CODES
from tests.lab.netns import Namespace, until
from tests.lab.panels import OF_DEVICES, filled, panels, queries
from tests.lab.panelworld import (
    CALENDAR,
    CONTRACT,
    DAYS,
    DAYS_AFTER,
    FRAME,
    FRAMES,
    HEAT,
    HEAT_AFTER,
    LOSS,
    RTT,
    RTT_AFTER,
    Truth,
    World,
    agent_memory,
    agent_series,
    disk_used,
    memory_used,
    messages_a_minute,
    stored_series,
    uptime,
)

pytestmark = [
    pytest.mark.lab,
    pytest.mark.needs("nginx", "dnsmasq", "nft", "prometheus", "prometheus-alertmanager", "promtool", "unshare"),
    pytest.mark.timeout(600),
]

RULES = frozenset(maker(Vouched()).rule.name for maker in (*table.LAN, *table.HOST))
Row = tuple[dict[str, str], float]
Answers = dict[str, list[Row]]  # of one panel, by the letter of its query
Place = tuple[str, str]  # of a panel: the dashboard's uid, its title


class Seen(NamedTuple):
    """What a check judges: the panel's answers now, those of before the first fault, and the world to ask for the truth."""

    now: Answers
    before: Answers
    world: World


Check = Callable[[Seen], object]
Expected = Mapping[str, Mapping[str, Check]]


def ask(ns: Namespace, expr: str) -> list[Row]:
    text = ns.get(f"http://127.0.0.1:9090/api/v1/query?query={urllib.parse.quote(expr)}", timeout=20)
    assert text is not None, f"Prometheus refused {expr}"
    data = json.loads(text)["data"]
    if data["resultType"] == "scalar":
        return [({}, float(data["result"][1]))]
    return [(r["metric"], float(r["value"][1])) for r in data["result"]]


# -- expectations -----------------------------------------------------------------------------------------------------------------


def _found(answers: Answers, letter: str, labels: Mapping[str, str]) -> list[float]:
    found = [v for have, v in answers[letter] if labels.items() <= have.items()]
    assert found, f"{letter}{labels} is empty: {answers[letter]}"
    return found


def some(*letters: str) -> Check:
    """These queries find something; without letters, all of the panel do."""

    def check(seen: Seen) -> None:
        for letter in letters or seen.now:
            assert seen.now[letter], f"{letter} is empty"

    return check


def value(letter: str, expected: float | Truth, slack: float = 1e-9, **labels: str) -> Check:
    """One series with these labels is plotted, and shows what is true, within 5 %, or within `slack` of what is nearly nothing."""

    def check(seen: Seen) -> None:
        found = _found(seen.now, letter, labels)
        assert len(found) == 1, f"{letter}{labels}: {seen.now[letter]}"
        true = expected(seen.world) if callable(expected) else expected
        assert found[0] == pytest.approx(true, rel=0.05, abs=slack), f"{letter}{labels}"

    return check


def above(letter: str, least: float, **labels: str) -> Check:
    def check(seen: Seen) -> None:
        found = _found(seen.now, letter, labels)
        assert max(found) > least, f"{letter}{labels}: {found}"

    return check


def below(letter: str, most: float, **labels: str) -> Check:
    def check(seen: Seen) -> None:
        found = _found(seen.now, letter, labels)
        assert max(found) < most, f"{letter}{labels}: {found}"

    return check


def more(letter: str, times: float = 1.0, **labels: str) -> Check:
    """It has grown, to more than so many times of what it was before the first fault."""

    def check(seen: Seen) -> None:
        now, before = (max(_found(answers, letter, labels)) for answers in (seen.now, seen.before))
        assert now > times * before, f"{letter}{labels}: {before} before, {now} now"

    return check


def less(letter: str, **labels: str) -> Check:
    """It has shrunk since before the first fault."""

    def check(seen: Seen) -> None:
        now, before = (max(_found(answers, letter, labels)) for answers in (seen.now, seen.before))
        assert now < before, f"{letter}{labels}: {before} before, {now} now"

    return check


def row(letter: str, **labels: str) -> Check:
    def check(seen: Seen) -> None:
        assert any(labels.items() <= have.items() for have, _ in seen.now[letter]), f"{letter}: no {labels} in {seen.now[letter]}"

    return check


def gone(letter: str, **labels: str) -> Check:
    """Not there, or no longer."""

    def check(seen: Seen) -> None:
        assert not any(labels.items() <= have.items() for have, _ in seen.now[letter]), f"{letter}: {labels} is there"

    return check


def nothing(seen: Seen) -> None:
    """All is well, and the panel says so by being empty."""
    assert not any(seen.now.values()), seen.now


def within(letter: str, low: float, high: float, **allowed: frozenset[str]) -> Check:
    """Whatever is plotted is between these, and each label is one of these words; there may be nothing."""

    def check(seen: Seen) -> None:
        for have, found in seen.now[letter]:
            assert low <= found <= high, f"{letter}{have}: {found}"
            assert all(have.get(name) in words for name, words in allowed.items()), f"{letter}{have}"

    return check


def recent(letter: str, seconds: float, **labels: str) -> Check:
    """A time of the last so many seconds, in milliseconds."""
    return lambda seen: above(letter, (time.time() - seconds) * 1000, **labels)(seen)


def largest_disk(seen: Seen) -> None:
    """As full as it says itself. (Smaller ones come and go with others' tests.)"""
    there = {labels["mountpoint"]: used for labels, used in seen.now["C"] if os.path.ismount(labels["mountpoint"])}
    largest = max(there, key=lambda mountpoint: os.statvfs(mountpoint).f_blocks * os.statvfs(mountpoint).f_frsize)
    assert there[largest] == pytest.approx(disk_used(largest), rel=0.05, abs=1e-3), largest


def slower(bound: str, slow: bool) -> Check:
    """Some replies of the chosen uplinks took longer than this bound, or none did."""

    def check(seen: Seen) -> None:
        within, all_of_them = (max(_found(seen.now, "A", {"le": le})) for le in (bound, "+Inf"))
        assert all_of_them > 0
        assert (within < 0.99 * all_of_them) == slow, f"{within} of {all_of_them} within {bound} s"

    return check


def every(*checks: Check) -> Check:
    return lambda seen: [check(seen) for check in checks]


def days_left(_: World) -> float:
    """Until the last year of the example's calendar ends, in WIB."""
    last = max(yaml.safe_load(CALENDAR.read_text()))
    return (datetime(last, 12, 31, 17, tzinfo=UTC).timestamp() - time.time()) / 86_400


NAME = 'RSUD "Sehat" & Kawan'
OK, DEGRADED, SILENT, DOWN = (STATE_CODES[s] for s in ("ok", "degraded", "silent", "down"))
BYTES, ERRORS = 8 * FRAMES * FRAME / 660, FRAMES / 660  # of one burst, a second of the window of 11 minutes

# The office (and what else is chosen at the top of the page) that a panel is looked at for; else all, on the page of one office `sehat`.
CHOSEN: Mapping[Place, Mapping[str, str]] = {
    **{("ronda-site", title): {"site": "jauh"} for title in (
        "Waktu balasan rata-rata per jalur", "Bagian balasan yang lambat per jalur", "Waktu balasan rata-rata per sasaran",
        "Naik-turunnya waktu balasan", "Lama membuka layanan", "Waktu jawab DNS", "Lama hidup kotak",
        "Prosesor, memori, dan penyimpanan kotak",
    )},
    ("ronda-site", "Ping yang hilang per sasaran"): {"site": "bocor"},
    ("ronda-services", "Ke mana waktunya pergi"): {"site": "jauh", "task": "siak"},
    ("ronda-uplinks", "Sebaran waktu balasan"): {"medium": "vsat"},
}  # fmt: skip

BEFORE: Expected = {
    "ronda-fleet": {
        "Berapa kantor, menurut keadaan": every(value("B", 1), value("C", 1), value("F", 1), value("G", 3), some()),
        "Peta kantor": every(value("A", DEGRADED, name=NAME, latitude="2.1"), value("A", OK, site="jauh", longitude="99.9")),
        "Yang terburuk dulu": every(
            value("A", SILENT, site="diam"), value("A", DEGRADED, site="sehat"), row("C", site="sehat", cause="service"),
            recent("B", 600, site="sehat"),
        ),
        "Gangguan terbuka": every(
            row("A", alertname="HttpServiceDown", task="simrs", name=NAME), recent("B", 600, task="simrs")
        ),
        "Yang berubah sejak kemarin": every(
            value("A", OK, site="bocor"), value("B", DOWN, site="bocor"), value("A", DEGRADED, site="sehat"),
        ),
        "Jumlah kantor menurut keadaan, dari waktu ke waktu": every(value("A", 3), value("E", 1), value("F", 0), some()),
        "Mutu jaringan per kecamatan": every(
            value("A", 2, district="Utara"), value("A", 2, district="Tengah"), value("D", RTT, district="Tengah"),
            value("E", 0, district="Tengah"), value("F", LOSS, district="Selatan"), value("B", 1, district="Selatan"), some(),
        ),
    },
    "ronda-site": {
        "Data kantor": row("A", name=NAME, code="SHT", district="Utara"),
        "Jam buka dan pemeliharaan": every(value("A", 1), value("B", 0)),
        "Keadaan": value("A", DEGRADED),
        "Sebab": value("A", CAUSE_CODES["service"]),
        "Gangguan terbuka": row("A", alertname="HttpServiceDown", task="simrs"),
        "Jalur internet dan penyedianya": every(row("A", isp_name="ISP A", customer="001"), value("B", CONTRACT, uplink="isp-a")),
        "Waktu balasan rata-rata per jalur": value("A", RTT, uplink="isp-b"),
        "Bagian balasan yang lambat per jalur": value("A", 0, uplink="isp-b"),
        "Ping yang hilang per sasaran": every(
            value("A", 0, task="gateway"), value("A", LOSS, task="anchor-1"), value("A", LOSS, task="anchor-3"),
        ),
        "Waktu balasan rata-rata per sasaran": every(value("A", RTT, task="gateway"), value("A", RTT, task="anchor-1")),
        "Naik-turunnya waktu balasan": below("A", 0.004, task="anchor-1"),
        "Layanan": every(
            value("A", 1, task="siak"), value("A", 0, task="simrs"), value("A", 1, task="sertifikat"), value("A", 0, task="palsu"),
        ),
        "Lama membuka layanan": value("A", 2 * RTT, task="siak"),
        "DNS menjawab": value("A", 1, task="resolver"),
        "Waktu jawab DNS": value("A", RTT, task="resolver"),
        "Kabel dan WiFi kotak Ronda": every(value("A", 1, device="lan0"), value("A", 1, device="lan1")),
        "Lalu lintas kotak Ronda": every(value("A", BYTES, device="lan1"), value("B", BYTES, device="lan1"), above("A", 0, device="lan0")),
        "Galat di kabel": every(value("A", ERRORS, device="lan1"), value("A", 0, device="lan0")),
        "Prosesor, memori, dan penyimpanan kotak": every(above("A", 0), below("A", 1.0001), value("B", memory_used), largest_disk),
        "Suhu kotak": value("A", HEAT),
        "Lama hidup kotak": value("A", uptime),
        "Kejadian yang dicatat kotak": above("A", 0),
    },
    "ronda-uplinks": {
        "Penyedia, yang terburuk dulu": every(
            value("A", 2, isp_name="ISP A", medium="fibre"), value("B", RTT, isp_name="ISP B"), value("C", 0, isp_name="ISP B"),
            value("D", LOSS, isp_name="ISP C"), value("D", 0, isp_name="ISP A"),
        ),
        "Waktu balasan rata-rata per penyedia": value("A", RTT, isp_name="ISP B"),
        "Ping yang hilang per penyedia": every(value("A", LOSS, isp_name="ISP C"), value("A", 0, isp_name="ISP A")),
        "Waktu balasan rata-rata per jenis jalur": value("A", RTT, medium="vsat"),
        "Semua jalur, yang terburuk dulu": every(
            value("B", RTT, site="jauh", name="Desa Jauh"), value("D", LOSS, site="bocor", uplink="isp-c"),
        ),
        "Sebaran waktu balasan": every(slower("0.05", slow=True), slower("0.35", slow=False)),
    },
    "ronda-services": {
        "Layanan bersama: tak bisa dibuka dari berapa kantor": every(
            value("A", 2, name="SIAK"), value("B", 0, name="SIAK", owner="Kemendagri"), value("B", 1, name="SIMRS")
        ),
        "Yang gagal sekarang dan mengapa": every(
            row("A", task="simrs", reason="refused", name=NAME), row("A", task="palsu", reason="certificate"),
        ),
        "Sertifikat: sisa hari": value("A", DAYS, task="sertifikat", scope="leaf"),
        "Sertifikat: sah atau tidak": every(value("A", 1, task="sertifikat"), value("A", 0, task="palsu"), row("B", task="palsu")),
        "Bisa dipakai atau tidak": every(
            value("A", 0, task="simrs"), value("A", 0, task="palsu"), gone("A", task="siak"), gone("A", task="resolver"),
        ),
        "Ke mana waktunya pergi": every(value("B", RTT), value("D", RTT)),
        "Kode jawaban": every(value("A", 200, task="siak", site="sehat"), value("A", 200, task="kode")),
        "Kegagalan per menit menurut sebab": above("A", 0, reason="refused"),
        "Waktu jawab DNS": every(below("A", RTT, site="sehat"), value("A", RTT, site="jauh")),
    },
    "ronda-monitoring": {
        "Tanda hidup terakhir tiap kantor": every(
            row("A", site="sehat", name=NAME), value("B", 40, site="sehat"), below("C", 1, site="sehat"), below("C", 1, site="kirim"),
        ),
        "Peringatan yang sedang dikirim": row("A", alertname="HttpServiceDown", alertstate="firing"),
        "Selisih jam kotak": value("A", 0, slack=1.5, site="jauh"),
        "Versi agen": value("A", 4),
        "Tidak terpantau": nothing,
        "Jumlah deret per kantor": value("A", agent_series, site="sehat"),
        "Keterlambatan agen": above("A", 0, site="sehat"),
        "Memori agen": value("A", agent_memory, site="jauh"),
        "Kantor yang dibaca pusat": every(value("A", 0, site="diam"), gone("A", site="sehat"), value("B", 1, job="prometheus")),
        "Lama membaca tiap kantor": every(above("A", RTT, site="jauh"), below("A", RTT_AFTER, site="jauh")),
        "Kiriman yang diterima dan yang menunggu": every(above("A", 0, site="kirim", lane="live"), some("B")),
        "Kiriman menurut hasil": every(above("A", 0, outcome="ok"), value("A", 0, outcome="network")),
        "Pemakaian data untuk kiriman": above("A", 0, site="kirim"),
        "Buku besar: angka yang tidak akan sampai": every(value("A", 0, site="kirim", name="Arsip", reason="power_cut")),
        "Simpanan di kotak yang belum terkirim": every(row("A", site="kirim"), value("C", 0, site="kirim")),
        "Waktu menghitung aturan": every(row("A", rule_group="site"), above("A", 0)),
        "Aturan yang gagal, angka yang ditolak": every(value("A", 0), some()),
        "Deret di pusat": value("A", stored_series),
        "Pesan yang dikirim Alertmanager": every(
            value("A", messages_a_minute, integration="webhook"), above("A", 0, integration="webhook"),
        ),
        "Peringatan yang tidak sampai ke Alertmanager": every(value("A", 0), value("B", 0)),
        "Kalender masih berlaku": value("A", days_left),
    },
    "ronda-security": {
        "Kejadian keamanan terbuka": within("A", 1, 1, severity=frozenset({"critical", "warning"})),
        "Catatan kecil": within("A", 1, 1, grade=frozenset({"low", "info"})),
        "Cakupan pendeteksi tiap kantor": value("A", 0, site="sehat", detector="arp_poisoning"),
        "Temuan dalam sehari menurut tingkat": within("A", 0, 1000, grade=frozenset(GRADES)),
        "Temuan yang ditahan": within("A", 0, 1e6, rule=RULES),
        "Pendeteksi yang masih belajar": row("A", site="sehat", detector="new_device"),
        "Paket yang tidak terbaca": within("A", 0, 1),
        "Perangkat di jaringan": within("A", 0, 1e4, **{"class": frozenset({"known", "new", "mobile", "quiet"})}),
    },
}  # fmt: skip

# The far wire is longer, the leak is a cut, a cable is loose; certificate, code, heat and secrets are not as they were (World.worsen).
WORSE: Expected = {
    "ronda-fleet": {
        "Peta kantor": value("A", DOWN, site="bocor"),
        "Yang terburuk dulu": every(
            value("A", DOWN, site="bocor"), row("C", site="bocor", cause="isp"), recent("B", 120, site="bocor"),
        ),
        "Gangguan terbuka": every(row("A", alertname="SiteDown", site="bocor"), recent("B", 120, alertname="SiteDown", site="bocor")),
        "Mutu jaringan per kecamatan": every(
            above("C", 0, district="Selatan"), above("D", 1.1 * RTT, district="Tengah"), above("E", 0.01, district="Tengah"),
            above("F", 1.1 * LOSS, district="Selatan"), value("B", 0, district="Selatan"),
        ),
    },
    "ronda-site": {
        "Waktu balasan rata-rata per jalur": above("A", 1.1 * RTT, uplink="isp-b"),
        "Bagian balasan yang lambat per jalur": above("A", 0.01, uplink="isp-b"),
        "Ping yang hilang per sasaran": every(above("A", 1.1 * LOSS, task="anchor-3"), value("A", 0, task="gateway")),
        "Waktu balasan rata-rata per sasaran": above("A", 1.1 * RTT, task="gateway"),
        "Naik-turunnya waktu balasan": above("A", 0.008, task="anchor-1"),
        "Lama membuka layanan": above("A", 2 * RTT_AFTER, task="siak"),
        "Waktu jawab DNS": above("A", RTT_AFTER, task="resolver"),
        "Kabel dan WiFi kotak Ronda": every(value("A", 0, device="lan1"), value("A", 1, device="lan0")),
        "Lalu lintas kotak Ronda": every(value("A", 2 * BYTES, device="lan1"), value("B", 2 * BYTES, device="lan1")),
        "Galat di kabel": value("A", 2 * ERRORS, device="lan1"),
        "Suhu kotak": value("A", HEAT_AFTER),
        "Kejadian yang dicatat kotak": above("A", 0, kind="link_down"),
    },
    "ronda-uplinks": {
        "Penyedia, yang terburuk dulu": every(
            above("B", 1.1 * RTT, isp_name="ISP B"), above("C", 0.01, isp_name="ISP B"), above("D", 1.1 * LOSS, isp_name="ISP C"),
        ),
        "Waktu balasan rata-rata per penyedia": above("A", 1.1 * RTT, isp_name="ISP B"),
        "Ping yang hilang per penyedia": above("A", 1.1 * LOSS, isp_name="ISP C"),
        "Waktu balasan rata-rata per jenis jalur": above("A", 1.1 * RTT, medium="vsat"),
        "Semua jalur, yang terburuk dulu": every(above("B", 1.1 * RTT, site="jauh"), above("D", 1.1 * LOSS, site="bocor")),
        "Sebaran waktu balasan": slower("0.35", slow=True),
    },
    "ronda-services": {
        "Sertifikat: sisa hari": value("A", DAYS_AFTER, task="sertifikat", scope="leaf"),
        "Sertifikat: sah atau tidak": every(value("A", 0, task="sertifikat"), row("B", task="sertifikat")),
        "Ke mana waktunya pergi": every(above("B", RTT_AFTER - 0.001), above("D", RTT_AFTER - 0.001)),
        "Kode jawaban": value("A", 503, task="kode"),
        "Kegagalan per menit menurut sebab": above("A", 0, reason="status"),
        "Waktu jawab DNS": above("A", RTT_AFTER, site="jauh"),
    },
    "ronda-monitoring": {
        "Tidak terpantau": row("A", site="sehat", task="rahasia", kind="http"),
        "Jumlah deret per kantor": every(value("A", agent_series, site="sehat"), less("A", site="sehat")),
        "Keterlambatan agen": more("A", 2, site="sehat"),
        "Lama membaca tiap kantor": above("A", RTT_AFTER, site="jauh"),
    },
}  # fmt: skip
# The web server and the resolver are dead (World.kill), and the office whose wire is cut is missed.
DEAD: Expected = {
    "ronda-site": {
        "Layanan": value("A", 0, task="siak"),
        "DNS menjawab": value("A", 0, task="resolver"),
        "Sebab": value("A", CAUSE_CODES["dns"]),
        "Gangguan terbuka": row("A", alertname="DnsResolverDown", task="resolver"),
    },
    "ronda-services": {
        "Layanan bersama: tak bisa dibuka dari berapa kantor": value("B", 2, name="SIAK"),
        "Yang gagal sekarang dan mengapa": every(
            row("A", task="siak", reason="refused"), row("A", site="jauh", task="resolver", kind="dns"),
        ),
        "Bisa dipakai atau tidak": every(value("A", 0, site="sehat", task="siak"), value("A", 0, site="jauh", task="resolver")),
    },
    "ronda-monitoring": {
        "Tanda hidup terakhir tiap kantor": above("C", 1, site="kirim"),
        "Peringatan yang sedang dikirim": row("A", alertname="SiteDown", site="bocor", alertstate="firing"),
        "Pesan yang dikirim Alertmanager": every(value("A", messages_a_minute, integration="webhook"), more("A", integration="webhook")),
        "Deret di pusat": every(value("A", stored_series), more("A")),
    },
}  # fmt: skip
# The cut wire is whole again; an agent has ended, and so has Alertmanager (World.heal).
HEALED: Expected = {
    "ronda-fleet": {
        "Berapa kantor, menurut keadaan": every(value("A", 1), value("B", 2)),
        "Jumlah kantor menurut keadaan, dari waktu ke waktu": every(value("E", 2), value("F", 1)),
        "Yang terburuk dulu": value("A", SILENT, site="sehat"),
        "Yang berubah sejak kemarin": every(value("A", SILENT, site="sehat"), gone("A", site="bocor")),
    },
    "ronda-site": {"Keadaan": value("A", SILENT)},
    "ronda-monitoring": {
        "Tanda hidup terakhir tiap kantor": every(above("C", 1, site="sehat"), below("C", 1, site="kirim")),
        "Kantor yang dibaca pusat": value("A", 0, site="sehat"),
        "Kiriman yang diterima dan yang menunggu": more("A", site="kirim", lane="live"),
        "Kiriman menurut hasil": above("A", 0, outcome="network"),
        "Pemakaian data untuk kiriman": more("A", site="kirim"),
        "Simpanan di kotak yang belum terkirim": more("A", site="kirim"),
        "Peringatan yang tidak sampai ke Alertmanager": above("B", 0),
    },
}  # fmt: skip
# The power of the box that pushes was cut (World.cut_power).
POWERLESS: Expected = {
    "ronda-monitoring": {"Buku besar: angka yang tidak akan sampai": above("A", 0, site="kirim", reason="power_cut")},
}
STAGES: Mapping[str, Expected] = {"worsen": WORSE, "kill": DEAD, "heal": HEALED, "cut_power": POWERLESS}

# Why no cut changes what is plotted: such a panel must plot at the end what it did before.
_NO_ATTACK = "cuts and slow wires are no attack: what detectors find is tried in tests/detect and tests/central"
UNCHANGED: Mapping[str, Mapping[str, str]] = {
    "ronda-security": {
        **dict.fromkeys(
            (
                "Kejadian keamanan terbuka",
                "Catatan kecil",
                "Temuan dalam sehari menurut tingkat",
                "Temuan yang ditahan",
                "Perangkat di jaringan",
            ),
            _NO_ATTACK,
        ),
        "Cakupan pendeteksi tiap kantor": "what a box may see does not hang on what works; ARP poisoning needs the router's table",
        "Pendeteksi yang masih belajar": "two weeks of learning are longer than the test",
        "Paket yang tidak terbaca": "no fault of the lab floods a wire",
    },
    "ronda-site": {
        "Data kantor": "it is the inventory's, and the inventory does not change",
        "Jam buka dan pemeliharaan": "the calendar and the planned work go by the time, not by what works",
        "Jalur internet dan penyedianya": "it is the contract, which holds while the line is cut",
        "Prosesor, memori, dan penyimpanan kotak": "they are the machine's that the tests run on: what fills it up would stop others' work",
        "Lama hidup kotak": "only a boot of the machine that the tests run on sets it back",
    },
    "ronda-monitoring": {
        "Selisih jam kotak": "all machines of the lab have one wall clock: Linux gives no namespace another",
        "Versi agen": "an agent that has ended is counted for 11 minutes more, as one that speaks every 300 s has to be",
        "Memori agen": "what an agent needs does not hang on what it finds",
        "Waktu menghitung aturan": "the same rules run over the same offices, whatever state these are in",
        "Aturan yang gagal, angka yang ditolak": "no fault of an office may make a rule fail or a sample be refused",
        "Kalender masih berlaku": "the calendar's end comes nearer by itself only",
    },
}


def judged(check: Check, seen: Seen) -> str:
    """What is wrong; empty: nothing."""
    try:
        check(seen)
    except AssertionError as e:
        return str(e) or "not as it should be"
    return ""


class Reader:
    """The dashboards as one who looks at them: each panel's answers now."""

    def __init__(self, world: World, files: Mapping[str, str]) -> None:
        self.world, self.queries = world, list(queries(files))
        self.before: dict[Place, Answers] = {}

    def answers(self, uid: str, title: str) -> Answers:
        chosen = {"site": "sehat" if uid == "ronda-site" else ".*", **CHOSEN.get((uid, title), {})}
        return {p.ref: ask(self.world.world, filled(expr, **chosen)) for p, expr in self.queries if (p.uid, p.title) == (uid, title)}

    def wrong(self, expected: Expected) -> dict[Place, str]:
        """Which panels are not as they should be, and why."""
        found = {(uid, title): self._judge(uid, title, check) for uid, of_board in expected.items() for title, check in of_board.items()}
        return {place: said for place, said in found.items() if said}

    def _judge(self, uid: str, title: str, check: Check) -> str:
        now = self.answers(uid, title)
        return judged(check, Seen(now, self.before.get((uid, title), now), self.world))

    def already(self, expected: Expected) -> set[Place]:
        """Which panels plotted that before the first fault."""
        before = {(uid, title): (self.before[uid, title], check) for uid, of_board in expected.items() for title, check in of_board.items()}
        return {place for place, (seen, check) in before.items() if not judged(check, Seen(seen, seen, self.world))}

    def until(self, stage: str, expected: Expected, seconds: float) -> None:
        """Waits until each panel has plotted what is expected; not all at one moment, for the machine's own figures move."""
        began, left, said = time.monotonic(), dict(expected), {}

        def done() -> bool:
            nonlocal left, said
            said = self.wrong(left)
            left = {uid: {t: check for t, check in of_board.items() if (uid, t) in said} for uid, of_board in left.items()}
            return not said

        try:
            until(done, seconds, f"{stage}: every panel plots what was injected", every=1)
        except AssertionError as e:
            raise AssertionError("\n".join([str(e), *(f"{uid}/{title}: {why}" for (uid, title), why in said.items())])) from None
        print(f"{stage}: {time.monotonic() - began:.0f} s")

    def remember(self) -> None:
        """What all panels plot before the first fault."""
        self.before = {place: self.answers(*place) for place in _places(BEFORE)}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path / "lab") as made, made.hook.serving(made.world):
        yield made


def test_each_panel_has_an_expectation_and_a_change_or_a_reason_for_none() -> None:
    have = {(d.uid, p["title"]) for d in DASHBOARDS if d.uid not in OF_DEVICES for p in panels(d.json("Asia/Jakarta"))}
    changed = set[Place]().union(*map(_places, STAGES.values()))
    unchanged = _places(UNCHANGED)
    assert _places(BEFORE) == have
    assert changed | unchanged == have
    assert changed & unchanged == set()


def test_what_is_expected_after_a_fault_is_not_what_was_there_before(world: World) -> None:
    """Every panel plots what is injected; each fault changes it; what no fault changes is as it was."""
    reader = Reader(world, world.start())
    reader.until("before", BEFORE, 150)
    reader.remember()
    assert set[Place]().union(*map(reader.already, STAGES.values())) == set(), "what is to be changed is so already"
    for stage, expected in STAGES.items():
        getattr(world, stage)()
        reader.until(stage, expected, 100)
    reader.until("unchanged", {uid: {t: BEFORE[uid][t] for t in of_board} for uid, of_board in UNCHANGED.items()}, 20)


def _places(expected: Mapping[str, Mapping[str, object]]) -> set[Place]:
    return {(uid, title) for uid, of_board in expected.items() for title in of_board}
