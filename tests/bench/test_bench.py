"""The bench works: its short form fills a table and a file. What the figures say is for people, on a quiet machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.__main__ import PROGRAMS
from tests.bench.agent import _interpolate, quantile
from tests.bench.report import ROOT, Row


@pytest.mark.lab
@pytest.mark.needs(*PROGRAMS)
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("part", "numbers"), [("N1", {"N1"}), ("N2", {"N2"}), ("N5", {"N1", "N5", "N6"}), ("N7", {"N7"}), ("N10", {"N10"}), ("SNMP", {"SNMP"})]
)
def test_the_short_form(part: str, numbers: set[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "--quick", "--only", part, "--json", str(tmp_path / "bench.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"| {part} " in done.stdout
    result = json.loads((tmp_path / "bench.json").read_text())
    assert result["commit"]
    assert {n["number"] for n in result["numbers"]} == numbers
    assert all(n["value"] is not None for n in result["numbers"])


def test_a_miss_is_said_plainly() -> None:
    text = report.table(
        [Row("N1", "memory", "MiB", 45.0, 38, 60, "the three"), Row("N1", "CPU", "s/min", 0.3, 0.35), Row("N2", "x", "µs", None)]
    )
    assert "MISSES the target by 7 MiB" in text.splitlines()[2]
    assert "MISSES" not in text.splitlines()[3]
    assert "not measured" in text.splitlines()[4]


def test_quantiles_are_those_of_prometheus() -> None:
    buckets = [(0.01, 50.0), (0.1, 100.0), (float("inf"), 100.0)]
    assert _interpolate(0.5, buckets) == pytest.approx(0.01)
    assert _interpolate(0.99, buckets) == pytest.approx(0.01 + 0.09 * 49 / 50)
    assert _interpolate(1.0, [(0.1, 0.0), (float("inf"), 5.0)]) == 0.1

    def series(a: float, b: float) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {("x_bucket", (("le", "0.1"),)): a, ("x_bucket", (("le", "+Inf"),)): b}

    assert quantile(0.5, series(5, 5), series(15, 15), "x") == pytest.approx(0.05)
