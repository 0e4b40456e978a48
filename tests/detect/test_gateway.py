"""gateway_mac: the attacker is found and named, routers that are replaced or share an address are not, and lies don't fill it."""

import pytest

from agent.detect import seen
from agent.detect.gateway import GatewayMac
from agent.detect.model import Ask, Finding, Vouched
from tests.detect.lan import ABLE, AFAR, ATTACKER, HERE, PC, ROUTER, Host, Watch, arp, mndp, outside, table, weight
from tests.detect.officeday import AGENT
from tests.detect.player import CORPUS, Case, play, steps

SPARE = "4c:5e:0c:77:88:99"


NOBODY = Vouched()


def grown(vouched: Vouched = NOBODY, mac: str = ROUTER.mac) -> Watch:
    """A box that has been there for a quarter of an hour."""
    watch = Watch(GatewayMac(vouched))
    for at in range(1, 902, 60):
        watch.see(table(mac), at)
        watch.see(arp(mac, ROUTER.ip, PC.ip))
        watch.see(outside(mac))
    assert watch.findings == []
    assert watch.detector.coverage(ABLE).share == 1.0
    return watch


def named(watch: Watch, name: str = "RB-DKC", mac: str = ROUTER.mac, uptime: float = 9e5) -> None:
    watch.see(mndp(Host(name, mac, ""), uptime))


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


# -- found -------------------------------------------------------------------------------------------------------------------------


def test_two_kinds_that_agree_tell_of_it_and_name_the_attacker() -> None:
    watch = grown()
    assert watch.see(arp(ATTACKER.mac, ROUTER.ip, op=2), 1000) == []
    assert watch.asks == [Ask("arp", ROUTER.ip)]
    found = only(watch.see(table(ATTACKER.mac), 1003))
    assert (found.grade, found.confidence, found.confirmed) == ("high", "certain", True)
    assert found.source == found.fields["source.mac"] == found.fields["ronda.new_mac"] == ATTACKER.mac
    assert found.fields["ronda.old_mac"] == ROUTER.mac
    assert found.fields["ronda.seen_by"] == "arp,table"
    assert found.frames[0].source == ATTACKER.mac


def test_who_takes_turns_with_the_gateway_is_critical_and_the_gateway_is_not_accused() -> None:
    watch = grown()
    for i in range(10):
        watch.see(arp(ATTACKER.mac, ROUTER.ip, op=2), 1000 + i * 2)
        watch.see(outside(ATTACKER.mac))
        watch.see(arp(ROUTER.mac, ROUTER.ip, PC.ip), 1001 + i * 2)
    grades = [found.grade for found in watch.findings]
    assert grades == ["high", "critical"]
    assert {found.source for found in watch.findings} == {ATTACKER.mac}
    assert watch.findings[-1].confirmed


def test_when_both_answer_our_probe_there_is_nothing_to_wait_for() -> None:
    watch = grown()
    named(watch)
    watch.see(arp(ATTACKER.mac, ROUTER.ip, op=2), 1000)
    frames = (seen.Frame(ROUTER.mac, AGENT.mac, "in", b"r"), seen.Frame(ATTACKER.mac, AGENT.mac, "in", b"a"))
    found = only(watch.see(seen.ArpProbe(ROUTER.ip, (ROUTER.mac, ATTACKER.mac), frames), 1004))
    assert (found.grade, found.confirmed, found.source) == ("critical", True, ATTACKER.mac)


def test_one_kind_is_enough_when_it_insists_for_a_minute_but_wakes_nobody() -> None:
    watch = grown()
    for at in range(1000, 1060, 10):
        assert watch.see(table(ATTACKER.mac), at) == []
    found = only(watch.see(table(ATTACKER.mac), 1060))
    assert (found.grade, found.confirmed, found.fields["ronda.seen_by"]) == ("high", False, "table")


def test_who_claims_it_in_arp_for_a_minute_is_told_though_the_gateway_is_there() -> None:
    watch = grown()
    for at in range(1000, 1070, 10):
        watch.see(arp(ATTACKER.mac, ROUTER.ip, op=2), at)
        watch.see(outside(ROUTER.mac))
    assert watch.findings[0].source == ATTACKER.mac


