"""Lines of routers: RouterOS 6 and 7 as vendor and field write them, the corpus's verdicts, Linux routers; all else is nothing."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.detect import routerlines
from agent.detect.routerlines import AREAS, VIAS, Reader, inside
from agent.detect.seen import RouterChange, RouterDrop, RouterLogin
from agent.wire.rfc3164 import read
from agent.wire.rfc5424 import SyslogError
from tests.detect.player import CORPUS
from tests.fuzz import broken, fuzz

LOGS = CORPUS / "logs"


def told(line: str) -> RouterLogin | RouterChange | RouterDrop | None:
    """What a line of RouterOS's tells, also of a file: without priority or time."""
    try:
        return routerlines.read(read(line.encode(errors="replace")[: routerlines.MAX_LINE]), "router")
    except SyslogError:
        return None


# -- the corpus -------------------------------------------------------------------------------------------------------------------


def corpus(name: str) -> list[str]:
    """Its lines; none, said, where it isn't: the lines below, of the same forms, stand for it."""
    if not (LOGS / name).exists():
        print(f"{LOGS / name} is not here: the lines below stand for it")
        return []
    return (LOGS / name).read_text().splitlines()


def test_each_line_of_the_corpus_has_its_verdict() -> None:
    """The verdict stands on the line above: whether it is a failed login, of whom, from where."""
    verdicts, verdict = 0, None
    for line in corpus("routeros-auth"):
        if line.startswith("# failJSON:"):
            verdict = json.loads(line.partition(":")[2])
        elif verdict and line:
            found = told(line)
            failed = isinstance(found, RouterLogin) and not found.success
            assert failed == verdict["match"], line
            if isinstance(found, RouterLogin):
                assert (found.source, found.user) == (verdict["host"], verdict["user"])
            verdicts, verdict = verdicts + 1, None
    assert verdicts == (4 if (LOGS / "routeros-auth").exists() else 0)


def test_each_line_of_the_corpus_scan_is_a_refused_packet_of_one_source() -> None:
    if not (lines := corpus("crowdsec_mikrotik-scan.log")):
        return
    found = [told(line) for line in lines if line]
    assert len(found) >= 15
    assert {(d.source, d.target, d.protocol, d.inside) for d in found if isinstance(d, RouterDrop)} == {
        ("36.97.161.219", "80.82.202.145", "tcp", False)
    }
    ports = [int(line.rpartition(", len")[0].rpartition(":")[2]) for line in lines if line]
    assert [d.port for d in found if isinstance(d, RouterDrop)] == ports


# -- logins -----------------------------------------------------------------------------------------------------------------------

LOGINS = {
    "system,error,critical login failure for user admin from 192.168.88.6 via web": ("admin", "192.168.88.6", "web", False),
    "system,error,critical login failure for user  from 2001:DB8::24 via ssh": ("", "2001:db8::24", "ssh", False),
    "system,error,critical login failure for user user with space from 1.2.3.4 via ssh": ("user with space", "1.2.3.4", "ssh", False),
    "system,error,critical login failure for user admin from ::ffff:10.0.0.7 via api": ("admin", "10.0.0.7", "api", False),
    "system,error,critical login failure for user admin from fe80::1%ether2 via telnet": ("admin", "fe80::1", "telnet", False),
    "system,error,critical login failure for user admin from 00:0C:29:AA:BB:CC via mac-telnet": (
        "admin", "00:0c:29:aa:bb:cc", "mac", False
    ),
    "system,error,critical login failure for user admin via local": ("admin", "", "local", False),
    "system,error,critical login failure for user admin from 10.0.0.7 via winbox": ("admin", "10.0.0.7", "winbox", False),
    "system,error,critical login failure for user admin from 10.0.0.7 via rest-api": ("admin", "10.0.0.7", "api", False),
    "system,error,critical login failure for user admin from 10.0.0.7 via something-new": ("admin", "10.0.0.7", "other", False),
    "<28>Nov 24 10:00:00 RB Kantor login failure for user admin from 10.0.0.7 via ftp": ("admin", "10.0.0.7", "ftp", False),
    "system,error,critical kantor: login failure for user admin from 10.0.0.7 via ftp": ("admin", "10.0.0.7", "ftp", False),
    "system,info,account user admin logged in from 10.1.101.212 via winbox": ("admin", "10.1.101.212", "winbox", True),
    "system,info,account user admin logged in via local": ("admin", "", "local", True),
    "system,info,account user user logged in logged in from 10.1.101.212 via ssh": ("user logged in", "10.1.101.212", "ssh", True),
    "<30>Nov 24 10:00:00 MikroTik user admin logged in from 10.0.0.1 via ssh": ("admin", "10.0.0.1", "ssh", True),
    # a name that would accuse somebody else: the last one counts
    "system,error,critical login failure for user x from 6.6.6.6 via ssh from 10.9.9.9 via winbox": (
        "x from 6.6.6.6 via ssh", "10.9.9.9", "winbox", False
    ),
    "system,error,critical login failure for user x from 6.6.6.6 from 10.9.9.9 via winbox": ("x from 6.6.6.6", "10.9.9.9", "winbox", False),
}  # fmt: skip


