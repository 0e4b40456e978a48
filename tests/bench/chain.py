"""N3: seconds from a fault to the message about it, with rendered defaults, beside the default stack in the same run.

    box (agent, blackbox_exporter) ── router (NAT) ── isp ── internet (targets)       centre: two Prometheus, two Alertmanager, two webhooks
     └──── a wire of its own, on which the default stack scrapes its exporter ─────────┘

Law: what is measured is what is shipped: no interval is shortened. Every office has another alert firing before it is measured, and
Alertmanager runs through. The clock runs from the moment in which the fault is made to the moment in which the webhook is called.
Faults of a round begin at random moments (seeded), a fault a group, since a group that has just spoken is silent for 5 min.

    ping    a target of a 1 s probe falls silent
    refuse  a target of a 15 s kind (http, tcp, dns) refuses, as one whose daemon has died
    hang    a target of a 15 s kind answers nothing, as one whose machine is off
    silent  the office is cut off: uplink, management wire and all
    blip    packets are lost for a second: nobody may be told

The default stack: blackbox_exporter in the same boxes on the same targets, scraped every 15 s, `for: 1m`, group_wait 30 s. It is spared
what its usual grouping would cost it (a second alert of a site waits for group_interval): each of its probes is a group of its own.
"""

import dataclasses
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.bench import agent, measure
from tests.bench.report import Row
from tests.lab import rendered as centre
from tests.lab.centre import Webhook
from tests.lab.netns import until
from tests.lab.regency import Box, Office, Regency

SEED = 1124
LIMITS: dict[str, tuple[float | None, float]] = {  # median, p95; of a silent office the worst
    "ping": (10.0, 20.0), "refuse": (20.0, 35.0), "hang": (20.0, 35.0), "silent": (None, 60.0),
}  # fmt: skip
WHAT = {"ping": "1 s probes", "refuse": "15 s kinds, refused", "hang": "15 s kinds, no answer", "silent": "a silent office"}
SPREAD = {"ping": 60.0, "refuse": 60.0, "hang": 60.0}  # seconds within which the faults of a sort begin; others: one scrape
SLOW_KINDS = ("http", "tcp", "dns")
KINDS = {"icmp": 1, "http": 2, "tcp": 3, "dns": 4}  # last number of the target's address
PATIENCE = 180.0  # seconds after which a page is taken as missing
SETTLED = 125.0  # seconds that a fresh Prometheus pages no silent office
DEFAULT, DEFAULT_ALERTS = "127.0.0.1:9190", "127.0.0.1:9193"


@dataclasses.dataclass
class Fault:
    """One fault. `began`, `told` and `default` are monotonic; the last two by whom: Ronda and the default stack."""

    sort: str
    site: str
    task: str
    make: Callable[[], None]
    delivery: str
    offset: float
    began: float = 0.0
    told: float | None = None
    default: float | None = None

    def row(self) -> dict[str, Any]:
        seconds = {
            name: None if at is None else round(at - self.began, 2) for name, at in (("ronda", self.told), ("default", self.default))
        }
        return {"sort": self.sort, "site": self.site, "task": self.task, "delivery": self.delivery, **seconds}


def run(quick: bool) -> tuple[list[Row], dict[str, Any]]:
    before = os.getloadavg()[1]  # whoever reads the result wants to know whether the machine was busy with other things
    offices = tuple(_office(n, "pull" if n % 2 else "push") for n in range(1, 5 if quick else 21))
    with tempfile.TemporaryDirectory(prefix="ronda-bench-") as directory, Regency(Path(directory), offices) as regency:
        bench = Bench(regency)
        with bench.ronda.serving(regency.centre), bench.default.serving(regency.centre):
            bench.start()
            blip = bench.blip()
            bench.play(bench.standing(), peer=False)
            bench.play(bench.targets())
            bench.play(bench.silent(1 if quick else 4))
            found, extra = [f.row() for f in bench.faults], bench.unexpected()
    return rows(found, blip, extra), {
        "faults": found,
        "blip": blip,
        "unexpected": extra,
        "seed": SEED,
        "load": [round(before, 1), round(os.getloadavg()[1], 1)],
    }


def _office(n: int, delivery: str) -> Office:
    return Office(slug=f"kantor-{n}", name=f"Kantor {n}", code=f"KT{n}", district=f"Kecamatan {n % 3}", isps=("isp-a",), delivery=delivery)


def target(n: int, kind: str) -> str:
    """An address that only one office looks at, with one kind."""
    return f"10.91.{n}.{KINDS[kind]}"


