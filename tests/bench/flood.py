"""N7: a SYN flood of 50,000/s for 60 s at the agent's interface: what the capture costs, and whether a probe was lost or late.

One machine floods another over a wire, from 4,096 addresses, a port that listens: the kernel answers with SYN cookies, so the capture is
shown each twice. On the other are the agent with 10 pings a second and, where there is such a kind, `lan`; and the capture with all the
LAN's detectors in a process of its own, so that its cost can be told from the agent's. After them scapy, which only counts what it gets.

    python -m tests.bench.flood send|capture|sniff …      the parts that run in processes of their own
"""

import asyncio
import contextlib
import json
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tests.bench import agent, measure
from tests.bench.report import Row
from tests.capture.eyes import Wire, syn
from tests.lab.netns import Daemon, Lab, until

RATE, SECONDS, SOURCES, PORT = 50_000, 60.0, 4096, 80
TARGETS = [f"10.79.0.{n}" for n in range(1, 11)]
LISTEN = "127.0.0.1:17663"
PART = [sys.executable, "-m", "tests.bench.flood"]


def run(quick: bool) -> tuple[list[Row], dict[str, Any]]:
    seconds = 3.0 if quick else SECONDS
    with tempfile.TemporaryDirectory(prefix="ronda-bench-") as directory, Lab(Path(directory)) as lab:
        wire = Wire(lab)
        wire.peer.ip("route", "add", "local", "10.79.0.0/16", "dev", "lo")  # AnyIP: the kernel answers for all of it
        wire.listen()
        with _service(wire):
            own = _ronda(wire, seconds, quick)
            peer = _scapy(wire, seconds)
    return _rows(own, peer), {"ronda": own, "scapy": peer}


@contextlib.contextmanager
def _service(wire: Wire) -> Any:
    with wire.box.entered():
        listener = socket.create_server(("", PORT), backlog=128)
    with listener:
        yield


def _kinds(wire: Wire) -> dict[str, Any]:
    """What the agent watches; `lan` with the helper that runs in the box."""
    from collectors import KINDS

    icmp = [{"target": target, "interval": "1s"} for target in TARGETS]
    return {"icmp": icmp, **({"lan": [{"device": "eth0", "socket": str(wire.path)}]} if "lan" in KINDS else {})}


def _ronda(wire: Wire, seconds: float, quick: bool) -> dict[str, float]:
    kinds = _kinds(wire)
    whole = agent.start(wire.box, yaml.safe_dump({"site": "bench", "web": {"listen": LISTEN}, "collectors": kinds}), LISTEN)
    alone = wire.box.start("capture-alone", *PART, "capture", str(wire.path))
    url = f"http://{LISTEN}/metrics"
    sent, lost = "ronda_icmp_packets_sent_total", "ronda_icmp_packets_lost_total"
    until(
        lambda: agent.total(agent.scrape(wire.box, url), sent) > 2 * len(TARGETS) and "capturing" in alone.output(), 60, "both are at work"
    )
    start = agent.scrape(wire.box, url)
    quiet = _window({"whole": whole, "alone": alone}, seconds / 2, "N7: before the flood")
    before, got = agent.scrape(wire.box, url), _received(wire)
    flood = wire.peer.start("flood", *PART, "send", wire.box_mac, str(seconds + 2))
    until(lambda: _received(wire) - got > RATE / 10, 30, "the flood is there")
    got, begun = _received(wire), time.monotonic()
    loud = _window({"whole": whole, "alone": alone}, seconds, "N7: the flood")
    rate = (_received(wire) - got) / (time.monotonic() - begun)
    flood.process.wait(60)
    time.sleep(1 if quick else 6)  # the last pings' time-out
    after = agent.scrape(wire.box, url)
    alone.stop()
    told = json.loads(alone.output().splitlines()[-1])
    events = _events(wire) if "lan" in kinds else {}
    whole.stop()
    return {
        "rate": rate, "seconds": seconds, "with_lan": float("lan" in kinds),
        **{f"{name}_{what}": value for name in ("whole", "alone") for what, value in _more(quiet[name], loud[name]).items()},
        "sent": agent.total(after, sent) - agent.total(before, sent), "lost": agent.total(after, lost) - agent.total(before, lost),
        **_late(start, before, "_quiet"), **_late(before, after),
        **told, "flood_events": float(events.get("flood", 0)), "events": float(sum(events.values())),
    }  # fmt: skip


