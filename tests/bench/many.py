"""N10: one agent with 500 targets at 1 s: how late are its runs, its loop, and does it lose packets of its own making?

The targets are addresses of a neighbour whose kernel answers for the whole range, over one wire: any loss is the prober's own.
smokeping_prober does the same after it, so that neither disturbs the other.
"""

import math
import tempfile
from pathlib import Path
from typing import Any

from tests.bench import agent, measure, workload
from tests.bench.report import Row
from tests.lab.netns import Daemon, Lab, Namespace, until

COUNT = 500
LISTEN = "127.0.0.1:17663"


def run(quick: bool) -> tuple[list[Row], dict[str, Any]]:
    seconds = 10.0 if quick else 60.0
    with tempfile.TemporaryDirectory(prefix="ronda-bench-") as directory, Lab(Path(directory)) as lab:
        prober = _wire(lab)
        own = _ronda(prober, seconds)
        peer = _smokeping(prober, seconds)
    return _rows(own, peer), {"ronda": own, "smokeping": peer}


def _wire(lab: Lab) -> Namespace:
    prober, crowd = lab.namespace("prober"), lab.namespace("crowd")
    lab.link(prober, "fat0", "10.77.8.1/24", crowd, "fat0", "10.77.8.2/24")
    prober.ip("route", "add", "10.78.0.0/16", "via", "10.77.8.2")
    crowd.ip("route", "add", "local", "10.78.0.0/16", "dev", "lo")  # AnyIP: the kernel answers for all of it
    return prober


def _window(daemon: Daemon, ns: Namespace, url: str, sent: str, seconds: float) -> tuple[agent.Series, agent.Series, float]:
    """The metrics before and after a window in which the prober works at its full rate, and its CPU in cores."""
    last = [agent.total(agent.scrape(ns, url), sent)]

    def steady() -> bool:
        last.append(agent.total(agent.scrape(ns, url), sent))
        return last[-1] - last[-2] >= 0.9 * COUNT

    until(steady, 60, f"{daemon.name} sends {COUNT} packets a second", every=1.0)
    before, cpu = agent.scrape(ns, url), measure.cpu_seconds(daemon.pid)
    measure.wait(seconds, f"N10: {daemon.name}")
    cpu = (measure.cpu_seconds(daemon.pid) - cpu) / seconds
    return before, agent.scrape(ns, url), cpu


def _ronda(ns: Namespace, seconds: float) -> dict[str, float]:
    daemon = agent.start(ns, workload.ronda_many(COUNT, LISTEN), LISTEN, name="ronda")
    sent, lost = "ronda_icmp_packets_sent_total", "ronda_icmp_packets_lost_total"
    before, after, cpu = _window(daemon, ns, f"http://{LISTEN}/metrics", sent, seconds)
    rss, _ = measure.memory(daemon.pid)
    daemon.stop()
    return {
        "lateness": 1000 * agent.quantile(0.99, before, after, "ronda_scheduler_lateness_seconds"),
        "lag": 1000 * agent.quantile(0.99, before, after, "ronda_loop_lag_seconds"),
        "sent": agent.total(after, sent) - agent.total(before, sent),
        "lost": agent.total(after, lost) - agent.total(before, lost),
        "skipped": agent.total(after, "ronda_scheduler_runs_skipped_total") - agent.total(before, "ronda_scheduler_runs_skipped_total"),
        "cores": cpu,
        "rss": rss,
    }


def _smokeping(ns: Namespace, seconds: float) -> dict[str, float]:
    file = ns.lab.directory / "many.yml"
    file.write_text(workload.smokeping(workload.many(COUNT)))
    options = [f"--config.file={file}", "--privileged", "--web.listen-address=127.0.0.1:9374"]
    daemon = ns.start("smokeping", "prometheus-smokeping-prober", *options)
    url = "http://127.0.0.1:9374/metrics"
    until(lambda: ns.get(url) is not None, 60, "smokeping_prober answers")
    before, after, cpu = _window(daemon, ns, url, "smokeping_requests_total", seconds)
    rss, _ = measure.memory(daemon.pid)
    daemon.stop()
    sent, got = (
        agent.total(after, n) - agent.total(before, n) for n in ("smokeping_requests_total", "smokeping_response_duration_seconds_count")
    )
    return {"sent": sent, "lost": max(0.0, sent - got), "cores": cpu, "rss": rss}


def _rows(own: dict[str, float], peer: dict[str, float]) -> list[Row]:
    who = "smokeping"
    loss, peer_loss = (100 * r["lost"] / max(r["sent"], 1) for r in (own, peer))
    return [
        Row("N10", f"p99 lateness, {COUNT} targets at 1 s", "ms", _number(own["lateness"]), 50),
        Row("N10", "p99 loop lag", "ms", _number(own["lag"]), 20),
        Row("N10", "packets lost of its own making", "%", loss, 0, peer_loss, who),
        Row("N10", "runs left out", "runs", own["skipped"], 0),
        Row("N10", "CPU", "cores", own["cores"], None, peer["cores"], who),
        Row("N10", "memory (RSS)", "MiB", own["rss"], None, peer["rss"], who),
    ]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
