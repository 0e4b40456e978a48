"""What a process costs: CPU seconds and memory as the kernel counts them.

Law: no wall time is a result here. The machine is shared and noisy, so CPU comes from /proc/PID/stat, memory from smaps_rollup, and a
figure is the median of several windows, beside a peer that was measured in the same windows.
"""

import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Cost:
    """One window of one process: CPU seconds a minute, MiB, threads."""

    cpu: float
    rss: float
    pss: float
    threads: int


def cpu_seconds(pid: int) -> float:
    """User and system time of the process so far, children that were waited for left out."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int) -> tuple[float, float]:
    """RSS and PSS in MiB. PSS shares what several processes of one program have in common."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return kib["Rss"] / 1024, kib["Pss"] / 1024


def windows(pids: Mapping[str, int], seconds: float, times: int, what: str) -> dict[str, list[Cost]]:
    """Measures all processes in the same `times` windows of `seconds`."""
    found: dict[str, list[Cost]] = {name: [] for name in pids}
    for n in range(times):
        start, before = time.monotonic(), {name: cpu_seconds(pid) for name, pid in pids.items()}
        wait(seconds, f"{what}: window {n + 1} of {times}")
        minutes = (time.monotonic() - start) / 60
        for name, pid in pids.items():
            rss, pss = memory(pid)
            threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
            found[name].append(Cost((cpu_seconds(pid) - before[name]) / minutes, rss, pss, threads))
    return found


def median(costs: Sequence[Cost]) -> Cost:
    """The median window, figure by figure."""
    return Cost(*(statistics.median(getattr(c, f.name) for c in costs) for f in dataclasses.fields(Cost)))


def wait(seconds: float, what: str) -> None:
    """Sleeps, and says so on a terminal."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        progress(f"{what}, {left:.0f} s")
        time.sleep(min(left, 1.0))
    progress("")


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
