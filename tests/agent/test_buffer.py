"""The durable buffer: what it took survives, what must go goes by rank and is counted, and disks that refuse are lived with."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from agent.buffer import AGE_EVERY, METRICS, RELAX_EVERY, SAVE_EVERY, Buffer, Rank, Record
from agent.ledger import BLOCK, REASONS, START_RISK
from agent.segments import InUse
from agent.wire import segment as codec
from tests.fakes import FakeClock
from tests.fuzz import EXAMPLES

NOW = 1_795_000_000.0
DAY = 86400.0
KIB = 1 << 10


def samples(n, at=NOW, rank=Rank.SAMPLES, size=20):
    """A record of n samples that can be told from others."""
    return Record(rank, at, n, f"{n}".encode().ljust(size, b"."))


def a_buffer(directory, site="dukcapil", clock=None, **bounds):
    return Buffer(directory, site, clock or FakeClock(), **bounds)


def held(buffer, **ranks):
    """The data of all that is in it, oldest first."""
    return [entry.data for entry in buffer.oldest(1 << 30, **ranks)]


def on_disk(directory):
    return sum(path.stat().st_size for path in directory.glob("*.seg"))


def loss(buffer):
    return {reason: n for reason, n in buffer.ledger.counts.items() if n}


# --- in, out, restart --------------------------------------------------------------------------------------------------------


def test_what_went_in_comes_out_oldest_first_across_ranks_and_restarts(tmp_path):
    records = [samples(n, rank=Rank(n % 3)) for n in range(1, 30)]
    buffer = a_buffer(tmp_path / "new" / "dir")
    assert buffer.append(records[:12]) == []
    assert buffer.append(records[12:]) == []
    assert held(buffer) == [r.data for r in records]
    buffer.close()

    again = a_buffer(tmp_path / "new" / "dir")
    assert held(again) == [r.data for r in records]
    assert again.append([samples(99)]) == []
    assert held(again)[-1] == samples(99).data
    assert again.records == 30


def test_a_limit_is_kept_but_for_one_record(tmp_path):
    buffer = a_buffer(tmp_path)
    buffer.append([samples(n, size=100) for n in range(5)])

    assert [len(buffer.oldest(limit)) for limit in (1, 100, 199, 200, 10_000)] == [1, 1, 1, 2, 5]
    assert held(buffer, ranks=[Rank.VERDICTS]) == []


def test_done_is_done_also_after_a_restart(tmp_path):
    buffer = a_buffer(tmp_path)
    buffer.append([samples(n) for n in range(1, 7)])
    buffer.done(buffer.oldest(60))
    buffer.close()

    again = a_buffer(tmp_path)
    assert held(again) == [samples(n).data for n in (4, 5, 6)]
    again.done(again.oldest(1000))
    assert (again.size, again.records, again.oldest_at, loss(again)) == (0, 0, 0.0, {})
    assert list(tmp_path.glob("*.seg")) == []


def test_done_in_any_order_and_twice(tmp_path):
    buffer = a_buffer(tmp_path)
    buffer.append([samples(n) for n in range(6)])
    entries = buffer.oldest(1000)
    buffer.done([entries[4], entries[1]])
    buffer.done([entries[1]])
    assert held(buffer) == [entries[n].data for n in (0, 2, 3, 5)]
    buffer.done([entries[0], entries[5]])
    assert held(buffer) == [entries[n].data for n in (2, 3)]
    buffer.give_up([entries[3], entries[2], entries[5]], "refused")

    assert buffer.size == 0
    assert loss(buffer) == {"refused": 5}


def test_without_a_close_a_restart_sends_again_only_the_last_minute(tmp_path):
    clock = FakeClock()
    buffer = a_buffer(tmp_path, clock=clock)
    buffer.append([samples(n) for n in range(6)])
    buffer.done(buffer.oldest(40))
    clock._mono += SAVE_EVERY
    buffer.tidy(NOW)
    buffer.done(buffer.oldest(20))
    buffer._let_go()  # as a kill does

    assert held(a_buffer(tmp_path)) == [samples(n).data for n in (2, 3, 4, 5)]


def test_segments_roll_and_a_large_record_has_its_own(tmp_path):
    buffer = a_buffer(tmp_path, max_bytes=1 << 20)  # segments of 64 KiB
    large = samples(1, size=300 * KIB)
    buffer.append([samples(n, size=10 * KIB) for n in range(8)])
    buffer.append([large, samples(2)])

    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("*.seg"))]
    assert len(sizes) == 4
    assert sum(size > 64 * KIB for size in sizes) == 1
    assert sum(sizes) == buffer.size
    assert held(buffer)[-2] == large.data


@pytest.mark.parametrize(
    "record",
    [
        Record(Rank.SAMPLES, float("nan"), 1, b""),
        Record(Rank.SAMPLES, NOW, -1, b""),
        Record(Rank.SAMPLES, NOW, 1, bytes(codec.MAX_DATA + 1)),
    ],
)
def test_what_can_never_be_stored_is_an_error_and_stores_nothing(tmp_path, record):
    buffer = a_buffer(tmp_path)
    with pytest.raises(ValueError, match="record"):
        buffer.append([samples(1), record])
    assert held(buffer) == []


def test_the_largest_record_fits(tmp_path):
    buffer = a_buffer(tmp_path)
    buffer.append([Record(Rank.VERDICTS, NOW, 0, bytes(codec.MAX_DATA))])
    buffer.close()
    assert len(held(a_buffer(tmp_path))[0]) == codec.MAX_DATA


def test_two_processes_cant_have_one_buffer(tmp_path):
    buffer = a_buffer(tmp_path)
    with pytest.raises(InUse, match="in use by another process"):
        a_buffer(tmp_path)
    buffer.close()
    a_buffer(tmp_path).close()


def test_after_the_close_nothing_is_taken(tmp_path):
    buffer = a_buffer(tmp_path)
    buffer.close()
    assert buffer.append([samples(1)]) == [samples(1)]
    buffer.tidy(NOW)
    buffer.close()


# --- power cuts and damage ---------------------------------------------------------------------------------------------------


def one_segment(directory, count=6):
    """A directory with one segment of `count` records; the segment's path and where its records end."""
    buffer = a_buffer(directory)
    buffer.append([samples(n) for n in range(1, count + 1)])
    ends = [entry.stored.end for entry in buffer.oldest(1 << 20)]
    buffer.close()
    return next(directory.glob("*.seg")), ends


