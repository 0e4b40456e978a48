"""Workload W−, a small office: 10 ICMP targets every second, 5 TCP, 5 HTTP(S), 5 DNS and the host every 15 s.

W is W− with a switch of 50 interfaces (tests/bench/switch.py, real snmpd) every 60 s, exposed and pushed.

Law: the peers get exactly the same targets as Ronda. Its lists are the only place where they stand.
"""

from typing import Any

import yaml

from tests.lab.office import CENTRE, GATEWAY, INTERNET, ISP, OFFICE

ICMP = [GATEWAY, ISP, INTERNET, CENTRE, *(f"10.77.3.{n}" for n in range(11, 17))]
TCP = [f"{INTERNET}:80", f"{INTERNET}:443", f"{INTERNET}:8081", "10.77.3.11:8082", "10.77.3.12:8083"]
HTTP = [f"http://{INTERNET}/", f"https://{INTERNET}/", "http://10.77.3.11/", "http://10.77.3.13:8081/", "http://10.77.3.12:8082/"]
DNS = ["www", "mail", "sipd", "srikandi", "lpse"]
PORT = 17663


def ronda(
    listen: str = f"{OFFICE}:{PORT}",
    ca: str = "",
    push: dict[str, Any] | None = None,
    gateway: str = GATEWAY,
    devices: list[dict[str, Any]] | None = None,
    watch: bool = False,
) -> str:
    """An agent.yaml that does W−; with `devices` and `push`, W. `ca` is the file of the lab's own certificate authority.

    watch: with the kinds that watch the network and the box too (lan, guard), as every office's agent has them
    """
    secure = {"tls": {"ca_file": ca}} if ca else {}
    collectors: dict[str, Any] = {
        "icmp": [{"target": gateway if t == GATEWAY else t, "interval": "1s"} for t in ICMP],
        "tcp": [{"target": t, "interval": "15s"} for t in TCP],
        "http": [{"target": t, "interval": "15s", **(secure if t.startswith("https") else {})} for t in HTTP],
        "dns": [{"target": INTERNET, "query": f"{d}.lab.test", "interval": "15s"} for d in DNS],
        "host": [{"interval": "15s"}],
        "link": [{}],
    }
    collectors |= {"snmp": devices} if devices else {}
    collectors |= {"lan": [{}], "guard": [{}]} if watch else {}
    config: dict[str, Any] = {"site": "bench", "web": {"listen": listen}, "collectors": collectors}
    if push:
        config |= {"site": f"bench-{push['profile']}", "push": push}
    return yaml.safe_dump(config, sort_keys=False)


def many(count: int) -> list[str]:
    """`count` addresses of 10.78.0.0/16."""
    return [f"10.78.{i >> 8}.{i & 255}" for i in range(1, count + 1)]


def ronda_many(count: int, listen: str) -> str:
    """An agent.yaml with `count` ICMP targets every second and nothing else."""
    icmp = [{"target": t, "interval": "1s"} for t in many(count)]
    return yaml.safe_dump({"site": "bench", "web": {"listen": listen}, "collectors": {"icmp": icmp}}, sort_keys=False)


def smokeping(targets: list[str]) -> str:
    """The file of smokeping_prober: the same targets, every second."""
    target = {"hosts": targets, "interval": "1s", "network": "ip4", "protocol": "icmp", "size": 56}
    return yaml.safe_dump({"targets": [target]})


def blackbox() -> str:
    """The file of blackbox_exporter for the TCP, HTTP and DNS of W−."""
    v4 = {"preferred_ip_protocol": "ip4"}
    modules: dict[str, Any] = {
        "tcp": {"prober": "tcp", "timeout": "5s", "tcp": v4},
        "http": {"prober": "http", "timeout": "5s", "http": {**v4, "tls_config": {"insecure_skip_verify": True}}},
    }
    for name in DNS:
        query = {**v4, "query_name": f"{name}.lab.test", "query_type": "A"}
        modules[f"dns_{name}"] = {"prober": "dns", "timeout": "5s", "dns": query}
    return yaml.safe_dump({"modules": modules})