def test_a_gateway_of_ipv6_is_watched_by_its_neighbour_adverts() -> None:
    router = "fe80::4e5e:cff:fe11:2201"
    watch = Watch(GatewayMac(Vouched()), HERE._replace(gateways=(router,), networks=("2001:db8:1::/64",)))
    for at in range(1, 902, 60):
        watch.see(seen.Neighbours({router: ROUTER.mac}), at)
        watch.see(seen.Packet(seen.Frame(ROUTER.mac, AGENT.mac, "in"), "2001:db8:ffff::1", "2001:db8:1::10"))
    advert = seen.Neighbour(seen.Frame(ATTACKER.mac, ATTACKER.mac, "in", b"na"), "advert", router, router, ATTACKER.mac, True)
    watch.see(advert, 1000)
    found = only(watch.see(seen.Packet(seen.Frame(ATTACKER.mac, AGENT.mac, "in"), "2001:db8:ffff::1", "2001:db8:1::10"), 1001))
    assert (found.source, found.fields["ronda.seen_by"]) == (ATTACKER.mac, "arp,ip")
    assert watch.asks == []  # an ARP probe can't ask there


def test_time_may_run_slowly() -> None:
    """Observations an hour apart: the pin holds, and the change is still one."""
    watch = Watch(GatewayMac(Vouched()))
    for hour in range(5):
        watch.see(table(), hour * 3600 + 1)
    watch.see(table(ATTACKER.mac), 5 * 3600)
    watch.see(arp(ATTACKER.mac, ROUTER.ip, op=2), 5 * 3600 + 60)
    assert only(watch.findings).source == ATTACKER.mac


# -- not pinned yet, or no gateway known -------------------------------------------------------------------------------------------


def test_before_anything_is_pinned_it_is_said_with_less_confidence_and_unconfirmed() -> None:
    watch = Watch(GatewayMac(Vouched()))
    for at in range(1, 60, 10):
        watch.see(table(), at)
    watch.see(arp(ATTACKER.mac, ROUTER.ip, op=2), 100)
    found = only(watch.see(table(ATTACKER.mac), 101))
    assert (found.confidence, found.confirmed) == ("likely", False)
    assert watch.detector.coverage(ABLE) == (0.5, "learning")


def test_what_takes_packets_from_afar_over_is_told_before_anything_is_pinned() -> None:
    watch = Watch(GatewayMac(Vouched()))
    for at in range(1, 60, 10):
        watch.see(outside(ROUTER.mac), at)
    watch.see(arp(ATTACKER.mac, ROUTER.ip, op=2), 100)
    found = only(watch.see(outside(ATTACKER.mac), 101))
    assert (found.confidence, found.confirmed, found.source) == ("likely", True, ATTACKER.mac)


def far(mac: str, direction: str = "in") -> seen.Packet:
    if direction == "in":
        return seen.Packet(seen.Frame(mac, PC.mac, "unknown", b"f"), AFAR, PC.ip)
    return seen.Packet(seen.Frame(PC.mac, mac, "unknown", b"t"), PC.ip, AFAR)


def test_in_a_strangers_capture_the_way_to_one_address_afar_tells() -> None:
    watch = Watch(GatewayMac(Vouched()), None)
    for at in range(10):
        watch.see(far(ROUTER.mac), at)
        watch.see(far(ROUTER.mac, "out"))
    assert watch.see(far(ATTACKER.mac, "out"), 12) == []
    found = only(watch.see(far(ATTACKER.mac), 13))
    assert (found.source, found.fields["ronda.seen_by"], found.confidence) == (ATTACKER.mac, "ip,table", "likely")
    assert watch.see(far(ROUTER.mac), 14)[0].grade == "critical"


def test_in_a_strangers_capture_two_ways_by_turns_are_two_routers() -> None:
    """Answers come by the one, questions go by the other: a pair of routers with a virtual MAC (HSRP)."""
    watch = Watch(GatewayMac(Vouched()), None)
    for at in range(100):
        watch.see(far(ROUTER.mac if at % 2 else SPARE), at)
        watch.see(far("00:00:0c:07:ac:01", "out"))
    assert watch.findings == []


