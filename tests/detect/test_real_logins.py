"""A real sshd, with a real brute force and a real success after it; and beside it what only looks alike.

Law: tests/lab/logins.sh does it in namespaces, with accounts of its own; here its log is read as the agent reads it.
"""

import subprocess
import time
from pathlib import Path

import pytest

from agent.detect import lines
from agent.detect.logins import HOLD, BruteForce
from agent.detect.model import Finding

SCRIPT = Path(__file__).parents[1] / "lab/logins.sh"


def told(here: Path, what: str) -> tuple[BruteForce, list[Finding]]:
    run = subprocess.run([str(SCRIPT), str(here), what], capture_output=True, text=True, check=False, timeout=100)
    assert run.returncode == 0, run.stderr
    detector, said, at = BruteForce(), [], 0.0
    for line in (here / "auth.log").read_bytes().splitlines():
        moment, login = lines.moment(line, time.time()), lines.parse(line)
        assert moment is not None, line
        at = max(at, moment)
        said += [*detector.tick(at), *(detector.see(login, at) if login else ())]
    said += detector.tick(at + HOLD)
    return detector, [s for s in said if isinstance(s, Finding)]


@pytest.mark.lab
@pytest.mark.needs("sshd", "sshpass", "rsyslogd", "unshare", "openssl")
def test_a_brute_force_that_succeeds(tmp_path: Path) -> None:
    detector, said = told(tmp_path, "attack")
    assert detector.failures["sshd"] == 8  # each once, though up to five lines tell of it
    assert [f.grade for f in said] == ["medium", "medium", "medium", "critical"]
    assert {(f.key, f.source, f.fields["source.ip"]) for f in said} == {("127.0.0.1", "127.0.0.1", "127.0.0.1")}
    assert said[-1].fields["user.name"] == "tamu"


@pytest.mark.lab
@pytest.mark.needs("sshd", "sshpass", "rsyslogd", "unshare", "openssl")
def test_keys_that_dont_fit_monitors_scanners_of_keys_and_a_slip_of_the_hand(tmp_path: Path) -> None:
    detector, said = told(tmp_path, "innocent")
    assert said == []
    assert detector.failures["sshd"] == 2
    assert b"Accepted password for tamu" in (tmp_path / "auth.log").read_bytes()
