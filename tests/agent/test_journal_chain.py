"""The journal's chain on a disk: it holds through restarts, torn tails, kills and disks that refuse; and who changes the files is found."""

import random
import re
import resource
import subprocess
import sys

import pytest

from agent.cli import main
from agent.journal import MAX_UNSAVED, Journal, Reader
from agent.wire import chain
from agent.wire import segment as codec
from agent.wire.event import encode
from tests.agent.test_journal import DAY, KILLED, NOW, ROOT, a_journal, kill, told
from tests.fakes import FakeClock


def walked(directory):
    """The whole journal, as `ronda events verify` goes through it."""
    reader = Reader(directory)
    next(reader.lines(), b"")
    walk = chain.Walk(journal=reader.journal)
    for line in reader.lines():
        walk.take(line)
    return walk


def whole(directory):
    walk = walked(directory)
    assert walk.broken is None
    assert walk.loose == 0
    return walk.lines


def verified(directory, capsys):
    """(exit, number of the first broken line or None, what is said) of the command."""
    code = main(["events", "verify", "--data-dir", str(directory.parent)])
    said = capsys.readouterr().out
    found = re.search(r"PUTUS di baris nomor (\d+)", said)
    return code, int(found[1]) if found else None, said


def rewritten(path, change):
    """The segment with its records' lines as `change` makes them (None: left out), checksums and all, as a forger would."""
    data = path.read_bytes()
    seed = codec.seed(codec.read_header(data).site)
    out, kept = [data[: codec.HEADER_BYTES]], 0
    for stored in list(codec.scan(seed, data)):
        line = change(stored.sequence, stored.data)
        if line is not None:
            out.append(codec.pack_record(seed, stored.sequence, stored.at, 1, kept, line))
            kept += 1
    path.write_bytes(b"".join(out))


def a_box(tmp_path, n=12):
    """A journal of some lines, closed; its one segment."""
    journal = a_journal(tmp_path / "journal")
    for i in range(n):
        journal.append([told(i + 1)])
    journal.close()
    return next((tmp_path / "journal").glob("*.seg"))


# --- it holds --------------------------------------------------------------------------------------------------------------------


def test_it_goes_on_through_restarts_kills_and_new_segments(tmp_path):
    for n in range(6):
        journal = a_journal(tmp_path)
        journal.append([told(i, NOW + n * 2 * DAY, size=500) for i in range(30)])
        assert journal.head == chain.tell(journal.id, walked(tmp_path).head)
        if n % 2:
            kill(journal)
        else:
            journal.close()
    assert len(list(tmp_path.glob("*.seg"))) >= 6
    assert whole(tmp_path) == 180


def test_before_the_first_line_there_is_no_head(tmp_path):
    journal = a_journal(tmp_path)
    assert journal.head is None
    journal.append([told(1)])
    assert journal.head.number == 1
    journal.close()
    assert a_journal(tmp_path).head == journal.head


@pytest.mark.parametrize("tail", ["cut", "zeroes", "rubbish"])
def test_at_every_cut_byte_the_chain_holds_and_goes_on(tmp_path, tail):
    """A power cut in the midst of the last line."""
    journal = a_journal(tmp_path / "was")
    journal.append([told(1), told(2)])
    size = next((tmp_path / "was").glob("*.seg")).stat().st_size
    journal.append([told(3)])
    kill(journal)
    path = next((tmp_path / "was").glob("*.seg"))
    data, rng = path.read_bytes(), random.Random(5)
    for cut in range(size, len(data), 1 if tail == "cut" else 9):
        folder = tmp_path / f"{cut}"
        folder.mkdir()
        rest = {"cut": b"", "zeroes": bytes(len(data) - cut), "rubbish": rng.randbytes(len(data) - cut)}[tail]
        (folder / path.name).write_bytes(data[:cut] + rest)
        again = a_journal(folder)
        assert again.head.number == 2
        again.append([told(4)])
        again.close()
        assert whole(folder) == 3


def test_old_lines_that_went_leave_the_head_they_stood_under(tmp_path):
    journal = a_journal(tmp_path)
    for n in range(5):
        journal.append([told(n, NOW + n * 2 * DAY)])
    journal.tidy(NOW + 34 * DAY)
    journal.close()
    assert whole(tmp_path) == 3
    assert walked(tmp_path).anchor != chain.genesis(journal.id)
    assert walked(tmp_path).head.number == 5


def test_the_bound_of_bytes_breaks_nothing(tmp_path):
    journal = a_journal(tmp_path, max_bytes=64 << 10)
    for n in range(200):
        journal.append([told(n, size=900)])
    assert journal.size <= 64 << 10
    assert 0 < whole(tmp_path) < 100


def test_kills_in_the_midst_of_writing_break_nothing(tmp_path):
    rng = random.Random(8)
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "j")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(rng.randrange(5, 60)):
            child.stdout.readline()
        child.kill()
        child.stdout.close()
        child.wait()
    assert whole(tmp_path / "j") >= 20


def test_what_a_disk_refused_is_chained_when_it_serves_again(tmp_path):
    code = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, ".")
