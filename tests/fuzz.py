"""How hard the fuzz targets are fuzzed: a bounded, repeatable run in the tests; longer and random by `make fuzz FUZZ=20000`."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ", "0"))
SETTINGS = settings(max_examples=EXAMPLES or 300, deadline=None, derandomize=not EXAMPLES, database=None)


def fuzz(test: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a test that takes its input from hypothesis as a fuzz target."""
    return pytest.mark.timeout(3600 if EXAMPLES else 180)(pytest.mark.fuzz(SETTINGS(test)))


def broken(whole: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of the messages, with some of its bytes changed, and perhaps cut off."""
    changes = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6)

    def made(message: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
        raw = bytearray(message)
        for at, byte in changes if raw else ():
            raw[at % len(raw)] = byte
        return bytes(raw[:cut])

    return st.builds(made, st.sampled_from(list(whole)), changes, st.one_of(st.just(1 << 20), st.integers(0, 400)))
