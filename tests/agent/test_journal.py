"""The journal: what it took survives, numbers never come twice, exits get all of it in order, and disks that refuse are lived with."""

import json
import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent import journal as module
from agent.journal import MAX_UNSAVED, METRICS, READ_TRIES, RECENT, SKIPPED, Journal, Reader
from agent.model import Event
from agent.segments import InUse
from agent.wire import segment as codec
from agent.wire.event import Entry
from tests.fakes import FakeClock

NOW = 1_795_000_000.0
DAY = 86400.0
ROOT = Path(__file__).parents[2]


def told(n, at=NOW, *, size=0, **more):
    event = Event("link_down", "warning", f"event {n}", {"pad": "x" * size} if size else {}, at, at)
    return Entry(0, event, "link", **more)


def a_journal(directory, site="dukcapil", clock=None, **bounds):
    return Journal(directory, site, clock or FakeClock(), **bounds)


def kill(journal):
    """As a kill does: nothing is saved."""
    journal._let_go()


def held(journal, after=0):
    return [(e.seq, e.event.message) for e in journal.after(after, 1 << 30)]


def read(directory):
    return [(e.seq, e.event.message) for e in Reader(directory).entries()]


def values(journal):
    return {(s.metric.name.removeprefix("ronda_"), *s.labels): s.value for s in journal.samples() if s.value}


# --- in, out, restart ----------------------------------------------------------------------------------------------------------


def test_what_went_in_comes_out_in_order_across_restarts(tmp_path):
    journal = a_journal(tmp_path / "new" / "dir")
    journal.append([told(1), told(2)])
    journal.append([told(3)])
    name = journal.id
    journal.close()
    again = a_journal(tmp_path / "new" / "dir")
    again.append([told(4)])

    assert again.id == name
    assert held(again) == [(n, f"event {n}") for n in (1, 2, 3, 4)]
    assert held(again, after=2) == [(3, "event 3"), (4, "event 4")]
    assert held(again, after=4) == []
    assert len(list((tmp_path / "new" / "dir").glob("*.seg"))) == 1


def test_a_limit_is_kept_but_for_one_event(tmp_path):
    journal = a_journal(tmp_path)
    journal.append([told(n, size=900) for n in range(10)])

    assert len(journal.after(0, 1)) == 1
    assert len(journal.after(0, 3000)) == 3


def test_old_events_come_from_disk_and_new_ones_from_memory_without_a_seam(tmp_path):
    journal = a_journal(tmp_path)
    for n in range(1, RECENT + 50):
        journal.append([told(n)])

    assert [seq for seq, _ in held(journal)] == list(range(1, RECENT + 50))
    assert [seq for seq, _ in held(journal, after=49)] == list(range(50, RECENT + 50))


def test_after_an_end_without_warning_numbers_are_left_out_so_that_none_comes_twice(tmp_path):
    journal = a_journal(tmp_path)
    journal.append([told(1), told(2)])
    kill(journal)
    again = a_journal(tmp_path)
    again.append([told(3)])
    again.close()

    assert held(a_journal(tmp_path)) == [(1, "event 1"), (2, "event 2"), (3 + SKIPPED, "event 3")]


def test_a_new_box_begins_a_new_journal_and_another_sites_is_set_aside(tmp_path):
    one = a_journal(tmp_path)
    one.append([told(1)])
    one.close()
    other = a_journal(tmp_path, site="camat")

    assert other.id != one.id
    assert held(other) == []
    assert other.aside == 2
    assert a_journal(tmp_path / "elsewhere").id not in (one.id, other.id)


def test_two_processes_never_write_one_journal(tmp_path):
    journal = a_journal(tmp_path)
    with pytest.raises(InUse):
        a_journal(tmp_path)
    journal.close()
    a_journal(tmp_path)


def test_without_its_state_the_journal_keeps_its_name_and_all_leaves_again(tmp_path):
    journal = a_journal(tmp_path)
    journal.append([told(1), told(2)])
    journal.delivered("centre", journal.id, 2, 2)
    journal.close()
    (tmp_path / "journal.json").write_text("{torn")
    again = a_journal(tmp_path)

    assert again.id == journal.id
    assert again.cursor("centre") == 0
    assert again.last == 2
    assert (tmp_path / "journal.json.aside").exists()


def test_without_its_segments_a_new_journal_begins(tmp_path):
    journal = a_journal(tmp_path)
    journal.append([told(1), told(2)])
    journal.delivered("centre", journal.id, 2, 2)
    journal.close()
    for path in tmp_path.glob("*.seg"):
        path.unlink()
    again = a_journal(tmp_path)
    again.append([told(1)])

    assert again.id != journal.id
    assert again.cursor("centre") == 0
    assert held(again) == [(1, "event 1")]


