"""`python -m tests.lab.delayline`: a wire of known delay between two network namespaces, made of two TUN devices.

A packet that enters one end leaves the other end half the round-trip delay later, plus up to half the jitter; some are dropped or
doubled where asked for. SIGUSR1 drops everything until the next SIGUSR1. There is no netem in every kernel; this needs only TUN.

The line's own lateness is not in anyone's figures: the truth of a round-trip time is taken on the wire (tests/bench/truth.py).
"""

import argparse
import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import signal
import struct
import subprocess
import time
from pathlib import Path

from tests.lab.netns import CLONE_NEWNET, Daemon, Lab, Namespace, until

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
SPIN = 150_000  # ns before a packet is due, from which on we no longer sleep
ROOT = Path(__file__).parents[2]


def start(lab: Lab, a: Namespace, b: Namespace, net: str, *options: str, python: str) -> Daemon:
    """A line from `a` (NET.1) to `b` (NET.2), as device `dl0` in both; returns when it carries packets."""
    command = [python, "-m", "tests.lab.delayline", "--a", a.full, "--b", b.full, "--net", net, *options]
    daemon = Daemon("delayline", ["setpriv", "--pdeathsig", "KILL", *command], lab.directory / "delayline.log", {"PYTHONPATH": str(ROOT)})
    lab.daemons.append(daemon)
    ready = ["ping", "-c", "1", "-W", "5", f"{net}.2"]
    until(lambda: "up" in daemon.output() and a.run(*ready, check=False).returncode == 0, 20, f"the delay line is up\n{daemon.output()}")
    return daemon


def open_end(namespace: str, device: str, address: str) -> int:
    """A TUN device in a namespace, up and addressed; its file descriptor. The calling process stays in that namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{namespace}").open() as there:
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    for command in (["address", "add", address, "dev", device], ["link", "set", device, "up", "txqueuelen", "2000"]):
        subprocess.run(["ip", *command], check=True)
    return end


class Line:
    """Packets under way between two file descriptors, in order of when they are due."""

    def __init__(self, ends: tuple[int, int], options: argparse.Namespace) -> None:
        self.ends, self.options = ends, options
        self.half, self.jitter = int(options.delay_ms * 5e5), int(options.jitter_ms * 5e5)
        self.queue: list[tuple[int, int, int, bytes]] = []
        self.count = 0
        self.cut = False

    def take(self, side: int) -> None:
        """Reads all that has come in at one end."""
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = os.read(self.ends[side], 65536)
                if self.cut or random.random() * 100 < self.options.loss_pct:
                    continue
                copies = 2 if random.random() * 100 < self.options.double_pct else 1
                for _ in range(copies):
                    self.count += 1
                    due = time.monotonic_ns() + self.half + int(random.random() * self.jitter)
                    heapq.heappush(self.queue, (due, self.count, 1 - side, packet))

    def give(self) -> None:
        """Writes all that is due."""
        while self.queue and self.queue[0][0] <= time.monotonic_ns():
            _, _, side, packet = heapq.heappop(self.queue)
            with contextlib.suppress(OSError):  # a full queue or a device that is down: lost, as on a wire
                os.write(self.ends[side], packet)

    def wait(self) -> None:
        """Sleeps until something comes in or is nearly due; the rest is spun, for exactness."""
        left = self.queue[0][0] - time.monotonic_ns() if self.queue else 1_000_000_000
        select.select(self.ends, [], [], max(0, left - SPIN) / 1e9)

    def toggle(self, *_: object) -> None:
        self.cut = not self.cut


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("a", "b", "net"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("delay-ms", "jitter-ms", "loss-pct", "double-pct"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    options = parser.parse_args()
    line = Line((open_end(options.a, "dl0", f"{options.net}.1/24"), open_end(options.b, "dl0", f"{options.net}.2/24")), options)
    signal.signal(signal.SIGUSR1, line.toggle)
    with contextlib.suppress(PermissionError):  # stay exact when the processors are busy
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    print("up", flush=True)
    while True:
        line.give()
        line.wait()
        line.take(0)
        line.take(1)


if __name__ == "__main__":
    main()
