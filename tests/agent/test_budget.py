"""What probes and push may cost: what stays in the office, how far the rest is stretched, and the count of a month over restarts."""

import datetime
import ipaddress
import json
import math
import random
import zoneinfo
from pathlib import Path

import pytest

from agent import budget
from agent.budget import DAY, LAN, LONGEST, PROBES_A_DAY, Month, Probe, Ration, Standing, plan
from agent.collector import Traffic
from agent.config import schema
from agent.net import Net, parse_networks, parse_networks6
from agent.structure import ConfigError, loads
from collectors import KINDS

ZONE = zoneinfo.ZoneInfo("Asia/Jakarta")
ROUTE = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
eth0\t00FEA8C0\t0200A8C0\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
NIL = "0" * 32
ROUTE6 = (  # a network, the default way, and what refuses where there is none
    f"20010db8{'0' * 24} 40 {NIL} 00 {NIL} 00000100 00000001 00000000 00000001     eth0\n"
    f"{NIL} 00 {NIL} 00 fe80{'0' * 27}1 00000400 00000001 00000000 00000003     eth0\n"
    f"{NIL} 00 {NIL} 00 {NIL} ffffffff 00000001 00000000 00200200       lo\n"
)


@pytest.fixture
def net(tmp_path: Path) -> Net:
    """A box in 192.168.0.0/24 with a tunnel to 10/8, whose resolver is its router."""
    for name, text in {
        "proc/net/route": ROUTE,
        "proc/net/ipv6_route": ROUTE6,
        "sys/class/net/eth0/flags": "0x1003\n",
        "sys/class/net/tun0/flags": "0x10d1\n",
        "etc/resolv.conf": "nameserver 192.168.0.1\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Net(tmp_path)


def config(text: str, push: str = "profile: metered"):
    return loads(
        f"site: x\npush: {{url: 'https://pusat.example.go.id', {push}}}\ncollectors:\n{text}".encode(), schema(KINDS), "agent.yaml"
    )


# -- what stays in the office


def test_networks_are_those_without_a_gateway() -> None:
    assert parse_networks(ROUTE) == [("eth0", ipaddress.ip_network("192.168.0.0/24")), ("tun0", ipaddress.ip_network("10.0.0.0/8"))]
    assert parse_networks6(ROUTE6) == [("eth0", ipaddress.ip_network("2001:db8::/64"))]
    assert (parse_networks(""), parse_networks6("")) == ([], [])


def test_a_tunnel_is_no_neighbour(net: Net) -> None:
    assert net.neighbours() == [ipaddress.ip_network("192.168.0.0/24"), ipaddress.ip_network("2001:db8::/64")]


@pytest.mark.parametrize(
    ("kind", "target", "here"),
    [
        ("icmp", "gateway", True), ("icmp", "192.168.0.9", True), ("icmp", "2001:db8::9", True), ("icmp", "fe80::1%eth0", True),
        ("icmp", "192.168.254.9", False), ("icmp", "1.1.1.1", False), ("icmp", "10.1.2.3", False), ("icmp", "printer.example", False),
        ("tcp", "192.168.0.9:25", True), ("tcp", "[2001:db8::9]:25", True), ("tcp", "gateway:80", True), ("tcp", "1.1.1.1:53", False),
        ("http", "http://192.168.0.9/", True), ("http", "https://[2001:db8::9]:8443/", True), ("http", "https://siak.example/", False),
        ("http", "http://localhost:8080/", True), ("dns", "resolver", True), ("dns", "9.9.9.9", False),
    ],
)  # fmt: skip
def test_what_stays_in_the_office(net: Net, kind: str, target: str, here: bool) -> None:
    assert budget.stays(kind, target, net.neighbours(), net.resolvers()) is here


def test_uplinks_are_named_by_label_or_source(net: Net) -> None:
    made = config("""
  icmp: [{target: gateway}, {target: 1.1.1.1, labels: {uplink: isp-a}}, {target: 8.8.8.8, source: wan2}, {target: 8.8.4.4, source: wan3},
         {target: 9.9.9.9, source: wan2, labels: {uplink: isp-b}}, {target: 149.112.112.112}]
  host: [{}]""")
    assert budget.uplinks(made.tasks(), net) == (
        {
            "icmp:gateway": LAN, "icmp:1.1.1.1": "isp-a", "icmp:8.8.8.8@wan2": "isp-b", "icmp:8.8.4.4@wan3": "wan3",
            "icmp:9.9.9.9@wan2": "isp-b", "icmp:149.112.112.112": "isp-a",
        },
        "isp-a",
    )  # fmt: skip


# -- the plan


def cost(probes, intervals) -> float:
    return sum(p.cost * DAY / intervals.get(p.name, p.interval) for p in probes if p.uplink != LAN)


W = [
    *(Probe(f"i{n}", "default", 1.0, 168) for n in range(9)), Probe("gateway", LAN, 1.0, 168),
    *(Probe(f"h{n}", "default", 15.0, 10_400) for n in range(5)), *(Probe(f"d{n}", "default", 15.0, 300) for n in range(5)),
]  # fmt: skip


def test_over_a_metered_uplink_probes_fit_into_their_day_and_the_lans_are_left_alone() -> None:
    made = plan("metered", W, {}, "default")

    assert 0.9 * PROBES_A_DAY < cost(W, made.intervals) <= PROBES_A_DAY
    assert "gateway" not in made.intervals
    assert made.intervals.keys() == {p.name for p in W if p.uplink != LAN}
    assert made.push == "metered"
    assert {made.intervals[p.name] / p.interval for p in W if p.name[0] == "h"} == {math.ceil(15 * made.factors["default"]) / 15}


def test_what_fits_is_left_as_it_is() -> None:
    few = [Probe("a", "default", 15.0, 168), Probe("b", "default", 300.0, 10_400)]

    assert plan("metered", few, {}, "default").intervals == {}
    assert plan("fibre", W, {}, "default") == ("fibre", {"default": 1.0}, {})


def test_uplinks_have_a_day_each() -> None:
    both = [Probe("a", "x", 1.0, 168), Probe("b", "y", 15.0, 168)]

    made = plan("metered", both, {}, "y")
    assert made.intervals == {"a": 2.0}
    assert made.factors["y"] == 1.0


def test_nothing_looks_less_often_than_every_hour_nor_more_often_than_it_should() -> None:
    dear = [Probe("a", "x", 15.0, 50e6), Probe("b", "x", 7200.0, 168)]

    assert plan("metered", dear, {}, "x").intervals == {"a": LONGEST, "b": 7200.0}
    assert plan("fibre", dear, {"x": Standing(5e9, 3e9, 10)}, "x").intervals == {"a": LONGEST, "b": 7200.0}


@pytest.mark.parametrize("seed", range(200))
def test_whatever_there_is_to_do_it_fits_or_all_of_it_is_as_rare_as_may_be(seed: int) -> None:
    dice = random.Random(seed)
    probes = [
        Probe(f"p{n}", "x", dice.choice((1.0, 15.0, 60.0, 300.0, 7200.0)), dice.choice((0.0, 168, 10_400, 1e6, 50e6)))
        for n in range(dice.randrange(1, 30))
    ]
    a_day = dice.choice((0.0, 1e5, 1e6, 1e7, 1e8, 1e9))
    made = plan("fibre", probes, {"x": Standing(0, a_day * 10, 10)}, "elsewhere")

    assert cost(probes, made.intervals) <= a_day or all(made.intervals.get(p.name, p.interval) >= LONGEST for p in probes if p.cost)
    assert all(made.intervals.get(p.name, p.interval) >= p.interval for p in probes)
    if cost(probes, {}) <= a_day:
        assert made.intervals == {}
    elif 1.1 < made.factors["x"] < LONGEST / 60:  # and no rarer than it must be
        assert cost(probes, {n: max(i / 1.5, 1.0) for n, i in made.intervals.items()}) > a_day / 1.6


def test_a_budget_that_is_enough_changes_nothing() -> None:
    small = [Probe("a", "default", 1.0, 168)]  # 14.5 MB a day

    assert plan("fibre", small, {"default": Standing(0, 3e9, 30)}, "default") == ("fibre", {"default": 1.0}, {})


def test_a_budget_slows_by_degrees_and_lasts_to_the_end_of_the_month() -> None:
    """Day by day, with what the plan of that day costs: the bill is never reached, and push is slowed before probes come to a stop."""
    for gigabytes in (0.4, 1.0, 3.0, 10.0):
        used, last = 0.0, "fibre"
        for day in range(30):
            made = plan("fibre", W, {"default": Standing(used, gigabytes * 1e9, 30 - day)}, "default", last)
            last = made.push
            used += cost(W, made.intervals) + budget.cost_of("fibre", made.push)
            assert max(made.intervals.values(), default=0) <= LONGEST
        assert used <= gigabytes * 1e9
        assert used >= 0.8 * gigabytes * 1e9  # and what was paid for is used
        assert last == ("fibre" if gigabytes >= 3 else "metered")


def test_an_expensive_first_week_makes_the_rest_slower_and_push_goes_on_when_nothing_is_left() -> None:
    def at(used: float, days: float):
        return plan("fibre", W, {"default": Standing(used, 3e9, days)}, "default")

    factors = [at(used, 23).factors["default"] for used in (0.7e9, 1.5e9, 2.5e9, 2.9e9)]
    assert factors == sorted(set(factors))
    assert (at(0.0, 30).push, at(2.9e9, 23).push) == ("fibre", "metered")
    nothing = at(3.1e9, 5)
    assert nothing.push == "metered"
    assert set(nothing.intervals.values()) == {LONGEST}


def test_push_does_not_go_to_and_fro() -> None:
    edge = Standing(0.0, 30 * 4 * 15e6 * 1.05, 30)  # just enough for fibre, not for coming back to it

    assert plan("fibre", [], {"default": edge}, "default", "fibre").push == "fibre"
    assert plan("fibre", [], {"default": edge}, "default", "metered").push == "metered"
    assert plan("metered", [], {"default": Standing(0, 1e12, 30)}, "default").push == "metered"


# -- the month


def at(text: str) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp()


def test_a_month_ends_at_the_offices_midnight() -> None:
    assert budget.month(at("2026-11-01T00:00"), ZONE) == ("2026-11", 30.0)
    name, days = budget.month(at("2026-12-31T23:59:30"), ZONE)
    assert name == "2026-12"
    assert 0 < days < 1 / 1440


def test_the_months_count_survives_a_restart_and_begins_anew_only_when_that_is_sure(tmp_path: Path) -> None:
    first = Month(tmp_path)
    first.turn("2026-11", sure=False)
    first.add("isp-a", 1e6)
    first.save(0.0, 3e9)
    again = Month(tmp_path)
    assert (again.name, again.used) == ("2026-11", {"isp-a": 1e6})
    for name, sure in (("1970-01", False), ("2029-11", False), ("2026-11", True)):  # a box without a clock chip
        again.turn(name, sure=sure)
        assert again.used == {"isp-a": 1e6}
    again.turn("2026-12", sure=True)
    assert (again.name, again.used) == ("2026-12", {})


def test_a_month_that_a_wrong_clock_has_named_is_put_right_without_forgetting(tmp_path: Path) -> None:
    month = Month(tmp_path)
    month.turn("2029-11", sure=False)
    month.add("x", 5.0)
    month.turn("2026-11", sure=True)
    assert (month.name, month.used) == ("2026-11", {"x": 5.0})


def test_the_file_is_written_sparingly(tmp_path: Path) -> None:
    month = Month(tmp_path)
    month.turn("2026-11", sure=True)
    written = []
    for minute in range(24 * 60):
        month.add("x", 70_000.0)  # 100 MB a day of 3 GB
        before = month.path.stat().st_ino if month.path.exists() else 0
        month.save(minute * 60.0, 3e9)
        written.append(month.path.stat().st_ino != before)
    assert 20 <= sum(written) <= 26


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"month": "2026-11", "used": {"x": -1}}', '{"month": 1, "used": {"x": "nan"}}', "[" * 9999]
)
def test_a_damaged_file_begins_anew(tmp_path: Path, damage: str) -> None:
    (tmp_path / "budget.json").write_text(damage)
    assert Month(tmp_path).used == {}


