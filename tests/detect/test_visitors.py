"""Who tries this box's ports, floods it, or answers for names that cannot be: attacks beside their innocent twins, losses, crowds."""

from agent.detect import seen
from agent.detect.canary import NamePoisoner
from agent.detect.floods import Flood
from agent.detect.model import Ask, Finding, Vouched
from agent.detect.scans import PortScan
from agent.detect.tripwires import Tripwire
from tests.detect.lan import ATTACKER, PC, Watch
from tests.detect.officeday import AGENT, ROUTER

TABLE = seen.Neighbours({ROUTER.ip: ROUTER.mac, PC.ip: PC.mac})


def contact(step: str, port: int, source: str = ATTACKER.ip, mac: str = ATTACKER.mac, protocol: str = "tcp") -> seen.Contact:
    mine = seen.Frame(AGENT.mac, mac, "out", b"c")
    frame = seen.Frame(mac, AGENT.mac, "in", b"c") if step == "asked" else mine
    return seen.Contact(frame, protocol, step, source, AGENT.ip, port)  # type: ignore[arg-type]


def scans(vouched: Vouched | None = None) -> Watch:
    watch = Watch(PortScan(vouched or Vouched()))
    watch.see(TABLE)
    return watch


def tries(watch: Watch, ports: range | tuple[int, ...], answer: str = "closed", **who: str) -> list[Finding]:
    said: list[Finding] = []
    for port in ports:
        said += watch.see(contact("asked", port, **who))
        said += watch.see(contact(answer, port, **who)) if answer else []
    return said


def test_four_closed_ports_are_a_scanner_and_more_confirm_it() -> None:
    watch = scans()
    assert tries(watch, range(1000, 1003)) == []
    (first,) = tries(watch, (1003,))
    assert (first.grade, first.confirmed, first.source) == ("medium", False, ATTACKER.ip)
    assert [f.confirmed for f in tries(watch, range(1004, 1100))] == [True]


def test_a_slow_scan_is_confirmed_by_a_second_walk_and_noise_by_fifteen_ports_only() -> None:
    watch = scans()
    for i in range(8):
        watch.wait(70)
        tries(watch, (1000 + i,))
    assert [f.confirmed for f in watch.findings][:: len(watch.findings) - 1] == [False, True]
    noisy = scans()
    tries(noisy, (137, 138, 139, 161, 427, 445, 515, 631, 1900, 3702, 5353, 5355, 5357))
    assert [f.confirmed for f in noisy.findings] == [False]


def test_open_ports_make_up_for_closed_ones_and_one_port_counts_once() -> None:
    watch = scans()
    tries(watch, (22, 80, 443), "open")
    assert tries(watch, range(1000, 1005)) == []
    assert tries(watch, (8080,) * 500, source=PC.ip, mac=PC.mac) == []
    assert tries(watch, (7680, 7070, 631, 445, 139, 5357), source=PC.ip, mac=PC.mac) == []


def test_silence_counts_after_a_second_but_not_when_packets_were_lost() -> None:
    watch = scans()
    watch.see(seen.Counters({"contacts_lost": 0.0}))
    tries(watch, range(1000, 1020), "")
    watch.see(seen.Counters({"contacts_lost": 7.0}), 0.5)
    assert watch.wait(5) == []
    tries(watch, range(1000, 1020), "")
    assert watch.wait(2)[-1].confirmed


def test_answers_to_nobody_late_answers_and_our_own_contacts_are_no_scan() -> None:
    watch = scans(Vouched(scanners=frozenset({"192.0.2.9"})))
    for port in range(1, 200):
        watch.see(contact("closed", port))
        watch.see(contact("open", port))
        watch.see(contact("closed", 40000 + port, ROUTER.ip, ROUTER.mac, "udp"))
    tries(watch, range(1, 50), source=AGENT.ip)
    tries(watch, range(1, 50), source="192.0.2.9")
    watch.wait(10)
    assert watch.findings == []


