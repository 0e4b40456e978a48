"""Every panel of every dashboard, against a real Prometheus with the rendered rules, real agents and injected faults.

    sehat ── all is well but one application             world: anchors, web server, resolver, and the centre
    jauh  ── a wire of 80 ms ──────────────────────────────┤
    bocor ── one ping in five is dropped ──────────────────┤   kirim ── pushes     diam ── never came     calon ── planned

Law: an office's agent, Prometheus and its rules are what `ronda central render` makes; only scrapes come every second, for a test can't
wait for eleven minutes. PANELS says of each panel what it must plot, AFTER what a cut must change; a panel without an expectation fails.
"""

import json
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
import yaml

from central.dashboards import DASHBOARDS
from central.inventory import load
from central.render import render, write
from central.target import Target
from tests.lab import delayline
from tests.lab.centre import Webhook
from tests.lab.netns import Daemon, Lab, Namespace, until
from tests.lab.panels import filled, panels, queries

pytestmark = [
    pytest.mark.lab,
    pytest.mark.needs("nginx", "dnsmasq", "nft", "prometheus", "prometheus-alertmanager", "promtool"),
    pytest.mark.timeout(420),
]
ROOT = Path(__file__).parents[2]
RTT, RTT_AFTER, LOSS, CERTIFICATE_DAYS, CONTRACT = 0.080, 0.400, 0.20, 20.0, 50e6
ANCHORS = ("198.51.100.11", "198.51.100.12", "198.51.100.13")
RESOLVER, WEB, NOWHERE = "203.0.113.53", "203.0.113.80", "203.0.113.81"
OFFICES = {"sehat": 1, "jauh": 2, "bocor": 3, "kirim": 4}

INVENTORY = f"""
centre: {{name: Kominfo Lab, timezone: Asia/Jakarta, url: "http://10.83.4.1:9090", anchors: [{", ".join(ANCHORS)}]}}
calendars: {{kerja: {{mon-sun: "00:00-23:59"}}}}
isps: {{isp-a: {{name: ISP A}}, isp-b: {{name: ISP B}}, isp-c: {{name: ISP C}}}}
services:
  siak: {{name: SIAK, url: "http://{WEB}/", owner: Kemendagri}}
  simrs: {{name: SIMRS, url: "http://{NOWHERE}/", owner: RSUD}}
channels: {{ops: {{webhook: {{url: "http://127.0.0.1:17665/"}}}}}}
sites:
  sehat:
    {{name: RSUD "Sehat" & Kawan, code: SHT, district: Utara, class: 24-jam, delivery: pull, address: "10.83.1.2:17663",
     location: [2.1, 99.8], uplinks: [{{isp: isp-a, medium: fibre, customer: "001", mbps: 50}}], services: [siak, simrs],
     targets: {{http: [{{name: sertifikat, target: "https://{WEB}/", tls: {{ca_file: CA}}}}, {{name: palsu, target: "https://{WEB}:8443/"}}]}}}}
  jauh:
    {{name: Desa Jauh, code: JAU, district: Tengah, class: 24-jam, delivery: pull, address: "10.83.2.2:17663", location: [2.2, 99.9],
     uplinks: [{{isp: isp-b, medium: vsat, customer: "002", mbps: 10}}], profile: fibre}}
  bocor:
    {{name: Camat Bocor, code: BCR, district: Selatan, class: 24-jam, delivery: pull, address: "10.83.3.2:17663", location: [2.3, 99.7],
     uplinks: [{{isp: isp-c, medium: wireless, customer: "003", mbps: 20}}],
     targets: {{icmp: [{{target: {ANCHORS[0]}, interval: 200ms}}]}}}}
  kirim: {{name: Arsip, code: KRM, district: Utara, class: 24-jam, delivery: push, uplinks: [{{isp: isp-a, medium: fibre}}]}}
  diam: {{name: Desa Diam, code: DIM, district: Tengah, class: 24-jam, delivery: pull, address: "10.83.9.2:17663", calendar: kerja}}
  calon: {{name: Desa Calon, code: CLN, district: Tengah, class: desa, status: planned, calendar: kerja, location: [2.0, 99.0]}}
"""

