"""What the process tells of itself, beside what prometheus-client tells of the same process."""

import pytest
from prometheus_client import ProcessCollector

from agent import process


def test_it_is_what_prometheus_client_tells():
    ours = {sample.metric.name: sample.value for sample in process.samples()}
    theirs = {found.name: found.value for family in ProcessCollector(registry=None).collect() for found in family.samples}

    assert ours.keys() == theirs.keys()
    for name in ("process_start_time_seconds", "process_max_fds"):
        assert ours[name] == pytest.approx(theirs[name], abs=0.02)
    for name in ("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"):
        assert ours[name] == pytest.approx(theirs[name], rel=0.1, abs=2)


def test_types_and_words_are_theirs():
    theirs = {family.name: (family.type, family.documentation) for family in ProcessCollector(registry=None).collect()}

    assert {m.name.removesuffix("_total"): (m.type, m.help) for m in process.METRICS} == theirs
