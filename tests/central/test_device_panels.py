"""The panels of devices and of capacity, against a real Prometheus whose series are written down: before a fault and after it.

Law: each panel is expected to plot what was written, at both times, and to plot something else after the fault; one that isn't here fails.
The other pages are tried in the lab with real agents (tests/lab/test_panels.py). The faults that a real router, modem and UPS must have for
these would cost minutes of it; what Ronda makes of real devices is tried in tests/snmp.
"""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from central import dashboards as rendered
from central.inventory import load
from central.target import Target
from tests.central.alertbench import free_port
from tests.lab.netns import until
from tests.lab.panels import OF_DEVICES, dashboards, filled, panels, queries

ROOT = Path(__file__).parents[2]
FILES = rendered.files(load(ROOT / "config/inventory.example.yaml"), Target())
QUERIES = [(place, expr) for place, expr in queries(FILES) if place.uid in OF_DEVICES]
AFTER = int(time.time()) - 6 * 3600  # as old as a block that Prometheus has closed
BEFORE = AFTER - 3600
SITE = "rsud"
ETHER1, SFP1, LTE, WLAN = ('task="router",interface="ether1"', 'task="switch-1",interface="sfp1"', 'task="router",interface="lte1"',
                           'task="radio",interface="wlan0"')  # fmt: skip
UPLINK = 'uplink="isp-a"'
# metric, labels, before, after; of a counter how much a second
WRITTEN: tuple[tuple[str, str, float, float], ...] = (
    ("ronda_site_info", 'name="RSUD",status="active"', 1, 1),
    ("ronda_device_info", 'task="router",device_kind="router"', 1, 1),
    ("ronda_device_info", 'task="ups",device_kind="ups"', 1, 1),
    ("ronda_probe_success", 'task="router",kind="snmp"', 1, 0),
    ("ronda_probe_success", 'task="ups",kind="snmp"', 1, 1),
    ("ronda_snmp_device_info", 'task="router",name="RB",model="RB4011",version="7.1",serial="S"', 1, 1),
    ("ronda_snmp_uptime_seconds", 'task="router"', 9000, 60),
    ("ronda_snmp_cpu_ratio", 'task="router",cpu="1"', 0.2, 0.9),
    ("ronda_snmp_cpu_ratio", 'task="router",cpu="2"', 0.4, 1.0),
    ("ronda_snmp_memory_used_bytes", 'task="router"', 250e6, 900e6),
    ("ronda_snmp_memory_size_bytes", 'task="router"', 1e9, 1e9),
    ("ronda_snmp_temperature_celsius", 'task="router",sensor="cpu"', 50, 85),
    ("ronda_devicelog_refused_total", 'task="syslog",reason="sender"', 0, 5),
    ("ronda_traps_refused_total", 'task="traps",reason="community"', 0.1, 1),
    ("ronda_snmp_temperature_celsius", 'task="router",sensor="board"', 40, 41),
    ("ronda_snmp_interface_receive_bytes_total", ETHER1, 1.25e6, 6e6),
    ("ronda_snmp_interface_transmit_bytes_total", ETHER1, 0.25e6, 11e6),
    ("ronda_snmp_interface_speed_bytes", ETHER1, 12.5e6, 12.5e6),
    ("ronda_snmp_interface_receive_bytes_total", SFP1, 5e6, 5e6),
    ("ronda_snmp_interface_transmit_bytes_total", SFP1, 5e6, 5e6),
    ("ronda_snmp_interface_speed_bytes", SFP1, 125e6, 125e6),
    ("ronda_snmp_interface_receive_errors_total", ETHER1, 0, 12),
    ("ronda_snmp_interface_transmit_errors_total", ETHER1, 0, 3),
    ("ronda_snmp_interface_receive_discards_total", ETHER1, 0, 1),
    ("ronda_snmp_interface_transmit_discards_total", ETHER1, 0, 4),
    ("ronda_snmp_interface_up", ETHER1, 1, 1),
    ("ronda_snmp_interface_up", SFP1, 1, 0),
    ("ronda_snmp_interface_info", ETHER1 + ',description="ke ISP A",type="6"', 1, 1),
    ("ronda_snmp_lte_rsrp_dbm", LTE, -88, -118),
    ("ronda_snmp_wireless_signal_dbm", WLAN, -61, -84),
    ("ronda_icmp_packets_sent_total", 'task="anchor-1",role="anchor",uplink="isp-a"', 1, 1),
    ("ronda_icmp_packets_lost_total", 'task="anchor-1",role="anchor",uplink="isp-a"', 0, 0.25),
    ("ronda_icmp_rtt_seconds_count", 'task="anchor-1",role="anchor",uplink="isp-a"', 1, 1),
    ("ronda_icmp_rtt_seconds_sum", 'task="anchor-1",role="anchor",uplink="isp-a"', 0.02, 0.5),
    ("ronda_snmp_ups_on_battery", 'task="ups"', 0, 1),
    ("ronda_snmp_ups_charge_ratio", 'task="ups"', 1, 0.4),
    ("ronda_snmp_ups_load_ratio", 'task="ups"', 0.5, 0.6),
    ("ronda_snmp_ups_runtime_seconds", 'task="ups"', 3600, 500),
    ("ronda_uplink_info", UPLINK + ',isp="isp-a",isp_name="ISP A",medium="fibre"', 1, 1),
    ("ronda_uplink_contract_bits_per_second", UPLINK, 100e6, 100e6),
    ("ronda_uplink_contract_month_rupiah", UPLINK, 6.5e6, 6.5e6),
    ("ronda:uplink_used:bits_per_second", UPLINK, 10e6, 88e6),
    ("ronda:uplink_day_p95:bits_per_second", UPLINK, 50e6, 80e6),
    ("ronda:uplink_day_saturated:seconds", UPLINK, 0, 900),
    ("ronda:uplink_last_day_p95:bits_per_second", UPLINK, 20e6, 65e6),
    ("ronda:uplink_last_day_saturated:seconds", UPLINK, 300, 7500),
)
Labels = Mapping[str, str]
Expected = tuple[str, Labels, float | None, float | None]  # a query's letter, labels of one series, its value before and after

