"""`ronda replay`: what it finds, what it assumes, how it takes files that are cut, torn, strange or not there, and times that jump."""

import datetime
import gzip
import io
import json
import os
import random
import threading
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether

from agent import replay
from agent.cli import main
from agent.detect import reading, seen
from agent.detect.model import Finding, Plain, Rule
from agent.detect.surroundings import of_capture
from agent.wire import pcap
from tests.detect import cases
from tests.detect.player import CORPUS
from tests.fuzz import fuzz

DAY = 86_400.0
NOON = 1_795_000_000.0
PC, ROUTER, LAPTOP = "3c:52:82:01:7a:01", "4c:5e:0c:11:22:01", "00:0c:29:66:66:66"


def written(path, packets, linktype=1):
    path.write_bytes(pcap.file_head(linktype) + b"".join(pcap.record(at, raw) for at, raw in packets))
    return str(path)


def of_case(case, start=NOON):
    """The frames of a generated case."""
    return [(start + at, what) for at, what in case(random.Random(1)) if isinstance(what, bytes)]


def replayed(capsys, *words):
    """The exit code, the events and what was said beside them."""
    code = main(["replay", "--json", *words])
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


# -- what is found ------------------------------------------------------------------------------------------------------------------


def test_a_sweep_in_a_capture_is_told_as_an_event(tmp_path, capsys):
    code, events, err = replayed(capsys, written(tmp_path / "x.pcap", of_case(cases.sweep_nmap)))

    assert code == 0
    found = [event for event in events if event["kind"] == "arp_sweep"]
    assert found[0]["fields"]["source.mac"] == cases.ATTACKER.mac
    assert (found[0]["fields"]["rule.id"], found[0]["fields"]["threat.technique.id"]) == ("L10", "T1018")
    assert NOON < found[0]["first"] <= found[0].get("last", NOON + 1e6)
    assert "packets" in err


def test_a_storm_is_counted_from_the_frames_themselves(tmp_path, capsys):
    one = bytes(who_has(PC, "192.0.2.101", "192.0.2.1")).ljust(60, b"\0")
    frames = [(NOON + i / 1000, one) for i in range(15_000)]

    _, storm, _ = replayed(capsys, written(tmp_path / "storm", frames))
    _, calm, _ = replayed(capsys, written(tmp_path / "calm", frames[::4]))

    assert {(event["kind"], event["fields"]["ronda.grade"]) for event in storm} >= {("broadcast_storm", "high")}
    assert [event for event in calm if event["kind"] == "broadcast_storm"] == []


def test_people_see_a_table_without_what_is_the_same_in_each(tmp_path, capsys):
    code = main(["replay", written(tmp_path / "x.pcap", of_case(cases.sweep_nmap))])
    out, _ = capsys.readouterr()

    assert code == 0
    head, line, evidence, *_ = out.splitlines()
    assert head == "waktu (WIB)"
    assert "ada yang menyisir jaringan kantor (arp_sweep): a device looks" in line
    assert f"perangkat (MAC)={cases.ATTACKER.mac}" in evidence
    assert "event.category" not in out
    assert "ronda." not in evidence


def test_guesses_in_a_log_are_told_as_an_event(tmp_path, capsys):
    log = tmp_path / "auth.log"
    lines = [f"Nov 24 10:00:{i:02d} box sshd[{900 + i}]: Failed password for root from 192.0.2.66 port 4{i:04d} ssh2\n" for i in range(30)]
    log.write_text("".join(lines))

    code, events, err = replayed(capsys, str(log))

    assert code == 0
    assert events[0]["kind"] == "brute_force"
    assert events[0]["fields"]["source.ip"] == "192.0.2.66"
    assert "30 lines, 30 tell of a login" in err


ROUTERS = """jan/02/1970 02:00:09 system,info router rebooted
sep/15/2026 09:54:33 system,info filter rule added by admin
sep/15/2026 09:55:0{n} system,error,critical login failure for user admin from 192.168.88.66 via ssh
sep/15/2026 09:55:09 system,info,account user admin logged in from 192.168.88.66 via ssh
<134>Sep 15 09:56:00 Kantor Camat firewall,info input: in:lan out:(none), proto TCP (SYN), 192.168.88.66:4000->192.168.88.1:{p}, len 44
"""


