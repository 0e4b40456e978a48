"""What several pages have in common: the offices' column and variable, levels and words, the open conditions, timelines of up and down.

Law: what stands here is the same thing wherever it is shown; what only looks alike stays on its page.
"""

from collections.abc import Mapping, Sequence

from central.dashboards.panels import GREEN, ORANGE, RED, YELLOW, Column, Level, Panel, Query, Variable, Word
from central.dashboards.promql import ACTIVE, UP_DOWN, UP_DOWN_LEVELS, joined, last

TO_SITE = "/d/ronda-site?var-site=${__data.fields.site}&${__url_time_range}"
OPEN_SITE = "Buka halaman kantor ini"
SEVERITIES = {"critical": Word("GAWAT", RED), "warning": Word("PERHATIAN", ORANGE), "info": Word("INFO", GREEN)}
SHARE_LOST = (
    Level(None, GREEN, "kurang dari 2 % hilang"),
    Level(0.02, YELLOW, "dari 2 %, terasa"),
    Level(0.05, RED, "dari 5 %, mengganggu"),
)
SHARE_SLOW = (Level(None, GREEN, "kurang dari 5 % lambat"), Level(0.05, YELLOW, "dari 5 %"), Level(0.2, RED, "dari 20 %, lemot"))
RTT = (Level(None, GREEN, "di bawah 100 ms"), Level(0.1, YELLOW, "dari 100 ms"), Level(0.35, RED, "dari 350 ms, lemot"))
RTT_LINE = (Level(None, GREEN, "di bawah 350 ms"), Level(0.35, RED, "dari 350 ms: pemakai bilang lemot"))
MEDIA = {
    "fibre": Word("serat optik", GREEN),
    "cable": Word("kabel", GREEN),
    "wireless": Word("radio", YELLOW),
    "4g": Word("4G", YELLOW),
    "vsat": Word("satelit (VSAT)", ORANGE),
}


def site_column(title: str = "Kantor") -> Column:
    return Column(field="name", title=title, link=TO_SITE, link_title=OPEN_SITE)


SITE_KEY = Column(field="site", title="site", hidden=True)


def conditions(where: str, chosen: str = "") -> Panel:
    """What is wrong now, and since when. Security findings are for the CSIRT only and stay out.

    where: matchers of a condition; chosen: of the offices, whose names then stand in front
    """
    which = f'{{audience!="csirt"{where}}}'
    by = "site, alertname, severity, class, district, task, device, interface, uplink, service"
    named = joined(["name"], chosen)
    first = (site_column(), SITE_KEY, Column(field="district", title="Kecamatan")) if chosen else ()
    return Panel(
        title="Gangguan terbuka",
        says="Semua yang sedang tidak beres menurut aturan, juga yang belum (atau tidak) dikirim sebagai pesan karena di luar jam kantor.",
        english="Every condition that holds now, paged or not. Security findings are left out: they are for the CSIRT only.",
        type="table",
        unit="none",
        width=24,
        queries=(
            Query(expr=f"max by ({by}) (ronda:condition{which}){named}", table=True),
            Query(expr=f"max by ({by}) (ronda:condition_since:timestamp{which}){named} * 1000", table=True),
        ),
        columns=(
            *first,
            Column(field="alertname", title="Gangguan"),
            Column(field="severity", title="Tingkat", words=SEVERITIES, width=120),
            Column(field="task", title="Yang diamati"),
            Column(field="uplink", title="Jalur"),
            Column(field="device", title="Perangkat"),
            Column(field="interface", title="Antarmuka"),
            Column(field="Value #B", title="Sejak", unit="dateTimeAsLocal", width=180),
        ),
        sort=("Sejak", True),
        nothing="tidak ada gangguan",
    )


def timeline(
    title: str,
    says: str,
    english: str,
    queries: Sequence[Query],
    width: int = 12,
    words: Mapping[str, Word] = UP_DOWN,
    nothing: str = "tidak ada data",
) -> Panel:
    """What is up (1) and what is down (0), over time."""
    levels = tuple(Level(level.value, level.color, words[str(int(level.value or 0))].text) for level in UP_DOWN_LEVELS)
    return Panel(
        title=title,
        says=says,
        english=english,
        type="state-timeline",
        unit="none",
        width=width,
        queries=queries,
        levels=levels,
        words=words,
        nothing=nothing,
    )


def troubled(metric: str, matchers: str, by: str) -> str:
    """Those series of `min by`, whole, that were 0 within the chosen time: of a hundred offices nobody can read a line each."""
    ever = f"min by ({by}) (min_over_time({metric}{{{matchers}}}[$__range] @ end())) == 0"
    return f"min by ({by}) ({last(metric, matchers)}) and on ({by}) ({ever})"


def usable(matchers: str, by: str, legend: str) -> Query:
    """Whether each target can be used: the worst, where several ways lead to one."""
    return Query(expr=f"min by ({by}) ({last('ronda_probe_success', matchers)})", legend=legend)


def dns_time(matchers: str, by: str, legend: str) -> Panel:
    return Panel(
        title="Waktu jawab DNS",
        says="Waktu dari pertanyaan sampai jawaban server nama (DNS).",
        english="From the question to the resolver's last answer.",
        type="timeseries",
        unit="s",
        queries=(Query(expr=f"max by ({by}) ({last('ronda_dns_lookup_duration_seconds', matchers)})", legend=legend),),
        levels=(Level(None, GREEN, "di bawah 200 ms"), Level(0.2, YELLOW, "dari 200 ms"), Level(1, RED, "dari 1 detik")),
        low=0,
    )


def sites(*, several: bool) -> Variable:
    """The offices to choose from, by name."""
    return Variable(
        name="site",
        label="Kantor",
        query=f"query_result(max by (name, site) (ronda_site_info{{{ACTIVE}}}))",
        regex=r'/^\{name="(?<text>[\s\S]*)",site="(?<value>[a-z0-9-]+)"\} /',
        several=several,
    )
