"""The detectors of the network before real tools, through a real agent that captures on its own port: three offices, side by side.

    attacked   nmap in its kinds, tripwires, hping3, a loop's storm, ten thousand invented MACs
    lied to    a second dnsmasq, a liar on LLMNR, false router advertisements, ARP poison by unicast (invisible) and by broadcast
    innocent   two Rondas, two DHCP servers that are vouched for, the centre's scans, a router swapped, a piece of an office day

Law: they run at the same time, since probes have their pace; `until` gives limits, nothing is measured. What took minutes to learn is
given as memory: made by the detectors themselves, from made-up minutes.
"""

import struct
import threading
import time
from collections.abc import Iterator

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNSQR, DNSRR
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, ICMPv6NDOptRDNSS, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.llmnr import LLMNRQuery, LLMNRResponse

from agent.detect import seen
from agent.detect.casebook import Casebook
from agent.detect.model import Vouched
from agent.detect.patrol import Patrol
from agent.detect.table import LAN
from tests.detect import officeday
from tests.lab.netns import until
from tests.lab.wire import AGENT, ATTACKER, GW, MACS, NET, VICTIM, Wire

pytestmark = [pytest.mark.lab, pytest.mark.needs("nmap", "hping3", "dnsmasq"), pytest.mark.timeout(120)]

ALL, SCANNER = "ff:ff:ff:ff:ff:ff", f"{NET}70"
DNSMASQ = ("dnsmasq", "-k", "--port=0", "--no-hosts", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--log-facility=-")


def learnt() -> dict:
    """What detectors know of this office after a quiet hour and a half."""
    detectors = [make(Vouched()) for make in LAN]
    patrol = Patrol(detectors, Casebook([d.rule for d in detectors], "DKC", "Asia/Jakarta"))
    patrol.see(seen.Network("eth0", MACS["agent"], (AGENT,), (f"{NET}0/24",), (GW,), ()), 0.0, 0.0)
    asked = seen.Frame(MACS["gw"], ALL, "in")
    for at in range(1, 5400, 10):
        patrol.see(seen.Neighbours({GW: MACS["gw"]}), float(at), float(at))
        patrol.see(seen.Arp(asked, 1, MACS["gw"], GW, seen.NO_MAC, AGENT), float(at), float(at))
        patrol.tick(float(at), float(at))
    return patrol.remember()


def dhcp_server(lab: Wire, name: str, address: str, first: int, router: str = GW) -> None:
    options = (f"--dhcp-range={NET}{first},{NET}{first + 9},1h", f"--dhcp-option=3,{router}", f"--dhcp-option=6,{router}")
    leases = f"--dhcp-leasefile={lab.directory}/{name}.leases"
    lab.boxes[name].start(
        f"dnsmasq-{name}", *DNSMASQ, "--interface=eth0", "--bind-interfaces", f"--listen-address={address}", *options, leases
    )


def llmnr_lie(raw: bytes) -> Ether | None:
    """Whatever this box asks for by LLMNR is at the attacker's."""
    packet = Ether(raw)
    if UDP not in packet or packet[UDP].dport != 5355 or packet[IP].src != AGENT:
        return None
    query = LLMNRQuery(bytes(packet[UDP].payload))
    name = query.qd[0].qname if isinstance(query.qd, list) else query.qd.qname
    says = LLMNRResponse(id=query.id, qd=DNSQR(qname=name), an=DNSRR(rrname=name, rdata=ATTACKER, ttl=30))
    back = IP(src=ATTACKER, dst=AGENT) / UDP(sport=5355, dport=packet[UDP].sport) / says
    return Ether(src=MACS["att"], dst=MACS["agent"]) / back


@pytest.fixture(scope="module")
def memory() -> dict:
    return learnt()


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    with Wire(tmp_path_factory.mktemp("attacked")) as lab:
        lab.agent("tripwires: [2323, 4455]")
        yield lab


@pytest.fixture(scope="module")
def lied(tmp_path_factory: pytest.TempPathFactory, memory: dict) -> Iterator[Wire]:
    with Wire(tmp_path_factory.mktemp("lied")) as lab:
        dhcp_server(lab, "gw", GW, 100)
        dhcp_server(lab, "att", ATTACKER, 150, ATTACKER)
        with lab.answering("att", llmnr_lie):
            lab.agent(f"dhcp_servers: [{GW}]", memory=memory)
            yield lab


@pytest.fixture(scope="module")
def innocent(tmp_path_factory: pytest.TempPathFactory, memory: dict) -> Iterator[Wire]:
    with Wire(tmp_path_factory.mktemp("innocent"), "scanner", "agent2") as lab:
        dhcp_server(lab, "gw", GW, 100)
        dhcp_server(lab, "vic", VICTIM, 120)
        vouched = f"dhcp_servers: [{GW}, {VICTIM}], scanners: [{SCANNER}]"
        lab.agent(f"{vouched}, tripwires: [2323, 4455]", memory=memory)
        lab.agent(vouched, name="agent2")
        yield lab


def test_all_three_begin(lied: Wire, innocent: Wire, attacked: Wire) -> None:
    """Their probes get their pace from here on; each sees, and says that unicast poison of others can't be seen."""
    for lab in (lied, innocent, attacked):
        coverage = lab.coverage()
        assert coverage["arp_poisoning"] == 0.0
        assert coverage["arp_sweep"] == 1.0


# -- attacked ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [("-sS", "-F"), ("-sT", "-F"), ("-sU", "--top-ports", "50", "--max-retries", "0", "-T5")],
    ids=["sS", "sT", "sU top 50"],
)
def test_a_scan_is_told_once_and_names_who_scans(attacked: Wire, how: tuple[str, ...]) -> None:
    """Each from a machine of its own, so that it is a condition of its own."""
    last = {"-sS": 81, "-sT": 82, "-sU": 83}[how[0]]
    box = attacked.plug(f"s{last}", f"{NET}{last}", f"00:0c:29:00:01:{last:02x}")
    box.run("nmap", "-n", "-Pn", *how, AGENT)
    told: list[dict] = []

    def there() -> bool:
        told[:] = [e for e in attacked.told("port_scan") if e["fields"].get("source.ip") == f"{NET}{last}"]
        return any(e["fields"]["ronda.grade"] in ("medium", "high") for e in told)

    until(there, 60, f"{how}: {told}", every=0.4)
    assert len({e["fields"]["event.id"] for e in told}) == 1


