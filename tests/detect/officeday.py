"""A generated day of an office as its frames: what one box on an access port sees from midnight to midnight, and nothing bad in it.

Sixty hosts: PCs that all boot at 07:30, a power cut at 13:10 after which they boot together again, printers, telephones whose random MACs
rotate, a router that speaks MNDP and looks before it gives an address away, access points, a sleep proxy, a second Ronda, somebody's
AnyDesk, Windows that asks everybody for everything (NBNS, LLMNR, mDNS, SSDP, Delivery Optimization).

Law: seeded: one seed is one day, to the byte. Frames are packed here by hand, so that a day takes a second; a test has scapy read them.
"""

import random
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from agent.detect import seen
from agent.detect.seen import Observation

What: TypeAlias = bytes | Observation
ALL = "ff:ff:ff:ff:ff:ff"
NETWORK, DOMAIN = "192.0.2.", "labuhanbatu"
HOUR, MINUTE = 3600.0, 60.0
NAMES = ("WPAD", "SERVER-LAMA", "PRINTER-TU", "ISATAP", "KANTOR-PC", "SIMDA", "BENDAHARA")
SERVICES = ("_ipp._tcp", "_googlecast._tcp", "_companion-link._tcp", "_spotify-connect._tcp", "_airplay._tcp")
OUTSIDE = ("203.0.113.10", "203.0.113.53", "198.51.100.7")


class Host(NamedTuple):
    name: str
    mac: str
    ip: str


AGENT = Host("ronda-dkc", "b8:27:eb:52:4e:10", "192.0.2.10")
ROUTER = Host("RB-DKC", "4c:5e:0c:11:22:01", "192.0.2.1")
OTHER_AGENT = Host("ronda-dkc-2", "b8:27:eb:52:4e:11", "192.0.2.11")
SERVER = Host("NAS-DKC", "00:11:32:aa:bb:05", "192.0.2.5")
APPLE_TV = Host("Ruang-Rapat", "f0:b3:ec:10:20:30", "192.0.2.30")
POINTS = tuple(Host(f"AP-{i}", f"78:8a:20:00:00:{i:02x}", f"{NETWORK}{i}") for i in (2, 3))
PRINTERS = tuple(Host(f"PRN-{i}", f"00:26:ab:00:00:{i:02x}", f"{NETWORK}{20 + i}") for i in range(4))
HERE = seen.Network(
    device="eth0", mac=AGENT.mac, addresses=(AGENT.ip,), networks=(NETWORK + "0/24",), gateways=(ROUTER.ip,), resolvers=(ROUTER.ip,)
)


# -- frames ----------------------------------------------------------------------------------------------------------------------


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ether(source: str, target: str, kind: int, body: bytes) -> bytes:
    return (_mac(target) + _mac(source) + struct.pack("!H", kind) + body).ljust(60, b"\0")


def arp(op: int, sender_mac: str, sender: str, target_mac: str, target: str, to: str = ALL) -> bytes:
    body = (
        struct.pack("!HHBBH", 1, 0x0800, 6, 4, op)
        + _mac(sender_mac)
        + socket.inet_aton(sender)
        + _mac(target_mac)
        + socket.inet_aton(target)
    )
    return ether(sender_mac, to, 0x0806, body)


def who_has(who: Host, target: str) -> bytes:
    return arp(1, who.mac, who.ip, seen.NO_MAC, target)


def announce(who: Host) -> bytes:
    return arp(1, who.mac, who.ip, seen.NO_MAC, who.ip)


def probe(who: Host) -> bytes:
    """RFC 5227: the sender's address is 0.0.0.0."""
    return arp(1, who.mac, "0.0.0.0", seen.NO_MAC, who.ip)


def _sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def ip4(source: str, target: str, protocol: int, body: bytes, ttl: int = 64) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, ttl, protocol, 0) + socket.inet_aton(source) + socket.inet_aton(target)
    return head[:10] + struct.pack("!H", _sum(head)) + head[12:] + body


def udp(source: str, target: str, sport: int, dport: int, data: bytes, ttl: int = 64) -> bytes:
    """The UDP checksum is left out, as IPv4 allows (RFC 768)."""
    return ip4(source, target, 17, struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data, ttl)


def tcp(source: str, target: str, sport: int, dport: int, flags: int) -> bytes:
    head = struct.pack("!HHIIBBHHH", sport, dport, 1000, 1001 if flags & 0x10 else 0, 0x50, flags, 64240, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, 6, len(head))
    return ip4(source, target, 6, head[:16] + struct.pack("!H", _sum(pseudo + head)) + head[18:])


