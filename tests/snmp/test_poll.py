"""A look at a device as a pure thing: what is asked, what becomes of it, and what devices that lie, restart or renumber can't do."""

import random
import re

import pytest

from agent.collector import Failure
from agent.snmp import profile
from agent.snmp.counters import WRAP, Counters
from agent.snmp.hello import uptime_of
from agent.snmp.interfaces import Rules, clean
from agent.snmp.look import Get, Late, Walk
from agent.snmp.poll import AGAIN, Engine
from agent.snmp.sources import SLOW
from agent.snmp.values import number
from agent.snmp.wire import Value, parse_oid
from agent.structure import loads
from tests.snmp.shelf import Shelf, look, series

IF, IFX = "1.3.6.1.2.1.2.2.1", "1.3.6.1.2.1.31.1.1.1"
SYSTEM = {
    "1.3.6.1.2.1.1.1.0": "Switch, 8 ports",
    "1.3.6.1.2.1.1.2.0": Value("oid", (1, 3, 6, 1, 4, 1, 99999, 1)),
    "1.3.6.1.2.1.1.3.0": Value("timeticks", 100_000),
    "1.3.6.1.2.1.1.5.0": "switch-1",
}
IN, OUT = "interface_receive_bytes_total", "interface_transmit_bytes_total"


def ticks(seconds: float) -> dict[str, Value]:
    return {"1.3.6.1.2.1.1.3.0": Value("timeticks", int(seconds * 100))}


def port(
    index: int, name: object, *, up: bool = True, enabled: bool = True, kind: int = 6, octets: Value | None = None
) -> dict[str, object]:
    found = {
        f"{IF}.2.{index}": f"descr {index}",
        f"{IF}.3.{index}": kind,
        f"{IF}.5.{index}": Value("gauge32", 100_000_000),
        f"{IF}.7.{index}": 1 if enabled else 2,
        f"{IF}.8.{index}": 1 if up else 2,
        f"{IF}.14.{index}": Value("counter32", 7),
        f"{IFX}.15.{index}": Value("gauge32", 100),
        f"{IFX}.18.{index}": f"to {name!r}",
    }
    if name is not None:
        found[f"{IFX}.1.{index}"] = name
    if octets is None or octets.kind == "counter64":
        found[f"{IFX}.6.{index}"] = octets or Value("counter64", 10**12 + index)
    else:
        found[f"{IF}.10.{index}"] = octets
    return found


def engine(*names: str, **options) -> Engine:
    return Engine("switch-1", profile.shipped(), wanted=list(names or ("system", "interfaces")), **options)


def shelf(*ports: dict[str, object]) -> Shelf:
    return Shelf({**SYSTEM, **{oid: v for p in ports for oid, v in p.items()}})


def c32(n: int) -> Value:
    return Value("counter32", n % WRAP)


# -- what is asked ------------------------------------------------------------------------------------------------------------------


def test_a_first_look_tells_who_it_is_and_its_ports():
    picture = look(engine(), shelf(port(1, "ether1"), port(2, "ether2", up=False), port(3, "lo", kind=24)), 0)

    assert picture.failure is None
    assert picture.identity[:3] == ("switch-1", "switch-1", "1.3.6.1.4.1.99999.1")
    assert series(picture, "device_info") == {("switch-1", "", "", ""): 1.0}
    assert series(picture, "uptime_seconds") == {(): 1000.0}
    assert series(picture, "interface_up") == {("ether1",): 1.0}
    assert series(picture, IN) == {("ether1",): 10**12 + 1}
    assert series(picture, "interface_speed_bytes") == {("ether1",): 12_500_000}
    assert series(picture, "interface_info") == {("ether1", "to 'ether1'", "ethernet"): 1.0}
    assert series(picture, "interfaces") == {("shown",): 1.0, ("filtered",): 2.0, ("capped",): 0.0}


