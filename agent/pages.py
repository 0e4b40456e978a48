"""The admin's page: the verdict in a sentence, standing problems, and every task with its last hours; worst first.

Law: bounded. Tasks are written worst first until the page is full; pictures stop earlier than lines. Everything that came from a
config or a network is escaped. One task at a time: the loop has its turn in between. No script, nothing loaded.
"""

import asyncio
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from agent import rulewords, svg, texts
from agent.diagnosis import Verdict
from agent.model import Concern, Fact
from agent.status import Status
from agent.texts import PAGE, Lang

if TYPE_CHECKING:
    from agent.web import Site

REFRESH = 15  # seconds
FULL_WITH_PICTURES = 1_200_000  # characters; from here on tasks are lines without a picture
FULL = 1_700_000  # from here on they are only counted
MOST_ALARMS = 20
MOST_FACTS = 24  # of a task; of devices that were heard the last ones
LASTING = ("name", "model", "version", "serial")  # facts that are true of a device that is silent now
MARKED = ("capped",)
STALE_RUNS = 3  # intervals without a look after which the age is marked


async def render(site: "Site", lang: Lang, now: float) -> bytes:
    """The page at `now` (wall clock seconds), UTF-8, below 2 MB."""
    statuses = sorted(site.statuses(), key=_worst_first)
    items, left = await _items(statuses, lang, now, site.timezone)
    parts = [
        _head(site, lang),
        _verdict(site.verdict(), lang, now, site.timezone),
        _alarms(statuses, lang, now, site.timezone),
        _problems(site.problems, lang),
        _groups(statuses, items, lang),
        f"<p>{left} {html.escape(PAGE['more'].of(lang))}</p>" if left else "",
        _foot(site, lang, now),
    ]
    return "".join(parts).encode("utf-8", "replace")


def _worst_first(status: Status) -> tuple[int, str, str]:
    return 0 if status.concerns else texts.TASK_STATES[status.state].rank, status.kind, status.task


async def _items(statuses: Sequence[Status], lang: Lang, now: float, zone: str) -> tuple[dict[str, str], int]:
    """(task → its list item, how many are left out)."""
    items: dict[str, str] = {}
    heard = _heard(statuses)
    size = left = 0
    for status in statuses:
        if size >= FULL:
            left += 1
            continue
        items[status.task] = _item(status, heard, lang, now, zone, drawn=size < FULL_WITH_PICTURES)
        size += len(items[status.task].encode("utf-8", "replace"))
        await asyncio.sleep(0)
    return items, left


def _groups(statuses: Sequence[Status], items: dict[str, str], lang: Lang) -> str:
    """The items by kind; the kind with the worst task stands first."""
    kinds: dict[str, list[Status]] = {}
    for status in statuses:
        kinds.setdefault(status.kind, []).append(status)
    if not kinds:
        return f"<p>{html.escape(PAGE['none'].of(lang))}</p>"
    return f"<h2>{html.escape(PAGE['tasks'].of(lang))}</h2><p class=soft>{html.escape(PAGE['drawn'].of(lang))}</p>" + "".join(
        _group(kind, of_kind, items, lang) for kind, of_kind in kinds.items()
    )


def _group(kind: str, statuses: Sequence[Status], items: dict[str, str], lang: Lang) -> str:
    title = texts.KINDS[kind].of(lang) if kind in texts.KINDS else kind
    good = sum(s.state == "ok" and not s.concerns for s in statuses)
    tally = f"{good} {PAGE['of'].of(lang)} {len(statuses)} {PAGE['good'].of(lang)}"
    shown = "".join(items.get(s.task, "") for s in statuses)
    return f'<section><h3>{html.escape(title)} <span class="soft">{html.escape(tally)}</span></h3><ul>{shown}</ul></section>'