SYN, SYN_ACK, RST_ACK, RST = 0x02, 0x12, 0x14, 0x04
GROUPS = {"224.0.0.251": "01:00:5e:00:00:fb", "224.0.0.252": "01:00:5e:00:00:fc", "239.255.255.250": "01:00:5e:7f:ff:fa"}
GROUPS |= {"192.0.2.255": ALL, "255.255.255.255": ALL, "239.255.102.18": "01:00:5e:7f:66:12"}


def shout(who: Host, target: str, sport: int, dport: int, data: bytes, ttl: int = 1) -> bytes:
    """UDP to everybody, or to a group."""
    return ether(who.mac, GROUPS[target], 0x0800, udp(who.ip, target, sport, dport, data, ttl))


def dns_name(name: str) -> bytes:
    return b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0"


def question(name: str, kind: int, ident: int = 0) -> bytes:
    return struct.pack("!HHHHHH", ident, 0, 1, 0, 0, 0) + dns_name(name) + struct.pack("!HH", kind, 1)


def netbios(name: str) -> bytes:
    """RFC 1002: each half of a letter is a letter."""
    padded = name[:15].ljust(15).encode() + b"\0"
    return b"\x20" + bytes(x for c in padded for x in (0x41 + (c >> 4), 0x41 + (c & 15))) + b"\0"


def nbns(name: str, ident: int, register: str = "") -> bytes:
    body = (
        struct.pack("!HHHHHH", ident, 0x2910 if register else 0x0110, 1, 0, 0, 1 if register else 0)
        + netbios(name)
        + struct.pack("!HH", 32, 1)
    )
    return body + (b"\xc0\x0c" + struct.pack("!HHIHH", 32, 1, 300000, 6, 0) + socket.inet_aton(register) if register else b"")


def dhcp(who: Host, kind: int, xid: int, options: dict[int, bytes], source: str = "0.0.0.0", client: str = "", flags: int = 0) -> bytes:
    """A client's message to everybody (RFC 2131)."""
    head = struct.pack("!BBBBIHH", 1, 1, 6, 0, xid, 0, flags) + socket.inet_aton(client or "0.0.0.0") + bytes(12)
    body = head + _mac(who.mac).ljust(16, b"\0") + bytes(192) + b"\x63\x82\x53\x63" + bytes([53, 1, kind])
    body += b"".join(bytes([code, len(value)]) + value for code, value in options.items()) + b"\xff"
    return ether(who.mac, ALL, 0x0800, udp(source, "255.255.255.255", 68, 67, body.ljust(300, b"\0")))


def mndp(who: Host, uptime: int, version: str = "7.15.3 (stable)", board: str = "RB4011iGS+", sequence: int = 0) -> bytes:
    """MikroTik's neighbour discovery: type and length, two bytes each; the uptime alone is little-endian."""
    fields = ((1, _mac(who.mac)), (5, who.name.encode()), (7, version.encode()), (8, b"MikroTik"), (10, struct.pack("<I", uptime)))
    fields += ((11, b"ABCD-1234"), (12, board.encode()), (16, b"bridge/ether2"))
    body = struct.pack("!HH", 0, sequence & 0xFFFF) + b"".join(struct.pack("!HH", t, len(v)) + v for t, v in fields)
    return shout(who, "255.255.255.255", 5678, 5678, body, 64)


def lldp(who: Host) -> bytes:
    tlvs = (
        (1, b"\x04" + _mac(who.mac)),
        (2, b"\x05eth0"),
        (3, struct.pack("!H", 120)),
        (5, who.name.encode()),
        (6, b"UAP-AC-Lite 6.2.44"),
        (0, b""),
    )
    return ether(who.mac, "01:80:c2:00:00:0e", 0x88CC, b"".join(struct.pack("!H", t << 9 | len(v)) + v for t, v in tlvs))


def stp(who: Host) -> bytes:
    bridge = b"\x80\x00" + _mac(who.mac)
    body = (
        b"\x42\x42\x03"
        + struct.pack("!HBBB", 0, 0, 0, 0)
        + bridge
        + bytes(4)
        + bridge
        + struct.pack("!HHHHH", 0x8001, 0, 0x1400, 0x200, 0xF00)
    )
    return (_mac("01:80:c2:00:00:00") + _mac(who.mac) + struct.pack("!H", len(body)) + body).ljust(60, b"\0")