# IF-MIB as the usual if_mib module has it, columns by number: counters, gauges, and the names that label each row
_IF = {10: "counter", 11: "counter", 13: "counter", 14: "counter", 16: "counter", 17: "counter", 19: "counter", 20: "counter",
       3: "gauge", 4: "gauge", 5: "gauge", 7: "gauge", 8: "gauge", 9: "gauge"}  # fmt: skip
_IFX = dict.fromkeys(range(2, 14), "counter") | {15: "gauge", 16: "gauge", 17: "gauge", 19: "gauge"}
_NAMES = {"ifAlias": "1.3.6.1.2.1.31.1.1.1.18", "ifDescr": "1.3.6.1.2.1.2.2.1.2", "ifName": "1.3.6.1.2.1.31.1.1.1.1"}


def snmp_exporter(community: str) -> str:
    """The file of snmp_exporter 0.21 (Debian ships an empty one and no IF-MIB): both tables, walked whole, as its own if_mib does."""
    indexes, lookups = [{"labelname": "ifIndex", "type": "gauge"}], []
    for name, oid in _NAMES.items():
        lookups.append({"labels": ["ifIndex"], "labelname": name, "oid": oid, "type": "DisplayString"})
    metrics = []
    for base, columns, head in (("1.3.6.1.2.1.2.2.1", _IF, "if"), ("1.3.6.1.2.1.31.1.1.1", _IFX, "ifx")):
        for n, kind in columns.items():
            metric = {"name": f"{head}_{n}", "oid": f"{base}.{n}", "type": kind, "help": "-", "indexes": indexes, "lookups": lookups}
            metrics.append(metric)
    walk = ["1.3.6.1.2.1.2", "1.3.6.1.2.1.31.1.1"]
    return yaml.safe_dump({"if_mib": {"version": 2, "auth": {"community": community}, "walk": walk, "metrics": metrics}})


def snmp_job(addresses: list[str], exporter: str, interval: str = "60s") -> dict[str, Any]:
    """How Prometheus asks snmp_exporter at `exporter` for these devices."""
    relabel = [
        {"source_labels": ["__address__"], "target_label": "__param_target"},
        {"source_labels": ["__param_target"], "target_label": "instance"},
        {"target_label": "__address__", "replacement": exporter},
    ]
    return {
        "job_name": "snmp", "scrape_interval": interval, "scrape_timeout": "10s" if interval == "10s" else "30s", "metrics_path": "/snmp",
        "params": {"module": ["if_mib"]}, "static_configs": [{"targets": addresses}], "relabel_configs": relabel,
    }  # fmt: skip


def prometheus() -> dict[str, Any]:
    """A Prometheus that scrapes Ronda and the peers every 15 s; blackbox_exporter probes when it is asked."""
    jobs: list[dict[str, Any]] = [
        _job("ronda", f"{OFFICE}:{PORT}"),
        _job("node", f"{OFFICE}:9100"),
        _job("smokeping", f"{OFFICE}:9374"),
        _probes("tcp", "tcp", TCP),
        _probes("http", "http", HTTP),
        *(_probes(f"dns_{d}", f"dns_{d}", [INTERNET]) for d in DNS),
    ]
    return {"global": {"scrape_interval": "15s"}, "scrape_configs": jobs}


def _job(name: str, target: str) -> dict[str, Any]:
    return {"job_name": name, "static_configs": [{"targets": [target]}]}


def _probes(name: str, module: str, targets: list[str]) -> dict[str, Any]:
    relabel = [
        {"source_labels": ["__address__"], "target_label": "__param_target"},
        {"source_labels": ["__param_target"], "target_label": "instance"},
        {"target_label": "__address__", "replacement": f"{OFFICE}:9115"},
    ]
    return {
        "job_name": name,
        "metrics_path": "/probe",
        "params": {"module": [module]},
        "static_configs": [{"targets": targets}],
        "relabel_configs": relabel,
    }
