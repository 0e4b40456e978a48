"""`ronda central up`: what it says when something is missing, and the real programs started, reloaded, lost and ended."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from central import programs
from central.programs import Refused
from tests.central.alertbench import free_port

CENTRAL = (f"{sys.prefix}/bin/ronda", "central")


def test_what_is_missing_is_said_with_the_package_that_has_it() -> None:
    with pytest.raises(Refused) as refused:
        programs.find(lambda name: f"/usr/bin/{name}" if name in ("prometheus", "promtool") else None)
    text = str(refused.value)
    assert "prometheus-alertmanager: sends the messages" in text
    assert "amtool" in text
    assert "promtool" not in text
    assert "apt install --no-install-recommends prometheus-alertmanager\n" in text


def test_alertmanager_is_found_under_both_its_names() -> None:
    def upstream(name: str) -> str | None:
        return None if name == "prometheus-alertmanager" else f"/opt/{name}"

    assert programs.find(upstream)["alertmanager"] == "/opt/alertmanager"
    assert programs.find(lambda name: f"/usr/bin/{name}")["alertmanager"] == "/usr/bin/prometheus-alertmanager"


def test_grafana_is_taken_only_with_its_home(tmp_path: Path) -> None:
    binary = tmp_path / "bin/grafana"
    binary.parent.mkdir()
    binary.touch()

    def which(name: str) -> str | None:
        return str(binary) if name == "grafana" else None

    assert programs.find_grafana(lambda name: None) is None
    assert programs.find_grafana(which, homes=()) is None
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/defaults.ini").touch()
    assert programs.find_grafana(which, homes=()) == (str(binary), str(tmp_path))


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_an_address_in_use_is_said_with_the_way_out(taken: str) -> None:
    with pytest.raises(Refused) as refused:
        programs.refuse_busy({"prometheus": taken, "alertmanager": "127.0.0.1:0"})
    assert f"{taken}: is in use" in str(refused.value)
    assert "--prometheus.listen 127.0.0.1:" in str(refused.value)
    assert "alertmanager" not in str(refused.value)


def test_an_address_that_is_not_ours_is_said() -> None:
    with pytest.raises(Refused, match=r"192\.0\.2\.1:9090: Cannot assign requested address"):
        programs.refuse_busy({"prometheus": "192.0.2.1:9090"})


@pytest.mark.parametrize(
    ("listen", "reached"),
    [(":9090", "127.0.0.1:9090"), ("0.0.0.0:9090", "127.0.0.1:9090"), ("[::]:9090", "[::1]:9090"), ("192.0.2.10:80", "192.0.2.10:80")],
)
def test_where_a_listen_address_is_reached(listen: str, reached: str) -> None:
    assert programs.url(listen, "/x") == f"http://{reached}/x"


def test_grafana_shows_without_a_login_and_changes_nothing() -> None:
    child = programs.grafana(
        "/usr/sbin/grafana-server", "/usr/share/grafana", Path("r"), Path("d"), "127.0.0.1:3000", "http://127.0.0.1:9090"
    )
    assert child.command == ("/usr/sbin/grafana-server", "--homepath", "/usr/share/grafana")
    assert child.env["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert child.env["GF_PATHS_PROVISIONING"] == "r/grafana/provisioning"
    newer = programs.grafana("/usr/bin/grafana", "/usr/share/grafana", Path("r"), Path("d"), "127.0.0.1:3000", "")
    assert newer.command[1] == "server"


# -- the real programs -----------------------------------------------------------------------------------------------------------

REAL = pytest.mark.needs("prometheus", "promtool", "amtool", "prometheus-alertmanager")
SITES = """\
centre: {{name: Kominfo}}
isps: {{isp-a: {{name: ISP A}}}}
sites:
  rsud: {{name: {name}, code: RSU, district: Utara, class: 24-jam, delivery: pull, address: "127.0.0.1:{port}",
    uplinks: [{{isp: isp-a, medium: fibre}}]}}
