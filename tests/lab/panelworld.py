"""The offices whose panels are looked at, what they look at, the centre, and everything that is done to them.

    sehat ── all is well but some applications           world: anchors, web server, resolver, and the centre
    jauh  ── a wire of 80 ms ──────────────────────────────┤
    bocor ── one ping in five is dropped ──────────────────┤   kirim ── pushes     diam ── never came     calon ── planned

Law: an office's agent, Prometheus, Alertmanager and the rules are what `ronda central render` makes; only scrapes come every second, for
a test can't wait for eleven minutes. What is injected is written here as a number that a panel must show, or can be read from the
machine itself (`Truth`), never from Ronda.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
import yaml

from agent.push import SLOW, phase
from central.inventory import load
from central.render import render
from central.target import detect
from tests.lab import delayline, rendered
from tests.lab.centre import Webhook
from tests.lab.netns import Daemon, Lab, until

ROOT = Path(__file__).parents[2]
RTT, RTT_AFTER, JITTER, LOSS = 0.080, 0.400, 0.060, 0.20
DAYS, DAYS_AFTER = 20.0, 10.0  # that the certificate is valid
HEAT, HEAT_AFTER = 55.5, 83.0
CONTRACT = 50e6
FRAMES, FRAME = 3300, 1000  # what a burst is: so many frames of so many bytes, that nobody asked for
SILENCE = 70.0  # seconds: longer than that a pushing agent's wire is cut; from 60 on it tells the whole picture when it is back
ANCHORS = ("198.51.100.11", "198.51.100.12", "198.51.100.13")
RESOLVER, WEB, NOWHERE = "203.0.113.53", "203.0.113.80", "203.0.113.81"
OFFICES = {"sehat": 1, "jauh": 2, "bocor": 3, "kirim": 4}
CALENDAR = ROOT / "config/calendar.example.yaml"

INVENTORY = f"""
centre: {{name: Kominfo Lab, timezone: Asia/Jakarta, url: "http://10.83.4.1:9090", anchors: [{", ".join(ANCHORS)}]}}
calendars: {{kerja: {{mon-sun: "00:00-23:59"}}}}
isps: {{isp-a: {{name: ISP A}}, isp-b: {{name: ISP B}}, isp-c: {{name: ISP C}}}}
services:
  siak: {{name: SIAK, url: "http://{WEB}/", owner: Kemendagri}}
  simrs: {{name: SIMRS, url: "http://{NOWHERE}/", owner: RSUD}}
channels: {{ops: {{webhook: {{url: "http://127.0.0.1:17665/"}}}}}}
sites:
  sehat:
    {{name: RSUD "Sehat" & Kawan, code: SHT, district: Utara, class: 24-jam, delivery: pull, address: "10.83.1.2:17663",
     location: [2.1, 99.8], uplinks: [{{isp: isp-a, medium: fibre, customer: "001", mbps: 50}}], services: [siak, simrs],
     targets: {{http: [{{name: sertifikat, target: "https://{WEB}/", tls: {{ca_file: DIR/ca.pem}}}}, {{name: palsu, target: "https://{WEB}:8443/"}},
       {{name: kode, target: "http://{WEB}:8080/"}},
       {{name: rahasia, target: "https://{WEB}/", tls: {{ca_file: DIR/ca.pem}}, bearer_token_file: DIR/token}}]}}}}
  jauh:
    {{name: Desa Jauh, code: JAU, district: Tengah, class: 24-jam, delivery: pull, address: "10.83.2.2:17663", location: [2.2, 99.9],
     uplinks: [{{isp: isp-b, medium: vsat, customer: "002", mbps: 10}}], profile: fibre, services: [siak]}}
  bocor:
    {{name: Camat Bocor, code: BCR, district: Selatan, class: 24-jam, delivery: pull, address: "10.83.3.2:17663", location: [2.3, 99.7],
     uplinks: [{{isp: isp-c, medium: wireless, customer: "003", mbps: 20}}],
     targets: {{icmp: [{", ".join(f"{{target: {a}, interval: 200ms, timeout: 200ms}}" for a in ANCHORS)}]}}}}
  kirim: {{name: Arsip, code: KRM, district: Utara, class: 24-jam, delivery: push, uplinks: [{{isp: isp-a, medium: fibre}}]}}
  diam: {{name: Desa Diam, code: DIM, district: Tengah, class: 24-jam, delivery: pull, address: "10.83.9.2:17663", calendar: kerja}}
  calon: {{name: Desa Calon, code: CLN, district: Tengah, class: desa, status: planned, calendar: kerja, location: [2.0, 99.0]}}
