"""Layanan dan sertifikat: which shared service fails where and why, how its time is spent, and when its certificate ends."""

from central.dashboards.panels import GREEN, GREY, RED, YELLOW, Column, Dashboard, Level, Panel, Query, Row, Variable, Word
from central.dashboards.promql import RATE, STEP, WINDOW, joined, last
from central.dashboards.shared import SITE_KEY, dns_time, site_column, sites, timeline, troubled

SITES = 'site=~"$site"'
CHOSEN = f'{SITES},task=~"$task"'
PROBES = f'{CHOSEN},kind=~"http|tcp|dns"'
NAMED = joined(["name"])
DAYS = (Level(None, RED, "kurang dari 3 hari"), Level(3, YELLOW, "kurang dari 14 hari, perbarui"), Level(14, GREEN, "14 hari atau lebih"))
PHASES = {"resolve": "cari alamat", "connect": "menyambung", "tls": "TLS", "processing": "server berpikir", "transfer": "mengirim isi"}
REASONS = {
    "resolve": "nama tak ditemukan", "timeout": "tak menjawab", "refused": "ditolak", "unreachable": "tak ada jalan", "reset": "diputus",
    "tls": "TLS gagal", "certificate": "sertifikat tidak sah", "status": "kode galat", "body": "isi lain", "rcode": "DNS galat",
    "answer": "jawaban lain", "auth": "kata sandi ditolak", "send": "kotak gagal mengirim", "internal": "kesalahan Ronda",
}  # fmt: skip
REASON_WORDS = {reason: Word(word, RED) for reason, word in REASONS.items()}


def _shared() -> Panel:
    success = f'last_over_time(ronda_probe_success{{service!=""}}[{WINDOW}])'
    named = joined(["name", "owner"], "", "ronda_service_info", "service")
    return Panel(
        title="Layanan bersama: tak bisa dibuka dari berapa kantor",
        says=(
            "Tiap layanan bersama (mis. SIAK): dari berapa kantor ia diperiksa, dan dari berapa kantor ia tidak bisa "
            "dibuka. Semua gagal: layanannya; satu gagal: kantornya."
        ),
        english=(
            "Each shared service: from how many offices it is watched, and from how many it fails. If all fail it is the "
            "service, if one does it is the office."
        ),
        type="table",
        unit="none",
        width=12,
        queries=(
            Query(expr=f"count by (service) (count by (service, site) ({success})){named}", table=True),
            Query(expr=f"sum by (service) (1 - min by (service, site) ({success})){named}", table=True),
        ),
        columns=(
            Column(field="name", title="Layanan"),
            Column(field="owner", title="Pemilik"),
            Column(field="Value #A", title="Diperiksa dari"),
            Column(field="Value #B", title="Gagal dari", levels=(Level(None, GREEN, ""), Level(1, RED, ""))),
        ),
        sort=("Gagal dari", True),
        nothing="tidak ada layanan bersama",
    )


def reasons_now(matchers: str) -> str:
    """Why a probe is down. The reason of now where it is known; else the last, for what comes every 300 s only."""
    now = f"ronda_probe_reason_info{{{matchers}}}"
    held = f"{now} or (last_over_time({now}[{WINDOW}]) unless on (site, task) {now})"
    return f"max by (site, task, kind, reason) ({held}) and on (site, task) ({last('ronda_probe_success', matchers)} == 0)"


def _failing() -> Panel:
    return Panel(
        title="Yang gagal sekarang dan mengapa",
        says="Tiap layanan, server, atau DNS yang sekarang tidak bisa dipakai, dari kantor mana, dan mengapa.",
        english="Every service, server or resolver that can't be used now, from which office, and why.",
        type="table",
        unit="none",
        width=12,
        queries=(Query(expr=f"({reasons_now(PROBES)}){NAMED}", table=True),),
        columns=(
            site_column(),
            SITE_KEY,
            Column(field="task", title="Yang diamati"),
            Column(field="kind", title="Jenis", width=80),
            Column(field="reason", title="Sebab", words=REASON_WORDS),
        ),
        sort=("Yang diamati", False),
        nothing="semua bisa dipakai",
    )


def _certificates() -> Panel:
    left = f"(min by (site, task, target, scope) ({last('ronda_tls_certificate_not_after_timestamp_seconds', CHOSEN)}) - time()) / 86400"
    return Panel(
        title="Sertifikat: sisa hari",
        says=(
            "Berapa hari lagi tiap sertifikat berlaku. leaf: sertifikat situs itu sendiri; earliest: yang paling dulu habis "
            "dari semua yang diandalkan."
        ),
        english="Days until each certificate expires. leaf: the site's own; earliest: the first to expire of all that it relies on.",
        type="table",
        unit="none",
        width=12,
        queries=(Query(expr=f"({left}){NAMED}", table=True),),
        columns=(
            site_column(),
            SITE_KEY,
            Column(field="task", title="Situs"),
            Column(field="target", title="Alamat"),
            Column(field="scope", title="Bagian", width=80),
            Column(field="Value", title="Sisa hari", unit="d", decimals=1, levels=DAYS),
        ),
        sort=("Sisa hari", False),
        nothing="tidak ada sertifikat yang diamati",
    )


