"""The lab as the test of the whole: ten offices with real agents, what is cut there, and what people are told of it.

Law: FAULTS and the offices of regency.py say all. A fault is made when the one it waits for is over, stays until everything that it says
has been said and everything that must be held back would have been said, is healed, and is over when each end has been told. At the end
the messages are exactly those, each once, and nobody else was told anything. Nothing here knows a time: only order, and limits.

The files are those that `ronda central render` makes; rules wait a fifth as long (rendered.impatient), so that a test can see what is held
back. Agents are as they are, but for the machine's own facts (kind host): ten offices share one machine, which may have just booted.
"""

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from central.inbox import CHATS, Inbox, Message
from tests.bench import agent
from tests.lab import rendered
from tests.lab.netns import Daemon, until
from tests.lab.regency import OFFICES, Regency

pytestmark = [
    pytest.mark.lab,
    pytest.mark.needs("nginx", "dnsmasq", "nft", "prometheus", "prometheus-alertmanager"),
    pytest.mark.timeout(600),
]
LIMIT = 240.0  # seconds for all faults together; a limit, never a measure
STANDING = ("Watchdog", "MorningDigest")  # what is said whatever happens
TOKEN = "123456:a-token-of-the-tests"
WAITED = 70  # seconds: a class waits 60, and then its group is evaluated


