"""The regency of the tests: ten offices behind two providers, the internet beyond them, and the centre.

    box ── router (NAT) ── isp-a ──┐
     └──── router (NAT) ── isp-b ──┴── internet (anchors, services, a resolver)        centre ── management wire ── each box that is scraped

Law: real daemons only; all that is true of an office stands in OFFICES, and the inventory is written from it, so that the lab and the
inventory can't differ. An office with two uplinks has a router for each, and sends by source address (RFC 1812 routers don't choose by
source; the box does, with a rule for each address). Providers know no office's own addresses: without NAT nothing comes back.
"""

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tests.lab.netns import Daemon, Lab, Namespace, until

ANCHORS = ("198.51.100.11", "198.51.100.12", "198.51.100.13")
RESOLVER = "203.0.113.53"
SERVICES = {"siak": "203.0.113.80", "simrs": "203.0.113.81"}
MAINTENANCE = {"from": "2020-01-01T00:00", "until": "2090-01-01T00:00", "reason": "pindah gedung"}
ZONE = ZoneInfo("Asia/Jakarta")
PUSH_URL = "http://192.0.2.10:9090"  # the centre as the offices reach it; plain, since the lab has no ears
ISPS = {"isp-a": ("ISP A", 81), "isp-b": ("ISP B", 82), "isp-c": ("ISP C", 83)}  # name, and the second number of its network's addresses

