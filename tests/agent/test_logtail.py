"""The login log followed: rotated by the real logrotate, cut short, gone, unreadable, flooded; the journal behind a cursor."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.detect import lines
from agent.logtail import MAX_BEHIND, MAX_LOOK, MAX_PART, Tail


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "var/log/auth.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"before\n")
    return path


def write(path: Path, *lines: str) -> None:
    with path.open("a") as f:
        f.write("".join(f"{line}\n" for line in lines))


def started(root: Path) -> Tail:
    tail = Tail(root, ("/nonexistent/journalctl",))
    assert tail.look() == []  # what was before the start has been
    return tail


def test_new_lines_once_and_halves_when_they_are_whole(tmp_path: Path, log: Path) -> None:
    tail = started(tmp_path)
    write(log, "one", "two")
    assert tail.look() == [b"one", b"two"]
    assert tail.look() == []
    with log.open("a") as f:
        f.write("thr")
    assert tail.look() == []
    write(log, "ee")
    assert tail.look() == [b"three"]
    assert (tail.why, tail.lost) == ("", 0)


@pytest.mark.needs("logrotate")
@pytest.mark.parametrize("how", ["create 0640", "copytruncate", "nocreate", "compress\nnodelaycompress\ncreate 0640"])
def test_logrotate_loses_no_line_and_repeats_none(tmp_path: Path, log: Path, how: str) -> None:
    config, state = tmp_path / "rotate.conf", tmp_path / "state"
    config.write_text(f'"{log}" {{\nrotate 3\nsu root root\n{how}\n}}\n' if os.geteuid() == 0 else f'"{log}" {{\nrotate 3\n{how}\n}}\n')
    config.chmod(0o644)
    log.parent.chmod(0o755)
    tail, read = started(tmp_path), []
    for n in range(4):
        write(log, f"{n} a", f"{n} b")
        if how != "copytruncate":  # there what was not read before the cut is gone, whoever follows it
            write(log, f"{n} c")
            read += tail.look() if n % 2 else []
        else:
            read += tail.look()
        subprocess.run(["logrotate", "--force", "--state", str(state), str(config)], check=True, capture_output=True)
        read += tail.look()
        write(log, f"{n} d")
        read += tail.look()
    letters = "abd" if how == "copytruncate" else "abcd"
    assert read == [f"{n} {letter}".encode() for n in range(4) for letter in letters]


def test_a_log_cut_short_is_read_from_its_new_beginning(tmp_path: Path, log: Path) -> None:
    tail = started(tmp_path)
    write(log, "one long line")
    tail.look()
    log.write_text("new\n")
    assert tail.look() == [b"new"]


def test_gone_is_said_and_what_comes_back_is_new(tmp_path: Path, log: Path) -> None:
    tail = started(tmp_path)
    log.unlink()
    assert (tail.look(), tail.why) == ([], "no_login_log")
    write(log, "first")
    assert (tail.look(), tail.why) == ([b"first"], "")


def test_no_log_at_all_then_one(tmp_path: Path) -> None:
    tail = started(tmp_path)
    assert tail.why == "no_login_log"
    (tmp_path / "var/log").mkdir(parents=True)
    write(tmp_path / "var/log/secure", "x")
    assert (tail.look(), tail.why) == ([b"x"], "")


def test_a_flood_and_a_line_of_megabytes_are_bounded_and_counted(tmp_path: Path, log: Path) -> None:
    tail = started(tmp_path)
    with log.open("ab") as f:
        f.write(b"x" * (2 * MAX_PART) + b"\nnext\n")
    assert tail.look()[-1:] == [b"next"]
    with log.open("ab") as f:
        f.write(b"y" * (MAX_LOOK + 10))
    assert tail.look() == []
    assert tail.lost >= MAX_LOOK
    with log.open("ab") as f:
        f.write(b"\nafter\n")
    assert tail.look() == [b"after"]
    with log.open("ab") as f:
        f.write(b"z\n" * MAX_BEHIND)
    lost = tail.lost
    assert 0 < len(tail.look()) <= MAX_LOOK // 2
    assert tail.lost - lost >= 2 * MAX_BEHIND - MAX_LOOK


# -- the journal ------------------------------------------------------------------------------------------------------------

# journalctl's own arguments and answers, of a list of lines that a test writes: a machine of tests need not run journald.
STAND_IN = """#!/bin/sh
echo "$@" >>{here}/calls
case "$*" in
*--after-cursor=gone*) echo "Failed to seek to cursor: Invalid argument" >&2; exit 1 ;;
*--after-cursor=*) n=$(echo "$*" | sed 's/.*after-cursor=\\([0-9]*\\).*/\\1/'); sed "1,${{n}}d" {here}/entries ;;
*--lines=1\\ *) tail -n 1 {here}/entries ;;
*) cat {here}/entries ;;
esac
"""


class FakeJournal:
    def __init__(self, root: Path) -> None:
        self.here = root / "stand-in"
        self.here.mkdir()
        self.n = 0
        (self.here / "entries").write_text("")
        self.program = self.here / "journalctl"
        self.program.write_text(STAND_IN.format(here=self.here))
        self.program.chmod(0o755)
        self.file = root / "var/log/journal/0123/system.journal"
        self.file.parent.mkdir(parents=True)
        self.file.write_text("")

    def add(self, *messages: str) -> None:
        with (self.here / "entries").open("a") as f:
            for message in messages:
                self.n += 1
                f.write(json.dumps({"__CURSOR": str(self.n), "MESSAGE": message}) + "\n")
        os.utime(self.file, ns=(self.n, self.n))

    def calls(self) -> Sequence[str]:
        return (self.here / "calls").read_text().splitlines()


def messages(lines: Sequence[bytes]) -> list[str]:
    return [json.loads(line)["MESSAGE"] for line in lines]


def test_the_journal_is_asked_only_when_it_has_changed(tmp_path: Path) -> None:
    journal = FakeJournal(tmp_path)
    journal.add("old")
    tail = Tail(tmp_path, (str(journal.program),))
    assert (tail.look(), tail.why) == ([], "")
    assert [tail.look() for _ in range(50)] == [[]] * 50
    assert len(journal.calls()) == 1
    journal.add("a", "b")
    assert messages(tail.look()) == ["a", "b"]
    assert tail.look() == []
    assert len(journal.calls()) == 2
    assert all("SYSLOG_FACILITY=4 SYSLOG_FACILITY=10" in call and "--output=json" in call for call in journal.calls())


def test_the_first_entry_ever_is_not_lost(tmp_path: Path) -> None:
    journal = FakeJournal(tmp_path)
    tail = Tail(tmp_path, (str(journal.program),))
    assert tail.look() == []
    journal.add("first")
    assert messages(tail.look()) == ["first"]


def test_a_cursor_that_is_gone_begins_anew_and_is_counted(tmp_path: Path) -> None:
    journal = FakeJournal(tmp_path)
    journal.add("a")
    tail = Tail(tmp_path, (str(journal.program),))
    tail.look()
    tail._journal._cursor = "gone"
    journal.add("b")
    assert tail.look() == []
    assert tail.lost == 1
    journal.add("c")
    assert messages(tail.look()) == ["c"]


def test_a_journal_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    journal = FakeJournal(tmp_path)
    journal.program.write_text("#!/bin/sh\necho 'No journal files were opened due to insufficient permissions.' >&2\nexit 0\n")
    tail = Tail(tmp_path, (str(journal.program),))
    assert (tail.look(), tail.why) == ([], "log_unreadable")


JOURNALD = "/lib/systemd/systemd-journald"
# In namespaces of its own: a journald with its own /run; it is written to, asked, stopped, started and asked again.
INSIDE = """
import socket, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from agent.detect import lines
from agent.detect import lines
from agent.logtail import Tail