def test_polite_scan_and_sweep_side_by_side(attacked: Wire) -> None:
    """nmap -T2, a port each 0.4 s; meanwhile another looks for who is there."""
    slow = attacked.boxes["vic"].start("polite", "nmap", "-n", "-Pn", "-sS", "-T2", "-F", AGENT)
    attacked.boxes["att"].run("nmap", "-n", "-sn", f"{NET}0/24")
    swept = attacked.until_told("arp_sweep", seconds=60)
    assert swept["fields"]["source.mac"] == MACS["att"]
    scans = lambda: [e["fields"]["ronda.grade"] for e in attacked.told("port_scan") if e["fields"].get("source.ip") == VICTIM]  # noqa: E731
    until(lambda: {"medium", "high"} & set(scans()), 60, "the polite scan is told", every=0.5)
    slow.stop()


def test_two_machines_with_one_address_are_told_once_both_have_answered_also_where_it_is_ours(attacked: Wire) -> None:
    """The first change is asked about at once, by frames of our own that real kernels answer."""
    twins = [attacked.plug(f"twin{n}", f"{NET}90", f"00:0c:29:00:02:{n:02x}") for n in (1, 2)]
    thief = attacked.plug("thief", AGENT, "00:0c:29:00:02:03")
    for n, ip in ((1, f"{NET}90"), (2, f"{NET}90"), (3, AGENT)):
        mac = f"00:0c:29:00:02:{n:02x}"
        attacked.send(f"twin{n}" if n < 3 else "thief", [Ether(src=mac, dst=ALL) / ARP(op=1, hwsrc=mac, psrc=ip, hwdst=ALL, pdst=ip)])
    told: dict[str, str] = {}

    def there() -> bool:
        told.update({e["fields"]["ronda.ip"]: e["fields"]["ronda.grade"] for e in attacked.told("ip_conflict")})
        return told == {f"{NET}90": "medium", AGENT: "high"}

    until(there, 60, f"{told}", every=0.4)
    for box in (*twins, thief):
        box.ip("link", "set", "eth0", "down")


def test_who_comes_at_tripwires_is_told(attacked: Wire) -> None:
    attacked.boxes["att"].run("nmap", "-n", "-Pn", "-sT", "-p", "2323,4455", AGENT)
    assert attacked.until_told("tripwire")["fields"]["source.ip"] == ATTACKER


