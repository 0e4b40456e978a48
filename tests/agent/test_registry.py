"""What every series is now, and what a scrape makes of it."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from agent import process, registry
from agent.catalogue import catalogue
from agent.exposition import render
from agent.model import Batch, Event, Histogram, Metric, Sample
from agent.registry import Registry
from collectors import KINDS
from tests.fuzz import fuzz

UP = Metric("ronda_test_up", "Up.\nOr \\ not.", labels=("device",))
SEEN = Metric("ronda_test_seen_total", "Seen.", "counter")
TOOK = Metric("ronda_test_took_seconds", "Took.", "histogram", ("phase",))


def exposed(reg: Registry, *, openmetrics: bool = False) -> dict:
    text = asyncio.run(render(reg.families(), openmetrics=openmetrics)).decode()
    parse = parse_openmetrics if openmetrics else parse_text
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in parse(text) for s in f.samples}


def batch(task: str, *samples: Sample, labels=None, events=()) -> Batch:
    return Batch(task, labels or {"task": task}, 1.0, samples, events)


def test_a_new_batch_replaces_the_old_one_so_what_vanished_is_gone():
    reg = Registry()
    reg.write(batch("a", UP(1, "eth0"), UP(1, "wlan0")))
    reg.write(batch("b", UP(0, "eth0")))
    reg.write(batch("a", UP(1, "eth0")))

    assert exposed(reg) == {
        ("ronda_test_up", (("device", "eth0"), ("task", "a"))): 1,
        ("ronda_test_up", (("device", "eth0"), ("task", "b"))): 0,
    }


def test_events_alone_leave_the_samples_and_are_counted():
    reg = Registry()
    reg.write(batch("a", SEEN(1)))
    reg.write(batch("a", events=[Event("link_down", "warning", "x", count=3)]))

    assert exposed(reg) == {("ronda_test_seen_total", (("task", "a"),)): 1}
    assert registry.EVENTS(3, "link_down", "warning") in list(reg.samples())


def test_a_retired_task_leaves_nothing():
    reg = Registry()
    reg.write(batch("a", SEEN(1)))
    reg.write(batch("a"))

    assert exposed(reg) == {}
    assert registry.SERIES(0) in list(reg.samples())


def test_too_many_series_are_dropped_and_counted(monkeypatch):
    monkeypatch.setattr(registry, "MAX_SERIES", 3)
    reg = Registry()
    reg.write(batch("a", UP(1, "a"), UP(1, "b")))
    reg.write(batch("b", UP(1, "a"), UP(1, "b")))

    assert len(exposed(reg)) == 2
    assert registry.SERIES_DROPPED(2) in list(reg.samples())


@pytest.mark.parametrize("openmetrics", [False, True])
def test_both_formats_are_read_back_by_their_parsers(openmetrics):
    reg = Registry()
    hostile = 'a"b\\c\nd{}🙂'
    took = Histogram(TOOK, (0.001, 0.5), ("connect",))
    for value in (0.0005, 0.001, 0.2, 9.0):
        took.observe(value)
    reg.write(batch("x", UP(1.5, hostile), SEEN(7), *took.samples(), labels={"task": "x", "role": "anchor"}))
    found = exposed(reg, openmetrics=openmetrics)
    base = (("role", "anchor"), ("task", "x"))

    assert found["ronda_test_up", (("device", hostile), *base)] == 1.5
    assert found["ronda_test_seen_total", base] == 7
    buckets = {dict(k[1])["le"]: v for k, v in found.items() if k[0] == "ronda_test_took_seconds_bucket"}
    assert buckets == {"0.001": 2, "0.5": 3, "+Inf": 4}
    assert found["ronda_test_took_seconds_sum", (("phase", "connect"), *base)] == pytest.approx(9.2015)


@pytest.mark.parametrize("value", [0, 1, -2.5, 1e-9, 1.5e300, 123456789012345678, float("inf"), float("-inf"), float("nan")])
def test_numbers_are_read_back(value):
    reg = Registry()
    reg.write(batch("a", SEEN(value) if value >= 0 else UP(value, "x")))
    (found,) = exposed(reg).values()

    assert found == pytest.approx(value, nan_ok=True)


@fuzz
@given(st.text(max_size=20), st.text(max_size=20))
def test_any_label_is_read_back_as_prometheus_client_would_write_it(first, second):
    reg = Registry()
    reg.write(batch("a", UP(1, first), labels={"task": second}))
    theirs = CollectorRegistry()
    Gauge("ronda_test_up", UP.help, ("device", "task"), registry=theirs).labels(first, second).set(1)
    families = list(parse_text(generate_latest(theirs).decode()))

    assert exposed(reg) == {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_slices_join_to_one_family_and_let_the_loop_go_on(openmetrics):
    reg = Registry()
    for task in range(50):
        reg.write(batch(f"t{task}", *(UP(1, f"d{i}") for i in range(50))))

    async def work():
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        ticking = asyncio.ensure_future(other())
        text = await render(reg.families(), openmetrics=openmetrics)
        ticking.cancel()
        return text.decode(), turns

    text, turns = asyncio.run(work())
    assert text.count("# TYPE ronda_test_up gauge") == 1
    assert len([line for line in text.splitlines() if line.startswith("ronda_test_up{")]) == 2500
    assert text.endswith("# EOF\n") is openmetrics
    assert turns >= 5


def test_every_metric_has_one_name_a_prefix_and_a_sentence():
    found = catalogue(KINDS)

    assert {"ronda_build_info", "ronda_probe_success", "ronda_verdict"} <= set(found)
    for name, metric in found.items():
        assert name.startswith("ronda_") or metric in process.METRICS  # these are named as every exporter names them
        assert name.endswith("_total") == (metric.type == "counter")
        assert metric.help.endswith(".")


def test_a_sample_needs_its_labels():
    with pytest.raises(ValueError, match="takes the labels"):
        UP(1)