ROUTER, UPS = {"task": "router"}, {"task": "ups"}
PORT, TRUNK = {"task": "router", "interface": "ether1"}, {"task": "switch-1", "interface": "sfp1"}
WAY = {"uplink": "isp-a"}
EXPECTED: Mapping[tuple[str, str], tuple[Expected, ...]] = {
    ("ronda-devices", "Perangkat kantor"): (
        ("A", {"task": "router", "device_kind": "router"}, 1, 1), ("B", ROUTER, 1, 0), ("B", UPS, 1, 1), ("D", ROUTER, 9000, 60),
        ("C", {"task": "router", "model": "RB4011", "version": "7.1", "serial": "S", "name": "RB"}, 1, 1),
        ("E", ROUTER, 0.3, 0.95), ("F", ROUTER, 0.25, 0.9), ("G", ROUTER, 50, 85),
    ),
    ("ronda-devices", "Antarmuka: pemakaian dan galat"): (
        ("A", PORT, 10e6, 48e6), ("B", PORT, 2e6, 88e6), ("C", PORT, 0.1, 0.88), ("C", TRUNK, 0.04, 0.04), ("D", PORT, 0, 15),
        ("E", PORT, 0, 5), ("F", TRUNK, 1, 0), ("G", {**PORT, "description": "ke ISP A"}, 1, 1), ("H", PORT, 100e6, 100e6),
    ),
    ("ronda-devices", "Antarmuka tersibuk"): (("A", PORT, 12e6, 136e6), ("A", TRUNK, 80e6, 80e6)),
    ("ronda-devices", "Paket rusak per antarmuka"): (("A", PORT, 0, 15),),
    ("ronda-devices", "Sinyal modem (RSRP)"): (("A", {"interface": "lte1"}, -88, -118),),
    ("ronda-devices", "Sinyal radio"): (("A", {"task": "radio", "interface": "wlan0"}, -61, -84),),
    ("ronda-devices", "Ping yang hilang pada jam yang sama"): (("A", WAY, 0, 0.25),),
    ("ronda-devices", "Waktu balasan pada jam yang sama"): (("A", WAY, 0.02, 0.5),),
    ("ronda-devices", "Sumber listrik"): (("A", UPS, 1, 0),),
    ("ronda-devices", "Isi baterai dan beban"): (("A", UPS, 1, 0.4), ("B", UPS, 0.5, 0.6)),
    ("ronda-devices", "Sisa waktu baterai"): (("A", UPS, 3600, 500),),
    ("ronda-devices", "Menjawab"): (("A", ROUTER, 1, 0), ("A", UPS, 1, 1)),
    ("ronda-devices", "Prosesor dan suhu"): (("A", ROUTER, 0.3, 0.95),),
    ("ronda-devices", "Suhu dan sensor"): (("A", {"task": "router", "sensor": "cpu"}, 50, 85),),
    ("ronda-devices", "Log dan trap yang ditolak"): (("A", {"reason": "sender"}, 0, 300), ("B", {"reason": "community"}, 6, 60)),
    ("ronda-capacity", "Dibeli dan dipakai, yang paling lama penuh dulu"): (
        ("A", {**WAY, "name": "RSUD", "isp_name": "ISP A"}, 100e6, 100e6), ("B", WAY, 20e6, 65e6), ("C", WAY, 0.2, 0.65),
        ("D", WAY, 300, 7500), ("E", WAY, 6.5e6, 6.5e6), ("F", WAY, 325_000, 100_000),
    ),
    ("ronda-capacity", "Bagian kontrak yang terpakai"): (("A", WAY, 0.1, 0.88),),
    ("ronda-capacity", "p95 per hari"): (("A", WAY, 50e6, 80e6),),
    ("ronda-capacity", "Lama penuh per hari"): (("A", WAY, 0, 900),),
}  # fmt: skip