def test_what_hardly_changes_is_read_every_ten_minutes_and_32_bit_only_where_64_are_missing():
    e, device = engine(), shelf(port(1, "ether1"), port(2, "ether2"))
    look(e, device, 0)
    first = set(device.walked())
    look(e, device, 60)
    second = set(device.walked())
    look(e, device, SLOW)

    slow = {parse_oid(f"{IFX}.1"), parse_oid(f"{IFX}.18"), parse_oid(f"{IF}.3"), parse_oid(f"{IFX}.15")}
    assert slow <= first
    assert not slow & second
    assert slow <= set(device.walked())
    assert parse_oid(f"{IF}.10") not in first
    assert {parse_oid(f"{IF}.8"), parse_oid(f"{IFX}.6")} <= second
    assert len(second) < len(first)


def test_of_many_ports_only_the_few_that_are_shown_are_asked_for():
    e, device = engine(), shelf(*(port(i, f"ether{i}", up=i == 3) for i in range(1, 25)))
    look(e, device, 0)

    for now in (60, 120):
        picture = look(e, device, now)

        assert parse_oid(f"{IFX}.6") not in device.walked()
        assert any(parse_oid(f"{IFX}.6.3") in ask.oids for ask in device.asked if isinstance(ask, Get))
        assert series(picture, IN) == {("ether3",): 10**12 + 3}
        assert series(picture, "interface_speed_bytes") == {("ether3",): 12_500_000}


def test_a_new_interface_has_its_name_and_description_at_once():
    e, device = engine(), shelf(port(1, "ether1"))
    look(e, device, 0)
    device.put(port(9, "sfp1"))

    picture = look(e, device, 60)

    assert series(picture, "interface_info") == {("ether1", "to 'ether1'", "ethernet"): 1.0, ("sfp1", "to 'sfp1'", "ethernet"): 1.0}


def test_profiles_apply_by_kind_and_by_what_is_there_and_are_looked_for_again():
    device = shelf(port(1, "ether1"))
    e = Engine("switch-1", profile.shipped())

    assert look(e, device, 0).profiles == ["system", "interfaces"]
    device.put({"1.3.6.1.2.1.33.1.2.4.0": 90})
    assert look(e, device, 60).profiles == ["system", "interfaces"]
    picture = look(e, device, AGAIN + 60)
    assert picture.profiles == ["system", "interfaces", "ups"]
    assert series(picture, "ups_charge_ratio") == {(): 0.9}


def test_profiles_are_chosen_over_several_looks_where_a_device_is_too_slow_for_one():
    device, e = shelf(port(1, "ether1")), Engine("switch-1", profile.shipped())
    asked = []

    def slow(ask: Get | Walk) -> dict:
        if isinstance(ask, Walk) and ask.repetitions:
            if len(asked) % 10 == 9:
                asked.append(None)
                raise Late("timeout", "too slow")
            asked.append(ask.columns)
        return device.answer(ask)

    first = look(e, device, 0, slow)
    assert first.failure is not None
    pictures = [look(e, device, 60 * n, slow) for n in range(1, 6)]

    assert pictures[-1].profiles == ["system", "interfaces"]
    assert len(asked) - asked.count(None) == len({a for a in asked if a})


def test_an_agent_that_shows_nothing_is_told_from_one_that_is_silent():
    with pytest.raises(Failure, match="shows nothing") as e:
        look(engine(), Shelf({}), 0)

    assert e.value.reason == "answer"


# -- names --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"ether1", "ether1"),
        (b"  wan \x00\x00", "wan"),
        (b"lantai\xff\xfe", "lantai\\xff\\xfe"),
        ("kantor désa".encode(), "kantor désa"),
        (b"a\nb\x1b[31mc\x7f", "ab[31mc"),
        (b"x" * 400, "x" * 63 + "…"),
        (b"\xff" * 400, "\\xff" * 15 + "\\xf…"),
        (7, "7"),
        ((1, 3, 6), "1.3.6"),
    ],
)
def test_a_devices_text_as_a_label(raw: object, told: str):
    assert clean(raw) == told
    assert len(clean(raw)) <= 64


