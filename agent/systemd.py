"""Words to systemd (sd_notify(3)): ready, reloading, alive, stopping. Without NOTIFY_SOCKET nothing is said.

Law: telling never blocks and never fails the agent.
"""

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Sends to the socket that systemd named; `watchdog` is the seconds within which it wants to hear, or 0."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        mine = not pid or pid == str(os.getpid())
        self.watchdog = int(usec) / 1e6 if usec.isdecimal() and mine and self._address else 0.0
        self.failures = 0

    def tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as s:
                s.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            self.failures += 1

    def ready(self, status: str = "") -> None:
        self.tell("READY=1", *([f"STATUS={status}"] if status else []))

    def reloading(self) -> None:
        # Type=notify-reload wants the monotonic time along (sd_notify(3)), or it takes an old READY for the new one
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def alive(self) -> None:
        self.tell("WATCHDOG=1")

    def stopping(self) -> None:
        self.tell("STOPPING=1")
