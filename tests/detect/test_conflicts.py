"""ip_conflict: two that take turns on one address are told, who was there first is not accused; sleepers, twins and proxies are let be."""

from agent.detect import seen
from agent.detect.conflicts import ASKS, IpConflict
from agent.detect.model import Ask, Vouched
from tests.detect.lan import ABLE, ATTACKER, HERE, OTHER, PC, ROUTER, SERVER, Host, Watch, arp, table, weight
from tests.detect.officeday import AGENT, APPLE_TV

DOCK = "00:50:b6:10:00:05"


def watching(vouched: Vouched | None = None, network: seen.Network = HERE) -> Watch:
    watch = Watch(IpConflict(vouched or Vouched()), network)
    watch.see(table())
    return watch


def turns(watch: Watch, ip: str, one: str, two: str, count: int = 6, start: float = 1000.0) -> None:
    for i in range(count):
        watch.see(arp(two if i % 2 else one, ip), start + i * 10)


# -- found -------------------------------------------------------------------------------------------------------------------------


def test_two_that_take_turns_and_both_answer_are_told_and_the_later_one_is_named() -> None:
    watch = watching()
    for at in range(0, 900, 100):
        watch.see(arp(PC.mac, PC.ip, ROUTER.ip), at)
    turns(watch, PC.ip, PC.mac, OTHER.mac, 3)
    assert watch.asks == [Ask("arp", PC.ip)]
    assert watch.findings == []
    frames = (seen.Frame(PC.mac, AGENT.mac, "in", b"one"), seen.Frame(OTHER.mac, AGENT.mac, "in", b"two"))
    (found,) = watch.see(seen.ArpProbe(PC.ip, (OTHER.mac, PC.mac), frames), 1024)
    assert (found.grade, found.confirmed, found.confidence) == ("medium", True, "certain")
    assert (found.source, found.fields["ronda.mac_a"], found.fields["ronda.mac_b"]) == (OTHER.mac, PC.mac, OTHER.mac)
    assert {frame.raw for frame in found.frames} == {b"one", b"two"}


def test_where_nobody_was_clearly_first_nobody_is_accused() -> None:
    watch = watching()
    turns(watch, PC.ip, PC.mac, OTHER.mac, 3)
    (found,) = watch.see(seen.ArpProbe(PC.ip, (OTHER.mac, PC.mac)), 1024)
    assert (found.source, found.confirmed) == ("", True)
    assert "source.mac" not in found.fields
    assert {found.fields["ronda.mac_a"], found.fields["ronda.mac_b"]} == {PC.mac, OTHER.mac}


def test_without_a_probe_it_is_told_unconfirmed() -> None:
    watch = watching()
    turns(watch, PC.ip, PC.mac, OTHER.mac, 3)
    found = watch.wait(16)
    assert [(f.confirmed, f.confidence) for f in found] == [(False, "unknown")]


def test_taking_turns_again_and_again_is_told_without_waiting() -> None:
    """As a short capture shows it."""
    watch = watching()
    for i in range(8):
        watch.see(arp(OTHER.mac if i % 2 else PC.mac, PC.ip), 1000 + i)
    assert [f.confirmed for f in watch.findings] == [False]


def test_our_own_address_is_grave_and_we_are_not_the_attacker() -> None:
    watch = watching()
    assert watch.see(arp(ATTACKER.mac, AGENT.ip), 1000) == []
    assert watch.asks == [Ask("arp", AGENT.ip)]
    (found,) = watch.see(seen.ArpProbe(AGENT.ip, (ATTACKER.mac,)), 1003)
    assert (found.grade, found.confirmed, found.source, found.fields["ronda.mac_a"]) == ("high", True, ATTACKER.mac, AGENT.mac)


def test_the_gateways_a_resolvers_and_a_known_servers_address_are_grave() -> None:
    resolver, dhcp = "192.0.2.53", "192.0.2.4"
    watch = watching(Vouched(dhcp_servers=frozenset({dhcp})), HERE._replace(resolvers=(resolver,)))
    for n, ip in enumerate((ROUTER.ip, resolver, dhcp, PC.ip)):
        one, two = Host("", f"00:11:22:00:00:{n:02x}", ip), Host("", f"00:11:33:00:00:{n:02x}", ip)
        turns(watch, ip, one.mac, two.mac, 3, 1000 + n * 100)
        watch.see(seen.ArpProbe(ip, (one.mac, two.mac)), 1030 + n * 100)
    assert [f.grade for f in watch.findings] == ["high", "high", "high", "medium"]


