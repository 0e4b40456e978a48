"""The note from one run to the next: what it says, and when it says nothing."""

import zlib
from pathlib import Path

import pytest

from agent import ended
from agent.wire import remote_write

BOOT = b"\x01" * 16
HEADS = {remote_write.head((("__name__", "a"), ("site", "x"))), remote_write.head((("__name__", "b"), ("site", "x"), ("task", 'q"{\n}ü')))}


def test_what_was_left_is_taken_once(tmp_path: Path) -> None:
    ended.leave(tmp_path / "series", BOOT, 100.0, HEADS)

    assert ended.take(tmp_path / "series", BOOT, 110.0, "x") == HEADS
    assert ended.take(tmp_path / "series", BOOT, 110.0, "x") == set()
    assert list(tmp_path.iterdir()) == []


def test_what_was_told_under_another_name_is_left_to_fade(tmp_path: Path) -> None:
    ended.leave(tmp_path / "series", BOOT, 100.0, HEADS)

    assert ended.take(tmp_path / "series", BOOT, 110.0, "renamed") == set()


@pytest.mark.parametrize(("boot", "now"), [(b"\x02" * 16, 110.0), (BOOT, 400.0), (BOOT, 99.0)])
def test_of_another_boot_or_long_ago_it_says_nothing(tmp_path: Path, boot: bytes, now: float) -> None:
    ended.leave(tmp_path / "series", BOOT, 100.0, HEADS)

    assert ended.take(tmp_path / "series", boot, now, "x") == set()


@pytest.mark.parametrize("data", [b"", b"x", zlib.compress(b"[]"), zlib.compress(b'{"boot": 1}'), zlib.compress(b"[" * 100_000)])
def test_damage_is_no_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "series").write_bytes(data)

    assert ended.take(tmp_path / "series", BOOT, 110.0, "x") == set()


def test_a_disk_that_refuses_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    ended.leave(tmp_path / "file/series", BOOT, 100.0, HEADS)
    assert ended.take(tmp_path / "file/series", BOOT, 100.0, "x") == set()
