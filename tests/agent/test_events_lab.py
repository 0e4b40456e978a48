"""A real agent behind a wire that is cut, for longer than a minute: what it saw meanwhile reaches gateway and rsyslog afterwards.

office 10.78.1.2 ──── 10.78.1.1 centre: Prometheus, gateway (TLS, tokens), rsyslog (TLS)
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.journal import Reader
from central.eventstore import EventStore
from central.tokens import hashed
from tests.lab.netns import Lab, until
from tests.rsyslog import Rsyslog

ROOT = Path(__file__).parents[2]
CENTRE, OFFICE = "10.78.1.1", "10.78.1.2"
CUT = 68.0  # seconds: what happened at its beginning is late at its end, also what took the box 5 s to be sure of

AGENT = """site: dukcapil
office: {{code: DKC}}
push: {{url: "https://{centre}:17664", token_file: {dir}/token, tls: {{ca_file: {dir}/siem/ca.pem}}}}
events: {{syslog: "tls://{centre}:6514", tls: {{ca_file: {dir}/siem/ca.pem}}}}
collectors:
  icmp: [{{name: anchor, target: {centre}, interval: 1s, labels: {{role: anchor}}}}]
  link: [{{}}]
"""


class World(Lab):
    """Both ends, with everything running but the agent."""

    def begin(self) -> None:
        self.office, self.centre = self.namespace("office"), self.namespace("centre")
        self.link(self.office, "eth0", f"{OFFICE}/24", self.centre, "eth0", f"{CENTRE}/24")
        self.siem = Rsyslog(self.directory / "siem", "anon", address=CENTRE, port=6514)
        cert, key = self.siem.issue(CENTRE)
        self.write("web.yml", f"tls_server_config: {{cert_file: {cert}, key_file: {key}}}\n")
        self.write("token", "eins\n").chmod(0o600)
        self.write("tokens", f"dukcapil: {hashed('eins')}\n")
        self.write("agent.yaml", AGENT.format(centre=CENTRE, dir=self.directory))
        self.write("prometheus.yml", "storage: {tsdb: {out_of_order_time_window: 7d}}\n")
        self.centre.start(
            "prometheus", "prometheus", f"--config.file={self.directory}/prometheus.yml", f"--storage.tsdb.path={self.directory}/tsdb",
            "--web.listen-address=127.0.0.1:9090", "--web.enable-remote-write-receiver",
        )  # fmt: skip
        self.centre.start("rsyslog", *self.siem.command)
        words = {"--listen": f"{CENTRE}:17664", "--data-dir": "gateway", "--tokens": "tokens", "--web.config.file": "web.yml"}
        given = [w for name, value in words.items() for w in (name, value if ":" in value else str(self.directory / value))]
        self.centre.start("gateway", sys.executable, "-m", "agent", "central", "gateway", *given, env={"PYTHONPATH": str(ROOT)})
        until(lambda: self.centre.get("http://127.0.0.1:9090/-/ready"), 30, "Prometheus is ready")

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def agent(self, name: str):
        words = ("run", "--config", str(self.directory / "agent.yaml"), "--data-dir", str(self.directory / "data"))
        return self.office.start(name, sys.executable, "-m", "agent", *words, env={"PYTHONPATH": str(ROOT)})

    @property
    def happened(self) -> list[dict]:
        """What the box itself says: `ronda events --json`."""
        command = [sys.executable, "-m", "agent", "events", "--json", "--data-dir", str(self.directory / "data")]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in run.stdout.splitlines()]

    @property
    def kinds(self) -> list[str]:
        folder = self.directory / "data/journal"
        return [entry.event.kind for entry in Reader(folder).entries()] if folder.exists() else []

    @property
    def kept(self):
        path = self.directory / "gateway/events.sqlite"
        return EventStore(path, read_only=True).after(0, 10_000) if path.exists() else []

    @property
    def all_there(self) -> bool:
        """Everything in the journal is at both ends."""
        numbers = {event["seq"] for event in self.happened}
        return numbers == {kept.entry.seq for kept in self.kept} == set(self.siem.numbers)


@pytest.mark.lab
@pytest.mark.timeout(400)
@pytest.mark.needs("prometheus", "rsyslogd")
def test_what_happened_in_a_cut_arrives_after_it_once_in_order_with_its_own_times(tmp_path):
    with World(tmp_path / "lab") as world:
        world.begin()
        first = world.agent("agent-1")
        until(lambda: "verdict_changed" in world.kinds and world.all_there, 60, "all is well, and told")

        world.centre.ip("link", "set", "eth0", "down")
        cut = time.time()
        until(lambda: {"link_down", "incident_opened"} <= set(world.kinds), 30, "the box sees the cut")
        assert not world.all_there
        time.sleep(max(0.0, cut + CUT - time.time()))
        world.centre.ip("link", "set", "eth0", "up")
        until(lambda: "incident_closed" in world.kinds and world.all_there, 90, lambda: world.office.lab.daemons[-1].output())
        assert world.siem.numbers == sorted(set(world.siem.numbers)), "once, in order"
        told = {event["seq"]: event for event in world.happened}
        late = [kept.entry.event.kind for kept in world.kept if kept.late]
        assert {"link_down", "incident_opened"} <= set(late)
        assert "incident_closed" not in late
        for kept in world.kept:
            assert (kept.site, kept.journal) == ("dukcapil", told[kept.entry.seq]["journal"])
            assert kept.entry.event.last_seen == pytest.approx(told[kept.entry.seq].get("last", told[kept.entry.seq]["first"]), abs=0.002)
        marked = {m.msgid for m in world.siem.messages if dict(m.data["ronda@32473"]).get("late")}
        assert {"link_down", "incident_opened"} <= marked
        assert [m.at for m in world.siem.messages] == pytest.approx([k.entry.event.last_seen for k in world.kept], abs=0.002)

        world.centre.ip("link", "set", "eth0", "down")
        until(lambda: world.kinds.count("incident_opened") == 2, 30, "the second cut is seen")
        first.signal(signal.SIGKILL)
        first.stop()
        before = {event["seq"] for event in world.happened}
        world.agent("agent-2")
        until(lambda: world.kinds.count("agent_started") == 2, 30, "it starts again, still cut off")
        world.centre.ip("link", "set", "eth0", "up")
        until(lambda: world.kinds.count("incident_closed") == 2 and world.all_there, 90, "and all arrives")
        assert before < {kept.entry.seq for kept in world.kept}
        came = [kept.entry.seq for kept in world.kept]
        assert came == sorted(set(came)), "once, in order, also across a kill"
        assert list(dict.fromkeys(world.siem.numbers)) == came  # syslog may repeat after a kill; the numbers tell
        assert {kept.journal for kept in world.kept} == {world.happened[0]["journal"]}
