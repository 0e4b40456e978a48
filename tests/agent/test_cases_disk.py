"""Cases on a disk that refuses: a data directory mounted read-only, evidence that may not be read. What is found is told all the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent import files

ROOT = Path(__file__).parents[2]
FOUND = """
import asyncio, sys
from pathlib import Path
from agent.cases import Cases
from agent.collector import Env
from agent.detect.model import Finding, Rule
from agent.detect.patrol import Patrol
from agent.detect.seen import Frame
from tests.fakes import FakeClock

RULE = Rule("arp_sweep", "L10", "1", "network")

async def work():
    clock = FakeClock()
    cases = Cases(Env(clock, None, Path("/"), Path(sys.argv[1]), code="DKC"), "lan", [RULE])
    patrol = Patrol([], cases.book)
    await cases.begin(patrol)
    for n in range(2):
        finding = Finding("arp_sweep", f"{n}", "high", "certain", "m", confirmed=True, frames=(Frame("", "", "in", b"x" * 60),))
        cases.book.take(finding, n + 1.0, clock.now())
        events = await cases.turn(patrol)
        lost = [s.value for s in cases.samples() if s.metric.name == "ronda_evidence_failures_total"]
        print(n, [event.severity for event in events], *lost)
    await cases.end(patrol)

asyncio.run(work())
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.lab
def test_on_a_disk_that_has_gone_read_only_findings_are_told_and_each_loss_is_counted(tmp_path: Path) -> None:
    """Modes mean nothing to root: it is really mounted so, in a mount namespace of its own."""
    mounted = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3" "$1"'
    done = run("unshare", "--mount", "sh", "-c", mounted, "sh", str(tmp_path), sys.executable, FOUND)
    assert done.stdout.splitlines() == ["0 ['critical'] 1", "1 ['critical'] 2"], done.stderr
    assert "evidence can't be kept" in done.stderr
    assert "what is learnt can't be kept" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.lab
def test_who_may_not_read_the_evidence_is_told_what_to_do_and_sees_no_traceback(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    assert run(sys.executable, "-c", FOUND, str(data)).returncode == 0
    (data / "journal").mkdir()
    for path in (*data.rglob("*"), data):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.chown(path, 65534, 65534)
    bare = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", sys.executable, "-m", "agent")  # root, to whom modes mean something
    for words in (("events",), ("events", "show", "DKC-1118-1806"), ("events", "hold"), ("events", "verify")):
        done = run(*bare, *words, "--data-dir", str(data))
        assert done.returncode == 2, (words, done.stdout, done.stderr)
        assert "root" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_file_gets_its_owner_before_its_name_and_one_that_cannot_is_none(tmp_path: Path) -> None:
    path, seen = tmp_path / "a", []
    files.replace(path, b"old", prepare=lambda new: seen.append((new.name, path.exists())))
    assert seen == [("a.new", False)]

    def refuse(new: Path) -> None:
        raise PermissionError(1, "not the owner", str(new))

    with pytest.raises(PermissionError):
        files.replace(path, b"new", prepare=refuse)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"old"