def _late(before: agent.Series, after: agent.Series, when: str = "") -> dict[str, float]:
    """p99 in ms of how late the agent's runs were, and its loop."""
    names = {"lateness": "ronda_scheduler_lateness_seconds", "lag": "ronda_loop_lag_seconds"}
    return {what + when: 1000 * agent.quantile(0.99, before, after, name) for what, name in names.items()}


def _events(wire: Wire) -> Counter[str]:
    """What the agent told, by kind."""
    data = wire.lab.directory / "ronda/data"
    run = wire.box.run(sys.executable, "-m", "agent", "events", "--json", "--data-dir", str(data), check=False)
    return Counter(json.loads(line)["kind"] for line in run.stdout.splitlines())


def _received(wire: Wire, both: bool = False) -> int:
    """Frames that the box's device has received; both: and sent."""
    counters = [f"/sys/class/net/eth0/statistics/{way}_packets" for way in ("rx", "tx")]
    return sum(map(int, wire.box.run("cat", *counters[: 1 + both]).stdout.split()))


def _window(daemons: dict[str, Daemon], seconds: float, what: str) -> dict[str, dict[str, float]]:
    """CPU in cores, and the largest RSS, of each."""
    begun, cpu = time.monotonic(), {name: measure.cpu_seconds(d.pid) for name, d in daemons.items()}
    largest = dict.fromkeys(daemons, 0.0)
    while time.monotonic() - begun < seconds:
        measure.wait(1.0, what)
        for name, d in daemons.items():
            largest[name] = max(largest[name], measure.memory(d.pid)[0])
    passed = time.monotonic() - begun
    return {name: {"cpu": (measure.cpu_seconds(d.pid) - cpu[name]) / passed, "rss": largest[name]} for name, d in daemons.items()}


def _more(quiet: dict[str, float], loud: dict[str, float]) -> dict[str, float]:
    return {"cpu_quiet": 100 * quiet["cpu"], "cpu": 100 * loud["cpu"], "rss_quiet": quiet["rss"], "rss": loud["rss"]}


def _scapy(wire: Wire, seconds: float) -> dict[str, float]:
    sniffer = wire.box.start("scapy", *PART, "sniff")
    until(lambda: "sniffing" in sniffer.output(), 60, "scapy sniffs")
    got, shown = _received(wire), _received(wire, both=True)
    flood = wire.peer.start("flood-2", *PART, "send", wire.box_mac, str(seconds + 2))
    until(lambda: _received(wire) - got > RATE / 10, 30, "the flood is there")
    cost = _window({"scapy": sniffer}, seconds, "N7: scapy")["scapy"]
    flood.process.wait(60)
    shown = _received(wire, both=True) - shown
    sniffer.stop()
    seen = json.loads(sniffer.output().splitlines()[-1])["seen"]
    return {"cpu": 100 * cost["cpu"], "rss": cost["rss"], "lost": 100 * max(0.0, 1 - seen / max(shown, 1))}


