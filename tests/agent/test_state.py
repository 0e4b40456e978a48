"""The little that outlives a restart, on disks that refuse."""

import json
import os

import pytest

from agent.diagnosis import Verdict
from agent.state import Last, StateFile, default_directory

OPEN = Verdict("down", "isp", "certain", 5.0, "DKC-1124-0207", ("x",))


def test_an_open_incident_outlives_a_restart(tmp_path):
    assert StateFile(tmp_path / "new").write("dukcapil", OPEN, 10.0)
    kept = StateFile(tmp_path / "new").read("dukcapil")

    assert (kept.state, kept.cause, kept.since, kept.incident) == ("down", "isp", 5.0, "DKC-1124-0207")
    assert kept.confidence == "unknown"


def test_another_sites_state_is_not_taken(tmp_path):
    StateFile(tmp_path).write("dukcapil", OPEN, 10.0)

    assert StateFile(tmp_path).read("rsud") is None


def kept(state='"down"', cause='"isp"', since="5"):
    return f'{{"site":"dukcapil","verdict":{{"state":{state},"cause":{cause},"since":{since},"incident":"X"}}}}'.encode()


@pytest.mark.parametrize(
    "damage",
    [
        *(b"", b"{", b"[]", b"\x00" * 400, b'{"site": "dukcapil"}', b'{"site":"dukcapil","verdict":{"state":1}}', b"[" * 16000),
        *(
            kept(since="1e999"),
            kept(since="NaN"),
            kept(since="-1"),
            kept(state='"sulky"'),
            kept(cause='["isp"]'),
            kept(since="1" + "0" * 300),
        ),
    ],
)
def test_a_damaged_file_is_said_and_passed_over(tmp_path, damage, caplog):
    (tmp_path / "state.json").write_bytes(damage)

    assert StateFile(tmp_path).read("dukcapil") is None
    assert "can't be used" in caplog.text


def test_a_disk_that_refuses_is_said_once_and_counted(caplog):
    state = StateFile(type(default_directory())("/dev/full/ronda"))
    assert not state.write("a", OPEN, 1.0)
    assert not state.write("a", OPEN, 2.0)

    assert state.failures == 2
    assert len(caplog.records) == 1
    assert "Not a directory" in state.problem


@pytest.mark.lab
def test_a_full_disk_keeps_the_old_file_and_recovers(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    assert os.system(f"mount -t tmpfs -o size=64k none {disk}") == 0
    try:
        state = StateFile(disk)
        assert state.write("a", OPEN, 1.0)
        (disk / "filler").write_bytes(b"x" * (56 << 10))
        (disk / "filler2").write_bytes(b"x" * 4096)

        assert not state.write("a", Verdict(), 2.0)
        assert "No space left" in state.problem
        assert StateFile(disk).read("a").incident == OPEN.incident
        assert not list(disk.glob("*.new"))

        (disk / "filler").unlink()
        assert state.write("a", Verdict(), 3.0)
        assert state.problem == ""
    finally:
        os.system(f"umount {disk}")


def test_where_it_is_kept():
    assert str(default_directory({"STATE_DIRECTORY": "/var/lib/ronda:/x"})) == "/var/lib/ronda"
    assert str(default_directory({"XDG_STATE_HOME": "/s"})) == "/s/ronda"
    assert str(default_directory({})).endswith("/.local/state/ronda")


def test_how_the_last_run_ended_is_known(tmp_path):
    first = StateFile(tmp_path, "boot one")
    first.read("s")
    assert first.last == Last()
    first.write("s", Verdict(), 1000.0)
    second = StateFile(tmp_path, "boot two")
    second.read("s")
    assert second.last == Last(1000.0, False, "boot one")
    second.write("s", Verdict(), 2000.0, ended=True)
    third = StateFile(tmp_path, "boot two")
    third.read("s")
    assert third.last == Last(2000.0, True, "boot two")


@pytest.mark.parametrize("alive_at", ["now", -1, 1e300, None, True])
def test_a_last_run_that_can_not_have_been_is_none(tmp_path, alive_at):
    held = {"site": "s", "alive_at": alive_at, "verdict": {"state": "ok", "cause": "ok", "since": 1.0, "incident": ""}}
    (tmp_path / "state.json").write_text(json.dumps(held))
    file = StateFile(tmp_path)
    file.read("s")
    assert file.last in (Last(), Last(1.0))


def test_a_sign_of_life_costs_the_card_one_block_of_a_small_file(tmp_path):
    state = StateFile(tmp_path, "boot-1")
    state.write("dukcapil", OPEN, 100.0)
    state.write("dukcapil", OPEN, 700.0)
    whole, alive = (tmp_path / "state.json").stat(), (tmp_path / "alive").stat()
    state.write("dukcapil", OPEN, 1300.0)

    assert (tmp_path / "state.json").stat().st_mtime_ns == whole.st_mtime_ns
    after = (tmp_path / "alive").stat()
    assert (after.st_ino, after.st_size) == (alive.st_ino, alive.st_size)
    again = StateFile(tmp_path)
    again.read("dukcapil")
    assert again.last == Last(1300.0, False, "boot-1")


@pytest.mark.parametrize(
    "damage", [b"", b"\0" * 160, b"{", b"[]", b'{"alive_at": "x", "boot": "boot-1"}', b'{"alive_at": 9e99, "boot": "boot-1"}']
)
def test_a_spoilt_sign_of_life_leaves_the_one_before(tmp_path, damage):
    StateFile(tmp_path, "boot-1").write("dukcapil", OPEN, 100.0)
    (tmp_path / "alive").write_bytes(damage)
    state = StateFile(tmp_path)

    assert state.read("dukcapil").incident == OPEN.incident
    assert state.last == Last(100.0, False, "boot-1")


def test_a_sign_of_life_of_another_boot_is_none(tmp_path):
    state = StateFile(tmp_path, "boot-1")
    state.write("dukcapil", OPEN, 100.0)
    state.write("dukcapil", OPEN, 700.0)
    StateFile(tmp_path, "boot-2").write("dukcapil", OPEN, 200.0)
    again = StateFile(tmp_path)
    again.read("dukcapil")

    assert again.last == Last(200.0, False, "boot-2")
