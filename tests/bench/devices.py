"""What polling switches costs: 20 of 50 interfaces every 60 s, as v2c and as v3 authPriv, beside snmp_exporter on the same switches.

    poller (10.77.5.1)   one agent for v2c, one for v3 (SHA-256, AES), snmp_exporter and the Prometheus that asks it
    switch (.10 to .29)  real snmpd over 50 interfaces; each address is a device

Law: all work side by side in the same window, which is ten minutes, so that what is asked seldom (names, speeds) is in it. CPU is that of
the process, less that of an agent that polls nothing, divided by the devices. One device a minute is what a small office has; 20 at once
are for the loop's lag.
"""

import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.bench import agent, measure, workload
from tests.bench.report import Row
from tests.bench.switch import COMMUNITY, Switch
from tests.lab.netns import Lab, Namespace, until

DEVICES = 20
NETWORK = "10.77.5"
LISTEN = {"none": "127.0.0.1:17660", "2c": "127.0.0.1:17661", "3": "127.0.0.1:17662"}
EXPORTER = "127.0.0.1:9116"


def run(quick: bool) -> tuple[list[Row], dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="ronda-bench-") as directory, Lab(Path(directory)) as lab:
        poller, switch = lab.namespace("poller"), Switch(lab)
        switch.wire(poller, "sw0", NETWORK, DEVICES)
        switch.start()
        pids = {version: _agent(poller, switch, version) for version in LISTEN} | {"exporter": _exporter(poller, switch)}
        _all_is_well(poller)
        measure.wait(5 if quick else 60, "SNMP: settling")
        before = _told(poller)
        costs = measure.windows(pids, 20 if quick else 600, 1, "SNMP")
        after = _told(poller)
    found = {name: {"cpu": of[0].cpu, "rss": of[0].rss} for name, of in costs.items()}
    for version in ("2c", "3"):
        found[version] |= _between(before[version], after[version])
    return _rows(found), {"devices": DEVICES, "processes": found}


def _agent(ns: Namespace, switch: Switch, version: str) -> int:
    kept = str(switch.credentials(version)) if version != "none" else ""
    devices = [{"name": f"switch-{n}", "target": a, "credentials_file": kept} for n, a in enumerate(switch.addresses, 1)]
    collectors = {"snmp": devices} if version != "none" else {"link": [{}]}
    config = {"site": "bench", "web": {"listen": LISTEN[version]}, "collectors": collectors}
    return agent.start(ns, yaml.safe_dump(config), LISTEN[version], name=f"ronda-{version}").pid


def _exporter(ns: Namespace, switch: Switch) -> int:
    directory = ns.lab.directory
    (directory / "snmp.yml").write_text(workload.snmp_exporter(COMMUNITY))
    jobs = {"scrape_configs": [workload.snmp_job(switch.addresses, EXPORTER)]}
    (directory / "prometheus.yml").write_text(yaml.safe_dump(jobs))
    started = ns.start("exporter", "prometheus-snmp-exporter", f"--config.file={directory}/snmp.yml", f"--web.listen-address={EXPORTER}")
    ns.start(
        "prometheus", "prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/tsdb",
        "--web.listen-address=127.0.0.1:9090",
    )  # fmt: skip
    return started.pid


def _all_is_well(ns: Namespace) -> None:
    """The work is the same only if all of it succeeds."""

    def well() -> bool:
        ours = all(agent.total(_series(ns, v), "ronda_probe_success") == DEVICES for v in ("2c", "3"))
        answer = ns.get("http://127.0.0.1:9090/api/v1/query?query=sum(up)")
        return ours and answer is not None and f'"{DEVICES}"' in answer

    until(well, 150, "all switches are polled by all", every=2.0)


def _series(ns: Namespace, version: str) -> agent.Series:
    return agent.scrape(ns, f"http://{LISTEN[version]}/metrics")


def _told(ns: Namespace) -> dict[str, agent.Series]:
    return {version: _series(ns, version) for version in ("2c", "3")}


def _between(before: agent.Series, after: agent.Series) -> dict[str, float]:
    return {
        "lag_ms": 1000 * agent.quantile(0.99, before, after, "ronda_loop_lag_seconds"),
        "series": float(sum(name.startswith("ronda_snmp_") for name, _ in after)),
    }


def _rows(found: dict[str, dict[str, float]]) -> list[Row]:
    def percent(name: str, less: str = "") -> float:
        """Of a core, a device polled once a minute."""
        return (found[name]["cpu"] - (found[less]["cpu"] if less else 0.0)) / 60 / DEVICES * 100

    peer, who = percent("exporter"), "snmp_exporter, v2c"
    peer_memory, many = found["exporter"]["rss"], f"{DEVICES} such switches"
    return [
        Row("SNMP", "a switch of 50 interfaces every 60 s, v2c", "% of a core", percent("2c", "none"), 0.1, peer, who),
        Row("SNMP", "the same, v3 authPriv", "% of a core", percent("3", "none"), 0.15, peer, who),
        Row("SNMP", f"p99 loop lag with {many}, v2c", "ms", found["2c"]["lag_ms"], 20),
        Row("SNMP", f"p99 loop lag with {many}, v3", "ms", found["3"]["lag_ms"], 20),
        Row("SNMP", f"memory with {many}, v2c (RSS)", "MiB", found["2c"]["rss"], None, peer_memory, who),
        Row("SNMP", f"memory with {many}, v3 (RSS)", "MiB", found["3"]["rss"], None, peer_memory, who),
    ]