def written() -> str:
    """As OpenMetrics has it: every minute from an hour before BEFORE on; the fault is half an hour after BEFORE."""
    lines: dict[str, list[str]] = {}
    for metric, labels, before, after in WRITTEN:
        total = 0.0
        for at in range(BEFORE - 3600, AFTER + 60, 60):
            now = before if at <= BEFORE + 1800 else after
            total += 60 * now
            counts = metric.endswith(("_total", "_sum", "_count"))
            lines.setdefault(metric, []).append(f'{metric}{{site="{SITE}",{labels}}} {total if counts else now} {at}')
    return "\n".join(line for name, of in lines.items() for line in (f"# TYPE {name} unknown", *of)) + "\n# EOF\n"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One that holds what was written; its address."""
    folder = tmp_path_factory.mktemp("devices")
    (folder / "p.yml").write_text("{}")
    (folder / "written.txt").write_text(written())
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(folder / "written.txt"), str(folder / "data")]
    subprocess.run(command, check=True, capture_output=True)
    url = f"http://127.0.0.1:{free_port()}"
    options = [f"--config.file={folder}/p.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={url.removeprefix('http://')}"]
    with (folder / "log").open("wb") as out, subprocess.Popen(["prometheus", *options], stdout=out, stderr=out) as process:
        try:
            until(lambda: _ready(url) or process.poll() is not None, 60, "Prometheus is ready")
            assert process.poll() is None, (folder / "log").read_text()
            yield url
        finally:
            process.terminate()


def _ready(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(url: str, expr: str, at: int) -> list[tuple[dict[str, str], float]]:
    query = urllib.parse.urlencode({"query": expr, "time": at})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/api/v1/query?{query}", timeout=20) as answer:
        found = json.load(answer)["data"]["result"]
    return [(r["metric"], float(r["value"][1])) for r in found]


def test_each_panel_has_an_expectation_that_the_fault_changes() -> None:
    assert set(EXPECTED) == {(uid, p["title"]) for uid, board in dashboards(FILES).items() if uid in OF_DEVICES for p in panels(board)}
    for place, cases in EXPECTED.items():
        assert any(before != after for _, _, before, after in cases), place
        assert {letter for letter, *_ in cases} == {p.ref for p, _ in QUERIES if (p.uid, p.title) == place}, place


@pytest.mark.needs("prometheus", "promtool")
@pytest.mark.parametrize("place", EXPECTED, ids="/".join)
def test_a_panel_plots_what_was_written_and_what_the_fault_made_of_it(prometheus: str, place: tuple[str, str]) -> None:
    for place_, expr in QUERIES:
        for letter, labels, *values in EXPECTED[place]:
            if (place_.uid, place_.title, place_.ref) != (*place, letter):
                continue
            for at, true in zip((BEFORE, AFTER), values, strict=True):
                answers = ask(prometheus, filled(expr, site=SITE), at)
                found = [value for have, value in answers if labels.items() <= have.items()]
                assert found == [pytest.approx(true, rel=1e-3, abs=1e-6)], (letter, labels, at, answers)