from tests.agent.test_journal_chain import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
journal = a_journal(folder)
journal.append([told(1)])
size, head = next(folder.glob("*.seg")).stat().st_size, journal.head
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 300, resource.RLIM_INFINITY))
journal.append([told(2, size=300)])
journal.append([told(3)])
assert journal.problem and journal.head == head
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.retry()
assert journal.head.number == 3
journal.close()
assert whole(folder) == 3
print("fine")
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "j")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stdout == "fine\n", run.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_lines_that_memory_had_to_let_go_of_are_no_breach(tmp_path):
    blocked = tmp_path / "j"
    blocked.write_text("no directory")
    journal = a_journal(blocked)
    for n in range(MAX_UNSAVED // 100 + 2):
        journal.append([told(n * 100 + i) for i in range(100)])
    blocked.unlink()
    journal.retry()
    journal.close()
    assert whole(blocked) == MAX_UNSAVED


def test_a_journal_of_an_older_version_goes_on_with_a_chain(tmp_path, capsys):
    path = a_box(tmp_path, 3)
    rewritten(path, lambda n, line: line[: -chain.PREV_BYTES - 1] + b"}")
    (tmp_path / "journal/journal.json").unlink()
    journal = a_journal(tmp_path / "journal")
    assert journal.head is None
    journal.append([told(4), told(5)])
    journal.close()
    code, broken, said = verified(tmp_path / "journal", capsys)
    assert (code, broken) == (0, None)
    assert "utuh, 5 baris" in said
    assert "3 baris dari versi lama" in said


def test_files_that_were_taken_away_under_the_agent_are_gone_and_the_chain_goes_on(tmp_path):
    journal = a_journal(tmp_path / "j")
    journal.append([told(1), told(2)])
    for path in (tmp_path / "j").glob("*"):
        path.unlink()
    journal.append([told(3)])
    journal.append([told(4)])
    journal.close()
    walk = walked(tmp_path / "j")
    assert walk.broken is None
    assert walk.head.number == 4
    assert walk.anchor != chain.genesis(journal.id)


# --- who changes it is found -----------------------------------------------------------------------------------------------------


def test_a_whole_journal_is_said_to_be(tmp_path, capsys):
    a_box(tmp_path)
    code, broken, said = verified(tmp_path / "journal", capsys)
    assert (code, broken) == (0, None)
    assert "utuh, 12 baris, dari nomor 1" in said


@pytest.mark.parametrize("n", [1, 2, 6, 11])
def test_an_edited_line_breaks_at_the_next(tmp_path, capsys, n):
    path = a_box(tmp_path)
    rewritten(path, lambda at, line: line.replace(b"event", b"EVENT") if at == n else line)
    assert verified(tmp_path / "journal", capsys)[:2] == (1, n + 1)


@pytest.mark.parametrize("n", [2, 6, 11])
def test_a_line_that_was_cut_out_breaks_at_the_next(tmp_path, capsys, n):
    path = a_box(tmp_path)
    rewritten(path, lambda at, line: None if at == n else line)
    assert verified(tmp_path / "journal", capsys)[:2] == (1, n + 1)


def test_a_first_line_that_was_cut_out_is_missed_by_the_files_name(tmp_path, capsys):
    path = a_box(tmp_path)
    rewritten(path, lambda at, line: None if at == 1 else line)
    assert verified(tmp_path / "journal", capsys)[:2] == (1, 2)


def test_the_last_lines_are_missed(tmp_path, capsys):
    path = a_box(tmp_path)
    rewritten(path, lambda at, line: None if at > 9 else line)
    assert verified(tmp_path / "journal", capsys)[:2] == (1, 10)


def test_the_last_line_edited_is_not_the_one_that_was_stored(tmp_path, capsys):
    path = a_box(tmp_path)
    rewritten(path, lambda at, line: line.replace(b"event", b"EVENT") if at == 12 else line)
    assert verified(tmp_path / "journal", capsys)[:2] == (1, 12)


def test_a_forger_of_all_that_follows_is_caught_by_the_anchor_alone(tmp_path):
    journal = a_journal(tmp_path / "journal")
    journal.append([told(n + 1) for n in range(12)])
    anchor = journal.head
    journal.close()
    forged = Journal(tmp_path / "forged", "dukcapil", FakeClock())
    forged._state.journal = journal.id
    forged.append([told(n + 1 if n != 5 else 99) for n in range(12)])
    forged.close()
    assert whole(tmp_path / "forged") == 12
    assert forged.head != anchor
    assert forged.head.number == anchor.number


def test_a_flipped_bit_costs_its_line_and_is_named(tmp_path, capsys):
    path = a_box(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.find(b"event 5") + 2] ^= 4
    path.write_bytes(data)
    assert verified(tmp_path / "journal", capsys)[:2] == (1, 6)


def test_where_there_is_no_journal_it_is_said(tmp_path, capsys):
    assert main(["events", "verify", "--data-dir", str(tmp_path)]) == 2
    assert "--data-dir" in capsys.readouterr().err


def test_a_line_with_its_chain_is_an_event_as_before(tmp_path):
    journal = a_journal(tmp_path)
    journal.append([told(1)])
    line = next(Reader(tmp_path).lines())
    assert chain.before(line) == chain.genesis(journal.id)
    assert b"prev" not in encode(journal.after(0)[0], abroad=True)