def test_a_routers_log_is_read_with_its_own_times(tmp_path, capsys):
    lines = ROUTERS.splitlines(keepends=True)
    text = "".join([*lines[:2], *(lines[2].format(n=n) for n in range(7)), lines[3], *(lines[4].format(p=p) for p in range(20, 40))])
    (tmp_path / "router.log").write_text(text)
    os.utime(tmp_path / "router.log", (1_790_000_000, 1_790_000_000))  # 2026-09-21

    code, events, err = replayed(capsys, str(tmp_path / "router.log"))

    assert code == 0
    graver = {(e["kind"], e["fields"]["ronda.grade"]) for e in events if e["fields"]["ronda.state"] != "closed"}
    assert graver >= {("router_changed", "high"), ("router_login_failures", "critical"), ("router_scanned", "medium")}
    assert {e["fields"]["source.ip"] for e in events if e["kind"] == "router_scanned"} == {"192.168.88.66"}
    assert {e["fields"]["ronda.device"] for e in events} == {"router", "Kantor Camat"}
    began = datetime.datetime(2026, 9, 15, 9, 54, 33, tzinfo=zoneinfo.ZoneInfo("Asia/Jakarta")).timestamp()
    assert next(e["first"] for e in events if e["kind"] == "router_changed") == began
    assert "29 are a router's" in err


def test_times_without_a_zone_are_those_of_the_office(tmp_path, capsys):
    log, config = tmp_path / "auth.log", tmp_path / "ronda.yaml"
    log.write_text(
        "".join(f"2026-11-24 10:00:{i:02d} box sshd[{i}]: Failed password for root from 192.0.2.66 port 1 ssh2\n" for i in range(30))
    )
    config.write_text("site: dukcapil\noffice: {timezone: Asia/Jayapura}\n")

    _, west, _ = replayed(capsys, str(log))
    _, east, _ = replayed(capsys, "--site-config", str(config), str(log))

    assert west[0]["first"] - east[0]["first"] == pytest.approx(2 * 3600, abs=1)
    assert east[0]["site"] == "dukcapil"


def test_whom_the_office_vouches_for_is_no_finding(tmp_path, capsys):
    config = tmp_path / "ronda.yaml"
    config.write_text(f"site: dukcapil\ncollectors: {{lan: [{{scanners: [{cases.ATTACKER.ip}]}}]}}\n")
    capture = written(tmp_path / "x.pcap", of_case(cases.sweep_nmap))

    assert "arp_sweep" in {event["kind"] for event in replayed(capsys, capture)[1]}
    assert "arp_sweep" not in {event["kind"] for event in replayed(capsys, "--site-config", str(config), capture)[1]}


def test_a_gzipped_log_and_a_gzipped_capture_read_the_same(tmp_path, capsys):
    plain = written(tmp_path / "x.pcap", of_case(cases.sweep_nmap))
    (tmp_path / "x.gz").write_bytes(gzip.compress((tmp_path / "x.pcap").read_bytes()))

    assert replayed(capsys, str(tmp_path / "x.gz"))[1] == replayed(capsys, plain)[1] != []


def test_a_pipe_is_read_as_it_comes(tmp_path, capsys):
    written(tmp_path / "x.pcap", of_case(cases.sweep_nmap))
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / "x.pcap").read_bytes()))
    writer.start()

    code, events, _ = replayed(capsys, str(tmp_path / "pipe"))
    writer.join()

    assert (code, events) == (0, replayed(capsys, str(tmp_path / "x.pcap"))[1])


def test_a_quiet_office_finds_nothing(tmp_path, capsys):
    code, events, err = replayed(capsys, written(tmp_path / "x.pcap", of_case(cases.busy_morning)))

    assert (code, [e for e in events if e["fields"]["ronda.grade"] not in ("low", "info")]) == (0, [])
    assert "packets" in err


@pytest.mark.parametrize(
    ("name", "options", "kind", "field", "value"),
    [
        ("pcap/arppoison.pcapng", [], "gateway_mac", "source.mac", "00:25:b3:bf:91:ee"),
        ("pcap/arppoison.pcapng", ["--me", "172.16.0.107/24"], "gateway_mac", "source.mac", "00:25:b3:bf:91:ee"),
        ("pcap/arppoison.pcapng", ["--me", "172.16.0.107", "--gateway", "172.16.0.1"], "gateway_mac", "source.mac", "00:25:b3:bf:91:ee"),
        ("logs/crowdsec_ssh-bf.log", [], "brute_force", "source.ip", "35.188.49.176"),
    ],
)
def test_real_captures_and_logs(name, options, kind, field, value, capsys):
    if not (CORPUS / name).is_file():
        print(f"not looked at: {CORPUS / name} isn't here")
        return
    code, events, _ = replayed(capsys, *options, str(CORPUS / name))

    assert code == 0
    assert {(event["kind"], event["fields"][field]) for event in events} == {(kind, value)}


