"""`python -m tests.bench`: Ronda beside its peers on the same work in the same run; one table, and a JSON file.

Needs root, network namespaces and the Debian packages of the peers. Full: about an hour; --quick: a proof that it works.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import accuracy, chain, devices, flood, light, many, push, report, rules
from tests.bench.report import Row

RESULT = report.ROOT / "docs/results/bench.json"
Part = Callable[[bool], tuple[list[Row], dict[str, Any]]]
PROGRAMS = (
    "ip", "nginx", "dnsmasq", "prometheus", "prometheus-node-exporter", "prometheus-blackbox-exporter", "prometheus-smokeping-prober",
    "fping", "ping", "nft", "prometheus-alertmanager", "prometheus-snmp-exporter", "snmpd", "snmpget",
)  # fmt: skip


def _accuracy(quick: bool) -> tuple[list[Row], dict[str, Any]]:
    found = accuracy.run(quick)
    return accuracy.rows(found), {"cases": found}


PARTS: dict[str, Part] = {
    "N1": light.run,
    "N2": _accuracy,
    "N3": chain.run,
    "N5": push.run,
    "N7": flood.run,
    "N10": many.run,
    "N11": rules.run,
    "SNMP": devices.run,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short windows: shows that the bench works, its figures say little")
    parser.add_argument(
        "--json", type=Path, help=f"where to write the result; a whole run writes {RESULT.relative_to(report.ROOT)} by itself"
    )
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts to run, of {', '.join(PARTS)}")
    chosen = parser.parse_args(arguments)
    if missing := _missing():
        print(f"the bench needs {', '.join(missing)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    raw: dict[str, Any] = {}
    for name in chosen.only.split(","):
        print(f"{name} …", file=sys.stderr, flush=True)
        found, raw[name] = PARTS[name](chosen.quick)
        rows += found
    print(report.table(rows))
    whole = not chosen.quick and list(raw) == list(PARTS)
    if path := chosen.json or (RESULT if whole else None):  # a short or partial run is no result to keep
        report.save(path, rows, raw, chosen.quick)
        print(f"written to {path}", file=sys.stderr)
    return 0


def _missing() -> list[str]:
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
    return [*(["root"] if os.geteuid() else []), *(p for p in PROGRAMS if not shutil.which(p))]


if __name__ == "__main__":
    sys.exit(main())