NGINX = """daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr; user root;
events {{ worker_connections 256; }}
http {{ access_log off;
  server {{ listen {web}:80; location / {{ return 200 "SIAK siap"; }} }}
  server {{ listen {web}:443 ssl; listen {web}:8443 ssl; ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
    location / {{ return 200 "aman"; }} }} }}
"""

Row = tuple[dict[str, str], float]
Answers = dict[str, list[Row]]  # of one panel, by the letter of its query
Check = Callable[[Answers], object]


# -- the lab ----------------------------------------------------------------------------------------------------------------------


class World(Lab):
    """The offices, what they look at, and the centre."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        self.world = self.namespace("world", resolver=RESOLVER)
        for address in (*ANCHORS, RESOLVER, WEB, NOWHERE):
            self.world.ip("address", "add", f"{address}/32", "dev", "lo")
        self.world.sysctl(net__ipv4__ip_forward="1")
        self.offices = {slug: self.namespace(slug, resolver=RESOLVER) for slug in OFFICES}
        self.agents: dict[str, Daemon] = {}
        for slug, number in OFFICES.items():
            if slug != "jauh":
                net = f"10.83.{number}"
                self.link(self.world, f"o{number}", f"{net}.1/24", self.offices[slug], "lan0", f"{net}.2/24")
                self.offices[slug].ip("route", "replace", "default", "via", f"{net}.1")
        self.line = self.wire(RTT)
        self.drop("numgen inc mod 5 == 0 drop")

    def wire(self, seconds: float) -> Daemon:
        """The long wire of the office that is far away."""
        line = delayline.start(self, self.world, self.offices["jauh"], "10.83.2", f"--delay-ms={seconds * 1000}", python=sys.executable)
        self.offices["jauh"].ip("route", "replace", "default", "via", "10.83.2.1")
        return line

    def drop(self, what: str) -> None:
        """What becomes of replies to the leaky office's pings; on the way in, for what is dropped on the way out was never sent."""
        office = self.offices["bocor"]
        office.run("nft", "add table ip t; flush table ip t; add chain ip t i { type filter hook input priority 0; }")
        office.run("nft", f"add rule ip t i icmp type echo-reply {what}")

    def web(self) -> Daemon:
        ca = trustme.CA()
        expires = datetime.now(UTC) + timedelta(days=CERTIFICATE_DAYS)
        leaf = ca.issue_cert(WEB, not_after=expires)
        leaf.private_key_pem.write_to_path(str(self.directory / "key.pem"))
        (self.directory / "cert.pem").write_bytes(b"".join(b.bytes() for b in leaf.cert_chain_pems))
        ca.cert_pem.write_to_path(str(self.directory / "ca.pem"))
        (self.directory / "nginx.conf").write_text(NGINX.format(dir=self.directory, web=WEB))
        daemon = self.world.start("nginx", "nginx", "-e", "stderr", "-p", str(self.directory), "-c", str(self.directory / "nginx.conf"))
        until(lambda: self.world.get(f"http://{WEB}/"), 20, f"nginx answers\n{daemon.output()}")
        return daemon

    def resolver(self) -> Daemon:
        options = [
            "--no-resolv",
            "--no-hosts",
            "--user=root",
            "--pid-file=",
            "--conf-file=/dev/null",
            "--log-facility=-",
            "--local=/go.id/",
        ]
        listen = [f"--listen-address={RESOLVER}", "--bind-interfaces"]
        return self.world.start("dnsmasq", "dnsmasq", "-k", *options, *listen)

    def files(self) -> dict[str, str]:
        """What `ronda central render` makes; written to `rendered`, with scrapes every second."""
        inventory = self.directory / "inventory.yaml"
        inventory.write_text(INVENTORY.replace("ca_file: CA", f"ca_file: {self.directory}/ca.pem"))
        files = render(load(inventory, ROOT / "config/calendar.example.yaml"), Target())
        config = yaml.safe_load(files["prometheus/prometheus.yml"])
        config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
        files["prometheus/prometheus.yml"] = yaml.safe_dump(config)
        write(files, self.directory / "rendered")
        return files

    def agent(self, slug: str) -> None:
        config = self.directory / f"rendered/agents/{slug}.yaml"
        command = [sys.executable, "-m", "agent", "run", "--config", str(config), "--data-dir", str(self.directory / f"data-{slug}")]
        self.agents[slug] = self.offices[slug].start(f"agent-{slug}", *command, env={"PYTHONPATH": str(ROOT)})

    def centre(self) -> None:
        rendered, data = self.directory / "rendered", self.directory / "tsdb"
        _yesterday(self.directory / "yesterday.txt", data)
        options = [
            f"--config.file={rendered}/prometheus/prometheus.yml",
            f"--storage.tsdb.path={data}",
            "--web.listen-address=0.0.0.0:9090",
        ]
        prometheus = self.world.start("prometheus", "prometheus", *options, "--web.enable-remote-write-receiver")
        options = [f"--config.file={rendered}/alertmanager/alertmanager.yml", f"--storage.path={self.directory}/am"]
        options += ["--cluster.listen-address=", "--web.listen-address=127.0.0.1:9093"]
        alertmanager = self.world.start("alertmanager", "prometheus-alertmanager", *options)
        for port, daemon in ((9090, prometheus), (9093, alertmanager)):
            until(lambda p=port: self.world.get(f"http://127.0.0.1:{p}/-/ready"), 60, f"{daemon.name} is ready\n{daemon.output()}")


