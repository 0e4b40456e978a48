"""Keadaan sekarang: all offices at a glance. The map, the worst first, what is open, what changed since yesterday, quality by district."""

from central.dashboards.panels import (
    Column,
    Dashboard,
    Json,
    Panel,
    Query,
    Row,
    Variable,
)
from central.dashboards.promql import (
    ACTIVE,
    ANCHORS,
    CAUSE_NAMES,
    STATE_CODES,
    STATE_COLORS,
    STATE_LEVELS,
    STATE_WORDS,
    WINDOW,
    joined,
    last,
    loss_share,
    mean_rtt,
    slow_share,
    state_code,
)
from central.dashboards.shared import OPEN_SITE, RTT, SHARE_LOST, SHARE_SLOW, SITE_KEY, TO_SITE, conditions, site_column

CHOSEN = 'district=~"$district"'
IN_DISTRICT = f"on (site) ronda_site_info{{{CHOSEN}}}"


def _in_state(state: str) -> str:
    return f'count((ronda:site_state{{state="{state}"}} == 1) and {IN_DISTRICT}) or vector(0)'


def _counts() -> Panel:
    states = [s for s in sorted(STATE_CODES, key=lambda s: -STATE_CODES[s]) if s != "retired"]
    words = {s: STATE_WORDS[str(STATE_CODES[s])].text for s in states}
    queries = [Query(expr=_in_state(s), legend=words[s], instant=True) for s in states]
    return Panel(
        title="Berapa kantor, menurut keadaan",
        says="Jumlah kantor dalam tiap keadaan sekarang. Setiap kantor dihitung satu kali.",
        english="How many offices are in each state now; every office counts once.",
        type="stat",
        unit="none",
        width=24,
        queries=queries,
        colors={words[s]: STATE_COLORS[s] for s in states},
    )


def _map() -> Panel:
    location: Json = {"mode": "coords", "latitude": "latitude", "longitude": "longitude"}
    style: Json = {
        "color": {"field": "Keadaan", "fixed": "green"},
        "opacity": 0.9,
        "size": {"fixed": 8, "min": 4, "max": 15},
        "symbol": {"fixed": "img/icons/marker/circle.svg", "mode": "fixed"},
        "symbolAlign": {"horizontal": "center", "vertical": "center"},
        "rotation": {"fixed": 0, "min": -360, "max": 360, "mode": "mod"},
        "textConfig": {"fontSize": 12, "offsetX": 0, "offsetY": 0, "textAlign": "center", "textBaseline": "middle"},
    }
    layer: Json = {
        "type": "markers",
        "name": "Kantor",
        "config": {"showLegend": False, "style": style},
        "location": location,
        "tooltip": True,
    }
    numbers: Json = {"fields": {}, "conversions": [{"targetField": f, "destinationType": "number"} for f in ("latitude", "longitude")]}
    where = f'{CHOSEN},latitude!="",status!="retired"'
    return Panel(
        title="Peta kantor",
        says=(
            "Setiap titik satu kantor, warnanya keadaan sekarang. Klik titik untuk membuka halaman kantor itu. Kantor tanpa "
            "lokasi tidak tampak."
        ),
        english="One dot an office, coloured by its state now; click to open its page. Offices without a location are not drawn.",
        type="geomap",
        unit="none",
        width=12,
        queries=(Query(expr=state_code() + joined(["name", "district", "latitude", "longitude"], where), table=True),),
        levels=STATE_LEVELS,
        words=STATE_WORDS,
        link=TO_SITE,
        nothing="belum ada kantor dengan lokasi",
        link_title=OPEN_SITE,
        before=({"id": "convertFieldType", "options": numbers},),
        columns=(
            Column(field="name", title="Kantor"),
            Column(field="district", title="Kecamatan"),
            Column(field="Value", title="Keadaan"),
            Column(field="latitude", title="latitude"),
            Column(field="longitude", title="longitude"),
            Column(field="site", title="site"),
        ),
        options={
            "view": {"id": "fit", "lat": 0, "lon": 0, "zoom": 9, "allLayers": True},
            "controls": {"showZoom": True, "mouseWheelZoom": False, "showAttribution": True, "showScale": False, "showDebug": False},
            "basemap": {"type": "default", "name": "Peta", "config": {}},
            "layers": [layer],
            "tooltip": {"mode": "details"},
        },
    )


def _worst() -> Panel:
    named = joined(["name", "district", "class", "code"], f'{CHOSEN},status!="retired"')
    quiet = 'on (site) (ronda:site_state{state=~"silent|closed|maintenance"} == 1)'
    cause = f"max by (site, cause) ({last('ronda_verdict')} == 1) unless {quiet} and {IN_DISTRICT}"
    return Panel(
        title="Yang terburuk dulu",
        says=(
            "Semua kantor, yang paling perlu dilihat di atas. Sejak: mulai kapan keadaannya begitu, sejauh diketahui pusat. "
            "Sebab kosong: kantor sedang tanpa kabar atau tutup, jadi belum diketahui."
        ),
        english=(
            "All offices, the worst first. Since: when this state began, as far as the centre knows. No cause: the office is silent "
            "or closed, so nobody knows yet."
        ),
        type="table",
        unit="none",
        width=12,
        queries=(
            Query(expr=state_code() + named, table=True),
            Query(expr=f"max by (site) (ronda:site_state_since:timestamp) * 1000 and {IN_DISTRICT}", table=True),
            Query(expr=f"({cause})", table=True),
        ),
        columns=(
            Column(field="Value #A", title="Keadaan", words=STATE_WORDS, levels=STATE_LEVELS, width=140),
            site_column(),
            SITE_KEY,
            Column(field="district", title="Kecamatan"),
            Column(field="class", title="Kelas", width=90),
            Column(field="cause", title="Sebab", words=CAUSE_NAMES),
            Column(field="Value #B", title="Sejak", unit="dateTimeAsLocal", width=170),
        ),
        sort=("Keadaan", True),
    )


