"""Kantor: one office from the outside in. State and cause, what is open, its uplinks, its services, its box and cables."""

import dataclasses

from central.dashboards.panels import BLUE, GREEN, GREY, ORANGE, RED, YELLOW, Column, Dashboard, Level, Panel, Query, Row, Word
from central.dashboards.promql import (
    ANCHORS,
    CAUSE_WORDS,
    RATE,
    STATE_LEVELS,
    STATE_WORDS,
    STEP,
    cause_code,
    joined,
    last,
    loss_share,
    mean_rtt,
    slow_share,
    state_code,
)
from central.dashboards.shared import MEDIA, RTT_LINE, SEVERITIES, SHARE_LOST, SHARE_SLOW, conditions, dns_time, sites, timeline, usable

THIS = 'site="$site"'
TO_ISP = "/d/ronda-uplinks?var-isp=${__data.fields.isp}&${__url_time_range}"
CLASSES = {"24-jam": Word("24 jam", RED), "layanan": Word("layanan", ORANGE), "kantor": Word("kantor", BLUE), "desa": Word("desa", GREY)}


def _who() -> Panel:
    return Panel(
        title="Data kantor",
        says="Kantor ini menurut inventaris.",
        english="This office as the inventory has it.",
        type="table",
        unit="none",
        width=14,
        queries=(Query(expr=f"ronda_site_info{{{THIS}}}", table=True),),
        columns=(
            Column(field="code", title="Kode", width=80),
            Column(field="name", title="Kantor"),
            Column(field="district", title="Kecamatan"),
            Column(field="class", title="Kelas", words=CLASSES),
            Column(field="calendar", title="Kalender"),
            Column(field="delivery", title="Cara kirim"),
            Column(field="profile", title="Profil"),
        ),
    )


def _open() -> Panel:
    return Panel(
        title="Jam buka dan pemeliharaan",
        says="Apakah kantor sedang buka menurut kalendernya, dan apakah sedang dalam pemeliharaan terjadwal (saat itu tidak ada pesan).",
        english="Whether the office is open by its calendar, and whether it is under planned maintenance (nobody is paged then).",
        type="stat",
        unit="none",
        width=10,
        queries=(
            Query(expr=f"max(ronda_site_open{{{THIS}}})", legend="buka", instant=True),
            Query(expr=f"max(ronda_site_maintenance{{{THIS}}})", legend="pemeliharaan", instant=True),
        ),
        words={"0": Word("tidak", GREY), "1": Word("ya", BLUE)},
    )


def _states() -> Panel:
    return Panel(
        title="Keadaan",
        says="Keadaan kantor dari waktu ke waktu menurut pusat: baik, lambat, putus, tanpa kabar, tutup, pemeliharaan.",
        english="The office's state over time, as the centre sees it.",
        type="state-timeline",
        unit="none",
        width=12,
        queries=(Query(expr=state_code(THIS), legend="keadaan"),),
        levels=STATE_LEVELS,
        words=STATE_WORDS,
    )


def _causes() -> Panel:
    return Panel(
        title="Sebab",
        says=(
            "Sebab yang dianggap kotak Ronda di kantor bertanggung jawab. Saat kantor tanpa kabar, baris ini menyusul "
            "setelah sambungan pulih."
        ),
        english="The cause that the box at the office holds responsible. While the office is silent this follows once the link is back.",
        type="state-timeline",
        unit="none",
        width=12,
        queries=(Query(expr=cause_code(THIS), legend="sebab"),),
        words=CAUSE_WORDS,
    )