INNOCENT = [
    "arp_gratuitous.pcapng",
    "dhcp_nolease_initialization.pcapng",
    "dns_isp_hijack.pcapng",
    "llmnr_udp.pcap",
    "tcpdump_HSRP_failover.pcap",
]
INNOCENT += [
    "maltrail_ack_sweep_no_fp.pcap",
    "maltrail_clean_tcp.pcap",
    "tcpdump_LLDP_and_CDP.pcap",
    "tcpdump_vrrp.pcap",
    "icmp_traceroute.pcapng",
]
STRANGE = [f"pcap/{name}" for name in INNOCENT] + sorted(f"malformed/{path.name}" for path in (CORPUS / "malformed").glob("*"))


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_innocent_or_broken_is_read_and_nobody_is_woken(name, capsys):
    if not (CORPUS / name).is_file():
        print(f"not looked at: {CORPUS / name} isn't here")
        return
    code, events, err = replayed(capsys, str(CORPUS / name))

    assert code == 0
    assert [event for event in events if event["severity"] != "info"] == []
    assert "a bug" not in err


# -- files that can't be read -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x7fELF\2\1\1\0\0\0\3\0" * 400, "neither a capture nor a log"),
        (b"# A page\n\nof text without times\n", "no line begins with a time"),
        (b"\0" * 5000, "neither a capture nor a log"),
        (b"\x1f\x8bnot gzip at all", "gzip"),
        (None, "No such file"),
    ],
)
def test_what_is_neither_capture_nor_log_ends_with_2(content, said, tmp_path, capsys):
    if content is not None:
        (tmp_path / "x").write_bytes(content)

    code, events, err = replayed(capsys, str(tmp_path / "x"))

    assert (code, events) == (2, [])
    assert said in err


def test_a_directory_ends_with_2(tmp_path, capsys):
    assert replayed(capsys, str(tmp_path))[0] == 2


@pytest.mark.parametrize("words", [["--me", "office"], ["--gateway", "1.2.3"], []])
def test_words_that_make_no_sense_end_with_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["replay", *words])
    assert ended.value.code == 2


def test_an_empty_file_holds_nothing(tmp_path, capsys):
    (tmp_path / "x").write_bytes(b"")

    assert replayed(capsys, str(tmp_path / "x"))[:2] == (0, [])


def test_what_was_whole_of_a_cut_capture_is_looked_at_and_its_end_is_told(tmp_path, capsys):
    path = tmp_path / "x.pcap"
    written(path, of_case(cases.sweep_nmap))
    path.write_bytes(path.read_bytes()[:-7])

    code, events, err = replayed(capsys, str(path))

    assert code == 0
    assert {event["kind"] for event in events} >= {"arp_sweep"}
    assert "the capture doesn't end as it should: it is cut off" in err


def test_a_torn_gzip_gives_what_was_whole(tmp_path, capsys):
    path = tmp_path / "x.pcap"
    written(path, of_case(cases.sweep_nmap))
    path.write_bytes(gzip.compress(path.read_bytes())[:-100])

    code, _, err = replayed(capsys, str(path))

    assert code == 0
    assert "can't be read to its end" in err


def test_links_that_are_not_understood_and_heads_that_are_cut_are_counted(tmp_path, capsys):
    strange = written(tmp_path / "a", [(NOON, bytes(40))] * 3, linktype=105)
    cut = written(tmp_path / "b", [(NOON, b"x")] * 2)

    assert "3 packets not understood" in replayed(capsys, strange)[2]
    assert "2 packets whose head can't be read" in replayed(capsys, cut)[2]


def test_a_line_of_megabytes_is_cut_and_the_next_one_read():
    class Long(io.BytesIO):
        most = 0

        def readline(self, size=-1):
            got = super().readline(size)
            self.most = max(self.most, len(got))
            return got

    good = b"Nov 24 10:00:01 box sshd[9]: Failed password for root from 192.0.2.66 port 1 ssh2\n"
    stream = Long(b"Nov 24 10:00:00 box sshd[9]: " + b"A" * 3_000_000 + b"\n" + good)

    found = [what for _, what in replay.Logged(stream, NOON, replay.ZoneInfo("UTC")) if what]

    assert [(login.user, login.source) for login in found] == [("root", "192.0.2.66")]
    assert stream.most <= replay.MAX_LINE


