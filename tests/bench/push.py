"""N5, N6 and N1 on W: bytes a day on the way to the centre and to the card, memory and CPU with push; beside Prometheus' agent mode.

    office (10.77.1.2)   the agent, profile fibre; node, blackbox, smokeping and snmp exporters; two Prometheus in agent mode, of which one
                         scrapes Ronda and the other the exporters, every 15 s, and writes over TLS to the same receiver
    kecamatan (.4.2)     the same agent, profile metered, behind the same gateway
    switch (.5.10)       50 interfaces behind real snmpd, on the wire of both offices (.13.10 there)

Both agents have `lan` and `guard` as well, which W hasn't: so every office's agent is rendered. The peers have nothing like them.
    centre               the receiver: Prometheus behind nginx, which does TLS; an address for each sender, so that they can be counted

Law: bytes are counted by the kernel of the machine that sends (nft, by address), IP headers and TLS included, and 14 of Ethernet for
each packet to the centre; never by the agent itself, whose own count is held against that. What probes cost is IP's bytes, as an uplink
is billed, in a window in which each looks a whole number of times. The window begins when all has settled and has a whole number of
ticks of each profile; a day is the window times what fits into a day, and 24 reconnects as the agent counts one. CPU and memory are
medians of five minutes in the same window.
(Prometheus with TLS of its own would add 0.8 MB a day to each: Go's servers send TCP keep-alives every 15 s. nginx sends none, and
neither does the gateway. An idle connection must be kept for 300 s.)

The card: the data directory is a file system of its own on a loop device, and what the device has written is counted, journal and
all; where there can be none, the kernel's count for the process (write_bytes).
"""

import asyncio
import dataclasses
import json
import math
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import trustme
import yaml

from tests.bench import agent, card, measure, workload
from tests.bench.light import PEERS, peers
from tests.bench.report import Row
from tests.bench.switch import COMMUNITY, Switch
from tests.lab.netns import Daemon, Namespace, until
from tests.lab.office import GATEWAY, OFFICE, Office

