"""Who gives out addresses, who takes them all, who says he is the router, what is gone: attacks beside innocent twins, restarts, crowds."""

from agent.detect import seen
from agent.detect.dhcp import DhcpStarvation, RogueDhcp
from agent.detect.model import Ask, Vouched
from agent.detect.routers6 import RogueRa
from agent.detect.service import ServiceLost
from tests.detect.lan import ABLE, ATTACKER, PC, Watch, arp
from tests.detect.officeday import ALL, HERE, ROUTER

HOUR = 3600.0
TABLE = seen.Neighbours({ROUTER.ip: ROUTER.mac})


def offer(server: str, mac: str, router: str = ROUTER.ip, dns: str = ROUTER.ip) -> seen.Dhcp:
    frame = seen.Frame(mac, ALL, "in", b"\0" * 60)
    return seen.Dhcp(frame, "offer", 1, "02:52:4f:4e:00:10", server, server=server, routers=(router,), dns=(dns,))


GOOD, BAD = offer(ROUTER.ip, ROUTER.mac), offer(ATTACKER.ip, ATTACKER.mac, ATTACKER.ip, ATTACKER.ip)


def chosen(server: str, client: str = PC.mac, xid: int = 5) -> seen.Dhcp:
    return seen.Dhcp(seen.Frame(client, ALL, "in", b"r"), "request", xid, client, "0.0.0.0", server=server)


def grown(vouched: Vouched | None = None) -> Watch:
    watch = Watch(RogueDhcp(vouched or Vouched()))
    for i in range(5):
        watch.see(seen.DhcpProbe(i, (GOOD,)), i * 300.0)
    assert not watch.findings
    return watch


def test_one_answer_to_our_probe_is_asked_again_and_the_second_is_critical() -> None:
    watch = grown()
    assert watch.see(seen.DhcpProbe(9, (GOOD, BAD)), 1500.0) == []
    assert watch.asks == [Ask("dhcp")]
    (finding,) = watch.see(seen.DhcpProbe(10, (GOOD, BAD)), 1506.0)
    assert (finding.grade, finding.confirmed, finding.source) == ("critical", True, ATTACKER.ip)
    assert finding.fields["source.mac"] == ATTACKER.mac
    assert watch.detector.servers == 2  # type: ignore[attr-defined]


def test_a_server_that_answered_once_and_then_no_more_is_nothing() -> None:
    watch = grown()
    for i in range(6):
        watch.see(seen.DhcpProbe(20 + i, (GOOD, BAD) if i % 2 else (GOOD,)), 1500.0 + i * 300)
    assert watch.findings == []


def test_a_client_that_chose_an_unknown_server_is_never_accused() -> None:
    watch = grown()
    (finding,) = watch.see(chosen(ATTACKER.ip), 1500.0)
    assert (finding.grade, finding.confirmed) == ("high", False)
    assert PC.mac not in (finding.source, *finding.fields.values())
    (second,) = watch.see(seen.DhcpProbe(9, (GOOD, BAD)), 1506.0)
    assert (second.grade, second.confirmed) == ("critical", True)


def test_discover_and_request_of_one_exchange_confirm_by_themselves() -> None:
    watch = grown()
    watch.see(chosen("", xid=77)._replace(type="discover"), 1500.0)
    (finding,) = watch.see(chosen(ATTACKER.ip, xid=77), 1500.5)
    assert finding.confirmed


def test_where_servers_are_vouched_for_all_else_is_rogue_at_once_and_they_never_are() -> None:
    watch = Watch(RogueDhcp(Vouched(dhcp_servers=frozenset({ROUTER.ip, "192.0.2.4"}))))
    twin = offer("192.0.2.4", PC.mac, dns="192.0.2.4")
    for i in range(4):
        assert watch.see(seen.DhcpProbe(i, (GOOD, twin)), i * 10.0) == []
        assert watch.see(chosen("192.0.2.4"), i * 10.0 + 1) == []
    assert watch.see(chosen(ATTACKER.ip), 50.0)[0].source == ATTACKER.ip


