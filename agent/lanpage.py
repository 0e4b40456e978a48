"""The clerk's page: how the internet is, since when, why in plain words, three steps, the incident's number, whom to call.

Law: for somebody who knows no IT. No devices, no addresses, no jargon, nothing of a task. Indonesian large, English small below.
Pure: (site, time, note) → HTML; works without script on an old phone, 360 px wide.
"""

import html
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from agent import texts
from agent.texts import Lang, Text

if TYPE_CHECKING:
    from agent.web import Site

REFRESH = 15  # seconds
REFRESH_CHECKING = 4


class Note(NamedTuple):
    """What the page says after *Periksa sekarang*: that it looks, or how long to wait (0: neither)."""

    checking: bool = False
    wait: int = 0

    @staticmethod
    def of(query: Mapping[str, str]) -> "Note":
        wait = query.get("tunggu", "")
        return Note(query.get("periksa") == "ya", min(int(wait), 60) if re.fullmatch(r"[0-9]{1,2}", wait) else 0)


def render(site: "Site", now: float, note: Note) -> str:
    """The page, as a whole."""
    verdict = site.verdict()
    head = texts.headline(verdict.state, verdict.cause)
    cause = texts.CAUSES.get(verdict.cause, texts.CAUSES["unknown"])
    fine = head is texts.FINE
    body = "".join(
        (
            f'<header><p class="site">{html.escape(site.title)}</p></header>',
            f'<main class="{head.colour}"><section class="state">{_state(head)}{_since(verdict.since, now, site.timezone)}</section>',
            _note(note),
            "" if fine else _cause(cause, verdict.confidence),
            _steps(cause, fine=fine),
            _incident(verdict.incident),
            _button(),
            _phone(site.phone),
            "</main>",
            f"<footer>{_two(_updated(now, site.timezone))}</footer>",
        )
    )
    refresh = f"{REFRESH_CHECKING if note.checking else REFRESH}; url=/"
    title = html.escape(f"{head.subject.id}: {head.word.id} · {site.title}")
    return (
        f'<!doctype html><html lang="id"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="refresh" content="{refresh}"><title>{title}</title>'
        f'<link rel="icon" href="data:,"><style>{STYLE}</style></head><body>{body}</body></html>\n'
    )


def _two(text: Text) -> str:
    """A text in both languages, escaped."""
    return f'{html.escape(text.id)}<span class="en" lang="en">{html.escape(text.en)}</span>'


def _updated(now: float, zone: str) -> Text:
    said = texts.LAN["updated"]
    return Text(f"{said.id} {texts.clock_time(now, now, zone, 'id')}", f"{said.en} {texts.clock_time(now, now, zone, 'en')}")


def _state(head: texts.Headline) -> str:
    return (
        f'<p class="shape" aria-hidden="true">{head.shape}</p>'
        f'<h1><span class="subject">{html.escape(head.subject.id)}:</span> <strong>{html.escape(head.word.id)}</strong></h1>'
        f"{f'<p class=but>{html.escape(head.but.id)}</p>' if head.but.id else ''}"
        f'<p class="en" lang="en">{html.escape(f"{head.subject.en}: {head.word.en} {head.but.en}")}</p>'
    )


def _since(since: float, now: float, zone: str) -> str:
    if since < texts.SANE:
        return ""
    said = Text(_since_in("id", since, now, zone), _since_in("en", since, now, zone))
    return f'<p class="since">{_two(said)}</p>'


def _since_in(lang: Lang, since: float, now: float, zone: str) -> str:
    return f"{texts.LAN['since'].of(lang)} {texts.clock_time(since, now, zone, lang)} ({texts.age(now - since, lang)})"


def _note(note: Note) -> str:
    if note.wait:
        said = Text(*(text.format(note.wait) for text in texts.LAN["wait"]))
        return f'<p class="note" role="status">{_two(said)}</p>'
    return f'<p class="note" role="status">{_two(texts.LAN["checking"])}</p>' if note.checking else ""


def _cause(cause: texts.Cause, confidence: str) -> str:
    doubt = f'<p class="doubt">{_two(texts.LAN["sure"])}</p>' if confidence == "likely" else ""
    return f'<section><p class="cause">{_two(cause.plain)}</p>{doubt}</section>'


