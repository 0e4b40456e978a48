"""What this process costs, under the names that every client library of Prometheus gives: process_*, from proc/self.

Law: read when it is asked for, a few files; what can't be read is left out. prometheus-client tells the same for 2.9 MiB of memory, since
it brings two HTTP servers along; in the tests it is held against this.
"""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from agent.model import Metric, Sample

VIRTUAL = Metric("process_virtual_memory_bytes", "Virtual memory size in bytes.")
RESIDENT = Metric("process_resident_memory_bytes", "Resident memory size in bytes.")
STARTED = Metric("process_start_time_seconds", "Start time of the process since unix epoch in seconds.")
CPU = Metric("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", "counter")
OPEN = Metric("process_open_fds", "Number of open file descriptors.")
MOST = Metric("process_max_fds", "Maximum number of open file descriptors.")
METRICS = (VIRTUAL, RESIDENT, STARTED, CPU, OPEN, MOST)

SELF = Path("/proc/self")
TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


def samples() -> Iterator[Sample]:
    try:
        fields = (SELF / "stat").read_text().rpartition(")")[2].split()  # from the third on: the name may hold anything (proc(5))
        booted = next(line for line in (SELF.parent / "stat").read_text().splitlines() if line.startswith("btime "))
    except (OSError, StopIteration):
        return
    yield VIRTUAL(float(fields[20]))
    yield RESIDENT(float(fields[21]) * PAGE)
    yield STARTED(float(booted.split()[1]) + float(fields[19]) / TICKS)
    yield CPU((float(fields[11]) + float(fields[12])) / TICKS)
    yield OPEN(float(len(os.listdir(SELF / "fd"))))  # noqa: PTH208  (names alone)
    yield MOST(float(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