def _yesterday(file: Path, data: Path) -> None:
    """A day ago the leaky office was down and the healthy one was well: what Prometheus would have recorded."""
    start = int(time.time()) - 86_400 - 600
    states = (("bocor", "down"), ("sehat", "ok"))
    lines = [f'ronda:site_state{{site="{s}",state="{state}"}} 1 {start + t}' for s, state in states for t in range(0, 1200, 15)]
    file.write_text("\n".join(["# TYPE ronda:site_state gauge", *lines, "# EOF", ""]))
    subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", str(file), str(data)], check=True, capture_output=True)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path / "lab") as made:
        yield made


def ask(ns: Namespace, expr: str) -> list[Row]:
    text = ns.get(f"http://127.0.0.1:9090/api/v1/query?query={urllib.parse.quote(expr)}", timeout=20)
    assert text is not None, f"Prometheus refused {expr}"
    data = json.loads(text)["data"]
    if data["resultType"] == "scalar":
        return [({}, float(data["result"][1]))]
    return [(r["metric"], float(r["value"][1])) for r in data["result"]]


# -- expectations -----------------------------------------------------------------------------------------------------------------


def some(*letters: str) -> Check:
    """These queries find something; without letters, all of the panel do."""

    def check(answers: Answers) -> None:
        for letter in letters or answers:
            assert answers[letter], f"{letter} is empty"

    return check


def value(letter: str, expected: float, within: float = 0.05, **labels: str) -> Check:
    """One series with these labels is plotted, and shows what was injected, within 5 %."""

    def check(answers: Answers) -> None:
        found = [v for have, v in answers[letter] if labels.items() <= have.items()]
        assert len(found) == 1, f"{letter}{labels}: {answers[letter]}"
        assert found[0] == pytest.approx(expected, rel=within, abs=1e-9), f"{letter}{labels}"

    return check


def above(letter: str, least: float, **labels: str) -> Check:
    def check(answers: Answers) -> None:
        found = [v for have, v in answers[letter] if labels.items() <= have.items()]
        assert found, f"{letter}{labels} is empty: {answers[letter]}"
        assert max(found) > least, f"{letter}{labels}: {found}"

    return check


def row(letter: str, **labels: str) -> Check:
    def check(answers: Answers) -> None:
        assert any(labels.items() <= have.items() for have, _ in answers[letter]), f"{letter}: no {labels} in {answers[letter]}"

    return check


def empty(reason: str) -> Check:
    """Nothing can be there, for this reason; should it be, the reason is gone and a better expectation is due."""

    def check(answers: Answers) -> None:
        assert not any(answers.values()), f"no longer true: {reason}"

    return check


def every(*checks: Check) -> Check:
    return lambda answers: [check(answers) for check in checks]


NAME = 'RSUD "Sehat" & Kawan'
OK, DEGRADED, SILENT, DOWN = 0, 5, 6, 7
SERVICE = 11  # of CAUSE_CODES