"""
NAMES = ("prometheus", "alertmanager", "gateway", "inbox")


class Centre:
    """`ronda central up` as a person starts it, at ports and in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        (folder / "home").mkdir()  # where there is no ./inventory.yaml
        self.inventory = folder / "inventory.yaml"
        self.listens = {name: f"127.0.0.1:{free_port()}" for name in NAMES}
        self.process: subprocess.Popen[bytes] | None = None
        self.given: tuple[str, ...] = (f"--inventory={self.inventory}",)
        self.write()

    def write(self, name: str = "RSUD", text: str = SITES) -> None:
        self.inventory.write_text(text.format(name=name, port=free_port()))

    @property
    def command(self) -> list[str]:
        listens = [f"--{name}.listen={listen}" for name, listen in self.listens.items()]
        return [*CENTRAL, "up", *self.given, f"--data-dir={self.data}", "--no-grafana", *listens]

    def refused(self, **env: str) -> "subprocess.CompletedProcess[str]":
        """Runs it where it must end by itself."""
        return subprocess.run(self.command, env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False)

    def start(self) -> None:
        with (self.folder / "said").open("wb") as out:
            self.process = subprocess.Popen(self.command, stdout=out, stderr=out, start_new_session=True, cwd=self.folder / "home")
        self.until_said("Ctrl-C ends all.")

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def until(self, done: Callable[[], object], what: str) -> None:
        """Waits for real programs; the limit is for what never comes."""
        deadline = time.monotonic() + 90
        while not done():
            assert time.monotonic() < deadline, f"never: {what}\n{self.said}"
            time.sleep(0.05)

    def until_said(self, words: str, times: int = 1) -> None:
        self.until(lambda: self.said.count(words) >= times, words)

    def send(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def ended(self) -> int:
        assert self.process
        return self.process.wait(90)

    def ask(self, name: str, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.listens[name]}{path}", timeout=30) as answer:
            return json.load(answer)

    def children(self) -> dict[str, psutil.Process]:
        """The programs by their names, found by their ports."""
        assert self.process
        found = psutil.Process(self.process.pid).children(recursive=True)
        return {name: next(p for p in found if any(listen in word for word in p.cmdline())) for name, listen in self.listens.items()}

    def site_names(self) -> list[str]:
        """What Prometheus has in force for the site's name."""
        rules = [r for g in self.ask("prometheus", "/api/v1/rules")["data"]["groups"] for r in g["rules"]]
        return [r["labels"]["name"] for r in rules if r["name"] == "ronda_site_info"]

    def events(self) -> list[dict[str, Any]]:
        """As `ronda central events` tells them."""
        command = [*CENTRAL, "events", "--json", "--data-dir", str(self.data)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def receivers(self) -> set[str]:
        return {r["name"] for r in self.ask("alertmanager", "/api/v2/receivers")}


def gone(*processes: psutil.Process) -> bool:
    return all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in processes)


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    made = Centre(tmp_path)
    yield made
    if made.process and made.process.poll() is None:
        made.process.kill()  # its children go with it, see below
        made.process.wait(30)


@REAL
def test_all_starts_says_where_it_is_and_ends_when_told(centre: Centre) -> None:
    centre.start()
    children = centre.children()
    for name, listen in centre.listens.items():
        assert f"{name.capitalize():<13} http://{listen}/" in centre.said
    next_step = centre.said.partition("beside it:  ")[2].splitlines()[0]
    assert next_step.endswith(f"ronda run --config {centre.data}/rendered/agents/rsud.yaml")
    assert shutil.which(next_step.split()[0]) or Path(next_step.split()[0]).exists()  # it can be typed as it stands
    assert "\x1b" not in centre.said  # not a terminal
    assert centre.site_names() == ["RSUD"]

    centre.send(signal.SIGINT)
    assert centre.ended() == 0
    assert centre.said.rstrip().endswith("Stopping …")
    assert gone(*children.values())
    assert "does not end" not in centre.said


@REAL
def test_where_no_agent_is_here_the_boxes_are_next(centre: Centre) -> None:
    centre.write(text=SITES.replace("127.0.0.1:{port}", "192.0.2.1:{port}"))
    centre.start()
    assert f"on its box as /etc/ronda/agent.yaml:  {centre.data}/rendered/agents/\n" in centre.said


AGENT = """\
site: laptop
push: {{url: "{url}"}}
web: {{listen: "127.0.0.1:{port}"}}
collectors: {{tcp: [{{target: "127.0.0.1:{port}", interval: 1s}}]}}
"""


@REAL
def test_an_agent_beside_it_pushes_and_its_samples_and_events_are_there(centre: Centre) -> None:
    """Without an inventory: the agent that is rendered pushes here; one with targets on loopback only is run in its place."""
    centre.given = ()
    centre.start()
    url = f"http://{centre.listens['gateway']}"
    assert f"push:\n  url: {url}\n" in (centre.data / "rendered/agents/laptop.yaml").read_text()
    config, said = centre.folder / "agent.yaml", centre.folder / "agent.log"
    config.write_text(AGENT.format(url=url, port=free_port()))
    command = [CENTRAL[0], "run", "--config", str(config)]
    with said.open("wb") as out:
        agent = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "STATE_DIRECTORY": str(centre.folder / "state")})
    try:
        query = "/api/v1/query?query=ronda_probe_success%7Bsite=%22laptop%22%7D==1"
        centre.until(lambda: centre.ask("prometheus", query)["data"]["result"], said.read_text())
        centre.until(lambda: any(e["kind"] == "agent_started" for e in centre.events()), said.read_text())
    finally:
        agent.terminate()
        assert agent.wait(30) == 0
    centre.until(lambda: any(e["kind"] == "agent_stopped" for e in centre.events()), "its end is told")
    assert {e["site"] for e in centre.events()} == {"laptop"}
    assert f"central events --data-dir {centre.data}\n" in centre.said