@pytest.mark.parametrize("tail", ["cut", "zeroed"])
def test_a_tail_torn_at_any_byte_is_cut_to_the_last_whole_record(tmp_path, tail):
    path, ends = one_segment(tmp_path)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut] + (bytes(len(whole) - cut) if tail == "zeroed" else b""))
        expected = [samples(n).data for n, end in enumerate(ends, 1) if end <= cut]

        buffer = a_buffer(tmp_path)
        assert held(buffer) == expected, cut
        assert on_disk(tmp_path) == buffer.size == (max([0, *(end for end in ends if end <= cut)])), cut
        assert buffer.append([samples(50)]) == []
        buffer.close()

        again = a_buffer(tmp_path)
        assert held(again) == [*expected, samples(50).data], cut
        again.close()
        for left in tmp_path.glob("*.seg"):
            left.unlink()
    assert list(tmp_path.glob("*.aside")) == []


def test_any_flipped_bit_costs_one_record_and_is_counted(tmp_path):
    path, ends = one_segment(tmp_path)
    whole = path.read_bytes()
    for byte in range(len(whole)):
        hurt = bytearray(whole)
        hurt[byte] ^= 1 << random.Random(byte).randrange(8)
        if byte == len(codec.MAGIC):
            hurt[byte] = 0  # else it would be a newer version, which is another matter
        path.write_bytes(hurt)
        victim = next(n for n, end in enumerate([codec.HEADER_BYTES, *ends]) if byte < end)
        (tmp_path / "ledger.json").unlink()

        buffer = a_buffer(tmp_path)
        assert held(buffer) == [samples(n).data for n in range(1, 7) if n != victim], byte
        buffer.done(buffer.oldest(1 << 20))
        # What was torn off the end can't be told from what was never stored.
        assert loss(buffer) == ({"corrupt": victim} if 0 < victim < 6 else {}), byte
        assert buffer.size == 0
        buffer.close()


def test_damage_that_comes_while_it_runs_is_counted_and_stops_nothing(tmp_path):
    buffer = a_buffer(tmp_path)
    buffer.append([samples(n) for n in range(1, 7)])
    path = next(tmp_path.glob("*.seg"))
    data = bytearray(path.read_bytes())
    for entry in buffer.oldest(1 << 20)[2:4]:
        data[entry.stored.start + 8] ^= 255
    path.write_bytes(data)
    assert held(buffer) == [samples(n).data for n in (1, 2, 5, 6)]
    buffer.done(buffer.oldest(1 << 20)[:3])
    assert loss(buffer) == {"corrupt": 3 + 4}

    path.write_bytes(bytes(len(data)))
    buffer.append([samples(10, rank=Rank.VERDICTS)])
    assert held(buffer) == [samples(10).data]
    assert loss(buffer) == {"corrupt": 3 + 4 + 6}