PANELS: Mapping[str, Mapping[str, Check]] = {
    "ronda-fleet": {
        "Berapa kantor, menurut keadaan": every(value("B", 1), value("C", 1), value("F", 1), value("G", 3), some()),
        "Peta kantor": every(value("A", DEGRADED, name=NAME, latitude="2.1"), value("A", OK, site="jauh", longitude="99.9")),
        "Yang terburuk dulu": every(
            value("A", SILENT, site="diam"), value("A", DEGRADED, site="sehat"), row("C", site="sehat", cause="service"),
        ),
        "Gangguan terbuka": every(
            row("A", alertname="HttpServiceDown", task="simrs", name=NAME), above("B", (time.time() - 3600) * 1000, task="simrs")
        ),
        "Yang berubah sejak kemarin": every(
            value("A", OK, site="bocor"), value("B", DOWN, site="bocor"), value("A", DEGRADED, site="sehat"),
        ),
        "Jumlah kantor menurut keadaan, dari waktu ke waktu": every(value("A", 3), some()),
        "Mutu jaringan per kecamatan": every(
            value("A", 2, district="Utara"), value("A", 2, district="Tengah"), value("D", RTT, district="Tengah"),
            value("E", 0, district="Tengah"), value("F", LOSS, district="Selatan"), value("B", 1, district="Selatan"), some(),
        ),
    },
    "ronda-site": {
        "Data kantor": row("A", name=NAME, code="SHT", district="Utara"),
        "Jam buka dan pemeliharaan": every(value("A", 1), value("B", 0)),
        "Keadaan": value("A", DEGRADED),
        "Sebab": value("A", SERVICE),
        "Gangguan terbuka": row("A", alertname="HttpServiceDown", task="simrs"),
        "Jalur internet dan penyedianya": every(row("A", isp_name="ISP A", customer="001"), value("B", CONTRACT, uplink="isp-a")),
        "Waktu balasan rata-rata per jalur": above("A", 0, uplink="isp-a"),
        "Bagian balasan yang lambat per jalur": value("A", 0, uplink="isp-a"),
        "Ping yang hilang per sasaran": every(value("A", 0, task="gateway"), value("A", 0, task="anchor-1")),
        "Waktu balasan rata-rata per sasaran": above("A", 0, task="gateway"),
        "Naik-turunnya waktu balasan": above("A", 0, task="anchor-1"),
        "Layanan": every(
            value("A", 1, task="siak"), value("A", 0, task="simrs"), value("A", 1, task="sertifikat"), value("A", 0, task="palsu"),
        ),
        "Lama membuka layanan": above("A", 0, task="siak"),
        "DNS menjawab": value("A", 1, task="resolver"),
        "Waktu jawab DNS": above("A", 0, task="resolver"),
        "Kabel dan WiFi kotak Ronda": value("A", 1, device="lan0"),
        "Lalu lintas kotak Ronda": every(above("A", 0, device="lan0"), above("B", 0, device="lan0")),
        "Galat di kabel": value("A", 0, device="lan0"),
        "Prosesor, memori, dan penyimpanan kotak": every(above("A", 0), above("B", 0), above("C", 0)),
        "Suhu kotak": lambda answers: None,  # only where the machine has a sensor
        "Lama hidup kotak": above("A", 0),
        "Kejadian yang dicatat kotak": above("A", 0),
    },
    "ronda-uplinks": {
        "Penyedia, yang terburuk dulu": every(
            value("A", 2, isp_name="ISP A", medium="fibre"), value("B", RTT, isp_name="ISP B"), value("C", 0, isp_name="ISP B"),
            value("D", LOSS, isp_name="ISP C"), value("D", 0, isp_name="ISP A"),
        ),
        "Waktu balasan rata-rata per penyedia": value("A", RTT, isp_name="ISP B"),
        "Ping yang hilang per penyedia": every(value("A", LOSS, isp_name="ISP C"), value("A", 0, isp_name="ISP A")),
        "Waktu balasan rata-rata per jenis jalur": value("A", RTT, medium="vsat"),
        "Semua jalur, yang terburuk dulu": every(
            value("B", RTT, site="jauh", name="Desa Jauh"), value("D", LOSS, site="bocor", uplink="isp-c"),
        ),
        "Sebaran waktu balasan": above("A", 0, le="0.1"),
    },
    "ronda-services": {
        "Layanan bersama: tak bisa dibuka dari berapa kantor": every(
            value("A", 1, name="SIAK"), value("B", 0, name="SIAK", owner="Kemendagri"), value("B", 1, name="SIMRS")
        ),
        "Yang gagal sekarang dan mengapa": every(
            row("A", task="simrs", reason="refused", name=NAME), row("A", task="palsu", reason="certificate"),
        ),
        "Sertifikat: sisa hari": value("A", CERTIFICATE_DAYS, task="sertifikat", scope="leaf"),
        "Sertifikat: sah atau tidak": every(value("A", 1, task="sertifikat"), value("A", 0, task="palsu"), row("B", task="palsu")),
        "Bisa dipakai atau tidak": every(
            value("A", 1, task="siak"), value("A", 0, task="simrs"), value("A", 1, site="jauh", task="resolver"),
        ),
        "Ke mana waktunya pergi": some("B", "C", "D", "E"),
        "Kode jawaban": value("A", 200, task="siak"),
        "Kegagalan per menit menurut sebab": above("A", 0, reason="refused"),
        "Waktu jawab DNS": every(above("A", 0, site="sehat"), above("A", RTT, site="jauh")),
    },
    "ronda-monitoring": {
        "Tanda hidup terakhir tiap kantor": every(row("A", site="sehat", name=NAME), value("B", 40, site="sehat"), row("C", site="kirim")),
        "Peringatan yang sedang dikirim": row("A", alertname="HttpServiceDown", alertstate="firing"),
        "Selisih jam kotak": some("A"),
        "Versi agen": above("A", 2),
        "Tidak terpantau": empty("every task of the lab can look"),
        "Jumlah deret per kantor": above("A", 100, site="sehat"),
        "Keterlambatan agen": above("A", 0, site="sehat"),
        "Memori agen": above("A", 10e6, site="sehat"),
        "Kantor yang dibaca pusat": every(value("A", 1, site="sehat"), value("A", 0, site="diam"), value("B", 1, job="prometheus")),
        "Lama membaca tiap kantor": above("A", RTT, site="jauh"),
        "Kiriman yang diterima dan yang menunggu": every(above("A", 0, site="kirim", lane="live"), some("B")),
        "Kiriman menurut hasil": above("A", 0, outcome="ok"),
        "Pemakaian data untuk kiriman": above("A", 0, site="kirim"),
        "Buku besar: angka yang tidak akan sampai": row("A", site="kirim", name="Arsip"),
        "Simpanan di kotak yang belum terkirim": every(row("A", site="kirim"), value("C", 0, site="kirim")),
        "Waktu menghitung aturan": every(row("A", rule_group="site"), above("A", 0)),
        "Aturan yang gagal, angka yang ditolak": every(value("A", 0), some()),
        "Deret di pusat": above("A", 1000),
        "Pesan yang dikirim Alertmanager": above("A", 0, integration="webhook"),
        "Peringatan yang tidak sampai ke Alertmanager": every(value("A", 0), some()),
        "Kalender masih berlaku": some("A"),
    },
}  # fmt: skip