def _item(status: Status, heard: "Heard", lang: Lang, now: float, zone: str, *, drawn: bool) -> str:
    alarm = bool(status.concerns) and status.state == "ok"  # what isn't seen at all is said first
    mark = texts.Mark("⚠", PAGE["alarm"], 0) if alarm else texts.TASK_STATES[status.state]
    drawing, highest = _drawing(status, lang, now) if drawn else ("", "")
    return (
        f'<li class="{"alarm" if alarm else status.state}"><div class="what"><span class="state"><i aria-hidden="true">{mark.shape}</i> '
        f"{html.escape(mark.word.of(lang))}</span> <b>{_cut(_name(status, lang), 120)}</b>"
        f"<small>{_cut(_roles(status, lang), 160)}</small></div>"
        f'<div class="how"><span class="value">{_cut(_value(status, lang), 120)}</span>'
        f"{_age(status, lang, now)}{highest}</div>{_why(status, lang, now, zone)}{_facts(status, heard, lang, now)}{drawing}</li>"
    )


def _cut(text: str, length: int) -> str:
    """Escaped, and no longer than is read."""
    return html.escape(text if len(text) <= length else text[: length - 1] + "…")


def _name(status: Status, lang: Lang) -> str:
    return status.task if _named(status) else _target(status, lang) or status.task


def _named(status: Status) -> bool:
    """Whether people call it by its name: a device of the config; others are their target."""
    return status.kind == "snmp" and status.task not in (status.target, f"snmp:{status.target}")


def _target(status: Status, lang: Lang) -> str:
    return PAGE["gateway"].of(lang) if status.target == "gateway" else status.target


def _roles(status: Status, lang: Lang) -> str:
    """What else tells this task from its neighbours: its name, where that says more than kind and target, labels, a stretched interval."""
    plain = (status.kind, status.target, f"{status.kind}:{status.target}")
    name = [_target(status, lang)] if _named(status) else [] if status.task in plain else [status.task]
    labels = [f"{k}={v}" for k, v in status.labels.items() if k not in ("task", "kind", "target")]
    slower = [f"{PAGE['stretched'].of(lang)} {texts.age(status.interval, lang)}"] if status.stretched else []
    return " · ".join([*name, *labels, *slower])


def _value(status: Status, lang: Lang) -> str:
    """The last value. Who is not reached or not seen has none that means anything: how long it took to fail is not a latency."""
    if status.state in ("down", "blind", "unknown"):
        return "–"
    if status.text:
        return status.text
    return "–" if status.value is None else texts.seconds(status.value, lang)


def _age(status: Status, lang: Lang, now: float) -> str:
    if not status.at:
        return f"<small>{html.escape(PAGE['never'].of(lang))}</small>"
    elapsed = now - status.at
    late = status.interval > 0 and elapsed > STALE_RUNS * status.interval + 5
    said = f"{PAGE['looked'].of(lang)} {texts.age(elapsed, lang)} {PAGE['ago'].of(lang)}"
    if late:
        return f'<small class="late">△ {html.escape(said)}, {html.escape(PAGE["late"].of(lang))}</small>'
    return f"<small>{html.escape(said)}</small>"


def _why(status: Status, lang: Lang, now: float, zone: str) -> str:
    """The reason in words while it lasts, the detail, and since when."""
    if status.state not in ("down", "checking", "blind"):
        return ""
    said = texts.REASONS[status.reason].of(lang) if status.reason in texts.REASONS else status.reason
    since = texts.clock_time(status.since, now, zone, lang) if status.state != "checking" else ""
    begun = f"{PAGE['since'].of(lang)} {since} ({texts.age(now - status.since, lang)})" if since else ""
    detail = status.detail if status.detail not in ("", status.reason, said) else ""
    shown = " · ".join(html.escape(s) for s in (said, begun) if s)
    return f'<p class="why">{shown}{f"<small>{_cut(detail, 300)}</small>" if detail else ""}</p>'


Heard = Mapping[str, Sequence[Fact]]


def _heard(statuses: Iterable[Status]) -> Heard:
    """By device: when its logs and traps were last heard, of all tasks that listen to it."""
    found: dict[str, list[Fact]] = {}
    for fact in (fact for status in statuses for fact in status.facts if fact.key in ("log", "trap")):
        found.setdefault(fact.text, []).append(fact)
    return found