def test_names_fall_back_and_duplicates_have_their_numbers():
    picture = look(engine(), shelf(port(1, "sama"), port(2, "sama"), port(3, ""), port(4, None), port(5, "x" * 99), port(6, "x" * 98)), 0)

    long = "x" * 62
    assert set(series(picture, "interface_up")) == {("sama#1",), ("sama#2",), ("descr 3",), ("descr 4",), (f"{long}#5",), (f"{long}#6",)}


def test_a_device_without_a_list_of_interfaces_has_numbers():
    device = Shelf({**SYSTEM, "1.3.6.1.2.1.10.7.2.1.19.4": 3})

    assert series(look(engine("ether"), device, 0), "interface_full_duplex") == {("4",): 1.0}


def test_ports_that_only_the_newer_table_has_are_shown():
    device = Shelf({**SYSTEM, f"{IF}.8.1": 1, f"{IFX}.1.1001": "GigabitEthernet 1/1", f"{IFX}.6.1001": Value("counter64", 5)})

    assert series(look(engine(), device, 0), IN) == {("GigabitEthernet 1/1",): 5.0}


# -- which are shown ----------------------------------------------------------------------------------------------------------------


def test_a_port_that_was_up_once_stays_and_is_remembered_over_a_restart_of_the_agent():
    e, device = engine(), shelf(port(1, "ether1"), port(2, "ether2", up=False))
    look(e, device, 0)
    device.put(port(1, "ether1", up=False))

    picture = look(e, device, 60)

    assert series(picture, "interface_up") == {("ether1",): 0.0}
    assert series(look(engine(up_once=e.interfaces.up_once), device, 0), "interface_up") == {("ether1",): 0.0}
    assert series(look(engine(), device, 0), "interface_up") == {}


@pytest.mark.parametrize(
    ("rules", "shown"),
    [
        (Rules(), {"ether1"}),
        (Rules(down=True), {"ether1", "ether2"}),
        (Rules(virtual=True), {"ether1", "vlan10"}),
        (Rules(drop=(re.compile("ether"),)), set()),
        (Rules(keep=(re.compile("^vlan"),)), {"ether1", "vlan10"}),
        (Rules(keep=(re.compile("ether2"),), drop=(re.compile("."),)), {"ether2"}),
        (Rules(keep=(re.compile("budi"),)), {"ether1", "<pppoe-budi>"}),
        (Rules(virtual=True, down=True), {"ether1", "ether2", "vlan10"}),
    ],
)
def test_which_interfaces_are_shown(rules: Rules, shown: set[str]):
    device = shelf(port(1, "ether1"), port(2, "ether2", up=False), port(3, "vlan10", kind=135), port(4, "<pppoe-budi>", kind=23))

    picture = look(engine(rules=rules), device, 0)

    assert {name for (name,) in series(picture, "interface_enabled")} == shown


# -- counters -----------------------------------------------------------------------------------------------------------------------


def test_a_counter_of_32_bit_that_turns_over_goes_on():
    start = WRAP - 500_000
    e, device = engine(), shelf(port(1, "ether1", octets=c32(start)))
    look(e, device, 0)

    told = []
    for n in range(1, 4):
        device.put({f"{IF}.10.1": c32(start + n * 300_000_000), **ticks(1000 + 60 * n)})
        told.append(series(look(e, device, 60 * n), IN)["ether1",])

    assert told == [start + n * 300_000_000 for n in (1, 2, 3)]
    assert e.counters.rebased == {"ronda_snmp_interface_receive_bytes_total|ether1"}


def test_a_turn_that_the_wire_cannot_have_carried_is_a_new_beginning():
    e, device = engine(), shelf(port(1, "ether1", octets=c32(3_000_000_000)))
    look(e, device, 0)
    device.put({f"{IF}.10.1": c32(2_900_000_000), **ticks(1060)})

    fallen = series(look(e, device, 60), IN)["ether1",]
    device.put({f"{IF}.10.1": c32(2_900_001_000), **ticks(1120)})

    assert fallen == 0.0
    assert series(look(e, device, 120), IN)["ether1",] == 1000.0