def start():
    daemon = subprocess.Popen([sys.argv[2]], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            to.connect("/run/systemd/journal/dev-log")
            return daemon, to
        except OSError:
            time.sleep(0.05)
    raise SystemExit("journald did not start")

def look(n):
    found, deadline = [], time.monotonic() + 20
    while len(found) < n and time.monotonic() < deadline:
        found += [login for line in tail.look() if (login := lines.parse(line))]
        time.sleep(0.05)
    return [(x.user, x.source) for x in found]

daemon, to = start()
to.send(b"<86>sshd[7]: Failed password for dulu from 192.0.2.1 port 22 ssh2")
time.sleep(0.5)
tail = Tail(Path("/"))
print(look(0), tail.look(), repr(tail.why))
for n in range(3):
    to.send(b"<86>sshd[7]: Failed password for root from 192.0.2.%d port 22 ssh2" % n)
    to.send(b"<30>app[7]: Failed password for nobody from 192.0.2.9 port 22 ssh2")
print(look(3), repr(tail.why))
daemon.terminate()
daemon.wait()
daemon, to = start()
to.send(b"<86>sshd[7]: Failed password for lagi from 192.0.2.5 port 22 ssh2")
print(look(1), tail.look(), repr(tail.why), tail.lost)
daemon.terminate()
"""


@pytest.mark.lab
@pytest.mark.needs("journalctl", "unshare")
@pytest.mark.skipif(not Path(JOURNALD).exists(), reason="needs systemd-journald")
def test_a_real_journal_also_after_journald_has_restarted(tmp_path: Path) -> None:
    script = tmp_path / "inside.py"
    script.write_text(INSIDE)
    root = Path(lines.__file__).parents[2]
    mounts = "mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/log; mount -t proc proc /proc; mkdir -p /run/systemd/journal"
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-ec"]
    inside = f'{mounts}; exec "$@"'
    run = subprocess.run(
        [*command, inside, "sh", sys.executable, str(script), str(root), JOURNALD], capture_output=True, text=True, check=False, timeout=90
    )
    assert run.returncode == 0, run.stderr
    first, second, third = run.stdout.splitlines()
    assert first == "[] [] ''"
    assert second == "[('root', '192.0.2.0'), ('root', '192.0.2.1'), ('root', '192.0.2.2')] ''"
    assert third == "[('lagi', '192.0.2.5')] [] '' 0"