NGINX = """daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr; user root;
events {{ worker_connections 256; }}
http {{ access_log off; server {{ listen {address}:80; location / {{ default_type text/html; return 200 "{body} siap"; }} }} }}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Office:
    """One office as the inventory has it. `more`: what else its entry says."""

    slug: str
    name: str
    code: str
    district: str
    isps: tuple[str, ...]
    class_: str = "24-jam"
    services: tuple[str, ...] = ()
    delivery: str = "pull"
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _office(slug: str, name: str, code: str, district: str, isps: str, *services: str, **more: Any) -> Office:
    ways = tuple(f"isp-{letter}" for letter in isps)
    own = {"class_": more.pop("class_", "24-jam"), "delivery": more.pop("delivery", "pull")}
    return Office(slug=slug, name=name, code=code, district=district, isps=ways, services=services, more=more, **own)


LAYANAN = {"class_": "layanan", "calendar": "24-jam"}
OFFICES = (
    _office("rsud", "RSUD Rantauprapat", "RSU", "Rantau Utara", "ab", "simrs", "siak", delivery="push"),
    _office("psc", "PSC 119", "PSC", "Rantau Utara", "a", "siak", delivery="push"),
    _office("dukcapil", "Dukcapil", "DKC", "Rantau Selatan", "a", "siak", delivery="push", **LAYANAN),
    _office("arsip", "Dinas Arsip", "ARS", "Rantau Selatan", "a", maintenance=[MAINTENANCE]),
    _office("kominfo", "Dinas Kominfo", "KMF", "Rantau Selatan", "c", **LAYANAN),
    _office("bappeda", "Bappeda", "BPD", "Rantau Selatan", "c", class_="kantor", calendar="tutup"),
    _office("pkm-pangkatan", "Puskesmas Pangkatan", "PKP", "Pangkatan", "c"),
    _office("pkm-bilik", "Puskesmas Labuhan Bilik", "PKL", "Panai Tengah", "b", delivery="push", **LAYANAN),
    _office("camat-panai", "Camat Panai Tengah", "CPT", "Panai Tengah", "a", **LAYANAN),
    _office("desa-telaga", "Desa Telaga Suka", "DTS", "Panai Tengah", "b", class_="desa", calendar="24-jam"),
)


class Box:
    """An office's machines: the box that the agent runs on, and a router for each uplink."""

    def __init__(self, regency: "Regency", number: int, office: Office) -> None:
        self.regency, self.number, self.office = regency, number, office
        self.ns = regency.namespace(f"box{number}", resolver=self.lan(0, 1))
        self.routers: dict[str, Namespace] = {}
        self.resolvers: list[Daemon] = []
        for i, isp in enumerate(office.isps):
            self._uplink(i, isp)
        if self.pull:
            regency.link(self.ns, "mon0", f"{self.management}/24", regency.centre, f"m{number}", f"10.89.{number}.1/24")

    @property
    def pull(self) -> bool:
        """Scraped by the management wire; one that pushes has none, and nobody comes in through its NAT."""
        return self.office.delivery == "pull"

    @property
    def management(self) -> str:
        return f"10.89.{self.number}.2"

    @property
    def listen(self) -> str:
        """Where its agent listens."""
        return f"{self.management if self.pull else '127.0.0.1'}:17663"

    def lan(self, uplink: int, last: int) -> str:
        return f"10.{80 + 4 * uplink}.{self.number}.{last}"

    def _uplink(self, i: int, isp: str) -> None:
        router = self.routers[isp] = self.regency.namespace(f"router{self.number}-{i}", resolver=RESOLVER)
        wan, near, far = f"wan{self.number}", self.wan(isp, 2), self.wan(isp, 1)
        self.regency.link(self.ns, f"lan{i}", f"{self.lan(i, 2)}/24", router, "lan", f"{self.lan(i, 1)}/24")
        self.regency.link(router, "wan", f"{near}/24", self.regency.isps[isp], wan, f"{far}/24")
        router.sysctl(net__ipv4__ip_forward="1")
        router.ip("route", "add", "default", "via", far)
        router.run("nft", "add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; }; "
                          "add rule ip nat out oifname wan masquerade")  # fmt: skip
        self.route(i)

    def route(self, i: int) -> None:
        """The box's way out: by source address, and the first uplink for what has none."""
        gateway, table = self.lan(i, 1), str(100 + i)
        self.ns.ip("route", "replace", "default", "via", gateway, "table", table)
        self.ns.ip("rule", "add", "from", self.lan(i, 2), "lookup", table, "priority", table)
        self.ns.ip("route", "replace", "default", "via", gateway, "metric", str(100 + i))

    @staticmethod
    def _network(isp: str) -> int:
        return ISPS[isp][1]

    def wan(self, isp: str, last: int) -> str:
        return f"10.{self._network(isp)}.{self.number}.{last}"

    def cut(self, isp: str, cut: bool = True) -> None:
        """The provider's wire to this office, at the provider's end; nobody at the office sees a cable come loose."""
        self.regency.isps[isp].ip("link", "set", f"wan{self.number}", "down" if cut else "up")

    def cut_off(self, cut: bool = True) -> None:
        """All wires of the office, the management wire too: as if it were dark."""
        for isp in self.routers:
            self.cut(isp, cut)
        if self.pull:
            self.regency.centre.ip("link", "set", f"m{self.number}", "down" if cut else "up")

    def dnsmasq(self) -> Daemon:
        """The office router's own resolver, as most routers are one; it asks the internet's."""
        router = self.routers[self.office.isps[0]]
        return self.regency.dnsmasq(
            router, f"dnsmasq-{self.office.slug}", "--no-hosts", f"--server={RESOLVER}", f"--listen-address={self.lan(0, 1)}"
        )