def test_a_restarted_device_counts_from_the_beginning_and_never_leaps():
    e, device = engine(), shelf(port(1, "ether1", octets=c32(4_000_000_000)))
    look(e, device, 0)
    device.put({f"{IF}.10.1": c32(5_000_000), **ticks(40)})

    picture = look(e, device, 60)

    assert series(picture, IN)["ether1",] == 5_000_000
    assert [(ev.kind, ev.fields["uptime"]) for ev in picture.events] == [("device_restarted", "40")]
    assert series(picture, "restarts_total") == {(): 1.0}


def test_an_answering_program_that_was_restarted_while_counters_went_on_makes_no_traffic():
    e, device = engine(), shelf(port(1, "ether1", octets=c32(1_000_000_000)), {"1.3.6.1.2.1.25.1.1.0": Value("timeticks", 90_000_000)})
    look(e, device, 0)
    device.put({f"{IF}.10.1": c32(1_500_000_000), **ticks(5), "1.3.6.1.2.1.25.1.1.0": Value("timeticks", 90_006_000)})

    picture = look(e, device, 60)

    assert series(picture, IN)["ether1",] == 0.0
    assert picture.events == []
    assert series(picture, "uptime_seconds") == {(): 900_060.0}


def test_a_discontinuity_that_the_device_tells_of_is_a_new_beginning():
    e, device = engine(), shelf(port(1, "ether1", octets=c32(1_000)), {f"{IFX}.19.1": Value("timeticks", 0)})
    look(e, device, 0)
    look(e, device, SLOW)
    device.put({f"{IF}.10.1": c32(2_000_000_000), f"{IFX}.19.1": Value("timeticks", 99), **ticks(2000)})

    assert series(look(e, device, SLOW + 60), IN)["ether1",] == 0.0


def test_renumbered_ports_keep_their_series():
    e, device = engine(), shelf(port(1, "ether1", octets=c32(1_000_000)), port(2, "ether2", octets=c32(9_000_000)))
    look(e, device, 0)
    device.drop(IF), device.drop(IFX)
    device.put({**port(1, "ether2", octets=c32(9_000)), **port(2, "ether1", octets=c32(1_000)), **ticks(30)})

    picture = look(e, device, 60)

    assert series(picture, IN) == {("ether1",): 1_000, ("ether2",): 9_000}
    assert set(series(picture, "interface_info")) == {("ether1", "to 'ether1'", "ethernet"), ("ether2", "to 'ether2'", "ethernet")}


def test_a_series_does_not_change_between_64_and_32_bit():
    e, device = engine(), shelf(port(1, "ether1", octets=Value("counter64", 10**13)))
    device.put({f"{IF}.10.1": c32(77)})
    look(e, device, 0)
    del device.rows[parse_oid(f"{IFX}.6.1")]

    assert series(look(e, device, SLOW), IN) == {}
    device.put({f"{IFX}.6.1": Value("counter64", 10**13 + 5)})
    assert series(look(e, device, 2 * SLOW), IN) == {("ether1",): 10**13 + 5}


def test_a_series_that_was_rebased_starts_at_nothing_in_the_next_run():
    e = engine(rebased={"ronda_snmp_interface_receive_bytes_total|ether1"})

    assert series(look(e, shelf(port(1, "ether1", octets=c32(3_000_000_000))), 0), IN) == {("ether1",): 0.0}


