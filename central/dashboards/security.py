"""Keamanan: what is open at which office, what nobody was woken for, and where detectors are blind. For the CSIRT only.

Law: security detail stands on this page and on no other (tests/central/test_dashboards.py); give its folder to the CSIRT alone. Nothing
here names an address, a MAC or a person: series hold none.
"""

from central.dashboards.panels import GREEN, GREY, ORANGE, RED, YELLOW, Column, Dashboard, Level, Panel, Query, Row, Word
from central.dashboards.promql import RATE, STEP, joined, last
from central.dashboards.shared import SEVERITIES, SITE_KEY, site_column, sites

SITES = 'site=~"$site"'
NAMED = joined(["name"])
GRADES = {"low": Word("rendah", YELLOW), "info": Word("catatan", GREY)}
COVERAGE = {"1": Word("penuh", GREEN), "0.5": Word("sebagian", YELLOW), "0": Word("tidak terpantau", RED)}


def _open() -> Panel:
    which = f'{{audience="csirt",severity!="info",{SITES}}}'
    by = "site, alertname, severity"
    return Panel(
        title="Kejadian keamanan terbuka",
        says="Semua temuan yang sedang berlaku, juga yang menunggu kantor buka untuk dikirim sebagai pesan.",
        english="Every finding that holds now, also those that wait for the office to open before they are told.",
        type="table",
        unit="none",
        width=24,
        queries=(
            Query(expr=f"max by ({by}) (ronda:condition{which}){NAMED}", table=True),
            Query(expr=f"max by ({by}) (ronda:condition_since:timestamp{which}){NAMED} * 1000", table=True),
        ),
        columns=(
            site_column(),
            SITE_KEY,
            Column(field="alertname", title="Kejadian"),
            Column(field="severity", title="Tingkat", words=SEVERITIES, width=120),
            Column(field="Value #B", title="Sejak", unit="dateTimeAsLocal", width=180),
        ),
        sort=("Sejak", True),
        nothing="tidak ada kejadian",
    )


def _notes() -> Panel:
    return Panel(
        title="Catatan kecil",
        says="Temuan ringan, belum dipastikan, sedang belajar, atau sudah diterima: tidak membangunkan siapa pun.",
        english="Findings that are light, unconfirmed, still learning or accepted: they wake nobody.",
        type="table",
        unit="none",
        width=12,
        queries=(Query(expr=f'(max by (site, rule, grade) (ronda:finding:bool{{grade=~"low|info",{SITES}}}) == 1){NAMED}', table=True),),
        columns=(
            site_column(),
            SITE_KEY,
            Column(field="rule", title="Pendeteksi"),
            Column(field="grade", title="Tingkat", words=GRADES, width=120),
        ),
        sort=("Pendeteksi", False),
        nothing="tidak ada catatan",
    )


def _coverage() -> Panel:
    return Panel(
        title="Cakupan pendeteksi tiap kantor",
        says="Seberapa banyak tiap pendeteksi melihat. Tidak terpantau bukan berarti aman; sebab dan obatnya ada di docs/blindspots.",
        english="How much each detector sees. Blind does not mean safe; docs/blindspots has the reasons and cures.",
        type="table",
        unit="none",
        width=12,
        queries=(Query(expr=f"min by (site, detector) ({last('ronda_detector_coverage', SITES)}){NAMED}", table=True),),
        columns=(
            site_column(),
            SITE_KEY,
            Column(field="detector", title="Pendeteksi"),
            Column(field="Value", title="Cakupan", words=COVERAGE, width=140),
        ),
        sort=("Cakupan", False),
        nothing="tidak ada pendeteksi",
    )