def _uplinks() -> Panel:
    speed = joined(["isp_name", "medium", "customer"], THIS, "ronda_uplink_info", "site, uplink")
    return Panel(
        title="Jalur internet dan penyedianya",
        says="Jalur internet kantor ini menurut kontrak: penyedia, jenis, nomor pelanggan untuk dilaporkan, dan kecepatan.",
        english="The office's uplinks by contract: provider, medium, customer number to quote, speed.",
        type="table",
        unit="none",
        width=24,
        queries=(
            Query(expr=f"ronda_uplink_info{{{THIS}}}", table=True),
            Query(expr=f"ronda_uplink_contract_bits_per_second{{{THIS}}}{speed}", table=True),
        ),
        columns=(
            Column(field="uplink", title="Jalur"),
            Column(field="isp_name", title="Penyedia", link=TO_ISP, link_title="Semua jalur penyedia ini"),
            Column(field="isp", title="isp", hidden=True),
            Column(field="medium", title="Jenis", words=MEDIA),
            Column(field="customer", title="Nomor pelanggan"),
            Column(field="Value #B", title="Kecepatan kontrak", unit="bps", nothing="tidak tercatat"),
        ),
    )


def _rtt() -> Panel:
    return Panel(
        title="Waktu balasan rata-rata per jalur",
        says="Rata-rata waktu bolak-balik ping ke jangkar internet lewat tiap jalur.",
        english="Mean round-trip time of pings to the internet anchors over each uplink.",
        type="timeseries",
        unit="s",
        width=8,
        queries=(Query(expr=mean_rtt("uplink", f"{THIS},{ANCHORS}"), legend="{{uplink}}", step=STEP),),
        levels=RTT_LINE,
        low=0,
        nothing="tidak ada balasan",
    )


def _slow() -> Panel:
    return Panel(
        title="Bagian balasan yang lambat per jalur",
        says="Berapa bagian balasan yang datang setelah lebih dari 350 ms.",
        english="Share of replies that took more than 350 ms.",
        type="timeseries",
        unit="percentunit",
        width=8,
        queries=(Query(expr=slow_share("uplink", f"{THIS},{ANCHORS}"), legend="{{uplink}}", step=STEP),),
        levels=SHARE_SLOW,
        low=0,
        high=1,
        nothing="tidak ada balasan",
    )


def _loss() -> Panel:
    return Panel(
        title="Ping yang hilang per sasaran",
        says=(
            "Berapa bagian ping yang tidak dijawab, untuk router kantor dan tiap jangkar. Hilang di router berarti masalah "
            "di dalam kantor, bukan penyedia."
        ),
        english=(
            "Share of pings without an answer, for the office's router and each anchor. Loss to the router is the office's "
            "own trouble, not the provider's."
        ),
        type="timeseries",
        unit="percentunit",
        width=8,
        queries=(Query(expr=loss_share("task", THIS), legend="{{task}}", step=STEP),),
        levels=SHARE_LOST,
        low=0,
        high=1,
    )


def _task_rtt() -> Panel:
    return Panel(
        title="Waktu balasan rata-rata per sasaran",
        says="Rata-rata waktu bolak-balik ping ke tiap sasaran. Router yang lambat berarti WiFi atau kabel kantor penuh.",
        english="Mean round-trip time to each target. A slow router means that the office's own WiFi or cable is full.",
        type="timeseries",
        unit="s",
        queries=(Query(expr=mean_rtt("task", THIS), legend="{{task}}", step=STEP),),
        levels=RTT_LINE,
        low=0,
        nothing="tidak ada balasan",
    )


def _jitter() -> Panel:
    return Panel(
        title="Naik-turunnya waktu balasan",
        says="Seberapa berubah-ubah waktu balasan dari ping ke ping; di atas 30 ms panggilan video mulai patah-patah.",
        english="How much the round-trip time varies from ping to ping (RFC 3550); above 30 ms video calls begin to stutter.",
        type="timeseries",
        unit="s",
        queries=(Query(expr=f"max by (task) ({last('ronda_icmp_jitter_seconds', THIS)})", legend="{{task}}"),),
        levels=(Level(None, GREEN, "di bawah 30 ms"), Level(0.03, YELLOW, "dari 30 ms")),
        low=0,
    )