@pytest.mark.parametrize("seed", range(100))
def test_whatever_happens_no_series_leaps_further_than_the_wire_could_carry(seed: int):
    """Traffic, restarts of the device, of the program that answers and of the agent, in any order: as Prometheus reads it."""
    chance, counters, speed = random.Random(seed), Counters(), 12_500_000.0
    raw, epoch, now = chance.randrange(WRAP), 0, 0.0
    last = counters.take("x", (1,), c32(raw), now, epoch, speed) or 0.0
    for _ in range(40):
        seconds = chance.choice([60, 60, 61, 300])
        now += seconds
        added, what = int(chance.random() * speed * seconds * chance.choice([0, 0.01, 1])), chance.random()
        raw = int(chance.random() * added) if what < 0.06 else (raw + added) % WRAP
        epoch += what < 0.12
        if 0.12 <= what < 0.18:
            counters = Counters(counters.rebased)
        told = counters.take("x", (1,), c32(raw), now, epoch, speed)

        assert told is not None
        assert (told - last if told >= last else told) <= speed * 1.25 * (seconds + 10)
        last = told


@pytest.mark.parametrize(
    ("ticks_", "host", "engine_", "told"),
    [
        (4_300, -1, -1, 43.0),
        (4_300, 900_000, -1, 9_000.0),  # the box is up longer than the program that answers
        (900_000_000, 5, -1, 9_000_000.0),  # nonsense of a device
        (1_000, -1, 42_949_672 + 10, 42_949_682.0),  # turned over after 497 days
        (1_000, 3_000, 42_949_672 + 10, 42_949_702.96),  # and so has the box's
        (-1, -1, 50, -1.0),
        (-1, 700, 50, 7.0),
    ],
)
def test_uptime(ticks_: int, host: int, engine_: int, told: float):
    said = {"1.3.6.1.2.1.1.3.0": ticks_, "1.3.6.1.2.1.25.1.1.0": host, "1.3.6.1.6.3.10.2.1.3.0": engine_}

    assert uptime_of({parse_oid(o): Value("timeticks", n) for o, n in said.items() if n >= 0}) == told


def test_an_uptime_that_turns_over_is_no_restart():
    e, device = engine(), shelf(port(1, "ether1", octets=c32(1_000)))
    device.put({"1.3.6.1.2.1.1.3.0": Value("timeticks", WRAP - 3000)})
    look(e, device, 0)
    device.put({"1.3.6.1.2.1.1.3.0": Value("timeticks", 3000), f"{IF}.10.1": c32(5_000)})

    picture = look(e, device, 60)

    assert picture.events == []
    assert series(picture, IN) == {("ether1",): 5_000}


# -- a device that lies, or breaks --------------------------------------------------------------------------------------------------


def test_values_of_a_wrong_type_are_left_out_and_counted():
    device = shelf(port(1, "ether1"))
    device.put({f"{IFX}.6.1": "banyak", f"{IF}.8.1": 1, f"{IFX}.15.1": Value("oid", (1, 3)), f"{IF}.5.1": "x", f"{IFX}.18.1": 5})
    device.put({"1.3.6.1.2.1.1.2.0": "no oid", "1.3.6.1.2.1.1.5.0": 77, "1.3.6.1.2.1.1.3.0": "long"})

    picture = look(engine(), device, 0)

    assert series(picture, IN) == {}
    assert series(picture, "interface_speed_bytes") == {}
    assert series(picture, "interface_info") == {("ether1", "5", "ethernet"): 1.0}
    assert series(picture, "values_refused") == {(): 3.0}
    assert (picture.identity.name, picture.identity.uptime) == ("77", -1.0)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Value("string", b"12.5"), 12.5),
        (Value("string", b" -7 "), -7.0),
        (Value("string", b"Unknown"), None),
        (Value("string", b"nan"), None),
        (Value("string", b"1e999"), None),
        (Value("opaque", b"\x9f\x78\x04\x41\x48\x00\x00"), 12.5),
        (Value("opaque", b"\x9f\x78\x04\x7f\x80\x00\x00"), None),  # infinite
        (Value("opaque", b"\x9f\x78\x04\x41"), None),
        (Value("address", b"\x0a\x00\x00\x01"), None),
        (Value("oid", (1, 3)), None),
        (Value("integer", -5), -5.0),
    ],
)
def test_numbers(value: Value, told: float | None):
    assert number(value, "") == told


