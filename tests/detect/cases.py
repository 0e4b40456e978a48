"""Generated cases of the manifest, as steps in time: what the corpus of real captures lacks. Each attack stands beside its innocent twin.

A step is (seconds, what): a frame as bytes, an observation that no frame shows (the kernel's table, counters, the outcome of a probe,
this host), Answers, by which a detector's own wishes for ARP probes are answered as live, or BEGIN, from which on a true case must be
found within its limit.

Law: seeded; frames of attacks are scapy's, so that our codecs are read against another's. Nothing is sent anywhere.
"""

import ipaddress
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin, get_type_hints

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, ICMPv6NDOptRDNSS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, LLC, STP, Dot3, Ether
from scapy.layers.llmnr import LLMNRQuery, LLMNRResponse
from scapy.packet import Packet

from agent.detect import seen
from tests.detect import officeday
from tests.detect.officeday import AGENT, ALL, HERE, HOUR, MINUTE, NETWORK, ROUTER, SERVER, Host, What, announce, probe, who_has

BEGIN: Final = "begin"


class Answers(NamedTuple):
    """Who answers our ARP probes from now on: address → MACs; nobody answers for others."""

    who: Mapping[str, tuple[str, ...]]


Step: TypeAlias = tuple[float, What | Answers | Literal["begin"]]
Steps: TypeAlias = Iterator[Step]
Case: TypeAlias = Callable[[random.Random], Steps]

ATTACKER = Host("laptop", "00:0c:29:66:66:66", NETWORK + "66")
VICTIM = Host("PC-20", "3c:52:82:14:7a:01", NETWORK + "120")
PCS = [Host(f"PC-{i:02d}", f"3c:52:82:{i:02x}:7a:01", f"{NETWORK}{100 + i}") for i in range(50)]
SPARE = Host("RB-NEW", "4c:5e:0c:77:88:99", ROUTER.ip)
CALM = dict.fromkeys(
    [
        *("contacts", "lan", "broadcast", "contacts_lost", "lan_lost", "ListenDrops", "ListenOverflows", "TCPReqQFullDoCookies"),
        *("SyncookiesSent", "NoPorts", "InErrors", "RcvbufErrors", "half_open"),
    ],
    0.0,
)


def raw(packet: Packet) -> bytes:
    return bytes(packet).ljust(60, b"\0")


def outside(mac: str = ROUTER.mac) -> bytes:
    """An answer to our ping from the internet, brought by whoever is the gateway."""
    return raw(Ether(src=mac, dst=AGENT.mac) / IP(src="203.0.113.10", dst=AGENT.ip) / ICMP(type=0, id=77, seq=1))


