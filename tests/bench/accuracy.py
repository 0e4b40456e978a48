"""N2: round-trip times as Ronda and its peers report them against the wire's own truth, packet by packet.

    prober ──veth── near                     the local wire
    prober ──5 ms delay line── far           an uplink
    prober ──veth── crowd                    500 other targets, pinged by the same process over the same socket

Law: error = time reported - time between request and reply on the prober's own interface (tests/bench/truth.py), matched by order of
sending, the first five left out. Cases: idle; busy (two processes that spin, one a core); crowd (500 other targets at 1 s); hog (our
own event loop blocked 30 ms of every 100). Ronda's figures are medians of three runs; peers run once beside it where they can.
"""

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench import truth
from tests.bench.report import ROOT, Row
from tests.lab import delayline
from tests.lab.netns import Daemon, Lab, until

NEAR, FAR, CROWD = "10.77.3.2", "10.77.6.2", 500
INTERVAL = 0.02
WARM_UP = 5
LIMITS = {"median": 10.0, "p99": 50.0}  # µs, numbers.md N2
BLACKBOX = "modules: {icmp: {prober: icmp, timeout: 2s, icmp: {preferred_ip_protocol: ip4}}}\n"
Times = list[float | None]  # µs as reported, in order of sending; None: no reply


def run(quick: bool) -> list[dict[str, Any]]:
    """All cases; a row each: tool, path, case, n, the error's median and p99 and maximum in µs, lost. Prints them as they come."""
    found: list[dict[str, Any]] = []
    count, rounds = (60, 1) if quick else (300, 3)
    with tempfile.TemporaryDirectory(prefix="ronda-bench-") as directory, Lab(Path(directory)) as lab:
        bench = Bench(lab, count)
        for case, path in [(c, p) for c in ("idle", "busy", "crowd", "hog") for p in ("wire", "delay")]:
            with busy(2 if case == "busy" else 0):
                for tool in TOOLS if case in ("idle", "busy") else ("ronda",):
                    times = rounds if tool == "ronda" else 1
                    row = middle([bench.measure(tool, path, case) for _ in range(times)])
                    print(_line(row), file=sys.stderr, flush=True)
                    found.append(row)
    return found


def rows(found: Sequence[dict[str, Any]]) -> list[Row]:
    """The worst of Ronda's cases beside the best peer's worst, as the bench's table wants it."""
    out = []
    for figure, limit in LIMITS.items():
        worst: dict[str, float] = {}
        for row in found:
            worst[row["tool"]] = max(worst.get(row["tool"], 0.0), row[figure])
        peers = {tool: value for tool, value in worst.items() if tool != "ronda"}
        best = min(peers, key=lambda tool: peers[tool])
        out.append(Row("N2", f"RTT error against the wire, {figure}, worst case", "µs", worst["ronda"], limit, peers[best], best))
    return out