def test_a_part_of_a_text_is_a_number_where_the_profile_says_so():
    assert number(Value("string", b"Temp: 41 C"), r"(\d+) C") == 41.0


def test_an_endless_table_is_cut():
    device = Shelf({**SYSTEM, **{f"1.3.6.1.2.1.25.3.3.1.2.{i}": 50 for i in range(1, 400)}})

    picture = look(engine("host-resources"), device, 0)

    assert len(series(picture, "cpu_ratio")) == 64
    assert series(picture, "rows_cut") == {(): 1.0}


def test_a_table_that_fails_costs_only_itself_and_its_begin_and_end_are_told():
    e, device = engine("interfaces", "host-resources"), shelf(port(1, "ether1"), {"1.3.6.1.2.1.25.3.3.1.2.1": 50})
    look(e, device, 0)
    device.broken[parse_oid("1.3.6.1.2.1.25.3")] = Failure("answer", "OIDs do not increase")

    pictures = [look(e, device, 60 * n) for n in (1, 2)]
    device.broken.clear()
    last = look(e, device, 180)

    assert [[ev.kind for ev in p.events] for p in (*pictures, last)] == [["snmp_table_failed"], [], ["snmp_table_back"]]
    assert pictures[1].failure is None
    assert series(pictures[1], "table_failures_total") == {("host-resources",): 2.0}
    assert series(pictures[1], "cpu_ratio") == {}
    assert series(pictures[1], IN) == {("ether1",): 10**12 + 1}
    assert series(last, "cpu_ratio") == {("1",): 0.5}


def test_a_device_that_falls_silent_in_the_middle_ends_the_look():
    e, device = engine("interfaces", "host-resources", "ups"), shelf(port(1, "ether1"), {"1.3.6.1.2.1.33.1.2.4.0": 90})
    look(e, device, 0)

    def dying(ask: Get | Walk) -> dict:
        if len(device.asked) >= 2:
            device.asked.append(ask)
            raise Failure("timeout", "no answer in 2 x 2 s")
        return device.answer(ask)

    picture = look(e, device, 60, dying)

    assert picture.failure is not None
    assert picture.failure.reason == "timeout"
    assert len(device.asked) == 4
    assert picture.events == []


def test_where_the_names_cannot_be_read_again_nothing_is_told_of_interfaces():
    e, device = engine("interfaces"), shelf(port(1, "ether1"), port(2, "ether2"))
    look(e, device, 0)
    device.put(ticks(10))
    device.broken[parse_oid(f"{IFX}.1")] = Failure("answer", "nonsense")

    picture = look(e, device, 60)

    assert series(picture, IN) == {}
    assert series(picture, "table_failures_total") == {("interfaces",): 1.0}


# -- the cap ------------------------------------------------------------------------------------------------------------------------


def test_the_cap_cuts_whole_rows_of_the_least_important_tables_last_first_and_says_so_once():
    e = engine("system", "interfaces", "host-resources", series=50)
    device = shelf(*(port(i, f"ether{i}") for i in range(1, 9)), {f"1.3.6.1.2.1.25.3.3.1.2.{i}": 50 for i in range(1, 9)})

    first, second = look(e, device, 0), look(e, device, 60)

    names = [name for (name,) in series(first, "interface_up")]
    assert names == [f"ether{i}" for i in range(1, len(names) + 1)]
    assert 4 < len(names) < 9
    assert {len(series(first, m)) for m in ("interface_up", IN, "interface_info")} == {len(names)}
    assert series(first, "cpu_ratio") == {}
    assert len(first.samples) <= 50
    assert series(first, "interfaces")["capped",] == 8 - len(names)
    assert series(first, "series_capped")[()] == series(second, "series_capped")[()] > 8
    assert [ev.kind for ev in (*first.events, *second.events)] == ["snmp_capped"]


# -- tables -------------------------------------------------------------------------------------------------------------------------

