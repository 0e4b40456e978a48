"""arp_sweep: who asks for everybody is told and named, in any order and at two a second; who has reasons to ask is not."""

from agent.detect import seen
from agent.detect.model import Ask, Vouched
from agent.detect.sweeps import ArpSweep
from tests.detect.lan import ABLE, ATTACKER, OTHER, PC, ROUTER, Watch, arp, table, weight
from tests.detect.officeday import AGENT


def watching(vouched: Vouched | None = None) -> Watch:
    watch = Watch(ArpSweep(vouched or Vouched()))
    watch.see(table())
    for at in range(0, 900, 60):
        watch.see(arp(PC.mac, PC.ip, ROUTER.ip), at)
    return watch


def sweep(watch: Watch, mac: str = ATTACKER.mac, ip: str = ATTACKER.ip, count: int = 30, gap: float = 0.01, start: float = 1000.0) -> None:
    for i in range(count):
        watch.see(arp(mac, ip, f"192.0.2.{(i * 37) % 250 + 3}"), start + i * gap)


def knock(source: str, port: int, step: str = "closed", source_mac: str = ATTACKER.mac) -> seen.Contact:
    return seen.Contact(seen.Frame(AGENT.mac, source_mac, "out"), "tcp", step, source, AGENT.ip, port)  # type: ignore[arg-type]


# -- found -------------------------------------------------------------------------------------------------------------------------


def test_twenty_five_are_told_and_two_of_the_dark_ones_are_looked_at() -> None:
    watch = watching()
    sweep(watch, count=25)
    (found,) = watch.findings
    assert (found.grade, found.confirmed, found.source, found.fields["source.ip"]) == ("medium", False, ATTACKER.mac, ATTACKER.ip)
    assert found.fields["ronda.targets"] == "25"
    assert 2 <= len(watch.asks) <= 3
    assert {ask.probe for ask in watch.asks} == {"arp"}
    confirmed = [f for ask in watch.asks for f in watch.see(seen.ArpProbe(ask.target, ()))]
    assert [f.confirmed for f in confirmed] == [True]


def test_our_looks_are_back_when_it_is_a_sweep_and_ten_addresses_are_none() -> None:
    watch = watching()
    sweep(watch, count=12, gap=0.5)
    assert len(watch.asks) == 3
    for ask in list(watch.asks):
        watch.see(seen.ArpProbe(ask.target, ()))
    watch.see(knock(ATTACKER.ip, 445))
    assert watch.findings == []
    sweep(watch, count=25, gap=0.5, start=watch.at)
    assert watch.findings[0].confirmed


def test_twice_as_many_need_no_look() -> None:
    watch = watching()
    sweep(watch, count=60)
    assert [f.confirmed for f in watch.findings] == [False, True]


def test_two_a_second_are_a_sweep_and_one_a_second_is_too() -> None:
    for gap in (0.5, 1.0):
        watch = watching()
        sweep(watch, count=40, gap=gap)
        assert watch.findings[0].source == ATTACKER.mac


def test_who_then_knocks_at_closed_doors_is_grave() -> None:
    watch = watching()
    sweep(watch)
    (found,) = watch.see(knock(ATTACKER.ip, 445), 1010)
    assert (found.grade, found.confirmed, found.source) == ("high", True, ATTACKER.mac)


def test_so_is_who_completes_a_connection_to_a_tripwire() -> None:
    watch = watching()
    sweep(watch)
    assert [f.grade for f in watch.see(seen.Tripwire(ATTACKER.ip, 23), 1100)] == ["high"]


def test_so_is_who_asks_for_several_doors_that_say_nothing() -> None:
    watch = watching()
    sweep(watch)
    found = [f for port in (22, 80, 443) for f in watch.see(knock(ATTACKER.ip, port, "asked"), 1010)]
    assert [f.grade for f in found] == ["high"]


def test_another_that_knocks_is_another() -> None:
    watch = watching()
    sweep(watch)
    assert watch.see(knock(OTHER.ip, 445), 1010) == []
    assert watch.see(seen.Tripwire(OTHER.ip, 23), 1011) == []
    assert watch.see(knock(ATTACKER.ip, 9115, "open"), 1012) == []  # a door that somebody serves
    assert watch.see(knock(ATTACKER.ip, 445), 3000) == []  # much later


def test_who_sweeps_in_anothers_name_has_that_other_not_accused() -> None:
    """The frame's source is who sent it; the address that it names is the victim's, whose MAC the kernel knows."""
    watch = watching()
    watch.see(table(ROUTER.mac, **{PC.ip: PC.mac}))
    for i in range(60):
        watch.see(arp(ATTACKER.mac, PC.ip, f"192.0.2.{i + 3}"), 1000 + i * 0.01)
        watch.see(arp(PC.mac, PC.ip, f"192.0.2.{i + 3}", source=ATTACKER.mac))
    assert {f.source for f in watch.findings} == {ATTACKER.mac}
    assert not any("source.ip" in f.fields for f in watch.findings)


