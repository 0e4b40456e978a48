"""Mutu jalur: round-trip time, loss and slow replies by provider and uplink, fair between providers because every reply counts once."""

from central.dashboards.panels import Column, Dashboard, Json, Panel, Query, Row, Variable
from central.dashboards.promql import ANCHORS, RATE, SLOW, STEP, WINDOW, joined
from central.dashboards.shared import MEDIA, RTT, RTT_LINE, SHARE_LOST, SHARE_SLOW, SITE_KEY, site_column

CHOSEN = 'isp=~"$isp",medium=~"$medium"'
SENT, LOST = "ronda_icmp_packets_sent_total", "ronda_icmp_packets_lost_total"
SUM, COUNT, BUCKET = "ronda_icmp_rtt_seconds_sum", "ronda_icmp_rtt_seconds_count", "ronda_icmp_rtt_seconds_bucket"
LABELS = ("isp_name", "medium")


def summed(counter: str, by: str, window: str, matchers: str = "") -> str:
    """A counter of the anchors' pings a second, summed by labels of the uplink."""
    more = f",{matchers}" if matchers else ""
    per_uplink = f"sum by (site, uplink) (rate({counter}{{{ANCHORS}{more}}}[{window}]))"
    return f"sum by ({by}) ({per_uplink}{joined(LABELS, CHOSEN, 'ronda_uplink_info', 'site, uplink')})"


def mean(by: str, window: str = RATE) -> str:
    return f"{summed(SUM, by, window)} / ({summed(COUNT, by, window)} > 0)"


def slow(by: str, window: str = RATE) -> str:
    fast = summed(BUCKET, by, window, f'le="{SLOW}"')
    return f"1 - {fast} / ({summed(COUNT, by, window)} > 0)"


def loss(by: str, window: str = RATE) -> str:
    return f"{summed(LOST, by, window)} / ({summed(SENT, by, window)} > 0)"


def _table(title: str, says: str, english: str, by: str, first: tuple[Column, ...], named: str = "") -> Panel:
    count = f"count by ({by}) (ronda_uplink_info{{{CHOSEN}}})"
    forms = (count, mean(by, WINDOW), slow(by, WINDOW), loss(by, WINDOW))
    return Panel(
        title=title,
        says=says,
        english=english,
        type="table",
        unit="none",
        width=24,
        queries=[Query(expr=f"({form}){named}", table=True) for form in forms],
        columns=(
            *first,
            Column(field="Value #A", title="Jalur", width=80, hidden=bool(named)),
            Column(field="Value #B", title="Waktu balasan", unit="s", levels=RTT),
            Column(field="Value #C", title="Balasan lambat", unit="percentunit", decimals=1, levels=SHARE_SLOW),
            Column(field="Value #D", title="Hilang", unit="percentunit", decimals=1, levels=SHARE_LOST),
        ),
        sort=("Hilang", True),
    )


def _curve(title: str, says: str, english: str, form: str, legend: str, unit: str) -> Panel:
    levels = {"s": RTT_LINE, "percentunit": SHARE_LOST}[unit]
    high = 1.0 if unit == "percentunit" else None
    query = Query(expr=form, legend=legend, step=STEP)
    return Panel(
        title=title,
        says=says,
        english=english,
        type="timeseries",
        unit=unit,
        width=8,
        queries=(query,),
        levels=levels,
        low=0,
        high=high,
        names={medium: word.text for medium, word in MEDIA.items()} if legend == "{{medium}}" else {},
    )


def _providers() -> Panel:
    return _table(
        "Penyedia, yang terburuk dulu",
        (
            "Tiap penyedia internet dan jenis jalur: jumlah jalur, waktu balasan rata-rata, bagian yang lambat, dan yang "
            "hilang selama 11 menit terakhir."
        ),
        "Each provider and medium: uplinks, mean round-trip time, share of slow replies, loss, over the last 11 minutes.",
        "isp_name, medium",
        (Column(field="isp_name", title="Penyedia"), Column(field="medium", title="Jenis", words=MEDIA)),
    )


