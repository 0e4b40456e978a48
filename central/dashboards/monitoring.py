"""Pemantauannya sendiri: is what the other pages show still being measured, delivered, judged and told?"""

from central.dashboards.panels import GREEN, GREY, ORANGE, RED, YELLOW, Column, Dashboard, Level, Panel, Query, Row, Word
from central.dashboards.promql import RATE, STEP, joined, last
from central.dashboards.shared import OPEN_SITE, SEVERITIES, SITE_KEY, site_column, sites, timeline, troubled

SITES = 'site=~"$site"'
CENTRE = 'site="pusat"'
NAMED = joined(["name"])
STAGES = {"firing": Word("dikirim", RED), "pending": Word("ditunggu", YELLOW)}
OUTCOMES = {
    "ok": "diterima", "refused": "angka ditolak", "too_large": "terlalu besar", "throttled": "diminta pelan", "server": "pusat bermasalah",
    "credentials": "kunci salah", "not_found": "alamat salah", "redirect": "dialihkan", "answer": "jawaban aneh", "network": "tidak sampai",
    "tls": "TLS gagal", "clock": "jam belum diketahui", "secret": "kunci tak terbaca", "internal": "kesalahan Ronda",
}  # fmt: skip
LOST = {
    "thinned": "dirampingkan", "overflow": "simpanan penuh", "expired": "terlalu tua", "refused": "ditolak pusat",
    "corrupt": "rusak di penyimpanan",
    "disk": "penyimpanan menolak", "clock": "waktunya tidak diketahui", "power_cut": "listrik padam (paling banyak)",
}  # fmt: skip
NONE_IS_GOOD = (Level(None, GREEN, "nol"), Level(0.001, RED, "lebih dari nol: lihat catatan program itu"))


def _age() -> Panel:
    age = f"time() - last_over_time(ronda:site_last_seen:timestamp{{{SITES}}}[1d])"
    return Panel(
        title="Tanda hidup terakhir tiap kantor",
        says="Berapa lama sejak kabar terakhir tiap kantor, dan setelah berapa lama diam ia dianggap tanpa kabar.",
        english="Time since each office was last heard, and after how much silence it counts as silent.",
        type="table",
        unit="none",
        queries=(
            Query(expr=f"({age}){NAMED}", table=True),
            Query(expr=f"max by (site) (ronda_site_silence_limit_seconds{{{SITES}}}){NAMED}", table=True),
            Query(expr=f"(({age}) / on (site) ronda_site_silence_limit_seconds){NAMED}", table=True),
        ),
        columns=(
            site_column(),
            SITE_KEY,
            Column(field="Value #A", title="Diam selama", unit="s", decimals=0),
            Column(field="Value #B", title="Batas", unit="s", decimals=0),
            Column(
                field="Value #C",
                title="Dari batas",
                unit="percentunit",
                decimals=0,
                levels=(Level(None, GREEN, ""), Level(0.8, YELLOW, ""), Level(1, RED, "")),
            ),
        ),
        sort=("Dari batas", True),
    )


def _firing() -> Panel:
    by = "alertname, alertstate, severity, site, task"
    return Panel(
        title="Peringatan yang sedang dikirim",
        says=(
            "Peringatan yang sekarang ada di Prometheus: dikirim ke Alertmanager, atau masih ditunggu apakah bertahan. "
            "Peringatan keamanan tidak tampak di sini."
        ),
        english="Alerts as Prometheus holds them: firing ones are sent to Alertmanager. Those of the CSIRT are not shown here.",
        type="table",
        unit="none",
        queries=(Query(expr=f'count by ({by}) (ALERTS{{audience!="csirt"}})', table=True),),
        columns=(
            Column(field="alertname", title="Peringatan"),
            Column(field="severity", title="Tingkat", words=SEVERITIES, width=120),
            Column(field="site", title="Kantor", link="/d/ronda-site?var-site=${__value.raw}&${__url_time_range}", link_title=OPEN_SITE),
            Column(field="task", title="Yang diamati"),
            Column(field="alertstate", title="Tahap", width=110, words=STAGES),
        ),
        sort=("Tahap", False),
        nothing="tidak ada peringatan",
    )