@REAL
def test_agents_that_are_told_of_another_gateway_here_are_warned_of(centre: Centre) -> None:
    centre.write(text=SITES.replace("name: Kominfo", 'name: Kominfo, url: "http://127.0.0.1:9"'))
    centre.start()
    centre.until_said(f"push to http://127.0.0.1:9, but the gateway is http://{centre.listens['gateway']}: set centre.url")


@REAL
def test_a_gateway_for_all_without_tokens_is_refused_before_anything_starts(centre: Centre) -> None:
    centre.listens["gateway"] = f"0.0.0.0:{free_port()}"
    done = centre.refused()
    assert done.returncode == 2
    assert "--tokens" in done.stderr
    assert "is ready" not in done.stderr


@REAL
def test_a_changed_inventory_takes_effect(centre: Centre) -> None:
    centre.start()
    before = centre.receivers()
    centre.write("RSUD Baru", SITES.replace("isps:", 'channels: {{deadman: {{webhook: {{url: "http://127.0.0.1:9/webhook"}}}}}}\nisps:'))
    centre.send(signal.SIGHUP)
    centre.until_said("reloaded ")

    assert "deadman" not in before
    assert "deadman" in centre.receivers()
    assert centre.site_names() == ["RSUD Baru"]
    assert "  prometheus/rules/inventory.yaml" in centre.said

    centre.send(signal.SIGHUP)
    centre.until_said("0 files changed")