def exporter(n: int, last: int) -> str:
    """The ends of the default stack's own wire."""
    return f"10.94.{n}.{last}"


class Bench:
    """The lab of N3, and what happens in it."""

    def __init__(self, regency: Regency) -> None:
        self.regency, self.random = regency, random.Random(SEED)
        self.ronda, self.default = Webhook(quiet=True), Webhook(17664, quiet=True)
        self.faults: list[Fault] = []

    # -- the world

    def start(self) -> None:
        self._world()
        files = centre.render(self.regency, inventory(self.regency))
        centre.alertmanager(self.regency.centre, files)
        centre.prometheus(self.regency.centre, files, "0.0.0.0:9090")  # offices push to it
        self._default_stack()
        for box in self.regency.boxes.values():
            listen = box.listen if box.office.delivery == "pull" else "127.0.0.1:17663"
            agent.start(box.ns, files[f"agents/{box.office.slug}.yaml"], listen, name=f"agent-{box.office.slug}")
        want = len(KINDS) * len(self.regency.boxes)
        reached = 'count(ronda_probe_success{task=~"uji-.*"} == 1)'
        until(lambda: _number(self.regency, reached) == want, 90, f"all {want} probes succeed", every=1.0)
        measure.wait(SETTLED, "N3: settling")
        assert not self.ronda.bodies, f"something paged before there was a fault: {[a['labels'] for a in self.ronda.alerts()]}"

    def _world(self) -> None:
        """Targets, and a firewall before them that can let one fall silent (dead) or refuse (closed)."""
        internet = self.regency.internet
        targets = [target(box.number, kind) for box in self.regency.boxes.values() for kind in KINDS]
        for address in targets:
            internet.ip("address", "add", f"{address}/32", "dev", "lo")
        rules = "add table inet cut; add set inet cut dead { type ipv4_addr; }; add set inet cut closed { type ipv4_addr; };"
        rules += "add chain inet cut in { type filter hook input priority 0; };"
        rules += "add rule inet cut in ip daddr @dead drop; add rule inet cut in ip daddr @closed meta l4proto tcp reject with tcp reset;"
        rules += "add rule inet cut in ip daddr @closed meta l4proto udp reject"
        internet.run("nft", rules)
        self.regency.web("uji", "0.0.0.0")
        self.regency.resolver(*(a for a in targets if a.endswith(f".{KINDS['dns']}")))
        for box in self.regency.boxes.values():
            box.dnsmasq()
            self.regency.link(
                box.ns, "peer0", f"{exporter(box.number, 2)}/24", self.regency.centre, f"p{box.number}", f"{exporter(box.number, 1)}/24"
            )

    def _dark(self, box: Box) -> None:
        box.cut_off()
        self.regency.centre.ip("link", "set", f"p{box.number}", "down")

    def _cut(self, how: str, *addresses: str, cut: bool = True) -> None:
        self.regency.internet.run("nft", f"{'add' if cut else 'delete'} element inet cut {how} {{ {', '.join(addresses)} }}")

    def _default_stack(self) -> None:
        ns, directory = self.regency.centre, self.regency.directory / "default"
        directory.mkdir()
        (directory / "blackbox.yml").write_text(yaml.safe_dump(BLACKBOX))
        for box in self.regency.boxes.values():
            options = [f"--config.file={directory}/blackbox.yml", f"--web.listen-address={exporter(box.number, 2)}:9115"]
            box.ns.start(f"blackbox-{box.office.slug}", "prometheus-blackbox-exporter", *options)
        files = {
            "prometheus/rules/default.yaml": yaml.safe_dump(DEFAULT_RULES),
            "prometheus/prometheus.yml": yaml.safe_dump(default_prometheus(self.regency.boxes.values())),
            "alertmanager/alertmanager.yml": yaml.safe_dump(DEFAULT_ALERTMANAGER),
        }
        centre.alertmanager(ns, files, DEFAULT_ALERTS, name="default-alertmanager")
        centre.prometheus(ns, files, DEFAULT, name="default-prometheus")

    # -- what is done to it

    def blip(self) -> dict[str, Any]:
        """Loses what is sent to every ping target for a second; how many messages came of it within half a minute."""
        pinged = [target(box.number, "icmp") for box in self.regency.boxes.values()]
        self._cut("dead", *pinged)
        time.sleep(1.0)
        self._cut("dead", *pinged, cut=False)
        measure.wait(30, "N3: a blip")
        lost = _number(self.regency, 'sum(ronda_icmp_packets_lost_total{task="uji-icmp"})')
        return {"packets_lost": lost, "messages": len(self.ronda.bodies), "default": len(self.default.bodies)}

    def standing(self) -> list[Fault]:
        """Another alert of every office, of one of the slow kinds in turn. It stays."""
        return [self._at(box, "standing", SLOW_KINDS[i % 3], "closed") for i, box in self._boxes()]

    def targets(self) -> list[Fault]:
        """In every office a pinged target falls silent, one of a slow kind refuses, and one of the third kind hangs."""
        pings = [self._at(box, "ping", "icmp", "dead") for _, box in self._boxes()]
        refused = [self._at(box, "refuse", SLOW_KINDS[(i + 1 + i // 3 % 2) % 3], "closed") for i, box in self._boxes()]
        hanging = [self._at(box, "hang", SLOW_KINDS[(i + 2 - i // 3 % 2) % 3], "dead") for i, box in self._boxes()]
        return [*pings, *refused, *hanging]

    def silent(self, each: int) -> list[Fault]:
        """Fewer than half of the offices, of either delivery: more than half would be the centre's own fault."""
        boxes = list(self.regency.boxes.values())
        dark = [box for way in ("pull", "push") for box in [b for b in boxes if b.office.delivery == way][:each]]
        return [self._fault("silent", box, "", lambda box=box: self._dark(box)) for box in dark]  # type: ignore[misc]

    def _boxes(self) -> Iterable[tuple[int, Box]]:
        """Counted so that each delivery has every kind."""
        return ((i // 2, box) for i, box in enumerate(self.regency.boxes.values()))

    def _at(self, box: Box, sort: str, kind: str, how: str) -> Fault:
        return self._fault(sort, box, f"uji-{kind}", lambda: self._cut(how, target(box.number, kind)))

    def _fault(self, sort: str, box: Box, task: str, make: Callable[[], None]) -> Fault:
        return Fault(sort, box.office.slug, task, make, box.office.delivery, self.random.uniform(0, SPREAD.get(sort, 15.0)))

    def play(self, faults: list[Fault], *, peer: bool = True) -> None:
        """Makes the faults, each at its moment, and waits until Ronda (and the default stack) has told of all."""
        start = time.monotonic()
        for fault in sorted(faults, key=lambda f: f.offset):
            time.sleep(max(0.0, start + fault.offset - time.monotonic()))
            fault.began = time.monotonic()
            fault.make()
        self.faults += faults
        while time.monotonic() < start + max(f.offset for f in faults) + PATIENCE:
            for fault in faults:
                fault.told = fault.told or told(self.ronda, fault)
                fault.default = fault.default or told(self.default, fault)
            open_ = [f for f in faults if f.told is None or (peer and f.default is None)]
            if not open_:
                break
            measure.progress(f"N3: {faults[0].sort}: {len(open_)} of {len(faults)} not told yet, {time.monotonic() - start:.0f} s")
            time.sleep(0.2)
        measure.progress("")

    def unexpected(self) -> list[str]:
        """Alerts of Ronda that no fault explains."""
        made = {(f.site, f.task) for f in self.faults}
        came = {(a["labels"]["site"], a["labels"].get("task", ""), a["labels"]["alertname"]) for a in self.ronda.alerts("firing")}
        return sorted(" ".join(labels) for labels in came if labels[:2] not in made)


def told(hook: Webhook, fault: Fault) -> float | None:
    """When a message first told of it."""
    for at, body in zip(list(hook.at), list(hook.bodies), strict=False):
        for alert in body["alerts"]:
            labels = alert["labels"]
            right = labels.get("task", "") == fault.task and (fault.task or labels["alertname"] in ("SiteDown", "InstanceDown"))
            if at >= fault.began and alert["status"] == "firing" and labels["site"] == fault.site and right:
                return at
    return None


def _number(regency: Regency, promql: str) -> float:
    return next((value for _, value in centre.query(regency.centre, promql)), 0.0)


# -- what both stacks are given ---------------------------------------------------------------------------------------------


def inventory(regency: Regency) -> dict[str, Any]:
    """Every office with a task of each kind on a target of its own."""
    made = regency.inventory()
    made["channels"] = {"ops": {"webhook": {"url": "http://127.0.0.1:17665/ops"}}}
    for box in regency.boxes.values():
        made["sites"][box.office.slug]["targets"] = targets = {
            kind: [{"name": f"uji-{kind}", "labels": {"role": "service"}, **task}] for kind, task in tasks(box.number).items()
        }
        targets["dns"].append({"name": "resolver", "query": "siak.example.go.id"})  # the lab's knows no NS of go.id
    return made


def tasks(n: int) -> dict[str, dict[str, Any]]:
    addresses = {kind: target(n, kind) for kind in KINDS}
    return {
        "icmp": {"target": addresses["icmp"]},
        "http": {"target": f"http://{addresses['http']}/"},
        "tcp": {"target": f"{addresses['tcp']}:80"},
        "dns": {"target": addresses["dns"], "query": "siak.example.go.id"},
    }


IP4 = {"preferred_ip_protocol": "ip4"}
BLACKBOX = {
    "modules": {
        "icmp": {"prober": "icmp", "timeout": "5s", "icmp": IP4},
        "http": {"prober": "http", "timeout": "5s", "http": IP4},
        "tcp": {"prober": "tcp", "timeout": "5s", "tcp": IP4},
        "dns": {"prober": "dns", "timeout": "5s", "dns": {**IP4, "query_name": "siak.example.go.id", "query_type": "A"}},
    }
}
DEFAULT_RULES = {
    "groups": [
        {
            "name": "default",
            "rules": [
                {"alert": "ProbeFailed", "expr": "probe_success == 0", "for": "1m"},
                {"alert": "InstanceDown", "expr": 'up{job="blackbox"} == 0', "for": "1m"},
            ],
        }
    ]
}
DEFAULT_ALERTMANAGER = {
    "route": {"receiver": "hook", "group_by": ["alertname", "site", "task"], "group_wait": "30s", "group_interval": "5m"},
    "receivers": [{"name": "hook", "webhook_configs": [{"url": "http://127.0.0.1:17664/default"}]}],
}


def default_prometheus(boxes: Iterable[Box]) -> dict[str, Any]:
    """The usual configuration: everything every 15 s."""
    jobs: list[dict[str, Any]] = []
    own = []
    for box in boxes:
        site, address = box.office.slug, f"{exporter(box.number, 2)}:9115"
        own.append({"targets": [address], "labels": {"site": site}})
        for kind, task in tasks(box.number).items():
            static = {"targets": [address], "labels": {"site": site, "task": f"uji-{kind}"}}
            params = {"module": [kind], "target": [task["target"]]}
            jobs.append({"job_name": f"{site}-{kind}", "metrics_path": "/probe", "params": params, "static_configs": [static]})
    jobs.append({"job_name": "blackbox", "static_configs": own})
    return {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": ["rules/*.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [DEFAULT_ALERTS]}]}]},
        "scrape_configs": jobs,
    }


# -- the result -------------------------------------------------------------------------------------------------------------


def rows(found: Sequence[dict[str, Any]], blip: dict[str, Any], unexpected: Sequence[str]) -> list[Row]:
    """A row for each number of N3; a fault that nobody was told of makes the number missing."""
    out: list[Row] = []
    for delivery in sorted({f["delivery"] for f in found}, reverse=True):
        for sort, limits in LIMITS.items():
            of_sort = [f for f in found if (f["sort"], f["delivery"]) == (sort, delivery)]
            for (figure, quantile), limit in zip(FIGURES[sort], limits, strict=True):
                if of_sort:
                    what = f"fault to message, {WHAT[sort]}, {delivery}, {figure} of {len(of_sort)}"
                    values = {name: quantile([f[name] for f in of_sort]) for name in ("ronda", "default")}
                    note = "" if values["ronda"] is not None else "somebody was never told"
                    out.append(Row("N3", what, "s", values["ronda"], limit, values["default"], "default stack", note))
    out.append(Row("N3", "messages after one blip", "", float(blip["messages"]), 0.0, float(blip["default"]), "default stack"))
    out.append(Row("N3", "messages that no fault explains", "", float(len(unexpected)), 0.0))
    return out


def _median(values: Sequence[float | None]) -> float | None:
    return None if None in values else statistics.median(v for v in values if v is not None)


def _p95(values: Sequence[float | None]) -> float | None:
    """The value that 95 in 100 don't exceed; of fewer than twenty, the worst."""
    return None if None in values else sorted(v for v in values if v is not None)[-(-95 * len(values) // 100) - 1]


FIGURES: dict[str, tuple[tuple[str, Callable[[Sequence[float | None]], float | None]], ...]] = {
    "ping": (("median", _median), ("p95", _p95)),
    "refuse": (("median", _median), ("p95", _p95)),
    "hang": (("median", _median), ("p95", _p95)),
    "silent": (("median", _median), ("worst", lambda v: None if None in v else max(x for x in v if x is not None))),
}