def test_a_kernel_that_knows_better_keeps_the_first_to_speak_from_being_the_owner() -> None:
    """Who poisons before the owner says a word isn't taken for the owner."""
    watch = watching()
    watch.see(arp(ATTACKER.mac, SERVER.ip), 1000)
    turns(watch, SERVER.ip, ATTACKER.mac, "00:11:32:00:00:77", 4, 1100)
    (found,) = watch.see(seen.ArpProbe(SERVER.ip, (ATTACKER.mac, "00:11:32:00:00:77")), 1140)
    assert found.source == ""


# -- innocent ----------------------------------------------------------------------------------------------------------------------


def test_an_address_that_is_given_on_is_none() -> None:
    watch = watching()
    for n in range(40):
        watch.see(arp(f"00:11:22:00:00:{n:02x}", PC.ip), 1000 + n * 400)
    assert watch.findings == []
    assert len(watch.asks) == 39  # who else has it is asked each time; nobody answers here


def test_an_address_on_its_way_has_two_for_a_moment_and_is_none() -> None:
    watch = watching()
    for n in range(6):
        one, two = f"00:11:22:00:00:{n:02x}", f"00:11:22:00:00:{n + 1:02x}"
        watch.see(arp(one, PC.ip), 1000 + n * 400)
        watch.see(arp(two, PC.ip), 1200 + n * 400)
        watch.see(seen.ArpProbe(PC.ip, (one, two)), 1203 + n * 400)
        watch.see(seen.ArpProbe(PC.ip, (two,)), 1206 + n * 400)
    assert watch.findings == []


def test_at_the_first_change_two_answers_in_a_row_are_enough() -> None:
    watch = watching()
    watch.see(arp(PC.mac, PC.ip), 1000)
    watch.see(arp(OTHER.mac, PC.ip), 1200)
    assert watch.see(seen.ArpProbe(PC.ip, (OTHER.mac, PC.mac)), 1203) == []
    (found,) = watch.see(seen.ArpProbe(PC.ip, (OTHER.mac, PC.mac)), 1207)
    assert watch.asks == [Ask("arp", PC.ip)] * 2
    assert (found.confirmed, found.source) == (True, OTHER.mac)


def test_twins_show_by_another_address_of_theirs_before_anything_is_told() -> None:
    watch = watching()
    watch.see(arp(PC.mac, PC.ip), 1000)
    watch.see(arp(DOCK, "192.0.2.201"), 1001)
    watch.see(arp(DOCK, PC.ip), 1002)
    watch.see(seen.ArpProbe(PC.ip, (DOCK, PC.mac)), 1005)
    assert watch.asks == [Ask("arp", PC.ip), Ask("arp", "192.0.2.201"), Ask("arp", PC.ip)]
    watch.see(seen.ArpProbe("192.0.2.201", (DOCK, PC.mac)), 1008)
    watch.see(seen.ArpProbe(PC.ip, (DOCK, PC.mac)), 1011)
    assert watch.findings == []


def test_another_card_of_this_box_on_the_same_wire_takes_nobodys_address() -> None:
    card = "b8:27:eb:00:00:99"
    watch = watching(network=HERE._replace(cards=(card,)))
    for i in range(10):
        watch.see(arp(card if i % 2 else AGENT.mac, AGENT.ip), 1000 + i)
    watch.see(seen.ArpProbe(AGENT.ip, (card,)))
    watch.wait(30)
    assert (watch.findings, watch.asks) == ([], [])


def test_slow_turns_are_none() -> None:
    """A laptop that is at its dock in the morning and on Wi-Fi in the afternoon."""
    watch = watching()
    for n in range(20):
        watch.see(arp(DOCK if n % 2 else PC.mac, PC.ip), 1000 + n * 3600)
    assert (watch.findings, watch.asks) == ([], [])


def test_who_moves_from_dock_to_wifi_and_back_answers_once() -> None:
    watch = watching()
    turns(watch, PC.ip, PC.mac, DOCK, 3)
    watch.see(seen.ArpProbe(PC.ip, (PC.mac,)), 1024)
    watch.wait(60)
    assert watch.findings == []


