"""The report of precision and recall per detector: `make detect`, or python -m tests.detect [--json FILE] [--only WORD].

Law: prints what was missed and what was false by name; ends with 1 if anything was. Cases whose file isn't here are said, not counted.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.detect import officeday
from tests.detect.player import TOLD_OF, Verdict, judge, manifest, play, scores
from tests.detect.player import office as office_steps

SEEDS = (1, 2, 3)


def main(arguments: list[str]) -> int:
    options = argparse.ArgumentParser(prog="python -m tests.detect", description=__doc__)
    options.add_argument("--json", type=Path)
    options.add_argument("--only", default="", help="cases whose name or detector has this word")
    chosen = options.parse_args(arguments)
    cases = [c for c in manifest() if chosen.only in c.name or chosen.only in c.of]
    absent = [c for c in cases if not c.there]
    verdicts = [judge(c) for c in cases if c.there]
    days = {} if chosen.only else {seed: office_day(seed) for seed in SEEDS}
    found = scores(verdicts)
    print(table(found))
    wrong = [str(v) for v in verdicts if not v.right] + [f"office day {seed}: {line}" for seed, day in days.items() for line in day["told"]]
    print()
    for v in (v for v in verdicts if v.case.evidence and v.right):
        print(f"{v.case.name}: told after {max(v.seconds.values()):.1f} s; the evidence takes {v.case.evidence}")
    print(*(f"\nwrong: {line}" for line in wrong))
    for seed, day in days.items():
        print(f"office day {seed}: {day['hosts']} hosts, {day['frames']} frames, {len(day['told'])} told above low, {day['seconds']:.1f} s")
    for case in absent:
        print(f"not there: {case.file} ({case.name})")
    print(f"{len(verdicts)} cases, {len(wrong)} wrong")
    if chosen.json:
        chosen.json.write_text(json.dumps(report(verdicts, found, days, [c.file for c in absent]), indent=1, ensure_ascii=False) + "\n")
    return 1 if wrong else 0


def office_day(seed: int) -> dict[str, Any]:
    began, day = time.monotonic(), officeday.Day(seed)
    played = play(office_steps(day))
    told = [
        f"{at / 3600:.2f} h: {rule} {grade}: {outcome.event.message}"
        for at, rule, grade, outcome in played.told.opened()
        if grade in TOLD_OF
    ]
    told += [f"{name} failed {n} times" for name, n in played.failures.items()]
    return {"hosts": len(day.hosts), "frames": played.steps, "told": told, "seconds": time.monotonic() - began}


def table(found: dict[str, dict[str, Any]]) -> str:
    head = f"{'detector':22} {'true':>5} {'found':>5} {'false':>5} {'recall':>7} {'precision':>9} {'slowest':>8}"
    return "\n".join([head, *(_row(name, row) for name, row in found.items())])


def _row(name: str, row: dict[str, Any]) -> str:
    recall, precision = ("-" if row[key] is None else f"{row[key]:.2f}" for key in ("recall", "precision"))
    slowest = "-" if row["slowest_seconds"] is None else f"{row['slowest_seconds']:.1f} s"
    return f"{name:22} {row['true']:5} {row['found']:5} {row['false']:5} {recall:>7} {precision:>9} {slowest:>8}"


def report(verdicts: list[Verdict], found: dict[str, Any], days: dict[int, Any], absent: list[str]) -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "what": "N8: precision and recall per detector", "commit": commit, "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "target": "every true case found; no page on a benign twin, nor in an office day", "detectors": found,
        "office_days": {str(seed): day for seed, day in days.items()}, "files_not_there": absent,
        "raw": [_raw(v) for v in verdicts],
    }  # fmt: skip


def _raw(v: Verdict) -> dict[str, Any]:
    said = {"seconds": v.seconds, "evidence": v.case.evidence, "missed": v.missed, "false": v.false, "failures": dict(v.failures)}
    return {"case": v.case.name, "sort": v.case.sort, **{key: value for key, value in said.items() if value}}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
