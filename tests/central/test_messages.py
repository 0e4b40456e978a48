"""The messages, as they arrive from a real Alertmanager: each kind is a golden file. GOLDEN=write pytest … writes them anew.

A golden .html is the very text that Telegram is sent, a .txt or .mail what a mail shows, a .json what a webhook says.
"""

import functools
import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from email.message import EmailMessage
from pathlib import Path

import pytest

from central import prometheus, rules, yamltext
from tests.central.alertbench import BEGAN, ENDED, INVENTORY, alert, bench
from tests.central.alertbench import Bench as Centre
from tests.central.promtest import Bench, inventory

GOLDEN = Path(__file__).parents[1] / "golden/messages"
pytestmark = [pytest.mark.needs("prometheus-alertmanager"), pytest.mark.usefixtures("by_rules")]

SINCE = {"incident": "RSU-1124-0207", "since": "02.07 WIB"}
SITE_DOWN = {
    **SINCE,
    "summary": "putus internet (kedua jalur)",
    "cause": "gangguan penyedia internet, ISP A dan ISP B (pasti)",
    "evidence": "kabel atau WiFi tersambung, router hidup; 0/6 jangkar menjawab",
    "impact": "SIMRS, P-Care BPJS",
    "action": "1) lapor ISP A & ISP B  2) kabari piket RSUD",
    "description": "Kantor ini tidak terdengar lagi.\nThe centre does not hear this office any more.",
}


@pytest.fixture(scope="module")
def centre(tmp_path_factory, each_version):
    with bench(tmp_path_factory.mktemp("alertmanager"), target=each_version) as made:
        yield made


Made = dict[str, Future[dict]]


