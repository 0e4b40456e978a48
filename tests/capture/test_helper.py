"""The privileged helper as it is started: what it answers, what it gives away, and what those who have it can and can't do then."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.capture.filter import PROGRAMS
from tests.capture.eyes import Wire, asked, drained, handed, raw, wait_for
from tests.lab.netns import Lab, Namespace

ROOT = Path(__file__).parents[2]
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs")
ARP_FRAME = bytes.fromhex("ffffffffffff 020000000099 0806 0001 0800 06 04 0001 020000000099 c0000201 000000000000 c000020a")


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    with Lab(tmp_path_factory.mktemp("helper")) as lab:
        yield Wire(lab)


def test_the_helper_imports_nothing_heavy() -> None:
    code = "import sys; before = set(sys.modules); import agent.capture.__main__; print(*sorted(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-I", "-c", code], cwd="/", capture_output=True, text=True, check=True)
    ours = {m for m in run.stdout.split() if m.startswith("agent")}
    assert ours == {"agent", "agent.capture", "agent.capture.__main__", "agent.capture.filter"}
    assert {"asyncio", "ctypes", "json", "logging", "subprocess", "ssl", "urllib"} & set(run.stdout.split()) == set()


@pytest.mark.lab
def test_it_gives_three_sockets_that_are_bound_filtered_and_locked(wire: Wire) -> None:
    with handed(wire.box) as sockets:
        assert list(sockets) == ["lan", "contacts", "count"]
        for s in sockets.values():
            assert (s.family, s.type & 0xF, s.getsockname()[0]) == (socket.AF_PACKET, socket.SOCK_RAW, "eth0")
            assert s.getsockopt(socket.SOL_SOCKET, 44) == 1  # SO_LOCK_FILTER
            assert s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 1 << 19


@pytest.mark.lab
@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"eth9\n", "eth9: No such device"),
        (b"lo\n", "lo is no Ethernet or Wi-Fi device"),
        (b"off0\n", "off0 is down"),
        (b"\n", "that is no device's name"),
        (b"../eth0\n", "that is no device's name"),
        (b"eth0\0\n", "that is no device's name"),
        (b"\xff\xfe\n", "that is no device's name"),
        (b"eth0", "the request is no line with a device's name"),
        (b"", "the request is no line with a device's name"),
        (b"e" * 100_000, "the request is no line with a device's name"),
    ],
)
def test_what_is_no_request_for_a_network_device_gets_the_reason(wire: Wire, line: bytes, why: str) -> None:
    if line == b"off0\n":
        wire.box.ip("link", "add", "off0", "type", "veth", "peer", "name", "off1")
    assert asked(wire.box, line) == (f"no: {why}\n", [])


@pytest.mark.lab
def test_without_the_capability_it_says_so(wire: Wire) -> None:
    assert asked(wire.box, b"eth0\n", prefix=NOBODY) == ("no: the helper has no CAP_NET_RAW\n", [])


@pytest.mark.lab
def test_who_says_nothing_is_not_waited_for(wire: Wire) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen([sys.executable, "-I", "-m", "agent.capture"], stdin=theirs, cwd="/")
        assert child.wait(30) == 0


THIEF = """
import array, os, socket, struct, sys
assert os.geteuid() == 65534
def tried(what):
    try:
        what()
    except OSError as e:
        return type(e).__name__
    return "done"