@REAL
def test_a_bad_inventory_changes_nothing_and_says_where_it_is_wrong(centre: Centre) -> None:
    centre.start()
    files = {p: p.read_bytes() for p in (centre.data / "rendered").rglob("*") if p.is_file()}
    centre.write("Lain", SITES.replace("class: 24-jam", "class: rumah") + "situs: 1\n")
    centre.send(signal.SIGHUP)
    centre.until_said("nothing was changed")

    assert f"{centre.inventory.name}:4" in centre.said
    assert f"{centre.inventory.name}:6" in centre.said
    assert centre.site_names() == ["RSUD"]
    assert {p: p.read_bytes() for p in (centre.data / "rendered").rglob("*") if p.is_file()} == files

    centre.write("Betul")
    centre.send(signal.SIGHUP)
    centre.until_said("reloaded ")
    assert centre.site_names() == ["Betul"]


@REAL
@pytest.mark.parametrize("name", NAMES)
def test_a_program_that_dies_ends_all_and_its_last_words_are_shown(centre: Centre, name: str) -> None:
    centre.start()
    children = centre.children()
    children[name].kill()

    assert centre.ended() == 1
    assert f"{name.capitalize()} was killed by SIGKILL. The end of {centre.data}/logs/{name}.log:\n  " in centre.said
    assert gone(*children.values())


@REAL
def test_a_program_that_does_not_start_says_why(centre: Centre) -> None:
    (centre.data / "prometheus").mkdir(parents=True)
    (centre.data / "prometheus/wal").write_text("in the way")
    done = centre.refused()

    assert done.returncode == 1
    assert "Prometheus ended with exit code 1" in done.stderr
    assert "wal" in done.stderr
    assert not any(
        listen in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]) for listen in centre.listens.values()
    )


@REAL
def test_killed_it_takes_its_programs_with_it(centre: Centre) -> None:
    centre.start()
    children = centre.children()
    centre.send(signal.SIGKILL)
    centre.ended()
    centre.until(lambda: gone(*children.values()), "the programs end")

    centre.start()  # and nothing is left that would keep it from starting again
    assert centre.site_names() == ["RSUD"]


@REAL
def test_a_second_one_in_the_same_directory_is_refused(centre: Centre) -> None:
    centre.start()
    assert centre.process
    done = centre.refused()

    assert done.returncode == 2
    assert f"{centre.data} is in use by another `ronda central up` (pid {centre.process.pid})" in done.stderr
    assert centre.site_names() == ["RSUD"]


@REAL
def test_ports_in_use_are_said_before_anything_starts(centre: Centre, taken: str) -> None:
    centre.listens["alertmanager"] = taken
    done = centre.refused()

    assert done.returncode == 2
    assert f"{taken}: is in use by " in done.stderr
    assert f"(pid {os.getpid()})" in done.stderr
    assert "--alertmanager.listen 127.0.0.1:" in done.stderr
    assert "is ready" not in done.stderr


def test_a_missing_program_says_how_to_get_it(centre: Centre, tmp_path: Path) -> None:
    done = centre.refused(PATH=str(tmp_path))

    assert done.returncode == 2
    assert "prometheus: stores what agents see" in done.stderr
    assert "apt install --no-install-recommends prometheus prometheus-alertmanager" in done.stderr
    assert not (centre.data / "rendered").exists()


@REAL
def test_a_bad_inventory_is_refused_before_anything_starts(centre: Centre) -> None:
    centre.write(text="centre: {{}}\nsites: []\n")
    done = centre.refused()

    assert done.returncode == 2
    assert "inventory.yaml:1" in done.stderr
    assert "inventory.yaml:2" in done.stderr
    assert "is ready" not in done.stderr


@REAL
def test_without_an_inventory_this_machine_is_the_one_office(centre: Centre) -> None:
    centre.given = ()
    centre.start()

    assert f"The centre runs on {centre.data}/laptop.yaml." in centre.said
    assert f"ronda run --config {centre.data}/rendered/agents/laptop.yaml\n" in centre.said
    assert "warning" not in centre.said
    assert centre.site_names() == ["Laptop ini"]


def test_a_directory_that_can_not_be_says_so(centre: Centre) -> None:
    centre.data.write_text("a file")
    done = centre.refused()

    assert done.returncode == 2
    assert f"{centre.data}: File exists" in done.stderr