@pytest.fixture(scope="module")
def by_rules(each_version, tmp_path_factory) -> Iterator[Made]:
    """The alerts that the rendered rules make, by promtool: a day takes it seconds, so it begins while other tests wait."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {name: pool.submit(make, tmp_path_factory.mktemp(name)) for name, make in MAKERS.items()}
        pool.shutdown(cancel_futures=True)


def golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert path.exists(), f"no {name} yet: GOLDEN=write python -m pytest {Path(__file__).name}"
    assert text == path.read_text()


def first_line(text: str) -> str:
    return re.sub("<[^>]*>", "", text.splitlines()[0]).replace("&amp;", "&")


def the_mail(centre: Centre, subject: str) -> EmailMessage:
    centre.until(lambda: any(m["Subject"] == subject for m in centre.mails), f"a mail: {subject}")
    return next(m for m in centre.mails if m["Subject"] == subject)


def body_of(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return part.get_content().replace("\r\n", "\n")


def told_by_webhook(centre: Centre, audience: str) -> set[str]:
    return {h.body["commonLabels"]["alertname"] for h in centre.inbox.hooks(audience)}


def test_an_office_that_is_down(centre: Centre):
    centre.post(alert("SiteDown", "rsud", **{"class": "24-jam"}, district="Rantau Selatan", notes=SITE_DOWN))

    golden("site-down.html", centre.message("ops", "GAWAT · RSUD"))
    mail = the_mail(centre, "GAWAT · RSUD Rantauprapat: putus internet (kedua jalur)")
    assert mail["To"] == "piket@example.go.id, kabid@example.go.id"
    golden("site-down.mail.txt", body_of(mail, "plain"))
    golden("site-down.mail.html", body_of(mail, "html"))
    centre.post(
        alert("SiteDown", "rsud", **{"class": "24-jam"}, district="Rantau Selatan", notes={**SITE_DOWN, "lasted": "34m 20s"}, ended=ENDED)
    )
    golden("site-down-resolved.html", centre.message("ops", "PULIH · RSUD Rantauprapat: putus"))


@pytest.mark.parametrize(
    ("lasted", "said"),
    [("45.5s", "kurang dari 1 mnt"), ("1m 0s", "1 mnt"), ("1h 34m 5s", "1 jam 34 mnt"), ("1d 1h 0m 0s", "1 hari 1 jam")],
)
def test_the_end_says_how_long_the_outage_was(centre: Centre, lasted, said):
    """As Prometheus writes it, of the outage: Alertmanager itself knows only since when it was told."""
    name, notes = "L" + re.sub(r"\W", "", lasted), {**SINCE, "summary": f"selama {lasted}", "lasted": lasted}
    centre.post(alert(name, "rsud", notes=notes))
    centre.message("ops", f"selama {lasted}")
    centre.post(alert(name, "rsud", notes=notes, ended=ENDED))

    ended = centre.message("ops", f"PULIH · RSUD Rantauprapat: selama {lasted}")
    assert f"sejak 02.07 WIB · pulih 02.41 WIB ({said})" in ended


def test_a_power_cut_calls_pln_and_no_provider(centre: Centre):
    notes = {"incident": "DKC-1124-1032", "since": "10.32 WIB", "summary": "tanpa kabar", "cause": "listrik padam (mungkin)"}
    centre.post(alert("SiteDown", "dukcapil", **{"class": "layanan"}, district="X", notes=notes))

    text = centre.message("ops", "Pencatatan Sipil: tanpa kabar")
    golden("power.html", text)
    assert "PLN 123" in text
    assert "NOC" not in text


def test_many_offices_of_a_district(centre: Centre):
    notes = {
        "summary": "9 kantor tanpa kabar di Panai Tengah",
        "cause": "listrik padam (mungkin)",
        "action": "1) cek info PLN  2) jangan lapor ISP  3) tunggu",
    }
    centre.post(alert("SitesDown", "pusat", severity="warning", district="Panai Tengah", notes=notes))

    golden("sites-down.html", centre.message("ops", "9 kantor"))


def test_a_provider_is_told_of_its_outage_and_those_on_call_are_told_once(centre: Centre):
    notes = {
        "incident": "GRP-1124-1032",
        "since": "10.32 WIB",
        "summary": "ISP A putus: 9 kantor di 4 kecamatan",
        "cause": "gangguan penyedia internet, ISP A (pasti)",
        "evidence": "9 dari 12 kantor pemakainya putus; 3 kotak di sana terdengar: listrik ada",
        "impact": "Dukcapil, Camat Panai Tengah; 7 desa · 9 pesan jadi 1",
        "action": "1) lapor NOC penyedia sekali untuk semua 2) minta perkiraan selesai 3) kabari kantor: bukan router mereka",
    }
    centre.post(alert("IspDown", "pusat", isp="isp-a", notes=notes))

    text = centre.message("ops", "ISP A putus")
    golden("isp-down.html", text)
    assert "NOC ISP A 021-000100" in text
    centre.until(lambda: "IspDown" in told_by_webhook(centre, "isp"), "the provider is told")


def test_an_application(centre: Centre):
    notes = {"summary": "SIAK tidak bisa dibuka dari 38 kantor", "cause": "aplikasi mati, internet baik (pasti)"}
    centre.post(alert("SharedServiceDown", "pusat", severity="warning", service="siak", notes=notes))

    golden("shared-service-down.html", centre.message("ops", "38 kantor"))


def test_one_of_two_uplinks_in_another_time_zone(centre: Centre):
    notes = {"summary": "jalur ISP B putus, jalur lain jalan"}
    centre.post(alert("UplinkDown", "bunaken", severity="warning", uplink="isp-b", **{"class": "kantor"}, notes=notes))

    text = centre.message("ops", "jalur ISP B putus")
    golden("uplink-down.html", text)
    assert "sejak 03.07 WITA" in text


def test_several_alerts_of_one_name_are_one_message(centre: Centre):
    def one(task: str, ended: str = ""):
        notes = {**SINCE, "summary": f"printer {task} tidak menjawab", "action": "1) periksa listrik dan kabel"}
        return alert("IcmpTargetDown", "rsud", task=task, **{"class": "24-jam"}, notes=notes, ended=ended)

    centre.post(*(one(f"lantai-{n}") for n in range(1, 10)))

    golden("several.html", centre.message("ops", "(+8 lagi)"))
    centre.post(one("lantai-1", ended=ENDED))
    golden("several-one-over.html", centre.message("ops", "Sudah pulih: printer lantai-1"))
    centre.post(*(one(f"lantai-{n}", ended=ENDED) for n in range(2, 10)))
    golden("several-resolved.html", centre.message("ops", "PULIH · RSUD Rantauprapat: printer"))


def test_security_is_told_to_the_csirt_and_to_others_only_that_it_happened(centre: Centre):
    notes = {
        "incident": "RSU-1124-0915",
        "since": "09.15 WIB",
        "summary": "ada pembagi alamat (DHCP) asing",
        "cause": "router WiFi pribadi terpasang (mungkin); bisa juga serangan",
        "evidence": "2 server menjawab, 3 dari 3 uji; perangkat P-7F3A, switch port 11",
        "action": "1) foto & catat port 11  2) cabut kabelnya  3) 'Tahan bukti'",
    }
    about = {"audience": "csirt", "class": "24-jam", "rule": "rogue_dhcp"}
    centre.post(alert("DhcpRogue", "rsud", **about, notes=notes))

    golden("security-csirt.html", centre.message("csirt", "DHCP"))
    golden("security-others.html", centre.message("ops", "kejadian keamanan"))
    centre.post(alert("DhcpRogue", "rsud", **about, notes=notes, ended=ENDED))
    golden("security-others-resolved.html", centre.message("ops", "REDA · RSUD Rantauprapat: kejadian"))
    over = centre.message("csirt", "REDA · RSUD Rantauprapat: ada pembagi alamat")
    assert over.splitlines()[1].startswith("RSU-1124-0915 · sejak 09.15 WIB · tidak terlihat lagi 02.41 WIB"), "which isn't: mended"
    said = json.dumps([h.body for h in centre.inbox.hooks("ops")]) + "".join(centre.texts("ops")) + "".join(map(str, centre.mails))
    assert "DHCP" not in said
    assert "P-7F3A" not in said
    assert "Dhcp" not in said


FOUND = {  # rule, grade, from and until which minute after 07:00 WIB, and at which minute it is told
    "finding-critical": ("rogue_dhcp", "critical", 5, "10m"),  # at night
    "finding-high-at-opening": ("tripwire", "high", 6, "30m"),  # told when the office opens at 07:30
    "finding-medium": ("port_scan", "medium", 32, "35m"),
    "finding-of-the-box": ("firewall_off", "high", 34, "36m"),
}
SPOKEN = {"rogue_dhcp": "RogueDhcp", "tripwire": "TripwireTouched", "port_scan": "PortScan", "firewall_off": "FirewallOff"}
SECOND = {"port_scan": ".0025"}  # the box has given the id of that minute to another finding already


def finding(folder: Path, rule: str, grade: str, since: int, told: str) -> dict:
    """The alert at Dukcapil as the rendered rules make it of what its box tells; it told of it a minute late."""
    facts = yamltext.dump({"groups": [prometheus.group(inventory(folder, INVENTORY))]})
    files = {"inventory.yaml": facts} | {
        f"{name}.yaml": rules.files()[f"prometheus/rules/{name}.yaml"] for name in ("detect", "lan", "guard")
    }
    labels = f'{{site="dukcapil",instance="dukcapil",job="ronda",rule="{rule}",severity="{grade}"}}'
    series = {
        f"ronda_condition_active{labels}": f"_x{since + 1} 1x60",
        f"ronda_condition_opened_timestamp_seconds{labels}": f"_x{since + 1} {since * 60}{SECOND.get(rule, '')}x60",
    }
    where = '{site="dukcapil",instance="dukcapil",job="ronda",rule="rogue_dhcp",device="switch-1",port="11"}'  # the others' isn't known
    series[f"ronda_condition_where_info{where}"] = f"_x{since + 1} 1x60"
    series['ronda_lan_dhcp_servers{site="dukcapil",instance="dukcapil",job="ronda"}'] = "2x60"
    [[made]] = Bench(folder, files, series, every="1m", sampled="1m").alerts(SPOKEN[rule], told)
    return {"labels": made.labels, "annotations": made.annotations, "startsAt": BEGAN}


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("name", FOUND)
def test_a_finding_is_told_to_the_csirt_in_eight_lines(centre: Centre, by_rules: Made, name):
    rule, _, since, _ = FOUND[name]
    made = by_rules[name].result()
    centre.post(made)

    text = centre.message("csirt", made["annotations"]["incident"])
    golden(f"{name}.html", text)
    assert len(text.splitlines()) <= 8
    assert len(first_line(text)) <= 90
    second = "-2" if rule in SECOND else ""
    assert made["annotations"]["incident"] == f"DKC-0101-{7 + since // 60:02}{since % 60:02}{second}", "the id that the box gave it"
    notice = centre.message("ops", made["annotations"]["incident"])
    assert made["annotations"]["summary"] not in notice


def security_digest(folder: Path) -> dict:
    facts = yamltext.dump({"groups": [prometheus.group(inventory(folder, INVENTORY))]})
    files = {"inventory.yaml": facts, "detect.yaml": rules.files()["prometheus/rules/detect.yaml"]}
    series = {
        f'ronda_condition_active{{site="{site}",instance="{site}",job="ronda",rule="{rule}",severity="{grade}"}}': "1x1500"
        for site, rule, grade in (("rsud", "new_device", "info"), ("dukcapil", "new_device", "low"))
    }
    series['ronda:condition{site="rsud",alertname="RogueDhcp",severity="critical",audience="csirt",hours="always"}'] = "1x1500"
    [[digest]] = Bench(folder, files, series, every="1m", sampled="1m").alerts("SecurityDigest", "1441m")
    return {"labels": digest.labels, "annotations": digest.annotations, "startsAt": BEGAN}


@pytest.mark.needs("promtool")
def test_the_csirt_s_digest_lists_what_nobody_was_woken_for(centre: Centre, by_rules: Made):
    centre.post(by_rules["security_digest"].result())

    golden("security-digest.html", centre.message("csirt", "Ringkasan Keamanan"))
    assert not any("Ringkasan Keamanan" in text for text in (*centre.texts("ops"), *centre.texts("digest")))


VILLAGES = """\
  penggantungan: {name: Kantor Desa Sei Penggantungan, code: DSP, district: Panai Hilir, class: desa, calendar: lima-hari}
  haloban: {name: "Kantor Desa <Tanjung> & Haloban", code: DTH, district: Bilah Hilir, class: desa, calendar: lima-hari}
  inspektorat: {name: Inspektorat, code: INS, district: Rantau Selatan, class: kantor, calendar: lima-hari}