"""

NGINX = """daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr; user root;
events {{ worker_connections 256; }}
http {{ access_log off;
  server {{ listen {web}:80; location / {{ return 200 "SIAK siap"; }} }}
  server {{ listen {web}:8080; location / {{ return {status} "siap"; }} }}
  server {{ listen {web}:443 ssl; listen {web}:8443 ssl; ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
    location / {{ return 200 "aman"; }} }} }}
"""


class World(Lab):
    """All of it. `start` has all run; `worsen`, `kill`, `heal` and `cut_power` are what is done to it, in this order."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        self.world = self.namespace("world", resolver=RESOLVER)
        for address in (*ANCHORS, RESOLVER, WEB, NOWHERE):
            self.world.ip("address", "add", f"{address}/32", "dev", "lo")
        self.world.sysctl(net__ipv4__ip_forward="1")
        self.offices = {slug: self.namespace(slug, resolver=RESOLVER) for slug in OFFICES}
        self.agents: dict[str, Daemon] = {}
        self.hook = Webhook(quiet=True)
        for slug, number in OFFICES.items():
            if slug != "jauh":
                net = f"10.83.{number}"
                self.link(self.world, f"o{number}", f"{net}.1/24", self.offices[slug], "lan0", f"{net}.2/24")
                self.offices[slug].ip("route", "replace", "default", "via", f"{net}.1")
        self.link(self.world, "spare", "10.84.1.1/24", self.offices["sehat"], "lan1", "10.84.1.2/24")
        self.line = self.wire(RTT)
        self.drop("numgen inc mod 5 == 0 drop")
        (self.directory / "token").write_text("rahasia")
        (self.directory / "token").chmod(0o600)

    # -- its parts

    def wire(self, seconds: float, jitter: float = 0.0) -> Daemon:
        """The long wire of the office that is far away."""
        options = [f"--delay-ms={seconds * 1000}", f"--jitter-ms={jitter * 1000}"]
        line = delayline.start(self, self.world, self.offices["jauh"], "10.83.2", *options, python=sys.executable)
        self.offices["jauh"].ip("route", "replace", "default", "via", "10.83.2.1")
        return line

    def drop(self, what: str) -> None:
        """What becomes of the anchors' replies at the leaky office; on the way in, for what is dropped on the way out was never sent."""
        office = self.offices["bocor"]
        office.run("nft", "add table ip t; flush table ip t; add chain ip t i { type filter hook input priority 0; }")
        for anchor in ANCHORS:
            office.run("nft", f"add rule ip t i ip saddr {anchor} icmp type echo-reply {what}")

    def cut(self, slug: str, cut: bool = True) -> None:
        """The office's wire, at its far end: nobody at the office sees a cable come loose."""
        self.world.ip("link", "set", f"o{OFFICES[slug]}", "down" if cut else "up")

    def certificate(self, days: float) -> None:
        """A new one, of an authority that nobody knew before; the first is the one that the offices trust."""
        ca, trusted = trustme.CA(), self.directory / "ca.pem"
        leaf = ca.issue_cert(WEB, not_after=datetime.now(UTC) + timedelta(days=days))
        leaf.private_key_pem.write_to_path(str(self.directory / "key.pem"))
        (self.directory / "cert.pem").write_bytes(b"".join(b.bytes() for b in leaf.cert_chain_pems))
        if not trusted.exists():
            ca.cert_pem.write_to_path(str(trusted))

    def _nginx(self, status: int) -> None:
        (self.directory / "nginx.conf").write_text(NGINX.format(dir=self.directory, web=WEB, status=status))

    def _web(self) -> Daemon:
        self.certificate(DAYS)
        self._nginx(200)
        daemon = self.world.start("nginx", "nginx", "-e", "stderr", "-p", str(self.directory), "-c", str(self.directory / "nginx.conf"))
        until(lambda: self.world.get(f"http://{WEB}/"), 20, f"nginx answers\n{daemon.output()}")
        return daemon

    def _resolver(self) -> Daemon:
        options = "--no-resolv --no-hosts --user=root --pid-file= --conf-file=/dev/null --log-facility=- --local=/go.id/ --bind-interfaces"
        return self.world.start("dnsmasq", "dnsmasq", "-k", *options.split(), f"--listen-address={RESOLVER}")

    def heat(self, degrees: float) -> None:
        """What the box's sensor says, as the kernel has it: thousandths of a degree."""
        zone = self.directory / "thermal/thermal_zone0"
        zone.mkdir(parents=True, exist_ok=True)
        (zone / "type").write_text("cpu-thermal\n")
        (zone / "temp").write_text(f"{degrees * 1000:.0f}\n")

    def agent(self, slug: str) -> None:
        config = self.directory / f"agents/{slug}.yaml"
        command = [sys.executable, "-m", "agent", "run", "--config", str(config), "--data-dir", str(self.directory / f"data-{slug}")]
        if slug == "sehat":  # with a sensor; `ip netns exec` has given the process mounts of its own
            command = ["sh", "-c", f'mount --bind {self.directory}/thermal /sys/class/thermal && exec "$@"', "sh", *command]
        if slug == "kirim":
            command = ["unshare", "--time", "--monotonic", str(_ahead(25.0)), *command]
        self.agents[slug] = self.offices[slug].start(f"agent-{slug}", *command, env={"PYTHONPATH": str(ROOT)})

    def files(self) -> dict[str, str]:
        """What `ronda central render` makes, with scrapes every second."""
        inventory = self.directory / "inventory.yaml"
        inventory.write_text(INVENTORY.replace("DIR", str(self.directory)))
        files = render(load(inventory, CALENDAR), detect())
        config = yaml.safe_load(files["prometheus/prometheus.yml"])
        for part in (config["global"], *config["scrape_configs"]):
            part |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
        files["prometheus/prometheus.yml"] = yaml.safe_dump(config)
        for path, text in files.items():
            if path.startswith("agents/"):
                (self.directory / path).parent.mkdir(exist_ok=True)
                (self.directory / path).write_text(text)
        return files

    def start(self) -> dict[str, str]:
        """Has all run; what was rendered."""
        self.web, self.resolver = self._web(), self._resolver()
        self.heat(HEAT)
        files = self.files()
        for slug in ("sehat", "jauh", "bocor"):
            self.agent(slug)
        _yesterday(self.directory / "yesterday.txt", self.directory / "prometheus/data")
        rendered.prometheus(self.world, files, "0.0.0.0:9090")
        self.alertmanager = rendered.alertmanager(self.world, files)
        self.agent("kirim")
        counters = (
            'ronda_link_receive_bytes_total{site="sehat",device="lan1"} or ronda_link_receive_dropped_total{site="sehat",device="lan1"}'
        )
        log = self.agents["sehat"].output
        until(lambda: rendered.query(self.world, counters), 60, f"the first counters of the spare cable have come\n{log()}")
        self.burst()
        return files

    # -- what is done to it

    def burst(self) -> None:
        """Frames over the spare cable, both ways, of a protocol that nobody speaks (IEEE 802's for experiments): the kernel drops them."""
        for ns, device in ((self.world, "spare"), (self.offices["sehat"], "lan1")):
            with ns.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
                out.bind((device, 0))
                frame = b"\xff" * 6 + b"\x02\0\0\0\0\1" + b"\x88\xb5"
                for _ in range(FRAMES):
                    out.send(frame.ljust(FRAME, b"\0"))

    def worsen(self) -> None:
        """The far wire is longer and unsteady, the leak is a cut, a wire that pushes is cut, certificate, code, heat, cable: all worse."""
        self.cut("kirim")
        self.cut_at = time.monotonic()
        self.drop("drop")
        self.line.stop()
        self.line = self.wire(RTT_AFTER, JITTER)
        self.burst()
        self.world.ip("link", "set", "spare", "down")
        self.heat(HEAT_AFTER)
        (self.directory / "token").unlink()
        self.certificate(DAYS_AFTER)
        self._nginx(503)
        self.web.signal(signal.SIGHUP)
        self._pause("sehat", 3.0)

    def _pause(self, slug: str, seconds: float) -> None:
        """The box has no time for the agent."""
        agent = self.agents[slug]
        agent.signal(signal.SIGSTOP)
        time.sleep(seconds)
        agent.signal(signal.SIGCONT)

    def kill(self) -> None:
        """The web server and the resolver die."""
        self.web.stop()
        self.resolver.stop()

    def heal(self) -> None:
        """The pushing office's wire is whole again; what it says comes while Alertmanager is gone, and an agent has ended."""
        self.alertmanager.stop()
        self.agents["sehat"].stop()
        time.sleep(max(0.0, self.cut_at + SILENCE - time.monotonic()))
        self.cut("kirim", cut=False)

    def cut_power(self) -> None:
        """Of the box that pushes, while its wire is cut: what was in its memory only is lost."""
        self.cut("kirim")
        time.sleep(5)
        os.killpg(self.agents["kirim"].pid, signal.SIGKILL)
        self.cut("kirim", cut=False)
        self.agent("kirim")


