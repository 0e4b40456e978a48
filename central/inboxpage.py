"""The inbox's page: chat messages as on a phone, newest last and in sight, in light and dark.

Law: pure, data → HTML; a bubble's `safe` was made by telegramtext, everything else is escaped here. Indonesian, as the messages are.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from itertools import groupby
from typing import NamedTuple
from urllib.parse import quote
from zoneinfo import ZoneInfo

from agent import texts

NAMES = {"ops": "Piket", "csirt": "CSIRT", "isp": "Penyedia internet", "pimpinan": "Pimpinan", "digest": "Ringkasan", "deadman": "Detak"}
EMPTY = (
    "Belum ada pesan. Di sini muncul pesan yang akan diterima petugas lewat Telegram; "
    "pesan pertama datang begitu ada gangguan yang melewati batas waktunya."
)
DAYS = ("Senin", "Selasa", "Rabu", "Kamis", "Jumat", "Sabtu", "Minggu")


class Bubble(NamedTuple):
    """One message. `at`: Unix time; `safe`: HTML that may be shown as it is."""

    at: float
    audience: str
    safe: str


def page(bubbles: Sequence[Bubble], audiences: Sequence[str], chat: str, hooks: Mapping[str, tuple[int, float]], zone: str) -> str:
    """`audiences`: those that can be chosen; `chat`: the chosen one, or empty for all.

    `hooks`: audience → how many are kept, and when (Unix time) the last came.
    """
    tz = ZoneInfo(zone)
    mark = texts.ZONES.get(zone, "")
    days = groupby(bubbles, lambda b: datetime.fromtimestamp(b.at, tz).date())
    body = "".join(_day(list(some), tz, mark) for _, some in days) or f'<p class="none">{EMPTY}</p>'
    return (
        '<!doctype html><html lang="id"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="refresh" content="5"><title>Pesan · Ronda</title><link rel="icon" href="data:,"><style>{STYLE}</style></head>'
        f"<body><header><h1>Pesan Ronda</h1>{_choices(audiences, chat)}</header><main><div>{body}</div></main>"
        f"{_footer(hooks, tz, mark)}</body></html>\n"
    )


def _choices(audiences: Sequence[str], chat: str) -> str:
    """Nothing to choose where there is one audience or none."""
    if len(audiences) < 2 and not chat:
        return ""
    links = [("", "Semua"), *((a, NAMES.get(a, a)) for a in audiences)]
    return f"<nav>{''.join(_choice(key, name, key == chat) for key, name in links)}</nav>"


def _choice(key: str, name: str, chosen: bool) -> str:
    address = f"/?chat={quote(key)}" if key else "/"
    return f'<a href="{address}"{" class=on aria-current=page" if chosen else ""}>{escape(name)}</a>'


def _day(bubbles: Sequence[Bubble], tz: ZoneInfo, mark: str) -> str:
    first = datetime.fromtimestamp(bubbles[0].at, tz)
    title = f"{DAYS[first.weekday()]}, {first.day} {texts._MONTHS['id'][first.month - 1]} {first.year}"
    return f"<h2>{title}</h2>" + "".join(_bubble(b, tz, mark) for b in bubbles)


def _bubble(b: Bubble, tz: ZoneInfo, mark: str) -> str:
    at = datetime.fromtimestamp(b.at, tz)
    who = escape(NAMES.get(b.audience, b.audience))
    return f'<article><p class="who">{who}</p><div class="text">{b.safe}</div><time>{at:%H.%M.%S} {mark}</time></article>'


def _footer(hooks: Mapping[str, tuple[int, float]], tz: ZoneInfo, mark: str) -> str:
    """The webhooks in a line: they are for machines; the heartbeat among them comes every minute."""
    if not hooks:
        return ""
    said = (
        f"{escape(NAMES.get(a, a))} {n} kali, terakhir {datetime.fromtimestamp(at, tz):%H.%M.%S} {mark}".rstrip()
        for a, (n, at) in hooks.items()
    )
    return f'<footer>Webhook: {" · ".join(said)} (<a href="/webhooks.json">isinya</a>)</footer>'


# column-reverse keeps the newest in sight without a script
STYLE = """
:root{color-scheme:light dark;--paper:#e7ecee;--card:#fff;--ink:#17211c;--soft:#56625c;--edge:#cfd6d9;--link:#0b5a8a;--bar:#fff}
@media(prefers-color-scheme:dark){:root{--paper:#0f1416;--card:#1c2426;--ink:#e9efec;--soft:#a3b0aa;--edge:#303a3d;--link:#7cc0ee;--bar:#161c1e}}
*{box-sizing:border-box}
body{margin:0;height:100vh;height:100dvh;display:flex;flex-direction:column;background:var(--paper);color:var(--ink);
font:16px/1.4 system-ui,sans-serif}
header{background:var(--bar);border-bottom:1px solid var(--edge);padding:.6rem .9rem}
h1{font-size:1.05rem;margin:0}
nav{display:flex;gap:.4rem;overflow-x:auto;margin-top:.5rem}
nav a{white-space:nowrap;padding:.3rem .7rem;border:1px solid var(--edge);border-radius:1rem;text-decoration:none;color:var(--ink)}
nav a.on{background:var(--link);color:var(--card);border-color:var(--link)}
main{flex:1;overflow-y:auto;display:flex;flex-direction:column-reverse}
main>div{width:100%;max-width:40rem;margin:0 auto;padding:.5rem .6rem 1rem}
h2{font-size:.82rem;font-weight:500;text-align:center;color:var(--soft);margin:.7rem 0 .4rem}
article{background:var(--card);border-radius:.2rem .9rem .9rem .9rem;padding:.5rem .75rem .4rem;margin:0 2rem .5rem 0;
box-shadow:0 1px 1px #0002;overflow-wrap:anywhere}
.who{margin:0 0 .1rem;font-size:.85rem;font-weight:600;color:var(--link)}
.text{white-space:pre-wrap}.text a{color:var(--link)}code{font:.94em ui-monospace,monospace}pre{white-space:pre-wrap;margin:0}
time{display:block;text-align:right;font-size:.78rem;color:var(--soft);font-variant-numeric:tabular-nums}
.none{color:var(--soft);text-align:center;margin:2rem 1rem}
footer{background:var(--bar);border-top:1px solid var(--edge);padding:.4rem .9rem;font-size:.8rem;color:var(--soft)}
footer a{color:var(--link)}
""".strip()