def _services() -> Panel:
    made = timeline(
        "Layanan",
        "Apakah tiap situs, aplikasi, atau server bisa dipakai dari kantor ini.",
        "Whether each site, application or server can be used from this office.",
        (usable(f'{THIS},kind=~"http|tcp"', "task", "{{task}}"),),
        nothing="tidak ada layanan yang diamati dari kantor ini",
    )
    return dataclasses.replace(made, link="/d/ronda-services?var-site=$site&${__url_time_range}", link_title="Mengapa, dan sertifikatnya")


def _dns() -> Panel:
    return timeline(
        "DNS menjawab",
        "Apakah tiap server nama (DNS) menjawab dengan benar. Bila mati, bagi pemakai ini sama dengan internet mati.",
        "Whether each resolver answers as it should. To users a dead resolver is a dead internet.",
        (usable(f'{THIS},kind="dns"', "task", "{{task}}"),),
    )


def _service_time() -> Panel:
    durations = last("ronda_probe_duration_seconds", f'{THIS},kind=~"http|tcp"')
    return Panel(
        title="Lama membuka layanan",
        says="Berapa lama tiap layanan dibuka terakhir kali berhasil, dari mencari alamat sampai halaman selesai.",
        english="How long each service took when it last succeeded, from resolving its name to the end of the answer.",
        type="timeseries",
        unit="s",
        queries=(Query(expr=f"max by (task) ({durations})", legend="{{task}}"),),
        levels=(Level(None, GREEN, "di bawah 2 detik"), Level(2, YELLOW, "dari 2 detik"), Level(5, RED, "dari 5 detik")),
        low=0,
        nothing="belum ada yang berhasil dibuka",
    )


def _cables() -> Panel:
    made = timeline(
        "Kabel dan WiFi kotak Ronda",
        "Apakah tiap kabel atau WiFi kotak Ronda tersambung.",
        "Whether each network device of the box has a carrier.",
        (Query(expr=f"min by (device) ({last('ronda_link_carrier', THIS)})", legend="{{device}}"),),
        8,
        {"1": Word("tersambung", GREEN), "0": Word("lepas", RED)},
    )
    return dataclasses.replace(
        made, link="/d/ronda-devices?var-site=$site&${__url_time_range}", link_title="Router, switch, dan UPS kantor ini"
    )


def _traffic() -> Panel:
    ways = (("receive", "masuk"), ("transmit", "keluar"))
    return Panel(
        title="Lalu lintas kotak Ronda",
        says="Yang lewat di kabel kotak Ronda sendiri, bukan seluruh kantor.",
        english="Traffic on the box's own devices, not of the whole office.",
        type="timeseries",
        unit="bps",
        width=8,
        queries=[
            Query(
                expr=f"8 * sum by (device) (rate(ronda_link_{way}_bytes_total{{{THIS}}}[{RATE}]))",
                legend=f"{{{{device}}}} {word}",
                step=STEP,
            )
            for way, word in ways
        ],
        low=0,
    )


def _cable_errors() -> Panel:
    terms = " + ".join(
        f"sum by (device) (rate(ronda_link_{w}_{k}_total{{{THIS}}}[{RATE}]))"
        for w in ("receive", "transmit")
        for k in ("errors", "dropped")
    )
    return Panel(
        title="Galat di kabel",
        says="Paket rusak atau dibuang per detik di tiap kabel; di atas nol terus-menerus berarti kabel atau colokan rusak.",
        english="Packets broken or dropped a second; steadily above zero means a bad cable or plug.",
        type="timeseries",
        unit="pps",
        width=8,
        queries=(Query(expr=terms, legend="{{device}}", step=STEP),),
        levels=(Level(None, GREEN, "di bawah 1 per detik"), Level(1, YELLOW, "dari 1 per detik")),
        low=0,
    )