def _ahead(seconds: float) -> int:
    """What to add to this machine's monotonic clock, so that the agent which pushes soon tells all that it tells every 300 s."""
    return round((phase("kirim") - seconds - time.monotonic()) % SLOW)


def _yesterday(file: Path, data: Path) -> None:
    """A day ago the leaky office was down and the healthy one was well: what Prometheus would have recorded."""
    start = int(time.time()) - 86_400 - 600
    states = (("bocor", "down"), ("sehat", "ok"))
    lines = [f'ronda:site_state{{site="{s}",state="{state}"}} 1 {start + t}' for s, state in states for t in range(0, 1200, 15)]
    file.write_text("\n".join(["# TYPE ronda:site_state gauge", *lines, "# EOF", ""]))
    subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", str(file), str(data)], check=True, capture_output=True)


# -- what is true, by other ways than Ronda's -------------------------------------------------------------------------------------

Truth = Callable[[World], float]


def uptime(_: World) -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


def memory_used(_: World) -> float:
    """Share of the machine's memory."""
    sizes = {k: float(v.split()[0]) for k, v in (line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())}
    return 1 - sizes["MemAvailable"] / sizes["MemTotal"]


def disk_used(mountpoint: str) -> float:
    found = os.statvfs(mountpoint)
    return 1 - found.f_bavail / found.f_blocks


def agent_memory(world: World) -> float:
    status = Path(f"/proc/{world.agents['jauh'].pid}/status").read_text()
    return next(float(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


def agent_series(world: World) -> float:
    """The lines of its page that are no comments."""
    text = world.world.get("http://10.83.1.2:17663/metrics", timeout=10) or ""
    return float(sum(not line.startswith("#") for line in text.splitlines()))


def stored_series(world: World) -> float:
    text = world.world.get("http://127.0.0.1:9090/api/v1/status/tsdb", timeout=10) or "{}"
    return float(json.loads(text)["data"]["headStats"]["numSeries"])


def messages_a_minute(world: World) -> float:
    """As the panel has it: those of the last 11 minutes."""
    return len(world.hook.bodies) / 11