def test_arppoison_of_the_corpus() -> None:
    case = Case("arppoison", "attack", ("gateway_mac",), file="pcap/arppoison.pcapng")
    if not case.there:
        print(f"{CORPUS} is not there: the generated captures above stand alone")
        return
    here = {"mac": "00:21:70:c0:56:f0", "addresses": ["172.16.0.107"], "networks": ["172.16.0.0/16"], "gateways": ["172.16.0.1"]}
    for network in ({}, here):
        case = Case("arppoison", "attack", ("gateway_mac",), file="pcap/arppoison.pcapng", network=network)
        played = play(steps(case), Vouched())
        assert [(rule, grade, outcome.event.fields["source.mac"]) for _, rule, grade, outcome in played.told.opened()] == [
            ("gateway_mac", "high", "00:25:b3:bf:91:ee")
        ]


@pytest.mark.parametrize("name", ["tcpdump_vrrp.pcap", "tcpdump_HSRP_failover.pcap", "arp_gratuitous.pcapng", "arp_resolution.pcapng"])
def test_innocent_captures_of_the_corpus(name: str) -> None:
    case = Case(name, "benign", ("gateway_mac",), file=f"pcap/{name}")
    if not case.there:
        print(f"{CORPUS} is not there: the generated captures stand alone")
        return
    played = play(steps(case), Vouched())
    assert [rule for _, rule, _, _ in played.told.opened()] == []
    assert played.failures == {}


# -- innocent ----------------------------------------------------------------------------------------------------------------------


def test_a_new_router_under_the_old_name_after_our_cable_was_out_is_a_note() -> None:
    watch = grown()
    watch.see(seen.Carrier(True))
    named(watch)
    watch.see(seen.Carrier(False), 1000)
    watch.see(seen.Carrier(True), 1040)
    watch.see(arp(SPARE, ROUTER.ip), 1042)
    assert watch.see(table(SPARE), 1043) == []  # its name may be on its way
    watch.see(mndp(Host("RB-DKC", SPARE, ""), 30), 1060)
    found = watch.wait(2)
    assert [(f.grade, f.source) for f in found] == [("medium", SPARE)]


def test_a_new_router_under_the_old_name_whose_predecessor_answers_no_probe_is_a_note() -> None:
    watch = grown()
    named(watch)
    watch.see(arp(SPARE, ROUTER.ip), 1000)
    watch.see(table(SPARE), 1001)
    watch.see(mndp(Host("RB-DKC", SPARE, ""), 30), 1002)
    watch.see(seen.ArpProbe(ROUTER.ip, (SPARE,)), 1003)
    assert [f.grade for f in watch.findings] == ["medium"]


def test_who_wears_the_routers_name_while_it_is_there_is_no_note() -> None:
    watch = grown()
    named(watch)
    watch.see(mndp(Host("RB-DKC", ATTACKER.mac, ""), 30), 1000)
    watch.see(arp(ATTACKER.mac, ROUTER.ip, op=2), 1001)
    watch.see(table(ATTACKER.mac), 1002)
    watch.wait(15)
    assert [f.grade for f in watch.findings] == ["high"]


def test_a_cable_that_was_out_excuses_nobody_without_a_name() -> None:
    watch = grown()
    watch.see(seen.Carrier(True))
    watch.see(seen.Carrier(False), 1000)
    watch.see(seen.Carrier(True), 1010)
    watch.see(arp(ATTACKER.mac, ROUTER.ip, op=2), 1020)
    assert only(watch.see(table(ATTACKER.mac), 1021)).grade == "high"


def test_routers_that_the_operator_vouches_for_may_take_turns() -> None:
    vrrp = "00:00:5e:00:01:0a"
    watch = grown(Vouched(routers=frozenset({vrrp, SPARE, ROUTER.mac})))
    for i in range(20):
        mac = (vrrp, SPARE, ROUTER.mac)[i % 3]
        watch.see(arp(mac, ROUTER.ip, op=2), 1000 + i * 60)
        watch.see(table(mac))
        watch.see(outside(mac))
    assert watch.findings == []
    watch.see(arp(ATTACKER.mac, ROUTER.ip, op=2), 3000)
    assert only(watch.see(table(ATTACKER.mac), 3001)).source == ATTACKER.mac