def _clock() -> Panel:
    ahead, ntp = (
        f"max by (site) (ronda:site_clock_offset:seconds{{{SITES}}})",
        f"max by (site) ({last('ronda_clock_offset_seconds', SITES)})",
    )
    return Panel(
        title="Selisih jam kotak",
        says=(
            "Berapa jam kotak Ronda mendahului (plus) atau tertinggal (minus) dari jam pusat; dan menurut NTP di kotak itu "
            "sendiri. Jam yang meleset membuat waktu gangguan salah."
        ),
        english="How far each box's clock is ahead of the centre's, and what its own NTP still has to correct.",
        type="timeseries",
        unit="s",
        queries=(Query(expr=ahead, legend="{{site}} terhadap pusat"), Query(expr=ntp, legend="{{site}} menurut NTP")),
        levels=(
            Level(None, RED, "meleset 1 menit atau lebih"),
            Level(-60, YELLOW, "dari 5 detik"),
            Level(-5, GREEN, "di bawah 5 detik"),
            Level(5, YELLOW, ""),
            Level(60, RED, ""),
        ),
    )


def _versions() -> Panel:
    return Panel(
        title="Versi agen",
        says="Berapa kantor memakai tiap versi agen Ronda.",
        english="How many offices run each version of the agent.",
        type="bargauge",
        unit="none",
        width=6,
        queries=(Query(expr=f"count by (version) ({last('ronda_build_info', SITES)})", legend="{{version}}", instant=True),),
        low=0,
        decimals=0,
    )


def _blind() -> Panel:
    up = f"min by (site, task, kind) ({last('ronda_collector_up', SITES)}) == 0"
    return Panel(
        title="Tidak terpantau",
        says=(
            "Pengamatan yang kotaknya sendiri tidak bisa jalankan: yang diamati mungkin baik, mungkin tidak. Kosong berarti "
            "semua terpantau."
        ),
        english="Tasks that the box can't run: what they watch may be well or not. Empty: all is watched.",
        type="table",
        unit="none",
        width=6,
        queries=(Query(expr=f"({up}){NAMED}", table=True),),
        columns=(site_column(), SITE_KEY, Column(field="task", title="Yang diamati"), Column(field="kind", title="Jenis", width=70)),
        nothing="semua terpantau",
    )


def _series() -> Panel:
    return Panel(
        title="Jumlah deret per kantor",
        says="Berapa deret angka yang diukur tiap kantor. Naik tanpa henti berarti ada label yang tidak terbatas.",
        english="Series that each agent exposes. A steady rise means a label without bounds.",
        type="timeseries",
        unit="short",
        width=8,
        queries=(Query(expr=f"max by (site) ({last('ronda_registry_series', SITES)})", legend="{{site}}"),),
        low=0,
    )


def _lag() -> Panel:
    total, count = (f"sum by (site) (rate(ronda_loop_lag_seconds_{part}{{{SITES}}}[{RATE}]))" for part in ("sum", "count"))
    return Panel(
        title="Keterlambatan agen",
        says="Rata-rata keterlambatan agen bangun untuk mengukur. Terus di atas 100 ms: kotaknya terlalu sibuk.",
        english="Mean lateness of the agent's loop. Steadily above 100 ms: the box is too busy.",
        type="timeseries",
        unit="s",
        width=8,
        queries=(Query(expr=f"{total} / ({count} > 0)", legend="{{site}}", step=STEP),),
        levels=(Level(None, GREEN, "di bawah 100 ms"), Level(0.1, YELLOW, "dari 100 ms"), Level(0.5, RED, "dari 500 ms")),
        low=0,
    )


def _rss() -> str:
    memory = last("process_resident_memory_bytes", f'job="ronda",{SITES}')
    return f"max by (site) ({memory})"


