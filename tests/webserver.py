"""Real web servers for tests: an nginx of Debian with the servers one asks for, a squid, and servers that say exactly given bytes."""

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different ones, free in both families: asked for one after the other, the kernel may give one twice."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket(socket.AF_INET6)) for _ in range(count)]
        for s in sockets:
            s.bind(("::", 0))
        return [int(s.getsockname()[1]) for s in sockets]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def nginx(folder: Path, servers: str, port: int) -> Iterator[None]:
    """Runs nginx with these `server` blocks; waits until `port` answers."""
    conf = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    temps = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf.write_text(
        f"{user} daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log notice;\n"
        f"events {{}}\nhttp {{ access_log {folder}/access.log; {temps} ssl_protocols TLSv1.2 TLSv1.3;\n{servers}\n}}\n"
    )
    with _running(["nginx", "-p", str(folder), "-c", str(conf), "-e", str(folder / "error.log")], port, folder / "error.log"):
        yield


@contextlib.contextmanager
def squid(hosts: str, port: int, more: str = "http_access allow all") -> Iterator[None]:
    """Runs squid as a proxy without a cache. `hosts` is its hosts file, `more` says who may use it."""
    with tempfile.TemporaryDirectory(prefix="squid-") as name:
        folder = Path(name)
        (folder / "hosts").write_text(hosts)
        if os.geteuid() == 0:  # squid refuses to be root
            shutil.chown(folder, "proxy")
        conf = folder / "squid.conf"
        conf.write_text(
            f"http_port 127.0.0.1:{port}\npid_filename {folder}/squid.pid\ncache_log {folder}/cache.log\naccess_log none\n"
            f"cache deny all\ncache_mem 1 MB\nshutdown_lifetime 0 seconds\nvisible_hostname proxy.test\npinger_enable off\n"
            f"hosts_file {folder}/hosts\ncoredump_dir {folder}\nmax_filedescriptors 256\n{more}\n"
        )
        with _running(["squid", "-N", "-n", f"ronda{port}", "-f", str(conf)], port, folder / "cache.log"):
            yield


@contextlib.contextmanager
def _running(command: list[str], port: int, log: Path) -> Iterator[None]:
    program = shutil.which(command[0])
    assert program, f"{command[0]} is not installed"
    process = subprocess.Popen([program, *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1000):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, log.read_text() if log.exists() else "it ended"
            time.sleep(0.01)
        else:
            raise AssertionError(f"{command[0]} does not listen: {log.read_text()}")
        yield
    finally:
        process.terminate()  # not kill: squid would leave its shared memory behind
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def serving(handler: Handler, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A server on a free port; yields the port. Handlers that still run at the end are ended."""
    tasks: set[asyncio.Task[Any]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
                await handler(reader, writer)
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(run, host, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def saying(*parts: bytes, heard: list[bytes] | None = None) -> Handler:
    """A handler that reads one request's head, sends the parts and closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heard is not None:
            heard.append(head)
        for part in parts:
            writer.write(part)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    return handle