def _box() -> Panel:
    idle = f'sum by (site) (rate(ronda_host_cpu_seconds_total{{{THIS},mode="idle"}}[{RATE}]))'
    memory = f"1 - {last('ronda_host_memory_available_bytes', THIS)} / {last('ronda_host_memory_total_bytes', THIS)}"
    disk = f"1 - {last('ronda_host_filesystem_avail_bytes', THIS)} / {last('ronda_host_filesystem_size_bytes', THIS)}"
    return Panel(
        title="Prosesor, memori, dan penyimpanan kotak",
        says="Bagian yang terpakai dari prosesor, memori, dan tiap penyimpanan kotak Ronda.",
        english="Used share of the box's processor, memory and filesystems.",
        type="timeseries",
        unit="percentunit",
        queries=(
            Query(expr=f"1 - {idle} / sum by (site) (rate(ronda_host_cpu_seconds_total{{{THIS}}}[{RATE}]))", legend="prosesor", step=STEP),
            Query(expr=memory, legend="memori"),
            Query(expr=disk, legend="penyimpanan {{mountpoint}}"),
        ),
        levels=(Level(None, GREEN, "di bawah 80 %"), Level(0.8, YELLOW, "dari 80 %"), Level(0.95, RED, "dari 95 %, hampir penuh")),
        low=0,
        high=1,
    )


def _heat() -> Panel:
    return Panel(
        title="Suhu kotak",
        says="Suhu kotak Ronda, di kotak yang punya sensor.",
        english="Temperature of the box, where it has a sensor.",
        type="timeseries",
        unit="celsius",
        width=6,
        queries=(Query(expr=f"max by (sensor) ({last('ronda_host_temperature_celsius', THIS)})", legend="{{sensor}}"),),
        levels=(Level(None, GREEN, "di bawah 70 °C"), Level(70, YELLOW, "dari 70 °C"), Level(80, RED, "dari 80 °C, prosesor melambat")),
        nothing="kotak ini tanpa sensor suhu",
    )


def _uptime() -> Panel:
    return Panel(
        title="Lama hidup kotak",
        says="Sejak kapan kotak hidup. Garis yang jatuh ke nol berarti kotak baru mulai: listrik padam atau dinyalakan ulang.",
        english="Time since the box was booted. A line that falls to zero is a boot: a power cut or a restart.",
        type="timeseries",
        unit="s",
        width=6,
        queries=(Query(expr=f"max({last('ronda_host_uptime_seconds', THIS)})", legend="lama hidup"),),
        low=0,
    )


def _events() -> Panel:
    return Panel(
        title="Kejadian yang dicatat kotak",
        says="Berapa kejadian tiap jenis yang dicatat kotak Ronda sampai sekarang sejak ia mulai; rinciannya ada di kotak (ronda events).",
        english="How many events of each kind the box has noted since it started; their evidence is on the box (ronda events).",
        type="table",
        unit="none",
        width=24,
        queries=(Query(expr=f"sum by (kind, severity) ({last('ronda_events_total', THIS)}) > 0", table=True),),
        columns=(
            Column(field="kind", title="Jenis"),
            Column(field="severity", title="Tingkat", words=SEVERITIES),
            Column(field="Value", title="Jumlah"),
        ),
        sort=("Jumlah", True),
        nothing="belum ada kejadian",
    )


DASHBOARD = Dashboard(
    uid="ronda-site",
    title="Ronda · Kantor",
    says="Satu kantor dari luar ke dalam: keadaan dan sebabnya, jalur internet, layanan, lalu kotak dan kabelnya.",
    english="One office from the outside in: its state and cause, uplinks, services, then its box and cables.",
    variables=(sites(several=False),),
    rows=(
        Row(panels=(_who(), _open()), height=4),
        Row(panels=(_states(), _causes()), height=6),
        Row(panels=(conditions(f",{THIS}"),), height=7),
        Row(title="Sambungan internet", panels=(_uplinks(),), height=5),
        Row(panels=(_rtt(), _slow(), _loss())),
        Row(panels=(_task_rtt(), _jitter())),
        Row(title="Layanan dan DNS", panels=(_services(), _service_time())),
        Row(panels=(_dns(), dns_time(THIS, "task", "{{task}}"))),
        Row(title="Kotak dan kabel", panels=(_cables(), _traffic(), _cable_errors())),
        Row(panels=(_box(), _heat(), _uptime())),
        Row(panels=(_events(),), height=6),
    ),
)