"""
MINUTES = 1440  # of a day


def morning(folder: Path, series: dict[str, str]) -> dict:
    """The digest of the second day at 07:01 WIB, as the rendered rule makes it of what site.yaml has recorded."""
    facts = yamltext.dump({"groups": [prometheus.group(inventory(folder, INVENTORY + VILLAGES))]})
    files = {"inventory.yaml": facts, "centre.yaml": rules.files()["prometheus/rules/centre.yaml"]}
    [[digest]] = Bench(folder, files, series, every="1m", sampled="1m").alerts("MorningDigest", "1441m")
    return {"labels": digest.labels, "annotations": digest.annotations, "startsAt": BEGAN}


def night() -> dict[str, str]:
    """Two villages have been down since 22:14 and since 03:10, one office was for two hours."""

    def down(start: int, end: int) -> str:
        """From and until, in minutes after 07:00."""
        return f"0x{start - 1} 1x{end - start - 1} 0x{MINUTES + 10 - end}"

    def since(start: int) -> str:
        return f"_x{start} {start * 60}x{MINUTES + 10 - start}"

    first, second = 15 * 60 + 14, 20 * 60 + 10
    return {
        'ronda:site_down:bool{site="penggantungan"}': down(first, MINUTES + 5),
        'ronda:site_down:bool{site="haloban"}': down(second, MINUTES + 5),
        'ronda:site_down:bool{site="inspektorat"}': down(17 * 60, 19 * 60),
        'ronda:site_down:bool{site="rsud"}': f"0x{MINUTES + 10}",
        'ronda:site_down_since:timestamp{site="penggantungan"}': since(first),
        'ronda:site_down_since:timestamp{site="haloban"}': since(second),
        'ronda:condition{site="rsud",alertname="HostUnderVoltage"}': f"1x{MINUTES + 10}",
        'ronda:condition{site="dukcapil",alertname="CertificateExpiresSoon",task="siak"}': f"1x{MINUTES + 10}",
        'ronda:condition{site="rsud",alertname="CertificateExpiresSoon",task="siak"}': f"1x{MINUTES + 10}",
    }


QUIET = {'ronda:site_down:bool{site="rsud"}': f"0x{MINUTES + 10}"}
MAKERS: dict[str, Callable[[Path], dict]] = {
    **{name: functools.partial(finding, rule=r, grade=g, since=s, told=t) for name, (r, g, s, t) in FOUND.items()},
    "security_digest": security_digest,
    "night": lambda folder: morning(folder, night()),
    "quiet": lambda folder: morning(folder, QUIET),
}


@pytest.mark.needs("promtool")
def test_the_digest_of_a_night_by_telegram_mail_and_webhook(centre: Centre, by_rules: Made):
    digest = by_rules["night"].result()
    centre.post(digest)

    golden("digest.html", centre.message("digest", "Ringkasan Pagi: 2 kantor putus"))
    mail = the_mail(centre, "Ringkasan Pagi: 2 kantor putus, 1 pulih semalam")
    assert (mail["From"], mail["To"]) == ("ronda@example.go.id", "kabid@example.go.id")
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    golden("digest.mail.txt", body_of(mail, "plain"))
    golden("digest.mail.html", body_of(mail, "html"))
    centre.until(lambda: centre.inbox.hooks("digest"), "the webhook")
    told = centre.inbox.hooks("digest")[0].body
    assert (told["receiver"], told["status"], told["commonAnnotations"]) == ("digest", "firing", digest["annotations"])
    assert not any("Ringkasan" in text for text in centre.texts("ops"))


@pytest.mark.needs("promtool")
def test_the_digest_of_a_quiet_night(centre: Centre, by_rules: Made):
    quiet = by_rules["quiet"].result()
    centre.post({**quiet, "labels": {**quiet["labels"], "alertname": "QuietDigest"}})  # a group of its own

    golden("digest-quiet.html", centre.message("digest", "semua"))


def test_a_long_digest_ends_at_a_line(centre: Centre):
    lines = "\n".join(f"• Kantor Desa {i}: sejak 02.07 WIB" for i in range(200))
    centre.post(alert("LongDigest", "pusat", severity="info", audience="digest", notes={"summary": "panjang", "description": lines}))

    text = centre.message("digest", "panjang")
    assert 2900 < len(text) < 3100
    assert text.endswith(" WIB\n…")


def test_the_watchdog_beats_and_is_told_to_nobody_else(centre: Centre):
    centre.post(alert("Watchdog", "pusat", severity="info"))

    centre.until(lambda: len(centre.inbox.hooks("deadman")) >= 3, "three beats")
    body = centre.inbox.hooks("deadman")[0].body
    assert (body["receiver"], body["status"], body["commonLabels"]["alertname"]) == ("deadman", "firing", "Watchdog")
    assert not any("Watchdog" in t for t in centre.texts("ops"))


def test_an_audience_of_its_own_and_one_that_falls_back_to_ops(centre: Centre):
    centre.post(alert("SlaMissed", "rsud", audience="isp", severity="info", notes={"summary": "di bawah janji"}))
    centre.post(alert("Monthly", "rsud", audience="pimpinan", severity="info", notes={"summary": "laporan bulan siap"}))

    centre.until(lambda: "SlaMissed" in told_by_webhook(centre, "isp"), "the webhook")
    assert first_line(centre.message("ops", "laporan bulan")) == "INFO · RSUD Rantauprapat: laporan bulan siap"
    assert not any("di bawah janji" in t for t in centre.texts("ops"))


# -- hostile ----------------------------------------------------------------------------------------------------------------------

NAMES = {
    "quotes": """Kantor "A" 'B' `C` \\ \\n \\" end""",
    "braces": '{{ .Secret }} }} {{ template "x" . }} {{/* */}}',
    "markup": "<b>Kantor</b> & <script>alert(1)</script> &lt; </b>",
    "emoji": "Kantor 🏥👩‍⚕️ ñ 中文 العربية",
    "long": "Kantor " + "Pelayanan Terpadu " * 10,
    "wall": "x" * 200,
    "dollar": "Kantor $1 ${1} $name %s %!d(MISSING)",
}


