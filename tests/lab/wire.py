"""An office on one switch, for the detectors: machines on a bridge, a real agent that captures on its own port without promiscuous mode.

    sw: br0 ──┬── gw .1 ── agent .10 ── vic .20 ── att .66 ── whoever else

Law: real daemons and tools only. Frames that no tool sends are scapy's, sent from their machine's own port.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.lab.netns import Daemon, Lab, Namespace, until

ROOT = Path(__file__).parents[2]
NET = "10.88.0."
GW, AGENT, VICTIM, ATTACKER = f"{NET}1", f"{NET}10", f"{NET}20", f"{NET}66"
MACS = {"gw": "4c:5e:0c:00:00:01", "agent": "b8:27:eb:00:00:10", "vic": "3c:52:82:00:00:20", "att": "00:0c:29:00:00:66"}

CONFIG = """site: dukcapil
office: {code: DKC}
web: {listen: "127.0.0.1:17663"}
collectors:
  lan: [{LAN}]
"""


class Wire(Lab):
    """`agent()` starts the box; `conditions` and `told` are what it says."""

    def __init__(self, directory: Path, *others: str) -> None:
        super().__init__(directory)
        self.boxes: dict[str, Namespace] = {}
        try:
            self.switch = self.namespace("sw")
            self.switch.ip("link", "add", "br0", "type", "bridge")
            self.switch.ip("link", "set", "br0", "up")
            for name, address in {"gw": GW, "agent": AGENT, "vic": VICTIM, "att": ATTACKER}.items():
                self.plug(name, address, MACS[name])
            for n, name in enumerate(others):
                self.plug(name, f"{NET}{70 + n}", f"d8:9e:f3:00:00:{70 + n:02x}")
        except BaseException:
            self.close()
            raise

    def plug(self, name: str, address: str, mac: str) -> Namespace:
        """A machine on the switch."""
        box = self.boxes[name] = self.namespace(name)
        self.switch.ip("link", "add", f"p-{name}", "type", "veth", "peer", "name", "eth0", "netns", box.full)
        self.switch.ip("link", "set", f"p-{name}", "master", "br0", "up")
        box.ip("link", "set", "eth0", "address", mac)
        box.ip("address", "add", f"{address}/24", "broadcast", f"{NET}255", "dev", "eth0")
        box.ip("link", "set", "eth0", "up")
        if name != "gw":
            box.ip("route", "add", "default", "via", GW)
        return box

    # -- the box -----------------------------------------------------------------------------------------------------------------

    def data(self, name: str = "agent") -> Path:
        return self.directory / f"data-{name}"

    def agent(
        self, lan: str = "", name: str = "agent", *, memory: dict[str, Any] | None = None, privileged: bool = True, more: str = ""
    ) -> Daemon:
        """Starts a Ronda, and waits until it sees. `lan`: more of the kind's config; `more`: of other kinds; `memory`: what its detectors
        had learnt before.
        """
        box, path, data = self.boxes[name], self.directory / f"{name}.sock", self.data(name)
        data.mkdir(exist_ok=True)
        if memory is not None:
            held = {"version": 1, "detectors": memory, "book": {"cases": [], "learnt": {}}}
            (data / "lan.cases.json").write_text(json.dumps(held))
        if privileged:
            box.start(f"capture-{name}", sys.executable, "-m", "agent.capture", f"--listen={path}", env={"PYTHONPATH": str(ROOT)})
            until(path.exists, 60, "the capture helper listens")
        config = self.directory / f"{name}.yaml"
        config.write_text(CONFIG.replace("{LAN}", f"{{socket: {path}, interval: 2s{', ' if lan else ''}{lan}}}") + more)
        words = ("run", "--config", str(config), "--data-dir", str(data))
        daemon = box.start(name, sys.executable, "-m", "agent", *words, env={"PYTHONPATH": str(ROOT)})
        up = "1.0" if privileged else "0.0"
        until(lambda: self.values("ronda_lan_capture_up", name) == {"": float(up)}, 60, f"it says what it sees\n{daemon.output()}")
        return daemon

    def metrics(self, name: str = "agent") -> str:
        return self.boxes[name].get("http://127.0.0.1:17663/metrics") or ""

    def values(self, metric: str, name: str = "agent", label: str = "") -> dict[str, float]:
        """Value by one label of a metric."""
        found = {}
        for line in self.metrics(name).splitlines():
            if line.startswith((f"{metric}{{", f"{metric} ")):
                head, _, value = line.rpartition(" ")
                found[head.partition(f'{label}="')[2].partition('"')[0] if label else ""] = float(value)
        return found

    def conditions(self, name: str = "agent") -> dict[str, str]:
        """Rule → grade of what holds now."""
        found = {}
        for line in self.metrics(name).splitlines():
            if line.startswith("ronda_condition_active{") and line.endswith((" 1", " 1.0")):
                part = dict(pair.split("=", 1) for pair in line.partition("{")[2].partition("}")[0].split(","))
                found[part["rule"].strip('"')] = part["severity"].strip('"')
        return found

    def coverage(self, name: str = "agent") -> dict[str, float]:
        return self.values("ronda_detector_coverage", name, "detector")

    def told(self, rule: str = "", name: str = "agent") -> list[dict[str, Any]]:
        """The box's own journal: `ronda events --json`."""
        command = [sys.executable, "-m", "agent", "events", "--json", "--data-dir", str(self.data(name))]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        events = [json.loads(line) for line in run.stdout.splitlines()]
        return [e for e in events if e["kind"] == rule] if rule else [e for e in events if "ronda.grade" in e["fields"]]

    def graver_than_low(self, name: str = "agent") -> list[str]:
        """What somebody would be told of."""
        return [
            f"{e['kind']} {e['fields']['ronda.grade']}: {e['message']}"
            for e in self.told(name=name)
            if e["fields"]["ronda.grade"] not in ("low", "info")
        ]

    def until_told(
        self, rule: str, grades: Sequence[str] = ("critical", "high", "medium"), seconds: float = 60.0, name: str = "agent"
    ) -> dict[str, Any]:
        """Waits until a condition holds and its event is in the journal; the event."""
        until(lambda: self.conditions(name).get(rule) in grades, seconds, f"{rule}: {self.conditions(name)}")
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [e for e in self.told(rule, name) if e["fields"]["ronda.grade"] in grades]
            return bool(found)

        until(there, 30, f"{rule} is in the journal", every=0.3)
        return found[0]

    # -- what scapy sends --------------------------------------------------------------------------------------------------------

    def send(self, name: str, frames: Iterator[Any] | Sequence[Any], every: float = 0.0) -> None:
        """Sends scapy's packets, or bytes, from a machine's port."""
        import socket
        import time

        with self.boxes[name].entered():
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            sock.bind(("eth0", 0))
        with sock:
            for frame in frames:
                sock.send(bytes(frame))
                if every:
                    time.sleep(every)

    def answering(self, name: str, answer: Callable[[bytes], Any | None]) -> "Answering":
        return Answering(self.boxes[name], answer)


class Answering:
    """A liar: a thread that answers frames on a machine's port while the `with` lasts."""

    def __init__(self, box: Namespace, answer: Callable[[bytes], Any | None]) -> None:
        import socket
        import threading

        with box.entered():
            self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self._sock.bind(("eth0", 3))
        self._sock.settimeout(0.2)
        self._answer, self._over = answer, threading.Event()
        self.said = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Answering":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5)
        self._sock.close()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                raw, address = self._sock.recvfrom(2048)
            except TimeoutError:
                continue
            if address[2] != 4 and (reply := self._answer(raw)) is not None:  # 4: our own, on its way out
                self._sock.send(bytes(reply))
                self.said += 1