def test_udp_ports_that_refuse_are_a_scan_too() -> None:
    watch = scans()
    for port in range(500, 520):
        watch.see(contact("closed", port, protocol="udp"))
    assert watch.findings[-1].confirmed


def test_decoys_are_said_to_be_and_never_accused() -> None:
    watch = scans()
    for port in range(1000, 1030):
        for source in (PC.ip, ATTACKER.ip, "192.0.2.130"):
            tries(watch, (port,), source=source)
    last = watch.findings[-1]
    assert {finding.key for finding in watch.findings} == {ATTACKER.mac}
    assert last.source == ATTACKER.mac
    assert "source.ip" not in last.fields
    assert "borrowed" in last.message
    assert all(PC.ip not in (f.source, *f.fields.values()) for f in watch.findings)


def test_who_wears_a_servers_address_does_not_make_it_a_servers_scan() -> None:
    watch = scans()
    tries(watch, range(1000, 1030), source=ROUTER.ip)
    assert {(f.grade, f.source) for f in watch.findings} == {("medium", ATTACKER.mac)}
    honest = scans()
    tries(honest, range(1000, 1030), source=ROUTER.ip, mac=ROUTER.mac)
    assert honest.findings[-1].grade == "high"


def test_ten_thousand_scanners_are_few_findings() -> None:
    watch = Watch(PortScan(Vouched()))
    for i in range(2_500):
        tries(watch, range(1000, 1004), source=f"10.1.{i // 250}.{i % 250}")
    assert len(watch.findings) < 40


def hit(source: str, port: int, sent: int = 0) -> seen.Tripwire:
    return seen.Tripwire(source, port, sent)


def test_one_touch_is_low_two_tripwires_or_a_byte_are_high() -> None:
    watch = Watch(Tripwire(Vouched(scanners=frozenset({"192.0.2.9"}))))
    assert [(f.grade, f.confirmed) for f in watch.see(hit(ATTACKER.ip, 23))] == [("low", False)]
    assert watch.see(hit(ATTACKER.ip, 23), 5.0) == []
    assert [(f.grade, f.confirmed) for f in watch.see(hit(ATTACKER.ip, 445), 9.0)] == [("high", True)]
    assert watch.see(hit(PC.ip, 23, 5), 10.0)[0].grade == "high"
    assert watch.see(hit("192.0.2.9", 23, 5), 11.0) == watch.see(hit(AGENT.ip, 23, 5), 11.0) == []


def test_ten_thousand_visitors_are_few_findings() -> None:
    watch = Watch(Tripwire(Vouched()))
    for i in range(10_000):
        watch.see(hit(f"10.0.{i // 250}.{i % 250}", 23))
    assert len(watch.findings) <= 17
    assert watch.findings[-1].source == ""


def flood(watch: Watch, seconds: int, **rates: float) -> list[Finding]:
    said: list[Finding] = []
    base = dict(watch.detector._before or {})  # type: ignore[attr-defined]
    for i in range(1, seconds + 1):
        values = {name: rate if name == "half_open" else base.get(name, 0.0) + rate * i for name, rate in rates.items()}
        said += watch.see(seen.Counters(base | values), watch.at + 1)
    return said


def calm() -> Watch:
    watch = Watch(Flood(Vouched()))
    watch.see(seen.Counters(dict.fromkeys(("contacts", "ListenDrops", "NoPorts", "half_open"), 0.0)))
    assert flood(watch, 60, contacts=2.0) == []
    return watch


def test_a_flood_is_found_within_fifteen_seconds_and_told_once_and_ends() -> None:
    watch = calm()
    said = flood(watch, 14, contacts=50_000.0, ListenDrops=40_000.0, half_open=128.0)
    assert [(f.grade, f.confirmed, f.source) for f in said] == [("high", True, "")]
    assert flood(watch, 40, contacts=50_000.0, ListenDrops=40_000.0, half_open=128.0) == []
    assert [f.state for f in (*flood(watch, 70, contacts=1.0, half_open=0.0), *watch.findings[-1:])][-1] == "closed"