all_ = array.array("B", struct.pack("=HBBI", 6, 0, 0, 0xffffffff))
program = struct.pack("HP", 1, all_.buffer_info()[0])
s = socket.socket(fileno=int(sys.argv[1]))
print(tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)))
print(tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)))
print(tried(lambda: s.setsockopt(socket.SOL_SOCKET, 26, program)))  # SO_ATTACH_FILTER
print(tried(lambda: s.setsockopt(socket.SOL_SOCKET, 27, 0)))        # SO_DETACH_FILTER
print(tried(lambda: s.setsockopt(socket.SOL_SOCKET, 44, 0)))        # SO_LOCK_FILTER
print(len(s.recv(2048)))
"""


@pytest.mark.lab
def test_an_ordinary_user_reads_what_it_was_handed_and_can_open_or_widen_nothing(wire: Wire) -> None:
    with handed(wire.box) as sockets, raw(wire.peer) as end:
        end.send(ARP_FRAME)
        lan = sockets["lan"]
        with wire.box.entered():
            command = [*NOBODY, sys.executable, "-I", "-c", THIEF, str(lan.fileno())]
            run = subprocess.run(command, pass_fds=[lan.fileno()], cwd="/", capture_output=True, text=True)
    assert run.stdout.split() == [*["PermissionError"] * 5, str(len(ARP_FRAME))], run.stderr


@pytest.mark.lab
def test_not_even_root_widens_a_filter_that_is_locked(wire: Wire) -> None:
    with handed(wire.box) as sockets, raw(wire.peer) as end:
        for s in sockets.values():
            with pytest.raises(PermissionError):
                s.setsockopt(socket.SOL_SOCKET, 27, 0)
        sockets["contacts"].bind(("eth0", 3))  # binding anew is allowed, and brings no more
        end.send(ARP_FRAME)
        assert drained(sockets["lan"], 10.0)
        assert drained(sockets["contacts"]) == []


# -- the listener for boxes without systemd -----------------------------------------------------------------------------------


def listening(ns: Namespace, path: Path, *options: str) -> int:
    daemon = ns.start("capture", sys.executable, "-m", "agent", "capture", "--listen", str(path), *options)
    wait_for(path)
    return daemon.pid


def ask(path: Path) -> tuple[bytes, int]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(30)
        s.connect(str(path))
        s.sendall(b"eth0\n")
        text, fds, _, _ = socket.recv_fds(s, 256, 8)
    for fd in fds:
        os.close(fd)
    return text, len(fds)


def status(pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


@pytest.mark.lab
def test_the_listener_keeps_one_capability_and_serves_again_and_again(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "capture.sock"
    tmp_path.chmod(0o755)
    path.write_text("left by an earlier life")
    path.unlink()
    pid = listening(wire.box, path, "--group", "nogroup", "--user", "nobody")
    for _ in range(3):
        assert ask(path) == (b"ok\n", len(PROGRAMS))
    held = status(pid)
    assert held["Uid"].split() == ["65534"] * 4
    assert held["Groups"].split() == []
    assert {held[f"Cap{which}"] for which in ("Eff", "Prm", "Bnd")} == {f"{1 << 13:016x}"}
    assert int(held["CapInh"], 16) == int(held["CapAmb"], 16) == 0
    assert held["NoNewPrivs"] == "1"
    assert (path.stat().st_mode & 0o777, path.stat().st_gid) == (0o660, 65534)


@pytest.mark.lab
def test_a_client_that_stalls_holds_the_next_one_up_for_seconds_only(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "capture.sock"
    listening(wire.box, path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stalls:
        stalls.connect(str(path))
        assert ask(path) == (b"ok\n", len(PROGRAMS))


@pytest.mark.lab
def test_the_listener_takes_the_place_of_one_that_was_killed(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "capture.sock"
    os.kill(listening(wire.box, path), signal.SIGKILL)
    time.sleep(0.1)
    before = path.stat().st_ino
    daemon = wire.box.start("again", sys.executable, "-m", "agent", "capture", "--listen", str(path))
    end = time.monotonic() + 30
    while path.exists() and path.stat().st_ino == before and time.monotonic() < end:
        time.sleep(0.05)
    wait_for(path)
    assert daemon.alive
    assert ask(path) == (b"ok\n", len(PROGRAMS))


def test_the_command_says_what_it_needs() -> None:
    run = subprocess.run([sys.executable, "-m", "agent", "capture"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert "--listen" in run.stderr


@pytest.mark.needs("systemd-socket-activate")
@pytest.mark.lab
def test_systemds_way_of_starting_it(wire: Wire, tmp_path: Path) -> None:
    """Accept=yes with StandardInput=socket, by systemd's own tool for trying that out."""
    path = tmp_path / "capture.sock"
    wire.box.start(
        "activate", "systemd-socket-activate", "--accept", "--inetd", "-l", str(path), sys.executable, "-I", "-m", "agent.capture"
    )
    wait_for(path)
    assert ask(path) == (b"ok\n", len(PROGRAMS))
    assert ask(path) == (b"ok\n", len(PROGRAMS))
