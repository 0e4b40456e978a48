"""The admin's page: what it says of each state, in both languages; bounded, escaped, and drawn."""

import asyncio
import dataclasses
import html.parser
import re

import pytest

from agent import svg, texts
from agent.collector import REASONS
from agent.diagnosis import CAUSES, SITE_STATES, Verdict
from agent.model import Concern, Fact
from agent.pages import render
from collectors import KINDS
from tests.site import NOW, FakeSite, cut_off, devices, many, status, with_history

EVIL = "<script>alert(1)</script>\"><img src=http://evil.example/x onerror=alert(1)>'&"


def page(site=None, lang="id", now=NOW) -> str:
    return asyncio.run(render(site or FakeSite(), lang, now)).decode()


class Tags(html.parser.HTMLParser):
    """Every tag with its attributes, the text without tags, and whether all that was opened was closed."""

    VOID = ("meta", "link", "path", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("lang", ["id", "en"])
def test_the_page_is_well_formed_and_loads_nothing(lang):
    found = Tags(page(FakeSite(held=cut_off(), problems=["a", "b"]), lang))
    assert found.open == []
    names = {tag for tag, _ in found.tags}
    assert not names & {"script", "img", "iframe", "object", "form", "base"}
    addresses = [v for _, attrs in found.tags for k, v in attrs.items() if k in ("src", "href", "action", "srcset")]
    assert all(a.startswith(("/", "data:,")) and not a.startswith("//") for a in addresses)
    assert not any(k.startswith("on") or k == "style" for _, attrs in found.tags for k in attrs)
    assert "url(" not in page()


def test_everything_from_outside_is_escaped():
    tasks = [status(EVIL, EVIL, "down", target=EVIL, reason=EVIL, detail=EVIL, text=EVIL, labels={"role": EVIL})]
    held = Verdict("down", "isp", "certain", NOW, EVIL, (EVIL,))
    for lang in ("id", "en"):
        text = page(FakeSite(name=EVIL, title=EVIL, version=EVIL, problems=[EVIL], tasks=tasks, held=held), lang)
        assert "<script" not in text
        assert "<img" not in text
        assert Tags(text).open == []
        assert Tags(text).text.count("<script>alert(1)</script>") >= 8


def test_surrogates_in_a_text_do_not_break_the_page():
    assert "?" in page(FakeSite(tasks=[status("x", "icmp", "down", target="a\udcffb", reason="timeout")]))


def test_the_verdict_in_a_sentence():
    text = Tags(page(FakeSite(held=cut_off()))).text
    assert "Keadaan sekarang: putus" in text
    assert "Sebab: gangguan penyedia internet (pasti)" in text
    assert "Sejak 02.04 WIB (3 mnt)" in text
    assert "RSU-1124-0207" in text
    assert "0/3 jangkar internet menjawab" in text
    english = Tags(page(FakeSite(held=cut_off()), "en")).text
    assert "State now: cut off" in english
    assert "Since 02:04 WIB (3 min)" in english


def test_a_box_that_knows_nothing_does_not_say_fine():
    text = Tags(page(FakeSite(held=Verdict("ok", "unknown"), tasks=[]))).text
    assert "Keadaan sekarang: belum diketahui" in text
    assert "Belum ada yang dipantau." in text
    assert "Sejak" not in text


def test_every_state_has_a_shape_and_a_word_of_its_own():
    text = page()
    for mark in texts.TASK_STATES.values():
        assert f"{mark.shape}</i> {mark.word.id}</span>" in text
    assert len({m.shape for m in texts.TASK_STATES.values()}) == len(texts.TASK_STATES)


def test_worst_stands_first():
    text = page()
    assert text.index("198.51.100.7") < text.index("203.0.113.10")
    kinds = re.findall(r"<h3>([^<]*?) <span", text)
    assert kinds[0].startswith("Situs dan aplikasi")
    assert kinds[-1] == "Kotak Ronda"


def test_values_ages_and_reasons_in_words():
    text = Tags(page()).text
    assert "0,45 ms" in text
    assert "dilihat 4 dtk lalu" in text
    assert "tidak ada jawaban pada waktunya · sejak 01.52 WIB (15 mnt)" in text
    assert "503 Service Unavailable, wanted 200" in text
    assert "belum pernah dilihat" in text
    assert "△ dilihat 6 mnt lalu, lewat waktunya" in text
    assert "CPU 12 %" in text
    assert "gateway (router kantor)" in text


def test_a_failed_probe_shows_no_latency():
    assert "12,3 ms" not in page(FakeSite(tasks=[status("x", "icmp", "down", target="x", reason="refused")]))


def test_the_drawing_says_in_words_what_it_shows():
    title = re.findall(r"<title>(6 jam[^<]*)</title>", page())
    assert "6 jam terakhir: 5 jam 16 mnt baik, 15 mnt mati, 29 mnt tanpa data, tertinggi 20,0 ms" in title


def test_five_hundred_tasks_that_flap_fit_on_the_page():
    tasks = [with_history(status(f"icmp:{i}", "icmp", target=f"198.51.100.{i}"), 359, range(0, 359, 6)) for i in range(500)]
    text = page(FakeSite(tasks=tasks))
    assert len(text.encode()) < 2_000_000
    assert text.count("<svg") > 300
    assert text.count("<li class") == 500


def test_what_does_not_fit_is_counted():
    tasks = [with_history(status(f"http:{i}", "http", "down", target="x" * 200, reason="tls", detail="y" * 500)) for i in range(2000)]
    text = page(FakeSite(tasks=tasks))
    shown = text.count("<li class")
    assert len(text.encode()) < 2_000_000
    assert f"<p>{2000 - shown} lagi tidak ditampilkan" in text


def test_an_open_finding_is_not_green_says_what_since_when_and_what_to_do_and_names_nobody():
    concern = Concern("rogue_dhcp", "critical", NOW - 300)
    lan = status("lan", "lan", text="17 dari 17 mata melihat, 1 temuan", value=None, concerns=(concern,))
    guard = status("guard", "guard", text="12 dari 12 mata melihat", value=None)
    shown = Tags(page(FakeSite(tasks=[guard, lan]))).text
    assert "ada pembagi alamat (DHCP) asing (kritis), sejak 02.02 WIB (5 mnt)" in shown
    assert "ronda events --kind rogue_dhcp" in shown
    assert shown.index("KEJADIAN KEAMANAN") < shown.index("✓ BAIK"), "and it stands first"
    assert "0 dari 1 baik" in shown
    assert "an unknown DHCP server (critical)" in page(FakeSite(tasks=[lan]), "en")
    assert "Kejadian keamanan" not in page(FakeSite(tasks=[guard]))
    many = status("lan", "lan", concerns=tuple(Concern("<b>", "high", NOW) for _ in range(500)))
    assert len(page(FakeSite(tasks=[many]))) < 20_000
    assert "&lt;b&gt;" in page(FakeSite(tasks=[many]))


def items(text: str) -> list[str]:
    """The text of each task's item."""
    return [Tags(item).text for item in re.findall(r"<li class.*?</li>", text)]


def of(text: str, *words: str) -> str:
    [found] = [item for item in items(text) if all(word in item for word in words)]
    return found


def test_who_a_device_is_which_ports_are_down_and_when_it_was_heard():
    text = page(FakeSite(tasks=devices()))
    router = of(text, "RB750Gr3")
    assert "Nama router-dukcapil Versi 7.12.1 No. seri HEX0812AB Menyala 12 hari Dibaca dengan arp, bridge," in router
    assert "Log terakhir 2 mnt lalu" in router
    assert router.count("RB750Gr3") == 1, "its line says it already"
    switch = of(text, "SG2428P")
    assert "Port mati gigabitEthernet 1/0/3, gigabitEthernet 1/0/17 +2 Angka tidak muat 23" in switch
    assert "Log terakhir belum ada sejak Ronda dinyalakan" in switch
    assert "router 2 mnt lalu switch-1 belum ada sejak Ronda dinyalakan" in of(text, "1 dari 2 perangkat terdengar")
    assert "ups 4 hari lalu" in of(text, "1 kabar")
    english = page(FakeSite(tasks=devices()), "en")
    assert "Ports down" in of(english, "SG2428P")
    assert "Last log 2 min ago" in of(english, "RB750Gr3")


def test_of_a_silent_device_it_says_who_it_is_and_nothing_that_was():
    ups = of(page(FakeSite(tasks=devices())), "192.0.2.5", "MATI")
    assert "Model Smart-UPS 1500 No. seri AS0812 Trap terakhir 4 hari lalu" in ups
    assert "Menyala" not in ups
    assert "Angka tidak muat" not in ups


def test_what_a_device_says_of_itself_is_escaped_and_bounded():
    facts = tuple(Fact(key, EVIL * 200, 1.0) for key in texts.FACTS for _ in range(9))
    text = page(FakeSite(tasks=[status("x", "snmp", reached=True, facts=facts)]))
    assert "<script" not in text
    assert Tags(text).open == []
    assert len(text) < len(page(FakeSite(tasks=[]))) + 20_000


def test_a_device_weighs_little():
    plain = page(FakeSite(tasks=many()))
    added = len(page(FakeSite(tasks=[*many(), *devices()]))) - len(plain)
    assert added < 8_000, "five of them, one with a picture"


def test_problems_are_shown_and_bounded():
    text = Tags(page(FakeSite(problems=[f"masalah {i}" for i in range(30)]))).text
    assert "masalah 0" in text
    assert "+10" in text


@pytest.mark.parametrize("now", [0.0, 1e9, NOW - 1e6, NOW + 1e9])
def test_a_clock_that_jumped_breaks_nothing(now):
    assert Tags(page(FakeSite(held=cut_off()), now=now)).open == []


# -- texts --------------------------------------------------------------------------------------------------------------------


def test_every_state_reason_cause_and_kind_has_words_in_both_languages():
    assert set(texts.REASONS) == set(REASONS)
    assert set(texts.CAUSES) == set(CAUSES)
    assert set(texts.SITE_STATES) == set(SITE_STATES)
    assert set(texts.KINDS) >= set(KINDS)
    for text in (*texts.REASONS.values(), *texts.KINDS.values(), *texts.PAGE.values(), *texts.FACTS.values(), *texts.LAN.values()):
        assert text.id
        assert text.en


@pytest.mark.parametrize(
    ("asked", "accept", "lang"),
    [
        ("", "", "id"),
        ("en", "id", "en"),
        ("id", "en-US,en;q=0.9", "id"),
        ("", "en-US,en;q=0.9,id;q=0.8", "en"),
        ("", "in-ID", "id"),
        ("", "de,en;q=0.5", "en"),
        ("", "zh", "id"),
        ("<script>", "", "id"),
    ],
)
def test_the_language(asked, accept, lang):
    assert texts.language(asked, accept) == lang


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0,00 ms"),
        (0.0000123, "0,012 ms"),
        (0.00045, "0,45 ms"),
        (0.0123, "12,3 ms"),
        (0.123456, "123 ms"),
        (0.9999, "1,00 dtk"),
        (1.25, "1,25 dtk"),
        (12.345, "12,3 dtk"),
    ],
)
def test_durations(value, shown):
    assert texts.seconds(value, "id") == shown