def rise(watch: Watch, each: float) -> list[Finding]:
    """So many half-open connections more each second, of which each lasts a minute; nothing else shows it."""
    return [f for second in range(1, 79) for f in flood(watch, 1, half_open=min(each * second, each * 63, 256.0))]


def test_a_slow_flood_is_no_habit_of_a_box_that_has_just_started_nor_of_an_old_one() -> None:
    for each in (4.0, 25.0):
        fresh = Watch(Flood(Vouched()))
        assert [f.confirmed for f in rise(fresh, each)] == [False, True]
        old = calm()
        flood(old, 400, contacts=2.0, half_open=2.0)
        assert [f.confirmed for f in rise(old, each)][-1:] == [True]


def test_a_burst_and_a_slow_trickle_are_none() -> None:
    watch = calm()
    assert flood(watch, 6, contacts=3_000.0) == []
    assert flood(watch, 60, contacts=40.0, ListenDrops=5.0) == []


def test_a_scan_is_no_flood_and_one_counter_alone_is_confirmed_late() -> None:
    watch = calm()
    for second in range(40):
        for i in range(40):
            watch.see(contact("asked", 1 + second * 40 + i))
        flood(watch, 1, contacts=2_000.0)
    assert watch.findings == []
    said = flood(watch, 60, NoPorts=900.0)
    assert [f.confirmed for f in said] == [False, True]


def test_what_a_box_is_used_to_is_no_flood_also_after_a_restart() -> None:
    watch = calm()
    flood(watch, 400, contacts=45.0)
    again = watch.again(Flood(Vouched()))
    assert flood(again, 60, contacts=300.0) == []


def canary(name: str, *who: tuple[str, str]) -> seen.Canary:
    return seen.Canary("llmnr", name, who)


LIAR = (ATTACKER.ip, ATTACKER.mac)


def test_the_second_name_makes_a_liar() -> None:
    watch = Watch(NamePoisoner(Vouched()))
    (first,) = watch.see(canary("lbh-1", LIAR))
    assert (first.grade, first.confirmed, watch.asks) == ("medium", False, [Ask("canary")])
    assert watch.see(canary("LBH-1.local", LIAR), 5.0) == []
    (second,) = watch.see(canary("lbh-2", LIAR), 9.0)
    assert (second.grade, second.confirmed, second.confidence, second.source) == ("critical", True, "certain", ATTACKER.mac)
    assert watch.see(canary("lbh-3", LIAR), 60.0) == []


def test_one_answer_silence_and_different_responders_confirm_nothing() -> None:
    watch = Watch(NamePoisoner(Vouched()))
    watch.see(canary("lbh-1", LIAR))
    watch.see(canary("lbh-2"), 60.0)
    watch.see(canary("lbh-3", (PC.ip, PC.mac)), 120.0)
    assert [f.confirmed for f in watch.findings] == [False, False]


def test_whose_address_the_liar_uses_is_not_named_and_a_router_gets_the_doubt() -> None:
    watch = Watch(NamePoisoner(Vouched()))
    watch.see(TABLE)
    for i in range(2):
        watch.see(canary(f"lbh-{i}", (PC.ip, ATTACKER.mac), (ROUTER.ip, ROUTER.mac)), i * 60.0)
    assert all(PC.ip not in (f.source, *f.fields.values()) for f in watch.findings)
    assert {f.key: f.confidence for f in watch.findings if f.confirmed} == {ATTACKER.mac: "certain", ROUTER.mac: "likely"}


def test_coverage_says_what_is_missing() -> None:
    told = {make(Vouched()).coverage(frozenset()) for make in (PortScan, Tripwire, Flood, NamePoisoner)}
    assert told == {(0.0, "no_capture"), (0.0, "no_tripwires"), (0.0, "no_counters"), (0.0, "no_canary")}
