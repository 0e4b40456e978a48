"""What is rendered for: the versions that will read the files, where they listen, and where shipped data lies.

Law: everything that a rendering depends on beside the inventory is a field here, so that the same input gives the same bytes.
"""

import dataclasses
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.secret import read_secret

Version = tuple[int, int]
DEBIAN_12_PROMETHEUS: Version = (2, 42)
DEBIAN_12_ALERTMANAGER: Version = (0, 25)
PROMETHEUS = ("prometheus", "promtool")
ALERTMANAGER = ("prometheus-alertmanager", "alertmanager", "amtool")

Which = Callable[[str], str | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """Versions are (major, minor); addresses are HOST:PORT as Prometheus reaches them.

    runbooks: the page that alerts' links lead to; empty: /runbook of the centre's own URL, if it has one
    secrets: the content of a secret's file, for versions that can't read such a file themselves; raises agent.secret.SecretError
    """

    prometheus: Version = DEBIAN_12_PROMETHEUS
    alertmanager: Version = DEBIAN_12_ALERTMANAGER
    prometheus_address: str = "127.0.0.1:9090"
    alertmanager_address: str = "127.0.0.1:9093"
    gateway_address: str = ""  # empty: not scraped
    runbooks: str = ""
    secrets: Callable[[str], str] = dataclasses.field(default=read_secret, compare=False)


def parse_version(text: str) -> Version:
    """`2.42`, `2.42.0`, `v3.5.0+ds` → (2, 42) and so on. Raises ValueError."""
    if not (found := re.fullmatch(r"v?(\d{1,4})\.(\d{1,4})([.+~-].{0,40})?", text)):
        raise ValueError(f'"{text}" is not a version (try 2.42)')
    return int(found[1]), int(found[2])


def detect(which: Which = shutil.which) -> Target:
    """The versions of the programs on the PATH; Debian 12's where there are none."""
    return Target(
        prometheus=_installed(PROMETHEUS, which) or DEBIAN_12_PROMETHEUS,
        alertmanager=_installed(ALERTMANAGER, which) or DEBIAN_12_ALERTMANAGER,
    )


def _installed(names: Sequence[str], which: Which) -> Version | None:
    return next((version for name in names if (path := which(name)) and (version := version_of(path))), None)


def version_of(program: str) -> Version | None:
    """What a program of the Prometheus family says of itself; None where it says nothing of the kind."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=20)  # noqa: S603  (no shell)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"version (\S+)", done.stdout + done.stderr)
    try:
        return parse_version(found[1]) if found else None
    except ValueError:
        return None


def shipped(name: str) -> Path:
    """The directory of data that comes with Ronda, `alerts` or `config`: of this tree, or of where the wheel was installed."""
    tree = Path(__file__).parents[1] / name
    return tree if tree.is_dir() else Path(sysconfig.get_path("data")) / "share/ronda" / name
