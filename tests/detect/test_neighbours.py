"""neighbour_drift: old software, a stolen name, a newcomer and a changed board are told; upgrades, power cuts and new routers are not."""

import pytest

from agent.detect import seen
from agent.detect.model import Vouched
from agent.detect.neighbours import LEARN, NeighbourDrift, version_of
from tests.detect.lan import ABLE, ATTACKER, ROUTER, Host, Watch, mndp, weight
from tests.detect.officeday import AGENT
from tests.detect.player import CORPUS, Case, play, steps

LEAST = Vouched(versions={"mikrotik": "7.12", "cisco": "15.2"})
SPARE = Host(ROUTER.name, "4c:5e:0c:77:88:99", "")


def watching(vouched: Vouched | None = None) -> Watch:
    return Watch(NeighbourDrift(vouched or Vouched()))


def grown(minutes: int = 20, vouched: Vouched | None = None) -> Watch:
    watch = watching(vouched)
    for i in range(minutes):
        watch.see(mndp(ROUTER, 1000 + i * 60), 1 + i * 60)
    assert watch.findings == []
    return watch


def told(watch: Watch) -> list[str]:
    return list(dict.fromkeys(f.fields["ronda.drift"] for f in watch.findings))


# -- versions ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("7.15.3 (stable)", ((7, 15, 3, 0), 1)),
        ("7.16beta2", ((7, 16, 0, 0), 0)),
        ("MikroTik RouterOS 6.49.10 (long-term) RB750", ((6, 49, 10, 0), 1)),
        ("Cisco IOS Software, C3560 Software (C3560-ADVIPSERVICESK9-M), Version 12.2(44)SE, RELEASE", ((12, 2, 0, 0), 1)),
        ("", None),
        ("stable", None),
        ("9" * 5000, None),
    ],
)
def test_versions_are_read(text: str, version: object) -> None:
    assert version_of(text) == version


def test_versions_are_in_order() -> None:
    order = ["6.49.10", "7.2", "7.12beta3", "7.12rc1", "7.12", "7.12.1", "7.15.3"]
    assert sorted(order, key=lambda text: version_of(text) or ((), 0)) == [
        "6.49.10",
        "7.2",
        "7.12beta3",
        "7.12rc1",
        "7.12",
        "7.12.1",
        "7.15.3",
    ]


def test_old_software_is_told_at_once_and_confirmed_when_it_is_said_again() -> None:
    watch = watching(LEAST)
    watch.see(mndp(ROUTER, 1000, "6.42.1 (stable)"), 1)
    assert [(f.grade, f.confirmed, f.source) for f in watch.findings] == [("medium", False, ROUTER.mac)]
    for i in (1, 2):
        watch.see(mndp(ROUTER, 1000 + i * 60, "6.42.1 (stable)"), 1 + i * 60)
    assert watch.findings[-1].confirmed
    assert told(watch) == ["version"]


def test_two_protocols_that_agree_confirm_it_at_once() -> None:
    watch = watching(LEAST)
    watch.see(mndp(ROUTER, 1000, "6.42.1 (stable)"), 1)
    watch.see(mndp(ROUTER, -1, "MikroTik RouterOS 6.42.1 (stable) RB750", "RB750", "lldp"), 2)
    assert watch.findings[-1].confirmed


def test_software_that_is_new_enough_or_of_a_maker_without_a_least_is_none() -> None:
    watch = watching(LEAST)
    watch.see(mndp(ROUTER, 1000, "7.12 (stable)"), 1)
    watch.see(mndp(Host("sw", "00:1b:21:00:00:01", ""), -1, "Ubiquiti 1.2.3", "USW", "lldp"), 2)
    watch.see(mndp(Host("sw2", "00:1b:21:00:00:02", ""), -1, "Cisco IOS Software, Version 15.2(4)E", "WS-C2960", "cdp"), 3)
    assert watch.findings == []


# -- names -------------------------------------------------------------------------------------------------------------------------


def test_who_takes_the_name_of_a_router_that_is_there_is_named() -> None:
    watch = grown()
    copy = Host(ROUTER.name, ATTACKER.mac, "")
    for i in range(4):
        watch.see(mndp(copy, 50 + i * 60, "6.49 (stable)", "x86"), 1500 + i * 60)
        watch.see(mndp(ROUTER, 2500 + i * 60), 1501 + i * 60)
    assert told(watch) == ["name"]
    assert {f.source for f in watch.findings} == {ATTACKER.mac}
    assert watch.findings[-1].confirmed
    assert watch.findings[-1].grade == "medium"


def test_a_new_router_under_the_old_name_is_none() -> None:
    watch = grown()
    for i in range(30):
        watch.see(mndp(SPARE, 40 + i * 60), 1240 + i * 60)
    assert watch.findings == []


def test_another_port_of_the_same_router_is_none() -> None:
    watch = grown()
    other = Host(ROUTER.name, "4c:5e:0c:11:22:02", "")
    for i in range(30):
        watch.see(mndp(ROUTER, 2300 + i * 60), 1301 + i * 60)
        watch.see(mndp(other, 2310 + i * 60), 1311 + i * 60)
    assert watch.findings == []


def test_names_as_they_come_from_the_factory_are_nobodys() -> None:
    watch = watching()
    for i in range(40):
        watch.see(mndp(Host("MikroTik", ROUTER.mac, ""), 1000 + i * 60), 1 + i * 60)
        if i > 20:
            watch.see(mndp(Host("MikroTik", SPARE.mac, ""), 10 + i * 60, board="cAP"), 2 + i * 60)
    assert watch.findings == []