# The web server, the resolver and an agent are killed, the leak becomes a cut, the long wire longer.
AFTER: Mapping[str, Mapping[str, Check]] = {
    "ronda-fleet": {
        "Berapa kantor, menurut keadaan": every(value("A", 1), value("B", 2)),
        "Peta kantor": every(value("A", DOWN, site="bocor"), value("A", SILENT, site="sehat")),
        "Yang terburuk dulu": every(value("A", DOWN, site="bocor"), row("C", site="bocor", cause="isp"), above("B", 0, site="bocor")),
        "Gangguan terbuka": every(row("A", alertname="SiteDown", site="bocor"), above("B", 0, alertname="SiteDown", site="bocor")),
        "Yang berubah sejak kemarin": value("A", SILENT, site="sehat"),
        "Jumlah kantor menurut keadaan, dari waktu ke waktu": some(),
        "Mutu jaringan per kecamatan": every(
            above("C", 0, district="Selatan"), above("D", 1.1 * RTT, district="Tengah"), above("E", 0.01, district="Tengah"),
            above("F", 1.1 * LOSS, district="Selatan"),
        ),
    },
    "ronda-uplinks": {
        "Penyedia, yang terburuk dulu": every(
            above("B", 1.1 * RTT, isp_name="ISP B"), above("C", 0.01, isp_name="ISP B"), above("D", 1.1 * LOSS, isp_name="ISP C"),
        ),
        "Waktu balasan rata-rata per penyedia": above("A", 1.1 * RTT, isp_name="ISP B"),
        "Ping yang hilang per penyedia": above("A", 1.1 * LOSS, isp_name="ISP C"),
        "Waktu balasan rata-rata per jenis jalur": above("A", 1.1 * RTT, medium="vsat"),
        "Semua jalur, yang terburuk dulu": every(above("B", 1.1 * RTT, site="jauh"), above("D", 1.1 * LOSS, site="bocor")),
    },
    "ronda-services": {
        "Bisa dipakai atau tidak": every(value("A", 0, site="jauh", task="resolver"), value("A", 0, site="bocor", task="resolver")),
        "Yang gagal sekarang dan mengapa": row("A", site="jauh", task="resolver", kind="dns"),
    },
    "ronda-monitoring": {
        "Tanda hidup terakhir tiap kantor": above("C", 1, site="sehat"),
        "Kantor yang dibaca pusat": value("A", 0, site="sehat"),
        "Lama membaca tiap kantor": above("A", RTT_AFTER, site="jauh"),
    },
}  # fmt: skip
SERVICES_AFTER: Mapping[str, Mapping[str, Check]] = {  # while the healthy office's agent still lives
    "ronda-site": {
        "Layanan": value("A", 0, task="siak"),
        "DNS menjawab": value("A", 0, task="resolver"),
    },
    "ronda-services": {
        "Layanan bersama: tak bisa dibuka dari berapa kantor": value("B", 1, name="SIAK"),
        "Yang gagal sekarang dan mengapa": row("A", task="siak", reason="refused"),
        "Bisa dipakai atau tidak": value("A", 0, site="sehat", task="siak"),
    },
}