@fuzz
@given(
    st.lists(st.one_of(st.binary(max_size=80), st.just(b"Nov 24 10:00:01 box sshd[9]: "), st.just(b"\n"), st.just(b"\0" * 9)), max_size=20)
)
def test_fuzz_noise_in_a_log_is_passed_over(pieces):
    stream = io.BytesIO(b"Nov 24 10:00:00 box sshd[9]: Server listening\n" + b"".join(pieces))

    for when, _ in replay.Logged(stream, NOON, replay.ZoneInfo("UTC")):
        assert when == when


# -- time ---------------------------------------------------------------------------------------------------------------------------


class Watcher(Plain):
    """Notes what it is told, and when."""

    rule = Rule("gateway_mac", "L01", "1", "network")
    wants = (seen.Arp, seen.Login)

    def __init__(self):
        self.times, self.ticks = [], []

    def see(self, what, at):
        self.times.append(at)
        yield Finding(self.rule.name, str(at), "low", "likely", "seen")

    def tick(self, at):
        self.ticks.append(at)
        return ()


def watched(times):
    """At what times a detector is told of ARP frames that a file says were at `times`; when it was ticked; the events' own times."""
    watcher = Watcher()
    raw = bytes(Ether() / ARP())
    source = [(at, what) for at in times for what in reading.read(raw)]
    told = [outcome.event.last_seen for outcome in replay.outcomes(source, [watcher], replay.Said())]
    return watcher.times, watcher.ticks, told


def test_detectors_are_ticked_each_second_and_events_have_the_times_of_the_file():
    times, ticks, told = watched([NOON, NOON + 2.5, NOON + 5])

    assert times == [0.0, 2.5, 5.0]
    assert ticks == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert told == [NOON, NOON + 2.5, NOON + 5]


def test_a_jump_of_days_ticks_the_minute_around_it():
    times, ticks, _ = watched([NOON, NOON + 30 * DAY])

    assert times == [0.0, 30 * DAY]
    assert len(ticks) < 200
    assert min(ticks) == 1.0
    assert max(tick for tick in ticks if tick < 1000) >= 60
    assert min(tick for tick in ticks if tick > 1000) == 30 * DAY - 60


def test_a_moment_back_and_forth_is_one_and_the_same_time():
    times, _, told = watched([NOON, NOON + 1, NOON + 0.5, NOON + 1, NOON + 2])

    assert times == [0.0, 1.0, 1.0, 1.0, 2.0]
    assert told == [NOON, NOON + 1, NOON + 2]


def test_a_clock_that_is_put_back_does_not_stop_time():
    """What comes after counts from there; else all that follows would have happened at once, as a flood does."""
    times, ticks, told = watched([NOON, NOON + DAY, NOON + 10, NOON + 20, NOON + 30])

    assert times == [0.0, DAY, DAY, DAY + 10, DAY + 20]
    assert ticks == sorted(ticks)
    assert told[-1] == NOON + 30


@pytest.mark.parametrize("strange", [float("nan"), float("inf"), float("-inf"), -5.0, 1e19])
def test_times_that_mean_nothing(strange):
    times, ticks, told = watched([NOON, strange, NOON + 1, NOON + 2])

    assert times == sorted(times)
    assert len(ticks) < 1000
    assert all(0 <= at < 1e12 for at in told)


@fuzz
@given(st.lists(st.floats(), max_size=12))
def test_fuzz_whatever_the_times_they_never_go_back_and_ticks_are_few(written_times):
    clock, last, count = replay.FileTime(), 0.0, 0
    for at in written_times:
        for moment in clock.reach(at):
            assert last <= moment.at <= replay.LEAP * len(written_times)
            last, count = moment.at, count + 1
        assert clock.now.at >= last
        last = clock.now.at
    assert count <= 200 * len(written_times)


def test_a_detector_that_fails_is_said_and_the_others_go_on(capsys):
    class Bad(Watcher):
        rule = Rule("flood", "L13", "1", "network")

        def see(self, what, at):
            raise RuntimeError

    good = Watcher()

    told = list(replay.outcomes([(NOON, what) for what in reading.read(bytes(Ether() / ARP()))], [Bad(), good], replay.Said()))

    assert (len(told), good.times) == (1, [0.0])
    assert "the detector flood failed 1 times: a bug of Ronda" in capsys.readouterr().err