def _memory() -> Panel:
    return Panel(
        title="Memori agen",
        says="Memori yang dipakai proses agen Ronda di tiap kantor.",
        english="Resident memory of each agent.",
        type="timeseries",
        unit="bytes",
        width=8,
        queries=(Query(expr=_rss(), legend="{{site}}"),),
        levels=(Level(None, GREEN, "di bawah 50 MiB"), Level(50 * 2**20, YELLOW, "dari 50 MiB")),
        low=0,
    )


def _scrape() -> Panel:
    return timeline(
        "Kantor yang dibaca pusat",
        "Tiap program pusat, dan tiap kantor (delivery: pull) yang pernah tidak terbaca pusat dalam waktu yang dipilih.",
        "The centre's own programs, and each scraped office that the centre could not read at some time within the chosen time.",
        (
            Query(expr=troubled("up", f'job="ronda",{SITES}', "site"), legend="{{site}}"),
            Query(expr='min by (job) (up{job!="ronda"})', legend="{{job}}"),
        ),
        words={"1": Word("terbaca", GREEN), "0": Word("tidak terbaca", RED)},
    )


def _scrape_time() -> Panel:
    return Panel(
        title="Lama membaca tiap kantor",
        says="Berapa lama pusat membaca satu kantor; mendekati 5 detik berarti bacaan akan gagal.",
        english="How long a scrape of an office takes; near 5 s it will fail.",
        type="timeseries",
        unit="s",
        queries=(Query(expr=f'max by (site) (scrape_duration_seconds{{job="ronda",{SITES}}})', legend="{{site}}"),),
        levels=(Level(None, GREEN, "di bawah 1 detik"), Level(1, YELLOW, "dari 1 detik"), Level(4, RED, "dari 4 detik")),
        low=0,
    )


def _pushed() -> Panel:
    return Panel(
        title="Kiriman yang diterima dan yang menunggu",
        says=(
            "Untuk kantor yang mengirim sendiri (delivery: push): angka per detik yang diterima pusat, langsung (live) dan "
            "susulan (backlog), dan berapa yang masih menunggu di memori."
        ),
        english="Offices that push: samples a second that the centre took, live and backlog, and those still waiting in memory.",
        type="timeseries",
        unit="short",
        width=8,
        queries=(
            Query(expr=f"sum by (site, lane) (rate(ronda_push_samples_total{{{SITES}}}[{RATE}]))", legend="{{site}} {{lane}}", step=STEP),
            Query(expr=f"max by (site) ({last('ronda_push_pending_samples', SITES)})", legend="{{site}} menunggu"),
        ),
        low=0,
        nothing="tidak ada kantor yang mengirim sendiri",
    )


def _push_requests() -> Panel:
    return Panel(
        title="Kiriman menurut hasil",
        says="Kiriman per menit menurut hasilnya. Selain yang diterima: sambungan putus, atau pusat menolak.",
        english="Requests to the centre a minute by outcome.",
        type="timeseries",
        unit="cpm",
        width=8,
        queries=(
            Query(expr=f"60 * sum by (outcome) (rate(ronda_push_requests_total{{{SITES}}}[{RATE}]))", legend="{{outcome}}", step=STEP),
        ),
        names=OUTCOMES,
        low=0,
        nothing="tidak ada kantor yang mengirim sendiri",
    )


def _push_bytes() -> Panel:
    return Panel(
        title="Pemakaian data untuk kiriman",
        says=(
            "Byte per hari (dengan kecepatan sekarang) dari jalan ke pusat, semua kepala paket dihitung. Batas: 15 MB serat, 1 MB berkuota."
        ),
        english="Bytes a day, at the present rate, of the way to the centre, headers included. To keep: 15 MB fibre, 1 MB metered.",
        type="timeseries",
        unit="decbytes",
        width=8,
        queries=(Query(expr=f"86400 * sum by (site) (rate(ronda_push_bytes_total{{{SITES}}}[{RATE}]))", legend="{{site}}", step=STEP),),
        levels=(Level(None, GREEN, "di bawah 15 MB"), Level(15e6, YELLOW, "dari 15 MB sehari")),
        low=0,
        nothing="tidak ada kantor yang mengirim sendiri",
    )