METER = """
profile: meter
metrics:
  - {{name: ronda_snmp_meter_total, help: "x", type: counter, labels: [room]}}
  - {{name: ronda_snmp_meter_watts, help: "x", labels: [room]}}
  - {{name: ronda_snmp_meter_rooms, help: "x"}}
tables:
  - table: rooms
    labels: {{room: {label}}}
    unique: {unique}
    columns:
      - metric: ronda_snmp_meter_watts
        oid: 1.3.6.1.4.1.99999.1.2
        scale: 0.1
        absent: [-1]
        where: {{oid: 1.3.6.1.4.1.99999.1.4, is: [1]}}
    count: {{metric: ronda_snmp_meter_rooms, oid: 1.3.6.1.4.1.99999.1.2, where: {{oid: 1.3.6.1.4.1.99999.1.4, is: [1]}}}}
"""
ROOM = "{oid: 1.3.6.1.4.1.99999.1.3}"
ROOMS = [("1.1", "aula", 10, 1), ("1.2", "aula", 20, 1), ("2.1", "gudang", -1, 1), ("2.2", "dapur", 50, 2), ("3.1", "lobi", 7, 1)]


def meter(label: str = ROOM, unique: str = "number") -> dict:
    made = loads(METER.format(label=label, unique=unique).encode(), profile.Profile, "meter.yaml")
    e = Engine("meter", {"meter": made}, wanted=["meter"])
    base = "1.3.6.1.4.1.99999.1"
    device = Shelf(SYSTEM)
    for index, room, watts, on in ROOMS:
        device.put({f"{base}.2.{index}": watts, f"{base}.3.{index}": room, f"{base}.4.{index}": on})
    picture = look(e, device, 0)
    assert series(picture, "meter_rooms") == {(): 4.0}
    return {room: watts for (room,), watts in series(picture, "meter_watts").items()}


@pytest.mark.parametrize(
    ("unique", "told"),
    [
        ("number", {"aula": 1.0, "aula#2": 2.0, "lobi": 0.7}),
        ("first", {"aula": 1.0, "lobi": 0.7}),
        ("sum", {"aula": 3.0, "lobi": 0.7}),
        ("max", {"aula": 2.0, "lobi": 0.7}),
        ("min", {"aula": 1.0, "lobi": 0.7}),
    ],
)
def test_rows_that_are_called_alike(unique: str, told: dict):
    assert meter(unique=unique) == told


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("{index: 1}", {"1": 1.0, "1#2": 2.0, "3": 0.7}),
        ("{index: -1}", {"1": 1.0, "2": 2.0, "1#2": 0.7}),
        ("{index: text}", {"1.1": 1.0, "1.2": 2.0, "3.1": 0.7}),
        ("{index: 1, names: {3: tiga}}", {"1": 1.0, "1#2": 2.0, "tiga": 0.7}),
        ('{oid: 1.3.6.1.4.1.99999.1.3, match: "^(.)"}', {"a": 1.0, "a#2": 2.0, "l": 0.7}),
        ("{index: 7}", {}),
    ],
)
def test_where_labels_come_from(label: str, told: dict):
    assert meter(label) == told


def test_a_set_of_states():
    device = Shelf({**SYSTEM, "1.3.6.1.2.1.33.1.4.1.0": 5, "1.3.6.1.2.1.33.1.2.7.0": 0})

    picture = look(engine("ups"), device, 0)

    assert {state for (state,), on in series(picture, "ups_status").items() if on} == {"battery"}
    assert len(series(picture, "ups_status")) == 7
    assert series(picture, "ups_on_battery") == {(): 1.0}
    assert series(picture, "temperature_celsius") == {}


# -- for the detectors --------------------------------------------------------------------------------------------------------------


def mac(n: int) -> bytes:
    return bytes((0x4C, 0x5E, 0x0C, 0, 0, n))