def test_a_disk_that_refuses_is_told_and_nothing_stops(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    month = Month(tmp_path / "file")
    month.add("x", 1.0)
    month.save(0.0, 1e9)
    assert "budget.json" in month.problem


# -- the whole


def test_a_ration_counts_what_leaves_the_office_and_stretches_by_what_it_costs(net: Net, tmp_path: Path) -> None:
    made = config("\n  icmp: [{target: gateway}, {target: 1.1.1.1}]\n  http: [{target: 'https://siak.example/'}]", "budget: 3GB")
    ration, seen, probed = Ration(tmp_path), {}, {}

    def look(pushed: float, when: str = "2026-11-11T00:00"):
        return ration.look(made, net, seen, probed, pushed, at(when), ZONE, sure=True)

    assert look(0.0) == {"icmp:gateway": "lan", "icmp:1.1.1.1": "default", "http:https://siak.example/": "default"}
    assert ration.plan == ("fibre", {"default": 1.0}, {})
    seen["http:https://siak.example/"] = (10, Traffic(10_000, 10_000_000))  # a page of a megabyte
    probed |= {("icmp", "lan"): Traffic(5000, 5000), ("http", "default"): Traffic(10_000, 10_000_000)}
    look(2000.0)
    found = {(s.metric.name, *s.labels): s.value for s in ration.samples()}
    assert found["ronda_budget_used_bytes", "default"] == 10_012_000
    assert found["ronda_budget_limit_bytes", "default"] == 3e9
    assert found["ronda_budget_stretch_ratio", "default"] > 10
    assert ration.plan.intervals["http:https://siak.example/"] > 150
    look(500.0)  # push began anew, after a reload
    assert {s.value for s in ration.samples() if s.metric is budget.USED} == {10_012_500}
    ration.save(0.0, at_once=True)
    assert json.loads((tmp_path / "budget.json").read_text()) == {"month": "2026-11", "used": {"default": 10_012_500}}


@pytest.mark.parametrize(("collector", "used"), [("siem.example.go.id", 700), ("192.168.0.9", 0)], ids=["far", "in the office"])
def test_what_syslog_sends_over_the_uplink_counts(net: Net, tmp_path: Path, collector: str, used: int) -> None:
    made = config(f"  icmp: [{{target: 1.1.1.1, labels: {{uplink: gsm}}}}]\nevents: {{syslog: 'tls://{collector}'}}", "budget: 3GB")
    ration = Ration(tmp_path)
    for logged in (300.0, 500.0, 200.0):  # at last a reload has begun it anew
        ration.look(made, net, {}, {}, 0.0, at("2026-11-11T00:00"), ZONE, sure=True, logged=logged)

    assert {s.labels: s.value for s in ration.samples() if s.metric is budget.USED} == {("gsm",): used}


def test_a_plan_that_is_hardly_another_is_none(net: Net, tmp_path: Path) -> None:
    made, ration = config("\n  http: [{target: 'https://siak.example/'}]"), Ration(tmp_path)
    name, plans = "http:https://siak.example/", []
    for spent in (100_000, 101_000, 99_000, 150_000):
        ration.look(made, net, {name: (1, Traffic(0, spent))}, {}, 0.0, at("2026-11-11T00:00"), ZONE, sure=True)
        plans.append(ration.plan)
    assert plans[0] is plans[1] is plans[2]
    assert plans[3].intervals[name] > plans[0].intervals[name]


def test_a_preview_is_what_the_agent_begins_with(net: Net, tmp_path: Path) -> None:
    made = config("\n  icmp: [{target: gateway}, {target: 1.1.1.1}]\n  http: [{target: 'https://siak.example/'}]")
    ration = Ration(tmp_path)
    ration.look(made, net, {}, {}, 0.0, at("2026-11-01T00:00"), ZONE, sure=False)

    assert budget.preview(made, net) == ration.plan
    assert ration.plan.intervals.keys() == {"icmp:1.1.1.1", "http:https://siak.example/"}


def test_too_small_a_budget_is_an_error() -> None:
    for profile, least in (("fibre", "250MB"), ("metered", "50MB")):
        assert config("\n  icmp: [{target: gateway}]", f"profile: {profile}, budget: {least}").push.budget
        with pytest.raises(ConfigError, match=f"at least {least}"):
            config("\n  icmp: [{target: gateway}]", f"profile: {profile}, budget: 49MB")
