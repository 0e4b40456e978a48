"""Tripwires on real ports: what is told, that nothing is said, and that nobody can hold or fill them."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.capture.tripwires import MOST_BYTES, MOST_OPEN, Tripwires, inherited, listener
from agent.detect.seen import Tripwire
from tests.capture.test_reader import until

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with listener(0) as s:
        return int(s.getsockname()[1])


@contextlib.asynccontextmanager
async def watching(told: list[Tripwire], lasting: float = 30.0) -> AsyncIterator[int]:
    port = free_port()
    wires = Tripwires([port], told.append, {}, lasting)
    assert (wires.ports, wires.problems) == ([port], [])
    task = asyncio.create_task(wires.run())
    try:
        yield port
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port))


def test_who_connects_is_told_with_what_it_sent_and_gets_nothing() -> None:
    async def run() -> None:
        told: list[Tripwire] = []
        async with watching(told) as port:
            for host, what in (("127.0.0.1", b""), ("127.0.0.1", b"root\r\n"), ("::1", b"GET / HTTP/1.0\r\n\r\n")):
                if host == "::1" and not socket.has_dualstack_ipv6():
                    continue
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(what)
                writer.write_eof()
                assert await reader.read() == b""
                await until(lambda: told, f"{what!r} from {host} is told")
                assert told.pop() == Tripwire(host, port, len(what))
                writer.close()

    asyncio.run(run())


def test_more_than_a_little_is_not_read() -> None:
    async def run() -> None:
        told: list[Tripwire] = []
        async with watching(told) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"x" * 100_000)
            await until(lambda: told, "it is told")
            writer.close()
        assert told == [Tripwire("127.0.0.1", port, MOST_BYTES)]

    asyncio.run(run())


def test_who_stays_and_is_silent_is_shown_out() -> None:
    async def run() -> None:
        told: list[Tripwire] = []
        async with watching(told, lasting=0.1) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            assert told == [Tripwire("127.0.0.1", port, 0)]
            writer.close()

    asyncio.run(run())


def test_a_crowd_can_neither_fill_the_box_nor_end_the_watch() -> None:
    async def run() -> None:
        told: list[Tripwire] = []
        async with watching(told, lasting=0.2) as port:
            before = len(list(Path("/proc/self/fd").iterdir()))
            crowd = []
            for _ in range(3 * MOST_OPEN):
                s = socket.socket()
                s.setblocking(False)
                s.connect_ex(("127.0.0.1", port))
                crowd.append(s)
            most = 0
            for _ in range(100):
                await asyncio.sleep(0.02)
                most = max(most, len(list(Path("/proc/self/fd").iterdir())) - before - len(crowd))
            assert 0 < most <= MOST_OPEN
            for s in crowd:
                s.close()
            told.clear()
            await until(lambda: told, "it goes on", seconds=10)

    asyncio.run(run())


def test_a_port_that_is_taken_or_forbidden_is_said_and_the_others_are_guarded() -> None:
    with listener(0) as taken:
        port, other = taken.getsockname()[1], free_port()
        wires = Tripwires([port, other], print, {})
        assert wires.ports == [other]
        assert wires.problems == [f"tripwire on port {port}: another program has it"]
        wires.close()


def test_an_ordinary_user_is_told_what_to_do_for_port_23() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    code = "from agent.capture.tripwires import Tripwires; print(*Tripwires([23], print, {}).problems)"
    command = ["setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", sys.executable, "-I", "-c", code]
    run = subprocess.run(command, cwd="/", capture_output=True, text=True)
    low = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if low <= 23:
        pytest.skip(f"net.ipv4.ip_unprivileged_port_start is {low} here")
    assert "not allowed; use config/systemd/ronda-tripwire.socket" in run.stdout, run.stderr


def test_what_systemd_hands_over_is_guarded_also_after_a_reload() -> None:
    code = """
import asyncio, os, sys
from agent.capture.tripwires import Tripwires
os.environ["LISTEN_PID"] = str(os.getpid())
async def run():
    for _ in range(2):
        told = []
        wires = Tripwires([], told.append)
        task = asyncio.create_task(wires.run())
        print(*wires.ports, flush=True)
        while not told:
            await asyncio.sleep(0.01)
        print(told[0].sent, flush=True)
        task.cancel()
        await asyncio.wait([task])
asyncio.run(run())
"""
    with listener(0) as handed:
        port = handed.getsockname()[1]
        environ = {**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "tripwire"}
        move = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.executable, [sys.executable, '-c', sys.argv[2]])"
        command = [sys.executable, "-c", move, str(handed.fileno()), code]
        child = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, pass_fds=[handed.fileno()])
        assert child.stdout
        for sent in (3, 5):
            assert child.stdout.readline() == f"{port}\n"
            with socket.create_connection(("127.0.0.1", port)) as s:
                s.sendall(b"x" * sent)
                s.shutdown(socket.SHUT_WR)
                assert child.stdout.readline() == f"{sent}\n"
        assert child.wait(30) == 0
        child.stdout.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "tripwire"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x", "LISTEN_FDNAMES": "tripwire"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"},
    ],
)
def test_what_is_not_ours_is_left_alone(environ: dict[str, str]) -> None:
    assert inherited(environ) == []
