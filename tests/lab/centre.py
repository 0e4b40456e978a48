"""The centre of the lab: a real Prometheus, a real Alertmanager with the project's own files, and a webhook that remembers.

Law: the files that are tested are the ones that are shipped (alerts/, config/prometheus.example.yml); only paths, targets and
intervals are put in: a scrape every 5 s, rules every second, and a group_interval of 5 s, since a resolved message waits for it. So these
tests prove behaviour, not how fast the shipped intervals are. Ports are the usual ones:
the centre is a namespace of its own.
"""

import http.server
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from tests.lab.netns import Daemon, Namespace, until

ROOT = Path(__file__).parents[2]
RULES = ROOT / "alerts/rules"
HOOK_PORT = 17665  # as in alerts/alertmanager/alertmanager.yml


def rule_files() -> list[Path]:
    return sorted(p for p in RULES.glob("*.yaml") if not p.name.endswith(".test.yaml"))


class Webhook:
    """What Alertmanager has said: `bodies` as they came, oldest first."""

    def __init__(self, port: int = HOOK_PORT, quiet: bool = False) -> None:
        self.port, self.quiet = port, quiet
        self.bodies: list[dict[str, Any]] = []
        self.at: list[float] = []  # monotonic

    def alerts(self, status: str = "") -> list[dict[str, Any]]:
        """All alerts of all messages, in their order; `status` is firing, resolved or empty for both."""
        return [a for b in list(self.bodies) for a in b["alerts"] if not status or a["status"] == status]

    def names(self) -> set[str]:
        return {a["labels"]["alertname"] for a in self.alerts()}

    def take(self, path: str, body: bytes) -> None:
        now, said = time.monotonic(), json.loads(body)
        self.bodies.append({**said, "path": path})
        self.at.append(now)
        if not self.quiet:
            print(f"\nwebhook {path}:\n{json.dumps(said, indent=2, ensure_ascii=False)}")

    @contextmanager
    def serving(self, ns: Namespace) -> Iterator["Webhook"]:
        with ns.entered():
            server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def _handler(hook: Webhook) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """The bodies are printed; the log lines would say less."""

    return Handler


def prometheus_config(sites: Mapping[str, str], scrape: str = "5s") -> dict[str, Any]:
    """config/prometheus.example.yml for `sites` (name -> address:port), with all rules of the project."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config/prometheus.example.yml").read_text())
    config["global"] |= {"scrape_interval": scrape, "scrape_timeout": "5s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(p) for p in rule_files()]
    ronda = config["scrape_configs"][0]
    ronda["static_configs"] = [{"targets": [t], "labels": {"site": s, "instance": s}} for s, t in sites.items()]
    return config


def prometheus(ns: Namespace, config: Mapping[str, Any]) -> Daemon:
    directory = ns.lab.directory / "prometheus"
    directory.mkdir()
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(dict(config), sort_keys=False))
    options = [f"--config.file={file}", f"--storage.tsdb.path={directory}/data", "--web.listen-address=127.0.0.1:9090"]
    daemon = ns.start("prometheus", "prometheus", *options)
    until(lambda: _ready(ns, daemon, 9090), 60, "Prometheus is ready")
    return daemon


def alertmanager(ns: Namespace) -> Daemon:
    directory = ns.lab.directory / "alertmanager"
    directory.mkdir()
    shipped = (ROOT / "alerts/alertmanager/alertmanager.yml").read_text()
    assert "group_interval: 5m" in shipped
    (directory / "alertmanager.yml").write_text(shipped.replace("group_interval: 5m", "group_interval: 5s"))
    options = [f"--config.file={directory}/alertmanager.yml", f"--storage.path={directory}/data"]
    options += ["--cluster.listen-address=", "--web.listen-address=127.0.0.1:9093"]
    daemon = ns.start("alertmanager", "prometheus-alertmanager", *options)
    until(lambda: _ready(ns, daemon, 9093), 60, "Alertmanager is ready")
    return daemon


def _ready(ns: Namespace, daemon: Daemon, port: int) -> bool:
    assert daemon.alive, daemon.output()
    return ns.get(f"http://127.0.0.1:{port}/-/ready") is not None


def query(ns: Namespace, promql: str) -> list[tuple[dict[str, str], float]]:
    """What the centre's Prometheus answers now: (labels, value) of each series."""
    text = ns.get(f"http://127.0.0.1:9090/api/v1/query?query={quote(promql)}")
    assert text is not None, f"Prometheus refused {promql}"
    return [(r["metric"], float(r["value"][1])) for r in json.loads(text)["data"]["result"]]
