"""For which versions is rendered: those installed, those told, and Debian 12's where nothing sensible is found."""

from collections.abc import Callable
from pathlib import Path

import pytest

from central.target import DEBIAN_12_ALERTMANAGER, DEBIAN_12_PROMETHEUS, Target, detect, parse_version, version_of


def program(folder: Path, name: str, says: str, to: str = "1", code: int = 0) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat >&{to} <<'EOF'\n{says}\nEOF\nexit {code}\n")
    path.chmod(0o755)


def on_path(folder: Path) -> Callable[[str], str | None]:
    return lambda name: str(folder / name) if (folder / name).exists() else None


@pytest.mark.parametrize(
    ("text", "version"),
    [("2.42", (2, 42)), ("2.42.0", (2, 42)), ("v3.5.0", (3, 5)), ("3.5.3+ds1", (3, 5)), ("0.31.0~rc.1", (0, 31)), ("2.53-beta", (2, 53))],
)
def test_a_version_is_read(text: str, version: tuple[int, int]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["", "3", "latest", "3.x", "3.5 ", "-1.2", "2,42", "12345.1", "3.5;id"])
def test_what_is_no_version_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        parse_version(text)


def test_nothing_installed_is_debian_12(tmp_path: Path) -> None:
    assert detect(on_path(tmp_path)) == Target(prometheus=DEBIAN_12_PROMETHEUS, alertmanager=DEBIAN_12_ALERTMANAGER)


def test_each_program_says_its_own_version(tmp_path: Path) -> None:
    program(tmp_path, "prometheus", "prometheus, version 3.5.3+ds1 (branch: debian/sid, revision: 1)\n  build user: a", to="2")
    program(tmp_path, "alertmanager", "alertmanager, version 0.31.0 (branch: HEAD, revision: b)")
    found = detect(on_path(tmp_path))
    assert (found.prometheus, found.alertmanager) == ((3, 5), (0, 31))


def test_the_tool_tells_where_the_program_is_elsewhere(tmp_path: Path) -> None:
    program(tmp_path, "promtool", "promtool, version 2.53.3+ds1 (branch: debian/sid, revision: 1)")
    program(tmp_path, "amtool", "amtool, version 0.28.1+ds (branch: debian/sid, revision: 1)")
    found = detect(on_path(tmp_path))
    assert (found.prometheus, found.alertmanager) == ((2, 53), (0, 28))


def test_nonsense_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path, "prometheus", "prometheus, version unknown", code=1)
    program(tmp_path, "promtool", "promtool, version 2.53.3")
    (tmp_path / "alertmanager").write_text("no program")
    found = detect(on_path(tmp_path))
    assert (found.prometheus, found.alertmanager) == ((2, 53), DEBIAN_12_ALERTMANAGER)
    assert version_of(str(tmp_path / "nowhere")) is None


@pytest.mark.needs("prometheus", "prometheus-alertmanager", "promtool", "amtool")
def test_the_real_ones_agree_with_their_tools(each_version: Target) -> None:
    import shutil

    found = {name: version_of(str(shutil.which(name))) for name in ("prometheus", "promtool", "prometheus-alertmanager", "amtool")}
    assert found["prometheus"] == found["promtool"] == each_version.prometheus
    assert found["prometheus-alertmanager"] == found["amtool"] == each_version.alertmanager