def test_the_arp_table_goes_to_the_board_and_into_no_label():
    old, new = "1.3.6.1.2.1.4.22.1", "1.3.6.1.2.1.4.35.1"
    device = Shelf(SYSTEM)
    device.put({f"{old}.2.3.192.0.2.7": mac(1), f"{old}.4.3.192.0.2.7": 3, f"{old}.2.3.192.0.2.1": mac(2), f"{old}.4.3.192.0.2.1": 4})
    device.put(
        {f"{old}.2.3.192.0.2.8": mac(3), f"{old}.4.3.192.0.2.8": 2, f"{old}.2.3.192.0.2.9": b"short", f"{old}.2.3.192.0.2.256": mac(9)}
    )
    six = ".".join(map(str, bytes.fromhex("20010db8000000000000000000000005")))
    device.put({f"{new}.4.3.2.16.{six}": mac(5), f"{new}.6.3.2.16.{six}": 3})

    picture = look(engine("arp"), device, 0)

    assert picture.arp is not None
    assert picture.arp.entries == {"192.0.2.7": mac(1).hex(":"), "192.0.2.1": mac(2).hex(":"), "2001:db8::5": mac(5).hex(":")}
    assert picture.arp.static == {"192.0.2.1"}
    assert not any("192.0.2" in label or "4c:5e" in label for s in picture.samples for label in s.labels)


def test_the_bridge_is_read_every_five_minutes_and_names_its_ports():
    base = "1.3.6.1.2.1.17"
    device = shelf(port(101, "ether1"), port(102, "ether2", up=False), port(103, "uplink"))
    device.put({f"{base}.1.4.1.2.{n}": 100 + n for n in (1, 2, 3)})
    table = {
        **{(10, *mac(n)): 1 for n in (1,)},
        (10, *mac(2)): 2,
        (20, *mac(2)): 3,
        **{(10, *mac(n)): 3 for n in range(10, 16)},
        (10, *mac(99)): 0,
    }
    device.put({f"{base}.7.1.2.2.1.2.{'.'.join(map(str, i))}": p for i, p in table.items()})
    device.put({f"{base}.7.1.2.2.1.2.10.{'.'.join(map(str, mac(50)))}": 1, f"{base}.7.1.2.2.1.3.10.{'.'.join(map(str, mac(50)))}": 4})
    e = engine("bridge")

    picture, later, last = (look(e, device, now) for now in (0, 60, 300))

    assert picture.bridge is not None
    assert picture.bridge.ports == {
        mac(1).hex(":"): "ether1",
        mac(2).hex(":"): "ether2",
        **{mac(n).hex(":"): "uplink" for n in range(10, 16)},
    }
    assert picture.bridge.shared == {"uplink"}
    assert later.bridge is None
    assert series(later, "bridge_entries") == {(): 8.0}
    assert last.bridge == picture.bridge


def test_a_port_of_which_no_interface_is_told_has_nobody_elses_name():
    base = "1.3.6.1.2.1.17"
    device = shelf(port(1, "ether1"), port(2, "ether2"), port(3, "ether3"))
    device.put({f"{base}.4.3.1.2.{'.'.join(map(str, mac(n)))}": n for n in (1, 2, 3)})
    device.put({f"{base}.4.3.1.3.{'.'.join(map(str, mac(n)))}": status for n, status in ((1, 3), (2, 3), (3, 2))})

    alone = look(engine("bridge"), device, 0).bridge
    device.put({f"{base}.1.4.1.2.1": 3})
    told = look(engine("bridge"), device, 0).bridge

    assert alone
    assert alone.ports == {mac(1).hex(":"): "ether1", mac(2).hex(":"): "ether2"}, "ports are numbered as interfaces; one is no longer there"
    assert told
    assert told.ports == {mac(1).hex(":"): "ether3", mac(2).hex(":"): "2"}


def test_names_that_change_at_each_look_leave_nothing_behind():
    e, device = engine("interfaces"), shelf(port(1, "ether1"))
    for n in range(50):
        device.put({"1.3.6.1.2.1.31.1.1.1.1.1": f"ether-{n}".encode()})
        picture = look(e, device, n * 600.0)

    assert series(picture, "interface_speed_bytes").keys() == {("ether-49",)}
    assert e.interfaces.speed.keys() == {"ether-49"}