def _facts(status: Status, heard: Heard, lang: Lang, now: float) -> str:
    """Who a device is, which of its ports are down, when it was last heard. Of a silent one: who it is."""
    lasting = [fact for fact in status.facts if status.reached or fact.key in LASTING or fact.key in ("log", "trap")]
    shown = [_fact(status, fact, lang, now) for fact in (*lasting, *heard.get(status.task, ()))]
    kept = [fact for fact in shown if fact]
    more = f"<span>+{len(kept) - MOST_FACTS}</span>" if len(kept) > MOST_FACTS else ""
    return f'<p class="facts">{" ".join(kept[:MOST_FACTS])}{more}</p>' if kept else ""


def _fact(status: Status, fact: Fact, lang: Lang, now: float) -> str:
    """Empty where the line says it already."""
    called, said = texts.FACTS[fact.key].of(lang), fact.text
    if fact.key == "uptime":
        said = texts.age(fact.number, lang)
    elif fact.key in ("log", "trap"):
        called = called if fact.text == status.task else fact.text
        said = f"{texts.age(now - fact.number, lang)} {PAGE['ago'].of(lang)}" if fact.number else PAGE["unheard"].of(lang)
    elif said in (status.task, _value(status, lang).split(" · ")[0]):
        return ""
    mark = ' class="late"' if fact.key in MARKED else ""
    return f"<span{mark}>{_cut(called, 64)} <b>{_cut(said, 160)}</b></span>"


def _drawing(status: Status, lang: Lang, now: float) -> tuple[str, str]:
    """(the picture of the last hours, what its highest point is); empty where nothing was seen yet."""
    made, sums = svg.cells(status.history.points(now))
    if not sums.ok + sums.down + sums.blind:
        return "", ""
    words = [
        f"{texts.age(minutes * 60, lang)} {word}"
        for minutes, word in (
            (sums.ok, texts.TASK_STATES["ok"].word.of(lang).lower()),
            (sums.down, texts.TASK_STATES["down"].word.of(lang).lower()),
            (sums.blind, texts.TASK_STATES["blind"].word.of(lang).lower()),
            (sums.missing, PAGE["no_data"].of(lang)),
        )
        if minutes
    ]
    highest = f"{PAGE['highest'].of(lang)} {texts.seconds(sums.highest, lang)}" if sums.highest is not None else ""
    said = f"{PAGE['hours'].of(lang)}: {', '.join([*words, highest] if highest else words)}"
    return svg.picture(made, sums.highest, said), f"<small>{html.escape(highest)}</small>" if highest else ""


# -- around the tasks ---------------------------------------------------------------------------------------------------------


def _head(site: "Site", lang: Lang) -> str:
    mark = texts.SITE_STATES.get(site.verdict().state, texts.SITE_STATES["silent"])
    other: Lang = "en" if lang == "id" else "id"
    name = "English" if other == "en" else "Bahasa Indonesia"
    title = html.escape(f"{mark.shape} {site.title} · Ronda")
    slug = f' <span class="soft">{html.escape(site.name)}</span>' if site.name != site.title else ""
    return (
        f'<!doctype html><html lang="{lang}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><meta http-equiv="refresh" content="{REFRESH}">'
        f'<title>{title}</title><link rel="icon" href="data:,"><style>{STYLE}</style></head>'
        f"<body><header><h1>{html.escape(site.title)}{slug}</h1>"
        f'<a href="/?lang={other}" lang="{other}" hreflang="{other}">{name}</a></header><main>'
    )


_NOT_KNOWN = texts.Mark("?", texts.CAUSES["unknown"].short, 2)
_COLOURS = {"ok": "good", "down": "bad", "degraded": "warn"}


def _verdict(verdict: Verdict, lang: Lang, now: float, zone: str) -> str:
    """The verdict in a few lines. `ok` with an unknown cause is a box that knows nothing yet, and says so."""
    unknown = verdict.state == "ok" and verdict.cause == "unknown"
    mark = _NOT_KNOWN if unknown else texts.SITE_STATES.get(verdict.state, texts.SITE_STATES["silent"])
    colour = "none" if unknown else _COLOURS.get(verdict.state, "none")
    word = f'<i aria-hidden="true">{mark.shape}</i> {html.escape(PAGE["now"].of(lang))}: <b>{html.escape(mark.word.of(lang))}</b>'
    lines = "".join(f"<p>{line}</p>" for line in _verdict_lines(verdict, lang, now, zone) if line)
    return f'<section class="verdict {colour}"><p class="word">{word}</p>{lines}</section>'