def link_local(mac: str) -> bytes:
    m = _mac(mac)
    return b"\xfe\x80" + bytes(6) + bytes([m[0] ^ 2]) + m[1:3] + b"\xff\xfe" + m[3:]


def icmp6(mac: str, to_mac: str, source: bytes, target: bytes, body: bytes, hops: int = 255) -> bytes:
    pseudo = source + target + struct.pack("!IBBBB", len(body), 0, 0, 0, 58)
    body = body[:2] + struct.pack("!H", _sum(pseudo + body)) + body[4:]
    return ether(mac, to_mac, 0x86DD, struct.pack("!IHBB", 0x60000000, len(body), 58, hops) + source + target + body)


def duplicate_check(who: Host) -> bytes:
    """Neighbour solicitation from :: for an address that the host is about to take (RFC 4862)."""
    address = link_local(who.mac)
    group = b"\xff\x02" + bytes(9) + b"\x01\xff" + address[13:]
    return icmp6(who.mac, "33:33:ff:" + who.mac[9:], bytes(16), group, struct.pack("!BBHI", 135, 0, 0, 0) + address)


def router_wanted(who: Host) -> bytes:
    target = b"\xff\x02" + bytes(13) + b"\x02"
    return icmp6(
        who.mac, "33:33:00:00:00:02", link_local(who.mac), target, struct.pack("!BBHI", 133, 0, 0, 0) + b"\x01\x01" + _mac(who.mac)
    )


# -- the day ---------------------------------------------------------------------------------------------------------------------


