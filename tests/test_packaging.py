"""The wheel: built from this tree without network, it holds the code and the data, and nothing of the tests."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    [path] = out.glob("ronda-*-py3-none-any.whl")
    return zipfile.Path(path)


def names(wheel: zipfile.Path) -> set[str]:
    return set(wheel.root.namelist())


def test_has_every_module(wheel: zipfile.Path) -> None:
    code = {str(p.relative_to(ROOT)) for d in ("agent", "central", "collectors") for p in (ROOT / d).rglob("*.py")}
    assert code - names(wheel) == set()


@pytest.mark.parametrize("folder", ["alerts", "config"])
def test_has_the_data(wheel: zipfile.Path, folder: str) -> None:
    shared = {n.partition(".data/data/share/ronda/")[2] for n in names(wheel)}
    data = {str(p.relative_to(ROOT)) for p in (ROOT / folder).rglob("*") if p.is_file() and not p.name.startswith(".")}
    assert data
    assert data - shared == set()


def test_ships_nothing_else(wheel: zipfile.Path) -> None:
    version = next(n.split("/")[0] for n in names(wheel) if n.endswith(".dist-info/METADATA")).removesuffix(".dist-info")
    tops = {n.split("/")[0] for n in names(wheel)}
    assert tops == {"agent", "central", "collectors", f"{version}.dist-info", f"{version}.data"}
    assert not [n for n in names(wheel) if "test_" in n or "__pycache__" in n]


def test_has_the_command_the_licence_and_the_readme(wheel: zipfile.Path) -> None:
    [info] = {n.split("/")[0] for n in names(wheel) if n.endswith(".dist-info/METADATA")}
    assert "ronda = agent.cli:main" in (wheel / info / "entry_points.txt").read_text()
    assert (wheel / info / "licenses/LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    metadata = (wheel / info / "METADATA").read_text()
    assert "License-Expression: MIT" in metadata
    assert (ROOT / "README.md").read_text().strip() in metadata