def test_a_newcomer_after_a_day_is_told_a_speaker_of_lldp_less_gravely() -> None:
    watch = grown()
    watch.wait(LEARN)
    for i in range(5):
        at = LEARN + 3000 + i * 60
        watch.see(mndp(Host("asing", ATTACKER.mac, ""), i * 60), at)
        watch.see(mndp(Host("hub", "00:1b:21:00:00:07", ""), -1, "1.0", "hub", "lldp"), at + 1)
    assert told(watch) == ["second"]
    assert {(f.source, f.grade) for f in watch.findings} == {(ATTACKER.mac, "medium"), ("00:1b:21:00:00:07", "low")}


def test_a_newcomer_that_the_operator_accepts_belongs_here() -> None:
    watch = grown()
    watch.wait(LEARN)
    new = Host("cabang", "00:1b:21:00:00:07", "")
    for i in range(2):
        watch.see(mndp(new, i * 60), LEARN + 3000 + i * 60)
    detector = watch.detector
    assert isinstance(detector, NeighbourDrift)
    assert detector.accept(watch.findings[-1].key, watch.at)
    assert not detector.accept("second nobody", watch.at)
    watch.findings.clear()
    watch = watch.again(NeighbourDrift(Vouched()))
    for i in range(5):
        watch.see(mndp(new, 200 + i * 60), 100 + i * 60)
    assert watch.findings == []


def test_the_operators_routers_may_be_new_and_share_a_name() -> None:
    watch = grown(vouched=Vouched(routers=frozenset({ROUTER.mac, SPARE.mac})))
    for i in range(10):
        watch.see(mndp(SPARE, i * 60, board="other"), 1500 + i * 60)
        watch.see(mndp(ROUTER, 2500 + i * 60), 1501 + i * 60)
    assert watch.findings == []


def test_a_board_that_changes_under_one_mac_is_told() -> None:
    watch = grown()
    watch.see(mndp(ROUTER, 3000, board="x86"), 1300)
    assert told(watch) == ["board"]


# -- restarts ----------------------------------------------------------------------------------------------------------------------


def test_an_upgrade_and_a_cut_of_power_are_none_three_restarts_are() -> None:
    watch = grown()
    watch.see(mndp(ROUTER, 20, "7.16.1 (stable)"), 1500)
    watch.see(mndp(ROUTER, 15, "7.16.1 (stable)"), 3500)
    assert watch.findings == []
    watch.see(mndp(ROUTER, 15, "7.16.1 (stable)"), 5500)
    assert [(f.fields["ronda.drift"], f.grade) for f in watch.findings] == [("restarts", "low")]


def test_a_cut_of_power_every_evening_is_none() -> None:
    watch = watching()
    for day in range(10):
        for hour in range(8):
            watch.see(mndp(ROUTER, 60 + hour * 3600), day * 86400 + hour * 3600 + 60)
    assert watch.findings == []


# -- memory, lies ------------------------------------------------------------------------------------------------------------------


def test_who_belongs_here_outlives_a_restart() -> None:
    watch = grown()
    watch.wait(LEARN)
    watch = watch.again(NeighbourDrift(Vouched()))
    for i in range(5):
        watch.see(mndp(ROUTER, 90_000 + i * 60), 10 + i * 60)
    assert watch.findings == []
    for i in range(3):
        watch.see(mndp(Host("asing", ATTACKER.mac, ""), i * 60), 400 + i * 60)
    assert told(watch) == ["second"]


@pytest.mark.parametrize(
    "said", [{"age": 1}, {"age": "x", "speakers": []}, {"age": 1, "speakers": [[1, 2]]}, {"age": 1, "speakers": [["x"] * 9]}]
)
def test_a_memory_of_something_else_is_refused_as_a_whole(said: dict[str, object]) -> None:
    detector = NeighbourDrift(Vouched())
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        detector.recall(said, 0.0)
    assert detector.remember() == {}


def test_ten_thousand_invented_routers_are_a_crowd() -> None:
    watch = grown()
    watch.wait(LEARN)
    for i in range(10_000):
        for _ in range(2):
            watch.see(mndp(Host(f"r{i}", f"00:0d:{i >> 8 & 255:02x}:{i & 255:02x}:00:01", ""), 5), LEARN + 2000 + i * 0.01)
    assert len({f.key for f in watch.findings}) <= 17
    assert len(watch.findings) < 30
    assert weight(watch.detector) < 20_000


def test_garbage_says_nothing() -> None:
    watch = watching(LEAST)
    for i, text in enumerate(("", "x" * 99_999, "\x00", "é" * 400, "7..1", "1.2.3.4.5.6.7") * 5):
        for uptime in (float("nan"), float("inf"), -5.0, 1e300):
            watch.see(seen.Identity(seen.Frame(text, text), "mndp", text, text, text, text, text, uptime), 10 + i)
            watch.see(seen.Identity(seen.Frame(AGENT.mac, text), "lldp", AGENT.mac, text, text, text, text, uptime))
    assert watch.findings == []


def test_llpd_and_cdp_of_the_corpus() -> None:
    case = Case("LLDP and CDP", "benign", ("neighbour_drift",), file="pcap/tcpdump_LLDP_and_CDP.pcap")
    if not case.there:
        print(f"{CORPUS} is not there: the generated words above stand alone")
        return
    assert play(steps(case), Vouched()).told == []
    assert {rule for _, rule, _, _ in play(steps(case), LEAST).told.opened()} == {"neighbour_drift"}


def test_what_it_can_see_is_said() -> None:
    assert NeighbourDrift(Vouched()).coverage(ABLE) == (1.0, "")
    assert NeighbourDrift(Vouched()).coverage(frozenset()) == (0.0, "no_capture")
    watch = grown(3)
    assert isinstance(watch.detector, NeighbourDrift)
    assert watch.detector.routers == {ROUTER.mac: "7.15.3 (stable)"}