class Reader:
    """The dashboards as one who looks at them: each panel's answers now."""

    def __init__(self, ns: Namespace, files: Mapping[str, str]) -> None:
        self.ns, self.queries = ns, list(queries(files))
        self.panels = {(place.uid, place.title) for place, _ in self.queries}

    def answers(self, uid: str, title: str) -> Answers:
        return {p.ref: ask(self.ns, filled(expr, site=_site(uid))) for p, expr in self.queries if (p.uid, p.title) == (uid, title)}

    def wrong(self, expected: Mapping[str, Mapping[str, Check]]) -> list[str]:
        """What is not as it should be, one line a panel."""
        return [said for uid, of_board in expected.items() for title, check in of_board.items() if (said := self._judge(uid, title, check))]

    def _judge(self, uid: str, title: str, check: Check) -> str:
        try:
            check(self.answers(uid, title))
        except AssertionError as e:
            return f"{uid}/{title}: {e}"
        return ""

    def until(self, expected: Mapping[str, Mapping[str, Check]], seconds: float) -> None:
        """Waits until all is plotted as expected."""
        said: list[str] = []

        def done() -> bool:
            said[:] = self.wrong(expected)
            return not said

        try:
            until(done, seconds, "every panel plots what was injected", every=2)
        except AssertionError as e:
            raise AssertionError("\n".join([str(e), *said])) from None


def _site(uid: str) -> str:
    return "sehat" if uid == "ronda-site" else ".*"


def test_each_panel_has_an_expectation() -> None:
    have = {(d.uid, p["title"]) for d in DASHBOARDS for p in panels(d.json("Asia/Jakarta"))}
    assert {(uid, title) for uid, of_board in PANELS.items() for title in of_board} == have


def test_every_panel_plots_what_is_injected(world: World) -> None:
    web, resolver = world.web(), world.resolver()
    files = world.files()
    for slug in ("sehat", "jauh", "bocor"):
        world.agent(slug)
    with Webhook().serving(world.world):
        world.centre()
        world.agent("kirim")
        reader = Reader(world.world, files)
        reader.until(PANELS, 150)

        web.stop()
        resolver.stop()
        world.drop("drop")
        world.line.stop()
        world.line = world.wire(RTT_AFTER)
        reader.until(SERVICES_AFTER, 90)

        world.agents["sehat"].stop()
        reader.until(AFTER, 150)