def test_a_virtual_mac_that_nobody_vouches_for_is_somebody() -> None:
    watch = grown()
    watch.see(arp("00:00:5e:00:01:0a", ROUTER.ip, op=2), 1000)
    assert only(watch.see(table("00:00:5e:00:01:0a"), 1001)).grade == "high"


def test_a_scan_with_borrowed_addresses_is_no_gateway() -> None:
    """nmap -D, hping3 --rand-source: packets from afar with the scanner's MAC."""
    watch = grown()
    for i in range(200):
        watch.see(outside(ATTACKER.mac, f"198.51.100.{i}"), 1000 + i)
        if i % 10 == 0:
            watch.see(table())
    assert watch.findings == []


def test_two_ways_out_that_are_there_from_the_start_are_both_learnt() -> None:
    watch = Watch(GatewayMac(Vouched()))
    for at in range(1, 1800, 30):
        watch.see(table(), at)
        watch.see(outside(ROUTER.mac if at % 60 == 1 else SPARE))
    for at in range(1800, 2400, 30):
        watch.see(outside(SPARE), at)
    assert watch.findings == []


def test_a_router_may_speak_by_a_virtual_mac_and_send_by_its_own() -> None:
    """HSRP, VRRP: whatever of it is heard first, and after a change of the active one."""
    virtual, one, two = "00:00:0c:07:ac:01", ROUTER.mac, SPARE
    watch = Watch(GatewayMac(Vouched()))
    for at in range(1, 3600, 20):
        for _ in range(3):
            watch.see(outside(one if at < 1500 else two), at)
        watch.see(table(virtual))
        watch.see(arp(virtual, ROUTER.ip, PC.ip))
    assert watch.findings == []
    assert watch.detector.coverage(ABLE).share == 1.0


def test_who_only_made_up_packets_while_we_learnt_is_no_gateway_later() -> None:
    watch = Watch(GatewayMac(Vouched()))
    for at in range(1, 1700, 20):
        watch.see(table(), at)
        watch.see(arp(ROUTER.mac, ROUTER.ip, PC.ip))
        watch.see(outside(ATTACKER.mac, "198.51.100.7"))
        watch.see(outside(ROUTER.mac))
    watch = watch.again(GatewayMac(Vouched()))
    watch.see(arp(ATTACKER.mac, ROUTER.ip, op=2), 2000)
    assert only(watch.see(table(ATTACKER.mac), 2001)).source == ATTACKER.mac


def test_our_own_mac_and_other_rondas_claim_nothing() -> None:
    watch = grown()
    for mac in (AGENT.mac, "02:52:4f:4e:00:11"):
        watch.see(arp(mac, ROUTER.ip, op=2), 1000)
        watch.see(table(mac))
        watch.see(outside(mac))
    assert watch.findings == []


# -- lies, people, restarts --------------------------------------------------------------------------------------------------------


def test_ten_thousand_claims_are_one_finding_and_little_memory() -> None:
    watch = grown()
    for i in range(10_000):
        watch.see(arp(f"00:0d:{i >> 8 & 255:02x}:{i & 255:02x}:00:01", ROUTER.ip, op=2), 1000 + i * 0.01)
    assert {f.key for f in watch.findings} == {f"{ROUTER.ip} many"}
    assert {f.source for f in watch.findings} == {""}
    assert not any(f.confirmed for f in watch.findings)
    assert len(watch.findings) <= 3
    assert weight(watch.detector) < 2_000


def test_a_flood_of_invented_sources_does_not_hide_the_attacker() -> None:
    watch = grown()
    watch.see(arp(ATTACKER.mac, ROUTER.ip, op=2), 1000)
    for i in range(5_000):
        watch.see(outside(f"00:0d:{i >> 8 & 255:02x}:{i & 255:02x}:00:01", "198.51.100.9"), 1000 + i * 0.001)
    assert only(watch.see(table(ATTACKER.mac), 1006)).source == ATTACKER.mac