DAY = 86_400.0
TICKS = {"fibre": 300.0, "metered": 280.0}  # seconds between the slowest ticks
RECEIVERS = {"fibre": "10.77.9.11", "metered": "10.77.9.12", "peer": "10.77.9.13", "rest": "10.77.9.14"}
PORT = 9443
WAN = "10.77.4.2"  # the office with the metered uplink
LISTEN = {"fibre": f"{OFFICE}:{workload.PORT}", "metered": f"{WAN}:{workload.PORT}"}
SWITCH = {"fibre": "10.77.5.10", "metered": "10.77.13.10"}
PEER = "Prometheus agent"
NGINX = """daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr; user root;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
  scgi_temp_path {dir}/s;
  keepalive_timeout 330s; keepalive_requests 1000000; client_max_body_size 32m; client_body_buffer_size 1m;
  upstream prometheus {{ server 127.0.0.1:9090; keepalive 8; }}
  server {{
    listen {port} ssl; ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
    location / {{ proxy_pass http://prometheus; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


def run(quick: bool) -> tuple[list[Row], dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="ronda-bench-") as directory, Office(Path(directory)) as office:
        bench = Bench(office)
        with card.mounted(Path(directory)) as store:
            bench.start(store)
            measure.wait(5 if quick else 330, "N5: settling")  # all have told their first picture, and the slow ticks have begun
            first = bench.exposed()
            found = bench.measured(quick)
            seen = card.Seen(first, bench.exposed(), max(found["window"].values()))
            hours = 1 if quick else 24
            found["outage"] = {"hours": hours, "bytes": asyncio.run(card.outage(seen, hours * 3600, store)), "how": store.how}
    return rows(found), found


class Bench:
    """The lab of N5, and what is counted in it."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.far = office.namespace("kecamatan", resolver="10.77.3.2")
        self.agents: dict[str, Daemon] = {}
        self.pids: dict[str, int] = {}
        self.store: card.Store | None = None
        self.switches: dict[str, Switch] = {}

    def start(self, store: "card.Store") -> None:
        self.store = store
        self._wires()
        self.office.nginx("x" * 8192)
        self.office.dnsmasq()
        self._receiver()
        for profile, ns in (("fibre", self.office.office), ("metered", self.far)):
            self._count(ns, profile)
            data = ["--data-dir", str(store.directory)] if profile == "fibre" else []
            kept = str(self.switches[profile].credentials("2c"))
            switch = [{"name": "switch", "target": SWITCH[profile], "credentials_file": kept, "profiles": ["system", "interfaces"]}]
            gateway = WAN_GATEWAY if profile == "metered" else GATEWAY
            config = workload.ronda(LISTEN[profile], str(self.office.ca()), self._push(profile), gateway, switch)
            self.agents[profile] = agent.start(ns, config, LISTEN[profile], *data, name=profile)
        self.pids = {"ronda": self.agents["fibre"].pid, **peers(self.office, COMMUNITY)}
        self._prometheus_agents()
        for name in RECEIVERS:
            until(lambda name=name: self._seen(name), 120, f"{name} has written\n{self._log(name)}", every=1.0)

    def _wires(self) -> None:
        lab, far = self.office, self.far
        lab.link(far, "wan0", f"{WAN}/24", lab.gateway, "far0", f"{WAN_GATEWAY}/24")
        lab.link(far, "up0", "10.77.12.2/24", lab.centre, "far0", "10.77.12.1/24")
        far.ip("route", "add", "default", "via", WAN_GATEWAY)
        far.ip("route", "add", "10.77.9.0/24", "via", "10.77.12.1")
        lab.isp.ip("route", "add", "10.77.4.0/24", "via", "10.77.2.1")
        for address in RECEIVERS.values():
            lab.centre.ip("address", "add", f"{address}/24", "dev", "mon0")
        for profile, ns in (("fibre", lab.office), ("metered", far)):
            switch = self.switches[profile] = Switch(lab, f"sw-{profile}")
            switch.wire(ns, "sw0", SWITCH[profile].removesuffix(".10"))
            switch.start()

    def _receiver(self) -> None:
        directory = self.office.directory / "receiver"
        directory.mkdir()
        authority = trustme.CA()
        leaf = authority.issue_cert(*RECEIVERS.values())
        leaf.private_key_pem.write_to_path(str(directory / "key.pem"))
        (directory / "cert.pem").write_bytes(b"".join(b.bytes() for b in leaf.cert_chain_pems))
        authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        (directory / "nginx.conf").write_text(NGINX.format(dir=directory, port=PORT))
        self.office.centre.start("tls", "nginx", "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf"))
        (directory / "prometheus.yml").write_text(yaml.safe_dump({"storage": {"tsdb": {"out_of_order_time_window": "7d"}}}))
        self.office.centre.start(
            "receiver", "prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/tsdb",
            "--web.listen-address=127.0.0.1:9090", "--web.enable-remote-write-receiver",
        )  # fmt: skip
        until(lambda: "ready to receive" in (self.office.directory / "receiver.log").read_text().lower(), 60, "the receiver is ready")

    def _push(self, profile: str) -> dict[str, Any]:
        return {
            "url": f"https://{RECEIVERS[profile]}:{PORT}",
            "profile": profile,
            "tls": {"ca_file": str(self.office.directory / "receiver/ca.pem")},
        }

    def _prometheus_agents(self) -> None:
        jobs = [*workload.prometheus()["scrape_configs"], workload.snmp_job([SWITCH["fibre"]], f"{OFFICE}:9116")]
        for name, mine in (("peer", jobs[:1]), ("rest", jobs[1:])):
            directory = self.office.directory / f"agent-{name}"
            directory.mkdir()
            write = {
                "url": f"https://{RECEIVERS[name]}:{PORT}/api/v1/write",
                "tls_config": {"ca_file": str(self.office.directory / "receiver/ca.pem")},
            }
            config = {"global": {"scrape_interval": "15s"}, "scrape_configs": mine, "remote_write": [write]}
            (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
            self._count(self.office.office, name)
            self.pids[name] = self.office.office.start(
                f"prometheus-{name}", "prometheus", "--enable-feature=agent", f"--config.file={directory}/prometheus.yml",
                f"--storage.agent.path={directory}/wal", f"--web.listen-address=127.0.0.1:{9090 if name == 'peer' else 9091}",
            ).pid  # fmt: skip

    def _log(self, name: str) -> str:
        return "\n".join(d.output()[-2000:] for d in self.office.daemons if d.name.endswith(name))

    # -- bytes

    def _count(self, ns: Namespace, name: str) -> None:
        """Counters of what goes to a receiver and comes from it; for the metered office also of all else that leaves it."""
        to = RECEIVERS[name]
        lines = [f"add table inet {name}"]
        for hook, way in (("output", "daddr"), ("input", "saddr")):
            lines.append(f"add chain inet {name} {hook} {{ type filter hook {hook} priority 0; }}")
            lines.append(f"add counter inet {name} push_{hook}; add rule inet {name} {hook} ip {way} {to} counter name push_{hook} return")
            if name == "metered":
                lines.append(f"add rule inet {name} {hook} ip {way} {{ 127.0.0.0/8, 10.77.4.0/24, 10.77.12.0/24, 10.77.13.0/24 }} return")
                lines.append(f"add counter inet {name} probes_{hook}; add rule inet {name} {hook} counter name probes_{hook}")
        ns.run("nft", "; ".join(lines))

    def _bytes(self, name: str, what: str = "push") -> float:
        ns = self.far if name == "metered" else self.office.office
        found = json.loads(ns.run("nft", "-j", "list", "counters", "table", "inet", name).stdout)["nftables"]
        counters = [c["counter"] for c in found if "counter" in c]
        frame = 14 if what == "push" else 0
        return float(sum(c["bytes"] + frame * c["packets"] for c in counters if c["name"].startswith(what)))

    def _seen(self, name: str) -> bool:
        return self._bytes(name) > 5000

    def measured(self, quick: bool) -> dict[str, Any]:
        """The bytes of a window; each profile's has a whole number of its ticks."""
        began, start = self._now(), time.monotonic()
        costs = self.costs(quick)
        lengths = {p: 20.0 if quick else t * 3 for p, t in TICKS.items()} | {"probes": 20.0 if quick else self._longest_interval()}
        ends: dict[str, dict[str, Any]] = {}
        for profile, length in sorted(lengths.items(), key=lambda p: p[1]):
            measure.wait(start + length - time.monotonic(), f"N5: {profile}")
            ends[profile] = self._now()
        return {"window": lengths, "began": began, "ended": ends, "costs": costs}

    def _longest_interval(self) -> float:
        """Seconds in which each 15 s probe of the metered office looks once: a window of another length is a lottery."""
        series = agent.scrape(self.far, f"http://{LISTEN['metered']}/metrics")
        return math.ceil(15 * agent.total(series, "ronda_budget_stretch_ratio", uplink="default"))

    def exposed(self) -> str:
        text = self.office.office.get(f"http://{LISTEN['fibre']}/metrics")
        assert text
        return text

    def _now(self) -> dict[str, Any]:
        assert self.store
        said = {p: agent.scrape(self.far if p == "metered" else self.office.office, f"http://{LISTEN[p]}/metrics") for p in TICKS}
        return {
            "wire": {**{name: self._bytes(name) for name in RECEIVERS}, "probes": self._bytes("metered", "probes")},
            "own": {p: _own(series) for p, series in said.items()},
            "series": {p: len(series) for p, series in said.items()},
            "card": self.store.written(self.agents["fibre"].pid),
            "process": card.write_bytes(self.agents["fibre"].pid),
        }

    # -- memory and CPU

    def costs(self, quick: bool) -> dict[str, list[dict[str, Any]]]:
        found = measure.windows(self.pids, 10 if quick else 60, 1 if quick else 5, "N1 on W")
        return {name: [dataclasses.asdict(c) for c in costs] for name, costs in found.items()}


WAN_GATEWAY = "10.77.4.1"


def _own(series: agent.Series) -> dict[str, float]:
    """What the agent says of its own bytes."""
    found: dict[str, float] = {}
    for (name, labels), value in series.items():
        if name in ("ronda_push_bytes_total", "ronda_probe_bytes_total"):
            key = re.sub(r"ronda_|_bytes_total", "", name) + "/" + "/".join(v for k, v in labels if k in ("purpose", "kind", "uplink"))
            found[key] = found.get(key, 0.0) + value
    return found


def _day(found: dict[str, Any], profile: str, name: str) -> float:
    """MB a day of a counter of the wire."""
    spent = found["ended"][profile]["wire"][name] - found["began"]["wire"][name]
    return float(spent / found["window"][profile] * DAY / 1e6)


def rows(found: dict[str, Any]) -> list[Row]:
    connect = {p: 24 * found["began"]["own"][p]["push/connect"] / 1e6 for p in TICKS}
    day = {p: _day(found, p, p) + connect[p] for p in TICKS}
    peer = _day(found, "fibre", "peer")
    costs = {name: measure.median([measure.Cost(**c) for c in of]) for name, of in found["costs"].items()}
    own, ours = costs["ronda"], {"ronda", "peer"}
    rest = [cost for name, cost in costs.items() if name not in ours]
    who = f"{PEERS} + snmp + {PEER}"
    began, ended = found["began"], found["ended"]["fibre"]
    a_day = DAY / found["window"]["fibre"] / 1e6
    return [
        Row("N1", "memory on W (RSS)", "MiB", own.rss, 50, sum(c.rss for c in rest), who),
        Row("N1", "CPU on W", "s/min", own.cpu, 0.45, sum(c.cpu for c in rest), who),
        Row("N5", "to the centre, fibre", "MB/day", day["fibre"], 15, peer, PEER),
        Row("N5", "to the centre, metered", "MB/day", day["metered"], 1, peer, PEER),
        Row("N5", "probes over a metered uplink", "MB/day", _day(found, "probes", "probes"), 10),
        Row("N5", "the agent's own count: to the centre", "% off", _off(found, "fibre", "fibre", "push/")),
        Row("N5", "the agent's own count: probes, metered", "% off", _off(found, "metered", "probes", "probe/")),
        Row("N6", "by the agent, healthy", "MB/day", (ended["process"] - began["process"]) * a_day, 1, note="pages, as the kernel counts"),
        Row("N6", "the same with journal and metadata", "MB/day", (ended["card"] - began["card"]) * a_day, note=found["outage"]["how"]),
        Row("N6", "to the card, a day's outage", "MB/day", found["outage"]["bytes"] * 24 / found["outage"]["hours"] / 1e6, 40),
    ]


def _off(found: dict[str, Any], profile: str, counter: str, sort: str) -> float:
    """How far the agent's own count is off the wire's, in percent. What stays in the office is not on the wire that is counted."""
    began, ended = found["began"], found["ended"][profile]
    before, after = began["own"][profile], ended["own"][profile]
    own = sum(v - before.get(k, 0.0) for k, v in after.items() if k.startswith(sort) and not k.endswith("/lan"))
    wire = ended["wire"][counter] - began["wire"][counter]
    return 100 * abs(own - wire) / max(wire, 1)
