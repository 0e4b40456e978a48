"""What every test may ask for, and what is said of the tests that this machine can't run.

Law: a test that can't run here is skipped with a reason that names what is missing, and the end of the run lists them: nothing is
left out in silence. `@pytest.mark.lab` needs root and network namespaces, `@pytest.mark.browser` a Chromium,
`@pytest.mark.needs("nginx", "promtool")` these programs on the PATH. A test that asks for `each_version` runs twice: with the Prometheus
and Alertmanager that are installed, and with those that `.ci/newer` fetched.
"""

import functools
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from central.target import Target, detect
from tests.lab.netns import Lab, sweep
from tests.lab.office import Office

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NEWER = Path(os.environ.get("RONDA_NEWER") or f"{sys.prefix}/newer")  # where `make test` has .ci/newer fetch to
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # where Debian keeps nginx, dnsmasq and ip; not on an ordinary user's PATH


settings.register_profile("ronda", deadline=None)  # no test asserts a time
settings.load_profile("ronda")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(program, ...): programs that must be on the PATH")
    path = os.environ.get("PATH", "").split(":")
    os.environ["PATH"] = ":".join([*path, *(p for p in SBIN if p not in path)])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        missing = [*_programs(item)]
        if item.get_closest_marker("lab"):
            missing += _no_lab()
        if item.get_closest_marker("browser") and not any(map(shutil.which, BROWSERS)):
            missing.append("chromium")
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(r.longrepr[2]).removeprefix("Skipped: ") for r in skipped if isinstance(r.longrepr, tuple))
    if reasons:
        terminalreporter.section("left out on this machine")
    for reason, n in reasons.most_common():
        terminalreporter.write_line(f"{n} test{'s' if n > 1 else ''}: {reason}")


def _programs(item: pytest.Item) -> Iterator[str]:
    for mark in item.iter_markers("needs"):
        yield from (p for p in mark.args if not shutil.which(p))


@functools.cache
def _no_lab() -> tuple[str, ...]:
    """What this machine lacks for network namespaces; empty: nothing."""
    if os.geteuid() != 0:
        return ("root",)
    if not shutil.which("ip"):
        return ("ip (package iproute2)",)
    probe = subprocess.run(["ip", "netns", "add", f"rt-probe-{os.getpid()}"], capture_output=True, text=True, check=False)
    if probe.returncode:
        return (f"network namespaces ({probe.stderr.strip()})",)
    subprocess.run(["ip", "netns", "del", f"rt-probe-{os.getpid()}"], check=True)
    sweep()
    return ()


@pytest.fixture(scope="module", params=["installed", "newer"])
def each_version(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Puts Prometheus, Alertmanager and their tools first on the PATH; what to render for them is what is detected there."""
    if request.param == "newer" and not (NEWER / "suite").exists():
        pytest.skip(f"needs current versions of Prometheus and Alertmanager (sh .ci/newer {NEWER})")
    with pytest.MonkeyPatch.context() as patched:
        if request.param == "newer":
            patched.setenv("PATH", f"{NEWER}/bin:{os.environ['PATH']}")
        yield detect()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """An empty lab: make namespaces, links and daemons in it; all of it goes at the end."""
    with Lab(tmp_path / "lab") as made:
        yield made


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """office – gateway – isp – internet, and a centre; see tests/lab/office.py."""
    with Office(tmp_path / "lab") as made:
        yield made