@pytest.mark.parametrize("line", LOGINS)
def test_a_login_and_who_it_was(line: str) -> None:
    found = told(line)
    assert isinstance(found, RouterLogin)
    assert (found.user, found.source, found.via, found.success) == LOGINS[line]
    assert found.via in VIAS


def test_what_the_router_wrote_as_its_time_is_kept() -> None:
    found = told("<28>Jan  1 00:00:07 gw system,error,critical login failure for user admin from 10.0.0.7 via ssh")
    assert isinstance(found, RouterLogin)
    assert found.written == "Jan  1 00:00:07"


def test_folded_lines_count_for_all_that_they_stand_for() -> None:
    found = told("system,error,critical message repeated 4 times: [ login failure for user admin from 10.0.0.7 via ssh]")
    assert isinstance(found, RouterLogin)
    assert (found.times, found.source) == (4, "10.0.0.7")


@pytest.mark.parametrize(
    "line",
    [
        "system,info,account user admin logged out from 10.0.0.7 via ssh",
        "system,info router rebooted",
        "system,error,critical router was rebooted without proper shutdown, probably power outage",
        "script,info login failure for user admin from 10.0.0.7 via ssh",  # anybody's script may say so
        "dhcp,info dhcp1 assigned 10.0.0.7 for AA:BB:CC:DD:EE:FF x: login failure for user admin from 10.9.9.9 via ssh",
        "hotspot,account,info,debug user1 (10.5.50.2): trying to log in by http-pap",
        "ppp,info,account budi logged in, 10.0.0.9 from AA:BB:CC:DD:EE:FF",
        "interface,info ether4 link up (speed 100M, full duplex)",
        "wireless,info AA:BB:CC:DD:EE:FF@wifi1: connected, signal strength -40",
        "system,info sntp change time Nov/24/2026 10:00:00 => Nov/24/2026 10:00:01",
        "system,error,critical login failure",
        "",
    ],
)
def test_other_lines_tell_of_nothing(line: str) -> None:
    assert told(line) is None


# -- changes ----------------------------------------------------------------------------------------------------------------------

CHANGES = {
    # RouterOS 6
    "system,info filter rule changed by admin": ("firewall", "admin", "", "other"),
    "system,info mangle rule moved by admin": ("firewall", "admin", "", "other"),
    "system,info nat rule added by admin": ("firewall", "admin", "", "other"),
    "system,info address list entry added by admin": ("firewall", "admin", "", "other"),
    "system,info user backdoor added by admin": ("user", "admin", "", "other"),
    "system,info ip service changed by admin": ("service", "admin", "", "other"),
    "system,info socks changed by admin": ("service", "admin", "", "other"),
    "system,info dns changed by admin": ("dns", "admin", "", "other"),
    "system,info changed script settings by admin": ("script", "admin", "", "other"),
    "system,info new script scheduled by admin": ("scheduler", "admin", "", "other"),
    "system,info script removed from scheduler by admin": ("scheduler", "admin", "", "other"),
    "system,info log rule changed by admin": ("log", "admin", "", "other"),
    "system,info dhcp lease changed by admin": ("dhcp", "admin", "", "other"),
    "system,info route removed by admin": ("route", "admin", "", "other"),
    "system,info snmp settings changed by admin": ("snmp", "admin", "", "other"),
    "system,info ntp client changed by admin": ("system", "admin", "", "other"),
    "system,info item added by admin": ("other", "admin", "", "other"),
    "system,info filter rule changed by admin kantor": ("firewall", "admin kantor", "", "other"),
    # RouterOS 7
    "system,info filter rule changed by tcp-msg(winbox):admin@10.0.0.9 (/ip firewall filter set *5 disabled=yes)": (
        "firewall", "admin", "10.0.0.9", "winbox"
    ),
    "system,info ip/firewall/filter changed by winbox:admin@172.30.3.169 (added)": ("firewall", "admin", "172.30.3.169", "winbox"),
    "system,info ip service changed by ssh-cmd:admin@10.0.0.2/action:136 (/ip service set www-ssl disabled=no)": (
        "service", "admin", "10.0.0.2", "ssh"
    ),
    "system,info new script scheduled by mac-msg(winbox):admin@54:14:A7:11:53:3C/terminal (*4 = /system scheduler add name=x on-event=y)": (
        "scheduler", "admin", "54:14:a7:11:53:3c", "mac"
    ),
    "system,info ppp profile <P-20> added by api:billing@:: (*4 = /ppp profile add name=P-20)": ("vpn", "billing", "", "api"),
    "system,info device changed by scheduler:guest-wifi-off/action:8 (/interface wireless set wlan1 disabled=yes)": (
        "wireless", "guest-wifi-off", "", "script"
    ),
    "system,info item changed by tcp-msg(winbox):admin@2001:db8::9 (/ip dns set servers=203.0.113.5)": (
        "dns", "admin", "2001:db8::9", "winbox"
    ),
    "<30>Nov 24 10:00:00 MikroTik nat rule added by tcp-msg(winbox):admin@10.0.0.9 (*1 = /ip firewall nat add chain=srcnat)": (
        "firewall", "admin", "10.0.0.9", "winbox"
    ),
}  # fmt: skip


