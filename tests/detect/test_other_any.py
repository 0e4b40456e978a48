"""Whatever comes, in any order, to detectors of servers, routers, scans, tripwires, floods, liars: no exception, no growth, no address."""

import json
import types
import typing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.detect import seen
from agent.detect.canary import NamePoisoner
from agent.detect.dhcp import DhcpStarvation, RogueDhcp
from agent.detect.floods import Flood
from agent.detect.model import Ask, Detector, Vouched
from agent.detect.routers6 import RogueRa
from agent.detect.scans import PortScan
from agent.detect.service import ServiceLost
from agent.detect.tripwires import Tripwire
from tests.detect.lan import ADDRESSES, ATTACKER, weight
from tests.detect.officeday import AGENT, HERE, ROUTER

DETECTORS = (RogueDhcp, DhcpStarvation, ServiceLost, RogueRa, PortScan, Tripwire, Flood, NamePoisoner)
KINDS = ["discover", "request", "offer", "ack", "nak", "advertise", "reply", "ronda-probe"]
PLACES = ["192.0.2.0/24", "192.0.2.66", "0.0.0.0", "255.255.255.255", "fe80::1", "fd00::/64"]
TEXTS = st.sampled_from([*KINDS, *PLACES, ROUTER.mac, AGENT.mac, ATTACKER.mac, ROUTER.ip, AGENT.ip, ""]) | st.text(max_size=20)
COUNTERS = ["contacts", "contacts_lost", "ListenDrops", "SyncookiesSent", "half_open", "NoPorts", "RcvbufErrors", "x"]
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXTS,
    int: st.integers(-(2**40), 2**40) | st.sampled_from([0, 22, 80, 255, 445, 1800]),
    float: st.floats(),
    bool: st.booleans(),
    bytes: st.binary(max_size=16),
}


def anything(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type: of an observation, all its fields any."""
    if hint in PLAIN:
        return PLAIN[hint]
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        return st.builds(hint, *map(anything, typing.get_type_hints(hint).values()))
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from(arguments)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return st.one_of([st.none() if one is type(None) else anything(one) for one in arguments])
    if typing.get_origin(hint) is tuple:
        if arguments[-1] is ...:
            return st.lists(anything(arguments[0]), max_size=3).map(tuple)
        return st.tuples(*map(anything, arguments))
    return st.dictionaries(*map(anything, arguments), max_size=4)


def observations(kinds: tuple[type, ...]) -> st.SearchStrategy[Any]:
    made = [anything(kind) for kind in kinds] + [st.just(HERE)] * (seen.Network in kinds)
    if seen.Counters in kinds:
        made.append(st.builds(seen.Counters, st.dictionaries(st.sampled_from(COUNTERS), st.floats() | st.sampled_from([0.0, 1e6]))))
    return st.one_of(*made)


@pytest.mark.parametrize("make", DETECTORS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_anything_in_any_field(make: Any, data: st.DataObject) -> None:
    detector: Detector = make(Vouched(dhcp_servers=frozenset(data.draw(st.sampled_from([(), ("192.0.2.1",)])))))
    pauses = st.sampled_from([0.0, 0.01, 1.0, 30.0, 300.0, 90_000.0])
    at = 0.0
    for pause, what in data.draw(st.lists(st.tuples(pauses, observations(detector.wants)), max_size=40)):
        at += pause
        for said in (*detector.see(what, at), *detector.tick(at)):
            if isinstance(said, Ask):
                assert said.target in HERE.gateways or len(said.target) <= 64
                continue
            assert said.rule == detector.rule.name
            assert not ADDRESSES.search(said.message)
            assert len(said.key) <= 100
            assert all(isinstance(value, str) and len(value) <= 255 for value in said.fields.values())
    assert weight(detector) < 50_000
    again: Detector = make(Vouched())
    if memory := json.loads(json.dumps(dict(detector.remember()))):
        again.recall(memory, 7.0)
        assert set(again.remember()) == set(memory)
    assert 0.0 <= again.coverage(frozenset()).share <= 1.0


@pytest.mark.parametrize("make", [make for make in DETECTORS if make(Vouched()).remember()])
@pytest.mark.parametrize("said", [{}, {"age": "x"}, {"age": None, "known": 3}, {"past": {}, "open": 4}, {"dhcp": 1, "promised": "soon"}])
def test_a_memory_that_is_none_is_refused(make: Any, said: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        make(Vouched()).recall(said, 0.0)