def quoted(text: str) -> str:
    return json.dumps(text[:200], ensure_ascii=False)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, each_version):
    sites = "".join(
        f"  {slug}: {{name: {quoted(name)}, code: H{i}, class: 24-jam, contacts: [{{name: {quoted(name)}, phone: '0'}}],"
        f" uplinks: [{{isp: isp-x, medium: fibre, customer: {quoted(name[:100])}}}]}}\n"
        for i, (slug, name) in enumerate(NAMES.items(), 10)
    )
    isp = f"isps: {{isp-x: {{name: {quoted(NAMES['markup'])}, noc: '<b>1</b>'}}, "
    with bench(tmp_path_factory.mktemp("hostile"), INVENTORY.replace("isps: {", isp) + sites, target=each_version) as made:
        yield made


@pytest.mark.parametrize("slug", NAMES)
def test_any_name_comes_out_as_it_is(hostile: Centre, slug):
    name = NAMES[slug]
    notes = {"summary": f"mulai {name} {name}\n\tselesai", **dict.fromkeys(("cause", "evidence", "impact", "action"), f"{name} " * 9)}
    hostile.post(
        alert("SiteDown", slug, notes={**notes, "cause": "penyedia " + name, "incident": name, "since": name}, **{"class": "24-jam"})
    )

    text = hostile.message("ops", "GAWAT · " + " ".join(name.split())[:20])
    line = hostile.inbox.messages[-1].plain.splitlines()[0]
    assert len(line) <= 90
    assert "mulai" in line
    assert len(text) < 4096
    assert not re.search(r"[a-z]{3}alert\(1\)</script>", text)
    hostile.until(lambda: any(m["Subject"] == line for m in hostile.mails), f"a mail with the subject {line}")
    mail = next(m for m in hostile.mails if m["Subject"] == line)
    assert "<script" not in mail.get_body(("html",)).get_content()
    assert " ".join(name.split())[:20] in mail.get_body(("plain",)).get_content()


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.1",
        "192.0.2.1:8080",
        "2001:db8::53",
        "2001:db8:1:2:3:4:5:6",
        "fe80::1",
        "00:00:5e:00:53:01",
        "00-00-5E-00-53-AF",
        "0000.5e00.5301",
    ],
)
def test_no_address_is_posted_to_a_chat(hostile: Centre, address):
    notes = dict.fromkeys(("summary", "cause", "evidence", "impact", "action", "incident"), f"lihat {address} ya")
    hostile.post(alert("X" + re.sub("[^a-zA-Z0-9]", "", address), "rsud", notes={**notes, "since": "02.07 WIB"}))

    hostile.until(lambda: any("lihat" in t for t in hostile.texts("ops")), "the message")
    said = "\n".join(t for t in hostile.texts("ops") if "lihat" in t)
    assert "lihat (alamat)" in said
    assert address not in said
    assert "02.07 WIB" in said


@pytest.mark.parametrize(
    "innocent", ["12.34.56", "pukul 12:34:56", "versi 1.2.3", "Rp 2.500.000", "07.30-16.00", "0624-000000", "24/11 02.07"]
)
def test_what_is_no_address_stays(hostile: Centre, innocent):
    hostile.post(alert("Y" + re.sub("[^a-zA-Z0-9]", "", innocent), "rsud", notes={"summary": f"ini {innocent} ya"}))

    assert f"ini {innocent} ya" in hostile.message("ops", f"{innocent} ya")


def test_an_office_that_is_not_in_the_inventory_is_called_by_its_label(hostile: Centre):
    hostile.post(alert("SiteDown", "who-knows", notes={"summary": "tanpa kabar"}))

    assert first_line(hostile.message("ops", "who-knows")) == "GAWAT · who-knows: tanpa kabar"


def test_a_bad_runbook_is_no_link(hostile: Centre):
    hostile.post(alert("Z", "rsud", notes={"summary": "tautan", "runbook_url": "javascript:alert(1)"}))

    assert "javascript" not in hostile.message("ops", "tautan")
