"""A receiver of remote write that does as it is told: takes samples, refuses, hangs, lies; and the real ones, started on loopback.

Law: it speaks on a real socket, so that the client under test is whole; its clock is an argument.
"""

import asyncio
import contextlib
import dataclasses
import json
import math
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import cramjam

from agent.wire import remote_write


@dataclasses.dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def series(self) -> list[tuple[dict[str, str], list[tuple[int, float]]]]:
        found = remote_write.parse(bytes(cramjam.snappy.decompress_raw(self.body)))
        return [(dict(labels), points) for labels, points in found]

    @property
    def samples(self) -> list[tuple[str, int, float]]:
        """(name{task}, ms, value), flat."""
        return [(f"{labels['__name__']}{{{labels.get('task', '')}}}", at, v) for labels, points in self.series for at, v in points]


def answer(status: int = 204, body: bytes = b"", **headers: str) -> bytes:
    """An answer's bytes, without a Date: the receiver adds it."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


Answer = Callable[[Asked], bytes | None]


class Receiver:
    """`asked` has every request, `accepted` those POSTs that got a 2xx. `does` gives the answer to a POST; None: it hangs up."""

    def __init__(self, now: Callable[[], float], does: Answer = lambda _: answer()) -> None:
        self.now, self.does = now, does
        self.asked: list[Asked] = []
        self.accepted: list[Asked] = []
        self.connections = 0
        self.date = True
        self.port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def samples(self) -> list[tuple[str, int, float]]:
        return [s for asked in self.accepted for s in asked.samples]

    @contextlib.asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._server.close()
            self.hang_up()
            await asyncio.sleep(0.01)

    def hang_up(self) -> None:
        """Closes every connection, as a receiver that restarts."""
        for writer in list(self._open):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        asked = Asked(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))
        self.asked.append(asked)
        says = answer(405) if method == "HEAD" else self.does(asked)
        if says is None:
            return False
        if method == "POST" and says.startswith(b"HTTP/1.1 20"):
            self.accepted.append(asked)
        if self.date and says.startswith(b"HTTP/"):
            date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(math.floor(self.now())))
            says = says.replace(b"\r\n", f"\r\nDate: {date}\r\n".encode(), 1)
        writer.write(says)
        await writer.drain()
        return True


# -- the real ones ------------------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Store:
    """A real store that takes remote writes and answers PromQL."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.port, self._command, self._log = port, command, log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        for _ in range(600):
            assert self._process.poll() is None, self._log.read_text()
            try:
                self.get("/-/ready" if "prometheus" in self._command[0] else "/health")
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(self._log.read_text())

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=10) as reply:
            return reply.read()

    def query(self, promql: str, at: float | None = None) -> list[dict]:
        query = urllib.parse.urlencode({"query": promql, **({} if at is None else {"time": f"{at:.3f}"})})
        return json.loads(self.get(f"/api/v1/query?{query}"))["data"]["result"]

    def values(self, selector: str, window: str, at: float) -> list[list[tuple[float, float]]]:
        """The raw samples of each series in the window before `at`."""
        return [[(float(t), float(v)) for t, v in r["values"]] for r in self.query(f"{selector}[{window}]", at)]


@contextlib.contextmanager
def prometheus(directory: Path, out_of_order: str = "7d") -> Iterator[Store]:
    """Debian's Prometheus as a receiver."""
    port = free_port()
    file = directory / "prometheus.yml"
    window = f"storage: {{tsdb: {{out_of_order_time_window: {out_of_order}}}}}\n" if out_of_order else ""
    file.write_text(f"global: {{scrape_interval: 1m}}\n{window}")
    command = [
        shutil.which("prometheus") or "prometheus", f"--config.file={file}", f"--storage.tsdb.path={directory}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver",
    ]  # fmt: skip
    yield from _running(Store(command, port, directory / "prometheus.log"))


@contextlib.contextmanager
def victoria_metrics(directory: Path) -> Iterator[Store]:
    port = free_port()
    command = [
        shutil.which("victoria-metrics") or "victoria-metrics", f"-storageDataPath={directory}/vm", f"-httpListenAddr=127.0.0.1:{port}",
        "-search.latencyOffset=0s", "-retentionPeriod=10y",
    ]  # fmt: skip
    yield from _running(Store(command, port, directory / "vm.log"))


def _running(store: Store) -> Iterator[Store]:
    store.start()
    try:
        yield store
    finally:
        store.stop()
