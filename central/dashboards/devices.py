"""Perangkat: an office's router, switches, radios and UPS. Health, interfaces, the signal beside what gets lost, the battery."""

import dataclasses

from central.dashboards.panels import GREEN, GREY, ORANGE, RED, YELLOW, Column, Dashboard, Level, Panel, Query, Row, Variable, Word
from central.dashboards.promql import ANCHORS, RATE, STEP, WINDOW, last, loss_share, mean_rtt
from central.dashboards.shared import RTT_LINE, SHARE_LOST, sites, timeline, usable

THIS = 'site="$site"'
CHOSEN = f'{THIS},task=~"$task"'
DEVICE, PORT = "site, task", "site, task, interface"
KINDS = {
    "router": Word("router", GREEN), "switch": Word("switch", GREEN), "radio": Word("radio", GREEN), "ups": Word("UPS", GREEN),
    "other": Word("lainnya", GREY),
}  # fmt: skip
ANSWERS = {"1": Word("menjawab", GREEN), "0": Word("tidak menjawab", RED)}
PLUGGED = {"1": Word("tersambung", GREEN), "0": Word("lepas", GREY)}
BUSY = (Level(None, GREEN, "di bawah 70 %"), Level(0.7, YELLOW, "dari 70 %"), Level(0.9, RED, "dari 90 %, penuh"))
HEAT = (Level(None, GREEN, "di bawah 70 °C"), Level(70, YELLOW, "dari 70 °C"), Level(80, RED, "dari 80 °C"))
FEW = (Level(None, GREEN, "kurang dari 0,1 per detik"), Level(0.1, YELLOW, "dari 0,1 per detik"), Level(10, RED, "dari 10 per detik"))
RSRP = (Level(None, RED, "di bawah -110 dBm, lemah"), Level(-110, YELLOW, "dari -110 dBm"), Level(-95, GREEN, "dari -95 dBm, baik"))
RADIO = (Level(None, RED, "di bawah -80 dBm, lemah"), Level(-80, YELLOW, "dari -80 dBm"), Level(-70, GREEN, "dari -70 dBm, baik"))


def _bits(way: str, by: str = PORT, window: str = WINDOW) -> str:
    return f"8 * max by ({by}) (rate(ronda_snmp_interface_{way}_bytes_total{{{CHOSEN}}}[{window}]))"


def _a_second(what: str, window: str = WINDOW) -> str:
    """Both directions together."""
    ways = (f"max by ({PORT}) (rate(ronda_snmp_interface_{way}_{what}_total{{{CHOSEN}}}[{window}]))" for way in ("receive", "transmit"))
    return " + ".join(ways)


def _used(window: str = WINDOW) -> str:
    """Of what the interface could carry, in the direction that is fuller: 0 to 1."""
    into, out = (f"({_bits(way, window=window)})" for way in ("receive", "transmit"))
    larger = f"({into} >= {out} or {out} or {into})"
    return f"{larger} / (8 * max by ({PORT}) ({last('ronda_snmp_interface_speed_bytes', CHOSEN)}) > 0)"