def _steps(cause: texts.Cause, *, fine: bool) -> str:
    items = "".join(f"<li>{_two(step)}</li>" for step in cause.steps)
    return f"<section><h2>{_two(texts.LAN['still' if fine else 'todo'])}</h2><ol>{items}</ol></section>"


def _incident(incident: str) -> str:
    if not incident:
        return ""
    return (
        f'<section class="incident"><p>{_two(texts.LAN["incident"])}</p><p class="id">{html.escape(incident)}</p>'
        f"<p>{_two(texts.LAN['say_it'])}</p></section>"
    )


def _phone(phone: str) -> str:
    if not phone:
        return ""
    number = re.sub(r"[^0-9+]", "", phone)[:20]
    shown = f"{_two(texts.LAN['call'])}<b>{html.escape(phone)}</b>"
    return f'<a class="phone" href="tel:{number}">{shown}</a>' if number else f'<p class="phone">{shown}</p>'


def _button() -> str:
    return f'<form method="post" action="/periksa"><button>{_two(texts.LAN["check"])}</button></form>'


STYLE = """
:root{color-scheme:light dark;--paper:#f4f5f3;--card:#fff;--ink:#16201b;--soft:#55625b;--edge:#d5dad6;
--ok:#14713a;--warn:#8a5a00;--bad:#b3151d;--none:#4b5563;--on:#fff}
@media(prefers-color-scheme:dark){:root{--paper:#111614;--card:#1b2220;--ink:#eef3f0;--soft:#a5b2ab;--edge:#36403b}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:18px/1.45 system-ui,sans-serif}
header,main,footer{max-width:34rem;margin:0 auto;padding:.75rem 1rem}main{padding-top:0}
p{margin:0}.site{font-weight:600;overflow-wrap:anywhere}
.en{display:block;color:var(--soft);font-size:.78em;font-weight:400}
.state{color:var(--on);border-radius:1rem;padding:1.25rem 1rem;text-align:center}.state .en{color:inherit;opacity:.9}
.ok .state{background:var(--ok)}.warn .state{background:var(--warn)}.bad .state{background:var(--bad)}.none .state{background:var(--none)}
.shape{font-size:2.6rem;line-height:1}h1{margin:.2rem 0 0;font-size:1.25rem;font-weight:500}
h1 strong{display:block;font-size:2.5rem;line-height:1.15;letter-spacing:.01em;overflow-wrap:anywhere}
.but{font-size:1.15rem;font-weight:600}.since{margin-top:.6rem}
section{margin-top:1rem}.note{margin-top:1rem;padding:.7rem 1rem;
border-left:.35rem solid var(--none);background:var(--card);border-radius:.4rem}
.cause{font-size:1.2rem;font-weight:600}.doubt{color:var(--soft);margin-top:.3rem}
h2{font-size:1rem;margin:0 0 .4rem}ol{margin:0;padding:0;list-style:none;counter-reset:n}
li{counter-increment:n;position:relative;padding:.7rem .8rem .7rem 3.2rem;background:var(--card);border:1px solid var(--edge);
border-radius:.7rem;margin-bottom:.5rem}
li::before{content:counter(n);position:absolute;left:.75rem;top:.7rem;width:1.8rem;height:1.8rem;line-height:1.8rem;text-align:center;
border-radius:50%;background:var(--ink);color:var(--card);font-weight:700}
.incident{text-align:center;background:var(--card);border:2px dashed var(--edge);border-radius:.7rem;padding:.7rem}
.incident p{color:var(--soft)}.incident .id{font:700 1.6rem/1.3 ui-monospace,monospace;color:var(--ink);overflow-wrap:anywhere}
form{margin-top:1rem}button,.phone{display:block;width:100%;border-radius:.8rem;padding:.8rem;text-align:center;text-decoration:none}
button{font:600 1.15rem/1.3 system-ui,sans-serif;border:0;background:#1d4f91;color:#fff;cursor:pointer}button .en{color:#dbe7f7}
button:focus-visible,a:focus-visible{outline:3px solid #f0a500;outline-offset:2px}
.phone{margin-top:1rem;border:2px solid #1d4f91;color:var(--ink);background:var(--card)}.phone b{display:block;font-size:1.5rem}
footer{color:var(--soft);font-size:.85rem;text-align:center}
""".strip()