def test_a_deleted_segment_is_counted_and_a_deleted_directory_made_again(tmp_path):
    home = tmp_path / "buffer"
    buffer = a_buffer(home)
    buffer.append([samples(3), samples(4, rank=Rank.VERDICTS)])
    next(home.glob("*-verdicts.seg")).unlink()
    assert held(buffer) == [samples(3).data]
    assert loss(buffer) == {"corrupt": 4}

    shutil.rmtree(home)
    assert buffer.append([samples(5)]) == [samples(5)]
    assert loss(buffer) == {"corrupt": 7}
    assert buffer.append([samples(5)]) == []
    assert held(buffer) == [samples(5).data]


WRITER = """
import sys
from pathlib import Path
from agent.buffer import Buffer, Rank, Record
from agent.clock import SystemClock

buffer = Buffer(Path(sys.argv[1]), "dukcapil", SystemClock(), max_bytes=8 << 20)
n = int(sys.argv[2])
while True:
    records = [Record(Rank((n + i) % 3), 1795000000.0, 1, b"%d " % (n + i) * (1 + (n + i) * 37 % 90)) for i in range(7)]
    assert buffer.append(records) == []
    n += 7
    print(n, flush=True)
"""


def test_what_a_killed_writer_had_acknowledged_survives(tmp_path):
    """Each round kills the writer wherever it is then; nothing is waited for but its acknowledgements."""
    chance, n, acknowledged = random.Random(4), 0, set()
    for _ in range(8):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(n)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path.cwd()) as writer:
            for _ in range(chance.randrange(1, 40)):
                line = writer.stdout.readline()
            writer.kill()
            said = [int(line), *map(int, writer.stdout.read().split())]
        acknowledged |= set(range(n, said[-1]))

        buffer = a_buffer(tmp_path, max_bytes=8 << 20)
        found = [int(data.split()[0]) for data in held(buffer)]
        assert found == sorted(set(found))
        assert acknowledged <= set(found)  # of the write that the kill met, a part may be there
        assert set(loss(buffer)) == {"power_cut"}
        n = found[-1] + 1
        buffer.close()


# --- bounds ------------------------------------------------------------------------------------------------------------------


def test_buckets_go_first_then_the_oldest_samples_and_verdicts_last(tmp_path):
    buffer = a_buffer(tmp_path, max_bytes=256 * KIB)  # segments of 16 KiB
    fill = lambda rank, times: [buffer.append([samples(1, rank=rank, size=4 * KIB)]) for _ in range(times)]  # noqa: E731
    count = lambda: [sum(1 for _ in buffer.oldest(1 << 30, [rank])) for rank in Rank]  # noqa: E731
    for rank in (Rank.VERDICTS, Rank.SAMPLES, Rank.SAMPLES, Rank.BUCKETS):
        fill(rank, 15)
    assert count() == [15, 30, 15]

    fill(Rank.SAMPLES, 15)
    assert count()[1:] == [45, 15]
    assert count()[0] < 15
    assert set(loss(buffer)) == {"thinned"}
    fill(Rank.SAMPLES, 30)
    assert count()[0] == 0
    assert count()[2] == 15
    assert set(loss(buffer)) == {"thinned", "overflow"}
    fill(Rank.BUCKETS, 10)  # never in the place of what ranks higher; they may have what room there is
    assert count()[2] == 15
    assert sum(count()[:2]) + buffer.ledger.total == 15 + 75 + 10
    fill(Rank.VERDICTS, 140)
    assert count()[:2] == [0, 0]
    assert sum(count()) + buffer.ledger.total == 60 + 45 + 10 + 140
    assert on_disk(tmp_path) == buffer.size <= buffer.max_bytes