@pytest.mark.parametrize(
    ("elapsed", "shown"),
    [(-5, "0 dtk"), (0.4, "0 dtk"), (59.9, "59 dtk"), (61, "1 mnt"), (7500, "2 jam 5 mnt"), (7200, "2 jam"), (400000, "4 hari")],
)
def test_ages(elapsed, shown):
    assert texts.age(elapsed, "id") == shown


@pytest.mark.parametrize(
    ("zone", "shown"),
    [("Asia/Jakarta", "02.07 WIB"), ("Asia/Makassar", "03.07 WITA"), ("Asia/Jayapura", "04.07 WIT"), ("Asia/Pontianak", "02.07 WIB")],
)
def test_times_in_the_sites_zone(zone, shown):
    assert texts.clock_time(NOW, NOW, zone, "id") == shown


def test_times_of_other_days():
    assert texts.clock_time(NOW - 86400, NOW, "Asia/Jakarta", "id") == "23 Nov 02.07 WIB"
    assert texts.clock_time(NOW - 370 * 86400, NOW, "Asia/Jakarta", "en") == "19 Nov 2025 02:07 WIB"
    assert texts.clock_time(100.0, NOW, "Asia/Jakarta", "id") == ""


# -- drawing ------------------------------------------------------------------------------------------------------------------