class Regency(Lab):
    """All of it, wired and routed. Daemons are started by the test."""

    def __init__(self, directory: Path, offices: tuple[Office, ...] = OFFICES) -> None:
        super().__init__(directory)
        try:
            self.internet, self.centre = self.namespace("internet"), self.namespace("centre", resolver=RESOLVER)
            self.isps = {isp: self._isp(i, isp) for i, isp in enumerate(ISPS)}
            self._world()
            self.boxes = {o.slug: Box(self, n, o) for n, o in enumerate(offices, 1)}
        except BaseException:
            self.close()
            raise

    def _isp(self, i: int, isp: str) -> Namespace:
        made = self.namespace(isp)
        made.sysctl(net__ipv4__ip_forward="1")
        self.link(made, "core0", f"10.90.{i}.2/24", self.internet, f"to{i}", f"10.90.{i}.1/24")
        made.ip("route", "add", "default", "via", f"10.90.{i}.1")
        self.internet.ip("route", "add", f"10.{ISPS[isp][1]}.0.0/16", "via", f"10.90.{i}.2")
        return made

    def _world(self) -> None:
        self.internet.sysctl(net__ipv4__ip_forward="1")
        for address in (*ANCHORS, RESOLVER, *SERVICES.values()):
            self.internet.ip("address", "add", f"{address}/32", "dev", "lo")
        self.link(self.internet, "centre", "192.0.2.1/24", self.centre, "wan", "192.0.2.10/24")
        self.centre.ip("route", "add", "default", "via", "192.0.2.1")

    def cut_isp(self, isp: str, cut: bool = True) -> None:
        """The provider's own way to the internet; every office's wire to it stays well."""
        self.isps[isp].ip("link", "set", "core0", "down" if cut else "up")
        if not cut:
            i = list(ISPS).index(isp)
            self.isps[isp].ip("route", "replace", "default", "via", f"10.90.{i}.1")
            self.internet.ip("route", "replace", f"10.{ISPS[isp][1]}.0.0/16", "via", f"10.90.{i}.2")

    def nginx(self, service: str) -> Daemon:
        """The web server of one service; stop it and the service is dead, start it and it lives."""
        return self.web(service, SERVICES[service])

    def web(self, service: str, address: str) -> Daemon:
        directory = self.directory / f"nginx-{service}"
        directory.mkdir(exist_ok=True)
        (directory / "nginx.conf").write_text(NGINX.format(dir=directory, address=address, body=service.upper()))
        daemon = self.internet.start(f"nginx-{service}", "nginx", "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf"))
        until(
            lambda: self.internet.get(f"http://{ANCHORS[0] if address == '0.0.0.0' else address}/"),
            20,
            f"nginx answers for {service}\n{daemon.output()}",
        )
        return daemon

    def dnsmasq(self, ns: Namespace, name: str, *options: str) -> Daemon:
        common = [
            "--no-resolv",
            "--no-poll",
            "--user=root",
            "--pid-file=",
            "--conf-file=/dev/null",
            "--log-facility=-",
            "--bind-interfaces",
        ]
        return ns.start(name, "dnsmasq", "-k", *common, *options)

    def resolver(self, *also: str) -> Daemon:
        """The internet's resolver, `also` at these addresses: knows the services; any other name of go.id is the first anchor."""
        names = [f"--address=/{name}.example.go.id/{address}" for name, address in SERVICES.items()]
        listens = [f"--listen-address={address}" for address in (RESOLVER, *also)]
        return self.dnsmasq(self.internet, "dnsmasq", *names, f"--address=/go.id/{ANCHORS[0]}", "--local=/go.id/", *listens)

    # -- the inventory

    def inventory(self) -> dict[str, Any]:
        """The regency as inventory.yaml has it, without channels."""
        return {
            "centre": {"name": "Kominfo Labuhanbatu", "phone": "0624-000000", "url": PUSH_URL, "anchors": list(ANCHORS)},
            "calendars": {"tutup": _closed_now(ZONE)},
            "isps": {isp: {"name": name, "noc": f"021-000{n}"} for isp, (name, n) in ISPS.items()},
            "services": {s: {"name": s.upper(), "url": f"http://{s}.example.go.id/", "owner": f"Pemilik {s.upper()}"} for s in SERVICES},
            "sites": {slug: _entry(box) for slug, box in self.boxes.items()},
        }


def _entry(box: Box) -> dict[str, Any]:
    office = box.office
    uplinks = [{"isp": isp, "medium": "fibre", "customer": f"00{box.number}", "source": box.lan(i, 2)} for i, isp in enumerate(office.isps)]
    made = {"name": office.name, "code": office.code, "district": office.district, "class": office.class_, "delivery": office.delivery}
    made |= {"address": box.listen} if office.delivery == "pull" else {}
    return {**made, "uplinks": uplinks, "services": list(office.services), **office.more}


def _closed_now(zone: ZoneInfo, now: datetime | None = None) -> dict[str, str]:
    """Opening hours of every day that are ten hours away or more, so that the office is closed for as long as a test lasts."""
    opens = (now or datetime.now(zone)) + timedelta(hours=11)
    start = min(opens.hour, 22)
    return {"mon-sun": f"{start:02}:00-{start + 1:02}:00"}
