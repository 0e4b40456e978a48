"""The referee sees what it must see, and a short torture passes it; the long ones are `make torture`'s."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.wire import remote_write
from tests.torture import referee
from tests.torture.referee import Kill, Record, Row

HEAD = remote_write.head((("__name__", "x"), ("job", "ronda"), ("site", "torture")))
ROOT = Path(__file__).parents[2]
T = 1_795_000_000_000


def bits(value: float) -> bytes:
    return referee._BITS.pack(value)


def row(at: int, value: float = 1.0) -> Row:
    return Row(HEAD, T + at, bits(value), 1)


def judged(rows, store, *, kills=(), counts=None, seen=()):
    record = Record(list(rows), list(seen), [])
    matched = referee.match(rows, {HEAD: [(T + at, bits(value)) for at, value in store]})
    return referee.judge(record, matched, list(kills), counts or {})


def verdict(result):
    return {key: result[key] for key in ("unexplained", "untold", "invented") if result[key]}


def test_what_is_there_is_there_and_what_is_not_must_be_counted():
    rows = [row(n * 15_000, float(n)) for n in range(4)]
    whole = [(n * 15_000, float(n)) for n in range(4)]
    assert verdict(judged(rows, whole)) == {}
    assert verdict(judged(rows, whole[1:])) == {"unexplained": 1}
    assert verdict(judged(rows, whole[1:], counts={"refused": 1})) == {}
    assert verdict(judged(rows, whole[1:], counts={"power_cut": 9})) == {"unexplained": 1}


def test_a_kill_explains_its_last_minute_and_no_more_than_was_promised():
    rows = [row(n * 15_000, float(n)) for n in range(8)]
    there = [(n * 15_000, float(n)) for n in range(5)]
    kill = lambda counted, at=106_000: [Kill(T + at, counted, 0, "kill")]  # noqa: E731
    assert verdict(judged(rows, there, kills=kill(3))) == {}
    assert verdict(judged(rows, there, kills=kill(2))) == {"unexplained": 1}
    assert verdict(judged(rows, there, kills=kill(9, at=140_000))) == {"unexplained": 1}  # one of them is older than a minute
    assert verdict(judged(rows, there, kills=kill(9, at=80_000))) == {"unexplained": 2}  # two came after it


def test_a_value_that_is_not_the_rows_or_not_at_its_time_is_neither():
    assert verdict(judged([row(0)], [(0, 2.0)])) == {"unexplained": 1, "invented": 1}
    assert verdict(judged([row(0)], [(referee.PLACED + 1, 1.0)])) == {"unexplained": 1, "invented": 1}
    assert verdict(judged([row(0)], [(900, 1.0)])) == {}  # placed by a Date of whole seconds


def test_a_sample_that_was_sent_twice_answers_for_one_row():
    result = judged([row(0), row(15_000)], [(0, 1.0), (700, 1.0)])
    assert verdict(result) == {"unexplained": 1}
    assert result["sent_twice"] == 1


def test_a_stale_marker_is_told_from_another_nan():
    stale = referee._BITS.unpack(bits(remote_write.STALE))[0]
    assert verdict(judged([row(0, stale)], [(0, stale)])) == {}
    assert verdict(judged([row(0, stale)], [(0, float("nan"))])) == {"unexplained": 1, "invented": 1}


def test_a_state_left_out_as_unchanged_is_told_and_a_change_that_nobody_told_is_not():
    rows, there = [row(0)], [(0, 1.0)]
    assert verdict(judged(rows, there, seen=[row(0), row(15_000), row(30_000)])) == {}
    assert verdict(judged(rows, there, seen=[row(15_000, 0.0)])) == {"untold": 1}
    assert verdict(judged(rows, there, seen=[row(15_000, 0.0)], kills=[Kill(T + 15_100, 1, 0, "kill")])) == {}


@pytest.mark.needs("prometheus")
@pytest.mark.timeout(120)
def test_a_short_torture(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    options = ["--faults", "15", "--seed", "15", "--json", str(result), "--keep", str(tmp_path / "torture")]
    run = subprocess.run([sys.executable, "-m", "tests.torture", *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    found = json.loads(result.read_text())
    assert found["there_exactly"] > 300
    assert found["ends"]


@pytest.mark.needs("prometheus")
def test_a_short_cut(tmp_path: Path) -> None:
    """Two hours that leap by in some seconds."""
    result = tmp_path / "result.json"
    options = ["--hours", "2", "--json", str(result)]
    run = subprocess.run([sys.executable, "-m", "tests.torture.cut", *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    found = json.loads(result.read_text())
    assert found["there_exactly"] == found["produced_rows"] > 20_000
    assert found["live_lag_seconds_most"] < 15