def middle(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median run, figure by figure; all of them stay in `runs`."""
    figures = {name: statistics.median(r[name] for r in runs) for name in ("median", "p99", "max", "n", "lost")}
    return {**runs[0], **figures, "runs": [[r["median"], r["p99"]] for r in runs]}


def _line(row: dict[str, Any]) -> str:
    return (
        f"  N2 {row['tool']:17} {row['path']:6} {row['case']:6} error median {row['median']:7.1f} µs, p99 {row['p99']:7.1f}, "
        f"max {row['max']:7.1f}; n {row['n']:.0f}, lost {row['lost']:.0f}, true median {row['truth']:.0f}"
    )


@contextlib.contextmanager
def busy(cores: int) -> Iterator[None]:
    """Processes that spin."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while 1: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


class Bench:
    """The lab, and one measurement in it."""

    def __init__(self, lab: Lab, count: int) -> None:
        self.lab, self.count = lab, count
        self.prober, near, far, crowd = (lab.namespace(name) for name in ("prober", "near", "far", "crowd"))
        lab.link(self.prober, "lan0", "10.77.3.1/24", near, "lan0", f"{NEAR}/24")
        lab.link(self.prober, "fat0", "10.77.8.1/24", crowd, "fat0", "10.77.8.2/24")
        self.prober.ip("route", "add", "10.78.0.0/16", "via", "10.77.8.2")
        crowd.ip("route", "add", "local", "10.78.0.0/16", "dev", "lo")
        delayline.start(lab, self.prober, far, "10.77.6", "--delay-ms", "5", python=sys.executable)
        self.runs = 0

    def measure(self, tool: str, path: str, case: str) -> dict[str, Any]:
        device, target = {"wire": ("lan0", NEAR), "delay": ("dl0", FAR)}[path]
        self.runs += 1
        file = self.lab.directory / f"truth-{self.runs}.pcap"
        recorder = truth.start(self.prober, device, file)
        try:
            reported = TOOLS[tool](self, target, case)
            time.sleep(truth.DELAY)
        finally:
            recorder.stop()
        found = compare(reported, [ping.rtt for ping in truth.pings(file, target)])
        file.unlink()
        return {"tool": tool, "path": path, "case": case, **found}

    def output(self, *command: str) -> str:
        """What a program in the prober's namespace prints."""
        done = self.prober.run("env", f"PYTHONPATH={ROOT}", *command, check=False, timeout=120)
        return done.stdout


def compare(reported: Times, true: Sequence[float | None]) -> dict[str, Any]:
    """Errors in µs. A tool that sent packets which it doesn't report at the end (smokeping_prober) is compared up to there."""
    pairs = [(r, t * 1e6) for r, t in zip(reported, true, strict=False) if r is not None and t is not None][WARM_UP:]
    assert pairs, f"nothing to compare: {len(reported)} reported, {len(true)} on the wire"
    errors = sorted(abs(r - t) for r, t in pairs)
    return {
        "n": len(errors),
        "median": statistics.median(errors),
        "p99": errors[-(-99 * len(errors) // 100) - 1],
        "max": errors[-1],
        "lost": sum(r is None for r in reported),
        "truth": statistics.median(t for _, t in pairs),
    }


# -- the tools: each returns the times it reports --------------------------------------------------------------------------


def _ronda(bench: Bench, target: str, case: str) -> Times:
    if case in ("idle", "busy"):
        command = ["agent", "once", "icmp", target, "--count", str(bench.count), "--interval", f"{INTERVAL * 1000:g}ms", "--json"]
    else:
        command = ["tests.bench.accuracy", target, "--count", str(bench.count), f"--{case}"]
    found = json.loads(bench.output(sys.executable, "-m", *command))
    return [None if p["rtt_seconds"] is None else p["rtt_seconds"] * 1e6 for p in found["packets"]]


def _fping(bench: Bench, target: str, case: str) -> Times:
    text = bench.output("fping", "-c", str(bench.count), "-p", f"{INTERVAL * 1000:g}", "-t", "1000", target)
    times = {int(n): float(ms) * 1000 for n, ms in re.findall(r"\[(\d+)\], \d+ bytes, ([\d.]+) ms", text)}
    return [times.get(i) for i in range(bench.count)]


def _ping(bench: Bench, target: str, case: str) -> Times:
    text = bench.output("ping", "-n", "-c", str(bench.count), "-i", str(INTERVAL), target)
    times = {int(n): float(ms) * 1000 for n, ms in re.findall(r"icmp_seq=(\d+) ttl=\d+ time=([\d.]+) ms", text)}
    return [times.get(i + 1) for i in range(bench.count)]


def _smokeping(bench: Bench, target: str, case: str) -> Times:
    """Its figures are only in its debug log. It starts each host at a random moment, hence the wait for the count."""
    file = bench.lab.directory / "smokeping.yml"
    file.write_text("targets: []\n")
    options = [f"--config.file={file}", f"--ping.interval={INTERVAL * 1000:g}ms", "--log.level=debug", "--privileged"]
    daemon = bench.prober.start(
        f"smokeping-{bench.runs}", "prometheus-smokeping-prober", *options, "--web.listen-address=127.0.0.1:9374", target
    )
    pattern = re.compile(rf"ip_addr={re.escape(target)} .*?icmp_seq=(\d+) time=([\d.]+)(ns|µs|us|ms|s)\b")
    try:
        with contextlib.suppress(AssertionError):  # what it lost it never reports
            until(lambda: len(pattern.findall(daemon.output())) >= bench.count, bench.count * INTERVAL * 2 + 5, "it is through", every=0.3)
    finally:
        daemon.stop()
    times = {int(seq): float(value) * _UNITS[unit] for seq, value, unit in pattern.findall(daemon.output())}
    return [times.get(i) for i in range(min(bench.count, max(times, default=-1) + 1))]


_UNITS = {"ns": 1e-3, "µs": 1.0, "us": 1.0, "ms": 1e3, "s": 1e6}


def _blackbox(bench: Bench, target: str, case: str) -> Times:
    file = bench.lab.directory / "blackbox.yml"
    file.write_text(BLACKBOX)
    address = "127.0.0.1:9115"
    options = [f"--config.file={file}", f"--web.listen-address={address}"]
    daemon: Daemon = bench.prober.start(f"blackbox-{bench.runs}", "prometheus-blackbox-exporter", *options)
    try:
        until(lambda: bench.prober.get(f"http://{address}/-/healthy") is not None, 20, "blackbox_exporter answers")
        times: Times = []
        for _ in range(bench.count):
            due = time.monotonic() + INTERVAL
            text = bench.prober.get(f"http://{address}/probe?module=icmp&target={target}") or ""
            rtt = re.search(r'^probe_icmp_duration_seconds{phase="rtt"} (\S+)', text, re.MULTILINE)
            times.append(float(rtt[1]) * 1e6 if rtt and "\nprobe_success 1" in text else None)
            time.sleep(max(0.0, due - time.monotonic()))
        return times
    finally:
        daemon.stop()


TOOLS: dict[str, Callable[[Bench, str, str], Times]] = {
    "ronda": _ronda,
    "fping": _fping,
    "ping": _ping,
    "smokeping_prober": _smokeping,
    "blackbox_exporter": _blackbox,
}


# -- the agent's own process with other work: `python -m tests.bench.accuracy TARGET --crowd` --------------------------------


def _crowd() -> list[str]:
    return [f"10.78.{i >> 8}.{i & 255}" for i in range(1, CROWD + 1)]


async def drive(target: str, count: int, others: Sequence[str], blocked: float) -> dict[str, Any]:
    """`once` in a process whose scheduler pings others every second too, or whose loop is blocked `blocked` seconds of every 0.1."""
    from agent.clock import SystemClock
    from agent.collector import Env
    from agent.net import Net
    from agent.scheduler import Scheduler
    from collectors import icmp

    env = Env(SystemClock(), Net())
    scheduler = Scheduler(env, [])
    scheduler.swap(scheduler.build((host, icmp.KIND, icmp.Config(target=host)) for host in others))
    hog = asyncio.ensure_future(_block(blocked))
    try:
        if others:
            await asyncio.sleep(4)  # until all have begun
        found: dict[str, Any] = await icmp.once(icmp.Config(target=target), env, count=count, interval=INTERVAL)
        found["others_lost"] = sum(t.collector.tally.lost for t in scheduler.tasks.values())  # type: ignore[union-attr]
        return found
    finally:
        hog.cancel()
        await scheduler.close()


async def _block(seconds: float) -> None:
    while seconds:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        await asyncio.sleep(0.1 - seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--crowd", action="store_true")
    parser.add_argument("--hog", action="store_true")
    options = parser.parse_args()
    found = asyncio.run(drive(options.target, options.count, _crowd() if options.crowd else [], 0.03 if options.hog else 0.0))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
