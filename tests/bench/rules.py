"""N11: what the centre's rules cost at 1,000 offices of which 200 are down: seconds of each evaluation, by group.

A real Prometheus on loopback with the rendered rules; the offices are series that come by remote write, half of them every 5 s as scraped
ones do, half every 15 s. Down are: whole districts, silent; and one office in twenty elsewhere, half of them silent, half by their own
judgement. Law: no interval of the rules is shortened but in the short form; what is measured is Prometheus' own evaluationTime.
"""

import json
import re
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from agent.delivery import compress
from agent.diagnosis import CAUSES, SITE_STATES
from agent.wire import remote_write
from central import programs
from central.inventory import load
from central.prometheus import files
from central.render import write
from central.target import detect
from tests.bench import measure
from tests.bench.report import Row
from tests.lab.netns import until

LISTEN = "127.0.0.1:17667"
DISTRICT, ISPS, SERVICES = 25, 4, 4  # offices in a district; providers; shared services
CLASSES = ("24-jam", *("layanan",) * 4, *("kantor",) * 9, *("desa",) * 6)
FAST, SLOW = 5, 15  # seconds between samples; a round is FAST
LIMIT = 2.0  # seconds that all groups of 5 s may take together
SETTLED = 120 + 300 + 60  # until the centre calls a silent office down, until its alert pages, and a round of the slow groups
BACKFILL = 700  # seconds of the past: longer than any window of the fast groups

Head = tuple[bytes, float]


def run(quick: bool) -> tuple[list[Row], dict[str, Any]]:
    count, down = (100, 20) if quick else (1000, 200)
    with tempfile.TemporaryDirectory(prefix="ronda-bench-") as directory:
        centre = Centre(Path(directory), count, down, quick)
        try:
            centre.start()
            centre.feed(SETTLED / 5 if quick else SETTLED)
            rounds, cores = centre.watched(20.0 if quick else 120.0)
            firing = _firing()
        finally:
            centre.stop()
    return _rows(rounds, cores, count, down), {"offices": count, "down": down, "firing": firing, "rounds": rounds, "cores": cores}