@pytest.mark.parametrize("line", CHANGES)
def test_a_change_of_what_by_whom(line: str) -> None:
    found = told(line)
    assert isinstance(found, RouterChange)
    assert (found.area, found.user, found.source, found.via) == CHANGES[line]
    assert found.area in AREAS


SHOWN = {
    'user b changed by winbox:a@10.0.0.9 (/user set b password="a \\" b" group=full)': "user … changed: /user set b password=… group=full",
    "nat rule added by winbox:a@10.0.0.9 (*1 = /ip firewall nat add action=dst-nat chain=dstnat comment=CCTV Budi to-addresses=10.0.0.5)": (
        "nat rule added: *1 = /ip firewall nat add action=… chain=dstnat comment=… to-addresses=10.0.0.5"
    ),
    "ppp secret <budi> added by api:billing@:: (*4 = /ppp secret add name=budi password=x)": (
        "ppp secret … added: *4 = /ppp secret add name=… password=…"
    ),
    "user c changed by winbox:a@10.0.0.9 (/user set c comment=all of Siti's disabled=no password=rahasia kami sekali)": (
        "user … changed: /user set c comment=… disabled=no password=…"
    ),
    "user siti added by admin": "user … added",
}


@pytest.mark.parametrize("line", SHOWN)
def test_names_and_passwords_are_left_out_of_what_was_done(line: str) -> None:
    found = told(f"system,info {line}")
    assert isinstance(found, RouterChange)
    assert found.text == SHOWN[line]


def test_a_command_of_one_long_word_is_read_in_one_pass() -> None:
    """Anybody can send it in a router's name: it must not cost more than its length."""
    found = told(f"system,info nat rule added by winbox:a@10.0.0.9 (/ip {'a-' * 900}b=Budi)")
    assert isinstance(found, RouterChange)
    assert "Budi" not in found.text
    assert not routerlines._VALUE.search("a-" * 100_000), "squared, this would take a minute"


# -- packets ----------------------------------------------------------------------------------------------------------------------

SYN = "connection-state:new src-mac 00:17:10:88:bc:02, proto TCP (SYN), "
PACKETS = {
    f"firewall,info drop-tcp input: in:ether1-WAN out:(unknown 0), {SYN}36.97.161.219:59388->80.82.202.145:23, len 40": (
        "tcp", "36.97.161.219", "80.82.202.145", 23, False
    ),
    f"firewall,info forward: in:bridge out:ether1, {SYN}192.168.88.23:50000->203.0.113.99:8883, len 60": (
        "tcp", "192.168.88.23", "203.0.113.99", 8883, True
    ),
    f"firewall,info DROP forward: in:ether3 out:ether2, {SYN}[2001:db8::1]:443->[2001:db8::2]:5123, len 60": (
        "tcp", "2001:db8::1", "2001:db8::2", 5123, True
    ),
    "firewall,info input: in:ether1 out:(none), src-mac 00:21:29:6d:82:07, proto UDP, 10.1.101.1:520->10.1.101.255:520, len 452": (
        "udp", "10.1.101.1", "10.1.101.255", 520, True
    ),
    "firewall,info input: in:pppoe-out1 out:(unknown 0), proto TCP (SYN), 10.64.0.9:40000->10.64.7.7:22, len 44": (
        "tcp", "10.64.0.9", "10.64.7.7", 22, False
    ),
}  # fmt: skip


@pytest.mark.parametrize("line", PACKETS)
def test_a_refused_first_contact(line: str) -> None:
    found = told(line)
    assert isinstance(found, RouterDrop)
    assert (found.protocol, found.source, found.target, found.port, found.inside) == PACKETS[line]


