"""How hard the fuzz targets are fuzzed: a bounded, repeatable run in the tests; longer and random by `make fuzz FUZZ=20000`."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

EXAMPLES = int(os.environ.get("FUZZ", "0"))
SETTINGS = settings(max_examples=EXAMPLES or 300, deadline=None, derandomize=not EXAMPLES, database=None)


def fuzz(test: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a test that takes its input from hypothesis as a fuzz target."""
    return pytest.mark.timeout(3600 if EXAMPLES else 180)(pytest.mark.fuzz(SETTINGS(test)))
