"""new_device: after two weeks what comes is told once; random MACs are counted; what was learnt outlives a restart, and not thirty days."""

import pytest

from agent.detect import seen
from agent.detect.devices import ADMITTED, DAY, KNOWN, LEARN, NewDevice
from agent.detect.model import Vouched
from tests.detect.lan import ABLE, AFAR, ALL, ATTACKER, OTHER, PC, ROUTER, Watch, arp, table, weight
from tests.detect.officeday import AGENT


def device(watch: Watch) -> NewDevice:
    assert isinstance(watch.detector, NewDevice)
    return watch.detector


def come(watch: Watch, mac: str, ip: str, at: float) -> None:
    for i in range(3):
        watch.see(arp(mac, ip, ROUTER.ip), at + i * 70)


def settled(vouched: Vouched | None = None) -> Watch:
    watch = Watch(NewDevice(vouched or Vouched()))
    watch.see(table())
    come(watch, PC.mac, PC.ip, 10)
    watch.wait(LEARN)
    assert watch.findings == []
    assert watch.detector.coverage(ABLE).share == 1.0
    come(watch, PC.mac, PC.ip, watch.at + 1)
    return watch


def ack(mac: str, ip: str, hostname: str = "") -> seen.Dhcp:
    return seen.Dhcp(seen.Frame(ROUTER.mac, ALL, "in", b"ack"), "ack", 1, mac, ROUTER.ip, ip, hostname=hostname)


def test_what_comes_after_two_weeks_is_told_once_and_never_above_info() -> None:
    watch = settled()
    for i in range(100):
        watch.see(arp(ATTACKER.mac, ATTACKER.ip, ROUTER.ip), LEARN + 1000 + i * 65)
    (found,) = watch.findings
    assert (found.grade, found.source, found.fields["source.ip"]) == ("info", ATTACKER.mac, ATTACKER.ip)
    assert found.fields["ronda.oui"] == "00:0c:29"
    assert len(found.frames) == 2
    assert device(watch).counts["new"] == 1


def test_where_nothing_new_belongs_a_new_device_is_a_warning() -> None:
    for protected, grade in (("all", "medium"), ("192.0.2.0/25", "medium"), ("198.51.100.0/24", "info"), ("2001:db8::/64", "info")):
        watch = settled(Vouched(protected=frozenset({protected})))
        (found,) = watch.see(ack("00:21:5c:00:00:09", "192.0.2.99"), LEARN + 3000)
        assert (found.grade, found.confirmed) == (grade, True), protected


def test_who_moves_into_a_protected_network_is_told_there() -> None:
    watch = settled(Vouched(protected=frozenset({"192.0.2.128/25"})))
    watch.see(ack("00:21:5c:00:00:09", "192.0.2.99"), LEARN + 3000)
    (found,) = watch.see(ack("00:21:5c:00:00:09", "192.0.2.140"), LEARN + 3600)
    assert found.grade == "medium"
    assert watch.see(ack("00:21:5c:00:00:09", "192.0.2.140"), LEARN + 4200) == []


def test_what_is_made_for_attacks_says_so_twice() -> None:
    watch = Watch(NewDevice(Vouched()))
    grades = {}
    for n, (mac, name) in enumerate((
        ("00:13:37:a5:01:02", "Pineapple.lan"), ("b8:27:eb:00:00:07", "kali"), ("b8:27:eb:00:00:08", "ronda-dkc"),
        ("3c:52:82:00:00:09", "kali"), ("00:13:37:00:00:10", "tamu"), ("dc:a6:32:00:00:11", "kalimantan"), ("da:13:37:00:00:12", "kali"),
    )):  # fmt: skip
        grades[mac, name] = [(f.grade, f.confirmed, f.confidence) for f in watch.see(ack(mac, "192.0.2.140", name), 100.0 + n)]
    bad = [("high", True, "likely")]
    assert [found for found in grades.values() if found] == [bad, bad]
    assert grades["00:13:37:a5:01:02", "Pineapple.lan"] == grades["b8:27:eb:00:00:07", "kali"] == bad
    assert len(watch.see(ack("b8:27:eb:00:00:07", "192.0.2.140", "kali"), 100.0 + LEARN)) == 1, "one that was there first is told again"


def test_two_frames_or_three_in_a_moment_are_nobody_yet_a_lease_is_somebody() -> None:
    watch = settled()
    for i in range(20):
        watch.see(arp(ATTACKER.mac, ATTACKER.ip, ROUTER.ip), LEARN + 1000 + i)
    watch.see(arp(OTHER.mac, OTHER.ip), LEARN + 2000)
    watch.see(arp(OTHER.mac, OTHER.ip), LEARN + 2200)
    assert watch.findings == []
    (found,) = watch.see(ack("00:21:5c:00:00:09", "192.0.2.140", "tamu"), LEARN + 3000)
    assert (found.fields["host.hostname"], found.fields["source.ip"]) == ("tamu", "192.0.2.140")


def test_while_it_learns_it_is_silent_and_says_so() -> None:
    watch = Watch(NewDevice(Vouched()))
    for n in range(60):
        come(watch, f"3c:52:82:00:00:{n:02x}", f"192.0.2.{n + 50}", n * 200.0)
    assert watch.findings == []
    assert device(watch).counts == {"known": 60, "new": 0, "mobile": 0, "quiet": 0}
    assert watch.detector.coverage(ABLE) == (0.5, "learning")
    assert watch.detector.rule.learning == LEARN