# -- surroundings -------------------------------------------------------------------------------------------------------------------


def guessed(packets, **said):
    return of_capture((what for packet in packets for what in reading.read(bytes(packet))), **said)


def who_has(mac, sender, target):
    return Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=mac, psrc=sender, pdst=target)


def test_the_gateway_is_whom_most_hosts_ask_for():
    asking = [who_has(f"3c:52:82:00:00:{i:02x}", f"192.0.2.{10 + i}", "192.0.2.1") for i in range(3)]
    one = [who_has(LAPTOP, "192.0.2.66", f"192.0.2.{i}") for i in range(100, 200)]

    guess = guessed(asking + one)

    assert (guess.network.gateways, guess.network.networks, guess.network.addresses) == (("192.0.2.1",), ("192.0.2.0/24",), ())
    assert "asked for by 3 hosts" in guess.why[0]


def test_the_gateway_is_what_dhcp_offers():
    options = [("message-type", 2), ("router", "192.0.2.254"), ("name_server", "192.0.2.3"), "end"]
    offer = (
        Ether()
        / IP(src="192.0.2.254", dst="255.255.255.255")
        / UDP(sport=67, dport=68)
        / BOOTP(op=2, chaddr=bytes(6))
        / DHCP(options=options)
    )

    network = guessed([offer]).network

    assert (network.gateways, network.resolvers) == (("192.0.2.254",), ("192.0.2.3",))


def test_this_box_is_who_is_asked_and_has_a_part_in_all():
    asked = Ether(src=LAPTOP, dst=PC) / IP(src="192.0.2.66", dst="192.0.2.10") / TCP(dport=22, flags="S")
    answered = Ether(src=PC, dst=LAPTOP) / IP(src="192.0.2.10", dst="192.0.2.66") / TCP(sport=22, flags="RA", seq=0)

    network = guessed([asked, answered] * 5).network

    assert (network.addresses, network.mac) == (("192.0.2.10",), PC)


def test_who_only_asks_others_is_not_taken_for_us():
    """Else a scanner whose own capture is replayed would be exempt."""
    asks = [Ether(src=LAPTOP, dst=PC) / IP(src="192.0.2.66", dst=f"192.0.2.{i}") / TCP(dport=22, flags="S") for i in range(100, 150)]

    assert guessed(asks).network is None


def test_one_invented_sender_makes_no_network():
    asking = [who_has(f"3c:52:82:00:00:{i:02x}", f"192.0.2.{10 + i}", "192.0.2.1") for i in range(3)]
    second = [who_has(f"3c:52:82:00:01:{i:02x}", f"198.51.100.{10 + i}", "198.51.100.1") for i in range(2)]

    assert guessed([*asking, *second, who_has(LAPTOP, "203.0.113.5", "192.0.2.1")]).network.networks == ("192.0.2.0/24", "198.51.100.0/24")


def test_what_is_said_is_believed():
    guess = guessed([who_has(PC, "10.9.8.7", "10.9.8.1")], me="10.9.8.7/16", gateway="10.9.0.1")

    assert (guess.network.addresses, guess.network.gateways) == (("10.9.8.7",), ("10.9.0.1",))
    assert guess.network.networks[0] == "10.9.0.0/16"


def test_what_is_assumed_is_said(tmp_path, capsys):
    asking = [(NOON + i, bytes(who_has(f"3c:52:82:00:00:{i:02x}", f"192.0.2.{10 + i}", "192.0.2.1"))) for i in range(3)]

    assert "assumed: gateway 192.0.2.1" in replayed(capsys, written(tmp_path / "a", asking))[2]
    assert "--gateway" in replayed(capsys, written(tmp_path / "b", asking[:1]))[2]


def test_guessing_is_bounded():
    """Whoever invents addresses must not fill the memory, nor hide whom all others ask for."""
    frame = seen.Frame(PC, seen.BROADCAST)
    known = [seen.Arp(frame, 1, PC, f"192.0.2.{i}", seen.NO_MAC, "192.0.2.1") for i in range(10, 20)]
    invented = [seen.Arp(frame, 1, PC, f"10.1.{i >> 8}.{i & 255}", seen.NO_MAC, f"10.2.{i & 255}.{i >> 8}") for i in range(1, 20_000)]

    network = of_capture([*invented, *known]).network

    assert network.gateways == ("192.0.2.1",)
    assert len(network.networks) <= 8