def test_the_bound_is_exact_and_the_newest_are_kept(tmp_path):
    buffer = a_buffer(tmp_path, max_bytes=300_000)
    for n in range(400):
        buffer.append([samples(n, size=1000 + n)])
        assert on_disk(tmp_path) == buffer.size <= 300_000
    kept = [int(data.split(b".")[0]) for data in held(buffer)]
    assert kept == list(range(kept[0], 400))
    assert loss(buffer) == {"overflow": sum(range(kept[0]))}
    assert buffer.size > 300_000 - 2 * (300_000 // 16)


def test_a_bound_made_smaller_is_kept_at_the_next_tidy(tmp_path):
    buffer = a_buffer(tmp_path)
    buffer.append([samples(n, size=5 * KIB) for n in range(300)])
    buffer.append([samples(7, rank=Rank.BUCKETS), samples(9, rank=Rank.VERDICTS)])
    buffer.close()

    again = a_buffer(tmp_path, max_bytes=64 * KIB)
    again.tidy(None)
    assert on_disk(tmp_path) == again.size <= 64 * KIB
    assert held(again)[-1] == samples(9).data
    assert loss(again) == {"thinned": 7, "overflow": sum(range(300))}


def test_a_record_larger_than_the_whole_bound_is_counted_and_moves_nothing(tmp_path):
    buffer = a_buffer(tmp_path, max_bytes=64 * KIB)
    assert buffer.append([samples(1), samples(5, size=100 * KIB), samples(2)]) == []
    assert held(buffer) == [samples(1).data, samples(2).data]
    assert loss(buffer) == {"overflow": 5}


def test_too_small_a_bound_is_refused(tmp_path):
    with pytest.raises(ValueError, match="too small"):
        a_buffer(tmp_path, max_bytes=1000)


def aged(buffer, now):
    buffer._clock._mono += AGE_EVERY
    buffer.tidy(now)
    return [int(data.split(b".")[0]) for data in held(buffer)]


def test_what_is_too_old_goes_and_not_before(tmp_path):
    buffer = a_buffer(tmp_path)
    buffer.append([samples(n, NOW + n * DAY) for n in range(1, 5)])
    assert aged(buffer, None) == aged(buffer, NOW + 8 * DAY) == [1, 2, 3, 4]
    assert aged(buffer, NOW + 9.5 * DAY) == [3, 4]
    assert loss(buffer) == {"expired": 3}
    assert buffer.oldest_at <= NOW + 3 * DAY
    assert aged(buffer, NOW + 99 * DAY) == []
    assert (buffer.size, loss(buffer)) == (0, {"expired": 10})


def test_unknown_and_future_times_go_with_the_next_that_is_known_to_be_old(tmp_path):
    buffer = a_buffer(tmp_path)
    buffer.append([samples(1, 0.0), samples(2, NOW + 900 * DAY), samples(3, NOW), samples(4, 0.0), samples(5, NOW + DAY), samples(6, 0.0)])
    assert aged(buffer, NOW + 7.5 * DAY) == [4, 5, 6]
    assert aged(buffer, NOW + 99 * DAY) == [6]  # nobody knows how old that is


def test_a_clock_that_jumped_back_years_takes_nothing_that_is_fresh_along(tmp_path):
    buffer = a_buffer(tmp_path)
    buffer.append([samples(1, NOW), samples(2, NOW - 3000 * DAY), samples(3, NOW + 60)])
    assert aged(buffer, NOW + 120) == [1, 2, 3]
    assert aged(buffer, NOW - 3000 * DAY) == [1, 2, 3]
    buffer.done(buffer.oldest(1))
    assert aged(buffer, NOW + 120) == [3]
    buffer.close()
    assert held(a_buffer(tmp_path)) == [samples(3).data]


def test_age_is_looked_at_seldom(tmp_path):
    buffer = a_buffer(tmp_path)
    buffer.append([samples(1, NOW)])
    buffer.tidy(NOW)
    buffer.tidy(NOW + 99 * DAY)
    assert buffer.records == 1


# --- other people's files ----------------------------------------------------------------------------------------------------


def test_another_sites_buffer_is_set_aside_whole(tmp_path, caplog):
    old = a_buffer(tmp_path, "rsud")
    old.append([samples(1), samples(2, rank=Rank.VERDICTS)])
    old.give_up(old.oldest(1), "refused")
    old.append([samples(3)])
    old.close()

    buffer = a_buffer(tmp_path)
    assert held(buffer) == []
    assert loss(buffer) == {}
    assert buffer.aside == 3
    assert "of the site 'rsud'" in caplog.text
    assert buffer.append([samples(5)]) == []
    buffer.close()
    assert a_buffer(tmp_path).aside == 3
    assert len(list(tmp_path.glob("*.aside"))) == 3


def test_a_newer_versions_files_are_set_aside_and_can_be_put_back(tmp_path, caplog):
    path, _ = one_segment(tmp_path)
    data = path.read_bytes()
    newer = data[:8] + bytes([codec.VERSION + 1]) + os.urandom(500)
    path.write_bytes(newer)
    (tmp_path / "ledger.json").write_text('{"version": 2, "something": "else"}')

    buffer = a_buffer(tmp_path)
    assert held(buffer) == []
    assert "newer version" in caplog.text
    buffer.append([samples(50)])
    buffer.close()
    aside = path.with_name(path.name + ".aside")
    assert aside.read_bytes() == newer
    assert (tmp_path / "ledger.json.aside").exists()

    aside.write_bytes(data)
    aside.rename(path)
    assert held(a_buffer(tmp_path)) == [samples(n).data for n in (1, 2, 3, 4, 5, 6, 50)]


def test_foreign_files_are_left_alone_and_named(tmp_path, caplog):
    (tmp_path / "foto.jpg").write_bytes(b"x")
    (tmp_path / "ffffffffffffffff-events.seg").write_bytes(b"y")
    (tmp_path / "0000000000000001-samples.seg").mkdir()
    (tmp_path / "0000000000000002-samples.seg").symlink_to(tmp_path / "foto.jpg")
    (tmp_path / "0000000000000003-samples.seg").write_bytes(b"not a segment at all " * 20)
    (tmp_path / "0000000000000004-samples.seg").write_bytes(b"")

    buffer = a_buffer(tmp_path)
    assert buffer.append([samples(1)]) == []
    assert held(buffer) == [samples(1).data]
    assert buffer.aside == 1
    names = {path.name for path in tmp_path.iterdir()}
    assert {"foto.jpg", "ffffffffffffffff-events.seg", "0000000000000001-samples.seg", "0000000000000002-samples.seg"} <= names
    assert "0000000000000003-samples.seg.aside" in names
    assert "0000000000000004-samples.seg" not in names
    assert "left alone: 0000000000000001-samples.seg" in caplog.text


def test_setting_aside_overwrites_nothing(tmp_path):
    for n in range(3):
        (tmp_path / "0000000000000003-samples.seg").write_bytes(b"not a segment " * 20 + bytes([65 + n]))
        a_buffer(tmp_path).close()
    assert sorted(p.read_bytes()[-1:] for p in tmp_path.glob("*.aside")) == [b"A", b"B", b"C"]


# --- the ledger --------------------------------------------------------------------------------------------------------------


def test_the_ledger_outlives_restarts_and_shows_every_reason(tmp_path):
    for _ in range(2):
        buffer = a_buffer(tmp_path)
        buffer.ledger.add("refused", 7)
        buffer.ledger.add("disk", 1)
        buffer.close()
    buffer = a_buffer(tmp_path)
    assert loss(buffer) == {"refused": 14, "disk": 2}
    shown = {s.labels[0]: s.value for s in buffer.samples() if s.metric.name == "ronda_samples_undelivered_total"}
    assert shown == dict.fromkeys(REASONS, 0) | {"refused": 14, "disk": 2}
    assert {s.metric for s in buffer.samples()} <= set(METRICS)
    with pytest.raises(KeyError):
        buffer.ledger.add("aliens", 1)


def test_a_run_that_ended_without_warning_says_what_it_may_have_cost(tmp_path, caplog):
    buffer = a_buffer(tmp_path)
    assert buffer.ledger.holds(5000)
    buffer.save()
    assert not buffer.ledger.holds(5000)
    buffer._let_go()

    again = a_buffer(tmp_path)
    assert again.ledger.unclean == 10_000
    assert loss(again) == {"power_cut": 10_000}
    assert "up to 10000 samples" in caplog.text
    again.close()
    third = a_buffer(tmp_path)
    assert (third.ledger.unclean, loss(third)) == (0, {"power_cut": 10_000})


@pytest.mark.parametrize("samples", [0, 1, START_RISK // 2])
def test_a_first_run_that_is_killed_at_once_has_promised_enough(tmp_path, samples):
    buffer = a_buffer(tmp_path)
    assert not buffer.ledger.holds(samples)
    buffer._let_go()
    assert loss(a_buffer(tmp_path)) == {"power_cut": START_RISK}


@given(st.lists(st.one_of(st.integers(0, 9000), st.just("lost"), st.just("hour")), max_size=30))
def test_whenever_it_is_killed_the_file_covers_what_memory_held(tmp_path_factory, steps):
    """Samples in memory and counts that are not yet on disk; whoever holds more than the file allows for saves first."""
    home, clock = tmp_path_factory.mktemp("ledger"), FakeClock()
    buffer, pending, lost = a_buffer(home, clock=clock), 0, 0
    for step in steps:
        if step == "lost":
            buffer.ledger.add("refused", pending)
            lost, pending = lost + pending, 0
        elif step == "hour":
            clock._mono += RELAX_EVERY
            buffer.tidy(NOW)
        else:
            pending = step
        if buffer.ledger.holds(pending):
            buffer.save()
    buffer._let_go()
    again = a_buffer(home)
    assert again.ledger.total >= lost + pending
    again.close()


def test_what_memory_held_once_is_forgotten_after_an_hour_or_two(tmp_path):
    buffer = a_buffer(tmp_path)
    for samples in (40_000, 100, 100):
        buffer.ledger.holds(samples)
        buffer._clock._mono += RELAX_EVERY
        buffer.tidy(NOW)
    buffer._let_go()
    assert loss(a_buffer(tmp_path)) == {"power_cut": 200}


def test_a_loss_is_written_before_what_it_counts_is_deleted(tmp_path):
    buffer = a_buffer(tmp_path, max_bytes=64 * KIB)
    for n in range(100):
        buffer.append([samples(n, size=3 * KIB)])
    buffer._let_go()

    again = a_buffer(tmp_path, max_bytes=64 * KIB)
    kept = [int(data.split(b".")[0]) for data in held(again)]
    assert loss(again) == {"overflow": sum(range(kept[0])), "power_cut": START_RISK}


def test_nothing_is_written_while_nothing_happens(tmp_path):
    buffer = a_buffer(tmp_path)
    before = (tmp_path / "ledger.json").stat().st_mtime_ns
    for _ in range(100):
        buffer._clock._mono += 60
        buffer.tidy(NOW)
    assert (tmp_path / "ledger.json").stat().st_mtime_ns == before
    assert buffer.append([]) == []
    assert list(tmp_path.glob("*.seg")) == []


GOOD = {"version": 1, "site": "dukcapil", "undelivered": {}, "cursors": {}, "at_risk": 0, "ended": True}


@pytest.mark.parametrize(
    "damage",
    [
        *(b"", b"\x00" * 300, b"{", b"[]", b"[" * 60000, b"\xff\xfe", b"null", b"{}"),
        *(
            json.dumps(GOOD | change).encode()
            for change in (
                {"site": "rsud"},
                {"version": "1"},
                {"undelivered": {"refused": -1}},
                {"undelivered": {"refused": True}},
                {"undelivered": {"refused": 1e300}},
                {"undelivered": []},
                {"cursors": {"x": [1]}},
                {"cursors": {"x": [1, "2"]}},
                {"at_risk": None},
            )
        ),
    ],
)
def test_a_ledger_that_cant_be_used_is_set_aside_and_costs_no_record(tmp_path, damage, caplog):
    one_segment(tmp_path)
    (tmp_path / "ledger.json").write_bytes(damage)
    buffer = a_buffer(tmp_path)

    assert len(held(buffer)) == 6
    assert loss(buffer) == {}
    assert (tmp_path / "ledger.json.aside").read_bytes() == damage
    assert "set aside" in caplog.text


@pytest.mark.parametrize("place", [[0, 0], [1, 10**15], [10**9, 0], [60, 0]])
def test_a_cursor_that_leads_nowhere_costs_nothing(tmp_path, place):
    path, _ = one_segment(tmp_path)
    (tmp_path / "ledger.json").write_text(json.dumps(GOOD | {"cursors": {path.name: place}}))
    buffer = a_buffer(tmp_path)
    found = held(buffer)
    assert found == [samples(n).data for n in range(1 if place != [60, 0] else 2, 7)]
    buffer.done(buffer.oldest(1 << 20))
    assert buffer.size == 0


def test_an_old_cursor_never_passes_over_new_records(tmp_path):
    """The ledger of a killed run may speak of a segment that is gone."""
    path, ends = one_segment(tmp_path)
    path.unlink()
    (tmp_path / "ledger.json").write_text(json.dumps(GOOD | {"cursors": {path.name: [ends[2], 6]}}))
    stale = (tmp_path / "ledger.json").read_bytes()
    buffer = a_buffer(tmp_path)
    buffer.append([samples(n) for n in range(1, 7)])
    buffer._let_go()
    (tmp_path / "ledger.json").write_bytes(stale)  # as if the disk had refused to write it

    assert len(held(a_buffer(tmp_path))) == 6


# --- disks that refuse -------------------------------------------------------------------------------------------------------


def test_a_place_that_cant_be_is_said_once_and_counted_and_keeps_nothing(caplog):
    buffer = a_buffer(Path("/dev/full/ronda"))
    assert buffer.append([samples(1)]) == [samples(1)]
    assert buffer.oldest(100) == []
    buffer.tidy(NOW)

    assert buffer.failures == 3
    assert len(caplog.records) == 1
    assert "Not a directory" in buffer.problem
    buffer.close()


@pytest.fixture
def disk(tmp_path):
    """A real, small disk."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk):
    with (disk / "filler").open("wb", buffering=0) as f:
        for size in (4096, 1):
            try:
                while True:
                    f.write(bytes(size))
            except OSError:
                continue


@pytest.mark.lab
def test_a_full_disk_keeps_what_it_has_refuses_the_rest_and_serves_again(disk, caplog):
    home = disk / "buffer"
    buffer = a_buffer(home)
    assert buffer.append([samples(1), samples(2, rank=Rank.VERDICTS)]) == []
    fill(disk)
    more = [samples(n, size=3 * KIB, rank=Rank(n % 3)) for n in range(3, 11)]
    assert buffer.append(more) == more
    assert buffer.append(more) == more
    assert "No space left" in buffer.problem
    assert len([r for r in caplog.records if "refuses (write)" in r.message]) == 1
    assert held(buffer) == [samples(1).data, samples(2).data]
    assert on_disk(home) == buffer.size
    buffer.done(buffer.oldest(1))
    buffer.tidy(NOW)

    (disk / "filler").unlink()
    assert buffer.append(more) == []
    assert held(buffer) == [samples(2).data, *(r.data for r in more)]
    buffer._clock._mono += SAVE_EVERY
    buffer.tidy(NOW)
    assert buffer.problem == ""
    buffer.close()
    again = a_buffer(home)
    assert held(again) == [samples(2).data, *(r.data for r in more)]
    again.close()


@pytest.mark.lab
def test_a_full_disk_takes_the_ledger_all_the_same(disk):
    """What memory holds while the disk is full is lost by a kill: that must not go uncounted."""
    buffer = a_buffer(disk / "buffer")
    fill(disk)
    buffer.ledger.add("refused", 3)
    assert buffer.ledger.holds(30_000)
    buffer.save()
    assert not buffer.ledger.holds(30_000)
    assert buffer.problem == ""
    buffer._let_go()
    again = a_buffer(disk / "buffer")
    assert loss(again) == {"refused": 3, "power_cut": 2 * 30_003}
    again.close()
    assert (disk / "buffer/ledger.json").stat().st_size == BLOCK


@pytest.mark.lab
def test_a_disk_that_fills_in_the_middle_of_a_write_loses_nothing_and_doubles_nothing(disk):
    home = disk / "buffer"
    buffer = a_buffer(home)
    todo, refused = [samples(n, size=1500) for n in range(600)], 0
    while todo:
        left = buffer.append(todo[:50])
        todo[:50] = left
        if left:
            refused += 1
            done = buffer.oldest(60_000)
            assert [e.data for e in done] == [
                samples(n, size=1500).data for n in range(int(done[0].data.split(b".")[0]), len(done) + int(done[0].data.split(b".")[0]))
            ]
            buffer.done(buffer.oldest(1 << 20))
    assert refused
    assert on_disk(home) == buffer.size
    assert loss(buffer) == {}
    buffer.close()


@pytest.mark.lab
def test_a_disk_turned_read_only_can_still_be_read(disk):
    home = disk / "buffer"
    buffer = a_buffer(home)
    buffer.append([samples(1), samples(2)])
    buffer._let_go()
    torn = next(home.glob("*.seg"))
    with torn.open("ab") as f:
        f.write(b"torn")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    buffer = a_buffer(home)
    assert held(buffer) == [samples(1).data, samples(2).data]
    assert buffer.append([samples(3)]) == [samples(3)]
    assert "Read-only" in buffer.problem
    buffer.done(buffer.oldest(1))
    assert held(buffer) == [samples(2).data]
    buffer.done(buffer.oldest(1))
    assert held(buffer) == []
    assert buffer.size > 0  # the file is still there

    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert buffer.append([samples(3)]) == []
    buffer._clock._mono += SAVE_EVERY
    buffer.tidy(NOW)
    assert held(buffer) == [samples(3).data]
    assert on_disk(home) == buffer.size
    assert buffer.problem == ""
    buffer.close()


# --- nothing is ever neither here, nor delivered, nor counted ------------------------------------------------------------------


class Conservation(RuleBasedStateMachine):
    """Whatever the order of calls and restarts: samples taken = delivered + counted + still here, and the disk agrees.

    Entries are done from the oldest on, as push does: what is done out of turn is sent again after a restart.
    """

    entries = Bundle("entries")

    def __init__(self):
        super().__init__()
        self.home = Path(os.environ.get("TMPDIR", "/tmp")) / f"ronda-buffer-{os.getpid()}-{id(self)}"
        self.clock = FakeClock()
        self.taken, self.delivered, self.now, self.n = 0, set(), NOW, 0
        self.all = {}
        self.buffer = self.open()

    def open(self):
        return Buffer(self.home, "dukcapil", self.clock, max_bytes=48 * KIB, max_age=3600)

    @rule(
        sizes=st.lists(st.tuples(st.sampled_from(Rank), st.integers(0, 6000), st.sampled_from([0.0, 0.0, 1.0, 1.0, 1.0, 3.0])), max_size=8)
    )
    def append(self, sizes):
        records = []
        for rank, size, when in sizes:
            self.n += 1
            records.append(Record(rank, self.now * when, self.n, f"{self.n} ".encode() + bytes(size)))
            self.all[self.n] = self.n
        assert self.buffer.append(records) == []

    @rule(target=entries, limit=st.integers(1, 20000), ranks=st.sets(st.sampled_from(Rank), min_size=1))
    def look(self, limit, ranks):
        found = self.buffer.oldest(limit, ranks)
        order = [int(e.data.split()[0]) for e in found]
        assert order == sorted(order)
        return self.buffer, found

    @rule(found=entries)
    def done(self, found):
        before = self.pending()
        self.buffer.done(self.of_this_run(found))
        self.delivered |= before - self.pending()

    @rule(found=entries)
    def refused(self, found):
        self.buffer.give_up(self.of_this_run(found), "refused")

    def of_this_run(self, found):
        """Entries end with the process that took them out."""
        buffer, entries = found
        return entries if buffer is self.buffer else []

    @rule(seconds=st.sampled_from([1, 60, 700, 4000]), trusted=st.booleans())
    def time(self, seconds, trusted):
        self.now += seconds
        self.clock._mono += seconds
        self.buffer.tidy(self.now if trusted else None)

    @rule()
    def restart(self):
        self.buffer.close()
        self.buffer = self.open()

    def pending(self):
        return {int(e.data.split()[0]) for e in self.buffer.oldest(1 << 30)}

    @invariant()
    def nothing_is_lost(self):
        pending = self.pending()
        assert sum(self.all) == sum(self.delivered) + sum(pending) + self.buffer.ledger.total
        assert len(pending) == self.buffer.records

    @invariant()
    def the_disk_agrees(self):
        assert on_disk(self.home) == self.buffer.size <= 48 * KIB

    def teardown(self):
        self.buffer.close()
        shutil.rmtree(self.home)


TestConservation = pytest.mark.timeout(3600 if EXAMPLES else 180)(Conservation.TestCase)
TestConservation.settings = settings(
    max_examples=(EXAMPLES or 400) // 10, stateful_step_count=40, deadline=None, derandomize=not EXAMPLES, database=None
)


# --- weight ------------------------------------------------------------------------------------------------------------------


def test_a_full_buffer_is_light_in_memory(tmp_path, capsys):
    """Memory is asserted, by tracemalloc's count; the time that recovery takes is only printed."""
    buffer = a_buffer(tmp_path)
    payload = os.urandom(6 * KIB)
    for rank in (Rank.SAMPLES, Rank.BUCKETS):
        for _ in range(55 if rank is Rank.SAMPLES else 10):
            buffer.append([Record(rank, NOW, 900, payload)] * 165)
    assert buffer.size > 60 << 20
    buffer.close()
    tracemalloc.start()
    began = time.perf_counter()
    again = a_buffer(tmp_path)
    took = time.perf_counter() - began
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    with capsys.disabled():
        print(
            f"\n{again.size >> 20} MiB, {again.records} records: recovered in {took:.2f} s; {kept >> 10} KiB held, {peak >> 10} KiB at most"
        )
    assert kept < 512 * KIB
    assert peak < 6 << 20
    again.close()
