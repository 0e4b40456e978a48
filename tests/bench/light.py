"""N1 on W−: memory and CPU of the whole agent, beside node_exporter, blackbox_exporter and smokeping_prober on the same work.

All four run at the same time in the same office and are scraped by the same Prometheus, so they share the machine's noise.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.bench import agent, measure, workload
from tests.bench.report import Row
from tests.lab import rendered
from tests.lab.netns import until
from tests.lab.office import OFFICE, Office

PEERS = "node + blackbox + smokeping"
WATCHING = f"{OFFICE}:17665"  # a second agent, with the kinds that watch the network and the box (lan, guard), which no peer here does


def run(quick: bool) -> tuple[list[Row], dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="ronda-bench-") as directory, Office(Path(directory)) as office:
        office.nginx("x" * 8192)
        office.dnsmasq()
        pids = {"ronda": agent.start(office.office, workload.ronda(ca=str(office.ca())), f"{OFFICE}:{workload.PORT}").pid, **peers(office)}
        watching = workload.ronda(WATCHING, str(office.ca()), watch=True)
        pids["watching"] = agent.start(office.office, watching, WATCHING, name="watching").pid
        rendered.prometheus(office.centre, {"prometheus/prometheus.yml": yaml.safe_dump(workload.prometheus(), sort_keys=False)})
        _all_is_well(office)
        measure.wait(5 if quick else 45, "N1: settling")
        found = measure.windows(pids, 10 if quick else 60, 1 if quick else 3, "N1")
    return _rows(found), {name: [dataclasses.asdict(c) for c in costs] for name, costs in found.items()}


def peers(office: Office, community: str = "") -> dict[str, int]:
    """Starts them; with a community snmp_exporter too. The pids."""
    directory, ns = office.directory, office.office
    for name, text in (("blackbox", workload.blackbox()), ("smokeping", workload.smokeping(workload.ICMP))):
        (directory / f"{name}.yml").write_text(text)

    def at(port: int) -> list[str]:
        return [f"--web.listen-address=:{port}"]

    commands = {
        "node": ["prometheus-node-exporter", *at(9100)],
        "blackbox": ["prometheus-blackbox-exporter", f"--config.file={directory}/blackbox.yml", *at(9115)],
        "smokeping": ["prometheus-smokeping-prober", f"--config.file={directory}/smokeping.yml", "--privileged", *at(9374)],
    }
    if community:
        (directory / "snmp.yml").write_text(workload.snmp_exporter(community))
        commands["snmp"] = ["prometheus-snmp-exporter", f"--config.file={directory}/snmp.yml", *at(9116)]
    return {name: ns.start(name, *command).pid for name, command in commands.items()}


def _all_is_well(office: Office) -> None:
    """The work is the same only if all of it succeeds: every probe of Ronda and of blackbox_exporter, every scrape."""

    def well() -> bool:
        probes = len(workload.TCP) + len(workload.HTTP) + len(workload.DNS)
        one = f"count(up == 1) == {3 + probes} and count(probe_success == 1) == {probes} "
        return bool(rendered.query(office.centre, one + f"and count(ronda_probe_success == 1) == {probes + len(workload.ICMP)}"))

    until(well, 90, "all probes of W− succeed", every=1.0)


def _rows(found: dict[str, list[measure.Cost]]) -> list[Row]:
    costs = {name: measure.median(c) for name, c in found.items()}
    own, watching, peers = costs.pop("ronda"), costs.pop("watching"), list(costs.values())
    return [
        Row("N1", "memory on W− (RSS)", "MiB", own.rss, 38, sum(p.rss for p in peers), PEERS),
        Row("N1", "memory on W− (PSS)", "MiB", own.pss, None, sum(p.pss for p in peers), PEERS),
        Row("N1", "CPU on W−", "s/min", own.cpu, 0.35, sum(p.cpu for p in peers), PEERS),
        Row("N1", "memory on W− with lan and guard (RSS)", "MiB", watching.rss),
        Row("N1", "CPU on W− with lan and guard", "s/min", watching.cpu),
    ]
