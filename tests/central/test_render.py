"""Rendering as a whole: the same bytes, any size, what a real promtool takes, and a directory that is not ours left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from central.inventory import load
from central.render import RenderError, diff, render, write
from central.target import Target

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config/inventory.example.yaml"
CENTRE = 'centre: {name: Pusat, timezone: Asia/Jakarta, url: "https://pusat.example.go.id:17664", phone: "0624-000000"}\n'
SITE = "  s{n}: {{name: Kantor {n}, code: S{n}, district: X, class: layanan, calendar: 24-jam, uplinks: [{{isp: isp-a, medium: fibre}}]}}\n"


def inventory(folder: Path, text: str):
    path = folder / "inventory.yaml"
    path.write_text(text)
    return load(path)


def accepted(folder: Path) -> None:
    """By the tools that are first on the PATH."""
    for command in ("promtool check config prometheus/prometheus.yml", "amtool check-config alertmanager/alertmanager.yml"):
        done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_input_is_the_same_bytes():
    code = (
        "import hashlib, pathlib; from central.inventory import load; from central.render import render; from central.target import Target;"
    )
    code += f"print(hashlib.sha256(repr(render(load(pathlib.Path({str(EXAMPLE)!r})), Target())).encode()).hexdigest())"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


@pytest.mark.needs("promtool", "amtool")
@pytest.mark.parametrize("sites", [0, 500])
def test_no_site_and_five_hundred(tmp_path, each_version, sites):
    lines = "".join(SITE.format(n=n) for n in range(sites))
    text = CENTRE + "isps: {isp-a: {name: ISP A}}\n" + (f"sites:\n{lines}" if sites else "")
    files = render(inventory(tmp_path, text), each_version)
    write(files, tmp_path / "out")

    assert sum(path.startswith("agents/") for path in files) == sites
    accepted(tmp_path / "out")


def test_a_diff_says_what_would_change_and_then_nothing(tmp_path):
    text = CENTRE + "isps: {isp-a: {name: ISP A}}\nsites:\n" + SITE.format(n=1)
    write(render(inventory(tmp_path, text), Target()), tmp_path / "out")
    renamed = render(inventory(tmp_path, text.replace("Kantor 1", "Kantor Baru")), Target())

    assert "Kantor Baru" in diff(renamed, tmp_path / "out")
    write(renamed, tmp_path / "out")
    assert "Kantor" not in diff(renamed, tmp_path / "out")


def test_a_strangers_file_is_not_written_over(tmp_path):
    foreign = tmp_path / "out/prometheus/prometheus.yml"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine\n")

    with pytest.raises(RenderError):
        write(render(inventory(tmp_path, CENTRE), Target()), tmp_path / "out")
    assert foreign.read_text() == "mine\n"


@pytest.mark.needs("promtool", "amtool")
def test_offices_are_scraped_often_and_metered_ones_seldom(tmp_path, each_version):
    """A fault must not wait for the next scrape; where each byte is counted it may. Both are the job `ronda` in queries."""
    pulled = SITE.replace("}}]}}", "}}], delivery: pull, address: 10.0.0.{n}:17663, profile: PROFILE}}")
    sites = "".join(pulled.format(n=n).replace("PROFILE", profile) for n, profile in ((1, "fibre"), (2, "metered")))
    files = render(inventory(tmp_path, CENTRE + "isps: {isp-a: {name: ISP A}}\nsites:\n" + sites), each_version)
    write(files, tmp_path / "out")

    jobs = yaml.safe_load(files["prometheus/prometheus.yml"])["scrape_configs"]
    found = {
        static["labels"]["site"]: (job.get("scrape_interval", "15s"), static["labels"].get("job", job["job_name"]))
        for job in jobs
        for static in job["static_configs"]
    }
    assert found["s1"] == ("5s", "ronda")
    assert found["s2"] == ("15s", "ronda")
    accepted(tmp_path / "out")