def test_a_flood_from_everywhere_is_one_flood_and_no_scan(attacked: Wire) -> None:
    before = {e["fields"]["event.id"] for e in attacked.told("port_scan")}
    hping = attacked.boxes["att"].start("hping3", "hping3", "-q", "-S", "-p", "4455", "-i", "u400", "--rand-source", AGENT)
    attacked.until_told("flood", seconds=60)
    hping.stop()
    graver = [e for e in attacked.told("port_scan") if e["fields"]["ronda.grade"] not in ("low", "info")]
    assert {e["fields"]["event.id"] for e in graver} <= before, "random sources are no scans"
    assert len({e["fields"]["event.id"] for e in attacked.told("flood")}) == 1


def test_ten_thousand_macs_and_a_storm_leave_it_alive_and_small(attacked: Wire) -> None:
    """Each with a frame of its own; then a loop's storm, the same frame again and again."""
    agent = next(d for d in attacked.daemons if d.name == "agent")
    template = bytearray(bytes(Ether(src="02:00:00:00:00:00", dst=ALL) / ARP(op=1, hwsrc="02:00:00:00:00:00", psrc=f"{NET}200", pdst=GW)))
    over = threading.Event()

    def invented() -> Iterator[bytes]:
        n = 0
        while n < 10_000 or not over.is_set():
            if n < 10_000:
                template[6:12] = template[22:28] = b"\x02\x00" + struct.pack("!I", n)
            yield bytes(template)
            n += 1
            if n % 100 == 0:
                time.sleep(0.05 if n > 10_000 else 0.02)

    thread = threading.Thread(target=lambda: attacked.send("att", invented()), daemon=True)
    thread.start()
    try:
        attacked.until_told("broadcast_storm", seconds=75)
    finally:
        over.set()
        thread.join(10)
    assert agent.alive
    assert sum(attacked.values("ronda_detector_failures_total", label="detector").values()) == 0
    assert sum(attacked.values("ronda_lan_devices", label="class").values()) < 10_000


# -- lied to -----------------------------------------------------------------------------------------------------------------------


def test_poison_by_unicast_is_not_seen_and_nothing_is_claimed(lied: Wire) -> None:
    """Between gateway and victim nothing comes by here; coverage 0 of arp_poisoning says so."""
    before = lied.values("ronda_lan_frames_total", label="socket")["lan"]
    for whom, psrc in (("vic", GW), ("gw", VICTIM)):
        lie = Ether(src=MACS["att"], dst=MACS[whom]) / ARP(op=2, hwsrc=MACS["att"], psrc=psrc, hwdst=MACS[whom], pdst=VICTIM)
        lied.boxes["att"].run("ping", "-c1", "-W1", VICTIM if whom == "vic" else GW)  # so that the switch knows where they are
        lied.send("att", [lie] * 10)
    time.sleep(2.5)  # so that the next picture is of after it
    shown = lied.values("ronda_lan_frames_total", label="socket")["lan"] - before
    assert shown < 10, "at most the two pings' own questions and a probe of ours"
    assert "gateway_mac" not in lied.conditions()
    assert lied.coverage()["arp_poisoning"] == 0.0


def test_a_false_router_is_told(lied: Wire) -> None:
    source = "fe80::20c:29ff:fe00:66"
    packet = Ether(src=MACS["att"], dst="33:33:00:00:00:01") / IPv6(src=source, dst="ff02::1", hlim=255)
    packet /= (
        ICMPv6ND_RA(routerlifetime=1800, prf=1)
        / ICMPv6NDOptPrefixInfo(prefix="2001:db8:66::", prefixlen=64)
        / ICMPv6NDOptRDNSS(dns=[source])
    )
    lied.send("att", [packet] * 4, every=1.0)
    assert lied.until_told("rogue_ra")["fields"]["source.mac"] == MACS["att"]


def test_a_client_of_the_false_server_tells_of_it(lied: Wire) -> None:
    """Its REQUEST to everybody names whom it has chosen."""
    chosen = DHCP(options=[("message-type", "request"), ("server_id", ATTACKER), ("requested_addr", f"{NET}155"), "end"])
    boot = BOOTP(chaddr=bytes.fromhex(MACS["vic"].replace(":", "")), xid=7)
    packet = Ether(src=MACS["vic"], dst=ALL) / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / boot / chosen
    lied.send("vic", [packet] * 2, every=0.5)
    told = lied.until_told("rogue_dhcp", ("critical", "high"))
    assert told["fields"].get("source.mac") != MACS["vic"], "the victim is not the attacker"


