"""The last hours of a task as inline SVG: a strip of states and a line of values over it.

Law: bounded (at most some 3 KiB a picture), pure, with a <title> that says the same in words; colours are classes of the page.
"""

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

CELL = 3  # minutes
HEIGHT, LINE_TOP, LINE_BOTTOM = 40, 3, 26
_RANK = {"": 0, "ok": 1, "blind": 2, "down": 3}


class Cell(NamedTuple):
    """`CELL` minutes: the worst state of them, and the highest mean of a minute."""

    state: str
    value: float | None


class Summary(NamedTuple):
    """Minutes in each state, and the highest value."""

    ok: int
    blind: int
    down: int
    missing: int
    highest: float | None


def cells(points: Iterable[tuple[int, str, float | None]]) -> tuple[list[Cell], Summary]:
    """History's points → cells, oldest first, and what they come to."""
    made: list[Cell] = []
    counts = dict.fromkeys(_RANK, 0)
    state, value, highest = "", None, None
    for i, (_, s, v) in enumerate(points, 1):
        counts[s] += 1
        state = s if _RANK[s] > _RANK[state] else state
        if v is not None:
            value = v if value is None else max(value, v)
        if i % CELL == 0:
            made.append(Cell(state, value))
            if value is not None:
                highest = value if highest is None else max(highest, value)
            state, value = "", None
    return made, Summary(counts["ok"], counts["blind"], counts["down"], counts[""], highest)


def _runs(made: Sequence[Cell]) -> dict[str, str]:
    """state → the path of its bars in the strip."""
    paths: dict[str, list[str]] = {}
    start = 0
    for i in range(1, len(made) + 1):
        if i == len(made) or made[i].state != made[start].state:
            if made[start].state:
                paths.setdefault(made[start].state, []).append(f"M{start} 0h{i - start}v10h-{i - start}z")
            start = i
    return {state: "".join(parts) for state, parts in paths.items()}


def _line(made: Sequence[Cell], highest: float) -> str:
    """The path of the values: 0 is the bottom, the highest the top; broken where there is none."""
    parts = []
    drawing = False
    for i, cell in enumerate(made):
        if cell.value is None:
            drawing = False
            continue
        y = LINE_BOTTOM - (LINE_BOTTOM - LINE_TOP) * max(0.0, cell.value) / highest
        parts.append(f"{'L' if drawing else 'M'}{i} {y:.0f}" + ("" if drawing else "h1"))
        drawing = True
    return "".join(parts)


def picture(made: Sequence[Cell], highest: float | None, title: str) -> str:
    """The picture; `title` is escaped here."""
    bars = "".join(f'<path class="{state}" d="{path}"/>' for state, path in _runs(made).items())
    line = f'<path class="line" d="{_line(made, highest)}"/>' if highest else ""
    return (
        f'<svg viewBox="0 0 {max(1, len(made))} {HEIGHT}" preserveAspectRatio="none" role="img"><title>{html.escape(title)}</title>'
        f'<path class="bed" d="M0 30h{len(made)}v10h-{len(made)}z"/><g transform="translate(0 30)">{bars}</g>{line}</svg>'
    )
