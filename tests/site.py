"""A site with something of everything, for the tests of the web and its pages."""

import dataclasses
import math

from agent.diagnosis import Verdict
from agent.model import Fact
from agent.status import Status

NOW = 1_795_460_820.0  # 2026-11-24 02:07 WIB
EVIDENCE = ("kabel atau WiFi tersambung", "router kantor menjawab", "0/3 jangkar internet menjawab")


def status(task: str, kind: str, state: str = "ok", **more) -> Status:
    return Status(task, kind, state=state, **({"at": NOW - 4, "since": NOW - 900, "value": 0.0123} | more))


def with_history(made: Status, minutes: int = 330, down: range = range(0)) -> Status:
    """Fills the last hours: a wave of values, failures in the `down` minutes ago, a gap before `minutes`."""
    for ago in range(minutes, -1, -1):
        bad = ago in down
        made.history.add(NOW - ago * 60, "down" if bad else "ok", None if bad else 0.012 + 0.008 * math.sin(ago / 17) ** 2)
    return made


def many() -> list[Status]:
    """Every state, every reason that people see, every kind."""
    http = "https://siak.example.go.id/"
    return [
        with_history(status("icmp:gateway", "icmp", target="gateway", value=0.00045)),
        with_history(status("icmp:203.0.113.10", "icmp", target="203.0.113.10", labels={"role": "anchor"}), down=range(40, 55)),
        with_history(
            status("icmp:198.51.100.7", "icmp", "down", target="198.51.100.7", reason="timeout", detail="no answer within 5 s"),
            down=range(15),
        ),
        with_history(
            status("http:siak", "http", "down", target=http, reason="status", detail="503 Service Unavailable, wanted 200"), down=range(16)
        ),
        status("http:sipd", "http", "checking", target="https://sipd.example.go.id/", reason="reset", value=1.25),
        status("tcp:db", "tcp", "unknown", target="db.example.go.id", at=0.0, value=None),
        with_history(status("dns:192.0.2.53/dukcapil.example.go.id/A", "dns", target="192.0.2.53", value=0.0031)),
        status("link", "link", "blind", reason="", detail="netlink: permission denied", value=None, text="eth0 naik 1 Gbit/s"),
        with_history(status("host", "host", value=None, text="CPU 12 %, memori 41 %, 48 °C", at=NOW - 400)),
    ]


def devices() -> list[Status]:
    """A router that is well, a switch with a port down and more series than fit, a UPS that is silent, and what hears them."""
    router = (
        Fact("name", "router-dukcapil"), Fact("model", "RB750Gr3"), Fact("version", "7.12.1"), Fact("serial", "HEX0812AB"),
        Fact("uptime", number=1_062_000.0), Fact("profiles", "arp, bridge, ether, interfaces, mikrotik-health, system"),
    )  # fmt: skip
    switch = (
        Fact("model", "SG2428P"), Fact("uptime", number=7500.0), Fact("profiles", "bridge, ether, interfaces, system"),
        Fact("down", "gigabitEthernet 1/0/3, gigabitEthernet 1/0/17 +2"), Fact("capped", "23"),
    )  # fmt: skip
    ups = (Fact("name", "ups"), Fact("model", "Smart-UPS 1500"), Fact("serial", "AS0812"), Fact("uptime", number=60.0), Fact("capped", "1"))
    well = {"reached": True}
    heard = (Fact("log", "router", NOW - 125), Fact("log", "switch-1", 0.0))
    return [
        with_history(status("router", "snmp", target="gateway", value=0.21, text="RB750Gr3 · 5 dari 5 port hidup", **well, facts=router)),
        status(
            "switch-1",
            "snmp",
            target="192.0.2.2",
            text="SG2428P · 20 dari 24 port hidup",
            reached=True,
            facts=switch,
            labels={"lantai": "2"},
        ),
        status("ups", "snmp", "down", target="192.0.2.5", reason="timeout", detail="192.0.2.5 port 161, 20 s: no answer", facts=ups),
        status("syslog", "syslog", value=None, text="1 dari 2 perangkat terdengar, tidak ada temuan", **well, facts=heard),
        status("traps", "traps", value=None, text="1 kabar, tidak ada temuan", **well, facts=(Fact("trap", "ups", NOW - 400_000),)),
    ]


@dataclasses.dataclass
class FakeSite:
    """A Site whose every answer a test may set."""

    name: str = "rsud"
    title: str = "RSUD Rantauprapat"
    phone: str = "0624-000000"
    timezone: str = "Asia/Jakarta"
    version: str = "0.1.0"
    problems: list[str] = dataclasses.field(default_factory=list)
    tasks: list[Status] = dataclasses.field(default_factory=many)
    held: Verdict = dataclasses.field(default_factory=lambda: Verdict("ok", "ok", "certain", NOW - 7200))
    exposition: bytes = b"# TYPE ronda_up gauge\nronda_up 1\n"
    not_ready: str = ""
    not_healthy: str = ""
    reload_problems: list[str] = dataclasses.field(default_factory=list)
    may_check: bool = True
    calls: list[str] = dataclasses.field(default_factory=list)

    def statuses(self) -> list[Status]:
        return self.tasks

    def verdict(self) -> Verdict:
        return self.held

    async def metrics(self, openmetrics: bool) -> bytes:
        self.calls.append("openmetrics" if openmetrics else "text")
        return self.exposition + (b"# EOF\n" if openmetrics else b"")

    def config_text(self) -> str:
        return "site: rsud\npush:\n  token: <secret>\n"

    def ready(self) -> str:
        return self.not_ready

    def healthy(self) -> str:
        return self.not_healthy

    async def reload(self) -> list[str]:
        self.calls.append("reload")
        return self.reload_problems

    async def check_now(self) -> bool:
        self.calls.append("check")
        return self.may_check


def cut_off(cause: str = "isp", state: str = "down") -> Verdict:
    return Verdict(state, cause, "certain", NOW - 180, "RSU-1124-0207", EVIDENCE)