@dataclasses.dataclass(frozen=True, kw_only=True)
class Said:
    """One message: who is told, of which alert, and whom or what it is about; `first`: its first line; `words`: what else it must say."""

    alert: str
    about: str
    first: str
    words: tuple[str, ...]
    audience: str = "ops"

    @property
    def key(self) -> tuple[str, str, str]:
        return self.audience, self.alert, self.about

    @property
    def ended(self) -> str:
        """The first line of the message of its end."""
        return "PULIH · " + self.first.split(" · ", 1)[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """`held`: PromQL of what goes on and would be said, were it not held back; each must have an answer. `after`: a fault to wait for.

    `gone`: PromQL that must have no answer until it is over: an office that still sees the fault when the next one silences it
    is told of both.
    """

    make: Callable[["World"], None]
    heal: Callable[["World"], None]
    says: tuple[Said, ...] = ()
    held: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    after: str = ""


class World:
    """The regency, its daemons, its centre and whoever is told."""

    def __init__(self, regency: Regency, inbox: Inbox) -> None:
        self.regency, self.inbox = regency, inbox
        self.webs = {service: regency.nginx(service) for service in ("siak", "simrs")}
        regency.resolver()
        self.resolvers = {slug: box.dnsmasq() for slug, box in regency.boxes.items()}
        self.agents: dict[str, Daemon] = {}

    def start(self) -> None:
        files = rendered.impatient(rendered.render(self.regency, self._inventory()))
        rendered.alertmanager(self.regency.centre, files)
        rendered.prometheus(self.regency.centre, files, listen="0.0.0.0:9090")
        for slug, box in self.regency.boxes.items():
            self.agents[slug] = agent.start(box.ns, _without_host(files[f"agents/{slug}.yaml"]), box.listen, name=f"agent-{slug}")
        well = f"count(count by (site) (ronda_probe_success == 1) unless count by (site) (ronda_probe_success == 0)) == {len(OFFICES)}"
        heard = f"count(ronda:site_unreached:bool == 0) == {len(OFFICES)}"
        until(lambda: self.asked(well) and self.asked(heard), 120, "every probe of every office succeeds", every=0.5)

    def _inventory(self) -> dict[str, Any]:
        token = self.regency.directory / "token"
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
        url = self.inbox.url
        hooks = {who: {"webhook": {"url": f"{url}/webhook/{who}"}} for who in (*CHATS, "deadman")}
        chats = {who: {"telegram": {"chat_id": chat, "token_file": str(token), "api_url": url}} for who, chat in CHATS.items()}
        return {**self.regency.inventory(), "channels": {who: {**hooks[who], **chats.get(who, {})} for who in hooks}}

    def asked(self, promql: str) -> list[tuple[dict[str, str], float]]:
        return rendered.query(self.regency.centre, promql)

    # -- what is done to it

    def service(self, name: str, runs: bool) -> None:
        if runs:
            self.webs[name] = self.regency.nginx(name)
        else:
            self.webs[name].stop()

    def resolver(self, slug: str, runs: bool) -> None:
        if runs:
            self.resolvers[slug] = self.regency.boxes[slug].dnsmasq()
        else:
            self.resolvers[slug].stop()

    def dark(self, *slugs: str, cut: bool = True) -> None:
        for slug in slugs:
            self.regency.boxes[slug].cut_off(cut)

    def blip(self, slug: str) -> None:
        """The office's only wire is dead for a second."""
        box = self.regency.boxes[slug]
        box.cut(box.office.isps[0])
        time.sleep(1.0)
        box.cut(box.office.isps[0], cut=False)

    # -- who was told

    def told(self, status: str) -> Counter[tuple[str, str, str]]:
        """How often each alert was told to each audience as firing or as resolved."""
        counted: Counter[tuple[str, str, str]] = Counter()
        for audience in (*CHATS, "deadman"):
            alerts = (a for hook in self.inbox.hooks(audience) for a in hook.body["alerts"] if a["status"] == status)
            counted.update((audience, a["labels"]["alertname"], _about(a["labels"])) for a in alerts)
        return Counter({key: n for key, n in counted.items() if key[1] not in STANDING})

    def messages(self) -> list[Message]:
        return [m for m in self.inbox.messages if m.audience != "digest"]


def _about(labels: Mapping[str, str]) -> str:
    """What an alert is about: the centre's speak of a district, a provider or a service."""
    return next((labels[k] for k in ("district", "isp", "service") if k in labels), "") if labels["site"] == "pusat" else labels["site"]


def _without_host(config: str) -> str:
    made = yaml.safe_load(config)
    del made["collectors"]["host"]
    return yaml.safe_dump(made, sort_keys=False)


def _firing(alert: str, *sites: str) -> tuple[str, ...]:
    """It is firing at Prometheus: unless Alertmanager mutes it, it is told."""
    return tuple(f'ALERTS{{alertname="{alert}",site="{site}",alertstate="firing"}}' for site in sites)


def _lasting(alert: str, *sites: str) -> tuple[str, ...]:
    """It has gone on for longer than any class waits: unless nobody may be told of this office, it is told."""
    return tuple(f'time() - ronda:condition_since:timestamp{{alertname="{alert}",site="{site}"}} > {WAITED}' for site in sites)


def _failing(service: str, *sites: str) -> tuple[str, ...]:
    """The service fails there, for longer than any class waits: unless another's message speaks for it, it is told."""
    down = f'ronda:site_service_up:bool{{service="{service}",site="%s"}} == 0'
    return tuple(f"count_over_time(({down % site})[{WAITED + 20}s:5s]) * 5 > {WAITED}" for site in sites)


FAULTS: dict[str, Fault] = {
    "a service of one office": Fault(
        make=lambda w: w.service("simrs", False),
        heal=lambda w: w.service("simrs", True),
        says=(
            Said(
                alert="HttpServiceDown",
                about="rsud",
                first="GAWAT · RSUD Rantauprapat: SIMRS tidak bisa dibuka",
                words=("Sebab: sambungan ditolak", "hubungi pemilik aplikasi", "Hubungi: Pemilik SIMRS"),
            ),
        ),
    ),
    "a service of many": Fault(
        make=lambda w: w.service("siak", False),
        heal=lambda w: w.service("siak", True),
        says=(
            Said(
                alert="SharedServiceDown",
                about="siak",
                first="PERHATIAN · SIAK tidak bisa dibuka dari 3 kantor, internet baik",
                words=("Sebab: aplikasi mati, internet baik (pasti)", "gagal dari 3 dari 3 kantor", "hubungi pemiliknya, Pemilik SIAK"),
            ),
        ),
        held=_failing("siak", "rsud", "psc", "dukcapil"),
        gone=tuple(f'ronda:site_service_up:bool{{service="siak",site="{site}"}} == 0' for site in ("rsud", "psc", "dukcapil")),
    ),
    "one of two uplinks": Fault(
        make=lambda w: w.regency.boxes["rsud"].cut("isp-b"),
        heal=lambda w: w.regency.boxes["rsud"].cut("isp-b", cut=False),
        says=(
            Said(
                alert="UplinkDown",
                about="rsud",
                first="PERHATIAN · RSUD Rantauprapat: jalur ISP B putus, jalur lain jalan",
                words=(
                    "Sebab: gangguan penyedia ISP B",
                    "0/3 jangkar menjawab lewat jalur ini; 3 menjawab lewat jalur lain",
                    "lapor ISP B, pelanggan 001",
                ),
            ),
        ),
    ),
    "a resolver": Fault(
        make=lambda w: w.resolver("pkm-pangkatan", False),
        heal=lambda w: w.resolver("pkm-pangkatan", True),
        says=(
            Said(
                alert="DnsResolverDown",
                about="pkm-pangkatan",
                first="GAWAT · Puskesmas Pangkatan: server nama (DNS) resolver tidak menjawab",
                words=("Sebab: sambungan ditolak", "coba DNS cadangan di router"),
            ),
        ),
    ),
    "a provider": Fault(  # one office of 24 hours, one that waits, one that is closed
        after="a resolver",
        make=lambda w: w.regency.cut_isp("isp-c"),
        heal=lambda w: w.regency.cut_isp("isp-c", cut=False),
        says=(
            Said(
                alert="IspDown",
                about="isp-c",
                first="GAWAT · ISP C putus: 3 kantor di 2 kecamatan",
                words=(
                    "Sebab: gangguan penyedia internet, ISP C (pasti)",
                    "Bappeda, Dinas Kominfo, Puskesmas Pangkatan · 2 pesan jadi 1",
                    "Hubungi: NOC ISP C 021-00083",
                ),
            ),
            Said(
                alert="IspDown",
                about="isp-c",
                first="GAWAT · ISP C putus: 3 kantor di 2 kecamatan",
                words=(
                    "Sebab: gangguan penyedia internet, ISP C (pasti)",
                    "Bappeda, Dinas Kominfo, Puskesmas Pangkatan · 2 pesan jadi 1",
                    "Hubungi: NOC ISP C 021-00083",
                ),
                audience="isp",
            ),
            Said(
                alert="SiteDown",
                about="pkm-pangkatan",
                first="GAWAT · Puskesmas Pangkatan: putus internet",
                words=(
                    "Sebab: gangguan penyedia internet, ISP C (pasti)",
                    "router hidup; 0/3 jangkar",
                    "lapor penyedia",
                    "NOC ISP C 021-00083 (no. layanan 007)",
                ),
            ),
        ),
        held=(*_firing("SiteDown", "kominfo"), *_lasting("SiteDown", "bappeda")),
    ),
    "a district": Fault(
        make=lambda w: w.dark("pkm-bilik", "camat-panai", "desa-telaga"),
        heal=lambda w: w.dark("pkm-bilik", "camat-panai", "desa-telaga", cut=False),
        says=(
            Said(
                alert="SitesDown",
                about="Panai Tengah",
                first="PERHATIAN · 3 kantor tanpa kabar di Panai Tengah",
                words=(
                    "Sebab: listrik padam (mungkin",
                    "2 penyedia berbeda",
                    "Camat Panai Tengah, Puskesmas Labuhan Bilik; 1 desa · 3 pesan jadi 1",
                    "cek info PLN",
                ),
            ),
        ),
        held=(*_firing("SiteDown", "pkm-bilik", "camat-panai"), *_lasting("SiteDown", "desa-telaga")),
    ),
    "an office in maintenance": Fault(
        make=lambda w: w.resolver("arsip", False), heal=lambda w: w.resolver("arsip", True), held=_lasting("DnsResolverDown", "arsip")
    ),
    "an office": Fault(
        after="a service of many",
        make=lambda w: w.dark("psc"),
        heal=lambda w: w.dark("psc", cut=False),
        says=(
            Said(
                alert="SiteDown",
                about="psc",
                first="GAWAT · PSC 119: tanpa kabar",
                words=(
                    "Sebab: listrik, internet atau kotak Ronda (belum tahu)",
                    "kantor lain di kecamatan ini terdengar",
                    "telepon kantor: listrik hidup?",
                    "Hubungi: PLN 123, NOC ISP A",
                ),
            ),
        ),
    ),
    "a blip": Fault(make=lambda w: w.blip("dukcapil"), heal=lambda _: None),
}


@dataclasses.dataclass
class Course:
    """How far each fault is: waiting, made, healed, over."""

    world: World
    stage: dict[str, str] = dataclasses.field(default_factory=lambda: dict.fromkeys(FAULTS, "waiting"))
    began: float = dataclasses.field(default_factory=time.monotonic)

    def step(self) -> bool:
        """Takes each fault as far as it may go; whether all are over."""
        firing, resolved = self.world.told("firing"), self.world.told("resolved")
        for name, fault in FAULTS.items():
            if self.stage[name] == "waiting" and self.stage.get(fault.after, "over") == "over":
                self._to(name, "made", fault.make)
            elif self.stage[name] == "made" and all(firing[s.key] for s in fault.says) and all(map(self.world.asked, fault.held)):
                self._to(name, "healed", fault.heal)
            elif self.stage[name] == "healed" and all(resolved[s.key] for s in fault.says) and not any(map(self.world.asked, fault.gone)):
                self._to(name, "over", lambda _: None)
        return set(self.stage.values()) == {"over"}

    def _to(self, name: str, stage: str, do: Callable[[World], None]) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {name}: {stage}")
        self.stage[name] = stage
        do(self.world)

    def left(self) -> str:
        return f"{self.stage}\nfiring: {self.world.told('firing')}\nresolved: {self.world.told('resolved')}"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Regency(tmp_path) as regency, contextlib.ExitStack() as stack:
        with regency.centre.entered():
            inbox = stack.enter_context(Inbox(port=17666))
        made = World(regency, inbox)
        began = time.monotonic()
        made.start()
        print(f"{time.monotonic() - began:6.1f} s to start")
        yield made
        print("\n\n".join(f"[{m.audience}] {m.plain}" for m in made.inbox.messages))


def test_each_fault_is_told_once_to_the_right_people(world: World) -> None:
    course = Course(world)
    with contextlib.suppress(AssertionError):
        until(course.step, LIMIT, "all faults are over", every=0.5)
    assert set(course.stage.values()) == {"over"}, course.left()

    said = [s for fault in FAULTS.values() for s in fault.says]
    once = Counter([s.key for s in said])
    assert world.told("firing") == once
    assert world.told("resolved") == once
    messages = world.messages()
    assert sorted((m.audience, _first(m)) for m in messages) == sorted((s.audience, line) for s in said for line in (s.first, s.ended))
    assert [line for m in messages if len(line := _first(m)) > 90] == []
    missing = [(s.first, word) for s in said for word in s.words if word not in _told(messages, s)]
    assert missing == []


def _first(message: Message) -> str:
    return message.plain.splitlines()[0]


def _told(messages: list[Message], said: Said) -> str:
    return next(m.plain for m in messages if (m.audience, _first(m)) == (said.audience, said.first))