def test_garbage_is_nobody() -> None:
    watch = grown()
    for text in ("", "x" * 100_000, "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "01:00:5e:00:00:01", "zz:zz:zz:zz:zz:zz", "\ud800"):
        watch.see(arp(text.encode("utf-8", "replace").decode(), ROUTER.ip, op=2), 1000)
        watch.see(table(text))
        watch.see(outside(text))
        watch.see(seen.ArpProbe(ROUTER.ip, (text,)))
        watch.see(outside(ATTACKER.mac, text))
    assert watch.findings == []


def test_what_the_operator_accepts_is_pinned_and_the_old_one_is_news_when_it_comes_back() -> None:
    watch = grown()
    watch.see(arp(SPARE, ROUTER.ip, op=2), 1000)
    found = only(watch.see(table(SPARE), 1001))
    detector = watch.detector
    assert isinstance(detector, GatewayMac)
    assert detector.accept(found.key, watch.at)
    for at in range(1100, 1500, 60):
        assert watch.see(table(SPARE), at) == []
        assert watch.see(outside(SPARE)) == []
    watch.see(arp(ROUTER.mac, ROUTER.ip, op=2), 1600)
    assert only(watch.see(table(ROUTER.mac), 1601)).source == ROUTER.mac


def test_two_that_take_turns_may_both_stay_when_the_operator_accepts() -> None:
    watch = grown()
    for i in range(4):
        watch.see(arp(SPARE, ROUTER.ip, op=2), 1000 + i * 4)
        watch.see(outside(SPARE))
        watch.see(arp(ROUTER.mac, ROUTER.ip, op=2), 1002 + i * 4)
    detector = watch.detector
    assert isinstance(detector, GatewayMac)
    assert detector.accept(watch.findings[-1].key, watch.at)
    watch.findings.clear()
    for i in range(60):
        watch.see(arp(SPARE if i % 2 else ROUTER.mac, ROUTER.ip, op=2), 1100 + i)
        watch.see(table(SPARE if i % 2 else ROUTER.mac))
    assert watch.findings == []
    assert not detector.accept("nonsense", watch.at)
    assert not detector.accept(f"{ROUTER.ip} many", watch.at)


def test_a_pin_outlives_a_restart() -> None:
    watch = grown().again(GatewayMac(Vouched()))
    assert watch.detector.coverage(ABLE).share == 1.0
    watch.see(arp(ATTACKER.mac, ROUTER.ip, op=2), 10)
    found = only(watch.see(table(ATTACKER.mac), 11))
    assert (found.confirmed, found.fields["ronda.old_mac"]) == (True, ROUTER.mac)


def test_learning_goes_on_after_a_restart() -> None:
    watch = Watch(GatewayMac(Vouched()))
    for at in range(1, 400, 60):
        watch.see(table(), at)
    watch = watch.again(GatewayMac(Vouched()))
    for at in range(6, 400, 60):
        watch.see(table(), at)
    assert watch.detector.coverage(ABLE).share == 1.0


@pytest.mark.parametrize(
    "said",
    [
        {"192.0.2.1": {}},
        {"192.0.2.1": {"age": "x", "leader": "", "pinned": [], "ways": [], "names": {}, "learning": []}},
        {"192.0.2.1": {"age": 1, "leader": "", "pinned": ["not a MAC"], "ways": [], "names": {}, "learning": []}},
        {"192.0.2.1": {"age": 1, "leader": "", "pinned": [], "ways": [], "names": {}, "learning": [[1, 2]]}},
        {"192.0.2.1": None},
    ],
)
def test_a_memory_of_something_else_is_refused_as_a_whole(said: dict[str, object]) -> None:
    detector = GatewayMac(Vouched())
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        detector.recall(said, 0.0)
    assert detector.remember() == {}


def test_what_it_can_see_is_said() -> None:
    detector = GatewayMac(Vouched())
    assert detector.coverage(frozenset()) == (0.5, "kernel_table_only")
    Watch(detector, HERE._replace(gateways=()))
    assert detector.coverage(ABLE) == (0.0, "no_gateway")
