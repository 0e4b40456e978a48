"""The runbooks as one page, each alert a heading that its message links to, readable on a phone.

Law: pure but for reading alerts/runbooks/*.md, which are ours; as much of Markdown as they use: headings, paragraphs, numbered lists,
bold, code. Everything is escaped before it is marked up. No script: the heading that was asked for is marked by the style alone.
"""

import functools
import re
from collections.abc import Iterator
from html import escape
from itertools import groupby
from pathlib import Path

from central.target import shipped

HEADERS = (
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
)
ITEM = re.compile(r"\d+\. ")


@functools.cache
def page(directory: Path | None = None) -> str:
    """All runbooks, in the order of their files; read once. Raises OSError."""
    files = sorted((directory or shipped("alerts") / "runbooks").glob("*.md"))
    body = "".join(part for file in files for part in _parts(file.read_text(encoding="utf-8")))
    return (
        '<!doctype html><html lang="id"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>Panduan · Ronda</title><link rel="icon" href="data:,"><style>{STYLE}</style></head><body>{body}</body></html>\n'
    )


def _parts(text: str) -> Iterator[str]:
    for is_item, lines in groupby(filter(None, map(str.strip, text.splitlines())), lambda line: bool(ITEM.match(line))):
        if is_item:
            yield f"<ol>{''.join(f'<li>{_marked(_step(line))}</li>' for line in lines)}</ol>"
        else:
            yield from map(_line, lines)


def _step(line: str) -> str:
    return line.partition(". ")[2]


def _line(line: str) -> str:
    """A heading or a paragraph."""
    if line.startswith("## "):
        name = escape(line.removeprefix("## "))
        return f'<h2 id="{name}">{name}</h2>'
    return f"<h1>{_marked(line.removeprefix('# '))}</h1>" if line.startswith("# ") else f"<p>{_marked(line)}</p>"


def _marked(text: str) -> str:
    """Escaped, with bold and code; what stands in code is taken as it is."""
    pieces = re.split(r"`([^`]+)`", text)
    bold = (re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(piece)) for piece in pieces[::2])
    code = [f"<code>{escape(piece)}</code>" for piece in pieces[1::2]]
    return "".join(a + b for a, b in zip(bold, [*code, ""], strict=True))


STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#17211c;--soft:#56625c;--edge:#cfd6d9;--mark:#fff3c4}
@media(prefers-color-scheme:dark){:root{--paper:#0f1416;--ink:#e9efec;--soft:#a3b0aa;--edge:#303a3d;--mark:#3a3210}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:42rem;padding:.5rem 1rem 60vh;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif;
overflow-wrap:anywhere}
h1{font-size:.95rem;color:var(--soft);margin:2.5rem 0 .5rem}
h2{font-size:1.15rem;margin:1.5rem -1rem .5rem;padding:.4rem 1rem;border-top:1px solid var(--edge)}
h2{scroll-margin-top:.5rem}h2:target{background:var(--mark)}
p{margin:.5rem 0}ol{margin:.3rem 0;padding-left:1.5rem}li{margin:.2rem 0}code{font:.92em ui-monospace,monospace}
""".strip()
