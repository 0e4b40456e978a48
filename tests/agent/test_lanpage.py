"""The clerk's page: the right word for each cause, three steps, nothing a clerk should never meet."""

import re

import pytest

from agent import texts
from agent.diagnosis import CAUSES, SITE_STATES, Verdict
from agent.lanpage import Note, render
from tests.site import NOW, FakeSite, cut_off, devices

JARGON = re.compile(
    r"\b(target|endpoint|latency|latensi|packet|paket|inhibit|scrape|gateway|ping|icmp|tcp|http|dns|tls|ip|anchor|jangkar|agent)\b",
    re.IGNORECASE,
)


QUIET = Note()


def page(held: Verdict, note: Note = QUIET, **more) -> str:
    return render(FakeSite(held=held, **more), NOW, note)


def plain(text: str) -> str:
    return re.sub(r"<style>.*?</style>|<[^>]+>", " ", text, flags=re.DOTALL)


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_has_plain_words_and_three_steps_in_both_languages(cause):
    text = page(cut_off(cause))
    assert text.count("<li>") == 3
    held = texts.CAUSES[cause]
    for said in (held.plain, *held.steps):
        assert all(word.strip() for word in said)
    assert not JARGON.search(plain(text)), JARGON.findall(plain(text))


@pytest.mark.parametrize("state", SITE_STATES)
def test_every_state_has_a_headline(state):
    head = texts.headline(state, "unknown")
    assert head.word.id == head.word.id.upper()
    assert head.shape


@pytest.mark.parametrize(
    ("state", "cause", "said"),
    [
        ("ok", "ok", "BAIK"),
        ("ok", "unknown", "BELUM DIKETAHUI"),
        ("degraded", "saturated", "LAMBAT"),
        ("degraded", "dns", "TERGANGGU"),
        ("degraded", "service", "BAIK"),
        ("down", "isp", "PUTUS"),
        ("down", "link", "PUTUS"),
        ("nonsense", "nonsense", "BELUM DIKETAHUI"),
    ],
)
def test_what_the_clerk_reads_first(state, cause, said):
    assert f"<strong>{said}</strong>" in page(Verdict(state, cause, "certain", NOW - 60))


def test_a_dead_application_is_not_green():
    text = page(cut_off("service", "degraded"))
    assert '<main class="warn">' in text
    assert "tetapi ada aplikasi yang mati" in text


def test_incident_since_and_phone_are_there():
    text = page(cut_off())
    assert "RSU-1124-0207" in text
    assert "Sejak 02.04 WIB (3 mnt)" in text
    assert 'href="tel:0624000000"' in text
    assert ">0624-000000<" in text


def test_evidence_and_devices_are_not_shown():
    text = page(cut_off(), tasks=devices())
    assert not re.search("RB750|router-dukcapil|switch-1|Port mati|SNMP|192", text)
    assert "jangkar" not in text
    assert "203.0.113.10" not in text


def test_without_a_phone_or_an_incident_there_is_no_empty_box():
    text = page(Verdict("ok", "ok", "certain", 0.0), phone="")
    assert "tel:" not in text
    assert "Nomor gangguan" not in text
    assert "Sejak" not in text


def test_a_likely_cause_says_so():
    assert "belum pasti" in page(Verdict("down", "isp", "likely", NOW, "X-1"))
    assert "belum pasti" not in page(cut_off())


def test_the_note_after_the_button():
    assert "Sedang diperiksa" in page(cut_off(), Note(checking=True))
    assert 'content="4; url=/"' in page(cut_off(), Note(checking=True))
    assert "coba lagi dalam 7 detik" in page(cut_off(), Note(wait=7))


@pytest.mark.parametrize(
    ("query", "note"),
    [
        ({}, Note()),
        ({"periksa": "ya"}, Note(True, 0)),
        ({"tunggu": "7"}, Note(False, 7)),
        ({"tunggu": "99"}, Note(False, 60)),
        ({"tunggu": "-1"}, Note()),
        ({"tunggu": "<script>"}, Note()),
        ({"tunggu": "٣"}, Note()),
        ({"periksa": "<script>"}, Note()),
    ],
)
def test_notes_come_from_few_words_only(query, note):
    assert Note.of(query) == note


def test_what_a_config_says_is_escaped():
    evil = '<script>alert(1)</script>"&'
    text = page(Verdict("down", "isp", "certain", NOW, evil), title=evil, phone=evil)
    assert "<script" not in text