class Centre:
    """Prometheus, and the offices that it hears."""

    def __init__(self, directory: Path, count: int, down: int, quick: bool) -> None:
        self.directory, self.offices = directory, [Office(n, count, down) for n in range(count)]
        self.rendered = _rendered(directory, self.offices, quick)
        self.process: subprocess.Popen[bytes] | None = None
        self.ended = 0.0

    def start(self) -> None:
        child = programs.prometheus("prometheus", self.directory, self.directory / "data", LISTEN)
        write(self.rendered, self.directory)
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(child.command, stdout=log, stderr=subprocess.STDOUT)
        until(lambda: _get("/-/ready"), 60, "Prometheus is ready")
        self.ended = time.time()
        for n, at in enumerate(range(int(self.ended - BACKFILL), int(self.ended), FAST)):
            self._tell(at, self._due(n), was=True)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(60)

    def watched(self, seconds: float) -> tuple[list[dict[str, float]], float]:
        """What each evaluation took, {group: seconds} a round, and the cores that Prometheus used meanwhile."""
        assert self.process
        cpu, begun = measure.cpu_seconds(self.process.pid), time.monotonic()
        rounds: list[dict[str, float]] = []
        self.feed(seconds, lambda: rounds.append(_evaluations()))
        return rounds, (measure.cpu_seconds(self.process.pid) - cpu) / (time.monotonic() - begun)

    def feed(self, seconds: float, each: Callable[[], None] = lambda: None) -> None:
        """The offices speak, for so long; `each` is called in every round."""
        begun, n = time.monotonic(), 0
        while time.monotonic() - begun < seconds:
            self._tell(int(time.time()), self._due(n))
            each()
            n += 1
            measure.wait(max(0.0, begun + n * FAST - time.monotonic()), "N11: rules")

    def _due(self, n: int) -> list["Office"]:
        """Who speaks in the n-th round."""
        return [o for o in self.offices if o.near or n * FAST % SLOW == 0]

    def _tell(self, at: int, offices: list["Office"], was: bool = False) -> None:
        series = ((head, [(at * 1000, value)]) for o in offices for head, value in o.says(at, was))
        body = compress(remote_write.join(series))
        headers = {"Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}
        request = urllib.request.Request(programs.url(LISTEN, "/api/v1/write"), body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status < 300


class Office:
    """One office: where it is, whether it is down, and its series."""

    def __init__(self, n: int, count: int, down: int) -> None:
        self.slug, self.district, self.class_ = f"kantor-{n:04}", f"Kecamatan {n // DISTRICT}", CLASSES[n % len(CLASSES)]
        self.isps = [f"isp-{n % ISPS}", *([f"isp-{(n + 1) % ISPS}"] if n % 3 == 0 else [])]
        self.near = n % 2 == 0
        whole = down * 3 // 4 // DISTRICT * DISTRICT  # those of districts that went; the others lie scattered
        every = (count - whole) // max(down - whole, 1)
        self.down = n < whole or (n - whole) % every == 0
        self.silent = self.down and (n < whole or (n - whole) // every % 2 == 0)
        self.heartbeat = remote_write.head(self._labels("ronda_heartbeat_timestamp_seconds"))
        self.well, self.ill = ([(remote_write.head(labels), value) for labels, value in self._series(down)] for down in (False, True))

    def says(self, at: int, was: bool) -> list[Head]:
        if self.silent and not was:
            return []
        return [(self.heartbeat, float(at)), *(self.ill if self.down and not was else self.well)]

    def _labels(self, name: str, **labels: str) -> remote_write.Labels:
        all_ = {"__name__": name, "job": "ronda", "instance": self.slug, "site": self.slug, **labels}
        return tuple(sorted((k, v) for k, v in all_.items() if v))

    def _series(self, down: bool) -> Iterator[tuple[remote_write.Labels, float]]:
        state, cause = ("down", "isp") if down else ("ok", CAUSES[0])
        yield from ((self._labels("ronda_site_state", state=s), float(s == state)) for s in SITE_STATES)
        yield from ((self._labels("ronda_verdict", cause=c), float(c == cause)) for c in CAUSES)
        yield self._labels("ronda_link_carrier", device="eth0"), 1.0
        for task, labels, value in self._tasks(not down):
            yield self._labels("ronda_probe_success", task=task, **labels), value
            yield self._labels("ronda_probe_duration_seconds", task=task, **labels), 0.1
            if not value:
                yield self._labels("ronda_probe_reason_info", task=task, reason="timeout", **labels), 1.0

    def _tasks(self, up: bool) -> Iterator[tuple[str, dict[str, str], float]]:
        yield "gateway", {"kind": "icmp", "role": "gateway", "target": "192.0.2.1"}, 1.0
        yield "resolver", {"kind": "dns", "role": "resolver", "target": "192.0.2.1"}, float(up)
        for isp in self.isps:
            for n in (1, 2):
                own = {"kind": "icmp", "role": "anchor", "uplink": isp, "target": f"198.51.100.{n}"}
                yield f"{isp}-anchor-{n}", own, float(up)
        for n in range(SERVICES):
            yield f"app-{n}", {"kind": "http", "service": f"app-{n}", "target": f"https://app-{n}.example.go.id/"}, float(up)
        for n in range(2):
            yield f"port-{n}", {"kind": "tcp", "target": f"192.0.2.{10 + n}:443"}, float(up)


def _rendered(directory: Path, offices: list[Office], quick: bool) -> dict[str, str]:
    """The centre's files, without its scrapes of the offices."""
    sites = {
        o.slug: {
            "name": f"Kantor {o.slug}", "code": o.slug[-4:], "district": o.district, "class": o.class_, "calendar": "24-jam",
            "uplinks": [{"isp": isp, "medium": "fibre", "source": f"wan{i}"} for i, isp in enumerate(o.isps)],
            "services": [f"app-{n}" for n in range(SERVICES)],
        }
        for o in offices
    }  # fmt: skip
    inventory = {
        "centre": {"name": "Pusat", "timezone": "Asia/Jakarta", "url": "https://pusat.example.go.id"},
        "isps": {f"isp-{n}": {"name": f"ISP {n}"} for n in range(ISPS)},
        "services": {f"app-{n}": {"name": f"Aplikasi {n}", "url": f"https://app-{n}.example.go.id/"} for n in range(SERVICES)},
        "sites": sites,
    }
    file = directory / "inventory.yaml"
    file.write_text(yaml.safe_dump(inventory))
    made = files(load(file), detect())
    config = yaml.safe_load(made["prometheus/prometheus.yml"])
    config["scrape_configs"] = [s for s in config["scrape_configs"] if s["job_name"] == "prometheus"]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [LISTEN]
    del config["alerting"]
    made["prometheus/prometheus.yml"] = yaml.safe_dump(config)
    return {path: _hurried(text) if quick else text for path, text in made.items()}


def _hurried(text: str) -> str:
    """What the rules wait for, a fifth of it."""
    text = re.sub(r"(?<=time\(\) - )(300|120|60)(?=\))", lambda m: str(int(m[1]) // 5), text)
    return text.replace("silence_limit_seconds, 120)", "silence_limit_seconds, 24)")


def _get(path: str) -> bytes | None:
    try:
        with urllib.request.urlopen(programs.url(LISTEN, path), timeout=30) as answer:
            found: bytes = answer.read()
            return found
    except OSError:
        return None


def _groups() -> list[dict[str, Any]]:
    text = _get("/api/v1/rules")
    assert text, "Prometheus tells its rules"
    groups: list[dict[str, Any]] = json.loads(text)["data"]["groups"]
    return groups


def _evaluations() -> dict[str, float]:
    """Seconds of each group's last evaluation, those of every 5 s first."""
    found = sorted(_groups(), key=lambda g: (g["interval"], g["name"]))
    return {f"{g['name']} ({g['interval']:g} s)": round(g["evaluationTime"], 4) for g in found}


def _firing() -> dict[str, int]:
    """{alert: how many fire}, so that whoever reads the result sees what was paid for."""
    found: Counter[str] = Counter()
    for rule in (rule for group in _groups() for rule in group["rules"]):
        found[rule["name"]] += sum(a["state"] == "firing" for a in rule.get("alerts", []))
    return {name: n for name, n in found.items() if n}


def _rows(rounds: list[dict[str, float]], cores: float, count: int, down: int) -> list[Row]:
    groups = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    fast = [sum(seconds for name, seconds in r.items() if name.endswith("(5 s)")) for r in rounds]
    what = f"rules at {count:,} offices, {down} down"
    return [
        Row("N11", f"{what}: all groups of 5 s together, median", "s", statistics.median(fast), LIMIT),
        Row("N11", f"the same, worst of {len(fast)} rounds", "s", max(fast), FAST),
        Row("N11", "CPU of Prometheus, samples included", "cores", cores),
        *(Row("N11", f"group {name}, median", "s", seconds) for name, seconds in groups.items()),
    ]