def test_who_answers_for_names_that_cannot_be_is_told_after_a_second_name(lied: Wire) -> None:
    told = lied.until_told("name_poisoner", seconds=75)
    assert told["fields"]["source.mac"] == MACS["att"]


def test_poison_by_broadcast_names_the_attacker(lied: Wire) -> None:
    packet = Ether(src=MACS["att"], dst=ALL) / ARP(op=2, hwsrc=MACS["att"], psrc=GW, hwdst=ALL, pdst=GW)
    over = threading.Event()

    def poison() -> None:
        while not over.is_set():
            lied.send("att", [packet])
            over.wait(1.0)

    thread = threading.Thread(target=poison, daemon=True)
    thread.start()
    try:
        told = lied.until_told("gateway_mac", ("critical", "high"), seconds=75)
    finally:
        over.set()
        thread.join(5)
    assert told["fields"]["source.mac"] == MACS["att"]


# -- innocent ----------------------------------------------------------------------------------------------------------------------


def test_two_rondas_two_servers_and_the_centres_scan_are_silent(innocent: Wire) -> None:
    """By now both have asked for DHCP and for names that can't be."""
    innocent.boxes["scanner"].run("nmap", "-n", "-Pn", "-sS", "-F", AGENT)
    innocent.boxes["scanner"].run("nmap", "-n", "-Pn", "-sT", "-p", "2323,4455", AGENT)
    for name in ("agent", "agent2"):
        until(lambda name=name: innocent.values("ronda_lan_probes_total", name, "probe").get("dhcp", 0) >= 1, 75, f"{name} asked for DHCP")
        assert innocent.graver_than_low(name) == []


def test_a_piece_of_an_office_day_is_silent(innocent: Wire) -> None:
    """Six minutes of the morning in eight seconds: PCs boot, ask, register; as packets on the bridge, from the victim's port."""
    day = officeday.Day(11, pcs=14, phones=5)
    begin = 7.45 * 3600 + 60
    others = {officeday.AGENT.mac, officeday.ROUTER.mac, officeday.OTHER_AGENT.mac}
    piece = [
        (at, what)
        for at, what in day.frames()
        if begin <= at < begin + 360 and isinstance(what, bytes) and what[6:12].hex(":") not in others and what[0] & 1
    ]
    assert len(piece) > 300
    started = time.monotonic()

    def paced() -> Iterator[bytes]:
        for at, frame in piece:
            wait = (at - begin) / 45 - (time.monotonic() - started)
            if wait > 0.002:
                time.sleep(wait)
            head = 0 if frame[12:14] == b"\x08\x06" else 42  # IP heads stay: their sums would be wrong
            yield frame[:head] + frame[head:].replace(bytes([192, 0, 2]), bytes([10, 88, 0]))

    innocent.send("att", paced())
    until(lambda: innocent.values("ronda_lan_frames_total", label="socket")["lan"] > 300, 60, "its frames are read")
    assert innocent.graver_than_low() == []


def test_a_router_that_is_swapped_pages_nobody(innocent: Wire) -> None:
    """The cable is out, a new board comes up with the old one's name and address."""
    router = officeday.Host("RB-DKC", MACS["gw"], GW)
    spare = router._replace(mac="4c:5e:0c:00:00:99")
    innocent.send("gw", [officeday.mndp(router, 864_000)] * 2)
    innocent.switch.ip("link", "set", "p-agent", "down")
    innocent.boxes["gw"].ip("link", "set", "eth0", "address", spare.mac)
    time.sleep(2)
    innocent.switch.ip("link", "set", "p-agent", "up")
    innocent.send("gw", [officeday.mndp(spare, 30), officeday.announce(spare)] * 3, every=0.5)
    innocent.boxes["agent"].run("ping", "-c2", "-W1", GW, check=False)
    until(lambda: innocent.told("gateway_mac"), 60, "the swap is noted")
    grades = {e["fields"]["ronda.grade"] for e in innocent.told("gateway_mac")}
    assert grades <= {"medium", "low", "info"}