def _devices() -> Panel:
    said = last("ronda_snmp_device_info", CHOSEN)
    answers = last("ronda_probe_success", f'{CHOSEN},kind="snmp"')
    memory = f"{last('ronda_snmp_memory_used_bytes', CHOSEN)} / {last('ronda_snmp_memory_size_bytes', CHOSEN)}"
    return Panel(
        title="Perangkat kantor",
        says="Tiap perangkat kantor ini: apakah menjawab, apa katanya tentang dirinya, dan bagaimana keadaannya.",
        english="Each device of this office: whether it answers, what it says it is, and how it is.",
        type="table",
        unit="none",
        width=24,
        queries=(
            Query(expr=f"max by (site, task, device_kind) (ronda_device_info{{{CHOSEN}}})", table=True),
            Query(expr=f"min by ({DEVICE}) ({answers})", table=True),
            Query(expr=f"max by ({DEVICE}, name, model, version, serial) ({said})", table=True),
            Query(expr=f"max by ({DEVICE}) ({last('ronda_snmp_uptime_seconds', CHOSEN)})", table=True),
            Query(expr=f"avg by ({DEVICE}) ({last('ronda_snmp_cpu_ratio', CHOSEN)})", table=True),
            Query(expr=f"max by ({DEVICE}) ({memory})", table=True),
            Query(expr=f"max by ({DEVICE}) ({last('ronda_snmp_temperature_celsius', CHOSEN)})", table=True),
        ),
        columns=(
            Column(field="task", title="Perangkat"),
            Column(field="device_kind", title="Jenis", words=KINDS, width=90),
            Column(field="Value #B", title="Keadaan", words=ANSWERS, width=140),
            Column(field="name", title="Namanya sendiri"),
            Column(field="model", title="Model"),
            Column(field="version", title="Versi"),
            Column(field="serial", title="Nomor seri"),
            Column(field="Value #D", title="Lama hidup", unit="s", width=110),
            Column(field="Value #E", title="Prosesor", unit="percentunit", decimals=0, levels=BUSY, width=100),
            Column(field="Value #F", title="Memori", unit="percentunit", decimals=0, levels=BUSY, width=100),
            Column(field="Value #G", title="Suhu tertinggi", unit="celsius", decimals=0, levels=HEAT, width=120),
        ),
        sort=("Perangkat", False),
        nothing="belum ada perangkat di inventaris (devices)",
    )


def _answers() -> Panel:
    return timeline(
        "Menjawab",
        "Apakah tiap perangkat menjawab pertanyaan kotak Ronda.",
        "Whether each device answers the box.",
        (usable(f'{CHOSEN},kind="snmp"', "task", "{{task}}"),),
        words=ANSWERS,
        nothing="tidak ada perangkat yang ditanya",
    )


def _health() -> Panel:
    return Panel(
        title="Prosesor dan suhu",
        says="Kesibukan prosesor tiap perangkat. Terus di atas 90 %: internet bisa lambat karena perangkatnya.",
        english="How busy each device's processor is. Steadily above 90 %, the device itself may be what is slow.",
        type="timeseries",
        unit="percentunit",
        queries=(Query(expr=f"avg by (task) ({last('ronda_snmp_cpu_ratio', CHOSEN)})", legend="{{task}}"),),
        levels=BUSY,
        low=0,
        high=1,
        nothing="tidak ada yang melaporkannya",
    )


def _heat() -> Panel:
    return Panel(
        title="Suhu dan sensor",
        says="Suhu menurut sensor tiap perangkat.",
        english="Temperatures that the devices' sensors show.",
        type="timeseries",
        unit="celsius",
        queries=(Query(expr=f"max by (task, sensor) ({last('ronda_snmp_temperature_celsius', CHOSEN)})", legend="{{task}} {{sensor}}"),),
        levels=HEAT,
        nothing="tidak ada sensor suhu",
    )


def _interfaces() -> Panel:
    info = last("ronda_snmp_interface_info", CHOSEN)
    return Panel(
        title="Antarmuka: pemakaian dan galat",
        says=(
            "Tiap antarmuka selama 11 menit terakhir: lalu lintas, bagian yang terpakai dari kecepatannya (arah yang lebih penuh), paket "
            "rusak dan paket dibuang karena penuh. Port komputer yang lepas di luar jam kerja itu wajar."
        ),
        english=(
            "Each interface over the last 11 minutes: traffic, share of its speed that is used (the fuller direction), broken packets, "
            "packets dropped for want of room. Ports of computers that are off after hours are no fault."
        ),
        type="table",
        unit="none",
        width=24,
        queries=(
            Query(expr=_bits("receive"), table=True),
            Query(expr=_bits("transmit"), table=True),
            Query(expr=_used(), table=True),
            Query(expr=_a_second("errors"), table=True),
            Query(expr=_a_second("discards"), table=True),
            Query(expr=f"max by ({PORT}) ({last('ronda_snmp_interface_up', CHOSEN)})", table=True),
            Query(expr=f"max by ({PORT}, description) ({info})", table=True),
            Query(expr=f"8 * max by ({PORT}) ({last('ronda_snmp_interface_speed_bytes', CHOSEN)})", table=True),
        ),
        columns=(
            Column(field="task", title="Perangkat"),
            Column(field="interface", title="Antarmuka"),
            Column(field="description", title="Keterangan"),
            Column(field="Value #F", title="Kabel", words=PLUGGED, width=110),
            Column(field="Value #H", title="Kecepatan", unit="bps", width=110),
            Column(field="Value #A", title="Masuk", unit="bps", width=110),
            Column(field="Value #B", title="Keluar", unit="bps", width=110),
            Column(field="Value #C", title="Terpakai", unit="percentunit", decimals=0, levels=BUSY, width=100),
            Column(field="Value #D", title="Rusak per detik", unit="pps", levels=FEW, width=120),
            Column(field="Value #E", title="Dibuang per detik", unit="pps", levels=FEW, width=130),
        ),
        sort=("Terpakai", True),
        nothing="belum ada antarmuka",
    )


