"""Secrets from files: what is read, what is refused, and that no message holds any of it."""

import os
from pathlib import Path

import pytest

from agent.secret import MAX_SECRET, SecretError, check_private, read_secret


def _made(path: Path, data: bytes, mode: int = 0o640) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("data", "text"), [(b"s3cret\n", "s3cret"), (b"s3cret", "s3cret"), (b"s3cret\r\n", "s3cret"), (b" a b \n", " a b ")]
)
def test_one_line_without_its_break(tmp_path: Path, data: bytes, text: str) -> None:
    assert read_secret(_made(tmp_path / "s", data)) == text


@pytest.mark.parametrize(
    ("data", "mode", "message"),
    [
        (b"s3cret\n", 0o644, "open to everybody"),
        (b"s3cret\n", 0o642, "open to everybody"),
        (b"\n", 0o600, "is empty"),
        (b"s3cret\n\n", 0o600, "more than one line"),
        (b"s3cret\nX: y", 0o600, "more than one line"),
        (b"s3cret\xff", 0o600, "not UTF-8"),
        (b"s" * (MAX_SECRET + 1), 0o600, "larger than 64 KiB"),
    ],
)
def test_refused(tmp_path: Path, data: bytes, mode: int, message: str) -> None:
    with pytest.raises(SecretError, match=message) as caught:
        read_secret(_made(tmp_path / "s", data, mode))
    assert "s3c" not in str(caught.value).replace(str(tmp_path), "")
    assert str(tmp_path / "s") in str(caught.value)


def test_what_is_no_file_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path, message in ((tmp_path / "pipe", "not a file"), (tmp_path, "not a file"), (tmp_path / "gone", "No such file")):
        with pytest.raises(SecretError, match=message):
            check_private(path)