def _changed() -> Panel:
    now, before = state_code(), state_code(offset="1d")
    return Panel(
        title="Yang berubah sejak kemarin",
        says="Kantor yang keadaannya sekarang lain dari keadaannya tepat 24 jam yang lalu.",
        english="Offices whose state differs from what it was exactly 24 hours ago.",
        type="table",
        unit="none",
        width=12,
        queries=(
            Query(expr=f"({now} != {before}){joined(['name', 'district'], CHOSEN)}", table=True),
            Query(expr=f"({before} != {now}) and {IN_DISTRICT}", table=True),
        ),
        columns=(
            site_column(),
            SITE_KEY,
            Column(field="district", title="Kecamatan"),
            Column(field="Value #B", title="Kemarin", words=STATE_WORDS, levels=STATE_LEVELS),
            Column(field="Value #A", title="Sekarang", words=STATE_WORDS, levels=STATE_LEVELS),
        ),
        sort=("Sekarang", True),
        nothing="tidak ada yang berubah",
    )


def _history() -> Panel:
    words = {s: STATE_WORDS[str(STATE_CODES[s])].text for s in STATE_CODES if s not in ("retired", "planned")}
    return Panel(
        title="Jumlah kantor menurut keadaan, dari waktu ke waktu",
        says=(
            "Banyaknya kantor dalam tiap keadaan; lonjakan merah atau jingga yang serempak menandakan satu sebab bersama "
            "(listrik, ISP, pusat)."
        ),
        english=(
            "Offices in each state over time; many that go red or orange together have one cause in common (power, an ISP, the centre)."
        ),
        type="timeseries",
        unit="none",
        queries=[Query(expr=_in_state(s), legend=word) for s, word in words.items()],
        colors={word: STATE_COLORS[s] for s, word in words.items()},
        low=0,
        decimals=0,
        custom={"fillOpacity": 60, "stacking": {"mode": "normal", "group": "A"}, "lineInterpolation": "stepAfter"},
    )


def _quality() -> Panel:
    """A mean of offices, not of pings: a village with one slow uplink weighs as much as an office with many targets."""
    district = joined(["district"], f"{CHOSEN},{ACTIVE}")
    offices = f"count by (district) (ronda_site_info{{{CHOSEN},{ACTIVE}}})"

    def by_district(form: str) -> str:
        return f"avg by (district) (({form}){district})"

    return Panel(
        title="Mutu jaringan per kecamatan",
        says=(
            "Rata-rata kantor aktif di tiap kecamatan, dari ping ke jangkar internet selama 11 menit terakhir: untuk "
            "pemerataan mutu. Putus 24 jam: bagian waktu kantor seharusnya hidup tetapi putus atau tanpa kabar."
        ),
        english=(
            "Mean over the active offices of each district, from pings to internet anchors in the last 11 minutes: to "
            "equalise quality. Down 24 h: share of the day in which offices were cut off or silent though expected."
        ),
        type="table",
        unit="none",
        width=24,
        queries=(
            Query(expr=offices, table=True),
            Query(expr=f'(sum by (district) ((ronda:site_state{{state="ok"}} == 1){district}) or 0 * {offices}) / {offices}', table=True),
            Query(expr=f"avg by (district) (avg_over_time(ronda:site_down:bool[1d]){district})", table=True),
            Query(expr=by_district(mean_rtt("site", ANCHORS, WINDOW)), table=True),
            Query(expr=by_district(slow_share("site", ANCHORS, WINDOW)), table=True),
            Query(expr=by_district(loss_share("site", ANCHORS, WINDOW)), table=True),
        ),
        columns=(
            Column(field="district", title="Kecamatan"),
            Column(field="Value #A", title="Kantor", width=90),
            Column(field="Value #B", title="Baik sekarang", unit="percentunit", decimals=0),
            Column(field="Value #C", title="Putus 24 jam", unit="percentunit", decimals=1),
            Column(field="Value #D", title="Waktu balasan", unit="s", levels=RTT),
            Column(field="Value #E", title="Balasan lambat", unit="percentunit", decimals=1, levels=SHARE_SLOW),
            Column(field="Value #F", title="Hilang", unit="percentunit", decimals=1, levels=SHARE_LOST),
        ),
        sort=("Hilang", True),
    )


DISTRICT = Variable(name="district", label="Kecamatan", query=f"label_values(ronda_site_info{{{ACTIVE}}}, district)")

DASHBOARD = Dashboard(
    uid="ronda-fleet",
    title="Ronda · Keadaan sekarang",
    says="Semua kantor sekaligus: mana yang putus, lambat, atau tanpa kabar, sejak kapan, dan apa yang berubah sejak kemarin.",
    english="All offices at once: which are down, slow or silent, since when, and what changed since yesterday.",
    variables=(DISTRICT,),
    since="now-24h",
    rows=(
        Row(panels=(_counts(),), height=4),
        Row(panels=(_map(), _worst()), height=15),
        Row(panels=(conditions("", CHOSEN),), height=9),
        Row(panels=(_changed(), _history()), height=9),
        Row(panels=(_quality(),), height=9),
    ),
)