def test_one_machine_with_two_cards_answers_on_both_for_both() -> None:
    watch = watching()
    for i in range(12):
        watch.see(arp(DOCK if i % 2 else PC.mac, PC.ip), 1000 + i * 20)
        watch.see(arp(PC.mac if i % 2 else DOCK, "192.0.2.201"), 1010 + i * 20)
    watch.see(seen.ArpProbe(PC.ip, (PC.mac, DOCK)))
    assert watch.findings == []


def test_a_sleep_proxy_answers_for_sleepers() -> None:
    watch = watching()
    tells = seen.Frame(APPLE_TV.mac, "01:00:5e:00:00:fb", "in", b"mdns")
    watch.see(seen.NameAnswer(tells, "mdns", APPLE_TV.ip, "50-34-10-70.1 Ruang Rapat._sleep-proxy._udp.local"))
    turns(watch, PC.ip, PC.mac, APPLE_TV.mac, 12)
    watch.wait(60)
    assert (watch.findings, watch.asks) == ([], [])


def test_a_gateway_that_answers_for_many_is_a_proxy_and_another_that_does_is_not() -> None:
    for mac, grades in ((ROUTER.mac, set()), (ATTACKER.mac, {"medium"})):
        watch = watching()
        for n in range(12):
            watch.see(arp(mac, f"192.0.2.{220 + n}", op=2), 500 + n)
        turns(watch, "192.0.2.220", PC.mac, mac, 3)
        watch.see(seen.ArpProbe("192.0.2.220", (PC.mac, mac)), 1030)
        assert {found.grade for found in watch.findings if found.confirmed} == grades
        assert bool(watch.findings) == bool(grades)


def test_two_cards_of_this_box_and_routers_that_are_vouched_for_may_share() -> None:
    watch = watching(Vouched(routers=frozenset({"00:00:5e:00:01:0a", ROUTER.mac})))
    watch.see(HERE._replace(device="wlan0", mac="b8:27:eb:00:00:99", addresses=("192.0.2.12",)))
    for i in range(10):
        watch.see(arp("b8:27:eb:00:00:99" if i % 2 else AGENT.mac, AGENT.ip), 1000 + i)
        watch.see(arp("00:00:5e:00:01:0a" if i % 2 else ROUTER.mac, ROUTER.ip))
    watch.wait(30)
    assert watch.findings == []


def test_probes_of_ronda_and_of_hosts_that_start_claim_nothing() -> None:
    watch = watching()
    for i in range(30):
        watch.see(arp(PC.mac if i % 2 else OTHER.mac, "0.0.0.0", PC.ip), 1000 + i)
    assert (watch.findings, watch.asks) == ([], [])


# -- lies and limits ---------------------------------------------------------------------------------------------------------------


def test_ten_thousand_macs_on_one_address_are_one_case() -> None:
    watch = watching()
    for i in range(10_000):
        watch.see(arp(f"00:0d:{i >> 8 & 255:02x}:{i & 255:02x}:00:01", PC.ip), 1000 + i * 0.005)
    assert {f.key for f in watch.findings} == {PC.ip}
    assert len(watch.findings) <= 2
    assert weight(watch.detector) < 200_000


def test_conflicts_everywhere_are_a_few_cases_and_a_crowd_and_few_probes() -> None:
    watch = watching()
    for n in range(3000):
        ip = f"198.18.{n >> 8}.{n & 255}"
        for i in range(6):
            watch.see(arp(f"00:0d:0{i % 2}:{n >> 8:02x}:{n & 255:02x}:01", ip), 1000 + n * 0.01)
    assert len({f.key for f in watch.findings}) <= 17
    assert len(watch.asks) <= ASKS
    assert weight(watch.detector) < 100_000


def test_garbage_claims_nothing() -> None:
    watch = watching()
    for i, text in enumerate(("", "x" * 100_000, "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "224.0.0.1", "127.0.0.1", "192.0.2.300") * 3):
        watch.see(arp(text, PC.ip), 1000 + i)
        watch.see(arp(PC.mac if i % 2 else OTHER.mac, text), 1000 + i)
        watch.see(seen.ArpProbe(text, (text, PC.mac)))
        watch.see(seen.ArpProbe(PC.ip, (text,) * 500))
    watch.wait(30)
    assert watch.findings == []


def test_what_it_can_see_is_said() -> None:
    detector = IpConflict(Vouched())
    assert detector.coverage(ABLE) == (1.0, "")
    assert detector.coverage(frozenset({"capture"})) == (0.5, "no_probe")
    assert detector.coverage(frozenset()) == (0.0, "no_capture")
    assert detector.remember() == {}