def _ledger() -> Panel:
    return Panel(
        title="Buku besar: angka yang tidak akan sampai",
        says=(
            "Tiap kantor dan sebab: berapa angka yang tidak akan pernah sampai ke pusat sejak agen itu mulai. Kosong atau "
            "nol: sunyi berarti memang tidak ada kejadian. Lebih dari nol: untuk waktu itu kita tidak tahu."
        ),
        english=(
            "Per office and reason: samples that will never reach the centre. Zero: quiet means that nothing happened. "
            "Above zero: for that time nobody knows."
        ),
        type="table",
        unit="none",
        queries=(Query(expr=f"max by (site, reason) ({last('ronda_samples_undelivered_total', SITES)}){NAMED}", table=True),),
        columns=(
            site_column(),
            SITE_KEY,
            Column(field="reason", title="Sebab", words={reason: Word(word, GREY) for reason, word in LOST.items()}),
            Column(field="Value", title="Angka hilang", unit="short", levels=(Level(None, GREEN, ""), Level(1, ORANGE, ""))),
        ),
        sort=("Angka hilang", True),
        nothing="tidak ada kantor yang mengirim sendiri",
    )


def _buffer() -> Panel:
    oldest = last("ronda_buffer_oldest_timestamp_seconds", SITES)
    return Panel(
        title="Simpanan di kotak yang belum terkirim",
        says=(
            "Berapa besar simpanan tiap kotak, seberapa tua isinya, dan berapa kali penyimpanannya menolak. Isi yang lebih "
            "tua dari 7 hari dibuang."
        ),
        english="Size of each box's buffer, age of its oldest record, and how often its disk refused. Older than 7 days is dropped.",
        type="table",
        unit="none",
        queries=(
            Query(expr=f"max by (site) ({last('ronda_buffer_bytes', SITES)}){NAMED}", table=True),
            Query(expr=f"(time() - max by (site) ({oldest})){NAMED}", table=True),
            Query(expr=f"max by (site) ({last('ronda_buffer_failures_total', SITES)}){NAMED}", table=True),
        ),
        columns=(
            site_column(),
            SITE_KEY,
            Column(field="Value #A", title="Simpanan", unit="bytes"),
            Column(field="Value #B", title="Isi tertua", unit="s", nothing="kosong"),
            Column(field="Value #C", title="Penyimpanan menolak", levels=(Level(None, GREEN, ""), Level(1, RED, ""))),
        ),
        sort=("Simpanan", True),
        nothing="tidak ada kantor yang mengirim sendiri",
    )


def _rules() -> Panel:
    used = "max by (rule_group) (prometheus_rule_group_last_duration_seconds / prometheus_rule_group_interval_seconds)"
    return Panel(
        title="Waktu menghitung aturan",
        says="Bagian dari selang waktunya yang dipakai tiap kelompok aturan. Mendekati 100 %: pusat terlalu lambat, pesan akan terlambat.",
        english="Share of its interval that each rule group takes. Near 100 % the centre is too slow and messages will be late.",
        type="timeseries",
        unit="percentunit",
        width=8,
        queries=(Query(expr=f'label_replace({used}, "rule_group", "$1", "rule_group", ".*;(.+)")', legend="{{rule_group}}"),),
        levels=(Level(None, GREEN, "di bawah 50 %"), Level(0.5, YELLOW, "dari 50 %"), Level(0.9, RED, "dari 90 %")),
        low=0,
    )


def _rule_trouble() -> Panel:
    failed, missed = (f"sum(increase(prometheus_rule_{what}_total[{RATE}]))" for what in ("evaluation_failures", "group_iterations_missed"))
    refused = f"sum(increase(prometheus_target_scrapes_sample_out_of_bounds_total[{RATE}]))"
    return Panel(
        title="Aturan yang gagal, angka yang ditolak",
        says="Aturan yang gagal dihitung, giliran yang terlewat, dan angka yang ditolak pusat karena waktunya salah.",
        english="Rules that failed, evaluations missed, and samples that the centre refused for their time.",
        type="timeseries",
        unit="short",
        width=8,
        queries=(
            Query(expr=failed, legend="aturan gagal", step=STEP),
            Query(expr=missed, legend="giliran terlewat", step=STEP),
            Query(expr=refused, legend="angka ditolak", step=STEP),
        ),
        levels=NONE_IS_GOOD,
        low=0,
    )