def _rows(own: dict[str, float], peer: dict[str, float]) -> list[Row]:
    who, rate = "scapy", f"at {own['rate']:,.0f} SYN/s"
    unread = 100 * own["contacts_lost"] / max(own["contacts"], 1)
    rows = [
        Row("N7", f"CPU of capture and detectors {rate}", "% of a core", own["alone_cpu"], 8, peer["cpu"], who),
        Row("N7", "memory more than before the flood", "MiB", own["alone_rss"] - own["alone_rss_quiet"], 2, None, who),
        Row("N7", "pings lost", "packets", own["lost"], 0),
        Row("N7", "p99 lateness of the agent's runs", "ms", own["lateness"], 50, note=f"before the flood {own['lateness_quiet']:.1f}"),
        Row("N7", "p99 lag of the agent's loop", "ms", own["lag"], 20, note=f"before the flood {own['lag_quiet']:.1f}"),
        Row("N7", "frames left unread, and counted", "%", unread, None, peer["lost"], who, "lost without a word there"),
    ]
    if own["with_lan"]:
        rows += [
            Row(
                "N7",
                "CPU of the whole agent, more than before",
                "% of a core",
                own["whole_cpu"] - own["whole_cpu_quiet"],
                8,
                peer["cpu"],
                who,
            ),
            Row("N7", "memory of the whole agent, more than before", "MiB", own["whole_rss"] - own["whole_rss_quiet"], 2),
            Row("N7", "times that the flood was told", "events", own["flood_events"], 1),
        ]
    return rows


# -- in processes of their own ------------------------------------------------------------------------------------------------


def send(target: str, seconds: float) -> None:
    """RATE SYNs a second, in lots of a millisecond's."""
    frames = [syn(target, n, PORT) for n in range(SOURCES)]
    with raw_here() as end:
        begun, n = time.monotonic(), 0
        while (passed := time.monotonic() - begun) < seconds:
            for _ in range(min(int(passed * RATE) - n, 500)):
                with contextlib.suppress(BlockingIOError, InterruptedError):
                    end.send(frames[n % SOURCES])
                n += 1
            time.sleep(0.0005)
    print(json.dumps({"sent": n}), flush=True)


def raw_here(device: str = "eth0") -> socket.socket:
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.bind((device, 0))
    return s


class Silent:
    """A casebook that counts what it is told."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()

    def take(self, finding: Any, at: float, wall: float) -> None:
        self.told[finding.rule] += 1

    def tick(self, at: float, wall: float) -> None:
        pass


async def capture(path: Path) -> None:
    """The reader and every detector of the LAN, fed as the collector feeds them."""
    from agent.capture.reader import Reader
    from agent.clock import SystemClock
    from agent.detect.model import Vouched
    from agent.detect.patrol import Patrol
    from agent.detect.reading import read
    from agent.detect.seen import Counters
    from agent.detect.table import LAN

    book = Silent()
    patrol = Patrol([detector(Vouched()) for detector in LAN], book)
    read_frames: Counter[str] = Counter()

    def take(frame: bytes, direction: Any, which: str) -> None:
        read_frames[which] += 1
        now = time.monotonic()
        for seen in read(frame, direction):
            patrol.see(seen, now, time.time())

    reader = Reader(path, "eth0", take, SystemClock())
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    task = asyncio.create_task(reader.run())
    while not done.is_set():
        if reader.alive and not read_frames["begun"]:
            read_frames["begun"] = 1
            print("capturing", flush=True)
        patrol.see(Counters(reader.counters()), time.monotonic(), time.time())
        patrol.tick(time.monotonic(), time.time())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), 1.0)
    task.cancel()
    read_contacts = read_frames["contacts"]
    print(
        json.dumps({**reader.counters(), "read": read_contacts, "failures": sum(patrol.failures.values()), "findings": book.told.total()})
    )


def sniff() -> None:
    """scapy, counting: what it does with each packet is for nothing."""
    from scapy.sendrecv import AsyncSniffer

    seen = 0

    def one(_: Any) -> None:
        nonlocal seen
        seen += 1

    sniffer = AsyncSniffer(iface="eth0", store=False, prn=one)
    sniffer.start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    print("sniffing", flush=True)
    signal.sigwait({signal.SIGTERM})
    print(json.dumps({"seen": seen}), flush=True)
    sys.exit()


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(sys.argv[2], float(sys.argv[3]))
    elif sys.argv[1] == "capture":
        asyncio.run(capture(Path(sys.argv[2])))
    else:
        sniff()