def _each() -> Panel:
    return _table(
        "Semua jalur, yang terburuk dulu",
        (
            "Tiap jalur internet tiap kantor selama 11 menit terakhir. Jalur yang jauh lebih buruk dari jalur lain penyedia "
            "yang sama: lihat kabel dan antena di kantor itu dulu."
        ),
        (
            "Every uplink of every office over the last 11 minutes. One that is far worse than others of its provider: look "
            "at the office's cable and antenna first."
        ),
        "site, uplink, isp_name, medium",
        (
            site_column(),
            SITE_KEY,
            Column(field="uplink", title="Nama jalur"),
            Column(field="isp_name", title="Penyedia"),
            Column(field="medium", title="Jenis", words=MEDIA),
        ),
        joined(["name"]),
    )


def _spread() -> Panel:
    kept: Json = {"calculate": False}
    return Panel(
        title="Sebaran waktu balasan",
        says=(
            "Berapa balasan per detik jatuh di tiap rentang waktu. Dua pita berarti dua macam jalur (serat dan satelit), "
            "pita yang melebar ke atas pada jam kantor berarti jalur penuh."
        ),
        english=(
            "Replies a second in each span of time. Two bands are two kinds of uplinks; a band that widens upwards in "
            "office hours is a full one."
        ),
        type="heatmap",
        unit="s",
        width=24,
        queries=(
            Query(
                expr=summed(BUCKET, "le", RATE).replace("sum by (site, uplink)", "sum by (site, uplink, le)"),
                legend="{{le}}",
                step=STEP,
                heatmap=True,
            ),
        ),
        options=kept,
    )


ISP = Variable(
    name="isp",
    label="Penyedia",
    query="query_result(max by (isp, name) (ronda_isp_info))",
    regex=r'/^\{isp="(?<value>[a-z0-9-]+)",name="(?<text>[\s\S]*)"\} /',
)
MEDIUM = Variable(name="medium", label="Jenis jalur", query="label_values(ronda_uplink_info, medium)")

DASHBOARD = Dashboard(
    uid="ronda-uplinks",
    title="Ronda · Mutu jalur dan penyedia",
    says="Waktu balasan dan ping yang hilang menurut jalur dan penyedia internet: bahan bicara dengan penyedia dan untuk rencana anggaran.",
    english="Latency and loss by uplink and provider: what to speak of with providers, and what budgets are planned from.",
    variables=(ISP, MEDIUM),
    rows=(
        Row(panels=(_providers(),), height=7),
        Row(
            panels=(
                _curve(
                    "Waktu balasan rata-rata per penyedia",
                    "Rata-rata waktu bolak-balik ping ke jangkar internet, semua jalur penyedia itu bersama.",
                    "Mean round-trip time to the internet anchors, all uplinks of a provider together.",
                    mean("isp_name"),
                    "{{isp_name}}",
                    "s",
                ),
                _curve(
                    "Ping yang hilang per penyedia",
                    "Bagian ping ke jangkar internet yang tidak dijawab, semua jalur penyedia itu bersama.",
                    "Share of pings to the internet anchors without an answer, all uplinks of a provider together.",
                    loss("isp_name"),
                    "{{isp_name}}",
                    "percentunit",
                ),
                _curve(
                    "Waktu balasan rata-rata per jenis jalur",
                    "Rata-rata waktu bolak-balik menurut jenis jalur. Satelit selalu lebih lambat; itu bukan gangguan.",
                    "Mean round-trip time by medium. Satellite is always slower; that is no fault.",
                    mean("medium"),
                    "{{medium}}",
                    "s",
                ),
            )
        ),
        Row(panels=(_each(),), height=12),
        Row(panels=(_spread(),), height=9),
    ),
)
