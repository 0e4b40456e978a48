"""Network namespaces, the wires between them, and the daemons that live in them.

Law: a lab owns what it makes and takes all of it away, also after a failure: names carry the pid, daemons are children that die with
us (PDEATHSIG) and are ended by their own process group. All traffic stays in the namespaces. Needs root.
"""

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

CLONE_NEWNET = 0x40000000
PREFIX = "rt"
_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


def until(condition: Callable[[], object], seconds: float, what: str, every: float = 0.1) -> None:
    """Waits for a condition; AssertionError with `what` when the time is over. `seconds` is a limit, never a measure."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(every)


class Daemon:
    """A child in a namespace. Its output is in `log`; the pid is the program's own (ip netns exec execs)."""

    def __init__(self, name: str, command: list[str], log: Path, env: dict[str, str] | None) -> None:
        self.name, self.log = name, log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env={**os.environ, **(env or {})}
            )
        self.pid = self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, seconds: float = 10.0) -> int:
        """SIGTERM, and SIGKILL for the whole group when that doesn't help; the exit code."""
        if self.alive:
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):  # what the program left behind, or itself
            os.killpg(self.pid, signal.SIGKILL)
        return self.process.wait()


class Namespace:
    """A machine of the lab."""

    def __init__(self, lab: "Lab", name: str) -> None:
        self.lab, self.name, self.full = lab, name, f"{PREFIX}-{os.getpid()}-{lab.number}-{name}"

    def run(self, *command: str, check: bool = True, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end in this machine."""
        full = ["ip", "netns", "exec", self.full, *command]
        return subprocess.run(full, capture_output=True, text=True, check=check, timeout=timeout)

    def ip(self, *arguments: str) -> None:
        subprocess.run(["ip", "-n", self.full, *arguments], check=True, capture_output=True, text=True)

    def start(self, name: str, *command: str, env: dict[str, str] | None = None) -> Daemon:
        """Starts a daemon that must stay in the foreground. Its log is `<lab directory>/<name>.log`."""
        full = ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.full, *command]
        daemon = Daemon(name, full, self.lab.directory / f"{name}.log", env)
        self.lab.daemons.append(daemon)
        return daemon

    def sysctl(self, **values: str) -> None:
        """`net__ipv4__ip_forward="1"`: two underscores stand for the dot."""
        self.run("sysctl", "-qw", *(f"{k.replace('__', '.')}={v}" for k, v in values.items()))

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Moves the calling thread into the namespace; sockets made inside stay there for good."""
        with Path(f"/proc/self/task/{threading.get_native_id()}/ns/net").open() as home:
            with Path(f"/run/netns/{self.full}").open() as there:
                _setns(there.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def get(self, url: str, timeout: float = 5.0, accept: str = "*/*") -> str | None:
        """The body of an HTTP resource as seen from this machine; None: no answer, or not 2xx."""
        request = urllib.request.Request(url, headers={"Accept": accept})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with self.entered(), opener.open(request, timeout=timeout) as answer:
                return bytes(answer.read()).decode()
        except urllib.error.HTTPError as e:
            e.close()
            return None
        except OSError:
            return None


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Lab:
    """Namespaces with names of their own, so that runs side by side don't collide."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.number = directory, next(_numbers)
        self.daemons: list[Daemon] = []
        self._namespaces: list[Namespace] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def namespace(self, name: str, resolver: str = "", ipv6: bool = False) -> Namespace:
        """A new machine with its loopback up. `resolver` is what its /etc/resolv.conf says."""
        made = Namespace(self, name)
        etc = Path("/etc/netns") / made.full
        etc.mkdir(parents=True, exist_ok=True)  # ip netns exec lays these over /etc
        (etc / "resolv.conf").write_text(f"nameserver {resolver}\noptions timeout:1 attempts:1\n" if resolver else "")
        self._namespaces.append(made)
        subprocess.run(["ip", "netns", "add", made.full], check=True, capture_output=True, text=True)
        made.ip("link", "set", "lo", "up")
        made.sysctl(
            net__ipv6__conf__all__disable_ipv6="0" if ipv6 else "1",
            net__ipv4__ping_group_range="0 2147483647",
            net__ipv4__icmp_ratelimit="0",
            net__ipv4__icmp_msgs_per_sec="1000000",
            net__ipv4__conf__all__rp_filter="0",
        )
        return made

    def link(self, a: Namespace, a_name: str, a_address: str, b: Namespace, b_name: str, b_address: str) -> None:
        """A wire between two machines; addresses are like 10.77.1.2/24."""
        a.ip("link", "add", a_name, "type", "veth", "peer", "name", b_name, "netns", b.full)
        for ns, name, address in ((a, a_name, a_address), (b, b_name, b_address)):
            ns.ip("address", "add", address, "dev", name)
            ns.ip("link", "set", name, "up")

    def close(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.stop()
        for made in self._namespaces:
            subprocess.run(["ip", "netns", "del", made.full], check=False, capture_output=True)
            shutil.rmtree(Path("/etc/netns") / made.full, ignore_errors=True)
        self.daemons, self._namespaces = [], []


def sweep() -> None:
    """Takes away the namespaces of runs that were killed: their pid is in the name, and no longer lives."""
    for root in (Path("/run/netns"), Path("/etc/netns")):
        for path in root.glob(f"{PREFIX}-*-*-*"):
            pid = path.name.split("-")[1]
            if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
                subprocess.run(["ip", "netns", "del", path.name], check=False, capture_output=True)
                shutil.rmtree(Path("/etc/netns") / path.name, ignore_errors=True)
