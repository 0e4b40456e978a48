"""The systemd units: systemd itself finds no fault in them, they are shut as tight as is said, and what they forbid is not needed."""

import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.capture.eyes import HELPER, Wire, raw, wait_for
from tests.lab.netns import Lab

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "config/systemd").iterdir())
LIMITS = {"ronda.service": 2.1, "ronda-capture@.service": 1.6, "ronda-firewall.service": 1.6}  # systemd 252's "exposure", 0 (shut) to 10
needs_systemd = pytest.mark.needs("systemd-analyze")


def said(unit: str, key: str) -> list[str]:
    """The values that a unit gives a setting, in order; what stands in comments doesn't count."""
    text = (ROOT / "config/systemd" / unit).read_text()
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


@needs_systemd
def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    for unit in UNITS:
        (tmp_path / unit.name).write_text(re.sub(r"/opt/ronda/\.venv/bin/\w+", shutil.which("true") or "", unit.read_text()))
    command = ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", *map(str, sorted(tmp_path.iterdir()))]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("unit", LIMITS)
def test_how_far_a_unit_is_open(unit: str) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={LIMITS[unit] * 10:.0f}", "--no-pager"]
    run = subprocess.run([*command, str(ROOT / "config/systemd" / unit)], capture_output=True, text=True)
    score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", run.stdout)
    assert score, run.stdout + run.stderr
    print(f"{unit}: {score[1]} of 10, limit {LIMITS[unit]}")
    assert run.returncode == 0, run.stdout


def test_every_service_has_its_limit() -> None:
    assert {unit.name for unit in UNITS if unit.suffix == ".service"} == set(LIMITS)


def test_who_parses_has_no_capability_and_who_has_one_parses_nothing() -> None:
    assert said("ronda.service", "CapabilityBoundingSet") == said("ronda.service", "AmbientCapabilities") == [""]
    assert (
        said("ronda-capture@.service", "CapabilityBoundingSet") == said("ronda-capture@.service", "AmbientCapabilities") == ["CAP_NET_RAW"]
    )
    assert said("ronda-capture@.service", "ExecStart") == ["/opt/ronda/.venv/bin/python -I -m agent.capture"]
    assert "AF_PACKET" not in said("ronda.service", "RestrictAddressFamilies")[0]
    for unit in LIMITS:
        assert said(unit, "NoNewPrivileges") == ["yes"]
        assert "root" not in said(unit, "User")


def test_the_sockets_are_for_the_agents_group_only() -> None:
    unit = "ronda-capture.socket"
    assert [said(unit, key)[0] for key in ("SocketMode", "SocketUser", "SocketGroup", "Accept")] == ["0660", "root", "ronda", "yes"]
    assert "ronda" in (ROOT / "config/sysusers.d/ronda.conf").read_text().split()


# -- what is forbidden is not needed ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    with Lab(tmp_path_factory.mktemp("units")) as lab:
        yield Wire(lab)


SOCKET = {"x86_64": 41, "aarch64": 198, "armv7l": 281}  # the system call's number
SHUT = """
import array, asyncio, ctypes, errno, os, socket, struct, sys
from pathlib import Path
from agent.capture.filter import assemble, give, is_, word
from agent.capture.reader import ask
libc = ctypes.CDLL(None, use_errno=True)
# as RestrictAddressFamilies without AF_PACKET: socket(AF_PACKET, …) is refused
call, family, refuse, fine = int(sys.argv[2]), 17, give(0x50000 | errno.EPERM), give(0x7FFF0000)
shut = assemble([word(0), is_(call, "", "fine"), word(16), is_(family, "", "fine"), refuse, "fine", fine])
code = array.array("B", shut)
os.setgroups([])
os.setresuid(65534, 65534, 65534)
assert not libc.prctl(38, 1, 0, 0, 0) and not libc.prctl(22, 2, struct.pack("HP", len(code) // 8, code.buffer_info()[0]), 0, 0)
assert not libc.prctl(65, 1, 0, 0, 0) or ctypes.get_errno() == errno.EINVAL  # as MemoryDenyWriteExecute, since Linux 6.3
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
except PermissionError:
    print("refused", flush=True)
async def run():
    handed = await ask(Path(sys.argv[1]), "eth0")
    await asyncio.get_running_loop().sock_recv(handed.lan, 2048)
    print("read", flush=True)
asyncio.run(run())
"""


@pytest.mark.lab
@pytest.mark.skipif(platform.machine() not in SOCKET, reason=f"needs a machine of {', '.join(SOCKET)}")
def test_the_agent_reads_what_it_was_handed_where_it_could_open_nothing(wire: Wire) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are shut to others
        Path(folder).chmod(0o755)
        path = Path(folder) / "capture.sock"
        wire.box.start("capture", *HELPER, f"--listen={path}")
        wait_for(path)
        path.chmod(0o666)
        command = [sys.executable, "-c", SHUT, str(path), str(SOCKET[platform.machine()])]
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        _fed(wire, child)
    assert child.stdout
    assert child.stdout.read().split() == ["refused", "read"]
    child.stdout.close()


def _fed(wire: Wire, child: subprocess.Popen[str]) -> None:
    """ARP frames, until it has ended."""
    with raw(wire.peer) as end:
        while child.poll() is None:
            end.send(b"\xff" * 6 + b"\2\0\0\0\0\x99" + b"\x08\x06" + bytes(28))
            time.sleep(0.05)


MDWE = """
import ctypes, mmap, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    sys.exit(77)
os.execv(sys.executable, [sys.executable, "-c", '''
import mmap
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    print("shut")
import agent.app, agent.doctor, collectors, agent.timesync, bcrypt, cramjam, ssl, psutil, pysnmp.hlapi.v3arch.asyncio
agent.timesync.read(), bcrypt.hashpw(b"x", bcrypt.gensalt(4)), cramjam.snappy.compress_raw(b"x" * 99), ssl.create_default_context()
print("works")
'''])
"""


def test_the_agent_makes_no_memory_that_is_written_and_run() -> None:
    run = subprocess.run([sys.executable, "-c", MDWE], cwd=ROOT, capture_output=True, text=True)
    if run.returncode == 77:
        pytest.skip("needs Linux 6.3 (PR_SET_MDWE)")
    assert run.stdout.split() == ["shut", "works"], run.stderr
