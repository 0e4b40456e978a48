"""Whatever comes, in any order: no detector of the LAN raises, grows, speaks without end, says an address, or remembers what isn't JSON."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.detect import seen
from agent.detect.arp import ArpAnomaly
from agent.detect.conflicts import IpConflict
from agent.detect.devices import NewDevice
from agent.detect.gateway import GatewayMac
from agent.detect.model import Ask, Detector, Finding, Vouched
from agent.detect.neighbours import NeighbourDrift
from agent.detect.poisoning import ArpPoisoning
from agent.detect.storms import BroadcastStorm
from agent.detect.sweeps import ArpSweep
from tests.detect.lan import ADDRESSES, AFAR, ATTACKER, HERE, PC, ROUTER, Watch, arp, mndp, weight
from tests.detect.officeday import AGENT

DETECTORS = (GatewayMac, IpConflict, ArpAnomaly, ArpPoisoning, ArpSweep, NewDevice, NeighbourDrift, BroadcastStorm)
VOUCHED = Vouched(versions={"mikrotik": "7.12"})

MACS = st.sampled_from([ROUTER.mac, ATTACKER.mac, PC.mac, AGENT.mac, "4C:5E:0C:77:88:99", seen.BROADCAST, seen.NO_MAC, ""]) | st.text(
    max_size=20
)
IPS = st.sampled_from([ROUTER.ip, ATTACKER.ip, PC.ip, AGENT.ip, AFAR, "0.0.0.0", "::1", "fe80::1%x", "2001:db8::1", ""]) | st.text(
    max_size=20
)
TEXTS = st.text(max_size=40) | IPS | MACS
NUMBERS = st.floats() | st.sampled_from([0.0, -1.0, 1e18, 60.0])
INTS = st.integers(-(2**40), 2**40) | st.integers(0, 3)
FRAMES = st.builds(seen.Frame, MACS, MACS, st.sampled_from(["in", "out", "unknown"]), st.binary(max_size=64))
SEEN = st.one_of(
    st.builds(seen.Arp, FRAMES, INTS, MACS, IPS, MACS, IPS),
    st.builds(seen.ArpProbe, IPS, st.lists(MACS, max_size=4).map(tuple), st.lists(FRAMES, max_size=2).map(tuple)),
    st.builds(seen.Packet, FRAMES, IPS, IPS),
    st.builds(seen.Contact, FRAMES, st.sampled_from(["tcp", "udp"]), st.sampled_from(["asked", "open", "closed"]), IPS, IPS, INTS),
    st.builds(seen.Dhcp, FRAMES, st.sampled_from(["discover", "request", "ack", "nak", ""]) | TEXTS, INTS, MACS, IPS, IPS, IPS, IPS, IPS),
    st.builds(seen.Neighbour, FRAMES, st.sampled_from(["solicit", "advert"]), IPS, IPS, MACS),
    st.builds(seen.NameAnswer, FRAMES, st.sampled_from(["mdns", "llmnr", "nbns"]), IPS, TEXTS | st.just("x._sleep-proxy._udp.local")),
    st.builds(seen.NameQuery, FRAMES, st.sampled_from(["mdns", "llmnr", "nbns"]), IPS, TEXTS),
    st.builds(seen.Identity, FRAMES, st.sampled_from(["mndp", "lldp", "cdp"]), MACS, TEXTS, TEXTS, TEXTS | st.just("6.1"), TEXTS, NUMBERS),
    st.builds(seen.SpanningTree, FRAMES, TEXTS, TEXTS, st.booleans()),
    st.builds(seen.Tripwire, IPS, INTS, INTS),
    st.builds(seen.Counters, st.dictionaries(st.sampled_from(["broadcast", "lan", "x"]), NUMBERS, max_size=3)),
    st.builds(seen.Neighbours, st.dictionaries(IPS, MACS, max_size=4)),
    st.builds(seen.Carrier, st.booleans()),
    st.builds(seen.Network, TEXTS, MACS, *(st.lists(IPS | st.just("192.0.2.0/24"), max_size=3).map(tuple) for _ in range(4))),
    st.just(HERE),
)
STEPS = st.lists(st.tuples(st.sampled_from([0.0, 0.01, 1.0, 20.0, 300.0, 90_000.0]), SEEN), max_size=60)


def judge(said: list[Any], detector: Detector) -> None:
    for one in said:
        if isinstance(one, Ask):
            assert len(one.target) <= 64
            continue
        assert isinstance(one, Finding)
        assert one.rule == detector.rule.name
        assert not ADDRESSES.search(one.message)
        assert all(isinstance(value, str) and len(value) <= 255 for value in one.fields.values())
        assert one.source not in (AGENT.mac, AGENT.ip)
        assert len(one.key) <= 100
        assert len(one.frames) <= 4


@pytest.mark.parametrize("make", DETECTORS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_anything_in_any_field(make: Any, steps: list[tuple[float, seen.Observation]]) -> None:
    detector: Detector = make(VOUCHED)
    list(detector.see(HERE, 0.0)) if seen.Network in detector.wants else None
    at = 0.0
    for pause, what in steps:
        at += pause
        if isinstance(what, detector.wants):
            judge(list(detector.see(what, at)), detector)
        judge(list(detector.tick(at)), detector)
    assert weight(detector) < 50_000
    said = json.loads(json.dumps(dict(detector.remember())))
    if said:
        again: Detector = make(VOUCHED)
        again.recall(said, 0.0)
        assert set(again.remember()) == set(said)
    detector.coverage(frozenset())


def grown(make: Any) -> Watch:
    watch = Watch(make(VOUCHED))
    for at in range(1, 1000, 60):
        for what in (arp(ROUTER.mac, ROUTER.ip, PC.ip), arp(PC.mac, PC.ip), mndp(ROUTER, at), seen.Neighbours({ROUTER.ip: ROUTER.mac})):
            if isinstance(what, watch.detector.wants):
                watch.see(what, at)
    return watch


def leaves(tree: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield way
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield from leaves(tree[key], (*way, key))


def replaced(tree: Any, way: tuple[Any, ...], by: Any) -> Any:
    if not way:
        return by
    other = tree.copy()
    other[way[0]] = replaced(tree[way[0]], way[1:], by)
    return other


@pytest.mark.parametrize("make", DETECTORS)
def test_a_memory_with_one_thing_wrong_is_taken_up_or_refused(make: Any) -> None:
    said = json.loads(json.dumps(dict(grown(make).detector.remember())))
    for way in leaves(said):
        for by in (None, -1, 1e300, float("nan"), float("inf"), "x", "", [], [None], {}, {"x": 1}, True):
            detector: Detector = make(VOUCHED)
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                detector.recall(replaced(said, way, by), 10.0)
            for what in (HERE, arp(ROUTER.mac, ROUTER.ip), mndp(ROUTER, 5)):
                if isinstance(what, detector.wants):
                    list(detector.see(what, 11.0))
            list(detector.tick(12.0))
            json.dumps(dict(detector.remember()))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.just(ROUTER.mac) | st.just(ROUTER.ip),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from([ROUTER.ip, "age", "known", "pinned", "names", "learning", "leader", "speakers", "x"]), inner, max_size=6
    ),
    max_leaves=20,
)  # fmt: skip


@pytest.mark.parametrize("make", DETECTORS)
@settings(max_examples=60, deadline=None)
@given(said=st.dictionaries(st.sampled_from([ROUTER.ip, "age", "known", "speakers"]), JSON, max_size=4))
def test_any_memory_is_taken_up_or_refused(make: Any, said: dict[str, Any]) -> None:
    detector: Detector = make(VOUCHED)
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        detector.recall(said, 10.0)
    if seen.Arp in detector.wants:
        list(detector.see(HERE, 11.0))
        list(detector.see(arp(ROUTER.mac, ROUTER.ip), 11.0))
    list(detector.tick(12.0))
    json.dumps(dict(detector.remember()))


@pytest.mark.parametrize("make", DETECTORS)
def test_a_flood_of_everything_costs_little_memory(make: Any) -> None:
    watch = Watch(make(VOUCHED))
    for i in range(10_000):
        mac, ip = f"00:0d:{i >> 8 & 255:02x}:{i & 255:02x}:00:01", f"10.{i >> 8}.{i & 255}.9"
        frame = seen.Frame(mac, AGENT.mac, "in", b"x" * 1500)
        for what in (
            arp(mac, ip, ROUTER.ip), arp(mac, ROUTER.ip, op=2), seen.Packet(frame, ip, AGENT.ip),
            seen.Identity(frame, "mndp", mac, ip * 50, ip * 50, "6.1" * 200, "", i), seen.Tripwire(ip, i),
        ):  # fmt: skip
            if isinstance(what, watch.detector.wants):
                watch.see(what, 100 + i * 0.001)
    assert len({f.key for f in watch.findings}) <= 40
    assert len(watch.findings) <= 80
    assert len(watch.asks) <= 20
    assert weight(watch.detector) < 150_000
