"""What the centre of the lab is heard by: a webhook that remembers; and which rule files the project has.

Law: nothing is judged here; the centre itself is started by rendered.py.
"""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.netns import Namespace

ROOT = Path(__file__).parents[2]
RULES = ROOT / "alerts/rules"
HOOK_PORT = 17665


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
