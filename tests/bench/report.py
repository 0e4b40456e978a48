"""The table and the file of a bench run. A number that misses its target says so in plain words."""

import dataclasses
import datetime
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Row:
    """One number: what was to be reached (None: no target, for information), what was, and what the peers did beside it."""

    number: str
    what: str
    unit: str
    value: float | None
    limit: float | None = None
    peer: float | None = None
    peers: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return f"not measured: {self.note}"
        if self.limit is None or self.value <= self.limit:
            return self.note
        return f"MISSES the target by {_figure(self.value - self.limit)} {self.unit} {self.note}".rstrip()


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.3g}"


def table(rows: Sequence[Row]) -> str:
    """The rows as text with aligned columns (and valid Markdown)."""
    head = ("", "what", "unit", "to reach", "Ronda", "peers", "who", "")
    lines = [head, *((r.number, r.what, r.unit, _limit(r), _figure(r.value), _figure(r.peer), r.peers, r.verdict) for r in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    out = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
    out.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(out)


def _limit(row: Row) -> str:
    return "" if row.limit is None else f"≤ {_figure(row.limit)}"


def save(path: Path, rows: Sequence[Row], raw: dict[str, Any], quick: bool) -> None:
    """Writes the result with what it was measured on."""
    result = {
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "-uno") else ""),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version(), "arch": platform.machine()},
        "numbers": [{**dataclasses.asdict(r), "met": None if r.limit is None or r.value is None else r.value <= r.limit} for r in rows],
        "raw": raw,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or ("" if arguments[0] == "status" else "unknown")
