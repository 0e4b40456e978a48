"""Unicast ARP poison between two others, as only the router's own table shows it: a real Linux gateway with a real snmpd, a real agent.

Not one of the poison's frames comes to the agent's port. The table is read every 5 s here, so what takes two minutes takes seconds.
"""

import threading
from collections.abc import Iterator

import pytest
from scapy.layers.l2 import ARP, Ether

from tests.lab.netns import until
from tests.lab.test_lan import learnt
from tests.lab.wire import AGENT, ATTACKER, GW, MACS, ROOT, VICTIM, Wire

pytestmark = [pytest.mark.lab, pytest.mark.needs("snmpd"), pytest.mark.timeout(90)]
COMMUNITY = "baca-saja"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """The router knows three hosts, and the agent has read it."""
    with Wire(tmp_path_factory.mktemp("router"), "other") as lab:
        (lab.directory / "snmpd.conf").write_text(f"rocommunity {COMMUNITY} {AGENT}\n")
        (lab.directory / "router.snmp.yaml").write_text(f'{{version: "2c", community: {COMMUNITY}}}\n')
        (lab.directory / "router.snmp.yaml").chmod(0o600)
        (lab.directory / "profiles").mkdir()
        profile = (ROOT / "agent/snmp/profiles/arp.yaml").read_text()
        (lab.directory / "profiles/arp.yaml").write_text(f"{profile}every: 5s\n")  # of an admin's own: it replaces ours
        listen = ("-r", "-C", "-c", str(lab.directory / "snmpd.conf"), f"udp:{GW}:161")
        env = {"SNMP_PERSISTENT_DIR": str(lab.directory / "kept"), "MIBS": "", "MIBDIRS": ""}
        lab.boxes["gw"].start("snmpd", "snmpd", "-f", "-Lo", *listen, env=env)
        for name in ("vic", "att", "other"):
            lab.boxes[name].run("ping", "-c1", "-W1", GW)
        snmp = f"{{name: router, target: {GW}, credentials_file: {lab.directory}/router.snmp.yaml, "
        snmp += f"interval: 5s, timeout: 3s, profiles_dir: {lab.directory}/profiles}}"
        lab.agent(memory=learnt(), more=f"  snmp: [{snmp}]\n")
        until(lambda: lab.coverage()["arp_poisoning"] > 0, 60, "the router is read")
        yield lab


def test_the_routers_table_makes_it_see(office: Wire) -> None:
    assert office.coverage()["arp_poisoning"] == 0.5, "it learns for a week what it can't prove"
    assert office.coverage()["device_drift"] == 1.0


def test_who_poisons_the_router_by_unicast_is_named_and_a_card_that_is_replaced_is_not(office: Wire) -> None:
    office.boxes["other"].ip("link", "set", "eth0", "address", "d8:9e:f3:00:00:99")
    office.boxes["other"].run("ping", "-c1", "-W1", GW)
    lie = Ether(src=MACS["att"], dst=MACS["gw"]) / ARP(op=2, hwsrc=MACS["att"], psrc=VICTIM, hwdst=MACS["gw"], pdst=GW)
    other = Ether(src=MACS["att"], dst=MACS["vic"]) / ARP(op=2, hwsrc=MACS["att"], psrc=GW, hwdst=MACS["vic"], pdst=VICTIM)
    over = threading.Event()

    def poison() -> None:
        while not over.is_set():
            office.send("att", [lie, other])
            over.wait(0.5)

    thread = threading.Thread(target=poison, daemon=True)
    thread.start()
    try:
        told = office.until_told("arp_poisoning", ("critical",), seconds=75)
    finally:
        over.set()
        thread.join(5)
    assert told["fields"]["source.mac"] == MACS["att"]
    assert told["fields"]["source.ip"] == ATTACKER
    assert told["fields"]["ronda.victim.ip"] == VICTIM
    assert told["fields"]["ronda.seen_by"] == "table,owner", "the victim still answers for itself"
    assert office.values("ronda_router_arp_moves_total")[""] >= 2, "the router's table shows the new card as well"
    accused = {e["fields"].get("source.mac") for e in office.told("arp_poisoning") if e["fields"]["ronda.grade"] not in ("low", "info")}
    assert accused == {MACS["att"]}, "and nobody else: the other has its address still, by another card"
    assert office.conditions().keys().isdisjoint({"arp_anomaly", "device_drift"})