def test_probes_of_any_ronda_and_addresses_of_nobody_say_nothing() -> None:
    watch = grown()
    for server in ("255.255.255.255", "0.0.0.0", "", "nonsense", "224.0.0.1"):
        assert watch.see(chosen(server), 1500.0) == []
    assert watch.see(chosen(ATTACKER.ip, "02:52:4f:4e:00:11"), 1500.0) == []
    assert watch.see(chosen(ATTACKER.ip)._replace(hostname="ronda-probe"), 1500.0) == []
    assert watch.detector.servers == 1  # type: ignore[attr-defined]


def test_a_relay_is_no_server() -> None:
    watch = grown()
    for i in range(4):
        relayed = GOOD._replace(source="192.0.2.2", relay="192.0.2.2", frame=seen.Frame(PC.mac, ALL))
        assert watch.see(seen.DhcpProbe(30 + i, (relayed,)), 1500.0 + i * 300) == []


def test_who_answers_in_the_servers_name_is_accused_by_his_mac() -> None:
    watch = grown()
    liar = offer(ROUTER.ip, ATTACKER.mac, ATTACKER.ip)
    for i in range(2):
        watch.see(seen.DhcpProbe(40 + i, (GOOD, liar)), 1500.0 + i * 20)
    (finding,) = watch.findings
    assert (finding.grade, finding.confirmed, finding.source) == ("critical", True, ATTACKER.mac)
    assert ROUTER.mac not in finding.fields.values()


def test_a_liar_in_the_servers_name_is_never_learnt_and_a_new_router_is_a_change() -> None:
    watch = grown()
    liar = offer(ROUTER.ip, ATTACKER.mac, ATTACKER.ip)
    for i in range(6):
        watch.see(seen.DhcpProbe(40 + i, (liar,)), 1500.0 + i * 300)
    assert {(f.grade, f.source) for f in watch.findings} == {("critical", ATTACKER.mac)}
    other = grown()
    other.see(seen.Neighbours({ROUTER.ip: PC.mac}))
    for i in range(4):
        other.see(seen.DhcpProbe(40 + i, (offer(ROUTER.ip, PC.mac, dns="9.9.9.9"),)), 1500.0 + i * 300)
    assert [(f.grade, f.source) for f in other.findings] == [("medium", "")]


def test_a_network_without_a_server_learns_that_too() -> None:
    watch = Watch(RogueDhcp(Vouched()))
    for i in range(13):
        watch.see(seen.DhcpProbe(i, ()), i * 300.0)
    assert watch.see(chosen(ATTACKER.ip), 13 * 300.0)[0].grade == "high"


def test_known_servers_outlive_a_restart() -> None:
    watch = grown()
    again = watch.again(RogueDhcp(Vouched()))
    assert again.detector.coverage(ABLE).share == 1.0
    assert again.see(chosen(ROUTER.ip), 10.0) == []
    assert again.see(chosen(ATTACKER.ip), 20.0)[0].source == ATTACKER.ip


def test_ten_thousand_invented_servers_are_few_findings() -> None:
    watch = grown()
    watch.at = 1500.0
    for i in range(10_000):
        watch.see(chosen(f"10.9.{i // 250}.{i % 250 + 1}", f"02:00:00:00:{i // 256:02x}:{i % 256:02x}"))
    assert len(watch.findings) < 60


def discover(mac: str, sender: str = "") -> seen.Dhcp:
    return seen.Dhcp(seen.Frame(sender or mac, ALL, "in", b"d"), "discover", 1, mac)


def invented(i: int) -> str:
    return f"02:11:00:00:{i // 256:02x}:{i % 256:02x}"


def test_starvation_by_invented_clients_accuses_nobody() -> None:
    watch = Watch(DhcpStarvation(Vouched()), None)
    for i in range(200):
        watch.see(discover(invented(i)), i * 0.2)
    assert watch.findings[-1].confirmed
    assert {finding.source for finding in watch.findings} == {""}
    assert watch.asks == [Ask("dhcp")]


def test_starvation_from_one_sender_names_him() -> None:
    watch = Watch(DhcpStarvation(Vouched()), None)
    for i in range(100):
        watch.see(discover(invented(i), ATTACKER.mac), i * 0.2)
    assert watch.findings[0].source == ATTACKER.mac
    assert watch.findings[0].confirmed


