"""Uplink: dibeli dan dipakai. What each uplink carries while its office is open, against its contract and its price."""

from central.dashboards.panels import GREEN, RED, YELLOW, Column, Dashboard, Level, Panel, Query, Row
from central.dashboards.promql import joined, last
from central.dashboards.shared import SITE_KEY, site_column, sites

UPLINK = "site, uplink"
CHOSEN = 'site=~"$site"'
NAMED = joined(["name"])
CONTRACT = f"max by ({UPLINK}) (ronda_uplink_contract_bits_per_second{{{CHOSEN}}})"
PRICE = f"max by ({UPLINK}) (ronda_uplink_contract_month_rupiah{{{CHOSEN}}})"
P95 = last("ronda:uplink_last_day_p95:bits_per_second", CHOSEN)
FULL = last("ronda:uplink_last_day_saturated:seconds", CHOSEN)
SHARE = (Level(None, YELLOW, "di bawah 20 %, lebih dari cukup"), Level(0.2, GREEN, "dari 20 %"), Level(0.9, RED, "dari 90 %, penuh"))
HOURS = (Level(None, GREEN, "kurang dari 1 jam"), Level(3600, YELLOW, "dari 1 jam"), Level(7200, RED, "dari 2 jam: penuh dipakai"))


def _table() -> Panel:
    isp = joined(["isp_name", "medium"], "", "ronda_uplink_info", UPLINK)
    return Panel(
        title="Dibeli dan dipakai, yang paling lama penuh dulu",
        says=(
            "Hari buka terakhir tiap kantor, hanya jam bukanya. p95: 95 % dari waktu itu pemakaian di bawah angka ini (arah yang lebih "
            "besar). Penuh: berapa lama 90 % kontrak atau lebih terpakai. Harga per Mbit/s terpakai: harga sebulan dibagi p95. Kosong: "
            "routernya tidak memberi angka, atau inventaris belum menyebut device dan interface jalur itu."
        ),
        english=(
            "Each office's last open day, its opening hours only. p95: use stayed below this for 95 % of that time (the larger direction). "
            "Full: how long 90 % of the contract or more was used. Price per used Mbit/s: a month's price by the p95. Empty: no figures "
            "from the router, or the inventory names no device and interface of the uplink."
        ),
        type="table",
        unit="none",
        width=24,
        queries=(
            Query(expr=f"{CONTRACT}{isp}{NAMED}", table=True),
            Query(expr=f"max by ({UPLINK}) ({P95})", table=True),
            Query(expr=f"max by ({UPLINK}) ({P95}) / {CONTRACT}", table=True),
            Query(expr=f"max by ({UPLINK}) ({FULL})", table=True),
            Query(expr=PRICE, table=True),
            Query(expr=f"{PRICE} / (max by ({UPLINK}) ({P95}) / 1e6 > 0)", table=True),
        ),
        columns=(
            site_column(),
            SITE_KEY,
            Column(field="uplink", title="Jalur"),
            Column(field="isp_name", title="Penyedia"),
            Column(field="Value #A", title="Dibeli", unit="bps", width=110),
            Column(field="Value #B", title="Dipakai (p95)", unit="bps", width=120, nothing="belum diketahui"),
            Column(field="Value #C", title="Bagian terpakai", unit="percentunit", decimals=0, levels=SHARE, width=130),
            Column(field="Value #D", title="Lama penuh", unit="s", levels=HOURS, width=110),
            Column(field="Value #E", title="Harga sebulan (Rp)", unit="none", decimals=0, width=150),
            Column(field="Value #F", title="Harga per Mbit/s terpakai (Rp)", unit="none", decimals=0, width=210),
        ),
        sort=("Lama penuh", True),
        nothing="belum ada jalur dengan kontrak di inventaris",
    )


def _use() -> Panel:
    used = last("ronda:uplink_used:bits_per_second", CHOSEN)
    return Panel(
        title="Bagian kontrak yang terpakai",
        says="Pemakaian tiap jalur dibagi yang dibeli, siang dan malam. Lewat 100 % bisa sebentar: penyedia memberi lebih.",
        english="What each uplink carries, by what is bought, day and night. Above 100 % happens: providers give more for a moment.",
        type="timeseries",
        unit="percentunit",
        width=24,
        queries=(Query(expr=f"max by ({UPLINK}) ({used}) / {CONTRACT}", legend="{{site}} {{uplink}}"),),
        levels=SHARE,
        low=0,
    )


def _p95() -> Panel:
    return Panel(
        title="p95 per hari",
        says="p95 jam buka hari itu sampai saat itu; di akhir hari: milik hari itu. Naik dari bulan ke bulan: rencanakan tambah kapasitas.",
        english="The p95 of the day's opening hours until then; at its end that of the day. Rising by months: plan for more.",
        type="timeseries",
        unit="bps",
        queries=(Query(expr=f"max by ({UPLINK}) ({last('ronda:uplink_day_p95:bits_per_second', CHOSEN)})", legend="{{site}} {{uplink}}"),),
        low=0,
        nothing="belum satu jam buka hari ini",
    )


def _hours() -> Panel:
    return Panel(
        title="Lama penuh per hari",
        says="Berapa lama hari itu, dalam jam buka, 90 % kontrak atau lebih terpakai.",
        english="How long that day, while open, 90 % of the contract or more was used.",
        type="timeseries",
        unit="s",
        queries=(Query(expr=f"max by ({UPLINK}) ({last('ronda:uplink_day_saturated:seconds', CHOSEN)})", legend="{{site}} {{uplink}}"),),
        levels=HOURS,
        low=0,
        nothing="belum satu jam buka hari ini",
    )


DASHBOARD = Dashboard(
    uid="ronda-capacity",
    title="Ronda · Uplink: dibeli dan dipakai",
    says="Kecepatan yang dibeli dan yang dipakai tiap jalur internet, pada jam buka: mana yang penuh, mana yang berlebih, berapa harganya.",
    english="Bought against used for each uplink in opening hours: which are full, which too large, and at what price.",
    variables=(sites(several=True),),
    since="now-7d",
    rows=(Row(panels=(_table(),), height=12), Row(panels=(_use(),)), Row(panels=(_p95(), _hours()))),
)
