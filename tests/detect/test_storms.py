"""broadcast_storm: loops and mad devices are told within seconds; people who come to work, a counter's jump and a new switch are not."""

from agent.detect import seen
from agent.detect.model import Vouched
from agent.detect.storms import BroadcastStorm
from tests.detect.lan import ABLE, HERE, PC, ROUTER, Watch, arp, weight
from tests.detect.officeday import AGENT

BRIDGE = seen.Frame("78:8a:20:00:00:02", "01:80:c2:00:00:00", "in", b"bpdu")


def watching() -> Watch:
    watch = Watch(BroadcastStorm(Vouched()))
    for at in range(1, 100, 5):
        watch.see(counted(at * 3.0), at)
    return watch


def counted(frames: float) -> seen.Counters:
    return seen.Counters({"broadcast": frames, "lan": frames, "contacts": 0.0})


def storm(watch: Watch, seconds: int, rate: float = 900, speakers: int = 2, start: float = 100.0) -> None:
    """`rate` a second by the counter, of which twenty are seen; each speaker says one thing over and over."""
    for second in range(seconds):
        watch.see(counted(300.0 + second * rate), start + second)
        for i in range(20):
            n = (second * 20 + i) % speakers
            watch.see(arp(f"3c:52:82:00:{n >> 8:02x}:{n & 255:02x}", f"192.0.{n >> 8}.{n & 255}", ROUTER.ip))


def test_the_same_over_and_over_for_ten_seconds_is_a_confirmed_storm() -> None:
    watch = watching()
    storm(watch, 12)
    (found,) = watch.findings
    assert (found.key, found.grade, found.confirmed, found.source) == ("storm", "high", True, "")
    assert found.fields["ronda.rate"] == "900"
    assert isinstance(watch.detector, BroadcastStorm)
    assert watch.detector.rate == 900


def test_a_rate_alone_wakes_nobody() -> None:
    watch = watching()
    for second in range(20):
        watch.see(counted(300.0 + second * 900), 100 + second)
    assert [f.confirmed for f in watch.findings] == [False]


def test_it_is_said_once_a_minute_while_it_lasts() -> None:
    watch = watching()
    storm(watch, 300)
    assert 4 <= len(watch.findings) <= 6


def test_fifty_that_boot_together_are_waited_for_a_minute() -> None:
    watch = watching()
    storm(watch, 50, speakers=5000)
    assert watch.findings == []
    storm(watch, 62, speakers=5000, start=200)
    assert [f.confirmed for f in watch.findings] == [False]


def test_less_than_that_or_shorter_is_none() -> None:
    watch = watching()
    storm(watch, 60, rate=400)
    storm(watch, 9, rate=5000, start=300)
    for at in range(310, 400, 5):
        watch.see(counted(40_400.0), at)
    assert watch.findings == []


def test_a_counter_that_jumps_once_or_begins_anew_or_pauses_is_none() -> None:
    watch = watching()
    watch.see(counted(1e6), 110)
    watch.see(counted(1e6 + 30), 120)
    watch.see(counted(0.0), 130)
    watch.see(counted(1e9), 5000)
    watch.see(counted(1e9 + 30), 5010)
    assert watch.findings == []


def test_our_own_frames_that_come_back_are_a_loop_and_with_a_rate_it_is_confirmed() -> None:
    watch = watching()
    for i in range(3):
        watch.see(arp(AGENT.mac, AGENT.ip, ROUTER.ip), 100 + i)
    (found,) = watch.findings
    assert (found.key, found.grade, found.confirmed, found.source) == ("loop", "high", False, "")
    storm(watch, 12, start=110, speakers=5000)
    for i in range(3):
        watch.see(arp(AGENT.mac, AGENT.ip, ROUTER.ip), 122 + i)
    assert {f.key for f in watch.findings if f.confirmed} == {"loop", "storm"}


def test_what_we_send_is_no_loop_nor_what_a_sister_card_hears() -> None:
    watch = watching()
    for i in range(50):
        watch.see(arp(AGENT.mac, AGENT.ip, ROUTER.ip, direction="out"), 100 + i)
        watch.see(arp(PC.mac, PC.ip, ROUTER.ip))
        watch.see(arp("02:52:4f:4e:00:10", "0.0.0.0", ROUTER.ip))
    watch.see(HERE._replace(device="wlan0", mac="b8:27:eb:00:00:99"))
    for i in range(50):
        watch.see(arp(AGENT.mac, AGENT.ip, ROUTER.ip), 200 + i)
    assert watch.findings == []


def test_one_new_switch_is_none_a_tree_that_changes_again_and_again_is_low() -> None:
    watch = watching()
    for i in range(18):
        watch.see(seen.SpanningTree(BRIDGE, "a", "b", True), 100 + i * 2)
    assert watch.findings == []
    for i in range(6):
        watch.see(seen.SpanningTree(BRIDGE, "a", "b", i % 2 == 0), 200 + i * 45)
        watch.see(seen.SpanningTree(BRIDGE, "a", "b", True))
    assert [(f.key, f.grade, f.confirmed) for f in watch.findings] == [("spanning_tree", "low", False)]


def test_garbage_is_no_storm_and_takes_no_room() -> None:
    watch = watching()
    for i in range(2000):
        watch.see(counted((float("nan"), float("inf"), -1.0, 1e300, -float("inf"))[i % 5]), 100 + i * 0.1)
        watch.see(seen.Counters({}))
        watch.see(arp(("", "x" * 9999, "zz:zz:zz:zz:zz:zz")[i % 3], "x"))
        watch.see(seen.SpanningTree(seen.Frame("", "", "in"), "x" * 9999, "", False))
    assert watch.findings == []
    for i in range(10_000):
        watch.see(arp(f"00:0d:{i >> 8 & 255:02x}:{i & 255:02x}:00:01", "x"), 400)
    assert weight(watch.detector) < 10_000


def test_what_it_can_see_is_said() -> None:
    assert BroadcastStorm(Vouched()).coverage(ABLE) == (1.0, "")
    assert BroadcastStorm(Vouched()).coverage(frozenset()) == (0.0, "no_capture")
    assert BroadcastStorm(Vouched()).remember() == {}
