"""arp_anomaly: what no honest stack sends is evidence, what only looks odd is none."""

from agent.detect import seen
from agent.detect.arp import ArpAnomaly
from agent.detect.model import Vouched
from tests.detect.lan import ABLE, ATTACKER, OTHER, PC, ROUTER, Watch, arp, weight
from tests.detect.officeday import AGENT


def watching(vouched: Vouched | None = None) -> Watch:
    return Watch(ArpAnomaly(vouched or Vouched()))


def test_a_sender_that_isnt_the_frames_is_evidence_against_the_frames() -> None:
    watch = watching()
    for i in range(5):
        assert watch.findings == []
        watch.see(arp(PC.mac, PC.ip, op=2, source=ATTACKER.mac), 100 + i * 10)
    (found,) = watch.findings
    assert (found.grade, found.confirmed, found.source) == ("low", False, ATTACKER.mac)
    assert found.fields["source.mac"] == ATTACKER.mac
    assert found.fields["ronda.kinds"] == "mismatch"
    assert len(found.frames) == 4


def test_answers_that_give_an_address_to_everybody_or_nobody_are() -> None:
    for mac in (seen.BROADCAST, seen.NO_MAC):
        watch = watching()
        for i in range(5):
            watch.see(arp(mac, PC.ip, op=2, source=ATTACKER.mac), 100 + i)
        assert [(f.source, f.fields["ronda.kinds"]) for f in watch.findings] == [(ATTACKER.mac, "no_mac")]


def test_a_sender_of_no_network_here_is() -> None:
    watch = watching()
    for i in range(5):
        watch.see(arp(ATTACKER.mac, "198.51.100.9", ROUTER.ip), 100 + i)
    assert [f.fields["ronda.kinds"] for f in watch.findings] == ["off_subnet"]


def test_it_is_said_once_a_minute_with_what_was_held_back() -> None:
    watch = watching()
    for i in range(200):
        watch.see(arp(PC.mac, PC.ip, op=2, source=ATTACKER.mac), 100 + i)
    assert len(watch.findings) <= 4
    assert sum(f.times for f in watch.findings) > 100
    assert isinstance(watch.detector, ArpAnomaly)
    assert watch.detector.counts == {"mismatch": 200}


# -- innocent ----------------------------------------------------------------------------------------------------------------------


def test_slowly_is_none() -> None:
    watch = watching()
    for i in range(50):
        watch.see(arp(PC.mac, PC.ip, op=2, source=ATTACKER.mac), 100 + i * 20)
    assert watch.findings == []


def test_probes_refreshes_announcements_and_link_local_are_none() -> None:
    watch = watching()
    for i in range(100):
        at = 100 + i * 0.5
        watch.see(arp(PC.mac, "0.0.0.0", PC.ip), at)  # RFC 5227
        watch.see(arp("00:1b:21:00:00:01", "0.0.0.0", PC.ip, source=OTHER.mac))  # the same of a switch's, in another's name
        watch.see(arp(PC.mac, PC.ip, AGENT.ip, to=AGENT.mac))  # is it still there? (RFC 1122)
        watch.see(arp(PC.mac, PC.ip, op=2))
        watch.see(arp(PC.mac, "169.254.7.9"))
        watch.see(arp(AGENT.mac, "198.51.100.1", direction="out"))
    assert watch.findings == []


def test_a_second_network_on_the_wire_is_none_once_three_speak_from_it() -> None:
    watch = watching()
    for n in (1, 2, 3):
        watch.see(arp(f"44:19:b6:00:00:0{n}", f"198.51.100.{n}", "198.51.100.254"), 100 + n)
    for i in range(100):
        watch.see(arp(f"44:19:b6:00:00:0{i % 3 + 1}", f"198.51.100.{i % 3 + 1}", "198.51.100.254"), 200 + i * 0.1)
    assert watch.findings == []


def test_routers_that_are_vouched_for_may_speak_by_their_virtual_mac() -> None:
    watch = watching(Vouched(routers=frozenset({"00:00:5e:00:01:0a"})))
    for i in range(30):
        watch.see(arp("00:00:5e:00:01:0a", ROUTER.ip, op=2, source=ROUTER.mac), 100 + i)
    assert watch.findings == []


# -- lies --------------------------------------------------------------------------------------------------------------------------


def test_ten_thousand_sources_are_a_few_findings_and_little_memory() -> None:
    watch = watching()
    for i in range(10_000):
        for _ in range(5):
            watch.see(arp(PC.mac, PC.ip, op=2, source=f"00:0d:{i >> 8 & 255:02x}:{i & 255:02x}:00:01"), 100 + i * 0.01)
    assert len({f.key for f in watch.findings}) <= 17
    assert len(watch.findings) < 30
    assert weight(watch.detector) < 40_000


def test_garbage_is_none() -> None:
    watch = watching()
    for i, text in enumerate(("", "x" * 100_000, "0.0.0.0", "::", "fe80::1%eth0", "999.1.1.1", "198.51.100.1/24") * 9):
        watch.see(arp(text, text, text, source=text), 100 + i)
        watch.see(seen.Arp(seen.Frame(PC.mac, text), i * 7, text, text, text, text))
    assert watch.findings == []


def test_what_they_can_see_is_said() -> None:
    assert ArpAnomaly(Vouched()).coverage(ABLE) == (0.5, "access_port")
    assert ArpAnomaly(Vouched()).coverage(frozenset()) == (0.0, "no_capture")