def _busiest() -> Panel:
    into, out = (f"({_bits(way, window=RATE)})" for way in ("receive", "transmit"))
    return Panel(
        title="Antarmuka tersibuk",
        says="Lima antarmuka dengan lalu lintas terbesar, masuk dan keluar bersama. Di baliknya ada pemakai terbesar.",
        english="The five interfaces with most traffic, in and out together. Behind them are the largest users.",
        type="timeseries",
        unit="bps",
        queries=(Query(expr=f"topk(5, {into} + {out})", legend="{{task}} {{interface}}", step=STEP),),
        low=0,
        nothing="belum ada lalu lintas",
    )


def _errors() -> Panel:
    return Panel(
        title="Paket rusak per antarmuka",
        says="Lima antarmuka dengan paket rusak terbanyak per detik. Terus-menerus di atas nol: kabel, colokan, atau duplex.",
        english="The five interfaces with most broken packets a second. Steadily above zero: cable, plug or duplex.",
        type="timeseries",
        unit="pps",
        queries=(Query(expr=f"topk(5, {_a_second('errors', RATE)})", legend="{{task}} {{interface}}", step=STEP),),
        levels=FEW,
        low=0,
        nothing="belum ada lalu lintas",
    )


def _signal() -> Panel:
    return Panel(
        title="Sinyal modem (RSRP)",
        says="Kekuatan sinyal menara yang diterima modem 4G. Bandingkan dengan ping yang hilang di sebelahnya, pada jam yang sama.",
        english="Power of the cell's signal at the 4G modem. Compare with the lost pings beside it, at the same hour.",
        type="timeseries",
        unit="dBm",
        width=6,
        queries=(Query(expr=f"max by (task, interface) ({last('ronda_snmp_lte_rsrp_dbm', CHOSEN)})", legend="{{task}} {{interface}}"),),
        levels=RSRP,
        nothing="tidak ada modem",
    )


def _radio() -> Panel:
    return Panel(
        title="Sinyal radio",
        says="Kekuatan sinyal yang diterima radio; pada pemancar WiFi: milik pemakai yang terjauh.",
        english="Strength of the signal at the radio; of an access point: that of its weakest client.",
        type="timeseries",
        unit="dBm",
        width=6,
        queries=(
            Query(expr=f"max by (task, interface) ({last('ronda_snmp_wireless_signal_dbm', CHOSEN)})", legend="{{task}} {{interface}}"),
        ),
        levels=RADIO,
        nothing="tidak ada radio",
    )


def _loss() -> Panel:
    return Panel(
        title="Ping yang hilang pada jam yang sama",
        says="Bagian ping ke jangkar internet yang tidak dijawab, per jalur. Naik saat sinyal turun: penyebabnya radio atau modemnya.",
        english="Share of pings to the anchors without an answer, by uplink. Where it rises as the signal falls, the radio is why.",
        type="timeseries",
        unit="percentunit",
        width=6,
        queries=(Query(expr=loss_share("uplink", f"{THIS},{ANCHORS}"), legend="{{uplink}}", step=STEP),),
        levels=SHARE_LOST,
        low=0,
        high=1,
    )


def _rtt() -> Panel:
    return Panel(
        title="Waktu balasan pada jam yang sama",
        says="Rata-rata waktu bolak-balik ping ke jangkar internet, per jalur.",
        english="Mean round-trip time to the anchors, by uplink.",
        type="timeseries",
        unit="s",
        width=6,
        queries=(Query(expr=mean_rtt("uplink", f"{THIS},{ANCHORS}"), legend="{{uplink}}", step=STEP),),
        levels=RTT_LINE,
        low=0,
        nothing="tidak ada balasan",
    )