# -- innocent ----------------------------------------------------------------------------------------------------------------------


def test_asking_for_hosts_that_are_there_is_none() -> None:
    watch = watching()
    for n in range(100, 140):
        watch.see(arp(f"3c:52:82:00:00:{n:02x}", f"192.0.2.{n}", ROUTER.ip), 900 + n)
    for n in range(100, 140):
        watch.see(arp(PC.mac, PC.ip, f"192.0.2.{n}"), 1100 + n * 0.1)
    assert watch.findings == []


def test_who_has_reasons_to_ask_is_let_be() -> None:
    watch = watching(Vouched(scanners=frozenset({"192.0.2.9"})))
    sweep(watch, ROUTER.mac, ROUTER.ip, 200)
    sweep(watch, "00:11:32:00:00:09", "192.0.2.9", 200, start=1100)
    sweep(watch, AGENT.mac, AGENT.ip, 200, start=1200)
    assert watch.findings == []


def test_probes_of_rondas_and_of_hosts_that_start_are_none_a_hundred_are() -> None:
    watch = watching()
    for i in range(40):
        watch.see(arp(OTHER.mac, "0.0.0.0", f"192.0.2.{i + 3}"), 1000 + i * 0.7)
    for i in range(50):
        watch.see(arp(f"3c:52:82:00:01:{i:02x}", "0.0.0.0", f"192.0.2.{i + 100}"), 1100 + i * 0.1)
    assert watch.findings == []
    for i in range(110):
        watch.see(arp(ATTACKER.mac, "0.0.0.0", f"192.0.2.{i + 3}"), 1200 + i * 0.1)
    assert {f.source for f in watch.findings} == {ATTACKER.mac}


def test_fifty_that_boot_together_are_none() -> None:
    watch = watching()
    for n in range(50):
        for target in (ROUTER.ip, "192.0.2.5", "192.0.2.20", f"192.0.2.{100 + n}"):
            watch.see(arp(f"3c:52:82:00:00:{n:02x}", f"192.0.2.{100 + n}", target), 1000 + n * 0.05)
    assert watch.findings == []


def test_slowly_is_none() -> None:
    watch = watching()
    sweep(watch, count=200, gap=2.0)
    assert watch.findings == []


# -- lies and limits ---------------------------------------------------------------------------------------------------------------


def test_a_long_sweep_is_said_again_but_seldom() -> None:
    watch = watching()
    for i in range(6000):
        watch.see(arp(ATTACKER.mac, ATTACKER.ip, f"192.0.{i >> 8}.{i & 255 or 1}"), 1000 + i * 0.05)
    assert len(watch.findings) <= 8
    assert len(watch.asks) <= 6


def test_ten_thousand_macs_that_sweep_are_a_few_findings_and_little_memory() -> None:
    watch = watching()
    for i in range(10_000):
        for n in range(26 if i % 10 == 0 else 1):
            watch.see(arp(f"00:0d:{i >> 8 & 255:02x}:{i & 255:02x}:00:01", f"10.0.{i >> 8}.{i & 255}", f"192.0.2.{n + 3}"), 1000 + i * 0.01)
    assert len({f.key for f in watch.findings}) <= 17
    assert weight(watch.detector) < 60_000


def test_garbage_sweeps_nothing() -> None:
    watch = watching()
    for i in range(300):
        watch.see(
            arp(ATTACKER.mac, ATTACKER.ip, ("x" * 99_999, "", "224.0.0.1", "zz", f"{i}.{i}.{i}.{i}.")[i % 5] + str(i)), 1000 + i * 0.01
        )
        watch.see(arp(("", "ff:ff:ff:ff:ff:ff", "zz")[i % 3], ATTACKER.ip, f"192.0.2.{i % 200}"))
        watch.see(seen.ArpProbe("x" * 99_999, ("y",)))
        watch.see(seen.Tripwire("x", -1))
    assert watch.findings == []


def test_what_it_can_see_is_said() -> None:
    detector = ArpSweep(Vouched())
    assert detector.coverage(ABLE) == (1.0, "")
    assert detector.coverage(frozenset({"capture"})) == (0.5, "no_probe")
    assert detector.coverage(frozenset()) == (0.0, "no_capture")
    assert detector.remember() == {}


def test_a_probe_that_finds_somebody_makes_it_less_sure() -> None:
    watch = watching()
    sweep(watch, count=25)
    for ask in list(watch.asks):
        assert isinstance(ask, Ask)
        watch.see(seen.ArpProbe(ask.target, ("3c:52:82:00:09:09",)))
    sweep(watch, count=60, start=1200)
    assert not any(f.confirmed for f in watch.findings)