def test_a_newer_versions_files_and_foreign_ones_are_left_whole(tmp_path):
    newer = tmp_path / "aaaaaaaa-0000000000000001.seg"
    newer.write_bytes(codec.MAGIC + bytes([codec.VERSION + 1]) + b"what comes")
    (tmp_path / "journal.json").write_text(json.dumps({"version": 2, "site": "dukcapil"}))
    (tmp_path / "README").write_text("mine")
    journal = a_journal(tmp_path)
    journal.append([told(1)])

    assert journal.aside == 2
    assert (tmp_path / "aaaaaaaa-0000000000000001.seg.aside").read_bytes().endswith(b"what comes")
    assert (tmp_path / "README").read_text() == "mine"


# --- torn, zeroed, damaged -----------------------------------------------------------------------------------------------------


def a_segment(tmp_path, n=3):
    journal = a_journal(tmp_path / "whole")
    ends = []
    for i in range(1, n + 1):
        journal.append([told(i)])
        ends.append(next((tmp_path / "whole").glob("*.seg")).stat().st_size)
    kill(journal)
    return next((tmp_path / "whole").glob("*.seg")), ends


@pytest.mark.parametrize("tail", [b"", bytes(4096), b"\xff" * 100], ids=["torn", "zeroed", "garbage"])
def test_at_every_cut_byte_what_is_whole_before_it_survives(tmp_path, tail):
    segment, ends = a_segment(tmp_path)
    data, state = segment.read_bytes(), (tmp_path / "whole" / "journal.json").read_bytes()
    folder = tmp_path / "cut"
    for cut in range(len(data) + 1):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "journal.json").write_bytes(state)
        (folder / segment.name).write_bytes(data[:cut] + tail)
        whole = sum(end <= cut for end in ends)
        journal = a_journal(folder)
        found = held(journal)
        if cut < len(data) or whole == 3:
            assert found == [(n, f"event {n}") for n in range(1, whole + 1)], cut
        journal.append([told(9)])
        assert journal.after(0, 1 << 30)[-1].event.message == "event 9"
        assert read(folder) == held(journal)
        journal.close()


def test_damage_in_the_midst_costs_what_it_hit_and_is_counted(tmp_path):
    segment, ends = a_segment(tmp_path, 5)
    data = bytearray(segment.read_bytes())
    data[ends[1] + 10] ^= 0xFF
    segment.write_bytes(data)
    journal = a_journal(tmp_path / "whole")
    journal.exits = {"syslog"}

    assert [seq for seq, _ in held(journal)] == [1, 2, 4, 5]
    assert values(journal)["journal_events_dropped_total", "damaged"] == 1
    sent = journal.after(0, 1 << 30)
    journal.delivered("syslog", journal.id, sent[-1].seq, len(sent))
    assert values(journal)["events_undelivered_total", "syslog", "damaged"] == 1
    assert values(journal)["events_delivered_total", "syslog"] == 4


KILLED = """
import sys
from pathlib import Path
from agent.clock import SystemClock
from agent.journal import Journal
from agent.model import Event
from agent.wire.event import Entry
journal = Journal(Path(sys.argv[1]), "dukcapil", SystemClock())
n = 0
while True:
    n += 1
    journal.append([Entry(0, Event("k", "info", f"{journal.last + 1}", {}, 1.0, 1.0)) for _ in range(1)])
    print(journal.last, flush=True)
"""


def test_kill_in_the_midst_of_writing_loses_nothing_that_was_stored(tmp_path):
    rng = random.Random(4)
    stored = []
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "j")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        stored += [int(child.stdout.readline()) for _ in range(rng.randrange(5, 60))]
        child.kill()
        stored += [int(line) for line in child.stdout.read().splitlines() if line.strip()]
        child.stdout.close()
        child.wait()
    found = [seq for seq, message in read(tmp_path / "j")]

    assert set(stored) <= set(found)
    assert found == sorted(set(found))
    assert len(found) - len(stored) <= 6  # what was stored and not yet said


# --- disks that refuse ---------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_said_and_what_waits_leaves_from_memory_and_is_stored_later(tmp_path):
    """RLIMIT_FSIZE stands in for the card's end; it holds for this whole process, so a child does it."""
    code = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, ".")