def test_starvation_at_three_a_second_is_sure_within_fifteen_seconds() -> None:
    watch = Watch(DhcpStarvation(Vouched()), None)
    for i in range(50):
        watch.see(discover(invented(i)), 100.0 + i * 0.3)
    assert [f.confirmed for f in watch.findings] == [True]
    assert watch.asks == [Ask("dhcp")]


def test_a_crowd_of_telephones_that_speak_with_their_new_addresses_is_none() -> None:
    """An access point starts again: all ask within seconds, and whoever has an address looks whether it is free (RFC 5227)."""
    watch = Watch(DhcpStarvation(Vouched()), None)
    crowd = [(100.0 + i * 0.05 + (i // 30) * 6, i) for i in range(60)]
    for at, what in sorted([(at, discover(invented(i))) for at, i in crowd] + [(at + 3.5, arp(invented(i), "0.0.0.0")) for at, i in crowd]):
        watch.see(what, at)
    watch.wait(20)
    assert watch.findings == []


def test_no_offer_after_the_burst_confirms_it() -> None:
    watch = Watch(DhcpStarvation(Vouched()), None)
    watch.see(seen.DhcpProbe(1, (GOOD,)), 1.0)
    for i in range(80):
        watch.see(discover(invented(i)), 2.0 + i * 0.04)
    assert not watch.findings[-1].confirmed
    assert watch.see(seen.DhcpProbe(2, ()), 20.0)[0].confirmed


def test_a_boot_storm_of_those_who_are_known_is_silent_also_after_a_restart() -> None:
    macs = [invented(i) for i in range(60)]
    watch = Watch(DhcpStarvation(Vouched()), None)
    for round_ in range(2):
        for mac in macs:
            watch.see(arp(mac, "192.0.2.77"), round_ * 100.0)
    again = DhcpStarvation(Vouched())
    again.recall(watch.detector.remember(), 0.0)
    other = Watch(again, None)
    for i in range(180):
        other.see(discover(macs[i % 60]), 10.0 + i * 0.1)
    assert other.findings == []


def test_new_pcs_on_the_first_day_are_no_starvation() -> None:
    watch = Watch(DhcpStarvation(Vouched()), None)
    for i in range(150):
        watch.see(discover(f"3c:52:82:00:00:{i % 60:02x}"), i * 0.2)
    assert watch.findings == []
    assert watch.detector.coverage(ABLE).why == "learning"


def test_three_probes_without_offers_are_a_loss_and_it_says_when_it_is_over() -> None:
    watch = Watch(ServiceLost(Vouched()))
    watch.see(seen.DhcpProbe(0, (GOOD,)), 1.0)
    assert [len(watch.see(seen.DhcpProbe(i, ()), i * 300.0)) for i in (1, 2, 3, 4)] == [0, 0, 1, 0]
    assert watch.see(seen.DhcpProbe(5, (GOOD,)), 1500.0)[0].state == "closed"


def test_what_never_was_is_not_missed_and_the_cable_out_explains_all() -> None:
    watch = Watch(ServiceLost(Vouched()))
    for i in range(6):
        watch.see(seen.DhcpProbe(i, ()), i * 300.0)
        watch.see(seen.ArpProbe(ROUTER.ip, ()), i * 300.0)
    watch.see(seen.DhcpProbe(7, (GOOD,)), 2000.0)
    watch.see(seen.Carrier(False), 2001.0)
    for i in range(6):
        watch.see(seen.DhcpProbe(i, ()), 2002.0 + i * 300.0)
    assert watch.findings == []


def test_the_gateway_that_answers_no_more_is_lost() -> None:
    watch = Watch(ServiceLost(Vouched()))
    watch.see(TABLE, 1.0)
    watch.see(seen.Neighbours({}), 20.0)
    assert watch.asks == [Ask("arp", ROUTER.ip)]
    for i in range(4):
        watch.see(seen.ArpProbe(ROUTER.ip, ()), 40.0 + i * 10)
    assert [finding.key for finding in watch.findings] == ["gateway"]
    assert watch.see(TABLE, 100.0)[0].state == "closed"


def advert(
    mac: str, *, source: str = "fe80::1", lifetime: int = 1800, hops: int = 255, prefix: str = "", dns: str = ""
) -> seen.RouterAdvert:
    prefixes = (seen.Prefix(prefix, 1, 1, True),) if prefix else ()
    return seen.RouterAdvert(
        seen.Frame(mac, "33:33:00:00:00:01", "in", b"a"), source, hops, lifetime, "medium", prefixes=prefixes, dns=(dns,) if dns else ()
    )


def settled() -> Watch:
    watch = Watch(RogueRa(Vouched()))
    watch.see(TABLE)
    watch.see(advert(ROUTER.mac, prefix="2001:db8::/64"), 10.0)
    watch.wait(2 * HOUR)
    return watch


def test_the_advertised_lifetime_is_what_a_router_is_missed_by() -> None:
    watch = Watch(ServiceLost(Vouched()))
    for at in (1.0, 2.0, 3.0):
        watch.see(advert(ROUTER.mac, lifetime=600), at)
    watch.wait(500)
    assert watch.findings == []
    assert [finding.key for finding in watch.wait(200)] == ["ra"]
    assert watch.see(advert(ROUTER.mac), 800.0)[0].state == "closed"


def test_a_strange_router_is_confirmed_by_its_second_word() -> None:
    watch = settled()
    first = watch.see(advert(ATTACKER.mac, source="fe80::66", prefix="2001:db8:66::/64"))
    second = watch.see(advert(ATTACKER.mac, source="fe80::66", prefix="2001:db8:66::/64"), watch.at + 5)
    assert [(f.grade, f.confirmed, f.source) for f in (*first, *second)] == [("high", False, ATTACKER.mac), ("high", True, ATTACKER.mac)]


def test_who_kills_the_router_in_its_name_is_named_and_the_router_is_not() -> None:
    watch = settled()
    (finding,) = watch.see(advert(ATTACKER.mac, lifetime=0))
    assert (finding.grade, finding.source) == ("critical", ATTACKER.mac)
    assert "fe80::1" not in finding.fields.values()


def test_the_routers_own_mac_that_says_both_accuses_nobody() -> None:
    watch = settled()
    for i in range(4):
        watch.see(advert(ROUTER.mac, lifetime=0 if i % 2 == 0 else 1800), watch.at + 5)
    assert [(f.grade, f.source) for f in watch.findings] == [("high", "")]


def test_an_access_points_local_prefix_is_low_and_a_distant_packet_nothing() -> None:
    watch = settled()
    assert watch.see(advert(PC.mac, source="fe80::7", lifetime=0, prefix="fd00:1::/64"))[0].grade == "low"
    assert watch.see(advert(ATTACKER.mac, source="fe80::66", hops=64)) == []
    assert watch.see(advert(ATTACKER.mac, source="2001:db8::66")) == []
    assert watch.detector.ignored == 2  # type: ignore[attr-defined]


def test_vouched_and_known_routers_are_silent_also_after_a_restart() -> None:
    watch = settled()
    again = watch.again(RogueRa(Vouched(routers=frozenset({PC.mac}))))
    assert again.see(advert(ROUTER.mac, prefix="2001:db8::/64"), 10.0) == []
    assert again.see(advert(PC.mac, source="fe80::9", dns="fe80::9"), 11.0) == []
    assert again.see(advert(ATTACKER.mac, source="fe80::66", dns="fe80::66"), 12.0)[0].grade == "critical"


def test_a_strange_dhcp6_server_is_high() -> None:
    watch = settled()
    reply = seen.Dhcp6(seen.Frame(ATTACKER.mac, HERE.mac, "in", b"6"), "advertise", "fe80::66", "aa", "bb")
    assert watch.see(reply)[0].source == ATTACKER.mac
    assert watch.see(reply._replace(frame=seen.Frame(ROUTER.mac, HERE.mac, "in"), server_duid="cc")) == []


def test_one_advertisement_is_no_router_that_could_be_lost_and_a_promise_outlives_a_restart() -> None:
    watch = Watch(ServiceLost(Vouched()))
    watch.see(advert(ROUTER.mac, lifetime=600), 1.0)
    assert watch.wait(2 * HOUR) == []
    for _ in range(3):
        watch.see(advert(ROUTER.mac, lifetime=600), watch.at + 1)
    again = watch.again(ServiceLost(Vouched()))
    assert [finding.key for finding in again.wait(HOUR)] == ["ra"]