def _battery() -> Panel:
    made = timeline(
        "Sumber listrik",
        "Apakah UPS hidup dari listrik atau dari baterai.",
        "Whether the UPS lives on the mains or on its battery.",
        (Query(expr=f"1 - max by (task) ({last('ronda_snmp_ups_on_battery', CHOSEN)})", legend="{{task}}"),),
        8,
        {"1": Word("listrik", GREEN), "0": Word("baterai", ORANGE)},
        "tidak ada UPS",
    )
    return dataclasses.replace(made, levels=(Level(None, ORANGE, "baterai"), Level(1, GREEN, "listrik")))


def _charge() -> Panel:
    levels = (Level(None, RED, "di bawah 30 %"), Level(0.3, YELLOW, "dari 30 %"), Level(0.8, GREEN, "dari 80 %"))
    return Panel(
        title="Isi baterai dan beban",
        says="Isi baterai UPS, dan bebannya dibandingkan dengan yang sanggup ia tanggung.",
        english="Charge of the UPS's battery, and its load against what it can bear.",
        type="timeseries",
        unit="percentunit",
        width=8,
        queries=(
            Query(expr=f"max by (task) ({last('ronda_snmp_ups_charge_ratio', CHOSEN)})", legend="{{task}} isi"),
            Query(expr=f"max by (task) ({last('ronda_snmp_ups_load_ratio', CHOSEN)})", legend="{{task}} beban"),
        ),
        levels=levels,
        low=0,
        nothing="tidak ada UPS",
    )


def _runtime() -> Panel:
    levels = (Level(None, RED, "di bawah 10 menit"), Level(600, YELLOW, "dari 10 menit"), Level(1800, GREEN, "dari 30 menit"))
    return Panel(
        title="Sisa waktu baterai",
        says="Berapa lama baterai bertahan pada beban sekarang, menurut UPS sendiri.",
        english="How long the battery will last at this load, as the UPS judges it.",
        type="timeseries",
        unit="s",
        width=8,
        queries=(Query(expr=f"max by (task) ({last('ronda_snmp_ups_runtime_seconds', CHOSEN)})", legend="{{task}}"),),
        levels=levels,
        low=0,
        nothing="tidak ada UPS",
    )


def _turned_away() -> Panel:
    parts = {"log": "ronda_devicelog_refused_total", "trap": "ronda_traps_refused_total"}
    return Panel(
        title="Log dan trap yang ditolak",
        says="Pesan per menit yang tidak dibaca: sender pengirim tak dikenal, flood terlalu banyak, community atau auth kata kunci salah.",
        english="Messages a minute that the box did not read: of strangers (sender), too many (flood), with a wrong community or password.",
        type="timeseries",
        unit="cpm",
        width=12,
        queries=tuple(
            Query(expr=f"sum by (reason) (rate({metric}{{{THIS}}}[{RATE}])) * 60", legend=f"{word}: {{{{reason}}}}", step=STEP)
            for word, metric in parts.items()
        ),
        low=0,
        nothing="tidak ada perangkat yang didengar",
    )


TASK = Variable(name="task", label="Perangkat", query=f"label_values(ronda_device_info{{{THIS}}}, task)")

DASHBOARD = Dashboard(
    uid="ronda-devices",
    title="Ronda · Perangkat",
    says="Router, switch, radio, dan UPS satu kantor: keadaan, antarmuka dan pemakaiannya, sinyal di samping ping yang hilang, baterai.",
    english="Router, switches, radios and UPS of one office: health, interfaces and their use, signal beside lost pings, battery.",
    variables=(sites(several=False), TASK),
    rows=(
        Row(panels=(_devices(),), height=7),
        Row(title="Antarmuka", panels=(_interfaces(),), height=10),
        Row(panels=(_busiest(), _errors())),
        Row(title="Sinyal di samping ping yang hilang", panels=(_signal(), _radio(), _loss(), _rtt())),
        Row(title="UPS", panels=(_battery(), _charge(), _runtime()), height=7),
        Row(title="Kesehatan", panels=(_answers(), _health())),
        Row(panels=(_heat(), _turned_away())),
    ),
)