@pytest.mark.parametrize(
    "packet",
    [
        "firewall,info input: in:wan out:(unknown 0), connection-state:invalid, proto TCP (RST), 216.58.207.2:443->95.176.1.1:65083, len 9",
        "firewall,info input: in:wan out:(unknown 0), proto TCP (SYN,ACK), 216.58.207.202:443->95.176.131.108:65083, len 40",
        "firewall,info input: in:wan out:(unknown 0), proto UDP, 8.8.8.8:53->95.176.131.108:40113, len 120",
        "firewall,info input: in:wan out:(unknown 0), connection-state:established, proto TCP (SYN), 1.2.3.4:5->1.2.3.5:6, len 40",
        "firewall,info input: in:wan out:(unknown 0), proto ICMP (type 8, code 0), 1.2.3.4->1.2.3.5, len 84",
        f"firewall,info ACCEPT-LAN forward: in:bridge out:ether1, {SYN}192.168.88.23:50000->203.0.113.99:8883, len 60",
        f"firewall,info srcnat: in:bridge out:ether1, {SYN}192.168.88.23:50000->203.0.113.99:8883, len 60",
        "firewall,info nonsense -> more",
    ],
)
def test_answers_that_come_late_and_what_is_let_through_are_no_contacts(packet: str) -> None:
    assert told(packet) is None


def test_inside_and_outside() -> None:
    assert [inside(a) for a in ("10.0.0.1", "fd00::1", "fe80::1", "00:0c:29:aa:bb:cc")] == [True] * 4
    assert [inside(a) for a in ("36.97.161.219", "2400:1::1", "100.64.0.1")] == [False] * 3
    assert inside("") is None


# -- Linux and OpenWrt ------------------------------------------------------------------------------------------------------------


def heard(*lines: str) -> list[tuple[str, str, str, bool, int]]:
    reader = Reader()
    found = [t for n, line in enumerate(lines) for t in reader.read(read(line.encode()), "ap", float(n))]
    assert all(isinstance(t, RouterLogin) and t.device == "ap" for t in found)
    return [(t.user, t.source, t.via, t.success, t.times) for t in found if isinstance(t, RouterLogin)]


def test_one_try_at_sshd_counts_once_however_many_lines_tell_of_it() -> None:
    head = "<38>Nov 24 10:00:0{} ap sshd[812]: "
    assert heard(
        head.format(1) + "Invalid user oracle from 192.0.2.66 port 4000",
        head.format(2) + "Failed password for invalid user oracle from 192.0.2.66 port 4000 ssh2",
        head.format(3) + "message repeated 2 times: [ Failed password for invalid user oracle from 192.0.2.66 port 4000 ssh2]",
        head.format(4) + "Connection closed by 192.0.2.66 port 4000 [preauth]",
    ) == [("oracle", "192.0.2.66", "ssh", False, 1), ("oracle", "192.0.2.66", "ssh", False, 2)]


def test_a_login_to_openwrt() -> None:
    assert heard(
        "<86>Nov 24 10:00:00 OpenWrt dropbear[99]: Bad password attempt for 'root' from 192.0.2.7:50000",
        "<86>Nov 24 10:00:05 OpenWrt dropbear[99]: Password auth succeeded for 'root' from 192.0.2.7:50000",
        "<86>Nov 24 10:00:05 OpenWrt dnsmasq[7]: query[A] login failure for user root from 192.0.2.9 via ssh",
        "<86>Nov 24 10:00:05 OpenWrt sudo: budi : 3 incorrect password attempts ; TTY=pts/0",
    ) == [("root", "192.0.2.7", "ssh", False, 1), ("root", "192.0.2.7", "ssh", True, 1)]


# -- whatever comes ---------------------------------------------------------------------------------------------------------------

SAMPLES = [line.encode() for line in (*LOGINS, *CHANGES, *PACKETS)]


@fuzz
@given(st.lists(broken(SAMPLES) | st.binary(max_size=200), max_size=5))
def test_any_line_is_borne(lines: list[bytes]) -> None:
    reader = Reader()
    for line in lines:
        try:
            found = list(reader.read(read(line), "router", 1.0))
        except SyslogError:
            continue
        for one in found:
            assert len(one.source) <= 100
            if isinstance(one, RouterLogin):
                assert one.via in VIAS
            if isinstance(one, RouterChange):
                assert one.area in AREAS


@pytest.mark.parametrize("piece", ["from 1.2.3.4 ", "by x:y@z", " logged in", "(((((", "x by ", "in:a out:b, proto TCP "])
@pytest.mark.timeout(10)
def test_no_pattern_goes_back_over_a_long_line_again_and_again(piece: str) -> None:
    for begin in ("login failure for user ", "user ", "rule changed by ", "input: in:a out:b, "):
        for topics in ("", "system,info ", "firewall,info "):
            for _ in range(20):
                told(f"{topics}{begin}{piece * 400} logged in -> by x")