def _refused() -> Panel:
    valid = f"min by (site, task) ({last('ronda_tls_certificate_valid', CHOSEN)})"
    why = f"max by (site, task, why) ({last('ronda_tls_verification_failed_info', CHOSEN)}) and on (site, task) ({valid} == 0)"
    return Panel(
        title="Sertifikat: sah atau tidak",
        says=(
            "Apakah sertifikat diterima dari kantor itu, dan bila tidak mengapa. Tidak sah dari satu kantor saja bisa "
            "berarti ada yang menyadap."
        ),
        english=(
            "Whether the certificate was accepted at the office, and why not. Refused at one office only may mean that "
            "somebody is listening in."
        ),
        type="table",
        unit="none",
        width=12,
        queries=(Query(expr=f"{valid}{NAMED}", table=True), Query(expr=f"({why}){NAMED}", table=True)),
        columns=(
            site_column(),
            SITE_KEY,
            Column(field="task", title="Situs"),
            Column(field="Value #A", title="Sertifikat", words={"1": Word("sah", GREEN), "0": Word("tidak sah", RED)}, width=110),
            Column(field="why", title="Mengapa"),
        ),
        sort=("Sertifikat", False),
        nothing="tidak ada sertifikat yang diamati",
    )


def _phases() -> Panel:
    by_phase = {p: last("ronda_http_phase_duration_seconds", f'{CHOSEN},phase="{p}"') for p in PHASES}
    return Panel(
        title="Ke mana waktunya pergi",
        says=(
            "Lama tiap tahap membuka layanan, rata-rata kantor yang dipilih. Server berpikir lama: urusan pemilik layanan. "
            "Menyambung lama: urusan jaringan."
        ),
        english="Time of each phase, mean of the chosen offices. A long processing is the owner's matter, a long connect the network's.",
        type="timeseries",
        unit="s",
        queries=[Query(expr=f"avg({by_phase[p]})", legend=word) for p, word in PHASES.items()],
        low=0,
        custom={"fillOpacity": 60, "stacking": {"mode": "normal", "group": "A"}},
    )


def _status() -> Panel:
    return Panel(
        title="Kode jawaban",
        says="Kode jawaban HTTP terakhir dari tiap layanan: 2xx baik, 4xx ditolak, 5xx galat di server.",
        english="The last HTTP status of each service: 2xx fine, 4xx refused, 5xx an error of the server.",
        type="state-timeline",
        unit="none",
        queries=(Query(expr=f"max by (site, task) ({last('ronda_http_status_code', CHOSEN)})", legend="{{site}} {{task}}"),),
        levels=(
            Level(None, GREY, ""),
            Level(200, GREEN, "2xx baik"),
            Level(300, YELLOW, "3xx dialihkan, 4xx ditolak"),
            Level(500, RED, "5xx galat server"),
        ),
    )


def _availability() -> Panel:
    return timeline(
        "Bisa dipakai atau tidak",
        "Tiap layanan, server, dan DNS yang pernah gagal dalam waktu yang dipilih. Yang selalu bisa dipakai tidak tampak.",
        "Each service, server and resolver that failed within the chosen time. Those that never did are not shown.",
        (Query(expr=troubled("ronda_probe_success", PROBES, "site, task"), legend="{{site}} {{task}}"),),
        24,
        nothing="semua selalu bisa dipakai",
    )


def _failures() -> Panel:
    return Panel(
        title="Kegagalan per menit menurut sebab",
        says=(
            "Berapa pemeriksaan gagal tiap menit menurut sebabnya, pengulangan ikut dihitung. Naik di banyak kantor "
            "sekaligus: lihat penyedia atau layanannya."
        ),
        english="Failed probes a minute by reason, retries included.",
        type="timeseries",
        unit="cpm",
        queries=(
            Query(expr=f"60 * sum by (reason) (rate(ronda_probe_failures_total{{{PROBES}}}[{RATE}])) > 0", legend="{{reason}}", step=STEP),
        ),
        names=REASONS,
        low=0,
        nothing="tidak ada yang gagal",
    )


TASK = Variable(name="task", label="Yang diamati", query='label_values(ronda_probe_success{site=~"$site",kind=~"http|tcp|dns"}, task)')

DASHBOARD = Dashboard(
    uid="ronda-services",
    title="Ronda · Layanan dan sertifikat",
    says="Layanan mana yang tidak bisa dibuka, dari mana, mengapa; ke mana waktunya pergi; dan kapan sertifikatnya habis.",
    english="Which services fail, from where and why; where their time goes; and when their certificates end.",
    variables=(sites(several=True), TASK),
    rows=(
        Row(panels=(_shared(), _failing()), height=9),
        Row(panels=(_certificates(), _refused()), height=9),
        Row(panels=(_availability(),), height=10),
        Row(panels=(_phases(), _status())),
        Row(panels=(_failures(), dns_time(CHOSEN, "site, task", "{{site}} {{task}}"))),
    ),
)