def life(start: float, end: float, gateway: str = ROUTER.mac, *, also: dict[str, str] | None = None, offers: bool = True) -> Steps:
    """Nothing happens: hosts ask for the gateway, answers come from outside, the kernel's table holds them, DHCP offers, counters rest."""
    at = start
    router = ROUTER._replace(mac=gateway)
    while at < end:
        n = int(at // 10)
        yield at, seen.Neighbours({ROUTER.ip: gateway, SERVER.ip: SERVER.mac} | (also or {}))
        yield at + 0.2, outside(gateway)
        yield at + 0.4, who_has(PCS[n % 20], ROUTER.ip)
        yield at + 0.6, who_has(router, PCS[n % 20].ip)
        yield at + 0.7, seen.Counters(CALM | {"contacts": at * 0.02, "lan": at * 2.0, "broadcast": at * 1.5})
        if n % 6 == 0:
            yield at + 0.8, officeday.mndp(router, 864_000 + int(at), sequence=n)
            yield at + 0.9, seen.Canary("llmnr", f"lbh-{n:06d}")
        if n % 30 == 3:
            yield at + 0.95, seen.DhcpProbe(n, (offer(ROUTER, n),) if offers else ())
        at += 10


def grown(start: float, end: float = 16 * MINUTE) -> Steps:
    """A box that has been here for a while; `start` is always 0."""
    yield start, HERE
    yield start, seen.Carrier(True)
    yield from life(start + 1, end)


def offer(server: Host, xid: int, router: str = ROUTER.ip, dns: str = ROUTER.ip) -> seen.Dhcp:
    frame = seen.Frame(server.mac, ALL, "in", b"\0" * 60)
    return seen.Dhcp(frame, "offer", xid, "02:52:4f:4e:00:10", server.ip, NETWORK + "99", "", server.ip, "", (router,), (dns,))


def mixed(*parts: Steps) -> Steps:
    steps = [step for part in parts for step in part]
    yield from sorted(steps, key=lambda step: step[0])


# -- the gateway's MAC -------------------------------------------------------------------------------------------------------------

T = 16 * MINUTE  # when things begin to happen


def _reply(mac: str, ip: str, to: str = ALL) -> bytes:
    return raw(Ether(src=mac, dst=to) / ARP(op=2, hwsrc=mac, psrc=ip, hwdst=to, pdst=ip))


def _poison(start: float, rounds: int, every: float) -> Steps:
    for i in range(rounds):
        yield start + i * every, _reply(ATTACKER.mac, ROUTER.ip)


def gateway_poisoned_by_broadcast(rng: random.Random) -> Steps:
    """The attacker says to everybody that he is the gateway, and passes on what comes."""
    yield from grown(0.0)
    yield T, BEGIN
    yield from mixed(_poison(T, 10, 2.0), life(T + 2.5, T + 60, ATTACKER.mac))


def gateway_flips(rng: random.Random) -> Steps:
    """The true gateway answers too: the address goes to and fro."""
    yield from grown(0.0)
    yield T, BEGIN
    yield from mixed(_poison(T, 30, 2.0), _mine(T + 1, 12, 5.0), life(T + 3, T + 30, ATTACKER.mac), life(T + 30, T + 60))


def _mine(start: float, rounds: int, every: float) -> Steps:
    for i in range(rounds):
        yield start + i * every, announce(ROUTER)


def gateway_seen_in_frames_only(rng: random.Random) -> Steps:
    """Poison by unicast at this box alone: no broadcast tells, but the kernel's table and the frames from outside do."""
    yield from grown(0.0)
    yield T, BEGIN
    for i in range(12):
        yield T + i * 5, _reply(ATTACKER.mac, ROUTER.ip, AGENT.mac)
        yield T + i * 5 + 1, outside(ATTACKER.mac)
        yield T + i * 5 + 1.5, seen.Neighbours({ROUTER.ip: ATTACKER.mac, SERVER.ip: SERVER.mac})


def router_swapped(rng: random.Random) -> Steps:
    """A new board under the old name: the cable was out, MNDP says who it is. A note, no page."""
    yield from grown(0.0)
    yield T, seen.Carrier(False)
    yield T + 40, seen.Carrier(True)
    yield T + 41, officeday.mndp(SPARE._replace(name=ROUTER.name), 35)
    yield T + 42, announce(SPARE)
    yield from _life_of_spare(T + 43, T + 700)


def _life_of_spare(start: float, end: float) -> Steps:
    for at, what in life(start, end, SPARE.mac):
        is_mndp = isinstance(what, bytes) and what[23] == 17 and what[36:38] == (5678).to_bytes(2, "big")
        yield at, officeday.mndp(SPARE._replace(name=ROUTER.name), int(at - start) + 40) if is_mndp else what


VRRP = "00:00:5e:00:01:0a"


def vrrp_vouched(rng: random.Random) -> Steps:
    """Two routers share an address; the operator vouches for all three MACs."""
    yield 0.0, HERE
    yield from life(1, T, VRRP)
    for round_ in range(4):
        mac = SPARE.mac if round_ % 2 == 0 else VRRP
        yield T + round_ * 120, raw(Ether(src=mac, dst=ALL) / ARP(op=2, hwsrc=mac, psrc=ROUTER.ip, hwdst=ALL, pdst=ROUTER.ip))
        yield from life(T + round_ * 120 + 1, T + round_ * 120 + 118, mac)


def first_look(rng: random.Random) -> Steps:
    """A box that has just come: nothing is pinned yet, so nothing can have changed."""
    yield 0.0, HERE
    yield from life(1, 5 * MINUTE)


# -- two hosts with one address ----------------------------------------------------------------------------------------------------


def _both(address: str, start: float, rounds: int, one: str = VICTIM.mac, two: str = ATTACKER.mac) -> Steps:
    """They take turns each 20 s, and both answer who asks; the attack can first be known when the second one speaks."""
    yield start, Answers({address: tuple(mac for mac in (one, two) if mac != AGENT.mac)})
    for i in range(rounds):
        mac = one if i % 2 == 0 else two
        yield start + i * 20, announce(Host("", mac, address))


def conflict_between_pcs(rng: random.Random) -> Steps:
    yield from grown(0.0)
    yield T + 20, BEGIN
    yield from mixed(_both(VICTIM.ip, T, 12), life(T, T + 240))


def conflict_with_this_box(rng: random.Random) -> Steps:
    yield from grown(0.0)
    yield T + 20, BEGIN
    yield from mixed(_both(AGENT.ip, T, 12, AGENT.mac, ATTACKER.mac), life(T, T + 240))


def sleep_proxy(rng: random.Random) -> Steps:
    """An Apple TV takes a sleeping Mac's address, and gives it back: whoever asks gets one answer."""
    yield from grown(0.0)
    mac, tv = Host("mac", "a4:83:e7:01:02:03", NETWORK + "31"), "f0:b3:ec:10:20:30"
    for i in range(3):
        for sub, who in ((0, mac), (1, mac._replace(mac=tv))):
            at = T + i * 1500 + sub * 700
            yield at, announce(who)
            yield at, Answers({mac.ip: (who.mac,)})
            yield from life(at + 6, at + 690)


def dock_twins(rng: random.Random) -> Steps:
    """A laptop on Wi-Fi and in its dock: Linux asks with either address on either card, and answers on both for both."""
    yield from grown(0.0)
    wifi, dock = Host("", "3c:52:82:aa:01:01", NETWORK + "41"), Host("", "00:50:b6:10:00:05", NETWORK + "42")
    yield T, Answers({wifi.ip: (wifi.mac, dock.mac), dock.ip: (dock.mac, wifi.mac)})
    for i in range(12):
        yield T + i * 20, announce(wifi)
        yield T + i * 20 + 1, announce(dock)
        yield T + i * 20 + 2, announce(wifi._replace(mac=dock.mac))
    yield from life(T + 1, T + 240)


def address_given_on(rng: random.Random) -> Steps:
    """DHCP gives the address of who has left to who has come."""
    yield from grown(0.0)
    yield T, announce(VICTIM)
    new = Host("tamu", "d8:9e:f3:01:02:03", VICTIM.ip)
    yield T + 300, probe(new)
    yield T + 304, announce(new)
    yield T + 304, Answers({VICTIM.ip: (new.mac,)})
    yield from life(T + 305, T + 900)


def proxy_arp(rng: random.Random) -> Steps:
    """The router answers for a dozen addresses behind it (RFC 1027)."""
    yield from grown(0.0)
    for i in range(14):
        behind = NETWORK + str(224 + i)
        yield T + i * 2, announce(Host("", f"00:1b:21:00:00:{i:02x}", behind))
        yield T + i * 2 + 1, _reply(ROUTER.mac, behind, AGENT.mac)
        yield T + i * 2 + 1.5, Answers({f"{NETWORK}{224 + n}": (ROUTER.mac,) for n in range(14)})
    yield from life(T + 40, T + 300)


# -- ARP that isn't as it should be ------------------------------------------------------------------------------------------------


def arp_mismatch(rng: random.Random) -> Steps:
    yield from grown(0.0)
    yield T, BEGIN
    for i in range(12):
        packet = Ether(src=ATTACKER.mac, dst=ALL) / ARP(op=2, hwsrc="00:0c:29:12:34:56", psrc=VICTIM.ip, hwdst=ALL, pdst=VICTIM.ip)
        yield T + i * 2, raw(packet)
    yield from life(T + 25, T + 60)


def arp_refresh(rng: random.Random) -> Steps:
    """Linux asks whom it knows directly whether it is still there; a second network lives on the same wire."""
    yield from grown(0.0)
    for i in range(40):
        asker = PCS[i % 4]
        yield T + i * 5, officeday.arp(1, asker.mac, asker.ip, seen.NO_MAC, AGENT.ip, to=AGENT.mac)
        if i % 12 == 0:
            yield T + i * 5 + 1, who_has(Host("cctv", "44:19:b6:00:00:07", "198.51.100.7"), "198.51.100.1")
    yield from life(T + 201, T + 260)


# -- sweeps ------------------------------------------------------------------------------------------------------------------------


def _sweep(start: float, who: Host, count: int, gap: float, order: list[int]) -> Steps:
    for i, last in enumerate(order[:count]):
        yield start + i * gap, who_has(who, NETWORK + str(last))


def sweep_nmap(rng: random.Random) -> Steps:
    """nmap -sn of a /24: 255 requests in 1.9 s."""
    yield from grown(0.0)
    yield T, Answers({pc.ip: (pc.mac,) for pc in PCS[:20]})
    yield T, BEGIN
    yield from mixed(_sweep(T, ATTACKER, 255, 0.0075, [n for n in range(1, 256) if n != 66]), life(T + 3, T + 60))


def sweep_slow(rng: random.Random) -> Steps:
    """Two addresses a second, in no order."""
    order = rng.sample(range(1, 255), 120)
    yield from grown(0.0)
    yield T, Answers({pc.ip: (pc.mac,) for pc in PCS[:20]})
    yield T, BEGIN
    yield from mixed(_sweep(T, ATTACKER, 120, 0.5, order), life(T, T + 60))


def sweep_slower(rng: random.Random) -> Steps:
    order = rng.sample(range(1, 255), 60)
    yield from grown(0.0)
    yield T, Answers({pc.ip: (pc.mac,) for pc in PCS[:20]})
    yield T, BEGIN
    yield from mixed(_sweep(T, ATTACKER, 60, 1.0, order), life(T, T + 60))


def printer_utility(rng: random.Random) -> Steps:
    """Asks for thirty hosts that are there."""
    yield from grown(0.0)
    for i, pc in enumerate(PCS[:40]):
        yield T + i * 3, announce(pc)
    yield from mixed(_sweep(T + 130, PCS[3], 30, 0.5, [100 + i for i in range(40) if i != 3]), life(T + 130, T + 200))


def router_looks(rng: random.Random) -> Steps:
    """Somebody outside scans the office's addresses; its router asks for each."""
    yield from grown(0.0)
    yield from mixed(_sweep(T, ROUTER, 200, 0.1, list(range(2, 254))), life(T, T + 60))


def our_own_sweep(rng: random.Random) -> Steps:
    """Another Ronda looks at doubtful addresses: three ARP probes each, sender 0.0.0.0 (RFC 5227)."""
    yield from grown(0.0)
    for i in range(90):
        yield T + i * 0.3, officeday.arp(1, officeday.OTHER_AGENT.mac, "0.0.0.0", seen.NO_MAC, f"{NETWORK}{2 + i // 3 * 4}")
    yield from life(T + 30, T + 90)


# -- what only the router sees -----------------------------------------------------------------------------------------------------


def _tables(start: float, end: float, more: dict[str, str] | None = None, owner: str = "") -> Steps:
    """The router is polled each minute: PCs, server, victim and the attacker's laptop. owner: who answers our probe for the victim."""
    hosts = {pc.ip: pc.mac for pc in PCS[:20]} | {SERVER.ip: SERVER.mac, VICTIM.ip: VICTIM.mac, ATTACKER.ip: ATTACKER.mac}
    at = start
    while at < end:
        yield at, seen.RouterArp("router", hosts | (more or {}))
        if owner:
            yield at + 4, seen.ArpProbe(VICTIM.ip, (owner,), (seen.Frame(owner, AGENT.mac, "in", b"\0" * 60),))
        at += MINUTE


def router_poisoned(rng: random.Random) -> Steps:
    """Unicast: not one frame of it comes by; the victim is still there."""
    yield from mixed(grown(0.0), _tables(5.0, T))
    yield T, BEGIN
    yield from mixed(life(T + 1, T + 300), _tables(T + 30, T + 300, {VICTIM.ip: ATTACKER.mac}, VICTIM.mac))


def router_poisoned_unasked(rng: random.Random) -> Steps:
    """The same where no probe may be sent."""
    yield from mixed(grown(0.0), _tables(5.0, T))
    yield T, BEGIN
    yield from mixed(life(T + 1, T + 300), _tables(T + 30, T + 300, {VICTIM.ip: ATTACKER.mac}))


def leases_given_on(rng: random.Random) -> Steps:
    """By DHCP a new PC has another's address; a client roams behind an extender that answers for many; a host with two takes a third."""
    extender = "4c:5e:0c:11:22:77"
    before = {f"{NETWORK}{200 + i}": extender for i in range(12)} | {f"{NETWORK}67": ATTACKER.mac}
    new = Host("PC-NEW", "3c:52:82:99:7a:01", VICTIM.ip)
    yield from mixed(grown(0.0), _tables(5.0, T, before))
    yield from mixed(life(T + 1, T + 600), _tables(T + 30, T + 300, before | {VICTIM.ip: new.mac}, new.mac))
    yield from _tables(T + 630, T + 900, before | {VICTIM.ip: extender})
    yield from _tables(T + 930, T + 1200, before | {VICTIM.ip: new.mac, PCS[3].ip: ATTACKER.mac})


DAY = 24 * HOUR
DEVICE = seen.DeviceIdentity("router", "RB-DKC", "1.3.6.1.4.1.14988.1", "RB4011iGS+", "7.15.3", "HF1234", 864_000.0)


def _identities(start: float, end: float, what: seen.DeviceIdentity = DEVICE) -> Steps:
    return _polls(start, end, lambda at: what._replace(uptime=what.uptime + at), MINUTE)


def device_swapped(rng: random.Random) -> Steps:
    """Another router of that model answers at the address."""
    yield from mixed(grown(0.0), _identities(5.0, T))
    yield T, BEGIN
    yield from mixed(life(T + 1, T + 300), _identities(T + 20, T + 300, DEVICE._replace(serial="HF6666", uptime=0.0)))


def device_upgraded(rng: random.Random) -> Steps:
    """It restarts with newer software, and says little while it does."""
    yield from mixed(grown(0.0), _identities(5.0, T))
    yield T + 5, seen.DeviceIdentity("router", name="RB-DKC")
    yield from mixed(life(T + 1, T + 300), _identities(T + 20, T + 300, DEVICE._replace(version="7.16.1", uptime=0.0)))


def _looks(days: int, *ports: int, snmp: str = "") -> Steps:
    for day in range(days):
        yield 300.0 + day * DAY, seen.Exposed(ROUTER.ip, ports, snmp)


def router_opened(rng: random.Random) -> Steps:
    """On the third day somebody has switched telnet on."""
    yield 0.0, HERE
    yield from _looks(2, 22, 8291)
    yield 2 * DAY + 300, BEGIN
    yield 2 * DAY + 300, seen.Exposed(ROUTER.ip, (22, 23, 8291))
    yield 2 * DAY + 400, HERE


def router_as_left(rng: random.Random) -> Steps:
    """Web, SSH and Winbox, as its admin wants them; now and then one doesn't answer."""
    yield 0.0, HERE
    yield from _looks(3, 22, 80, 443, 8291)
    yield 4 * DAY, seen.Exposed(ROUTER.ip, (22, 443, 8291))
    yield 5 * DAY, seen.Exposed(ROUTER.ip, (22, 80, 443, 8291))


# -- new devices -------------------------------------------------------------------------------------------------------------------


def _known_for_days(days: int) -> Steps:
    yield 0.0, HERE
    for hour in range(days * 24):
        for i, pc in enumerate((*PCS[:10], ROUTER, SERVER)):
            for k in range(3):
                yield hour * HOUR + i + k * 90, who_has(pc, ROUTER.ip)


def _arrives(who: Host, start: float) -> Steps:
    yield start, officeday.dhcp(who, 3, 5, {50: bytes(4), 12: who.name.encode()})
    yield start + 1, announce(who)
    for i in range(8):
        yield start + 10 + i * 40, who_has(who, ROUTER.ip)


def device_after_learning(rng: random.Random) -> Steps:
    yield from _known_for_days(15)
    yield 15 * DAY, BEGIN
    yield from _arrives(ATTACKER, 15 * DAY)


def armed_device(rng: random.Random) -> Steps:
    """A small board that asks for an address under the name that a system for attacks begins with."""
    yield from grown(0.0)
    yield T, BEGIN
    yield from mixed(_arrives(Host("kali", "b8:27:eb:66:66:66", ATTACKER.ip), T), life(T + 1, T + 60))


def honest_board(rng: random.Random) -> Steps:
    """The same board under an office's name, and an office's PC of somebody whose name begins like that."""
    yield from grown(0.0)
    yield from mixed(
        _arrives(Host("absensi", "b8:27:eb:66:66:66", ATTACKER.ip), T), _arrives(Host("kalimantan", PCS[44].mac, PCS[44].ip), T)
    )


def random_macs(rng: random.Random) -> Steps:
    """Telephones that are somebody else each day are counted, not told."""
    yield from _known_for_days(15)
    for i in range(40):
        mac = f"{rng.choice('0123456789abcdef')}{rng.choice('26ae')}:" + ":".join(f"{rng.randrange(256):02x}" for _ in range(5))
        yield from _arrives(Host("", mac, f"{NETWORK}{150 + i}"), 15 * DAY + i * 400)


# -- what routers say of themselves ------------------------------------------------------------------------------------------------


def old_router_version(rng: random.Random) -> Steps:
    """Its software is older than the least that the operator accepts."""
    yield 0.0, HERE
    yield 1.0, BEGIN
    for i in range(6):
        yield 1.0 + i * 60, officeday.mndp(ROUTER, 1000 + i * 60, version="6.42.1 (stable)", sequence=i)


def second_router_says_the_same(rng: random.Random) -> Steps:
    """Another MAC takes the router's name while the router is there."""
    yield from grown(0.0)
    yield T, BEGIN
    copy = Host(ROUTER.name, ATTACKER.mac, ATTACKER.ip)
    says = ((T + i * 60, officeday.mndp(copy, 50 + i * 60, version="6.49 (stable)", board="x86", sequence=i)) for i in range(5))
    yield from mixed(says, life(T, T + 300))


def router_upgraded(rng: random.Random) -> Steps:
    """A newer version after a restart; later the power is cut."""
    yield from grown(0.0)
    for i in range(10):
        yield T + 90 + i * 60, officeday.mndp(ROUTER, 20 + i * 60, version="7.16.1 (stable)", sequence=i)
    for i in range(10):
        yield T + 1000 + i * 60, officeday.mndp(ROUTER, 15 + i * 60, version="7.16.1 (stable)", sequence=i)


# -- storms and floods -------------------------------------------------------------------------------------------------------------


def storm(rng: random.Random) -> Steps:
    """A loop: 3,000 broadcasts a second, and our own among them."""
    yield from grown(0.0)
    yield T, BEGIN
    own = who_has(AGENT, ROUTER.ip)
    for second in range(30):
        at = T + second
        yield (
            at,
            seen.Counters(CALM | {"lan": T * 2 + second * 3000.0, "broadcast": T * 1.5 + second * 3000.0, "lan_lost": second * 2800.0}),
        )
        for i in range(20):
            yield at + i * 0.04, who_has(PCS[i % 4], ROUTER.ip)
        yield at + 0.9, own


def many_broadcasts(rng: random.Random) -> Steps:
    """Rates alone, without our own frame: something floods."""
    yield from grown(0.0)
    yield T, BEGIN
    for second in range(40):
        yield T + second, seen.Counters(CALM | {"lan": T * 2 + second * 900.0, "broadcast": T * 1.5 + second * 900.0})
        for i in range(20):
            yield T + second + i * 0.04, who_has(PCS[5], ROUTER.ip)


def busy_morning(rng: random.Random) -> Steps:
    """Fifty PCs at once: 300 broadcasts a second, for a while."""
    yield from grown(0.0)
    for second in range(60):
        yield T + second, seen.Counters(CALM | {"lan": T * 2 + second * 300.0, "broadcast": T * 1.5 + second * 300.0})
        for i in range(10):
            yield T + second + i * 0.09, who_has(PCS[(second + i) % 50], ROUTER.ip)


def _syn(source: str, mac: str, port: int, sport: int) -> bytes:
    return raw(Ether(src=mac, dst=AGENT.mac) / IP(src=source, dst=AGENT.ip) / TCP(sport=sport, dport=port, flags="S"))


def syn_flood(rng: random.Random) -> Steps:
    """hping3 --flood --rand-source at one open port: the queue overflows, and no single source has scanned."""
    yield from grown(0.0)
    yield T, BEGIN
    for second in range(60):
        n = second * 2000.0
        counted = {
            "contacts": T * 0.02 + n,
            "contacts_lost": n * 0.9,
            "lan": T * 2,
            "broadcast": T * 1.5,
            "ListenDrops": n * 0.9,
            "half_open": 256.0,
        }
        yield T + second, seen.Counters(CALM | counted)
        for i in range(40):
            source = ".".join(str(rng.randrange(1, 224)) for _ in range(4))
            yield T + second + 0.01 + i * 0.02, _syn(source, ATTACKER.mac, 17663, rng.randrange(1024, 65535))


def scraped_often(rng: random.Random) -> Steps:
    """The centre and a browser ask often; a few are turned away while the box is busy."""
    yield from grown(0.0)
    for second in range(120):
        counted = {
            "contacts": T * 0.02 + second * 4.0,
            "lan": T * 2,
            "broadcast": T * 1.5,
            "ListenDrops": float(min(second, 20)),
            "half_open": 2.0,
        }
        yield T + second, seen.Counters(CALM | counted)


# -- DHCP --------------------------------------------------------------------------------------------------------------------------


def _dhcp(client: str, kind: str, xid: int, *options: tuple[str, object]) -> bytes:
    boot = BOOTP(chaddr=bytes.fromhex(client.replace(":", "")), xid=xid, flags=0)
    return raw(
        Ether(src=client, dst=ALL) / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / boot
        / DHCP(options=[("message-type", kind), *options, "end"])
    )  # fmt: skip


def rogue_wins(rng: random.Random) -> Steps:
    """A PC takes the wrong server's offer: its REQUEST to everybody names whom it chose (option 54)."""
    yield from grown(0.0)
    yield T, BEGIN
    for i in range(3):
        pc = PCS[20 + i]
        yield T + i * 20, _dhcp(pc.mac, "discover", 100 + i)
        yield T + i * 20 + 0.5, _dhcp(pc.mac, "request", 100 + i, ("server_id", ATTACKER.ip), ("requested_addr", NETWORK + "222"))
    yield from life(T + 70, T + 100)


def rogue_offers(rng: random.Random) -> Steps:
    """Our own probe gets two offers, twice in a row; the second names another gateway and resolver."""
    yield from grown(0.0)
    for i in range(3):
        at = T + 5 + i * 300
        if i == 1:
            yield at, BEGIN  # from the second probe on it is confirmed
        yield at, seen.DhcpProbe(i + 900, (offer(ROUTER, i), offer(ATTACKER, i, ATTACKER.ip, ATTACKER.ip)))
        yield from _quiet(at + 1, at + 299)


def _quiet(start: float, end: float) -> Steps:
    """Life without our DHCP probes."""
    yield from (step for step in life(start, end) if not isinstance(step[1], seen.DhcpProbe))


def twin_servers(rng: random.Random) -> Steps:
    """Two DHCP servers for safety; the operator vouches for both."""
    twin = Host("dhcp-2", "52:54:00:00:00:04", NETWORK + "4")
    yield 0.0, HERE
    yield from _quiet(1, 60)
    for i in range(8):
        at = 60.0 + i * 300
        yield at, seen.DhcpProbe(i, (offer(ROUTER, i), offer(twin, i)))
        yield at + 20, _dhcp(PCS[i].mac, "request", i, ("server_id", twin.ip if i % 2 else ROUTER.ip))
        yield from _quiet(at + 21, at + 299)


def relayed(rng: random.Random) -> Steps:
    """A relay agent brings the server's offers: the packet's source is the relay's, option 54 the server's."""
    yield from grown(0.0)
    for i in range(4):
        at = T + i * 300
        from_relay = offer(ROUTER, i)._replace(source=NETWORK + "2", relay=NETWORK + "2")
        yield at, seen.DhcpProbe(i + 50, (from_relay, from_relay._replace(source="255.255.255.255")))
        yield from _quiet(at + 1, at + 299)


def starvation(rng: random.Random) -> Steps:
    """200 clients a minute that nobody has ever seen."""
    yield from _starved(rng, 0.3)


def starvation_slow(rng: random.Random) -> Steps:
    yield from _starved(rng, 0.5)


def _random_mac(rng: random.Random) -> str:
    return "02:" + ":".join(f"{rng.randrange(256):02x}" for _ in range(5))


def _starved(rng: random.Random, every: float) -> Steps:
    yield from grown(0.0)
    yield T, BEGIN
    for i in range(int(120 / every)):
        yield T + i * every, _dhcp(_random_mac(rng), "discover", rng.getrandbits(32))
    yield from life(T + 121, T + 150)


def telephones_return(rng: random.Random) -> Steps:
    """An access point starts again: eighty telephones that nobody here knows ask in two waves, and look whether their address is free."""
    yield from grown(0.0)
    phones = [Host("", _random_mac(rng), f"{NETWORK}{100 + i}") for i in range(80)]
    asked = [(T + i // 40 * 6 + rng.uniform(0, 3), phone) for i, phone in enumerate(phones)]
    ask = ((at, _dhcp(phone.mac, "discover", i)) for i, (at, phone) in enumerate(asked))
    look = ((at + rng.uniform(1, 4), probe(phone)) for at, phone in asked)
    say = ((at + 7, announce(phone)) for at, phone in asked)
    yield from mixed(ask, look, say, life(T, T + 120))


def boot_storm(rng: random.Random) -> Steps:
    """Power returns: fifty PCs that were here yesterday ask twice within a minute."""
    yield from grown(0.0)
    for i, pc in enumerate(PCS):
        yield T + i * 2, officeday.dhcp(pc, 3, i, {50: bytes([192, 0, 2, 100 + i]), 54: bytes([192, 0, 2, 1])})
        yield T + i * 2 + 1, announce(pc)
    at = T + 600
    storms = [
        (at + rng.uniform(0, 50) + again * 4, officeday.dhcp(pc, 1, i, {12: pc.name.encode()}))
        for i, pc in enumerate(PCS)
        for again in (0, 1, 2)
    ]
    yield from mixed(life(T + 110, at), iter(storms), life(at, at + 120))


def no_more_offers(rng: random.Random) -> Steps:
    """The DHCP server is gone: three probes without an offer."""
    yield from grown(0.0)
    for i in range(5):
        at = T + i * 300
        if i == 2:
            yield at, BEGIN
        yield at, seen.DhcpProbe(i + 300, ())
        yield from _quiet(at + 1, at + 299)


def one_offer_missed(rng: random.Random) -> Steps:
    yield from grown(0.0)
    for i in range(6):
        at = T + i * 300
        yield at, seen.DhcpProbe(i + 300, () if i % 3 == 0 else (offer(ROUTER, i),))
        yield from _quiet(at + 1, at + 299)


# -- IPv6 --------------------------------------------------------------------------------------------------------------------------


def link_local(mac: str) -> str:
    return str(ipaddress.IPv6Address(officeday.link_local(mac)))


def _ra(who: Host, lifetime: int, prefix: str = "", dns: str = "", preference: int = 0) -> bytes:
    packet = Ether(src=who.mac, dst="33:33:00:00:00:01") / IPv6(src=link_local(who.mac), dst="ff02::1", hlim=255)
    packet /= ICMPv6ND_RA(routerlifetime=lifetime, prf=preference) / ICMPv6NDOptSrcLLAddr(lladdr=who.mac)
    if prefix:
        packet /= ICMPv6NDOptPrefixInfo(prefix=prefix, prefixlen=64)
    if dns:
        packet /= ICMPv6NDOptRDNSS(lifetime=600, dns=[dns])
    return raw(packet)


def ra_where_none_is(rng: random.Random) -> Steps:
    yield from grown(0.0, HOUR + T)
    yield HOUR + T, BEGIN
    liar = ((HOUR + T + i * 10, _ra(ATTACKER, 1800, "2001:db8:66::", link_local(ATTACKER.mac), 1)) for i in range(12))
    yield from mixed(liar, life(HOUR + T, HOUR + T + 120))


def _known_ra(start: float, end: float) -> Steps:
    at = start
    while at < end:
        yield at, _ra(ROUTER, 1800, "2001:db8:1::")
        at += 200


def ra_kills_the_router(rng: random.Random) -> Steps:
    """Somebody says in the router's name, from another MAC, that it is no router any more."""
    yield from mixed(grown(0.0, HOUR + T), _known_ra(5.0, HOUR + T))
    at = HOUR + T
    yield at, BEGIN
    kill = Ether(src=ATTACKER.mac, dst="33:33:00:00:00:01") / IPv6(src=link_local(ROUTER.mac), dst="ff02::1", hlim=255)
    for i in range(10):
        yield at + i * 3, raw(kill / ICMPv6ND_RA(routerlifetime=0) / ICMPv6NDOptSrcLLAddr(lladdr=ATTACKER.mac))
    yield from life(at + 31, at + 60)


def ra_of_the_router(rng: random.Random) -> Steps:
    yield from mixed(grown(0.0, HOUR + T), _known_ra(5.0, HOUR + T))


def ra_of_an_access_point(rng: random.Random) -> Steps:
    """Firmware of an access point tells a local prefix and is no router (lifetime 0, ULA): low at most."""
    yield from grown(0.0, HOUR + T)
    point = officeday.POINTS[0]
    said = ((HOUR + T + i * 30, _ra(point, 0, "fd12:3456:789a::")) for i in range(10))
    yield from mixed(said, life(HOUR + T, HOUR + T + 300))


# -- scans of this box -------------------------------------------------------------------------------------------------------------

TOP = (  # nmap's hundred most frequent TCP ports, as -F takes them
    80, 23, 443, 21, 22, 25, 3389, 110, 445, 139, 143, 53, 135, 3306, 8080, 1723, 111, 995, 993, 5900, 1025, 587, 8888, 199, 1720,
    465, 548, 113, 81, 6001, 10000, 514, 5060, 179, 1026, 2000, 8443, 8000, 32768, 554, 26, 1433, 49152, 2001, 515, 8008, 49154,
    1027, 5666, 646, 5000, 5631, 631, 49153, 8081, 2049, 88, 79, 5800, 106, 2121, 1110, 49155, 6000, 513, 990, 5357, 427, 49156,
    543, 544, 5101, 144, 7, 389, 8009, 3128, 444, 9999, 5009, 7070, 5190, 3000, 5432, 1900, 3986, 13, 1029, 9, 5051, 6646, 49157,
    1028, 873, 1755, 2717, 4899, 9100, 119, 37,
)  # fmt: skip
OPEN = {17663, 22}


def nmap_order(rng: random.Random, ports: tuple[int, ...] = TOP) -> list[int]:
    """As nmap does it: shuffled, then some popular ports brought near the front (its scan_engine, "shortport")."""
    order = list(ports)
    rng.shuffle(order)
    popular = [
        21,
        22,
        23,
        25,
        53,
        80,
        110,
        111,
        113,
        135,
        139,
        143,
        199,
        256,
        443,
        445,
        554,
        587,
        993,
        995,
        1025,
        1720,
        1723,
        3306,
        3389,
        5900,
        8080,
        8888,
    ]
    front = [p for p in popular if p in order]
    rng.shuffle(front)
    return [*front, *(p for p in order if p not in front)]


def contact(at: float, who: Host, port: int, sport: int) -> Steps:
    """A SYN to this box and what it answers."""
    yield at, _syn(who.ip, who.mac, port, sport)
    flags = "SA" if port in OPEN else "RA"
    yield at + 0.0002, raw(Ether(src=AGENT.mac, dst=who.mac) / IP(src=AGENT.ip, dst=who.ip) / TCP(sport=port, dport=sport, flags=flags))


def _scan(rng: random.Random, start: float, who: Host, gap: float, ports: tuple[int, ...] = TOP) -> Steps:
    sport = rng.randrange(33000, 60000)
    for i, port in enumerate(nmap_order(rng, ports)):
        yield from contact(start + i * gap, who, port, sport)


def scan_fast(rng: random.Random) -> Steps:
    """nmap -sS -F."""
    yield from grown(0.0)
    yield T, BEGIN
    yield from mixed(_scan(rng, T, ATTACKER, 0.0008), life(T + 5, T + 60))


def scan_polite(rng: random.Random) -> Steps:
    """nmap -T2: a port each 0.4 s."""
    yield from grown(0.0)
    yield T, BEGIN
    yield from mixed(_scan(rng, T, ATTACKER, 0.41), life(T + 5, T + 60))


def scan_udp(rng: random.Random) -> Steps:
    """nmap -sU: what comes back is "port unreachable"."""
    yield from grown(0.0)
    yield T, BEGIN
    for i, port in enumerate(rng.sample(range(1, 5000), 50)):
        asked = IP(src=ATTACKER.ip, dst=AGENT.ip) / UDP(sport=40000, dport=port)
        answer = IP(src=AGENT.ip, dst=ATTACKER.ip) / ICMP(type=3, code=3) / asked
        yield T + i * 0.8, raw(Ether(src=AGENT.mac, dst=ATTACKER.mac) / answer)
    yield from life(T + 41, T + 60)


def scan_with_decoys(rng: random.Random) -> Steps:
    """nmap -D: each port is asked from five addresses, of which one is true; hosts of the office are among the false ones."""
    faces = [ATTACKER, *(ATTACKER._replace(ip=pc.ip) for pc in PCS[:4])]
    yield from grown(0.0)
    yield T, BEGIN
    for i, port in enumerate(nmap_order(rng)):
        for k, face in enumerate(rng.sample(faces, len(faces))):
            yield from contact(T + i * 0.01 + k * 0.001, face, port, 45000)
    yield from life(T + 5, T + 60)


def scan_by_the_centre(rng: random.Random) -> Steps:
    """The operator's own scanner."""
    yield from grown(0.0)
    yield from mixed(_scan(rng, T, Host("nessus", "52:54:00:aa:00:09", NETWORK + "9"), 0.01), life(T + 5, T + 60))


def windows_looks_for_peers(rng: random.Random) -> Steps:
    """Forty PCs ask for Delivery Optimization (7680), three times each; one has AnyDesk (7070), one a printer's page (631, 9100, 80)."""
    yield from grown(0.0)
    asks = [(pc, 7680) for pc in PCS[:40]] + [(PCS[3], 7070), (PCS[4], 631), (PCS[4], 9100), (PCS[4], 80)]
    steps = [step for n, (pc, port) in enumerate(asks) for k in range(3) for step in contact(T + n * 6 + k * 0.5, pc, port, 50000 + n)]
    yield from mixed(iter(steps), life(T, T + 300))


def monitors(rng: random.Random) -> Steps:
    """Two Rondas and the centre's probes ask what is open, all day, and one door that is shut for a while."""
    yield from grown(0.0)
    steps = [s for i in range(120) for who in (officeday.OTHER_AGENT, SERVER) for s in contact(T + i * 5, who, 17663, 40000 + i)]
    shut = [s for i in range(40) for s in contact(T + 100 + i * 5 + 1, officeday.OTHER_AGENT, 8080, 42000 + i)]
    yield from mixed(iter(steps), iter(shut), life(T, T + 600))


def backscatter(rng: random.Random) -> Steps:
    """Answers to what somebody sent in our name: nobody asked us anything."""
    yield from grown(0.0)
    for i in range(400):
        source = ".".join(str(rng.randrange(1, 224)) for _ in range(4))
        flags = rng.choice(("SA", "R", "RA"))
        yield (
            T + i * 0.05,
            raw(Ether(src=ROUTER.mac, dst=AGENT.mac) / IP(src=source, dst=AGENT.ip) / TCP(sport=80, dport=1024 + i, flags=flags)),
        )
    yield from life(T + 21, T + 60)


# -- tripwires and names -----------------------------------------------------------------------------------------------------------


def two_tripwires(rng: random.Random) -> Steps:
    yield from grown(0.0)
    yield T, BEGIN
    for i, port in enumerate((23, 445, 3389)):
        yield T + i * 3, seen.Tripwire(ATTACKER.ip, port, 12 if port == 23 else 0)
    yield from life(T + 10, T + 60)


def one_tripwire(rng: random.Random) -> Steps:
    """A PC opens the box in "Network": one connection, not a byte."""
    yield from grown(0.0)
    yield T, seen.Tripwire(PCS[2].ip, 445, 0)
    yield from life(T + 10, T + 60)


def vouched_tripwires(rng: random.Random) -> Steps:
    yield from grown(0.0)
    for i, port in enumerate((23, 445, 3389, 8291)):
        yield T + i * 3, seen.Tripwire(NETWORK + "9", port, 40)
    yield from life(T + 20, T + 60)


def poisoner(rng: random.Random) -> Steps:
    """Somebody answers for names that can't exist: the second, other name confirms it."""
    yield from grown(0.0)
    for i in range(4):
        at = T + i * 60 if i else T
        name = f"lbh-{rng.randrange(10**6):06d}"
        if i == 1:
            yield at, BEGIN
        query = Ether(src=AGENT.mac, dst="01:00:5e:00:00:fc") / IP(src=AGENT.ip, dst="224.0.0.252") / UDP(sport=51000, dport=5355)
        yield at, raw(query / LLMNRQuery(id=i, qd=DNSQR(qname=name)))
        says = LLMNRResponse(id=i, qr=1, qd=DNSQR(qname=name), an=DNSRR(rrname=name, rdata=ATTACKER.ip, ttl=30))
        yield (
            at + 0.01,
            raw(Ether(src=ATTACKER.mac, dst=AGENT.mac) / IP(src=ATTACKER.ip, dst=AGENT.ip) / UDP(sport=5355, dport=51000) / says),
        )
        yield at + 1, seen.Canary("llmnr", name, ((ATTACKER.ip, ATTACKER.mac),))
        yield from _no_canary(at + 2, at + 59)


def _no_canary(start: float, end: float) -> Steps:
    yield from (step for step in life(start, end) if not isinstance(step[1], seen.Canary))


def one_answer(rng: random.Random) -> Steps:
    """A reflector answers once; the next name, nobody."""
    yield from grown(0.0)
    for i in range(6):
        at = T + i * 60
        yield at, seen.Canary("mdns", f"lbh-{i:06d}", ((SERVER.ip, SERVER.mac),) if i == 0 else ())
        yield from _no_canary(at + 2, at + 59)


def spanning_tree(rng: random.Random) -> Steps:
    """A switch is plugged in: topology changes, for half a minute."""
    yield from grown(0.0)
    for i in range(15):
        bridge = Dot3(dst="01:80:c2:00:00:00", src=officeday.POINTS[0].mac) / LLC(dsap=0x42, ssap=0x42, ctrl=3)
        yield T + i * 2, raw(bridge / STP(bpduflags=1, rootmac=officeday.POINTS[0].mac, bridgemac=officeday.POINTS[0].mac))
    yield from life(T + 31, T + 90)


# -- this host ---------------------------------------------------------------------------------------------------------------------


def _tries(start: float, count: int, gap: float, source: str = ATTACKER.ip, user: str = "root") -> Steps:
    for i in range(count):
        yield start + i * gap, seen.Login("sshd", user, source, False, "password", str(9000 + i))


def guesses(rng: random.Random) -> Steps:
    yield 0.0, BEGIN
    yield from _tries(0.0, 30, 1.0)


def guessed(rng: random.Random) -> Steps:
    """The eleventh try is the right one."""
    yield from _tries(0.0, 10, 2.0)
    yield 20.0, BEGIN
    yield 20.0, seen.Login("sshd", "root", ATTACKER.ip, True, "password", "9999")


def slow_guesses(rng: random.Random) -> Steps:
    """One try each fifty seconds, all night."""
    yield from _tries(0.0, 40, 50.0)
    yield 2000.0, BEGIN
    yield from _tries(2000.0, 20, 50.0)


def clumsy_admin(rng: random.Random) -> Steps:
    """Mistypes twice and gets in; later offers two keys that don't fit, and a third that does."""
    for day in range(3):
        at = day * 3600.0
        yield from _tries(at, 2, 6.0, PCS[0].ip, "admin")
        yield at + 15, seen.Login("sshd", "admin", PCS[0].ip, True, "password", "1")
        for i in range(2):
            yield at + 600 + i, seen.Login("sshd", "admin", PCS[0].ip, False, "publickey", f"{day}77")
        yield at + 602, seen.Login("sshd", "admin", PCS[0].ip, True, "publickey", f"{day}77")


USUAL = (seen.Listener("tcp", "0.0.0.0", 22, "/usr/sbin/sshd", 0), seen.Listener("tcp", "0.0.0.0", 17663, "/usr/bin/python3.11", 990))
CLIENTS = (
    seen.Listener("udp", "0.0.0.0", 68, "/usr/sbin/dhclient", 0),
    seen.Listener("udp", "0.0.0.0", 5353, "/usr/sbin/avahi-daemon", 105),
)


def _polls(start: float, end: float, what: Callable[[float], seen.Observation], every: float = 30.0) -> Steps:
    at = start
    while at < end:
        yield at, what(at)
        at += every


def backdoor(rng: random.Random) -> Steps:
    yield from _polls(0.0, HOUR * 25, lambda _: seen.Listeners(USUAL + CLIENTS), 300.0)
    at = 25 * HOUR
    yield at, BEGIN
    yield from _polls(at, at + 300, lambda _: seen.Listeners((*USUAL, *CLIENTS, seen.Listener("tcp", "0.0.0.0", 4444, "/tmp/.x/nc", 33))))


def clients_come_and_go(rng: random.Random) -> Steps:
    def now(at: float) -> seen.Observation:
        some = seen.Listener("udp", "0.0.0.0", 40000 + int(at) % 9999, "/usr/sbin/chronyd", 0)
        here = seen.Listener("tcp", "127.0.0.1", 30000 + int(at) % 9999, "/usr/bin/python3.11", 1000)
        return seen.Listeners((*USUAL, CLIENTS[1], *CLIENTS[: int(at // 600) % 2], some, here))

    yield from _polls(0.0, 26 * HOUR, now, 300.0)


def _state(digest: str, packaged: bool | None = None, mode: int = 0o100644) -> seen.FileState:
    return seen.FileState(digest * 64, mode, 0, packaged)


def _files(group: str, path: str, facts: dict[str, tuple[str, ...]], mode: int = 0o100644) -> Callable[[str, bool | None], seen.Files]:
    def made(digest: str, packaged: bool | None = None) -> seen.Files:
        files = {"/etc/known": _state("0", packaged=True)} | ({path: _state(digest, packaged, mode)} if digest else {})
        return seen.Files(group, files, facts)  # type: ignore[arg-type]

    return made


WATCHED = {
    "accounts": ("/etc/passwd", {"users": ("root", "ronda"), "uid0": ("root",)}),
    "sudoers": ("/etc/sudoers.d/local", {}),
    "keys": ("/home/admin/.ssh/authorized_keys", {"keys": ("SHA256:a",)}),
    "persistence": ("/etc/cron.d/job", {}),
    "setuid": ("/usr/local/bin/helper", {}),
}


def changed(group: str) -> Case:
    """A file of the class becomes another, or appears, and no package brought it."""

    def case(rng: random.Random) -> Steps:
        path, facts = WATCHED[group]
        make = _files(group, path, facts, 0o104755 if group == "setuid" else 0o100644)
        before = "" if group in ("setuid", "persistence") else "a"
        yield from _polls(0.0, 26 * HOUR, lambda _: make(before), 900.0)
        yield from _polls(26 * HOUR - 1, 26 * HOUR, lambda _: seen.Packages(86400.0))
        yield 26 * HOUR, BEGIN
        yield from _polls(26 * HOUR, 27 * HOUR, lambda _: make("b"), 300.0)

    return case


def unchanged(group: str) -> Case:
    """Nothing changes for days; once a package is installed that brings its own file."""

    def case(rng: random.Random) -> Steps:
        path, facts = WATCHED[group]
        made = _files(group, path, facts, 0o104755 if group == "setuid" else 0o100644)
        yield from _polls(0.0, 26 * HOUR, lambda _: made("a", True), 900.0)
        for i in range(6):
            yield 26 * HOUR + i * 30, seen.Packages(20.0 + i * 30)
            yield 26 * HOUR + i * 30 + 1, made("b", True)
        yield from _polls(26 * HOUR + 300, 27 * HOUR, lambda at: seen.Packages(at - 26 * HOUR), 300.0)

    return case


def firewall_flushed(rng: random.Random) -> Steps:
    yield from _polls(0.0, HOUR, lambda _: seen.Firewall(True, True, 12, "a" * 64))
    yield HOUR + 60, BEGIN  # it must last a minute
    yield from _polls(HOUR, HOUR + 300, lambda _: seen.Firewall(True, False, 0, "0" * 64))


def firewall_rules_come_and_go(rng: random.Random) -> Steps:
    """Docker and fail2ban put rules in and take them out; once a reload leaves it open for a moment."""
    yield from _polls(0.0, HOUR, lambda at: seen.Firewall(True, True, 12 + int(at) % 7, f"{int(at):064d}"))
    yield HOUR, seen.Firewall(True, False, 0, "0" * 64)
    yield from _polls(HOUR + 20, 2 * HOUR, lambda at: seen.Firewall(True, True, 12, "a" * 64))


def updates_wait(rng: random.Random) -> Steps:
    yield 0.0, BEGIN
    yield from _polls(0.0, 4 * HOUR, lambda at: seen.Updates(7, 20 * DAY + at, 3600.0, False), 600.0)


def updates_fresh(rng: random.Random) -> Steps:
    yield from _polls(0.0, 4 * HOUR, lambda at: seen.Updates(3, 2 * DAY + at, 3600.0, True), 600.0)


def clock_off(rng: random.Random) -> Steps:
    yield from _polls(0.0, HOUR, lambda _: seen.TimeState(True, 0.01), 15.0)
    yield HOUR, BEGIN
    yield from _polls(HOUR, HOUR + 900, lambda _: seen.TimeState(False, 95.0), 15.0)


def clock_after_boot(rng: random.Random) -> Steps:
    """A Pi without a clock of its own: wrong for five minutes, then set; then never more than a blink away."""
    yield from _polls(0.0, 300.0, lambda _: seen.TimeState(False, None), 15.0)
    yield from _polls(300.0, 3 * HOUR, lambda at: seen.TimeState(True, 0.8 if int(at) % 7 else -0.4), 15.0)


def disk_read_only(rng: random.Random) -> Steps:
    yield from _polls(0.0, 900.0, lambda _: seen.RootDisk(False, 0))
    yield 900.0, BEGIN
    yield from _polls(900.0, 1800.0, lambda _: seen.RootDisk(True, 3))


def disk_well(rng: random.Random) -> Steps:
    yield from _polls(0.0, 3600.0, lambda _: seen.RootDisk(False, 0))
    yield from _polls(3600.0, 7200.0, lambda _: seen.RootDisk(False, -1))


def stick_plugged(rng: random.Random) -> Steps:
    yield from _polls(0.0, 25 * HOUR, lambda _: seen.Usb({"1-1": "network", "1-2": "hub"}), 300.0)
    yield 25 * HOUR, BEGIN
    yield from _polls(25 * HOUR, 25 * HOUR + 600, lambda _: seen.Usb({"1-1": "network", "1-2": "hub", "1-3": "storage"}))


def modem_again(rng: random.Random) -> Steps:
    """The modem that is always there drops off and comes back."""
    yield from _polls(0.0, 26 * HOUR, lambda at: seen.Usb({"1-2": "hub"} | ({"1-1": "network"} if int(at) % 7200 or not at else {})), 300.0)


# -- traps of the office's devices ---------------------------------------------------------------------------------------------------


def communities_tried(rng: random.Random) -> Steps:
    """A try every 20 s: the fifth refusal says that they are not somebody's mistake."""
    for i in range(9):
        if i == 4:
            yield 120.0 + i * 20, BEGIN
        yield 120.0 + i * 20 + rng.random(), seen.Trap("router", "authentication_failure", source=ATTACKER.ip)


def printer_software(rng: random.Random) -> Steps:
    """CUPS and Windows look for printers with "public": four refusals every quarter of an hour."""
    for quarter in range(12):
        for n in range(4):
            yield 60.0 + quarter * 900 + n * 2 + rng.random(), seen.Trap("router", "authentication_failure")


def uplink_out(rng: random.Random) -> Steps:
    yield 60.0, seen.Trap("router", "cold_start")
    yield 600.0, BEGIN
    yield 600.0, seen.Trap("router", "link_down", "ether1")
    yield 1800.0, seen.Trap("router", "link_up", "ether1")


def loose_plug(rng: random.Random) -> Steps:
    """A port of an access switch, six times down within five minutes: known at the fourth."""
    for i in range(6):
        if i == 3:
            yield 60.0 + i * 50, BEGIN
        yield 60.0 + i * 50 + rng.random(), seen.Trap("switch-1", "link_down", "ether11")
        yield 80.0 + i * 50 + rng.random(), seen.Trap("switch-1", "link_up", "ether11")


def office_goes_home(rng: random.Random) -> Steps:
    """PCs are switched off and on, some wake for their updates; the modem's cable is pushed in anew; switches tell it in two versions."""
    for port in range(2, 25):
        name = f"ether{port}"
        for at, what in ((rng.random() * 3600, "link_down"), (50_000 + rng.random() * 3600, "link_up"), (54_000.0 + port, "link_down")):
            yield 60.0 + at, seen.Trap("switch-1", what, name)
            yield 60.1 + at, seen.Trap("switch-1", what, name)
    yield 5000.0, seen.Trap("router", "link_down", "ether1")
    yield 5012.0, seen.Trap("router", "link_up", "ether1")


def weak_adapter(rng: random.Random) -> Steps:
    """Three starts within a day; each is told in two versions."""
    for at in (60.0, 20_000.0, 60_000.0):
        if at == 60_000.0:
            yield at, BEGIN
        yield at, seen.Trap("router", "cold_start")
        yield at + 1, seen.Trap("router", "cold_start")


def router_updated(rng: random.Random) -> Steps:
    yield 60.0, seen.Trap("router", "cold_start")
    yield 400.0, seen.Trap("router", "cold_start")
    yield 100_000.0, seen.Trap("router", "warm_start")


# -- what makes no sense -----------------------------------------------------------------------------------------------------------

TEXTS = (
    "",
    "\0",
    "ff:ff:ff:ff:ff:ff",
    "00:00:00:00:00:00",
    "999.1.2.3",
    "::",
    "fe80::1%eth0",
    "\ud800",
    "<b>" * 2000,
    "../../etc",
    "0.0.0.0",
    "-1",
    "é" * 300,
)
NUMBERS = (-1, 0, 1, 255, 65535, 65536, 2**32 - 1, 2**63, -(2**40))
FLOATS = (-1.0, 0.0, 1e-9, 1e18, float("inf"), float("-inf"), float("nan"))


def _any(hint: object, rng: random.Random, depth: int = 0) -> object:
    """A value of a type, as strange as the type allows."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Literal:
        return rng.choice(inner)
    if hint is bool:
        return rng.random() < 0.5
    if hint is int:
        return rng.choice(NUMBERS)
    if hint is float:
        return rng.choice(FLOATS)
    if hint is bytes:
        return rng.randbytes(rng.choice((0, 1, 60, 1514)))
    if hint is str:
        return rng.choice((*TEXTS, AGENT.ip, ROUTER.ip, ROUTER.mac, ATTACKER.mac))
    if kind is tuple and inner[-1] is ...:
        return tuple(_any(inner[0], rng, depth + 1) for _ in range(rng.choice((0, 1, 3, 40 if depth == 0 else 2))))
    if kind is tuple:
        return tuple(_any(x, rng, depth + 1) for x in inner)
    if kind is frozenset:
        return frozenset(_any(inner[0], rng, depth + 1) for _ in range(rng.choice((0, 1, 3))))
    if kind in (Union, type(int | None)):
        return _any(rng.choice(inner), rng, depth) if inner else None
    if hint is type(None):
        return None
    if kind is not None:  # a mapping
        return {_any(inner[0], rng, depth + 1): _any(inner[1], rng, depth + 1) for _ in range(rng.choice((0, 1, 5)))}
    assert isinstance(hint, type)
    return any_of(hint, rng)


def any_of(kind: type, rng: random.Random) -> object:
    """An observation of `kind` with garbage in every field."""
    return kind(**{name: _any(hint, rng) for name, hint in get_type_hints(kind).items()})


def garbage(*kinds: type) -> Case:
    """Nothing but garbage of the kinds that a detector wants, a normal network before and after."""

    def case(rng: random.Random) -> Steps:
        yield 0.0, HERE
        for i in range(250):
            yield 1.0 + i * 0.5, any_of(rng.choice(kinds), rng)  # type: ignore[misc]
        yield 127.0, HERE

    return case


def mangled(base: Case) -> Case:
    """The frames of an attack, each cut where it hurts or with its length fields drawn by lot: nothing in them can be read."""

    def case(rng: random.Random) -> Steps:
        yield 0.0, HERE
        for at, what in base(rng):
            if isinstance(what, bytes):
                cut = bytearray(what[: rng.randrange(14, 22)])
                yield at, bytes(cut)

    return case