def _verdict_lines(verdict: Verdict, lang: Lang, now: float, zone: str) -> Iterable[str]:
    cause = texts.CAUSES.get(verdict.cause, texts.CAUSES["unknown"]).short.of(lang)
    sure = texts.CONFIDENCE.get(verdict.confidence, texts.CONFIDENCE["unknown"]).of(lang)
    since = texts.clock_time(verdict.since, now, zone, lang)
    if verdict.cause not in ("ok", "unknown"):
        yield f"{PAGE['cause'].of(lang)}: {html.escape(cause)} ({html.escape(sure)})"
    if since:
        yield f"{PAGE['since'].of(lang).capitalize()} {html.escape(since)} ({texts.age(now - verdict.since, lang)})"
    if verdict.incident:
        yield f"{PAGE['incident'].of(lang)}: <b>{html.escape(verdict.incident)}</b>"
    if verdict.evidence:
        yield f'{PAGE["evidence"].of(lang)}: <span lang="id">{html.escape("; ".join(verdict.evidence))}</span>'


def _alarms(statuses: Iterable[Status], lang: Lang, now: float, zone: str) -> str:
    """Open findings that somebody must look at, each with its next step. Who it is stands in the events on the box, not here."""
    found = [concern for status in statuses for concern in status.concerns]
    if not found:
        return ""
    items = "".join(f"<li>{_alarm(concern, lang, now, zone)}</li>" for concern in found[:MOST_ALARMS])
    more = f"<li>+{len(found) - MOST_ALARMS}</li>" if len(found) > MOST_ALARMS else ""
    return f'<section class="problems alarms"><h2>⚠ {html.escape(PAGE["alarms"].of(lang))}</h2><ul>{items}{more}</ul></section>'


def _alarm(concern: Concern, lang: Lang, now: float, zone: str) -> str:
    since = texts.clock_time(concern.since, now, zone, lang)
    begun = f", {PAGE['since'].of(lang)} {since} ({texts.age(now - concern.since, lang)})" if since else ""
    said = f"{rulewords.rule(concern.rule, lang)} ({rulewords.value('ronda.grade', concern.grade, lang)}){begun}"
    return f"<b>{html.escape(said)}</b>: {html.escape(PAGE['look'].of(lang))}: <code>ronda events --kind {html.escape(concern.rule)}</code>"


def _problems(problems: Sequence[str], lang: Lang) -> str:
    if not problems:
        return ""
    items = "".join(f"<li>{_cut(p, 600)}</li>" for p in problems[:20])
    more = f"<li>+{len(problems) - 20}</li>" if len(problems) > 20 else ""
    return f'<section class="problems"><h2>△ {html.escape(PAGE["problems"].of(lang))}</h2><ul>{items}{more}</ul></section>'


def _foot(site: "Site", lang: Lang, now: float) -> str:
    links = (("/metrics", "metrics"), ("/config", "config"), ("/-/healthy", "healthy"), ("/-/ready", "ready"))
    shown = " · ".join(f'<a href="{href}">{href}</a> {html.escape(PAGE[key].of(lang))}' for href, key in links)
    made = f"{PAGE['made'].of(lang)} {texts.clock_time(now, now, site.timezone, lang)}, {PAGE['refresh'].of(lang)}"
    return f"</main><footer><p>{shown}</p><p>{html.escape(made)} · Ronda {html.escape(site.version)}</p></footer></body></html>\n"