from tests.agent.test_journal import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
journal = a_journal(folder)
journal.exits = {"centre"}
journal.append([told(1)])
size = next(folder.glob("*.seg")).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
journal.append([told(2)])
journal.append([told(3)])
assert "File too large" in journal.problem, journal.problem
assert held(journal) == [(1, "event 1"), (2, "event 2"), (3, "event 3")]
assert next(folder.glob("*.seg")).stat().st_size == size
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.retry()
assert journal.problem == ""
assert values(journal)["journal_events_stored_total",] == 3
journal.close()
assert held(a_journal(folder)) == [(1, "event 1"), (2, "event 2"), (3, "event 3")]
print("fine")
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "j")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stdout == "fine\n", run.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def fill(path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(fd, b"x" * 4096)
    except OSError:
        os.close(fd)


@pytest.mark.lab
def test_a_card_that_is_full_to_the_brim(tmp_path):
    """A real file system of 64 KiB, filled by somebody else."""
    disk = tmp_path / "card"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "card", str(disk)], check=True)
    try:
        journal = a_journal(disk / "j")
        journal.append([told(1)])
        fill(disk / "filler")
        for n in range(2, 40):
            journal.append([told(n, size=900)])
        assert "No space left" in journal.problem
        assert [seq for seq, _ in held(journal)] == list(range(1, 40))
        (disk / "filler").unlink()
        journal.retry()
        assert journal.problem == ""
        journal.close()
        assert [seq for seq, _ in held(a_journal(disk / "j"))] == list(range(1, 40))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_memory_is_bounded_while_the_disk_refuses(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    journal = a_journal(blocked / "j")
    journal.exits = {"centre"}
    for n in range(MAX_UNSAVED // 100 + 1):
        journal.append([told(n * 100 + i) for i in range(100)])

    assert values(journal)["journal_events_dropped_total", "disk"] == 100
    assert values(journal)["events_undelivered_total", "centre", "disk"] == 100
    assert values(journal)["events_waiting", "centre"] == MAX_UNSAVED
    assert journal.problem


def test_a_disk_that_is_found_late_goes_on_with_the_journal_it_holds(tmp_path):
    home = tmp_path / "disk"
    before = a_journal(home)
    before.append([told(1), told(2)])
    before.close()
    home.rename(tmp_path / "away")
    home.write_text("not mounted yet")
    journal = a_journal(home)
    journal.append([told(3)])
    assert held(journal) == [(1, "event 3")]
    home.unlink()
    (tmp_path / "away").rename(home)
    journal.append([told(4)])

    assert journal.id == before.id
    assert held(journal) == [(1, "event 1"), (2, "event 2"), (3, "event 3"), (4, "event 4")]
    assert read(home) == held(journal)


def test_a_directory_that_is_taken_away_is_made_again(tmp_path):
    journal = a_journal(tmp_path / "j")
    journal.exits = {"centre"}
    journal.append([told(1)])
    shutil.rmtree(tmp_path / "j")
    journal.append([told(2)])
    journal.append([told(3)])

    assert [seq for seq, _ in read(tmp_path / "j")] == [2, 3]
    assert values(journal)["events_undelivered_total", "centre", "damaged"] == 1


def test_looking_on_needs_no_right_to_write_and_changes_nothing(tmp_path):
    journal = a_journal(tmp_path)
    journal.append([told(1)])
    before = sorted((p.name, p.stat().st_mtime_ns) for p in tmp_path.iterdir())
    reader = Reader(tmp_path)
    assert [e.seq for e in reader.entries()] == [1]
    assert (reader.site, reader.journal) == ("dukcapil", journal.id)
    journal.append([told(2)])
    assert [e.seq for e in reader.entries(after=1)] == [2]
    assert [name for name, _ in before] == sorted(p.name for p in tmp_path.iterdir())


# --- bounds --------------------------------------------------------------------------------------------------------------------


def test_the_bound_of_bytes_is_kept_and_what_did_not_leave_is_counted(tmp_path):
    journal = a_journal(tmp_path, max_bytes=64 << 10)
    journal.exits = {"centre", "syslog"}
    for n in range(200):
        journal.append([told(n, size=900)])
        if n == 39:
            journal.delivered("centre", journal.id, 40, 40)
    first = held(journal)[0][0]

    assert sum(p.stat().st_size for p in tmp_path.glob("*.seg")) == journal.size
    assert journal.size <= 64 << 10
    assert first > 41
    assert values(journal)["events_undelivered_total", "centre", "overflow"] == first - 41
    assert values(journal)["events_undelivered_total", "syslog", "overflow"] == first - 1
    assert values(journal)["events_waiting", "syslog"] == 200 - first + 1


def test_what_is_too_old_goes_by_a_time_that_is_known(tmp_path):
    journal = a_journal(tmp_path)
    for day in range(40):
        journal.append([told(day, NOW + day * DAY)])
    assert len(list(tmp_path.glob("*.seg"))) == 40
    journal.tidy(None)
    assert len(held(journal)) == 40
    journal.tidy(NOW + 40 * DAY)

    assert [message for _, message in held(journal)] == [f"event {day}" for day in range(10, 40)]
    journal.tidy(NOW + 1000 * DAY)
    assert len(held(journal)) == 1  # the last one tells which numbers were given


def test_an_unknown_or_impossible_time_expires_with_its_neighbours_only(tmp_path):
    journal = a_journal(tmp_path, max_bytes=32 << 10)
    for n, at in enumerate([NOW + 900 * DAY, 0.0, NOW, NOW + 35 * DAY]):
        journal.append([told(n, at, size=900, unsure=not at)])
        journal._seal()
    journal.tidy(NOW + 20 * DAY)
    assert len(held(journal)) == 4
    journal.tidy(NOW + 36 * DAY)
    assert [message for _, message in held(journal)] == ["event 3"]


# --- exits and times -----------------------------------------------------------------------------------------------------------


def test_each_exit_has_its_own_cursor_which_a_clean_end_keeps(tmp_path):
    clock = FakeClock()
    journal = a_journal(tmp_path, clock=clock)
    journal.exits = {"centre", "syslog"}
    journal.append([told(n) for n in range(1, 6)])
    journal.delivered("centre", journal.id, 3, 2, refused=1)
    clock._mono += 7
    journal.delivered("centre", "another1", 5, 2)
    assert values(journal)["events_lag_seconds", "centre"] == 7
    journal.close()
    again = a_journal(tmp_path)
    again.exits = {"centre", "syslog"}

    assert (again.cursor("centre"), again.cursor("syslog")) == (3, 0)
    assert values(again)["events_waiting", "centre"] == 2
    assert values(again)["events_delivered_total", "centre"] == 2
    assert values(again)["events_undelivered_total", "centre", "refused"] == 1


def test_nothing_is_written_where_nothing_changed(tmp_path):
    journal = a_journal(tmp_path)
    journal.append([told(1)])
    journal.save()
    before = (tmp_path / "journal.json").stat().st_mtime_ns
    os.utime(tmp_path / "journal.json", ns=(before - 10**9, before - 10**9))
    journal.save()
    assert (tmp_path / "journal.json").stat().st_mtime_ns == before - 10**9


def test_what_a_wrong_clock_stamped_is_put_right_once_the_true_time_of_that_boot_is_known(tmp_path):
    journal = a_journal(tmp_path)
    wrong = told(1, 1000.0, unsure=True, boot="ab", mono=50.0)
    journal.append([wrong, told(2, 2000.0, unsure=True, boot="cd", mono=60.0)])
    assert journal.placed(journal.after(0)[0]).unsure
    journal.learn("ab", NOW)
    journal.close()
    again = a_journal(tmp_path)
    one, two = (again.placed(entry) for entry in again.after(0))

    assert (one.event.last_seen, one.unsure) == (NOW + 50, False)
    assert (two.event.last_seen, two.unsure) == (2000.0, True)
    assert next(Reader(tmp_path).entries()).event.last_seen == NOW + 50


def test_every_sample_is_declared(tmp_path):
    journal = a_journal(tmp_path)
    journal.exits = {"centre"}
    assert {s.metric for s in journal.samples()} <= set(METRICS)


def test_what_a_failed_try_has_left_stops_no_later_one(tmp_path):
    """A disk that turns read-only in the midst of a write lets nothing be deleted either."""
    journal = a_journal(tmp_path)
    (tmp_path / f"{journal.id}-{1:016x}.seg").write_bytes(b"torn")
    journal.append([told(1)])

    assert journal.problem == ""
    assert read(tmp_path) == [(1, "event 1")]


def test_an_event_that_is_just_being_stored_is_counted_once(tmp_path, monkeypatch):
    journal = a_journal(tmp_path)
    journal.exits = {"centre"}
    counted = []
    grow = module._Segment.grow

    def looked_at(self, *args):
        counted.append(journal.waiting("centre"))
        grow(self, *args)
        counted.append(journal.waiting("centre"))

    monkeypatch.setattr(module._Segment, "grow", looked_at)
    journal.append([told(n) for n in range(3)])

    assert max(counted) == journal.waiting("centre") == 3


def test_a_segment_that_the_disk_refuses_to_read_is_tried_again_before_it_is_passed_over(tmp_path, monkeypatch):
    journal = a_journal(tmp_path, max_bytes=64 << 10)
    journal.append([told(n, size=900) for n in range(1, 31)])
    journal._recent.clear()
    broken = journal._chain[1]
    real = Path.read_bytes

    def refuse(path):
        if path.name == broken.name:
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert held(journal)[-1][0] == broken.first - 1
    for _ in range(READ_TRIES - 2):
        with pytest.raises(OSError, match="Input/output"):
            journal.after(broken.first - 1)
    assert "Input/output" in journal.problem
    assert journal.after(broken.first - 1)[0].seq == broken.last + 1  # it is broken for good
    monkeypatch.undo()
    assert journal.after(broken.first - 1)[0].seq == broken.first  # or was not