def test_cells_keep_the_worst_state_and_the_highest_value():
    points = [(5, "", None), (4, "ok", 0.01), (3, "ok", 0.02), (2, "ok", 0.03), (1, "down", None), (0, "blind", None)]
    made, sums = svg.cells(points)
    assert made == [svg.Cell("ok", 0.02), svg.Cell("down", 0.03)]
    assert sums == svg.Summary(ok=3, blind=1, down=1, missing=1, highest=0.03)


def test_the_line_is_broken_where_nothing_was_seen():
    made = [svg.Cell("ok", 1.0), svg.Cell("", None), svg.Cell("ok", 0.5)]
    assert 'd="M0 3h1M2 14h1"' in svg.picture(made, 1.0, "x")


def test_a_title_is_escaped_and_zero_is_drawn():
    shown = svg.picture([svg.Cell("ok", 0.0)], 0.0, "<b>")
    assert "&lt;b&gt;" in shown
    assert 'class="line"' not in shown


def test_what_is_stretched_says_so() -> None:
    slow = status("icmp:1.1.1.1", "icmp", target="1.1.1.1", interval=45.0, stretched=True)

    assert "dijarangkan demi kuota: tiap 45" in Tags(page(FakeSite(tasks=[slow]))).text
    assert "every 45" in Tags(page(FakeSite(tasks=[slow]), "en")).text
    assert "dijarangkan" not in page(FakeSite(tasks=[dataclasses.replace(slow, stretched=False)]))