STYLE = """
:root{color-scheme:light dark;--paper:#f5f6f4;--card:#fff;--ink:#17211c;--soft:#5a675f;--edge:#dfe3e0;
--ok:#1a7a40;--bad:#b9191f;--warn:#8f5d00;--none:#5b6470;--link:#1d4f91;--bed:#e6e9e7}
@media(prefers-color-scheme:dark){:root{--paper:#101513;--card:#191f1d;--ink:#e9efec;--soft:#9fada5;--edge:#2e3733;
--ok:#4cc27c;--bad:#ff7b78;--warn:#f0b64a;--none:#a3adb8;--link:#8fb8ee;--bed:#2a322f}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.45 system-ui,sans-serif;overflow-wrap:anywhere}
header,main,footer{max-width:62rem;margin:0 auto;padding:.6rem 1rem}
header{display:flex;flex-wrap:wrap;gap:.2rem 1rem;justify-content:space-between;align-items:baseline}
h1{font-size:1.3rem;margin:0}h2{font-size:1.1rem;margin:1.2rem 0 .2rem}h3{font-size:1rem;margin:1.1rem 0 .3rem}
.soft,small{color:var(--soft);font-weight:400;font-size:.86em}a{color:var(--link)}p{margin:.15rem 0}i{font-style:normal}
ul{list-style:none;margin:0;padding:0}
.verdict{background:var(--card);border:1px solid var(--edge);border-left:.5rem solid var(--none);border-radius:.5rem;padding:.7rem .9rem}
.verdict.good{border-left-color:var(--ok)}.verdict.bad{border-left-color:var(--bad)}.verdict.warn{border-left-color:var(--warn)}
.word{font-size:1.25rem}.good .word b,.good .word i{color:var(--ok)}.bad .word b,.bad .word i{color:var(--bad)}
.warn .word b,.warn .word i{color:var(--warn)}
.problems{border:1px solid var(--warn);border-radius:.5rem;padding:.1rem .9rem .6rem;margin-top:.8rem;background:var(--card)}
.problems h2{margin:.5rem 0 .2rem;color:var(--warn)}.problems li{margin:.2rem 0}
main>section>ul>li{background:var(--card);border:1px solid var(--edge);border-radius:.4rem;padding:.45rem .7rem;margin-bottom:.35rem;
display:grid;grid-template-columns:minmax(0,1fr) minmax(7rem,auto) 15rem;gap:.1rem 1rem;align-items:center}
.alarms{border-color:var(--bad)}.alarms h2{color:var(--bad)}
.alarm .state{color:var(--bad)}li.alarm{border-left:.35rem solid var(--bad)!important}
.problems ul li{display:list-item!important;background:none!important;border:0!important;padding:0!important}
.what small,.how small{display:block}.how{text-align:right}.value{font-weight:600;font-variant-numeric:tabular-nums}
.state{font-weight:700;font-size:.82em;white-space:nowrap;margin-right:.3rem}
.ok .state{color:var(--ok)}.down .state{color:var(--bad)}.blind .state,.unknown .state{color:var(--none)}.checking .state,
.late{color:var(--warn)}
li.down{border-left:.35rem solid var(--bad)!important}li.blind{border-left:.35rem solid var(--none)!important}
.facts{grid-column:1/-1;margin:0;font-size:.86em;color:var(--soft)}.facts span{display:inline-block;margin-right:.9rem}
.facts b{font-weight:500;color:var(--ink)}.facts .late b{color:var(--warn)}
.why{grid-column:1/3;grid-row:2;margin:0}.why small{display:block}
svg{grid-column:3;grid-row:1/span 2;width:100%;height:40px;display:block}
svg .bed{fill:var(--bed)}svg .ok{fill:var(--ok)}svg .down{fill:var(--bad)}svg .blind{fill:var(--warn)}
svg .line{fill:none;stroke:var(--ink);stroke-width:1.3;vector-effect:non-scaling-stroke;stroke-linejoin:round}
footer{color:var(--soft);font-size:.86em;padding-bottom:2rem}
@media(max-width:44rem){main>section>ul>li{grid-template-columns:minmax(0,1fr) auto}svg{grid-column:1/-1;grid-row:auto;height:34px}
.why{grid-column:1/-1;grid-row:auto}.how{max-width:11rem}}
""".strip()