def _per_day() -> Panel:
    return Panel(
        title="Temuan dalam sehari menurut tingkat",
        says="Berapa temuan (kantor dan pendeteksi) yang berlaku dalam 24 jam sebelum tiap titik, menurut tingkat di kotaknya.",
        english="How many findings (office and detector) held within the 24 hours before each point, by the box's grade.",
        type="timeseries",
        unit="short",
        queries=(Query(expr=f"sum by (grade) (max_over_time(ronda:finding:bool{{{SITES}}}[1d]))", legend="{{grade}}", step=STEP),),
        colors={"critical": RED, "high": ORANGE, "medium": YELLOW, "low": GREEN, "info": GREY},
        low=0,
        nothing="tidak ada temuan",
    )


def _held_back() -> Panel:
    parts = {"diterima": "ronda_findings_suppressed_total", "terlalu banyak": "ronda_findings_limited_total"}
    return Panel(
        title="Temuan yang ditahan",
        says="Temuan per menit yang tidak diberitahukan satu per satu: karena seseorang menerimanya, atau karena terlalu banyak.",
        english="Findings a minute that were not told one by one: accepted by somebody, or too many.",
        type="timeseries",
        unit="cpm",
        queries=tuple(
            Query(expr=f"sum by (rule) (rate({metric}{{{SITES}}}[{RATE}])) * 60", legend=f"{word}: {{{{rule}}}}", step=STEP)
            for word, metric in parts.items()
        ),
        low=0,
        nothing="tidak ada yang ditahan",
    )


def _learning() -> Panel:
    return Panel(
        title="Pendeteksi yang masih belajar",
        says="Yang ditemukannya dicatat saja sampai selesai belajar apa yang biasa di kantor itu.",
        english="What these find is only noted until they have learnt what is usual there.",
        type="table",
        unit="none",
        width=12,
        queries=(Query(expr=f"(max by (site, detector) ({last('ronda_detector_learning', SITES)}) == 1){NAMED}", table=True),),
        columns=(site_column(), SITE_KEY, Column(field="detector", title="Pendeteksi")),
        sort=("Pendeteksi", False),
        nothing="tidak ada yang belajar",
    )


def _lost() -> Panel:
    lost, seen = (
        f"sum by (site) (rate({metric}{{{SITES}}}[{RATE}]))" for metric in ("ronda_lan_frames_lost_total", "ronda_lan_frames_total")
    )
    return Panel(
        title="Paket yang tidak terbaca",
        says="Bagian paket yang sampai ke kotak tetapi tidak sempat dibaca: sebagian serangan bisa terlewat.",
        english="Share of the frames that reached the box and were not read: attacks may be missed.",
        type="timeseries",
        unit="percentunit",
        queries=(Query(expr=f"{lost} / ({seen} > 0)", legend="{{site}}", step=STEP),),
        levels=(Level(None, GREEN, "di bawah 5 %"), Level(0.05, RED, "dari 5 %")),
        low=0,
    )


def _devices() -> Panel:
    return Panel(
        title="Perangkat di jaringan",
        says="Perangkat yang terlihat: dikenal, baru, ponsel dengan MAC acak, dan yang lama diam. Jumlah saja.",
        english="Devices that are seen: known, new, phones with random MACs, and quiet ones. Counts only.",
        type="timeseries",
        unit="short",
        queries=(Query(expr=f"sum by (class) ({last('ronda_lan_devices', SITES)})", legend="{{class}}"),),
        low=0,
    )


DASHBOARD = Dashboard(
    uid="ronda-security",
    title="Ronda · Keamanan",
    says="Temuan keamanan tiap kantor, catatan kecil, dan di mana pendeteksi buta. Untuk CSIRT saja.",
    english="Security findings of each office, small notes, and where detectors are blind. For the CSIRT only.",
    rows=(
        Row(panels=(_open(),)),
        Row(panels=(_notes(), _coverage()), height=10),
        Row(panels=(_per_day(), _held_back())),
        Row(panels=(_learning(), _lost())),
        Row(panels=(_devices(),)),
    ),
    variables=(sites(several=True),),
    since="now-24h",
)