class Day:
    """`frames()`: (seconds since midnight, frame or observation), in order."""

    def __init__(self, seed: int, pcs: int = 41, phones: int = 10) -> None:
        self.random = random.Random(f"office day {seed}")
        vendors = ("3c:52:82", "d8:9e:f3", "00:e0:4c", "54:ee:75", "f4:39:09", "70:85:c2")
        self.pcs = [
            Host(f"PC-{i:02d}", f"{self.random.choice(vendors)}:{i:02x}:7a:{seed & 255:02x}", f"{NETWORK}{100 + i}") for i in range(pcs)
        ]
        self.phones = [self._phone(i) for i in range(phones)]
        self.mac_book = Host("MacBook-Kadis", "a4:83:e7:01:02:03", NETWORK + "31")
        self._steps: list[tuple[float, What]] = []
        self._build()

    @property
    def hosts(self) -> list[Host]:
        return [*self.pcs, *self.phones, *PRINTERS, *POINTS, ROUTER, SERVER, APPLE_TV, self.mac_book, AGENT, OTHER_AGENT]

    def frames(self) -> Iterator[tuple[float, What]]:
        yield from sorted(self._steps, key=lambda step: step[0])

    def _phone(self, i: int) -> Host:
        """A MAC of today: locally administered, random."""
        tail = ":".join(f"{self.random.randrange(256):02x}" for _ in range(5))
        return Host(f"HP-{i}", f"{self.random.choice('01234567') + self.random.choice('26ae')}:{tail}", f"{NETWORK}{180 + i}")

    def _add(self, at: float, what: What) -> None:
        if 0.0 <= at < 24 * HOUR:
            self._steps.append((at, what))

    def _every(self, start: float, end: float, mean: float) -> Iterator[float]:
        """Times that come as they like, `mean` seconds apart on average."""
        at = start + self.random.expovariate(1 / mean)
        while at < end:
            yield at
            at += self.random.expovariate(1 / mean)

    def _build(self) -> None:
        self._add(0.0, HERE)
        self._add(0.0, seen.Carrier(True))
        cut = 13 * HOUR + 10 * MINUTE
        for i, pc in enumerate(self.pcs):
            start = 7.45 * HOUR + self.random.triangular(0, 900, 300)
            self._pc(pc, start, cut, early=i == 0)
            self._pc(pc, cut + 9 * MINUTE + self.random.triangular(0, 90, 20), 16.2 * HOUR + self.random.uniform(0, HOUR), early=False)
        for phone in self.phones:
            self._telephone(phone)
        for printer in PRINTERS:
            self._printer(printer)
        self._router(cut)
        self._points()
        self._sleeper()
        self._us()
        self._oddities()

    # -- PCs -----------------------------------------------------------------------------------------------------------------

    def _pc(self, pc: Host, start: float, end: float, early: bool) -> None:
        if early:
            start -= 7 * HOUR  # one that nobody switched off
        self._boot(pc, start)
        for at in self._every(start + 30, end, 110):
            self._add(at, who_has(pc, self.random.choice((ROUTER.ip, ROUTER.ip, ROUTER.ip, SERVER.ip, self.random.choice(PRINTERS).ip))))
        for at in self._every(start + 40, end, 600):
            self._names(pc, at)
        for at in self._every(start + 60, end, 420):
            query = question(self.random.choice(SERVICES) + ".local", 12)
            self._add(at, shout(pc, "224.0.0.251", 5353, 5353, query, 255))
        for at in self._every(start + 20, end, 700):
            for i in range(3):
                self._add(at + i, shout(pc, "239.255.255.250", self.random.randrange(49152, 65535), 1900, self._search(), 2))
        for at in self._every(start + 600, end, 3 * HOUR):
            self._add(
                at, dhcp(pc, 8, self.random.getrandbits(32), {12: pc.name.encode(), 60: b"MSFT 5.0"}, pc.ip, pc.ip)
            )  # INFORM for WPAD
        for at in self._every(start + 300, end, 4 * HOUR):
            self._refused(pc, at, 7680)  # Delivery Optimization looks for peers

    def _boot(self, pc: Host, at: float) -> None:
        xid, name = self.random.getrandbits(32), pc.name.encode()
        tail = {61: b"\x01" + _mac(pc.mac), 12: name, 60: b"MSFT 5.0", 55: bytes([1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252])}
        if self.random.random() < 0.4:
            self._add(at, dhcp(pc, 1, xid, tail))
        choice = {50: socket.inet_aton(pc.ip), 54: socket.inet_aton(ROUTER.ip)}
        self._add(at + 0.4, dhcp(pc, 3, xid, choice | tail))
        for i in range(3):
            self._add(at + 0.6 + i, probe(pc))
        for i in range(2):
            self._add(at + 3.8 + 2 * i, announce(pc))
        self._add(at + 0.5, duplicate_check(pc))
        for i in range(3):
            self._add(at + 0.7 + 4 * i, router_wanted(pc))
        for i in range(4):
            self._add(at + 5 + 0.75 * i, shout(pc, "192.0.2.255", 137, 137, nbns(pc.name, 0x8000 + i, pc.ip), 128))
        for i in range(6):
            self._names(pc, at + 6 + 2 * i)
        self._add(at + 5, who_has(pc, ROUTER.ip))
        self._add(at + 8, who_has(pc, SERVER.ip))

    def _names(self, pc: Host, at: float) -> None:
        name, ident = self.random.choice(NAMES), self.random.getrandbits(16)
        for i in range(2):
            query = question(name.lower(), self.random.choice((1, 28)), ident)
            self._add(at + 0.4 * i, shout(pc, "224.0.0.252", self.random.randrange(49152, 65535), 5355, query))
        for i in range(3):
            self._add(at + 0.8 + 0.75 * i, shout(pc, "192.0.2.255", 137, 137, nbns(name, ident), 128))
        self._add(at + 0.1, shout(pc, "224.0.0.251", 5353, 5353, question(f"{name.lower()}.local", 1), 255))

    def _search(self) -> bytes:
        return b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: urn:dial:1\r\n\r\n'

    def _refused(self, who: Host, at: float, port: int, tries: int = 3) -> None:
        """A program asks a port of the agent that nobody serves; Windows tries three times."""
        sport = self.random.randrange(49152, 65535)
        for i in range(tries):
            self._add(at + 0.5 * i, ether(who.mac, AGENT.mac, 0x0800, tcp(who.ip, AGENT.ip, sport, port, SYN)))
            self._add(at + 0.5 * i + 0.0002, ether(AGENT.mac, who.mac, 0x0800, tcp(AGENT.ip, who.ip, port, sport, RST_ACK)))

    # -- the others ----------------------------------------------------------------------------------------------------------

    def _telephone(self, phone: Host) -> None:
        """Comes, goes for lunch, and comes back as somebody else."""
        second = self._phone(int(phone.name[3:]))._replace(ip=f"{NETWORK}{200 + int(phone.name[3:])}")
        spans = ((7.5, 12.0, phone), (13.0, 16.5, second))
        for begin, end, who in spans:
            start = begin * HOUR + self.random.uniform(0, HOUR)
            for back in range(3):  # sleeps, wakes, asks for its address again
                at = start + back * 4000
                self._add(
                    at,
                    dhcp(who, 3, self.random.getrandbits(32), {50: socket.inet_aton(who.ip), 12: b"", 55: bytes([1, 121, 3, 6, 15, 114])}),
                )
                self._add(at + 0.5, probe(who))
                self._add(at + 1.5, announce(who))
                self._add(at + 1.6, duplicate_check(who))
            for at in self._every(start + 60, end * HOUR, 500):
                self._add(at, shout(who, "224.0.0.251", 5353, 5353, question(self.random.choice(SERVICES) + ".local", 12), 255))
            for at in self._every(start + 60, end * HOUR, 400):
                self._add(at, who_has(who, ROUTER.ip))

    def _printer(self, printer: Host) -> None:
        for at in self._every(0, 24 * HOUR, 900):
            self._add(at, announce(printer))
        for at in self._every(0, 24 * HOUR, 600):
            self._add(at, shout(printer, "224.0.0.251", 5353, 5353, question("_ipp._tcp.local", 12), 255))
            self._add(at + 0.2, shout(printer, "239.255.255.250", 1900, 1900, b"NOTIFY * HTTP/1.1\r\nNT: upnp:rootdevice\r\n\r\n", 4))

    def _router(self, cut: float) -> None:
        """Asks for whom it has something, also for who isn't there; says what it is; looks before it gives an address away."""
        hosts = self.hosts
        for at in self._every(0, 24 * HOUR, 9):
            self._add(at, who_has(ROUTER, self.random.choice(hosts).ip))
        for at in self._every(0, 24 * HOUR, 300):
            self._add(at, who_has(ROUTER, f"{NETWORK}{self.random.randrange(210, 250)}"))  # somebody outside knocks
        for n, at in enumerate(range(0, int(24 * HOUR), 60)):
            up = at + 864_000 if at < cut else at - int(cut)
            if not 0 <= at - cut < 120:
                self._add(at + 0.3, mndp(ROUTER, up, sequence=n))
        for pc in self.pcs[:10]:
            self._add(7.45 * HOUR + self.random.uniform(0, 900), who_has(ROUTER, pc.ip))  # conflict detection
        for at in range(0, int(24 * HOUR), 20):  # answers to our pings: who brings them is the gateway
            answer = struct.pack("!BBHHH", 0, 0, 0xFFFF - 77 - at // 20, 77, at // 20)
            self._add(at + 0.7, ether(ROUTER.mac, AGENT.mac, 0x0800, ip4(self.random.choice(OUTSIDE), AGENT.ip, 1, answer)))

    def _points(self) -> None:
        for point in POINTS:
            for at in range(0, int(24 * HOUR), 30):
                self._add(at + 0.1, lldp(point))
        for at in range(0, int(24 * HOUR), 10):
            self._add(at + 0.05, stp(POINTS[0]))

    def _sleeper(self) -> None:
        """A MacBook sleeps, and the Apple TV answers in its name meanwhile (Bonjour sleep proxy)."""
        for sleeps, wakes in ((9.6, 10.5), (12.1, 13.4), (14.5, 15.1)):
            proxy = Host(APPLE_TV.name, APPLE_TV.mac, self.mac_book.ip)
            self._add(sleeps * HOUR, announce(self.mac_book))
            self._add(sleeps * HOUR + 5, announce(proxy))
            self._add(wakes * HOUR, announce(self.mac_book))
            for at in self._every(wakes * HOUR + 30, wakes * HOUR + 1200, 200):
                self._add(at, who_has(self.mac_book, ROUTER.ip))

    def _us(self) -> None:
        """What this Ronda and the other one do, and what the kernel says."""
        here = {ROUTER.ip: ROUTER.mac, SERVER.ip: SERVER.mac, OTHER_AGENT.ip: OTHER_AGENT.mac}
        for at in range(0, int(24 * HOUR), 10):
            self._add(at + 0.9, seen.Neighbours(here))
            self._add(at + 0.9, seen.Counters(self._counters(at)))
        for at in range(60, int(24 * HOUR), 300):
            offer = seen.Dhcp(
                seen.Frame(ROUTER.mac, ALL, "in"),
                "offer",
                at,
                "02:52:4f:4e:00:10",
                ROUTER.ip,
                NETWORK + "99",
                "",
                ROUTER.ip,
                "",
                (ROUTER.ip,),
                (ROUTER.ip,),
            )
            self._add(at + 5.0, seen.DhcpProbe(at, (offer,)))
            self._add(at, self._our_discover(AGENT, "02:52:4f:4e:00:10"))
            self._add(at + 130, self._our_discover(OTHER_AGENT, "02:52:4f:4e:00:11"))
        for at in range(30, int(24 * HOUR), 60):
            name = "".join(self.random.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(6))
            self._add(at, shout(AGENT, "224.0.0.252", 51000 + at % 9000, 5355, question("lbh-" + name, 1)))
            self._add(at + 2, seen.Canary("llmnr", "lbh-" + name))
            self._add(at + 21, shout(OTHER_AGENT, "224.0.0.252", 51000 + at % 9000, 5355, question("lbh-" + name[::-1], 1)))
            self._add(at + 23, shout(OTHER_AGENT, "192.0.2.255", 137, 137, nbns("LBH-" + name.upper(), at & 0xFFFF), 64))
        for at in self._every(0, 24 * HOUR, 1800):
            target = self.random.choice(self.pcs).ip
            for i in range(3):  # looks at a doubtful address, RFC 5227
                self._add(at + i, arp(1, OTHER_AGENT.mac, "0.0.0.0", seen.NO_MAC, target))

    def _our_discover(self, who: Host, mac: str) -> bytes:
        frame = dhcp(Host("ronda-probe", mac, ""), 1, self.random.getrandbits(32), {12: b"ronda-probe"}, flags=0x8000)
        return frame[:6] + _mac(mac) + frame[12:] if self.random.random() < 0.5 else frame[:6] + _mac(who.mac) + frame[12:]

    def _counters(self, at: float) -> dict[str, float]:
        """A quiet box: a few packets to ports that nobody serves, no queue that overflows."""
        busy = 3.0 if 7.4 * HOUR < at < 17 * HOUR else 0.5
        found = {
            "contacts": at * 0.02,
            "lan": at * busy,
            "broadcast": at * busy,
            "contacts_lost": 0.0,
            "lan_lost": 0.0,
            "NoPorts": at * 0.01,
        }
        return found | dict.fromkeys(
            ("ListenDrops", "ListenOverflows", "TCPReqQFullDoCookies", "SyncookiesSent", "InErrors", "RcvbufErrors", "half_open"), 0.0
        )

    def _oddities(self) -> None:
        """What happens on some day to everybody."""
        desk, helper = self.pcs[3], self.pcs[7]
        for at in self._every(8 * HOUR, 16 * HOUR, 1200):  # AnyDesk looks for its like
            for i in range(3):
                self._add(at + i, shout(desk, "239.255.102.18", 50001, 50001 + i, b"\x3e\xd1\x01", 4))
        for at in self._every(8 * HOUR, 16 * HOUR, 3 * HOUR):
            self._refused(desk, at, 7070)
        for i, target in enumerate(self.random.sample([*PRINTERS, *self.pcs, SERVER], 18)):  # a printer's utility looks around
            self._add(9.2 * HOUR + i * 0.8, who_has(helper, target.ip))
        for port, at in ((80, 9.0), (443, 9.001), (631, 11.0), (9100, 11.2), (8080, 14.0)):  # somebody clicks on the box in "Network"
            self._refused(helper, at * HOUR, port, tries=2)
        lost = Host("HP-TU", "3c:52:82:99:00:01", "0.0.0.0")
        fallback = lost._replace(ip="169.254.7.9")  # no address in time: RFC 3927
        self._add(8.05 * HOUR, dhcp(lost, 1, 77, {12: b"HP-TU"}))
        for i in range(3):
            self._add(8.05 * HOUR + 10 + i, probe(fallback))
        self._add(8.05 * HOUR + 15, announce(fallback))
        self._add(8.06 * HOUR, dhcp(lost, 3, 78, {50: socket.inet_aton(NETWORK + "160"), 54: socket.inet_aton(ROUTER.ip)}))
        self._add(8.06 * HOUR + 2, announce(lost._replace(ip=NETWORK + "160")))
        for dock, at in ((self.pcs[5]._replace(mac="00:50:b6:10:00:05"), 10.3), (self.pcs[5], 11.6)):  # a notebook goes to a dock and back
            self._add(
                at * HOUR, dhcp(dock, 3, self.random.getrandbits(32), {50: socket.inet_aton(dock.ip), 54: socket.inet_aton(ROUTER.ip)})
            )
            self._add(at * HOUR + 1, probe(dock))
            self._add(at * HOUR + 4, announce(dock))