def test_random_macs_are_counted_and_never_told() -> None:
    watch = settled()
    for n in range(50):
        come(watch, f"{n % 16:x}{'26ae'[n % 4]}:00:00:00:00:{n:02x}", f"192.0.2.{n + 50}", LEARN + 1000 + n * 200)
    assert watch.findings == []
    assert device(watch).counts["mobile"] == 50
    watch.wait(2 * DAY)
    assert device(watch).counts["mobile"] == 0


def test_classes_are_exclusive_and_time_moves_them() -> None:
    watch = settled()
    come(watch, ATTACKER.mac, ATTACKER.ip, LEARN + 1000)
    assert device(watch).counts == {"known": 1, "new": 1, "mobile": 0, "quiet": 0}
    watch.wait(1.5 * DAY)
    come(watch, ATTACKER.mac, ATTACKER.ip, watch.at + 1)
    assert device(watch).counts == {"known": 1, "new": 0, "mobile": 0, "quiet": 1}


def test_our_own_and_rondas_probes_and_vouched_routers_are_no_news() -> None:
    watch = settled(Vouched(routers=frozenset({ROUTER.mac, "4c:5e:0c:77:88:99"})))
    for mac in (AGENT.mac, "02:52:4f:4e:00:11", "4c:5e:0c:77:88:99"):
        come(watch, mac, "192.0.2.77", watch.at + 100)
    assert watch.findings == []


def test_a_mac_that_is_only_named_by_another_is_nobody() -> None:
    """Starvation invents clients, poisoners name victims: who isn't the frame's source isn't there."""
    watch = settled()
    for i in range(10):
        at = LEARN + 1000 + i * 60
        watch.see(arp("00:21:5c:00:00:09", OTHER.ip, source=PC.mac), at)
        watch.see(seen.Dhcp(seen.Frame(PC.mac, ALL, "in"), "discover", i, "00:21:5c:00:00:10"))
    assert watch.findings == []


def test_after_thirty_days_it_is_forgotten() -> None:
    watch = settled()
    watch.wait(31 * DAY)
    assert PC.mac not in str(watch.detector.remember())
    come(watch, PC.mac, PC.ip, watch.at + 1)
    assert [f.source for f in watch.findings] == [PC.mac]


def test_what_was_learnt_outlives_a_restart() -> None:
    watch = settled().again(NewDevice(Vouched()))
    come(watch, PC.mac, PC.ip, 100)
    assert watch.findings == []
    come(watch, ATTACKER.mac, ATTACKER.ip, 500)
    assert [f.source for f in watch.findings] == [ATTACKER.mac]


def test_learning_goes_on_after_a_restart() -> None:
    watch = Watch(NewDevice(Vouched()))
    watch.wait(10 * DAY)
    watch = watch.again(NewDevice(Vouched()))
    watch.wait(3 * DAY)
    assert device(watch).learning
    watch.wait(2 * DAY)
    assert not device(watch).learning


@pytest.mark.parametrize(
    "said",
    [{}, {"age": "x", "known": []}, {"age": 1, "known": [["not a MAC", 1, 1, None]]}, {"age": 1, "known": [[1]]}, {"age": 1, "known": 5}],
)
def test_a_memory_of_something_else_is_refused_as_a_whole(said: dict[str, object]) -> None:
    detector = NewDevice(Vouched())
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        detector.recall(said, 0.0)
    assert detector.remember()["known"] == []


def test_ten_thousand_invented_ones_are_a_crowd_and_push_nobody_out() -> None:
    watch = settled()
    for round_ in range(3):
        for i in range(10_000):
            watch.see(arp(f"00:0d:{i >> 8 & 255:02x}:{i & 255:02x}:00:01", AFAR, ROUTER.ip), LEARN + 1000 + round_ * 100 + i * 0.01)
        for i in range(0, 10_000, 2):
            watch.see(ack(f"00:0e:{i >> 8 & 255:02x}:{i & 255:02x}:00:01", "192.0.2.9"))
    assert len({f.key for f in watch.findings}) <= 17
    assert len(watch.findings) < 30
    assert weight(watch.detector) < 120_000
    watch.findings.clear()
    come(watch, PC.mac, PC.ip, watch.at + 10)
    assert watch.findings == []
    assert sum(device(watch).counts[name] for name in ("known", "new", "quiet")) <= min(KNOWN, ADMITTED + 2)


def test_garbage_is_nobody() -> None:
    watch = settled()
    for i in range(50):
        text = ("", "x" * 99_999, "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00")[i % 5]
        watch.see(arp(text, text, text), LEARN + 1000 + i * 60)
        watch.see(ack(text, text, text))
        watch.see(seen.NameQuery(seen.Frame(text, text), "mdns", text, text))
        watch.see(seen.Identity(seen.Frame(text, text), "lldp", text))
    assert watch.findings == []


def test_what_it_can_see_is_said() -> None:
    assert NewDevice(Vouched()).coverage(frozenset()) == (0.0, "no_capture")
