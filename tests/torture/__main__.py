"""`python -m tests.torture`: the agent under random faults, then a referee. `--faults 1000 --seed 7 --store victoria-metrics --json FILE`.

Law: the same seed gives the same faults in the same order. Everything is on loopback; the agent's disk is a small tmpfs where root may
mount one.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.torture.run import Torture

ROOT = Path(__file__).parents[2]


def commit() -> str:
    """The tree's commit, and a plus where it has been changed since; empty: it is no clone."""
    here = {"cwd": ROOT, "capture_output": True, "text": True, "check": False}
    name = subprocess.run(["git", "rev-parse", "--short", "HEAD"], **here).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "-uno"], **here).stdout
    return os.environ.get("RONDA_COMMIT") or name + "+" * bool(changed)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--speed", type=float, default=20.0, help="how fast time goes for the agent")
    parser.add_argument("--store", choices=("prometheus", "victoria-metrics"), default="prometheus")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="a directory for logs and the record; else it is removed")
    chosen = parser.parse_args(arguments)
    if not shutil.which(chosen.store):
        print(f"torture needs {chosen.store}", file=sys.stderr)
        return 2
    home = chosen.keep or Path(tempfile.mkdtemp(prefix="ronda-torture-"))
    home.mkdir(parents=True, exist_ok=True)
    print(f"seed {chosen.seed}, {chosen.faults} faults, time ×{chosen.speed:g}", file=sys.stderr, flush=True)
    try:
        result = asyncio.run(Torture(home, random.Random(chosen.seed), chosen.store, chosen.speed, chosen.faults).run())
    finally:
        if not chosen.keep:
            shutil.rmtree(home, ignore_errors=True)
    result = {"date": time.strftime("%Y-%m-%d"), "commit": commit(), "seed": chosen.seed, **result}
    text = json.dumps(result, indent=2)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    return 0 if result["fine"] else 1


if __name__ == "__main__":
    sys.exit(main())