def _store() -> Panel:
    return Panel(
        title="Deret di pusat",
        says="Jumlah deret yang dipegang Prometheus di memori; menentukan berapa memori yang dibutuhkannya (kira-kira 4 KB sebuah).",
        english="Series that Prometheus holds in memory; they decide how much of it is needed.",
        type="timeseries",
        unit="short",
        width=8,
        queries=(Query(expr=f"max(prometheus_tsdb_head_series{{{CENTRE}}})", legend="deret"),),
        low=0,
    )


def _notified() -> Panel:
    return Panel(
        title="Pesan yang dikirim Alertmanager",
        says="Pesan per menit ke tiap jenis saluran, dan yang gagal. Gagal terus berarti orang tidak diberi tahu.",
        english="Messages a minute by kind of channel, and those that failed. Steady failures mean that nobody is told.",
        type="timeseries",
        unit="cpm",
        width=8,
        queries=(
            Query(expr=f"60 * sum by (integration) (rate(alertmanager_notifications_total[{RATE}]))", legend="{{integration}}", step=STEP),
            Query(
                expr=f"60 * sum by (integration) (rate(alertmanager_notifications_failed_total[{RATE}]))",
                legend="{{integration}} gagal",
                step=STEP,
            ),
        ),
        low=0,
    )


def _undelivered() -> Panel:
    dropped, errors = (f"sum(increase(prometheus_notifications_{what}_total[{RATE}]))" for what in ("dropped", "errors"))
    return Panel(
        title="Peringatan yang tidak sampai ke Alertmanager",
        says="Peringatan yang dibuang atau gagal dikirim Prometheus. Harus nol.",
        english="Alerts that Prometheus dropped or could not send. Must be zero.",
        type="timeseries",
        unit="short",
        width=8,
        queries=(Query(expr=dropped, legend="dibuang", step=STEP), Query(expr=errors, legend="gagal", step=STEP)),
        levels=NONE_IS_GOOD,
        low=0,
    )


def _calendar() -> Panel:
    return Panel(
        title="Kalender masih berlaku",
        says="Sisa hari sampai hari libur yang diketahui habis. Setelah itu libur dianggap hari kerja: perbarui berkas kalender.",
        english="Days until the known holidays end. After that holidays count as working days: renew the calendar file.",
        type="stat",
        unit="d",
        width=8,
        queries=(Query(expr="(max(ronda_calendar_covered_until_timestamp_seconds) - time()) / 86400", legend="sisa hari", instant=True),),
        levels=(Level(None, RED, "kurang dari 14 hari"), Level(14, YELLOW, "kurang dari 60 hari"), Level(60, GREEN, "cukup")),
        decimals=0,
        nothing="semua kantor buka terus",
    )


DASHBOARD = Dashboard(
    uid="ronda-monitoring",
    title="Ronda · Pemantauannya sendiri",
    says="Apakah yang tampak di halaman lain masih diukur, dikirim, dinilai, dan diberitahukan.",
    english="Whether what the other pages show is still measured, delivered, judged and told.",
    variables=(sites(several=True),),
    rows=(
        Row(panels=(_age(), _firing()), height=9),
        Row(title="Agen di kantor", panels=(_clock(), _versions(), _blind())),
        Row(panels=(_series(), _lag(), _memory())),
        Row(title="Dibaca pusat (pull)", panels=(_scrape(), _scrape_time())),
        Row(title="Dikirim ke pusat (push)", panels=(_pushed(), _push_requests(), _push_bytes())),
        Row(panels=(_ledger(), _buffer())),
        Row(title="Pusat", panels=(_rules(), _rule_trouble(), _store())),
        Row(panels=(_notified(), _undelivered(), _calendar())),
    ),
)
