"""The lab keeps its promises: packets flow, a cut is a cut, and nothing stays behind."""

import subprocess
from pathlib import Path

import pytest

from tests.lab.netns import Lab, sweep, until
from tests.lab.office import INTERNET, Office

pytestmark = pytest.mark.lab


def test_the_office_reaches_the_internet_and_a_cut_ends_it(office: Office) -> None:
    def answers() -> bool:
        return office.office.run("ping", "-c1", "-W1", INTERNET, check=False).returncode == 0

    assert answers()
    office.cut("wan")
    assert not answers()
    office.join("wan")
    until(answers, 10, "the wire carries again")


@pytest.mark.needs("nginx", "dnsmasq")
def test_services_answer_from_the_office(office: Office) -> None:
    web, _ = office.nginx("halo"), office.dnsmasq()
    assert office.office.get(f"http://{INTERNET}/") == "halo"
    web.stop()
    assert office.office.get(f"http://{INTERNET}/") is None


def test_nothing_stays_behind(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        names = [lab.namespace(n).full for n in ("a", "b")]
        daemon = lab._namespaces[0].start("sleeper", "sleep", "1000")
        assert daemon.alive
    there = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert not any(n in there for n in names)
    assert not daemon.alive
    assert not any((Path("/etc/netns") / n).exists() for n in names)


def test_the_sweep_takes_only_what_the_dead_left(lab: Lab) -> None:
    alive = lab.namespace("alive")
    done = subprocess.Popen(["true"])
    done.wait()
    orphan = f"rt-{done.pid}-1-orphan"
    subprocess.run(["ip", "netns", "add", orphan], check=True)
    sweep()
    there = [p.name for p in Path("/run/netns").iterdir()]
    assert orphan not in there
    assert alive.full in there
